//! Lines on their way to memory (`SourceC.scala`).

use super::mshr::Evict;
use super::parameters::{Geometry, LINE_WORDS};
use crate::uncore::tilelink::Buffer;

/// Entries of its queue: a line, and what is on the way to it (line 54).
const QUEUE: usize = LINE_WORDS as usize + 4;

/// A beat to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterC {
    /// The MSHR that evicts.
    pub mshr: usize,
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// Word of the line; none if the line is given up without its bytes.
    pub word: Option<u32>,
}

/// The source. Two cycles pass from the banks to its queue.
#[derive(Clone, Debug)]
pub struct SourceC {
    geometry: Geometry,
    /// The line whose beats are being read.
    line: Option<(Evict, usize)>,
    beat: u32,
    read: [Option<OuterC>; 2],
    queue: Buffer<OuterC, QUEUE>,
}

/// What it does in a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceCWires {
    /// The line that it is at.
    pub line: Option<(Evict, usize)>,
    /// It wants beats from the banks.
    want_data: bool,
}

impl SourceC {
    /// An idle source.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, line: None, beat: 0, read: [None; 2], queue: Buffer::default() }
    }

    /// Room is known one cycle late, so it is given up early (lines 57 to 64).
    fn room(&self) -> bool {
        self.queue.len() <= 1
    }

    /// A line is accepted.
    pub fn ready(&self) -> bool {
        self.line.is_none() && self.room()
    }

    /// The beat that it offers to memory.
    pub fn front(&self) -> Option<&OuterC> {
        self.queue.front()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.line.is_none() && self.read == [None; 2] && self.queue.is_empty()
    }

    /// With the line that the scheduler sends.
    pub fn wires(&self, scheduled: Option<(Evict, usize)>) -> SourceCWires {
        let line = self.line.or(scheduled);
        SourceCWires { line, want_data: line.is_some_and(|(evict, _)| self.line.is_some() || evict.dirty) }
    }

    /// Banks that it asks for; not before `SourceD` is through with the line (line 77).
    pub fn banks(&self, wires: &SourceCWires, evict_safe: bool) -> u32 {
        match wires.line {
            Some((evict, _)) if wires.want_data && (self.beat != 0 || evict_safe) => {
                self.geometry.bank_mask(evict.set, self.beat, 1, 1)
            }
            _ => 0,
        }
    }

    /// Clock edge: whether the banks were granted, and whether memory took the beat.
    pub fn tick(&mut self, wires: &SourceCWires, granted: bool, taken: bool) {
        let mut read = None;
        if let Some((evict, mshr)) = wires.line {
            let beat = OuterC { mshr, set: evict.set, tag: evict.tag, word: evict.dirty.then_some(self.beat) };
            if !wires.want_data {
                read = Some(beat);
            } else if granted {
                read = Some(beat);
                self.beat = (self.beat + 1) % LINE_WORDS;
                self.line = (self.beat != 0).then_some((evict, mshr));
            } else {
                self.line = Some((evict, mshr));
            }
        }
        let [first, second] = self.read;
        self.queue.tick(taken, second);
        self.read = [read, first];
    }
}
