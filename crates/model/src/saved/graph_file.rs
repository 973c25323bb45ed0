//! INT8 graphs as safetensors files: `NAME.weights` I8 and `NAME.bias` I32 for each step that has some, `NAME.operandN` F32
//! for the host's constants; graph, number
//! formats and read-out scales are JSON in the metadata entry `pollux`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files::container::{Array, Arrays, open, serialise};
use crate::quantise::integer_graph::{HostOperand, IntegerGraph, IntegerOperation};
use crate::saved::layer_file;

/// Version of the layout.
const FORMAT_VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    integer_graph: IntegerGraph,
}

fn arrays(graph: &mut IntegerGraph) -> Arrays<'_> {
    let mut list = Vec::new();
    for step in &mut graph.steps {
        let name = step.name.clone();
        match &mut step.operation {
            IntegerOperation::Host { operands, .. } => {
                for (index, operand) in operands.iter_mut().enumerate() {
                    if let HostOperand::Constant { data, .. } = operand {
                        list.push((format!("{name}.operand{index}"), Array::F32(data)));
                    }
                }
            }
            IntegerOperation::Encoder { layer, .. } => {
                list.extend(
                    layer_file::arrays(layer).into_iter().map(|(part, array)| (format!("{name}.{part}"), array)),
                );
            }
            IntegerOperation::MatMul(weights) | IntegerOperation::Conv2d { weights, .. } => {
                list.push((format!("{name}.weights"), Array::Weights(&mut weights.values)));
                list.push((format!("{name}.bias"), Array::I32(&mut weights.bias)));
            }
            _ => {}
        }
    }
    list
}

impl IntegerGraph {
    /// The graph as a file.
    ///
    /// # Errors
    /// If two steps have one name.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let fail = |reason: String| ModelError::ModelFile { origin: self.graph.name.clone(), reason };
        let mut graph = self.clone();
        let tensors: Vec<_> = arrays(&mut graph).into_iter().map(|(name, array)| array.take(name)).collect();
        let header = Header { version: FORMAT_VERSION, integer_graph: graph };
        let json = serde_json::to_string(&header).map_err(|error| fail(error.to_string()))?;
        serialise(&tensors, json).map_err(fail)
    }

    /// Whether a file says that it holds a quantised graph.
    pub fn is_file(bytes: &[u8]) -> bool {
        let keys = |json: &str| serde_json::from_str::<BTreeMap<String, serde::de::IgnoredAny>>(json).ok();
        open(bytes, "graph").is_ok_and(|(_, json)| keys(&json).is_some_and(|keys| keys.contains_key("integer_graph")))
    }

    /// Reads a graph from memory; `origin` names it in errors.
    ///
    /// # Errors
    /// If the bytes are truncated, of another version, or inconsistent.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, ModelError> {
        let fail = |reason: String| ModelError::ModelFile { origin: origin.to_owned(), reason };
        let (file, json) = open(bytes, "graph").map_err(&fail)?;
        let Header { version, integer_graph: mut graph } =
            serde_json::from_str(&json).map_err(|error| fail(format!("it holds no quantised graph: {error}")))?;
        if version != FORMAT_VERSION {
            return Err(fail(format!("format version {version} cannot be read, only {FORMAT_VERSION}")));
        }
        for (name, array) in arrays(&mut graph) {
            array.fill(&name, &file).map_err(&fail)?;
        }
        graph.check().map_err(fail)?;
        Ok(graph)
    }
}
