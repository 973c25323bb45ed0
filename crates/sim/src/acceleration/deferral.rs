//! Cycles of the execute controller that are done later than they pass: nothing that anybody else sees depends on when.
//!
//! As long as whole cycles of the execute controller repeat ([`super::replay`]) and nobody else uses its banks, its cycles are only
//! counted. They are done together, before anything that could tell the difference: somebody comes near its banks, a command
//! reaches it, its events, activities or counter lines are asked for, or it does something new.

use super::Acceleration;
use super::row_streak::RowStream;
use crate::dma::mvout_path::RowSource;
use crate::machine::Machine;
use crate::memories::accumulator_mem::{AccumulatorMem, AccumulatorWrite, WriteAddress};
use crate::memories::scratchpad::Scratchpad;
use crate::memories::scratchpad::wires::{ACC_BYTES, BankStates, ScratchpadWires};
use crate::memories::scratchpad_bank::ScratchpadBank;
use crate::observation::event::{Event, EventBuffer, Port};
use crate::parts::banks::{banks_of, set_bit};
use crate::parts::row::ByteMask;
use crate::parts::wires::ExTarget;

/// What is left for later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deferred {
    /// Cycles from now on that may be left for later.
    pub possible: u32,
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

impl Acceleration {
    /// Cycles from now on in which nothing but rows of the execute controller moves, if no command is accepted and the memory sends
    /// nothing: none if one is presented, as `cmd` tells, and accepted. [`Self::defer`] lets them pass.
    #[inline]
    pub fn repeating_cycles(&self, machine: &Machine, cmd: impl FnOnce() -> bool) -> u32 {
        if self.deferred.possible == 0 || !self.dma.rests || (machine.front.cmd_ready() && cmd()) {
            return 0;
        }
        let rest = machine.front.rests(machine.controllers_ready()) && self.nothing_behind_the_station_moves(machine);
        if rest { self.deferred.possible } else { 0 }
    }

    /// Lets so many of the [repeating cycles](Self::repeating_cycles) pass.
    pub fn defer(&mut self, cycles: u32) {
        self.deferred.pass(cycles);
    }

    /// A cycle of the execute controller passes, and is left for later unless its events are asked for.
    pub(super) fn pass_rows(&mut self, machine: &mut Machine, events: &mut EventBuffer) {
        self.deferred.pass(1);
        if events.enabled() {
            self.catch_up(machine, events);
        }
    }

    /// The wires of a cycle that the execute controller leaves for later. False if somebody else uses its banks.
    pub(super) fn repeat_rows(&mut self, machine: &Machine, tlb_settled: bool) -> bool {
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
    pub(super) fn look_ahead(&mut self, machine: &Machine) {
        let banks = self.rows.streak.banks;
        if machine.scratchpad.may_defer(banks) {
            let has_row = |bank| machine.scratchpad.has_ex_row(bank);
            let possible = machine.execute.repeating_cycles(&self.rows.streak, has_row);
            let acc_banks = machine.execute.result_banks() | machine.scratchpad.states.acc_writing;
            self.deferred = Deferred { possible, cycles: 0, banks, acc_banks };
        }
    }

    /// Does what was left for later. What [`Machine::execute_controller`] and [`Machine::scratchpad`] show may lag behind until this is
    /// done, by less than a pass of the execute controller.
    #[inline]
    pub fn catch_up(&mut self, machine: &mut Machine, events: &mut EventBuffer) {
        let cycles = std::mem::take(&mut self.deferred.cycles);
        if cycles > 0 {
            self.replay(cycles, machine, events);
        }
    }

    fn replay(&mut self, cycles: u32, machine: &mut Machine, events: &mut EventBuffer) {
        let mut found = self.rows.streak.streams();
        let mut streams: [Option<RowStream>; 3] = std::array::from_fn(|_| found.next());
        // Traces list the reads of a cycle by bank.
        streams.sort_by_key(|stream| stream.map(|stream| stream.bank));
        drop(found);
        let (banks, mut results) = machine.scratchpad.replay_ports();
        machine.execute.replay(
            &mut self.rows.streak,
            cycles,
            |&RowStream { bank, next, step }, i| banks[usize::from(bank)].streamed(i, next, step),
            |bank| banks[usize::from(bank)].shown_lanes(),
            |target, data, events| results.write(target, data, events),
            events,
        );
        for stream in streams.iter().flatten() {
            machine.scratchpad.stream(cycles, stream, events);
        }
    }

    /// Catches up and forgets everything: the machine can be stepped by itself from here on.
    pub fn leave(&mut self, machine: &mut Machine, events: &mut EventBuffer) {
        self.catch_up(machine, events);
        *self = Self::default();
    }
}

impl Scratchpad {
    /// The execute controller may leave what it does with these banks and with the accumulator for later: they deliver and accept a row
    /// for it in each cycle if nobody else uses them.
    fn may_defer(&self, banks: u32) -> bool {
        self.acc_sub_banks == 0
            && self.states.acc_adding.count_ones() <= 1
            && self.states.spad_out[Port::Ex as usize] & banks == banks
            && banks_of(banks).all(|bank| self.spad_banks[usize::from(bank)].streams())
    }

