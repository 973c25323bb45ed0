//! The types of the configuration's fields, and how each is written in TOML and in reports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The custom RISC-V opcode that carries the commands (`OpcodeSet`, rocket-chip `LazyRoCC.scala`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opcode {
    /// 0x0b.
    Custom0,
    /// 0x2b.
    Custom1,
    /// 0x5b.
    Custom2,
    /// 0x7b, Gemmini's.
    Custom3,
}

impl Opcode {
    /// All four, in the order of the header's `XCUSTOM_ACC` number.
    pub const ALL: [Opcode; 4] = [Opcode::Custom0, Opcode::Custom1, Opcode::Custom2, Opcode::Custom3];

    /// The low seven bits of the instruction word.
    pub fn bits(self) -> u32 {
        match self {
            Opcode::Custom0 => 0x0b,
            Opcode::Custom1 => 0x2b,
            Opcode::Custom2 => 0x5b,
            Opcode::Custom3 => 0x7b,
        }
    }

    /// The opcode with these seven bits, if it is a custom one.
    pub fn from_bits(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| opcode.bits() == bits)
    }
}

/// A signed integer element type, written `SInt<8>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SInt {
    /// Width in bits.
    pub bits: u32,
}

impl SInt {
    /// A signed integer of `bits` bits.
    pub const fn new(bits: u32) -> Self {
        Self { bits }
    }

    /// Size in memory, in bytes.
    pub const fn bytes(self) -> u32 {
        self.bits / 8
    }
}

/// The multiplicand of a scaling unit: IEEE-754 single precision, written `Float<8, 24>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Multiplicand {
    /// 8 exponent bits, 24 significand bits.
    #[serde(rename = "Float<8, 24>")]
    Float32,
}

impl Multiplicand {
    /// Width of the scale field in a configuration command.
    pub const fn bits(self) -> u32 {
        32
    }
}

/// Which dataflows the processing elements support (`Dataflow.scala`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataflow {
    /// Output-stationary only.
    Os,
    /// Weight-stationary only.
    Ws,
    /// Chosen at run time by CONFIG_EX.
    Both,
}

/// Size of the scratchpad or the accumulator (`GemminiMemCapacity`), written `256 KiB` or `64 matrices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Capacity {
    /// In units of 1024 bytes.
    Kilobytes(u32),
    /// In DIM x DIM matrices.
    Matrices(u32),
}

/// How many multipliers a scaling unit has (`num_scale_units`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum ScaleUnits {
    /// One for each column of the array (-1 in the generator).
    PerColumn,
    /// This many, shared by the columns.
    Count(u32),
}

/// A scaling unit (`ScaleArguments`, `GemminiConfigs.scala`): multiply by a float32, round to nearest even, saturate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleArgs {
    /// Type of the factor.
    pub multiplicand: Multiplicand,
    /// Cycles from input to output.
    pub latency: u32,
    /// Number of multipliers.
    pub units: ScaleUnits,
    /// The factor that changes nothing.
    pub identity: f32,
}

/// What the function `iexp` of the normalization units computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpVariant {
    /// The body at commit 8c3f992: the polynomial of the integer GELU, so that softmax results are mostly saturated.
    #[serde(rename = "polynomial_8c3f992")]
    Polynomial8c3f992,
    /// The integer exponential of the released revision 25809f7:
    /// `q' = q + z*qln2` with `z = (-q*qln2_inv) >> 16` saturated to 32, result `((q'+qb)^2 + qc) >> z`.
    Released,
}

/// How the core's programs lay out the commands of the loops, which changed from revision to revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLayout {
    /// That of commit 8c3f992.
    #[default]
    Current,
    /// That of March to May 2023 (`LoopConv.scala` and `LoopMatmul.scala` at commit d48db37): square images without
    /// strides of their own, no operand reuse, no residual addition.
    #[serde(rename = "march_2023")]
    March2023,
}

