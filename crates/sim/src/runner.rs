//! [`Runner`]: how a program is run, from its configuration to its end.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use pollux_isa::{StreamItem, ValidConfig};
use pollux_memory::Memory;
use thiserror::Error;

use crate::host::{Host, Processor, RunAheadHost, ScriptItem, StreamHost};
use crate::machine::Machine;
use crate::memory::{
    BandwidthMemory, BenchMemory, DramL2Memory, FireSimMemory, MemoryModel, MemorySystem, ReplayableMemory,
};
use crate::observation::event::Cycle;
use crate::observation::observer::Observer;
use crate::parts::values::{Full, Timing, Values, ZeroDivisors};
use crate::port::frontend_tlb::Translation;
use crate::replay::{
    ReplayOptions, ReplayTable, ReplayTotals, Replayer, RunsOf, Table, Tables, has_counters, pays, script_of,
};
use crate::simulation::{Moment, Position, RunError, RunSummary, Simulation, WATCHDOG};

/// Everything around a run: translation, memory system, issue interval, limit, and who watches it; with the values that are
/// computed, or without ([`Runner::without_values`]).
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
pub struct Runner<'a, V: Values = Full> {
    config: &'a ValidConfig,
    oracle: V::Oracle,
    translation: Translation,
    memory: MemoryModel,
    interval: u64,
    processor: Option<Processor>,
    limit: Cycle,
    watchdog: u64,
    plain: bool,
    watch: Box<dyn FnMut(Position) -> ControlFlow<()> + 'a>,
    window: Option<Range<Moment>>,
    /// How a run without values is replayed, if it is.
    replay: Option<ReplayOptions>,
    table: Option<&'a mut ReplayTable>,
}

/// What is left of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<V: Values = Full> {
    /// Totals.
    pub summary: RunSummary,
    /// Main memory. After a run without values it is as it was before, but for what the host wrote.
    pub memory: Memory,
    /// The accelerator with its local memories. After a run that was [replayed](Runner::replay) it is in an earlier state, but for its
    /// totals.
    pub machine: Box<Machine<V>>,
    /// What replay did, if the run was one that can be replayed.
    pub replay: Option<ReplayTotals>,
}

/// A run that did not come to its end, and what there is of it.
#[derive(Clone, Debug, Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct Stopped<V: Values = Full> {
    /// Why it did not.
    pub error: RunError,
    /// As far as it came.
    pub outcome: Outcome<V>,
}

impl<'a> Runner<'a> {
    /// A run with physical addresses, behind the memory of the golden bench, with a command of the host in every cycle and without a
    /// limit.
    pub fn new(config: &'a ValidConfig) -> Self {
        Self {
            config,
            oracle: (),
            translation: Translation::Bare,
            memory: MemoryModel::default(),
            interval: 1,
            processor: None,
            limit: Cycle::MAX,
            watchdog: WATCHDOG,
            plain: false,
            watch: Box::new(|_| ControlFlow::Continue(())),
            window: None,
            replay: None,
            table: None,
        }
    }

    /// The same run without its values, which is faster: events, cycles and traffic are the same, but nothing is computed, and neither
    /// loads nor stores touch main memory. Page tables are then those that are there at the start, even if the program overwrites them.
    ///
    /// Of the values, timing depends on one thing: whether a divisor of the normalizer is zero. Without
    /// [`Runner::zero_divisors`] none is taken to be.
    #[must_use]
    pub fn without_values(self) -> Runner<'a, Timing> {
        let Self {
            config,
            oracle: (),
            translation,
            memory,
            interval,
            processor,
            limit,
            watchdog,
            plain,
            watch,
            window,
            ..
        } = self;
        let oracle = ZeroDivisors::default();
        let replay = Some(ReplayOptions::default());
        Runner {
            config,
            oracle,
            translation,
            memory,
            interval,
            processor,
            limit,
            watchdog,
            plain,
            watch,
            window,
            replay,
            table: None,
        }
    }
}

/// Runs without values: every situation is simulated once ([`crate::replay`]), where that can be done. It can't if the observer wants
/// events or activities, behind a memory whose times depend on addresses, with page tables, or if a divisor is zero.
impl<'a> Runner<'a, Timing> {
    /// The divisions of the normalizer with a zero operand, as the functional model lists them.
    #[must_use]
    pub fn zero_divisors(self, oracle: ZeroDivisors) -> Self {
        Self { oracle, ..self }
    }

    /// How known situations are replayed; `None` simulates all of them.
    #[must_use]
    pub fn replay(self, replay: Option<ReplayOptions>) -> Self {
        Self { replay, ..self }
    }

    /// Uses the situations of earlier runs, and keeps those of this one. Without a table, those of a program in which hardly a command
    /// comes again are not even recorded.
    #[must_use]
    pub fn replay_table(self, table: &'a mut ReplayTable) -> Self {
        Self { table: Some(table), ..self }
    }
}

impl<'a, V: Values> Runner<'a, V> {
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

