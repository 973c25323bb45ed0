//! Post-training quantisation of convolutional networks to INT8: symmetric, static ranges from float32 runs.
//!
//! ReLU becomes part of the product or addition before it; a clipped one, too: its limit is where the result's number
//! format ends, so that the read-out's saturation is the clipping. Poolings and views keep the number format of their
//! operand, since they make nothing larger; an addition loads both operands in the coarser one's units.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files::encoding::{Encoding, INT8_MAX};
use crate::graph::error::{GraphError, RefusedNode};
use crate::graph::evaluate::{Array, evaluate};
use crate::graph::network::{EdgeId, Element, Graph, GraphModel, Node, NodeId, Quantisation, Source};
use crate::graph::operator::{ConvKind, Operator};
use crate::layer::ColumnGroup;
use crate::matrix::Matrix;
use crate::quantise::integer_graph::{IntegerGraph, IntegerOperation, Step, Weights};
use crate::quantise::range::RangeMethod;

/// Largest bias in units of its sums: it leaves the products as much room again.
const MAX_BIAS: f32 = (1 << 30) as f32;

/// Choices of the quantisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphOptions {
    /// Range of activations.
    pub range: RangeMethod,
    /// Output channels that share a scale of the weights; 0 means all of them. Each scale is a read-out of its own
    /// (CONFIG_ST holds one), for which the inputs are loaded once more. A depthwise convolution has one scale, as the
    /// unroller reads all its channels out alike.
    pub channels_per_scale: usize,
}

impl IntegerGraph {
    /// Quantises a network with ranges from float32 runs on samples of its inputs (by name).
    ///
    /// # Errors
    /// If there is no sample or one does not fit, an option is out of range, or a node has no integer form here.
    pub fn build(
        model: &GraphModel,
        samples: &[BTreeMap<&str, Array>],
        options: &GraphOptions,
    ) -> Result<Self, ModelError> {
        options.range.check()?;
        let order = model.graph.topological_order()?;
        let nodes: Vec<RefusedNode> = order.iter().filter_map(|&id| refused(model, model.graph.node(id))).collect();
        if !nodes.is_empty() {
            return Err(GraphError::Refused { nodes }.into());
        }
        let ranges = ranges(model, samples, options.range)?;
        let graph = Self { graph: model.graph.clone(), steps: Vec::new() };
        let mut quantiser = Quantiser { model, options, ranges, readers: readers(&model.graph), out: graph };
        model.graph.inputs().for_each(|edge| quantiser.set_range(edge));
        let fused: BTreeSet<NodeId> = order.iter().filter_map(|&id| quantiser.relu_of(id)).collect();
        for id in order.into_iter().filter(|id| !fused.contains(id)) {
            quantiser.node(id)?;
        }
        let fail = |reason| ModelError::ModelFile { origin: model.graph.name.clone(), reason };
        quantiser.out.check_scales().map_err(fail)?;
        Ok(quantiser.out)
    }
}

/// The nodes that read each edge.
fn readers(graph: &Graph) -> BTreeMap<EdgeId, Vec<NodeId>> {
    let mut readers: BTreeMap<EdgeId, Vec<NodeId>> = BTreeMap::new();
    for edge in graph.edge_ids() {
        let Source::Node(id) = graph.edge(edge).source else { continue };
        graph.node(id).inputs.iter().for_each(|&input| readers.entry(input).or_default().push(id));
    }
    readers
}

/// Why the node has no integer form, if so.
fn refused(model: &GraphModel, node: &Node) -> Option<RefusedNode> {
    let constant = |index: usize| model.graph.edge(node.inputs[index]).source == Source::Constant;
    let activations = match node.operator {
        Operator::Add => 2,
        Operator::Concat { .. } => node.inputs.len(),
        _ => 1,
    };
    let reason = match &node.operator {
        _ if (0..activations).any(constant) => {
            "an operand is constant; fold it into the weights or the bias of a product before exporting"
        }
        Operator::MatMul { .. } if !constant(1) || model.graph.edge(node.inputs[1]).shape.len() != 2 => {
            "a product of two activations; only constant weights [K, J] are supported in a convolutional graph"
        }
        Operator::Conv2d(_) if !constant(1) => "its weights are computed; export the model with constant weights",
        Operator::AveragePool { window, count_padding: false } if window.padding != [0; 4] => {
            "each window at the border has its own divisor, the read-out has one; export with count_include_pad=1"
        }
        Operator::MatMul { .. }
        | Operator::Conv2d(_)
        | Operator::Relu
        | Operator::ClippedRelu { .. }
        | Operator::Add
        | Operator::Concat { .. }
        | Operator::Softmax
        | Operator::MaxPool(_)
        | Operator::AveragePool { .. }
        | Operator::GlobalAveragePool
        | Operator::Reshape { .. } => return None,
        _ => {
            "only convolutional networks are quantised as graphs; run a Transformer from its model directory \
             (config.json, model.safetensors)"
        }
    };
    Some(node.refused(reason))
}

