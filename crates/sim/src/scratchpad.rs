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

use crate::accumulator_mem::{self, AccumulatorMem, AccumulatorWrite, ReadoutRequest, WriteAddress};
use crate::counter_file::CounterEvents;
use crate::dma_parameters::DmaParameters;
use crate::event::{Event, EventBuffer, Port};
use crate::frontend_tlb::{TLB_READER, TLB_WRITER, TlbRequest, TlbResponse};
use crate::load_controller::{ScratchpadReadRequest, ScratchpadReadResponse};
use crate::mvin_path::{MvinHeads, MvinPath, MvinTaken};
use crate::mvout_path::{MvoutPath, MvoutWires, RowSource};
use crate::queue::Queue;
use crate::row::{AccRow, ByteMask, SpadRow};
use crate::scratchpad_bank::{BankWrite, ScratchpadBank};
use crate::store_controller::ScratchpadWriteRequest;
use crate::stream_reader::{StreamReader, StreamReaderWires};
use crate::stream_writer::{StreamWriter, StreamWriterWires};
use crate::tilelink::{ABeat, DBeat, DmaClient, TileLink, TileLinkInputs};
use crate::wires::{ExReads, ExWrite};

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
    /// Those of them whose request accumulates.
    accumulating: u32,
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
    }

    fn spad_source(&self, bank: u8) -> Option<usize> {
        if self.spad_banks >> bank & 1 == 0 { None } else { self.spad.iter().position(|b| *b == Some(bank)) }
    }

    fn acc_source(&self, bank: u8) -> Option<(usize, AccWriteRequest)> {
        if self.acc_banks >> bank & 1 == 0 {
            return None;
        }
        let of_bank = |request: AccWriteRequest| (request.bank == bank).then_some(request);
        self.acc.iter().enumerate().find_map(|(source, request)| Some((source, request.and_then(of_bank)?)))
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
}

/// The numbers of the set bits, lowest first.
fn banks_of(mut mask: u32) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let bank = (mask != 0).then(|| mask.trailing_zeros() as u8);
        mask &= mask.wrapping_sub(1);
        bank
    })
}

/// Everything that is decided between the registers and the clock edge.
#[derive(Clone, Copy, Debug)]
pub struct ScratchpadWires {
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
    pub ex_write: Option<&'a ExWrite>,
    /// Execute response queues that are popped, as given to [`Scratchpad::sinks`].
    pub pops: u32,
    /// The execute controller's reads, as given to [`Scratchpad::dispatch`].
    pub reads: &'a ExReads,
    /// Request of the load controller that is accepted ([`Scratchpad::load_ready`]).
    pub load: Option<&'a ScratchpadReadRequest>,
    /// Request of the store controller that is accepted (`store_ready`).
    pub store: Option<&'a ScratchpadWriteRequest>,
    /// The memory takes the beat at [`Scratchpad::port_a`].
    pub port_a_taken: bool,
    /// The beat that the memory delivers; only if [`Scratchpad::port_d_ready`].
    pub port_d: Option<&'a DBeat>,
}

/// A scratchpad bank with the queues behind its output.
#[derive(Clone, Debug)]
struct SpadBank {
    bank: ScratchpadBank,
    /// `ex_read_pipe`.
    ex_rows: Queue<SpadRow>,
    /// `dma_read_pipe`.
    dma_rows: Queue<SpadRow>,
}

