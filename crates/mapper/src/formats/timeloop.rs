//! Timeloop's YAML: problem, architecture and mapping, in one document or several, with the keys of versions 0.3 and 0.4.

use std::collections::BTreeMap;

use pollux_isa::config::Capacity;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::ConvShape;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::nest::extents;
use super::{Dim, FormatError, LevelName, Nest, SpatialAxis};
use crate::problem::Problem;

/// What a document has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The problem.
    pub problem: Option<Problem>,
    /// The build that the architecture describes.
    pub config: Option<ValidConfig>,
    /// The mapping.
    pub nest: Option<Nest>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    problem: Option<Spanned<RawProblem>>,
    #[serde(default)]
    architecture: Option<Spanned<RawArchitecture>>,
    #[serde(default)]
    mapping: Option<Vec<Spanned<Directive>>>,
}

#[derive(Deserialize)]
struct RawProblem {
    #[serde(default)]
    instance: Option<BTreeMap<String, Spanned<i64>>>,
    /// Earlier versions have the sizes beside the shape.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct RawArchitecture {
    #[serde(default)]
    subtree: Vec<Node>,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    name: String,
    #[serde(default)]
    local: Vec<Node>,
    #[serde(default)]
    subtree: Vec<Node>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    spatial: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Directive {
    target: Spanned<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    factors: Option<List>,
    #[serde(default)]
    permutation: Option<List>,
    #[serde(default)]
    split: Option<usize>,
    #[serde(default)]
    keep: Vec<String>,
    #[serde(default)]
    bypass: Vec<String>,
}

/// Words in one string, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Text(String),
    Items(Vec<String>),
}

impl List {
    /// `P=8 C=2`, with or without commas between them; a comma inside a factor begins its residual.
    fn factors(&self) -> Vec<String> {
        match self {
            Self::Items(items) => items.clone(),
            Self::Text(text) => {
                let mut words: Vec<String> = Vec::new();
                for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
                    match words.last_mut() {
                        Some(last) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                            last.push(',');
                            last.push_str(word);
                        }
                        _ => words.push(word.to_owned()),
                    }
                }
                words
            }
        }
    }

    /// `CKPQRSN`, or single letters.
    fn letters(&self) -> Vec<char> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Items(items) => items.concat(),
        };
        text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect()
    }
}

/// Reads a document.
///
/// # Errors
/// Text that is no YAML, or something that Gemmini has not; with line and key.
pub fn parse(text: &str) -> Result<Document, FormatError> {
    let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
        let message = error.to_string();
        let line = error.location().map_or(0, |location| location.line() as usize);
        FormatError::at(line, message.lines().next().unwrap_or("no YAML").to_owned())
    })?;
    let mut document = Document::default();
    if let Some(problem) = raw.problem {
        document.problem = Some(read_problem(&problem)?);
    }
    if let Some(architecture) = raw.architecture {
        let line = architecture.referenced.line() as usize;
        document.config = Some(read_architecture(&architecture.value).map_err(|what| FormatError::at(line, what))?);
    }
    if let Some(directives) = raw.mapping {
        document.nest = Some(read_mapping(&directives, document.problem.as_ref())?);
    }
    if document == Document::default() {
        return Err(FormatError::new("none of the keys problem, architecture and mapping"));
    }
    Ok(document)
}

fn read_problem(raw: &Spanned<RawProblem>) -> Result<Problem, FormatError> {
    let line = raw.referenced.line() as usize;
    let mut sizes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut add = |key: &str, number: i64, line: usize| match usize::try_from(number) {
        Ok(number) if number > 0 => {
            sizes.insert(key.to_owned(), (number, line));
            Ok(())
        }
        _ => Err(FormatError::at(line, format!("problem.instance.{key}: {number} is not above 0"))),
    };
    match &raw.value.instance {
        Some(instance) => {
            for (key, number) in instance {
                add(key, number.value, number.referenced.line() as usize)?;
            }
        }
        None => {
            for (key, value) in &raw.value.rest {
                if let Some(number) = value.as_i64() {
                    add(key, number, line)?;
                }
            }
        }
    }
    const KEYS: [&str; 11] = ["N", "C", "K", "P", "Q", "R", "S", "Wstride", "Hstride", "Wdilation", "Hdilation"];
    if let Some((key, (_, line))) = sizes.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return Err(FormatError::at(*line, format!("problem.instance.{key}: expected one of {}", KEYS.join(", "))));
    }
    let get = |key: &str| sizes.get(key).map_or(1, |(number, _)| *number);
    let line_of = |key: &str| sizes.get(key).map_or(line, |(_, line)| *line);
    if sizes.is_empty() {
        return Err(FormatError::at(line, "problem: expected instance: with N, C, K, P, Q, R, S"));
    }
    let (p, q, r, s) = (get("P"), get("Q"), get("R"), get("S"));
    if q == 1 && r == 1 && s == 1 && get("N") == 1 {
        return Ok(Problem::matmul(p, get("K"), get("C")));
    }
    let square = |one: &str, other: &str| match get(one) == get(other) {
        true => Ok(get(one)),
        false => Err(FormatError::at(
            line_of(other),
            format!("problem.instance: {one}={} and {other}={}: Gemmini has one for both", get(one), get(other)),
        )),
    };
    let (kernel, stride, dilation) =
        (square("R", "S")?, square("Wstride", "Hstride")?, square("Wdilation", "Hdilation")?);
    // Inputs of the size that the outputs need: Timeloop has no padding of its own.
    let extent = |outputs: usize| (outputs - 1) * stride + dilation * (kernel - 1) + 1;
    let shape = ConvShape::new(get("N"), [extent(q), extent(p), get("C")], get("K"), kernel);
    Ok(Problem::conv(ConvShape { stride, kernel_dilation: dilation, ..shape }))
}

