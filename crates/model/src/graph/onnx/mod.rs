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
//! | Conv, the Add of a bias, BatchNormalization, and the arithmetic with one number a channel behind it | [`Operator::Conv2d`](crate::graph::Operator::Conv2d), channels last |
//! | MaxPool, AveragePool, GlobalAveragePool, ReduceMean over an image | the pooling operators |
//! | BatchNormalization, Mul, Div, Add, Sub with one number a channel, alone | a depthwise 1x1 [`Operator::Conv2d`](crate::graph::Operator::Conv2d) |
//! | Relu, Clip from 0, Max and Min with numbers | [`Operator::Relu`](crate::graph::Operator::Relu), [`Operator::ClippedRelu`](crate::graph::Operator::ClippedRelu) |
//! | Add, Sum, Concat, Softmax | the operators of these names |
//! | Gather of a constant table | [`Operator::Embedding`](crate::graph::Operator::Embedding) |
//! | QuantizeLinear and DequantizeLinear | the number format of the edge; integers times scales of a constant |
//! | QLinearConv, QLinearMatMul, DynamicQuantizeLinear, ConvInteger, MatMulInteger | products of what they dequantise |
//! | Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout, Cast | nothing, or [`Operator::Reshape`](crate::graph::Operator::Reshape), which is free |
//! | arithmetic between constants | the result |
//!
//! Nodes that no output needs are left out. Images change from channels first to channels last; a Flatten before a product permutes the product's weights.
//! Leading dimensions of size 1 are dropped, so a batch of one is `[tokens, width]`. Sizes must be fixed: give a
//! number for each open dimension ([`ImportOptions::dimensions`]). What cannot be translated is refused, naming all such
//! nodes and what would help. Memory is linear in the file: constants that are computed have a budget, and
//! [`Graph::check_memory`](crate::graph::Graph::check_memory) limits the tensors of the network.

mod channelwise;
mod constant;
mod dimensions;
mod elementwise;
pub(crate) mod error;
mod fold;
mod importer;
mod layouts;
mod materialise;
mod movements;
mod op;
mod operators;
mod order;
mod products;
mod proto;
mod quantised;
mod reductions;
mod resize;
#[cfg(test)]
mod robustness;
mod survey;
mod transposed_convolution;
mod value;

pub use dimensions::ImportOptions;
pub use error::{OnnxError, OpenDimension};

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use self::proto::{ModelProto, OperatorSetProto};
use crate::error::ModelError;
use crate::graph::network::GraphModel;

/// Version of the operators where a file gives none: the first one with today's Softmax.
const DEFAULT_OPSET: i64 = 13;

impl GraphModel {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// If the file cannot be read, or something in it has no translation; the message names file and node.
    pub fn load_onnx(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(ModelError::io(path))?;
        import(bytes.into(), path.parent(), options).map_err(|source| ModelError::Onnx { path: path.into(), source })
    }

    /// Reads an ONNX model from memory; it must hold its own data.
    ///
    /// # Errors
    /// As [`GraphModel::load_onnx`].
    pub fn from_onnx(bytes: &[u8], options: &ImportOptions) -> Result<Self, OnnxError> {
        import(Bytes::copy_from_slice(bytes), None, options)
    }
}

/// The steps of an import: the file's messages, an order of the nodes, the sizes of the inputs, all that cannot be
/// translated, and only then, with the weights, the translation.
fn import(bytes: Bytes, directory: Option<&Path>, options: &ImportOptions) -> Result<GraphModel, OnnxError> {
    let model = ModelProto::decode(bytes).map_err(|e| OnnxError::Decode { reason: e.to_string() })?;
    let mut graph = model.graph.ok_or_else(|| OnnxError::Decode { reason: "it has no graph".into() })?;
    if graph.node.is_empty() {
        return Err(OnnxError::Decode { reason: "its graph has no nodes".into() });
    }
    graph.node = survey::split_sums(quantised::expanded(graph.node));
    let order = order::Order::new(&graph)?;
    survey::survey(&graph, &order, options)?;
    let standard = |set: &&OperatorSetProto| ["", "ai.onnx"].contains(&set.domain.as_str());
    let version = model.opset_import.iter().find(standard).map_or(DEFAULT_OPSET, |set| set.version);
    importer::Importer::new(&graph, order, version, directory, options)?.run()
}
