//! A quantised decoder: pre-norm blocks in INT8 with an int32 residual stream and an int8 key and value cache.
//!
//! The pieces are those of the encoder ([`Linear`], [`Attention`] with a causal mask, [`DiagonalSum`] for GELU) but
//! for one: in a pre-norm block the residual stream is never normalised, so its int8 form would be rounded again
//! after each of two additions a block. It need not be int8. The accumulator gives its int32 contents to memory in
//! full width, and takes them back as the D operand; so a [`ResidualNorm`] is
//!
//! 1. load the residual stream (int32) into the accumulator,
//! 2. add the branch through its diagonals,
//! 3. read the sum out in full width: the residual stream, without any rounding,
//! 4. read the same accumulator rows out through LayerNorm as int8: the input of the next products.
//!
//! | step | operation | A | read-out |
//! |---|---|---|---|
//! | 1 | query, key, value | normalised stream | scale; key and value go to the cache |
//! | 2 | scores of a head | query, cached keys transposed | softmax, 1/127 |
//! | 3 | context of a head | probabilities, cached values | scale |
//! | 4 | attention output | context | scale |
//! | 5 | residual and `ln_2` | attention output; residual as D | full width, and LayerNorm |
//! | 6 | intermediate | step 5 | scale |
//! | 7 | GELU | intermediate | GELU |
//! | 8 | ffn output | step 7 | scale |
//! | 9 | residual and the next `ln_1` | ffn output; residual as D | full width, and LayerNorm |
//! | end | logits | last step 9 | full width |
//!
//! *Units.* LayerNorm's sum of squares must stay inside int32, so a row's deviation may be 46340 units at most. The
//! stream grows from block to block, and its unit by powers of two; where that changes, the host shifts the stream right,
//! rounding ([`QuantisedBlock::shift`], usually 0), as the full-width read-out has no scale. Blocks share a unit that is up
//! to [`QuantiseOptions::unit_slack`] bits coarser than the finest they allow.
//!
//! *Prefill and generation are the same function.* Every operation treats rows by themselves, and a masked
//! probability is exactly 0; so a prompt at once and token by token give equal integers to the last bit, cache
//! included (tested).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibrate::{LayerSamples, calibrate_decoder};
use crate::error::ModelError;
use crate::float::Dense;
use crate::gpt2::{Gpt2Config, Gpt2Model, KvCache};
use crate::layer::{
    Attention, ColumnGroup, DiagonalSum, Encoding, INT8_MAX, Linear, Operand, check_encodings, check_groups,
    expect_length,
};
use crate::matrix::Matrix;
use crate::quantise::encoder_layer::{
    AttentionPart, BIAS_LIMIT, Effective, GeluPart, NormGroups, integers, norm_encoding, round_up, split_factors,
};
use crate::quantise::options::QuantiseOptions;
use crate::rewrite::Rewrites;
use crate::tensor::Tensor;
use crate::transformer::weights::LayerWeights;

/// `sum = residual + branch * diagonals` in int32; out come the sum in full width and its LayerNorm as int8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResidualNorm {
    /// Diagonals on the branch, accumulated in this order; none at the decoder's entry.
    pub terms: Vec<Vec<i8>>,
    /// Columns read out with one LayerNorm scale; cover all columns, in order.
    pub groups: Vec<ColumnGroup>,
}

impl ResidualNorm {
    fn check(&self, name: &str, columns: usize) -> Result<(), String> {
        self.terms.iter().try_for_each(|t| expect_length(name, "diagonal", t.len(), columns))?;
        check_groups(name, &self.groups, columns)
    }
}

/// One pre-norm block in INT8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantisedBlock {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
    /// Most keys for which the softmax sums are guaranteed not to wrap.
    pub max_tokens: usize,
    /// Bits by which the residual stream is shifted right (rounding half up) before this block.
    pub shift: u32,
    /// Real value of one unit of the residual stream in this block.
    pub unit: f32,
    /// Query projection.
    pub query: Linear,
    /// Key projection.
    pub key: Linear,
    /// Value projection.
    pub value: Linear,
    /// Scores, softmax, context.
    pub attention: Attention,
    /// Projection of the concatenated heads.
    pub attention_output: Linear,
    /// Residual addition after the attention, and `ln_2`.
    pub attention_norm: ResidualNorm,
    /// First product of the feed-forward network.
    pub intermediate: Linear,
    /// GELU of the reloaded intermediate.
    pub gelu: DiagonalSum,
    /// Second product of the feed-forward network.
    pub ffn_output: Linear,
    /// Residual addition after the feed-forward network, and the next block's `ln_1` (of the last block: `ln_f`).
    pub output_norm: ResidualNorm,
    /// What each int8 tensor stands for; [`Tensor::Input`], [`Tensor::AttentionNorm`] and [`Tensor::Output`] are
    /// normalised.
    pub encodings: BTreeMap<Tensor, Encoding>,
}

