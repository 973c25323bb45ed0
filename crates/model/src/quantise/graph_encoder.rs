//! Encoder layers of a graph: attention and feed-forward network, each with a residual addition and a LayerNorm behind it (BERT).
//!
//! Node by node such a layer loses much in int8: the sum before a LayerNorm is rounded, and its result has one unit for all
//! channels, a few of which are twenty times larger than the others. As a whole it is quantised as the layers of
//! model directories are ([`quantise_layer`]): sums stay in the accumulator, channels have units of their own, and the largest ones are
//! read out by themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibrate::LayerSamples;
use crate::error::ModelError;
use crate::float::{Dense, Norm};
use crate::graph::evaluate::Array;
use crate::graph::network::{EdgeId, GraphModel, Node, NodeId, Source};
use crate::graph::operator::Operator;
use crate::layer::QuantisedLayer;
use crate::matrix::Matrix;
use crate::quantise::encoder_layer::{norm_encoding, quantise_layer};
use crate::quantise::options::QuantiseOptions;
use crate::quantise::rewrites::outliers_last;
use crate::tensor::Tensor;
use crate::transformer::rewrite::{reorder_hidden, reorder_norm};
use crate::transformer::weights::{FloatTrace, LayerWeights};

/// Largest relative difference of the scores' factor from 1 / sqrt(head size).
const SCALE_ERROR: f32 = 1e-3;
/// Channels that are read out by themselves if nothing else is asked for: a block of the usual arrays.
const OUTLIER_CHANNELS: usize = 16;

/// A layer that was found.
#[derive(Clone, Debug)]
pub(super) struct FoundLayer {
    heads: usize,
    tokens: usize,
    weights: LayerWeights,
    /// The LayerNorm that makes the input.
    input_norm: Norm,
    /// The edge of each tensor; probabilities have none.
    pub(super) edges: BTreeMap<Tensor, EdgeId>,
    /// What enters the two LayerNorms.
    sums: [EdgeId; 2],
    /// The nodes; the last one makes the output.
    pub(super) nodes: Vec<NodeId>,
}

impl FoundLayer {
    pub(super) fn edge(&self, tensor: Tensor) -> EdgeId {
        self.edges[&tensor]
    }

    /// The node that makes the output.
    pub(super) fn last(&self) -> NodeId {
        *self.nodes.last().expect("a layer has nodes")
    }

    /// A float32 run of the layer.
    pub(super) fn record(&self, values: &BTreeMap<EdgeId, Array>, samples: &mut LayerSamples) {
        let matrix = |edge: EdgeId| {
            let array = &values[&edge];
            let cols = array.shape.last().copied().unwrap_or(1);
            Matrix::from_vec(array.data.len() / cols.max(1), cols, array.data.clone())
        };
        let tensors = self.edges.iter().map(|(&tensor, &edge)| (tensor, matrix(edge))).collect();
        let [attention_sum, ffn_sum] = self.sums.map(matrix);
        samples.record_layer(&FloatTrace { tensors, attention_sum, ffn_sum }, &self.input_norm, &self.weights);
    }
}

/// Looks for layers in a network.
pub(super) struct Search<'a> {
    pub(super) model: &'a GraphModel,
    pub(super) readers: &'a BTreeMap<EdgeId, Vec<NodeId>>,
}

