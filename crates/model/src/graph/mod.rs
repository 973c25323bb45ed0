//! A network as a graph of typed operators: the form in which models of every family reach the compiler.
//!
//! Nodes are operations, edges are tensors with a checked shape and, once quantised, the meaning of their integers.
//! A [`Graph`] holds no weights, so it describes BERT-Large at 4096 tokens in a few kilobytes and is itself a serde
//! value; a [`GraphModel`] adds the constants.
//!
//! | file | role |
//! |---|---|
//! | [`operator`] | the operators, their shape rules and their work |
//! | [`expression`] | functions of one element |
//! | [`rearrange`] | operators that move, stretch or reduce |
//! | `network`, `error` | nodes, edges and number formats, and what is wrong with them |
//! | [`builder`] | building a graph node by node, each one checked |
//! | [`families`], `weighted` | graphs of BERT, GPT-2 and ResNet configurations, without and with weights |
//! | [`onnx`] | graphs from ONNX files |
//! | [`mod@evaluate`] | the float32 meaning of a graph |
//! | [`inputs`] | inputs from files |
//!
//! # Conventions
//!
//! * Token matrices are `[tokens, width]`; leading dimensions of matrix products are batches.
//! * Images are channels last, `[images, height, width, channels]`, as Gemmini's convolutions read them; convolution
//!   weights are `[kernel rows, kernel columns, input channels / groups, output channels]`.
//! * The right operand of a product is `[K, J]`, Gemmini's B operand.
//! * Scores, softmax and context of all heads are one [`operator::Operator::Attention`] node.

pub mod builder;
pub(crate) mod error;
pub mod evaluate;
pub mod expression;
pub mod families;
pub mod inputs;
pub(crate) mod network;
pub mod onnx;
pub mod operator;
pub mod rearrange;
mod weighted;

pub use builder::GraphBuilder;
pub use error::{GraphError, MAX_BYTES, RefusedNode, refused_text};
pub use evaluate::{Array, evaluate};
pub use inputs::{inputs_from_bytes, read_inputs};
pub use network::{Edge, EdgeId, Element, Graph, GraphModel, Node, NodeId, Quantisation, Source};
pub use operator::{Operator, OperatorClass, Placement, Work};

pub use crate::reference::graph::Task;

/// Graphs in INT8 (see [`crate::quantise`]).
pub use crate::quantise::{
    GraphOptions, ReadOut,
    integer_graph::{
        Format, HostOperand, IntegerGraph, IntegerOperation, Numbers, Step, Tensors, Values, Weights, scale_rows,
    },
};
