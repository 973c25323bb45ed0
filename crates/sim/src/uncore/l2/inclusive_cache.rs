//! The L2: MSHRs, directory and store, and the scheduler between them (`Scheduler.scala`, `InclusiveCache.scala`).
//!
//! ```text
//! A --> Q(1, flow) --> SinkA --\                          /--> SourceD --> Q(1, flow) --> D
//! C --> Q(2) --> SinkC --------> scheduler, MSHRs --------+--> SourceB --> B
//! E --> SinkE ----------------/   |         ^             +--> SourceA --> Q(2) --> A to memory
//!                             Directory   SinkD <-- Q(2) <--- D from memory
//!                                                         \--> SourceC --> C to memory
//! ```

use super::banked_store::{BankGrants, BankRequests};
use super::directory::{Directory, Entry};
use super::list_buffer::ListBuffer;
use super::mshr::{Mshr, MshrInputs, NestedWriteback, OuterAcquire, Request, Schedule, Wants};
use super::parameters::{Geometry, InclusiveCacheParameters};
use super::sink_a::{SinkA, SinkAWires};
use super::sink_c::{SinkC, SinkCWires};
use super::sink_d::OuterD;
use super::source_b::SourceB;
use super::source_c::{OuterC, SourceC};
use super::source_d::{SourceD, SourceDInputs};
use crate::uncore::tilelink::{BeatA, BeatB, BeatC, BeatD, Buffer};

/// Stands for the set of an MSHR without a request.
const NO_SET: u64 = u64::MAX;

/// An Acquire to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterA {
    /// The MSHR that asks.
    pub mshr: usize,
    /// The line.
    pub address: u64,
    /// With its bytes.
    pub block: bool,
}

/// Handshakes of a cycle. What is `Some` is taken, as the ready outputs say.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheInputs {
    /// Channel A, offered only while [`InclusiveCache::a_ready`].
    pub a: Option<BeatA>,
    /// Channel C, offered only while [`InclusiveCache::c_ready`].
    pub c: Option<BeatC>,
    /// Channel E: the sink whose Grant has arrived.
    pub e: Option<u8>,
    /// A probe is taken.
    pub b_ready: bool,
    /// The beat on channel D is taken.
    pub d_taken: bool,
    /// Memory's answer, offered only while [`InclusiveCache::outer_d_ready`].
    pub outer_d: Option<OuterD>,
    /// The Acquire to memory is taken.
    pub outer_a_taken: bool,
    /// The beat to memory is taken.
    pub outer_c_taken: bool,
}

/// The cache.
#[derive(Clone, Debug)]
pub struct InclusiveCache {
    geometry: Geometry,
    mshrs: Vec<Mshr>,
    /// The set that each of them serves, or [`NO_SET`].
    sets: Vec<u64>,
    /// Requests that wait for an MSHR of their set: those of channel A, then those of channel C.
    requests: ListBuffer<Request>,
    directory: Directory,
    /// The MSHR that the directory answers in this cycle.
    asked: Option<usize>,
    /// The MSHR after the one scheduled last.
    robin: usize,
    sink_a: SinkA,
    sink_c: SinkC,
    source_b: SourceB,
    source_c: SourceC,
    source_d: SourceD,
    a: Option<BeatA>,
    c: Buffer<BeatC>,
    d: Option<BeatD>,
    outer_a: Buffer<OuterA>,
    outer_d: Buffer<OuterD>,
    /// MSHRs with a request.
    valid: usize,
    /// The MSHR that is scheduled in this cycle, with what it does; it follows from the registers.
    scheduled: Option<(usize, Schedule)>,
}

/// The scheduler's decisions about the request in front (lines 162 to 303 of `Scheduler.scala`).
#[derive(Clone, Copy, Debug, Default)]
struct Dispatch {
    /// The request is taken.
    taken: bool,
    /// By this MSHR.
    allocate: Option<usize>,
    /// Into this queue.
    push: Option<usize>,
    /// Straight into the MSHR that finishes.
    bypass: bool,
    /// The MSHR that finishes takes the oldest of this queue.
    pop: Option<usize>,
    /// What the directory looks up, for which MSHR.
    lookup: Option<(u64, u64, usize)>,
}

