//! Constant tensors: reading them, and the arithmetic that exporters leave between them.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::dimensions::MAX_RANK;
use super::error::OnnxError;
use super::proto::TensorProto;
use crate::graph::operator::elements;

/// ONNX numbers of the element types that are read (`TensorProto.DataType`).
mod element_type {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const UINT8: i32 = 2;
    pub(super) const INT8: i32 = 3;
    pub(super) const INT32: i32 = 6;
    pub(super) const INT64: i32 = 7;
    pub(super) const BOOL: i32 = 9;
    pub(super) const FLOAT16: i32 = 10;
    pub(super) const DOUBLE: i32 = 11;
    pub(super) const BFLOAT16: i32 = 16;

    /// Bytes of an element of a type that is read.
    pub(super) fn bytes(data_type: i32) -> Option<usize> {
        match data_type {
            DOUBLE | INT64 => Some(8),
            FLOAT | INT32 => Some(4),
            FLOAT16 | BFLOAT16 => Some(2),
            INT8 | UINT8 | BOOL => Some(1),
            _ => None,
        }
    }
}

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;
/// Most elements of a constant that is computed rather than read (the largest weights of networks that come without theirs have
/// some 100 million), so that a few bytes cannot ask for more memory than there is.
pub(super) const MAX_COMPUTED: usize = 1 << 27;

/// Number of elements of a constant of that shape, if one that is computed may have so many.
pub(super) fn constant_elements(shape: &[usize]) -> Option<usize> {
    elements(shape).filter(|&n| n <= MAX_COMPUTED)
}

/// A constant. All values are held as float64, which represents every type that is read without loss (integers up
/// to 2^53).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f64>,
    /// Whether the elements are of an integer type.
    pub(super) integer: bool,
    /// Scales of the integers that a DequantizeLinear made the values from.
    pub(super) scales: Option<Vec<f32>>,
}

impl Constant {
    pub(super) fn new(shape: Vec<usize>, data: Vec<f64>, integer: bool) -> Self {
        Self { shape, data, integer, scales: None }
    }

    /// A list of sizes.
    pub(super) fn sizes(sizes: &[usize]) -> Self {
        Self::new(vec![sizes.len()], sizes.iter().map(|&s| s as f64).collect(), true)
    }

