//! `pollux map`

mod html;
mod network;
mod record;
mod train;

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use pollux_energy::Prices;
use pollux_isa::ValidConfig;
use pollux_kernels::{ConvShape, Dataflow, Emission, Pool};
use pollux_mapper::evaluate::{self, Accuracy, SearchRegret};
use pollux_mapper::formats::{self, Nest, dosa, map_text, schedule, timeloop};
use pollux_mapper::model::{Costs, classic};
use pollux_mapper::search::{self, Candidate, Found, Method, Objective, Record, Settings, Step};
use pollux_mapper::{
    ConvProblem, Factors, Limits, Mapping, Mapspace, MatmulProblem, Problem, ReadOut, Surroundings, emulate,
};
use pollux_sim::memory::MemoryModel;
use serde_json::{Value, json};

use crate::arguments::{configuration, optional_configuration};
use crate::energy::{CLOCK, table as energy_table};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::{Output, counted, grouped, table};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux map matmul --m 128 --n 768 --k 768
  pollux map conv --rows 14 --cols 14 --channels 64 --out-channels 64 --kernel 3 --padding 1
  pollux map network --shape bert-base --layers 1 --tokens 128 -o plan.toml
  pollux map import mapping.yaml
  pollux map evaluate --samples 20";

const MATMUL_EXAMPLES: &str = "\
Examples:
  pollux map matmul --m 128 --n 768 --k 768
  pollux map matmul --m 512 --n 512 --k 512 --objective edp --energy-table cacti22-lpddr4
  pollux map matmul --m 64 --n 512 --k 256 --memory bandwidth:bytes=8 --search guided -o schedule.toml
  pollux lower matmul --m 64 --n 512 --k 256 --schedule schedule.toml -o mm.pbin";

const CONV_EXAMPLES: &str = "\
Examples:
  pollux map conv --rows 14 --cols 14 --channels 64 --out-channels 64 --kernel 3 --padding 1
  pollux map conv --rows 56 --cols 56 --channels 64 --out-channels 64 --kernel 3 --padding 1 --batch 4 --budget 60";

const IMPORT_EXAMPLES: &str = "\
Examples:
  pollux map import example.yaml                            architecture, problem and mapping of Timeloop
  pollux map import mapping.yaml --problem problem.yaml -o schedule.toml
  pollux map import map.txt --problem problem.yaml -o mapping.yaml
  pollux map import mapping.dosa --problem problem.yaml
  pollux map import topology.csv                            layers of SCALE-Sim, each by Gemmini's own mapping";

const EVALUATE_EXAMPLES: &str = "\
Examples:
  pollux map evaluate
  pollux map evaluate --samples 100 --memory bandwidth:bytes=8 --json
  pollux map evaluate --learned learned.json --searches 16
  pollux map evaluate --operation conv --emission unroller";

/// Prices if no table is given.
const ENERGY_TABLE: &str = "horowitz45-lpddr4";

/// Emulated cycles that a second of the budget stands for: about what a core of today's machines does. The budget is counted in them so
/// that the result does not depend on the machine.
const CYCLES_A_SECOND: u64 = 2_000_000;

/// Find the best mapping of a product, a convolution, a layer or a network: tiles, loop order, dataflow, what stays in the scratchpad.
///
/// A search proposes mappings by an analytical model, the cycle-level emulator has the last word. The result is never slower than
/// Gemmini's own rule.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Matmul(MatmulArguments),
    Conv(ConvArguments),
    Layer(network::LayerArguments),
    Network(Box<network::NetworkArguments>),
    Import(ImportArguments),
    Train(train::Arguments),
    Evaluate(EvaluateArguments),
}

/// The best mapping of C = A B, A M x K, B K x N.
#[derive(Args)]
#[command(after_help = MATMUL_EXAMPLES)]
struct MatmulArguments {
    /// Rows of A and C, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    m: u32,
    /// Columns of B and C, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    n: u32,
    /// Columns of A, rows of B, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    k: u32,
    /// Add an int32 row to every row of the product.
    #[arg(long)]
    bias: bool,
    /// Make negative results 0.
    #[arg(long)]
    relu: bool,
    #[command(flatten)]
    search: SearchArguments,
}

