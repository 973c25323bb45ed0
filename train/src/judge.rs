//! Perplexity of a model directory by Pollux's own references: float32, and the integers that Gemmini computes.

use std::path::Path;

use pollux_model::decoder::QuantisedDecoder;
use pollux_model::gpt2::Gpt2Model;
use pollux_model::quantise::QuantiseOptions;
use serde::Serialize;

use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::training::spread;

/// Sequences of the training text that the quantisation is calibrated on.
const CALIBRATION: usize = 16;

/// Perplexities a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexities {
    /// Sequences of the validation text.
    pub windows: usize,
    /// Of the float32 reference.
    pub float32: f64,
    /// Of the quantised network.
    pub int8: f64,
}

/// Both perplexities of a model on sequences spread over the validation text.
///
/// # Errors
/// A model that cannot be read or quantised.
pub fn perplexities(
    folder: &Path,
    recipe: &Recipe,
    training: &[u32],
    validation: &[u32],
    windows: usize,
) -> Result<Perplexities, TrainError> {
    let model = Gpt2Model::load(folder)?;
    let context = recipe.context;
    let sequence = |tokens: &[u32], start: usize| tokens[start..start + context].to_vec();
    let calibration: Vec<Vec<u32>> =
        spread(training, CALIBRATION, context).into_iter().map(|start| sequence(training, start)).collect();
    let quantised = QuantisedDecoder::build(model.clone(), &calibration, &QuantiseOptions::default())?;
    let (mut float32, mut int8) = (0.0, 0.0);
    for start in spread(validation, windows, context) {
        let ids = sequence(validation, start);
        let next = &validation[start + 1..start + 1 + context];
        let rows = model.decode(&ids, &mut model.cache())?;
        let integers = quantised.decode(&ids, &mut quantised.cache())?;
        for (token, &next) in next.iter().enumerate() {
            float32 += surprise(&model.logits(rows.row(token)), next);
            int8 += surprise(&quantised.logits(integers.row(token)), next);
        }
    }
    let mean = |sum: f64| (sum / (windows * context) as f64).exp();
    Ok(Perplexities { windows, float32: mean(float32), int8: mean(int8) })
}

/// Nats of a token among these scores.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_cost_the_logarithm_of_their_number() {
        assert!((surprise(&[3.0; 8], 5) - 8f64.ln()).abs() < 1e-9);
        assert!(surprise(&[0.0, 50.0], 1) < 1e-9);
    }
}
