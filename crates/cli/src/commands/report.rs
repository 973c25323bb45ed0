//! `pollux report`

use std::path::Path;

use clap::Args;
use pollux::functional::Divisions;
use pollux_compiler::Compiled;
use pollux_compiler::decoder::compile_prompt;
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleSetup, Divisors, time_cycles_with};
use pollux_compiler::report::Report;
use pollux_compiler::synthetic::{self, Shape};
use pollux_energy::EnergyReport;
use pollux_kernels::Mask;
use pollux_sim::replay::ReplayOptions;
use serde::Serialize;

use super::lower::{list, plan_with_schedule};
use super::model::graph::{self, GraphArguments};
use super::model::{
    LoweringArguments, QuantisationArguments, SimulationArguments, failure, note_left_out, required, with_progress,
};
use crate::arguments::ReplayArguments;
use crate::energy::EnergyArguments;
use crate::execution::note_replay;
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath, OutputPath};
use crate::options::{Given, Subject};
use crate::output::Output;
use crate::{progress, values};

/// Words of GPT-2's vocabulary.
const GPT2_WORDS: usize = 50257;

const EXAMPLES: &str = "\
Examples:
  pollux report --shape bert-base --tokens 128
  pollux report --shape bert-large --layers 2 --tokens 384 --html report.html
  pollux report --model all-MiniLM-L6-v2 --text \"My cat sleeps all day.\" --every
  pollux report --shape gpt2 --layers 2 --tokens 16
  pollux report --shape resnet50 --image 64
  pollux report --list programs/parity/mobilenet.toml --every
  pollux report --shape minilm-l6 --tokens 64 --energy horowitz45-lpddr4
  pollux report --shape minilm-l6 --tokens 64 --plan plan.toml --json";

/// Where the cycles of a whole model go.
///
/// Cycles, multiply-accumulates, utilisation, bytes and arithmetic intensity by operation, layer and class: as a table, as
/// JSON, and as an HTML page with plots.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// Model directory, ONNX file, or the file that `pollux model quantize` writes.
    #[arg(long, value_name = "MODEL", required_unless_present_any = ["shape", "list"])]
    model: Option<NamedPath>,
    /// The text for a Transformer.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    /// Instead of a model: a published shape with pseudo-random weights (minilm-l6, bert-base, bert-large,
    /// gpt2, gpt2-medium, resnet50).
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    shape: Option<String>,
    /// Instead of a model: a list of operations (TOML), as in `pollux lower list`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "shape"])]
    list: Option<InputPath>,
    /// A schedule (TOML), as `pollux map -o` writes it, for all products or all convolutions of a list.
    #[arg(long, value_name = "FILE", requires = "list")]
    schedule: Option<InputPath>,
    /// Tokens for a Transformer's shape, 1 to 8192.
    #[arg(long, value_name = "N", default_value_t = 128, conflicts_with_all = ["model", "list"], value_parser = clap::value_parser!(u32).range(1..=8192))]
    tokens: u32,
    /// Layers of a Transformer's shape, 1 or more; by default all.
    #[arg(long, value_name = "N", conflicts_with_all = ["model", "list"], value_parser = values::count::<usize>())]
    layers: Option<usize>,
    /// List each operation of each layer as well; JSON always has them.
    #[arg(long)]
    every: bool,
    /// Write an HTML page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<OutputPath>,
    #[command(flatten)]
    graph: GraphArguments,
    #[command(flatten)]
    lowering: LoweringArguments,
    #[command(flatten)]
    simulation: SimulationArguments,
    #[command(flatten)]
    energy: EnergyArguments,
    /// Compute nothing: where the accelerator normalizes, cycles are those without a divisor that is zero. Otherwise the functional
    /// model runs beside it to find out.
    #[arg(long)]
    no_values: bool,
    #[command(flatten)]
    replay: ReplayArguments,
}

/// The report with the energy of the run.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    energy: Option<EnergyReport>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.every && out.is_json() {
        return Err(Failure::Usage(
            "--every is for the table: the JSON document has every operation without it".to_owned(),
        ));
    }
    let replay = arguments.replay.options(arguments.simulation.memory(), None)?;
    let (title, compiled) = match (&arguments.model, &arguments.shape, &arguments.list) {
        (Some(directory), ..) => of_model(arguments, directory, out)?,
        (None, Some(shape), _) => of_shape(arguments, shape, out)?,
        (None, None, Some(file)) => of_list(arguments, file)?,
        (None, None, None) => return Err(Failure::Usage("give --model with --text, --shape or --list".to_owned())),
    };
    let pricing = arguments.energy.pricing(&compiled.program.config)?;
    let report = time(arguments, replay, &title, &compiled, out)?;
    let energy = pricing.as_ref().map(|pricing| pricing.of_parts(&report).text());
    if let Some(path) = &arguments.html {
        let section = energy.as_ref().map(|text| ("Energy", text.as_str()));
        out.write(path, report.html_with(section).map_err(failure)?.as_bytes())?;
    }
    out.json(&Document { report: &report, energy: pricing.as_ref().map(|pricing| pricing.of_model(&report)) })?;
    out.text(&report.table(arguments.every))?;
    if let Some(text) = energy {
        let every = pricing.filter(|_| arguments.every).map(|pricing| pricing.of_model(&report).text());
        out.text(&format!("\n{}", every.unwrap_or(text)))?;
    }
    Ok(Outcome::Agrees)
}

