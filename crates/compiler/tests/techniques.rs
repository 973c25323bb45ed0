//! Pruning: what is left out gives the same result as what is set to zero, and saves cycles.

use pollux_compiler::encoder::{CompiledEncoder, TokenCounts, compile, compile_parameters};
use pollux_compiler::execute::{CycleSetup, mismatches, read_matrix, run_cycles, run_functional};
use pollux_compiler::parameters;
use pollux_compiler::pipeline::{references, token_counts};
use pollux_compiler::plan::Plan;
use pollux_compiler::report::Report;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::techniques::{Pruning, prune_blocks, prune_weights};
use pollux_isa::GemminiConfig;
use pollux_kernels::Mask;
use pollux_model::bert::{BertConfig, BertModel};
use pollux_model::layer::QuantisedLayer;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{AttentionMask, Matrix, layer_reference};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn model(weight_planes: usize) -> QuantisedModel {
    let config = BertConfig {
        model_type: "bert".into(),
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 96,
        vocab_size: 60,
        max_position_embeddings: 40,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".into(),
        position_embedding_type: "absolute".into(),
    };
    let model = BertModel::synthetic(config, 9).unwrap();
    let sentences: Vec<Vec<u32>> = (0..6).map(|s| (0..12).map(|t| (s * 17 + t * 7) % 60).collect()).collect();
    QuantisedModel::build(model, &sentences, &QuantiseOptions { weight_planes, ..Default::default() }).unwrap()
}

fn input(model: &QuantisedModel, tokens: u32) -> Matrix<i8> {
    model.embed_tokens(&(0..tokens).map(|t| t * 11 % 60).collect::<Vec<_>>()).unwrap()
}

fn output(encoder: &CompiledEncoder) -> Matrix<i8> {
    let memory = run_functional(&encoder.compiled, encoder.compiled.program.initial_memory()).unwrap();
    read_matrix(&memory, &encoder.output().unwrap())
}

fn cycles(encoder: &CompiledEncoder) -> u64 {
    let memory = encoder.compiled.program.initial_memory();
    run_cycles(&encoder.compiled, memory, &CycleSetup::default(), &mut |_| ()).unwrap().cycles
}

fn expected(layers: &[QuantisedLayer], input: &Matrix<i8>) -> Matrix<i8> {
    references(layers, input).unwrap().last().unwrap().output().clone()
}

fn whole(layers: &[QuantisedLayer], input: &Matrix<i8>, plan: &Plan) -> CompiledEncoder {
    compile(GemminiConfig::norm16(), plan, layers, input, Mask::Full).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..Default::default() })]

    #[test]
    fn leaving_heads_and_columns_out_equals_setting_them_to_zero(
        heads in 0usize..4, groups in 0usize..6, planes in 1usize..3,
    ) {
        let model = model(planes);
        let (mut zeroed, input) = (model.layers.clone(), input(&model, 19));
        let mut shrunk = Vec::new();
        for layer in &mut zeroed {
            let pruning = Pruning::least(layer, heads, groups).unwrap();
            pruning.zero(layer);
            let mut params = parameters::encoder_layer(layer);
            pruning.shrink(&mut params);
            shrunk.push(params);
        }
        let config = GemminiConfig::norm16();
        let encoder =
            compile_parameters(config, &Plan::default(), &shrunk, &input, Mask::Full, &TokenCounts::new()).unwrap();
        prop_assert_eq!(output(&encoder), expected(&zeroed, &input));
    }

    #[test]
    fn leaving_blocks_of_zeros_out_changes_no_tensor(fraction in 0.0f64..0.99, planes in 1usize..3, tokens in 1u32..36) {
        let model = model(planes);
        let (mut layers, input) = (model.layers.clone(), input(&model, tokens));
        layers.iter_mut().for_each(|layer| prune_blocks(layer, fraction, 16).unwrap());
        let mut encoder = whole(&layers, &input, &Plan { skip_zero_tiles: true, ..Plan::default() });
        encoder.expect(&references(&layers, &input).unwrap()).unwrap();
        let program = &encoder.compiled.program;
        let run =
            run_cycles(&encoder.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
        prop_assert_eq!(mismatches(program, &run.memory), (vec![], 22));
    }
}

#[test]
fn pruned_heads_columns_and_blocks_save_cycles() {
    let model = model(1);
    let input = input(&model, 36);
    let full = cycles(&whole(&model.layers, &input, &Plan::default()));
    let compile_shrunk = |heads, groups| {
        let mut shrunk: Vec<_> = model.layers.iter().map(parameters::encoder_layer).collect();
        for (layer, params) in model.layers.iter().zip(&mut shrunk) {
            Pruning::least(layer, heads, groups).unwrap().shrink(params);
        }
        let config = GemminiConfig::norm16();
        let none = TokenCounts::new();
        cycles(&compile_parameters(config, &Plan::default(), &shrunk, &input, Mask::Full, &none).unwrap())
    };
    assert!(compile_shrunk(2, 0) < full, "heads");
    assert!(compile_shrunk(0, 3) < full, "columns");
    let mut layers = model.layers.clone();
    layers.iter_mut().for_each(|layer| prune_blocks(layer, 0.8, 16).unwrap());
    let plan = Plan { skip_zero_tiles: true, ..Plan::default() };
    assert!(cycles(&whole(&layers, &input, &plan)) < full, "blocks");
}

