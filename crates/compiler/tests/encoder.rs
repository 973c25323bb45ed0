//! Whole encoders against the integer reference, tensor by tensor, on both models.

use pollux_compiler::encoder::{CompiledEncoder, compile};
use pollux_compiler::execute::{CycleSetup, mismatches, run_cycles, run_functional, time_cycles};
use pollux_compiler::parameters;
use pollux_compiler::plan::{OperationPlan, Placement, Plan};
use pollux_isa::GemminiConfig;
use pollux_isa::config::{Capacity, ExpVariant};
use pollux_kernels::{Axis, Dataflow, Emission, Keep, Mask, Normalization, Schedule, Tile};
use pollux_model::bert::{BertConfig, BertModel};
use pollux_model::layer::QuantisedLayer;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{AttentionMask, LayerTrace, Matrix, embedded_default, layer_reference};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn tiny(layers: usize, options: QuantiseOptions) -> QuantisedModel {
    let mut model = random(3, 48, 80, 5, options);
    model.layers.truncate(layers);
    model
}

fn random(heads: usize, hidden: usize, ffn: usize, seed: u64, options: QuantiseOptions) -> QuantisedModel {
    let config = BertConfig {
        model_type: "bert".into(),
        hidden_size: hidden,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: ffn,
        vocab_size: 60,
        max_position_embeddings: 80,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".into(),
        position_embedding_type: "absolute".into(),
    };
    let model = BertModel::synthetic(config, seed).unwrap();
    let sentences: Vec<Vec<u32>> = (0..6).map(|s| (0..12).map(|t| (s * 17 + t * 7) % 60).collect()).collect();
    QuantisedModel::build(model, &sentences, &options).unwrap()
}

fn references(layers: &[QuantisedLayer], input: &Matrix<i8>) -> Vec<LayerTrace> {
    let mut x = input.clone();
    let mut traces = Vec::new();
    for layer in layers {
        let trace = layer_reference(layer, &x, AttentionMask::Full).unwrap();
        x = trace.output().clone();
        traces.push(trace);
    }
    traces
}

fn compiled(plan: &Plan, layers: &[QuantisedLayer], input: &Matrix<i8>) -> CompiledEncoder {
    let mut encoder = compile(GemminiConfig::norm16(), plan, layers, input, Mask::Full).unwrap();
    encoder.expect(&references(layers, input)).unwrap();
    encoder
}

