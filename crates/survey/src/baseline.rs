//! Study 2: from an accelerator made for convolutional networks to one for Transformers.
//!
//! The baseline has 256 KiB of scratchpad and 64 of accumulator, and leaves softmax, LayerNorm and GELU to the host; the other one has the
//! sizes exchanged and units for them.

use crate::bench::Result::{Int8, LayerNorm, Softmax};
use crate::bench::{Bench, Measured, Work, millijoules, prices, sized};
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
fn bare(work: &Work) -> Work {
    match *work {
        Work::Product { m, n, k, result: Softmax | LayerNorm, .. } => Work::product(m, n, k, Int8),
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
    /// Products alone by Gemmini's rule.
    rule: u64,
    /// What the paper asks about has more.
    corner: Option<Corner>,
}

/// More of a cell: one of the two builds that the paper compares.
struct Corner {
    /// Products alone by the mapper.
    mapped: u64,
    /// The whole layer, by Gemmini's rule.
    layer: Measured,
    /// mJ by each table.
    energy: Vec<f64>,
}

/// The two builds that the paper compares.
const CORNERS: [[u32; 2]; 2] = [[256, 64], [64, 256]];

impl Cell {
    fn run(layer: &Layer, [scratchpad, accumulator]: [u32; 2], bandwidth: Bandwidth) -> Result<Self, StudyError> {
        let config = sized(scratchpad, accumulator)?;
        let mut bench = Bench::new(&config, bandwidth.memory()?);
        let mut rule = 0;
        for (_, [m, n, k], times) in layer.products() {
            rule += bench.run(&Work::product(m, n, k, Int8))?.cycles * times as u64;
        }
        let corner = CORNERS.contains(&[scratchpad, accumulator]);
        let corner = if corner { Some(Corner::run(&mut bench, layer)?) } else { None };
        Ok(Self { scratchpad, accumulator, bandwidth, rule, corner })
    }

    fn corner(&self) -> Result<&Corner, StudyError> {
        self.corner.as_ref().ok_or_else(|| StudyError::Setting("a corner of the grid is missing".to_owned()))
    }

    fn utilisation(&self, macs: u64) -> f64 {
        utilisation(macs, self.rule)
    }
}

impl Corner {
    fn run(bench: &mut Bench, layer: &Layer) -> Result<Self, StudyError> {
        let mut mapped = 0;
        for (_, [m, n, k], times) in layer.products() {
            let found = best::product(bench, [m, n, k], Int8)?;
            mapped += found.map_or(0, |(found, _)| found.cycles) * times as u64;
        }
        let (_, whole) = shares(bench, layer)?;
        let energy = prices(bench.config())?.iter().map(|prices| millijoules(prices, &whole)).collect();
        Ok(Self { mapped, layer: whole, energy })
    }
}

/// Of the array of 16 x 16, in %.
fn utilisation(macs: u64, cycles: u64) -> f64 {
    100.0 * macs as f64 / 256.0 / cycles as f64
}

/// Where the paper's table is looked at: all cells with 16 and with 8 bytes a cycle, otherwise the two that it compares.
fn cells(setting: &Setting<'_>) -> Vec<([u32; 2], Bandwidth)> {
    let all = || SIZES.iter().flat_map(|acc| SIZES.map(|spad| [spad, *acc]));
    let mut cells: Vec<([u32; 2], Bandwidth)> = Vec::new();
    for &bandwidth in setting.form.choose(&Bandwidth::ALL[..], &Bandwidth::ALL[1..2]) {
        match bandwidth {
            Bandwidth::B16 | Bandwidth::B8 => cells.extend(all().map(|sizes| (sizes, bandwidth))),
            _ => cells.extend(CORNERS.map(|sizes| (sizes, bandwidth))),
        }
    }
    cells
}

fn grid(setting: &Setting<'_>, findings: &mut Findings) -> Result<(), StudyError> {
    let layer = setting.form.choose(Layer::bert_base(512), Layer::small(32));
    let wanted = cells(setting);
    for ([scratchpad, accumulator], bandwidth) in &wanted {
        findings.conditions.configuration(&sized(*scratchpad, *accumulator)?);
        findings.conditions.memory(bandwidth.memory()?);
    }
    findings.conditions.energy_tables = crate::bench::ENERGY_TABLES.map(str::to_owned).to_vec();
    let cells =
        in_parallel(setting, "baseline: grid", &wanted, |(sizes, bandwidth)| Cell::run(&layer, *sizes, *bandwidth))?;
    let macs = layer.macs();
    findings.tables.push(grid_table(&cells, macs).noted(&format!("One layer, {} tokens.", layer.tokens)));
    let at = |bandwidth: Bandwidth, [scratchpad, accumulator]: [u32; 2]| {
        let wanted = move |cell: &&Cell| {
            cell.bandwidth == bandwidth && cell.scratchpad == scratchpad && cell.accumulator == accumulator
        };
        cells.iter().find(wanted).ok_or_else(|| StudyError::Setting("a cell of the grid is missing".to_owned()))
    };
    let mut used = Vec::new();
    for acc in SIZES {
        for spad in SIZES {
            used.push(at(Bandwidth::B8, [spad, acc])?.utilisation(macs));
        }
    }
    let step: f64 = (0..3).map(|spad| used[3 + spad] - used[spad]).sum::<f64>() / 3.0;
    let spread = (0..3).map(|acc| (used[3 * acc + 2] - used[3 * acc]).abs()).fold(0.0, f64::max);
    findings.measure("baseline.grid", used);
    findings.measure("baseline.accumulator_step", [step]);
    findings.measure("baseline.scratchpad_step", [spread]);
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
    for bandwidth in Bandwidth::ALL.into_iter().filter(|bandwidth| wanted.iter().any(|(_, of)| of == bandwidth)) {
        let (old, new) = (at(bandwidth, CORNERS[0])?, at(bandwidth, CORNERS[1])?);
        let rule = new.rule as f64 / old.rule as f64;
        let (old, new) = (old.corner()?, new.corner()?);
        let mapped = new.mapped as f64 / old.mapped as f64;
        let energies: Vec<String> = old.energy.iter().zip(&new.energy).map(|(old, new)| percent(new / old)).collect();
        table.row([
            format!("{:.1}", bandwidth.bytes()),
            percent(rule),
            percent(mapped),
            percent(new.layer.cycles as f64 / old.layer.cycles as f64),
            percent(new.layer.bytes as f64 / old.layer.bytes as f64),
            energies.join(", "),
        ]);
        let change = |ratio: f64| 100.0 * (ratio - 1.0);
        if bandwidth == Bandwidth::B8 {
            findings.measure("baseline.rebalance", [change(rule)]);
            findings.measure("baseline.rebalance_by_grid", [change(rule)]);
            findings.measure("baseline.rebalance_mapped", [change(mapped)]);
        }
        by_rule.push([bandwidth.bytes(), change(rule)]);
        by_mapper.push([bandwidth.bytes(), change(mapped)]);
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

fn grid_table(cells: &[Cell], macs: u64) -> Table {
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
            "mJ (45 nm, LPDDR4; 45 nm, DDR3; 22 nm, LPDDR4)",
        ],
    );
    for cell in cells {
        let more = match &cell.corner {
            Some(corner) => [
                format!("{:.1}", utilisation(macs, corner.mapped)),
                grouped(corner.layer.cycles),
                grouped(corner.layer.bytes),
                corner.energy.iter().map(|energy| format!("{energy:.2}")).collect::<Vec<_>>().join("; "),
            ],
            None => Default::default(),
        };
        let sizes = [
            format!("{:.1}", cell.bandwidth.bytes()),
            cell.accumulator.to_string(),
            cell.scratchpad.to_string(),
            format!("{:.1}", cell.utilisation(macs)),
        ];
        table.row(sizes.into_iter().chain(more));
    }
    table
}
