//! `pollux model`

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use pollux_compiler::decoder::{self, BigLittle, Decoder, DecoderParams, EarlyExit, Generation};
use pollux_compiler::execute::{CycleSetup, Position};
use pollux_compiler::pipeline::{CALIBRATION, Lowered, Model, OUTLIER_CHANNELS, TextRun};
use pollux_compiler::synthetic::Shape;
use pollux_compiler::techniques::Techniques;
use pollux_compiler::{CompileError, Plan};
use pollux_model::quantise::QuantiseOptions;
use serde_json::{Value, json};

use crate::arguments::{MemoryArgument, configuration};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted, grouped, table};
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux model quantize all-MiniLM-L6-v2 -o minilm.safetensors
  pollux model run all-MiniLM-L6-v2 --text \"A man is playing a guitar on the street.\"
  pollux model run all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" --prune-heads 1 --json
  pollux model lower all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" -o cat.pbin
  pollux run cat.pbin --expect --cycles
  pollux model generate --shape gpt2 --layers 2 --prompt 8 --tokens 4";

/// Whole models: quantise, lower, run, generate.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(QuantizeArguments),
    Lower(LowerArguments),
    Run(RunArguments),
    Generate(GenerateArguments),
}

/// A BERT-family model directory, and how it is quantised.
#[derive(Args)]
pub struct ModelArguments {
    /// Model directory (config.json, model.safetensors, tokenizer).
    #[arg(value_name = "MODEL_DIR")]
    directory: PathBuf,
    /// Calibration sentences, one a line; by default sixteen that come with Pollux.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Channels with outliers that get a read-out of their own (a multiple of the array's width).
    #[arg(long, value_name = "N", default_value_t = OUTLIER_CHANNELS)]
    outlier_channels: usize,
    /// Int8 planes of all weights; each one costs every product once more.
    #[arg(long, value_name = "N", default_value_t = 1)]
    weight_planes: usize,
}

/// How the model is lowered.
#[derive(Args)]
pub struct LoweringArguments {
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "norm16")]
    config: String,
    /// Plan: schedules of operations, and where rows are normalized (TOML).
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Heads to leave out of each layer, the least important ones.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prune_heads: usize,
    /// Column groups (of 16) to leave out of each feed-forward network, the least important ones.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prune_ffn: usize,
    /// Fraction of the blocks of weights to leave out, the smallest ones.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    prune_blocks: f64,
    /// Fraction of the weights to set to zero, the smallest ones; blocks that are all zero then are left out.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    prune_weights: f64,
    /// After a layer, go on with a fraction of the tokens: those that receive most attention.
    #[arg(long, value_name = "LAYER=FRACTION")]
    keep_tokens: Vec<Keep>,
}

/// How cycles are simulated.
#[derive(Args)]
pub struct SimulationArguments {
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryArgument,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Stop after so many cycles.
    #[arg(long, value_name = "CYCLES")]
    limit: Option<u64>,
}

/// Quantise all layers to INT8 and report how far each is from float32.
#[derive(Args)]
struct QuantizeArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Sample sentence; by default the first calibration sentence.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    /// File for the quantised model, with embeddings and tokenizer; by default nothing is written.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Lower the whole model for a text to one program.
#[derive(Args)]
struct LowerArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The text.
    #[arg(long, value_name = "SENTENCE")]
    text: String,
    #[command(flatten)]
    lowering: LoweringArguments,
    /// File to write: assembly text if it is called `*.pasm`, binary otherwise.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Run the whole model on a text, clock by clock, and compare with the integer reference and with float32.
#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The text.
    #[arg(long, value_name = "SENTENCE")]
    text: String,
    #[command(flatten)]
    lowering: LoweringArguments,
    /// Use the functional model: no cycles.
    #[arg(long)]
    functional: bool,
    #[command(flatten)]
    simulation: SimulationArguments,
}

