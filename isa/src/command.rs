//! Typed commands: the instruction table's rows as an enum, strict decoding, encoding, and named operands.

use thiserror::Error;

use crate::config::{GemminiConfig, Opcode};
use crate::fields::{
    ClockGate, Compute, ConfigEx, ConfigLd, ConfigNorm, ConfigSt, Counter, Flush, Format, LoopConvConfig1,
    LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvConfig5, LoopConvConfig6, LoopConvWs, LoopWs,
    LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsSpadAb, LoopWsSpadC, LoopWsStridesAb, LoopWsStridesDc,
    MoveOperands, MoveSpad, Preload,
};
use crate::rocc::{RoccCommand, RoccInstruction};
use crate::table::{self, Class, FieldError, FieldSpec, InstructionSpec, Register, Requirement};

/// Why a command cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The function number means nothing.
    #[error("funct {0} is not an instruction: the functions are 0 to 25 and 126")]
    UnknownFunct(u8),
    /// The configuration lacks what the instruction needs.
    #[error("{mnemonic} does not exist in this configuration: it needs {requires}")]
    NotInBuild {
        /// Instruction.
        mnemonic: &'static str,
        /// Condition on the configuration.
        requires: &'static str,
    },
    /// A field has an illegal value.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Bits that no field uses are set ([`Command::decode_exact`] only; the hardware ignores them).
    #[error("{mnemonic}: bits {bits:#x} of {} are set but belong to no field", register.name())]
    ReservedBits {
        /// Instruction.
        mnemonic: &'static str,
        /// Register.
        register: Register,
        /// The bits.
        bits: u64,
    },
}

/// Why a command cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The configuration lacks what the instruction needs.
    #[error("{mnemonic} does not exist in this configuration: it needs {requires}")]
    NotInBuild {
        /// Instruction.
        mnemonic: &'static str,
        /// Condition on the configuration.
        requires: &'static str,
    },
    /// A field has an illegal value.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Why a mnemonic with named operands is not a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OperandError {
    /// No such instruction.
    #[error("there is no instruction `{0}`")]
    UnknownMnemonic(String),
    /// The instruction has no such operand.
    #[error("{mnemonic} has no operand `{operand}`: its operands are {}", operand_names(.mnemonic))]
    UnknownOperand {
        /// Instruction.
        mnemonic: &'static str,
        /// The name given.
        operand: String,
    },
    /// An operand is given twice.
    #[error("{mnemonic}: operand `{operand}` is given twice")]
    Duplicate {
        /// Instruction.
        mnemonic: &'static str,
        /// Operand.
        operand: &'static str,
    },
    /// An operand without a default is not given.
    #[error("{mnemonic}: operand `{operand}` is missing and has no default")]
    Missing {
        /// Instruction.
        mnemonic: &'static str,
        /// Operand.
        operand: &'static str,
    },
    /// The operands do not make an encodable command.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

fn operand_names(mnemonic: &str) -> String {
    let fields = table::by_mnemonic(mnemonic).map_or(&[][..], |spec| spec.fields);
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    names.join(", ")
}

