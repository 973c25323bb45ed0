//! Write DMA engine: collects the blocks of a row, pools, and sends aligned TileLink Puts
//! (`StreamWriter`, `DMA.scala`).
//!
//! ```text
//! req -> [data registers] -beat-> tlb_q Q(1,pipe) -> translate_q Q(1,pipe) -> A
//!                            ^         |                    |
//!                            '-- shadow Q(1) <-- on a retry |
//!                            '-- retry (miss) --------------'
//! ```
//!
//! A row accepted in cycle u with `store_en` offers its first beat in u+1; without it the row is
//! only kept (one cycle). A beat that fires in cycle v is on channel A in v+2. Unlike the reader's,
//! `translate_q` stalls when A is not ready. On a miss the missed beat goes back into `tlb_q` and
//! the beat that stood there into the shadow queue, so writes stay in order.
//!
//! | name | direction | valid when | back pressure |
//! |---|---|---|---|
//! | `req` | in | a row waits | `StreamWriterWires::req_ready` |
//! | `tlb_request` | out | a beat leaves `tlb_q` | none; losing or missing shows as a miss |
//! | `a_beat()` | out | `StreamWriterWires::a_fires` | A buffer |
//! | `d` | in | an acknowledgement waits | ready while any transaction is under way |

use crate::dma::dma_parameters::{DmaParameters, core_address};
use crate::front_end::counter_file::{CounterEvent, CounterEvents, CounterExternal};
use crate::observation::dma_activity::{DmaEngineActivity, DmaEngineStall};
use crate::observation::event::ReqKind;
use crate::observation::view::{EngineView, TransactionView};
use crate::parts::canonical::Canonical;
use crate::parts::values::{Full, Values};
use crate::port::frontend_tlb::{TlbRequest, TlbResponse};
use crate::port::tilelink::{ABeat, DBeat, MAX_BEAT_BYTES};

/// Bytes of the longest row: 64 lanes of 32 bits.
pub const MAX_WRITE_BYTES: usize = 256;

/// Bytes of the largest TileLink request that Pollux models.
const MAX_REQUEST_BYTES: usize = 256;

/// A row for the writer (`StreamWriteRequest`).
#[derive(Clone, Copy, Debug)]
pub struct StreamWriteRequest<V: Values = Full> {
    /// Virtual address of the row's first byte, for every block of the row.
    pub vaddr: u64,
    /// The address is physical already.
    pub physical: bool,
    /// Data; the bytes from the register's width on are ignored.
    pub data: [V::Of<u8>; MAX_WRITE_BYTES],
    /// Bytes of this block.
    pub len: u16,
    /// Position of this block within its row.
    pub block: u8,
    /// Take the maximum with the row kept before.
    pub pool_en: bool,
    /// Send the row to memory.
    pub store_en: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
enum State {
    #[default]
    Idle,
    WritingNewBlock,
    WritingBeats,
}

/// The Put under way.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct WritePacket {
    /// Bytes of the TileLink request.
    size: u32,
    /// Virtual address, aligned to `size`.
    #[canon(address)]
    vaddr: u64,
    /// First written byte of the window.
    start: u32,
    /// Byte behind the last written one.
    end: u32,
    /// All bytes of the window are written.
    is_full: bool,
}

impl WritePacket {
    fn beats(&self, beat_bytes: u32) -> u32 {
        (self.size / beat_bytes).max(1)
    }

    /// Written bytes of a beat, relative to the beat.
    fn span(&self, beat: u32, beat_bytes: u32) -> (u32, u32) {
        let first = beat * beat_bytes;
        (self.start.clamp(first, first + beat_bytes) - first, self.end.clamp(first, first + beat_bytes) - first)
    }
}

/// A Put beat on its way through translation; `beat.address` is still to be filled in.
#[derive(Clone, Copy, Debug, Canonical)]
struct UntranslatedPut<V: Values> {
    #[canon(address)]
    vaddr: u64,
    physical: bool,
    beat: ABeat<V>,
}

/// Handshakes of one cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamWriterWires {
    /// The engine accepts a row.
    pub req_ready: bool,
    /// A beat leaves on channel A; [`StreamWriter::a_beat`] makes it.
    pub a_fires: bool,
    /// A beat would leave but the A buffer is full.
    pub a_waits: bool,
    /// The D beat is taken.
    pub d_taken: bool,
    /// The translation request.
    pub tlb_request: TlbRequest,
    miss: bool,
    address: u64,
    retry: bool,
    beat_fires: bool,
    /// The beat that fires ends its row.
    row_ends: bool,
    shadow_leaves: bool,
    tlb_q_leaves: bool,
}