/// The best mapping of a convolution.
#[derive(Args)]
#[command(after_help = CONV_EXAMPLES)]
struct ConvArguments {
    /// Images.
    #[arg(long, value_name = "SIZE", default_value_t = 1, value_parser = values::size::<u32>())]
    batch: u32,
    /// Rows of an input image.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    rows: u32,
    /// Columns of an input image.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    cols: u32,
    /// Channels of the input.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    channels: u32,
    /// Channels of the output; of a depthwise convolution those of the input.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>(), required_unless_present = "depthwise", conflicts_with = "depthwise")]
    out_channels: Option<u32>,
    /// Edge of the kernel.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    kernel: u32,
    /// Steps of the kernel.
    #[arg(long, value_name = "SIZE", default_value_t = 1, value_parser = values::size::<u32>())]
    stride: u32,
    /// Zeros around the input.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    padding: u16,
    /// Max pooling by windows of this size and step.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    pool: Option<u32>,
    /// Each output channel has one input channel.
    #[arg(long)]
    depthwise: bool,
    /// Add an int32 to each output channel.
    #[arg(long)]
    bias: bool,
    #[command(flatten)]
    search: SearchArguments,
}

/// How to search.
#[derive(Args)]
struct SearchArguments {
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles())]
    interval: u64,
    /// What is to be small.
    #[arg(long, default_value = "cycles")]
    objective: ObjectiveName,
    /// How proposals are found; by default all mappings if they are not too many, otherwise by evolution.
    #[arg(long, default_value = "auto")]
    search: MethodName,
    /// Seconds of emulation on one core, about: cycles are counted, 2 million a second, so that the result is the same everywhere.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86400))]
    budget: u32,
    /// Mappings that the analytical model prices at most; an exhaustive search prices all.
    #[arg(long, value_name = "N", default_value_t = 20000, value_parser = values::count::<u32>())]
    evaluations: u32,
    /// Seed of all that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sizes of tiles.
    #[arg(long, default_value = "ragged")]
    factors: FactorsName,
    /// Only the loop unrollers, or only single commands.
    #[arg(long)]
    emission: Option<EmissionName>,
    /// Only this dataflow.
    #[arg(long)]
    dataflow: Option<DataflowName>,
    /// Energy table: a built-in one (`pollux energy tables`) or a file (`*.toml`).
    #[arg(long, value_name = "TABLE", default_value = ENERGY_TABLE)]
    energy_table: String,
    /// Clock, for leakage and the energy-delay product.
    #[arg(long, value_name = "CLOCK", default_value = CLOCK, value_parser = values::clock)]
    clock: f64,
    /// Runs of the emulator at the same time; by default one a core. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
    /// File of the runs of the emulator, a line each: written while the search goes on, and if it is there already taken up. The result
    /// is that of a search without it, sooner.
    #[arg(long, value_name = "FILE")]
    resume: Option<OutputPath>,
    /// Write an HTML page: the cloud of candidates, their distribution, and what the best one does when.
    #[arg(long, value_name = "FILE")]
    html: Option<OutputPath>,
    /// File for the schedule (TOML), for `pollux lower --schedule`; or for a Timeloop mapping (`*.yaml`) or `map.txt` (`*.txt`).
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Mappings, problems and architectures of other tools: what they are on this Gemmini, and their cycles.
///
/// The form follows from the file: `*.toml` is a schedule, `*.yaml` Timeloop's, `*.txt` its map.txt, `*.dosa` a DOSA string, `*.csv` a
/// topology of SCALE-Sim.
#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct ImportArguments {
    /// The file.
    #[arg(value_name = "FILE")]
    file: InputPath,
    /// The problem that a mapping is for (Timeloop's YAML), if the file does not have it.
    #[arg(long, value_name = "FILE")]
    problem: Option<InputPath>,
    /// Configuration: a name or a file; by default the file's architecture, or default16.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// File for the mapping: `*.toml`, `*.yaml`, `*.txt` or `*.dosa`.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// How good the models are against the emulator, on mappings drawn uniformly from the whole space of some operations.
