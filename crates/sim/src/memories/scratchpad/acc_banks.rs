//! The clock edge of the accumulator's banks.

use pollux_isa::values::Activation;
use pollux_numerics::IexpConstants;

use super::Scratchpad;
use super::wires::{ACC_BYTES, AccWriteRequest, BankWrites, EX, ScratchpadWires, ZERO};
use crate::dma::mvin_path::MvinHeads;
use crate::memories::accumulator_mem::{self, AccumulatorWrite, ReadoutRequest, WriteAddress};
use crate::observation::event::{Event, EventBuffer, Port};
use crate::observation::violation::Violation;
use crate::parts::banks::{BankId, BankRow, BankSet};
use crate::parts::row::{AccLanes, ByteMask, SpadLanes};
use crate::parts::values::Values;
use crate::parts::wires::{ExReads, ExTarget, ExWrite};

impl<V: Values> Scratchpad<V> {
    /// Clock edge of the accumulator banks' outputs: rows leave, and the rows that are read take their place. `mvout` is the bank, the
    /// row and the way in which mvout reads it.
    pub(crate) fn tick_acc_reads(
        &mut self,
        wires: &ScratchpadWires,
        reads: &ExReads,
        mvout: Option<(BankId, BankRow, ReadoutRequest)>,
        events: &mut EventBuffer,
    ) -> bool {
        if (wires.outputs.acc | reads.acc_valid).is_empty() && mvout.is_none() {
            return false;
        }
        self.read_acc_banks(wires, reads, mvout, events)
    }

    /// Clock edge of the accumulator banks' writes, and of the adders.
    #[inline]
    pub(crate) fn tick_acc_writes(
        &mut self,
        wires: &ScratchpadWires,
        ex_write: &ExWrite<V>,
        events: &mut EventBuffer,
    ) -> bool {
        if (self.states.acc_writing | wires.writes.acc_banks | self.consecutive_write_block).is_empty() {
            return false;
        }
        let blocked = self.acc_sub_banks != 0 && self.block_consecutive_writes(&wires.writes);
        if self.states.acc_adding.len() > 1 {
            accumulator_mem::add_ored(&mut self.acc_banks, self.states.acc_adding);
        }
        self.states.acc_adding = wires.writes.acc_fires & wires.writes.accumulating;
        let writing = self.states.acc_writing | wires.writes.acc_fires;
        for bank in writing {
            self.write_acc_bank(bank, wires, ex_write, events);
        }
        blocked || !writing.is_empty()
    }

    #[inline(never)] // rows of results are written much more often
    fn read_acc_banks(
        &mut self,
        wires: &ScratchpadWires,
        reads: &ExReads,
        mvout_read: Option<(BankId, BankRow, ReadoutRequest)>,
        events: &mut EventBuffer,
    ) -> bool {
        for bank in wires.outputs.acc {
            self.acc_banks[bank.index()].take();
        }
        self.states.acc_out &= !wires.outputs.acc;
        let mut changed = !wires.outputs.acc.is_empty();
        for bank in reads.acc_valid | mvout_read.map(|(bank, ..)| bank).into() {
            let read = match mvout_read {
                Some((of, row, readout)) if of == bank => Some((row, readout)),
                _ => self.ex_acc_read(bank, wires, reads),
            };
            if let Some((row, readout)) = read {
                let written = wires.writes.acc_source(bank).filter(|(_, request)| request.fires);
                let meets = written.is_some_and(|(_, request)| request.address.row == row);
                events.require(!meets, Violation::ReadOfWrittenRow);
                events.push(Event::AccRead { bank: bank.0, row: row.0, port: readout.port });
                self.acc_banks[bank.index()].read(row, readout);
                self.states.acc_out.insert(bank);
                changed = true;
            }
        }
        changed
    }

    /// Clock edge of a bank's writes.
    #[inline]
    fn write_acc_bank(
        &mut self,
        bank: BankId,
        wires: &ScratchpadWires,
        ex_write: &ExWrite<V>,
        events: &mut EventBuffer,
    ) {
        let request = wires.writes.acc_source(bank);
        let mem = &mut self.acc_banks[bank.index()];
        match request {
            Some((EX, AccWriteRequest { fires: true, address, .. })) => {
                let WriteAddress { row, accumulate } = address;
                events.push(Event::AccWrite { bank: bank.0, row: row.0, port: Port::Ex, accumulate });
                let partial = match ex_write.target {
                    Some(ExTarget::Acc { cols, .. }) if cols < self.dim => Some(ByteMask::first(cols * ACC_BYTES)),
                    _ => None,
                };
                let data = &ex_write.acc_row.0[..self.dim];
                let kept = mem.write(Some(&AccumulatorWrite { row, data, mask: partial, accumulate }), Some(address));
                events.require(kept, Violation::WriteQueueOverflow);
                self.states.acc_writing.insert(bank);
            }
            Some((source, AccWriteRequest { fires: true, address, .. })) => {
                self.write_loaded_acc_row(bank, source, address, &wires.heads, events);
            }
            request => {
                events.require(!matches!(request, Some((EX, _))), Violation::ExecuteWriteSkipped);
                let kept = mem.write(None, request.map(|(_, request)| request.address));
                events.require(kept, Violation::WriteQueueOverflow);
                self.states.acc_writing.set(bank, mem.is_writing());
            }
        }
    }

