//! Study 6, its first part: what the paper's two known networks cost, and whether a table of operations can stand for a network.
//!
//! Networks and space are data: `data/networks.toml`. Its second part, a search of our own, is in [`crate::found`].

use pollux_mapper::random::Random;
use serde::Deserialize;

use crate::bench::{Bench, Measured, Work, millijoules, prices, sized};
use crate::figure::{Figure, Kind, Scale, Series};
use crate::layer::{HEAD, Layer, Norms};
use crate::report::{Findings, Table, grouped};
use crate::setting::{Bandwidth, Form, Setting, StudyError, in_parallel};

const NETWORKS: &str = include_str!("../data/networks.toml");

/// Networks and the space they are from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Networks {
    /// Length of the sequences.
    pub tokens: usize,
    /// The largest one.
    pub base: Network,
    /// The paper's choice.
    pub table9: Network,
    /// What others are drawn from.
    pub space: Space,
}

/// A network: one width, heads and inner width of each layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Columns of the residual stream.
    pub hidden: usize,
    /// Heads of each layer.
    pub heads: Vec<usize>,
    /// Inner width of each layer.
    pub ffn: Vec<usize>,
}

/// What a network may be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Numbers of layers.
    pub layers: Vec<usize>,
    /// Numbers of heads.
    pub heads: Vec<usize>,
    /// Widths.
    pub hidden: Vec<usize>,
    /// Inner widths.
    pub ffn: Steps,
}

/// Equally distant numbers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// The first.
    pub from: usize,
    /// The last.
    pub to: usize,
    /// Their distance.
    pub step: usize,
}

impl Networks {
    /// Those that come with Pollux.
    ///
    /// # Errors
    /// None, as a test shows.
    pub fn built_in() -> Result<Self, StudyError> {
        toml::from_str(NETWORKS).map_err(|error| StudyError::Setting(error.to_string()))
    }
}

/// How many columns heads have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// 64 each: projections are d x 64 h.
    Fixed,
    /// They share the width as evenly as they can: projections are d x d.
    Shared,
}

impl Reading {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fixed, Self::Shared];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "heads of 64",
            Self::Shared => "heads share d",
        }
    }

    fn heads(self, hidden: usize, heads: usize) -> Vec<usize> {
        match self {
            Self::Fixed => vec![HEAD; heads],
            Self::Shared => (0..heads).map(|head| (head + 1) * hidden / heads - head * hidden / heads).collect(),
        }
    }
}

impl Network {
    /// Its layers.
    pub fn layers(&self, tokens: usize, reading: Reading) -> Vec<Layer> {
        let layer = |(&heads, &ffn): (&usize, &usize)| Layer {
            tokens,
            hidden: self.hidden,
            ffn,
            heads: reading.heads(self.hidden, heads),
        };
        self.heads.iter().zip(&self.ffn).map(layer).collect()
    }

    /// The network, or for the reduced form one of a quarter of its width.
    #[must_use]
    pub fn of(&self, setting: &Setting<'_>) -> Self {
        let small = || Self {
            hidden: self.hidden / 4,
            heads: self.heads.iter().map(|heads| heads / 4).collect(),
            ffn: self.ffn.iter().map(|ffn| ffn / 4).collect(),
        };
        match setting.form {
            Form::Full => self.clone(),
            Form::Reduced => small(),
        }
    }

    /// A network drawn uniformly from a space.
    pub fn draw(space: &Space, random: &mut Random) -> Self {
        let mut any = |from: &[usize]| from[random.below(from.len())];
        let (hidden, layers) = (any(&space.hidden), any(&space.layers));
        let widths: Vec<usize> = (space.ffn.from..=space.ffn.to).step_by(space.ffn.step).collect();
        let heads = (0..layers).map(|_| any(&space.heads)).collect();
        Self { hidden, heads, ffn: (0..layers).map(|_| any(&widths)).collect() }
    }
}

/// Operations of a network, norms fused as Gemmini's software does it, one after the other.
fn works(layers: &[Layer]) -> Vec<Work> {
    let steps = layers.iter().flat_map(|layer| layer.steps(Norms::Fused));
    steps.flat_map(|step| std::iter::repeat_n(step.work, step.times)).collect()
}

