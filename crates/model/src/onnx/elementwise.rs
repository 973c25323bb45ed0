//! Addition, multiplication and their like: residuals, biases, masks, scales, and the pieces of GELU and LayerNorm.

use std::rc::Rc;

use super::OnnxError;
use super::constant::Constant;
use super::expression::Expression;
use super::importer::{Convolution, Importer, Layout, NormStage, Op, Pending, Product, Scores, Value, View};
use crate::graph::Operator;

/// Scores below this after masking have probability 0; exporters write the most negative number or -10000.
const MASKED: f64 = -9999.0;

/// The float32 function of a binary operator.
fn function(kind: &str) -> fn(f64, f64) -> f64 {
    match kind {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        _ => f64::powf,
    }
}

impl Importer<'_> {
    /// Add, Sub, Mul, Div, Pow with at least one operand that is not constant.
    pub(super) fn binary(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (a, b) = (self.value(op, 0)?, self.value(op, 1)?);
        let folded = match (&a, &b) {
            (Value::Pending(p, shape), Value::Constant(c)) => fold_constant(op.kind(), p, shape, c, false),
            (Value::Constant(c), Value::Pending(p, shape)) => fold_constant(op.kind(), p, shape, c, true),
            (Value::View(x), Value::Pending(p, shape)) => fold_norm(op.kind(), x, p, shape),
            (Value::Pending(p, s), Value::Pending(q, _)) => fold_pair(op.kind(), p, q, s),
            _ => None,
        };
        if let Some((pending, shape)) = folded {
            return match pending {
                Pending::Norm(x, NormStage::Scaled(epsilon, gamma)) if op.kind() == "Add" => {
                    let beta = if let Value::Constant(c) = &b { c } else { self.expect_constant(op, &a)? };
                    let (beta, name) = (beta.floats(), op.output());
                    self.layer_norm(op, name, &x, epsilon, gamma, beta).map(Value::View)
                }
                pending => Ok(Value::pending(pending, shape)),
            };
        }
        if let Some(value) = self.expression(op, &a, &b)? {
            return Ok(value);
        }
        match (&a, &b) {
            _ if op.kind() != "Add" => Err(op.refuse(
                "this operation between two tensors, or with a constant that is not a single number",
                "only sums of two tensors, and the pieces of GELU and LayerNorm, are translated",
            )),
            (_, Value::Constant(c)) => self.add_constant(op, 0, c),
            (Value::Constant(c), _) => self.add_constant(op, 1, c),
            _ => self.add(op),
        }
    }

    fn expect_constant<'v>(&self, op: Op<'_>, value: &'v Value) -> Result<&'v Constant, OnnxError> {
        match value {
            Value::Constant(c) => Ok(c),
            _ => Err(op.refuse("a LayerNorm's beta computed at run time", "export with constant folding")),
        }
    }

    /// Element-wise functions of one operand.
    pub(super) fn unary(&mut self, op: Op<'_>, f: fn(f64) -> f64) -> Result<Value, OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, 0)?
            && let (Pending::Norm(x, NormStage::VarianceEpsilon(epsilon)), "Sqrt") = (&*p, op.kind())
        {
            return Ok(Value::pending(Pending::Norm(x.clone(), NormStage::Deviation(*epsilon)), shape));
        }
        let (x, inner, shape) = self.variable(op, 0)?;
        Ok(Value::pending(Pending::Elementwise(x, Expression::Unary(f, Rc::new(inner))), shape))
    }

    /// An expression of one tensor from two operands: the same tensor twice, or the tensor and a number.
    fn expression(&mut self, op: Op<'_>, a: &Value, b: &Value) -> Result<Option<Value>, OnnxError> {
        let number = |v: &Value| match v {
            Value::Constant(c) => c.scalar().map(Expression::Number),
            _ => None,
        };
        let (x, left, right, shape) = match (number(a), number(b)) {
            (Some(n), None) => {
                let (x, e, shape) = self.variable(op, 1)?;
                (x, n, e, shape)
            }
            (None, Some(n)) => {
                let (x, e, shape) = self.variable(op, 0)?;
                (x, e, n, shape)
            }
            _ if matches!(a, Value::Constant(_)) || matches!(b, Value::Constant(_)) => return Ok(None),
            _ => {
                let ((x, left, shape), (y, right, _)) = (self.variable(op, 0)?, self.variable(op, 1)?);
                let plain = matches!((&left, &right), (Expression::X, Expression::X)) && op.kind() == "Add";
                if x.edge != y.edge || plain {
                    return Ok(None);
                }
                (x, left, right, shape)
            }
        };
        let expression = Expression::Binary(function(op.kind()), Rc::new(left), Rc::new(right));
        Ok(Some(Value::pending(Pending::Elementwise(x, expression), shape)))
    }

    /// Operand `index` as an expression of an edge.
    fn variable(&mut self, op: Op<'_>, index: usize) -> Result<(View, Expression, Vec<usize>), OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, index)?
            && let Pending::Elementwise(x, expression) = &*p
        {
            return Ok((x.clone(), expression.clone(), shape));
        }
        let view = self.view(op, index)?;
        Ok((view.clone(), Expression::X, view.shape))
    }

    /// The sum of a tensor and a constant of its shape (position embeddings).
    fn add_constant(&mut self, op: Op<'_>, index: usize, c: &Constant) -> Result<Value, OnnxError> {
        let x = self.plain(op, index)?;
        let data = c.broadcast(&x.shape).ok_or_else(|| {
            op.refuse(
                format!("a constant of shape {:?} added to {:?}", c.shape, x.shape),
                "the constant must broadcast to the tensor's shape",
            )
        })?;
        let shape = self.builder.shape(x.edge).to_vec();
        let data = data.into_iter().map(|v| v as f32).collect();
        let constant = self.weight(&format!("{}.constant", op.output()), &shape, data, None)?;
        let edge = self.node(op.output(), Operator::Add, &[x.edge, constant])?;
        Ok(Value::View(View { edge, ..x }))
    }

    /// The sum of two tensors of one shape.
    fn add(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (mut a, mut b) = (self.view(op, 0)?, self.view(op, 1)?);
        if a.layout != Layout::ChannelsFirst || b.layout != Layout::ChannelsFirst {
            (a, b) = (self.reshaped(op, a)?, self.reshaped(op, b)?);
        }
        let edge = self.node(op.output(), Operator::Add, &[a.edge, b.edge])?;
        Ok(Value::View(View { edge, ..a }))
    }

    /// Where: a mask on scores, or the exporter's guard against probabilities that are no numbers.
    pub(super) fn select(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let [condition, yes, no] = [self.value(op, 0)?, self.value(op, 1)?, self.value(op, 2)?];
        if let (Value::Pending(p, _), Value::Pending(q, _)) = (&condition, &no)
            && matches!((&**p, &**q), (Pending::NotANumber, Pending::Scores(_)))
        {
            return Ok(no);
        }
        let masked = match (&condition, &yes, &no) {
            (Value::Constant(c), Value::Pending(p, shape), Value::Constant(n)) => Some((c, p, shape, n, true)),
            (Value::Constant(c), Value::Constant(n), Value::Pending(p, shape)) => Some((c, p, shape, n, false)),
            _ => None,
        };
        let scores = masked.and_then(|(c, p, shape, n, visible)| {
            let low = n.scalar().filter(|&v| v <= MASKED)?;
            let added = c.data.iter().map(|&v| if (v != 0.0) == visible { 0.0 } else { low }).collect();
            let mask = Constant::new(c.shape.clone(), added, false);
            let Pending::Scores(scores) = &**p else { return None };
            Some((masked_scores(scores, &mask, shape)?, shape.clone()))
        });
        scores.map(|(scores, shape)| Value::pending(Pending::Scores(scores), shape)).ok_or_else(|| {
            op.refuse("a choice between tensors", "only a constant causal mask on attention scores is translated")
        })
    }
}

