//! Rows behind those of an input, as of a cache of keys or values: the new ones are made in the buffer's free rows, and nothing is
//! copied.

use pollux_kernels::View;
use pollux_model::graph::{EdgeId, IntegerGraph, IntegerOperation, Source, Values};

use super::Network;
use crate::error::CompileError;

/// A concatenation of an input and a result that need not be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append {
    /// The input, which comes first.
    pub input: EdgeId,
    /// The rows behind it.
    pub new: EdgeId,
    /// Both.
    pub whole: EdgeId,
}

/// The concatenations of rows in one unit whose first operand is an input that nothing else joins, and whose second one is
/// made by an operation of its own.
pub(super) fn appends(graph: &IntegerGraph) -> Vec<Append> {
    let mut found: Vec<Append> = Vec::new();
    for step in &graph.steps {
        let IntegerOperation::Concat { axis: 0, scales } = &step.operation else { continue };
        let [input, new] = step.inputs[..] else { continue };
        let source = |edge: EdgeId| graph.graph.edge(edge).source;
        let makes = |edge: EdgeId| {
            let step = graph.steps.iter().find(|step| step.output == edge);
            step.is_some_and(|step| step.operation != IntegerOperation::Reshape)
        };
        let single = !found.iter().any(|other| [other.input, other.new].iter().any(|edge| [input, new].contains(edge)));
        let formats = [input, new, step.output].iter().all(|&edge| graph.is_int8(edge));
        if scales[..] == [1.0; 2] && source(input) == Source::Input && makes(new) && single && formats {
            found.push(Append { input, new, whole: step.output });
        }
    }
    found
}

impl Network<'_> {
    /// Memory for all rows, the input's in front.
    pub(super) fn append(&mut self, append: &Append, input: Option<&Values>) -> Result<(), CompileError> {
        let name = self.graph.graph.edge(append.whole).name.clone();
        let (rows, cols) = self.extent(append.whole);
        let first = self.extent(append.input).0;
        let mut data = input.map_or_else(Vec::new, |values| values.int8().to_vec());
        data.resize(rows * cols, 0);
        let whole: View = self.lowering.builder.buffer_i8(&name, rows, cols, &data)?;
        self.tensors.insert(append.input, whole.rows(0..first)?);
        self.tensors.insert(append.whole, whole);
        self.places.insert(append.new, whole.rows(first..rows)?);
        Ok(())
    }
}
