//! Banks of the local memories: a bank's number, a row within it, and sets of banks.

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not};

use pollux_isa::{AddressLayout, LocalAddr};

use crate::parts::canonical::Canonical;

/// Number of a bank of the scratchpad or of the accumulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Canonical)]
pub struct BankId(pub u8);

/// Row within a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Canonical)]
pub struct BankRow(pub u32);

/// Row of the scratchpad, counted through all banks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpadRow(pub u32);

/// Row of the accumulator, counted through all banks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccRow(pub u32);

impl BankId {
    /// Position in a list of banks.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Scratchpad bank of an address, and row in it.
#[inline]
pub fn spad_place(addr: LocalAddr, layout: AddressLayout) -> (BankId, BankRow) {
    (BankId(addr.sp_bank(layout) as u8), BankRow(addr.sp_row(layout)))
}

/// Accumulator bank of an address, and row in it.
#[inline]
pub fn acc_place(addr: LocalAddr, layout: AddressLayout) -> (BankId, BankRow) {
    (BankId(addr.acc_bank(layout) as u8), BankRow(addr.acc_row(layout)))
}

/// Some of at most 32 banks: handshakes and flags that every bank has one of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct BankSet(u32);

impl BankSet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All that there can be.
    pub const ALL: Self = Self(u32::MAX);

    /// The first `banks` ones, at least one.
    pub fn first(banks: u32) -> Self {
        Self(u32::MAX >> (32 - banks))
    }

    /// Those whose bit is set: bit i is bank i.
    #[cfg(test)]
    #[inline]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Bit i is bank i.
    #[inline]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// One bank.
    #[inline]
    pub fn of(bank: BankId) -> Self {
        Self(1 << bank.0)
    }

    /// The set if `condition` holds, else none.
    #[inline]
    pub fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self::EMPTY }
    }

    /// True if the bank is in the set.
    #[inline]
    pub fn has(self, bank: BankId) -> bool {
        self.0 >> bank.0 & 1 == 1
    }

    /// True if all banks of the other set are in this one.
    #[inline]
    pub fn has_all(self, other: Self) -> bool {
        !self.0 & other.0 == 0
    }

    /// True if no bank is in the set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Number of banks in the set.
    #[inline]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Puts a bank into the set.
    #[inline]
    pub fn insert(&mut self, bank: BankId) {
        self.0 |= 1 << bank.0;
    }

    /// Takes a bank out of the set.
    #[inline]
    pub fn remove(&mut self, bank: BankId) {
        self.0 &= !(1 << bank.0);
    }

    /// Puts a bank into the set, or takes it out.
    #[inline]
    pub fn set(&mut self, bank: BankId, member: bool) {
        self.0 = self.0 & !(1 << bank.0) | u32::from(member) << bank.0;
    }
}

/// One bank, or none.
impl From<Option<BankId>> for BankSet {
    #[inline]
    fn from(bank: Option<BankId>) -> Self {
        bank.map_or(Self::EMPTY, Self::of)
    }
}

impl BitAnd for BankSet {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for BankSet {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for BankSet {
    type Output = Self;

    #[inline]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl BitAndAssign for BankSet {
    #[inline]
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl BitOrAssign for BankSet {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The banks in the set, lowest first.
impl IntoIterator for BankSet {
    type Item = BankId;
    type IntoIter = Banks;

    #[inline]
    fn into_iter(self) -> Banks {
        Banks(self.0)
    }
}

/// The banks of a [`BankSet`], lowest first.
#[derive(Clone, Debug)]
pub struct Banks(u32);

impl Iterator for Banks {
    type Item = BankId;

    #[inline]
    fn next(&mut self) -> Option<BankId> {
        if self.0 == 0 {
            return None;
        }
        let bank = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        Some(BankId(bank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_banks_that_were_put_in() {
        let mut set = BankSet::of(BankId(31)) | BankSet::from_bits(0b101);
        set.remove(BankId(0));
        set.set(BankId(4), true);
        set.set(BankId(2), false);
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [BankId(4), BankId(31)]);
        assert!(set.has(BankId(4)) && !set.has(BankId(2)) && set.len() == 2);
        assert!((set & !set).is_empty() && BankSet::ALL.has_all(set) && !BankSet::first(31).has_all(set));
    }
}
