//! The search for the best mapping.
//!
//! A search proposes mappings, in the order of what a model says of them; the emulator has the last word. It runs Gemmini's own
//! mapping first, then the proposals, round by round over the threads, as long as their bound is below the best result and the
//! budget lasts. A round has always as many runs, and the budget is counted in emulated cycles, so that the result depends on
//! neither threads nor machine.

mod evolution;
mod exhaustive;
mod finalists;
mod guided;
mod integer;
mod proposals;
mod record;

use std::fmt;

use pollux_energy::Prices;
use pollux_isa::ValidConfig;
use pollux_sim::counts::EventCounts;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::emulate::{EmulationError, Surroundings};
use crate::mapping::Mapping;
use crate::model::Costs;
use crate::problem::Problem;
use crate::space::{Limits, Mapspace};
pub use exhaustive::is_small;
use finalists::Finalists;
pub use finalists::{Progress, Step};
pub use record::{Record, RecordError};

/// What is to be small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Cycles.
    #[default]
    Cycles,
    /// Energy.
    Energy,
    /// Energy times cycles.
    Edp,
    /// Bytes at the memory port.
    Bytes,
}

/// How proposals are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// [`Method::Exhaustive`] if the space is small enough for it, otherwise [`Method::Evolutionary`].
    #[default]
    Auto,
    /// Every mapping; what is left out is left out because of its bound.
    Exhaustive,
    /// Mappings drawn uniformly.
    Random,
    /// Mutation and selection by the analytical model.
    Evolutionary,
    /// The analytical model and what the emulator has told of mappings nearby.
    Guided,
    /// An integer program in the logarithms of the factors, as CoSA makes it.
    Integer,
}

/// The searches that are ways of their own.
pub const METHODS: [Method; 5] =
    [Method::Exhaustive, Method::Random, Method::Evolutionary, Method::Guided, Method::Integer];

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What is to be small.
    pub objective: Objective,
    /// How proposals are found.
    pub method: Method,
    /// Part of the space.
    pub limits: Limits,
    /// Cycles that the emulator may run, Gemmini's own mapping apart.
    pub emulated_cycles: u64,
    /// Mappings that the analytical model prices at most, in searches that are not exhaustive.
    pub evaluations: usize,
    /// Of all that is drawn.
    pub seed: u64,
    /// Threads; the result does not depend on it.
    pub threads: usize,
    /// Prices of events, for energy.
    pub prices: &'a Prices,
    /// Clock in Hz, for leakage.
    pub clock_hz: f64,
}

/// A mapping and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The mapping.
    pub mapping: Mapping,
    /// Cycles by the analytical model.
    pub estimate: f64,
    /// Cycles that it needs at least.
    pub bound: u64,
    /// What the emulator says, unless it was stopped because others are better.
    pub result: Option<Measured>,
}

/// What the emulator says of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Cycles.
    pub cycles: u64,
    /// Energy in pJ.
    pub energy_pj: f64,
    /// What was counted.
    pub counts: EventCounts,
}

impl Measured {
    /// Energy times delay in J s.
    pub fn edp(&self, clock_hz: f64) -> f64 {
        self.energy_pj * 1e-12 * self.cycles as f64 / clock_hz
    }

    /// Bytes at the memory port.
    pub fn bytes(&self) -> u64 {
        self.counts.memory.read_bytes + self.counts.memory.written_bytes
    }

    /// The objective's figure.
    pub fn value(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Cycles => self.cycles as f64,
            Objective::Energy => self.energy_pj,
            Objective::Edp => self.energy_pj * self.cycles as f64,
            Objective::Bytes => self.bytes() as f64,
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best mapping.
    pub best: Candidate,
    /// Gemmini's own, in the same surroundings.
    pub gemmini: Candidate,
    /// Cycles that no mapping looked at can do without: of the whole part of the space if the search was exhaustive.
    pub lower_bound: u64,
    /// Mappings that were priced.
    pub evaluated: u64,
    /// Mappings that ran on the emulator.
    pub simulated: u64,
    /// Whether no mapping of the part of the space that was looked at is better.
    pub proved_optimal: bool,
    /// Everything that ran, in order.
    pub candidates: Vec<Candidate>,
    /// How proposals were found.
    pub method: Method,
}

/// Why a search has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SearchError {
    /// Gemmini's own mapping does not run, and nothing else was found.
    #[error("no mapping of {0} fits this build: {1}")]
    Empty(String, String),
    /// Too much for an exhaustive search.
    #[error("the space has more than {limit} mappings: choose divisors only, one emission, or another search")]
    TooLarge {
        /// Most mappings.
        limit: u64,
    },
    /// A run that failed.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
}

/// What all parts of a search share.
pub(crate) struct Search<'a> {
    pub space: Mapspace,
    pub costs: Costs,
    pub around: &'a Surroundings,
    pub settings: &'a Settings<'a>,
}

/// A proposal: a mapping and the model's figure for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub mapping: Mapping,
    /// Of the objective.
    pub value: f64,
    /// Of the objective, at least.
    pub least: f64,
}

