//! `pollux model`

mod embed;
mod generate;
pub mod graph;
mod llama;
mod perplexity;

use std::path::Path;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use pollux_compiler::execute::{CycleSetup, Mismatch, Position};
use pollux_compiler::pipeline::{AnyModel, CALIBRATION, OUTLIER_CHANNELS, TextRun};
use pollux_compiler::report::Report;
use pollux_compiler::techniques::Techniques;
use pollux_compiler::{CompileError, Compiled, Plan};
use pollux_model::calibrate::RangeMethod;
use pollux_model::quality::Quality;
use pollux_model::quantise::QuantiseOptions;
use pollux_sim::memory::MemoryModel;
use serde_json::{Value, json};

use self::graph::GraphArguments;
use crate::arguments::configuration;
use crate::energy::{EnergyArguments, Pricing};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath, OutputPath};
use crate::options::{Given, Subject};
use crate::output::{Output, counted, grouped, table};
use crate::values::Keep;
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux model quantize all-MiniLM-L6-v2 -o minilm.safetensors
  pollux model run minilm.safetensors --reference all-MiniLM-L6-v2 --text \"My cat sleeps all day.\"
  pollux model run all-MiniLM-L6-v2 --text \"A man is playing a guitar on the street.\"
  pollux model run all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" --prune-heads 1 --json
  pollux model lower all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" -o cat.pbin
  pollux run cat.pbin --expect --cycles
  pollux model run gpt2 --text \"The systolic array\"
  pollux model run resnet50.onnx --random-input 1 --functional
  pollux model generate gpt2 --text \"The systolic array\" --tokens 8
  pollux model generate --shape gpt2 --layers 2 --prompt 8 --tokens 4
  pollux model perplexity SmolLM2-135M-Instruct.Q4_1.gguf article.txt
  pollux model embed all-MiniLM-L6-v2 sentences.txt --range percentile=99.9";

const QUANTIZE_EXAMPLES: &str = "\
Examples:
  pollux model quantize all-MiniLM-L6-v2 -o minilm.safetensors
  pollux model quantize resnet50.onnx --calibration-input images.npy --range mse -o resnet50.st";

const LOWER_EXAMPLES: &str = "\
Examples:
  pollux model lower minilm.safetensors --text \"My cat sleeps all day.\" -o cat.pbin
  pollux model lower resnet50.st --random-input 1 -o resnet50.pbin
  pollux run cat.pbin --expect --cycles";

const RUN_EXAMPLES: &str = "\
Examples:
  pollux model run minilm.safetensors --reference all-MiniLM-L6-v2 --text \"My cat sleeps all day.\"
  pollux model run all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" --prune-heads 1 --json
  pollux model run gpt2 --text \"The systolic array\" --memory dram:type=lpddr3
  pollux model run all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" --energy horowitz45-lpddr4
  pollux model run network.onnx --dimension batch=1 --random-input 1 --functional";

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
    Generate(generate::Arguments),
    Perplexity(perplexity::Arguments),
    Embed(embed::Arguments),
}

/// A model of the BERT or GPT-2 family, or a convolutional network.
#[derive(Args)]
pub struct ModelArguments {
    /// Model directory (config.json, model.safetensors, tokenizer), ONNX file or ResNet directory (model.safetensors in
    /// torchvision's names), or the file that `pollux model quantize` writes.
    #[arg(value_name = "MODEL")]
    model: NamedPath,
    #[command(flatten)]
    quantisation: QuantisationArguments,
    #[command(flatten)]
    graph: GraphArguments,
}

/// How a model directory is quantised, and what a quantised file is compared with.
#[derive(Args, Default)]
pub struct QuantisationArguments {
    /// Calibration sentences, one a line (`-`: standard input); by default sixteen that come with Pollux.
    #[arg(long, value_name = "FILE", requires = "model")]
    calibration: Option<InputPath>,
    /// Channels with outliers of each encoder or decoder layer that get a read-out of their own (a multiple of the array's width,
    /// less than the model's); 16 by default.
    #[arg(long, value_name = "N", requires = "model")]
    outlier_channels: Option<usize>,
    /// Int8 planes of all weights, 1 to 8; each one costs every product once more. 1 by default.
    #[arg(long, value_name = "N", requires = "model", value_parser = RangedU64ValueParser::<usize>::new().range(1..=8))]
    weight_planes: Option<usize>,
    /// For a quantised file: the directory of its float32 model, for comparison.
    #[arg(long, value_name = "MODEL_DIR", requires = "model")]
    reference: Option<NamedPath>,
}

