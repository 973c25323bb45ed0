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
//! * `code`: decoded instructions, page by page;
//! * [`listing`] and [`log`]: a program file as text, and what a core did, in the forms of riscv-isa-sim;
//! * [`elf`]: program files; [`htif`]: the host's side; [`ram`]: the way to main memory;
//! * [`machine`]: a core with memory, Gemmini's functional model and host, running a program without time ([`Machine`]), on
//!   a [`board`], with its command [`port`]; `counters`: Gemmini's counters there; `evidence`: what commands say about the array that a program is for; `recording`: its command stream as a program.
//!
//! The core itself has no time: a timing model follows instruction by instruction what [`Hart::step`] says.

pub mod board;
pub mod bus;
mod code;
mod counters;
pub mod csr;
pub mod elf;
mod evidence;
mod execute;
mod float;
mod format;
pub mod hart;
pub mod htif;
pub mod instruction;
pub mod listing;
pub mod log;
pub mod machine;
pub mod port;
pub mod ram;
mod recording;
pub mod table;
pub mod trap;

pub use board::{Board, DEFAULT_RAM};
pub use bus::{AccessFault, Bus, NoAccelerator};
pub use elf::{Elf, ElfError, HostWords, Symbols};
pub use hart::{Hart, MemoryAccess, Misaligned, Retired, Rocc};
pub use htif::{HostError, Htif};
pub use instruction::{Instruction, Register, Registers};
pub use machine::{Machine, Setup, Stop, trap_text, unhandled_text};
pub use port::{BoardError, CommandPort};
pub use ram::RamPort;
pub use table::{Class, Op};
pub use trap::{Cause, Trap};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
