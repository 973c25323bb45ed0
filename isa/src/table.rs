//! The instruction table: what an instruction is called, where its operands are and what they mean.
//!
//! [`INSTRUCTIONS`] is the only description of the encodings. [`crate::fields`] and [`crate::command`] hold its rows,
//! each of which also defines the typed struct or variant; the assembler, the help text and the manual read it.

use std::fmt::Write as _;

use thiserror::Error;

pub use crate::command::INSTRUCTIONS;
use crate::config::{CORE_MAX_ADDR_BITS, GemminiConfig, log2_up};
use crate::local_addr::LocalAddr;
use crate::rocc::RoccCommand;
use crate::values::ValueNames;

/// One of the two 64-bit source registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Register {
    /// First.
    Rs1,
    /// Second.
    Rs2,
}

impl Register {
    /// `rs1` or `rs2`.
    pub fn name(self) -> &'static str {
        match self {
            Register::Rs1 => "rs1",
            Register::Rs2 => "rs2",
        }
    }
}

/// How a field's bits are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A non-negative number.
    Unsigned,
    /// A 32-bit number in two's complement.
    Signed,
    /// One bit.
    Flag,
    /// The bits of a float32.
    Float32,
    /// A number with named values.
    Named(ValueNames),
    /// A [`crate::LocalAddr`].
    LocalAddress,
    /// A byte address in main memory.
    DramAddress,
}

/// A number that may depend on the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Always this number.
    Fixed(u64),
    /// DIM.
    Dim,
    /// DIM - 1.
    DimLess1,
    /// Columns that one MVIN or MVOUT can move.
    MoveCols,
    /// Bits of a row count.
    DimCountBits,
    /// Bits of an MVIN's or MVOUT's column count.
    MoveColsBits,
    /// Bits of a block stride.
    BlockStrideBits,
    /// Bits of pixel repeats.
    PixelRepeatsBits,
    /// Largest number of pixel repeats.
    PixelRepeats,
    /// Bits of the scale of loads.
    MvinScaleBits,
    /// Bits of the scale of accumulator reads.
    AccScaleBits,
    /// Bits of the shift of OS results.
    InShiftBits,
    /// Bits of an accumulator element.
    AccBits,
    /// Bits of a main memory address or stride in the command path.
    CoreAddrBits,
    /// Bits of a scratchpad row index.
    SpRowBits,
    /// Bits of an index one past a scratchpad row.
    SpEndBits,
    /// Scratchpad rows.
    SpRows,
    /// Bits of a counter index.
    CounterIndexBits,
    /// Index of the last counter.
    LastCounter,
}

impl Quantity {
    /// The number in this configuration.
    pub const fn of(self, cfg: &GemminiConfig) -> u64 {
        (match self {
            Quantity::Fixed(n) => return n,
            Quantity::Dim => cfg.dim(),
            Quantity::DimLess1 => cfg.dim() - 1,
            Quantity::MoveCols => cfg.max_move_cols(),
            Quantity::DimCountBits => cfg.dim_count_bits(),
            Quantity::MoveColsBits => cfg.mvin_cols_bits(),
            Quantity::BlockStrideBits => cfg.block_stride_bits(),
            Quantity::PixelRepeatsBits => cfg.pixel_repeats_bits(),
            Quantity::PixelRepeats if !cfg.has_first_layer_optimizations => 1,
            Quantity::PixelRepeats => (1 << cfg.pixel_repeats_bits()) - 1,
            Quantity::MvinScaleBits => cfg.mvin_scale_bits(),
            Quantity::AccScaleBits => cfg.acc_scale_bits(),
            Quantity::InShiftBits => cfg.in_shift_bits(),
            Quantity::AccBits => cfg.acc_type.bits,
            Quantity::CoreAddrBits => CORE_MAX_ADDR_BITS,
            Quantity::SpRowBits => log2_up(cfg.sp_rows() as u64),
            Quantity::SpEndBits => log2_up(cfg.sp_rows() as u64 + 1),
            Quantity::SpRows => cfg.sp_rows(),
            Quantity::CounterIndexBits => cfg.counter_index_bits(),
            Quantity::LastCounter => cfg.num_counter.saturating_sub(1),
        }) as u64
    }
}

