//! Random command streams that are legal and whose result does not depend on time.
//!
//! A stream is built from [`Gene`]s, a few random words each; any words make a legal stream, and leaving out a gene or
//! making its words smaller makes a simpler one, so that a property test can shrink what it finds. A gene stands for one of
//! the operations in `operations`: loads and stores of all kinds, configurations in the middle of the stream, products in
//! both dataflows, unrolled loops, normalizations, convolutions, pooling.
//!
//! What the hardware does not keep in program order ([`hazards`]) is kept apart by fences: a model without
//! time then ends with the same memory as the hardware, whatever the latencies.

pub mod hazards;
mod loops;
mod moves;
mod normalize;
mod operations;
mod products;

use pollux_isa::fields::{ConfigEx, ConfigLd};
use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr, StreamItem};
use pollux_memory::Memory;

use hazards::Hazards;

/// Words of a gene.
pub const GENE_WORDS: usize = 16;

/// The random words of one operation; the first one chooses which.
pub type Gene = [u32; GENE_WORDS];

/// First byte of the main memory that streams use.
pub const ARENA: u64 = 0x8000_0000;

/// Bytes of the main memory that streams use.
pub const ARENA_BYTES: u64 = 1 << 18;

/// The part of it that single loads and stores use, small so that they meet.
const MOVES_BYTES: u64 = 1 << 15;

/// A command stream and the memory it starts from.
#[derive(Clone, Debug)]
pub struct RandomProgram {
    /// The stream.
    pub items: Vec<StreamItem>,
    /// Initial memory: [`ARENA_BYTES`] random bytes at [`ARENA`].
    pub memory: Memory,
}

/// The stream that genes stand for, in a configuration. A `dense` one uses few places of the local memories and only the
/// operations that go on side by side.
pub fn program(config: &GemminiConfig, dense: bool, genes: &[Gene]) -> RandomProgram {
    let mut builder = Builder::new(config, dense);
    builder.configure_all();
    for gene in genes {
        operations::apply(&mut builder, &mut Words(gene.iter()));
    }
    builder.push_item(StreamItem::Fence);
    let mut memory = Memory::new();
    memory.write(ARENA, &noise(0, ARENA_BYTES as usize));
    RandomProgram { items: builder.items, memory }
}

/// Reproducible bytes (xorshift64*), mostly small so that sums do not always saturate.
fn noise(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed) ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    };
    (0..bytes).map(|_| if next() % 4 == 0 { next() as u8 } else { (next() % 16) as u8 }).collect()
}

/// The words of a gene that are left; 0 when they are used up.
pub(crate) struct Words<'a>(std::slice::Iter<'a, u32>);

impl Words<'_> {
    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0.next().copied().unwrap_or(0) % n.max(1)
    }

    /// A number in `1..=n`; 1 for the word 0.
    pub fn up_to(&mut self, n: u32) -> u32 {
        1 + self.below(n)
    }

    /// True for one word in `n`, never for the word 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    /// One of the values; the first for the word 0.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}

/// Scale factors as float32 bits: 1, 1/2, 1/16, -3/4, 2, and one that rounds.
const SCALES: [u32; 6] = [0x3f80_0000, 0x3f00_0000, 0x3d80_0000, 0xbf40_0000, 0x4000_0000, 0x3e2a_aaab];

/// Builds a stream: knows what is configured and what may still be under way.
pub(crate) struct Builder<'a> {
    config: &'a GemminiConfig,
    dense: bool,
    layout: AddressLayout,
    dim: u32,
    items: Vec<StreamItem>,
    hazards: Hazards,
    /// The three load channels.
    load: [ConfigLd; 3],
    execute: ConfigEx,
    /// Bytes between rows of a store.
    store_stride: u32,
    /// OS: the result in the array has the garbage address and stays there.
    result_inside: bool,
    /// A product may reuse the array's weights or sums (COMPUTE_ACCUMULATED).
    may_accumulate: bool,
}

