//! Llama-like decoders from GGUF files: blocks, float32 against llama.cpp, INT8 at any positions, and damaged files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pollux_model::gpt2::{Positions, likeliest};
use pollux_model::graph::{GraphOptions, ReadOut};
use pollux_model::llama::LlamaModel;
use pollux_model::quantise::llama::FloatLlama;
use proptest::prelude::*;
use serde::Deserialize;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf").join(name)
}

fn bytes() -> Vec<u8> {
    std::fs::read(file("tiny-llama.gguf")).expect("the file")
}

fn tiny() -> FloatLlama {
    FloatLlama::new(LlamaModel::load(file("tiny-llama.gguf")).expect("a model")).expect("a graph")
}

#[derive(Deserialize)]
struct Reference {
    prompt: String,
    following: Vec<u32>,
    log_probabilities: Vec<f64>,
}

fn reference() -> Reference {
    let text = std::fs::read_to_string(file("tiny-llama.json")).expect("the file");
    serde_json::from_str(&text).expect("a reference")
}

#[test]
fn float32_is_that_of_llama_cpp() {
    let (mut model, reference) = (tiny(), reference());
    let mut ids = model.vocabulary.tokenize(&reference.prompt).expect("tokens");
    let prompt = ids.len();
    for &next in &reference.following {
        let logits = model.logits(&ids).expect("logits").pop().expect("a row");
        if ids.len() == prompt {
            let most = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
            let sum = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln();
            for (&logit, expected) in logits.iter().zip(&reference.log_probabilities) {
                let found = f64::from(logit) - most - sum;
                assert!((found - expected).abs() < 1e-3, "{found} {expected}");
            }
        }
        assert_eq!(likeliest(&logits), next);
        ids.push(next);
    }
}

#[test]
fn text_becomes_tokens_and_text_again() {
    let model = tiny();
    let ids = model.vocabulary.tokenize("the array adds 12").expect("tokens");
    // `the`, ` array` and ` add` are merged; every digit stands alone; the first token is not added.
    assert_eq!(ids.len(), 1 + 1 + 1 + 1 + 1 + 2, "{ids:?}");
    assert_eq!(model.vocabulary.detokenize(&ids).expect("text"), "the array adds 12");
    let special = model.vocabulary.tokenize("<|im_start|>the").expect("tokens");
    assert_eq!(special[0], 1);
}

#[test]
fn int8_token_by_token_is_int8_at_once() {
    [ReadOut::Int8, ReadOut::Int32, ReadOut::Int32Rows].into_iter().for_each(token_by_token_is_at_once);
}

fn token_by_token_is_at_once(read_out: ReadOut) {
    let mut float = tiny();
    let ids: Vec<u32> = float.vocabulary.tokenize("the array adds 2 + 2 + the array").expect("tokens");
    let options = GraphOptions { read_out, ..GraphOptions::default() };
    let int8 = float.quantise(std::slice::from_ref(&ids), &options).expect("INT8");
    let all = int8.logits(&ids).expect("logits");
    let mut cache = int8.cache();
    for (position, &id) in ids.iter().enumerate() {
        let pass = int8.at(Positions::step(position)).expect("a graph");
        pass.graph.graph.check().expect("a well-formed graph");
        let tensors = pass.graph.execute(&pass.inputs(&[id], &cache)).expect("tensors");
        for (edges, kept) in pass.cache.iter().zip(&mut cache) {
            *kept = edges.map(|edge| tensors[&edge].int8().to_vec());
        }
        let logits = pass.scores(&|edge| tensors.get(&edge).cloned()).expect("logits");
        assert_eq!(logits[0], all[position], "token {position}");
    }
    let rows = float.logits(&ids).expect("logits").into_iter().zip(&all);
    let agree = rows.filter(|(float, int8)| likeliest(float) == likeliest(int8)).count();
    assert!(agree * 10 >= ids.len() * 7, "{agree} of {} tokens", ids.len());
    assert!(int8.at(Positions::step(ids.len())).is_err(), "ranges hold for the samples' length");
}

