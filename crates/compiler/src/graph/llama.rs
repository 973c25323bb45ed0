//! Passes of a Llama-like decoder with its cache, the tokens that it generates, and how well it predicts a text.

use std::sync::Arc;

use pollux_isa::GemminiConfig;
use pollux_memory::Memory;
use pollux_model::ModelError;
use pollux_model::gpt2::{Positions, likeliest};
use pollux_model::graph::{EdgeId, Values};
use pollux_model::llama::Vocabulary;
use pollux_model::quality::Quality;
use pollux_model::quantise::GraphOptions;
use pollux_model::quantise::llama::{FloatLlama, Int8Cache, PassGraph, QuantisedLlama};
use pollux_sim::replay::ReplayTable;
use serde::Serialize;

use super::compile;
use crate::error::CompileError;
use crate::execute::{CycleSetup, Mismatch, Position, mismatches, run_apart};
use crate::operation::Compiled;
use crate::plan::Plan;
use crate::report::{Report, run_reported};

/// The text of calibration in pieces of `tokens` tokens, from the beginning again if it is too short.
///
/// # Errors
/// A text without tokens, or a tokenizer that fails.
pub fn samples(vocabulary: &Vocabulary, text: &str, tokens: usize) -> Result<Vec<Vec<u32>>, ModelError> {
    let ids = vocabulary.tokenize(text)?;
    if ids.is_empty() || tokens == 0 {
        return Err(ModelError::NothingToCalibrate);
    }
    let pieces = (ids.len() / tokens).max(1);
    let all: Vec<u32> = ids.iter().cycle().take(pieces * tokens).copied().collect();
    Ok(all.chunks(tokens).map(<[u32]>::to_vec).collect())
}

/// A decoder with its cache, on the functional model or cycle by cycle.
pub struct LlamaDecoder {
    model: Arc<QuantisedLlama>,
    config: GemminiConfig,
    plan: Plan,
    setup: Option<CycleSetup>,
    cache: Int8Cache,
    past: usize,
    /// What was simulated before, if it is replayed.
    situations: ReplayTable,
}

/// What a pass gave.
#[derive(Clone, Debug)]
pub struct LlamaPass {
    /// Scores of all words after each token.
    pub logits: Vec<Vec<f32>>,
    /// Tensors that were compared with the integer reference.
    pub tensors: usize,
    /// Those that differ.
    pub mismatches: Vec<Mismatch>,
    /// Cycles, if they were simulated.
    pub report: Option<Report>,
}

impl LlamaPass {
    /// The likeliest next token.
    pub fn token(&self) -> u32 {
        self.logits.last().map_or(0, |row| likeliest(row))
    }
}

impl LlamaDecoder {
    /// A decoder without earlier tokens; with a setup cycle by cycle.
    pub fn new(model: Arc<QuantisedLlama>, config: GemminiConfig, plan: Plan, setup: Option<CycleSetup>) -> Self {
        let cache = model.cache();
        Self { model, config, plan, setup, cache, past: 0, situations: ReplayTable::new() }
    }

    /// Runs tokens behind the earlier ones, and compares every tensor with the integer reference.
    ///
    /// # Errors
    /// No tokens, too many, one outside the vocabulary, or those of the run.
    pub fn pass(&mut self, ids: &[u32], progress: &mut dyn FnMut(Position)) -> Result<LlamaPass, CompileError> {
        let pass = self.model.at(Positions { tokens: ids.len(), past: self.past })?;
        let inputs = pass.inputs(ids, &self.cache);
        let reference = pass.graph.execute(&inputs)?;
        let mut compiled = compile(self.config.clone(), &self.plan, &pass.graph, &inputs)?;
        let tensors = compiled.expect(&reference)?;
        let (memory, report) = self.run(&compiled.compiled, progress)?;
        let (mismatches, _) = mismatches(&compiled.compiled.program, &memory);
        let read = |edge| compiled.read(&memory, edge);
        self.keep(&pass, &read);
        self.past += ids.len();
        let logits = pass.scores(&read).unwrap_or_default();
        Ok(LlamaPass { logits, tensors, mismatches, report })
    }

    /// The memory after a run, and its report if cycles were simulated.
    fn run(
        &mut self,
        compiled: &Compiled,
        progress: &mut dyn FnMut(Position),
    ) -> Result<(Memory, Option<Report>), CompileError> {
        let title = &self.model.config.name;
        match &self.setup {
            Some(setup) if setup.replay.is_some() => {
                let memory = compiled.program.initial_memory();
                let run = run_apart(compiled, memory, setup, &mut self.situations, progress)?;
                let report = Report::new(title, compiled, &run);
                Ok((run.memory, Some(report)))
            }
            setup => run_reported(title, compiled, setup.as_ref(), progress),
        }
    }

