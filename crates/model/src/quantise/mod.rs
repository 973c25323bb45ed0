//! Quantisation to INT8: calibration, ranges, Transformers layer by layer, and convolutional networks as graphs.
//!
//! | file | role |
//! |---|---|
//! | `range`, `options` | how ranges follow from values, and all other choices |
//! | [`calibrate`] | what the tensors of a Transformer look like on sample sentences |
//! | `rewrites` | which exact rewrites that asks for |
//! | [`layer`] | the quantised layer: matrices, biases, scales, constants |
//! | `encoder_layer` | one layer of an encoder; the parts are a decoder's, too |
//! | [`encoder`], [`decoder`] | whole models |
//! | `integer_graph`, `graph` | convolutional networks in INT8, and how one is made from a float32 graph |
//! | `graph_calibration`, `graph_transformer` | what samples tell about a graph, and its attention, GELU and LayerNorm |
//! | `graph_encoder` | encoder layers that are found in a graph, quantised as a whole |
//! | `partition` | which operations of a graph are the accelerator's, and which tensors are int8 |
//! | [`llama`] | Llama-like decoders: their graph in INT8 at any positions |
//! | `formats` | the number formats of a Transformer on its graph |

pub mod calibrate;
pub mod decoder;
pub mod encoder;
pub(crate) mod encoder_layer;
mod formats;
mod graph;
mod graph_calibration;
mod graph_encoder;
mod graph_transformer;
pub(crate) mod integer_graph;
pub mod layer;
pub mod llama;
pub(crate) mod options;
mod partition;
pub(crate) mod range;
mod rewrites;

pub use encoder::QuantisedModel;
pub use encoder_layer::{norm_encoding, quantise_layer};
pub use graph::{GraphOptions, ReadOut};
pub use options::QuantiseOptions;
pub use range::RangeMethod;
