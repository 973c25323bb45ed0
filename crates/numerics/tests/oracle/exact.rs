//! Exact numbers, rounded once at the end by comparing remainders.

/// The low 32 bits, signed.
pub fn low32(x: i128) -> i32 {
    x.rem_euclid(1 << 32) as u32 as i32
}

/// `numerator / denominator` to the nearest integer, ties to even. The denominator is positive.
pub fn nearest_even(numerator: i128, denominator: i128) -> i128 {
    let floor = numerator.div_euclid(denominator);
    let twice = 2 * numerator.rem_euclid(denominator);
    let up = twice > denominator || (twice == denominator && floor % 2 != 0);
    floor + i128::from(up)
}

/// `(-1)^negative * numerator / denominator * 2^exponent`, with a numerator below 2^48 and a denominator below 2^32.
#[derive(Clone, Debug)]
pub struct Exact {
    negative: bool,
    numerator: u128,
    denominator: u128,
    exponent: i32,
}

fn bit_length(x: u128) -> i32 {
    (u128::BITS - x.leading_zeros()) as i32
}

impl Exact {
    pub fn from_integer(x: i32) -> Self {
        Self { negative: x < 0, numerator: u128::from(x.unsigned_abs()), denominator: 1, exponent: 0 }
    }

    /// The value of a single-precision bit pattern, or `None` for infinities and NaNs.
    pub fn from_float(bits: u32) -> Option<Self> {
        let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
        let (numerator, exponent) = match exponent {
            0xff => return None,
            0 => (fraction, -149),
            _ => (fraction | 1 << 23, exponent as i32 - 150),
        };
        Some(Self { negative: bits >> 31 == 1, numerator: numerator.into(), denominator: 1, exponent })
    }

    pub fn is_zero(&self) -> bool {
        self.numerator == 0
    }

    pub fn times(&self, other: &Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            numerator: self.numerator * other.numerator,
            denominator: self.denominator * other.denominator,
            exponent: self.exponent + other.exponent,
        }
    }

    pub fn over(&self, other: &Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            numerator: self.numerator * other.denominator,
            denominator: self.denominator * other.numerator,
            exponent: self.exponent - other.exponent,
        }
    }

    /// The magnitude in units of `2^unit` as a fraction.
    fn in_units(&self, unit: i32) -> (i128, i128) {
        // Beyond 2^-90 units the value is far below half a unit, however far.
        let shift = (self.exponent - unit).max(-90);
        let (mut numerator, mut denominator) = (self.numerator, self.denominator);
        if shift >= 0 {
            numerator <<= shift;
        } else {
            denominator <<= -shift;
        }
        (numerator as i128, denominator as i128)
    }

    /// The bit pattern of the nearest single-precision float, ties to even.
    pub fn to_float(&self) -> u32 {
        let sign = u32::from(self.negative) << 31;
        if self.is_zero() {
            return sign;
        }
        // The unit in the last place: 24 significant bits, but never below that of the subnormals.
        let magnitude = bit_length(self.numerator) - bit_length(self.denominator) + self.exponent;
        let mut unit = (magnitude - 24).max(-149);
        let (numerator, denominator) = self.in_units(unit);
        if numerator / denominator >= 1 << 24 {
            unit += 1;
        }
        let (numerator, denominator) = self.in_units(unit);
        let mut significand = nearest_even(numerator, denominator) as u32;
        if significand == 1 << 24 {
            significand = 1 << 23;
            unit += 1;
        }
        if unit > 104 {
            return sign | 0x7f80_0000;
        }
        if significand < 1 << 23 {
            assert_eq!(unit, -149);
            return sign | significand;
        }
        sign | ((unit + 150) as u32) << 23 | (significand & 0x7f_ffff)
    }

    /// The nearest integer, ties to even; magnitudes from 2^63 on are cut to that.
    pub fn to_integer(&self) -> i128 {
        let magnitude = if bit_length(self.numerator) + self.exponent > 64 {
            1 << 63
        } else {
            let (numerator, denominator) = self.in_units(0);
            nearest_even(numerator, denominator)
        };
        if self.negative { -magnitude } else { magnitude }
    }
}
