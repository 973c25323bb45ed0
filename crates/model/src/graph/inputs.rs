//! Inputs of a graph from files: safetensors with a tensor for each input, or NumPy's `.npy` with the only one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::evaluate::Array;
use super::network::{Edge, Graph};
use super::operator;
use crate::error::ModelError;

const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Reads every input of a graph. Images are channels last; an array that only fits channels first is turned, and leading
/// dimensions of size 1 may be missing.
///
/// # Errors
/// A file that cannot be read or is damaged, a missing tensor, or one of another shape or type.
pub fn read_inputs(graph: &Graph, path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>, ModelError> {
    let path = path.as_ref();
    inputs_from_bytes(graph, &std::fs::read(path).map_err(ModelError::io(path))?, path)
}

/// The same from the contents of a file; errors name its path.
///
/// # Errors
/// Contents of another kind, or tensors that are missing or of the wrong type or shape.
pub fn inputs_from_bytes(graph: &Graph, bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Array>, ModelError> {
    let edges: Vec<&Edge> = graph.inputs().map(|edge| graph.edge(edge)).collect();
    let is_npy = bytes.starts_with(NPY_MAGIC);
    let [edge] = edges[..] else {
        if is_npy {
            return Err(ModelError::Unsupported {
                path: path.into(),
                what: format!("one array for {} inputs", edges.len()),
                remedy: "give a safetensors file with a tensor for each input".into(),
            });
        }
        return edges.into_iter().map(|edge| Ok((edge.name.clone(), tensor(path, bytes, edge)?))).collect();
    };
    let array = if is_npy { fit(path, edge, npy(path, bytes)?)? } else { tensor(path, bytes, edge)? };
    Ok(BTreeMap::from([(edge.name.clone(), array)]))
}

fn tensor(path: &Path, bytes: &[u8], edge: &Edge) -> Result<Array, ModelError> {
    let damaged = |reason: String| ModelError::Safetensors { path: path.into(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let tensor = file.tensor(&edge.name).map_err(|_| ModelError::MissingTensor {
        path: path.into(),
        tensor: edge.name.clone(),
        present: file.len(),
    })?;
    if tensor.dtype() != Dtype::F32 {
        return Err(wrong_type(path, &edge.name, &format!("{:?}", tensor.dtype())));
    }
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    fit(path, edge, Array { shape: tensor.shape().to_vec(), data })
}

fn wrong_type(path: &Path, tensor: &str, found: &str) -> ModelError {
    let (path, found) = (PathBuf::from(path), found.to_owned());
    ModelError::WrongType { path, tensor: tensor.to_owned(), found, expected: "F32" }
}

/// The array in the edge's shape.
fn fit(path: &Path, edge: &Edge, array: Array) -> Result<Array, ModelError> {
    if let Some(index) = array.data.iter().position(|value| !value.is_finite()) {
        return Err(ModelError::NotFinite { path: path.into(), tensor: edge.name.clone(), index });
    }
    let without_ones = |shape: &[usize]| shape.iter().skip_while(|&&size| size == 1).copied().collect::<Vec<_>>();
    let wanted = without_ones(&edge.shape);
    if without_ones(&array.shape) == wanted {
        return Ok(Array { shape: edge.shape.clone(), data: array.data });
    }
    if let [images, height, width, channels] = edge.shape[..]
        && without_ones(&array.shape) == without_ones(&[images, channels, height, width])
    {
        let pixels = height * width;
        let at = |i: usize| i / (pixels * channels) * pixels * channels + i % channels * pixels + i / channels % pixels;
        let data = (0..array.data.len()).map(|i| array.data[at(i)]).collect();
        return Ok(Array { shape: edge.shape.clone(), data });
    }
    let (tensor, expected, found) = (edge.name.clone(), edge.shape.clone(), array.shape);
    Err(ModelError::WrongShape { path: path.into(), tensor, expected, found })
}

/// An array of NumPy's format (versions 1 to 3): magic, version, length of the header, header, elements.
fn npy(path: &Path, bytes: &[u8]) -> Result<Array, ModelError> {
    let unsupported = |what: &str| ModelError::Unsupported {
        path: path.into(),
        what: what.to_owned(),
        remedy: "save a float32 array in C order (`numpy.save(file, x.astype('float32', order='C'))`)".into(),
    };
    let version = bytes.get(NPY_MAGIC.len()).copied().unwrap_or(0);
    let width = if version == 1 { 2 } else { 4 };
    let start = NPY_MAGIC.len() + 2 + width;
    let length = bytes.get(start - width..start).map(|b| b.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b)));
    let end = length.and_then(|length| start.checked_add(length));
    let header = end.and_then(|end| std::str::from_utf8(bytes.get(start..end)?).ok());
    let (Some(header), Some(end)) = (header, end) else { return Err(unsupported("a truncated array")) };
    let field = |name: &str| header.split_once(&format!("'{name}':")).map_or("", |(_, rest)| rest.trim_start());
    if !field("descr").starts_with("'<f4'") || !field("fortran_order").starts_with("False") {
        return Err(unsupported(&format!("an array of {}", header.trim_end())));
    }
    let sizes = field("shape").trim_start_matches('(').split(')').next().unwrap_or_default();
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty()).map(str::parse);
    let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| unsupported("an array without a shape"))?;
    let data: Vec<f32> = bytes[end..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    if operator::elements(&shape) != Some(data.len()) {
        return Err(unsupported(&format!("{} elements for the shape {shape:?}", data.len())));
    }
    Ok(Array { shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;

    fn npy_bytes(descr: &str, shape: &str, data: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = NPY_MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Array, ModelError> {
        let mut b = GraphBuilder::new("g");
        b.input("image", &[1, 2, 2, 3]).unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), bytes).unwrap();
        Ok(read_inputs(&b.finish(), path.path())?.remove("image").unwrap())
    }

    #[test]
    fn arrays_are_channels_last_and_turned_if_only_that_fits() {
        let data: Vec<f32> = (0..12u8).map(f32::from).collect();
        let last = read(&npy_bytes("<f4", "(2, 2, 3)", &data)).unwrap();
        assert_eq!((last.shape, &last.data), (vec![1, 2, 2, 3], &data));
        let first = read(&npy_bytes("<f4", "(1, 3, 2, 2)", &data)).unwrap();
        assert_eq!(first.data, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11].map(|x| x as f32));
    }

    #[test]
    fn other_arrays_are_refused_with_a_reason() {
        let data = [0.0; 12];
        let message = |bytes: &[u8]| {
            let error = read(bytes).unwrap_err().to_string();
            error.split_once(": ").map_or(error.clone(), |(_, reason)| reason.to_owned())
        };
        let bytes = npy_bytes("<f4", "(2, 2, 3)", &data);
        let messages = [
            message(&npy_bytes("<f8", "(2, 2, 3)", &data)),
            message(&npy_bytes("<f4", "(2, 3, 3)", &data)),
            message(&npy_bytes("<f4", "(12,)", &data)),
            message(&bytes[..40]),
            message(b"nonsense"),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r"
        an array of {'descr': '<f8', 'fortran_order': False, 'shape': (2, 2, 3), } is not supported; save a float32 array in C order (`numpy.save(file, x.astype('float32', order='C'))`)
        12 elements for the shape [2, 3, 3] is not supported; save a float32 array in C order (`numpy.save(file, x.astype('float32', order='C'))`)
        tensor `image` has shape [12], but the configuration implies [1, 2, 2, 3]
        a truncated array is not supported; save a float32 array in C order (`numpy.save(file, x.astype('float32', order='C'))`)
        not a valid safetensors file: header too large; it may be truncated, fetch it again
        ");
    }
}
