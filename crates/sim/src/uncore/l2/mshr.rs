//! A miss status holding register: the plan of one request, and how far it is (`MSHR.scala`).
//!
//! Every request has one, hits too: it looks at the directory's answer, decides what has to happen (`s_`: still to be scheduled,
//! `w_`: still waited for), and tells the scheduler each cycle what it could do next.

use super::directory::{DirectoryWrite, Entry, Lookup, State};
use super::sink_c::ProbeResponse;
use super::sink_d::GrantResponse;
use super::source_d::DRequest;
use crate::uncore::tilelink::{AOp, BeatB, Cap, Client, Grow, LINE_BYTES, Source};

/// What is asked (`FullRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// On channel A.
    A(AOp),
    /// A Release on channel C.
    Release {
        /// With the line.
        data: bool,
        /// What the client keeps.
        keeps: Cap,
    },
}

/// A request to the L2 (`FullRequest`, `QueuedRequest.scala`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub op: Op,
    /// By whom.
    pub source: Source,
    /// Bytes.
    pub size: u32,
    /// First byte within the line.
    pub offset: u32,
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// List of the put buffer that has its data.
    pub put: usize,
}

impl Request {
    /// From channel C.
    #[inline]
    pub fn is_release(&self) -> bool {
        matches!(self.op, Op::Release { .. })
    }

    /// The client of the request among those that are probed.
    fn client_bit(&self) -> u8 {
        u8::from(self.source.client == Client::DCache)
    }

    /// The line must be writable for it (`needT`, line 268 of `Parameters.scala`).
    fn needs_t(&self) -> bool {
        match self.op {
            Op::A(op) => op.has_data() || matches!(op, AOp::AcquireBlock(grow) if grow != Grow::NtoB),
            Op::Release { .. } => true,
        }
    }

    fn acquires(&self) -> bool {
        matches!(self.op, Op::A(op) if op.acquires())
    }

    /// It writes (`!opcode(2)` on channel A).
    fn writes(&self) -> bool {
        matches!(self.op, Op::A(op) if op.has_data())
    }

    /// Whoever asks for a line has none (`skipProbeN`, line 279).
    fn skip_probe(&self) -> u8 {
        match self.op {
            Op::A(op) if !op.has_data() => self.client_bit(),
            _ => 0,
        }
    }
}

/// A line asked of memory (`SourceARequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterAcquire {
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// With its bytes; a Put that covers the line needs the permission only.
    pub block: bool,
}

/// A line given back to memory (`SourceCRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evict {
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// Way.
    pub way: usize,
    /// With its bytes.
    pub dirty: bool,
}

/// A probe of the clients (`SourceBRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// What they may keep.
    pub cap: Cap,
}

impl Probe {
    /// The message for a line at `address`.
    pub fn message(self, address: u64) -> BeatB {
        BeatB { address, cap: self.cap }
    }
}

/// Everything that an MSHR could do in this cycle; all of it or none (`ScheduleRequest`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    /// Ask memory.
    pub a: Option<OuterAcquire>,
    /// Probe.
    pub b: Option<Probe>,
    /// Evict.
    pub c: Option<Evict>,
    /// Answer.
    pub d: Option<DRequest>,
    /// Write the directory.
    pub dir: Option<DirectoryWrite>,
    /// It is done; the next request of its set can take its place.
    pub reload: bool,
}

/// What an MSHR wants to do, a bit each: the fields of its [`Schedule`] that are there, and the acknowledgement of memory's Grant, for
/// which nothing stands in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(u8);

impl Wants {
    /// Ask memory.
    pub const A: Self = Self(1);
    /// Probe.
    pub const B: Self = Self(1 << 1);
    /// Evict.
    pub const C: Self = Self(1 << 2);
    /// Answer.
    pub const D: Self = Self(1 << 3);
    /// Acknowledge memory's Grant.
    pub const E: Self = Self(1 << 4);
    /// Write the directory.
    pub const DIR: Self = Self(1 << 5);

    /// Nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Some of what is wanted is among these.
    pub fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// With this if the condition holds.
    #[must_use]
    pub fn with(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }
}

/// A change by the MSHR of channel C that the others of the set have to know (`NestedWriteback`).
#[derive(Clone, Copy, Debug)]
pub struct NestedWriteback {
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// The line became dirty.
    pub sets_dirty: bool,
}

