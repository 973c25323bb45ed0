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

    /// The place of the page, if it is at hand.
    #[inline]
    fn recent(&self, page: u64) -> Option<Frame> {
        match self.recent[page as usize & (RECENT - 1)] {
            Some((number, frame)) if number == page => Some(frame),
            _ => None,
        }
    }

    /// Has the place of a page at hand from now on.
    #[cold]
    fn keep(&mut self, page: u64, frame: Frame) -> Frame {
        self.recent[page as usize & (RECENT - 1)] = Some((page, frame));
        frame
    }

    /// The bytes from `address` on (1, 2, 4 or 8), zero-extended.
    ///
    /// # Errors
    /// There is no memory.
    #[inline(always)] // the size is known where it is called
    pub fn load(&mut self, memory: &Memory, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        self.check(address, bytes)?;
        let (page, offset) = split(address);
        let mut value = [0; 8];
        let out = &mut value[..bytes as usize];
        let found = self.recent(page).or_else(|| memory.written_frame(address).map(|frame| self.keep(page, frame)));
        let part = found.and_then(|frame| memory.frame_bytes(frame).get(offset..offset + bytes as usize));
        match part {
            Some(part) => out.copy_from_slice(part),
            // Two pages, or one that nothing was written to.
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
        let (page, offset) = split(address);
        let value = value.to_le_bytes();
        let data = &value[..bytes as usize];
        let frame = self.recent(page).unwrap_or_else(|| self.keep(page, memory.frame(address)));
        match memory.frame_mut(frame).get_mut(offset..offset + bytes as usize) {
            Some(part) => part.copy_from_slice(data),
            None => memory.write(address, data),
        }
        Ok(())
    }
}

/// Page and offset in it.
#[inline]
const fn split(address: u64) -> (u64, usize) {
    (address >> PAGE_BITS, address as usize & (PAGE_BYTES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    #[test]
    fn loads_allocate_nothing_and_cross_pages() {
        let (mut memory, mut port) = (Memory::new(), RamPort::new(0..8 * PAGE));
        assert_eq!(port.load(&memory, PAGE - 4, 8), Ok(0));
        assert_eq!(memory.pages().count(), 0);
        assert_eq!(port.store(&mut memory, PAGE - 4, 8, 0x1122_3344_5566_7788), Ok(()));
        assert_eq!(port.load(&memory, PAGE - 4, 8), Ok(0x1122_3344_5566_7788));
        assert_eq!(port.load(&memory, PAGE - 1, 2), Ok(0x4455));
        assert_eq!(memory.pages().count(), 2);
    }

    #[test]
    fn nothing_is_outside() {
        let (mut memory, mut port) = (Memory::new(), RamPort::new(PAGE..2 * PAGE));
        for address in [0, PAGE - 1, 2 * PAGE - 7, 2 * PAGE, u64::MAX, u64::MAX - 7] {
            assert_eq!(port.load(&memory, address, 8), Err(AccessFault), "{address:#x}");
            assert_eq!(port.store(&mut memory, address, 8, 1), Err(AccessFault), "{address:#x}");
        }
        assert_eq!(memory.pages().count(), 0);
    }
}
