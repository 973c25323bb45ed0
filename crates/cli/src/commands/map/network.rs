//! `pollux map layer` and `pollux map network`: a plan for all operations.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use pollux_compiler::decoder::compile_prompt;
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::CycleSetup;
use pollux_compiler::list::OperationList;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::techniques::Techniques;
use pollux_compiler::{CompileError, Compiled, Plan};
use pollux_isa::ValidConfig;
use pollux_kernels::{ConvSchedule, Keep, Mask, Normalization, Schedule};
use pollux_mapper::network::{self, Choice, Planned, PlannedOperation, Settings, Subject as Planning};
use pollux_mapper::search::Objective;
use pollux_sim::memory::MemoryModel;
use serde_json::{Value, json};

use super::{CYCLES_A_SECOND, ObjectiveName, jobs};
use crate::arguments::{configuration, optional_configuration};
use crate::commands::model::graph::{self, GraphArguments, RESNET50};
use crate::commands::model::{QuantisationArguments, failure, note_left_out};
use crate::energy::{CLOCK, table as energy_table};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath, OutputPath};
use crate::options::{Given, Subject};
use crate::output::{Output, counted, grouped, table};
use crate::{program_file, progress, values};

const LAYER_EXAMPLES: &str = "\
Examples:
  pollux map layer --hidden 768 --heads 12 --ffn 3072 --tokens 128 -o plan.toml
  pollux map layer --hidden 384 --heads 12 --ffn 1536 --tokens 16 --memory bandwidth:bytes=8";

const NETWORK_EXAMPLES: &str = "\
Examples:
  pollux map network --shape bert-base --layers 1 --tokens 128 -o plan.toml
  pollux report --shape bert-base --tokens 128 --plan plan.toml
  pollux map network minilm.safetensors --text \"My cat sleeps all day.\" -o plan.toml
  pollux map network resnet50.onnx --random-input 1 --budget 300 -o plan.toml
  pollux map network operations.toml --objective edp -o plan.toml";

/// Words of GPT-2's vocabulary.
const GPT2_WORDS: usize = 50257;

/// The best plan for a layer of a Transformer: attention, projections, feed-forward network, norms.
#[derive(Args)]
#[command(after_help = LAYER_EXAMPLES)]
pub struct LayerArguments {
    /// Width of the residual stream.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    hidden: u32,
    /// Heads; they divide the width.
    #[arg(long, value_name = "N", value_parser = values::size::<u32>())]
    heads: u32,
    /// Inner width of the feed-forward network.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    ffn: u32,
    /// Tokens, 1 to 8192.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=8192))]
    tokens: u32,
    /// A layer of the GPT-2 family, with its causal mask; otherwise of an encoder.
    #[arg(long)]
    decoder: bool,
    #[command(flatten)]
    search: PlanArguments,
}

/// The best plan for a whole network: a model, an ONNX file, a list of operations, or a published shape.
///
/// The plan has a schedule for each operation, where rows are normalized, which poolings are part of a convolution's stores, and which
/// products of one input are done together. `pollux report`, `pollux model run` and `pollux model lower` take it with --plan.
#[derive(Args)]
#[command(after_help = NETWORK_EXAMPLES)]
pub struct NetworkArguments {
    #[command(flatten)]
    given: Given,
    /// Model directory, ONNX file, the file that `pollux model quantize` writes, or a list of operations (`*.toml`).
    #[arg(value_name = "FILE", required_unless_present = "shape")]
    model: Option<NamedPath>,
    /// The text for a Transformer.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    /// Instead of a file: a published shape with pseudo-random weights (minilm-l6, bert-base, bert-large, gpt2, gpt2-medium, resnet50).
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    shape: Option<String>,
    /// Tokens for a Transformer's shape, 1 to 8192.
    #[arg(long, value_name = "N", default_value_t = 128, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=8192))]
    tokens: u32,
    /// Layers of a Transformer's shape, 1 or more; by default all.
    #[arg(long, value_name = "N", conflicts_with = "model", value_parser = values::count::<usize>())]
    layers: Option<usize>,
    #[command(flatten)]
    graph: GraphArguments,
    #[command(flatten)]
    search: PlanArguments,
}

