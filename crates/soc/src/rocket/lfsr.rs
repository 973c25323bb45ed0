//! The random numbers of the caches' replacement.

/// A shift register of 16 bits with a period of 2^16 - 1: x^16 + x^14 + x^13 + x^11 + 1 (Chisel's `LFSR`).
#[derive(Clone, Copy, Debug)]
pub struct Lfsr(u16);

impl Default for Lfsr {
    fn default() -> Self {
        Self(1)
    }
}

impl Lfsr {
    /// Its lowest bits.
    #[inline]
    pub fn bits(self, count: u32) -> usize {
        usize::from(self.0) & ((1 << count) - 1)
    }

    /// Clock edge with `increment`.
    #[inline]
    pub fn step(&mut self) {
        let bit = |n: u16| self.0 >> (n - 1) & 1;
        self.0 = self.0 << 1 | (bit(16) ^ bit(14) ^ bit(13) ^ bit(11));
    }
}
