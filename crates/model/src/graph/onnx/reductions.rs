//! Softmax along any axis, means and other reductions.

use super::error::OnnxError;
use super::importer::Importer;
use super::op::Op;
use super::value::{Layout, NormStage, Pending, Scores, Value, View};
use crate::graph::operator::{Operator, Reduction};

impl Importer<'_> {
    pub(super) fn softmax(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        // Before version 13 the axes from `axis` on were one.
        let before = self.version < 13;
        let axis = op.axis(op.int("axis", if before { 1 } else { -1 }), rank)?;
        if let Value::Pending(p, shape) = &value
            && let Pending::Scores(scores) = &**p
            && !scores.probabilities
            && axis + 1 == rank
        {
            let scores = Scores { probabilities: true, ..scores.clone() };
            return Ok(Value::pending(Pending::Scores(scores), shape.clone()));
        }
        if before && axis + 1 != rank {
            let x = self.tensor(op, 0)?;
            let shape = self.builder.shape(x).to_vec();
            let rows = [shape[..axis].iter().product(), shape[axis..].iter().product()];
            let x = self.shaped(op.output(), x, &rows)?;
            let edge = self.node(op.output(), Operator::Softmax, &[x])?;
            return Ok(Value::View(View { edge, shape, layout: Layout::Plain }));
        }
        let view = self.view(op, 0)?;
        if view.layout == Layout::ChannelsFirst && axis == 1 {
            let x = self.channels_last(op.output(), &view)?;
            let edge = self.node(op.output(), Operator::Softmax, &[x])?;
            return Ok(Value::View(View { edge, ..view }));
        }
        if axis + 1 == rank {
            let x = self.plain(op, 0)?;
            let edge = self.node(op.output(), Operator::Softmax, &[x.edge])?;
            return Ok(Value::View(View { edge, ..x }));
        }
        let x = self.tensor(op, 0)?;
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(axis, rank - 1);
        let x = self.node(op.output(), Operator::Transpose { order: order.clone() }, &[x])?;
        let x = self.node(op.output(), Operator::Softmax, &[x])?;
        self.made(op, Operator::Transpose { order }, &[x])
    }

    /// GlobalAveragePool, `[n, c, 1, ..]`.
    pub(super) fn global_pool(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let rank = self.value(op, 0)?.shape().len();
        let (x, [n, c, ..]) = self.image(op)?;
        let edge = self.node(op.output(), Operator::GlobalAveragePool, &[x])?;
        let shape = [vec![n, c], vec![1; rank - 2]].concat();
        Ok(Value::View(View { edge, shape, layout: Layout::Plain }))
    }

    /// GlobalMaxPool: the largest of each channel, `[n, c, 1, ..]`.
    pub(super) fn global_max(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let rank = self.value(op, 0)?.shape().len();
        self.reduced(op, Reduction::Max, &(2..rank).collect::<Vec<_>>(), true)
    }

    /// ReduceMean over an image, as the first step of a LayerNorm, or any other.
    pub(super) fn reduce_mean(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        let (axes, keep) = self.reduced_axes(op, rank)?;
        if axes == [rank - 1] && keep && !matches!(&value, Value::View(v) if v.layout == Layout::ChannelsFirst) {
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
        let image = match &value {
            Value::Pending(p, _) => matches!(&**p, Pending::Convolution(c) if c.rows.is_none()),
            Value::View(view) => view.layout == Layout::ChannelsFirst,
            Value::Constant(_) => false,
        };
        if axes == [2, 3] && rank == 4 && image {
            let Value::View(view) = self.global_pool(op)? else { unreachable!("a pooling is an edge") };
            let shape = if keep { view.shape.clone() } else { view.shape[..2].to_vec() };
            return Ok(Value::View(View { shape, ..view }));
        }
        self.reduced(op, Reduction::Mean, &axes, keep)
    }

    /// Any other reduction.
    pub(super) fn reduce(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let function = match op.kind() {
            "ReduceSum" => Reduction::Sum,
            "ReduceMax" => Reduction::Max,
            "ReduceMin" => Reduction::Min,
            "ReduceProd" => Reduction::Product,
            "ReduceL2" => Reduction::Norm,
            "ArgMax" => Reduction::ArgMax,
            _ => Reduction::ArgMin,
        };
        let rank = self.value(op, 0)?.shape().len();
        let (axes, keep) = match function {
            Reduction::ArgMax | Reduction::ArgMin => {
                (vec![op.axis(op.int("axis", 0), rank)?], op.int("keepdims", 1) != 0)
            }
            _ => self.reduced_axes(op, rank)?,
        };
        self.reduced(op, function, &axes, keep)
    }

    /// Axes in ascending order, and whether they stay.
    fn reduced_axes(&self, op: Op<'_>, rank: usize) -> Result<(Vec<usize>, bool), OnnxError> {
        if rank == 0 {
            return Err(op.refuse("a reduction of a single number", "leave it out"));
        }
        let axes = self.axes(op)?.filter(|axes| !axes.is_empty()).unwrap_or_else(|| (0..rank as i64).collect());
        let mut axes = axes.into_iter().map(|a| op.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok((axes, op.int("keepdims", 1) != 0))
    }

    fn reduced(&mut self, op: Op<'_>, function: Reduction, axes: &[usize], keep: bool) -> Result<Value, OnnxError> {
        let along = self.along(op, 0)?;
        let mut own: Vec<usize> = axes.iter().map(|&axis| along.axis(axis)).collect();
        own.sort_unstable();
        let edge = self.node(op.output(), Operator::Reduce { function, axes: own, keep: true }, &[along.edge])?;
        let size = |axis: usize| if axes.contains(&axis) { 1 } else { along.shape[axis] };
        let view = along.view(edge, (0..along.shape.len()).map(size).collect());
        if keep {
            return Ok(Value::View(view));
        }
        let shape = (0..along.shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| along.shape[axis]).collect();
        self.reshape_view(op, view, shape).map(Value::View)
    }
}