impl Search<'_> {
    /// All layers, in order.
    pub(super) fn layers(&self, order: &[NodeId]) -> Vec<FoundLayer> {
        order.iter().filter_map(|&id| self.layer(id)).collect()
    }

    fn node(&self, id: NodeId) -> &Node {
        self.model.graph.node(id)
    }

    fn maker(&self, edge: EdgeId) -> Option<NodeId> {
        match self.model.graph.edge(edge).source {
            Source::Node(id) => Some(id),
            _ => None,
        }
    }

    /// The only reader of a tensor that is no output.
    fn reader(&self, edge: EdgeId) -> Option<NodeId> {
        match self.readers.get(&edge)?[..] {
            [id] if !self.model.graph.outputs.contains(&edge) => Some(id),
            _ => None,
        }
    }

    fn constant(&self, edge: EdgeId) -> Option<&Vec<f32>> {
        self.model.constants.get(&edge)
    }

    /// A dense product with constants.
    fn dense(&self, id: NodeId) -> Option<Dense> {
        let node = self.node(id);
        let Operator::MatMul { transpose_b, bias } = node.operator else { return None };
        let [rows, cols] = self.model.graph.edge(node.inputs[1]).shape[..] else { return None };
        let values = Matrix::from_vec(rows, cols, self.constant(node.inputs[1])?.clone());
        let weight = if transpose_b { values } else { values.transposed() };
        let bias = if bias { self.constant(node.inputs[2])?.clone() } else { vec![0.0; weight.rows] };
        Some(Dense { weight, bias })
    }

    fn norm(&self, id: NodeId) -> Option<Norm> {
        let node = self.node(id);
        let Operator::LayerNorm { .. } = node.operator else { return None };
        let [gamma, beta] = [1, 2].map(|index| self.constant(node.inputs[index]).cloned());
        Some(Norm { gamma: gamma?, beta: beta? })
    }

    /// The addition that alone reads `branch`, and adds `residual`; then the LayerNorm that alone reads the sum.
    fn residual(&self, branch: EdgeId, residual: EdgeId) -> Option<[NodeId; 2]> {
        let add = self.reader(branch)?;
        let node = self.node(add);
        let both = node.operator == Operator::Add && node.inputs.contains(&residual) && branch != residual;
        let norm = self.reader(node.output).filter(|_| both)?;
        Some([add, norm])
    }

    /// The layer around an attention.
    fn layer(&self, attention: NodeId) -> Option<FoundLayer> {
        let node = self.node(attention);
        let Operator::Attention { heads, scale, causal: false, cached: false } = node.operator else { return None };
        let parts = [self.maker(node.inputs[0])?, self.maker(node.inputs[1])?, self.maker(node.inputs[2])?];
        let x = self.node(parts[0]).inputs[0];
        let own = |id: &NodeId| {
            let part = self.node(*id);
            part.inputs[0] == x && self.reader(part.output) == Some(attention)
        };
        let [tokens, width] = self.model.graph.edge(x).shape[..] else { return None };
        let size = width / heads.max(1);
        let usual = (scale * (size as f32).sqrt() - 1.0).abs() < SCALE_ERROR;
        if !parts.iter().all(own) || !usual || size * heads != width {
            return None;
        }
        let [query, key, value] = [self.dense(parts[0])?, self.dense(parts[1])?, self.dense(parts[2])?];
        if [&query, &key, &value].iter().any(|dense| dense.weight.rows != width) {
            return None;
        }
        let projection = self.reader(node.output)?;
        let [add, norm] = self.residual(self.node(projection).output, x)?;
        let middle = self.node(norm).output;
        let [a, b] = self.readers.get(&middle)?[..] else { return None };
        let inner = if matches!(self.node(a).operator, Operator::MatMul { .. }) { a } else { b };
        let activation = self.reader(self.node(inner).output)?;
        let Operator::Gelu { .. } = self.node(activation).operator else { return None };
        let outer = self.reader(self.node(activation).output)?;
        let [last_add, last] = self.residual(self.node(outer).output, middle)?;
        if self.model.graph.outputs.contains(&middle) || ![a, b].contains(&last_add) {
            return None;
        }
        let output = |id: NodeId| self.node(id).output;
        let edges = BTreeMap::from([
            (Tensor::Input, x),
            (Tensor::Query, output(parts[0])),
            (Tensor::Key, output(parts[1])),
            (Tensor::Value, output(parts[2])),
            (Tensor::Context, output(attention)),
            (Tensor::AttentionOutput, output(projection)),
            (Tensor::AttentionNorm, middle),
            (Tensor::Intermediate, output(inner)),
            (Tensor::Gelu, output(activation)),
            (Tensor::FfnOutput, output(outer)),
            (Tensor::Output, output(last)),
        ]);
        Some(FoundLayer {
            heads,
            tokens,
            weights: LayerWeights {
                query,
                key,
                value,
                attention_output: self.dense(projection)?,
                attention_norm: self.norm(norm)?,
                intermediate: self.dense(inner)?,
                output: self.dense(outer)?,
                output_norm: self.norm(last)?,
            },
            input_norm: self.norm(self.maker(x)?)?,
            edges,
            sums: [output(add), output(last_add)],
            nodes: [&parts[..], &[attention, projection, add, norm, inner, activation, outer, last_add, last]].concat(),
        })
    }

    /// The layers, with their samples, whose input and output are read by layers and by the host alone: nothing else takes their
    /// units.
    pub(super) fn readable(
        &self,
        layers: Vec<FoundLayer>,
        samples: Vec<LayerSamples>,
        host: impl Fn(NodeId) -> bool,
    ) -> (Vec<FoundLayer>, Vec<LayerSamples>) {
        let mut pairs: Vec<(FoundLayer, LayerSamples)> = layers.into_iter().zip(samples).collect();
        loop {
            let inside: BTreeSet<NodeId> = pairs.iter().flat_map(|(layer, _)| layer.nodes.iter().copied()).collect();
            let readable = |edge: EdgeId| {
                let readers = self.readers.get(&edge).map_or(&[][..], Vec::as_slice);
                readers.iter().all(|id| inside.contains(id) || host(*id))
            };
            let before = pairs.len();
            pairs.retain(|(layer, _)| {
                [Tensor::Input, Tensor::Output].iter().all(|&tensor| readable(layer.edge(tensor)))
            });
            if pairs.len() == before {
                return pairs.into_iter().unzip();
            }
        }
    }
}

