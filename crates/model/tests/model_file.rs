//! Whole quantised models as files: equal results after reading, and every error.

use std::path::{Path, PathBuf};

use pollux_model::decoder::QuantisedDecoder;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model};
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::word_table::WordTable;
use pollux_model::{AttentionMask, FloatModel, Matrix, ModelFile, embedded_default};

const TEXTS: [&str; 2] = ["The unhappy cats sat on a mat, playing unhappily.", "a dog ran"];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn quantised(name: &str, options: &QuantiseOptions) -> ModelFile {
    let model = FloatModel::load(directory(name)).unwrap();
    let sequences: Vec<Vec<u32>> = TEXTS.iter().map(|t| model.tokenize(t).unwrap()).collect();
    model.quantise(&sequences, options).unwrap()
}

fn encoder() -> QuantisedModel {
    let options = QuantiseOptions { outlier_channels: 8, outlier_planes: 2, ..Default::default() };
    match quantised("tiny-bert", &options) {
        ModelFile::Encoder(model) => *model,
        ModelFile::Decoder(_) => panic!("tiny-bert is an encoder"),
    }
}

fn decoder() -> QuantisedDecoder {
    match quantised("tiny-gpt2", &QuantiseOptions { weight_planes: 2, ..Default::default() }) {
        ModelFile::Decoder(model) => *model,
        ModelFile::Encoder(_) => panic!("tiny-gpt2 is a decoder"),
    }
}

#[test]
fn an_encoder_read_back_gives_equal_embeddings_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let model = encoder();
    model.save(&path).unwrap();
    let back = QuantisedModel::load(&path).unwrap();
    assert_eq!(back.layers, model.layers);
    for text in TEXTS {
        assert_eq!(back.embed(text).unwrap(), model.embed(text).unwrap());
    }
    assert_eq!(back.to_bytes().unwrap(), std::fs::read(&path).unwrap());
    assert_eq!(model.to_bytes().unwrap(), std::fs::read(&path).unwrap());
}

#[test]
fn a_small_file_carries_all_words_in_int8_with_a_scale_each() {
    let (whole, mut small) = (encoder(), encoder());
    small.model.embeddings.word = whole.model.embeddings.word.to_int8();
    let bytes = small.to_bytes().unwrap();
    let saved = whole.to_bytes().unwrap().len() - bytes.len();
    let config = &whole.model.config;
    // Three of four bytes an element, less a scale a row and the tensors' heads.
    assert!(saved > config.vocab_size * (3 * config.hidden_size - 4) - 100, "{saved}");
    let ModelFile::Encoder(back) = ModelFile::from_bytes(&bytes, "memory").unwrap() else { panic!("an encoder") };
    assert_eq!(back.model.embeddings, small.model.embeddings);
    assert_eq!(back.to_bytes().unwrap(), bytes);
    for text in TEXTS {
        assert_eq!(back.embed(text).unwrap(), small.embed(text).unwrap());
        let ids = whole.model.tokenize(text).unwrap();
        let [a, b] = [&whole, &*back].map(|model| model.embed_tokens(&ids).unwrap().data);
        // The table's step is below that of the layer's input.
        assert!(a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
    let WordTable::Int8 { scales, .. } = &mut small.model.embeddings.word else { panic!("int8") };
    scales[3] = f32::NAN;
    let read =
        |model: &QuantisedModel| ModelFile::from_bytes(&model.to_bytes().unwrap(), "bad").err().unwrap().to_string();
    assert_eq!(
        read(&small),
        "quantised model bad: tensor `embeddings.word.scale` has the value NaN at element 3, which is no number"
    );
    let WordTable::Int8 { scales, .. } = &mut small.model.embeddings.word else { panic!("int8") };
    scales[3] = 1.0;
    scales.pop();
    assert_eq!(read(&small), "quantised model bad: embeddings.word.scale has 24 scales for 25 rows");
}

#[test]
fn tokens_behind_the_limit_are_counted() {
    let model = encoder().model;
    assert_eq!(model.tokens_left_out(TEXTS[0]).unwrap(), 0);
    let words = model.max_tokens + 40;
    let text = "cat ".repeat(words);
    assert_eq!(model.tokenize(&text).unwrap().len(), model.max_tokens);
    assert_eq!(model.tokens_left_out(&text).unwrap(), words - (model.max_tokens - 2));
}

#[test]
fn a_decoder_read_back_generates_equal_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let model = decoder();
    model.save(&path).unwrap();
    let back = QuantisedDecoder::load(&path).unwrap();
    assert_eq!((&back.blocks, &back.head, &back.entry), (&model.blocks, &model.head, &model.entry));
    let ids = back.model.tokenize("the cat and").unwrap();
    assert_eq!(back.generate(&ids, 8).unwrap(), model.generate(&ids, 8).unwrap());
    assert_eq!(back.to_bytes().unwrap(), std::fs::read(&path).unwrap());
}

#[test]
fn a_synthetic_model_needs_no_tokenizer() {
    let config = Gpt2Config { n_embd: 8, n_layer: 1, n_head: 2, vocab_size: 9, n_positions: 8, ..Gpt2Config::small() };
    let model = Gpt2Model::synthetic(config, 3).unwrap();
    let q = QuantisedDecoder::build(model, &[vec![1, 2, 3]], &QuantiseOptions::default()).unwrap();
    let ModelFile::Decoder(back) = ModelFile::from_bytes(&q.to_bytes().unwrap(), "memory").unwrap() else {
        panic!("a decoder was written");
    };
    assert_eq!(back.generate(&[1], 3).unwrap(), q.generate(&[1], 3).unwrap());
    let error = back.model.tokenize("text").unwrap_err().to_string();
    assert_eq!(error, "memory: tokenizer: the model has none; give token ids");
}

#[test]
fn the_float_layers_stay_behind() {
    let back = ModelFile::from_bytes(&encoder().to_bytes().unwrap(), "memory").unwrap();
    let ModelFile::Encoder(back) = back else { panic!("an encoder was written") };
    let message =
        "the float32 layers are not in a quantised model file; load the model's directory to compare with them";
    assert_eq!(back.model.embed(TEXTS[0]).unwrap_err().to_string(), message);
    let x = Matrix::zeros(1, 32);
    assert_eq!(back.model.forward_layer(0, &x, AttentionMask::Full).unwrap_err().to_string(), message);
    assert_eq!(back.error_report(&[vec![2, 3]]).unwrap_err().to_string(), message);
}

#[test]
fn the_family_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.safetensors");
    let message = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    encoder().save(&path).unwrap();
    let error = QuantisedDecoder::load(&path).err().unwrap().to_string();
    assert_eq!(message(error), "quantised model q.safetensors: this is an encoder, not a decoder");
    decoder().save(&path).unwrap();
    let error = QuantisedModel::load(&path).err().unwrap().to_string();
    assert_eq!(message(error), "quantised model q.safetensors: this is a decoder, not an encoder");
    embedded_default().write(&path).unwrap();
    let error = ModelFile::read(&path).err().unwrap().to_string();
    assert_eq!(
        message(error),
        "quantised model q.safetensors: this is the file of a single layer; give the file of a whole model"
    );
    std::fs::write(dir.path().join("config.json"), r#"{"model_type": "t5"}"#).unwrap();
    let error = FloatModel::load(dir.path()).err().unwrap().to_string();
    assert_eq!(message(error), "config.json: model_type `t5` is not supported; give a model of type `bert` or `gpt2`");
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let bytes = decoder().to_bytes().unwrap();
    for length in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        let error = ModelFile::from_bytes(&bytes[..length], "short").err().unwrap().to_string();
        assert!(error.starts_with("quantised model short: not a valid container, it may be truncated: "), "{error}");
    }
}

