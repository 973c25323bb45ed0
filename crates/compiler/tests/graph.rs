//! Convolutional networks: functional model == integer reference on every tensor, cycle-level model == functional.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pollux_compiler::execute::{CycleSetup, mismatches, run_cycles, run_functional};
use pollux_compiler::graph::pipeline::{GraphPair, LoweredGraph, random_inputs};
use pollux_compiler::plan::{OperationPlan, Plan};
use pollux_isa::GemminiConfig;
use pollux_kernels::{ConvSchedule, Emission};
use pollux_model::graph::families::{ResNetConfig, resnet};
use pollux_model::graph::operator::{Conv2d, Window};
use pollux_model::graph::{GraphOptions, IntegerGraph, IntegerOperation, Operator, ReadOut, Step};
use pollux_model::onnx::ImportOptions;
use pollux_model::{GraphBuilder, GraphModel};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests").join(name)
}

fn tiny_resnet() -> GraphModel {
    let config = ResNetConfig::from_directory(fixture("tiny-resnet"), 2, 32).unwrap();
    GraphModel::load_resnet(fixture("tiny-resnet"), &config).unwrap()
}

fn quantised(model: GraphModel, channels_per_scale: usize) -> GraphPair {
    let samples = [random_inputs(&model.graph, 1)];
    GraphPair::quantise(model, &samples, &GraphOptions { channels_per_scale, ..GraphOptions::default() }).unwrap()
}

