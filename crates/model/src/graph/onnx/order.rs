//! The nodes in an order in which each comes after those whose results it reads; files that have none are refused.
//!
//! Nodes that no output needs are left out, so that a training graph's leftovers cost nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::error::OnnxError;
use super::op::Op;
use super::proto::{GraphProto, NodeProto};

/// What an import walks over.
pub(super) struct Order<'a> {
    /// The nodes that the outputs need.
    pub(super) nodes: Vec<&'a NodeProto>,
    /// How many operands of these nodes and outputs each value is.
    pub(super) readers: BTreeMap<&'a str, usize>,
}

/// Names that are not empty: an empty one is an operand or result that is left out.
fn given(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| !name.is_empty())
}

impl<'a> Order<'a> {
    /// # Errors
    /// A value that is defined twice or not at all, a cycle, or no output.
    pub(super) fn new(graph: &'a GraphProto) -> Result<Self, OnnxError> {
        let producers = producers(graph)?;
        let sources: Vec<Vec<usize>> = (graph.node.iter())
            .map(|node| given(&node.input).filter_map(|name| producers.get(name).copied()).collect())
            .collect();
        let order = sorted(graph, &sources)?;
        let live = live(graph, &producers, &sources)?;
        let nodes: Vec<&NodeProto> =
            order.into_iter().filter(|index| live.contains(index)).map(|index| &graph.node[index]).collect();
        let mut readers = BTreeMap::new();
        let operands = nodes.iter().flat_map(|node| given(&node.input));
        for name in operands.chain(graph.output.iter().map(|output| output.name.as_str())) {
            *readers.entry(name).or_insert(0) += 1;
        }
        Ok(Self { nodes, readers })
    }
}

/// The node that makes each value; every value has one source, and every operand has some.
fn producers(graph: &GraphProto) -> Result<BTreeMap<&str, usize>, OnnxError> {
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    let mut producers = BTreeMap::new();
    // Older files list the initializers among the inputs, too.
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let tensors = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), "a constant".to_owned(), None));
    let inputs = (graph.input.iter().map(|input| input.name.as_str()))
        .filter(|name| !constants.contains(name))
        .map(|name| (name, "an input".to_owned(), None));
    let results = graph.node.iter().enumerate().flat_map(|(index, node)| {
        given(&node.output)
            .map(move |name| (name, format!("node `{}` ({})", Op { node }.name(), node.op_type), Some(index)))
    });
    for (value, source, node) in tensors.chain(inputs).chain(results) {
        if let Some(first) = sources.get(value) {
            return Err(OnnxError::Duplicate { value: value.to_owned(), first: first.clone(), second: source });
        }
        sources.insert(value, source);
        if let Some(index) = node {
            producers.insert(value, index);
        }
    }
    for node in &graph.node {
        if let Some(operand) = given(&node.input).find(|name| !sources.contains_key(name)) {
            let (node, operator) = (Op { node }.name().to_owned(), node.op_type.clone());
            return Err(OnnxError::Undefined { node, operator, operand: operand.to_owned() });
        }
    }
    Ok(producers)
}

/// A topological order; among nodes that are ready, the file's.
fn sorted(graph: &GraphProto, sources: &[Vec<usize>]) -> Result<Vec<usize>, OnnxError> {
    let mut waiting: Vec<usize> = sources.iter().map(Vec::len).collect();
    let mut readers = vec![Vec::new(); sources.len()];
    for (index, sources) in sources.iter().enumerate() {
        sources.iter().for_each(|&source| readers[source].push(index));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..waiting.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match waiting.iter().position(|&count| count > 0) {
        Some(stuck) => Err(cycle(graph, sources, &waiting, stuck)),
        None => Ok(order),
    }
}

/// The circle behind a node that never becomes ready: every such node waits for another one.
fn cycle(graph: &GraphProto, sources: &[Vec<usize>], waiting: &[usize], stuck: usize) -> OnnxError {
    let (mut path, mut seen, mut at) = (Vec::new(), BTreeMap::new(), stuck);
    while !seen.contains_key(&at) {
        seen.insert(at, path.len());
        path.push(at);
        at = sources[at].iter().copied().find(|&source| waiting[source] > 0).unwrap_or(at);
    }
    let circle = &path[seen[&at]..];
    OnnxError::Cycle { nodes: circle.iter().map(|&index| Op { node: &graph.node[index] }.name().to_owned()).collect() }
}

/// The nodes that the outputs need.
fn live(
    graph: &GraphProto,
    producers: &BTreeMap<&str, usize>,
    sources: &[Vec<usize>],
) -> Result<BTreeSet<usize>, OnnxError> {
    if graph.output.is_empty() {
        return Err(OnnxError::Decode { reason: "its graph has no outputs".into() });
    }
    let mut names = BTreeSet::new();
    let mut waiting = Vec::new();
    for output in &graph.output {
        let name = output.name.as_str();
        if !names.insert(name) {
            let output = "the list of outputs".to_owned();
            return Err(OnnxError::Duplicate { value: name.into(), first: output.clone(), second: output });
        }
        let undefined =
            || OnnxError::Tensor { tensor: name.into(), reason: "it is an output, but no node computes it".into() };
        waiting.push(*producers.get(name).ok_or_else(undefined)?);
    }
    let mut live = BTreeSet::new();
    while let Some(index) = waiting.pop() {
        if live.insert(index) {
            waiting.extend(&sources[index]);
        }
    }
    Ok(live)
}
