//! The operators by name, and those that only move or look up values.

use std::rc::Rc;

use super::constant::{Constant, constant_elements};
use super::dimensions::MAX_RANK;
use super::error::OnnxError;
use super::fold::fold;
use super::importer::Importer;
use super::layouts::without_ones;
use super::op::Op;
use super::products::in_a_row;
use super::proto::TensorProto;
use super::value::{Layout, Pending, Value, View};
use crate::graph::expression::{BinaryFunction, Expression, UnaryFunction};
use crate::graph::network::Source;
use crate::graph::operator::{GeluForm, Operator, elements as tensor_elements};

impl Importer<'_> {
    /// The results of a node.
    pub(super) fn translate(&mut self, op: Op<'_>) -> Result<Vec<Value>, OnnxError> {
        if op.kind() == "Split" {
            return self.split(op);
        }
        let value = self.translate_one(op)?;
        match self.all_constant(op)? {
            Some(operands) if !operands.is_empty() => Ok(vec![self.settled(value, operands.iter().all(|c| c.integer))]),
            _ => Ok(vec![value]),
        }
    }

    fn translate_one(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        match op.kind() {
            "Constant" => return self.constant_node(op),
            "Shape" => return self.sizes(op),
            "ConstantOfShape" => return self.constant_of_shape(op),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => return self.reshape(op),
            "Slice" => return self.slice(op),
            "Identity" | "Dropout" => return self.value(op, 0),
            "DequantizeLinear" => {
                return match self.constant(op, 0)? {
                    Some(q) => self.dequantised(op, &q),
                    None => self.quantise(op),
                };
            }
            _ => {}
        }
        if let Some(inputs) = self.all_constant(op)?
            && let Some(result) = fold(op, &inputs)?
        {
            self.charge(result.data.len())?;
            return Ok(Value::constant(result));
        }
        if let Some(expression) =
            Expression::activation(op.kind(), |name, default| op.float(name, default as f32).into())
        {
            return self.applied(op, &expression);
        }
        match op.kind() {
            "Cast" => self.cast(op),
            "Transpose" => self.transpose(op),
            "Gather" => self.gather(op),
            "Expand" | "Tile" => self.repeat(op),
            "Pad" => self.pad(op),
            "Resize" | "Upsample" => self.resize(op),
            "DepthToSpace" | "SpaceToDepth" => self.space(op),
            "ConvTranspose" => self.conv_transpose(op),
            "LRN" => self.local_response_norm(op),
            "GlobalMaxPool" => self.global_max(op),
            "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2" | "ArgMax" | "ArgMin" => {
                self.reduce(op)
            }
            "MatMul" => self.matmul(op),
            "Gemm" => self.gemm(op),
            "Conv" => self.conv(op),
            "BatchNormalization" => self.batch_norm(op),
            "MaxPool" | "AveragePool" => self.pool(op),
            "GlobalAveragePool" => self.global_pool(op),
            "ReduceMean" => self.reduce_mean(op),
            "LayerNormalization" => self.layer_normalization(op),
            "Softmax" => self.softmax(op),
            "Relu" => self.activation(op, Operator::Relu),
            "Gelu" => {
                let form = if op.text("approximate") == "tanh" { GeluForm::Tanh } else { GeluForm::Erf };
                self.activation(op, Operator::Gelu { form })
            }
            "Clip" => self.clip(op),
            "Concat" => self.concat(op),
            "Where" => self.select(op),
            "IsNaN" => self.is_nan(op),
            "QuantizeLinear" => self.quantise(op),
            kind => match (UnaryFunction::of(kind), BinaryFunction::of(kind)) {
                (Some(function), _) => self.unary(op, function),
                (_, Some(function)) => self.binary(op, function),
                _ => Err(op.refuse("this operator on a tensor that is computed", "export with constant folding")),
            },
        }
    }

    /// Shape: all sizes of an operand, or those from `start` to `end`, which count from the back if negative.
    fn sizes(&self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len() as i64;
        let place = |name: &str, default: i64| {
            let axis = op.int(name, default);
            (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize
        };
        let axes = place("start", 0)..place("end", rank);
        Ok(Value::constant(Constant::sizes(value.shape().get(axes).unwrap_or(&[]))))
    }

    /// Cast: to whole numbers and logical values of what may be neither; other numbers stay as they are.
    fn cast(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        // What is given as whole numbers already is.
        let whole = match &value {
            Value::View(view) => self.builder.graph().edge(view.edge).source == Source::Input,
            _ => false,
        };
        match op.int("to", 1) {
            1 | 10 | 11 | 16 => Ok(value),
            9 => {
                let not = Expression::Unary(UnaryFunction::Not, Box::new(Expression::X));
                self.applied(op, &Expression::Unary(UnaryFunction::Not, Box::new(not)))
            }
            _ if whole => Ok(value),
            _ => self.applied(op, &Expression::Unary(UnaryFunction::Trunc, Box::new(Expression::X))),
        }
    }

    /// LRN of an image.
    fn local_response_norm(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (x, [n, c, h, w]) = self.image(op)?;
        let operator = Operator::LocalResponseNorm {
            size: usize::try_from(op.int("size", 0)).unwrap_or(0),
            alpha: op.float("alpha", 1e-4),
            beta: op.float("beta", 0.75),
            bias: op.float("bias", 1.0),
        };
        let edge = self.node(op.output(), operator, &[x])?;
        Ok(Value::View(View { edge, shape: vec![n, c, h, w], layout: Layout::ChannelsFirst }))
    }

    /// All operands, if each one is a constant.
    fn all_constant(&self, op: Op<'_>) -> Result<Option<Vec<Rc<Constant>>>, OnnxError> {
        let mut all = Vec::new();
        for index in (0..op.node.input.len()).filter(|&i| op.has(i)) {
            match self.constant(op, index)? {
                Some(c) => all.push(c),
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    fn constant_node(&self, op: Op<'_>) -> Result<Value, OnnxError> {
        let numbers = |shape, data| Ok(Value::constant(Constant::new(shape, data, true)));
        if let Some(tensor) = op.tensor("value") {
            let name = if tensor.name.is_empty() { op.output() } else { &tensor.name };
            return Ok(Value::constant(self.decode(&TensorProto { name: name.to_owned(), ..tensor.clone() })?));
        }
        if let Some(ints) = op.ints("value_ints") {
            return numbers(vec![ints.len()], ints.iter().map(|&v| v as f64).collect());
        }
        if let Some(floats) = op.floats("value_floats") {
            let data = floats.iter().map(|&v| v.into()).collect();
            return Ok(Value::constant(Constant::new(vec![floats.len()], data, false)));
        }
        let named = |name: &str| op.node.attribute.iter().any(|a| a.name == name);
        if named("value_int") {
            return numbers(Vec::new(), vec![op.int("value_int", 0) as f64]);
        }
        if named("value_float") {
            let data = vec![op.float("value_float", 0.0).into()];
            return Ok(Value::constant(Constant::new(Vec::new(), data, false)));
        }
        Err(op.refuse("a constant that is neither tensor nor number", "export the model again"))
    }

    fn constant_of_shape(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let sizes = self.required_constant(op, 0, "a shape")?;
        let shape: Vec<usize> = sizes.integers().into_iter().map(|v| v.max(0) as usize).collect();
        let fill = match op.tensor("value") {
            Some(tensor) => self.decode(tensor)?,
            None => Constant::new(vec![1], vec![0.0], false),
        };
        let value = fill.data.first().copied().unwrap_or(0.0);
        let count = constant_elements(&shape)
            .ok_or_else(|| op.refuse(format!("a constant of shape {shape:?}"), "export with a smaller shape"))?;
        self.charge(count)?;
        let data = vec![value; count];
        Ok(Value::constant(Constant::new(shape, data, fill.integer)))
    }

    /// Reshape, Flatten, Squeeze, Unsqueeze: the same elements under another shape.
    fn reshape(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let shape = self.new_shape(op, value.shape())?;
        match value {
            Value::Constant(c) => Ok(Value::constant(Constant { shape, ..(*c).clone() })),
            Value::Pending(p, old) if commutes(&p, &old, &shape) => Ok(Value::Pending(p, shape)),
            _ => {
                let view = self.view(op, 0)?;
                self.reshape_view(op, view, shape).map(Value::View)
            }
        }
    }

    /// The shape that a reshaping node gives.
    fn new_shape(&self, op: Op<'_>, old: &[usize]) -> Result<Vec<usize>, OnnxError> {
        let elements: usize = old.iter().product();
        match op.kind() {
            "Flatten" => {
                let axis = op.int("axis", 1);
                let axis = if axis == old.len() as i64 { old.len() } else { op.axis(axis, old.len())? };
                let rows: usize = old[..axis].iter().product();
                Ok(vec![rows, elements / rows.max(1)])
            }
            "Squeeze" | "Unsqueeze" => {
                let axes = self.axes(op)?;
                if op.kind() == "Squeeze" {
                    let axes = axes.map_or_else(
                        || Ok((0..old.len()).filter(|&a| old[a] == 1).collect()),
                        |axes| axes.iter().map(|&a| op.axis(a, old.len())).collect::<Result<Vec<_>, _>>(),
                    )?;
                    return Ok((0..old.len()).filter(|a| !axes.contains(a)).map(|a| old[a]).collect());
                }
                let axes = axes.unwrap_or_default();
                let rank = old.len() + axes.len();
                if rank > MAX_RANK {
                    return Err(op.refuse(format!("{rank} dimensions"), format!("use {MAX_RANK} at most")));
                }
                let axes = axes.iter().map(|&a| op.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
                let mut rest = old.iter();
                Ok((0..rank).map(|a| if axes.contains(&a) { 1 } else { rest.next().copied().unwrap_or(1) }).collect())
            }
            _ => {
                let wanted = self.required_constant(op, 1, "a shape")?.integers();
                if wanted.len() > MAX_RANK {
                    return Err(op.refuse(format!("{} dimensions", wanted.len()), format!("use {MAX_RANK} at most")));
                }
                resolve(&wanted, old, op.int("allowzero", 0) != 0).ok_or_else(|| {
                    op.refuse(format!("{old:?} reshaped to {wanted:?}"), "the number of elements must stay the same")
                })
            }
        }
    }

    /// Axes from the attribute (older models) or the second operand.
    pub(super) fn axes(&self, op: Op<'_>) -> Result<Option<Vec<i64>>, OnnxError> {
        if let Some(axes) = op.ints("axes") {
            return Ok(Some(axes.to_vec()));
        }
        if op.has(1) {
            return Ok(Some(self.required_constant(op, 1, "axes")?.integers()));
        }
        Ok(None)
    }

    fn activation(&mut self, op: Op<'_>, operator: Operator) -> Result<Value, OnnxError> {
        let view = self.view(op, 0)?;
        let edge = self.node(op.output(), operator, &[view.edge])?;
        Ok(Value::View(View { edge, ..view }))
    }

    fn layer_normalization(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let view = self.view(op, 0)?;
        let (rank, width) = (view.shape.len(), view.shape.last().copied().unwrap_or(1));
        if op.axis(op.int("axis", -1), rank)? + 1 != rank {
            return Err(op.refuse("a normalisation over several axes", "normalise over the last axis"));
        }
        let parameter = |index: usize, what: &str| -> Result<Vec<f32>, OnnxError> {
            self.required_weights(op, index, what)?
                .vector(width)
                .ok_or_else(|| op.refuse(format!("{what} whose length is not {width}"), "give one value a channel"))
        };
        let gamma = parameter(1, "a gamma")?;
        let beta = if op.has(2) { parameter(2, "a beta")? } else { vec![0.0; width] };
        self.layer_norm(op, op.output(), &view, op.float("epsilon", 1e-5), gamma, beta).map(Value::View)
    }

    /// PyTorch guards against rows without visible keys; a causal or absent mask has none.
    fn is_nan(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, 0)?
            && let Pending::Scores(_) = &*p
        {
            return Ok(Value::pending(Pending::NotANumber, shape));
        }
        self.applied(op, &Expression::Unary(UnaryFunction::IsNaN, Box::new(Expression::X)))
    }

    fn pool(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        if self.value(op, 0)?.shape().len() != 3 {
            return self.pool_image(op);
        }
        let node = in_a_row(op.node);
        let Value::View(view) = self.pool_image(Op { node: &node })? else { unreachable!("a pooling is an edge") };
        let shape = vec![view.shape[0], view.shape[1], view.shape[3]];
        Ok(Value::View(View { shape, ..view }))
    }

    fn pool_image(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (x, [n, _, h, w]) = self.image(op)?;
        let kernel = op.ints("kernel_shape").unwrap_or(&[]);
        let kernel: Vec<usize> = kernel.iter().filter_map(|&k| usize::try_from(k).ok()).collect();
        let kernel = <[usize; 2]>::try_from(kernel)
            .map_err(|k| op.refuse(format!("kernel_shape {k:?}"), "only two-dimensional poolings are translated"))?;
        if op.node.output.get(1).is_some_and(|name| !name.is_empty()) {
            return Err(op.refuse("the indices of a MaxPool", "use its values only"));
        }
        let mut window = self.window(op, kernel, [h, w])?;
        if op.kind() == "MaxPool" && h == 1 && kernel[0] == 1 && window.padding[0] == 0 && window.padding[2] == 0 {
            // On one row a square window, which the hardware has, sees padding below, which never wins.
            window.kernel[0] = kernel[1];
            window.stride[0] = window.stride[1];
            window.dilation[0] = window.dilation[1];
            window.padding[2] = window.dilation[1] * kernel[1].saturating_sub(1);
        }
        let operator = if op.kind() == "MaxPool" {
            Operator::MaxPool(window)
        } else {
            // Without padding there is none to be counted.
            let counted = op.int("count_include_pad", 0) != 0 || window.padding == [0; 4];
            Operator::AveragePool { window, count_padding: counted }
        };
        let edge = self.node(op.output(), operator, &[x])?;
        let [_, h, w, c] = self.builder.shape(edge)[..] else { unreachable!("a pooling gives an image") };
        Ok(Value::View(View { edge, shape: vec![n, c, h, w], layout: Layout::ChannelsFirst }))
    }
}

/// Whether a folded value may be reshaped before it becomes a node.
fn commutes(pending: &Pending, old: &[usize], new: &[usize]) -> bool {
    match pending {
        Pending::Product(_) => old.last() == new.last() && new.len() >= 2 && old.len() >= 2,
        Pending::Elementwise(x, _) => {
            x.layout == Layout::Plain || (without_ones(old) == without_ones(new) && new.len() >= 3)
        }
        Pending::Scores(_) | Pending::NotANumber => without_ones(old) == without_ones(new) && new.len() >= 3,
        Pending::Convolution(_) | Pending::Norm(..) => false,
    }
}

/// A Reshape's target: 0 keeps a size (unless `zero` means empty), -1 takes what is left.
fn resolve(wanted: &[i64], old: &[usize], zero: bool) -> Option<Vec<usize>> {
    let elements = tensor_elements(old)?;
    let mut shape = Vec::with_capacity(wanted.len());
    for (i, &w) in wanted.iter().enumerate() {
        shape.push(match w {
            0 if !zero => *old.get(i)?,
            -1 => 0,
            w => usize::try_from(w).ok()?,
        });
    }
    if let Some(free) = wanted.iter().position(|&w| w == -1) {
        shape[free] = 1;
        shape[free] = elements.checked_div(tensor_elements(&shape)?)?;
    }
    (tensor_elements(&shape)? == elements).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::super::importer::canonical;
    use super::*;

    #[test]
    fn reshape_targets_follow_the_specification() {
        assert_eq!(resolve(&[0, -1, 8], &[2, 3, 16], false), Some(vec![2, 6, 8]));
        assert_eq!(resolve(&[-1], &[2, 3], false), Some(vec![6]));
        assert_eq!(resolve(&[4, -1], &[2, 3], false), None);
        assert_eq!(resolve(&[0, 6], &[2, 3], true), None);
        assert_eq!(canonical(&[1, 1, 5, 16]), [5, 16]);
        assert_eq!(canonical(&[1, 16]), [1, 16]);
    }
}
