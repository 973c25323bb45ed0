//! Running a compiled model: on the functional model, or cycle by cycle.

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use pollux_asm::Program;
use pollux_functional::{Action, Divisions, FunctionalModel, Policy};
use pollux_isa::{RoccCommand, StreamItem};
use pollux_kernels::View;
use pollux_memory::Memory;
use pollux_model::Matrix;
use pollux_sim::counts::{CountingObserver, EventCounts};
use pollux_sim::host::{Host, ScriptItem, StreamHost, stream_script};
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::{Cycle, Event, Observer};
use pollux_sim::replay::{ReplayOptions, ReplayTable, ReplayTotals};
use pollux_sim::runner::{Run, Runner};
use pollux_sim::simulation::RunSummary;
use pollux_sim::values::Timing;
use serde::Serialize;

use crate::error::CompileError;
use crate::host::{HostModel, HostStep};
use crate::operation::{Compiled, Operation};

/// The operations of one side of a host step: items of the program, and the step behind them.
#[derive(Clone, Debug)]
struct Segment {
    items: Arc<[StreamItem]>,
    /// Operations that were begun before this segment.
    operations: usize,
    /// The host step that follows, and the number of its operation.
    step: Option<(usize, HostStep)>,
}

impl Segment {
    /// Items of the script.
    fn script_len(&self) -> usize {
        self.items.len() + usize::from(self.step.is_some())
    }
}

/// Cuts the program at the marks of host steps.
fn segments(compiled: &Compiled) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut items: Vec<StreamItem> = Vec::new();
    let (mut mark, mut first) = (0, 0);
    for item in &compiled.program.items {
        if let StreamItem::Mark(_) = item {
            mark += 1;
            if let Some(step) = compiled.operations.get(mark - 1).and_then(|operation| operation.host.clone()) {
                let items = std::mem::take(&mut items).into();
                segments.push(Segment { items, operations: first, step: Some((mark - 1, step)) });
                first = mark;
                continue;
            }
        }
        items.push(item.clone());
    }
    segments.push(Segment { items: items.into(), operations: first, step: None });
    segments
}

/// Runs on the functional model; `memory` is what the program starts from.
///
/// # Errors
/// A configuration that the model does not have, or undefined behaviour.
pub fn run_functional(compiled: &Compiled, memory: Memory) -> Result<Memory, CompileError> {
    compute(compiled, memory, Policy::default()).map(FunctionalModel::into_memory)
}

/// The functional model after a run.
fn compute(compiled: &Compiled, memory: Memory, policy: Policy) -> Result<FunctionalModel, CompileError> {
    let config = compiled.program.config.clone();
    let mut model = FunctionalModel::with_policy(config, memory, policy);
    for segment in segments(compiled) {
        let mut operation = segment.operations;
        for item in segment.items.iter() {
            operation += usize::from(matches!(item, StreamItem::Mark(_)));
            let name = || compiled.operation_name(operation.checked_sub(1));
            model.run([item]).map_err(|source| CompileError::Functional { operation: name(), source })?;
        }
        if let Some((_, step)) = &segment.step {
            step.apply(model.memory_mut());
        }
    }
    Ok(model)
}

/// How the cycle-level run is set up.
#[derive(Clone, Copy, Debug)]
pub struct CycleSetup {
    /// Memory behind the accelerator's port.
    pub memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least; 0 means 1.
    pub interval: u64,
    /// Costs of the host's own work.
    pub host: HostModel,
    /// Stop after so many cycles.
    pub limit: Option<Cycle>,
    /// Count the events of each operation.
    pub count: bool,
    /// How [`time_cycles`] and [`run_apart`] [replay](pollux_sim::replay) situations that were simulated before; `None` simulates all of
    /// them, with the same cycles.
    pub replay: Option<ReplayOptions>,
    /// What [`time_cycles`] knows of the normalizer's divisors, the only values that cycles depend on.
    pub divisors: Divisors,
}

impl Default for CycleSetup {
    fn default() -> Self {
        Self {
            memory: MemoryModel::default(),
            interval: 0,
            host: HostModel::default(),
            limit: None,
            count: false,
            replay: Some(ReplayOptions::default()),
            divisors: Divisors::default(),
        }
    }
}

/// How a run that computes nothing knows which of the normalizer's divisors are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divisors {
    /// If the program normalizes, the functional model runs beside it and tells.
    #[default]
    Computed,
    /// None is taken to be zero: nothing at all is computed.
    NotZero,
}

