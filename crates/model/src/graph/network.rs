//! The graph: nodes, edges, number formats, and what holds for all of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{GraphError, MAX_BYTES};
use super::operator::{self, Operator, Work};
use crate::files::encoding::Encoding;

/// Number of a node in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub(super) u32);

/// Number of an edge in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EdgeId(pub(super) u32);

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl EdgeId {
    /// Position in [`Graph::edges`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an edge's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Given at run time (token ids, an image, a key cache).
    Input,
    /// A weight, fixed when the model is built.
    Constant,
    /// The result of a node.
    Node(NodeId),
}

/// Integer type of a quantised edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// Operand of the mesh, or a scaled read-out.
    Int8,
    /// Operand of the mesh whose rows have scales of their own, which the host finds in every run.
    Int8Rows,
    /// A bias, or an accumulator read out in full width.
    Int32,
}

/// What the integers of an edge stand for: `real = scale[c] * q + offset[c]`, c running along the last dimension.
/// One scale (and offset) means the whole tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantisation {
    /// Type of the integers.
    pub element: Element,
    /// Scales and offsets, one or one a channel.
    #[serde(flatten)]
    pub encoding: Encoding,
}

/// A tensor between nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Unique name; that of the producing node if there is one.
    pub name: String,
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Where the values come from.
    pub source: Source,
    /// Meaning of the integers; absent while the edge is float32 (or holds token ids).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
}

impl Edge {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique name.
    pub name: String,
    /// What it does.
    pub operator: Operator,
    /// Operands, in the operator's order.
    pub inputs: Vec<EdgeId>,
    /// The result.
    pub output: EdgeId,
    /// Number of the encoder layer, decoder block or residual stage it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
}

/// A network without its weights. Made by a [`GraphBuilder`](crate::graph::GraphBuilder); a deserialised one is checked by [`Graph::check`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// All operations.
    pub nodes: Vec<Node>,
    /// All tensors.
    pub edges: Vec<Edge>,
    /// The results.
    pub outputs: Vec<EdgeId>,
}

impl Graph {
    /// The node of that number.
    ///
    /// # Panics
    /// If the number is another graph's.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The edge of that number.
    ///
    /// # Panics
    /// If the number is another graph's.
    pub fn edge(&self, id: EdgeId) -> &Edge {
        &self.edges[id.index()]
    }

    /// The edge of that name.
    pub fn find_edge(&self, name: &str) -> Option<EdgeId> {
        self.edges.iter().position(|e| e.name == name).map(|i| EdgeId(i as u32))
    }

