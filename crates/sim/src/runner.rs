//! [`Runner`]: how a program is run, from its configuration to its end.

use std::ops::ControlFlow;
use std::sync::Arc;

use pollux_isa::{StreamItem, ValidConfig};
use pollux_memory::Memory;
use thiserror::Error;

use crate::host::{Host, Processor, RunAheadHost, StreamHost};
use crate::machine::Machine;
use crate::memory::{BandwidthMemory, BenchMemory, DramL2Memory, FireSimMemory, MemoryModel, MemorySystem};
use crate::observation::event::Cycle;
use crate::observation::observer::Observer;
use crate::port::frontend_tlb::Translation;
use crate::simulation::{Position, RunError, RunSummary, Simulation, WATCHDOG};

/// Everything around a run: translation, memory system, issue interval, limit, and who watches it.
///
/// ```
/// use pollux_isa::{StreamItem, ValidConfig};
/// use pollux_memory::Memory;
/// use pollux_sim::observer::NoObserver;
/// use pollux_sim::runner::Runner;
///
/// let config = ValidConfig::default();
/// let mut runner = Runner::new(&config).memory("bench:latency=40".parse()?).limit(1_000_000);
/// let outcome = runner.run(vec![StreamItem::Wait(1000)], Memory::new(), &mut NoObserver)?;
/// assert!(outcome.summary.cycles > 1000 && outcome.summary.simulated < 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Runner<'a> {
    config: &'a ValidConfig,
    translation: Translation,
    memory: MemoryModel,
    interval: u64,
    processor: Option<Processor>,
    limit: Cycle,
    watchdog: u64,
    plain: bool,
    watch: Box<dyn FnMut(Position) -> ControlFlow<()> + 'a>,
}

/// What is left of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Totals.
    pub summary: RunSummary,
    /// Main memory.
    pub memory: Memory,
    /// The accelerator with its local memories.
    pub machine: Box<Machine>,
}

/// A run that did not come to its end, and what there is of it.
#[derive(Clone, Debug, Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct Stopped {
    /// Why it did not.
    pub error: RunError,
    /// As far as it came.
    pub outcome: Outcome,
}

impl<'a> Runner<'a> {
    /// A run with physical addresses, behind the memory of the golden bench, with a command of the host in every cycle and without a
    /// limit.
    pub fn new(config: &'a ValidConfig) -> Self {
        Self {
            config,
            translation: Translation::Bare,
            memory: MemoryModel::default(),
            interval: 1,
            processor: None,
            limit: Cycle::MAX,
            watchdog: WATCHDOG,
            plain: false,
            watch: Box::new(|_| ControlFlow::Continue(())),
        }
    }

    /// How addresses are translated.
    #[must_use]
    pub fn translation(self, translation: Translation) -> Self {
        Self { translation, ..self }
    }

    /// What stands behind the memory port.
    #[must_use]
    pub fn memory(self, memory: MemoryModel) -> Self {
        Self { memory, ..self }
    }

    /// Cycles from one command of the host to the next, at least; 0 counts as 1. For [`Runner::run`].
    #[must_use]
    pub fn interval(self, interval: u64) -> Self {
        Self { interval, ..self }
    }

    /// A processor that runs ahead of the accelerator instead of the golden bench's host, which waits with each command until it is
    /// accepted. For [`Runner::run`].
    #[must_use]
    pub fn processor(self, processor: Option<Processor>) -> Self {
        Self { processor, ..self }
    }

    /// Stops a run that has not come to its end after so many cycles.
    #[must_use]
    pub fn limit(self, limit: Cycle) -> Self {
        Self { limit, ..self }
    }

    /// Cycles in which something moves and nothing comes of it until a run is taken for a [livelock](RunError::Livelock).
    #[must_use]
    pub fn watchdog(self, watchdog: u64) -> Self {
        Self { watchdog, ..self }
    }

    /// Evaluates every block in every cycle, without the fast path, which gives the same result.
    #[must_use]
    pub fn plain(self, plain: bool) -> Self {
        Self { plain, ..self }
    }

    /// `watch` is told every few milliseconds how far the run is, and ends it by [`ControlFlow::Break`].
    #[must_use]
    pub fn watch(self, watch: impl FnMut(Position) -> ControlFlow<()> + 'a) -> Self {
        Self { watch: Box::new(watch), ..self }
    }

    /// Runs a stream of commands; `memory` is main memory at the start.
    ///
    /// # Errors
    /// A deadlock, the limit, or that who watches ended the run.
    pub fn run(
        &mut self,
        items: impl Into<Arc<[StreamItem]>>,
        mut memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome, Box<Stopped>> {
        let items = items.into();
        if let Some(processor) = self.processor {
            let host = RunAheadHost::new(items, processor, self.interval, &mut memory);
            return self.run_host(host, memory, observer);
        }
        let host = StreamHost::new(items, self.interval, &mut memory);
        self.run_host(host, memory, observer)
    }

    /// Like [`Runner::run`], with any source of commands.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_host(
        &mut self,
        host: impl Host,
        memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome, Box<Stopped>> {
        let beat_bytes = self.config.beat_bytes() as usize;
        match self.memory {
            MemoryModel::Bench(p) => self.simulate(host, BenchMemory::new(p, beat_bytes, memory), observer),
            MemoryModel::Bandwidth(p) => self.simulate(host, BandwidthMemory::new(p, beat_bytes, memory), observer),
            MemoryModel::Dram(p) => self.simulate(host, DramL2Memory::new(p, beat_bytes, memory), observer),
            MemoryModel::FireSim(p) => self.simulate(host, FireSimMemory::new(p, beat_bytes, memory), observer),
        }
    }

    fn simulate(
        &mut self,
        host: impl Host,
        memory: impl MemorySystem,
        observer: &mut impl Observer,
    ) -> Result<Outcome, Box<Stopped>> {
        let machine = Machine::new(self.config, self.translation);
        let mut simulation = Simulation::with_machine(machine, host, memory, observer.wants_events());
        if observer.wants_counts() {
            simulation.count_events(self.config);
        }
        simulation.skip_idle = !self.plain;
        simulation.watchdog = self.watchdog;
        let result = simulation.run_watched(observer, self.limit, &mut self.watch);
        let summary = simulation.summary();
        let outcome =
            Outcome { summary, memory: simulation.memory.into_memory(), machine: Box::new(simulation.machine) };
        match result {
            Ok(_) => Ok(outcome),
            Err(error) => Err(Box::new(Stopped { error, outcome })),
        }
    }
}

#[cfg(test)]
mod tests;
