//! One encoder layer: attention and feed-forward network with their residual additions and normalizations.
//!
//! The data flow is that of `pollux-model`'s quantised layer. All products are int8 x int8 into int32; every result in
//! main memory is int8:
//!
//! 1. query, key, value: [`Linear`] of the input;
//! 2. per head: softmax(query * key^T), then times value;
//! 3. attention output: [`Linear`] of the concatenated heads;
//! 4. attention norm: [`DiagonalSum`] of that and the input, with LayerNorm;
//! 5. intermediate: [`Linear`]; GELU: [`DiagonalSum`] of it alone;
//! 6. FFN output: [`Linear`]; output norm: [`DiagonalSum`] of that and the attention norm.

use pollux_asm::program::ElementType;
use serde::{Deserialize, Serialize};

use crate::activation::{Activation, SoftmaxConstants};
use crate::builder::ProgramBuilder;
use crate::diagonal::{DiagonalSum, PlacedDiagonalSum};
use crate::error::KernelError;
use crate::matmul::{Bias, Matmul};
use crate::view::View;

/// A dense product: `out = sat8(round((in * weights + bias) * scale))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// K.
    pub inputs: usize,
    /// J.
    pub outputs: usize,
    /// Inputs x outputs, row-major.
    pub weights: Vec<i8>,
    /// One int32 an output.
    pub bias: Vec<i32>,
    /// Factor of the read-out.
    pub scale: f32,
}

/// A [`Linear`] whose parameters are in main memory.
#[derive(Clone, Copy, Debug)]
pub struct PlacedLinear {
    weights: View,
    bias: View,
    scale: f32,
}

impl Linear {
    /// Puts weights and bias into main memory, as buffers `NAME.weights` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedLinear, KernelError> {
        let weights = builder.buffer_i8(&format!("{name}.weights"), self.inputs, self.outputs, &self.weights)?;
        let bias = builder.buffer_i32(&format!("{name}.bias"), 1, self.outputs, &self.bias)?;
        Ok(PlacedLinear { weights, bias, scale: self.scale })
    }
}

impl PlacedLinear {
    /// The product of an input, to be lowered with a schedule of choice.
    pub fn matmul(&self, input: View, out: View) -> Matmul {
        Matmul { bias: Bias::Row(self.bias), scale: self.scale, ..Matmul::new(input, self.weights, out) }
    }
}

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
    /// Emits scores and softmax of all heads. `probabilities` has heads * queries rows and a column for each key.
    ///
    /// The softmax is fused with the scores if the accumulator holds whole rows beside the product. Otherwise the int32
    /// scores go through main memory, two heads in turn, in buffers `OPERATION.sums0` and `OPERATION.sums1`.
    ///
    /// # Errors
    /// Operands that do not fit together, or rows that do not fit the accumulator at all.
    pub fn lower_probabilities(
        &self,
        builder: &mut ProgramBuilder,
        query: &View,
        key: &View,
        mask: &Bias,
        probabilities: &View,
    ) -> Result<(), KernelError> {
        self.check(builder)?;
        let mut sums = Vec::new();
        for head in 0..self.heads {
            let scores = self.scores(head, query, key, mask, probabilities)?;
            if scores.fuses(builder) {
                scores.lower_auto(builder)?;
                continue;
            }
            if sums.len() < 2 {
                let name = format!("{}.sums{}", builder.operation(), sums.len());
                sums.push(builder.buffer(&name, query.rows, key.rows, ElementType::I32)?);
            }
            scores.lower_separately(builder, &sums[head % sums.len()])?;
        }
        Ok(())
    }

    /// One head's scores with softmax.
    fn scores(
        &self,
        head: usize,
        query: &View,
        key: &View,
        mask: &Bias,
        probabilities: &View,
    ) -> Result<Matmul, KernelError> {
        let columns = head * self.head_size..(head + 1) * self.head_size;
        let out = probabilities.rows(head * query.rows..(head + 1) * query.rows)?;
        Ok(Matmul {
            b_transpose: true,
            bias: *mask,
            scale: self.probability_scale[head],
            activation: Activation::Softmax(self.softmax),
            ..Matmul::new(query.columns(columns.clone())?, key.columns(columns)?, out)
        })
    }

    /// Emits probabilities times values of all heads.
    ///
    /// # Errors
    /// Operands that do not fit together.
    pub fn lower_context(
        &self,
        builder: &mut ProgramBuilder,
        probabilities: &View,
        value: &View,
        context: &View,
    ) -> Result<(), KernelError> {
        self.check(builder)?;
        for head in 0..self.heads {
            let columns = head * self.head_size..(head + 1) * self.head_size;
            let rows = head * context.rows..(head + 1) * context.rows;
            let (value, out) = (value.columns(columns.clone())?, context.columns(columns)?);
            let matmul =
                Matmul { scale: self.context_scale[head], ..Matmul::new(probabilities.rows(rows)?, value, out) };
            matmul.lower_auto(builder)?;
        }
        Ok(())
    }

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

    fn check(&self, builder: &ProgramBuilder) -> Result<(), KernelError> {
        for (what, found) in
            [("probability_scale", self.probability_scale.len()), ("context_scale", self.context_scale.len())]
        {
            if found != self.heads {
                let what = format!("{}.{what}", builder.operation());
                return Err(KernelError::Length { what, found, expected: self.heads });
            }
        }
        Ok(())
    }
}

