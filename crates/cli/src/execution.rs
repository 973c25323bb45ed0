//! Running programs with the command's options: files, progress, warnings.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pollux::Action;
use pollux::functional::Divisions;
use pollux::{FunctionalOutcome, Run, RunValues};
use pollux_asm::Program;
use pollux_energy::EnergyReport;
use pollux_isa::StreamItem;
use pollux_memory::Memory;
use pollux_sim::counts::CountingObserver;
use pollux_sim::machine::{PageTables, Translation};
use pollux_sim::observer::{Cycle, Event, Observer};
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::simulation::RunSummary;
use pollux_sim::violation::Violated;
use pollux_trace::event_csv;
use pollux_trace::report::{CommandLog, Plots};

use crate::arguments::{CycleArguments, PolicyName};
use crate::commit_log::{self, Commits};
use crate::energy::Pricing;
use crate::failure::Failure;
use crate::files::OutputFile;
use crate::files::OutputPath;
use crate::output::{Output, grouped};
use crate::progress;
use crate::timeline::{TimelineArguments, Timelines};

/// Checks a program before it runs, in the same way for both models. The warnings.
///
/// # Errors
/// Illegal commands, then accesses to undeclared memory, if the policy makes them errors.
pub fn check(program: &Program, policy: PolicyName) -> Result<Vec<String>, Failure> {
    Ok(pollux::check(program, policy.action())?)
}

/// Runs a program that has been checked on the functional model.
///
/// # Errors
/// Undefined behaviour that the policy makes an error.
pub fn run_functional(program: &Program, policy: PolicyName) -> Result<FunctionalOutcome<'_>, Failure> {
    Ok(checked(program, policy).functional()?)
}

/// A run of a program that has been checked.
pub fn checked(program: &Program, policy: PolicyName) -> Run<'_> {
    Run::new(program).illegal(policy.action()).checked()
}

/// What the cycle-level emulator did.
pub struct CycleRun {
    /// Memory after the run, if values were computed.
    pub memory: Option<Memory>,
    /// The normalizer's divisions, if the functional model had to list them as values were left out.
    pub divisions: Divisions,
    /// Totals.
    pub summary: RunSummary,
    /// What the cycles were spent on, if asked for.
    pub report: Option<RunReport>,
    /// What its plots show, if asked for.
    pub plots: Option<Plots>,
    /// What it took of energy, if asked for.
    pub energy: Option<EnergyReport>,
}

/// What a cycle-level run gives beside its cycles.
#[derive(Debug)]
pub struct Wanted<'t> {
    /// A report on what the cycles were spent on.
    pub report: bool,
    /// What the plots of a report show.
    pub plots: bool,
    /// The values that are computed.
    pub values: bool,
    /// A file with what each command has written.
    pub commit_log: Option<&'t OutputPath>,
    /// How a run without values is replayed, if it is, and with what earlier runs have left.
    pub replay: (Option<ReplayOptions>, &'t mut ReplayTable),
}

/// Runs a program that has been checked clock by clock; with `pricing`, the run has a report on energy.
///
/// # Errors
/// A deadlock, the limit, or a file that cannot be written.
pub fn run_cycles(
    program: &Program,
    setup: &CycleArguments,
    timeline: &TimelineArguments,
    wanted: Wanted<'_>,
    pricing: Option<&Pricing>,
    out: &Output,
) -> Result<CycleRun, Failure> {
    let counting = pricing.is_some().then(CountingObserver::default);
    let window = timeline.window(program)?;
    let timelines = Timelines::create(timeline, program, out)?;
    let profiler = wanted.report.then(|| Profiler::new(&program.config, &program.items));
    let plots = wanted.plots.then(Plots::default);
    let commits = wanted.commit_log.map(|path| commit_log::observer(path, program, out)).transpose()?;
    let looks = profiler.is_some() || timelines.is_some() || commits.is_some();
    let heavy = looks.then_some((profiler, (timelines, (plots, commits))));
    let mut observer = (heavy, (Files::create(setup, out)?, counting));
    let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
    let marks = program.items.iter().filter(|item| matches!(item, StreamItem::Mark(_))).count();
    let progress = progress::Cycles::new(out, marks);
    let run = Run::new(program)
        .checked()
        .memory(setup.memory)
        .interval(setup.interval)
        .processor(setup.processor)
        .translation(setup.page_walk.map_or(Translation::Bare, paged))
        .limit(setup.limit)
        .window(window)
        .watch(|position| {
            progress.at(position.cycle, position.mark);
            ControlFlow::Continue(())
        });
    let outcome = match wanted.values {
        true => observe(run, &mut observer).map(|outcome| (outcome.summary, Some(outcome.memory), outcome.divisions)),
        false => {
            let (replay, table) = wanted.replay;
            let run = run.without_values().replay(replay);
            let run = if table.has_folder() { run.replay_table(table) } else { run };
            observe(run, &mut observer).map(|outcome| (outcome.summary, None, outcome.divisions))
        }
    };
    progress.finish();
    let (summary, memory, divisions) = outcome?;
    let (heavy, (files, counted)) = observer;
    files.finish()?;
    let (profiler, (timelines, (plots, commits))) = heavy.unwrap_or_default();
    if let Some((commits, path)) = commits.zip(wanted.commit_log) {
        commit_log::finish(commits, path)?;
    }
    if let Some(timelines) = timelines {
        timelines.finish(&summary)?.iter().for_each(|note| out.note(note));
    }
    let report = profiler.map(|profiler| profiler.finish(&summary));
    let counted = pricing.zip(counted.as_ref());
    let energy = counted.map(|(pricing, counted)| pricing.of_program(program, counted, &summary));
    Ok(CycleRun { memory, divisions, summary, report, plots, energy })
}

