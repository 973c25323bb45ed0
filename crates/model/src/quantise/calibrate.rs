//! Calibration: what each tensor of a Transformer looks like on sample sentences.

use std::collections::BTreeMap;

use crate::bert::BertModel;
use crate::error::ModelError;
use crate::float::{AttentionMask, Norm};
use crate::gpt2::Gpt2Model;
use crate::matrix::Matrix;
pub use crate::quantise::range::{MSE_CANDIDATES, RangeMethod};
use crate::tensor::Tensor;
use crate::transformer::rewrite::reorder_columns;
use crate::transformer::weights::{FloatTrace, LayerWeights};

/// Tensors whose columns are hidden channels.
pub(super) const HIDDEN: [Tensor; 5] =
    [Tensor::Input, Tensor::AttentionOutput, Tensor::AttentionNorm, Tensor::FfnOutput, Tensor::Output];

/// What one layer's tensors looked like on the calibration sentences.
#[derive(Clone, Debug, Default)]
pub struct LayerSamples {
    /// Rows of all sentences, one below the other. [`Tensor::Input`], [`Tensor::AttentionNorm`] and
    /// [`Tensor::Output`] hold the normalised values, before gamma and beta.
    tensors: BTreeMap<Tensor, Matrix<f32>>,
    /// Largest Euclidean distance of a row of the attention's residual sum from its mean.
    pub attention_deviation: f32,
    /// The same of the feed-forward network's residual sum.
    pub ffn_deviation: f32,
}

impl LayerSamples {
    /// All values seen of one tensor (probabilities are not kept).
    pub fn get(&self, tensor: Tensor) -> &Matrix<f32> {
        &self.tensors[&tensor]
    }

    /// One range for the whole tensor.
    pub fn range(&self, tensor: Tensor, method: RangeMethod) -> f32 {
        method.range(&self.get(tensor).data)
    }

    /// One range a channel.
    pub fn channel_ranges(&self, tensor: Tensor, method: RangeMethod) -> Vec<f32> {
        let m = self.get(tensor);
        (0..m.cols).map(|c| method.range(&m.column(c))).collect()
    }

    /// Adds one run of the layer; `norm` gives the LayerNorm behind a tensor.
    fn record<'a>(&mut self, trace: &FloatTrace, norm: impl Fn(Tensor) -> Option<&'a Norm>) {
        for tensor in Tensor::ALL.into_iter().filter(|&t| t != Tensor::Probabilities) {
            let all = self.tensors.entry(tensor).or_default();
            match norm(tensor) {
                Some(norm) => all.append(&norm.normalised(trace.get(tensor))),
                None => all.append(trace.get(tensor)),
            }
        }
        self.attention_deviation = self.attention_deviation.max(deviation(&trace.attention_sum));
        self.ffn_deviation = self.ffn_deviation.max(deviation(&trace.ffn_sum));
    }
}

impl LayerSamples {
    /// Adds one run of an encoder's layer behind a LayerNorm.
    pub(super) fn record_layer(&mut self, trace: &FloatTrace, input: &Norm, layer: &LayerWeights) {
        self.record(trace, |tensor| norm_of(tensor, input, layer));
    }

    /// Renumbers the hidden channels: new channel i is the present channel `order[i]`.
    pub(super) fn reorder_hidden(&mut self, order: &[usize]) {
        for tensor in HIDDEN {
            if let Some(matrix) = self.tensors.get_mut(&tensor) {
                reorder_columns(matrix, order);
            }
        }
    }
}

/// Runs the float32 model on each token sequence and keeps every layer's tensors.
///
/// # Errors
/// If there is no sequence, or one of them cannot be embedded.
pub fn calibrate(model: &BertModel, sequences: &[Vec<u32>]) -> Result<Vec<LayerSamples>, ModelError> {
    if sequences.is_empty() {
        return Err(ModelError::NothingToCalibrate);
    }
    let mut samples = vec![LayerSamples::default(); model.layers.len()];
    for ids in sequences {
        let mut x = model.embed_tokens(ids)?;
        for (index, samples) in samples.iter_mut().enumerate() {
            let trace = model.forward_layer(index, &x, AttentionMask::Full)?;
            samples.record(&trace, |tensor| norm_of(tensor, model.input_norm(index), &model.layers[index]));
            x = trace.get(Tensor::Output).clone();
        }
    }
    Ok(samples)
}

/// What a decoder's tensors looked like on the calibration sequences.
#[derive(Clone, Debug, Default)]
pub struct DecoderSamples {
    /// Each block; [`Tensor::Output`] is the input of the next one.
    pub blocks: Vec<LayerSamples>,
    /// Largest Euclidean distance of an embedding from its mean.
    pub entry_deviation: f32,
}

/// Runs the float32 decoder on each token sequence and keeps every block's tensors.
///
/// # Errors
/// If there is no sequence, or one of them cannot be embedded.
pub fn calibrate_decoder(model: &Gpt2Model, sequences: &[Vec<u32>]) -> Result<DecoderSamples, ModelError> {
    if sequences.is_empty() {
        return Err(ModelError::NothingToCalibrate);
    }
    let mut all = DecoderSamples { blocks: vec![LayerSamples::default(); model.blocks.len()], entry_deviation: 0.0 };
    for ids in sequences {
        let mut cache = model.cache();
        let mut residual = model.embed_tokens(ids, 0)?;
        let mut normed = model.entry(&residual);
        all.entry_deviation = all.entry_deviation.max(deviation(&residual));
        for (index, samples) in all.blocks.iter_mut().enumerate() {
            let trace = model.forward_block(index, &residual, &normed, &mut cache)?;
            samples.record(&trace, |tensor| norm_of(tensor, model.input_norm(index), &model.blocks[index]));
            normed = trace.get(Tensor::Output).clone();
            residual = trace.ffn_sum;
        }
    }
    Ok(all)
}

/// The LayerNorm that produced `tensor`, if one did.
fn norm_of<'a>(tensor: Tensor, input: &'a Norm, layer: &'a LayerWeights) -> Option<&'a Norm> {
    match tensor {
        Tensor::Input => Some(input),
        Tensor::AttentionNorm => Some(&layer.attention_norm),
        Tensor::Output => Some(&layer.output_norm),
        _ => None,
    }
}

fn deviation(sum: &Matrix<f32>) -> f32 {
    (0..sum.rows)
        .map(|r| {
            let row = sum.row(r);
            let mean = row.iter().sum::<f32>() / row.len() as f32;
            row.iter().map(|v| (v - mean).powi(2)).sum::<f32>().sqrt()
        })
        .fold(0.0, f32::max)
}
