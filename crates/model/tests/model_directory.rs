//! Reading model directories: the float32 encoder against Hugging Face transformers, and every error a user can meet.
//!
//! `tiny-bert` is a random BERT of 2 layers, hidden 32; `expected.safetensors` holds what transformers computes for
//! it (the file's metadata names versions and text).

use std::fs;
use std::path::{Path, PathBuf};

use pollux_model::bert::BertModel;
use pollux_model::quality::{Quality, cosine};
use pollux_model::{AttentionMask, Matrix, ModelError, Tensor};
use safetensors::SafeTensors;
use tempfile::TempDir;

const TEXT: &str = "The unhappy cats sat on a mat, playing unhappily.";

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-bert")
}

fn expected(name: &str) -> Vec<f32> {
    let bytes = fs::read(tiny().join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).unwrap().data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A copy of the tiny model to damage.
fn copy() -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"] {
        fs::copy(tiny().join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// The error of loading `dir`, with the directory's own path taken out.
fn load_error(dir: &TempDir) -> String {
    let error = BertModel::load(dir.path()).err().expect("loading must fail").to_string();
    error.replace(&format!("{}/", dir.path().display()), "").replace(&dir.path().display().to_string(), "DIR")
}

fn edit_config(dir: &TempDir, from: &str, to: &str) {
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Rewrites the header of model.safetensors, keeping the length of the header.
fn edit_header(dir: &TempDir, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the header has it");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_hidden_state_equals_that_of_transformers() {
    let model = BertModel::load(tiny()).unwrap();
    let states = expected("hidden_states");
    let mut x = model.embed_tokens(&model.tokenize(TEXT).unwrap()).unwrap();
    let size = x.data.len();
    for (index, state) in states.chunks(size).enumerate() {
        let quality = Quality::of(&x.data, state);
        assert!(quality.max_error < 2e-5, "hidden state {index}: {quality:?}");
        if index < model.layers.len() {
            x = model.forward_layer(index, &x, AttentionMask::Full).unwrap().get(Tensor::Output).clone();
        }
    }
    assert_eq!(states.len(), 3 * size);
}

#[test]
fn the_embedding_equals_that_of_transformers() {
    let model = BertModel::load(tiny()).unwrap();
    assert!(cosine(&model.embed(TEXT).unwrap(), &expected("embedding")) > 0.999_999_9);
}

#[test]
fn tokenizer_json_and_vocab_txt_give_the_same_ids() {
    let dir = copy();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let ids = BertModel::load(dir.path()).unwrap().tokenize(TEXT).unwrap();
    assert_eq!(ids, BertModel::load(tiny()).unwrap().tokenize(TEXT).unwrap());
    assert_eq!(ids.len(), 16);
}

#[test]
fn long_texts_are_cut_and_keep_the_separator() {
    let model = BertModel::load(tiny()).unwrap();
    let ids = model.tokenize(&"cat ".repeat(100)).unwrap();
    assert_eq!((ids.len(), ids[0], ids[23]), (24, 2, 3));
}

#[test]
fn reordering_the_channels_changes_no_embedding() {
    let mut model = BertModel::load(tiny()).unwrap();
    let before = model.embed(TEXT).unwrap();
    let order: Vec<usize> = (0..32).map(|i| (i * 13 + 5) % 32).collect();
    model.reorder_hidden(&order);
    model.reorder_hidden(&order);
    let quality = Quality::of(&model.embed(TEXT).unwrap(), &before);
    assert!(quality.max_error < 1e-6, "{quality:?}");
}

#[test]
fn padding_does_not_change_the_real_tokens() {
    let model = BertModel::load(tiny()).unwrap();
    let x = model.embed_tokens(&[2, 7, 8, 3, 0, 0]).unwrap();
    let valid = Matrix::from_fn(4, 32, |r, c| x.at(r, c));
    let padded = model.forward_layer(0, &x, AttentionMask::Padding { valid: 4 }).unwrap();
    let alone = model.forward_layer(0, &valid, AttentionMask::Full).unwrap();
    assert_eq!(padded.get(Tensor::Output).data[..4 * 32], alone.get(Tensor::Output).data[..]);
}

#[test]
fn a_missing_file_is_named() {
    let dir = copy();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(load_error(&dir), "model.safetensors: No such file or directory (os error 2)");
    fs::write(dir.path().join("pytorch_model.bin"), b"").unwrap();
    insta::assert_snapshot!(load_error(&dir), @"pytorch_model.bin: the pickle format is not supported; convert it to model.safetensors (`save_pretrained(dir, safe_serialization=True)`)");
}

#[test]
fn a_missing_tensor_is_named() {
    let dir = copy();
    edit_header(&dir, "layer.1.output.dense.bias", "layer.1.output.dense.bios");
    insta::assert_snapshot!(load_error(&dir), @"model.safetensors: tensor `encoder.layer.1.output.dense.bias` is missing (the configuration asks for it; the file has 37 tensors)");
}

#[test]
fn a_wrong_shape_names_tensor_and_both_shapes() {
    let dir = copy();
    edit_config(&dir, "\"intermediate_size\": 64", "\"intermediate_size\": 48");
    insta::assert_snapshot!(load_error(&dir), @"model.safetensors: tensor `encoder.layer.0.intermediate.dense.weight` has shape [64, 32], but the configuration implies [48, 32]");
}

#[test]
fn a_wrong_element_type_is_named() {
    let dir = copy();
    edit_header(
        &dir,
        "embeddings.LayerNorm.bias\":{\"dtype\":\"F32\"",
        "embeddings.LayerNorm.bias\":{\"dtype\":\"I32\"",
    );
    insta::assert_snapshot!(load_error(&dir), @"model.safetensors: tensor `embeddings.LayerNorm.bias` has element type I32; F32, F16 and BF16 can be read");
}

#[test]
fn a_truncated_file_is_refused() {
    let dir = copy();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = load_error(&dir);
        assert!(error.starts_with("model.safetensors: not a valid safetensors file: "), "{error}");
        assert!(error.ends_with("it may be truncated, fetch it again"), "{error}");
    }
}

#[test]
fn a_non_finite_weight_is_refused() {
    let dir = copy();
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = load_error(&dir);
    assert!(error.contains("has a NaN or an infinity at element"), "{error}");
}

#[test]
fn bad_configurations_are_explained() {
    for (from, to, message) in [
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"gpt2\"",
            "config.json: model_type `gpt2` is not supported; give a model of type `bert`",
        ),
        (
            "\"gelu\"",
            "\"relu\"",
            "config.json: hidden_act `relu` is not supported; the feed-forward activation must be `gelu`",
        ),
        (
            "\"num_attention_heads\": 4",
            "\"num_attention_heads\": 5",
            "config.json: 5 heads over a hidden size of 32 is not supported; num_attention_heads must divide hidden_size",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 0",
            "config.json: num_hidden_layers 0 is not supported; every size must be at least 1",
        ),
        (
            "\"hidden_size\": 32,",
            "",
            "config.json: not a valid BERT configuration: missing field `hidden_size` at line 12 column 1",
        ),
    ] {
        let dir = copy();
        edit_config(&dir, from, to);
        assert_eq!(load_error(&dir), message);
    }
}

#[test]
fn a_directory_without_tokenizer_says_what_is_missing() {
    let dir = copy();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    fs::remove_file(dir.path().join("vocab.txt")).unwrap();
    assert_eq!(load_error(&dir), "DIR: tokenizer: neither tokenizer.json nor vocab.txt is in the model directory");
    fs::write(dir.path().join("vocab.txt"), "[UNK]\ncat\n").unwrap();
    assert_eq!(load_error(&dir), "vocab.txt: tokenizer: the vocabulary lacks `[SEP]`");
}

#[test]
fn wrong_inputs_are_refused() {
    let model = BertModel::load(tiny()).unwrap();
    let message = |e: ModelError| e.to_string();
    assert_eq!(message(model.embed_tokens(&[]).unwrap_err()), "0 tokens; this model takes 1 to 24");
    assert_eq!(message(model.embed_tokens(&[2; 25]).unwrap_err()), "25 tokens; this model takes 1 to 24");
    assert_eq!(message(model.embed_tokens(&[99]).unwrap_err()), "token id 99 is outside the vocabulary of 25 entries");
    let narrow = Matrix::zeros(2, 31);
    let error = model.forward_layer(0, &narrow, AttentionMask::Full).unwrap_err();
    assert_eq!(message(error), "layer input: 31 columns, but the layer is 32 wide");
    let error = model.forward_layer(2, &Matrix::zeros(2, 32), AttentionMask::Full).unwrap_err();
    assert_eq!(message(error), "layer 2 does not exist; the model has layers 0 to 1");
}
