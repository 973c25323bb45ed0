//! What is wrong with a graph.

use std::collections::BTreeMap;

/// Most bytes of all tensors of a network together in float32, its weights included: about ninety images at once through
/// ResNet-50. More is refused before anything is allocated.
pub const MAX_BYTES: u64 = 4 << 30;

/// A number of bytes for people.
fn size_text(bytes: u128) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32 - 1);
    format!("{:.1} {}", bytes as f64 / (1u128 << (10 * unit)) as f64, UNITS[unit as usize])
}

/// Bytes of a tensor in float32; the largest number if there are more.
fn shape_bytes(shape: &[usize]) -> u128 {
    shape.iter().fold(size_of::<f32>() as u128, |bytes, &size| bytes.saturating_mul(size as u128))
}

/// A node that cannot be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedNode {
    /// Name of the node.
    pub node: String,
    /// Name of its operator.
    pub operator: String,
    /// What is not supported, and what would help.
    pub reason: String,
}

/// All nodes that cannot be used: one as a sentence, several as a list by operator and reason.
pub fn refused_text(nodes: &[RefusedNode]) -> String {
    if let [RefusedNode { node, operator, reason }] = nodes {
        return format!("node `{node}` ({operator}): {reason}");
    }
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for RefusedNode { node, operator, reason } in nodes {
        groups.entry((operator, reason)).or_default().push(node);
    }
    let mut text = format!("{} nodes are not supported:", nodes.len());
    for ((operator, reason), names) in groups {
        let shown: Vec<String> = names.iter().take(NODES_SHOWN).map(|name| format!("`{name}`")).collect();
        let more = match names.len().saturating_sub(NODES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let nodes = if names.len() == 1 { "node" } else { "nodes" };
        text.push_str(&format!("\n  {operator} ({} {nodes}: {}{more}): {reason}", names.len(), shown.join(", ")));
    }
    text
}

/// Names that a list shows of one kind of node.
const NODES_SHOWN: usize = 4;

/// What is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operator refuses its operands.
    #[error("node `{node}` ({operator}): {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// Name of its operator.
        operator: &'static str,
        /// The rule that is broken, with the shapes.
        reason: String,
    },
    /// Two nodes or two edges have one name.
    #[error("the name `{name}` occurs twice; node and edge names must be unique")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node or output refers to an edge or node that does not exist.
    #[error("`{place}` refers to {what} {index}, but the graph has {count}; the file is damaged")]
    Dangling {
        /// Name of the node or edge that refers to it.
        place: String,
        /// `edge` or `node`.
        what: &'static str,
        /// The number.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Edge and node disagree on who produces what.
    #[error("edge `{edge}`: its source is not the node that writes it; every edge has exactly one source")]
    Source {
        /// Name of the edge.
        edge: String,
    },
    /// A tensor has more elements than any network's.
    #[error(
        "edge `{edge}`: shape {shape:?} needs {} in float32; at most {} are allowed: choose smaller dimensions",
        size_text(shape_bytes(shape)), size_text(MAX_BYTES.into())
    )]
    TooLarge {
        /// Name of the edge.
        edge: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The network's tensors need more memory than [`MAX_BYTES`].
    #[error(
        "the network's tensors need {} in float32 (the largest, `{edge}` of shape {shape:?}, {}); at most {} are \
         allowed: choose smaller dimensions, or fewer images at once",
        size_text((*needed).into()), size_text((*largest).into()), size_text(MAX_BYTES.into())
    )]
    Memory {
        /// Name of the largest edge.
        edge: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its bytes.
        largest: u64,
        /// Bytes of all edges.
        needed: u64,
    },
    /// The nodes depend on each other in a circle.
    #[error("node `{node}` depends on its own result; a graph must have no cycle")]
    Cycle {
        /// A node on the circle.
        node: String,
    },
    /// A quantisation does not fit the edge's last dimension.
    #[error("edge `{edge}`: {found} scales for {channels} channels; give one, or one a channel")]
    Scales {
        /// Name of the edge.
        edge: String,
        /// Number of scales given.
        found: usize,
        /// Size of the last dimension.
        channels: usize,
    },
    /// No edge of that name.
    #[error("the graph has no edge `{edge}`")]
    NoSuchEdge {
        /// The name asked for.
        edge: String,
    },
    /// Constants or inputs for the evaluation are missing or have the wrong size.
    #[error("edge `{edge}` of shape {shape:?} needs {expected} values, found {found}")]
    Values {
        /// Name of the edge.
        edge: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A token id lies outside its table.
    #[error("node `{node}`: index {index} is outside the table of {rows} rows")]
    Index {
        /// The embedding node.
        node: String,
        /// The id.
        index: i64,
        /// Rows of the table.
        rows: usize,
    },
}
