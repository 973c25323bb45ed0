//! A decoder on an accelerator, pass by pass.

use std::ops::Range;
use std::sync::Arc;

use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{Bias, Matmul, ResidualNorm, ResidualNormViews, View};
use pollux_memory::Memory;
use pollux_model::Tensor;
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::decoder_reference::BlockTrace;
use pollux_model::gpt2::likeliest;
use pollux_model::layer::ColumnGroup;
use pollux_sim::replay::ReplayTable;

use super::block::{BlockBuffers, PlacedBlock, Stream};
use super::generate::CountedPart;
use crate::error::CompileError;
use crate::execute::{
    CycleRun, CycleSetup, Divisors, Mismatch, Position, run_apart, run_cycles, run_functional, time_cycles_with,
};
use crate::host::read_i32;
use crate::lowering::{Lowering, PlacedNorm};
use crate::operation::{Compiled, OperationClass};
use crate::parameters;
use crate::plan::{Plan, PlanUse};
use crate::report::Report;

/// Bytes to which the rows of the output head's weights are filled up: the largest request of the DMA, so that none of
/// its requests crosses one (`StreamReader`, `DMA.scala`). A vocabulary is often an odd number.
const HEAD_ALIGNMENT: usize = 64;

/// All parameters in main memory.
#[derive(Clone, Debug)]
struct PlacedDecoder {
    entry: PlacedNorm,
    blocks: Vec<PlacedBlock>,
    head: View,
    head_bias: View,
}

impl PlacedDecoder {
    fn new(lowering: &mut Lowering, model: &QuantisedDecoder, positions: usize) -> Result<Self, CompileError> {
        let entry = lowering.place_norm("entry_norm", &parameters::residual_norm(&model.entry))?;
        let blocks = model.blocks.iter().enumerate();
        let blocks = blocks
            .map(|(index, block)| PlacedBlock::new(lowering, &layer_name(index), block, positions))
            .collect::<Result<_, _>>()?;
        let weights = &model.head.weights;
        let stride = weights.cols.next_multiple_of(HEAD_ALIGNMENT);
        let mut data = vec![0; weights.rows * stride];
        for (line, row) in data.chunks_exact_mut(stride.max(1)).zip(0..weights.rows) {
            line[..weights.cols].copy_from_slice(weights.row(row));
        }
        let head = lowering.builder.buffer_i8("head.weights", weights.rows, stride, &data)?.columns(0..weights.cols)?;
        let head_bias = lowering.builder.buffer_i32("head.bias", 1, model.head.bias.len(), &model.head.bias)?;
        Ok(Self { entry, blocks, head, head_bias })
    }

    /// LayerNorm in front of block 0.
    fn enter(&self, lowering: &mut Lowering, sums: View) -> Result<Stream, CompileError> {
        let normalised = lowering.builder.buffer("entry_norm.output", sums.rows, sums.cols, ElementType::I8)?;
        let views = ResidualNormViews { stream: sums, branch: None, sums: None, out: normalised };
        lowering.residual_norm("entry_norm", &self.entry, &views)?;
        Ok(Stream { sums, normalised })
    }

    /// Some blocks for tokens at the positions from `first` on. The last one's results go to `output`, if given.
    fn lower(
        &self,
        lowering: &mut Lowering,
        blocks: Range<usize>,
        mut stream: Stream,
        output: Option<Stream>,
        first: usize,
    ) -> Result<(Stream, Vec<BlockBuffers>), CompileError> {
        let mut buffers = Vec::with_capacity(blocks.len());
        for index in blocks.clone() {
            lowering.set_layer(Some(index));
            let output = output.filter(|_| index + 1 == blocks.end);
            let block = self.blocks[index].lower(lowering, &layer_name(index), stream, output, first)?;
            stream = Stream { sums: block.ffn_sum, normalised: block.int8[&Tensor::Output] };
            buffers.push(block);
        }
        lowering.set_layer(None);
        Ok((stream, buffers))
    }