/// Everything an encoder layer needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderLayerParams {
    /// Query projection.
    pub query: Linear,
    /// Key projection.
    pub key: Linear,
    /// Value projection.
    pub value: Linear,
    /// Scores, softmax, context.
    pub attention: AttentionParams,
    /// Projection of the concatenated heads.
    pub attention_output: Linear,
    /// Residual addition and LayerNorm after the attention.
    pub attention_norm: DiagonalSum,
    /// First product of the feed-forward network.
    pub intermediate: Linear,
    /// GELU.
    pub gelu: DiagonalSum,
    /// Second product of the feed-forward network.
    pub ffn_output: Linear,
    /// Residual addition and LayerNorm after the feed-forward network.
    pub output_norm: DiagonalSum,
}

impl EncoderLayerParams {
    /// Puts all parameters into main memory, as buffers `NAME.PART.weights` and so on.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedEncoderLayer, KernelError> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(PlacedEncoderLayer {
            query: self.query.place(builder, &part("query"))?,
            key: self.key.place(builder, &part("key"))?,
            value: self.value.place(builder, &part("value"))?,
            attention: self.attention.clone(),
            attention_output: self.attention_output.place(builder, &part("attention_output"))?,
            attention_norm: self.attention_norm.place(builder, &part("attention_norm"))?,
            intermediate: self.intermediate.place(builder, &part("intermediate"))?,
            gelu: self.gelu.place(builder, &part("gelu"))?,
            ffn_output: self.ffn_output.place(builder, &part("ffn_output"))?,
            output_norm: self.output_norm.place(builder, &part("output_norm"))?,
        })
    }
}

/// An encoder layer whose parameters are in main memory.
#[derive(Clone, Debug)]
pub struct PlacedEncoderLayer {
    query: PlacedLinear,
    key: PlacedLinear,
    value: PlacedLinear,
    attention: AttentionParams,
    attention_output: PlacedLinear,
    attention_norm: PlacedDiagonalSum,
    intermediate: PlacedLinear,
    gelu: PlacedDiagonalSum,
    ffn_output: PlacedLinear,
    output_norm: PlacedDiagonalSum,
}

/// The layer's int8 results in main memory, all tokens x width; buffers are called `NAME.FIELD`.
#[derive(Clone, Copy, Debug)]
pub struct EncoderLayerBuffers {
    /// Query.
    pub query: View,
    /// Key.
    pub key: View,
    /// Value.
    pub value: View,
    /// Probabilities, (heads * tokens) x tokens.
    pub probabilities: View,
    /// Concatenated heads.
    pub context: View,
    /// Projection of the context.
    pub attention_output: View,
    /// Residual stream after the attention.
    pub attention_norm: View,
    /// Before GELU.
    pub intermediate: View,
    /// After GELU.
    pub gelu: View,
    /// Result of the feed-forward network.
    pub ffn_output: View,
    /// Result of the layer.
    pub output: View,
}

