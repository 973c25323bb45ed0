//! Study 2: from an accelerator made for convolutional networks to one for Transformers.
//!
//! The baseline has 256 KiB of scratchpad and 64 of accumulator, and leaves softmax, LayerNorm and GELU to the host; the other one has the
//! sizes exchanged and units for them.

use crate::bench::{Bench, Measured, millijoules, prices, sized};
use crate::best;
use crate::figure::{Figure, Kind, Scale, Series};
use crate::host::{self, Code, Task};
use crate::layer::{Layer, Norms, Part, Step};
use crate::report::{Findings, Table, grouped, percent};
use crate::setting::{Bandwidth, Setting, StudyError, in_parallel};

/// Sizes of the grid in KiB.
const SIZES: [u32; 3] = [64, 128, 256];
/// How much faster than Rocket the optimistic core is.
const FAST_CORE: f64 = 4.0;
/// Layers of BERT-Base.
pub const LAYERS: usize = 12;

/// A layer's cycles on the accelerator, by part; products without what is fused to them, and what the fused norms add.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    /// Products, GELU with its product.
    pub products: u64,
    /// What softmax adds.
    pub softmax: u64,
    /// What LayerNorm adds.
    pub layer_norm: u64,
    /// Residual additions.
    pub residual: u64,
}

impl Shares {
    /// All together.
    pub fn total(&self) -> u64 {
        self.products + self.softmax + self.layer_norm + self.residual
    }
}

/// A layer with its norms on the accelerator: what a norm adds is the difference to the product that yields int8 at once.
///
/// # Errors
/// A run that fails.
pub fn shares(bench: &mut Bench, layer: &Layer) -> Result<(Shares, Measured), StudyError> {
    let (mut shares, mut sum) = (Shares::default(), Measured::default());
    for Step { part, work, times } in fitting_steps(bench, layer)? {
        let all = bench.run(&work)?.times(times);
        sum += all;
        match part {
            Part::Residual => shares.residual += all.cycles,
            Part::Softmax => shares.softmax += all.cycles,
            Part::LayerNorm => shares.layer_norm += all.cycles,
            Part::Scores | Part::Output | Part::Down => {
                let bare = bench.run(&bare(&work))?.times(times).cycles.min(all.cycles);
                shares.products += bare;
                *(if part == Part::Scores { &mut shares.softmax } else { &mut shares.layer_norm }) += all.cycles - bare;
            }
            _ => shares.products += all.cycles,
        }
    }
    Ok((shares, sum))
}

/// The product alone, with an int8 result.
fn bare(work: &crate::bench::Work) -> crate::bench::Work {
    use crate::bench::{Result, Work};
    match *work {
        Work::Product { m, n, k, result: Result::Softmax | Result::LayerNorm, .. } => {
            Work::product(m, n, k, Result::Int8)
        }
        other => other,
    }
}

/// The layer as Gemmini's software runs it; norms whose rows do not fit the accumulator beside the product are passes of their own.
///
/// # Errors
/// A run that fails.
pub fn fitting_steps(bench: &mut Bench, layer: &Layer) -> Result<Vec<Step>, StudyError> {
    let separate = layer.steps(Norms::Separate);
    let mut steps = Vec::new();
    for step in layer.steps(Norms::Fused) {
        if bench.run_if_it_fits(&step.work)?.is_some() {
            steps.push(step);
            continue;
        }
        let pass = if step.part == Part::Scores { Part::Softmax } else { Part::LayerNorm };
        steps.extend(separate.iter().filter(|other| other.part == step.part));
        let rows = |other: &&Step| other.part == pass;
        steps.extend(separate.iter().filter(rows).take(1));
    }
    Ok(steps)
}

/// The baseline: products with int32 results where the host goes on, and the host's cycles.
pub struct Baseline {
    /// Of the products.
    pub products: Measured,
    /// Of the host's program, on Rocket.
    pub host: u64,
}

