//! Read DMA engine: splits row requests into aligned TileLink Gets and merges the answers into rows
//! (`StreamReader` and `StreamReaderCore`, `DMA.scala`).
//!
//! ```text
//! req -> [request register] -packet-> tlb_q Q(1,pipe) -> translate_q Q(1,pipe) -> A
//!                              ^------ retry (miss or A not ready) ---'
//! D -> BeatMerger -> resp            XactTracker: one entry per packet under way
//! ```
//!
//! A row accepted in cycle u offers its first packet in u+1. A packet that fires in cycle v stands
//! in `tlb_q` in v+1, where the TLB is asked, and in `translate_q` in v+2, where the answer is
//! there and channel A is valid. `translate_q` never stalls: a packet that misses or finds A not
//! ready goes back into `tlb_q`, ahead of new ones, and is tried again two cycles later. Two packets
//! may circulate that way, so reads can leave out of order.
//!
//! | name | direction | valid when | back pressure |
//! |---|---|---|---|
//! | `req` | in | a row request waits | `StreamReaderWires::req_ready` |
//! | `tlb_request` | out | a packet stands in `tlb_q` | none; losing or missing shows as a miss |
//! | `a_beat()` | out | `StreamReaderWires::a_fires` | A buffer |
//! | `resp()` | out | merger holds a row | `resp_ready` |

use crate::dma::beat_merger::{BeatMerger, BeatMergerWires};
use crate::dma::dma_parameters::{DmaParameters, core_address};
use crate::dma::xact_tracker::{XactTracker, XactTrackerEntry};
use crate::front_end::counter_file::{CounterEvent, CounterEvents, CounterExternal};
use crate::observation::dma_activity::{DmaEngineActivity, DmaEngineStall};
use crate::observation::event::ReqKind;
use crate::observation::view::{EngineView, TransactionView};
use crate::parts::canonical::Canonical;
use crate::parts::row::{AccLanes, SpadLanes};
use crate::parts::values::{Full, Values};
use crate::port::frontend_tlb::{TlbRequest, TlbResponse};
use crate::port::tilelink::{ABeat, DBeat, MAX_BEAT_BYTES};

/// A row request to the reader (`StreamReadRequest`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct StreamReadRequest {
    /// Virtual address of the first element.
    #[canon(address)]
    pub vaddr: u64,
    /// Row, counted through all banks of the memory that it goes to.
    pub row: u32,
    /// The row is in the accumulator.
    pub is_acc: bool,
    /// Add to the accumulator row.
    pub accumulate: bool,
    /// Elements in memory are as wide as accumulator elements.
    pub has_acc_bitwidth: bool,
    /// Bits of the mvin scale.
    #[canon(load_scale)]
    pub scale: u32,
    /// Elements.
    pub len: u16,
    /// Further rows to write with the same data (stride 0).
    pub repeats: u16,
    /// Copies of each pixel.
    pub pixel_repeats: u8,
    /// Rows between the blocks of the request.
    pub block_stride: u16,
    /// Command tracker entry of the load controller.
    pub cmd_id: u8,
}

/// A row, or part of a row, from the reader (`StreamReadResponse`); its data comes from
/// [`StreamReader::resp_spad_row`] or [`StreamReader::resp_acc_row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamReadResponse {
    /// Row, counted through all banks.
    pub row: u32,
    /// First enabled byte of the row.
    pub mask_start: usize,
    /// Byte behind the last enabled one.
    pub mask_end: usize,
    /// The row is in the accumulator.
    pub is_acc: bool,
    /// Add to the accumulator row.
    pub accumulate: bool,
    /// Elements are as wide as accumulator elements.
    pub has_acc_bitwidth: bool,
    /// Bits of the mvin scale.
    pub scale: u32,
    /// Further rows to write with the same data.
    pub repeats: u16,
    /// Copies of each pixel.
    pub pixel_repeats: u8,
    /// Columns of the row request.
    pub len: u16,
    /// Last row of its packet.
    pub last: bool,
    /// Useful bytes of the packet: what the load controller counts down.
    pub bytes_read: u32,
    /// Command tracker entry of the load controller.
    pub cmd_id: u8,
}

