//! Everything between the clients and memory: their buffers at the system bus, the bus, the L2, memory.
//!
//! ```text
//! Gemmini --A--> Q(2) --\                                  /--> Q(2) --D--> Gemmini
//!                        bus --> L2 <--> cork <--> memory
//! core ---A, C, E-> Q(2) --/                               \--> Q(2) --B, D-> core
//! ```
//!
//! The buffers are those of the tile's crossing (`SynchronousCrossing`, `BufferParams.default`).

use crate::memory::{ABeat, Cycle, DBeat, MAX_TRANSFER_BYTES, MemorySystem, OuterMemory, OuterParameters, ReqKind};
use crate::parts::values::{Full, Values};
use pollux_isa::ValidConfig;
use pollux_memory::{Memory, PAGE_BYTES};

use crate::uncore::cache_cork::CacheCork;
use crate::uncore::l2::{CacheInputs, InclusiveCache, InclusiveCacheParameters, WORD_BYTES};
use crate::uncore::system_bus::{PORTS, SystemBus};
use crate::uncore::tilelink::{AOp, BeatA, BeatB, BeatC, BeatD, Buffer, Client, DOp, LINE_BYTES, Source};

/// Position of the ports at the bus.
const CORE: usize = 0;
const GEMMINI: usize = 1;
const HOST: usize = 2;

/// What can be chosen about the system behind Gemmini's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Parameters {
    /// The L2.
    pub cache: InclusiveCacheParameters,
    /// The memory behind it.
    pub outer: OuterParameters,
    /// 1: what memory holds before the run is in the L2, as far as it fits. 0: the L2 is empty.
    pub warm: u64,
}

/// 512 KiB in front of a memory of 40 cycles and 8 bytes a cycle, empty.
impl Default for L2Parameters {
    fn default() -> Self {
        Self { cache: InclusiveCacheParameters::default(), outer: OuterParameters::default(), warm: 0 }
    }
}

impl L2Parameters {
    /// Why the L2 cannot stand behind this configuration.
    pub fn refuses(&self, config: &ValidConfig) -> Option<String> {
        let (beat, request) = (config.beat_bytes(), u64::from(config.dma_maxbytes));
        if request > LINE_BYTES {
            return Some(format!(
                "the L2's lines have {LINE_BYTES} bytes, and this configuration asks for {request} at once (dma_maxbytes); \
                 choose another memory, or dma_maxbytes = {LINE_BYTES}"
            ));
        }
        (u64::from(beat) < WORD_BYTES).then(|| {
            format!(
                "the L2's port has at least {WORD_BYTES} bytes, and this configuration's has {beat} (dma_buswidth); choose another \
                 memory, or dma_buswidth = {}",
                8 * WORD_BYTES
            )
        })
    }

    /// The memory behind the L2.
    pub fn memory<V: Values>(&self, bytes: Memory) -> OuterMemory<V> {
        OuterMemory::new(self.outer, WORD_BYTES as usize, bytes)
    }

    /// The system in front of these bytes.
    pub fn build<V: Values>(&self, beat_bytes: usize, bytes: Memory) -> Uncore<OuterMemory<V>, V> {
        let mut uncore = Uncore::new(self.cache, beat_bytes as u32, self.memory(bytes));
        if self.warm != 0 {
            uncore.warm();
        }
        uncore
    }
}

/// The core's buffers.
#[derive(Clone, Debug, Default)]
pub struct TilePort {
    /// Requests.
    pub a: Buffer<BeatA>,
    /// Probes.
    pub b: Buffer<BeatB>,
    /// Lines given up.
    pub c: Buffer<BeatC>,
    /// Answers.
    pub d: Buffer<BeatD>,
    /// Grants received.
    pub e: Buffer<u8>,
}

/// What the core's side does in a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct TileInputs {
    /// A beat on channel A, offered only while its buffer is ready.
    pub a: Option<BeatA>,
    /// The probe in front is taken.
    pub b_taken: bool,
    /// A beat on channel C, offered only while its buffer is ready.
    pub c: Option<BeatC>,
    /// The answer in front is taken.
    pub d_taken: bool,
    /// A Grant has been received.
    pub e: Option<u8>,
}

impl TilePort {
    fn idle(&self) -> bool {
        self.a.is_empty() && self.b.is_empty() && self.c.is_empty() && self.d.is_empty() && self.e.is_empty()
    }
}

/// Gemmini's side: buffers, and the bytes of its transactions.
#[derive(Clone, Debug)]
struct GemminiPort<V: Values> {
    a: Buffer<BeatA>,
    d: Buffer<BeatD>,
    /// Bytes that each transaction has read, and its size.
    bytes: Vec<([V::Of<u8>; MAX_TRANSFER_BYTES], u32)>,
    /// This cycle's handshakes.
    accepted: Option<BeatA>,
    taken: bool,
    in_flight: u32,
}

