//! TileLink between the DMA engines and the memory port (`Scratchpad.scala`, wiring of the nodes;
//! rocket-chip `tilelink/{Buffer,Xbar,Arbiter}.scala`).
//!
//! ```text
//! reader --A--> Q(2) --\                       /--> Q(2) --D--> reader
//!                       xbar --> Q(2) --> port
//! writer --A--> Q(2) --/                       \--> Q(2) --D--> writer
//! ```
//!
//! Every queue is a `TLBuffer` of depth 2 without `pipe` and `flow`, so a beat needs one cycle per
//! queue: two cycles each way. The crossbar has no register of its own. It grants round robin per
//! message and holds its grant until the last beat of a burst. The width widget behind it is wires,
//! because the port is as wide as the DMA.
//!
//! Ports (per cycle):
//!
//! | name | direction | bits | back pressure |
//! |---|---|---|---|
//! | `a_ready(client)` | out | from registers | - |
//! | `TileLinkInputs::a` | in | beat that leaves an engine | only while `a_ready` |
//! | `d(client)` | out | head of the client's D queue | `d_taken` |
//! | `port_a()` | out | head of the port's A queue | `port_a_taken` |
//! | `port_d_ready()` | out | from registers | - |
//! | `port_d` | in | beat that the memory delivers | only while `port_d_ready` |

use pollux_isa::config::limits;

use crate::observation::event::ReqKind;
use crate::observation::view::PortView;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::values::{Full, Values};

/// Widest beat that Pollux models: a DMA bus of 512 bits.
pub const MAX_BEAT_BYTES: usize = limits::BEAT_BYTES as usize;

/// The two masters of the crossbar, in the order in which they are connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub enum DmaClient {
    /// `StreamReader`.
    Reader = 0,
    /// `StreamWriter`.
    Writer = 1,
}

/// A beat on channel A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct ABeat<V: Values = Full> {
    /// Opcode.
    pub kind: ReqKind,
    /// Source: the transaction number within an engine, port-wide once behind the crossbar.
    pub source: u16,
    /// Physical address of the transfer, aligned to its size; the same on every beat.
    #[canon(skip = "physical: no time depends on it")]
    pub address: u64,
    /// Bytes of the whole transfer, a power of two.
    pub size: u32,
    /// Position of the beat within its burst.
    pub beat: u32,
    /// True on the last (or only) beat of the message.
    pub last: bool,
    /// Enabled bytes of the beat.
    pub mask: u64,
    /// Bytes of a Put beat, from the beat's first byte on.
    #[canon(skip = "values")]
    pub data: [V::Of<u8>; MAX_BEAT_BYTES],
}

/// A beat on channel D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct DBeat<V: Values = Full> {
    /// Source of the request that it answers.
    pub source: u16,
    /// Bytes of the whole transfer.
    pub size: u32,
    /// Position of the beat within the response.
    pub beat: u32,
    /// Answer to a Put, without data.
    pub ack: bool,
    /// True on the last (or only) beat of the response.
    pub last: bool,
    /// Data of a read.
    #[canon(skip = "values")]
    pub data: [V::Of<u8>; MAX_BEAT_BYTES],
}

impl<V: Values> ABeat<V> {
    /// Contents of a buffer slot that holds no beat.
    pub(crate) fn filler() -> Self {
        Self {
            kind: ReqKind::Get,
            source: 0,
            address: 0,
            size: 0,
            beat: 0,
            last: false,
            mask: 0,
            data: [V::Of::default(); MAX_BEAT_BYTES],
        }
    }
}

impl<V: Values> DBeat<V> {
    /// Contents of a buffer slot that holds no beat.
    pub(crate) fn filler() -> Self {
        Self { source: 0, size: 0, beat: 0, ack: false, last: false, data: [V::Of::default(); MAX_BEAT_BYTES] }
    }
}

/// One direction of a `TLBuffer` (`BufferParams.default`): a queue of two beats without `pipe` and `flow`, held
/// inline because every beat passes several of them.
#[derive(Clone, Debug)]
struct Buffer<T> {
    slots: [T; 2],
    head: usize,
    len: usize,
}

/// By age.
impl<T: Canonical> Canonical for Buffer<T> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { slots, head, len } = self;
        len.canonical(canon);
        (0..*len).for_each(|i| slots[(head + i) % slots.len()].canonical(canon));
    }
}