/// What reaches an MSHR in a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct MshrInputs {
    /// The scheduler does what it asked.
    pub scheduled: bool,
    /// The MSHR of channel C finishes a Release.
    pub nested: Option<NestedWriteback>,
    /// A client answers a probe of this set.
    pub sink_c: Option<ProbeResponse>,
    /// Memory answers.
    pub sink_d: Option<GrantResponse>,
    /// The client has its Grant.
    pub sink_e: bool,
    /// A new request; true if it is of the same line as the one before.
    pub allocate: Option<(Request, bool)>,
    /// The directory's answer.
    pub directory: Option<Lookup>,
}

/// Steps of a plan. True: done, or not needed.
#[derive(Clone, Copy, Debug)]
struct Steps {
    s_rprobe: bool,
    w_rprobeackfirst: bool,
    w_rprobeacklast: bool,
    s_release: bool,
    w_releaseack: bool,
    s_pprobe: bool,
    s_acquire: bool,
    w_grantfirst: bool,
    w_grantlast: bool,
    w_grant: bool,
    w_pprobeackfirst: bool,
    w_pprobeacklast: bool,
    w_pprobeack: bool,
    s_grantack: bool,
    s_execute: bool,
    w_grantack: bool,
    s_writeback: bool,
}

impl Steps {
    const DONE: Self = Self {
        s_rprobe: true,
        w_rprobeackfirst: true,
        w_rprobeacklast: true,
        s_release: true,
        w_releaseack: true,
        s_pprobe: true,
        s_acquire: true,
        w_grantfirst: true,
        w_grantlast: true,
        w_grant: true,
        w_pprobeackfirst: true,
        w_pprobeacklast: true,
        w_pprobeack: true,
        s_grantack: true,
        s_execute: true,
        w_grantack: true,
        s_writeback: true,
    };

    /// Nothing is waited for.
    fn no_wait(&self) -> bool {
        self.w_rprobeacklast && self.w_releaseack && self.w_grantlast && self.w_pprobeacklast && self.w_grantack
    }
}

/// The register.
#[derive(Clone, Debug)]
pub struct Mshr {
    request: Option<Request>,
    meta: Option<Lookup>,
    steps: Steps,
    got_t: bool,
    probes_done: u8,
    probes_to_n: u8,
    /// What [`Mshr::wants`] says.
    wants: Wants,
}

impl Default for Mshr {
    fn default() -> Self {
        Self {
            request: None,
            meta: None,
            steps: Steps::DONE,
            got_t: false,
            probes_done: 0,
            probes_to_n: 0,
            wants: Wants::default(),
        }
    }
}

impl Mshr {
    /// The request that it has.
    #[inline]
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// The way that it works on.
    #[inline]
    pub fn way(&self) -> usize {
        self.meta.map_or(0, |meta| meta.way)
    }

    /// A Release of its set has to wait, for a few cycles (line 172).
    pub fn block_c(&self) -> bool {
        self.meta.is_none()
    }

    /// A Release of its set has to pass it (line 173).
    pub fn nest_c(&self) -> bool {
        let steps = &self.steps;
        self.meta.is_some() && (!steps.w_rprobeackfirst || !steps.w_pprobeackfirst || !steps.w_grantfirst)
    }

    /// It could do something in this cycle.
    #[inline]
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// Lines 183 to 194.
    fn find_wants(&self) -> Wants {
        let steps = &self.steps;
        if self.meta.is_none() {
            return Wants::default();
        }
        let evicts = !steps.s_release && steps.w_rprobeackfirst;
        Wants::default()
            .with(Wants::A, !steps.s_acquire && steps.s_release && steps.s_pprobe)
            .with(Wants::B, !steps.s_rprobe || !steps.s_pprobe)
            .with(Wants::C, evicts)
            .with(Wants::D, !steps.s_execute && steps.w_pprobeack && steps.w_grant)
            .with(Wants::E, !steps.s_grantack && steps.w_grantfirst)
            .with(Wants::DIR, evicts || !steps.s_writeback && steps.no_wait())
    }

