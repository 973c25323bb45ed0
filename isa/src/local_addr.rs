//! Local addresses: rows of the scratchpad and of the accumulator (`LocalAddr.scala`).

use std::fmt;

use crate::config::log2_up;
use crate::values::{Bits, NormCmd};

/// Control bits above the row index: is_acc, accumulate, read_full, norm_cmd.
pub(crate) const METADATA_BITS: u32 = 6;

const IS_ACC: u32 = 1 << 31;
const ACCUMULATE: u32 = 1 << 30;
const READ_FULL: u32 = 1 << 29;
const NORM_CMD_LSB: u32 = 26;

/// How the data bits of a [`LocalAddr`] divide into bank and row; a function of the configuration
/// ([`crate::GemminiConfig::layout`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressLayout {
    /// Bits that index a scratchpad row.
    pub sp_addr_bits: u32,
    /// Bits that index an accumulator row.
    pub acc_addr_bits: u32,
    /// Bits of the data field: the larger of the two.
    pub max_addr_bits: u32,
    /// Low bits of `sp_addr_bits` that index a row inside a bank.
    pub sp_bank_row_bits: u32,
    /// Low bits of `acc_addr_bits` that index a row inside a bank.
    pub acc_bank_row_bits: u32,
    /// Rows of the scratchpad.
    pub sp_rows: u32,
    /// Rows of the accumulator.
    pub acc_rows: u32,
}

impl AddressLayout {
    /// Layout for these numbers of banks and of rows in a bank.
    pub const fn new(sp_banks: u32, sp_bank_entries: u32, acc_banks: u32, acc_bank_entries: u32) -> Self {
        let sp_rows = sp_banks.saturating_mul(sp_bank_entries);
        let acc_rows = acc_banks.saturating_mul(acc_bank_entries);
        let (sp_addr_bits, acc_addr_bits) = (log2_up(sp_rows as u64), log2_up(acc_rows as u64));
        Self {
            sp_addr_bits,
            acc_addr_bits,
            max_addr_bits: if sp_addr_bits > acc_addr_bits { sp_addr_bits } else { acc_addr_bits },
            sp_bank_row_bits: log2_up(sp_bank_entries as u64),
            acc_bank_row_bits: log2_up(acc_bank_entries as u64),
            sp_rows,
            acc_rows,
        }
    }

    const fn data_mask(self) -> u32 {
        (1 << self.max_addr_bits) - 1
    }

    /// Bits of a row index in the memory that `addr` points into.
    const fn memory_bits(self, addr: LocalAddr) -> u32 {
        if addr.is_acc() { self.acc_addr_bits } else { self.sp_addr_bits }
    }
}

/// A 32-bit local address. Bits above the configuration's row index that are not control bits are fillers: kept, but
/// never compared.
///
/// | bits | field |
/// |---|---|
/// | 31 | accumulator (1) or scratchpad (0) |
/// | 30 | accumulate: add to the row instead of overwriting it (accumulator writes) |
/// | 29 | read_full: MVOUT moves raw accumulator elements |
/// | 28:26 | normalization command (MVOUT) |
/// | `max_addr_bits` | garbage bit |
/// | `max_addr_bits`-1:0 | row |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LocalAddr(pub u32);

/// Construction.
impl LocalAddr {
    /// No address: an operand of zeros, or a result that is thrown away.
    pub const GARBAGE: LocalAddr = LocalAddr(u32::MAX);

    /// Row `row` of the scratchpad.
    pub const fn scratchpad(row: u32) -> Self {
        LocalAddr(row)
    }

    /// Row `row` of the accumulator, to be overwritten or read scaled.
    pub const fn accumulator(row: u32) -> Self {
        LocalAddr(IS_ACC | row)
    }

    /// The address with the accumulate bit set.
    pub const fn with_accumulate(self) -> Self {
        LocalAddr(self.0 | ACCUMULATE)
    }

    /// The address with the read_full bit set.
    pub const fn with_full(self) -> Self {
        LocalAddr(self.0 | READ_FULL)
    }

    /// The address with this normalization command.
    pub const fn with_norm_cmd(self, cmd: NormCmd) -> Self {
        LocalAddr(self.0 & !(7 << NORM_CMD_LSB) | (cmd as u32) << NORM_CMD_LSB)
    }

    /// The address with its row replaced, modulo the data field's size.
    pub const fn with_data(self, layout: AddressLayout, data: u32) -> Self {
        LocalAddr(self.0 & !layout.data_mask() | data & layout.data_mask())
    }
}

/// Fields.
impl LocalAddr {
    /// Whether it points into the accumulator.
    pub const fn is_acc(self) -> bool {
        self.0 & IS_ACC != 0
    }

