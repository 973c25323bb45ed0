//! Values apart from timing: whether a machine holds the numbers that it moves, or only knows where they are.
//!
//! What Gemmini does in a cycle depends on its commands and its control state, not on the elements of a row. So every payload (rows,
//! bytes of beats, memories, registers of the mesh) is a `V::Of<T>`, for one parameter [`Values`] of the whole machine: [`Full`] holds
//! it, [`Timing`] holds nothing in its place.
//!
//! That timing does not look at a value is then checked by the compiler. A value is made ([`Values::of`]), changed
//! ([`Values::update`]) and seen ([`Values::see`]) in closures only. Whoever sees one needs the closure's [`Values::Sight`]; the closure
//! is a [`Fn`], so that it changes nothing but the value, and its result is a value again. Nothing that is seen gets out, but for one
//! question that the hardware itself asks ([`Values::ask`]): whether an operand of the normalizer's dividers is zero.
//!
//! ```
//! use pollux_sim::values::Values;
//!
//! fn double<V: Values>(x: &mut V::Of<i32>) {
//!     V::set(x, |x, _| *x *= 2);
//! }
//! ```
//!
//! Neither of these is accepted:
//!
//! ```compile_fail
//! # use pollux_sim::values::Values;
//! fn is_zero<V: Values>(x: &V::Of<i32>) -> bool {
//!     *x == 0
//! }
//! ```
//!
//! ```compile_fail
//! # use pollux_sim::values::Values;
//! fn leak<V: Values>(x: &mut V::Of<i32>) -> i32 {
//!     let mut seen = 0;
//!     V::set(x, |x, _| seen = *x);
//!     seen
//! }
//! ```

use std::convert::Infallible;
use std::fmt::Debug;
use std::slice;

use pollux_memory::Memory;

/// What a value may be: an element of a row, a byte, a register.
pub trait Element: Copy + Default + Debug + Send + Sync + 'static {}

impl<T: Copy + Default + Debug + Send + Sync + 'static> Element for T {}

/// Whether there are values.
pub trait Values: Copy + Default + Debug + Send + Sync + 'static {
    /// A value of type `T`, if there are values.
    type Of<T: Element>: Element;

    /// Shows that there are values: only closures of a machine that has them get it.
    type Sight: Copy;

    /// What answers questions about values in their stead.
    type Oracle: Clone + Debug + Default + Send + Sync + 'static;

    /// Makes a value.
    fn of<T: Element>(make: impl Fn(Self::Sight) -> T) -> Self::Of<T>;

    /// Changes values; what it takes for that from other values it has to see.
    fn update<T: Element>(values: &mut [Self::Of<T>], change: impl Fn(&mut [T], Self::Sight));

    /// Writes the bytes that `mask` enables into main memory.
    fn store(memory: &mut Memory, address: u64, bytes: &[Self::Of<u8>], mask: u64);

    /// The values that are there.
    fn see<T: Element>(values: &[Self::Of<T>], sight: Self::Sight) -> &[T];

    /// A question about values that timing depends on: `answer` tells from the values, or the oracle by the question's `ordinal`.
    fn ask(oracle: &Self::Oracle, ordinal: u64, answer: impl Fn(Self::Sight) -> bool) -> bool;

    /// [`Self::see`] of one value.
    #[inline(always)] // nothing, once it is compiled
    fn get<T: Element>(value: &Self::Of<T>, sight: Self::Sight) -> T {
        Self::see(slice::from_ref(value), sight).first().copied().unwrap_or_default()
    }

    /// [`Self::update`] of one value.
    #[inline(always)] // nothing, once it is compiled
    fn set<T: Element>(value: &mut Self::Of<T>, change: impl Fn(&mut T, Self::Sight)) {
        Self::update(slice::from_mut(value), |values, sight| values.iter_mut().for_each(|value| change(value, sight)));
    }
}

/// A machine that computes: all values are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full;

/// A machine that only tells time: no value takes any space, and nothing is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing;

/// Sight of the values of a [`Full`] machine; nobody else can make one.
#[derive(Clone, Copy, Debug)]
pub struct FullSight(());

