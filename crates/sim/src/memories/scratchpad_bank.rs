//! One bank of the scratchpad (`ScratchpadBank` in `Scratchpad.scala`): a synchronous memory of DIM-byte rows.
//!
//! | port  | accepted                                                             | effect                                     |
//! |-------|----------------------------------------------------------------------|--------------------------------------------|
//! | read  | output register empty or leaving, and no write if single ported       | row at the output in the next cycle        |
//! | write | always                                                               | visible to reads accepted in the next cycle |
//!
//! The output register is the hardware's one-entry queue (pipe and flow) behind the memory's read port: a row
//! arriving from the memory and a row waiting in the queue look the same from outside, and both block the next read.
//!
//! Behind it stand two queues Q(`spad_read_delay`, pipe), for the execute controller (`ex_read_pipe`) and for the DMA
//! (`dma_read_pipe`). A row moves from the output register to the queue of who asked for it by a count: its
//! data is put where it will stand in the queue as it is read.
//!
//! An older revision has as many registers in a row there (`Pipeline.scala`). They hold as many rows, stall like the queue, and close
//! gaps, so that a row is seen at the end after so many cycles, if no other is in front of it, instead of after one.

use crate::observation::event::Port;
use crate::observation::view::BankView;
use crate::parts::banks::BankRow;
use crate::parts::canonical::Canonical;
use crate::parts::row::{SpadLanes, copy_row};
use crate::parts::values::{Full, Values};

/// A write in this cycle: lanes enabled by `mask` (bit i = lane i).
#[derive(Clone, Copy, Debug)]
pub struct BankWrite<'a, V: Values = Full> {
    /// Row of the bank.
    pub row: BankRow,
    /// Data.
    pub data: &'a SpadLanes<V>,
    /// Lane enables.
    pub mask: u64,
}

/// A queue of rows in front of one port, a ring with a slot more than the queue is deep: for the row in the output register.
#[derive(Clone, Debug, Canonical)]
pub(crate) struct RowQueue<V: Values> {
    #[canon(skip = "values")]
    pub(crate) slots: Vec<SpadLanes<V>>,
    /// Slots minus one; their number is a power of two.
    #[canon(skip = "constant")]
    pub(crate) mask: usize,
    #[canon(skip = "where values are")]
    pub(crate) head: usize,
    pub(crate) len: usize,
    /// Rows on their way through registers: bit i is one that is at their end after i + 1 more clock edges.
    arriving: u32,
}

impl<V: Values> RowQueue<V> {
    fn new(depth: usize) -> Self {
        let slots = (depth + 1).next_power_of_two();
        Self { slots: vec![SpadLanes::default(); slots], mask: slots - 1, head: 0, len: 0, arriving: 0 }
    }

    /// No row can be seen at the output.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len == self.arriving.count_ones() as usize
    }

    /// What stands at the queue's output: its head, or, of an empty one, what the hardware's memory of `depth` slots holds where
    /// the next row will go: the row that many rows ago.
    #[inline]
    fn shown(&self, depth: usize) -> &SpadLanes<V> {
        let behind = if self.len == 0 { depth } else { 0 };
        &self.slots[self.head.wrapping_sub(behind) & self.mask]
    }

    /// The slot behind the last row of the queue.
    #[inline]
    fn next(&mut self) -> &mut SpadLanes<V> {
        &mut self.slots[(self.head + self.len) & self.mask]
    }
}

/// Memory, output register and row queues of one bank.
#[derive(Clone, Debug, Canonical)]
pub struct ScratchpadBank<V: Values = Full> {
    #[canon(skip = "values")]
    pub(crate) memory: Vec<V::Of<i8>>,
    #[canon(skip = "constant")]
    pub(crate) dim: usize,
    /// Who read the row in the output register (`fromDMA`).
    pub(crate) out: Option<Port>,
    /// By [`Port`].
    pub(crate) queues: [RowQueue<V>; 2],
    #[canon(skip = "constant")]
    pub(crate) depth: usize,
    /// Cycles that a row takes to the output of an empty queue, beyond one: 0, or of registers one less than there are.
    #[canon(skip = "constant")]
    transit: u32,
}

