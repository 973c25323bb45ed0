//! What the refined model leaves over, learned: the logarithm of the emulator's cycles over the model's, by boosted regression trees on
//! figures of the mapping. The trees are those of smartcore (`xgboost`), and training is deterministic.
//!
//! A model is a file. It names what it was trained on: builds and memories, operations, the number of runs and the SHA-256 of them all.

use std::fmt::Write;

use pollux_isa::ValidConfig;
use pollux_kernels::{Dataflow, Emission};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};
use thiserror::Error;

use super::Costs;
use crate::emulate::Surroundings;
use crate::evaluate::Sample;
use crate::mapping::Mapping;
use crate::problem::Problem;
use crate::space::tile_of;

/// Version of the file's form, of the figures, and of the analytical model that is corrected.
const VERSION: u32 = 2;
/// Trees of each kind of operation, their depth, and the part of its answer that each gives.
const TREES: usize = 120;
const DEPTH: u16 = 4;
const RATE: f64 = 0.1;
/// Samples without which a kind of operation has no trees.
const FEWEST: usize = 40;
/// The factor is at most this, or one over it.
const MOST_FACTOR: f64 = 2.0;

type Trees = XGRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

/// What a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSet {
    /// Builds.
    pub configs: Vec<String>,
    /// Memories.
    pub memories: Vec<String>,
    /// Operations.
    pub problems: Vec<Problem>,
    /// Runs of products and of convolutions.
    pub samples: [usize; 2],
    /// SHA-256 of all runs: build, memory, operation, mapping and cycles, a line each.
    pub sha256: String,
}

/// A learned model.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    version: u32,
    /// What it was trained on.
    pub training: TrainingSet,
    products: Option<Trees>,
    convolutions: Option<Trees>,
}

/// Runs of a build behind a memory.
#[derive(Clone, Debug)]
pub struct Lesson<'a> {
    /// The build.
    pub config: &'a ValidConfig,
    /// Memory and host.
    pub around: Surroundings,
    /// Operations.
    pub problems: &'a [Problem],
    /// Their runs.
    pub samples: Vec<Sample>,
}

/// Why there is no model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResidualError {
    /// The file is none.
    #[error("no learned model: {0}")]
    File(String),
    /// A file of another version.
    #[error("a learned model of version {found}, this is version {VERSION}: train it again")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The trees could not be made.
    #[error("the trees cannot be made: {0}")]
    Training(String),
}