#[test]
fn sums_that_the_host_reads_and_scales_of_rows_bring_the_logits_nearer_to_float32() {
    let error = |read_out: ReadOut| {
        let mut float = tiny();
        let ids: Vec<u32> = float.vocabulary.tokenize("the array adds 2 + 2 + the array").expect("tokens");
        let options = GraphOptions { read_out, ..GraphOptions::default() };
        let int8 = float.quantise(std::slice::from_ref(&ids), &options).expect("INT8").logits(&ids).expect("logits");
        let float = float.logits(&ids).expect("logits");
        let pairs = int8.iter().flatten().zip(float.iter().flatten());
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let [int8, int32, rows] = [ReadOut::Int8, ReadOut::Int32, ReadOut::Int32Rows].map(error);
    assert!(int32 < int8 && rows < int32, "{int8} {int32} {rows}");
}

#[test]
fn ranges_that_move_into_the_weights_leave_the_model_the_same() {
    let (mut plain, mut smooth) = (tiny(), tiny());
    let ids = plain.vocabulary.tokenize("the array adds 2 + 2 + the array").expect("tokens");
    let before = plain.logits(&ids).expect("logits");
    smooth.smooth(std::slice::from_ref(&ids), 0.5).expect("ranges");
    let after = smooth.logits(&ids).expect("logits");
    for (a, b) in before.iter().flatten().zip(after.iter().flatten()) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
    assert!(smooth.smooth(&[ids], 1.5).is_err());
}

#[test]
fn blocks_have_the_values_of_ggml() {
    #[derive(Deserialize)]
    struct Block {
        bytes: String,
        values: Vec<String>,
    }
    let text = std::fs::read_to_string(file("blocks.json")).expect("the file");
    let blocks: BTreeMap<String, Block> = serde_json::from_str(&text).expect("blocks");
    let hex = |text: &str, i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal digits");
    for (name, block) in &blocks {
        let bytes: Vec<u8> = (0..block.bytes.len() / 2).map(|i| hex(&block.bytes, i)).collect();
        let found = pollux_model::files::gguf_block_values(name, &bytes).expect("a known type");
        let bits: Vec<String> = found.iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        assert_eq!(bits, block.values, "{name}");
    }
    assert_eq!(blocks.len(), 12);
}

/// The file with some bytes replaced.
fn patched(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// The file with a text replaced by one of the same length.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    patched(place(from), to.as_bytes())
}

fn place(text: &str) -> usize {
    bytes().windows(text.len()).position(|window| window == text.as_bytes()).expect("the file has it")
}

#[test]
fn damaged_huge_and_contradictory_files_are_one_error_each() {
    let error = |bytes: Vec<u8>| LlamaModel::from_bytes(bytes).err().expect("an error").to_string();
    let whole = bytes();
    // Sizes are four bytes behind the key and its type.
    let size = |key: &str, size: u32| patched(place(key) + key.len() + 4, &size.to_le_bytes());
    let tensor = |name: &str, dimension: usize, size: u64| {
        patched(place(name) + name.len() + 4 + 8 * dimension, &size.to_le_bytes())
    };
    let twice = renamed("blk.0.attn_norm.weight", "blk.1.attn_norm.weight");
    let kind = patched(place("output_norm.weight") + "output_norm.weight".len() + 4 + 8, &19u32.to_le_bytes());
    let lines = [
        error(Vec::new()),
        error(b"GGML".to_vec()),
        error(whole[..20].to_vec()),
        error(whole[..whole.len() / 2].to_vec()),
        error(whole[..whole.len() - 8000].to_vec()),
        error(patched(4, &1u32.to_le_bytes())),
        error(patched(4, &3u32.to_be_bytes())),
        error(patched(8, &u64::MAX.to_le_bytes())),
        error(patched(16, &(1u64 << 40).to_le_bytes())),
        error(renamed("llama.block_count", "llama.block_cound")),
        error(size("llama.block_count", 3)),
        error(size("llama.block_count", 1 << 30)),
        error(size("llama.embedding_length", 64)),
        error(size("llama.attention.head_count", 3)),
        error(size("llama.attention.head_count_kv", 3)),
        error(size("llama.vocab_size", 12)),
        error(size("llama.rope.dimension_count", 4)),
        error(size("tokenizer.ggml.eos_token_id", 5000)),
        error(tensor("token_embd.weight", 0, 1 << 40)),
        error(tensor("token_embd.weight", 1, 3)),
        error(twice),
        error(kind),
        error(renamed("smollm", "smollM")),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    memory: not a valid GGUF file: it ends at byte 0: failed to fill whole buffer; it may be damaged, fetch it again
    memory: not a valid GGUF file: it does not begin with `GGUF`; it may be damaged, fetch it again
    memory: not a valid GGUF file: 21 tensors in 4 bytes; it may be damaged, fetch it again
    memory: not a valid GGUF file: tensor `blk.0.ffn_down.weight` of shape [32, 64] has 4096 bytes at 12864, but only 14928 bytes of data are there; it may be damaged, fetch it again
    memory: not a valid GGUF file: tensor `blk.1.ffn_down.weight` of shape [32, 64] has 4096 bytes at 24960, but only 26048 bytes of data are there; it may be damaged, fetch it again
    memory: not a valid GGUF file: version 1; 2 and 3 can be read; it may be damaged, fetch it again
    memory: not a valid GGUF file: it is big-endian; little-endian can be read; it may be damaged, fetch it again
    memory: not a valid GGUF file: 18446744073709551615 tensors in 38224 bytes; it may be damaged, fetch it again
    memory: not a valid GGUF file: 1099511627776 entries in 38216 bytes; it may be damaged, fetch it again
    memory: not a valid GGUF file: llama.block_count is missing, or 0; it may be damaged, fetch it again
    memory: tensor `blk.2.attn_norm.weight` is missing (the configuration asks for it; the file has 21 tensors)
    memory: not a valid GGUF file: llama.block_count is 1073741824; at most 1024 are allowed; it may be damaged, fetch it again
    memory: not a valid GGUF file: llama.rope.dimension_count is 8, but a head has 16 columns; it may be damaged, fetch it again
    memory: not a valid GGUF file: 3 heads, 2 of keys, of 10 columns do not fit together; it may be damaged, fetch it again
    memory: not a valid GGUF file: 4 heads, 3 of keys, of 8 columns do not fit together; it may be damaged, fetch it again
    memory: not a valid GGUF file: llama.vocab_size is 12, but the embedding has 143 rows; it may be damaged, fetch it again
    memory: not a valid GGUF file: llama.rope.dimension_count is 4, but a head has 8 columns; it may be damaged, fetch it again
    memory: not a valid GGUF file: eos_token_id is 5000 of 143 words; it may be damaged, fetch it again
    memory: not a valid GGUF file: tensor `token_embd.weight`: shape [143, 1099511627776] is too large; it may be damaged, fetch it again
    memory: not a valid GGUF file: llama.vocab_size is 143, but the embedding has 3 rows; it may be damaged, fetch it again
    memory: not a valid GGUF file: the tensor `blk.1.attn_norm.weight` is there twice; it may be damaged, fetch it again
    memory: tensor `output_norm.weight` has element type 19 of ggml; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K can be read
    memory: tokenizer: texts are cut by the rule `smollM`; gpt-2, smollm and llama-bpe are known
    ");
}

#[test]
fn a_number_that_is_not_finite_names_its_tensor() {
    let mut whole = bytes();
    // The last tensor's last block begins with its factor.
    let at = whole.len() - whole.len() % 32 - 34;
    let last = whole.len() - at;
    assert!(last >= 34);
    let end = whole.len();
    for start in (end - 34 * 4..end - 1).step_by(2) {
        whole[start..start + 2].copy_from_slice(&[0x00, 0x7e]);
    }
    let message = LlamaModel::from_bytes(whole).err().expect("an error").to_string();
    assert!(message.contains("tensor `output.weight` has a NaN or an infinity"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_bytes_panics(changes in prop::collection::vec((0usize..39_000, any::<u8>()), 1..6), end in 0usize..80_000) {
        let mut bytes = bytes();
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes.truncate(end.max(1));
        if let Ok(model) = LlamaModel::from_bytes(bytes)
            && let Ok(graph) = FloatLlama::new(model)
        {
            prop_assert!(graph.config.layers > 0);
        }
    }
}
