//! Commands as the core sends them, and the RV64 instruction word that sends one (rocket-chip `LazyRoCC.scala`).

use thiserror::Error;

use crate::config::Opcode;

/// A command at the accelerator's port: function number and the values of the two source registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RoccCommand {
    /// Function, 7 bits.
    pub funct: u8,
    /// Value of the first source register.
    pub rs1: u64,
    /// Value of the second source register.
    pub rs2: u64,
}

impl RoccCommand {
    /// Which configuration a CONFIG is: the low two bits of rs1 (`GemminiISA.scala`).
    #[inline]
    pub const fn subtype(&self) -> u8 {
        (self.rs1 & 3) as u8
    }
}

/// The 32-bit instruction word of a custom opcode.
///
/// `[31:25]` funct7, `[24:20]` rs2, `[19:15]` rs1, `[14]` xd, `[13]` xs1, `[12]` xs2, `[11:7]` rd, `[6:0]` opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoccInstruction {
    /// Custom opcode.
    pub opcode: Opcode,
    /// Function, 7 bits.
    pub funct: u8,
    /// Number of the destination register.
    pub rd: u8,
    /// Number of the first source register.
    pub rs1: u8,
    /// Number of the second source register.
    pub rs2: u8,
    /// Whether a response is written to `rd`.
    pub xd: bool,
    /// Whether `rs1` is read.
    pub xs1: bool,
    /// Whether `rs2` is read.
    pub xs2: bool,
}

/// Why an instruction word cannot be encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WordError {
    /// The opcode is not a custom one.
    #[error("instruction word {word:#010x} has opcode {:#04x}: not one of 0x0b, 0x2b, 0x5b, 0x7b (custom0 to custom3)", word & 0x7f)]
    Opcode {
        /// The word.
        word: u32,
    },
    /// A field does not fit.
    #[error("{field} is {value}: it must be at most {limit}")]
    Range {
        /// Field of the word.
        field: &'static str,
        /// Its value.
        value: u8,
        /// Largest possible value.
        limit: u8,
    },
}

impl RoccInstruction {
    /// The instruction word.
    ///
    /// # Errors
    /// `funct` exceeds 127 or a register number exceeds 31.
    pub fn encode(self) -> Result<u32, WordError> {
        let fields = [("funct", self.funct, 127), ("rd", self.rd, 31), ("rs1", self.rs1, 31), ("rs2", self.rs2, 31)];
        if let Some((field, value, limit)) = fields.into_iter().find(|(_, value, limit)| value > limit) {
            return Err(WordError::Range { field, value, limit });
        }
        Ok(u32::from(self.funct) << 25
            | u32::from(self.rs2) << 20
            | u32::from(self.rs1) << 15
            | u32::from(self.xd) << 14
            | u32::from(self.xs1) << 13
            | u32::from(self.xs2) << 12
            | u32::from(self.rd) << 7
            | self.opcode.bits())
    }

    /// The fields of an instruction word.
    ///
    /// # Errors
    /// The word's opcode is not a custom one.
    pub fn decode(word: u32) -> Result<Self, WordError> {
        let opcode = Opcode::from_bits(word & 0x7f).ok_or(WordError::Opcode { word })?;
        let bits = |lsb: u32, width: u32| (word >> lsb & ((1 << width) - 1)) as u8;
        Ok(Self {
            opcode,
            funct: bits(25, 7),
            rd: bits(7, 5),
            rs1: bits(15, 5),
            rs2: bits(20, 5),
            xd: bits(14, 1) != 0,
            xs1: bits(13, 1) != 0,
            xs2: bits(12, 1) != 0,
        })
    }
}