/// What a field can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Influence {
    /// Values and cycles, as far as is known.
    Cycles,
    /// Only the values that are computed.
    Values,
    /// Values; and cycles by being the identity or not (`VectorScalarMultiplier.scala`).
    Identity,
}

/// An operand field of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// Operand name in assembly, and name of the struct's field.
    pub name: &'static str,
    /// Register that holds it.
    pub register: Register,
    /// Lowest bit.
    pub lsb: u32,
    /// Bits reserved for it in the encoding.
    pub width: u32,
    /// Low bits of those that the hardware keeps.
    pub kept: Option<Quantity>,
    /// How to read it.
    pub kind: FieldKind,
    /// Largest legal value, if less than all kept bits set.
    pub max: Option<Quantity>,
    /// Rows or columns of the operand whose local address is in the low half of the same register.
    pub is_extent: bool,
    /// What it can change.
    pub influence: Influence,
    /// Value that assembly may leave out.
    pub default: Option<Quantity>,
    /// One sentence for people.
    pub meaning: &'static str,
}

const fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// Construction, in constant context: a row of the table reads `rs1(4, 3).max(Fixed(2))`.
impl FieldSpec {
    pub(crate) const fn new(register: Register, msb: u32, lsb: u32) -> Self {
        Self {
            name: "",
            register,
            lsb,
            width: msb - lsb + 1,
            kept: None,
            kind: if msb == lsb { FieldKind::Flag } else { FieldKind::Unsigned },
            max: None,
            is_extent: false,
            influence: Influence::Cycles,
            default: if msb == lsb { Some(Quantity::Fixed(0)) } else { None },
            meaning: "",
        }
    }

    pub(crate) const fn kind(self, kind: FieldKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) const fn named(self, names: ValueNames) -> Self {
        Self { kind: FieldKind::Named(names), max: Some(Quantity::Fixed(names.len() as u64 - 1)), ..self }
    }

    pub(crate) const fn keep(self, bits: Quantity) -> Self {
        Self { kept: Some(bits), ..self }
    }

    pub(crate) const fn max(self, max: Quantity) -> Self {
        Self { max: Some(max), ..self }
    }

    pub(crate) const fn influence(self, influence: Influence) -> Self {
        Self { influence, ..self }
    }

    pub(crate) const fn extent(self) -> Self {
        Self { is_extent: true, ..self }
    }

    pub(crate) const fn or(self, default: u64) -> Self {
        Self { default: Some(Quantity::Fixed(default)), ..self }
    }

    pub(crate) const fn required(self) -> Self {
        Self { default: None, ..self }
    }

    pub(crate) const fn or_dim(self) -> Self {
        Self { default: Some(Quantity::Dim), ..self }
    }

    pub(crate) const fn finish(self, name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning, ..self }
    }
}

/// A value that a field cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{mnemonic}: {field} = {value} is not allowed: it must be {allowed}")]
pub struct FieldError {
    /// Instruction.
    pub mnemonic: &'static str,
    /// Operand.
    pub field: &'static str,
    /// The value, in the field's full width.
    pub value: u64,
    /// What is allowed in this configuration.
    pub allowed: Allowed,
}

/// The legal values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{min} to {max}{}", names(.kind))]
pub struct Allowed {
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
    /// The field's kind, for the names of the values.
    pub kind: FieldKind,
}

fn names(kind: &FieldKind) -> String {
    match kind {
        FieldKind::Named(names) => {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            format!(" ({})", names.join(", "))
        }
        _ => String::new(),
    }
}

/// Extraction, insertion and checks.
impl FieldSpec {
    /// Highest bit.
    pub const fn msb(&self) -> u32 {
        self.lsb + self.width - 1
    }

    /// Bits that the hardware keeps.
    pub const fn kept_bits(&self, cfg: &GemminiConfig) -> u32 {
        match self.kept {
            Some(bits) if bits.of(cfg) < self.width as u64 => bits.of(cfg) as u32,
            _ => self.width,
        }
    }

    const fn select(&self, rs1: u64, rs2: u64) -> u64 {
        let register = match self.register {
            Register::Rs1 => rs1,
            Register::Rs2 => rs2,
        };
        register >> self.lsb
    }

