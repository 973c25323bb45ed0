//! A decoded instruction.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use pollux_isa::RoccInstruction;

use crate::csr;
use crate::format::Format;
use crate::table::{Class, Op, Row, TABLE};

/// A decoded instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The word; of a compressed instruction its 16 bits.
    pub word: u32,
    /// Immediate operand, sign-extended; of a CSR instruction the register's number, of a RoCC command its function.
    pub imm: i32,
    /// Position in [`TABLE`].
    row: u16,
    /// What it does.
    pub op: Op,
    /// Destination register.
    pub rd: u8,
    /// First source register.
    pub rs1: u8,
    /// Second source register.
    pub rs2: u8,
    /// Third source register.
    pub rs3: u8,
    /// Rounding mode; of a RoCC command the flags xd, xs1, xs2.
    pub rm: u8,
}

/// Rows that a word can be of, by bits that every row fixes: the low two bits, and of full words the opcode, of
/// compressed ones the highest three bits.
static CANDIDATES: LazyLock<[Vec<u16>; 64]> = LazyLock::new(|| {
    let mut candidates = std::array::from_fn(|_| Vec::new());
    for (index, row) in (0..).zip(TABLE) {
        candidates[bucket(row.matches)].push(index);
    }
    candidates
});

const fn bucket(word: u32) -> usize {
    match word & 3 {
        3 => (word >> 2 & 31) as usize,
        quadrant => (32 + (word >> 13 & 7) * 4 + quadrant) as usize,
    }
}

/// Whether the word whose low half this is has 32 bits.
pub const fn is_full(low: u16) -> bool {
    low & 3 == 3
}

impl Instruction {
    /// The instruction of a word, of which only the low half counts if that is a compressed one; nothing if it is
    /// illegal.
    pub fn decode(word: u32) -> Option<Self> {
        let word = if is_full(word as u16) { word } else { word & 0xffff };
        let row = *CANDIDATES[bucket(word)].iter().find(|row| TABLE[usize::from(**row)].describes(word))?;
        let Row { format, op, .. } = TABLE[usize::from(row)];
        let operands = format.operands(word);
        Some(Self {
            word,
            imm: operands.imm,
            row,
            op,
            rd: operands.rd,
            rs1: operands.rs1,
            rs2: operands.rs2,
            rs3: operands.rs3,
            rm: operands.rm,
        })
    }

    /// The row of the table.
    pub fn row(&self) -> &'static Row {
        &TABLE[usize::from(self.row)]
    }

    /// Kind of work.
    pub fn class(&self) -> Class {
        self.row().class
    }

    /// Bytes in memory: 2 or 4.
    #[inline]
    pub const fn bytes(&self) -> u64 {
        if self.word & 3 == 3 { 4 } else { 2 }
    }

    /// The command, if the instruction is one to an accelerator.
    pub fn rocc(&self) -> Option<RoccInstruction> {
        match self.class() {
            Class::Rocc => RoccInstruction::decode(self.word).ok(),
            _ => None,
        }
    }

    /// Registers that are read and written.
    pub fn registers(&self) -> Registers {
        registers(self)
    }

    /// The instruction in assembly; branches and jumps have the address they go to, if it stands at `pc`.
    pub fn text(&self, pc: u64) -> String {
        let mut out = format!("{:<11}", self.row().mnemonic);
        // Writing to a string does not fail.
        let _ = self.operands(pc, &mut out);
        out.truncate(out.trim_end().len());
        out
    }

    fn operands(&self, pc: u64, out: &mut String) -> fmt::Result {
        let (rd, rs1, rs2) = (x(self.rd), x(self.rs1), x(self.rs2));
        let (fd, fs1, fs2, fs3) = (f(self.rd), f(self.rs1), f(self.rs2), f(self.rs3));
        let imm = self.imm;
        let target = pc.wrapping_add(imm as u64);
        match self.row().format {
            Format::R => write!(out, "{rd}, {rs1}, {rs2}"),
            Format::I | Format::CIw => write!(out, "{rd}, {rs1}, {imm}"),
            Format::Shift => write!(out, "{rd}, {rs1}, {imm:#x}"),
            Format::CI | Format::CINotX0 | Format::CAndi | Format::CAddi16sp => write!(out, "{rd}, {imm}"),
            Format::CShift | Format::CSlli => write!(out, "{rd}, {imm:#x}"),
            Format::Load | Format::Jalr | Format::CLoadW | Format::CLoadD | Format::CLoadSpW | Format::CLoadSpD => {
                write!(out, "{rd}, {imm}({rs1})")
            }
            Format::Store | Format::CStoreW | Format::CStoreD | Format::CStoreSpW | Format::CStoreSpD => {
                write!(out, "{rs2}, {imm}({rs1})")
            }
            Format::B => write!(out, "{rs1}, {rs2}, {target:#x}"),
            Format::CB => write!(out, "{rs1}, {target:#x}"),
            Format::U | Format::CLui => write!(out, "{rd}, {:#x}", imm as u32 >> 12),
            Format::J => write!(out, "{rd}, {target:#x}"),
            Format::CJ => write!(out, "{target:#x}"),
            Format::CLi => write!(out, "{rd}, {imm}"),
            Format::CA | Format::CAdd | Format::CMv => write!(out, "{rd}, {rs2}"),
            Format::CJr | Format::CJalr => write!(out, "{rs1}"),
            Format::Csr => write!(out, "{rd}, {}, {rs1}", csr::name(imm as u16)),
            Format::CsrI => write!(out, "{rd}, {}, {}", csr::name(imm as u16), self.rs1),
            Format::Fence => write!(out, "{}, {}", order(imm >> 4), order(imm)),
            Format::Lr => write!(out, "{rd}, ({rs1})"),
            Format::Amo => write!(out, "{rd}, {rs2}, ({rs1})"),
            Format::None => Ok(()),
            Format::FLoad | Format::CFLoadD | Format::CFLoadSpD => write!(out, "{fd}, {imm}({rs1})"),
            Format::FStore | Format::CFStoreD | Format::CFStoreSpD => write!(out, "{fs2}, {imm}({rs1})"),
            Format::FR | Format::FRRm => write!(out, "{fd}, {fs1}, {fs2}{}", mode(self)),
            Format::FURm => write!(out, "{fd}, {fs1}{}", mode(self)),
            Format::FR4 => write!(out, "{fd}, {fs1}, {fs2}, {fs3}{}", mode(self)),
            Format::XF | Format::XFRm => write!(out, "{rd}, {fs1}{}", mode(self)),
            Format::Xff => write!(out, "{rd}, {fs1}, {fs2}"),
            Format::FX | Format::FXRm => write!(out, "{fd}, {rs1}{}", mode(self)),
            Format::Rocc => self.rocc_operands(out),
        }
    }

    /// Function, then the registers that the flags say are used, `-` for others.
    fn rocc_operands(&self, out: &mut String) -> fmt::Result {
        let used = |flag: u8, number: u8| if self.rm & flag != 0 { x(number) } else { "-" };
        write!(out, "{}, {}, {}, {}", self.imm, used(4, self.rd), used(2, self.rs1), used(1, self.rs2))
    }
}

