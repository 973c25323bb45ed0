//! Why an ONNX file cannot be imported.

use std::fmt::Write;

use crate::graph::error::{GraphError, RefusedNode, refused_text};

/// Names that a list shows at most.
const NAMES_SHOWN: usize = 8;

/// Why a file cannot be imported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file is no ONNX model.
    #[error("not a valid ONNX model: {reason}; it may be truncated, export it again")]
    Decode {
        /// The decoder's reason.
        reason: String,
    },
    /// A node cannot be translated.
    #[error("node `{node}` ({operator}): {what}; {remedy}")]
    Unsupported {
        /// Name of the node (of its first result if it has none).
        node: String,
        /// Its ONNX operator.
        operator: String,
        /// What is not supported.
        what: String,
        /// What would help.
        remedy: String,
    },
    /// All the nodes that cannot be translated, if there are several.
    #[error("{}", refused_text(nodes))]
    Refused {
        /// The nodes.
        nodes: Vec<RefusedNode>,
    },
    /// Sizes of inputs are not fixed.
    #[error("{}", open_text(dimensions))]
    Dimensions {
        /// All such sizes.
        dimensions: Vec<OpenDimension>,
    },
    /// A size is given for a dimension that the network does not leave open.
    #[error("the network has no open dimension `{name}`; {}", known_text(known))]
    UnknownDimension {
        /// The name that was given.
        name: String,
        /// Those that can be given.
        known: Vec<String>,
    },
    /// A value is given for an input that the network does not have.
    #[error("the network has no input `{name}`; it has {}", list(known))]
    UnknownInput {
        /// The name that was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// An input or size cannot be used.
    #[error("input `{input}`: {reason}")]
    Input {
        /// Name of the input.
        input: String,
        /// What is wrong, and what would help.
        reason: String,
    },
    /// Nodes depend on each other in a circle.
    #[error(
        "the nodes {} depend on each other in a circle; a network must have no cycle: export it again",
        list(nodes)
    )]
    Cycle {
        /// The nodes on the circle, each reads a result of the next one.
        nodes: Vec<String>,
    },
    /// Two nodes, constants or inputs define one value.
    #[error("the value `{value}` is defined twice: by {first} and by {second}; give each value a name of its own")]
    Duplicate {
        /// Name of the value.
        value: String,
        /// What defines it first.
        first: String,
        /// What defines it again.
        second: String,
    },
    /// A node reads a value that nothing defines.
    #[error("node `{node}` ({operator}): its operand `{operand}` is missing from the file")]
    Undefined {
        /// Name of the node.
        node: String,
        /// Its ONNX operator.
        operator: String,
        /// Name of the value.
        operand: String,
    },
    /// A constant cannot be read.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The nodes between constants would compute very large ones.
    #[error(
        "the constants that its nodes compute have more than {limit} elements beyond {reads} times those of the file; \
         export the model with constant folding"
    )]
    Computed {
        /// Elements that may be computed.
        limit: usize,
        /// And how many times those that the file has.
        reads: usize,
    },
    /// A constant has a NaN or an infinity.
    #[error(
        "tensor `{tensor}` has the value {value} at element {element}; all of a network's constants must be finite \
             numbers: train or export it again"
    )]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Index of the first such element, in every dimension.
        element: String,
        /// The value.
        value: f64,
    },
    /// The translated operator refuses its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A size of an input that the file leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDimension {
    /// Name of the input.
    pub input: String,
    /// Its axis.
    pub axis: usize,
    /// The name under which a size can be given: that of the dimension, or `INPUT.AXIS`.
    pub name: String,
}

impl OnnxError {
    /// The error for nodes that cannot be translated; `nodes` is not empty.
    pub(super) fn refused(mut nodes: Vec<Self>) -> Self {
        if nodes.len() == 1 {
            return nodes.remove(0);
        }
        let entry = |error| match error {
            Self::Unsupported { node, operator, what, remedy } => {
                Some(RefusedNode { node, operator, reason: format!("{what}; {remedy}") })
            }
            _ => None,
        };
        Self::Refused { nodes: nodes.into_iter().filter_map(entry).collect() }
    }
}

fn list(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_SHOWN {
        let _ = write!(text, " and {} more", names.len() - NAMES_SHOWN);
    }
    text
}

fn open_text(dimensions: &[OpenDimension]) -> String {
    let place = |d: &OpenDimension| {
        let own = format!("{}.{}", d.input, d.axis);
        let named = if d.name == own { String::new() } else { format!(" (`{}`)", d.name) };
        format!("input `{}`: axis {}{named} has no fixed size", d.input, d.axis)
    };
    let mut names: Vec<&str> = Vec::new();
    for dimension in dimensions {
        if !names.contains(&dimension.name.as_str()) {
            names.push(&dimension.name);
        }
    }
    let options: Vec<String> =
        names.iter().map(|name| format!("--dimension {}", quoted(&format!("{name}=1")))).collect();
    let places: Vec<String> = dimensions.iter().map(place).collect();
    format!(
        "{}; give {}, for example {}",
        places.join("; "),
        if names.len() == 1 { "it one" } else { "them" },
        options.join(" ")
    )
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._=/:-".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn known_text(known: &[String]) -> String {
    match known {
        [] => "all sizes of its inputs are fixed".to_owned(),
        known => format!("it has {}", list(known)),
    }
}
