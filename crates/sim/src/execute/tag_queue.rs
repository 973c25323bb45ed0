//! Destinations of the results that the array has yet to deliver (`TagQueue.scala`).
//!
//! | port | dir | back pressure |
//! |---|---|---|
//! | `enq` | in | [`TagQueue::enq_ready`]: not full at the start of the cycle |
//! | `deq` | out | head, from registers |
//! | `all` | out | all registers, occupied or not: a removed tag turns into garbage |

use pollux_isa::LocalAddr;

use crate::observation::view::TagView;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::multi_headed_queue::wrapping_add;
use crate::parts::wires::{RobId, Seq};

/// Where a result goes, and the command that is complete when it is there (`mesh_tag` of `ExecuteController.scala`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct Tag {
    /// Entry to report with the last row.
    pub rob_id: Option<RobId>,
    /// First row of the destination.
    pub addr: LocalAddr,
    /// Rows of the result.
    pub rows: u8,
    /// Columns of the result.
    pub cols: u8,
}

impl Tag {
    /// No destination and nothing to report.
    pub const GARBAGE: Self = Self { rob_id: None, addr: LocalAddr::GARBAGE, rows: 0, cols: 0 };

    /// As data.
    pub(crate) fn view(&self, seq: Seq<'_>) -> TagView {
        let Self { rob_id, addr, rows, cols } = *self;
        let address = (addr != LocalAddr::GARBAGE).then_some(addr.0);
        TagView { seq: rob_id.and_then(seq), address, rows, cols }
    }
}

/// A register of the queue: a tag and the matrix product it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct TagEntry {
    /// The tag.
    pub tag: Tag,
    /// Number of the matrix product, modulo the number that may be in flight.
    #[canon(via = Canon::matrix)]
    pub id: u8,
}

/// Register array with two pointers; all registers are visible.
#[derive(Clone, Debug)]
pub struct TagQueue {
    entries: Vec<TagEntry>,
    read: usize,
    write: usize,
    len: usize,
    /// Registers whose tag has something to report.
    outstanding: usize,
}

/// By distance from the head. All registers are visible, but which is which does not matter beyond the queue.
impl Canonical for TagQueue {
    fn canonical(&self, canon: &mut Canon) {
        let Self { entries, read, write: _, len, outstanding: _ } = self;
        len.canonical(canon);
        (0..entries.len()).for_each(|i| entries[wrapping_add(*read, i, entries.len())].canonical(canon));
    }
}

impl TagQueue {
    /// A queue of `entries` garbage tags, none of them valid.
    pub fn new(entries: usize) -> Self {
        let garbage = TagEntry { tag: Tag::GARBAGE, id: 0 };
        Self { entries: vec![garbage; entries], read: 0, write: 0, len: 0, outstanding: 0 }
    }

    /// `enq.ready`.
    #[inline]
    pub fn enq_ready(&self) -> bool {
        self.len < self.entries.len()
    }

    /// `deq`: the oldest tag.
    #[inline]
    pub fn front(&self) -> Option<&TagEntry> {
        (self.len > 0).then(|| &self.entries[self.read])
    }

    /// The tags that are valid, oldest first.
    pub(crate) fn outstanding_tags(&self) -> impl Iterator<Item = &Tag> {
        (0..self.len).map(|i| &self.entries[wrapping_add(self.read, i, self.entries.len())].tag)
    }

    /// `all`: every register's tag.
    pub fn all(&self) -> impl Iterator<Item = &Tag> {
        self.entries.iter().map(|entry| &entry.tag)
    }

    /// True if a register's tag has something to report.
    #[inline]
    pub fn outstanding(&self) -> bool {
        self.outstanding > 0
    }

    /// Clock edge: the head leaves if `pop`; `push`, accepted in this cycle, enters.
    pub fn tick(&mut self, pop: bool, push: Option<TagEntry>) {
        if pop && self.len > 0 {
            let tag = &mut self.entries[self.read].tag;
            self.outstanding -= usize::from(tag.rob_id.is_some());
            (tag.rob_id, tag.addr) = (None, LocalAddr::GARBAGE);
            self.read = wrapping_add(self.read, 1, self.entries.len());
            self.len -= 1;
        }
        if let Some(entry) = push {
            debug_assert!(self.len < self.entries.len(), "push into a full queue");
            self.outstanding += usize::from(entry.tag.rob_id.is_some());
            self.entries[self.write] = entry;
            self.write = wrapping_add(self.write, 1, self.entries.len());
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::event::Unit;

    fn entry(row: u32, index: u8) -> TagEntry {
        let rob_id = Some(RobId { unit: Unit::Ex, index });
        TagEntry { tag: Tag { rob_id, addr: LocalAddr::scratchpad(row), rows: 4, cols: 4 }, id: index }
    }

    #[test]
    fn a_removed_tag_is_garbage_and_reports_nothing() {
        let mut q = TagQueue::new(2);
        q.tick(false, Some(entry(8, 1)));
        assert!(q.outstanding());
        q.tick(true, None);
        assert!(!q.outstanding() && q.front().is_none());
        assert!(q.all().all(|tag| tag.addr == LocalAddr::GARBAGE));
    }

    #[test]
    fn tags_leave_in_the_order_in_which_they_entered() {
        let mut q = TagQueue::new(2);
        q.tick(false, Some(entry(8, 1)));
        q.tick(false, Some(entry(9, 2)));
        assert!(!q.enq_ready());
        q.tick(true, None);
        q.tick(true, Some(entry(10, 3)));
        assert_eq!(q.front(), Some(&entry(10, 3)));
    }
}
