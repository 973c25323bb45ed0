//! Study 5: performance models against the emulator, on the mappings of the mapspace study.
//!
//! The learned model corrects the Timeloop-like one by a linear function of logarithms (ridge regression), trained on other shapes than
//! those on which all models are compared.

use std::time::Instant;

use pollux_mapper::Mapping;
use pollux_mapper::model::{Costs, Model};
use pollux_mapper::space::tile_of;
use pollux_mapper::{Problem, Surroundings};

use crate::bench::sized;
use crate::figure::{Figure, Kind, Scale, Series};
use crate::mapspace::{self, Operation, Sampled, Samples};
use crate::report::{Findings, Table};
use crate::setting::{Bandwidth, Setting, StudyError};
use crate::statistics::{mean, percentile, ridge, spearman};

/// Penalty on the learned weights.
const PENALTY: f64 = 1.0;
/// Multiply-accumulates of an operation at most.
const LONGEST: u64 = 400_000_000;
/// How often the models' speed is measured.
const REPEATS: usize = 20;

/// Shapes that the learned model sees: none of the study's.
fn training(setting: &Setting<'_>) -> Vec<Operation> {
    let of = |problem| Operation { name: "training", problem, transformer: true };
    let products = [(192, 192, 192), (80, 320, 160), (320, 48, 96), (48, 640, 128), (256, 128, 320)];
    let products = products.into_iter().map(|(m, n, k)| of(Problem::matmul(m, n, k)));
    products.take(setting.form.choose(5, 2)).collect()
}

/// What the learned model sees of a product's mapping.
fn features(mapping: &Mapping, models: &[f64]) -> Vec<f64> {
    let tile = tile_of(mapping);
    let Mapping::Matmul(schedule) = mapping else { return Vec::new() };
    let log = |value: f64| value.max(1e-9).ln();
    vec![
        1.0,
        log(models[0]),
        log(models[1]),
        log(tile[0] as f64),
        log(tile[1] as f64),
        log(tile[2] as f64),
        f64::from(u8::from(schedule.double_buffer)),
        f64::from(u8::from(schedule.emission == pollux_kernels::Emission::Unroller)),
    ]
}

/// A model's figures on the samples.
struct Score {
    name: String,
    mape: f64,
    p95: f64,
    rank: f64,
    regret: f64,
    microseconds: Option<f64>,
}

