//! Counts of a program from its commands: the loops are unrolled as the hardware does it, nothing is simulated.

use std::collections::HashMap;

use pollux_asm::Program;
use pollux_functional::unroll::{Accepted, Unroller};
use pollux_isa::fields::{Compute, ConfigEx, ConfigLd, ConfigSt, MoveOperands, Preload};
use pollux_isa::table::Class;
use pollux_isa::values::{Activation, Bits, DataflowMode, NormCmd};
use pollux_isa::{Command, StreamItem, ValidConfig};
use pollux_sim::counts::EventCounts;
use pollux_sim::report::MacCounter;
use thiserror::Error;

use super::requests::{RowTraffic, read_row, write_row};
use super::{LEAST_ROWS, Predicted, flush_passes};

/// Why a program cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CountError {
    /// A command that the mapper's kernels do not emit.
    #[error("command {index}: {what} cannot be counted without a run")]
    Unknown {
        /// Position among the program's commands.
        index: usize,
        /// What it is.
        what: &'static str,
    },
}

/// Counts of a program of the kernels.
///
/// # Errors
/// Something in it that the kernels do not emit.
pub fn of_program(program: &Program) -> Result<Predicted, CountError> {
    let mut counter = Counter::new(&program.config);
    let mut unroller = Unroller::new(&program.config);
    let commands = program.items.iter().filter_map(|item| match item {
        StreamItem::Command(command) => Some(command),
        _ => None,
    });
    for (index, rocc) in commands.enumerate() {
        let unknown = |what| CountError::Unknown { index, what };
        counter.counts.commands.host += 1;
        let command = Command::from_rocc(&program.config, *rocc).ok_or(unknown("an unknown function"))?;
        match unroller.accept(&command) {
            Accepted::Configured => {}
            Accepted::PassedThrough => counter.command(&command).map_err(unknown)?,
            Accepted::NeverCompletes => return Err(unknown("a loop that never completes")),
            Accepted::Loop(commands) => {
                for unrolled in commands {
                    counter.counts.commands.unrolled += 1;
                    counter.command(&unrolled.command).map_err(unknown)?;
                }
            }
        }
    }
    counter.end_of_passes();
    let Counter { counts, most_passes, most_rows, .. } = counter;
    Ok(Predicted::new(counts, most_passes, most_rows))
}

struct Counter<'a> {
    config: &'a ValidConfig,
    counts: EventCounts,
    most_passes: u64,
    most_rows: u64,
    macs: MacCounter,
    norm_activation: bool,
    channels: [ConfigLd; 3],
    ex: ConfigEx,
    st: ConfigSt,
    preload: Option<Preload>,
    /// Rows of the compute whose pass may take the next preload along.
    open: Option<u64>,
    rows: HashMap<(u64, u64, u64), RowTraffic>,
}

impl<'a> Counter<'a> {
    fn new(config: &'a ValidConfig) -> Self {
        let channel = ConfigLd::from_regs(config, 0, 0);
        Self {
            config,
            counts: EventCounts::default(),
            most_passes: 0,
            most_rows: 0,
            macs: MacCounter::new(config),
            norm_activation: false,
            channels: [channel; 3],
            ex: ConfigEx::from_regs(config, 0, 0),
            st: ConfigSt::from_regs(config, 0, 0),
            preload: None,
            open: None,
            rows: HashMap::new(),
        }
    }