impl StreamWriterWires {
    /// The wires of an engine in which nothing is under way, once more.
    #[inline]
    pub fn stay_idle(&mut self, tlb: TlbResponse) {
        self.miss = tlb.miss;
    }
}

/// The engine.
#[derive(Clone, Debug, Canonical)]
pub struct StreamWriter<V: Values = Full> {
    #[canon(skip = "constant")]
    parameters: DmaParameters,
    #[canon(skip = "constant")]
    sizes: Vec<u32>,
    #[canon(skip = "constant")]
    blocks: usize,
    #[canon(skip = "constant")]
    all_xacts: u64,
    state: State,
    #[canon(address, valid_if = active)]
    vaddr: u64,
    #[canon(valid_if = active)]
    physical: bool,
    /// Bytes of the row up to and with its newest block.
    #[canon(valid_if = active)]
    len: u32,
    #[canon(valid_if = active)]
    block: u8,
    #[canon(skip = "values")]
    data_blocks: [V::Of<u8>; MAX_REQUEST_BYTES],
    #[canon(skip = "values")]
    data_single_block: [V::Of<u8>; MAX_WRITE_BYTES],
    #[canon(valid_if = active)]
    bytes_sent: u32,
    /// Function of the registers while a new block begins, held during its beats.
    #[canon(valid_if = active)]
    packet: WritePacket,
    #[canon(valid_if = active)]
    beats_left: u32,
    xact_busy: u64,
    /// Transaction of the burst under way.
    #[canon(valid_if = in_burst)]
    xact: u16,
    tlb_q: Option<UntranslatedPut<V>>,
    /// Address last written into `tlb_q`: what the TLB's compare sees while the queue is empty.
    #[canon(address, valid_if = translates)]
    tlb_q_vaddr: u64,
    tlb_q_physical: bool,
    shadow: Option<UntranslatedPut<V>>,
    translate_q: Option<UntranslatedPut<V>>,
    /// The TLB was asked in the last cycle, so its address is new.
    asked: bool,
    /// Address of the last answer.
    #[canon(skip = "physical: no time depends on it")]
    held_address: u64,
    #[canon(skip = "a total")]
    total_bytes_sent: u32,
    #[canon(skip = "a total")]
    total_latency: u32,
}

impl<V: Values> StreamWriter<V> {
    /// An idle engine.
    pub fn new(parameters: DmaParameters) -> Self {
        Self {
            parameters,
            sizes: parameters.request_sizes().collect(),
            blocks: (parameters.max_bytes / parameters.spad_row_bytes).max(1),
            all_xacts: u64::MAX >> (64 - parameters.xacts),
            state: State::Idle,
            vaddr: 0,
            physical: false,
            len: 0,
            block: 0,
            data_blocks: [V::Of::default(); MAX_REQUEST_BYTES],
            data_single_block: [V::Of::default(); MAX_WRITE_BYTES],
            bytes_sent: 0,
            packet: WritePacket::default(),
            beats_left: 0,
            xact_busy: 0,
            xact: 0,
            tlb_q: None,
            tlb_q_vaddr: 0,
            tlb_q_physical: false,
            shadow: None,
            translate_q: None,
            asked: false,
            held_address: 0,
            total_bytes_sent: 0,
            total_latency: 0,
        }
    }

    /// True while a row is being sent or an acknowledgement is missing (`io.busy`).
    #[inline]
    pub fn busy(&self) -> bool {
        self.xact_busy != 0 || self.active()
    }

    /// True while a row is being sent (counter line WDMA_ACTIVE_CYCLE).
    #[inline]
    pub fn active(&self) -> bool {
        self.state != State::Idle
    }

    /// Row and transactions.
    pub(crate) fn view(&self) -> EngineView {
        let busy = (0..u64::BITS as u16).filter(|id| self.xact_busy >> id & 1 == 1);
        EngineView {
            active: self.active(),
            bytes_done: if self.active() { self.bytes_sent } else { 0 },
            translating: self.tlb_q.iter().chain(&self.shadow).chain(&self.translate_q).map(|put| put.vaddr).collect(),
            transactions: busy.map(|id| TransactionView { id, ..TransactionView::default() }).collect(),
        }
    }

