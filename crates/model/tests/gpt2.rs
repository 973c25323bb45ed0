//! Reading GPT-2 directories: the float32 decoder against Hugging Face transformers, its cache, and every error.
//!
//! `tiny-gpt2` is a random GPT-2 of 2 blocks, width 32, with a byte-pair tokenizer of 64 entries;
//! `expected.safetensors` holds what transformers computes for it (the file's metadata names versions and text).

use std::fs;
use std::path::{Path, PathBuf};

use pollux_model::ModelError;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model};
use pollux_model::quality::Quality;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use safetensors::SafeTensors;
use tempfile::TempDir;

const TEXT: &str = "the cat and the dog sat in the rain";

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-gpt2")
}

fn expected<T, const N: usize>(name: &str, convert: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = fs::read(tiny().join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().chunks_exact(N).map(|b| convert(b.try_into().unwrap())).collect()
}

fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt"] {
        fs::copy(tiny().join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn load_error(dir: &TempDir) -> String {
    let message = Gpt2Model::load(dir.path()).err().expect("loading fails").to_string();
    message.replace(&format!("{}/", dir.path().display()), "").replace(&dir.path().display().to_string(), "DIR")
}

fn edit_config(dir: &TempDir, from: &str, to: &str) {
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn every_hidden_state_and_logit_equals_that_of_transformers() {
    let model = Gpt2Model::load(tiny()).unwrap();
    let ids = model.tokenize(TEXT).unwrap();
    assert_eq!(ids, expected("ids", u32::from_le_bytes));
    let states = expected("hidden_states", f32::from_le_bytes);
    let mut cache = model.cache();
    let mut residual = model.embed_tokens(&ids, 0).unwrap();
    let size = residual.data.len();
    let mut normed = model.entry(&residual);
    for (index, state) in states.chunks(size).enumerate() {
        // The last state is the one after ln_f.
        let last = index == model.blocks.len();
        let quality = Quality::of(if last { &normed.data } else { &residual.data }, state);
        assert!(quality.max_error < 2e-5, "hidden state {index}: {quality:?}");
        if !last {
            let trace = model.forward_block(index, &residual, &normed, &mut cache).unwrap();
            normed = trace.get(pollux_model::Tensor::Output).clone();
            residual = trace.ffn_sum;
        }
    }
    assert_eq!(states.len(), 3 * size);
    let logits: Vec<f32> = (0..ids.len()).flat_map(|t| model.logits(normed.row(t))).collect();
    let quality = Quality::of(&logits, &expected("logits", f32::from_le_bytes));
    assert!(quality.max_error < 1e-4, "{quality:?}");
}

#[test]
fn the_generated_tokens_equal_those_of_transformers() {
    let model = Gpt2Model::load(tiny()).unwrap();
    let ids = model.tokenize(TEXT).unwrap();
    assert_eq!(model.generate(&ids[..6], 10).unwrap(), expected("generated", u32::from_le_bytes));
}

#[test]
fn tokenizer_json_and_vocabulary_with_merges_give_the_same_ids() {
    let dir = copy();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let model = Gpt2Model::load(dir.path()).unwrap();
    let ids = model.tokenize(TEXT).unwrap();
    assert_eq!(ids, Gpt2Model::load(tiny()).unwrap().tokenize(TEXT).unwrap());
    assert_eq!(model.detokenize(&ids).unwrap(), TEXT);
}

/// The same cases in every run.
fn same_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases(16))]

    #[test]
    fn prefill_and_token_by_token_are_equal_to_the_last_bit(
        heads in 1usize..4, head in 2usize..12, tokens in 2usize..12, cut in 1usize..11, seed: u64,
    ) {
        let config = Gpt2Config {
            n_embd: heads * head, n_head: heads, n_layer: 2, n_inner: Some(30), vocab_size: 20, n_positions: 12,
            ..Gpt2Config::small()
        };
        let model = Gpt2Model::synthetic(config, seed).unwrap();
        let ids: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + seed as u32 % 13) % 20).collect();
        let mut whole = model.cache();
        let prefill = model.decode(&ids, &mut whole).unwrap();
        let mut cache = model.cache();
        let cut = cut.min(tokens - 1);
        let mut rows = model.decode(&ids[..cut], &mut cache).unwrap();
        for &id in &ids[cut..] {
            rows.append(&model.decode(&[id], &mut cache).unwrap());
        }
        prop_assert_eq!(rows, prefill);
        prop_assert_eq!(cache, whole);
    }
}

#[test]
fn an_untied_head_is_read() {
    let dir = copy();
    edit_config(&dir, "\"model_type\"", "\"tie_word_embeddings\": false, \"model_type\"");
    insta::assert_snapshot!(load_error(&dir), @r"model.safetensors: tensor `lm_head.weight` is missing (the configuration asks for it; the file has 28 tensors)");
}

#[test]
fn a_wrong_shape_names_tensor_and_both_shapes() {
    let dir = copy();
    edit_config(&dir, "\"n_inner\": null", "\"n_inner\": 96");
    insta::assert_snapshot!(load_error(&dir), @r"model.safetensors: tensor `h.0.mlp.c_fc.weight` has shape [32, 128], but the configuration implies [32, 96]");
}

#[test]
fn bad_configurations_are_explained() {
    let messages: Vec<String> = [
        ("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\""),
        ("gelu_new", "silu"),
        ("\"n_head\": 4", "\"n_head\": 5"),
        ("\"n_layer\": 2", "\"n_layer\": 0"),
        ("\"scale_attn_weights\": true", "\"scale_attn_weights\": false"),
        ("\"n_embd\": 32,", ""),
    ]
    .into_iter()
    .map(|(from, to)| {
        let dir = copy();
        edit_config(&dir, from, to);
        load_error(&dir)
    })
    .collect();
    insta::assert_snapshot!(messages.join("\n"), @r"
    config.json: model_type `llama` is not supported; give a model of type `gpt2`
    config.json: activation_function `silu` is not supported; the feed-forward activation must be `gelu_new`, `gelu_pytorch_tanh` or `gelu`
    config.json: 5 heads over a width of 32 is not supported; n_head must divide n_embd
    config.json: n_layer 0 is not supported; every size must be at least 1
    config.json: this scaling of the attention scores is not supported; scale_attn_weights must be true and scale_attn_by_inverse_layer_idx false
    config.json: not a valid GPT-2 configuration: missing field `n_embd` at line 12 column 1
    ");
}

#[test]
fn a_directory_without_tokenizer_says_what_is_missing() {
    let dir = copy();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    fs::remove_file(dir.path().join("merges.txt")).unwrap();
    insta::assert_snapshot!(load_error(&dir), @r"DIR: tokenizer: neither tokenizer.json nor vocab.json with merges.txt is in the model directory");
}

#[test]
fn wrong_inputs_are_refused() {
    let model = Gpt2Model::load(tiny()).unwrap();
    let message = |e: ModelError| e.to_string();
    assert_eq!(message(model.embed_tokens(&[], 0).unwrap_err()), "0 tokens; this model takes 1 to 32");
    assert_eq!(message(model.embed_tokens(&[1; 3], 30).unwrap_err()), "33 tokens; this model takes 1 to 32");
    assert_eq!(
        message(model.embed_tokens(&[64], 0).unwrap_err()),
        "token id 64 is outside the vocabulary of 64 entries"
    );
    let rows = model.embed_tokens(&[1], 0).unwrap();
    let error = model.forward_block(2, &rows, &rows, &mut model.cache()).unwrap_err();
    assert_eq!(message(error), "layer 2 does not exist; the model has layers 0 to 1");
}
