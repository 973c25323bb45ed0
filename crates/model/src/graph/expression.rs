//! Element-wise expressions: functions of one tensor's elements, and the activations they spell.
//!
//! Exporters write GELU as five to eight element-wise nodes in various orders, and SiLU, hard swish and their like as two to
//! four. Instead of matching each order, the expression is carried along and compared with the activations at sample points
//! when its value is needed; one that is none of them is one operation of the host.

use serde::{Deserialize, Serialize};

use super::operator::GeluForm;
use crate::float::{gelu, gelu_tanh};

/// A function of one number, by its ONNX operator. Logical values are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the operators' own names")]
pub enum UnaryFunction {
    Abs,
    Ceil,
    Cos,
    Erf,
    Exp,
    Floor,
    Log,
    Neg,
    Not,
    Reciprocal,
    Round,
    Sigmoid,
    Sign,
    Sin,
    Softplus,
    Softsign,
    Sqrt,
    Tanh,
    /// Towards zero, as casts to integers.
    Trunc,
    /// Whether it is no number.
    #[serde(rename = "is_nan")]
    IsNaN,
}

/// A function of two numbers, by its ONNX operator. Logical values are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the operators' own names")]
pub enum BinaryFunction {
    Add,
    And,
    Div,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Max,
    Min,
    Mod,
    Mul,
    Or,
    Pow,
    /// The first, times the second where it is negative.
    #[serde(rename = "prelu")]
    PRelu,
    Sub,
    Xor,
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

impl UnaryFunction {
    /// The function behind an ONNX operator without parameters.
    pub(super) fn of(kind: &str) -> Option<Self> {
        use UnaryFunction::*;
        const BY_NAME: &[(&str, UnaryFunction)] = &[
            ("Abs", Abs),
            ("Ceil", Ceil),
            ("Cos", Cos),
            ("Erf", Erf),
            ("Exp", Exp),
            ("Floor", Floor),
            ("Log", Log),
            ("Neg", Neg),
            ("Not", Not),
            ("Reciprocal", Reciprocal),
            ("Round", Round),
            ("Sigmoid", Sigmoid),
            ("Sign", Sign),
            ("Sin", Sin),
            ("Softplus", Softplus),
            ("Softsign", Softsign),
            ("Sqrt", Sqrt),
            ("Tanh", Tanh),
        ];
        BY_NAME.iter().find(|(name, _)| *name == kind).map(|&(_, function)| function)
    }

    /// Its value. The functions are the `libm` crate's, so that every machine computes the same.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Abs => x.abs(),
            Self::Ceil => x.ceil(),
            Self::Cos => libm::cos(x),
            Self::Erf => libm::erf(x),
            Self::Exp => libm::exp(x),
            Self::Floor => x.floor(),
            Self::Log => libm::log(x),
            Self::Neg => -x,
            Self::Not => truth(x == 0.0),
            Self::Reciprocal => x.recip(),
            Self::Round => x.round_ties_even(),
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::Sign if x == 0.0 => 0.0,
            Self::Sign => x.signum(),
            Self::Sin => libm::sin(x),
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Sqrt => x.sqrt(),
            Self::Tanh => libm::tanh(x),
            Self::Trunc => x.trunc(),
            Self::IsNaN => truth(x.is_nan()),
        }
    }
}

impl BinaryFunction {
    /// The function behind an ONNX operator of two operands.
    pub(super) fn of(kind: &str) -> Option<Self> {
        use BinaryFunction::*;
        const BY_NAME: &[(&str, BinaryFunction)] = &[
            ("Add", Add),
            ("And", And),
            ("Div", Div),
            ("Equal", Equal),
            ("Greater", Greater),
            ("GreaterOrEqual", GreaterOrEqual),
            ("Less", Less),
            ("LessOrEqual", LessOrEqual),
            ("Max", Max),
            ("Min", Min),
            ("Mod", Mod),
            ("Mul", Mul),
            ("Or", Or),
            ("Pow", Pow),
            ("PRelu", PRelu),
            ("Sub", Sub),
            ("Xor", Xor),
        ];
        BY_NAME.iter().find(|(name, _)| *name == kind).map(|&(_, function)| function)
    }

    /// Its value.
    pub fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Div => a / b,
            Self::Equal => truth(a == b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            // The remainder has the divisor's sign.
            Self::Mod => a - (a / b).floor() * b,
            Self::Mul => a * b,
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::Pow if b == 2.0 => a * a,
            Self::Pow => libm::pow(a, b),
            Self::PRelu if a < 0.0 => a * b,
            Self::PRelu => a,
            Self::Sub => a - b,
            Self::Xor => truth((a != 0.0) != (b != 0.0)),
        }
    }
}

