//! Programs as text and as bytes: the assembler, the disassembler and the binary format.
pub mod assembler;
mod ast;
pub mod binary;
mod data;
pub mod diagnostic;
pub mod disassembler;
mod expression;
mod file;
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
pub use disassembler::disassemble;
pub use file::write_atomically;
pub use import::import_commands;
pub use program::{Buffer, ElementType, LocalRegion, Program, ProgramError};
pub use source::{Disk, Files};
