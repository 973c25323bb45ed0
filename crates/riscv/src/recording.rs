//! The command stream of a run, as a program for the accelerator alone.

use pollux_asm::{Buffer, ElementType, Program};
use pollux_functional::unroll::{Accepted, Unroller};
use pollux_functional::{Access, AccessWalk, MemoryRows};
use pollux_isa::{Command, RoccCommand, StreamItem, ValidConfig};
use pollux_memory::{Memory, RangeSet};

/// Records what a core sends, and what it writes between the commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    items: Vec<StreamItem>,
    /// What the core has written since the last command.
    dirty: RangeSet,
    /// Memory at the first command.
    initial: Option<Memory>,
    /// Instructions executed so far, told by the machine, and before the last item.
    pub instret: u64,
    last: u64,
    /// Commands since the last fence.
    is_open: bool,
}

impl Recorder {
    pub fn store(&mut self, address: u64, bytes: u64) {
        if self.initial.is_some() {
            self.dirty.add(address..address.saturating_add(bytes));
        }
    }

    pub fn command(&mut self, command: RoccCommand, memory: &Memory) {
        if self.initial.is_none() {
            self.initial = Some(memory.clone());
            self.last = self.instret.saturating_sub(1);
        }
        self.settle(memory);
        self.items.push(StreamItem::Command(command));
        self.is_open = true;
    }

    /// A fence without a command before it waits for nothing.
    pub fn fence(&mut self, memory: &Memory) {
        if self.is_open {
            self.settle(memory);
            self.items.push(StreamItem::Fence);
            self.is_open = false;
        }
    }

    /// Notes the instructions since the last item, one a cycle, and what they wrote.
    fn settle(&mut self, memory: &Memory) {
        let wait = (self.instret - self.last).saturating_sub(1);
        self.last = self.instret;
        if wait > 0 {
            self.items.push(StreamItem::Wait(wait));
        }
        for range in std::mem::take(&mut self.dirty).iter() {
            let bytes = memory.read_vec(range.start, (range.end - range.start) as usize);
            self.items.push(StreamItem::Write { address: range.start, bytes });
        }
    }

    /// The program: buffers for what the accelerator touches, with their contents at the first command and, where it
    /// writes, those that the functional model leaves.
    pub fn finish(self, config: &ValidConfig) -> Program {
        let Touched { all, written } = touched(config, &self.items);
        let items = self.items.into_iter().flat_map(|item| only_touched(item, &all)).collect();
        let initial = self.initial.unwrap_or_default();
        let mut program = Program { items, ..Program::new(in_present_layout(config)) };
        let expected = replay(config, initial.clone(), &program.items);
        for (index, range) in all.iter().enumerate() {
            let length = range.end - range.start;
            let contents = |memory: &Memory| memory.read_vec(range.start, length as usize);
            program.buffers.push(Buffer {
                name: format!("memory_{index}"),
                address: range.start,
                element: ElementType::I8,
                shape: vec![length],
                data: Some(contents(&initial)),
                expected: written.overlaps(&range).then(|| contents(&expected)),
            });
        }
        program
    }
}

/// Commands were recorded behind the translation of their layout.
fn in_present_layout(config: &ValidConfig) -> ValidConfig {
    let mut present = config.clone().into_inner();
    present.command_layout = Default::default();
    // The rules do not look at the layout.
    present.validated().unwrap_or_else(|_| config.clone())
}

fn replay(config: &ValidConfig, memory: Memory, items: &[StreamItem]) -> Memory {
    use pollux_functional::{Action, FunctionalModel, Policy};
    let mut model = FunctionalModel::with_policy(config.clone(), memory, Policy::all(Action::Ignore));
    // The run has executed the same commands; what ended it then ends the replay too.
    let _ = model.run(items);
    model.into_memory()
}

/// The parts of an item that matter to the accelerator.
fn only_touched(item: StreamItem, touched: &RangeSet) -> Vec<StreamItem> {
    let StreamItem::Write { address, bytes } = item else { return vec![item] };
    let end = address + bytes.len() as u64;
    let parts = touched.iter().filter(|range| range.start < end && address < range.end);
    parts
        .map(|range| {
            let (first, last) = (range.start.max(address), range.end.min(end));
            let bytes = bytes[(first - address) as usize..(last - address) as usize].to_vec();
            StreamItem::Write { address: first, bytes }
        })
        .collect()
}

/// Main memory that commands touch.
#[derive(Default)]
struct Touched {
    all: RangeSet,
    written: RangeSet,
}

/// Rows further apart than this are ranges of their own.
const FAR: u64 = 4096;

fn touched(config: &ValidConfig, items: &[StreamItem]) -> Touched {
    let mut touched = Touched::default();
    let mut walk = AccessWalk::new(config);
    let mut unroller = Unroller::new(config);
    let mut visit = |command: Option<&Command>, host: &RoccCommand| {
        let note = &mut |rows: MemoryRows| {
            note_rows(&mut touched, rows);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = walk.command(config, command, host, note);
    };
    for host in items.iter().filter_map(StreamItem::command) {
        let decoded = Command::from_rocc(config, *host);
        match decoded.as_ref().map(|command| unroller.accept(command)) {
            Some(Accepted::Loop(commands)) => {
                // Longer loops are errors, and have stopped the run.
                let limit = pollux_functional::Policy::default().max_loop_commands as usize;
                commands.take(limit).for_each(|unrolled| visit(Some(&unrolled.command), host));
            }
            Some(Accepted::PassedThrough) | None => visit(decoded.as_ref(), host),
            Some(Accepted::Configured | Accepted::NeverCompletes) => {}
        }
    }
    touched
}

fn note_rows(touched: &mut Touched, rows: MemoryRows) {
    let mut add = |range: std::ops::Range<u64>| {
        if rows.access == Access::Write {
            touched.written.add(range.clone());
        }
        touched.all.add(range);
    };
    match rows.span() {
        Some(span) if rows.stride <= FAR => add(span),
        _ => rows.addresses().for_each(|address| add(address..address.saturating_add(rows.bytes))),
    }
}