/// The memory side of the system.
#[derive(Clone, Debug)]
pub struct Uncore<M, V: Values = Full> {
    /// Registers hold what they do at the start of this cycle.
    cycle: Cycle,
    beat_bytes: u32,
    gemmini: GemminiPort<V>,
    tile: TilePort,
    /// What the core does in this cycle.
    tile_inputs: TileInputs,
    /// A write of the host, on its way.
    host: Option<BeatA>,
    /// It has been done.
    host_done: bool,
    /// Nothing is under way behind the clients' handshakes of this cycle.
    quiet: bool,
    bus: SystemBus,
    l2: InclusiveCache,
    cork: CacheCork,
    memory: M,
}

impl<M: MemorySystem<V>, V: Values> Uncore<M, V> {
    /// An empty L2 in front of `memory`, whose beats have the width of a word (8 bytes).
    pub fn new(parameters: InclusiveCacheParameters, beat_bytes: u32, memory: M) -> Self {
        let gemmini = GemminiPort {
            a: Buffer::default(),
            d: Buffer::default(),
            bytes: Vec::new(),
            accepted: None,
            taken: false,
            in_flight: 0,
        };
        Self {
            cycle: 0,
            beat_bytes,
            gemmini,
            tile: TilePort::default(),
            tile_inputs: TileInputs::default(),
            host: None,
            host_done: false,
            quiet: true,
            bus: SystemBus::default(),
            l2: InclusiveCache::new(parameters, beat_bytes),
            cork: CacheCork::default(),
            memory,
        }
    }

    /// Puts everything that memory holds into the L2, as far as it fits.
    pub fn warm(&mut self) {
        let mut pages: Vec<u64> = self.memory.memory().pages().map(|(address, _)| address).collect();
        pages.sort_unstable();
        for page in pages {
            (page..page + PAGE_BYTES as u64).step_by(LINE_BYTES as usize).for_each(|line| self.l2.warm(line));
        }
    }

    /// The core's buffers.
    pub fn tile(&self) -> &TilePort {
        &self.tile
    }

    /// What the core does in the current cycle.
    pub fn drive_tile(&mut self, inputs: TileInputs) {
        self.tile_inputs = inputs;
    }

    /// The host writes a word: whoever has its line gives it up. It changes no byte.
    pub fn host_writes(&mut self, address: u64) {
        let source = Source { client: Client::Host, id: 0 };
        let address = address & !(WORD_BYTES - 1);
        let size = WORD_BYTES as u32;
        self.host = Some(BeatA { op: AOp::PutFull, source, address, size, first: true, last: true, words: 1 });
    }

    /// True once the host's write is done.
    pub fn take_host_done(&mut self) -> bool {
        std::mem::take(&mut self.host_done)
    }

    /// The L2.
    pub fn l2(&self) -> &InclusiveCache {
        &self.l2
    }

    /// Address of the beat that Gemmini has sent in the cycle before.
    pub fn gemmini_accepted(&self) -> Option<u64> {
        self.gemmini.accepted.map(|beat| beat.address)
    }

    /// Transaction and beat that Gemmini has taken in the cycle before.
    pub fn gemmini_taken(&self) -> Option<(u16, u32)> {
        let beat = self.gemmini.d.front().filter(|_| self.gemmini.taken)?;
        Some((beat.source.id, beat.beat))
    }

    /// Nothing is under way: cycles without new requests change nothing.
    pub fn idle(&self) -> bool {
        let tile = &self.tile_inputs;
        let moves = self.gemmini.accepted.is_some() || tile.a.is_some() || tile.c.is_some() || tile.e.is_some();
        self.quiet && !moves && self.host.is_none()
    }

    /// What [`Uncore::idle`] knows from the clock edge before; the likeliest first.
    fn find_quiet(&self) -> bool {
        self.l2.idle()
            && self.gemmini.a.is_empty()
            && self.gemmini.d.is_empty()
            && self.tile.idle()
            && self.cork.idle()
            && !self.memory.busy()
    }

