//! Symmetric INT8 quantisation of an encoder layer.
//!
//! The hardware's read-out has one float32 factor for a whole tensor, so per-channel weight scales need a way
//! out. They have one here: channel n of a [`Linear`] is quantised with its own weight scale, and its int8 output
//! then has its own scale too, in one fixed proportion to the weight scale (the common factor of the read-out).
//! The consumer undoes it at no cost: a [`DiagonalSum`] has one int8 factor a channel, and a following product
//! has the channel's scale multiplied into the rows of its weights. Only query and key are per tensor, since
//! their product sums over channels.
//!
//! # Precision by layer
//!
//! What the accumulator can give to memory decides what may differ from layer to layer:
//!
//! * *Int8, scaled.* The only form in which a result can be an operand of the mesh again. One factor a read-out, so
//!   channels that need another factor are a column group of their own.
//! * *Int32, full width, without scale or activation.* It can only come back as an addend (a bias or a residual),
//!   since the mesh reads int8. The decoder keeps its residual stream and its logits so (see [`crate::decoder`]).
//!   An encoder cannot: its residual is a LayerNorm's result, and an activation excludes the full width.
//! * *Weights of more than eight bits.* Column k of A stands twice, with two int8 weights that add up in the
//!   accumulator: P planes carry weights up to 127 P ([`QuantiseOptions::weight_planes`] for all columns,
//!   [`QuantiseOptions::outlier_planes`] for the outlier channels, which is outlier channel splitting). Exact, no
//!   host arithmetic; it costs the product of the repeated columns once more.
//! * *Two int8 planes of a product's result* are not possible without the host: the rest of the first plane would
//!   have to be subtracted in the accumulator, by factors far beyond int8.
//!
//! # Rewriting before quantising
//!
//! [`crate::rewrite`] has the exact rewrites of the float32 network that suit the hardware: outlier channels last, and
//! scale migration between query and key.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::calibrate::LayerSamples;
use crate::error::ModelError;
use crate::float::{Dense, Norm};
use crate::layer::{
    Activation, Attention, ColumnGroup, DiagonalSum, DiagonalTerm, Encoding, GeluConstants, INT8_MAX, Linear, Operand,
    QuantisedLayer, SoftmaxConstants,
};
use crate::matrix::Matrix;
use crate::quantise::options::QuantiseOptions;
use crate::quantise::range::RangeMethod;
use crate::tensor::Tensor;
use crate::transformer::weights::LayerWeights;

/// Added to masked scores: beyond any difference of two int8 dot products of up to 512 elements, far from wrapping.
pub(crate) const MASK_BIAS: i32 = -(1 << 24);
/// Largest magnitude of a bias, so that bias and products together stay inside int32.
pub(crate) const BIAS_LIMIT: f64 = (1u32 << 30) as f64;
/// Step by which a scale is coarsened until the int32 arithmetic behind it cannot wrap.
const COARSEN: f64 = 1.01;

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
    let max_tokens = options.max_tokens.unwrap_or(max_tokens);
    let first = AttentionPart::quantise(weights, heads, max_tokens, samples, &input, options)?;

    // Residual addition and LayerNorm after the attention.
    let norm_groups = NormGroups::of(samples, Tensor::AttentionNorm, options);
    let sum = ResidualSum::new(samples.attention_deviation * options.deviation_margin, &input);
    let (attention_output, attention_output_encoding) =
        first.output(&weights.attention_output, samples, options, |s| sum.round_up(s))?;
    let attention_norm = sum.build(&attention_output_encoding, &input, norm_groups.read_out())?;
    let middle = norm_groups.encoding(&weights.attention_norm);

    // Feed-forward network.
    let second = GeluPart::quantise(&weights.intermediate, samples, &middle, options)?;
    let norm_groups = NormGroups::of(samples, Tensor::Output, options);
    let sum = ResidualSum::new(samples.ffn_deviation * options.deviation_margin, &middle);
    let (ffn_output, ffn_output_encoding) = second.output(&weights.output, samples, options, |s| sum.round_up(s))?;
    let output_norm = sum.build(&ffn_output_encoding, &middle, norm_groups.read_out())?;

    let mut encodings = BTreeMap::from([
        (Tensor::Input, input),
        (Tensor::AttentionOutput, attention_output_encoding),
        (Tensor::AttentionNorm, middle),
        (Tensor::FfnOutput, ffn_output_encoding),
        (Tensor::Output, norm_groups.encoding(&weights.output_norm)),
    ]);
    encodings.extend(first.encodings);
    encodings.extend(second.encodings);
    Ok(QuantisedLayer {
        hidden,
        ffn: second.intermediate.weights.cols,
        max_tokens,
        query: first.query,
        key: first.key,
        value: first.value,
        attention: first.attention,
        attention_output,
        attention_norm,
        intermediate: second.intermediate,
        gelu: second.gelu,
        ffn_output,
        output_norm,
        encodings,
    })
}

