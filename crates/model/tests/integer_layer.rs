//! The quantised layer and its integer reference on synthetic models of many shapes, and the container.

use pollux_model::bert::{BertConfig, BertModel};
use pollux_model::calibrate::RangeMethod;
use pollux_model::container::Origin;
use pollux_model::layer::Operand;
use pollux_model::quality::Quality;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{AttentionMask, LayerFile, Matrix, Tensor, embedded_default, layer_reference};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(hidden: usize, heads: usize, ffn: usize) -> BertConfig {
    BertConfig {
        model_type: "bert".into(),
        hidden_size: hidden,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: ffn,
        vocab_size: 50,
        max_position_embeddings: 40,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".into(),
        position_embedding_type: "absolute".into(),
    }
}

fn quantised(config: BertConfig, seed: u64, options: &QuantiseOptions) -> QuantisedModel {
    let sequences: Vec<Vec<u32>> = (0..6).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 50).collect()).collect();
    QuantisedModel::build(BertModel::synthetic(config, seed).unwrap(), &sequences, options).unwrap()
}

/// Quality of layer `index` alone on `ids`, and the number of wraps.
fn layer_quality(q: &QuantisedModel, index: usize, ids: &[u32]) -> (Quality, usize) {
    let mut x = q.model.embed_tokens(ids).unwrap();
    for i in 0..index {
        x = q.model.forward_layer(i, &x, AttentionMask::Full).unwrap().get(Tensor::Output).clone();
    }
    let layer = &q.layers[index];
    let float = q.model.forward_layer(index, &x, AttentionMask::Full).unwrap();
    let trace = layer_reference(layer, &layer.encoding(Tensor::Input).quantise(&x), AttentionMask::Full).unwrap();
    let output = layer.encoding(Tensor::Output).dequantise(trace.output());
    (Quality::of(&output.data, &float.get(Tensor::Output).data), trace.wraps)
}

/// The same cases in every run.
fn same_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases(12))]

    #[test]
    fn a_layer_of_any_shape_follows_float32(
        heads in 1usize..5, head in 4usize..20, ffn in 8usize..90, tokens in 1usize..24, seed: u64,
    ) {
        let q = quantised(config(heads * head, heads, ffn), seed, &QuantiseOptions::default());
        let ids: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + 3) % 50).collect();
        for index in 0..2 {
            let (quality, wraps) = layer_quality(&q, index, &ids);
            prop_assert!(quality.cosine > 0.985, "layer {index}: {quality:?}");
            prop_assert_eq!(wraps, 0);
        }
    }

    #[test]
    fn padding_never_reaches_the_real_tokens(valid in 1usize..12, padding in 1usize..8, seed: u64) {
        let q = quantised(config(24, 3, 40), seed, &QuantiseOptions::default());
        let ids: Vec<u32> = (0..(valid + padding) as u32).collect();
        let x = q.embed_tokens(&ids).unwrap();
        let real = Matrix::from_fn(valid, 24, |r, c| x.at(r, c));
        let padded = layer_reference(&q.layers[0], &x, AttentionMask::Padding { valid }).unwrap();
        let alone = layer_reference(&q.layers[0], &real, AttentionMask::Full).unwrap();
        prop_assert_eq!(&padded.output().data[..valid * 24], &alone.output().data[..]);
    }

    #[test]
    fn a_causal_row_ignores_later_tokens(tokens in 2usize..12, seed: u64) {
        let q = quantised(config(24, 3, 40), seed, &QuantiseOptions::default());
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let x = q.embed_tokens(&ids).unwrap();
        let first = Matrix::from_fn(tokens - 1, 24, |r, c| x.at(r, c));
        let all = layer_reference(&q.layers[0], &x, AttentionMask::Causal).unwrap();
        let fewer = layer_reference(&q.layers[0], &first, AttentionMask::Causal).unwrap();
        prop_assert_eq!(&all.output().data[..(tokens - 1) * 24], &fewer.output().data[..]);
    }
}

#[test]
fn every_calibration_method_gives_a_usable_layer() {
    for method in [RangeMethod::MinMax, RangeMethod::Percentile(0.9995), RangeMethod::Mse] {
        let options = QuantiseOptions { method, ..Default::default() };
        let q = quantised(config(48, 4, 96), 5, &options);
        let (quality, _) = layer_quality(&q, 1, &[3, 14, 15, 9, 26, 5, 35]);
        assert!(quality.cosine > 0.99, "{method:?}: {quality:?}");
    }
}

#[test]
fn each_output_encoding_is_the_next_input_encoding() {
    let q = quantised(config(48, 4, 96), 5, &QuantiseOptions { outlier_channels: 16, ..Default::default() });
    assert_eq!(q.layers[0].encoding(Tensor::Output), q.layers[1].encoding(Tensor::Input));
    assert_eq!(q.layers[0].attention_norm.groups.len(), 2);
}

