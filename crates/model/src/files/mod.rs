//! What all other parts stand on: matrices, number formats, names of tensors, and reading files of weights.

pub(crate) mod container;
pub mod encoding;
pub(crate) mod gguf;
mod gguf_blocks;
pub mod matrix;
pub mod tensor;
pub(crate) mod text;
pub(crate) mod weights;
pub mod word_table;