impl Residual {
    /// Trains a model.
    ///
    /// # Errors
    /// Samples from which no trees can be made.
    pub fn train(lessons: &[Lesson<'_>]) -> Result<Self, ResidualError> {
        let mut digest = Sha256::new();
        let mut known: [(Vec<Vec<f64>>, Vec<f64>); 2] = Default::default();
        let mut training = TrainingSet {
            configs: Vec::new(),
            memories: Vec::new(),
            problems: Vec::new(),
            samples: [0; 2],
            sha256: "0x".to_owned(),
        };
        let once = |names: &mut Vec<String>, name: String| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        for Lesson { config, around, problems, samples } in lessons {
            once(&mut training.configs, config.name.clone());
            once(&mut training.memories, around.memory.to_string());
            for problem in problems.iter() {
                if !training.problems.contains(problem) {
                    training.problems.push(*problem);
                }
            }
            let costs: Vec<Costs> = problems.iter().map(|problem| Costs::new(config, problem, around)).collect();
            for sample in samples {
                let costs = &costs[sample.problem];
                let line = (&config.name, around.memory.to_string(), costs.problem(), sample.mapping, sample.cycles);
                digest.update(serde_json::to_string(&line).unwrap_or_default().as_bytes());
                digest.update(b"\n");
                let kind = usize::from(matches!(sample.mapping, Mapping::Conv(_)));
                training.samples[kind] += 1;
                known[kind].0.push(figures(costs, &sample.mapping));
                known[kind].1.push((sample.cycles as f64 / costs.cycles(&sample.mapping)).ln());
            }
        }
        for byte in digest.finalize() {
            // Writing to a text cannot fail.
            let _ = write!(training.sha256, "{byte:02x}");
        }
        let [products, convolutions] = known.map(|(figures, errors)| trees(&figures, &errors));
        Ok(Self { version: VERSION, training, products: products?, convolutions: convolutions? })
    }

    /// Cycles by the refined model, corrected. The mapping must be legal.
    pub fn cycles(&self, costs: &Costs, mapping: &Mapping) -> f64 {
        let trees = match mapping {
            Mapping::Matmul(_) => &self.products,
            Mapping::Conv(_) => &self.convolutions,
        };
        let error = trees.as_ref().and_then(|trees| {
            let one = DenseMatrix::from_2d_vec(&vec![figures(costs, mapping)]).ok()?;
            trees.predict(&one).ok()?.first().copied()
        });
        costs.cycles(mapping) * error.map_or(1.0, f64::exp).clamp(1.0 / MOST_FACTOR, MOST_FACTOR)
    }

    /// The model as text (JSON).
    pub fn text(&self) -> String {
        // Numbers, names and lists: nothing that JSON has not.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a model.
    ///
    /// # Errors
    /// Text that is none, or of another version.
    pub fn parse(text: &str) -> Result<Self, ResidualError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let wrong = |error: serde_json::Error| ResidualError::File(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            return Err(ResidualError::Version { found: version });
        }
        serde_json::from_str(text).map_err(wrong)
    }
}

fn trees(figures: &Vec<Vec<f64>>, errors: &Vec<f64>) -> Result<Option<Trees>, ResidualError> {
    if errors.len() < FEWEST {
        return Ok(None);
    }
    let failed = |error: String| ResidualError::Training(error);
    let figures = DenseMatrix::from_2d_vec(figures).map_err(|error| failed(error.to_string()))?;
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(TREES)
        .with_max_depth(DEPTH)
        .with_learning_rate(RATE)
        .with_min_child_weight(4)
        .with_base_score(0.0)
        .with_subsample(1.0)
        .with_seed(1);
    Trees::fit(&figures, errors, parameters).map(Some).map_err(|error| failed(error.to_string()))
}

/// What the trees look at: which unit is busy for which part of the model's cycles, sizes and numbers of tiles, and the form.
fn figures(costs: &Costs, mapping: &Mapping) -> Vec<f64> {
    let cycles = costs.cycles(mapping).max(1.0);
    let machine = costs.machine();
    let mut figures: Vec<f64> =
        costs.work(mapping).terms(machine).iter().map(|(_, term)| *term as f64 / cycles).collect();
    let ln = |size: usize| (size.max(1) as f64).ln();
    let tile = tile_of(mapping);
    figures.extend(tile.iter().map(|size| ln(*size)));
    let flag = |set: bool| f64::from(u8::from(set));
    match (mapping, costs.problem()) {
        (Mapping::Matmul(s), Problem::Matmul(problem)) => {
            let extents = [problem.m, problem.n, problem.k];
            let sizes = [s.tile.i, s.tile.j, s.tile.k];
            figures.extend(extents.iter().zip(sizes).map(|(extent, size)| ln(extent.div_ceil(size * machine.dim))));
            figures.extend(extents.map(|extent| (extent % machine.dim) as f64));
            figures.extend([flag(s.emission == Emission::Commands), flag(s.dataflow == Dataflow::Os)]);
            figures.extend([flag(s.double_buffer), s.keep as usize as f64]);
            figures.extend(s.order.map(|axis| axis as usize as f64));
        }
        (Mapping::Conv(s), Problem::Conv(problem)) => {
            figures.extend(s.tiles(&problem.shape).map(ln));
            figures.extend([problem.shape.kernel, problem.shape.stride].map(|size| size as f64));
            figures.extend([ln(problem.shape.in_channels), (s.cols % machine.dim) as f64]);
            figures.extend([flag(s.emission == Emission::Commands), flag(s.double_buffer), s.keep as usize as f64]);
            figures.extend(s.order.map(|axis| axis as usize as f64));
        }
        _ => {}
    }
    let words = machine.scratchpad_rows as f64;
    figures.extend([machine.byte, machine.interval, machine.least_latency as f64, words.ln(), (1.0 + cycles).ln()]);
    figures
}
