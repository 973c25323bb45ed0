//! What the two row paths and the banks spend a cycle on: stall causes and bank conflicts.

use super::{Scratchpad, ScratchpadWires};
use crate::dma_activity::DmaEngineActivity;
use crate::mvin_path::MvinActivity;
use crate::mvout_path::MvoutActivity;
use crate::tilelink::DmaClient;
use crate::wires::ExReads;

/// Bank accesses that had to wait in a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BankConflicts {
    /// Scratchpad banks (one bit each) that refused a read of the execute controller because they were written.
    pub ex_reads_behind_writes: u32,
    /// Scratchpad banks that refused one because a row still waited at their output.
    pub ex_reads_behind_rows: u32,
    /// A row to be stored waited for its scratchpad or accumulator bank.
    pub mvout_read: bool,
    /// A loaded row waited for its bank.
    pub mvin_write: bool,
    /// A row of zeros waited for its bank.
    pub zero_write: bool,
}

impl Scratchpad {
    /// Accesses that wait in this cycle, by the wires of the cycle.
    pub fn conflicts(&self, wires: &ScratchpadWires, reads: &ExReads) -> BankConflicts {
        let refused = reads.spad_valid & !wires.spad_read_ready;
        let written = if self.spad_single_ported { wires.writes.spad_banks } else { 0 };
        let loaded = wires.heads.narrow.is_some() || wires.heads.wide.is_some();
        BankConflicts {
            ex_reads_behind_writes: refused & written,
            ex_reads_behind_rows: refused & !written,
            mvout_read: self.mvout.dispatching().is_some() && !wires.dispatched,
            mvin_write: loaded && !wires.taken.narrow && !wires.taken.wide,
            zero_write: wires.heads.zero.is_some() && !wires.taken.zero,
        }
    }

    /// What the way of loaded rows into the banks spends this cycle on.
    pub fn mvin_activity(&self, wires: &ScratchpadWires) -> MvinActivity {
        self.mvin.activity(&wires.heads, wires.taken, wires.resp_taken)
    }

    /// What the way of stored rows out of the banks spends this cycle on.
    pub fn mvout_activity(&self, wires: &ScratchpadWires) -> MvoutActivity {
        self.mvout.activity(&wires.mvout, wires.dispatched, wires.writer.req_ready)
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
