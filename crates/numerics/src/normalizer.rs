//! The statistics of a row of accumulator values: `Normalizer.scala`.
//!
//! The free functions are the unit's combinational pieces, for a simulator that runs the state machine; [`Statistics`] is one entry's registers
//! with the pieces applied command by command, for a model without time.
//!
//! ```text
//! LayerNorm:  SUM* MEAN  VARIANCE* INV_STDDEV  RESET*      out = scale(x - mean,      inv_stddev)
//! softmax:    MAX*       SUM_EXP*  INV_SUM_EXP RESET*      out = scale(iexp(x - max), inv_sum_exp)
//! ```
//! (`*`: rows before the last of a logical row carry the accumulating command, the last the finishing one.)

use crate::accumulator_scale::{IexpConstants, IexpVariant, iexp};
use crate::hardfloat::{FLOAT32_SIG_WIDTH, div_rec_fn, divider_cycles, in_to_rec_fn, mul_rec_fn};

/// Width of the statistics registers and of `accType`, in bits.
const ACC_WIDTH: u32 = i32::BITS;

/// What softmax results are multiplied by: the largest `i8`.
const SOFTMAX_MAXIMUM: i32 = 127;

/// Cycles of `MulPipe`, from the operands being taken to the product being valid.
pub const MUL_PIPE_CYCLES: u32 = 2;

/// Sum tree of `AccumulationLanes` for SUM and MEAN, wrapping at 32 bits. `row` holds the row's valid elements only.
pub fn row_sum(row: &[i32]) -> i32 {
    row.iter().fold(0, |sum, &x| sum.wrapping_add(x))
}

/// Sum tree for VARIANCE and INV_STDDEV: squared distances from `mean`; differences, squares and sum wrap at 32 bits.
pub fn row_sum_of_squares(row: &[i32], mean: i32) -> i32 {
    row.iter().fold(0, |sum, &x| {
        let distance = x.wrapping_sub(mean);
        sum.wrapping_add(distance.wrapping_mul(distance))
    })
}

/// Sum tree for SUM_EXP and INV_SUM_EXP: exponentials of the distances from `max`, wrapping at 32 bits.
pub fn row_sum_of_exponentials(row: &[i32], max: i32, constants: &IexpConstants, variant: IexpVariant) -> i32 {
    row.iter().fold(0, |sum, &x| sum.wrapping_add(iexp(x.wrapping_sub(max), constants, variant)))
}

/// Maximum tree of `MaxLanes`: `i32::MIN` for an empty row.
pub fn row_max(row: &[i32]) -> i32 {
    row.iter().copied().max().unwrap_or(i32::MIN)
}

/// The integer divider, used for the mean and for the variance: `sum / count`, truncated toward zero.
///
/// The hardware divides in a float format with 32 significand bits, rounding toward zero twice, which is
/// exact truncation. Division by zero is that format's infinity or NaN converted back: the largest integer for a sum
/// of zero or more, the smallest for a negative one.
pub fn divide(sum: i32, count: u16) -> i32 {
    match (count, sum) {
        (0, 0..) => i32::MAX,
        (0, _) => i32::MIN,
        _ => sum / i32::from(count),
    }
}

/// Whether [`divide`] is answered at once: an operand is zero.
pub fn divides_zero(sum: i32, count: u16) -> bool {
    sum == 0 || count == 0
}

/// Cycles from [`divide`] being started to its result being valid: 18, or 1 if an operand is zero ([`divides_zero`]).
pub fn divide_cycles(zero: bool) -> u32 {
    divider_cycles(ACC_WIDTH, zero)
}

/// `IntSqrt` and the guard behind it: the floor of the square root of the variance's bits read as unsigned, and 1 for 0.
///
/// The root has half the variance's bits, and its cast to the statistics register's signed type (`asTypeOf`)
/// extends the sign: a root of 32768 or more becomes negative.
pub fn stddev(variance: i32) -> i32 {
    let root = (variance as u32).isqrt().max(1);
    i32::from(root as u16 as i16)
}

/// Cycles from the square root being started to its result being valid: one step for two bits of the
/// operand and one to load it, 17, whatever the operand.
pub const STDDEV_CYCLES: u32 = ACC_WIDTH.div_ceil(2) + 1;

