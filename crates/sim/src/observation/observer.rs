//! The one interface through which traces, the verifier, reports and views observe a run: [`Observer`] is told what the machine does
//! ([`Event`]) and what its cycles are spent on ([`Activity`]).

use pollux_memory::Memory;

use crate::machine::Machine;
use crate::observation::counts::EventCounts;
use crate::observation::profile::Profile;

pub use crate::observation::activity::{Activity, Span};
pub use crate::observation::event::{Cycle, Event, Origin, Port, ReqKind, Unit};

/// The counts of an operation: of what stands between two marks of the host.
///
/// What happens in a cycle belongs to the operation at which the host is then, as in
/// [`OperationReport`](crate::report::OperationReport).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CountedOperation {
    /// Number of its mark, from 0; none before the first.
    pub mark: Option<usize>,
    /// First cycle.
    pub start: Cycle,
    /// Cycles.
    pub cycles: u64,
    /// Counts.
    pub counts: EventCounts,
}

/// What an event belongs to. Unknown for what began before events were recorded, and for a flush of the array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Sequence number of its command in the reservation station. Results carry that of their PRELOAD, as the hardware's tags do;
    /// operand rows that of the oldest command of their pass.
    pub command: Option<u64>,
    /// Number of the host's command, or of the one from whose loop the command was unrolled. Told when commands are accepted and
    /// allocated.
    pub parent: Option<u64>,
    /// Sequence numbers of the commands that an allocated command waits for.
    pub dependencies: Vec<u64>,
}

/// A client of the machine's events and activities.
pub trait Observer {
    /// Whether [`Observer::cycles`] is to be called; if not, nothing is worked out for it.
    const ACTIVITY: bool = false;

    /// Whether [`Observer::linked`] is to be called, which takes recorded events.
    const LINKS: bool = false;

    /// Whether events are to be recorded. A run without is faster.
    fn wants_events(&self) -> bool {
        true
    }

    /// Whether events are to be counted, for [`Observer::counted`]. It costs much less than recording them.
    fn wants_counts(&self) -> bool {
        false
    }

    /// Whether every event or cycle matters by itself. If what an observer makes of them only adds up, stretches that were simulated
    /// before can be [replayed](crate::replay) for it: a [profile](crate::report::Profiler) does.
    fn wants_each(&self) -> bool {
        self.wants_events() || Self::ACTIVITY
    }

    /// How many profiles there are in it.
    fn profiles(&self) -> usize {
        0
    }

    /// The one profile in it, to which a replayed stretch is added.
    fn profile(&mut self) -> Option<&mut Profile> {
        None
    }

    /// One event; `cycle` never decreases.
    fn event(&mut self, cycle: Cycle, event: &Event);

    /// What the event that was just told belongs to.
    fn linked(&mut self, _cycle: Cycle, _event: &Event, _links: &Links) {}

    /// What these cycles were spent on, before the events of the first of them. The spans follow each other without gaps.
    fn cycles(&mut self, _: Span, _: &Activity) {}

    /// The host comes to an operation: `mark`, counted from 0, is current from `cycle` on. Marks without a cycle between them are
    /// told together, by the last of them.
    fn mark(&mut self, _cycle: Cycle, _mark: usize) {}

    /// The counts of the operation that ends: as the next one begins, and at the end of the run. A run that was stopped and goes on
    /// tells of an operation in parts.
    fn counted(&mut self, _operation: &CountedOperation) {}

    /// Whether [`Observer::cycle_end`] is to be called, which has every cycle simulated by itself. A run ahead of the accelerator
    /// ([`Runner::processor`](crate::runner::Runner::processor)) does not call it.
    fn wants_cycle_ends(&self) -> bool {
        false
    }

    /// What the accelerator and main memory hold behind a cycle, whose events have been told. For machines with values.
    fn cycle_end(&mut self, _machine: &Machine, _memory: &Memory) {}
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
    const LINKS: bool = A::LINKS || B::LINKS;

    fn wants_events(&self) -> bool {
        self.0.wants_events() || self.1.wants_events()
    }

    fn wants_counts(&self) -> bool {
        self.0.wants_counts() || self.1.wants_counts()
    }

    fn wants_each(&self) -> bool {
        self.0.wants_each() || self.1.wants_each()
    }

    fn profiles(&self) -> usize {
        self.0.profiles() + self.1.profiles()
    }

    fn profile(&mut self) -> Option<&mut Profile> {
        self.0.profile().or(self.1.profile())
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        self.0.event(cycle, event);
        self.1.event(cycle, event);
    }

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        self.0.linked(cycle, event, links);
        self.1.linked(cycle, event, links);
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.0.cycles(span, activity);
        self.1.cycles(span, activity);
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.mark(cycle, mark);
        self.1.mark(cycle, mark);
    }

    fn counted(&mut self, operation: &CountedOperation) {
        self.0.counted(operation);
        self.1.counted(operation);
    }

    fn wants_cycle_ends(&self) -> bool {
        self.0.wants_cycle_ends() || self.1.wants_cycle_ends()
    }

    fn cycle_end(&mut self, machine: &Machine, memory: &Memory) {
        self.0.cycle_end(machine, memory);
        self.1.cycle_end(machine, memory);
    }
}

/// An observer that may be absent. Activities are worked out in any case if its type asks for them.
impl<O: Observer> Observer for Option<O> {
    const ACTIVITY: bool = O::ACTIVITY;
    const LINKS: bool = O::LINKS;

    fn wants_events(&self) -> bool {
        self.as_ref().is_some_and(Observer::wants_events)
    }

    fn wants_counts(&self) -> bool {
        self.as_ref().is_some_and(Observer::wants_counts)
    }

    fn wants_each(&self) -> bool {
        self.as_ref().is_some_and(Observer::wants_each)
    }

    fn profiles(&self) -> usize {
        self.as_ref().map_or(0, Observer::profiles)
    }

    fn profile(&mut self) -> Option<&mut Profile> {
        self.as_mut().and_then(Observer::profile)
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        if let Some(observer) = self {
            observer.event(cycle, event);
        }
    }

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if let Some(observer) = self {
            observer.linked(cycle, event, links);
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

    fn counted(&mut self, operation: &CountedOperation) {
        if let Some(observer) = self {
            observer.counted(operation);
        }
    }

    fn wants_cycle_ends(&self) -> bool {
        self.as_ref().is_some_and(Observer::wants_cycle_ends)
    }

    fn cycle_end(&mut self, machine: &Machine, memory: &Memory) {
        if let Some(observer) = self {
            observer.cycle_end(machine, memory);
        }
    }
}