impl<T: Copy> Buffer<T> {
    fn new(filler: T) -> Self {
        Self { slots: [filler; 2], head: 0, len: 0 }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `enq.ready`.
    #[inline]
    fn ready(&self) -> bool {
        self.len < 2
    }

    #[inline]
    fn front(&self) -> Option<&T> {
        if self.len == 0 { None } else { Some(&self.slots[self.head & 1]) }
    }

    #[inline]
    fn pop(&mut self) {
        debug_assert!(self.len > 0, "no beat to take");
        self.head ^= 1;
        self.len -= 1;
    }

    /// Appends a beat and returns its place.
    #[inline]
    fn push(&mut self, beat: &T) -> &mut T {
        debug_assert!(self.len < 2, "push into a full buffer: its wires were not honoured");
        let slot = &mut self.slots[(self.head + self.len) & 1];
        *slot = *beat;
        self.len += 1;
        slot
    }
}

/// First source number of each engine at the port: `TLXbar.assignRanges` hands out equal ranges
/// from the last client to the first, so the writer begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRanges {
    range: u16,
}

impl SourceRanges {
    /// Ranges for engines with `xacts` transactions each, rounded up to a power of two.
    pub fn new(xacts: usize) -> Self {
        Self { range: xacts.next_power_of_two() as u16 }
    }

    /// Port-wide source of transaction `local` of `client`.
    #[inline]
    pub fn port_source(&self, client: DmaClient, local: u16) -> u16 {
        match client {
            DmaClient::Reader => local + self.range,
            DmaClient::Writer => local,
        }
    }

    /// Engine and transaction of a port-wide source.
    #[inline]
    pub fn local(&self, source: u16) -> (DmaClient, u16) {
        if source < self.range { (DmaClient::Writer, source) } else { (DmaClient::Reader, source - self.range) }
    }

    /// Number of port-wide sources.
    pub fn len(&self) -> usize {
        2 * self.range as usize
    }
}

/// The crossbar's arbiter on channel A (`TLArbiter` with policy `roundRobin`) for its two clients.
///
/// The policy is a mask register whose reset value prefers the highest index; after a grant the
/// other client is preferred.
#[derive(Clone, Copy, Debug, Canonical)]
struct BurstArbiter {
    /// Client that is preferred when both ask.
    preferred: DmaClient,
    /// Client that holds the sink while `beats_left` is not 0.
    holder: DmaClient,
    beats_left: u32,
}

impl BurstArbiter {
    fn new() -> Self {
        Self { preferred: DmaClient::Writer, holder: DmaClient::Reader, beats_left: 0 }
    }

    /// The client allowed to send in this cycle, if it has a beat.
    fn grant(&self, reader_valid: bool, writer_valid: bool) -> Option<DmaClient> {
        if self.beats_left != 0 {
            let valid = if self.holder == DmaClient::Reader { reader_valid } else { writer_valid };
            return valid.then_some(self.holder);
        }
        match (reader_valid, writer_valid) {
            (true, true) => Some(self.preferred),
            (true, false) => Some(DmaClient::Reader),
            (false, true) => Some(DmaClient::Writer),
            (false, false) => None,
        }
    }

    /// Clock edge after `winner` sent a beat of a message of `beats` beats.
    fn sent(&mut self, winner: DmaClient, beats: u32) {
        if self.beats_left != 0 {
            self.beats_left -= 1;
            return;
        }
        self.beats_left = beats - 1;
        self.holder = winner;
        self.preferred = match winner {
            DmaClient::Reader => DmaClient::Writer,
            DmaClient::Writer => DmaClient::Reader,
        };
    }
}

/// What enters and leaves the TileLink network in one cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct TileLinkInputs<'a, V: Values = Full> {
    /// Beats that leave the engines, by [`DmaClient`]; only if `a_ready` says so.
    pub a: [Option<&'a ABeat<V>>; 2],
    /// D beats that the engines take, by [`DmaClient`].
    pub d_taken: [bool; 2],
    /// The memory takes the beat at the port.
    pub port_a_taken: bool,
    /// Beat that the memory delivers; only if `port_d_ready` says so.
    pub port_d: Option<&'a DBeat<V>>,
}

