//! Study 3: how many mappings of an operation are good ones, by a model and in truth.
//!
//! Mappings are drawn from the space that Gemmini's Timeloop files describe as far as the hardware has it: weight-stationary, sizes that
//! divide, any order of the loops over tiles. Two samplers draw: uniformly over factorisations, as a random mapper does, and over
//! distinct mappings. A stratified part of the first sample then runs cycle by cycle.

use pollux_kernels::{ConvShape, Dataflow};
use pollux_mapper::counts::of_program;
use pollux_mapper::model::{Costs, Model};
use pollux_mapper::random::Random;
use pollux_mapper::{Factors, Limits, Mapping, Mapspace, Problem, Surroundings};
use pollux_memory::Memory;
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::ReplayTable;
use pollux_sim::runner::Runner;
use pollux_sim::simulation::RunError;

use crate::bench::{CLOCK, ENERGY_TABLES, prices, sized};
use crate::figure::{Figure, Kind, Scale, Series};
use crate::report::{Findings, Table};
use crate::setting::{Bandwidth, Setting, StudyError, in_parallel};
use crate::statistics::{percentile, share_below, spearman};

/// Runs longer than so many times the ideal are stopped: bad mappings are a hundred times slower than good ones.
const LONGEST_RUN: u64 = 40;

/// Of which operations the distribution in truth is drawn beside the model's.
const HEADLINES: [&str; 4] = ["3x3 512", "BERT-Base FFN", "3x3", "MHA"];

/// An operation of the study.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Name for people.
    pub name: &'static str,
    /// What it is.
    pub problem: Problem,
    /// Of a Transformer; otherwise of ResNet-50.
    pub transformer: bool,
}

fn conv(size: usize, channels: usize, out: usize, kernel: usize, stride: usize) -> Problem {
    let shape = ConvShape::new(1, [size, size, channels], out, kernel);
    Problem::conv(ConvShape { stride, padding: kernel as isize / 2, ..shape })
}

/// The paper's eight operations; in the reduced form small ones of the same kinds.
pub fn operations(setting: &Setting<'_>) -> Vec<Operation> {
    let of = |name, problem, transformer| Operation { name, problem, transformer };
    setting.form.choose(
        vec![
            of("3x3 512", conv(7, 512, 512, 3, 1), false),
            of("1x1 2048", conv(7, 512, 2048, 1, 1), false),
            of("BERT-Base MHA", Problem::matmul(512, 768, 768), true),
            of("BERT-Base FFN", Problem::matmul(512, 3072, 768), true),
            of("BERT-Large MHA", Problem::matmul(512, 1024, 1024), true),
            of("BERT-Large FFN", Problem::matmul(512, 4096, 1024), true),
            of("conv1 7x7 64", conv(224, 3, 64, 7, 2), false),
            of("1x1 512", conv(7, 2048, 512, 1, 1), false),
        ],
        vec![of("3x3", conv(7, 32, 32, 3, 1), false), of("MHA", Problem::matmul(64, 96, 96), true)],
    )
}

/// Those of equal multiply-accumulates, in both readings of conv1.
fn equal_macs() -> Vec<Operation> {
    let of = |name, problem, transformer| Operation { name, problem, transformer };
    vec![
        of("MHA, d 240", Problem::matmul(512, 240, 240), true),
        of("conv1, 56 x 56", conv(112, 3, 64, 7, 2), false),
        of("MHA, d 480", Problem::matmul(512, 480, 480), true),
        of("W1, d 120", Problem::matmul(512, 480, 120), true),
    ]
}

/// The space that is drawn from.
pub const LIMITS: Limits = Limits { factors: Factors::Divisors, emission: None, dataflow: Some(Dataflow::Ws) };

/// Which mappings are equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// Points of the space.
    Factorisations,
    /// Distinct mappings.
    Mappings,
}

