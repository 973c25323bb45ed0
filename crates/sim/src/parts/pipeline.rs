//! Elastic pipeline (`Pipeline.scala`): a chain of registers with ready/valid at both ends.
//!
//! A stage stalls iff it holds something and the stage after it stalls; an empty stage always accepts, so bubbles
//! are squeezed out while the output waits. An element accepted in cycle t is at the output in cycle
//! t + stages if nothing stalls.

use std::collections::VecDeque;

use crate::parts::canonical::{Canon, Canonical};

/// `stages` registers in a chain. The elements stay where they are; only their positions move.
#[derive(Clone, Debug)]
pub struct Pipeline<T> {
    items: VecDeque<T>,
    /// Bit i: stage i holds an element. The last stage is the output.
    valids: u64,
    stages: u32,
}

impl<T: Canonical> Canonical for Pipeline<T> {
    fn canonical(&self, canon: &mut Canon) {
        self.canonical_by(canon, T::canonical);
    }
}

impl<T> Pipeline<T> {
    /// The canonical form, of which `write` writes the elements.
    pub(crate) fn canonical_by(&self, canon: &mut Canon, write: impl Fn(&T, &mut Canon)) {
        let Self { items, valids, stages: _ } = self;
        valids.canonical(canon);
        items.iter().for_each(|item| write(item, canon));
    }

    /// An empty pipeline.
    ///
    /// # Panics
    /// If `stages` is not in 1..=64: a pipeline without a register is a wire.
    pub fn new(stages: u32) -> Self {
        assert!((1..=u64::BITS).contains(&stages), "a pipeline has 1 to 64 stages, not {stages}");
        Self { items: VecDeque::with_capacity(stages as usize), valids: 0, stages }
    }

    /// True if no stage holds an element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.valids == 0
    }

    /// The element at the output (`out.valid` and `out.bits`).
    #[inline]
    pub fn out(&self) -> Option<&T> {
        if self.valids & self.last() == 0 { None } else { self.items.front() }
    }

    /// `in.ready` in this cycle, given `out.ready`.
    #[inline]
    pub fn in_ready(&self, out_ready: bool) -> bool {
        self.stalled(out_ready) & 1 == 0
    }

    /// Clock edge. `input` is an element accepted in this cycle; the output leaves iff `out_ready`. Returns it.
    pub fn tick(&mut self, input: Option<T>, out_ready: bool) -> Option<T> {
        if self.valids == 0 && input.is_none() {
            return None;
        }
        let stalled = self.stalled(out_ready);
        let moving = self.valids & !stalled;
        let left = if moving & self.last() == 0 { None } else { self.items.pop_front() };
        self.valids = stalled | ((moving & !self.last()) << 1);
        if let Some(item) = input {
            debug_assert!(stalled & 1 == 0, "input accepted by a stalled pipeline");
            self.valids |= 1;
            self.items.push_back(item);
        }
        left
    }

    /// True if the next edge without an input changes something, given `out_ready`.
    #[inline]
    pub fn moves(&self, out_ready: bool) -> bool {
        self.valids & !self.stalled(out_ready) != 0
    }

    fn last(&self) -> u64 {
        1 << (self.stages - 1)
    }

    /// The stages that keep their element: the unbroken run of full ones at the output, if that is not ready.
    fn stalled(&self, out_ready: bool) -> u64 {
        if out_ready {
            return 0;
        }
        let unused = u64::BITS - self.stages;
        let run = (self.valids << unused).leading_ones();
        if run == 0 { 0 } else { (u64::MAX << (u64::BITS - run)) >> unused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_at_the_output_after_as_many_edges_as_there_are_stages() {
        for stages in [1, 2, 8, 64] {
            let mut pipeline = Pipeline::new(stages);
            pipeline.tick(Some(7), false);
            for _ in 1..stages {
                assert_eq!(pipeline.out(), None);
                pipeline.tick(None, false);
            }
            assert_eq!(pipeline.out(), Some(&7));
            assert_eq!(pipeline.tick(None, true), Some(7));
            assert!(pipeline.is_empty());
        }
    }

    #[test]
    fn bubbles_are_squeezed_out_until_every_stage_is_full() {
        let mut pipeline = Pipeline::new(3);
        for (cycle, input) in [Some(0), None, None, Some(1), None, Some(2)].into_iter().enumerate() {
            assert!(pipeline.in_ready(false), "cycle {cycle}");
            pipeline.tick(input, false);
        }
        assert!(!pipeline.in_ready(false));
        assert!(!pipeline.moves(false));
        assert!(pipeline.in_ready(true));
        assert_eq!(pipeline.tick(Some(3), true), Some(0));
        assert!(!pipeline.in_ready(false));
        assert_eq!(pipeline.tick(None, true), Some(1));
        assert_eq!(pipeline.tick(None, true), Some(2));
        assert_eq!(pipeline.tick(None, true), Some(3));
    }

    #[test]
    fn a_ready_output_gives_one_element_a_cycle() {
        let mut pipeline = Pipeline::new(4);
        let mut out = Vec::new();
        for i in 0..20 {
            assert!(pipeline.in_ready(true));
            out.extend(pipeline.tick(Some(i), true));
        }
        assert_eq!(out, (0..16).collect::<Vec<_>>());
    }
}