/// Buffers and crossbar.
#[derive(Clone, Debug, Canonical)]
pub struct TileLink<V: Values = Full> {
    #[canon(skip = "constant")]
    sources: SourceRanges,
    #[canon(skip = "constant")]
    beat_bytes: u32,
    client_a: [Buffer<ABeat<V>>; 2],
    client_d: [Buffer<DBeat<V>>; 2],
    port_a: Buffer<ABeat<V>>,
    port_d: Buffer<DBeat<V>>,
    arbiter: BurstArbiter,
}

impl<V: Values> TileLink<V> {
    /// An idle network of `beat_bytes` wide beats for engines with `xacts` transactions each.
    pub fn new(xacts: usize, beat_bytes: usize) -> Self {
        let (a, d) = (Buffer::new(ABeat::filler()), Buffer::new(DBeat::filler()));
        Self {
            sources: SourceRanges::new(xacts),
            beat_bytes: beat_bytes as u32,
            client_a: [a.clone(), a.clone()],
            client_d: [d.clone(), d.clone()],
            port_a: a,
            port_d: d,
            arbiter: BurstArbiter::new(),
        }
    }

    /// True if the client's A buffer accepts a beat in this cycle.
    #[inline]
    pub fn a_ready(&self, client: DmaClient) -> bool {
        self.client_a[client as usize].ready()
    }

    /// The D beat offered to a client; its source is the client's own transaction number.
    #[inline]
    pub fn d(&self, client: DmaClient) -> Option<&DBeat<V>> {
        self.client_d[client as usize].front()
    }

    /// Engine and transaction of a port-wide source.
    pub(crate) fn local(&self, source: u16) -> (DmaClient, u16) {
        self.sources.local(source)
    }

    /// Beats in the buffers; requests under way are the port's to tell.
    pub(crate) fn view(&self) -> PortView {
        PortView {
            client_a: self.client_a.each_ref().map(|buffer| buffer.len),
            client_d: self.client_d.each_ref().map(|buffer| buffer.len),
            port_a: self.port_a.len,
            port_d: self.port_d.len,
            in_flight: 0,
        }
    }

    /// The A beat offered to the memory.
    #[inline]
    pub fn port_a(&self) -> Option<&ABeat<V>> {
        self.port_a.front()
    }

    /// True if the port's D buffer accepts a beat in this cycle.
    #[inline]
    pub fn port_d_ready(&self) -> bool {
        self.port_d.ready()
    }