/// Compares a model with the truth; `None` where it has no guess.
fn score(name: &str, all: &[&Samples], guess: impl Fn(usize, &Sampled) -> f64) -> Score {
    let (mut errors, mut ranks, mut regrets) = (Vec::new(), Vec::new(), Vec::new());
    for (index, samples) in all.iter().enumerate() {
        let ran: Vec<&Sampled> = samples.exact.iter().filter(|sampled| !sampled.stopped).collect();
        let pairs: Vec<(f64, f64)> = ran.iter().map(|sampled| (guess(index, sampled), sampled.cycles as f64)).collect();
        errors.extend(pairs.iter().map(|(guess, truth)| 100.0 * (guess / truth - 1.0).abs()));
        ranks.extend(spearman(&pairs));
        let Some(chosen) = pairs.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        let best = pairs.iter().map(|(_, truth)| *truth).fold(f64::INFINITY, f64::min);
        regrets.push(100.0 * (chosen.1 / best - 1.0));
    }
    errors.sort_by(f64::total_cmp);
    Score {
        name: name.to_owned(),
        mape: mean(&errors),
        p95: percentile(&errors, 0.95),
        rank: mean(&ranks),
        regret: mean(&regrets),
        microseconds: None,
    }
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let config = sized(256, 64)?;
    let memory = Bandwidth::B8.memory()?;
    findings.conditions.configuration(&config);
    findings.conditions.memory(memory);
    let (drawn, exact) = setting.form.choose((4000, 30), (300, 6));
    findings.conditions.assume(&format!(
        "{exact} mappings an operation, every n-th of {drawn} in the order of EDP by the refined model"
    ));
    findings
        .conditions
        .assume("learned: the Timeloop-like model corrected by ridge regression, trained on products of other shapes");
    // More runs of fewer operations than in the mapspace study: those that are short.
    let short = |operation: &Operation| operation.problem.macs() < LONGEST;
    let operations: Vec<Operation> = mapspace::operations(setting).into_iter().filter(short).collect();
    let all = mapspace::samples(setting, &operations, drawn, exact)?;
    let trained = mapspace::samples(setting, &training(setting), drawn, exact)?;
    let products: Vec<&Samples> =
        all.iter().filter(|samples| matches!(samples.operation.problem, Problem::Matmul(_))).collect();
    let convolutions: Vec<&Samples> =
        all.iter().filter(|samples| matches!(samples.operation.problem, Problem::Conv(_))).collect();
    let weights = learn(&trained);
    let learned = |_: usize, sampled: &Sampled| {
        let correction: f64 =
            features(&sampled.mapping, &sampled.models).iter().zip(&weights).map(|(x, w)| x * w).sum();
        sampled.models[1] * correction.exp()
    };
    let around = Surroundings { memory, interval: 1 };
    let mut table = Table::new(
        "Models against exact cycles",
        ["operations", "model", "MAPE, %", "p95, %", "rank correlation", "regret, %"],
    );
    let mut bars: Vec<(String, Vec<f64>)> = Vec::new();
    for (kind, of_kind) in [("products", &products), ("convolutions", &convolutions)] {
        let mut scores: Vec<Score> = Vec::new();
        for (index, model) in Model::ALL.into_iter().enumerate() {
            let mut score = score(model.name(), of_kind, |_, sampled| sampled.models[index]);
            score.microseconds = speed(of_kind, &config, &around, model);
            scores.push(score);
        }
        if kind == "products" {
            scores.insert(2, score("learned", of_kind, learned));
        }
        for score in &scores {
            table.row([
                kind.to_owned(),
                score.name.clone(),
                format!("{:.1}", score.mape),
                format!("{:.1}", score.p95),
                format!("{:.3}", score.rank),
                format!("{:.1}", score.regret),
            ]);
            if let Some(microseconds) = score.microseconds {
                findings.times.insert(format!("us a mapping: {}, {kind}", score.name), microseconds);
            }
        }
        bars.push((
            kind.to_owned(),
            scores.iter().filter(|s| s.name != "learned").map(|s| s.regret.max(0.0)).collect(),
        ));
    }
    findings.tables.push(table.noted(
        "Rank correlation and regret within an operation, the mean over the operations; regret: exact cycles of the mapping that the model likes best, over those of the best.",
    ));
    let both: Vec<&Samples> = all.iter().collect();
    findings.measure("models.regret", [score("Timeloop-like", &both, |_, sampled| sampled.models[1]).regret]);
    scatter(&mut findings, &both);
    findings.figures.push(Figure {
        id: "models-regret".to_owned(),
        title: "Cycles lost by mapping with a model".to_owned(),
        x: Scale::linear("model"),
        y: Scale::linear("% above the best mapping of the sample"),
        kind: Kind::Bars {
            categories: Model::ALL.map(|model| model.name().to_owned()).to_vec(),
            series: bars,
            stacked: false,
        },
    });
    Ok(findings)
}

fn learn(trained: &[Samples]) -> Vec<f64> {
    let samples = trained.iter().flat_map(|samples| &samples.exact).filter(|sampled| !sampled.stopped);
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for sampled in samples {
        rows.push(features(&sampled.mapping, &sampled.models));
        targets.push((sampled.cycles as f64 / sampled.models[1]).ln());
    }
    ridge(&rows, &targets, PENALTY)
}

/// Microseconds a mapping; none without mappings.
fn speed(all: &[&Samples], config: &pollux_isa::ValidConfig, around: &Surroundings, model: Model) -> Option<f64> {
    let priced: Vec<(Costs, &Samples)> =
        all.iter().map(|samples| (Costs::new(config, &samples.operation.problem, around), *samples)).collect();
    let count: usize = all.iter().map(|samples| samples.exact.len()).sum();
    let once = |_| {
        let begin = Instant::now();
        let price = |(costs, samples): &(Costs, &Samples)| {
            samples.exact.iter().map(|sampled| costs.by(model, &sampled.mapping)).sum::<f64>()
        };
        std::hint::black_box(priced.iter().map(price).sum::<f64>());
        begin.elapsed().as_secs_f64() * 1e6 / count as f64
    };
    // The fastest of some times: others may want the core as well.
    (count > 0).then(|| (0..REPEATS).map(once).fold(f64::INFINITY, f64::min))
}

fn scatter(findings: &mut Findings, all: &[&Samples]) {
    let series = Model::ALL.into_iter().enumerate().map(|(index, model)| {
        let ran = all.iter().flat_map(|samples| &samples.exact).filter(|sampled| !sampled.stopped);
        Series::new(model.name(), ran.map(|s| [s.cycles as f64, s.models[index] / s.cycles as f64]).collect())
    });
    findings.figures.push(Figure {
        id: "models-scatter".to_owned(),
        title: "What the models say, over exact cycles".to_owned(),
        x: Scale::log("exact cycles"),
        y: Scale::log("model over exact"),
        kind: Kind::Points(series.collect()),
    });
}
