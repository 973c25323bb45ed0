//! Study 4: does it pay to normalize rows where the product leaves the accumulator?
//!
//! Fused, a tile has whole rows, so it has few of them, and the other operand is fetched again for each tile. Apart, int32 sums go to main
//! memory and come back. Residual additions are in neither.

use crate::bench::{Bench, Measured, Result, Work, millijoules, prices, sized};
use crate::best;
use crate::figure::{Figure, Kind, Scale};
use crate::layer::HEAD;
use crate::report::{Findings, Table, grouped};
use crate::setting::{Bandwidth, Form, Setting, StudyError, in_parallel};
use crate::sqnr;

/// Heads of BERT-Base.
const HEADS: usize = 12;
/// The longest sequence for which the mapper searches.
const LONGEST_SEARCH: usize = 512;

/// A product and its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Query times key, softmax; one head.
    Scores,
    /// Attention's output, LayerNorm.
    Output,
    /// The feed-forward network's second product, LayerNorm.
    Down,
}

impl Pair {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scores, Self::Output, Self::Down];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scores => "QK + softmax",
            Self::Output => "Wout + LayerNorm",
            Self::Down => "W2 + LayerNorm",
        }
    }

    fn size(self, tokens: usize, form: Form) -> [usize; 3] {
        let width = form.choose(768, 192);
        match self {
            Self::Scores => [tokens, tokens, HEAD],
            Self::Output => [tokens, width, width],
            Self::Down => [tokens, width, 4 * width],
        }
    }

    fn norm(self) -> Result {
        if self == Self::Scores { Result::Softmax } else { Result::LayerNorm }
    }
}

/// A pair on a build behind a memory.
#[derive(Clone, Copy, Debug)]
struct Point {
    pair: Pair,
    tokens: usize,
    scratchpad: u32,
    accumulator: u32,
    bandwidth: Bandwidth,
}

/// What its schedules take; none where one does not fit.
struct Outcome {
    point: Point,
    /// The int8 product alone.
    product: Measured,
    /// Product with int32 sums, and the norm behind it.
    separate: [Measured; 2],
    /// The same with int8 in between.
    narrow: [Measured; 2],
    /// Fused, by the paper's rule.
    fused: Option<Measured>,
    /// Fused, by the mapper.
    best: Option<Measured>,
    /// mJ, by the first table: separate, fused.
    energy: [Option<f64>; 2],
}

impl Outcome {
    fn run(point: &Point, form: Form) -> std::result::Result<Self, StudyError> {
        let config = sized(point.scratchpad, point.accumulator)?;
        let mut bench = Bench::new(&config, point.bandwidth.memory()?);
        let ([m, n, k], norm) = (point.pair.size(point.tokens, form), point.pair.norm());
        let mut apart = |result: Result, wide: bool| -> std::result::Result<[Measured; 2], StudyError> {
            let product = bench.run(&Work::product(m, n, k, result))?;
            Ok([product, bench.run(&Work::Norm { rows: m, cols: n, wide, result: norm })?])
        };
        let (separate, narrow) = (apart(Result::Int32, true)?, apart(Result::Int8, false)?);
        let fused = bench.run_if_it_fits(&Work::product(m, n, k, norm))?;
        let search = point.tokens <= LONGEST_SEARCH;
        let best = if search { best::product(&mut bench, [m, n, k], norm)?.map(|(best, _)| best) } else { None };
        let first = &prices(&config)?[0];
        let mut both = separate[0];
        both += separate[1];
        let energy = [Some(both), fused].map(|of| of.map(|of| millijoules(first, &of)));
        Ok(Self { point: *point, product: narrow[0], separate, narrow, fused, best, energy })
    }

    fn apart(&self) -> u64 {
        self.separate[0].cycles + self.separate[1].cycles
    }

    /// Change by fusing, in percent.
    fn change(&self, fused: Option<Measured>) -> Option<f64> {
        fused.map(|fused| 100.0 * (fused.cycles as f64 / self.apart() as f64 - 1.0))
    }

    fn is(&self, pair: Pair, tokens: usize, accumulator: u32, bandwidth: Bandwidth) -> bool {
        let Point { scratchpad, .. } = self.point;
        scratchpad == 256
            && (self.point.pair, self.point.tokens) == (pair, tokens)
            && (self.point.accumulator, self.point.bandwidth) == (accumulator, bandwidth)
    }
}

