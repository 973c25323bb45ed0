//! The way of a stored row from the store controller to the write DMA: the part of `Scratchpad.scala` between the
//! `dma.write` port and the stream writer.
//!
//! ```text
//!                          bank read        bank output           scale unit          scale unit output,
//!                              |          --> normalizer          <-- normalizer      or bank output (spad)
//! store controller --> dispatch Q(2) --> norm Q(d+2) ----> scale Q(d+2) ----> issue Q(d+1, pipe) --> writer
//! ```
//!
//! with d = `spad_read_delay`, which sets nothing but these depths. Four queues carry the requests in order; the rows travel beside
//! them. A garbage row and a row of the scratchpad pass from norm to scale to issue as soon as there is room; a row of the
//! accumulator passes together with its data. The store controller's response is given when a row's bank read is accepted.
//!
//! The normalizer may let a row overtake another one, but not its request: address, length and width are those of the
//! request at the head, data and their function (activation, scale, statistics) those of the row that comes out.
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `dma.write.req` | in | a row request of the store controller | [`MvoutPath::store_ready`]: room in the dispatch queue |
//! | bank read | out | [`MvoutPath::dispatching`] | the bank's read port, behind the execute controller |
//! | bank output | in | the row that was read stands there | taken when the next queue has room ([`MvoutWires`]) |
//! | writer `req` | out | [`MvoutPath::writer_request`] | the writer's `req_ready` |

use pollux_isa::values::{Activation, Bits};
use pollux_isa::{AddressLayout, GemminiConfig};
use pollux_numerics::IexpConstants;

use crate::dma::store_controller::ScratchpadWriteRequest;
use crate::dma::stream_writer::{MAX_WRITE_BYTES, StreamWriteRequest};
use crate::memories::accumulator_mem::{AccumulatorMem, ReadoutRequest};
use crate::memories::accumulator_scale::AccumulatorScale;
use crate::memories::normalizer::{NormalizedInput, Normalizer};
use crate::observation::activity::{Cause, Spent};
use crate::observation::counts::{NormalizerCounts, ReadoutCounts};
use crate::observation::event::{EventBuffer, Port};
use crate::observation::view::{MvoutView, RowView};
use crate::observation::violation::Violation;
use crate::parts::banks::{BankId, BankRow, acc_place, spad_place};
use crate::parts::canonical::Canonical;
use crate::parts::queue::Queue;
use crate::parts::row::SpadLanes;
use crate::parts::values::{Full, Values};

/// Entries of the dispatch queue (`Queue`'s default).
const DISPATCH_DEPTH: usize = 2;

/// Where the row of a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowSource {
    /// Garbage address: zeros.
    Zeros,
    /// A scratchpad bank.
    Spad(BankId),
    /// An accumulator bank.
    Acc(BankId),
}

/// What the path did in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MvoutActivity {
    /// No row.
    Idle,
    /// A row moved by a queue, or left for the writer.
    Busy,
    /// Nothing moved.
    Stalled(MvoutStall),
}

/// Why the oldest row on its way out waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MvoutStall {
    /// The writer is still sending the row before.
    Writer,
    /// The row is in the scale unit.
    ScaleUnit,
    /// The scale unit does not take the row, or the normalizer is not done with it.
    Normalizer,
    /// The bank's read port is taken, or its row is being written.
    BankRead,
    /// The row has been read and has not reached its queue.
    BankOutput,
}

/// What moves in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct MvoutWires {
    /// The head of the issue queue leaves.
    issue_leaves: bool,
    /// It takes its row from this scratchpad bank's queue of rows for the DMA.
    pub spad_row: Option<BankId>,
    scale_out_taken: bool,
    /// The head of the scale queue goes to the issue queue.
    scale_leaves: bool,
    norm_out_taken: bool,
    norm_leaves: bool,
    norm_enters_scale: bool,
    /// The normalizer takes the row at the output of this accumulator bank.
    pub acc_row: Option<BankId>,
}

impl MvoutWires {
    /// A row leaves for the writer.
    pub fn sends(&self) -> bool {
        self.issue_leaves
    }
}