    /// Scores of all words for each row of the last LayerNorm's result.
    fn scores(&self, lowering: &mut Lowering, normalised: View) -> Result<View, CompileError> {
        let scores = lowering.builder.buffer("logits", normalised.rows, self.head.cols, ElementType::I32)?;
        lowering.begin("head", OperationClass::Matmul);
        lowering.matmul(&Matmul { bias: Bias::Row(self.head_bias), ..Matmul::new(normalised, self.head, scores) })?;
        Ok(scores)
    }
}

fn layer_name(index: usize) -> String {
    format!("layer{index}")
}

/// Leaving a pass before its last block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyExit {
    /// Blocks from one look at the logits to the next.
    pub every: usize,
    /// Softmax probability of the best token at which the pass ends.
    pub confidence: f32,
}

/// What a pass is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassOptions {
    /// Logits of every token, not only of the last one.
    pub every_row: bool,
    /// The pass may end early; then the remaining blocks only get keys and values of the exit's state, so that later tokens
    /// find a full cache.
    pub exit: Option<EarlyExit>,
}

/// What one pass gave.
#[derive(Clone, Debug)]
pub struct Pass {
    /// int32 scores of all words for each row that was asked for.
    pub scores: Vec<Vec<i32>>,
    /// The same as real numbers.
    pub logits: Vec<Vec<f32>>,
    /// Results of the blocks in the decoder's memory, until its next pass; none if the pass could have ended early.
    pub blocks: Vec<BlockBuffers>,
    /// Blocks that were executed in full.
    pub layers: usize,
    /// Cycles; 0 on the functional model.
    pub cycles: u64,
    /// Those of them in which the host worked.
    pub host_cycles: u64,
    /// One for each program, if cycles were simulated.
    pub reports: Vec<Report>,
}

impl Pass {
    /// The likeliest token after the last row; of equals the first.
    pub fn token(&self) -> u32 {
        self.logits.last().map_or(0, |row| likeliest(row))
    }

    /// The likeliest token after each row.
    pub fn tokens(&self) -> Vec<u32> {
        self.logits.iter().map(|row| likeliest(row)).collect()
    }

    /// Softmax probability of the last row's likeliest token.
    pub fn confidence(&self) -> f32 {
        self.logits.last().map_or(0.0, |row| confidence(row))
    }

    /// Where the cycles went, if they were simulated and the pass was one program.
    pub fn report(&self) -> Option<Report> {
        match &self.reports[..] {
            [report] => Some(report.clone()),
            _ => None,
        }
    }
}

fn confidence(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    1.0 / logits.iter().map(|&logit| (logit - max).exp()).sum::<f32>()
}

/// A decoder on an accelerator: weights and caches in memory, and what was run so far.
pub struct Decoder {
    model: Arc<QuantisedDecoder>,
    base: Lowering,
    placed: PlacedDecoder,
    /// The residual stream at the start of a pass, between its programs, and at its end.
    stream: Stream,
    memory: Memory,
    /// Buffers that stay from pass to pass.
    kept: usize,
    setup: Option<CycleSetup>,
    /// What was simulated in earlier passes, if results are computed apart from the cycles, or not at all.
    situations: Option<ReplayTable>,
    computes: bool,
    length: usize,
    /// Cycles of all passes so far.
    pub cycles: u64,
    /// Those of them in which the host worked.
    pub host_cycles: u64,
    /// Counts by operation of a layer, if they are asked for.
    counted: Vec<CountedPart>,
}

impl Decoder {
    /// Puts a decoder into main memory; with a setup its passes run cycle by cycle, without one functionally.
    ///
    /// # Errors
    /// Parameters that do not fit together, or full memory.
    pub fn new(
        config: GemminiConfig,
        plan: &Plan,
        model: Arc<QuantisedDecoder>,
        setup: Option<CycleSetup>,
    ) -> Result<Self, CompileError> {
        let mut base = Lowering::new(config, plan.clone())?;
        let (positions, width) = (model.model.config.n_positions, model.model.config.n_embd);
        let placed = PlacedDecoder::new(&mut base, &model, positions)?;
        let stream = Stream::allocate(&mut base, ["stream", "normalised"], positions, width)?;
        let program = base.clone().finish_part()?.program;
        let (memory, kept) = (program.initial_memory(), program.buffers.len());
        base.builder.release_contents();
        let (situations, length, cycles, host_cycles, counted) = (None, 0, 0, 0, Vec::new());
        let computes = true;
        #[rustfmt::skip]
        let decoder = Self {
            model, base, placed, stream, memory, kept, setup, situations, computes, length, cycles, host_cycles, counted,
        };
        Ok(decoder)
    }

