//! Reproducible random data for tests: values that a seed determines, on every machine and for good.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A generator; equal seeds give equal values.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// A generator with a seed.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// Values over the whole range of `i8`.
    pub fn i8s(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.bits() as i8).collect()
    }

    /// Values in `-magnitude..=magnitude`.
    pub fn i32s(&mut self, len: usize, magnitude: i32) -> Vec<i32> {
        (0..len).map(|_| (self.bits() as i32).rem_euclid(2 * magnitude + 1) - magnitude).collect()
    }

    /// Bytes, mostly small so that sums do not always saturate.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut byte = || {
            let bits = self.bits();
            if bits.is_multiple_of(4) { (bits >> 8) as u8 } else { (bits >> 8) as u8 % 16 }
        };
        (0..len).map(|_| byte()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_the_published_generator() {
        // The first values of Sebastiano Vigna's splitmix64.c for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.bits()), expected);
    }
}