/// The constants of the exponential as they stand at the normalizer's input port while no row enters.
///
/// The port's select has no default, which leaves bank 0 there: the constants of the row at its output, or else of the head of the
/// dispatch queue one cycle ago, which is a slot of the queue's memory even if the queue is empty.
#[derive(Clone, Debug, Default)]
struct IdlePort {
    memory: [IexpConstants; DISPATCH_DEPTH],
    enq: usize,
    deq: usize,
    registered: IexpConstants,
}

impl IdlePort {
    fn tick(&mut self, leaves: bool, enters: Option<&ScratchpadWriteRequest>) {
        self.registered = self.memory[self.deq];
        if leaves {
            self.deq = (self.deq + 1) % DISPATCH_DEPTH;
        }
        if let Some(request) = enters {
            self.memory[self.enq] = constants(request);
            self.enq = (self.enq + 1) % DISPATCH_DEPTH;
        }
    }
}

fn spent_on_rows(empty: bool, enters: bool, held_up: Option<Cause>) -> Spent {
    match held_up {
        Some(cause) => Spent::Stalled(cause),
        None if empty && !enters => Spent::Idle,
        None => Spent::Busy,
    }
}

fn pop_if<T>(queue: &mut Queue<T>, leaves: bool) -> Option<T> {
    if leaves { queue.pop() } else { None }
}

fn constants(request: &ScratchpadWriteRequest) -> IexpConstants {
    IexpConstants {
        qln2: request.acc_iexp_qln2,
        qln2_inv: request.acc_iexp_qln2_inv,
        qb: request.acc_igelu_qb,
        qc: request.acc_igelu_qc,
    }
}

/// Queues, normalizer and scale unit.
#[derive(Clone, Debug, Canonical)]
pub struct MvoutPath<V: Values = Full> {
    #[canon(skip = "constant")]
    layout: AddressLayout,
    #[canon(skip = "constant")]
    dim: usize,
    #[canon(skip = "constant")]
    input_bytes: u16,
    #[canon(skip = "constant")]
    acc_bytes: u16,
    dispatch: Queue<ScratchpadWriteRequest>,
    norm: Queue<ScratchpadWriteRequest>,
    scale: Queue<ScratchpadWriteRequest>,
    issue: Queue<ScratchpadWriteRequest>,
    normalizer: Normalizer<V>,
    acc_scale: AccumulatorScale<V>,
    #[canon(skip = "values")]
    idle_port: IdlePort,
    /// Rows that entered the two units so far.
    #[canon(skip = "statistics")]
    normalizer_rows: NormalizerCounts,
    #[canon(skip = "statistics")]
    readout_rows: ReadoutCounts,
}

impl<V: Values> MvoutPath<V> {
    /// The path of a configuration, empty.
    pub fn new(config: &GemminiConfig) -> Self {
        let delay = config.spad_read_delay as usize;
        Self {
            layout: config.layout(),
            dim: config.dim() as usize,
            input_bytes: config.input_type.bytes() as u16,
            acc_bytes: config.acc_type.bytes() as u16,
            dispatch: Queue::plain(DISPATCH_DEPTH),
            norm: Queue::plain(delay + 2),
            scale: Queue::plain(delay + 2),
            issue: Queue::pipe(delay + 1),
            normalizer: Normalizer::new(config),
            acc_scale: AccumulatorScale::new(config),
            idle_port: IdlePort::default(),
            normalizer_rows: NormalizerCounts::default(),
            readout_rows: ReadoutCounts::default(),
        }
    }

    /// Rows that entered the normalizer and the scale unit so far.
    pub fn counts(&self) -> (NormalizerCounts, ReadoutCounts) {
        (self.normalizer_rows, self.readout_rows)
    }

    /// The oracle for what timing has to know about values.
    pub fn set_oracle(&mut self, zero_divisors: V::Oracle) {
        self.normalizer.set_oracle(zero_divisors);
    }

    /// Divisions of the normalizer so far.
    pub fn divisions(&self) -> u64 {
        self.normalizer.divisions()
    }

    /// Sets that number, after divisions that were made without it.
    pub(crate) fn set_divisions(&mut self, divisions: u64) {
        self.normalizer.set_divisions(divisions);
    }

    /// True while a request is in one of the four queues: the path's part of `io.busy`.
    #[inline]
    pub fn busy(&self) -> bool {
        !(self.dispatch.is_empty() && self.norm.is_empty() && self.scale.is_empty() && self.issue.is_empty())
    }

