//! Table of the read transactions in flight (`XactTracker.scala`).
//!
//! One entry per transaction; its number is the TileLink source. An entry is taken when the
//! reader's packet fires and given back in the cycle in which its last beat is taken; both show in
//! the next cycle.
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `alloc` | in | the reader's packet fires | [`XactTracker::alloc_ready`]: an entry is free |
//! | `peek` | out | always: the entry of a number | none |
//! | `peek.pop` | in | the last beat of a transaction is taken | none |

use crate::parts::canonical::{Canon, Canonical};

/// What the reader must remember of a Get until its data is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct XactTrackerEntry {
    /// Leading bytes of the response to drop.
    pub shift: u32,
    /// Row, counted through all banks, that the first useful byte goes to.
    pub row: u32,
    /// The row is in the accumulator.
    pub is_acc: bool,
    /// Add to the accumulator row.
    pub accumulate: bool,
    /// Elements are as wide as accumulator elements.
    pub has_acc_bitwidth: bool,
    /// Bits of the mvin scale.
    #[canon(load_scale)]
    pub scale: u32,
    /// Further rows to write with the same data (stride 0).
    pub repeats: u16,
    /// Copies of each pixel.
    pub pixel_repeats: u8,
    /// Columns of the row request.
    pub len: u16,
    /// Rows between the blocks of one request.
    pub block_stride: u16,
    /// Byte within its row that the first useful byte goes to.
    pub row_offset: u32,
    /// Useful bytes of the response.
    pub bytes_to_read: u32,
    /// Command tracker entry of the load controller.
    pub cmd_id: u8,
}

/// The table (`XactTracker`); at most 64 entries.
#[derive(Clone, Debug)]
pub struct XactTracker {
    entries: Vec<XactTrackerEntry>,
    valid: u64,
    all: u64,
}

/// The transactions under way; what a free entry held last is never looked at.
impl Canonical for XactTracker {
    fn canonical(&self, canon: &mut Canon) {
        let Self { entries, valid, all: _ } = self;
        valid.canonical(canon);
        entries.iter().enumerate().filter(|(id, _)| valid >> id & 1 == 1).for_each(|(_, entry)| entry.canonical(canon));
    }
}

impl XactTracker {
    /// An empty table of `xacts` entries.
    pub fn new(xacts: usize) -> Self {
        debug_assert!((1..=64).contains(&xacts));
        Self { entries: vec![XactTrackerEntry::default(); xacts], valid: 0, all: u64::MAX >> (64 - xacts) }
    }

    /// True if an entry is free.
    #[inline]
    pub fn alloc_ready(&self) -> bool {
        self.valid != self.all
    }

    /// The entry that an allocation takes: the lowest free one.
    #[inline]
    pub fn free_entry(&self) -> u16 {
        (!self.valid).trailing_zeros().min(self.entries.len() as u32 - 1) as u16
    }

    /// An entry's contents.
    #[inline]
    pub fn peek(&self, xact: u16) -> &XactTrackerEntry {
        &self.entries[xact as usize]
    }

    /// The entries in use, with their numbers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u16, &XactTrackerEntry)> {
        let numbered = self.entries.iter().enumerate().map(|(id, entry)| (id as u16, entry));
        numbered.filter(|(id, _)| self.valid >> id & 1 == 1)
    }

    /// Number of entries in use.
    #[inline]
    pub fn occupied(&self) -> u32 {
        self.valid.count_ones()
    }

    /// True if any entry is in use.
    #[inline]
    pub fn busy(&self) -> bool {
        self.valid != 0
    }

    /// Clock edge: allocates `alloc` and frees `pop`, both judged by the state before the edge.
    pub fn tick(&mut self, alloc: Option<XactTrackerEntry>, pop: Option<u16>) {
        let free = self.free_entry();
        if let Some(entry) = alloc {
            debug_assert!(self.alloc_ready());
            self.entries[free as usize] = entry;
            self.valid |= 1 << free;
        }
        if let Some(xact) = pop {
            debug_assert!(self.valid >> xact & 1 == 1, "a response without a request");
            self.valid &= !(1 << xact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_entry_is_taken_again_only_after_the_edge() {
        let mut t = XactTracker::new(2);
        t.tick(Some(XactTrackerEntry::default()), None);
        assert_eq!(t.free_entry(), 1);
        t.tick(Some(XactTrackerEntry { row: 5, ..Default::default() }), Some(0));
        assert_eq!((t.free_entry(), t.occupied(), t.peek(1).row), (0, 1, 5));
        t.tick(Some(XactTrackerEntry::default()), None);
        assert!(!t.alloc_ready());
    }
}