#[test]
fn an_outlier_channel_gets_a_scale_of_its_own_and_helps_the_rest() {
    let mut model = BertModel::synthetic(config(48, 4, 96), 9).unwrap();
    for layer in &mut model.layers {
        layer.output.bias[7] = 30.0;
        layer.attention_output.bias[7] = 30.0;
    }
    let sequences: Vec<Vec<u32>> = (0..6).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 50).collect()).collect();
    let cosine = |outlier_channels| {
        let options = QuantiseOptions { outlier_channels, ..Default::default() };
        let q = QuantisedModel::build(model.clone(), &sequences, &options).unwrap();
        if outlier_channels > 0 {
            assert_eq!(q.model.hidden_order[47], 7);
        }
        layer_quality(&q, 1, &[3, 14, 15, 9, 26, 5, 35]).0.sqnr_db
    };
    let (plain, grouped) = (cosine(0), cosine(16));
    assert!(grouped > plain + 3.0, "{plain} dB, with a group {grouped} dB");
}

#[test]
fn branch_factors_beyond_int8_become_several_diagonals() {
    let mut model = BertModel::synthetic(config(48, 4, 96), 9).unwrap();
    model.layers[0].output.bias[7] = 60.0;
    let q = QuantisedModel::build(model, &[(0..20).collect()], &QuantiseOptions::default()).unwrap();
    let terms = &q.layers[0].output_norm.terms;
    assert!(terms.iter().filter(|t| t.operand == Operand::Branch).count() > 1);
    let (quality, wraps) = layer_quality(&q, 0, &[3, 14, 15, 9, 26, 5, 35]);
    assert!(quality.cosine > 0.99 && wraps == 0, "{quality:?}, {wraps} wraps");
}

#[test]
fn wrapping_arithmetic_is_reported() {
    let mut file = embedded_default();
    for term in &mut file.layer.output_norm.terms {
        term.diagonal.iter_mut().enumerate().for_each(|(c, d)| *d = if c % 2 == 0 { 127 } else { -127 });
    }
    file.layer.ffn_output.scale *= 100.0;
    let trace = layer_reference(&file.layer, &file.input, AttentionMask::Full).unwrap();
    assert!(trace.wraps > 0);
}

#[test]
fn options_out_of_range_are_explained() {
    let message = |options: QuantiseOptions| {
        let model = BertModel::synthetic(config(32, 2, 64), 1).unwrap();
        QuantisedModel::build(model, &[vec![1, 2]], &options).err().unwrap().to_string()
    };
    let o = QuantiseOptions::default;
    assert_eq!(
        message(QuantiseOptions { gelu_group: 0, ..o() }),
        "quantisation option `gelu_group` = 0: at least one column"
    );
    assert_eq!(
        message(QuantiseOptions { outlier_channels: 32, ..o() }),
        "quantisation option `outlier_channels` = 32: fewer than the hidden channels"
    );
    assert_eq!(
        message(QuantiseOptions { deviation_margin: 0.5, ..o() }),
        "quantisation option `deviation_margin` = 0.5: at least 1"
    );
    assert_eq!(message(QuantiseOptions { weight_planes: 0, ..o() }), "quantisation option `weight_planes` = 0: 1 to 8");
    assert_eq!(
        message(QuantiseOptions { layer_planes: [(1, 9)].into(), ..o() }),
        "quantisation option `layer_planes` = 9: 1 to 8"
    );
    assert_eq!(
        message(QuantiseOptions { migration: Some(1.5), ..o() }),
        "quantisation option `migration` = 1.5: an exponent from 0 to 1, such as 0.5"
    );
    let model = BertModel::synthetic(config(32, 2, 64), 1).unwrap();
    let error = QuantisedModel::build(model, &[], &o()).err().unwrap().to_string();
    assert_eq!(
        error,
        "calibration needs at least one sample: a sentence with at least one token, or an input of the graph"
    );
}

#[test]
fn an_input_of_the_wrong_shape_is_refused() {
    let layer = embedded_default().layer;
    let error = layer_reference(&layer, &Matrix::zeros(3, 383), AttentionMask::Full).unwrap_err();
    assert_eq!(error.to_string(), "layer input: 383 columns, but the layer is 384 wide");
    let error = layer_reference(&layer, &Matrix::zeros(257, 384), AttentionMask::Full).unwrap_err();
    assert_eq!(error.to_string(), "257 tokens; this model takes 1 to 256");
}

fn small_file() -> LayerFile {
    let q = quantised(config(16, 2, 24), 3, &QuantiseOptions::default());
    let tokens = vec![4, 8, 15];
    let float_input = q.model.embed_tokens(&tokens).unwrap();
    LayerFile {
        input: q.embed_tokens(&tokens).unwrap(),
        float_output: q.model.forward_layer(0, &float_input, AttentionMask::Full).unwrap().get(Tensor::Output).clone(),
        float_input,
        origin: Origin { model: "synthetic".into(), layer: 0, license: "CC0-1.0".into(), text: String::new(), tokens },
        layer: q.layers[0].clone(),
    }
}

