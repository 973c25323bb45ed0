//! The axis of mappings, for work that has some: products and convolutions.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pollux_mapper::formats::schedule;
use pollux_mapper::search::{Method, Objective};
use pollux_mapper::{Limits, Mapping};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::error::SweepError;
use crate::source::{Section, Source};
use crate::table::Value;

/// How a point's work is mapped.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// As Gemmini's own software does it; also that of work without mappings.
    Gemmini,
    /// One of the distinct mappings that a seed draws.
    Random {
        /// Which of them, from 0.
        index: usize,
        /// The seed.
        seed: u64,
        /// The part of the space.
        limits: Limits,
    },
    /// A schedule from a file.
    Schedule(Mapping),
    /// The best that a search finds.
    Search {
        /// How proposals are found.
        method: Method,
        /// What is to be small.
        objective: Objective,
        /// Seconds of emulation, as `pollux map --budget`.
        budget: u64,
        /// The seed.
        seed: u64,
        /// The part of the space.
        limits: Limits,
    },
}

/// An entry of the axis.
#[derive(Clone, Debug)]
pub struct NamedMapping {
    /// Name in the table.
    pub name: String,
    /// Its parameters.
    pub fields: Vec<(String, Value)>,
    /// How.
    pub choice: Choice,
}

/// Most mappings that one section draws: each point has to draw all before it.
const MOST_DRAWN: u64 = 100_000;
const KINDS: &str = "write rule = \"gemmini\", random = NUMBER, schedule = \"FILE\" or search = \"auto\"";

impl NamedMapping {
    /// Gemmini's own.
    pub fn gemmini() -> Self {
        Self { name: "gemmini".to_owned(), fields: Vec::new(), choice: Choice::Gemmini }
    }

    /// What a point's id is made of.
    pub fn canonical(&self) -> Json {
        match &self.choice {
            Choice::Gemmini => json!("gemmini"),
            Choice::Random { index, seed, limits } => json!({ "random": index, "seed": seed, "limits": limits }),
            Choice::Schedule(mapping) => json!(mapping),
            Choice::Search { method, objective, budget, seed, limits } => {
                json!({ "search": method, "objective": objective, "budget": budget, "seed": seed, "limits": limits })
            }
        }
    }
}

/// All mappings of a manifest; Gemmini's own if it names none.
pub fn read(source: &Source, folder: &Path) -> Result<Vec<Arc<NamedMapping>>, SweepError> {
    let mut all: Vec<Arc<NamedMapping>> = Vec::new();
    for section in source.sections("mapping") {
        let kinds = ["rule", "random", "schedule", "search"].map(|kind| section.get(kind).map(|_| kind));
        let [kind] = kinds.into_iter().flatten().collect::<Vec<_>>()[..] else {
            return Err(section.error("", KINDS));
        };
        let mappings = match kind {
            "rule" => vec![rule(section)?],
            "random" => random(section)?,
            "schedule" => schedules(section, folder)?,
            _ => searches(section)?,
        };
        section.finish()?;
        for mapping in mappings {
            if all.iter().any(|other| other.name == mapping.name) {
                return Err(section.error(kind, format!("there is `{}` already", mapping.name)));
            }
            all.push(Arc::new(mapping));
        }
    }
    if all.is_empty() {
        all.push(Arc::new(NamedMapping::gemmini()));
    }
    Ok(all)
}

fn rule(section: &Section) -> Result<NamedMapping, SweepError> {
    match section.text("rule")?.as_deref() {
        Some("gemmini") => Ok(NamedMapping::gemmini()),
        _ => Err(section.error("rule", "there is one: \"gemmini\"")),
    }
}

/// A word of a list that its type knows.
fn word<T: DeserializeOwned>(section: &Section, key: &str) -> Result<Option<T>, SweepError> {
    let Some(text) = section.text(key)? else { return Ok(None) };
    serde_json::from_value(Json::String(text)).map(Some).map_err(|error| section.error(key, error.to_string()))
}

fn limits(section: &Section) -> Result<Limits, SweepError> {
    Ok(Limits {
        factors: word(section, "factors")?.unwrap_or_default(),
        emission: word(section, "emission")?,
        dataflow: word(section, "dataflow")?,
    })
}

fn random(section: &Section) -> Result<Vec<NamedMapping>, SweepError> {
    let count = section.number("random", 1)?.unwrap_or(1);
    if count > MOST_DRAWN {
        return Err(section.error("random", format!("at most {MOST_DRAWN} are drawn")));
    }
    let limits = limits(section)?;
    let seeds = seeds(section)?;
    let mapping = |seed: u64, index: usize| NamedMapping {
        name: format!("random {index} seed={seed}"),
        fields: vec![("random".to_owned(), Value::from(index as u64)), ("seed".to_owned(), Value::from(seed))],
        choice: Choice::Random { index, seed, limits },
    };
    Ok(seeds.into_iter().flat_map(|seed| (0..count as usize).map(move |index| mapping(seed, index))).collect())
}

/// The values of `seed`, 1 by default.
fn seeds(section: &Section) -> Result<Vec<u64>, SweepError> {
    let seeds = section.combinations(&["seed"]).into_iter().map(|fields| match fields.get("seed") {
        None => Ok(1),
        Some(Value::Int(seed)) if *seed >= 0 => Ok(*seed as u64),
        Some(other) => Err(section.error("seed", format!("{other} is no seed: give numbers from 0"))),
    });
    seeds.collect()
}

fn schedules(section: &Section, folder: &Path) -> Result<Vec<NamedMapping>, SweepError> {
    let schedule = |name: String| {
        let path = folder.join(&name);
        let error = |error: &dyn std::fmt::Display| section.error("schedule", format!("`{}`: {error}", path.display()));
        let text = fs::read_to_string(&path).map_err(|read| error(&read))?;
        let mapping = schedule::parse(&text).map_err(|format| error(&format))?;
        Ok(NamedMapping { name, fields: Vec::new(), choice: Choice::Schedule(mapping) })
    };
    section.texts("schedule")?.into_iter().map(schedule).collect()
}

fn searches(section: &Section) -> Result<Vec<NamedMapping>, SweepError> {
    let objective: Objective = word(section, "objective")?.unwrap_or_default();
    let (budget, limits) = (section.number("budget", 1)?.unwrap_or(5), limits(section)?);
    let mut all = Vec::new();
    for seed in seeds(section)? {
        for text in section.texts("search")? {
            let method = serde_json::from_value(Json::String(text.clone()));
            let method: Method = method.map_err(|error| section.error("search", error.to_string()))?;
            all.push(NamedMapping {
                name: format!("search {text} {objective} seed={seed}"),
                fields: vec![("search".to_owned(), Value::Text(text)), ("seed".to_owned(), Value::from(seed))],
                choice: Choice::Search { method, objective, budget, seed, limits },
            });
        }
    }
    Ok(all)
}
