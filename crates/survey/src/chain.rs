//! Study 7: the chain of improvements that the paper multiplies to 88.7.
//!
//! Each step is measured on one model, BERT-Base's encoder, as latency, energy and EDP; the last one, the architecture search, on the paper's
//! two networks.

use crate::baseline::{self, Baseline, LAYERS};
use crate::bench::{Bench, ENERGY_TABLES, Measured, Result, Work, millijoules, prices, sized};
use crate::best;
use crate::figure::{Figure, Kind, Scale};
use crate::host::Code;
use crate::layer::{Layer, Norms, Part};
use crate::nas::{self, Networks, Reading};
use crate::report::{Findings, Table, grouped};
use crate::setting::{Bandwidth, Setting, StudyError};

/// A step of the chain: what the whole model takes behind it.
struct Step {
    name: &'static str,
    /// What the paper says of it.
    paper: &'static str,
    cycles: f64,
    /// mJ, by each table.
    energy: Vec<f64>,
}

impl Step {
    fn new(
        name: &'static str,
        paper: &'static str,
        build: [u32; 2],
        layer: &Measured,
    ) -> std::result::Result<Self, StudyError> {
        let whole = layer.times(LAYERS);
        let energy = prices(&sized(build[0], build[1])?)?.iter().map(|prices| millijoules(prices, &whole)).collect();
        Ok(Self { name, paper, cycles: whole.cycles as f64, energy })
    }
}

/// A layer with the mapper's schedules; with `choose`, norms that are faster as passes of their own are.
fn mapped(bench: &mut Bench, layer: &Layer, choose: bool) -> std::result::Result<Measured, StudyError> {
    let mut sum = Measured::default();
    let fits = |found: Option<(Measured, Work)>| {
        found.map(|(measured, _)| measured).ok_or_else(|| StudyError::Setting("a product does not fit".to_owned()))
    };
    for step in layer.steps(Norms::Fused) {
        let Work::Product { m, n, k, result, .. } = step.work else {
            sum += bench.run(&step.work)?.times(step.times);
            continue;
        };
        let mut taken = fits(best::product(bench, [m, n, k], result)?)?;
        if choose && matches!(step.part, Part::Scores | Part::Output | Part::Down) {
            let mut apart = fits(best::product(bench, [m, n, k], Result::Int32)?)?;
            apart += bench.run(&Work::Norm { rows: m, cols: n, wide: true, result })?;
            if apart.cycles < taken.cycles {
                taken = apart;
            }
        }
        sum += taken.times(step.times);
    }
    Ok(sum)
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> std::result::Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let memory = Bandwidth::B8.memory()?;
    let (before, after) = (sized(256, 64)?, sized(64, 256)?);
    findings.conditions.configuration(&before);
    findings.conditions.configuration(&after);
    findings.conditions.memory(memory);
    findings.conditions.energy_tables = ENERGY_TABLES.map(str::to_owned).to_vec();
    let layer = setting.form.choose(Layer::bert_base(512), Layer::small(32));
    findings.conditions.assume(&format!(
        "{}, {LAYERS} layers of {} tokens",
        setting.form.choose("BERT-Base's encoder", "an encoder of a quarter of BERT-Base's width"),
        layer.tokens
    ));
    findings
        .conditions
        .assume("host: float32 with polynomials on a Rocket-like core; its energy is in no table and left out");
    let steps = steps(setting, &layer)?;
    let ratios = network(setting)?;
    table(&mut findings, &steps, &ratios);
    let (first, balanced) = (&steps[0], &steps[2]);
    let latency = first.cycles / balanced.cycles;
    let energy = first.energy[0] / balanced.energy[0];
    if setting.form == crate::setting::Form::Full {
        findings.measure("chain.product_latency", [latency * ratios.0]);
        findings.measure("chain.product_edp", [latency * energy * ratios.0 * ratios.1[0]]);
        findings.measure("chain.product_mixed", [latency * ratios.0 * ratios.1[0]]);
    }
    waterfall(&mut findings, &steps, &ratios);
    Ok(findings)
}