impl Baseline {
    /// A layer with its norms on the host.
    ///
    /// # Errors
    /// A run that fails.
    pub fn of(bench: &mut Bench, layer: &Layer, code: Code) -> Result<Self, StudyError> {
        let mut products = Measured::default();
        for step in layer.steps(Norms::Elsewhere) {
            products += bench.run(&step.work)?.times(step.times);
        }
        Ok(Self { products, host: host::cycles(layer, code) })
    }

    /// Both.
    pub fn total(&self) -> u64 {
        self.products.cycles + self.host
    }
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> Result<Findings, StudyError> {
    let mut findings = Findings::default();
    gain(setting, &mut findings)?;
    grid(setting, &mut findings)?;
    findings.conditions.assume(setting.form.choose(
        "one encoder layer of BERT-Base; every operation waits for the one before",
        "one encoder layer of a quarter of BERT-Base's width; every operation waits for the one before",
    ));
    findings.conditions.assume("no divisor of the normalizer is zero");
    findings.conditions.assume(
        "host: instructions an element as stated in the table, cycles of an instruction from Rocket's parameters; nothing overlaps with the accelerator",
    );
    Ok(findings)
}

fn gain(setting: &Setting<'_>, findings: &mut Findings) -> Result<(), StudyError> {
    let memory = Bandwidth::B8.memory()?;
    let (before, after) = (sized(256, 64)?, sized(64, 256)?);
    let lengths = setting.form.choose(vec![128, 256, 512], vec![32]);
    let (mut old, mut new) = (Bench::new(&before, memory), Bench::new(&after, memory));
    findings.conditions.configuration(&before);
    findings.conditions.configuration(&after);
    let mut table = Table::new(
        "Gain over the baseline, a layer",
        [
            "tokens",
            "host's program",
            "core",
            "baseline, cycles",
            "with units, cycles",
            "gain",
            "products in the baseline",
        ],
    );
    let mut pies = Table::new(
        "Shares with the new units",
        ["tokens", "products and GELU", "softmax", "LayerNorm", "residual", "cycles"],
    );
    let (mut dominant, mut bars) = (Vec::new(), Vec::new());
    for (index, &length) in lengths.iter().enumerate() {
        (setting.watch)("baseline: lengths", index, lengths.len());
        let layer = setting.form.choose(Layer::bert_base(length), Layer::small(length));
        let (shares, units) = shares(&mut new, &layer)?;
        let total = shares.total() as f64;
        let parts = [shares.products, shares.softmax, shares.layer_norm, shares.residual];
        let parts = parts.map(|cycles| 100.0 * cycles as f64 / total);
        dominant.push(parts[0]);
        pies.row(
            [length.to_string()]
                .into_iter()
                .chain(parts.map(|part| format!("{part:.1} %")))
                .chain([grouped(units.cycles)]),
        );
        for code in Code::ALL {
            let baseline = Baseline::of(&mut old, &layer, code)?;
            for (core, speed) in [("Rocket-like", 1.0), ("4 x", FAST_CORE)] {
                let cycles = baseline.products.cycles as f64 + baseline.host as f64 / speed;
                table.row([
                    length.to_string(),
                    code.name().to_owned(),
                    core.to_owned(),
                    grouped(cycles as u64),
                    grouped(units.cycles),
                    format!("{:.1} x", cycles / units.cycles as f64),
                    format!("{:.1} %", 100.0 * baseline.products.cycles as f64 / cycles),
                ]);
            }
        }
        let last = index + 1 == lengths.len();
        if last {
            let baseline = Baseline::of(&mut old, &layer, Code::Polynomial)?;
            let ratio = baseline.total() as f64 / units.cycles as f64;
            findings.measure("baseline.gain", [ratio]);
            let share = |cycles: u64| 100.0 * cycles as f64 / baseline.total() as f64;
            findings.measure("baseline.matmul_share", [share(baseline.products.cycles)]);
            let of = |task: Task| share(task.cycles(&layer, Code::Polynomial));
            let converting = of(Task::Dequantise) + of(Task::Quantise);
            findings.measure(
                "baseline.pie_before",
                [of(Task::Softmax), of(Task::LayerNorm), of(Task::Residual), converting, of(Task::Gelu)],
            );
            findings.measure("baseline.pie_after", parts);
            curve(findings, &layer, baseline.products.cycles, units.cycles);
            costs(findings, &layer);
        }
        bars.push((length, parts));
    }
    findings.measure("baseline.dominant", dominant);
    let names = ["products and GELU", "softmax", "LayerNorm", "residual"];
    let series = names
        .iter()
        .enumerate()
        .map(|(at, name)| ((*name).to_owned(), bars.iter().map(|(_, parts)| parts[at]).collect()));
    findings.figures.push(Figure {
        id: "baseline-shares".to_owned(),
        title: "Where the cycles go with the new units (64/256 KiB, 8 bytes a cycle)".to_owned(),
        x: Scale::linear("tokens"),
        y: Scale::linear("% of the layer's cycles"),
        kind: Kind::Bars {
            categories: bars.iter().map(|(length, _)| length.to_string()).collect(),
            series: series.collect(),
            stacked: true,
        },
    });
    findings.tables.push(table.noted("8 bytes a cycle; baseline 256/64 KiB, with units 64/256 KiB."));
    findings
        .tables
        .push(pies.noted("What a fused norm adds to its product, which counts as if it yielded int8 at once."));
    Ok(())
}

/// The gain over the host's cycles an element: on what the 39.6 rests.
fn curve(findings: &mut Findings, layer: &Layer, products: u64, units: u64) {
    let elements: u64 = Task::ALL.iter().map(|task| task.elements(layer, Code::Polynomial)).sum();
    let point = |cycles: f64| [cycles, (products as f64 + elements as f64 * cycles) / units as f64];
    let points = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0].map(point).to_vec();
    let own = |code: Code, speed: f64| {
        let all = host::cycles(layer, code) as f64 / speed;
        [all / elements as f64, (products as f64 + all) / units as f64]
    };
    let programs = Code::ALL.iter().skip(1).flat_map(|code| [own(*code, 1.0), own(*code, FAST_CORE)]).collect();
    let paper = points.iter().map(|[x, _]| [*x, 39.6]).collect();
    findings.figures.push(Figure {
        id: "baseline-gain".to_owned(),
        title: format!("Gain over the host's cycles an element ({} tokens, 8 bytes a cycle)", layer.tokens),
        x: Scale::log("cycles of the host an element and task"),
        y: Scale::log("gain"),
        kind: Kind::Lines(vec![
            Series::new("gain", points),
            Series::new("the paper's 39.6", paper),
            Series::new("our programs, Rocket-like and 4 x", programs),
        ]),
    });
}

