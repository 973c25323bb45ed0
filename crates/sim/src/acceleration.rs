//! The fast path: the same blocks as [`Machine::step`] clocks, with what is known beforehand left out.
//!
//! Nothing here is state of the hardware. [`Acceleration`] holds what is known about a machine's next cycles; forgetting it (after
//! [`Acceleration::catch_up`]) changes no result, only the time that it takes. Whatever it skips is something of which
//! the blocks' own functions would find that nothing changes, or that it repeats:
//!
//! | file | what is known | what is left out |
//! |---|---|---|
//! | [`quiet_dma`] | nothing is inside the DMA side, and its last clock edge changed nothing | its wires and its clock edge |
//! | [`row_streak`] | a row of operands repeats the handshakes of the one before | working them out |
//! | [`deferral`] | whole cycles of the execute controller repeat, and nobody else uses its banks | doing them one by one: they are done later, together ([`replay`]) |
//! | [`settled`] | front end or translation did not change, and their inputs are the same | their wires and clock edges |
//! | here | nothing is inside the execute controller; nothing moves at all | its wires and clock edges; the cycles |
//!
//! The plain step is the specification: tests run all golden cases, random programs and random block inputs on both.

mod deferral;
mod quiet_dma;
mod replay;
pub(crate) mod row_streak;
mod settled;

use pollux_isa::RoccCommand;

use self::deferral::Deferred;
use self::quiet_dma::QuietDma;
use self::row_streak::{RowStreaks, RowStream};
use self::settled::{SettledFrontEnd, SettledTlb};
use crate::execute::execute_controller::ExecuteController;
use crate::execute::execute_controller::wires::{ControlWires, ExResults, RowIssueWires};
use crate::front_end::FrontInputs;
use crate::host::BENCH_RD;
use crate::machine::{CycleWires, Machine, Step};
use crate::memories::scratchpad::wires::{ScratchpadInputs, ScratchpadWires};
use crate::memory::MemorySystem;
use crate::observation::activity::Activity;
use crate::observation::event::{Cycle, EventBuffer, Unit};
use crate::parts::banks::BankSet;
use crate::parts::decoupled::Decoupled;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{ExReads, IssuedCmd, PerUnit, UNITS};
use crate::port::frontend_tlb::TlbWires;

/// What is known about a machine's next cycles.
#[derive(Clone, Debug, Default)]
pub struct Acceleration<V: Values = Full> {
    wires: LargeWires<V>,
    /// Nothing is inside the execute controller, and its last clock edge changed nothing: its wires stay what they are until a command
    /// comes.
    execute_is_quiet: bool,
    front: SettledFrontEnd,
    tlb: SettledTlb,
    dma: QuietDma,
    rows: RowStreaks,
    deferred: Deferred,
}

/// Wires that are kept from cycle to cycle: they are large, and most of them do not change.
#[derive(Clone, Debug, Default)]
struct LargeWires<V: Values> {
    results: ExResults<V>,
    rows: RowIssueWires,
    spad: ScratchpadWires,
    tlb: TlbWires,
}