/// Configuration of Transformers: it has the normalizations.
const DEFAULT_CONFIG: &str = "norm16";

/// How the model is lowered.
#[derive(Args)]
pub struct LoweringArguments {
    /// Configuration: a name or a file; norm16 by default, default16 for networks without attention,
    /// GELU or LayerNorm.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Plan: schedules of operations, and where rows are normalized (TOML).
    #[arg(long, value_name = "FILE")]
    plan: Option<InputPath>,
    #[command(flatten)]
    techniques: TechniqueArguments,
}

/// What is left out of a Transformer.
#[derive(Args)]
pub struct TechniqueArguments {
    /// Heads to leave out of each layer, the least important ones.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prune_heads: usize,
    /// Column groups (of 16) to leave out of each feed-forward network, the least important ones.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prune_ffn: usize,
    /// Fraction of the blocks of weights to leave out, the smallest ones (at least 0, below 1).
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = values::fraction)]
    prune_blocks: f64,
    /// Fraction of the weights to set to zero, the smallest ones (at least 0, below 1); blocks that are all zero then are
    /// left out.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = values::fraction)]
    prune_weights: f64,
    /// After a layer (counted from 0), go on with a fraction of the tokens (above 0, at most 1): those that receive most
    /// attention. May be given several times.
    #[arg(long, value_name = "LAYER=FRACTION")]
    keep_tokens: Vec<Keep>,
}

/// How cycles are simulated.
#[derive(Args)]
pub struct SimulationArguments {
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least (1 or more).
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles())]
    interval: u64,
    /// Stop after so many cycles; by default never.
    #[arg(long, value_name = "CYCLES", value_parser = values::cycles())]
    limit: Option<u64>,
}

/// Quantise all layers to INT8 and report how far each is from float32.
#[derive(Args)]
#[command(after_help = QUANTIZE_EXAMPLES)]
struct QuantizeArguments {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    model: ModelArguments,
    /// Sample sentence; by default the first calibration sentence.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    /// File for the quantised model, with embeddings and tokenizer; by default nothing is written.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Lower the whole model for a text to one program.
#[derive(Args)]
#[command(after_help = LOWER_EXAMPLES)]
struct LowerArguments {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    model: ModelArguments,
    /// The text, for a Transformer.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    #[command(flatten)]
    lowering: LoweringArguments,
    /// File to write: assembly text if it is called `*.pasm`, binary otherwise.
    #[arg(short, long, value_name = "FILE")]
    output: OutputPath,
}

/// Run the whole model on a text, clock by clock, and compare with the integer reference and with float32.
#[derive(Args)]
#[command(after_help = RUN_EXAMPLES)]
struct RunArguments {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    model: ModelArguments,
    /// The text, for a Transformer.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    #[command(flatten)]
    lowering: LoweringArguments,
    /// Use the functional model: no cycles.
    #[arg(long, conflicts_with_all = ["memory", "interval", "limit", "energy"])]
    functional: bool,
    #[command(flatten)]
    simulation: SimulationArguments,
    #[command(flatten)]
    energy: EnergyArguments,
}

impl ModelArguments {
    /// What the model is; options that have no effect on it are refused.
    fn subject(&self, given: &Given) -> Result<Subject, Failure> {
        let subject = graph::subject(&self.model);
        if subject == Subject::GgufFile {
            let model = self.model.display();
            return Err(Failure::Usage(format!(
                "{model} is a decoder in GGUF: use `pollux model generate {model} --text ...` or `pollux model perplexity`"
            )));
        }
        subject.check(&self.model.display().to_string(), given)?;
        Ok(subject)
    }

    /// How a network is read and quantised.
    fn network(&self) -> GraphArguments {
        self.graph.with_outlier_channels(self.quantisation.outlier_channels)
    }