/// The reciprocal unit: bit pattern of `1.0 / stddev`, nearest even.
pub fn reciprocal(stddev: i32) -> u32 {
    div_rec_fn(in_to_rec_fn(1), in_to_rec_fn(stddev))
}

/// Cycles from [`reciprocal`] being started to its result being valid: 14 (1 for a zero operand, which [`stddev`] never gives).
pub fn reciprocal_cycles() -> u32 {
    divider_cycles(FLOAT32_SIG_WIDTH, false)
}

/// The softmax divider: bit pattern of `127.0 / sum`, both conversions and the quotient nearest even. A sum of zero gives infinity.
pub fn reciprocal_of_sum(sum: i32) -> u32 {
    div_rec_fn(in_to_rec_fn(SOFTMAX_MAXIMUM), in_to_rec_fn(sum))
}

/// Cycles from [`reciprocal_of_sum`] being started to its result being valid: 14, or 1 for a sum of zero.
pub fn reciprocal_of_sum_cycles(zero: bool) -> u32 {
    divider_cycles(FLOAT32_SIG_WIDTH, zero)
}

/// `MulPipe`: an inverse times the accumulator scale, both bit patterns, nearest even.
pub fn scale_inverse(inverse: u32, scale: u32) -> u32 {
    mul_rec_fn(inverse, scale)
}

/// The registers of one statistics entry, without its state machine: what each normalization command leaves in them
/// once it is done.
///
/// `count` has 16 bits and wraps; every row adds its length to it, RESET and MAX rows included. `max` is overwritten by MAX rows
/// and never cleared. `sum`, `count` and `running_max` are cleared by MEAN, INV_STDDEV and RESET, **not** by INV_SUM_EXP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Running sum of elements, squares or exponentials.
    pub sum: i32,
    /// Elements seen since the last clear.
    pub count: u16,
    /// Largest element since the last clear.
    pub running_max: i32,
    /// The maximum softmax subtracts.
    pub max: i32,
    /// The mean LayerNorm subtracts.
    pub mean: i32,
    /// Bit pattern of the scaled inverse deviation (on the way there the hardware keeps variance and deviation in it).
    pub inv_stddev: u32,
    /// Bit pattern of the scaled inverse sum of exponentials.
    pub inv_sum_exp: u32,
}

impl Default for Statistics {
    /// The registers after reset.
    fn default() -> Self {
        Self { sum: 0, count: 0, running_max: i32::MIN, max: i32::MIN, mean: 0, inv_stddev: 0, inv_sum_exp: 0 }
    }
}

impl Statistics {
    /// RESET: the row goes out normalized, and the running registers are cleared.
    pub fn reset(&mut self) {
        self.clear_running();
    }

    /// SUM: adds the row's elements.
    pub fn add_sum(&mut self, row: &[i32]) {
        self.add(row.len(), row_sum(row));
    }

    /// MEAN: SUM, then the mean of all elements since the last clear. Whether the division has a zero operand ([`divides_zero`]).
    pub fn finish_mean(&mut self, row: &[i32]) -> bool {
        self.add_sum(row);
        let zero = divides_zero(self.sum, self.count);
        self.mean = divide(self.sum, self.count);
        self.clear_running();
        zero
    }

    /// VARIANCE: adds the squared distances from the mean.
    pub fn add_variance(&mut self, row: &[i32]) {
        self.add(row.len(), row_sum_of_squares(row, self.mean));
    }

    /// INV_STDDEV: VARIANCE, then the inverse deviation times the row's accumulator scale (a bit pattern). Whether the division that
    /// gives the variance has a zero operand.
    pub fn finish_inv_stddev(&mut self, row: &[i32], scale: u32) -> bool {
        self.add_variance(row);
        let zero = divides_zero(self.sum, self.count);
        let variance = divide(self.sum, self.count);
        self.inv_stddev = scale_inverse(reciprocal(stddev(variance)), scale);
        self.clear_running();
        zero
    }

    /// MAX: takes the row's elements into the maximum.
    pub fn add_max(&mut self, row: &[i32]) {
        self.add(row.len(), 0);
        self.running_max = self.running_max.max(row_max(row));
        self.max = self.running_max;
    }