impl<V: Values> Acceleration<V> {
    /// One clock cycle, with the results of [`Machine::step`]. What is in the execute controller and in
    /// the banks may lag behind until [`Self::catch_up`].
    #[inline]
    pub fn step(
        &mut self,
        machine: &mut Machine<V>,
        cycle: Cycle,
        cmd: Option<RoccCommand>,
        memory: &mut impl MemorySystem<V>,
        events: &mut EventBuffer,
        activity: Option<&mut Activity>,
    ) -> Step {
        if machine.scratchpad.has_registers {
            // What is known about rows holds for queues.
            return machine.step(cycle, cmd, memory, events, activity);
        }
        events.begin(cycle);
        // Wires.
        let busy = machine.front.busy(machine.scratchpad.busy());
        let cmd = Decoupled::new(cmd, |_| machine.front.cmd_ready());
        let ready = machine.controllers_ready();
        let observed = activity.is_some() || machine.front.reads_counters();
        if self.deferred.possible > 0
            && !observed
            && !UNITS.into_iter().any(|unit| machine.issues(unit, ready))
            && self.nothing_behind_the_station_moves(machine)
        {
            return self.step_front_end(machine, cmd.fire(), busy, ready, events);
        }
        let tlb_settled = self.tlb.settled;
        if !tlb_settled {
            self.wires.tlb = machine.tlb.wires();
        }
        let repeats = self.deferred.possible > 0
            && !observed
            && !machine.issues(Unit::Ex, ready)
            && self.repeat_rows(machine, tlb_settled);
        if !repeats {
            self.catch_up(machine, events);
            self.deferred.possible = 0;
        }
        let execute_rests = repeats || (self.execute_is_quiet && !machine.issues(Unit::Ex, ready) && !observed);
        let LargeWires { results, rows, spad, tlb } = &mut self.wires;
        let mut control = ControlWires::default();
        if !execute_rests {
            machine.execute.drive_results(results);
            control = machine.execute.control(|bank| machine.scratchpad.ex_resp(bank));
        }
        if !repeats {
            self.dma.sinks(
                &machine.scratchpad,
                &results.write,
                control.pops,
                BankSet::EMPTY,
                &tlb.responses,
                tlb_settled,
                spad,
            );
        }
        if !execute_rests {
            self.rows.row_issue(&machine.execute, &control, spad.spad_read_ready, spad.acc_read_ready, rows);
        }
        self.dma.dispatch(&machine.scratchpad, &rows.reads, spad);
        let LargeWires { rows, spad, tlb, .. } = &self.wires;
        let load_request = machine.load.request();
        let load = load_request.as_ref().filter(|request| machine.scratchpad.load_ready(request, spad));
        let store_request = machine.store.request();
        let store = store_request.as_ref().filter(|_| spad.store_ready);
        let port = machine.port.wires(cycle, memory, machine.scratchpad.port_a(), machine.scratchpad.port_d_ready());
        let completion = machine.completion(rows.completed);
        let (to_load, to_execute) = (machine.issued(Unit::Ld, ready), machine.issued(Unit::Ex, ready));
        let to_store = machine.issued(Unit::St, ready);
        let flush = machine.front.tlb_flush();
        let counter_reset = machine.front.counter_reset();
        if observed {
            let cycle_wires = CycleWires {
                cmd: &cmd,
                ready,
                load: &Decoupled { bits: load_request, ready: load.is_some() },
                store: &Decoupled { bits: store_request, ready: store.is_some() },
                control: &control,
                rows,
                spad,
                tlb,
                port: &port,
                d_offered: machine.d_offered(cycle, memory),
            };
            machine.counters = machine.counter_events(&cycle_wires);
            if let Some(activity) = activity {
                machine.observe(&cycle_wires, activity);
            }
        }

        let alive = cmd.fires() || machine.is_alive(ready, &completion, &port);

        // Clock edge.
        let inputs = FrontInputs {
            cmd: cmd.fire().map(|cmd| (cmd, BENCH_RD)),
            ready,
            completed: completion.reported,
            counters: &machine.counters,
        };
        let mut progress = self.front.tick(&mut machine.front, &inputs, events);
        progress |= machine.load.tick(to_load, load.is_some(), spad.load_response, completion.load_ready, events);
        progress |= machine.store.tick(to_store, store.is_some(), spad.store_response, completion.store_ready, events);
        let pops = control.pops;
        if !execute_rests {
            progress |= self.tick_execute(&mut machine.execute, to_execute, &control, events);
        }
        let LargeWires { results, rows, spad, tlb } = &self.wires;
        progress |= machine.port.tick(cycle, &port, memory, machine.scratchpad.port_a(), events);
        if flush || !(tlb_settled && self.dma.rests) {
            let read = |address| u64::from_le_bytes(memory.memory().read_array(address));
            progress |= self.tlb.tick(&mut machine.tlb, tlb, &spad.tlb_requests, flush, read);
        }
        let no_reads = ExReads::default();
        let inputs = ScratchpadInputs {
            ex_write: &results.write,
            pops,
            reads: if repeats { &no_reads } else { &rows.reads },
            load,
            store,
            port_a_taken: port.a_taken,
            port_d: port.d.as_ref(),
        };
        progress |= self.dma.tick(&mut machine.scratchpad, spad, &inputs, repeats, events);
        if repeats {
            progress = true;
            self.pass_rows(machine, events);
        } else if self.rows.in_streak && !observed {
            self.look_ahead(machine, cycle);
        }
        machine.record(cmd.fire(), busy, events);
        if counter_reset {
            machine.scratchpad.reset_external_counters();
        }
        Step { progress, accepted: cmd.fires(), busy, alive }
    }
}

/// Parts of a cycle.
impl<V: Values> Acceleration<V> {
    /// The clock edge of the execute controller, and what is known about its next one.
    #[inline]
    fn tick_execute(
        &mut self,
        execute: &mut ExecuteController<V>,
        cmd: Option<IssuedCmd>,
        control: &ControlWires<'_, V>,
        events: &mut EventBuffer,
    ) -> bool {
        let LargeWires { results, rows, .. } = &self.wires;
        let progress = self.rows.tick(execute, cmd, results, control, rows, events);
        self.execute_is_quiet = !progress && execute.is_empty() && rows.pass.is_none();
        progress
    }

    /// Nothing that takes commands from the reservation station moves, but for rows of the execute controller that may be
    /// left for later.
    #[inline]
    fn nothing_behind_the_station_moves(&self, machine: &Machine<V>) -> bool {
        self.dma.rests
            && self.dma.is_quiet()
            && self.tlb.settled
            && !machine.load.busy()
            && !machine.store.busy()
            && !machine.front.tlb_flush()
    }

