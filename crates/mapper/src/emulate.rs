//! The last word on a mapping: its program on the cycle-level emulator.

use pollux_asm::Program;
use pollux_isa::{StreamItem, ValidConfig};
use pollux_kernels::KernelError;
use pollux_memory::Memory;
use pollux_sim::counts::{CountingObserver, EventCounts};
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::{Cycle, NoObserver, Observer};
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_sim::runner::Runner;
use pollux_sim::simulation::RunError;
use thiserror::Error;

use crate::mapping::Mapping;
use crate::problem::Problem;

/// What stands around the accelerator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surroundings {
    /// Memory system.
    pub memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    pub interval: u64,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { memory: MemoryModel::default(), interval: 1 }
    }
}

/// Why a mapping could not be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmulationError {
    /// It cannot be emitted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The run did not come to its end.
    #[error("{0}")]
    Run(RunError),
}

impl EmulationError {
    /// Whether the run was stopped at its limit.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Run(RunError::Limit { .. }))
    }
}

/// Mappings of a shard, which one [`Emulator`] runs.
pub(crate) const SHARD: usize = 64;
/// Bytes that an [`Emulator`] keeps of what it has simulated.
const SITUATION_BYTES: usize = 64 << 20;

/// Runs mappings on one build, one after the other: what was simulated for one is replayed in the next.
#[derive(Debug)]
pub struct Emulator<'c> {
    config: &'c ValidConfig,
    around: Surroundings,
    situations: ReplayTable,
}

impl<'c> Emulator<'c> {
    /// One that has run nothing.
    pub fn new(config: &'c ValidConfig, around: &Surroundings) -> Self {
        Self { config, around: *around, situations: ReplayTable::new() }
    }

    /// So many, one for each thread.
    pub fn several(config: &'c ValidConfig, around: &Surroundings, threads: usize) -> Vec<Self> {
        (0..threads.max(1)).map(|_| Self::new(config, around)).collect()
    }

    /// As [`cycles`].
    ///
    /// # Errors
    /// As [`cycles`].
    pub fn cycles(&mut self, problem: &Problem, mapping: &Mapping, limit: Cycle) -> Result<Cycle, EmulationError> {
        let program = mapping.program(self.config, problem)?;
        run(self.config, &program, &self.around, limit, &mut NoObserver, Some(&mut self.situations))
    }

    /// As [`counted`].
    ///
    /// # Errors
    /// As [`cycles`].
    pub fn counted(
        &mut self,
        problem: &Problem,
        mapping: &Mapping,
        limit: Cycle,
    ) -> Result<(Cycle, EventCounts), EmulationError> {
        let program = mapping.program(self.config, problem)?;
        let mut counter = CountingObserver::default();
        let cycles = run(self.config, &program, &self.around, limit, &mut counter, Some(&mut self.situations))?;
        Ok((cycles, counter.total()))
    }
}

/// Cycles of a mapping from the first command until the accelerator is idle; at most `limit`.
///
/// # Errors
/// A mapping that cannot be emitted, or a run that does not come to its end.
pub fn cycles(
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    around: &Surroundings,
    limit: Cycle,
) -> Result<Cycle, EmulationError> {
    let program = mapping.program(config, problem)?;
    run(config, &program, around, limit, &mut NoObserver, None)
}

/// Cycles of the second of two runs in a row: caches hold what the first left there. The first has come to its end when the second
/// begins.
///
/// # Errors
/// As [`cycles`].
pub fn second_run(
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    around: &Surroundings,
) -> Result<Cycle, EmulationError> {
    let mut program = mapping.program(config, problem)?;
    let first = run(config, &program, around, Cycle::MAX, &mut NoObserver, None)?;
    let again = program.items.clone();
    program.items.push(StreamItem::Fence);
    program.items.extend(again);
    Ok(run(config, &program, around, Cycle::MAX, &mut NoObserver, None)? - first)
}

/// Cycles of a run, and what the emulator counts.
///
/// # Errors
/// As [`cycles`].
pub fn counted(
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    around: &Surroundings,
    limit: Cycle,
) -> Result<(Cycle, EventCounts), EmulationError> {
    let program = mapping.program(config, problem)?;
    let mut counter = CountingObserver::default();
    let cycles = run(config, &program, around, limit, &mut counter, None)?;
    Ok((cycles, counter.total()))
}

/// The same with an observer of its own.
///
/// # Errors
/// As [`cycles`].
pub fn observed(
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    around: &Surroundings,
    observer: &mut impl Observer,
) -> Result<Cycle, EmulationError> {
    let program = mapping.program(config, problem)?;
    run(config, &program, around, Cycle::MAX, observer, None)
}

/// Runs a program by replay, without its values: no divisor of a normalization is zero.
fn run(
    config: &ValidConfig,
    program: &Program,
    around: &Surroundings,
    limit: Cycle,
    observer: &mut impl Observer,
    situations: Option<&mut ReplayTable>,
) -> Result<Cycle, EmulationError> {
    let runner = Runner::new(config).memory(around.memory).interval(around.interval).limit(limit);
    let mut runner = runner.without_values();
    if let Some(situations) = situations {
        let options = ReplayOptions { table_bytes: SITUATION_BYTES, ..ReplayOptions::default() };
        runner = runner.replay(Some(options)).replay_table(situations);
    }
    match runner.run(program.items.clone(), Memory::new(), observer) {
        Ok(outcome) => Ok(outcome.summary.busy_falls),
        Err(stopped) => Err(EmulationError::Run(stopped.error)),
    }
}

#[cfg(test)]
mod tests {
    use pollux_isa::GemminiConfig;

    use super::*;

    #[test]
    fn a_second_run_finds_what_the_first_left_in_the_cache() {
        let config = GemminiConfig::default16().validated().expect("a build");
        let problem = Problem::matmul(64, 64, 96);
        let mapping = Mapping::gemmini(&config, &problem);
        let both = |memory: &str| {
            let around = Surroundings { memory: memory.parse().expect("a memory"), interval: 1 };
            let first = cycles(&config, &problem, &mapping, &around, Cycle::MAX).expect("a run");
            (first, second_run(&config, &problem, &mapping, &around).expect("two runs"))
        };
        let (cold, warm) = both("dram");
        assert!(warm < cold, "{warm}, {cold}");
        // A memory without a cache leaves nothing: but for the cycles that a fence takes the two are alike.
        let (first, second) = both("bench");
        assert!(first.abs_diff(second) <= 4, "{first}, {second}");
    }
}
