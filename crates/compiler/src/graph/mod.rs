//! Convolutional networks as one program: INT8 graphs, lowered operation by operation.
//!
//! Every tensor has a buffer of its own, images with channels last: pixels are rows, channels are columns. A view is the
//! same buffer under another shape. Rows appended to an input (a cache of keys) are made where they belong, behind it. Max pooling behind a convolution with ReLU is part of its stores, as in Gemmini's own
//! software, unless the plan says otherwise; then the convolution's result has no buffer.
//!
//! | file | role |
//! |---|---|
//! | `append` | rows behind those of an input |
//! | `placement` | what a build cannot do, and so is left to the host |
//! | `convolution` | which kernel does a convolution |
//! | `transformer` | attention, GELU, LayerNorm |
//! | `pooling` | max and average pooling |
//! | [`pipeline`] | from a float32 network and an input to a result with its accuracy and cycles |
//! | [`llama`] | passes of a Llama-like decoder, and the tokens that it generates |

mod append;
mod convolution;
pub mod llama;
pub mod pipeline;
mod placement;
mod pooling;
mod transformer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{Activation, Bias, GlobalAverage, KernelError, Mask, Matmul, Norm, ResidualAdd, View};
use pollux_memory::Memory;
use pollux_model::graph::{
    EdgeId, Format, IntegerGraph, IntegerOperation, Numbers, OperatorClass, RefusedNode, Step, Tensors, Values,
    Weights, scale_rows,
};

use crate::encoder::PlacedLayer;
use crate::error::CompileError;
use crate::host::{HostStep, read_values};
use crate::lowering::Lowering;
use crate::operation::{Compiled, OperationClass};
use crate::parameters;
use crate::plan::Plan;

/// A network as commands.
#[derive(Clone, Debug)]
pub struct CompiledGraph {
    /// Program and operations.
    pub compiled: Compiled,
    /// Where the tensors lie that have memory.
    pub tensors: BTreeMap<EdgeId, View>,
    /// The operations that make each of them; none make a view.
    pub operations: BTreeMap<EdgeId, Range<usize>>,
    /// The operations that are left to the host, with the reason.
    pub host: Vec<RefusedNode>,
    /// The tensors that begin with an input: their buffers have contents before the run.
    appended: BTreeSet<EdgeId>,
    /// What the elements of the tensors are.
    formats: BTreeMap<EdgeId, Format>,
}

impl CompiledGraph {
    /// Refuses a network that is not the accelerator's alone.
    ///
    /// # Errors
    /// All operations of the host, with the reasons.
    pub fn require_accelerator(&self) -> Result<(), CompileError> {
        if self.host.is_empty() { Ok(()) } else { Err(CompileError::Host { nodes: self.host.clone() }) }
    }

    /// Makes the integer reference's tensors the expected contents of their buffers; returns how many there are.
    ///
    /// # Errors
    /// A tensor of another size.
    pub fn expect(&mut self, reference: &Tensors) -> Result<usize, CompileError> {
        let mut expected = 0;
        for (edge, view) in &self.tensors {
            let Some(values) = reference.get(edge) else { continue };
            let mut buffers = self.compiled.program.buffers.iter_mut();
            // Views of other tensors share their buffers.
            let fresh = |data: &Option<Vec<u8>>| data.is_none() || self.appended.contains(edge);
            let buffer = buffers.find(|buffer| buffer.address == view.address && fresh(&buffer.data));
            let Some(buffer) = buffer.filter(|buffer| buffer.expected.is_none()) else { continue };
            let contents = values.to_bytes();
            if buffer.len() != contents.len() as u64 {
                let (what, found, expected) = (buffer.name.clone(), contents.len(), buffer.len() as usize);
                return Err(KernelError::Length { what, found, expected }.into());
            }
            buffer.expected = Some(contents);
            expected += 1;
        }
        Ok(expected)
    }

    /// A tensor's values after a run; nothing if it has no memory.
    pub fn read(&self, memory: &Memory, edge: EdgeId) -> Option<Values> {
        self.tensors.get(&edge).zip(self.formats.get(&edge)).map(|(view, format)| read_values(memory, view, format))
    }
}

