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
//! [`Scratchpad::wires`] works from the sinks back: writer, mvout queues, bank outputs, bank writes, bank read ready, reader. The
//! execute controller then decides on its reads, and [`Scratchpad::dispatch`] gives what is left to mvout. [`Scratchpad::tick`] is
//! the clock edge.

mod acc_banks;
mod bank_writes;
mod report;
mod spad_banks;
#[cfg(test)]
mod tests;
pub(crate) mod wires;

use pollux_isa::config::Revision;
use pollux_isa::{AddressLayout, GemminiConfig};

use self::wires::{BankStates, BankWrites, OutputsTaken, ScratchpadInputs, ScratchpadWires};
use crate::dma::dma_parameters::DmaParameters;
use crate::dma::load_controller::ScratchpadReadRequest;
use crate::dma::mvin_path::{MvinHeads, MvinPath, MvinTaken};
use crate::dma::mvout_path::{MvoutPath, MvoutWires, RowSource};
use crate::dma::store_controller::ScratchpadWriteRequest;
use crate::dma::stream_reader::StreamReader;
use crate::dma::stream_writer::StreamWriter;
use crate::front_end::counter_file::CounterEvents;
use crate::memories::accumulator_mem::{AccumulatorMem, ReadoutRequest};
use crate::memories::scratchpad_bank::ScratchpadBank;
use crate::observation::event::{EventBuffer, Port};
use crate::parts::banks::{AccRow, BankId, BankRow, BankSet, SpadRow};
use crate::parts::canonical::Canonical;
use crate::parts::row::SpadLanes;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{ExReads, ExWrite};
use crate::port::frontend_tlb::{TLB_READER, TLB_WRITER, TlbResponse};
use crate::port::tilelink::{ABeat, DmaClient, TileLink, TileLinkInputs};

/// The block.
#[derive(Clone, Debug, Canonical)]
pub struct Scratchpad<V: Values = Full> {
    #[canon(skip = "constant")]
    pub(crate) layout: AddressLayout,
    #[canon(skip = "constant")]
    pub(crate) dim: usize,
    pub(crate) spad_banks: Vec<ScratchpadBank<V>>,
    pub(crate) acc_banks: Vec<AccumulatorMem<V>>,
    pub(crate) states: BankStates,
    /// All scratchpad banks and all accumulator banks.
    #[canon(skip = "constant")]
    pub(crate) all_banks: (BankSet, BankSet),
    /// Rows read from the scratchpad pass registers, as in an older revision.
    #[canon(skip = "constant")]
    pub(crate) has_registers: bool,
    #[canon(skip = "constant")]
    pub(crate) spad_single_ported: bool,
    /// Sub-banks of a single-ported accumulator bank, else 0.
    #[canon(skip = "constant")]
    pub(crate) acc_sub_banks: u32,
    /// Accumulator banks that the DMA must not write in this cycle (`consecutive_write_block`).
    pub(crate) consecutive_write_block: BankSet,
    /// Sub-bank of the last accumulating write, by bank (`consecutive_write_sub_bank`).
    pub(crate) consecutive_write_sub_bank: Vec<u32>,
    pub(crate) mvin: MvinPath<V>,
    pub(crate) mvout: MvoutPath<V>,
    pub(crate) reader: StreamReader<V>,
    pub(crate) writer: StreamWriter<V>,
    pub(crate) tilelink: TileLink<V>,
}

/// State from outside.
impl<V: Values> Scratchpad<V> {
    /// Which of the TLB's clients, writer and reader, look at its answer without having asked.
    pub(crate) fn looks(&self) -> [bool; 2] {
        [self.writer.looks(), false]
    }

