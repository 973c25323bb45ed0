//! What may be chosen for each operation, and in which runs it is measured.

use std::collections::BTreeMap;

use pollux_compiler::operation::{Compiled, Operation, ScheduledConv, ScheduledMatmul};
use pollux_compiler::plan::{OperationPlan, Placement, Plan, part};
use pollux_isa::ValidConfig;
use pollux_kernels::{ConvSchedule, ConvShape, Emission, Keep, MatmulShape, Normalization, Schedule, View};
use serde::Serialize;

use super::Settings;
use super::measure::{Extra, Measured};
use super::path::Covered;
use crate::emulate::Surroundings;
use crate::mapping::Mapping;
use crate::problem::{ConvProblem, MatmulProblem, Problem, ReadOut};
use crate::search::{self, Method};
use crate::space::Limits;

/// A choice for an operation, or for products that are done together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// A schedule of its products.
    Schedule(Schedule),
    /// Tiles of its convolution.
    Convolution(ConvSchedule),
    /// Rows are normalized by the host.
    Host,
    /// Pooling is an operation of its own.
    SeparatePooling,
}

impl Choice {
    /// Whether it makes other operations than there are by default.
    pub fn is_structural(&self) -> bool {
        matches!(self, Self::Host | Self::SeparatePooling)
    }

    fn enter(&self, plan: &mut OperationPlan) {
        match self {
            Self::Schedule(schedule) => plan.schedule = Some(*schedule),
            Self::Convolution(schedule) => plan.convolution = Some(*schedule),
            Self::Host => plan.normalization = Some(Placement::Host),
            Self::SeparatePooling => plan.separate_pooling = Some(true),
        }
    }
}

/// An operation of the network by default.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stage {
    pub name: String,
    matmuls: Vec<ScheduledMatmul>,
    convolutions: Vec<ScheduledConv>,
    shares: Option<View>,
    normalizes: bool,
    pools: bool,
}

impl Stage {
    pub fn new(operation: &Operation) -> Self {
        Self {
            name: operation.name.clone(),
            matmuls: operation.matmuls.clone(),
            convolutions: operation.convolutions.clone(),
            shares: operation.shares,
            normalizes: operation.normalizes && operation.host.is_none(),
            pools: operation.pools,
        }
    }

    /// One without choices of its own.
    #[cfg(test)]
    pub fn named(name: &str) -> Self {
        let (matmuls, convolutions) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), matmuls, convolutions, shares: None, normalizes: false, pools: false }
    }

    /// Whether the same choices cost the same.
    fn is_like(&self, other: &Self) -> bool {
        part(&self.name) == part(&other.name)
            && self.matmuls == other.matmuls
            && self.convolutions == other.convolutions
            && self.shares.is_some() == other.shares.is_some()
            && (self.normalizes, self.pools) == (other.normalizes, other.pools)
    }
}

/// Stages, or runs of stages, that are alike, and their choices.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// First stage of each.
    pub members: Vec<usize>,
    /// Stages of each.
    pub len: usize,
    pub candidates: Vec<Candidate>,
}

#[cfg(test)]
impl Family {
    /// Two different choices that have run.
    pub fn measured(first: usize, len: usize, extras: &[Extra; 2]) -> Self {
        let candidate = |choice, extra: &Extra| Candidate { extra: Some(*extra), ..Candidate::new(choice) };
        let choices = [Choice::Host, Choice::SeparatePooling];
        let candidates = choices.into_iter().zip(extras).map(|(choice, extra)| candidate(choice, extra)).collect();
        Self { members: vec![first], len, candidates }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub choice: Choice,
    /// What it costs more than the default, if it ran.
    pub extra: Option<Extra>,
    /// It is in a run.
    planned: bool,
}

impl Candidate {
    fn new(choice: Choice) -> Self {
        Self { choice, extra: None, planned: false }
    }
}

/// A choice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub family: usize,
    pub candidate: usize,
    /// First stage.
    pub stage: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Families(pub Vec<Family>);

impl Families {
    pub fn new(compiled: &Compiled, stages: &[Stage], settings: &Settings<'_>) -> Self {
        let mut families: Vec<Family> = Vec::new();
        for (index, stage) in stages.iter().enumerate() {
            match families.iter_mut().find(|family| stages[family.members[0]].is_like(stage)) {
                Some(family) => family.members.push(index),
                None => families.push(Family { members: vec![index], len: 1, candidates: Vec::new() }),
            }
        }
        for family in &mut families {
            family.candidates = candidates(compiled, &stages[family.members[0]], settings);
        }
        families.extend(intervals(compiled, stages, settings));
        families.retain(|family| !family.candidates.is_empty());
        Self(families)
    }

