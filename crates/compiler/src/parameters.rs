//! Quantised layers (`pollux-model`) as the kernels take them.

use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::encoder::{AttentionParams, EncoderLayerParams, Linear, Mask};
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, DiagonalTerm, GeluConstants, SoftmaxConstants};
use pollux_model::AttentionMask;
use pollux_model::layer::{self, QuantisedLayer};

/// All parameters of an encoder layer.
pub fn encoder_layer(layer: &QuantisedLayer) -> EncoderLayerParams {
    EncoderLayerParams {
        query: linear(&layer.query),
        key: linear(&layer.key),
        value: linear(&layer.value),
        attention: attention(&layer.attention),
        attention_output: linear(&layer.attention_output),
        attention_norm: diagonal_sum(&layer.attention_norm),
        intermediate: linear(&layer.intermediate),
        gelu: diagonal_sum(&layer.gelu),
        ffn_output: linear(&layer.ffn_output),
        output_norm: diagonal_sum(&layer.output_norm),
    }
}

/// A dense product.
pub fn linear(linear: &layer::Linear) -> Linear {
    Linear {
        inputs: linear.weights.rows,
        outputs: linear.weights.cols,
        weights: linear.weights.data.clone(),
        bias: linear.bias.clone(),
        scale: linear.scale,
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
    let group = |group: &layer::ColumnGroup| ColumnGroup { columns: group.columns.clone(), scale: group.scale };
    DiagonalSum {
        terms: sum.terms.iter().map(term).collect(),
        bias: sum.bias.clone(),
        activation: match sum.activation {
            layer::Activation::Gelu(layer::GeluConstants { qb, qc }) => Activation::Gelu(GeluConstants { qb, qc }),
            layer::Activation::LayerNorm => Activation::LayerNorm,
        },
        groups: sum.groups.iter().map(group).collect(),
    }
}

/// Which keys a query may attend to.
pub fn mask(mask: AttentionMask) -> Mask {
    match mask {
        AttentionMask::Full => Mask::Full,
        AttentionMask::Padding { valid } => Mask::Padding { valid },
        AttentionMask::Causal => Mask::Causal,
    }
}