/// Whose registers the hardware has, where a difference costs cycles. Values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revision {
    /// Those of commit 8c3f992.
    #[default]
    Current,
    /// Those of March to May 2023 (commit 7c16dcf). Three things came later:
    ///
    /// * queues behind the scratchpad's banks, in place of `spad_read_delay` registers, which each row passes one by one
    ///   (`Scratchpad.scala`, dffcfd1);
    /// * a queue of two in front of the scalers of loads (`VectorScalarMultiplier.scala`, 08cfde9);
    /// * stores that wait for the completion of those before, not only for their issue (`ReservationStation.scala`, dffcfd1).
    #[serde(rename = "march_2023")]
    March2023,
}

impl Revision {
    /// Whether it is the one that configurations need not say.
    pub(crate) fn is_current(&self) -> bool {
        *self == Self::Current
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Revision::Current => "current",
            Revision::March2023 => "march_2023",
        })
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = Self::ALL.iter().position(|o| o == self).unwrap_or_default();
        write!(f, "custom{index} (0x{:02x})", self.bits())
    }
}

impl fmt::Display for SInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SInt<{}>", self.bits)
    }
}

impl FromStr for SInt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("SInt<")
            .and_then(|rest| rest.strip_suffix('>'))
            .and_then(|bits| bits.trim().parse().ok())
            .map(Self::new)
            .ok_or_else(|| format!("`{text}` is not an element type: write `SInt<8>` (float builds are not supported)"))
    }
}

impl fmt::Display for Dataflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dataflow::Os => "OS",
            Dataflow::Ws => "WS",
            Dataflow::Both => "BOTH",
        })
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capacity::Kilobytes(n) => write!(f, "{n} KiB"),
            Capacity::Matrices(n) => write!(f, "{n} matrices"),
        }
    }
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |number: &str| number.trim().parse().ok();
        let kilobytes = text.strip_suffix("KiB").and_then(parse).map(Capacity::Kilobytes);
        kilobytes
            .or_else(|| text.strip_suffix("matrices").and_then(parse).map(Capacity::Matrices))
            .ok_or_else(|| format!("`{text}` is not a capacity: write `256 KiB` or `64 matrices`"))
    }
}

impl fmt::Display for ScaleArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units: i64 = self.units.into();
        write!(f, "Float<8, 24>; latency {}; scale units {units}; identity {:?}", self.latency, self.identity)
    }
}

impl CommandLayout {
    /// Whether it is that of the programs that Pollux makes, which configurations need not say.
    pub(crate) fn is_current(&self) -> bool {
        *self == Self::Current
    }
}

impl fmt::Display for CommandLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CommandLayout::Current => "current",
            CommandLayout::March2023 => "march_2023",
        })
    }
}

impl fmt::Display for ExpVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExpVariant::Polynomial8c3f992 => "polynomial_8c3f992",
            ExpVariant::Released => "released",
        })
    }
}

impl From<ScaleUnits> for i64 {
    fn from(units: ScaleUnits) -> i64 {
        match units {
            ScaleUnits::PerColumn => -1,
            ScaleUnits::Count(n) => n.into(),
        }
    }
}

impl TryFrom<i64> for ScaleUnits {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match u32::try_from(number) {
            _ if number == -1 => Ok(ScaleUnits::PerColumn),
            Ok(n) if n > 0 => Ok(ScaleUnits::Count(n)),
            _ => Err(format!("{number} scale units: write -1 (one for each column) or a positive number")),
        }
    }
}

macro_rules! string_form {
    ($($ty:ident),*) => { $(
        impl TryFrom<String> for $ty {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$ty> for String {
            fn from(value: $ty) -> String {
                value.to_string()
            }
        }
    )* };
}

string_form!(SInt, Capacity);

/// Text of a configuration value in reports and in the canonical form that the digest covers.
pub(super) trait Setting {
    /// The value's text.
    fn text(&self) -> String;
}

macro_rules! settings {
    ($($ty:ty),*) => { $(
        impl Setting for $ty {
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

settings!(bool, u32, u64, Opcode, SInt, Dataflow, Capacity, ScaleArgs, ExpVariant, CommandLayout, Revision);

impl<T: Setting> Setting for Option<T> {
    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "None".to_owned(), T::text)
    }
}
