//! Which range a tensor's int8 values should span.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files::encoding::INT8_MAX;

/// How a range follows from the values seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeMethod {
    /// The largest magnitude: nothing seen in calibration saturates.
    #[default]
    MinMax,
    /// The given fraction (0..1] of the magnitudes lies inside.
    Percentile(f64),
    /// The range with the least squared quantisation error, of [`MSE_CANDIDATES`] fractions of the largest magnitude.
    Mse,
}

/// Number of ranges that [`RangeMethod::Mse`] tries.
pub const MSE_CANDIDATES: usize = 64;

impl RangeMethod {
    /// The range of `values`: a positive magnitude (a tiny one if all values are 0).
    pub fn range(self, values: &[f32]) -> f32 {
        let max = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let range = match self {
            Self::MinMax => max,
            Self::Percentile(fraction) => percentile(values, fraction),
            Self::Mse => (1..=MSE_CANDIDATES)
                .map(|i| max * i as f32 / MSE_CANDIDATES as f32)
                .min_by(|a, b| squared_error(values, *a).total_cmp(&squared_error(values, *b)))
                .unwrap_or(max),
        };
        range.max(f32::MIN_POSITIVE.sqrt())
    }

    /// Checks the method's parameter.
    ///
    /// # Errors
    /// If a percentile is not in (0, 1].
    pub fn check(self) -> Result<(), ModelError> {
        match self {
            Self::Percentile(p) if !(p > 0.0 && p <= 1.0) => Err(ModelError::Option {
                option: "percentile",
                value: p.to_string(),
                rule: "a fraction above 0 and at most 1, such as 0.999",
            }),
            _ => Ok(()),
        }
    }
}

/// `min-max`, `mse`, or `percentile=P` with P in percent, as on the command line.
impl FromStr for RangeMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_prefix("percentile=").map(str::parse::<f64>);
        match (text, percent) {
            ("min-max", _) => Ok(Self::MinMax),
            ("mse", _) => Ok(Self::Mse),
            // Fewer would cut off half of the values: such a number is a fraction.
            (_, Some(Ok(percent))) if (50.0..=100.0).contains(&percent) => Ok(Self::Percentile(percent / 100.0)),
            (_, Some(_)) => Err("a percentile is a percentage from 50 to 100, for example percentile=99.9".to_owned()),
            _ => Err("choose min-max, mse or percentile=P with a percentage P, for example percentile=99.9".to_owned()),
        }
    }
}

fn percentile(values: &[f32], fraction: f64) -> f32 {
    let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    magnitudes.sort_unstable_by(f32::total_cmp);
    let rank = (fraction * magnitudes.len() as f64).ceil() as usize;
    magnitudes.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn squared_error(values: &[f32], range: f32) -> f64 {
    let scale = range / INT8_MAX;
    let error = |v: f32| v - scale * (v / scale).round_ties_even().clamp(-INT8_MAX, INT8_MAX);
    values.iter().map(|&v| f64::from(error(v)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_percentile_leaves_the_outlier_out() {
        let values: Vec<f32> = (1..=99).map(|v| v as f32).chain([1000.0]).collect();
        assert_eq!(RangeMethod::MinMax.range(&values), 1000.0);
        assert_eq!(RangeMethod::Percentile(0.99).range(&values), 99.0);
        assert_eq!(RangeMethod::Percentile(1.0).range(&values), 1000.0);
    }

    #[test]
    fn the_percentile_must_be_a_fraction() {
        let error = RangeMethod::Percentile(99.9).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "quantisation option `percentile` = 99.9: a fraction above 0 and at most 1, such as 0.999"
        );
    }

    #[test]
    fn an_all_zero_tensor_has_a_positive_range() {
        assert!(RangeMethod::Mse.range(&[0.0; 4]) > 0.0);
    }

    proptest! {
        #[test]
        fn the_mse_range_is_no_worse_than_min_max(values in proptest::collection::vec(-3.0f32..3.0, 1..60)) {
            let (mse, max) = (RangeMethod::Mse.range(&values), RangeMethod::MinMax.range(&values));
            prop_assert!(squared_error(&values, mse) <= squared_error(&values, max));
        }
    }
}
