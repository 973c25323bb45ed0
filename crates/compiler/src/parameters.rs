//! Quantised layers (`pollux-model`) as the kernels take them.

use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{
    Activation, AttentionParams, ColumnGroup, DiagonalSum, DiagonalTerm, GeluConstants, Linear, Mask, ResidualNorm,
    SoftmaxConstants,
};
use pollux_model::layer::{self, QuantisedLayer};
use pollux_model::{AttentionMask, decoder};

use crate::lowering::Weights;

/// Everything an encoder layer needs.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderLayerParams {
    /// Query projection.
    pub query: Weights,
    /// Key projection.
    pub key: Weights,
    /// Value projection.
    pub value: Weights,
    /// Scores, softmax, context.
    pub attention: AttentionParams,
    /// Projection of the concatenated heads.
    pub attention_output: Weights,
    /// Residual addition and LayerNorm after the attention.
    pub attention_norm: DiagonalSum,
    /// First product of the feed-forward network.
    pub intermediate: Weights,
    /// GELU.
    pub gelu: DiagonalSum,
    /// Second product of the feed-forward network.
    pub ffn_output: Weights,
    /// Residual addition and LayerNorm after the feed-forward network.
    pub output_norm: DiagonalSum,
}

/// All parameters of an encoder layer.
pub fn encoder_layer(layer: &QuantisedLayer) -> EncoderLayerParams {
    EncoderLayerParams {
        query: weights(&layer.query),
        key: weights(&layer.key),
        value: weights(&layer.value),
        attention: attention(&layer.attention),
        attention_output: weights(&layer.attention_output),
        attention_norm: diagonal_sum(&layer.attention_norm),
        intermediate: weights(&layer.intermediate),
        gelu: diagonal_sum(&layer.gelu),
        ffn_output: weights(&layer.ffn_output),
        output_norm: diagonal_sum(&layer.output_norm),
    }
}

/// A dense product.
pub fn weights(linear: &layer::Linear) -> Weights {
    Weights {
        linear: Linear {
            inputs: linear.weights.rows,
            outputs: linear.weights.cols,
            weights: linear.weights.data.clone(),
            bias: linear.bias.clone(),
            scale: linear.scale,
        },
        repeats: linear.repeats.clone(),
    }
}

/// Scores, softmax and context.
pub fn attention(attention: &layer::Attention) -> AttentionParams {
    let layer::SoftmaxConstants { qln2, qln2_inv, qb, qc } = attention.softmax;
    AttentionParams {
        heads: attention.heads,
        head_size: attention.head_size,
        softmax: SoftmaxConstants { qln2, qln2_inv, qb, qc },
        mask_bias: attention.mask_bias,
        probability_scale: attention.probability_scale.clone(),
        context_scale: attention.context_scale.clone(),
    }
}

/// A diagonal sum.
pub fn diagonal_sum(sum: &layer::DiagonalSum) -> DiagonalSum {
    let term = |term: &layer::DiagonalTerm| DiagonalTerm {
        operand: match term.operand {
            layer::Operand::Branch => DiagonalOperand::Branch,
            layer::Operand::Residual => DiagonalOperand::Residual,
        },
        diagonal: term.diagonal.clone(),
    };
    DiagonalSum {
        terms: sum.terms.iter().map(term).collect(),
        bias: sum.bias.clone(),
        activation: match sum.activation {
            layer::Activation::Gelu(layer::GeluConstants { qb, qc }) => Activation::Gelu(GeluConstants { qb, qc }),
            layer::Activation::LayerNorm => Activation::LayerNorm,
        },
        groups: column_groups(&sum.groups),
    }
}

/// A decoder's residual addition.
pub fn residual_norm(norm: &decoder::ResidualNorm) -> ResidualNorm {
    let columns = norm.groups.last().map_or(0, |group| group.columns.end);
    ResidualNorm { columns, terms: norm.terms.clone(), groups: column_groups(&norm.groups) }
}

fn column_groups(groups: &[layer::ColumnGroup]) -> Vec<ColumnGroup> {
    groups.iter().map(|group| ColumnGroup { columns: group.columns.clone(), scale: group.scale }).collect()
}

/// Which keys a query may attend to.
pub fn mask(mask: AttentionMask) -> Mask {
    match mask {
        AttentionMask::Full => Mask::Full,
        AttentionMask::Padding { valid } => Mask::Padding { valid },
        AttentionMask::Causal => Mask::Causal,
    }
}
