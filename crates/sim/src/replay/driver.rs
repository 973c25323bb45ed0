//! Runs a program: hops over the segments that are known, simulates and records the others.

use std::ops::ControlFlow;
use std::sync::Arc;

use pollux_isa::ValidConfig;

use super::aside::{After, AsideName, heads, looked_at};
use super::field_survey::Noted;
use super::form::{write_form, write_issued};
use super::names::Names;
use super::recorder::{Beginning, Noted as Told, Recorder};
use super::script::{LoopGroups, belongs_to_loop, is_replayable, scales_loads, starts_loop};
use super::symbolic::{MOST_NEW, SymbolicHost};
use super::table::{
    End, Kept, Known, MAIN_MEMORY, Place, ReplayOptions, ReplayTotals, Segment, Surroundings, Table, command_name,
    commands_name,
};
use crate::host::{Host, ScriptItem};
use crate::machine::Machine;
use crate::memories::scale_units::ENTRIES;
use crate::memory::ReplayableMemory;
use crate::observation::event::Cycle;
use crate::observation::observer::{CountedOperation, Observer};
use crate::observation::profile::Profile;
use crate::parts::canonical::{ASIDE, Canon, Canonical, Survey};
use crate::parts::values::Timing;
use crate::port::operand_space::{self, CountedAnswers, OPERANDS, OperandSpace, OperandTag, Source};
use crate::port::pages::{PageRegisters, PageRules};
use crate::simulation::{Halt, Passed, Point, Position, RunError, RunSummary, Simulation};

/// Cycles between two boundaries, at least: a canonical form costs about as much as so many cycles.
const SHORTEST: u64 = 100;
/// A single command is a boundary if the hash of what it is ends with so many zeros, at least and at most. Whatever the number is, the
/// same commands are boundaries when a part of a program comes again.
const LEVELS: (u32, u32) = (3, 4);
/// After so many boundaries without a known segment half of the boundaries at single commands are given up.
const PATIENCE: u32 = 16;
/// Cycles between two boundaries inside an unrolled loop, at least. Each state takes some 20 KiB.
const LOOP_SPACING: u64 = 2000;
/// Hops between two looks of who watches a run.
const WATCH_HOPS: u64 = 1 << 12;

/// Who watches a run.
type Watch<'w> = dyn FnMut(Position) -> ControlFlow<()> + 'w;

/// Totals at the start of a segment.
#[derive(Clone, Copy, Debug)]
struct Start {
    item: usize,
    point: Point,
    /// Marks passed before.
    marks: usize,
}

/// Where a known segment ends.
#[derive(Clone, Copy, Debug)]
struct Until {
    item: usize,
    cycle: Cycle,
}

/// The way from the last state of which there is a machine, over known segments.
#[derive(Debug)]
struct Trail {
    from: Place,
    item: usize,
    point: Point,
    /// Where the segments end.
    passed: Vec<Until>,
}

impl Start {
    /// An operation's counts as a segment from here keeps them.
    fn relative(&self, operation: &CountedOperation) -> CountedOperation {
        let mark = operation.mark.map_or(0, |mark| mark + 1) - self.marks;
        CountedOperation { mark: Some(mark), start: operation.start - self.point.summary.cycles, ..*operation }
    }
}

/// A program that is run by replay.
pub(crate) struct Replayer<'t, H, M> {
    sim: Simulation<SymbolicHost<H>, M, Timing>,
    table: &'t mut Table<M>,
    script: Arc<[ScriptItem]>,
    groups: LoopGroups,
    options: ReplayOptions,
    names: Names,
    rules: PageRules,
    canon: Canon,
    /// The numbers that the machine has for the operands of the state in which it was last.
    tags: Vec<OperandTag>,
    totals: ReplayTotals,
    /// What adds up a stretch's cycles, if the observer wants to know.
    profiler: Option<Profile>,
    /// Zeros at the end of a single command's hash that make it a boundary.
    level: u32,
    /// Boundaries since the last known segment.
    misses: u32,
    /// State of the generator that chooses the segments to check.
    seed: u64,
}

