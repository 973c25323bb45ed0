//! Post-training quantisation of networks to INT8: symmetric, static ranges from float32 runs. What the accelerator cannot do
//! stays in float32 ([`super::partition`]).
//!
//! ReLU becomes part of the product or addition before it; a clipped one, too: its limit is where the result's number
//! format ends, so that the read-out's saturation is the clipping. Poolings and views keep the number format of their
//! operand, since they make nothing larger; an addition loads both operands in the coarser one's units.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files::encoding::{Encoding, INT8_MAX};
use crate::graph::error::GraphError;
use crate::graph::evaluate::Array;
use crate::graph::network::{EdgeId, Element, Graph, GraphModel, Node, NodeId, Quantisation, Source};
use crate::graph::operator::{ConvKind, Operator};
use crate::layer::{ColumnGroup, QuantisedLayer};
use crate::matrix::Matrix;
use crate::quantise::calibrate::HIDDEN;
use crate::quantise::graph_calibration::{Calibration, Deviation};
use crate::quantise::graph_encoder::{self, FoundLayer, Search};
use crate::quantise::integer_graph::{HostOperand, IntegerGraph, IntegerOperation, Step, Weights};
use crate::quantise::options::QuantiseOptions;
pub use crate::quantise::options::ReadOut;
use crate::quantise::partition::{Partition, moves};
use crate::quantise::range::RangeMethod;
use crate::tensor::Tensor;

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
    /// What products give that only the host reads.
    pub read_out: ReadOut,
    /// Channels with outliers of encoder layers (BERT) that get a read-out of their own: a multiple of the array's width, less than
    /// the layer's. 16 if nothing is given, or none in narrower layers.
    pub outlier_channels: Option<usize>,
}

