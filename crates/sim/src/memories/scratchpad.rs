//! The local memories and everything between them, the controllers and the memory port (`Scratchpad.scala`).
//!
//! ```text
//!   load controller --> [mvin path] <== reader <--D--\
//!                            |             \--A-->    \
//!   execute controller ==> banks                     tilelink <--> memory port
//!                            |             /--A-->    /
//!   store controller --> [mvout path] ==> writer <--D-/
//! ```
//!
//! ## Banks
//!
//! | port              | priority                                           | remarks                                               |
//! |-------------------|----------------------------------------------------|-------------------------------------------------------|
//! | scratchpad write  | execute, loaded row, zeros                          | always accepted                                       |
//! | accumulator write | execute, loaded row (narrow, then wide), zeros      | an execute write that is refused is lost              |
//! | read              | execute, mvout                                      | a valid execute request holds mvout off, taken or not |
//!
//! A row read leaves its scratchpad bank through one of two queues Q(`spad_read_delay`, pipe), for the execute controller and for
//! the DMA. There is one response a cycle to the load controller, so a row of zeros waits while a loaded row that is the last of
//! its packet is shown, and a row for the accumulator waits while such a row is shown for the scratchpad.
//!
//! A row that the execute controller reads from the accumulator stays at the bank's output for good: only mvout requests
//! take rows from there.
//!
//! ## One cycle
//!
//! [`Scratchpad::sinks`] works from the sinks back: writer, mvout queues, bank outputs, bank writes, bank read ready, reader. The
//! execute controller then decides on its reads, and [`Scratchpad::dispatch`] gives what is left to mvout. [`Scratchpad::tick`] is
//! the clock edge.

mod report;
#[cfg(test)]
mod tests;

use pollux_isa::values::Activation;
use pollux_isa::{AddressLayout, GemminiConfig};
use pollux_numerics::IexpConstants;

use crate::dma::dma_parameters::DmaParameters;
use crate::dma::load_controller::{ScratchpadReadRequest, ScratchpadReadResponse};
use crate::dma::mvin_path::{MvinHeads, MvinPath, MvinTaken};
use crate::dma::mvout_path::{MvoutPath, MvoutWires, RowSource};
use crate::dma::store_controller::ScratchpadWriteRequest;
use crate::dma::stream_reader::{StreamReader, StreamReaderWires};
use crate::dma::stream_writer::{StreamWriter, StreamWriterWires};
use crate::execute::execute_controller::RowStream;
use crate::front_end::counter_file::CounterEvents;
use crate::memories::accumulator_mem::{self, AccumulatorMem, AccumulatorWrite, ReadoutRequest, WriteAddress};
use crate::memories::scratchpad_bank::{BankWrite, ScratchpadBank};
use crate::observation::event::{Event, EventBuffer, Port};
use crate::parts::row::{AccRow, ByteMask, SpadRow};
use crate::parts::wires::{ExReads, ExTarget, ExWrite};
use crate::port::frontend_tlb::{TLB_READER, TLB_WRITER, TlbRequest, TlbResponse};
use crate::port::tilelink::{ABeat, DBeat, DmaClient, TileLink, TileLinkInputs};

/// Sources of bank writes, highest priority first.
const EX: usize = 0;
const MVIN: usize = 1;
const ZERO: usize = 2;

/// Bytes of an accumulator element.
const ACC_BYTES: usize = 4;

/// A valid write request of an accumulator bank.
#[derive(Clone, Copy, Debug)]
struct AccWriteRequest {
    bank: u8,
    address: WriteAddress,
    /// Accepted by the bank.
    fires: bool,
}

/// Bank writes of this cycle by source. A source writes at most one bank of each memory.
#[derive(Clone, Copy, Debug, Default)]
struct BankWrites {
    /// Scratchpad bank that the source writes.
    spad: [Option<u8>; 3],
    /// Scratchpad banks that are written.
    spad_banks: u32,
    acc: [Option<AccWriteRequest>; 3],
    /// Accumulator banks with a valid request.
    acc_banks: u32,
    /// Those of them whose request accumulates, or is accepted.
    accumulating: u32,
    acc_fires: u32,
}

impl BankWrites {
    fn write_spad(&mut self, source: usize, bank: u8) {
        self.spad[source] = Some(bank);
        self.spad_banks |= 1 << bank;
    }

    fn write_acc(&mut self, source: usize, request: AccWriteRequest) {
        self.acc[source] = Some(request);
        self.acc_banks |= 1 << request.bank;
        self.accumulating |= u32::from(request.address.accumulate) << request.bank;
        self.acc_fires |= u32::from(request.fires) << request.bank;
    }

    fn spad_source(&self, bank: u8) -> Option<usize> {
        if self.spad_banks >> bank & 1 == 0 { None } else { self.spad.iter().position(|b| *b == Some(bank)) }
    }

    fn acc_source(&self, bank: u8) -> Option<(usize, AccWriteRequest)> {
        if self.acc_banks >> bank & 1 == 0 {
            return None;
        }
        let of_bank = |source: usize| {
            let request = self.acc[source].filter(|request| request.bank == bank);
            request.map(|request| (source, request))
        };
        of_bank(EX).or_else(|| of_bank(MVIN)).or_else(|| of_bank(ZERO))
    }
}

/// Banks whose output leaves, one bit a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OutputsTaken {
    spad: u32,
    acc: u32,
}

