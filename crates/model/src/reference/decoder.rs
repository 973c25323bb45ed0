//! The integer reference of a decoder block, element by element as Gemmini's arithmetic gives it.
//!
//! As [`mod@crate::layer_reference`], it is the check of everything that lowers or executes a block and shares no
//! code with that.

use std::collections::BTreeMap;

use crate::decoder::{Head, QuantisedBlock, QuantisedDecoder, ResidualNorm};
use crate::error::ModelError;
use crate::float::AttentionMask;
use crate::gpt2::{KvCache, likeliest};
use crate::matrix::Matrix;
use crate::reference::layer::{attention, diagonal_sum, layer_norm_row, linear, variance_fits};
use crate::tensor::Tensor;

/// Every integer tensor of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockTrace {
    /// The int8 tensors, [`Tensor::ALL`] complete; key and value of the new tokens only.
    pub int8: BTreeMap<Tensor, Matrix<i8>>,
    /// Masked scores of all heads, (heads * tokens) x keys, as in the accumulator.
    pub scores: Matrix<i32>,
    /// The residual stream after the attention, tokens x hidden.
    pub attention_sum: Matrix<i32>,
    /// Accumulator before GELU, tokens x ffn.
    pub gelu_input: Matrix<i32>,
    /// The residual stream after the block, tokens x hidden.
    pub ffn_sum: Matrix<i32>,
    /// Rows and elements whose 32-bit arithmetic wrapped; 0 unless the input is far outside the calibrated ranges.
    pub wraps: usize,
}

impl BlockTrace {
    /// One int8 tensor.
    pub fn get(&self, tensor: Tensor) -> &Matrix<i8> {
        &self.int8[&tensor]
    }
}