/// A pending value and a constant; `reversed` if the constant is the left operand.
fn fold_constant(
    kind: &str,
    pending: &Pending,
    shape: &[usize],
    c: &Constant,
    reversed: bool,
) -> Option<(Pending, Vec<usize>)> {
    let width = shape.last().copied().unwrap_or(1);
    let folded = match (kind, pending) {
        ("Add", Pending::Product(p)) if p.bias.is_none() => {
            Pending::Product(Product { bias: Some(c.vector(width)?), ..p.clone() })
        }
        ("Add", Pending::Convolution(conv)) if conv.bias.is_none() => {
            // A bias of channels first: [c, 1, 1] or [1, c, 1, 1].
            let channels = conv.weight_shape[3];
            let [.., n, 1, 1] = c.shape[..] else { return None };
            (n == channels && c.data.len() == channels).then_some(())?;
            Pending::Convolution(Convolution { bias: Some(c.floats()), ..conv.clone() })
        }
        ("Add", Pending::Scores(s)) if !s.probabilities => Pending::Scores(masked_scores(s, c, shape)?),
        ("Mul", Pending::Scores(s)) if !s.probabilities => {
            Pending::Scores(Scores { scale: s.scale * c.scalar()? as f32, ..s.clone() })
        }
        ("Div", Pending::Scores(s)) if !s.probabilities && !reversed => {
            Pending::Scores(Scores { scale: s.scale / c.scalar()? as f32, ..s.clone() })
        }
        ("Pow", Pending::Norm(x, NormStage::Centred)) if !reversed && c.scalar() == Some(2.0) => {
            Pending::Norm(x.clone(), NormStage::Squared)
        }
        ("Add", Pending::Norm(x, NormStage::Variance)) => {
            Pending::Norm(x.clone(), NormStage::VarianceEpsilon(c.scalar()? as f32))
        }
        ("Mul", Pending::Norm(x, NormStage::Normalised(epsilon))) => {
            Pending::Norm(x.clone(), NormStage::Scaled(*epsilon, c.vector(width)?))
        }
        ("Add", Pending::Norm(x, NormStage::Scaled(epsilon, gamma))) => {
            c.vector(width)?;
            Pending::Norm(x.clone(), NormStage::Scaled(*epsilon, gamma.clone()))
        }
        _ => return None,
    };
    Some((folded, shape.to_vec()))
}

