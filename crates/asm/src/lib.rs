//! Programs as text and as bytes: the assembler, the disassembler and the binary format.

pub mod program;

pub use program::{Buffer, ElementType, LocalRegion, Program};
