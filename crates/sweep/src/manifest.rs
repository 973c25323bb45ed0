//! The manifest: axes, exclusions, what is measured, shards.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use pollux::MemoryModel;
use pollux_energy::{EnergyTable, Prices};
use pollux_isa::GemminiConfig;
use pollux_shards::Shards;
use pollux_sim::observer::Cycle;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::error::SweepError;
use crate::exclude;
use crate::mappings::NamedMapping;
use crate::point::Point;
use crate::results::RESULTS;
use crate::source::Source;
use crate::table::{Column, Kind, Schema, Value, hex};
use crate::{configs, mappings, work};

/// Points of a shard where nobody says how many shards there are.
const POINTS_A_SHARD: usize = 8;
/// Points of a sweep: each has a row in memory.
const MOST_POINTS: usize = 10_000_000;

/// What is measured beside cycles and traffic. Values keep what was simulated before from being replayed, and take longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// What the array's cycles were spent on.
    pub causes: bool,
    /// Energy, by the manifest's table.
    pub energy: bool,
    /// Whether the results are right.
    #[serde(rename = "match")]
    pub values: bool,
}

/// A sweep.
#[derive(Debug)]
pub struct Manifest {
    points: Vec<Point>,
    schema: Schema,
    shards: Option<usize>,
    pub(crate) measure: Measure,
    pub(crate) interval: u64,
    pub(crate) limit: Option<Cycle>,
    pub(crate) energy: Option<Energy>,
    /// Different memories, which share what a worker keeps.
    pub(crate) memories: usize,
    /// No divisor of the normalizer is taken to be zero, and nothing is computed to find out.
    pub(crate) no_zero_divisor: bool,
    left_out: Vec<String>,
}

/// Figures for energy.
#[derive(Clone, Debug)]
pub struct Energy {
    table: EnergyTable,
    text: String,
    pub(crate) clock_hz: f64,
}

impl Energy {
    /// What an event costs on a configuration.
    pub(crate) fn prices(&self, config: &GemminiConfig) -> Result<Prices, String> {
        self.table.prices(config).map_err(|error| error.to_string())
    }
}

impl Manifest {
    /// Reads a manifest; files that it names are relative to `folder`.
    ///
    /// # Errors
    /// Text that is no TOML, or what it says cannot be: line, key and remedy.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, SweepError> {
        let source = Source::parse(text, &["config", "work", "mapping", "exclude"])?;
        let (configs, left_out) = configs::read(&source, folder)?;
        let work = work::read(&source, folder, &configs[0].config)?;
        let mappings = mappings::read(&source, folder)?;
        let memories = memories(&source)?;
        let top = &source.top;
        let measure = measure(&source)?;
        let energy = energy(&source, measure, folder)?;
        let interval = top.number("interval", 1)?.unwrap_or(1);
        let limit = top.number("limit", 1)?;
        let shards = top.number("shards", 1)?.map(|shards| shards as usize);
        let no_zero_divisor = no_zero_divisor(&source)?;
        top.finish()?;
        if no_zero_divisor {
            check_divisors(&source, measure, &work)?;
        }
        let common = json!({
            "interval": interval, "limit": limit, "measure": measure, "no_zero_divisor": no_zero_divisor,
            "energy": energy.as_ref().map(|energy| (hex(&Sha256::digest(&energy.text)), energy.clock_hz)),
        });
        let own = [Arc::new(NamedMapping::gemmini())];
        let mapped = |work: &work::Work| if work.problem().is_some() { mappings.len() } else { 1 };
        let count =
            work.iter().map(|work| mapped(work)).sum::<usize>() as u128 * (configs.len() * memories.len()) as u128;
        if count > MOST_POINTS as u128 {
            return Err(top.error("work", format!("{count} points: at most {MOST_POINTS} make a sweep")));
        }
        let mut points = Vec::new();
        for config in &configs {
            for work in &work {
                let mappings = if work.problem().is_some() { &mappings[..] } else { &own };
                for mapping in mappings {
                    let point = |memory: &MemoryModel| Point::new(work, config, *memory, mapping, &common);
                    points.extend(memories.iter().map(point));
                }
            }
        }
        if mappings.len() > 1 && work.iter().all(|work| work.problem().is_none()) {
            return Err(source.sections("mapping")[0]
                .error("", "only operation = \"matmul\" and \"conv\" have mappings: leave it out"));
        }
        let points = exclude::apply(&source, points)?;
        refuse_duplicates(&source, &points)?;
        let schema = schema(&points);
        let memories = memories.len();
        Ok(Self { points, schema, shards, measure, interval, limit, energy, memories, no_zero_divisor, left_out })
    }

    /// Its points, in order: configurations change last, memories first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The columns of its table.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Configurations of grids that cannot be built and were left out, with the reasons.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What is measured.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// How it is cut into shards: `wanted`, what the manifest says, or some points each.
    ///
    /// # Errors
    /// More shards than points, or others than the manifest says.
    pub fn shards(&self, wanted: Option<usize>) -> Result<Shards, String> {
        let points = self.points.len();
        let count = match (wanted, self.shards) {
            (Some(wanted), Some(own)) if wanted != own => {
                return Err(format!("the manifest says {own} shards, not {wanted}: change one of the two"));
            }
            (Some(count), _) | (None, Some(count)) => count,
            (None, None) => points.div_ceil(POINTS_A_SHARD),
        };
        match count > points {
            true => Err(format!("{count} shards for {points} points: at most one each")),
            false => Ok(Shards::new(points, count)),
        }
    }

    /// All points as JSON: id and names.
    pub fn describe(&self) -> Json {
        let point = |point: &Point| {
            let [work, config, memory, mapping] = point.names();
            json!({ "id": point.id, "work": work, "config": config, "memory": memory, "mapping": mapping })
        };
        self.points.iter().map(point).collect()
    }

    /// Digest of all points and columns: two manifests with the same digest have the same table.
    pub fn digest(&self) -> String {
        let ids: String = self.points.iter().map(|point| format!("{} {:?}\n", point.id, point.names())).collect();
        let columns = serde_json::to_string(&self.schema).unwrap_or_default();
        hex(&Sha256::digest(format!("{columns}\n{ids}").as_bytes()))
    }
}

