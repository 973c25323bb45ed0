//! The wires of the local memories in one cycle, and the summaries of the banks' registers.

use crate::dma::load_controller::{ScratchpadReadRequest, ScratchpadReadResponse};
use crate::dma::mvin_path::{MvinHeads, MvinTaken};
use crate::dma::mvout_path::{MvoutWires, RowSource};
use crate::dma::store_controller::ScratchpadWriteRequest;
use crate::dma::stream_reader::StreamReaderWires;
use crate::dma::stream_writer::StreamWriterWires;
use crate::memories::accumulator_mem::WriteAddress;
use crate::parts::banks::{BankId, BankRow, BankSet};
use crate::parts::canonical::Canonical;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{ExReads, ExWrite};
use crate::port::frontend_tlb::TlbRequest;
use crate::port::tilelink::DBeat;

/// Sources of bank writes, highest priority first.
pub(crate) const EX: usize = 0;
pub(crate) const MVIN: usize = 1;
pub(crate) const ZERO: usize = 2;

/// Bytes of an accumulator element.
pub(crate) const ACC_BYTES: usize = 4;

/// A valid write request of an accumulator bank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccWriteRequest {
    pub(crate) bank: BankId,
    pub(crate) address: WriteAddress,
    /// Accepted by the bank.
    pub(crate) fires: bool,
}

/// Bank writes of this cycle by source. A source writes at most one bank of each memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BankWrites {
    /// Scratchpad bank that the source writes.
    pub(crate) spad: [Option<BankId>; 3],
    /// Scratchpad banks that are written.
    pub(crate) spad_banks: BankSet,
    pub(crate) acc: [Option<AccWriteRequest>; 3],
    /// Accumulator banks with a valid request.
    pub(crate) acc_banks: BankSet,
    /// Those of them whose request accumulates, or is accepted.
    pub(crate) accumulating: BankSet,
    pub(crate) acc_fires: BankSet,
}

impl BankWrites {
    pub(crate) fn write_spad(&mut self, source: usize, bank: BankId) {
        self.spad[source] = Some(bank);
        self.spad_banks.insert(bank);
    }

    pub(crate) fn write_acc(&mut self, source: usize, request: AccWriteRequest) {
        self.acc[source] = Some(request);
        let bank = BankSet::of(request.bank);
        self.acc_banks |= bank;
        self.accumulating |= bank.only_if(request.address.accumulate);
        self.acc_fires |= bank.only_if(request.fires);
    }

    pub(crate) fn spad_source(&self, bank: BankId) -> Option<usize> {
        if !self.spad_banks.has(bank) { None } else { self.spad.iter().position(|b| *b == Some(bank)) }
    }

    pub(crate) fn acc_source(&self, bank: BankId) -> Option<(usize, AccWriteRequest)> {
        if !self.acc_banks.has(bank) {
            return None;
        }
        let of_bank = |source: usize| {
            let request = self.acc[source].filter(|request| request.bank == bank);
            request.map(|request| (source, request))
        };
        of_bank(EX).or_else(|| of_bank(MVIN)).or_else(|| of_bank(ZERO))
    }
}

/// Banks whose output leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputsTaken {
    pub(crate) spad: BankSet,
    pub(crate) acc: BankSet,
}

/// The valid bits of the banks' registers, a set each, so that banks without a row need not be looked at.
#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(crate) struct BankStates {
    /// Scratchpad banks with a row for the execute controller, or for the DMA, at their output.
    pub(crate) spad_out: [BankSet; 2],
    /// Scratchpad banks whose queue of such rows is full.
    pub(crate) rows_full: [BankSet; 2],
    /// Scratchpad banks whose queue of rows for the DMA is not empty.
    pub(crate) dma_rows: BankSet,
    /// Accumulator banks with a row at their output.
    pub(crate) acc_out: BankSet,
    /// Accumulator banks with a write on its way to the memory.
    pub(crate) acc_writing: BankSet,
    /// Accumulator banks that use the shared adders.
    pub(crate) acc_adding: BankSet,
}

/// Everything that is decided between the registers and the clock edge.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScratchpadWires {
    /// Scratchpad banks that accept a read.
    pub spad_read_ready: BankSet,
    /// Accumulator banks that accept a read, if its row is not being written (a read of the execute controller is never
    /// answered, so that rule is left to [`super::Scratchpad::dispatch`]).
    pub acc_read_ready: BankSet,
    /// Response to the load controller.
    pub load_response: Option<ScratchpadReadResponse>,
    /// Response to the store controller: the command tracker entry whose row is read.
    pub store_response: Option<u8>,
    /// A request of the store controller is accepted.
    pub store_ready: bool,
    /// Translation requests by client.
    pub tlb_requests: [TlbRequest; 2],
    pub(crate) reader: StreamReaderWires,
    pub(crate) writer: StreamWriterWires,
    pub(crate) mvout: MvoutWires,
    pub(crate) heads: MvinHeads,
    pub(crate) taken: MvinTaken,
    pub(crate) writes: BankWrites,
    pub(crate) outputs: OutputsTaken,
    /// The reader's row goes to a scaler.
    pub(crate) resp_taken: bool,
    /// The head of the mvout dispatch queue leaves, with a read of this row.
    pub(crate) dispatched: bool,
    pub(crate) mvout_read: Option<(RowSource, BankRow)>,
}

/// Inputs of the clock edge that come from other blocks.
#[derive(Clone, Copy, Debug)]
pub struct ScratchpadInputs<'a, V: Values = Full> {
    /// The execute controller's write, as given to [`super::Scratchpad::wires`].
    pub ex_write: &'a ExWrite<V>,
    /// Execute response queues that are popped, as given to [`super::Scratchpad::wires`].
    pub pops: BankSet,
    /// The execute controller's reads, as given to [`super::Scratchpad::dispatch`].
    pub reads: &'a ExReads,
    /// Request of the load controller that is accepted ([`super::Scratchpad::load_ready`]).
    pub load: Option<&'a ScratchpadReadRequest>,
    /// Request of the store controller that is accepted (`store_ready`).
    pub store: Option<&'a ScratchpadWriteRequest>,
    /// The memory takes the beat at [`super::Scratchpad::port_a`].
    pub port_a_taken: bool,
    /// The beat that the memory delivers; only if [`super::Scratchpad::port_d_ready`].
    pub port_d: Option<&'a DBeat<V>>,
}
