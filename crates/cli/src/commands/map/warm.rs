//! `--warm` of `pollux map`: runs in a row, for a memory with caches.

use pollux_isa::ValidConfig;
use pollux_mapper::search::{Candidate, Found};
use pollux_mapper::{Problem, Surroundings, emulate};
use pollux_sim::memory::MemoryModel;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::grouped;

/// Cycles of the second of two runs in a row.
#[derive(Serialize)]
pub struct Warm {
    /// Of what was found.
    cycles: u64,
    /// Of Gemmini's own mapping, if it fits.
    default_cycles: Option<u64>,
}

/// Refuses a memory that keeps nothing from one run to the next.
pub fn check(around: &Surroundings) -> Result<(), Failure> {
    match around.memory {
        MemoryModel::Bench(_) | MemoryModel::Bandwidth(_) => Err(Failure::Usage(format!(
            "{} has no cache, so that a second run is as the first: leave out --warm, or choose --memory dram, l2 or firesim",
            around.memory
        ))),
        _ => Ok(()),
    }
}

impl Warm {
    /// Runs the result of a search, and Gemmini's own mapping.
    pub fn measure(
        config: &ValidConfig,
        problem: &Problem,
        around: &Surroundings,
        found: &Found,
    ) -> Result<Self, Failure> {
        let second = |candidate: &Candidate| {
            emulate::second_run(config, problem, &candidate.mapping, around).map_err(Failure::input)
        };
        let default_cycles = found.gemmini.result.map(|_| second(&found.gemmini)).transpose()?;
        Ok(Self { cycles: second(&found.best)?, default_cycles })
    }

    /// A line for people.
    pub fn text(&self) -> String {
        let own = self.default_cycles.map(|own| format!(", Gemmini's own rule {}", grouped(own))).unwrap_or_default();
        format!("the second of two runs in a row: {} cycles{own}\n", grouped(self.cycles))
    }
}
