//! Performance models, side by side.

mod analytical;
pub mod bound;
pub mod classic;
pub mod conv;
pub mod machine;
pub mod product;
pub mod residual;
mod tile;

pub use conv::ConvCosts;
pub use machine::Machine;
pub use product::ProductCosts;

use pollux_isa::ValidConfig;
use pollux_sim::counts::EventCounts;
use serde::Serialize;

use crate::emulate::Surroundings;
use crate::mapping::Mapping;
use crate::problem::{MatmulProblem, Problem, ReadOut};

/// A model of cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// [`classic::roofline`].
    Roofline,
    /// [`classic::timeloop`].
    Timeloop,
    /// The refined analytical model: [`Costs::cycles`].
    Analytical,
    /// The same and what is learned of its errors: [`residual::Residual`].
    Learned,
}

impl Model {
    /// Those that need no training.
    pub const ALL: [Self; 3] = [Self::Roofline, Self::Timeloop, Self::Analytical];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Roofline => "roofline",
            Self::Timeloop => "Timeloop-like",
            Self::Analytical => "analytical",
            Self::Learned => "learned",
        }
    }
}

/// Prices the mappings of one problem on one build.
#[derive(Clone, Debug)]
pub struct Costs {
    machine: Machine,
    problem: Problem,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Product(Box<ProductCosts>),
    Conv(Box<ConvCosts>),
}

impl Costs {
    /// Works out what does not depend on the mapping.
    pub fn new(config: &ValidConfig, problem: &Problem, around: &Surroundings) -> Self {
        let machine = Machine::new(config, around);
        let kind = match problem {
            Problem::Matmul(matmul) => Kind::Product(Box::new(ProductCosts::new(config, &machine, matmul))),
            Problem::Conv(conv) => Kind::Conv(Box::new(ConvCosts::new(config, &machine, conv))),
        };
        Self { machine, problem: *problem, kind }
    }

    /// The figures of the build.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Cycles by the refined analytical model. The mapping must be legal.
    pub fn cycles(&self, mapping: &Mapping) -> f64 {
        match (&self.kind, mapping) {
            (Kind::Product(costs), Mapping::Matmul(schedule)) => costs.cycles(schedule),
            (Kind::Conv(costs), Mapping::Conv(schedule)) => costs.cycles(schedule),
            _ => f64::INFINITY,
        }
    }

    /// Cycles by a model.
    pub fn by(&self, model: Model, mapping: &Mapping) -> f64 {
        match model {
            Model::Roofline => {
                let memory = self.least_counts(mapping).memory;
                classic::roofline(&self.machine, &self.problem, memory.read_bytes + memory.written_bytes)
            }
            Model::Timeloop => classic::timeloop(&self.machine, &self.problem, mapping),
            // What is learned is in a model of its own.
            Model::Analytical | Model::Learned => self.cycles(mapping),
        }
    }

    /// Work of a mapping, at least. The mapping must be legal.
    pub fn work(&self, mapping: &Mapping) -> bound::Work {
        match (&self.kind, mapping) {
            (Kind::Product(costs), Mapping::Matmul(schedule)) => costs.work(schedule),
            (Kind::Conv(costs), Mapping::Conv(schedule)) => costs.work(schedule),
            _ => bound::Work::default(),
        }
    }

    /// Events of a mapping, at least: exact for a product but for the passes of the array, which depend on time.
    pub fn least_counts(&self, mapping: &Mapping) -> EventCounts {
        match (&self.kind, mapping) {
            (Kind::Product(costs), Mapping::Matmul(schedule)) => costs.plain_counts(schedule).least,
            (Kind::Conv(costs), Mapping::Conv(schedule)) => costs.least_counts(schedule, self.problem.macs()),
            _ => EventCounts::default(),
        }
    }

    /// Events that happen in every run of the mapping for certain: what the energy and the bytes of a bound are reckoned from. Those of a
    /// product that does not normalize are exact; of others only what has to be loaded and stored whatever the tiles.
    pub fn sure_counts(&self, mapping: &Mapping) -> EventCounts {
        let mut counts = EventCounts::default();
        match &self.problem {
            Problem::Matmul(matmul) if matmul.read_out != ReadOut::LayerNorm => return self.least_counts(mapping),
            Problem::Matmul(MatmulProblem { m, n, k, .. }) => {
                counts.memory.read_bytes = (m * k + k * n) as u64;
                counts.memory.written_bytes = (m * n) as u64;
            }
            // Each weight is loaded; a pixel need not be, if the kernel steps over it.
            Problem::Conv(conv) => {
                let [_, weights, output] = conv.shape.views().map(|(rows, cols)| (rows * cols) as u64);
                counts.memory.read_bytes = weights;
                counts.memory.written_bytes = output;
            }
        }
        counts
    }

    /// Cycles that no run of the mapping can do without.
    pub fn bound(&self, mapping: &Mapping) -> u64 {
        self.work(mapping).bound(&self.machine)
    }

    /// The problem.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}