/// The block.
#[derive(Clone, Debug)]
pub struct Scratchpad {
    layout: AddressLayout,
    dim: usize,
    spad_banks: Vec<SpadBank>,
    acc_banks: Vec<AccumulatorMem>,
    states: BankStates,
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
        let spad_bank = SpadBank {
            bank: ScratchpadBank::new(config.sp_bank_entries() as usize, dim, config.sp_singleported),
            ex_rows: Queue::pipe(delay),
            dma_rows: Queue::pipe(delay),
        };
        let acc_sub_banks = if config.acc_singleported { config.acc_sub_banks.unwrap_or(1) } else { 0 };
        let (rows, latency) = (config.acc_bank_entries() as usize, config.acc_latency as usize);
        let acc_bank = AccumulatorMem::new(rows, dim, latency, acc_sub_banks as usize);
        Self {
            layout: config.layout(),
            dim,
            spad_banks: vec![spad_bank; config.sp_banks as usize],
            acc_banks: vec![acc_bank; config.acc_banks as usize],
            states: BankStates::default(),
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

    /// Head of a scratchpad bank's queue of rows for the execute controller.
    #[inline]
    pub fn ex_resp(&self, bank: u8) -> Option<&SpadRow> {
        self.spad_banks[usize::from(bank)].ex_rows.front()
    }

    /// Elements of a scratchpad row, counted through all banks; none beyond the last one.
    pub fn spad_row(&self, row: u32) -> Option<&[i8]> {
        let bits = self.layout.sp_bank_row_bits;
        let bank = self.spad_banks.get((row >> bits) as usize)?;
        Some(bank.bank.row(row & ((1 << bits) - 1)))
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

/// Wires.
impl Scratchpad {
    /// First half of the cycle's wires: sinks, bank outputs and writes, then which banks accept a read.
    ///
    /// `pops` are the execute response queues that are popped; `tlb` are the translation answers by client.
    pub fn sinks(&self, ex_write: Option<&ExWrite>, pops: u32, tlb: &[TlbResponse; 2]) -> ScratchpadWires {
        let (a_ready, d) = (|client| self.tilelink.a_ready(client), |client| self.tilelink.d(client));
        let writer = self.writer.wires(tlb[TLB_WRITER], a_ready(DmaClient::Writer), d(DmaClient::Writer).is_some());
        let mvout = self.mvout.wires(
            writer.req_ready,
            |bank| self.states.dma_rows >> bank & 1 == 1,
            |bank| self.states.acc_out >> bank & 1 == 1,
        );
        let heads = if self.mvin.is_empty() { MvinHeads::default() } else { self.mvin.heads() };
        let (writes, taken) = self.bank_writes(ex_write, &heads);
        let outputs = self.outputs_taken(pops, &mvout);
        let (spad_read_ready, acc_read_ready) = self.read_ready(&writes, outputs);
        let resp_taken = self.reader.resp().is_some_and(|resp| self.mvin.resp_ready(&resp));
        let d_reader = d(DmaClient::Reader);
        let reader = self.reader.wires(tlb[TLB_READER], a_ready(DmaClient::Reader), d_reader, resp_taken);
        ScratchpadWires {
            spad_read_ready,
            acc_read_ready,
            load_response: self.mvin.response(&heads, taken),
            store_response: None,
            store_ready: self.mvout.store_ready(),
            tlb_requests: [writer.tlb_request, reader.tlb_request],
            reader,
            writer,
            mvout,
            heads,
            taken,
            writes,
            outputs,
            resp_taken,
            dispatched: false,
            mvout_read: None,
        }
    }

    /// Which source writes which bank, and which rows of the mvin path are thereby taken.
    fn bank_writes(&self, ex_write: Option<&ExWrite>, heads: &MvinHeads) -> (BankWrites, MvinTaken) {
        let (mut writes, mut taken) = (BankWrites::default(), MvinTaken::default());
        match ex_write {
            Some(ExWrite::Spad { bank, .. }) => writes.write_spad(EX, *bank),
            Some(ExWrite::Acc { bank, row, accumulate, .. }) => {
                let address = WriteAddress { row: *row, accumulate: *accumulate };
                writes.write_acc(EX, self.acc_request(*bank, address));
            }
            None => {}
        }
        if heads.narrow.is_some() || heads.wide.is_some() {
            self.mvin_writes(heads, &mut writes, &mut taken);
        }
        if heads.zero.is_some() {
            self.zero_write(heads, &mut writes, &mut taken);
        }
        (writes, taken)
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
    pub fn dispatch(&self, reads: &ExReads, wires: &mut ScratchpadWires) {
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
        let (read, write);
        let mut a = [None; 2];
        if wires.reader.a_fires {
            read = self.reader.a_beat(&wires.reader);
            a[DmaClient::Reader as usize] = Some(&read);
        }
        if wires.writer.a_fires {
            write = self.writer.a_beat(&wires.writer);
            a[DmaClient::Writer as usize] = write.as_ref();
        }
        let mut changed = self.tick_writer(wires);
        changed |= self.tick_acc_banks(wires, inputs, events);
        changed |= self.tick_spad_banks(wires, inputs, events);
        changed |= self.tick_mvin(wires, inputs.load);
        let tilelink = TileLinkInputs {
            a,
            d_taken: [wires.reader.d_taken, wires.writer.d_taken],
            port_a_taken: inputs.port_a_taken,
            port_d: inputs.port_d,
        };
        changed | self.tilelink.tick(&tilelink)
    }

    fn tick_writer(&mut self, wires: &ScratchpadWires) -> bool {
        let row = wires.mvout.spad_row.and_then(|bank| self.spad_banks[usize::from(bank)].dma_rows.front());
        let request = self.mvout.writer_request(&wires.mvout, row);
        self.writer.tick(&wires.writer, request.as_ref(), self.tilelink.d(DmaClient::Writer))
    }

    /// The accumulator banks, and the mvout path, which takes rows from their outputs.
    fn tick_acc_banks(&mut self, wires: &ScratchpadWires, inputs: &ScratchpadInputs, events: &mut EventBuffer) -> bool {
        let mvout_read = match (wires.mvout_read, self.mvout.dispatching()) {
            (Some((RowSource::Acc(bank), row)), Some(request)) => Some((bank, row, self.mvout.readout(request))),
            _ => None,
        };
        let moved = self.mvout.tick(&wires.mvout, wires.dispatched, inputs.store, &self.acc_banks);
        let blocked = self.block_consecutive_writes(&wires.writes);
        let reading = inputs.reads.acc_valid | mvout_read.map_or(0, |(bank, ..)| 1 << bank);
        let active = self.states.acc_writing | wires.writes.acc_banks | wires.outputs.acc | reading;
        if active == 0 {
            return moved || blocked;
        }
        if self.states.acc_writing != 0 {
            accumulator_mem::add(&mut self.acc_banks);
        }
        let mut changed = moved || blocked;
        for bank in banks_of(active) {
            let read = match mvout_read {
                Some((of, row, readout)) if of == bank => Some((row, readout)),
                _ => self.ex_acc_read(bank, wires, inputs.reads),
            };
            if let Some((row, readout)) = read {
                events.push(Event::AccRead { bank, row, port: readout.port });
            }
            changed |= self.tick_acc_bank(bank, read, wires, inputs.ex_write, events);
        }
        changed
    }

    fn tick_acc_bank(
        &mut self,
        bank: u8,
        read: Option<(u32, ReadoutRequest)>,
        wires: &ScratchpadWires,
        ex_write: Option<&ExWrite>,
        events: &mut EventBuffer,
    ) -> bool {
        let request = wires.writes.acc_source(bank);
        let fires = request.filter(|(_, request)| request.fires);
        let loaded;
        let data = match (fires, ex_write) {
            (None, _) => None,
            (Some((EX, _)), Some(ExWrite::Acc { data, cols, .. })) => Some((data, ByteMask::first(cols * ACC_BYTES))),
            (Some((source, _)), _) => {
                loaded = self.loaded_acc_row(source, &wires.heads);
                loaded.as_ref().map(|(row, mask)| (row, *mask))
            }
        };
        let write = data.zip(fires).map(|((row, mask), (source, AccWriteRequest { address, .. }))| {
            let WriteAddress { row: number, accumulate } = address;
            let port = if source == EX { Port::Ex } else { Port::Dma };
            events.push(Event::AccWrite { bank, row: number, port, accumulate });
            AccumulatorWrite { row: number, data: &row.0[..self.dim], mask, accumulate }
        });
        let address = request.map(|(_, request)| request.address);
        let mem = &mut self.acc_banks[usize::from(bank)];
        let changed = mem.tick(write.as_ref(), address, read, wires.outputs.acc >> bank & 1 == 1);
        set_bit(&mut self.states.acc_out, bank, mem.out().is_some());
        set_bit(&mut self.states.acc_writing, bank, mem.is_writing());
        changed
    }

    /// Data and byte enables of a loaded row or a row of zeros.
    fn loaded_acc_row(&self, source: usize, heads: &MvinHeads) -> Option<(AccRow, ByteMask)> {
        if source == ZERO {
            return Some((AccRow::default(), self.element_mask(self.mvin.zero_mask()?)));
        }
        match &heads.narrow {
            Some(row) if row.tag.is_acc => {
                let (row, mask) = self.mvin.narrow_row()?;
                Some((self.widened(&row), self.element_mask(mask)))
            }
            _ => Some((*self.mvin.wide_row()?, heads.wide.as_ref()?.tag.mask())),
        }
    }

    /// A read of the execute controller that the bank accepts.
    fn ex_acc_read(&self, bank: u8, wires: &ScratchpadWires, reads: &ExReads) -> Option<(u32, ReadoutRequest)> {
        if reads.acc_valid >> bank & 1 == 0 {
            return None;
        }
        let row = reads.acc_row[usize::from(bank)];
        let constants = IexpConstants::default();
        let readout = ReadoutRequest { activation: Activation::None, scale: 0, constants, full: false, port: Port::Ex };
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
        if self.acc_sub_banks == 0 {
            return false;
        }
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

    fn tick_spad_banks(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs,
        events: &mut EventBuffer,
    ) -> bool {
        let ex_reads = inputs.reads.spad_valid & wires.spad_read_ready;
        let mvout_read = match wires.mvout_read {
            Some((RowSource::Spad(bank), row)) => Some((bank, row)),
            _ => None,
        };
        let reading = ex_reads | mvout_read.map_or(0, |(bank, _)| 1 << bank);
        let popping = inputs.pops | wires.mvout.spad_row.map_or(0, |bank| 1 << bank);
        let active = reading | popping | wires.outputs.spad | wires.writes.spad_banks;
        for bank in banks_of(active) {
            let read = match mvout_read {
                _ if ex_reads >> bank & 1 == 1 => Some((inputs.reads.spad_row[usize::from(bank)], Port::Ex)),
                Some((of, row)) if of == bank => Some((row, Port::Dma)),
                _ => None,
            };
            let write = self.spad_write(bank, wires, inputs.ex_write);
            if let Some((row, port)) = read {
                events.push(Event::SpadRead { bank, row, port });
            }
            if let Some((port, write)) = &write {
                events.push(Event::SpadWrite { bank, row: write.row, port: *port });
            }
            self.tick_spad_bank(bank, read, write.as_ref().map(|(_, write)| write), wires, inputs.pops);
        }
        active != 0
    }

    fn tick_spad_bank(
        &mut self,
        index: u8,
        read: Option<(u32, Port)>,
        write: Option<&BankWrite>,
        wires: &ScratchpadWires,
        pops: u32,
    ) {
        let SpadBank { bank, ex_rows, dma_rows } = &mut self.spad_banks[usize::from(index)];
        if pops >> index & 1 == 1 {
            ex_rows.pop();
        }
        if wires.mvout.spad_row == Some(index) {
            dma_rows.pop();
        }
        let taken = wires.outputs.spad >> index & 1 == 1;
        match bank.out().filter(|_| taken) {
            Some(row) if row.port == Port::Ex => ex_rows.push(row.data),
            Some(row) => dma_rows.push(row.data),
            None => {}
        }
        bank.tick(taken, write, read);
        let states = &mut self.states;
        for (port, rows) in [(Port::Ex, &*ex_rows), (Port::Dma, &*dma_rows)] {
            set_bit(&mut states.spad_out[port as usize], index, bank.out().is_some_and(|row| row.port == port));
            set_bit(&mut states.rows_full[port as usize], index, rows.len() == rows.depth());
        }
        set_bit(&mut states.dma_rows, index, !dma_rows.is_empty());
    }

    /// The write of a scratchpad bank, and whose it is.
    fn spad_write(&self, bank: u8, wires: &ScratchpadWires, ex_write: Option<&ExWrite>) -> Option<(Port, BankWrite)> {
        let source = wires.writes.spad_source(bank)?;
        if source == EX {
            let Some(&ExWrite::Spad { row, data, cols, .. }) = ex_write else { return None };
            let mask = if cols == 0 { 0 } else { u64::MAX >> (64 - cols.min(64)) };
            return Some((Port::Ex, BankWrite { row, data, mask }));
        }
        let (laddr, data, mask) = if source == MVIN {
            let (row, mask) = self.mvin.narrow_row()?;
            (wires.heads.narrow.as_ref()?.laddr, row, mask)
        } else {
            (wires.heads.zero.as_ref()?.laddr, SpadRow::default(), self.mvin.zero_mask()?)
        };
        Some((Port::Dma, BankWrite { row: laddr.sp_row(self.layout), data, mask }))
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
