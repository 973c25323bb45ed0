//! Who presents commands at the accelerator's command port (`io.cmd` of `LazyRoCCModuleImp`).

mod run_ahead;

use std::sync::Arc;

use pollux_isa::{RoccCommand, StreamItem};
use pollux_memory::Memory;

pub use run_ahead::{ParseProcessorError, Processor, RunAheadHost};

/// The destination register that the golden bench gives every command.
pub const BENCH_RD: u8 = 1;

/// An item of a host's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptItem {
    /// A command.
    Command(RoccCommand),
    /// Nothing is presented until the accelerator is idle.
    Fence,
    /// Nothing is presented for so many cycles.
    Wait(u64),
    /// The host waits until the accelerator is idle and works for so many cycles.
    Work(u64),
    /// An operation begins.
    Mark,
    /// Something that takes no time, such as a write to memory.
    Nothing,
}

/// The script of a host that presents these items: one item for each.
pub fn stream_script(items: &[StreamItem]) -> impl Iterator<Item = ScriptItem> {
    items.iter().map(|item| match item {
        StreamItem::Command(cmd) => ScriptItem::Command(*cmd),
        StreamItem::Fence => ScriptItem::Fence,
        StreamItem::Wait(0) | StreamItem::Write { .. } => ScriptItem::Nothing,
        StreamItem::Wait(cycles) => ScriptItem::Wait(*cycles),
        StreamItem::Mark(_) => ScriptItem::Mark,
    })
}

/// A command source. `present` and `edge` alternate, once a cycle each.
pub trait Host {
    /// The command presented in this cycle, if any. It stays until it is accepted.
    fn present(&self) -> Option<RoccCommand>;

    /// Clock edge: whether the presented command was accepted and whether the accelerator was busy in this cycle.
    /// Writes of the processor reach `memory` here. Returns whether anything changed; what [`Host::idle_cycles`] counts down does not
    /// matter.
    fn edge(&mut self, accepted: bool, busy: bool, memory: &mut Memory) -> bool;

    /// How many cycles nothing but counting happens here (`None`: for ever, unless the accelerator moves).
    fn idle_cycles(&self) -> Option<u64>;

    /// Lets `cycles` counting cycles pass at once (at most [`Host::idle_cycles`]).
    fn skip(&mut self, cycles: u64);

    /// True when nothing is left to present.
    fn done(&self) -> bool;

    /// The position in the stream, for messages.
    fn position(&self) -> String;

    /// The mark (operation) that is current, counted from 0; `None` before the first.
    fn mark(&self) -> Option<usize>;

    /// Everything that the host does from first to last, if that is known beforehand: nothing of it depends on when or how the
    /// accelerator answers. Needed for exact replay (`crate::replay`).
    fn script(&self) -> Option<Vec<ScriptItem>> {
        None
    }

    /// Item of the [script](Self::script) that the host stands at.
    fn place(&self) -> usize {
        0
    }

    /// Lets the host stand at another item of its script, as in the cycle in which it comes to it. What it writes to memory until then
    /// is written; what it wrote behind an earlier item stays.
    fn jump(&mut self, _item: usize, _memory: &mut Memory) {}
}

/// The golden bench's host: a command whenever the port is ready, fences, waits, and the processor's own writes.
///
/// With an issue interval of n a command is presented at the earliest n cycles after the one before was accepted
/// (1: every cycle), as an in-order core with n - 1 instructions between two commands would do.
#[derive(Clone, Debug)]
pub struct StreamHost {
    items: Arc<[StreamItem]>,
    next: usize,
    /// Cycles of the current wait that are still to pass.
    waiting: u64,
    interval: u64,
    mark: Option<usize>,
}

impl StreamHost {
    /// A host at the start of a stream. Writes that stand first are done before cycle 0.
    pub fn new(items: Arc<[StreamItem]>, interval: u64, memory: &mut Memory) -> Self {
        let mut host = Self { items, next: 0, waiting: 0, interval: interval.max(1), mark: None };
        host.settle(memory);
        host
    }

    /// Passes the items that take no cycle and starts a wait.
    fn settle(&mut self, memory: &mut Memory) {
        while let Some(item) = self.items.get(self.next) {
            match item {
                StreamItem::Write { address, bytes } => memory.write(*address, bytes),
                StreamItem::Mark(_) => self.mark = Some(self.mark.map_or(0, |m| m + 1)),
                StreamItem::Wait(0) => {}
                StreamItem::Wait(n) => {
                    self.waiting = *n;
                    return;
                }
                StreamItem::Command(_) | StreamItem::Fence => return,
            }
            self.next += 1;
        }
    }

    fn advance(&mut self, memory: &mut Memory) {
        self.next += 1;
        self.settle(memory);
    }

    fn current(&self) -> Option<&StreamItem> {
        self.items.get(self.next)
    }
}

