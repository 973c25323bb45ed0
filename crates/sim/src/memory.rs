//! What stands behind the accelerator's memory port: a trait, the golden bench's port, and three models of a real system.
//!
//! The models share the port rules of TileLink: one beat per channel and cycle, a burst of Put beats is answered
//! once, and a response's beats are offered back to back. A read sees memory as it is when its request is accepted, and
//! a write beat changes memory when it is accepted.
//!
//! * [`BenchMemory`]: fixed latency, strictly in order, with throttled ports: what the golden traces were recorded with.
//! * [`BandwidthMemory`]: latency, bandwidth and a bound on outstanding requests.
//! * [`DramL2Memory`]: a shared L2 cache in front of banked DRAM with published timing parameters.
//! * [`FireSimMemory`]: an L2 and a last-level cache with miss limits and random victims in front of DRAM, as in FireSim's
//!   measurements.
//!
//! * [`OuterMemory`]: what stands behind a clocked L2 ([`crate::uncore`]).
//!
//! [`MemoryModel`] is any of them as a value, with a text form.
//!
//! [`MemoryPort`] stands between the accelerator and any of them: it numbers requests, makes the `req` and `rsp` events
//! and counts traffic.

mod bandwidth;
mod bench;
mod dram;
mod firesim;
mod last_level_cache;
mod model;
mod outer;

pub use crate::observation::counts::PortTraffic;
pub use bandwidth::{BandwidthMemory, BandwidthParameters};
pub use bench::{BenchMemory, BenchParameters};
pub use dram::{CacheParameters, DramL2Memory, DramL2Parameters, DramParameters};
pub use firesim::{FireSimMemory, FireSimParameters};
pub use last_level_cache::LastLevelParameters;
pub use model::{MemoryModel, ParseMemoryError};
pub use outer::{ChannelParameters, LineMemory, OuterMemory, OuterParameters};

use std::collections::VecDeque;

use pollux_isa::config::limits;
use pollux_memory::Memory;

pub use crate::observation::event::{Cycle, ReqKind};
use crate::observation::event::{Event, EventBuffer};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::values::{Full, Timing, Values};
pub use crate::port::tilelink::{ABeat, DBeat, MAX_BEAT_BYTES};

/// Bytes of the largest TileLink transfer that Pollux models.
pub const MAX_TRANSFER_BYTES: usize = limits::REQUEST_BYTES as usize;

/// A memory system at the accelerator's port. Per cycle the port asks `a_ready` and `d_front`, then applies
/// `accept` and `take_d` where the handshakes took place. Behind a machine without values it takes and delivers beats at the same
/// times, and neither reads nor writes its bytes.
pub trait MemorySystem<V: Values = Full> {
    /// Lets the clock edges before `cycle` pass. Called before anything is asked in `cycle`; a memory that only looks at the times of
    /// its handshakes needs none.
    fn advance(&mut self, _cycle: Cycle) {}

    /// True if a beat on channel A is accepted in this cycle.
    fn a_ready(&self, cycle: Cycle) -> bool;

    /// Accepts a beat on channel A.
    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>);

    /// The beat offered on channel D in this cycle. Once offered it stays until it is taken.
    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>>;

    /// Takes the offered beat.
    fn take_d(&mut self, cycle: Cycle);

    /// The earliest later cycle in which `d_front` or, if a beat waits on channel A, `a_ready` may become true without a handshake
    /// before.
    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle>;

    /// True if a request waits for its response.
    fn busy(&self) -> bool;

    /// The bytes.
    fn memory(&self) -> &Memory;

    /// The bytes, for the host processor.
    fn memory_mut(&mut self) -> &mut Memory;

    /// The bytes after a run.
    fn into_memory(mut self) -> Memory
    where
        Self: Sized,
    {
        std::mem::replace(self.memory_mut(), Memory::new())
    }
}

/// Any memory: one machine is built for all of them.
impl<V: Values> MemorySystem<V> for Box<dyn MemorySystem<V>> {
    fn advance(&mut self, cycle: Cycle) {
        (**self).advance(cycle);
    }

    fn a_ready(&self, cycle: Cycle) -> bool {
        (**self).a_ready(cycle)
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        (**self).accept(cycle, beat);
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        (**self).d_front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        (**self).take_d(cycle);
    }

    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle> {
        (**self).next_event(cycle, a_valid)
    }

    fn busy(&self) -> bool {
        (**self).busy()
    }

    fn memory(&self) -> &Memory {
        (**self).memory()
    }

    fn memory_mut(&mut self) -> &mut Memory {
        (**self).memory_mut()
    }
}

/// A memory whose times depend on its state and on when requests come, but not on their addresses.
pub(crate) trait ReplayableMemory: MemorySystem<Timing> + Canonical + Clone {
    /// What was to be at a distance from cycle `from` is at that distance from cycle `to`.
    fn shift(&mut self, from: Cycle, to: Cycle);
}

