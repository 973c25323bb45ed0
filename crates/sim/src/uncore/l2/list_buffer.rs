//! Many queues in one store of entries (`ListBuffer.scala`).

use std::collections::VecDeque;

/// The queues. What is pushed is seen in the next cycle.
#[derive(Clone, Debug)]
pub struct ListBuffer<T> {
    queues: Vec<VecDeque<T>>,
    used: usize,
    entries: usize,
}

impl<T> ListBuffer<T> {
    /// So many queues over so many entries.
    pub fn new(queues: usize, entries: usize) -> Self {
        Self { queues: (0..queues).map(|_| VecDeque::new()).collect(), used: 0, entries }
    }

    /// There is room for one more.
    #[inline]
    pub fn ready(&self) -> bool {
        self.used < self.entries
    }

    /// The oldest entry of a queue.
    #[inline]
    pub fn front(&self, queue: usize) -> Option<&T> {
        self.queues[queue].front()
    }

    /// No queue has an entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Clock edge: removes the oldest entry of a queue, appends to a queue.
    pub fn tick(&mut self, pop: Option<usize>, push: Option<(usize, T)>) {
        if let Some(queue) = pop {
            self.used -= usize::from(self.queues[queue].pop_front().is_some());
        }
        if let Some((queue, entry)) = push {
            self.queues[queue].push_back(entry);
            self.used += 1;
        }
    }
}
