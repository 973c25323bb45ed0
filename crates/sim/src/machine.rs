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
//! every block takes its clock edge (`&mut self`). [`Machine::step`] lists both in order. It is the specification; the fast path
//! over the same blocks is `crate::acceleration`.

use pollux_isa::{RoccCommand, ValidConfig};
use xxhash_rust::xxh3::Xxh3;

use crate::dma::load_controller::{LoadController, ScratchpadReadRequest};
use crate::dma::store_controller::{ScratchpadWriteRequest, StoreController};
use crate::execute::execute_controller::ExecuteController;
use crate::execute::execute_controller::wires::{ControlWires, RowIssueWires};
use crate::front_end::counter_file::{CounterEvent, CounterEvents, EXTERNALS};
use crate::front_end::{FrontEnd, FrontInputs};
use crate::host::BENCH_RD;
use crate::memories::accumulator_mem::AccumulatorMem;
use crate::memories::scratchpad::Scratchpad;
use crate::memories::scratchpad::wires::{ScratchpadInputs, ScratchpadWires};
use crate::memories::scratchpad_bank::ScratchpadBank;
use crate::memory::{MemoryPort, MemorySystem, PortTraffic, PortWires};
use crate::observation::activity::{Activity, Block, Cause, Spent};
use crate::observation::counts::EventCounts;
use crate::observation::event::{Cycle, Event, EventBuffer, Unit};
use crate::observation::view::{MachineView, PortView, VERSION};
pub use crate::parts::banks::{AccRow, SpadRow};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::decoupled::Decoupled;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{IssuedCmd, PerUnit, RobId, Seq, UNITS};
pub use crate::port::frontend_tlb::{Faults, PageFault, PageTables, Translation};
use crate::port::frontend_tlb::{FrontendTlb, TlbWires};
use crate::port::tilelink::SourceRanges;

/// The accelerator's blocks, with the values that they hold or without ([`Values`]). `Clone` is a snapshot.
#[derive(Clone, Debug)]
pub struct Machine<V: Values = Full> {
    pub(crate) front: FrontEnd,
    pub(crate) load: LoadController,
    pub(crate) execute: ExecuteController<V>,
    pub(crate) store: StoreController,
    pub(crate) scratchpad: Scratchpad<V>,
    pub(crate) tlb: FrontendTlb,
    pub(crate) port: MemoryPort,
    /// The busy output in the last cycle, to report its changes.
    pub(crate) was_busy: bool,
    /// Commands accepted so far.
    pub(crate) accepted: u64,
    /// The counters' inputs in the last cycle, which hold while nothing moves.
    pub(crate) counters: CounterEvents,
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
    /// A command was accepted, issued or completed, or a beat passed the memory port: what a livelock lacks.
    pub alive: bool,
}

/// The completion arbiter's outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// Entry reported complete.
    pub(crate) reported: Option<RobId>,
    /// The load controller's report is taken.
    pub(crate) load_ready: bool,
    /// The store controller's report is taken.
    pub(crate) store_ready: bool,
}

/// What adds up while a machine runs, and decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Totals {
    /// Commands accepted at the command port.
    pub(crate) accepted: u64,
    /// Commands that entered the reservation station.
    pub(crate) allocated: u64,
    /// Divisions of the normalizer.
    pub(crate) divisions: u64,
    pub(crate) traffic: PortTraffic,
}

impl Totals {
    pub(crate) fn plus(self, other: &Self) -> Self {
        let mut traffic = self.traffic;
        traffic += other.traffic;
        Self {
            accepted: self.accepted + other.accepted,
            allocated: self.allocated + other.allocated,
            divisions: self.divisions + other.divisions,
            traffic,
        }
    }

    pub(crate) fn minus(self, other: &Self) -> Self {
        Self {
            accepted: self.accepted - other.accepted,
            allocated: self.allocated - other.allocated,
            divisions: self.divisions - other.divisions,
            traffic: self.traffic - other.traffic,
        }
    }
}

