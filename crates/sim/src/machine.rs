//! The whole accelerator: the blocks and the wires between them, in the order of the block diagram (`Controller.scala`).
//!
//! ```text
//!  host -> FrontEnd (queues, unrollers, reservation station)
//!             | ld            | ex                      | st
//!             v               v                         v
//!        LoadController   ExecuteController <-> banks   StoreController
//!             |               (mesh)             ^          |
//!             v                                  |          v
//!        Scratchpad: StreamReader -> scaling -> banks -> normalizer, scale unit -> StreamWriter
//!             |                                                      |
//!             +---------- TileLink, FrontendTlb -> memory -----------+
//! ```
//!
//! A cycle has two halves. First every wire is worked out from registers (`&self`), producers before consumers; then
//! every block takes its clock edge (`&mut self`). [`Machine::step`] lists both in order.

use pollux_isa::{RoccCommand, ValidConfig};

use crate::dma::load_controller::LoadController;
use crate::dma::store_controller::StoreController;
use crate::execute::execute_controller::{ControlWires, ExResults, ExecuteController, RowIssueWires, RowStream};
use crate::front_end::counter_file::{CounterEvent, CounterEvents};
use crate::front_end::{FrontEnd, FrontInputs};
use crate::host::BENCH_RD;
use crate::memories::scratchpad::{Scratchpad, ScratchpadInputs, ScratchpadWires};
use crate::memory::{MemoryPort, MemorySystem, PortTraffic, PortWires};
use crate::observation::event::{Cycle, Event, EventBuffer, Unit};
use crate::observation::report::{Activity, Block, Cause, Spent};
use crate::parts::wires::{ExReads, UNITS};
use crate::port::frontend_tlb::{Faults, FrontendTlb, TlbWires, Translation};
use crate::port::tilelink::SourceRanges;

/// The accelerator's blocks. `Clone` is a snapshot.
#[derive(Clone, Debug)]
pub struct Machine {
    front: FrontEnd,
    load: LoadController,
    execute: ExecuteController,
    store: StoreController,
    scratchpad: Scratchpad,
    tlb: FrontendTlb,
    port: MemoryPort,
    /// The busy output in the last cycle, to report its changes.
    was_busy: bool,
    /// Commands accepted so far.
    accepted: u64,
    /// The counters' inputs in the last cycle, which hold while nothing moves.
    counters: CounterEvents,
    wires: LargeWires,
    deferred: Deferred,
    /// What the execute controller does may be left for later. It can be turned off, to test that it changes nothing.
    pub(crate) defers: bool,
}

/// Cycles of the execute controller that are done later than they pass: nothing that anybody else sees depends on when.
#[derive(Clone, Copy, Debug, Default)]
struct Deferred {
    /// Cycles from now on that may be left for later.
    possible: u32,
    /// Cycles that have passed and are still to be done.
    cycles: u32,
    /// Scratchpad banks that the execute controller reads in each of them.
    banks: u32,
    /// Accumulator banks whose clock edges are left for later, too: those that it may write, and those into which a write is on its way.
    acc_banks: u32,
}

impl Deferred {
    fn pass(&mut self, cycles: u32) {
        self.possible -= cycles;
        self.cycles += cycles;
    }
}

/// Wires that are kept from cycle to cycle: they are large, and most of them do not change.
#[derive(Clone, Debug, Default)]
struct LargeWires {
    results: ExResults,
    rows: RowIssueWires,
    spad: ScratchpadWires,
    tlb: TlbWires,
}

/// What one cycle did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Some register changed: the next cycle may differ.
    pub progress: bool,
    /// The presented command was accepted.
    pub accepted: bool,
    /// The busy output.
    pub busy: bool,
}

/// What an observer needs of a cycle's wires.
struct CycleWires<'a> {
    /// A command is presented; true inside if it is accepted. The same for the controllers' row requests.
    cmd: Option<bool>,
    load: Option<bool>,
    store: Option<bool>,
    /// Controllers that accept a command.
    ready: [bool; 3],
    control: &'a ControlWires<'a>,
    rows: &'a RowIssueWires,
    spad: &'a ScratchpadWires,
    tlb: &'a TlbWires,
    port: &'a PortWires,
    /// A beat waits on channel D.
    d_offered: bool,
}