impl<V: Values> ScratchpadBank<V> {
    /// A bank of `rows` rows of `dim` bytes, all 0, with row queues of `depth` entries.
    pub fn new(rows: usize, dim: usize, depth: usize) -> Self {
        let queues = [RowQueue::new(depth), RowQueue::new(depth)];
        Self { memory: vec![V::Of::default(); rows * dim], dim, out: None, queues, depth, transit: 0 }
    }

    /// The same with `depth` registers in a row in place of each queue, at most 32.
    pub fn with_registers(rows: usize, dim: usize, depth: usize) -> Self {
        Self { transit: depth as u32 - 1, ..Self::new(rows, dim, depth) }
    }

    /// Head of the queue of rows for a port.
    #[inline]
    pub fn row_for(&self, port: Port) -> Option<&SpadLanes<V>> {
        let queue = &self.queues[port as usize];
        if queue.is_empty() { None } else { Some(&queue.slots[queue.head & queue.mask]) }
    }

    /// Output of the queue of rows for a port, whether it is valid (`resp.valid`, `resp.bits.data`) or not.
    #[inline]
    pub fn shown_to(&self, port: Port) -> (bool, &SpadLanes<V>) {
        let queue = &self.queues[port as usize];
        (!queue.is_empty(), queue.shown(self.depth))
    }

    /// True if the queue of rows for a port is empty.
    #[inline]
    pub fn is_empty(&self, port: Port) -> bool {
        self.queues[port as usize].is_empty()
    }

    /// Output and queues.
    pub(crate) fn view(&self) -> BankView {
        let [for_execute, for_dma] = self.queues.each_ref().map(|queue| queue.len);
        BankView { output: self.out.map(Port::reader), for_execute, for_dma, writing: Vec::new() }
    }

    /// The bytes of a row, for views and end-state checks.
    pub fn row(&self, row: BankRow) -> &[V::Of<i8>] {
        let start = row.0 as usize * self.dim;
        &self.memory[start..start + self.dim]
    }

    /// Clock edge, first: the head of the queue of rows for a port leaves.
    #[inline]
    pub fn pop(&mut self, port: Port) {
        let queue = &mut self.queues[port as usize];
        debug_assert!(!queue.is_empty(), "no row to take");
        queue.head = (queue.head + 1) & queue.mask;
        queue.len -= 1;
    }

    /// Clock edge, between the first and the second: rows pass registers. True if any did.
    #[inline]
    pub fn pass_registers(&mut self) -> bool {
        let moved = self.queues.iter().any(|queue| queue.arriving != 0);
        self.queues.iter_mut().for_each(|queue| queue.arriving >>= 1);
        moved
    }

    /// Clock edge, second: the row in the output register goes into the queue of who asked for it. Returns him, and whether his
    /// queue is full then.
    #[inline]
    pub fn leave(&mut self) -> Option<(Port, bool)> {
        let port = self.out.take()?;
        let queue = &mut self.queues[port as usize];
        debug_assert!(queue.len < self.depth, "push into a full queue: its wires were not honoured");
        queue.len += 1;
        queue.arriving |= (1 << self.transit) >> 1;
        Some((port, queue.len == self.depth))
    }

    /// Clock edge, last: an accepted read fills the output register.
    ///
    /// A read of a two-ported bank that is written in the same cycle at the same row sees the new row: the read
    /// address is registered and the memory is read after the edge.
    #[inline]
    pub fn read(&mut self, row: BankRow, port: Port) {
        debug_assert!(self.out.is_none(), "read accepted while a row waits at the output");
        let start = row.0 as usize * self.dim;
        let slot = self.queues[port as usize].next();
        copy_row(&mut slot.0[..self.dim], &self.memory[start..start + self.dim]);
        self.out = Some(port);
    }