/// Summaries of the banks' registers, one bit a bank, so that idle banks cost nothing.
#[derive(Clone, Copy, Debug, Default)]
struct BankStates {
    /// Scratchpad banks with a row for the execute controller, or for the DMA, at their output.
    spad_out: [u32; 2],
    /// Scratchpad banks whose queue of such rows is full.
    rows_full: [u32; 2],
    /// Scratchpad banks whose queue of rows for the DMA is not empty.
    dma_rows: u32,
    /// Accumulator banks with a row at their output.
    acc_out: u32,
    /// Accumulator banks with a write on its way to the memory.
    acc_writing: u32,
    /// Accumulator banks that use the shared adders.
    acc_adding: u32,
}

/// The numbers of the set bits, lowest first.
#[inline]
fn banks_of(mask: u32) -> Banks {
    Banks(mask)
}

/// See [`banks_of`].
struct Banks(u32);

impl Iterator for Banks {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let bank = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        Some(bank)
    }
}

/// Everything that is decided between the registers and the clock edge. One set is used for all cycles, so that what does not
/// change need not be driven again.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScratchpadWires {
    /// The DMA side (all but banks and their outputs) is as in the cycle before: nothing is inside it.
    pub dma_rests: bool,
    /// The DMA side's wires are those of a side with nothing inside.
    dma_idle: bool,
    /// So are those of its way to main memory.
    writes_idle: bool,
    /// Scratchpad banks that accept a read.
    pub spad_read_ready: u32,
    /// Accumulator banks that accept a read, if its row is not being written (a read of the execute controller is never
    /// answered, so that rule is left to [`Scratchpad::dispatch`]).
    pub acc_read_ready: u32,
    /// Response to the load controller.
    pub load_response: Option<ScratchpadReadResponse>,
    /// Response to the store controller: the command tracker entry whose row is read.
    pub store_response: Option<u8>,
    /// A request of the store controller is accepted.
    pub store_ready: bool,
    /// Translation requests by client.
    pub tlb_requests: [TlbRequest; 2],
    reader: StreamReaderWires,
    writer: StreamWriterWires,
    mvout: MvoutWires,
    heads: MvinHeads,
    taken: MvinTaken,
    writes: BankWrites,
    outputs: OutputsTaken,
    /// The reader's row goes to a scaler.
    resp_taken: bool,
    /// The head of the mvout dispatch queue leaves, with a read of this row.
    dispatched: bool,
    mvout_read: Option<(RowSource, u32)>,
}

/// Inputs of the clock edge that come from other blocks.
#[derive(Clone, Copy, Debug)]
pub struct ScratchpadInputs<'a> {
    /// The execute controller's write, as given to [`Scratchpad::sinks`].
    pub ex_write: &'a ExWrite,
    /// Execute response queues that are popped, as given to [`Scratchpad::sinks`].
    pub pops: u32,
    /// The execute controller's reads, as given to [`Scratchpad::dispatch`].
    pub reads: &'a ExReads,
    /// What the execute controller does with the banks is left for later: it is not in these inputs, and the accumulator's clock
    /// edge for writes, which nobody else makes, is left with it.
    pub deferred: bool,
    /// Request of the load controller that is accepted ([`Scratchpad::load_ready`]).
    pub load: Option<&'a ScratchpadReadRequest>,
    /// Request of the store controller that is accepted (`store_ready`).
    pub store: Option<&'a ScratchpadWriteRequest>,
    /// The memory takes the beat at [`Scratchpad::port_a`].
    pub port_a_taken: bool,
    /// The beat that the memory delivers; only if [`Scratchpad::port_d_ready`].
    pub port_d: Option<&'a DBeat>,
}

/// The block.
#[derive(Clone, Debug)]
pub struct Scratchpad {
    layout: AddressLayout,
    dim: usize,
    spad_banks: Vec<ScratchpadBank>,
    acc_banks: Vec<AccumulatorMem>,
    states: BankStates,
    /// The DMA side is empty, and its last clock edge changed nothing.
    dma_quiet: bool,
    /// So is its way to main memory.
    writes_quiet: bool,
    /// All scratchpad banks and all accumulator banks.
    all_banks: (u32, u32),
    spad_single_ported: bool,
    /// Sub-banks of a single-ported accumulator bank, else 0.
    acc_sub_banks: u32,
    /// Accumulator banks that the DMA must not write in this cycle (`consecutive_write_block`).
    consecutive_write_block: u32,
    /// Sub-bank of the last accumulating write, by bank (`consecutive_write_sub_bank`).
    consecutive_write_sub_bank: Vec<u32>,
    mvin: MvinPath,
    mvout: MvoutPath,
    reader: StreamReader,
    writer: StreamWriter,
    tilelink: TileLink,
}

