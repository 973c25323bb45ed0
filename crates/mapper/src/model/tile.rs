//! How tiles follow each other: loads, computes and stores of neighbouring tiles overlap as far as memories and queues let them.

use super::analytical::InLine;

/// What one tile takes, each part by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TileCost {
    /// Cycles of its loads.
    pub load: f64,
    /// Cycles from the first load to the first compute.
    pub first: f64,
    /// Cycles of computes that bring new weights into the array, and of the others.
    pub new_weights: f64,
    /// Cycles of the other computes.
    pub others: f64,
    /// Parts of the load cycles in which a row is written where A is read, and where B is.
    pub writes: [f64; 2],
    /// Cycles of computes that cannot be done before the last load.
    pub tail: f64,
    /// Cycles of its stores.
    pub store: f64,
    /// Part of the stores that may wait in the reservation station when the next loop begins.
    pub pending: f64,
    /// Cycles of the host.
    pub host: f64,
    /// Parts of the loads' and of the stores' cycles in which a memory that they share is theirs.
    pub shares: [f64; 2],
}

/// Costs by the kind of place that a tile has; there are few kinds.
#[derive(Clone, Debug)]
pub struct Known<T>(Vec<(usize, T)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Known<T> {
    /// The cost of a kind, worked out the first time.
    pub fn get_or_insert_with(&mut self, kind: usize, cost: impl FnOnce() -> T) -> &T {
        let at = self.0.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.0.push((kind, cost()));
            self.0.len() - 1
        });
        &self.0[at].1
    }
}

/// How far the units are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    host: f64,
    load: f64,
    compute: f64,
    store: f64,
    /// When the last tile, and the one before it, had given all its commands.
    done: [f64; 2],
    /// Cycles of the stores under way.
    stored: f64,
    /// Of the stores under way: see [`TileCost::shares`].
    share: f64,
}

/// The least part of its speed that the array keeps while loads go to the same banks.
const LEAST_SPEED: f64 = 0.04;

impl Progress {
    /// Before the first tile, so many cycles after the first command.
    pub fn new(host: f64) -> Self {
        Self { host, ..Self::default() }
    }

    /// One more tile in the unroller: its loads begin when a half of the memories is free, that is, when the tile before the last has
    /// given its commands; its computes follow block by block.
    pub fn unrolled(&mut self, tile: &TileCost) {
        self.host += tile.host;
        let begin = self.load.max(self.done[0]).max(self.host);
        let beside_stores = (self.store - begin).clamp(0.0, tile.load.min(self.stored));
        self.load = begin + tile.load + beside_stores * (tile.shares[0] + self.share - 1.0).max(0.0);
        let start = self.compute.max(begin + tile.first);
        let computes = tile.new_weights + tile.others;
        // Until the loads are done, each row that they write takes the bank from the computes.
        let [a, b] = tile.writes;
        let slow = tile.new_weights / (1.0 - a - b).max(LEAST_SPEED) + tile.others / (1.0 - a).max(LEAST_SPEED);
        let beside = (self.load - start).max(0.0);
        let end = match beside >= slow {
            true => start + slow,
            false => start.max(self.load) + computes - beside * computes / slow.max(1.0),
        };
        self.compute_until(end.max(self.load + tile.tail.min(computes)), tile);
    }

    /// One more tile of single commands, which stand in line behind those of the tile before.
    pub fn in_line(&mut self, tile: &InLine) {
        self.compute += tile.time;
        self.load = self.compute;
        self.done = [self.compute; 2];
        if tile.store > 0.0 {
            self.store = self.compute + tile.store;
        }
    }

    /// Its computes are over, and its stores follow.
    pub fn compute_until(&mut self, time: f64, tile: &TileCost) {
        self.compute = time;
        let mut done = time;
        if tile.store > 0.0 {
            self.store = self.store.max(time) + tile.store;
            (self.stored, self.share) = (tile.store, tile.shares[1]);
            done = done.max(self.store - tile.store * tile.pending);
        }
        self.done = [self.done[1], done];
    }

    /// When everything is over.
    pub fn end(&self) -> f64 {
        self.compute.max(self.store)
    }

    /// The state after `times` more of the steps that led here from `before`, if they have become periodic.
    fn after(&self, before: &Self, times: f64) -> Option<Self> {
        let period = self.compute - before.compute;
        let same = |now: f64, then: f64| (now - then - period).abs() < 0.5;
        // What is ahead, or idle, may move by less.
        let behind = |now: f64, then: f64| now - then <= period + 0.5;
        let periodic = same(self.load, before.load)
            && same(self.done[0], before.done[0])
            && same(self.done[1], before.done[1])
            && behind(self.host, before.host)
            && behind(self.store, before.store);
        let later = |now: f64, then: f64| now + (now - then) * times;
        periodic.then(|| Self {
            host: later(self.host, before.host),
            load: later(self.load, before.load),
            compute: later(self.compute, before.compute),
            store: later(self.store, before.store),
            stored: self.stored,
            share: self.share,
            done: [later(self.done[0], before.done[0]), later(self.done[1], before.done[1])],
        })
    }
}

/// Does something `times` times that moves the tiles' progress on, the last time perhaps differently. When it has become periodic the
/// rest is reckoned at once.
pub fn repeat(progress: &mut Progress, times: usize, mut body: impl FnMut(&mut Progress, usize)) {
    let mut index = 0;
    let mut before = None;
    while index < times {
        // The first and the last time are different, the last but one is done as usual.
        if index > 1 && index + 2 < times {
            let skipped = times - 1 - index;
            if let Some(after) = before.and_then(|before| progress.after(&before, skipped as f64)) {
                *progress = after;
                index += skipped;
                continue;
            }
            before = Some(*progress);
        }
        body(progress, index);
        index += 1;
    }
}