/// When an operation was at the host: from its first command being presented until the next operation's is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationCycles {
    /// First cycle.
    pub start: Cycle,
    /// Cycles.
    pub cycles: Cycle,
}

/// What a cycle-level run did.
#[derive(Clone, Debug)]
pub struct CycleRun {
    /// Memory after the run; after [`time_cycles`] it says nothing.
    pub memory: Memory,
    /// Totals.
    pub summary: RunSummary,
    /// Cycles from the first operation to the end of the last one, host steps included.
    pub cycles: Cycle,
    /// For each operation of the compiled model.
    pub operations: Vec<OperationCycles>,
    /// Events of each operation of the compiled model, if they were counted.
    pub counts: Option<Vec<EventCounts>>,
    /// What the host's steps were reckoned with.
    pub host: HostModel,
    /// What replay did, if the run was one that can be replayed.
    pub replay: Option<ReplayTotals>,
    /// The program normalizes, and no divisor was taken to be zero ([`Divisors::NotZero`]).
    pub assumes_no_zero_divisor: bool,
}

/// Where a cycle-level run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Cycle.
    pub cycle: Cycle,
    /// Operation that is current.
    pub operation: usize,
    /// Operations in all.
    pub operations: usize,
}

/// Runs cycle by cycle; `memory` is what the program starts from. `progress` is called now and then.
///
/// # Errors
/// A deadlock, or the limit.
pub fn run_cycles(
    compiled: &Compiled,
    memory: Memory,
    setup: &CycleSetup,
    progress: &mut dyn FnMut(Position),
) -> Result<CycleRun, CompileError> {
    simulate(compiled, memory, setup, true, &mut runner(compiled, setup, progress))
}

/// Like [`run_cycles`], if nobody wants the results: the same cycles and figures, sooner. Nothing is computed, neither by the
/// accelerator nor by the host, and what was simulated before is replayed. If the accelerator normalizes, that takes a time that depends
/// on the values: then the functional model runs on another thread ([`Divisors`]).
///
/// # Errors
/// As [`run_cycles`].
pub fn time_cycles(
    compiled: &Compiled,
    memory: Memory,
    setup: &CycleSetup,
    progress: &mut dyn FnMut(Position),
) -> Result<CycleRun, CompileError> {
    time_cycles_with(compiled, memory, setup, &mut ReplayTable::new(), progress)
}

/// The same with the situations in `table`, which takes up those of this run.
///
/// # Errors
/// As [`run_cycles`].
pub fn time_cycles_with(
    compiled: &Compiled,
    memory: Memory,
    setup: &CycleSetup,
    table: &mut ReplayTable,
    progress: &mut dyn FnMut(Position),
) -> Result<CycleRun, CompileError> {
    let normalizes = Divisions::possible(&compiled.program.config, &compiled.program.items);
    if normalizes && setup.divisors == Divisors::Computed {
        return run_apart(compiled, memory, setup, table, progress);
    }
    let run = simulate(compiled, Memory::new(), setup, false, &mut timing(compiled, setup, table, progress))?;
    Ok(CycleRun { assumes_no_zero_divisor: normalizes, ..run })
}