/// State from outside.
impl Scratchpad {
    /// The block of a valid configuration, idle, all memories 0.
    pub fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let parameters = DmaParameters::new(config);
        let delay = config.spad_read_delay as usize;
        let spad_rows = config.sp_bank_entries() as usize;
        let spad_bank = ScratchpadBank::new(spad_rows, dim, config.sp_singleported, delay);
        let acc_sub_banks = if config.acc_singleported { config.acc_sub_banks.unwrap_or(1) } else { 0 };
        let (rows, latency) = (config.acc_bank_entries() as usize, config.acc_latency as usize);
        let acc_bank = AccumulatorMem::new(rows, dim, latency, acc_sub_banks as usize);
        Self {
            layout: config.layout(),
            dim,
            spad_banks: vec![spad_bank; config.sp_banks as usize],
            acc_banks: vec![acc_bank; config.acc_banks as usize],
            states: BankStates::default(),
            dma_quiet: false,
            writes_quiet: false,
            all_banks: (u32::MAX >> (32 - config.sp_banks), u32::MAX >> (32 - config.acc_banks)),
            spad_single_ported: config.sp_singleported,
            acc_sub_banks,
            consecutive_write_block: 0,
            consecutive_write_sub_bank: vec![0; config.acc_banks as usize],
            mvin: MvinPath::new(config),
            mvout: MvoutPath::new(config),
            reader: StreamReader::new(parameters),
            writer: StreamWriter::new(parameters),
            tilelink: TileLink::new(parameters.xacts, parameters.beat_bytes),
        }
    }

    /// `io.busy`: rows on their way out, or DMA transactions under way.
    #[inline]
    pub fn busy(&self) -> bool {
        self.mvout.busy() || self.writer.busy() || self.reader.busy()
    }

    /// Output of a scratchpad bank's queue of rows for the execute controller, and whether it is valid.
    #[inline]
    pub fn ex_resp(&self, bank: u8) -> (bool, &SpadRow) {
        self.spad_banks[usize::from(bank)].shown_to(Port::Ex)
    }

    /// Elements of a scratchpad row, counted through all banks; none beyond the last one.
    pub fn spad_row(&self, row: u32) -> Option<&[i8]> {
        let bits = self.layout.sp_bank_row_bits;
        let bank = self.spad_banks.get((row >> bits) as usize)?;
        Some(bank.row(row & ((1 << bits) - 1)))
    }

    /// Elements of an accumulator row, counted through all banks; none beyond the last one.
    pub fn acc_row(&self, row: u32) -> Option<&[i32]> {
        let bits = self.layout.acc_bank_row_bits;
        let bank = self.acc_banks.get((row >> bits) as usize)?;
        Some(bank.row(row & ((1 << bits) - 1)))
    }

    /// The beat offered to the memory.
    #[inline]
    pub fn port_a(&self) -> Option<&ABeat> {
        self.tilelink.port_a()
    }

    /// True if a beat from the memory is accepted.
    #[inline]
    pub fn port_d_ready(&self) -> bool {
        self.tilelink.port_d_ready()
    }

    /// Accounts for `cycles` skipped cycles in which nothing moved.
    pub fn skip(&mut self, cycles: u64) {
        self.reader.skip(cycles);
        self.writer.skip(cycles);
    }

    /// Clears the DMA engines' external counters (`external_reset`), after the clock edge.
    pub fn reset_external_counters(&mut self) {
        self.reader.reset_external_counters();
        self.writer.reset_external_counters();
    }

    /// Drives the DMA engines' lines and values.
    pub fn counter_events(&self, wires: &ScratchpadWires, events: &mut CounterEvents) {
        self.reader.counter_events(&wires.reader, events);
        self.writer.counter_events(&wires.writer, events);
    }

    /// What the block waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Vec<String> {
        let stuck = self.acc_banks.iter().enumerate().filter_map(|(bank, mem)| {
            let port = mem.out()?.readout.port;
            (port == Port::Ex).then(|| {
                format!(
                    "Scratchpad: accumulator bank {bank} holds a row that the execute controller read; \
                     this revision of the hardware never answers such a read"
                )
            })
        });
        let parts = [self.mvout.waiting_for(), self.mvin.waiting_for(), self.writer.waiting_for()];
        stuck.chain(parts.into_iter().chain([self.reader.waiting_for()]).flatten()).collect()
    }
}

/// Cycles of the execute controller that are done later than they pass.
impl Scratchpad {
    /// The execute controller may leave what it does with these banks and with the accumulator for later: they deliver and accept a row
    /// for it in each cycle if nobody else uses them.
    pub fn may_defer(&self, banks: u32) -> bool {
        self.acc_sub_banks == 0
            && self.states.acc_adding.count_ones() <= 1
            && self.states.spad_out[Port::Ex as usize] & banks == banks
            && banks_of(banks).all(|bank| self.spad_banks[usize::from(bank)].streams())
    }

    /// Nothing is inside the DMA side.
    #[inline]
    pub fn rests(&self) -> bool {
        self.dma_quiet
    }

    /// A scratchpad bank has a row for the execute controller at its output or in its queue.
    pub fn has_ex_row(&self, bank: u8) -> bool {
        !self.spad_banks[usize::from(bank)].is_empty(Port::Ex)
            || self.states.spad_out[Port::Ex as usize] >> bank & 1 == 1
    }

    /// Accumulator banks with a write on its way to the memory.
    pub fn acc_writing(&self) -> u32 {
        self.states.acc_writing
    }

    /// Somebody else uses one of the scratchpad banks in this cycle, or one of the accumulator banks, or writes into the
    /// accumulator, or may do so.
    #[inline]
    pub fn disturbs(&self, banks: u32, acc_banks: u32, wires: &ScratchpadWires) -> bool {
        let reads = |request| match self.mvout.source(request) {
            RowSource::Zeros => false,
            RowSource::Spad(_) => true,
            RowSource::Acc(bank) => acc_banks >> bank & 1 == 1,
        };
        !wires.dma_rests
            && (wires.writes.spad_banks & banks | wires.writes.acc_banks != 0
                || wires.heads.has_acc_row()
                || self.mvout.dispatching().is_some_and(reads))
    }

    /// The clock edges that were left for later: gives the rows to [`ExecuteController::replay`] and takes the results.
    ///
    /// [`ExecuteController::replay`]: crate::execute::execute_controller::ExecuteController::replay
    pub fn replay_ports(&mut self) -> (&[ScratchpadBank], ResultPort<'_>) {
        let Self { spad_banks, acc_banks, states, dim, .. } = self;
        (spad_banks, ResultPort { acc_banks, states, dim: *dim })
    }