impl QuantisedBlock {
    /// The encoding of `tensor`.
    ///
    /// # Panics
    /// For [`Tensor::Probabilities`], which has one scale a head instead.
    pub fn encoding(&self, tensor: Tensor) -> &Encoding {
        &self.encodings[&tensor]
    }

    /// The dense products by name, in the order of execution.
    pub fn linears(&self) -> [(&'static str, &Linear); 6] {
        [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("attention_output", &self.attention_output),
            ("intermediate", &self.intermediate),
            ("ffn_output", &self.ffn_output),
        ]
    }

    /// Multiply-accumulates for `tokens` tokens after `past` others (diagonal products not counted).
    pub fn macs(&self, tokens: usize, past: usize) -> u64 {
        let dense: usize = self.linears().iter().map(|(_, l)| l.weights.data.len()).sum();
        (tokens * dense + 2 * tokens * (past + tokens) * self.hidden) as u64
    }

    /// Checks that all shapes agree.
    ///
    /// # Errors
    /// A sentence that names the part and what it should be.
    pub fn check(&self) -> Result<(), String> {
        let (h, f) = (self.hidden, self.ffn);
        let sizes = [(h, h), (h, h), (h, h), (h, h), (h, f), (f, h)];
        for ((name, linear), (inputs, outputs)) in self.linears().into_iter().zip(sizes) {
            linear.check(name, inputs, outputs)?;
        }
        self.attention_norm.check("attention_norm", h)?;
        self.gelu.check("gelu", f)?;
        self.output_norm.check("output_norm", h)?;
        self.attention.check(h)?;
        if self.shift > 31 {
            return Err(format!("shift = {} must be at most 31", self.shift));
        }
        check_encodings(&self.encodings, h, f)
    }
}

/// The output head: scores of all words, read out in full width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Width x vocabulary.
    pub weights: Matrix<i8>,
    /// One int32 a word.
    pub bias: Vec<i32>,
    /// What one unit of a word's int32 score stands for; applied by the host.
    pub scale: Vec<f32>,
}

impl Head {
    /// The real scores for int32 ones.
    pub fn logits(&self, scores: &[i32]) -> Vec<f32> {
        scores.iter().zip(&self.scale).map(|(&q, s)| q as f32 * s).collect()
    }

    fn quantise(table: &Matrix<f32>, input: &Encoding) -> Result<Self, ModelError> {
        let dense = Dense { weight: table.clone(), bias: vec![0.0; table.rows] };
        let effective = Effective::new(&dense, input);
        let planes = vec![1; table.cols];
        let scale: Vec<f32> =
            effective.ranges(&planes).into_iter().map(|r| r.max(f32::MIN_POSITIVE.sqrt()) / INT8_MAX).collect();
        let Linear { weights, bias, .. } = effective.quantise(Tensor::Output, &scale, 1.0, &planes)?;
        Ok(Self { weights, bias, scale })
    }
}

/// A whole decoder: float32 embeddings on the host, INT8 blocks and output head on the accelerator.
#[derive(Clone)]
pub struct QuantisedDecoder {
    /// The float32 model, rewritten as the options asked for.
    pub model: Gpt2Model,
    /// Real value of one unit of the residual stream at the entry.
    pub unit: f32,
    /// `ln_1` of block 0.
    pub entry: ResidualNorm,
    /// The INT8 blocks, first to last.
    pub blocks: Vec<QuantisedBlock>,
    /// The output head.
    pub head: Head,
}

