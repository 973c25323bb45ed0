//! Which operations of a network the accelerator does, and which tensors are int8.
//!
//! An operation is the accelerator's if there is an integer operation for it and it works on what the accelerator made or the
//! user gives; the rest is the host's, with its reason. A tensor is int8 if the accelerator makes or reads it; movements and
//! reshapings keep their operand's format. So numbers change their format only where the host hands over to the accelerator,
//! as part of the operation that makes them.
//!
//! Sums of a product that only the host reads can be left as they are (int32), and what the host makes for such products alone can
//! have a scale for each row: [`ReadOut`].

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::error::GraphError;
use crate::graph::network::{EdgeId, GraphModel, Node, NodeId, Source};
use crate::graph::operator::Operator;
use crate::quantise::graph_encoder::FoundLayer;
use crate::quantise::options::ReadOut;
use crate::tensor::Tensor;

/// One unit of the coarser operand of an addition: what is smaller than half of it is lost.
const UNITS: f32 = 127.0;

/// Ranges below are those of tensors that were 0.
const NOTHING: f32 = 1e-15;

/// The partition of a network.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Why the host does a node.
    pub(super) host: BTreeMap<NodeId, &'static str>,
    int8: BTreeSet<EdgeId>,
    /// Inputs and outputs of encoder layers, whose units only the host can turn into others.
    channels: BTreeSet<EdgeId>,
    sums: BTreeSet<EdgeId>,
    rows: BTreeSet<EdgeId>,
}

/// Whether it only moves elements, in any format.
pub(super) fn moves(operator: &Operator) -> bool {
    match operator {
        Operator::Transpose { .. } | Operator::Take { .. } => true,
        // The number 0 is the same in all formats.
        Operator::Pad { value, .. } => *value == 0.0,
        _ => false,
    }
}

impl Partition {
    /// The partition of a network whose tensors have these largest magnitudes.
    pub(super) fn new(model: &GraphModel, ranges: &BTreeMap<EdgeId, f32>) -> Result<Self, GraphError> {
        let mut partition = Self::default();
        let order = model.graph.topological_order()?;
        // Tensors that the accelerator's results or the user's inputs have a part in; what is looked up has no such origin.
        let mut native: BTreeSet<EdgeId> = model.graph.inputs().collect();
        let wanted = wanted(model, &order);
        for &id in &order {
            let node = model.graph.node(id);
            let works = |edge: &EdgeId| native.contains(edge);
            let works = node.inputs.iter().any(works);
            let reason = host_reason(model, node, ranges, works).or_else(|| partition.loose(model, node, &wanted));
            let made = reason.is_none() && !matches!(node.operator, Operator::Reshape { .. });
            if let Some(reason) = reason {
                partition.host.insert(id, reason);
            }
            let looked_up = matches!(node.operator, Operator::Embedding { .. } | Operator::Gather { .. });
            if made || (works && !looked_up) {
                native.insert(node.output);
            }
        }
        partition.formats(model, &order);
        Ok(partition)
    }

