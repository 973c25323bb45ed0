//! The command path in front of the controllers (`Controller.scala`): queues, unrollers, dispatch, reservation station,
//! counters.
//!
//! ```text
//! command port -> raw Q(2) -> LoopConv -> LoopMatmul -> unrolled Q(2) -> dispatch -> reservation station -> ld, ex, st
//!                             Q(2)        Q(2)                           COUNTER -> counter file
//! ```
//!
//! Every queue is registered both ways and each unroller is combinational behind its input queue: a command that nothing
//! holds up is accepted in cycle T, leaves the raw queue in T+1, the conv unroller's in T+2, the matmul unroller's in T+3,
//! is dispatched in T+4 and can issue in T+5. Without the conv unroller everything from T+2 on is one cycle earlier.

pub mod counter_file;
pub mod geometry;
pub mod loop_conv;
pub mod loop_matmul;
pub mod reservation_station;
pub mod unroller;

use pollux_isa::{GemminiConfig, RoccCommand, funct};

use crate::front_end::counter_file::{CounterEvent, CounterEvents, CounterExternal, CounterFile};
use crate::front_end::loop_conv::LoopConv;
use crate::front_end::loop_matmul::LoopMatmul;
use crate::front_end::reservation_station::{Departures, ReservationStation};
use crate::front_end::unroller::UnrollerActivity;
use crate::observation::event::{EventBuffer, Origin, Unit};
use crate::observation::view::FrontEndView;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::queue::Queue;
use crate::parts::wires::{GemminiCmd, IssuedCmd, PerUnit, RobId, UNITS};

/// The front end's inputs in one cycle.
#[derive(Clone, Copy, Debug)]
pub struct FrontInputs<'a> {
    /// The command presented at the port and its destination register; accepted iff [`FrontEnd::cmd_ready`].
    pub cmd: Option<(&'a RoccCommand, u8)>,
    /// Which controllers' queues accept a command (indexed by [`Unit`]).
    pub ready: PerUnit<bool>,
    /// The entry that the completion arbiter reports.
    pub completed: Option<RobId>,
    /// Lines and values for the counters.
    pub counters: &'a CounterEvents,
}

/// What happens to the head of the unrolled queue in this cycle.
#[derive(Clone, Copy, Debug)]
enum Dispatch {
    /// The queue is empty.
    Empty,
    /// The head has to wait.
    Blocked,
    /// FLUSH or CLKGATE_EN: dropped here.
    Drop,
    /// COUNTER, accepted by the counter file.
    Counter(RoccCommand, u8),
    /// Into the reservation station.
    Allocate(GemminiCmd),
}

/// What a cycle of the dispatch is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DispatchActivity {
    /// No command.
    Idle,
    /// A command goes into the station, or acts here.
    Busy,
    /// The command waits for a free entry of its class.
    StationFull(Unit),
    /// A COUNTER waits for the response of the one before it, or for ever in a build without counters.
    CounterResponse,
}

/// The front end; see the module.
#[derive(Clone, Debug)]
pub struct FrontEnd {
    raw: Queue<GemminiCmd>,
    conv: Option<LoopConv>,
    matmul: LoopMatmul,
    pub(crate) unrolled: Queue<GemminiCmd>,
    station: ReservationStation,
    counters: CounterFile,
    /// Commands taken at the port so far.
    taken: u64,
}

/// The queues say what will become of the slots of the unrollers. The station's entries come before all who name them.
impl Canonical for FrontEnd {
    fn canonical(&self, canon: &mut Canon) {
        let Self { raw, conv, matmul, unrolled, station, counters, taken: _ } = self;
        let conv_input = conv.iter().flat_map(|conv| conv.queued());
        canon.loops_ahead().queued =
            matmul.queued().chain(conv_input).chain(raw.iter()).map(|cmd| cmd.cmd.funct).collect();
        raw.canonical(canon);
        conv.canonical(canon);
        matmul.canonical(canon);
        unrolled.canonical(canon);
        station.canonical(canon);
        counters.canonical(canon);
    }
}

/// One of the unrollers, by itself.
#[derive(Clone, Debug)]
pub(crate) enum Unroller {
    Matmul(Box<LoopMatmul>),
    Conv(Box<LoopConv>),
}

impl FrontEnd {
    /// A copy of an unroller, if there is one: of matrix products (0) or of convolutions.
    pub(crate) fn unroller(&self, part: usize) -> Option<Unroller> {
        match part {
            0 => Some(Unroller::Matmul(Box::new(self.matmul.clone()))),
            _ => self.conv.clone().map(|conv| Unroller::Conv(Box::new(conv))),
        }
    }

