//! Runs on both models.

use std::sync::Arc;

use pollux::functional::Counts;
use pollux::{Action, MemoryModel, RunValues};
use pollux_energy::{Counted, EnergyReport, EnergyTable, Prices};
use pollux_memory::Memory;
use pollux_sim::counts::{CountingObserver, mark_names};
use pollux_sim::observer::CountedOperation;
use pollux_sim::replay::ReplayOptions;
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::simulation::RunSummary;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::errors::{self, Interrupt};
use crate::program::Program;

/// How a program runs.
#[derive(Deserialize)]
struct Options {
    functional: bool,
    values: bool,
    memory: String,
    interval: u64,
    limit: Option<u64>,
    replay: bool,
    report: bool,
    energy: Option<String>,
    clock_hz: f64,
    policy: String,
}

/// The memory system of this text.
pub fn memory_model(text: &str) -> PyResult<MemoryModel> {
    text.parse().map_err(errors::input)
}

/// What to do about what the hardware does not define.
pub fn policy(name: &str) -> PyResult<Action> {
    match name {
        "error" => Ok(Action::Error),
        "warn" => Ok(Action::Warn),
        "ignore" => Ok(Action::Ignore),
        other => Err(errors::input(format!("policy `{other}`: choose error, warn or ignore"))),
    }
}

/// Prices of a table, by name or as a TOML text, on a configuration.
pub fn prices(table: &str, config: &pollux::Config) -> PyResult<Prices> {
    let table = match table.contains('\n') {
        true => EnergyTable::parse("table", table),
        false => EnergyTable::by_name(table),
    };
    table.and_then(|table| table.prices(config)).map_err(errors::input)
}

/// The buffer of this name.
pub fn buffer<'p>(program: &'p pollux_asm::Program, name: &str) -> PyResult<&'p pollux_asm::Buffer> {
    program.buffer(name).ok_or_else(|| {
        let names: Vec<&str> = program.buffers.iter().map(|buffer| buffer.name.as_str()).collect();
        let message = format!("no buffer is called `{name}`; the program has {}", names.join(", "));
        errors::exception("BufferError", &message, &json!(names))
    })
}

/// Names of the built-in energy tables.
#[pyfunction]
pub fn energy_tables() -> Vec<&'static str> {
    EnergyTable::NAMES.to_vec()
}

/// What is left of a run.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Run {
    program: Arc<pollux_asm::Program>,
    memory: Option<Memory>,
    document: String,
}

#[pymethods]
impl Run {
    /// The document of `pollux run --json`.
    fn json(&self) -> &str {
        &self.document
    }

    /// Type, shape and bytes of a buffer.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<(&'static str, Vec<u64>, Bound<'py, PyBytes>)> {
        let Some(memory) = &self.memory else {
            return Err(errors::input("the run has no values: leave out values=False"));
        };
        let buffer = buffer(&self.program, name)?;
        let bytes = memory.read_vec(buffer.address, buffer.len() as usize);
        Ok((buffer.element.name(), buffer.shape.clone(), PyBytes::new(py, &bytes)))
    }
}

/// Runs a program. The interpreter's lock is free meanwhile.
#[pyfunction]
pub fn run(py: Python<'_>, program: &Program, options: &str) -> PyResult<Run> {
    let options: Options = serde_json::from_str(options).map_err(errors::input)?;
    let program = Arc::clone(&program.0);
    let action = policy(&options.policy)?;
    let (memory, mut document) = match options.functional {
        true => functional(py, &program, action)?,
        false if options.values => cycles(py, &program, &options, action, |run| run)?,
        false => cycles(py, &program, &options, action, |run| {
            run.without_values().replay(options.replay.then(ReplayOptions::default))
        })?,
    };
    let comparisons = memory.as_ref().map(|memory| pollux::compare(&program, memory)).unwrap_or_default();
    let agrees = comparisons.iter().all(|comparison| comparison.mismatches == 0);
    document.insert("config".to_owned(), json!(program.config.name));
    document.insert("match".to_owned(), json!((!comparisons.is_empty()).then_some(agrees)));
    document.insert("expected".to_owned(), json!(comparisons));
    Ok(Run { program, memory, document: Value::Object(document).to_string() })
}

type Ran = (Option<Memory>, Map<String, Value>);

