//! [`ClockedMachine`]: the accelerator for a system that clocks it among other blocks.

use pollux_isa::{RoccCommand, ValidConfig};

use crate::acceleration::Acceleration;
use crate::machine::{Machine, Step, Translation};
use crate::memory::MemorySystem;
use crate::observation::event::{Cycle, EventBuffer};

/// A machine with its fast path, stepped cycle by cycle. What surrounds it presents commands and asks for nothing else.
#[derive(Clone, Debug)]
pub struct ClockedMachine {
    machine: Machine,
    acceleration: Acceleration,
    events: EventBuffer,
    last: Step,
}

impl ClockedMachine {
    /// The accelerator after reset.
    pub fn new(config: &ValidConfig, translation: Translation) -> Self {
        Self {
            machine: Machine::new(config, translation),
            acceleration: Acceleration::default(),
            events: EventBuffer::new(false),
            last: Step { progress: true, accepted: false, busy: false, alive: false },
        }
    }

    /// The blocks. What is in the execute controller and its banks may lag behind by part of a pass.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The result that a command (COUNTER) gives in this cycle, before its step.
    pub fn response(&self) -> Option<u64> {
        self.machine.response()
    }

    /// One clock cycle with `cmd` presented at the command port. Cycles in which nothing can move cost next to nothing.
    #[inline]
    pub fn step(&mut self, cycle: Cycle, cmd: Option<RoccCommand>, memory: &mut impl MemorySystem) -> Step {
        let quiet = !self.last.progress && cmd.is_none() && self.machine.in_flight() == 0 && !self.machine.wants_port();
        if quiet {
            self.machine.skip(1);
            return self.last;
        }
        self.last = self.acceleration.step(&mut self.machine, cycle, cmd, memory, &mut self.events, None);
        self.last
    }

    /// What every block that holds work waits for, a line each.
    pub fn waiting_for(&mut self) -> Vec<String> {
        self.acceleration.catch_up(&mut self.machine, &mut self.events);
        self.machine.waiting_for()
    }

    /// Rules of the RTL that were broken.
    pub fn violations(&self) -> Vec<crate::violation::Violated> {
        self.events.violations().iter().collect()
    }
}