    /// True if no row and no statistics are on their way.
    #[inline]
    pub fn is_idle(&self) -> bool {
        !self.busy() && self.normalizer.is_idle() && self.acc_scale.is_empty()
    }

    /// True if the dispatch queue accepts a request.
    #[inline]
    pub fn store_ready(&self) -> bool {
        self.dispatch.enq_ready(false)
    }

    /// The request that may read its row now: the head of the dispatch queue, if the norm queue has room.
    #[inline]
    pub fn dispatching(&self) -> Option<&ScratchpadWriteRequest> {
        self.dispatch.front().filter(|_| self.norm.enq_ready(false))
    }

    /// Where a request's row comes from.
    pub fn source(&self, request: &ScratchpadWriteRequest) -> RowSource {
        let laddr = request.laddr;
        if laddr.is_garbage(self.layout) {
            RowSource::Zeros
        } else if laddr.is_acc() {
            RowSource::Acc(acc_place(laddr, self.layout).0)
        } else {
            RowSource::Spad(spad_place(laddr, self.layout).0)
        }
    }

    /// Row within its bank that a request reads.
    pub fn bank_row(&self, request: &ScratchpadWriteRequest) -> BankRow {
        let laddr = request.laddr;
        if laddr.is_acc() { acc_place(laddr, self.layout).1 } else { spad_place(laddr, self.layout).1 }
    }

    /// How a request wants its accumulator row.
    pub fn readout(&self, request: &ScratchpadWriteRequest) -> ReadoutRequest {
        ReadoutRequest {
            activation: Activation::from_bits(request.acc_act.into()),
            scale: request.acc_scale,
            constants: constants(request),
            port: Port::Dma,
        }
    }

    /// Moves of this cycle, sinks first: `writer_ready` is the writer's `req.ready`, `spad_row` whether a row waits in the
    /// bank's queue of rows for the DMA, `acc_row` whether one is at the bank's output.
    pub fn wires(
        &self,
        writer_ready: bool,
        spad_row: impl Fn(BankId) -> bool,
        acc_row: impl Fn(BankId) -> bool,
    ) -> MvoutWires {
        let mut wires = MvoutWires::default();
        if !self.busy() {
            return wires;
        }
        if let Some(head) = self.issue.front().filter(|_| writer_ready) {
            match self.source(head) {
                RowSource::Zeros => wires.issue_leaves = true,
                RowSource::Spad(bank) => wires.spad_row = spad_row(bank).then_some(bank),
                // A row that the execute controller read would go to it and not to the writer.
                RowSource::Acc(_) => {
                    wires.scale_out_taken = self.acc_scale.out().is_some_and(|out| out.port == Port::Dma);
                }
            }
            wires.issue_leaves |= wires.spad_row.is_some() || wires.scale_out_taken;
        }
        self.scale_wires(&mut wires);
        self.norm_wires(&mut wires, acc_row);
        wires
    }

    fn scale_wires(&self, wires: &mut MvoutWires) {
        let issue_ready = self.issue.enq_ready(wires.issue_leaves);
        let Some(head) = self.scale.front().filter(|_| issue_ready) else { return };
        if let RowSource::Acc(_) = self.source(head) {
            wires.norm_out_taken = self.normalizer.out().is_some() && self.acc_scale.in_ready(wires.scale_out_taken);
            wires.scale_leaves = wires.norm_out_taken;
        } else {
            wires.scale_leaves = true;
        }
    }

    fn norm_wires(&self, wires: &mut MvoutWires, acc_row: impl Fn(BankId) -> bool) {
        let Some(head) = self.norm.front().filter(|_| self.scale.enq_ready(false)) else { return };
        if let RowSource::Acc(bank) = self.source(head) {
            let stats_id = head.acc_norm_stats_id.into();
            if acc_row(bank) && self.normalizer.in_ready(stats_id, wires.norm_out_taken) {
                wires.acc_row = Some(bank);
                wires.norm_leaves = true;
                wires.norm_enters_scale = head.laddr.norm_cmd().writes_to_main_memory();
            }
        } else {
            wires.norm_leaves = true;
            wires.norm_enters_scale = true;
        }
    }