/// The next Get of the request under way.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct ReadPacket {
    /// Bytes of the TileLink request.
    size: u32,
    /// Useful bytes.
    bytes: u32,
    /// Leading bytes to drop.
    shift: u32,
    /// Virtual address, aligned to `size`.
    #[canon(address)]
    vaddr: u64,
}

/// A Get on its way through translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
struct UntranslatedGet {
    #[canon(address)]
    vaddr: u64,
    size: u32,
    xact: u16,
}

/// Handshakes of one cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamReaderWires {
    /// The engine accepts a row request.
    pub req_ready: bool,
    /// A Get leaves on channel A; [`StreamReader::a_beat`] makes it.
    pub a_fires: bool,
    /// A Get would leave but the A buffer is full.
    pub a_waits: bool,
    /// The D beat is taken.
    pub d_taken: bool,
    /// The translation request.
    pub tlb_request: TlbRequest,
    miss: bool,
    address: u64,
    retry: bool,
    packet_fires: bool,
    last_packet: bool,
    merger: BeatMergerWires,
}

/// The engine.
#[derive(Clone, Debug, Canonical)]
pub struct StreamReader<V: Values = Full> {
    #[canon(skip = "constant")]
    parameters: DmaParameters,
    #[canon(skip = "constant")]
    sizes: Vec<u32>,
    /// `bytesRequested` wraps at the longest row or request.
    #[canon(skip = "constant")]
    requested_mask: u32,
    /// State `s_req_new_block`.
    active: bool,
    #[canon(valid_if = active)]
    req: StreamReadRequest,
    #[canon(valid_if = active)]
    bytes_requested: u32,
    /// Function of `req` and `bytes_requested`, kept up to date at the clock edge.
    #[canon(valid_if = active)]
    packet: ReadPacket,
    xacts: XactTracker,
    merger: BeatMerger<V>,
    /// Transaction whose entry the merger holds.
    #[canon(valid_if = merges)]
    merging: u16,
    tlb_q: Option<UntranslatedGet>,
    /// Address last written into `tlb_q`: what the TLB's compare sees while the queue is empty.
    #[canon(address, valid_if = translates)]
    tlb_q_vaddr: u64,
    translate_q: Option<UntranslatedGet>,
    /// Nothing is under way: the engine only waits for a row request.
    #[canon(skip = "told by the other registers")]
    quiet: bool,
    #[canon(skip = "a total")]
    total_bytes_read: u32,
    #[canon(skip = "a total")]
    total_latency: u32,
}

impl<V: Values> StreamReader<V> {
    /// An idle engine.
    pub fn new(parameters: DmaParameters) -> Self {
        let longest = parameters.spad_row_bytes.max(parameters.acc_row_bytes).max(parameters.max_bytes);
        Self {
            parameters,
            sizes: parameters.request_sizes().collect(),
            requested_mask: longest.next_power_of_two() as u32 - 1,
            active: false,
            req: StreamReadRequest::default(),
            bytes_requested: 0,
            packet: ReadPacket::default(),
            xacts: XactTracker::new(parameters.xacts),
            merger: BeatMerger::new(&parameters),
            merging: 0,
            tlb_q: None,
            tlb_q_vaddr: 0,
            translate_q: None,
            quiet: true,
            total_bytes_read: 0,
            total_latency: 0,
        }
    }

    /// True while a transaction is under way (`io.busy`).
    #[inline]
    pub fn busy(&self) -> bool {
        self.xacts.busy()
    }

    /// True if nothing is under way.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True while a row request is being split (counter line RDMA_ACTIVE_CYCLE).
    #[inline]
    pub fn active(&self) -> bool {
        self.active
    }

    /// Entry of the load controller's tracker that a transaction belongs to.
    pub(crate) fn command(&self, xact: u16) -> u8 {
        self.xacts.peek(xact).cmd_id
    }

