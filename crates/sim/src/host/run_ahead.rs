//! A processor that runs ahead of the accelerator: it goes on while commands that it has made wait at the command port.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pollux_isa::command::funct;
use pollux_isa::{RoccCommand, StreamItem};
use pollux_memory::Memory;
use thiserror::Error;

use super::Host;

/// How a processor makes commands. As text it is `ahead=2,loop_ws=146`: what differs from the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Commands that wait between processor and port at most, at least 1: the queue of `RoccCommandRouter` (rocket-chip
    /// `LazyRoCC.scala`), which has 2.
    pub ahead: u64,
    /// Cycles of work before each LOOP_WS, its commands aside. About 146 for the tiles of `tiled_matmul` of gemmini-rocc-tests on a Rocket core.
    pub loop_ws: u64,
    /// Cycles of work before each LOOP_CONV_WS, its commands aside. About 290 for the tiles of `tiled_conv`.
    pub loop_conv: u64,
}

/// A Rocket core that runs Gemmini's C library, as counted with FireSim's programs: half a thousand instructions before the
/// first tile are not among it.
impl Default for Processor {
    fn default() -> Self {
        Self { ahead: 2, loop_ws: 146, loop_conv: 290 }
    }
}

/// Why a text describes no processor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseProcessorError(String);

impl FromStr for Processor {
    type Err = ParseProcessorError;

    fn from_str(text: &str) -> Result<Self, ParseProcessorError> {
        let (mut processor, mut seen) = (Self::default(), Vec::new());
        let rest = match text.split_once(':') {
            _ if text == "rocket" => "",
            Some(("rocket", rest)) => rest,
            _ => {
                return Err(ParseProcessorError(format!(
                    "`{text}` is no processor: write rocket[:ahead=,loop_ws=,loop_conv=]"
                )));
            }
        };
        for option in rest.split(',').filter(|option| !option.is_empty()) {
            let error = |what: &str| ParseProcessorError(format!("`{option}` {what}"));
            let (key, value) = option.split_once('=').ok_or_else(|| error("is not KEY=VALUE"))?;
            let value: u64 = value.parse().map_err(|_| error("has no number up to 2^64 - 1"))?;
            if seen.contains(&key) {
                return Err(error("is given twice"));
            }
            seen.push(key);
            match key {
                "ahead" if !(1..=1024).contains(&value) => return Err(error("must be 1 to 1024")),
                "ahead" => processor.ahead = value,
                "loop_ws" => processor.loop_ws = value,
                "loop_conv" => processor.loop_conv = value,
                _ => return Err(error("is no parameter: rocket has ahead, loop_ws and loop_conv")),
            }
        }
        Ok(processor)
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rocket:ahead={},loop_ws={},loop_conv={}", self.ahead, self.loop_ws, self.loop_conv)
    }
}

impl Processor {
    /// Cycles of work before a command.
    fn work(&self, command: &RoccCommand) -> u64 {
        match command.funct {
            funct::LOOP_WS => self.loop_ws,
            funct::LOOP_CONV_WS => self.loop_conv,
            _ => 0,
        }
    }
}

/// The host of a [`Processor`]. It makes a command a cycle at most, and puts it into the queue in front of the port unless that
/// is full. Waits and the work before loops pass while the queue drains. A fence waits until the queue is empty and the
/// accelerator idle. Writes are done as the processor comes to them, marks are current from then on.
#[derive(Clone, Debug)]
pub struct RunAheadHost {
    items: Arc<[StreamItem]>,
    next: usize,
    processor: Processor,
    /// Cycles from one command to the next, at least.
    interval: u64,
    /// Cycles of the current wait or work that are still to pass.
    waiting: u64,
    mark: Option<usize>,
    queue: VecDeque<RoccCommand>,
}

impl RunAheadHost {
    /// A processor at the start of a stream. Writes that stand first are done before cycle 0.
    pub fn new(items: Arc<[StreamItem]>, processor: Processor, interval: u64, memory: &mut Memory) -> Self {
        let processor = Processor { ahead: processor.ahead.max(1), ..processor };
        let queue = VecDeque::with_capacity(processor.ahead as usize);
        let mut host = Self { items, next: 0, processor, interval: interval.max(1), waiting: 0, mark: None, queue };
        host.settle(memory);
        host
    }

