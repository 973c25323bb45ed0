//! Quantised encoder layers as programs.

use pollux_asm::Program;
use pollux_isa::GemminiConfig;
use pollux_isa::config::ExpVariant;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::encoder::{AttentionParams, EncoderLayerParams, Mask};
use pollux_kernels::{
    Activation, ColumnGroup, DiagonalSum, DiagonalTerm, GeluConstants, ProgramBuilder, SoftmaxConstants, Statistics,
    encoder,
};
use pollux_model::layer::{self, QuantisedLayer};
use pollux_model::{AttentionMask, LayerFile, LayerTrace, Matrix, layer_reference};

use crate::failure::Failure;

/// Name of the buffer with the layer's input.
pub const INPUT: &str = "input";

/// An encoder layer with its sample input, as commands.
pub struct LoweredLayer {
    /// The program; the output buffer has the reference's result as its expected contents.
    pub program: Program,
    /// Work by operation.
    pub statistics: Statistics,
    /// Name of the buffer with the layer's result.
    pub output: String,
    /// What the integer reference makes of the sample.
    pub reference: LayerTrace,
}

/// Lowers a layer with its sample input.
///
/// # Errors
/// A configuration that cannot run it, or a layer whose parts do not fit together.
pub fn lower(file: &LayerFile, config: GemminiConfig) -> Result<LoweredLayer, Failure> {
    if config.softmax_exp != ExpVariant::Released {
        return Err(Failure::Input(format!(
            "configuration `{}` has the polynomial of GELU in the place of the exponential, so its softmax is useless: \
             choose one with softmax_exp = \"released\", such as norm16",
            config.name
        )));
    }
    let reference = layer_reference(&file.layer, &file.input, AttentionMask::Full).map_err(Failure::input)?;
    let name = format!("layer{}", file.origin.layer);
    let mut builder = ProgramBuilder::new(config).map_err(Failure::input)?;
    let input = &file.input;
    let input = builder.buffer_i8(INPUT, input.rows, input.cols, &input.data).map_err(Failure::input)?;
    let placed = parameters(&file.layer).place(&mut builder, &name).map_err(Failure::input)?;
    placed.lower(&mut builder, &name, &input, Mask::Full).map_err(Failure::input)?;
    let output = format!("{name}.output");
    builder.expect(&output, bytes(reference.output())).map_err(Failure::input)?;
    let statistics = builder.statistics().clone();
    let program = builder.finish().map_err(Failure::input)?;
    Ok(LoweredLayer { program, statistics, output, reference })
}

/// A matrix as memory holds it.
pub fn bytes(matrix: &Matrix<i8>) -> Vec<u8> {
    matrix.data.iter().map(|element| *element as u8).collect()
}

/// The layer as the kernels take it.
fn parameters(layer: &QuantisedLayer) -> EncoderLayerParams {
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

fn linear(linear: &layer::Linear) -> encoder::Linear {
    encoder::Linear {
        inputs: linear.weights.rows,
        outputs: linear.weights.cols,
        weights: linear.weights.data.clone(),
        bias: linear.bias.clone(),
        scale: linear.scale,
    }
}

fn attention(attention: &layer::Attention) -> AttentionParams {
    AttentionParams {
        heads: attention.heads,
        head_size: attention.head_size,
        softmax: softmax(attention.softmax),
        mask_bias: attention.mask_bias,
        probability_scale: attention.probability_scale.clone(),
        context_scale: attention.context_scale.clone(),
    }
}

/// The constants of softmax as the kernels take them.
pub fn softmax(constants: layer::SoftmaxConstants) -> SoftmaxConstants {
    let layer::SoftmaxConstants { qln2, qln2_inv, qb, qc } = constants;
    SoftmaxConstants { qln2, qln2_inv, qb, qc }
}

fn diagonal_sum(sum: &layer::DiagonalSum) -> DiagonalSum {
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
