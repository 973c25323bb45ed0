//! The local rows that a command covers (`OpT` in `ReservationStation.scala`), and whether two commands meet.

use pollux_isa::{AddressLayout, LocalAddr};

use crate::parts::canonical::Canonical;

/// A local row in the order of `LocalAddr`: memory in the top bit, row below. Rows of different memories have no order.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct Row(u32);

impl Row {
    const IS_ACC: u32 = 1 << 31;

    fn of(layout: AddressLayout, address: LocalAddr) -> Self {
        Self(if address.is_acc() { Self::IS_ACC } else { 0 } | address.memory_row(layout))
    }

    fn same_memory(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::IS_ACC == 0
    }

    fn le(self, other: Self) -> bool {
        self.same_memory(other) && self.0 <= other.0
    }

    fn lt(self, other: Self) -> bool {
        self.same_memory(other) && self.0 < other.0
    }
}

/// The local rows that an operand covers (`OpT`).
#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(super) struct Operand {
    start: Row,
    end: Row,
    wraps_around: bool,
    is_garbage: bool,
}

impl Operand {
    pub(super) fn new(layout: AddressLayout, start: LocalAddr, end: LocalAddr, wraps_around: bool) -> Self {
        let is_garbage = start.is_garbage(layout);
        Self { start: Row::of(layout, start), end: Row::of(layout, end), wraps_around, is_garbage }
    }

    pub(super) fn rows(layout: AddressLayout, start: LocalAddr, rows: u32) -> Self {
        let (end, wraps_around) = start.add_with_overflow(layout, rows);
        Self::new(layout, start, end, wraps_around)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let starts_in = |a: &Self, b: &Self| b.start.le(a.start) && (a.start.lt(b.end) || b.wraps_around);
        !self.is_garbage && !other.is_garbage && (starts_in(self, other) || starts_in(other, self))
    }
}

/// The operands of a command as its table keeps them. Their ranges take part in comparisons even where the hardware does
/// not look at the valid bit.
#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(super) struct Operands {
    pub opa: Operand,
    pub opa_valid: bool,
    pub opa_is_dst: bool,
    pub opb: Operand,
    pub opb_valid: bool,
}

impl Operands {
    /// Of a command that writes `opa` and reads `opb`, if there is one.
    pub(super) fn written(opa: Operand, opb: Option<Operand>) -> Self {
        Self { opa, opa_valid: true, opa_is_dst: true, opb: opb.unwrap_or_default(), opb_valid: opb.is_some() }
    }

    /// Of a command that reads both.
    pub(super) fn read(opa: Operand, opb: Operand) -> Self {
        Self { opa, opa_valid: true, opa_is_dst: false, opb, opb_valid: true }
    }
}