    /// A cycle in which nothing else moves than the front end, and rows that are left for later. `cmd` is the command that is
    /// accepted.
    fn step_front_end(
        &mut self,
        machine: &mut Machine<V>,
        cmd: Option<&RoccCommand>,
        busy: bool,
        ready: PerUnit<bool>,
        events: &mut EventBuffer,
    ) -> Step {
        let inputs =
            FrontInputs { cmd: cmd.map(|cmd| (cmd, BENCH_RD)), ready, completed: None, counters: &machine.counters };
        self.front.tick(&mut machine.front, &inputs, events);
        self.pass_rows(machine, events);
        machine.record(cmd, busy, events);
        Step { progress: true, accepted: cmd.is_some(), busy, alive: true }
    }
}

/// Rows that are left for later.
impl<V: Values> Acceleration<V> {
    /// Cycles from now on in which nothing but rows of the execute controller moves, if no command is accepted and the memory sends
    /// nothing: none if one is presented, as `cmd` tells, and accepted. [`Self::defer`] lets them pass.
    #[inline]
    pub fn repeating_cycles(&self, machine: &Machine<V>, cmd: impl FnOnce() -> bool) -> u32 {
        if self.deferred.possible == 0 || !self.dma.rests || (machine.front.cmd_ready() && cmd()) {
            return 0;
        }
        let rest = self.front.rests(&machine.front, machine.controllers_ready())
            && self.nothing_behind_the_station_moves(machine);
        if rest { self.deferred.possible } else { 0 }
    }

    /// Lets so many of the [repeating cycles](Self::repeating_cycles) pass.
    pub fn defer(&mut self, cycles: u32) {
        self.deferred.pass(cycles);
    }

    /// A cycle of the execute controller passes, and is left for later unless its events are asked for.
    fn pass_rows(&mut self, machine: &mut Machine<V>, events: &mut EventBuffer) {
        self.deferred.pass(1);
        if events.enabled() {
            self.catch_up(machine, events);
        }
    }

    /// The wires of a cycle that the execute controller leaves for later. False if somebody else uses its banks.
    fn repeat_rows(&mut self, machine: &Machine<V>, tlb_settled: bool) -> bool {
        let Deferred { banks, acc_banks, .. } = self.deferred;
        let wires = &mut self.wires;
        // The wires of another row of the streak, but for the row numbers.
        (wires.rows.completed, wires.rows.decision) = (None, None);
        wires.results.write.target = None;
        let (write, tlb) = (&wires.results.write, &wires.tlb.responses);
        self.dma.sinks(&machine.scratchpad, write, banks, banks, tlb, tlb_settled, &mut wires.spad);
        self.dma.rests || !machine.scratchpad.disturbs(banks, acc_banks, &wires.spad)
    }

    /// Looks how many cycles of the execute controller may be left for later. Kept out of [`Acceleration::step`]: most cycles need not
    /// look.
    #[inline(never)]
    fn look_ahead(&mut self, machine: &Machine<V>, cycle: Cycle) {
        let banks = self.rows.streak.banks;
        if machine.scratchpad.may_defer(banks) {
            let has_row = |bank| machine.scratchpad.has_ex_row(bank);
            let possible = machine.execute.repeating_cycles(&self.rows.streak, has_row);
            let acc_banks = machine.execute.result_banks() | machine.scratchpad.states.acc_writing;
            self.deferred = Deferred { possible, cycles: 0, start: cycle + 1, banks, acc_banks };
        }
    }

    /// Does what was left for later. What is in the execute controller and in the banks may lag behind until this is
    /// done, by less than a pass of the execute controller.
    #[inline]
    pub fn catch_up(&mut self, machine: &mut Machine<V>, events: &mut EventBuffer) {
        let cycles = std::mem::take(&mut self.deferred.cycles);
        if cycles > 0 {
            self.replay(cycles, machine, events);
        }
    }

    fn replay(&mut self, cycles: u32, machine: &mut Machine<V>, events: &mut EventBuffer) {
        let mut found = self.rows.streak.streams();
        let mut streams: [Option<RowStream>; 3] = std::array::from_fn(|_| found.next());
        // Traces list the reads of a cycle by bank.
        streams.sort_by_key(|stream| stream.map(|stream| stream.bank));
        drop(found);
        let (banks, mut results) = machine.scratchpad.replay_ports(self.deferred.start);
        self.deferred.start += Cycle::from(cycles);
        machine.execute.replay(
            &mut self.rows.streak,
            cycles,
            |&RowStream { bank, next, step }, i| banks[bank.index()].streamed(i, next, step),
            |bank| banks[bank.index()].shown_lanes(),
            |target, data, events| results.write(target, data, events),
            events,
        );
        for stream in streams.iter().flatten() {
            machine.scratchpad.stream(cycles, stream, events);
        }
    }

    /// Catches up and forgets everything: the machine can be stepped by itself from here on.
    pub fn leave(&mut self, machine: &mut Machine<V>, events: &mut EventBuffer) {
        self.catch_up(machine, events);
        *self = Self::default();
    }
}

impl<V: Values> Machine<V> {
    /// Lets `cycles` cycles pass in which nothing moves (the last step made no progress).
    pub fn skip(&mut self, cycles: u64) {
        self.front.skip(cycles, &self.counters);
        self.scratchpad.skip(cycles);
    }
}
