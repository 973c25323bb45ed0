//! How good the models are: against the emulator, on mappings drawn from the whole space.

use std::convert::Infallible;
use std::time::Instant;

use pollux_isa::ValidConfig;
use pollux_shards::Shards;
use serde::Serialize;

use crate::emulate::{self, EmulationError, Emulator, SHARD, Surroundings};
use crate::mapping::Mapping;
use crate::model::residual::Residual;
use crate::model::{Costs, Model};
use crate::problem::Problem;
use crate::random::Random;
use crate::search::{self, Found, METHODS, Method, SearchError, Settings};
use crate::space::{Limits, Mapspace};

/// How often the models' speed is measured.
const REPEATS: usize = 20;

/// A mapping's cycles by the emulator and by the models.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which problem, in the order of their evaluation.
    pub problem: usize,
    /// The mapping.
    pub mapping: Mapping,
    /// The truth.
    pub cycles: u64,
    /// By each model of [`Model::ALL`].
    pub models: Vec<f64>,
    /// The bound.
    pub bound: u64,
}

/// How far a model is from the emulator.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accuracy {
    /// The model.
    pub model: Model,
    /// Mean of the relative errors, in percent.
    pub mape: f64,
    /// The error that 95 % are below, in percent.
    pub p95: f64,
    /// Mean with signs, in percent: below 0 is too fast.
    pub signed: f64,
    /// Rank correlation over all samples.
    pub spearman: f64,
    /// The same within each problem, the mean: what matters to a search.
    pub spearman_within: f64,
    /// Cycles of the mapping that the model likes best over those of the best, in percent above, the mean over the problems.
    pub regret: f64,
    /// Microseconds a mapping.
    pub microseconds: f64,
}

