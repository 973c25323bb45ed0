//! The local memories: banks, and the units between them and the DMA.

pub mod accumulator_mem;
pub mod accumulator_scale;
pub mod normalizer;
pub mod scale_units;
pub mod scratchpad;
pub mod scratchpad_bank;
pub mod vector_scalar_multiplier;