    fn command(&mut self, command: &Command) -> Result<(), &'static str> {
        match command {
            Command::ConfigLd(config) => {
                self.counts.commands.load += 1;
                self.channels[usize::from(config.state_id.min(2))] = *config;
            }
            Command::ConfigEx(config) => {
                self.counts.commands.execute += 1;
                self.flushes();
                match config.set_only_strides {
                    true => self.ex = ConfigEx { a_stride: config.a_stride, c_stride: config.c_stride, ..self.ex },
                    false => self.ex = *config,
                }
            }
            Command::ConfigSt(config) => {
                self.counts.commands.store += 1;
                // Both kinds of configuration write the activation's register.
                self.norm_activation = false;
                self.st = *config;
            }
            Command::ConfigNorm(config) => {
                self.counts.commands.store += 1;
                if !config.set_stats_id_only {
                    self.norm_activation = config.act_msb;
                }
            }
            Command::Mvin(operands) => self.load(0, operands),
            Command::Mvin2(operands) => self.load(1, operands),
            Command::Mvin3(operands) => self.load(2, operands),
            Command::Mvout(operands) => self.store(operands),
            Command::Preload(preload) => self.preload(preload),
            Command::ComputePreloaded(compute) | Command::ComputeAccumulated(compute) => self.compute(compute),
            Command::Flush(_) => {}
            _ => return Err("this command"),
        }
        if let Some(Class::Execute) = command.to_rocc().class() {
            self.counts.mesh.macs += self.macs.issue(command.to_rocc());
        }
        Ok(())
    }

    fn dim(&self) -> u64 {
        u64::from(self.config.dim())
    }

    /// Traffic of a row, the same for all rows that lie alike.
    fn row(&mut self, address: u64, bytes: u64, row_bytes: Option<u64>) -> RowTraffic {
        let largest = u64::from(self.config.dma_maxbytes);
        let key = (address % largest, bytes, row_bytes.unwrap_or(0));
        let config = self.config;
        *self.rows.entry(key).or_insert_with(|| match row_bytes {
            Some(row_bytes) => read_row(config, key.0, bytes, row_bytes),
            None => write_row(config, key.0, bytes),
        })
    }

    fn load(&mut self, channel: usize, operands: &MoveOperands) {
        self.counts.commands.load += 1;
        let config = self.channels[channel];
        let (cols, rows) = (u64::from(operands.cols), u64::from(operands.rows));
        let is_acc = operands.local.is_acc();
        if operands.dram == 0 {
            let written: u64 = match is_acc {
                true => rows,
                false => (0..rows).map(|row| self.repeated(operands, &config, row, 1)).sum(),
            };
            self.written(operands, written * cols.div_ceil(self.dim()));
            return;
        }
        let wide = is_acc && !config.shrink;
        let element = if wide { self.config.acc_type.bytes() } else { self.config.input_type.bytes() };
        let row_bytes = if wide { self.config.acc_row_bytes() } else { self.config.sp_row_bytes() };
        // Without a stride one row is fetched and written to all rows.
        let (fetched, copies) = if config.stride == 0 { (1, rows) } else { (rows, 1) };
        let mut writes = 0;
        for row in 0..fetched {
            let address = operands.dram + row * config.stride;
            let traffic = self.row(address, cols * u64::from(element), Some(row_bytes.into()));
            self.counts.memory.reads += traffic.requests;
            self.counts.memory.read_beats += traffic.beats;
            self.counts.memory.read_bytes += traffic.bytes;
            writes += match is_acc {
                true => traffic.local_writes * copies,
                false => self.repeated(operands, &config, row, copies) * traffic.local_writes,
            };
        }
        self.written(operands, writes);
    }

    /// How often a scratchpad row is written: pixels that are repeated go to the rows before it, as far as they stay in its half
    /// of the memory (`PixelRepeater.scala`).
    fn repeated(&self, operands: &MoveOperands, config: &ConfigLd, row: u64, copies: u64) -> u64 {
        let repeats = u64::from(config.pixel_repeats.max(1));
        if repeats == 1 {
            return copies;
        }
        let half = u64::from(self.config.sp_rows()) / 2;
        let data = u64::from(operands.local.data(self.config.layout())) + row;
        let before = if data < half { data } else { data - half };
        copies * repeats.min(before + 1)
    }

    /// Rows written by the load side.
    fn written(&mut self, operands: &MoveOperands, rows: u64) {
        match (operands.local.is_acc(), operands.local.accumulate()) {
            (false, _) => self.counts.scratchpad.dma_writes += rows,
            (true, false) => self.counts.accumulator.dma_writes += rows,
            (true, true) => self.counts.accumulator.dma_accumulates += rows,
        }
    }

    fn store(&mut self, operands: &MoveOperands) {
        self.counts.commands.store += 1;
        let (cols, rows) = (u64::from(operands.cols), u64::from(operands.rows));
        let (is_acc, full) = (operands.local.is_acc(), operands.local.read_full());
        let element = if is_acc && full { self.config.acc_type.bytes() } else { self.config.input_type.bytes() };
        let (reads, pixels) = match self.st.pool_stride {
            0 => (rows * cols.div_ceil(self.dim()), None),
            _ => (self.pooled_reads(), Some(self.st)),
        };
        match is_acc {
            true => self.read_out(operands, reads, cols),
            false => self.counts.scratchpad.dma_reads += reads,
        }
        // Rows that only go into the statistics are not stored.
        if is_acc && self.config.has_normalizations && operands.local.norm_cmd() != NormCmd::Reset {
            return;
        }
        let stride = u64::from(self.st.stride);
        let places: Vec<u64> = match pixels {
            None => (0..rows).collect(),
            Some(st) => {
                let row = |row: u64| (0..u64::from(st.pocols)).map(move |col| row * u64::from(st.pool_out_dim) + col);
                (0..u64::from(st.porows)).flat_map(row).collect()
            }
        };
        for place in places {
            let traffic = self.row(operands.dram + place * stride, cols * u64::from(element), None);
            self.counts.memory.writes += traffic.requests;
            self.counts.memory.write_beats += traffic.beats;
            self.counts.memory.written_bytes += traffic.bytes;
        }
    }

    /// Accumulator rows that a pooled store reads: those of the windows that are inside the image.
    fn pooled_reads(&self) -> u64 {
        let st = &self.st;
        let inside = |outputs: u8, pad: u8, extent: u8| -> u64 {
            let windows = (0..u64::from(outputs))
                .flat_map(|o| (0..u64::from(st.pool_size)).map(move |w| o * u64::from(st.pool_stride) + w));
            windows.filter(|at| *at >= u64::from(pad) && at - u64::from(pad) < u64::from(extent)).count() as u64
        };
        inside(st.porows, st.upad, st.orows) * inside(st.pocols, st.lpad, st.ocols)
    }

    fn is_ws(&self) -> bool {
        self.ex.dataflow == DataflowMode::Ws
    }

    fn preload(&mut self, preload: &Preload) {
        self.counts.commands.execute += 1;
        let layout = self.config.layout();
        let real_d = !preload.d.is_garbage(layout);
        if real_d {
            let rows = if self.is_ws() && self.ex.b_transpose { preload.d_cols } else { preload.d_rows };
            self.counts.scratchpad.ex_reads += u64::from(rows);
        }
        if real_d {
            self.counts.mesh.preloads += 1;
            self.counts.mesh.preloaded += u64::from(preload.d_rows) * u64::from(preload.d_cols);
        }
        // Alone, or together with the compute before.
        let dim = self.dim();
        let alone = if real_d || !self.is_ws() { dim } else { LEAST_ROWS };
        match self.open.take() {
            Some(rows) => {
                let together = if real_d { dim } else { rows };
                self.pass([1, 2], [together, rows + alone]);
            }
            None => self.pass([1, 1], [alone; 2]),
        }
        self.preload = Some(*preload);
    }

    fn compute(&mut self, compute: &Compute) {
        self.counts.commands.execute += 1;
        let layout = self.config.layout();
        let a_rows = u64::from(if self.ex.a_transpose { compute.a_cols } else { compute.a_rows });
        if !compute.a.is_garbage(layout) {
            self.counts.scratchpad.ex_reads += a_rows;
        }
        if !compute.bd.is_garbage(layout) {
            self.counts.scratchpad.ex_reads += u64::from(compute.bd_rows);
        }
        if let Some(preload) = &self.preload
            && !preload.c.is_garbage(layout)
        {
            let rows = u64::from(preload.c_rows);
            match (preload.c.is_acc(), preload.c.accumulate()) {
                (true, true) => self.counts.accumulator.ex_accumulates += rows,
                (true, false) => self.counts.accumulator.ex_writes += rows,
                (false, _) => self.counts.scratchpad.ex_writes += rows,
            }
        }
        self.end_of_passes();
        if !self.is_ws() {
            self.flushes();
        }
        self.open = Some(if self.is_ws() { a_rows.max(LEAST_ROWS) } else { self.dim() });
    }

    /// A compute that no preload follows is a pass of its own.
    fn end_of_passes(&mut self) {
        if let Some(rows) = self.open.take() {
            self.pass([1, 1], [rows; 2]);
        }
    }

    /// Passes and their rows, at least and at most.
    fn pass(&mut self, [least, most]: [u64; 2], [least_rows, most_rows]: [u64; 2]) {
        self.counts.mesh.requests += least;
        self.counts.mesh.rows += least_rows;
        self.most_passes += most;
        self.most_rows += most_rows;
    }

    /// Results that nothing pushes out of the array are flushed out, by as many passes as it takes until the last of them has been
    /// written (`ExecuteController.scala`, state `flush`).
    fn flushes(&mut self) {
        let tiles = u64::from(self.config.mesh_rows + self.config.mesh_columns - 1);
        let latency = tiles * u64::from(self.config.tile_latency + 1) + u64::from(self.config.mesh_output_delay);
        let flushes = flush_passes(self.dim(), latency);
        self.pass([0, flushes], [0, flushes * self.dim()]);
    }

    /// Rows that leave the accumulator for a store: through the normalizer, and through the scale unit if they are not only for
    /// the statistics.
    fn read_out(&mut self, operands: &MoveOperands, rows: u64, cols: u64) {
        self.counts.accumulator.dma_reads += rows;
        let command = match self.config.has_normalizations {
            true => operands.local.norm_cmd(),
            false => NormCmd::Reset,
        };
        // The last block of a row ends a statistic, those before it only add to it (`StoreController.scala`).
        let last = rows / cols.div_ceil(self.dim()).max(1);
        for row in 0..rows {
            let command = if row < rows - last { command.non_reset_version() } else { command };
            self.counts.normalizer.add_row(command);
        }
        if command == NormCmd::Reset {
            let activation = self.activation();
            (0..rows).for_each(|_| self.counts.readout.add_row(activation));
        }
    }

    /// The activation of stores.
    fn activation(&self) -> Activation {
        let code = self.st.activation as u64 & 3 | u64::from(self.norm_activation) << 2;
        Activation::from_bits(code)
    }
}