    /// Decodes a tensor; external data is looked for beside the model's file. Infinities are allowed, as masks have them.
    pub(super) fn decode(tensor: &TensorProto, directory: Option<&Path>) -> Result<Self, OnnxError> {
        let fail = |reason: String| OnnxError::Tensor { tensor: tensor.name.clone(), reason };
        if tensor.dims.len() > MAX_RANK {
            return Err(fail(format!("it has {} dimensions, {MAX_RANK} at most can be read", tensor.dims.len())));
        }
        let shape: Vec<usize> = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| fail(format!("dimension {d} is negative"))))
            .collect::<Result<_, _>>()?;
        let elements = elements(&shape).ok_or_else(|| fail(format!("shape {shape:?} is too large")))?;
        let external = if tensor.data_location == EXTERNAL { Some(external(tensor, directory)?) } else { None };
        let raw = external.as_deref().unwrap_or(&tensor.raw_data);
        let width = element_type::bytes(tensor.data_type).ok_or_else(|| {
            fail(format!("element type {} cannot be read; float and integer types up to 64 bits can", tensor.data_type))
        })?;
        if !raw.is_empty() && elements.checked_mul(width) != Some(raw.len()) {
            let needed = elements.saturating_mul(width);
            return Err(fail(format!("shape {shape:?} needs {needed} bytes of data, found {}", raw.len())));
        }
        let data = if raw.is_empty() { typed(tensor) } else { untyped(tensor.data_type, raw) }.unwrap_or_default();
        if data.len() != elements {
            return Err(fail(format!("shape {shape:?} needs {elements} elements, found {}", data.len())));
        }
        let float = [element_type::FLOAT, element_type::FLOAT16, element_type::DOUBLE, element_type::BFLOAT16];
        let constant = Self::new(shape, data, !float.contains(&tensor.data_type));
        constant.check(&tensor.name, f64::is_nan)?;
        Ok(constant)
    }

    /// Checks that no element is `wrong`; `name` is the tensor's.
    fn check(&self, name: &str, wrong: impl Fn(f64) -> bool) -> Result<(), OnnxError> {
        let Some(at) = self.data.iter().position(|&v| wrong(v)) else { return Ok(()) };
        let index: Vec<usize> =
            strides(&self.shape).iter().zip(&self.shape).map(|(stride, size)| at / stride % size).collect();
        Err(OnnxError::NotFinite { tensor: name.to_owned(), element: format!("{index:?}"), value: self.data[at] })
    }

    /// Checks that every element is a number that float32 can hold, as a weight's must be.
    pub(super) fn check_finite(&self, name: &str) -> Result<(), OnnxError> {
        self.check(name, |v| !(v as f32).is_finite())
    }

    pub(super) fn floats(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    pub(super) fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|&v| v as i64).collect()
    }

    /// The only element.
    pub(super) fn scalar(&self) -> Option<f64> {
        match self.data[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The values as a vector, if all dimensions but the last are 1.
    pub(super) fn vector(&self, length: usize) -> Option<Vec<f32>> {
        (self.data.len() == length && self.shape.last() == Some(&length)).then(|| self.floats())
    }

    /// The elements of the shape that this broadcasts to, or nothing if it does not.
    pub(super) fn broadcast(&self, shape: &[usize]) -> Option<Vec<f64>> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let fits = self.shape.iter().zip(&shape[lead..]).all(|(&s, &t)| s == t || s == 1);
        constant_elements(shape)?;
        fits.then(|| {
            let own = strides(&self.shape);
            indices(shape)
                .map(|index| {
                    let at = |(axis, &stride): (usize, &usize)| {
                        if self.shape[axis] == 1 { 0 } else { index[lead + axis] * stride }
                    };
                    self.data[own.iter().enumerate().map(at).sum::<usize>()]
                })
                .collect()
        })
    }

    /// Applies `f` element by element, with broadcasting.
    pub(super) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Option<Self> {
        let rank = self.shape.len().max(other.shape.len());
        let size = |c: &Self, axis: usize| (axis + c.shape.len()).checked_sub(rank).map_or(1, |i| c.shape[i]);
        let shape: Vec<usize> = (0..rank).map(|axis| size(self, axis).max(size(other, axis))).collect();
        let (a, b) = (self.broadcast(&shape)?, other.broadcast(&shape)?);
        let data = a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect();
        Some(Self::new(shape, data, self.integer && other.integer))
    }

    /// Permutes the dimensions: new axis i is the present axis `order[i]`.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        let own = strides(&self.shape);
        let shape: Vec<usize> = order.iter().map(|&a| self.shape[a]).collect();
        let at = |index: Vec<usize>| index.iter().zip(order).map(|(i, &axis)| i * own[axis]).sum::<usize>();
        let data = indices(&shape).map(|index| self.data[at(index)]).collect();
        Self { shape, data, integer: self.integer, scales: self.scales.clone() }
    }

    /// Element by element: the result has the shape of `rows`, whose values replace the index along `axis`.
    pub(super) fn gather_elements(&self, rows: &Self, axis: usize) -> Option<Self> {
        let own = strides(&self.shape);
        let size = *self.shape.get(axis)? as i64;
        let fits = |(a, (&r, &s)): (usize, (&usize, &usize))| a == axis || r <= s;
        if rows.shape.len() != own.len() || !rows.shape.iter().zip(&self.shape).enumerate().all(fits) {
            return None;
        }
        let at = |(mut index, row): (Vec<usize>, i64)| {
            index[axis] =
                usize::try_from(if row < 0 { row + size } else { row }).ok().filter(|&r| r < size as usize)?;
            Some(self.data[index.iter().zip(&own).map(|(i, stride)| i * stride).sum::<usize>()])
        };
        let data = indices(&rows.shape).zip(rows.integers()).map(at).collect::<Option<_>>()?;
        Some(Self::new(rows.shape.clone(), data, self.integer))
    }

    /// Elements or slices at the indices in the last dimension of `rows`; nothing if one lies outside.
    pub(super) fn gather_nd(&self, rows: &Self) -> Option<Self> {
        let depth = *rows.shape.last().filter(|&&depth| depth > 0)?;
        let own = strides(&self.shape);
        let inner: usize = self.shape.get(depth..)?.iter().product();
        let shape = [&rows.shape[..rows.shape.len() - 1], &self.shape[depth..]].concat();
        let mut data = Vec::with_capacity(constant_elements(&shape)?);
        for index in rows.integers().chunks(depth) {
            let mut start = 0;
            for ((&row, &size), stride) in index.iter().zip(&self.shape).zip(&own) {
                let row = if row < 0 { row + size as i64 } else { row };
                start += usize::try_from(row).ok().filter(|&row| row < size)? * stride;
            }
            data.extend_from_slice(&self.data[start..start + inner]);
        }
        Some(Self::new(shape, data, self.integer))
    }

    /// Sums along an axis up to each element.
    pub(super) fn cumulated(&self, axis: usize) -> Self {
        let (stride, size) = (strides(&self.shape)[axis], self.shape[axis]);
        let mut sums = self.clone();
        for at in 0..sums.data.len() {
            if at / stride % size > 0 {
                sums.data[at] += sums.data[at - stride];
            }
        }
        Self { scales: None, ..sums }
    }

    /// The upper or lower triangle of each matrix, from the `k`-th diagonal on.
    pub(super) fn triangle(&self, upper: bool, k: i64) -> Self {
        let [.., rows, cols] = self.shape[..] else { return self.clone() };
        let stays = |at: usize| {
            let (row, col) = ((at / cols % rows) as i64, (at % cols) as i64);
            if upper { col - row >= k } else { col - row <= k }
        };
        let data = self.data.iter().enumerate().map(|(at, &v)| if stays(at) { v } else { 0.0 }).collect();
        Self { data, scales: None, ..self.clone() }
    }

    /// Rows of axis `axis`: `None` if one lies outside.
    pub(super) fn gather(&self, rows: &Self, axis: usize) -> Option<Self> {
        let size = *self.shape.get(axis)?;
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let shape = [&self.shape[..axis], &rows.shape[..], &self.shape[axis + 1..]].concat();
        if shape.len() > MAX_RANK {
            return None;
        }
        let mut data = Vec::with_capacity(constant_elements(&shape)?);
        for o in 0..outer {
            for row in rows.integers() {
                let row = usize::try_from(if row < 0 { row + size as i64 } else { row }).ok().filter(|&r| r < size)?;
                let start = (o * size + row) * inner;
                data.extend_from_slice(&self.data[start..start + inner]);
            }
        }
        Some(Self::new(shape, data, self.integer))
    }
}