/// A register of the integer (`X`) or of the float file (`F`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Register {
    /// Integer register; `X(0)` is always zero and is never named by [`Registers`].
    X(u8),
    /// Float register.
    F(u8),
}

/// The registers that an instruction reads and the one that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registers {
    /// Read, in the order of the operands.
    pub sources: [Option<Register>; 3],
    /// Written.
    pub destination: Option<Register>,
}

fn registers(instruction: &Instruction) -> Registers {
    let Instruction { rd, rs1, rs2, rs3, rm, .. } = *instruction;
    let x = |number: u8| (number != 0).then_some(Register::X(number));
    let f = |number: u8| Some(Register::F(number));
    let of = |destination, a, b, c| Registers { sources: [a, b, c], destination };
    match instruction.row().format {
        Format::R | Format::Amo | Format::CA | Format::CAdd => of(x(rd), x(rs1), x(rs2), None),
        Format::I
        | Format::Shift
        | Format::Load
        | Format::Jalr
        | Format::Csr
        | Format::Lr
        | Format::CIw
        | Format::CLoadW
        | Format::CLoadD
        | Format::CI
        | Format::CINotX0
        | Format::CAddi16sp
        | Format::CShift
        | Format::CAndi
        | Format::CSlli
        | Format::CLoadSpW
        | Format::CLoadSpD
        | Format::CJr
        | Format::CJalr => of(x(rd), x(rs1), None, None),
        Format::Store
        | Format::B
        | Format::CStoreW
        | Format::CStoreD
        | Format::CStoreSpW
        | Format::CStoreSpD
        | Format::CB => of(None, x(rs1), x(rs2), None),
        Format::U | Format::J | Format::CsrI | Format::CLi | Format::CLui => of(x(rd), None, None, None),
        Format::CMv => of(x(rd), None, x(rs2), None),
        Format::Fence | Format::None | Format::CJ => Registers::default(),
        Format::FLoad | Format::CFLoadD | Format::CFLoadSpD => of(f(rd), x(rs1), None, None),
        Format::FStore | Format::CFStoreD | Format::CFStoreSpD => of(None, x(rs1), f(rs2), None),
        Format::FR | Format::FRRm => of(f(rd), f(rs1), f(rs2), None),
        Format::FURm => of(f(rd), f(rs1), None, None),
        Format::FR4 => of(f(rd), f(rs1), f(rs2), f(rs3)),
        Format::XF | Format::XFRm => of(x(rd), f(rs1), None, None),
        Format::Xff => of(x(rd), f(rs1), f(rs2), None),
        Format::FX | Format::FXRm => of(f(rd), x(rs1), None, None),
        Format::Rocc => {
            let used = |flag: u8, number: u8| if rm & flag != 0 { x(number) } else { None };
            of(used(4, rd), used(2, rs1), used(1, rs2), None)
        }
    }
}

/// Names of the integer registers in the calling convention.
pub const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

const F_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5",
    "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
];

fn x(number: u8) -> &'static str {
    X_NAMES[usize::from(number & 31)]
}

fn f(number: u8) -> &'static str {
    F_NAMES[usize::from(number & 31)]
}

/// A static rounding mode, as a last operand; the dynamic one (7) is not written.
fn mode(instruction: &Instruction) -> &'static str {
    let has_mode =
        matches!(instruction.row().format, Format::FRRm | Format::FURm | Format::FR4 | Format::XFRm | Format::FXRm);
    const NAMES: [&str; 8] = [", rne", ", rtz", ", rdn", ", rup", ", rmm", ", 5", ", 6", ""];
    if has_mode { NAMES[usize::from(instruction.rm & 7)] } else { "" }
}

/// A set of accesses that a fence orders.
fn order(bits: i32) -> String {
    let letters: String = [(8, 'i'), (4, 'o'), (2, 'r'), (1, 'w')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| *letter)
        .collect();
    if letters.is_empty() { "0".to_owned() } else { letters }
}
