//! Networks in INT8: operations as the accelerator does them, and what is left to the host.
//!
//! Activations of the accelerator are int8 with one scale a tensor, sums are int32; between operations of the host they may
//! be float32. Reading the accumulator out applies ReLU, multiplies by
//! one float32 and saturates to int8 (`AccumulatorScale.scala`), so weights may have a scale for each group of output
//! channels that is read out by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::files::encoding::INT8_MAX;
use crate::graph::error::{GraphError, RefusedNode};
use crate::graph::evaluate::Array;
use crate::graph::network::{EdgeId, Element, Graph};
use crate::graph::operator::{Conv2d, Operator, Window, elements};
use crate::layer::{Attention, ColumnGroup, DiagonalSum, check_groups, expect_length};
use crate::matrix::Matrix;

/// Weights, bias and read-out of a dense or convolutional product:
/// `out = sat8(round(relu(sum of products + bias) * scale of the channel's group))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Terms x output channels. The terms of a convolution are kernel row, kernel column, input channel of the group.
    pub values: Matrix<i8>,
    /// One int32 an output channel.
    pub bias: Vec<i32>,
    /// Output channels by scale of the read-out; they cover all of them in order.
    pub groups: Vec<ColumnGroup>,
    /// Whether negative results become 0.
    pub relu: bool,
}

/// What the accelerator does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum IntegerOperation {
    /// All leading dimensions are rows of A, the last one its columns.
    MatMul(Weights),
    /// A convolution; padding is 0.
    Conv2d {
        /// The kernel, its steps and its groups.
        conv: Conv2d,
        /// The weights.
        weights: Weights,
    },
    /// Largest element of each window; padding never wins.
    MaxPool(Window),
    /// `sat8(round(sum over the window * 1/n))`, n being the whole window or the pixels inside the image.
    AveragePool {
        /// The window.
        window: Window,
        /// Padding counts as zeros.
        count_padding: bool,
    },
    /// `sat8(round(sum over the image * scale))` by channel.
    GlobalAverage {
        /// Factor of the read-out.
        scale: f32,
    },
    /// `sat8(round(relu(sat8(round(a * scales[0])) + sat8(round(b * scales[1]))) * scale))`.
    Add {
        /// Factors of the operands as they are loaded.
        scales: [f32; 2],
        /// Factor of the read-out.
        scale: f32,
        /// Whether negative results become 0.
        relu: bool,
    },
    /// max(x, 0).
    Relu,
    /// `sat8(round(max(x, 0) * scale))`: a clipped ReLU whose limit is where the result's number format ends.
    ClippedRelu {
        /// Factor of the read-out.
        scale: f32,
    },
    /// Operands one behind the other along an axis, each one `sat8(round(x * scale))`.
    Concat {
        /// The axis.
        axis: usize,
        /// Factor of each operand's read-out.
        scales: Vec<f32>,
    },
    /// A product of two activations, matrix by matrix along the leading dimensions: `sat8(round(sum * scale))`.
    Product {
        /// The right operand is stored as `[J, K]`.
        transpose_b: bool,
        /// Factor of the read-out.
        scale: f32,
    },
    /// Scores, softmax and context of all heads: query, key, value.
    Attention {
        /// Keys after the query's position are invisible.
        causal: bool,
        /// Heads, constants and read-outs.
        parameters: Attention,
    },
    /// GELU of the operand in finer units: the sum's only term.
    Gelu {
        /// Units, constants and read-out.
        sum: DiagonalSum,
    },
    /// LayerNorm along the last dimension: the sum's result z is in steps of one deviation over its read-out; then
    /// `sat8(round((z * gamma + beta) * scale))`.
    LayerNorm {
        /// Units and read-out of the normalisation.
        sum: DiagonalSum,
        /// One a channel.
        gamma: Vec<i8>,
        /// One a channel, in units of the products.
        beta: Vec<i32>,
        /// Factor of the read-out.
        scale: f32,
    },
    /// The same bytes under another shape, or in other units.
    Reshape,
    /// What the host computes: the operator's float32 meaning on the real values of its operands. It reads and writes each
    /// tensor in its format, so that no operation of its own quantises.
    Host {
        /// The operator.
        operator: Operator,
        /// Its operands, those that are not constant in the step's order.
        operands: Vec<HostOperand>,
        /// Why not the accelerator.
        reason: String,
    },
}

