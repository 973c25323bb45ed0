//! The functional model: executes a Gemmini command stream bit-exactly, with no notion of time.
//!
//! Each command takes effect completely before the next one. Where the hardware keeps dependences in order, memory ends up as
//! in the hardware, byte for byte. Read the modules in this order:
//!
//! * [`model`]: [`FunctionalModel`], the accelerator's state and the execution of one command;
//! * [`policy`]: what is undefined, and whether that is an error, a warning or ignored ([`Policy`], [`Diagnostic`], [`ExecError`]);
//! * [`unroll`]: LOOP_WS and LOOP_CONV_WS as sequences of primitive commands (usable without the model);
//! * [`local_memory`]: scratchpad and accumulator;
//! * `load_controller`, `execute_controller`, `store_controller`: what the three command classes do;
//! * [`accesses`]: which bytes of main memory commands touch, and whether they may ([`check_accesses`], [`CommandMonitor`]);
//! * [`counts`]: multiply-accumulates, bytes, commands and the normalizer's divisions.
//!
//! ```
//! use pollux_functional::FunctionalModel;
//! use pollux_isa::{RoccCommand, ValidConfig};
//! use pollux_memory::Memory;
//!
//! let mut memory = Memory::new();
//! memory.write(0x1000, &[7; 16]);
//! let mut model = FunctionalModel::new(ValidConfig::default(), memory);
//! // config_ld, config_st (stride 16 each, scale 1); one row in, the same row out
//! model.execute(&RoccCommand { funct: 0, rs1: 0x3f80_0000_0010_0101, rs2: 16 })?;
//! model.execute(&RoccCommand { funct: 0, rs1: 2, rs2: 0x3f80_0000_0000_0010 })?;
//! model.execute(&RoccCommand { funct: 2, rs1: 0x1000, rs2: 1 << 48 | 16 << 32 })?;
//! model.execute(&RoccCommand { funct: 3, rs1: 0x2000, rs2: 1 << 48 | 16 << 32 })?;
//! assert_eq!(model.memory().read_array(0x2000), [7; 16]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod accesses;
pub mod counts;
mod execute_controller;
mod load_controller;
pub mod local_memory;
mod machine;
pub mod model;
pub mod policy;
mod store_controller;
pub mod unroll;

pub use accesses::{AccessWalk, AccessWarnings, CommandMonitor, MemoryRows, check_accesses};
pub use counts::{CommandCounts, Counts, Divisions};
pub use local_memory::LocalMemory;
pub use model::{FunctionalModel, Writes};
pub use policy::{Access, Action, Diagnostic, ExecError, Issue, Place, Policy};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
