//! The integer reference of an encoder layer, element by element as Gemmini's arithmetic gives it.
//!
//! It is the independent check of everything that lowers, executes or simulates the layer, and therefore shares
//! no code with them: plain loops, written from the hardware's description. Where the hardware's C reference and
//! its RTL differ, this follows the RTL (`Normalizer.scala`, `AccumulatorScale.scala`), with the exponential of
//! the released revision: the normalizer's 1/stddev and 127/sum are float32 factors, multiplied by the read-out
//! scale once a row, and each element is rounded once.

use std::collections::BTreeMap;

use crate::error::ModelError;
use crate::float::AttentionMask;
use crate::layer::{
    Activation, Attention, DiagonalSum, GeluConstants, Linear, Operand, QuantisedLayer, SoftmaxConstants,
};
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// Every integer tensor of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTrace {
    /// The int8 tensors, [`Tensor::ALL`] complete.
    pub int8: BTreeMap<Tensor, Matrix<i8>>,
    /// Masked scores of all heads, (heads * tokens) x tokens, as in the accumulator.
    pub scores: Matrix<i32>,
    /// Accumulator of the attention's residual sum, tokens x hidden.
    pub attention_sum: Matrix<i32>,
    /// Accumulator before GELU, tokens x ffn.
    pub gelu_input: Matrix<i32>,
    /// Accumulator of the feed-forward network's residual sum, tokens x hidden.
    pub ffn_sum: Matrix<i32>,
    /// Rows and elements whose 32-bit arithmetic wrapped; 0 unless the input is far outside the calibrated ranges.
    pub wraps: usize,
}

impl LayerTrace {
    /// One int8 tensor.
    pub fn get(&self, tensor: Tensor) -> &Matrix<i8> {
        &self.int8[&tensor]
    }

    /// The layer's result, tokens x hidden.
    pub fn output(&self) -> &Matrix<i8> {
        self.get(Tensor::Output)
    }
}

/// Runs the layer on int8 activations (tokens x hidden, encoded as [`Tensor::Input`]).
///
/// # Errors
/// If the layer's parts do not fit together, or the input has the wrong width or too many rows.
pub fn layer_reference(
    layer: &QuantisedLayer,
    input: &Matrix<i8>,
    mask: AttentionMask,
) -> Result<LayerTrace, ModelError> {
    layer.check().map_err(|reason| ModelError::Container { origin: "given".into(), reason })?;
    if input.cols != layer.hidden {
        return Err(ModelError::Width { what: "layer input", found: input.cols, expected: layer.hidden });
    }
    if input.rows == 0 || input.rows > layer.max_tokens {
        return Err(ModelError::TokenCount { tokens: input.rows, limit: layer.max_tokens });
    }
    let mut wraps = 0;
    let query = linear(&layer.query, input);
    let key = linear(&layer.key, input);
    let value = linear(&layer.value, input);
    let (scores, probabilities, context) = attention(&layer.attention, [&query, &key, &value], mask, &mut wraps);
    let attention_output = linear(&layer.attention_output, &context);
    let (attention_sum, attention_norm) = diagonal_sum(&layer.attention_norm, &attention_output, input, &mut wraps);
    let intermediate = linear(&layer.intermediate, &attention_norm);
    let (gelu_input, activated) = diagonal_sum(&layer.gelu, &intermediate, &intermediate, &mut wraps);
    let ffn_output = linear(&layer.ffn_output, &activated);
    let (ffn_sum, output) = diagonal_sum(&layer.output_norm, &ffn_output, &attention_norm, &mut wraps);
    let int8 = BTreeMap::from([
        (Tensor::Input, input.clone()),
        (Tensor::Query, query),
        (Tensor::Key, key),
        (Tensor::Value, value),
        (Tensor::Probabilities, probabilities),
        (Tensor::Context, context),
        (Tensor::AttentionOutput, attention_output),
        (Tensor::AttentionNorm, attention_norm),
        (Tensor::Intermediate, intermediate),
        (Tensor::Gelu, activated),
        (Tensor::FfnOutput, ffn_output),
        (Tensor::Output, output),
    ]);
    Ok(LayerTrace { int8, scores, attention_sum, gelu_input, ffn_sum, wraps })
}

/// int32 to float32, times the scale, back to int32 (nearest even each time, NaN and overflow saturate), to int8.
pub fn scale_to_int8(value: i32, scale: f32) -> i8 {
    let product = value as f32 * scale;
    let integer = if product.is_nan() { i32::MAX } else { product.round_ties_even() as i32 };
    integer.clamp(i32::from(i8::MIN), i32::from(i8::MAX)) as i8
}