/// Everything up to the context of all heads: the same in encoder and decoder.
pub(crate) struct AttentionPart {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention: Attention,
    /// Of query, key, value and context.
    pub(crate) encodings: BTreeMap<Tensor, Encoding>,
}

impl AttentionPart {
    /// Query and key per tensor, value and context per channel.
    pub(crate) fn quantise(
        weights: &LayerWeights,
        heads: usize,
        max_tokens: usize,
        samples: &LayerSamples,
        input: &Encoding,
        options: &QuantiseOptions,
    ) -> Result<Self, ModelError> {
        let (hidden, method) = (input.scale.len(), options.method);
        let planes = options.norm_planes(hidden);
        let (softmax, q_scale, k_scale) = score_scales(samples, method, hidden / heads, max_tokens)?;
        let (query, query_encoding) = per_tensor(Tensor::Query, &weights.query, input, &planes, q_scale)?;
        let (key, key_encoding) = per_tensor(Tensor::Key, &weights.key, input, &planes, k_scale)?;
        let ranges = samples.channel_ranges(Tensor::Value, method);
        let (value, value_encoding) = per_channel(Tensor::Value, &weights.value, input, &planes, &ranges, |s| s)?;
        let (attention, context) = attention(samples, method, heads, hidden / heads, softmax, &value_encoding);
        let encodings = BTreeMap::from([
            (Tensor::Query, query_encoding),
            (Tensor::Key, key_encoding),
            (Tensor::Value, value_encoding),
            (Tensor::Context, context),
        ]);
        Ok(Self { query, key, value, attention, encodings })
    }

    /// The projection of the context.
    pub(crate) fn output(
        &self,
        dense: &Dense,
        samples: &LayerSamples,
        options: &QuantiseOptions,
        allowed: impl Fn(f32) -> f32,
    ) -> Result<(Linear, Encoding), ModelError> {
        let ranges = samples.channel_ranges(Tensor::AttentionOutput, options.method);
        let context = &self.encodings[&Tensor::Context];
        let planes = options.planes(context.scale.len());
        per_channel(Tensor::AttentionOutput, dense, context, &planes, &ranges, allowed)
    }
}

/// First product of the feed-forward network and GELU: the same in encoder and decoder.
pub(crate) struct GeluPart {
    pub(crate) intermediate: Linear,
    pub(crate) gelu: DiagonalSum,
    /// Of intermediate and GELU.
    pub(crate) encodings: BTreeMap<Tensor, Encoding>,
}