fn assert_both_models_agree(encoder: &CompiledEncoder) {
    let program = &encoder.compiled.program;
    let functional = run_functional(&encoder.compiled, program.initial_memory()).unwrap();
    let (wrong, compared) = mismatches(program, &functional);
    assert_eq!((wrong, compared), (vec![], 11 * encoder.layers.len()));
    let run = run_cycles(&encoder.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
    assert_eq!(mismatches(program, &run.memory).0, []);
    let sum: u64 = run.operations.iter().map(|operation| operation.cycles).sum();
    assert_eq!(sum, run.cycles, "operations follow each other without gaps");
    assert!(run.operations.iter().all(|operation| operation.cycles > 0));
    let setup = CycleSetup::default();
    let mut timed = time_cycles(&encoder.compiled, program.initial_memory(), &setup, &mut |_| ()).unwrap();
    (timed.summary.simulated, timed.summary.replayed) = (run.summary.simulated, 0);
    assert_eq!((timed.summary, timed.cycles, timed.operations), (run.summary, run.cycles, run.operations));
}

#[test]
fn every_tensor_of_a_small_encoder_equals_the_reference() {
    let model = tiny(2, QuantiseOptions { outlier_channels: 16, ..Default::default() });
    let input = model.embed_tokens(&(3..20).collect::<Vec<_>>()).unwrap();
    assert_both_models_agree(&compiled(&Plan::default(), &model.layers, &input));
}

#[test]
fn normalization_by_the_host_gives_the_same_tensors() {
    let model = tiny(2, QuantiseOptions { outlier_channels: 16, ..Default::default() });
    let input = model.embed_tokens(&(3..20).collect::<Vec<_>>()).unwrap();
    let plan = Plan { normalization: Placement::Host, ..Plan::default() };
    let encoder = compiled(&plan, &model.layers, &input);
    assert_eq!(encoder.compiled.operations.iter().filter(|o| o.host.is_some()).count(), 2 * 3);
    assert_both_models_agree(&encoder);
}

#[test]
fn masks_and_arrays_of_any_size_give_the_reference() {
    let layers = random(3, 36, 77, 2, QuantiseOptions { outlier_channels: 4, ..Default::default() }).layers;
    let data = (0..37 * 36).map(|i: i32| (i * 67 % 255 - 127) as i8).collect();
    let input = Matrix::from_vec(37, 36, data);
    for (dim, mask) in [
        (4, AttentionMask::Padding { valid: 13 }),
        (8, AttentionMask::Causal),
        (32, AttentionMask::Padding { valid: 36 }),
        (64, AttentionMask::Causal),
    ] {
        let config =
            GemminiConfig { softmax_exp: ExpVariant::Released, ..GemminiConfig::with_dim(dim).unwrap().into_inner() };
        let layers = &layers[..1];
        let mut encoder = compile(config, &Plan::default(), layers, &input, parameters::mask(mask)).unwrap();
        encoder.expect(&[layer_reference(&layers[0], &input, mask).unwrap()]).unwrap();
        assert_both_models_agree(&encoder);
    }
}

#[test]
fn the_embedded_layer_equals_the_reference_functionally() {
    let file = embedded_default();
    let layers = [file.layer];
    let encoder = compiled(&Plan::default(), &layers, &file.input);
    let memory = run_functional(&encoder.compiled, encoder.compiled.program.initial_memory()).unwrap();
    assert_eq!(mismatches(&encoder.compiled.program, &memory), (vec![], 11));
}

#[test]
fn weights_in_two_planes_take_columns_of_the_input_twice() {
    let options = QuantiseOptions { weight_planes: 2, outlier_channels: 16, outlier_planes: 2, ..Default::default() };
    let model = tiny(2, options);
    assert!(model.layers.iter().any(|layer| !layer.query.repeats.is_empty()));
    let input = model.embed_tokens(&(3..20).collect::<Vec<_>>()).unwrap();
    assert_both_models_agree(&compiled(&Plan::default(), &model.layers, &input));
}

#[test]
fn rows_wider_than_the_accumulator_go_through_main_memory() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&(0..70).map(|t| t % 60).collect::<Vec<_>>()).unwrap();
    // 64 rows of the accumulator: 4 blocks, but 70 keys need 5.
    let config = GemminiConfig { acc_capacity: Capacity::Kilobytes(4), ..GemminiConfig::norm16() };
    let mut encoder = compile(config, &Plan::default(), &model.layers, &input, Mask::Full).unwrap();
    encoder.expect(&references(&model.layers, &input)).unwrap();
    assert!(!encoder.compiled.needs_host());
    assert!(encoder.compiled.program.buffer("layer0.scores_softmax.sums1").is_some());
    assert_both_models_agree(&encoder);
}

#[test]
fn a_build_without_normalizations_leaves_them_to_the_host() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&[1, 2, 3]).unwrap();
    let config = GemminiConfig { has_normalizations: false, ..GemminiConfig::norm16() };
    let mut encoder = compile(config.clone(), &Plan::default(), &model.layers, &input, Mask::Full).unwrap();
    encoder.expect(&references(&model.layers, &input)).unwrap();
    let hosts = encoder.compiled.operations.iter().filter(|o| o.host.is_some()).map(|o| o.name.as_str());
    let expected = ["layer0.scores_softmax", "layer0.attention_norm", "layer0.gelu", "layer0.output_norm"];
    assert_eq!(hosts.collect::<Vec<_>>(), expected);
    let memory = run_functional(&encoder.compiled, encoder.compiled.program.initial_memory()).unwrap();
    assert_eq!(mismatches(&encoder.compiled.program, &memory), (vec![], 11));

    let plan = Plan { normalization: Placement::Accelerator, ..Plan::default() };
    let message = compile(config, &plan, &model.layers, &input, Mask::Full).unwrap_err().to_string();
    assert_eq!(
        message,
        "operation `layer0.scores_softmax`: softmax of 3 columns needs `has_normalizations` (softmax: with the released \
         exponential) and 1 accumulator rows; choose normalization auto or host"
    );
}

