//! What the two row paths and the banks spend a cycle on: stall causes and bank conflicts.

use super::Scratchpad;
use super::wires::{EX, ScratchpadWires};
use crate::dma::mvin_path::MvinActivity;
use crate::dma::mvout_path::{MvoutActivity, RowSource};
use crate::observation::activity::{BankUse, Conflict, Spent};
use crate::observation::dma_activity::DmaEngineActivity;
use crate::parts::values::Values;
use crate::parts::wires::ExReads;
use crate::port::tilelink::DmaClient;

impl<V: Values> Scratchpad<V> {
    /// Accesses of the scratchpad's and of the accumulator's banks that are taken or refused, by the wires of the cycle.
    pub fn bank_use(&self, wires: &ScratchpadWires, reads: &ExReads) -> (BankUse, BankUse) {
        let (mut spad, mut acc) = (BankUse::default(), BankUse::default());
        self.ex_accesses(wires, reads, &mut spad, &mut acc);
        if let Some(request) = self.mvout.dispatching() {
            let (used, bank, valid) = match self.mvout.source(request) {
                RowSource::Zeros => return self.dma_writes(wires, spad, acc),
                RowSource::Spad(bank) => (&mut spad, bank, reads.spad_valid),
                RowSource::Acc(bank) => (&mut acc, bank, reads.acc_valid),
            };
            match wires.dispatched {
                true => used.read |= 1 << bank.0,
                false if valid.has(bank) => used.refuse(Conflict::MvoutReadBehindEx, 1 << bank.0),
                false => used.refuse(Conflict::MvoutReadRefused, 1 << bank.0),
            }
        }
        self.dma_writes(wires, spad, acc)
    }

    fn ex_accesses(&self, wires: &ScratchpadWires, reads: &ExReads, spad: &mut BankUse, acc: &mut BankUse) {
        let writes = &wires.writes;
        spad.read = (reads.spad_valid & wires.spad_read_ready).bits();
        acc.read = (reads.acc_valid & wires.acc_read_ready).bits();
        let written = writes.spad_banks.only_if(self.spad_single_ported);
        let refused = reads.spad_valid & !wires.spad_read_ready;
        spad.refuse(Conflict::ExReadBehindWrite, (refused & written).bits());
        spad.refuse(Conflict::ExReadBehindRow, (refused & !written).bits());
        let refused = reads.acc_valid & !wires.acc_read_ready;
        acc.refuse(Conflict::ExReadBehindWrite, (refused & writes.accumulating).bits());
        acc.refuse(Conflict::ExReadBehindRow, (refused & !writes.accumulating).bits());
        if let Some(request) = writes.acc[EX].filter(|request| !request.fires) {
            acc.refuse(Conflict::ExWriteLost, 1 << request.bank.0);
        }
    }

    /// Adds the writes, and the rows on their way in that wait for their bank.
    fn dma_writes(&self, wires: &ScratchpadWires, mut spad: BankUse, mut acc: BankUse) -> (BankUse, BankUse) {
        let (heads, taken, writes) = (&wires.heads, &wires.taken, &wires.writes);
        spad.written = writes.spad_banks.bits();
        acc.written = writes.acc.iter().flatten().filter(|w| w.fires).fold(0, |banks, w| banks | 1 << w.bank.0);
        let mut refuse = |conflict, laddr: pollux_isa::LocalAddr, is_acc: bool| {
            if is_acc {
                acc.refuse(conflict, 1 << laddr.acc_bank(self.layout));
            } else {
                spad.refuse(conflict, 1 << laddr.sp_bank(self.layout));
            }
        };
        if let Some(row) = heads.narrow.as_ref().filter(|_| !taken.narrow) {
            refuse(Conflict::MvinWrite, row.laddr, row.tag.is_acc);
        }
        if let Some(row) = heads.wide.as_ref().filter(|_| !taken.wide) {
            refuse(Conflict::MvinWrite, row.laddr, row.tag.is_acc);
        }
        if let Some(row) = heads.zero.as_ref().filter(|_| !taken.zero) {
            refuse(Conflict::ZeroWrite, row.laddr, row.laddr.is_acc());
        }
        (spad, acc)
    }

    /// What the way of loaded rows into the banks spends this cycle on.
    pub fn mvin_activity(&self, wires: &ScratchpadWires) -> MvinActivity {
        self.mvin.activity(&wires.heads, wires.taken, wires.resp_taken)
    }

    /// What the way of stored rows out of the banks spends this cycle on.
    pub fn mvout_activity(&self, wires: &ScratchpadWires) -> MvoutActivity {
        self.mvout.activity(&wires.mvout, wires.dispatched, wires.writer.req_ready)
    }

    /// What the normalizer spends this cycle on.
    pub fn normalizer_activity(&self, wires: &ScratchpadWires) -> Spent {
        self.mvout.normalizer_activity(&wires.mvout)
    }

    /// What the scale unit of stored rows spends this cycle on.
    pub fn scale_activity(&self, wires: &ScratchpadWires) -> Spent {
        self.mvout.scale_activity(&wires.mvout)
    }

    /// What the read engine spends this cycle on.
    pub fn reader_activity(&self, wires: &ScratchpadWires) -> DmaEngineActivity {
        self.reader.activity(&wires.reader, self.tilelink.d(DmaClient::Reader).is_some(), wires.resp_taken)
    }

    /// What the write engine spends this cycle on.
    pub fn writer_activity(&self, wires: &ScratchpadWires) -> DmaEngineActivity {
        self.writer.activity(&wires.writer, wires.mvout.sends())
    }
}