/// Layers in INT8, and the order of the hidden channels in each: column c of memory is channel `order[c]`.
pub(super) type QuantisedLayers = Vec<(QuantisedLayer, Vec<usize>)>;

/// Quantises layers; those that follow each other have one order of the hidden channels.
pub(super) fn quantise(
    layers: &[FoundLayer],
    mut samples: Vec<LayerSamples>,
    options: &QuantiseOptions,
    outlier_channels: Option<usize>,
) -> Result<QuantisedLayers, ModelError> {
    let mut quantised = QuantisedLayers::new();
    let mut first = 0;
    while first < layers.len() {
        let follows = |pair: &[FoundLayer]| pair[0].edge(Tensor::Output) == pair[1].edge(Tensor::Input);
        let end = first + 1 + layers[first..].windows(2).take_while(|pair| follows(pair)).count();
        let (chain, samples) = (&layers[first..end], &mut samples[first..end]);
        let width = chain[0].input_norm.gamma.len();
        let outlier_channels = outlier_channels.unwrap_or(if width > OUTLIER_CHANNELS { OUTLIER_CHANNELS } else { 0 });
        let options = QuantiseOptions { outlier_channels, ..options.clone() };
        let order = if outlier_channels > 0 { outliers_last(samples) } else { (0..width).collect() };
        samples.iter_mut().for_each(|samples| samples.reorder_hidden(&order));
        let mut norm = chain[0].input_norm.clone();
        reorder_norm(&mut norm, &order);
        let mut input = norm_encoding(&samples[0], Tensor::Input, &norm, &options);
        for (layer, samples) in chain.iter().zip(samples.iter()) {
            let mut weights = layer.weights.clone();
            reorder_hidden(&mut weights, &order);
            let layer = quantise_layer(&weights, layer.heads, layer.tokens, samples, input, &options)?;
            input = layer.encoding(Tensor::Output).clone();
            quantised.push((layer, order.clone()));
        }
        first = end;
    }
    Ok(quantised)
}