#[test]
fn a_schedule_of_the_plan_changes_the_commands_but_not_the_result() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&(3..20).collect::<Vec<_>>()).unwrap();
    let plan = Plan::from_toml(
        "[operations.query.schedule]\ndataflow = 'os'\ntile = { i = 1, j = 1, k = 3 }\norder = ['j', 'i', 'k']\n\
         double_buffer = false\nemission = 'commands'",
    )
    .unwrap();
    let (default, planned) =
        (compiled(&Plan::default(), &model.layers, &input), compiled(&plan, &model.layers, &input));
    assert!(planned.compiled.operations[0].work.commands > default.compiled.operations[0].work.commands);
    assert_eq!(planned.compiled.operations[1].work, default.compiled.operations[1].work);
    assert_both_models_agree(&planned);
}

#[test]
fn a_plan_that_products_by_blocks_cannot_follow_is_refused() {
    let options = QuantiseOptions { weight_planes: 2, ..Default::default() };
    let model = tiny(1, options);
    let input = model.embed_tokens(&[1, 2, 3]).unwrap();
    let message = |plan: &str| {
        let plan = Plan::from_toml(plan).unwrap();
        compile(GemminiConfig::norm16(), &plan, &model.layers, &input, Mask::Full).unwrap_err().to_string()
    };
    let schedule = "[operations.query.schedule]\ndataflow = 'ws'\ntile = { i = 1, j = 1, k = 3 }\n\
                    order = ['i', 'j', 'k']\ndouble_buffer = true\nemission = 'commands'";
    assert_eq!(
        message(schedule),
        "operation `layer0.query`: the plan gives it a schedule, but it is done block by block, weight-stationary, because \
         columns of its input occur twice (outlier channels with several planes); take that out of the plan, or keep all \
         blocks (no skip_zero_tiles, no pruning of blocks or weights)"
    );
    assert!(message("dataflow = 'os'").contains("the plan gives it an output-stationary dataflow, but"));
}

#[test]
fn choices_of_a_plan_that_no_operation_takes_are_refused() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&[1, 2, 3]).unwrap();
    let message = |plan: &str| {
        let plan = Plan::from_toml(plan).unwrap();
        compile(GemminiConfig::norm16(), &plan, &model.layers, &input, Mask::Full).unwrap_err().to_string()
    };
    let schedule = "dataflow = 'ws'\ntile = { i = 1, j = 1, k = 1 }\norder = ['i', 'j', 'k']\n\
                    double_buffer = true\nemission = 'commands'";
    assert!(
        message(&format!("[operations.gelu.schedule]\n{schedule}"))
            .starts_with("operation `gelu`: the plan's `schedule` would be ignored: it is for products")
    );
    assert!(
        message("[operations.'layer0.query']\nnormalization = 'host'")
            .starts_with("operation `layer0.query`: the plan's `normalization` would be ignored")
    );
    assert!(message("[operations.'layer1.query']").contains("names the operation `layer1.query`"));
}

#[test]
fn an_impossible_schedule_is_refused_with_the_operation_and_the_rule() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&[1, 2, 3]).unwrap();
    let mut plan = Plan::default();
    let schedule = Schedule {
        dataflow: Dataflow::Os,
        tile: Tile { i: 1, j: 1, k: 1 },
        order: Schedule::DEFAULT_ORDER,
        double_buffer: true,
        emission: Emission::Unroller,
        normalization: Default::default(),
        keep: Default::default(),
    };
    plan.operations.insert("value".into(), OperationPlan { schedule: Some(schedule), ..OperationPlan::default() });
    let message = compile(GemminiConfig::norm16(), &plan, &model.layers, &input, Mask::Full).unwrap_err().to_string();
    assert_eq!(
        message,
        "operation `layer0.value`: the unroller is weight-stationary: choose dataflow ws, or emission commands"
    );
}

/// Tiles in the unroller that stay in the scratchpad as long as they can.
fn kept(tile: [usize; 3], order: [Axis; 3]) -> Schedule {
    let [i, j, k] = tile;
    Schedule {
        dataflow: Dataflow::Ws,
        tile: Tile { i, j, k },
        order,
        double_buffer: true,
        emission: Emission::Unroller,
        normalization: Normalization::Fused,
        keep: Keep::Recent,
    }
}

