//! Study 6, its second part: networks that a search of our own found, what they cost and how well they predict as they run.
//!
//! `train/` trains and searches, and writes what it came to (`data/found.json`; its README has the steps). Here the networks of the front run
//! cycle by cycle: each as one program, beside the sum of the table that the search looked up.

use serde::Deserialize;

use crate::bench::{Bench, Work, millijoules, prices, sized};
use crate::figure::{Figure, Kind, Scale, Series};
use crate::layer::{Layer, Norms};
use crate::report::{Findings, Table, grouped};
use crate::setting::{Setting, StudyError, in_parallel};

const FOUND: &str = include_str!("../data/found.json");

/// Columns of a head (`train`'s `HEAD`).
const HEAD: usize = 16;

/// What training and search came to.
#[derive(Clone, Debug, Deserialize)]
struct Found {
    /// Tokens of a sequence.
    context: usize,
    /// Tokens of the vocabulary.
    vocabulary: usize,
    /// Bytes a cycle of the memory that the table of costs was made with.
    bytes: u64,
    /// Loss of the largest network by itself.
    base: Vec<Point>,
    /// Loss of the largest and the smallest network in the supernet.
    supernet: Vec<Point>,
    /// A search for each seed.
    searches: Vec<Search>,
    /// The first front, judged in float32 and in INT8.
    networks: Vec<Judged>,
    /// Networks trained by themselves.
    retrained: Retrained,
}

#[derive(Clone, Debug, Deserialize)]
struct Point {
    step: usize,
    validation: Vec<f64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Search {
    seed: u64,
    judged: usize,
    front: Vec<Inherited>,
}

/// A network with the supernet's weights.
#[derive(Clone, Debug, Deserialize)]
struct Inherited {
    loss: f64,
    cost: Cost,
}

/// By the table.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Cost {
    cycles: u64,
    millijoules: f64,
}

