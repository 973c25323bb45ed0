//! Cycles of the execute controller that are done later than they pass: nothing that anybody else sees depends on when.
//!
//! As long as whole cycles of the execute controller repeat ([`super::replay`]) and nobody else uses its banks, its cycles are only
//! counted. They are done together, before anything that could tell the difference: somebody comes near its banks, a command
//! reaches it, its events, activities or counter lines are asked for, or it does something new.

use super::row_streak::RowStream;
use crate::dma::mvout_path::RowSource;
use crate::memories::accumulator_mem::{AccumulatorMem, AccumulatorWrite, WriteAddress};
use crate::memories::scratchpad::Scratchpad;
use crate::memories::scratchpad::wires::{ACC_BYTES, BankStates, ScratchpadWires};
use crate::memories::scratchpad_bank::ScratchpadBank;
use crate::observation::event::{Cycle, Event, EventBuffer, Port};
use crate::observation::violation::Violation;
use crate::parts::banks::{BankId, BankSet};
use crate::parts::row::ByteMask;
use crate::parts::values::Values;
use crate::parts::wires::ExTarget;

/// What is left for later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deferred {
    /// Cycles from now on that may be left for later.
    pub possible: u32,
    /// Cycles that have passed and are still to be done.
    pub cycles: u32,
    /// The first of them.
    pub start: Cycle,
    /// Scratchpad banks that the execute controller reads in each of them.
    pub banks: BankSet,
    /// Accumulator banks whose clock edges are left for later, too: those that it may write, and those into which a write is on its way.
    pub acc_banks: BankSet,
}

impl Deferred {
    pub fn pass(&mut self, cycles: u32) {
        self.possible -= cycles;
        self.cycles += cycles;
    }
}

impl<V: Values> Scratchpad<V> {
    /// The execute controller may leave what it does with these banks and with the accumulator for later: they deliver and accept a row
    /// for it in each cycle if nobody else uses them.
    pub(super) fn may_defer(&self, banks: BankSet) -> bool {
        self.acc_sub_banks == 0
            && self.states.acc_adding.len() <= 1
            && self.states.spad_out[Port::Ex as usize].has_all(banks)
            && banks.into_iter().all(|bank| self.spad_banks[bank.index()].streams())
    }

    /// A scratchpad bank has a row for the execute controller at its output or in its queue.
    pub(super) fn has_ex_row(&self, bank: BankId) -> bool {
        !self.spad_banks[bank.index()].is_empty(Port::Ex) || self.states.spad_out[Port::Ex as usize].has(bank)
    }

    /// Somebody else uses one of the scratchpad banks in this cycle, or one of the accumulator banks, or writes into the
    /// accumulator, or may do so.
    #[inline]
    pub(super) fn disturbs(&self, banks: BankSet, acc_banks: BankSet, wires: &ScratchpadWires) -> bool {
        let reads = |request| match self.mvout.source(request) {
            RowSource::Zeros => false,
            RowSource::Spad(_) => true,
            RowSource::Acc(bank) => acc_banks.has(bank),
        };
        !(wires.writes.spad_banks & banks | wires.writes.acc_banks).is_empty()
            || wires.heads.has_acc_row()
            || self.mvout.dispatching().is_some_and(reads)
    }

    /// The clock edges that were left for later: what gives the rows to the replay, and what takes its results.
    pub(super) fn replay_ports(&mut self, cycle: Cycle) -> (&[ScratchpadBank<V>], ResultPort<'_, V>) {
        let Self { spad_banks, acc_banks, states, dim, .. } = self;
        (spad_banks, ResultPort { acc_banks, states, dim: *dim, cycle })
    }

    /// Clock edges of the scratchpad banks that were left for later.
    pub(super) fn stream(&mut self, cycles: u32, stream: &RowStream, events: &mut EventBuffer) {
        let &RowStream { bank, next, step } = stream;
        self.spad_banks[bank.index()].stream(cycles, next, step);
        events.push_each(Event::SpadRead { bank: bank.0, row: next.0, port: Port::Ex }, cycles);
    }
}

/// The accumulator banks while nobody but the execute controller uses them.
pub(super) struct ResultPort<'a, V: Values> {
    acc_banks: &'a mut [AccumulatorMem<V>],
    states: &'a mut BankStates,
    dim: usize,
    cycle: Cycle,
}

impl<V: Values> ResultPort<'_, V> {
    /// The clock edge of a cycle in which a result row goes to the accumulator, or none.
    #[inline]
    pub fn write(&mut self, target: Option<ExTarget>, data: &[V::Of<i32>], events: &mut EventBuffer) {
        let mut draining = self.states.acc_writing;
        self.states.acc_adding = BankSet::EMPTY;
        if let Some(ExTarget::Acc { bank, row, cols, accumulate }) = target {
            let (mem, address) = (&mut self.acc_banks[bank.index()], WriteAddress { row, accumulate });
            let fires = mem.write_ready(address);
            events.require_in(self.cycle, fires, Violation::ExecuteWriteSkipped);
            if fires {
                events.push(Event::AccWrite { bank: bank.0, row: row.0, port: Port::Ex, accumulate });
                let mask = if cols < self.dim { Some(ByteMask::first(cols * ACC_BYTES)) } else { None };
                mem.write(Some(&AccumulatorWrite { row, data, mask, accumulate }), Some(address));
                draining.remove(bank);
                self.states.acc_writing.insert(bank);
                self.states.acc_adding = BankSet::of(bank).only_if(accumulate);
            }
        }
        for bank in draining {
            let mem = &mut self.acc_banks[bank.index()];
            mem.write(None, None);
            self.states.acc_writing.set(bank, mem.is_writing());
        }
        self.cycle += 1;
    }
}