/// What looks at every cycle, if anything does, and what does not.
type Observers<'p> = (Option<Heavy<'p>>, (Files, Option<CountingObserver>));

/// The report, the files for viewers, the plots, and the log of commits.
type Heavy<'p> = (Option<Profiler>, (Option<Timelines<'p>>, (Option<Plots>, Option<Commits<'p>>)));

fn observe<'p, V: RunValues>(
    run: Run<'p, V>,
    observer: &mut Observers<'_>,
) -> Result<pollux::Outcome<'p, V>, pollux::Error> {
    match observer {
        (Some(_), _) => run.observed(observer),
        (None, others) => run.observed(others),
    }
}

/// Says how many cycles were simulated and how many replayed, if any were.
pub fn note_replay(cycles: u64, simulated: u64, replayed: u64, out: &Output) {
    if replayed > 0 {
        let [cycles, simulated, replayed] = [cycles, simulated, replayed].map(grouped);
        out.note(&format!("note: {simulated} of {cycles} cycles simulated, {replayed} replayed"));
    }
}

/// The rules of the RTL that a run broke, as warnings.
///
/// # Errors
/// If the policy says so, those after which the hardware does not do what the program asks for.
pub fn violations(summary: &RunSummary, policy: PolicyName) -> Result<Vec<String>, Failure> {
    let (harmless, broken): (Vec<Violated>, _) =
        summary.violations.iter().partition(|violated| violated.violation.is_harmless());
    let line = |violated: &Violated| format!("the RTL asserts otherwise: {violated}");
    let harmless: Vec<String> = harmless.iter().map(line).collect();
    let mut broken: Vec<String> = broken.iter().map(line).collect();
    if !broken.is_empty() {
        broken.push("from there on neither cycles nor memory are claimed to be those of the hardware".to_owned());
    }
    match policy.action() {
        Action::Error if !broken.is_empty() => Err(Failure::Program(broken)),
        Action::Ignore => Ok(Vec::new()),
        _ => Ok(broken.into_iter().chain(harmless).collect()),
    }
}

/// The files that are written while a simulation runs.
struct Files {
    trace: Option<Trace>,
    commands: Option<(PathBuf, CommandLog<OutputFile>)>,
}

impl Files {
    fn create(setup: &CycleArguments, out: &Output) -> Result<Self, Failure> {
        let trace = setup.trace.as_deref().map(|path| Trace::create(path, out)).transpose()?;
        let commands = setup.commands.as_ref().map(|path| {
            let file = out.create(path)?;
            let is_json = path.extension().is_some_and(|extension| extension == "jsonl");
            let log = if is_json { CommandLog::json_lines(file) } else { CommandLog::csv(file) };
            Ok::<_, Failure>((path.to_path_buf(), log))
        });
        Ok(Self { trace, commands: commands.transpose()? })
    }

    fn finish(self) -> Result<(), Failure> {
        if let Some(trace) = self.trace {
            trace.finish()?;
        }
        if let Some((path, log)) = self.commands {
            log.finish().map_err(Failure::writing(&path))?.finish()?;
        }
        Ok(())
    }
}

impl Observer for Files {
    fn wants_events(&self) -> bool {
        self.trace.is_some() || self.commands.is_some()
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        if let Some(trace) = &mut self.trace {
            trace.event(cycle, event);
        }
        if let Some((_, log)) = &mut self.commands {
            log.event(cycle, event);
        }
    }
}

/// A trace that is being written.
struct Trace {
    file: OutputFile,
    /// The first error; nothing is written after it.
    error: Option<std::io::Error>,
    path: PathBuf,
}

impl Trace {
    fn create(path: &Path, out: &Output) -> Result<Self, Failure> {
        let mut file = out.create(path)?;
        let error = writeln!(file, "{}", event_csv::HEADER).err();
        Ok(Self { file, error, path: path.to_path_buf() })
    }

    fn event(&mut self, cycle: Cycle, event: &Event) {
        if self.error.is_none() {
            self.error = writeln!(self.file, "{}", event_csv::line(cycle, event)).err();
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self.error {
            Some(error) => Err(Failure::writing(&self.path)(error)),
            None => self.file.finish(),
        }
    }
}