    /// A beat is on its way through the TLB.
    pub(crate) fn translates(&self) -> bool {
        self.asked || self.tlb_q.is_some() || self.translate_q.is_some() || self.shadow.is_some()
    }

    /// A beat waits behind the TLB, and is held up if the page register does not hold its page.
    pub(crate) fn looks(&self) -> bool {
        self.translate_q.is_some()
    }

    /// Beats of a burst are still to be sent.
    fn in_burst(&self) -> bool {
        self.state == State::WritingBeats
    }

    fn beat_bytes(&self) -> u32 {
        self.parameters.beat_bytes as u32
    }

    /// Position of the next beat within its burst.
    fn beat(&self) -> u32 {
        match self.state {
            State::WritingBeats => self.packet.beats(self.beat_bytes()) - self.beats_left,
            _ => 0,
        }
    }

    /// Handshakes of this cycle: `tlb` is the TLB's answer, `a_ready` the A buffer's, `d_valid`
    /// whether an acknowledgement waits.
    #[inline]
    pub fn wires(&self, tlb: TlbResponse, a_ready: bool, d_valid: bool) -> StreamWriterWires {
        if self.is_quiet() {
            let (vaddr, physical) = (self.tlb_q_vaddr, self.tlb_q_physical);
            let tlb_request = TlbRequest { valid: false, vaddr, physical, write: true };
            return StreamWriterWires { req_ready: true, tlb_request, miss: tlb.miss, ..StreamWriterWires::default() };
        }
        self.busy_wires(tlb, a_ready, d_valid)
    }

