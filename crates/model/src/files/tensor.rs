//! Names of the tensors inside an encoder layer, in the order of the data flow.

use serde::{Deserialize, Serialize};

/// A tensor of an encoder layer; the float and the integer layer produce the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tensor {
    /// The layer's input, tokens x hidden.
    Input,
    /// Queries of all heads, tokens x hidden.
    Query,
    /// Keys of all heads, tokens x hidden.
    Key,
    /// Values of all heads, tokens x hidden.
    Value,
    /// Attention weights, (heads * tokens) x tokens.
    Probabilities,
    /// Probabilities times values, heads side by side, tokens x hidden.
    Context,
    /// Output projection of the attention, before the residual addition, tokens x hidden.
    AttentionOutput,
    /// After the first residual addition and LayerNorm, tokens x hidden.
    AttentionNorm,
    /// First product of the feed-forward network, before GELU, tokens x ffn.
    Intermediate,
    /// After GELU, tokens x ffn.
    Gelu,
    /// Second product of the feed-forward network, before the residual addition, tokens x hidden.
    FfnOutput,
    /// The layer's output, tokens x hidden.
    Output,
}

impl Tensor {
    /// All tensors in the order of the data flow.
    pub const ALL: [Self; 12] = [
        Self::Input,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Probabilities,
        Self::Context,
        Self::AttentionOutput,
        Self::AttentionNorm,
        Self::Intermediate,
        Self::Gelu,
        Self::FfnOutput,
        Self::Output,
    ];

    /// The name used in reports and containers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Probabilities => "probabilities",
            Self::Context => "context",
            Self::AttentionOutput => "attention_output",
            Self::AttentionNorm => "attention_norm",
            Self::Intermediate => "intermediate",
            Self::Gelu => "gelu",
            Self::FfnOutput => "ffn_output",
            Self::Output => "output",
        }
    }
}

impl std::fmt::Display for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
