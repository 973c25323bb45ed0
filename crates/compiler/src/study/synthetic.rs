//! Transformers of given shapes with pseudo-random weights: for cycles, which do not depend on the weights' values.
//!
//! Encoders have int8 weights, with scales chosen so that every tensor spreads over int8 and no int32 sum wraps. Decoders are
//! float32 models that are quantised like any other, so that early exit and little models have something to agree with.

use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{
    Activation, AttentionParams, ColumnGroup, DiagonalSum, DiagonalTerm, GeluConstants, Linear, SoftmaxConstants,
};
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model};
use pollux_model::quantise::QuantiseOptions;
use pollux_model::{Matrix, layer};
use serde::{Deserialize, Serialize};

use crate::error::CompileError;
use crate::lowering::Weights;
use crate::parameters::EncoderLayerParams;
use crate::random::Random;
use crate::size;

/// Standard deviation of uniform int8 weights in [-127, 127].
const WEIGHT_DEVIATION: f32 = 73.6;
/// Standard deviation that results should have.
const RESULT_DEVIATION: f32 = 32.0;
/// The same for query and key: their product must not make the softmax a maximum.
const SCORE_DEVIATION: f32 = 12.0;
/// Real value of one accumulator unit before GELU.
const GELU_UNIT: f64 = 0.005;
/// Range of GELU's result.
const GELU_RANGE: f64 = 5.0;
/// Added to masked scores.
const MASK_BIAS: i32 = -(1 << 24);

/// Pseudo-random sequences that a decoder is calibrated on, and their tokens.
const CALIBRATION_SEQUENCES: usize = 4;
const CALIBRATION_TOKENS: usize = 16;

/// Sizes of a Transformer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Name for people.
    pub name: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads a layer; divides `hidden`.
    pub heads: usize,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
    /// GPT-2 family; otherwise an encoder.
    #[serde(default)]
    pub decoder: bool,
}

impl Shape {
    /// A shape of an encoder.
    pub fn new(name: &str, hidden: usize, layers: usize, heads: usize, ffn: usize) -> Self {
        Self { name: name.to_owned(), hidden, layers, heads, ffn, decoder: false }
    }

    /// The published shapes: BERT (arXiv 1810.04805), MiniLM-L6 (arXiv 2002.10957), GPT-2 (Radford et al., 2019).
    pub fn known() -> Vec<Self> {
        vec![
            Self::new("minilm-l6", 384, 6, 12, 1536),
            Self::new("bert-base", 768, 12, 12, 3072),
            Self::new("bert-large", 1024, 24, 16, 4096),
            Self { decoder: true, ..Self::new("gpt2", 768, 12, 12, 3072) },
            Self { decoder: true, ..Self::new("gpt2-medium", 1024, 24, 16, 4096) },
        ]
    }

    /// The published shape of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn by_name(name: &str) -> Result<Self, CompileError> {
        let known = Self::known();
        let names: Vec<&str> = known.iter().map(|shape| shape.name.as_str()).collect();
        let what = format!("no shape is called `{name}`: choose {}", names.join(", "));
        known
            .iter()
            .find(|shape| shape.name == name)
            .cloned()
            .ok_or(CompileError::Technique { technique: "synthetic model", what })
    }

    /// Checks that the sizes make a Transformer.
    ///
    /// # Errors
    /// A size of 0, or heads that do not divide the width.
    pub fn check(&self) -> Result<(), CompileError> {
        let sizes = [self.hidden, self.layers, self.heads, self.ffn];
        if sizes.contains(&0) || !self.hidden.is_multiple_of(self.heads) {
            let what = format!("{self:?}: every size must be at least 1, and heads must divide hidden");
            return Err(CompileError::Technique { technique: "synthetic model", what });
        }
        Ok(())
    }

    /// Refuses layers whose weights, in elements of so many bytes, and tensors for so many tokens do not fit into memory.
    fn check_size(&self, element: u128, tokens: usize, tables: u128) -> Result<(), CompileError> {
        let [hidden, layers, heads, ffn, tokens] =
            [self.hidden, self.layers, self.heads, self.ffn, tokens].map(|size| size as u128);
        let weights = 4 * hidden * hidden + 2 * hidden * ffn;
        let tensors = tokens * (8 * hidden + 2 * ffn) + heads * tokens * tokens;
        let what = format!("{} of {layers} layers with {tokens} tokens", self.name);
        size::check(&what, layers * (element * weights + tensors) + element * tables * hidden)
    }

    /// Columns of a head.
    pub fn head_size(&self) -> usize {
        self.hidden / self.heads
    }
}