/// Generate tokens with a decoder of a published shape and pseudo-random weights: prefill, then token by token.
///
/// With --early-exit or --little the same tokens are generated without it first, for comparison.
#[derive(Args)]
struct GenerateArguments {
    /// Shape: gpt2, gpt2-medium, or one of the encoders' names.
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    shape: String,
    /// Blocks; by default those of the shape.
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Tokens of the vocabulary.
    #[arg(long, value_name = "N", default_value_t = 50257)]
    vocabulary: usize,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 16)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 4)]
    tokens: usize,
    /// Look at the logits after every two blocks, and stop at this probability of the best token.
    #[arg(long, value_name = "PROBABILITY", conflicts_with = "little")]
    early_exit: Option<f32>,
    /// Blocks of a little model that proposes tokens: the first ones of the big model.
    #[arg(long, value_name = "N")]
    little: Option<usize>,
    /// Probability below which the little model asks the big one.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, requires = "little")]
    confidence: f32,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "norm16")]
    config: String,
    #[command(flatten)]
    simulation: SimulationArguments,
}

/// `LAYER=FRACTION`.
#[derive(Clone, Copy, Debug)]
struct Keep(usize, f64);

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(layer, f)| Some(Self(layer.parse().ok()?, f.parse().ok()?)));
        parts.ok_or_else(|| format!("`{text}` is not LAYER=FRACTION, for example 2=0.5"))
    }
}

impl ModelArguments {
    /// Reads and quantises the model.
    pub fn load(&self, out: &Output) -> Result<Model, Failure> {
        let sentences = match &self.calibration {
            Some(path) => program_file::read_text(path)?,
            None => CALIBRATION.to_owned(),
        };
        let options = QuantiseOptions {
            outlier_channels: self.outlier_channels,
            weight_planes: self.weight_planes,
            ..QuantiseOptions::default()
        };
        let spinner = progress::spinner(out, "reading and quantising the model");
        let model = Model::load(&self.directory, &sentences, &options).map_err(Failure::input);
        spinner.finish_and_clear();
        model
    }
}

impl LoweringArguments {
    /// The configuration.
    pub fn config(&self) -> Result<pollux_isa::GemminiConfig, Failure> {
        configuration(&self.config)
    }

    /// The plan.
    pub fn plan(&self) -> Result<Plan, Failure> {
        match &self.plan {
            None => Ok(Plan::default()),
            Some(path) => Plan::from_toml(&program_file::read_text(path)?)
                .map_err(|error| Failure::Input(format!("{}: {error}", path.display()))),
        }
    }

    /// What is left out.
    pub fn techniques(&self) -> Techniques {
        Techniques {
            heads: self.prune_heads,
            ffn_groups: self.prune_ffn,
            blocks: self.prune_blocks,
            weights: self.prune_weights,
            keep: self.keep_tokens.iter().map(|&Keep(layer, fraction)| (layer, fraction)).collect(),
        }
    }
}

impl SimulationArguments {
    /// The setup.
    pub fn setup(&self) -> CycleSetup {
        CycleSetup { memory: self.memory.0, interval: self.interval, limit: self.limit, ..CycleSetup::default() }
    }
}

/// Bad input, or a program that stops.
pub fn failure(error: CompileError) -> Failure {
    match error {
        CompileError::Functional { .. } | CompileError::Cycles { .. } => Failure::Program(vec![error.to_string()]),
        _ => Failure::input(error),
    }
}

/// A bar over the operations of a run, and the callback that moves it.
pub fn with_progress<T>(
    out: &Output,
    run: impl FnOnce(&mut dyn FnMut(Position)) -> Result<T, CompileError>,
) -> Result<T, Failure> {
    let bar = progress::bar(out, 0, "operations");
    let result = run(&mut |position| {
        bar.set_length(position.operations as u64);
        bar.set_position(position.operation as u64);
    });
    bar.finish_and_clear();
    result.map_err(failure)
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Quantize(arguments) => quantize(arguments, out),
        Command::Lower(arguments) => lower(arguments, out),
        Command::Run(arguments) => run(arguments, out),
        Command::Generate(arguments) => generate(arguments, out),
    }
}

