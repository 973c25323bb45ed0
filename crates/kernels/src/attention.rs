//! Parameters of attention: softmax(query * key^T + mask) times value, head by head.

use serde::{Deserialize, Serialize};

use crate::activation::SoftmaxConstants;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::matmul::Bias;

/// Which keys a query may attend to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Every key.
    Full,
    /// Only the first `valid` keys.
    Padding {
        /// Number of them.
        valid: usize,
    },
    /// Keys up to the query's own position; the last query is at the last key.
    Causal,
}

/// Parameters of the attention of all heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionParams {
    /// Heads; head h owns columns `h * head_size ..`.
    pub heads: usize,
    /// Columns of a head.
    pub head_size: usize,
    /// Constants of the exponential on the int32 scores.
    pub softmax: SoftmaxConstants,
    /// Added to the scores of masked keys.
    pub mask_bias: i32,
    /// Read-out factor of each head's probabilities, on top of 127/sum.
    pub probability_scale: Vec<f32>,
    /// Read-out factor of each head's context.
    pub context_scale: Vec<f32>,
}

impl AttentionParams {
    /// The addend of the scores for a mask, as a buffer `NAME` if there is one.
    ///
    /// # Errors
    /// Full memory, or more valid keys than there are.
    pub fn place_mask(
        &self,
        builder: &mut ProgramBuilder,
        name: &str,
        mask: Mask,
        queries: usize,
        keys: usize,
    ) -> Result<Bias, KernelError> {
        let addend = |allowed: bool| if allowed { 0 } else { self.mask_bias };
        match mask {
            Mask::Full => Ok(Bias::None),
            Mask::Padding { valid } if valid > keys => Err(KernelError::Parameter {
                operation: name.to_owned(),
                what: format!("the mask leaves {valid} keys, but there are {keys}"),
            }),
            Mask::Padding { valid } => {
                let row: Vec<i32> = (0..keys).map(|key| addend(key < valid)).collect();
                Ok(Bias::Row(builder.buffer_i32(name, 1, keys, &row)?))
            }
            Mask::Causal => {
                let matrix: Vec<i32> = (0..queries)
                    .flat_map(|query| (0..keys).map(move |key| addend(key + queries <= query + keys)))
                    .collect();
                Ok(Bias::Matrix(builder.buffer_i32(name, queries, keys, &matrix)?))
            }
        }
    }

    /// Checks that every head has its factors; `name` names the attention in errors.
    ///
    /// # Errors
    /// The list of factors that is too short or too long.
    pub fn check(&self, name: &str) -> Result<(), KernelError> {
        for (what, found) in
            [("probability_scale", self.probability_scale.len()), ("context_scale", self.context_scale.len())]
        {
            if found != self.heads {
                let what = format!("{name}.{what}");
                return Err(KernelError::Length { what, found, expected: self.heads });
            }
        }
        Ok(())
    }
}
