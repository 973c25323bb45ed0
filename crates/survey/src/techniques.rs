//! Techniques of section 4 that need no other hardware: pruning of heads and inner width, of tokens, of blocks and of single weights, and
//! early exit. Cycles, bytes and energy; accuracy needs trained weights and stands in the book's chapter on whole models.

use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleSetup, Divisors, time_cycles};
use pollux_compiler::parameters::EncoderLayerParams;
use pollux_compiler::plan::Plan;
use pollux_compiler::synthetic::{self, Shape};
use pollux_kernels::Mask;
use pollux_mapper::random::Random;

use crate::baseline::fitting_steps;
use crate::bench::{Bench, ENERGY_TABLES, Measured, millijoules, prices, sized};
use crate::figure::{Figure, Kind, Scale};
use crate::layer::Layer;
use crate::report::{Findings, Table, grouped};
use crate::setting::{Bandwidth, Setting, StudyError};

/// Layers of BERT-Base.
const LAYERS: usize = 12;
/// The layer behind which tokens are left out, counted from 1.
const PRUNED_AFTER: usize = 2;

/// What several layers take.
fn price(bench: &mut Bench, layers: &[(Layer, usize)]) -> Result<Measured, StudyError> {
    let mut sum = Measured::default();
    for (layer, times) in layers {
        for step in fitting_steps(bench, layer)? {
            sum += bench.run(&step.work)?.times(step.times * times);
        }
    }
    Ok(sum)
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let config = sized(64, 256)?;
    let memory = Bandwidth::B8.memory()?;
    findings.conditions.configuration(&config);
    findings.conditions.memory(memory);
    findings.conditions.energy_tables = vec![ENERGY_TABLES[0].to_owned()];
    let tokens = setting.form.choose(128, 32);
    let first = &prices(&config)?[0];
    let mut bench = Bench::new(&config, memory);
    let whole = Layer::bert_base(tokens);
    let with = |tokens: usize, heads: usize, ffn: usize| Layer { tokens, hidden: 768, ffn, heads: vec![64; heads] };
    let variants = [
        ("whole", vec![(whole.clone(), LAYERS)]),
        ("half of the heads", vec![(with(tokens, 6, 3072), LAYERS)]),
        ("half of the inner width", vec![(with(tokens, 12, 1536), LAYERS)]),
        ("half of both", vec![(with(tokens, 6, 1536), LAYERS)]),
        (
            "half of the tokens after layer 2",
            vec![(whole.clone(), PRUNED_AFTER), (with(tokens / 2, 12, 3072), LAYERS - PRUNED_AFTER)],
        ),
        ("early exit after layer 9", vec![(whole.clone(), 9)]),
    ];
    let mut table = Table::new(
        "BERT-Base with less work",
        ["technique", "GMAC", "cycles", "bytes moved", "mJ", "faster by", "fewer MACs by", "less energy by"],
    );
    let (mut names, mut faster, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    let mut base: Option<(Measured, f64)> = None;
    for (index, (name, layers)) in variants.iter().enumerate() {
        (setting.watch)("techniques: variants", index, variants.len());
        let measured = price(&mut bench, layers)?;
        let macs: f64 = layers.iter().map(|(layer, times)| (layer.macs() * *times as u64) as f64).sum();
        let (first_measured, first_macs) = *base.get_or_insert((measured, macs));
        let speed = first_measured.cycles as f64 / measured.cycles as f64;
        table.row([
            (*name).to_owned(),
            format!("{:.2}", macs / 1e9),
            grouped(measured.cycles),
            grouped(measured.bytes),
            format!("{:.2}", millijoules(first, &measured)),
            format!("{speed:.2} x"),
            format!("{:.2} x", first_macs / macs),
            format!("{:.2} x", millijoules(first, &first_measured) / millijoules(first, &measured)),
        ]);
        match *name {
            "half of both" => findings.measure("techniques.structured", [speed]),
            "half of the tokens after layer 2" => findings.measure("techniques.tokens", [speed]),
            _ => {}
        }
        names.push((*name).to_owned());
        faster.push(speed);
        fewer.push(first_macs / macs);
    }
    findings.tables.push(table.noted(&format!("{tokens} tokens, 12 layers, norms in their products.")));
    sparsity(setting, &mut findings)?;
    findings.figures.push(Figure {
        id: "techniques-speed".to_owned(),
        title: format!("BERT-Base with less work, {tokens} tokens (64/256 KiB, 8 bytes a cycle)"),
        x: Scale::linear("technique"),
        y: Scale::linear("over the whole model"),
        kind: Kind::Bars {
            categories: ["whole", "heads", "inner", "both", "tokens", "exit"].map(str::to_owned).to_vec(),
            series: vec![("fewer MACs".to_owned(), fewer), ("faster".to_owned(), faster)],
            stacked: false,
        },
    });
    Ok(findings)
}

/// Which weights are zero.
#[derive(Clone, Copy)]
enum Zeros {
    /// So many of single ones.
    Weights(f64),
    /// So many of the array's blocks.
    Blocks(f64),
}

fn zero(layer: &mut EncoderLayerParams, zeros: Zeros, dim: usize, random: &mut Random) {
    let EncoderLayerParams { query, key, value, attention_output, intermediate, ffn_output, .. } = layer;
    for weights in [query, key, value, attention_output, intermediate, ffn_output] {
        let linear = &mut weights.linear;
        match zeros {
            Zeros::Weights(share) => {
                linear.weights.iter_mut().filter(|_| random.unit() < share).for_each(|weight| *weight = 0);
            }
            Zeros::Blocks(share) => {
                for row in (0..linear.inputs).step_by(dim) {
                    for col in (0..linear.outputs).step_by(dim) {
                        if random.unit() >= share {
                            continue;
                        }
                        for r in row..(row + dim).min(linear.inputs) {
                            let end = (col + dim).min(linear.outputs);
                            linear.weights[r * linear.outputs + col..r * linear.outputs + end].fill(0);
                        }
                    }
                }
            }
        }
    }
}

/// Zeros among the weights, with kernels that leave blocks of zeros out.
fn sparsity(setting: &Setting<'_>, findings: &mut Findings) -> Result<(), StudyError> {
    let failed = |error: pollux_compiler::CompileError| StudyError::Run(error.to_string());
    let shape = Shape {
        layers: 1,
        ..setting.form.choose(Shape::by_name("minilm-l6").map_err(failed)?, Shape::new("small", 64, 1, 4, 128))
    };
    let tokens = setting.form.choose(64, 16);
    let config = sized(64, 256)?;
    let dim = config.dim() as usize;
    let mut table = Table::new(
        "Zeros among the weights, kernels that leave blocks of zeros out",
        ["zeros", "kernels", "cycles", "over dense"],
    );
    let mut dense = 0u64;
    for (name, zeros, skip) in [
        ("none", None, false),
        ("none", None, true),
        ("80 % of the weights, anywhere", Some(Zeros::Weights(0.8)), true),
        ("50 % of the blocks", Some(Zeros::Blocks(0.5)), true),
        ("80 % of the blocks", Some(Zeros::Blocks(0.8)), true),
    ] {
        let mut layers = synthetic::encoder(&shape, tokens, 1).map_err(failed)?;
        let mut random = Random::new(setting.seed);
        if let Some(zeros) = zeros {
            layers.iter_mut().for_each(|layer| zero(layer, zeros, dim, &mut random));
        }
        let plan = Plan { skip_zero_tiles: skip, ..Plan::default() };
        let input = synthetic::input(&shape, tokens, 2);
        let inner = config.clone().into_inner();
        let compiled =
            compile_parameters(inner, &plan, &layers, &input, Mask::Full, &TokenCounts::new()).map_err(failed)?;
        let setup =
            CycleSetup { memory: Bandwidth::B8.memory()?, divisors: Divisors::NotZero, ..CycleSetup::default() };
        let memory = compiled.compiled.program.initial_memory();
        let cycles = time_cycles(&compiled.compiled, memory, &setup, &mut |_| {}).map_err(failed)?.cycles;
        if dense == 0 {
            dense = cycles;
        }
        let speed = dense as f64 / cycles as f64;
        if matches!(zeros, Some(Zeros::Weights(_))) {
            findings.measure("techniques.unstructured", [speed]);
        }
        let kernels = if skip { "leave zeros out" } else { "dense" };
        table.row([name.to_owned(), kernels.to_owned(), grouped(cycles), format!("{speed:.2} x")]);
    }
    findings.tables.push(table.noted(&format!("One layer of {}, {tokens} tokens.", shape.name)));
    Ok(())
}
