//! A whole quantised encoder on the integer reference.

use crate::encoder::QuantisedModel;
use crate::error::ModelError;
use crate::float::AttentionMask;
use crate::reference::layer::layer_reference;
use crate::tensor::Tensor;

impl QuantisedModel {
    /// The sentence embedding of `text` with the integer reference executing the layers.
    ///
    /// # Errors
    /// As [`QuantisedModel::embed_with`].
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        self.embed_with(text, |layer, x| {
            let mut trace = layer_reference(layer, x, AttentionMask::Full)?;
            Ok(trace.int8.remove(&Tensor::Output).expect("always there"))
        })
    }
}