impl Machine {
    /// The accelerator after reset.
    pub fn new(config: &ValidConfig, translation: Translation) -> Self {
        Self {
            front: FrontEnd::new(config),
            load: LoadController::new(config),
            execute: ExecuteController::new(config),
            store: StoreController::new(config),
            scratchpad: Scratchpad::new(config),
            tlb: FrontendTlb::new(config, translation),
            port: MemoryPort::new(SourceRanges::new(config.max_in_flight_mem_reqs as usize).len()),
            was_busy: false,
            accepted: 0,
            counters: CounterEvents::default(),
            wires: LargeWires::default(),
            deferred: Deferred::default(),
            defers: true,
        }
    }

    /// One clock cycle with `cmd` presented at the command port. What it is spent on goes to `activity`, if somebody asks.
    pub fn step(
        &mut self,
        cycle: Cycle,
        cmd: Option<RoccCommand>,
        memory: &mut impl MemorySystem,
        events: &mut EventBuffer,
        activity: Option<&mut Activity>,
    ) -> Step {
        // Wires, producers before consumers.
        let busy = self.front.busy(self.scratchpad.busy());
        let accepted = cmd.is_some() && self.front.cmd_ready();
        let ready = [self.load.cmd_ready(), self.execute.cmd_ready(), self.store.cmd_ready()];
        let observed = activity.is_some() || self.front.reads_counters();
        let tlb_settled = self.tlb.settled();
        let any_issues = UNITS.into_iter().any(|unit| ready[unit as usize] && self.front.issue_valid(unit));
        if self.deferred.possible > 0 && !observed && !any_issues && self.nothing_behind_the_station_moves() {
            return self.step_front_end(cmd.filter(|_| accepted), busy, ready, events);
        }
        if !tlb_settled {
            self.wires.tlb = self.tlb.wires();
        }
        let repeats = self.deferred.possible > 0
            && !observed
            && !(ready[Unit::Ex as usize] && self.front.issue_valid(Unit::Ex))
            && self.repeat_rows(tlb_settled);
        if !repeats {
            self.catch_up(events);
            self.deferred.possible = 0;
        }
        let issues = |unit: Unit| ready[unit as usize] && self.front.issue_valid(unit);
        let execute_rests = repeats || (self.execute.is_quiet() && !issues(Unit::Ex) && !observed);
        let LargeWires { results, rows, spad, tlb } = &mut self.wires;
        let mut control = ControlWires::default();
        if !execute_rests {
            self.execute.results(results);
            control = self.execute.control(|bank| self.scratchpad.ex_resp(bank));
        }
        if !repeats {
            self.scratchpad.sinks(&results.write, control.pops, 0, &tlb.responses, tlb_settled, spad);
        }
        if !execute_rests {
            self.execute.row_issue(&control, spad.spad_read_ready, spad.acc_read_ready, rows);
        }
        self.scratchpad.dispatch(&rows.reads, spad);
        let rows = &self.wires.rows;
        let load_request = self.load.request();
        let load = load_request.as_ref().filter(|request| self.scratchpad.load_ready(request, &self.wires.spad));
        let store_request = self.store.request();
        let store = store_request.as_ref().filter(|_| self.wires.spad.store_ready);
        let port = self.port.wires(cycle, memory, self.scratchpad.port_a(), self.scratchpad.port_d_ready());

        // Completion arbiter: execute cannot be held up, then loads, then stores.
        let load_ready = rows.completed.is_none();
        let store_ready = load_ready && self.load.completed().is_none();
        let completed = rows.completed.or(self.load.completed()).or(self.store.completed());
        let issued = |unit: Unit| if issues(unit) { self.front.issue(unit) } else { None };
        let (to_load, to_execute, to_store) = (issued(Unit::Ld), issued(Unit::Ex), issued(Unit::St));
        let flush = self.front.tlb_flush();
        let counter_reset = self.front.counter_reset();
        if observed {
            let mut counters = self.front.counter_events();
            self.busy_lines(&mut counters);
            self.load.counter_events(load_request.is_some(), load.is_some(), &mut counters);
            self.store.counter_events(store_request.is_some(), store.is_some(), &mut counters);
            self.execute.counter_events(&control, rows, &mut counters);
            self.scratchpad.counter_events(&self.wires.spad, &mut counters);
            self.tlb.counter_events(&self.wires.tlb, &mut counters);
            self.counters = counters;
        }
        if let Some(activity) = activity {
            let wires = CycleWires {
                cmd: cmd.map(|_| accepted),
                ready,
                load: load_request.map(|_| load.is_some()),
                store: store_request.map(|_| store.is_some()),
                control: &control,
                rows,
                spad: &self.wires.spad,
                tlb: &self.wires.tlb,
                port: &port,
                d_offered: self.port.in_flight() != 0 && memory.d_front(cycle).is_some(),
            };
            self.observe(&wires, activity);
        }

        // Clock edge.
        let LargeWires { results, rows, spad, tlb } = &self.wires;
        let cmd = if accepted { cmd.map(|cmd| (cmd, BENCH_RD)) } else { None };
        let inputs = FrontInputs { cmd, ready, completed, counters: &self.counters };
        let mut progress = self.front.tick(&inputs, events);
        progress |= self.load.tick(to_load, load.is_some(), spad.load_response, load_ready);
        progress |= self.store.tick(to_store, store.is_some(), spad.store_response, store_ready);
        if !execute_rests {
            progress |= self.execute.tick(to_execute, results, &control, rows, events);
        }
        progress |= self.port.tick(cycle, &port, memory, self.scratchpad.port_a(), events);
        if flush || !(tlb_settled && spad.dma_rests) {
            progress |= self.tlb.tick(tlb, &spad.tlb_requests, flush, |address| {
                u64::from_le_bytes(memory.memory().read_array(address))
            });
        }
        let no_reads = ExReads::default();
        let inputs = ScratchpadInputs {
            ex_write: &results.write,
            pops: control.pops,
            reads: if repeats { &no_reads } else { &rows.reads },
            deferred: repeats,
            load,
            store,
            port_a_taken: port.a_taken,
            port_d: port.d.as_ref(),
        };
        progress |= self.scratchpad.tick(spad, &inputs, events);
        if repeats {
            progress = true;
            self.pass_rows(events);
        } else if self.defers && self.wires.rows.in_streak() && !observed {
            self.look_ahead();
        }
        self.record(cmd.map(|(cmd, _)| cmd), busy, events);
        if counter_reset {
            self.scratchpad.reset_external_counters();
        }
        Step { progress, accepted, busy }
    }