    /// Why a concatenation is better left in float32: the host makes all of its operands, and no product or pooling reads it.
    fn loose(&self, model: &GraphModel, node: &Node, wanted: &BTreeSet<EdgeId>) -> Option<&'static str> {
        let Operator::Concat { .. } = node.operator else { return None };
        let by_host = |edge: &EdgeId| match model.graph.edge(*edge).source {
            Source::Node(id) => self.host.contains_key(&id),
            _ => false,
        };
        let loose = node.inputs.iter().all(by_host) && !wanted.contains(&node.output);
        loose.then_some("its operands are the host's, and no product reads it")
    }

    fn formats(&mut self, model: &GraphModel, order: &[NodeId]) {
        let constant = |edge: &EdgeId| model.graph.edge(*edge).source == Source::Constant;
        let keeps = |operator: &Operator| matches!(operator, Operator::Reshape { .. }) || moves(operator);
        for &id in order.iter().rev() {
            let node = model.graph.node(id);
            let wants = if keeps(&node.operator) { self.is_int8(node.output) } else { !self.host.contains_key(&id) };
            if wants {
                self.int8.extend(node.inputs.iter().copied().filter(|edge| !constant(edge)));
            }
        }
        for &id in order {
            let node = model.graph.node(id);
            let int8 = match keeps(&node.operator) {
                // The host converts: to int8 if that is wanted.
                true if self.channels.contains(&node.inputs[0]) => self.is_int8(node.output),
                true => self.is_int8(node.inputs[0]),
                false => !self.host.contains_key(&id),
            };
            if int8 {
                self.int8.insert(node.output);
            }
        }
    }

    /// Gives the accelerator these layers as they are; what makes the first one's input is the host's.
    pub(super) fn take_layers(&mut self, model: &GraphModel, order: &[NodeId], layers: &[FoundLayer]) {
        for layer in layers {
            layer.nodes.iter().for_each(|id| {
                self.host.remove(id);
            });
            self.channels.extend([Tensor::Input, Tensor::Output].map(|tensor| layer.edge(tensor)));
        }
        let made: BTreeSet<EdgeId> = layers.iter().map(|layer| layer.edge(Tensor::Output)).collect();
        for input in layers.iter().map(|layer| layer.edge(Tensor::Input)).filter(|edge| !made.contains(edge)) {
            if let Source::Node(id) = model.graph.edge(input).source {
                self.host.entry(id).or_insert("the layer behind it has a unit for each channel");
            }
        }
        self.int8.clear();
        self.formats(model, order);
        self.int8.extend(layers.iter().flat_map(|layer| layer.edges.values()));
    }

    /// Which results are read out as they are, and which operands of their products have scales for their rows.
    pub(super) fn read_out(
        &mut self,
        model: &GraphModel,
        read_out: ReadOut,
        readers: &BTreeMap<EdgeId, Vec<NodeId>>,
    ) -> Result<(), GraphError> {
        if read_out == ReadOut::Int8 {
            return Ok(());
        }
        let order = model.graph.topological_order()?;
        let read_by = |edge: EdgeId| readers.get(&edge).map_or(&[][..], Vec::as_slice);
        let product = |id: &NodeId| {
            matches!(model.graph.node(*id).operator, Operator::MatMul { .. }) && !self.host.contains_key(id)
        };
        let computes = |id: &NodeId| self.host.contains_key(id) && !moves(&model.graph.node(*id).operator);
        let for_host = |edge: &EdgeId| {
            let read_by = read_by(*edge);
            read_by.iter().all(computes) && (!read_by.is_empty() || model.graph.outputs.contains(edge))
        };
        let made = |id: &NodeId| model.graph.node(*id).output;
        let sums: BTreeSet<EdgeId> = order.iter().filter(|id| product(id)).map(made).filter(for_host).collect();
        if read_out == ReadOut::Int32Rows {
            // A bias would need units of its own in each row.
            let takes = |id: &NodeId, edge: EdgeId| {
                let node = model.graph.node(*id);
                let weights = node.inputs.get(1).map(|&weights| model.graph.edge(weights).source);
                let weighted = weights == Some(Source::Constant);
                let plain = matches!(node.operator, Operator::MatMul { bias: false, .. });
                product(id) && plain && weighted && node.inputs[0] == edge && sums.contains(&node.output)
            };
            let fits = |edge: &EdgeId| {
                let read_by = read_by(*edge);
                !read_by.is_empty() && read_by.iter().all(|id| takes(id, *edge)) && !model.graph.outputs.contains(edge)
            };
            self.rows = order.iter().filter(|id| computes(id)).map(made).filter(fits).collect();
        }
        self.int8.retain(|edge| !sums.contains(edge));
        self.sums = sums;
        Ok(())
    }

    /// Whether an edge has sums of a product.
    pub(super) fn is_sums(&self, edge: EdgeId) -> bool {
        self.sums.contains(&edge)
    }

    /// Whether the rows of an edge have scales of their own.
    pub(super) fn has_row_scales(&self, edge: EdgeId) -> bool {
        self.rows.contains(&edge)
    }

    /// Whether an edge is int8; otherwise float32, or sums.
    pub(super) fn is_int8(&self, edge: EdgeId) -> bool {
        self.int8.contains(&edge)
    }
}