impl IntegerGraph {
    /// Quantises a network with ranges from float32 runs on samples of its inputs (by name).
    ///
    /// # Errors
    /// If there is no sample or one does not fit, an option is out of range, or a tensor's range is no number.
    pub fn build(
        model: &GraphModel,
        samples: &[BTreeMap<&str, Array>],
        options: &GraphOptions,
    ) -> Result<Self, ModelError> {
        options.range.check()?;
        let order = model.graph.topological_order()?;
        let readers = readers(&model.graph);
        let search = Search { model, readers: &readers };
        let found = search.layers(&order);
        let Calibration { ranges, peaks, deviations, layers: samples } =
            Calibration::of(model, samples, options.range, &found)?;
        let graph = Self { graph: model.graph.clone(), steps: Vec::new(), orders: BTreeMap::new() };
        let mut partition = Partition::new(model, &ranges)?;
        let (mut layers, samples) = search.readable(found, samples, |id| {
            partition.host.contains_key(&id) || matches!(model.graph.node(id).operator, Operator::Reshape { .. })
        });
        let encoder = QuantiseOptions { method: options.range, ..QuantiseOptions::default() };
        let quantised = match graph_encoder::quantise(&layers, samples, &encoder, options.outlier_channels) {
            // Weights that a layer's fields do not hold: node by node they need not be the same fields.
            Err(ModelError::DoesNotFit { .. }) => {
                layers.clear();
                Vec::new()
            }
            quantised => quantised?,
        };
        partition.take_layers(model, &order, &layers);
        partition.read_out(model, options.read_out, &readers)?;
        let inside: BTreeSet<NodeId> = layers.iter().flat_map(|layer| layer.nodes.iter().copied()).collect();
        let mut steps: BTreeMap<NodeId, _> =
            layers.iter().zip(quantised).map(|(layer, quantised)| (layer.last(), (layer, quantised))).collect();
        let mut quantiser = Quantiser { model, options, ranges, peaks, deviations, partition, readers, out: graph };
        steps.values().for_each(|(layer, (quantised, order))| quantiser.set_layer(layer, quantised, order));
        model.graph.inputs().for_each(|edge| quantiser.set_range(edge));
        let fused: BTreeSet<NodeId> = order.iter().filter_map(|&id| quantiser.relu_of(id)).collect();
        for id in order.into_iter().filter(|id| !fused.contains(id)) {
            match steps.remove(&id) {
                Some((layer, (quantised, _))) => quantiser.layer(layer, quantised),
                None if inside.contains(&id) => {}
                None => quantiser.node(id)?,
            }
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

pub(super) struct Quantiser<'a> {
    pub(super) model: &'a GraphModel,
    options: &'a GraphOptions,
    pub(super) ranges: BTreeMap<EdgeId, f32>,
    pub(super) peaks: BTreeMap<NodeId, Vec<f32>>,
    pub(super) deviations: BTreeMap<NodeId, Deviation>,
    partition: Partition,
    pub(super) readers: BTreeMap<EdgeId, Vec<NodeId>>,
    pub(super) out: IntegerGraph,
}

impl Quantiser<'_> {
    /// The formats of an encoder layer's tensors.
    fn set_layer(&mut self, layer: &FoundLayer, quantised: &QuantisedLayer, order: &[usize]) {
        for (&tensor, &edge) in &layer.edges {
            let encoding = quantised.encoding(tensor).clone();
            self.out.graph.edges[edge.index()].quantisation = Some(Quantisation { element: Element::Int8, encoding });
            if HIDDEN.contains(&tensor) {
                self.out.orders.insert(edge, order.to_vec());
            }
        }
    }

    /// An encoder layer's step.
    fn layer(&mut self, layer: &FoundLayer, quantised: QuantisedLayer) {
        let number = |step: &Step| matches!(step.operation, IntegerOperation::Encoder { .. });
        let index = self.out.steps.iter().filter(|step| number(step)).count();
        let [input, output] = [Tensor::Input, Tensor::Output].map(|tensor| layer.edge(tensor));
        let inner = layer.edges.iter().filter(|(_, edge)| ![input, output].contains(edge));
        let tensors = inner.map(|(&tensor, &edge)| (tensor, edge)).collect();
        let operation = IntegerOperation::Encoder { layer: Box::new(quantised), tensors };
        let name = format!("encoder.{index}");
        self.out.steps.push(Step { name, layer: Some(index), inputs: vec![input], output, operation });
    }

    /// The ReLU that can be part of the node before it: the only reader of a product's or an addition's result.
    fn relu_of(&self, id: NodeId) -> Option<NodeId> {
        let graph = &self.model.graph;
        let node = graph.node(id);
        let weighted = |node: &Node| graph.edge(node.inputs[1]).source == Source::Constant;
        match node.operator {
            _ if self.partition.host.contains_key(&id) => return None,
            Operator::MatMul { .. } if !weighted(node) => return None,
            Operator::MatMul { .. } | Operator::Conv2d(_) | Operator::Add => {}
            _ => return None,
        }
        let [reader] = self.readers.get(&node.output)?[..] else { return None };
        let is_relu = matches!(graph.node(reader).operator, Operator::Relu | Operator::ClippedRelu { .. });
        (is_relu && !graph.outputs.contains(&node.output)).then_some(reader)
    }

    fn set(&mut self, edge: EdgeId, element: Element, scale: Vec<f32>) {
        let encoding = Encoding::scaled(scale);
        self.out.graph.edges[edge.index()].quantisation = Some(Quantisation { element, encoding });
    }

    /// The format of an edge: float32 if the host keeps it to itself, else int8, as the model says if it has a symmetric format,
    /// or by the calibrated range.
    fn set_range(&mut self, edge: EdgeId) {
        if self.out.orders.contains_key(&edge) {
            // An encoder layer's.
            return;
        }
        if self.partition.has_row_scales(edge) {
            self.set(edge, Element::Int8Rows, Vec::new());
            return;
        }
        if !self.partition.is_int8(edge) {
            self.out.graph.edges[edge.index()].quantisation = None;
            return;
        }
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
        let scale = scale.max(self.least_scale(edge));
        self.set(edge, Element::Int8, vec![scale]);
    }

    fn keep_format(&mut self, from: EdgeId, to: EdgeId) {
        if !self.partition.is_int8(to) {
            self.out.graph.edges[to.index()].quantisation = None;
            return;
        }
        self.set(to, Element::Int8, vec![self.out.scale(from)]);
    }

    fn node(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.model.graph.node(id);
        if let Some(&reason) = self.partition.host.get(&id) {
            return self.host(node, reason);
        }
        if matches!(node.operator, Operator::Reshape { .. }) && self.out.orders.contains_key(&node.inputs[0]) {
            return self.host(node, "its operand has a unit for each channel");
        }
        let relu = self.relu_of(id).map(|relu| self.model.graph.node(relu));
        let output = relu.map_or(node.output, |relu| relu.output);
        let x = node.inputs[0];
        let inputs = match node.operator {
            Operator::Add | Operator::Concat { .. } | Operator::Attention { .. } => node.inputs.clone(),
            Operator::MatMul { .. } if self.model.graph.edge(node.inputs[1]).source != Source::Constant => {
                node.inputs.clone()
            }
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
            Operator::MatMul { transpose_b, .. } if inputs.len() == 2 => {
                let [a, b] = [0, 1].map(|i| self.out.scale(node.inputs[i]));
                let scale = if self.partition.is_sums(output) {
                    self.set(output, Element::Int32, vec![a * b]);
                    1.0
                } else {
                    a * b / self.out.scale(output)
                };
                IntegerOperation::Product { transpose_b: *transpose_b, scale }
            }
            Operator::MatMul { transpose_b, bias } => {
                let values = self.constant(node.inputs[1])?;
                let values = if *transpose_b { values.transposed() } else { values };
                let sums = self.partition.is_sums(output);
                // The host multiplies: a scale for each channel costs nothing.
                let together = if sums { 1 } else { self.options.channels_per_scale };
                let mut weights = self.weights(node, output, values, *bias, relu, together)?;
                if sums {
                    let columns = 0..weights.values.cols;
                    let units = weights.groups.iter().map(|group| group.scale).collect();
                    self.set(output, Element::Int32, units);
                    weights.groups = vec![ColumnGroup { columns, scale: 1.0 }];
                }
                IntegerOperation::MatMul(weights)
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
            Operator::Attention { .. } | Operator::Gelu { .. } | Operator::LayerNorm { .. } => self.transformer(id)?,
            Operator::Reshape { .. } => IntegerOperation::Reshape,
            _ => return Err(node.refuse("it has no integer form".to_owned())),
        };
        self.out.steps.push(Step { name: node.name.clone(), layer: node.layer, inputs, output, operation });
        Ok(())
    }

    /// A node of the host.
    fn host(&mut self, node: &Node, reason: &str) -> Result<(), GraphError> {
        match moves(&node.operator) && !self.out.orders.contains_key(&node.inputs[0]) {
            true => self.keep_format(node.inputs[0], node.output),
            false => self.set_range(node.output),
        }
        let (mut operands, mut inputs) = (Vec::new(), Vec::new());
        for &edge in &node.inputs {
            if self.model.graph.edge(edge).source == Source::Constant {
                let (data, shape) = (self.constant(edge)?.data, self.model.graph.edge(edge).shape.clone());
                operands.push(HostOperand::Constant { shape, data });
            } else {
                operands.push(HostOperand::Tensor);
                inputs.push(edge);
                if let Some(rows) = self.out.rows_of(edge) {
                    operands.push(HostOperand::RowScales);
                    inputs.push(rows);
                }
            }
        }
        if inputs.is_empty() {
            return Err(node.refuse("all of its operands are constant; fold it before exporting".to_owned()));
        }
        let operation = IntegerOperation::Host { operator: node.operator.clone(), operands, reason: reason.to_owned() };
        let (name, output) = (node.name.clone(), node.output);
        self.out.steps.push(Step { name, layer: node.layer, inputs, output, operation });
        Ok(())
    }

    /// A constant as a matrix: its last dimension is the columns.
    pub(super) fn constant(&self, edge: EdgeId) -> Result<Matrix<f32>, GraphError> {
        let (expected, shape) = (self.model.graph.edge(edge).elements(), &self.model.graph.edge(edge).shape);
        let values = self.model.constants.get(&edge).cloned().unwrap_or_default();
        if values.len() != expected {
            let (edge, found) = (self.model.graph.edge(edge).name.clone(), values.len());
            return Err(GraphError::Values { edge, shape: shape.clone(), expected, found });
        }
        let cols = shape.last().copied().unwrap_or(1);
        Ok(Matrix::from_vec(expected / cols.max(1), cols, values))
    }

    /// The scale that the model gives these columns of weights, if it is one and holds them.
    fn given_scale(&self, weights: EdgeId, columns: &Range<usize>, range: f32) -> Option<f32> {
        let scales = &self.model.graph.edge(weights).quantisation.as_ref()?.encoding.scale;
        let scale = match scales[..] {
            [scale] => scale,
            _ => *scales.get(columns.start)?,
        };
        let one = scales.len() == 1 || scales.get(columns.clone())?.iter().all(|&other| other == scale);
        (one && scale > 0.0 && range <= (INT8_MAX + 1.0) * scale * (1.0 + f32::EPSILON)).then_some(scale)
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
            let scale = self.given_scale(node.inputs[1], &columns, range).unwrap_or(range / INT8_MAX);
            let scale = scale.max(largest_bias / (input * MAX_BIAS));
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
