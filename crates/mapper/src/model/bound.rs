//! The bound: cycles that no run of a mapping can do without, whatever the timing of the memory is beyond its stated least.
//!
//! Each unit does its work by itself at best, so the work of each is a bound; nothing is computed before the first operands are in, and
//! the last result has to leave. Every term is a property of the hardware:
//!
//! * the array takes a row a cycle, and a pass has at least so many rows ([`Work::mesh_rows`]); before the first of them a block of each
//!   operand is in the scratchpad, after the last one its row goes through the array, is read, sent, and acknowledged;
//! * channel A carries a beat a cycle (or in each of its periods): a request for each read, the data of writes; channel D the data of
//!   reads and an acknowledgement for each write;
//! * a memory of limited bandwidth carries the bytes of all requests;
//! * a read holds an entry of the transaction table from its first cycle to its last beat, a load command a tracker entry from its first
//!   request to its last beat;
//! * one store command is under way at a time, and reads a row a cycle; so many rows are in the scale unit at once;
//! * the host gives a command an interval, the dispatch one a cycle.

use super::machine::Machine;

/// What has to be done, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Rows through the array.
    pub mesh_rows: u64,
    /// Read requests.
    pub reads: u64,
    /// Beats of data read.
    pub read_beats: u64,
    /// Bytes of read requests.
    pub read_bytes: u64,
    /// Write requests.
    pub writes: u64,
    /// Beats of data written.
    pub write_beats: u64,
    /// Load commands that read main memory.
    pub loads: u64,
    /// Rows that leave the accumulator.
    pub rows_out: u64,
    /// Commands of the host.
    pub host_commands: u64,
    /// Commands that enter the reservation station.
    pub station_commands: u64,
    /// Beats of the smallest load commands of the two operands, without which nothing is computed.
    pub first_beats: u64,
    /// Rows of the smallest store command, which follows the last compute.
    pub last_rows: u64,
}

impl Work {
    /// Cycles.
    pub fn bound(&self, machine: &Machine) -> u64 {
        self.terms(machine).iter().map(|(_, cycles)| *cycles).max().unwrap_or(0)
    }

    /// What has to be done at least, unit by unit, and the cycles of each.
    pub fn terms(&self, machine: &Machine) -> [(&'static str, u64); 10] {
        let latency = machine.least_latency;
        let first = if self.first_beats > 0 { latency + self.first_beats * machine.d_beat } else { 0 };
        // The last result goes through the array, is read out, sent and acknowledged.
        let last = machine.array_latency + self.last_rows + latency;
        let bytes = (self.read_bytes + self.write_beats * machine.beat_bytes) as f64 * machine.byte;
        let held = self.reads * machine.least_read() + self.read_beats;
        [
            // The first pass, which brings the first weights, may run before all of A's block is there.
            ("rows through the array", first + self.mesh_rows.saturating_sub(machine.dim as u64) + last),
            ("beats of requests and written data", (self.reads + self.write_beats) * machine.a_beat),
            ("beats of read data and acknowledgements", (self.read_beats + self.writes) * machine.d_beat),
            ("read data before the last result", latency + self.read_beats * machine.d_beat + last),
            ("the memory's bandwidth", bytes.floor() as u64),
            ("read requests under way", held / machine.requests as u64),
            ("load commands under way", (self.loads * latency + self.read_beats) / machine.trackers as u64),
            ("rows through the scale unit", (self.rows_out as f64 * machine.read_out).floor() as u64),
            ("commands of the host", self.host_commands.saturating_sub(1) * machine.interval as u64),
            ("commands into the reservation station", self.station_commands),
        ]
    }
}