/// What is run, and its title.
type Subjected = (String, Compiled);

fn of_model(arguments: &Arguments, directory: &Path, out: &Output) -> Result<Subjected, Failure> {
    let subject = graph::subject(directory);
    subject.check(&directory.display().to_string(), &arguments.given)?;
    if subject.is_network() {
        return graph::compile(Some(directory), &arguments.graph, &arguments.lowering, out);
    }
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let text = required(arguments.text.as_ref())?;
    let model = QuantisationArguments::default().load(directory, None, out)?;
    note_left_out(&model, text, out)?;
    let techniques = arguments.lowering.techniques();
    let lower = || model.lower(text, config, &plan, &techniques);
    let compiled = progress::during(out, "lowering", lower).map_err(failure)?;
    let tokens = model.tokens(text).map_err(failure)?;
    Ok((format!("{}, {tokens} tokens", directory.display()), compiled))
}

fn of_list(arguments: &Arguments, file: &Path) -> Result<Subjected, Failure> {
    Subject::List.check(&file.display().to_string(), &arguments.given)?;
    let plan = plan_with_schedule(arguments.lowering.plan()?, arguments.schedule.as_ref())?;
    let compiled = list(file, arguments.lowering.config_name(), &plan)?;
    Ok((file.display().to_string(), compiled))
}

fn of_shape(arguments: &Arguments, shape: &str, out: &Output) -> Result<Subjected, Failure> {
    let subject = if shape == graph::RESNET50 { Subject::ResnetShape } else { Subject::TransformerShape };
    subject.check(shape, &arguments.given)?;
    if subject.is_network() {
        arguments.given.refuse(&["tokens", "layers"], "resnet50 has an image, and all its layers: leave it out")?;
        return graph::compile(None, &arguments.graph, &arguments.lowering, out);
    }
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let mut shape = Shape::by_name(shape).map_err(failure)?;
    shape.layers = arguments.layers.unwrap_or(shape.layers);
    let count = arguments.tokens;
    let tokens = count as usize;
    let spinner = progress::spinner(out, "lowering");
    let compiled = if shape.decoder {
        let model = synthetic::decoder(&shape, GPT2_WORDS, tokens, 1).map_err(failure)?;
        let prompt: Vec<u32> = (0..count).map(|token| token * 37 % GPT2_WORDS as u32).collect();
        compile_prompt(config, &plan, &model, &prompt).map_err(failure)?.compiled
    } else {
        let layers = synthetic::encoder(&shape, tokens, 1).map_err(failure)?;
        let input = synthetic::input(&shape, tokens, 2);
        compile_parameters(config, &plan, &layers, &input, Mask::Full, &TokenCounts::new()).map_err(failure)?.compiled
    };
    spinner.finish_and_clear();
    Ok((format!("{}, {} layers, {tokens} tokens", shape.name, shape.layers), compiled))
}

fn time(
    arguments: &Arguments,
    replay: Option<ReplayOptions>,
    title: &str,
    compiled: &Compiled,
    out: &Output,
) -> Result<Report, Failure> {
    let divisors = if arguments.no_values { Divisors::NotZero } else { Divisors::Computed };
    if arguments.no_values && !Divisions::possible(&compiled.program.config, &compiled.program.items) {
        return Err(Failure::Usage(format!(
            "--no-values has no effect on {title}: the accelerator normalizes nothing, so cycles do not depend on values"
        )));
    }
    let setup = CycleSetup { replay, divisors, ..arguments.simulation.setup_for(&arguments.energy) };
    let memory = compiled.program.initial_memory();
    let mut table = arguments.replay.table()?;
    let run = with_progress(out, |progress| time_cycles_with(compiled, memory, &setup, &mut table, progress))?;
    arguments.replay.keep(&table, out)?;
    note_replay(run.summary.cycles, run.summary.simulated, run.summary.replayed, out);
    Ok(Report::new(title, compiled, &run))
}