    /// The node of that name.
    pub fn find_node(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name).map(|i| NodeId(i as u32))
    }

    /// Numbers of all edges.
    pub fn edge_ids(&self) -> impl Iterator<Item = EdgeId> + use<> {
        (0..self.edges.len() as u32).map(EdgeId)
    }

    /// Edges that are given at run time.
    pub fn inputs(&self) -> impl Iterator<Item = EdgeId> + '_ {
        self.edge_ids().filter(|&e| self.edge(e).source == Source::Input)
    }

    /// Edges that hold weights.
    pub fn constants(&self) -> impl Iterator<Item = EdgeId> + '_ {
        self.edge_ids().filter(|&e| self.edge(e).source == Source::Constant)
    }

    /// Shapes of a node's operands.
    pub fn input_shapes(&self, node: &Node) -> Vec<&[usize]> {
        node.inputs.iter().map(|&e| self.edge(e).shape.as_slice()).collect()
    }

    /// Checks that all tensors together fit in [`MAX_BYTES`], before any of them is allocated.
    ///
    /// # Errors
    /// [`GraphError::Memory`].
    pub fn check_memory(&self) -> Result<(), GraphError> {
        let bytes = |edge: &Edge| (edge.elements() as u64).saturating_mul(size_of::<f32>() as u64);
        let needed = self.edges.iter().fold(0u64, |sum, edge| sum.saturating_add(bytes(edge)));
        match self.edges.iter().max_by_key(|edge| edge.elements()) {
            Some(edge) if needed > MAX_BYTES => Err(GraphError::Memory {
                edge: edge.name.clone(),
                shape: edge.shape.clone(),
                largest: bytes(edge),
                needed,
            }),
            _ => Ok(()),
        }
    }

    /// Multiply-accumulates, other operations and bytes of one node.
    pub fn work(&self, id: NodeId) -> Work {
        let node = self.node(id);
        let constant = |e: &&EdgeId| self.edge(**e).source == Source::Constant;
        let bytes = |e: &EdgeId| self.edge(*e).elements() as u64;
        node.operator.work(
            &self.input_shapes(node),
            &self.edge(node.output).shape,
            node.inputs.iter().filter(constant).map(bytes).sum(),
        )
    }

    /// Work of all nodes together.
    pub fn total_work(&self) -> Work {
        (0..self.nodes.len() as u32).map(|i| self.work(NodeId(i))).fold(Work::default(), |a, b| a + b)
    }

    /// The nodes so that each comes after those whose results it reads; among ready nodes the lowest number first.
    ///
    /// # Errors
    /// [`GraphError::Cycle`].
    pub fn topological_order(&self) -> Result<Vec<NodeId>, GraphError> {
        let producers = |n: &Node| -> Vec<usize> {
            let source = |e: &EdgeId| match self.edge(*e).source {
                Source::Node(id) => Some(id.index()),
                _ => None,
            };
            n.inputs.iter().filter_map(source).collect()
        };
        let mut waiting = vec![0usize; self.nodes.len()];
        let mut readers = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for p in producers(node) {
                waiting[i] += 1;
                readers[p].push(i);
            }
        }
        let mut ready: VecDeque<usize> = (0..waiting.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(i) = ready.pop_front() {
            order.push(NodeId(i as u32));
            for &r in &readers[i] {
                waiting[r] -= 1;
                if waiting[r] == 0 {
                    ready.push_back(r);
                }
            }
        }
        match waiting.iter().position(|&w| w > 0) {
            Some(stuck) => Err(GraphError::Cycle { node: self.nodes[stuck].name.clone() }),
            None => Ok(order),
        }
    }

    /// Checks numbers, names, sources, shapes and quantisation; for graphs that were read from a file.
    ///
    /// # Errors
    /// The first rule that is broken, with the node or edge.
    pub fn check(&self) -> Result<(), GraphError> {
        self.check_numbers()?;
        if let Some(edge) = self.edges.iter().find(|e| operator::elements(&e.shape).is_none()) {
            return Err(GraphError::TooLarge { edge: edge.name.clone(), shape: edge.shape.clone() });
        }
        let mut names: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        names.extend(self.edges.iter().filter(|e| !matches!(e.source, Source::Node(_))).map(|e| e.name.as_str()));
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|p| p[0] == p[1]) {
            return Err(GraphError::DuplicateName { name: pair[0].into() });
        }
        for id in self.topological_order()? {
            let node = self.node(id);
            let edge = self.edge(node.output);
            let shape = node.operator.output_shape(&self.input_shapes(node)).map_err(|reason| node.refuse(reason))?;
            if shape != edge.shape {
                return Err(node.refuse(format!("the result has shape {shape:?}, but its edge says {:?}", edge.shape)));
            }
        }
        self.edges.iter().try_for_each(|e| e.quantisation.as_ref().map_or(Ok(()), |q| q.check(e)))
    }

    fn check_numbers(&self) -> Result<(), GraphError> {
        let dangling = |place: &str, what, index: usize, count| {
            Err(GraphError::Dangling { place: place.into(), what, index, count })
        };
        for node in &self.nodes {
            if let Some(e) = node.inputs.iter().chain([&node.output]).find(|e| e.index() >= self.edges.len()) {
                return dangling(&node.name, "edge", e.index(), self.edges.len());
            }
        }
        if let Some(e) = self.outputs.iter().find(|e| e.index() >= self.edges.len()) {
            return dangling("outputs", "edge", e.index(), self.edges.len());
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if self.edge(node.output).source != Source::Node(NodeId(i as u32)) {
                return Err(GraphError::Source { edge: self.edge(node.output).name.clone() });
            }
        }
        for (i, edge) in self.edges.iter().enumerate() {
            let Source::Node(id) = edge.source else { continue };
            if id.index() >= self.nodes.len() {
                return dangling(&edge.name, "node", id.index(), self.nodes.len());
            }
            if self.node(id).output.index() != i {
                return Err(GraphError::Source { edge: edge.name.clone() });
            }
        }
        Ok(())
    }

    /// Says what the integers of an edge stand for.
    ///
    /// # Errors
    /// If there is no such edge, or the number of scales does not fit.
    pub fn quantise_edge(&mut self, name: &str, quantisation: Quantisation) -> Result<(), GraphError> {
        let id = self.find_edge(name).ok_or_else(|| GraphError::NoSuchEdge { edge: name.into() })?;
        quantisation.check(self.edge(id))?;
        self.edges[id.index()].quantisation = Some(quantisation);
        Ok(())
    }
}

