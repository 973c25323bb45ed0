//! Exact rewrites of a float32 network that make it easier to quantise: the function computed stays the same.
//!
//! | rewrite | what it frees |
//! |---|---|
//! | hidden channels in order of their largest normalised value | outlier channels lie in whole tiles, with a read-out scale of their own |
//! | scale migration between query and key | an outlier channel of one of them no longer sets the step of all |
//!
//! Scale migration multiplies a channel where it is produced and divides it where it is consumed. It needs a producer
//! whose channels can be scaled one by one. A product can (its weights absorb the factor): query against key here,
//! value against the output projection and the feed-forward network's products through their per-channel scales (see
//! [`crate::quantise`]). A LayerNorm cannot: its read-out has one factor for a group of columns, and gamma is already
//! in the weights of what reads it; for its results the column groups take the place of migration.

use crate::float::{Dense, Norm};
use crate::matrix::Matrix;
use crate::transformer::weights::LayerWeights;

/// Rewrites chosen for a model from its calibration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrites {
    /// New hidden channel i is the present channel `hidden_order[i]`.
    pub hidden_order: Option<Vec<usize>>,
    /// Factor by which each layer's query channels are divided and its key channels multiplied.
    pub migrations: Vec<Vec<f32>>,
}

impl Rewrites {
    /// Whether nothing is rewritten.
    pub fn is_empty(&self) -> bool {
        self.hidden_order.is_none() && self.migrations.is_empty()
    }

    /// Applies the rewrites inside layers (not the order of the hidden channels).
    pub fn apply_to_layers(&self, layers: &mut [LayerWeights]) {
        layers.iter_mut().zip(&self.migrations).for_each(|(layer, factors)| migrate_query_key(layer, factors));
    }
}

/// Divides the query's channels by the factors and multiplies the key's: every score stays what it is.
pub fn migrate_query_key(layer: &mut LayerWeights, factors: &[f32]) {
    scale_outputs(&mut layer.query, |c| 1.0 / factors[c]);
    scale_outputs(&mut layer.key, |c| factors[c]);
}

fn scale_outputs(dense: &mut Dense, factor: impl Fn(usize) -> f32) {
    for c in 0..dense.weight.rows {
        dense.weight.row_mut(c).iter_mut().for_each(|w| *w *= factor(c));
        dense.bias[c] *= factor(c);
    }
}

/// Renumbers the hidden channels of one layer.
pub(crate) fn reorder_hidden(layer: &mut LayerWeights, order: &[usize]) {
    for dense in [&mut layer.query, &mut layer.key, &mut layer.value, &mut layer.intermediate] {
        reorder_columns(&mut dense.weight, order);
    }
    [&mut layer.attention_output, &mut layer.output].into_iter().for_each(|d| reorder_outputs(d, order));
    [&mut layer.attention_norm, &mut layer.output_norm].into_iter().for_each(|n| reorder_norm(n, order));
}

/// New column i is the present column `order[i]`.
pub(crate) fn reorder_columns(m: &mut Matrix<f32>, order: &[usize]) {
    *m = Matrix::from_fn(m.rows, m.cols, |r, c| m.at(r, order[c]));
}

/// New channel i is the present channel `order[i]`.
pub(crate) fn reorder_norm(norm: &mut Norm, order: &[usize]) {
    *norm = Norm { gamma: pick(&norm.gamma, order), beta: pick(&norm.beta, order) };
}

fn reorder_outputs(dense: &mut Dense, order: &[usize]) {
    dense.weight = Matrix::from_fn(dense.weight.rows, dense.weight.cols, |r, c| dense.weight.at(order[r], c));
    dense.bias = pick(&dense.bias, order);
}

fn pick(values: &[f32], order: &[usize]) -> Vec<f32> {
    order.iter().map(|&i| values[i]).collect()
}