/// A mapping that ran.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The mapping.
    pub mapping: Mapping,
    /// Cycles by each model of [`Model::ALL`].
    pub models: Vec<f64>,
    /// Energy in pJ that does not depend on the cycles.
    pub energy: f64,
    /// Cycles by the emulator; the limit, if the run was stopped there.
    pub cycles: u64,
    /// Whether it was.
    pub stopped: bool,
}

/// An operation's samples.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The operation.
    pub operation: Operation,
    /// Relative EDP by the model of each sampler, ascending.
    pub model: [Vec<f64>; 2],
    /// EDP over the best that the model knows of, for the stratified part.
    pub exact: Vec<Sampled>,
}

/// Draws and prices; the first sampler's mappings come along.
fn draw(
    space: &Mapspace,
    costs: &Costs,
    count: usize,
    sampler: Sampler,
    seed: u64,
) -> Result<Vec<(f64, Mapping)>, StudyError> {
    let first = &prices(space.config())?[0];
    let mut random = Random::new(seed);
    let mut drawn = Vec::with_capacity(count);
    for _ in 0..count {
        let mapping = match sampler {
            Sampler::Factorisations => space.sample_point(&mut random),
            Sampler::Mappings => space.sample_mapping(&mut random),
        };
        let Some(mapping) = mapping else { break };
        let cycles = costs.cycles(&mapping);
        let energy = first.energy_pj(&costs.least_counts(&mapping), cycles as u64, CLOCK);
        drawn.push((cycles * energy, mapping));
    }
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(drawn)
}

/// Every n-th of the sorted mappings, the first and the last among them.
fn stratified(drawn: &[(f64, Mapping)], count: usize) -> Vec<Mapping> {
    let count = count.min(drawn.len());
    let at = |n: usize| drawn[n * (drawn.len() - 1) / count.saturating_sub(1).max(1)].1;
    (0..count).map(at).collect()
}

/// The samples of all operations: `count` mappings by the model, `exact` of them on the emulator.
///
/// # Errors
/// A run that fails.
pub fn samples(
    setting: &Setting<'_>,
    operations: &[Operation],
    count: usize,
    exact: usize,
) -> Result<Vec<Samples>, StudyError> {
    let config = sized(256, 64)?;
    let around = Surroundings { memory: Bandwidth::B8.memory()?, interval: 1 };
    in_parallel(setting, "mapspace: operations", operations, |operation| {
        let space = Mapspace::new(&config, &operation.problem, &LIMITS);
        let costs = Costs::new(&config, &operation.problem, &around);
        let points = draw(&space, &costs, count, Sampler::Factorisations, setting.seed)?;
        let mappings = draw(&space, &costs, count, Sampler::Mappings, setting.seed.wrapping_add(1))?;
        let relative = |drawn: &[(f64, Mapping)]| {
            let best = drawn.first().map_or(1.0, |(edp, _)| *edp);
            drawn.iter().map(|(edp, _)| edp / best).collect::<Vec<f64>>()
        };
        let first = &prices(&config)?[0];
        let mut table = ReplayTable::new();
        let mut run = Vec::new();
        for mapping in stratified(&points, exact) {
            let limit = LONGEST_RUN * (operation.problem.macs() / u64::from(config.dim()).pow(2) + 1000);
            // Tiles whose input is all padding are refused only when they are emitted.
            let Ok(program) = mapping.program(&config, &operation.problem) else { continue };
            let counts = of_program(&program).map_err(|error| StudyError::Run(error.to_string()))?.least;
            let mut runner =
                Runner::new(&config).memory(around.memory).limit(limit).without_values().replay_table(&mut table);
            let (cycles, stopped) = match runner.run(program.items, Memory::new(), &mut NoObserver) {
                Ok(outcome) => (outcome.summary.busy_falls, false),
                Err(stopped) if matches!(stopped.error, RunError::Limit { .. }) => (limit, true),
                Err(stopped) => return Err(StudyError::Run(stopped.error.to_string())),
            };
            run.push(Sampled {
                mapping,
                models: Model::ALL.map(|model| costs.by(model, &mapping)).to_vec(),
                energy: first.energy_pj(&counts, 0, CLOCK),
                cycles,
                stopped,
            });
        }
        Ok(Samples { operation: operation.clone(), model: [relative(&points), relative(&mappings)], exact: run })
    })
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let config = sized(256, 64)?;
    findings.conditions.configuration(&config);
    findings.conditions.memory(Bandwidth::B8.memory()?);
    findings.conditions.energy_tables = vec![ENERGY_TABLES[0].to_owned()];
    let (count, exact) = counts(setting);
    findings.conditions.assume(&format!(
        "{count} mappings an operation and sampler by the refined analytical model; {exact} of those drawn over factorisations ran, every n-th in the order of EDP"
    ));
    findings.conditions.assume("weight-stationary, tile sizes that divide the blocks, unroller and single commands, any order of loops over tiles");
    findings.conditions.assume("tiles whose input is all padding are priced, and cannot run");
    findings.conditions.assume(&format!("runs of more than {LONGEST_RUN} times the ideal were stopped there"));
    let all = samples(setting, &operations(setting), count, exact)?;
    claims(&mut findings, &all);
    tables(&mut findings, &all);
    figures(&mut findings, &all);
    if setting.form == crate::setting::Form::Full {
        equal(setting, &mut findings, count)?;
    }
    Ok(findings)
}