fn memories(source: &Source) -> Result<Vec<MemoryModel>, SweepError> {
    let mut memories: Vec<MemoryModel> = Vec::new();
    for text in source.top.texts("memories")? {
        let memory = text.parse().map_err(|error| source.top.error("memories", format!("{error}")))?;
        memories.push(memory);
    }
    if memories.is_empty() {
        memories.push(MemoryModel::default());
    }
    Ok(memories)
}

fn no_zero_divisor(source: &Source) -> Result<bool, SweepError> {
    match source.top.text("divisors")?.as_deref() {
        None | Some("computed") => Ok(false),
        Some("not_zero") => Ok(true),
        Some(other) => Err(source.top.error("divisors", format!("`{other}`: choose \"computed\" or \"not_zero\""))),
    }
}

/// Whether what is said of divisors has an effect.
fn check_divisors(source: &Source, measure: Measure, work: &[Arc<work::Work>]) -> Result<(), SweepError> {
    if measure.causes || measure.values {
        let message = "it has no effect where causes or results are measured: leave it out";
        return Err(source.top.error("divisors", message));
    }
    let is_model =
        |work: &Arc<work::Work>| matches!(work.subject, work::Subject::Transformer { .. } | work::Subject::List { .. });
    match work.iter().any(is_model) {
        true => Ok(()),
        false => Err(source.top.error("divisors", "it has an effect on transformers and lists only: leave it out")),
    }
}

fn measure(source: &Source) -> Result<Measure, SweepError> {
    let mut measure = Measure::default();
    for word in source.top.texts("measure")? {
        match word.as_str() {
            "causes" => measure.causes = true,
            "energy" => measure.energy = true,
            "match" => measure.values = true,
            _ => {
                let message = format!("`{word}` cannot be measured: choose of \"causes\", \"energy\", \"match\"");
                return Err(source.top.error("measure", message));
            }
        }
    }
    Ok(measure)
}

fn energy(source: &Source, measure: Measure, folder: &Path) -> Result<Option<Energy>, SweepError> {
    const CLOCK_MHZ: u64 = 1000;
    let section = source.top.table("energy")?;
    if !measure.energy {
        return match section {
            None => Ok(None),
            Some(_) => Err(source.top.error("energy", "nothing is done with it: write measure = [\"energy\"]")),
        };
    }
    let own = |key: &str| section.map_or(Ok(None), |section| section.text(key));
    let name = own("table")?.unwrap_or_else(|| EnergyTable::NAMES[0].to_owned());
    let clock = section.map_or(Ok(None), |section| section.number("clock_mhz", 1))?;
    section.map_or(Ok(()), crate::source::Section::finish)?;
    let error = |message: String| match section {
        Some(section) => section.error("table", message),
        None => source.top.error("measure", message),
    };
    let path = folder.join(&name);
    let text = match path.is_file() {
        true => std::fs::read_to_string(&path).map_err(|read| error(format!("cannot read `{name}`: {read}")))?,
        false => EnergyTable::text_of(&name).map_err(|unknown| error(unknown.to_string()))?.to_owned(),
    };
    let table = EnergyTable::parse(&name, &text).map_err(|parse| error(parse.to_string()))?;
    Ok(Some(Energy { table, text, clock_hz: clock.unwrap_or(CLOCK_MHZ) as f64 * 1e6 }))
}

/// No two points are the same thing under two names.
fn refuse_duplicates(source: &Source, points: &[Point]) -> Result<(), SweepError> {
    let mut seen: HashMap<&str, &Point> = HashMap::new();
    for point in points {
        if let Some(other) = seen.insert(&point.id, point) {
            let [this, other] = [point, other].map(|point| point.names().join(", "));
            return Err(source.top.error("work", format!("two points are the same: ({other}) and ({this})")));
        }
    }
    Ok(())
}

/// The columns: what a point is, its parameters, what was measured.
fn schema(points: &[Point]) -> Schema {
    let column = |(name, kind): (&str, Kind)| Column { name: name.to_owned(), kind };
    let mut parameters: Vec<(&str, Vec<&Value>)> = Vec::new();
    for (name, value) in points.iter().flat_map(Point::parameters) {
        match parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) if values.last() == Some(&value) => {}
            Some((_, values)) => values.push(value),
            None => parameters.push((name, vec![value])),
        }
    }
    let point = [
        ("point", Kind::Int),
        ("id", Kind::Text),
        ("work", Kind::Text),
        ("config", Kind::Text),
        ("memory", Kind::Text),
        ("mapping", Kind::Text),
    ];
    let parameters = parameters.into_iter().map(|(name, values)| (name, Kind::of(values)));
    Schema(point.into_iter().chain(parameters).chain(RESULTS).map(column).collect())
}
