//! What the machine does, cycle by cycle, as events. The kinds and their order within a cycle are those of the golden traces (`golden/README.md`).

use pollux_isa::{Command, GemminiConfig, RoccCommand};
use serde::Serialize;

use crate::observation::counts::EventCounts;
use crate::observation::report::macs::{Issued, MacCounter};
use crate::observation::violation::{Violation, Violations};

/// A clock cycle, counted from the end of reset.
pub type Cycle = u64;

/// The three queues of the reservation station and the controllers behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Load controller.
    Ld,
    /// Execute controller.
    Ex,
    /// Store controller.
    St,
}

/// Who made a command that enters the reservation station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The host processor.
    Host,
    /// The LOOP_WS unroller (`LoopMatmul`).
    Matmul,
    /// The LOOP_CONV_WS unroller (`LoopConv`).
    Conv,
}

/// Who accesses a memory bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// The execute controller.
    Ex,
    /// The load or store side.
    Dma,
}

impl Port {
    /// Who it is, for people.
    pub(crate) fn reader(self) -> &'static str {
        match self {
            Self::Ex => "execute",
            Self::Dma => "dma",
        }
    }
}

/// Opcode of a request on TileLink channel A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReqKind {
    /// Read.
    Get,
    /// Write of all bytes.
    PutFull,
    /// Write of the masked bytes.
    PutPartial,
}

/// One observable event. The variants stand in the order in which a trace lists them within a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the fields are the columns of the trace format, described in its README
pub enum Event {
    /// The busy output changed.
    Busy { value: bool },
    /// A command was taken at the command port.
    Accept { number: u64, funct: u8, rs1: u64, rs2: u64 },
    /// A command entered the reservation station.
    Alloc { seq: u64, unit: Unit, entry: u8, funct: u8, rs1: u64, rs2: u64, origin: Origin },
    /// A command was handed to its controller.
    Issue { seq: u64, unit: Unit, entry: u8 },
    /// A command left the reservation station.
    Complete { seq: u64, unit: Unit, entry: u8 },
    /// A beat was accepted on channel A.
    Req { request: u64, kind: ReqKind, source: u16, address: u64, size: u32, beat: u32, mask: u64 },
    /// A beat was taken on channel D.
    Rsp { request: u64, ack: bool, source: u16, beat: u32 },
    /// A response left on the RoCC response port.
    Resp { register: u8, data: u64 },
    /// A scratchpad bank took a read request.
    SpadRead { bank: u8, row: u32, port: Port },
    /// A scratchpad bank was written.
    SpadWrite { bank: u8, row: u32, port: Port },
    /// An accumulator bank took a read request.
    AccRead { bank: u8, row: u32, port: Port },
    /// An accumulator bank took a write request.
    AccWrite { bank: u8, row: u32, port: Port, accumulate: bool },
    /// The mesh wrapper took a request.
    MeshReq { flush: u8 },
    /// The mesh wrapper took a row of the A operand.
    MeshA,
    /// The mesh showed a valid output row.
    MeshOut { last: bool },
}

impl Event {
    /// Position of the event's kind within a cycle.
    pub fn order(&self) -> u8 {
        match self {
            Event::Busy { .. } => 0,
            Event::Accept { .. } => 1,
            Event::Alloc { .. } => 2,
            Event::Issue { .. } => 3,
            Event::Complete { .. } => 4,
            Event::Req { .. } => 5,
            Event::Rsp { .. } => 6,
            Event::Resp { .. } => 7,
            Event::SpadRead { .. } => 8,
            Event::SpadWrite { .. } => 9,
            Event::AccRead { .. } => 10,
            Event::AccWrite { .. } => 11,
            Event::MeshReq { .. } => 12,
            Event::MeshA => 13,
            Event::MeshOut { .. } => 14,
        }
    }

    /// True for the events of banks and mesh, which golden traces hold only on request (`detail`).
    pub fn is_detail(&self) -> bool {
        self.order() >= 8
    }
}