    /// Passes with a setup then have their results from the functional model, and their cycles by [replay](run_apart): what was
    /// simulated in one pass, or is in the table already, is not simulated again in the next. Nothing else changes.
    #[must_use]
    pub fn replayed(self, table: ReplayTable) -> Self {
        Self { situations: Some(table), ..self }
    }

    /// Passes with a setup only have cycles then, sooner: nothing is computed, and every token is token 0. Of values, cycles depend on
    /// one thing, divisors of the normalizer that are zero: none is taken to be ([`Report::assumes_no_zero_divisor`]).
    #[must_use]
    pub fn without_values(self) -> Self {
        Self { computes: self.setup.is_none(), ..self }
    }

    /// Whether passes have results.
    pub fn computes(&self) -> bool {
        self.computes
    }

    /// What was simulated, if passes are replayed.
    pub fn situations(&self) -> Option<&ReplayTable> {
        self.situations.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &QuantisedDecoder {
        &self.model
    }

    /// Main memory after the last pass.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Positions in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What was counted by operation of a layer since this was asked last.
    pub(super) fn take_counted(&mut self) -> Vec<CountedPart> {
        std::mem::take(&mut self.counted)
    }

    /// Forgets all positions from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Runs new tokens through all blocks: a prompt at once, or one token. Logits of the last one.
    ///
    /// # Errors
    /// No tokens, unknown ones, a full cache, or a pass that cannot be lowered or stops.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<Pass, CompileError> {
        self.pass(tokens, PassOptions::default(), &mut |_| ())
    }

    /// The same with options. `progress` is called now and then.
    ///
    /// # Errors
    /// See [`Decoder::forward`].
    pub fn pass(
        &mut self,
        tokens: &[u32],
        options: PassOptions,
        progress: &mut dyn FnMut(Position),
    ) -> Result<Pass, CompileError> {
        let first = self.length;
        let stream = self.enter(tokens)?;
        let count = self.placed.blocks.len();
        let stride = options.exit.map_or(count, |exit| exit.every.clamp(1, count));
        let (before, host_before) = (self.cycles, self.host_cycles);
        let (mut reports, mut done) = (Vec::new(), 0);
        let mut plan_use = PlanUse::default();
        loop {
            let end = (done + stride).min(count);
            let (mut lowering, mut input) = (self.base.clone(), stream);
            if done == 0 {
                input = self.placed.enter(&mut lowering, stream.sums)?;
            }
            let (output, blocks) = self.placed.lower(&mut lowering, done..end, input, Some(stream), first)?;
            let normalised = self.left(&mut lowering, output, end)?;
            let rows = if options.every_row { 0 } else { tokens.len() - 1 }..tokens.len();
            let scores = self.placed.scores(&mut lowering, normalised.rows(rows)?)?;
            plan_use.extend(lowering.plan_use());
            if end == count {
                // Only a whole pass has every operation that a plan may name.
                plan_use.check(lowering.plan())?;
            }
            let compiled = lowering.finish_part()?;
            reports.extend(self.run(&compiled, progress)?);
            done = end;
            let scores: Vec<Vec<i32>> = (0..scores.rows).map(|row| read_i32(&self.memory, &scores, row)).collect();
            let logits: Vec<Vec<f32>> = scores.iter().map(|row| self.model.head.logits(row)).collect();
            let sure = |exit: EarlyExit| logits.last().is_some_and(|row| confidence(row) >= exit.confidence);
            if done == count || options.exit.is_some_and(sure) {
                reports.extend(self.fill_caches(stream, done..count, first)?);
                self.length += tokens.len();
                let blocks = if stride == count { blocks } else { Vec::new() };
                let (cycles, host_cycles) = (self.cycles - before, self.host_cycles - host_before);
                return Ok(Pass { scores, logits, blocks, layers: done, cycles, host_cycles, reports });
            }
        }
    }

