//! Synthetic weights: random numbers that a seed determines, on every machine and for good.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::float::{Dense, Norm};
use crate::matrix::Matrix;

/// The generator's state.
pub(crate) struct Random(SplitMix64);

impl Random {
    /// A generator; equal seeds give equal weights.
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Uniform in [-1, 1).
    fn uniform(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Uniform values with the given standard deviation.
    pub(crate) fn matrix(&mut self, rows: usize, cols: usize, deviation: f32) -> Matrix<f32> {
        let bound = deviation * 3f32.sqrt();
        Matrix::from_fn(rows, cols, |_, _| bound * self.uniform())
    }

    /// Weights that turn inputs of unit variance into outputs of standard deviation `gain`.
    pub(crate) fn dense(&mut self, outputs: usize, inputs: usize, gain: f32) -> Dense {
        Dense {
            weight: self.matrix(outputs, inputs, gain / (inputs as f32).sqrt()),
            bias: self.matrix(1, outputs, 0.05).data,
        }
    }

    /// A LayerNorm's gamma around 0.8 and beta around 0.
    pub(crate) fn norm(&mut self, width: usize) -> Norm {
        Norm { gamma: (0..width).map(|_| 0.8 + 0.3 * self.uniform()).collect(), beta: self.matrix(1, width, 0.1).data }
    }
}