/// The integer GELU; every step wraps at 32 bits.
pub fn gelu(q: i32, constants: GeluConstants) -> i32 {
    let GeluConstants { qb, qc } = constants;
    let sign = if q < 0 { -1 } else { 1 };
    let clipped = q.wrapping_abs().min(qb.wrapping_neg());
    let shifted = clipped.wrapping_add(qb);
    let erf = shifted.wrapping_mul(shifted).wrapping_add(qc).wrapping_mul(sign);
    q.wrapping_mul(erf.wrapping_add(qc))
}

/// The integer exponential of a non-positive value; 1.0 is `qb^2 + qc`.
pub fn exponential(q: i32, constants: SoftmaxConstants) -> i32 {
    let SoftmaxConstants { qln2, qln2_inv, qb, qc } = constants;
    let product = i64::from(q.wrapping_neg()) * i64::from(qln2_inv);
    let halvings = ((product as u64) >> 16) as u32;
    // The hardware looks at bits 5 to 15 only; a set bit above them shifts everything out all the same.
    let shift = if halvings & 0xffe0 != 0 { 32 } else { halvings };
    let remainder = q.wrapping_add((halvings as i32).wrapping_mul(qln2)).wrapping_add(qb);
    let polynomial = remainder.wrapping_mul(remainder).wrapping_add(qc) as u32;
    polynomial.checked_shr(shift).unwrap_or(0) as i32
}

/// Softmax of one accumulator row, read out as int8.
pub fn softmax_row(row: &[i32], constants: SoftmaxConstants, scale: f32) -> Vec<i8> {
    let max = row.iter().copied().max().unwrap_or(i32::MIN);
    let exponentials: Vec<i32> = row.iter().map(|&q| exponential(q.wrapping_sub(max), constants)).collect();
    let sum = exponentials.iter().fold(0i32, |s, &e| s.wrapping_add(e));
    let factor = (127.0 / sum as f32) * scale;
    exponentials.into_iter().map(|e| scale_to_int8(e, factor)).collect()
}

/// Mean and standard deviation of one accumulator row, as the normalizer computes them: the root has 16 bits, and its
/// register extends the sign, so that a deviation of 32768 or more is negative.
pub fn row_statistics(row: &[i32]) -> (i32, i32) {
    let count = i64::from(row.len() as u16);
    let divide = |sum: i32| (i64::from(sum) / count) as i32;
    let mean = divide(row.iter().fold(0i32, |s, &v| s.wrapping_add(v)));
    let squares = row.iter().fold(0i32, |s, &v| {
        let d = v.wrapping_sub(mean);
        s.wrapping_add(d.wrapping_mul(d))
    });
    let root = (divide(squares) as u32).isqrt().max(1);
    (mean, i32::from(root as u16 as i16))
}

/// LayerNorm of one accumulator row, read out as int8 with the scale of column c being `scale(c)`.
pub fn layer_norm_row(row: &[i32], scale: impl Fn(usize) -> f32) -> Vec<i8> {
    let (mean, deviation) = row_statistics(row);
    let inverse = 1.0 / deviation as f32;
    row.iter().enumerate().map(|(c, &v)| scale_to_int8(v.wrapping_sub(mean), inverse * scale(c))).collect()
}

/// A dense product, read out as int8.
pub(crate) fn linear(op: &Linear, input: &Matrix<i8>) -> Matrix<i8> {
    let sums = accumulate(&op.operand(input), &op.weights, &op.bias);
    Matrix { rows: sums.rows, cols: sums.cols, data: sums.data.iter().map(|&v| scale_to_int8(v, op.scale)).collect() }
}

/// `a * b + bias` in int32.
pub(crate) fn accumulate(a: &Matrix<i8>, b: &Matrix<i8>, bias: &[i32]) -> Matrix<i32> {
    let mut sums = Matrix::zeros(a.rows, b.cols);
    for r in 0..a.rows {
        let out = sums.row_mut(r);
        out.copy_from_slice(bias);
        for (k, &x) in a.row(r).iter().enumerate() {
            for (o, &w) in out.iter_mut().zip(b.row(k)) {
                *o = o.wrapping_add(i32::from(x) * i32::from(w));
            }
        }
    }
    sums
}

