//! What a point's row says: the point is lowered, run and measured.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use pollux::{Config, Run, RunValues};
use pollux_asm::Program;
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{
    CycleRun, CycleSetup, Divisors, OperationCycles, mismatches, run_cycles, time_cycles_with,
};
use pollux_compiler::{Compiled, Plan, synthetic};
use pollux_energy::{Counted, EnergyReport, Prices};
use pollux_kernels::Mask;
use pollux_mapper::random::Random;
use pollux_mapper::search::{self, Settings};
use pollux_mapper::{Limits, Mapping, Mapspace, Operands, Problem, Surroundings};
use pollux_sim::counts::{CountingObserver, EventCounts, mark_names};
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_sim::report::{Block, Profiler, RunReport};
use pollux_sim::runner::Runner;
use pollux_sim::simulation::{RunError, RunSummary};
use serde_json::{Map, Value as Json, json};

use crate::error::SweepError;
use crate::manifest::Manifest;
use crate::mappings::Choice;
use crate::point::Point;
use crate::results::Outcome;
use crate::table::{Row, Value};
use crate::work::{Subject, Work};

/// Bytes of a worker's tables of what was simulated, those of all memories together.
const TABLE_BYTES: usize = 200 << 20;
/// Draws of a mapping that was drawn before, in a row, after which there are taken to be no others.
const MOST_REPEATS: usize = 10_000;
/// Emulated cycles that a second of a search's budget stands for, as `pollux map` has it.
const CYCLES_A_SECOND: u64 = 2_000_000;
/// Mappings that a search prices at most, as `pollux map` has it.
const EVALUATIONS: usize = 20_000;
/// Table and clock of a search whose manifest measures no energy.
const SEARCH_TABLE: &str = pollux_energy::EnergyTable::NAMES[0];
const SEARCH_CLOCK_HZ: f64 = 1e9;

/// The rows of some points, in order. `progress` is told of each point that is done; `cancelled` is asked now and then, from the
/// thread that calls.
///
/// # Errors
/// It was cancelled, or a point shows a fault of Pollux. A point that cannot be built, or is stopped, has a row that says so.
pub fn evaluate(
    manifest: &Manifest,
    range: Range<usize>,
    progress: &dyn Fn(usize),
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Row>, SweepError> {
    let mut worker = Worker { manifest, cancelled, tables: HashMap::new(), drawn: None, compiled: None };
    let mut rows = Vec::with_capacity(range.len());
    for index in range {
        rows.push(worker.row(index)?);
        progress(index);
    }
    Ok(rows)
}

/// Why a point has no figures.
enum Failed {
    Refused(String),
    Stopped(String),
    Cancelled,
    Fault(String),
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Cancelled { .. } => Self::Cancelled,
            RunError::Replay { .. } => Self::Fault(error.to_string()),
            RunError::Memory { reason } => Self::Refused(reason),
            other => Self::Stopped(other.to_string()),
        }
    }
}

