//! What an access of a memory costs: measured points, a fitted law, or one figure.

use crate::figure::Node;

/// A memory's figures with their source.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The figures.
    pub law: MemoryLaw,
    /// Technology node.
    pub node: Node,
    /// Key of the source.
    pub source: String,
}

/// What an access costs.
#[derive(Clone, Debug, PartialEq)]
pub enum MemoryLaw {
    /// Banks of several sizes; between the points, see [`MemoryLaw::bank`].
    Points(Vec<Point>),
    /// Energy of an access of a word: `base` + `per_kib` times the capacity, in pJ. No area and no leakage.
    Word {
        /// Bits of a word.
        word: u32,
        /// pJ.
        base: f64,
        /// pJ a KiB.
        per_kib: f64,
        /// Whose capacity.
        capacity: Capacity,
    },
    /// An access of `width` bits, whatever the size.
    Access {
        /// Bits of an access; a row of several times as many bits is as many accesses.
        width: u32,
        /// pJ of a read.
        read: f64,
        /// pJ of a write.
        write: f64,
        /// um2 of all instances together.
        area: Option<f64>,
        /// mW of all instances together.
        leakage: Option<f64>,
    },
}

/// A bank of a certain size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Bits of an access.
    pub width: u32,
    /// KiB of the bank.
    pub kib: f64,
    /// pJ of a read.
    pub read: f64,
    /// pJ of a write.
    pub write: f64,
    /// um2.
    pub area: f64,
    /// mW.
    pub leakage: f64,
}

/// Whose capacity a fitted law takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// The whole memory's.
    Memory,
    /// The part of it that belongs to a column of the array.
    Column,
}

/// The size of a memory of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    /// Bits of a row.
    pub row_bits: u32,
    /// KiB of a bank.
    pub bank_kib: f64,
    /// Banks.
    pub banks: u32,
    /// Columns of the array.
    pub columns: u32,
}

/// What a memory of a configuration costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryPrice {
    /// pJ of reading a row.
    pub read: f64,
    /// pJ of writing a row.
    pub write: f64,
    /// um2 of the whole memory.
    pub area: Option<f64>,
    /// mW of the whole memory.
    pub leakage: Option<f64>,
}

impl Memory {
    /// The price of a memory of this size.
    pub(crate) fn price(&self, size: &Size) -> Result<MemoryPrice, String> {
        match &self.law {
            MemoryLaw::Points(_) => {
                let bank = self.law.bank(size.row_bits, size.bank_kib)?;
                let banks = f64::from(size.banks);
                let (area, leakage) = (Some(banks * bank.area), Some(banks * bank.leakage));
                Ok(MemoryPrice { read: bank.read, write: bank.write, area, leakage })
            }
            &MemoryLaw::Word { word, base, per_kib, capacity } => {
                let whole = size.bank_kib * f64::from(size.banks);
                let kib = if capacity == Capacity::Column { whole / f64::from(size.columns) } else { whole };
                let row = f64::from(size.row_bits) / f64::from(word) * (base + per_kib * kib);
                Ok(MemoryPrice { read: row, write: row, area: None, leakage: None })
            }
            &MemoryLaw::Access { width, read, write, area, leakage } => {
                let accesses = f64::from(size.row_bits) / f64::from(width);
                Ok(MemoryPrice { read: accesses * read, write: accesses * write, area, leakage })
            }
        }
    }
}

impl MemoryLaw {
    /// A bank of this width and size. A point of the table as it stands; between points, the logarithm of each figure is
    /// interpolated linearly in the logarithms of size and width. Nothing is extrapolated.
    ///
    /// # Errors
    /// The size or the width is outside the table's points; what they are.
    pub fn bank(&self, width: u32, kib: f64) -> Result<Point, String> {
        let Self::Points(points) = self else { return Err("it has no points".to_owned()) };
        let narrower = points.iter().map(|point| point.width).filter(|w| *w <= width).max();
        let wider = points.iter().map(|point| point.width).filter(|w| *w >= width).min();
        let (Some(narrower), Some(wider)) = (narrower, wider) else {
            let (min, max) = range(points.iter().map(|point| f64::from(point.width)));
            return Err(format!("its points have {min} to {max} bits"));
        };
        let (a, b) = (of_width(points, narrower, kib)?, of_width(points, wider, kib)?);
        Ok(between(&a, &b, f64::from(width), [f64::from(narrower), f64::from(wider)], Point { width, ..a }))
    }
}

fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
}

/// A bank of one of the table's widths.
fn of_width(points: &[Point], width: u32, kib: f64) -> Result<Point, String> {
    let of_width = || points.iter().filter(|point| point.width == width);
    let smaller = of_width().filter(|point| point.kib <= kib).max_by(|a, b| a.kib.total_cmp(&b.kib));
    let larger = of_width().filter(|point| point.kib >= kib).min_by(|a, b| a.kib.total_cmp(&b.kib));
    match (smaller, larger) {
        (Some(a), Some(b)) => Ok(between(a, b, kib, [a.kib, b.kib], Point { kib, ..*a })),
        _ => {
            let (min, max) = range(of_width().map(|point| point.kib));
            Err(format!("its points of {width} bits have {min} to {max} KiB"))
        }
    }
}

/// The figures at `x` between those at the ends; the rest is `like`.
fn between(a: &Point, b: &Point, x: f64, ends: [f64; 2], like: Point) -> Point {
    let [low, high] = ends;
    if low == high {
        return Point { read: a.read, write: a.write, area: a.area, leakage: a.leakage, ..like };
    }
    let t = (x / low).ln() / (high / low).ln();
    let mean = |a: f64, b: f64| if a > 0.0 && b > 0.0 { a * (b / a).powf(t) } else { a + (b - a) * t };
    Point {
        read: mean(a.read, b.read),
        write: mean(a.write, b.write),
        area: mean(a.area, b.area),
        leakage: mean(a.leakage, b.leakage),
        ..like
    }
}
