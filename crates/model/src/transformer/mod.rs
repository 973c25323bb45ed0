//! Transformers in float32: model directories, forward passes, and exact rewrites.

pub mod bert;
pub mod float;
pub mod gpt2;
pub mod llama;
pub(crate) mod random;
pub mod rewrite;
pub mod weights;