fn steps(setting: &Setting<'_>, layer: &Layer) -> std::result::Result<Vec<Step>, StudyError> {
    let memory = Bandwidth::B8.memory()?;
    let (mut old, mut new) = (Bench::new(&sized(256, 64)?, memory), Bench::new(&sized(64, 256)?, memory));
    let say = |done| (setting.watch)("chain: steps", done, 5);
    let baseline = Baseline::of(&mut old, layer, Code::Polynomial)?;
    let on_host = Measured { cycles: baseline.total(), ..baseline.products };
    say(1);
    let (_, units) = baseline::shares(&mut old, layer)?;
    say(2);
    let (_, balanced) = baseline::shares(&mut new, layer)?;
    say(3);
    let scheduled = mapped(&mut new, layer, false)?;
    say(4);
    let chosen = mapped(&mut new, layer, true)?;
    say(5);
    Ok(vec![
        Step::new("norms on the host, 256/64 KiB", "1", [256, 64], &on_host)?,
        Step::new("units for softmax, LayerNorm, GELU", "in 39.6", [256, 64], &units)?,
        Step::new("memories 64/256 KiB", "36 % of the products", [64, 256], &balanced)?,
        Step::new("the mapper's schedules", "not in the chain", [64, 256], &scheduled)?,
        Step::new("fusion only where it pays", "not in the chain", [64, 256], &chosen)?,
    ])
}

/// Latency and energies of the base network over those of Table 9's.
fn network(setting: &Setting<'_>) -> std::result::Result<(f64, Vec<f64>), StudyError> {
    let networks = Networks::built_in()?;
    let config = sized(64, 256)?;
    let prices = prices(&config)?;
    let mut bench = Bench::new(&config, Bandwidth::B8.memory()?);
    let tokens = setting.form.choose(networks.tokens, 32);
    let mut of = |network: &nas::Network| nas::price(&mut bench, &network.of(setting).layers(tokens, Reading::Fixed));
    let (base, chosen) = (of(&networks.base)?, of(&networks.table9)?);
    let energy = prices.iter().map(|prices| millijoules(prices, &base) / millijoules(prices, &chosen)).collect();
    Ok((base.cycles as f64 / chosen.cycles as f64, energy))
}

fn table(findings: &mut Findings, steps: &[Step], ratios: &(f64, Vec<f64>)) {
    let mut table = Table::new(
        "The chain, cumulative",
        ["step", "the paper", "cycles", "mJ, 3 tables", "latency, x", "energy, x, 3 tables", "EDP, x, 3 tables"],
    );
    let joined =
        |values: &mut dyn Iterator<Item = f64>| values.map(crate::verdict::short).collect::<Vec<_>>().join(", ");
    let first = &steps[0];
    for step in steps {
        let latency = first.cycles / step.cycles;
        let energy: Vec<f64> = first.energy.iter().zip(&step.energy).map(|(a, b)| a / b).collect();
        table.row([
            step.name.to_owned(),
            step.paper.to_owned(),
            grouped(step.cycles as u64),
            joined(&mut step.energy.iter().copied()),
            format!("{latency:.2}"),
            joined(&mut energy.iter().copied()),
            joined(&mut energy.iter().map(|energy| energy * latency)),
        ]);
    }
    let last = &steps[steps.len() - 1];
    let latency = first.cycles / last.cycles;
    let energy = || first.energy.iter().zip(&last.energy).zip(&ratios.1).map(|((a, b), ratio)| a / b * ratio);
    table.row([
        "network of Table 9 instead of the base".to_owned(),
        "2.24 EDP".to_owned(),
        String::new(),
        String::new(),
        format!("{:.2}", latency * ratios.0),
        joined(&mut energy()),
        joined(&mut energy().map(|energy| energy * latency * ratios.0)),
    ]);
    findings.tables.push(table.noted(
        "8 bytes a cycle. The last step's ratios are those of the paper's two networks, 6 layers each, multiplied on as the paper does it.",
    ));
}

fn waterfall(findings: &mut Findings, steps: &[Step], ratios: &(f64, Vec<f64>)) {
    let first = &steps[0];
    let mut categories: Vec<String> =
        ["host", "+ units", "+ 64/256", "+ mapper", "+ choice", "+ Table 9"].map(str::to_owned).to_vec();
    categories.truncate(steps.len() + 1);
    let mut latency: Vec<f64> = steps.iter().map(|step| first.cycles / step.cycles).collect();
    let mut edp: Vec<f64> =
        steps.iter().zip(&latency).map(|(step, latency)| latency * first.energy[0] / step.energy[0]).collect();
    if let (Some(last), Some(last_edp)) = (latency.last().copied(), edp.last().copied()) {
        latency.push(last * ratios.0);
        edp.push(last_edp * ratios.0 * ratios.1[0]);
    }
    let paper = vec![88.7; categories.len()];
    findings.figures.push(Figure {
        id: "chain-waterfall".to_owned(),
        title: "The chain, cumulative: latency and EDP apart (8 bytes a cycle, 45 nm, LPDDR4)".to_owned(),
        x: Scale::linear("step"),
        y: Scale::log("improvement over the baseline"),
        kind: Kind::Bars {
            categories,
            series: vec![
                ("latency".to_owned(), latency),
                ("EDP".to_owned(), edp),
                ("the paper's product, 88.7".to_owned(), paper),
            ],
            stacked: false,
        },
    });
}
