//! Files of a run for the viewers of other people, and its commands one by one.

use std::path::Path;
use std::sync::Arc;

use pollux_asm::Disassembler;
use pollux_isa::StreamItem;
use pollux_trace::report::CommandLog;
use pollux_trace::timeline::Describe;
use pollux_trace::timeline::files::{Files, Subject, Viewer, window};
use pollux_trace::timeline::perfetto::Level;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::errors::{self, Interrupt};
use crate::program::Program;
use crate::run::{memory_model, policy};

/// How a run is traced.
#[derive(Deserialize)]
struct Options {
    memory: String,
    interval: u64,
    limit: Option<u64>,
    policy: String,
    /// A cycle or the name of an operation.
    from: Option<String>,
    to: Option<String>,
    /// Of a Perfetto file.
    level: Option<LevelName>,
    /// Bytes of each file.
    budget: u64,
    /// The commands are wanted.
    commands: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LevelName {
    Ops,
    Host,
    Commands,
    All,
}

/// Runs a program, and writes files: pairs of viewer and path. What they do not show, a line each; and the commands, as lines of JSON.
#[pyfunction]
pub fn trace(
    py: Python<'_>,
    program: &Program,
    options: &str,
    files: Vec<(String, String)>,
) -> PyResult<(Vec<String>, String)> {
    let options: Options = serde_json::from_str(options).map_err(errors::input)?;
    let program = &*program.0;
    let mark = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
    let marks: Vec<String> = program.items.iter().filter_map(mark).collect();
    let window = window(options.from.as_deref(), options.to.as_deref(), &marks).map_err(errors::input)?;
    let (memory, action) = (memory_model(&options.memory)?, policy(&options.policy)?);
    let mut wanted = Vec::new();
    for (viewer, path) in &files {
        wanted.push((self::viewer(viewer)?, path));
    }
    let interrupt = Arc::new(Interrupt::default());
    let watched = Arc::clone(&interrupt);
    py.detach(|| {
        let describe = || -> Describe<'_> {
            let disassembler = Disassembler::new(program);
            Box::new(move |command| disassembler.command(command))
        };
        let describe = Box::new(describe);
        let subject = Subject { config: &program.config, marks, describe, budget: options.budget };
        let mut written = Files::new(subject);
        for (viewer, path) in &wanted {
            let begun = written.begin(*viewer, level(options.level), Vec::new());
            begun.map_err(|error| errors::input(format!("{path}: {error}")))?;
        }
        let log = options.commands.then(|| CommandLog::json_lines(Vec::new()));
        let mut observer = ((!wanted.is_empty()).then_some(written), log);
        let run = pollux::Run::new(program).memory(memory).interval(options.interval).limit(options.limit);
        let run = run.illegal(action).window(window).watch(move |_| watched.flow());
        let outcome = run.observed(&mut observer).map_err(|error| errors::library(error, Some(&interrupt)))?;
        let (written, log) = observer;
        let notes = written.map(|files| end(files, &wanted, outcome.summary.cycles)).transpose()?;
        let lines = log.map(CommandLog::finish).transpose().map_err(errors::input)?.unwrap_or_default();
        Ok((notes.unwrap_or_default(), array(&lines)))
    })
}

fn viewer(name: &str) -> PyResult<Viewer> {
    match name {
        "perfetto" => Ok(Viewer::Perfetto),
        "kanata" => Ok(Viewer::Kanata),
        "fst" => Ok(Viewer::Fst),
        "vcd" => Ok(Viewer::Vcd),
        other => Err(errors::input(format!("viewer `{other}`: choose perfetto, kanata, fst or vcd"))),
    }
}

fn level(name: Option<LevelName>) -> Option<Level> {
    name.map(|name| match name {
        LevelName::Ops => Level::Operations,
        LevelName::Host => Level::Host,
        LevelName::Commands => Level::Commands,
        LevelName::All => Level::All,
    })
}

/// Writes the files, each whole or not at all; what they do not show.
fn end(files: Files<'_, Vec<u8>>, wanted: &[(Viewer, &String)], cycles: u64) -> PyResult<Vec<String>> {
    if !files.begun() {
        return Err(errors::input(format!(
            "the window begins behind the end of the run, which takes {cycles} cycles: nothing was written"
        )));
    }
    let mut notes = Vec::new();
    for finished in files.finish() {
        let path = wanted.iter().find(|(viewer, _)| *viewer == finished.viewer).map_or("", |(_, path)| path);
        let (bytes, note) = finished.result.map_err(|error| errors::input(format!("{path}: {error}")))?;
        pollux_sweep::write_file(Path::new(path), &bytes).map_err(errors::input)?;
        notes.extend(note.map(|note| format!("{path}: {note}")));
    }
    Ok(notes)
}

/// Lines of JSON as one list.
fn array(lines: &[u8]) -> String {
    let values = serde_json::Deserializer::from_slice(lines).into_iter::<Value>();
    Value::Array(values.filter_map(Result::ok).collect()).to_string()
}