/// Mappings by the model and on the emulator.
pub fn counts(setting: &Setting<'_>) -> (usize, usize) {
    setting.form.choose((100_000, 200), (300, 6))
}

fn decades(relative: &[f64]) -> f64 {
    relative.last().map_or(0.0, |worst| worst.log10())
}

fn claims(findings: &mut Findings, all: &[Samples]) {
    let spread = |transformer: bool| {
        let of = all.iter().filter(|samples| samples.operation.transformer == transformer);
        of.map(|samples| decades(&samples.model[0])).fold(f64::INFINITY, f64::min)
    };
    findings.measure("mapspace.decades", [spread(true), spread(false)]);
    if all.len() >= 4 {
        let of =
            |value: &dyn Fn(&[f64]) -> f64| all[..4].iter().map(|samples| value(&samples.model[0])).collect::<Vec<_>>();
        findings.measure("mapspace.tenth_percentile", of(&|relative| percentile(relative, 0.1)));
        findings.measure("mapspace.below_three", of(&|relative| 100.0 * share_below(relative, 3.0)));
    }
    let mean = |transformer: bool| {
        let shares: Vec<f64> = all
            .iter()
            .filter(|samples| samples.operation.transformer == transformer)
            .map(|samples| share_below(&samples.model[0], 3.0))
            .collect();
        shares.iter().sum::<f64>() / shares.len().max(1) as f64
    };
    findings.measure("mapspace.harder", [mean(true) / mean(false).max(f64::MIN_POSITIVE)]);
}

/// Rank correlation of a model's cycles with the exact ones of the runs that came to their end.
fn rank(exact: &[Sampled], model: usize) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = exact
        .iter()
        .filter(|sampled| !sampled.stopped)
        .map(|sampled| (sampled.models[model], sampled.cycles as f64))
        .collect();
    spearman(&pairs)
}

/// EDP of the runs over the smallest: of the refined model's cycles, and of the exact ones.
fn exact_edp(exact: &[Sampled]) -> [Vec<f64>; 2] {
    let relative = |cycles: &dyn Fn(&Sampled) -> f64| {
        let mut edp: Vec<f64> = exact.iter().map(|sampled| sampled.energy * cycles(sampled)).collect();
        edp.sort_by(f64::total_cmp);
        let best = edp.first().copied().unwrap_or(1.0);
        edp.into_iter().map(|edp| edp / best).collect::<Vec<f64>>()
    };
    [relative(&|sampled| sampled.models[Model::ALL.len() - 1]), relative(&|sampled| sampled.cycles as f64)]
}

