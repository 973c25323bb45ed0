//! Tests of the assembler, the disassembler and the binary format as their users see them.

mod binary;
mod book;
mod diagnostics;
mod examples;
mod language;
mod robustness;
mod roundtrip;
mod support;