    /// One clock edge.
    fn tick(&mut self) {
        let cycle = self.cycle;
        self.memory.advance(cycle);
        let offers: [Option<BeatA>; PORTS] = [self.tile.a.front().copied(), self.gemmini.a.front().copied(), self.host];
        let granted = self.bus.grant(offers.map(|beat| beat.is_some())).filter(|_| self.l2.a_ready());
        let a = granted.and_then(|port| offers[port]);
        let c = self.tile.c.front().copied().filter(|_| self.l2.c_ready());
        let e = self.tile.e.front().copied();
        let b = self.l2.b().filter(|_| self.tile.b.ready());
        let d = self.l2.d().filter(|beat| match beat.source.client {
            Client::Gemmini => self.gemmini.d.ready(),
            Client::Host => true,
            Client::DCache | Client::ICache => self.tile.d.ready(),
        });
        let (outer_a, outer_c) = (self.l2.outer_a().copied(), self.l2.outer_c().copied());
        let cork = self.cork.wires(cycle, outer_a.as_ref(), outer_c.as_ref(), self.l2.outer_d_ready(), &self.memory);
        let inputs = CacheInputs {
            a,
            c,
            e,
            b_ready: b.is_some(),
            d_taken: d.is_some(),
            outer_d: cork.d,
            outer_a_taken: cork.a_taken,
            outer_c_taken: cork.c_taken,
        };
        let victim = outer_c.as_ref().map(|beat| (beat, self.l2.geometry().join(beat.set, beat.tag)));
        self.cork.tick(cycle, &cork, outer_a.as_ref(), victim, &mut self.memory);
        self.l2.tick(&inputs);
        self.bus.tick(granted.zip(a.map(|beat| beat.last)));
        let to_gemmini = d.filter(|beat| beat.source.client == Client::Gemmini);
        let to_tile = d.filter(|beat| matches!(beat.source.client, Client::DCache | Client::ICache));
        self.host_done |= d.is_some_and(|beat| beat.source.client == Client::Host);
        if granted == Some(HOST) {
            self.host = None;
        }
        let gemmini = &mut self.gemmini;
        gemmini.a.tick(granted == Some(GEMMINI), gemmini.accepted.take());
        gemmini.d.tick(std::mem::take(&mut gemmini.taken), to_gemmini);
        let tile = std::mem::take(&mut self.tile_inputs);
        self.tile.a.tick(granted == Some(CORE), tile.a);
        self.tile.b.tick(tile.b_taken, b);
        self.tile.c.tick(c.is_some(), tile.c);
        self.tile.d.tick(tile.d_taken, to_tile);
        self.tile.e.tick(e.is_some(), tile.e);
        self.quiet = self.find_quiet();
    }
}

impl<M: MemorySystem<V>, V: Values> MemorySystem<V> for Uncore<M, V> {
    fn advance(&mut self, cycle: Cycle) {
        while self.cycle < cycle {
            if self.idle() {
                self.gemmini.taken = false;
                self.tile_inputs = TileInputs::default();
                self.cycle = cycle;
                return;
            }
            self.tick();
            self.cycle += 1;
        }
    }

    fn a_ready(&self, _: Cycle) -> bool {
        self.gemmini.a.ready()
    }

    fn accept(&mut self, _: Cycle, beat: &ABeat<V>) {
        let slot = usize::from(beat.source);
        let bytes = &mut self.gemmini.bytes;
        if bytes.len() <= slot {
            bytes.resize(slot + 1, ([V::Of::default(); MAX_TRANSFER_BYTES], 0));
        }
        let op = match beat.kind {
            ReqKind::Get => AOp::Get,
            ReqKind::PutFull => AOp::PutFull,
            _ => AOp::PutPartial,
        };
        let memory = self.memory.memory_mut();
        if op == AOp::Get {
            let bytes = &mut bytes[slot].0[..beat.size as usize];
            V::update(bytes, |bytes, _| memory.read(beat.address, bytes));
        } else {
            let address = beat.address + u64::from(beat.beat * self.beat_bytes);
            V::store(memory, address, &beat.data[..self.beat_bytes as usize], beat.mask);
        }
        bytes[slot].1 = beat.size;
        self.gemmini.in_flight += u32::from(beat.beat == 0);
        let word = |n: u64| u8::from(beat.mask >> (n * WORD_BYTES) & 0xff != 0) << n;
        let words = (0..u64::from(self.beat_bytes) / WORD_BYTES).map(word).sum();
        let source = Source { client: Client::Gemmini, id: beat.source };
        let (first, last) = (beat.beat == 0, beat.last);
        self.gemmini.accepted = Some(BeatA { op, source, address: beat.address, size: beat.size, first, last, words });
    }

    fn d_front(&self, _: Cycle) -> Option<DBeat<V>> {
        let beat = self.gemmini.d.front()?;
        let (bytes, size) = &self.gemmini.bytes[usize::from(beat.source.id)];
        let ack = beat.op == DOp::AccessAck;
        let mut offered =
            DBeat { source: beat.source.id, size: *size, beat: beat.beat, ack, last: beat.last, ..DBeat::filler() };
        if !ack {
            let (from, count) = ((beat.beat * self.beat_bytes) as usize, self.beat_bytes as usize);
            offered.data[..count].copy_from_slice(&bytes[from..from + count]);
        }
        Some(offered)
    }

    fn take_d(&mut self, _: Cycle) {
        self.gemmini.taken = true;
        self.gemmini.in_flight -= u32::from(self.gemmini.d.front().is_some_and(|beat| beat.last));
    }

    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle> {
        (a_valid || !self.idle()).then_some(cycle + 1)
    }

    fn busy(&self) -> bool {
        self.gemmini.in_flight != 0
    }

    fn memory(&self) -> &Memory {
        self.memory.memory()
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.memory.memory_mut()
    }
}
