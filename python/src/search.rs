//! Mappings: searched, drawn, checked, priced.

use std::collections::HashSet;

use pollux_mapper::model::Costs;
use pollux_mapper::random::Random;
use pollux_mapper::search::{self as mapper, Candidate, Method, Objective, Settings, Step};
use pollux_mapper::{Limits, Mapping, Mapspace, Problem, Surroundings, emulate};
use pollux_sim::simulation::RunError;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::errors;
use crate::run::{memory_model, prices};

/// Emulated cycles that a second of the budget stands for, as `pollux map` has it.
const CYCLES_A_SECOND: u64 = 2_000_000;
/// Draws of a known mapping in a row, after which there are taken to be no others.
const MOST_REPEATS: usize = 10_000;

/// How mappings are searched.
#[derive(Deserialize)]
struct Options {
    memory: String,
    interval: u64,
    objective: Objective,
    search: Method,
    budget: u64,
    evaluations: usize,
    seed: u64,
    limits: Limits,
    energy_table: String,
    clock_hz: f64,
    jobs: usize,
}

fn problem(text: &str) -> PyResult<Problem> {
    serde_json::from_str(text).map_err(errors::input)
}

fn surroundings(memory: &str, interval: u64) -> PyResult<Surroundings> {
    Ok(Surroundings { memory: memory_model(memory)?, interval })
}

/// The document of `pollux map --json`.
#[pyfunction]
pub fn search(py: Python<'_>, config: &Config, problem_text: &str, options: &str) -> PyResult<String> {
    let (config, problem) = (&config.0, problem(problem_text)?);
    let options: Options = serde_json::from_str(options).map_err(errors::input)?;
    let prices = prices(&options.energy_table, config)?;
    let around = surroundings(&options.memory, options.interval)?;
    let settings = Settings {
        objective: options.objective,
        method: options.search,
        limits: options.limits,
        emulated_cycles: options.budget.saturating_mul(CYCLES_A_SECOND),
        evaluations: options.evaluations,
        seed: options.seed,
        threads: options.jobs.max(1),
        prices: &prices,
        clock_hz: options.clock_hz,
    };
    let found = errors::interruptible(py, |tick| {
        mapper::search(config, &problem, &around, &settings, &mut |Step::Round(_)| tick())
            .map_err(|error| error.to_string())
    })?;
    let found = found.map_err(errors::input)?;
    let result = |candidate: &Candidate| {
        candidate.result.map(|r| {
            json!({ "cycles": r.cycles, "energy_pj": r.energy_pj, "bytes": r.bytes(), "edp": r.edp(options.clock_hz), "estimate": candidate.estimate,
                    "bound": candidate.bound, "schedule": candidate.mapping })
        })
    };
    let best = found.best.result;
    let front: Vec<Value> = mapper::pareto(&found.candidates)
        .iter()
        .map(|(mapping, result)| json!({ "cycles": result.cycles, "energy_pj": result.energy_pj, "schedule": mapping }))
        .collect();
    let document = json!({
        "problem": problem, "config": config.name, "memory": around.memory, "objective": options.objective,
        "search": found.method, "seed": options.seed, "cycles": best.map(|r| r.cycles),
        "default_cycles": found.gemmini.result.map(|r| r.cycles), "lower_bound_cycles": found.lower_bound,
        "ideal_cycles": problem.macs().div_ceil(u64::from(config.dim()).pow(2)), "energy_pj": best.map(|r| r.energy_pj),
        "default_energy_pj": found.gemmini.result.map(|r| r.energy_pj), "edp": best.map(|r| r.edp(options.clock_hz)),
        "bytes": best.map(|r| r.bytes()), "macs": problem.macs(), "evaluated": found.evaluated,
        "simulated": found.simulated, "proved_optimal": found.proved_optimal, "schedule": found.best.mapping,
        "default": result(&found.gemmini), "candidates": found.candidates.iter().filter_map(result).collect::<Vec<_>>(),
        "pareto": front,
    });
    Ok(document.to_string())
}

/// Different mappings, drawn uniformly: fewer than asked for if there are no more.
#[pyfunction]
pub fn sample(
    py: Python<'_>,
    config: &Config,
    problem_text: &str,
    limits: &str,
    count: usize,
    seed: u64,
) -> PyResult<String> {
    let (config, problem) = (&config.0, problem(problem_text)?);
    let limits: Limits = serde_json::from_str(limits).map_err(errors::input)?;
    let draw = || {
        let space = Mapspace::new(config, &problem, &limits);
        let mut random = Random::new(seed);
        let (mut seen, mut drawn, mut repeats) = (HashSet::new(), Vec::new(), 0);
        while drawn.len() < count && repeats < MOST_REPEATS {
            let Some(mapping) = space.sample_mapping(&mut random) else { break };
            match seen.insert(mapping) {
                true => drawn.push(mapping),
                false => repeats += 1,
            }
        }
        drawn
    };
    Ok(json!(py.detach(draw)).to_string())
}

/// Gemmini's own mapping.
#[pyfunction]
pub fn gemmini_mapping(config: &Config, problem_text: &str) -> PyResult<String> {
    Ok(json!(Mapping::gemmini(&config.0, &problem(problem_text)?)).to_string())
}

/// Cycles of a mapping by the emulator, by the analytical model, and at least.
#[pyfunction]
#[pyo3(signature = (config, problem_text, mapping, memory, interval, limit, simulate))]
#[expect(clippy::too_many_arguments, reason = "a signature of the Python side")]
pub fn cost(
    py: Python<'_>,
    config: &Config,
    problem_text: &str,
    mapping: &str,
    memory: &str,
    interval: u64,
    limit: Option<u64>,
    simulate: bool,
) -> PyResult<(Option<u64>, f64, u64)> {
    let (config, problem) = (&config.0, problem(problem_text)?);
    let mapping: Mapping = serde_json::from_str(mapping).map_err(errors::input)?;
    mapping.check(config, &problem).map_err(errors::input)?;
    let around = surroundings(memory, interval)?;
    let costs = Costs::new(config, &problem, &around);
    let limit = limit.unwrap_or(u64::MAX);
    let run = || simulate.then(|| emulate::cycles(config, &problem, &mapping, &around, limit)).transpose();
    let cycles = py.detach(run).map_err(|error| match error {
        emulate::EmulationError::Run(error @ RunError::Limit { .. }) => errors::run(&error, None),
        other => errors::input(other),
    })?;
    Ok((cycles, costs.cycles(&mapping), costs.bound(&mapping)))
}

/// Layers of a SCALE-Sim topology: names and problems, as JSON.
#[pyfunction]
pub fn scale_sim(text: &str) -> PyResult<String> {
    let layers = pollux_mapper::formats::scale_sim::parse(text).map_err(errors::input)?;
    Ok(json!(layers).to_string())
}
