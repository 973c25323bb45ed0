//! Running golden cases on the cycle-level emulator and comparing everything that was recorded.

use std::fmt::Write;
use std::path::Path;

use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::memory::{BenchParameters, MemoryModel};
use pollux_sim::observer::{Cycle, Event, NoObserver, Observer};
use pollux_sim::runner::Runner;
use pollux_sim::violation::Violations;
use serde::Serialize;

use crate::case::{CaseError, CommandRecord, GoldenCase};
use crate::compare::{Difference, TraceComparer};
use crate::event_csv;

/// A run this many times longer than recorded is stopped.
const PATIENCE: u64 = 4;
/// Cycles that a run may take beyond the recorded ones whatever their number.
const GRACE: u64 = 10_000;

/// What the comparison of one case found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CaseReport {
    /// Name of the case's folder.
    pub name: String,
    /// Configuration.
    pub config: String,
    /// Everything recorded is reproduced.
    pub exact: bool,
    /// `busy_falls` of the run.
    pub cycles: Cycle,
    /// `busy_falls` as recorded.
    pub expected_cycles: Cycle,
    /// Events that agreed.
    pub events: usize,
    /// Commands of the reservation station that agreed (0 if none are recorded).
    pub commands: usize,
    /// Bytes of memory compared.
    pub bytes: u64,
    /// Rules of the RTL that the run broke.
    pub violations: Violations,
    /// First divergent cycle, if the events differ.
    pub first_divergent_cycle: Option<Cycle>,
    /// What is wrong, one item a kind of difference; multi-line.
    pub problems: Vec<String>,
}

/// Reads and verifies the case in `dir`. A case that cannot be read or configured is a report with a problem.
pub fn verify_folder(dir: &Path) -> CaseReport {
    let failed = |error: &dyn std::fmt::Display| CaseReport {
        name: dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned()),
        problems: vec![error.to_string()],
        ..CaseReport::default()
    };
    match GoldenCase::read(dir) {
        Ok(case) => verify(&case).unwrap_or_else(|error| failed(&error)),
        Err(error) => failed(&error),
    }
}

/// The initial memory of a case.
pub fn initial_memory(case: &GoldenCase) -> Memory {
    let mut memory = Memory::new();
    for region in &case.memory_in {
        memory.write(region.address, &region.bytes);
    }
    memory
}

/// The golden bench as a case was recorded on it.
pub fn bench<'a>(case: &GoldenCase, config: &'a ValidConfig) -> Runner<'a> {
    let &GoldenCase { latency, a_period, d_period, .. } = case;
    Runner::new(config).memory(MemoryModel::Bench(BenchParameters { latency, a_period, d_period }))
}

/// The configuration of a case: its own, or the one that it names.
///
/// # Errors
/// The name is none of the built-in ones.
pub fn config_of(case: &GoldenCase) -> Result<ValidConfig, CaseError> {
    match &case.config {
        Some(config) => Ok(config.clone()),
        None => Ok(GemminiConfig::by_name(&case.summary.config)?),
    }
}

/// Verifies one case.
///
/// # Errors
/// The case names an unknown configuration, or one that the emulator does not model.
pub fn verify(case: &GoldenCase) -> Result<CaseReport, CaseError> {
    let config = config_of(case)?;
    let mut recorder = Recorder::new(case);
    let mut report = CaseReport {
        name: case.name.clone(),
        config: case.summary.config.clone(),
        expected_cycles: case.summary.busy_falls,
        ..CaseReport::default()
    };
    let limit = case.summary.busy_falls.saturating_mul(PATIENCE).saturating_add(GRACE);
    let outcome = match bench(case, &config).limit(limit).run(case.items.clone(), initial_memory(case), &mut recorder) {
        Ok(outcome) => outcome,
        Err(stopped) => {
            report.problems.push(stopped.error.to_string());
            stopped.outcome
        }
    };
    let summary = outcome.summary;
    report.cycles = summary.busy_falls;
    report.violations = summary.violations;
    report.events = recorder.agreed();
    let (difference, commands) = recorder.finish(summary.cycles);
    if let Some(difference) = difference {
        report.first_divergent_cycle = Some(difference.cycle);
        report.problems.push(describe(&difference, &state_after(case, &config, difference.cycle)));
    } else if summary.busy_falls != case.summary.busy_falls {
        let (got, want) = (summary.busy_falls, case.summary.busy_falls);
        report.problems.push(format!("busy falls in cycle {got}, expected {want}"));
    }
    if let Some(expected) = &case.commands {
        report.commands = compare_commands(expected, &commands, &mut report.problems);
    }
    report.bytes = compare_memory(case, &outcome.memory, &mut report.problems);
    report.exact = report.problems.is_empty();
    Ok(report)
}

