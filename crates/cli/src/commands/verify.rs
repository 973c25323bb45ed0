//! `pollux verify`

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use pollux_trace::GoldenCase;
use pollux_trace::verify::{CaseReport, verify_folder};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::files::NamedPath;
use crate::output::{Output, counted, grouped};
use crate::progress;

const EXAMPLES: &str = "\
Examples:
  pollux verify tests/golden
  pollux verify tests/golden/directed tests/golden/software --jobs 1
  pollux verify tests/golden --case loop_ws_256
  pollux verify my_cases --json | jq '.cases[] | select(.exact | not)'";

/// Compare the cycle-level emulator with recorded traces.
///
/// Runs every case folder at or below the folders (program.txt, memory_in.txt, summary.json, and trace.csv,
/// commands.csv, memory_out.txt as far as they are there; plain or .gz) and compares each event with its cycle, each
/// command and each byte. Where they differ, the first divergent cycle is shown, with the expected and the actual
/// events around it and the state of the blocks. The last line says how many cases are exact; the exit code is 0 only
/// if all are.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Folders with cases.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<NamedPath>,
    /// Cases to run at once; by default one for each processor.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Run only the cases whose folders have this name.
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let folders = folders(arguments)?;
    let jobs = match arguments.jobs {
        Some(jobs) => jobs.into(),
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    let bar = progress::bar(out, folders.len() as u64, "cases");
    let mut reports = Vec::with_capacity(folders.len());
    verify_in_order(&folders, jobs, |report| {
        bar.inc(1);
        bar.suspend(|| out.text(&describe(&report)))?;
        reports.push(report);
        Ok(())
    })?;
    bar.finish_and_clear();
    let exact = reports.iter().filter(|report| report.exact).count();
    out.json(&json!({ "exact": exact, "total": reports.len(), "cases": reports }))?;
    out.text(&format!("verify: {exact} of {} cases exact\n", reports.len()))?;
    Ok(Outcome::of(exact == reports.len()))
}

/// The case folders asked for.
fn folders(arguments: &Arguments) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::new();
    for dir in &arguments.dirs {
        let found = GoldenCase::find(dir).map_err(Failure::input)?;
        if found.is_empty() {
            return Err(Failure::Input(format!(
                "no case at or below `{}`: a case is a folder with a program.txt",
                dir.display()
            )));
        }
        folders.extend(found);
    }
    for name in &arguments.case {
        if !folders.iter().any(|folder| is_called(folder, name)) {
            return Err(Failure::Input(format!("no case is called `{name}`")));
        }
    }
    if !arguments.case.is_empty() {
        folders.retain(|folder| arguments.case.iter().any(|name| is_called(folder, name)));
    }
    Ok(folders)
}

fn is_called(folder: &Path, name: &str) -> bool {
    folder.file_name().is_some_and(|folder| folder == name)
}

/// Verifies the cases, `jobs` at once; `done` gets the reports in the order of the folders.
fn verify_in_order(
    folders: &[PathBuf],
    jobs: usize,
    mut done: impl FnMut(CaseReport) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(folders.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((index, folder)) = take(next, folders) {
                    // If nobody listens any more, the work is over.
                    if sender.send((index, verify_guarded(folder))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = std::collections::BTreeMap::new();
        let mut expected = 0;
        for (index, report) in receiver {
            early.insert(index, report);
            while let Some(report) = early.remove(&expected) {
                expected += 1;
                done(report)?;
            }
        }
        Ok(())
    })
}

fn take<'a>(next: &AtomicUsize, folders: &'a [PathBuf]) -> Option<(usize, &'a PathBuf)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    folders.get(index).map(|folder| (index, folder))
}

/// A defect of the emulator that shows in one case must not keep the others from being verified.
fn verify_guarded(folder: &Path) -> CaseReport {
    catch_unwind(AssertUnwindSafe(|| verify_folder(folder))).unwrap_or_else(|_| CaseReport {
        name: folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        problems: vec!["the emulator panicked: this is a defect of Pollux".to_owned()],
        ..CaseReport::default()
    })
}

/// A line, and what is wrong below it.
fn describe(report: &CaseReport) -> String {
    let CaseReport { name, config, cycles, events, commands, bytes, problems, .. } = report;
    if report.exact {
        let compared = [(*events as u64, "event"), (*commands as u64, "command"), (*bytes, "byte")];
        let compared = compared.iter().filter(|(count, _)| *count > 0);
        let compared: String = compared.map(|(count, what)| format!(", {}", counted(*count, what))).collect();
        return format!("exact    {name} ({config}): {} cycles{compared}\n", grouped(*cycles));
    }
    let mut out = match report.first_divergent_cycle {
        Some(cycle) => format!("DIFFERS  {name} ({config}): from cycle {cycle} on\n"),
        None => format!("DIFFERS  {name}\n"),
    };
    for line in problems.iter().flat_map(|problem| problem.lines()) {
        out.push_str(&format!("         {line}\n"));
    }
    out
}