/// A network's price: the sum over the table of its operations.
///
/// # Errors
/// A run that fails.
pub fn price(bench: &mut Bench, layers: &[Layer]) -> Result<Measured, StudyError> {
    let mut sum = Measured::default();
    for step in layers.iter().flat_map(|layer| layer.steps(Norms::Fused)) {
        sum += bench.run(&step.work)?.times(step.times);
    }
    Ok(sum)
}

/// Runs the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>) -> Result<Findings, StudyError> {
    let mut findings = Findings::default();
    let networks = Networks::built_in()?;
    let config = sized(64, 256)?;
    findings.conditions.configuration(&config);
    findings.conditions.energy_tables = crate::bench::ENERGY_TABLES.map(str::to_owned).to_vec();
    findings.conditions.assume(
        "softmax, GELU and LayerNorm in their products, residual additions in int8, no head over the vocabulary",
    );
    findings.conditions.assume("no divisor of the normalizer is zero");
    let tokens = setting.form.choose(networks.tokens, 32);
    let bandwidths: &[Bandwidth] = setting.form.choose(&[Bandwidth::B16, Bandwidth::B8], &[Bandwidth::B8]);
    known(setting, &mut findings, &networks, tokens, bandwidths)?;
    additivity(setting, &mut findings, &networks)?;
    crate::found::run(setting, &mut findings)?;
    Ok(findings)
}

