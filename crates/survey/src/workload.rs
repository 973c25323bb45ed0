//! Study 1: how much work a Transformer is, how many bytes that takes at least, and how many it takes.
//!
//! The formulas are per layer, for l tokens, width d, h heads of k = d / h columns, inner width f. A product without a bias has 2k - 1
//! operations an element. `other` (softmax, LayerNorm, GELU, additions) is not given in the paper: 4 operations a score and 58 an
//! element of the stream, 17 bytes an element, agree with all of its tables.

use crate::bench::{Bench, Result, Work, sized};
use crate::figure::{Figure, Kind, Scale, Series};
use crate::layer::{Layer, Norms};
use crate::report::{Findings, Table};
use crate::setting::{Bandwidth, Form, Setting, StudyError, in_parallel};

/// Lengths of the paper's figures.
const LENGTHS: [usize; 6] = [128, 256, 512, 1024, 2048, 4096];
/// Those of its tables.
const TABLE_LENGTHS: [usize; 3] = [128, 512, 4096];
/// Operators in the order of the tables.
const OPERATORS: [&str; 5] = ["projections", "act-to-act", "FFN", "other", "total"];

/// Sizes of a model.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    layers: f64,
    d: f64,
    h: f64,
    f: f64,
}

const BASE: Model = Model { name: "BERT-Base", layers: 12.0, d: 768.0, h: 12.0, f: 3072.0 };
const LARGE: Model = Model { name: "BERT-Large", layers: 24.0, d: 1024.0, h: 16.0, f: 4096.0 };
const GPT2: Model = Model { name: "GPT-2", ..BASE };

/// Operations and bytes.
#[derive(Clone, Copy, Default)]
struct Count {
    flops: f64,
    bytes: f64,
}

impl Count {
    fn intensity(self) -> f64 {
        self.flops / self.bytes
    }

