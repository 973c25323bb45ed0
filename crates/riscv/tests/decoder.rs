//! Laws of the instruction table.

use pollux_riscv::table::{Row, TABLE};
use pollux_riscv::{Instruction, Op};
use proptest::prelude::*;

/// Bits that two rows fix differently.
fn told_apart(a: &Row, b: &Row) -> bool {
    (a.matches ^ b.matches) & a.mask & b.mask != 0
}

#[test]
fn no_word_is_of_two_rows() {
    let full: Vec<&Row> = TABLE.iter().filter(|row| !row.is_compressed()).collect();
    for (index, a) in full.iter().enumerate() {
        for b in &full[index + 1..] {
            assert!(told_apart(a, b), "{} and {}", a.mnemonic, b.mnemonic);
        }
    }
    for half in 0..=u16::MAX {
        let word = u32::from(half);
        let rows: Vec<&str> = TABLE.iter().filter(|row| row.describes(word)).map(|row| row.mnemonic).collect();
        assert!(rows.len() <= 1 || word & 3 == 3, "{word:#06x}: {rows:?}");
    }
}

#[test]
fn every_row_matches_inside_its_mask_and_mnemonics_are_unique() {
    for (index, row) in TABLE.iter().enumerate() {
        assert_eq!(row.matches & !row.mask, 0, "{}", row.mnemonic);
        assert!(TABLE[..index].iter().all(|other| other.mnemonic != row.mnemonic), "{}", row.mnemonic);
        assert_eq!(row.is_compressed(), row.mnemonic.starts_with("c."), "{}", row.mnemonic);
    }
}

#[test]
fn zeros_and_ones_are_illegal_as_the_manual_promises() {
    assert_eq!(Instruction::decode(0), None);
    assert_eq!(Instruction::decode(u32::MAX), None);
    assert_eq!(Instruction::decode(0xffff), None);
}

/// The word of a full instruction with these operands.
fn encode(op: Op, i: &Instruction) -> Option<u32> {
    let row = TABLE.iter().find(|row| row.op == op && !row.is_compressed())?;
    let (rd, rs1, rs2) = (u32::from(i.rd) << 7, u32::from(i.rs1) << 15, u32::from(i.rs2) << 20);
    let imm = i.imm as u32;
    let bits = |high: u32, low: u32, to: u32| (imm >> low & ((1 << (high - low + 1)) - 1)) << to;
    let operands = match op {
        Op::Lui => rd | imm,
        Op::Jal => rd | bits(20, 20, 31) | bits(10, 1, 21) | bits(11, 11, 20) | bits(19, 12, 12),
        Op::Beq | Op::Bne => rs1 | rs2 | bits(12, 12, 31) | bits(10, 5, 25) | bits(4, 1, 8) | bits(11, 11, 7),
        Op::Sw | Op::Sd | Op::Fsd => rs1 | rs2 | bits(11, 5, 25) | bits(4, 0, 7),
        Op::Add | Op::Sub | Op::Xor | Op::Or | Op::And | Op::Subw | Op::Addw => rd | rs1 | rs2,
        Op::Slli | Op::Srli | Op::Srai => rd | rs1 | bits(5, 0, 20),
        Op::Ebreak => 0,
        _ => rd | rs1 | bits(11, 0, 20),
    };
    Some(row.matches | operands)
}

#[test]
fn every_compressed_instruction_does_what_its_expansion_does() {
    let mut count = 0;
    for half in 0..=u16::MAX {
        let word = u32::from(half);
        let Some(short) = Instruction::decode(word).filter(|_| word & 3 != 3) else { continue };
        let full = encode(short.op, &short).and_then(Instruction::decode).expect("an expansion");
        let operands = |i: &Instruction| (i.op, i.rd, i.rs1, i.rs2, i.imm);
        assert_eq!(operands(&short), operands(&full), "{} {}", short.text(0), full.text(0));
        count += 1;
    }
    assert!(count > 40_000, "{count}");
}

/// Operand bits that differ from register to register, as far as the row leaves them free.
fn example(row: &Row) -> u32 {
    let free = if row.is_compressed() { 0b0110_1010_1101_0100 } else { 0x6af5_b5ba };
    row.matches | free & !row.mask & if row.is_compressed() { 0xffff } else { u32::MAX }
}

#[test]
fn the_text_of_every_instruction() {
    let lines = TABLE.iter().map(|row| match Instruction::decode(example(row)) {
        Some(instruction) => format!("{:08x}  {}", example(row), instruction.text(0x8000_0000)),
        None => format!("{:08x}  {} (no example)", example(row), row.mnemonic),
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

proptest! {
    #[test]
    fn a_word_decodes_to_the_row_that_describes_it(word: u32) {
        let rows: Vec<&Row> = TABLE.iter().filter(|row| match word & 3 {
            3 => !row.is_compressed() && row.describes(word),
            _ => row.is_compressed() && row.describes(word & 0xffff),
        }).collect();
        let decoded = Instruction::decode(word);
        prop_assert!(rows.len() <= 1);
        prop_assert_eq!(decoded.map(|i| i.row().mnemonic), rows.first().map(|row| row.mnemonic));
        if let Some(instruction) = decoded {
            prop_assert!(instruction.text(0).starts_with(instruction.row().mnemonic));
            prop_assert_eq!(instruction.bytes(), if word & 3 == 3 { 4 } else { 2 });
        }
    }
}