fn functional(py: Python<'_>, program: &pollux_asm::Program, action: Action) -> PyResult<Ran> {
    let interrupt = Arc::new(Interrupt::default());
    let watched = Arc::clone(&interrupt);
    let outcome = py.detach(|| pollux::Run::new(program).illegal(action).watch(move |_| watched.flow()).functional());
    let outcome = outcome.map_err(|error| errors::library(error, Some(&interrupt)))?;
    let mut document = counts(&outcome.counts);
    document.insert("warnings".to_owned(), json!(outcome.warnings));
    Ok((Some(outcome.memory), document))
}

fn counts(counts: &Counts) -> Map<String, Value> {
    let kinds = counts.commands.by_kind().into_iter().filter(|(_, count)| *count > 0);
    let kinds: Map<String, Value> = kinds.map(|(kind, count)| (kind.to_owned(), count.into())).collect();
    object(json!({
        "model": "functional", "commands": counts.host_commands, "macs": counts.macs, "bytes_in": counts.bytes_in,
        "bytes_out": counts.bytes_out, "executed": kinds, "values": true,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn cycles<'p, V: RunValues>(
    py: Python<'_>,
    program: &'p pollux_asm::Program,
    options: &Options,
    action: Action,
    with: impl FnOnce(pollux::Run<'p>) -> pollux::Run<'p, V> + Send,
) -> PyResult<Ran> {
    let memory = memory_model(&options.memory)?;
    let pricing = options.energy.as_deref().map(|table| prices(table, &program.config)).transpose()?;
    let counting = pricing.is_some().then(CountingObserver::default);
    let profiler = options.report.then(|| Profiler::new(&program.config, &program.items));
    let mut observer = (profiler, counting);
    let run = || {
        let interrupt = Arc::new(Interrupt::default());
        let watched = Arc::clone(&interrupt);
        let run = pollux::Run::new(program).memory(memory).interval(options.interval).limit(options.limit);
        let outcome = observe(with(run.illegal(action).watch(move |_| watched.flow())), &mut observer);
        // What is left of a run that ended early is not wanted.
        let outcome = outcome.map_err(|error| errors::library(error, Some(&interrupt)))?;
        Ok::<_, PyErr>((outcome.summary, outcome.memory, outcome.warnings))
    };
    let (summary, memory, warnings) = py.detach(run)?;
    let (profiler, counting) = observer;
    let report = profiler.map(|profiler| profiler.finish(&summary));
    let energy =
        pricing.zip(counting).map(|(prices, counting)| energy(program, &prices, options.clock_hz, &counting, &summary));
    let mut document = document(&summary, report.as_ref(), energy.as_ref());
    document.insert("values".to_owned(), json!(options.values));
    document.insert("warnings".to_owned(), json!(warnings));
    Ok((options.values.then_some(memory), document))
}

/// Without a report nothing looks at single cycles.
fn observe<'p, V: RunValues>(
    run: pollux::Run<'p, V>,
    observer: &mut (Option<Profiler>, Option<CountingObserver>),
) -> Result<pollux::Outcome<'p, V>, pollux::Error> {
    match observer {
        (Some(_), _) => run.observed(observer),
        (None, counting) => run.observed(counting),
    }
}

/// The keys of `pollux run --cycles --json`.
fn document(summary: &RunSummary, report: Option<&RunReport>, energy: Option<&EnergyReport>) -> Map<String, Value> {
    let traffic = &summary.traffic;
    let violations: Vec<String> = summary.violations.iter().map(|violated| violated.to_string()).collect();
    object(json!({
        "model": "cycles", "commands": summary.commands, "cycles": summary.busy_falls, "busy_cycles": summary.busy_cycles,
        "simulated_cycles": summary.simulated, "replayed_cycles": summary.replayed, "reads": traffic.reads,
        "writes": traffic.writes, "bytes_in": traffic.read_bytes, "bytes_out": traffic.written_bytes, "report": report,
        "energy": energy, "violations": violations,
    }))
}

/// The energy of a run, as `pollux run --energy` has it.
fn energy(
    program: &pollux_asm::Program,
    prices: &Prices,
    clock_hz: f64,
    counting: &CountingObserver,
    summary: &RunSummary,
) -> EnergyReport {
    let names = mark_names(&program.items);
    let operation = |operation: &CountedOperation| Counted {
        name: operation.mark.and_then(|mark| names.get(mark).cloned()).unwrap_or_default(),
        cycles: (operation.start + operation.cycles).min(summary.busy_falls).saturating_sub(operation.start),
        counts: operation.counts,
    };
    EnergyReport::new(prices, clock_hz, &counting.operations().iter().map(operation).collect::<Vec<_>>())
}
