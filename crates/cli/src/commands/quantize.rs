//! `pollux quantize`

use std::path::Path;

use pollux_model::bert::BertModel;
use pollux_model::calibrate::RangeMethod;
use pollux_model::container::Origin;
use pollux_model::quality::Quality;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::tensor::Tensor;
use pollux_model::{AttentionMask, LayerFile, layer_reference};
use serde::Serialize;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath, OutputPath};
use crate::output::{Output, table};
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux quantize all-MiniLM-L6-v2 --calibration programs/minilm/calibration.txt -o layer0.safetensors
  pollux quantize my-bert --calibration sentences.txt --layer 3 --range percentile=99.9 -o layer3.safetensors
  pollux quantize my-bert --calibration sentences.txt                  only report the accuracy of all layers
  pollux demo --layer layer0.safetensors";

/// Quantise a BERT-family model to INT8.
///
/// Reads a model directory (config.json, model.safetensors, tokenizer), measures the ranges of all tensors on
/// calibration sentences, and quantises every layer. Each layer is compared with its float32 original on the sample
/// sentence.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Model directory.
    #[arg(value_name = "MODEL_DIR")]
    model: NamedPath,
    /// Calibration sentences, one a line.
    #[arg(long, value_name = "FILE")]
    calibration: InputPath,
    /// Layer to write, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "output")]
    layer: usize,
    /// File for the layer and its sample; by default nothing is written.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
    /// Sample sentence; by default the first calibration sentence.
    #[arg(long, value_name = "SENTENCE")]
    text: Option<String>,
    /// Range of activations: min-max, mse, or percentile=P with P in percent.
    #[arg(long, value_name = "METHOD", default_value = "min-max")]
    range: RangeMethod,
    /// Channels with outliers that get a read-out of their own (a multiple of the array's width).
    #[arg(long, value_name = "N", default_value_t = 0)]
    outlier_channels: usize,
    /// Licence of the weights (SPDX), noted in the file.
    #[arg(long, value_name = "SPDX", default_value = "unknown", requires = "output")]
    license: String,
}

/// Accuracy of one layer on the sample.
#[derive(Serialize)]
struct LayerReport {
    layer: usize,
    #[serde(flatten)]
    quality: Quality,
    /// Additions that wrapped around in int32; 0 unless the calibration is not representative.
    wraps: usize,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let sentences = program_file::read_text(&arguments.calibration)?;
    let sentences: Vec<&str> = sentences.lines().filter(|line| !line.trim().is_empty()).collect();
    let sample = arguments.text.as_deref().or(sentences.first().copied()).unwrap_or_default();
    let options = QuantiseOptions {
        method: arguments.range,
        outlier_channels: arguments.outlier_channels,
        ..QuantiseOptions::default()
    };
    let spinner = progress::spinner(out, "reading the model");
    let model = BertModel::load(&*arguments.model).map_err(Failure::input)?;
    let count = model.layers.len();
    if arguments.layer >= count {
        let index = arguments.layer;
        return Err(Failure::input(pollux_model::ModelError::NoSuchLayer { index, count }));
    }
    spinner.set_message("calibrating and quantising");
    let ids = sentences.iter().map(|sentence| model.tokenize(sentence)).collect::<Result<Vec<_>, _>>();
    let quantised = QuantisedModel::build(model, &ids.map_err(Failure::input)?, &options).map_err(Failure::input)?;
    spinner.set_message("comparing with float32");
    let files = sample_files(&quantised, sample, arguments)?;
    let reports = files.iter().map(report).collect::<Result<Vec<_>, _>>()?;
    spinner.finish_and_clear();

    if let Some(path) = &arguments.output {
        out.write(path, &files[arguments.layer].to_bytes().map_err(Failure::input)?)?;
    }
    out.json(&json!({ "output": arguments.output, "text": sample, "layers": reports }))?;
    let mut rows = vec![["layer", "cosine", "max error", "SQNR dB", "wraps"].map(str::to_owned).to_vec()];
    for LayerReport { layer, quality, wraps } in &reports {
        let [cosine, error] = [format!("{:.5}", quality.cosine), format!("{:.3}", quality.max_error)];
        rows.push(vec![layer.to_string(), cosine, error, format!("{:.1}", quality.sqnr_db), wraps.to_string()]);
    }
    out.text(&table(&rows))?;
    if let Some(path) = &arguments.output {
        out.text(&format!("{}: layer {}, sample \"{sample}\"\n", path.display(), arguments.layer))?;
    }
    Ok(Outcome::Agrees)
}

/// Every layer with its float32 input and output on the sample sentence.
fn sample_files(quantised: &QuantisedModel, text: &str, arguments: &Arguments) -> Result<Vec<LayerFile>, Failure> {
    let model = &quantised.model;
    let tokens = model.tokenize(text).map_err(Failure::input)?;
    let mut x = model.embed_tokens(&tokens).map_err(Failure::input)?;
    let mut files = Vec::new();
    for (index, layer) in quantised.layers.iter().enumerate() {
        let trace = model.forward_layer(index, &x, AttentionMask::Full).map_err(Failure::input)?;
        let float_output = trace.get(Tensor::Output).clone();
        let origin = Origin {
            model: directory_name(&arguments.model),
            layer: index,
            license: arguments.license.clone(),
            text: text.to_owned(),
            tokens: tokens.clone(),
        };
        let input = layer.encoding(Tensor::Input).quantise(&x);
        files.push(LayerFile {
            origin,
            layer: layer.clone(),
            input,
            float_input: x,
            float_output: float_output.clone(),
        });
        x = float_output;
    }
    Ok(files)
}

fn directory_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn report(file: &LayerFile) -> Result<LayerReport, Failure> {
    let trace = layer_reference(&file.layer, &file.input, AttentionMask::Full).map_err(Failure::input)?;
    Ok(LayerReport { layer: file.origin.layer, quality: file.quality(trace.output()), wraps: trace.wraps })
}