    /// Clock edges of the scratchpad banks that were left for later.
    pub fn stream(&mut self, cycles: u32, stream: &RowStream, events: &mut EventBuffer) {
        let &RowStream { bank, next, step } = stream;
        self.spad_banks[usize::from(bank)].stream(cycles, next, step);
        events.push(Event::SpadRead { bank, row: next, port: Port::Ex });
    }
}

/// The accumulator banks while nobody but the execute controller uses them.
pub struct ResultPort<'a> {
    acc_banks: &'a mut [AccumulatorMem],
    states: &'a mut BankStates,
    dim: usize,
}

impl ResultPort<'_> {
    /// The clock edge of a cycle in which a result row goes to the accumulator, or none.
    #[inline]
    pub fn write(&mut self, target: Option<ExTarget>, data: &[i32], events: &mut EventBuffer) {
        let mut draining = self.states.acc_writing;
        self.states.acc_adding = 0;
        if let Some(ExTarget::Acc { bank, row, cols, accumulate }) = target {
            let (mem, address) = (&mut self.acc_banks[usize::from(bank)], WriteAddress { row, accumulate });
            if mem.write_ready(address) {
                events.push(Event::AccWrite { bank, row, port: Port::Ex, accumulate });
                let mask = if cols < self.dim { Some(ByteMask::first(cols * ACC_BYTES)) } else { None };
                mem.write(Some(&AccumulatorWrite { row, data, mask, accumulate }), Some(address));
                draining &= !(1 << bank);
                self.states.acc_writing |= 1 << bank;
                self.states.acc_adding = u32::from(accumulate) << bank;
            }
        }
        for bank in banks_of(draining) {
            let mem = &mut self.acc_banks[usize::from(bank)];
            mem.write(None, None);
            set_bit(&mut self.states.acc_writing, bank, mem.is_writing());
        }
    }
}

/// Wires.
impl Scratchpad {
    /// First half of the cycle's wires: sinks, bank outputs and writes, then which banks accept a read.
    ///
    /// `pops` are the execute response queues that are popped, `deferred` the banks whose clock edges for the execute controller are
    /// left for later; `tlb` are the translation answers by client, `tlb_rests` says
    /// that they are those of the cycle before and will not change by themselves.
    pub fn sinks(
        &self,
        ex_write: &ExWrite,
        pops: u32,
        deferred: u32,
        tlb: &[TlbResponse; 2],
        tlb_rests: bool,
        wires: &mut ScratchpadWires,
    ) {
        let dma_idle = self.dma_quiet && tlb_rests;
        wires.dma_rests = dma_idle && wires.dma_idle;
        wires.dma_idle = dma_idle;
        if wires.dma_rests {
            wires.writes = self.ex_bank_write(ex_write);
        } else {
            self.dma_sinks(ex_write, tlb, wires);
        }
        wires.outputs = self.outputs_taken(pops, &wires.mvout);
        wires.outputs.spad &= !deferred;
        (wires.spad_read_ready, wires.acc_read_ready) = self.read_ready(&wires.writes, wires.outputs);
    }

    /// The DMA side's wires, and the bank writes.
    fn dma_sinks(&self, ex_write: &ExWrite, tlb: &[TlbResponse; 2], wires: &mut ScratchpadWires) {
        let (a_ready, d) = (|client| self.tilelink.a_ready(client), |client| self.tilelink.d(client));
        if self.writes_quiet && wires.writes_idle {
            wires.writer.stay_idle(tlb[TLB_WRITER]);
        } else {
            self.write_sinks(tlb[TLB_WRITER], wires);
        }
        (wires.writes, wires.taken) = (self.ex_bank_write(ex_write), MvinTaken::default());
        if self.mvin.is_empty() {
            (wires.heads, wires.load_response) = (MvinHeads::default(), None);
        } else {
            wires.heads = self.mvin.heads();
            self.mvin_bank_writes(&wires.heads, &mut wires.writes, &mut wires.taken);
            wires.load_response = self.mvin.response(&wires.heads, wires.taken);
        }
        wires.resp_taken = self.reader.resp_is_wide().is_some_and(|wide| self.mvin.resp_ready(wide));
        let d_reader = d(DmaClient::Reader);
        wires.reader = self.reader.wires(tlb[TLB_READER], a_ready(DmaClient::Reader), d_reader, wires.resp_taken);
        wires.tlb_requests = [wires.writer.tlb_request, wires.reader.tlb_request];
    }

    /// The wires of the way to main memory.
    fn write_sinks(&self, tlb: TlbResponse, wires: &mut ScratchpadWires) {
        let (a_ready, d) = (self.tilelink.a_ready(DmaClient::Writer), self.tilelink.d(DmaClient::Writer));
        wires.writer = self.writer.wires(tlb, a_ready, d.is_some());
        wires.mvout = self.mvout.wires(
            wires.writer.req_ready,
            |bank| self.states.dma_rows >> bank & 1 == 1,
            |bank| self.states.acc_out >> bank & 1 == 1,
        );
        wires.store_ready = self.mvout.store_ready();
        (wires.dispatched, wires.mvout_read, wires.store_response) = (false, None, None);
        wires.writes_idle = self.writes_quiet;
    }

    /// The execute controller's write, which comes first everywhere.
    #[inline]
    fn ex_bank_write(&self, ex_write: &ExWrite) -> BankWrites {
        let mut writes = BankWrites::default();
        match ex_write.target {
            Some(ExTarget::Spad { bank, .. }) => writes.write_spad(EX, bank),
            Some(ExTarget::Acc { bank, row, accumulate, .. }) => {
                writes.write_acc(EX, self.acc_request(bank, WriteAddress { row, accumulate }));
            }
            None => {}
        }
        writes
    }