impl GeluPart {
    pub(crate) fn quantise(
        dense: &Dense,
        samples: &LayerSamples,
        input: &Encoding,
        options: &QuantiseOptions,
    ) -> Result<Self, ModelError> {
        let ranges = samples.channel_ranges(Tensor::Intermediate, options.method);
        let unit = gelu_unit(&ranges);
        let planes = options.norm_planes(input.scale.len());
        let (intermediate, encoding) =
            per_channel(Tensor::Intermediate, dense, input, &planes, &ranges, |s| round_up(s, unit))?;
        let (gelu, gelu_encoding) = gelu_sum(samples, options, &encoding, unit)?;
        let encodings = BTreeMap::from([(Tensor::Intermediate, encoding), (Tensor::Gelu, gelu_encoding)]);
        Ok(Self { intermediate, gelu, encodings })
    }

    /// The second product of the feed-forward network.
    pub(crate) fn output(
        &self,
        dense: &Dense,
        samples: &LayerSamples,
        options: &QuantiseOptions,
        allowed: impl Fn(f32) -> f32,
    ) -> Result<(Linear, Encoding), ModelError> {
        let ranges = samples.channel_ranges(Tensor::FfnOutput, options.method);
        let input = &self.encodings[&Tensor::Gelu];
        let planes = options.planes(input.scale.len());
        per_channel(Tensor::FfnOutput, dense, input, &planes, &ranges, allowed)
    }
}

/// How the normalised values of `tensor` are encoded, gamma and beta of `norm` included.
pub fn norm_encoding(samples: &LayerSamples, tensor: Tensor, norm: &Norm, options: &QuantiseOptions) -> Encoding {
    NormGroups::of(samples, tensor, options).encoding(norm)
}

/// A dense layer acting on integers: its real output for an integer input, gamma and beta of the input folded in.
pub(crate) struct Effective {
    /// Outputs x inputs.
    weight: Matrix<f32>,
    bias: Vec<f32>,
}