impl InclusiveCache {
    /// An empty cache at a system bus of `beat_bytes`.
    pub fn new(parameters: InclusiveCacheParameters, beat_bytes: u32) -> Self {
        let geometry = Geometry::new(parameters, beat_bytes);
        Self {
            geometry,
            mshrs: vec![Mshr::default(); geometry.mshrs],
            sets: vec![NO_SET; geometry.mshrs],
            requests: ListBuffer::new(2 * geometry.mshrs, geometry.secondary),
            directory: Directory::new(&geometry),
            asked: None,
            robin: 0,
            sink_a: SinkA::new(geometry),
            sink_c: SinkC::new(geometry),
            source_b: SourceB::default(),
            source_c: SourceC::new(geometry),
            source_d: SourceD::new(geometry),
            a: None,
            c: Buffer::default(),
            d: None,
            outer_a: Buffer::default(),
            outer_d: Buffer::default(),
            valid: 0,
            scheduled: None,
        }
    }

    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The record of the line at an address, if it is there.
    pub fn line(&self, address: u64) -> Option<&Entry> {
        let (set, tag) = self.geometry.split(address);
        self.directory.peek(set, tag)
    }

    /// Puts the line at an address in, as if it had been read before the first cycle.
    pub fn warm(&mut self, address: u64) {
        let (set, tag) = self.geometry.split(address);
        self.directory.warm(set, tag);
    }

    /// A beat on channel A is taken.
    #[inline]
    pub fn a_ready(&self) -> bool {
        self.a.is_none()
    }

    /// A beat on channel C is taken.
    #[inline]
    pub fn c_ready(&self) -> bool {
        self.c.ready()
    }

    /// The beat on channel D.
    #[inline]
    pub fn d(&self) -> Option<BeatD> {
        self.d.or_else(|| self.source_d.d())
    }

    /// A beat from memory is taken.
    #[inline]
    pub fn outer_d_ready(&self) -> bool {
        self.outer_d.ready()
    }

    /// The Acquire to memory.
    #[inline]
    pub fn outer_a(&self) -> Option<&OuterA> {
        self.outer_a.front()
    }

    /// The beat to memory.
    #[inline]
    pub fn outer_c(&self) -> Option<&OuterC> {
        self.source_c.front()
    }

    /// Nothing is under way: a cycle without input changes nothing.
    pub fn idle(&self) -> bool {
        self.valid == 0
            && self.a.is_none()
            && self.d.is_none()
            && self.c.is_empty()
            && self.source_d.idle()
            && self.source_c.idle()
            && self.source_b.ready()
            && self.sink_a.is_empty()
            && self.sink_c.idle()
            && self.directory.idle()
            && self.outer_a.is_empty()
            && self.outer_d.is_empty()
    }

    /// The MSHR that is scheduled, with what it does: round robin among those that can do everything they want.
    fn schedule(&self) -> Option<(usize, Schedule)> {
        let count = self.mshrs.len();
        let (bc, c) = (count - 2, count - 1);
        // Those of channels B and C go before others of their set.
        let (bc_set, c_set) = (self.sets[bc], self.sets[c]);
        let busy = self.busy_units();
        let n = (self.robin..count).chain(0..self.robin).find(|&n| {
            let (set, wants) = (self.sets[n], self.mshrs[n].wants());
            let behind = n < bc && set == bc_set || n < c && set == c_set;
            set != NO_SET && !wants.is_empty() && !wants.meets(busy) && !behind
        })?;
        Some((n, self.mshrs[n].schedule(n)?))
    }

    /// What no MSHR can do in this cycle.
    fn busy_units(&self) -> Wants {
        Wants::default()
            .with(Wants::A, !self.outer_a.ready())
            .with(Wants::B, !self.source_b.ready())
            .with(Wants::C, !self.source_c.ready())
            .with(Wants::D, !self.source_d.ready())
            .with(Wants::DIR, !self.directory.write_ready())
    }