fn tables(findings: &mut Findings, all: &[Samples]) {
    let mut table = Table::new(
        "Relative EDP by the model",
        ["operation", "sampler", "decades", "10th percentile", "median", "below 3 x, %"],
    );
    for samples in all {
        for (name, relative) in ["factorisations", "mappings"].into_iter().zip(&samples.model) {
            table.row([
                samples.operation.name.to_owned(),
                name.to_owned(),
                format!("{:.2}", decades(relative)),
                format!("{:.2}", percentile(relative, 0.1)),
                format!("{:.1}", percentile(relative, 0.5)),
                format!("{:.2}", 100.0 * share_below(relative, 3.0)),
            ]);
        }
    }
    findings.tables.push(table.noted("Relative to the smallest EDP of the same sample, as in the paper."));
    let mut table = Table::new(
        "The stratified part on the emulator",
        [
            "operation",
            "runs",
            "stopped",
            "rank correlation",
            "median by model",
            "median in truth",
            "90th percentile by model",
            "in truth",
            "largest gap of the CDFs, %",
        ],
    );
    for samples in all {
        let [model, truth] = exact_edp(&samples.exact);
        table.row([
            samples.operation.name.to_owned(),
            samples.exact.len().to_string(),
            samples.exact.iter().filter(|sampled| sampled.stopped).count().to_string(),
            rank(&samples.exact, Model::ALL.len() - 1).map_or_else(String::new, |rank| format!("{rank:.3}")),
            format!("{:.2}", percentile(&model, 0.5)),
            format!("{:.2}", percentile(&truth, 0.5)),
            format!("{:.1}", percentile(&model, 0.9)),
            format!("{:.1}", percentile(&truth, 0.9)),
            format!("{:.1}", 100.0 * largest_gap(&model, &truth, known_up_to(&samples.exact))),
        ]);
    }
    findings.tables.push(table.noted("EDP over the smallest of the runs; of stopped runs at the limit. The gap is Kolmogorov's and Smirnov's, up to the EDP of the best run that was stopped."));
}

/// The largest difference of two cumulative distributions up to `most`, from samples in ascending order.
fn largest_gap(a: &[f64], b: &[f64], most: f64) -> f64 {
    let up_to = |sorted: &[f64], x: f64| sorted.partition_point(|y| *y <= x) as f64 / sorted.len().max(1) as f64;
    let points = a.iter().chain(b).filter(|x| **x < most);
    points.map(|&x| (up_to(a, x) - up_to(b, x)).abs()).fold(0.0, f64::max)
}

/// The relative EDP up to which it is known in truth: that of the best run that was stopped.
fn known_up_to(exact: &[Sampled]) -> f64 {
    let edp = |sampled: &Sampled| sampled.energy * sampled.cycles as f64;
    let best = exact.iter().map(edp).fold(f64::INFINITY, f64::min);
    exact.iter().filter(|sampled| sampled.stopped).map(edp).fold(f64::INFINITY, f64::min) / best
}

/// Points of a cumulative distribution up to a limit.
fn cumulative(relative: &[f64], most: f64) -> Vec<[f64; 2]> {
    let steps = 60;
    let at = |n: usize| 1.0 + (most - 1.0) * n as f64 / steps as f64;
    (0..=steps).map(|n| [at(n), 100.0 * share_below(relative, at(n))]).collect()
}

/// Shares by the decade's tenths.
fn histogram(relative: &[f64]) -> Vec<[f64; 2]> {
    let bins = (10.0 * decades(relative)).ceil() as usize + 1;
    let mut counts = vec![0usize; bins];
    for value in relative {
        counts[((10.0 * value.log10()) as usize).min(bins - 1)] += 1;
    }
    let share = |count: usize| 100.0 * count as f64 / relative.len().max(1) as f64;
    counts.iter().enumerate().map(|(bin, count)| [10f64.powf((bin as f64 + 0.5) / 10.0), share(*count)]).collect()
}

