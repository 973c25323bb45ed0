//! The float32 meaning of imported networks against onnxruntime: of small ones in `tests/onnx`, and of networks of other packages.
//!
//! `tests/onnx/reference.py` writes a network's inputs and what onnxruntime computes from them. `POLLUX_ONNX_REFERENCES` names a
//! directory with more of such files; their networks stay where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pollux_model::GraphModel;
use pollux_model::graph::{Array, evaluate, inputs_from_bytes};
use pollux_model::onnx::ImportOptions;
use pollux_model::quality::Quality;
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

/// The lowest cosine between float32 here and there: only the order of additions differs.
const COSINE: f64 = 0.99999;

/// The same where the file's own integers round.
const ROUNDED: f64 = 0.9995;

fn references(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}

/// Channels first, if the array is an image whose expected shape has them there.
fn as_expected(array: &Array, expected: &[usize]) -> Vec<f32> {
    match (array.shape.as_slice(), expected) {
        (&[n, h, w, c], &[m, channels, height, width]) if (n, c, h, w) == (m, channels, height, width) => {
            let at = |i: usize| (i / (c * h * w) * h * w + i % (h * w)) * c + i / (h * w) % c;
            (0..array.data.len()).map(|i| array.data[at(i)]).collect()
        }
        _ => array.data.clone(),
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap();
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (tensor.shape().to_vec(), data)
}

/// Cosine of each output with onnxruntime's, or why there is none; nothing for a file of another kind.
fn compare(path: &Path, least: f64) -> Option<Result<String, String>> {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().filter(|metadata| metadata.contains_key("model"))?;
    Some(compare_with(path, &bytes, &metadata, least))
}

fn compare_with(
    path: &Path,
    bytes: &[u8],
    metadata: &std::collections::HashMap<String, String>,
    least: f64,
) -> Result<String, String> {
    fn read<T: DeserializeOwned>(metadata: &std::collections::HashMap<String, String>, key: &str) -> T {
        serde_json::from_str(&metadata[key]).unwrap()
    }
    let options =
        ImportOptions { dimensions: read(metadata, "dimensions"), inputs: read(metadata, "inputs"), requantise: true };
    // Beside the reference, unless its path is absolute.
    let model = path.with_file_name("").join(&metadata["model"]);
    let model = GraphModel::load_onnx(model, &options).map_err(|error| error.to_string())?;
    model.graph.check().map_err(|error| error.to_string())?;
    let inputs = inputs_from_bytes(&model.graph, bytes, path).map_err(|error| error.to_string())?;
    let inputs: BTreeMap<&str, Array> = inputs.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
    let values = evaluate(&model, &inputs).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).unwrap();
    let names = model.graph.outputs.iter().map(|&edge| (edge, model.graph.edge(edge).name.clone()));
    let outputs: Vec<String> =
        file.names().into_iter().filter(|name| name.starts_with("output:")).map(Into::into).collect();
    let mut cosines = Vec::new();
    for (edge, name) in names {
        // Views of an output have names of their own: the shape tells.
        let found = &values[&edge];
        let expected = outputs.iter().map(|output| floats(&file, output)).find(|(shape, data)| {
            data.len() == found.data.len() && Quality::of(&as_expected(found, shape), data).cosine > least
        });
        match expected {
            Some((shape, data)) => {
                cosines.push(format!("{:.7}", Quality::of(&as_expected(found, &shape), &data).cosine))
            }
            None => {
                let cosines: Vec<f64> = outputs
                    .iter()
                    .map(|output| floats(&file, output))
                    .filter(|(_, data)| data.len() == found.data.len())
                    .map(|(shape, data)| Quality::of(&as_expected(found, &shape), &data).cosine)
                    .collect();
                return Err(format!("output `{name}` of shape {:?} is none of {outputs:?}: {cosines:?}", found.shape));
            }
        }
    }
    Ok(format!("{} nodes, cosines {}", model.graph.nodes.len(), cosines.join(" ")))
}

#[test]
fn small_networks_mean_what_onnxruntime_computes() {
    let mut compared = Vec::new();
    for path in references(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let least = if ["dynamic", "qlinear"].contains(&name.as_str()) { ROUNDED } else { COSINE };
        if let Some(result) = compare(&path, least) {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
            compared.push(name);
        }
    }
    assert_eq!(compared, ["dynamic", "general", "qlinear", "row", "vision"]);
}

#[test]
fn networks_of_other_packages_mean_what_onnxruntime_computes() {
    let Some(directory) = std::env::var_os("POLLUX_ONNX_REFERENCES") else { return };
    let mut failed = 0;
    for path in references(Path::new(&directory)) {
        let Some(result) = compare(&path, COSINE) else { continue };
        failed += usize::from(result.is_err());
        let (Ok(text) | Err(text)) = result;
        println!("{}: {text}", path.file_stem().unwrap_or_default().to_string_lossy());
    }
    assert_eq!(failed, 0, "networks differ");
}