    /// Takes keys and values of all tokens from memory.
    fn keep(&mut self, pass: &PassGraph, read: &dyn Fn(EdgeId) -> Option<Values>) {
        for (edges, kept) in pass.cache.iter().zip(&mut self.cache) {
            for (&edge, kept) in edges.iter().zip(kept) {
                *kept = read(edge).map(|values| values.int8().to_vec()).unwrap_or_default();
            }
        }
    }
}

/// A generated text and its cost.
#[derive(Clone, Debug)]
pub struct LlamaGeneration {
    /// New tokens.
    pub tokens: Vec<u32>,
    /// The prompt's pass.
    pub prompt: LlamaPass,
    /// One pass for each further token.
    pub further: Vec<LlamaPass>,
}

impl LlamaGeneration {
    /// All passes.
    pub fn passes(&self) -> impl Iterator<Item = &LlamaPass> {
        std::iter::once(&self.prompt).chain(&self.further)
    }
}

/// Generates tokens greedily, until the end of the text or `count`. `progress` is called with a count of tokens.
///
/// # Errors
/// See [`LlamaDecoder::pass`].
pub fn generate(
    decoder: &mut LlamaDecoder,
    prompt: &[u32],
    count: usize,
    end: Option<u32>,
    progress: &mut dyn FnMut(usize, Position),
) -> Result<LlamaGeneration, CompileError> {
    let prompt = decoder.pass(prompt, &mut |position| progress(0, position))?;
    let (mut tokens, mut further) = (vec![prompt.token()], Vec::new());
    while tokens.len() < count && tokens.last().copied() != end {
        let last = tokens[tokens.len() - 1..].to_vec();
        let pass = decoder.pass(&last, &mut |position| progress(tokens.len(), position))?;
        tokens.push(pass.token());
        further.push(pass);
    }
    Ok(LlamaGeneration { tokens, prompt, further })
}

/// How INT8 predicts a text, beside float32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// exp of the mean negative logarithm of their probabilities in float32.
    pub float: f64,
    /// The same of the integer reference, which both models equal.
    pub int8: f64,
    /// Share of the tokens at which both prefer the same word, 0 to 1.
    pub agreement: f64,
    /// Mean cosine of the scores.
    pub cosine: f64,
}

/// Predicts each token of these pieces from those before it in the piece.
///
/// # Errors
/// Pieces without tokens, too long, or with tokens outside the vocabulary.
pub fn perplexity(
    float: &mut FloatLlama,
    int8: &QuantisedLlama,
    pieces: &[Vec<u32>],
    progress: &mut dyn FnMut(usize),
) -> Result<Perplexity, CompileError> {
    let (mut tokens, mut agree, mut cosine, mut loss) = (0, 0, 0.0, [0.0; 2]);
    for (index, piece) in pieces.iter().enumerate() {
        progress(index);
        let [reference, quantised] = [float.logits(piece)?, int8.logits(piece)?];
        for (position, &next) in piece.iter().enumerate().skip(1) {
            let rows = [&reference[position - 1], &quantised[position - 1]];
            for (loss, row) in loss.iter_mut().zip(rows) {
                *loss -= log_probability(row, next);
            }
            agree += usize::from(likeliest(rows[0]) == likeliest(rows[1]));
            cosine += Quality::of(rows[1], rows[0]).cosine;
            tokens += 1;
        }
    }
    let count = tokens.max(1) as f64;
    let [float, int8] = loss.map(|loss| (loss / count).exp());
    Ok(Perplexity { tokens, float, int8, agreement: agree as f64 / count, cosine: cosine / count })
}

/// Natural logarithm of a word's probability.
fn log_probability(logits: &[f32], word: u32) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
    f64::from(logits[word as usize]) - most - sum.ln()
}

/// A decoder quantised with the samples of a text; `smooth` moves ranges into the weights first ([`FloatLlama::smooth`]).
///
/// # Errors
/// A text without tokens, or options out of range.
pub fn quantise(
    float: &mut FloatLlama,
    calibration: &str,
    context: usize,
    smooth: Option<f32>,
    options: &GraphOptions,
) -> Result<Arc<QuantisedLlama>, CompileError> {
    let samples = samples(&float.vocabulary, calibration, context)?;
    smooth.map(|strength| float.smooth(&samples, strength)).transpose()?;
    Ok(Arc::new(float.quantise(&samples, options)?))
}
