//! A queue whose first few elements are all visible (`MultiHeadedQueue.scala`).
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `enq` | in | the producer says so | [`MultiHeadedQueue::enq_ready`]: not full at the start of the cycle, even if elements leave |
//! | head i | out | more than i elements are stored | the consumer removes 0, 1, ... elements a cycle |
//!
//! An element pushed in cycle c is visible in c + 1. The registers behind the heads keep their
//! contents: a head that is not valid still shows the last command that stood in its slot.

use crate::parts::canonical::{Canon, Canonical};

/// A first-in first-out queue of fixed depth, implemented as a register array with two pointers.
#[derive(Clone, Debug)]
pub struct MultiHeadedQueue<T> {
    pub(crate) registers: Vec<T>,
    read: usize,
    write: usize,
    len: usize,
}

impl<T: Clone> MultiHeadedQueue<T> {
    /// An empty queue of `entries` registers that hold `initial`.
    pub fn new(entries: usize, initial: T) -> Self {
        Self { registers: vec![initial; entries], read: 0, write: 0, len: 0 }
    }

    /// Number of elements at the start of the cycle.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no element is stored.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `enq.ready`.
    #[inline]
    pub fn enq_ready(&self) -> bool {
        self.len < self.registers.len()
    }

    /// `deq.valid` of head `i`.
    #[inline]
    pub fn valid(&self, i: usize) -> bool {
        self.len > i
    }

    /// `deq.bits` of head `i`, valid or not. `i` must be less than the number of entries.
    #[inline]
    pub fn bits(&self, i: usize) -> &T {
        &self.registers[wrapping_add(self.read, i, self.registers.len())]
    }

    /// Clock edge: `pop` elements leave, then `push`, accepted in this cycle, enters.
    #[inline]
    pub fn tick(&mut self, pop: usize, push: Option<&T>) {
        debug_assert!(pop <= self.len, "more elements popped than stored");
        let entries = self.registers.len();
        self.read = wrapping_add(self.read, pop, entries);
        self.len -= pop;
        if let Some(item) = push {
            debug_assert!(self.len < entries, "push into a full queue");
            self.registers[self.write].clone_from(item);
            self.write = wrapping_add(self.write, 1, entries);
            self.len += 1;
        }
    }
}

/// By distance from the head: what stands in the registers, valid or not.
impl<T: Canonical + Clone> Canonical for MultiHeadedQueue<T> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { registers, read: _, write, len } = self;
        len.canonical(canon);
        // An empty queue and a full one have the pointers in one place.
        debug_assert_eq!(wrapping_add(self.read, *len, registers.len()), *write % registers.len());
        for i in 0..registers.len() {
            canon.set_over(i >= *len);
            self.bits(i).canonical(canon);
        }
        canon.set_over(false);
    }
}

/// `u + n` modulo `max` for `u < max` and `n <= max` (`Util.wrappingAdd`).
#[inline]
pub(crate) fn wrapping_add(u: usize, n: usize, max: usize) -> usize {
    let sum = u + n;
    if sum >= max { sum - max } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_even_if_elements_leave_in_the_same_cycle() {
        let mut q = MultiHeadedQueue::new(2, 0);
        q.tick(0, Some(&1));
        q.tick(0, Some(&2));
        assert!(!q.enq_ready());
        q.tick(1, None);
        assert!(q.enq_ready());
        assert_eq!(*q.bits(0), 2);
    }

    #[test]
    fn two_elements_may_leave_while_one_enters() {
        let mut q = MultiHeadedQueue::new(4, 0);
        for i in 1..=3 {
            q.tick(0, Some(&i));
        }
        q.tick(2, Some(&4));
        assert_eq!((q.len(), *q.bits(0), *q.bits(1)), (2, 3, 4));
        assert!(q.valid(1) && !q.valid(2));
    }

    #[test]
    fn a_head_that_is_not_valid_shows_what_its_register_last_held() {
        let mut q = MultiHeadedQueue::new(2, 0);
        q.tick(0, Some(&7));
        q.tick(1, None);
        assert_eq!(*q.bits(1), 7);
        assert!(!q.valid(0));
    }
}
