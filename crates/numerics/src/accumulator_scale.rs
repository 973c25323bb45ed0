//! The read-out of an accumulator row: `AccumulatorScale.scala`.
//!
//! Activation on the 32-bit value, then scale, then clip to `i8`. All integer steps wrap at 32 bits.

use crate::scale::acc_scale_row;

/// Which body the function `AccumulatorScale.iexp` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IexpVariant {
    /// Gemmini commit 8c3f992: the exponential is commented out and the live body is the polynomial of [`igelu`];
    /// `qln2` and `qln2_inv` are ignored.
    GeluPolynomial,
    /// Released Gemmini (25809f78323a): the integer exponential of I-BERT.
    Exponential,
}

/// The exponential's four 32-bit constants, as set by the normalization configuration and the store configuration.
///
/// For a value `q` of scale `S` software sets `qln2 = ln2/S`, `qln2_inv = 2^16/qln2`, `qb = 1.353/S`, `qc = 0.344/(0.3585*S^2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IexpConstants {
    /// ln 2 in units of `S`.
    pub qln2: i32,
    /// `2^16 / qln2`.
    pub qln2_inv: i32,
    /// Shift of the polynomial (`igelu_qb` on the wires).
    pub qb: i32,
    /// Constant term of the polynomial (`igelu_qc` on the wires).
    pub qc: i32,
}

/// Integer GELU, `q * (sign(q) * ((min(|q|, -qb) + qb)^2 + qc) + qc)` with every step wrapping at 32 bits and `sign(0) = 1`.
#[inline]
pub fn igelu(q: i32, qb: i32, qc: i32) -> i32 {
    let magnitude = q.wrapping_abs();
    let shifted = magnitude.min(qb.wrapping_neg()).wrapping_add(qb);
    let polynomial = shifted.wrapping_mul(shifted).wrapping_add(qc);
    let erf = if q < 0 { polynomial.wrapping_neg() } else { polynomial };
    q.wrapping_mul(erf.wrapping_add(qc))
}

/// Integer exponential of `q` (a value minus the row's maximum, so not positive in normal use), in the chosen body.
#[inline]
pub fn iexp(q: i32, constants: &IexpConstants, variant: IexpVariant) -> i32 {
    match variant {
        IexpVariant::GeluPolynomial => igelu(q, constants.qb, constants.qc),
        IexpVariant::Exponential => exponential(q, constants),
    }
}

/// `exp(q) = ((p + qb)^2 + qc) >> z` with `z = (-q * qln2_inv) >> 16` and `p = q + z * qln2`.
#[inline]
fn exponential(q: i32, constants: &IexpConstants) -> i32 {
    let &IexpConstants { qln2, qln2_inv, qb, qc } = constants;
    // The product has 64 bits and is shifted as an unsigned number; the low 32 bits of the result do not depend on that.
    let product = i64::from(q.wrapping_neg()) * i64::from(qln2_inv);
    let z = (product >> 16) as i32;
    let p = q.wrapping_add(z.wrapping_mul(qln2));
    let shifted = p.wrapping_add(qb);
    let polynomial = shifted.wrapping_mul(shifted).wrapping_add(qc);
    // The hardware looks only at bits 5 to 15 of z to saturate it to 32; bits above them shift everything out as well.
    // So any z outside 0..32 gives 0.
    (polynomial as u32).checked_shr(z as u32).unwrap_or(0) as i32
}

/// What a read of an accumulator row does to it before it is an `i8` row, with the operands it takes from the
/// command and from the normalizer. Scales are bit patterns of single-precision floats.
///
/// [`Readout::LayerNorm`], [`Readout::Igelu`] and [`Readout::Softmax`] exist only in builds with `has_normalizations`; without it the
/// hardware passes the value on unchanged ([`Readout::None`]). [`Readout::Relu`] needs `has_nonlinear_activations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readout {
    /// `scale(x)`.
    None {
        /// The accumulator scale.
        scale: u32,
    },
    /// `scale(max(x, 0))`.
    Relu {
        /// The accumulator scale.
        scale: u32,
    },
    /// `scale(x - mean)` with the inverse deviation as the scale.
    LayerNorm {
        /// The normalizer's `mean`.
        mean: i32,
        /// The normalizer's `inv_stddev`, already multiplied by the accumulator scale.
        inv_stddev: u32,
    },
    /// `scale(igelu(x))`.
    Igelu {
        /// The accumulator scale.
        scale: u32,
        /// See [`igelu`].
        qb: i32,
        /// See [`igelu`].
        qc: i32,
    },
    /// `scale(iexp(x - max))` with the inverse sum as the scale.
    Softmax {
        /// The normalizer's `max`.
        max: i32,
        /// The normalizer's `inv_sum_exp`, already multiplied by the accumulator scale.
        inv_sum_exp: u32,
        /// See [`iexp`].
        constants: IexpConstants,
        /// See [`iexp`].
        variant: IexpVariant,
    },
}

