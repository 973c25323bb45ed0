//! Co-design: under a budget, a configuration and a mapping for each of some layers, and a rule for the layers that are not known.

use std::collections::BTreeMap;

use pollux::asm::ElementType;
use pollux::kernels::{KernelError, Matmul, MatmulShape, ProgramBuilder, Schedule};
use pollux::{Config, Cycle, Error, MemoryModel, Program};
use pollux_isa::config::{ConfigError, ConfigFile};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Deserialize;
use toml::{Spanned, Table, Value};

use crate::grade::{Accepted, Refused, Verdict, read};
use crate::lab::{DesignWork, Layer};

/// A layer that takes this many times the limit is stopped.
const PATIENCE: u64 = 20;

/// The work of hidden layers is that of the lab, give or take one part in so many.
const WORK_VARIES: u64 = 25;

/// Name of the rule in an answer.
const RULE: &str = "rule";

/// Name of the layer that no solution knows.
const HIDDEN: &str = "hidden";

/// What is handed in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Fields that differ from those of the base.
    #[serde(default)]
    config: BTreeMap<Spanned<String>, Spanned<Value>>,
    /// A mapping for each layer.
    layers: BTreeMap<String, Mapping>,
    /// The mapping of any other; its tile is cut where the layer is smaller.
    rule: Mapping,
}

/// A mapping, in the form in which the mapper writes it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    schedule: Schedule,
}

/// Grades a design: all its layers and one of the seed run.
pub(crate) fn check(
    work: &DesignWork,
    solution: (&str, &[u8]),
    seed: u64,
    cases: &mut usize,
) -> Result<Accepted, Refused> {
    let answer: Answer = read(solution)?;
    check_names(work, &answer)?;
    let config = configuration(work, &answer, solution)?;
    work.check_budget(&config)?;
    let hidden = hidden(work, seed);
    let known = work.layers.iter().map(|layer| (layer, answer.layers[&layer.name]));
    let layers: Vec<(&Layer, Mapping)> = known.chain([(&hidden, cut(answer.rule, &config, &hidden))]).collect();
    for (layer, mapping) in &layers {
        let legal = mapping.schedule.check(&config, &layer.shape());
        legal.map_err(|error| (Verdict::Illegal, format!("`{}`: {error}", layer.place())))?;
    }
    let mut took = Vec::new();
    for (layer, mapping) in &layers {
        *cases += 1;
        took.push((*layer, cycles(work, &config, layer, mapping)?));
    }
    let mean = geometric_mean(took.iter().map(|(_, cycles)| *cycles));
    let each: Vec<String> = took.iter().map(|(layer, cycles)| format!("{} {cycles}", layer.describe())).collect();
    let message = format!("{mean} cycles, the geometric mean of {}", each.join(", "));
    match mean > work.cycles {
        true => Err((Verdict::TooSlow, format!("{message}: at most {} are allowed", work.cycles))),
        false => Ok(Accepted { message, score: Some(mean) }),
    }
}

/// The answer is about the layers of the lab.
fn check_names(work: &DesignWork, answer: &Answer) -> Result<(), Refused> {
    let names: Vec<&str> = work.layers.iter().map(|layer| layer.name.as_str()).collect();
    if let Some(missing) = names.iter().find(|name| !answer.layers.contains_key(**name)) {
        let message = format!("no schedule for the layer `{missing}`: write it as [layers.{missing}.schedule]");
        return Err((Verdict::OtherTask, message));
    }
    match answer.layers.keys().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => {
            Err((Verdict::OtherTask, format!("there is no layer `{unknown}`: there are {}", names.join(", "))))
        }
        None => Ok(()),
    }
}

/// The configuration of an answer; errors have the line of the answer.
fn configuration(work: &DesignWork, answer: &Answer, (name, text): (&str, &[u8])) -> Result<Config, Refused> {
    let mut fields: Table =
        answer.config.iter().map(|(key, value)| (key.get_ref().clone(), value.get_ref().clone())).collect();
    fields.entry("base").or_insert_with(|| work.base.clone().into());
    let place = |field: &str| match answer.config.keys().find(|key| key.get_ref() == field) {
        Some(key) => format!("{name}:{}", 1 + text[..key.span().start].iter().filter(|byte| **byte == b'\n').count()),
        None => name.to_owned(),
    };
    let refused = |error: ConfigError| match error {
        ConfigError::Field { field, problem, .. } => {
            (Verdict::NotRead, format!("{}: [config] `{field}`: {problem}", place(&field)))
        }
        ConfigError::Base(_) | ConfigError::UnknownName(_) => {
            (Verdict::NotRead, format!("{}: [config] {error}", place("base")))
        }
        error => (Verdict::Illegal, format!("{name}: [config] {error}")),
    };
    let file = ConfigFile::parse(&fields.to_string()).map_err(refused)?;
    file.named_after("answer").config().map_err(refused)
}

