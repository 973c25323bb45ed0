//! `pollux report`

use std::path::Path;

use clap::Args;
use pollux_compiler::Compiled;
use pollux_compiler::decoder::compile_prompt;
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::run_cycles;
use pollux_compiler::report::Report;
use pollux_compiler::synthetic::{self, Shape};
use pollux_energy::EnergyReport;
use pollux_kernels::Mask;
use serde::Serialize;

use super::lower::{list, plan_with_schedule};
use super::model::graph::{self, GraphArguments};
use super::model::{
    LoweringArguments, QuantisationArguments, SimulationArguments, failure, note_left_out, required, with_progress,
};
use crate::energy::{EnergyArguments, Pricing};
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
}

/// The report with the energy of the run.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    energy: Option<EnergyReport>,
}

/// A report, and the prices of its events, if energy is asked for.
type Priced = (Report, Option<Pricing>);

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.every && out.is_json() {
        return Err(Failure::Usage(
            "--every is for the table: the JSON document has every operation without it".to_owned(),
        ));
    }
    let (report, pricing) = match (&arguments.model, &arguments.shape, &arguments.list) {
        (Some(directory), ..) => of_model(arguments, directory, out)?,
        (None, Some(shape), _) => of_shape(arguments, shape, out)?,
        (None, None, Some(file)) => of_list(arguments, file, out)?,
        (None, None, None) => return Err(Failure::Usage("give --model with --text, --shape or --list".to_owned())),
    };
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

fn of_model(arguments: &Arguments, directory: &Path, out: &Output) -> Result<Priced, Failure> {
    let subject = graph::subject(directory);
    subject.check(&directory.display().to_string(), &arguments.given)?;
    if subject.is_network() {
        return of_network(arguments, Some(directory), out);
    }
    let (config, plan) = (arguments.lowering.config()?, arguments.lowering.plan()?);
    let (techniques, setup) = (arguments.lowering.techniques(), arguments.simulation.setup_for(&arguments.energy));
    let pricing = arguments.energy.pricing(&config)?;
    let text = required(arguments.text.as_ref())?;
    let model = QuantisationArguments::default().load(directory, out)?;
    note_left_out(&model, text, out)?;
    let run = with_progress(out, |progress| model.run(text, config, &plan, &techniques, Some(&setup), progress))?;
    let tokens = run.tokens;
    let report = run.report.ok_or_else(|| Failure::Input("the run gave no cycles".to_owned()))?;
    Ok((Report { title: format!("{}, {tokens} tokens", directory.display()), ..report }, pricing))
}

fn of_network(arguments: &Arguments, path: Option<&Path>, out: &Output) -> Result<Priced, Failure> {
    let pricing = arguments.energy.pricing(&arguments.lowering.config_or(graph::DEFAULT_CONFIG)?)?;
    let setup = arguments.simulation.setup_for(&arguments.energy);
    Ok((graph::report(path, &arguments.graph, &arguments.lowering, &setup, out)?, pricing))
}

fn of_list(arguments: &Arguments, file: &Path, out: &Output) -> Result<Priced, Failure> {
    Subject::List.check(&file.display().to_string(), &arguments.given)?;
    let compiled = list(
        file,
        arguments.lowering.config_name(),
        &plan_with_schedule(arguments.lowering.plan()?, arguments.schedule.as_ref())?,
    )?;
    of_compiled(arguments, &file.display().to_string(), &compiled, out)
}

fn of_shape(arguments: &Arguments, shape: &str, out: &Output) -> Result<Priced, Failure> {
    let subject = if shape == graph::RESNET50 { Subject::ResnetShape } else { Subject::TransformerShape };
    subject.check(shape, &arguments.given)?;
    if subject.is_network() {
        arguments.given.refuse(&["tokens", "layers"], "resnet50 has an image, and all its layers: leave it out")?;
        return of_network(arguments, None, out);
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
    of_compiled(arguments, &format!("{}, {} layers, {tokens} tokens", shape.name, shape.layers), &compiled, out)
}

fn of_compiled(arguments: &Arguments, title: &str, compiled: &Compiled, out: &Output) -> Result<Priced, Failure> {
    let pricing = arguments.energy.pricing(&compiled.program.config)?;
    let (memory, setup) = (compiled.program.initial_memory(), arguments.simulation.setup_for(&arguments.energy));
    let run = with_progress(out, |progress| run_cycles(compiled, memory, &setup, progress))?;
    Ok((Report::new(title, compiled, &run), pricing))
}
