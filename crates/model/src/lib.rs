//! Real networks for Gemmini: reading, calibrating, quantising to INT8, and the integer reference.
//!
//! The parts, in the order in which data flow; each one uses those above it only:
//!
//! | part | modules | role |
//! |---|---|---|
//! | [`files`] | [`matrix`], [`tensor`], [`files::encoding`], [`word_table`] | matrices, names of tensors, number formats, files of weights (safetensors, GGUF) |
//! | [`transformer`] | [`float`], [`bert`], [`gpt2`], [`llama`], [`rewrite`] | model directories and GGUF files, the float32 encoder and decoder, exact rewrites |
//! | [`mod@graph`] | [`graph::operator`], [`graph::builder`], [`graph::families`], [`onnx`] | any network as a graph of typed operators |
//! | [`quantise`] | [`mod@calibrate`], [`layer`], [`encoder`], [`decoder`] | INT8: ranges, the quantised layer, whole Transformers, convolutional graphs |
//! | [`mod@reference`] | [`mod@layer_reference`], [`decoder_reference`] | what Gemmini's arithmetic makes of it, bit for bit; shares no code with anything that runs it |
//! | [`report`] | [`quality`] | cosine, largest error, signal to noise ratio; of every tensor of every layer |
//! | [`saved`] | [`container`], [`mod@model_file`] | quantised networks as files; layer 0 of all-MiniLM-L6-v2 is embedded |
//!
//! The modules of the second column are also at the crate's root.
//!
//! # Data flow of a quantised layer
//!
//! Every matrix in memory is int8; every product is int8 x int8 into the int32 accumulator; every result is read
//! out by a mvout, which applies an integer activation, multiplies by one float32 and saturates to int8. Two kinds
//! of operation, besides attention, are enough: [`layer::Linear`] (dense) and [`layer::DiagonalSum`].
//!
//! | step | operation | A | B | read-out |
//! |---|---|---|---|---|
//! | 1 | query, key, value | input | weights | scale |
//! | 2 | scores of a head | query | key transposed | softmax, 1/127 |
//! | 3 | context of a head | probabilities | value | scale |
//! | 4 | attention output | context | weights | scale |
//! | 5 | first LayerNorm | attention output, input | diagonals | LayerNorm |
//! | 6 | intermediate | step 5 | weights | scale |
//! | 7 | GELU | intermediate | diagonal | GELU |
//! | 8 | ffn output | step 7 | weights | scale |
//! | 9 | second LayerNorm | ffn output, step 5 | diagonals | LayerNorm |
//!
//! A diagonal sum is a matrix product whose B operand stacks diagonal matrices, one a term, so that only one tile
//! of B a term is not zero in each column of tiles. If branch and residual lie side by side in memory, it is an
//! ordinary product with K = terms x width (a repeated operand is the same columns again).
//!
//! ## Why diagonals
//!
//! *The integer units need coarse inputs.* LayerNorm's sum of squares and GELU's cubic product must stay inside
//! int32, so an input of 384 columns may deviate by some 2300 units (rms), and GELU wants a step of 0.004 or more.
//! A dense product's accumulator is ten to a hundred times finer. So it is read out as int8 and loaded again
//! through a diagonal, which at the same time chooses the new step.
//!
//! *The residual is added in int32.* Branch and residual keep their own int8 scales; their sum is never rounded.
//!
//! *Gamma and beta cost nothing.* The normalizer gives int8 (x - mean) / stddev without gamma and beta. They are
//! part of the tensor's [`layer::Encoding`] and are folded into whatever reads it: gamma into the rows of the next
//! weights and into the residual's diagonal, beta into the biases. No host arithmetic, no second rounding.
//!
//! *Per-channel scales survive.* The read-out has one factor for a whole tensor; a weight scale that varies by
//! channel gives an output scale that varies with it, which the diagonal evens out (see [`quantise`]).
//!
//! ## What was compared
//!
//! Ten sentences through all-MiniLM-L6-v2 (`programs/minilm/sentences.txt`; calibrated, min-max, on sixteen other
//! ones). Cosine against float32 of each layer alone (lowest and highest of six), and of the sentence embedding
//! (mean). The lower rows change one thing in the row marked *default*.
//!
//! | variant | layer | embedding |
//! |---|---|---|
//! | one scale for every tensor | 0.926 - 0.977 | 0.832 |
//! | per-channel weights and branches, GELU read out with one scale | 0.990 - 0.996 | 0.979 |
//! | default: and GELU read out in groups of 16 columns | 0.994 - 0.997 | 0.986 |
//! | sum of branch and residual rounded to int8 before LayerNorm | 0.831 - 0.971 | 0.724 |
//! | gamma and beta applied to the int8 result, rounded again (by host or array) | 0.990 - 0.993 | 0.972 |
//! | outlier channels moved to the last 16 columns, read out on their own | 0.996 - 0.999 | 0.991 |
//!
//! The last one is [`quantise::QuantiseOptions::outlier_channels`]; it needs two read-outs of each LayerNorm (a
//! [`layer::DiagonalSum`] with two column groups), so the default for a single layer leaves it off. What remains
//! comes, in this order, from int8 LayerNorm outputs, the residual's int8 factors, int8 weights, and GELU's int8
//! results; for texts of more than a hundred tokens also from probabilities in steps of 1/127.
//!
//! ## Limits of the hardware that shaped this
//!
//! * The mesh adds up one tile in 20 bits: arrays up to 32 x 32 cannot wrap there (127 x 127 x 32 < 2^19); in a
//!   64 x 64 array extreme tiles could.
//! * The output-stationary mode could shift right before the accumulator, which would spare the reload, but it
//!   keeps the whole K in 20 bits, too few for these products.
//! * LayerNorm needs a whole row of the accumulator: 24 tiles for 384 columns on a 16 x 16 array.
//! * LayerNorm's scale enters its statistics, so each column group of a LayerNorm is a pass of its own.

/// The front page of the package, whose example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub mod error;
pub mod files;
pub mod graph;
pub mod quantise;
pub mod reference;
pub mod report;
pub mod saved;
pub mod transformer;

pub use files::{matrix, tensor, word_table};
pub use graph::onnx;
pub use quantise::{calibrate, decoder, encoder, layer};
pub use reference::{decoder as decoder_reference, layer as layer_reference};
pub use report::quality;
pub use saved::{layer_file as container, model_file};
pub use transformer::{bert, float, gpt2, llama, rewrite};

pub(crate) use files::{text, weights};
pub(crate) use transformer::random;

pub use container::{LayerFile, embedded_default};
pub use error::ModelError;
pub use float::AttentionMask;
pub use graph::{Graph, GraphBuilder, GraphError, GraphModel};
pub use layer::QuantisedLayer;
pub use layer_reference::{LayerTrace, layer_reference};
pub use matrix::Matrix;
pub use model_file::{FloatModel, ModelFile};
pub use tensor::Tensor;
