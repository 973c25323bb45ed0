//! Running a machine: host and memory around it, idle time skipped, deadlocks explained.

mod looking;

use std::fmt;
use std::ops::{ControlFlow, Range};

use pollux_isa::ValidConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::acceleration::Acceleration;
use crate::host::Host;
use crate::lineage::Lineage;
use crate::machine::{Machine, Totals};
use crate::memory::{MemorySystem, PortTraffic};
use crate::observation::activity::{Activity, Span};
use crate::observation::counts::EventCounts;
use crate::observation::event::{Counting, Cycle, EventBuffer};
use crate::observation::observer::{CountedOperation, NoObserver, Observer};
use crate::observation::violation::{Violated, Violations};
use crate::parts::values::{Full, Values};
use crate::port::frontend_tlb::{PageFault, Translation};

/// Why a run did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RunError {
    /// Nothing can move any more, but work is left.
    #[error("deadlock in cycle {cycle}: nothing can move any more{position}")]
    Deadlock {
        /// First cycle in which nothing moved and nothing was to come.
        cycle: Cycle,
        /// Where the run stands.
        position: Standstill,
    },
    /// Something moves in every cycle, but nothing comes of it.
    #[error(
        "livelock: in the {cycles} cycles before cycle {cycle} something moved, but no command was accepted, issued or completed \
         and no beat passed the memory port{position}"
    )]
    Livelock {
        /// First cycle that was not simulated.
        cycle: Cycle,
        /// Cycles without an outcome.
        cycles: u64,
        /// Where the run stands.
        position: Standstill,
    },
    /// The limit was reached.
    #[error("{}{position}", limit_text(.limit))]
    Limit {
        /// The limit in cycles.
        limit: Cycle,
        /// Where the run stands.
        position: Standstill,
    },
    /// A part of the run that was simulated before was simulated again, and did not go as it went then: a fault of Pollux.
    #[error("replay is wrong in cycle {cycle}: {reason}; please report this, and run with replay turned off")]
    Replay {
        /// Cycle at the end of the part.
        cycle: Cycle,
        /// What differs.
        reason: String,
    },
    /// The memory system cannot stand behind this configuration.
    #[error("{reason}")]
    Memory {
        /// Why, and what to do.
        reason: String,
    },
    /// Whoever watches the run did not want it to go on.
    #[error("the run was cancelled in cycle {cycle}{position}")]
    Cancelled {
        /// First cycle that was not simulated.
        cycle: Cycle,
        /// Where the run stands.
        position: Standstill,
    },
}

/// Where a run stands that does not go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standstill {
    /// Place in the command stream.
    pub host: String,
    /// What each block that holds work waits for.
    pub waiting: Vec<String>,
    /// Rules of the RTL that were broken before, which may be why.
    pub violations: Vec<Violated>,
}

/// Lines behind a message.
impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  host: {}", self.host)?;
        self.waiting.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.violations.iter().try_for_each(|violated| write!(f, "\n  rule of the RTL broken before, {violated}"))
    }
}

fn limit_text(limit: &Cycle) -> String {
    if *limit == Cycle::MAX {
        return "the run takes more than 2^64 - 1 cycles, which is all that can be counted; shorten its waits and latencies".into();
    }
    format!("the run was stopped at its limit of {limit} cycles; raise the limit if the program is meant to be longer")
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// First cycle of the last idle stretch: the headline figure.
    pub busy_falls: Cycle,
    /// Cycles with the busy output high.
    pub busy_cycles: u64,
    /// Cycles until nothing at all moved any more.
    pub cycles: Cycle,
    /// Cycles that were really simulated; the others were skipped as nothing moved.
    pub simulated: u64,
    /// Commands accepted at the port.
    pub commands: u64,
    /// Divisions of the normalizer: those of which [an oracle](crate::values::ZeroDivisors) may have to know whether an operand is zero.
    pub divisions: u64,
    /// Cycles that were taken from a table of what was simulated before.
    pub replayed: u64,
    /// Memory traffic.
    pub traffic: PortTraffic,
    /// Accesses that the page table did not allow. Gemmini goes on with them and raises its interrupt.
    pub page_faults: u64,
    /// The first of them.
    pub first_page_fault: Option<PageFault>,
    /// The interrupt line at the end: a page fault since the last FLUSH.
    pub interrupt: bool,
    /// Rules of the RTL that were broken. From the first one on that is not [harmless](crate::violation::Violation::is_harmless), the
    /// RTL would not have gone on, and neither cycles nor memory are claimed to be those of silicon; only rows that overtake each other
    /// are known to do so there, too.
    pub violations: Violations,
}