    /// The row that the writer takes in this cycle, at the width that the request asks for (`writeData_is_full_width`), whichever
    /// store the row was read for; `spad_row` is the head of the queue named by `wires.spad_row`.
    /// A request to the scratchpad itself (MVOUT_SPAD) has no sink in this build and is dropped.
    pub fn writer_request(&self, wires: &MvoutWires, spad_row: Option<&SpadLanes<V>>) -> Option<StreamWriteRequest<V>> {
        let request = self.issue.front().filter(|request| wires.issue_leaves && !request.to_spad)?;
        let mut data = [V::Of::default(); MAX_WRITE_BYTES];
        let full = self.is_full(request);
        if let Some(row) = spad_row {
            self.copy_elements(row, &mut data);
        } else if let Some(row) = self.acc_scale.out().filter(|_| wires.scale_out_taken) {
            if full {
                let row = self.acc_scale.full_data(row);
                V::update(&mut data, |data, sight| {
                    let elements = V::see(&row.0[..self.dim], sight);
                    for (bytes, element) in data.chunks_exact_mut(self.acc_bytes.into()).zip(elements) {
                        bytes.copy_from_slice(&element.to_le_bytes());
                    }
                });
            } else {
                self.copy_elements(&self.acc_scale.data(row), &mut data);
            }
        }
        Some(StreamWriteRequest {
            vaddr: request.vaddr,
            physical: request.to_spad,
            data,
            len: request.len * self.element_bytes(request),
            block: request.block,
            pool_en: request.pool_en,
            store_en: request.store_en,
        })
    }

    /// The four queues.
    pub(crate) fn view(&self) -> MvoutView {
        let row = |request: &ScratchpadWriteRequest| RowView {
            address: request.vaddr,
            local: request.laddr.0,
            elements: request.len,
        };
        let rows = |queue: &Queue<ScratchpadWriteRequest>| queue.iter().map(row).collect();
        MvoutView {
            dispatch: rows(&self.dispatch),
            norm: rows(&self.norm),
            scale: rows(&self.scale),
            issue: rows(&self.issue),
        }
    }

    /// Elements of the row are stored as they are in the accumulator.
    fn is_full(&self, request: &ScratchpadWriteRequest) -> bool {
        request.laddr.is_acc() && request.laddr.read_full() && !request.laddr.is_garbage(self.layout)
    }

    /// Bytes of a stored element.
    fn element_bytes(&self, request: &ScratchpadWriteRequest) -> u16 {
        if self.is_full(request) { self.acc_bytes } else { self.input_bytes }
    }

    /// Bytes that go to memory with the last block of a row.
    pub(crate) fn row_bytes(&self, request: &ScratchpadWriteRequest) -> u32 {
        (u32::from(request.block) * self.dim as u32 + u32::from(request.len)) * u32::from(self.element_bytes(request))
    }

    fn copy_elements(&self, row: &SpadLanes<V>, data: &mut [V::Of<u8>]) {
        V::update(data, |data, sight| {
            for (byte, element) in data.iter_mut().zip(V::see(&row.0[..self.dim], sight)) {
                *byte = element.cast_unsigned();
            }
        });
    }

    /// Clock edge, before that of the banks. `dispatched` says that the head of the dispatch queue leaves, `store` is the accepted
    /// request of the store controller. Returns true if anything changed.
    #[inline]
    #[must_use]
    pub fn tick(
        &mut self,
        wires: &MvoutWires,
        dispatched: bool,
        store: Option<&ScratchpadWriteRequest>,
        acc_banks: &[AccumulatorMem<V>],
        events: &mut EventBuffer,
    ) -> bool {
        if store.is_none() && !self.busy() && self.normalizer.is_idle() {
            self.idle_port.tick(false, None);
            return false;
        }
        self.busy_tick(wires, dispatched, store, acc_banks, events)
    }

