//! Convolutional networks in INT8: accuracy against float32, number formats, files, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pollux_model::calibrate::RangeMethod;
use pollux_model::graph::expression::{BinaryFunction, Expression};
use pollux_model::graph::families::{ResNetConfig, resnet};
use pollux_model::graph::operator::{Conv2d, Window};
use pollux_model::graph::{Array, Element, GraphOptions, IntegerGraph, IntegerOperation, Operator, Values, evaluate};
use pollux_model::onnx::ImportOptions;
use pollux_model::{GraphBuilder, GraphModel, ModelError};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Pseudo-random values in [-1, 1).
fn random(shape: &[usize], seed: u64) -> Array {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    Array::new(shape, (0..shape.iter().product()).map(|_| next()).collect())
}

fn sample(model: &GraphModel, seed: u64) -> BTreeMap<&str, Array> {
    model.graph.inputs().map(|id| model.graph.edge(id)).map(|e| (e.name.as_str(), random(&e.shape, seed))).collect()
}

fn build(model: &GraphModel, options: &GraphOptions) -> Result<IntegerGraph, ModelError> {
    IntegerGraph::build(model, &[sample(model, 1), sample(model, 2)], options)
}

/// SQNR in decibels of the last tensor on an image that calibration has not seen, and its cosine.
fn accuracy(model: &GraphModel, graph: &IntegerGraph) -> (f64, f64) {
    let inputs = sample(model, 3);
    let tensors = graph.execute(&graph.quantise_inputs(&inputs).unwrap()).unwrap();
    let quality = graph.quality(&tensors, &evaluate(model, &inputs).unwrap());
    let last = quality.last().unwrap();
    (last.quality.sqnr_db, last.quality.cosine)
}

fn tiny_resnet() -> GraphModel {
    let directory = tests().join("tiny-resnet");
    let config = ResNetConfig::from_directory(&directory, 2, 32).unwrap();
    assert_eq!((config.stem, config.classes), (6, 5));
    assert_eq!((config.widths.clone(), config.blocks.clone()), (vec![2, 3], vec![2, 1]));
    GraphModel::load_resnet(directory, &config).unwrap()
}

fn onnx(name: &str) -> GraphModel {
    let path = tests().join("onnx").join(format!("{name}.onnx"));
    // Only this one leaves a size open.
    let dimensions = (name == "flat").then(|| ("batch".to_owned(), 1)).into_iter().collect();
    GraphModel::load_onnx(path, &ImportOptions { dimensions, ..ImportOptions::default() }).unwrap()
}

#[test]
fn int8_networks_are_close_to_float32() {
    let synthetic = ResNetConfig {
        images: 1,
        image: 48,
        stem: 8,
        widths: vec![8, 12],
        blocks: vec![2, 2],
        classes: 10,
        stride_in_3x3: true,
    };
    for (model, least) in [
        (tiny_resnet(), 0.995),
        (GraphModel::synthetic(resnet(&synthetic).unwrap(), 5).unwrap(), 0.99),
        (onnx("convolutions"), 0.99),
        (onnx("flat"), 0.99),
    ] {
        let graph = build(&model, &GraphOptions::default()).unwrap();
        let (sqnr, cosine) = accuracy(&model, &graph);
        assert!(cosine > least, "{}: cosine {cosine}, SQNR {sqnr} dB", model.graph.name);
    }
}

#[test]
fn relu_is_part_of_the_operation_before_it_and_every_tensor_has_a_format() {
    let model = tiny_resnet();
    let graph = build(&model, &GraphOptions::default()).unwrap();
    let operations: Vec<_> = graph.steps.iter().map(|step| (step.name.as_str(), step.operation.name())).collect();
    assert_eq!(operations[..3], [("conv1", "conv2d"), ("maxpool", "max_pool"), ("layer1.0.conv1", "conv2d")]);
    assert!(graph.steps.iter().all(|step| step.operation != IntegerOperation::Relu));
    let added = graph.steps.iter().find(|step| step.name == "layer1.0.add").unwrap();
    assert_eq!(graph.graph.edge(added.output).name, "layer1.0.relu3");
    let format = |name: &str| graph.graph.edge(graph.graph.find_edge(name).unwrap()).quantisation.clone().unwrap();
    assert_eq!(format("maxpool").encoding, format("relu").encoding);
    assert_eq!([format("conv1"), format("conv1.bias")].map(|f| f.element), [Element::Int32; 2]);
    assert!(graph.graph.edges.iter().all(|edge| edge.quantisation.is_some()));
}