/// An operand of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostOperand {
    /// The step's next operand.
    Tensor,
    /// A constant.
    Constant {
        /// Size of each dimension.
        shape: Vec<usize>,
        /// Elements, row-major; in a file they are a tensor of their own.
        #[serde(skip)]
        data: Vec<f32>,
    },
}

impl IntegerOperation {
    /// Short name, as in reports and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MatMul(_) => "matmul",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool(_) => "max_pool",
            Self::AveragePool { .. } => "average_pool",
            Self::GlobalAverage { .. } => "global_average_pool",
            Self::Add { .. } => "add",
            Self::Relu => "relu",
            Self::ClippedRelu { .. } => "clipped_relu",
            Self::Concat { .. } => "concat",
            Self::Product { .. } => "matmul",
            Self::Attention { .. } => "attention",
            Self::Gelu { .. } => "gelu",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Reshape => "reshape",
            Self::Host { operator, .. } => operator.name(),
        }
    }

    /// Why the host does it, if it does.
    pub fn host_reason(&self) -> Option<&str> {
        match self {
            Self::Host { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// One operation on edges of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of its node; of the one before the ReLU if that is part of it.
    pub name: String,
    /// Residual stage it belongs to.
    pub layer: Option<usize>,
    /// Operands that are not constant.
    pub inputs: Vec<EdgeId>,
    /// The result.
    pub output: EdgeId,
    /// What it does.
    pub operation: IntegerOperation,
}

/// A graph in INT8. Built by [`IntegerGraph::build`], or read from a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntegerGraph {
    /// The network; its edges have number formats.
    pub graph: Graph,
    /// The operations, each behind those whose results it reads.
    pub steps: Vec<Step>,
}

/// Elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// In units of the tensor's scale.
    Int8(Vec<i8>),
    /// Real numbers, between operations of the host.
    Float(Vec<f32>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Int8(values) => values.len(),
            Self::Float(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The int8 elements; none of float32.
    pub fn int8(&self) -> &[i8] {
        match self {
            Self::Int8(values) => values,
            Self::Float(_) => &[],
        }
    }

    /// As they lie in memory, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Int8(values) => values.iter().map(|&x| x as u8).collect(),
            Self::Float(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// Tensors by edge.
pub type Tensors = BTreeMap<EdgeId, Values>;

/// What the elements of a tensor are: its shape, and its scale unless it is float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Real value of 1 of int8; nothing for float32.
    pub scale: Option<f32>,
}

impl Format {
    /// The nearest elements of real values; int8 from `least` to 127.
    pub(crate) fn of_reals(&self, reals: &[f32], least: f32) -> Values {
        match self.scale {
            None => Values::Float(reals.to_vec()),
            Some(scale) => {
                Values::Int8(reals.iter().map(|x| (x / scale).round_ties_even().clamp(least, INT8_MAX) as i8).collect())
            }
        }
    }

    /// The real values.
    pub(crate) fn reals(&self, values: &Values) -> Array {
        let data = match values {
            Values::Int8(values) => values.iter().map(|&q| self.scale.unwrap_or(1.0) * f32::from(q)).collect(),
            Values::Float(values) => values.clone(),
        };
        Array { shape: self.shape.clone(), data }
    }
}

impl IntegerGraph {
    /// Scale of an int8 edge; 1 if it has none.
    pub fn scale(&self, edge: EdgeId) -> f32 {
        self.graph.edge(edge).quantisation.as_ref().and_then(|q| q.encoding.scale.first().copied()).unwrap_or(1.0)
    }

    /// Refuses a network with operations that no accelerator does.
    ///
    /// # Errors
    /// All of them, with the reasons.
    pub fn require_accelerator(&self) -> Result<(), Vec<RefusedNode>> {
        let refused = |step: &Step| {
            let (node, operator) = (step.name.clone(), step.operation.name().to_owned());
            step.operation.host_reason().map(|reason| RefusedNode { node, operator, reason: reason.to_owned() })
        };
        let nodes: Vec<RefusedNode> = self.steps.iter().filter_map(refused).collect();
        if nodes.is_empty() { Ok(()) } else { Err(nodes) }
    }

    /// Whether an edge is int8.
    pub fn is_int8(&self, edge: EdgeId) -> bool {
        self.graph.edge(edge).quantisation.as_ref().is_some_and(|q| q.element == Element::Int8)
    }

    /// What the elements of an edge are.
    pub fn format(&self, edge: EdgeId) -> Format {
        let scale = self.is_int8(edge).then(|| self.scale(edge));
        Format { shape: self.graph.edge(edge).shape.clone(), scale }
    }

    /// The graph's inputs, given by name, in their formats: the nearest integers in [-127, 127], or as they are.
    ///
    /// # Errors
    /// If an input is missing or has the wrong size.
    pub fn quantise_inputs(&self, inputs: &BTreeMap<&str, Array>) -> Result<Tensors, GraphError> {
        let mut tensors = Tensors::new();
        for id in self.graph.inputs() {
            let edge = self.graph.edge(id);
            let data = inputs.get(edge.name.as_str()).map_or(&[][..], |array| &array.data);
            if data.len() != edge.elements() {
                let (expected, found) = (edge.elements(), data.len());
                return Err(GraphError::Values { edge: edge.name.clone(), shape: edge.shape.clone(), expected, found });
            }
            tensors.insert(id, self.format(id).of_reals(data, -INT8_MAX));
        }
        Ok(tensors)
    }

    /// The real values of a tensor.
    pub fn dequantise(&self, edge: EdgeId, values: &Values) -> Array {
        self.format(edge).reals(values)
    }

    /// Checks that operations, shapes and weights fit together; for graphs from files.
    ///
    /// # Errors
    /// A sentence that names the step and the rule that is broken.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.graph.check().and_then(|()| self.graph.check_memory()).map_err(|error| error.to_string())?;
        self.check_scales()?;
        let mut written: BTreeSet<EdgeId> = self.graph.inputs().collect();
        for step in &self.steps {
            let fail = |reason| format!("step `{}`: {reason}", step.name);
            step.check(&self.graph, &written).map_err(fail)?;
            self.check_formats(step).map_err(fail)?;
            written.insert(step.output);
        }
        match self.graph.outputs.iter().find(|edge| !written.contains(edge)) {
            Some(&edge) => Err(format!("no step writes the output `{}`", self.graph.edge(edge).name)),
            None => Ok(()),
        }
    }

    /// The accelerator's tensors are int8; a reshaping keeps the format.
    fn check_formats(&self, step: &Step) -> Result<(), String> {
        let wrong = match &step.operation {
            IntegerOperation::Host { .. } => false,
            IntegerOperation::Reshape => self.is_int8(step.inputs[0]) != self.is_int8(step.output),
            _ => step.inputs.iter().chain([&step.output]).any(|&edge| !self.is_int8(edge)),
        };
        if wrong { Err("its tensors have formats that it does not take".into()) } else { Ok(()) }
    }

    /// Every scale is a number that a read-out can multiply by.
    pub(super) fn check_scales(&self) -> Result<(), String> {
        for edge in &self.graph.edges {
            let Some(quantisation) = &edge.quantisation else { continue };
            if let Some(scale) = quantisation.encoding.scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
                return Err(format!("edge `{}`: its scale {scale} is no number above 0", edge.name));
            }
            if let Some(offset) = quantisation.encoding.offset.iter().find(|offset| !offset.is_finite()) {
                return Err(format!("edge `{}`: its offset {offset} is no finite number", edge.name));
            }
        }
        for step in &self.steps {
            if let Some(scale) = step.operation.scales().into_iter().find(|scale| !(scale.is_finite() && *scale >= 0.0))
            {
                return Err(format!("step `{}`: its scale {scale} is no finite number", step.name));
            }
        }
        Ok(())
    }

    /// Constant elements: int8 weights, int32 biases, and the host's.
    pub fn parameters(&self) -> usize {
        let count = |step: &Step| match &step.operation {
            IntegerOperation::Host { operands, .. } => operands.iter().map(HostOperand::elements).sum(),
            _ => step.weights().map_or(0, |w| w.values.data.len() + w.bias.len()),
        };
        self.steps.iter().map(count).sum()
    }
}

impl Step {
    fn check(&self, graph: &Graph, written: &BTreeSet<EdgeId>) -> Result<(), String> {
        if let IntegerOperation::Concat { scales, .. } = &self.operation
            && scales.len() != self.inputs.len()
        {
            return Err(format!("{} scales for {} operands", scales.len(), self.inputs.len()));
        }
        if self.inputs.iter().any(|edge| !written.contains(edge)) {
            return Err("it reads a tensor that no step before it writes".into());
        }
        if self.output.index() >= graph.edges.len() || written.contains(&self.output) {
            return Err("its result is no tensor of its own".into());
        }
        if self.inputs.is_empty() {
            return Err("it has no operand".into());
        }
        let mut shapes: Vec<&[usize]> = self.inputs.iter().map(|&edge| graph.edge(edge).shape.as_slice()).collect();
        let (operator, weight_shape) = self.operation.operator(&graph.edge(self.output).shape)?;
        if let IntegerOperation::Host { operands, .. } = &self.operation {
            shapes = host_shapes(operands, &shapes)?;
        }
        shapes.extend(weight_shape.as_deref());
        let (found, expected) = (&graph.edge(self.output).shape, operator.output_shape(&shapes)?);
        if *found != expected {
            return Err(format!("its result has shape {expected:?}, but the graph says {found:?}"));
        }
        let width = graph.edge(self.output).shape.last().copied().unwrap_or(1);
        match &self.operation {
            IntegerOperation::Attention { parameters, .. } => parameters.check(width)?,
            IntegerOperation::Gelu { sum } => sum.check(&self.name, width)?,
            IntegerOperation::LayerNorm { sum, gamma, beta, .. } => {
                sum.check(&self.name, width)?;
                expect_length(&self.name, "gamma", gamma.len(), width)?;
                expect_length(&self.name, "beta", beta.len(), width)?;
            }
            _ => {}
        }
        self.weights().map_or(Ok(()), |weights| weights.check(&self.name))
    }

    /// The weights, if it has some.
    pub fn weights(&self) -> Option<&Weights> {
        match &self.operation {
            IntegerOperation::MatMul(weights) | IntegerOperation::Conv2d { weights, .. } => Some(weights),
            _ => None,
        }
    }
}

impl IntegerOperation {
    /// All its factors.
    fn scales(&self) -> Vec<f32> {
        match self {
            Self::MatMul(weights) | Self::Conv2d { weights, .. } => weights.groups.iter().map(|g| g.scale).collect(),
            Self::GlobalAverage { scale } | Self::ClippedRelu { scale } | Self::Product { scale, .. } => vec![*scale],
            Self::Add { scales: [a, b], scale, .. } => vec![*a, *b, *scale],
            Self::Concat { scales, .. } => scales.clone(),
            Self::Attention { parameters, .. } => {
                [&parameters.probability_scale[..], &parameters.context_scale[..]].concat()
            }
            // GELU's output counts down: its factor is negative.
            Self::Gelu { sum } => sum.groups.iter().map(|group| group.scale.abs()).collect(),
            Self::LayerNorm { sum, scale, .. } => sum.groups.iter().map(|g| g.scale).chain([*scale]).collect(),
            Self::MaxPool(_) | Self::AveragePool { .. } | Self::Relu | Self::Reshape | Self::Host { .. } => Vec::new(),
        }
    }

    /// The float32 operator with this shape rule, and the shape of its weights.
    fn operator(&self, output: &[usize]) -> Result<(Operator, Option<Vec<usize>>), String> {
        Ok(match self {
            Self::MatMul(w) => {
                (Operator::MatMul { transpose_b: false, bias: false }, Some(vec![w.values.rows, w.values.cols]))
            }
            Self::Conv2d { conv, weights } => {
                let [rows, cols] = conv.window.kernel;
                let taps = rows.checked_mul(cols).filter(|&taps| taps > 0).ok_or("its kernel is empty")?;
                let shape = vec![rows, cols, weights.values.rows / taps, weights.values.cols];
                if weights.values.rows % taps != 0 {
                    return Err(format!("{} rows of weights for {taps} kernel elements", weights.values.rows));
                }
                (Operator::Conv2d(Conv2d { bias: false, ..*conv }), Some(shape))
            }
            Self::MaxPool(window) => (Operator::MaxPool(*window), None),
            Self::AveragePool { window, count_padding } => {
                (Operator::AveragePool { window: *window, count_padding: *count_padding }, None)
            }
            Self::GlobalAverage { .. } => (Operator::GlobalAveragePool, None),
            Self::Add { .. } => (Operator::Add, None),
            Self::Relu => (Operator::Relu, None),
            // The limit is the number format's, and has no part in the shape.
            Self::ClippedRelu { .. } => (Operator::Relu, None),
            Self::Concat { axis, .. } => (Operator::Concat { axis: *axis }, None),
            Self::Product { transpose_b, .. } => (Operator::MatMul { transpose_b: *transpose_b, bias: false }, None),
            Self::Attention { parameters: Attention { heads, .. }, causal } => {
                (Operator::Attention { heads: *heads, scale: 1.0, causal: *causal, cached: false }, None)
            }
            // The shape's alone.
            Self::Gelu { .. } | Self::LayerNorm { .. } => (Operator::Relu, None),
            Self::Host { operator, .. } => (operator.clone(), None),
            Self::Reshape => (Operator::Reshape { shape: output.to_vec() }, None),
        })
    }
}

impl HostOperand {
    fn elements(&self) -> usize {
        match self {
            Self::Tensor => 0,
            Self::Constant { data, .. } => data.len(),
        }
    }
}

/// Shapes of a host operation's operands, the constant ones included.
fn host_shapes<'a>(operands: &'a [HostOperand], tensors: &[&'a [usize]]) -> Result<Vec<&'a [usize]>, String> {
    let mut tensors = tensors.iter();
    let mut shapes = Vec::new();
    for operand in operands {
        shapes.push(match operand {
            HostOperand::Tensor => *tensors.next().ok_or("it has fewer operands than its operator")?,
            HostOperand::Constant { shape, data } => {
                let expected = elements(shape).ok_or("a constant of it is too large")?;
                expect_length("constant", "elements", data.len(), expected)?;
                shape
            }
        });
    }
    if tensors.next().is_some() { Err("it has more operands than its operator".into()) } else { Ok(shapes) }
}

impl Weights {
    fn check(&self, name: &str) -> Result<(), String> {
        expect_length(name, "bias", self.bias.len(), self.values.cols)?;
        expect_length(name, "weights", self.values.data.len(), self.values.rows * self.values.cols)?;
        check_groups(name, &self.groups, self.values.cols)
    }
}