    /// True if nothing is under way: a beat in the queues has its transaction marked busy until it is answered.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.xact_busy == 0 && self.state == State::Idle && !self.asked
    }

    fn busy_wires(&self, tlb: TlbResponse, a_ready: bool, d_valid: bool) -> StreamWriterWires {
        let waiting = self.translate_q.is_some();
        let retry = waiting && tlb.miss;
        let translate_q_ready = !waiting || a_ready || tlb.miss;
        let tlb_q_ready = self.tlb_q.is_none() || translate_q_ready;
        let tlb_q_leaves = self.tlb_q.is_some() && translate_q_ready;
        let offered = self.active() && self.xact_busy != self.all_xacts;
        let beat_fires = offered && !retry && self.shadow.is_none() && tlb_q_ready;
        let row_ends = beat_fires && self.row_ends();
        StreamWriterWires {
            req_ready: self.state == State::Idle || row_ends,
            a_fires: waiting && !tlb.miss && a_ready,
            a_waits: waiting && !tlb.miss && !a_ready,
            d_taken: d_valid && self.xact_busy != 0,
            tlb_request: TlbRequest {
                valid: tlb_q_leaves,
                vaddr: self.tlb_q_vaddr,
                physical: self.tlb_q_physical,
                write: true,
            },
            miss: tlb.miss,
            address: if self.asked { tlb.paddr } else { self.held_address },
            retry,
            beat_fires,
            row_ends,
            shadow_leaves: self.shadow.is_some() && !retry && tlb_q_ready,
            tlb_q_leaves,
        }
    }

    /// True if the next beat is the last of its row.
    fn row_ends(&self) -> bool {
        let beat = self.beat();
        let (start, end) = self.packet.span(beat, self.beat_bytes());
        beat + 1 == self.packet.beats(self.beat_bytes()) && end - start >= self.len - self.bytes_sent
    }

    /// The Put beat on channel A; meaningful if `wires.a_fires`.
    pub fn a_beat(&self, wires: &StreamWriterWires) -> Option<ABeat<V>> {
        self.translate_q.as_ref().map(|put| ABeat { address: wires.address, ..put.beat })
    }

    /// Clock edge. `req` is the row that waits (accepted iff `wires.req_ready`), `d` the
    /// acknowledgement that waits (taken iff `wires.d_taken`). Returns true if a register changed.
    #[inline]
    #[must_use]
    pub fn tick(
        &mut self,
        wires: &StreamWriterWires,
        req: Option<&StreamWriteRequest<V>>,
        d: Option<&DBeat<V>>,
    ) -> bool {
        if self.is_quiet() && req.is_none() {
            return false;
        }
        self.busy_tick(wires, req, d)
    }

    fn busy_tick(
        &mut self,
        wires: &StreamWriterWires,
        req: Option<&StreamWriteRequest<V>>,
        d: Option<&DBeat<V>>,
    ) -> bool {
        self.total_latency = self.total_latency.wrapping_add(self.xact_busy.count_ones());
        let accepts = wires.req_ready && req.is_some();
        let translating = self.tlb_q.is_some() || self.translate_q.is_some() || self.shadow.is_some();
        if !self.active() && !accepts && !translating && !wires.d_taken && !self.asked {
            return false;
        }
        let mut changed = self.tick_queues(wires);
        if wires.beat_fires {
            self.beat_sent(wires.row_ends);
        }
        if let Some(d) = d.filter(|_| wires.d_taken) {
            self.xact_busy &= !(1 << d.source);
            self.total_bytes_sent = self.total_bytes_sent.wrapping_add(d.size);
        }
        if accepts && let Some(req) = req {
            self.accept(req);
        }
        if self.state == State::WritingNewBlock && (accepts || wires.beat_fires) {
            self.packet = self.best_packet();
        }
        changed |= accepts || wires.beat_fires || wires.d_taken;
        changed
    }

    /// Order of entry into `tlb_q`: retry, shadow, new beat.
    fn tick_queues(&mut self, wires: &StreamWriterWires) -> bool {
        let was_asked = self.asked;
        if self.asked {
            self.held_address = wires.address;
        }
        self.asked = wires.tlb_request.valid;
        let leaving = if wires.tlb_q_leaves { self.tlb_q.take() } else { None };
        let entering = if wires.retry {
            self.translate_q.take()
        } else if wires.shadow_leaves {
            self.shadow.take()
        } else if wires.beat_fires {
            Some(self.make_beat())
        } else {
            None
        };
        if wires.a_fires {
            self.translate_q = None;
        }
        let moved = leaving.is_some() || entering.is_some() || wires.a_fires;
        if wires.retry {
            debug_assert!(leaving.is_none() || self.shadow.is_none(), "the shadow queue is taken");
            self.shadow = self.shadow.or(leaving);
        } else if leaving.is_some() {
            self.translate_q = leaving;
        }
        if let Some(put) = entering {
            self.tlb_q_vaddr = put.vaddr;
            self.tlb_q_physical = put.physical;
            self.tlb_q = entering;
        }
        moved || was_asked
    }

    /// The beat that fires.
    fn make_beat(&self) -> UntranslatedPut<V> {
        let (beat, beat_bytes) = (self.beat(), self.beat_bytes());
        let (start, end) = self.packet.span(beat, beat_bytes);
        let mut data = [V::Of::default(); MAX_BEAT_BYTES];
        let source = if self.block == 0 { &self.data_single_block[..] } else { &self.data_blocks };
        let from = (self.bytes_sent as usize).min(source.len());
        let n = ((end - start) as usize).min(source.len() - from);
        data[start as usize..start as usize + n].copy_from_slice(&source[from..from + n]);
        let xact = match self.state {
            State::WritingBeats => self.xact,
            _ => self.free_xact(),
        };
        UntranslatedPut {
            vaddr: self.packet.vaddr,
            physical: self.physical,
            beat: ABeat {
                kind: if self.packet.is_full { ReqKind::PutFull } else { ReqKind::PutPartial },
                source: xact,
                address: 0,
                size: self.packet.size,
                beat,
                last: beat + 1 == self.packet.beats(beat_bytes),
                mask: byte_mask(start, end),
                data,
            },
        }
    }

    fn free_xact(&self) -> u16 {
        (!self.xact_busy).trailing_zeros() as u16
    }

    /// State after a beat fired.
    fn beat_sent(&mut self, row_ends: bool) {
        let beat_bytes = self.beat_bytes();
        let (start, end) = self.packet.span(self.beat(), beat_bytes);
        if self.state == State::WritingNewBlock {
            self.xact = self.free_xact();
            self.xact_busy |= 1 << self.xact;
            self.beats_left = self.packet.beats(beat_bytes) - 1;
            self.vaddr = core_address(self.vaddr + u64::from(self.packet.end - self.packet.start));
        } else {
            self.beats_left -= 1;
        }
        self.bytes_sent += end - start;
        self.state = match (row_ends, self.beats_left) {
            (true, _) => State::Idle,
            (false, 0) => State::WritingNewBlock,
            (false, _) => State::WritingBeats,
        };
    }

    /// Takes a row into the data registers.
    fn accept(&mut self, req: &StreamWriteRequest<V>) {
        let row = self.parameters.spad_row_bytes;
        let width = self.parameters.write_data_bytes;
        self.vaddr = req.vaddr;
        self.physical = req.physical;
        self.block = req.block;
        self.len = u32::from(req.block) * row as u32 + u32::from(req.len);
        if req.pool_en {
            self.pool(&req.data);
        } else {
            self.data_single_block[..width].copy_from_slice(&req.data[..width]);
        }
        let at = usize::from(req.block) % self.blocks * row;
        self.data_blocks[at..at + row].copy_from_slice(&req.data[..row]);
        self.bytes_sent = 0;
        self.state = if req.store_en { State::WritingNewBlock } else { State::Idle };
    }

    /// Lanewise signed maximum over the first DIM elements; other lanes keep the old value.
    fn pool(&mut self, data: &[V::Of<u8>]) {
        let (element, dim) = (self.parameters.input_bytes, self.parameters.dim);
        V::update(&mut self.data_single_block, |kept, sight| {
            let lanes = kept.chunks_exact_mut(element).zip(V::see(data, sight).chunks_exact(element));
            for (old, new) in lanes.take(dim) {
                if signed(new) > signed(old) {
                    old.copy_from_slice(new);
                }
            }
        });
    }

    /// The smallest request size that writes the most bytes at once.
    fn best_packet(&self) -> WritePacket {
        let left = self.len - self.bytes_sent;
        let mut best = WritePacket::default();
        for (i, &size) in self.sizes.iter().enumerate() {
            let start = (self.vaddr & u64::from(size - 1)) as u32;
            let end = (start + left).min(size);
            if i == 0 || end - start > best.end - best.start {
                let vaddr = self.vaddr - u64::from(start);
                best = WritePacket { size, vaddr, start, end, is_full: start == 0 && end == size };
            }
        }
        best
    }

    /// Drives the engine's counter lines and values. The miss line is high as well while nothing is translated.
    pub fn counter_events(&self, wires: &StreamWriterWires, events: &mut CounterEvents) {
        events.set(CounterEvent::WdmaActiveCycle, self.active());
        events.set(CounterEvent::WdmaTlbWaitCycles, wires.miss);
        events.set(CounterEvent::WdmaTlWaitCycles, wires.a_waits);
        self.external_counters(events);
    }

    /// Drives the engine's external values.
    pub fn external_counters(&self, events: &mut CounterEvents) {
        events.set_external(CounterExternal::WdmaBytesSent, self.total_bytes_sent);
        events.set_external(CounterExternal::WdmaTotalLatency, self.total_latency);
    }

    /// What this cycle is spent on; `accepts`: a row is taken in.
    pub fn activity(&self, wires: &StreamWriterWires, accepts: bool) -> DmaEngineActivity {
        use DmaEngineActivity::{Busy, Idle, Stalled};
        if accepts || wires.a_fires || wires.d_taken || wires.beat_fires {
            return Busy;
        }
        if self.is_quiet() {
            return Idle;
        }
        Stalled(match self.translate_q {
            Some(_) if wires.miss => DmaEngineStall::Translation,
            Some(_) => DmaEngineStall::Port,
            None if self.active() && self.xact_busy == self.all_xacts => DmaEngineStall::Transactions,
            None => DmaEngineStall::Memory,
        })
    }

    /// Clears the external counters' registers (`external_reset`), after the clock edge.
    pub fn reset_external_counters(&mut self) {
        (self.total_bytes_sent, self.total_latency) = (0, 0);
    }

    /// Accounts for `cycles` skipped cycles in which nothing moved.
    pub fn skip(&mut self, cycles: u64) {
        self.total_latency = self.total_latency.wrapping_add(self.xact_busy.count_ones().wrapping_mul(cycles as u32));
    }

    /// What the engine waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        if self.active() {
            return Some(format!("StreamWriter: row at {:#x} not sent", self.vaddr));
        }
        let pending = self.xact_busy.count_ones();
        (pending != 0).then(|| format!("StreamWriter: {pending} writes without acknowledgement"))
    }
}

/// Mask of the bytes `start..end` of a beat.
fn byte_mask(start: u32, end: u32) -> u64 {
    if start >= end { 0 } else { (u64::MAX >> (64 - (end - start))) << start }
}

/// A little-endian two's complement number of 1 to 4 bytes.
fn signed(bytes: &[u8]) -> i32 {
    let raw = bytes.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
    let unused = 32 - 8 * bytes.len() as u32;
    (raw << unused) as i32 >> unused
}