    /// The runs: each stage has at most one choice in each. The best candidates by the model come first; runs that prefer single stages
    /// and runs that prefer several together take turns.
    pub fn rounds(&mut self, stages: &[Stage], most: usize) -> Vec<Vec<Trial>> {
        let mut rounds = Vec::new();
        while rounds.len() < most {
            let mut free = vec![true; stages.len()];
            let mut structural = vec![false; stages.len() + 1];
            let mut round = Vec::new();
            let mut order: Vec<usize> = (0..self.0.len()).collect();
            let several = rounds.len() % 2 == 1;
            order.sort_by_key(|family| (self.0[*family].len > 1) != several);
            for index in order {
                let family = &mut self.0[index];
                let mut members = family.members.iter().copied();
                'candidates: for (number, candidate) in family.candidates.iter_mut().enumerate() {
                    if candidate.planned {
                        continue;
                    }
                    let is_structural = candidate.choice.is_structural();
                    for stage in members.by_ref() {
                        let range = stage..stage + family.len;
                        let beside = stage > 0 && structural[stage - 1] || structural[range.end];
                        if range.clone().any(|at| !free[at]) || is_structural && beside {
                            continue;
                        }
                        range.for_each(|at| free[at] = false);
                        structural[stage] = is_structural;
                        candidate.planned = true;
                        round.push(Trial { family: index, candidate: number, stage });
                        continue 'candidates;
                    }
                    break;
                }
            }
            if round.is_empty() {
                break;
            }
            rounds.push(round);
        }
        rounds
    }

    /// Notes what a run says of its choices.
    pub fn note(&mut self, round: &[Trial], stages: &[Stage], run: &Measured, default: &Measured) {
        for trial in round {
            let family = &mut self.0[trial.family];
            let range = trial.stage..trial.stage + family.len;
            let candidate = &mut family.candidates[trial.candidate];
            let cost = run.span(stages, range.clone(), candidate.choice.is_structural());
            candidate.extra = cost.zip(default.span(stages, range, false)).map(|(cost, default)| cost.over(&default));
        }
    }

    /// Candidates that are in no run.
    pub fn not_run(&self) -> usize {
        self.0.iter().flat_map(|family| &family.candidates).filter(|candidate| !candidate.planned).count()
    }

    /// Choices of a stage that ran, those together with others among them.
    pub fn tried(&self, stage: usize) -> usize {
        let covers =
            |family: &&Family| family.members.iter().any(|first| (*first..first + family.len).contains(&stage));
        let ran = |family: &Family| family.candidates.iter().filter(|candidate| candidate.extra.is_some()).count();
        self.0.iter().filter(covers).map(ran).sum()
    }

    /// The plan of a run.
    pub fn plan(&self, base: &Plan, stages: &[Stage], round: &[Trial]) -> Plan {
        let mut plan = base.clone();
        for trial in round {
            let family = &self.0[trial.family];
            let names: Vec<String> =
                stages[trial.stage..trial.stage + family.len].iter().map(|stage| stage.name.clone()).collect();
            for name in &names {
                family.candidates[trial.candidate].choice.enter(plan.operations.entry(name.clone()).or_default());
            }
            if names.len() > 1 {
                plan.together.push(names);
            }
        }
        plan
    }
}

