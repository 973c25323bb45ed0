//! Which exact rewrites a calibration asks for.

use crate::calibrate::LayerSamples;
use crate::quantise::options::QuantiseOptions;
use crate::quantise::range::RangeMethod;
use crate::rewrite::Rewrites;
use crate::tensor::Tensor;

impl Rewrites {
    /// What the options ask for, chosen from the calibration of each layer.
    pub fn of(samples: &[LayerSamples], options: &QuantiseOptions) -> Self {
        Self {
            hidden_order: (options.outlier_channels > 0).then(|| outliers_last(samples)),
            migrations: options
                .migration
                .map_or_else(Vec::new, |alpha| samples.iter().map(|s| migration(s, alpha)).collect()),
        }
    }
}

/// SmoothQuant's factors (arXiv 2211.10438) with the key in the place of the weights:
/// `max|q|^alpha / max|k|^(1 - alpha)` for each channel; 1 where a channel is all 0.
fn migration(samples: &LayerSamples, alpha: f32) -> Vec<f32> {
    let [q, k] = [Tensor::Query, Tensor::Key].map(|t| samples.channel_ranges(t, RangeMethod::MinMax));
    let factor = |(q, k): (&f32, &f32)| q.powf(alpha) / k.powf(1.0 - alpha);
    let usable = |f: f32| if f.is_finite() && f > 0.0 { f } else { 1.0 };
    q.iter().zip(&k).map(|pair| usable(factor(pair))).collect()
}

/// The hidden channels in rising order of the largest normalised value that any LayerNorm gave them, so that the
/// outlier channels come last.
pub(super) fn outliers_last(samples: &[LayerSamples]) -> Vec<usize> {
    let width = samples[0].get(Tensor::Input).cols;
    let mut peak = vec![0.0f32; width];
    for layer in samples {
        for tensor in [Tensor::Input, Tensor::AttentionNorm, Tensor::Output] {
            for (p, r) in peak.iter_mut().zip(layer.channel_ranges(tensor, RangeMethod::MinMax)) {
                *p = p.max(r);
            }
        }
    }
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| peak[a].total_cmp(&peak[b]));
    order
}