    fn busy_tick(
        &mut self,
        wires: &MvoutWires,
        dispatched: bool,
        store: Option<&ScratchpadWriteRequest>,
        acc_banks: &[AccumulatorMem<V>],
        events: &mut EventBuffer,
    ) -> bool {
        let port_constants = self.port_constants(wires, acc_banks);
        self.idle_port.tick(dispatched, store);
        let normalized = if wires.norm_out_taken { self.normalizer.out() } else { None };
        if let Some(row) = &normalized {
            self.readout_rows.add_row(row.resp.readout.activation);
        }
        let mut changed = self.acc_scale.tick(normalized, wires.scale_out_taken);
        let input = self.normalizer_input(wires, acc_banks);
        let overtakes = input.as_ref().is_some_and(|input| self.normalizer.overtakes(input, wires.norm_out_taken));
        events.require(!overtakes, Violation::RowOvertaken);
        if let Some(input) = &input {
            self.normalizer_rows.add_row(input.cmd);
        }
        changed |= self.normalizer.tick(input, wires.norm_out_taken, &port_constants);
        changed |= wires.issue_leaves || wires.scale_leaves || wires.norm_leaves || dispatched || store.is_some();
        self.tick_queues(wires, dispatched);
        if let Some(store) = store {
            self.dispatch.push(*store);
        }
        changed
    }

    fn tick_queues(&mut self, wires: &MvoutWires, dispatched: bool) {
        if wires.issue_leaves {
            self.issue.pop();
        }
        if let Some(request) = pop_if(&mut self.scale, wires.scale_leaves) {
            self.issue.push(request);
        }
        if let Some(request) = pop_if(&mut self.norm, wires.norm_leaves)
            && wires.norm_enters_scale
        {
            self.scale.push(request);
        }
        if let Some(request) = pop_if(&mut self.dispatch, dispatched) {
            self.norm.push(request);
        }
    }

    fn normalizer_input<'a>(
        &self,
        wires: &MvoutWires,
        acc_banks: &'a [AccumulatorMem<V>],
    ) -> Option<NormalizedInput<'a, V>> {
        let resp = acc_banks[wires.acc_row?.index()].out()?;
        let request = self.norm.front()?;
        Some(NormalizedInput {
            resp,
            len: request.len.into(),
            stats_id: request.acc_norm_stats_id.into(),
            cmd: request.laddr.norm_cmd(),
        })
    }

    #[inline]
    fn port_constants(&self, wires: &MvoutWires, acc_banks: &[AccumulatorMem<V>]) -> IexpConstants {
        let bank = wires.acc_row.map_or(0, BankId::index);
        acc_banks[bank].out().map_or(self.idle_port.registered, |out| out.readout.constants)
    }

    /// What this cycle is spent on.
    pub fn activity(&self, wires: &MvoutWires, dispatched: bool, writer_ready: bool) -> MvoutActivity {
        use MvoutActivity::{Busy, Idle, Stalled};
        if wires.issue_leaves || wires.scale_leaves || wires.norm_leaves || dispatched {
            return Busy;
        }
        let stall = if let Some(head) = self.issue.front() {
            match self.source(head) {
                _ if !writer_ready => MvoutStall::Writer,
                RowSource::Acc(_) => MvoutStall::ScaleUnit,
                _ => MvoutStall::BankOutput,
            }
        } else if !self.scale.is_empty() || !self.norm.is_empty() {
            MvoutStall::Normalizer
        } else if !self.dispatch.is_empty() {
            MvoutStall::BankRead
        } else {
            return Idle;
        };
        Stalled(stall)
    }

    /// What the normalizer spends this cycle on.
    pub fn normalizer_activity(&self, wires: &MvoutWires) -> Spent {
        let shows_row = self.normalizer.out().is_some() && !wires.norm_out_taken;
        spent_on_rows(self.normalizer.is_idle(), wires.acc_row.is_some(), shows_row.then_some(Cause::ScaleUnit))
    }

    /// What the scale unit spends this cycle on.
    pub fn scale_activity(&self, wires: &MvoutWires) -> Spent {
        let shows_row = self.acc_scale.out().is_some() && !wires.scale_out_taken;
        spent_on_rows(self.acc_scale.is_empty(), wires.norm_out_taken, shows_row.then_some(Cause::Writer))
    }

    /// What the path waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        let waits = |queue: &Queue<ScratchpadWriteRequest>, what: &str| {
            queue.front().map(|head| format!("Scratchpad: the mvout of local row {:?} waits for {what}", head.laddr))
        };
        waits(&self.issue, "its row or the StreamWriter")
            .or_else(|| waits(&self.scale, "its normalized row or the scale unit"))
            .or_else(|| waits(&self.norm, "its bank's output or the Normalizer"))
            .or_else(|| waits(&self.dispatch, "its bank's read port"))
            .or_else(|| self.normalizer.waiting_for())
    }
}