/// The plan of these choices, by the parts' names where all operations of a part have the same.
pub(super) fn plan(base: &Plan, stages: &[Stage], chosen: &[Covered]) -> Plan {
    let mut plan = base.clone();
    let mut of_part: BTreeMap<&str, Vec<(usize, Option<&Choice>)>> = BTreeMap::new();
    for covered in chosen {
        for stage in covered.range() {
            of_part.entry(part(&stages[stage].name)).or_default().push((stage, covered.choice.as_ref()));
        }
    }
    for (part, choices) in &of_part {
        let same = choices.iter().all(|(_, choice)| *choice == choices[0].1);
        for (stage, choice) in choices {
            let name = if same { part } else { stages[*stage].name.as_str() };
            if let Some(choice) = choice {
                choice.enter(plan.operations.entry(name.to_owned()).or_default());
            }
        }
    }
    let groups: Vec<Vec<&str>> = chosen
        .iter()
        .filter(|covered| covered.len > 1)
        .map(|covered| covered.range().map(|stage| stages[stage].name.as_str()).collect())
        .collect();
    for names in &groups {
        let parts: Vec<&str> = names.iter().map(|name| part(name)).collect();
        let everywhere =
            |name: &&str| of_part[name].len() == groups.iter().filter(|g| g.iter().any(|n| part(n) == *name)).count();
        let alike = groups.iter().all(|other| {
            let others: Vec<&str> = other.iter().map(|name| part(name)).collect();
            others == parts || others.iter().all(|name| !parts.contains(name))
        });
        let short = alike && parts.iter().all(everywhere);
        let group: Vec<String> = (if short { &parts } else { names }).iter().map(|&name| name.to_owned()).collect();
        if !plan.together.contains(&group) {
            plan.together.push(group);
        }
    }
    plan
}

/// Choices for a stage by itself.
fn candidates(compiled: &Compiled, stage: &Stage, settings: &Settings<'_>) -> Vec<Candidate> {
    let mut choices: Vec<Choice> = Vec::new();
    if stage.normalizes {
        choices.push(Choice::Host);
    }
    if stage.pools {
        choices.push(Choice::SeparatePooling);
    }
    if let Some(first) = stage.matmuls.first() {
        let shapes: Vec<MatmulShape> = stage.matmuls.iter().map(|matmul| matmul.shape).collect();
        // Not every kind of network can have a pass over the sums: such choices are some among others.
        for (normalization, most) in
            [(Normalization::Fused, settings.candidates), (Normalization::Separate, settings.candidates.div_ceil(4))]
        {
            let wanted = |schedule: &Schedule| schedule.normalization == normalization;
            let found = products(compiled, &shapes, &first.schedule, settings, wanted);
            let new = found.into_iter().filter(|schedule| *schedule != first.schedule);
            choices.extend(new.take(most).map(Choice::Schedule));
        }
    }
    if let Some(first) = stage.convolutions.first() {
        let shapes: Vec<ConvShape> = stage.convolutions.iter().map(|conv| conv.shape).collect();
        let found = convolutions(compiled, &shapes, &first.schedule, settings);
        let new = found.into_iter().filter(|schedule| *schedule != first.schedule);
        choices.extend(new.take(settings.candidates).map(Choice::Convolution));
    }
    choices.into_iter().map(Candidate::new).collect()
}

/// Runs of stages that may be done together, of two and more.
fn intervals(compiled: &Compiled, stages: &[Stage], settings: &Settings<'_>) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let alike = |a: &Stage, b: &Stage| {
        a.shares.is_some() && a.shares == b.shares && a.matmuls == b.matmuls && a.matmuls.len() == 1
    };
    for first in 0..stages.len() {
        let run = stages[first..].iter().take_while(|stage| alike(&stages[first], stage)).count();
        for len in 2..=run {
            let same = |family: &&mut Family| {
                let other = family.members[0];
                family.len == len && (0..len).all(|at| stages[first + at].is_like(&stages[other + at]))
            };
            match families.iter_mut().find(same) {
                Some(family) => family.members.push(first),
                None => families.push(Family { members: vec![first], len, candidates: Vec::new() }),
            }
        }
    }
    for family in &mut families {
        let ScheduledMatmul { shape, schedule } = stages[family.members[0]].matmuls[0];
        let wanted = |schedule: &Schedule| schedule.emission == Emission::Unroller;
        let found = products(compiled, &[shape], &schedule, settings, wanted);
        let kept = found.into_iter().map(|schedule| Choice::Schedule(Schedule { keep: Keep::Recent, ..schedule }));
        family.candidates = kept.take(settings.candidates.div_ceil(2)).map(Candidate::new).collect();
    }
    families
}

