//! Instruction formats: where the operands are in the word, and how they are written.

/// Where an instruction's operands are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the letters are those of the instruction set manual; groups are described")]
pub enum Format {
    // Integer: rd, rs1, rs2 or immediate.
    R,
    I,
    Shift,
    Load,
    Jalr,
    Store,
    B,
    U,
    J,
    Csr,
    CsrI,
    Fence,
    Lr,
    Amo,
    /// No operands.
    None,
    // Floats: F and X say which register file destination and sources are of, Rm that there is a rounding mode.
    FLoad,
    FStore,
    FR,
    FRRm,
    FURm,
    FR4,
    XF,
    XFRm,
    Xff,
    FX,
    FXRm,
    /// A command to an accelerator: funct7, registers, and flags which of them are used.
    Rocc,
    // Compressed.
    CIw,
    CLoadW,
    CLoadD,
    CFLoadD,
    CStoreW,
    CStoreD,
    CFStoreD,
    CI,
    CINotX0,
    CLi,
    CAddi16sp,
    CLui,
    CShift,
    CAndi,
    CA,
    CJ,
    CB,
    CSlli,
    CLoadSpW,
    CLoadSpD,
    CFLoadSpD,
    CJr,
    CJalr,
    CMv,
    CAdd,
    CStoreSpW,
    CStoreSpD,
    CFStoreSpD,
}

/// The operands of a word: register numbers, rounding mode and immediate. What a format lacks is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Operands {
    pub rd: u8,
    pub rs1: u8,
    pub rs2: u8,
    pub rs3: u8,
    pub rm: u8,
    pub imm: i32,
}

/// Bits `high` to `low` of a word, moved to bit `to`.
const fn part(word: u32, high: u32, low: u32, to: u32) -> u32 {
    (word >> low & ((1 << (high - low + 1)) - 1)) << to
}

/// A number of `bits` bits in two's complement.
const fn signed(value: u32, bits: u32) -> i32 {
    (value << (32 - bits)) as i32 >> (32 - bits)
}

/// The three-bit register numbers of compressed instructions stand for x8 to x15.
const fn short(word: u32, low: u32) -> u8 {
    8 + part(word, low + 2, low, 0) as u8
}

const fn register(word: u32, low: u32) -> u8 {
    part(word, low + 4, low, 0) as u8
}

/// The six-bit immediate of format CI.
const fn ci(word: u32) -> i32 {
    signed(part(word, 12, 12, 5) | part(word, 6, 2, 0), 6)
}

/// Stack pointer and return address.
const SP: u8 = 2;
const RA: u8 = 1;

impl Format {
    /// Whether the operands are allowed ones: words that mask and match alone would give to two instructions, and those
    /// that the manual reserves.
    pub(crate) fn accepts(self, word: u32) -> bool {
        let operands = self.operands(word);
        match self {
            Format::CIw | Format::CAddi16sp => operands.imm != 0,
            Format::CLui => operands.imm != 0 && operands.rd != SP,
            Format::CINotX0 | Format::CLoadSpW | Format::CLoadSpD => operands.rd != 0,
            Format::CJr | Format::CJalr => operands.rs1 != 0,
            Format::CMv | Format::CAdd => operands.rs2 != 0,
            _ => true,
        }
    }

    /// The operands of a word of this format.
    pub(crate) fn operands(self, word: u32) -> Operands {
        if self.is_compressed() { self.compressed(word) } else { self.full(word) }
    }

    const fn is_compressed(self) -> bool {
        self as u8 >= Format::CIw as u8
    }

    fn full(self, word: u32) -> Operands {
        let (rd, rs1, rs2) = (register(word, 7), register(word, 15), register(word, 20));
        let rs3 = register(word, 27);
        let rm = part(word, 14, 12, 0) as u8;
        let none = Operands::default();
        let i = (word as i32) >> 20;
        match self {
            Format::R | Format::Amo | Format::FR | Format::Xff => Operands { rd, rs1, rs2, ..none },
            Format::I | Format::Load | Format::FLoad | Format::Jalr => Operands { rd, rs1, imm: i, ..none },
            Format::Shift => Operands { rd, rs1, imm: part(word, 25, 20, 0) as i32, ..none },
            Format::Store | Format::FStore => {
                Operands { rs1, rs2, imm: signed(part(word, 31, 25, 5) | part(word, 11, 7, 0), 12), ..none }
            }
            Format::B => {
                let imm = part(word, 31, 31, 12) | part(word, 7, 7, 11) | part(word, 30, 25, 5) | part(word, 11, 8, 1);
                Operands { rs1, rs2, imm: signed(imm, 13), ..none }
            }
            Format::U => Operands { rd, imm: (word & 0xffff_f000) as i32, ..none },
            Format::J => {
                let imm =
                    part(word, 31, 31, 20) | part(word, 19, 12, 12) | part(word, 20, 20, 11) | part(word, 30, 21, 1);
                Operands { rd, imm: signed(imm, 21), ..none }
            }
            // The immediate is the register's number; CsrI has a number in place of rs1.
            Format::Csr | Format::CsrI => Operands { rd, rs1, imm: part(word, 31, 20, 0) as i32, ..none },
            Format::Fence => Operands { imm: part(word, 31, 20, 0) as i32, ..none },
            Format::Lr | Format::XF | Format::FX => Operands { rd, rs1, ..none },
            Format::FRRm => Operands { rd, rs1, rs2, rm, ..none },
            Format::FURm | Format::XFRm | Format::FXRm => Operands { rd, rs1, rm, ..none },
            Format::FR4 => Operands { rd, rs1, rs2, rs3, rm, ..none },
            // rm: the flags xd, xs1, xs2; the immediate is the function.
            Format::Rocc => Operands { rd, rs1, rs2, rm, imm: part(word, 31, 25, 0) as i32, ..none },
            _ => none,
        }
    }