    /// Row and transactions; `seq` is told of entries of the load controller's tracker.
    pub(crate) fn view(&self, seq: impl Fn(u8) -> Option<u64>) -> EngineView {
        let transaction = |(id, entry): (u16, &XactTrackerEntry)| TransactionView {
            id,
            seq: seq(entry.cmd_id),
            row: Some(entry.row),
            accumulator: entry.is_acc,
            bytes: entry.bytes_to_read,
        };
        EngineView {
            active: self.active,
            bytes_done: if self.active { self.bytes_requested } else { 0 },
            translating: self.tlb_q.iter().chain(&self.translate_q).map(|get| get.vaddr).collect(),
            transactions: self.xacts.entries().map(transaction).collect(),
        }
    }

    /// A request is on its way through the TLB.
    pub(crate) fn translates(&self) -> bool {
        self.tlb_q.is_some() || self.translate_q.is_some()
    }

    /// Beats of a transaction are being merged.
    fn merges(&self) -> bool {
        self.merger.busy()
    }

    /// If a row is offered by the merger: whether its elements are wide, and for the accumulator.
    #[inline]
    pub fn resp_is_wide(&self) -> Option<bool> {
        let entry = self.merger.entry();
        self.merger.out_valid().then_some(entry.is_acc && entry.has_acc_bitwidth)
    }

    /// The row offered by the merger.
    #[inline]
    pub fn resp(&self) -> Option<StreamReadResponse> {
        if !self.merger.out_valid() {
            return None;
        }
        let (row, entry) = (self.merger.row(), self.merger.entry());
        Some(StreamReadResponse {
            row: row.row,
            mask_start: row.mask_start,
            mask_end: row.mask_end,
            is_acc: entry.is_acc,
            accumulate: entry.accumulate,
            has_acc_bitwidth: entry.has_acc_bitwidth,
            scale: entry.scale,
            repeats: entry.repeats,
            pixel_repeats: entry.pixel_repeats,
            len: entry.len,
            last: row.last,
            bytes_read: entry.bytes_to_read,
            cmd_id: entry.cmd_id,
        })
    }

    /// Data of the offered row as scratchpad elements.
    pub fn resp_spad_row(&self) -> SpadLanes<V> {
        self.merger.spad_row()
    }

    /// Data of the offered row as accumulator elements.
    pub fn resp_acc_row(&self) -> AccLanes<V> {
        self.merger.acc_row()
    }

    fn bytes_left(&self) -> u32 {
        let element = if self.req.has_acc_bitwidth { self.parameters.acc_bytes } else { self.parameters.input_bytes };
        (u32::from(self.req.len) * element as u32).wrapping_sub(self.bytes_requested)
    }

    /// Handshakes of this cycle: `tlb` is the TLB's answer, `a_ready` the A buffer's, `d` the beat
    /// that waits on channel D, `resp_ready` whether the offered row is taken.
    #[inline]
    pub fn wires(&self, tlb: TlbResponse, a_ready: bool, d: Option<&DBeat<V>>, resp_ready: bool) -> StreamReaderWires {
        if self.quiet {
            let tlb_request = TlbRequest { vaddr: self.tlb_q_vaddr, ..TlbRequest::default() };
            return StreamReaderWires { req_ready: true, tlb_request, miss: tlb.miss, ..StreamReaderWires::default() };
        }
        self.busy_wires(tlb, a_ready, d, resp_ready)
    }

    #[inline]
    fn busy_wires(&self, tlb: TlbResponse, a_ready: bool, d: Option<&DBeat<V>>, resp_ready: bool) -> StreamReaderWires {
        let waiting = self.translate_q.is_some();
        let retry = waiting && (tlb.miss || !a_ready);
        let packet_fires = self.active && self.xacts.alloc_ready() && !retry;
        let last_packet = packet_fires && self.packet.bytes >= self.bytes_left();
        let merger = self.merger.wires(d.is_some(), resp_ready);
        StreamReaderWires {
            req_ready: !self.active || last_packet,
            a_fires: waiting && !tlb.miss && a_ready,
            a_waits: waiting && !tlb.miss && !a_ready,
            d_taken: merger.in_fire,
            tlb_request: TlbRequest {
                valid: self.tlb_q.is_some(),
                vaddr: self.tlb_q_vaddr,
                physical: false,
                write: false,
            },
            miss: tlb.miss,
            address: tlb.paddr,
            retry,
            packet_fires,
            last_packet,
            merger,
        }
    }