impl QuantisedDecoder {
    /// Calibrates on token sequences and quantises every block.
    ///
    /// # Errors
    /// If an option is out of range, a sequence cannot be embedded, or a value does not fit the hardware's field.
    pub fn build(mut model: Gpt2Model, sequences: &[Vec<u32>], options: &QuantiseOptions) -> Result<Self, ModelError> {
        options.check(model.config.n_embd)?;
        let mut samples = calibrate_decoder(&model, sequences)?;
        let rewrites = Rewrites::of(&samples.blocks, options);
        if !rewrites.is_empty() {
            model.rewrite(&rewrites);
            samples = calibrate_decoder(&model, sequences)?;
        }
        let deviations = samples.blocks.iter().map(|block| block.attention_deviation.max(block.ffn_deviation));
        let deviations: Vec<f32> = std::iter::once(samples.entry_deviation).chain(deviations).collect();
        let streams = StreamUnit::of(&deviations, options);
        let entry = ResidualNorm {
            terms: Vec::new(),
            groups: NormGroups::of(&samples.blocks[0], Tensor::Input, options).read_out(),
        };
        let mut input = norm_encoding(&samples.blocks[0], Tensor::Input, &model.entry_norm, options);
        let mut blocks = Vec::with_capacity(model.blocks.len());
        for (index, (weights, samples)) in model.blocks.iter().zip(&samples.blocks).enumerate() {
            let shape = (model.config.n_head, options.max_tokens.unwrap_or(model.config.n_positions));
            let block = quantise_block(weights, shape, samples, input, &streams[index + 1], &options.for_layer(index))?;
            input = block.encoding(Tensor::Output).clone();
            blocks.push(block);
        }
        let head = Head::quantise(model.head(), &input)?;
        Ok(Self { model, unit: streams[0].unit, entry, blocks, head })
    }

    /// An empty cache for this decoder.
    pub fn cache(&self) -> KvCache<i8> {
        KvCache::new(self.blocks.len())
    }

    /// The residual stream's start for tokens after `past` others, in units of [`QuantisedDecoder::unit`], tokens x
    /// width. On the host.
    ///
    /// # Errors
    /// As [`Gpt2Model::embed_tokens`].
    pub fn embed_tokens(&self, ids: &[u32], past: usize) -> Result<Matrix<i32>, ModelError> {
        let x = self.model.embed_tokens(ids, past)?;
        let data = x.data.iter().map(|v| (v / self.unit).round_ties_even() as i32).collect();
        Ok(Matrix::from_vec(x.rows, x.cols, data))
    }

    /// The same decoder without its last blocks, and without float32 blocks: what it gives when it is left early, and a
    /// little model that shares embedding and head with the big one.
    ///
    /// The head reads the last LayerNorm's steps, so the last block left gets the column groups of the real last one; its
    /// normalised stream then is that of the final LayerNorm.
    ///
    /// # Errors
    /// If there are not that many blocks, or none are left.
    pub fn first_blocks(&self, count: usize) -> Result<Self, ModelError> {
        let (Some(end), true) = (self.blocks.last(), (1..=self.blocks.len()).contains(&count)) else {
            return Err(ModelError::NoSuchLayer { index: count, count: self.blocks.len() });
        };
        let mut blocks = self.blocks[..count].to_vec();
        if let Some(last) = blocks.last_mut() {
            last.output_norm.groups = end.output_norm.groups.clone();
            last.encodings.insert(Tensor::Output, end.encoding(Tensor::Output).clone());
        }
        let m = &self.model;
        let model = Gpt2Model {
            config: Gpt2Config { n_layer: count, ..m.config.clone() },
            word: m.word.clone(),
            position: m.position.clone(),
            entry_norm: m.entry_norm.clone(),
            blocks: Vec::new(),
            head: m.head.clone(),
            tokenizer: m.tokenizer.clone(),
            directory: m.directory.clone(),
        };
        Ok(Self { model, unit: self.unit, entry: self.entry.clone(), blocks, head: self.head.clone() })
    }

    /// Checks that all parts fit together.
    ///
    /// # Errors
    /// A sentence that names the part and what it should be.
    pub fn check(&self) -> Result<(), String> {
        let c = &self.model.config;
        let (h, vocabulary) = (c.n_embd, c.vocab_size);
        self.entry.check("entry", h)?;
        for (index, block) in self.blocks.iter().enumerate() {
            if (block.hidden, block.ffn) != (h, c.ffn()) {
                return Err(format!(
                    "block {index} is {} wide with {} inside, expected {h}, {}",
                    block.hidden,
                    block.ffn,
                    c.ffn()
                ));
            }
            block.check().map_err(|e| format!("block {index}: {e}"))?;
        }
        let w = &self.head.weights;
        if (w.rows, w.cols) != (h, vocabulary) {
            return Err(format!("head: weights are {}x{}, expected {h}x{vocabulary}", w.rows, w.cols));
        }
        expect_length("head", "bias", self.head.bias.len(), vocabulary)?;
        expect_length("head", "scale", self.head.scale.len(), vocabulary)
    }
}