    /// Lets an unroller hold what this one does, but for its input queue.
    pub(crate) fn hold(&mut self, unroller: &Unroller) {
        match (unroller, &mut self.conv) {
            (Unroller::Matmul(matmul), _) => self.matmul.hold(matmul),
            (Unroller::Conv(conv), Some(own)) => own.hold(conv),
            (Unroller::Conv(_), None) => {}
        }
    }

    /// The front end after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            raw: Queue::plain(2),
            conv: config.has_loop_conv.then(|| LoopConv::new(config)),
            matmul: LoopMatmul::new(config),
            unrolled: Queue::plain(2),
            station: ReservationStation::new(config),
            counters: CounterFile::new(config),
            taken: 0,
        }
    }

    /// `io.cmd.ready`.
    #[inline]
    pub fn cmd_ready(&self) -> bool {
        self.raw.enq_ready(false)
    }

    /// The blocks of weights that the unrollers' execute parts stand at.
    #[inline]
    pub(crate) fn weight_blocks(&self) -> [[u16; 4]; 2] {
        [self.matmul.weight_block(), self.conv.as_ref().map_or([0; 4], LoopConv::weight_block)]
    }

    /// The command offered to a controller.
    #[inline]
    pub fn issue(&self, unit: Unit) -> Option<IssuedCmd> {
        self.station.issue(unit)
    }

    /// True if a command is offered to a controller.
    #[inline]
    pub fn issue_valid(&self, unit: Unit) -> bool {
        self.station.issue_valid(unit)
    }

    /// `io.busy`, given whether the memory unit is busy.
    #[inline]
    pub fn busy(&self, memory_busy: bool) -> bool {
        // The outputs of the unrollers are valid only while the unrollers are busy.
        memory_busy
            || !self.raw.is_empty()
            || !self.unrolled.is_empty()
            || self.conv.as_ref().is_some_and(LoopConv::busy)
            || self.matmul.busy()
            || self.station.busy()
    }

    /// FLUSH is at the head: the TLBs' and the memory unit's flush lines are high in this cycle.
    #[inline]
    pub fn tlb_flush(&self) -> bool {
        self.unrolled.front().is_some_and(|head| head.cmd.funct == funct::FLUSH_CMD)
    }

    /// A COUNTER that clears everything is accepted in this cycle: the external counters' reset line is high.
    #[inline]
    pub fn counter_reset(&self) -> bool {
        let resets = |head: &GemminiCmd| head.cmd.funct == funct::COUNTER_OP && self.counters.resets(&head.cmd);
        self.unrolled.front().is_some_and(resets) && self.counters.ready()
    }

    /// The result that a COUNTER gives in this cycle.
    pub fn response(&self) -> Option<u64> {
        self.counters.response()
    }

    /// True if the event lines or external values are looked at in this cycle; otherwise `FrontInputs::counters` may be
    /// anything.
    #[inline]
    pub fn reads_counters(&self) -> bool {
        self.counters.counting() || self.unrolled.front().is_some_and(|head| head.cmd.funct == funct::COUNTER_OP)
    }

    /// The front end's own event lines and external values.
    pub fn counter_events(&self) -> CounterEvents {
        let mut events = CounterEvents::default();
        // alloc.ready is low, too, when nothing is offered.
        let alloc_ready = matches!(self.dispatch(), Dispatch::Allocate(_));
        events.set(CounterEvent::ReservationStationFullCycles, !alloc_ready);
        events.set(CounterEvent::ReservationStationActiveCycles, self.station.busy());
        events.set(CounterEvent::LoopMatmulActiveCycles, self.matmul.busy());
        let [ld, ex, st] = self.station.utilization();
        events.set_external(CounterExternal::ReservationStationLdCount, ld);
        events.set_external(CounterExternal::ReservationStationStCount, st);
        events.set_external(CounterExternal::ReservationStationExCount, ex);
        events
    }

    /// What the dispatch of commands into the station is doing.
    pub fn dispatch_activity(&self) -> DispatchActivity {
        match (self.dispatch(), self.unrolled.front()) {
            (Dispatch::Empty, _) | (_, None) => DispatchActivity::Idle,
            (Dispatch::Blocked, Some(head)) if head.cmd.funct == funct::COUNTER_OP => DispatchActivity::CounterResponse,
            (Dispatch::Blocked, Some(head)) => DispatchActivity::StationFull(ReservationStation::unit(&head.cmd)),
            _ => DispatchActivity::Busy,
        }
    }

    /// What the convolution unroller is doing; nothing if the build has none.
    pub fn conv_activity(&self) -> Option<UnrollerActivity> {
        self.conv.as_ref().map(|conv| conv.activity(self.matmul.in_ready()))
    }

    /// What the matmul unroller is doing.
    pub fn matmul_activity(&self) -> UnrollerActivity {
        self.matmul.activity(self.unrolled.enq_ready(false))
    }

    /// The reservation station, for reports and views.
    pub fn station(&self) -> &ReservationStation {
        &self.station
    }

    pub(crate) fn station_mut(&mut self) -> &mut ReservationStation {
        &mut self.station
    }

    /// What stands in front of the station.
    pub(crate) fn view(&self) -> FrontEndView {
        FrontEndView {
            raw: self.raw.iter().map(GemminiCmd::view).collect(),
            loop_conv: self.conv.as_ref().map(LoopConv::view),
            loop_matmul: self.matmul.view(),
            unrolled: self.unrolled.iter().map(GemminiCmd::view).collect(),
        }
    }

    fn dispatch(&self) -> Dispatch {
        let Some(head) = self.unrolled.front() else { return Dispatch::Empty };
        match head.cmd.funct {
            funct::FLUSH_CMD | funct::CLKGATE_EN => Dispatch::Drop,
            funct::COUNTER_OP if self.counters.ready() => Dispatch::Counter(head.cmd, head.rd),
            funct::COUNTER_OP => Dispatch::Blocked,
            _ if self.station.alloc_ready(&head.cmd) => Dispatch::Allocate(*head),
            _ => Dispatch::Blocked,
        }
    }

    /// Clock edge. Events: alloc, issue, complete, resp.
    #[must_use]
    pub fn tick(&mut self, inputs: &FrontInputs<'_>, events: &mut EventBuffer) -> bool {
        let (issued, accepted) = (self.issued(inputs), self.accepted(inputs));
        let out_ready = self.unrolled.enq_ready(false);
        let (progress, departures) = self.tick_station(issued, inputs, events);
        self.tick_stream(accepted, out_ready, &departures) || progress
    }

    /// Classes of which a command is handed to its controller in this cycle.
    #[inline]
    pub(crate) fn issued(&self, inputs: &FrontInputs<'_>) -> PerUnit<bool> {
        UNITS.map(|unit| inputs.ready[unit as usize] && self.station.issue_valid(unit))
    }

    /// The command that is accepted at the port, and its destination register.
    #[inline]
    pub(crate) fn accepted<'a>(&self, inputs: &FrontInputs<'a>) -> Option<(&'a RoccCommand, u8)> {
        inputs.cmd.filter(|_| self.cmd_ready())
    }

    /// `cycles` clock edges in which nothing else than the counters changes.
    pub fn skip(&mut self, cycles: u64, counters: &CounterEvents) {
        self.counters.skip(cycles, counters);
    }

    /// Clock edge of dispatch, station and counters. Returns the commands that left the station, too.
    pub(crate) fn tick_station(
        &mut self,
        issued: PerUnit<bool>,
        inputs: &FrontInputs<'_>,
        events: &mut EventBuffer,
    ) -> (bool, Departures) {
        let dispatch = self.dispatch();
        let (alloc, access) = match dispatch {
            Dispatch::Empty | Dispatch::Blocked | Dispatch::Drop => (None, None),
            Dispatch::Counter(cmd, rd) => (None, Some((cmd, rd))),
            Dispatch::Allocate(cmd) => (Some(cmd), None),
        };
        let mut progress = issued != [false; 3] || inputs.completed.is_some();
        if !matches!(dispatch, Dispatch::Empty | Dispatch::Blocked) {
            self.unrolled.pop();
            progress = true;
        }
        let departures = self.station.tick(alloc, issued, inputs.completed, events);
        progress |= self.counters.tick(access, inputs.counters, events);
        (progress, departures)
    }

    /// Clock edge of what stands in front of the dispatch, given whether the unrolled queue accepted at the start of the cycle.
    pub(crate) fn tick_stream(
        &mut self,
        accepted: Option<(&RoccCommand, u8)>,
        out_ready: bool,
        departures: &Departures,
    ) -> bool {
        // All transfers between the stages, from the registers at the start of the cycle.
        let matmul_ready = self.matmul.in_ready();
        let matmul_transfer = self.matmul.transfer(out_ready);
        let conv_ready = self.conv.as_ref().map(LoopConv::in_ready);
        let raw_out = self.raw.front().filter(|_| conv_ready.unwrap_or(matmul_ready)).copied();
        if let Some(cmd) = matmul_transfer.out {
            self.unrolled.push(cmd);
        }
        let mut progress = accepted.is_some() || raw_out.is_some();
        let into_matmul = match &mut self.conv {
            Some(conv) if conv.busy() || raw_out.is_some() || departures.conv != [0; 3] => {
                let transfer = conv.transfer(matmul_ready);
                progress |= conv.tick(raw_out, &transfer, departures.conv);
                transfer.out
            }
            Some(_) => None,
            None => raw_out,
        };
        progress |= self.matmul.tick(into_matmul, &matmul_transfer, departures.matmul);
        if raw_out.is_some() {
            self.raw.pop();
        }
        if let Some((&cmd, rd)) = accepted {
            self.raw.push(GemminiCmd { cmd, rd, origin: Origin::Host, number: self.taken });
            self.taken += 1;
        }
        progress
    }

    /// What each stage that holds a command waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if let Some(reason) = self.conv.as_ref().and_then(LoopConv::waiting_for) {
            reasons.push(format!("LoopConv waits for {reason}"));
        }
        if let Some(reason) = self.matmul.waiting_for() {
            reasons.push(format!("LoopMatmul waits for {reason}"));
        }
        if let Some(head) = self.unrolled.front() {
            let reason = match self.dispatch_activity() {
                DispatchActivity::StationFull(unit) => format!(" until one of the station's {unit:?} entries is free"),
                DispatchActivity::CounterResponse if !self.counters.exist() => {
                    ": a COUNTER is never taken in a build without counters".to_owned()
                }
                _ => String::new(),
            };
            reasons.push(format!("dispatch holds a command with funct {}{reason}", head.cmd.funct));
        }
        reasons.extend(self.station.waiting_for().map(|reason| format!("the reservation station: {reason}")));
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::event::Event;
    use crate::parts::wires::UNITS;
    use proptest::prelude::*;

    const READY: PerUnit<bool> = [true; 3];

    fn mvin(row: u64) -> RoccCommand {
        RoccCommand { funct: funct::LOAD_CMD, rs1: 0x8000_0000, rs2: 1 << 48 | 16 << 32 | row }
    }

    fn command(funct: u8, rs1: u64) -> RoccCommand {
        RoccCommand { funct, rs1, rs2: 0 }
    }

    /// Presents the commands one after the other from cycle 0 on and gives all events with their cycles.
    fn run(config: &GemminiConfig, program: &[RoccCommand]) -> Vec<(u64, Event)> {
        let mut front = FrontEnd::new(config);
        let mut buffer = EventBuffer::new(true);
        let (mut program, mut events) = (program.iter().copied().peekable(), Vec::new());
        let counters = CounterEvents::default();
        for cycle in 0..40 {
            let cmd = program.peek().copied();
            let cmd = cmd.as_ref().map(|cmd| (cmd, 7));
            if front.cmd_ready() {
                program.next();
            }
            let inputs = FrontInputs { cmd, ready: READY, completed: None, counters: &counters };
            let _ = front.tick(&inputs, &mut buffer);
            buffer.drain_sorted(|event| events.push((cycle, *event)));
        }
        events
    }

    fn cycle_of(events: &[(u64, Event)], wanted: impl Fn(&Event) -> bool) -> Option<u64> {
        events.iter().find(|(_, event)| wanted(event)).map(|(cycle, _)| *cycle)
    }

    #[test]
    fn a_command_enters_the_station_four_cycles_after_the_port_and_issues_one_later() {
        let events = run(&GemminiConfig::default16(), &[mvin(0)]);
        assert_eq!(cycle_of(&events, |event| matches!(event, Event::Alloc { .. })), Some(4));
        assert_eq!(cycle_of(&events, |event| matches!(event, Event::Issue { .. })), Some(5));
    }

    #[test]
    fn without_the_conv_unroller_everything_is_one_cycle_earlier() {
        let config = GemminiConfig { has_loop_conv: false, ..GemminiConfig::default16() };
        let events = run(&config, &[mvin(0)]);
        assert_eq!(cycle_of(&events, |event| matches!(event, Event::Alloc { .. })), Some(3));
    }

    #[test]
    fn one_command_passes_in_each_cycle() {
        let program: Vec<_> = (0..6).map(|i| mvin(16 * i)).collect();
        let events = run(&GemminiConfig::default16(), &program);
        let allocs: Vec<_> =
            events.iter().filter(|(_, event)| matches!(event, Event::Alloc { .. })).map(|e| e.0).collect();
        assert_eq!(allocs, [4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn flush_acts_at_the_head_of_the_last_queue_and_waits_for_no_older_command() {
        let mut front = FrontEnd::new(&GemminiConfig::default16());
        let mut buffer = EventBuffer::default();
        let counters = CounterEvents::default();
        let mut flushed = Vec::new();
        for (cycle, cmd) in [mvin(0), command(funct::FLUSH_CMD, 0)].into_iter().map(Some).chain([None; 8]).enumerate() {
            if front.tlb_flush() {
                flushed.push(cycle);
            }
            let cmd = cmd.as_ref().map(|cmd| (cmd, 0));
            let _ = front.tick(&FrontInputs { cmd, ready: READY, completed: None, counters: &counters }, &mut buffer);
        }
        assert_eq!(flushed, [5]);
        assert!(front.station().busy(), "the load has not completed");
    }

    #[test]
    fn counter_commands_respond_in_the_next_cycle_and_every_other_cycle() {
        let program = [command(funct::COUNTER_OP, 0), command(funct::COUNTER_OP, 0), mvin(0)];
        let events = run(&GemminiConfig::default16(), &program);
        let responses: Vec<_> =
            events.iter().filter(|(_, event)| matches!(event, Event::Resp { .. })).map(|e| e.0).collect();
        assert_eq!(responses, [5, 7]);
        assert_eq!(cycle_of(&events, |event| matches!(event, Event::Alloc { .. })), Some(7));
    }

    #[test]
    fn a_full_station_backs_up_to_the_port() {
        let program: Vec<_> = (0..30).map(|i| mvin(16 * i)).collect();
        let mut front = FrontEnd::new(&GemminiConfig::default16());
        let mut buffer = EventBuffer::default();
        let counters = CounterEvents::default();
        let (mut accepted, mut progress) = (0, true);
        for _ in 0..60 {
            let cmd = program.get(accepted).map(|cmd| (cmd, 0));
            accepted += usize::from(front.cmd_ready());
            progress =
                front.tick(&FrontInputs { cmd, ready: READY, completed: None, counters: &counters }, &mut buffer);
        }
        assert_eq!(accepted, 8 + 4 * 2, "8 entries and four queues of 2");
        assert!(!progress, "nothing can move until a load completes");
        assert_eq!(front.dispatch_activity(), DispatchActivity::StationFull(Unit::Ld));
        let reason = front.waiting_for().unwrap_or_default();
        assert!(reason.contains("Ld command 0 (funct 2) was issued and has not completed"), "{reason}");
    }

    /// Any command, with registers that are often small: loops of few blocks get far, wild ones must do no harm.
    fn any_command() -> impl Strategy<Value = RoccCommand> {
        let halves = proptest::array::uniform4(prop_oneof![4 => 0..5u64, 1 => 0..=0xffffu64]);
        let register = halves.prop_map(|[a, b, c, d]| d << 48 | c << 32 | b << 16 | a);
        let funct =
            prop_oneof![0..=25u8, 8..=21u8, Just(funct::LOOP_WS), Just(funct::LOOP_CONV_WS), Just(funct::COUNTER_OP)];
        (funct, register.clone(), register).prop_map(|(funct, rs1, rs2)| RoccCommand { funct, rs1, rs2 })
    }

    proptest! {
        #[test]
        fn no_command_stream_breaks_the_front_end(
            program in proptest::collection::vec(any_command(), 1..40),
            small in any::<bool>(),
        ) {
            let config = if small { GemminiConfig::small4() } else { GemminiConfig::default16() };
            let mut front = FrontEnd::new(&config);
            let mut buffer = EventBuffer::default();
            let mut running = std::collections::VecDeque::new();
            let mut next = 0;
            for _ in 0..600 {
                let cmd = program.get(next).map(|cmd| (cmd, 1));
                next += usize::from(front.cmd_ready());
                let completed = if running.len() > 5 { running.pop_front() } else { None };
                // Configurations of loads and stores complete by themselves.
                let waits = |cmd: &RoccCommand| cmd.funct != funct::CONFIG_CMD || cmd.subtype() == 0;
                let issued = UNITS.into_iter().filter_map(|unit| front.issue(unit));
                running.extend(issued.filter(|issued| waits(&issued.cmd)).filter_map(|issued| issued.rob_id));
                let counters = front.counter_events();
                let _ = front.tick(&FrontInputs { cmd, ready: READY, completed, counters: &counters }, &mut buffer);
                front.dispatch_activity();
                front.conv_activity();
                front.matmul_activity();
            }
            prop_assert!(!front.busy(false) || front.waiting_for().is_some(), "busy without a reason");
        }
    }
}
