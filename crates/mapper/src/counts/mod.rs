//! What a mapping makes the hardware do, as numbers: predicted from its commands, without a simulation. The emulator counts the
//! same ([`EventCounts`]), but for what depends on time.

mod requests;
mod stream;

pub use requests::{RowTraffic, read_row, write_row};
pub use stream::{CountError, of_program};

use pollux_sim::counts::{EventCounts, MeshCounts, TlbCounts};
use serde::Serialize;

/// Rows of a pass of the array at least (`ExecuteController.scala`).
pub(crate) const LEAST_ROWS: u64 = 4;

/// Passes that flush results out of the array, at most at once: as many as it takes until the last of them has been written, each
/// two cycles longer than its rows (`ExecuteController.scala`).
pub(crate) fn flush_passes(dim: u64, array_latency: u64) -> u64 {
    (2 * dim + array_latency + 2).div_ceil(dim + 2) + 1
}

/// Counts of a run that has not taken place.
///
/// All are exact but those of [`TlbCounts`], which are left 0 (a request that misses is made again), and
///
/// * `mesh.requests` and `mesh.rows`: a compute that finds the next preload in the queue takes it along, otherwise the preload is a
///   pass of its own (`ExecuteController.scala`, `need_third`), and results are flushed out of the array when nothing follows
///   them. They are between `least` and `most`;
/// * `mesh.operand_rows`: rows that wait at the array's input may be taken again. At least as many as rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Predicted {
    /// Exact, or at least.
    pub least: EventCounts,
    /// Exact, or at most.
    pub most: EventCounts,
}

impl Predicted {
    /// Exact counts, and the array's requests and rows at most.
    pub(crate) fn new(least: EventCounts, requests: u64, rows: u64) -> Self {
        let mesh = MeshCounts { requests, rows, ..least.mesh };
        Self { least, most: EventCounts { mesh, ..least } }
    }

    /// Whether a run counted what was predicted.
    pub fn agrees(&self, counted: &EventCounts) -> bool {
        let (requests, rows) = (counted.mesh.requests, counted.mesh.rows);
        let exact = |counts: &EventCounts| {
            let mesh = MeshCounts { requests: 0, rows: 0, operand_rows: 0, ..counts.mesh };
            EventCounts { mesh, tlb: TlbCounts::default(), ..*counts }
        };
        exact(&self.least) == exact(counted)
            && (self.least.mesh.requests..=self.most.mesh.requests).contains(&requests)
            && (self.least.mesh.rows..=self.most.mesh.rows).contains(&rows)
    }

    /// Bytes that cross the memory port, both ways.
    pub fn bytes(&self) -> u64 {
        self.least.memory.read_bytes + self.least.memory.written_bytes
    }
}
