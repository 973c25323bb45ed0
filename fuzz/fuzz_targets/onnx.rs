//! Files of any bytes as ONNX networks: imported or refused, never a panic or memory without bound; what is imported is a
//! well-formed graph.
#![no_main]

use pollux_model::GraphModel;
use pollux_model::onnx::ImportOptions;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let options = ImportOptions { requantise: true, ..ImportOptions::default() };
    if let Ok(model) = GraphModel::from_onnx(file, &options) {
        model.graph.check().expect("an import gives a well-formed graph");
    }
});