/// The best schedules by the model for the first of the shapes, of those that are legal for all, in the default's dataflow.
fn products(
    compiled: &Compiled,
    shapes: &[MatmulShape],
    default: &Schedule,
    settings: &Settings<'_>,
    wanted: impl Fn(&Schedule) -> bool,
) -> Vec<Schedule> {
    let config = &compiled.program.config;
    let Some(MatmulShape { i, j, k, whole_rows, .. }) = shapes.first().copied() else { return Vec::new() };
    let read_out = if whole_rows { ReadOut::LayerNorm } else { ReadOut::Plain };
    let problem = Problem::Matmul(MatmulProblem { m: i, n: j, k, bias: true, read_out });
    let limits = Limits { dataflow: Some(default.dataflow), ..Limits::default() };
    let legal = |mapping: &Mapping| match mapping {
        Mapping::Matmul(schedule) => wanted(schedule) && shapes.iter().all(|shape| is_legal(config, schedule, shape)),
        Mapping::Conv(_) => false,
    };
    let found = ranked(compiled, &problem, limits, settings, legal);
    let schedule = |mapping| if let Mapping::Matmul(schedule) = mapping { Some(schedule) } else { None };
    found.into_iter().filter_map(schedule).collect()
}

/// A separate pass normalizes the product's int32 sums.
fn is_legal(config: &ValidConfig, schedule: &Schedule, shape: &MatmulShape) -> bool {
    let separate = schedule.normalization == Normalization::Separate;
    let shape = if separate { MatmulShape { whole_rows: false, full_c: true, ..*shape } } else { *shape };
    schedule.check(config, &shape).is_ok()
}

/// The same for convolutions; those of a list may be bound to single commands.
fn convolutions(
    compiled: &Compiled,
    shapes: &[ConvShape],
    default: &ConvSchedule,
    settings: &Settings<'_>,
) -> Vec<ConvSchedule> {
    let config = &compiled.program.config;
    let Some(&shape) = shapes.first() else { return Vec::new() };
    let problem = Problem::Conv(ConvProblem { shape, bias: true });
    let emission = (default.emission == Emission::Commands).then_some(Emission::Commands);
    let legal = |mapping: &Mapping| match mapping {
        // Some tiles are refused only when they are emitted.
        Mapping::Conv(schedule) => {
            shapes.iter().all(|shape| schedule.check(config, shape).is_ok())
                && mapping.program(config, &problem).is_ok()
        }
        Mapping::Matmul(_) => false,
    };
    let found = ranked(compiled, &problem, Limits { emission, ..Limits::default() }, settings, legal);
    let schedule = |mapping| if let Mapping::Conv(schedule) = mapping { Some(schedule) } else { None };
    found.into_iter().filter_map(schedule).collect()
}

fn ranked(
    compiled: &Compiled,
    problem: &Problem,
    limits: Limits,
    settings: &Settings<'_>,
    wanted: impl FnMut(&Mapping) -> bool,
) -> Vec<Mapping> {
    let around = Surroundings { memory: settings.setup.memory, interval: settings.setup.interval.max(1) };
    let search = search::Settings {
        objective: settings.objective,
        method: Method::Auto,
        limits,
        emulated_cycles: 0,
        evaluations: settings.evaluations,
        seed: settings.seed,
        threads: settings.threads,
        prices: settings.prices,
        clock_hz: settings.clock_hz,
    };
    // One more than is wanted: the default may be among them.
    search::ranked(&compiled.program.config, problem, &around, &search, settings.candidates + 1, wanted)
}
