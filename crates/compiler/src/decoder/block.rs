//! One pre-norm block of a decoder as operations on an int32 residual stream.

use std::collections::BTreeMap;

use pollux_asm::program::ElementType;
use pollux_kernels::{AttentionParams, Mask, ResidualNormViews, View};
use pollux_model::Tensor;
use pollux_model::decoder::QuantisedBlock;

use crate::encoder::Attention;
use crate::error::CompileError;
use crate::host::HostStep;
use crate::lowering::{Lowering, PlacedNorm, PlacedSum, PlacedWeights};
use crate::operation::OperationClass;
use crate::parameters;

/// The residual stream between two blocks: tokens x width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stream {
    /// int32.
    pub sums: View,
    /// After LayerNorm, int8.
    pub normalised: View,
}

impl Stream {
    /// Buffers for it.
    pub fn allocate(
        lowering: &mut Lowering,
        [sums, normalised]: [&str; 2],
        tokens: usize,
        width: usize,
    ) -> Result<Self, CompileError> {
        Ok(Self {
            sums: lowering.builder.buffer(sums, tokens, width, ElementType::I32)?,
            normalised: lowering.builder.buffer(normalised, tokens, width, ElementType::I8)?,
        })
    }

    /// The first rows of it.
    pub fn first(&self, rows: usize) -> Result<Self, CompileError> {
        Ok(Self { sums: self.sums.rows(0..rows)?, normalised: self.normalised.rows(0..rows)? })
    }
}

/// A block's results in main memory.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockBuffers {
    /// The int8 tensors; keys and values are those of the new tokens.
    pub int8: BTreeMap<Tensor, View>,
    /// The residual stream after the attention, int32.
    pub attention_sum: View,
    /// The residual stream after the block, int32.
    pub ffn_sum: View,
}

/// A block whose parameters are in main memory, with room for its keys and values.
#[derive(Clone, Debug)]
pub(super) struct PlacedBlock {
    shift: u32,
    query: PlacedWeights,
    key: PlacedWeights,
    value: PlacedWeights,
    attention: AttentionParams,
    attention_output: PlacedWeights,
    attention_norm: PlacedNorm,
    intermediate: PlacedWeights,
    gelu: PlacedSum,
    ffn_output: PlacedWeights,
    output_norm: PlacedNorm,
    /// Keys and values of all positions.
    cache: [View; 2],
}