fn quantize(arguments: &QuantizeArguments, out: &Output) -> Result<Outcome, Failure> {
    let model = arguments.model.load(out)?;
    let text = arguments.text.as_deref().or(CALIBRATION.lines().next()).unwrap_or_default();
    let name = name(&arguments.model.directory);
    let files = model.layer_files(&name, text).map_err(failure)?;
    let mut rows = vec![["layer", "cosine", "max error", "SQNR dB"].map(str::to_owned).to_vec()];
    let mut layers = Vec::new();
    for file in &files {
        let (trace, quality) = file.evaluate().map_err(Failure::input)?;
        let layer = file.origin.layer;
        let [cosine, error] = [format!("{:.5}", quality.cosine), format!("{:.3}", quality.max_error)];
        rows.push(vec![layer.to_string(), cosine, error, format!("{:.1}", quality.sqnr_db)]);
        layers.push(json!({
            "layer": layer, "cosine": quality.cosine, "max_error": quality.max_error, "sqnr_db": quality.sqnr_db,
            "wraps": trace.wraps,
        }));
    }
    if let Some(path) = &arguments.output {
        program_file::write(path, &model.quantised.to_bytes().map_err(Failure::input)?)?;
    }
    out.json(&json!({ "model": name, "text": text, "output": arguments.output, "layers": layers }))?;
    out.text(&table(&rows))?;
    Ok(Outcome::Agrees)
}

