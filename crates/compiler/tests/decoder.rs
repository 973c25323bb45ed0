//! Decoders of the GPT-2 family against the integer reference, and generation with shortcuts.

use std::path::Path;
use std::sync::Arc;

use pollux_compiler::decoder::{
    BigLittle, Decoder, DecoderModel, EarlyExit, PassOptions, compile_prompt, generate, generate_big_little,
};
use pollux_compiler::execute::{CycleSetup, mismatches, run_cycles, run_functional};
use pollux_compiler::pipeline::CALIBRATION;
use pollux_compiler::plan::{Placement, Plan};
use pollux_compiler::synthetic::{self, Shape};
use pollux_isa::GemminiConfig;
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::decoder_reference::head_reference;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model};
use pollux_model::quantise::QuantiseOptions;
use pollux_model::{Matrix, ModelFile, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const TOKENS: [u32; 19] = [5, 1, 33, 7, 7, 0, 12, 39, 28, 3, 21, 8, 30, 2, 17, 11, 25, 6, 9];
/// Tensors of a block that are compared: all int8 ones but its input, and the residual stream twice.
const COMPARED: usize = 13;

fn synthetic_model(layers: usize) -> Arc<QuantisedDecoder> {
    Arc::new(synthetic::decoder(&Shape::new("test", 32, layers, 2, 48), 40, 24, 11).unwrap())
}

fn tiny_directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/tiny-gpt2")
}

/// The tiny GPT-2 of the model crate's tests, calibrated on a text of its words.
fn tiny() -> DecoderModel {
    let float = Gpt2Model::load(tiny_directory()).unwrap();
    DecoderModel::quantise(float, "the cat and the dog sat in the rain", &QuantiseOptions::default()).unwrap()
}

fn decoder(model: &Arc<QuantisedDecoder>, setup: Option<CycleSetup>) -> Decoder {
    Decoder::new(GemminiConfig::norm16(), &Plan::default(), model.clone(), setup).unwrap()
}

/// int32 scores after each token.
fn reference(model: &QuantisedDecoder, tokens: &[u32]) -> Vec<Vec<i32>> {
    let normalised = model.decode(tokens, &mut model.cache()).unwrap();
    (0..normalised.rows).map(|row| head_reference(&model.head, normalised.row(row))).collect()
}

/// Runs tokens in pieces; every tensor and the scores of every row must be the reference's.
fn check_pieces(decoder: &mut Decoder, model: &QuantisedDecoder, tokens: &[u32], pieces: &[usize]) {
    let expected = reference(model, tokens);
    let mut cache = model.cache();
    let mut start = 0;
    for &piece in pieces {
        let end = (start + piece).min(tokens.len());
        let options = PassOptions { every_row: true, exit: None };
        let pass = decoder.pass(&tokens[start..end], options, &mut |_| ()).unwrap();
        let traces = model.traces(&tokens[start..end], &mut cache).unwrap();
        assert_eq!(decoder.compare(&pass, &traces), (COMPARED * model.blocks.len(), vec![]), "tokens {start}..{end}");
        assert_eq!(pass.scores, expected[start..end], "tokens {start}..{end}");
        start = end;
    }
}

#[test]
fn every_tensor_of_the_tiny_gpt2_is_exact_on_both_models_at_once_and_token_by_token() {
    let model = tiny();
    let ids = model.tokenize("the cat and the dog sat in the rain").unwrap();
    for setup in [None, Some(CycleSetup::default())] {
        for pieces in [vec![ids.len()], [vec![4], vec![1; ids.len() - 4]].concat()] {
            let mut decoder = decoder(&model.quantised, setup);
            check_pieces(&mut decoder, &model.quantised, &ids, &pieces);
            assert_eq!(decoder.cycles > 0, setup.is_some());
        }
    }
}