    /// Nothing that takes commands from the reservation station moves, but for rows of the execute controller that may be
    /// left for later.
    #[inline]
    fn nothing_behind_the_station_moves(&self) -> bool {
        self.wires.spad.dma_rests
            && self.scratchpad.rests()
            && self.tlb.settled()
            && !self.load.busy()
            && !self.store.busy()
            && !self.front.tlb_flush()
    }

    /// A cycle in which nothing else moves than the front end, and rows that are left for later. `cmd` is the command that is
    /// accepted.
    fn step_front_end(
        &mut self,
        cmd: Option<RoccCommand>,
        busy: bool,
        ready: [bool; 3],
        events: &mut EventBuffer,
    ) -> Step {
        let inputs =
            FrontInputs { cmd: cmd.map(|cmd| (cmd, BENCH_RD)), ready, completed: None, counters: &self.counters };
        self.front.tick(&inputs, events);
        self.pass_rows(events);
        self.record(cmd, busy, events);
        Step { progress: true, accepted: cmd.is_some(), busy }
    }

    /// A cycle of the execute controller passes, and is left for later unless its events are asked for.
    fn pass_rows(&mut self, events: &mut EventBuffer) {
        self.deferred.pass(1);
        if events.enabled() {
            self.catch_up(events);
        }
    }

    /// Cycles from now on in which nothing but rows of the execute controller moves, if no command is accepted and the memory sends
    /// nothing: none if one is presented, as `cmd` tells, and accepted. [`Machine::defer`] lets them pass.
    #[inline]
    pub fn repeating_cycles(&self, cmd: impl FnOnce() -> bool) -> u32 {
        if self.deferred.possible == 0 || !self.wires.spad.dma_rests || (self.front.cmd_ready() && cmd()) {
            return 0;
        }
        let ready = [self.load.cmd_ready(), self.execute.cmd_ready(), self.store.cmd_ready()];
        let rest = self.front.rests(ready) && self.nothing_behind_the_station_moves();
        if rest { self.deferred.possible } else { 0 }
    }

