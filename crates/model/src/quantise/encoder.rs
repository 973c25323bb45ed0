//! A whole quantised encoder: float32 embeddings and pooling on the host, INT8 layers on the accelerator.

use crate::bert::BertModel;
use crate::calibrate::calibrate;
use crate::error::ModelError;
use crate::layer::QuantisedLayer;
use crate::matrix::Matrix;
use crate::quantise::encoder_layer::{norm_encoding, quantise_layer};
use crate::quantise::options::QuantiseOptions;
use crate::rewrite::Rewrites;
use crate::tensor::Tensor;

/// A whole encoder: float32 embeddings on the host, INT8 layers on the accelerator.
#[derive(Clone)]
pub struct QuantisedModel {
    /// The float32 model; its hidden channels are reordered if the options asked for it.
    pub model: BertModel,
    /// The INT8 layers, first to last; each one's output encoding is the next one's input encoding.
    pub layers: Vec<QuantisedLayer>,
}

impl QuantisedModel {
    /// Calibrates on token sequences and quantises every layer.
    ///
    /// # Errors
    /// As [`calibrate`] and [`quantise_layer`].
    pub fn build(mut model: BertModel, sequences: &[Vec<u32>], options: &QuantiseOptions) -> Result<Self, ModelError> {
        options.check(model.config.hidden_size)?;
        let mut samples = calibrate(&model, sequences)?;
        let rewrites = Rewrites::of(&samples, options);
        if !rewrites.is_empty() {
            model.rewrite(&rewrites);
            samples = calibrate(&model, sequences)?;
        }
        let mut input = norm_encoding(&samples[0], Tensor::Input, &model.embeddings.norm, options);
        let mut layers = Vec::with_capacity(model.layers.len());
        for (index, (weights, samples)) in model.layers.iter().zip(&samples).enumerate() {
            let (heads, options) = (model.config.num_attention_heads, options.for_layer(index));
            let layer = quantise_layer(weights, heads, model.max_tokens, samples, input, &options)?;
            input = layer.encoding(Tensor::Output).clone();
            layers.push(layer);
        }
        Ok(Self { model, layers })
    }

    /// The INT8 input of layer 0 for token ids.
    ///
    /// # Errors
    /// As [`BertModel::embed_tokens`].
    pub fn embed_tokens(&self, ids: &[u32]) -> Result<Matrix<i8>, ModelError> {
        Ok(self.layers[0].encoding(Tensor::Input).quantise(&self.model.embed_tokens(ids)?))
    }

    /// The sentence embedding of `text`, with `run` executing each layer: it gets the layer and its int8 input
    /// (tokens x hidden) and gives its int8 output.
    ///
    /// # Errors
    /// Those of the tokenizer, of the embedding, and of `run`.
    pub fn embed_with<E: From<ModelError>>(
        &self,
        text: &str,
        mut run: impl FnMut(&QuantisedLayer, &Matrix<i8>) -> Result<Matrix<i8>, E>,
    ) -> Result<Vec<f32>, E> {
        let mut x = self.embed_tokens(&self.model.tokenize(text)?)?;
        for layer in &self.layers {
            x = run(layer, &x)?;
        }
        let last = self.layers.last().expect("a model has at least one layer");
        Ok(self.model.pool(&last.encoding(Tensor::Output).dequantise(&x)))
    }
}