impl DesignWork {
    /// What must be kept to, a line each.
    pub(crate) fn rules(&self) -> Vec<String> {
        let layers = self.layers.iter().map(|layer| format!("layer {} (m x k x n)", layer.describe()));
        let [least, most] = self.hidden_extents;
        let hidden = format!(
            "a hidden layer of about {} multiply-accumulates, its extents multiples of DIM from {least} to {most}, mapped by the rule",
            self.hidden_macs
        );
        let budget = [
            format!("scratchpad and accumulator have at most {} bytes together", self.budget.local_bytes),
            format!("the array has at most {} processing elements", self.budget.processing_elements),
            format!("of the configuration may be chosen: {}", self.free.join(", ")),
            format!(
                "at most {} cycles with --memory {}, the geometric mean over all four layers",
                self.cycles, self.memory
            ),
        ];
        layers.chain([hidden]).chain(budget).collect()
    }

    /// The budget is kept, and nothing else is changed.
    fn check_budget(&self, config: &Config) -> Result<(), Refused> {
        let broken = |message: String| Err((Verdict::RuleBroken, message));
        let base = pollux::config(&self.base).expect("the labs' configurations are tested");
        let frozen = base.settings().into_iter().zip(config.settings());
        let mut changed =
            frozen.filter(|((field, own), (_, value))| own != value && !self.free.iter().any(|f| f == field));
        if let Some(((field, own), (_, value))) = changed.next() {
            let free = self.free.join(", ");
            return broken(format!("`{field}` is {value}: this lab leaves it at {own}; to be chosen are {free}"));
        }
        let elements = u64::from(config.dim()).pow(2);
        if elements > self.budget.processing_elements {
            return broken(format!(
                "`mesh_rows` and `mesh_columns` make {elements} processing elements, {} more than the budget of {}",
                elements - self.budget.processing_elements,
                self.budget.processing_elements
            ));
        }
        let rows = |rows: u32, bytes: u32| u64::from(rows) * u64::from(bytes);
        let bytes = rows(config.sp_rows(), config.sp_row_bytes()) + rows(config.acc_rows(), config.acc_row_bytes());
        if bytes > self.budget.local_bytes {
            return broken(format!(
                "`sp_capacity` and `acc_capacity` make {bytes} bytes, {} more than the budget of {}",
                bytes - self.budget.local_bytes,
                self.budget.local_bytes
            ));
        }
        Ok(())
    }
}

impl Layer {
    fn shape(&self) -> MatmulShape {
        MatmulShape::new(self.m, self.n, self.k)
    }

    /// Its program, the buffers without contents: cycles do not depend on them.
    fn program(&self, config: &Config, schedule: &Schedule) -> Result<Program, KernelError> {
        let mut builder = ProgramBuilder::new(config.clone())?;
        let a = builder.buffer("A", self.m, self.k, ElementType::I8)?;
        let b = builder.buffer("B", self.k, self.n, ElementType::I8)?;
        let c = builder.buffer("C", self.m, self.n, ElementType::I8)?;
        builder.begin("matmul");
        Matmul::new(a, b, c).lower(&mut builder, schedule)?;
        builder.fence();
        Ok(builder.finish()?.into())
    }

    fn describe(&self) -> String {
        format!("{} {}x{}x{}", self.name, self.m, self.k, self.n)
    }

    /// Where its schedule stands in an answer.
    fn place(&self) -> String {
        match self.name.as_str() {
            HIDDEN => format!("{RULE}, on the layer {}", self.describe()),
            name => format!("layers.{name}"),
        }
    }
}

