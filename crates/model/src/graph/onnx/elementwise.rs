//! Addition, multiplication and their like: residuals, biases, masks, scales, and the pieces of GELU and LayerNorm.

use super::channelwise::Channelwise;
use super::constant::Constant;
use super::error::OnnxError;
use super::importer::Importer;
use super::op::Op;
use super::value::{Convolution, Layout, NormStage, Pending, Product, Scores, Value, View};
use crate::graph::expression::{BinaryFunction, Expression, UnaryFunction};
use crate::graph::operator::Operator;

/// Scores below this after masking have probability 0; exporters write the most negative number or -10000.
pub(super) const MASKED: f64 = -9999.0;

impl Importer<'_> {
    /// A function of two operands, at least one of which is not constant.
    pub(super) fn binary(&mut self, op: Op<'_>, function: BinaryFunction) -> Result<Value, OnnxError> {
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
        for (index, value, constant) in [(0, &a, &b), (1, &b, &a)] {
            let Value::Constant(c) = constant else { continue };
            if let Some(own) = self.own_channelwise(op, index, value, c)
                && let Some(folded) = self.fold_channelwise(op, index, value, &own)
            {
                c.check_finite(&op.node.input[1 - index])?;
                return Ok(folded);
            }
        }
        if let Some(value) = self.expression(op, function, &a, &b)? {
            return Ok(value);
        }
        for (index, value, constant) in [(0, &a, &b), (1, &b, &a)] {
            let Value::Constant(c) = constant else { continue };
            // A plain tensor's sum with a constant stays one: embeddings of positions have rows of their own.
            if let Some(own) = self.own_channelwise(op, index, value, c)
                && (op.kind() != "Add" || value.shape().len() == 4)
            {
                c.check_finite(&op.node.input[1 - index])?;
                let x = self.view(op, index)?;
                return self.channelwise(op, op.output(), &x, &own);
            }
        }
        if function == BinaryFunction::Add && a.shape() == b.shape() {
            return match (&a, &b) {
                (_, Value::Constant(c)) => self.add_constant(op, 0, c),
                (Value::Constant(c), _) => self.add_constant(op, 1, c),
                _ => self.add(op),
            };
        }
        self.stretched(op, Operator::Binary { function })
    }

    /// A function of operand 0.
    pub(super) fn applied(&mut self, op: Op<'_>, outer: &Expression) -> Result<Value, OnnxError> {
        let (x, inner, shape) = self.variable(op, 0)?;
        match outer.of(inner) {
            Some(expression) => Ok(Value::pending(Pending::Elementwise(x, expression), shape)),
            None => {
                let x = self.view(op, 0)?;
                let shape = x.shape.clone();
                Ok(Value::pending(Pending::Elementwise(x, outer.clone()), shape))
            }
        }
    }

    /// The arithmetic of operand `index` with a constant that has one number a channel, or one for all of a convolution's.
    fn own_channelwise(&self, op: Op<'_>, index: usize, value: &Value, c: &Constant) -> Option<Channelwise> {
        let convolution = match value {
            Value::Pending(p, _) => match &**p {
                Pending::Convolution(conv) => Some(conv.rows.is_none()),
                Pending::Product(_) => Some(false),
                _ => return None,
            },
            Value::View(view) if view.layout == Layout::ChannelsFirst => None,
            Value::View(view) if view.layout == Layout::Plain => Some(false),
            _ => return None,
        };
        let shape = value.shape();
        let image = convolution.unwrap_or(true);
        // One number for a whole dense product may be the scale of an attention or a part of GELU.
        if c.data.len() == 1 && !matches!(value, Value::Pending(p, _) if matches!(**p, Pending::Convolution(_))) {
            return None;
        }
        let axis = if image { 1 } else { shape.len().checked_sub(1)? };
        Channelwise::of(op.kind(), c, index == 1, shape, axis)
    }

    fn expect_constant<'v>(&self, op: Op<'_>, value: &'v Value) -> Result<&'v Constant, OnnxError> {
        match value {
            Value::Constant(c) => Ok(c),
            _ => Err(op.refuse("a LayerNorm's beta computed at run time", "export with constant folding")),
        }
    }

    /// Clip, with bounds as operands or (in older files) attributes; one that is missing is none.
    pub(super) fn clip(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let mut bounds = [f64::NEG_INFINITY, f64::INFINITY];
        for (index, name) in [(1, "min"), (2, "max")] {
            if op.has(index) {
                let bound = self.required_constant(op, index, "a bound")?.scalar();
                bounds[index - 1] = bound.ok_or_else(|| op.refuse("several bounds", "give one number"))?;
            } else if op.node.attribute.iter().any(|attribute| attribute.name == name) {
                bounds[index - 1] = op.float(name, 0.0).into();
            }
        }
        let [low, high] = bounds.map(|bound| Box::new(Expression::Number(bound)));
        let above = match bounds[0] {
            f64::NEG_INFINITY => Expression::X,
            _ => Expression::Binary(BinaryFunction::Max, Box::new(Expression::X), low),
        };
        let clipped = match bounds[1] {
            f64::INFINITY => above,
            _ => Expression::Binary(BinaryFunction::Min, Box::new(above), high),
        };
        self.applied(op, &clipped)
    }

    /// Element-wise functions of one operand.
    pub(super) fn unary(&mut self, op: Op<'_>, function: UnaryFunction) -> Result<Value, OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, 0)?
            && let (Pending::Norm(x, NormStage::VarianceEpsilon(epsilon)), UnaryFunction::Sqrt) = (&*p, function)
        {
            return Ok(Value::pending(Pending::Norm(x.clone(), NormStage::Deviation(*epsilon)), shape));
        }
        self.applied(op, &Expression::Unary(function, Box::new(Expression::X)))
    }

    /// An expression of one tensor from two operands: the same tensor twice, or the tensor and a number.
    fn expression(
        &mut self,
        op: Op<'_>,
        function: BinaryFunction,
        a: &Value,
        b: &Value,
    ) -> Result<Option<Value>, OnnxError> {
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
                let sum = function == BinaryFunction::Add && matches!((&left, &right), (Expression::X, Expression::X));
                if x.edge != y.edge || x.layout != y.layout || sum {
                    return Ok(None);
                }
                (x, left, right, shape)
            }
        };
        let Some(expression) = Expression::binary(function, left, right) else {
            // Too long: what is there so far becomes an operation.
            for index in 0..2 {
                if self.constant(op, index)?.is_none() {
                    self.view(op, index)?;
                }
            }
            return self.stretched(op, Operator::Binary { function }).map(Some);
        };
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
        if self.view(op, index)?.layout == Layout::ChannelsFirst {
            return self.stretched(op, Operator::Binary { function: BinaryFunction::Add });
        }
        let x = self.plain(op, index)?;
        c.check_finite(&op.node.input[1 - index])?;
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
        if a.layout == b.layout && a.layout == Layout::ChannelsFirst {
            (a.edge, b.edge) = (self.channels_last(op.output(), &a)?, self.channels_last(op.output(), &b)?);
        } else if (a.layout, b.layout) != (Layout::Plain, Layout::Plain) && has_image(&a, &b) {
            return self.stretched(op, Operator::Binary { function: BinaryFunction::Add });
        } else {
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
        match scores {
            Some((scores, shape)) => Ok(Value::pending(Pending::Scores(scores), shape)),
            None => self.stretched(op, Operator::Select),
        }
    }
}

fn has_image(a: &View, b: &View) -> bool {
    [a.layout, b.layout].contains(&Layout::ChannelsFirst)
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
        ("Add", Pending::Convolution(conv)) if conv.bias.is_none() && conv.rows.is_none() => {
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
