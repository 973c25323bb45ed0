//! Number formats: what int8 values stand for.

use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;

/// Largest magnitude of a quantised value; symmetric, so -128 is not used for weights and host inputs.
pub const INT8_MAX: f32 = 127.0;

/// What the integers of a tensor stand for: `real = scale[c] * q + offset[c]` in channel (column) c.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// One value a channel.
    pub scale: Vec<f32>,
    /// One value a channel.
    pub offset: Vec<f32>,
}

impl Encoding {
    /// An encoding without offsets.
    pub fn scaled(scale: Vec<f32>) -> Self {
        Self { offset: vec![0.0; scale.len()], scale }
    }

    /// The real values of a quantised matrix.
    ///
    /// # Panics
    /// If `q` has another number of columns.
    pub fn dequantise(&self, q: &Matrix<i8>) -> Matrix<f32> {
        assert_eq!(q.cols, self.scale.len(), "one scale a column");
        Matrix::from_fn(q.rows, q.cols, |r, c| self.scale[c] * f32::from(q.at(r, c)) + self.offset[c])
    }

    /// The nearest integers in [-127, 127]; 0 where the scale is 0.
    ///
    /// # Panics
    /// If `x` has another number of columns.
    pub fn quantise(&self, x: &Matrix<f32>) -> Matrix<i8> {
        assert_eq!(x.cols, self.scale.len(), "one scale a column");
        Matrix::from_fn(x.rows, x.cols, |r, c| match self.scale[c] {
            0.0 => 0,
            s => ((x.at(r, c) - self.offset[c]) / s).round_ties_even().clamp(-INT8_MAX, INT8_MAX) as i8,
        })
    }
}