impl Effective {
    pub(crate) fn new(dense: &Dense, input: &Encoding) -> Self {
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

    /// Largest weight of each output, a row of P planes counting 1/P.
    pub(crate) fn ranges(&self, planes: &[usize]) -> Vec<f32> {
        let range = |row: &[f32]| row.iter().zip(planes).fold(0.0, |m: f32, (w, &p)| m.max(w.abs() / p as f32));
        (0..self.weight.rows).map(|n| range(self.weight.row(n))).collect()
    }

    /// The integers, with `unit[n]` the real value of one accumulator unit of output n.
    pub(crate) fn quantise(
        &self,
        tensor: Tensor,
        unit: &[f32],
        scale: f32,
        planes: &[usize],
    ) -> Result<Linear, ModelError> {
        let (inputs, outputs) = (self.weight.cols, self.weight.rows);
        let mut rest = Matrix::from_fn(inputs, outputs, |k, n| {
            let limit = INT8_MAX * planes[k] as f32;
            (self.weight.at(n, k) / unit[n]).round_ties_even().clamp(-limit, limit) as i32
        });
        let mut weights = Matrix::zeros(0, outputs);
        let mut repeats = Vec::new();
        for plane in 0..planes.iter().copied().max().unwrap_or(1) {
            for columns in runs(planes, plane) {
                let rows = Matrix::from_fn(columns.len(), outputs, |k, n| {
                    let rest = &mut rest.row_mut(columns.start + k)[n];
                    let part = (*rest).clamp(-127, 127);
                    *rest -= part;
                    part as i8
                });
                weights.append(&rows);
                if plane > 0 {
                    repeats.push(columns);
                }
            }
        }
        let bias = integers(tensor, "an int32 bias", BIAS_LIMIT, self.bias.iter().zip(unit).map(|(&b, &u)| (b, u)))?;
        Ok(Linear { weights, repeats, bias, scale })
    }
}

/// Maximal runs of rows that have more than `plane` planes.
fn runs(planes: &[usize], plane: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for k in (0..planes.len()).filter(|&k| planes[k] > plane) {
        match runs.last_mut() {
            Some(run) if run.end == k => run.end += 1,
            _ => runs.push(k..k + 1),
        }
    }
    runs
}

/// Rounds `value / unit` and refuses magnitudes above `limit`.
pub(crate) fn integers(
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
fn per_tensor(
    tensor: Tensor,
    dense: &Dense,
    input: &Encoding,
    planes: &[usize],
    output: f32,
) -> Result<(Linear, Encoding), ModelError> {
    let effective = Effective::new(dense, input);
    let unit = effective.ranges(planes).into_iter().fold(f32::MIN_POSITIVE.sqrt(), f32::max) / INT8_MAX;
    let outputs = effective.bias.len();
    let linear = effective.quantise(tensor, &vec![unit; outputs], unit / output, planes)?;
    Ok((linear, Encoding::scaled(vec![output; outputs])))
}

/// A linear layer whose weight and output scales vary by channel in one fixed proportion.
///
/// `ranges` are the outputs' ranges; `allowed` rounds an output scale up to one that the consumer can undo.
fn per_channel(
    tensor: Tensor,
    dense: &Dense,
    input: &Encoding,
    planes: &[usize],
    ranges: &[f32],
    allowed: impl Fn(f32) -> f32,
) -> Result<(Linear, Encoding), ModelError> {
    let effective = Effective::new(dense, input);
    let weight_ranges = effective.ranges(planes);
    // Output scale over weight scale: the median keeps both near their full int8 range in most channels.
    let proportion = median(ranges.iter().zip(&weight_ranges).filter(|(_, w)| **w > 0.0).map(|(o, w)| o / w));
    let output: Vec<f32> =
        ranges.iter().zip(&weight_ranges).map(|(&o, &w)| allowed(o.max(w * proportion) / INT8_MAX)).collect();
    let unit: Vec<f32> = output.iter().map(|s| s / proportion).collect();
    Ok((effective.quantise(tensor, &unit, proportion.recip(), planes)?, Encoding::scaled(output)))
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(1.0)
}

/// The smallest positive multiple of `unit` that is at least `value` (up to float rounding).
pub(crate) fn round_up(value: f32, unit: f32) -> f32 {
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
pub(crate) struct NormGroups(Vec<(Range<usize>, f32)>);

impl NormGroups {
    pub(crate) fn of(samples: &LayerSamples, tensor: Tensor, options: &QuantiseOptions) -> Self {
        let values = samples.get(tensor);
        let split = values.cols - options.outlier_channels;
        let groups = [0..split, split..values.cols].into_iter();
        let range = |g: &Range<usize>| options.method.range(&values.columns(g.clone()).data) / INT8_MAX;
        Self(groups.filter(|g| !g.is_empty()).map(|g| (g.clone(), range(&g))).collect())
    }

    pub(crate) fn read_out(&self) -> Vec<ColumnGroup> {
        self.0.iter().map(|(columns, scale)| ColumnGroup { columns: columns.clone(), scale: scale.recip() }).collect()
    }

    pub(crate) fn encoding(&self, norm: &Norm) -> Encoding {
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
        let mut terms = split_factors(&factors, Operand::Branch);
        terms.extend(split_factors(&residuals, Operand::Residual));
        Ok(DiagonalSum { terms, bias, activation: Activation::LayerNorm, groups })
    }
}

/// Factors beyond int8 become several int8 diagonals on the same operand.
pub(crate) fn split_factors(factors: &[i32], operand: Operand) -> Vec<DiagonalTerm> {
    let mut rest = factors.to_vec();
    let mut terms = Vec::new();
    while terms.is_empty() || rest.iter().any(|&f| f != 0) {
        let diagonal: Vec<i8> = rest.iter().map(|&f| f.clamp(-127, 127) as i8).collect();
        rest.iter_mut().zip(&diagonal).for_each(|(r, &d)| *r -= i32::from(d));
        terms.push(DiagonalTerm { operand, diagonal });
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
        terms: split_factors(&factors, Operand::Branch),
        bias: vec![0; values.cols],
        activation: Activation::Gelu(GeluConstants::for_scale(f64::from(unit))),
        groups,
    };
    Ok((sum, Encoding::scaled(scale)))
}
