//! `pollux map`

mod evaluate;
mod gains;
mod html;
mod import;
mod network;
mod record;
mod train;
mod warm;

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use pollux_energy::Prices;
use pollux_isa::ValidConfig;
use pollux_kernels::{ConvShape, Dataflow, Emission, Pool};
use pollux_mapper::formats::{Nest, dosa, map_text, schedule, timeloop};
use pollux_mapper::model::{Costs, classic};
use pollux_mapper::search::{self, Candidate, Found, Method, Objective, Record, Settings, Step};
use pollux_mapper::{ConvProblem, Factors, Limits, Mapping, MatmulProblem, Problem, ReadOut, Surroundings};
use pollux_sim::memory::MemoryModel;
use serde_json::{Value, json};

use crate::arguments::configuration;
use crate::energy::{CLOCK, table as energy_table};
use crate::failure::{Failure, Outcome};
use crate::files::OutputPath;
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
    Import(import::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Gains(gains::Arguments),
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
    /// Run the result, and Gemmini's own mapping, twice in a row as well and report the second runs: the memory's caches hold what the
    /// first left.
    #[arg(long)]
    warm: bool,
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
        Command::Import(arguments) => import::execute(arguments, out),
        Command::Train(arguments) => train::execute(arguments, out),
        Command::Evaluate(arguments) => evaluate::execute(arguments, out),
        Command::Gains(arguments) => gains::execute(arguments, out),
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
    if arguments.warm {
        warm::check(&around)?;
    }
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
    let warm = arguments.warm.then(|| warm::Warm::measure(&config, problem, &around, &found)).transpose()?;
    let report = Report { problem, config: &config, around: &around, arguments, found: &found, warm };
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
    warm: Option<warm::Warm>,
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
            "warm": self.warm,
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
        if let Some(warm) = &self.warm {
            out.push_str(&warm.text());
        }
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
