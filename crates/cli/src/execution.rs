//! Running programs: legality, the functional model, the cycle-level emulator, and what they leave in memory.

use std::io::Write;
use std::path::{Path, PathBuf};

use pollux_asm::{Disassembler, ElementType, Program};
use pollux_compiler::execute::MemoryModel;
use pollux_functional::{Action, Counts, Diagnostic, FunctionalModel};
use pollux_isa::RoccCommand;
use pollux_isa::legality::{Illegality, check_program};
use pollux_memory::Memory;
use pollux_sim::event::{Cycle, Event, Observer};
use pollux_sim::frontend_tlb::{PageTables, Translation};
use pollux_sim::host::StreamHost;
use pollux_sim::memory::{BandwidthMemory, BenchMemory, DramL2Memory, MemorySystem};
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::simulation::{Progress, RunError, RunSummary, Simulation};
use pollux_trace::event_csv;
use pollux_trace::report::CommandLog;
use serde::Serialize;

use crate::arguments::{CycleArguments, PolicyName};
use crate::failure::Failure;
use crate::output::Output;
use crate::program_file::StreamedFile;
use crate::progress;

/// Illegalities that are shown; more are counted.
const SHOWN: usize = 20;
/// Cycles after which an illegal program is stopped if no limit is given: its counters may run for ever.
const ILLEGAL_LIMIT: Cycle = 10_000_000;
/// Simulated cycles between two looks at the progress counter.
const PROGRESS_INTERVAL: u32 = 1 << 16;

/// Checks a program before it runs, in the same way for both models. The warnings.
///
/// # Errors
/// Illegal commands, if the policy makes them errors.
pub fn check(program: &Program, policy: PolicyName) -> Result<Vec<String>, Failure> {
    if policy.action() == Action::Ignore {
        return Ok(Vec::new());
    }
    let disassembler = Disassembler::new(program);
    let commands: Vec<_> = program.commands().collect();
    let line = |(number, illegality): (usize, Illegality)| {
        let text = command_text(commands[number], &disassembler);
        format!("command {number} (`{text}`): {illegality} (the hardware: {})", illegality.effect())
    };
    let found = check_program(&program.config, &program.items);
    let mut found: Vec<String> = found.into_iter().map(line).collect();
    if found.len() > SHOWN {
        let more = found.len() - SHOWN;
        found.truncate(SHOWN);
        found.push(format!("and {more} more"));
    }
    if policy.action() == Action::Error && !found.is_empty() {
        return Err(Failure::Program(found));
    }
    found.extend(program.config.warnings().iter().map(|warning| format!("configuration: {warning}")));
    Ok(found)
}

/// What the functional model did.
pub struct FunctionalRun {
    /// Memory after the run.
    pub memory: Memory,
    /// Work done.
    pub counts: Counts,
    /// Undefined behaviour that the policy lets pass.
    pub warnings: Vec<String>,
}

/// Runs a program on the functional model.
///
/// # Errors
/// Undefined behaviour that the policy makes an error.
pub fn run_functional(program: &Program, policy: PolicyName) -> Result<FunctionalRun, Failure> {
    let mut model = FunctionalModel::with_policy(program.config.clone(), program.initial_memory(), policy.functional());
    let disassembler = Disassembler::new(program);
    let show = |diagnostic: &Diagnostic| show(diagnostic, &disassembler);
    model.run(&program.items).map_err(|error| Failure::Program(vec![show(&error.0)]))?;
    let mut warnings: Vec<String> = model.warnings().iter().take(SHOWN).map(show).collect();
    let more = model.warning_count() - warnings.len() as u64;
    if more > 0 {
        warnings.push(format!("and {more} more"));
    }
    Ok(FunctionalRun { counts: *model.counts(), warnings, memory: model.into_memory() })
}

fn show(diagnostic: &Diagnostic, disassembler: &Disassembler) -> String {
    let Diagnostic { index, command, step, issue } = diagnostic;
    let step = step.map(|(step, mnemonic)| format!(", step {step} of the loop ({mnemonic})")).unwrap_or_default();
    format!("command {index} (`{}`){step}: {issue}", command_text(command, disassembler))
}

/// A command as a line of assembly. The remark behind a raw one is left out: the message says the same.
fn command_text(command: &RoccCommand, disassembler: &Disassembler) -> String {
    let text = disassembler.command(*command);
    text.split(" #").next().unwrap_or_default().trim().to_owned()
}

/// What the cycle-level emulator did.
pub struct CycleRun {
    /// Memory after the run.
    pub memory: Memory,
    /// Totals.
    pub summary: RunSummary,
    /// What the cycles were spent on, if asked for.
    pub report: Option<RunReport>,
}

/// Runs a program clock by clock; with `profile`, the run has a report.
///
/// # Errors
/// A configuration that the emulator does not have, a deadlock, the limit, or a file that cannot be written.
pub fn run_cycles(program: &Program, setup: &CycleArguments, profile: bool, out: &Output) -> Result<CycleRun, Failure> {
    let memory = program.initial_memory();
    let beat_bytes = program.config.beat_bytes() as usize;
    match setup.memory.0 {
        MemoryModel::Bench(parameters) => {
            simulate(program, BenchMemory::new(parameters, beat_bytes, memory), setup, profile, out)
        }
        MemoryModel::Bandwidth(parameters) => {
            simulate(program, BandwidthMemory::new(parameters, beat_bytes, memory), setup, profile, out)
        }
        MemoryModel::Dram { cache, dram, clock_mhz, outstanding } => {
            let memory = DramL2Memory::new(cache, dram, clock_mhz, outstanding, beat_bytes, memory);
            simulate(program, memory, setup, profile, out)
        }
    }
}