/// The host's instructions, as they are counted.
fn costs(findings: &mut Findings, layer: &Layer) {
    let mut table = Table::new(
        "The host's work: instructions an element, and Rocket's cycles",
        [
            "task",
            "program",
            "elements a layer",
            "integer",
            "multiply",
            "float",
            "divide",
            "load, store",
            "cycles an element",
        ],
    );
    for task in Task::ALL {
        for code in Code::ALL.into_iter().filter(|code| task.elements(layer, *code) > 0) {
            let (n, work) = (task.elements(layer, code), task.instructions(code));
            table.row([
                task.name().to_owned(),
                code.name().to_owned(),
                grouped(n),
                work.integer.to_string(),
                work.multiply.to_string(),
                work.float.to_string(),
                work.float_divide.to_string(),
                work.memory.to_string(),
                format!("{:.1}", task.cycles(layer, code) as f64 / n as f64),
            ]);
        }
    }
    findings.tables.push(table.noted("Lines of the cache come on top of the instructions, 40 cycles for 64 bytes."));
}

/// A cell of the grid.
struct Cell {
    scratchpad: u32,
    accumulator: u32,
    bandwidth: Bandwidth,
    /// Products alone, by Gemmini's rule and by the mapper.
    products: [u64; 2],
    /// The whole layer, by Gemmini's rule.
    layer: Measured,
    /// mJ by each table.
    energy: Vec<f64>,
}