fn name(directory: &Path) -> String {
    directory.file_name().map_or_else(|| directory.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn lower(arguments: &LowerArguments, out: &Output) -> Result<Outcome, Failure> {
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let model = arguments.model.load(out)?;
    let lowered = model.lower(&arguments.text, config, &plan, &arguments.lowering.techniques()).map_err(failure)?;
    let Lowered { tokens, encoder } = lowered;
    let compiled = &encoder.compiled;
    if let Some(step) = compiled.operations.iter().find(|operation| operation.host.is_some()) {
        return Err(Failure::Input(format!(
            "operation `{}` is done by the host, which a program alone does not have: use `pollux model run`, or a plan \
             and a configuration that leave nothing to the host",
            step.name
        )));
    }
    program_file::save(&arguments.output, &compiled.program)?;
    let sum = |figure: fn(&pollux_kernels::OperationStatistics) -> u64| -> u64 {
        compiled.operations.iter().map(|operation| figure(&operation.work)).sum()
    };
    let (commands, macs) = (sum(|work| work.commands), sum(|work| work.macs));
    out.json(&json!({
        "output": arguments.output, "config": compiled.program.config.name, "tokens": tokens,
        "operations": compiled.operations.len(), "commands": commands, "macs": macs,
    }))?;
    out.text(&format!(
        "{}: {}, {}, {}, {} MACs\n",
        arguments.output.display(),
        counted(tokens as u64, "token"),
        counted(compiled.operations.len() as u64, "operation"),
        counted(commands, "command"),
        grouped(macs)
    ))?;
    Ok(Outcome::Agrees)
}

fn run(arguments: &RunArguments, out: &Output) -> Result<Outcome, Failure> {
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let (techniques, setup) = (arguments.lowering.techniques(), arguments.simulation.setup());
    let setup = (!arguments.functional).then_some(setup);
    let model = arguments.model.load(out)?;
    let run = with_progress(out, |progress| {
        model.run(&arguments.text, config, &plan, &techniques, setup.as_ref(), progress)
    })?;
    out.json(&run_json(&run))?;
    out.text(&run_text(&run))?;
    Ok(Outcome::of(run.mismatches.is_empty()))
}

fn run_json(run: &TextRun) -> Value {
    json!({
        "text": run.text, "tokens": run.tokens, "cosine": run.cosine, "match": run.mismatches.is_empty(),
        "tensors": run.tensors, "mismatches": run.mismatches,
        "cycles": run.report.as_ref().map(|report| report.total.cycles), "layers": run.layers,
        "operations": run.report.as_ref().map(|report| &report.operations), "embedding": run.embedding,
    })
}

fn run_text(run: &TextRun) -> String {
    let mut rows = vec![["layer", "tokens", "cycles", "utilisation", "cosine", "SQNR dB"].map(str::to_owned).to_vec()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for layer in &run.layers {
        rows.push(vec![
            layer.layer.to_string(),
            layer.tokens.to_string(),
            or_dash(layer.cycles.map(grouped)),
            or_dash(layer.utilisation.map(|u| format!("{:.1} %", 100.0 * u))),
            or_dash(layer.quality.map(|q| format!("{:.5}", q.cosine))),
            or_dash(layer.quality.map(|q| format!("{:.1}", q.sqnr_db))),
        ]);
    }
    let mut text = table(&rows);
    if let Some(report) = &run.report {
        text.push_str(&format!("{} cycles\n", grouped(report.total.cycles)));
    }
    text.push_str(&format!("cosine with the float32 embedding: {:.5}\n", run.cosine));
    let differ = run.mismatches.len() as u64;
    match (run.tensors, differ) {
        (0, _) => text.push_str("tokens were left out: there is no integer reference\n"),
        (tensors, 0) => text.push_str(&format!("all {tensors} tensors equal the integer reference\n")),
        (tensors, _) => text.push_str(&format!("{differ} of {tensors} tensors differ from the integer reference\n")),
    }
    text
}

fn generate(arguments: &GenerateArguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    let mut shape = Shape::by_name(&arguments.shape).map_err(failure)?;
    shape.layers = arguments.layers.unwrap_or(shape.layers);
    let positions = arguments.prompt + arguments.tokens + BIG_LITTLE_DRAFT;
    let params = DecoderParams::synthetic(&shape, arguments.vocabulary, positions, arguments.seed).map_err(failure)?;
    let prompt: Vec<u32> = (0..arguments.prompt).map(|t| (t * 37 % arguments.vocabulary.max(1)) as u32).collect();
    let setup = Some(arguments.simulation.setup());
    let new = |params: &DecoderParams| Decoder::new(config.clone(), &Plan::default(), params.clone(), setup);
    let spinner = progress::spinner(out, "generating");
    let greedy = new(&params)
        .and_then(|mut decoder| decoder::generate(&mut decoder, &prompt, arguments.tokens, None))
        .map_err(failure)?;
    let other = match (arguments.early_exit, arguments.little) {
        (Some(confidence), _) => new(&params).and_then(|mut decoder| {
            let exit = EarlyExit { every: EXIT_EVERY, confidence };
            decoder::generate(&mut decoder, &prompt, arguments.tokens, Some(exit))
        }),
        (None, Some(layers)) => params.first_layers(layers).and_then(|little| {
            let policy = BigLittle { draft: BIG_LITTLE_DRAFT, confidence: arguments.confidence };
            let (mut big, mut little) = (new(&params)?, new(&little)?);
            decoder::generate_big_little(&mut big, &mut little, &prompt, arguments.tokens, policy)
        }),
        (None, None) => Ok(greedy.clone()),
    };
    spinner.finish_and_clear();
    let other = other.map_err(failure)?;
    let agree = other.tokens.iter().zip(&greedy.tokens).filter(|(a, b)| a == b).count();
    let document = |generation: &Generation| {
        json!({
            "tokens": generation.tokens, "prefill_cycles": generation.prefill_cycles,
            "decode_cycles": generation.decode_cycles, "layers": generation.layers, "accepted": generation.accepted,
        })
    };
    out.json(&json!({
        "shape": shape, "config": config.name, "greedy": document(&greedy), "technique": document(&other),
        "agreement": agree as f64 / greedy.tokens.len().max(1) as f64,
    }))?;
    out.text(&format!(
        "prefill of {}: {} cycles\n{}: {} cycles, {} a token\n",
        counted(arguments.prompt as u64, "token"),
        grouped(greedy.prefill_cycles),
        counted(greedy.tokens.len().saturating_sub(1) as u64, "further token"),
        grouped(greedy.decode_cycles),
        grouped(greedy.decode_cycles / (greedy.tokens.len() as u64).saturating_sub(1).max(1))
    ))?;
    if arguments.early_exit.is_some() || arguments.little.is_some() {
        out.text(&format!(
            "with the technique: {} cycles, {:.2} blocks a token, {} accepted, {agree} of {} tokens agree\n",
            grouped(other.decode_cycles),
            other.layers,
            other.accepted,
            greedy.tokens.len()
        ))?;
    }
    Ok(Outcome::Agrees)
}

/// Tokens that the little model proposes at a time.
const BIG_LITTLE_DRAFT: usize = 4;
/// Blocks between two looks at the logits.
const EXIT_EVERY: usize = 2;