    /// Whether a write adds to the accumulator row.
    pub const fn accumulate(self) -> bool {
        self.0 & ACCUMULATE != 0
    }

    /// Whether a read delivers raw accumulator elements.
    pub const fn read_full(self) -> bool {
        self.0 & READ_FULL != 0
    }

    /// The normalization command of an MVOUT.
    pub fn norm_cmd(self) -> NormCmd {
        NormCmd::from_bits((self.0 >> NORM_CMD_LSB).into())
    }

    /// The row index, `max_addr_bits` wide.
    pub const fn data(self, layout: AddressLayout) -> u32 {
        self.0 & layout.data_mask()
    }

    /// Whether this is the garbage address (the normalization command and the fillers do not matter).
    pub const fn is_garbage(self, layout: AddressLayout) -> bool {
        let ones = IS_ACC | ACCUMULATE | READ_FULL | 1 << layout.max_addr_bits | layout.data_mask();
        self.0 & ones == ones
    }

    /// Row index in the scratchpad (`full_sp_addr`).
    pub const fn full_sp_addr(self, layout: AddressLayout) -> u32 {
        self.0 & ((1 << layout.sp_addr_bits) - 1)
    }

    /// Row index in the accumulator (`full_acc_addr`).
    pub const fn full_acc_addr(self, layout: AddressLayout) -> u32 {
        self.0 & ((1 << layout.acc_addr_bits) - 1)
    }

    /// Scratchpad bank.
    pub const fn sp_bank(self, layout: AddressLayout) -> u32 {
        self.full_sp_addr(layout) >> layout.sp_bank_row_bits
    }

    /// Row inside the scratchpad bank.
    pub const fn sp_row(self, layout: AddressLayout) -> u32 {
        self.0 & ((1 << layout.sp_bank_row_bits) - 1)
    }

    /// Accumulator bank.
    pub const fn acc_bank(self, layout: AddressLayout) -> u32 {
        self.full_acc_addr(layout) >> layout.acc_bank_row_bits
    }

    /// Row inside the accumulator bank.
    pub const fn acc_row(self, layout: AddressLayout) -> u32 {
        self.0 & ((1 << layout.acc_bank_row_bits) - 1)
    }
}

/// Arithmetic and comparison, as the hardware does them.
impl LocalAddr {
    /// `+`: only the row changes, modulo the data field's size.
    pub const fn add(self, layout: AddressLayout, rows: u32) -> Self {
        self.with_data(layout, self.data(layout).wrapping_add(rows))
    }

    /// `add_with_overflow`: the sum, and the one bit of it just above the memory's row index. A sum beyond twice the
    /// memory can therefore read as "no overflow".
    pub const fn add_with_overflow(self, layout: AddressLayout, rows: u32) -> (Self, bool) {
        let sum = self.data(layout) as u64 + rows as u64;
        let overflow = sum >> layout.memory_bits(self) & 1 != 0;
        (self.with_data(layout, sum as u32), overflow)
    }

    /// `floorSub`: `rows` less, but not below `floor`, and whether that limit was met. Only for scratchpad addresses.
    pub const fn floor_sub(self, layout: AddressLayout, rows: u32, floor: u32) -> (Self, bool) {
        let underflow = (self.data(layout) as u64) < floor as u64 + rows as u64;
        let row = if underflow { floor } else { self.data(layout) - rows };
        (self.with_data(layout, row), underflow)
    }

    /// `is_same_address`: same memory and same row, all data bits.
    pub const fn same_address(self, layout: AddressLayout, other: Self) -> bool {
        self.is_acc() == other.is_acc() && self.data(layout) == other.data(layout)
    }

    /// `<`: false between different memories.
    pub const fn lt(self, layout: AddressLayout, other: Self) -> bool {
        self.is_acc() == other.is_acc() && self.memory_row(layout) < other.memory_row(layout)
    }

    /// `<=`: false between different memories.
    pub const fn le(self, layout: AddressLayout, other: Self) -> bool {
        self.is_acc() == other.is_acc() && self.memory_row(layout) <= other.memory_row(layout)
    }

    /// `>`: false between different memories.
    pub const fn gt(self, layout: AddressLayout, other: Self) -> bool {
        other.lt(layout, self)
    }

    /// Row index in the memory that it points into, without the data bits that this memory ignores.
    pub const fn memory_row(self, layout: AddressLayout) -> u32 {
        self.0 & ((1 << layout.memory_bits(self)) - 1)
    }
}

impl fmt::Debug for LocalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalAddr({:#010x})", self.0)
    }
}
