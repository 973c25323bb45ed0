//! The last stage of every search: runs on the emulator.

use std::collections::HashSet;
use std::convert::Infallible;

use pollux_shards::Shards;

use super::record::{Answer, Record};
use super::{Candidate, Found, Measured, Method, Proposal, Search, SearchError};
use crate::emulate::{EmulationError, Emulator};
use crate::mapping::Mapping;

/// Runs of a round, whatever the threads.
pub(crate) const ROUND: usize = 8;
/// Emulated cycles between two messages.
type Cycles = u64;

/// How far a search is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Emulated cycles.
    pub cycles: Cycles,
    /// Of so many.
    pub budget: Cycles,
    /// Runs.
    pub simulated: u64,
    /// Cycles of the best mapping.
    pub best: Cycles,
}

/// What a search tells while it goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A round of runs is over.
    Round(Progress),
}

/// The runs so far.
pub(crate) struct Finalists<'s, 'a, 'w, 'r> {
    search: &'s Search<'a>,
    /// One for each thread.
    emulators: Vec<Emulator<'s>>,
    gemmini: Candidate,
    best: Option<Candidate>,
    candidates: Vec<Candidate>,
    seen: HashSet<Mapping>,
    emulated: Cycles,
    simulated: u64,
    evaluated: u64,
    least_cycles: u64,
    record: &'w mut Record<'r>,
    watch: &'w mut dyn FnMut(Step),
    why_not: Option<String>,
}

/// What became of a run.
enum Run {
    Measured(Box<Measured>),
    /// Stopped at its limit.
    Stopped(Cycles),
    /// It cannot be emitted.
    Refused(String),
}

impl<'s, 'a, 'w, 'r> Finalists<'s, 'a, 'w, 'r> {
    /// Runs Gemmini's own mapping.
    pub fn new(
        search: &'s Search<'a>,
        gemmini: Mapping,
        record: &'w mut Record<'r>,
        watch: &'w mut dyn FnMut(Step),
    ) -> Result<Self, SearchError> {
        let mut this = Self {
            search,
            emulators: Emulator::several(search.space.config(), search.around, search.settings.threads.min(ROUND)),
            gemmini: Candidate { mapping: gemmini, estimate: f64::INFINITY, bound: 0, result: None },
            best: None,
            candidates: Vec::new(),
            seen: HashSet::new(),
            emulated: 0,
            simulated: 0,
            evaluated: 0,
            least_cycles: u64::MAX,
            record,
            watch,
            why_not: None,
        };
        match gemmini.check(search.space.config(), search.space.problem()) {
            Err(error) => this.why_not = Some(error.to_string()),
            Ok(()) => match this.answers(&[gemmini], Cycles::MAX)?.swap_remove(0) {
                Run::Measured(result) => {
                    let candidate = this.candidate(gemmini, Some(*result));
                    this.gemmini = candidate;
                    this.best = Some(candidate);
                    this.candidates.push(candidate);
                    this.simulated = 1;
                }
                Run::Refused(why) => this.why_not = Some(why),
                Run::Stopped(_) => {}
            },
        }
        this.seen.insert(search.space.canonical(&gemmini));
        Ok(this)
    }

    fn candidate(&self, mapping: Mapping, result: Option<Measured>) -> Candidate {
        let costs = &self.search.costs;
        Candidate { mapping, estimate: costs.cycles(&mapping), bound: costs.bound(&mapping), result }
    }

    /// The objective's figure of the best mapping so far.
    pub fn best_value(&self) -> f64 {
        let objective = self.search.settings.objective;
        self.best.and_then(|best| best.result).map_or(f64::INFINITY, |result| result.value(objective))
    }

    /// Notes that so many mappings have been priced, none of which needs fewer cycles.
    pub fn evaluated(&mut self, mappings: u64, least_cycles: u64) {
        self.evaluated += mappings;
        self.least_cycles = self.least_cycles.min(least_cycles);
    }

    /// Everything that ran.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether the budget is spent.
    pub fn is_over(&self) -> bool {
        self.emulated >= self.search.settings.emulated_cycles
    }

    /// Whether a mapping has been run already; from now on it has.
    pub fn is_new(&mut self, mapping: &Mapping) -> bool {
        self.seen.insert(self.search.space.canonical(mapping))
    }

    /// The same for all proposals that were priced.
    pub fn run_proposals(&mut self, proposals: &[Proposal]) -> Result<bool, SearchError> {
        let least = proposals.iter().map(|p| self.search.costs.bound(&p.mapping)).min().unwrap_or(u64::MAX);
        self.evaluated(proposals.len() as u64, least);
        self.run(proposals)
    }

