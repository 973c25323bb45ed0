//! Symmetric INT8 quantisation of an encoder layer.
//!
//! The hardware's read-out has one float32 factor for a whole tensor, so per-channel weight scales need a way
//! out. They have one here: channel n of a [`Linear`] is quantised with its own weight scale, and its int8 output
//! then has its own scale too, in one fixed proportion to the weight scale (the common factor of the read-out).
//! The consumer undoes it at no cost: a [`DiagonalSum`] has one int8 factor a channel, and a following product
//! has the channel's scale multiplied into the rows of its weights. Only query and key are per tensor, since
//! their product sums over channels.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::bert::{BertModel, LayerWeights};
use crate::calibrate::{LayerSamples, RangeMethod, calibrate, outliers_last};
use crate::error::ModelError;
use crate::float::{AttentionMask, Dense, Norm};
use crate::layer::{
    Activation, Attention, ColumnGroup, DiagonalSum, DiagonalTerm, Encoding, GeluConstants, INT8_MAX, Linear, Operand,
    QuantisedLayer, SoftmaxConstants,
};
use crate::layer_reference::layer_reference;
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// Added to masked scores: beyond any difference of two int8 dot products of up to 512 elements, far from wrapping.
const MASK_BIAS: i32 = -(1 << 24);
/// Largest magnitude of a bias, so that bias and products together stay inside int32.
const BIAS_LIMIT: f64 = (1u32 << 30) as f64;
/// Step by which a scale is coarsened until the int32 arithmetic behind it cannot wrap.
const COARSEN: f64 = 1.01;

/// Choices of the quantisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantiseOptions {
    /// How ranges follow from the calibration.
    pub method: RangeMethod,
    /// Columns of the GELU's result that share a read-out scale; a multiple of the array's width, so that a group
    /// is made of whole tiles.
    pub gelu_group: usize,
    /// Number of hidden channels with the largest LayerNorm outputs that are moved last and read out with a scale
    /// of their own; 0 keeps the order. A multiple of the array's width. Used by [`QuantisedModel::build`].
    pub outlier_channels: usize,
    /// How much larger than in calibration the deviation of a residual sum may be before LayerNorm's sum of
    /// squares wraps.
    pub deviation_margin: f32,
    /// Most tokens for which no softmax sum wraps; the model's own limit if absent.
    pub max_tokens: Option<usize>,
}

impl Default for QuantiseOptions {
    fn default() -> Self {
        Self {
            method: RangeMethod::MinMax,
            gelu_group: 16,
            outlier_channels: 0,
            deviation_margin: 1.3,
            max_tokens: None,
        }
    }
}

impl QuantiseOptions {
    fn check(&self, hidden: usize) -> Result<(), ModelError> {
        let refuse = |option, value: String, rule| Err(ModelError::Option { option, value, rule });
        if self.gelu_group == 0 {
            return refuse("gelu_group", "0".into(), "at least one column");
        }
        if self.outlier_channels >= hidden {
            return refuse("outlier_channels", self.outlier_channels.to_string(), "fewer than the hidden channels");
        }
        if !(self.deviation_margin >= 1.0 && self.deviation_margin.is_finite()) {
            return refuse("deviation_margin", self.deviation_margin.to_string(), "at least 1");
        }
        self.method.check()
    }
}

