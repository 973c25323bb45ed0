//! One bank of the scratchpad (`ScratchpadBank` in `Scratchpad.scala`): a synchronous memory of DIM-byte rows.
//!
//! | port  | accepted                                                             | effect                                     |
//! |-------|----------------------------------------------------------------------|--------------------------------------------|
//! | read  | output register empty or leaving, and no write if single ported       | row at the output in the next cycle        |
//! | write | always                                                               | visible to reads accepted in the next cycle |
//!
//! The output register is the hardware's one-entry queue (pipe and flow) behind the memory's read port: a row
//! arriving from the memory and a row waiting in the queue look the same from outside, and both block the next read.

use crate::event::Port;
use crate::row::{SpadRow, copy_row};

/// A row at the output of a bank, tagged with who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankRow {
    /// The row.
    pub data: SpadRow,
    /// Who read it (`fromDMA`).
    pub port: Port,
}

/// A write in this cycle: lanes enabled by `mask` (bit i = lane i).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankWrite<'a> {
    /// Row of the bank.
    pub row: u32,
    /// Data.
    pub data: &'a SpadRow,
    /// Lane enables.
    pub mask: u64,
}

/// Memory and output register of one bank.
#[derive(Clone, Debug)]
pub struct ScratchpadBank {
    memory: Vec<i8>,
    dim: usize,
    single_ported: bool,
    out: Option<BankRow>,
}

impl ScratchpadBank {
    /// A bank of `rows` rows of `dim` bytes, all 0.
    pub fn new(rows: usize, dim: usize, single_ported: bool) -> Self {
        Self { memory: vec![0; rows * dim], dim, single_ported, out: None }
    }

    /// The row at the output (`read.resp`).
    #[inline]
    pub fn out(&self) -> Option<&BankRow> {
        self.out.as_ref()
    }

    /// `read.req.ready`, given whether the output is taken and whether the bank is written in this cycle.
    #[inline]
    pub fn read_ready(&self, out_taken: bool, written: bool) -> bool {
        (self.out.is_none() || out_taken) && !(self.single_ported && written)
    }

    /// The bytes of a row, for views and end-state checks.
    pub fn row(&self, row: u32) -> &[i8] {
        let start = row as usize * self.dim;
        &self.memory[start..start + self.dim]
    }

    /// Clock edge, first: the row at the output leaves.
    #[inline]
    pub fn take(&mut self) {
        self.out = None;
    }

    /// Clock edge, last: an accepted read fills the output.
    ///
    /// A read of a two-ported bank that is written in the same cycle at the same row sees the new row: the read
    /// address is registered and the memory is read after the edge.
    #[inline]
    pub fn read(&mut self, row: u32, port: Port) {
        debug_assert!(self.out.is_none(), "read accepted while a row waits at the output");
        let mut data = SpadRow::default();
        copy_row(&mut data.0[..self.dim], self.row(row));
        self.out = Some(BankRow { data, port });
    }

    /// Clock edge, second: a write is done.
    pub fn write(&mut self, write: &BankWrite) {
        let start = write.row as usize * self.dim;
        let lanes = &mut self.memory[start..start + self.dim];
        let all = u64::MAX >> (64 - self.dim);
        if write.mask & all == all {
            return copy_row(lanes, &write.data.0[..self.dim]);
        }
        for (i, lane) in lanes.iter_mut().enumerate() {
            if write.mask >> i & 1 == 1 {
                *lane = write.data.0[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(value: i8) -> SpadRow {
        SpadRow([value; crate::row::MAX_DIM])
    }

    #[test]
    fn a_single_ported_bank_refuses_reads_while_it_is_written() {
        let bank = ScratchpadBank::new(8, 4, true);
        assert!(!bank.read_ready(false, true));
        assert!(bank.read_ready(false, false));
        assert!(ScratchpadBank::new(8, 4, false).read_ready(false, true));
    }

    #[test]
    fn a_row_waiting_at_the_output_blocks_the_next_read_until_it_leaves() {
        let mut bank = ScratchpadBank::new(8, 4, true);
        bank.write(&BankWrite { row: 3, data: &row_of(5), mask: u64::MAX });
        bank.read(3, Port::Dma);
        assert_eq!(bank.out().map(|out| (out.data.0[3], out.data.0[4], out.port)), Some((5, 0, Port::Dma)));
        assert!(!bank.read_ready(false, false));
        assert!(bank.read_ready(true, false));
        bank.take();
        assert_eq!(bank.out(), None);
    }

    #[test]
    fn a_masked_write_changes_the_enabled_lanes_only() {
        let mut bank = ScratchpadBank::new(2, 4, true);
        bank.write(&BankWrite { row: 1, data: &row_of(9), mask: 0b0110 });
        assert_eq!(bank.row(1), &[0, 9, 9, 0]);
        assert_eq!(bank.row(0), &[0; 4]);
    }
}