/// Makes the parts of synthetic layers.
pub(crate) struct Parts<'a> {
    pub shape: &'a Shape,
    /// Most keys of a softmax row.
    pub keys: usize,
    pub random: Random,
}

impl Parts<'_> {
    /// A dense product whose results have the given deviation for inputs of [`RESULT_DEVIATION`].
    pub fn linear(&mut self, inputs: usize, outputs: usize, deviation: f32) -> Weights {
        let sum = WEIGHT_DEVIATION * RESULT_DEVIATION * (inputs as f32).sqrt();
        let linear = Linear {
            inputs,
            outputs,
            weights: self.random.weights(inputs * outputs),
            bias: self.random.between(-(sum as i32) / 4, sum as i32 / 4, outputs),
            scale: deviation / sum,
        };
        linear.into()
    }

    pub fn query_key(&mut self) -> Weights {
        self.linear(self.shape.hidden, self.shape.hidden, SCORE_DEVIATION)
    }

    pub fn projection(&mut self, inputs: usize) -> Weights {
        self.linear(inputs, self.shape.hidden, RESULT_DEVIATION)
    }

    pub fn attention(&self) -> AttentionParams {
        let heads = self.shape.heads;
        AttentionParams {
            heads,
            head_size: self.shape.head_size(),
            softmax: softmax(self.keys),
            mask_bias: MASK_BIAS,
            probability_scale: vec![1.0; heads],
            // Probabilities of 1/127 sum to about 127; the mean of a few values has a smaller deviation.
            context_scale: vec![2.0 / 127.0; heads],
        }
    }

    fn term(&mut self, operand: DiagonalOperand, low: i32, high: i32) -> DiagonalTerm {
        let factors = self.random.between(low, high, self.shape.hidden);
        DiagonalTerm { operand, diagonal: factors.into_iter().map(|f| f as i8).collect() }
    }

    /// LayerNorm of branch + residual (encoders).
    pub fn residual_norm(&mut self) -> DiagonalSum {
        let terms = vec![self.term(DiagonalOperand::Branch, 10, 18), self.term(DiagonalOperand::Residual, 10, 18)];
        self.sum(terms, Activation::LayerNorm, RESULT_DEVIATION)
    }

    fn sum(&mut self, terms: Vec<DiagonalTerm>, activation: Activation, scale: f32) -> DiagonalSum {
        let hidden = self.shape.hidden;
        let bias = self.random.between(-50, 50, hidden);
        DiagonalSum { terms, bias, activation, groups: vec![ColumnGroup { columns: 0..hidden, scale }] }
    }

    pub fn gelu(&mut self) -> DiagonalSum {
        let ffn = self.shape.ffn;
        let layer::GeluConstants { qb, qc } = layer::GeluConstants::for_scale(GELU_UNIT);
        let factor = layer::GeluConstants::output_scale(GELU_UNIT) / (GELU_RANGE / 127.0);
        let diagonal = self.random.between(4, 7, ffn).into_iter().map(|f| f as i8).collect();
        DiagonalSum {
            terms: vec![DiagonalTerm { operand: DiagonalOperand::Branch, diagonal }],
            bias: vec![0; ffn],
            activation: Activation::Gelu(GeluConstants { qb, qc }),
            groups: vec![ColumnGroup { columns: 0..ffn, scale: factor as f32 }],
        }
    }
}

