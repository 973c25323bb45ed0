//! The data cache (`DCache.scala`): 16 KiB, 4 ways, blocking, with two pending stores, write-back, probed by the L2.

use super::lfsr::Lfsr;
use pollux_sim::uncore::tilelink::{AOp, BeatA, BeatB, BeatC, BeatD, COp, Cap, Client, DOp, Grow, LINE_BYTES, Source};

/// Sets and ways.
const SETS: u64 = 64;
const WAYS: usize = 4;
/// Cycles after a Grant in which no probe is taken (`blockProbeAfterGrantCycles`).
const BLOCK_PROBE: u8 = 8;
const SOURCE: Source = Source { client: Client::DCache, id: 0 };

/// Permission for a line (`ClientStates`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coherence {
    /// None.
    #[default]
    Nothing,
    /// To read.
    Branch,
    /// To write; it has not been.
    Trunk,
    /// It has been written.
    Dirty,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    line: u64,
    state: Coherence,
}

/// An access of the core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// First byte.
    pub address: u64,
    /// Its bytes within the 8-byte word.
    pub mask: u8,
    /// It reads.
    pub read: bool,
    /// It writes.
    pub write: bool,
}

impl Access {
    fn line(&self) -> u64 {
        self.address / LINE_BYTES
    }

    /// Bits of the address that the hazard checks compare: below the tag.
    fn word(&self) -> u64 {
        self.address / 8 % (SETS * LINE_BYTES / 8)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Stage2 {
    access: Access,
    nacked: bool,
    /// Way and state of the line.
    hit: Option<(usize, Coherence)>,
    victim: usize,
}

impl Stage2 {
    /// The access can be done (`onAccess`).
    fn hits(&self) -> bool {
        self.hit.is_some_and(
            |(_, state)| if self.access.write { state >= Coherence::Trunk } else { state > Coherence::Nothing },
        )
    }

    fn grow(&self) -> Grow {
        match (self.access.write, self.hit) {
            (false, _) => Grow::NtoB,
            (true, None) => Grow::NtoT,
            (true, Some(_)) => Grow::BtoT,
        }
    }
}

/// What a line is given up for (`release_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Release {
    #[default]
    Ready,
    VoluntaryWriteback,
    VoluntaryWriteMeta,
    ProbeDirty,
    ProbeClean,
    ProbeMiss,
    ProbeWriteMeta,
}

/// The line that is given up, or probed.
#[derive(Clone, Copy, Debug, Default)]
struct Leaving {
    line: u64,
    way: usize,
    /// State afterwards.
    after: Coherence,
}

/// The cache.
#[derive(Clone, Debug)]
pub struct DCache {
    tags: Vec<Tag>,
    /// The access in stage 1 is the one of the core's memory stage.
    s1_valid: bool,
    s2: Option<Stage2>,
    s1_probe: bool,
    s2_probe: bool,
    probe: Option<BeatB>,
    probed: Option<(usize, Coherence)>,
    release: Release,
    leaving: Leaving,
    /// Beats of the line that have left, and those read from the array in the last two cycles.
    sent: u32,
    reading: [bool; 2],
    grant_wait: bool,
    grant_in_progress: bool,
    refill_way: usize,
    /// Access that waits for its line.
    refill: Access,
    release_wait: Option<u64>,
    block_probe: u8,
    was_nacked: bool,
    pstore1: Access,
    pstore1_held: bool,
    pstore2: Option<Access>,
    lfsr: Lfsr,
    line_beats: u32,
}

/// Outcome of the access in stage 2, which is the one of the core's writeback stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response {
    /// It is done.
    pub valid: bool,
    /// It has to be repeated.
    pub nack: bool,
}

/// What the core does in a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct DCacheInputs {
    /// The execute stage has an access, which reads or not.
    pub request: Option<bool>,
    /// The access in stage 1, if the core's memory stage has one.
    pub s1: Option<Access>,
    /// It is dropped.
    pub s1_kill: bool,
    /// The line asked for was accepted.
    pub a_fire: bool,
    /// The beat on channel C was accepted.
    pub c_fire: bool,
    /// A probe is offered.
    pub b: Option<BeatB>,
    /// An answer is offered.
    pub d: Option<BeatD>,
}