#[test]
fn pruned_tokens_leave_the_others_results_as_a_layer_of_fewer_rows_gives_them() {
    let model = model(1);
    let input = input(&model, 20);
    let params: Vec<_> = model.layers.iter().map(parameters::encoder_layer).collect();
    let keep = token_counts(20, &[(0, 0.5)]);
    assert_eq!(keep[&0], 10);
    let config = GemminiConfig::norm16();
    let encoder = compile_parameters(config.clone(), &Plan::default(), &params, &input, Mask::Full, &keep).unwrap();
    let memory = run_functional(&encoder.compiled, encoder.compiled.program.initial_memory()).unwrap();
    let kept = read_matrix(&memory, &encoder.layers[1].input);
    let first = layer_reference(&model.layers[0], &input, AttentionMask::Full).unwrap();
    let rows: Vec<&[i8]> = (0..20).map(|r| first.output().row(r)).collect();
    let mut from = 0;
    for r in 0..10 {
        from +=
            rows[from..].iter().position(|row| *row == kept.row(r)).expect("a row of the first layer, in order") + 1;
    }
    let setup = CycleSetup::default();
    let run = run_cycles(&encoder.compiled, encoder.compiled.program.initial_memory(), &setup, &mut |_| ()).unwrap();
    let report = Report::new("fewer tokens", &encoder.compiled, &run);
    assert!(report.layers[1].cycles < report.layers[0].cycles, "the second layer has fewer rows");
    let expected = layer_reference(&model.layers[1], &kept, AttentionMask::Full).unwrap();
    assert_eq!(&read_matrix(&memory, &encoder.layers[1].output), expected.output());

    let keep = TokenCounts::from([(0, 21)]);
    let message = compile_parameters(config, &Plan::default(), &params, &input, Mask::Full, &keep).unwrap_err();
    assert_eq!(message.to_string(), "token pruning: 21 tokens after layer0, which has 20: keep 1 to 20");
}

#[test]
fn impossible_pruning_is_refused_with_what_is_possible() {
    let mut layer = model(1).layers[0].clone();
    let message = Pruning::least(&layer, 4, 0).unwrap_err().to_string();
    assert_eq!(message, "structured pruning: 4 of 4 heads: leave at least one");
    let message = prune_weights(&mut layer, 1.0).unwrap_err().to_string();
    assert_eq!(message, "weight pruning: the fraction 1 must be at least 0 and below 1");
}

#[test]
fn unstructured_pruning_zeroes_the_smallest_weights() {
    let mut layer = model(1).layers[0].clone();
    prune_weights(&mut layer, 0.5).unwrap();
    let weights = &layer.query.weights.data;
    let zeros = weights.iter().filter(|&&w| w == 0).count();
    assert!(zeros >= weights.len() / 2 && zeros < weights.len() * 6 / 10, "{zeros} of {}", weights.len());
}

#[test]
fn a_report_adds_up_and_has_a_table_and_a_page() {
    let shape = Shape::new("small", 32, 2, 2, 64);
    let layers = synthetic::encoder(&shape, 20, 1).unwrap();
    let input = synthetic::input(&shape, 20, 2);
    let config = GemminiConfig::norm16();
    let encoder =
        compile_parameters(config, &Plan::default(), &layers, &input, Mask::Full, &TokenCounts::new()).unwrap();
    let memory = encoder.compiled.program.initial_memory();
    let run = run_cycles(&encoder.compiled, memory, &CycleSetup::default(), &mut |_| ()).unwrap();
    let report = Report::new("small", &encoder.compiled, &run);
    for groups in [&report.classes, &report.layers, &report.parts] {
        assert_eq!(groups.iter().map(|g| g.cycles).sum::<u64>(), report.total.cycles);
        assert_eq!(groups.iter().map(|g| g.macs).sum::<u64>(), report.total.macs);
        assert_eq!(
            groups.iter().map(|g| g.bytes_in + g.bytes_out).sum::<u64>(),
            report.total.bytes_in + report.total.bytes_out
        );
    }
    // Four products of 20 x 32 x 32, two of 20 x 32 x 64, scores and context: 2 x 20 x 20 x 32 (padding counts nothing).
    let dense = 2 * (4 * 20 * 32 * 32 + 2 * 20 * 32 * 64 + 2 * 20 * 20 * 32);
    let products =
        ["query", "key", "value", "scores_softmax", "context", "attention_output", "intermediate", "ffn_output"];
    let macs: u64 = report.parts.iter().filter(|p| products.contains(&p.name.as_str())).map(|p| p.macs).sum();
    assert_eq!(macs, dense);
    assert!(report.operations.iter().all(|o| o.figures.utilisation > 0.0 && o.figures.utilisation <= 1.0));
    let table = report.table(true);
    assert!(table.contains("layer1.output_norm") && table.contains("\nclass ") && table.contains("nonlinear"));
    let page = report.html().unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(page.contains("layer0.gelu") && !page.contains("<script") && !page.contains("src="));
}
