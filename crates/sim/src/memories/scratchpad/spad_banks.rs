//! The clock edge of the scratchpad's banks.

use super::Scratchpad;
use super::wires::{EX, MVIN, ScratchpadInputs, ScratchpadWires};
use crate::dma::mvout_path::RowSource;
use crate::memories::scratchpad_bank::BankWrite;
use crate::observation::event::{Event, EventBuffer, Port};
use crate::parts::banks::{banks_of, set_bit};
use crate::parts::row::SpadRow;
use crate::parts::wires::{ExTarget, ExWrite};

impl Scratchpad {
    /// Rows leave the queues, then the outputs; rows are written; then rows are read.
    #[inline]
    pub(crate) fn tick_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_>,
        events: &mut EventBuffer,
    ) -> bool {
        let ex_reads = inputs.reads.spad_valid & wires.spad_read_ready;
        let moves = ex_reads | inputs.pops | wires.outputs.spad | wires.writes.spad_banks;
        if moves == 0 && wires.mvout_read.is_none() && wires.mvout.spad_row.is_none() {
            return false;
        }
        self.tick_active_spad_banks(wires, inputs, ex_reads, events);
        true
    }

    fn tick_active_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs,
        ex_reads: u32,
        events: &mut EventBuffer,
    ) {
        self.pop_rows(inputs.pops, wires.mvout.spad_row);
        self.leave_outputs(wires.outputs.spad);
        if wires.writes.spad_banks != 0 {
            self.write_spad_banks(wires, inputs.ex_write, events);
        }
        let mvout_read = match wires.mvout_read {
            Some((RowSource::Spad(bank), row)) => Some((bank, row)),
            _ => None,
        };
        for bank in banks_of(ex_reads | mvout_read.map_or(0, |(bank, _)| 1 << bank)) {
            let (row, port) = match mvout_read {
                Some((of, row)) if of == bank => (row, Port::Dma),
                _ => (inputs.reads.spad_row[usize::from(bank)], Port::Ex),
            };
            events.push(Event::SpadRead { bank, row, port });
            self.spad_banks[usize::from(bank)].read(row, port);
            self.states.spad_out[port as usize] |= 1 << bank;
        }
    }

    /// Rows leave the banks' queues for the execute controller, and for the DMA.
    #[inline]
    fn pop_rows(&mut self, ex: u32, dma: Option<u8>) {
        for bank in banks_of(ex) {
            self.spad_banks[usize::from(bank)].pop(Port::Ex);
        }
        self.states.rows_full[Port::Ex as usize] &= !ex;
        if let Some(index) = dma {
            let bank = &mut self.spad_banks[usize::from(index)];
            bank.pop(Port::Dma);
            set_bit(&mut self.states.dma_rows, index, !bank.is_empty(Port::Dma));
            self.states.rows_full[Port::Dma as usize] &= !(1 << index);
        }
    }

    /// Rows leave the banks' outputs for a queue.
    #[inline]
    fn leave_outputs(&mut self, banks: u32) {
        let to_dma = self.states.spad_out[Port::Dma as usize] & banks;
        self.states.dma_rows |= to_dma;
        for bank in banks_of(banks) {
            if let Some((port, true)) = self.spad_banks[usize::from(bank)].leave() {
                self.states.rows_full[port as usize] |= 1 << bank;
            }
        }
        self.states.spad_out[0] &= !banks;
        self.states.spad_out[1] &= !banks;
    }

    /// The writes of the scratchpad banks.
    #[inline]
    fn write_spad_banks(&mut self, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) {
        for bank in banks_of(wires.writes.spad_banks) {
            self.write_spad_bank(bank, wires, ex_write, events);
        }
    }

    /// The write of a scratchpad bank.
    #[inline(never)]
    fn write_spad_bank(&mut self, bank: u8, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) {
        let Some(source) = wires.writes.spad_source(bank) else { return };
        let loaded;
        let (port, row, data, mask) = match (source, ex_write.target) {
            (EX, Some(ExTarget::Spad { row, cols, .. })) => {
                let mask = if cols == 0 { 0 } else { u64::MAX >> (64 - cols.min(64)) };
                (Port::Ex, row, &ex_write.spad_row, mask)
            }
            (MVIN, _) => {
                let Some((row, mask)) = self.mvin.narrow_row() else { return };
                let Some(head) = &wires.heads.narrow else { return };
                loaded = row;
                (Port::Dma, head.laddr.sp_row(self.layout), &loaded, mask)
            }
            _ => {
                let (Some(head), Some(mask)) = (&wires.heads.zero, self.mvin.zero_mask()) else { return };
                loaded = SpadRow::default();
                (Port::Dma, head.laddr.sp_row(self.layout), &loaded, mask)
            }
        };
        events.push(Event::SpadWrite { bank, row, port });
        self.spad_banks[usize::from(bank)].write(&BankWrite { row, data, mask });
    }
}