/// One output channel is a hundred times smaller than the other.
#[test]
fn scales_by_channel_keep_small_channels() {
    let mut b = GraphBuilder::new("uneven");
    let x = b.input("x", &[1, 8, 8, 4]).unwrap();
    let w = b.constant("w", &[3, 3, 4, 2]).unwrap();
    let conv = Operator::Conv2d(Conv2d { window: Window::square(3, 1, 1), groups: 1, bias: false });
    let y = b.node("conv", conv, &[x, w]).unwrap();
    b.output(y);
    let mut model = GraphModel { graph: b.finish(), constants: BTreeMap::new() };
    let weights = random(&[72], 9).data.into_iter().enumerate();
    model.constants.insert(w, weights.map(|(i, v)| if i % 2 == 0 { v } else { v / 100.0 }).collect());
    let wrong = |channels_per_scale| {
        let graph = build(&model, &GraphOptions { channels_per_scale, ..GraphOptions::default() }).unwrap();
        let weights = graph.steps[0].weights().unwrap();
        let scales = &graph.graph.edge(w).quantisation.as_ref().unwrap().encoding.scale;
        let real = &model.constants[&w];
        let error = |i: usize| (f32::from(weights.values.data[i]) * scales[i % scales.len()] - real[i]).abs();
        (1..72).step_by(2).map(error).fold(0.0, f32::max)
    };
    assert!(wrong(1) < wrong(0) / 50.0, "{} {}", wrong(1), wrong(0));
    assert_eq!(
        build(&model, &GraphOptions { channels_per_scale: 1, ..GraphOptions::default() }).unwrap().steps[0]
            .weights()
            .unwrap()
            .groups
            .len(),
        2
    );
}

#[test]
fn all_ways_to_choose_ranges_give_a_network() {
    let model = tiny_resnet();
    for range in [RangeMethod::MinMax, RangeMethod::Percentile(0.9999), RangeMethod::Mse] {
        let graph = build(&model, &GraphOptions { range, ..GraphOptions::default() }).unwrap();
        assert!(accuracy(&model, &graph).1 > 0.99, "{range:?}");
    }
}

/// `max_pool(x) = 7`, its ReLU, the averages and the sum, by hand.
#[test]
fn the_reference_computes_what_the_accelerator_is_described_to_do() {
    let mut b = GraphBuilder::new("poolings");
    let x = b.input("x", &[1, 2, 2, 1]).unwrap();
    let m = b.node("max", Operator::MaxPool(Window::square(3, 2, 1)), &[x]).unwrap();
    let a = b
        .node("average", Operator::AveragePool { window: Window::square(2, 2, 0), count_padding: true }, &[x])
        .unwrap();
    let s = b.node("sum", Operator::Add, &[m, a]).unwrap();
    let r = b.node("positive", Operator::Relu, &[m]).unwrap();
    [s, r].into_iter().for_each(|edge| b.output(edge));
    let model = GraphModel { graph: b.finish(), constants: BTreeMap::new() };
    let samples = [BTreeMap::from([("x", Array::new(&[1, 2, 2, 1], vec![-127.0, 0.0, 0.0, 127.0]))])];
    let graph = IntegerGraph::build(&model, &samples, &GraphOptions::default()).unwrap();
    let inputs = BTreeMap::from([("x", Array::new(&[1, 2, 2, 1], vec![-9.0, -7.0, -8.0, -10.0]))]);
    let tensors = graph.execute(&graph.quantise_inputs(&inputs).unwrap()).unwrap();
    // The mean is -8.5, which rounds to the even -8; nothing outside wins with a 0.
    assert_eq!(
        [&tensors[&m], &tensors[&a], &tensors[&s], &tensors[&r]],
        [-7, -8, -15, 0].map(|value| Values::Int8(vec![value])).each_ref()
    );
}

#[test]
fn a_given_number_format_is_kept() {
    let model = onnx("qdq");
    let given: Vec<_> = model.graph.inputs().map(|e| model.graph.edge(e).quantisation.clone()).collect();
    let graph = build(&model, &GraphOptions::default()).unwrap();
    let kept: Vec<_> = graph.graph.inputs().map(|e| graph.graph.edge(e).quantisation.clone()).collect();
    assert_eq!(given, kept);
    assert!(given.iter().all(Option::is_some));
}