    /// Which rows of the mvin path are written into a bank.
    fn mvin_bank_writes(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        if heads.narrow.is_some() || heads.wide.is_some() {
            self.mvin_writes(heads, writes, taken);
        }
        if heads.zero.is_some() {
            self.zero_write(heads, writes, taken);
        }
    }

    fn acc_request(&self, bank: u8, address: WriteAddress) -> AccWriteRequest {
        AccWriteRequest { bank, address, fires: self.acc_banks[usize::from(bank)].write_ready(address) }
    }

    /// The loaded row for the accumulator: a narrow one hides a wide one, whatever their banks.
    fn mvin_acc_row(&self, heads: &MvinHeads) -> Option<(u8, WriteAddress)> {
        let (laddr, tag) = match (&heads.narrow, &heads.wide) {
            (Some(row), _) if row.tag.is_acc => (row.laddr, &row.tag),
            (_, Some(row)) if row.tag.is_acc => (row.laddr, &row.tag),
            _ => return None,
        };
        let address = WriteAddress { row: laddr.acc_row(self.layout), accumulate: tag.accumulate };
        Some((laddr.acc_bank(self.layout) as u8, address))
    }

    fn mvin_writes(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        let narrow = heads.narrow.as_ref();
        if let Some(row) = narrow.filter(|row| !row.tag.is_acc) {
            let bank = row.laddr.sp_bank(self.layout) as u8;
            if writes.spad[EX] != Some(bank) {
                writes.write_spad(MVIN, bank);
                taken.narrow = true;
            }
        }
        let Some((bank, address)) = self.mvin_acc_row(heads) else { return };
        let ex = writes.acc[EX].is_some_and(|request| request.bank == bank);
        if ex || spad_last(heads) || self.is_blocked(bank) {
            return;
        }
        let request = self.acc_request(bank, address);
        writes.write_acc(MVIN, request);
        match narrow {
            Some(row) if row.tag.is_acc => taken.narrow = request.fires,
            _ => taken.wide = request.fires,
        }
    }

    fn zero_write(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        let last = heads.narrow.as_ref().is_some_and(|row| row.last) || heads.wide.as_ref().is_some_and(|row| row.last);
        let Some(row) = heads.zero.as_ref().filter(|_| !last) else { return };
        if !row.laddr.is_acc() {
            let bank = row.laddr.sp_bank(self.layout) as u8;
            if writes.spad_banks >> bank & 1 == 0 {
                writes.write_spad(ZERO, bank);
                taken.zero = true;
            }
            return;
        }
        let bank = row.laddr.acc_bank(self.layout) as u8;
        let mvin = self.mvin_acc_row(heads);
        let ex = writes.acc[EX].is_some_and(|request| request.bank == bank);
        if ex || mvin.is_some_and(|(mvin_bank, _)| mvin_bank == bank) || self.is_blocked(bank) {
            return;
        }
        // Row and flag are selected by "a loaded row waits for an accumulator", without comparing the banks.
        let own = WriteAddress { row: row.laddr.acc_row(self.layout), accumulate: row.laddr.accumulate() };
        let request = self.acc_request(bank, mvin.map_or(own, |(_, address)| address));
        writes.write_acc(ZERO, request);
        taken.zero = request.fires;
    }

    fn is_blocked(&self, bank: u8) -> bool {
        self.consecutive_write_block >> bank & 1 == 1
    }

    /// Bank outputs that leave in this cycle.
    fn outputs_taken(&self, pops: u32, mvout: &MvoutWires) -> OutputsTaken {
        let BankStates { spad_out, rows_full, .. } = self.states;
        let bit = |bank: Option<u8>| bank.map_or(0, |bank| 1 << bank);
        let to = |port: Port, pops: u32| spad_out[port as usize] & (!rows_full[port as usize] | pops);
        OutputsTaken { spad: to(Port::Ex, pops) | to(Port::Dma, bit(mvout.spad_row)), acc: bit(mvout.acc_row) }
    }

    /// Banks that accept a read: scratchpad, accumulator.
    fn read_ready(&self, writes: &BankWrites, taken: OutputsTaken) -> (u32, u32) {
        let BankStates { spad_out, acc_out, .. } = self.states;
        let written = if self.spad_single_ported { writes.spad_banks } else { 0 };
        let (spad_waiting, acc_waiting) = ((spad_out[0] | spad_out[1]) & !taken.spad, acc_out & !taken.acc);
        (self.all_banks.0 & !spad_waiting & !written, self.all_banks.1 & !acc_waiting & !writes.accumulating)
    }

    /// Second half: mvout reads what the execute controller leaves over, and the store controller gets its response.
    #[inline]
    pub fn dispatch(&self, reads: &ExReads, wires: &mut ScratchpadWires) {
        if !wires.writes_idle {
            self.dispatch_row(reads, wires);
        }
    }

    fn dispatch_row(&self, reads: &ExReads, wires: &mut ScratchpadWires) {
        let Some(request) = self.mvout.dispatching() else { return };
        let (source, row) = (self.mvout.source(request), self.mvout.bank_row(request));
        wires.dispatched = match source {
            RowSource::Zeros => true,
            RowSource::Spad(bank) => wires.spad_read_ready & !reads.spad_valid & (1 << bank) != 0,
            RowSource::Acc(bank) => reads.acc_valid >> bank & 1 == 0 && self.acc_read_ready(bank, row, wires),
        };
        if wires.dispatched {
            wires.mvout_read = Some((source, row));
            wires.store_response = Some(request.cmd_id);
        }
    }

