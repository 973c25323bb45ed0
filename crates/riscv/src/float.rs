//! IEEE 754 arithmetic as the F and D extensions define it: five rounding modes, exception flags, the canonical NaN.
//!
//! Arithmetic that must be rounded is done by `rustc_apfloat`, in software. Two shortcuts to the host's arithmetic give the
//! same bits: where the result is exact (then no mode matters and no flag is raised), and where it is rounded to nearest
//! even, is a normal number, and the inexact flag is already set (then no flag can be new).

use rustc_apfloat::ieee::{IeeeFloat, Semantics};
use rustc_apfloat::{Float as _, FloatConvert as _, Round, Status, StatusAnd};

/// Exception flags, the bits of `fflags`.
pub(crate) type Flags = u8;

/// Invalid operation.
pub(crate) const NV: Flags = 16;
/// Division by zero.
pub(crate) const DZ: Flags = 8;
/// Overflow.
pub(crate) const OF: Flags = 4;
/// Underflow: the result is tiny after rounding, and inexact.
pub(crate) const UF: Flags = 2;
/// Inexact.
pub(crate) const NX: Flags = 1;

/// A rounding mode, as `frm` encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rounding {
    NearestEven = 0,
    TowardZero = 1,
    Down = 2,
    Up = 3,
    NearestMaxMagnitude = 4,
}

impl Rounding {
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::NearestEven,
            1 => Self::TowardZero,
            2 => Self::Down,
            3 => Self::Up,
            4 => Self::NearestMaxMagnitude,
            _ => return None,
        })
    }

    const fn soft(self) -> Round {
        match self {
            Self::NearestEven => Round::NearestTiesToEven,
            Self::TowardZero => Round::TowardZero,
            Self::Down => Round::TowardNegative,
            Self::Up => Round::TowardPositive,
            Self::NearestMaxMagnitude => Round::NearestTiesToAway,
        }
    }

    /// The integer next to `x` in this mode; exact.
    fn integer(self, x: f64) -> f64 {
        match self {
            Self::NearestEven => x.round_ties_even(),
            Self::TowardZero => x.trunc(),
            Self::Down => x.floor(),
            Self::Up => x.ceil(),
            Self::NearestMaxMagnitude => x.round(),
        }
    }
}

fn flags(status: Status) -> Flags {
    let flag = |status_flag, flag| if status.contains(status_flag) { flag } else { 0 };
    flag(Status::INVALID_OP, NV)
        | flag(Status::DIV_BY_ZERO, DZ)
        | flag(Status::OVERFLOW, OF)
        | flag(Status::UNDERFLOW, UF)
        | flag(Status::INEXACT, NX)
}

/// An arithmetic operation of two or three operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    /// First times second plus third operand, rounded once.
    Fma,
}

impl Arithmetic {
    fn soft<S: Semantics>(self, [a, b, c]: [IeeeFloat<S>; 3], round: Round) -> StatusAnd<IeeeFloat<S>> {
        match self {
            Self::Add => a.add_r(b, round),
            Self::Sub => a.sub_r(b, round),
            Self::Mul => a.mul_r(b, round),
            Self::Div => a.div_r(b, round),
            Self::Fma => a.mul_add_r(b, c, round),
        }
    }

    /// The result, if it is found to be exact; never zero.
    fn exact(self, [a, b]: [f64; 2]) -> Option<f64> {
        let sum = |a: f64, b: f64| {
            let sum = a + b;
            let part = sum - a;
            let error = (a - (sum - part)) + (b - part);
            (error == 0.0).then_some(sum)
        };
        let result = match self {
            Self::Add => sum(a, b),
            Self::Sub => sum(a, -b),
            Self::Mul => {
                // Significands of 26 bits have a product of 52.
                let is_short = |x: f64| x.to_bits().trailing_zeros() >= 27;
                (is_short(a) && is_short(b)).then_some(a * b)
            }
            Self::Div | Self::Fma => None,
        };
        // Far from subnormal numbers, where the reasoning above ends.
        result.filter(|x| x.is_finite() && x.abs() > 1e-290)
    }
}