/// Defines the command enum and the instruction table from one list of rows.
macro_rules! instructions {
    ($(
        $variant:ident($format:ident) = $mnemonic:literal, $gemmini_name:ident, $funct:literal, $subtype:expr,
        $class:ident, $requires:ident, $source:literal, $meaning:literal;
    )*) => {
        /// A command with its operands.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Command {
            $(#[doc = $meaning] $variant($format),)*
        }

        /// Function numbers, by the names of `GemminiISA.scala`.
        pub mod funct {
            $(#[doc = $meaning] pub const $gemmini_name: u8 = $funct;)*
            /// Any of the four configurations; the low two bits of rs1 tell which.
            pub const CONFIG_CMD: u8 = CONFIG_EX;
        }

        impl RoccCommand {
            /// Which part of the accelerator executes the command; nothing if the function does not exist.
            #[inline]
            pub fn class(&self) -> Option<Class> {
                let is = |subtype: Option<u8>| subtype.is_none_or(|subtype| subtype == self.subtype());
                match self.funct {
                    $($funct if is($subtype) => Some(Class::$class),)*
                    _ => None,
                }
            }
        }

        /// Position in [`INSTRUCTIONS`].
        enum Row {
            $($variant,)*
        }

        /// Every instruction, in the order of the manual.
        pub const INSTRUCTIONS: &[InstructionSpec] = &[$(
            InstructionSpec {
                mnemonic: $mnemonic,
                gemmini_name: stringify!($gemmini_name),
                funct: $funct,
                subtype: $subtype,
                class: Class::$class,
                requires: Requirement::$requires,
                fields: <$format as Format>::FIELDS,
                meaning: $meaning,
                source: $source,
            },
        )*];

        impl Command {
            /// What the hardware keeps of a command, whatever the values; nothing if the function does not exist.
            pub fn from_rocc(cfg: &GemminiConfig, command: RoccCommand) -> Option<Self> {
                let RoccCommand { funct, rs1, rs2 } = command;
                let is = |subtype: Option<u8>| subtype.is_none_or(|subtype| subtype == command.subtype());
                match funct {
                    $($funct if is($subtype) => Some(Command::$variant($format::from_regs(cfg, rs1, rs2))),)*
                    _ => None,
                }
            }

            /// The instruction's row in the table.
            pub fn spec(&self) -> &'static InstructionSpec {
                let row = match self {
                    $(Command::$variant(_) => Row::$variant,)*
                };
                &INSTRUCTIONS[row as usize]
            }

            /// The registers as the accelerator's own units drive them: each field cut to its width in the encoding,
            /// everything else 0. Whether the values are legal is a matter of [`Command::encode`].
            pub fn to_rocc(&self) -> RoccCommand {
                let row = self.spec();
                let (rs1, rs2) = match self {
                    $(Command::$variant(operands) => operands.to_regs(),)*
                };
                RoccCommand { funct: row.funct, rs1: rs1 | u64::from(row.subtype.unwrap_or_default()), rs2 }
            }

            fn values(&self) -> Vec<u64> {
                match self {
                    $(Command::$variant(operands) => operands.values(),)*
                }
            }
        }
    };
}

