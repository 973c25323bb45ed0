//! Scaling by a single-precision factor: `acc_scale_args` and `mvin_scale_args` of `Configs.scala`.
//!
//! Three roundings, each to nearest even: the integer to float (exact for `i8`), the product, the product back to an integer.
//! Out-of-range products and infinities saturate; a NaN gives the largest integer.

use crate::hardfloat::{in_to_rec_fn, mul_rec_fn, rec_fn_to_in};

/// The accumulator's scale function: `x` times the float with bit pattern `scale`, as a 32-bit integer before
/// the clip to the scratchpad's width.
#[inline]
pub fn acc_scale(x: i32, scale: u32) -> i32 {
    rec_fn_to_in(mul_rec_fn(in_to_rec_fn(x), scale))
}

/// [`acc_scale`] followed by the clip to `i8`.
#[inline]
pub fn acc_scale_i8(x: i32, scale: u32) -> i8 {
    scale_to_i8(x as f32, f32::from_bits(scale))
}

/// The load's scale function: `x` times the float with bit pattern `scale`, saturated to `i8`.
#[inline]
pub fn mvin_scale_i8(x: i8, scale: u32) -> i8 {
    scale_to_i8(f32::from(x), f32::from_bits(scale))
}

/// [`acc_scale_i8`] over a row. Both slices have the same length.
pub fn acc_scale_row(row: &[i32], scale: u32, out: &mut [i8]) {
    debug_assert_eq!(row.len(), out.len());
    let scale = f32::from_bits(scale);
    for (o, &x) in out.iter_mut().zip(row) {
        *o = scale_to_i8(x as f32, scale);
    }
}

/// [`mvin_scale_i8`] over a row, in place.
pub fn mvin_scale_row(row: &mut [i8], scale: u32) {
    let scale = f32::from_bits(scale);
    for x in row {
        *x = scale_to_i8(f32::from(*x), scale);
    }
}

/// Rounds `x * scale` to nearest even and saturates to `i8`, without a branch or a call, so that loops vectorise.
#[inline(always)]
fn scale_to_i8(x: f32, scale: f32) -> i8 {
    // 1.5 * 2^23: the sum below has a unit in the last place of exactly 1, so the addition does the rounding, and
    // its low mantissa bits are the two's complement of the rounded value.
    const ROUND_TO_INTEGER: f32 = 12_582_912.0;
    let product = x * scale;
    // Clipping before rounding equals clipping after it, since the bounds are integers. The comparison is false for a NaN,
    // which therefore becomes the largest value.
    let below = if product < 127.0 { product } else { 127.0 };
    let clipped = if below > -128.0 { below } else { -128.0 };
    (clipped + ROUND_TO_INTEGER).to_bits() as i8
}
