//! `pollux map gains`: the products and convolutions of Autocomp's and Exo's benchmarks, by Gemmini's rule and by the mapper.

use clap::Args;
use pollux_kernels::{ConvShape, Emission};
use pollux_mapper::model::{Costs, classic};
use pollux_mapper::search::{self, Method, Objective, Settings};
use pollux_mapper::{Limits, Problem, Surroundings};
use pollux_sim::memory::MemoryModel;
use serde::Serialize;
use serde_json::json;

use super::{CYCLES_A_SECOND, ENERGY_TABLE, EmissionName, jobs};
use crate::arguments::configuration;
use crate::energy::table as energy_table;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted, grouped, table};
use crate::{progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux map gains
  pollux map gains --memory bandwidth:bytes=8 --budget 20 --json
  pollux map gains --only 8 --only 18 --budget 2";

/// Products, rows x summed x columns, of `exo` and `gemm`; convolutions of `exo-conv`, 3 x 3 with stride 1 on four images: rows and columns,
/// channels (`ucb-bar/autocomp`, dd26a56).
const EXO: [[usize; 3]; 6] =
    [[512, 512, 512], [12544, 64, 256], [12544, 256, 64], [3136, 128, 512], [3136, 512, 128], [784, 256, 1024]];
const GEMM: [[usize; 3]; 9] = [
    [32, 2048, 2048],
    [1024, 1024, 1024],
    [256, 256, 256],
    [6272, 64, 256],
    [12544, 64, 128],
    [12544, 128, 256],
    [128, 1024, 1024],
    [64, 1024, 1024],
    [32, 1024, 1024],
];
const EXO_CONV: [[usize; 2]; 4] = [[56, 64], [28, 128], [14, 256], [14, 128]];

/// The products and convolutions on which Autocomp and Exo were timed: Gemmini's own rule, what the mapper finds, the ideal and the bound.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// Seconds of emulation of each operation, counted as in `pollux map matmul`.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86400))]
    budget: u32,
    /// Mappings of each operation that the analytical model prices at most; an exhaustive search prices all.
    #[arg(long, value_name = "N", default_value_t = 20000, value_parser = values::count::<u32>())]
    evaluations: u32,
    /// Form of the mappings.
    #[arg(long, default_value = "unroller")]
    emission: EmissionName,
    /// Only the operation of this number, from 0. May be given several times.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=18))]
    only: Vec<u8>,
    /// Seed of all that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of the emulator at the same time; by default one a core. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
}

/// An operation's figures, in cycles.
#[derive(Serialize)]
struct Row {
    number: usize,
    operation: String,
    /// Multiply-accumulates over those of a cycle.
    ideal_cycles: u64,
    /// Gemmini's own rule in the unrollers.
    default_cycles: u64,
    cycles: u64,
    /// What no mapping that was looked at can do without.
    lower_bound_cycles: u64,
    gain: f64,
    evaluated: u64,
    simulated: u64,
    proved_optimal: bool,
    mapping: String,
}

/// The operations with their names.
fn operations() -> Vec<(String, Problem)> {
    let product =
        |set: &'static str| move |[m, k, n]: [usize; 3]| (format!("{set} {m} x {k} x {n}"), Problem::matmul(m, n, k));
    let convolution = |[size, channels]: [usize; 2]| {
        let shape = ConvShape { padding: 1, ..ConvShape::new(4, [size, size, channels], channels, 3) };
        (format!("exo-conv {size} x {size}, {channels} to {channels}"), Problem::conv(shape))
    };
    let products = EXO.map(product("exo")).into_iter().chain(GEMM.map(product("gemm")));
    products.chain(EXO_CONV.map(convolution)).collect()
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let prices = energy_table(ENERGY_TABLE)?.prices(&config).map_err(Failure::input)?;
    let settings = Settings {
        objective: Objective::Cycles,
        method: Method::Auto,
        limits: Limits { emission: Some(arguments.emission.value()), ..Limits::default() },
        emulated_cycles: u64::from(arguments.budget) * CYCLES_A_SECOND,
        evaluations: arguments.evaluations as usize,
        seed: arguments.seed,
        threads: jobs(arguments.jobs),
        prices: &prices,
        clock_hz: 1e9,
    };
    let wanted = |number: usize| arguments.only.is_empty() || arguments.only.contains(&(number as u8));
    let chosen: Vec<_> = operations().into_iter().enumerate().filter(|(number, _)| wanted(*number)).collect();
    let bar = progress::bar(out, chosen.len() as u64, "operations");
    let mut rows = Vec::new();
    for (number, (operation, problem)) in chosen {
        let found = search::search(&config, &problem, &around, &settings, &mut |_| {}).map_err(Failure::input)?;
        let of = |candidate: &search::Candidate| candidate.result.map_or(0, |result| result.cycles);
        let costs = Costs::new(&config, &problem, &around);
        let (default_cycles, cycles) = (of(&found.gemmini), of(&found.best));
        rows.push(Row {
            number,
            operation,
            ideal_cycles: classic::roofline(costs.machine(), &problem, 0) as u64,
            default_cycles,
            cycles,
            lower_bound_cycles: found.lower_bound,
            gain: default_cycles as f64 / cycles as f64,
            evaluated: found.evaluated,
            simulated: found.simulated,
            proved_optimal: found.proved_optimal,
            mapping: found.best.mapping.to_string(),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mean = (rows.iter().map(|row| row.gain.ln()).sum::<f64>() / rows.len().max(1) as f64).exp();
    out.json(&json!({
        "config": config.name, "memory": around.memory, "budget": arguments.budget,
        "evaluations": arguments.evaluations, "emission": if arguments.emission.value() == Emission::Unroller { "unroller" } else { "commands" },
        "seed": arguments.seed, "geometric_mean": mean, "operations": rows,
    }))?;
    let heading = ["no.", "operation", "ideal", "Gemmini's rule", "found", "bound", "gain", "of ideal"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        vec![
            row.number.to_string(),
            row.operation.clone(),
            grouped(row.ideal_cycles),
            grouped(row.default_cycles),
            grouped(row.cycles),
            grouped(row.lower_bound_cycles),
            format!("{:.3}", row.gain),
            format!("{:.3}", row.cycles as f64 / row.ideal_cycles as f64),
        ]
    }));
    out.text(&format!(
        "{} on {}, memory {}; cycles\n\n{}\ngeometric mean of the gains: {mean:.3}\n",
        counted(rows.len() as u64, "operation"),
        config.name,
        around.memory,
        table(&lines),
    ))?;
    Ok(Outcome::Agrees)
}
