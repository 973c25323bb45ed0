//! The float32 weights and tensors of one layer: the same in encoder and decoder.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::ModelError;
use crate::float::{Dense, Norm};
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// Most parameters of a model: 16 GiB in float32.
const MAX_PARAMETERS: u128 = 1 << 32;

/// Refuses a model whose parameters would not fit the memory, before any is allocated; `rows` are those of the tables as
/// wide as a token.
pub(crate) fn check_parameters(
    path: &Path,
    layers: usize,
    [hidden, ffn]: [usize; 2],
    rows: &[usize],
) -> Result<(), ModelError> {
    let [layers, hidden, ffn] = [layers, hidden, ffn].map(|size| size as u128);
    let layer = hidden.saturating_mul(hidden.saturating_mul(4).saturating_add(ffn.saturating_mul(2)));
    let tables = rows.iter().fold(0u128, |sum, &rows| sum.saturating_add(hidden.saturating_mul(rows as u128)));
    let parameters = layers.saturating_mul(layer).saturating_add(tables);
    if parameters <= MAX_PARAMETERS {
        return Ok(());
    }
    Err(ModelError::Unsupported {
        path: path.into(),
        what: format!("a model of {parameters} parameters ({} GiB in float32)", parameters.saturating_mul(4) >> 30),
        remedy: format!("choose sizes with at most {MAX_PARAMETERS} parameters ({} GiB)", (MAX_PARAMETERS * 4) >> 30),
    })
}

/// The float32 weights of one encoder layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// Query projection.
    pub query: Dense,
    /// Key projection.
    pub key: Dense,
    /// Value projection.
    pub value: Dense,
    /// Projection of the concatenated heads.
    pub attention_output: Dense,
    /// LayerNorm after the attention's residual addition.
    pub attention_norm: Norm,
    /// First product of the feed-forward network.
    pub intermediate: Dense,
    /// Second product of the feed-forward network.
    pub output: Dense,
    /// LayerNorm after the feed-forward network's residual addition.
    pub output_norm: Norm,
}

/// Every tensor of one float32 layer.
#[derive(Clone, Debug)]
pub struct FloatTrace {
    pub(crate) tensors: BTreeMap<Tensor, Matrix<f32>>,
    /// Sum of the attention's output and the residual, before LayerNorm.
    pub attention_sum: Matrix<f32>,
    /// Sum of the feed-forward network's output and the residual, before LayerNorm.
    pub ffn_sum: Matrix<f32>,
}

impl FloatTrace {
    /// One tensor of the layer.
    pub fn get(&self, tensor: Tensor) -> &Matrix<f32> {
        &self.tensors[&tensor]
    }
}
