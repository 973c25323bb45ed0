//! Programs for the accelerator, as text and as bytes.
//!
//! * [`program`]: a command stream with the configuration and the memory that it needs ([`Program`]);
//! * [`assembler`]: from text to a program ([`assemble`], [`assemble_file`]); the language is described in the book;
//! * [`diagnostic`]: what is wrong with a text, with its places;
//! * [`disassembler`]: from a program to text that assembles to the same program ([`disassemble`]);
//! * [`binary`]: the versioned file format ([`binary::read`], [`binary::write`]);
//! * [`import`]: plain lists of commands.
//!
//! The assembler itself, in the order of its work: `token`, `parser` (to the tree of `ast`), then `assembler` executes
//! the statements with `expression`, `data` and `instruction`. Mnemonics and operands are those of
//! [`pollux_isa::table`]; nothing here repeats them.

pub mod assembler;
mod ast;
pub mod binary;
mod data;
pub mod diagnostic;
pub mod disassembler;
mod expression;
#[doc(hidden)]
pub mod fuzz;
pub mod import;
mod instruction;
pub mod npy;
mod parser;
pub mod program;
pub mod source;
mod suggest;
mod token;
mod value;

pub use assembler::{Assembler, Limits, assemble, assemble_file};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use disassembler::{Disassembler, disassemble};
pub use expression::reference_markdown;
pub use import::import_commands;
pub use program::{Buffer, ElementType, LocalRegion, Program, ProgramError};
pub use source::{Disk, Files, NotText, text};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
