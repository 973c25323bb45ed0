//! What the three controllers share: memories, counts and the record of undefined behaviour.

use pollux_isa::config::CORE_MAX_ADDR_BITS;
use pollux_isa::legality::LocalMemory as MemoryKind;
use pollux_isa::{AddressLayout, LocalAddr};
use pollux_memory::Memory;

use crate::counts::Counts;
use crate::local_memory::LocalMemory;
use crate::policy::{ExecError, Issue, Monitor};

/// The bits of a main memory address that the accelerator computes with.
pub(crate) const DRAM_MASK: u64 = (1 << CORE_MAX_ADDR_BITS) - 1;

/// What the three controllers share: memories, counts and the record of undefined behaviour.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub layout: AddressLayout,
    pub memory: Memory,
    pub scratchpad: LocalMemory<i8>,
    pub accumulator: LocalMemory<i32>,
    pub counts: Counts,
    pub monitor: Monitor,
    /// Bits of an address behind the port.
    pub paddr_mask: u64,
    /// Addresses and numbers of bytes that were written, if anybody asks.
    pub stored: Option<Vec<(u64, usize)>>,
}

impl Machine {
    /// Reads a row from main memory.
    #[inline]
    pub fn read_dram(&mut self, address: u64, row: &mut [u8]) {
        let (address, head) = self.port(address, row.len());
        let (row, rest) = row.split_at_mut(head);
        self.memory.read(address, row);
        self.memory.read(0, rest);
    }

    /// Writes a row to main memory.
    #[inline]
    pub fn write_dram(&mut self, address: u64, row: &[u8]) {
        let (address, head) = self.port(address, row.len());
        let (row, rest) = row.split_at(head);
        if let Some(stored) = &mut self.stored {
            stored.extend([(address, row.len()), (0, rest.len())].into_iter().filter(|(_, bytes)| *bytes > 0));
        }
        self.memory.write(address, row);
        self.memory.write(0, rest);
    }

    /// The physical address of a transfer, and how many of its bytes lie there; the others follow from address 0 on, as the
    /// port has `paddr_bits` address bits.
    #[inline]
    fn port(&self, address: u64, bytes: usize) -> (u64, usize) {
        let physical = address & self.paddr_mask;
        let below_the_end = self.paddr_mask - physical;
        (physical, usize::try_from(below_the_end).map_or(bytes, |end| bytes.min(end.saturating_add(1))))
    }

    /// Row number of an address that is about to be read; reports one that was never written.
    #[inline]
    pub fn scratchpad_row(&mut self, local: LocalAddr) -> Result<usize, ExecError> {
        let row = local.full_sp_addr(self.layout) as usize;
        if !self.scratchpad.is_written(row) {
            self.monitor.report(Issue::UnwrittenRow { memory: MemoryKind::Scratchpad, row: row as u32 })?;
        }
        Ok(row)
    }

    /// The same for the accumulator.
    #[inline]
    pub fn accumulator_row(&mut self, local: LocalAddr) -> Result<usize, ExecError> {
        let row = local.full_acc_addr(self.layout) as usize;
        if !self.accumulator.is_written(row) {
            self.monitor.report(Issue::UnwrittenRow { memory: MemoryKind::Accumulator, row: row as u32 })?;
        }
        Ok(row)
    }

    /// Writes the leading elements of an accumulator row, or adds to them (wrapping), as the address says.
    #[inline]
    pub fn write_accumulator(&mut self, local: LocalAddr, elements: impl Iterator<Item = i32>) {
        let accumulate = local.accumulate();
        let row = self.accumulator.row_mut(local.full_acc_addr(self.layout) as usize);
        if accumulate {
            row.iter_mut().zip(elements).for_each(|(to, x)| *to = to.wrapping_add(x));
        } else {
            row.iter_mut().zip(elements).for_each(|(to, x)| *to = x);
        }
    }
}
