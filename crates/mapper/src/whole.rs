//! Spaces so small that the emulator runs every mapping: the true optimum, and how far searches and models are from it.

use std::ops::ControlFlow;

use pollux_isa::ValidConfig;
use pollux_shards::Shards;
use serde::Serialize;

use crate::emulate::{self, EmulationError, Emulator, SHARD, Surroundings};
use crate::mapping::Mapping;
use crate::model::{Costs, Model};
use crate::problem::Problem;
use crate::search::{self, Method, SearchError, Settings};
use crate::space::Mapspace;

/// A space that ran whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WholeSpace {
    /// The operation.
    pub problem: String,
    /// Mappings that ran: all that can be emitted.
    pub mappings: usize,
    /// Cycles of the best, and of the worst.
    pub cycles: [u64; 2],
    /// Cycles of Gemmini's own mapping, which need not be in the space.
    pub gemmini: u64,
    /// Cycles of the mapping that each model likes best, in percent above the best.
    pub models: Vec<(Model, f64)>,
    /// Cycles of what each search finds, in percent above the best or Gemmini's own if that is better, and how many mappings it ran.
    pub searches: Vec<(Method, f64, u64)>,
}

/// Runs all mappings of a problem, and each search with as many emulated cycles as `runs` runs of Gemmini's own mapping take. With fewer
/// than `most` mappings; `None` if there are more.
///
/// # Errors
/// A run that fails.
pub fn whole_space(
    config: &ValidConfig,
    problem: &Problem,
    around: &Surroundings,
    (settings, runs, most): (&Settings<'_>, u64, u128),
) -> Result<Option<WholeSpace>, SearchError> {
    let space = Mapspace::new(config, problem, &settings.limits);
    if space.size().mappings >= most {
        return Ok(None);
    }
    let mut mappings = Vec::new();
    let _ = space.for_each(|mapping| {
        mappings.push(mapping);
        ControlFlow::Continue(())
    });
    let ran = all(config, problem, around, &mappings, settings.threads)?;
    let costs = Costs::new(config, problem, around);
    let best = ran.iter().map(|(_, cycles)| *cycles).min().unwrap_or(0);
    let worst = ran.iter().map(|(_, cycles)| *cycles).max().unwrap_or(0);
    let above = |cycles: u64, best: u64| 100.0 * (cycles as f64 / best as f64 - 1.0);
    let models = Model::ALL.map(|model| {
        let by = |mapping: &Mapping| costs.by(model, mapping);
        let chosen = ran.iter().min_by(|a, b| by(&a.0).total_cmp(&by(&b.0)));
        (model, chosen.map_or(0.0, |(_, cycles)| above(*cycles, best)))
    });
    let own = emulate::cycles(config, problem, &Mapping::gemmini(config, problem), around, u64::MAX)?;
    let mut searches = Vec::new();
    for method in search::METHODS {
        let settings = Settings { method, emulated_cycles: own.saturating_mul(runs), ..*settings };
        let found = search::search(config, problem, around, &settings, &mut |_| {})?;
        let cycles = found.best.result.map_or(own, |result| result.cycles);
        searches.push((method, above(cycles, best.min(own)), found.simulated));
    }
    Ok(Some(WholeSpace {
        problem: problem.to_string(),
        mappings: ran.len(),
        cycles: [best, worst],
        gemmini: own,
        models: models.to_vec(),
        searches,
    }))
}

/// The mappings that can be emitted, in their order, and their cycles.
fn all(
    config: &ValidConfig,
    problem: &Problem,
    around: &Surroundings,
    mappings: &[Mapping],
    threads: usize,
) -> Result<Vec<(Mapping, u64)>, EmulationError> {
    let shards = Shards::new(mappings.len(), mappings.len().div_ceil(SHARD));
    let ran = pollux_shards::run(&shards, &mut Emulator::several(config, around, threads), |emulator, at| {
        match emulator.cycles(problem, &mappings[at], u64::MAX) {
            Ok(cycles) => Ok(Some((mappings[at], cycles))),
            // Some tiles of convolutions are refused only when they are emitted.
            Err(EmulationError::Kernel(_)) => Ok(None),
            Err(error) => Err(error),
        }
    });
    Ok(ran?.into_iter().flatten().collect())
}
