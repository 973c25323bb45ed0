//! The clock edge of the scratchpad's banks.

use super::Scratchpad;
use super::wires::{EX, MVIN, ScratchpadInputs, ScratchpadWires};
use crate::dma::mvout_path::RowSource;
use crate::memories::scratchpad_bank::BankWrite;
use crate::observation::event::{Event, EventBuffer, Port};
use crate::parts::banks::{BankId, BankSet, spad_place};
use crate::parts::row::SpadLanes;
use crate::parts::values::Values;
use crate::parts::wires::{ExTarget, ExWrite};

impl<V: Values> Scratchpad<V> {
    /// Rows leave the queues, then the outputs; rows are written; then rows are read.
    #[inline]
    pub(crate) fn tick_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_, V>,
        events: &mut EventBuffer,
    ) -> bool {
        let ex_reads = inputs.reads.spad_valid & wires.spad_read_ready;
        let moves = ex_reads | inputs.pops | wires.outputs.spad | wires.writes.spad_banks;
        let moves = !moves.is_empty() || wires.mvout_read.is_some() || wires.mvout.spad_row.is_some();
        if !moves && !self.has_registers {
            return false;
        }
        self.pop_rows(inputs.pops, wires.mvout.spad_row);
        let passes = self.has_registers && self.pass_registers();
        if moves {
            self.tick_active_spad_banks(wires, inputs, ex_reads, events);
        }
        moves || passes
    }

    /// Rows pass the registers behind the banks.
    fn pass_registers(&mut self) -> bool {
        let mut passes = false;
        for bank in self.all_banks.0 {
            let rows = &mut self.spad_banks[bank.index()];
            passes |= rows.pass_registers();
            self.states.dma_rows.set(bank, !rows.is_empty(Port::Dma));
        }
        passes
    }

    fn tick_active_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<V>,
        ex_reads: BankSet,
        events: &mut EventBuffer,
    ) {
        self.leave_outputs(wires.outputs.spad);
        if !wires.writes.spad_banks.is_empty() {
            self.write_spad_banks(wires, inputs.ex_write, events);
        }
        let mvout_read = match wires.mvout_read {
            Some((RowSource::Spad(bank), row)) => Some((bank, row)),
            _ => None,
        };
        for bank in ex_reads | mvout_read.map(|(bank, _)| bank).into() {
            let (row, port) = match mvout_read {
                Some((of, row)) if of == bank => (row, Port::Dma),
                _ => (inputs.reads.spad_row[bank], Port::Ex),
            };
            events.push(Event::SpadRead { bank: bank.0, row: row.0, port });
            self.spad_banks[bank.index()].read(row, port);
            self.states.spad_out[port as usize].insert(bank);
        }
    }

    /// Rows leave the banks' queues for the execute controller, and for the DMA.
    #[inline]
    fn pop_rows(&mut self, ex: BankSet, dma: Option<BankId>) {
        for bank in ex {
            self.spad_banks[bank.index()].pop(Port::Ex);
        }
        self.states.rows_full[Port::Ex as usize] &= !ex;
        if let Some(index) = dma {
            let bank = &mut self.spad_banks[index.index()];
            bank.pop(Port::Dma);
            self.states.dma_rows.set(index, !bank.is_empty(Port::Dma));
            self.states.rows_full[Port::Dma as usize].remove(index);
        }
    }

    /// Rows leave the banks' outputs for a queue.
    #[inline]
    fn leave_outputs(&mut self, banks: BankSet) {
        let to_dma = self.states.spad_out[Port::Dma as usize] & banks;
        if !self.has_registers {
            self.states.dma_rows |= to_dma;
        }
        for bank in banks {
            if let Some((port, true)) = self.spad_banks[bank.index()].leave() {
                self.states.rows_full[port as usize].insert(bank);
            }
        }
        self.states.spad_out[0] &= !banks;
        self.states.spad_out[1] &= !banks;
    }

    /// The writes of the scratchpad banks.
    #[inline]
    fn write_spad_banks(&mut self, wires: &ScratchpadWires, ex_write: &ExWrite<V>, events: &mut EventBuffer) {
        for bank in wires.writes.spad_banks {
            self.write_spad_bank(bank, wires, ex_write, events);
        }
    }

    /// The write of a scratchpad bank.
    #[inline(never)]
    fn write_spad_bank(
        &mut self,
        bank: BankId,
        wires: &ScratchpadWires,
        ex_write: &ExWrite<V>,
        events: &mut EventBuffer,
    ) {
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
                (Port::Dma, spad_place(head.laddr, self.layout).1, &loaded, mask)
            }
            _ => {
                let (Some(head), Some(mask)) = (&wires.heads.zero, self.mvin.zero_mask()) else { return };
                loaded = SpadLanes::default();
                (Port::Dma, spad_place(head.laddr, self.layout).1, &loaded, mask)
            }
        };
        events.push(Event::SpadWrite { bank: bank.0, row: row.0, port });
        self.spad_banks[bank.index()].write(&BankWrite { row, data, mask });
    }
}