    fn plus(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl Model {
    /// Projections, act-to-act, FFN, other, total of an encoder.
    fn encoder(&self, length: usize) -> [Count; 5] {
        let Self { layers, d, h, f, .. } = *self;
        let (l, k) = (length as f64, d / h);
        let count = |flops: f64, bytes: f64| Count { flops: layers * flops, bytes: layers * bytes };
        with_total([
            count(8.0 * l * d * d, 4.0 * (d * d + 2.0 * l * d)),
            count(h * (l * l * (2.0 * k - 1.0) + l * k * (2.0 * l - 1.0)), h * 2.0 * (2.0 * l * k + l * l)),
            count(4.0 * l * d * f, 2.0 * (d * f + l * d + l * f)),
            count(4.0 * l * l * h + 58.0 * l * d, 2.0 * l * l * h + 17.0 * l * d),
        ])
    }

    /// The same of a decoder that generates so many tokens, one after the other: every token reads all weights and the cache.
    fn decoder(&self, length: usize) -> [Count; 5] {
        let Self { layers, d, h, f, .. } = *self;
        let (l, k) = (length as f64, d / h);
        // Keys that the tokens see, all together.
        let seen = l * (l + 1.0) / 2.0;
        let count = |flops: f64, bytes: f64| Count { flops: layers * flops, bytes: layers * bytes };
        with_total([
            count(8.0 * l * d * d, 4.0 * l * (d * d + 2.0 * d)),
            count(4.0 * d * seen, 2.0 * h * (seen * k + seen + l * k)),
            count(4.0 * l * d * f, 2.0 * l * (d * f + d + f)),
            count(4.0 * seen * h + 58.0 * l * d, 2.0 * seen * h + 17.0 * l * d),
        ])
    }
}

fn with_total(parts: [Count; 4]) -> [Count; 5] {
    let total = parts.iter().fold(Count::default(), |sum, part| sum.plus(*part));
    [parts[0], parts[1], parts[2], parts[3], total]
}

/// Operations and bytes of ResNet-50's 3x3 convolutions: pixels a side, channels, layers.
const RESNET: [(f64, f64, f64); 4] = [(56.0, 64.0, 3.0), (28.0, 128.0, 4.0), (14.0, 256.0, 6.0), (7.0, 512.0, 3.0)];

fn resnet() -> [Count; 4] {
    RESNET.map(|(side, channels, layers)| {
        let (pixels, weights) = (side * side, 9.0 * channels * channels);
        Count { flops: layers * 2.0 * pixels * weights, bytes: layers * (2.0 * pixels * channels + weights) }
    })
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> std::result::Result<Findings, StudyError> {
    let mut findings = Findings::default();
    formulas(&mut findings);
    measured(setting, &mut findings)?;
    findings.conditions.assume("formulas: 8-bit operands, each moved once, unlimited local memory");
    findings.conditions.assume("a multiply-accumulate is two FLOPs");
    Ok(findings)
}

fn formulas(findings: &mut Findings) {
    let tabled: Vec<[Count; 5]> = TABLE_LENGTHS.iter().map(|length| BASE.encoder(*length)).collect();
    let flat = |value: &dyn Fn(&Count) -> f64| tabled.iter().flatten().map(value).collect::<Vec<f64>>();
    findings.measure("workload.base_gflops", flat(&|count| count.flops / 1e9));
    findings.measure("workload.base_intensity", flat(&|count| count.intensity()));
    findings.measure("workload.base_act_mops", [tabled[0][1].bytes / 1e9]);
    let shares: Vec<f64> = tabled.iter().map(|counts| 100.0 * counts[3].bytes / counts[4].bytes).collect();
    findings.measure("workload.other_share", shares);
    let total = |model: &Model, value: &dyn Fn(Count) -> f64| -> Vec<f64> {
        LENGTHS.iter().map(|length| value(model.encoder(*length)[4])).collect()
    };
    let gflops = |count: Count| count.flops / 1e9;
    findings.measure("workload.base_intensity_lengths", total(&BASE, &Count::intensity));
    findings.measure("workload.large_gflops", total(&LARGE, &gflops));
    let projection = |length: &usize| 2.0 * LARGE.layers * *length as f64 * LARGE.d * LARGE.d / 1e9;
    let less: Vec<f64> = LENGTHS.iter().map(|length| gflops(LARGE.encoder(*length)[4]) - projection(length)).collect();
    findings.measure("workload.large_less_a_projection", less);
    let generated: Vec<Count> = LENGTHS.iter().map(|length| GPT2.decoder(*length)[4]).collect();
    findings.measure("workload.gpt2_gflops", generated.iter().map(|count| gflops(*count)).collect::<Vec<_>>());
    findings.measure("workload.gpt2_intensity", generated.iter().map(|count| count.intensity()).collect::<Vec<_>>());
    let four = Model { h: 4.0, ..BASE };
    let four: Vec<f64> = TABLE_LENGTHS.iter().map(|length| four.encoder(*length)[4].intensity()).collect();
    findings.measure("workload.four_heads", four);
    findings.measure("workload.resnet_gflops", resnet().map(gflops));
    findings.measure("workload.resnet_intensity", resnet().map(Count::intensity));

    let mut table = Table::new("BERT-Base by operator", ["length", "operator", "GFLOPs", "GMOPs", "FLOPs/byte"]);
    for (length, counts) in TABLE_LENGTHS.iter().zip(&tabled) {
        for (name, count) in OPERATORS.iter().zip(counts) {
            table.row([
                length.to_string(),
                (*name).to_owned(),
                format!("{:.2}", count.flops / 1e9),
                format!("{:.4}", count.bytes / 1e9),
                format!("{:.2}", count.intensity()),
            ]);
        }
    }
    findings.tables.push(table);
    let line = |model: &Model, decoder: bool| {
        let of = |length: &usize| if decoder { model.decoder(*length)[4] } else { model.encoder(*length)[4] };
        let points = LENGTHS.iter().map(|length| [*length as f64, of(length).intensity()]).collect();
        Series::new(model.name, points)
    };
    findings.figures.push(Figure {
        id: "workload-intensity".to_owned(),
        title: "Arithmetic intensity, each operand moved once".to_owned(),
        x: Scale::log("tokens"),
        y: Scale::log("FLOPs a byte"),
        kind: Kind::Lines(vec![line(&BASE, false), line(&LARGE, false), line(&GPT2, true)]),
    });
}

/// One operator of the paper's analytical model: which results it has before a nonlinear function.
fn nonideal(length: usize) -> [Work; 6] {
    let (l, d, f) = (length, 768, 3072);
    [
        Work::product(l, d, d, Result::Int8),
        Work::product(l, l, 64, Result::Int32),
        Work::product(l, 64, l, Result::Int8),
        Work::product(l, d, d, Result::Int32),
        Work::product(l, f, d, Result::Int32),
        Work::product(l, d, f, Result::Int32),
    ]
}

/// What the emulator moves, and how long it takes.
fn measured(setting: &Setting<'_>, findings: &mut Findings) -> std::result::Result<(), StudyError> {
    let memory = Bandwidth::B16.memory()?;
    let config = sized(256, 128)?;
    findings.conditions.configuration(&config);
    findings.conditions.memory(memory);
    // Bytes follow from the commands; cycles of the long sequences are for the full form.
    let lengths: &[usize] = setting.form.choose(&LENGTHS, &LENGTHS[..1]);
    let layers = in_parallel(setting, "workload: layers", lengths, |length| {
        let mut bench = Bench::new(&config, memory);
        let mut sum = crate::bench::Measured::default();
        for step in Layer::bert_base(*length).steps(Norms::Separate) {
            sum += bench.run(&step.work)?.times(step.times);
        }
        Ok(sum)
    })?;
    if setting.form == Form::Full {
        let relative: Vec<f64> = layers.iter().map(|sum| sum.cycles as f64 / layers[0].cycles as f64).collect();
        findings.measure("workload.relative_latency", relative);
    }
    let mut table = Table::new(
        "An encoder layer of BERT-Base on the emulator",
        ["tokens", "cycles", "bytes moved", "bytes at least", "ratio", "FLOPs/byte", "of ideal"],
    );
    let mut points = Vec::new();
    for (length, sum) in lengths.iter().zip(&layers) {
        let ideal = BASE.encoder(*length)[4];
        let least = ideal.bytes / BASE.layers;
        let intensity = ideal.flops / BASE.layers / sum.bytes as f64;
        points.push([*length as f64, intensity]);
        table.row([
            length.to_string(),
            crate::report::grouped(sum.cycles),
            crate::report::grouped(sum.bytes),
            crate::report::grouped(least as u64),
            format!("{:.2}", sum.bytes as f64 / least),
            format!("{intensity:.1}"),
            format!("{:.0} %", 100.0 * intensity / ideal.intensity()),
        ]);
    }
    findings.tables.push(table.noted(
        "Gemmini's own schedules, softmax and LayerNorm as passes over int32 sums, as the paper's analytical model has them.",
    ));
    if let Some(Figure { kind: Kind::Lines(series), .. }) = findings.figures.first_mut() {
        series.push(Series::new("BERT-Base, as measured", points));
    }
    let lengths: &[usize] = &[128, 512];
    let mut intensities = Vec::new();
    let mut table = Table::new(
        "Intensity of the products: the paper's model and the emulator",
        ["tokens", "QKV", "QK", "score x V", "Wout", "W1", "W2"],
    );
    let mut bench = Bench::new(&config, memory);
    for length in lengths.iter().take(setting.form.choose(2, 1)) {
        let mut row = vec![length.to_string()];
        for work in nonideal(*length) {
            let intensity = 2.0 * work.macs() as f64 / bench.run(&work)?.bytes as f64;
            row.push(format!("{intensity:.1}"));
            intensities.push(intensity);
        }
        table.row(row);
    }
    findings.measure("workload.nonideal_intensity", intensities);
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formulas_give_the_printed_totals() {
        let [.., total] = BASE.encoder(512);
        assert!((total.flops / 1e9 - 97.02).abs() < 0.01 && (total.intensity() - 231.0).abs() < 0.2);
        let [.., total] = GPT2.decoder(128);
        assert!((total.flops / 1e9 - 22.12).abs() < 0.01 && (total.bytes / 1e9 - 11.08).abs() < 0.02);
    }
}
