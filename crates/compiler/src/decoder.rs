//! Decoders (GPT-2 shapes): a KV cache, prefill, token-by-token generation, early exit, and Big/Little decoding.
//!
//! A block is x + attention(norm(x)), then x + ffn(norm(x)). The host looks the embedding up, decides what to run next,
//! and takes the token with the largest logit; so each pass is a program of its own on one memory, which keeps weights and
//! caches. Keys and values are written straight into the cache by the products that make them.

use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::encoder::{AttentionParams, Linear, Mask};
use pollux_kernels::{DiagonalSum, Matmul, View};
use pollux_memory::Memory;

use crate::encoder::Attention;
use crate::error::CompileError;
use crate::execute::{CycleSetup, run_cycles, run_functional};
use crate::lowering::{Lowering, PlacedSum, PlacedWeights, Weights};
use crate::operation::OperationClass;
use crate::plan::Plan;
use crate::random::Random;
use crate::synthetic::{Parts, Shape};

/// Parameters of one block.
#[derive(Clone, Debug)]
pub struct DecoderLayerParams {
    /// LayerNorm in front of the attention, of the residual stream.
    pub attention_norm: DiagonalSum,
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
    /// Branch + residual.
    pub attention_residual: DiagonalSum,
    /// LayerNorm in front of the feed-forward network.
    pub ffn_norm: DiagonalSum,
    /// First product of the feed-forward network.
    pub intermediate: Weights,
    /// GELU.
    pub gelu: DiagonalSum,
    /// Second product of the feed-forward network.
    pub ffn_output: Weights,
    /// Branch + residual.
    pub ffn_residual: DiagonalSum,
}

/// Parameters of a decoder.
#[derive(Clone, Debug)]
pub struct DecoderParams {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: Vec<DecoderLayerParams>,
    /// LayerNorm behind the last block.
    pub final_norm: DiagonalSum,
    /// Logits, hidden x vocabulary; read out as int32.
    pub head: Linear,
    /// Real value of one unit of a logit.
    pub logit_unit: f32,
    /// Embedding of each token, int8, vocabulary x hidden, row-major.
    pub embedding: Vec<i8>,
    /// Embedding of each position, int8, positions x hidden, row-major.
    pub position: Vec<i8>,
}

impl DecoderParams {
    /// A decoder of a shape with pseudo-random weights.
    ///
    /// # Errors
    /// A shape that makes no Transformer.
    pub fn synthetic(shape: &Shape, vocabulary: usize, positions: usize, seed: u64) -> Result<Self, CompileError> {
        shape.check()?;
        let mut parts = Parts { shape, keys: positions, random: Random::new(seed) };
        let (hidden, ffn) = (shape.hidden, shape.ffn);
        let layer = |_| DecoderLayerParams {
            attention_norm: parts.norm(),
            query: parts.query_key(),
            key: parts.query_key(),
            value: parts.projection(hidden),
            attention: parts.attention(),
            attention_output: parts.projection(hidden),
            attention_residual: parts.residual(),
            ffn_norm: parts.norm(),
            intermediate: parts.linear(hidden, ffn, 32.0),
            gelu: parts.gelu(),
            ffn_output: parts.projection(ffn),
            ffn_residual: parts.residual(),
        };
        let layers = (0..shape.layers).map(layer).collect();
        let (final_norm, head) = (parts.norm(), parts.linear(hidden, vocabulary, 1.0).linear);
        let small = |random: &mut Random, bound: i32, len: usize| -> Vec<i8> {
            random.between(-bound, bound, len).into_iter().map(|x| x as i8).collect()
        };
        Ok(Self {
            hidden,
            layers,
            final_norm,
            logit_unit: 4.0 * head.scale,
            head,
            embedding: small(&mut parts.random, 60, vocabulary * hidden),
            position: small(&mut parts.random, 12, positions * hidden),
        })
    }

    /// The same decoder without its last blocks: a little model that shares embedding and head with the big one.
    ///
    /// # Errors
    /// No blocks, or more than there are.
    pub fn first_layers(&self, layers: usize) -> Result<Self, CompileError> {
        if layers == 0 || layers > self.layers.len() {
            let what = format!("{layers} blocks of a decoder with {}: take 1 to {0}", self.layers.len());
            return Err(CompileError::Technique { technique: "little model", what });
        }
        Ok(Self { layers: self.layers[..layers].to_vec(), ..self.clone() })
    }