impl Node {
    pub(crate) fn refuse(&self, reason: String) -> GraphError {
        GraphError::Node { node: self.name.clone(), operator: self.operator.name(), reason }
    }
}

impl Quantisation {
    /// int8 values of one encoding.
    pub fn int8(encoding: Encoding) -> Self {
        Self { element: Element::Int8, encoding }
    }

    pub(super) fn check(&self, edge: &Edge) -> Result<(), GraphError> {
        let channels = edge.shape.last().copied().unwrap_or(1);
        let fits = |n: usize| match self.element {
            Element::Int8Rows => n == 0,
            _ => n == 1 || n == channels,
        };
        match [self.encoding.scale.len(), self.encoding.offset.len()].into_iter().find(|&n| !fits(n)) {
            Some(found) => Err(GraphError::Scales { edge: edge.name.clone(), found, channels }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            Element::Int8 => "int8",
            Element::Int8Rows => "int8 by rows",
            Element::Int32 => "int32",
        };
        match self.encoding.scale[..] {
            [] => f.write_str(element),
            [scale] => write!(f, "{element} {scale:.3e}"),
            _ => write!(f, "{element} x{}", self.encoding.scale.len()),
        }
    }
}

/// A graph with the values of its constants, in float32.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphModel {
    /// The network.
    pub graph: Graph,
    /// Row-major values of every constant edge.
    pub constants: BTreeMap<EdgeId, Vec<f32>>,
}

/// One line of [`Graph`]'s table.
struct Line([String; 6]);

impl Graph {
    fn line(&self, index: usize) -> Line {
        let node = &self.nodes[index];
        let shapes = node.inputs.iter().filter(|e| self.edge(**e).source != Source::Constant);
        let inputs: Vec<String> = shapes.map(|e| shape_text(&self.edge(*e).shape)).collect();
        let output = self.edge(node.output);
        let macs = self.work(NodeId(index as u32)).macs;
        Line([
            node.name.clone(),
            node.operator.to_string(),
            inputs.join(", "),
            shape_text(&output.shape),
            if macs == 0 { "-".into() } else { macs.to_string() },
            output.quantisation.as_ref().map_or_else(|| "float32".into(), ToString::to_string),
        ])
    }
}

fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// A table with one line a node: name, operator, shapes of operands and result, multiply-accumulates, number format.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["node", "operator", "inputs", "output", "MACs", "format"].map(String::from);
        let lines: Vec<Line> = [Line(head)].into_iter().chain((0..self.nodes.len()).map(|i| self.line(i))).collect();
        let widths: Vec<usize> =
            (0..6).map(|c| lines.iter().map(|l| l.0[c].chars().count()).max().unwrap_or(0)).collect();
        writeln!(f, "{}", self.name)?;
        for Line(cells) in &lines {
            let [name, operator, inputs, output, macs, format] = cells;
            writeln!(
                f,
                "{name:<w0$}  {operator:<w1$}  {inputs:<w2$}  {output:<w3$}  {macs:>w4$}  {format}",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2],
                w3 = widths[3],
                w4 = widths[4],
            )?;
        }
        let work = self.total_work();
        write!(f, "{} nodes, {} MACs, {} weights", self.nodes.len(), work.macs, work.weights)
    }
}