/// Quantises one layer whose input is encoded as `input` (see [`norm_encoding`]).
///
/// # Errors
/// If an option is out of range, or a value does not fit the hardware's field for it.
pub fn quantise_layer(
    weights: &LayerWeights,
    heads: usize,
    max_tokens: usize,
    samples: &LayerSamples,
    input: Encoding,
    options: &QuantiseOptions,
) -> Result<QuantisedLayer, ModelError> {
    let hidden = input.scale.len();
    options.check(hidden)?;
    let method = options.method;
    let max_tokens = options.max_tokens.unwrap_or(max_tokens);
    let head_size = hidden / heads;

    // Attention: query and key per tensor, value and context per channel.
    let (softmax, q_scale, k_scale) = score_scales(samples, method, head_size, max_tokens)?;
    let (query, query_encoding) = per_tensor(Tensor::Query, &weights.query, &input, q_scale)?;
    let (key, key_encoding) = per_tensor(Tensor::Key, &weights.key, &input, k_scale)?;
    let value_ranges = samples.channel_ranges(Tensor::Value, method);
    let (value, value_encoding) = per_channel(Tensor::Value, &weights.value, &input, &value_ranges, |s| s)?;
    let (attention, context) = attention(samples, method, heads, head_size, softmax, &value_encoding);

    // Residual addition and LayerNorm after the attention.
    let norm_groups = NormGroups::of(samples, Tensor::AttentionNorm, options);
    let sum = ResidualSum::new(samples.attention_deviation * options.deviation_margin, &input);
    let ranges = samples.channel_ranges(Tensor::AttentionOutput, method);
    let (attention_output, attention_output_encoding) =
        per_channel(Tensor::AttentionOutput, &weights.attention_output, &context, &ranges, |s| sum.round_up(s))?;
    let attention_norm = sum.build(&attention_output_encoding, &input, norm_groups.read_out())?;
    let middle = norm_groups.encoding(&weights.attention_norm);

    // Feed-forward network.
    let ranges = samples.channel_ranges(Tensor::Intermediate, method);
    let unit = gelu_unit(&ranges);
    let (intermediate, intermediate_encoding) =
        per_channel(Tensor::Intermediate, &weights.intermediate, &middle, &ranges, |s| round_up(s, unit))?;
    let (gelu, gelu_encoding) = gelu_sum(samples, options, &intermediate_encoding, unit)?;
    let norm_groups = NormGroups::of(samples, Tensor::Output, options);
    let sum = ResidualSum::new(samples.ffn_deviation * options.deviation_margin, &middle);
    let ranges = samples.channel_ranges(Tensor::FfnOutput, method);
    let (ffn_output, ffn_output_encoding) =
        per_channel(Tensor::FfnOutput, &weights.output, &gelu_encoding, &ranges, |s| sum.round_up(s))?;
    let output_norm = sum.build(&ffn_output_encoding, &middle, norm_groups.read_out())?;

    let encodings = BTreeMap::from([
        (Tensor::Input, input),
        (Tensor::Query, query_encoding),
        (Tensor::Key, key_encoding),
        (Tensor::Value, value_encoding),
        (Tensor::Context, context),
        (Tensor::AttentionOutput, attention_output_encoding),
        (Tensor::AttentionNorm, middle),
        (Tensor::Intermediate, intermediate_encoding),
        (Tensor::Gelu, gelu_encoding),
        (Tensor::FfnOutput, ffn_output_encoding),
        (Tensor::Output, norm_groups.encoding(&weights.output_norm)),
    ]);
    Ok(QuantisedLayer {
        hidden,
        ffn: intermediate.weights.cols,
        max_tokens,
        query,
        key,
        value,
        attention,
        attention_output,
        attention_norm,
        intermediate,
        gelu,
        ffn_output,
        output_norm,
        encodings,
    })
}

/// How the normalised values of `tensor` are encoded, gamma and beta of `norm` included.
pub fn norm_encoding(samples: &LayerSamples, tensor: Tensor, norm: &Norm, options: &QuantiseOptions) -> Encoding {
    NormGroups::of(samples, tensor, options).encoding(norm)
}

/// A dense layer acting on integers: its real output for an integer input, gamma and beta of the input folded in.
struct Effective {
    /// Outputs x inputs.
    weight: Matrix<f32>,
    bias: Vec<f32>,
}

impl Effective {
    fn new(dense: &Dense, input: &Encoding) -> Self {
        let w = &dense.weight;
        let weight = Matrix::from_fn(w.rows, w.cols, |n, k| w.at(n, k) * input.scale[k]);
        let bias = (0..w.rows)
            .map(|n| {
                let folded: f64 = w.row(n).iter().zip(&input.offset).map(|(&w, &o)| f64::from(w) * f64::from(o)).sum();
                (f64::from(dense.bias[n]) + folded) as f32
            })
            .collect();
        Self { weight, bias }
    }