/// Lowers a network for the given inputs.
///
/// # Errors
/// An operation that no kernel does (with its name), a build that lacks what it needs, or a plan that cannot be followed.
pub fn compile(
    config: GemminiConfig,
    plan: &Plan,
    graph: &IntegerGraph,
    inputs: &Tensors,
) -> Result<CompiledGraph, CompileError> {
    let lowering = Lowering::new(config, plan.clone())?;
    let (tensors, operations, host) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut network = Network { lowering, graph, tensors, operations, host, places: BTreeMap::new() };
    let appends = append::appends(graph);
    for append in &appends {
        network.append(append, inputs.get(&append.input))?;
    }
    for edge in graph.graph.inputs().filter(|edge| !appends.iter().any(|append| append.input == *edge)) {
        let (rows, cols) = network.extent(edge);
        let (name, builder) = (&graph.graph.edge(edge).name, &mut network.lowering.builder);
        let view = match inputs.get(&edge) {
            Some(Values::Float(data)) => {
                // float32 as its bits.
                let bits: Vec<i32> = data.iter().map(|x| x.to_bits() as i32).collect();
                builder.buffer_i32(name, rows, cols, &bits)?
            }
            values => builder.buffer_i8(name, rows, cols, values.map_or(&[][..], Values::int8))?,
        };
        network.tensors.insert(edge, view);
    }
    let mut steps = graph.steps.iter();
    while let Some(step) = steps.next() {
        network.lowering.set_layer(step.layer);
        let pooled = network.pooling_behind(step, steps.as_slice().first());
        let first = network.begun();
        network.step(step, pooled.as_ref())?;
        let output = pooled.map_or(step.output, |pooled| {
            steps.next();
            pooled.output
        });
        let operations = first..network.begun();
        network.operations.insert(output, operations);
    }
    let Network { lowering, tensors, operations, mut host, .. } = network;
    let compiled = lowering.finish()?;
    let known: Vec<String> = host.iter().map(|node| node.node.clone()).collect();
    let more = compiled.operations.iter().filter(|o| o.host.is_some() && !known.contains(&o.name));
    host.extend(more.map(|operation| RefusedNode {
        node: operation.name.clone(),
        operator: operation.class.name().to_owned(),
        reason: "this build, or the plan, leaves normalizations to the host".into(),
    }));
    let appended = appends.iter().map(|append| append.whole).collect();
    let formats = tensors.keys().map(|&edge| (edge, graph.format(edge))).collect();
    Ok(CompiledGraph { compiled, tensors, operations, host, appended, formats })
}

/// Max pooling in the stores of a convolution.
struct PooledStore {
    pool: pollux_kernels::Pool,
    output: EdgeId,
}

struct Network<'a> {
    lowering: Lowering,
    graph: &'a IntegerGraph,
    tensors: BTreeMap<EdgeId, View>,
    operations: BTreeMap<EdgeId, Range<usize>>,
    host: Vec<RefusedNode>,
    /// Results that have their place in a buffer already.
    places: BTreeMap<EdgeId, View>,
}

