//! Runs of a program on either model.

use std::marker::PhantomData;
use std::ops::{ControlFlow, Range};

use pollux_asm::Disassembler;
use pollux_functional::{Action, Counts, Divisions, ExecError, FunctionalModel, Policy, Writes};
use pollux_isa::{RoccCommand, StreamItem};
use pollux_memory::Memory;
use pollux_sim::host::Processor;
use pollux_sim::machine::{Machine, PageTables, Translation};
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::{Cycle, NoObserver, Observer};
use pollux_sim::replay::{ReplayOptions, ReplayTable, ReplayTotals};
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::runner::{self, Runner, Stopped};
use pollux_sim::simulation::{Moment, Position, RunSummary};
use pollux_sim::values::{Full, Timing, Values};

use crate::check::{check, first_of, may_be_endless, show, unchecked};
use crate::{Comparison, Error, Tensor, compare};

/// Items of a functional run between two looks of who watches it.
const WATCHED_ITEMS: usize = 256;
/// Cycles after which an illegal program is stopped if no limit is given: its counters may run for ever.
const ILLEGAL_LIMIT: Cycle = 10_000_000;

/// How a program is to run. [`Run::cycles`], [`Run::observed`], [`Run::report`] and [`Run::functional`] run it.
pub struct Run<'p, V: Values = Full> {
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
    window: Option<Range<Moment>>,
    /// How a run without values is replayed, if it is.
    replay: Option<ReplayOptions>,
    table: Option<&'p mut ReplayTable>,
    values: PhantomData<V>,
}

/// What is left of a cycle-level run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<'p, V: Values = Full> {
    program: &'p pollux_asm::Program,
    /// Totals.
    pub summary: RunSummary,
    /// Main memory; after a run without values it is as it was before, but for what the host wrote.
    pub memory: Memory,
    /// The accelerator with its local memories. After a run that was [replayed](Run::replay) it is in an earlier state, but for its
    /// totals.
    pub machine: Box<Machine<V>>,
    /// What replay did, if the run was one that can be replayed.
    pub replay: Option<ReplayTotals>,
    /// The normalizer's divisions, by the functional model. Only a run without values asks it.
    pub divisions: Divisions,
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
            window: None,
            replay: Some(ReplayOptions::default()),
            table: None,
            values: PhantomData,
        }
    }

    /// The same run clock by clock, without its values: faster, with the same cycles, events and traffic, but nothing is computed.
    /// If the program normalizes, the functional model runs before, as the normalizer's dividers answer sooner if an
    /// operand is zero.
    #[must_use]
    pub fn without_values(self) -> Run<'p, Timing> {
        let Self { program, memory, translation, interval, processor, limit, plain, .. } = self;
        let Self { action, checked, watch, window, replay, table, .. } = self;
        let values = PhantomData;
        Run {
            program,
            memory,
            translation,
            interval,
            processor,
            limit,
            plain,
            action,
            checked,
            watch,
            window,
            replay,
            table,
            values,
        }
    }
}

impl<'p> Run<'p, Timing> {
    /// How situations that were simulated before are [replayed](pollux_sim::replay); `None` simulates all of them, with the same
    /// result.
    #[must_use]
    pub fn replay(self, replay: Option<ReplayOptions>) -> Self {
        Self { replay, ..self }
    }

    /// Uses the situations of earlier runs, and keeps those of this one.
    #[must_use]
    pub fn replay_table(self, table: &'p mut ReplayTable) -> Self {
        Self { table: Some(table), ..self }
    }
}

impl<'p, V: RunValues> Run<'p, V> {
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

    /// `watch` is told every few milliseconds how far a run is, and ends it by [`ControlFlow::Break`]. A functional run knows the
    /// operation, and stays in cycle 0.
    #[must_use]
    pub fn watch(self, watch: impl FnMut(Position) -> ControlFlow<()> + 'p) -> Self {
        Self { watch: Box::new(watch), ..self }
    }

    /// Tells the observer only of what is between two moments; the rest of the run is as fast as one without an observer.
    #[must_use]
    pub fn window(self, window: Option<Range<Moment>>) -> Self {
        Self { window, ..self }
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        if self.checked { Ok(Vec::new()) } else { check(self.program, self.action) }
    }