/// What a host will do, if runs of it can be replayed.
pub(crate) fn script_of(config: &ValidConfig, host: &impl Host) -> Option<Arc<[ScriptItem]>> {
    let script = host.script()?;
    is_replayable(config, &script).then(|| script.into())
}

/// Running.
impl<'t, H: Host, M: ReplayableMemory> Replayer<'t, H, M> {
    /// A run from reset; `simulation` puts a machine between host and memory.
    pub fn new(
        config: &ValidConfig,
        (host, script): (H, Arc<[ScriptItem]>),
        table: &'t mut Table<M>,
        options: ReplayOptions,
        profiler: Option<Profile>,
        simulation: impl FnOnce(SymbolicHost<H>) -> Simulation<SymbolicHost<H>, M, Timing>,
    ) -> Self {
        let names = Names::of(config);
        let mut canon = Canon::default();
        canon.set_scaled_loads(scales_loads(config, &script, names.identity), names.identity);
        let mut sim = simulation(SymbolicHost::new(host, script.clone(), names));
        let counted = match (&profiler, sim.counting()) {
            (Some(_), _) => CountedAnswers::All,
            (None, Some(_)) => CountedAnswers::Asked,
            (None, None) => CountedAnswers::None,
        };
        sim.machine.tlb.operands = OperandSpace::with_operands(counted);
        let rules = PageRules { counted: counted > CountedAnswers::None, ..sim.machine.tlb.page_rules() };
        Self {
            sim,
            table,
            groups: LoopGroups::of(&script),
            script,
            options,
            names,
            rules,
            canon,
            tags: Vec::new(),
            totals: ReplayTotals::default(),
            profiler,
            level: LEVELS.0,
            misses: 0,
            seed: 0x5eed,
        }
    }

    /// What replay did.
    pub fn totals(&self) -> ReplayTotals {
        ReplayTotals { states: self.table.states() as u64, bytes: self.table.bytes() as u64, ..self.totals }
    }