/// `x - mean(x)`.
fn fold_norm(kind: &str, x: &View, pending: &Pending, _: &[usize]) -> Option<(Pending, Vec<usize>)> {
    match pending {
        Pending::Norm(y, NormStage::Mean) if kind == "Sub" && y == x => {
            Some((Pending::Norm(x.clone(), NormStage::Centred), x.shape.clone()))
        }
        _ => None,
    }
}

/// The square of the centred values, and their quotient by the deviation.
fn fold_pair(kind: &str, a: &Pending, b: &Pending, shape: &[usize]) -> Option<(Pending, Vec<usize>)> {
    let stage = match (kind, a, b) {
        ("Mul", Pending::Norm(x, NormStage::Centred), Pending::Norm(y, NormStage::Centred)) if x == y => {
            (x, NormStage::Squared)
        }
        ("Div", Pending::Norm(x, NormStage::Centred), Pending::Norm(y, NormStage::Deviation(epsilon))) if x == y => {
            (x, NormStage::Normalised(*epsilon))
        }
        _ => return None,
    };
    Some((Pending::Norm(stage.0.clone(), stage.1), shape.to_vec()))
}

/// Scores with an additive mask: one of zeros, or a causal one.
fn masked_scores(scores: &Scores, mask: &Constant, shape: &[usize]) -> Option<Scores> {
    if mask.data.iter().all(|&v| v == 0.0) {
        return mask.broadcast(shape).map(|_| scores.clone());
    }
    let [.., tokens, keys] = shape else { return None };
    let past = keys.checked_sub(*tokens)?;
    let added = mask.broadcast(shape)?;
    let causal = added.iter().enumerate().all(|(i, &v)| {
        let (query, key) = (i / keys % tokens, i % keys);
        if key <= past + query { v == 0.0 } else { v <= MASKED }
    });
    causal.then(|| Scores { causal: true, ..scores.clone() })
}