    /// Runs the program clock by clock.
    ///
    /// # Errors
    /// An illegal program, a deadlock, the limit, or that who watches ended the run.
    pub fn cycles(self) -> Result<Outcome<'p, V>, Error> {
        self.observed(&mut NoObserver)
    }

    /// Runs the program clock by clock, with a client of its events.
    ///
    /// # Errors
    /// As [`Run::cycles`].
    pub fn observed(self, observer: &mut impl Observer) -> Result<Outcome<'p, V>, Error> {
        let warnings = self.check()?;
        let default_limit = || if may_be_endless(self.program) { ILLEGAL_LIMIT } else { Cycle::MAX };
        let runner = Runner::new(&self.program.config)
            .memory(self.memory)
            .translation(self.translation)
            .interval(self.interval)
            .processor(self.processor)
            .limit(self.limit.unwrap_or_else(default_limit))
            .plain(self.plain)
            .watch(self.watch)
            .window(self.window);
        let (mut runner, divisions) = V::runner(runner, self.program, self.translation, (self.replay, self.table))?;
        let outcome = runner.run(self.program.items.clone(), self.program.initial_memory(), observer);
        let outcome = outcome.map_err(V::stopped)?;
        V::check(&outcome, &divisions)?;
        let runner::Outcome { summary, memory, machine, replay, .. } = outcome;
        Ok(Outcome { program: self.program, summary, memory, machine, replay, divisions, warnings })
    }

    /// Runs the program clock by clock, and says what the cycles were spent on.
    ///
    /// # Errors
    /// As [`Run::cycles`].
    pub fn report(self) -> Result<(Outcome<'p, V>, RunReport), Error> {
        let mut profiler = Profiler::new(&self.program.config, &self.program.items);
        let outcome = self.observed(&mut profiler)?;
        let report = profiler.finish(&outcome.summary);
        Ok((outcome, report))
    }
}

impl<'p> Run<'p> {
    /// Runs the program on the functional model: the same results without cycles, faster.
    ///
    /// # Errors
    /// An illegal program, or that who watches ended the run.
    pub fn functional(self) -> Result<FunctionalOutcome<'p>, Error> {
        self.functional_with(None)
    }

    /// The same; `each` is told after every command what it has written: its number, counted from 0, the command, and the model as it is
    /// then.
    ///
    /// # Errors
    /// As [`Run::functional`].
    pub fn functional_by_command(
        self,
        each: &mut dyn FnMut(u64, &RoccCommand, &Writes, &FunctionalModel),
    ) -> Result<FunctionalOutcome<'p>, Error> {
        self.functional_with(Some(each))
    }

    fn functional_with(mut self, mut each: Option<EachCommand<'_>>) -> Result<FunctionalOutcome<'p>, Error> {
        let mut warnings = self.check()?;
        let (config, memory) = (self.program.config.clone(), self.program.initial_memory());
        let mut model = FunctionalModel::with_policy(config, memory, unchecked(self.action));
        let disassembler = Disassembler::new(self.program);
        let (mut position, mut number) = (Position::default(), 0);
        for items in self.program.items.chunks(WATCHED_ITEMS) {
            let run = match &mut each {
                None => model.run(items),
                Some(each) => run_by_command(&mut model, items, &mut number, each),
            };
            run.map_err(|error| Error::Illegal(vec![show(&error.0, &disassembler)]))?;
            let marks = items.iter().filter(|item| matches!(item, StreamItem::Mark(_))).count();
            position.mark = (position.mark.map_or(0, |mark| mark + 1) + marks).checked_sub(1);
            if (self.watch)(position).is_break() {
                return Err(Error::Ended);
            }
        }
        let lines = model.warnings().iter().map(|diagnostic| show(diagnostic, &disassembler));
        warnings.extend(first_of(lines, model.warning_count()));
        Ok(FunctionalOutcome { program: self.program, counts: *model.counts(), warnings, memory: model.into_memory() })
    }
}

