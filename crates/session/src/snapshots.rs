//! Where a run can be picked up: copies of the simulation, spread over what has been run, and close together near the present.
//!
//! | | distance | which |
//! |---|---|---|
//! | coarse | [`FIRST_DISTANCE`] at first; doubles when the budget is used up, and every other one is dropped | all of the run so far |
//! | fine | [`FINE_DISTANCE`] | the last [`FINE_COUNT`] before the cycle that was gone to |
//!
//! So the number of copies is bounded whatever the run's length, and the cost of making them is logarithmic in it. Local memories are
//! copied as a whole; pages of main memory are shared until one of the copies writes them, and counted for the first that has them.

use std::collections::BTreeMap;

use pollux_isa::GemminiConfig;
use pollux_memory::PAGE_BYTES;
use pollux_sim::memory::MemorySystem;
use pollux_sim::observer::Cycle;

use crate::engine::Engine;

/// Cycles between coarse snapshots at first.
pub(crate) const FIRST_DISTANCE: u64 = 1 << 12;
/// Cycles between fine ones.
pub(crate) const FINE_DISTANCE: u64 = 1 << 8;
/// Fine ones.
const FINE_COUNT: u64 = 32;
/// Coarse ones at most: more would not make the first step back faster than a user can see.
const MOST: usize = 1024;
/// What a copy takes beside its local memories: queues, row buffers, tables.
const REGISTERS: usize = 128 << 10;

/// The snapshots of a session.
#[derive(Debug)]
pub(crate) struct Snapshots {
    coarse: BTreeMap<Cycle, Engine>,
    fine: BTreeMap<Cycle, Engine>,
    distance: u64,
    /// Bytes that they may take.
    budget: usize,
    /// Bytes of one without main memory.
    each: usize,
    /// Bytes of pages of main memory that the coarse ones do not share.
    pages: usize,
}

impl Snapshots {
    /// With the start of the run.
    pub fn new(start: Engine, config: &GemminiConfig, budget: usize) -> Self {
        let local = config.sp_rows() * config.sp_row_bytes() + config.acc_rows() * config.acc_row_bytes();
        let pages = start.memory.memory().pages_beyond(None) * PAGE_BYTES;
        Self {
            coarse: BTreeMap::from([(0, start)]),
            fine: BTreeMap::new(),
            distance: FIRST_DISTANCE,
            budget,
            each: local as usize + REGISTERS,
            pages,
        }
    }

    /// The one from which a cycle is gone to: the last one before it, if there are fine ones; if not, one so far before it that they
    /// will be there for steps back from it.
    pub fn before(&self, cycle: Cycle) -> Engine {
        let fine = self.fine.range(..=cycle).next_back();
        let before = if fine.is_some() { cycle } else { cycle.saturating_sub(FINE_COUNT * FINE_DISTANCE) };
        let coarse = self.coarse.range(..=before).next_back();
        let latest = coarse.into_iter().chain(fine).max_by_key(|(at, _)| **at);
        // The start is never dropped.
        let (_, engine) = latest.expect("the snapshot of cycle 0 is always there");
        engine.clone()
    }

    /// Cycle of the last coarse one before the cycle.
    pub fn interval_before(&self, cycle: Cycle) -> Cycle {
        self.coarse.range(..cycle).next_back().map_or(0, |(at, _)| *at)
    }

    /// The next cycle after `from` in which one should be taken, on the way to `target`.
    pub fn next_stop(&self, from: Cycle, target: Cycle) -> Cycle {
        let coarse = (from / self.distance + 1).saturating_mul(self.distance);
        let near = target.saturating_sub(FINE_COUNT * FINE_DISTANCE);
        let fine = (from.max(near.saturating_sub(1)) / FINE_DISTANCE + 1).saturating_mul(FINE_DISTANCE);
        coarse.min(fine).min(target)
    }

    /// The same for a scan, which takes coarse ones only.
    pub fn next_coarse_stop(&self, from: Cycle) -> Cycle {
        (from / self.distance + 1).saturating_mul(self.distance)
    }

    /// Takes one if one should be taken here on the way to `target`.
    pub fn offer(&mut self, engine: &Engine, target: Cycle) {
        let cycle = engine.cycle();
        if cycle.is_multiple_of(self.distance) && !self.coarse.contains_key(&cycle) {
            self.insert(cycle, engine);
        } else if cycle.is_multiple_of(FINE_DISTANCE) && target - cycle <= FINE_COUNT * FINE_DISTANCE {
            self.fine.entry(cycle).or_insert_with(|| copy(engine));
        }
    }

    fn insert(&mut self, cycle: Cycle, engine: &Engine) {
        let before = self.coarse.range(..cycle).next_back();
        self.pages += engine.memory.memory().pages_beyond(before.map(|(_, of)| of.memory.memory())) * PAGE_BYTES;
        self.coarse.insert(cycle, copy(engine));
        while self.coarse.len() > 2 && (self.coarse.len() > MOST || self.bytes() > self.budget) {
            self.distance = self.distance.saturating_mul(2);
            let distance = self.distance;
            self.coarse.retain(|cycle, _| cycle.is_multiple_of(distance));
            self.count_pages();
        }
    }

    fn count_pages(&mut self) {
        let mut before = None;
        self.pages = 0;
        for engine in self.coarse.values() {
            let memory = engine.memory.memory();
            self.pages += memory.pages_beyond(before) * PAGE_BYTES;
            before = Some(memory);
        }
    }

    /// Keeps the fine ones near a cycle, and drops the others.
    pub fn keep_near(&mut self, cycle: Cycle) {
        let near = cycle.saturating_sub(FINE_COUNT * FINE_DISTANCE)..=cycle;
        self.fine.retain(|at, _| near.contains(at));
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        (self.coarse.len() + FINE_COUNT as usize) * self.each + self.pages
    }

    /// How many coarse and fine ones there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.coarse.len(), self.fine.len())
    }
}

/// A copy that makes no events.
fn copy(engine: &Engine) -> Engine {
    let mut copy = engine.clone();
    copy.record(false);
    copy
}