impl Cell {
    fn run(
        setting: &Setting<'_>,
        layer: &Layer,
        [scratchpad, accumulator]: [u32; 2],
        bandwidth: Bandwidth,
    ) -> Result<Self, StudyError> {
        let config = sized(scratchpad, accumulator)?;
        let mut bench = Bench::new(&config, bandwidth.memory()?);
        let mut products = [0; 2];
        for (_, [m, n, k], times) in layer.products() {
            let rule = bench.run(&crate::bench::Work::product(m, n, k, crate::bench::Result::Int8))?;
            // Where the paper's question is.
            let corner = [scratchpad, accumulator] == [256, 64] || [scratchpad, accumulator] == [64, 256];
            let searched = corner && setting.form.choose(bandwidth != Bandwidth::B5, bandwidth == Bandwidth::B8);
            let found = if searched { best::product(&mut bench, [m, n, k], crate::bench::Result::Int8)? } else { None };
            products[0] += rule.cycles * times as u64;
            products[1] += found.map_or(0, |(found, _)| found.cycles) * times as u64;
        }
        let (_, whole) = shares(&mut bench, layer)?;
        let energy = prices(&config)?.iter().map(|prices| millijoules(prices, &whole)).collect();
        Ok(Self { scratchpad, accumulator, bandwidth, products, layer: whole, energy })
    }

    fn utilisation(&self, macs: u64, by: usize) -> f64 {
        100.0 * macs as f64 / 256.0 / self.products[by] as f64
    }
}

