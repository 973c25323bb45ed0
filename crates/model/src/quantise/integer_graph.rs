//! Convolutional networks in INT8: operations as the accelerator does them.
//!
//! Activations are int8 with one scale a tensor, sums are int32. Reading the accumulator out applies ReLU, multiplies by
//! one float32 and saturates to int8 (`AccumulatorScale.scala`), so weights may have a scale for each group of output
//! channels that is read out by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::files::encoding::INT8_MAX;
use crate::graph::error::GraphError;
use crate::graph::evaluate::Array;
use crate::graph::network::{EdgeId, Graph};
use crate::graph::operator::{Conv2d, Operator, Window};
use crate::layer::{ColumnGroup, check_groups, expect_length};
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
    /// Softmax along the last dimension, in float32 on the host: `round(exp(scale * (x - max)) * (127 / sum))`.
    Softmax {
        /// Scale of the operand.
        scale: f32,
    },
    /// The same bytes under another shape.
    Reshape,
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
            Self::Softmax { .. } => "softmax",
            Self::Reshape => "reshape",
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

/// int8 tensors by edge.
pub type Tensors = BTreeMap<EdgeId, Vec<i8>>;

impl IntegerGraph {
    /// Scale of an int8 edge; 1 if it has none.
    pub fn scale(&self, edge: EdgeId) -> f32 {
        self.graph.edge(edge).quantisation.as_ref().and_then(|q| q.encoding.scale.first().copied()).unwrap_or(1.0)
    }

    /// The nearest integers in [-127, 127] of the graph's inputs, given by name.
    ///
    /// # Errors
    /// If an input is missing or has the wrong size.
    pub fn quantise_inputs(&self, inputs: &BTreeMap<&str, Array>) -> Result<Tensors, GraphError> {
        let mut tensors = Tensors::new();
        for id in self.graph.inputs() {
            let (edge, scale) = (self.graph.edge(id), self.scale(id));
            let data = inputs.get(edge.name.as_str()).map_or(&[][..], |array| &array.data);
            if data.len() != edge.elements() {
                let (expected, found) = (edge.elements(), data.len());
                return Err(GraphError::Values { edge: edge.name.clone(), shape: edge.shape.clone(), expected, found });
            }
            let quantise = |&x: &f32| (x / scale).round_ties_even().clamp(-INT8_MAX, INT8_MAX) as i8;
            tensors.insert(id, data.iter().map(quantise).collect());
        }
        Ok(tensors)
    }

    /// The real values of an int8 tensor.
    pub fn dequantise(&self, edge: EdgeId, values: &[i8]) -> Array {
        let scale = self.scale(edge);
        Array {
            shape: self.graph.edge(edge).shape.clone(),
            data: values.iter().map(|&q| scale * f32::from(q)).collect(),
        }
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
            step.check(&self.graph, &written).map_err(|reason| format!("step `{}`: {reason}", step.name))?;
            written.insert(step.output);
        }
        match self.graph.outputs.iter().find(|edge| !written.contains(edge)) {
            Some(&edge) => Err(format!("no step writes the output `{}`", self.graph.edge(edge).name)),
            None => Ok(()),
        }
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

    /// Constant elements: int8 weights and int32 biases.
    pub fn parameters(&self) -> usize {
        let count = |step: &Step| step.weights().map_or(0, |w| w.values.data.len() + w.bias.len());
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
        let mut shapes: Vec<&[usize]> = self.inputs.iter().map(|&edge| graph.edge(edge).shape.as_slice()).collect();
        let (operator, weight_shape) = self.operation.operator(&graph.edge(self.output).shape)?;
        shapes.extend(weight_shape.as_deref());
        let (found, expected) = (&graph.edge(self.output).shape, operator.output_shape(&shapes)?);
        if *found != expected {
            return Err(format!("its result has shape {expected:?}, but the graph says {found:?}"));
        }
        self.weights().map_or(Ok(()), |weights| weights.check(&self.name))
    }

    /// The weights, to be read from a file.
    pub(crate) fn weights_mut(&mut self) -> Option<&mut Weights> {
        match &mut self.operation {
            IntegerOperation::MatMul(weights) | IntegerOperation::Conv2d { weights, .. } => Some(weights),
            _ => None,
        }
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
            Self::GlobalAverage { scale } | Self::ClippedRelu { scale } | Self::Softmax { scale } => vec![*scale],
            Self::Add { scales: [a, b], scale, .. } => vec![*a, *b, *scale],
            Self::Concat { scales, .. } => scales.clone(),
            Self::MaxPool(_) | Self::AveragePool { .. } | Self::Relu | Self::Reshape => Vec::new(),
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
            Self::Softmax { .. } => (Operator::Softmax, None),
            Self::Reshape => (Operator::Reshape { shape: output.to_vec() }, None),
        })
    }
}

impl Weights {
    fn check(&self, name: &str) -> Result<(), String> {
        expect_length(name, "bias", self.bias.len(), self.values.cols)?;
        expect_length(name, "weights", self.values.data.len(), self.values.rows * self.values.cols)?;
        check_groups(name, &self.groups, self.values.cols)
    }
}