#[test]
fn inconsistent_models_are_explained() {
    let read =
        |model: &QuantisedModel| ModelFile::from_bytes(&model.to_bytes().unwrap(), "bad").err().unwrap().to_string();
    let mut model = encoder();
    model.model.hidden_order[0] = model.model.hidden_order[1];
    assert_eq!(read(&model), "quantised model bad: hidden_order is not a permutation of the hidden channels");
    let mut model = encoder();
    model.layers.pop();
    assert_eq!(read(&model), "quantised model bad: 1 layers, expected 2");
    let mut decoder = decoder();
    decoder.blocks[1].shift = 40;
    let error = ModelFile::from_bytes(&decoder.to_bytes().unwrap(), "bad").err().unwrap().to_string();
    assert_eq!(error, "quantised model bad: block 1: shift = 40 must be at most 31");
}

#[test]
fn damaged_files_are_explained() {
    let [encoder, decoder] = [encoder().to_bytes().unwrap(), decoder().to_bytes().unwrap()];
    let damage = |bytes: &[u8], from: &str, to: &str| {
        let mut bytes = bytes.to_vec();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the header has it");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        ModelFile::from_bytes(&bytes, "bad").err().unwrap().to_string()
    };
    let messages = [
        damage(&encoder, "\\\"version\\\":1", "\\\"version\\\":7"),
        damage(&encoder, "\"layer.1.query.bias\"", "\"layer.1.query.bios\""),
        damage(&encoder, "\"embeddings.word\"", "\"embeddings.ward\""),
        damage(&encoder, "\\\"vocab_size\\\":25", "\\\"vocab_size\\\":24"),
        damage(&encoder, "\\\"heads\\\":4", "\\\"heads\\\":5"),
        damage(&encoder, "\\\"start\\\":24,\\\"end\\\":32", "\\\"start\\\":24,\\\"end\\\":33"),
        damage(&encoder, "\\\"kind\\\":\\\"encoder", "\\\"kind\\\":\\\"uncoder"),
        damage(&encoder, "{\"pollux\"", "{\"pollix\""),
        damage(&decoder, "\"head.weights\"", "\"head.weighty\""),
        damage(&decoder, "\\\"hidden\\\":32", "\\\"hidden\\\":33"),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    quantised model bad: format version 7 cannot be read, only 1
    quantised model bad: tensor `layer.1.query.bias` is missing
    quantised model bad: tensor `embeddings.word` is missing
    quantised model bad: tensor `embeddings.word` is 25x32, expected 24x32
    quantised model bad: layer 0: attention: 5 heads of 8 do not make 32 columns
    quantised model bad: layer 0: query: columns 24..33 cannot be repeated, the input has 32
    quantised model bad: unknown variant `uncoder`, expected `encoder` or `decoder` at line 1 column 17
    quantised model bad: the metadata entry `pollux` is missing; this is not a quantised model
    quantised model bad: tensor `head.weights` is missing
    quantised model bad: block 0 is 33 wide with 128 inside, expected 32, 128
    ");
}