fn simulate<M: MemorySystem>(
    program: &Program,
    mut memory: M,
    setup: &CycleArguments,
    profile: bool,
    out: &Output,
) -> Result<CycleRun, Failure> {
    let host = StreamHost::new(program.items.clone().into(), setup.interval, memory.memory_mut());
    let mut files = Files::create(setup)?;
    let record = profile || setup.trace.is_some() || setup.commands.is_some();
    let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
    let translation = setup.page_walk.map_or(Translation::Bare, paged);
    let mut simulation = Simulation::new(&program.config, translation, host, memory, record);
    let may_be_endless = || !check_program(&program.config, &program.items).is_empty();
    let default_limit = || if may_be_endless() { ILLEGAL_LIMIT } else { Cycle::MAX };
    let limit = setup.limit.unwrap_or_else(default_limit);
    let (summary, report) = if profile {
        let mut observer = (Profiler::new(&program.config, &program.items), files);
        let summary = drive(&mut simulation, &mut observer, limit, out)?;
        files = observer.1;
        (summary, Some(observer.0.finish(&summary)))
    } else {
        (drive(&mut simulation, &mut files, limit, out)?, None)
    };
    files.finish()?;
    Ok(CycleRun { memory: simulation.memory.memory().clone(), summary, report })
}

/// Runs to the end, with a counter of the cycles for who waits.
fn drive<M: MemorySystem>(
    simulation: &mut Simulation<StreamHost, M>,
    observer: &mut impl Observer,
    limit: Cycle,
    out: &Output,
) -> Result<RunSummary, Failure> {
    let counter = progress::counter(out, "cycles");
    let mut steps = 0u32;
    let stopped = loop {
        match simulation.step(observer) {
            Progress::Running if simulation.cycle() >= limit => break RunError::Limit { limit },
            Progress::Running => {}
            Progress::Finished => {
                counter.finish_and_clear();
                return Ok(simulation.summary());
            }
            Progress::Stuck => break simulation.deadlock(),
        }
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(PROGRESS_INTERVAL) {
            counter.set_position(simulation.cycle());
        }
    };
    counter.finish_and_clear();
    Err(Failure::Program(vec![stopped.to_string()]))
}

/// The files that are written while a simulation runs.
struct Files {
    trace: Option<Trace>,
    commands: Option<(PathBuf, CommandLog<StreamedFile>)>,
}

impl Files {
    fn create(setup: &CycleArguments) -> Result<Self, Failure> {
        let trace = setup.trace.as_deref().map(Trace::create).transpose()?;
        let commands = setup.commands.as_ref().map(|path| {
            let file = StreamedFile::create(path)?;
            let is_json = path.extension().is_some_and(|extension| extension == "jsonl");
            let log = if is_json { CommandLog::json_lines(file) } else { CommandLog::csv(file) };
            Ok((path.clone(), log))
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
    file: StreamedFile,
    /// The first error; nothing is written after it.
    error: Option<std::io::Error>,
    path: PathBuf,
}

impl Trace {
    fn create(path: &Path) -> Result<Self, Failure> {
        let mut file = StreamedFile::create(path)?;
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

/// A buffer with expected contents, compared with memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Buffer.
    pub buffer: String,
    /// Elements compared.
    pub elements: u64,
    /// Elements that differ.
    pub mismatches: u64,
    /// The first of them.
    pub first: Option<Mismatch>,
}

/// An element that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Index in each dimension.
    pub index: Vec<u64>,
    /// Expected value.
    pub expected: i64,
    /// Value in memory.
    pub actual: i64,
}

/// Compares every buffer that has expected contents.
pub fn compare(program: &Program, memory: &Memory) -> Vec<Comparison> {
    let expected = program.buffers.iter().filter_map(|buffer| Some((buffer, buffer.expected.as_ref()?)));
    expected
        .map(|(buffer, expected)| {
            let actual = memory.read_vec(buffer.address, expected.len());
            compare_elements(&buffer.name, buffer.element, &buffer.shape, expected, &actual)
        })
        .collect()
}

fn compare_elements(name: &str, element: ElementType, shape: &[u64], expected: &[u8], actual: &[u8]) -> Comparison {
    let mut comparison = Comparison { buffer: name.to_owned(), elements: 0, mismatches: 0, first: None };
    for (position, (expected, actual)) in (0..).zip(element.elements(expected).zip(element.elements(actual))) {
        comparison.elements += 1;
        if expected != actual {
            comparison.mismatches += 1;
            comparison.first.get_or_insert_with(|| Mismatch { index: index(position, shape), expected, actual });
        }
    }
    comparison
}

/// The index in each dimension of an element's position.
fn index(mut position: u64, shape: &[u64]) -> Vec<u64> {
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|extent| {
            let here = position % extent;
            position /= extent;
            here
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mismatch_is_named_by_its_index() {
        let comparison = compare_elements("c", ElementType::I8, &[2, 3], &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 9, 255]);
        let first = Mismatch { index: vec![1, 1], expected: 5, actual: 9 };
        assert_eq!(comparison, Comparison { buffer: "c".into(), elements: 6, mismatches: 2, first: Some(first) });
    }
}