/// Handshakes that depend on the inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct DCacheWires {
    /// The request of the execute stage is taken.
    pub ready: bool,
    /// The probe is taken.
    pub b_taken: bool,
    /// The answer is taken.
    pub d_taken: bool,
    /// The Grant's sink, to be acknowledged.
    pub e: Option<u8>,
    s1_nack: bool,
    drain: bool,
}

impl DCache {
    /// An empty cache at a bus that carries a line in so many beats.
    pub fn new(line_beats: u32) -> Self {
        Self {
            tags: vec![Tag::default(); SETS as usize * WAYS],
            s1_valid: false,
            s2: None,
            s1_probe: false,
            s2_probe: false,
            probe: None,
            probed: None,
            release: Release::Ready,
            leaving: Leaving::default(),
            sent: 0,
            reading: [false; 2],
            grant_wait: false,
            grant_in_progress: false,
            refill_way: 0,
            refill: Access::default(),
            release_wait: None,
            block_probe: 0,
            was_nacked: false,
            pstore1: Access::default(),
            pstore1_held: false,
            pstore2: None,
            lfsr: Lfsr::default(),
            line_beats,
        }
    }

    fn slot(line: u64, way: usize) -> usize {
        (line % SETS) as usize * WAYS + way
    }

    fn find(&self, line: u64) -> Option<(usize, Coherence)> {
        (0..WAYS).find_map(|way| {
            let tag = &self.tags[Self::slot(line, way)];
            (tag.line == line && tag.state != Coherence::Nothing).then_some((way, tag.state))
        })
    }

    /// State of a line.
    pub fn line(&self, address: u64) -> Coherence {
        self.find(address / LINE_BYTES).map_or(Coherence::Nothing, |(_, state)| state)
    }

    /// Outcome of the access in stage 2.
    pub fn response(&self) -> Response {
        match &self.s2 {
            Some(s2) => {
                let valid = !s2.nacked && s2.hits();
                Response { valid, nack: !valid }
            }
            None => Response::default(),
        }
    }

    /// No access and no line is under way (`ordered`).
    pub fn ordered(&self) -> bool {
        !(self.s1_valid || self.s2.is_some() || self.grant_wait)
    }

    /// It waits for a line.
    pub fn waits(&self) -> bool {
        self.grant_wait
    }

    /// It stays as it is until something reaches it; it may wait for a line.
    pub fn stands(&self) -> bool {
        !self.s1_valid
            && self.s2.is_none()
            && self.release == Release::Ready
            && !self.s1_probe
            && !self.s2_probe
            && !self.pstore1_held
            && self.pstore2.is_none()
            && self.block_probe == 0
            && !self.was_nacked
    }

    /// The access that misses in this cycle (`s2_valid_cached_miss`).
    fn missing(&self) -> Option<&Stage2> {
        self.s2.as_ref().filter(|s2| !s2.nacked && !s2.hits())
    }

    /// The line that leaves for it.
    fn victim(&self, s2: &Stage2) -> (usize, Tag) {
        let way = s2.hit.map_or(s2.victim, |(way, _)| way);
        (way, self.tags[Self::slot(s2.access.line(), way)])
    }

    /// The line that it asks for (`tl_out_a`).
    pub fn a(&self) -> Option<BeatA> {
        let s2 = self.missing()?;
        let line = s2.access.line();
        // No request while the line itself is on its way out, or a dirty one has to leave first.
        let dirty = s2.hit.is_none() && self.victim(s2).1.state == Coherence::Dirty;
        if dirty || self.release_wait == Some(line) {
            return None;
        }
        let op = AOp::AcquireBlock(s2.grow());
        let (address, size) = (line * LINE_BYTES, LINE_BYTES as u32);
        Some(BeatA { op, source: SOURCE, address, size, first: true, last: true, words: 0 })
    }