impl PlacedBlock {
    /// Puts all parameters into main memory, as buffers `NAME.PART.weights` and so on.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn new(
        lowering: &mut Lowering,
        name: &str,
        block: &QuantisedBlock,
        positions: usize,
    ) -> Result<Self, CompileError> {
        let part = |part: &str| format!("{name}.{part}");
        let mut cache = |name: &str| lowering.builder.buffer(&part(name), positions, block.hidden, ElementType::I8);
        let cache = [cache("key_cache")?, cache("value_cache")?];
        let mut linear = |name: &str, linear| lowering.place(&part(name), &parameters::weights(linear));
        Ok(Self {
            shift: block.shift,
            query: linear("query", &block.query)?,
            key: linear("key", &block.key)?,
            value: linear("value", &block.value)?,
            attention: parameters::attention(&block.attention),
            attention_output: linear("attention_output", &block.attention_output)?,
            intermediate: linear("intermediate", &block.intermediate)?,
            ffn_output: linear("ffn_output", &block.ffn_output)?,
            attention_norm: lowering
                .place_norm(&part("attention_norm"), &parameters::residual_norm(&block.attention_norm))?,
            gelu: lowering.place_sum(&part("gelu"), &parameters::diagonal_sum(&block.gelu))?,
            output_norm: lowering.place_norm(&part("output_norm"), &parameters::residual_norm(&block.output_norm))?,
            cache,
        })
    }

    /// Keys and values of the normalised stream, written into the cache from `first` on.
    ///
    /// # Errors
    /// A full cache, or an illegal schedule.
    pub fn keys_and_values(
        &self,
        lowering: &mut Lowering,
        name: &str,
        normalised: View,
        first: usize,
    ) -> Result<[View; 2], CompileError> {
        let rows = first..first + normalised.rows;
        let [key, value] = [self.cache[0].rows(rows.clone())?, self.cache[1].rows(rows)?];
        lowering.linear(&format!("{name}.key"), &self.key, normalised, key)?;
        lowering.linear(&format!("{name}.value"), &self.value, normalised, value)?;
        Ok([key, value])
    }

    /// The block for tokens at the positions from `first` on; its results go to `output`, or to buffers of their own.
    /// Operations are called `NAME.PART`.
    ///
    /// # Errors
    /// Parts that do not fit together, or a plan that cannot be followed.
    pub fn lower(
        &self,
        lowering: &mut Lowering,
        name: &str,
        input: Stream,
        output: Option<Stream>,
        first: usize,
    ) -> Result<BlockBuffers, CompileError> {
        let part = |part: &str| format!("{name}.{part}");
        let residual = self.shifted(lowering, name, input.sums)?;
        let [key, value] = self.keys_and_values(lowering, name, input.normalised, first)?;
        let mut b = self.allocate(lowering, name, input, output, first)?;
        b.int8.extend([(Tensor::Key, key), (Tensor::Value, value)]);
        let of = |tensor: Tensor| b.int8[&tensor];

        lowering.linear(&part("query"), &self.query, input.normalised, of(Tensor::Query))?;
        let keys = 0..first + input.sums.rows;
        let (key, value) = (self.cache[0].rows(keys.clone())?, self.cache[1].rows(keys)?);
        // One query at the last position may see every key.
        let mask = if input.sums.rows == 1 { Mask::Full } else { Mask::Causal };
        Attention { params: &self.attention, query: of(Tensor::Query), key, value }.lower(
            lowering,
            name,
            mask,
            of(Tensor::Probabilities),
            of(Tensor::Context),
        )?;
        let branch = of(Tensor::AttentionOutput);
        lowering.linear(&part("attention_output"), &self.attention_output, of(Tensor::Context), branch)?;
        let norm =
            |stream, branch, sums, out| ResidualNormViews { stream, branch: Some(branch), sums: Some(sums), out };
        let views = norm(residual, branch, b.attention_sum, of(Tensor::AttentionNorm));
        lowering.residual_norm(&part("attention_norm"), &self.attention_norm, &views)?;

        let inner = of(Tensor::Intermediate);
        lowering.linear(&part("intermediate"), &self.intermediate, of(Tensor::AttentionNorm), inner)?;
        lowering.diagonal_sum(&part("gelu"), &self.gelu, [inner; 2], of(Tensor::Gelu))?;
        lowering.linear(&part("ffn_output"), &self.ffn_output, of(Tensor::Gelu), of(Tensor::FfnOutput))?;
        let views = norm(b.attention_sum, of(Tensor::FfnOutput), b.ffn_sum, of(Tensor::Output));
        lowering.residual_norm(&part("output_norm"), &self.output_norm, &views)?;
        Ok(b)
    }

    /// The residual stream in the block's unit. The full-width read-out has no scale, so the host shifts.
    fn shifted(&self, lowering: &mut Lowering, name: &str, input: View) -> Result<View, CompileError> {
        if self.shift == 0 {
            return Ok(input);
        }
        let out = lowering.builder.buffer(&format!("{name}.residual"), input.rows, input.cols, ElementType::I32)?;
        let step = HostStep::Shift { input, out, bits: self.shift };
        lowering.host(&format!("{name}.residual_shift"), OperationClass::DataMovement, step);
        Ok(out)
    }

    /// Buffers `NAME.TENSOR` for the results, but for keys and values.
    fn allocate(
        &self,
        lowering: &mut Lowering,
        name: &str,
        input: Stream,
        output: Option<Stream>,
        first: usize,
    ) -> Result<BlockBuffers, CompileError> {
        let (tokens, hidden) = (input.sums.rows, input.sums.cols);
        let (ffn, heads) = (self.intermediate.outputs, self.attention.heads);
        let output = match output {
            Some(output) => output,
            None => {
                let names = [format!("{name}.ffn_sum"), format!("{name}.{}", Tensor::Output)];
                Stream::allocate(lowering, [&names[0], &names[1]], tokens, hidden)?
            }
        };
        let sizes = [
            (Tensor::Query, tokens, hidden),
            (Tensor::Probabilities, heads * tokens, first + tokens),
            (Tensor::Context, tokens, hidden),
            (Tensor::AttentionOutput, tokens, hidden),
            (Tensor::AttentionNorm, tokens, hidden),
            (Tensor::Intermediate, tokens, ffn),
            (Tensor::Gelu, tokens, ffn),
            (Tensor::FfnOutput, tokens, hidden),
        ];
        let buffer = |(tensor, rows, cols): (Tensor, usize, usize)| -> Result<(Tensor, View), CompileError> {
            Ok((tensor, lowering.builder.buffer(&format!("{name}.{tensor}"), rows, cols, ElementType::I8)?))
        };
        let mut int8 = sizes.into_iter().map(buffer).collect::<Result<BTreeMap<_, _>, _>>()?;
        int8.extend([(Tensor::Input, input.normalised), (Tensor::Output, output.normalised)]);
        let attention_sum =
            lowering.builder.buffer(&format!("{name}.attention_sum"), tokens, hidden, ElementType::I32)?;
        Ok(BlockBuffers { int8, attention_sum, ffn_sum: output.sums })
    }
}
