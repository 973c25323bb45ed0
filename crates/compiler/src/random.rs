//! A small deterministic generator (SplitMix64) for synthetic weights.

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
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