#[test]
fn a_container_read_back_is_equal_and_has_the_same_bytes() {
    let file = small_file();
    let bytes = file.to_bytes().unwrap();
    let back = LayerFile::from_bytes(&bytes, "test").unwrap();
    assert_eq!(back, file);
    assert_eq!(back.to_bytes().unwrap(), bytes);
}

#[test]
fn a_layer_survives_json() {
    let layer = small_file().layer;
    let json = serde_json::to_string(&layer).unwrap();
    assert_eq!(serde_json::from_str::<pollux_model::QuantisedLayer>(&json).unwrap(), layer);
}

#[test]
fn a_truncated_container_is_refused_at_every_length() {
    let bytes = small_file().to_bytes().unwrap();
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let error = LayerFile::from_bytes(&bytes[..length], "short.safetensors").unwrap_err().to_string();
        assert!(
            error.starts_with("quantised layer short.safetensors: not a valid container, it may be truncated: "),
            "{error}"
        );
    }
}

#[test]
fn damaged_containers_are_explained() {
    let bytes = small_file().to_bytes().unwrap();
    let damage = |from: &str, to: &str| {
        let mut bytes = bytes.clone();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the header has it");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        LayerFile::from_bytes(&bytes, "bad").unwrap_err().to_string()
    };
    assert_eq!(
        damage("version\\\":1", "version\\\":7"),
        "quantised layer bad: format version 7 cannot be read, only 1"
    );
    assert_eq!(damage("\"query.bias\"", "\"query.bios\""), "quantised layer bad: tensor `query.bias` is missing");
    assert_eq!(
        damage("{\"pollux\"", "{\"pollix\""),
        "quantised layer bad: the metadata entry `pollux` is missing; this is not a quantised layer"
    );
    assert_eq!(
        damage("\\\"hidden\\\":16", "\\\"hidden\\\":17"),
        "quantised layer bad: query: weights are 16x16 with 256 elements, expected 17x17"
    );
}

/// Signal to noise ratio of layer 1's query in a model with an outlier channel.
fn planes_quality(options: &QuantiseOptions) -> f64 {
    let mut model = BertModel::synthetic(config(48, 4, 96), 9).unwrap();
    for layer in &mut model.layers {
        layer.output.bias[7] = 30.0;
        layer.attention_output.bias[7] = 30.0;
    }
    let sequences: Vec<Vec<u32>> = (0..6).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 50).collect()).collect();
    let q = QuantisedModel::build(model, &sequences, options).unwrap();
    q.error_report(&sequences).unwrap().get(1, Tensor::Query).unwrap().alone.sqnr_db
}

#[test]
fn splitting_the_outlier_channels_recovers_the_other_weights() {
    let o = QuantiseOptions { outlier_channels: 16, ..Default::default() };
    let (plain, split) = (planes_quality(&o), planes_quality(&QuantiseOptions { outlier_planes: 4, ..o }));
    assert!(split > plain + 2.0, "{plain} dB, split {split} dB");
}

#[test]
fn planes_of_one_layer_leave_the_others_alone() {
    let o = QuantiseOptions { layer_planes: [(1, 2)].into(), ..Default::default() };
    let q = quantised(config(48, 4, 96), 5, &o);
    let plain = quantised(config(48, 4, 96), 5, &QuantiseOptions::default());
    assert_eq!(q.layers[0], plain.layers[0]);
    for ((_, two), (_, one)) in q.layers[1].linears().into_iter().zip(plain.layers[1].linears()) {
        assert_eq!((two.weights.rows, two.inputs()), (2 * one.weights.rows, one.weights.rows));
        assert_eq!(two.repeats, vec![0..one.weights.rows]);
    }
    assert_eq!(q.layers[1].macs(1) - plain.layers[1].macs(1), 4 * 48 * 48 + 2 * 48 * 96);
}

#[test]
fn migration_takes_an_outlier_out_of_the_key() {
    let mut model = BertModel::synthetic(config(48, 4, 96), 9).unwrap();
    for layer in &mut model.layers {
        layer.key.bias[5] = 60.0;
    }
    let sequences: Vec<Vec<u32>> = (0..6).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 50).collect()).collect();
    let scores = |migration| {
        let options = QuantiseOptions { migration, ..Default::default() };
        let q = QuantisedModel::build(model.clone(), &sequences, &options).unwrap();
        let [before, after] = [&model, &q.model].map(|m| m.encode(&[3, 14, 15, 9]).unwrap().data);
        assert!(Quality::of(&after, &before).max_error < 1e-4, "the float32 network is the same");
        q.error_report(&sequences).unwrap().get(0, Tensor::Probabilities).unwrap().alone.sqnr_db
    };
    let (plain, migrated) = (scores(None), scores(Some(0.5)));
    assert!(migrated > plain + 3.0, "{plain} dB, migrated {migrated} dB");
}
