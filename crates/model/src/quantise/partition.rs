//! Which operations of a network the accelerator does, and which tensors are int8.
//!
//! An operation is the accelerator's if there is an integer operation for it and it works on what the accelerator made or the
//! user gives; the rest is the host's, with its reason. A tensor is int8 if the accelerator makes or reads it; movements and
//! reshapings keep their operand's format. So numbers change their format only where the host hands over to the accelerator,
//! as part of the operation that makes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::error::GraphError;
use crate::graph::network::{EdgeId, GraphModel, Node, NodeId, Source};
use crate::graph::operator::Operator;

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
            let int8 = if keeps(&node.operator) { self.is_int8(node.inputs[0]) } else { !self.host.contains_key(&id) };
            if int8 {
                self.int8.insert(node.output);
            }
        }
    }

    /// Whether an edge is int8; otherwise float32.
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
