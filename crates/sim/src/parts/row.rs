//! Rows of the local memories: DIM elements, held inline so that the busy path never allocates.

use crate::parts::canonical::{Canon, Canonical};
use crate::parts::values::{Full, Values};

/// Largest DIM that Pollux models (`GemminiConfig::validate` refuses more).
pub const MAX_DIM: usize = 64;

/// The lanes of a scratchpad row: DIM signed bytes; lanes from DIM on stay 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpadLanes<V: Values = Full>(pub [V::Of<i8>; MAX_DIM]);

/// The lanes of an accumulator row: DIM 32-bit words; lanes from DIM on stay 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccLanes<V: Values = Full>(pub [V::Of<i32>; MAX_DIM]);

impl<V: Values> Default for SpadLanes<V> {
    fn default() -> Self {
        Self([V::Of::default(); MAX_DIM])
    }
}

impl<V: Values> Default for AccLanes<V> {
    fn default() -> Self {
        Self([V::Of::default(); MAX_DIM])
    }
}

/// Values have no canonical form: nothing that happens depends on them.
impl<V: Values> Canonical for SpadLanes<V> {
    fn canonical(&self, _: &mut Canon) {}
}

impl<V: Values> Canonical for AccLanes<V> {
    fn canonical(&self, _: &mut Canon) {}
}

/// The DIM of the default configuration, whose rows are moved in line instead of by a call.
const COMMON_DIM: usize = 16;

/// Copies a row of DIM lanes.
#[inline(always)] // the common case is short
pub fn copy_row<T: Copy>(to: &mut [T], from: &[T]) {
    match (<&mut [T; COMMON_DIM]>::try_from(&mut *to), <&[T; COMMON_DIM]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// Adds a row of DIM lanes to another one, modulo 2^32.
#[inline(always)] // the common case is short
pub fn add_row<V: Values>(to: &mut [V::Of<i32>], from: &[V::Of<i32>]) {
    V::update(to, |to, sight| add(to, V::see(from, sight)));
}

#[inline(always)]
fn add(to: &mut [i32], from: &[i32]) {
    match (<&mut [i32; COMMON_DIM]>::try_from(&mut *to), <&[i32; COMMON_DIM]>::try_from(from)) {
        (Ok(to), Ok(from)) => {
            for (sum, x) in to.iter_mut().zip(from) {
                *sum = sum.wrapping_add(*x);
            }
        }
        _ => add_any_row(to, from),
    }
}

#[inline(never)]
fn add_any_row(to: &mut [i32], from: &[i32]) {
    for (sum, x) in to.iter_mut().zip(from) {
        *sum = sum.wrapping_add(*x);
    }
}

/// Byte enables of an accumulator row (4 x [`MAX_DIM`] bytes); bit i enables byte i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct ByteMask(pub [u64; 4]);

impl ByteMask {
    /// Enables of the first `n` bytes.
    #[inline]
    pub fn first(n: usize) -> Self {
        Self::range(0, n)
    }

    /// Enables of the bytes `start..end`.
    #[inline(never)] // rarely needed, and long
    pub fn range(start: usize, end: usize) -> Self {
        let mut mask = Self::default();
        for (word, bits) in mask.0.iter_mut().enumerate() {
            let (base, top) = (word * 64, word * 64 + 64);
            let (lo, hi) = (start.clamp(base, top) - base, end.clamp(base, top) - base);
            if lo < hi {
                *bits = (u64::MAX >> (64 - (hi - lo))) << lo;
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_mask_of_a_range_enables_exactly_that_range() {
        for (start, end) in [(0, 0), (0, 1), (5, 64), (60, 70), (0, 256), (200, 256)] {
            let mask = ByteMask::range(start, end);
            for i in 0..256 {
                assert_eq!(mask.0[i / 64] >> (i % 64) & 1 == 1, (start..end).contains(&i), "{start}..{end} at {i}");
            }
        }
    }
}