    /// Tells the observer only of what is between two moments.
    #[must_use]
    pub fn window(self, window: Option<Range<Moment>>) -> Self {
        Self { window, ..self }
    }
}

/// Running.
impl<V: Run> Runner<'_, V> {
    /// Runs a stream of commands; `memory` is main memory at the start.
    ///
    /// # Errors
    /// A deadlock, the limit, or that who watches ended the run.
    pub fn run(
        &mut self,
        items: impl Into<Arc<[StreamItem]>>,
        mut memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome<V>, Box<Stopped<V>>> {
        let items = items.into();
        if let Some(processor) = self.processor {
            // Replay does not know the processor's queue.
            let host = RunAheadHost::new(items, processor, self.interval, &mut memory);
            return self.simulate_behind_any(host, memory, observer);
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
    ) -> Result<Outcome<V>, Box<Stopped<V>>> {
        V::run_host(self, host, memory, observer)
    }
}

/// How machines with and without values are run.
pub trait Run: Values {
    /// Runs.
    ///
    /// # Errors
    /// As [`Runner::run_host`].
    fn run_host<O: Observer>(
        runner: &mut Runner<'_, Self>,
        host: impl Host,
        memory: Memory,
        observer: &mut O,
    ) -> Result<Outcome<Self>, Box<Stopped<Self>>>;
}

impl Run for Full {
    fn run_host<O: Observer>(
        runner: &mut Runner<'_, Self>,
        host: impl Host,
        memory: Memory,
        observer: &mut O,
    ) -> Result<Outcome<Self>, Box<Stopped<Self>>> {
        if observer.wants_cycle_ends() {
            return runner.simulate_by_cycle(host, memory, observer);
        }
        runner.simulate_host(host, memory, observer)
    }
}

impl Runner<'_> {
    fn simulate_by_cycle(
        &mut self,
        host: impl Host,
        memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome, Box<Stopped>> {
        let port = self.any_memory(memory)?;
        let machine = Machine::with_oracle(self.config, self.translation, ());
        let mut simulation = Simulation::with_machine(machine, host, port, observer.wants_events());
        if observer.wants_counts() {
            simulation.count_events(self.config);
        }
        simulation.watchdog = self.watchdog;
        let result = simulation.run_by_cycle(observer, self.limit, &mut self.watch);
        let summary = simulation.summary();
        let (machine, memory) = (Box::new(simulation.machine), simulation.memory.into_memory());
        let outcome = Outcome { summary, memory, machine, replay: None };
        match result {
            Ok(_) => Ok(outcome),
            Err(error) => Err(Box::new(Stopped { error, outcome })),
        }
    }
}

impl Run for Timing {
    fn run_host<O: Observer>(
        runner: &mut Runner<'_, Self>,
        host: impl Host,
        memory: Memory,
        observer: &mut O,
    ) -> Result<Outcome<Self>, Box<Stopped<Self>>> {
        // A stretch that is replayed has no events to be told of.
        let replayable = !observer.wants_each()
            && observer.profiles() < 2
            && !runner.plain
            && runner.translation == Translation::Bare
            && runner.oracle.is_empty();
        let options = runner.replay.filter(|_| replayable);
        // What a COUNTER resets does not add up.
        let adds_up = |script: &Arc<[ScriptItem]>| observer.profiles() == 0 || !has_counters(script);
        let script = || script_of(runner.config, &host).filter(adds_up);
        let Some((options, script)) = options.and_then(|options| Some((options, script()?))) else {
            return runner.simulate_host(host, memory, observer);
        };
        if runner.table.is_none() && !pays(runner.config, &script, &options) {
            let mut simulated = runner.simulate_host(host, memory, observer);
            let outcome = simulated.as_mut().unwrap_or_else(|stopped| &mut stopped.outcome);
            outcome.replay = Some(ReplayTotals::default());
            return simulated;
        }
        let mut table = runner.table.take();
        let mut own = ReplayTable::default();
        let used = table.as_deref_mut().unwrap_or(&mut own);
        let result = runner.replay_host((host, script), memory, observer, options, used);
        runner.table = table;
        result
    }
}

impl Runner<'_, Timing> {
    fn replay_host(
        &mut self,
        (host, script): (impl Host, Arc<[ScriptItem]>),
        memory: Memory,
        observer: &mut impl Observer,
        options: ReplayOptions,
        table: &mut ReplayTable,
    ) -> Result<Outcome<Timing>, Box<Stopped<Timing>>> {
        let beat_bytes = self.config.beat_bytes() as usize;
        let runs = RunsOf {
            config: self.config.clone(),
            memory: self.memory,
            interval: self.interval,
            counted: observer.wants_counts(),
            profiled: observer.profiles() > 0,
        };
        // The machine's memory is a stand-in, which is copied with every state: the real one is not looked at.
        match (self.memory, table.of(&runs, options.table_bytes)) {
            (MemoryModel::Bench(p), Tables::Bench(table)) => {
                let port = BenchMemory::with_values(p, beat_bytes, Memory::new());
                self.replay_behind(host, script, port, memory, observer, options, table)
            }
            (MemoryModel::Bandwidth(p), Tables::Bandwidth(table)) => {
                let port = BandwidthMemory::with_values(p, beat_bytes, Memory::new());
                self.replay_behind(host, script, port, memory, observer, options, table)
            }
            _ => self.simulate_host(host, memory, observer),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call for each kind of memory")]
    fn replay_behind<M: ReplayableMemory>(
        &mut self,
        host: impl Host,
        script: Arc<[ScriptItem]>,
        port: M,
        memory: Memory,
        observer: &mut impl Observer,
        options: ReplayOptions,
        table: &mut Table<M>,
    ) -> Result<Outcome<Timing>, Box<Stopped<Timing>>> {
        let machine = Machine::with_oracle(self.config, self.translation, self.oracle.clone());
        let profiler = observer.profile().map(|profiler| profiler.of_stretches());
        let records = profiler.is_some();
        let mut replayer = Replayer::new(self.config, (host, script), table, options, profiler, |host| {
            let mut simulation = Simulation::with_machine(machine, host, port, records);
            if observer.wants_counts() {
                simulation.count_events(self.config);
            }
            simulation.watchdog = self.watchdog;
            simulation
        });
        let result = replayer.run(observer, self.limit, &mut self.watch);
        let replay = Some(replayer.totals());
        let simulation = replayer.into_simulation();
        let summary = simulation.summary();
        let outcome = Outcome { summary, memory, machine: Box::new(simulation.machine), replay };
        match result {
            Ok(_) => Ok(outcome),
            Err(error) => Err(Box::new(Stopped { error, outcome })),
        }
    }
}

impl<V: Values> Runner<'_, V> {
    fn simulate_host(
        &mut self,
        host: impl Host,
        memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome<V>, Box<Stopped<V>>> {
        let beat_bytes = self.config.beat_bytes() as usize;
        match self.memory {
            MemoryModel::Bench(p) => self.simulate(host, BenchMemory::with_values(p, beat_bytes, memory), observer),
            MemoryModel::Bandwidth(p) => {
                self.simulate(host, BandwidthMemory::with_values(p, beat_bytes, memory), observer)
            }
            _ => self.simulate_behind_any(host, memory, observer),
        }
    }

    /// Runs that are not as frequent share one machine for all memories, which is built once.
    fn simulate_behind_any(
        &mut self,
        host: impl Host,
        memory: Memory,
        observer: &mut impl Observer,
    ) -> Result<Outcome<V>, Box<Stopped<V>>> {
        let port = self.any_memory(memory)?;
        self.simulate(host, port, observer)
    }

    /// What stands behind the port.
    fn any_memory(&self, memory: Memory) -> Result<Box<dyn MemorySystem<V>>, Box<Stopped<V>>> {
        let beat_bytes = self.config.beat_bytes() as usize;
        Ok(match self.memory {
            MemoryModel::Bench(p) => Box::new(BenchMemory::with_values(p, beat_bytes, memory)),
            MemoryModel::Bandwidth(p) => Box::new(BandwidthMemory::with_values(p, beat_bytes, memory)),
            MemoryModel::Dram(p) => Box::new(DramL2Memory::with_values(p, beat_bytes, memory)),
            MemoryModel::FireSim(p) => Box::new(FireSimMemory::with_values(p, beat_bytes, memory)),
            MemoryModel::L2(p) => match p.refuses(self.config) {
                None => Box::new(p.build(beat_bytes, memory)),
                Some(reason) => return Err(self.refused(reason, memory)),
            },
        })
    }

    /// A run that does not begin.
    fn refused(&self, reason: String, memory: Memory) -> Box<Stopped<V>> {
        let machine = Box::new(Machine::with_oracle(self.config, self.translation, self.oracle.clone()));
        let outcome = Outcome { summary: RunSummary::default(), memory, machine, replay: None };
        Box::new(Stopped { error: RunError::Memory { reason }, outcome })
    }

    fn simulate(
        &mut self,
        host: impl Host,
        memory: impl MemorySystem<V>,
        observer: &mut impl Observer,
    ) -> Result<Outcome<V>, Box<Stopped<V>>> {
        let machine = Machine::with_oracle(self.config, self.translation, self.oracle.clone());
        let mut simulation = Simulation::with_machine(machine, host, memory, observer.wants_events());
        if observer.wants_counts() {
            simulation.count_events(self.config);
        }
        simulation.skip_idle = !self.plain;
        simulation.watchdog = self.watchdog;
        let result = match &self.window {
            None => simulation.run_watched(observer, self.limit, &mut self.watch),
            Some(window) => simulation.run_window(observer, window, self.limit, &mut self.watch),
        };
        let summary = simulation.summary();
        let outcome = Outcome {
            summary,
            memory: simulation.memory.into_memory(),
            machine: Box::new(simulation.machine),
            replay: None,
        };
        match result {
            Ok(_) => Ok(outcome),
            Err(error) => Err(Box::new(Stopped { error, outcome })),
        }
    }
}

#[cfg(test)]
mod tests;