fn scheduled(plan: &mut Plan, operation: &str, schedule: Schedule) {
    plan.operations.insert(operation.into(), OperationPlan { schedule: Some(schedule), ..OperationPlan::default() });
}

#[test]
fn groups_that_cannot_be_done_together_are_refused() {
    let model = tiny(1, QuantiseOptions::default());
    let input = model.embed_tokens(&[1, 2, 3]).unwrap();
    let schedule = kept([1, 1, 1], Schedule::DEFAULT_ORDER);
    let message = |names: &[&str], change: &dyn Fn(&mut Plan)| {
        let mut plan = Plan { together: vec![names.iter().map(|&name| name.to_owned()).collect()], ..Plan::default() };
        names.iter().for_each(|name| scheduled(&mut plan, name, schedule));
        change(&mut plan);
        compile(GemminiConfig::norm16(), &plan, &model.layers, &input, Mask::Full).map(|_| ()).unwrap_err().to_string()
    };
    let alone = message(&["query", "intermediate"], &|_| ());
    assert!(alone.starts_with("operation `query, intermediate`: the plan's `together` would be ignored"), "{alone}");
    let other_tile = message(&["query", "key"], &|plan| scheduled(plan, "key", kept([1, 1, 2], schedule.order)));
    assert_eq!(other_tile, "operation `layer0.key`: products with one A need tiles of the same i and k");
    let other_keep =
        message(&["key", "value"], &|plan| scheduled(plan, "value", Schedule { keep: Keep::Gemmini, ..schedule }));
    assert!(other_keep.starts_with("operation `layer0.value`: it is done together with others"), "{other_keep}");
    let unknown = message(&["query", "keys"], &|plan| {
        plan.operations.remove("keys");
    });
    assert!(unknown.contains("names the operation `keys`"), "{unknown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..Default::default() })]

    #[test]
    fn products_that_are_done_together_and_norms_apart_equal_the_reference(
        tokens in 1usize..70,
        (i, k, j) in (1usize..4, 1usize..4, [1usize..4, 1usize..4, 1usize..4]),
        columns_outside in proptest::bool::ANY,
        members in 2usize..4,
        separate in proptest::bool::ANY,
    ) {
        let model = tiny(2, QuantiseOptions::default());
        let ids: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % 60).collect();
        let input = model.embed_tokens(&ids).unwrap();
        let order = if columns_outside { [Axis::J, Axis::I, Axis::K] } else { Schedule::DEFAULT_ORDER };
        let names = &["query", "key", "value"][3 - members..];
        let mut plan = Plan { together: vec![names.iter().map(|&name| name.to_owned()).collect()], ..Plan::default() };
        let i = i.min(tokens.div_ceil(16));
        for (name, j) in names.iter().zip(j) {
            scheduled(&mut plan, name, kept([i, j, k], order));
        }
        if separate {
            let schedule = Schedule { normalization: Normalization::Separate, ..kept([1, 1, 1], order) };
            scheduled(&mut plan, "scores_softmax", schedule);
        }
        let encoder = compiled(&plan, &model.layers, &input);
        assert_both_models_agree(&encoder);
        let fences = |plan: &Plan| {
            let items = compiled(plan, &model.layers, &input).compiled.program.items;
            items.iter().filter(|item| matches!(item, pollux_isa::StreamItem::Fence)).count()
        };
        // One for each two neighbours of a group, in both layers; a separate softmax has one for each of three heads.
        let more = if separate { 2 * 3 } else { 0 };
        prop_assert_eq!(fences(&plan) + 2 * (members - 1), fences(&Plan::default()) + more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..Default::default() })]

    #[test]
    fn ragged_encoders_equal_the_reference_on_both_models(
        tokens in 1usize..38, heads in 1usize..4, head_size in 3usize..20, ffn in 1usize..50, seed in 0u64..1000,
        weight_planes in 1usize..3, host in proptest::bool::ANY,
    ) {
        let model = random(heads, heads * head_size, ffn, seed, QuantiseOptions { weight_planes, ..Default::default() });
        let ids: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + seed as u32) % 60).collect();
        let input = model.embed_tokens(&ids).unwrap();
        let normalization = if host { Placement::Host } else { Placement::Auto };
        assert_both_models_agree(&compiled(&Plan { normalization, ..Plan::default() }, &model.layers, &input));
    }
}