/// Edges that products and poolings read, also moved, reshaped or joined.
fn wanted(model: &GraphModel, order: &[NodeId]) -> BTreeSet<EdgeId> {
    let mut wanted = BTreeSet::new();
    for &id in order.iter().rev() {
        let node = model.graph.node(id);
        let passes = match &node.operator {
            Operator::MatMul { .. } | Operator::Conv2d(_) | Operator::MaxPool(_) => true,
            Operator::Reshape { .. } | Operator::Concat { .. } => wanted.contains(&node.output),
            operator => moves(operator) && wanted.contains(&node.output),
        };
        if passes {
            wanted.extend(node.inputs.iter().copied());
        }
    }
    wanted
}

/// Why the host does a node, if so; `native` says that some operand is the accelerator's or the user's.
fn host_reason(model: &GraphModel, node: &Node, ranges: &BTreeMap<EdgeId, f32>, native: bool) -> Option<&'static str> {
    let edge = |index: usize| model.graph.edge(node.inputs[index]);
    let constant = |index: usize| edge(index).source == Source::Constant;
    let activations = match &node.operator {
        Operator::Add => 2,
        Operator::Concat { .. } => node.inputs.len(),
        _ => 1,
    };
    match &node.operator {
        Operator::Reshape { .. } => None,
        operator if (0..activations).any(constant) && !moves(operator) => Some("an operand is constant"),
        Operator::MatMul { bias: true, .. } if !constant(2) => Some("its bias is computed"),
        Operator::MatMul { bias: true, .. } if !constant(1) => Some("a product of two activations has no bias"),
        Operator::MatMul { .. } if constant(1) && edge(1).shape.len() != 2 => Some("its weights are several matrices"),
        Operator::MatMul { .. } => None,
        Operator::Conv2d(_) if !constant(1) => Some("its weights are computed"),
        Operator::Conv2d(conv) if conv.bias && !constant(2) => Some("its bias is computed"),
        Operator::Conv2d(_) => None,
        Operator::AveragePool { window, count_padding: false } if window.padding != [0; 4] => {
            Some("windows at the border have divisors of their own, the read-out has one")
        }
        Operator::Add if !fits(node, ranges) => Some("one operand is less than a unit of the other"),
        Operator::Attention { cached: true, .. } => Some("attention with a cache is the decoder's own operation"),
        Operator::Attention { scale, .. } if !fine(node, ranges, *scale) => {
            Some("a unit of its scores is more than the integer exponential takes")
        }
        Operator::LayerNorm { .. } if !constant(1) || !constant(2) => Some("its gamma or beta is computed"),
        Operator::Attention { .. }
        | Operator::Gelu { .. }
        | Operator::LayerNorm { .. }
        | Operator::Relu
        | Operator::ClippedRelu { .. }
        | Operator::Add
        | Operator::Concat { .. }
        | Operator::MaxPool(_)
        | Operator::AveragePool { .. }
        | Operator::GlobalAveragePool => {
            if native {
                None
            } else {
                Some("its operands are the host's")
            }
        }
        Operator::Embedding { .. } | Operator::Gather { .. } => Some("a look-up"),
        operator if moves(operator) => Some("it only moves elements"),
        _ => Some("the accelerator has no such operation"),
    }
}

/// Whether ln 2 is at least a unit of the scores (`SoftmaxConstants::for_scale`).
fn fine(node: &Node, ranges: &BTreeMap<EdgeId, f32>, scale: f32) -> bool {
    let [q, k] = [0, 1].map(|index| ranges.get(&node.inputs[index]).copied().unwrap_or(0.0) / UNITS);
    let unit = q * k * scale;
    unit > 0.0 && unit < std::f32::consts::LN_2 / 2.0
}

/// Whether both operands of an addition are seen in units of the coarser one.
fn fits(node: &Node, ranges: &BTreeMap<EdgeId, f32>) -> bool {
    let [a, b] = [0, 1].map(|index| ranges.get(&node.inputs[index]).copied().unwrap_or(0.0));
    // A tensor of zeros has no range of its own.
    a.is_finite() && b.is_finite() && (2.0 * UNITS * a.min(b) >= a.max(b) || a.min(b) < NOTHING)
}
