//! The figures of a build and its surroundings that the models reckon with.

use pollux_isa::ValidConfig;
use pollux_isa::config::ScaleUnits;
use pollux_sim::memory::MemoryModel;

use crate::counts::LEAST_ROWS;
use crate::emulate::Surroundings;

/// Cycles that a read request takes in the accelerator itself, from the row request to the row in its bank, beside the memory's
/// latency: reader, translation, A and D buffers, merger, scaler, pixel repeater (`DMA.scala`, `Scratchpad.scala`; measured on the
/// emulator with a memory of one cycle).
const READ_PATH: f64 = 13.0;
/// Cycles of it in which the request holds its entry in the table: to its last beat.
const TABLE_PATH: f64 = 9.0;
/// Cycles beside the memory's latency in which a write holds its own: translation and A buffer (`DMA.scala`, `StreamWriter`).
const WRITE_PATH: f64 = 7.0;
/// The least of a read's path that the bound reckons with: a request leaves two cycles after its packet fires, its table entry is free when the
/// last beat is taken.
const LEAST_READ_PATH: u64 = 2;
/// Rows inside the accumulator's scale unit: those that its issue queue holds (`spad_read_delay + 1`, `Scratchpad.scala`).
const SCALE_QUEUE_OVER_DELAY: u32 = 1;

/// A build in its surroundings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Rows and columns of the array.
    pub dim: usize,
    /// Blocks that a load or store command moves, of int8 and of int32.
    pub group: usize,
    /// Blocks of int32.
    pub wide_group: usize,
    /// Rows of the scratchpad, and of one of its banks.
    pub scratchpad_rows: usize,
    /// Rows of a scratchpad bank.
    pub scratchpad_bank: usize,
    /// Rows of the accumulator, and of one of its banks.
    pub accumulator_rows: usize,
    /// Rows of an accumulator bank.
    pub accumulator_bank: usize,
    /// Read requests under way at most.
    pub requests: f64,
    /// Cycles from one write to the next if as many are under way as there may be.
    pub write_interval: f64,
    /// One over the requests under way.
    pub a_request: f64,
    /// One over the load commands under way.
    pub a_tracker: f64,
    /// Load commands under way at most.
    pub trackers: f64,
    /// Entries of the reservation station: loads, executes, stores.
    pub station: [usize; 3],
    /// Cycles from a row request to its row in the bank, as a rule.
    pub read_latency: f64,
    /// Cycles of the memory from a request to its first beat, at least.
    pub least_latency: u64,
    /// Cycles of a beat on channel A and of one on channel D.
    pub a_beat: u64,
    /// Cycles of a beat on channel D.
    pub d_beat: u64,
    /// Cycles of a byte of requests, both ways together: a memory's bandwidth below that of the port.
    pub byte: f64,
    /// Bytes of a beat.
    pub beat_bytes: u64,
    /// Cycles between two commands of the host.
    pub interval: f64,
    /// Cycles of a row through the array.
    pub array_latency: u64,
    /// Cycles of a row through the scale unit, if rows follow each other.
    pub read_out: f64,
}

impl Machine {
    /// The machine of a build.
    pub fn new(config: &ValidConfig, around: &Surroundings) -> Self {
        let (typical, least, a_beat, d_beat, byte) = match around.memory {
            MemoryModel::Bench(p) => (p.latency as f64, p.latency, p.a_period.max(1), p.d_period.max(1), 0.0),
            MemoryModel::Bandwidth(p) => {
                (p.latency as f64, p.latency, 1, 1, p.cycles.max(1) as f64 / p.bytes.max(1) as f64)
            }
            // Some requests hit, some miss: the latency of a hit and half of what a miss takes on top.
            MemoryModel::Dram(p) => {
                let cycles = |picoseconds: u64| picoseconds as f64 * p.clock_mhz as f64 / 1e6;
                let miss = cycles(p.dram.t_controller + p.dram.t_cl + p.dram.t_rcd + p.dram.t_burst);
                (p.cache.hit_cycles as f64 + miss / 2.0, p.cache.hit_cycles.saturating_sub(1), 1, 1, 0.0)
            }
            _ => (0.0, 0, 1, 1, 0.0),
        };
        let latency = match config.acc_scale_args {
            Some(args) if matches!(args.units, ScaleUnits::PerColumn) => f64::from(args.latency),
            _ => 1.0,
        };
        let station = [
            config.reservation_station_entries_ld,
            config.reservation_station_entries_ex,
            config.reservation_station_entries_st,
        ];
        let tiles = u64::from(config.mesh_rows + config.mesh_columns - 1);
        Self {
            dim: config.dim() as usize,
            group: config.max_block_len() as usize,
            wide_group: config.max_block_len_acc() as usize,
            scratchpad_rows: config.sp_rows() as usize,
            scratchpad_bank: config.sp_bank_entries() as usize,
            accumulator_rows: config.acc_rows() as usize,
            accumulator_bank: config.acc_bank_entries() as usize,
            requests: f64::from(config.max_in_flight_mem_reqs),
            write_interval: (typical + WRITE_PATH) / f64::from(config.max_in_flight_mem_reqs),
            a_request: 1.0 / f64::from(config.max_in_flight_mem_reqs),
            a_tracker: 1.0 / f64::from(config.n_cmds()),
            trackers: f64::from(config.n_cmds()),
            station: station.map(|entries| entries as usize),
            read_latency: typical + READ_PATH,
            least_latency: least,
            a_beat,
            d_beat,
            byte,
            beat_bytes: u64::from(config.beat_bytes()),
            interval: around.interval.max(1) as f64,
            array_latency: tiles * u64::from(config.tile_latency + 1) + u64::from(config.mesh_output_delay),
            read_out: (latency / f64::from(config.spad_read_delay + SCALE_QUEUE_OVER_DELAY)).max(1.0),
        }
    }

