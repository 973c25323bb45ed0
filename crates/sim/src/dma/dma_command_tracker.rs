//! Which commands of a DMA controller are under way (`DMACommandTracker.scala`).
//!
//! An entry counts down the bytes (loads) or rows (stores) that its command still waits for.
//! A response in cycle r makes the command offered as completed in r+1; if the completion is taken
//! then, the entry can be allocated again in r+2. Only the valid bits are reset.
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `alloc` | in | the controller begins a command | [`DmaCommandTracker::alloc_ready`]: an entry is free |
//! | `request_returned` | in | a row, or a load's last one, is where it belongs | none |
//! | `cmd_completed` | out | an entry waits for nothing more | held until the completion arbiter takes it |

use pollux_isa::config::log2_up;

use crate::observation::event::EventBuffer;
use crate::observation::view::TrackedView;
use crate::observation::violation::Violation;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::wires::{RobId, Seq};

#[derive(Clone, Copy, Debug, Default, Canonical)]
struct Entry {
    tag: Option<RobId>,
    left: u32,
}

/// The tracker; `max_in_flight_mem_reqs / DIM + 1` entries, at most 64.
#[derive(Clone, Debug)]
pub struct DmaCommandTracker {
    entries: Vec<Entry>,
    /// Valid entries, one bit each.
    valid: u64,
    /// Those of them for which nothing is missing any more.
    done: u64,
    all: u64,
}

/// The entries under way; what a free one held last is never looked at.
impl Canonical for DmaCommandTracker {
    fn canonical(&self, canon: &mut Canon) {
        let Self { entries, valid, done, all: _ } = self;
        valid.canonical(canon);
        done.canonical(canon);
        entries.iter().enumerate().filter(|(id, _)| valid >> id & 1 == 1).for_each(|(_, entry)| entry.canonical(canon));
    }
}

impl DmaCommandTracker {
    /// An empty tracker of `commands` entries.
    pub fn new(commands: usize) -> Self {
        debug_assert!((1..=64).contains(&commands));
        Self { entries: vec![Entry::default(); commands], valid: 0, done: 0, all: u64::MAX >> (64 - commands) }
    }

    /// True if a command can be allocated.
    #[inline]
    pub fn alloc_ready(&self) -> bool {
        self.valid != self.all
    }

    /// Entry that an allocation takes: the lowest free one, 0 if there is none.
    #[inline]
    pub fn alloc_id(&self) -> u8 {
        if self.alloc_ready() { self.valid.trailing_ones() as u8 } else { 0 }
    }

    /// True if a command is under way.
    #[inline]
    pub fn busy(&self) -> bool {
        self.valid != 0
    }

    /// The finished command offered to the reservation station; the outer option is `valid`.
    #[inline]
    pub fn completed(&self) -> Option<Option<RobId>> {
        if self.done == 0 { None } else { Some(self.entries[self.done.trailing_zeros() as usize].tag) }
    }

    /// Clock edge: an allocation (tag, amount), a response (entry, amount), and whether the
    /// offered completion is taken. Returns true if a register changed.
    #[inline]
    #[must_use]
    pub fn tick(
        &mut self,
        alloc: Option<(Option<RobId>, u32)>,
        response: Option<(u8, u32)>,
        completed: bool,
        events: &mut EventBuffer,
    ) -> bool {
        if alloc.is_none() && response.is_none() && !completed {
            return false;
        }
        if let Some((id, amount)) = response {
            events.require(self.valid >> id & 1 == 1, Violation::RowWithoutCommand);
            events.require(self.entries[usize::from(id)].left >= amount, Violation::TooManyRows);
        }
        let (slot, taken) = (self.alloc_id(), self.done & self.done.wrapping_neg());
        if let Some((tag, left)) = alloc {
            self.entries[usize::from(slot)] = Entry { tag, left };
            self.valid |= 1 << slot;
            self.note(slot);
        }
        if let Some((id, amount)) = response {
            let entry = &mut self.entries[usize::from(id)];
            // An illegal command may get more than it asked for: the count wraps around, and it never completes.
            entry.left = entry.left.wrapping_sub(amount);
            self.note(id);
        }
        if completed {
            self.valid &= !taken;
            self.done &= !taken;
        }
        true
    }

    /// Brings `done` up to date after a change of an entry.
    #[inline]
    fn note(&mut self, id: u8) {
        let done = u64::from(self.entries[usize::from(id)].left == 0) << id;
        self.done = (self.done & !(1 << id) | done) & self.valid;
    }

    /// The command of an entry under way.
    pub(crate) fn command(&self, id: u8) -> Option<RobId> {
        if self.valid >> id & 1 == 1 { self.entries[usize::from(id)].tag } else { None }
    }

    /// The commands under way.
    pub(crate) fn view(&self, seq: Seq<'_>) -> Vec<TrackedView> {
        let valid = self.entries.iter().enumerate().filter(|(id, _)| self.valid >> id & 1 == 1);
        valid.map(|(id, entry)| TrackedView { id: id as u8, seq: entry.tag.and_then(seq), left: entry.left }).collect()
    }

    /// What is still missing, entry by entry, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<u32> {
        let valid = |(id, entry): (usize, &Entry)| (self.valid >> id & 1 == 1).then_some(entry.left);
        self.entries.iter().enumerate().filter_map(valid).max()
    }
}

/// Mask of a tracker's amount, which is `log2Up(largest + 1)` bits wide.
pub fn tracker_mask(largest: u32) -> u32 {
    ((1u64 << log2_up(u64::from(largest) + 1)) - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_offered_the_cycle_after_its_last_response_and_reused_after_that() {
        let mut t = DmaCommandTracker::new(1);
        let _ = t.tick(Some((None, 32)), None, false, &mut EventBuffer::default());
        assert!(!t.alloc_ready());
        let _ = t.tick(None, Some((0, 16)), false, &mut EventBuffer::default());
        assert_eq!(t.completed(), None);
        let _ = t.tick(None, Some((0, 16)), false, &mut EventBuffer::default());
        assert_eq!(t.completed(), Some(None));
        assert!(!t.alloc_ready());
        let _ = t.tick(None, None, true, &mut EventBuffer::default());
        assert!(t.alloc_ready() && !t.busy());
    }

    #[test]
    fn the_lowest_finished_entry_is_offered_first() {
        let mut t = DmaCommandTracker::new(2);
        let _ = t.tick(Some((None, 1)), None, false, &mut EventBuffer::default());
        let _ = t.tick(Some((None, 2)), None, false, &mut EventBuffer::default());
        let _ = t.tick(None, Some((1, 2)), false, &mut EventBuffer::default());
        let _ = t.tick(None, Some((0, 1)), false, &mut EventBuffer::default());
        let _ = t.tick(None, None, true, &mut EventBuffer::default());
        assert_eq!(t.alloc_id(), 0);
        assert_eq!(t.completed(), Some(None));
    }
}
