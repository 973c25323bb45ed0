//! How far a quantised tensor is from its float32 original.

use serde::{Deserialize, Serialize};

/// Distance between a tensor and its reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Cosine of the angle between the two, over all elements.
    pub cosine: f64,
    /// Largest absolute difference.
    pub max_error: f64,
    /// Signal to quantisation noise ratio in decibels; infinite if equal.
    pub sqnr_db: f64,
}

impl Quality {
    /// Compares `value` with `reference`, element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(value: &[f32], reference: &[f32]) -> Self {
        assert_eq!(value.len(), reference.len(), "tensors to compare have one length");
        let mut sum = QualitySum::default();
        sum.add(value, reference);
        sum.quality()
    }
}

/// A comparison that goes on over several tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QualitySum {
    signal: f64,
    noise: f64,
    value: f64,
    product: f64,
    max_error: f64,
}

impl QualitySum {
    /// Adds the elements of `value` and `reference`, as many as both have.
    pub fn add(&mut self, value: &[f32], reference: &[f32]) {
        for (&v, &r) in value.iter().zip(reference) {
            let (v, r) = (f64::from(v), f64::from(r));
            self.signal += r * r;
            self.value += v * v;
            self.product += v * r;
            self.noise += (v - r).powi(2);
            self.max_error = self.max_error.max((v - r).abs());
        }
    }

    /// The comparison so far.
    pub fn quality(&self) -> Quality {
        let norms = (self.value * self.signal).sqrt();
        Quality {
            cosine: if norms == 0.0 { 0.0 } else { self.product / norms },
            max_error: self.max_error,
            sqnr_db: 10.0 * (self.signal / self.noise).log10(),
        }
    }
}

/// Cosine of the angle between two vectors; 0 if one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum() };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms == 0.0 { 0.0 } else { dot(a, b) / norms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_a_known_difference() {
        let q = Quality::of(&[3.0, 4.0], &[3.0, 5.0]);
        assert!((q.max_error - 1.0).abs() < 1e-12);
        assert!((q.sqnr_db - 10.0 * 34f64.log10()).abs() < 1e-9);
        assert!((q.cosine - 29.0 / (5.0 * 34f64.sqrt())).abs() < 1e-9);
    }

    #[test]
    fn equal_tensors_have_infinite_ratio() {
        assert!(Quality::of(&[1.0], &[1.0]).sqnr_db.is_infinite());
    }
}