    /// The field's full width in the registers.
    pub const fn encoded(&self, rs1: u64, rs2: u64) -> u64 {
        self.select(rs1, rs2) & mask(self.width)
    }

    /// What the hardware keeps of the field.
    pub const fn extract(&self, cfg: &GemminiConfig, rs1: u64, rs2: u64) -> u64 {
        self.select(rs1, rs2) & mask(self.kept_bits(cfg))
    }

    /// Whether the field says the size of an operand that is at the garbage address: then it says nothing.
    pub fn is_unused(&self, cfg: &GemminiConfig, rs1: u64, rs2: u64) -> bool {
        let register = match self.register {
            Register::Rs1 => rs1,
            Register::Rs2 => rs2,
        };
        self.is_extent && LocalAddr(register as u32).is_garbage(cfg.layout())
    }

    /// The registers `(rs1, rs2)` with the value put into the field.
    pub const fn insert(&self, registers: (u64, u64), value: u64) -> (u64, u64) {
        let bits = (value & mask(self.width)) << self.lsb;
        match self.register {
            Register::Rs1 => (registers.0 | bits, registers.1),
            Register::Rs2 => (registers.0, registers.1 | bits),
        }
    }

    /// Smallest and largest legal value in this configuration.
    pub fn allowed(&self, cfg: &GemminiConfig) -> Allowed {
        let kept = mask(self.kept_bits(cfg));
        let max = self.max.map_or(kept, |max| max.of(cfg).min(kept));
        Allowed { min: 0, max, kind: self.kind }
    }

    /// Value that assembly may leave out. Where the build keeps fewer bits than the default has (the scale of a build
    /// without a scaler), the field means nothing and the default is 0.
    pub fn default_value(&self, cfg: &GemminiConfig) -> Option<u64> {
        let value = self.default?.of(cfg);
        Some(if value <= self.allowed(cfg).max { value } else { 0 })
    }

    /// Checks a value for this field.
    ///
    /// # Errors
    /// The value is outside [`FieldSpec::allowed`].
    pub fn check(&self, cfg: &GemminiConfig, mnemonic: &'static str, value: u64) -> Result<(), FieldError> {
        let allowed = self.allowed(cfg);
        if (allowed.min..=allowed.max).contains(&value) {
            Ok(())
        } else {
            Err(FieldError { mnemonic, field: self.name, value, allowed })
        }
    }

    /// The value that this name stands for in a field with named values.
    pub fn value_of(&self, name: &str) -> Option<u64> {
        match self.kind {
            FieldKind::Named(names) => names.iter().find(|(n, _)| *n == name).map(|(_, value)| *value),
            _ => None,
        }
    }

    /// The name of a value in a field with named values.
    pub fn name_of(&self, value: u64) -> Option<&'static str> {
        match self.kind {
            FieldKind::Named(names) => names.iter().find(|(_, v)| *v == value).map(|(name, _)| *name),
            _ => None,
        }
    }
}

/// Which part of the accelerator executes an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Load controller.
    Load,
    /// Execute controller.
    Execute,
    /// Store controller.
    Store,
    /// The command path itself, before the reservation station.
    FrontEnd,
    /// The matrix multiplication unroller (`LoopMatmul`).
    LoopWs,
    /// The convolution unroller (`LoopConv`).
    LoopConv,
}

impl Class {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Class::Load => "load",
            Class::Execute => "execute",
            Class::Store => "store",
            Class::FrontEnd => "front end",
            Class::LoopWs => "matmul unroller",
            Class::LoopConv => "convolution unroller",
        }
    }
}

/// What a configuration must have for an instruction to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// Nothing.
    None,
    /// `has_normalizations`.
    Normalizations,
    /// `has_loop_conv`.
    LoopConv,
    /// `num_counter` of at least one.
    Counters,
}

impl Requirement {
    /// Whether the configuration has it.
    pub fn is_met(self, cfg: &GemminiConfig) -> bool {
        match self {
            Requirement::None => true,
            Requirement::Normalizations => cfg.has_normalizations,
            Requirement::LoopConv => cfg.has_loop_conv,
            Requirement::Counters => cfg.num_counter > 0,
        }
    }

