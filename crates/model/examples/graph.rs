//! Prints a network as a table of operators: a model directory or an ONNX file.
//!
//! ```text
//! cargo run -p pollux-model --example graph -- all-MiniLM-L6-v2 tokens=128
//! cargo run -p pollux-model --example graph -- model.onnx batch=1 sequence=128
//! cargo run -p pollux-model --example graph -- resnet50
//! ```

use std::collections::BTreeMap;

use pollux_model::gpt2::Positions;
use pollux_model::graph::families::{ResNetConfig, bert, gpt2, resnet};
use pollux_model::onnx::ImportOptions;
use pollux_model::{FloatModel, GraphModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, sizes @ ..] = &arguments[..] else {
        return Err("usage: graph MODEL_DIR|FILE.onnx|resnet50 [DIMENSION=SIZE ...]".into());
    };
    let mut dimensions = BTreeMap::new();
    for size in sizes {
        let (name, value) = size.split_once('=').ok_or("a size is given as DIMENSION=SIZE")?;
        dimensions.insert(name.to_owned(), value.parse()?);
    }
    let graph = if path == "resnet50" {
        resnet(&ResNetConfig::resnet50())?
    } else if path.ends_with(".onnx") {
        GraphModel::load_onnx(path, &ImportOptions { dimensions, ..ImportOptions::default() })?.graph
    } else {
        let tokens = dimensions.get("tokens").copied().unwrap_or(128);
        match FloatModel::load(path)? {
            FloatModel::Encoder(model) => bert(&model.config, tokens)?,
            FloatModel::Decoder(model) => gpt2(&model.config, Positions::prefill(tokens))?,
        }
    };
    println!("{graph}");
    Ok(())
}