    /// The tokens' embeddings as the start of the residual stream, by the host.
    fn enter(&mut self, tokens: &[u32]) -> Result<Stream, CompileError> {
        let room = self.stream.sums.rows - self.length;
        if tokens.is_empty() || tokens.len() > room {
            let what = format!("{} tokens, but the cache has room for 1 to {room} more", tokens.len());
            return Err(CompileError::Technique { technique: "decoder", what });
        }
        let start = self.model.embed_tokens(tokens, self.length)?;
        let stream = self.stream.first(tokens.len())?;
        self.memory.write(stream.sums.address, &bytes(&start.data));
        Ok(stream)
    }

    /// What the head reads after the first `end` blocks: their result, or the stream through the final LayerNorm's groups.
    fn left(&self, lowering: &mut Lowering, stream: Stream, end: usize) -> Result<View, CompileError> {
        match self.model.blocks.last() {
            Some(last) if end < self.model.blocks.len() => {
                normalised(lowering, "exit_norm", stream.sums, &last.output_norm.groups)
            }
            _ => Ok(stream.normalised),
        }
    }

    /// Keys and values of blocks that were left out. Each block's input is the stream with the block's own steps.
    fn fill_caches(
        &mut self,
        stream: Stream,
        blocks: Range<usize>,
        first: usize,
    ) -> Result<Option<Report>, CompileError> {
        if blocks.is_empty() {
            return Ok(None);
        }
        let mut lowering = self.base.clone();
        for index in blocks {
            lowering.set_layer(Some(index));
            let name = layer_name(index);
            let groups = &self.model.blocks[index - 1].output_norm.groups;
            let input = normalised(&mut lowering, &format!("{name}.input_norm"), stream.sums, groups)?;
            self.placed.blocks[index].keys_and_values(&mut lowering, &name, input, first)?;
        }
        let compiled = lowering.finish_part()?;
        self.run(&compiled, &mut |_| ())
    }

    fn run(&mut self, compiled: &Compiled, progress: &mut dyn FnMut(Position)) -> Result<Option<Report>, CompileError> {
        if let (Some(setup), false) = (self.setup, self.computes) {
            let setup = CycleSetup { divisors: Divisors::NotZero, ..setup };
            let situations = self.situations.get_or_insert_default();
            let run = time_cycles_with(compiled, Memory::new(), &setup, situations, progress)?;
            return Ok(Some(self.account(compiled, &run)));
        }
        // What the decoder itself does not have in memory: results, and masks with their contents. The memory is only
        // replaced by a run that succeeds.
        let mut memory = self.memory.clone();
        for buffer in &compiled.program.buffers[self.kept..] {
            memory.map(buffer.range());
            memory.write(buffer.address, buffer.data.as_deref().unwrap_or_default());
        }
        let Some(setup) = &self.setup else {
            self.memory = run_functional(compiled, memory)?;
            return Ok(None);
        };
        let run = match &mut self.situations {
            Some(situations) => run_apart(compiled, memory, setup, situations, progress)?,
            None => run_cycles(compiled, memory, setup, progress)?,
        };
        let report = self.account(compiled, &run);
        self.memory = run.memory;
        Ok(Some(report))
    }

    /// Adds a program's cycles and counts to those of all passes.
    fn account(&mut self, compiled: &Compiled, run: &CycleRun) -> Report {
        self.cycles += run.cycles;
        let report = Report::new("pass", compiled, run);
        self.host_cycles += report.total.host_cycles;
        crate::report::add_parts(&mut self.counted, report.counted_parts());
        report
    }

