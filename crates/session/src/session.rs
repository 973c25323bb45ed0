//! [`Session`]: a program and a cycle, and the means to be at any other.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use pollux_asm::{Disassembler, Program};
use pollux_isa::{RoccCommand, StreamItem};
use pollux_memory::Memory;
use pollux_sim::machine::{AccRow, SpadRow};
use pollux_sim::memory::MemorySystem;
use pollux_sim::observer::Cycle;
use pollux_sim::simulation::{Reached, RunError, RunSummary};
use pollux_trace::timeline::Life;

use crate::array::{ArrayView, Heat, Passes};
use crate::condition::{Condition, marks};
use crate::engine::{Engine, EventsOnly, Everything, Setup, Watch, start};
use crate::error::SessionError;
use crate::scan::{Recent, RecentLives, Search, Side};
use crate::snapshots::Snapshots;
use crate::view::{HISTORY, View};

/// How a session runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the program runs.
    pub setup: Setup,
    /// Bytes that snapshots may take, about. Fewer make steps back slower.
    pub snapshot_bytes: usize,
}

/// Latencies of the array before the present cycle in which the beginnings of the products are looked for whose rows are in it; so many
/// times more if they are not found, as rows of one may wait for each other.
const PRODUCTS_BACK: u64 = 8;
/// Cycles after which that is given up.
const PRODUCTS_MOST: u64 = 1 << 14;

/// 432 MiB of snapshots, which leaves the whole process within 512 MB.
impl Default for Options {
    fn default() -> Self {
        Self { setup: Setup::default(), snapshot_bytes: 432 << 20 }
    }
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The cycle up to which it has looked, or down to which.
    pub cycle: Cycle,
}

/// Where a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// To a cycle in which the condition holds.
    Hit(Cycle),
    /// To the end of the run, or to its start, without a hit.
    Nothing(Cycle),
}

impl Found {
    /// The cycle at which the session is.
    pub fn cycle(self) -> Cycle {
        match self {
            Self::Hit(cycle) | Self::Nothing(cycle) => cycle,
        }
    }
}

/// The end of a run.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub engine: Engine,
    /// Why it ends, unless the program is used up.
    pub error: Option<RunError>,
}

/// Told how far a search is; ends it by [`ControlFlow::Break`].
type Watcher = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

/// A program at a cycle; see the crate.
pub struct Session {
    program: Arc<Program>,
    /// The simulation at the present cycle, with all registers up to date.
    present: Engine,
    snapshots: Snapshots,
    end: Option<Box<End>>,
    watcher: Option<Watcher>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("cycle", &self.cycle()).finish_non_exhaustive()
    }
}