/// Draws up to `count` mappings of each problem, uniformly over the distinct ones, and runs them. One that takes more than `limit` times the
/// ideal cycles is stopped and left out; the second result says how many were.
///
/// # Errors
/// A run that fails.
pub fn samples(
    config: &ValidConfig,
    problems: &[Problem],
    around: &Surroundings,
    limits: &Limits,
    (count, limit, seed, threads): (usize, u64, u64, usize),
    watch: &(dyn Fn(u64) + Sync),
) -> Result<(Vec<Sample>, usize), EmulationError> {
    let mut drawn: Vec<(usize, Mapping)> = Vec::new();
    for (index, problem) in problems.iter().enumerate() {
        let space = Mapspace::new(config, problem, limits);
        let mut random = Random::new(seed.wrapping_add(index as u64));
        drawn.extend((0..count).filter_map(|_| Some((index, space.sample_mapping(&mut random)?))));
    }
    let costs: Vec<Costs> = problems.iter().map(|problem| Costs::new(config, problem, around)).collect();
    let mut emulators = Emulator::several(config, around, threads);
    // Mappings of one problem follow each other.
    let shards = Shards::new(drawn.len(), drawn.len().div_ceil(SHARD));
    let results = pollux_shards::run(&shards, &mut emulators, |emulator, at| {
        let (index, mapping) = &drawn[at];
        let problem = &problems[*index];
        let peak = u64::from(config.dim()).pow(2);
        let most = limit.saturating_mul(problem.macs() / peak + 1000);
        let cycles = emulator.cycles(problem, mapping, most);
        watch(1);
        Ok::<_, Infallible>(cycles)
    });
    let results = results.unwrap_or_else(|never| match never {});
    let (mut samples, mut left_out) = (Vec::new(), 0);
    for ((problem, mapping), result) in drawn.into_iter().zip(results) {
        match result {
            Ok(cycles) => {
                let costs = &costs[problem];
                let models = Model::ALL.map(|model| costs.by(model, &mapping)).to_vec();
                samples.push(Sample { problem, mapping, cycles, models, bound: costs.bound(&mapping) });
            }
            // Stopped, or refused for its padding when it is emitted.
            Err(error) if error.is_limit() || matches!(error, EmulationError::Kernel(_)) => left_out += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((samples, left_out))
}

/// How good each model is on the samples; its speed is measured on the same mappings.
pub fn accuracies(
    config: &ValidConfig,
    problems: &[Problem],
    around: &Surroundings,
    samples: &[Sample],
) -> Vec<Accuracy> {
    accuracies_with(config, problems, around, samples, None)
}

/// The same, a learned model among them.
pub fn accuracies_with(
    config: &ValidConfig,
    problems: &[Problem],
    around: &Surroundings,
    samples: &[Sample],
    residual: Option<&Residual>,
) -> Vec<Accuracy> {
    let costs: Vec<Costs> = problems.iter().map(|problem| Costs::new(config, problem, around)).collect();
    let by = |model: Model, sample: &Sample| match (model, residual) {
        (Model::Learned, Some(residual)) => residual.cycles(&costs[sample.problem], &sample.mapping),
        _ => costs[sample.problem].by(model, &sample.mapping),
    };
    Model::ALL
        .into_iter()
        .chain(residual.map(|_| Model::Learned))
        .map(|model| {
            let guesses: Vec<f64> = samples.iter().map(|sample| by(model, sample)).collect();
            let truth = |sample: &Sample| sample.cycles as f64;
            let both = || samples.iter().zip(&guesses);
            let mut errors: Vec<f64> = both().map(|(s, guess)| guess / truth(s) - 1.0).collect();
            let signed = mean(&errors);
            errors.iter_mut().for_each(|error| *error = error.abs());
            errors.sort_by(f64::total_cmp);
            let p95 = errors.get((errors.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
            let pairs = |of: &dyn Fn(&Sample) -> bool| {
                both().filter(|(s, _)| of(s)).map(|(s, guess)| (*guess, truth(s))).collect::<Vec<_>>()
            };
            let (mut within, mut regrets) = (Vec::new(), Vec::new());
            for problem in 0..problems.len() {
                let own = pairs(&|s| s.problem == problem);
                let Some(chosen) = own.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
                let best = own.iter().map(|(_, truth)| *truth).fold(f64::INFINITY, f64::min);
                regrets.push(chosen.1 / best - 1.0);
                within.extend(spearman(&own));
            }
            // The fastest of some times: others may want the core as well.
            let once = |_| {
                let begin = Instant::now();
                let sum: f64 = samples.iter().map(|s| by(model, s)).sum();
                std::hint::black_box(sum);
                begin.elapsed().as_secs_f64() * 1e6 / samples.len().max(1) as f64
            };
            let microseconds = (0..REPEATS).map(once).fold(f64::INFINITY, f64::min);
            Accuracy {
                model,
                mape: 100.0 * mean(&errors),
                p95: 100.0 * p95,
                signed: 100.0 * signed,
                spearman: spearman(&pairs(&|_| true)).unwrap_or(1.0),
                spearman_within: mean(&within),
                regret: 100.0 * mean(&regrets),
                microseconds,
            }
        })
        .collect()
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Rank correlation; `None` if one of the two does not vary.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let (a, b) = (ranks(pairs.iter().map(|p| p.0)), ranks(pairs.iter().map(|p| p.1)));
    let (ma, mb) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    let (va, vb) = (sum(&|x, _| x * x), sum(&|_, y| y * y));
    (va > 0.0 && vb > 0.0).then(|| sum(&|x, y| x * y) / (va * vb).sqrt())
}

/// Ranks; equal values share the mean of theirs.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let to = (from..order.len()).take_while(|at| values[order[*at]] == values[order[from]]).count() + from;
        order[from..to].iter().for_each(|at| ranks[*at] = (from + to - 1) as f64 / 2.0);
        from = to;
    }
    ranks
}

/// How far the searches are from the best that is known, at an equal budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SearchRegret {
    /// The search.
    pub method: Method,
    /// Figure of what it finds over that of the best that any of the searches finds, in percent above, the mean over the problems.
    pub regret: f64,
    /// The largest.
    pub worst: f64,
    /// Problems of which it finds the best.
    pub best: usize,
    /// Gemmini's own figure over that of what it finds, the geometric mean.
    pub gain: f64,
    /// Mappings that were priced, and that ran on the emulator, the mean over the problems.
    pub evaluated: f64,
    /// See `evaluated`.
    pub simulated: f64,
}

/// Searches each problem by each method, with as many emulated cycles as `runs` runs of Gemmini's own mapping take. Problems that
/// Gemmini's own mapping does not fit are left out; an exhaustive search takes part where the space is small.
///
/// # Errors
/// A run that fails.
pub fn searches(
    config: &ValidConfig,
    problems: &[Problem],
    around: &Surroundings,
    (settings, runs): (&Settings<'_>, u64),
    watch: &mut dyn FnMut(),
) -> Result<Vec<SearchRegret>, SearchError> {
    let mut found: Vec<Vec<Option<(f64, Found)>>> = Vec::new();
    for problem in problems {
        let gemmini = Mapping::gemmini(config, problem);
        if gemmini.check(config, problem).is_err() {
            continue;
        }
        let cycles = emulate::cycles(config, problem, &gemmini, around, u64::MAX)?;
        let small = search::is_small(&Mapspace::new(config, problem, &settings.limits));
        let mut by_method = Vec::new();
        for method in METHODS {
            let settings = Settings { method, emulated_cycles: cycles.saturating_mul(runs), ..*settings };
            let possible = method != Method::Exhaustive || small;
            let search = || search::search(config, problem, around, &settings, &mut |_| {});
            let found = possible.then(search).transpose()?;
            let value = |found: &Found| found.best.result.map_or(f64::INFINITY, |r| r.value(settings.objective));
            by_method.push(found.map(|found| (value(&found), found)));
            watch();
        }
        found.push(by_method);
    }
    let regret = |index: usize| {
        let (mut regrets, mut gains, mut evaluated, mut simulated) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for by_method in &found {
            let least = by_method.iter().flatten().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
            let Some((value, own)) = &by_method[index] else { continue };
            regrets.push(100.0 * (value / least - 1.0));
            gains.extend(own.gemmini.result.map(|r| (r.value(settings.objective) / value).ln()));
            evaluated.push(own.evaluated as f64);
            simulated.push(own.simulated as f64);
        }
        SearchRegret {
            method: METHODS[index],
            regret: mean(&regrets),
            worst: regrets.iter().copied().fold(0.0, f64::max),
            best: regrets.iter().filter(|regret| **regret == 0.0).count(),
            gain: mean(&gains).exp(),
            evaluated: mean(&evaluated),
            simulated: mean(&simulated),
        }
    };
    Ok((0..METHODS.len()).map(regret).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_correlate_whatever_the_scale() {
        assert_eq!(spearman(&[(1.0, 10.0), (2.0, 1000.0), (3.0, 1001.0)]), Some(1.0));
        assert_eq!(spearman(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        assert_eq!(spearman(&[(1.0, 3.0), (1.0, 2.0)]), None);
        assert_eq!(ranks([5.0, 1.0, 5.0].into_iter()), [1.5, 0.0, 1.5]);
    }
}
