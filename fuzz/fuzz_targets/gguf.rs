//! Files of any bytes as GGUF decoders: read or refused, never a panic or memory without bound; what is read is a well-formed
//! graph.
#![no_main]

use pollux_model::GraphModel;
use pollux_model::llama::LlamaModel;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    if let Ok(LlamaModel { config, tensors, .. }) = LlamaModel::from_bytes(file.to_vec()) {
        let model = GraphModel::from_llama(&config, tensors, 1).expect("what is read fits together");
        model.graph.check().expect("a well-formed graph");
    }
});
