//! Whole layers and networks: a plan for all operations at once.
//!
//! An operation begins when the one before has left the accelerator (a fence), so that its cycles are its own and one run of the network
//! measures a choice for each of its operations. Choices are schedules of products and convolutions, in the order of what the analytical
//! model says of them; normalization in the product, as a pass of its own, or by the host; pooling in a convolution's stores or as a pass of
//! its own; and products of one input that follow each other done together, without a fence and with the input's tiles kept in the
//! scratchpad. Dynamic programming over the operations then finds the cheapest way through: a choice covers one operation or several.
//!
//! The plan that results runs once more as a whole, and what is slower there than by default goes back to the default: it is never
//! slower.

mod choices;
mod measure;
mod path;

use pollux_compiler::{CompileError, Compiled, CycleSetup, Plan};
use pollux_energy::Prices;
use serde::Serialize;

use crate::search::Objective;
pub use choices::Choice;
use choices::{Families, Stage};
pub use measure::Cost;
use measure::{Measured, Prices as Priced};

/// What is planned.
pub struct Subject<'a> {
    /// Compiles the network by a plan.
    pub compile: &'a (dyn Fn(&Plan) -> Result<Compiled, CompileError> + Sync),
    /// The plan that choices are added to.
    pub base: Plan,
}

/// How the plan is searched.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What is to be small; energy times cycles is that of the whole network.
    pub objective: Objective,
    /// Memory, host.
    pub setup: CycleSetup,
    /// Choices of each operation that run at most.
    pub candidates: usize,
    /// Cycles that the emulator may run, the default plan apart; one run of the network is always made.
    pub emulated_cycles: u64,
    /// Mappings that the model prices for each operation, where they are too many to price all.
    pub evaluations: usize,
    /// Of all that is drawn.
    pub seed: u64,
    /// Threads; the result does not depend on them.
    pub threads: usize,
    /// Prices of events, for energy.
    pub prices: &'a Prices,
    /// Clock in Hz, for leakage.
    pub clock_hz: f64,
}

/// An operation and what was chosen for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedOperation {
    /// Name.
    pub name: String,
    /// Cost by default.
    pub default: Cost,
    /// Cost in the plan.
    pub cost: Cost,
    /// What was chosen, if it is not the default.
    pub choice: Option<Choice>,
    /// Choices that ran, the default apart.
    pub tried: usize,
}

/// The result.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Cost of the whole network by default.
    pub default: Cost,
    /// Cost by the plan, run as a whole.
    pub cost: Cost,
    /// The operations, in their order.
    pub operations: Vec<PlannedOperation>,
    /// Operations that are done together.
    pub together: Vec<Vec<String>>,
    /// Runs of the whole network.
    pub runs: usize,
    /// Cycles of all of them.
    pub emulated_cycles: u64,
    /// Choices that were not run for want of budget.
    pub not_run: usize,
    /// Choices that went back to the default because they were slower in the network than where they were measured.
    pub reverted: usize,
}

/// How far a search is: runs of the network that are over, and all that are to be made.
pub type Progress = (usize, usize);

/// Finds a plan.
///
/// # Errors
/// The network cannot be compiled or run by default.
pub fn plan(
    subject: &Subject<'_>,
    settings: &Settings<'_>,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Planned, CompileError> {
    let priced = Priced::new(settings);
    let (compiled, default) = priced.run(subject, &subject.base)?;
    let stages: Vec<Stage> = compiled.operations.iter().map(Stage::new).collect();
    let mut families = Families::new(&compiled, &stages, settings);
    drop(compiled);
    let most = (settings.emulated_cycles / default.cycles().max(1)).clamp(1, 1 << 20) as usize;
    let rounds = families.rounds(&stages, most);
    let runs = measure::rounds(&priced, subject, &stages, &families, &rounds, watch);
    let mut emulated = default.cycles();
    for (round, run) in runs.iter().flatten() {
        emulated += run.cycles();
        families.note(round, &stages, run, &default);
    }
    let chosen = path::cheapest(&stages, &families, &default, settings.objective);
    let mut planned = Attempts { subject, priced: &priced, stages: &stages, default: &default }.settle(chosen)?;
    planned.emulated_cycles += emulated;
    planned.runs += runs.iter().flatten().count() + 1;
    planned.not_run = families.not_run();
    for (stage, operation) in planned.operations.iter_mut().enumerate() {
        operation.tried = families.tried(stage);
    }
    Ok(planned)
}