/// `rows[0..15]` is sixteen of them.
fn instances(name: &str) -> u64 {
    let range =
        name.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).and_then(|range| range.split_once(".."));
    range.and_then(|(from, to)| Some(to.parse::<u64>().ok()?.checked_sub(from.parse().ok()?)? + 1)).unwrap_or(1)
}

/// Levels and how many of each there are.
#[derive(Default)]
struct Levels {
    /// Instances and bits of each.
    found: BTreeMap<&'static str, (u64, u64)>,
}

impl Levels {
    fn walk(&mut self, nodes: &[Node], around: u64) {
        let mut around = around;
        for node in nodes {
            let here = around * instances(&node.name) * node.spatial.values().product::<u64>().max(1);
            if let Some(level) = LevelName::of(&node.name) {
                self.found.insert(level.name(), (here, bits(&node.attributes)));
            }
            self.walk(&node.local, here);
            self.walk(&node.subtree, here);
            // In version 0.4 nodes follow each other, each inside those before it.
            if node.local.is_empty() && node.subtree.is_empty() {
                around = here;
            }
        }
    }
}

fn bits(attributes: &BTreeMap<String, serde_json::Value>) -> u64 {
    let get = |keys: &[&str]| keys.iter().find_map(|key| attributes.get(*key)).and_then(serde_json::Value::as_u64);
    let size = get(&["sizeKB", "size_kb"]).map(|kb| kb * 1024 * 8);
    let entries = get(&["entries"]).zip(get(&["word-bits", "datawidth"])).map(|(entries, bits)| entries * bits);
    let memory = get(&["depth"]).zip(get(&["width"])).map(|(depth, width)| depth * width);
    size.or(memory).or(entries).unwrap_or(0)
}

fn read_architecture(raw: &RawArchitecture) -> Result<ValidConfig, String> {
    let mut levels = Levels::default();
    levels.walk(&raw.subtree, 1);
    levels.walk(&raw.nodes, 1);
    let get = |name: &str| levels.found.get(name).copied().ok_or(format!("architecture: no level {name}"));
    let (scratchpads, scratchpad) = get("Scratchpad")?;
    let (accumulators, accumulator) = get("Accumulator")?;
    let (registers, _) = get("Registers")?;
    if scratchpads != 1 {
        return Err(format!("architecture: {scratchpads} scratchpads: Gemmini has one"));
    }
    if accumulators == 0 || registers != accumulators * accumulators {
        return Err(format!(
            "architecture: {accumulators} accumulators (columns) and {registers} registers: Gemmini's array is square"
        ));
    }
    let base = GemminiConfig::with_dim(accumulators as u32).map_err(|error| format!("architecture: {error}"))?;
    let mut config = base.into_inner();
    let kib = |name: &str, bits: u64| match bits > 0 && bits.is_multiple_of(8 * 1024) {
        true => Ok((bits / 8 / 1024) as u32),
        false => Err(format!("architecture: {name} of {bits} bits: expected whole KiB, as depth and width")),
    };
    config.sp_capacity = Capacity::Kilobytes(kib("Scratchpad", scratchpad)?);
    config.acc_capacity = Capacity::Kilobytes(kib("Accumulator", accumulator * accumulators)?);
    config.validated().map_err(|error| format!("architecture: {error}"))
}

