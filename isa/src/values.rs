//! The types of single command fields.

use std::fmt;

use crate::local_addr::LocalAddr;

/// A field's type: every bit pattern of the field's width has a value, as in the hardware.
pub trait Bits: Copy {
    /// The value of these low bits.
    fn from_bits(bits: u64) -> Self;
    /// The bits of this value.
    fn to_bits(self) -> u64;
}

macro_rules! integer_bits {
    ($($ty:ty),*) => { $(
        impl Bits for $ty {
            fn from_bits(bits: u64) -> Self {
                bits as $ty
            }

            fn to_bits(self) -> u64 {
                self.into()
            }
        }
    )* };
}

integer_bits!(u8, u16, u32, u64);

impl Bits for bool {
    fn from_bits(bits: u64) -> Self {
        bits & 1 != 0
    }

    fn to_bits(self) -> u64 {
        self.into()
    }
}

impl Bits for i32 {
    fn from_bits(bits: u64) -> Self {
        bits as i32
    }

    fn to_bits(self) -> u64 {
        u64::from(self as u32)
    }
}

impl Bits for LocalAddr {
    fn from_bits(bits: u64) -> Self {
        LocalAddr(bits as u32)
    }

    fn to_bits(self) -> u64 {
        self.0.into()
    }
}

/// Names of a field's values: what the assembler accepts and the disassembler writes.
pub type ValueNames = &'static [(&'static str, u64)];

/// The dataflow that CONFIG_EX selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DataflowMode {
    /// Output-stationary: C stays in the array.
    #[default]
    Os = 0,
    /// Weight-stationary: B stays in the array.
    Ws = 1,
}

impl DataflowMode {
    /// Names of the values.
    pub const NAMES: ValueNames = &[("os", 0), ("ws", 1)];
}

impl Bits for DataflowMode {
    fn from_bits(bits: u64) -> Self {
        if bits & 1 == 0 { DataflowMode::Os } else { DataflowMode::Ws }
    }

    fn to_bits(self) -> u64 {
        self as u64
    }
}

/// Activation functions (`Activation.scala`). The codes 5 to 7 behave as [`Activation::None`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// The element itself.
    #[default]
    None = 0,
    /// Negative elements become zero.
    Relu = 1,
    /// The element minus its row's mean; scaled by the inverse standard deviation.
    Layernorm = 2,
    /// Integer GELU.
    Igelu = 3,
    /// Integer exponential of the element minus its row's maximum; scaled by the inverse of the sum.
    Softmax = 4,
}

impl Activation {
    /// Names of the values.
    pub const NAMES: ValueNames = &[("none", 0), ("relu", 1), ("layernorm", 2), ("igelu", 3), ("softmax", 4)];
    /// Names of the values that fit the two bits of CONFIG_EX, CONFIG_ST and LOOP_CONV_WS.
    pub const NAMES_2_BITS: ValueNames = Self::NAMES.split_at(4).0;

    /// Whether it needs the normalization units.
    pub fn needs_normalizations(self) -> bool {
        matches!(self, Activation::Layernorm | Activation::Igelu | Activation::Softmax)
    }
}

impl Bits for Activation {
    fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            1 => Activation::Relu,
            2 => Activation::Layernorm,
            3 => Activation::Igelu,
            4 => Activation::Softmax,
            _ => Activation::None,
        }
    }

    fn to_bits(self) -> u64 {
        self as u64
    }
}

/// What the normalizer does with a row (`NormCmd.scala`). Only [`NormCmd::Reset`] writes the row to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NormCmd {
    /// Output the row and clear the statistics.
    #[default]
    Reset = 0,
    /// Add the elements.
    Sum = 1,
    /// Add, then form the mean.
    Mean = 2,
    /// Add the squared distances from the mean.
    Variance = 3,
    /// Add, then form the inverse standard deviation.
    InvStddev = 4,
    /// Form the maximum.
    Max = 5,
    /// Add the exponentials.
    SumExp = 6,
    /// Add, then form the inverse of the sum.
    InvSumExp = 7,
}

impl NormCmd {
    /// Names of the values.
    pub const NAMES: ValueNames = &[
        ("reset", 0),
        ("sum", 1),
        ("mean", 2),
        ("variance", 3),
        ("inv_stddev", 4),
        ("max", 5),
        ("sum_exp", 6),
        ("inv_sum_exp", 7),
    ];

    /// The command on a block that is not the last of its row (`non_reset_version`).
    pub fn non_reset_version(self) -> Self {
        match self {
            NormCmd::Mean => NormCmd::Sum,
            NormCmd::InvStddev => NormCmd::Variance,
            NormCmd::InvSumExp => NormCmd::SumExp,
            other => other,
        }
    }

    /// Whether the normalizer divides for the row: its sum for the mean, the sum of squares for the variance, or 127 by the sum of
    /// exponentials.
    pub fn divides(self) -> bool {
        matches!(self, NormCmd::Mean | NormCmd::InvStddev | NormCmd::InvSumExp)
    }

    /// Whether the row is written to memory.
    pub fn writes_to_main_memory(self) -> bool {
        self == NormCmd::Reset
    }
}

impl Bits for NormCmd {
    fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => NormCmd::Reset,
            1 => NormCmd::Sum,
            2 => NormCmd::Mean,
            3 => NormCmd::Variance,
            4 => NormCmd::InvStddev,
            5 => NormCmd::Max,
            6 => NormCmd::SumExp,
            _ => NormCmd::InvSumExp,
        }
    }

    fn to_bits(self) -> u64 {
        self as u64
    }
}

/// The bits of a float32 scale factor. Comparison is of bits, so NaN equals itself and -0 is not +0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scale(pub u32);

impl Scale {
    /// 1.0: the identity.
    pub const IDENTITY: Scale = Scale(0x3f80_0000);
    /// All ones: CONFIG_ST leaves the accumulator scale as it is (`StoreController.scala`).
    pub const KEEP: Scale = Scale(u32::MAX);

    /// The factor as a number.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl From<f32> for Scale {
    fn from(factor: f32) -> Self {
        Scale(factor.to_bits())
    }
}

impl Bits for Scale {
    fn from_bits(bits: u64) -> Self {
        Scale(bits as u32)
    }

    fn to_bits(self) -> u64 {
        self.0.into()
    }
}

impl fmt::Debug for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scale({:#010x} = {})", self.0, self.to_f32())
    }
}
