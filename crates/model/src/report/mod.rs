//! Accuracy: cosine, largest error and signal to noise ratio, of layers, tensors and operations.

mod graph;
pub mod quality;
mod tensors;

pub use graph::StepQuality;
pub use tensors::{ErrorReport, LayerReport, TensorReport};
