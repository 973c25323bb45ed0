//! Sets of the three operands of a matrix product: handshakes and flags that the hardware has three of.

use std::ops::{BitAnd, BitOr, Not};

use crate::parts::canonical::Canonical;

/// Index of the operand A.
pub const A: usize = 0;
/// Index of the operand B: WS: the addend; OS: the right-hand matrix.
pub const B: usize = 1;
/// Index of the operand D: WS: the weights; OS: the addend.
pub const D: usize = 2;

/// Some of A, B and D.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct OperandSet(u8);

impl OperandSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// Those of which `member` is true, in the order A, B, D.
    #[inline]
    pub const fn of(member: [bool; 3]) -> Self {
        Self(member[A] as u8 | (member[B] as u8) << B | (member[D] as u8) << D)
    }

    /// Operand `x` alone.
    #[inline]
    pub const fn single(x: usize) -> Self {
        Self(1 << x)
    }

    /// True if operand `x` is in the set.
    #[inline]
    pub const fn has(self, x: usize) -> bool {
        self.0 >> x & 1 == 1
    }

    /// True if no operand is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if at most one operand is in the set.
    #[inline]
    pub const fn is_single(self) -> bool {
        self.0 & self.0.wrapping_sub(1) == 0
    }

    /// Puts operand `x` in.
    #[inline]
    pub fn insert(&mut self, x: usize) {
        self.0 |= 1 << x;
    }

    /// The set if `condition` holds, else none.
    #[inline]
    pub fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self::EMPTY }
    }

    /// Calls `f` with the operands in the set, in the order A, B, D; each with a constant index, so that nothing is searched.
    #[inline(always)]
    pub fn each(self, mut f: impl FnMut(usize)) {
        if self.has(A) {
            f(A);
        }
        if self.has(B) {
            f(B);
        }
        if self.has(D) {
            f(D);
        }
    }

    /// The operands in the set, in the order A, B, D.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (A..=D).filter(move |&x| self.has(x))
    }
}

impl BitAnd for OperandSet {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for OperandSet {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for OperandSet {
    type Output = Self;

    #[inline]
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_and_its_complement_are_all_operands() {
        for member in [[false; 3], [true, false, false], [false, true, true], [true; 3]] {
            let set = OperandSet::of(member);
            assert_eq!(set | !set, OperandSet::ALL);
            assert!((set & !set).is_empty());
            assert_eq!(member, [A, B, D].map(|x| set.has(x)));
            assert_eq!(set.iter().count(), member.iter().filter(|&&m| m).count());
        }
    }
}