    fn compressed(self, word: u32) -> Operands {
        let none = Operands::default();
        let rd = register(word, 7);
        let rs2 = register(word, 2);
        let load = |imm: u32| Operands { rd: short(word, 2), rs1: short(word, 7), imm: imm as i32, ..none };
        let store = |imm: u32| Operands { rs2: short(word, 2), rs1: short(word, 7), imm: imm as i32, ..none };
        let load_sp = |imm: u32| Operands { rd, rs1: SP, imm: imm as i32, ..none };
        let store_sp = |imm: u32| Operands { rs1: SP, rs2, imm: imm as i32, ..none };
        let words = part(word, 12, 10, 3) | part(word, 6, 6, 2) | part(word, 5, 5, 6);
        let doubles = part(word, 12, 10, 3) | part(word, 6, 5, 6);
        match self {
            Format::CIw => {
                let imm = part(word, 12, 11, 4) | part(word, 10, 7, 6) | part(word, 6, 6, 2) | part(word, 5, 5, 3);
                Operands { rd: short(word, 2), rs1: SP, imm: imm as i32, ..none }
            }
            Format::CLoadW => load(words),
            Format::CLoadD | Format::CFLoadD => load(doubles),
            Format::CStoreW => store(words),
            Format::CStoreD | Format::CFStoreD => store(doubles),
            Format::CI | Format::CINotX0 => Operands { rd, rs1: rd, imm: ci(word), ..none },
            Format::CLi => Operands { rd, imm: ci(word), ..none },
            Format::CAddi16sp => {
                let high = part(word, 12, 12, 9) | part(word, 4, 3, 7) | part(word, 5, 5, 6);
                let imm = signed(high | part(word, 2, 2, 5) | part(word, 6, 6, 4), 10);
                Operands { rd: SP, rs1: SP, imm, ..none }
            }
            Format::CLui => Operands { rd, imm: ci(word) << 12, ..none },
            Format::CShift => Operands { rd: short(word, 7), rs1: short(word, 7), imm: ci(word) & 63, ..none },
            Format::CAndi => Operands { rd: short(word, 7), rs1: short(word, 7), imm: ci(word), ..none },
            Format::CA => Operands { rd: short(word, 7), rs1: short(word, 7), rs2: short(word, 2), ..none },
            Format::CJ => {
                let high = part(word, 12, 12, 11) | part(word, 8, 8, 10) | part(word, 10, 9, 8) | part(word, 6, 6, 7);
                let low = part(word, 7, 7, 6) | part(word, 2, 2, 5) | part(word, 11, 11, 4) | part(word, 5, 3, 1);
                Operands { imm: signed(high | low, 12), ..none }
            }
            Format::CB => {
                let high = part(word, 12, 12, 8) | part(word, 6, 5, 6) | part(word, 2, 2, 5);
                let imm = signed(high | part(word, 11, 10, 3) | part(word, 4, 3, 1), 9);
                Operands { rs1: short(word, 7), imm, ..none }
            }
            Format::CSlli => Operands { rd, rs1: rd, imm: ci(word) & 63, ..none },
            Format::CLoadSpW => load_sp(part(word, 12, 12, 5) | part(word, 6, 4, 2) | part(word, 3, 2, 6)),
            Format::CLoadSpD | Format::CFLoadSpD => {
                load_sp(part(word, 12, 12, 5) | part(word, 6, 5, 3) | part(word, 4, 2, 6))
            }
            Format::CJr => Operands { rs1: rd, ..none },
            Format::CJalr => Operands { rd: RA, rs1: rd, ..none },
            Format::CMv => Operands { rd, rs2, ..none },
            Format::CAdd => Operands { rd, rs1: rd, rs2, ..none },
            Format::CStoreSpW => store_sp(part(word, 12, 9, 2) | part(word, 8, 7, 6)),
            Format::CStoreSpD | Format::CFStoreSpD => store_sp(part(word, 12, 10, 3) | part(word, 9, 7, 6)),
            _ => none,
        }
    }
}