/// Like [`run_cycles`], sooner: the functional model computes the results, on another thread, and the cycles are those of a run without
/// values that uses the situations in `table` and leaves its own there.
///
/// For programs whose results do not depend on time: those that Pollux compiles have a fence between a result in main memory and the
/// operation that reads it.
///
/// # Errors
/// As [`run_cycles`].
pub fn run_apart(
    compiled: &Compiled,
    memory: Memory,
    setup: &CycleSetup,
    table: &mut ReplayTable,
    progress: &mut dyn FnMut(Position),
) -> Result<CycleRun, CompileError> {
    let no_values = |runner: &mut Runner<'_, Timing>| simulate(compiled, Memory::new(), setup, false, runner);
    let (timed, computed) = thread::scope(|scope| {
        let (policy, before) = (Policy::all(Action::Ignore), memory.clone());
        let functional = scope.spawn(move || compute(compiled, before, policy));
        // Divisors are seldom zero.
        let timed = no_values(&mut timing(compiled, setup, table, progress));
        (timed, functional.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    if let Ok(model) = computed {
        let zero = model.divisions().zero();
        let timed = match zero {
            [] => timed,
            _ => {
                let oracle = zero.iter().copied().collect();
                no_values(&mut timing(compiled, setup, table, progress).zero_divisors(oracle))
            }
        };
        match timed {
            Ok(timed) if timed.summary.divisions != model.divisions().count() => {}
            timed => return timed.map(|timed| CycleRun { memory: model.into_memory(), ..timed }),
        }
    }
    // The functional model does not do what the accelerator does: only that one can tell.
    run_cycles(compiled, memory, setup, progress)
}

fn timing<'a>(
    compiled: &'a Compiled,
    setup: &CycleSetup,
    table: &'a mut ReplayTable,
    progress: &'a mut dyn FnMut(Position),
) -> Runner<'a, Timing> {
    runner(compiled, setup, progress).without_values().replay(setup.replay).replay_table(table)
}

fn runner<'a>(compiled: &'a Compiled, setup: &CycleSetup, progress: &'a mut dyn FnMut(Position)) -> Runner<'a> {
    let operations = compiled.operations.len();
    let watch = move |position: pollux_sim::simulation::Position| {
        progress(Position { cycle: position.cycle, operation: position.mark.unwrap_or(0), operations });
        ControlFlow::Continue(())
    };
    let limit = setup.limit.unwrap_or(Cycle::MAX);
    Runner::new(&compiled.program.config).memory(setup.memory).limit(limit).watch(watch)
}

/// Runs on a machine with or without values; so does the host.
fn simulate<V: Run>(
    compiled: &Compiled,
    mut memory: Memory,
    setup: &CycleSetup,
    values: bool,
    runner: &mut Runner<'_, V>,
) -> Result<CycleRun, CompileError> {
    let host = StepHost { values, ..StepHost::new(segments(compiled), setup, &mut memory) };
    let count = compiled.operations.len();
    let mut observer = (Starts(Vec::with_capacity(count)), setup.count.then(CountingObserver::default));
    let outcome = runner.run_host(host, memory, &mut observer).map_err(|stopped| {
        let operation = compiled.operation_name(observer.0.0.len().checked_sub(1));
        CompileError::Cycles { operation, source: stopped.error }
    })?;
    let (summary, (Starts(mut starts), counted)) = (outcome.summary, observer);
    if let Some(violated) = summary.violations.iter().find(|violated| !violated.violation.is_harmless()) {
        return Err(CompileError::Violation(violated));
    }
    starts.resize(count, summary.cycles);
    let end = end(&summary, &compiled.operations);
    let ends = starts.iter().skip(1).copied().chain([end]);
    let operations =
        starts.iter().zip(ends).map(|(&start, end)| OperationCycles { start, cycles: end.saturating_sub(start) });
    let operations = operations.collect();
    let cycles = end.saturating_sub(starts.first().copied().unwrap_or(0));
    let counts = counted.map(|counted| by_operation(&counted, count));
    let (memory, replay, host) = (outcome.memory, outcome.replay, setup.host);
    Ok(CycleRun { memory, summary, cycles, operations, counts, host, replay, assumes_no_zero_divisor: false })
}

/// The counts of each operation; one that has passed without a cycle has none.
fn by_operation(counted: &CountingObserver, operations: usize) -> Vec<EventCounts> {
    let mut counts = vec![EventCounts::default(); operations];
    for operation in counted.operations() {
        // Before the first mark stands nothing but the program's beginning.
        if let Some(counts) = counts.get_mut(operation.mark.unwrap_or(0)) {
            *counts += operation.counts;
        }
    }
    counts
}

/// First cycle of each operation that has begun.
struct Starts(Vec<Cycle>);

impl Observer for Starts {
    fn wants_events(&self) -> bool {
        false
    }

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.resize(mark + 1, cycle);
    }
}

/// The cycle in which the last operation ends: the accelerator becomes idle, or the host has finished.
fn end(summary: &RunSummary, operations: &[Operation]) -> Cycle {
    match operations.last() {
        Some(Operation { host: Some(_), .. }) => summary.cycles,
        _ => summary.busy_falls,
    }
}

/// The command source: a stream for each segment, and the host's own work in between.
#[derive(Clone, Debug)]
struct StepHost {
    segments: Vec<Segment>,
    segment: usize,
    /// Item of the script with which the segment begins.
    first_item: usize,
    stream: StreamHost,
    interval: u64,
    model: HostModel,
    /// The steps' results are wanted.
    values: bool,
    /// Cycles of the current host step that are still to pass.
    waiting: u64,
}

impl StepHost {
    fn new(segments: Vec<Segment>, setup: &CycleSetup, memory: &mut Memory) -> Self {
        let interval = setup.interval.max(1);
        let stream = StreamHost::new(segments[0].items.clone(), interval, memory);
        Self { segments, segment: 0, first_item: 0, stream, interval, model: setup.host, values: true, waiting: 0 }
    }