/// What adds up while cycles pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub cycles: Cycle,
    pub busy_cycles: u64,
    /// First cycle of the last idle stretch, from the start; none if the accelerator was idle throughout.
    pub busy_falls: Option<Cycle>,
    pub totals: Totals,
}

impl Passed {
    /// From one moment of a run to a later one.
    pub fn between(start: &Point, end: &Point) -> Self {
        let (from, to) = (&start.summary, &end.summary);
        let busy_cycles = to.busy_cycles - from.busy_cycles;
        Self {
            cycles: to.cycles - from.cycles,
            busy_cycles,
            busy_falls: (busy_cycles > 0).then(|| to.busy_falls - from.cycles),
            totals: end.machine.minus(&start.machine),
        }
    }
}

/// Totals at a moment to which a run can go back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Those of the run, and those that its machine keeps.
    pub summary: RunSummary,
    machine: Totals,
}

/// Why [`Simulation::advance`] came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The program is used up and everything is idle.
    Finished,
    /// It was to stop here.
    Stopped,
}

/// Where [`Simulation::run_to`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// To its target, which is the cycle that comes next.
    Target,
    /// To the end of the run before the target, or at it: the program is used up and everything is idle.
    End,
}

/// A machine with its host and its memory.
#[derive(Clone, Debug)]
pub struct Simulation<H, M, V: Values = Full> {
    /// The accelerator.
    pub machine: Machine<V>,
    acceleration: Acceleration<V>,
    /// The command source.
    pub host: H,
    /// The memory behind the port.
    pub memory: M,
    cycle: Cycle,
    events: EventBuffer,
    activity: Activity,
    summary: RunSummary,
    /// The mark that the observer was told of last.
    mark: Option<usize>,
    /// The counts of which the observer was told, and the cycle up to which they are.
    told: (Cycle, EventCounts),
    /// Cycles since the last one with an outcome in which something moved.
    turning: u64,
    /// Which commands the events belong to, while somebody asks for it.
    lineage: Option<Box<Lineage>>,
    /// The run ends if something moves in so many cycles and nothing comes of it: no command is accepted, issued or completed, no beat
    /// passes the memory port, and none is to come. Cycles in which nothing moves do not count, as they wait for what is known to
    /// come or are a deadlock; nor do those of a page-table walk.
    pub watchdog: u64,
    /// Cycles in which nothing moves are skipped, and rows of the execute controller that move as known beforehand are moved together.
    /// It can be turned off, to test that it changes nothing.
    pub skip_idle: bool,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The beginning of a cycle.
    Cycle(Cycle),
    /// The host comes to an operation: its number, from 0.
    Mark(usize),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The cycle that comes next.
    pub cycle: Cycle,
    /// The mark (operation) that is current, counted from 0; `None` before the first.
    pub mark: Option<usize>,
}

/// Default of [`Simulation::watchdog`]: the bound on cycles without a command that the RTL asserts (`pipeline_stall_counter`,
/// `Controller.scala`).
pub const WATCHDOG: u64 = 10_000_000;

/// Steps between two looks of who watches a run: some milliseconds.
const WATCH_INTERVAL: u32 = 1 << 16;

/// How the loop goes on after a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The next cycle has been reached, perhaps with skipped cycles in between.
    Running,
    /// The program is used up and everything is idle.
    Finished,
    /// Nothing can move any more.
    Stuck,
}

impl<H: Host, M: MemorySystem> Simulation<H, M> {
    /// A simulation at cycle 0; `record` turns the events on.
    pub fn new(config: &ValidConfig, translation: Translation, host: H, memory: M, record: bool) -> Self {
        Self::with_machine(Machine::new(config, translation), host, memory, record)
    }
}

impl<H: Host, M: MemorySystem<V>, V: Values> Simulation<H, M, V> {
    /// A simulation at cycle 0 of a machine after reset.
    pub fn with_machine(machine: Machine<V>, host: H, memory: M, record: bool) -> Self {
        Self {
            machine,
            acceleration: Acceleration::default(),
            host,
            memory,
            cycle: 0,
            events: EventBuffer::new(record),
            activity: Activity::default(),
            summary: RunSummary::default(),
            mark: None,
            told: Default::default(),
            turning: 0,
            lineage: None,
            watchdog: WATCHDOG,
            skip_idle: true,
        }
    }