    /// Largest weight of each output.
    fn ranges(&self) -> Vec<f32> {
        (0..self.weight.rows).map(|n| self.weight.row(n).iter().fold(0.0, |m: f32, w| m.max(w.abs()))).collect()
    }

    /// The integers, with `unit[n]` the real value of one accumulator unit of output n.
    fn quantise(&self, tensor: Tensor, unit: &[f32], scale: f32) -> Result<Linear, ModelError> {
        let weights = Matrix::from_fn(self.weight.cols, self.weight.rows, |k, n| {
            (self.weight.at(n, k) / unit[n]).round_ties_even().clamp(-INT8_MAX, INT8_MAX) as i8
        });
        let bias = integers(tensor, "an int32 bias", BIAS_LIMIT, self.bias.iter().zip(unit).map(|(&b, &u)| (b, u)))?;
        Ok(Linear { weights, bias, scale })
    }
}

/// Rounds `value / unit` and refuses magnitudes above `limit`.
fn integers(
    tensor: Tensor,
    field: &'static str,
    limit: f64,
    pairs: impl Iterator<Item = (f32, f32)>,
) -> Result<Vec<i32>, ModelError> {
    pairs
        .enumerate()
        .map(|(channel, (value, unit))| {
            let q = (f64::from(value) / f64::from(unit)).round_ties_even();
            if q.abs() <= limit {
                Ok(q as i32)
            } else {
                Err(ModelError::DoesNotFit { tensor: tensor.name(), channel, value: f64::from(value), field })
            }
        })
        .collect()
}

/// A linear layer with one weight scale and one given output scale.
fn per_tensor(tensor: Tensor, dense: &Dense, input: &Encoding, output: f32) -> Result<(Linear, Encoding), ModelError> {
    let effective = Effective::new(dense, input);
    let unit = effective.ranges().into_iter().fold(f32::MIN_POSITIVE.sqrt(), f32::max) / INT8_MAX;
    let outputs = effective.bias.len();
    Ok((effective.quantise(tensor, &vec![unit; outputs], unit / output)?, Encoding::scaled(vec![output; outputs])))
}

/// A linear layer whose weight and output scales vary by channel in one fixed proportion.
///
/// `ranges` are the outputs' ranges; `allowed` rounds an output scale up to one that the consumer can undo.
fn per_channel(
    tensor: Tensor,
    dense: &Dense,
    input: &Encoding,
    ranges: &[f32],
    allowed: impl Fn(f32) -> f32,
) -> Result<(Linear, Encoding), ModelError> {
    let effective = Effective::new(dense, input);
    let weight_ranges = effective.ranges();
    // Output scale over weight scale: the median keeps both near their full int8 range in most channels.
    let proportion = median(ranges.iter().zip(&weight_ranges).filter(|(_, w)| **w > 0.0).map(|(o, w)| o / w));
    let output: Vec<f32> =
        ranges.iter().zip(&weight_ranges).map(|(&o, &w)| allowed(o.max(w * proportion) / INT8_MAX)).collect();
    let unit: Vec<f32> = output.iter().map(|s| s / proportion).collect();
    Ok((effective.quantise(tensor, &unit, proportion.recip())?, Encoding::scaled(output)))
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(1.0)
}

/// The smallest positive multiple of `unit` that is at least `value` (up to float rounding).
fn round_up(value: f32, unit: f32) -> f32 {
    (value / unit - 1e-4).ceil().max(1.0) * unit
}