fn read_mapping(directives: &[Spanned<Directive>], problem: Option<&Problem>) -> Result<Nest, FormatError> {
    let mut nest = Nest::default();
    for directive in directives {
        let line = directive.referenced.line() as usize;
        let Directive { target, kind, factors, permutation, split, keep, bypass } = &directive.value;
        let at = |key: &str, what: String| FormatError::at(line, format!("{} ({kind}), {key}: {what}", target.value));
        let level = LevelName::of(&target.value)
            .ok_or_else(|| at("target", "expected DRAM, Scratchpad, Accumulator or Registers".to_owned()))?;
        match kind.as_str() {
            "bypass" | "datatype" | "dataspace" => {
                check_kept(level, keep, bypass).map_err(|what| at("keep", what))?;
                continue;
            }
            "temporal" | "spatial" => {}
            _ => return Err(at("type", "expected temporal, spatial, datatype or bypass".to_owned())),
        }
        let mut loops: Vec<(Dim, usize, usize)> = Vec::new();
        for word in factors.as_ref().map(List::factors).unwrap_or_default() {
            let factor = read_factor(&word, problem)
                .ok_or_else(|| at("factors", format!("`{word}`: expected P=8, or P=8,2")))?;
            loops.push(factor);
        }
        let letters = permutation.as_ref().map(List::letters).unwrap_or_default();
        let mut inner_first = Vec::new();
        for letter in letters {
            let dim = Dim::of(letter).ok_or_else(|| at("permutation", format!("`{letter}` is none of RSPQCKN")))?;
            inner_first.push(dim);
        }
        let missing = Dim::ALL.into_iter().filter(|dim| !inner_first.contains(dim)).collect::<Vec<_>>();
        inner_first.extend(missing);
        let outer_first: Vec<Dim> = inner_first.iter().rev().copied().collect();
        for dim in outer_first {
            let Some((_, size, residual)) = loops.iter().find(|(own, ..)| *own == dim) else { continue };
            let position = inner_first.iter().position(|own| *own == dim).unwrap_or(0);
            let spatial = (kind == "spatial").then(|| match split {
                Some(split) if position >= *split => SpatialAxis::Y,
                None if level == LevelName::Accumulator => SpatialAxis::Y,
                _ => SpatialAxis::X,
            });
            nest.push(level, dim, *size, *residual, spatial);
        }
    }
    // Loops in time stand before those in space, whatever the order of the directives.
    for level in &mut nest.levels {
        level.factors.sort_by_key(|factor| factor.spatial.is_some());
    }
    Ok(nest)
}

/// `P=8`, `P=8,2`, `P8`; 0 stands for the rest of the problem, which must be known.
fn read_factor(word: &str, problem: Option<&Problem>) -> Option<(Dim, usize, usize)> {
    let mut letters = word.chars();
    let dim = Dim::of(letters.next()?)?;
    let digits = letters.as_str().trim_start_matches('=');
    let (size, residual) = digits.split_once(',').map_or((digits, "0"), |pair| pair);
    let (size, residual): (usize, usize) = (size.trim().parse().ok()?, residual.trim().parse().ok()?);
    let size = if size == 0 { extents(problem?)(dim) } else { size };
    (residual <= size).then_some((dim, size, residual))
}

fn check_kept(level: LevelName, keep: &[String], bypass: &[String]) -> Result<(), String> {
    let kept = level.keeps();
    if let Some(tensor) = keep.iter().find(|tensor| !kept.contains(&tensor.as_str())) {
        return Err(format!("{tensor}: Gemmini keeps only {} there", kept.join(" and ")));
    }
    match bypass.iter().find(|tensor| kept.contains(&tensor.as_str())) {
        Some(tensor) => Err(format!("{tensor} cannot go past it on Gemmini")),
        None => Ok(()),
    }
}

/// Writes a mapping. `permutation` is inner to outer, as Timeloop has it.
pub fn text(nest: &Nest) -> String {
    let mut out = String::from("mapping:\n");
    for (level, name) in nest.levels.iter().zip(LevelName::ALL) {
        for spatial in [false, true] {
            let factors: Vec<_> = level.factors.iter().filter(|f| f.spatial.is_some() == spatial).collect();
            if spatial && factors.is_empty() {
                continue;
            }
            let words: Vec<String> = factors
                .iter()
                .map(|f| match f.residual == f.size {
                    true => format!("{}={}", f.dim, f.size),
                    false => format!("{}={},{}", f.dim, f.size, f.residual),
                })
                .collect();
            let mut inner_first: Vec<char> = factors.iter().rev().map(|f| f.dim.letter()).collect();
            inner_first.extend(
                Dim::ALL.iter().map(|dim| dim.letter()).filter(|l| !factors.iter().any(|f| f.dim.letter() == *l)),
            );
            let permutation: String = inner_first.iter().collect();
            let split = match factors.first().and_then(|f| f.spatial) {
                Some(SpatialAxis::X) => ", split: 7",
                Some(SpatialAxis::Y) => ", split: 0",
                None => "",
            };
            let kind = if spatial { "spatial" } else { "temporal" };
            out.push_str(&format!(
                "- {{target: {}, type: {kind}, factors: \"{}\", permutation: {permutation}{split}}}\n",
                name.name(),
                words.join(" ")
            ));
        }
    }
    for name in LevelName::ALL {
        out.push_str(&format!("- {{target: {}, type: datatype, keep: [{}]", name.name(), name.keeps().join(", ")));
        let bypass: Vec<&str> =
            LevelName::Dram.keeps().iter().copied().filter(|tensor| !name.keeps().contains(tensor)).collect();
        out.push_str(&format!(", bypass: [{}]}}\n", bypass.join(", ")));
    }
    out
}
