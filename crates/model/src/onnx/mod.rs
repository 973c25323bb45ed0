//! Reading ONNX files as graphs.
//!
//! An import translates node by node into the operators of [`crate::graph`], and folds on the way what has no
//! operation of its own on the accelerator:
//!
//! | ONNX | becomes |
//! |---|---|
//! | MatMul, Gemm with constant weights, and the Add of a bias | [`Operator::MatMul`](crate::graph::Operator::MatMul) with bias |
//! | Split of a product (fused query, key, value) | one product a part |
//! | Reshape, Transpose into heads, MatMul, scale, Add or Where of a constant mask, Softmax, MatMul, and back | [`Operator::Attention`](crate::graph::Operator::Attention) |
//! | Gelu, or Div, Erf, Add, Mul, Mul, or the tanh form, in any order | [`Operator::Gelu`](crate::graph::Operator::Gelu) |
//! | LayerNormalization, or ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add | [`Operator::LayerNorm`](crate::graph::Operator::LayerNorm) |
//! | Conv, the Add of a bias, BatchNormalization | [`Operator::Conv2d`](crate::graph::Operator::Conv2d), channels last |
//! | MaxPool, AveragePool, GlobalAveragePool, ReduceMean over an image | the pooling operators |
//! | Gather of a constant table | [`Operator::Embedding`](crate::graph::Operator::Embedding) |
//! | QuantizeLinear and DequantizeLinear | the number format of the edge |
//! | Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout, Cast | nothing, or [`Operator::Reshape`](crate::graph::Operator::Reshape), which is free |
//! | arithmetic between constants | the result |
//!
//! Images change from channels first to channels last; a Flatten before a product permutes the product's weights.
//! Leading dimensions of size 1 are dropped, so a batch of one is `[tokens, width]`. Sizes must be fixed: give a
//! number for each named dimension. What cannot be translated is refused, naming the node and what would help.

mod constant;
mod elementwise;
mod expression;
mod fold;
mod importer;
mod operators;
mod products;
mod proto;

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

use crate::error::ModelError;
use crate::graph::{GraphError, GraphModel};

/// Choices of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Sizes of the dimensions that the file only names, such as `batch` or `sequence`.
    pub dimensions: BTreeMap<String, usize>,
}

/// Why a file cannot be imported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    /// An input's size is not fixed.
    #[error("input `{input}`: dimension `{dimension}` has no fixed size; give one for this name")]
    Dimension {
        /// Name of the input.
        input: String,
        /// Name of the dimension, or its position.
        dimension: String,
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
    /// The translated operator refuses its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl GraphModel {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// If the file cannot be read, or something in it has no translation; the message names file and node.
    pub fn load_onnx(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(ModelError::io(path))?;
        import(&bytes, path.parent(), options).map_err(|source| ModelError::Onnx { path: path.into(), source })
    }

    /// Reads an ONNX model from memory; it must hold its own data.
    ///
    /// # Errors
    /// As [`GraphModel::load_onnx`].
    pub fn from_onnx(bytes: &[u8], options: &ImportOptions) -> Result<Self, OnnxError> {
        import(bytes, None, options)
    }
}

fn import(bytes: &[u8], directory: Option<&Path>, options: &ImportOptions) -> Result<GraphModel, OnnxError> {
    let model = proto::ModelProto::decode(bytes).map_err(|e| OnnxError::Decode { reason: e.to_string() })?;
    let graph = model.graph.ok_or_else(|| OnnxError::Decode { reason: "it has no graph".into() })?;
    if graph.node.is_empty() {
        return Err(OnnxError::Decode { reason: "its graph has no nodes".into() });
    }
    importer::Importer::new(&graph, directory, options)?.run()
}