    /// What becomes of a request, and of the place in the MSHR that finishes.
    fn dispatch(&self, request: Option<&Request>, scheduled: Option<&(usize, Schedule)>) -> Dispatch {
        let count = self.mshrs.len();
        let reloads = scheduled.filter(|(_, schedule)| schedule.reload).map(|(n, _)| *n);
        let queued = |n: usize| [n + count, n].into_iter().find(|queue| self.requests.front(*queue).is_some());
        // The oldest request that waits for the MSHR that finishes; those of channel C first.
        let next = reloads.and_then(queued);
        let old_tag = reloads.and_then(|n| self.mshrs[n].request()).map(|request| request.tag);
        let next_tag = next.and_then(|queue| self.requests.front(queue)).map(|request| request.tag);
        let directory_taken = next.is_some() && next_tag != old_tag;
        let mut dispatch = Dispatch { pop: next, ..Dispatch::default() };
        if let Some(request) = request {
            self.place(request, reloads, directory_taken, &mut dispatch);
        }
        if let Some(n) = reloads {
            let set = self.mshrs[n].request().map_or(0, |request| request.set);
            let tag = if dispatch.bypass { request.map(|request| request.tag) } else { next_tag };
            if let Some(tag) = tag.filter(|tag| Some(*tag) != old_tag) {
                dispatch.lookup = Some((set, tag, n));
            }
        }
        dispatch
    }

    /// Where a request goes: an MSHR, the queue of one of its set, or nowhere yet.
    fn place(&self, request: &Request, reloads: Option<usize>, directory_taken: bool, dispatch: &mut Dispatch) {
        let count = self.mshrs.len();
        let (bc, c) = (count - 2, count - 1);
        let from_c = request.is_release();
        let usable = if from_c { count } else { bc };
        let serves = |n: usize| self.sets[n] == request.set;
        let Some(matching) = self.sets.iter().position(|set| *set == request.set) else {
            let free = self.sets[..usable].iter().position(|set| *set == NO_SET);
            if let Some(n) = free.filter(|_| !directory_taken) {
                dispatch.taken = true;
                dispatch.allocate = Some(n);
                dispatch.lookup = Some((request.set, request.tag, n));
            }
            return;
        };
        let matches = || (0..count).filter(|n| serves(*n));
        if from_c && matches().any(|n| self.mshrs[n].block_c()) {
            return;
        }
        if from_c && matches().any(|n| self.mshrs[n].nest_c()) {
            if !directory_taken && self.mshrs[c].request().is_none() {
                dispatch.taken = true;
                dispatch.allocate = Some(c);
                dispatch.lookup = Some((request.set, request.tag, c));
            }
            return;
        }
        // Only an MSHR of its own channel or below can take it.
        let lower = if from_c {
            [c, bc].into_iter().find(|n| serves(*n)).or(Some(matching))
        } else {
            Some(matching).filter(|n| *n < bc)
        };
        let Some(owner) = lower else {
            return;
        };
        let has = |queue: usize| self.requests.front(queue).is_some();
        let first = if has(owner + count) || from_c { !has(owner + count) } else { !has(owner) };
        if reloads == Some(owner) && first {
            dispatch.taken = true;
            dispatch.bypass = true;
            dispatch.pop = None;
        } else if self.requests.ready() {
            dispatch.taken = true;
            dispatch.push = Some(if from_c { owner + count } else { owner });
        }
    }

    /// The probe that is offered in this cycle; it does not depend on this cycle's inputs.
    pub fn b(&self) -> Option<BeatB> {
        self.source_b.front(self.probe(self.scheduled.as_ref()))
    }

    fn probe(&self, scheduled: Option<&(usize, Schedule)>) -> Option<BeatB> {
        let probe = scheduled?.1.b?;
        Some(probe.message(self.geometry.join(probe.set, probe.tag)))
    }