/// Lengths at which every accumulator is looked at, and longer ones with the paper's 256 KiB and its likely memory.
fn points(setting: &Setting<'_>) -> Vec<Point> {
    let lengths = setting.form.choose(vec![128, 512, 1024], vec![64]);
    let long = setting.form.choose(vec![4096, 2048], vec![]);
    let accumulators = setting.form.choose(vec![64, 128, 256, 512], vec![64, 256]);
    let mut points = Vec::new();
    for pair in Pair::ALL {
        let (scratchpad, accumulator, bandwidth) = (256, 256, Bandwidth::B8);
        points.extend(long.iter().map(|&tokens| Point { pair, tokens, scratchpad, accumulator, bandwidth }));
    }
    for &bandwidth in setting.form.choose(&[Bandwidth::B8, Bandwidth::B16][..], &[Bandwidth::B8]) {
        for pair in Pair::ALL {
            for &tokens in &lengths {
                for &accumulator in &accumulators {
                    points.push(Point { pair, tokens, scratchpad: 256, accumulator, bandwidth });
                    // The small scratchpad at the paper's length.
                    if tokens == setting.form.choose(512, 64) && bandwidth == Bandwidth::B8 {
                        points.push(Point { pair, tokens, scratchpad: 64, accumulator, bandwidth });
                    }
                }
            }
        }
    }
    points
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> std::result::Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let points = points(setting);
    for point in &points {
        findings.conditions.configuration(&sized(point.scratchpad, point.accumulator)?);
        findings.conditions.memory(point.bandwidth.memory()?);
    }
    findings.conditions.energy_tables = vec![crate::bench::ENERGY_TABLES[0].to_owned()];
    findings
        .conditions
        .assume("apart: Gemmini's rule for the product, int32 sums to memory, a pass that normalizes them");
    findings.conditions.assume("fused: whole rows in a tile, otherwise Gemmini's rule; single commands without double buffering where the halves are too small");
    findings.conditions.assume("residual additions in neither; no divisor of the normalizer is zero");
    let outcomes = in_parallel(setting, "fusion", &points, |point| Outcome::run(point, setting.form))?;
    claims(&mut findings, &outcomes);
    tables(setting, &mut findings, &outcomes);
    figures(setting, &mut findings, &outcomes);
    Ok(findings)
}

fn claims(findings: &mut Findings, outcomes: &[Outcome]) {
    let at = |pair, tokens, accumulator| {
        outcomes.iter().find(|outcome| outcome.is(pair, tokens, accumulator, Bandwidth::B8))
    };
    let change =
        |pair, tokens, accumulator| at(pair, tokens, accumulator).and_then(|outcome| outcome.change(outcome.fused));
    let both = |tokens, accumulator| {
        let (scores, output) = (at(Pair::Scores, tokens, accumulator)?, at(Pair::Output, tokens, accumulator)?);
        let heads = HEADS as u64;
        let apart = heads * scores.apart() + output.apart();
        let fused = heads * scores.fused?.cycles + output.fused?.cycles;
        Some(100.0 * (fused as f64 / apart as f64 - 1.0))
    };
    let hidden = at(Pair::Scores, 512, 128)
        .and_then(|outcome| Some(100.0 * (outcome.fused?.cycles as f64 / outcome.product.cycles as f64 - 1.0)));
    for (id, values) in [
        ("fusion.softmax_512", vec![change(Pair::Scores, 512, 128), change(Pair::Scores, 512, 256)]),
        ("fusion.wout_128", vec![change(Pair::Output, 512, 128)]),
        ("fusion.wout_256", vec![change(Pair::Output, 512, 256)]),
        ("fusion.mha_512", vec![both(512, 128), both(512, 256)]),
        ("fusion.w2_512", vec![change(Pair::Down, 512, 256)]),
        ("fusion.softmax_4096", vec![change(Pair::Scores, 4096, 256)]),
        ("fusion.mha_4096", vec![both(4096, 256)]),
        ("fusion.w2_4096", vec![change(Pair::Down, 4096, 256)]),
        ("fusion.hidden", vec![hidden]),
    ] {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        if known.len() == values.len() {
            findings.measure(id, known);
        }
    }
}

fn tables(setting: &Setting<'_>, findings: &mut Findings, outcomes: &[Outcome]) {
    let mut table = Table::new(
        "Fused against apart",
        [
            "pair",
            "tokens",
            "scratchpad",
            "accumulator",
            "bytes a cycle",
            "apart, cycles",
            "fused, cycles",
            "change",
            "mapper's best, cycles",
            "change",
            "int8 between, cycles",
            "change",
            "mJ apart",
            "mJ fused",
            "bytes apart",
            "bytes fused",
        ],
    );
    for outcome in outcomes {
        let Point { pair, tokens, scratchpad, accumulator, bandwidth } = outcome.point;
        let cycles = |of: Option<Measured>| of.map_or_else(|| "does not fit".to_owned(), |of| grouped(of.cycles));
        let change =
            |of: Option<Measured>| outcome.change(of).map_or_else(String::new, |change| format!("{change:+.1} %"));
        let mut narrow = outcome.narrow[0];
        narrow += outcome.narrow[1];
        let energy = outcome.energy.map(|energy| energy.map_or_else(String::new, |mj| format!("{mj:.3}")));
        table.row([
            pair.name().to_owned(),
            tokens.to_string(),
            scratchpad.to_string(),
            accumulator.to_string(),
            bandwidth.bytes().to_string(),
            grouped(outcome.apart()),
            cycles(outcome.fused),
            change(outcome.fused),
            if tokens > LONGEST_SEARCH { String::new() } else { cycles(outcome.best) },
            change(outcome.best),
            grouped(narrow.cycles),
            change(Some(narrow)),
            energy[0].clone(),
            energy[1].clone(),
            grouped(outcome.separate[0].bytes + outcome.separate[1].bytes),
            outcome.fused.map_or_else(String::new, |fused| grouped(fused.bytes)),
        ]);
    }
    findings.tables.push(
        table.noted("QK + softmax is one head. Energies by the first table. The mapper searched up to 512 tokens."),
    );
    let mut table = Table::new(
        "What int8 in between costs: signal over noise of the result, against exact arithmetic",
        ["norm", "columns", "int32 sums", "int8 in between"],
    );
    for (norm, columns) in [(Result::LayerNorm, 768), (Result::Softmax, 512)] {
        let [wide, narrow] = sqnr::of(norm, columns, setting.form.choose(512, 64), setting.seed);
        table.row([
            if norm == Result::Softmax { "softmax" } else { "LayerNorm" }.to_owned(),
            columns.to_string(),
            format!("{wide:.1} dB"),
            format!("{narrow:.1} dB"),
        ]);
    }
    findings.tables.push(table.noted(
        "Rows of normally distributed sums through the accelerator's own arithmetic; int8 in between has the largest sum at 127.",
    ));
}