    /// Tokens.
    pub fn vocabulary(&self) -> usize {
        self.head.outputs
    }

    /// Largest number of positions.
    pub fn positions(&self) -> usize {
        self.position.len() / self.hidden
    }

    /// int8 inputs of the first block for tokens from a position on.
    fn embed(&self, tokens: &[u32], first: usize) -> Vec<u8> {
        let row = |table: &[i8], index: usize| table[index * self.hidden..(index + 1) * self.hidden].to_vec();
        let rows = tokens.iter().enumerate().flat_map(|(index, &token)| {
            let (word, position) = (row(&self.embedding, token as usize), row(&self.position, first + index));
            word.into_iter().zip(position).map(|(w, p)| w.saturating_add(p) as u8)
        });
        rows.collect()
    }
}

struct PlacedLayer {
    attention_norm: PlacedSum,
    query: PlacedWeights,
    key: PlacedWeights,
    value: PlacedWeights,
    attention: AttentionParams,
    attention_output: PlacedWeights,
    attention_residual: PlacedSum,
    ffn_norm: PlacedSum,
    intermediate: PlacedWeights,
    gelu: PlacedSum,
    ffn_output: PlacedWeights,
    ffn_residual: PlacedSum,
    /// Keys and values of all positions.
    cache: [View; 2],
}

impl PlacedLayer {
    fn new(
        lowering: &mut Lowering,
        name: &str,
        layer: &DecoderLayerParams,
        positions: usize,
    ) -> Result<Self, CompileError> {
        let part = |part: &str| format!("{name}.{part}");
        let mut cache = |part: &str, width| {
            lowering.builder.buffer(&format!("{name}.{part}_cache"), positions, width, ElementType::I8)
        };
        let cache = [cache("key", layer.key.linear.outputs)?, cache("value", layer.value.linear.outputs)?];
        Ok(Self {
            attention_norm: lowering.place_sum(&part("attention_norm"), &layer.attention_norm)?,
            query: lowering.place(&part("query"), &layer.query)?,
            key: lowering.place(&part("key"), &layer.key)?,
            value: lowering.place(&part("value"), &layer.value)?,
            attention: layer.attention.clone(),
            attention_output: lowering.place(&part("attention_output"), &layer.attention_output)?,
            attention_residual: lowering.place_sum(&part("attention_residual"), &layer.attention_residual)?,
            ffn_norm: lowering.place_sum(&part("ffn_norm"), &layer.ffn_norm)?,
            intermediate: lowering.place(&part("intermediate"), &layer.intermediate)?,
            gelu: lowering.place_sum(&part("gelu"), &layer.gelu)?,
            ffn_output: lowering.place(&part("ffn_output"), &layer.ffn_output)?,
            ffn_residual: lowering.place_sum(&part("ffn_residual"), &layer.ffn_residual)?,
            cache,
        })
    }

    /// Norm, keys and values of the rows of `x`, written into the cache from `first` on. The normalized rows.
    fn keys_and_values(
        &self,
        lowering: &mut Lowering,
        name: &str,
        x: View,
        first: usize,
    ) -> Result<View, CompileError> {
        let normalized = lowering.builder.buffer(&format!("{name}.normalized"), x.rows, x.cols, ElementType::I8)?;
        lowering.diagonal_sum(&format!("{name}.attention_norm"), &self.attention_norm, [x; 2], normalized)?;
        for (part, weights, cache) in [("key", &self.key, self.cache[0]), ("value", &self.value, self.cache[1])] {
            lowering.linear(&format!("{name}.{part}"), weights, normalized, cache.rows(first..first + x.rows)?)?;
        }
        Ok(normalized)
    }