    fn step(&self) -> Option<&(usize, HostStep)> {
        self.segments[self.segment].step.as_ref().filter(|_| self.stream.done())
    }

    fn next_segment(&mut self, memory: &mut Memory) {
        self.first_item += self.segments[self.segment].script_len();
        self.segment += 1;
        self.stream = StreamHost::new(self.segments[self.segment].items.clone(), self.interval, memory);
    }
}

impl Host for StepHost {
    fn present(&self) -> Option<RoccCommand> {
        self.stream.present()
    }

    fn edge(&mut self, accepted: bool, busy: bool, memory: &mut Memory) -> bool {
        if self.waiting > 0 {
            self.waiting -= 1;
            let over = self.waiting == 0;
            if over {
                self.next_segment(memory);
            }
            return over;
        }
        match self.step() {
            Some((_, step)) if !busy => {
                if self.values {
                    step.apply(memory);
                }
                self.waiting = self.model.cycles(&step.work()).max(1);
                true
            }
            Some(_) => false,
            None => self.stream.edge(accepted, busy, memory),
        }
    }

    fn idle_cycles(&self) -> Option<u64> {
        if self.waiting > 0 { Some(self.waiting - 1) } else { self.stream.idle_cycles() }
    }

    fn skip(&mut self, cycles: u64) {
        if self.waiting > 0 {
            self.waiting -= cycles;
        } else {
            self.stream.skip(cycles);
        }
    }

    fn done(&self) -> bool {
        self.segment + 1 == self.segments.len() && self.stream.done()
    }

    fn position(&self) -> String {
        match self.step() {
            Some(_) => "a step of the host waits for the accelerator to become idle".to_owned(),
            None => self.stream.position(),
        }
    }

    fn mark(&self) -> Option<usize> {
        let first = self.segments[self.segment].operations;
        match self.step() {
            Some(&(operation, _)) => Some(operation),
            None => self.stream.mark().map_or(first.checked_sub(1), |mark| Some(first + mark)),
        }
    }

    /// The items of the segments, with the host's work behind each.
    fn script(&self) -> Option<Vec<ScriptItem>> {
        let mut script = Vec::new();
        for segment in &self.segments {
            script.extend(stream_script(&segment.items));
            let work = segment.step.as_ref().map(|(_, step)| self.model.cycles(&step.work()).max(1));
            script.extend(work.map(ScriptItem::Work));
        }
        Some(script)
    }

    fn place(&self) -> usize {
        self.first_item + self.stream.place()
    }

    fn jump(&mut self, item: usize, memory: &mut Memory) {
        self.waiting = 0;
        while self.segment + 1 < self.segments.len()
            && item >= self.first_item + self.segments[self.segment].script_len()
        {
            self.next_segment(memory);
        }
        self.stream.jump(item - self.first_item, memory);
    }
}

/// A buffer whose contents are not what the program expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Buffer.
    pub buffer: String,
    /// Bytes that differ.
    pub bytes: usize,
    /// Offset of the first of them.
    pub first: usize,
}

impl Mismatch {
    /// How a buffer's contents differ from the expected ones, if they do.
    pub(crate) fn between(buffer: String, actual: &[u8], expected: &[u8]) -> Option<Self> {
        let differs = |(a, b): (&u8, &u8)| a != b;
        let first = actual.iter().zip(expected).position(differs)?;
        let bytes = actual.iter().zip(expected).filter(|&pair| differs(pair)).count();
        Some(Self { buffer, bytes, first })
    }
}

/// The buffers that differ from their expected contents, and how many were compared.
pub fn mismatches(program: &Program, memory: &Memory) -> (Vec<Mismatch>, usize) {
    let expected = program.buffers.iter().filter_map(|buffer| Some((buffer, buffer.expected.as_ref()?)));
    let mut found = Vec::new();
    let mut compared = 0;
    for (buffer, expected) in expected {
        compared += 1;
        let actual = memory.read_vec(buffer.address, expected.len());
        found.extend(Mismatch::between(buffer.name.clone(), &actual, expected));
    }
    (found, compared)
}

/// An int8 matrix in memory.
pub fn read_matrix(memory: &Memory, view: &View) -> Matrix<i8> {
    let data = (0..view.rows).flat_map(|row| crate::host::read_i8(memory, view, row)).collect();
    Matrix::from_vec(view.rows, view.cols, data)
}