impl Network<'_> {
    /// How many operations have begun.
    fn begun(&self) -> usize {
        self.lowering.builder.statistics().operations.len()
    }

    /// Rows and columns of a tensor: all dimensions but the last are rows.
    fn extent(&self, edge: EdgeId) -> (usize, usize) {
        let edge = self.graph.graph.edge(edge);
        let cols = edge.shape.last().copied().unwrap_or(1);
        (edge.elements() / cols.max(1), cols)
    }

    fn image(&self, edge: EdgeId) -> [usize; 4] {
        // The graph's shape rules give operands and results of convolutions and poolings four dimensions.
        self.graph.graph.edge(edge).shape[..].try_into().unwrap_or_default()
    }

    /// Memory for a result.
    fn result(&mut self, edge: EdgeId) -> Result<View, CompileError> {
        if let Some(&view) = self.places.get(&edge) {
            self.tensors.insert(edge, view);
            return Ok(view);
        }
        let (rows, cols) = self.extent(edge);
        let (name, builder) = (&self.graph.graph.edge(edge).name, &mut self.lowering.builder);
        let view = match self.graph.format(edge).numbers {
            Numbers::Int8 { .. } | Numbers::Channels { .. } => builder.buffer(name, rows, cols, ElementType::I8)?,
            // float32 lies in memory as its bits.
            Numbers::Float | Numbers::Int32 { .. } => builder.buffer(name, rows, cols, ElementType::I32)?,
            Numbers::Rows => {
                let all = builder.buffer(name, rows + scale_rows(rows, cols), cols, ElementType::I8)?;
                all.rows(0..rows)?
            }
        };
        self.tensors.insert(edge, view);
        Ok(view)
    }

    fn step(&mut self, step: &Step, pooled: Option<&PooledStore>) -> Result<(), CompileError> {
        let input = self.tensors[&step.inputs[0]];
        if step.operation == IntegerOperation::Reshape {
            let (rows, cols) = self.extent(step.output);
            self.tensors.insert(step.output, View { rows, cols, stride: cols, ..input });
            return Ok(());
        }
        if self.tensors.contains_key(&step.output) {
            // Appended: each operand was made in its place.
            return Ok(());
        }
        if let IntegerOperation::Encoder { layer, tensors } = &step.operation {
            let parameters = parameters::encoder_layer(layer);
            let placed = PlacedLayer::new(&mut self.lowering, &step.name, &parameters)?;
            let buffers = placed.lower(&mut self.lowering, &step.name, input, Mask::Full)?;
            self.tensors.extend(tensors.iter().map(|(&tensor, &edge)| (edge, buffers.get(tensor))));
            self.tensors.insert(step.output, buffers.output);
            return Ok(());
        }
        let out = self.result(pooled.map_or(step.output, |pooled| pooled.output))?;
        if let Some(reason) = self.host_reason(step) {
            let (node, operator) = (step.name.clone(), step.operation.name().to_owned());
            self.host.push(RefusedNode { node, operator, reason });
            let inputs = step.inputs.iter().map(|edge| self.tensors[edge]).collect();
            let task = HostStep::Task { task: Arc::new(self.graph.task(step)), inputs, out };
            self.lowering.host(&step.name, class(step), task);
            return Ok(());
        }
        match &step.operation {
            IntegerOperation::MatMul(weights) => {
                self.lowering.begin(&step.name, OperationClass::Matmul);
                self.product(&step.name, weights, input, out)
            }
            IntegerOperation::Conv2d { conv, weights } => self.convolution(step, conv, weights, pooled, out),
            IntegerOperation::MaxPool(window) => self.max_pool(step, window, out),
            IntegerOperation::AveragePool { window, .. } => self.average_pool(step, window, out),
            IntegerOperation::GlobalAverage { scale } => {
                let [batch, rows, cols, _] = self.image(step.inputs[0]);
                self.lowering.begin(&step.name, OperationClass::DataMovement);
                let average = GlobalAverage { batch, pixels: rows * cols, input, out };
                Ok(average.lower_scaled(&mut self.lowering.builder, *scale)?)
            }
            IntegerOperation::Add { scales: [a_scale, b_scale], scale, relu } => {
                let b = self.tensors[&step.inputs[1]];
                self.lowering.begin(&step.name, OperationClass::DataMovement);
                let add = ResidualAdd {
                    a: input,
                    b,
                    c: out,
                    a_scale: *a_scale,
                    b_scale: *b_scale,
                    scale: *scale,
                    relu: *relu,
                };
                Ok(add.lower_auto(&mut self.lowering.builder)?)
            }
            IntegerOperation::Relu => {
                self.lowering.begin(&step.name, OperationClass::Nonlinear);
                let relu = Norm { input, out, scale: 1.0, activation: Activation::Relu };
                Ok(relu.lower(&mut self.lowering.builder)?)
            }
            IntegerOperation::ClippedRelu { scale } => {
                self.lowering.begin(&step.name, OperationClass::Nonlinear);
                let relu = Norm { input, out, scale: *scale, activation: Activation::Relu };
                Ok(relu.lower(&mut self.lowering.builder)?)
            }
            IntegerOperation::Concat { axis, scales } => self.concat(step, *axis, scales, out),
            IntegerOperation::Attention { .. } | IntegerOperation::Gelu { .. } | IntegerOperation::LayerNorm { .. } => {
                self.transformer(step, out)
            }
            IntegerOperation::Product { transpose_b, scale } => self.batches(step, *transpose_b, *scale, out),
            IntegerOperation::Reshape | IntegerOperation::Encoder { .. } | IntegerOperation::Host { .. } => Ok(()),
        }
    }

    /// A product of two activations: one of matrices after the other.
    fn batches(&mut self, step: &Step, transpose_b: bool, scale: f32, out: View) -> Result<(), CompileError> {
        self.lowering.begin(&step.name, OperationClass::Matmul);
        let [a, b] = [0, 1].map(|index| self.tensors[&step.inputs[index]]);
        let shape = |index: usize| &self.graph.graph.edge(step.inputs[index]).shape;
        let rows = |index: usize| shape(index)[shape(index).len() - 2];
        let (each, b_rows, shared) = (rows(0), rows(1), shape(1).len() == 2);
        for (batch, first) in (0..out.rows).step_by(each.max(1)).enumerate() {
            let b_first = if shared { 0 } else { batch * b_rows };
            let (a, b) = (a.rows(first..first + each)?, b.rows(b_first..b_first + b_rows)?);
            let product = Matmul::new(a, b, out.rows(first..first + each)?);
            self.lowering.matmul(&Matmul { b_transpose: transpose_b, scale, ..product })?;
        }
        Ok(())
    }

    /// Copies each operand to its place, scaled: columns of the result if the axis is the last one, else blocks of rows.
    fn concat(&mut self, step: &Step, axis: usize, scales: &[f32], out: View) -> Result<(), CompileError> {
        self.lowering.begin(&step.name, OperationClass::DataMovement);
        let mut copy = |input: View, out: View, scale: f32| {
            let copy = Norm { input, out, scale, activation: Activation::None };
            copy.lower(&mut self.lowering.builder)
        };
        let rank = self.graph.graph.edge(step.output).shape.len();
        // Rows of an operand that lie together in the result.
        let run = |edge: EdgeId| self.graph.graph.edge(edge).shape[axis..rank.max(1) - 1].iter().product::<usize>();
        let mut first = 0;
        for (&edge, &scale) in step.inputs.iter().zip(scales) {
            let input = self.tensors[&edge];
            if axis + 1 == rank {
                copy(input, out.columns(first..first + input.cols)?, scale)?;
                first += input.cols;
                continue;
            }
            let (rows, stride) = (run(edge), run(step.output));
            for block in 0..input.rows / rows.max(1) {
                let (from, to) = (block * rows, block * stride + first);
                copy(input.rows(from..from + rows)?, out.rows(to..to + rows)?, scale)?;
            }
            first += rows;
        }
        Ok(())
    }

    /// A product over the rows of the input, as part of the current operation: one read-out for each scale.
    fn product(&mut self, name: &str, weights: &Weights, input: View, out: View) -> Result<(), CompileError> {
        let (view, bias) = self.place(name, weights)?;
        for group in &weights.groups {
            let columns = group.columns.clone();
            self.lowering.matmul(&Matmul {
                bias: Bias::Row(bias.columns(columns.clone())?),
                scale: group.scale,
                activation: if weights.relu { Activation::Relu } else { Activation::None },
                ..Matmul::new(input, view.columns(columns.clone())?, out.columns(columns)?)
            })?;
        }
        Ok(())
    }

    /// Weights and bias in main memory, as buffers `NAME.weights` and `NAME.bias`.
    fn place(&mut self, name: &str, weights: &Weights) -> Result<(View, View), CompileError> {
        let (values, builder) = (&weights.values, &mut self.lowering.builder);
        let view = builder.buffer_i8(&format!("{name}.weights"), values.rows, values.cols, &values.data)?;
        let bias = builder.buffer_i32(&format!("{name}.bias"), 1, weights.bias.len(), &weights.bias)?;
        Ok((view, bias))
    }

    /// A copy of an image with `padding` zero rows above and columns left of it, cut or filled up to `extent`, as the
    /// operation `NAME.pad`.
    fn padded(&mut self, step: &Step, [above, left]: [usize; 2], extent: [usize; 2]) -> Result<View, CompileError> {
        let input = self.tensors[&step.inputs[0]];
        let [images, rows, cols, channels] = self.image(step.inputs[0]);
        let name = format!("{}.pad", step.name);
        self.lowering.begin(&name, OperationClass::DataMovement);
        let builder = &mut self.lowering.builder;
        // Buffers begin as zeros.
        let out = builder.buffer(&name, images * extent[0] * extent[1], channels, ElementType::I8)?;
        let [rows_kept, cols_kept] =
            [rows.min(extent[0].saturating_sub(above)), cols.min(extent[1].saturating_sub(left))];
        for (image, row) in (0..images).flat_map(|image| (0..rows_kept).map(move |row| (image, row))) {
            let from = (image * rows + row) * cols;
            let to = (image * extent[0] + above + row) * extent[1] + left;
            let copy = Norm {
                input: input.rows(from..from + cols_kept)?,
                out: out.rows(to..to + cols_kept)?,
                scale: 1.0,
                activation: Activation::None,
            };
            copy.lower(builder)?;
        }
        Ok(out)
    }
}

/// Class of a step of the host.
fn class(step: &Step) -> OperationClass {
    match &step.operation {
        IntegerOperation::Host { operator, .. } => match operator.class() {
            OperatorClass::Matmul => OperationClass::Matmul,
            OperatorClass::Nonlinear => OperationClass::Nonlinear,
            OperatorClass::DataMovement => OperationClass::DataMovement,
        },
        IntegerOperation::MatMul(_) | IntegerOperation::Conv2d { .. } | IntegerOperation::Product { .. } => {
            OperationClass::Matmul
        }
        _ => OperationClass::DataMovement,
    }
}

fn not_lowerable(step: &Step, what: String) -> CompileError {
    CompileError::NotLowerable { node: step.name.clone(), operator: step.operation.name(), what }
}