    /// Lets so many of the [repeating cycles](Self::repeating_cycles) pass.
    pub fn defer(&mut self, cycles: u32) {
        self.deferred.pass(cycles);
    }

    /// The wires of a cycle that the execute controller leaves for later. False if somebody else uses its banks.
    fn repeat_rows(&mut self, tlb_settled: bool) -> bool {
        let LargeWires { results, rows, spad, tlb } = &mut self.wires;
        let Deferred { banks, acc_banks, .. } = self.deferred;
        rows.repeat();
        results.write.target = None;
        self.scratchpad.sinks(&results.write, banks, banks, &tlb.responses, tlb_settled, spad);
        !self.scratchpad.disturbs(banks, acc_banks, spad)
    }

    /// Looks how many cycles of the execute controller may be left for later. Kept out of [`Machine::step`]: most cycles need not
    /// look.
    #[inline(never)]
    fn look_ahead(&mut self) {
        let banks = self.execute.streak_banks();
        if self.scratchpad.may_defer(banks) {
            let possible = self.execute.repeating_cycles(|bank| self.scratchpad.has_ex_row(bank));
            let acc_banks = self.execute.result_banks() | self.scratchpad.acc_writing();
            self.deferred = Deferred { possible, cycles: 0, banks, acc_banks };
        }
    }

    /// Does what was left for later. What [`Machine::execute_controller`] and [`Machine::scratchpad`] show may lag behind until this is
    /// done, by less than a pass of the execute controller.
    pub fn catch_up(&mut self, events: &mut EventBuffer) {
        let cycles = std::mem::take(&mut self.deferred.cycles);
        if cycles == 0 {
            return;
        }
        let mut found = self.execute.streams();
        let mut streams: [Option<RowStream>; 3] = std::array::from_fn(|_| found.next());
        // Traces list the reads of a cycle by bank.
        streams.sort_by_key(|stream| stream.map(|stream| stream.bank));
        drop(found);
        let (banks, mut results) = self.scratchpad.replay_ports();
        self.execute.replay(
            cycles,
            |&RowStream { bank, next, step }, i| banks[usize::from(bank)].streamed(i, next, step),
            |bank| banks[usize::from(bank)].shown_lanes(),
            |target, data, events| results.write(target, data, events),
            events,
        );
        for stream in streams.iter().flatten() {
            self.scratchpad.stream(cycles, stream, events);
        }
    }

    /// What the cycle is spent on. Kept out of [`Machine::step`], which mostly runs without.
    #[inline(never)]
    fn observe(&self, wires: &CycleWires<'_>, activity: &mut Activity) {
        let &CycleWires { control, rows, spad, port, .. } = wires;
        let handshake = |fires: Option<bool>, cause| match fires {
            None => Spent::Idle,
            Some(true) => Spent::Busy,
            Some(false) => Spent::Stalled(cause),
        };
        let valid_and_fires = |fires: Option<bool>| (fires.is_some(), fires == Some(true));
        activity.set(Block::CommandPort, handshake(wires.cmd, Cause::FrontEndFull));
        activity.set(Block::LoopConv, self.front.conv_activity().map_or(Spent::Idle, Spent::from));
        activity.set(Block::LoopMatmul, self.front.matmul_activity());
        activity.set(Block::Dispatch, self.front.dispatch_activity());
        let stations =
            [(Block::IssueLoads, Unit::Ld), (Block::IssueExecutes, Unit::Ex), (Block::IssueStores, Unit::St)];
        for (block, unit) in stations {
            activity.set(block, self.front.station().activity(unit, wires.ready[unit as usize]));
        }
        let (valid, fires) = valid_and_fires(wires.load);
        activity.set(Block::LoadController, self.load.activity(valid, fires));
        activity.set(Block::ExecuteController, self.execute.activity(control, rows));
        let (valid, fires) = valid_and_fires(wires.store);
        activity.set(Block::StoreController, self.store.activity(valid, fires));
        activity.set(Block::Mesh, self.execute.mesh_activity(control, rows));
        activity.set(Block::MvinPath, self.scratchpad.mvin_activity(spad));
        activity.set(Block::MvoutPath, self.scratchpad.mvout_activity(spad));
        activity.set(Block::Normalizer, self.scratchpad.normalizer_activity(spad));
        activity.set(Block::AccumulatorScale, self.scratchpad.scale_activity(spad));
        activity.set(Block::StreamReader, self.scratchpad.reader_activity(spad));
        activity.set(Block::StreamWriter, self.scratchpad.writer_activity(spad));
        activity.set(Block::Tlb, self.tlb.activity(wires.tlb));
        let offered = self.scratchpad.port_a().map(|_| port.a_taken);
        activity.set(Block::RequestPort, handshake(offered, Cause::MemoryBusy));
        activity.set(Block::ResponsePort, handshake(wires.d_offered.then_some(port.d.is_some()), Cause::EngineBusy));
        (activity.spad, activity.acc) = self.scratchpad.bank_use(spad, &rows.reads);
        activity.counters = self.counters;
    }

