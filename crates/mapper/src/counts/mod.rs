//! What a mapping makes the hardware do, as numbers: predicted from its commands, without a simulation, and counted in a run
//! of the emulator. Both are equal, but for what depends on time.

mod requests;
mod stream;

pub use requests::{RowTraffic, read_row, write_row};
pub use stream::{CountError, of_program};

use serde::Serialize;

/// A number that depends on time, between bounds that do not.
///
/// Passes do: a compute that finds the next preload in the queue takes it along, otherwise the preload is a pass of its own
/// (`ExecuteController.scala`, `need_third`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

impl Bounds {
    /// Adds a number that is exact.
    pub fn add(&mut self, n: u64) {
        self.least += n;
        self.most += n;
    }

    /// Whether a number counted in a run is within.
    pub fn contains(&self, counted: &Self) -> bool {
        self.least <= counted.least && counted.most <= self.most
    }
}

/// Events of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Commands that the host gives.
    pub host_commands: u64,
    /// Load commands, their configurations included, that enter the reservation station.
    pub load_commands: u64,
    /// Preloads, computes and their configurations.
    pub execute_commands: u64,
    /// Store commands and their configurations.
    pub store_commands: u64,
    /// Read requests at the memory port.
    pub read_requests: u64,
    /// Beats of data read.
    pub read_beats: u64,
    /// Bytes of the read requests, those that are not needed included.
    pub read_bytes: u64,
    /// Write requests at the memory port.
    pub write_requests: u64,
    /// Beats of data written.
    pub write_beats: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Rows read from the scratchpad.
    pub scratchpad_reads: u64,
    /// Rows, or parts of rows, written to the scratchpad.
    pub scratchpad_writes: u64,
    /// Rows read from the accumulator on their way out.
    pub accumulator_reads: u64,
    /// Rows written to the accumulator without a sum.
    pub accumulator_writes: u64,
    /// Rows added to those in the accumulator: each is a read, sums and a write.
    pub accumulating_writes: u64,
    /// Passes of rows through the array. This depends on time.
    pub passes: Bounds,
    /// Rows of all passes, those of padding included. This depends on time.
    pub mesh_rows: Bounds,
}

impl Counts {
    /// Whether this prediction is what a run counted: equal, and within its bounds where time plays a part.
    pub fn agrees(&self, counted: &Self) -> bool {
        let exact = |counts: &Self| Self { passes: Bounds::default(), mesh_rows: Bounds::default(), ..*counts };
        exact(self) == exact(counted)
            && self.passes.contains(&counted.passes)
            && self.mesh_rows.contains(&counted.mesh_rows)
    }
}
