//! The software twin of UC Berkeley's Gemmini accelerator: one front door to the crates behind it.

pub use pollux_asm as asm;
pub use pollux_functional as functional;
pub use pollux_isa as isa;
pub use pollux_kernels as kernels;
pub use pollux_memory as memory;
pub use pollux_sim as sim;
