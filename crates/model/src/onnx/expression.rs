//! Element-wise expressions of one tensor, and the activations they spell.
//!
//! Exporters write GELU as five to eight element-wise nodes in various orders. Instead of matching each order, the
//! expression is carried along and compared with the activations at sample points when its value is needed.

use std::rc::Rc;

use crate::float::{gelu, gelu_tanh};
use crate::graph::operator::GeluForm;

/// A function of one element.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// The element.
    X,
    /// A number.
    Number(f64),
    /// A function of an expression.
    Unary(fn(f64) -> f64, Rc<Expression>),
    /// A function of two expressions.
    Binary(fn(f64, f64) -> f64, Rc<Expression>, Rc<Expression>),
}

/// What an expression computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    /// `factor * x`.
    Linear(f64),
    /// `max(x, 0)`.
    Relu,
    /// GELU.
    Gelu(GeluForm),
}

/// Sample points: both saturated ends, the curved middle, and 0.
const SAMPLES: usize = 65;
const RANGE: f64 = 6.0;
/// Float32 constants in the expression give errors of some 1e-7; the two forms of GELU differ by up to 5e-4.
const TOLERANCE: f64 = 2e-5;

impl Expression {
    pub(super) fn eval(&self, x: f64) -> f64 {
        match self {
            Self::X => x,
            Self::Number(v) => *v,
            Self::Unary(f, a) => f(a.eval(x)),
            Self::Binary(f, a, b) => f(a.eval(x), b.eval(x)),
        }
    }

    /// The activation that the expression spells.
    pub(super) fn meaning(&self) -> Option<Meaning> {
        let is = |f: &dyn Fn(f64) -> f64| {
            (0..SAMPLES).all(|i| {
                let x = RANGE * (2.0 * i as f64 / (SAMPLES - 1) as f64 - 1.0);
                (self.eval(x) - f(x)).abs() <= TOLERANCE * f(x).abs().max(1.0)
            })
        };
        let factor = self.eval(1.0);
        if factor != 0.0 && is(&|x| factor * x) {
            return Some(Meaning::Linear(factor));
        }
        if is(&|x| x.max(0.0)) {
            return Some(Meaning::Relu);
        }
        if is(&|x| gelu(x as f32).into()) {
            return Some(Meaning::Gelu(GeluForm::Erf));
        }
        is(&|x| gelu_tanh(x as f32).into()).then_some(Meaning::Gelu(GeluForm::Tanh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(f: fn(f64, f64) -> f64, a: &Expression, b: &Expression) -> Expression {
        Expression::Binary(f, Rc::new(a.clone()), Rc::new(b.clone()))
    }

    #[test]
    fn gelu_is_recognised_in_any_order_of_its_nodes() {
        let (x, n) = (Expression::X, Expression::Number);
        let mul = |a: &Expression, b: &Expression| binary(|a, b| a * b, a, b);
        let erf = Expression::Unary(libm::erf, Rc::new(binary(|a, b| a / b, &x, &n(f64::from(2f32.sqrt())))));
        let one_plus = binary(|a, b| a + b, &erf, &n(1.0));
        for expression in
            [mul(&mul(&x, &one_plus), &n(0.5)), mul(&mul(&n(0.5), &x), &one_plus), mul(&x, &mul(&one_plus, &n(0.5)))]
        {
            assert_eq!(expression.meaning(), Some(Meaning::Gelu(GeluForm::Erf)));
        }
    }

    #[test]
    fn other_functions_have_no_meaning() {
        let (x, one) = (Expression::X, Expression::Number(1.0));
        assert_eq!(binary(|a, b| a + b, &x, &one).meaning(), None);
        assert_eq!(Expression::Unary(f64::tanh, Rc::new(x.clone())).meaning(), None);
        assert_eq!(binary(f64::max, &x, &Expression::Number(0.0)).meaning(), Some(Meaning::Relu));
        assert_eq!(binary(|a, b| a / b, &x, &Expression::Number(8.0)).meaning(), Some(Meaning::Linear(0.125)));
    }
}