impl From<pollux::Error> for Failed {
    fn from(error: pollux::Error) -> Self {
        match error {
            pollux::Error::Stopped(stopped) => stopped.error.into(),
            pollux::Error::StoppedWithoutValues(stopped) => stopped.error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<pollux_compiler::CompileError> for Failed {
    fn from(error: pollux_compiler::CompileError) -> Self {
        match error {
            pollux_compiler::CompileError::Cycles { source, .. } => source.into(),
            pollux_compiler::CompileError::Violation(violated) => Self::Stopped(violated.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What runs.
enum Runnable {
    /// A mapped operation, by a schedule.
    Mapped(Program, Mapping),
    /// A program of the user's.
    Program(Program),
    /// A model or a list, possibly with the host's part.
    Compiled(Arc<Compiled>),
}

/// What was measured.
#[derive(Default)]
struct Measured {
    cycles: u64,
    macs: Option<u64>,
    commands: u64,
    read_bytes: u64,
    written_bytes: u64,
    assumes_no_zero_divisor: bool,
    matches: Option<bool>,
    report: Option<RunReport>,
    energy: Option<(f64, f64)>,
}

impl Measured {
    fn new(cycles: u64, summary: &RunSummary) -> Self {
        let traffic = &summary.traffic;
        let (read_bytes, written_bytes) = (traffic.read_bytes, traffic.written_bytes);
        Self { cycles, commands: summary.commands, read_bytes, written_bytes, ..Self::default() }
    }
}

/// Mappings that were drawn for a problem on a configuration.
struct Drawn {
    of: (String, u64, u64, Limits),
    space: Mapspace,
    random: Random,
    mappings: Vec<Mapping>,
    seen: HashSet<Mapping>,
}

impl Drawn {
    /// The mapping of this number, each different from all before it.
    fn get(&mut self, index: usize) -> Option<Mapping> {
        let mut repeats = 0;
        while self.mappings.len() <= index && repeats < MOST_REPEATS {
            let mapping = self.space.sample_mapping(&mut self.random)?;
            match self.seen.insert(mapping) {
                true => {
                    self.mappings.push(mapping);
                    repeats = 0;
                }
                false => repeats += 1,
            }
        }
        self.mappings.get(index).copied()
    }
}

/// What is kept from one point to the next.
struct Worker<'m> {
    manifest: &'m Manifest,
    cancelled: &'m dyn Fn() -> bool,
    /// What was simulated, for each memory. Each is emptied when the configuration changes.
    tables: HashMap<String, ReplayTable>,
    drawn: Option<Drawn>,
    /// The last model or list, with its work and its configuration.
    compiled: Option<(String, u64, Arc<Compiled>)>,
}

impl Worker<'_> {
    fn row(&mut self, index: usize) -> Result<Row, SweepError> {
        if (self.cancelled)() {
            return Err(SweepError::Cancelled);
        }
        let point = self.manifest.points()[index].clone();
        let mut schedule = None;
        let measured = self.runnable(&point).and_then(|runnable| {
            if let Runnable::Mapped(_, mapping) = &runnable {
                schedule = Some(json!(mapping).to_string());
            }
            self.measure(&point, &runnable)
        });
        let (outcome, error, measured) = match measured {
            Ok(measured) => (Outcome::Ok, None, Some(measured)),
            Err(Failed::Refused(error)) => (Outcome::Refused, Some(error), None),
            Err(Failed::Stopped(error)) => (Outcome::Stopped, Some(error), None),
            Err(Failed::Cancelled) => return Err(SweepError::Cancelled),
            Err(Failed::Fault(message)) => return Err(SweepError::Point { index, message }),
        };
        let mut cells = Map::new();
        let mut set = |name: &str, value: Json| drop(cells.insert(name.to_owned(), value));
        set("outcome", json!(outcome.name()));
        set("error", json!(error));
        set("schedule", json!(schedule));
        if let Some(measured) = measured {
            self.cells(&point, &measured, &mut set);
        }
        Ok(self.cast(index, &point, cells))
    }

    /// The cells of what was measured.
    fn cells(&self, point: &Point, measured: &Measured, set: &mut impl FnMut(&str, Json)) {
        let dim = u64::from(point.config.config.dim());
        let peak = measured.cycles.saturating_mul(dim * dim);
        set("cycles", json!(measured.cycles));
        set("macs", json!(measured.macs));
        set("utilisation", json!(measured.macs.filter(|_| peak > 0).map(|macs| macs as f64 / peak as f64)));
        set("commands", json!(measured.commands));
        set("read_bytes", json!(measured.read_bytes));
        set("written_bytes", json!(measured.written_bytes));
        set("assumes_no_zero_divisor", json!(measured.assumes_no_zero_divisor));
        set("match", json!(measured.matches));
        let (energy_pj, edp_js) = measured.energy.unzip();
        set("energy_pj", json!(energy_pj));
        set("edp_js", json!(edp_js));
        let report = measured.report.as_ref();
        if let Some(mesh) = report.and_then(|report| report.blocks.iter().find(|block| block.block == Block::Mesh)) {
            let causes = mesh
                .causes
                .iter()
                .map(|cause| (json!(cause.cause).as_str().unwrap_or("").to_owned(), json!(cause.cycles)));
            set("mesh_busy", json!(mesh.busy));
            set("mesh_stalled", json!(mesh.stalled));
            set("mesh_draining", json!(mesh.draining));
            set("mesh_idle", json!(mesh.idle));
            set("cause", json!(mesh.causes.first().map(|cause| cause.cause)));
            set("causes", json!(Json::Object(causes.collect()).to_string()));
        }
    }

    /// The row in the order of the columns.
    fn cast(&self, index: usize, point: &Point, mut cells: Map<String, Json>) -> Row {
        let value = |column: &crate::table::Column| {
            let value = match column.name.as_str() {
                "point" => Value::from(index as u64),
                "id" => Value::Text(point.id.clone()),
                name => match point.get(name) {
                    Some(value) => value,
                    // Each of them is a scalar.
                    None => serde_json::from_value(cells.remove(name).unwrap_or_default()).unwrap_or_default(),
                },
            };
            column.kind.cast(&value)
        };
        Row(self.manifest.schema().0.iter().map(value).collect())
    }

    fn runnable(&mut self, point: &Point) -> Result<Runnable, Failed> {
        let config = &point.config.config;
        match &point.work.subject {
            Subject::Problem(problem) => {
                let mapping = self.mapping(point, problem)?;
                mapping.check(config, problem).map_err(|error| Failed::Refused(error.to_string()))?;
                let refused = |error: pollux_kernels::KernelError| Failed::Refused(error.to_string());
                let program = match self.manifest.measure.values {
                    false => mapping.program(config, problem),
                    true => with_values(&mapping, config, problem),
                };
                Ok(Runnable::Mapped(program.map_err(refused)?, mapping))
            }
            Subject::Program { path, contents, .. } => {
                let name = path.display().to_string();
                let program = pollux::Program::from_bytes(&name, contents.clone(), Some(config))?;
                Ok(Runnable::Program(program.into_inner()))
            }
            Subject::Transformer { .. } | Subject::List { .. } => {
                Ok(Runnable::Compiled(self.compiled(&point.work, config)?))
            }
        }
    }

    fn mapping(&mut self, point: &Point, problem: &Problem) -> Result<Mapping, Failed> {
        let config = &point.config.config;
        let around = Surroundings { memory: point.memory, interval: self.manifest.interval };
        match point.mapping.choice {
            Choice::Gemmini => Ok(Mapping::gemmini(config, problem)),
            Choice::Schedule(mapping) => Ok(mapping),
            Choice::Random { index, seed, limits } => {
                let of = (point.work.name.clone(), config.digest(), seed, limits);
                if self.drawn.as_ref().is_none_or(|drawn| drawn.of != of) {
                    let space = Mapspace::new(config, problem, &limits);
                    let random = Random::new(seed);
                    self.drawn = Some(Drawn { of, space, random, mappings: Vec::new(), seen: HashSet::new() });
                }
                let drawn = self.drawn.as_mut().and_then(|drawn| drawn.get(index));
                drawn.ok_or_else(|| Failed::Refused(format!("the space has no {} different mappings", index + 1)))
            }
            Choice::Search { method, objective, budget, seed, limits } => {
                let prices = self.prices(config)?;
                let clock_hz = self.manifest.energy.as_ref().map_or(SEARCH_CLOCK_HZ, |energy| energy.clock_hz);
                let emulated_cycles = budget.saturating_mul(CYCLES_A_SECOND);
                let (evaluations, threads, prices) = (EVALUATIONS, 1, &prices);
                let settings = Settings {
                    objective,
                    method,
                    limits,
                    emulated_cycles,
                    evaluations,
                    seed,
                    threads,
                    prices,
                    clock_hz,
                };
                let found = search::search(config, problem, &around, &settings, &mut |_| {});
                Ok(found.map_err(|error| Failed::Refused(error.to_string()))?.best.mapping)
            }
        }
    }

    /// The manifest's prices, or those that a search has by default.
    fn prices(&self, config: &Config) -> Result<Prices, Failed> {
        let prices = match &self.manifest.energy {
            Some(energy) => energy.prices(config),
            None => pollux_energy::EnergyTable::by_name(SEARCH_TABLE)
                .and_then(|table| table.prices(config))
                .map_err(|error| error.to_string()),
        };
        prices.map_err(Failed::Refused)
    }

    fn compiled(&mut self, work: &Work, config: &Config) -> Result<Arc<Compiled>, Failed> {
        if let Some((name, digest, compiled)) = &self.compiled
            && (name, *digest) == (&work.name, config.digest())
        {
            return Ok(Arc::clone(compiled));
        }
        let compiled = match &work.subject {
            Subject::List { list, .. } => list.lower(Some(config), &Plan::default())?,
            Subject::Transformer { shape, tokens } => {
                // The seeds of `pollux report --shape`: the same program.
                let layers = synthetic::encoder(shape, *tokens, 1)?;
                let input = synthetic::input(shape, *tokens, 2);
                let config = config.clone().into_inner();
                compile_parameters(config, &Plan::default(), &layers, &input, Mask::Full, &TokenCounts::new())?.compiled
            }
            Subject::Problem(_) | Subject::Program { .. } => return Err(Failed::Fault("it is no model".to_owned())),
        };
        let compiled = Arc::new(compiled);
        self.compiled = Some((work.name.clone(), config.digest(), Arc::clone(&compiled)));
        Ok(compiled)
    }

    fn measure(&mut self, point: &Point, runnable: &Runnable) -> Result<Measured, Failed> {
        let measure = self.manifest.measure;
        let cycles_only = !(measure.causes || measure.energy || measure.values);
        match runnable {
            Runnable::Mapped(program, _) => {
                let measured = if cycles_only { self.time(point, program)? } else { self.watch(point, program, 0)? };
                Ok(Measured { macs: point.work.problem().map(Problem::macs), ..measured })
            }
            Runnable::Program(program) if cycles_only => {
                let run = self.run(point, program).without_values().replay(Some(self.replay_options()));
                let outcome = run.cycles()?;
                check_rules(&outcome.summary)?;
                Ok(Measured::new(outcome.cycles(), &outcome.summary))
            }
            Runnable::Program(program) => self.watch(point, program, 0),
            Runnable::Compiled(compiled) => {
                let macs = Some(compiled.operations.iter().map(|operation| operation.work.macs).sum());
                let measured = match (!(measure.causes || measure.values), compiled.needs_host()) {
                    (true, _) => self.time_model(point, compiled)?,
                    (false, true) => self.watch_model(point, compiled)?,
                    (false, false) => self.watch(point, &compiled.program, 1)?,
                };
                Ok(Measured { macs, ..measured })
            }
        }
    }

    fn replay_options(&self) -> ReplayOptions {
        ReplayOptions { table_bytes: TABLE_BYTES / self.manifest.memories.max(1), ..ReplayOptions::default() }
    }

    fn run<'p>(&'p self, point: &Point, program: &'p Program) -> Run<'p> {
        let cancelled = self.cancelled;
        let watch = move |_| if cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let run = Run::new(program).memory(point.memory).interval(self.manifest.interval);
        run.limit(self.manifest.limit).watch(watch)
    }

    /// A mapped operation's cycles. It does not normalize, so they depend on no value at all.
    fn time(&mut self, point: &Point, program: &Program) -> Result<Measured, Failed> {
        let (options, cancelled) = (self.replay_options(), self.cancelled);
        let table = self.tables.entry(point.memory.to_string()).or_default();
        let mut runner = Runner::new(&point.config.config)
            .memory(point.memory)
            .interval(self.manifest.interval)
            .limit(self.manifest.limit.unwrap_or(u64::MAX))
            .watch(move |_| if cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            .without_values()
            .replay(Some(options))
            .replay_table(table);
        let outcome = runner.run(program.items.clone(), pollux::memory::Memory::new(), &mut NoObserver);
        let summary = outcome.map_err(|stopped| Failed::from(stopped.error))?.summary;
        check_rules(&summary)?;
        Ok(Measured::new(summary.busy_falls, &summary))
    }

    fn setup(&self, point: &Point) -> CycleSetup {
        CycleSetup {
            memory: point.memory,
            interval: self.manifest.interval,
            limit: self.manifest.limit,
            count: self.manifest.measure.energy,
            replay: Some(self.replay_options()),
            divisors: if self.manifest.no_zero_divisor { Divisors::NotZero } else { Divisors::Computed },
            ..CycleSetup::default()
        }
    }

    /// A model's cycles, and its energy from the counts of its operations.
    fn time_model(&mut self, point: &Point, compiled: &Compiled) -> Result<Measured, Failed> {
        let setup = self.setup(point);
        let table = self.tables.entry(point.memory.to_string()).or_default();
        let run = time_cycles_with(compiled, compiled.program.initial_memory(), &setup, table, &mut |_| {})?;
        let energy = self.energy(&point.config.config, operations_of(&run))?;
        let assumes_no_zero_divisor = run.assumes_no_zero_divisor;
        Ok(Measured { energy, assumes_no_zero_divisor, ..Measured::new(run.cycles, &run.summary) })
    }

    /// A model that the host takes part in, with its values and its counts.
    fn watch_model(&mut self, point: &Point, compiled: &Compiled) -> Result<Measured, Failed> {
        let run = run_cycles(compiled, compiled.program.initial_memory(), &self.setup(point), &mut |_| {})?;
        let (found, compared) = mismatches(&compiled.program, &run.memory);
        let matches = (self.manifest.measure.values && compared > 0).then_some(found.is_empty());
        let energy = self.energy(&point.config.config, operations_of(&run))?;
        Ok(Measured { matches, energy, ..Measured::new(run.cycles, &run.summary) })
    }

    /// A run in which each cycle is looked at. `first` is 1 if cycles are counted from the first operation on.
    fn watch(&mut self, point: &Point, program: &Program, first: usize) -> Result<Measured, Failed> {
        if !self.manifest.measure.values {
            let memory = point.memory.to_string();
            let mut table = self.tables.remove(&memory).unwrap_or_default();
            let run = self.run(point, program).without_values().replay(Some(self.replay_options()));
            let measured = self.observe(point, program, first, run.replay_table(&mut table));
            self.tables.insert(memory, table);
            return measured.map(|(measured, _)| measured);
        }
        let (measured, memory) = self.observe(point, program, first, self.run(point, program))?;
        let comparisons = pollux::compare(program, &memory);
        let expects = !comparisons.is_empty();
        let right = comparisons.iter().all(|comparison| comparison.mismatches == 0);
        // What was made here expects nothing: there the functional model tells.
        let equal = match (expects, &point.work.subject) {
            (true, _) => Some(right),
            (false, Subject::Program { .. }) => None,
            (false, _) => {
                let functional = self.run(point, program).functional()?;
                let same =
                    |buffer: &pollux_asm::Buffer| functional.memory.range_equals(&memory, buffer.address, buffer.len());
                Some(program.buffers.iter().all(same))
            }
        };
        Ok(Measured { matches: equal, ..measured })
    }

    fn observe<V: RunValues>(
        &self,
        point: &Point,
        program: &Program,
        first: usize,
        run: Run<'_, V>,
    ) -> Result<(Measured, pollux::memory::Memory), Failed> {
        let causes = self.manifest.measure.causes;
        let mut both = (Profiler::new(&program.config, &program.items), CountingObserver::default());
        // A run without values is replayed.
        let outcome = if causes { run.observed(&mut both)? } else { run.observed(&mut both.1)? };
        let (profiler, counting) = both;
        let summary = outcome.summary;
        check_rules(&summary)?;
        let report = causes.then(|| profiler.finish(&summary));
        let start =
            counting.operations().iter().find(|operation| operation.mark.is_some()).map_or(0, |first| first.start);
        let cycles = summary.busy_falls.saturating_sub(start * first as u64);
        let macs = Some(counting.total().mesh.macs);
        let energy = self.energy(&point.config.config, counted(program, &counting, &summary))?;
        Ok((Measured { macs, report, energy, ..Measured::new(cycles, &summary) }, outcome.memory))
    }

    fn energy(&self, config: &Config, operations: Vec<Counted>) -> Result<Option<(f64, f64)>, Failed> {
        let Some(energy) = &self.manifest.energy else { return Ok(None) };
        let prices = energy.prices(config).map_err(Failed::Refused)?;
        let total = EnergyReport::new(&prices, energy.clock_hz, &operations).total;
        Ok(Some((total.energy_pj, total.edp_js)))
    }
}

/// A run that broke a rule of the RTL is none of the hardware's.
fn check_rules(summary: &RunSummary) -> Result<(), Failed> {
    match summary.violations.iter().find(|violated| !violated.violation.is_harmless()) {
        None => Ok(()),
        Some(violated) => Err(Failed::Stopped(format!("the RTL asserts otherwise: {violated}"))),
    }
}

/// Cycles and counts of each operation of a model, if they were counted.
fn operations_of(run: &CycleRun) -> Vec<Counted> {
    let counts = run.counts.iter().flatten();
    let operation = |(operation, counts): (&OperationCycles, &EventCounts)| Counted {
        name: String::new(),
        cycles: operation.cycles,
        counts: *counts,
    };
    run.operations.iter().zip(counts).map(operation).collect()
}

/// The counts of each operation, up to the cycle in which the accelerator has become idle.
fn counted(program: &Program, counting: &CountingObserver, summary: &RunSummary) -> Vec<Counted> {
    let names = mark_names(&program.items);
    let operation = |operation: &pollux_sim::observer::CountedOperation| Counted {
        name: operation.mark.and_then(|mark| names.get(mark).cloned()).unwrap_or_default(),
        cycles: (operation.start + operation.cycles).min(summary.busy_falls).saturating_sub(operation.start),
        counts: operation.counts,
    };
    counting.operations().iter().map(operation).collect()
}

/// The program with pseudo-random operands.
fn with_values(mapping: &Mapping, config: &Config, problem: &Problem) -> Result<Program, pollux_kernels::KernelError> {
    let mut random = Random::new(1);
    let mut operand = |elements: usize| (0..elements).map(|_| random.bits() as i8).collect::<Vec<i8>>();
    let (a, b, outputs, depth) = match problem {
        Problem::Matmul(matmul) => (matmul.m * matmul.k, matmul.k * matmul.n, matmul.n, matmul.k),
        Problem::Conv(conv) => {
            let [input, weights, _] = conv.shape.views();
            (input.0 * input.1, weights.0 * weights.1, conv.shape.out_channels, weights.0)
        }
    };
    let (a, b) = (operand(a), operand(b));
    let bias: Vec<i32> = (0..outputs as i32).map(|column| column * 37 % 1000 - 500).collect();
    // Brings products of such operands to about 40 units.
    let scale = 0.007_812_5 / (depth as f32).sqrt();
    mapping.program_with(config, problem, &Operands { a: &a, b: &b, bias: &bias, scale })
}
