//! Counts of a program from its commands: the loops are unrolled as the hardware does it, nothing is simulated.

use std::collections::HashMap;

use pollux_asm::Program;
use pollux_functional::unroll::{Accepted, Unroller};
use pollux_isa::fields::{Compute, ConfigEx, ConfigLd, ConfigSt, MoveOperands, Preload};
use pollux_isa::values::{DataflowMode, NormCmd};
use pollux_isa::{Command, StreamItem, ValidConfig};
use thiserror::Error;

use super::requests::{RowTraffic, read_row, write_row};
use super::{Bounds, Counts};

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
pub fn of_program(program: &Program) -> Result<Counts, CountError> {
    let mut counter = Counter::new(&program.config);
    let mut unroller = Unroller::new(&program.config);
    let commands = program.items.iter().filter_map(|item| match item {
        StreamItem::Command(command) => Some(command),
        _ => None,
    });
    for (index, rocc) in commands.enumerate() {
        let unknown = |what| CountError::Unknown { index, what };
        counter.counts.host_commands += 1;
        let command = Command::from_rocc(&program.config, *rocc).ok_or(unknown("an unknown function"))?;
        match unroller.accept(&command) {
            Accepted::Configured => {}
            Accepted::PassedThrough => counter.command(&command).map_err(unknown)?,
            Accepted::NeverCompletes => return Err(unknown("a loop that never completes")),
            Accepted::Loop(commands) => {
                for unrolled in commands {
                    counter.command(&unrolled.command).map_err(unknown)?;
                }
            }
        }
    }
    counter.end_of_passes();
    Ok(counter.counts)
}

/// Least and most rows that a pass takes.
const LEAST_ROWS: u64 = 4;

struct Counter<'a> {
    config: &'a ValidConfig,
    counts: Counts,
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
            counts: Counts::default(),
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
                self.counts.load_commands += 1;
                self.channels[usize::from(config.state_id.min(2))] = *config;
            }
            Command::ConfigEx(config) => {
                self.counts.execute_commands += 1;
                match config.set_only_strides {
                    true => self.ex = ConfigEx { a_stride: config.a_stride, c_stride: config.c_stride, ..self.ex },
                    false => self.ex = *config,
                }
            }
            Command::ConfigSt(config) => {
                self.counts.store_commands += 1;
                self.st = *config;
            }
            Command::ConfigNorm(_) => self.counts.store_commands += 1,
            Command::Mvin(operands) => self.load(0, operands),
            Command::Mvin2(operands) => self.load(1, operands),
            Command::Mvin3(operands) => self.load(2, operands),
            Command::Mvout(operands) => self.store(operands),
            Command::Preload(preload) => self.preload(preload),
            Command::ComputePreloaded(compute) | Command::ComputeAccumulated(compute) => self.compute(compute),
            Command::Flush(_) => {}
            _ => return Err("this command"),
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
        self.counts.load_commands += 1;
        let config = self.channels[channel];
        let (cols, rows) = (u64::from(operands.cols), u64::from(operands.rows));
        let is_acc = operands.local.is_acc();
        if operands.dram == 0 {
            self.written(operands, rows * cols.div_ceil(self.dim()));
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
            self.counts.read_requests += traffic.requests;
            self.counts.read_beats += traffic.beats;
            self.counts.read_bytes += traffic.bytes;
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
            (false, _) => self.counts.scratchpad_writes += rows,
            (true, false) => self.counts.accumulator_writes += rows,
            (true, true) => self.counts.accumulating_writes += rows,
        }
    }

    fn store(&mut self, operands: &MoveOperands) {
        self.counts.store_commands += 1;
        let (cols, rows) = (u64::from(operands.cols), u64::from(operands.rows));
        let (is_acc, full) = (operands.local.is_acc(), operands.local.read_full());
        let element = if is_acc && full { self.config.acc_type.bytes() } else { self.config.input_type.bytes() };
        let (reads, pixels) = match self.st.pool_stride {
            0 => (rows * cols.div_ceil(self.dim()), None),
            _ => (self.pooled_reads(), Some(self.st)),
        };
        match is_acc {
            true => self.counts.accumulator_reads += reads,
            false => self.counts.scratchpad_reads += reads,
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
            self.counts.write_requests += traffic.requests;
            self.counts.write_beats += traffic.beats;
            self.counts.written_bytes += traffic.bytes;
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
        self.counts.execute_commands += 1;
        let layout = self.config.layout();
        let real_d = !preload.d.is_garbage(layout);
        if real_d {
            let rows = if self.is_ws() && self.ex.b_transpose { preload.d_cols } else { preload.d_rows };
            self.counts.scratchpad_reads += u64::from(rows);
        }
        // Alone, or together with the compute before.
        let alone = if real_d || !self.is_ws() { self.dim() } else { LEAST_ROWS };
        let passes = &mut self.counts.passes;
        let mesh_rows = &mut self.counts.mesh_rows;
        match self.open.take() {
            Some(rows) => {
                passes.least += 1;
                passes.most += 2;
                mesh_rows.least += if real_d { self.config.dim().into() } else { rows };
                mesh_rows.most += rows + alone;
            }
            None => {
                passes.add(1);
                mesh_rows.add(alone);
            }
        }
        self.preload = Some(*preload);
    }

    fn compute(&mut self, compute: &Compute) {
        self.counts.execute_commands += 1;
        let layout = self.config.layout();
        let a_rows = u64::from(if self.ex.a_transpose { compute.a_cols } else { compute.a_rows });
        if !compute.a.is_garbage(layout) {
            self.counts.scratchpad_reads += a_rows;
        }
        if !compute.bd.is_garbage(layout) {
            self.counts.scratchpad_reads += u64::from(compute.bd_rows);
        }
        if let Some(preload) = &self.preload
            && !preload.c.is_garbage(layout)
        {
            let rows = u64::from(preload.c_rows);
            match (preload.c.is_acc(), preload.c.accumulate()) {
                (true, true) => self.counts.accumulating_writes += rows,
                (true, false) => self.counts.accumulator_writes += rows,
                (false, _) => self.counts.scratchpad_writes += rows,
            }
        }
        self.end_of_passes();
        self.open = Some(if self.is_ws() { a_rows.max(LEAST_ROWS) } else { self.dim() });
    }

    /// A compute that no preload follows is a pass of its own.
    fn end_of_passes(&mut self) {
        if let Some(rows) = self.open.take() {
            self.counts.passes.add(1);
            self.counts.mesh_rows.add(rows);
        }
    }
}

impl Bounds {
    /// A number that is exact.
    pub fn exactly(n: u64) -> Self {
        Self { least: n, most: n }
    }
}