    /// The Get on channel A; meaningful if `wires.a_fires`.
    pub fn a_beat(&self, wires: &StreamReaderWires) -> ABeat<V> {
        let get = self.translate_q.unwrap_or_default();
        let beat_bytes = self.parameters.beat_bytes as u32;
        ABeat {
            kind: ReqKind::Get,
            source: get.xact,
            address: wires.address,
            size: get.size,
            beat: 0,
            last: true,
            mask: u64::MAX >> (64 - beat_bytes.min(get.size)),
            data: [V::Of::default(); MAX_BEAT_BYTES],
        }
    }

    /// Clock edge. `req` is the row request that waits (accepted iff `wires.req_ready`), `d` the
    /// beat that waits (taken iff `wires.d_taken`). Returns true if a register changed.
    #[inline]
    #[must_use]
    pub fn tick(&mut self, wires: &StreamReaderWires, req: Option<&StreamReadRequest>, d: Option<&DBeat<V>>) -> bool {
        if self.quiet && req.is_none() {
            return false;
        }
        self.busy_tick(wires, req, d)
    }

    fn busy_tick(&mut self, wires: &StreamReaderWires, req: Option<&StreamReadRequest>, d: Option<&DBeat<V>>) -> bool {
        self.total_latency = self.total_latency.wrapping_add(self.xacts.occupied());
        let accepts = wires.req_ready && req.is_some();
        let moving = accepts || self.tlb_q.is_some() || self.translate_q.is_some() || wires.packet_fires;
        if !moving && !self.merger.busy() && d.is_none() {
            return false;
        }
        self.tick_queues(wires);
        let alloc = wires.packet_fires.then(|| self.xact_entry());
        let (merged, pop) = self.tick_merger(wires, d);
        self.xacts.tick(alloc, pop);
        if wires.packet_fires {
            self.req.vaddr = core_address(self.req.vaddr + u64::from(self.packet.bytes));
            self.bytes_requested = (self.bytes_requested + self.packet.bytes) & self.requested_mask;
            self.active = !wires.last_packet;
        }
        if accepts && let Some(req) = req {
            self.req = *req;
            self.bytes_requested = 0;
            self.active = true;
        }
        if self.active && (wires.packet_fires || accepts) {
            self.packet = self.best_packet();
        }
        // A packet stands in the table from its first cycle to its last beat, so the queues need not be asked.
        self.quiet = !self.active && !self.xacts.busy() && !self.merger.busy();
        moving || merged
    }

    /// `tlb_q` takes a retry before a new packet; `translate_q` takes whatever stood in `tlb_q`.
    fn tick_queues(&mut self, wires: &StreamReaderWires) {
        let entering = if wires.retry {
            self.translate_q
        } else if wires.packet_fires {
            Some(UntranslatedGet { vaddr: self.packet.vaddr, size: self.packet.size, xact: self.xacts.free_entry() })
        } else {
            None
        };
        self.translate_q = self.tlb_q;
        self.tlb_q = entering;
        if let Some(get) = entering {
            self.tlb_q_vaddr = get.vaddr;
        }
    }

    /// Feeds the merger; returns whether it changed and the transaction whose last beat was taken.
    fn tick_merger(&mut self, wires: &StreamReaderWires, d: Option<&DBeat<V>>) -> (bool, Option<u16>) {
        let Some(d) = d else {
            let changed = self.merger.tick(&wires.merger, &XactTrackerEntry::default(), 0, &[]);
            return (changed, None);
        };
        if wires.merger.req_fire {
            self.merging = d.source;
        }
        let changed = self.merger.tick(&wires.merger, self.xacts.peek(self.merging), d.size, &d.data);
        if wires.d_taken {
            self.total_bytes_read = self.total_bytes_read.wrapping_add(d.size);
        }
        (changed, (wires.d_taken && d.last).then_some(self.merging))
    }