    fn record(&mut self, accepted: Option<RoccCommand>, busy: bool, events: &mut EventBuffer) {
        if busy != self.was_busy {
            events.push(Event::Busy { value: busy });
            self.was_busy = busy;
        }
        if let Some(RoccCommand { funct, rs1, rs2 }) = accepted {
            events.push(Event::Accept { number: self.accepted, funct, rs1, rs2 });
            self.accepted += 1;
        }
    }

    /// The lines that tell which of the controllers are busy (`Controller.scala`).
    fn busy_lines(&self, counters: &mut CounterEvents) {
        let line = match (self.load.busy(), self.store.busy(), self.execute.busy()) {
            (false, false, false) => return,
            (true, false, false) => CounterEvent::MainLdCycles,
            (false, true, false) => CounterEvent::MainStCycles,
            (false, false, true) => CounterEvent::MainExCycles,
            (true, true, false) => CounterEvent::MainLdStCycles,
            (true, false, true) => CounterEvent::MainLdExCycles,
            (false, true, true) => CounterEvent::MainStExCycles,
            (true, true, true) => CounterEvent::MainLdStExCycles,
        };
        counters.set(line, true);
    }

    /// Lets `cycles` cycles pass in which nothing moves (the last [`Machine::step`] made no progress).
    pub fn skip(&mut self, cycles: u64) {
        self.front.skip(cycles, &self.counters);
        self.scratchpad.skip(cycles);
    }

    /// True if a beat waits for the memory's channel A.
    pub fn wants_port(&self) -> bool {
        self.scratchpad.port_a().is_some()
    }

    /// Requests without their full response.
    pub fn in_flight(&self) -> u32 {
        self.port.in_flight()
    }

    /// Memory traffic so far.
    pub fn traffic(&self) -> &PortTraffic {
        self.port.traffic()
    }

    /// Commands accepted at the command port so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Accesses so far that the page table did not allow.
    pub fn faults(&self) -> Faults {
        self.tlb.faults()
    }

    /// The interrupt line: a page fault since the last flush.
    pub fn interrupt(&self) -> bool {
        self.tlb.interrupt()
    }

    /// The front end: unrollers, reservation station, counters.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front
    }

    /// The execute controller and the mesh.
    pub fn execute_controller(&self) -> &ExecuteController {
        &self.execute
    }

    /// The local memories and the DMA engines.
    pub fn scratchpad(&self) -> &Scratchpad {
        &self.scratchpad
    }

    /// What every block that holds work waits for, in the order of the data flow.
    pub fn waiting_for(&self) -> Vec<String> {
        let execute = self.execute.waiting_for().map(|reason| format!("ExecuteController waits for {reason}"));
        let controllers = [self.load.waiting_for(), execute, self.store.waiting_for()];
        let front = self.front.waiting_for();
        let rest = self.scratchpad.waiting_for().into_iter().chain(self.tlb.waiting_for());
        front.into_iter().chain(controllers.into_iter().flatten()).chain(rest).collect()
    }
}