/// How a plan is searched.
#[derive(Args)]
struct PlanArguments {
    /// Configuration: a name or a file; norm16 by default, default16 for convolutional networks, a list's own.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Plan that the choices are added to (TOML).
    #[arg(long, value_name = "FILE")]
    plan: Option<InputPath>,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles())]
    interval: u64,
    /// What is to be small; energy times cycles is that of the whole network.
    #[arg(long, default_value = "cycles")]
    objective: ObjectiveName,
    /// Choices of each operation that run on the emulator at most.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = values::count::<u32>())]
    candidates: u32,
    /// Seconds of emulation on one core, about: cycles are counted, 2 million a second, so that the result is the same everywhere.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86400))]
    budget: u32,
    /// Mappings of a convolution that the analytical model prices at most; of products it prices all.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = values::count::<u32>())]
    evaluations: u32,
    /// Seed of all that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Energy table: a built-in one (`pollux energy tables`) or a file (`*.toml`).
    #[arg(long, value_name = "TABLE", default_value = "horowitz45-lpddr4")]
    energy_table: String,
    /// Clock, for leakage and the energy-delay product.
    #[arg(long, value_name = "CLOCK", default_value = CLOCK, value_parser = values::clock)]
    clock: f64,
    /// Runs of the emulator at the same time; by default one a core. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
    /// File for the plan (TOML).
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Compiles with a plan.
type Lowering = dyn Fn(&Plan) -> Result<Compiled, CompileError> + Sync;

/// A network: how it is compiled by a plan, its build, and its title.
struct Network {
    title: String,
    config: ValidConfig,
    compile: Box<Lowering>,
}

/// Configuration of Transformers: it has the normalizations.
const TRANSFORMER_CONFIG: &str = "norm16";

/// Runs `pollux map layer`.
pub fn layer(arguments: &LayerArguments, out: &Output) -> Result<Outcome, Failure> {
    let [hidden, heads, ffn] = [arguments.hidden, arguments.heads, arguments.ffn].map(|size| size as usize);
    let shape = Shape { decoder: arguments.decoder, ..Shape::new("a layer", hidden, 1, heads, ffn) };
    let network = of_shape(shape, arguments.tokens, &arguments.search)?;
    find(network, &arguments.search, out)
}

/// Runs `pollux map network`.
pub fn network(arguments: &NetworkArguments, out: &Output) -> Result<Outcome, Failure> {
    let network = match (&arguments.model, arguments.shape.as_deref()) {
        (Some(path), _) => of_file(arguments, path, out)?,
        (None, Some(RESNET50)) => {
            Subject::ResnetShape.check(RESNET50, &arguments.given)?;
            arguments.given.refuse(&["tokens", "layers"], "resnet50 has an image, and all its layers: leave it out")?;
            let (pair, inputs) = arguments.graph.resnet50(out)?;
            of_graph(pair, &inputs, &arguments.search)?
        }
        (None, Some(name)) => {
            Subject::TransformerShape.check(name, &arguments.given)?;
            let shape = Shape::by_name(name).map_err(failure)?;
            let layers = arguments.layers.unwrap_or(shape.layers);
            of_shape(Shape { layers, ..shape }, arguments.tokens, &arguments.search)?
        }
        (None, None) => return Err(Failure::Usage("give a FILE or --shape".to_owned())),
    };
    find(network, &arguments.search, out)
}

fn of_file(arguments: &NetworkArguments, path: &Path, out: &Output) -> Result<Network, Failure> {
    let title = path.display().to_string();
    if super::extension(path) == "toml" {
        Subject::List.check(&title, &arguments.given)?;
        return of_list(path, &arguments.search);
    }
    let subject = graph::subject(path);
    subject.check(&title, &arguments.given)?;
    if subject.is_network() {
        let (pair, inputs) = arguments.graph.load(path, out)?;
        return of_graph(pair, &inputs, &arguments.search);
    }
    let config = arguments.search.config_or(TRANSFORMER_CONFIG)?;
    let text = arguments.text.clone();
    let text = text.ok_or_else(|| Failure::Usage("a Transformer needs a text: give --text SENTENCE".to_owned()))?;
    let model = QuantisationArguments::default().load(path, None, out)?;
    note_left_out(&model, &text, out)?;
    let tokens = model.tokens(&text).map_err(failure)?;
    let build = config.clone().into_inner();
    let compile = move |plan: &Plan| model.lower(&text, build.clone(), plan, &Techniques::default());
    Ok(Network { title: format!("{title}, {}", counted(tokens as u64, "token")), config, compile: Box::new(compile) })
}

