//! Main memory: a sparse 64-bit byte space. Bytes never written are zero.
//!
//! Pages are allocated on the first write and shared between clones until one of them writes, so a snapshot costs one
//! pointer a page. Addresses wrap at 2^64. A program may declare which ranges it owns ([`Memory::map`]); the memory
//! only records that, the models decide what an access elsewhere means.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

mod ranges;

pub use ranges::RangeSet;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 1 << PAGE_BITS;

const PAGE_BITS: u32 = 14;

type Page = [u8; PAGE_BYTES];

static ZERO_PAGE: Page = [0; PAGE_BYTES];

/// Hashes a page number: one multiplication (2^64 / golden ratio), because pages are looked up for every access.
#[derive(Debug, Clone, Copy, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// A sparse byte memory.
///
/// ```
/// use pollux_memory::Memory;
///
/// let mut memory = Memory::new();
/// memory.write(0x8000_0000, &[1, 2, 3]);
/// assert_eq!(memory.read_array(0x8000_0001), [2, 3, 0, 0]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Numbers of the pages, and their places among the frames.
    pages: HashMap<u64, u32, BuildHasherDefault<PageHasher>>,
    frames: Vec<Arc<Page>>,
    mapped: RangeSet,
}

/// Where a memory keeps a page: for owners of many small accesses, who would look it up each time. It stays valid for the
/// memory and its clones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame(u32);

/// The part of one page that an access of `len` bytes at `addr` begins with: page number, offset, length.
fn first_part(addr: u64, len: usize) -> (u64, usize, usize) {
    let offset = addr as usize & (PAGE_BYTES - 1);
    (addr >> PAGE_BITS, offset, len.min(PAGE_BYTES - offset))
}

/// Contents.
impl Memory {
    /// An empty memory: all bytes zero, nothing mapped.
    pub fn new() -> Self {
        Self::default()
    }

    fn page(&self, number: u64) -> &Page {
        self.pages.get(&number).map_or(&ZERO_PAGE, |frame| &self.frames[*frame as usize])
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        let frame = self.frame(number << PAGE_BITS);
        self.frame_mut(frame)
    }

    /// The frame of the page that holds `addr`, which is allocated if nothing was written to it yet.
    pub fn frame(&mut self, addr: u64) -> Frame {
        let Self { pages, frames, .. } = self;
        Frame(*pages.entry(addr >> PAGE_BITS).or_insert_with(|| {
            frames.push(Arc::new(ZERO_PAGE));
            // There are not as many pages in any machine's memory.
            (frames.len() - 1) as u32
        }))
    }

    /// The same, if something was written to the page.
    pub fn written_frame(&self, addr: u64) -> Option<Frame> {
        self.pages.get(&(addr >> PAGE_BITS)).copied().map(Frame)
    }

    /// The page's contents.
    #[inline]
    pub fn frame_bytes(&self, frame: Frame) -> &[u8; PAGE_BYTES] {
        &self.frames[frame.0 as usize]
    }

    /// The page's contents, to be written.
    #[inline]
    pub fn frame_mut(&mut self, frame: Frame) -> &mut [u8; PAGE_BYTES] {
        Arc::make_mut(&mut self.frames[frame.0 as usize])
    }

    /// Pages that this memory does not share with another one, of which it is a clone or the other way round; all of them if there is
    /// no other.
    pub fn pages_beyond(&self, other: Option<&Self>) -> usize {
        let shared = |other: &Self| self.frames.iter().zip(&other.frames).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        self.frames.len() - other.map_or(0, shared)
    }

    /// Fills `out` with the bytes from `addr` on.
    pub fn read(&self, mut addr: u64, mut out: &mut [u8]) {
        while !out.is_empty() {
            let (number, offset, len) = first_part(addr, out.len());
            let (part, rest) = out.split_at_mut(len);
            part.copy_from_slice(&self.page(number)[offset..offset + len]);
            out = rest;
            addr = addr.wrapping_add(len as u64);
        }
    }