/// The two networks of the paper.
fn known(
    setting: &Setting<'_>,
    findings: &mut Findings,
    networks: &Networks,
    tokens: usize,
    bandwidths: &[Bandwidth],
) -> Result<(), StudyError> {
    let config = sized(64, 256)?;
    let prices = prices(&config)?;
    let mut table = Table::new(
        "The paper's networks",
        [
            "network",
            "heads",
            "bytes a cycle",
            "GMAC",
            "cycles",
            "bytes moved",
            "mJ, 3 tables",
            "EDP, mJ cycles, 3 tables",
        ],
    );
    let mut ratios = Table::new(
        "Base over Table 9",
        ["heads", "bytes a cycle", "MACs", "latency", "bytes", "energy, 3 tables", "EDP, 3 tables"],
    );
    for &bandwidth in bandwidths {
        findings.conditions.memory(bandwidth.memory()?);
        let readings = in_parallel(setting, "nas: the paper's networks", &Reading::ALL, |&reading| {
            let mut bench = Bench::new(&config, bandwidth.memory()?);
            let of = |bench: &mut Bench, network: &Network| {
                let layers = network.of(setting).layers(tokens, reading);
                Ok::<_, StudyError>((price(bench, &layers)?, layers.iter().map(Layer::macs).sum::<u64>()))
            };
            Ok([of(&mut bench, &networks.base)?, of(&mut bench, &networks.table9)?])
        })?;
        for (reading, both) in Reading::ALL.into_iter().zip(readings) {
            let energies = both
                .map(|(measured, _)| prices.iter().map(|prices| millijoules(prices, &measured)).collect::<Vec<f64>>());
            for ((name, (measured, macs)), energy) in ["base", "Table 9"].into_iter().zip(both).zip(&energies) {
                let edp = energy.iter().map(|mj| format!("{:.2e}", mj * measured.cycles as f64));
                table.row([
                    name.to_owned(),
                    reading.name().to_owned(),
                    bandwidth.bytes().to_string(),
                    format!("{:.2}", macs as f64 / 1e9),
                    grouped(measured.cycles),
                    grouped(measured.bytes),
                    joined(energy.iter().map(|mj| format!("{mj:.1}"))),
                    joined(edp),
                ]);
            }
            let [(base, base_macs), (chosen, chosen_macs)] = both;
            let latency = base.cycles as f64 / chosen.cycles as f64;
            let energy: Vec<f64> = energies[0].iter().zip(&energies[1]).map(|(a, b)| a / b).collect();
            ratios.row([
                reading.name().to_owned(),
                bandwidth.bytes().to_string(),
                format!("{:.2}", base_macs as f64 / chosen_macs as f64),
                format!("{latency:.2}"),
                format!("{:.2}", base.bytes as f64 / chosen.bytes as f64),
                joined(energy.iter().map(|ratio| format!("{ratio:.2}"))),
                joined(energy.iter().map(|ratio| format!("{:.2}", ratio * latency))),
            ]);
            // The paper's sizes, at the bandwidth of its group's own Timeloop file.
            if tokens == networks.tokens && bandwidth == Bandwidth::B8 {
                match reading {
                    Reading::Fixed => {
                        findings.measure("nas.edp", [energy[0] * latency]);
                        findings.measure("nas.latency", [latency]);
                        findings.measure("nas.energy", [energy[0]]);
                        findings.measure("nas.base_edp", [energies[0][0] * base.cycles as f64]);
                        findings.measure("nas.table9_edp", [energies[1][0] * chosen.cycles as f64]);
                    }
                    Reading::Shared => findings.measure("nas.edp_other_reading", [energy[0] * latency]),
                }
            }
        }
    }
    findings.tables.push(table.noted(&format!("{tokens} tokens.")));
    findings.tables.push(ratios);
    Ok(())
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// Whether the operations' cycles, added up, are those of whole networks. Short sequences are the harder test: there is less of everything
/// but of what is lost between two operations.
fn additivity(setting: &Setting<'_>, findings: &mut Findings, networks: &Networks) -> Result<(), StudyError> {
    let tokens = setting.form.choose(64, 16);
    let mut random = Random::new(setting.seed);
    let mut drawn = vec![networks.base.clone(), networks.table9.clone()];
    drawn.extend((0..20).map(|_| Network::draw(&networks.space, &mut random)));
    let drawn = setting.form.choose(&drawn[..], &drawn[2..4]);
    let (config, memory) = (sized(64, 256)?, Bandwidth::B8.memory()?);
    let both = in_parallel(setting, "nas: networks", drawn, |network| {
        let mut bench = Bench::new(&config, memory);
        let layers = network.of(setting).layers(tokens, Reading::Fixed);
        let sum = price(&mut bench, &layers)?.cycles;
        let program = bench.program(&works(&layers))?;
        Ok((sum, bench.time(&program)?.0))
    })?;
    let mut table = Table::new(
        "Whole networks and sums over the table of operations",
        ["width", "layers", "heads", "inner widths", "cycles of the sum", "cycles of the network", "error"],
    );
    let (mut worst, mut points): (f64, Vec<[f64; 2]>) = (0.0, Vec::new());
    for (network, (sum, whole)) in drawn.iter().map(|network| network.of(setting)).zip(both) {
        let error = 100.0 * (sum as f64 / whole as f64 - 1.0);
        worst = worst.max(error.abs());
        points.push([whole as f64 / 1e6, sum as f64 / 1e6]);
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        table.row([
            network.hidden.to_string(),
            network.heads.len().to_string(),
            list(&network.heads),
            list(&network.ffn),
            grouped(sum),
            grouped(whole),
            format!("{error:+.3} %"),
        ]);
    }
    findings.measure("nas.additive", [worst]);
    findings.tables.push(table.noted(&format!("{tokens} tokens, heads of 64 columns, 8 bytes a cycle.")));
    let most = points.iter().map(|[x, _]| *x).fold(0.0, f64::max);
    findings.figures.push(Figure {
        id: "nas-additivity".to_owned(),
        title: format!("A table of operations against whole networks, {tokens} tokens"),
        x: Scale::linear("million cycles of the network"),
        y: Scale::linear("million cycles of the sum"),
        kind: Kind::Points(vec![
            Series::new("networks", points),
            Series::new("equal", (0..=100).map(|n| [most * f64::from(n) / 100.0; 2]).collect()),
        ]),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_networks_have_the_papers_multiply_accumulates() {
        let networks = Networks::built_in().unwrap();
        let gmac =
            |network: &Network, reading| network.layers(512, reading).iter().map(Layer::macs).sum::<u64>() as f64 / 1e9;
        assert!((gmac(&networks.base, Reading::Fixed) - 24.16).abs() < 0.01);
        assert!((gmac(&networks.table9, Reading::Fixed) - 12.73).abs() < 0.01);
        assert!((gmac(&networks.table9, Reading::Shared) - 13.83).abs() < 0.01);
    }

    #[test]
    fn heads_share_a_width_that_they_do_not_divide() {
        let heads = Reading::Shared.heads(672, 10);
        assert_eq!((heads.iter().sum::<usize>(), heads.len()), (672, 10));
        assert!(heads.iter().all(|head| [67, 68].contains(head)));
    }
}
