//! Ready/valid queues, as `chisel3.util.Queue` makes them.
//!
//! A queue is state only: the wires around it are worked out from `&self` before the clock edge
//! ([`Queue::front`], [`Queue::enq_ready`]), then the edge is applied with [`Queue::pop`] and
//! [`Queue::push`], pop first. What differs between the kinds is when a full queue accepts
//! (`pipe`) and whether an empty queue shows its input at once (`flow`).

use std::collections::VecDeque;

use crate::parts::canonical::Canonical;

/// When a queue accepts and shows an element (`chisel3.util.Queue` parameters `pipe` and `flow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Accepts iff it is not full at the start of the cycle; an element is visible one cycle after its push.
    Plain,
    /// Also accepts when full if its head leaves in the same cycle.
    Pipe,
}

/// A first-in first-out queue of fixed depth.
#[derive(Clone, Debug, Canonical)]
pub struct Queue<T> {
    items: VecDeque<T>,
    #[canon(skip = "constant")]
    depth: usize,
    #[canon(skip = "constant")]
    kind: QueueKind,
}

impl<T> Queue<T> {
    /// An empty queue of `depth` entries.
    pub fn new(depth: usize, kind: QueueKind) -> Self {
        Self { items: VecDeque::with_capacity(depth + 1), depth, kind }
    }

    /// A queue with neither `pipe` nor `flow`.
    pub fn plain(depth: usize) -> Self {
        Self::new(depth, QueueKind::Plain)
    }

    /// A queue that accepts when full if its head leaves.
    pub fn pipe(depth: usize) -> Self {
        Self::new(depth, QueueKind::Pipe)
    }

    /// True if no element is stored.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The stored head (the `deq` side; a flowing input is the caller's wire).
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// The elements, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// `enq.ready` in this cycle, given whether the head is taken in this cycle (`deq.ready`).
    #[inline]
    pub fn enq_ready(&self, deq_ready: bool) -> bool {
        self.items.len() < self.depth || (deq_ready && self.kind != QueueKind::Plain)
    }

    /// Clock edge: removes the head.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Clock edge: appends an element that was accepted in this cycle.
    #[inline]
    pub fn push(&mut self, item: T) {
        debug_assert!(self.items.len() < self.depth, "push into a full queue: its wires were not honoured");
        self.items.push_back(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_queue_refuses_when_full_even_if_its_head_leaves() {
        let mut q = Queue::plain(1);
        q.push(1);
        assert!(!q.enq_ready(true));
        assert_eq!(q.pop(), Some(1));
        assert!(q.enq_ready(false));
    }

    #[test]
    fn a_pipe_queue_accepts_when_full_if_its_head_leaves() {
        let mut q = Queue::pipe(1);
        q.push(1);
        assert!(q.enq_ready(true));
        assert!(!q.enq_ready(false));
    }
}