    /// A scratchpad bank has a row for the execute controller at its output or in its queue.
    fn has_ex_row(&self, bank: u8) -> bool {
        !self.spad_banks[usize::from(bank)].is_empty(Port::Ex)
            || self.states.spad_out[Port::Ex as usize] >> bank & 1 == 1
    }

    /// Somebody else uses one of the scratchpad banks in this cycle, or one of the accumulator banks, or writes into the
    /// accumulator, or may do so.
    #[inline]
    fn disturbs(&self, banks: u32, acc_banks: u32, wires: &ScratchpadWires) -> bool {
        let reads = |request| match self.mvout.source(request) {
            RowSource::Zeros => false,
            RowSource::Spad(_) => true,
            RowSource::Acc(bank) => acc_banks >> bank & 1 == 1,
        };
        wires.writes.spad_banks & banks | wires.writes.acc_banks != 0
            || wires.heads.has_acc_row()
            || self.mvout.dispatching().is_some_and(reads)
    }

    /// The clock edges that were left for later: what gives the rows to the replay, and what takes its results.
    fn replay_ports(&mut self) -> (&[ScratchpadBank], ResultPort<'_>) {
        let Self { spad_banks, acc_banks, states, dim, .. } = self;
        (spad_banks, ResultPort { acc_banks, states, dim: *dim })
    }

    /// Clock edges of the scratchpad banks that were left for later.
    fn stream(&mut self, cycles: u32, stream: &RowStream, events: &mut EventBuffer) {
        let &RowStream { bank, next, step } = stream;
        self.spad_banks[usize::from(bank)].stream(cycles, next, step);
        events.push(Event::SpadRead { bank, row: next, port: Port::Ex });
    }
}

/// The accumulator banks while nobody but the execute controller uses them.
struct ResultPort<'a> {
    acc_banks: &'a mut [AccumulatorMem],
    states: &'a mut BankStates,
    dim: usize,
}

impl ResultPort<'_> {
    /// The clock edge of a cycle in which a result row goes to the accumulator, or none.
    #[inline]
    fn write(&mut self, target: Option<ExTarget>, data: &[i32], events: &mut EventBuffer) {
        let mut draining = self.states.acc_writing;
        self.states.acc_adding = 0;
        if let Some(ExTarget::Acc { bank, row, cols, accumulate }) = target {
            let (mem, address) = (&mut self.acc_banks[usize::from(bank)], WriteAddress { row, accumulate });
            if mem.write_ready(address) {
                events.push(Event::AccWrite { bank, row, port: Port::Ex, accumulate });
                let mask = if cols < self.dim { Some(ByteMask::first(cols * ACC_BYTES)) } else { None };
                mem.write(Some(&AccumulatorWrite { row, data, mask, accumulate }), Some(address));
                draining &= !(1 << bank);
                self.states.acc_writing |= 1 << bank;
                self.states.acc_adding = u32::from(accumulate) << bank;
            }
        }
        for bank in banks_of(draining) {
            let mem = &mut self.acc_banks[usize::from(bank)];
            mem.write(None, None);
            set_bit(&mut self.states.acc_writing, bank, mem.is_writing());
        }
    }
}