    /// The block; its result replaces `x`, which nothing reads any more.
    fn lower(&self, lowering: &mut Lowering, name: &str, x: View, first: usize) -> Result<(), CompileError> {
        let part = |part: &str| format!("{name}.{part}");
        let (rows, keys) = (x.rows, first + x.rows);
        let normalized = self.keys_and_values(lowering, name, x, first)?;
        let mut buffer =
            |part: &str, rows, cols| lowering.builder.buffer(&format!("{name}.{part}"), rows, cols, ElementType::I8);
        let query = buffer("query", rows, self.query.outputs)?;
        let probabilities = buffer("probabilities", self.attention.heads * rows, keys)?;
        let context = buffer("context", rows, self.query.outputs)?;
        let branch = buffer("attention_output", rows, x.cols)?;
        let middle = buffer("attention_residual", rows, x.cols)?;
        let ffn_input = buffer("ffn_norm", rows, x.cols)?;
        let inner = buffer("intermediate", rows, self.intermediate.outputs)?;
        let activated = buffer("gelu", rows, self.intermediate.outputs)?;
        let ffn_branch = buffer("ffn_output", rows, x.cols)?;

        lowering.linear(&part("query"), &self.query, normalized, query)?;
        let (key, value) = (self.cache[0].rows(0..keys)?, self.cache[1].rows(0..keys)?);
        // One query at the last position may see every key.
        let mask = if rows == 1 { Mask::Full } else { Mask::Causal };
        Attention { params: &self.attention, query, key, value }.lower(lowering, name, mask, probabilities, context)?;
        lowering.linear(&part("attention_output"), &self.attention_output, context, branch)?;
        lowering.diagonal_sum(&part("attention_residual"), &self.attention_residual, [branch, x], middle)?;
        lowering.diagonal_sum(&part("ffn_norm"), &self.ffn_norm, [middle; 2], ffn_input)?;
        lowering.linear(&part("intermediate"), &self.intermediate, ffn_input, inner)?;
        lowering.diagonal_sum(&part("gelu"), &self.gelu, [inner; 2], activated)?;
        lowering.linear(&part("ffn_output"), &self.ffn_output, activated, ffn_branch)?;
        lowering.diagonal_sum(&part("ffn_residual"), &self.ffn_residual, [ffn_branch, middle], x)
    }
}

/// Leaving a pass before its last block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyExit {
    /// Blocks after which the logits are looked at, in rising order.
    pub every: usize,
    /// Softmax probability of the best token at which the pass ends.
    pub confidence: f32,
}

/// What one pass gave.
#[derive(Clone, Debug)]
pub struct Pass {
    /// int32 logits of each row.
    pub logits: Vec<Vec<i32>>,
    /// Blocks that were executed in full.
    pub layers: usize,
    /// Cycles; 0 on the functional model.
    pub cycles: u64,
}

impl Pass {
    /// The token with the largest logit of the last row; of equals the first.
    pub fn token(&self) -> u32 {
        self.logits.last().map_or(0, |row| best(row))
    }
}

/// A decoder on an accelerator: weights and caches in memory, and what was run so far.
pub struct Decoder {
    params: DecoderParams,
    base: Lowering,
    layers: Vec<PlacedLayer>,
    final_norm: PlacedSum,
    head: View,
    head_bias: View,
    input: View,
    memory: Memory,
    /// Buffers that stay from pass to pass.
    placed: usize,
    setup: Option<CycleSetup>,
    length: usize,
    /// Cycles of all passes so far.
    pub cycles: u64,
}

impl Decoder {
    /// Puts a decoder into main memory; with a setup its passes run cycle by cycle, without one functionally.
    ///
    /// # Errors
    /// Parameters that do not fit together, or full memory.
    pub fn new(
        config: GemminiConfig,
        plan: &Plan,
        params: DecoderParams,
        setup: Option<CycleSetup>,
    ) -> Result<Self, CompileError> {
        let mut base = Lowering::new(config, plan.clone())?;
        let (positions, hidden) = (params.positions(), params.hidden);
        let layers = params.layers.iter().enumerate();
        let layers = layers.map(|(i, layer)| PlacedLayer::new(&mut base, &format!("layer{i}"), layer, positions));
        let layers = layers.collect::<Result<_, _>>()?;
        let final_norm = base.place_sum("final_norm", &params.final_norm)?;
        let (inputs, outputs) = (params.head.inputs, params.head.outputs);
        let head = base.builder.buffer_i8("head.weights", inputs, outputs, &params.head.weights)?;
        let head_bias = base.builder.buffer_i32("head.bias", 1, outputs, &params.head.bias)?;
        let input = base.builder.buffer("input", positions, hidden, ElementType::I8)?;
        let program = base.clone().finish_part()?.program;
        let (memory, placed) = (program.initial_memory(), program.buffers.len());
        Ok(Self {
            params,
            base,
            layers,
            final_norm,
            head,
            head_bias,
            input,
            memory,
            placed,
            setup,
            length: 0,
            cycles: 0,
        })
    }

