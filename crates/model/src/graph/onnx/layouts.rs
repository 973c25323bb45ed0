//! Layouts: values whose elements lie in another order than ONNX says are put in order only where that is needed.

use super::constant::Constant;
use super::error::OnnxError;
use super::importer::{Importer, canonical};
use super::op::Op;
use super::value::{Layout, Value, View};
use crate::graph::expression::BinaryFunction;
use crate::graph::network::EdgeId;
use crate::graph::operator::{Operator, elements};
use crate::graph::rearrange::broadcast_shape;

/// A shape as an edge has it: a single number is a vector.
pub(super) fn full(shape: &[usize]) -> Vec<usize> {
    if shape.is_empty() { vec![1] } else { shape.to_vec() }
}

/// An operand of which some axes are worked on, where it lies.
pub(super) struct Along {
    pub(super) edge: EdgeId,
    /// Its ONNX shape.
    pub(super) shape: Vec<usize>,
    layout: Layout,
}

impl Along {
    /// An edge in ONNX order.
    pub(super) fn plain(edge: EdgeId, shape: Vec<usize>) -> Self {
        Self { edge, shape, layout: Layout::Plain }
    }

    /// The edge's axis behind an ONNX axis.
    pub(super) fn axis(&self, axis: usize) -> usize {
        match (self.layout, axis) {
            (Layout::ChannelsFirst, 1) => self.shape.len() - 1,
            (Layout::ChannelsFirst, 2..) => axis - 1,
            _ => axis,
        }
    }

    /// One number an ONNX axis, in the order of the edge's axes.
    pub(super) fn sizes<T: Copy>(&self, onnx: &[T]) -> Vec<T> {
        let mut sizes = onnx.to_vec();
        (0..onnx.len()).for_each(|axis| sizes[self.axis(axis)] = onnx[axis]);
        sizes
    }

    /// The view of a result that has this ONNX shape.
    pub(super) fn view(&self, edge: EdgeId, shape: Vec<usize>) -> View {
        View { edge, shape, layout: self.layout }
    }
}