    /// The beat that it offers on channel C.
    pub fn c(&self) -> Option<BeatC> {
        let probe = self.probe.unwrap_or(BeatB { address: 0, cap: Cap::ToN });
        let keeps = |state| match probe.cap {
            Cap::ToN => Cap::ToN,
            _ if state == Coherence::Nothing => Cap::ToN,
            cap => cap,
        };
        let ack = |state| BeatC {
            op: COp::ProbeAck,
            data: false,
            source: SOURCE,
            address: probe.address,
            keeps: keeps(state),
            beat: 0,
            last: true,
        };
        match self.release {
            _ if self.s2_probe => {
                let state = self.probed.map_or(Coherence::Nothing, |(_, state)| state);
                (state != Coherence::Dirty).then(|| ack(state))
            }
            Release::ProbeMiss => Some(ack(Coherence::Nothing)),
            Release::ProbeClean => Some(ack(Coherence::Trunk)),
            Release::ProbeDirty | Release::VoluntaryWriteback => {
                let first = self.sent == 0;
                if !self.reading[1] || first && self.release_wait.is_some() {
                    return None;
                }
                let probe = self.release == Release::ProbeDirty;
                Some(BeatC {
                    op: if probe { COp::ProbeAck } else { COp::Release },
                    data: true,
                    source: SOURCE,
                    address: self.leaving.line * LINE_BYTES,
                    keeps: if probe { keeps(Coherence::Dirty) } else { Cap::ToN },
                    beat: self.sent,
                    last: self.sent + 1 == self.line_beats,
                })
            }
            _ => None,
        }
    }

    /// An access that depends on a pending store.
    fn hazard(&self, access: &Access) -> bool {
        let depends = |store: &Access| store.word() == access.word() && store.mask & access.mask != 0;
        access.read && (self.pstore1_likely() && depends(&self.pstore1) || self.pstore2.as_ref().is_some_and(depends))
    }

    fn s2_store(&self) -> bool {
        self.s2.as_ref().is_some_and(|s2| s2.access.write)
    }

    fn pstore1_likely(&self) -> bool {
        self.s2_store() || self.pstore1_held
    }

    fn pstore1_valid(&self) -> bool {
        self.pstore1_held || self.s2_store() && self.response().valid
    }

    /// The handshakes of a cycle.
    pub fn wires(&self, inputs: &DCacheInputs) -> DCacheWires {
        let mut wires = DCacheWires::default();
        let response = self.response();
        let updates = self.update_meta().is_some();
        let hazard = self.s1_valid && inputs.s1.is_some_and(|access| self.hazard(&access));
        let probe_nack = self.s2_probe && self.probed.is_some();
        wires.s1_nack = response.nack || updates || hazard || probe_nack;
        wires.drain = self.drains(inputs);
        let refills = matches!(inputs.d, Some(BeatD { op: DOp::Grant { data: true, .. }, .. }));
        let accepts_grant = !matches!(self.release, Release::VoluntaryWriteback | Release::VoluntaryWriteMeta);
        if let Some(beat) = &inputs.d {
            let cached = matches!(beat.op, DOp::Grant { .. });
            let blocked = refills && wires.drain;
            wires.d_taken = !cached || accepts_grant && !blocked;
            if cached && wires.d_taken && beat.beat == 0 {
                wires.e = Some(beat.sink);
            }
        }
        // Reads of the array come after pending stores, refills and lines that leave.
        let reads = inputs.request == Some(true);
        let releases = self.reads_leaving();
        let array_busy = wires.drain || refills && accepts_grant || releases;
        let writes_meta = updates
            || wires.d_taken && inputs.d.is_some_and(|beat| beat.last && matches!(beat.op, DOp::Grant { .. }))
            || matches!(self.release, Release::VoluntaryWriteMeta | Release::ProbeWriteMeta)
            || inputs.b.is_some() && self.block_probe == 0;
        wires.ready = self.release == Release::Ready
            && !self.grant_wait
            && !wires.s1_nack
            && (!reads || !array_busy)
            && !writes_meta;
        wires.b_taken = inputs.b.is_some_and(|probe| self.takes_probe(&probe));
        wires
    }

