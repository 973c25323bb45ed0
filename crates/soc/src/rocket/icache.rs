//! The instruction cache (`ICache.scala`): 16 KiB, 4 ways, two cycles, one refill at a time, random replacement.

use super::lfsr::Lfsr;
use pollux_sim::uncore::tilelink::LINE_BYTES;

/// Sets and ways.
const SETS: u64 = 64;
const WAYS: usize = 4;

/// What the cache does with a request in its second stage.
#[derive(Clone, Copy, Debug, Default)]
struct S1 {
    valid: bool,
    address: u64,
}

/// The cache.
#[derive(Clone, Debug)]
pub struct ICache {
    tags: Vec<Option<u64>>,
    s1: S1,
    s2_valid: bool,
    s2_hit: bool,
    /// In the cycle before, a miss could have asked for its line.
    could_request: bool,
    refill_valid: bool,
    refill_line: u64,
    /// A flush since the refill began.
    invalidated: bool,
    lfsr: Lfsr,
}

impl Default for ICache {
    fn default() -> Self {
        Self {
            tags: vec![None; SETS as usize * WAYS],
            s1: S1::default(),
            s2_valid: false,
            s2_hit: false,
            could_request: true,
            refill_valid: false,
            refill_line: 0,
            invalidated: false,
            lfsr: Lfsr::default(),
        }
    }
}

/// Handshakes of a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct ICacheInputs {
    /// A request, whose address is in stage 1 in the next cycle.
    pub request: Option<u64>,
    /// The request in stage 1 is dropped.
    pub s1_kill: bool,
    /// The request in stage 2 may not fetch its line.
    pub s2_kill: bool,
    /// The line asked for was accepted.
    pub a_fire: bool,
    /// A beat of the line arrives; true with the last.
    pub d: Option<bool>,
    /// `fence.i`.
    pub invalidate: bool,
}

impl ICache {
    fn slot(line: u64, way: usize) -> usize {
        (line % SETS) as usize * WAYS + way
    }

    fn holds(&self, line: u64) -> bool {
        (0..WAYS).any(|way| self.tags[Self::slot(line, way)] == Some(line))
    }

    /// The request in stage 2 is answered.
    pub fn responds(&self) -> bool {
        self.s2_valid && self.s2_hit
    }

    /// `kill`: the request in stage 2 may not fetch its line.
    fn s2_miss(&self, kill: bool) -> bool {
        self.s2_valid && !self.s2_hit && !kill
    }

    /// The line that it asks for.
    pub fn a(&self, kill: bool) -> Option<u64> {
        (self.s2_miss(kill) && self.could_request).then_some(self.refill_line * LINE_BYTES)
    }

    /// Clock edge. While a beat arrives, requests are not taken.
    pub fn tick(&mut self, inputs: &ICacheInputs) {
        let can_request = !(self.s2_miss(inputs.s2_kill) || self.refill_valid);
        let s1_line = self.s1.address / LINE_BYTES;
        self.s2_hit = self.holds(s1_line);
        self.s2_valid = self.s1.valid && !inputs.s1_kill;
        if inputs.a_fire {
            self.refill_valid = true;
            self.lfsr.step();
        }
        if inputs.d.is_some() {
            // The victim is empty from the first beat on.
            let slot = Self::slot(self.refill_line, self.lfsr.bits(2));
            let done = inputs.d == Some(true);
            self.tags[slot] = (done && !self.invalidated).then_some(self.refill_line);
            if done {
                self.refill_valid = false;
            }
        }
        if self.s1.valid && can_request {
            self.refill_line = s1_line;
        }
        self.could_request = can_request;
        if !self.refill_valid {
            self.invalidated = false;
        }
        if inputs.invalidate {
            self.tags.fill(None);
            self.invalidated = true;
        }
        self.s1.valid = inputs.request.is_some() && inputs.d.is_none();
        if let Some(address) = inputs.request.filter(|_| inputs.d.is_none()) {
            self.s1.address = address;
        }
    }
}