    /// Reads the model; a directory's is quantised.
    pub fn load(&self, out: &Output) -> Result<AnyModel, Failure> {
        self.quantisation.load(&self.model, self.graph.range(), out)
    }
}

impl QuantisationArguments {
    /// Reads a model; a directory's is quantised, with min-max ranges if none are given.
    pub fn load(&self, path: &Path, range: Option<RangeMethod>, out: &Output) -> Result<AnyModel, Failure> {
        let message = if path.is_file() { "reading the model" } else { "reading and quantising the model" };
        let spinner = progress::spinner(out, message);
        let model = if path.is_file() { self.read(path) } else { self.quantise(path, range) };
        spinner.finish_and_clear();
        model
    }

    fn read(&self, file: &Path) -> Result<AnyModel, Failure> {
        AnyModel::read(file, self.reference.as_deref()).map_err(Failure::input)
    }

    /// The sentences on which ranges are measured.
    fn sentences(&self) -> Result<String, Failure> {
        match &self.calibration {
            Some(path) => program_file::read_text(path),
            None => Ok(CALIBRATION.to_owned()),
        }
    }

    fn quantise(&self, directory: &Path, range: Option<RangeMethod>) -> Result<AnyModel, Failure> {
        let sentences = self.sentences()?;
        let options = QuantiseOptions {
            method: range.unwrap_or_default(),
            outlier_channels: self.outlier_channels.unwrap_or(OUTLIER_CHANNELS),
            weight_planes: self.weight_planes.unwrap_or(1),
            ..QuantiseOptions::default()
        };
        AnyModel::load(directory, &sentences, &options).map_err(Failure::input)
    }
}

impl LoweringArguments {
    /// The configuration.
    pub fn config(&self) -> Result<pollux_isa::GemminiConfig, Failure> {
        self.config_or(DEFAULT_CONFIG)
    }

    /// The configuration's name, if it is given.
    pub fn config_name(&self) -> Option<&String> {
        self.config.as_ref()
    }