/// What an observer needs of a cycle's wires.
pub(crate) struct CycleWires<'a, V: Values> {
    /// The command port.
    pub(crate) cmd: &'a Decoupled<RoccCommand>,
    /// The row requests of the load and of the store controller.
    pub(crate) load: &'a Decoupled<ScratchpadReadRequest>,
    pub(crate) store: &'a Decoupled<ScratchpadWriteRequest>,
    /// Controllers that accept a command.
    pub(crate) ready: PerUnit<bool>,
    pub(crate) control: &'a ControlWires<'a, V>,
    pub(crate) rows: &'a RowIssueWires,
    pub(crate) spad: &'a ScratchpadWires,
    pub(crate) tlb: &'a TlbWires,
    pub(crate) port: &'a PortWires<V>,
    /// A beat waits on channel D.
    pub(crate) d_offered: bool,
}

/// Totals, and what is made anew in every cycle, are no state.
impl<V: Values> Canonical for Machine<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { front, load, execute, store, scratchpad, tlb, port, was_busy, accepted: _, counters: _ } = self;
        front.canonical(canon);
        load.canonical(canon);
        execute.canonical(canon);
        store.canonical(canon);
        scratchpad.canonical(canon);
        canon.set_looking(scratchpad.looks());
        tlb.canonical(canon);
        port.canonical(canon);
        was_busy.canonical(canon);
        scratchpad.mvin.canonical_service(canon);
    }
}

impl Machine {
    /// The accelerator after reset.
    pub fn new(config: &ValidConfig, translation: Translation) -> Self {
        Self::with_oracle(config, translation, ())
    }

    /// Elements of a scratchpad row, counted through all banks; none beyond the last one.
    pub fn spad_row(&self, row: SpadRow) -> Option<&[i8]> {
        self.scratchpad.spad_row(row)
    }

    /// Digests of the contents of the scratchpad and of the accumulator.
    pub(crate) fn digests(&self) -> [u64; 2] {
        let (mut spad, mut acc) = (Xxh3::new(), Xxh3::new());
        for bank in &self.scratchpad.spad_banks {
            spad.update(&bank.memory.iter().map(|lane| lane.cast_unsigned()).collect::<Vec<u8>>());
        }
        for bank in &self.scratchpad.acc_banks {
            acc.update(&bank.lanes_in_order().iter().flat_map(|lane| lane.to_le_bytes()).collect::<Vec<u8>>());
        }
        [spad.digest(), acc.digest()]
    }

    /// Writes of an accumulator row, counted through all banks, that a bank has accepted and that are not in its memory yet.
    pub fn acc_writes_under_way(&self, row: AccRow) -> usize {
        self.scratchpad.acc_writes_under_way(row)
    }

    /// Elements of an accumulator row, counted through all banks; none beyond the last one.
    pub fn acc_row(&self, row: AccRow) -> Option<&[i32]> {
        self.scratchpad.acc_row(row)
    }
}

impl<V: Values> Machine<V> {
    /// The accelerator after reset, and what answers timing's questions about values.
    pub fn with_oracle(config: &ValidConfig, translation: Translation, oracle: V::Oracle) -> Self {
        let mut scratchpad = Scratchpad::new(config);
        scratchpad.set_oracle(oracle);
        Self {
            front: FrontEnd::new(config),
            load: LoadController::new(config),
            execute: ExecuteController::new(config),
            store: StoreController::new(config),
            scratchpad,
            tlb: FrontendTlb::new(config, translation),
            port: MemoryPort::new(SourceRanges::new(config.max_in_flight_mem_reqs as usize).len()),
            was_busy: false,
            accepted: 0,
            counters: CounterEvents::default(),
        }
    }