/// Scales of query and key, coarse enough that the sum of `max_tokens` exponentials cannot wrap.
fn score_scales(
    samples: &LayerSamples,
    method: RangeMethod,
    head_size: usize,
    max_tokens: usize,
) -> Result<(SoftmaxConstants, f32, f32), ModelError> {
    let [q, k] = [Tensor::Query, Tensor::Key].map(|t| samples.range(t, method) / INT8_MAX);
    let (mut q, mut k) = (f64::from(q), f64::from(k));
    loop {
        let scale = q * k / (head_size as f64).sqrt();
        let constants = SoftmaxConstants::for_scale(scale).ok_or(ModelError::DoesNotFit {
            tensor: "scores",
            channel: 0,
            value: scale,
            field: "the integer exponential, whose input scale must be below ln 2",
        })?;
        if constants.fits(max_tokens) {
            return Ok((constants, q as f32, k as f32));
        }
        q *= COARSEN;
        k *= COARSEN;
    }
}

/// Softmax and context of all heads; the context's channels inherit the value's scales.
fn attention(
    samples: &LayerSamples,
    method: RangeMethod,
    heads: usize,
    head_size: usize,
    softmax: SoftmaxConstants,
    value: &Encoding,
) -> (Attention, Encoding) {
    let ranges = samples.channel_ranges(Tensor::Context, method);
    let mut context = Vec::with_capacity(ranges.len());
    let mut context_scale = Vec::with_capacity(heads);
    for head in 0..heads {
        let columns = head * head_size..(head + 1) * head_size;
        // Context scale over value scale; a probability of 1 is 127.
        let ratio = columns.clone().map(|c| ranges[c] / value.scale[c]).fold(0.0, f32::max) / INT8_MAX;
        context_scale.push((INT8_MAX * ratio).recip());
        context.extend(columns.map(|c| value.scale[c] * ratio));
    }
    let attention = Attention {
        heads,
        head_size,
        softmax,
        mask_bias: MASK_BIAS,
        probability_scale: vec![1.0; heads],
        context_scale,
    };
    (attention, Encoding::scaled(context))
}

/// LayerNorm outputs: columns and the scale of their normalised values.
struct NormGroups(Vec<(Range<usize>, f32)>);

impl NormGroups {
    fn of(samples: &LayerSamples, tensor: Tensor, options: &QuantiseOptions) -> Self {
        let values = samples.get(tensor);
        let split = values.cols - options.outlier_channels;
        let groups = [0..split, split..values.cols].into_iter().filter(|g| !g.is_empty());
        Self(groups.map(|g| (g.clone(), options.method.range(&values.columns(g).data) / INT8_MAX)).collect())
    }

    fn read_out(&self) -> Vec<ColumnGroup> {
        self.0.iter().map(|(columns, scale)| ColumnGroup { columns: columns.clone(), scale: scale.recip() }).collect()
    }

    fn encoding(&self, norm: &Norm) -> Encoding {
        let scales = self.0.iter().flat_map(|(columns, scale)| columns.clone().map(move |_| *scale));
        Encoding { scale: scales.zip(&norm.gamma).map(|(s, g)| s * g).collect(), offset: norm.beta.clone() }
    }
}

/// The accumulator unit of a residual sum that LayerNorm reads.
struct ResidualSum {
    /// Real value of one accumulator unit.
    unit: f32,
}

impl ResidualSum {
    /// The finest unit for which neither the sum of squares wraps (rows up to `deviation` from their mean) nor
    /// the residual's factor leaves int8.
    fn new(deviation: f32, residual: &Encoding) -> Self {
        let squares = deviation / (i32::MAX as f32).sqrt();
        let factor = residual.scale.iter().fold(0.0, |m: f32, s| m.max(s.abs())) / INT8_MAX;
        Self { unit: squares.max(factor).max(f32::MIN_POSITIVE.sqrt()) }
    }

    fn round_up(&self, scale: f32) -> f32 {
        round_up(scale, self.unit)
    }