    /// Clock edge.
    pub fn tick(&mut self, inputs: &CacheInputs) {
        let scheduled = self.scheduled.take();
        // Requests of channel C come first.
        let c = self.c.front().copied();
        let c_wires = c.map_or(SinkCWires::default(), |beat| self.sink_c.wires(&beat));
        let a = self.a.or(inputs.a);
        let a_wires = a.map(|beat| self.sink_a.wires(&beat));
        let a_request = a_wires.and_then(|wires| wires.request);
        let request = c_wires.request.or(a_request);
        let dispatch = self.dispatch(request.as_ref(), scheduled.as_ref());
        let c_requested = c_wires.request.is_some();
        let c_taken = c.is_some_and(|beat| c_wires.probe || !c_wires.blocked && (beat.beat != 0 || dispatch.taken));
        let a_taken = a
            .zip(a_wires)
            .is_some_and(|(beat, wires)| !wires.blocked && (!beat.first || dispatch.taken && !c_requested));
        self.edge(inputs, scheduled, request.as_ref(), &dispatch, (c, c_wires, c_taken), (a, a_wires, a_taken));
    }

    /// The store, the pipelines and all registers.
    #[allow(clippy::type_complexity)]
    fn edge(
        &mut self,
        inputs: &CacheInputs,
        scheduled: Option<(usize, Schedule)>,
        request: Option<&Request>,
        dispatch: &Dispatch,
        (c, c_wires, c_taken): (Option<BeatC>, SinkCWires, bool),
        (a, a_wires, a_taken): (Option<BeatA>, Option<SinkAWires>, bool),
    ) {
        let schedule = scheduled.map_or(Schedule::default(), |(_, schedule)| schedule);
        let selected = scheduled.map(|(n, _)| n);
        let evict = schedule.c.zip(selected);
        let c_out = self.source_c.wires(evict);
        let d_out = self.source_d.wires(schedule.d);
        let (banks, grants, outer_d) = self.arbitrate(&c_out, &d_out);
        let put = self.source_d.pops();
        let put_beat = put.and_then(|(list, from_c)| {
            if from_c { self.sink_c.has_beat(list).then_some(u8::MAX) } else { self.sink_a.put_beat(list) }
        });
        let d_beat = self.source_d.d();
        let d_inputs = SourceDInputs {
            read_granted: grants.source_d_read,
            write_granted: grants.source_d_write,
            put_beat,
            d_ready: self.d.is_none(),
        };

        self.tick_mshrs(inputs, &scheduled, request, dispatch, c_wires.response.filter(|_| c_taken), outer_d);
        let write = schedule.dir;
        self.directory.tick(dispatch.lookup.map(|(set, tag, _)| (set, tag)), write);
        self.asked = dispatch.lookup.map(|(_, _, n)| n);
        let push = dispatch.push.zip(request.copied());
        self.requests.tick(dispatch.pop, push);
        if let Some(n) = selected {
            self.robin = (n + 1) % self.mshrs.len();
        }

        let pop = self.source_d.tick(&d_out, &d_inputs);
        let from_c = put.is_some_and(|(_, from_c)| from_c);
        let taken = c.as_ref().filter(|_| c_taken).map(|beat| (beat, &c_wires));
        self.sink_c.tick(taken, pop.filter(|_| from_c));
        let taken = a.as_ref().zip(a_wires.as_ref()).filter(|_| a_taken);
        self.sink_a.tick(taken, pop.filter(|_| !from_c));
        self.source_b.tick(self.probe(scheduled.as_ref()), inputs.b_ready);
        self.source_c.tick(&c_out, banks.source_c != 0 && grants.source_c, inputs.outer_c_taken);

        self.a = if a_taken { None } else { a };
        self.c.tick(c_taken, inputs.c);
        // What the client does not take at once waits in the queue behind `SourceD`.
        let offered = self.d.or(d_beat);
        self.d = if inputs.d_taken { None } else { offered };
        let ask = schedule.a.zip(selected);
        let ask = ask.map(|(ask, mshr)| self.outer_message(&ask, mshr));
        self.outer_a.tick(inputs.outer_a_taken, ask);
        self.outer_d.tick(outer_d.is_some(), inputs.outer_d);
        self.valid = self.sets.iter().filter(|set| **set != NO_SET).count();
        self.scheduled = if self.valid == 0 { None } else { self.schedule() };
    }