fn of_list(path: &Path, search: &PlanArguments) -> Result<Network, Failure> {
    let named = |error: CompileError| Failure::Input(format!("{}: {error}", path.display()));
    let list = OperationList::from_toml(&program_file::read_text(path)?).map_err(named)?;
    let config = match optional_configuration(search.config.as_ref())? {
        Some(config) => config,
        None => list.config().map_err(named)?,
    };
    let build = config.clone();
    let compile = move |plan: &Plan| list.lower(Some(&build), plan);
    Ok(Network { title: path.display().to_string(), config, compile: Box::new(compile) })
}

fn of_graph(
    pair: pollux_compiler::graph::pipeline::GraphPair,
    inputs: &pollux_compiler::graph::pipeline::Inputs,
    search: &PlanArguments,
) -> Result<Network, Failure> {
    let config = search.config_or(graph::default_config(&pair.quantised))?;
    let (title, build) = (pair.quantised.graph.name.clone(), config.clone().into_inner());
    let int8 = pair.quantise_inputs(inputs).map_err(failure)?;
    let compile = move |plan: &Plan| {
        pollux_compiler::graph::compile(build.clone(), plan, &pair.quantised, &int8).map(|graph| graph.compiled)
    };
    Ok(Network { title, config, compile: Box::new(compile) })
}

fn of_shape(shape: Shape, tokens: u32, search: &PlanArguments) -> Result<Network, Failure> {
    let config = search.config_or(TRANSFORMER_CONFIG)?;
    let count = tokens as usize;
    let title = format!("{}, {}, {count} tokens", shape.name, counted(shape.layers as u64, "layer"));
    let build = config.clone().into_inner();
    if shape.decoder {
        let model = synthetic::decoder(&shape, GPT2_WORDS, count, 1).map_err(failure)?;
        let prompt: Vec<u32> = (0..tokens).map(|token| token * 37 % GPT2_WORDS as u32).collect();
        let compile = move |plan: &Plan| Ok(compile_prompt(build.clone(), plan, &model, &prompt)?.compiled);
        return Ok(Network { title, config, compile: Box::new(compile) });
    }
    let layers = synthetic::encoder(&shape, count, 1).map_err(failure)?;
    let input = synthetic::input(&shape, count, 2);
    let compile = move |plan: &Plan| {
        let encoder = compile_parameters(build.clone(), plan, &layers, &input, Mask::Full, &TokenCounts::new());
        Ok(encoder?.compiled)
    };
    Ok(Network { title, config, compile: Box::new(compile) })
}

impl PlanArguments {
    fn config_or(&self, default: &str) -> Result<ValidConfig, Failure> {
        configuration(self.config.as_deref().unwrap_or(default))
    }
}

fn find(network: Network, arguments: &PlanArguments, out: &Output) -> Result<Outcome, Failure> {
    let Network { title, config, compile } = network;
    let prices = energy_table(&arguments.energy_table)?.prices(&config).map_err(Failure::input)?;
    let base = match &arguments.plan {
        None => Plan::default(),
        Some(path) => Plan::from_toml(&program_file::read_text(path)?)
            .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?,
    };
    let settings = Settings {
        objective: arguments.objective.value(),
        setup: CycleSetup { memory: arguments.memory, interval: arguments.interval, ..CycleSetup::default() },
        candidates: arguments.candidates as usize,
        emulated_cycles: u64::from(arguments.budget) * CYCLES_A_SECOND,
        evaluations: arguments.evaluations as usize,
        seed: arguments.seed,
        threads: jobs(arguments.jobs),
        prices: &prices,
        clock_hz: arguments.clock,
    };
    let bar = progress::bar(out, 0, "runs of the network");
    let most = AtomicU64::new(0);
    let subject = Planning { compile: &*compile, base };
    let planned = network::plan(&subject, &settings, &|(runs, all)| {
        if most.swap(all as u64, Ordering::Relaxed) == 0 {
            bar.set_length(all as u64);
        }
        bar.set_position(runs as u64);
    });
    bar.finish_and_clear();
    let planned = planned.map_err(failure)?;
    let report = Report { title: &title, config: &config, arguments, planned: &planned };
    if let Some(path) = &arguments.output {
        out.write(path, report.plan().as_bytes())?;
    }
    out.json(&report.json())?;
    out.text(&report.text())?;
    Ok(Outcome::Agrees)
}

struct Report<'a> {
    title: &'a str,
    config: &'a ValidConfig,
    arguments: &'a PlanArguments,
    planned: &'a Planned,
}