/// Row-major strides in elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// All indices of a shape in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let strides = strides(shape);
    let shape = shape.to_vec();
    (0..shape.iter().product::<usize>())
        .map(move |i| shape.iter().zip(&strides).map(|(&size, &stride)| i / stride % size).collect())
}

/// Elements in the typed fields.
fn typed(tensor: &TensorProto) -> Option<Vec<f64>> {
    use element_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT32, INT64, UINT8};
    let ints = || tensor.int32_data.iter();
    match tensor.data_type {
        FLOAT => Some(tensor.float_data.iter().map(|&v| v.into()).collect()),
        DOUBLE => Some(tensor.double_data.clone()),
        INT64 => Some(tensor.int64_data.iter().map(|&v| v as f64).collect()),
        INT32 | INT8 | UINT8 | BOOL => Some(ints().map(|&v| v.into()).collect()),
        FLOAT16 => Some(ints().map(|&v| half::f16::from_bits(v as u16).to_f64()).collect()),
        BFLOAT16 => Some(ints().map(|&v| half::bf16::from_bits(v as u16).to_f64()).collect()),
        _ => None,
    }
}

/// Elements in little-endian bytes.
fn untyped(data_type: i32, raw: &[u8]) -> Option<Vec<f64>> {
    use element_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT32, INT64, UINT8};
    fn chunks<const N: usize>(raw: &[u8], convert: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        Some(raw.chunks_exact(N).map(|b| convert(b.try_into().expect("chunks of N"))).collect())
    }
    match data_type {
        FLOAT => chunks(raw, |b| f32::from_le_bytes(b).into()),
        DOUBLE => chunks(raw, f64::from_le_bytes),
        INT64 => chunks(raw, |b| i64::from_le_bytes(b) as f64),
        INT32 => chunks(raw, |b| i32::from_le_bytes(b).into()),
        INT8 => chunks(raw, |b| i8::from_le_bytes(b).into()),
        UINT8 | BOOL => chunks(raw, |b: [u8; 1]| b[0].into()),
        FLOAT16 => chunks(raw, |b| half::f16::from_le_bytes(b).to_f64()),
        BFLOAT16 => chunks(raw, |b| half::bf16::from_le_bytes(b).to_f64()),
        _ => None,
    }
}