    fn takes_probe(&self, probe: &BeatB) -> bool {
        let in_flight = self.s1_probe || self.s2_probe || self.release != Release::Ready;
        let awaited = self.release_wait == Some(probe.address / LINE_BYTES);
        // Before it in the tag array: changes by hits, refills and lines that leave.
        let array_free = self.update_meta().is_none();
        array_free
            && self.block_probe == 0
            && !in_flight
            && !awaited
            && !self.grant_in_progress
            && !self.s1_valid
            && self.s2.is_none()
    }

    /// A store that makes its line dirty.
    fn update_meta(&self) -> Option<usize> {
        let s2 = self.s2.as_ref().filter(|s2| !s2.nacked && s2.access.write)?;
        let (way, state) = s2.hit?;
        (state == Coherence::Trunk).then_some(way)
    }

    /// A pending store is written into the array (`should_pstore_drain`).
    fn drains(&self, inputs: &DCacheInputs) -> bool {
        let opportunity = inputs.request != Some(true);
        let releasing = self.s1_probe || self.s2_probe || self.release != Release::Ready;
        let on_miss = releasing || self.was_nacked;
        let s1_write = self.s1_valid && inputs.s1.is_some_and(|access| access.write);
        let rmw = self.pstore1.read;
        let structural = self.pstore1_likely() && self.pstore2.is_some() && (s1_write || rmw);
        structural || (self.pstore1_valid() && !rmw || self.pstore2.is_some()) && (opportunity || on_miss)
    }

    /// The beat that was read cannot leave: the line before has not been acknowledged.
    fn stuck(&self) -> bool {
        self.reading[1] && self.c().is_none()
    }

    fn reads_leaving(&self) -> bool {
        let writeback = matches!(self.release, Release::VoluntaryWriteback | Release::ProbeDirty);
        let under_way = if self.stuck() { 0 } else { u32::from(self.reading[0]) + u32::from(self.reading[1]) };
        writeback && self.sent + under_way < self.line_beats
    }

    /// Clock edge.
    pub fn tick(&mut self, inputs: &DCacheInputs, wires: &DCacheWires) {
        let nack = self.response().nack;
        self.tick_tags(inputs, wires);
        self.tick_release(inputs, wires);
        self.tick_stores(wires);
        // Stages 1 and 2.
        let stage2 = self.s1_valid && !inputs.s1_kill;
        let access = inputs.s1.filter(|_| stage2);
        if let Some(access) = access.filter(|access| access.write && !wires.s1_nack) {
            self.pstore1 = access;
        }
        self.s2 = access.map(|access| Stage2 {
            access,
            nacked: wires.s1_nack,
            hit: self.find(access.line()),
            victim: self.lfsr_way(),
        });
        self.was_nacked = nack;
        self.s1_valid = inputs.request.is_some() && wires.ready;
    }

    fn lfsr_way(&self) -> usize {
        self.lfsr.bits(WAYS.trailing_zeros())
    }

    fn tick_stores(&mut self, wires: &DCacheWires) {
        let (valid, pending) = (self.pstore1_valid(), self.pstore2.is_some());
        let advance = valid && pending == wires.drain;
        self.pstore1_held = valid && pending && !wires.drain;
        if advance {
            self.pstore2 = Some(self.pstore1);
        } else if wires.drain {
            self.pstore2 = None;
        }
    }

    /// Grants, hits that change a state, requests.
    fn tick_tags(&mut self, inputs: &DCacheInputs, wires: &DCacheWires) {
        self.block_probe = self.block_probe.saturating_sub(1);
        if let (Some(way), Some(s2)) = (self.update_meta(), &self.s2) {
            let line = s2.access.line();
            self.tags[Self::slot(line, way)] = Tag { line, state: Coherence::Dirty };
        }
        if let Some(beat) = inputs.d.filter(|_| wires.d_taken) {
            match beat.op {
                DOp::Grant { writable, .. } => self.granted(writable, beat.last),
                DOp::ReleaseAck => self.release_wait = None,
                _ => {}
            }
        }
        if inputs.a_fire
            && let Some(s2) = self.missing().copied()
        {
            self.grant_wait = true;
            self.refill_way = self.victim(&s2).0;
            self.refill = s2.access;
        }
    }