    /// What it wants, in full (lines 279 to 311).
    pub fn schedule(&self, number: usize) -> Option<Schedule> {
        let (request, meta) = (self.request.as_ref()?, self.meta.as_ref()?);
        let (steps, wants) = (&self.steps, self.wants);
        let (set, tag) = (request.set, request.tag);
        let acquire = || {
            let whole = request.size == LINE_BYTES as u32 && request.op == Op::A(AOp::PutFull);
            OuterAcquire { set, tag, block: !whole }
        };
        let probe = || {
            if !steps.s_rprobe {
                return Probe { set, tag: meta.entry.tag, cap: Cap::ToN };
            }
            Probe { set, tag, cap: if request.needs_t() { Cap::ToN } else { Cap::ToB } }
        };
        let evict = || Evict { set, tag: meta.entry.tag, way: meta.way, dirty: meta.entry.dirty };
        let answer = || {
            let grant = self.grant(request, meta);
            DRequest { request: *request, grant, way: meta.way, sink: number as u8 }
        };
        let write = || {
            // While the victim leaves, its way is empty.
            let entry = if steps.s_release { self.final_meta(request, meta).entry } else { Entry::default() };
            DirectoryWrite { set, way: meta.way, entry }
        };
        Some(Schedule {
            a: wants.meets(Wants::A).then(acquire),
            b: wants.meets(Wants::B).then(probe),
            c: wants.meets(Wants::C).then(evict),
            d: wants.meets(Wants::D).then(answer),
            dir: wants.meets(Wants::DIR).then(write),
            reload: steps.no_wait(),
        })
    }

    /// What an Acquire is granted (lines 299 to 303).
    fn grant(&self, request: &Request, meta: &Lookup) -> Option<Grow> {
        let Op::A(AOp::AcquireBlock(grow)) = request.op else {
            return None;
        };
        Some(match grow {
            Grow::NtoB if self.promotes(request, meta) => Grow::NtoT,
            // Whoever has lost the line meanwhile needs its bytes as well.
            Grow::BtoT if !(meta.hit && meta.entry.clients & request.client_bit() != 0) => Grow::NtoT,
            grow => grow,
        })
    }

    /// A line that nobody else has is granted for writing (line 222).
    fn promotes(&self, request: &Request, meta: &Lookup) -> bool {
        let alone = meta.entry.clients == 0 && meta.entry.state == State::Tip;
        request.acquires() && if meta.hit { alone } else { self.got_t }
    }

    /// The record after the request (lines 216 to 250).
    fn final_meta(&self, request: &Request, meta: &Lookup) -> Lookup {
        let mut last = Lookup { hit: true, ..*meta };
        let (entry, old) = (&mut last.entry, &meta.entry);
        let bit = request.client_bit();
        if let Op::Release { data, keeps } = request.op {
            entry.dirty |= data;
            if keeps != Cap::ToT && old.state == State::Trunk {
                entry.state = State::Tip;
            }
            if keeps == Cap::ToN {
                entry.clients &= !bit;
            }
            return last;
        }
        let acquires = request.acquires();
        let writable = if acquires { State::Trunk } else { State::Tip };
        entry.dirty = meta.hit && old.dirty || request.writes();
        entry.state = match old.state {
            _ if request.needs_t() => writable,
            _ if !meta.hit => {
                if self.got_t {
                    writable
                } else {
                    State::Branch
                }
            }
            State::Invalid | State::Branch => State::Branch,
            State::Trunk => State::Tip,
            State::Tip if old.clients == 0 => writable,
            State::Tip => State::Tip,
        };
        entry.clients = if meta.hit { old.clients & !self.probes_to_n } else { 0 };
        if acquires {
            entry.clients |= bit;
        }
        entry.tag = request.tag;
        last
    }

    /// Clock edge.
    pub fn tick(&mut self, inputs: &MshrInputs) {
        let repeated = self.request.zip(self.meta).map(|(request, meta)| self.final_meta(&request, &meta));
        if let Some(nested) = inputs.nested {
            self.nested(&nested);
        }
        if inputs.scheduled {
            self.scheduled();
        }
        if let Some(response) = &inputs.sink_c {
            self.probe_acked(response);
        }
        if let Some(response) = inputs.sink_d {
            self.granted(response);
        }
        if inputs.sink_e {
            self.steps.w_grantack = true;
        }
        let mut plan = inputs.directory;
        if let Some((request, repeat)) = inputs.allocate {
            self.request = Some(request);
            self.meta = None;
            if repeat {
                plan = repeated;
            }
        }
        if let (Some(meta), Some(request)) = (plan, self.request) {
            self.plan(&request, meta);
        }
        self.wants = self.find_wants();
    }

