//! Operators that move elements: Transpose, Slice, Split, Gather, Pad, Expand, Tile and their like.

use super::constant::Constant;
use super::error::OnnxError;
use super::fold::order;
use super::importer::{Importer, canonical};
use super::layouts::{Along, full};
use super::op::Op;
use super::value::{Layout, Value, View};
use crate::graph::network::EdgeId;
use crate::graph::operator::{Conv2d, Operator, Window, elements};

/// Largest size to which an axis is stretched.
const MAX_STRETCHED: usize = 1 << 24;

impl Importer<'_> {
    /// Some of the slices of an operand along an ONNX axis.
    fn taken(&mut self, name: &str, along: &mut Along, axis: usize, indices: Vec<usize>) -> Result<(), OnnxError> {
        if indices.iter().copied().eq(0..along.shape[axis]) {
            return Ok(());
        }
        // Each index is kept.
        self.charge(indices.len())?;
        along.shape[axis] = indices.len();
        let take = Operator::Take { axis: along.axis(axis), indices };
        along.edge = self.node(name, take, &[along.edge])?;
        Ok(())
    }

    /// Transpose: into heads and back, between image layouts, of the channels of an image, or any other.
    pub(super) fn transpose(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let view = self.view(op, 0)?;
        let order = order(op, view.shape.len())?;
        let shape: Vec<usize> = order.iter().map(|&a| view.shape[a]).collect();
        let rank = order.len();
        // Attention's transpositions with and without a batch dimension, the batch left out.
        let inner: Vec<usize> = match order[..] {
            [0, ..] if rank == 4 => order[1..].iter().map(|a| a - 1).collect(),
            _ => order.clone(),
        };
        let back = [0].into_iter().chain(2..rank).chain([1]);
        let forth = [0, rank.wrapping_sub(1)].into_iter().chain(1..rank.saturating_sub(1));
        let heads = |transposed| Layout::Heads { transposed };
        let (view, layout) = match (view.layout, &inner[..]) {
            (_, same) if same.iter().copied().eq(0..same.len()) => (view.clone(), view.layout),
            (Layout::ChannelsFirst, _) if order.iter().copied().eq(back) => (view, Layout::Plain),
            (Layout::Plain, _) if (3..=4).contains(&rank) && view.shape[0] == 1 && order.iter().copied().eq(forth) => {
                (view, Layout::ChannelsFirst)
            }
            (Layout::Plain, [1, 0, 2]) => (self.split_heads(op, view)?, heads(false)),
            (Layout::Plain, [1, 2, 0]) => (self.split_heads(op, view)?, heads(true)),
            (Layout::Heads { transposed: false }, [1, 0, 2]) | (Layout::Heads { transposed: true }, [2, 0, 1]) => {
                (view, Layout::Plain)
            }
            (Layout::Heads { transposed }, [0, 2, 1]) => (view, heads(!transposed)),
            (Layout::SplitChannels, _) if order == [0, 2, 1, 3, 4] => {
                let edge = self.shuffled(op, &view)?;
                (View { edge, ..view }, Layout::SplitChannels)
            }
            _ => {
                let edge = self.in_order(op.output(), &view)?;
                return self.made(op, Operator::Transpose { order }, &[edge]);
            }
        };
        Ok(Value::View(View { edge: view.edge, shape, layout }))
    }

    /// An image with its two channel axes swapped: a product with a permutation, which the accelerator does exactly.
    fn shuffled(&mut self, op: Op<'_>, view: &View) -> Result<EdgeId, OnnxError> {
        let [n, a, b, h, w] = view.shape[..] else { unreachable!("split channels are two axes") };
        let channels = a * b;
        let x = self.shaped(op.output(), view.edge, &[n, h, w, channels])?;
        let mut weights = vec![0.0; channels * channels];
        // Channel i * b + j becomes j * a + i.
        for (i, j) in (0..a).flat_map(|i| (0..b).map(move |j| (i, j))) {
            weights[(i * b + j) * channels + j * a + i] = 1.0;
        }
        let name = format!("{}.permutation", op.output());
        let weights = self.weight(&name, &[1, 1, channels, channels], weights, None)?;
        let conv = Conv2d { window: Window::square(1, 1, 0), groups: 1, bias: false };
        self.node(op.output(), Operator::Conv2d(conv), &[x, weights])
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

    /// Numbers of an attribute or of operand `index`, which is a constant.
    fn numbers(&self, op: Op<'_>, index: usize, name: &str) -> Result<Option<Vec<i64>>, OnnxError> {
        if op.has(index) {
            return Ok(Some(self.required_constant(op, index, name)?.integers()));
        }
        Ok(op.ints(name).map(<[i64]>::to_vec))
    }

    /// Slice: parts along some axes.
    pub(super) fn slice(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let starts = self.numbers(op, 1, "starts")?.unwrap_or_default();
        let ends = self.numbers(op, 2, "ends")?.unwrap_or_default();
        let axes = self.numbers(op, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.numbers(op, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(op.refuse("starts, ends, axes and steps of different numbers", "export the model again"));
        }
        let value = self.value(op, 0)?;
        let mut parts = Vec::new();
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let axis = op.axis(axis, value.shape().len())?;
            let rows = slice_rows(start, end, step, value.shape()[axis])
                .ok_or_else(|| op.refuse(format!("a step of {step}"), "give a step other than 0"))?;
            parts.push((axis, rows));
        }
        self.parts(op, op.output(), value, parts)
    }

    /// Some slices along some axes of operand 0, whose value is given.
    fn parts(
        &mut self,
        op: Op<'_>,
        name: &str,
        value: Value,
        parts: Vec<(usize, Vec<usize>)>,
    ) -> Result<Value, OnnxError> {
        if let Value::Constant(c) = &value {
            let part = |c: Constant, (axis, rows): &(usize, Vec<usize>)| c.gather(&Constant::sizes(rows), *axis);
            let part = parts.iter().try_fold((**c).clone(), part);
            return part.map(Value::constant).ok_or_else(|| op.refuse("rows outside the constant", "export again"));
        }
        if parts.iter().all(|(axis, rows)| rows.iter().copied().eq(0..value.shape()[*axis])) {
            return Ok(value);
        }
        if let Some((axis, _)) = parts.iter().find(|(_, rows)| rows.is_empty()) {
            return Err(op.refuse(format!("an empty part along axis {axis}"), "export the model without it"));
        }
        let mut along = self.along(op, 0)?;
        for (axis, rows) in parts {
            self.taken(name, &mut along, axis, rows)?;
        }
        let shape = along.shape.clone();
        Ok(Value::View(along.view(along.edge, shape)))
    }

    /// Split of a tensor: its parts along an axis; `sizes` has one for each.
    pub(super) fn split_parts(&mut self, op: Op<'_>, axis: usize, sizes: &[usize]) -> Result<Vec<Value>, OnnxError> {
        let mut first = 0;
        let mut values = Vec::new();
        for (&size, name) in sizes.iter().zip(&op.node.output) {
            let rows: Vec<usize> = (first..first + size).collect();
            first += size;
            let value = self.value(op, 0)?;
            values.push(self.parts(op, name, value, vec![(axis, rows)])?);
        }
        Ok(values)
    }

    /// Gather: of rows of a constant table by run-time indices, of some slices, or any other.
    pub(super) fn gather(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        let axis = op.axis(op.int("axis", 0), rank)?;
        if let Some(indices) = self.constant(op, 1)? {
            let size = value.shape()[axis] as i64;
            let row =
                |row: i64| usize::try_from(if row < 0 { row + size } else { row }).ok().filter(|&r| r < size as usize);
            let rows = indices.integers().into_iter().map(row).collect::<Option<Vec<_>>>();
            let rows = rows.ok_or_else(|| op.refuse("an index outside the tensor", "export the model again"))?;
            let part = self.parts(op, op.output(), value, vec![(axis, rows)])?;
            let old = part.shape();
            let shape = [&old[..axis], &indices.shape[..], &old[axis + 1..]].concat();
            let Value::View(view) = part else { return Ok(part) };
            return self.reshape_view(op, view, shape).map(Value::View);
        }
        match &value {
            Value::Constant(table) if table.shape.len() == 2 && axis == 0 => {
                let (rows, width) = (table.shape[0], table.shape[1]);
                let ids = self.view(op, 1)?;
                let edge = if ids.layout == Layout::Plain { ids.edge } else { self.in_order(op.output(), &ids)? };
                table.check_finite(&op.node.input[0])?;
                let words = self.weight(&format!("{}.table", op.output()), &[rows, width], table.floats(), None)?;
                let lookup = Operator::Embedding { position: false, segment: false, first: 0 };
                let edge = self.node(op.output(), lookup, &[edge, words])?;
                Ok(Value::View(View { edge, shape: [&ids.shape[..], &[width]].concat(), layout: Layout::Plain }))
            }
            _ => {
                let operands = [self.tensor(op, 0)?, self.tensor(op, 1)?];
                self.made(op, Operator::Gather { axis }, &operands)
            }
        }
    }

    /// Concat of tensors along an axis, images among themselves.
    pub(super) fn concat(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let count = op.node.input.len();
        let operands = (0..count).map(|index| self.along(op, index)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = operands.first() else { return Err(op.refuse("no operands", "export the model again")) };
        let mut shape = full(&first.shape);
        let axis = op.axis(op.int("axis", i64::MAX), shape.len())?;
        let fits = |other: &Along| {
            other.shape.len() == shape.len() && (0..shape.len()).all(|a| a == axis || other.shape[a] == shape[a])
        };
        if let Some(other) = operands.iter().find(|other| !fits(other)) {
            return Err(op.refuse(
                format!("operands {shape:?} and {:?} along axis {axis}", other.shape),
                "all sizes but that axis's must agree",
            ));
        }
        shape[axis] = operands.iter().map(|operand| operand.shape[axis]).sum();
        if operands.iter().all(Along::is_image) {
            let edges: Vec<EdgeId> = operands.iter().map(|operand| operand.edge).collect();
            let edge = self.node(op.output(), Operator::Concat { axis: operands[0].axis(axis) }, &edges)?;
            return Ok(Value::View(operands[0].view(edge, shape)));
        }
        let edges = (0..count).map(|index| self.tensor(op, index)).collect::<Result<Vec<_>, _>>()?;
        // Leading ones are left out as elsewhere, unless they are joined here.
        let dropped = (shape.len() - canonical(&shape).len()).min(axis);
        let edges = edges
            .into_iter()
            .map(|edge| {
                let part = self.builder.shape(edge)[dropped..].to_vec();
                self.shaped(op.output(), edge, &part)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let edge = self.node(op.output(), Operator::Concat { axis: axis - dropped }, &edges)?;
        Ok(Value::View(View { edge, shape, layout: Layout::Plain }))
    }

    /// Expand and Tile: slices that repeat.
    pub(super) fn repeat(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let wanted = self.required_constant(op, 1, "a shape")?.integers();
        let size = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0);
        let wanted = wanted.into_iter().map(size).collect::<Option<Vec<_>>>();
        let wanted = wanted.ok_or_else(|| op.refuse("a size of 0 or less", "give sizes of at least 1"))?;
        let old = self.value(op, 0)?.shape().to_vec();
        let rank = old.len().max(wanted.len());
        let lead = |shape: &[usize]| [vec![1; rank - shape.len()], shape.to_vec()].concat();
        let (old, wanted) = (lead(&old), lead(&wanted));
        let tile = op.kind() == "Tile";
        let new: Option<Vec<usize>> = (old.iter().zip(&wanted))
            .map(|(&old, &wanted)| match () {
                () if tile => old.checked_mul(wanted),
                () if old == 1 || wanted == 1 || old == wanted => Some(old.max(wanted)),
                () => None,
            })
            .collect();
        // Beyond the largest of an axis the list of its indices alone would fill the memory.
        let new = new.filter(|new| elements(new).is_some() && new.iter().all(|&size| size <= MAX_STRETCHED));
        let new = new.ok_or_else(|| op.refuse(format!("{old:?} stretched by {wanted:?}"), "export the model again"))?;
        let edge = self.tensor(op, 0)?;
        let edge = self.shaped(op.output(), edge, &full(&old))?;
        let mut along = Along::plain(edge, full(&old));
        for (axis, &size) in new.iter().enumerate() {
            if size != old[axis] {
                self.taken(op.output(), &mut along, axis, (0..size).map(|i| i % old[axis]).collect())?;
            }
        }
        Ok(Value::View(along.view(along.edge, new)))
    }

    /// Pad: with a number, or with the tensor's own slices.
    pub(super) fn pad(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let pads = self.numbers(op, 1, "pads")?.unwrap_or_default();
        let value = match op.has(2) {
            true => self.required_constant(op, 2, "a value")?.scalar().unwrap_or(0.0) as f32,
            false => op.float("value", 0.0),
        };
        let mut along = self.along(op, 0)?;
        let rank = along.shape.len();
        let axes = match op.has(3) {
            true => self.required_constant(op, 3, "axes")?.integers(),
            false => (0..rank as i64).collect(),
        };
        if pads.len() != 2 * axes.len() || !value.is_finite() {
            return Err(op.refuse(format!("pads {pads:?} and value {value}"), "give two sizes an axis and a number"));
        }
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        let mode = op.text("mode");
        for (i, &axis) in axes.iter().enumerate() {
            let axis = op.axis(axis, rank)?;
            let (first, last) = (pads[i], pads[i + axes.len()]);
            let rows = padded_rows(mode, first, last, along.shape[axis])
                .ok_or_else(|| op.refuse(format!("mode {mode} with pads {pads:?}"), "pad by less than the tensor"))?;
            self.taken(op.output(), &mut along, axis, rows)?;
            if matches!(mode, "" | "constant") {
                (before[axis], after[axis]) = (first.max(0) as usize, last.max(0) as usize);
            }
        }
        if before.iter().chain(&after).all(|&size| size == 0) {
            let shape = along.shape.clone();
            return Ok(Value::View(along.view(along.edge, shape)));
        }
        let shape = (0..rank).map(|axis| before[axis] + along.shape[axis] + after[axis]).collect();
        let pad = Operator::Pad { before: along.sizes(&before), after: along.sizes(&after), value };
        let edge = self.node(op.output(), pad, &[along.edge])?;
        Ok(Value::View(along.view(edge, shape)))
    }

    /// DepthToSpace and SpaceToDepth.
    pub(super) fn space(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let block = usize::try_from(op.int("blocksize", 0)).unwrap_or(0);
        let x = self.tensor(op, 0)?;
        let [n, c, h, w] = self.builder.shape(x)[..] else {
            return Err(op.refuse("a tensor that is no image", "give it four dimensions"));
        };
        let to_space = op.kind() == "DepthToSpace";
        let squared = block.checked_mul(block).filter(|&squared| squared > 0);
        let fits = |squared: usize| match to_space {
            true => c.is_multiple_of(squared),
            false => h.is_multiple_of(block) && w.is_multiple_of(block),
        };
        let squared = squared.filter(|&squared| fits(squared));
        let squared =
            squared.ok_or_else(|| op.refuse(format!("blocks of {block}"), "use a size that divides the image"))?;
        let (split, order, shape) = match (to_space, op.text("mode")) {
            (true, "CRD") => (
                vec![n, c / squared, block, block, h, w],
                vec![0, 1, 4, 2, 5, 3],
                vec![n, c / squared, h * block, w * block],
            ),
            (true, _) => (
                vec![n, block, block, c / squared, h, w],
                vec![0, 3, 4, 1, 5, 2],
                vec![n, c / squared, h * block, w * block],
            ),
            (false, _) => (
                vec![n, c, h / block, block, w / block, block],
                vec![0, 3, 5, 1, 2, 4],
                vec![n, c * squared, h / block, w / block],
            ),
        };
        let x = self.shaped(op.output(), x, &split)?;
        let x = self.node(op.output(), Operator::Transpose { order }, &[x])?;
        let edge = self.shaped(op.output(), x, &shape)?;
        Ok(self.plain_value(edge))
    }
}

impl Along {
    fn is_image(&self) -> bool {
        // Only channels first are worked on out of their order.
        self.axis(1) != 1
    }
}

/// Rows of a Slice; none if the step is 0.
fn slice_rows(start: i64, end: i64, step: i64, size: usize) -> Option<Vec<usize>> {
    let size = size as i64;
    let from_front = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    match step {
        0 => None,
        1.. => {
            let (start, end) = (from_front(start).clamp(0, size), from_front(end).clamp(0, size));
            Some((start..end).step_by(step as usize).map(|row| row as usize).collect())
        }
        _ => {
            let (start, end) = (from_front(start).clamp(-1, size - 1), from_front(end).clamp(-1, size - 1));
            let count = if start > end { (start - end - 1) / step.saturating_neg() + 1 } else { 0 };
            Some((0..count).map(|i| (start + i * step) as usize).collect())
        }
    }
}

/// Rows of a padded axis that are the tensor's own; a constant padding cuts only. None if there are too few.
fn padded_rows(mode: &str, first: i64, last: i64, size: usize) -> Option<Vec<usize>> {
    /// More would be no image's.
    const MOST: i64 = 1 << 24;
    let size = i64::try_from(size).ok()?;
    if first.unsigned_abs().max(last.unsigned_abs()) > MOST as u64 {
        return None;
    }
    let (first, last) = if matches!(mode, "" | "constant") { (first.min(0), last.min(0)) } else { (first, last) };
    let row = |at: i64| match mode {
        "reflect" if at < 0 => Some(-at),
        "reflect" if at >= size => Some(2 * (size - 1) - at),
        "edge" => Some(at.clamp(0, size - 1)),
        "wrap" => Some(at.rem_euclid(size)),
        _ => Some(at),
    };
    let rows = (-first..size + last).map(row).collect::<Option<Vec<i64>>>()?;
    let inside = !rows.is_empty() && rows.iter().all(|row| (0..size).contains(row));
    (inside && ["", "constant", "reflect", "edge", "wrap"].contains(&mode))
        .then(|| rows.into_iter().map(|row| row as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_from_both_ends_and_in_both_directions() {
        assert_eq!(slice_rows(1, i64::MAX, 2, 6), Some(vec![1, 3, 5]));
        assert_eq!(slice_rows(-3, -1, 1, 6), Some(vec![3, 4]));
        assert_eq!(slice_rows(-1, i64::MIN, -1, 3), Some(vec![2, 1, 0]));
        assert_eq!(slice_rows(4, 0, -2, 6), Some(vec![4, 2]));
        assert_eq!(slice_rows(5, i64::MIN, i64::MIN, 6), Some(vec![5]));
        assert_eq!(slice_rows(2, 1, 1, 6), Some(vec![]));
        assert_eq!(slice_rows(0, 1, 0, 6), None);
    }

    #[test]
    fn paddings_by_the_tensor_itself_have_its_rows() {
        assert_eq!(padded_rows("reflect", 2, 1, 3), Some(vec![2, 1, 0, 1, 2, 1]));
        assert_eq!(padded_rows("edge", 1, 2, 3), Some(vec![0, 0, 1, 2, 2, 2]));
        assert_eq!(padded_rows("wrap", 1, 1, 3), Some(vec![2, 0, 1, 2, 0]));
        assert_eq!(padded_rows("constant", 5, -1, 3), Some(vec![0, 1]));
        assert_eq!(padded_rows("reflect", 3, 0, 3), None);
        assert_eq!(padded_rows("constant", -2, -1, 3), None);
        assert_eq!(padded_rows("strange", 0, 0, 3), None);
        assert_eq!(padded_rows("edge", i64::MIN, i64::MAX, 3), None);
    }
}