#[derive(Args)]
#[command(after_help = EVALUATE_EXAMPLES)]
struct EvaluateArguments {
    /// Mappings of each operation.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::count::<u32>())]
    samples: u32,
    /// Products, convolutions, or both.
    #[arg(long, default_value = "all")]
    operation: OperationName,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// Only the loop unrollers, or only single commands.
    #[arg(long)]
    emission: Option<EmissionName>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A learned model, as `pollux map train` writes it, to be tried as well.
    #[arg(long, value_name = "FILE")]
    learned: Option<InputPath>,
    /// Compare the searches as well, each with as many emulated cycles as so many runs of Gemmini's own mapping take.
    #[arg(long, value_name = "RUNS", value_parser = values::count::<u32>())]
    searches: Option<u32>,
    /// Runs of the emulator at the same time; by default one a core.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ObjectiveName {
    Cycles,
    Energy,
    /// Energy-delay product.
    Edp,
    /// Bytes at the memory port.
    Bytes,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodName {
    /// All mappings, or evolution if they are too many.
    Auto,
    /// All mappings, pruned by their bounds.
    Exhaustive,
    /// Mappings drawn uniformly.
    Random,
    /// Mutation and selection by the analytical model.
    Evolutionary,
    /// The model corrected by what the emulator has answered.
    Guided,
    /// An integer program in the logarithms of the sizes, as CoSA's.
    Integer,
}

#[derive(Clone, Copy, ValueEnum)]
enum FactorsName {
    /// Any: the last tile may be smaller.
    Ragged,
    /// Divisors of the dimension only.
    Divisors,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmissionName {
    /// LOOP_WS and LOOP_CONV_WS.
    Unroller,
    /// Single commands.
    Commands,
}

#[derive(Clone, Copy, ValueEnum)]
enum DataflowName {
    /// Weight-stationary.
    Ws,
    /// Output-stationary.
    Os,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperationName {
    All,
    Matmul,
    Conv,
}

impl ObjectiveName {
    fn value(self) -> Objective {
        match self {
            Self::Cycles => Objective::Cycles,
            Self::Energy => Objective::Energy,
            Self::Edp => Objective::Edp,
            Self::Bytes => Objective::Bytes,
        }
    }
}

impl EmissionName {
    fn value(self) -> Emission {
        match self {
            Self::Unroller => Emission::Unroller,
            Self::Commands => Emission::Commands,
        }
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Matmul(arguments) => {
            let [m, n, k] = [arguments.m, arguments.n, arguments.k].map(|size| size as usize);
            let read_out = if arguments.relu { ReadOut::Relu } else { ReadOut::Plain };
            let problem = Problem::Matmul(MatmulProblem { m, n, k, bias: arguments.bias, read_out });
            find(&problem, &arguments.search, out)
        }
        Command::Conv(arguments) => find(&convolution(arguments)?, &arguments.search, out),
        Command::Layer(arguments) => network::layer(arguments, out),
        Command::Network(arguments) => network::network(arguments, out),
        Command::Import(arguments) => import(arguments, out),
        Command::Train(arguments) => train::execute(arguments, out),
        Command::Evaluate(arguments) => evaluate_models(arguments, out),
    }
}

fn convolution(arguments: &ConvArguments) -> Result<Problem, Failure> {
    let out_channels = arguments.out_channels.unwrap_or(arguments.channels) as usize;
    let [rows, cols, channels] = [arguments.rows, arguments.cols, arguments.channels].map(|size| size as usize);
    let shape = ConvShape {
        stride: arguments.stride as usize,
        padding: arguments.padding as isize,
        pool: arguments.pool.map(|size| Pool { size: size as usize, stride: size as usize, padding: 0 }),
        depthwise: arguments.depthwise,
        ..ConvShape::new(arguments.batch as usize, [rows, cols, channels], out_channels, arguments.kernel as usize)
    };
    if shape.pooled_pixels().contains(&0) {
        return Err(Failure::Input(format!(
            "an image of {rows} x {cols} with {} pixels of padding has no output for a kernel of {}: choose a larger image or padding",
            arguments.padding, arguments.kernel
        )));
    }
    Ok(Problem::Conv(ConvProblem { shape, bias: arguments.bias }))
}

/// A core each.
fn jobs(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn find(problem: &Problem, arguments: &SearchArguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    check_size(problem)?;
    let prices = energy_table(&arguments.energy_table)?.prices(&config).map_err(Failure::input)?;
    let around = Surroundings { memory: arguments.memory, interval: arguments.interval };
    let settings = settings(arguments, &prices);
    let bar = progress::bar(out, settings.emulated_cycles, "emulated cycles");
    let file = arguments.resume.as_ref().map(|path| record::File::open(path, &config, problem, &around)).transpose()?;
    let mut known = match &file {
        Some(file) => file.record(&config, problem, &around)?,
        None => Record::default(),
    };
    if !known.is_empty() {
        out.note(&format!("note: {} of an earlier search taken up", counted(known.len() as u64, "run")));
    }
    let found = search::search_with(&config, problem, &around, &settings, &mut known, &mut |Step::Round(progress)| {
        bar.set_position(progress.cycles.min(progress.budget));
        bar.set_message(format!("emulated cycles, best {}", counted(progress.best, "cycle")));
    });
    bar.finish_and_clear();
    drop(known);
    file.map_or(Ok(()), record::File::finish)?;
    let found = found.map_err(Failure::input)?;
    let report = Report { problem, config: &config, around: &around, arguments, found: &found };
    if let Some(path) = &arguments.output {
        write_mapping(path, &config, problem, &found.best.mapping, out)?;
    }
    if let Some(path) = &arguments.html {
        out.write(path, html::page(&report)?.as_bytes())?;
    }
    out.json(&report.json())?;
    out.text(&report.text())?;
    Ok(Outcome::Agrees)
}

/// The operands must fit the address space that programs have, and this machine.
fn check_size(problem: &Problem) -> Result<(), Failure> {
    const MOST_BYTES: u64 = 1 << 30;
    let bytes = problem.compulsory_bytes();
    match bytes > MOST_BYTES {
        true => {
            Err(Failure::Input(format!("{problem} has {bytes} bytes of operands: at most {MOST_BYTES} can be mapped")))
        }
        false => Ok(()),
    }
}

fn settings<'a>(arguments: &SearchArguments, prices: &'a Prices) -> Settings<'a> {
    Settings {
        objective: arguments.objective.value(),
        method: match arguments.search {
            MethodName::Auto => Method::Auto,
            MethodName::Exhaustive => Method::Exhaustive,
            MethodName::Random => Method::Random,
            MethodName::Evolutionary => Method::Evolutionary,
            MethodName::Guided => Method::Guided,
            MethodName::Integer => Method::Integer,
        },
        limits: Limits {
            factors: match arguments.factors {
                FactorsName::Ragged => Factors::Ragged,
                FactorsName::Divisors => Factors::Divisors,
            },
            emission: arguments.emission.map(EmissionName::value),
            dataflow: arguments.dataflow.map(|dataflow| match dataflow {
                DataflowName::Ws => Dataflow::Ws,
                DataflowName::Os => Dataflow::Os,
            }),
        },
        emulated_cycles: u64::from(arguments.budget) * CYCLES_A_SECOND,
        evaluations: arguments.evaluations as usize,
        seed: arguments.seed,
        threads: jobs(arguments.jobs),
        prices,
        clock_hz: arguments.clock,
    }
}

/// Writes a mapping in the form that the file's name says.
fn write_mapping(
    path: &Path,
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    out: &Output,
) -> Result<(), Failure> {
    let nest = || {
        let emission = match mapping {
            Mapping::Matmul(s) => s.emission,
            Mapping::Conv(s) => s.emission,
        };
        match emission {
            Emission::Unroller => Ok(Nest::of(config, problem, mapping)),
            Emission::Commands => Err(Failure::Input(format!(
                "{}: only mappings of the unrollers have this form: write a schedule (*.toml), or choose --emission unroller",
                path.display()
            ))),
        }
    };
    let text = match extension(path).as_str() {
        "yaml" | "yml" => timeloop::text(&nest()?),
        "txt" => map_text::text(&nest()?),
        "dosa" => format!("{}\n", dosa::text(&nest()?)),
        _ => format!("# {problem}, {}\n{}", config.name, schedule::text(mapping)),
    };
    out.write(path, text.as_bytes())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// The result of a search for people and machines.
struct Report<'a> {
    problem: &'a Problem,
    config: &'a ValidConfig,
    around: &'a Surroundings,
    arguments: &'a SearchArguments,
    found: &'a Found,
}

impl Report<'_> {
    fn costs(&self) -> Costs {
        Costs::new(self.config, self.problem, self.around)
    }

