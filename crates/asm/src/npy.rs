//! NumPy's `.npy` files of `int8` and `int32` arrays.
//!
//! Format: magic, version, length of the header, a Python dictionary as text, then the elements in C order.

use thiserror::Error;

use crate::program::ElementType;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The header's end is aligned to this many bytes.
const ALIGNMENT: usize = 64;
/// Magic, version and a 16-bit header length.
const PREAMBLE: usize = MAGIC.len() + 4;

/// An array as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Element type.
    pub element: ElementType,
    /// Extents, outermost first.
    pub shape: Vec<u64>,
    /// Elements, little endian, in C order.
    pub data: Vec<u8>,
}

/// Why a file is not a usable array.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NpyError {
    /// Not the format at all.
    #[error("not an .npy file: it does not begin with \\x93NUMPY and a version from 1.0 to 3.0")]
    NotNpy,
    /// The header's dictionary lacks an entry or has a strange one.
    #[error("the .npy header has no usable `{0}`")]
    Header(&'static str),
    /// An element type that Gemmini does not have.
    #[error("elements of type {0:?} are not supported: save the array as int8 (\"|i1\") or int32 (\"<i4\")")]
    Element(String),
    /// Columns first.
    #[error("the array is in Fortran order: save it with numpy.ascontiguousarray")]
    FortranOrder,
    /// The elements do not fill the shape.
    #[error("the file holds {actual} bytes of elements, but its shape needs {expected}")]
    Length {
        /// Bytes in the file.
        actual: u64,
        /// Bytes of the shape.
        expected: u64,
    },
}

/// Reads a file's contents.
///
/// # Errors
/// Another format, element type or order, or a length that does not fit the shape.
pub fn read(contents: &[u8]) -> Result<Array, NpyError> {
    let (header, data) = split(contents).ok_or(NpyError::NotNpy)?;
    let header = str::from_utf8(header).map_err(|_| NpyError::NotNpy)?;
    let descr = quoted(value(header, "descr").ok_or(NpyError::Header("descr"))?).ok_or(NpyError::Header("descr"))?;
    let element = match descr {
        "|i1" | "<i1" | "i1" => ElementType::I8,
        "<i4" => ElementType::I32,
        other => return Err(NpyError::Element(other.to_owned())),
    };
    match value(header, "fortran_order") {
        Some(order) if order.starts_with("False") => {}
        Some(order) if order.starts_with("True") => return Err(NpyError::FortranOrder),
        _ => return Err(NpyError::Header("fortran_order")),
    }
    let shape = value(header, "shape").and_then(shape).ok_or(NpyError::Header("shape"))?;
    let expected = shape.iter().try_fold(element.size(), |len, extent| len.checked_mul(*extent));
    let expected = expected.ok_or(NpyError::Header("shape"))?;
    let actual = data.len() as u64;
    if actual != expected {
        return Err(NpyError::Length { actual, expected });
    }
    Ok(Array { element, shape, data: data.to_vec() })
}

/// The header's text and the elements.
fn split(contents: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = contents.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = match version {
        [1, 0] => rest.split_first_chunk().map(|(len, rest)| (u16::from_le_bytes(*len).into(), rest))?,
        [2 | 3, 0] => rest.split_first_chunk().map(|(len, rest)| (u32::from_le_bytes(*len), rest))?,
        _ => return None,
    };
    rest.split_at_checked(len as usize)
}

/// The text behind `'key':`.
fn value<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let (_, rest) = ['\'', '"'].iter().find_map(|quote| header.split_once(&format!("{quote}{key}{quote}")))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split(quote).next()
}

/// A tuple of extents.
fn shape(text: &str) -> Option<Vec<u64>> {
    let (inner, _) = text.strip_prefix('(')?.split_once(')')?;
    let extents = inner.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}

/// The contents of a file with this array, version 1.0.
pub fn write(array: &Array) -> Vec<u8> {
    let descr = match array.element {
        ElementType::I8 => "|i1",
        ElementType::I32 => "<i4",
    };
    let extents: String = array.shape.iter().map(|extent| format!("{extent},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    let padded = (PREAMBLE + header.len() + 1).next_multiple_of(ALIGNMENT) - PREAMBLE;
    header.push_str(&" ".repeat(padded - 1 - header.len()));
    header.push('\n');
    let len = header.len() as u16;
    [MAGIC, &[1, 0][..], &len.to_le_bytes(), header.as_bytes(), &array.data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, &[1, 0][..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (element, shape) in [(ElementType::I8, vec![]), (ElementType::I8, vec![3]), (ElementType::I32, vec![2, 3])]
        {
            let len = shape.iter().product::<u64>() * element.size();
            let array = Array { element, shape, data: (0..len as u8).collect() };
            let contents = write(&array);
            assert_eq!((contents.len() - array.data.len()) % ALIGNMENT, 0);
            assert_eq!(read(&contents), Ok(array));
        }
    }

    #[test]
    fn a_file_as_numpy_2_writes_it_is_read() {
        let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }            \n";
        let array = Array { element: ElementType::I32, shape: vec![1, 2], data: vec![1, 0, 0, 0, 2, 0, 0, 0] };
        assert_eq!(read(&file(header, &[1, 0, 0, 0, 2, 0, 0, 0])), Ok(array));
    }

    #[test]
    fn every_refusal_says_why() {
        let dictionary = |descr: &str, order: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"), &[0; 4])
        };
        let cases = [
            (b"\x93NUMPY\x04\0".to_vec(), NpyError::NotNpy),
            (b"\x93NUMPY\x01\0\x50\0{".to_vec(), NpyError::NotNpy),
            (file("{}", &[]), NpyError::Header("descr")),
            (dictionary("'<f4'", "False", "(1,)"), NpyError::Element("<f4".to_owned())),
            (dictionary("'|i1'", "True", "(4,)"), NpyError::FortranOrder),
            (dictionary("'|i1'", "0", "(4,)"), NpyError::Header("fortran_order")),
            (dictionary("'|i1'", "False", "4"), NpyError::Header("shape")),
            (dictionary("'|i1'", "False", "(99999999999, 99999999999)"), NpyError::Header("shape")),
            (dictionary("'|i1'", "False", "(5,)"), NpyError::Length { actual: 4, expected: 5 }),
        ];
        for (contents, error) in cases {
            assert_eq!(read(&contents), Err(error));
        }
    }
}
