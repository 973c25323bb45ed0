//! Quantised networks as files: one layer with a sample, whole Transformers, and graphs.

mod graph_file;
pub mod layer_file;
pub mod model_file;