/// Runs on both models; returns how many tensors were compared with the reference.
fn check(pair: &GraphPair, config: &GemminiConfig, plan: &Plan) -> usize {
    let inputs = random_inputs(&pair.quantised.graph, 2);
    let lowered = pair.lower(&inputs, config.clone(), plan).unwrap();
    let (compiled, program) = (&lowered.graph.compiled, &lowered.graph.compiled.program);
    let functional = run_functional(compiled, program.initial_memory()).unwrap();
    assert_eq!(mismatches(program, &functional), (vec![], lowered.tensors));
    let run = run_cycles(compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
    assert_eq!(mismatches(program, &run.memory), (vec![], lowered.tensors));
    lowered.tensors
}

#[test]
fn a_residual_network_equals_the_reference_in_every_tensor() {
    let pair = quantised(tiny_resnet(), 0);
    // Thirteen convolutions and products, three additions, two poolings, of which the first is part of a convolution.
    assert_eq!(check(&pair, &GemminiConfig::default16(), &Plan::default()), 17);
    let separate = Plan { separate_pooling: true, ..Plan::default() };
    assert_eq!(check(&pair, &GemminiConfig::default16(), &separate), 18);
    check(&pair, &GemminiConfig::small4(), &Plan::default());
}

#[test]
fn encoder_layers_of_an_onnx_file_keep_the_accuracy_of_model_directories() {
    let model = GraphModel::load_onnx(fixture("onnx/bert.onnx"), &ImportOptions::default());
    let pair = quantised(model.unwrap(), 0);
    let layers = |step: &&Step| matches!(step.operation, IntegerOperation::Encoder { .. });
    assert!(pair.quantised.steps.iter().filter(layers).count() > 0, "{}", pair.quantised.graph);
    let tensors = check(&pair, &GemminiConfig::norm16(), &Plan::default());
    // Ten tensors of each layer, and what is before and behind them.
    assert!(tensors > 10, "{tensors}");
    let inputs = random_inputs(&pair.quantised.graph, 3);
    let quality = pair.quality(&inputs).unwrap();
    // Ranges are those of one other input, of five tokens.
    assert!(quality.iter().all(|step| step.quality.cosine > 0.95), "{quality:?}");
    let saved = IntegerGraph::from_bytes(&pair.quantised.to_bytes().unwrap(), "saved").unwrap();
    assert_eq!(saved, pair.quantised);
}

#[test]
fn products_of_the_host_are_read_out_as_sums() {
    let model = GraphModel::load_onnx(fixture("onnx/general.onnx"), &ImportOptions::default());
    let model = model.unwrap();
    let samples = [random_inputs(&model.graph, 1)];
    for read_out in [ReadOut::Int32, ReadOut::Int32Rows] {
        let options = GraphOptions { read_out, ..GraphOptions::default() };
        let pair = GraphPair::quantise(model.clone(), &samples, &options).unwrap();
        check(&pair, &GemminiConfig::norm16(), &Plan::default());
        let saved = IntegerGraph::from_bytes(&pair.quantised.to_bytes().unwrap(), "saved").unwrap();
        assert_eq!(saved, pair.quantised);
    }
}

#[test]
fn scales_by_channel_are_read_out_one_after_the_other() {
    check(&quantised(tiny_resnet(), 4), &GemminiConfig::small4(), &Plan::default());
    check(&quantised(tiny_resnet(), 1), &GemminiConfig::default16(), &Plan::default());
}

#[test]
fn an_onnx_network_with_depthwise_grouped_and_dilated_convolutions_equals_the_reference() {
    let model = GraphModel::load_onnx(fixture("onnx/convolutions.onnx"), &ImportOptions::default()).unwrap();
    let pair = quantised(model, 0);
    for config in [GemminiConfig::default16(), GemminiConfig::small4()] {
        check(&pair, &config, &Plan::default());
    }
    // No depthwise loops, no convolution loops at all.
    for change in [|c: &mut GemminiConfig| c.has_dw_convs = false, |c: &mut GemminiConfig| c.has_loop_conv = false] {
        let mut config = GemminiConfig::default16();
        change(&mut config);
        check(&pair, &config, &Plan::default());
    }
}

/// A network of one node after a convolution, so that its operand has negative values too.
fn network(image: [usize; 4], operators: &[Operator]) -> GraphModel {
    try_network(image, operators).unwrap()
}

/// The same, if all operators have results.
fn try_network(image: [usize; 4], operators: &[Operator]) -> Option<GraphModel> {
    let mut b = GraphBuilder::new("network");
    let mut x = b.input("image", &image).unwrap();
    for (index, operator) in operators.iter().enumerate() {
        let mut operands = vec![x];
        if let Operator::Conv2d(conv) = operator {
            let (channels, [rows, cols]) = (b.shape(x)[3], conv.window.kernel);
            let outputs = if conv.groups == channels { channels } else { 6 };
            let shape = [rows, cols, channels / conv.groups, outputs];
            operands.push(b.constant(&format!("w{index}"), &shape).unwrap());
        }
        if let Operator::Add = operator {
            operands.push(x);
        }
        x = b.node(&format!("node{index}"), operator.clone(), &operands).ok()?;
    }
    b.output(x);
    GraphModel::synthetic(b.finish(), 3).ok()
}

fn conv(window: Window, groups: usize) -> Operator {
    Operator::Conv2d(Conv2d { window, groups, bias: false })
}

#[test]
fn windows_that_no_kernel_has_are_made_of_others() {
    let window = |kernel, stride, padding| Window { kernel, stride, padding, dilation: [1, 1] };
    let average = |window| Operator::AveragePool { window, count_padding: true };
    for operators in [
        vec![conv(window([3, 1], [1, 1], [1, 0, 1, 0]), 1)],
        vec![conv(window([2, 5], [2, 2], [0, 2, 1, 2]), 1)],
        vec![conv(window([3, 3], [2, 2], [0, 0, 1, 1]), 1)],
        vec![conv(window([1, 1], [1, 1], [2, 2, 2, 2]), 1)],
        vec![conv(Window { dilation: [2, 2], ..window([3, 3], [1, 1], [2, 2, 2, 2]) }, 2)],
        vec![conv(window([3, 3], [1, 1], [0, 1, 2, 0]), 4)],
        vec![Operator::MaxPool(window([5, 5], [1, 1], [2, 2, 2, 2]))],
        vec![Operator::MaxPool(window([6, 6], [3, 3], [4, 0, 3, 5])), Operator::Relu],
        vec![Operator::MaxPool(window([2, 2], [2, 2], [0, 0, 1, 1])), Operator::Reshape { shape: vec![4, 60] }],
        vec![average(window([3, 3], [2, 2], [1, 1, 1, 1])), Operator::Add],
        vec![average(window([4, 4], [4, 4], [0; 4])), Operator::GlobalAveragePool],
        vec![
            conv(Window::square(3, 1, 1), 1),
            Operator::MaxPool(Window::square(2, 2, 0)),
            Operator::Add,
            Operator::Relu,
        ],
        vec![conv(Window::square(3, 1, 1), 1), Operator::Relu, Operator::MaxPool(Window::square(3, 2, 1))],
    ] {
        let model = network([2, 11, 9, 4], &operators);
        check(&quantised(model, 0), &GemminiConfig::default16(), &Plan::default());
    }
}

#[test]
fn a_plan_chooses_the_tiles_of_a_convolution() {
    let pair = quantised(network([1, 8, 8, 4], &[conv(Window::square(3, 1, 1), 1)]), 0);
    let plan = Plan::from_toml(
        "[operations.node0.convolution]
         batch = 1
         rows = 3
         cols = 8
         out_channels = 6
         kernel_rows = 3
         kernel_cols = 3
         in_channels = 4
         emission = 'commands'",
    );
    let plan = plan.unwrap();
    assert_eq!(plan.convolution("node0").map(|s: ConvSchedule| s.emission), Some(Emission::Commands));
    check(&pair, &GemminiConfig::default16(), &plan);
    let mut wrong = plan.clone();
    let schedule = ConvSchedule { rows: 9, ..plan.convolution("node0").unwrap() };
    wrong.operations.insert("node0".into(), OperationPlan { convolution: Some(schedule), ..OperationPlan::default() });
    let inputs = random_inputs(&pair.quantised.graph, 2);
    let message = pair.lower(&inputs, GemminiConfig::default16(), &wrong).unwrap_err().to_string();
    assert_eq!(message, "operation `node0`: the tile's rows is 9: it must be 1 to 8");
}

#[test]
fn what_a_build_cannot_do_is_the_hosts_with_the_same_integers() {
    let reason = |config: GemminiConfig, operators: &[Operator]| {
        let pair = quantised(network([1, 9, 9, 4], operators), 0);
        let inputs = random_inputs(&pair.quantised.graph, 2);
        let lowered = pair.lower(&inputs, config.clone(), &Plan::default()).unwrap();
        let run = pair.run(&inputs, config, &Plan::default(), None, &mut |_| ()).unwrap();
        assert!(run.mismatches.is_empty() && run.tensors > 0, "{:?}", run.mismatches);
        lowered.graph.host.first().map_or("none".to_owned(), |node| format!("{}: {}", node.operator, node.reason))
    };
    let window = |kernel, stride, dilation| Window { kernel, stride, padding: [0; 4], dilation };
    let reasons = [
        reason(GemminiConfig::default16(), &[conv(window([3, 3], [1, 2], [1, 1]), 1)]),
        reason(GemminiConfig::default16(), &[conv(window([3, 3], [2, 1], [1, 1]), 4)]),
        reason(GemminiConfig::default16(), &[conv(window([1, 3], [6, 4], [1, 2]), 2)]),
        reason(GemminiConfig::default16(), &[conv(window([3, 3], [1, 1], [1, 2]), 1)]),
        reason(GemminiConfig::default16(), &[Operator::MaxPool(window([2, 3], [1, 1], [1, 1]))]),
        reason(GemminiConfig::default16(), &[Operator::MaxPool(window([3, 3], [4, 4], [1, 1]))]),
        reason(GemminiConfig::norm16(), &[Operator::MaxPool(Window::square(3, 2, 1))]),
    ];
    insta::assert_snapshot!(reasons.join("\n"), @r"
    none
    none
    none
    conv2d: dilations [1, 2] differ; use one for rows and columns
    max_pool: a window of [2, 3], dilated [1, 1]: it is not square, or has gaps
    max_pool: a stride of 4: config_st's 2 bits hold 1 to 3
    max_pool: this build has no pooling: it needs has_max_pool
    ");
}

/// A small residual network as wide as the array.
#[test]
fn a_synthetic_residual_network_equals_the_reference() {
    let config = ResNetConfig {
        images: 1,
        image: 40,
        stem: 16,
        widths: vec![8, 20],
        blocks: vec![1, 2],
        classes: 10,
        stride_in_3x3: false,
    };
    let pair = quantised(GraphModel::synthetic(resnet(&config).unwrap(), 5).unwrap(), 0);
    check(&pair, &GemminiConfig::default16(), &Plan::default());
    let inputs = random_inputs(&pair.quantised.graph, 7);
    let run =
        pair.run(&inputs, GemminiConfig::default16(), &Plan::default(), Some(&CycleSetup::default()), &mut |_| ());
    let run = run.unwrap();
    assert!(run.mismatches.is_empty() && run.cosine() > Some(0.98), "{:?}", run.cosine());
    let report = run.report.unwrap();
    assert_eq!(report.operations.iter().map(|o| o.figures.cycles).sum::<u64>(), report.total.cycles);
    assert_eq!(report.layers.len(), 2);
    assert!(run.layers.iter().all(|layer| layer.cycles > Some(0)));
}

/// Windows of every shape that has a result on an image of 9 x 7.
fn windows(square: bool) -> impl Strategy<Value = Window> {
    let sides = [0usize..4, 0..4, 0..4, 0..4];
    (1usize..5, 1usize..5, 1usize..4, sides, 1usize..3).prop_map(move |(rows, cols, stride, padding, dilation)| {
        Window {
            kernel: [rows, if square { rows } else { cols }],
            stride: [stride; 2],
            padding,
            dilation: [if square { 1 } else { dilation }; 2],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn any_convolution_with_a_pooling_behind_equals_the_reference(
        window in windows(false),
        (groups, relu, together) in (prop::sample::select(vec![1usize, 1, 2, 4]), any::<bool>(), 0usize..3),
        pool in windows(true),
        (kind, separate_pooling, small) in (0usize..3, any::<bool>(), any::<bool>()),
    ) {
        let pool = Window { padding: pool.padding.map(|p| p.min(pool.kernel[0] - 1)), ..pool };
        let pool = match kind {
            0 => Operator::MaxPool(Window { stride: pool.stride, ..pool }),
            1 => Operator::AveragePool { window: pool, count_padding: true },
            _ => Operator::GlobalAveragePool,
        };
        let relu = if relu { vec![Operator::Relu] } else { vec![] };
        let operators = [vec![conv(window, groups)], relu, vec![pool]].concat();
        let Some(model) = try_network([1, 9, 7, 4], &operators) else { return Err(TestCaseError::reject("no result")) };
        let config = if small { GemminiConfig::small4() } else { GemminiConfig::default16() };
        check(&quantised(model, 3 * together), &config, &Plan { separate_pooling, ..Plan::default() });
    }
}

fn resnet_50() -> LoweredGraph {
    let pair = quantised(GraphModel::synthetic(resnet(&ResNetConfig::resnet50()).unwrap(), 1).unwrap(), 0);
    let inputs = random_inputs(&pair.quantised.graph, 2);
    pair.lower(&inputs, GemminiConfig::default16(), &Plan::default()).unwrap()
}

/// One image of 224 x 224.
#[test]
fn resnet_50_equals_the_reference_in_every_tensor() {
    let lowered = resnet_50();
    let program = &lowered.graph.compiled.program;
    let memory = run_functional(&lowered.graph.compiled, program.initial_memory()).unwrap();
    // 53 convolutions, 16 additions, two poolings and the classifier; the first pooling is part of a convolution.
    assert_eq!(mismatches(program, &memory), (vec![], 71));
    let classes: BTreeSet<i8> = lowered.reference.last_key_value().unwrap().1.int8().iter().copied().collect();
    assert!(classes.len() > 50, "results that differ");
}

#[test]
#[ignore = "24 million cycles: run it optimised"]
fn resnet_50_runs_clock_by_clock() {
    let lowered = resnet_50();
    let program = &lowered.graph.compiled.program;
    let run =
        run_cycles(&lowered.graph.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
    assert_eq!(mismatches(program, &run.memory), (vec![], 71));
}
