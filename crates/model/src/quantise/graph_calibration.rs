//! What float32 runs on samples tell about a network's tensors.

use std::collections::BTreeMap;

use crate::calibrate::LayerSamples;
use crate::error::ModelError;
use crate::float::{dot, normalise, softmax};
use crate::graph::evaluate::{Array, evaluate};
use crate::graph::network::{EdgeId, GraphModel, NodeId, Source};
use crate::graph::operator::Operator;
use crate::matrix::Matrix;
use crate::quantise::graph_encoder::FoundLayer;
use crate::quantise::range::RangeMethod;

/// Rows in front of a LayerNorm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deviation {
    /// Largest standard deviation of a row.
    pub(super) largest: f32,
    /// Largest magnitude of a normalised value, without gamma and beta.
    pub(super) normalised: f32,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Calibration {
    /// Largest magnitude of each tensor that is not constant.
    pub(super) ranges: BTreeMap<EdgeId, f32>,
    /// Largest probability of each head of an attention in which every token sees all others.
    pub(super) peaks: BTreeMap<NodeId, Vec<f32>>,
    /// Of each LayerNorm.
    pub(super) deviations: BTreeMap<NodeId, Deviation>,
    /// Of each encoder layer.
    pub(super) layers: Vec<LayerSamples>,
}

impl Calibration {
    pub(super) fn of(
        model: &GraphModel,
        samples: &[BTreeMap<&str, Array>],
        method: RangeMethod,
        layers: &[FoundLayer],
    ) -> Result<Self, ModelError> {
        let mut calibration = Self { layers: vec![LayerSamples::default(); layers.len()], ..Self::default() };
        let mut seen: BTreeMap<EdgeId, Vec<f32>> = BTreeMap::new();
        for sample in samples {
            let values = evaluate(model, sample)?;
            calibration.normalisations(model, &values)?;
            let each = layers.iter().zip(&mut calibration.layers);
            each.for_each(|(layer, samples)| layer.record(&values, samples));
            for (edge, array) in values {
                if model.graph.edge(edge).source == Source::Constant {
                    continue;
                }
                let seen = seen.entry(edge).or_default();
                match method {
                    // The largest of the largest: no need to keep all.
                    RangeMethod::MinMax => seen.push(method.range(&array.data)),
                    _ => seen.extend(array.data),
                }
            }
        }
        if seen.is_empty() {
            return Err(ModelError::NothingToCalibrate);
        }
        calibration.ranges = seen.into_iter().map(|(edge, values)| (edge, method.range(&values))).collect();
        Ok(calibration)
    }

    fn normalisations(&mut self, model: &GraphModel, values: &BTreeMap<EdgeId, Array>) -> Result<(), ModelError> {
        for id in model.graph.topological_order()? {
            let node = model.graph.node(id);
            let operand = |index: usize| &values[&node.inputs[index]];
            match node.operator {
                Operator::LayerNorm { epsilon } => {
                    let seen = self.deviations.entry(id).or_default();
                    let x = rows(operand(0));
                    let z = normalise(&x, epsilon);
                    seen.normalised = z.data.iter().fold(seen.normalised, |most, v| most.max(v.abs()));
                    seen.largest = (0..x.rows).map(|row| deviation(x.row(row))).fold(seen.largest, f32::max);
                }
                Operator::Attention { heads, scale, causal: false, cached: false } => {
                    let peaks = self.peaks.entry(id).or_insert_with(|| vec![0.0; heads]);
                    peak(peaks, [operand(0), operand(1)], scale);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn rows(array: &Array) -> Matrix<f32> {
    let cols = array.shape.last().copied().unwrap_or(1);
    Matrix::from_vec(array.data.len() / cols.max(1), cols, array.data.clone())
}

fn deviation(row: &[f32]) -> f32 {
    let n = row.len() as f64;
    let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt() as f32
}

/// Raises the largest probability of each head.
fn peak(peaks: &mut [f32], [query, key]: [&Array; 2], scale: f32) {
    let [.., tokens, width] = query.shape[..] else { unreachable!("shapes are checked") };
    let [.., keys, key_width] = key.shape[..] else { unreachable!("shapes are checked") };
    let size = width / peaks.len();
    let shared = width / key_width;
    for (queries, keys) in query.data.chunks(tokens * width).zip(key.data.chunks(keys * key_width)) {
        for query in queries.chunks(width) {
            for (head, peak) in peaks.iter_mut().enumerate() {
                let columns = head / shared * size..(head / shared + 1) * size;
                let query = &query[head * size..(head + 1) * size];
                let score = |key: &[f32]| scale * dot(query, &key[columns.clone()]);
                let mut scores: Vec<f32> = keys.chunks(key_width).map(score).collect();
                softmax(&mut scores);
                *peak = scores.into_iter().fold(*peak, f32::max);
            }
        }
    }
}