/// The value as it is.
impl Default for Readout {
    fn default() -> Self {
        Self::None { scale: crate::hardfloat::ONE }
    }
}

impl Readout {
    /// The value in front of the scale function: the activation of one element.
    #[inline]
    pub fn activate(&self, x: i32) -> i32 {
        match *self {
            Self::None { .. } => x,
            Self::Relu { .. } => x.max(0),
            Self::LayerNorm { mean, .. } => x.wrapping_sub(mean),
            Self::Igelu { qb, qc, .. } => igelu(x, qb, qc),
            Self::Softmax { max, ref constants, variant, .. } => iexp(x.wrapping_sub(max), constants, variant),
        }
    }

    /// The bit pattern the scale function multiplies by.
    #[inline]
    pub fn factor(&self) -> u32 {
        match *self {
            Self::None { scale } | Self::Relu { scale } | Self::Igelu { scale, .. } => scale,
            Self::LayerNorm { inv_stddev, .. } => inv_stddev,
            Self::Softmax { inv_sum_exp, .. } => inv_sum_exp,
        }
    }
}

/// Reads an accumulator row at the scratchpad's width. Both slices have the same length.
///
/// A full-width read (`acc_read_full_width`) bypasses all of this: it returns the raw 32-bit row.
pub fn read_row(row: &[i32], readout: &Readout, out: &mut [i8]) {
    debug_assert_eq!(row.len(), out.len());
    let factor = readout.factor();
    if let Readout::None { .. } = readout {
        return acc_scale_row(row, factor, out);
    }
    // Activated in pieces, so that the scale still runs over a slice.
    const PIECE: usize = 64;
    let mut activated = [0; PIECE];
    for (xs, ys) in row.chunks(PIECE).zip(out.chunks_mut(PIECE)) {
        let activated = &mut activated[..xs.len()];
        for (a, &x) in activated.iter_mut().zip(xs) {
            *a = readout.activate(x);
        }
        acc_scale_row(activated, factor, ys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants software derives for values of scale `s`.
    fn constants(s: f64) -> IexpConstants {
        let qln2 = (std::f64::consts::LN_2 / s) as i32;
        IexpConstants { qln2, qln2_inv: 65_536 / qln2, qb: (1.353 / s) as i32, qc: (0.344 / (0.3585 * s * s)) as i32 }
    }

    #[test]
    fn the_released_body_is_an_exponential() {
        let s = 0.001;
        let c = constants(s);
        for q in (-8000..=0).step_by(13) {
            let value = f64::from(iexp(q, &c, IexpVariant::Exponential)) * 0.3585 * s * s;
            let exact = (f64::from(q) * s).exp();
            assert!((value - exact).abs() < 0.01, "exp({q} * {s}): {value}, not {exact}");
        }
    }

    #[test]
    fn a_far_negative_value_has_exponential_zero() {
        let c = constants(0.05);
        assert_eq!(iexp(-13 * 32, &c, IexpVariant::Exponential), 0);
        assert_eq!(iexp(-1_000_000, &c, IexpVariant::Exponential), 0);
    }

    #[test]
    fn igelu_approximates_gelu() {
        let s = 0.02;
        let (a, b) = (-0.2888, -1.769);
        let qb = (b * std::f64::consts::SQRT_2 / s) as i32;
        let qc = (1.0 / (a * s * s / 2.0)) as i32;
        for q in -200..=200 {
            let x = f64::from(q) * s;
            let value = f64::from(igelu(q, qb, qc)) * s * a * s * s / 4.0;
            // GELU by its tanh form, itself within 0.001 of the definition.
            let exact = 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh());
            assert!((value - exact).abs() < 0.03, "gelu({x}): {value}, not {exact}");
        }
    }

    #[test]
    fn rows_longer_than_a_piece_are_read_whole() {
        let row: Vec<i32> = (0..200).map(|x| x - 100).collect();
        let mut out = [0; 200];
        read_row(&row, &Readout::Relu { scale: crate::hardfloat::ONE }, &mut out);
        assert!(row.iter().zip(out).all(|(&x, y)| i32::from(y) == x.max(0)));
    }
}