fn figures(setting: &Setting<'_>, findings: &mut Findings, outcomes: &[Outcome]) {
    let tokens = setting.form.choose(512, 64);
    let shown: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| {
            let Point { scratchpad, bandwidth, accumulator, .. } = outcome.point;
            outcome.point.tokens == tokens && scratchpad == 256 && bandwidth == Bandwidth::B8 && accumulator != 512
        })
        .collect();
    let short = |pair: Pair| pair.name().split(' ').next().unwrap_or_default().to_owned();
    let mut categories = Vec::new();
    let (mut products, mut norms) = (Vec::new(), Vec::new());
    for outcome in &shown {
        // One head of the three that are shown would vanish beside the others.
        let times = if outcome.point.pair == Pair::Scores { HEADS as f64 } else { 1.0 };
        categories.push(format!("{} {} apart", short(outcome.point.pair), outcome.point.accumulator));
        products.push(times * outcome.separate[0].cycles as f64 / 1e6);
        norms.push(times * outcome.separate[1].cycles as f64 / 1e6);
        if let Some(fused) = outcome.fused {
            categories.push("fused".to_owned());
            products.push(times * fused.cycles as f64 / 1e6);
            norms.push(0.0);
        }
    }
    findings.figures.push(Figure {
        id: "fusion-bars".to_owned(),
        title: format!("Product and norm, apart and fused ({tokens} tokens, 8 bytes a cycle; QK: 12 heads)"),
        x: Scale::linear("pair, KiB of accumulator"),
        y: Scale::linear("million cycles"),
        kind: Kind::Bars {
            categories,
            series: vec![("product".to_owned(), products), ("norm".to_owned(), norms)],
            stacked: true,
        },
    });
    for (bandwidth, id) in [(Bandwidth::B8, "fusion-heat-8"), (Bandwidth::B16, "fusion-heat-16")] {
        if !outcomes.iter().any(|outcome| outcome.point.bandwidth == bandwidth) {
            continue;
        }
        let mut rows: Vec<(String, Pair, u32)> = Vec::new();
        let mut columns: Vec<usize> = Vec::new();
        for outcome in outcomes.iter().filter(|o| o.point.scratchpad == 256 && o.point.bandwidth == bandwidth) {
            let Point { pair, accumulator, tokens, .. } = outcome.point;
            let row = (format!("{}, {accumulator} KiB", pair.name()), pair, accumulator);
            if !rows.contains(&row) {
                rows.push(row);
            }
            if !columns.contains(&tokens) {
                columns.push(tokens);
            }
        }
        columns.sort_unstable();
        rows.sort_by_key(|(_, pair, accumulator)| (*pair as u8, *accumulator));
        let value = |pair: Pair, accumulator: u32, tokens: usize| {
            let found = outcomes.iter().find(|outcome| outcome.is(pair, tokens, accumulator, bandwidth));
            found.and_then(|outcome| outcome.change(outcome.fused))
        };
        let values = rows
            .iter()
            .map(|(_, pair, accumulator)| columns.iter().map(|tokens| value(*pair, *accumulator, *tokens)).collect())
            .collect();
        findings.figures.push(Figure {
            id: id.to_owned(),
            title: format!(
                "Change by fusing in %, {} bytes a cycle, over tokens (below 0 it pays; -: not run or does not fit)",
                bandwidth.bytes()
            ),
            x: Scale::linear("tokens"),
            y: Scale::linear("pair, accumulator"),
            kind: Kind::Heat {
                columns: columns.iter().map(usize::to_string).collect(),
                rows: rows.iter().map(|(name, ..)| name.clone()).collect(),
                values,
            },
        });
    }
}