/// A float format of the core.
pub(crate) trait Width {
    /// The format.
    type Soft: Semantics;
    /// The same precision with a larger exponent: what a result would be if the exponent were unbounded.
    type Wide: Semantics;
    /// Bits of the significand without the leading one.
    const FRACTION: u32;
    /// Bits of the exponent.
    const EXPONENT: u32;

    /// The value, exactly.
    fn to_f64(bits: u64) -> f64;
    /// The bits of a value, if the format has it.
    fn from_exact(x: f64) -> Option<u64>;
    /// The host's arithmetic.
    fn host(op: Arithmetic, operands: [u64; 3]) -> u64;
    /// The host's square root.
    fn host_sqrt(a: u64) -> u64;

    const SIGN: u64 = 1 << (Self::FRACTION + Self::EXPONENT);
    const INFINITY: u64 = ((1 << Self::EXPONENT) - 1) << Self::FRACTION;
    /// The NaN that every operation with a NaN as its result gives.
    const NAN: u64 = Self::INFINITY | 1 << (Self::FRACTION - 1);

    fn is_nan(bits: u64) -> bool {
        bits & !Self::SIGN > Self::INFINITY
    }

    fn is_signaling(bits: u64) -> bool {
        Self::is_nan(bits) && bits >> (Self::FRACTION - 1) & 1 == 0
    }

    /// Whether the number is neither infinite, NaN, zero, subnormal, nor in the smallest binade of normal ones, into
    /// which tiny results are rounded.
    fn is_ordinary(bits: u64) -> bool {
        let exponent = (bits & Self::INFINITY) >> Self::FRACTION;
        exponent > 1 && exponent < (1 << Self::EXPONENT) - 1
    }
}

/// Single precision.
pub(crate) struct Single;
/// Double precision.
pub(crate) struct Double;

/// Single precision with a larger exponent.
pub(crate) struct WideSingle;
/// Double precision with a larger exponent.
pub(crate) struct WideDouble;

impl Semantics for WideSingle {
    const BITS: usize = 24 + Self::EXP_BITS;
    const EXP_BITS: usize = 12;
}

impl Semantics for WideDouble {
    const BITS: usize = 53 + Self::EXP_BITS;
    const EXP_BITS: usize = 13;
}

impl Width for Single {
    type Soft = rustc_apfloat::ieee::SingleS;
    type Wide = WideSingle;
    const FRACTION: u32 = 23;
    const EXPONENT: u32 = 8;

    fn to_f64(bits: u64) -> f64 {
        f32::from_bits(bits as u32).into()
    }

    fn from_exact(x: f64) -> Option<u64> {
        let single = x as f32;
        (f64::from(single) == x).then(|| single.to_bits().into())
    }

    fn host(op: Arithmetic, operands: [u64; 3]) -> u64 {
        let [a, b, c] = operands.map(|bits| f32::from_bits(bits as u32));
        let result = match op {
            Arithmetic::Add => a + b,
            Arithmetic::Sub => a - b,
            Arithmetic::Mul => a * b,
            Arithmetic::Div => a / b,
            Arithmetic::Fma => a.mul_add(b, c),
        };
        result.to_bits().into()
    }

    fn host_sqrt(a: u64) -> u64 {
        f32::from_bits(a as u32).sqrt().to_bits().into()
    }
}

impl Width for Double {
    type Soft = rustc_apfloat::ieee::DoubleS;
    type Wide = WideDouble;
    const FRACTION: u32 = 52;
    const EXPONENT: u32 = 11;

    fn to_f64(bits: u64) -> f64 {
        f64::from_bits(bits)
    }

    fn from_exact(x: f64) -> Option<u64> {
        Some(x.to_bits())
    }

    fn host(op: Arithmetic, operands: [u64; 3]) -> u64 {
        let [a, b, c] = operands.map(f64::from_bits);
        let result = match op {
            Arithmetic::Add => a + b,
            Arithmetic::Sub => a - b,
            Arithmetic::Mul => a * b,
            Arithmetic::Div => a / b,
            Arithmetic::Fma => a.mul_add(b, c),
        };
        result.to_bits()
    }

    fn host_sqrt(a: u64) -> u64 {
        f64::from_bits(a).sqrt().to_bits()
    }
}

