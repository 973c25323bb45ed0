//! Activations at read-out and their integer constants.

use pollux_isa::fields::ConfigNorm;
use pollux_isa::values;
use serde::{Deserialize, Serialize};

/// Constants of the integer GELU (CONFIG_NORM's `qb` and `qc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeluConstants {
    /// Clipping point; negative.
    pub qb: i32,
    /// Constant of the polynomial; negative.
    pub qc: i32,
}

/// Constants of the integer exponential (CONFIG_NORM's `qln2`, `qln2_inv`, `qb`, `qc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftmaxConstants {
    /// ln 2 in units of the input.
    pub qln2: i32,
    /// 65536 / qln2.
    pub qln2_inv: i32,
    /// Offset of the polynomial.
    pub qb: i32,
    /// Constant of the polynomial.
    pub qc: i32,
}

/// What happens to an accumulator row on its way to memory, before it is scaled to int8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// Negative values become 0.
    Relu,
    /// Integer GELU.
    Gelu(GeluConstants),
    /// (x - mean) / deviation over the row.
    LayerNorm,
    /// Integer softmax over the row; 1.0 is 127.
    Softmax(SoftmaxConstants),
}

impl Activation {
    /// Whether it needs the statistics of a whole row, and therefore all of it in the accumulator.
    pub fn normalizes(&self) -> bool {
        matches!(self, Self::LayerNorm | Self::Softmax(_))
    }

    /// The hardware's code.
    pub fn code(&self) -> values::Activation {
        match self {
            Self::None => values::Activation::None,
            Self::Relu => values::Activation::Relu,
            Self::Gelu(_) => values::Activation::Igelu,
            Self::LayerNorm => values::Activation::Layernorm,
            Self::Softmax(_) => values::Activation::Softmax,
        }
    }

    /// The code's two low bits, which CONFIG_EX and CONFIG_ST carry; softmax's third bit is in CONFIG_NORM.
    pub(crate) fn two_bits(&self) -> values::Activation {
        match self {
            Self::Softmax(_) => values::Activation::None,
            other => other.code(),
        }
    }

    /// The CONFIG_NORM commands that set the constants.
    pub(crate) fn constants(&self) -> Vec<ConfigNorm> {
        let norm = |act_msb, q_const_type, q_const, qb, qc| ConfigNorm {
            norm_stats_id: 0,
            act_msb,
            set_stats_id_only: false,
            q_const_type,
            q_const,
            qb,
            qc,
        };
        match *self {
            Self::Gelu(GeluConstants { qb, qc }) => vec![norm(false, false, 0, qb, qc)],
            Self::Softmax(SoftmaxConstants { qln2, qln2_inv, qb, qc }) => {
                vec![norm(true, false, qln2, qb, qc), norm(true, true, qln2_inv, qb, qc)]
            }
            _ => Vec::new(),
        }
    }

    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relu => "relu",
            Self::Gelu(_) => "gelu",
            Self::LayerNorm => "layernorm",
            Self::Softmax(_) => "softmax",
        }
    }
}
