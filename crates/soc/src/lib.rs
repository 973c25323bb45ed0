//! The system around Gemmini: Rocket, its caches, the shared L2 and memory, cycle by cycle.
//!
//! | module | what it is |
//! |---|---|
//! | [`rocket`] | the core: pipeline, frontend, caches |
//! | [`tile`] | how its caches share a port |
//! | [`rocc`] | the way of commands |
//! | [`soc`] | core, L2, memory and Gemmini together |
//!
//! The L2 and the bus are in [`pollux_sim::uncore`], as command streams without a core use them, too.

pub mod rocc;
pub mod rocket;
pub mod soc;
pub mod tile;

pub use soc::{Ending, Soc, SocSetup};