    /// The configuration, by default the one of this name.
    pub fn config_or(&self, default: &str) -> Result<pollux_isa::GemminiConfig, Failure> {
        Ok(configuration(self.config.as_deref().unwrap_or(default))?.into_inner())
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
        self.techniques.value()
    }
}

impl TechniqueArguments {
    /// What is left out.
    pub fn value(&self) -> Techniques {
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
    /// The setup of a run whose energy is asked for, or not.
    pub fn setup_for(&self, energy: &EnergyArguments) -> CycleSetup {
        CycleSetup { count: energy.is_given(), ..self.setup() }
    }

    /// Memory behind the accelerator's port.
    pub fn memory(&self) -> MemoryModel {
        self.memory
    }

    /// The setup.
    pub fn setup(&self) -> CycleSetup {
        CycleSetup { memory: self.memory, interval: self.interval, limit: self.limit, ..CycleSetup::default() }
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
        Command::Generate(arguments) => generate::execute(arguments, out),
        Command::Perplexity(arguments) => perplexity::execute(arguments, out),
        Command::Embed(arguments) => embed::execute(arguments, out),
    }
}

/// The text of a Transformer.
pub fn required(text: Option<&String>) -> Result<&str, Failure> {
    text.map(String::as_str).ok_or_else(|| Failure::Usage("a Transformer needs a text: give --text".to_owned()))
}

/// Says so if a text has more tokens than the model takes.
pub fn note_left_out(model: &AnyModel, text: &str, out: &Output) -> Result<(), Failure> {
    let left_out = model.tokens_left_out(text).map_err(failure)? as u64;
    if left_out > 0 {
        let taken = model.tokens(text).map_err(failure)?;
        out.note(&format!("note: the model takes {taken} tokens; the text's last {} are left out", grouped(left_out)));
    }
    Ok(())
}

fn quantize(arguments: &QuantizeArguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.model.subject(&arguments.given)?.is_network() {
        return graph::quantize(&arguments.model.model, &arguments.model.network(), arguments.output.as_deref(), out);
    }
    let model = arguments.model.load(out)?;
    let text = arguments.text.as_deref().or(CALIBRATION.lines().next()).unwrap_or_default();
    let layers = progress::during(out, "comparing with float32", || model.layer_quality(text)).map_err(failure)?;
    let mut rows = vec![["layer", "cosine", "max error", "SQNR dB"].map(str::to_owned).to_vec()];
    for layer in &layers {
        let [cosine, error, sqnr] = quality_cells(Some(&layer.quality));
        rows.push(vec![layer.layer.to_string(), cosine, error, sqnr]);
    }
    if let Some(path) = &arguments.output {
        out.write(path, &model.to_bytes().map_err(Failure::input)?)?;
    }
    let name = name(&arguments.model.model);
    out.json(&json!({ "model": name, "text": text, "output": arguments.output, "layers": layers }))?;
    out.text(&table(&rows))?;
    Ok(Outcome::Agrees)
}

fn name(directory: &Path) -> String {
    directory.file_name().map_or_else(|| directory.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn lower(arguments: &LowerArguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.model.subject(&arguments.given)?.is_network() {
        let ModelArguments { model, .. } = &arguments.model;
        return graph::lower(model, &arguments.model.network(), &arguments.lowering, &arguments.output, out);
    }
    let text = required(arguments.text.as_ref())?;
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let model = arguments.model.load(out)?;
    note_left_out(&model, text, out)?;
    let compiled = model.lower(text, config, &plan, &arguments.lowering.techniques()).map_err(failure)?;
    let tokens = model.tokens(text).map_err(failure)?;
    without_host(&compiled)?;
    save(&arguments.output, &compiled, Some(tokens), out)
}

/// Refuses what a program alone does not do.
fn without_host(compiled: &Compiled) -> Result<(), Failure> {
    match compiled.operations.iter().find(|operation| operation.host.is_some()) {
        None => Ok(()),
        Some(step) => Err(Failure::Input(format!(
            "operation `{}` is done by the host, which a program alone does not have: use `pollux model run`, or a plan \
             and a configuration that leave nothing to the host",
            step.name
        ))),
    }
}

/// Writes the program, and says what it is made of; only a text has tokens.
fn save(output: &Path, compiled: &Compiled, tokens: Option<usize>, out: &Output) -> Result<Outcome, Failure> {
    program_file::save(output, &compiled.program, out)?;
    let (operations, total) = (compiled.operations.len(), compiled.statistics().total());
    let mut document = json!({
        "output": output, "config": compiled.program.config.name, "operations": operations, "commands": total.commands,
        "macs": total.macs,
    });
    if let Some(tokens) = tokens {
        document["tokens"] = tokens.into();
    }
    out.json(&document)?;
    out.text(&format!(
        "{}: {}{}, {}, {} MACs\n",
        output.display(),
        tokens.map(|tokens| counted(tokens as u64, "token") + ", ").unwrap_or_default(),
        counted(operations as u64, "operation"),
        counted(total.commands, "command"),
        grouped(total.macs)
    ))?;
    Ok(Outcome::Agrees)
}

fn run(arguments: &RunArguments, out: &Output) -> Result<Outcome, Failure> {
    let setup = (!arguments.functional).then(|| arguments.simulation.setup_for(&arguments.energy));
    if arguments.model.subject(&arguments.given)?.is_network() {
        let ModelArguments { model, .. } = &arguments.model;
        return graph::run(
            model,
            &arguments.model.network(),
            &arguments.lowering,
            setup.as_ref(),
            &arguments.energy,
            out,
        );
    }
    let text = required(arguments.text.as_ref())?;
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let techniques = arguments.lowering.techniques();
    let pricing = arguments.energy.pricing(&config)?;
    let model = arguments.model.load(out)?;
    note_left_out(&model, text, out)?;
    let run = with_progress(out, |progress| model.run(text, config, &plan, &techniques, setup.as_ref(), progress))?;
    out.json(&run_json(&run, pricing.as_ref()))?;
    out.text(&(run_text(&run) + &energy_text(pricing.as_ref(), run.report.as_ref())))?;
    Ok(Outcome::of(run.mismatches.is_empty()))
}

/// The energy of a run by operation, null unless it is asked for.
fn energy_json(pricing: Option<&Pricing>, report: Option<&Report>) -> Value {
    pricing.zip(report).map_or(Value::Null, |(pricing, report)| json!(pricing.of_model(report)))
}

/// The energy of a run by operation of a layer, if it is asked for.
fn energy_text(pricing: Option<&Pricing>, report: Option<&Report>) -> String {
    let energy = pricing.zip(report).map(|(pricing, report)| pricing.of_parts(report).text());
    energy.map(|text| format!("\n{text}")).unwrap_or_default()
}

fn run_json(run: &TextRun, pricing: Option<&Pricing>) -> Value {
    json!({
        "text": run.text, "tokens": run.tokens, "tokens_left_out": run.tokens_left_out, "cosine": run.cosine, "match": run.mismatches.is_empty(),
        "tensors": run.tensors, "mismatches": run.mismatches,
        "cycles": run.report.as_ref().map(|report| report.total.cycles), "units": cycles_json(run.report.as_ref()),
        "layers": run.layers,
        "operations": run.report.as_ref().map(|report| &report.operations), "embedding": run.embedding,
        "next": run.next, "energy": energy_json(pricing, run.report.as_ref()),
    })
}

fn run_text(run: &TextRun) -> String {
    let host = run.report.as_ref().is_some_and(|report| report.host.is_some());
    let mut rows = vec![["layer", "tokens", "cycles", "utilisation", "cosine", "SQNR dB"].map(str::to_owned).to_vec()];
    if host {
        rows[0].insert(3, "host cycles".to_owned());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for layer in &run.layers {
        let [cosine, _, sqnr] = quality_cells(layer.quality.as_ref());
        rows.push(vec![
            layer.layer.to_string(),
            layer.tokens.to_string(),
            or_dash(layer.cycles.map(grouped)),
            or_dash(layer.utilisation.map(|u| format!("{:.1} %", 100.0 * u))),
            cosine,
            sqnr,
        ]);
        if let (true, Some(row)) = (host, rows.last_mut()) {
            row.insert(3, or_dash(layer.host_cycles.map(grouped)));
        }
    }
    let result = if run.next.is_some() { "logits" } else { "embedding" };
    let mut text = table(&rows) + &totals(run.report.as_ref(), run.cosine, result);
    if let Some(next) = &run.next {
        text.push_str(&format!("next token: {} ({:?})\n", next.token, next.text));
    }
    text.push_str(&match run.tensors {
        0 => "tokens were left out: there is no integer reference\n".to_owned(),
        tensors => verdict(tensors, &run.mismatches),
    });
    text
}

/// Cosine, largest error and signal to noise of a layer, for a table.
fn quality_cells(quality: Option<&Quality>) -> [String; 3] {
    match quality {
        Some(q) => [format!("{:.5}", q.cosine), format!("{:.3}", q.max_error), format!("{:.1}", q.sqnr_db)],
        None => ["-"; 3].map(str::to_owned),
    }
}

/// Cycles of the accelerator and of the host, and what the host's were reckoned with, if it takes part.
fn cycles_json(report: Option<&Report>) -> Value {
    report.map_or(
        Value::Null,
        |report| json!({ "accelerator_cycles": report.total.cycles - report.total.host_cycles, "host": report.host }),
    )
}

/// Cycles, with those of the accelerator and of the host apart if it takes part.
fn cycles_text(cycles: u64, host: u64) -> String {
    match host {
        0 => format!("{} cycles", grouped(cycles)),
        _ => format!("{} cycles: accelerator {}, host {}", grouped(cycles), grouped(cycles - host), grouped(host)),
    }
}

/// Cycles of a run and the cosine of its result, if there are any.
fn totals(report: Option<&Report>, cosine: Option<f64>, result: &str) -> String {
    let cycles = report.map(|report| {
        let host = report.host.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}\n{host}", cycles_text(report.total.cycles, report.total.host_cycles))
    });
    let cosine = cosine.map(|cosine| format!("cosine with the float32 {result}: {cosine:.5}\n"));
    cycles.into_iter().chain(cosine).collect()
}

/// Whether the tensors of a run are those of the integer reference.
fn verdict(tensors: usize, mismatches: &[Mismatch]) -> String {
    match mismatches.len() {
        0 => format!("all {tensors} tensors equal the integer reference\n"),
        differ => format!("{differ} of {tensors} tensors differ from the integer reference\n"),
    }
}