/// Scores, probabilities and context of all heads. With fewer queries than keys the queries are those of the last
/// positions: the other keys and values come from a cache. Keys and values may have fewer heads: neighbouring heads of the query
/// share them.
pub(crate) fn attention(
    a: &Attention,
    [query, key, value]: [&Matrix<i8>; 3],
    mask: AttentionMask,
    wraps: &mut usize,
) -> (Matrix<i32>, Matrix<i8>, Matrix<i8>) {
    let (tokens, keys) = (query.rows, key.rows);
    let mut scores = Matrix::zeros(a.heads * tokens, keys);
    let mut probabilities = Matrix::zeros(a.heads * tokens, keys);
    let mut context = Matrix::zeros(tokens, query.cols);
    let shared = query.cols / key.cols.max(1);
    for head in 0..a.heads {
        let head_columns = |head: usize| head * a.head_size..(head + 1) * a.head_size;
        let columns = head_columns(head);
        let q = query.columns(columns.clone());
        let [k, v] = [key, value].map(|m| m.columns(head_columns(head / shared)));
        let mut head_scores = accumulate(&q, &k.transposed(), &vec![0; keys]);
        let mut head_probabilities = Matrix::zeros(tokens, keys);
        for t in 0..tokens {
            let row = head_scores.row_mut(t);
            row.iter_mut()
                .enumerate()
                .filter(|&(k, _)| !mask.allows(keys - tokens + t, k))
                .for_each(|(_, s)| *s = s.wrapping_add(a.mask_bias));
            *wraps += usize::from(!softmax_sum_fits(row, a.softmax));
            head_probabilities.row_mut(t).copy_from_slice(&softmax_row(row, a.softmax, a.probability_scale[head]));
            scores.row_mut(head * tokens + t).copy_from_slice(row);
            probabilities.row_mut(head * tokens + t).copy_from_slice(head_probabilities.row(t));
        }
        let sums = accumulate(&head_probabilities, &v, &vec![0; a.head_size]);
        for t in 0..tokens {
            for (c, &sum) in columns.clone().zip(sums.row(t)) {
                context.row_mut(t)[c] = scale_to_int8(sum, a.context_scale[head]);
            }
        }
    }
    (scores, probabilities, context)
}

/// The accumulator of a diagonal sum, and what is read out of it.
pub(crate) fn diagonal_sum(
    op: &DiagonalSum,
    branch: &Matrix<i8>,
    residual: &Matrix<i8>,
    wraps: &mut usize,
) -> (Matrix<i32>, Matrix<i8>) {
    let sums = Matrix::from_fn(branch.rows, branch.cols, |r, c| {
        op.terms.iter().fold(op.bias[c], |sum, term| {
            let operand = match term.operand {
                Operand::Branch => branch.at(r, c),
                Operand::Residual => residual.at(r, c),
            };
            sum.wrapping_add(i32::from(operand) * i32::from(term.diagonal[c]))
        })
    });
    let mut out = Matrix::zeros(sums.rows, sums.cols);
    let scales: Vec<f32> = op.groups.iter().flat_map(|g| g.columns.clone().map(|_| g.scale)).collect();
    for r in 0..sums.rows {
        let row = sums.row(r);
        match op.activation {
            Activation::LayerNorm => {
                *wraps += usize::from(!variance_fits(row));
                out.row_mut(r).copy_from_slice(&layer_norm_row(row, |c| scales[c]));
            }
            Activation::Gelu(constants) => {
                *wraps += row.iter().filter(|q| !constants.fits(i64::from(**q).abs())).count();
                for (c, &q) in row.iter().enumerate() {
                    out.row_mut(r)[c] = scale_to_int8(gelu(q, constants), scales[c]);
                }
            }
        }
    }
    (sums, out)
}

pub(crate) fn variance_fits(row: &[i32]) -> bool {
    let (mean, _) = row_statistics(row);
    let sum: i64 = row.iter().map(|&v| i64::from(v)).sum();
    let squares: i128 = row.iter().map(|&v| (i128::from(v) - i128::from(mean)).pow(2)).sum();
    i32::try_from(sum).is_ok() && i32::try_from(squares).is_ok()
}

fn softmax_sum_fits(row: &[i32], constants: SoftmaxConstants) -> bool {
    let max = row.iter().copied().max().unwrap_or(i32::MIN);
    let sum: i64 = row.iter().map(|&q| i64::from(exponential(q.wrapping_sub(max), constants))).sum();
    i32::try_from(sum).is_ok()
}