/// The finest unit in which a row of that deviation has a sum of squares inside int32.
fn finest_unit(deviation: f32) -> f32 {
    (deviation / (i32::MAX as f32).sqrt()).max(f32::MIN_POSITIVE.sqrt())
}

/// Unit of the residual stream, and the shift that led to it.
struct StreamUnit {
    unit: f32,
    shift: u32,
}

impl StreamUnit {
    /// The units at the entry and in each block, for rows of these deviations: right shifts lead from one to the next. Each
    /// one is the finest that its rows allow, or up to `unit_slack` bits coarser if the next one is coarser anyway.
    fn of(deviations: &[f32], options: &QuantiseOptions) -> Vec<Self> {
        let finest: Vec<f32> = deviations.iter().map(|d| finest_unit(d * options.deviation_margin)).collect();
        let mut bits: Vec<u32> = finest
            .iter()
            .scan(0, |coarsest, unit| {
                *coarsest = (unit / finest[0]).log2().ceil().clamp(*coarsest as f32, 31.0) as u32;
                Some(*coarsest)
            })
            .collect();
        for i in (1..bits.len()).rev() {
            if bits[i] - bits[i - 1] <= options.unit_slack {
                bits[i - 1] = bits[i];
            }
        }
        let before = std::iter::once(bits[0]).chain(bits.iter().copied());
        let unit = |bits: u32| finest[0] * (1u64 << bits) as f32;
        bits.iter().zip(before).map(|(&bits, before)| Self { unit: unit(bits), shift: bits - before }).collect()
    }

    /// The residual addition of a branch, and LayerNorm.
    fn residual_norm(&self, branch: &Encoding, groups: Vec<ColumnGroup>) -> Result<ResidualNorm, ModelError> {
        let factors = branch.scale.iter().map(|&s| (s, self.unit));
        let factors = integers(Tensor::AttentionOutput, "a branch factor", BIAS_LIMIT, factors)?;
        Ok(ResidualNorm {
            terms: split_factors(&factors, Operand::Branch).into_iter().map(|t| t.diagonal).collect(),
            groups,
        })
    }
}

fn quantise_block(
    weights: &LayerWeights,
    (heads, max_tokens): (usize, usize),
    samples: &LayerSamples,
    input: Encoding,
    stream: &StreamUnit,
    options: &QuantiseOptions,
) -> Result<QuantisedBlock, ModelError> {
    let allowed = |scale: f32| round_up(scale, stream.unit);
    let first = AttentionPart::quantise(weights, heads, max_tokens, samples, &input, options)?;
    let (attention_output, branch) = first.output(&weights.attention_output, samples, options, allowed)?;
    let groups = NormGroups::of(samples, Tensor::AttentionNorm, options);
    let attention_norm = stream.residual_norm(&branch, groups.read_out())?;
    let middle = groups.encoding(&weights.attention_norm);

    let second = GeluPart::quantise(&weights.intermediate, samples, &middle, options)?;
    let (ffn_output, ffn_branch) = second.output(&weights.output, samples, options, allowed)?;
    let groups = NormGroups::of(samples, Tensor::Output, options);
    let output_norm = stream.residual_norm(&ffn_branch, groups.read_out())?;

    let hidden = input.scale.len();
    let mut encodings = BTreeMap::from([
        (Tensor::Input, input),
        (Tensor::AttentionOutput, branch),
        (Tensor::AttentionNorm, middle),
        (Tensor::FfnOutput, ffn_branch),
        (Tensor::Output, groups.encoding(&weights.output_norm)),
    ]);
    encodings.extend(first.encodings);
    encodings.extend(second.encodings);
    Ok(QuantisedBlock {
        hidden,
        ffn: second.intermediate.outputs(),
        max_tokens,
        shift: stream.shift,
        unit: stream.unit,
        query: first.query,
        key: first.key,
        value: first.value,
        attention: first.attention,
        attention_output,
        attention_norm,
        intermediate: second.intermediate,
        gelu: second.gelu,
        ffn_output,
        output_norm,
        encodings,
    })
}
