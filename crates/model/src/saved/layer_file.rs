//! The file of one quantised layer: a safetensors container with a sample to run it on.
//!
//! Arrays are tensors (`query.weights` I8, `query.bias` I32, `attention_norm.term0` I8, `encoding.input.scale`
//! F32, ...; `sample.input` I8, `sample.float_input` and `sample.float_output` F32, tokens x hidden). Everything
//! else (shapes, scales, constants, operands, column groups, and where the weights come from) is JSON in the
//! metadata entry `pollux`.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::decoder::QuantisedBlock;
use crate::error::ModelError;
use crate::files::container::{Array, Arrays, Stored, matrix_bytes, open, read_matrix, serialise};
use crate::float::AttentionMask;
use crate::layer::{DiagonalSum, Encoding, Linear, QuantisedLayer};
use crate::matrix::Matrix;
use crate::quality::Quality;
use crate::reference::layer::{LayerTrace, layer_reference};
use crate::tensor::Tensor;

/// Version of the container's layout.
pub const FORMAT_VERSION: u32 = 1;

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
    let bytes = include_bytes!("../../data/layer0.safetensors");
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
