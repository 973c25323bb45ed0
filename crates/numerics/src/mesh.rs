//! The systolic array's arithmetic: `MacUnit` and `PE` of `PE.scala`.
//!
//! A product of two `i8` is exact; the sum is truncated to the array's output width (20 bits by default) after **every** step.
//! Nothing saturates. Truncation is modular, so a whole dot product may be summed exactly and truncated
//! once: that is what the row and tile kernels do.

use crate::arithmetic::{rounding_shift, saturate, wrap};

/// Width in bits of `spatialArrayOutputType`, 1..=32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeshWidth(u32);

impl MeshWidth {
    /// The width of every shipped integer configuration, 20 bits.
    pub const DEFAULT: Self = Self(20);

    /// A width of `bits`, or `None` if it is not in 1..=32.
    pub const fn new(bits: u32) -> Option<Self> {
        if bits >= 1 && bits <= i32::BITS { Some(Self(bits)) } else { None }
    }

    /// The number of bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Keeps the low bits of `x`, sign-extended.
    #[inline]
    pub fn wrap(self, x: i32) -> i32 {
        wrap(x, self.0)
    }

    /// Clips `x` to this width.
    #[inline]
    pub fn saturate(self, x: i32) -> i32 {
        saturate(x, self.0)
    }

    /// Keeps the low bits of every element of `row`.
    pub fn wrap_row(self, row: &mut [i32]) {
        if self.0 == i32::BITS {
            return;
        }
        let unused = i32::BITS - self.0;
        for x in row {
            *x = (*x << unused) >> unused;
        }
    }

    /// Whether no sum of `terms` products of two `i8` on top of an `i8` bias can leave this width, so that
    /// truncation is the identity.
    ///
    /// The largest product is (-128)*(-128) = 2^14 and the smallest 127*(-128). At 20 bits that is true up to 31
    /// terms; with 32 the single extreme sum +2^19 wraps to -2^19.
    pub const fn never_wraps(self, terms: usize) -> bool {
        const LARGEST_PRODUCT: u64 = 1 << 14;
        const LARGEST_BIAS: u64 = 127;
        // The negative side (terms * 127 * 128 + 128 <= 2^(bits-1)) is never the tighter one.
        let limit = (1u64 << (self.0 - 1)) - 1;
        match (terms as u64).checked_mul(LARGEST_PRODUCT) {
            Some(sum) => sum.saturating_add(LARGEST_BIAS) <= limit,
            None => false,
        }
    }
}

/// One multiply-accumulate of a processing element: the low bits of `c + a * w`.
#[inline]
pub fn mac(c: i32, a: i8, w: i8, width: MeshWidth) -> i32 {
    width.wrap(c.wrapping_add(i32::from(a) * i32::from(w)))
}

/// What an output-stationary element hands down when it flips (`PE.scala`): its accumulator shifted right
/// with rounding, clipped to the array's width.
#[inline]
pub fn propagate(accumulator: i32, shift: u32, width: MeshWidth) -> i32 {
    width.saturate(rounding_shift(accumulator, shift))
}

/// Adds the product of a row `a` (`k` elements) and a matrix `w` (`k` rows of `out.len()` elements, row-major) to `out`.
///
/// The sums wrap at 32 bits; follow with [`MeshWidth::wrap_row`] unless [`MeshWidth::never_wraps`].
///
/// # Panics
/// If `w.len() != a.len() * out.len()`.
pub fn mac_row(a: &[i8], w: &[i8], out: &mut [i32]) {
    let columns = out.len();
    assert_eq!(w.len(), a.len() * columns, "shape of the weight matrix");
    // With the width known the sums of the usual arrays stay in vector registers, twice as fast as the general loop.
    match columns {
        0 => {}
        4 => mac_row_of_width::<4>(a, w, out),
        8 => mac_row_of_width::<8>(a, w, out),
        16 => mac_row_of_width::<16>(a, w, out),
        32 => mac_row_of_width::<32>(a, w, out),
        _ => {
            for (&x, row) in a.iter().zip(w.chunks_exact(columns)) {
                add_products(out, x, row);
            }
        }
    }
}

/// [`mac_row`] for rows of `N` columns.
fn mac_row_of_width<const N: usize>(a: &[i8], w: &[i8], out: &mut [i32]) {
    let mut sums = [0; N];
    sums.copy_from_slice(out);
    for (&x, row) in a.iter().zip(w.as_chunks::<N>().0) {
        add_products(&mut sums, x, row);
    }
    out.copy_from_slice(&sums);
}

/// `sums += a * row`, element by element. A product of two `i8` fits 16 bits.
#[inline(always)]
fn add_products(sums: &mut [i32], a: i8, row: &[i8]) {
    for (sum, &w) in sums.iter_mut().zip(row) {
        *sum = sum.wrapping_add(i32::from(i16::from(a) * i16::from(w)));
    }
}

/// `out += a * w` for row-major `a` (I x K), `w` (K x J), `out` (I x J).
///
/// The sums wrap at 32 bits; follow with [`MeshWidth::wrap_row`] unless [`MeshWidth::never_wraps`].
///
/// # Panics
/// If a slice's length does not fit the shape `[i, k, j]`.
pub fn matmul_tile(a: &[i8], w: &[i8], out: &mut [i32], [i, k, j]: [usize; 3]) {
    assert_eq!(a.len(), i * k, "shape of the left matrix");
    assert_eq!(w.len(), k * j, "shape of the weight matrix");
    assert_eq!(out.len(), i * j, "shape of the result");
    if k == 0 || j == 0 {
        return;
    }
    for (a, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(j)) {
        mac_row(a, w, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_bits_hold_31_extreme_products_and_wrap_on_the_32nd() {
        let width = MeshWidth::DEFAULT;
        let sum = |terms| (0..terms).fold(0, |c, _| mac(c, -128, -128, width));
        assert!(width.never_wraps(31) && !width.never_wraps(32));
        assert_eq!(sum(31), 31 << 14);
        assert_eq!(sum(32), -(1 << 19));
    }

    #[test]
    fn no_width_outside_1_to_32_exists() {
        assert_eq!(MeshWidth::new(0), None);
        assert_eq!(MeshWidth::new(33), None);
        assert_eq!(MeshWidth::new(32).map(MeshWidth::bits), Some(32));
    }

    #[test]
    fn a_flipping_element_shifts_with_rounding_then_clips() {
        let width = MeshWidth::DEFAULT;
        assert_eq!(propagate(11, 2, width), 3);
        assert_eq!(propagate(1 << 20, 0, width), (1 << 19) - 1);
        assert_eq!(propagate(-(1 << 20), 1, width), -(1 << 19));
    }
}
