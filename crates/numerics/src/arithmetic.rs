//! Fixed-width signed integers: `SIntArithmetic` of `Arithmetic.scala`.
//!
//! A hardware value of `width` bits is held sign-extended in an `i32`. Widths are 1..=32.

/// Keeps the low `width` bits of `x` as a signed number (`withWidthOf` to a narrower type).
///
/// # Panics
/// In debug builds, if `width` is not in 1..=32.
#[inline]
pub fn wrap(x: i32, width: u32) -> i32 {
    debug_assert!((1..=i32::BITS).contains(&width));
    let unused = i32::BITS - width;
    (x << unused) >> unused
}

/// Largest signed number of `width` bits, `2^(width-1) - 1`.
///
/// # Panics
/// In debug builds, if `width` is not in 1..=32.
#[inline]
pub fn max_of_width(width: u32) -> i32 {
    debug_assert!((1..=i32::BITS).contains(&width));
    i32::MAX >> (i32::BITS - width)
}

/// Smallest signed number of `width` bits, `-2^(width-1)`.
///
/// # Panics
/// In debug builds, if `width` is not in 1..=32.
#[inline]
pub fn min_of_width(width: u32) -> i32 {
    !max_of_width(width)
}

/// Clips `x` to the signed range of `width` bits (`clippedToWidthOf`).
///
/// # Panics
/// In debug builds, if `width` is not in 1..=32.
#[inline]
pub fn saturate(x: i32, width: u32) -> i32 {
    x.clamp(min_of_width(width), max_of_width(width))
}

/// Clips `x` to `i8`: an accumulator or array value written to the scratchpad.
#[inline]
pub fn saturate_i8(x: i32) -> i8 {
    x.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

/// Arithmetic right shift that rounds to nearest, ties to even (`>>` of `Arithmetic.scala`; its comment
/// "rounds away from 0" is wrong).
///
/// `n` is the five-bit shift of `PEControl` (0..=31); only its low five bits are used. The result cannot overflow.
#[inline]
pub fn rounding_shift(x: i32, n: u32) -> i32 {
    let n = n % i32::BITS;
    if n == 0 {
        return x;
    }
    let half = (x >> (n - 1)) & 1;
    let below_half = i32::from(x & ((1 << (n - 1)) - 1) != 0);
    let quotient = x >> n;
    quotient + (half & (below_half | (quotient & 1)))
}

/// `max(x, 0)`.
#[inline]
pub fn relu(x: i32) -> i32 {
    x.max(0)
}

/// A result row on its way from the array to the scratchpad (`ExecuteController.scala`): clip to `i8`,
/// then ReLU if `relu`. Rows have the same length.
pub fn write_scratchpad_row(row: &[i32], relu: bool, out: &mut [i8]) {
    debug_assert_eq!(row.len(), out.len());
    let floor = if relu { 0 } else { i8::MIN.into() };
    for (o, &x) in out.iter_mut().zip(row) {
        *o = x.clamp(floor, i8::MAX.into()) as i8;
    }
}

/// Adds `row` into an accumulator row, wrapping at 32 bits (`AccumulatorMem.scala`'s adder).
pub fn accumulate_row(accumulator: &mut [i32], row: &[i32]) {
    debug_assert_eq!(accumulator.len(), row.len());
    for (a, &x) in accumulator.iter_mut().zip(row) {
        *a = a.wrapping_add(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_shift_rounds_ties_to_even_and_not_away_from_zero() {
        let cases = [(5, 1, 2), (7, 1, 4), (-5, 1, -2), (-3, 1, -2), (6, 2, 2), (10, 2, 2), (11, 2, 3)];
        for (x, n, expected) in cases {
            assert_eq!(rounding_shift(x, n), expected, "{x} >> {n}");
        }
    }

    #[test]
    fn rounding_shift_of_the_extremes_does_not_overflow() {
        assert_eq!(rounding_shift(i32::MAX, 1), 1 << 30);
        assert_eq!(rounding_shift(i32::MIN, 1), -1 << 30);
        assert_eq!(rounding_shift(i32::MAX, 31), 1);
        assert_eq!(rounding_shift(i32::MIN, 31), -1);
        assert_eq!(rounding_shift(i32::MIN, 0), i32::MIN);
    }

    #[test]
    fn scratchpad_rows_are_clipped_before_relu() {
        let row = [-1000, -1, 0, 127, 128];
        let mut out = [0; 5];
        write_scratchpad_row(&row, false, &mut out);
        assert_eq!(out, [-128, -1, 0, 127, 127]);
        write_scratchpad_row(&row, true, &mut out);
        assert_eq!(out, [0, 0, 0, 127, 127]);
    }

    #[test]
    fn accumulation_wraps() {
        let mut row = [i32::MAX, 5];
        accumulate_row(&mut row, &[1, -7]);
        assert_eq!(row, [i32::MIN, -2]);
    }
}
