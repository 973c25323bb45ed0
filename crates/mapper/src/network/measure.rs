//! Runs of the whole network, and what its operations cost in them.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use pollux_compiler::plan::Plan;
use pollux_compiler::{CompileError, Compiled, CycleSetup, time_cycles};
use pollux_sim::counts::EventCounts;
use serde::Serialize;

use super::choices::{Families, Stage, Trial};
use super::{Progress, Settings, Subject};
use crate::search::Objective;

/// What operations cost. Energy and bytes are 0 if the objective is cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Cycles.
    pub cycles: u64,
    /// Energy in pJ.
    pub energy_pj: f64,
    /// Bytes at the memory port.
    pub bytes: u64,
}

impl Cost {
    /// The objective's figure.
    pub fn value(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Cycles => self.cycles as f64,
            Objective::Energy => self.energy_pj,
            Objective::Edp => self.energy_pj * self.cycles as f64,
            Objective::Bytes => self.bytes as f64,
        }
    }

    /// What it is more than another.
    pub(super) fn over(&self, other: &Self) -> Extra {
        Extra {
            cycles: self.cycles as f64 - other.cycles as f64,
            energy_pj: self.energy_pj - other.energy_pj,
            bytes: self.bytes as f64 - other.bytes as f64,
        }
    }
}

/// A cost that may be below 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extra {
    pub cycles: f64,
    pub energy_pj: f64,
    pub bytes: f64,
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    names: Vec<String>,
    /// First cycle of each operation, and the last one's end.
    starts: Vec<u64>,
    /// Energy of each operation without what leaks, and bytes.
    counted: Vec<(f64, u64)>,
    /// pJ a cycle.
    leakage: f64,
}

impl Measured {
    /// Stages that all cost the same.
    #[cfg(test)]
    pub fn even(stages: &[Stage], cycles: u64, energy_pj: f64) -> Self {
        let starts = (0..=stages.len() as u64).map(|stage| stage * cycles).collect();
        let names = stages.iter().map(|stage| stage.name.clone()).collect();
        Self { names, starts, counted: vec![(energy_pj, 0); stages.len()], leakage: 0.0 }
    }

    /// Cycles of the run.
    pub fn cycles(&self) -> u64 {
        self.starts[self.names.len()] - self.starts[0]
    }

    /// Cost of the run.
    pub fn total(&self) -> Cost {
        self.cost(0..self.names.len())
    }

    fn cost(&self, operations: Range<usize>) -> Cost {
        let cycles = self.starts[operations.end] - self.starts[operations.start];
        let (energy, bytes) = self.counted[operations]
            .iter()
            .fold((0.0, 0), |(energy, bytes), counted| (energy + counted.0, bytes + counted.1));
        Cost { cycles, energy_pj: energy + self.leakage * cycles as f64, bytes }
    }

    /// Cost of some of the stages; nothing if the run does not have them. A structural choice has operations of its own before or behind
    /// the one that it is for.
    pub fn span(&self, stages: &[Stage], range: Range<usize>, structural: bool) -> Option<Cost> {
        let at = |stage: usize| self.names.iter().position(|name| *name == stages[stage].name);
        if !structural {
            return Some(self.cost(at(range.start)?..at(range.end - 1)? + 1));
        }
        let from = range.start.checked_sub(1).map_or(Some(0), |before| at(before).map(|at| at + 1))?;
        let to = if range.end < stages.len() { at(range.end)? } else { self.names.len() };
        (from < to).then(|| self.cost(from..to))
    }
}

/// Runs networks and prices what happens in them.
pub(super) struct Prices<'a> {
    settings: &'a Settings<'a>,
    setup: CycleSetup,
}

impl<'a> Prices<'a> {
    pub fn new(settings: &'a Settings<'a>) -> Self {
        let count = settings.objective != Objective::Cycles;
        // What is replayed is not counted.
        let replay = settings.setup.replay.filter(|_| !count);
        Self { settings, setup: CycleSetup { count, replay, ..settings.setup } }
    }

    pub fn objective(&self) -> Objective {
        self.settings.objective
    }

    /// Compiles and runs.
    pub fn run(&self, subject: &Subject<'_>, plan: &Plan) -> Result<(Compiled, Measured), CompileError> {
        let compiled = (subject.compile)(plan)?;
        let memory = compiled.program.initial_memory();
        let run = time_cycles(&compiled, memory, &self.setup, &mut |_| {})?;
        let mut starts: Vec<u64> = run.operations.iter().map(|operation| operation.start).collect();
        starts.push(starts.first().copied().unwrap_or(0) + run.cycles);
        let names: Vec<String> = compiled.operations.iter().map(|operation| operation.name.clone()).collect();
        let Settings { prices, clock_hz, .. } = self.settings;
        let counted = |counts: &EventCounts| {
            (prices.energy_pj(counts, 0, *clock_hz), counts.memory.read_bytes + counts.memory.written_bytes)
        };
        let counted = match &run.counts {
            Some(counts) => counts.iter().map(counted).collect(),
            None => vec![(0.0, 0); names.len()],
        };
        let leakage = if run.counts.is_some() { prices.energy_pj(&EventCounts::default(), 1, *clock_hz) } else { 0.0 };
        Ok((compiled, Measured { names, starts, counted, leakage }))
    }
}

/// The runs of all rounds, in their order, over the threads, each with the choices that turn out to be possible; none where none is.
pub(super) fn rounds(
    priced: &Prices<'_>,
    subject: &Subject<'_>,
    stages: &[Stage],
    families: &Families,
    rounds: &[Vec<Trial>],
    watch: &(dyn Fn(Progress) + Sync),
) -> Vec<Option<(Vec<Trial>, Measured)>> {
    let run = |round: &[Trial]| priced.run(subject, &families.plan(&subject.base, stages, round)).map(|(_, run)| run);
    // Some choices are refused only when they are compiled: those are left out.
    let run_possible = |round: &[Trial]| {
        if let Ok(run) = run(round) {
            return Some((round.to_vec(), run));
        }
        let possible = |trial: &&Trial| (subject.compile)(&families.plan(&subject.base, stages, &[**trial])).is_ok();
        let possible: Vec<Trial> = round.iter().filter(possible).copied().collect();
        if possible.is_empty() || possible.len() == round.len() {
            return None;
        }
        Some((possible.clone(), run(&possible).ok()?))
    };
    let over = AtomicUsize::new(0);
    let all = pollux_shards::each(rounds, priced.settings.threads, |round| {
        let run = run_possible(round);
        watch((over.fetch_add(1, Ordering::Relaxed) + 1, rounds.len()));
        Ok::<_, Infallible>(run)
    });
    all.unwrap_or_else(|never| match never {})
}
