//! Allocation of main memory, scratchpad and accumulator.

use pollux_isa::legality::LocalMemory;
use pollux_isa::{GemminiConfig, LocalAddr};

use crate::error::KernelError;

/// Hands out main memory from a range, front to back; ranges at chosen addresses are only checked for overlap.
#[derive(Clone, Debug)]
pub struct DramAllocator {
    start: u64,
    next: u64,
    end: u64,
    taken: Vec<(u64, u64, String)>,
}

impl DramAllocator {
    /// An allocator of `start..end`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, next: start, end, taken: Vec::new() }
    }

    /// Address of `bytes` bytes at a multiple of `alignment`.
    ///
    /// # Errors
    /// The range has not that many bytes left.
    pub fn allocate(&mut self, name: &str, bytes: u64, alignment: u64) -> Result<u64, KernelError> {
        let mut address = self.next.next_multiple_of(alignment.max(1));
        while let Some(end) = self.overlap(address, bytes).map(|(_, end, _)| *end) {
            address = end.next_multiple_of(alignment.max(1));
        }
        let end = address.checked_add(bytes).filter(|end| *end <= self.end).ok_or_else(|| KernelError::DramFull {
            buffer: name.to_owned(),
            bytes: bytes + (address - self.next),
            free: self.end.saturating_sub(self.next),
            capacity: self.end - self.start,
        })?;
        self.taken.push((address, end, name.to_owned()));
        self.next = end;
        Ok(address)
    }

    /// Takes `bytes` bytes at `address`, inside or outside the range.
    ///
    /// # Errors
    /// An earlier allocation has some of them.
    pub fn take(&mut self, name: &str, address: u64, bytes: u64) -> Result<(), KernelError> {
        if let Some((_, _, other)) = self.overlap(address, bytes) {
            return Err(KernelError::DramOverlap { buffer: name.to_owned(), address, other: other.clone() });
        }
        self.taken.push((address, address.saturating_add(bytes), name.to_owned()));
        Ok(())
    }

    /// Bytes handed out.
    pub fn used(&self) -> u64 {
        self.taken.iter().map(|(start, end, _)| end - start).sum()
    }

    fn overlap(&self, address: u64, bytes: u64) -> Option<&(u64, u64, String)> {
        let end = address.saturating_add(bytes);
        self.taken.iter().find(|(start, other_end, _)| *start < end && address < *other_end)
    }
}

/// Hands out rows of one local memory to the parts of one operation.
#[derive(Clone, Debug)]
pub struct LocalAllocator {
    operation: String,
    memory: LocalMemory,
    next: u32,
    capacity: u32,
}

impl LocalAllocator {
    /// All of the scratchpad.
    pub fn scratchpad(config: &GemminiConfig, operation: &str) -> Self {
        Self { operation: operation.to_owned(), memory: LocalMemory::Scratchpad, next: 0, capacity: config.sp_rows() }
    }

    /// All of the accumulator.
    pub fn accumulator(config: &GemminiConfig, operation: &str) -> Self {
        Self { operation: operation.to_owned(), memory: LocalMemory::Accumulator, next: 0, capacity: config.acc_rows() }
    }

    /// Rows not handed out yet.
    pub fn free(&self) -> u32 {
        self.capacity - self.next
    }

    /// The address of the first of `rows` rows.
    ///
    /// # Errors
    /// That many are not left.
    pub fn allocate(&mut self, buffer: &str, rows: usize) -> Result<LocalAddr, KernelError> {
        let free = self.free();
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        if rows > free {
            return Err(KernelError::LocalFull {
                operation: self.operation.clone(),
                buffer: buffer.to_owned(),
                memory: self.memory,
                rows,
                free,
                capacity: self.capacity,
            });
        }
        let row = self.next;
        self.next += rows;
        Ok(match self.memory {
            LocalMemory::Scratchpad => LocalAddr::scratchpad(row),
            LocalMemory::Accumulator => LocalAddr::accumulator(row),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_memory_is_aligned_and_steps_over_ranges_at_chosen_addresses() {
        let mut dram = DramAllocator::new(100, 1000);
        dram.take("fixed", 130, 20).unwrap();
        assert_eq!(dram.allocate("a", 10, 64).unwrap(), 192);
        assert_eq!(dram.allocate("b", 10, 64).unwrap(), 256);
        assert_eq!(dram.used(), 40);
    }

    #[test]
    fn full_main_memory_names_the_buffer_and_what_is_free() {
        let mut dram = DramAllocator::new(0, 100);
        dram.allocate("a", 60, 1).unwrap();
        let message = dram.allocate("weights", 50, 1).unwrap_err().to_string();
        assert_eq!(
            message,
            "buffer `weights` needs 50 bytes of main memory, but 40 of 100 are free: enlarge it or split the program"
        );
    }

    #[test]
    fn overlapping_buffers_are_refused() {
        let mut dram = DramAllocator::new(0, 100);
        dram.allocate("a", 60, 1).unwrap();
        let message = dram.take("b", 59, 2).unwrap_err().to_string();
        assert_eq!(message, "buffer `b` at 0x3b overlaps buffer `a`: choose another address");
    }

    #[test]
    fn a_full_local_memory_names_the_part_and_what_fits() {
        let mut rows = LocalAllocator::accumulator(&GemminiConfig::default16(), "mm");
        assert_eq!(rows.allocate("C", 1000).unwrap(), LocalAddr::accumulator(0));
        let message = rows.allocate("D", 25).unwrap_err().to_string();
        assert_eq!(
            message,
            "operation `mm`: `D` needs 25 accumulator rows, but 24 of 1024 are free: use a smaller tile"
        );
    }
}
