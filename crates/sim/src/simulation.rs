//! Running a machine: host and memory around it, idle time skipped, deadlocks explained.

use pollux_isa::ValidConfig;
use thiserror::Error;

use crate::acceleration::Acceleration;
use crate::host::Host;
use crate::machine::Machine;
use crate::memory::{MemorySystem, PortTraffic};
use crate::observation::event::{Cycle, EventBuffer, Observer};
use crate::observation::report::{Activity, Span};
use crate::port::frontend_tlb::{PageFault, Translation};

/// Why a run did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// Nothing can move any more, but work is left.
    #[error("deadlock in cycle {cycle}: nothing can move any more\n  host: {host}\n{}", list(.waiting))]
    Deadlock {
        /// First cycle in which nothing moved and nothing was to come.
        cycle: Cycle,
        /// Where the command stream stands.
        host: String,
        /// What each block that holds work waits for.
        waiting: Vec<String>,
    },
    /// The limit was reached.
    #[error("the run was stopped at its limit of {limit} cycles; raise the limit if the program is meant to be longer")]
    Limit {
        /// The limit in cycles.
        limit: Cycle,
    },
}

fn list(waiting: &[String]) -> String {
    waiting.iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Memory traffic.
    pub traffic: PortTraffic,
    /// Accesses that the page table did not allow. Gemmini goes on with them and raises its interrupt.
    pub page_faults: u64,
    /// The first of them.
    pub first_page_fault: Option<PageFault>,
    /// The interrupt line at the end: a page fault since the last FLUSH.
    pub interrupt: bool,
}

/// A machine with its host and its memory.
#[derive(Clone, Debug)]
pub struct Simulation<H, M> {
    /// The accelerator.
    pub machine: Machine,
    acceleration: Acceleration,
    /// The command source.
    pub host: H,
    /// The memory behind the port.
    pub memory: M,
    cycle: Cycle,
    events: EventBuffer,
    activity: Activity,
    summary: RunSummary,
    /// Cycles in which nothing moves are skipped, and rows of the execute controller that move as known beforehand are moved together.
    /// It can be turned off, to test that it changes nothing.
    pub skip_idle: bool,
}

/// How the loop goes on after a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
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
        Self {
            machine: Machine::new(config, translation),
            acceleration: Acceleration::default(),
            host,
            memory,
            cycle: 0,
            events: EventBuffer::new(record),
            activity: Activity::default(),
            summary: RunSummary::default(),
            skip_idle: true,
        }
    }

    /// The cycle that comes next.
    pub fn cycle(&self) -> Cycle {
        self.cycle
    }

    /// Simulates one cycle, and skips to the next in which something can move. Cycles that repeat the one before with the next rows
    /// are simulated together, unless their activities are asked for.
    pub fn step<O: Observer>(&mut self, observer: &mut O) -> Progress {
        if !O::ACTIVITY && self.skip_idle && !self.events.enabled() && self.repeat() {
            return Progress::Running;
        }
        let (cycle, mark) = (self.cycle, self.host.mark());
        let cmd = self.host.present();
        let activity = if O::ACTIVITY { Some(&mut self.activity) } else { None };
        let Self { machine, acceleration, memory, events, .. } = self;
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
        let progress = if step.progress || host { Progress::Running } else { self.nothing_moved(cycle, step.busy) };
        if O::ACTIVITY {
            observer.cycles(Span { first: cycle, cycles: self.cycle - cycle, mark }, &self.activity);
        }
        self.events.drain_sorted(|event| observer.event(cycle, event));
        progress
    }

    /// Lets the cycles pass in which nothing but rows of the execute controller moves. False if the next one is none of them.
    #[inline]
    fn repeat(&mut self) -> bool {
        let repeating = self.acceleration.repeating_cycles(&self.machine, || self.host.present().is_some());
        if repeating == 0 {
            return false;
        }
        // A host that counts presents its next command in a cycle of its own.
        let cycles = self.host.idle_cycles().map_or(repeating.into(), |idle| idle.min(repeating.into()));
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

    fn nothing_moved(&mut self, cycle: Cycle, busy: bool) -> Progress {
        let port = if self.machine.wants_port() || self.memory.busy() { self.memory.next_event(cycle) } else { None };
        let host = self.host.idle_cycles().map(|n| cycle + 1 + n);
        let next = match (port, host) {
            (None, None) if !busy && self.host.done() => return Progress::Finished,
            (None, None) => return Progress::Stuck,
            (port, host) => port.unwrap_or(Cycle::MAX).min(host.unwrap_or(Cycle::MAX)),
        };
        let skipped = next.saturating_sub(self.cycle);
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

    /// Runs to the end of the program and until everything is idle.
    ///
    /// # Errors
    /// A deadlock, with what each block waits for, or the limit of cycles.
    pub fn run(&mut self, observer: &mut impl Observer, limit: Cycle) -> Result<RunSummary, RunError> {
        while self.cycle < limit {
            match self.step(observer) {
                Progress::Running => {}
                Progress::Finished => return Ok(self.summary()),
                Progress::Stuck => return Err(self.deadlock()),
            }
        }
        self.acceleration.catch_up(&mut self.machine, &mut self.events);
        Err(RunError::Limit { limit })
    }

    /// The explanation of a deadlock, for a simulation whose last step was [`Progress::Stuck`].
    pub fn deadlock(&self) -> RunError {
        let waiting = self.machine.waiting_for();
        RunError::Deadlock { cycle: self.cycle - 1, host: self.host.position(), waiting }
    }

    /// Totals so far.
    pub fn summary(&self) -> RunSummary {
        RunSummary {
            cycles: self.cycle,
            commands: self.machine.accepted(),
            traffic: *self.machine.traffic(),
            page_faults: self.machine.faults().count,
            first_page_fault: self.machine.faults().first,
            interrupt: self.machine.interrupt(),
            ..self.summary
        }
    }
}