/// Who is told of every command.
type EachCommand<'a> = &'a mut dyn FnMut(u64, &RoccCommand, &Writes, &FunctionalModel);

fn run_by_command(
    model: &mut FunctionalModel,
    items: &[StreamItem],
    number: &mut u64,
    each: EachCommand<'_>,
) -> Result<(), ExecError> {
    model.note_writes();
    for item in items {
        model.run([item])?;
        if let StreamItem::Command(command) = item {
            let writes = model.take_writes();
            each(*number, command, &writes, model);
            *number += 1;
        }
    }
    Ok(())
}

/// How a run is replayed, and with which situations of earlier runs.
type Replay<'a> = (Option<ReplayOptions>, Option<&'a mut ReplayTable>);

/// What a run with these values, or without, has to be told of them: [`Full`] and [`Timing`].
pub trait RunValues: runner::Run {
    /// The runner, and the divisions whose operands it has to be told about.
    #[doc(hidden)]
    fn runner<'a>(
        runner: Runner<'a>,
        program: &pollux_asm::Program,
        translation: Translation,
        replay: Replay<'a>,
    ) -> Result<(Runner<'a, Self>, Divisions), Error>;

    /// Checks that the divisions are those that the machine made.
    #[doc(hidden)]
    fn check(outcome: &runner::Outcome<Self>, divisions: &Divisions) -> Result<(), Error>;

    /// A run that did not come to its end.
    #[doc(hidden)]
    fn stopped(stopped: Box<Stopped<Self>>) -> Error;
}

impl RunValues for Full {
    fn runner<'a>(
        runner: Runner<'a>,
        _: &pollux_asm::Program,
        _: Translation,
        _: Replay<'a>,
    ) -> Result<(Runner<'a>, Divisions), Error> {
        Ok((runner, Divisions::default()))
    }

    fn check(_: &runner::Outcome, _: &Divisions) -> Result<(), Error> {
        Ok(())
    }

    fn stopped(stopped: Box<Stopped>) -> Error {
        stopped.into()
    }
}

impl RunValues for Timing {
    fn runner<'a>(
        runner: Runner<'a>,
        program: &pollux_asm::Program,
        translation: Translation,
        (replay, table): Replay<'a>,
    ) -> Result<(Runner<'a, Timing>, Divisions), Error> {
        if let Translation::Paged { tables: PageTables::Sv39 { .. }, .. } = translation {
            return Err(Error::NeedsValues("page tables in main memory are values".to_owned()));
        }
        let mut divisions = Divisions::default();
        if Divisions::possible(&program.config, &program.items) {
            // What is not defined has been checked, and does what it does on both models.
            let (config, memory) = (program.config.clone(), program.initial_memory());
            let mut model = FunctionalModel::with_policy(config, memory, Policy::all(Action::Ignore));
            model
                .run(&program.items)
                .map_err(|error| Error::Illegal(vec![show(&error.0, &Disassembler::new(program))]))?;
            divisions = model.divisions().clone();
        }
        let zero = divisions.zero().iter().copied().collect();
        let runner = runner.without_values().zero_divisors(zero).replay(replay);
        let runner = match table {
            Some(table) => runner.replay_table(table),
            None => runner,
        };
        Ok((runner, divisions))
    }

    fn check(outcome: &runner::Outcome<Timing>, divisions: &Divisions) -> Result<(), Error> {
        let (made, listed) = (outcome.summary.divisions, divisions.count());
        if made == listed {
            return Ok(());
        }
        Err(Error::NeedsValues(format!(
            "the normalizer makes {made} divisions, and {listed} on the functional model, which should tell which have a zero operand"
        )))
    }

    fn stopped(stopped: Box<Stopped<Timing>>) -> Error {
        Error::StoppedWithoutValues(stopped)
    }
}

impl<V: Values> Outcome<'_, V> {
    /// The headline figure: the first cycle of the last idle stretch.
    #[expect(clippy::misnamed_getters, reason = "the summary's `cycles` go on until nothing at all moves")]
    pub fn cycles(&self) -> Cycle {
        self.summary.busy_falls
    }
}

impl Outcome<'_> {
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