    fn outer_message(&self, ask: &OuterAcquire, mshr: usize) -> OuterA {
        OuterA { mshr, address: self.geometry.join(ask.set, ask.tag), block: ask.block }
    }

    /// Who gets the banks, and the beat from memory that is taken.
    fn arbitrate(
        &self,
        c_out: &super::source_c::SourceCWires,
        d_out: &super::source_d::SourceDWires,
    ) -> (BankRequests, BankGrants, Option<OuterD>) {
        let evict_safe = c_out.line.is_none_or(|(evict, _)| self.source_d.safe(evict.set, evict.way));
        let outer_d = self.outer_d.front().copied();
        let safe = outer_d.filter(|beat| {
            let mshr = &self.mshrs[beat.mshr];
            let set = mshr.request().map_or(0, |request| request.set);
            !beat.first() || self.source_d.safe(set, mshr.way())
        });
        let sink_d = safe.map_or(0, |beat| {
            let set = self.mshrs[beat.mshr].request().map_or(0, |request| request.set);
            beat.banks(&self.geometry, set)
        });
        let banks = BankRequests {
            sink_c: self.sink_c.store(),
            source_c: self.source_c.banks(c_out, evict_safe),
            sink_d,
            source_d_write: d_out.write,
            source_d_read: d_out.read,
        };
        let grants = banks.arbitrate();
        (banks, grants, safe.filter(|_| grants.sink_d))
    }

    fn tick_mshrs(
        &mut self,
        inputs: &CacheInputs,
        scheduled: &Option<(usize, Schedule)>,
        request: Option<&Request>,
        dispatch: &Dispatch,
        probe: Option<super::sink_c::ProbeResponse>,
        outer_d: Option<OuterD>,
    ) {
        let result = self.asked.and_then(|n| Some((n, self.directory.result()?)));
        let c = self.mshrs.len() - 1;
        let nested = scheduled.as_ref().filter(|(n, _)| *n == c).and_then(|(n, schedule)| {
            let request = self.mshrs[*n].request()?;
            let sets_dirty = schedule.dir.is_some_and(|write| write.entry.dirty);
            Some(NestedWriteback { set: request.set, tag: request.tag, sets_dirty })
        });
        let popped = dispatch.pop.and_then(|queue| self.requests.front(queue).copied());
        let reloads = scheduled.as_ref().filter(|(_, schedule)| schedule.reload).map(|(n, _)| *n);
        let selected = scheduled.as_ref().map(|(n, _)| *n);
        for (n, mshr) in self.mshrs.iter_mut().enumerate() {
            let set = self.sets[n];
            let told = selected == Some(n)
                || dispatch.allocate == Some(n)
                || outer_d.is_some_and(|beat| beat.mshr == n)
                || result.is_some_and(|(asked, _)| asked == n)
                || inputs.e == Some(n as u8)
                || set != NO_SET && (nested.is_some() || probe.is_some_and(|response| response.set == set));
            if !told {
                continue;
            }
            let old_tag = mshr.request().map(|request| request.tag);
            let reloaded = if dispatch.bypass { request.copied() } else { popped };
            let reload = reloaded.filter(|_| reloads == Some(n)).map(|request| (request, old_tag == Some(request.tag)));
            let fresh = request.filter(|_| dispatch.allocate == Some(n)).map(|request| (*request, false));
            let inputs = MshrInputs {
                scheduled: selected == Some(n),
                nested,
                sink_c: probe.filter(|response| response.set == set),
                sink_d: outer_d.filter(|beat| beat.mshr == n).and_then(|beat| beat.response()),
                sink_e: inputs.e == Some(n as u8),
                allocate: reload.or(fresh),
                directory: result.filter(|(asked, _)| *asked == n).map(|(_, lookup)| lookup),
            };
            mshr.tick(&inputs);
            self.sets[n] = mshr.request().map_or(NO_SET, |request| request.set);
        }
    }
}