    /// One clock cycle with `cmd` presented at the command port. What it is spent on goes to `activity`, if somebody asks.
    pub fn step(
        &mut self,
        cycle: Cycle,
        cmd: Option<RoccCommand>,
        memory: &mut impl MemorySystem<V>,
        events: &mut EventBuffer,
        activity: Option<&mut Activity>,
    ) -> Step {
        events.begin(cycle);
        // Wires, producers before consumers.
        let busy = self.front.busy(self.scratchpad.busy());
        let cmd = Decoupled::new(cmd, |_| self.front.cmd_ready());
        let ready = self.controllers_ready();
        let tlb = self.tlb.wires();
        let results = self.execute.results();
        let control = self.execute.control(|bank| self.scratchpad.ex_resp(bank));
        let mut spad = self.scratchpad.wires(&results.write, control.pops, &tlb.responses);
        let rows = self.execute.row_issue(&control, spad.spad_read_ready, spad.acc_read_ready);
        self.scratchpad.dispatch(&rows.reads, &mut spad);
        let load = Decoupled::new(self.load.request(), |request| self.scratchpad.load_ready(request, &spad));
        let store = Decoupled::new(self.store.request(), |_| spad.store_ready);
        let port = self.port.wires(cycle, memory, self.scratchpad.port_a(), self.scratchpad.port_d_ready());
        let completion = self.completion(rows.completed);
        let (to_load, to_execute) = (self.issued(Unit::Ld, ready), self.issued(Unit::Ex, ready));
        let to_store = self.issued(Unit::St, ready);
        let (flush, counter_reset) = (self.front.tlb_flush(), self.front.counter_reset());
        let wires = CycleWires {
            cmd: &cmd,
            ready,
            load: &load,
            store: &store,
            control: &control,
            rows: &rows,
            spad: &spad,
            tlb: &tlb,
            port: &port,
            d_offered: self.d_offered(cycle, memory),
        };
        self.counters = self.counter_events(&wires);
        if let Some(activity) = activity {
            self.observe(&wires, activity);
        }

        let alive = cmd.fires() || self.is_alive(ready, &completion, &port);

        // Clock edge.
        let inputs = FrontInputs {
            cmd: cmd.fire().map(|cmd| (cmd, BENCH_RD)),
            ready,
            completed: completion.reported,
            counters: &self.counters,
        };
        let mut progress = self.front.tick(&inputs, events);
        progress |= self.load.tick(to_load, load.fires(), spad.load_response, completion.load_ready, events);
        progress |= self.store.tick(to_store, store.fires(), spad.store_response, completion.store_ready, events);
        let pops = control.pops;
        progress |= self.execute.tick(to_execute, &results, &control, &rows, events);
        progress |= self.port.tick(cycle, &port, memory, self.scratchpad.port_a(), events);
        let read = |address| u64::from_le_bytes(memory.memory().read_array(address));
        progress |= self.tlb.tick(&tlb, &spad.tlb_requests, flush, read);
        let (ex_write, reads) = (&results.write, &rows.reads);
        let (port_a_taken, port_d) = (port.a_taken, port.d.as_ref());
        let inputs =
            ScratchpadInputs { ex_write, pops, reads, load: load.fire(), store: store.fire(), port_a_taken, port_d };
        progress |= self.scratchpad.tick(&spad, &inputs, events);
        self.record(cmd.fire(), busy, events);
        if counter_reset {
            self.scratchpad.reset_external_counters();
        }
        Step { progress, accepted: cmd.fires(), busy, alive }
    }

    /// Controllers that accept a command.
    #[inline]
    pub(crate) fn controllers_ready(&self) -> PerUnit<bool> {
        [self.load.cmd_ready(), self.execute.cmd_ready(), self.store.cmd_ready()]
    }

    /// The station hands a command to a controller.
    #[inline]
    pub(crate) fn issues(&self, unit: Unit, ready: PerUnit<bool>) -> bool {
        ready[unit as usize] && self.front.issue_valid(unit)
    }

    /// The command that the station hands to a controller.
    #[inline]
    pub(crate) fn issued(&self, unit: Unit, ready: PerUnit<bool>) -> Option<IssuedCmd> {
        if ready[unit as usize] { self.front.issue(unit) } else { None }
    }

    /// Completion arbiter: `execute` cannot be held up, then loads, then stores.
    #[inline]
    pub(crate) fn completion(&self, execute: Option<RobId>) -> Completion {
        let load = self.load.completed();
        let load_ready = execute.is_none();
        let store_ready = load_ready && load.is_none();
        let reported = execute.or(load).or(self.store.completed());
        Completion { reported, load_ready, store_ready }
    }

