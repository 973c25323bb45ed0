//! A program file as text: its instructions with their addresses, those for Gemmini by its own names.

use std::fmt::Write as _;

use pollux_isa::RoccInstruction;
use pollux_isa::config::Opcode;
use pollux_isa::table::INSTRUCTIONS;

use crate::elf::{Elf, Section};
use crate::instruction::{Instruction, X_NAMES, is_full};

/// Gemmini's instruction in the word, if it is one: mnemonic and the registers that hold the operands. Their values are
/// known only when the program runs; so is which of the four configurations a `config` is.
pub fn gemmini_text(instruction: RoccInstruction) -> Option<String> {
    let spec = INSTRUCTIONS.iter().find(|spec| spec.funct == instruction.funct)?;
    let name = if spec.subtype.is_some() { "config" } else { spec.mnemonic };
    let x = |number: u8| X_NAMES[usize::from(number & 31)];
    let mut text = format!("gemmini.{name}");
    let mut operand = |used: bool, name: &str, number: u8| {
        if used {
            // Writing to a string does not fail.
            let _ = write!(text, " {name}={}", x(number));
        }
    };
    operand(instruction.xd, "rd", instruction.rd);
    operand(instruction.xs1, "rs1", instruction.rs1);
    operand(instruction.xs2, "rs2", instruction.rs2);
    Some(text)
}

/// An instruction in a program that sends its commands to Gemmini by this opcode.
pub fn text(instruction: &Instruction, pc: u64, opcode: Opcode) -> String {
    let gemmini = instruction.rocc().filter(|rocc| rocc.opcode == opcode).and_then(gemmini_text);
    gemmini.unwrap_or_else(|| instruction.text(pc))
}

/// All code of a program, function by function.
pub fn disassemble(elf: &Elf, opcode: Opcode) -> String {
    let mut out = String::new();
    for section in &elf.code {
        let _ = writeln!(out, "section {}", section.name);
        section_lines(&mut out, elf, section, opcode);
        out.push('\n');
    }
    out
}

fn section_lines(out: &mut String, elf: &Elf, section: &Section, opcode: Opcode) {
    let Section { address, bytes, .. } = section;
    let half = |offset: usize| bytes.get(offset..offset + 2).map(|half| u16::from_le_bytes([half[0], half[1]]));
    let mut offset = 0;
    while let Some(low) = half(offset) {
        let pc = address.wrapping_add(offset as u64);
        if let Some((name, 0)) = elf.symbols().function(pc) {
            let _ = writeln!(out, "\n{pc:x} <{name}>:");
        }
        let high = if is_full(low) { half(offset + 2) } else { Some(0) };
        let word = high.map(|high| u32::from(low) | u32::from(high) << 16);
        let (digits, text) = match word.and_then(Instruction::decode) {
            Some(instruction) if is_full(low) => (format!("{:08x}", instruction.word), text(&instruction, pc, opcode)),
            Some(instruction) => (format!("{:04x}", instruction.word), text(&instruction, pc, opcode)),
            None => (format!("{low:04x}"), ".half".to_owned()),
        };
        let _ = writeln!(out, "{pc:>8x}:  {digits:<8}  {text}");
        offset += digits.len() / 2;
    }
}