    /// SUM_EXP: adds the exponentials of the distances from the maximum.
    pub fn add_sum_exp(&mut self, row: &[i32], constants: &IexpConstants, variant: IexpVariant) {
        let sum = row_sum_of_exponentials(row, self.max, constants, variant);
        self.add(row.len(), sum);
    }

    /// INV_SUM_EXP: SUM_EXP, then 127 over the sum times the row's accumulator scale (a bit pattern). Whether the sum is zero.
    pub fn finish_inv_sum_exp(
        &mut self,
        row: &[i32],
        constants: &IexpConstants,
        variant: IexpVariant,
        scale: u32,
    ) -> bool {
        self.add_sum_exp(row, constants, variant);
        self.inv_sum_exp = scale_inverse(reciprocal_of_sum(self.sum), scale);
        self.sum == 0
    }

    fn add(&mut self, len: usize, sum: i32) {
        self.count = self.count.wrapping_add(len as u16);
        self.sum = self.sum.wrapping_add(sum);
    }

    fn clear_running(&mut self) {
        self.sum = 0;
        self.count = 0;
        self.running_max = i32::MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_truncates_toward_zero() {
        assert_eq!(divide(-7, 2), -3);
        assert_eq!(divide(7, 2), 3);
        assert_eq!(divide(i32::MIN, 1), i32::MIN);
        assert_eq!(divide(i32::MIN, u16::MAX), -32_768);
    }

    #[test]
    fn division_by_a_zero_count_saturates() {
        assert_eq!(divide(1, 0), i32::MAX);
        assert_eq!(divide(0, 0), i32::MAX);
        assert_eq!(divide(-1, 0), i32::MIN);
    }

    #[test]
    fn units_take_their_cycles_and_answer_special_operands_at_once() {
        assert_eq!(divide_cycles(divides_zero(100, 16)), 18);
        assert_eq!(divide_cycles(divides_zero(0, 16)), 1);
        assert_eq!(divide_cycles(divides_zero(100, 0)), 1);
        assert_eq!(reciprocal_cycles(), 14);
        assert_eq!(reciprocal_of_sum_cycles(false), 14);
        assert_eq!(reciprocal_of_sum_cycles(true), 1);
        assert_eq!(STDDEV_CYCLES, 17);
    }

    #[test]
    fn the_root_of_a_variance_read_as_unsigned_is_a_signed_number_of_half_its_bits() {
        assert_eq!(stddev(0), 1);
        assert!((0..=u16::MAX).all(|root| stddev((u32::from(root) * u32::from(root)) as i32) != 0));
        assert_eq!(stddev(32_767 * 32_767), 32_767);
        assert_eq!(stddev(32_768 * 32_768), -32_768);
        assert_eq!(stddev(-1), -1);
    }

    #[test]
    fn a_zero_sum_of_exponentials_gives_infinity() {
        assert_eq!(reciprocal_of_sum(0), f32::INFINITY.to_bits());
    }

    #[test]
    fn the_maximum_survives_a_reset_and_the_running_one_does_not() {
        let mut statistics = Statistics::default();
        statistics.add_max(&[3, 9]);
        statistics.reset();
        assert_eq!((statistics.max, statistics.running_max), (9, i32::MIN));
        statistics.add_max(&[-4]);
        assert_eq!(statistics.max, -4);
    }

    #[test]
    fn the_sum_of_exponentials_is_cleared_only_by_reset() {
        let variant = IexpVariant::GeluPolynomial;
        let constants = IexpConstants { qc: 1, ..IexpConstants::default() };
        let mut statistics = Statistics::default();
        statistics.add_max(&[0]);
        statistics.finish_inv_sum_exp(&[2, 3], &constants, variant, crate::hardfloat::ONE);
        // Two elements of the polynomial 2q, and one element counted by the MAX row.
        assert_eq!((statistics.sum, statistics.count), (10, 3));
        statistics.reset();
        assert_eq!((statistics.sum, statistics.count), (0, 0));
    }

    #[test]
    fn the_count_wraps_at_16_bits() {
        let mut statistics = Statistics { count: u16::MAX, ..Statistics::default() };
        statistics.add_sum(&[1, 1]);
        assert_eq!(statistics.count, 1);
    }
}