impl Report<'_> {
    /// Energy and bytes are counted only if they are asked for: a run that counts is not replayed.
    fn is_counted(&self) -> bool {
        self.arguments.objective.value() != Objective::Cycles
    }

    fn plan(&self) -> String {
        let Planned { plan, default, cost, .. } = self.planned;
        let text = plan.to_toml();
        format!(
            "# {} on {}, memory {}: {} instead of {}\n{text}",
            self.title,
            self.config.name,
            self.arguments.memory,
            counted(cost.cycles, "cycle"),
            grouped(default.cycles)
        )
    }

    fn json(&self) -> Value {
        let Planned { plan, default, cost, operations, together, runs, emulated_cycles, not_run, reverted } =
            self.planned;
        let counted = |value: Value| if self.is_counted() { value } else { Value::Null };
        json!({
            "title": self.title, "config": self.config.name, "memory": self.arguments.memory,
            "objective": self.arguments.objective.value(), "seed": self.arguments.seed,
            "cycles": cost.cycles, "default_cycles": default.cycles,
            "energy_pj": counted(cost.energy_pj.into()), "default_energy_pj": counted(default.energy_pj.into()),
            "bytes": counted(cost.bytes.into()), "default_bytes": counted(default.bytes.into()),
            "energy_table": self.arguments.energy_table, "clock_hz": self.arguments.clock,
            "operations": operations, "together": together, "runs": runs, "emulated_cycles": emulated_cycles,
            "not_run": not_run, "reverted": reverted, "plan": plan,
        })
    }

    fn text(&self) -> String {
        let Planned { default, cost, operations, together, runs, not_run, reverted, .. } = self.planned;
        let mut out = format!("{} on {}, memory {}\n\n", self.title, self.config.name, self.arguments.memory);
        let heading = ["operation", "by default", "planned", "gain", "tried", "chosen"].map(str::to_owned).to_vec();
        let ratio = |a: u64, b: u64| format!("{:.3}", a as f64 / b.max(1) as f64);
        let row = |o: &PlannedOperation| {
            let chosen = o.choice.as_ref().map_or_else(|| "-".to_owned(), describe);
            let figures = [grouped(o.default.cycles), grouped(o.cost.cycles), ratio(o.default.cycles, o.cost.cycles)];
            [vec![o.name.clone()], figures.to_vec(), vec![o.tried.to_string(), chosen]].concat()
        };
        out.push_str(&table(&[vec![heading], operations.iter().map(row).collect()].concat()));
        for group in together {
            out.push_str(&format!("together: {}\n", group.join(", ")));
        }
        out.push_str(&format!(
            "\n{} instead of {}: {} times as fast\n",
            counted(cost.cycles, "cycle"),
            grouped(default.cycles),
            ratio(default.cycles, cost.cycles)
        ));
        if self.is_counted() {
            out.push_str(&format!(
                "{:.3} uJ instead of {:.3}; {} instead of {} ({}, {:.0} MHz)\n",
                cost.energy_pj / 1e6,
                default.energy_pj / 1e6,
                counted(cost.bytes, "byte"),
                grouped(default.bytes),
                self.arguments.energy_table,
                self.arguments.clock / 1e6
            ));
        }
        out.push_str(&format!("{} of the whole network", counted(*runs as u64, "run")));
        if *not_run > 0 {
            out.push_str(&format!("; {} did not run: a larger --budget runs them", counted(*not_run as u64, "choice")));
        }
        if *reverted > 0 {
            out.push_str(&format!("; {reverted} went back to the default, slower in the whole than alone"));
        }
        out.push('\n');
        out
    }
}

/// A choice in a few words.
fn describe(choice: &Choice) -> String {
    let keep = |keep: &Keep| match keep {
        Keep::Gemmini => "",
        Keep::Nothing => ", keep nothing",
        Keep::Recent => ", keep recent",
    };
    match choice {
        Choice::Schedule(s) => {
            let Schedule { tile, order, emission, keep: kept, .. } = s;
            let order: String = order.iter().map(|axis| format!("{axis:?}").to_lowercase()).collect();
            let separate = if s.normalization == Normalization::Separate { ", normalized separately" } else { "" };
            let emission = format!("{emission:?}").to_lowercase();
            format!("{} x {} x {}, {order}, {emission}{}{separate}", tile.i, tile.j, tile.k, keep(kept))
        }
        Choice::Convolution(s) => {
            let ConvSchedule { batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels, .. } = s;
            format!(
                "{batch} of {rows} x {cols} x {out_channels}, kernel {kernel_rows} x {kernel_cols} x {in_channels}{}",
                keep(&s.keep)
            )
        }
        Choice::Host => "normalized by the host".to_owned(),
        Choice::SeparatePooling => "pooled separately".to_owned(),
    }
}