    /// A command is issued or completed, or a beat passes the memory port.
    #[inline]
    pub(crate) fn is_alive(&self, ready: PerUnit<bool>, completion: &Completion, port: &PortWires<V>) -> bool {
        let completes_or_moves = completion.reported.is_some() || port.a_taken || port.d.is_some();
        completes_or_moves || UNITS.into_iter().any(|unit| self.issues(unit, ready))
    }

    /// A beat waits on channel D.
    pub(crate) fn d_offered(&self, cycle: Cycle, memory: &impl MemorySystem<V>) -> bool {
        self.port.in_flight() != 0 && memory.d_front(cycle).is_some()
    }

    /// The external values of the next cycle.
    pub(crate) fn external_counters(&self) -> [u32; EXTERNALS] {
        let mut counters = self.front.counter_events();
        self.scratchpad.reader.external_counters(&mut counters);
        self.scratchpad.writer.external_counters(&mut counters);
        counters.external
    }

    /// The event lines and external values of the cycle. Kept out of the steps, like [`Self::observe`].
    #[inline(never)]
    pub(crate) fn counter_events(&self, wires: &CycleWires<'_, V>) -> CounterEvents {
        let mut counters = self.front.counter_events();
        self.busy_lines(&mut counters);
        self.load.counter_events(wires.load.valid(), wires.load.fires(), &mut counters);
        self.store.counter_events(wires.store.valid(), wires.store.fires(), &mut counters);
        self.execute.counter_events(wires.control, wires.rows, &mut counters);
        self.scratchpad.counter_events(wires.spad, &mut counters);
        self.tlb.counter_events(wires.tlb, &mut counters);
        counters
    }

    /// What the cycle is spent on. Kept out of the steps, which mostly run without.
    #[inline(never)]
    pub(crate) fn observe(&self, wires: &CycleWires<'_, V>, activity: &mut Activity) {
        let &CycleWires { control, rows, spad, port, .. } = wires;
        let handshake = |valid: bool, fires: bool, cause| match (valid, fires) {
            (false, _) => Spent::Idle,
            (true, true) => Spent::Busy,
            (true, false) => Spent::Stalled(cause),
        };
        activity.set(Block::CommandPort, handshake(wires.cmd.valid(), wires.cmd.fires(), Cause::FrontEndFull));
        activity.set(Block::LoopConv, self.front.conv_activity().map_or(Spent::Idle, Spent::from));
        activity.set(Block::LoopMatmul, self.front.matmul_activity());
        activity.set(Block::Dispatch, self.front.dispatch_activity());
        let stations =
            [(Block::IssueLoads, Unit::Ld), (Block::IssueExecutes, Unit::Ex), (Block::IssueStores, Unit::St)];
        for (block, unit) in stations {
            activity.set(block, self.front.station().activity(unit, wires.ready[unit as usize]));
        }
        activity.set(Block::LoadController, self.load.activity(wires.load.valid(), wires.load.fires()));
        activity.set(Block::ExecuteController, self.execute.activity(control, rows));
        activity.set(Block::StoreController, self.store.activity(wires.store.valid(), wires.store.fires()));
        activity.set(Block::Mesh, self.execute.mesh_activity(control, rows));
        activity.set(Block::MvinPath, self.scratchpad.mvin_activity(spad));
        activity.set(Block::MvoutPath, self.scratchpad.mvout_activity(spad));
        activity.set(Block::Normalizer, self.scratchpad.normalizer_activity(spad));
        activity.set(Block::AccumulatorScale, self.scratchpad.scale_activity(spad));
        activity.set(Block::StreamReader, self.scratchpad.reader_activity(spad));
        activity.set(Block::StreamWriter, self.scratchpad.writer_activity(spad));
        activity.set(Block::Tlb, self.tlb.activity(wires.tlb));
        activity.set(Block::RequestPort, handshake(self.wants_port(), port.a_taken, Cause::MemoryBusy));
        activity.set(Block::ResponsePort, handshake(wires.d_offered, port.d.is_some(), Cause::EngineBusy));
        (activity.spad, activity.acc) = self.scratchpad.bank_use(spad, &rows.reads);
        activity.counters = self.counters;
        let [ld, ex, st] = self.front.station().utilization();
        let ((load, load_row), (store, store_row)) = (self.load.control(), self.store.control());
        let execute = self.execute.control_registers();
        activity.registers = [
            load,
            load_row,
            store,
            store_row,
            execute.state,
            execute.next_row[0],
            execute.next_row[1],
            execute.next_row[2],
            execute.entered,
            ld,
            ex,
            st,
            self.front.busy(self.scratchpad.busy()).into(),
            execute.in_array,
            execute.asked_for,
            self.port.in_flight(),
        ];
    }

