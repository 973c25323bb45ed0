//! `pollux map evaluate`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use pollux_energy::Prices;
use pollux_isa::ValidConfig;
use pollux_kernels::ConvShape;
use pollux_mapper::evaluate::{self, Accuracy, SearchRegret};
use pollux_mapper::search::{Method, Objective, Settings};
use pollux_mapper::whole::{WholeSpace, whole_space};
use pollux_mapper::{Limits, Mapspace, Problem, Surroundings};
use pollux_sim::memory::MemoryModel;
use serde_json::json;

use super::{ENERGY_TABLE, EmissionName, jobs, train};
use crate::arguments::configuration;
use crate::energy::table as energy_table;
use crate::failure::{Failure, Outcome};
use crate::files::InputPath;
use crate::output::{Output, counted, grouped, table};
use crate::{progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux map evaluate
  pollux map evaluate --samples 100 --memory bandwidth:bytes=8 --json
  pollux map evaluate --learned learned.json --searches 16
  pollux map evaluate --operation conv --emission unroller
  pollux map evaluate --emission unroller --whole-spaces 8";

/// How good the models are against the emulator, on mappings drawn uniformly from the whole space of some operations.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
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
    /// Run some small spaces whole as well, and compare models and searches with the true optimum: each search with as many emulated
    /// cycles as so many runs of Gemmini's own mapping take.
    #[arg(long, value_name = "RUNS", value_parser = values::count::<u32>())]
    whole_spaces: Option<u32>,
    /// Runs of the emulator at the same time; by default one a core.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperationName {
    All,
    Matmul,
    Conv,
}

/// Mappings that the model prices in a comparison of searches.
const COMPARED_EVALUATIONS: usize = 4000;

/// Mappings of a space that runs whole, at most.
const MOST_OF_A_SPACE: u128 = 5000;

/// Runs longer than so many times the ideal are stopped and left out.
pub const LONGEST_RUN: u64 = 60;

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

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
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
    let prices = energy_table(ENERGY_TABLE)?.prices(&config).map_err(Failure::input)?;
    let settings = settings(arguments, &prices);
    let compare = |runs| compare_searches(&config, &settings, &problems, &around, runs, out);
    let searches = arguments.searches.map(compare).transpose()?;
    let whole = |runs| whole_spaces(&config, &settings, (arguments.operation, runs), &around, out);
    let spaces = arguments.whole_spaces.map(whole).transpose()?.unwrap_or_default();
    let tightness: f64 =
        samples.iter().map(|s| s.bound as f64 / s.cycles as f64).sum::<f64>() / samples.len().max(1) as f64;
    let sizes: BTreeMap<String, u128> = problems
        .iter()
        .filter(|problem| matches!(problem, Problem::Matmul(_)))
        .map(|problem| (problem.to_string(), Mapspace::new(&config, problem, &limits).size().mappings))
        .collect();
    out.json(&json!({
        "config": config.name, "memory": around.memory, "samples": samples.len(), "left_out": left_out,
        "models": accuracies, "training": learned.as_ref().map(|learned| &learned.training), "bound_of_cycles": tightness, "product_spaces": sizes, "searches": searches,
        "whole_spaces": arguments.whole_spaces.is_some().then_some(&spaces),
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
    if !spaces.is_empty() {
        out.text(&spaces_text(&spaces))?;
    }
    Ok(Outcome::Agrees)
}

/// Operations with spaces that run whole in seconds, in the form of the unroller: ragged and even ones, small convolutions.
fn small_problems(operation: OperationName) -> Vec<Problem> {
    let conv = |size, channels, out, kernel: usize| {
        let shape = ConvShape::new(1, [size, size, channels], out, kernel);
        Problem::conv(ConvShape { padding: kernel as isize / 2, ..shape })
    };
    let products = [(48, 64, 48), (50, 70, 40), (16, 200, 90), (100, 30, 64), (96, 80, 112), (70, 130, 100)];
    let mut problems = Vec::new();
    if operation != OperationName::Conv {
        problems.extend(products.map(|(m, n, k)| Problem::matmul(m, n, k)));
    }
    if operation != OperationName::Matmul {
        problems.extend([conv(4, 20, 24, 1), conv(5, 24, 20, 1)]);
    }
    problems
}

/// The small operations, each run whole; those with too many mappings in the chosen form are left out.
fn whole_spaces(
    config: &ValidConfig,
    settings: &Settings<'_>,
    (operation, runs): (OperationName, u32),
    around: &Surroundings,
    out: &Output,
) -> Result<Vec<WholeSpace>, Failure> {
    let problems = small_problems(operation);
    let bar = progress::bar(out, problems.len() as u64, "spaces");
    let mut spaces = Vec::new();
    for problem in &problems {
        let how = (settings, u64::from(runs), MOST_OF_A_SPACE);
        spaces.extend(whole_space(config, problem, around, how).map_err(Failure::input)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(spaces)
}

fn spaces_text(spaces: &[WholeSpace]) -> String {
    let models = spaces[0].models.iter().map(|(model, _)| model.name().to_owned());
    let searches = spaces[0].searches.iter().map(|(method, ..)| method.to_string());
    let first = ["operation", "mappings", "best", "worst", "Gemmini's rule"].map(str::to_owned);
    let heading: Vec<String> = first.into_iter().chain(models).chain(searches).collect();
    let row = |space: &WholeSpace| {
        let regrets = space.models.iter().map(|(_, regret)| *regret);
        let regrets = regrets.chain(space.searches.iter().map(|(_, regret, _)| *regret));
        let cycles = [space.cycles[0], space.cycles[1], space.gemmini].map(grouped);
        let first = [space.problem.clone(), space.mappings.to_string()].into_iter().chain(cycles);
        first.chain(regrets.map(|regret| format!("{regret:.2}"))).collect()
    };
    let rows = [vec![heading], spaces.iter().map(row).collect()].concat();
    format!("\nspaces that ran whole: cycles, and regrets of models and searches in %\n\n{}", table(&rows))
}

/// How searches are compared, but for their budget.
fn settings<'a>(arguments: &Arguments, prices: &'a Prices) -> Settings<'a> {
    Settings {
        objective: Objective::Cycles,
        method: Method::Auto,
        limits: Limits { emission: arguments.emission.map(EmissionName::value), ..Limits::default() },
        emulated_cycles: 0,
        evaluations: COMPARED_EVALUATIONS,
        seed: arguments.seed,
        threads: jobs(arguments.jobs),
        prices,
        clock_hz: 1e9,
    }
}

/// The searches side by side, on the same operations.
fn compare_searches(
    config: &ValidConfig,
    settings: &Settings<'_>,
    problems: &[Problem],
    around: &Surroundings,
    runs: u32,
    out: &Output,
) -> Result<Vec<SearchRegret>, Failure> {
    let bar = progress::bar(out, 5 * problems.len() as u64, "searches");
    let regrets = evaluate::searches(config, problems, around, (settings, runs.into()), &mut || bar.inc(1));
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