    /// Makes events from now on, or no longer. A run without is faster; it does the same.
    pub fn record(&mut self, events: bool) {
        self.settle();
        self.events.record(events);
        self.lineage = None;
    }

    /// Counts the events from now on, for [`Observer::counted`].
    pub fn count_events(&mut self, config: &ValidConfig) {
        self.events.count(config);
    }

    /// The cycle that comes next.
    pub fn cycle(&self) -> Cycle {
        self.cycle
    }

    /// Simulates one cycle, and skips to the next in which something can move, or to the limit. Cycles that repeat the one before
    /// with the next rows are simulated together, unless their activities are asked for.
    #[inline(always)] // the body of one loop
    fn step<O: Observer>(&mut self, observer: &mut O, limit: Cycle) -> Progress {
        if !O::ACTIVITY && self.skip_idle && !self.events.enabled() && self.repeat(limit) {
            return Progress::Running;
        }
        let cycle = self.cycle;
        if O::LINKS {
            self.lineage.get_or_insert_default().before_edge(&self.machine);
        }
        let mark = if O::ACTIVITY { self.host.mark() } else { None };
        let cmd = self.host.present();
        let activity = if O::ACTIVITY { Some(&mut self.activity) } else { None };
        let Self { machine, acceleration, memory, events, .. } = self;
        memory.advance(cycle);
        let step = if self.skip_idle {
            acceleration.step(machine, cycle, cmd, memory, events, activity)
        } else {
            acceleration.leave(machine, events);
            machine.step(cycle, cmd, memory, events, activity)
        };
        let host = self.host.edge(step.accepted, step.busy, self.memory.memory_mut());
        self.cycle += 1;
        self.summary.simulated += 1;
        if step.busy {
            self.summary.busy_cycles += 1;
            self.summary.busy_falls = self.cycle;
        }
        if step.alive || host {
            self.turning = 0;
        } else if step.progress && !self.machine.walks() {
            self.turning += 1;
        }
        let progress =
            if step.progress || host { Progress::Running } else { self.nothing_moved(cycle, step.busy, limit) };
        if O::ACTIVITY {
            observer.cycles(Span { first: cycle, cycles: self.cycle - cycle, mark }, &self.activity);
        }
        let Self { events, machine, lineage, .. } = self;
        if let (true, Some(lineage)) = (O::LINKS, lineage) {
            lineage.after_edge(machine);
            events.drain_sorted(|event| {
                observer.event(cycle, event);
                observer.linked(cycle, event, &lineage.links(event, machine));
            });
        } else {
            events.drain_sorted(|event| observer.event(cycle, event));
        }
        if host {
            self.tell_mark(observer);
        }
        progress
    }

    fn tell_mark(&mut self, observer: &mut impl Observer) {
        let mark = self.host.mark();
        if mark == self.mark {
            return;
        }
        self.tell_counts(observer);
        if let Some(mark) = mark {
            observer.mark(self.cycle, mark);
        }
        self.mark = mark;
    }

    /// Tells the observer what has been counted since it was told last.
    pub(crate) fn tell_counts(&mut self, observer: &mut impl Observer) {
        if self.events.counts().is_none() || self.cycle == self.told.0 {
            return;
        }
        self.acceleration.catch_up(&mut self.machine, &mut self.events);
        let Some(&events) = self.events.counts() else { return };
        let counts = events + self.machine.unit_counts();
        let (start, before) = std::mem::replace(&mut self.told, (self.cycle, counts));
        let cycles = self.cycle - start;
        observer.counted(&CountedOperation { mark: self.mark, start, cycles, counts: counts - before });
    }

    /// Lets the cycles pass in which nothing but rows of the execute controller moves. False if the next one is none of them.
    #[inline]
    fn repeat(&mut self, limit: Cycle) -> bool {
        let repeating = self.acceleration.repeating_cycles(&self.machine, || self.host.present().is_some());
        if repeating == 0 {
            return false;
        }
        // A host that counts presents its next command in a cycle of its own.
        let idle = self.host.idle_cycles().unwrap_or(Cycle::MAX);
        let cycles = idle.min(repeating.into()).min(limit - self.cycle);
        if cycles == 0 {
            return false;
        }
        self.acceleration.defer(cycles as u32);
        self.host.skip(cycles);
        self.cycle += cycles;
        self.summary.simulated += cycles;
        // The commands whose rows these are have not completed.
        self.summary.busy_cycles += cycles;
        self.summary.busy_falls = self.cycle;
        true
    }

