//! Containers: safetensors files whose shapes, scales and constants are JSON in the metadata entry `pollux`.

use std::collections::HashMap;

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::matrix::Matrix;

const METADATA_KEY: &str = "pollux";

/// A tensor as it is stored: name, element type, shape, bytes.
pub(crate) type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// The bytes of a container.
pub(crate) fn serialise(tensors: &[Stored], json: String) -> Result<Vec<u8>, String> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            TensorView::new(*dtype, shape.clone(), data).map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    // One metadata entry only: the order of several is not fixed.
    safetensors::serialize(views, Some(HashMap::from([(METADATA_KEY.to_string(), json)]))).map_err(|e| e.to_string())
}

/// The tensors of a container and its JSON; `what` names what should be in it.
pub(crate) fn open<'a>(bytes: &'a [u8], what: &str) -> Result<(SafeTensors<'a>, String), String> {
    let damaged = |e: safetensors::SafeTensorError| format!("not a valid container, it may be truncated: {e}");
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(METADATA_KEY))
        .ok_or_else(|| format!("the metadata entry `{METADATA_KEY}` is missing; this is not a quantised {what}"))?;
    Ok((file, json.clone()))
}

/// One array that is stored as a tensor instead of JSON.
pub(crate) enum Array<'a> {
    Weights(&'a mut Matrix<i8>),
    /// Stored as F16 if that loses nothing.
    Table(&'a mut Matrix<f32>),
    I8(&'a mut Vec<i8>),
    I32(&'a mut Vec<i32>),
    F32(&'a mut Vec<f32>),
}

/// Arrays with their tensor names; reading and writing both go through such a list.
pub(crate) type Arrays<'a> = Vec<(String, Array<'a>)>;

impl Array<'_> {
    /// Moves the elements out, leaving the array empty.
    pub(crate) fn take(self, name: String) -> Stored {
        match self {
            Self::Weights(m) => {
                let data = std::mem::take(&mut m.data).into_iter().map(|v| v as u8).collect();
                (name, Dtype::I8, vec![m.rows, m.cols], data)
            }
            Self::Table(m) => {
                let data = std::mem::take(&mut m.data);
                let half: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
                let shape = vec![m.rows, m.cols];
                if half.iter().zip(&data).all(|(h, v)| h.to_f32().to_bits() == v.to_bits()) {
                    (name, Dtype::F16, shape, half.into_iter().flat_map(f16::to_le_bytes).collect())
                } else {
                    (name, Dtype::F32, shape, data.into_iter().flat_map(f32::to_le_bytes).collect())
                }
            }
            Self::I8(v) => (name, Dtype::I8, vec![v.len()], std::mem::take(v).into_iter().map(|v| v as u8).collect()),
            Self::I32(v) => {
                (name, Dtype::I32, vec![v.len()], std::mem::take(v).into_iter().flat_map(i32::to_le_bytes).collect())
            }
            Self::F32(v) => {
                (name, Dtype::F32, vec![v.len()], std::mem::take(v).into_iter().flat_map(f32::to_le_bytes).collect())
            }
        }
    }

    /// Fills the array from the tensor of that name.
    pub(crate) fn fill(self, name: &str, file: &SafeTensors<'_>) -> Result<(), String> {
        let finite = |values: &[f32]| match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                Err(format!("tensor `{name}` has the value {} at element {at}, which is no number", values[at]))
            }
            None => Ok(()),
        };
        match self {
            Self::Weights(m) => {
                replace(m, name, read_matrix(file, name, Dtype::I8, |b: [u8; 1]| i8::from_le_bytes(b))?)?
            }
            Self::Table(m) => {
                let half = file.tensor(name).is_ok_and(|tensor| tensor.dtype() == Dtype::F16);
                let read = match half {
                    true => read_matrix(file, name, Dtype::F16, |b| f16::from_le_bytes(b).to_f32())?,
                    false => read_matrix(file, name, Dtype::F32, f32::from_le_bytes)?,
                };
                finite(&read.data)?;
                replace(m, name, read)?;
            }
            Self::I8(v) => *v = elements(file, name, Dtype::I8, |b: [u8; 1]| i8::from_le_bytes(b))?.1,
            Self::I32(v) => *v = elements(file, name, Dtype::I32, i32::from_le_bytes)?.1,
            Self::F32(v) => {
                *v = elements(file, name, Dtype::F32, f32::from_le_bytes)?.1;
                finite(v)?;
            }
        }
        Ok(())
    }
}

/// Puts the elements read into a matrix whose shape is known.
fn replace<T>(m: &mut Matrix<T>, name: &str, read: Matrix<T>) -> Result<(), String> {
    if (read.rows, read.cols) != (m.rows, m.cols) {
        return Err(format!("tensor `{name}` is {}x{}, expected {}x{}", read.rows, read.cols, m.rows, m.cols));
    }
    *m = read;
    Ok(())
}

pub(crate) fn matrix_bytes<T: Copy>(name: &str, dtype: Dtype, m: &Matrix<T>, bytes: impl Fn(T) -> Vec<u8>) -> Stored {
    (name.into(), dtype, vec![m.rows, m.cols], m.data.iter().flat_map(|&v| bytes(v)).collect())
}

pub(crate) fn read_matrix<T: Copy + Default, const N: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Matrix<T>, String> {
    let (shape, data) = elements(file, name, dtype, convert)?;
    match shape[..] {
        [rows, cols] => Ok(Matrix::from_vec(rows, cols, data)),
        _ => Err(format!("tensor `{name}` has shape {shape:?}, expected two dimensions")),
    }
}

/// Shape and elements of one tensor.
pub(crate) fn elements<T, const N: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    convert: impl Fn([u8; N]) -> T,
) -> Result<(Vec<usize>, Vec<T>), String> {
    let tensor = file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
    if tensor.dtype() != dtype {
        return Err(format!("tensor `{name}` has element type {:?}, expected {dtype:?}", tensor.dtype()));
    }
    let data = tensor.data().chunks_exact(N).map(|b| convert(b.try_into().expect("chunks of N"))).collect();
    Ok((tensor.shape().to_vec(), data))
}