    /// Branch and residual in this unit, normalised.
    fn build(
        &self,
        branch: &Encoding,
        residual: &Encoding,
        groups: Vec<ColumnGroup>,
    ) -> Result<DiagonalSum, ModelError> {
        let over_unit = |values: &[f32]| values.iter().map(|&v| (v, self.unit)).collect::<Vec<_>>();
        let factors =
            integers(Tensor::AttentionOutput, "a branch factor", BIAS_LIMIT, over_unit(&branch.scale).into_iter())?;
        let residuals = integers(Tensor::Input, "an int8 diagonal", 127.0, over_unit(&residual.scale).into_iter())?;
        let bias = integers(Tensor::Input, "an int32 bias", BIAS_LIMIT, over_unit(&residual.offset).into_iter())?;
        let mut terms = split_factors(&factors);
        let diagonal = residuals.into_iter().map(|f| f as i8).collect();
        terms.push(DiagonalTerm { operand: Operand::Residual, diagonal });
        Ok(DiagonalSum { terms, bias, activation: Activation::LayerNorm, groups })
    }
}

/// Factors beyond int8 become several int8 diagonals on the same operand.
fn split_factors(factors: &[i32]) -> Vec<DiagonalTerm> {
    let mut rest = factors.to_vec();
    let mut terms = Vec::new();
    while terms.is_empty() || rest.iter().any(|&f| f != 0) {
        let diagonal: Vec<i8> = rest.iter().map(|&f| f.clamp(-127, 127) as i8).collect();
        rest.iter_mut().zip(&diagonal).for_each(|(r, &d)| *r -= i32::from(d));
        terms.push(DiagonalTerm { operand: Operand::Branch, diagonal });
    }
    terms
}

/// The finest common input scale at which the integer GELU of channels with the given ranges cannot wrap.
fn gelu_unit(ranges: &[f32]) -> f32 {
    let largest = ranges.iter().fold(f32::MIN_POSITIVE.sqrt(), |m, r| m.max(*r));
    let mut unit = largest / (INT8_MAX * INT8_MAX);
    loop {
        // Scales are rounded up to multiples of the unit, and the read-out may give -128.
        let magnitude = 128 * ((largest / INT8_MAX / unit).ceil() as i64 + 1);
        if GeluConstants::for_scale(f64::from(unit)).fits(magnitude) {
            return unit;
        }
        unit *= COARSEN as f32;
    }
}

/// GELU: the intermediate, brought to one scale by a diagonal, read out in groups of columns.
fn gelu_sum(
    samples: &LayerSamples,
    options: &QuantiseOptions,
    input: &Encoding,
    unit: f32,
) -> Result<(DiagonalSum, Encoding), ModelError> {
    let factors = integers(Tensor::Intermediate, "a diagonal", BIAS_LIMIT, input.scale.iter().map(|&s| (s, unit)))?;
    let values = samples.get(Tensor::Gelu);
    let (mut groups, mut scale) = (Vec::new(), Vec::new());
    for start in (0..values.cols).step_by(options.gelu_group) {
        let columns = start..(start + options.gelu_group).min(values.cols);
        let output = options.method.range(&values.columns(columns.clone()).data) / INT8_MAX;
        scale.extend(columns.clone().map(|_| output));
        let factor = GeluConstants::output_scale(f64::from(unit)) / f64::from(output);
        groups.push(ColumnGroup { columns, scale: factor as f32 });
    }
    let sum = DiagonalSum {
        terms: split_factors(&factors),
        bias: vec![0; values.cols],
        activation: Activation::Gelu(GeluConstants::for_scale(f64::from(unit))),
        groups,
    };
    Ok((sum, Encoding::scaled(scale)))
}

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
        if options.outlier_channels > 0 {
            model.reorder_hidden(&outliers_last(&samples));
            samples = calibrate(&model, sequences)?;
        }
        let mut input = norm_encoding(&samples[0], Tensor::Input, &model.embeddings.norm, options);
        let mut layers = Vec::with_capacity(model.layers.len());
        for (weights, samples) in model.layers.iter().zip(&samples) {
            let heads = model.config.num_attention_heads;
            let layer = quantise_layer(weights, heads, model.max_tokens, samples, input, options)?;
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