/// `cycle` at the same distance from `to` as from `from`, be it before or after.
fn shifted(cycle: Cycle, from: Cycle, to: Cycle) -> Cycle {
    if to >= from { cycle.saturating_add(to - from) } else { cycle.saturating_sub(from - to) }
}

/// A response on its way.
#[derive(Clone, Copy, Debug, Canonical)]
struct Response {
    source: u16,
    size: u32,
    ack: bool,
    /// First cycle in which it may be offered.
    #[canon(via = Canon::cycle)]
    ready: Cycle,
    /// Where its bytes are.
    #[canon(skip = "where values are")]
    slot: u32,
}

/// Performs accepted beats on the bytes and holds the responses until they are taken.
#[derive(Clone, Debug)]
struct ResponseQueue<V: Values> {
    memory: Memory,
    beat_bytes: u32,
    /// A beat is first offered in a multiple of this number of cycles.
    d_period: u64,
    responses: VecDeque<Response>,
    /// Bytes of the responses, and the slots that no response has.
    bytes: Vec<[V::Of<u8>; MAX_TRANSFER_BYTES]>,
    free_slots: Vec<u32>,
    /// Beats of the first response that have been taken.
    taken: u32,
    /// Cycle after the last take.
    free: Cycle,
    /// The next beat, made at the clock edge so that offering it is a copy.
    next: DBeat<V>,
}

/// What is over is over, but for the first response: with a period it may be due already and not offered yet.
impl<V: Values> Canonical for ResponseQueue<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { memory: _, beat_bytes: _, d_period, responses, bytes: _, free_slots: _, taken, free, next: _ } =
            self;
        canon.phase(*d_period);
        responses.canonical(canon);
        taken.canonical(canon);
        canon.time(*free);
        canon.time(self.offered().unwrap_or(0));
    }
}

impl<V: Values> ResponseQueue<V> {
    fn new(memory: Memory, beat_bytes: usize, d_period: u64) -> Self {
        Self {
            memory,
            beat_bytes: beat_bytes as u32,
            d_period: d_period.max(1),
            responses: VecDeque::with_capacity(64),
            bytes: Vec::new(),
            free_slots: Vec::new(),
            taken: 0,
            free: 0,
            next: DBeat::filler(),
        }
    }

    /// See [`ReplayableMemory::shift`].
    fn shift(&mut self, from: Cycle, to: Cycle) {
        self.free = shifted(self.free, from, to);
        for response in &mut self.responses {
            response.ready = shifted(response.ready, from, to);
        }
    }

    /// Performs a beat. If it completes its request, the response without its time.
    fn perform(&mut self, beat: &ABeat<V>) -> Option<Response> {
        let read = beat.kind == ReqKind::Get;
        if !read {
            let address = beat.address + u64::from(beat.beat * self.beat_bytes);
            V::store(&mut self.memory, address, &beat.data[..self.beat_bytes as usize], beat.mask);
        }
        if !beat.last {
            return None;
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.bytes.push([V::Of::default(); MAX_TRANSFER_BYTES]);
            self.bytes.len() as u32 - 1
        });
        if read {
            let bytes = &mut self.bytes[slot as usize][..beat.size as usize];
            V::update(bytes, |bytes, _| self.memory.read(beat.address, bytes));
        }
        Some(Response { source: beat.source, size: beat.size, ack: !read, ready: 0, slot })
    }

    /// Appends a response.
    fn push(&mut self, response: Response) {
        self.responses.push_back(response);
        if self.responses.len() == 1 {
            self.prepare();
        }
    }

    /// Inserts a response by its time, but not before a response that is being taken.
    fn insert(&mut self, response: Response) {
        let first = usize::from(self.taken != 0);
        let later = self.responses.iter().skip(first).filter(|r| r.ready > response.ready).count();
        let at = self.responses.len() - later;
        self.responses.insert(at, response);
        if at == 0 {
            self.prepare();
        }
    }

    /// Makes the next beat.
    fn prepare(&mut self) {
        let Some(response) = self.responses.front() else {
            return;
        };
        let (from, beat_bytes) = ((self.taken * self.beat_bytes) as usize, self.beat_bytes as usize);
        self.next.source = response.source;
        self.next.size = response.size;
        self.next.beat = self.taken;
        self.next.ack = response.ack;
        self.next.last = self.taken + 1 == self.beats(response);
        if !response.ack {
            self.next.data[..beat_bytes].copy_from_slice(&self.bytes[response.slot as usize][from..from + beat_bytes]);
        }
    }

    /// First cycle in which the next beat is offered.
    #[inline]
    fn offered(&self) -> Option<Cycle> {
        let response = self.responses.front()?;
        let turn = if self.taken == 0 { self.free.max(response.ready) } else { self.free };
        Some(if self.d_period == 1 { turn } else { turn.checked_next_multiple_of(self.d_period).unwrap_or(Cycle::MAX) })
    }

    #[inline]
    fn front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        (self.offered()? <= cycle).then_some(self.next)
    }

    fn beats(&self, response: &Response) -> u32 {
        if response.ack { 1 } else { (response.size / self.beat_bytes).max(1) }
    }

    /// Takes the offered beat; true if it was the last of its response.
    fn take(&mut self, cycle: Cycle) -> bool {
        self.free = cycle + 1;
        self.taken += 1;
        let last = self.responses.front().is_some_and(|r| self.taken == self.beats(r));
        if last {
            self.taken = 0;
            self.free_slots.extend(self.responses.pop_front().map(|response| response.slot));
        }
        self.prepare();
        last
    }

    fn next_event(&self, cycle: Cycle) -> Option<Cycle> {
        self.offered().filter(|offered| *offered > cycle)
    }
}