/// The events of the current cycle, in the order in which the blocks made them.
///
/// Blocks push; the machine sorts by kind at the end of the cycle and hands them to its observer.
/// With recording off a push costs one branch.
#[derive(Clone, Debug, Default)]
pub struct EventBuffer {
    enabled: bool,
    /// Events are recorded or counted.
    listening: bool,
    counter: Option<Box<EventCounter>>,
    events: Vec<(u8, Event)>,
    /// The current cycle.
    cycle: Cycle,
    violations: Violations,
}

impl EventBuffer {
    /// A buffer that records iff `enabled`.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, listening: enabled, ..Self::default() }
    }

    /// Records from now on, or no longer.
    pub(crate) fn record(&mut self, enabled: bool) {
        self.enabled = enabled;
        self.listening = enabled || self.counter.is_some();
    }

    /// Counts the events from now on.
    pub(crate) fn count(&mut self, config: &GemminiConfig) {
        self.listening = true;
        self.counter = Some(Box::new(EventCounter::new(config)));
    }

    /// The events so far, if they are counted.
    pub(crate) fn counts(&self) -> Option<&EventCounts> {
        self.counter.as_ref().map(|counter| counter.counts())
    }

    /// What the counting of the next events depends on, if they are counted.
    pub(crate) fn counting(&self) -> Option<Counting> {
        let counter = self.counter.as_ref()?;
        Some(Counting { issued: counter.macs.issued(), execute: counter.execute.as_slice().into() })
    }

    /// Goes on where another count was; the counts stay what they are.
    pub(crate) fn resume(&mut self, counting: Option<&Counting>) {
        if let (Some(counter), Some(counting)) = (&mut self.counter, counting) {
            counter.macs.resume(counting.issued);
            counter.execute.copy_from_slice(&counting.execute);
        }
    }

    /// A cycle begins.
    #[inline]
    pub(crate) fn begin(&mut self, cycle: Cycle) {
        self.cycle = cycle;
    }

    /// An assertion of the RTL, in the current cycle. Unlike events it is always looked at.
    #[inline]
    pub(crate) fn require(&mut self, holds: bool, otherwise: Violation) {
        self.require_in(self.cycle, holds, otherwise);
    }

    /// The same in another cycle.
    #[inline]
    pub(crate) fn require_in(&mut self, cycle: Cycle, holds: bool, otherwise: Violation) {
        if !holds {
            self.violations.note(otherwise, cycle);
        }
    }

    /// The rules broken so far.
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    /// True if events are recorded.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// True if events are recorded or counted.
    #[inline]
    pub(crate) fn listening(&self) -> bool {
        self.listening
    }

    /// Records one event of the current cycle.
    #[inline]
    pub fn push(&mut self, event: Event) {
        if self.listening {
            self.note(event, 1);
        }
    }

    /// So many events that differ from this one at most in their row, of as many cycles. While events are recorded it is one.
    #[inline]
    pub(crate) fn push_each(&mut self, event: Event, cycles: u32) {
        if self.listening {
            self.note(event, cycles);
        }
    }

    #[inline(never)] // most runs do not listen
    fn note(&mut self, event: Event, times: u32) {
        if let Some(counter) = &mut self.counter {
            counter.count(&event, times.into());
        }
        if self.enabled {
            debug_assert!(times == 1, "recorded events are those of one cycle");
            self.events.push((self.position(&event), event));
        }
    }

    /// A configuration command completes as it issues; traces list the two lines together.
    fn position(&self, event: &Event) -> u8 {
        match (self.events.last(), event) {
            (Some((order, Event::Issue { seq: issued, .. })), Event::Complete { seq, .. }) if issued == seq => *order,
            _ => event.order(),
        }
    }

    /// Hands the cycle's events over in trace order and empties the buffer.
    pub fn drain_sorted(&mut self, mut f: impl FnMut(&Event)) {
        self.events.sort_by_key(|(order, _)| *order);
        for (_, event) in &self.events {
            f(event);
        }
        self.events.clear();
    }
}