    /// True if no beat is inside the network.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.port_a.is_empty()
            && self.port_d.is_empty()
            && self.client_a.iter().all(Buffer::is_empty)
            && self.client_d.iter().all(Buffer::is_empty)
    }

    /// Beats per message of `size` bytes with data.
    #[inline]
    fn beats(&self, size: u32) -> u32 {
        (size / self.beat_bytes).max(1)
    }

    /// Client whose A beat passes the crossbar in this cycle.
    fn crossing_a(&self) -> Option<DmaClient> {
        if !self.port_a.ready() {
            return None;
        }
        self.arbiter.grant(!self.client_a[0].is_empty(), !self.client_a[1].is_empty())
    }

    /// Client whose D buffer takes the port's D head in this cycle.
    fn crossing_d(&self) -> Option<DmaClient> {
        let (client, _) = self.sources.local(self.port_d.front()?.source);
        self.client_d[client as usize].ready().then_some(client)
    }

    /// Clock edge. Returns true if a beat moved.
    #[inline]
    #[must_use]
    pub fn tick(&mut self, inputs: &TileLinkInputs<V>) -> bool {
        let entering = inputs.a[0].is_some() || inputs.a[1].is_some() || inputs.port_d.is_some();
        if !entering && self.is_empty() {
            return false;
        }
        self.tick_beats(inputs)
    }

    fn tick_beats(&mut self, inputs: &TileLinkInputs<V>) -> bool {
        let (cross_a, cross_d) = (self.crossing_a(), self.crossing_d());
        if inputs.port_a_taken {
            self.port_a.pop();
        }
        for (queue, _) in self.client_d.iter_mut().zip(inputs.d_taken).filter(|(_, taken)| *taken) {
            queue.pop();
        }
        if let Some(client) = cross_a {
            self.cross_a(client);
        }
        if let Some(client) = cross_d {
            self.cross_d(client);
        }
        for (queue, beat) in self.client_a.iter_mut().zip(inputs.a) {
            if let Some(beat) = beat {
                queue.push(beat);
            }
        }
        if let Some(beat) = inputs.port_d {
            self.port_d.push(beat);
        }
        let entered = inputs.a[0].is_some() || inputs.a[1].is_some() || inputs.port_d.is_some();
        let left = inputs.d_taken[0] || inputs.d_taken[1] || inputs.port_a_taken;
        entered || left || cross_a.is_some() || cross_d.is_some()
    }

    fn cross_a(&mut self, client: DmaClient) {
        let Some(beat) = self.client_a[client as usize].front() else {
            return;
        };
        let beats = if beat.kind == ReqKind::Get { 1 } else { self.beats(beat.size) };
        self.arbiter.sent(client, beats);
        let entered = self.port_a.push(beat);
        entered.source = self.sources.port_source(client, entered.source);
        self.client_a[client as usize].pop();
    }

    fn cross_d(&mut self, client: DmaClient) {
        let Some(beat) = self.port_d.front() else {
            return;
        };
        let entered = self.client_d[client as usize].push(beat);
        entered.source = self.sources.local(entered.source).1;
        self.port_d.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(kind: ReqKind, source: u16, size: u32, beat: u32, last: bool) -> ABeat {
        ABeat { kind, source, address: 0, size, beat, last, mask: 0xffff, data: [0; MAX_BEAT_BYTES] }
    }

    fn send(net: &mut TileLink, reader: Option<ABeat>, writer: Option<ABeat>) -> Option<ABeat> {
        let head = net.port_a().copied();
        let _ = net.tick(&TileLinkInputs {
            a: [reader.as_ref(), writer.as_ref()],
            port_a_taken: head.is_some(),
            ..Default::default()
        });
        head
    }

    #[test]
    fn a_beat_reaches_the_port_two_cycles_after_it_leaves_its_engine() {
        let mut net = TileLink::new(16, 16);
        assert_eq!(send(&mut net, Some(beat(ReqKind::Get, 3, 64, 0, true)), None), None);
        assert_eq!(send(&mut net, None, None), None);
        assert_eq!(send(&mut net, None, None).map(|b| b.source), Some(19));
        assert!(net.is_empty());
    }

    #[test]
    fn the_writer_wins_the_first_tie_and_then_the_clients_alternate() {
        let mut net = TileLink::new(16, 16);
        let mut sources = Vec::new();
        for i in 0..8 {
            let r = net.a_ready(DmaClient::Reader).then(|| beat(ReqKind::Get, i, 16, 0, true));
            let w = net.a_ready(DmaClient::Writer).then(|| beat(ReqKind::PutFull, i, 16, 0, true));
            sources.extend(send(&mut net, r, w).map(|b| b.source >= 16));
        }
        assert_eq!(sources, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_burst_is_not_interleaved_even_if_its_next_beat_is_late() {
        let mut net = TileLink::new(16, 16);
        let w0 = beat(ReqKind::PutFull, 0, 32, 0, false);
        let w1 = beat(ReqKind::PutFull, 0, 32, 1, true);
        send(&mut net, Some(beat(ReqKind::Get, 0, 16, 0, true)), Some(w0));
        for _ in 0..4 {
            send(&mut net, None, None);
        }
        assert!(!net.is_empty(), "the read waits behind the open burst");
        send(&mut net, None, Some(w1));
        send(&mut net, None, None);
        assert_eq!(send(&mut net, None, None).map(|b| b.beat), Some(1));
        assert_eq!(send(&mut net, None, None).map(|b| b.source), Some(16));
    }

    #[test]
    fn a_response_reaches_its_engine_two_cycles_after_the_port() {
        let mut net: TileLink = TileLink::new(16, 16);
        let d = DBeat { source: 17, size: 16, beat: 0, ack: false, last: true, data: [7; MAX_BEAT_BYTES] };
        let _ = net.tick(&TileLinkInputs { port_d: Some(&d), ..Default::default() });
        assert!(net.d(DmaClient::Reader).is_none());
        let _ = net.tick(&TileLinkInputs::default());
        assert_eq!(net.d(DmaClient::Reader).map(|b| b.source), Some(1));
    }
}
