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
    /// A function of an expression, and how many operations it is.
    Unary(fn(f64) -> f64, Rc<Expression>, u32),
    /// A function of two expressions, and how many operations it is.
    Binary(fn(f64, f64) -> f64, Rc<Expression>, Rc<Expression>, u32),
}

/// What an expression computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    /// `factor * x + offset`.
    Affine(f64, f64),
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), limit)`.
    ClippedRelu(f64),
    /// GELU.
    Gelu(GeluForm),
}

/// Sample points: both saturated ends, the curved middle, and 0.
const SAMPLES: usize = 65;
const RANGE: f64 = 6.0;
/// Float32 constants in the expression give errors of some 1e-7; the two forms of GELU differ by up to 5e-4.
const TOLERANCE: f64 = 2e-5;
/// Operations of the longest expression: some times those of GELU, and few enough for a recursion.
const MAX_OPERATIONS: u32 = 64;
/// Where a clipped ReLU is at its limit.
const FAR: f64 = 1e6;
/// Largest limit of a clipped ReLU.
const MAX_LIMIT: f64 = 1e5;

impl Expression {
    fn operations(&self) -> u32 {
        match self {
            Self::X | Self::Number(_) => 0,
            Self::Unary(.., operations) | Self::Binary(.., operations) => *operations,
        }
    }

    /// A function of an expression; nothing if that is too long.
    pub(super) fn unary(f: fn(f64) -> f64, a: Self) -> Option<Self> {
        let operations = a.operations() + 1;
        (operations <= MAX_OPERATIONS).then(|| Self::Unary(f, Rc::new(a), operations))
    }

    /// A function of two expressions; nothing if they are too long.
    pub(super) fn binary(f: fn(f64, f64) -> f64, a: Self, b: Self) -> Option<Self> {
        let operations = a.operations() + b.operations() + 1;
        (operations <= MAX_OPERATIONS).then(|| Self::Binary(f, Rc::new(a), Rc::new(b), operations))
    }

    pub(super) fn eval(&self, x: f64) -> f64 {
        match self {
            Self::X => x,
            Self::Number(v) => *v,
            Self::Unary(f, a, _) => f(a.eval(x)),
            Self::Binary(f, a, b, _) => f(a.eval(x), b.eval(x)),
        }
    }

    /// Whether the expression is `f` on [-range, range].
    fn is(&self, range: f64, f: impl Fn(f64) -> f64) -> bool {
        (0..SAMPLES).all(|i| {
            let x = range * (2.0 * i as f64 / (SAMPLES - 1) as f64 - 1.0);
            (self.eval(x) - f(x)).abs() <= TOLERANCE * f(x).abs().max(range.min(1.0))
        })
    }

    /// What the expression spells.
    pub(super) fn meaning(&self) -> Option<Meaning> {
        let offset = self.eval(0.0);
        let factor = self.eval(1.0) - offset;
        let line = |x: f64| factor * x + offset;
        // Far out, too: a clipping may begin beyond the sample points.
        let far = [-FAR, FAR].iter().all(|&x| (self.eval(x) - line(x)).abs() <= TOLERANCE * line(x).abs());
        if factor != 0.0 && far && self.is(RANGE, line) {
            return Some(Meaning::Affine(factor, offset));
        }
        let limit = self.eval(FAR);
        let clipped = |x: f64| x.clamp(0.0, limit);
        if limit > 0.0 && limit < MAX_LIMIT && self.is(RANGE, clipped) && self.is(2.0 * limit, clipped) {
            return Some(Meaning::ClippedRelu(limit));
        }
        if self.is(RANGE, |x| x.max(0.0)) && limit == FAR {
            return Some(Meaning::Relu);
        }
        if self.is(RANGE, |x| gelu(x as f32).into()) {
            return Some(Meaning::Gelu(GeluForm::Erf));
        }
        self.is(RANGE, |x| gelu_tanh(x as f32).into()).then_some(Meaning::Gelu(GeluForm::Tanh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(f: fn(f64, f64) -> f64, a: &Expression, b: &Expression) -> Expression {
        Expression::binary(f, a.clone(), b.clone()).unwrap()
    }

    #[test]
    fn gelu_is_recognised_in_any_order_of_its_nodes() {
        let (x, n) = (Expression::X, Expression::Number);
        let mul = |a: &Expression, b: &Expression| binary(|a, b| a * b, a, b);
        let erf = Expression::unary(libm::erf, binary(|a, b| a / b, &x, &n(f64::from(2f32.sqrt())))).unwrap();
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
        assert_eq!(binary(|a, b| a * b, &x, &x).meaning(), None);
        assert_eq!(Expression::unary(f64::tanh, x.clone()).unwrap().meaning(), None);
        assert_eq!(binary(f64::max, &x, &Expression::Number(0.0)).meaning(), Some(Meaning::Relu));
        assert_eq!(binary(|a, b| a + b, &x, &one).meaning(), Some(Meaning::Affine(1.0, 1.0)));
        assert_eq!(binary(|a, b| a / b, &x, &Expression::Number(8.0)).meaning(), Some(Meaning::Affine(0.125, 0.0)));
    }

    #[test]
    fn a_clipping_is_seen_wherever_it_begins() {
        let clipped = |low: f64, high: f64| {
            let above = binary(f64::max, &Expression::X, &Expression::Number(low));
            binary(f64::min, &above, &Expression::Number(high)).meaning()
        };
        for limit in [1e-3, 1.0, 6.0, 20.0, 1e4] {
            assert_eq!(clipped(0.0, limit), Some(Meaning::ClippedRelu(limit)));
            assert_eq!(clipped(-limit, limit), None);
            assert_eq!(clipped(f64::NEG_INFINITY, limit), None);
        }
        assert_eq!(clipped(0.0, f64::INFINITY), Some(Meaning::Relu));
        assert_eq!(clipped(f64::NEG_INFINITY, f64::INFINITY), Some(Meaning::Affine(1.0, 0.0)));
    }

    #[test]
    fn an_expression_has_a_longest_length() {
        let mut expression = Some(Expression::X);
        for _ in 0..MAX_OPERATIONS {
            expression = Expression::unary(|v| -v, expression.unwrap());
        }
        assert!(Expression::unary(|v| -v, expression.unwrap()).is_none());
    }
}
