//! The core's way to main memory, with the places of recent pages at hand.

use std::ops::Range;

use pollux_memory::{Frame, Memory, PAGE_BYTES};

use crate::bus::AccessFault;

const PAGE_BITS: u32 = PAGE_BYTES.trailing_zeros();
/// Pages whose places are at hand.
const RECENT: usize = 256;

/// The addresses at which there is memory, and where a [`Memory`] keeps the pages used last.
///
/// One port goes with one memory.
#[derive(Debug, Clone)]
pub struct RamPort {
    range: Range<u64>,
    recent: Vec<Option<(u64, Frame)>>,
}

impl RamPort {
    /// A port to the memory at these addresses.
    pub fn new(range: Range<u64>) -> Self {
        Self { range, recent: vec![None; RECENT] }
    }

    /// Addresses with memory.
    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Whether the bytes from `address` on are memory.
    #[inline]
    fn check(&self, address: u64, bytes: u64) -> Result<(), AccessFault> {
        let holds = address >= self.range.start && address < self.range.end && bytes <= self.range.end - address;
        if holds { Ok(()) } else { Err(AccessFault) }
    }

    /// The page's place, and the offset in it.
    #[inline]
    fn find(&mut self, memory: &mut Memory, address: u64) -> (Frame, usize) {
        let page = address >> PAGE_BITS;
        let offset = address as usize & (PAGE_BYTES - 1);
        let recent = &mut self.recent[page as usize & (RECENT - 1)];
        match recent {
            Some((number, frame)) if *number == page => (*frame, offset),
            _ => {
                let frame = memory.frame(address);
                *recent = Some((page, frame));
                (frame, offset)
            }
        }
    }

    /// The bytes from `address` on (1, 2, 4 or 8), zero-extended.
    ///
    /// # Errors
    /// There is no memory.
    #[inline(always)] // the size is known where it is called
    pub fn load(&mut self, memory: &mut Memory, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        self.check(address, bytes)?;
        let mut value = [0; 8];
        let out = &mut value[..bytes as usize];
        let (frame, offset) = self.find(memory, address);
        match memory.frame_bytes(frame).get(offset..offset + bytes as usize) {
            Some(part) => out.copy_from_slice(part),
            None => memory.read(address, out),
        }
        Ok(u64::from_le_bytes(value))
    }

    /// Writes the low `bytes` (1, 2, 4 or 8) of `value`.
    ///
    /// # Errors
    /// There is no memory.
    #[inline(always)] // the size is known where it is called
    pub fn store(&mut self, memory: &mut Memory, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault> {
        self.check(address, bytes)?;
        let value = value.to_le_bytes();
        let data = &value[..bytes as usize];
        let (frame, offset) = self.find(memory, address);
        match memory.frame_mut(frame).get_mut(offset..offset + bytes as usize) {
            Some(part) => part.copy_from_slice(data),
            None => memory.write(address, data),
        }
        Ok(())
    }
}