    /// The simulation as it was left. After a hop to the program's end its machine is an earlier one, with the right totals.
    pub fn into_simulation(self) -> Simulation<SymbolicHost<H>, M, Timing> {
        self.sim
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// As [`Simulation::run_watched`]; and a segment that was simulated again and differs.
    pub fn run(
        &mut self,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut Watch<'_>,
    ) -> Result<RunSummary, RunError> {
        self.table.keep_within_limit();
        if self.simulate(Some(observer), limit, watch, None).0? == Halt::Finished {
            return Ok(self.sim.summary());
        }
        let mut place = self.arrive(PageRegisters::default())?;
        loop {
            place = match self.hop(place, observer, limit, watch)? {
                Some(place) => place,
                None => return Ok(self.sim.summary()),
            };
            place = match self.record(&place, observer, limit, watch)? {
                Some(place) => place,
                None => return Ok(self.sim.summary()),
            };
            if self.table.keep_within_limit() {
                place = self.arrive(place.pages)?;
            }
        }
    }

    /// Passes all known segments from a place on. The machine is in the state of the place before and after. None at the program's end.
    fn hop<O: Observer>(
        &mut self,
        mut place: Place,
        observer: &mut O,
        limit: Cycle,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Place>, RunError> {
        let mut away = false;
        let mut trail: Option<Trail> = None;
        while let Some((segment, end)) = self.known(&place, limit) {
            (self.level, self.misses) = (LEVELS.0, 0);
            if self.is_checked() {
                if std::mem::take(&mut away) {
                    self.restore::<O>(&place, trail.take(), watch)?;
                }
                match self.check(&place, &segment, observer, limit, watch)? {
                    Some(end) => place = end,
                    None => return Ok(None),
                }
                continue;
            }
            away = true;
            let lost = end.as_ref().is_some_and(|end| !self.table.is_kept(end));
            if lost && trail.is_none() {
                let (item, point) = (self.sim.host.at(), self.sim.point());
                trail = Some(Trail { from: place.clone(), item, point, passed: Vec::new() });
            }
            self.pass(&segment, observer);
            match end {
                Some(end) => place = end,
                None => return Ok(None),
            }
            let until = Until { item: self.sim.host.at(), cycle: self.sim.cycle() };
            match &mut trail {
                Some(trail) if lost => trail.passed.push(until),
                _ => trail = None,
            }
            if self.totals.hops.is_multiple_of(WATCH_HOPS) && watch(self.sim.position()).is_break() {
                self.restore::<O>(&place, trail, watch)?;
                return Err(self.sim.cancelled());
            }
        }
        self.misses += 1;
        if self.misses >= PATIENCE && self.level < LEVELS.1 {
            (self.level, self.misses) = (self.level + 1, 0);
        }
        if away {
            self.restore::<O>(&place, trail, watch)?;
        }
        Ok(Some(place))
    }

    /// The known segment that comes next and the place to which it leads, unless it goes beyond the limit.
    fn known(&self, place: &Place, limit: Cycle) -> Option<(Segment, Option<Place>)> {
        let ahead = &self.script[self.sim.host.at()..];
        let Known { segment, items, operands, pages } = self.table.find(place, &self.surroundings(), ahead)?;
        self.sim.cycle().checked_add(segment.passed.cycles).filter(|end| *end < limit)?;
        let end = match &segment.end {
            End::Finished => None,
            End::State(node, sources, aside) => {
                let operands = sources.iter().map(|&source| operands[usize::from(source)]).collect();
                let aside = std::array::from_fn(|part| aside[part].of(place.aside[part]));
                Some(Place { node: *node, aside, operands, pages })
            }
        };
        // As many items as there are here, and without the questions, which have their answers.
        let Segment { passed, ref marks, ref counted, ref profile, end: ref known, .. } = *segment;
        let (marks, counted, profile, known) = (marks.clone(), counted.clone(), profile.clone(), known.clone());
        Some((Segment { items, passed, marks, counted, profile, pages: Box::default(), end: known }, end))
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { rules: self.rules, names: self.names }
    }

    /// Lets a known segment pass.
    fn pass(&mut self, segment: &Segment, observer: &mut impl Observer) {
        let start = self.start();
        let cycles = start.point.summary.cycles;
        let mut marks = segment.marks.iter().peekable();
        for operation in &segment.counted {
            while let Some(&(cycle, mark)) = marks.next_if(|(cycle, _)| *cycle <= operation.start) {
                observer.mark(cycles + cycle, start.marks + mark);
            }
            let mark = (start.marks + operation.mark.unwrap_or(0)).checked_sub(1);
            observer.counted(&CountedOperation { mark, start: cycles + operation.start, ..*operation });
        }
        for &(cycle, mark) in marks {
            observer.mark(cycles + cycle, start.marks + mark);
        }
        if let (Some(sums), Some(whole)) = (&segment.profile, observer.profile()) {
            whole.add_stretch(sums, start.marks, cycles);
        }
        self.sim.pass(&segment.passed);
        self.sim.host.jump(start.item + segment.items);
        self.totals.hops += 1;
        self.totals.replayed += segment.passed.cycles;
    }

    /// Simulates from a place to a boundary and keeps what happened. The place there; none at the program's end.
    fn record(
        &mut self,
        place: &Place,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Place>, RunError> {
        let from = self.sim.host.at();
        let (segment, end) = self.segment(place, Some(observer), limit, watch, None)?;
        if let Some(segment) = segment {
            self.totals.recorded += 1;
            let ahead = &self.script[from..];
            if self.options.drop_field.is_some() {
                let Segment { items, passed, ref marks, ref pages, ref end, .. } = segment;
                self.table.fields.segment(Noted {
                    start: place.node,
                    path: commands_name(&ahead[..items], self.names),
                    pages: pages.clone(),
                    passed,
                    marks: marks.clone(),
                    end: if let End::State(node, ..) = end { Some(*node) } else { None },
                });
            }
            if let Err(known) = self.table.insert(place, &self.surroundings(), ahead, segment) {
                let cycles = known.passed.cycles;
                return Err(self
                    .sim
                    .replay_failed(format!("a segment that took {cycles} cycles before went another way")));
            }
        }
        Ok(end)
    }

    /// Simulates a known segment again and compares. The place at its end; none at the program's end.
    fn check(
        &mut self,
        place: &Place,
        known: &Segment,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Place>, RunError> {
        let until = Until { item: self.sim.host.at() + known.items, cycle: self.sim.cycle() + known.passed.cycles };
        let (found, end) = self.segment(place, Some(observer), limit, watch, Some(until))?;
        self.totals.checked += 1;
        match found {
            Some(found) if found.agrees(known) => Ok(end),
            Some(found) => {
                let reason = self.difference(known, &found);
                let cycles = known.passed.cycles;
                Err(self.sim.replay_failed(format!("a known segment of {cycles} cycles has {reason}")))
            }
            None => Err(self.sim.replay_failed("a known segment breaks a rule of the RTL".into())),
        }
    }
}

/// Explaining.
impl<H: Host, M: ReplayableMemory> Replayer<'_, H, M> {
    /// In what two recordings of a segment differ.
    fn difference(&mut self, known: &Segment, found: &Segment) -> String {
        let (End::State(before, sources, aside), End::State(now, others, held)) = (&known.end, &found.end) else {
            return "another end".to_owned();
        };
        if known.passed != found.passed {
            return format!("other totals: {:?} instead of {:?}", found.passed, known.passed);
        }
        if before == now && aside != held {
            return "a part that rests and holds something else at its end".into();
        }
        if before == now {
            return if sources == others {
                "other marks, counts or items".into()
            } else {
                "other operands at its end".into()
            };
        }
        let (Some(before), Some(now)) = (self.table.kept(*before), self.table.kept(*now)) else {
            return "another end".to_owned();
        };
        let form = |canon: &mut Canon, kept: &Kept<M>| {
            canon.begin(kept.cycle);
            kept.machine.canonical(canon);
            kept.memory.canonical(canon);
        };
        let mut canon = Canon::default();
        form(&mut canon, before);
        let bytes = canon.bytes().to_vec();
        canon.survey(Survey::default());
        form(&mut canon, now);
        format!(
            "another end: its state differs in {}",
            canon.first_difference(&bytes).unwrap_or("nothing that is seen")
        )
    }
}

/// Simulating.
impl<H: Host, M: ReplayableMemory> Replayer<'_, H, M> {
    /// Simulates to a boundary, or to a known one, and tells what happened and where that leads. What breaks a rule of the RTL is not told.
    fn segment<O: Observer>(
        &mut self,
        place: &Place,
        observer: Option<&mut O>,
        limit: Cycle,
        watch: &mut Watch<'_>,
        until: Option<Until>,
    ) -> Result<(Option<Segment>, Option<Place>), RunError> {
        let start = self.start();
        let before = heads(&self.sim.machine);
        self.sim.host.begin(self.tags.iter().copied());
        if self.options.check > 0.0 && !self.sim.machine.tlb.holds_pages(&place.pages) {
            return Err(self.sim.replay_failed("the page registers are not what they should be".into()));
        }
        // The registers may name operands whose numbers are given to others now.
        self.sim.machine.tlb.set_pages(&place.pages);
        let looking = self.sim.machine.scratchpad.looks();
        self.sim.machine.tlb.operands.begin(looking);
        let (halt, told) = self.simulate(observer, limit, watch, Some((start.item, until)));
        let (halt, Told { marks, counted, profile }) = (halt?, told);

        let sources = self.sources(place);
        let events = self.sim.machine.tlb.operands.take_events();
        let (registers, pages) = place.pages.record(self.rules, &events, |question| sources[usize::from(question.tag)]);
        let (end, to) = match halt {
            Halt::Finished => (End::Finished, None),
            Halt::Stopped => {
                let to = self.arrive(registers)?;
                let sources: Option<Box<[Source]>> =
                    self.tags.iter().map(|&tag| Some(sources[usize::from(tag)]?.0)).collect();
                let Some(sources) = sources else {
                    let reason = "an operand of the state is none of those that were known";
                    return Err(self.sim.replay_failed(reason.into()));
                };
                let aside = self.aside_after(place, start.item, before, &to)?;
                (End::State(to.node, sources, Box::new(aside)), Some(to))
            }
        };
        let now = self.sim.point();
        if now.summary.violations != start.point.summary.violations {
            return Ok((None, to));
        }
        let segment = Segment {
            items: self.sim.host.at() - start.item,
            passed: Passed::between(&start.point, &now),
            marks: marks
                .iter()
                .map(|&(cycle, mark)| (cycle - start.point.summary.cycles, mark - start.marks))
                .collect(),
            counted: counted.iter().map(|operation| start.relative(operation)).collect(),
            profile: profile.map(Box::new),
            pages,
            end,
        };
        Ok((Some(segment), to))
    }

    /// Simulates to a boundary: the first one after item `from`, or a known one; without a segment to the first command.
    fn simulate<O: Observer>(
        &mut self,
        observer: Option<&mut O>,
        limit: Cycle,
        watch: &mut Watch<'_>,
        segment: Option<(usize, Option<Until>)>,
    ) -> (Result<Halt, RunError>, Told) {
        let (from, until) = segment.map_or((None, None), |(from, until)| (Some(from), until));
        let beginning = self.beginning();
        let Self { sim, script, options, names, level, profiler, .. } = self;
        let begin = sim.cycle();
        let spacing = if options.every_command { SHORTEST } else { LOOP_SPACING };
        let mut block = None;
        // The item that was judged last, and the judgement.
        let mut judged = (usize::MAX, false);
        let stop = |sim: &mut Simulation<SymbolicHost<H>, M, Timing>| {
            tell_operands(sim);
            let at = sim.host.at();
            if let Some(until) = until {
                return at >= until.item && sim.cycle() >= until.cycle;
            }
            if from.is_some() && sim.cycle() - begin >= spacing && waits(sim, script.get(at)) {
                let before = block.replace(sim.machine.front.weight_blocks());
                if before.is_some() && before != block {
                    return true;
                }
            }
            if judged.0 != at {
                let boundary = match from {
                    // Whatever comes first: nothing has happened yet.
                    None => matches!(script.get(at), Some(ScriptItem::Command(_))),
                    Some(from) => from != at && may_be_boundary(script, at, options, *names, *level),
                };
                judged = (at, boundary);
            }
            let crowded = from.is_some() && sim.host.operands.len() >= MOST_NEW && from != Some(at);
            let long = from.is_none() || options.every_command || sim.cycle() - begin >= SHORTEST;
            (judged.1 && long || crowded) && sim.accepts_command()
        };
        let external = sim.machine.external_counters();
        Recorder::record(observer, profiler.as_mut(), beginning, external, |recorder| {
            let halt = sim.advance(recorder, limit, watch, stop);
            sim.tell_counts(recorder);
            (halt, sim.machine.external_counters())
        })
    }

    /// The state at a boundary, at which the page registers hold this.
    fn arrive(&mut self, pages: PageRegisters) -> Result<Place, RunError> {
        let Self { sim, table, canon, options, tags, groups, profiler, .. } = self;
        sim.settle();
        let cycle = sim.cycle();
        write_form(sim, groups, options.drop_field, canon);
        let pending = profiler.as_ref().map(Profile::pending);
        if let Some(pending) = &pending {
            write_issued(&pending.issued(), canon);
        }
        tags.clear();
        tags.extend_from_slice(canon.operands());
        let space = std::mem::take(&mut sim.machine.tlb.operands);
        let operands = tags.iter().map(|&tag| space.base(tag)).collect();
        let node = table.intern(canon.key(), canon.bytes(), options.check > 0.0, || {
            let (machine, memory) = (sim.machine.clone(), sim.memory.clone());
            let (operands, counting) = (tags.as_slice().into(), sim.counting());
            Kept { machine, memory, cycle, operands, counting, profile: pending.map(Box::new) }
        });
        sim.machine.tlb.operands = space;
        if let (Some(_), Ok(node)) = (options.drop_field, &node) {
            table.fields.state(*node, || canon.field_hashes());
        }
        canon.surveyed();
        let aside = std::array::from_fn(|part| {
            AsideName::of(part, canon, &sim.machine, |held, aside| table.set_aside(held, aside))
        });
        match node {
            Ok(node) => Ok(Place { node, aside, operands, pages }),
            Err(_) => Err(sim.replay_failed("two states of the accelerator have one key".into())),
        }
    }

    /// What becomes of the parts that are set aside between a place, where heads were there, and a place behind some items.
    fn aside_after(
        &self,
        from: &Place,
        item: usize,
        before: [usize; ASIDE],
        to: &Place,
    ) -> Result<[After; ASIDE], RunError> {
        let mut met = [false; ASIDE];
        for part in self.script[item..self.sim.host.at()].iter().flat_map(|item| looked_at(item, self.names)) {
            met[*part] = true;
        }
        let now = heads(&self.sim.machine);
        let mut after = to.aside.map(After::Holds);
        for part in (0..ASIDE).filter(|&part| !met[part] && from.aside[part] != AsideName::IN_FORM) {
            after[part] = After::Passed(((now[part] + ENTRIES - before[part]) % ENTRIES) as u8);
            if after[part].of(from.aside[part]) != to.aside[part] {
                return Err(self.sim.replay_failed("a part that rests has changed".into()));
            }
        }
        Ok(after)
    }

    /// Brings the machine into the state of a place that was reached by hops, on this trail if there is no machine in its state.
    fn restore<O: Observer>(
        &mut self,
        place: &Place,
        trail: Option<Trail>,
        watch: &mut Watch<'_>,
    ) -> Result<(), RunError> {
        match trail {
            None => self.install(place),
            Some(trail) => self.walk::<O>(trail, place, watch),
        }
    }

    /// Goes on with the machine that was kept in the state of a place.
    fn install(&mut self, place: &Place) -> Result<(), RunError> {
        let Some(kept) = self.table.kept(place.node) else {
            return Err(self.sim.replay_failed("there is no machine in a state that a run came to".into()));
        };
        let (machine, memory) = self.moved(kept, place);
        self.tags = kept.operands.to_vec();
        if let (Some(profiler), Some(pending)) = (&mut self.profiler, &kept.profile) {
            profiler.resume(pending);
        }
        self.sim.install(machine, memory, kept.counting.as_ref());
        Ok(())
    }

    /// The machine that was kept in the state of a place, and its memory, with the place's operands, as of now.
    fn moved(&self, kept: &Kept<M>, place: &Place) -> (Machine<Timing>, M) {
        let mut space = OperandSpace::with_operands(self.sim.machine.tlb.operands.counted());
        for (&tag, &base) in kept.operands.iter().zip(&place.operands) {
            space.set(tag, base);
        }
        let mut memory = kept.memory.clone();
        memory.shift(kept.cycle, self.sim.cycle());
        let mut machine = kept.machine.clone();
        machine.tlb.operands = space;
        machine.tlb.set_pages(&place.pages);
        for (part, &name) in place.aside.iter().enumerate() {
            if let Some(aside) = self.table.aside(name) {
                aside.install(part, name, &mut machine);
            }
        }
        (machine, memory)
    }

    /// Simulates known segments, of whose ends there are no machines, up to a place; nobody is told of it again.
    fn walk<O: Observer>(&mut self, trail: Trail, place: &Place, watch: &mut Watch<'_>) -> Result<(), RunError> {
        let there = self.sim.summary();
        let Trail { from: mut at, item, point, passed } = trail;
        self.totals.hops -= passed.len() as u64;
        self.sim.go_back(&point);
        self.sim.host.jump(item);
        self.totals.replayed -= there.replayed - self.sim.summary().replayed;
        self.install(&at)?;
        for until in passed {
            match self.segment(&at, None::<&mut O>, Cycle::MAX, watch, Some(until))? {
                (_, Some(end)) => at = end,
                (_, None) => return Err(self.sim.replay_failed("a known segment ends the program".into())),
            }
        }
        let here = self.sim.summary();
        let [here, there] = [here, there].map(|summary| RunSummary { simulated: 0, replayed: 0, ..summary });
        if (at.node, at.aside) != (place.node, place.aside) || here != there {
            return Err(self.sim.replay_failed("known segments lead to another state than they did".into()));
        }
        Ok(())
    }

    /// By number: where an operand comes from, and where it lies.
    fn sources(&self, place: &Place) -> Vec<Option<(Source, u64)>> {
        let mut sources = vec![None; OPERANDS];
        sources[usize::from(operand_space::MAIN_MEMORY)] = Some((MAIN_MEMORY, operand_space::MAIN_MEMORY_BASE));
        let state = self.tags.iter().copied().zip(place.operands.iter().copied());
        let commands = self.sim.host.operands.iter().copied();
        for (source, (tag, base)) in state.chain(commands).enumerate() {
            sources[usize::from(tag)] = Some((source as Source, base));
        }
        sources
    }

    fn beginning(&self) -> Beginning {
        Beginning { marks: self.sim.host.mark().map_or(0, |mark| mark + 1), cycle: self.sim.cycle() }
    }

    fn start(&self) -> Start {
        let Beginning { marks, .. } = self.beginning();
        Start { item: self.sim.host.at(), point: self.sim.point(), marks }
    }

    /// Whether a known segment is simulated again (SplitMix64 decides).
    fn is_checked(&mut self) -> bool {
        if self.options.check <= 0.0 {
            return false;
        }
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / ((1u64 << 53) as f64) < self.options.check
    }
}

/// Tells the machine of the operands of the command that comes next.
#[inline]
fn tell_operands<H: Host, M: ReplayableMemory>(sim: &mut Simulation<SymbolicHost<H>, M, Timing>) {
    while let Some(&(tag, address)) = sim.host.operands.get(sim.host.told) {
        sim.machine.tlb.operands.set(tag, address);
        sim.host.told += 1;
    }
}

/// Whether the host waits with its next item until the accelerator has made room, or is idle: it has no state then but its place.
fn waits<H: Host, M: ReplayableMemory>(
    sim: &Simulation<SymbolicHost<H>, M, Timing>,
    next: Option<&ScriptItem>,
) -> bool {
    match next {
        Some(ScriptItem::Command(_)) => sim.host.present().is_some() && !sim.machine.front.cmd_ready(),
        Some(ScriptItem::Fence | ScriptItem::Work(_)) => sim.host.idle_cycles().is_none(),
        _ => false,
    }
}

/// Whether a boundary may be where the command of an item is accepted.
fn may_be_boundary(script: &[ScriptItem], at: usize, options: &ReplayOptions, names: Names, level: u32) -> bool {
    let Some(ScriptItem::Command(cmd)) = script.get(at) else { return false };
    let chosen = || !belongs_to_loop(cmd) && command_name(cmd, names).trailing_zeros() >= level;
    options.every_command || starts_loop(cmd) || chosen()
}

#[cfg(test)]
mod lockstep;