    /// Clock edge, third: a write is done.
    pub fn write(&mut self, write: &BankWrite<V>) {
        let start = write.row.0 as usize * self.dim;
        let lanes = &mut self.memory[start..start + self.dim];
        let all = u64::MAX >> (64 - self.dim);
        if write.mask & all == all {
            return copy_row(lanes, &write.data.0[..self.dim]);
        }
        for (i, (lane, new)) in lanes.iter_mut().zip(&write.data.0).enumerate() {
            if write.mask >> i & 1 == 1 {
                *lane = *new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(value: i8) -> SpadLanes {
        SpadLanes([value; crate::parts::row::MAX_DIM])
    }

    #[test]
    fn a_row_stands_at_the_output_until_it_leaves_for_the_queue_of_who_asked() {
        let mut bank = ScratchpadBank::new(8, 4, 4);
        bank.write(&BankWrite { row: BankRow(3), data: &row_of(5), mask: u64::MAX });
        bank.read(BankRow(3), Port::Dma);
        assert_eq!(bank.out, Some(Port::Dma));
        assert!(bank.is_empty(Port::Dma));
        assert_eq!(bank.leave(), Some((Port::Dma, false)));
        assert_eq!(bank.out, None);
        assert_eq!(bank.row_for(Port::Dma).map(|row| (row.0[3], row.0[4])), Some((5, 0)));
    }

    #[test]
    fn rows_leave_in_the_order_of_their_reads_and_by_the_queue_of_who_asked() {
        let mut bank = ScratchpadBank::new(8, 4, 2);
        for row in 0..4 {
            bank.write(&BankWrite { row: BankRow(row), data: &row_of(row as i8), mask: u64::MAX });
        }
        let mut full = Vec::new();
        for (row, port) in [(0, Port::Ex), (1, Port::Dma), (2, Port::Ex)] {
            bank.read(BankRow(row), port);
            full.extend(bank.leave());
        }
        bank.read(BankRow(3), Port::Ex);
        assert_eq!(full, [(Port::Ex, false), (Port::Dma, false), (Port::Ex, true)]);
        let mut rows = Vec::new();
        for port in [Port::Ex, Port::Ex, Port::Dma] {
            rows.extend(bank.row_for(port).map(|row| row.0[0]));
            bank.pop(port);
        }
        bank.leave();
        rows.extend(bank.row_for(Port::Ex).map(|row| row.0[0]));
        assert_eq!(rows, [0, 2, 1, 3]);
    }

    #[test]
    fn a_row_passes_one_register_a_cycle_and_closes_gaps() {
        let mut bank = ScratchpadBank::with_registers(8, 4, 4);
        let edge = |bank: &mut ScratchpadBank, pops: bool, row: Option<u32>| {
            if pops {
                bank.pop(Port::Ex);
            }
            bank.pass_registers();
            let full = bank.leave().is_some_and(|(_, full)| full);
            row.into_iter().for_each(|row| bank.read(BankRow(row), Port::Ex));
            full
        };
        // Read in cycle 0, at the output register in cycle 1, behind four registers in cycle 5; the second row right behind it.
        let mut seen = Vec::new();
        for (cycle, row) in [Some(0), None, Some(1), None, None, None, None, None].into_iter().enumerate() {
            seen.extend(bank.row_for(Port::Ex).map(|_| cycle));
            assert!(!edge(&mut bank, false, row));
        }
        assert_eq!(seen, [5, 6, 7]);
        // The first leaves: the second is there at once, as it has come up to it.
        edge(&mut bank, true, None);
        assert!(bank.row_for(Port::Ex).is_some());
        edge(&mut bank, true, None);
        assert!(bank.is_empty(Port::Ex) && !bank.pass_registers());
    }

    #[test]
    fn an_empty_queue_shows_the_row_of_its_depth_ago() {
        let mut bank = ScratchpadBank::new(8, 4, 2);
        for row in 0..4 {
            bank.write(&BankWrite { row: BankRow(row), data: &row_of(10 + row as i8), mask: u64::MAX });
        }
        let shown = |bank: &ScratchpadBank| (bank.shown_to(Port::Ex).0, bank.shown_to(Port::Ex).1.0[0]);
        for (row, before) in [(0, 0), (1, 0), (2, 10), (3, 11)] {
            assert_eq!(shown(&bank), (false, before));
            bank.read(BankRow(row), Port::Ex);
            bank.leave();
            assert_eq!(shown(&bank), (true, 10 + row as i8));
            bank.pop(Port::Ex);
        }
    }

    #[test]
    fn a_masked_write_changes_the_enabled_lanes_only() {
        let mut bank = ScratchpadBank::new(2, 4, 4);
        bank.write(&BankWrite { row: BankRow(1), data: &row_of(9), mask: 0b0110 });
        assert_eq!(bank.row(BankRow(1)), &[0, 9, 9, 0]);
        assert_eq!(bank.row(BankRow(0)), &[0; 4]);
    }
}
