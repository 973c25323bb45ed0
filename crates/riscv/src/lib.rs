//! The core that runs Gemmini's programs: RV64IMAFDC in machine mode, executed exactly.
//!
//! Read the modules in this order:
//!
//! * [`table`]: every instruction with its bits, its format and its class; decoder and disassembler are derived from it;
//! * `format`: where operands are in the word;
//! * [`instruction`]: a decoded instruction ([`Instruction`]), its registers and its text;
//! * [`bus`]: what a core is connected to ([`Bus`]): memory, the accelerator's command port, time;
//! * [`hart`]: the architectural state ([`Hart`]), and what a step did ([`Retired`]);
//! * `execute`, `float`, [`csr`], [`trap`]: what instructions do;
//! * `code`: decoded instructions, page by page.
//!
//! There is no time here: a timing model follows instruction by instruction what [`Hart::step`] says.

pub mod bus;
mod code;
pub mod csr;
mod execute;
mod float;
mod format;
pub mod hart;
pub mod instruction;
pub mod table;
pub mod trap;

pub use bus::{AccessFault, Bus, NoAccelerator};
pub use hart::{Hart, MemoryAccess, Misaligned, Retired, Rocc};
pub use instruction::{Instruction, Register, Registers};
pub use table::{Class, Op};
pub use trap::{Cause, Trap};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
