//! Choices of the quantisation of a Transformer.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::quantise::range::RangeMethod;

/// How products whose results only the host reads are read out of the accumulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadOut {
    /// Scaled to int8, as all others.
    #[default]
    Int8,
    /// As they are: four bytes an element, which the host multiplies by a scale of each channel.
    Int32,
    /// As they are, and what the host makes for such products alone is int8 with a scale for each row, found in every run.
    Int32Rows,
}

/// `int8`, `int32` or `int32-rows`, as on the command line.
impl FromStr for ReadOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "int8" => Ok(Self::Int8),
            "int32" => Ok(Self::Int32),
            "int32-rows" => Ok(Self::Int32Rows),
            _ => Err("choose int8, int32 or int32-rows".to_owned()),
        }
    }
}

/// Choices of the quantisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantiseOptions {
    /// How ranges follow from the calibration.
    pub method: RangeMethod,
    /// Columns of the GELU's result that share a read-out scale; a multiple of the array's width, so that a group
    /// is made of whole tiles.
    pub gelu_group: usize,
    /// Number of hidden channels with the largest LayerNorm outputs that are moved last and read out with a scale
    /// of their own; 0 keeps the order. A multiple of the array's width. Used when a whole model is quantised.
    pub outlier_channels: usize,
    /// Int8 planes of the weights that read outlier channels, on top of `weight_planes`; 1 does not split.
    pub outlier_planes: usize,
    /// Int8 planes of all weights; each one costs every product once more.
    pub weight_planes: usize,
    /// Layers that have another number of `weight_planes`.
    pub layer_planes: BTreeMap<usize, usize>,
    /// Moves range between query and key, channel by channel: the exponent of the query's range (1/2 makes the
    /// ranges equal); absent leaves them as they are.
    pub migration: Option<f32>,
    /// How much larger than in calibration the deviation of a residual sum may be before LayerNorm's sum of
    /// squares wraps.
    pub deviation_margin: f32,
    /// Bits by which the unit of a decoder's residual stream may be coarser than the finest that a block allows, so that
    /// the stream keeps its unit: each change is a shift by the host. 0 always takes the finest, 31 never shifts.
    pub unit_slack: u32,
    /// Most tokens for which no softmax sum wraps; the model's own limit if absent.
    pub max_tokens: Option<usize>,
}

impl Default for QuantiseOptions {
    fn default() -> Self {
        Self {
            method: RangeMethod::MinMax,
            gelu_group: 16,
            outlier_channels: 0,
            outlier_planes: 1,
            weight_planes: 1,
            layer_planes: BTreeMap::new(),
            migration: None,
            deviation_margin: 1.3,
            unit_slack: 4,
            max_tokens: None,
        }
    }
}

/// Most int8 planes of a weight: beyond it the error of the activations dominates by far.
const MAX_PLANES: usize = 8;

impl QuantiseOptions {
    pub(crate) fn check(&self, hidden: usize) -> Result<(), ModelError> {
        let refuse = |option, value: String, rule| Err(ModelError::Option { option, value, rule });
        if self.gelu_group == 0 {
            return refuse("gelu_group", "0".into(), "at least one column");
        }
        if self.outlier_channels >= hidden {
            return refuse("outlier_channels", self.outlier_channels.to_string(), "fewer than the hidden channels");
        }
        let planes = [("weight_planes", self.weight_planes), ("outlier_planes", self.outlier_planes)];
        let layers = self.layer_planes.values().map(|&p| ("layer_planes", p));
        if let Some((option, p)) = planes.into_iter().chain(layers).find(|(_, p)| !(1..=MAX_PLANES).contains(p)) {
            return refuse(option, p.to_string(), "1 to 8");
        }
        if let Some(alpha) = self.migration.filter(|a| !(0.0..=1.0).contains(a)) {
            return refuse("migration", alpha.to_string(), "an exponent from 0 to 1, such as 0.5");
        }
        if !(self.deviation_margin >= 1.0 && self.deviation_margin.is_finite()) {
            return refuse("deviation_margin", self.deviation_margin.to_string(), "at least 1");
        }
        self.method.check()
    }

    /// The options as they are for layer `index`.
    pub(crate) fn for_layer(&self, index: usize) -> Self {
        let weight_planes = self.layer_planes.get(&index).copied().unwrap_or(self.weight_planes);
        Self { weight_planes, ..self.clone() }
    }

    /// Planes of each weight row of a product that reads a LayerNorm's result.
    pub(super) fn norm_planes(&self, inputs: usize) -> Vec<usize> {
        let plain = inputs - self.outlier_channels;
        (0..inputs).map(|k| self.weight_planes * if k < plain { 1 } else { self.outlier_planes }).collect()
    }

    /// Planes of each weight row of any other product.
    pub(super) fn planes(&self, inputs: usize) -> Vec<usize> {
        vec![self.weight_planes; inputs]
    }
}
