//! Reading tensors of a `model.safetensors` file with their shapes checked.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::error::ModelError;
use crate::matrix::Matrix;

/// A safetensors file in memory; tensor names may carry the family's prefix (`bert.`, `transformer.`).
pub(crate) struct WeightFile {
    path: PathBuf,
    bytes: Vec<u8>,
    prefix: &'static str,
}

impl WeightFile {
    /// Reads `model.safetensors` of a model directory and checks its header.
    pub(crate) fn open(directory: &Path, prefix: &'static str) -> Result<Self, ModelError> {
        let path = directory.join("model.safetensors");
        if !path.exists() && directory.join("pytorch_model.bin").exists() {
            return Err(ModelError::Unsupported {
                path: directory.join("pytorch_model.bin"),
                what: "the pickle format".into(),
                remedy: "convert it to model.safetensors (`save_pretrained(dir, safe_serialization=True)`)".into(),
            });
        }
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        let file = Self { path, bytes, prefix };
        file.tensors()?;
        Ok(file)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| ModelError::Safetensors { path: self.path.clone(), reason: e.to_string() })
    }

    /// Shape of a tensor, if the file has it.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let file = self.tensors().ok()?;
        let tensor = file.tensor(name).or_else(|_| file.tensor(&format!("{}{name}", self.prefix))).ok()?;
        Some(tensor.shape().to_vec())
    }

    /// A two-dimensional float tensor.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix<f32>, ModelError> {
        Ok(Matrix::from_vec(rows, cols, self.floats(name, &[rows, cols])?))
    }

    /// A one-dimensional float tensor.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        self.floats(name, &[length])
    }

    /// A float tensor of that shape, row-major.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let file = self.tensors()?;
        let tensor = file.tensor(name).or_else(|_| file.tensor(&format!("{}{name}", self.prefix))).map_err(|_| {
            ModelError::MissingTensor { path: self.path.clone(), tensor: name.into(), present: file.len() }
        })?;
        if tensor.shape() != shape {
            return Err(ModelError::WrongShape {
                path: self.path.clone(),
                tensor: name.into(),
                expected: shape.to_vec(),
                found: tensor.shape().to_vec(),
            });
        }
        let values = self.convert(name, &tensor)?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { path: self.path.clone(), tensor: name.into(), index }),
            None => Ok(values),
        }
    }

    fn convert(&self, name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, ModelError> {
        let data = tensor.data();
        let halves = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
        match tensor.dtype() {
            Dtype::F32 => Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
            Dtype::F16 => Ok(halves().map(|b| half::f16::from_le_bytes(b).to_f32()).collect()),
            Dtype::BF16 => Ok(halves().map(|b| half::bf16::from_le_bytes(b).to_f32()).collect()),
            other => Err(ModelError::WrongType {
                path: self.path.clone(),
                tensor: name.into(),
                found: format!("{other:?}"),
                expected: "F32, F16 and BF16",
            }),
        }
    }
}