    fn granted(&mut self, writable: bool, last: bool) {
        self.grant_in_progress = !last;
        if !last {
            return;
        }
        self.grant_wait = false;
        self.block_probe = BLOCK_PROBE - 1;
        self.lfsr.step();
        let line = self.refill.line();
        let state = match (self.refill.write, writable) {
            (true, _) => Coherence::Dirty,
            (false, true) => Coherence::Trunk,
            (false, false) => Coherence::Branch,
        };
        self.tags[Self::slot(line, self.refill_way)] = Tag { line, state };
    }

    /// Lines that leave.
    fn tick_release(&mut self, inputs: &DCacheInputs, wires: &DCacheWires) {
        let offered = self.c();
        let rejected = self.reading[1] && !inputs.c_fire;
        let read = self.reads_leaving() && !wires.drain && !self.refilling(inputs);
        let fired = offered.filter(|_| inputs.c_fire);
        match self.release {
            Release::VoluntaryWriteMeta | Release::ProbeWriteMeta => {
                let Leaving { line, way, after, .. } = self.leaving;
                self.tags[Self::slot(line, way)] = Tag { line, state: after };
                self.release = Release::Ready;
            }
            Release::VoluntaryWriteback | Release::ProbeDirty => {
                if let Some(beat) = fired {
                    let voluntary = self.release == Release::VoluntaryWriteback;
                    if voluntary && beat.beat == 0 {
                        self.release_wait = Some(self.leaving.line);
                    }
                    self.sent += 1;
                    if beat.last {
                        self.release = if voluntary { Release::VoluntaryWriteMeta } else { Release::ProbeWriteMeta };
                    }
                }
            }
            Release::ProbeClean if fired.is_some() => self.release = Release::ProbeWriteMeta,
            Release::ProbeMiss if fired.is_some() => self.release = Release::Ready,
            _ => {}
        }
        let [first, _] = self.reading;
        self.reading = [read, first && !rejected];
        self.begin_release(fired.is_some());
        // Stages of a probe.
        self.s2_probe = self.s1_probe;
        if self.s1_probe {
            self.probed = self.probe.and_then(|probe| self.find(probe.address / LINE_BYTES));
        }
        self.s1_probe = wires.b_taken;
        if let Some(probe) = inputs.b.filter(|_| wires.b_taken) {
            self.probe = Some(probe);
        }
    }

    fn refilling(&self, inputs: &DCacheInputs) -> bool {
        matches!(inputs.d, Some(BeatD { op: DOp::Grant { data: true, .. }, .. }))
    }

    /// A miss makes room, a probe is answered.
    fn begin_release(&mut self, fired: bool) {
        if let Some(s2) = self.missing().copied() {
            let (way, tag) = self.victim(&s2);
            let dirty = s2.hit.is_none() && tag.state == Coherence::Dirty;
            let line = if tag.state == Coherence::Nothing { s2.access.line() } else { tag.line };
            self.leaving = Leaving { line, way, after: Coherence::Nothing };
            self.sent = 0;
            self.release = if dirty { Release::VoluntaryWriteback } else { Release::VoluntaryWriteMeta };
        }
        if self.s2_probe
            && let Some(probe) = self.probe
        {
            let (way, state) = self.probed.unwrap_or_default();
            let after = match probe.cap {
                Cap::ToN => Coherence::Nothing,
                Cap::ToB => state.min(Coherence::Branch),
                Cap::ToT => state,
            };
            self.leaving = Leaving { line: probe.address / LINE_BYTES, way, after };
            self.sent = 0;
            self.release = match (state, fired) {
                (Coherence::Dirty, _) => Release::ProbeDirty,
                (Coherence::Nothing, true) => Release::Ready,
                (Coherence::Nothing, false) => Release::ProbeMiss,
                (_, true) => Release::ProbeWriteMeta,
                (_, false) => Release::ProbeClean,
            };
        }
    }
}