impl EncoderLayerBuffers {
    fn allocate(
        builder: &mut ProgramBuilder,
        name: &str,
        layer: &PlacedEncoderLayer,
        tokens: usize,
    ) -> Result<Self, KernelError> {
        let (hidden, ffn) = (layer.query.weights.cols, layer.intermediate.weights.cols);
        let heads = layer.attention.heads;
        let mut buffer = |part: &str, rows: usize, cols: usize| {
            builder.buffer(&format!("{name}.{part}"), rows, cols, ElementType::I8)
        };
        Ok(Self {
            query: buffer("query", tokens, hidden)?,
            key: buffer("key", tokens, hidden)?,
            value: buffer("value", tokens, hidden)?,
            probabilities: buffer("probabilities", heads * tokens, tokens)?,
            context: buffer("context", tokens, hidden)?,
            attention_output: buffer("attention_output", tokens, hidden)?,
            attention_norm: buffer("attention_norm", tokens, hidden)?,
            intermediate: buffer("intermediate", tokens, ffn)?,
            gelu: buffer("gelu", tokens, ffn)?,
            ffn_output: buffer("ffn_output", tokens, hidden)?,
            output: buffer("output", tokens, hidden)?,
        })
    }
}

impl PlacedEncoderLayer {
    /// Emits the layer for one input (tokens x hidden). Operations and result buffers are called `NAME.PART`.
    ///
    /// # Errors
    /// Parts that do not fit together, rows that do not fit the accumulator, or full memory.
    pub fn lower(
        &self,
        builder: &mut ProgramBuilder,
        name: &str,
        input: &View,
        mask: Mask,
    ) -> Result<EncoderLayerBuffers, KernelError> {
        let tokens = input.rows;
        let buffers = EncoderLayerBuffers::allocate(builder, name, self, tokens)?;
        let addend = self.attention.place_mask(builder, &format!("{name}.mask"), mask, tokens, tokens)?;
        let begin = |builder: &mut ProgramBuilder, part: &str| builder.begin(&format!("{name}.{part}"));

        for (part, linear, out) in [
            ("query", &self.query, buffers.query),
            ("key", &self.key, buffers.key),
            ("value", &self.value, buffers.value),
        ] {
            begin(builder, part);
            linear.matmul(*input, out).lower_auto(builder)?;
        }
        builder.fence();
        begin(builder, "scores_softmax");
        self.attention.lower_probabilities(builder, &buffers.query, &buffers.key, &addend, &buffers.probabilities)?;
        builder.fence();
        begin(builder, "context");
        self.attention.lower_context(builder, &buffers.probabilities, &buffers.value, &buffers.context)?;
        builder.fence();
        begin(builder, "attention_output");
        self.attention_output.matmul(buffers.context, buffers.attention_output).lower_auto(builder)?;
        builder.fence();
        begin(builder, "attention_norm");
        self.attention_norm.lower(builder, &buffers.attention_output, input, &buffers.attention_norm)?;
        builder.fence();
        self.feed_forward(builder, name, &buffers)?;
        Ok(buffers)
    }

    fn feed_forward(
        &self,
        builder: &mut ProgramBuilder,
        name: &str,
        buffers: &EncoderLayerBuffers,
    ) -> Result<(), KernelError> {
        let begin = |builder: &mut ProgramBuilder, part: &str| builder.begin(&format!("{name}.{part}"));
        begin(builder, "intermediate");
        self.intermediate.matmul(buffers.attention_norm, buffers.intermediate).lower_auto(builder)?;
        builder.fence();
        begin(builder, "gelu");
        self.gelu.lower(builder, &buffers.intermediate, &buffers.intermediate, &buffers.gelu)?;
        builder.fence();
        begin(builder, "ffn_output");
        self.ffn_output.matmul(buffers.gelu, buffers.ffn_output).lower_auto(builder)?;
        builder.fence();
        begin(builder, "output_norm");
        self.output_norm.lower(builder, &buffers.ffn_output, &buffers.attention_norm, &buffers.output)?;
        builder.fence();
        Ok(())
    }
}