impl Search<'_> {
    /// The objective's figure by the analytical model, and at least.
    pub fn propose(&self, mapping: Mapping) -> Proposal {
        let (cycles, bound) = (self.costs.cycles(&mapping), self.costs.bound(&mapping));
        let [value, least] = self.values(&mapping, [cycles, bound as f64]);
        Proposal { mapping, value, least }
    }

    /// The objective's figure of a mapping that takes so many cycles, and that of one that takes at least so many.
    pub fn values(&self, mapping: &Mapping, cycles: [f64; 2]) -> [f64; 2] {
        let counts = || [self.costs.least_counts(mapping), self.costs.sure_counts(mapping)];
        let energy = || {
            let Settings { prices, clock_hz, .. } = self.settings;
            let counts = counts();
            [0, 1].map(|which: usize| prices.energy_pj(&counts[which], cycles[which] as u64, *clock_hz))
        };
        match self.settings.objective {
            Objective::Cycles => cycles,
            Objective::Energy => energy(),
            Objective::Edp => {
                let energy = energy();
                [energy[0] * cycles[0], energy[1] * cycles[1]]
            }
            Objective::Bytes => counts().map(|counts| (counts.memory.read_bytes + counts.memory.written_bytes) as f64),
        }
    }
}

/// The best mappings by the analytical model, best first, at most one for each tile and `count` in all. Those for which `wanted` says no
/// are left out.
pub fn ranked(
    config: &ValidConfig,
    problem: &Problem,
    around: &Surroundings,
    settings: &Settings<'_>,
    count: usize,
    mut wanted: impl FnMut(&Mapping) -> bool,
) -> Vec<Mapping> {
    let space = Mapspace::new(config, problem, &settings.limits);
    let search = Search { space, costs: Costs::new(config, problem, around), around, settings };
    let gemmini = Mapping::gemmini(config, problem);
    let whole = is_small(&search.space).then(|| exhaustive::proposals(&search, f64::INFINITY, PROPOSALS));
    let proposals = match whole {
        Some(Ok(all)) => all.proposals,
        _ => evolution::proposals(&search, &gemmini),
    };
    let mut tiles: Vec<Vec<usize>> = Vec::new();
    let mut best = Vec::new();
    for proposal in proposals {
        let tile = crate::space::tile_of(&proposal.mapping);
        if best.len() < count && !tiles.contains(&tile) && wanted(&proposal.mapping) {
            tiles.push(tile);
            best.push(proposal.mapping);
        }
    }
    best
}

/// Proposals that are kept at most, the best.
const PROPOSALS: usize = 4096;

/// Searches. `watch` is told of the steps.
///
/// # Errors
/// No mapping fits, the space is too large for an exhaustive search, or a run fails.
pub fn search(
    config: &ValidConfig,
    problem: &Problem,
    around: &Surroundings,
    settings: &Settings<'_>,
    watch: &mut dyn FnMut(Step),
) -> Result<Found, SearchError> {
    search_with(config, problem, around, settings, &mut Record::default(), watch)
}

/// The same with what is known of earlier runs: the result is that of a search without it, sooner.
///
/// # Errors
/// As [`search`].
pub fn search_with(
    config: &ValidConfig,
    problem: &Problem,
    around: &Surroundings,
    settings: &Settings<'_>,
    record: &mut Record<'_>,
    watch: &mut dyn FnMut(Step),
) -> Result<Found, SearchError> {
    let space = Mapspace::new(config, problem, &settings.limits);
    if space.forms().is_empty() {
        let own = Mapping::gemmini(config, problem).check(config, problem).err().map(|error| error.to_string());
        let part = "nothing in this part of the space can be built: choose another emission, dataflow or configuration";
        let why = own.unwrap_or_else(|| part.to_owned());
        return Err(SearchError::Empty(problem.to_string(), why));
    }
    let search = Search { space, costs: Costs::new(config, problem, around), around, settings };
    let gemmini = Mapping::gemmini(config, problem);
    let mut finalists = Finalists::new(&search, gemmini, record, watch)?;
    let method = match settings.method {
        Method::Auto if is_small(&search.space) => Method::Exhaustive,
        Method::Auto => Method::Evolutionary,
        method => method,
    };
    let proved = match method {
        Method::Exhaustive | Method::Auto => {
            let all = exhaustive::proposals(&search, finalists.best_value(), PROPOSALS)?;
            finalists.evaluated(all.evaluated, all.least_cycles);
            let done = finalists.run(&all.proposals)?;
            done && all.left_out >= finalists.best_value()
        }
        Method::Random => {
            let proposals = proposals::random(&search);
            finalists.run_proposals(&proposals)?
        }
        Method::Evolutionary => {
            let proposals = evolution::proposals(&search, &gemmini);
            finalists.run_proposals(&proposals)?
        }
        Method::Integer => {
            let proposals = integer::proposals(&search);
            finalists.run_proposals(&proposals)?
        }
        Method::Guided => guided::run(&search, &mut finalists)?,
    };
    let proved = proved && method == Method::Exhaustive;
    finalists.found(proved, method)
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cycles => "cycles",
            Self::Energy => "energy",
            Self::Edp => "edp",
            Self::Bytes => "bytes",
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Exhaustive => "exhaustive",
            Self::Random => "random",
            Self::Evolutionary => "evolutionary",
            Self::Guided => "guided",
            Self::Integer => "integer",
        })
    }
}

/// Those that no other is better than in cycles and in energy, by cycles.
pub fn pareto(candidates: &[Candidate]) -> Vec<(Mapping, Measured)> {
    let mut all: Vec<_> = candidates.iter().filter_map(|c| c.result.map(|result| (c.mapping, result))).collect();
    all.sort_by(|(_, a), (_, b)| a.cycles.cmp(&b.cycles).then(a.energy_pj.total_cmp(&b.energy_pj)));
    let mut front: Vec<(Mapping, Measured)> = Vec::new();
    for (mapping, result) in all {
        if front.last().is_none_or(|(_, last)| result.energy_pj < last.energy_pj) {
            front.push((mapping, result));
        }
    }
    front
}