/// Constants of an exponential whose sum over so many keys does not wrap.
fn softmax(keys: usize) -> SoftmaxConstants {
    // One is (qb^2 + qc) = 2.79 / S^2 (I-BERT's coefficients); `keys` of them must stay below 2^31.
    let mut scale = (2.79 * keys as f64 / f64::from(i32::MAX)).sqrt().max(0.001);
    loop {
        match layer::SoftmaxConstants::for_scale(scale) {
            Some(c) if c.fits(keys) => {
                return SoftmaxConstants { qln2: c.qln2, qln2_inv: c.qln2_inv, qb: c.qb, qc: c.qc };
            }
            // Above ln 2 there are no constants at all, but no hardware has that many keys either.
            None => return SoftmaxConstants { qln2: 1, qln2_inv: 65536, qb: 1, qc: 1 },
            Some(_) => scale *= 1.01,
        }
    }
}

/// An encoder of a shape for at most `keys` tokens.
///
/// # Errors
/// A shape that makes no Transformer.
pub fn encoder(shape: &Shape, keys: usize, seed: u64) -> Result<Vec<EncoderLayerParams>, CompileError> {
    shape.check()?;
    shape.check_size(1, keys, 0)?;
    let mut parts = Parts { shape, keys, random: Random::new(seed) };
    let (hidden, ffn) = (shape.hidden, shape.ffn);
    let layer = |_| EncoderLayerParams {
        query: parts.query_key(),
        key: parts.query_key(),
        value: parts.projection(hidden),
        attention: parts.attention(),
        attention_output: parts.projection(hidden),
        attention_norm: parts.residual_norm(),
        intermediate: parts.linear(hidden, ffn, RESULT_DEVIATION),
        gelu: parts.gelu(),
        ffn_output: parts.projection(ffn),
        output_norm: parts.residual_norm(),
    };
    Ok((0..shape.layers).map(layer).collect())
}

/// A GPT-2-family decoder of a shape, quantised on pseudo-random tokens. Its float32 blocks are dropped.
///
/// # Errors
/// A shape that makes no Transformer, or an empty vocabulary or context.
pub fn decoder(
    shape: &Shape,
    vocabulary: usize,
    positions: usize,
    seed: u64,
) -> Result<QuantisedDecoder, CompileError> {
    shape.check()?;
    shape.check_size(4, positions.min(CALIBRATION_TOKENS), vocabulary as u128 + positions as u128)?;
    let config = Gpt2Config {
        n_embd: shape.hidden,
        n_layer: shape.layers,
        n_head: shape.heads,
        n_inner: Some(shape.ffn),
        vocab_size: vocabulary,
        n_positions: positions,
        // With pseudo-random weights and a tied head the likeliest next word would always be the last one.
        tie_word_embeddings: false,
        ..Gpt2Config::small()
    };
    let mut model = Gpt2Model::synthetic(config, seed)?;
    // As GPT-2 is initialised (Radford et al., 2019): the more branches there are, the less each one adds to the stream.
    let share = 1.0 / (2.0 * shape.layers as f32).sqrt();
    for branch in model.blocks.iter_mut().flat_map(|block| [&mut block.attention_output, &mut block.output]) {
        branch.weight.data.iter_mut().chain(&mut branch.bias).for_each(|w| *w *= share);
    }
    let mut random = Random::new(seed);
    let mut sequence = || -> Vec<u32> {
        let tokens = random.between(0, vocabulary as i32 - 1, positions.min(CALIBRATION_TOKENS));
        tokens.into_iter().map(|token| token as u32).collect()
    };
    let sequences: Vec<Vec<u32>> = (0..CALIBRATION_SEQUENCES).map(|_| sequence()).collect();
    let mut decoder = QuantisedDecoder::build(model, &sequences, &QuantiseOptions::default())?;
    decoder.model.blocks = Vec::new();
    Ok(decoder)
}

/// An input for an encoder.
pub fn input(shape: &Shape, tokens: usize, seed: u64) -> Matrix<i8> {
    let data = Random::new(seed).between(-64, 64, tokens * shape.hidden);
    Matrix::from_vec(tokens, shape.hidden, data.into_iter().map(|x| x as i8).collect())
}