    /// Runs proposals in their order, as long as they may be better than the best. Whether all have been run or cannot be better.
    pub fn run(&mut self, proposals: &[Proposal]) -> Result<bool, SearchError> {
        let mut left = proposals.iter();
        loop {
            let mut round = Vec::new();
            while round.len() < ROUND {
                let Some(proposal) = left.next() else { break };
                if proposal.least < self.best_value() && self.is_new(&proposal.mapping) {
                    round.push(proposal.mapping);
                }
            }
            if round.is_empty() {
                return Ok(true);
            }
            if self.is_over() {
                return Ok(false);
            }
            self.round(&round)?;
        }
    }

    /// Runs these mappings, side by side.
    pub fn round(&mut self, mappings: &[Mapping]) -> Result<(), SearchError> {
        let limit = self.limit();
        let runs = self.answers(mappings, limit)?;
        for (mapping, run) in mappings.iter().zip(runs) {
            let result = match run {
                Run::Measured(result) => Some(*result),
                Run::Stopped(cycles) => {
                    self.emulated += cycles;
                    None
                }
                Run::Refused(_) => continue,
            };
            self.simulated += 1;
            self.emulated += result.map_or(0, |result| result.cycles);
            let candidate = self.candidate(*mapping, result);
            self.candidates.push(candidate);
            let objective = self.search.settings.objective;
            if result.is_some_and(|result| result.value(objective) < self.best_value()) {
                self.best = Some(candidate);
            }
        }
        let best = self.best.and_then(|best| best.result).map_or(0, |result| result.cycles);
        let Self { emulated: cycles, simulated, .. } = *self;
        let budget = self.search.settings.emulated_cycles;
        (self.watch)(Step::Round(Progress { cycles, budget, simulated, best }));
        Ok(())
    }

    /// What the emulator says of these mappings; what is known is not run.
    fn answers(&mut self, mappings: &[Mapping], limit: Cycles) -> Result<Vec<Run>, SearchError> {
        let unknown: Vec<Mapping> =
            mappings.iter().filter(|mapping| self.record.answer(mapping, limit).is_none()).copied().collect();
        let search = self.search;
        let answers = pollux_shards::run(&Shards::single(unknown.len()), &mut self.emulators, |emulator, at| {
            Ok::<_, Infallible>(run(emulator, search, &unknown[at], limit))
        });
        for (mapping, answer) in unknown.iter().zip(answers.unwrap_or_else(|never| match never {})) {
            self.record.note(mapping, &answer?);
        }
        let run = |mapping: &Mapping| match self.record.answer(mapping, limit) {
            Some(Answer::Measured { cycles, counts }) => {
                let settings = self.search.settings;
                let energy_pj = settings.prices.energy_pj(&counts, cycles, settings.clock_hz);
                Run::Measured(Box::new(Measured { cycles, energy_pj, counts: *counts }))
            }
            Some(Answer::Refused { why }) => Run::Refused(why),
            Some(Answer::Stopped { .. }) | None => Run::Stopped(limit),
        };
        Ok(mappings.iter().map(run).collect())
    }

    /// Cycles at which a run is stopped: it cannot be the best any more. Other objectives than cycles may take a few times as long.
    fn limit(&self) -> Cycles {
        let best = self.best.and_then(|best| best.result).map_or(Cycles::MAX, |result| result.cycles);
        match self.search.settings.objective {
            super::Objective::Cycles => best,
            _ => best.saturating_mul(4),
        }
    }

    /// The result.
    pub fn found(self, proved: bool, method: Method) -> Result<Found, SearchError> {
        let nothing = || {
            let why = self.why_not.clone().unwrap_or_else(|| "nothing was found in this part of the space".to_owned());
            SearchError::Empty(self.search.space.problem().to_string(), why)
        };
        let best = self.best.ok_or_else(nothing)?;
        let lower_bound = self.least_cycles.min(self.gemmini.bound.max(1)).min(best.bound);
        Ok(Found {
            best,
            gemmini: self.gemmini,
            lower_bound,
            evaluated: self.evaluated + 1,
            simulated: self.simulated,
            proved_optimal: proved,
            candidates: self.candidates,
            method,
        })
    }
}

fn run(
    emulator: &mut Emulator<'_>,
    search: &Search<'_>,
    mapping: &Mapping,
    limit: Cycles,
) -> Result<Answer, SearchError> {
    match emulator.counted(search.space.problem(), mapping, limit) {
        Ok((cycles, counts)) => Ok(Answer::Measured { cycles, counts: Box::new(counts) }),
        Err(error) if error.is_limit() => Ok(Answer::Stopped { cycles: limit }),
        Err(EmulationError::Kernel(error)) => Ok(Answer::Refused { why: error.to_string() }),
        Err(error) => Err(error.into()),
    }
}