/// A stream that grows so much that its unit changes between blocks.
fn growing(options: &QuantiseOptions) -> Arc<QuantisedDecoder> {
    let config = Gpt2Config {
        n_embd: 48,
        n_head: 4,
        n_layer: 3,
        n_inner: Some(96),
        vocab_size: 41,
        n_positions: 24,
        ..Gpt2Config::small()
    };
    let mut model = Gpt2Model::synthetic(config, 9).unwrap();
    model.blocks[1].output.bias[7] = 500.0;
    let sequences: Vec<Vec<u32>> = (0..4).map(|s| (0..20).map(|t| (s * 31 + t * 17) % 41).collect()).collect();
    Arc::new(QuantisedDecoder::build(model, &sequences, options).unwrap())
}

#[test]
fn the_host_shifts_the_stream_where_its_unit_changes() {
    let outliers = QuantiseOptions { outlier_channels: 16, outlier_planes: 2, ..Default::default() };
    for options in [QuantiseOptions::default(), outliers] {
        let model = growing(&options);
        assert!(model.blocks.iter().any(|block| block.shift > 0));
        for setup in [None, Some(CycleSetup::default())] {
            check_pieces(&mut decoder(&model, setup), &model, &TOKENS, &[6, 1, 12]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_decoder_of_any_shape_equals_the_reference(
        heads in 1usize..4, head in 3usize..14, ffn in 8usize..60, layers in 1usize..3, vocabulary in 20usize..80,
        array in 0usize..3, first in 1usize..12, seed in any::<u64>(),
    ) {
        let shape = Shape::new("any", heads * head, layers, heads, ffn);
        let model = Arc::new(synthetic::decoder(&shape, vocabulary, 20, seed).unwrap());
        let tokens: Vec<u32> = (0..14).map(|t| (t * 7 + 3) % vocabulary as u32).collect();
        let config = match array {
            0 => GemminiConfig { softmax_exp: GemminiConfig::norm16().softmax_exp, ..GemminiConfig::small4() },
            1 => GemminiConfig { softmax_exp: GemminiConfig::norm16().softmax_exp, ..GemminiConfig::with_dim(8).unwrap().into_inner() },
            _ => GemminiConfig::norm16(),
        };
        let setup = (seed % 2 == 0).then(CycleSetup::default);
        let mut decoder = Decoder::new(config, &Plan::default(), model.clone(), setup).unwrap();
        check_pieces(&mut decoder, &model, &tokens, &[first, 1, 14]);
    }
}

#[test]
fn tokens_can_be_taken_back() {
    let model = synthetic_model(2);
    let expected = reference(&model, &TOKENS);
    let mut decoder = decoder(&model, None);
    assert_eq!(decoder.forward(&TOKENS).unwrap().scores, expected[18..]);
    decoder.truncate(4);
    let pass = decoder.pass(&TOKENS[4..9], PassOptions { every_row: true, exit: None }, &mut |_| ()).unwrap();
    assert_eq!(pass.scores, expected[4..9]);
}

#[test]
fn normalization_by_the_host_does_not_change_a_decoder() {
    let model = synthetic_model(1);
    let plan = Plan { normalization: Placement::Host, ..Plan::default() };
    for setup in [None, Some(CycleSetup::default())] {
        let mut decoder = Decoder::new(GemminiConfig::norm16(), &plan, model.clone(), setup).unwrap();
        check_pieces(&mut decoder, &model, &TOKENS, &[TOKENS.len()]);
    }
}

#[test]
fn a_plan_that_names_no_operation_of_a_decoder_is_refused() {
    let plan = Plan::from_toml("[operations.pooler]\nnormalization = 'host'").unwrap();
    let mut decoder = Decoder::new(GemminiConfig::norm16(), &plan, synthetic_model(1), None).unwrap();
    let message = decoder.forward(&TOKENS).unwrap_err().to_string();
    assert!(message.contains("`pooler`") && message.contains("attention_norm"), "{message}");
}

#[test]
fn a_prompt_is_a_program_of_its_own_with_its_expected_results() {
    let model = tiny();
    let text = "the cat and the dog";
    let prompt = model.lower(text, GemminiConfig::norm16(), &Plan::default()).unwrap();
    let program = &prompt.compiled.program;
    assert!(!prompt.compiled.needs_host());
    let expected = (COMPARED * model.quantised.blocks.len(), vec![]);
    let memory = run_functional(&prompt.compiled, program.initial_memory()).unwrap();
    let (wrong, compared) = mismatches(program, &memory);
    assert_eq!((compared, wrong), expected);
    let run = run_cycles(&prompt.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
    let (wrong, compared) = mismatches(program, &run.memory);
    assert_eq!((compared, wrong), expected);
    assert!(compile_prompt(GemminiConfig::norm16(), &Plan::default(), &model.quantised, &[]).is_err());
}

#[test]
fn a_run_of_a_text_follows_float32_and_names_the_next_token() {
    let model = tiny();
    let setup = CycleSetup::default();
    let text = "the cat and the dog sat in the";
    let run = model.run(text, GemminiConfig::norm16(), &Plan::default(), Some(&setup), &mut |_| ()).unwrap();
    assert_eq!((run.tensors, run.mismatches), (COMPARED * 2 + 1, vec![]));
    assert!(run.cosine.is_some_and(|cosine| cosine > 0.99), "{:?}", run.cosine);
    assert!(run.layers.iter().all(|layer| layer.quality.is_some_and(|quality| quality.cosine > 0.99)));
    let float = model.float().unwrap();
    let expected = float.generate(&model.tokenize(text).unwrap(), 1).unwrap();
    assert_eq!(run.next.map(|next| next.token), Some(expected[0]));
    let cycles: u64 = run.layers.iter().filter_map(|layer| layer.cycles).sum();
    assert!(
        run.report.is_some_and(|report| cycles > 0 && cycles < report.total.cycles),
        "entry norm and head are no layer's"
    );
}

#[test]
fn a_decoder_from_its_file_runs_alike_and_is_compared_only_with_a_reference() {
    let model = tiny();
    let file = ModelFile::from_bytes(&model.quantised.to_bytes().unwrap(), "memory").unwrap();
    let ModelFile::Decoder(quantised) = file else { panic!("a decoder's file") };
    let run = |model: &DecoderModel| {
        model.run("the cat and the dog", GemminiConfig::norm16(), &Plan::default(), None, &mut |_| ()).unwrap()
    };
    let expected = run(&model);
    let alone = run(&DecoderModel::new((*quantised).clone(), None));
    assert_eq!((alone.cosine, alone.next), (None, expected.next));
    let compared = run(&DecoderModel::new(*quantised, Some(Gpt2Model::load(tiny_directory()).unwrap())));
    assert_eq!(compared.cosine, expected.cosine);
}

#[test]
fn an_early_exit_gives_the_logits_of_the_shorter_model_and_leaves_a_full_cache() {
    let model = synthetic_model(3);
    let mut early = decoder(&model, None);
    let exit = |confidence| PassOptions { every_row: true, exit: Some(EarlyExit { every: 1, confidence }) };
    assert_eq!(early.pass(&TOKENS, exit(2.0), &mut |_| ()).unwrap().scores, reference(&model, &TOKENS));
    early.truncate(0);
    let pass = early.pass(&TOKENS[..5], exit(0.0), &mut |_| ()).unwrap();
    assert_eq!(pass.layers, 1);
    assert_eq!(pass.scores, reference(&model.first_blocks(1).unwrap(), &TOKENS[..5]));

    // What the next token finds in the caches: keys and values of block 0, and in the others those of the exit's state.
    let shorter = model.first_blocks(1).unwrap();
    let mut cache = model.cache();
    let mut short_cache = shorter.cache();
    let traces = shorter.traces(&TOKENS[..5], &mut short_cache).unwrap();
    (cache.keys[0], cache.values[0]) = (short_cache.keys[0].clone(), short_cache.values[0].clone());
    for index in 1..3 {
        let groups = model.blocks[index - 1].output_norm.groups.clone();
        let norm = pollux_model::decoder::ResidualNorm { terms: vec![], groups };
        let sums = &traces[0].ffn_sum;
        let (_, input) = pollux_model::decoder_reference::residual_norm(&norm, sums, None, &mut 0);
        cache.keys[index] = product(&model.blocks[index].key, &input);
        cache.values[index] = product(&model.blocks[index].value, &input);
    }
    let next = early.forward(&TOKENS[5..6]).unwrap();
    let traces = model.traces(&TOKENS[5..6], &mut cache).unwrap();
    assert_eq!(early.compare(&next, &traces), (COMPARED * 3, vec![]));
}

/// A dense product without repeated columns, written out.
fn product(linear: &pollux_model::layer::Linear, input: &Matrix<i8>) -> Matrix<i8> {
    Matrix::from_fn(input.rows, linear.outputs(), |r, c| {
        let sum: i32 = (0..input.cols).map(|k| i32::from(input.at(r, k)) * i32::from(linear.weights.at(k, c))).sum();
        pollux_model::layer_reference::scale_to_int8(sum + linear.bias[c], linear.scale)
    })
}

#[test]
fn the_first_blocks_end_in_the_final_norms_encoding() {
    let model = growing(&QuantiseOptions::default());
    let little = model.first_blocks(2).unwrap();
    little.check().unwrap();
    assert_eq!(little.blocks[1].encoding(Tensor::Output), model.blocks[2].encoding(Tensor::Output));
    assert!(model.first_blocks(0).is_err() && model.first_blocks(4).is_err());
}

#[test]
fn big_little_decoding_gives_the_big_models_tokens() {
    let model = synthetic_model(3);
    let prompt = &TOKENS[..4];
    let alone = generate(&mut decoder(&model, None), prompt, 14, None, &mut |_, _| ()).unwrap();
    assert_eq!(alone.tokens, model.generate(prompt, 14).unwrap());
    for (layers, confidence) in [(1, 0.0), (2, 0.9), (3, 0.0)] {
        let mut big = decoder(&model, None);
        let mut little = decoder(&Arc::new(model.first_blocks(layers).unwrap()), None);
        let policy = BigLittle { draft: 3, confidence };
        let run = generate_big_little(&mut big, &mut little, prompt, 14, policy).unwrap();
        assert_eq!(run.tokens, alone.tokens, "little model of {layers} blocks");
        assert!(layers < 3 || run.accepted >= 9, "a little model that is the big one is always right");
    }
}

#[test]
fn wrong_tokens_and_a_full_cache_are_refused() {
    let mut decoder = decoder(&synthetic_model(1), None);
    let message = decoder.forward(&[40]).unwrap_err().to_string();
    assert!(message.contains("40"), "{message}");
    let message = decoder.forward(&[0; 25]).unwrap_err().to_string();
    assert_eq!(message, "decoder: 25 tokens, but the cache has room for 1 to 24 more");
    assert!(decoder.forward(&[]).is_err() && decoder.is_empty());
}

#[test]
#[ignore = "needs GPT-2: set POLLUX_GPT2_DIR to a directory with config.json, model.safetensors and tokenizer.json"]
fn every_tensor_of_gpt2_is_exact() {
    let directory = std::env::var_os("POLLUX_GPT2_DIR").expect("POLLUX_GPT2_DIR names the model's directory");
    let model = DecoderModel::quantise(Gpt2Model::load(directory).unwrap(), CALIBRATION, &Default::default()).unwrap();
    let text = "The systolic array multiplies two matrices";
    let setup = CycleSetup::default();
    let run = model.run(text, GemminiConfig::norm16(), &Plan::default(), Some(&setup), &mut |_| ()).unwrap();
    println!("cosine of the logits {:?}, next token {:?}", run.cosine, run.next);
    assert_eq!((run.tensors, run.mismatches), (COMPARED * model.quantised.blocks.len() + 1, vec![]));
}
