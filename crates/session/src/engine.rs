//! The simulation of a session: one type for every host and every memory, and its two kinds of observers.

use std::sync::Arc;

use pollux_asm::Program;
use pollux_isa::RoccCommand;
use pollux_memory::Memory;
use pollux_sim::host::{Host, Processor, RunAheadHost, StreamHost};
use pollux_sim::machine::{Machine, Translation};
use pollux_sim::memory::{
    ABeat, BandwidthMemory, BenchMemory, DBeat, DramL2Memory, FireSimMemory, MemoryModel, MemorySystem, OuterMemory,
};
use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span};
use pollux_sim::simulation::Simulation;
use pollux_sim::uncore::hierarchy::Uncore;

use crate::SessionError;

/// How a session's program runs: as in [`pollux_sim::runner::Runner`].
#[derive(Clone, Debug)]
pub struct Setup {
    /// What stands behind the memory port.
    pub memory: MemoryModel,
    /// How addresses are translated.
    pub translation: Translation,
    /// Cycles from one command of the host to the next, at least.
    pub interval: u64,
    /// A processor that runs ahead of the accelerator.
    pub processor: Option<Processor>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { memory: MemoryModel::default(), translation: Translation::Bare, interval: 1, processor: None }
    }
}

/// A simulation that can be copied, whatever its host and its memory.
pub(crate) type Engine = Simulation<AnyHost, AnyMemory>;

/// The simulation of a program at cycle 0.
pub(crate) fn start(program: &Program, setup: &Setup) -> Result<Engine, SessionError> {
    let mut memory = program.initial_memory();
    let items = Arc::from(program.items.clone());
    let host = match setup.processor {
        Some(processor) => AnyHost::RunAhead(RunAheadHost::new(items, processor, setup.interval, &mut memory)),
        None => AnyHost::Stream(StreamHost::new(items, setup.interval, &mut memory)),
    };
    let config = &program.config;
    let beat_bytes = config.beat_bytes() as usize;
    let memory = match setup.memory {
        MemoryModel::Bench(p) => AnyMemory::Bench(BenchMemory::new(p, beat_bytes, memory)),
        MemoryModel::Bandwidth(p) => AnyMemory::Bandwidth(BandwidthMemory::with_values(p, beat_bytes, memory)),
        MemoryModel::Dram(p) => AnyMemory::Dram(Box::new(DramL2Memory::with_values(p, beat_bytes, memory))),
        MemoryModel::FireSim(p) => AnyMemory::FireSim(Box::new(FireSimMemory::with_values(p, beat_bytes, memory))),
        MemoryModel::L2(p) => match p.refuses(config) {
            None => AnyMemory::L2(Box::new(p.build(beat_bytes, memory))),
            Some(reason) => return Err(SessionError::Memory(reason)),
        },
        _ => return Err(SessionError::Memory(format!("a session has no memory system {}", setup.memory))),
    };
    Ok(Simulation::with_machine(Machine::new(config, setup.translation), host, memory, false))
}

/// The hosts of programs.
#[derive(Clone, Debug)]
pub(crate) enum AnyHost {
    Stream(StreamHost),
    RunAhead(RunAheadHost),
}

macro_rules! host {
    ($self:ident, $host:ident => $body:expr) => {
        match $self {
            Self::Stream($host) => $body,
            Self::RunAhead($host) => $body,
        }
    };
}

impl Host for AnyHost {
    fn present(&self) -> Option<RoccCommand> {
        host!(self, host => host.present())
    }

    fn edge(&mut self, accepted: bool, busy: bool, memory: &mut Memory) -> bool {
        host!(self, host => host.edge(accepted, busy, memory))
    }

    fn idle_cycles(&self) -> Option<u64> {
        host!(self, host => host.idle_cycles())
    }

    fn skip(&mut self, cycles: u64) {
        host!(self, host => host.skip(cycles));
    }

    fn done(&self) -> bool {
        host!(self, host => host.done())
    }

    fn position(&self) -> String {
        host!(self, host => host.position())
    }

    fn mark(&self) -> Option<usize> {
        host!(self, host => host.mark())
    }

    fn place(&self) -> usize {
        host!(self, host => host.place())
    }
}

/// The memory systems.
#[derive(Clone, Debug)]
pub(crate) enum AnyMemory {
    Bench(BenchMemory),
    Bandwidth(BandwidthMemory),
    Dram(Box<DramL2Memory>),
    FireSim(Box<FireSimMemory>),
    L2(Box<Uncore<OuterMemory>>),
}

macro_rules! memory {
    ($self:ident, $memory:ident => $body:expr) => {
        match $self {
            Self::Bench($memory) => $body,
            Self::Bandwidth($memory) => $body,
            Self::Dram($memory) => $body,
            Self::FireSim($memory) => $body,
            Self::L2($memory) => $body,
        }
    };
}

impl MemorySystem for AnyMemory {
    fn advance(&mut self, cycle: Cycle) {
        memory!(self, memory => memory.advance(cycle));
    }

    fn a_ready(&self, cycle: Cycle) -> bool {
        memory!(self, memory => memory.a_ready(cycle))
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat) {
        memory!(self, memory => memory.accept(cycle, beat));
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat> {
        memory!(self, memory => memory.d_front(cycle))
    }

    fn take_d(&mut self, cycle: Cycle) {
        memory!(self, memory => memory.take_d(cycle));
    }

    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle> {
        memory!(self, memory => memory.next_event(cycle, a_valid))
    }

    fn busy(&self) -> bool {
        memory!(self, memory => memory.busy())
    }

    fn memory(&self) -> &Memory {
        memory!(self, memory => memory.memory())
    }

    fn memory_mut(&mut self) -> &mut Memory {
        memory!(self, memory => memory.memory_mut())
    }

    fn into_memory(self) -> Memory {
        match self {
            Self::Bench(memory) => memory.into_memory(),
            Self::Bandwidth(memory) => memory.into_memory(),
            Self::Dram(memory) => memory.into_memory(),
            Self::FireSim(memory) => memory.into_memory(),
            Self::L2(memory) => memory.into_memory(),
        }
    }
}

/// What looks at cycles as they pass, in one of two ways.
pub(crate) trait Watch {
    /// An event, and what it belongs to; unknown in [`EventsOnly`].
    fn event(&mut self, cycle: Cycle, event: &Event, links: &Links);

    /// Equal cycles; not called in [`EventsOnly`].
    fn cycles(&mut self, _span: Span, _activity: &Activity) {}

    /// The host comes to an operation.
    fn mark(&mut self, _cycle: Cycle, _mark: usize) {}
}

/// Events without what they belong to: the faster way.
pub(crate) struct EventsOnly<'a>(pub &'a mut dyn Watch);

impl Observer for EventsOnly<'_> {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        self.0.event(cycle, event, &Links::default());
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.mark(cycle, mark);
    }
}

/// Events with what they belong to, and activities.
pub(crate) struct Everything<'a>(pub &'a mut dyn Watch);

impl Observer for Everything<'_> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        self.0.event(cycle, event, links);
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.0.cycles(span, activity);
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.mark(cycle, mark);
    }
}