    /// The `N` bytes from `addr` on.
    pub fn read_array<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut out = [0; N];
        self.read(addr, &mut out);
        out
    }

    /// The `len` bytes from `addr` on.
    pub fn read_vec(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.read(addr, &mut out);
        out
    }

    /// Writes `data` from `addr` on.
    pub fn write(&mut self, mut addr: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (number, offset, len) = first_part(addr, data.len());
            let (part, rest) = data.split_at(len);
            self.page_mut(number)[offset..offset + len].copy_from_slice(part);
            data = rest;
            addr = addr.wrapping_add(len as u64);
        }
    }

    /// Writes those of at most 64 bytes whose bit in `mask` is set (bit 0: the byte at `addr`), as a bus beat does.
    pub fn write_masked(&mut self, addr: u64, data: &[u8], mask: u64) {
        debug_assert!(data.len() <= 64, "a mask has 64 bits");
        let mut index = 0;
        let end = data.len().min(64);
        while index < end && mask >> index != 0 {
            let start = index + (mask >> index).trailing_zeros() as usize;
            if start >= end {
                break;
            }
            index = end.min(start + (mask >> start).trailing_ones() as usize);
            self.write(addr.wrapping_add(start as u64), &data[start..index]);
        }
    }

    /// Sets `len` bytes from `addr` on to `byte`.
    pub fn fill(&mut self, mut addr: u64, mut len: u64, byte: u8) {
        while len > 0 {
            let (number, offset, part) = first_part(addr, len.min(PAGE_BYTES as u64) as usize);
            self.page_mut(number)[offset..offset + part].fill(byte);
            len -= part as u64;
            addr = addr.wrapping_add(part as u64);
        }
    }

    /// The pages written so far, in address order: address and contents.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE_BYTES])> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| (number << PAGE_BITS, self.page(number)))
    }

    /// The lowest address in the `len` bytes from `addr` on at which the two memories differ.
    pub fn first_difference(&self, other: &Memory, mut addr: u64, mut len: u64) -> Option<u64> {
        while len > 0 {
            let (number, offset, part) = first_part(addr, len.min(PAGE_BYTES as u64) as usize);
            let (left, right) = (&self.page(number)[offset..][..part], &other.page(number)[offset..][..part]);
            if let Some(index) = difference(left, right) {
                return Some(addr.wrapping_add(index as u64));
            }
            len -= part as u64;
            addr = addr.wrapping_add(part as u64);
        }
        None
    }

    /// The lowest address at which the two memories differ.
    pub fn first_difference_anywhere(&self, other: &Memory) -> Option<u64> {
        let mut numbers: Vec<u64> = self.pages.keys().chain(other.pages.keys()).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().find_map(|number| {
            let index = difference(self.page(number), other.page(number))?;
            Some((number << PAGE_BITS) + index as u64)
        })
    }

    /// Whether the two memories hold the same `len` bytes from `addr` on.
    pub fn range_equals(&self, other: &Memory, addr: u64, len: u64) -> bool {
        self.first_difference(other, addr, len).is_none()
    }
}

fn difference(left: &[u8], right: &[u8]) -> Option<usize> {
    // Comparing slices is a memcmp; only unequal ones are searched.
    if left == right { None } else { left.iter().zip(right).position(|(l, r)| l != r) }
}

/// Equality of contents; what is mapped does not matter.
impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.first_difference_anywhere(other).is_none()
    }
}

impl Eq for Memory {}

/// Mapped ranges.
impl Memory {
    /// Declares a range as owned by the program. Ranges may overlap. An empty range changes nothing.
    pub fn map(&mut self, range: Range<u64>) {
        self.mapped.add(range);
    }

    /// Whether all `len` bytes from `addr` on are mapped. No bytes are always mapped.
    pub fn is_mapped(&self, addr: u64, len: u64) -> bool {
        self.first_unmapped(addr, len).is_none()
    }

    /// The lowest address in the `len` bytes from `addr` on that is not mapped.
    pub fn first_unmapped(&self, addr: u64, len: u64) -> Option<u64> {
        self.mapped.first_missing(addr, len)
    }

    /// The mapped ranges.
    pub fn mapped(&self) -> &RangeSet {
        &self.mapped
    }
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    #[test]
    fn bytes_never_written_are_zero() {
        assert_eq!(Memory::new().read_vec(u64::MAX - 3, 8), [0; 8]);
    }

    #[test]
    fn an_access_crosses_pages_and_wraps_at_the_end_of_the_address_space() {
        let mut memory = Memory::new();
        let data: Vec<u8> = (0..=255).cycle().take(3 * PAGE_BYTES).collect();
        for addr in [PAGE - 5, 0x8000_0000, 5u64.wrapping_sub(2 * PAGE)] {
            memory.write(addr, &data);
            assert_eq!(memory.read_vec(addr, data.len()), data);
        }
        assert_eq!(memory.read_array::<1>(u64::MAX)[0], data[2 * PAGE_BYTES - 6]);
    }