#[rustfmt::skip]
instructions! {
    ConfigEx(ConfigEx)       = "config_ex", CONFIG_EX, 0, Some(0), Execute, None, "ExecuteController.scala",
        "Configure the execute controller: dataflow, transposes, strides, shift.";
    ConfigLd(ConfigLd)       = "config_ld", CONFIG_LOAD, 0, Some(1), Load, None, "LoadController.scala",
        "Configure one of the three load channels.";
    ConfigSt(ConfigSt)       = "config_st", CONFIG_STORE, 0, Some(2), Store, None, "StoreController.scala",
        "Configure stores: stride, activation, scale, pooling.";
    ConfigNorm(ConfigNorm)   = "config_norm", CONFIG_NORM, 0, Some(3), Store, Normalizations, "StoreController.scala",
        "Configure normalization: statistics register, constants, softmax.";
    Mvin(MoveOperands)       = "mvin", LOAD_CMD, 2, None, Load, None, "LoadController.scala",
        "Load a matrix from main memory with channel 0.";
    Mvin2(MoveOperands)      = "mvin2", LOAD2_CMD, 1, None, Load, None, "LoadController.scala",
        "Load a matrix from main memory with channel 1.";
    Mvin3(MoveOperands)      = "mvin3", LOAD3_CMD, 14, None, Load, None, "LoadController.scala",
        "Load a matrix from main memory with channel 2.";
    Mvout(MoveOperands)      = "mvout", STORE_CMD, 3, None, Store, None, "StoreController.scala",
        "Store a matrix to main memory.";
    MvoutSpad(MoveSpad)      = "mvout_spad", STORE_SPAD_CMD, 23, None, Store, None, "StoreController.scala",
        "Store a matrix to the scratchpad; only builds with an external scratchpad have the data path.";
    Preload(Preload)         = "preload", PRELOAD_CMD, 6, None, Execute, None, "ExecuteController.scala",
        "Load the array's stationary operand and name the destination of the next compute.";
    ComputePreloaded(Compute) = "compute_preloaded", COMPUTE_AND_FLIP_CMD, 4, None, Execute, None, "ExecuteController.scala",
        "Multiply with the operand preloaded last.";
    ComputeAccumulated(Compute) = "compute_accumulated", COMPUTE_AND_STAY_CMD, 5, None, Execute, None, "ExecuteController.scala",
        "Multiply with the operand in use.";
    Flush(Flush)             = "flush", FLUSH_CMD, 7, None, FrontEnd, None, "Controller.scala",
        "Flush the address translation.";
    ClockGate(ClockGate)     = "clkgate_en", CLKGATE_EN, 22, None, FrontEnd, None, "Controller.scala",
        "Switch the gated clock; ignored while the accelerator is busy.";
    Counter(Counter)         = "counter", COUNTER_OP, 126, None, FrontEnd, Counters, "CounterFile.scala",
        "Read and configure a performance counter; the only instruction with a result.";
    LoopWsBounds(LoopWsBounds) = "loop_ws_config_bounds", LOOP_WS_CONFIG_BOUNDS, 9, None, LoopWs, None, "LoopMatmul.scala",
        "Size of the next matmul loop in blocks of DIM.";
    LoopWsAddrsAb(LoopWsAddrsAb) = "loop_ws_config_addrs_ab", LOOP_WS_CONFIG_ADDRS_AB, 10, None, LoopWs, None, "LoopMatmul.scala",
        "Addresses of A and B of the next matmul loop.";
    LoopWsAddrsDc(LoopWsAddrsDc) = "loop_ws_config_addrs_dc", LOOP_WS_CONFIG_ADDRS_DC, 11, None, LoopWs, None, "LoopMatmul.scala",
        "Addresses of D and C of the next matmul loop.";
    LoopWsStridesAb(LoopWsStridesAb) = "loop_ws_config_strides_ab", LOOP_WS_CONFIG_STRIDES_AB, 12, None, LoopWs, None, "LoopMatmul.scala",
        "Strides of A and B of the next matmul loop.";
    LoopWsStridesDc(LoopWsStridesDc) = "loop_ws_config_strides_dc", LOOP_WS_CONFIG_STRIDES_DC, 13, None, LoopWs, None, "LoopMatmul.scala",
        "Strides of D and C of the next matmul loop.";
    LoopWsSpadAb(LoopWsSpadAb) = "loop_ws_config_spad_ab", LOOP_WS_CONFIG_SPAD_AB, 24, None, LoopWs, None, "LoopMatmul.scala",
        "Scratchpad places of A and B of this loop slot.";
    LoopWsSpadC(LoopWsSpadC) = "loop_ws_config_spad_c", LOOP_WS_CONFIG_SPAD_C, 25, None, LoopWs, None, "LoopMatmul.scala",
        "Accepted, does nothing.";
    LoopWs(LoopWs)           = "loop_ws", LOOP_WS, 8, None, LoopWs, None, "LoopMatmul.scala",
        "Run the configured weight-stationary matmul loop.";
    LoopConvConfig1(LoopConvConfig1) = "loop_conv_ws_config_1", LOOP_CONV_WS_CONFIG_1, 16, None, LoopConv, LoopConv, "LoopConv.scala",
        "Image sizes, channels and stride of the next convolution loop.";
    LoopConvConfig2(LoopConvConfig2) = "loop_conv_ws_config_2", LOOP_CONV_WS_CONFIG_2, 17, None, LoopConv, LoopConv, "LoopConv.scala",
        "Kernel, pooling and output part of the next convolution loop.";
    LoopConvConfig3(LoopConvConfig3) = "loop_conv_ws_config_3", LOOP_CONV_WS_CONFIG_3, 18, None, LoopConv, LoopConv, "LoopConv.scala",
        "Kernel part and padding of the next convolution loop.";
    LoopConvConfig4(LoopConvConfig4) = "loop_conv_ws_config_4", LOOP_CONV_WS_CONFIG_4, 19, None, LoopConv, LoopConv, "LoopConv.scala",
        "Dilation, rows and columns, and strides of the next convolution loop.";
    LoopConvConfig5(LoopConvConfig5) = "loop_conv_ws_config_5", LOOP_CONV_WS_CONFIG_5, 20, None, LoopConv, LoopConv, "LoopConv.scala",
        "Addresses of weights and output of the next convolution loop.";
    LoopConvConfig6(LoopConvConfig6) = "loop_conv_ws_config_6", LOOP_CONV_WS_CONFIG_6, 21, None, LoopConv, LoopConv, "LoopConv.scala",
        "Addresses of bias and input of the next convolution loop.";
    LoopConvWs(LoopConvWs)   = "loop_conv_ws", LOOP_CONV_WS, 15, None, LoopConv, LoopConv, "LoopConv.scala",
        "Run the configured convolution loop.";
}

impl Command {
    /// The command that the registers encode, if every field is legal in the configuration. Bits that no field uses
    /// are ignored, as by the hardware.
    ///
    /// # Errors
    /// Unknown function, an instruction that the build lacks, or a field outside its legal values: among them bits
    /// of a field that the hardware drops.
    pub fn decode(cfg: &GemminiConfig, command: RoccCommand) -> Result<Self, DecodeError> {
        let spec = table::lookup(command).ok_or(DecodeError::UnknownFunct(command.funct))?;
        let mnemonic = spec.mnemonic;
        if !spec.requires.is_met(cfg) {
            return Err(DecodeError::NotInBuild { mnemonic, requires: spec.requires.condition() });
        }
        for field in spec.fields.iter().filter(|field| !field.is_unused(cfg, command.rs1, command.rs2)) {
            field.check(cfg, mnemonic, field.encoded(command.rs1, command.rs2))?;
        }
        Self::from_rocc(cfg, command).ok_or(DecodeError::UnknownFunct(command.funct))
    }

