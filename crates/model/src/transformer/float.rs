//! The float32 arithmetic of a Transformer encoder, written for clarity.

use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;

/// Form of the GELU in the float32 model; the integer unit approximates both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeluForm {
    /// `x/2 (1 + erf(x / sqrt 2))`.
    Erf,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, GPT-2's.
    Tanh,
}

/// Which keys a query may attend to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AttentionMask {
    /// Every key.
    Full,
    /// Only the first `valid` keys; the rest is padding.
    Padding {
        /// Number of real tokens.
        valid: usize,
    },
    /// Keys up to the query's own position (decoders).
    Causal,
}

impl AttentionMask {
    /// Whether query `q` may attend to key `k`.
    pub fn allows(self, q: usize, k: usize) -> bool {
        match self {
            Self::Full => true,
            Self::Padding { valid } => k < valid,
            Self::Causal => k <= q,
        }
    }
}

/// A fully connected layer in PyTorch's layout: `y = x * weight^T + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Outputs x inputs.
    pub weight: Matrix<f32>,
    /// One value an output.
    pub bias: Vec<f32>,
}

impl Dense {
    /// Applies the layer to each row of `x`.
    pub fn apply(&self, x: &Matrix<f32>) -> Matrix<f32> {
        let mut y = Matrix::zeros(x.rows, self.weight.rows);
        for r in 0..x.rows {
            for (n, out) in y.row_mut(r).iter_mut().enumerate() {
                *out = dot(x.row(r), self.weight.row(n)) + self.bias[n];
            }
        }
        y
    }
}

/// The affine part of a LayerNorm: `y = gamma * z + beta` on the normalised `z`.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Multiplier of each channel.
    pub gamma: Vec<f32>,
    /// Offset of each channel.
    pub beta: Vec<f32>,
}

impl Norm {
    /// Applies the affine part to each row.
    pub fn affine(&self, z: &Matrix<f32>) -> Matrix<f32> {
        Matrix::from_fn(z.rows, z.cols, |r, c| self.gamma[c] * z.at(r, c) + self.beta[c])
    }

    /// Recovers the normalised values from the affine ones; 0 where gamma is 0.
    pub fn normalised(&self, x: &Matrix<f32>) -> Matrix<f32> {
        Matrix::from_fn(x.rows, x.cols, |r, c| {
            if self.gamma[c] == 0.0 { 0.0 } else { (x.at(r, c) - self.beta[c]) / self.gamma[c] }
        })
    }
}

/// Inner product, in eight running sums so that it vectorises; the order of additions is fixed.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (a8, b8) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Element-wise sum of two matrices of one shape.
pub fn add(a: &Matrix<f32>, b: &Matrix<f32>) -> Matrix<f32> {
    Matrix { rows: a.rows, cols: a.cols, data: a.data.iter().zip(&b.data).map(|(x, y)| x + y).collect() }
}

/// LayerNorm without its affine part: each row to mean 0 and (biased) variance 1.
pub fn normalise(h: &Matrix<f32>, epsilon: f32) -> Matrix<f32> {
    let mut z = h.clone();
    for r in 0..h.rows {
        let row = z.row_mut(r);
        let n = row.len() as f64;
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + f64::from(epsilon)).sqrt();
        row.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * inverse) as f32);
    }
    z
}

/// GELU in its exact form, `x/2 * (1 + erf(x / sqrt 2))`.
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// GELU in the form of GPT-2, `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
pub fn gelu_tanh(x: f32) -> f32 {
    let x = f64::from(x);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    (0.5 * x * (1.0 + inner.tanh())) as f32
}

/// Multi-head attention: probabilities ((heads * queries) x keys) and context (queries x width). The queries are
/// those of the last positions: with fewer queries than keys, the other keys are earlier tokens.
pub fn attention(
    heads: usize,
    query: &Matrix<f32>,
    key: &Matrix<f32>,
    value: &Matrix<f32>,
    mask: AttentionMask,
) -> (Matrix<f32>, Matrix<f32>) {
    let (tokens, past, d) = (query.rows, key.rows - query.rows, query.cols / heads);
    let scale = 1.0 / (d as f32).sqrt();
    let mut probabilities = Matrix::zeros(heads * tokens, key.rows);
    let mut context = Matrix::zeros(tokens, query.cols);
    for head in 0..heads {
        let span = head * d..(head + 1) * d;
        for q in 0..tokens {
            let row = probabilities.row_mut(head * tokens + q);
            for (k, p) in row.iter_mut().enumerate() {
                let score = scale * dot(&query.row(q)[span.clone()], &key.row(k)[span.clone()]);
                *p = if mask.allows(past + q, k) { score } else { f32::NEG_INFINITY };
            }
            softmax(row);
            for (k, &p) in row.iter().enumerate() {
                let out = &mut context.row_mut(q)[span.clone()];
                out.iter_mut().zip(&value.row(k)[span.clone()]).for_each(|(o, v)| *o += p * v);
            }
        }
    }
    (probabilities, context)
}

/// Softmax of one row in place; entries of `-inf` get probability 0.
pub fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_matches_tabulated_values() {
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_344_8), (-1.0, -0.158_655_25), (3.0, 2.995_950_3)] {
            assert!((gelu(x) - y).abs() < 1e-6, "gelu({x})");
        }
    }

    #[test]
    fn the_two_forms_of_gelu_are_close() {
        for x in -60..60 {
            let x = x as f32 / 10.0;
            assert!((gelu(x) - gelu_tanh(x)).abs() < 5e-4, "gelu({x})");
        }
    }

    #[test]
    fn a_normalised_row_has_mean_zero_and_variance_one() {
        let z = normalise(&Matrix::from_vec(1, 4, vec![1.0, 2.0, 3.0, 10.0]), 0.0);
        assert!(z.data.iter().sum::<f32>().abs() < 1e-6);
        assert!((z.data.iter().map(|v| v * v).sum::<f32>() / 4.0 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn softmax_gives_masked_entries_nothing() {
        let mut row = [1.0, f32::NEG_INFINITY, 1.0];
        softmax(&mut row);
        assert_eq!(row, [0.5, 0.0, 0.5]);
    }

    #[test]
    fn dot_covers_the_remainder() {
        let a: Vec<f32> = (0..19).map(|v| v as f32).collect();
        assert_eq!(dot(&a, &[2.0; 19]), 342.0);
    }
}
