//! The quantised decoder and its integer reference on synthetic models of many shapes, and on the tiny GPT-2.

use std::path::Path;

use pollux_model::calibrate::RangeMethod;
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::decoder_reference::block_reference;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model};
use pollux_model::quality::Quality;
use pollux_model::quantise::QuantiseOptions;
use pollux_model::{Matrix, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(heads: usize, head: usize, ffn: usize) -> Gpt2Config {
    Gpt2Config {
        n_embd: heads * head,
        n_head: heads,
        n_layer: 3,
        n_inner: Some(ffn),
        vocab_size: 50,
        n_positions: 40,
        ..Gpt2Config::small()
    }
}

fn sequences() -> Vec<Vec<u32>> {
    (0..6).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 50).collect()).collect()
}

fn quantised(config: Gpt2Config, seed: u64, options: &QuantiseOptions) -> QuantisedDecoder {
    QuantisedDecoder::build(Gpt2Model::synthetic(config, seed).unwrap(), &sequences(), options).unwrap()
}

/// Logits of every position, integers against float32.
fn logits_quality(q: &QuantisedDecoder, ids: &[u32]) -> Quality {
    let int = q.decode(ids, &mut q.cache()).unwrap();
    let float = q.model.decode(ids, &mut q.model.cache()).unwrap();
    let int: Vec<f32> = (0..ids.len()).flat_map(|t| q.logits(int.row(t))).collect();
    let float: Vec<f32> = (0..ids.len()).flat_map(|t| q.model.logits(float.row(t))).collect();
    Quality::of(&int, &float)
}

/// The same cases in every run.
fn same_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases(12))]

    #[test]
    fn prefill_and_token_by_token_give_equal_integers(
        heads in 1usize..4, head in 4usize..12, ffn in 8usize..60, tokens in 2usize..16, cut in 1usize..15, seed: u64,
    ) {
        let q = quantised(config(heads, head, ffn), seed, &QuantiseOptions::default());
        let ids: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + 3) % 50).collect();
        let mut whole = q.cache();
        let prefill = q.decode(&ids, &mut whole).unwrap();
        let mut cache = q.cache();
        let cut = cut.min(tokens - 1);
        let mut rows = q.decode(&ids[..cut], &mut cache).unwrap();
        for &id in &ids[cut..] {
            rows.append(&q.decode(&[id], &mut cache).unwrap());
        }
        prop_assert_eq!(rows, prefill);
        prop_assert_eq!(cache, whole);
    }

    #[test]
    fn a_decoder_of_any_shape_follows_float32(
        heads in 1usize..5, head in 6usize..20, ffn in 8usize..90, tokens in 1usize..24, seed: u64,
    ) {
        let q = quantised(config(heads, head, ffn), seed, &QuantiseOptions::default());
        let ids: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + 3) % 50).collect();
        let quality = logits_quality(&q, &ids);
        prop_assert!(quality.cosine > 0.985, "{quality:?}");
        let report = q.error_report(&[ids]).unwrap();
        prop_assert!(report.layers.iter().all(|l| l.wraps == 0), "{report}");
    }
}

#[test]
fn the_tiny_gpt2_generates_the_same_tokens_in_integers() {
    let model = Gpt2Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-gpt2")).unwrap();
    let ids = model.tokenize("the cat and the dog sat in the rain").unwrap();
    let continued = [ids[..6].to_vec(), model.generate(&ids[..6], 10).unwrap()].concat();
    let q = QuantisedDecoder::build(model, &[ids, continued.clone()], &QuantiseOptions::default()).unwrap();
    assert_eq!(q.generate(&continued[..6], 10).unwrap(), continued[6..]);
}