/// What counting depends on beside the events: commands that were told of earlier.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    pub issued: Issued,
    /// Execute commands that wait for their issue, by entry.
    execute: Box<[RoccCommand]>,
}

/// Counts events as they occur. What has no events is left 0.
#[derive(Clone, Debug)]
struct EventCounter {
    counts: EventCounts,
    config: GemminiConfig,
    macs: MacCounter,
    /// Execute commands that wait for their issue, by entry.
    execute: Vec<RoccCommand>,
}

impl EventCounter {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            counts: EventCounts::default(),
            macs: MacCounter::new(config),
            execute: vec![RoccCommand::default(); config.reservation_station_entries_ex as usize],
            config: config.clone(),
        }
    }

    fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// So many events like this one.
    fn count(&mut self, event: &Event, times: u64) {
        let EventCounts { memory, scratchpad, accumulator, mesh, commands, .. } = &mut self.counts;
        *match *event {
            Event::Accept { .. } => &mut commands.host,
            Event::Alloc { unit, entry, funct, rs1, rs2, origin, .. } => {
                commands.unrolled += u64::from(origin != Origin::Host);
                match unit {
                    Unit::Ld => &mut commands.load,
                    Unit::Ex => {
                        self.execute[usize::from(entry)] = RoccCommand { funct, rs1, rs2 };
                        &mut commands.execute
                    }
                    Unit::St => &mut commands.store,
                }
            }
            Event::Issue { unit: Unit::Ex, entry, .. } => return self.issue(self.execute[usize::from(entry)]),
            Event::Req { kind: ReqKind::Get, size, .. } => {
                memory.read_bytes += u64::from(size);
                &mut memory.reads
            }
            Event::Req { beat, mask, .. } => {
                memory.writes += u64::from(beat == 0);
                memory.written_bytes += u64::from(mask.count_ones());
                &mut memory.write_beats
            }
            Event::Rsp { ack: false, .. } => &mut memory.read_beats,
            Event::SpadRead { port: Port::Ex, .. } => &mut scratchpad.ex_reads,
            Event::SpadRead { port: Port::Dma, .. } => &mut scratchpad.dma_reads,
            Event::SpadWrite { port: Port::Ex, .. } => &mut scratchpad.ex_writes,
            Event::SpadWrite { port: Port::Dma, .. } => &mut scratchpad.dma_writes,
            Event::AccRead { port: Port::Ex, .. } => &mut accumulator.ex_reads,
            Event::AccRead { port: Port::Dma, .. } => &mut accumulator.dma_reads,
            Event::AccWrite { port: Port::Ex, accumulate: false, .. } => &mut accumulator.ex_writes,
            Event::AccWrite { port: Port::Ex, accumulate: true, .. } => &mut accumulator.ex_accumulates,
            Event::AccWrite { port: Port::Dma, accumulate: false, .. } => &mut accumulator.dma_writes,
            Event::AccWrite { port: Port::Dma, accumulate: true, .. } => &mut accumulator.dma_accumulates,
            Event::MeshReq { .. } => &mut mesh.requests,
            Event::MeshA => &mut mesh.operand_rows,
            Event::MeshOut { .. } => &mut mesh.rows,
            Event::Busy { .. }
            | Event::Issue { .. }
            | Event::Complete { .. }
            | Event::Rsp { ack: true, .. }
            | Event::Resp { .. } => return,
        } += times;
    }

    /// The next execute command, in program order.
    fn issue(&mut self, command: RoccCommand) {
        let mesh = &mut self.counts.mesh;
        mesh.macs += self.macs.issue(command);
        if let Some(Command::Preload(preload)) = Command::from_rocc(&self.config, command)
            && !preload.d.is_garbage(self.config.layout())
        {
            mesh.preloads += 1;
            mesh.preloaded += u64::from(preload.d_rows) * u64::from(preload.d_cols);
        }
    }
}
