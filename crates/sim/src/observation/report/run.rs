//! [`RunReport`]: the numbers of a run, as plain data.

use serde::Serialize;

use crate::memory::PortTraffic;
use crate::observation::activity::{Block, Cause, Conflict, SPENT, Spent};
use crate::observation::event::Cycle;

/// Everything that is reported about a run. All fields are plain numbers; shares and rates are given with them so that
/// no consumer has to know peak values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// Name of the configuration.
    pub config: String,
    /// Rows and columns of the array.
    pub dim: u32,
    /// Totals.
    pub totals: Totals,
    /// The array.
    pub mesh: MeshReport,
    /// Traffic at the memory port.
    pub dma: DmaReport,
    /// What each block's cycles were spent on, in the order of [`Block::ALL`].
    pub blocks: Vec<BlockReport>,
    /// Accesses of each bank: first those of the scratchpad, then those of the accumulator.
    pub banks: Vec<BankReport>,
    /// Accesses that had to wait, by memory and cause; only those that occurred.
    pub conflicts: Vec<ConflictReport>,
    /// Gemmini's event lines: all 44 as if each had a counter of its own, from cycle 0 on.
    pub counters: Vec<CounterReport>,
    /// Gemmini's external counters at the end of the run, as COUNTER would read them.
    pub external_counters: Vec<CounterReport>,
    /// By operation, in program order: empty if the program has no marks.
    pub operations: Vec<OperationReport>,
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Cycles from reset until nothing moved any more; every block's cycles add up to this.
    pub cycles: Cycle,
    /// First cycle of the last idle stretch: the headline figure.
    pub busy_falls: Cycle,
    /// Cycles with the busy output high.
    pub busy_cycles: u64,
    /// Commands accepted at the command port.
    pub commands: u64,
    /// Commands that entered the reservation station, those made by the unrollers included.
    pub station_commands: u64,
    /// Accesses that the page table did not allow.
    pub page_faults: u64,
}

/// The array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeshReport {
    /// Multiply-accumulates of elements that take part.
    pub macs: u64,
    /// Multiply-accumulates that the array can do in a cycle.
    pub peak_macs_per_cycle: u64,
    /// `macs` as a part of what the array could have done in all cycles, 0 to 1.
    pub utilisation: f64,
    /// The same of the cycles in which a row entered the array: 1 means that no row was padded.
    pub utilisation_while_busy: f64,
    /// Cycles in which a row entered the array, those of preloads included.
    pub row_cycles: u64,
    /// Requests taken by the array's wrapper.
    pub requests: u64,
}

/// Traffic at the memory port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DmaReport {
    /// Requests, bytes and beats.
    #[serde(flatten)]
    pub traffic: PortTraffic,
    /// Bytes of a beat: what one channel can move in a cycle.
    pub beat_bytes: u64,
    /// Bytes read a cycle.
    pub read_bytes_per_cycle: f64,
    /// Bytes written a cycle.
    pub written_bytes_per_cycle: f64,
    /// Part of the cycles in which a beat of data was taken on channel D, 0 to 1.
    pub read_utilisation: f64,
    /// Part of the cycles in which a beat of a write was accepted on channel A, 0 to 1.
    pub write_utilisation: f64,
    /// Mean cycles between a read request on channel A and the last beat of its response on channel D.
    pub mean_read_latency: f64,
    /// Mean cycles between a write request's first beat and its response.
    pub mean_write_latency: f64,
}

/// A cause and its cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CauseReport {
    /// Why the block waited.
    pub cause: Cause,
    /// For how many cycles.
    pub cycles: u64,
}

/// What a block's cycles were spent on: the four numbers add up to all cycles, and the causes to `stalled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockReport {
    /// The block.
    pub block: Block,
    /// It did its work.
    pub busy: u64,
    /// It had work that could not move.
    pub stalled: u64,
    /// It waited for the completion of work that it had passed on.
    pub draining: u64,
    /// It had no work.
    pub idle: u64,
    /// The stalled cycles by cause, longest first.
    pub causes: Vec<CauseReport>,
}

impl BlockReport {
    pub(super) fn new(block: Block, cycles: &[u64; SPENT]) -> Self {
        let of = |spent: Spent| cycles[spent.index()];
        let causes = Cause::ALL.into_iter().map(|cause| CauseReport { cause, cycles: of(Spent::Stalled(cause)) });
        let mut causes: Vec<CauseReport> = causes.filter(|report| report.cycles > 0).collect();
        causes.sort_by_key(|report| std::cmp::Reverse(report.cycles));
        Self {
            block,
            busy: of(Spent::Busy),
            stalled: causes.iter().map(|report| report.cycles).sum(),
            draining: of(Spent::Draining),
            idle: of(Spent::Idle),
            causes,
        }
    }

    /// All cycles of the block.
    pub fn cycles(&self) -> u64 {
        self.busy + self.stalled + self.draining + self.idle
    }
}

/// A local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// The scratchpad.
    Scratchpad,
    /// The accumulator.
    Accumulator,
}

impl Memory {
    /// Name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scratchpad => "scratchpad",
            Self::Accumulator => "accumulator",
        }
    }
}

/// Accesses of one bank. A cycle is busy if an access is taken, stalled if accesses are refused and none is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BankReport {
    /// Which memory.
    pub memory: Memory,
    /// Number of the bank.
    pub bank: usize,
    /// Reads taken.
    pub reads: u64,
    /// Writes taken.
    pub writes: u64,
    /// Cycles with an access taken.
    pub busy: u64,
    /// Cycles with accesses refused and none taken.
    pub stalled: u64,
    /// Cycles without an access.
    pub idle: u64,
}

/// Refused accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConflictReport {
    /// Which memory.
    pub memory: Memory,
    /// What was refused, and why.
    pub conflict: Conflict,
    /// In how many cycles, summed over the banks.
    pub cycles: u64,
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CounterReport {
    /// Code of the event, as the COUNTER command takes it.
    pub code: u8,
    /// Gemmini's name of it.
    pub name: &'static str,
    /// Cycles in which its line was high, or the external value.
    pub value: u64,
}

/// An operation: what stands between two marks.
///
/// A cycle belongs to the operation at which the host is: from the cycle in which its first item is current to the one in
/// which the next operation's is. With a fence at its end an operation therefore owns exactly the cycles of its own work.
/// Without one, the rest of its work runs in the next operation's cycles and is counted there; the sum is right in any case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationReport {
    /// The mark's name; empty for what stands before the first mark.
    pub name: String,
    /// First cycle.
    pub start: Cycle,
    /// Cycles.
    pub cycles: u64,
    /// Commands accepted at the command port.
    pub commands: u64,
    /// Multiply-accumulates of the computes issued.
    pub macs: u64,
    /// `macs` as a part of what the array could have done in these cycles, 0 to 1.
    pub utilisation: f64,
    /// Bytes of the read requests made.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// What each block's cycles were spent on.
    pub blocks: Vec<BlockReport>,
}