    /// Positions in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all positions from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Runs new tokens through all blocks: a prompt at once, or one token.
    ///
    /// # Errors
    /// No tokens, unknown ones, a full cache, or a pass that cannot be lowered or stops.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<Pass, CompileError> {
        self.pass(tokens, None)
    }

    /// The same, but the pass may end early; then the remaining blocks only get keys and values of the exit's state, so that
    /// later tokens find a full cache.
    ///
    /// # Errors
    /// See [`Decoder::forward`].
    pub fn forward_early(&mut self, tokens: &[u32], exit: EarlyExit) -> Result<Pass, CompileError> {
        self.pass(tokens, Some(exit))
    }

    fn pass(&mut self, tokens: &[u32], exit: Option<EarlyExit>) -> Result<Pass, CompileError> {
        self.check(tokens)?;
        let (first, count) = (self.length, self.layers.len());
        let x = self.input.rows(0..tokens.len())?;
        self.memory.write(x.address, &self.params.embed(tokens, first));
        let before = self.cycles;
        let stride = exit.map_or(count, |exit| exit.every.clamp(1, count));
        let mut done = 0;
        loop {
            let end = (done + stride).min(count);
            let logits = self.blocks(x, done..end, first)?;
            done = end;
            let sure = exit.is_some_and(|exit| self.confidence(&logits) >= exit.confidence);
            if done == count || sure {
                if done < count {
                    self.fill_caches(x, done..count, first)?;
                }
                self.length += tokens.len();
                return Ok(Pass { logits, layers: done, cycles: self.cycles - before });
            }
        }
    }

    fn check(&self, tokens: &[u32]) -> Result<(), CompileError> {
        let refuse = |what: String| Err(CompileError::Technique { technique: "decoder", what });
        let room = self.params.positions() - self.length;
        if tokens.is_empty() || tokens.len() > room {
            return refuse(format!("{} tokens, but the cache has room for 1 to {room} more", tokens.len()));
        }
        let vocabulary = self.params.vocabulary();
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(token) => refuse(format!("token {token} is outside the vocabulary of {vocabulary}")),
            None => Ok(()),
        }
    }

    /// Some blocks, final norm and logits as one program.
    fn blocks(&mut self, x: View, blocks: std::ops::Range<usize>, first: usize) -> Result<Vec<Vec<i32>>, CompileError> {
        let mut lowering = self.base.clone();
        for index in blocks {
            lowering.set_layer(Some(index));
            self.layers[index].lower(&mut lowering, &format!("layer{index}"), x, first)?;
        }
        lowering.set_layer(None);
        let normalized = lowering.builder.buffer("final_norm.output", x.rows, x.cols, ElementType::I8)?;
        lowering.diagonal_sum("final_norm", &self.final_norm, [x; 2], normalized)?;
        let logits = lowering.builder.buffer("logits", x.rows, self.head.cols, ElementType::I32)?;
        lowering.begin("head", OperationClass::Matmul);
        let bias = pollux_kernels::Bias::Row(self.head_bias);
        lowering.matmul(&Matmul { bias, ..Matmul::new(normalized, self.head, logits) })?;
        self.run(lowering)?;
        Ok((0..logits.rows).map(|row| crate::host::read_i32(&self.memory, &logits, row)).collect())
    }

    /// Keys and values of blocks that were left out.
    fn fill_caches(&mut self, x: View, blocks: std::ops::Range<usize>, first: usize) -> Result<(), CompileError> {
        let mut lowering = self.base.clone();
        for index in blocks {
            lowering.set_layer(Some(index));
            self.layers[index].keys_and_values(&mut lowering, &format!("layer{index}"), x, first)?;
        }
        self.run(lowering)
    }

    fn run(&mut self, lowering: Lowering) -> Result<(), CompileError> {
        let compiled = lowering.finish_part()?;
        let mut memory = std::mem::take(&mut self.memory);
        // What the decoder itself does not have in memory: results, and masks with their contents.
        for buffer in &compiled.program.buffers[self.placed..] {
            memory.map(buffer.range());
            memory.write(buffer.address, buffer.data.as_deref().unwrap_or_default());
        }
        self.memory = match &self.setup {
            None => run_functional(&compiled, memory)?,
            Some(setup) => {
                let run = run_cycles(&compiled, memory, setup, &mut |_| ())?;
                self.cycles += run.cycles;
                run.memory
            }
        };
        Ok(())
    }

    /// Softmax probability of the last row's best token.
    pub fn confidence(&self, logits: &[Vec<i32>]) -> f32 {
        let Some(row) = logits.last() else { return 0.0 };
        let max = row.iter().copied().max().unwrap_or(0);
        let unit = self.params.logit_unit;
        let sum: f32 = row.iter().map(|&q| ((q.wrapping_sub(max)) as f32 * unit).exp()).sum();
        1.0 / sum
    }
}

