//! Calibration: which range each tensor's int8 values should span.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bert::{BertModel, FloatTrace, LayerWeights};
use crate::error::ModelError;
use crate::float::{AttentionMask, Norm};
use crate::gpt2::Gpt2Model;
use crate::layer::INT8_MAX;
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// How a range follows from the values seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeMethod {
    /// The largest magnitude: nothing seen in calibration saturates.
    #[default]
    MinMax,
    /// The given fraction (0..1] of the magnitudes lies inside.
    Percentile(f64),
    /// The range with the least squared quantisation error, of [`MSE_CANDIDATES`] fractions of the largest magnitude.
    Mse,
}

/// Number of ranges that [`RangeMethod::Mse`] tries.
pub const MSE_CANDIDATES: usize = 64;

impl RangeMethod {
    /// The range of `values`: a positive magnitude (a tiny one if all values are 0).
    pub fn range(self, values: &[f32]) -> f32 {
        let max = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let range = match self {
            Self::MinMax => max,
            Self::Percentile(fraction) => percentile(values, fraction),
            Self::Mse => (1..=MSE_CANDIDATES)
                .map(|i| max * i as f32 / MSE_CANDIDATES as f32)
                .min_by(|a, b| squared_error(values, *a).total_cmp(&squared_error(values, *b)))
                .unwrap_or(max),
        };
        range.max(f32::MIN_POSITIVE.sqrt())
    }

    /// Checks the method's parameter.
    ///
    /// # Errors
    /// If a percentile is not in (0, 1].
    pub fn check(self) -> Result<(), ModelError> {
        match self {
            Self::Percentile(p) if !(p > 0.0 && p <= 1.0) => Err(ModelError::Option {
                option: "percentile",
                value: p.to_string(),
                rule: "a fraction above 0 and at most 1, such as 0.999",
            }),
            _ => Ok(()),
        }
    }
}

/// `min-max`, `mse`, or `percentile=P` with P in percent, as on the command line.
impl FromStr for RangeMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_prefix("percentile=").map(str::parse::<f64>);
        match (text, percent) {
            ("min-max", _) => Ok(Self::MinMax),
            ("mse", _) => Ok(Self::Mse),
            // Fewer would cut off half of the values: such a number is a fraction.
            (_, Some(Ok(percent))) if (50.0..=100.0).contains(&percent) => Ok(Self::Percentile(percent / 100.0)),
            (_, Some(_)) => Err("a percentile is a percentage from 50 to 100, for example percentile=99.9".to_owned()),
            _ => Err("choose min-max, mse or percentile=P with a percentage P, for example percentile=99.9".to_owned()),
        }
    }
}

fn percentile(values: &[f32], fraction: f64) -> f32 {
    let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    magnitudes.sort_unstable_by(f32::total_cmp);
    let rank = (fraction * magnitudes.len() as f64).ceil() as usize;
    magnitudes.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn squared_error(values: &[f32], range: f32) -> f64 {
    let scale = range / INT8_MAX;
    let error = |v: f32| v - scale * (v / scale).round_ties_even().clamp(-INT8_MAX, INT8_MAX);
    values.iter().map(|&v| f64::from(error(v)).powi(2)).sum()
}

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

/// The hidden channels in rising order of the largest normalised value that any LayerNorm gave them, so that the
/// outlier channels come last.
pub fn outliers_last(samples: &[LayerSamples]) -> Vec<usize> {
    let width = samples[0].get(Tensor::Input).cols;
    let mut peak = vec![0.0f32; width];
    for layer in samples {
        for tensor in [Tensor::Input, Tensor::AttentionNorm, Tensor::Output] {
            for (p, r) in peak.iter_mut().zip(layer.channel_ranges(tensor, RangeMethod::MinMax)) {
                *p = p.max(r);
            }
        }
    }
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| peak[a].total_cmp(&peak[b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_percentile_leaves_the_outlier_out() {
        let values: Vec<f32> = (1..=99).map(|v| v as f32).chain([1000.0]).collect();
        assert_eq!(RangeMethod::MinMax.range(&values), 1000.0);
        assert_eq!(RangeMethod::Percentile(0.99).range(&values), 99.0);
        assert_eq!(RangeMethod::Percentile(1.0).range(&values), 1000.0);
    }

    #[test]
    fn the_percentile_must_be_a_fraction() {
        let error = RangeMethod::Percentile(99.9).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "quantisation option `percentile` = 99.9: a fraction above 0 and at most 1, such as 0.999"
        );
    }

    #[test]
    fn an_all_zero_tensor_has_a_positive_range() {
        assert!(RangeMethod::Mse.range(&[0.0; 4]) > 0.0);
    }

    proptest! {
        #[test]
        fn the_mse_range_is_no_worse_than_min_max(values in proptest::collection::vec(-3.0f32..3.0, 1..60)) {
            let (mse, max) = (RangeMethod::Mse.range(&values), RangeMethod::MinMax.range(&values));
            prop_assert!(squared_error(&values, mse) <= squared_error(&values, max));
        }
    }
}