/// Where it is.
impl Session {
    /// A session at cycle 0.
    ///
    /// # Errors
    /// The memory system cannot stand behind the program's configuration.
    pub fn new(program: impl Into<Arc<Program>>, options: Options) -> Result<Self, SessionError> {
        let program = program.into();
        let present = start(&program, &options.setup)?;
        let snapshots = Snapshots::new(present.clone(), &program.config, options.snapshot_bytes);
        Ok(Self { program, present, snapshots, end: None, watcher: None })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The present cycle: the one that comes next.
    pub fn cycle(&self) -> Cycle {
        self.present.cycle()
    }

    /// The last cycle, in which nothing is left to do, if the session has come to it.
    pub fn end(&self) -> Option<Cycle> {
        self.end.as_ref().map(|end| end.engine.cycle())
    }

    /// Why the run ends there, unless the program is used up: a deadlock, or a livelock.
    pub fn end_error(&self) -> Option<&RunError> {
        self.end.as_ref().and_then(|end| end.error.as_ref())
    }

    /// The session is at the end of the run.
    pub fn ended(&self) -> bool {
        self.end() == Some(self.cycle())
    }

    /// Totals up to the present.
    pub fn summary(&self) -> RunSummary {
        self.present.summary()
    }

    /// Bytes that its snapshots take, about, and how many coarse and fine ones there are.
    pub fn snapshots(&self) -> (usize, (usize, usize)) {
        (self.snapshots.bytes(), self.snapshots.counts())
    }

    /// `watcher` is told how far searches and long moves are, and ends them.
    pub fn watch(&mut self, watcher: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    fn told(&mut self, cycle: Cycle) -> Result<(), SessionError> {
        match self.watcher.as_mut().map(|watcher| watcher(Progress { cycle })) {
            Some(ControlFlow::Break(())) => Err(SessionError::Interrupted(cycle)),
            _ => Ok(()),
        }
    }
}

/// Moving.
impl Session {
    /// Goes to a cycle, before or behind the present.
    ///
    /// # Errors
    /// The run is over before it, or whoever watches ended the move; the session then stays where it is.
    pub fn goto(&mut self, cycle: Cycle) -> Result<(), SessionError> {
        let (engine, reached) = self.engine_at(cycle)?;
        if reached < cycle {
            return Err(self.past_end(cycle));
        }
        self.present = engine;
        Ok(())
    }

    /// Goes forward by so many cycles, but not behind the end of the run. The cycle that was reached.
    ///
    /// # Errors
    /// Whoever watches ended the move.
    pub fn step(&mut self, cycles: u64) -> Result<Cycle, SessionError> {
        let (engine, reached) = self.engine_at(self.cycle().saturating_add(cycles))?;
        self.present = engine;
        Ok(reached)
    }

    /// Goes back by so many cycles, but not before the start. The cycle that was reached.
    ///
    /// # Errors
    /// Whoever watches ended the move.
    pub fn back(&mut self, cycles: u64) -> Result<Cycle, SessionError> {
        self.goto(self.cycle().saturating_sub(cycles))?;
        Ok(self.cycle())
    }

    /// Goes to the end of the run. Its cycle.
    ///
    /// # Errors
    /// Whoever watches ended the move.
    pub fn goto_end(&mut self) -> Result<Cycle, SessionError> {
        self.step(Cycle::MAX)
    }

    fn past_end(&self, cycle: Cycle) -> SessionError {
        let why = self.end_error().map(|error| format!(" ({})", error.to_string().lines().next().unwrap_or("")));
        SessionError::PastEnd { cycle, end: self.end().unwrap_or(0), why: why.unwrap_or_default() }
    }

    /// The simulation at a cycle, or at the end if that comes before; and which cycle it is.
    fn engine_at(&mut self, cycle: Cycle) -> Result<(Engine, Cycle), SessionError> {
        if let Some(end) = self.end.as_ref().filter(|end| end.engine.cycle() <= cycle) {
            return Ok((end.engine.clone(), end.engine.cycle()));
        }
        self.snapshots.keep_near(cycle);
        let mut engine = self.snapshots.before(cycle);
        if (engine.cycle()..=cycle).contains(&self.cycle()) {
            engine = self.present.clone();
        }
        while engine.cycle() < cycle {
            let stop = self.snapshots.next_stop(engine.cycle(), cycle);
            match engine.run_to(&mut pollux_sim::observer::NoObserver, stop) {
                Ok(Reached::Target) => self.snapshots.offer(&engine, cycle),
                Ok(Reached::End) => return Ok(self.note_end(engine, None)),
                Err(error) => return Ok(self.note_end(engine, Some(error))),
            }
            self.told(engine.cycle())?;
        }
        Ok((engine, cycle))
    }

    /// This cycle, or the end of the run if that comes before.
    pub(crate) fn end_before(&mut self, cycle: Cycle) -> Result<Cycle, SessionError> {
        Ok(self.engine_at(cycle)?.1)
    }

    /// The run is over here.
    fn note_end(&mut self, mut engine: Engine, error: Option<RunError>) -> (Engine, Cycle) {
        engine.record(false);
        let cycle = engine.cycle();
        debug_assert!(self.end().is_none_or(|end| end == cycle), "a run has one end");
        self.end = Some(Box::new(End { engine: engine.clone(), error }));
        (engine, cycle)
    }
}

/// Looking for a condition.
impl Session {
    /// Reads a condition in the program's terms.
    ///
    /// # Errors
    /// The text means nothing.
    pub fn condition(&self, text: &str) -> Result<Condition, SessionError> {
        Ok(Condition::parse(text, &self.program)?)
    }

    /// Goes forward to the next cycle after the present in which the condition holds, or to the end of the run.
    ///
    /// # Errors
    /// Whoever watches ended the search; the session is where it was.
    pub fn run_until(&mut self, condition: &Condition) -> Result<Found, SessionError> {
        if self.ended() {
            return Ok(Found::Nothing(self.cycle()));
        }
        let first = self.cycle().saturating_add(1);
        let mut search = Search::new(condition, Side::From(first));
        // A stall is counted from its beginning.
        let mut from = first.saturating_sub(condition.lead());
        let (mut engine, at) = self.engine_at(from)?;
        if self.end() == Some(at) {
            // The next cycle is the last one, in which nothing happens; the run is not to be run beyond it.
            search.hit_named(at, at.saturating_add(1));
            self.present = engine;
            return Ok(search.found.map_or(Found::Nothing(at), Found::Hit));
        }
        engine.record(true);
        loop {
            let stop = self.snapshots.next_coarse_stop(engine.cycle());
            let reached = watched(&mut engine, &mut search, condition.needs_everything(), stop);
            search.hit_named(from, engine.cycle());
            from = engine.cycle();
            if let Some(hit) = search.found {
                self.goto(hit)?;
                return Ok(Found::Hit(hit));
            }
            match reached {
                Ok(Reached::Target) => self.snapshots.offer(&engine, Cycle::MAX),
                Ok(Reached::End) => return self.arrive(engine, None),
                Err(error) => return self.arrive(engine, Some(error)),
            }
            self.told(engine.cycle())?;
        }
    }

    fn arrive(&mut self, engine: Engine, error: Option<RunError>) -> Result<Found, SessionError> {
        let (engine, cycle) = self.note_end(engine, error);
        self.present = engine;
        Ok(Found::Nothing(cycle))
    }

    /// Goes back to the last cycle before the present in which the condition holds, or to the start of the run.
    ///
    /// # Errors
    /// Whoever watches ended the search; the session is where it was.
    pub fn reverse_until(&mut self, condition: &Condition) -> Result<Found, SessionError> {
        let mut end = self.cycle();
        while end > 0 {
            // Each interval between two snapshots is looked at once, the latest first.
            let start = self.snapshots.interval_before(end);
            let mut search = Search::new(condition, Side::Before(end));
            let (mut engine, from) = self.engine_at(start.saturating_sub(condition.lead()))?;
            engine.record(true);
            // The run has come to `end` before, so that it does so again.
            let _ = watched(&mut engine, &mut search, condition.needs_everything(), end);
            search.hit_named(from, end);
            if let Some(hit) = search.found.filter(|hit| *hit >= start) {
                self.goto(hit)?;
                return Ok(Found::Hit(hit));
            }
            end = start;
            self.told(end)?;
        }
        self.goto(0)?;
        Ok(Found::Nothing(0))
    }

    /// Runs from one cycle to another with everything watched, aside: the session stays where it is.
    pub(crate) fn look(&mut self, watch: &mut dyn Watch, from: Cycle, to: Cycle) -> Result<Reached, SessionError> {
        let (mut engine, _) = self.engine_at(from)?;
        engine.record(true);
        Ok(watched(&mut engine, watch, true, to).unwrap_or(Reached::End))
    }
}

/// The matrix products that the array is asked for from where the engine is to a cycle, to which the run has come before.
fn passes(mut engine: Engine, to: Cycle) -> Passes {
    let mut passes = Passes::new(&engine.view().station);
    engine.record(true);
    let _ = watched(&mut engine, &mut passes, true, to);
    passes
}

fn watched(engine: &mut Engine, watch: &mut dyn Watch, everything: bool, to: Cycle) -> Result<Reached, RunError> {
    match everything {
        true => engine.run_to(&mut Everything(watch), to),
        false => engine.run_to(&mut EventsOnly(watch), to),
    }
}

/// Looking into it.
impl Session {
    /// Everything in the present cycle.
    ///
    /// # Errors
    /// Whoever watches ended the replay of the cycles before.
    pub fn view(&mut self) -> Result<View, SessionError> {
        let (cycle, ended) = (self.cycle(), self.ended());
        let mut recent = Recent::default();
        let from = (cycle + 1).saturating_sub(HISTORY);
        self.look(&mut recent, from, if ended { cycle } else { cycle + 1 })?;
        Ok(View::new(&self.present, &self.program, &recent, ended))
    }

    /// The commands that were in the reservation station in the last cycles up to the present, oldest first, with the cycles of their
    /// steps as far as they have come.
    ///
    /// # Errors
    /// Whoever watches ended the replay of the cycles before.
    pub fn lives(&mut self, cycles: u64) -> Result<Vec<Life>, SessionError> {
        let cycle = self.cycle();
        let mut recent = RecentLives::default();
        // A command that entered before is seen from its first step on.
        let from = cycle.saturating_sub(cycles.max(1) * 8);
        self.look(&mut recent, from, if self.ended() { cycle } else { cycle + 1 })?;
        Ok(recent.since(cycle.saturating_sub(cycles)))
    }

    /// The operations of the program: how many there are.
    pub fn marks(&self) -> usize {
        marks(&self.program).count()
    }

    /// The systolic array in the present cycle, register by register.
    ///
    /// The fast model of the array takes a row as a whole when it enters, and is ahead of the hardware's registers by up to the array's
    /// latency. So an array of registers starts from the fast one's as long before, and takes the rows since.
    ///
    /// # Errors
    /// Whoever watches ended the replay of the cycles before.
    pub fn array(&mut self) -> Result<ArrayView, SessionError> {
        let cycle = self.cycle();
        let latency = pollux_sim::mesh_latency(&self.program.config) as u64;
        let (mut engine, _) = self.engine_at(cycle.saturating_sub(latency + 1))?;
        let mut array = engine.array(&self.program.config);
        // The run has come to this cycle before.
        let _ = engine.run_beside_array(&mut array, cycle);
        let mut view = ArrayView::new(cycle, &array);
        let matrices = view.matrices();
        let program = Arc::clone(&self.program);
        let text = Disassembler::new(&program);
        let mut back = PRODUCTS_BACK * (latency + 1);
        while view.products.len() < matrices.len() {
            let from = cycle.saturating_sub(back);
            let passes = passes(self.engine_at(from)?.0, cycle);
            view.products = passes.products(&matrices, engine.newest_product(), &text);
            if from == 0 || back > PRODUCTS_MOST {
                break;
            }
            back *= PRODUCTS_BACK;
        }
        Ok(view)
    }

    /// What the processing elements did in the last cycles before the present one.
    ///
    /// # Errors
    /// Whoever watches ended the replay of the cycles before.
    pub fn heat(&mut self, cycles: u64) -> Result<Heat, SessionError> {
        let cycle = self.cycle();
        let from = cycle.saturating_sub(cycles);
        let latency = pollux_sim::mesh_latency(&self.program.config) as u64;
        let (mut engine, _) = self.engine_at(from.saturating_sub(latency + 1))?;
        let mut array = engine.array(&self.program.config);
        // The run has come to this cycle before.
        let _ = engine.run_beside_array(&mut array, from);
        let mut heat = Heat::new(from, array.dim());
        while heat.to < cycle {
            heat.count(&array);
            let _ = engine.run_beside_array(&mut array, heat.to);
        }
        Ok(heat)
    }

    /// Elements of a scratchpad row, counted through all banks; none beyond the last one.
    pub fn scratchpad_row(&self, row: u32) -> Option<&[i8]> {
        self.present.machine.spad_row(SpadRow(row))
    }

    /// Elements of an accumulator row, counted through all banks; none beyond the last one.
    pub fn accumulator_row(&self, row: u32) -> Option<&[i32]> {
        self.present.machine.acc_row(AccRow(row))
    }

    /// Main memory.
    pub fn memory(&self) -> &Memory {
        self.present.memory.memory()
    }

    /// The commands of the host, by number, as the program has them.
    pub fn host_command(&self, number: u64) -> Option<RoccCommand> {
        let commands = self.program.items.iter().filter_map(StreamItem::command);
        commands.copied().nth(usize::try_from(number).ok()?)
    }
}