/// Runs of plans as wholes.
struct Attempts<'a> {
    subject: &'a Subject<'a>,
    priced: &'a Priced<'a>,
    stages: &'a [Stage],
    default: &'a Measured,
}

impl Attempts<'_> {
    /// Runs the chosen plan; what is slower in it than by default goes back, and if it is still not better everything does.
    fn settle(&self, chosen: Vec<path::Covered>) -> Result<Planned, CompileError> {
        let objective = self.priced.objective();
        let (mut chosen, mut emulated, mut runs, mut reverted) = (chosen, 0, 0, 0);
        for attempt in 0..2 {
            if chosen.iter().all(|covered| covered.choice.is_none()) {
                break;
            }
            let plan = choices::plan(&self.subject.base, self.stages, &chosen);
            // A choice that was legal alone is legal beside others.
            let Ok((_, run)) = self.priced.run(self.subject, &plan) else { break };
            emulated += run.cycles();
            runs += 1;
            let worse = |covered: &path::Covered| {
                let structural = covered.choice.as_ref().is_some_and(Choice::is_structural);
                let now = run.span(self.stages, covered.range(), structural);
                let then = self.default.span(self.stages, covered.range(), false);
                now.zip(then).is_none_or(|(now, then)| now.value(objective) > then.value(objective))
            };
            let better = run.total().value(objective) < self.default.total().value(objective);
            let back: Vec<bool> = chosen.iter().map(|covered| covered.choice.is_some() && worse(covered)).collect();
            if attempt == 0 && back.contains(&true) {
                reverted += back.iter().filter(|back| **back).count();
                chosen = chosen.into_iter().zip(back).flat_map(|(covered, back)| covered.reverted(back)).collect();
                continue;
            }
            if !better {
                break;
            }
            return Ok(self.planned(plan, &chosen, &run, (emulated, runs, reverted)));
        }
        let all = chosen.iter().filter(|covered| covered.choice.is_some()).count();
        let default: Vec<path::Covered> = chosen.into_iter().flat_map(|covered| covered.reverted(true)).collect();
        Ok(self.planned(self.subject.base.clone(), &default, self.default, (emulated, runs, reverted + all)))
    }

    fn planned(
        &self,
        plan: Plan,
        chosen: &[path::Covered],
        run: &Measured,
        (emulated_cycles, runs, reverted): (u64, usize, usize),
    ) -> Planned {
        let mut operations = Vec::new();
        for covered in chosen {
            for stage in covered.range() {
                let structural = covered.choice.as_ref().is_some_and(Choice::is_structural);
                operations.push(PlannedOperation {
                    name: self.stages[stage].name.clone(),
                    default: self.default.span(self.stages, stage..stage + 1, false).unwrap_or_default(),
                    cost: run.span(self.stages, stage..stage + 1, structural).unwrap_or_default(),
                    choice: covered.choice.clone(),
                    tried: 0,
                });
            }
        }
        let together = chosen.iter().filter(|covered| covered.len > 1);
        let names = |covered: &path::Covered| covered.range().map(|stage| self.stages[stage].name.clone()).collect();
        Planned {
            plan,
            default: self.default.total(),
            cost: run.total(),
            operations,
            together: together.map(names).collect(),
            runs,
            emulated_cycles,
            not_run: 0,
            reverted,
        }
    }
}