fn figures(findings: &mut Findings, all: &[Samples]) {
    let series = |points: &dyn Fn(&Samples) -> Vec<[f64; 2]>| {
        all.iter().map(|samples| Series::new(samples.operation.name, points(samples))).collect::<Vec<_>>()
    };
    findings.figures.push(Figure {
        id: "mapspace-histogram".to_owned(),
        title: "EDP of random mappings over the best of the sample (model, over factorisations)".to_owned(),
        x: Scale::log("relative EDP"),
        y: Scale::linear("% of the mappings a tenth of a decade"),
        kind: Kind::Lines(series(&|samples| histogram(&samples.model[0]))),
    });
    findings.figures.push(Figure {
        id: "mapspace-cdf".to_owned(),
        title: "Share of mappings up to a relative EDP (model, over factorisations)".to_owned(),
        x: Scale::linear("relative EDP"),
        y: Scale::linear("% of the mappings"),
        kind: Kind::Lines(series(&|samples| cumulative(&samples.model[0], 15.0))),
    });
    let truth = all.iter().filter(|samples| HEADLINES.contains(&samples.operation.name)).flat_map(|samples| {
        let [model, truth] = exact_edp(&samples.exact);
        [("model", model), ("truth", truth)]
            .map(|(by, relative)| Series::new(format!("{}, {by}", samples.operation.name), cumulative(&relative, 15.0)))
    });
    findings.figures.push(Figure {
        id: "mapspace-truth-cdf".to_owned(),
        title: "The same of the part that ran, by the refined model and in truth".to_owned(),
        x: Scale::linear("EDP over the smallest of the runs"),
        y: Scale::linear("% of the runs"),
        kind: Kind::Lines(truth.collect()),
    });
    findings.figures.push(Figure {
        id: "mapspace-truth".to_owned(),
        title: "The refined model against exact cycles".to_owned(),
        x: Scale::log("exact cycles"),
        y: Scale::log("cycles by the model"),
        kind: Kind::Points(series(&|samples| {
            let ran = samples.exact.iter().filter(|sampled| !sampled.stopped);
            ran.map(|sampled| [sampled.cycles as f64, sampled.models[Model::ALL.len() - 1]]).collect()
        })),
    });
}

/// Operations of equal multiply-accumulates.
fn equal(setting: &Setting<'_>, findings: &mut Findings, count: usize) -> Result<(), StudyError> {
    let all = samples(setting, &equal_macs(), count / 4, 0)?;
    findings.measure("mapspace.equal_macs", [decades(&all[0].model[0]) / decades(&all[1].model[0])]);
    let mut table =
        Table::new("Equal multiply-accumulates", ["operation", "MACs", "decades", "10th percentile", "below 3 x, %"]);
    for samples in &all {
        let relative = &samples.model[0];
        table.row([
            samples.operation.name.to_owned(),
            crate::report::grouped(samples.operation.problem.macs()),
            format!("{:.2}", decades(relative)),
            format!("{:.2}", percentile(relative, 0.1)),
            format!("{:.2}", 100.0 * share_below(relative, 3.0)),
        ]);
    }
    findings.tables.push(table.noted(&format!(
        "{} mappings each, over factorisations. 240 x 240 x 512 equals conv1 only with 56 x 56 outputs; with the 112 x 112 of ResNet-50 it is d = 480.",
        count / 4
    )));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::largest_gap;

    #[test]
    fn the_gap_of_distributions_is_the_largest_difference_of_shares() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 5.0, 6.0, 7.0]);
        assert!((largest_gap(&a, &b, f64::INFINITY) - 0.75).abs() < 1e-12);
        assert!((largest_gap(&a, &b, 3.0) - 0.25).abs() < 1e-12);
        assert!(largest_gap(&a, &a, f64::INFINITY).abs() < 1e-12);
    }
}