    /// Compares the pass that was run last with the integer reference of all its blocks: tensors compared, and those that
    /// differ, as `layerN.TENSOR`.
    pub fn compare(&self, pass: &Pass, traces: &[BlockTrace]) -> (usize, Vec<Mismatch>) {
        let mut tensors = 0;
        let mut found = Vec::new();
        for (index, (buffers, trace)) in pass.blocks.iter().zip(traces).enumerate() {
            for (name, view, expected) in results(index, buffers, trace) {
                tensors += 1;
                found.extend(Mismatch::between(name, &self.memory.read_vec(view.address, expected.len()), &expected));
            }
        }
        (tensors, found)
    }
}

/// Every result of a block, where it is, and what the integer reference makes of it.
fn results(index: usize, buffers: &BlockBuffers, trace: &BlockTrace) -> Vec<(String, View, Vec<u8>)> {
    let name = |tensor: &str| format!("{}.{tensor}", layer_name(index));
    let int8 = Tensor::ALL[1..].iter().map(|&tensor| {
        let contents = crate::encoder::bytes(trace.get(tensor));
        (name(tensor.name()), buffers.int8[&tensor], contents)
    });
    let int32 = [
        (name("attention_sum"), buffers.attention_sum, bytes(&trace.attention_sum.data)),
        (name("ffn_sum"), buffers.ffn_sum, bytes(&trace.ffn_sum.data)),
    ];
    int8.chain(int32).collect()
}

/// The stream's LayerNorm in steps of its own, without a branch.
fn normalised(lowering: &mut Lowering, name: &str, stream: View, groups: &[ColumnGroup]) -> Result<View, CompileError> {
    let norm = pollux_model::decoder::ResidualNorm { terms: Vec::new(), groups: groups.to_vec() };
    let norm: ResidualNorm = parameters::residual_norm(&norm);
    let placed = lowering.place_norm(name, &norm)?;
    let out = lowering.builder.buffer(&format!("{name}.output"), stream.rows, stream.cols, ElementType::I8)?;
    lowering.residual_norm(name, &placed, &ResidualNormViews { stream, branch: None, sums: None, out })?;
    Ok(out)
}

/// A prompt as one program of its own.
#[derive(Clone, Debug)]
pub struct CompiledPrompt {
    /// Program and operations.
    pub compiled: Compiled,
    /// Results of each block in main memory.
    pub blocks: Vec<BlockBuffers>,
    /// int32 scores of all words after the last token, 1 x vocabulary.
    pub scores: View,
}

impl CompiledPrompt {
    /// Makes the integer reference's tensors the expected contents of the program's buffers.
    pub fn expect(&mut self, traces: &[BlockTrace]) {
        for (index, (buffers, trace)) in self.blocks.iter().zip(traces).enumerate() {
            for (_, view, contents) in results(index, buffers, trace) {
                let buffer = self.compiled.program.buffers.iter_mut().find(|buffer| buffer.address == view.address);
                if let Some(buffer) = buffer {
                    buffer.expected = Some(contents);
                }
            }
        }
    }
}

/// Lowers a prompt: all blocks, and the logits after its last token. The program holds everything, the tokens' embeddings
/// included.
///
/// # Errors
/// Tokens that cannot be embedded, or a plan that cannot be followed.
pub fn compile_prompt(
    config: GemminiConfig,
    plan: &Plan,
    model: &QuantisedDecoder,
    tokens: &[u32],
) -> Result<CompiledPrompt, CompileError> {
    let start = model.embed_tokens(tokens, 0)?;
    let mut lowering = Lowering::new(config, plan.clone())?;
    let placed = PlacedDecoder::new(&mut lowering, model, tokens.len())?;
    let sums = lowering.builder.buffer_i32(crate::encoder::INPUT, start.rows, start.cols, &start.data)?;
    let input = placed.enter(&mut lowering, sums)?;
    let (output, blocks) = placed.lower(&mut lowering, 0..placed.blocks.len(), input, None, 0)?;
    let scores = placed.scores(&mut lowering, output.normalised.rows(tokens.len() - 1..tokens.len())?)?;
    Ok(CompiledPrompt { compiled: lowering.finish()?, blocks, scores })
}

/// int32 as memory holds them.
pub(super) fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
