//! Rocket: the in-order core that runs the program, with its caches (rocket-chip, commit d113a00b2, `src/main/scala/rocket` and `tile`;
//! file and line numbers in the comments are of that commit).

pub mod btb;
pub mod core;
pub mod dcache;
pub mod decode;
pub mod environment;
pub mod fpu;
pub mod frontend;
pub mod ibuf;
pub mod icache;
pub mod lfsr;
pub mod mul_div;

pub use self::core::{CoreCounters, Rocket, Unhandled};