    /// `read.req.ready` of an accumulator bank for a row.
    fn acc_read_ready(&self, bank: u8, row: u32, wires: &ScratchpadWires) -> bool {
        let write = wires.writes.acc_source(bank).map(|(_, request)| request.address);
        self.acc_banks[usize::from(bank)].read_ready(row, wires.outputs.acc >> bank & 1 == 1, write)
    }

    /// Whether a request of the load controller is accepted.
    #[inline]
    pub fn load_ready(&self, request: &ScratchpadReadRequest, wires: &ScratchpadWires) -> bool {
        self.mvin.load_ready(request, wires.reader.req_ready, wires.taken.zero)
    }
}

/// Clock edge.
impl Scratchpad {
    /// Clock edge. Returns true if a register changed that can change the next cycle.
    ///
    /// Each part reads the others as they were before the edge, so the order is: what takes a row before what gives it.
    pub fn tick(&mut self, wires: &ScratchpadWires, inputs: &ScratchpadInputs, events: &mut EventBuffer) -> bool {
        let enters = inputs.load.is_some() || inputs.store.is_some() || inputs.port_d.is_some();
        if wires.dma_rests && !enters {
            if inputs.deferred {
                return false;
            }
            let changed = self.tick_acc_banks(wires, inputs, None, events);
            return self.tick_spad_banks(wires, inputs, events) || changed;
        }
        self.tick_all(wires, inputs, events)
    }

    fn tick_all(&mut self, wires: &ScratchpadWires, inputs: &ScratchpadInputs, events: &mut EventBuffer) -> bool {
        let (read, write);
        let mut a = [None; 2];
        if wires.reader.a_fires {
            read = self.reader.a_beat(&wires.reader);
            a[DmaClient::Reader as usize] = Some(&read);
        }
        let mut mvout_read = None;
        let mut dma_changed = false;
        if !wires.writes_idle || inputs.store.is_some() {
            if wires.writer.a_fires {
                write = self.writer.a_beat(&wires.writer);
                a[DmaClient::Writer as usize] = write.as_ref();
            }
            (dma_changed, mvout_read) = self.tick_writes(wires, inputs.store);
        }
        let mut changed = self.tick_acc_banks(wires, inputs, mvout_read, events);
        changed |= self.tick_spad_banks(wires, inputs, events);
        dma_changed |= self.tick_mvin(wires, inputs.load);
        let tilelink = TileLinkInputs {
            a,
            d_taken: [wires.reader.d_taken, wires.writer.d_taken],
            port_a_taken: inputs.port_a_taken,
            port_d: inputs.port_d,
        };
        dma_changed |= self.tilelink.tick(&tilelink);
        self.dma_quiet = !dma_changed && self.dma_is_empty();
        changed | dma_changed
    }

    /// The way to main memory. Gives the accumulator row that it reads, too.
    fn tick_writes(
        &mut self,
        wires: &ScratchpadWires,
        store: Option<&ScratchpadWriteRequest>,
    ) -> (bool, Option<(u8, u32, ReadoutRequest)>) {
        let mut changed = self.tick_writer(wires);
        let mvout_read = match (wires.mvout_read, self.mvout.dispatching()) {
            (Some((RowSource::Acc(bank), row)), Some(request)) => Some((bank, row, self.mvout.readout(request))),
            _ => None,
        };
        changed |= self.mvout.tick(&wires.mvout, wires.dispatched, store, &self.acc_banks);
        self.writes_quiet = !changed && self.mvout.is_idle() && self.writer.is_quiet();
        (changed, mvout_read)
    }

    fn dma_is_empty(&self) -> bool {
        self.writes_quiet && self.mvin.is_empty() && self.reader.is_quiet() && self.tilelink.is_empty()
    }

    fn tick_writer(&mut self, wires: &ScratchpadWires) -> bool {
        let row = wires.mvout.spad_row.and_then(|bank| self.spad_banks[usize::from(bank)].row_for(Port::Dma));
        let request = self.mvout.writer_request(&wires.mvout, row);
        self.writer.tick(&wires.writer, request.as_ref(), self.tilelink.d(DmaClient::Writer))
    }

