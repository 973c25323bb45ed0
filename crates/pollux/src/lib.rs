//! The software twin of UC Berkeley's Gemmini accelerator, behind one front door.
//!
//! ```
//! use pollux::{Config, Program};
//!
//! let config = Config::default(); // or pollux::config("norm16")?, or one of your own
//! let (a, b) = ([1, 2, 3, 4, 5, 6], [1, 0, 0, 1, 1, 1]);
//! let program = Program::matmul(&config, [2, 3, 2], &a, &b)?; // or from_text, from_file, from_bytes
//! let outcome = program.run().memory("bench:latency=40".parse()?).cycles()?;
//! println!("{} cycles", outcome.cycles());
//! assert_eq!(outcome.tensor("C")?.values, [4, 5, 10, 11]);
//! # Ok::<(), pollux::Error>(())
//! ```
//!
//! * [`Program`]: commands, the configuration they are for, and the buffers in main memory;
//! * [`Run`]: how it runs, clock by clock ([`Run::cycles`], exactly as Gemmini's RTL; [`Run::without_values`] if only the cycles
//!   are wanted) or by its meaning alone ([`Run::functional`]); behind which [`MemoryModel`], with which limit, and who observes or watches it;
//! * [`Outcome`]: cycles, main memory, local memories, and tensors by their names ([`Tensor`]);
//! * [`check`] and [`compare`]: what is wrong with a program before it runs, and with its results after;
//! * [`Error`]: everything that can go wrong, each with the place and the remedy.
//!
//! The crates behind it are there under their own names: [`isa`], [`asm`], [`kernels`], [`functional`], [`sim`], [`memory`];
//! [`session`] stops a run at any cycle, steps back, and looks inside.

mod check;
mod compare;
mod error;
mod program;
mod run;
mod tensor;

pub use check::check;
pub use compare::{Comparison, Mismatch, compare};
pub use error::Error;
pub use program::Program;
pub use run::{FunctionalOutcome, Outcome, Run, RunValues};
pub use tensor::Tensor;

pub use pollux_functional::Action;
pub use pollux_isa::ValidConfig as Config;
pub use pollux_sim::memory::MemoryModel;
pub use pollux_sim::observer::{Cycle, Event, Observer};

pub use pollux_asm as asm;
pub use pollux_functional as functional;
pub use pollux_isa as isa;
pub use pollux_kernels as kernels;
pub use pollux_memory as memory;
pub use pollux_session as session;
pub use pollux_sim as sim;

/// The configuration of this name: one of [`isa::GemminiConfig::NAMES`], or `dimN`.
///
/// # Errors
/// There is none of that name.
pub fn config(name: &str) -> Result<Config, Error> {
    Ok(isa::GemminiConfig::by_name(name)?)
}