fn soft<W: Width>(bits: u64) -> IeeeFloat<W::Soft> {
    IeeeFloat::from_bits(bits.into())
}

/// The bits of a result, with the flags of its status, raised flags of tiny results corrected: the library does not call
/// a number tiny that is rounded to the smallest normal one, the instruction set does if it would be smaller with an
/// unbounded exponent.
fn finish<W: Width>(result: StatusAnd<IeeeFloat<W::Soft>>, wide: impl FnOnce() -> IeeeFloat<W::Wide>) -> (u64, Flags) {
    let bits = result.value.to_bits() as u64;
    let flags = flags(result.status);
    if W::is_nan(bits) {
        return (W::NAN, flags);
    }
    let smallest_normal = 1 << W::FRACTION;
    if bits & !W::SIGN == smallest_normal && flags & NX != 0 {
        let limit: IeeeFloat<W::Wide> = widen(soft::<W>(smallest_normal));
        if wide().abs() < limit {
            return (bits, flags | UF);
        }
    }
    (bits, flags)
}

/// The same value in a format with a larger exponent.
fn widen<S: Semantics, T: Semantics>(x: IeeeFloat<S>) -> IeeeFloat<T> {
    x.convert(&mut false).value
}

/// Flags of NaN operands, if any operand is a NaN: the result then is the canonical one.
fn nan_flags<W: Width>(operands: &[u64]) -> Option<Flags> {
    let has_nan = operands.iter().any(|bits| W::is_nan(*bits));
    let signals = operands.iter().any(|bits| W::is_signaling(*bits));
    has_nan.then_some(if signals { NV } else { 0 })
}

/// `op` on three operands, of which two-operand operations ignore the last. `raised` are the flags already set.
pub(crate) fn arithmetic<W: Width>(
    op: Arithmetic,
    operands: [u64; 3],
    rounding: Rounding,
    raised: Flags,
) -> (u64, Flags) {
    let [a, b, c] = operands;
    let exact = op.exact([W::to_f64(a), W::to_f64(b)]).and_then(W::from_exact);
    if let Some(bits) = exact.filter(|bits| W::is_ordinary(*bits)) {
        return (bits, 0);
    }
    if rounding == Rounding::NearestEven && raised & NX != 0 {
        let bits = W::host(op, operands);
        if W::is_ordinary(bits) {
            return (bits, 0);
        }
    }
    let used = if op == Arithmetic::Fma { &operands[..] } else { &operands[..2] };
    if let Some(flags) = nan_flags::<W>(used) {
        // Infinity times zero is invalid even if a quiet NaN is added.
        let is_zero = |x: u64| x & !W::SIGN == 0;
        let is_infinite = |x: u64| x & !W::SIGN == W::INFINITY;
        let invalid = op == Arithmetic::Fma && (is_zero(a) && is_infinite(b) || is_infinite(a) && is_zero(b));
        return (W::NAN, if invalid { NV } else { flags });
    }
    let operands = [a, b, c].map(soft::<W>);
    let wide = || op.soft(operands.map(widen::<W::Soft, W::Wide>), rounding.soft()).value;
    finish::<W>(op.soft(operands, rounding.soft()), wide)
}

/// Square root.
pub(crate) fn sqrt<W: Width>(a: u64, rounding: Rounding, raised: Flags) -> (u64, Flags) {
    if rounding == Rounding::NearestEven && raised & NX != 0 && W::is_ordinary(W::host_sqrt(a)) {
        return (W::host_sqrt(a), 0);
    }
    if let Some(flags) = nan_flags::<W>(&[a]) {
        return (W::NAN, flags);
    }
    if a & !W::SIGN == 0 || a == W::INFINITY {
        return (a, 0);
    }
    if a & W::SIGN != 0 {
        return (W::NAN, NV);
    }
    // a = significand * 2^exponent. With an even exponent and 114 or 115 bits, the root has 57 or 58: more than any
    // format needs, and whether the rest is zero is all that rounding asks for besides.
    let biased = (a >> W::FRACTION) as i32;
    let fraction = u128::from(a & ((1 << W::FRACTION) - 1));
    let significand = if biased == 0 { fraction } else { fraction | 1 << W::FRACTION };
    let exponent = biased.max(1) - (1 << (W::EXPONENT - 1)) + 1 - W::FRACTION as i32;
    let shift = significand.leading_zeros() as i32 - 13;
    let shift = shift + (exponent - shift) % 2;
    let radicand = significand << shift;
    let root = radicand.isqrt();
    let rest = u128::from(root * root != radicand);
    let rounded = IeeeFloat::<W::Soft>::from_u128_r(root << 1 | rest, rounding.soft());
    let root = rounded.value.scalbn((exponent - shift) / 2 - 1);
    (root.to_bits() as u64, flags(rounded.status))
}