    fn ideal(&self) -> u64 {
        let dim = u64::from(self.config.dim());
        self.problem.macs().div_ceil(dim * dim)
    }

    fn json(&self) -> Value {
        let Found { best, gemmini, lower_bound, evaluated, simulated, proved_optimal, method, .. } = self.found;
        let result = |candidate: &Candidate| {
            candidate.result.map(|result| {
                json!({
                    "cycles": result.cycles, "energy_pj": result.energy_pj, "edp": result.edp(self.arguments.clock),
                    "bytes": result.bytes(), "estimate": candidate.estimate, "bound": candidate.bound,
                    "schedule": candidate.mapping,
                })
            })
        };
        let best_result = best.result;
        let candidates: Vec<Value> = self.found.candidates.iter().filter_map(result).collect();
        let front: Vec<Value> = search::pareto(&self.found.candidates)
            .iter()
            .map(|(mapping, result)| json!({ "cycles": result.cycles, "energy_pj": result.energy_pj, "schedule": mapping }))
            .collect();
        json!({
            "problem": self.problem, "config": self.config.name, "memory": self.around.memory,
            "objective": self.arguments.objective.value(), "search": method, "seed": self.arguments.seed,
            "cycles": best_result.map(|r| r.cycles),
            "default_cycles": gemmini.result.map(|r| r.cycles),
            "lower_bound_cycles": lower_bound,
            "ideal_cycles": self.ideal(),
            "energy_pj": best_result.map(|r| r.energy_pj),
            "default_energy_pj": gemmini.result.map(|r| r.energy_pj),
            "edp": best_result.map(|r| r.edp(self.arguments.clock)),
            "energy_table": self.arguments.energy_table, "clock_hz": self.arguments.clock,
            "bytes": best_result.map(|r| r.bytes()),
            "macs": self.problem.macs(),
            "evaluated": evaluated, "simulated": simulated, "proved_optimal": proved_optimal,
            "schedule": best.mapping,
            "default": result(gemmini), "candidates": candidates, "pareto": front,
        })
    }