    /// The smallest request size that fetches the most bytes at once.
    fn best_packet(&self) -> ReadPacket {
        let (vaddr, left) = (self.req.vaddr, self.bytes_left());
        let mut best = ReadPacket::default();
        for (i, &size) in self.sizes.iter().enumerate() {
            let shift = (vaddr & u64::from(size - 1)) as u32;
            let bytes = (size - shift).min(left);
            if i == 0 || bytes > best.bytes {
                best = ReadPacket { size, bytes, shift, vaddr: vaddr - u64::from(shift) };
            }
        }
        best
    }

    /// Table entry of the packet that fires.
    fn xact_entry(&self) -> XactTrackerEntry {
        let p = &self.parameters;
        let row_bytes = if self.req.has_acc_bitwidth { p.acc_row_bytes } else { p.spad_row_bytes } as u32;
        let blocks = self.bytes_requested / row_bytes;
        XactTrackerEntry {
            shift: self.packet.shift,
            row: self.req.row.wrapping_add(u32::from(self.req.block_stride) * blocks) & p.row_mask,
            is_acc: self.req.is_acc,
            accumulate: self.req.accumulate,
            has_acc_bitwidth: self.req.has_acc_bitwidth,
            scale: self.req.scale,
            repeats: self.req.repeats,
            pixel_repeats: self.req.pixel_repeats,
            len: self.req.len,
            block_stride: self.req.block_stride,
            row_offset: self.bytes_requested % row_bytes,
            bytes_to_read: self.packet.bytes,
            cmd_id: self.req.cmd_id,
        }
    }

    /// Drives the engine's counter lines and values. The miss line is high as well while nothing is translated.
    pub fn counter_events(&self, wires: &StreamReaderWires, events: &mut CounterEvents) {
        events.set(CounterEvent::RdmaActiveCycle, self.active());
        events.set(CounterEvent::RdmaTlbWaitCycles, wires.miss);
        events.set(CounterEvent::RdmaTlWaitCycles, wires.a_waits);
        self.external_counters(events);
    }

    /// Drives the engine's external values.
    pub fn external_counters(&self, events: &mut CounterEvents) {
        events.set_external(CounterExternal::RdmaBytesRec, self.total_bytes_read);
        events.set_external(CounterExternal::RdmaTotalLatency, self.total_latency);
    }

    /// What this cycle is spent on; `d_valid`: a beat waits on channel D, `resp_taken`: the offered row is taken.
    pub fn activity(&self, wires: &StreamReaderWires, d_valid: bool, resp_taken: bool) -> DmaEngineActivity {
        use DmaEngineActivity::{Busy, Idle, Stalled};
        if self.quiet {
            return Idle;
        }
        if wires.a_fires || wires.d_taken || wires.packet_fires || resp_taken {
            return Busy;
        }
        Stalled(match self.translate_q {
            Some(_) if wires.miss => DmaEngineStall::Translation,
            Some(_) => DmaEngineStall::Port,
            None if self.merger.out_valid() || d_valid => DmaEngineStall::Scratchpad,
            None if self.active && !self.xacts.alloc_ready() => DmaEngineStall::Transactions,
            None => DmaEngineStall::Memory,
        })
    }

    /// Clears the external counters' registers (`external_reset`), after the clock edge.
    pub fn reset_external_counters(&mut self) {
        (self.total_bytes_read, self.total_latency) = (0, 0);
    }

    /// Accounts for `cycles` skipped cycles in which nothing moved.
    pub fn skip(&mut self, cycles: u64) {
        self.total_latency = self.total_latency.wrapping_add(self.xacts.occupied().wrapping_mul(cycles as u32));
    }

    /// What the engine waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        if self.xacts.busy() {
            return Some(format!("StreamReader: {} transactions without their answers", self.xacts.occupied()));
        }
        self.active.then(|| format!("StreamReader: row request at {:#x} not sent", self.req.vaddr))
    }
}
