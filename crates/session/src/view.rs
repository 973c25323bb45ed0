//! [`View`]: what there is to see in one cycle, with the program's names.

use pollux_asm::{Disassembler, Program};
use pollux_isa::RoccCommand;
use pollux_sim::host::Host;
use pollux_sim::observer::{Activity, Cycle, Event};
use pollux_sim::report::{Block, Cause, Spent};
use pollux_sim::view::MachineView;
use pollux_trace::event_csv;
use serde::Serialize;

use crate::condition::marks;
use crate::engine::Engine;
use crate::scan::Recent;

/// Cycles of a block's past that a view shows.
pub const HISTORY: u64 = 64;

/// Items of the command stream that a view shows.
const AHEAD: usize = 8;

/// Everything in one cycle: registers as they are at its start, and what happens in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Registers and queues.
    #[serde(flatten)]
    pub machine: MachineView,
    /// The run is over: nothing will happen any more.
    pub ended: bool,
    /// The operation at which the host is; none before the first, or if the program has no marks.
    pub operation: Option<OperationView>,
    /// The host.
    pub host: HostView,
    /// What each block does in this cycle.
    pub blocks: Vec<BlockView>,
    /// Events of this cycle, as lines of a trace.
    pub events: Vec<String>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationView {
    /// Its number, from 0.
    pub number: usize,
    /// Its name.
    pub name: String,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostView {
    /// Item of the command stream at which it stands.
    pub item: usize,
    /// What it does there.
    pub position: String,
    /// The items from there on, as text.
    pub next: Vec<String>,
}

/// What a block does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockView {
    /// The block.
    pub block: Block,
    /// `idle`, `busy`, `draining` or `stalled`.
    pub state: &'static str,
    /// Why it is stalled.
    pub cause: Option<Cause>,
    /// Cycles of this state up to this one; [`HISTORY`] stands for that many or more.
    pub cycles: u64,
    /// The last [`HISTORY`] cycles up to this one, oldest first, a letter each: `.` idle, `#` busy, `~` draining, `!` stalled.
    pub history: String,
}

/// Name of a state.
pub(crate) fn state(spent: Spent) -> (&'static str, Option<Cause>) {
    match spent {
        Spent::Idle => ("idle", None),
        Spent::Busy => ("busy", None),
        Spent::Draining => ("draining", None),
        Spent::Stalled(cause) => ("stalled", Some(cause)),
    }
}

fn letter(spent: Spent) -> char {
    match spent {
        Spent::Idle => '.',
        Spent::Busy => '#',
        Spent::Draining => '~',
        Spent::Stalled(_) => '!',
    }
}

impl BlockView {
    /// From what was spent in the cycles up to and with the present, oldest first.
    fn new(block: Block, past: &[(u64, Spent)]) -> Self {
        let spent = past.last().map_or(Spent::Idle, |(_, spent)| *spent);
        let same = past.iter().rev().take_while(|(_, of)| *of == spent).map(|(cycles, _)| cycles).sum::<u64>();
        let (state, cause) = state(spent);
        let history = past.iter().flat_map(|&(cycles, of)| (0..cycles).map(move |_| letter(of))).collect();
        Self { block, state, cause, cycles: same, history }
    }
}

impl View {
    /// The view of an engine's present cycle, of which `recent` has the past and what happens in it.
    pub(crate) fn new(engine: &Engine, program: &Program, recent: &Recent, ended: bool) -> Self {
        let disassembler = Disassembler::new(program);
        let mut machine = engine.view();
        for command in machine.commands_mut() {
            let (funct, rs1, rs2) = (command.funct, command.rs1, command.rs2);
            command.text = disassembler.command(RoccCommand { funct, rs1, rs2 });
        }
        let cycle = machine.cycle;
        let item = engine.host.place();
        let ahead = program.items.iter().skip(item).take(AHEAD);
        let happens = recent.events.iter().filter(|(of, _)| *of == cycle && !ended);
        let operation = engine.host.mark().and_then(|number| {
            let name = marks(program).nth(number)?.to_owned();
            Some(OperationView { number, name })
        });
        Self {
            ended,
            operation,
            host: HostView {
                item,
                position: engine.host.position(),
                next: ahead.map(|item| disassembler.item(item)).collect(),
            },
            blocks: blocks(cycle, recent, ended),
            events: happens.map(|(cycle, event): &(Cycle, Event)| event_csv::line(*cycle, event)).collect(),
            machine,
        }
    }

    /// What a block does.
    pub fn block(&self, block: Block) -> &BlockView {
        &self.blocks[block as usize]
    }
}

fn blocks(cycle: Cycle, recent: &Recent, ended: bool) -> Vec<BlockView> {
    let first = (cycle + 1).saturating_sub(HISTORY);
    // The cycles that are shown, up to and with the present one.
    let shown: Vec<(u64, &Activity)> = recent
        .spans
        .iter()
        .filter_map(|(span, activity)| {
            let (start, end) = (span.first.max(first), (span.first + span.cycles).min(cycle + 1));
            (start < end).then_some((end - start, activity))
        })
        .collect();
    let of = |block: Block| {
        let mut past: Vec<(u64, Spent)> =
            shown.iter().map(|(cycles, activity)| (*cycles, activity.of(block))).collect();
        if ended {
            // Nothing moves any more: the last cycle is like the one before.
            past.push((1, past.last().map_or(Spent::Idle, |(_, spent)| *spent)));
        }
        BlockView::new(block, &past)
    };
    Block::ALL.into_iter().map(of).collect()
}