fn best(row: &[i32]) -> u32 {
    let max = row.iter().max();
    row.iter().position(|q| Some(q) == max).unwrap_or(0) as u32
}

/// A generated text and its cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// New tokens.
    pub tokens: Vec<u32>,
    /// Cycles of the prompt.
    pub prefill_cycles: u64,
    /// Cycles of everything after it.
    pub decode_cycles: u64,
    /// Mean number of blocks executed a token (early exit).
    pub layers: f64,
    /// Tokens that a little model proposed and the big one accepted.
    pub accepted: usize,
}

/// Generates tokens greedily, with early exit if given.
///
/// # Errors
/// See [`Decoder::forward`].
pub fn generate(
    decoder: &mut Decoder,
    prompt: &[u32],
    count: usize,
    exit: Option<EarlyExit>,
) -> Result<Generation, CompileError> {
    let mut pass = decoder.forward(prompt)?;
    let prefill_cycles = pass.cycles;
    let (mut tokens, mut layers, mut decode_cycles) = (vec![pass.token()], 0, 0);
    while tokens.len() < count {
        pass = decoder.pass(&tokens[tokens.len() - 1..], exit)?;
        layers += pass.layers;
        decode_cycles += pass.cycles;
        tokens.push(pass.token());
    }
    let layers = layers as f64 / (tokens.len() - 1).max(1) as f64;
    Ok(Generation { tokens, prefill_cycles, decode_cycles, layers, accepted: 0 })
}

/// Big/Little decoding (after arXiv 2302.07863): the little model proposes until it is not confident or has proposed
/// `draft` tokens; the big one runs all of them in one pass and accepts those that it would have chosen itself.
/// Its own token replaces the first other one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BigLittle {
    /// Most tokens proposed at a time.
    pub draft: usize,
    /// Probability below which the little model asks the big one.
    pub confidence: f32,
}

/// Generates tokens greedily with two models. The tokens are those of the big model.
///
/// # Errors
/// See [`Decoder::forward`].
pub fn generate_big_little(
    big: &mut Decoder,
    little: &mut Decoder,
    prompt: &[u32],
    count: usize,
    policy: BigLittle,
) -> Result<Generation, CompileError> {
    let first = big.forward(prompt)?;
    let prefill_cycles = first.cycles + little.forward(prompt)?.cycles;
    let (mut tokens, mut accepted, before) = (vec![first.token()], 0, big.cycles + little.cycles);
    while tokens.len() < count {
        let start = big.len();
        let draft = propose(little, tokens[tokens.len() - 1], policy, count - tokens.len())?;
        let mut batch = vec![tokens[tokens.len() - 1]];
        batch.extend(&draft);
        let verified = big.forward(&batch)?;
        let chosen: Vec<u32> = verified.logits.iter().map(|row| best(row)).collect();
        let agreed = draft.iter().zip(&chosen).take_while(|(d, c)| d == c).count();
        accepted += agreed;
        tokens.extend(&chosen[..=agreed]);
        // Both caches hold the accepted tokens; the last chosen one is the next pass's input.
        big.truncate(start + agreed + 1);
        little.truncate(start + agreed + 1);
        catch_up(little, &batch, start, agreed)?;
    }
    tokens.truncate(count);
    let decode_cycles = big.cycles + little.cycles - before;
    Ok(Generation { tokens, prefill_cycles, decode_cycles, layers: big.layers.len() as f64, accepted })
}

/// Tokens of the little model behind `last`; at least one if there is room.
fn propose(little: &mut Decoder, last: u32, policy: BigLittle, room: usize) -> Result<Vec<u32>, CompileError> {
    let (mut draft, mut token) = (Vec::new(), last);
    while draft.len() < policy.draft.min(room.saturating_sub(1)) {
        let pass = little.forward(&[token])?;
        token = pass.token();
        draft.push(token);
        if little.confidence(&pass.logits) < policy.confidence {
            break;
        }
    }
    Ok(draft)
}

/// Gives the little model those of the batch's accepted tokens that it has not seen: its own last proposal.
fn catch_up(little: &mut Decoder, batch: &[u32], start: usize, agreed: usize) -> Result<(), CompileError> {
    let seen = little.len() - start;
    if seen < agreed + 1 {
        little.forward(&batch[seen..=agreed])?;
    }
    Ok(())
}