#[test]
fn a_file_gives_the_same_graph_and_damage_is_explained() {
    let graph = build(&tiny_resnet(), &GraphOptions { channels_per_scale: 4, ..GraphOptions::default() }).unwrap();
    let bytes = graph.to_bytes().unwrap();
    assert_eq!(IntegerGraph::from_bytes(&bytes, "x").unwrap(), graph);
    let message = |bytes: &[u8]| IntegerGraph::from_bytes(bytes, "x").unwrap_err().to_string();
    assert!(message(&bytes[..bytes.len() / 2]).contains("may be truncated"), "{}", message(&bytes[..bytes.len() / 2]));
    let wrong = |change: &dyn Fn(&mut IntegerGraph)| {
        let mut graph = graph.clone();
        change(&mut graph);
        message(&graph.to_bytes().unwrap())
    };
    let messages = [
        wrong(&|graph| graph.steps.swap(0, 1)),
        wrong(&|graph| drop(graph.steps.pop())),
        wrong(&|graph| graph.steps[1].operation = IntegerOperation::Reshape),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    quantised model x: step `maxpool`: it reads a tensor that no step before it writes
    quantised model x: no step writes the output `fc`
    quantised model x: step `maxpool`: [2, 16, 16, 6] and [2, 8, 8, 6] have different numbers of elements
    ");
}

#[test]
fn what_the_accelerator_does_not_have_is_the_hosts_with_its_reason() {
    let steps = |model: &GraphModel| -> Vec<String> {
        let graph = build(model, &GraphOptions::default()).unwrap();
        assert!(accuracy(model, &graph).1 > 0.99, "{}", model.graph.name);
        assert_eq!(IntegerGraph::from_bytes(&graph.to_bytes().unwrap(), "x").unwrap(), graph);
        let format = |edge| if graph.is_int8(edge) { "int8" } else { "float32" };
        let step = |step: &pollux_model::graph::Step| {
            let who = step.operation.host_reason().map_or("accelerator".to_owned(), |reason| format!("host, {reason}"));
            let inputs: Vec<_> = step.inputs.iter().map(|&edge| format(edge)).collect();
            format!("{} {}: {} -> {}: {who}", step.name, step.operation.name(), inputs.join(" "), format(step.output))
        };
        graph.steps.iter().map(step).collect()
    };
    let mut b = GraphBuilder::new("average");
    let x = b.input("x", &[1, 4, 4, 2]).unwrap();
    let average = Operator::AveragePool { window: Window::square(3, 1, 1), count_padding: false };
    let pool = b.node("pool", average, &[x]).unwrap();
    let order = vec![0, 3, 1, 2];
    let turned = b.node("turn", Operator::Transpose { order }, &[pool]).unwrap();
    let relu = b.node("relu", Operator::Relu, &[x]).unwrap();
    let moved = b.node("cut", Operator::Take { axis: 1, indices: vec![3, 0] }, &[relu]).unwrap();
    let wide = Operator::Pad { before: vec![0, 1, 0, 0], after: vec![0; 4], value: 0.0 };
    let wide = b.node("wide", wide, &[moved]).unwrap();
    let last = b.node("max", Operator::MaxPool(Window::square(2, 1, 0)), &[wide]).unwrap();
    [turned, last].into_iter().for_each(|edge| b.output(edge));
    let average = GraphModel { graph: b.finish(), constants: BTreeMap::new() };
    let mut b = GraphBuilder::new("products");
    let (x, y) = (b.input("x", &[2, 4]).unwrap(), b.input("y", &[4, 3]).unwrap());
    let product = b.node("xy", Operator::MatMul { transpose_b: false, bias: false }, &[x, y]).unwrap();
    let soft = b.node("soft", Operator::Softmax, &[product]).unwrap();
    let line = Operator::Binary { function: BinaryFunction::Mul };
    let scaled = b.node("scaled", line, &[soft, product]).unwrap();
    let turned = b.node("back", Operator::MatMul { transpose_b: true, bias: false }, &[scaled, y]).unwrap();
    b.output(turned);
    let products = GraphModel { graph: b.finish(), constants: BTreeMap::new() };
    let mut b = GraphBuilder::new("shifted");
    let (x, y) = (b.input("x", &[2, 4]).unwrap(), b.constant("y", &[2, 4]).unwrap());
    let shift = b.node("shift", Operator::Add, &[x, y]).unwrap();
    let tiny = b.node("tiny", Operator::Elementwise { expression: tiny() }, &[x]).unwrap();
    let sum = b.node("sum", Operator::Add, &[shift, tiny]).unwrap();
    b.output(sum);
    let shifted = GraphModel { graph: b.finish(), constants: BTreeMap::from([(y, vec![1.0; 8])]) };
    let none = IntegerGraph::build(&tiny_resnet(), &[], &GraphOptions::default()).unwrap_err().to_string();
    let lines = [steps(&average), steps(&products), steps(&shifted), vec![none]].concat();
    insta::assert_snapshot!(lines.join("\n"), @r"
    pool average_pool: int8 -> float32: host, windows at the border have divisors of their own, the read-out has one
    relu relu: int8 -> int8: accelerator
    turn transpose: float32 -> float32: host, it only moves elements
    cut take: int8 -> int8: host, it only moves elements
    wide pad: int8 -> int8: host, it only moves elements
    max max_pool: int8 -> int8: accelerator
    xy matmul: int8 int8 -> int8: accelerator
    soft softmax: int8 -> float32: host, the accelerator has no such operation
    scaled binary: float32 int8 -> int8: host, the accelerator has no such operation
    back matmul: int8 int8 -> int8: accelerator
    shift add: float32 -> float32: host, an operand is constant
    tiny elementwise: float32 -> float32: host, the accelerator has no such operation
    sum add: float32 float32 -> float32: host, one operand is less than a unit of the other
    calibration needs at least one sample: a sentence with at least one token, or an input of the graph
    ");
}

/// A thousandth of the element, as a function that has no other meaning.
fn tiny() -> Expression {
    let number = |value| Box::new(Expression::Number(value));
    Expression::Binary(BinaryFunction::Mul, Box::new(Expression::X), number(1e-3))
}