    pub(crate) fn record(&mut self, accepted: Option<&RoccCommand>, busy: bool, events: &mut EventBuffer) {
        if busy != self.was_busy {
            events.push(Event::Busy { value: busy });
            self.was_busy = busy;
        }
        if let Some(&RoccCommand { funct, rs1, rs2 }) = accepted {
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

    /// What adds up while the machine runs.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted,
            allocated: self.front.station().allocated(),
            divisions: self.divisions(),
            traffic: *self.traffic(),
        }
    }

    /// Has these totals from now on. The commands in the station keep their distance from the next one.
    pub(crate) fn set_totals(&mut self, totals: &Totals) {
        let Totals { accepted, allocated, divisions, traffic } = *totals;
        self.accepted = accepted;
        self.front.station_mut().renumber(allocated);
        self.scratchpad.set_divisions(divisions);
        self.port.set_traffic(traffic);
    }

    /// A page-table walk is under way.
    pub fn walks(&self) -> bool {
        self.tlb.walks()
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

    /// What its units did so far that no event tells; the other counts are 0.
    pub(crate) fn unit_counts(&self) -> EventCounts {
        let (normalizer, readout) = self.scratchpad.mvout.counts();
        let (mvin, tlb) = (self.scratchpad.mvin.counts(), self.tlb.counts());
        EventCounts { mvin, normalizer, readout, tlb, ..EventCounts::default() }
    }

    /// Commands accepted at the command port so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Divisions of the normalizer so far: those of which an oracle may have to know whether an operand is zero.
    pub fn divisions(&self) -> u64 {
        self.scratchpad.divisions()
    }

    /// Accesses so far that the page table did not allow.
    pub fn faults(&self) -> Faults {
        self.tlb.faults()
    }

    /// The interrupt line: a page fault since the last flush.
    pub fn interrupt(&self) -> bool {
        self.tlb.interrupt()
    }

    /// The result that a COUNTER gives in this cycle.
    pub fn response(&self) -> Option<u64> {
        self.front.response()
    }

    /// Sequence number of the command in an entry of the station.
    pub(crate) fn seq(&self, id: RobId) -> Option<u64> {
        self.front.station().seq(id)
    }

    /// Everything that it holds now.
    pub(crate) fn view(&self) -> MachineView {
        let Self { front, load, execute, store, scratchpad, tlb, port, .. } = self;
        let seq: Seq<'_> = &|id| self.seq(id);
        let station = front.station().view();
        MachineView {
            version: VERSION,
            cycle: 0,
            busy: front.busy(scratchpad.busy()),
            accepted: self.accepted,
            front_end: front.view(),
            station,
            load: load.view(seq),
            execute: execute.view(seq),
            store: store.view(seq),
            mvin: scratchpad.mvin.view(),
            mvout: scratchpad.mvout.view(),
            reader: scratchpad.reader.view(|id| seq(load.command(id)?)),
            writer: scratchpad.writer.view(),
            tlb: tlb.view(),
            port: PortView { in_flight: port.in_flight(), ..scratchpad.tilelink.view() },
            scratchpad: scratchpad.spad_banks.iter().map(ScratchpadBank::view).collect(),
            accumulator: scratchpad.acc_banks.iter().map(AccumulatorMem::view).collect(),
            scratchpad_digest: 0,
            accumulator_digest: 0,
            traffic: *port.traffic(),
        }
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