/// The smaller (`fmin`) or larger operand: of a number and a NaN the number, and -0 is smaller than +0.
pub(crate) fn min_max<W: Width>(a: u64, b: u64, larger: bool) -> (u64, Flags) {
    let flags = nan_flags::<W>(&[a, b]).unwrap_or(0);
    let result = match (W::is_nan(a), W::is_nan(b)) {
        (true, true) => W::NAN,
        (true, false) => b,
        (false, true) => a,
        (false, false) => {
            let (x, y) = (W::to_f64(a), W::to_f64(b));
            let a_is_less = x < y || x == y && a & W::SIGN != 0;
            if a_is_less != larger { a } else { b }
        }
    };
    (result, flags)
}

/// `feq`: only a signaling NaN is invalid.
pub(crate) fn equal<W: Width>(a: u64, b: u64) -> (bool, Flags) {
    (W::to_f64(a) == W::to_f64(b), nan_flags::<W>(&[a, b]).unwrap_or(0))
}

/// `flt`, or `fle` with `or_equal`: every NaN is invalid.
pub(crate) fn less<W: Width>(a: u64, b: u64, or_equal: bool) -> (bool, Flags) {
    let (x, y) = (W::to_f64(a), W::to_f64(b));
    (x < y || or_equal && x == y, if W::is_nan(a) || W::is_nan(b) { NV } else { 0 })
}

/// `fclass`.
pub(crate) fn class<W: Width>(a: u64) -> u64 {
    let negative = a & W::SIGN != 0;
    let magnitude = a & !W::SIGN;
    let bit = match magnitude {
        _ if W::is_signaling(a) => 8,
        _ if W::is_nan(a) => 9,
        0 => {
            if negative {
                3
            } else {
                4
            }
        }
        _ if magnitude == W::INFINITY => {
            if negative {
                0
            } else {
                7
            }
        }
        _ if magnitude < 1 << W::FRACTION => {
            if negative {
                2
            } else {
                5
            }
        }
        _ => {
            if negative {
                1
            } else {
                6
            }
        }
    };
    1 << bit
}

/// A float as an integer from `min` to `max`; beyond them, and for a NaN, invalid and the nearest of them.
pub(crate) fn to_integer<W: Width>(a: u64, rounding: Rounding, min: i128, max: i128) -> (i128, Flags) {
    if W::is_nan(a) {
        return (max, NV);
    }
    let x = W::to_f64(a);
    let rounded = rounding.integer(x);
    // Saturates far beyond the limits.
    let integer = rounded as i128;
    if integer < min {
        (min, NV)
    } else if integer > max {
        (max, NV)
    } else {
        (integer, if rounded == x { 0 } else { NX })
    }
}

/// An integer as a float.
pub(crate) fn from_integer<W: Width>(integer: i128, rounding: Rounding) -> (u64, Flags) {
    let result = IeeeFloat::<W::Soft>::from_i128_r(integer, rounding.soft());
    (result.value.to_bits() as u64, flags(result.status))
}

/// Double to single precision.
pub(crate) fn narrow(a: u64, rounding: Rounding) -> (u64, Flags) {
    if let Some(flags) = nan_flags::<Double>(&[a]) {
        return (Single::NAN, flags);
    }
    if let Some(bits) = Single::from_exact(f64::from_bits(a)) {
        return (bits, 0);
    }
    let wide = || soft::<Double>(a).convert_r(rounding.soft(), &mut false).value;
    finish::<Single>(soft::<Double>(a).convert_r(rounding.soft(), &mut false), wide)
}

