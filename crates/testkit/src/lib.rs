//! What tests of several crates share: a random generator, and random command streams that are legal and whose result does
//! not depend on time.
//!
//! A stream is built from [`Gene`]s, a few random words each; any words make a legal stream, and leaving out a gene or
//! making its words smaller makes a simpler one, so that a property test can shrink what it finds. A gene stands for one of
//! the operations in `operations`: loads and stores of all kinds, configurations in the middle of the stream, products in
//! both dataflows, unrolled loops, normalizations, convolutions, pooling.
//!
//! What the hardware does not keep in program order ([`hazards`]) is kept apart by fences: a model without
//! time then ends with the same memory as the hardware, whatever the latencies.

mod builder;
pub mod hazards;
mod loops;
mod moves;
mod normalize;
mod operations;
mod products;
mod random;
mod words;

use pollux_isa::{GemminiConfig, StreamItem};
use pollux_memory::Memory;

use builder::Builder;
pub use builder::{ARENA, ARENA_BYTES};
pub use random::Random;
use words::Words;
pub use words::{GENE_WORDS, Gene};

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
        operations::apply(&mut builder, &mut Words::new(gene));
    }
    builder.push_item(StreamItem::Fence);
    let mut memory = Memory::new();
    memory.write(ARENA, &Random::new(0).noise(ARENA_BYTES as usize));
    RandomProgram { items: builder.items, memory }
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