    /// Passes the items that take no cycle, and begins the wait or the work that comes next.
    fn settle(&mut self, memory: &mut Memory) {
        while let Some(item) = self.items.get(self.next) {
            match item {
                StreamItem::Write { address, bytes } => memory.write(*address, bytes),
                StreamItem::Mark(_) => self.mark = Some(self.mark.map_or(0, |mark| mark + 1)),
                StreamItem::Wait(0) => {}
                StreamItem::Wait(cycles) => return self.waiting = *cycles,
                StreamItem::Command(command) => return self.waiting += self.processor.work(command),
                StreamItem::Fence => return,
            }
            self.next += 1;
        }
    }

    fn advance(&mut self, memory: &mut Memory) {
        self.next += 1;
        self.settle(memory);
    }

    /// The clock edge of the processor; `waiting_commands` stood in the queue in this cycle.
    fn work(&mut self, waiting_commands: usize, busy: bool, memory: &mut Memory) -> bool {
        if self.waiting > 0 {
            self.waiting -= 1;
            let over = self.waiting == 0;
            if over && matches!(self.items.get(self.next), Some(StreamItem::Wait(_))) {
                self.advance(memory);
            }
            return over;
        }
        match self.items.get(self.next) {
            Some(StreamItem::Command(command)) if waiting_commands < self.processor.ahead as usize => {
                self.queue.push_back(*command);
                self.waiting = self.interval - 1;
                self.advance(memory);
            }
            Some(StreamItem::Fence) if waiting_commands == 0 && !busy => self.advance(memory),
            _ => return false,
        }
        true
    }
}

impl Host for RunAheadHost {
    fn present(&self) -> Option<RoccCommand> {
        self.queue.front().copied()
    }

    fn edge(&mut self, accepted: bool, busy: bool, memory: &mut Memory) -> bool {
        let waiting_commands = self.queue.len();
        if accepted {
            self.queue.pop_front();
        }
        self.work(waiting_commands, busy, memory) || accepted
    }

    fn idle_cycles(&self) -> Option<u64> {
        if self.waiting > 0 {
            return Some(self.waiting - 1);
        }
        let makes = matches!(self.items.get(self.next), Some(StreamItem::Command(_)))
            && self.queue.len() < self.processor.ahead as usize;
        makes.then_some(0)
    }

    fn skip(&mut self, cycles: u64) {
        if self.waiting > 0 {
            debug_assert!(cycles < self.waiting, "a wait ends in a cycle of its own");
            self.waiting -= cycles;
        }
    }

    fn done(&self) -> bool {
        self.next == self.items.len() && self.queue.is_empty()
    }

    fn position(&self) -> String {
        let queued = self.queue.len();
        let place = match self.items.get(self.next) {
            None => "the program is used up".to_owned(),
            Some(StreamItem::Fence) => format!("item {}: a fence waits for the accelerator to become idle", self.next),
            Some(StreamItem::Command(command)) => format!("item {}: command with funct {}", self.next, command.funct),
            Some(StreamItem::Wait(cycles)) => format!("item {}: a wait of {cycles} cycles", self.next),
            Some(StreamItem::Write { address, .. }) => format!("item {}: a write to {address:#x}", self.next),
            Some(StreamItem::Mark(name)) => format!("item {}: mark '{name}'", self.next),
        };
        if queued == 0 { place } else { format!("{place}; commands that wait at the port: {queued}") }
    }

