//! What the machine does, cycle by cycle: the one interface through which traces, the verifier,
//! reports and views observe it.
//!
//! The kinds and their order within a cycle are those of the golden traces (`golden/README.md`).

use serde::Serialize;

use crate::observation::report::{Activity, Span};

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
    events: Vec<(u8, Event)>,
}

impl EventBuffer {
    /// A buffer that records iff `enabled`.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, events: Vec::new() }
    }

    /// True if events are recorded.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Records one event of the current cycle.
    #[inline]
    pub fn push(&mut self, event: Event) {
        if self.enabled {
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

/// A client of the machine's events and activities.
pub trait Observer {
    /// Whether [`Observer::cycles`] is to be called; if not, nothing is worked out for it.
    const ACTIVITY: bool = false;

    /// Whether events are to be recorded. A run without is faster.
    fn wants_events(&self) -> bool {
        true
    }

    /// One event; `cycle` never decreases.
    fn event(&mut self, cycle: Cycle, event: &Event);

    /// What these cycles were spent on, before the events of the first of them. The spans follow each other without gaps.
    fn cycles(&mut self, _: Span, _: &Activity) {}

    /// The host comes to an operation: `mark`, counted from 0, is current from `cycle` on. Marks without a cycle between them are
    /// told together, by the last of them.
    fn mark(&mut self, _cycle: Cycle, _mark: usize) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn wants_events(&self) -> bool {
        false
    }

    fn event(&mut self, _: Cycle, _: &Event) {}
}

impl<F: FnMut(Cycle, &Event)> Observer for F {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        self(cycle, event);
    }
}

/// Two observers, the first one told first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    const ACTIVITY: bool = A::ACTIVITY || B::ACTIVITY;

    fn wants_events(&self) -> bool {
        self.0.wants_events() || self.1.wants_events()
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        self.0.event(cycle, event);
        self.1.event(cycle, event);
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.0.cycles(span, activity);
        self.1.cycles(span, activity);
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.mark(cycle, mark);
        self.1.mark(cycle, mark);
    }
}

/// An observer that may be absent. Activities are worked out in any case if its type asks for them.
impl<O: Observer> Observer for Option<O> {
    const ACTIVITY: bool = O::ACTIVITY;

    fn wants_events(&self) -> bool {
        self.as_ref().is_some_and(Observer::wants_events)
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        if let Some(observer) = self {
            observer.event(cycle, event);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        if let Some(observer) = self {
            observer.cycles(span, activity);
        }
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        if let Some(observer) = self {
            observer.mark(cycle, mark);
        }
    }
}