    fn text(&self) -> String {
        let Found { best, gemmini, lower_bound, evaluated, simulated, proved_optimal, method, .. } = self.found;
        let mut out = format!("{} on {}, memory {}\n\n", self.problem, self.config.name, self.around.memory);
        out.push_str(&nest_text(self.config, self.problem, &best.mapping));
        out.push('\n');
        let row = |name: &str, candidate: &Candidate| match candidate.result {
            Some(r) => vec![
                name.to_owned(),
                grouped(r.cycles),
                format!("{:.3}", r.cycles as f64 / self.ideal().max(1) as f64),
                format!("{:.3}", r.energy_pj / 1e6),
                format!("{:.3e}", r.edp(self.arguments.clock)),
                grouped(r.bytes()),
            ],
            None => vec![name.to_owned(), "does not fit".to_owned()],
        };
        let heading = ["", "cycles", "of ideal", "energy, uJ", "EDP, J s", "bytes"].map(str::to_owned).to_vec();
        out.push_str(&table(&[heading, row("found", best), row("Gemmini's own rule", gemmini)]));
        out.push('\n');
        if let (Some(found), Some(own)) = (best.result, gemmini.result) {
            out.push_str(&format!(
                "{:.3} times as fast as Gemmini's own rule\n",
                own.cycles as f64 / found.cycles as f64
            ));
        }
        out.push_str(&format!(
            "energy: {}, {:.0} MHz; ideal: {} cycles ({} MACs)\n",
            self.arguments.energy_table,
            self.arguments.clock / 1e6,
            grouped(self.ideal()),
            grouped(self.problem.macs()),
        ));
        out.push_str(&self.limits(best));
        let proof = match proved_optimal {
            true => "no mapping of the space is better".to_owned(),
            false => format!(
                "no mapping can take fewer than {}; better ones are not excluded",
                counted(*lower_bound, "cycle")
            ),
        };
        out.push_str(&format!(
            "{} search: {} priced, {} run on the emulator; {proof}\n",
            method,
            counted(*evaluated, "mapping"),
            grouped(*simulated),
        ));
        out
    }