impl Values for Full {
    type Of<T: Element> = T;
    type Sight = FullSight;
    type Oracle = ();

    #[inline(always)]
    fn of<T: Element>(make: impl Fn(FullSight) -> T) -> T {
        make(FullSight(()))
    }

    #[inline(always)]
    fn update<T: Element>(values: &mut [T], change: impl Fn(&mut [T], FullSight)) {
        change(values, FullSight(()));
    }

    #[inline(always)]
    fn store(memory: &mut Memory, address: u64, bytes: &[u8], mask: u64) {
        memory.write_masked(address, bytes, mask);
    }

    #[inline(always)]
    fn see<T: Element>(values: &[T], _: FullSight) -> &[T] {
        values
    }

    #[inline(always)]
    fn ask(_: &(), _: u64, answer: impl Fn(FullSight) -> bool) -> bool {
        answer(FullSight(()))
    }
}

impl Values for Timing {
    type Of<T: Element> = ();
    type Sight = Infallible;
    type Oracle = ZeroDivisors;

    #[inline(always)]
    fn of<T: Element>(_: impl Fn(Infallible) -> T) {}

    #[inline(always)]
    fn update<T: Element>(_: &mut [()], _: impl Fn(&mut [T], Infallible)) {}

    #[inline(always)]
    fn store(_: &mut Memory, _: u64, _: &[()], _: u64) {}

    #[inline(always)]
    fn see<T: Element>(_: &[()], sight: Infallible) -> &[T] {
        match sight {}
    }

    #[inline(always)]
    fn ask(oracle: &ZeroDivisors, ordinal: u64, _: impl Fn(Infallible) -> bool) -> bool {
        oracle.contains(ordinal)
    }
}

/// The divisions of the normalizer with a zero operand, which its dividers answer in one cycle instead of 18 or 14.
///
/// Divisions are counted in the order in which their rows reach the normalizer: a row with command MEAN, INV_STDDEV or INV_SUM_EXP
/// makes one. Usually none has a zero operand: a sum of zero is that of a row whose elements cancel out, a variance of zero that
/// of a constant row, a sum of exponentials of zero that of a row whose exponentials all round to zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZeroDivisors {
    /// Ordinals, ascending.
    ordinals: Vec<u64>,
}

impl ZeroDivisors {
    /// Division `ordinal` has a zero operand.
    #[inline]
    pub fn contains(&self, ordinal: u64) -> bool {
        !self.ordinals.is_empty() && self.ordinals.binary_search(&ordinal).is_ok()
    }

    /// Number of divisions with a zero operand.
    pub fn len(&self) -> usize {
        self.ordinals.len()
    }

    /// True if no division has a zero operand.
    pub fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }
}

impl FromIterator<u64> for ZeroDivisors {
    /// From ordinals, counted from 0, in any order.
    fn from_iter<I: IntoIterator<Item = u64>>(ordinals: I) -> Self {
        let mut ordinals: Vec<u64> = ordinals.into_iter().collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        Self { ordinals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of two rows, and what a question about it is answered.
    fn sum<V: Values>(oracle: &V::Oracle) -> ([V::Of<i32>; 4], bool) {
        let (mut to, from) = ([V::of(|_| 3); 4], [V::of(|_| -3); 4]);
        V::update(&mut to, |to, sight| to.iter_mut().zip(V::see(&from, sight)).for_each(|(x, y)| *x += y));
        let zero = V::ask(oracle, 7, |sight| V::get(&to[0], sight) == 0);
        (to, zero)
    }

    #[test]
    fn with_values_a_question_is_answered_by_them() {
        assert_eq!(sum::<Full>(&()), ([0; 4], true));
    }

    #[test]
    fn without_values_there_is_nothing_and_the_oracle_answers() {
        assert_eq!(size_of::<<Timing as Values>::Of<[i32; 16]>>(), 0);
        assert_eq!(sum::<Timing>(&ZeroDivisors::default()), ([(); 4], false));
        assert_eq!(sum::<Timing>(&ZeroDivisors::from_iter([9, 7, 7])), ([(); 4], true));
    }
}