    #[test]
    fn a_frame_is_its_page_also_after_others_were_written() {
        let mut memory = Memory::new();
        assert_eq!(memory.written_frame(7 * PAGE), None);
        let frame = memory.frame(7 * PAGE + 5);
        memory.write(3 * PAGE, &[9]);
        memory.frame_mut(frame)[5] = 1;
        let snapshot = memory.clone();
        memory.frame_mut(frame)[5] = 2;
        assert_eq!(memory.written_frame(8 * PAGE - 1), Some(frame));
        assert_eq!((memory.read_array(7 * PAGE + 5), snapshot.frame_bytes(frame)[5]), ([2], 1));
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut memory = Memory::new();
        memory.write(100, &[1, 2, 3]);
        let snapshot = memory.clone();
        memory.write(101, &[9]);
        assert_eq!(snapshot.read_array(100), [1, 2, 3]);
        assert_eq!(memory.read_array(100), [1, 9, 3]);
    }

    #[test]
    fn a_masked_write_changes_enabled_bytes_only() {
        let mut memory = Memory::new();
        memory.fill(PAGE - 8, 16, 0xff);
        memory.write_masked(PAGE - 8, &(0..16).collect::<Vec<u8>>(), 0b1000_0011_1000_0101);
        let expected = [0, 0xff, 2, 0xff, 0xff, 0xff, 0xff, 7, 8, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 15];
        assert_eq!(memory.read_array(PAGE - 8), expected);
    }

    #[test]
    fn written_pages_come_in_address_order() {
        let mut memory = Memory::new();
        for addr in [7 * PAGE + 1, 0, 3 * PAGE - 1] {
            memory.write(addr, &[1]);
        }
        let addresses: Vec<u64> = memory.pages().map(|(addr, _)| addr).collect();
        assert_eq!(addresses, [0, 2 * PAGE, 7 * PAGE]);
        assert_eq!(memory.pages().map(|(_, page)| page.iter().filter(|b| **b == 1).count()).sum::<usize>(), 3);
    }

    #[test]
    fn memories_are_equal_when_their_bytes_are() {
        let (mut left, mut right) = (Memory::new(), Memory::new());
        left.write(5 * PAGE, &[0]);
        right.map(0..10);
        assert_eq!(left, right);
        right.write(5 * PAGE + 7, &[1]);
        assert_eq!(left.first_difference_anywhere(&right), Some(5 * PAGE + 7));
        assert_eq!(left.first_difference(&right, 0, 10 * PAGE), Some(5 * PAGE + 7));
        assert!(left.range_equals(&right, 0, 5 * PAGE + 7));
        assert!(!left.range_equals(&right, 5 * PAGE + 7, 1));
        assert_ne!(left, right);
    }

    #[test]
    fn mapped_ranges_join_when_they_overlap_or_touch() {
        let mut memory = Memory::new();
        for range in [10..20, 40..50, 20..30, 5..5, 60..70, 45..60] {
            memory.map(range);
        }
        assert_eq!(memory.mapped().iter().collect::<Vec<_>>(), [10..30, 40..70]);
        assert!(memory.is_mapped(10, 20) && memory.is_mapped(69, 1) && memory.is_mapped(1000, 0));
        assert_eq!(memory.first_unmapped(25, 10), Some(30));
        assert_eq!(memory.first_unmapped(5, 10), Some(5));
        assert_eq!(memory.first_unmapped(69, u64::MAX), Some(70));
    }

    proptest! {
        #[test]
        fn writes_equal_those_to_an_array(writes in prop::collection::vec((0u64..2 * PAGE, prop::collection::vec(any::<u8>(), 0..=64), any::<u64>()), 0..40)) {
            let mut memory = Memory::new();
            let mut array = vec![0u8; 3 * PAGE_BYTES];
            for (addr, data, mask) in writes {
                memory.write_masked(addr, &data, mask);
                for (index, byte) in data.iter().enumerate().filter(|(index, _)| mask >> index & 1 != 0) {
                    array[addr as usize + index] = *byte;
                }
            }
            prop_assert_eq!(memory.read_vec(0, array.len()), array);
        }
    }
}