/// Largest magnitude of each tensor that is not constant.
fn ranges(
    model: &GraphModel,
    samples: &[BTreeMap<&str, Array>],
    method: RangeMethod,
) -> Result<BTreeMap<EdgeId, f32>, ModelError> {
    let mut seen: BTreeMap<EdgeId, Vec<f32>> = BTreeMap::new();
    for sample in samples {
        for (edge, array) in evaluate(model, sample)? {
            if model.graph.edge(edge).source == Source::Constant {
                continue;
            }
            let seen = seen.entry(edge).or_default();
            match method {
                // The largest of the largest: no need to keep all.
                RangeMethod::MinMax => seen.push(method.range(&array.data)),
                _ => seen.extend(array.data),
            }
        }
    }
    if seen.is_empty() {
        return Err(ModelError::NothingToCalibrate);
    }
    Ok(seen.into_iter().map(|(edge, values)| (edge, method.range(&values))).collect())
}

struct Quantiser<'a> {
    model: &'a GraphModel,
    options: &'a GraphOptions,
    ranges: BTreeMap<EdgeId, f32>,
    readers: BTreeMap<EdgeId, Vec<NodeId>>,
    out: IntegerGraph,
}

impl Quantiser<'_> {
    /// The ReLU that can be part of the node before it: the only reader of a product's or an addition's result.
    fn relu_of(&self, id: NodeId) -> Option<NodeId> {
        let graph = &self.model.graph;
        let node = graph.node(id);
        if !matches!(node.operator, Operator::MatMul { .. } | Operator::Conv2d(_) | Operator::Add) {
            return None;
        }
        let [reader] = self.readers.get(&node.output)?[..] else { return None };
        let is_relu = matches!(graph.node(reader).operator, Operator::Relu | Operator::ClippedRelu { .. });
        (is_relu && !graph.outputs.contains(&node.output)).then_some(reader)
    }

    fn set(&mut self, edge: EdgeId, element: Element, scale: Vec<f32>) {
        let encoding = Encoding::scaled(scale);
        self.out.graph.edges[edge.index()].quantisation = Some(Quantisation { element, encoding });
    }

    /// The int8 format of an edge: that of the model if it has a symmetric one, else by the calibrated range.
    fn set_range(&mut self, edge: EdgeId) {
        let given = match &self.model.graph.edge(edge).quantisation {
            Some(Quantisation { element: Element::Int8, encoding })
                if encoding.scale.len() == 1
                    && encoding.scale[0] > 0.0
                    && encoding.offset.iter().all(|&o| o == 0.0) =>
            {
                Some(encoding.scale[0])
            }
            _ => None,
        };
        let scale = given.unwrap_or_else(|| self.ranges.get(&edge).map_or(1.0, |range| range / INT8_MAX));
        let scale = match self.model.graph.edge(edge).source {
            Source::Node(id) => match self.model.graph.node(id).operator {
                // The saturation of the read-out is the limit, so the format must not reach beyond it.
                Operator::ClippedRelu { limit } => scale.min(limit / INT8_MAX),
                // Probabilities need not be measured.
                Operator::Softmax => INT8_MAX.recip(),
                _ => scale,
            },
            _ => scale,
        };
        self.set(edge, Element::Int8, vec![scale]);
    }

    fn keep_format(&mut self, from: EdgeId, to: EdgeId) {
        self.set(to, Element::Int8, vec![self.out.scale(from)]);
    }

    fn node(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.model.graph.node(id);
        let relu = self.relu_of(id).map(|relu| self.model.graph.node(relu));
        let output = relu.map_or(node.output, |relu| relu.output);
        let x = node.inputs[0];
        let inputs = match node.operator {
            Operator::Add | Operator::Concat { .. } => node.inputs.clone(),
            _ => vec![x],
        };
        match node.operator {
            Operator::MaxPool(_) | Operator::AveragePool { .. } | Operator::Relu | Operator::Reshape { .. } => {
                self.keep_format(x, output);
            }
            _ => self.set_range(output),
        }
        let relu = relu.is_some();
        let operation = match &node.operator {
            Operator::MatMul { transpose_b, bias } => {
                let values = self.constant(node.inputs[1])?;
                let values = if *transpose_b { values.transposed() } else { values };
                IntegerOperation::MatMul(self.weights(
                    node,
                    output,
                    values,
                    *bias,
                    relu,
                    self.options.channels_per_scale,
                )?)
            }
            Operator::Conv2d(conv) => {
                let channels = self.model.graph.edge(x).shape[3];
                let together = match conv.kind(channels) {
                    ConvKind::Depthwise => 0,
                    _ => self.options.channels_per_scale,
                };
                let values = self.constant(node.inputs[1])?;
                let weights = self.weights(node, output, values, conv.bias, relu, together)?;
                IntegerOperation::Conv2d { conv: *conv, weights }
            }
            Operator::MaxPool(window) => IntegerOperation::MaxPool(*window),
            Operator::AveragePool { window, count_padding } => {
                IntegerOperation::AveragePool { window: *window, count_padding: *count_padding }
            }
            Operator::GlobalAveragePool => {
                let shape = &self.model.graph.edge(x).shape;
                let pixels = (shape[1] * shape[2]) as f32;
                IntegerOperation::GlobalAverage { scale: self.out.scale(x) / self.out.scale(output) / pixels }
            }
            Operator::Add => {
                let [a, b] = [0, 1].map(|i| self.out.scale(node.inputs[i]));
                let coarse = a.max(b);
                if output != node.output {
                    self.set(node.output, Element::Int32, vec![coarse]);
                }
                let scale = coarse / self.out.scale(output);
                IntegerOperation::Add { scales: [a / coarse, b / coarse], scale, relu }
            }
            Operator::Relu => IntegerOperation::Relu,
            Operator::ClippedRelu { .. } => {
                IntegerOperation::ClippedRelu { scale: self.out.scale(x) / self.out.scale(output) }
            }
            Operator::Concat { axis } => {
                let scale = |edge: &EdgeId| self.out.scale(*edge) / self.out.scale(output);
                IntegerOperation::Concat { axis: *axis, scales: node.inputs.iter().map(scale).collect() }
            }
            Operator::Softmax => IntegerOperation::Softmax { scale: self.out.scale(x) },
            Operator::Reshape { .. } => IntegerOperation::Reshape,
            _ => return Err(node.refuse("it has no integer form".to_owned())),
        };
        self.out.steps.push(Step { name: node.name.clone(), layer: node.layer, inputs, output, operation });
        Ok(())
    }

    /// A constant as a matrix: its last dimension is the columns.
    fn constant(&self, edge: EdgeId) -> Result<Matrix<f32>, GraphError> {
        let (expected, shape) = (self.model.graph.edge(edge).elements(), &self.model.graph.edge(edge).shape);
        let values = self.model.constants.get(&edge).cloned().unwrap_or_default();
        if values.len() != expected {
            let (edge, found) = (self.model.graph.edge(edge).name.clone(), values.len());
            return Err(GraphError::Values { edge, shape: shape.clone(), expected, found });
        }
        let cols = shape.last().copied().unwrap_or(1);
        Ok(Matrix::from_vec(expected / cols.max(1), cols, values))
    }

    /// Weights and bias with one scale for every `together` channels, and the number formats of their edges.
    fn weights(
        &mut self,
        node: &Node,
        output: EdgeId,
        values: Matrix<f32>,
        has_bias: bool,
        relu: bool,
        together: usize,
    ) -> Result<Weights, GraphError> {
        let bias = if has_bias { self.constant(node.inputs[2])?.data } else { vec![0.0; values.cols] };
        let (input, result) = (self.out.scale(node.inputs[0]), self.out.scale(output));
        let together = if together == 0 { values.cols } else { together };
        let mut quantised =
            Weights { values: Matrix::zeros(values.rows, values.cols), bias: Vec::new(), groups: Vec::new(), relu };
        let (mut weight_scales, mut sum_scales) = (Vec::new(), Vec::new());
        for first in (0..values.cols).step_by(together.max(1)) {
            let columns = first..(first + together).min(values.cols);
            let bias = &bias[columns.clone()];
            let largest_bias = bias.iter().fold(0.0f32, |m, b| m.max(b.abs()));
            let range = RangeMethod::MinMax.range(&values.columns(columns.clone()).data);
            let scale = (range / INT8_MAX).max(largest_bias / (input * MAX_BIAS));
            for (row, column) in (0..values.rows).flat_map(|row| columns.clone().map(move |column| (row, column))) {
                quantised.values.row_mut(row)[column] = (values.at(row, column) / scale).round_ties_even() as i8;
            }
            quantised.bias.extend(bias.iter().map(|b| (b / (input * scale)).round_ties_even() as i32));
            quantised.groups.push(ColumnGroup { columns: columns.clone(), scale: input * scale / result });
            weight_scales.extend(columns.clone().map(|_| scale));
            sum_scales.extend(columns.map(|_| input * scale));
        }
        if quantised.groups.len() == 1 {
            weight_scales.truncate(1);
            sum_scales.truncate(1);
        }
        // A transposed operand's last dimension is not the output channels.
        if !matches!(node.operator, Operator::MatMul { transpose_b: true, .. }) || weight_scales.len() == 1 {
            self.set(node.inputs[1], Element::Int8, weight_scales);
        }
        if has_bias {
            self.set(node.inputs[2], Element::Int32, sum_scales.clone());
        }
        if node.output != output {
            self.set(node.output, Element::Int32, sum_scales);
        }
        Ok(quantised)
    }
}
