//! The file of one quantised layer: a safetensors container with a sample to run it on.
//!
//! Arrays are tensors (`query.weights` I8, `query.bias` I32, `attention_norm.term0` I8, `encoding.input.scale`
//! F32, ...; `sample.input` I8, `sample.float_input` and `sample.float_output` F32, tokens x hidden). Everything
//! else (shapes, scales, constants, operands, column groups, and where the weights come from) is JSON in the
//! metadata entry `pollux`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::decoder::QuantisedBlock;
use crate::error::ModelError;
use crate::float::AttentionMask;
use crate::layer::{DiagonalSum, Encoding, Linear, QuantisedLayer};
use crate::layer_reference::{LayerTrace, layer_reference};
use crate::matrix::Matrix;
use crate::quality::Quality;
use crate::tensor::Tensor;

/// Version of the container's layout.
pub const FORMAT_VERSION: u32 = 1;
const METADATA_KEY: &str = "pollux";

/// Where a layer's weights come from, and the sentence of its sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the model.
    pub model: String,
    /// Number of the layer in the model.
    pub layer: usize,
    /// SPDX identifier of the weights' licence.
    pub license: String,
    /// The sample's text.
    pub text: String,
    /// The sample's token ids.
    pub tokens: Vec<u32>,
}

/// A quantised layer with a sample: its int8 input, and the float32 layer's input and output.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerFile {
    /// Where the weights come from.
    pub origin: Origin,
    /// The layer.
    pub layer: QuantisedLayer,
    /// Sample input, tokens x hidden, encoded as [`Tensor::Input`].
    pub input: Matrix<i8>,
    /// The float32 layer's input that `input` stands for.
    pub float_input: Matrix<f32>,
    /// The float32 layer's output on `float_input`.
    pub float_output: Matrix<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    origin: Origin,
    layer: QuantisedLayer,
}

/// Layer 0 of all-MiniLM-L6-v2, quantised: the default that needs no download.
///
/// # Panics
/// Never: a test reads the embedded file.
pub fn embedded_default() -> LayerFile {
    let bytes = include_bytes!("../data/layer0.safetensors");
    LayerFile::from_bytes(bytes, "embedded default").expect("the embedded file is valid")
}

impl LayerFile {
    /// Runs the integer reference on the sample and compares its dequantised output with the float32 layer's.
    ///
    /// # Errors
    /// As [`layer_reference`].
    pub fn evaluate(&self) -> Result<(LayerTrace, Quality), ModelError> {
        let trace = layer_reference(&self.layer, &self.input, AttentionMask::Full)?;
        let quality = self.quality(trace.output());
        Ok((trace, quality))
    }

    /// Compares an int8 output of the layer on the sample with the float32 layer's.
    ///
    /// # Panics
    /// If `output` has another shape than the sample's output.
    pub fn quality(&self, output: &Matrix<i8>) -> Quality {
        Quality::of(&self.layer.encoding(Tensor::Output).dequantise(output).data, &self.float_output.data)
    }

    /// The container's bytes; the same layer always gives the same bytes.
    ///
    /// # Errors
    /// If the container cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let fail = |reason: String| ModelError::Container { origin: self.origin.model.clone(), reason };
        let mut layer = self.layer.clone();
        let mut tensors: Vec<Stored> = arrays(&mut layer).into_iter().map(|(name, array)| array.take(name)).collect();
        tensors.push(matrix_bytes("sample.input", Dtype::I8, &self.input, |v| v.to_le_bytes().to_vec()));
        for (name, m) in [("sample.float_input", &self.float_input), ("sample.float_output", &self.float_output)] {
            tensors.push(matrix_bytes(name, Dtype::F32, m, |v| v.to_le_bytes().to_vec()));
        }
        let header = Header { version: FORMAT_VERSION, origin: self.origin.clone(), layer };
        let json = serde_json::to_string(&header).map_err(|e| fail(e.to_string()))?;
        serialise(&tensors, json).map_err(fail)
    }

    /// Reads a container from memory; `origin` names it in errors.
    ///
    /// # Errors
    /// If the bytes are truncated, of another version, or inconsistent.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, ModelError> {
        let fail = |reason: String| ModelError::Container { origin: origin.into(), reason };
        let (file, json) = open(bytes, "layer").map_err(&fail)?;
        let json = json.as_str();
        let version: serde_json::Value = serde_json::from_str(json).map_err(|e| fail(e.to_string()))?;
        if version["version"] != FORMAT_VERSION {
            return Err(fail(format!("format version {} cannot be read, only {FORMAT_VERSION}", version["version"])));
        }
        let Header { origin: source, mut layer, .. } = serde_json::from_str(json).map_err(|e| fail(e.to_string()))?;
        for (name, array) in arrays(&mut layer) {
            array.fill(&name, &file).map_err(&fail)?;
        }
        layer.check().map_err(&fail)?;
        let input = read_matrix(&file, "sample.input", Dtype::I8, |b: [u8; 1]| i8::from_le_bytes(b)).map_err(&fail)?;
        let [float_input, float_output] = ["sample.float_input", "sample.float_output"]
            .map(|name| read_matrix(&file, name, Dtype::F32, f32::from_le_bytes));
        let (float_input, float_output) = (float_input.map_err(&fail)?, float_output.map_err(&fail)?);
        for (name, sample) in [("input", &float_input), ("output", &float_output)] {
            if let Some(at) = sample.data.iter().position(|value| !value.is_finite()) {
                return Err(fail(format!(
                    "tensor `sample.float_{name}` has the value {} at element {at}, which is no number",
                    sample.data[at]
                )));
            }
        }
        for (rows, cols) in
            [(input.rows, input.cols), (float_input.rows, float_input.cols), (float_output.rows, float_output.cols)]
        {
            if (rows, cols) != (source.tokens.len(), layer.hidden) {
                return Err(fail(format!(
                    "the sample is {rows}x{cols}, expected {}x{}",
                    source.tokens.len(),
                    layer.hidden
                )));
            }
        }
        Ok(Self { origin: source, layer, input, float_input, float_output })
    }

    /// Writes the container to a file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_bytes()?).map_err(ModelError::io(path))
    }

    /// Reads the container from a file.
    ///
    /// # Errors
    /// As [`LayerFile::from_bytes`], and if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(ModelError::io(path))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }
}

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

