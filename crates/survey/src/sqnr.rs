//! What it costs in accuracy to keep int8 instead of int32 sums between a product and its norm.

use pollux_mapper::random::Random;
use pollux_numerics::{IexpConstants, IexpVariant, Readout, Statistics, read_row};

use crate::bench::Result;

/// Standard deviation of the sums in units of the accumulator.
const DEVIATION: f64 = 1000.0;
/// Standard deviation of the scores that they stand for.
const SCORES: f64 = 2.0;
/// Factor of LayerNorm's read-out.
const FACTOR: f32 = 32.0;

/// Signal over noise in dB of a norm over so many rows: of int32 sums, and of int8 in between.
pub fn of(norm: Result, columns: usize, rows: usize, seed: u64) -> [f64; 2] {
    let mut random = Random::new(seed);
    let (mut signal, mut noise) = (0.0, [0.0; 2]);
    for _ in 0..rows {
        let row: Vec<i32> = (0..columns).map(|_| (DEVIATION * normal(&mut random)).round() as i32).collect();
        let exact = exact(norm, &row);
        // int8 with the largest sum at 127.
        let largest = row.iter().map(|x| x.unsigned_abs()).max().unwrap_or(1).max(1);
        let step = f64::from(largest) / 127.0;
        let narrow: Vec<i32> = row.iter().map(|x| (f64::from(*x) / step).round_ties_even() as i32).collect();
        let unit = SCORES / DEVIATION;
        let results = [integer(norm, &row, unit), integer(norm, &narrow, unit * step)];
        signal += exact.iter().map(|x| x * x).sum::<f64>();
        for (noise, result) in noise.iter_mut().zip(results) {
            *noise += exact.iter().zip(result).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
        }
    }
    noise.map(|noise| 10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10())
}

/// A normally distributed number (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

/// The norm in float64.
fn exact(norm: Result, row: &[i32]) -> Vec<f64> {
    let n = row.len() as f64;
    if norm == Result::Softmax {
        let unit = SCORES / DEVIATION;
        let largest = row.iter().copied().max().unwrap_or(0);
        let exponentials: Vec<f64> = row.iter().map(|x| (unit * f64::from(x - largest)).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        return exponentials.iter().map(|e| e / sum).collect();
    }
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    row.iter().map(|x| (f64::from(*x) - mean) / deviation).collect()
}

/// The norm in the accelerator's arithmetic, in real units. `unit` is what one of a score's integer stands for.
fn integer(norm: Result, row: &[i32], unit: f64) -> Vec<f64> {
    let mut statistics = Statistics::default();
    let (readout, scale) = match norm {
        Result::Softmax => {
            // I-BERT's coefficients.
            let qln2 = (std::f64::consts::LN_2 / unit) as i32;
            let constants = IexpConstants {
                qln2,
                qln2_inv: 65536 / qln2.max(1),
                qb: (1.353 / unit) as i32,
                qc: (0.344 / (0.3585 * unit * unit)) as i32,
            };
            let variant = IexpVariant::Exponential;
            statistics.add_max(row);
            statistics.finish_inv_sum_exp(row, &constants, variant, 1f32.to_bits());
            let Statistics { max, inv_sum_exp, .. } = statistics;
            (Readout::Softmax { max, inv_sum_exp, constants, variant }, 1.0 / 127.0)
        }
        _ => {
            statistics.finish_mean(row);
            statistics.finish_inv_stddev(row, FACTOR.to_bits());
            let Statistics { mean, inv_stddev, .. } = statistics;
            (Readout::LayerNorm { mean, inv_stddev }, 1.0 / f64::from(FACTOR))
        }
    };
    let mut out = vec![0; row.len()];
    read_row(row, &readout, &mut out);
    out.into_iter().map(|x| f64::from(x) * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_in_between_is_noisier() {
        let [wide, narrow] = of(Result::LayerNorm, 768, 16, 1);
        assert!(wide > 30.0 && narrow < wide, "{wide} {narrow}");
        let [wide, narrow] = of(Result::Softmax, 128, 16, 1);
        assert!(wide > 5.0 && narrow <= wide + 0.5, "{wide} {narrow}");
    }
}