/// Runs the block on the residual stream (int32, in the unit of the block before) and the normalised stream (int8,
/// encoded as [`Tensor::Input`]), tokens x hidden, after the tokens whose keys and values are given; the new tokens'
/// are appended to them.
///
/// # Errors
/// If the block's parts do not fit together, an input has the wrong shape, or there are too many keys.
pub fn block_reference(
    block: &QuantisedBlock,
    residual: &Matrix<i32>,
    normed: &Matrix<i8>,
    keys: &mut Matrix<i8>,
    values: &mut Matrix<i8>,
) -> Result<BlockTrace, ModelError> {
    check(block, residual, normed, keys)?;
    let mut wraps = 0;
    let query = linear(&block.query, normed);
    let key = linear(&block.key, normed);
    let value = linear(&block.value, normed);
    keys.append(&key);
    values.append(&value);
    let (scores, probabilities, context) =
        attention(&block.attention, [&query, keys, values], AttentionMask::Causal, &mut wraps);
    let attention_output = linear(&block.attention_output, &context);
    let stream = shifted(residual, block.shift);
    let (attention_sum, attention_norm) =
        residual_norm(&block.attention_norm, &stream, Some(&attention_output), &mut wraps);
    let intermediate = linear(&block.intermediate, &attention_norm);
    let (gelu_input, activated) = diagonal_sum(&block.gelu, &intermediate, &intermediate, &mut wraps);
    let ffn_output = linear(&block.ffn_output, &activated);
    let (ffn_sum, output) = residual_norm(&block.output_norm, &attention_sum, Some(&ffn_output), &mut wraps);
    let int8 = BTreeMap::from([
        (Tensor::Input, normed.clone()),
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
    Ok(BlockTrace { int8, scores, attention_sum, gelu_input, ffn_sum, wraps })
}

fn check(
    block: &QuantisedBlock,
    residual: &Matrix<i32>,
    normed: &Matrix<i8>,
    keys: &Matrix<i8>,
) -> Result<(), ModelError> {
    block.check().map_err(|reason| ModelError::Container { origin: "given".into(), reason })?;
    for (what, found) in [("residual stream", residual.cols), ("block input", normed.cols)] {
        if found != block.hidden {
            return Err(ModelError::Width { what, found, expected: block.hidden });
        }
    }
    let tokens = keys.rows + normed.rows;
    if normed.rows == 0 || residual.rows != normed.rows || tokens > block.max_tokens {
        return Err(ModelError::TokenCount { tokens, limit: block.max_tokens });
    }
    Ok(())
}

/// The host's right shift of the residual stream, rounding half up.
pub fn shifted(residual: &Matrix<i32>, shift: u32) -> Matrix<i32> {
    let half = (1i64 << shift) >> 1;
    let data = residual.data.iter().map(|&v| ((i64::from(v) + half) >> shift) as i32).collect();
    Matrix { rows: residual.rows, cols: residual.cols, data }
}

/// The sum in full width, and its LayerNorm as int8; `wraps` counts rows whose arithmetic wrapped.
pub fn residual_norm(
    op: &ResidualNorm,
    residual: &Matrix<i32>,
    branch: Option<&Matrix<i8>>,
    wraps: &mut usize,
) -> (Matrix<i32>, Matrix<i8>) {
    let sums = Matrix::from_fn(residual.rows, residual.cols, |r, c| {
        op.terms.iter().zip(std::iter::repeat(branch)).fold(residual.at(r, c), |sum, (diagonal, branch)| {
            sum.wrapping_add(i32::from(branch.map_or(0, |b| b.at(r, c))) * i32::from(diagonal[c]))
        })
    });
    let scales: Vec<f32> = op.groups.iter().flat_map(|g| g.columns.clone().map(|_| g.scale)).collect();
    let mut out = Matrix::zeros(sums.rows, sums.cols);
    for r in 0..sums.rows {
        *wraps += usize::from(!variance_fits(sums.row(r)));
        out.row_mut(r).copy_from_slice(&layer_norm_row(sums.row(r), |c| scales[c]));
    }
    (sums, out)
}

/// Int32 scores of all words for one row of the last LayerNorm's result.
pub fn head_reference(head: &Head, row: &[i8]) -> Vec<i32> {
    let mut scores = head.bias.clone();
    for (k, &x) in row.iter().enumerate() {
        for (s, &w) in scores.iter_mut().zip(head.weights.row(k)) {
            *s = s.wrapping_add(i32::from(x) * i32::from(w));
        }
    }
    scores
}

impl QuantisedDecoder {
    /// Runs all blocks on tokens that follow those of the cache (which grows): the last LayerNorm's int8 results,
    /// tokens x width. `run` executes one block: it gets the block, the residual stream before the block's shift, the
    /// normalised stream, and the block's cached keys and values, to which it appends; it gives the stream and its
    /// normalised form after the block.
    ///
    /// # Errors
    /// Those of the embedding and of `run`.
    pub fn decode_with<E: From<ModelError>>(
        &self,
        ids: &[u32],
        cache: &mut KvCache<i8>,
        mut run: impl FnMut(
            &QuantisedBlock,
            &Matrix<i32>,
            &Matrix<i8>,
            (&mut Matrix<i8>, &mut Matrix<i8>),
        ) -> Result<(Matrix<i32>, Matrix<i8>), E>,
    ) -> Result<Matrix<i8>, E> {
        let start = self.embed_tokens(ids, cache.tokens())?;
        let (mut residual, mut normed) = residual_norm(&self.entry, &start, None, &mut 0);
        for ((block, keys), values) in self.blocks.iter().zip(&mut cache.keys).zip(&mut cache.values) {
            (residual, normed) = run(block, &residual, &normed, (keys, values))?;
        }
        Ok(normed)
    }

    /// [`QuantisedDecoder::decode_with`] the integer reference.
    ///
    /// # Errors
    /// As [`QuantisedDecoder::embed_tokens`], and if there are too many tokens for the softmax.
    pub fn decode(&self, ids: &[u32], cache: &mut KvCache<i8>) -> Result<Matrix<i8>, ModelError> {
        self.decode_with(ids, cache, |block, residual, normed, (keys, values)| {
            let mut trace = block_reference(block, residual, normed, keys, values)?;
            Ok((trace.ffn_sum, trace.int8.remove(&Tensor::Output).expect("always there")))
        })
    }

    /// Every integer tensor of every block for tokens that follow those of the cache (which grows).
    ///
    /// # Errors
    /// As [`QuantisedDecoder::decode`].
    pub fn traces(&self, ids: &[u32], cache: &mut KvCache<i8>) -> Result<Vec<BlockTrace>, ModelError> {
        let mut traces = Vec::with_capacity(self.blocks.len());
        self.decode_with(ids, cache, |block, residual, normed, (keys, values)| {
            let trace = block_reference(block, residual, normed, keys, values)?;
            let after = (trace.ffn_sum.clone(), trace.get(Tensor::Output).clone());
            traces.push(trace);
            Ok::<_, ModelError>(after)
        })?;
        Ok(traces)
    }

    /// Scores of all words after the token whose int8 result is `row`.
    pub fn logits(&self, row: &[i8]) -> Vec<f32> {
        self.head.logits(&head_reference(&self.head, row))
    }

    /// Continues `ids` by `count` tokens, always the likeliest one.
    ///
    /// # Errors
    /// As [`QuantisedDecoder::decode`].
    pub fn generate(&self, ids: &[u32], count: usize) -> Result<Vec<u32>, ModelError> {
        let mut cache = self.cache();
        let mut out = Vec::with_capacity(count);
        let mut next = ids.to_vec();
        for _ in 0..count {
            let rows = self.decode(&next, &mut cache)?;
            next = vec![likeliest(&self.logits(rows.row(rows.rows - 1)))];
            out.extend(&next);
        }
        Ok(out)
    }
}