/// The bytes of a tensor whose elements are in a file of their own.
fn external(tensor: &TensorProto, directory: Option<&Path>) -> Result<Vec<u8>, OnnxError> {
    let fail = |reason: String| OnnxError::Tensor { tensor: tensor.name.clone(), reason };
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| -> Result<Option<u64>, OnnxError> {
        entry(key)
            .map(|v| v.parse().map_err(|_| fail(format!("external data: {key} `{v}` is not a number"))))
            .transpose()
    };
    let location = entry("location").ok_or_else(|| fail("external data without a location".into()))?;
    let plain = Path::new(location).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !plain {
        return Err(fail(format!("external data `{location}` lies outside the model's directory")));
    }
    let directory =
        directory.ok_or_else(|| fail(format!("external data `{location}`: read the model from its file")))?;
    let path = directory.join(location);
    let cannot = |e: std::io::Error| fail(format!("external data {}: {e}", path.display()));
    let mut file = std::fs::File::open(&path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > size) {
        let needed = offset.saturating_add(length);
        return Err(fail(format!("external data {} has {size} bytes, but needs {needed}", path.display())));
    }
    // Only this tensor's part: the file has those of the whole model.
    file.seek(SeekFrom::Start(offset)).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(shape: &[usize], data: &[f64]) -> Constant {
        Constant::new(shape.to_vec(), data.to_vec(), false)
    }

    #[test]
    fn a_row_broadcasts_over_a_column() {
        let sum = constant(&[2, 1], &[10.0, 20.0]).zip(&constant(&[3], &[1.0, 2.0, 3.0]), |a, b| a + b).unwrap();
        assert_eq!((sum.shape, sum.data), (vec![2, 3], vec![11.0, 12.0, 13.0, 21.0, 22.0, 23.0]));
        assert!(constant(&[2], &[1.0, 2.0]).zip(&constant(&[3], &[1.0; 3]), |a, b| a + b).is_none());
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let c = constant(&[2, 3, 4], &(0..24).map(f64::from).collect::<Vec<_>>());
        let t = c.transposed(&[2, 0, 1]);
        assert_eq!((t.shape.as_slice(), t.data[1]), ([4, 2, 3].as_slice(), 4.0));
        assert_eq!(t.transposed(&[1, 2, 0]), c);
    }

    #[test]
    fn gather_takes_rows_of_any_axis_and_counts_from_the_end() {
        let c = constant(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let rows = Constant::new(vec![2], vec![-1.0, 0.0], true);
        assert_eq!(c.gather(&rows, 1).unwrap().data, [2.0, 0.0, 5.0, 3.0]);
        assert_eq!(c.gather(&rows, 0).unwrap().data, [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        assert_eq!(c.gather(&Constant::new(vec![], vec![3.0], true), 1), None);
        let each = Constant::new(vec![2, 2], vec![1.0, -1.0, 0.0, 0.0], true);
        assert_eq!(c.gather_elements(&each, 1).unwrap().data, [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(c.gather_elements(&rows, 1), None);
    }
}