impl<'a> Builder<'a> {
    fn new(config: &'a GemminiConfig, dense: bool) -> Self {
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
    fn configure_all(&mut self) {
        let dim = u64::from(self.dim);
        for channel in 0..3 {
            self.config_ld(channel, &[("block_stride", dim), ("stride", 4 * dim)]);
        }
        self.config_ex(&[("dataflow", 1)]);
        self.config_st(&[("stride", 4 * dim)]);
    }

    fn weight_stationary(&self) -> bool {
        self.execute.dataflow == DataflowMode::Ws
    }

    fn push_item(&mut self, item: StreamItem) {
        self.items.push(item);
    }

    /// Appends a command.
    fn push(&mut self, mnemonic: &str, operands: &[(&str, u64)]) {
        let command = Command::from_operands(self.config, mnemonic, operands);
        let command = command.unwrap_or_else(|error| panic!("the generator makes legal operands: {error}"));
        let encoded = command.encode(self.config).unwrap_or_else(|error| panic!("an encodable command: {error}"));
        self.items.push(StreamItem::Command(encoded));
    }

    /// Waits until everything is done.
    fn fence(&mut self) {
        if self.items.last() != Some(&StreamItem::Fence) {
            self.items.push(StreamItem::Fence);
        }
        self.hazards.clear();
    }

    fn config_ld(&mut self, channel: usize, operands: &[(&str, u64)]) {
        let operands: Vec<_> = operands.iter().copied().chain([("state_id", channel as u64)]).collect();
        self.push("config_ld", &operands);
        if let Some(Command::ConfigLd(f)) = self.last() {
            self.load[channel] = f;
        }
    }

    fn config_ex(&mut self, operands: &[(&str, u64)]) {
        self.push("config_ex", operands);
        if let Some(Command::ConfigEx(f)) = self.last() {
            self.execute = f;
        }
        self.may_accumulate = false;
    }

    fn config_st(&mut self, operands: &[(&str, u64)]) {
        self.push("config_st", operands);
        if let Some(Command::ConfigSt(f)) = self.last() {
            self.store_stride = f.stride;
        }
    }

    /// The last command, as the hardware sees it.
    fn last(&self) -> Option<Command> {
        self.items.last().and_then(StreamItem::command).and_then(|cmd| Command::from_rocc(self.config, *cmd))
    }

    /// A row where a tile of `rows` rows begins: one of a few places, so that operations meet, in any bank.
    fn place(&self, words: &mut Words<'_>, rows: u32, memory_rows: u32) -> u32 {
        let places = if self.dense { 5 } else { 12 };
        let (place, offset) = (words.below(places), words.below(3 * self.dim));
        let offset = offset.saturating_sub(2 * self.dim);
        (place * (memory_rows / places) + offset).min(memory_rows - rows)
    }

    fn scratchpad_place(&self, words: &mut Words<'_>, rows: u32) -> LocalAddr {
        LocalAddr::scratchpad(self.place(words, rows, self.layout.sp_rows))
    }

    fn accumulator_place(&self, words: &mut Words<'_>, rows: u32) -> LocalAddr {
        LocalAddr::accumulator(self.place(words, rows, self.layout.acc_rows))
    }

    /// An address for a single load or store of so many bytes, a multiple of `align`; none if there is no room.
    fn move_place(&self, words: &mut Words<'_>, bytes: u64, align: u64) -> Option<u64> {
        self.dram_place(words, bytes, align, MOVES_BYTES)
    }

    /// The same for an operand of a loop.
    fn loop_place(&self, words: &mut Words<'_>, bytes: u64, align: u64) -> Option<u64> {
        self.dram_place(words, bytes, align, ARENA_BYTES)
    }

    fn dram_place(&self, words: &mut Words<'_>, bytes: u64, align: u64, arena: u64) -> Option<u64> {
        let room = arena.checked_sub(bytes)? / align;
        let coarse = u64::from(words.below(64)) * (room / 64);
        let fine = u64::from(words.below(256)).saturating_sub(192);
        Some(ARENA + (coarse + fine).min(room) * align)
    }
}

#[cfg(test)]
mod tests {
    use pollux_isa::legality::check_program;

    use super::*;

    #[test]
    fn programs_are_legal_in_a_build_without_scalers_of_loads() {
        let config = GemminiConfig { mvin_scale_args: None, mvin_scale_acc_args: None, ..GemminiConfig::norm16() };
        // Genes of a multiplicative congruential generator (Park and Miller).
        let genes = |seed: u64| {
            let mut state = seed;
            std::iter::repeat_with(move || {
                std::array::from_fn(|_| {
                    state = state * 48_271 % 0x7fff_ffff;
                    state as u32
                })
            })
        };
        for seed in 1..100 {
            let genes: Vec<Gene> = genes(seed).take(12).collect();
            let items = program(&config, seed % 2 == 0, &genes).items;
            assert!(items.len() > 12);
            assert_eq!(check_program(&config, &items), [], "seed {seed}");
        }
    }
}