/// A function of one element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// The element.
    X,
    /// A finite number.
    Number(f64),
    /// A function of an expression.
    Unary(UnaryFunction, Box<Expression>),
    /// A function of two expressions.
    Binary(BinaryFunction, Box<Expression>, Box<Expression>),
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
            Self::Unary(_, a) => a.operations() + 1,
            Self::Binary(_, a, b) => a.operations() + b.operations() + 1,
        }
    }

    /// A function of an expression; nothing if that is too long.
    pub(super) fn unary(function: UnaryFunction, a: Self) -> Option<Self> {
        (a.operations() < MAX_OPERATIONS).then(|| Self::Unary(function, Box::new(a)))
    }

    /// A function of two expressions; nothing if they are too long, or a number is not finite.
    pub(super) fn binary(function: BinaryFunction, a: Self, b: Self) -> Option<Self> {
        // A bound that nothing reaches.
        let unbounded = match function {
            BinaryFunction::Max => Some(f64::NEG_INFINITY),
            BinaryFunction::Min => Some(f64::INFINITY),
            _ => None,
        };
        match (&a, &b) {
            (_, Self::Number(n)) if Some(*n) == unbounded => return Some(a),
            (Self::Number(n), _) if Some(*n) == unbounded => return Some(b),
            (Self::Number(n), _) | (_, Self::Number(n)) if !n.is_finite() => return None,
            _ => {}
        }
        let short = a.operations() + b.operations() < MAX_OPERATIONS;
        short.then(|| Self::Binary(function, Box::new(a), Box::new(b)))
    }

    /// The expression of another one; nothing if that is too long.
    pub(super) fn of(&self, inner: Self) -> Option<Self> {
        match self {
            Self::X => Some(inner),
            Self::Number(number) => Some(Self::Number(*number)),
            Self::Unary(function, a) => Self::unary(*function, a.of(inner)?),
            Self::Binary(function, a, b) => Self::binary(*function, a.of(inner.clone())?, b.of(inner)?),
        }
    }

    fn number(value: f64) -> Box<Self> {
        Box::new(Self::Number(value))
    }

    /// `factor * x + offset`.
    pub(super) fn line(factor: f64, offset: f64) -> Self {
        let product = Self::Binary(BinaryFunction::Mul, Box::new(Self::X), Self::number(factor));
        Self::Binary(BinaryFunction::Add, Box::new(product), Self::number(offset))
    }

    /// SiLU: the operand times its sigmoid.
    pub(super) fn silu() -> Self {
        let sigmoid = Self::Unary(UnaryFunction::Sigmoid, Box::new(Self::X));
        Self::Binary(BinaryFunction::Mul, Box::new(Self::X), Box::new(sigmoid))
    }

    /// The activation behind an ONNX operator with parameters; `parameter` gives one by name and default.
    pub(super) fn activation(kind: &str, parameter: impl Fn(&str, f64) -> f64) -> Option<Self> {
        use BinaryFunction::{Add, Greater, Max, Min, Mul, PRelu};
        let x = || Box::new(Self::X);
        let both = |function, a, b| Self::Binary(function, Box::new(a), Box::new(b));
        let unary = |function, a| Self::Unary(function, Box::new(a));
        let clamped = |a| both(Min, both(Max, a, Self::Number(0.0)), Self::Number(1.0));
        // alpha * (exp(min(x, 0) / divisor) - 1)
        let exponential = |alpha: f64, divisor: f64| {
            let below = both(Min, Self::X, Self::Number(0.0));
            let exp = unary(UnaryFunction::Exp, both(Mul, below, Self::Number(divisor.recip())));
            both(Mul, both(Add, exp, Self::Number(-1.0)), Self::Number(alpha))
        };
        let above = || both(Max, Self::X, Self::Number(0.0));
        Some(match kind {
            "HardSigmoid" => clamped(Self::line(parameter("alpha", 0.2), parameter("beta", 0.5))),
            "HardSwish" => Self::Binary(Mul, x(), Box::new(clamped(Self::line(1.0 / 6.0, 0.5)))),
            "LeakyRelu" => Self::Binary(PRelu, x(), Self::number(parameter("alpha", 0.01))),
            "Elu" => both(Add, above(), exponential(parameter("alpha", 1.0), 1.0)),
            "Celu" => both(Add, above(), exponential(parameter("alpha", 1.0), parameter("alpha", 1.0))),
            "Selu" => {
                let (alpha, gamma) = (parameter("alpha", 1.673_263_2), parameter("gamma", 1.050_701));
                both(Mul, both(Add, above(), exponential(alpha, 1.0)), Self::Number(gamma))
            }
            "ThresholdedRelu" => {
                let passes = Self::Binary(Greater, x(), Self::number(parameter("alpha", 1.0)));
                Self::Binary(Mul, x(), Box::new(passes))
            }
            "Swish" => {
                let inner = both(Mul, Self::X, Self::Number(parameter("alpha", 1.0)));
                Self::Binary(Mul, x(), Box::new(unary(UnaryFunction::Sigmoid, inner)))
            }
            "Mish" => {
                let inner = unary(UnaryFunction::Softplus, Self::X);
                Self::Binary(Mul, x(), Box::new(unary(UnaryFunction::Tanh, inner)))
            }
            _ => return None,
        })
    }

    /// Its value.
    pub fn eval(&self, x: f64) -> f64 {
        match self {
            Self::X => x,
            Self::Number(v) => *v,
            Self::Unary(function, a) => function.eval(a.eval(x)),
            Self::Binary(function, a, b) => function.eval(a.eval(x), b.eval(x)),
        }
    }

    /// Its operations, of which a host does each: how many are functions that take an exponential or a root, and how many
    /// are simple.
    pub fn costs(&self) -> [u64; 2] {
        use UnaryFunction::{Abs, Ceil, Floor, IsNaN, Neg, Not, Round, Sign, Trunc};
        match self {
            Self::X | Self::Number(_) => [0, 0],
            Self::Unary(Abs | Ceil | Floor | IsNaN | Neg | Not | Round | Sign | Trunc, a) => {
                let [hard, simple] = a.costs();
                [hard, simple + 1]
            }
            Self::Unary(_, a) => {
                let [hard, simple] = a.costs();
                [hard + 1, simple]
            }
            Self::Binary(function, a, b) => {
                let ([hard, simple], [hard_b, simple_b]) = (a.costs(), b.costs());
                let own = matches!(function, BinaryFunction::Pow | BinaryFunction::Mod | BinaryFunction::Div);
                [hard + hard_b + u64::from(own), simple + simple_b + u64::from(!own)]
            }
        }
    }

    /// Checks what a file says: few enough operations, and finite numbers.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let depth = self.operations();
        if depth > MAX_OPERATIONS {
            return Err(format!("an expression of {depth} operations; at most {MAX_OPERATIONS} are allowed"));
        }
        match self {
            Self::Number(number) if !number.is_finite() => Err(format!("the number {number} in an expression")),
            Self::X | Self::Number(_) => Ok(()),
            Self::Unary(_, a) => a.check(),
            Self::Binary(_, a, b) => a.check().and_then(|()| b.check()),
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
    use super::BinaryFunction::{Add, Div, Max, Min, Mul};
    use super::*;

    fn binary(f: BinaryFunction, a: &Expression, b: &Expression) -> Expression {
        Expression::binary(f, a.clone(), b.clone()).unwrap()
    }

    #[test]
    fn gelu_is_recognised_in_any_order_of_its_nodes() {
        let (x, n) = (Expression::X, Expression::Number);
        let mul = |a: &Expression, b: &Expression| binary(Mul, a, b);
        let erf = Expression::unary(UnaryFunction::Erf, binary(Div, &x, &n(f64::from(2f32.sqrt())))).unwrap();
        let one_plus = binary(Add, &erf, &n(1.0));
        for expression in
            [mul(&mul(&x, &one_plus), &n(0.5)), mul(&mul(&n(0.5), &x), &one_plus), mul(&x, &mul(&one_plus, &n(0.5)))]
        {
            assert_eq!(expression.meaning(), Some(Meaning::Gelu(GeluForm::Erf)));
        }
    }

    #[test]
    fn other_functions_have_no_meaning() {
        let (x, one) = (Expression::X, Expression::Number(1.0));
        assert_eq!(binary(Mul, &x, &x).meaning(), None);
        assert_eq!(Expression::unary(UnaryFunction::Tanh, x.clone()).unwrap().meaning(), None);
        assert_eq!(binary(Max, &x, &Expression::Number(0.0)).meaning(), Some(Meaning::Relu));
        assert_eq!(binary(Add, &x, &one).meaning(), Some(Meaning::Affine(1.0, 1.0)));
        assert_eq!(binary(Div, &x, &Expression::Number(8.0)).meaning(), Some(Meaning::Affine(0.125, 0.0)));
    }

    #[test]
    fn a_clipping_is_seen_wherever_it_begins() {
        let clipped = |low: f64, high: f64| {
            let above = binary(Max, &Expression::X, &Expression::Number(low));
            binary(Min, &above, &Expression::Number(high)).meaning()
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
            expression = Expression::unary(UnaryFunction::Neg, expression.unwrap());
        }
        assert!(Expression::unary(UnaryFunction::Neg, expression.unwrap()).is_none());
    }

    #[test]
    fn activations_have_the_values_of_their_definitions() {
        let value = |kind: &str, x: f64| Expression::activation(kind, |_, default| default).unwrap().eval(x);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(value("HardSigmoid", 1.0), 0.7);
        close(value("HardSwish", 1.0), 4.0 / 6.0);
        close(value("HardSwish", -4.0), 0.0);
        close(value("LeakyRelu", -2.0), -0.02);
        close(value("Elu", -1.0), (-1f64).exp() - 1.0);
        close(value("Selu", 1.0), 1.050_701);
        close(value("ThresholdedRelu", 0.5), 0.0);
        close(value("Mish", 1.0), (1f64.exp() + 1.0).ln().tanh());
        assert!(Expression::activation("Nothing", |_, default| default).is_none());
    }
}
