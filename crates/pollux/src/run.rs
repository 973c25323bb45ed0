//! Runs of a program on either model.

use std::ops::ControlFlow;

use pollux_asm::Disassembler;
use pollux_functional::{Action, Counts, FunctionalModel};
use pollux_memory::Memory;
use pollux_sim::host::Processor;
use pollux_sim::machine::{Machine, Translation};
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::{Cycle, NoObserver, Observer};
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::runner::Runner;
use pollux_sim::simulation::{Position, RunSummary};

use crate::check::{check, first_of, may_be_endless, show, unchecked};
use crate::{Comparison, Error, Tensor, compare};

/// Cycles after which an illegal program is stopped if no limit is given: its counters may run for ever.
const ILLEGAL_LIMIT: Cycle = 10_000_000;

/// How a program is to run. [`Run::cycles`], [`Run::observed`], [`Run::report`] and [`Run::functional`] run it.
pub struct Run<'p> {
    program: &'p pollux_asm::Program,
    memory: MemoryModel,
    translation: Translation,
    interval: u64,
    processor: Option<Processor>,
    limit: Option<Cycle>,
    plain: bool,
    action: Action,
    checked: bool,
    watch: Box<dyn FnMut(Position) -> ControlFlow<()> + 'p>,
}

/// What is left of a cycle-level run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<'p> {
    program: &'p pollux_asm::Program,
    /// Totals.
    pub summary: RunSummary,
    /// Main memory.
    pub memory: Memory,
    /// The accelerator with its local memories.
    pub machine: Box<Machine>,
    /// What is not defined and was let pass.
    pub warnings: Vec<String>,
}

/// What is left of a run on the functional model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FunctionalOutcome<'p> {
    program: &'p pollux_asm::Program,
    /// Main memory.
    pub memory: Memory,
    /// Work done.
    pub counts: Counts,
    /// What is not defined and was let pass.
    pub warnings: Vec<String>,
}

impl<'p> Run<'p> {
    /// A run with physical addresses behind the memory of the golden bench, with a command of the host in every cycle.
    pub fn new(program: &'p pollux_asm::Program) -> Self {
        Self {
            program,
            memory: MemoryModel::default(),
            translation: Translation::Bare,
            interval: 1,
            processor: None,
            limit: None,
            plain: false,
            action: Action::Error,
            checked: false,
            watch: Box::new(|_| ControlFlow::Continue(())),
        }
    }

    /// What stands behind the accelerator's memory port.
    #[must_use]
    pub fn memory(self, memory: MemoryModel) -> Self {
        Self { memory, ..self }
    }

    /// How addresses are translated.
    #[must_use]
    pub fn translation(self, translation: Translation) -> Self {
        Self { translation, ..self }
    }

    /// Cycles from one command of the host to the next, at least.
    #[must_use]
    pub fn interval(self, interval: u64) -> Self {
        Self { interval, ..self }
    }

    /// A processor that runs ahead of the accelerator, instead of a host that waits with each command until it is accepted.
    #[must_use]
    pub fn processor(self, processor: impl Into<Option<Processor>>) -> Self {
        Self { processor: processor.into(), ..self }
    }

    /// Stops after so many cycles. Without a limit, only illegal programs are stopped, after 10 million.
    #[must_use]
    pub fn limit(self, limit: impl Into<Option<Cycle>>) -> Self {
        Self { limit: limit.into(), ..self }
    }

    /// Evaluates every block in every cycle, without the fast path, which gives the same result.
    #[must_use]
    pub fn plain(self, plain: bool) -> Self {
        Self { plain, ..self }
    }

    /// What to do about commands and accesses that the hardware does not define; they are errors otherwise.
    #[must_use]
    pub fn illegal(self, action: Action) -> Self {
        Self { action, ..self }
    }

    /// Leaves the check out that stands before every run: [`check`](crate::check) has been called, with the same action.
    #[must_use]
    pub fn checked(self) -> Self {
        Self { checked: true, ..self }
    }