    /// The write of a loaded row or a row of zeros.
    #[inline(never)]
    fn write_loaded_acc_row(
        &mut self,
        bank: BankId,
        source: usize,
        address: WriteAddress,
        heads: &MvinHeads,
        events: &mut EventBuffer,
    ) {
        let WriteAddress { row, accumulate } = address;
        events.push(Event::AccWrite { bank: bank.0, row: row.0, port: Port::Dma, accumulate });
        let (data, mask) = self.loaded_acc_row(source, heads);
        let write = AccumulatorWrite { row, data: &data.0[..self.dim], mask: Some(mask), accumulate };
        let kept = self.acc_banks[bank.index()].write(Some(&write), Some(address));
        events.require(kept, Violation::WriteQueueOverflow);
        self.states.acc_writing.insert(bank);
    }

    /// Data and byte enables of a loaded row or a row of zeros that is offered to the accumulator.
    #[inline(never)] // it fills the caller's row in place
    fn loaded_acc_row(&self, source: usize, heads: &MvinHeads) -> (AccLanes<V>, ByteMask) {
        let nothing = (AccLanes::default(), ByteMask::default());
        if source == ZERO {
            return self.mvin.zero_mask().map_or(nothing, |mask| (nothing.0, self.element_mask(mask)));
        }
        match (&heads.narrow, &heads.wide) {
            (Some(row), _) if row.tag.is_acc => {
                let narrow = self.mvin.narrow_row();
                narrow.map_or(nothing, |(row, mask)| (self.widened(&row), self.element_mask(mask)))
            }
            (_, Some(head)) => self.mvin.wide_row().map_or(nothing, |row| (*row, head.tag.mask())),
            _ => nothing,
        }
    }

    /// A read of the execute controller that the bank accepts.
    fn ex_acc_read(&self, bank: BankId, wires: &ScratchpadWires, reads: &ExReads) -> Option<(BankRow, ReadoutRequest)> {
        if !reads.acc_valid.has(bank) {
            return None;
        }
        let row = reads.acc_row[bank];
        let constants = IexpConstants::default();
        let readout = ReadoutRequest { activation: Activation::None, scale: 0, constants, port: Port::Ex };
        self.acc_read_ready(bank, row, wires).then_some((row, readout))
    }

    /// A row of scratchpad elements as accumulator elements, sign extended.
    fn widened(&self, row: &SpadLanes<V>) -> AccLanes<V> {
        let mut wide = AccLanes::default();
        V::update(&mut wide.0, |wide, sight| {
            for (element, &narrow) in wide.iter_mut().zip(V::see(&row.0[..self.dim], sight)) {
                *element = narrow.into();
            }
        });
        wide
    }

    /// Byte enables of accumulator elements from the enables of the elements.
    fn element_mask(&self, elements: u64) -> ByteMask {
        let mut mask = ByteMask::default();
        for element in (0..self.dim).filter(|element| elements >> element & 1 == 1) {
            let byte = element * ACC_BYTES;
            mask.0[byte / 64] |= ((1 << ACC_BYTES) - 1) << (byte % 64);
        }
        mask
    }

    /// After two accumulating writes in a row to one sub-bank the DMA must let a cycle pass, so that the sub-bank's write
    /// queue does not overflow.
    fn block_consecutive_writes(&mut self, writes: &BankWrites) -> bool {
        let before = self.consecutive_write_block;
        self.consecutive_write_block = BankSet::EMPTY;
        for request in writes.acc.iter().flatten().filter(|request| request.fires && request.address.accumulate) {
            let sub_bank = request.address.row.0 & (self.acc_sub_banks - 1);
            let last = &mut self.consecutive_write_sub_bank[request.bank.index()];
            if *last == sub_bank {
                self.consecutive_write_block.insert(request.bank);
            }
            *last = sub_bank;
        }
        self.consecutive_write_block != before
    }
}