    /// The accumulator banks; `mvout_read` is the bank, the row and the way in which mvout reads it.
    fn tick_acc_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs,
        mvout_read: Option<(u8, u32, ReadoutRequest)>,
        events: &mut EventBuffer,
    ) -> bool {
        let reading = inputs.reads.acc_valid | mvout_read.map_or(0, |(bank, ..)| 1 << bank);
        let writes = self.states.acc_writing | wires.writes.acc_banks | self.consecutive_write_block;
        if wires.outputs.acc | reading | if inputs.deferred { 0 } else { writes } == 0 {
            return false;
        }
        let mut changed = false;
        if wires.outputs.acc | reading != 0 {
            changed |= self.read_acc_banks(wires, inputs.reads, mvout_read, events);
        }
        if inputs.deferred {
            return changed;
        }
        self.tick_acc_writes(wires, inputs.ex_write, events) || changed
    }

    /// The writes of the accumulator banks, and the adders.
    #[inline]
    fn tick_acc_writes(&mut self, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) -> bool {
        let blocked = self.acc_sub_banks != 0 && self.block_consecutive_writes(&wires.writes);
        if self.states.acc_adding.count_ones() > 1 {
            accumulator_mem::add_ored(&mut self.acc_banks, self.states.acc_adding);
        }
        self.states.acc_adding = wires.writes.acc_fires & wires.writes.accumulating;
        let writing = self.states.acc_writing | wires.writes.acc_fires;
        for bank in banks_of(writing) {
            self.write_acc_bank(bank, wires, ex_write, events);
        }
        blocked || writing != 0
    }

    /// Rows leave the accumulator banks' outputs, and the rows that are read take their place.
    #[inline(never)] // rows of results are written much more often
    fn read_acc_banks(
        &mut self,
        wires: &ScratchpadWires,
        reads: &ExReads,
        mvout_read: Option<(u8, u32, ReadoutRequest)>,
        events: &mut EventBuffer,
    ) -> bool {
        for bank in banks_of(wires.outputs.acc) {
            self.acc_banks[usize::from(bank)].take();
        }
        self.states.acc_out &= !wires.outputs.acc;
        let mut changed = wires.outputs.acc != 0;
        for bank in banks_of(reads.acc_valid | mvout_read.map_or(0, |(bank, ..)| 1 << bank)) {
            let read = match mvout_read {
                Some((of, row, readout)) if of == bank => Some((row, readout)),
                _ => self.ex_acc_read(bank, wires, reads),
            };
            if let Some((row, readout)) = read {
                events.push(Event::AccRead { bank, row, port: readout.port });
                self.acc_banks[usize::from(bank)].read(row, readout);
                self.states.acc_out |= 1 << bank;
                changed = true;
            }
        }
        changed
    }

    /// Clock edge of a bank's writes.
    #[inline]
    fn write_acc_bank(&mut self, bank: u8, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) {
        let request = wires.writes.acc_source(bank);
        let mem = &mut self.acc_banks[usize::from(bank)];
        match request {
            Some((EX, AccWriteRequest { fires: true, address, .. })) => {
                let WriteAddress { row, accumulate } = address;
                events.push(Event::AccWrite { bank, row, port: Port::Ex, accumulate });
                let partial = match ex_write.target {
                    Some(ExTarget::Acc { cols, .. }) if cols < self.dim => Some(ByteMask::first(cols * ACC_BYTES)),
                    _ => None,
                };
                let data = &ex_write.acc_row.0[..self.dim];
                mem.write(Some(&AccumulatorWrite { row, data, mask: partial, accumulate }), Some(address));
                self.states.acc_writing |= 1 << bank;
            }
            Some((source, AccWriteRequest { fires: true, address, .. })) => {
                self.write_loaded_acc_row(bank, source, address, &wires.heads, events);
            }
            request => {
                mem.write(None, request.map(|(_, request)| request.address));
                set_bit(&mut self.states.acc_writing, bank, mem.is_writing());
            }
        }
    }

    /// The write of a loaded row or a row of zeros.
    #[inline(never)]
    fn write_loaded_acc_row(
        &mut self,
        bank: u8,
        source: usize,
        address: WriteAddress,
        heads: &MvinHeads,
        events: &mut EventBuffer,
    ) {
        let WriteAddress { row, accumulate } = address;
        events.push(Event::AccWrite { bank, row, port: Port::Dma, accumulate });
        let (data, mask) = self.loaded_acc_row(source, heads);
        let write = AccumulatorWrite { row, data: &data.0[..self.dim], mask: Some(mask), accumulate };
        self.acc_banks[usize::from(bank)].write(Some(&write), Some(address));
        self.states.acc_writing |= 1 << bank;
    }

    /// Data and byte enables of a loaded row or a row of zeros that is offered to the accumulator.
    #[inline(never)] // it fills the caller's row in place
    fn loaded_acc_row(&self, source: usize, heads: &MvinHeads) -> (AccRow, ByteMask) {
        let nothing = (AccRow::default(), ByteMask::default());
        if source == ZERO {
            return self.mvin.zero_mask().map_or(nothing, |mask| (nothing.0, self.element_mask(mask)));
        }
        match (&heads.narrow, &heads.wide) {
            (Some(row), _) if row.tag.is_acc => {
                let narrow = self.mvin.narrow_row();
                narrow.map_or(nothing, |(row, mask)| (self.widened(&row), self.element_mask(mask)))
            }
            (_, Some(head)) => self.mvin.wide_row().map_or(nothing, |row| (*row, head.tag.mask())),
            _ => nothing,
        }
    }

    /// A read of the execute controller that the bank accepts.
    fn ex_acc_read(&self, bank: u8, wires: &ScratchpadWires, reads: &ExReads) -> Option<(u32, ReadoutRequest)> {
        if reads.acc_valid >> bank & 1 == 0 {
            return None;
        }
        let row = reads.acc_row[usize::from(bank)];
        let constants = IexpConstants::default();
        let readout = ReadoutRequest { activation: Activation::None, scale: 0, constants, port: Port::Ex };
        self.acc_read_ready(bank, row, wires).then_some((row, readout))
    }

    /// A row of scratchpad elements as accumulator elements, sign extended.
    fn widened(&self, row: &SpadRow) -> AccRow {
        let mut wide = AccRow::default();
        for (element, &narrow) in wide.0.iter_mut().zip(&row.0[..self.dim]) {
            *element = narrow.into();
        }
        wide
    }

    /// Byte enables of accumulator elements from the enables of the elements.
    fn element_mask(&self, elements: u64) -> ByteMask {
        let mut mask = ByteMask::default();
        for element in (0..self.dim).filter(|element| elements >> element & 1 == 1) {
            let byte = element * ACC_BYTES;
            mask.0[byte / 64] |= ((1 << ACC_BYTES) - 1) << (byte % 64);
        }
        mask
    }

    /// After two accumulating writes in a row to one sub-bank the DMA must let a cycle pass, so that the sub-bank's write
    /// queue does not overflow.
    fn block_consecutive_writes(&mut self, writes: &BankWrites) -> bool {
        let before = self.consecutive_write_block;
        self.consecutive_write_block = 0;
        for request in writes.acc.iter().flatten().filter(|request| request.fires && request.address.accumulate) {
            let sub_bank = request.address.row & (self.acc_sub_banks - 1);
            let last = &mut self.consecutive_write_sub_bank[usize::from(request.bank)];
            if *last == sub_bank {
                self.consecutive_write_block |= 1 << request.bank;
            }
            *last = sub_bank;
        }
        self.consecutive_write_block != before
    }

    #[inline]
    fn tick_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs,
        events: &mut EventBuffer,
    ) -> bool {
        let ex_reads = inputs.reads.spad_valid & wires.spad_read_ready;
        let moves = ex_reads | inputs.pops | wires.outputs.spad | wires.writes.spad_banks;
        if moves == 0 && wires.mvout_read.is_none() && wires.mvout.spad_row.is_none() {
            return false;
        }
        self.tick_active_spad_banks(wires, inputs, ex_reads, events);
        true
    }

    fn tick_active_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs,
        ex_reads: u32,
        events: &mut EventBuffer,
    ) {
        self.pop_rows(inputs.pops, wires.mvout.spad_row);
        self.leave_outputs(wires.outputs.spad);
        if wires.writes.spad_banks != 0 {
            self.write_spad_banks(wires, inputs.ex_write, events);
        }
        let mvout_read = match wires.mvout_read {
            Some((RowSource::Spad(bank), row)) => Some((bank, row)),
            _ => None,
        };
        for bank in banks_of(ex_reads | mvout_read.map_or(0, |(bank, _)| 1 << bank)) {
            let (row, port) = match mvout_read {
                Some((of, row)) if of == bank => (row, Port::Dma),
                _ => (inputs.reads.spad_row[usize::from(bank)], Port::Ex),
            };
            events.push(Event::SpadRead { bank, row, port });
            self.spad_banks[usize::from(bank)].read(row, port);
            self.states.spad_out[port as usize] |= 1 << bank;
        }
    }

    /// Rows leave the banks' queues for the execute controller, and for the DMA.
    #[inline]
    fn pop_rows(&mut self, ex: u32, dma: Option<u8>) {
        for bank in banks_of(ex) {
            self.spad_banks[usize::from(bank)].pop(Port::Ex);
        }
        self.states.rows_full[Port::Ex as usize] &= !ex;
        if let Some(index) = dma {
            let bank = &mut self.spad_banks[usize::from(index)];
            bank.pop(Port::Dma);
            set_bit(&mut self.states.dma_rows, index, !bank.is_empty(Port::Dma));
            self.states.rows_full[Port::Dma as usize] &= !(1 << index);
        }
    }

    /// Rows leave the banks' outputs for a queue.
    #[inline]
    fn leave_outputs(&mut self, banks: u32) {
        let to_dma = self.states.spad_out[Port::Dma as usize] & banks;
        self.states.dma_rows |= to_dma;
        for bank in banks_of(banks) {
            if let Some((port, true)) = self.spad_banks[usize::from(bank)].leave() {
                self.states.rows_full[port as usize] |= 1 << bank;
            }
        }
        self.states.spad_out[0] &= !banks;
        self.states.spad_out[1] &= !banks;
    }

    /// The writes of the scratchpad banks.
    #[inline]
    fn write_spad_banks(&mut self, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) {
        for bank in banks_of(wires.writes.spad_banks) {
            self.write_spad_bank(bank, wires, ex_write, events);
        }
    }

    /// The write of a scratchpad bank.
    #[inline(never)]
    fn write_spad_bank(&mut self, bank: u8, wires: &ScratchpadWires, ex_write: &ExWrite, events: &mut EventBuffer) {
        let Some(source) = wires.writes.spad_source(bank) else { return };
        let loaded;
        let (port, row, data, mask) = match (source, ex_write.target) {
            (EX, Some(ExTarget::Spad { row, cols, .. })) => {
                let mask = if cols == 0 { 0 } else { u64::MAX >> (64 - cols.min(64)) };
                (Port::Ex, row, &ex_write.spad_row, mask)
            }
            (MVIN, _) => {
                let Some((row, mask)) = self.mvin.narrow_row() else { return };
                let Some(head) = &wires.heads.narrow else { return };
                loaded = row;
                (Port::Dma, head.laddr.sp_row(self.layout), &loaded, mask)
            }
            _ => {
                let (Some(head), Some(mask)) = (&wires.heads.zero, self.mvin.zero_mask()) else { return };
                loaded = SpadRow::default();
                (Port::Dma, head.laddr.sp_row(self.layout), &loaded, mask)
            }
        };
        events.push(Event::SpadWrite { bank, row, port });
        self.spad_banks[usize::from(bank)].write(&BankWrite { row, data, mask });
    }

    /// The mvin path and the reader in front of it.
    fn tick_mvin(&mut self, wires: &ScratchpadWires, load: Option<&ScratchpadReadRequest>) -> bool {
        let request = self.mvin.reader_request();
        let resp = if wires.resp_taken { self.reader.resp() } else { None };
        let moved = self.mvin.tick(wires.taken, load, wires.reader.req_ready, resp.as_ref(), &self.reader);
        self.reader.tick(&wires.reader, request.as_ref(), self.tilelink.d(DmaClient::Reader)) || moved
    }
}

fn set_bit(mask: &mut u32, bank: u8, value: bool) {
    *mask = *mask & !(1 << bank) | u32::from(value) << bank;
}

/// A loaded row that ends its packet is shown for the scratchpad.
fn spad_last(heads: &MvinHeads) -> bool {
    heads.narrow.as_ref().is_some_and(|row| row.last && !row.tag.is_acc)
}