/// Single to double precision.
pub(crate) fn extend(a: u64) -> (u64, Flags) {
    match nan_flags::<Single>(&[a]) {
        Some(flags) => (Double::NAN, flags),
        None => (Single::to_f64(a).to_bits(), 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODES: [Rounding; 5] =
        [Rounding::NearestEven, Rounding::TowardZero, Rounding::Down, Rounding::Up, Rounding::NearestMaxMagnitude];
    const OPERATIONS: [Arithmetic; 5] =
        [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div, Arithmetic::Fma];

    /// Bit patterns of a width, many of them special ones.
    fn bits<W: Width>() -> impl Strategy<Value = u64> {
        let all = W::SIGN | (W::SIGN - 1);
        let special =
            [0, 1, W::INFINITY, W::INFINITY - 1, W::NAN, W::INFINITY | 1, 1 << W::FRACTION, (1 << W::FRACTION) - 1];
        let near_one = ((1u64 << (W::EXPONENT - 1)) - 1) << W::FRACTION;
        prop_oneof![
            4 => any::<u64>().prop_map(move |bits| bits & all),
            2 => (any::<u64>(), 0u64..8).prop_map(move |(bits, up)| (near_one + (up << W::FRACTION) + (bits & 0xf)) | bits & W::SIGN),
            1 => (prop::sample::select(special.to_vec()), any::<bool>()).prop_map(move |(bits, negative)| if negative { bits | W::SIGN } else { bits }),
            1 => (0u64..64).prop_map(|bits| bits),
        ]
    }

    /// The results of all modes, and what must hold between them.
    fn check_modes<W: Width>(compute: impl Fn(Rounding) -> (u64, Flags), host: u64) -> Result<(), TestCaseError> {
        let [nearest, zero, down, up, away] = MODES.map(&compute);
        let expected = if W::is_nan(host) { W::NAN } else { host };
        prop_assert_eq!(nearest.0, expected);
        if W::is_nan(expected) {
            prop_assert!([zero, down, up, away].iter().all(|result| *result == nearest));
            return Ok(());
        }
        let value = |result: (u64, Flags)| W::to_f64(result.0);
        prop_assert!(value(down) <= value(nearest) && value(nearest) <= value(up));
        prop_assert!(value(down) <= value(away) && value(away) <= value(up));
        let toward_zero = if W::to_f64(nearest.0).is_sign_negative() { up } else { down };
        prop_assert_eq!(value(zero), value(toward_zero));
        let inexact = nearest.1 & NX != 0;
        prop_assert_eq!(inexact, value(down) != value(up));
        for result in [zero, down, up, away] {
            prop_assert_eq!(result.1 & NX != 0, inexact);
        }
        if inexact {
            // Nothing lies between the two.
            let next = if value(down) == 0.0 {
                1
            } else if value(down) > 0.0 {
                down.0 + 1
            } else {
                down.0 - 1
            };
            prop_assert_eq!(value((next, 0)), value(up));
        }
        Ok(())
    }

    fn check_arithmetic<W: Width>(op: Arithmetic, operands: [u64; 3]) -> Result<(), TestCaseError> {
        check_modes::<W>(|mode| arithmetic::<W>(op, operands, mode, 0), W::host(op, operands))?;
        for mode in MODES {
            let (bits, flags) = arithmetic::<W>(op, operands, mode, 0);
            prop_assert_eq!(
                arithmetic::<W>(op, operands, mode, NX),
                (bits, flags & !NX | arithmetic::<W>(op, operands, mode, NX).1 & NX)
            );
            if bits & !W::SIGN == W::INFINITY && flags & (OF | DZ) == 0 {
                prop_assert!(operands.iter().any(|x| x & !W::SIGN == W::INFINITY));
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn single_arithmetic_rounds_as_the_modes_say(op in prop::sample::select(OPERATIONS.to_vec()), a in bits::<Single>(), b in bits::<Single>(), c in bits::<Single>()) {
            check_arithmetic::<Single>(op, [a, b, c])?;
        }

        #[test]
        fn double_arithmetic_rounds_as_the_modes_say(op in prop::sample::select(OPERATIONS.to_vec()), a in bits::<Double>(), b in bits::<Double>(), c in bits::<Double>()) {
            check_arithmetic::<Double>(op, [a, b, c])?;
        }

        #[test]
        fn square_roots_round_as_the_modes_say(a in bits::<Single>(), b in bits::<Double>()) {
            check_modes::<Single>(|mode| sqrt::<Single>(a, mode, 0), Single::host_sqrt(a))?;
            check_modes::<Double>(|mode| sqrt::<Double>(b, mode, 0), Double::host_sqrt(b))?;
        }

        #[test]
        fn conversions_round_as_the_modes_say(a in bits::<Double>(), integer: i64) {
            check_modes::<Single>(|mode| narrow(a, mode), (f64::from_bits(a) as f32).to_bits().into())?;
            check_modes::<Single>(|mode| from_integer::<Single>(integer.into(), mode), (integer as f32).to_bits().into())?;
            check_modes::<Double>(|mode| from_integer::<Double>(integer.into(), mode), (integer as f64).to_bits())?;
        }

        #[test]
        fn conversion_to_integers_saturates(a in bits::<Double>()) {
            let (value, flags) = to_integer::<Double>(a, Rounding::TowardZero, i32::MIN.into(), i32::MAX.into());
            let x = f64::from_bits(a);
            prop_assert_eq!(value, if x.is_nan() { i32::MAX.into() } else { i128::from(x as i32) });
            prop_assert_eq!(flags & NV != 0, x.is_nan() || x.trunc() != f64::from(x as i32));
        }
    }

    #[test]
    fn a_number_rounded_to_the_smallest_normal_one_is_tiny_if_it_would_not_be_with_more_exponents() {
        let smallest = f32::MIN_POSITIVE;
        let product = |a: f32, b: f32, mode| {
            arithmetic::<Single>(Arithmetic::Mul, [a.to_bits().into(), b.to_bits().into(), 0], mode, 0)
        };
        // 1 - 2^-24 has 24 bits: with more exponents the product would be below the smallest normal number.
        let below = 1.0 - f32::EPSILON / 2.0;
        let (bits, flags) = product(smallest, below, Rounding::NearestEven);
        assert_eq!((f32::from_bits(bits as u32), flags), (smallest, UF | NX));
        // 1 - 2^-46 has more: it rounds up to 1 whatever the exponents.
        let (a, b) = (1.0 + 2f32.powi(-23), smallest * (1.0 - 2f32.powi(-23)));
        let (bits, flags) = product(a, b, Rounding::Up);
        assert_eq!((f32::from_bits(bits as u32), flags), (smallest, NX));
    }

    #[test]
    fn special_operands_raise_what_the_manual_says() {
        let inf = Single::INFINITY;
        let op = |op, a, b, c| arithmetic::<Single>(op, [a, b, c], Rounding::NearestEven, 0);
        let one = 1f32.to_bits().into();
        assert_eq!(op(Arithmetic::Sub, inf, inf, 0), (Single::NAN, NV));
        assert_eq!(op(Arithmetic::Mul, inf, 0, 0), (Single::NAN, NV));
        assert_eq!(op(Arithmetic::Div, 0, 0, 0), (Single::NAN, NV));
        assert_eq!(op(Arithmetic::Div, one, 0, 0), (inf, DZ));
        assert_eq!(op(Arithmetic::Fma, inf, 0, Single::NAN), (Single::NAN, NV));
        assert_eq!(op(Arithmetic::Add, Single::NAN, one, 0), (Single::NAN, 0));
        assert_eq!(op(Arithmetic::Add, Single::INFINITY | 1, one, 0), (Single::NAN, NV));
        assert_eq!(min_max::<Single>(Single::INFINITY | 1, one, false), (one, NV));
        assert_eq!(min_max::<Single>(0, Single::SIGN, false), (Single::SIGN, 0));
        assert_eq!(equal::<Single>(Single::NAN, one), (false, 0));
        assert_eq!(less::<Single>(Single::NAN, one, false), (false, NV));
    }
}