    /// The configuration field, as a condition.
    pub fn condition(self) -> &'static str {
        match self {
            Requirement::None => "nothing",
            Requirement::Normalizations => "has_normalizations = true",
            Requirement::LoopConv => "has_loop_conv = true",
            Requirement::Counters => "num_counter >= 1",
        }
    }
}

/// What a command's cycles depend on: see [`RoccCommand::without_values`].
#[derive(Clone, Copy)]
struct TimingRow {
    /// Bits of the two registers that only change values.
    values: [u64; 2],
    /// Bits of rs1 that are compared with the identity.
    identity: u64,
    /// Registers that hold a main memory address.
    dram: [bool; 2],
}

const fn timing_row(fields: &[FieldSpec]) -> TimingRow {
    let mut row = TimingRow { values: [0; 2], identity: 0, dram: [false; 2] };
    let mut i = 0;
    while i < fields.len() {
        let field = &fields[i];
        let bits = mask(field.width) << field.lsb;
        let register = field.register as usize;
        match field.influence {
            Influence::Cycles => {}
            Influence::Values => row.values[register] |= bits,
            Influence::Identity => {
                assert!(matches!(field.register, Register::Rs1), "only rs1 is looked at");
                assert!(field.width <= 32, "a scale has 32 bits at most");
                row.identity |= bits;
            }
        }
        if matches!(field.kind, FieldKind::DramAddress) {
            row.dram[register] = true;
        }
        i += 1;
    }
    row
}

/// By function and the low two bits of rs1.
static TIMING: [[TimingRow; 4]; 128] = {
    let mut rows = [[timing_row(&[]); 4]; 128];
    let mut i = 0;
    while i < INSTRUCTIONS.len() {
        let spec = &INSTRUCTIONS[i];
        let row = timing_row(spec.fields);
        match spec.subtype {
            Some(subtype) => rows[spec.funct as usize][subtype as usize] = row,
            None => rows[spec.funct as usize] = [row; 4],
        }
        i += 1;
    }
    rows
};

/// What cycles depend on.
impl RoccCommand {
    fn timing(&self) -> &'static TimingRow {
        &TIMING[usize::from(self.funct & 127)][usize::from(self.subtype())]
    }

    /// Which of the registers hold a main memory address.
    #[inline]
    pub fn dram_registers(&self) -> [bool; 2] {
        self.timing().dram
    }

    /// Bits of the scale that the command gives to loads; nothing if it configures none.
    #[inline]
    pub fn load_scale(&self) -> Option<u32> {
        let scale = self.timing().identity;
        (scale != 0).then(|| ((self.rs1 & scale) >> scale.trailing_zeros()) as u32)
    }

    /// The command without what only changes values: two commands that are equal then take the same cycles.
    ///
    /// `identity` holds the bits of the scale that loads with a shared scaler pass on unscaled; any other scale becomes 0.
    #[must_use]
    pub fn without_values(&self, identity: Option<u32>) -> Self {
        let TimingRow { values, identity: scale, .. } = self.timing();
        let mut rs1 = self.rs1 & !values[0];
        if self.load_scale() != identity {
            rs1 &= !scale;
        }
        Self { funct: self.funct, rs1, rs2: self.rs2 & !values[1] }
    }
}

/// A row of the instruction table.
#[derive(Debug, Clone, Copy)]
pub struct InstructionSpec {
    /// Name in assembly.
    pub mnemonic: &'static str,
    /// Name in Gemmini's sources (`GemminiISA.scala`).
    pub gemmini_name: &'static str,
    /// Function number.
    pub funct: u8,
    /// For CONFIG (funct 0): the low two bits of rs1.
    pub subtype: Option<u8>,
    /// Who executes it.
    pub class: Class,
    /// What it needs.
    pub requires: Requirement,
    /// Operands.
    pub fields: &'static [FieldSpec],
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// Gemmini file that implements it.
    pub source: &'static str,
}

impl InstructionSpec {
    /// The operand of this name.
    pub fn field(&self, name: &str) -> Option<&'static FieldSpec> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Bits of (rs1, rs2) that the instruction defines; software should leave the others zero.
    pub fn defined_bits(&self) -> (u64, u64) {
        let subtype = self.subtype.map_or(0, |_| 3);
        self.fields.iter().fold((subtype, 0), |bits, field| field.insert(bits, u64::MAX))
    }

