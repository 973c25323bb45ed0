//! The stream under construction.

use pollux_isa::config::Dataflow;
use pollux_isa::fields::{ConfigEx, ConfigLd};
use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr, StreamItem};

use crate::hazards::Hazards;
use crate::words::Words;

/// First byte of the main memory that streams use.
pub const ARENA: u64 = 0x8000_0000;

/// Bytes of the main memory that streams use.
pub const ARENA_BYTES: u64 = 1 << 18;

/// The part of it that single loads and stores use, small so that they meet.
const MOVES_BYTES: u64 = 1 << 15;

/// Scale factors as float32 bits: 1, 1/2, 1/16, -3/4, 2, and one that rounds.
const SCALES: [u32; 6] = [0x3f80_0000, 0x3f00_0000, 0x3d80_0000, 0xbf40_0000, 0x4000_0000, 0x3e2a_aaab];

/// A scale factor of a load; without a scaler its field has one bit that means nothing.
pub fn load_scale(builder: &Builder<'_>, words: &mut Words<'_>) -> u64 {
    scale(words) & (u64::MAX >> (64 - builder.config.mvin_scale_bits()))
}

/// A scale factor as float32 bits.
pub fn scale(words: &mut Words<'_>) -> u64 {
    words.pick(&SCALES).into()
}

/// Builds a stream: knows what is configured and what may still be under way.
pub struct Builder<'a> {
    pub config: &'a GemminiConfig,
    pub dense: bool,
    pub layout: AddressLayout,
    pub dim: u32,
    pub items: Vec<StreamItem>,
    pub hazards: Hazards,
    /// The three load channels.
    pub load: [ConfigLd; 3],
    pub execute: ConfigEx,
    /// Bytes between rows of a store.
    pub store_stride: u32,
    /// OS: the result in the array has the garbage address and stays there.
    pub result_inside: bool,
    /// A product may reuse the array's weights or sums (COMPUTE_ACCUMULATED).
    pub may_accumulate: bool,
}

impl<'a> Builder<'a> {
    pub fn new(config: &'a GemminiConfig, dense: bool) -> Self {
        let load = ConfigLd::from_regs(config, 0, 0);
        Self {
            config,
            dense,
            layout: config.layout(),
            dim: config.dim(),
            items: Vec::new(),
            hazards: Hazards::new(config),
            load: [load; 3],
            execute: ConfigEx::from_regs(config, 0, 0),
            store_stride: 0,
            result_inside: false,
            may_accumulate: false,
        }
    }

    /// The configuration that every stream begins with.
    pub fn configure_all(&mut self) {
        let dim = u64::from(self.dim);
        for channel in 0..3 {
            self.config_ld(channel, &[("block_stride", dim), ("stride", 4 * dim)]);
        }
        self.config_ex(&[("dataflow", u64::from(self.config.dataflow != Dataflow::Os))]);
        self.config_st(&[("stride", 4 * dim)]);
    }

    /// A build with one dataflow has no register for it.
    pub fn weight_stationary(&self) -> bool {
        match self.config.dataflow {
            Dataflow::Both => self.execute.dataflow == DataflowMode::Ws,
            built => built == Dataflow::Ws,
        }
    }

    pub fn push_item(&mut self, item: StreamItem) {
        self.items.push(item);
    }

    /// Appends a command.
    pub fn push(&mut self, mnemonic: &str, operands: &[(&str, u64)]) {
        let command = Command::from_operands(self.config, mnemonic, operands);
        let command = command.unwrap_or_else(|error| panic!("the generator makes legal operands: {error}"));
        let encoded = command.encode(self.config).unwrap_or_else(|error| panic!("an encodable command: {error}"));
        self.items.push(StreamItem::Command(encoded));
    }

    /// Waits until everything is done.
    pub fn fence(&mut self) {
        if self.items.last() != Some(&StreamItem::Fence) {
            self.items.push(StreamItem::Fence);
        }
        self.hazards.clear();
    }

    pub fn config_ld(&mut self, channel: usize, operands: &[(&str, u64)]) {
        let operands: Vec<_> = operands.iter().copied().chain([("state_id", channel as u64)]).collect();
        self.push("config_ld", &operands);
        if let Some(Command::ConfigLd(f)) = self.last() {
            self.load[channel] = f;
        }
    }

    pub fn config_ex(&mut self, operands: &[(&str, u64)]) {
        self.push("config_ex", operands);
        if let Some(Command::ConfigEx(f)) = self.last() {
            self.execute = f;
        }
        self.may_accumulate = false;
    }

    pub fn config_st(&mut self, operands: &[(&str, u64)]) {
        self.push("config_st", operands);
        if let Some(Command::ConfigSt(f)) = self.last() {
            self.store_stride = f.stride;
        }
    }

    /// Columns of a transfer of `rows` rows, at most `cols`, whose blocks end within the memory.
    pub fn fitting_cols(&self, cols: u32, rows: u32, block_stride: u32, is_acc: bool) -> u32 {
        let memory_rows = if is_acc { self.layout.acc_rows } else { self.layout.sp_rows };
        let blocks = (memory_rows - rows) / block_stride.max(1) + 1;
        cols.min(blocks * self.dim)
    }

    /// Whether a build has the units for normalizations and stores their results.
    pub fn normalizes(&self) -> bool {
        let config = self.config;
        config.has_normalizations && config.has_nonlinear_activations && config.acc_read_small_width
    }

    /// The activation, or none in a build without.
    pub fn activation(&self, code: u64) -> u64 {
        if self.config.has_nonlinear_activations { code } else { 0 }
    }

    /// The last command, as the hardware sees it.
    pub fn last(&self) -> Option<Command> {
        self.items.last().and_then(StreamItem::command).and_then(|cmd| Command::from_rocc(self.config, *cmd))
    }

    /// A row where a tile of `rows` rows begins: one of a few places, so that operations meet, in any bank.
    pub fn place(&self, words: &mut Words<'_>, rows: u32, memory_rows: u32) -> u32 {
        let places = if self.dense { 5 } else { 12 };
        let (place, offset) = (words.below(places), words.below(3 * self.dim));
        let offset = offset.saturating_sub(2 * self.dim);
        (place * (memory_rows / places) + offset).min(memory_rows - rows)
    }

    pub fn scratchpad_place(&self, words: &mut Words<'_>, rows: u32) -> LocalAddr {
        LocalAddr::scratchpad(self.place(words, rows, self.layout.sp_rows))
    }

    pub fn accumulator_place(&self, words: &mut Words<'_>, rows: u32) -> LocalAddr {
        LocalAddr::accumulator(self.place(words, rows, self.layout.acc_rows))
    }

    /// An address for a single load or store of so many bytes, a multiple of `align`; none if there is no room.
    pub fn move_place(&self, words: &mut Words<'_>, bytes: u64, align: u64) -> Option<u64> {
        self.dram_place(words, bytes, align, MOVES_BYTES)
    }

    /// The same for an operand of a loop.
    pub fn loop_place(&self, words: &mut Words<'_>, bytes: u64, align: u64) -> Option<u64> {
        self.dram_place(words, bytes, align, ARENA_BYTES)
    }

    pub fn dram_place(&self, words: &mut Words<'_>, bytes: u64, align: u64, arena: u64) -> Option<u64> {
        let room = arena.checked_sub(bytes)? / align;
        let coarse = u64::from(words.below(64)) * (room / 64);
        let fine = u64::from(words.below(256)).saturating_sub(192);
        Some(ARENA + (coarse + fine).min(room) * align)
    }
}