/// All arrays of a layer.
pub(crate) fn arrays(layer: &mut QuantisedLayer) -> Arrays<'_> {
    let mut list = Vec::new();
    for (name, linear) in [
        ("query", &mut layer.query),
        ("key", &mut layer.key),
        ("value", &mut layer.value),
        ("attention_output", &mut layer.attention_output),
        ("intermediate", &mut layer.intermediate),
        ("ffn_output", &mut layer.ffn_output),
    ] {
        linear_arrays(&mut list, name, linear);
    }
    for (name, sum) in [
        ("attention_norm", &mut layer.attention_norm),
        ("gelu", &mut layer.gelu),
        ("output_norm", &mut layer.output_norm),
    ] {
        diagonal_sum_arrays(&mut list, name, sum);
    }
    encoding_arrays(&mut list, &mut layer.encodings);
    list
}

/// All arrays of a decoder block.
pub(crate) fn block_arrays(block: &mut QuantisedBlock) -> Arrays<'_> {
    let mut list = Vec::new();
    for (name, linear) in [
        ("query", &mut block.query),
        ("key", &mut block.key),
        ("value", &mut block.value),
        ("attention_output", &mut block.attention_output),
        ("intermediate", &mut block.intermediate),
        ("ffn_output", &mut block.ffn_output),
    ] {
        linear_arrays(&mut list, name, linear);
    }
    diagonal_sum_arrays(&mut list, "gelu", &mut block.gelu);
    for (name, norm) in [("attention_norm", &mut block.attention_norm), ("output_norm", &mut block.output_norm)] {
        let terms = norm.terms.iter_mut().enumerate();
        list.extend(terms.map(|(i, term)| (format!("{name}.term{i}"), Array::I8(term))));
    }
    encoding_arrays(&mut list, &mut block.encodings);
    list
}

fn linear_arrays<'a>(list: &mut Arrays<'a>, name: &str, linear: &'a mut Linear) {
    list.push((format!("{name}.weights"), Array::Weights(&mut linear.weights)));
    list.push((format!("{name}.bias"), Array::I32(&mut linear.bias)));
}

fn diagonal_sum_arrays<'a>(list: &mut Arrays<'a>, name: &str, sum: &'a mut DiagonalSum) {
    list.push((format!("{name}.bias"), Array::I32(&mut sum.bias)));
    let terms = sum.terms.iter_mut().enumerate();
    list.extend(terms.map(|(i, term)| (format!("{name}.term{i}"), Array::I8(&mut term.diagonal))));
}

fn encoding_arrays<'a>(list: &mut Arrays<'a>, encodings: &'a mut BTreeMap<Tensor, Encoding>) {
    for (tensor, encoding) in encodings {
        list.push((format!("encoding.{tensor}.scale"), Array::F32(&mut encoding.scale)));
        list.push((format!("encoding.{tensor}.offset"), Array::F32(&mut encoding.offset)));
    }
}

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

fn matrix_bytes<T: Copy>(name: &str, dtype: Dtype, m: &Matrix<T>, bytes: impl Fn(T) -> Vec<u8>) -> Stored {
    (name.into(), dtype, vec![m.rows, m.cols], m.data.iter().flat_map(|&v| bytes(v)).collect())
}

fn read_matrix<T: Copy + Default, const N: usize>(
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