    /// `watch` is told every few milliseconds how far a cycle-level run is, and ends it by [`ControlFlow::Break`].
    #[must_use]
    pub fn watch(self, watch: impl FnMut(Position) -> ControlFlow<()> + 'p) -> Self {
        Self { watch: Box::new(watch), ..self }
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        if self.checked { Ok(Vec::new()) } else { check(self.program, self.action) }
    }

    /// Runs the program clock by clock.
    ///
    /// # Errors
    /// An illegal program, a deadlock, the limit, or that who watches ended the run.
    pub fn cycles(self) -> Result<Outcome<'p>, Error> {
        self.observed(&mut NoObserver)
    }

    /// Runs the program clock by clock, with a client of its events.
    ///
    /// # Errors
    /// As [`Run::cycles`].
    pub fn observed(self, observer: &mut impl Observer) -> Result<Outcome<'p>, Error> {
        let warnings = self.check()?;
        let default_limit = || if may_be_endless(self.program) { ILLEGAL_LIMIT } else { Cycle::MAX };
        let mut runner = Runner::new(&self.program.config)
            .memory(self.memory)
            .translation(self.translation)
            .interval(self.interval)
            .processor(self.processor)
            .limit(self.limit.unwrap_or_else(default_limit))
            .plain(self.plain)
            .watch(self.watch);
        let outcome = runner.run(self.program.items.clone(), self.program.initial_memory(), observer)?;
        let (summary, memory, machine) = (outcome.summary, outcome.memory, outcome.machine);
        Ok(Outcome { program: self.program, summary, memory, machine, warnings })
    }

    /// Runs the program clock by clock, and says what the cycles were spent on.
    ///
    /// # Errors
    /// As [`Run::cycles`].
    pub fn report(self) -> Result<(Outcome<'p>, RunReport), Error> {
        let mut profiler = Profiler::new(&self.program.config, &self.program.items);
        let outcome = self.observed(&mut profiler)?;
        let report = profiler.finish(&outcome.summary);
        Ok((outcome, report))
    }

    /// Runs the program on the functional model: the same results without cycles, faster.
    ///
    /// # Errors
    /// An illegal program.
    pub fn functional(self) -> Result<FunctionalOutcome<'p>, Error> {
        let mut warnings = self.check()?;
        let (config, memory) = (self.program.config.clone(), self.program.initial_memory());
        let mut model = FunctionalModel::with_policy(config, memory, unchecked(self.action));
        let disassembler = Disassembler::new(self.program);
        let run = model.run(&self.program.items);
        run.map_err(|error| Error::Illegal(vec![show(&error.0, &disassembler)]))?;
        let lines = model.warnings().iter().map(|diagnostic| show(diagnostic, &disassembler));
        warnings.extend(first_of(lines, model.warning_count()));
        Ok(FunctionalOutcome { program: self.program, counts: *model.counts(), warnings, memory: model.into_memory() })
    }
}

impl Outcome<'_> {
    /// The headline figure: the first cycle of the last idle stretch.
    #[expect(clippy::misnamed_getters, reason = "the summary's `cycles` go on until nothing at all moves")]
    pub fn cycles(&self) -> Cycle {
        self.summary.busy_falls
    }

    /// The contents of a buffer.
    ///
    /// # Errors
    /// The program has no such buffer.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        Tensor::read(self.program, &self.memory, name)
    }

    /// Every buffer whose contents the program expects, held against them.
    pub fn comparisons(&self) -> Vec<Comparison> {
        compare(self.program, &self.memory)
    }
}

impl FunctionalOutcome<'_> {
    /// The contents of a buffer.
    ///
    /// # Errors
    /// The program has no such buffer.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        Tensor::read(self.program, &self.memory, name)
    }

    /// Every buffer whose contents the program expects, held against them.
    pub fn comparisons(&self) -> Vec<Comparison> {
        compare(self.program, &self.memory)
    }
}