/// What the blocks wait for after a cycle.
fn state_after(case: &GoldenCase, config: &ValidConfig, cycle: Cycle) -> Vec<String> {
    // The run is repeated up to this cycle: it is the same one, and only a case that differs pays for it.
    let mut runner = bench(case, config).limit(cycle.saturating_add(1));
    let again = runner.run(case.items.clone(), initial_memory(case), &mut NoObserver);
    again.err().map(|stopped| stopped.outcome.machine.waiting_for()).unwrap_or_default()
}

/// Collects what a case has records of.
struct Recorder<'a> {
    trace: Option<TraceComparer<'a>>,
    /// Collected only if the case records commands.
    commands: Option<Vec<CommandRecord>>,
}

impl<'a> Recorder<'a> {
    fn new(case: &'a GoldenCase) -> Self {
        let trace = case.trace.as_ref().map(|trace| TraceComparer::new(trace, case.detail));
        Self { trace, commands: case.commands.is_some().then(Vec::new) }
    }

    fn agreed(&self) -> usize {
        self.trace.as_ref().map_or(0, TraceComparer::agreed)
    }

    fn finish(self, end: Cycle) -> (Option<Difference>, Vec<CommandRecord>) {
        (self.trace.and_then(|trace| trace.finish(end)), self.commands.unwrap_or_default())
    }
}

impl Observer for Recorder<'_> {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        if let Some(trace) = &mut self.trace {
            trace.event(cycle, event);
        }
        let Some(commands) = &mut self.commands else { return };
        match *event {
            Event::Alloc { seq, unit, entry, funct, rs1, rs2, origin } => commands.push(CommandRecord {
                seq,
                origin: event_csv::origin(origin).into(),
                queue: event_csv::unit(unit).into(),
                entry,
                funct,
                rs1,
                rs2,
                alloc: cycle,
                issue: 0,
                complete: 0,
            }),
            Event::Issue { seq, .. } => commands[seq as usize].issue = cycle,
            Event::Complete { seq, .. } => commands[seq as usize].complete = cycle,
            _ => {}
        }
    }
}

fn compare_commands(expected: &[CommandRecord], actual: &[CommandRecord], problems: &mut Vec<String>) -> usize {
    let agreed = expected.iter().zip(actual).take_while(|(e, a)| e == a).count();
    if agreed < expected.len().max(actual.len()) {
        problems.push(format!(
            "command {agreed} of the reservation station differs\n  expected {:?}\n  actual   {:?}",
            expected.get(agreed),
            actual.get(agreed)
        ));
    }
    agreed
}

/// Compares the dumped regions; returns the bytes compared.
fn compare_memory(case: &GoldenCase, memory: &Memory, problems: &mut Vec<String>) -> u64 {
    let Some(expected) = &case.memory_out else { return 0 };
    let (mut bytes, mut wrong, mut first) = (0, 0u64, None);
    for region in expected {
        let actual = memory.read_vec(region.address, region.bytes.len());
        bytes += region.bytes.len() as u64;
        for (i, (want, got)) in region.bytes.iter().zip(&actual).enumerate() {
            if want != got {
                wrong += 1;
                first.get_or_insert((region.address + i as u64, *want, *got));
            }
        }
    }
    if let Some((address, want, got)) = first {
        problems.push(format!(
            "{wrong} of {bytes} bytes of memory differ; the first at {address:#x}: expected {want:02x}, actual {got:02x}"
        ));
    }
    bytes
}

fn describe(difference: &Difference, blocks: &[String]) -> String {
    let mut text = format!("first divergent cycle {} (event {})", difference.cycle, difference.index);
    for (i, (cycle, event)) in difference.expected[..difference.agreeing].iter().enumerate() {
        let _ = write!(text, "\n  {:<10} {}", if i == 0 { "both" } else { "" }, event_csv::line(*cycle, event));
    }
    for (title, events) in [("expected", &difference.expected), ("actual", &difference.actual)] {
        let after = &events[difference.agreeing..];
        if after.is_empty() {
            let _ = write!(text, "\n  {title:<10} (no further event)");
        }
        for (i, (cycle, event)) in after.iter().enumerate() {
            let _ = write!(text, "\n  {:<10} {}", if i == 0 { title } else { "" }, event_csv::line(*cycle, event));
        }
    }
    for block in blocks {
        let _ = write!(text, "\n  state      {block}");
    }
    text
}