impl Host for StreamHost {
    fn present(&self) -> Option<RoccCommand> {
        match self.current() {
            Some(StreamItem::Command(cmd)) if self.waiting == 0 => Some(*cmd),
            _ => None,
        }
    }

    #[inline]
    fn edge(&mut self, accepted: bool, busy: bool, memory: &mut Memory) -> bool {
        if self.waiting > 0 {
            self.waiting -= 1;
            let over = self.waiting == 0;
            if over && matches!(self.current(), Some(StreamItem::Wait(_))) {
                self.advance(memory);
            }
            return over;
        }
        match self.current() {
            Some(StreamItem::Command(_)) if accepted => {
                self.advance(memory);
                if let Some(StreamItem::Command(_)) = self.current() {
                    self.waiting = self.interval - 1;
                }
            }
            Some(StreamItem::Fence) if !busy => self.advance(memory),
            _ => return false,
        }
        true
    }

    fn idle_cycles(&self) -> Option<u64> {
        (self.waiting > 0).then(|| self.waiting - 1)
    }

    fn skip(&mut self, cycles: u64) {
        if self.waiting > 0 {
            debug_assert!(cycles < self.waiting, "a wait ends in a cycle of its own");
            self.waiting -= cycles;
        }
    }

    fn done(&self) -> bool {
        self.next == self.items.len()
    }

    fn position(&self) -> String {
        match self.current() {
            None => "the program is used up".into(),
            Some(StreamItem::Fence) => format!("item {}: a fence waits for the accelerator to become idle", self.next),
            Some(StreamItem::Command(cmd)) => format!("item {}: command with funct {}", self.next, cmd.funct),
            Some(StreamItem::Wait(n)) => format!("item {}: a wait of {n} cycles", self.next),
            Some(StreamItem::Write { address, .. }) => format!("item {}: a write to {address:#x}", self.next),
            Some(StreamItem::Mark(name)) => format!("item {}: mark '{name}'", self.next),
        }
    }

    fn mark(&self) -> Option<usize> {
        self.mark
    }

    fn script(&self) -> Option<Vec<ScriptItem>> {
        Some(stream_script(&self.items).collect())
    }

    #[inline]
    fn place(&self) -> usize {
        self.next
    }

    fn jump(&mut self, item: usize, memory: &mut Memory) {
        self.waiting = 0;
        let behind = self.items.get(item..self.next).unwrap_or_default();
        let marks = behind.iter().filter(|item| matches!(item, StreamItem::Mark(_))).count();
        self.mark = self.mark.and_then(|mark| mark.checked_sub(marks));
        self.next = self.next.min(item);
        while self.next < item {
            match &self.items[self.next] {
                StreamItem::Write { address, bytes } => memory.write(*address, bytes),
                StreamItem::Mark(_) => self.mark = Some(self.mark.map_or(0, |m| m + 1)),
                _ => {}
            }
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CMD: StreamItem = StreamItem::Command(RoccCommand { funct: 7, rs1: 0, rs2: 0 });

    /// Cycles in which a command is presented, with a port that is always ready and an accelerator that is never busy.
    fn presented(items: Vec<StreamItem>, interval: u64) -> Vec<u64> {
        let mut memory = Memory::new();
        let mut host = StreamHost::new(items.into(), interval, &mut memory);
        let mut cycles = Vec::new();
        for cycle in 0..100 {
            let valid = host.present().is_some();
            if valid {
                cycles.push(cycle);
            }
            host.edge(valid, false, &mut memory);
        }
        assert!(host.done());
        cycles
    }

    #[test]
    fn commands_follow_each_other_every_cycle() {
        assert_eq!(presented(vec![CMD, CMD, CMD], 1), [0, 1, 2]);
    }

    #[test]
    fn a_fence_of_an_idle_accelerator_costs_one_cycle() {
        assert_eq!(presented(vec![CMD, StreamItem::Fence, CMD], 1), [0, 2]);
    }

    #[test]
    fn a_wait_costs_exactly_its_cycles() {
        assert_eq!(presented(vec![CMD, StreamItem::Wait(5), CMD, StreamItem::Wait(0), CMD], 1), [0, 6, 7]);
    }

    #[test]
    fn an_issue_interval_spaces_commands() {
        assert_eq!(presented(vec![CMD, CMD, StreamItem::Mark("m".into()), CMD], 4), [0, 4, 8]);
    }

    #[test]
    fn a_write_is_done_before_the_next_command_is_presented() {
        let mut memory = Memory::new();
        let items = vec![StreamItem::Fence, StreamItem::Write { address: 16, bytes: vec![7] }, CMD];
        let mut host = StreamHost::new(items.into(), 1, &mut memory);
        host.edge(false, false, &mut memory);
        let mut byte = [0];
        memory.read(16, &mut byte);
        assert_eq!(byte, [7]);
        assert!(host.present().is_some());
    }
}
