//! The berkeley-hardfloat blocks Gemmini instantiates, with their rounding modes.
//!
//! Floats cross this module's border as IEEE-754 single-precision bit patterns. Inside Gemmini they travel in
//! hardfloat's recoded format, which holds the same values plus an unused NaN payload.
//!
//! | Gemmini's use | block | rounding |
//! |---|---|---|
//! | accumulator and load scale, statistics | `INToRecFN` to float(8,24) | nearest even |
//! | accumulator and load scale | `MulAddRecFN` with addend +0, `RecFNToIN` | nearest even |
//! | `MulPipe` (inverse times scale) | `MulRecFN` | nearest even |
//! | 1/stddev, 127/sum | `DivSqrtRecFN_small` on float(8,24) | nearest even |
//! | sum/count | `DivSqrtRecFN_small` on float(6,32), `RecFNToIN` | toward zero (`round_minMag`) |
//!
//! Tininess is detected after rounding everywhere; that choice moves only the underflow flag, which Gemmini does not connect.

/// Bit pattern of every NaN hardfloat produces: positive, quiet, empty payload.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// Bit pattern of 1.0.
pub const ONE: u32 = 0x3f80_0000;

/// `INToRecFN(32, 8, 24)`: a signed integer to float, nearest even.
#[inline]
pub fn in_to_rec_fn(x: i32) -> u32 {
    (x as f32).to_bits()
}

/// `MulRecFN(8, 24)`: product, nearest even, subnormals kept, NaN canonical.
#[inline]
pub fn mul_rec_fn(a: u32, b: u32) -> u32 {
    canonical(f32::from_bits(a) * f32::from_bits(b))
}

/// `DivSqrtRecFN_small(8, 24)`: quotient, nearest even, NaN canonical.
#[inline]
pub fn div_rec_fn(a: u32, b: u32) -> u32 {
    canonical(f32::from_bits(a) / f32::from_bits(b))
}

/// `RecFNToIN(8, 24, 32)` with a signed result: nearest even; out of range and infinite values saturate; NaN gives the largest integer.
#[inline]
pub fn rec_fn_to_in(x: u32) -> i32 {
    let x = f32::from_bits(x);
    if x.is_nan() {
        return i32::MAX;
    }
    // `as` saturates, like excOut of RecFNToIN.
    x.round_ties_even() as i32
}

#[inline]
fn canonical(x: f32) -> u32 {
    if x.is_nan() { CANONICAL_NAN } else { x.to_bits() }
}

/// Significand bits of single precision, the leading one included.
pub const FLOAT32_SIG_WIDTH: u32 = 24;

/// Cycles from the start of a division (the cycle in which the divider takes its operands) to its result being
/// valid: `DivSqrtRecFN_small` with `divSqrtOpt_twoBitsPerCycle`, which Gemmini sets on all its dividers.
///
/// `special` says that an operand is zero, infinite or NaN: the answer is then known at once. 14 cycles for
/// single precision, 18 for the 32-bit significand of sum/count, 1 if special.
pub fn divider_cycles(sig_width: u32, special: bool) -> u32 {
    if special {
        return 1;
    }
    // cycleNum is loaded with sig_width + 2, falls by two while it is 3 or more and by one from 2; the result is valid when it is 1.
    1 + (sig_width + 2) / 2
}

/// Whether a single-precision operand makes the divider answer at once: zero, infinity or NaN.
pub fn is_special(x: u32) -> bool {
    let magnitude = x & !(1 << 31);
    magnitude == 0 || magnitude >= f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFINITY: u32 = 0x7f80_0000;
    const NEGATIVE: u32 = 1 << 31;

    #[test]
    fn every_nan_result_is_the_canonical_one() {
        let payload = 0xffab_cdef;
        for nan in [
            mul_rec_fn(payload, ONE),
            mul_rec_fn(0, INFINITY | NEGATIVE),
            div_rec_fn(NEGATIVE, 0),
            div_rec_fn(INFINITY, INFINITY),
            div_rec_fn(ONE, payload),
        ] {
            assert_eq!(nan, CANONICAL_NAN);
        }
    }

    #[test]
    fn subnormal_products_are_kept() {
        let smallest_normal = 0x0080_0000;
        assert_eq!(mul_rec_fn(smallest_normal, 0x3f00_0000), 0x0040_0000);
    }

    #[test]
    fn conversion_to_integer_saturates_and_takes_nan_for_the_largest() {
        assert_eq!(rec_fn_to_in(INFINITY), i32::MAX);
        assert_eq!(rec_fn_to_in(INFINITY | NEGATIVE), i32::MIN);
        assert_eq!(rec_fn_to_in(CANONICAL_NAN | NEGATIVE), i32::MAX);
        assert_eq!(rec_fn_to_in((2f32.powi(31)).to_bits()), i32::MAX);
        assert_eq!(rec_fn_to_in((-2f32.powi(31)).to_bits()), i32::MIN);
    }

    #[test]
    fn special_operands_are_zeros_infinities_and_nans() {
        for bits in [0, NEGATIVE, INFINITY, INFINITY | NEGATIVE, CANONICAL_NAN] {
            assert!(is_special(bits), "{bits:#x}");
        }
        for bits in [1, ONE, ONE | NEGATIVE, INFINITY - 1] {
            assert!(!is_special(bits), "{bits:#x}");
        }
    }
}