    fn mark(&self) -> Option<usize> {
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(funct: u8) -> StreamItem {
        StreamItem::Command(RoccCommand { funct, rs1: 0, rs2: 0 })
    }

    /// Cycles in which a command is accepted by a port that is ready in the cycles that `ready` says, with an accelerator that
    /// is never busy; how many cycles the host takes.
    fn accepted(items: &[StreamItem], processor: Processor, ready: impl Fn(u64) -> bool) -> (Vec<u64>, u64) {
        let mut memory = Memory::new();
        let mut host = RunAheadHost::new(items.to_vec().into(), processor, 1, &mut memory);
        let mut cycles = Vec::new();
        for cycle in 0..1000 {
            if host.done() {
                return (cycles, cycle);
            }
            let accepted = host.present().is_some() && ready(cycle);
            cycles.extend(accepted.then_some(cycle));
            host.edge(accepted, false, &mut memory);
        }
        panic!("it does not end: {}", host.position());
    }

    const PLAIN: Processor = Processor { ahead: 2, loop_ws: 0, loop_conv: 0 };

    #[test]
    fn commands_pass_the_queue_one_a_cycle() {
        let items = [command(2), command(2), command(2)];
        assert_eq!(accepted(&items, PLAIN, |_| true).0, [1, 2, 3]);
    }

    #[test]
    fn waits_pass_while_commands_stand_at_the_port() {
        let items = [command(2), command(2), StreamItem::Wait(20), command(2)];
        // The port takes nothing before cycle 20; the wait is over in cycle 22.
        assert_eq!(accepted(&items, PLAIN, |cycle| cycle >= 20).0, [20, 21, 23]);
        assert_eq!(accepted(&items, PLAIN, |cycle| cycle >= 30).0, [30, 31, 32]);
    }

    #[test]
    fn the_processor_stops_at_a_full_queue() {
        let items = [command(2), command(2), command(2), command(2)];
        assert_eq!(accepted(&items, PLAIN, |cycle| cycle >= 10).0, [10, 11, 12, 13]);
        // A queue of one entry is full in the cycle in which its command leaves.
        assert_eq!(accepted(&items, Processor { ahead: 1, ..PLAIN }, |_| true).0, [1, 3, 5, 7]);
    }

    #[test]
    fn each_loop_costs_its_work_before_it() {
        let processor = Processor { ahead: 2, loop_ws: 10, loop_conv: 30 };
        let items = [command(9), command(funct::LOOP_WS), command(9), command(funct::LOOP_CONV_WS)];
        assert_eq!(accepted(&items, processor, |_| true).0, [1, 12, 13, 44]);
    }

    #[test]
    fn a_fence_waits_for_the_queue() {
        let items = [command(2), StreamItem::Fence, command(2)];
        assert_eq!(accepted(&items, PLAIN, |cycle| cycle >= 10).0, [10, 13]);
    }

    #[test]
    fn skipping_counts_the_same() {
        let items = [command(2), StreamItem::Wait(50), command(funct::LOOP_WS)];
        let mut memory = Memory::new();
        let mut host = RunAheadHost::new(items.to_vec().into(), Processor::default(), 1, &mut memory);
        host.edge(false, false, &mut memory);
        assert_eq!(host.idle_cycles(), Some(49));
        host.skip(49);
        assert!(host.edge(true, false, &mut memory));
        assert_eq!(host.idle_cycles(), Some(145));
    }

    #[test]
    fn processors_have_a_text() {
        assert_eq!("rocket".parse(), Ok(Processor::default()));
        let processor = Processor { ahead: 4, loop_ws: 0, ..Processor::default() };
        assert_eq!("rocket:ahead=4,loop_ws=0".parse(), Ok(processor));
        assert_eq!(processor.to_string().parse(), Ok(processor));
        let error = |text: &str| text.parse::<Processor>().unwrap_err().to_string();
        assert_eq!(error("boom"), "`boom` is no processor: write rocket[:ahead=,loop_ws=,loop_conv=]");
        assert_eq!(error("rocket:ahead=0"), "`ahead=0` must be 1 to 1024");
        assert_eq!(error("rocket:speed=1"), "`speed=1` is no parameter: rocket has ahead, loop_ws and loop_conv");
        assert_eq!(error("rocket:loop_ws=x"), "`loop_ws=x` has no number up to 2^64 - 1");
        assert_eq!(error("rocket:loop_ws=1,loop_ws=2"), "`loop_ws=2` is given twice");
    }
}