impl Cost {
    fn edp(self) -> f64 {
        self.cycles as f64 * self.millijoules
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Judged {
    shape: Shape,
    cost: Cost,
    perplexity: Perplexity,
}

#[derive(Clone, Debug, Deserialize)]
struct Perplexity {
    windows: usize,
    float32: f64,
    int8: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Shape {
    width: usize,
    heads: Vec<usize>,
    ffn: Vec<usize>,
}

#[derive(Clone, Debug, Deserialize)]
struct Retrained {
    kendall: f64,
    networks: Vec<Alone>,
}

#[derive(Clone, Debug, Deserialize)]
struct Alone {
    inherited: f64,
    alone: f64,
    shape: Shape,
}

impl Shape {
    fn layers(&self, tokens: usize) -> Vec<Layer> {
        let layer =
            |(&heads, &ffn): (&usize, &usize)| Layer { tokens, hidden: self.width, ffn, heads: vec![HEAD; heads] };
        self.heads.iter().zip(&self.ffn).map(layer).collect()
    }

    fn cells(&self) -> [String; 3] {
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        [self.width.to_string(), list(&self.heads), list(&self.ffn)]
    }
}

impl Found {
    fn built_in() -> Result<Self, StudyError> {
        serde_json::from_str(FOUND).map_err(|error| StudyError::Setting(format!("data/found.json: {error}")))
    }
}

/// Adds the part to the study.
///
/// # Errors
/// A run that fails.
pub fn run(setting: &Setting<'_>, findings: &mut Findings) -> Result<(), StudyError> {
    let found = Found::built_in()?;
    let front = measured_front(setting, &found)?;
    findings.tables.push(front);
    findings.tables.push(searches(&found));
    findings.tables.push(retrained(&found));
    findings.figures.push(losses(&found));
    findings.figures.push(fronts(&found));
    Ok(())
}

/// The first front as it runs.
fn measured_front(setting: &Setting<'_>, found: &Found) -> Result<Table, StudyError> {
    let config = sized(64, 256)?;
    let memory = format!("bandwidth:latency=100,bytes={}", found.bytes);
    let memory = memory.parse().map_err(|error| StudyError::Setting(format!("{error}")))?;
    let prices = prices(&config)?;
    // The cheapest, the dearest, and all between.
    let networks = setting.form.choose(&found.networks[..], &found.networks[..found.networks.len().min(2)]);
    let runs = in_parallel(setting, "nas: the front", networks, |network| {
        let mut bench = Bench::new(&config, memory);
        let layers = network.shape.layers(found.context);
        let steps = || layers.iter().flat_map(|layer| layer.steps(Norms::Fused));
        let sum = bench.sum(&steps().map(|step| (step.work, step.times)).collect::<Vec<_>>())?;
        let works: Vec<Work> = steps().flat_map(|step| std::iter::repeat_n(step.work, step.times)).collect();
        let program = bench.program(&works)?;
        Ok((bench.time(&program)?.0, millijoules(&prices[0], &sum)))
    })?;
    let mut table = Table::new(
        "The front of the first search, as it runs",
        [
            "width",
            "heads",
            "inner widths",
            "perplexity, float32",
            "perplexity, INT8",
            "cycles",
            "by the table",
            "uJ",
            "EDP, mJ cycles",
        ],
    );
    for (network, (cycles, energy)) in networks.iter().zip(runs) {
        let [width, heads, ffn] = network.shape.cells();
        table.row([
            width,
            heads,
            ffn,
            format!("{:.2}", network.perplexity.float32),
            format!("{:.2}", network.perplexity.int8),
            grouped(cycles),
            grouped(network.cost.cycles),
            format!("{:.1}", energy * 1e3),
            format!("{:.2e}", energy * cycles as f64),
        ]);
    }
    let windows = found.networks.first().map_or(0, |network| network.perplexity.windows);
    Ok(table.noted(&format!(
        "A token's perplexity with the supernet's weights on {windows} sequences of {} tokens of the validation text, vocabulary of {}; \
         memory {memory}.",
        found.context, found.vocabulary
    )))
}

/// What the seeds change.
fn searches(found: &Found) -> Table {
    let mut table = Table::new(
        "The searches",
        ["seed", "networks judged", "on the front", "lowest perplexity", "its EDP", "cheapest EDP", "its perplexity"],
    );
    for search in &found.searches {
        let (Some(cheapest), Some(best)) = (search.front.first(), search.front.last()) else { continue };
        table.row([
            search.seed.to_string(),
            search.judged.to_string(),
            search.front.len().to_string(),
            format!("{:.2}", best.loss.exp()),
            format!("{:.2e}", best.cost.edp()),
            format!("{:.2e}", cheapest.cost.edp()),
            format!("{:.2}", cheapest.loss.exp()),
        ]);
    }
    table.noted("Perplexity with the supernet's weights in float32, EDP in mJ cycles by the table of layers.")
}

/// Networks by themselves.
fn retrained(found: &Found) -> Table {
    let mut table = Table::new(
        "Inherited and retrained",
        ["width", "heads", "inner widths", "perplexity, inherited", "perplexity, trained alone"],
    );
    for Alone { inherited, alone, shape } in &found.retrained.networks {
        let [width, heads, ffn] = shape.cells();
        table.row([width, heads, ffn, format!("{:.2}", inherited.exp()), format!("{:.2}", alone.exp())]);
    }
    table.noted(&format!("Kendall's tau of the two orders: {:.2}.", found.retrained.kendall))
}

fn losses(found: &Found) -> Figure {
    let curve = |points: &[Point], network: usize| -> Vec<[f64; 2]> {
        points.iter().filter_map(|point| Some([point.step as f64, *point.validation.get(network)?])).collect()
    };
    Figure {
        id: "nas-losses".to_owned(),
        title: "Loss on the validation text".to_owned(),
        x: Scale::linear("steps"),
        y: Scale::linear("nats a token"),
        kind: Kind::Lines(vec![
            Series::new("base, by itself", curve(&found.base, 0)),
            Series::new("supernet, largest", curve(&found.supernet, 0)),
            Series::new("supernet, smallest", curve(&found.supernet, 1)),
        ]),
    }
}

fn fronts(found: &Found) -> Figure {
    let series = found.searches.iter().map(|search| {
        let points = search.front.iter().map(|network| [network.cost.edp(), network.loss.exp()]).collect();
        Series::new(format!("seed {}", search.seed), points)
    });
    let int8 = found.networks.iter().map(|network| [network.cost.edp(), network.perplexity.int8]).collect();
    Figure {
        id: "nas-front".to_owned(),
        title: "Fronts of the searches, and the first one in INT8".to_owned(),
        x: Scale::log("EDP, mJ cycles"),
        y: Scale::linear("perplexity a token"),
        kind: Kind::Points(series.chain([Series::new("INT8, seed of the first", int8)]).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_has_no_network_that_another_one_beats() {
        let found = Found::built_in().unwrap();
        assert!(found.searches.len() >= 3 && found.retrained.networks.len() >= 8);
        for search in &found.searches {
            let pairs = search.front.windows(2);
            assert!(pairs.clone().all(|two| two[0].cost.edp() < two[1].cost.edp() && two[0].loss > two[1].loss));
        }
        assert_eq!(found.networks.len(), found.searches[0].front.len());
    }
}
