//! The system around Gemmini: Rocket, its caches, the shared L2 and memory, cycle by cycle.
//!
//! | module | what it is |
//! |---|---|
//! | [`rocket`] | the core: pipeline, frontend, caches |
//! | [`tile`] | how its caches share a port |
//! | [`rocc`] | the way of commands |
//! | `board` | what else the core is connected to: memory's bytes, the way of commands, the host |
//! | [`soc`] | core, L2, memory and Gemmini together |
//! | [`ending`], `standing` | why a run ended, and where everything stands then, as text |
//!
//! The L2 and the bus are in [`pollux_sim::uncore`], as command streams without a core use them, too.

mod board;
pub mod ending;
pub mod rocc;
pub mod rocket;
pub mod soc;
mod standing;
pub mod tile;

pub use ending::Ending;
pub use soc::{LeftPipeline, Soc, SocSetup};