#[test]
fn the_residual_stream_loses_nothing_to_rounding() {
    let q = quantised(config(4, 12, 96), 5, &QuantiseOptions::default());
    let ids: Vec<u32> = (0..20).collect();
    let residual = q.embed_tokens(&ids, 0).unwrap();
    let normed = Matrix::zeros(20, 48);
    let block = &q.blocks[0];
    let trace = block_reference(block, &residual, &normed, &mut Matrix::default(), &mut Matrix::default()).unwrap();
    let shifted = pollux_model::decoder_reference::shifted(&residual, block.shift);
    for r in 0..20 {
        for c in 0..48 {
            let branch: i32 = block.attention_norm.terms.iter().map(|t| i32::from(t[c])).sum();
            let expected = shifted.at(r, c) + i32::from(trace.get(Tensor::AttentionOutput).at(r, c)) * branch;
            assert_eq!(trace.attention_sum.at(r, c), expected);
        }
    }
}

#[test]
fn the_stream_is_coarsened_where_it_grows() {
    let mut model = Gpt2Model::synthetic(config(4, 12, 96), 9).unwrap();
    model.blocks[1].output.bias[7] = 500.0;
    let q = QuantisedDecoder::build(model, &sequences(), &QuantiseOptions::default()).unwrap();
    assert!(q.blocks[1].shift >= 4, "{}", q.blocks[1].shift);
    assert_eq!(q.blocks[1].unit, q.blocks[0].unit * (1u32 << q.blocks[1].shift) as f32);
    let report = q.error_report(&sequences()).unwrap();
    assert!(report.layers.iter().all(|l| l.wraps == 0), "{report}");
    let cosine = report.get(2, Tensor::Output).unwrap().through.cosine;
    assert!(cosine > 0.98, "{report}");
}

#[test]
fn every_option_gives_a_usable_decoder() {
    let o = QuantiseOptions::default;
    for options in [
        QuantiseOptions { method: RangeMethod::Percentile(0.9995), ..o() },
        QuantiseOptions { outlier_channels: 8, outlier_planes: 2, ..o() },
        QuantiseOptions { weight_planes: 2, ..o() },
        QuantiseOptions { migration: Some(0.5), ..o() },
    ] {
        let q = quantised(config(4, 12, 96), 5, &options);
        q.check().unwrap();
        let quality = logits_quality(&q, &[3, 14, 15, 9, 26, 5, 35]);
        assert!(quality.cosine > 0.99, "{options:?}: {quality:?}");
    }
}

#[test]
fn wrong_inputs_are_refused() {
    let q = quantised(config(2, 8, 24), 5, &QuantiseOptions { max_tokens: Some(10), ..Default::default() });
    assert_eq!(q.decode(&[3; 11], &mut q.cache()).unwrap_err().to_string(), "11 tokens; this model takes 1 to 10");
    let run = |residual: Matrix<i32>, normed: Matrix<i8>| {
        let (mut keys, mut values) = (Matrix::default(), Matrix::default());
        block_reference(&q.blocks[0], &residual, &normed, &mut keys, &mut values).unwrap_err().to_string()
    };
    assert_eq!(
        run(Matrix::zeros(1, 15), Matrix::zeros(1, 16)),
        "residual stream: 15 columns, but the layer is 16 wide"
    );
    assert_eq!(run(Matrix::zeros(1, 16), Matrix::zeros(1, 17)), "block input: 17 columns, but the layer is 16 wide");
    assert_eq!(run(Matrix::zeros(2, 16), Matrix::zeros(0, 16)), "0 tokens; this model takes 1 to 10");
}

#[test]
fn a_slack_keeps_the_streams_unit_at_little_cost() {
    let quality = |unit_slack: u32| {
        let q = quantised(config(4, 12, 96), 5, &QuantiseOptions { unit_slack, ..QuantiseOptions::default() });
        (q.blocks.iter().map(|block| block.shift).collect::<Vec<_>>(), logits_quality(&q, &[3, 1, 4, 1, 5, 9, 2, 6]))
    };
    let ((finest, reference), (shared, coarser)) = (quality(0), quality(4));
    assert!((1..=4).contains(&finest.iter().sum::<u32>()), "{finest:?}");
    assert_eq!(shared, [0; 3]);
    assert!(coarser.sqnr_db > reference.sqnr_db - 1.0, "{coarser:?} {reference:?}");
}
