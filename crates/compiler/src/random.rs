//! Synthetic weights and operands: random numbers that a seed determines, on every machine and for good.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// A generator; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
    }

    /// A number from -limit to limit.
    pub fn within(&mut self, limit: u32) -> i64 {
        (self.bits() % (2 * u64::from(limit) + 1)) as i64 - i64::from(limit)
    }

    /// Uniform int8 values in [-127, 127], eight from each draw.
    pub fn weights(&mut self, len: usize) -> Vec<i8> {
        let mut out = Vec::with_capacity(len + 7);
        while out.len() < len {
            out.extend(self.bits().to_le_bytes().map(|byte| (byte as i8).max(-127)));
        }
        out.truncate(len);
        out
    }

    /// Values in `low..=high`.
    pub fn between(&mut self, low: i32, high: i32, len: usize) -> Vec<i32> {
        (0..len).map(|_| low + self.below((high - low + 1) as usize) as i32).collect()
    }
}