    fn nothing_moved(&mut self, cycle: Cycle, busy: bool, limit: Cycle) -> Progress {
        let wants_port = self.machine.wants_port();
        let port = if wants_port || self.memory.busy() { self.memory.next_event(cycle, wants_port) } else { None };
        let host = self.host.idle_cycles().map(|idle| self.cycle.saturating_add(idle));
        let next = match port.into_iter().chain(host).min() {
            None if !busy && self.host.done() => return Progress::Finished,
            None => return Progress::Stuck,
            Some(next) => next,
        };
        let skipped = next.min(limit).saturating_sub(self.cycle);
        if self.skip_idle && skipped > 0 {
            self.machine.skip(skipped);
            self.host.skip(skipped);
            self.cycle += skipped;
            if busy {
                self.summary.busy_cycles += skipped;
                self.summary.busy_falls = self.cycle;
            }
        }
        Progress::Running
    }

    /// Runs to the end of the program and until everything is idle. A run that was stopped at its limit can be continued.
    ///
    /// # Errors
    /// A deadlock, with what each block waits for, or the limit of cycles.
    pub fn run(&mut self, observer: &mut impl Observer, limit: Cycle) -> Result<RunSummary, RunError> {
        self.run_watched(observer, limit, &mut |_| ControlFlow::Continue(()))
    }

    /// Like [`Simulation::run`]; `watch` is told how far the run is every few milliseconds, and can end it.
    ///
    /// # Errors
    /// A deadlock, the limit of cycles, or that `watch` ended the run.
    pub fn run_watched(
        &mut self,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
    ) -> Result<RunSummary, RunError> {
        let result = self.advance(observer, limit, watch, |_| false);
        self.tell_counts(observer);
        result?;
        Ok(self.summary())
    }

    /// Like [`Self::run_watched`], but tells the observer only of what is between two moments. Before and behind it, the run is as fast as
    /// one without an observer.
    ///
    /// # Errors
    /// As [`Self::run_watched`].
    pub fn run_window(
        &mut self,
        observer: &mut impl Observer,
        window: &Range<Moment>,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
    ) -> Result<RunSummary, RunError> {
        self.record(false);
        if !self.run_part(&mut NoObserver, window.start, limit, watch)? {
            self.record(observer.wants_events());
            let ended = self.run_part(observer, window.end, limit, watch)?;
            self.record(false);
            if !ended {
                self.run_part(&mut NoObserver, Moment::Cycle(Cycle::MAX), limit, watch)?;
            }
        }
        Ok(self.summary())
    }

    /// Runs to a moment; true if the run ends before.
    fn run_part(
        &mut self,
        observer: &mut impl Observer,
        end: Moment,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
    ) -> Result<bool, RunError> {
        let target = if let Moment::Cycle(cycle) = end { cycle.min(limit) } else { limit };
        let is_there = |run: &mut Self| matches!(end, Moment::Mark(mark) if run.host.mark() >= Some(mark));
        let halt = self.proceed(observer, target, watch, is_there)?;
        self.settle();
        if halt.is_none() && target == limit {
            return Err(RunError::Limit { limit, position: self.standstill() });
        }
        Ok(halt == Some(Halt::Finished))
    }

    /// Runs until `target` is the cycle that comes next, never past it, and brings all registers up to date. The run can go on from
    /// there, and does what it would have done without the stop.
    ///
    /// # Errors
    /// As [`Self::run`], but for the limit.
    pub fn run_to(&mut self, observer: &mut impl Observer, target: Cycle) -> Result<Reached, RunError> {
        let halt = self.proceed(observer, target, &mut |_| ControlFlow::Continue(()), |_| false);
        self.settle();
        Ok(if halt? == Some(Halt::Finished) { Reached::End } else { Reached::Target })
    }

    /// Like [`Self::run_watched`], but stops before the first cycle for which `stop` says so.
    pub(crate) fn advance(
        &mut self,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
        stop: impl FnMut(&mut Self) -> bool,
    ) -> Result<Halt, RunError> {
        if let Some(halt) = self.proceed(observer, limit, watch, stop)? {
            return Ok(halt);
        }
        self.settle();
        Err(RunError::Limit { limit, position: self.standstill() })
    }