    /// The block of a valid configuration, idle, all memories 0.
    pub fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let parameters = DmaParameters::new(config);
        let delay = config.spad_read_delay as usize;
        let spad_rows = config.sp_bank_entries() as usize;
        let has_registers = config.revision == Revision::March2023;
        let spad_bank = if has_registers { ScratchpadBank::with_registers } else { ScratchpadBank::new };
        let spad_bank = spad_bank(spad_rows, dim, delay);
        let acc_sub_banks = if config.acc_singleported { config.acc_sub_banks.unwrap_or(1) } else { 0 };
        let (rows, latency) = (config.acc_bank_entries() as usize, config.acc_latency as usize);
        let acc_bank = AccumulatorMem::new(rows, dim, latency, acc_sub_banks as usize);
        Self {
            layout: config.layout(),
            dim,
            spad_banks: vec![spad_bank; config.sp_banks as usize],
            acc_banks: vec![acc_bank; config.acc_banks as usize],
            states: BankStates::default(),
            has_registers,
            all_banks: (BankSet::first(config.sp_banks), BankSet::first(config.acc_banks)),
            spad_single_ported: config.sp_singleported,
            acc_sub_banks,
            consecutive_write_block: BankSet::EMPTY,
            consecutive_write_sub_bank: vec![0; config.acc_banks as usize],
            mvin: MvinPath::new(config),
            mvout: MvoutPath::new(config),
            reader: StreamReader::new(parameters),
            writer: StreamWriter::new(parameters),
            tilelink: TileLink::new(parameters.xacts, parameters.beat_bytes),
        }
    }

    /// The oracle for what timing has to know about values.
    pub fn set_oracle(&mut self, zero_divisors: V::Oracle) {
        self.mvout.set_oracle(zero_divisors);
    }

    /// Divisions of the normalizer so far.
    pub fn divisions(&self) -> u64 {
        self.mvout.divisions()
    }

    /// Sets that number, after divisions that were made without it.
    pub(crate) fn set_divisions(&mut self, divisions: u64) {
        self.mvout.set_divisions(divisions);
    }

    /// `io.busy`: rows on their way out, or DMA transactions under way.
    #[inline]
    pub fn busy(&self) -> bool {
        self.mvout.busy() || self.writer.busy() || self.reader.busy()
    }

    /// Output of a scratchpad bank's queue of rows for the execute controller, and whether it is valid.
    #[inline]
    pub fn ex_resp(&self, bank: BankId) -> (bool, &SpadLanes<V>) {
        self.spad_banks[bank.index()].shown_to(Port::Ex)
    }

    /// Elements of a scratchpad row, counted through all banks; none beyond the last one.
    pub fn spad_row(&self, SpadRow(row): SpadRow) -> Option<&[V::Of<i8>]> {
        let bits = self.layout.sp_bank_row_bits;
        let bank = self.spad_banks.get((row >> bits) as usize)?;
        Some(bank.row(BankRow(row & ((1 << bits) - 1))))
    }

    /// Elements of an accumulator row, counted through all banks; none beyond the last one.
    pub fn acc_row(&self, AccRow(row): AccRow) -> Option<&[V::Of<i32>]> {
        let bits = self.layout.acc_bank_row_bits;
        let bank = self.acc_banks.get((row >> bits) as usize)?;
        Some(bank.row(BankRow(row & ((1 << bits) - 1))))
    }

    /// See [`AccumulatorMem::writes_under_way`](super::accumulator_mem::AccumulatorMem::writes_under_way).
    pub(crate) fn acc_writes_under_way(&self, AccRow(row): AccRow) -> usize {
        let bits = self.layout.acc_bank_row_bits;
        let bank = self.acc_banks.get((row >> bits) as usize);
        bank.map_or(0, |bank| bank.writes_under_way(BankRow(row & ((1 << bits) - 1))))
    }

    /// The beat offered to the memory.
    #[inline]
    pub fn port_a(&self) -> Option<&ABeat<V>> {
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

    /// Neither a loaded row nor a read or a beat is inside.
    pub(crate) fn dma_is_empty(&self) -> bool {
        self.mvin.is_empty() && self.reader.is_quiet() && self.tilelink.is_empty()
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
impl<V: Values> Scratchpad<V> {
    /// First half of the cycle's wires: sinks, bank outputs and writes, then which banks accept a read.
    ///
    /// `pops` are the execute response queues that are popped, `tlb` the translation answers by client.
    pub fn wires(&self, ex_write: &ExWrite<V>, pops: BankSet, tlb: &[TlbResponse; 2]) -> ScratchpadWires {
        let mut wires = ScratchpadWires::default();
        self.drive_writer(tlb[TLB_WRITER], &mut wires);
        self.drive_reader(ex_write, tlb[TLB_READER], &mut wires);
        self.drive_banks(pops, &mut wires);
        wires
    }

    /// The wires of the way to main memory: writer and mvout.
    #[inline]
    pub(crate) fn drive_writer(&self, tlb: TlbResponse, wires: &mut ScratchpadWires) {
        let (a_ready, d) = (self.tilelink.a_ready(DmaClient::Writer), self.tilelink.d(DmaClient::Writer));
        wires.writer = self.writer.wires(tlb, a_ready, d.is_some());
        wires.mvout = self.mvout.wires(
            wires.writer.req_ready,
            |bank| self.states.dma_rows.has(bank),
            |bank| self.states.acc_out.has(bank),
        );
        wires.store_ready = self.mvout.store_ready();
        (wires.dispatched, wires.mvout_read, wires.store_response) = (false, None, None);
        wires.tlb_requests[TLB_WRITER] = wires.writer.tlb_request;
    }

    /// The wires of the way from main memory: bank writes, mvin, reader.
    #[inline]
    pub(crate) fn drive_reader(&self, ex_write: &ExWrite<V>, tlb: TlbResponse, wires: &mut ScratchpadWires) {
        self.drive_ex_write(ex_write, &mut wires.writes);
        wires.taken = MvinTaken::default();
        if self.mvin.is_empty() {
            (wires.heads, wires.load_response) = (MvinHeads::default(), None);
        } else {
            wires.heads = self.mvin.heads();
            self.mvin_bank_writes(&wires.heads, &mut wires.writes, &mut wires.taken);
            wires.load_response = self.mvin.response(&wires.heads, wires.taken);
        }
        wires.resp_taken = self.reader.resp_is_wide().is_some_and(|wide| self.mvin.resp_ready(wide, wires.taken));
        let (a_ready, d) = (self.tilelink.a_ready(DmaClient::Reader), self.tilelink.d(DmaClient::Reader));
        wires.reader = self.reader.wires(tlb, a_ready, d, wires.resp_taken);
        wires.tlb_requests[TLB_READER] = wires.reader.tlb_request;
    }

    /// Outputs that leave, and banks that accept a read.
    #[inline]
    pub(crate) fn drive_banks(&self, pops: BankSet, wires: &mut ScratchpadWires) {
        wires.outputs = self.outputs_taken(pops, &wires.mvout);
        (wires.spad_read_ready, wires.acc_read_ready) = self.read_ready(&wires.writes, wires.outputs);
    }

    /// Bank outputs that leave in this cycle.
    pub(crate) fn outputs_taken(&self, pops: BankSet, mvout: &MvoutWires) -> OutputsTaken {
        let BankStates { spad_out, rows_full, .. } = self.states;
        let to = |port: Port, pops: BankSet| spad_out[port as usize] & (!rows_full[port as usize] | pops);
        OutputsTaken { spad: to(Port::Ex, pops) | to(Port::Dma, mvout.spad_row.into()), acc: mvout.acc_row.into() }
    }

    /// Banks that accept a read: scratchpad, accumulator.
    pub(crate) fn read_ready(&self, writes: &BankWrites, taken: OutputsTaken) -> (BankSet, BankSet) {
        let BankStates { spad_out, acc_out, .. } = self.states;
        let written = writes.spad_banks.only_if(self.spad_single_ported);
        let (spad_waiting, acc_waiting) = ((spad_out[0] | spad_out[1]) & !taken.spad, acc_out & !taken.acc);
        (self.all_banks.0 & !spad_waiting & !written, self.all_banks.1 & !acc_waiting & !writes.accumulating)
    }

    /// Second half: mvout reads what the execute controller leaves over, and the store controller gets its response.
    pub fn dispatch(&self, reads: &ExReads, wires: &mut ScratchpadWires) {
        let Some(request) = self.mvout.dispatching() else { return };
        let (source, row) = (self.mvout.source(request), self.mvout.bank_row(request));
        wires.dispatched = match source {
            RowSource::Zeros => true,
            RowSource::Spad(bank) => (wires.spad_read_ready & !reads.spad_valid).has(bank),
            RowSource::Acc(bank) => !reads.acc_valid.has(bank) && self.acc_read_ready(bank, row, wires),
        };
        if wires.dispatched {
            wires.mvout_read = Some((source, row));
            wires.store_response = Some(request.cmd_id);
        }
    }

    /// `read.req.ready` of an accumulator bank for a row.
    fn acc_read_ready(&self, bank: BankId, row: BankRow, wires: &ScratchpadWires) -> bool {
        let write = wires.writes.acc_source(bank).map(|(_, request)| request.address);
        self.acc_banks[bank.index()].read_ready(row, wires.outputs.acc.has(bank), write)
    }

    /// Whether a request of the load controller is accepted.
    #[inline]
    pub fn load_ready(&self, request: &ScratchpadReadRequest, wires: &ScratchpadWires) -> bool {
        self.mvin.load_ready(request, wires.reader.req_ready, wires.taken.zero)
    }
}

/// Clock edge.
impl<V: Values> Scratchpad<V> {
    /// Clock edge. Returns true if a register changed that can change the next cycle.
    ///
    /// Each part reads the others as they were before the edge, so the order is: what takes a row before what gives it.
    #[must_use]
    pub fn tick(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_, V>,
        events: &mut EventBuffer,
    ) -> bool {
        let reader_beat = wires.reader.a_fires.then(|| self.reader.a_beat(&wires.reader));
        let writer_beat = if wires.writer.a_fires { self.writer.a_beat(&wires.writer) } else { None };
        let (mut changed, mvout_read) = self.tick_writes(wires, inputs.store, events);
        changed |= self.tick_acc_reads(wires, inputs.reads, mvout_read, events);
        changed |= self.tick_acc_writes(wires, inputs.ex_write, events);
        changed |= self.tick_spad_banks(wires, inputs, events);
        changed |= self.tick_mvin(wires, inputs.load);
        changed | self.tick_tilelink(wires, inputs, [reader_beat.as_ref(), writer_beat.as_ref()])
    }

    /// The way to main memory. Gives the accumulator row that it reads, too.
    #[inline]
    pub(crate) fn tick_writes(
        &mut self,
        wires: &ScratchpadWires,
        store: Option<&ScratchpadWriteRequest>,
        events: &mut EventBuffer,
    ) -> (bool, Option<(BankId, BankRow, ReadoutRequest)>) {
        let mut changed = self.tick_writer(wires);
        let mvout_read = match (wires.mvout_read, self.mvout.dispatching()) {
            (Some((RowSource::Acc(bank), row)), Some(request)) => Some((bank, row, self.mvout.readout(request))),
            _ => None,
        };
        changed |= self.mvout.tick(&wires.mvout, wires.dispatched, store, &self.acc_banks, events);
        (changed, mvout_read)
    }

    fn tick_writer(&mut self, wires: &ScratchpadWires) -> bool {
        let row = wires.mvout.spad_row.and_then(|bank| self.spad_banks[bank.index()].row_for(Port::Dma));
        let request = self.mvout.writer_request(&wires.mvout, row);
        self.writer.tick(&wires.writer, request.as_ref(), self.tilelink.d(DmaClient::Writer))
    }

    /// The mvin path and the reader in front of it.
    #[inline]
    pub(crate) fn tick_mvin(&mut self, wires: &ScratchpadWires, load: Option<&ScratchpadReadRequest>) -> bool {
        let request = self.mvin.reader_request();
        let resp = if wires.resp_taken { self.reader.resp() } else { None };
        let moved = self.mvin.tick(wires.taken, load, wires.reader.req_ready, resp.as_ref(), &self.reader);
        self.reader.tick(&wires.reader, request.as_ref(), self.tilelink.d(DmaClient::Reader)) || moved
    }

    /// The port; `beats` are those that the engines send.
    pub(crate) fn tick_tilelink(
        &mut self,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_, V>,
        beats: [Option<&ABeat<V>>; 2],
    ) -> bool {
        let inputs = TileLinkInputs {
            a: beats,
            d_taken: [wires.reader.d_taken, wires.writer.d_taken],
            port_a_taken: inputs.port_a_taken,
            port_d: inputs.port_d,
        };
        self.tilelink.tick(&inputs)
    }
}
