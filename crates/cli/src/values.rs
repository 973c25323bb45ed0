//! Values of options: numbers with their ranges, and methods.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;

/// Largest extent of a tensor.
const MAX_SIZE: u64 = 1 << 20;
/// A read-out factor below this makes 0 of every int32.
const MIN_SCALE: f32 = 1.0 / (1u64 << 32) as f32;
/// A read-out factor of this or more saturates every int32 but 0.
const MAX_SCALE: f32 = 256.0;

/// A number of things that is at least 1. Whether there is memory for them is found out later.
pub fn count<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..=u64::from(u32::MAX))
}

/// An extent of a tensor.
pub fn size<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..=MAX_SIZE)
}

/// A number of cycles that is at least 1.
pub fn cycles() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..)
}

/// A fraction that leaves something: at least 0 and below 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    number(text, |fraction| (0.0..1.0).contains(fraction), "at least 0 and below 1")
}

/// A share of something: 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    number(text, |share| (0.0..=1.0).contains(share), "at least 0 and at most 1")
}

/// A probability. Above 1 is one that is never reached.
pub fn probability(text: &str) -> Result<f32, String> {
    number(text, |probability: &f32| probability.is_finite() && *probability >= 0.0, "at least 0; none is above 1")
}

/// A clock in Hz: `1GHz`, `500MHz`.
pub fn clock(text: &str) -> Result<f64, String> {
    let units = [("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3), ("Hz", 1.0)];
    let found = units.into_iter().find_map(|(unit, hz)| Some((text.strip_suffix(unit)?.trim_end(), hz)));
    let (digits, hz) = found.ok_or("it has no unit: write 1GHz or 500MHz")?;
    let number: f64 = number(digits, |number: &f64| number.is_finite() && *number > 0.0, "above 0")?;
    Ok(number * hz)
}

/// The factor of a read-out.
pub fn scale(text: &str) -> Result<f32, String> {
    const RANGE: RangeInclusive<f32> = MIN_SCALE..=MAX_SCALE;
    number(text, |scale| RANGE.contains(scale), "2^-32 (2.33e-10) to 256: below, all is 0; above, all saturates")
}

fn number<T: FromStr>(text: &str, is_allowed: impl FnOnce(&T) -> bool, allowed: &str) -> Result<T, String> {
    let number: T = text.parse().map_err(|_| format!("it is not a number; {allowed}"))?;
    if is_allowed(&number) { Ok(number) } else { Err(format!("it must be {allowed}")) }
}

/// `LAYER=FRACTION`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep(pub usize, pub f64);

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(layer, f)| Some(Self(layer.parse().ok()?, f.parse().ok()?)));
        match parts {
            Some(keep) if keep.1 > 0.0 && keep.1 <= 1.0 => Ok(keep),
            Some(_) => Err("the fraction must be above 0 and at most 1, for example 2=0.5".to_owned()),
            None => Err(format!("`{text}` is not LAYER=FRACTION, for example 2=0.5")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_refused_with_it() {
        for text in ["-1", "NaN", "inf", "0", "1e-20", "1e20", "x"] {
            assert!(scale(text).unwrap_err().contains("2^-32 (2.33e-10) to 256"), "{text}");
        }
        assert_eq!([scale("0.5"), scale("256"), scale("3e-10")], [Ok(0.5), Ok(256.0), Ok(3e-10)]);
        for text in ["-0.1", "1", "NaN", "inf"] {
            assert!(fraction(text).is_err(), "{text}");
        }
        assert_eq!([fraction("0"), fraction("0.75")], [Ok(0.0), Ok(0.75)]);
        assert!(["-0.1", "1.01", "NaN", "inf", ""].iter().all(|text| share(text).is_err()));
        assert_eq!([share("0"), share("0.01"), share("1")], [Ok(0.0), Ok(0.01), Ok(1.0)]);
        assert!(["-1", "NaN", "inf"].iter().all(|text| probability(text).is_err()));
    }

    #[test]
    fn clocks_have_a_unit() {
        assert_eq!([clock("1GHz"), clock("0.5 MHz"), clock("2kHz")], [Ok(1e9), Ok(5e5), Ok(2e3)]);
        assert!(["1", "0GHz", "-1GHz", "nanGHz", "infHz", "GHz", "1 ghz"].iter().all(|text| clock(text).is_err()));
    }

    #[test]
    fn pairs_are_refused_with_an_example() {
        assert_eq!("2=0.5".parse(), Ok(Keep(2, 0.5)));
        assert!(["2=0", "2=1.5", "2=NaN", "2", "=1"].iter().all(|text| text.parse::<Keep>().is_err()));
    }
}