    /// Like [`Command::decode`], and encoding the result gives back the same registers.
    ///
    /// # Errors
    /// Those of [`Command::decode`], and bits that no field uses.
    pub fn decode_exact(cfg: &GemminiConfig, command: RoccCommand) -> Result<Self, DecodeError> {
        let decoded = Self::decode(cfg, command)?;
        for field in decoded.spec().fields {
            field.check(cfg, decoded.mnemonic(), field.encoded(command.rs1, command.rs2))?;
        }
        let spec = decoded.spec();
        let defined = spec.defined_bits();
        let registers = [(Register::Rs1, command.rs1 & !defined.0), (Register::Rs2, command.rs2 & !defined.1)];
        match registers.into_iter().find(|(_, bits)| *bits != 0) {
            Some((register, bits)) => Err(DecodeError::ReservedBits { mnemonic: spec.mnemonic, register, bits }),
            None => Ok(decoded),
        }
    }

    /// The registers that encode the command.
    ///
    /// # Errors
    /// The build lacks the instruction, or a field is outside its legal values.
    pub fn encode(&self, cfg: &GemminiConfig) -> Result<RoccCommand, EncodeError> {
        let spec = self.spec();
        encode_values(cfg, spec, &self.values())
    }

    /// The instruction's name in assembly.
    pub fn mnemonic(&self) -> &'static str {
        self.spec().mnemonic
    }

    /// The operands and their bits, in the table's order.
    pub fn operands(&self) -> Vec<(&'static FieldSpec, u64)> {
        self.spec().fields.iter().zip(self.values()).collect()
    }

    /// The command of a mnemonic and named operands; operands with a default may be left out.
    ///
    /// # Errors
    /// Unknown names, duplicate or missing operands, illegal values.
    pub fn from_operands(cfg: &GemminiConfig, mnemonic: &str, operands: &[(&str, u64)]) -> Result<Self, OperandError> {
        let unknown = || OperandError::UnknownMnemonic(mnemonic.to_owned());
        let spec = table::by_mnemonic(mnemonic).ok_or_else(unknown)?;
        let mnemonic = spec.mnemonic;
        for (index, (name, _)) in operands.iter().enumerate() {
            let unknown = || OperandError::UnknownOperand { mnemonic, operand: (*name).to_owned() };
            let operand = spec.field(name).ok_or_else(unknown)?.name;
            if operands[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(OperandError::Duplicate { mnemonic, operand });
            }
        }
        let value_of = |field: &FieldSpec| {
            let given = operands.iter().find(|(name, _)| *name == field.name).map(|(_, value)| *value);
            let missing = OperandError::Missing { mnemonic, operand: field.name };
            given.or_else(|| field.default_value(cfg)).ok_or(missing)
        };
        let values = spec.fields.iter().map(value_of).collect::<Result<Vec<u64>, _>>()?;
        let encoded = encode_values(cfg, spec, &values)?;
        Self::from_rocc(cfg, encoded).ok_or_else(unknown)
    }

    /// The instruction word that sends the command from registers `rs1` and `rs2` (numbers 0 to 31); `rd` receives
    /// the response of a counter access.
    pub fn instruction(&self, opcode: Opcode, rd: u8, rs1: u8, rs2: u8) -> RoccInstruction {
        let spec = self.spec();
        RoccInstruction { opcode, funct: spec.funct, rd, rs1, rs2, xd: spec.has_response(), xs1: true, xs2: true }
    }
}

fn encode_values(cfg: &GemminiConfig, spec: &InstructionSpec, values: &[u64]) -> Result<RoccCommand, EncodeError> {
    let mnemonic = spec.mnemonic;
    if !spec.requires.is_met(cfg) {
        return Err(EncodeError::NotInBuild { mnemonic, requires: spec.requires.condition() });
    }
    let mut registers = (spec.subtype.unwrap_or_default().into(), 0);
    for (field, value) in spec.fields.iter().zip(values) {
        field.check(cfg, mnemonic, *value)?;
        registers = field.insert(registers, *value);
    }
    Ok(RoccCommand { funct: spec.funct, rs1: registers.0, rs2: registers.1 })
}
