//! Building a graph node by node; every node's operands are checked when it is added.

use std::collections::BTreeSet;

use super::error::GraphError;
use super::network::{Edge, EdgeId, Graph, Node, NodeId, Quantisation, Source};
use super::operator::{Operator, elements};

/// A graph under construction.
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    graph: Graph,
    names: BTreeSet<String>,
    layer: Option<usize>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        let graph = Graph { name: name.into(), nodes: Vec::new(), edges: Vec::new(), outputs: Vec::new() };
        Self { graph, names: BTreeSet::new(), layer: None }
    }

    /// More of a graph.
    pub(crate) fn further(graph: Graph) -> Self {
        let inner = graph.edges.iter().map(|edge| edge.name.clone());
        let names = inner.collect();
        Self { graph, names, layer: None }
    }

    /// Number of the layer that the following nodes belong to.
    pub fn layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// A tensor given at run time.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`].
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Result<EdgeId, GraphError> {
        self.edge(name, shape.to_vec(), Source::Input)
    }

    /// A weight.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`].
    pub fn constant(&mut self, name: &str, shape: &[usize]) -> Result<EdgeId, GraphError> {
        self.edge(name, shape.to_vec(), Source::Constant)
    }

    /// An operation on existing edges; returns its result.
    ///
    /// # Errors
    /// If the name is taken, or the operator refuses the shapes.
    pub fn node(&mut self, name: &str, operator: Operator, inputs: &[EdgeId]) -> Result<EdgeId, GraphError> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&e| self.graph.edge(e).shape.as_slice()).collect();
        let shape = operator.output_shape(&shapes).map_err(|reason| GraphError::Node {
            node: name.into(),
            operator: operator.name(),
            reason,
        })?;
        let id = NodeId(self.graph.nodes.len() as u32);
        let output = self.edge(name, shape, Source::Node(id))?;
        self.graph.nodes.push(Node { name: name.into(), operator, inputs: inputs.to_vec(), output, layer: self.layer });
        Ok(output)
    }

    /// A dense product with new weights `NAME.weight` `[K, J]` and `NAME.bias` `[J]`.
    ///
    /// # Errors
    /// As [`GraphBuilder::node`].
    pub fn dense(&mut self, name: &str, x: EdgeId, outputs: usize) -> Result<EdgeId, GraphError> {
        let inputs = self.shape(x).last().copied().unwrap_or(1);
        let weight = self.constant(&format!("{name}.weight"), &[inputs, outputs])?;
        let bias = self.constant(&format!("{name}.bias"), &[outputs])?;
        self.node(name, Operator::MatMul { transpose_b: false, bias: true }, &[x, weight, bias])
    }

    /// A LayerNorm with new weights `NAME.gamma` and `NAME.beta`.
    ///
    /// # Errors
    /// As [`GraphBuilder::node`].
    pub fn layer_norm(&mut self, name: &str, x: EdgeId, epsilon: f32) -> Result<EdgeId, GraphError> {
        let width = self.shape(x).last().copied().unwrap_or(1);
        let gamma = self.constant(&format!("{name}.gamma"), &[width])?;
        let beta = self.constant(&format!("{name}.beta"), &[width])?;
        self.node(name, Operator::LayerNorm { epsilon }, &[x, gamma, beta])
    }

    /// Marks an edge as a result of the graph.
    pub fn output(&mut self, edge: EdgeId) {
        self.graph.outputs.push(edge);
    }

    /// Shape of an edge.
    ///
    /// # Panics
    /// If the number is another graph's.
    pub fn shape(&self, edge: EdgeId) -> &[usize] {
        &self.graph.edge(edge).shape
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Says what the integers of an edge stand for.
    ///
    /// # Errors
    /// If the number of scales does not fit.
    pub fn quantise(&mut self, edge: EdgeId, quantisation: Quantisation) -> Result<(), GraphError> {
        let edge = &mut self.graph.edges[edge.index()];
        quantisation.check(edge)?;
        edge.quantisation = Some(quantisation);
        Ok(())
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// Whether a node or edge has that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn edge(&mut self, name: &str, shape: Vec<usize>, source: Source) -> Result<EdgeId, GraphError> {
        if elements(&shape).is_none() {
            return Err(GraphError::TooLarge { edge: name.into(), shape });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(GraphError::DuplicateName { name: name.into() });
        }
        let id = EdgeId(self.graph.edges.len() as u32);
        self.graph.edges.push(Edge { name: name.into(), shape, source, quantisation: None });
        Ok(id)
    }
}