    /// The loop over the cycles; none if it comes to the limit.
    fn proceed(
        &mut self,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
        mut stop: impl FnMut(&mut Self) -> bool,
    ) -> Result<Option<Halt>, RunError> {
        self.tell_mark(observer);
        let mut steps = 0u32;
        while self.cycle < limit {
            if stop(self) {
                return Ok(Some(Halt::Stopped));
            }
            match self.step(observer, limit) {
                Progress::Running if self.turning < self.watchdog => {}
                Progress::Running if self.memory_will_answer() => self.turning = 0,
                Progress::Running => return Err(self.livelock()),
                Progress::Finished => return Ok(Some(Halt::Finished)),
                Progress::Stuck => {
                    return Err(RunError::Deadlock { cycle: self.cycle - 1, position: self.standstill() });
                }
            }
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(WATCH_INTERVAL) && watch(self.position()).is_break() {
                return Err(self.cancelled());
            }
        }
        Ok(None)
    }

    /// The error of a run that whoever watches it has ended.
    pub(crate) fn cancelled(&mut self) -> RunError {
        self.settle();
        RunError::Cancelled { cycle: self.cycle, position: self.standstill() }
    }

    /// How far the run is.
    pub fn position(&self) -> Position {
        Position { cycle: self.cycle, mark: self.host.mark() }
    }

    /// Brings the machine's registers up to date, of which the fast path leaves some for later.
    pub(crate) fn settle(&mut self) {
        self.acceleration.catch_up(&mut self.machine, &mut self.events);
    }

    /// A command is presented and will be accepted in this cycle.
    #[inline]
    pub(crate) fn accepts_command(&self) -> bool {
        self.machine.front.cmd_ready() && self.host.present().is_some()
    }

    /// What the counting of the next events depends on, if they are counted.
    pub(crate) fn counting(&self) -> Option<Counting> {
        self.events.counting()
    }

    /// Lets cycles pass in which is known what happens, and of which the observer is told what was counted. The machine keeps its
    /// state, but for the totals.
    pub(crate) fn pass(&mut self, passed: &Passed) {
        if let Some(falls) = passed.busy_falls {
            self.summary.busy_falls = self.cycle + falls;
        }
        self.cycle += passed.cycles;
        self.summary.busy_cycles += passed.busy_cycles;
        self.summary.replayed += passed.cycles;
        self.told.0 = self.cycle;
        self.machine.set_totals(&self.machine.totals().plus(&passed.totals));
    }

    /// Totals now.
    pub(crate) fn point(&self) -> Point {
        Point { summary: self.summary(), machine: self.machine.totals() }
    }

    /// Has the totals of an earlier moment, but for the cycles that were simulated since. The machine of that moment is to be
    /// [installed](Self::install).
    pub(crate) fn go_back(&mut self, point: &Point) {
        let Point { summary, machine } = *point;
        self.cycle = summary.cycles;
        self.told.0 = self.cycle;
        self.summary = RunSummary { simulated: self.summary.simulated, ..summary };
        self.machine.set_totals(&machine);
    }

    /// Goes on with another machine and memory, and with what was counted up to there. The totals stay what they are.
    pub(crate) fn install(&mut self, mut machine: Machine<V>, memory: M, counting: Option<&Counting>) {
        machine.set_totals(&self.machine.totals());
        self.machine = machine;
        self.events.resume(counting);
        if let Some(&events) = self.events.counts() {
            self.told.1 = events + self.machine.unit_counts();
        }
        self.memory = memory;
        self.acceleration = Acceleration::default();
        self.mark = self.host.mark();
        self.turning = 0;
    }

    /// The error of a replay that is wrong.
    pub(crate) fn replay_failed(&self, reason: String) -> RunError {
        RunError::Replay { cycle: self.cycle, reason }
    }

    fn memory_will_answer(&self) -> bool {
        self.memory.next_event(self.cycle, self.machine.wants_port()).is_some()
    }

    fn livelock(&mut self) -> RunError {
        self.acceleration.catch_up(&mut self.machine, &mut self.events);
        RunError::Livelock { cycle: self.cycle, cycles: self.turning, position: self.standstill() }
    }

    fn standstill(&self) -> Standstill {
        Standstill {
            host: self.host.position(),
            waiting: self.machine.waiting_for(),
            violations: self.events.violations().iter().collect(),
        }
    }

    /// Totals so far.
    pub fn summary(&self) -> RunSummary {
        RunSummary {
            cycles: self.cycle,
            commands: self.machine.accepted(),
            divisions: self.machine.divisions(),
            traffic: *self.machine.traffic(),
            page_faults: self.machine.faults().count,
            first_page_fault: self.machine.faults().first,
            interrupt: self.machine.interrupt(),
            violations: *self.events.violations(),
            ..self.summary
        }
    }
}