fn grid(setting: &Setting<'_>, findings: &mut Findings) -> Result<(), StudyError> {
    let layer = setting.form.choose(Layer::bert_base(512), Layer::small(32));
    let bandwidths: &[Bandwidth] = setting.form.choose(&Bandwidth::ALL, &Bandwidth::ALL[1..2]);
    let mut cells = Vec::new();
    for &bandwidth in bandwidths {
        findings.conditions.memory(bandwidth.memory()?);
        cells.extend(SIZES.iter().flat_map(|acc| SIZES.map(|spad| ([spad, *acc], bandwidth))));
    }
    for ([scratchpad, accumulator], _) in &cells {
        findings.conditions.configuration(&sized(*scratchpad, *accumulator)?);
    }
    findings.conditions.energy_tables = crate::bench::ENERGY_TABLES.map(str::to_owned).to_vec();
    let cells = in_parallel(setting, "baseline: grid", &cells, |(sizes, bandwidth)| {
        Cell::run(setting, &layer, *sizes, *bandwidth)
    })?;
    let macs = layer.macs();
    let mut table = Table::new(
        "Utilisation of the products in %, and the layer",
        [
            "bytes a cycle",
            "accumulator, KiB",
            "scratchpad, KiB",
            "Gemmini's rule",
            "mapper",
            "layer, cycles",
            "bytes moved",
            "mJ (45 nm, LPDDR4)",
            "mJ (45 nm, DDR3)",
            "mJ (22 nm, LPDDR4)",
        ],
    );
    for cell in &cells {
        let mapped = if cell.products[1] > 0 { format!("{:.1}", cell.utilisation(macs, 1)) } else { String::new() };
        table.row(
            [
                format!("{:.1}", cell.bandwidth.bytes()),
                cell.accumulator.to_string(),
                cell.scratchpad.to_string(),
                format!("{:.1}", cell.utilisation(macs, 0)),
                mapped,
                grouped(cell.layer.cycles),
                grouped(cell.layer.bytes),
            ]
            .into_iter()
            .chain(cell.energy.iter().map(|energy| format!("{energy:.2}"))),
        );
    }
    findings.tables.push(table.noted(&format!("One layer, {} tokens.", layer.tokens)));
    let at = |bandwidth: Bandwidth, scratchpad: u32, accumulator: u32| {
        let wanted = move |cell: &&Cell| {
            cell.bandwidth == bandwidth && cell.scratchpad == scratchpad && cell.accumulator == accumulator
        };
        cells.iter().find(wanted).ok_or_else(|| StudyError::Setting("a cell of the grid is missing".to_owned()))
    };
    let paper: Result<Vec<f64>, StudyError> = SIZES
        .iter()
        .flat_map(|acc| SIZES.map(|spad| (spad, *acc)))
        .map(|(spad, acc)| Ok(at(Bandwidth::B8, spad, acc)?.utilisation(macs, 0)))
        .collect();
    let paper = paper?;
    let step: f64 = (0..3).map(|spad| paper[3 + spad] - paper[spad]).sum::<f64>() / 3.0;
    let spread = (0..3).map(|acc| (paper[3 * acc + 2] - paper[3 * acc]).abs()).fold(0.0, f64::max);
    findings.measure("baseline.grid", paper);
    findings.measure("baseline.accumulator_step", [step]);
    findings.measure("baseline.scratchpad_step", [spread]);
    let change = |bandwidth: Bandwidth, by: usize| -> Result<f64, StudyError> {
        let (old, new) = (at(bandwidth, 256, 64)?, at(bandwidth, 64, 256)?);
        Ok(new.products[by] as f64 / old.products[by].max(1) as f64)
    };
    let rule = 100.0 * (change(Bandwidth::B8, 0)? - 1.0);
    findings.measure("baseline.rebalance", [rule]);
    findings.measure("baseline.rebalance_by_grid", [rule]);
    findings.measure("baseline.rebalance_mapped", [100.0 * (change(Bandwidth::B8, 1)? - 1.0)]);
    let mut table = Table::new(
        "From 256/64 to 64/256 KiB",
        [
            "bytes a cycle",
            "products, Gemmini's rule",
            "products, mapper",
            "layer, Gemmini's rule",
            "bytes moved",
            "energy, 3 tables",
        ],
    );
    let (mut by_rule, mut by_mapper) = (Vec::new(), Vec::new());
    for &bandwidth in bandwidths {
        let (old, new) = (at(bandwidth, 256, 64)?, at(bandwidth, 64, 256)?);
        let ratio = |value: &dyn Fn(&Cell) -> f64| value(new) / value(old);
        let mapped = if old.products[1] > 0 { percent(change(bandwidth, 1)?) } else { String::new() };
        let energies: Vec<String> = (0..old.energy.len()).map(|n| percent(ratio(&|cell| cell.energy[n]))).collect();
        table.row([
            format!("{:.1}", bandwidth.bytes()),
            percent(change(bandwidth, 0)?),
            mapped,
            percent(ratio(&|cell| cell.layer.cycles as f64)),
            percent(ratio(&|cell| cell.layer.bytes as f64)),
            energies.join(", "),
        ]);
        by_rule.push([bandwidth.bytes(), 100.0 * (change(bandwidth, 0)? - 1.0)]);
        if old.products[1] > 0 {
            by_mapper.push([bandwidth.bytes(), 100.0 * (change(bandwidth, 1)? - 1.0)]);
        }
    }
    findings.tables.push(table);
    let paper = |name: &str, value: f64| Series::new(name, by_rule.iter().map(|[x, _]| [*x, value]).collect());
    let lines = vec![
        Series::new("Gemmini's rule", by_rule.clone()),
        Series::new("mapper's schedules", by_mapper),
        paper("the paper's 36 %", -36.0),
        paper("its grid's 24 %", -24.2),
    ];
    findings.figures.insert(
        0,
        Figure {
            id: "baseline-rebalance".to_owned(),
            title: format!("Products' cycles, 64/256 against 256/64 KiB, {} tokens", layer.tokens),
            x: Scale::linear("bytes a cycle of the memory behind the port"),
            y: Scale::linear("change in %"),
            kind: Kind::Lines(lines),
        },
    );
    Ok(())
}