    fn nested(&mut self, nested: &NestedWriteback) {
        let Some((request, meta)) = self.request.as_ref().zip(self.meta.as_mut()) else {
            return;
        };
        let entry = &mut meta.entry;
        if entry.state != State::Invalid && nested.set == request.set && nested.tag == entry.tag {
            entry.dirty |= nested.sets_dirty;
        }
    }

    /// Lines 197 to 213.
    fn scheduled(&mut self) {
        let steps = &mut self.steps;
        let before = *steps;
        steps.s_rprobe = true;
        steps.s_pprobe = true;
        steps.s_release |= before.w_rprobeackfirst;
        steps.s_acquire |= before.s_release && before.s_pprobe;
        steps.s_grantack |= before.w_grantfirst;
        steps.s_execute |= before.w_pprobeack && before.w_grant;
        if before.no_wait() {
            steps.s_writeback = true;
            self.request = None;
            self.meta = None;
        }
    }

    /// Lines 459 to 482.
    fn probe_acked(&mut self, response: &ProbeResponse) {
        let Some((request, meta)) = self.request.as_ref().zip(self.meta.as_mut()) else {
            return;
        };
        let bit = 1;
        let excluded = if meta.hit { request.skip_probe() } else { 0 };
        let last_probe = self.probes_done | bit == meta.entry.clients & !excluded;
        self.probes_done |= bit;
        if response.keeps == Cap::ToN {
            self.probes_to_n |= bit;
        }
        let steps = &mut self.steps;
        steps.w_rprobeackfirst |= last_probe;
        steps.w_rprobeacklast |= last_probe && response.last;
        steps.w_pprobeackfirst |= last_probe;
        steps.w_pprobeacklast |= last_probe && response.last;
        // The answer may follow right behind the probe's data if it starts with the first beat.
        steps.w_pprobeack |= last_probe && (response.last || request.offset == 0);
        if meta.entry.state != State::Invalid && response.tag == meta.entry.tag && response.data {
            meta.entry.dirty = true;
        }
    }

    /// Lines 483 to 499.
    fn granted(&mut self, response: GrantResponse) {
        let steps = &mut self.steps;
        match response {
            GrantResponse::ReleaseAck => steps.w_releaseack = true,
            GrantResponse::Grant { last } => {
                steps.w_grantfirst = true;
                steps.w_grantlast = last;
                steps.w_grant = last || self.request.is_some_and(|request| request.offset == 0);
                // Memory may always be written: `TLCacheCork` grants T.
                self.got_t = true;
            }
        }
    }

    /// Lines 539 to 647.
    fn plan(&mut self, request: &Request, meta: Lookup) {
        self.meta = Some(meta);
        self.probes_done = 0;
        self.probes_to_n = 0;
        self.got_t = false;
        let entry = &meta.entry;
        let mut steps = Steps { s_execute: false, ..Steps::DONE };
        if let Op::Release { data, keeps } = request.op {
            let dirties = data && !entry.dirty;
            let demotes = keeps == Cap::ToB && entry.state == State::Trunk;
            let leaves = keeps == Cap::ToN && entry.clients & request.client_bit() != 0;
            steps.s_writeback = !(dirties || demotes || leaves);
            self.steps = steps;
            return;
        }
        if !meta.hit && entry.state != State::Invalid {
            steps.s_release = false;
            steps.w_releaseack = false;
            if entry.clients != 0 {
                steps.s_rprobe = false;
                steps.w_rprobeackfirst = false;
                steps.w_rprobeacklast = false;
            }
        }
        let needs_t = request.needs_t();
        if !meta.hit || entry.state == State::Branch && needs_t {
            steps.s_acquire = false;
            steps.w_grantfirst = false;
            steps.w_grantlast = false;
            steps.w_grant = false;
            steps.s_grantack = false;
            steps.s_writeback = false;
        }
        let others = entry.clients & !request.skip_probe();
        if meta.hit && (needs_t || entry.state == State::Trunk) && others != 0 {
            steps.s_pprobe = false;
            steps.w_pprobeackfirst = false;
            steps.w_pprobeacklast = false;
            steps.w_pprobeack = false;
            steps.s_writeback = false;
        }
        if request.acquires() {
            steps.w_grantack = false;
            steps.s_writeback = false;
        }
        if request.writes() && meta.hit && !entry.dirty {
            steps.s_writeback = false;
        }
        self.steps = steps;
    }
}