    /// Cycles that a read request holds its table entry, at least.
    pub fn least_read(&self) -> u64 {
        self.least_latency + LEAST_READ_PATH
    }

    /// Cycles of a pass: few rows wait for the queue of tags (`MeshWithDelays.scala`: six tags, of which each is free when the next
    /// pass has left the array).
    pub fn pass(&self, rows: f64) -> f64 {
        let tags = 5.0;
        rows.max(LEAST_ROWS as f64).max((rows + self.array_latency as f64 + 1.0) / tags)
    }

    /// Cycles of so many writes in a row, as far as the table of writes under way has room; as many as it has entries wait for none.
    pub fn writes_held(&self, writes: f64) -> f64 {
        (writes - self.requests).max(0.0) * self.write_interval
    }

    /// Cycles that a load command of so many rows takes if others like it are before and behind it. A row has so many requests, beats
    /// and bytes.
    ///
    /// The engine makes a request a cycle, the port a beat; the table has room for some requests, the controller for some commands, and
    /// each waits for the memory's latency.
    pub fn load(&self, rows: f64, requests: f64, beats: f64) -> f64 {
        self.command(rows, requests, beats).interval
    }

    /// The same, and what is idle of it.
    pub fn command(&self, rows: f64, requests: f64, beats: f64) -> LoadCommand {
        self.row_command(rows, &RowOfCommand::new(requests, beats))
    }

    /// The same of a row that is known.
    pub fn row_command(&self, rows: f64, row: &RowOfCommand) -> LoadCommand {
        let &RowOfCommand { requests, beats, of_request } = row;
        let data = rows * beats * self.d_beat as f64;
        let asked = rows * requests * self.a_beat as f64;
        let busy = data.max(asked);
        // A memory of limited bandwidth transfers while the latency passes.
        let transfer = rows * beats * self.byte * self.beat_bytes as f64;
        let held = self.read_latency - READ_PATH + TABLE_PATH + of_request * self.d_beat as f64;
        let in_table = rows * requests * held * self.a_request;
        let in_tracker = ((self.read_latency + busy).max(transfer) + 2.0) * self.a_tracker;
        LoadCommand { interval: busy.max(transfer).max(in_table).max(in_tracker), busy }
    }

    /// Cycles from the end of a run of load commands, counted in their intervals, until the last row is there. Where a command waits for
    /// one before it to end, the latency is in the interval already.
    pub fn arrival(&self, last: LoadCommand) -> f64 {
        (self.read_latency - self.trackers * (last.interval - last.busy)).max(0.0)
    }
}

/// A row of a load or store command: requests, beats, and beats of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowOfCommand {
    /// Requests.
    pub requests: f64,
    /// Beats.
    pub beats: f64,
    /// Beats of a request.
    pub of_request: f64,
}

impl RowOfCommand {
    /// A row of so many requests and beats.
    pub fn new(requests: f64, beats: f64) -> Self {
        Self { requests, beats, of_request: beats / requests }
    }
}

/// A load command among others like it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadCommand {
    /// Cycles from one to the next.
    pub interval: f64,
    /// Cycles of its requests or data.
    pub busy: f64,
}