    /// Whether the instruction writes a result register.
    pub fn has_response(&self) -> bool {
        self.gemmini_name == "COUNTER_OP"
    }
}

/// The instruction that a command is, if its function exists.
pub fn lookup(command: RoccCommand) -> Option<&'static InstructionSpec> {
    let subtype = command.subtype();
    INSTRUCTIONS
        .iter()
        .find(|spec| spec.funct == command.funct && spec.subtype.is_none_or(|expected| expected == subtype))
}

/// The instruction of this mnemonic.
pub fn by_mnemonic(mnemonic: &str) -> Option<&'static InstructionSpec> {
    INSTRUCTIONS.iter().find(|spec| spec.mnemonic == mnemonic)
}

/// The instruction table as Markdown, with the bit ranges and limits of one configuration.
pub fn markdown(cfg: &GemminiConfig) -> String {
    let mut out = String::new();
    out.push_str("| mnemonic | funct | executed by | Gemmini's name | what it does |\n|---|---|---|---|---|\n");
    for spec in INSTRUCTIONS {
        let (mnemonic, class, meaning) = (spec.mnemonic, spec.class.name(), spec.meaning);
        let _ = writeln!(
            out,
            "| [`{mnemonic}`](#{mnemonic}) | {} | {class} | {} | {meaning} |",
            funct_text(spec),
            spec.gemmini_name
        );
    }
    for spec in INSTRUCTIONS {
        out.push_str(&instruction_markdown(cfg, spec));
    }
    out
}

fn funct_text(spec: &InstructionSpec) -> String {
    match spec.subtype {
        Some(subtype) => format!("{}, rs1\\[1:0\\] = {subtype}", spec.funct),
        None => spec.funct.to_string(),
    }
}

fn instruction_markdown(cfg: &GemminiConfig, spec: &InstructionSpec) -> String {
    let mut out =
        format!("\n### `{}`\n\n{}\n\nfunct {}; {}", spec.mnemonic, spec.meaning, funct_text(spec), spec.source);
    if spec.requires != Requirement::None {
        let _ = write!(out, "; needs `{}`", spec.requires.condition());
    }
    out.push_str(".\n");
    if !spec.fields.is_empty() {
        out.push_str("\n| operand | bits | kept | values | default | meaning |\n|---|---|---|---|---|---|\n");
    }
    for field in spec.fields {
        let allowed = field.allowed(cfg);
        let default = field.default_value(cfg).map_or_else(|| "required".to_owned(), |value| value_text(field, value));
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} |",
            field.name,
            bit_range(field),
            field.kept_bits(cfg),
            allowed_text(field, &allowed),
            default,
            field.meaning
        );
    }
    out
}

fn bit_range(field: &FieldSpec) -> String {
    let register = field.register.name();
    match field.width {
        1 => format!("{register}\\[{}\\]", field.lsb),
        _ => format!("{register}\\[{}:{}\\]", field.msb(), field.lsb),
    }
}

fn allowed_text(field: &FieldSpec, allowed: &Allowed) -> String {
    match field.kind {
        FieldKind::Flag => "flag".to_owned(),
        FieldKind::Float32 => "float32".to_owned(),
        FieldKind::LocalAddress => "local address".to_owned(),
        FieldKind::DramAddress => "byte address".to_owned(),
        FieldKind::Signed => "int32".to_owned(),
        FieldKind::Named(names) => {
            let names: Vec<String> = names.iter().map(|(name, value)| format!("{value} `{name}`")).collect();
            names.join(", ")
        }
        FieldKind::Unsigned => format!("{} to {}", allowed.min, allowed.max),
    }
}

fn value_text(field: &FieldSpec, value: u64) -> String {
    match field.kind {
        FieldKind::Float32 => format!("{:?}", f32::from_bits(value as u32)),
        FieldKind::LocalAddress => "garbage".to_owned(),
        _ => field.name_of(value).map_or_else(|| value.to_string(), |name| format!("`{name}`")),
    }
}