impl Importer<'_> {
    /// The edge under another shape of as many elements.
    pub(super) fn shaped(&mut self, name: &str, edge: EdgeId, shape: &[usize]) -> Result<EdgeId, OnnxError> {
        if self.builder.shape(edge) == shape {
            return Ok(edge);
        }
        self.node(&format!("{name}.shaped"), Operator::Reshape { shape: shape.to_vec() }, &[edge])
    }

    /// The edge with its axes in another order; a view if only axes of size 1 move.
    fn ordered(&mut self, name: &str, edge: EdgeId, order: Vec<usize>) -> Result<EdgeId, OnnxError> {
        let shape: Vec<usize> = order.iter().map(|&axis| self.builder.shape(edge)[axis]).collect();
        let real: Vec<usize> = order.iter().copied().filter(|&axis| self.builder.shape(edge)[axis] > 1).collect();
        if real.is_sorted() {
            return self.shaped(name, edge, &shape);
        }
        self.node(&format!("{name}.ordered"), Operator::Transpose { order }, &[edge])
    }

    /// An edge with the elements of a view in ONNX order and its full shape.
    pub(super) fn in_order(&mut self, name: &str, view: &View) -> Result<EdgeId, OnnxError> {
        let shape = full(&view.shape);
        let rank = shape.len();
        match view.layout {
            Layout::Plain => self.shaped(name, view.edge, &shape),
            Layout::ChannelsFirst => {
                let edge = self.channels_last(name, view)?;
                let order = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
                self.ordered(name, edge, order)
            }
            Layout::SplitChannels => {
                let edge = self.shaped(name, view.edge, &[shape[0], shape[3], shape[4], shape[1], shape[2]])?;
                self.ordered(name, edge, vec![0, 3, 4, 1, 2])
            }
            Layout::FlatImage { pixels } => {
                let (images, all) = (shape[0], shape[1]);
                let edge = self.shaped(name, view.edge, &[images, pixels, all / pixels])?;
                let edge = self.ordered(name, edge, vec![0, 2, 1])?;
                self.shaped(name, edge, &shape)
            }
            Layout::Heads { transposed } => {
                let [batch @ .., heads, tokens, size] = &shape[..] else { unreachable!("heads have three axes") };
                let (tokens, size) = if transposed { (size, tokens) } else { (tokens, size) };
                let lead = batch.len();
                let edge = self.shaped(name, view.edge, &[batch, &[*tokens, *heads, *size]].concat())?;
                let last = if transposed { [1, 2, 0] } else { [1, 0, 2] };
                self.ordered(name, edge, (0..lead).chain(last.map(|axis| lead + axis)).collect())
            }
        }
    }

    /// A view with channels first as an edge `[n, .., c]`.
    pub(super) fn channels_last(&mut self, name: &str, view: &View) -> Result<EdgeId, OnnxError> {
        let [n, c, ref space @ ..] = full(&view.shape)[..] else { unreachable!("such a view has channels") };
        self.shaped(name, view.edge, &[&[n], space, &[c]].concat())
    }

    /// Operand `index` as an edge of its full ONNX shape, elements in order.
    pub(super) fn tensor(&mut self, op: Op<'_>, index: usize) -> Result<EdgeId, OnnxError> {
        if let Some(c) = self.constant(op, index)? {
            return self.constant_edge(op, index, &c);
        }
        let view = self.view(op, index)?;
        self.in_order(op.output(), &view)
    }

    /// A constant operand as an edge.
    fn constant_edge(&mut self, op: Op<'_>, index: usize, c: &Constant) -> Result<EdgeId, OnnxError> {
        let name = &op.node.input[index];
        self.weight(name, &full(&c.shape), c.floats(), None)
    }

    /// Operand `index` where it lies.
    pub(super) fn along(&mut self, op: Op<'_>, index: usize) -> Result<Along, OnnxError> {
        if self.constant(op, index)?.is_none() {
            let view = self.view(op, index)?;
            if view.layout == Layout::ChannelsFirst {
                let edge = self.channels_last(op.output(), &view)?;
                return Ok(Along { edge, shape: view.shape, layout: Layout::ChannelsFirst });
            }
        }
        let edge = self.tensor(op, index)?;
        Ok(Along { edge, shape: self.builder.shape(edge).to_vec(), layout: Layout::Plain })
    }

    /// The result of an operator on edges of full shapes in ONNX order.
    pub(super) fn made(&mut self, op: Op<'_>, operator: Operator, operands: &[EdgeId]) -> Result<Value, OnnxError> {
        let edge = self.node(op.output(), operator, operands)?;
        Ok(self.plain_value(edge))
    }

    /// The value that an edge is, elements in order.
    pub(super) fn plain_value(&self, edge: EdgeId) -> Value {
        Value::View(View { edge, shape: self.builder.shape(edge).to_vec(), layout: Layout::Plain })
    }

    /// A function of operands that stretch, with channels last if one is an image and the others can follow.
    pub(super) fn stretched(&mut self, op: Op<'_>, operator: Operator) -> Result<Value, OnnxError> {
        let count = op.node.input.len();
        // Before a constant is turned or stretched.
        let values = (0..count).map(|index| self.value(op, index)).collect::<Result<Vec<_>, _>>()?;
        let shapes: Vec<Vec<usize>> = values.iter().map(|value| full(value.shape())).collect();
        broadcast_shape(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())
            .map_err(|reason| op.refuse(reason, "check the model"))?;
        if let Some(rank) = self.image_rank(op)? {
            let edges = (0..count).map(|index| self.beside_image(op, index, rank)).collect::<Result<Vec<_>, _>>()?;
            if let Some(edges) = edges.into_iter().collect::<Option<Vec<_>>>() {
                let edge = self.node(op.output(), operator, &edges)?;
                let [n, ref space @ .., c] = *self.builder.shape(edge) else { unreachable!("an image has channels") };
                let shape = [&[n, c], space].concat();
                return Ok(Value::View(View { edge, shape, layout: Layout::ChannelsFirst }));
            }
        }
        let edges = (0..count).map(|index| self.tensor(op, index)).collect::<Result<Vec<_>, _>>()?;
        // The sum of two tensors of one shape is the accelerator's.
        let same = edges.iter().all(|&edge| self.builder.shape(edge) == self.builder.shape(edges[0]));
        let sum = operator == (Operator::Binary { function: BinaryFunction::Add }) && same;
        self.made(op, if sum { Operator::Add } else { operator }, &edges)
    }

    /// The rank of an operand with channels first, if there is one and none has more axes.
    fn image_rank(&mut self, op: Op<'_>) -> Result<Option<usize>, OnnxError> {
        let (mut rank, mut most) = (None, 0);
        for index in 0..op.node.input.len() {
            let value = self.value(op, index)?;
            most = most.max(value.shape().len());
            if !matches!(value, Value::Constant(_)) {
                let view = self.view(op, index)?;
                if view.layout == Layout::ChannelsFirst {
                    rank = Some(view.shape.len());
                }
            }
        }
        Ok(rank.filter(|&rank| rank == most))
    }

    /// Operand `index` with channels last, if it stretches over an image of that rank.
    fn beside_image(&mut self, op: Op<'_>, index: usize, rank: usize) -> Result<Option<EdgeId>, OnnxError> {
        let last = |shape: &[usize]| -> Vec<usize> {
            let mut shape = [&vec![1; rank - shape.len()], shape].concat();
            shape[1..].rotate_left(1);
            shape
        };
        if let Some(c) = self.constant(op, index)? {
            let first = [vec![1; rank - c.shape.len()], c.shape.clone()].concat();
            let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
            let c = Constant { shape: first, ..(*c).clone() }.transposed(&order);
            return self.constant_edge(op, index, &c).map(Some);
        }
        let view = self.view(op, index)?;
        match view.layout {
            Layout::ChannelsFirst if view.shape.len() == rank => self.channels_last(op.output(), &view).map(Some),
            // Without channels or without pixels both orders are one.
            Layout::Plain => {
                let shape = last(&view.shape);
                let [_, space @ .., c] = &shape[..] else { return Ok(None) };
                let one = *c == 1 || space.iter().all(|&size| size == 1);
                if one { self.shaped(op.output(), view.edge, &shape).map(Some) } else { Ok(None) }
            }
            _ => Ok(None),
        }
    }

    /// A view under another shape, where it lies if the layout allows.
    pub(super) fn reshape_view(&mut self, op: Op<'_>, view: View, shape: Vec<usize>) -> Result<View, OnnxError> {
        let layout = match view.layout {
            Layout::Plain => Some(Layout::Plain),
            Layout::ChannelsFirst | Layout::SplitChannels => reshaped_image(&view, &shape),
            Layout::Heads { .. } => {
                (without_ones(&view.shape) == without_ones(&shape) && shape.len() >= 3).then_some(view.layout)
            }
            Layout::FlatImage { .. } => None,
        };
        match layout {
            Some(layout) => Ok(View { edge: view.edge, shape, layout }),
            None => {
                let edge = self.in_order(op.output(), &view)?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
        }
    }

    /// The edge behind a view in its canonical shape, elements in order.
    pub(super) fn reshaped(&mut self, op: Op<'_>, view: View) -> Result<View, OnnxError> {
        let wanted = full(canonical(&view.shape));
        if view.layout == Layout::Plain && self.builder.shape(view.edge) == wanted {
            return Ok(view);
        }
        let edge = if view.layout == Layout::Plain { view.edge } else { self.in_order(op.output(), &view)? };
        let edge = if self.builder.shape(edge) == wanted {
            edge
        } else {
            self.node(op.name(), Operator::Reshape { shape: wanted }, &[edge])?
        };
        Ok(View { edge, layout: Layout::Plain, ..view })
    }
}

pub(super) fn without_ones(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&s| s != 1).collect()
}

/// The layout of an image's elements under another shape, if they need not move.
fn reshaped_image(view: &View, shape: &[usize]) -> Option<Layout> {
    let split = view.layout == Layout::SplitChannels;
    let axes = if split { 2 } else { 1 };
    let (images, channels) = (view.shape[0], view.shape[1..=axes].iter().product::<usize>());
    let pixels: usize = view.shape[axes + 1..].iter().product();
    let size = |part: &[usize]| elements(part);
    match shape {
        _ if channels == 1 || pixels == 1 => Some(Layout::Plain),
        [n, c, space @ ..] if *n == images && *c == channels && size(space) == Some(pixels) => {
            Some(Layout::ChannelsFirst)
        }
        [n, a, b, h, w] if *n == images && size(&[*a, *b]) == Some(channels) && size(&[*h, *w]) == Some(pixels) => {
            Some(Layout::SplitChannels)
        }
        [n, all] if *n == images && size(&[*all]) == size(&[channels, pixels]) && !split => {
            Some(Layout::FlatImage { pixels })
        }
        _ => None,
    }
}
