//! The operators by name, and those that only move or look up values.

use std::rc::Rc;

use super::constant::{Constant, constant_elements};
use super::dimensions::MAX_RANK;
use super::error::OnnxError;
use super::fold::{fold, order};
use super::importer::{Importer, canonical};
use super::op::Op;
use super::proto::TensorProto;
use super::value::{Layout, NormStage, Pending, Scores, Value, View};
use crate::graph::network::EdgeId;
use crate::graph::operator::{GeluForm, Operator, elements as tensor_elements};

impl Importer<'_> {
    /// The results of a node.
    pub(super) fn translate(&mut self, op: Op<'_>) -> Result<Vec<Value>, OnnxError> {
        if op.kind() == "Split" {
            return self.split(op);
        }
        Ok(vec![self.translate_one(op)?])
    }

    fn translate_one(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        match op.kind() {
            "Constant" => return self.constant_node(op),
            "Shape" => return Ok(Value::constant(Constant::sizes(self.value(op, 0)?.shape()))),
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
        match op.kind() {
            "Cast" => self.value(op, 0),
            "Transpose" => self.transpose(op),
            "Gather" => self.gather(op),
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
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => self.binary(op),
            "Min" | "Max" => self.extreme(op),
            "Clip" => self.clip(op),
            "Concat" => self.concat(op),
            "Erf" => self.unary(op, libm::erf),
            "Tanh" => self.unary(op, f64::tanh),
            "Sqrt" => self.unary(op, f64::sqrt),
            "Neg" => self.unary(op, |v| -v),
            "Where" => self.select(op),
            "IsNaN" => self.is_nan(op),
            "QuantizeLinear" => self.quantise(op),
            _ => Err(op.refuse("this operator on a tensor that is computed", "export with constant folding")),
        }
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

    fn reshape_view(&mut self, op: Op<'_>, view: View, shape: Vec<usize>) -> Result<View, OnnxError> {
        let layout = match view.layout {
            Layout::Plain => Layout::Plain,
            layout if without_ones(&view.shape) == without_ones(&shape) && shape.len() >= 3 => layout,
            Layout::ChannelsFirst => match (&view.shape[..], &shape[..]) {
                ([_, _, 1, 1], _) => Layout::Plain,
                ([n, c, h, w], [m, flat]) if n == m && *flat == c * h * w => Layout::FlatImage { pixels: h * w },
                _ => {
                    return Err(op.refuse(
                        format!("an image {:?} reshaped to {shape:?}", view.shape),
                        "an image can only be flattened to one row",
                    ));
                }
            },
            Layout::FlatImage { .. } | Layout::Heads { .. } => {
                return Err(op.refuse(
                    format!("a transposed tensor {:?} reshaped to {shape:?}", view.shape),
                    "transpose it back first",
                ));
            }
        };
        Ok(View { edge: view.edge, shape, layout })
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
    fn axes(&self, op: Op<'_>) -> Result<Option<Vec<i64>>, OnnxError> {
        if let Some(axes) = op.ints("axes") {
            return Ok(Some(axes.to_vec()));
        }
        if op.has(1) {
            return Ok(Some(self.required_constant(op, 1, "axes")?.integers()));
        }
        Ok(None)
    }

    /// Slice: of constants, or of a whole tensor.
    fn slice(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let list = |index: usize, name: &str| -> Result<Option<Vec<i64>>, OnnxError> {
            if op.has(index) {
                return Ok(Some(self.required_constant(op, index, name)?.integers()));
            }
            Ok(op.ints(name).map(<[i64]>::to_vec))
        };
        let (starts, ends) = (list(1, "starts")?.unwrap_or_default(), list(2, "ends")?.unwrap_or_default());
        let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        let mut result = value.clone();
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let axis = op.axis(axis, value.shape().len())?;
            let size = result.shape()[axis] as i64;
            let clamp = |v: i64| (if v < 0 { v.saturating_add(size) } else { v }).clamp(0, size);
            let (start, end) = (clamp(start), clamp(end));
            if (start, end, step) == (0, size, 1) {
                continue;
            }
            let Value::Constant(c) = &result else {
                return Err(op.refuse("a part of a tensor", "export the model so that it computes only what is used"));
            };
            if step < 1 {
                return Err(op.refuse(format!("a step of {step}"), "slice forwards"));
            }
            let rows: Vec<usize> = (start..end).step_by(step as usize).map(|r| r as usize).collect();
            let part = c.gather(&Constant::sizes(&rows), axis);
            result = Value::constant(part.ok_or_else(|| op.refuse("rows outside the constant", "export again"))?);
        }
        Ok(result)
    }

    /// Transpose: into heads and back, or between image layouts.
    fn transpose(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let view = self.view(op, 0)?;
        let order = order(op, view.shape.len())?;
        let shape: Vec<usize> = order.iter().map(|&a| view.shape[a]).collect();
        // Attention's transpositions with and without a batch dimension, the batch left out.
        let inner: Vec<usize> = match order[..] {
            [0, ..] if order.len() == 4 => order[1..].iter().map(|a| a - 1).collect(),
            _ => order.clone(),
        };
        let heads = |transposed| Layout::Heads { transposed };
        let (view, layout) = match (view.layout, &inner[..]) {
            (_, same) if same.iter().copied().eq(0..same.len()) => (view.clone(), view.layout),
            (Layout::Plain, [1, 0, 2]) => (self.split_heads(op, view)?, heads(false)),
            (Layout::Plain, [1, 2, 0]) => (self.split_heads(op, view)?, heads(true)),
            (Layout::Heads { transposed: false }, [1, 0, 2]) | (Layout::Heads { transposed: true }, [2, 0, 1]) => {
                (view, Layout::Plain)
            }
            (Layout::Heads { transposed }, [0, 2, 1]) => (view, heads(!transposed)),
            (Layout::ChannelsFirst, [1, 2, 0]) => (view, Layout::Plain),
            (Layout::Plain, [2, 0, 1]) if order.len() == 4 => (self.plain(op, 0)?, Layout::ChannelsFirst),
            _ => {
                return Err(op.refuse(
                    format!("perm {order:?} of a tensor {:?}", view.shape),
                    "only the transpositions of attention and between image layouts fold; move this one into the weights",
                ));
            }
        };
        Ok(Value::View(View { edge: view.edge, shape, layout }))
    }

    /// A plain `[.., tokens, heads, size]` over an edge `[.., tokens, heads * size]`.
    fn split_heads(&mut self, op: Op<'_>, view: View) -> Result<View, OnnxError> {
        let [batch @ .., tokens, heads, size] = &view.shape[..] else {
            return Err(op.refuse(format!("heads of a tensor {:?}", view.shape), "export the model again"));
        };
        let joined = [batch, &[*tokens, heads * size]].concat();
        let shape = view.shape.clone();
        let flat = self.reshaped(op, View { shape: joined, ..view })?;
        Ok(View { shape, ..flat })
    }

    /// Gather of rows of a constant table by run-time indices.
    fn gather(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let table = self.required_constant(op, 0, "a table")?;
        let ([rows, width], 0) = (&table.shape[..], op.axis(op.int("axis", 0), table.shape.len())?) else {
            return Err(
                op.refuse(format!("a look-up in a table of shape {:?}", table.shape), "look up rows of a matrix")
            );
        };
        let ids = self.view(op, 1)?;
        if ids.layout != Layout::Plain {
            return Err(op.refuse("indices that are not in order", "give token ids as they are"));
        }
        table.check_finite(&op.node.input[0])?;
        let words = self.weight(&format!("{}.table", op.output()), &[*rows, *width], table.floats(), None)?;
        let lookup = Operator::Embedding { position: false, segment: false, first: 0 };
        let edge = self.node(op.output(), lookup, &[ids.edge, words])?;
        Ok(Value::View(View { edge, shape: [&ids.shape[..], &[*width]].concat(), layout: Layout::Plain }))
    }

    /// Min and Max of a tensor and a number: pieces of a clipping.
    fn extreme(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let operands = op.node.input.len();
        let numbers = (0..operands).map(|index| self.constant(op, index)).collect::<Result<Vec<_>, _>>()?;
        let numbers = numbers.iter().flatten().filter(|c| c.scalar().is_some()).count();
        if (operands, numbers) != (2, 1) {
            return Err(
                op.refuse("this operation between tensors", "only ReLU, ReLU6 and clipping to them are translated")
            );
        }
        self.binary(op)
    }

    /// Concat of tensors along an axis, images among themselves.
    fn concat(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let count = op.node.input.len();
        let mut views = (0..count).map(|index| self.view(op, index)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = views.first() else { return Err(op.refuse("no operands", "export the model again")) };
        let axis = op.axis(op.int("axis", i64::MAX), first.shape.len())?;
        let mut shape = first.shape.clone();
        let fits = |view: &View| {
            view.shape.len() == shape.len() && (0..shape.len()).all(|a| a == axis || view.shape[a] == shape[a])
        };
        if let Some(other) = views.iter().find(|view| !fits(view)) {
            return Err(op.refuse(
                format!("operands {shape:?} and {:?} along axis {axis}", other.shape),
                "all sizes but that axis's must agree",
            ));
        }
        shape[axis] = views.iter().map(|view| view.shape[axis]).sum();
        let layout = first.layout;
        let axis = if views.iter().all(|view| view.layout == Layout::ChannelsFirst) {
            [0, 3, 1, 2][axis]
        } else {
            views = views.into_iter().map(|view| self.reshaped(op, view)).collect::<Result<_, _>>()?;
            // Leading ones are not part of the edges, unless they are joined here.
            let dropped = shape.len() - canonical(&shape).len();
            let same = views.iter().all(|view| self.builder.shape(view.edge).len() + dropped == shape.len());
            axis.checked_sub(dropped).filter(|_| same).ok_or_else(|| {
                op.refuse("tensors joined along a dimension of batches", "join them along another axis")
            })?
        };
        let edges: Vec<EdgeId> = views.iter().map(|view| view.edge).collect();
        let edge = self.node(op.output(), Operator::Concat { axis }, &edges)?;
        Ok(Value::View(View { edge, shape, layout }))
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

    fn softmax(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        // Before version 13 the axes from `axis` on were one, and the first axis was not part of it.
        let before = self.version < 13;
        let axis = op.axis(op.int("axis", if before { 1 } else { -1 }), rank)?;
        let last = value.shape()[axis..].iter().skip(1).all(|&size| size == 1) || axis + 1 == rank;
        if axis + 1 != rank && !(before && last) {
            return Err(op.refuse("a softmax that is not over the last axis", "transpose before exporting"));
        }
        if let Value::Pending(p, shape) = &value
            && let Pending::Scores(scores) = &**p
            && !scores.probabilities
        {
            let scores = Scores { probabilities: true, ..scores.clone() };
            return Ok(Value::pending(Pending::Scores(scores), shape.clone()));
        }
        let x = self.plain(op, 0)?;
        let edge = self.node(op.output(), Operator::Softmax, &[x.edge])?;
        Ok(Value::View(View { edge, ..x }))
    }

    /// PyTorch guards against rows without visible keys; a causal or absent mask has none.
    fn is_nan(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, 0)?
            && let Pending::Scores(_) = &*p
        {
            return Ok(Value::pending(Pending::NotANumber, shape));
        }
        Err(op.refuse("a test for numbers", "only the guard of attention's probabilities folds"))
    }

    fn pool(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (x, [n, _, h, w]) = self.image(op)?;
        let kernel = op.ints("kernel_shape").unwrap_or(&[]);
        let kernel: Vec<usize> = kernel.iter().filter_map(|&k| usize::try_from(k).ok()).collect();
        let kernel = <[usize; 2]>::try_from(kernel)
            .map_err(|k| op.refuse(format!("kernel_shape {k:?}"), "only two-dimensional poolings are translated"))?;
        if op.node.output.get(1).is_some_and(|name| !name.is_empty()) {
            return Err(op.refuse("the indices of a MaxPool", "use its values only"));
        }
        let window = self.window(op, kernel, [h, w])?;
        let operator = if op.kind() == "MaxPool" {
            Operator::MaxPool(window)
        } else {
            Operator::AveragePool { window, count_padding: op.int("count_include_pad", 0) != 0 }
        };
        let edge = self.node(op.output(), operator, &[x])?;
        let [_, h, w, c] = self.builder.shape(edge)[..] else { unreachable!("a pooling gives an image") };
        Ok(Value::View(View { edge, shape: vec![n, c, h, w], layout: Layout::ChannelsFirst }))
    }

    /// GlobalAveragePool, `[n, c, 1, 1]`.
    fn global_pool(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (x, [n, c, ..]) = self.image(op)?;
        let edge = self.node(op.output(), Operator::GlobalAveragePool, &[x])?;
        Ok(Value::View(View { edge, shape: vec![n, c, 1, 1], layout: Layout::Plain }))
    }

    /// ReduceMean over an image, or as the first step of a LayerNorm.
    fn reduce_mean(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        if rank == 0 {
            return Err(op.refuse("a mean of a single number", "leave it out"));
        }
        let axes = self.axes(op)?.unwrap_or_else(|| (0..rank as i64).collect());
        let axes = axes.into_iter().map(|a| op.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        let keep = op.int("keepdims", 1) != 0;
        if axes == [rank - 1] && keep {
            let mut shape = value.shape().to_vec();
            shape[rank - 1] = 1;
            if let Value::Pending(p, _) = &value
                && let Pending::Norm(x, NormStage::Squared) = &**p
            {
                return Ok(Value::pending(Pending::Norm(x.clone(), NormStage::Variance), shape));
            }
            let x = self.view(op, 0)?;
            return Ok(Value::pending(Pending::Norm(x, NormStage::Mean), shape));
        }
        if axes == [2, 3] && rank == 4 {
            let Value::View(view) = self.global_pool(op)? else { unreachable!("a pooling is an edge") };
            let shape = if keep { view.shape.clone() } else { view.shape[..2].to_vec() };
            return Ok(Value::View(View { shape, ..view }));
        }
        Err(op.refuse(
            format!("a mean over axes {axes:?} of {:?}", value.shape()),
            "only means over an image's pixels and those of a LayerNorm are translated",
        ))
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

fn without_ones(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&s| s != 1).collect()
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