/// The layer of a seed: its extents vary, in whole blocks, its work hardly does, so that scores can be compared.
fn hidden(work: &DesignWork, seed: u64) -> Layer {
    let base = pollux::config(&work.base).expect("the labs' configurations are tested");
    let dim = u64::from(base.dim());
    let blocks = work.hidden_macs / dim.pow(3);
    let [least, most] = work.hidden_extents.map(|extent| extent / dim);
    let mut random = SplitMix64::seed_from_u64(seed);
    let mut extent = || least + random.next_u64() % (most - least + 1);
    loop {
        let (m, k) = (extent(), extent());
        let n = (blocks + m * k / 2) / (m * k);
        let near = (m * k * n).abs_diff(blocks) * WORK_VARIES <= blocks;
        if near && (least..=most).contains(&n) {
            let [m, k, n] = [m, k, n].map(|extent| (extent * dim) as usize);
            return Layer { name: HIDDEN.to_owned(), m, k, n };
        }
    }
}

/// A mapping whose tile is not larger than the layer.
fn cut(mapping: Mapping, config: &Config, layer: &Layer) -> Mapping {
    let schedule = mapping.schedule;
    let blocks = |extent: usize| extent.div_ceil(config.dim() as usize);
    let mut tile = schedule.tile;
    tile.i = tile.i.min(blocks(layer.m));
    tile.j = tile.j.min(blocks(layer.n));
    tile.k = tile.k.min(blocks(layer.k));
    Mapping { schedule: Schedule { tile, ..schedule } }
}

fn cycles(work: &DesignWork, config: &Config, layer: &Layer, mapping: &Mapping) -> Result<Cycle, Refused> {
    let refused = |verdict: Verdict, error: &dyn std::fmt::Display| (verdict, format!("`{}`: {error}", layer.place()));
    let program = layer.program(config, &mapping.schedule).map_err(|error| refused(Verdict::Illegal, &error))?;
    let memory: MemoryModel = work.memory.parse().expect("the labs' memories are tested");
    // With values, as of the machine without them the page has no copy.
    let run = program.run().memory(memory).limit(work.cycles.saturating_mul(PATIENCE));
    match run.cycles() {
        Ok(outcome) => Ok(outcome.cycles()),
        Err(error @ Error::Stopped(_)) => Err(refused(Verdict::DidNotEnd, &error)),
        Err(error) => Err(refused(Verdict::Illegal, &error)),
    }
}

/// Rounded to whole cycles.
fn geometric_mean(cycles: impl ExactSizeIterator<Item = Cycle>) -> Cycle {
    let count = cycles.len() as f64;
    let logarithms: f64 = cycles.map(|cycles| (cycles as f64).ln()).sum();
    (logarithms / count).exp().round() as Cycle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Work;

    #[test]
    fn hidden_layers_differ_but_not_in_their_work() {
        let lab = crate::lab(10).expect("it is there");
        let Work::Design(work) = &lab.work else { panic!("lab 10 is a design") };
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let layer = hidden(work, seed);
            let [least, most] = work.hidden_extents.map(|extent| extent as usize);
            assert!([layer.m, layer.k, layer.n].iter().all(|extent| (least..=most).contains(extent)), "{layer:?}");
            let macs = (layer.m * layer.k * layer.n) as f64;
            assert!((macs / work.hidden_macs as f64 - 1.0).abs() <= 1.0 / WORK_VARIES as f64, "{layer:?}");
            shapes.insert((layer.m, layer.k, layer.n));
        }
        assert!(shapes.len() > 20, "{}", shapes.len());
    }

    #[test]
    fn a_fault_is_told_with_its_line_or_field() {
        let lab = crate::lab(10).expect("it is there");
        let message = |from: &str, to: &str| {
            assert!(lab.reference.contains(from), "{from}");
            let text = lab.reference.replacen(from, to, 1);
            crate::check(&lab, "answer.toml", text.as_bytes(), crate::Seed::New(1), 1).message
        };
        let line = 1 + lab.reference.lines().position(|line| line.starts_with("sp_capacity")).expect("a line");
        assert_eq!(
            message("sp_capacity", "sp_capasity"),
            format!("answer.toml:{line}: [config] `sp_capasity`: unknown field; `pollux config` lists all")
        );
        assert!(message("[config]\n", "[colour]\n[config]\n").contains("unknown field `colour`"));
        assert!(message("[config]\n", "[config]\ndma_buswidth = 64\n").starts_with("`dma_buswidth` is 64: this lab"));
    }
}
