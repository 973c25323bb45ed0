//! The cycle-level emulator: every block of Gemmini as registers and queues, clocked together.
//!
//! One file and one struct a hardware block, with the hardware's own name, in rings in the order in which commands and
//! data flow:
//!
//! | ring | what it holds |
//! |---|---|
//! | `front_end` | command queues, loop unrollers, reservation station, counters |
//! | `execute` | execute controller, transposer, mesh |
//! | `memories` | scratchpad and accumulator banks, scale and normalization units |
//! | `dma` | load and store controller, paths between memories and port, the two DMA engines |
//! | `port` | TileLink and translation |
//! | `parts` | queues, pipelines, rows, wires: what several blocks are made of |
//! | `observation` | events and reports |
//! | `acceleration` | the fast path over the same blocks |
//! | `replay` | what was simulated before is taken from a table |
//! | [`uncore`] | what stands behind the port in a Chipyard system: system bus, L2, memory |
//!
//! [`machine`] wires them in one place; [`runner`] runs a program on it, [`simulation`] a machine with its
//! [`host`] and its [`memory`].

mod front_end;
mod execute;
mod memories;
mod dma;
mod port;
mod parts;
mod observation;
mod acceleration;
pub mod replay;

pub mod clocked;
pub mod host;
mod lineage;
pub mod machine;
pub mod memory;
pub mod runner;
pub mod simulation;
pub mod uncore;

pub use execute::mesh::mesh_latency;
pub use execute::mesh_pe;
pub use observation::{observer, report, view, violation};
pub use parts::values;

/// How often each part was used in a run, exactly: what energy is reckoned from, and what a schedule can be priced by beforehand.
pub mod counts {
    pub use crate::observation::counting::{CountingObserver, mark_names};
    pub use crate::observation::counts::*;
    pub use crate::observation::observer::CountedOperation;
}