/// Handshakes at the port in one cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortWires<V: Values = Full> {
    /// The memory accepts the beat offered on channel A.
    pub a_taken: bool,
    /// The beat that the accelerator takes on channel D.
    pub d: Option<DBeat<V>>,
}

/// The port: handshakes, request numbers, events, traffic.
#[derive(Clone, Debug, Canonical)]
pub struct MemoryPort {
    #[canon(skip = "numbers for events")]
    next_request: u64,
    /// Number of the request that each source has under way.
    #[canon(skip = "numbers for events")]
    request: Vec<u64>,
    in_flight: u32,
    #[canon(skip = "a total")]
    traffic: PortTraffic,
}

impl MemoryPort {
    /// A port for so many sources (`SourceRanges::len`).
    pub fn new(sources: usize) -> Self {
        Self { next_request: 0, request: vec![0; sources], in_flight: 0, traffic: PortTraffic::default() }
    }

    /// Handshakes of this cycle: `a` is the beat that the accelerator offers, `d_ready` whether it takes one.
    #[inline]
    pub fn wires<V: Values>(
        &self,
        cycle: Cycle,
        memory: &(impl MemorySystem<V> + ?Sized),
        a: Option<&ABeat<V>>,
        d_ready: bool,
    ) -> PortWires<V> {
        PortWires {
            a_taken: a.is_some() && memory.a_ready(cycle),
            d: if d_ready && self.in_flight != 0 { memory.d_front(cycle) } else { None },
        }
    }

    /// Clock edge: applies the handshakes to the memory. Returns true if there were any.
    #[inline]
    #[must_use]
    pub fn tick<V: Values>(
        &mut self,
        cycle: Cycle,
        wires: &PortWires<V>,
        memory: &mut (impl MemorySystem<V> + ?Sized),
        a: Option<&ABeat<V>>,
        events: &mut EventBuffer,
    ) -> bool {
        if let Some(beat) = a.filter(|_| wires.a_taken) {
            self.accept(beat, events);
            memory.accept(cycle, beat);
        }
        if let Some(beat) = &wires.d {
            self.take(beat, events);
            memory.take_d(cycle);
        }
        wires.a_taken || wires.d.is_some()
    }

    fn accept<V: Values>(&mut self, beat: &ABeat<V>, events: &mut EventBuffer) {
        if beat.beat == 0 {
            self.request[usize::from(beat.source)] = self.next_request;
            self.next_request += 1;
            self.in_flight += 1;
            match beat.kind {
                ReqKind::Get => {
                    self.traffic.reads += 1;
                    self.traffic.read_bytes += u64::from(beat.size);
                }
                _ => self.traffic.writes += 1,
            }
        }
        if beat.kind != ReqKind::Get {
            self.traffic.write_beats += 1;
            self.traffic.written_bytes += u64::from(beat.mask.count_ones());
        }
        events.push(Event::Req {
            request: self.request[usize::from(beat.source)],
            kind: beat.kind,
            source: beat.source,
            address: beat.address,
            size: beat.size,
            beat: beat.beat,
            mask: beat.mask,
        });
    }

    fn take<V: Values>(&mut self, beat: &DBeat<V>, events: &mut EventBuffer) {
        self.in_flight -= u32::from(beat.last);
        self.traffic.read_beats += u64::from(!beat.ack);
        let request = self.request[usize::from(beat.source)];
        events.push(Event::Rsp { request, ack: beat.ack, source: beat.source, beat: beat.beat });
    }

    /// Has had this traffic.
    pub(crate) fn set_traffic(&mut self, traffic: PortTraffic) {
        self.traffic = traffic;
    }

    /// Requests without their full response.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Traffic so far.
    pub fn traffic(&self) -> &PortTraffic {
        &self.traffic
    }
}
