//! The instruction set of UC Berkeley's Gemmini accelerator: its configuration record, its local addresses and its
//! commands, encoded and decoded bit for bit.
//!
//! Read the modules in this order:
//!
//! * [`config`]: every parameter of the generator ([`GemminiConfig`]) and the widths derived from it;
//! * [`local_addr`]: the 32-bit address of a scratchpad or accumulator row ([`LocalAddr`]);
//! * [`layout`]: commands of older revisions as those of this one;
//! * [`rocc`]: a command as the core sends it ([`RoccCommand`]) and the RV64 instruction word around it;
//! * [`values`]: the types of single fields (activation, scale, normalization command, ...);
//! * [`fields`]: the operand formats. `from_regs` takes exactly the bits that the hardware keeps;
//! * [`command`]: the typed commands ([`Command`]), strictly decoded, encoded, and built from named operands;
//! * [`table`]: the same instructions as data, for the assembler, the help text and the manual;
//! * [`legality`]: which command streams the hardware does not define, and what it does with them;
//! * `testkit` (feature of that name): any valid configuration, for property tests;
//! * [`manual`]: the chapter of the manual; [`c_header`]: the instructions as C functions.
//!
//! The source of every fact is Gemmini's Chisel description at commit 8c3f992; each item names its file.

pub mod c_header;
pub mod command;
pub mod config;
pub mod fields;
pub mod layout;
pub mod legality;
pub mod local_addr;
pub mod manual;
pub mod rocc;
pub mod stream;
pub mod table;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod values;

pub use command::{Command, DecodeError, EncodeError, OperandError, funct};
pub use config::{ConfigError, GemminiConfig, ValidConfig};
pub use layout::LayoutTranslator;
pub use local_addr::{AddressLayout, LocalAddr};
pub use rocc::{RoccCommand, RoccInstruction};
pub use stream::StreamItem;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