    /// Where the mapping is under the roofline, and which unit is nearest to its limit.
    fn limits(&self, best: &Candidate) -> String {
        let Some(result) = best.result else { return String::new() };
        let costs = self.costs();
        let machine = costs.machine();
        let intensity = self.problem.macs() as f64 / result.bytes().max(1) as f64;
        let roof = classic::roofline(machine, self.problem, result.bytes());
        let mut terms = costs.work(&best.mapping).terms(machine).to_vec();
        terms.sort_by_key(|(_, cycles)| std::cmp::Reverse(*cycles));
        let share = |cycles: u64| format!("{:.0} %", 100.0 * cycles as f64 / result.cycles as f64);
        let named: Vec<String> =
            terms.iter().take(3).map(|(what, cycles)| format!("{what} {}", share(*cycles))).collect();
        let side = if roof > self.ideal() as f64 * 1.001 { "memory" } else { "array" };
        format!(
            "roofline: {intensity:.1} MACs a byte, under the {side}'s roof of {} cycles; of the cycles need at least: {}\n",
            grouped(roof.ceil() as u64),
            named.join(", ")
        )
    }
}

fn nest_text(config: &ValidConfig, problem: &Problem, mapping: &Mapping) -> String {
    match (mapping, problem) {
        (Mapping::Matmul(schedule), Problem::Matmul(matmul)) => schedule.loop_nest(config, &matmul.shape()).to_string(),
        (Mapping::Conv(schedule), _) => schedule.to_string(),
        _ => mapping.to_string(),
    }
}

/// A schedule from a file (TOML).
pub fn read_schedule(path: &Path) -> Result<Mapping, Failure> {
    let text = program_file::read_text(path)?;
    schedule::parse(&text).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

fn import(arguments: &ImportArguments, out: &Output) -> Result<Outcome, Failure> {
    let path: &Path = &arguments.file;
    let named = |error: formats::FormatError| Failure::Input(format!("{}: {error}", path.display()));
    let text = program_file::read_text(path)?;
    if extension(path) == "csv" {
        return import_topology(arguments, &text, out);
    }
    let mut document = match extension(path).as_str() {
        "yaml" | "yml" => timeloop::parse(&text).map_err(named)?,
        _ => timeloop::Document::default(),
    };
    if let Some(file) = &arguments.problem {
        if document.problem.is_some() {
            return Err(Failure::Usage(format!("{} has a problem itself: leave out --problem", path.display())));
        }
        let problem_text = program_file::read_text(file)?;
        let other = timeloop::parse(&problem_text).map_err(|e| Failure::Input(format!("{}: {e}", file.display())))?;
        document.problem = other.problem;
        document.config = document.config.or(other.config);
    }
    let problem = document.problem.ok_or_else(|| {
        Failure::Input(format!("{}: no problem: give its sizes with --problem FILE (Timeloop's YAML)", path.display()))
    })?;
    let config = match optional_configuration(arguments.config.as_ref())? {
        Some(config) => config,
        None => document.config.map_or_else(|| configuration("default16"), Ok)?,
    };
    let (mapping, remarks) = match extension(path).as_str() {
        "toml" => (schedule::parse(&text).map_err(named)?, Vec::new()),
        "txt" => map_text::parse(&text).map_err(named)?.mapping(&config, &problem).map_err(named)?,
        "yaml" | "yml" => match &document.nest {
            Some(nest) => nest.mapping(&config, &problem).map_err(named)?,
            None => (Mapping::gemmini(&config, &problem), vec!["no mapping in the file: Gemmini's own".to_owned()]),
        },
        "dosa" => dosa::parse(&text).map_err(named)?.mapping(&config, &problem).map_err(named)?,
        other => {
            return Err(Failure::Input(format!(
                "{}: `{other}` is no form of a mapping: expected .toml, .yaml, .txt, .dosa or .csv",
                path.display()
            )));
        }
    };
    mapping.check(&config, &problem).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let run =
        |mapping: &Mapping| emulate::cycles(&config, &problem, mapping, &around, u64::MAX).map_err(Failure::input);
    let cycles = progress::during(out, "running", || run(&mapping))?;
    let own = Mapping::gemmini(&config, &problem);
    let default_cycles = match own.check(&config, &problem) {
        Ok(()) => Some(progress::during(out, "running", || run(&own))?),
        Err(_) => None,
    };
    if let Some(path) = &arguments.output {
        write_mapping(path, &config, &problem, &mapping, out)?;
    }
    remarks.iter().for_each(|remark| out.note(&format!("note: {remark}")));
    out.json(&json!({
        "problem": problem, "config": config.name, "memory": around.memory, "cycles": cycles, "default_cycles": default_cycles,
        "schedule": mapping, "remarks": remarks,
    }))?;
    let default = default_cycles.map_or("does not fit".to_owned(), |cycles| counted(cycles, "cycle"));
    out.text(&format!(
        "{problem} on {}, memory {}\n\n{}\n{}; Gemmini's own rule: {default}\n",
        config.name,
        around.memory,
        nest_text(&config, &problem, &mapping),
        counted(cycles, "cycle"),
    ))?;
    Ok(Outcome::Agrees)
}

/// Layers of a topology, each by Gemmini's own mapping.
fn import_topology(arguments: &ImportArguments, text: &str, out: &Output) -> Result<Outcome, Failure> {
    let path: &Path = &arguments.file;
    if arguments.output.is_some() || arguments.problem.is_some() {
        return Err(Failure::Usage(
            "a topology has problems and no mapping: leave out --problem and --output".to_owned(),
        ));
    }
    let layers = formats::scale_sim::parse(text).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
    let config = optional_configuration(arguments.config.as_ref())?.map_or_else(|| configuration("default16"), Ok)?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let bar = progress::bar(out, layers.len() as u64, "layers");
    let (mut rows, mut documents) =
        (vec![["layer", "operation", "ideal", "cycles"].map(str::to_owned).to_vec()], Vec::new());
    for (name, problem) in &layers {
        let at = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {name}: {error}", path.display()));
        let mapping = Mapping::gemmini(&config, problem);
        mapping.check(&config, problem).map_err(|error| at(&error))?;
        let cycles = emulate::cycles(&config, problem, &mapping, &around, u64::MAX).map_err(|error| at(&error))?;
        let ideal = problem.macs().div_ceil(u64::from(config.dim()).pow(2));
        rows.push(vec![name.clone(), problem.to_string(), grouped(ideal), grouped(cycles)]);
        documents.push(json!({ "name": name, "problem": problem, "cycles": cycles, "schedule": mapping }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.json(&json!({ "config": config.name, "memory": around.memory, "layers": documents }))?;
    out.text(&table(&rows))?;
    Ok(Outcome::Agrees)
}

/// Mappings that the model prices in a comparison of searches.
const COMPARED_EVALUATIONS: usize = 4000;

/// Runs longer than so many times the ideal are stopped and left out.
const LONGEST_RUN: u64 = 60;

/// What the models are tried on: no shape of the studies, none that anything was adjusted on.
fn evaluation_problems(operation: OperationName) -> Vec<Problem> {
    let conv = |batch, size, channels, out, kernel: usize, stride| {
        let shape = ConvShape::new(batch, [size, size, channels], out, kernel);
        Problem::conv(ConvShape { stride, padding: kernel as isize / 2, ..shape })
    };
    let products = [(192, 192, 192), (80, 320, 160), (144, 100, 400), (320, 48, 96), (48, 640, 128), (256, 128, 320)];
    let mut problems = Vec::new();
    if operation != OperationName::Conv {
        problems.extend(products.map(|(m, n, k)| Problem::matmul(m, n, k)));
    }
    if operation != OperationName::Matmul {
        problems.extend([
            conv(1, 16, 48, 80, 3, 1),
            conv(1, 20, 64, 64, 3, 2),
            conv(2, 10, 96, 64, 3, 1),
            conv(1, 24, 32, 128, 1, 1),
            conv(1, 40, 3, 24, 5, 2),
        ]);
    }
    problems
}

fn evaluate_models(arguments: &EvaluateArguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let limits = Limits { emission: arguments.emission.map(EmissionName::value), ..Limits::default() };
    let problems = evaluation_problems(arguments.operation);
    let bar = progress::bar(out, problems.len() as u64 * u64::from(arguments.samples), "runs");
    let how = (arguments.samples as usize, LONGEST_RUN, arguments.seed, jobs(arguments.jobs));
    let samples = evaluate::samples(&config, &problems, &around, &limits, how, &|runs| bar.inc(runs));
    bar.finish_and_clear();
    let (samples, left_out) = samples.map_err(Failure::input)?;
    let learned = arguments.learned.as_ref().map(|path| train::read(path, &problems)).transpose()?;
    let accuracies = evaluate::accuracies_with(&config, &problems, &around, &samples, learned.as_ref());
    let searches =
        arguments.searches.map(|runs| compare_searches(arguments, &problems, &around, runs, out)).transpose()?;
    let tightness: f64 =
        samples.iter().map(|s| s.bound as f64 / s.cycles as f64).sum::<f64>() / samples.len().max(1) as f64;
    let spaces: BTreeMap<String, u128> = problems
        .iter()
        .filter(|problem| matches!(problem, Problem::Matmul(_)))
        .map(|problem| (problem.to_string(), Mapspace::new(&config, problem, &limits).size().mappings))
        .collect();
    out.json(&json!({
        "config": config.name, "memory": around.memory, "samples": samples.len(), "left_out": left_out,
        "models": accuracies, "training": learned.as_ref().map(|learned| &learned.training), "bound_of_cycles": tightness, "product_spaces": spaces, "searches": searches,
    }))?;
    let heading = ["model", "MAPE, %", "p95, %", "signed, %", "Spearman", "within", "regret, %", "us a mapping"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(accuracies.iter().map(|a: &Accuracy| {
        vec![
            a.model.name().to_owned(),
            format!("{:.1}", a.mape),
            format!("{:.1}", a.p95),
            format!("{:+.1}", a.signed),
            format!("{:.3}", a.spearman),
            format!("{:.3}", a.spearman_within),
            format!("{:.1}", a.regret),
            format!("{:.2}", a.microseconds),
        ]
    }));
    out.text(&format!(
        "{} on {}, memory {}; {left_out} stopped or refused\n\n{}\nthe bound is {:.0} % of the cycles on average\n",
        counted(samples.len() as u64, "mapping"),
        config.name,
        around.memory,
        table(&rows),
        100.0 * tightness,
    ))?;
    out.text(&searches.as_deref().map(searches_text).unwrap_or_default())?;
    Ok(Outcome::Agrees)
}

/// The searches side by side, on the same operations.
fn compare_searches(
    arguments: &EvaluateArguments,
    problems: &[Problem],
    around: &Surroundings,
    runs: u32,
    out: &Output,
) -> Result<Vec<SearchRegret>, Failure> {
    let config = configuration(&arguments.config)?;
    let prices = energy_table(ENERGY_TABLE)?.prices(&config).map_err(Failure::input)?;
    let settings = Settings {
        objective: Objective::Cycles,
        method: Method::Auto,
        limits: Limits { emission: arguments.emission.map(EmissionName::value), ..Limits::default() },
        emulated_cycles: 0,
        evaluations: COMPARED_EVALUATIONS,
        seed: arguments.seed,
        threads: jobs(arguments.jobs),
        prices: &prices,
        clock_hz: 1e9,
    };
    let bar = progress::bar(out, 5 * problems.len() as u64, "searches");
    let regrets = evaluate::searches(&config, problems, around, (&settings, runs.into()), &mut || bar.inc(1));
    bar.finish_and_clear();
    regrets.map_err(Failure::input)
}

fn searches_text(regrets: &[SearchRegret]) -> String {
    let heading = ["search", "regret, %", "worst, %", "best of", "gain", "priced", "run"].map(str::to_owned).to_vec();
    let row = |r: &SearchRegret| {
        vec![
            r.method.to_string(),
            format!("{:.2}", r.regret),
            format!("{:.2}", r.worst),
            r.best.to_string(),
            format!("{:.3}", r.gain),
            format!("{:.0}", r.evaluated),
            format!("{:.0}", r.simulated),
        ]
    };
    format!("\n{}", table(&[vec![heading], regrets.iter().map(row).collect()].concat()))
}
