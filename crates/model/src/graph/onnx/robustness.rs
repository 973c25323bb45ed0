//! No file makes an import panic, or allocate more than in proportion to its size; what is wrong is named.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use prost::Message;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{ImportOptions, OnnxError};
use crate::graph::{Array, GraphModel, GraphOptions, IntegerGraph, evaluate};

fn dimension(size: i64) -> DimensionProto {
    DimensionProto { dim_value: size, dim_param: String::new() }
}

fn value(name: &str, dim: Vec<DimensionProto>) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim });
    let r#type = Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type: 1, shape }) });
    ValueInfoProto { name: name.into(), r#type }
}

fn tensor(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let (dims, name, float_data) = (dims.to_vec(), name.to_owned(), data.to_vec());
    TensorProto { dims, name, data_type: 1, float_data, ..TensorProto::default() }
}

fn ramp(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    tensor(name, dims, &(0..count).map(|i| (i * 7 % 13) as f32 / 8.0 - 0.7).collect::<Vec<_>>())
}

fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto { input: names(input), output: vec![output.into()], op_type: op_type.into(), ..NodeProto::default() }
}

fn ints(mut node: NodeProto, name: &str, ints: &[i64]) -> NodeProto {
    node.attribute.push(AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Default::default() });
    node
}

fn int(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
    node.attribute.push(AttributeProto { name: name.into(), i, r#type: 2, ..Default::default() });
    node
}

/// A convolution `c` of `x`, and what follows; `y` is the output.
fn network(nodes: Vec<NodeProto>) -> GraphProto {
    let conv = ints(node("Conv", &["x", "w", "b"], "c"), "pads", &[1; 4]);
    GraphProto {
        node: [vec![conv], nodes].concat(),
        name: "g".into(),
        initializer: vec![
            ramp("w", &[4, 3, 3, 3]),
            ramp("b", &[4]),
            ramp("s", &[1, 4, 1, 1]),
            tensor("low", &[], &[0.0]),
            tensor("six", &[], &[6.0]),
            ramp("v", &[256, 5]),
        ],
        input: vec![value("x", [1, 3, 8, 8].map(dimension).to_vec())],
        output: vec![value("y", Vec::new())],
    }
}

fn bytes(graph: GraphProto) -> Vec<u8> {
    let opset_import = vec![OperatorSetProto { domain: String::new(), version: 17 }];
    ModelProto { graph: Some(graph), opset_import }.encode_to_vec()
}

fn import(graph: GraphProto) -> Result<GraphModel, OnnxError> {
    GraphModel::from_onnx(&bytes(graph), &ImportOptions::default())
}

fn refusal(graph: GraphProto) -> String {
    import(graph).map_or_else(|error| error.to_string(), |model| format!("imported as\n{}", model.graph))
}

/// One network that has every operator of the kinds that become nodes.
fn everything() -> GraphProto {
    network(vec![
        node("Clip", &["c", "low", "six"], "r"),
        node("Mul", &["c", "s"], "m"),
        node("Add", &["m", "s"], "a"),
        node("Sum", &["r", "a", "c"], "u"),
        int(node("Concat", &["u", "r"], "k"), "axis", 1),
        ints(ints(node("MaxPool", &["k"], "p"), "kernel_shape", &[2, 2]), "strides", &[2, 2]),
        node("Max", &["p", "low"], "q"),
        int(node("Flatten", &["p"], "f0"), "axis", 1),
        ints(node("Slice", &["v"], "v2"), "starts", &[0]),
        node("MatMul", &["f", "v2"], "d"),
        node("Reshape", &["q", "shape"], "f"),
        int(node("Softmax", &["d"], "y"), "axis", -1),
    ])
}

fn everything_complete() -> GraphProto {
    let mut graph = everything();
    let shape = [1.0, 128.0];
    graph.initializer.push(TensorProto {
        dims: vec![2],
        name: "shape".into(),
        data_type: 7,
        int64_data: shape.map(|size: f64| size as i64).to_vec(),
        ..TensorProto::default()
    });
    graph.initializer.retain(|tensor| tensor.name != "v");
    graph.initializer.push(ramp("v", &[128, 5]));
    graph.node.retain(|node| !["Slice", "Flatten"].contains(&node.op_type.as_str()));
    graph.node.iter_mut().for_each(|node| node.input.iter_mut().filter(|i| *i == "v2").for_each(|i| *i = "v".into()));
    graph
}

/// Quantises a model that was imported and runs the integer reference, if it is small.
fn quantise(model: &GraphModel) {
    if model.graph.total_work().macs > 1 << 22 || model.graph.edges.iter().any(|edge| edge.elements() > 1 << 16) {
        return;
    }
    let array = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Array::new(shape, (0..count).map(|i| (i * 5 % 11) as f32 / 5.0 - 1.0).collect())
    };
    let inputs = model.graph.inputs().map(|edge| model.graph.edge(edge));
    let inputs: BTreeMap<&str, Array> = inputs.map(|edge| (edge.name.as_str(), array(&edge.shape))).collect();
    if let Ok(graph) = IntegerGraph::build(model, std::slice::from_ref(&inputs), &GraphOptions::default()) {
        let tensors = graph.quantise_inputs(&inputs).and_then(|inputs| graph.execute(&inputs)).unwrap();
        assert!(graph.graph.outputs.iter().all(|edge| tensors.contains_key(edge)));
    }
}

#[test]
fn nodes_in_any_order_become_the_graph_that_the_outputs_need() {
    let model = import(everything_complete()).unwrap();
    model.graph.check().unwrap();
    quantise(&model);
    insta::assert_snapshot!(model.graph, @r"
    g
    node     operator              inputs            output   MACs  format
    c        conv2d 3x3            1x8x8x3           1x8x8x4  6912  float32
    a        conv2d 1x1, 4 groups  1x8x8x4           1x8x8x4   256  float32
    r        clipped_relu          1x8x8x4           1x8x8x4     -  float32
    u.part1  add                   1x8x8x4, 1x8x8x4  1x8x8x4     -  float32
    u        add                   1x8x8x4, 1x8x8x4  1x8x8x4     -  float32
    k        concat                1x8x8x4, 1x8x8x4  1x8x8x8     -  float32
    p        max_pool 2x2 /2       1x8x8x8           1x4x4x8     -  float32
    q        relu                  1x4x4x8           1x4x4x8     -  float32
    d.flat   reshape               1x4x4x8           1x128       -  float32
    d        matmul                1x128             1x5       640  float32
    y        softmax               1x5               1x5         -  float32
    11 nodes, 7808 MACs, 760 weights
    ");
}

#[test]
fn what_is_wrong_with_the_structure_is_named() {
    let relu = || node("Relu", &["c"], "y");
    let mut twice = network(vec![node("Neg", &["c"], "y"), relu()]);
    twice.node[1].name = "first".into();
    let mut outputs = network(vec![relu()]);
    outputs.output.push(value("y", Vec::new()));
    let mut none = network(vec![relu()]);
    none.output.clear();
    let mut constant = network(vec![relu()]);
    constant.output[0].name = "w".into();
    let mut text = network(vec![relu()]);
    text.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = 8;
    let mut integers = network(vec![relu()]);
    integers.initializer[0] = TensorProto { int64_data: vec![1; 108], data_type: 7, ..tensor("w", &[4, 3, 3, 3], &[]) };
    let mut short = network(vec![relu()]);
    short.initializer[0].float_data.truncate(100);
    let mut raw = network(vec![relu()]);
    raw.initializer[0] = TensorProto { raw_data: vec![0u8; 431].into(), ..tensor("w", &[4, 3, 3, 3], &[]) };
    let mut second = network(vec![node("MaxPool", &["c"], "p"), node("Relu", &["i"], "y")]);
    second.node[1].output.push("i".into());
    let messages = [
        refusal(network(vec![node("Add", &["c", "z"], "y"), node("Relu", &["y"], "z")])),
        refusal(network(vec![node("Relu", &["y"], "y")])),
        refusal(twice),
        refusal(outputs),
        refusal(none),
        refusal(constant),
        refusal(network(vec![node("Add", &["c", "nothing"], "y")])),
        refusal(text),
        refusal(integers),
        refusal(short),
        refusal(raw),
        refusal(second),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    the nodes `y`, `z` depend on each other in a circle; a network must have no cycle: export it again
    the nodes `y` depend on each other in a circle; a network must have no cycle: export it again
    the value `y` is defined twice: by node `first` (Neg) and by node `y` (Relu); give each value a name of its own
    the value `y` is defined twice: by the list of outputs and by the list of outputs; give each value a name of its own
    not a valid ONNX model: its graph has no outputs; it may be truncated, export it again
    tensor `w`: it is an output, but no node computes it
    node `y` (Add): its operand `nothing` is missing from the file
    input `x`: element type 8 is no real number; give it one of these
    tensor `w`: it is the weights of Conv node `c`, but has integers; give it floats
    tensor `w`: shape [4, 3, 3, 3] needs 108 elements, found 100
    tensor `w`: shape [4, 3, 3, 3] needs 432 bytes of data, found 431
    node `p` (MaxPool): its further result `i`; use its first result only
    ");
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    let conv = |name: &str, values: &[i64]| {
        let mut graph = network(vec![node("Relu", &["c"], "y")]);
        graph.node[0].attribute.retain(|attribute| attribute.name != name);
        graph.node[0] = ints(graph.node[0].clone(), name, values);
        refusal(graph)
    };
    let messages = [
        conv("kernel_shape", &[5, 5]),
        conv("strides", &[-1, 1]),
        conv("strides", &[1 << 40, 1]),
        conv("dilations", &[0, 1]),
        conv("pads", &[1, 1]),
        conv("pads", &[i64::MAX; 4]),
        refusal(network(vec![int(node("Concat", &["c", "c"], "y"), "axis", 4)])),
        refusal(network(vec![int(node("Concat", &["c", "x"], "y"), "axis", 2)])),
        refusal(network(vec![ints(node("MaxPool", &["c"], "y"), "kernel_shape", &[i64::MAX, 1])])),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    node `c` (Conv): kernel_shape [5, 5], but its weights `w` have the shape [4, 3, 3, 3]; the last sizes of the weights are the kernel: export the model again
    node `c` (Conv): strides [-1, 1]; give two sizes, at most 65536
    node `c` (Conv): strides [1099511627776, 1]; give two sizes, at most 65536
    node `c` (Conv): kernel 3, stride 1, dilation 0: each must be at least 1; check the model
    node `c` (Conv): pads [1, 1]; give four sizes of at least 0, at most 65536
    node `c` (Conv): pads [9223372036854775807, 9223372036854775807, 9223372036854775807, 9223372036854775807]; give four sizes of at least 0, at most 65536
    node `y` (Concat): axis 4 of a value with 4 dimensions; export the model again
    node `y` (Concat): operands [1, 4, 8, 8] and [1, 3, 8, 8] along axis 2; all sizes but that axis's must agree
    node `y` (MaxPool): a kernel of 9223372036854775807; use at most 65536
    ");
}

#[test]
fn numbers_that_are_none_are_named_with_their_tensor() {
    let with = |name: &str, at: usize, bad: f32| {
        let mut graph = everything_complete();
        let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap();
        tensor.float_data[at] = bad;
        refusal(graph)
    };
    let mut constant = network(vec![node("Constant", &[], "k"), node("Mul", &["c", "k"], "y")]);
    let value = tensor("", &[1], &[f32::NAN]);
    constant.node[1].attribute.push(AttributeProto { name: "value".into(), t: Some(value), ..Default::default() });
    let messages = [
        with("w", 40, f32::NAN),
        with("b", 2, f32::INFINITY),
        with("s", 1, f32::NEG_INFINITY),
        with("v", 7, f32::NAN),
        with("six", 0, f32::NAN),
        refusal(constant),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    tensor `w` has the value NaN at element [1, 1, 1, 1]; all of a network's constants must be finite numbers: train or export it again
    tensor `b` has the value inf at element [2]; all of a network's constants must be finite numbers: train or export it again
    tensor `s` has the value -inf at element [0, 1, 0, 0]; all of a network's constants must be finite numbers: train or export it again
    tensor `v` has the value NaN at element [1, 2]; all of a network's constants must be finite numbers: train or export it again
    tensor `six` has the value NaN at element []; all of a network's constants must be finite numbers: train or export it again
    tensor `k` has the value NaN at element [0]; all of a network's constants must be finite numbers: train or export it again
    ");
}

#[test]
fn all_nodes_that_cannot_be_translated_are_named_at_once_and_before_the_weights_are_read() {
    let mut graph = network(vec![
        node("LSTM", &["c"], "a"),
        node("LSTM", &["a"], "a1"),
        node("HardSwish", &["c"], "b1"),
        node("Add", &["a1", "b1"], "d"),
        int(node("BatchNormalization", &["d", "b", "b", "b", "b"], "e"), "training_mode", 1),
        node("QLinearConv", &["e"], "y"),
        node("NonZero", &["c"], "unused"),
    ]);
    graph.initializer[0].float_data[0] = f32::NAN;
    insta::assert_snapshot!(refusal(graph), @r"
    4 nodes are not supported:
      BatchNormalization (1 node: `e`): training_mode = 1; export the model for inference
      LSTM (2 nodes: `a`, `a1`): this operator; the importer's documentation lists what is translated; split the model before this node
      QLinearConv (1 node: `y`): this operator; the importer's documentation lists what is translated; split the model before this node
    ");
    let uses = network(vec![node("Mul", &["c", "c"], "m"), node("Sigmoid", &["m"], "y")]);
    insta::assert_snapshot!(refusal(uses), @r"
    imported as
    g
    node  operator     inputs   output   MACs  format
    c     conv2d 3x3   1x8x8x3  1x8x8x4  6912  float32
    y     elementwise  1x8x8x4  1x8x8x4     -  float32
    2 nodes, 6912 MACs, 112 weights
    ");
    let context = network(vec![
        node("Clip", &["c", "six"], "k"),
        ints(node("Transpose", &["c"], "t"), "perm", &[3, 2, 1, 0]),
        node("Add", &["k", "t"], "y"),
    ]);
    insta::assert_snapshot!(refusal(context), @"node `y` (Add): operands [[1, 4, 8, 8], [8, 8, 4, 1]] do not stretch to one shape; check the model");
}

#[test]
fn sizes_are_given_by_name_by_place_and_by_axis() {
    let with = |dims: &[(i64, &str)], given: &[(&str, usize)]| {
        let mut graph = network(vec![node("Relu", &["c"], "y")]);
        let dim = |&(dim_value, name): &(i64, &str)| DimensionProto { dim_value, dim_param: name.into() };
        graph.input[0] = value("x", dims.iter().map(dim).collect());
        let dimensions = given.iter().map(|&(name, size)| (name.to_owned(), size)).collect();
        let model = GraphModel::from_onnx(&bytes(graph), &ImportOptions { dimensions, ..ImportOptions::default() });
        model.map_or_else(|error| error.to_string(), |model| format!("{:?}", model.graph.edges[0].shape))
    };
    let unnamed = [(-1, ""), (3, ""), (8, ""), (8, "")];
    let named = [(0, "batch"), (3, ""), (0, "size"), (0, "size")];
    let messages = [
        with(&unnamed, &[]),
        with(&unnamed, &[("x.0", 2)]),
        with(&unnamed, &[("0", 2)]),
        with(&unnamed, &[("0", 2), ("x.0", 3)]),
        with(&unnamed, &[("x.1", 3)]),
        with(&named, &[]),
        with(&named, &[("batch", 2)]),
        with(&named, &[("batch", 2), ("size", 6)]),
        with(&named, &[("batch", 2), ("size", 6), ("x.3", 5)]),
        with(&named, &[("batch", 2), ("x.2", 6), ("3", 5)]),
        with(&named, &[("Batch", 2)]),
        with(&[(1, ""), (3, ""), (8, ""), (8, "")], &[("batch", 1)]),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    input `x`: axis 0 has no fixed size; give it one, for example --dimension x.0=1
    [2, 8, 8, 3]
    [2, 8, 8, 3]
    input `x`: axis 0 is 3 by `x.0` and 2 by `0`; give one of them
    the network has no open dimension `x.1`; it has `x.0`
    input `x`: axis 0 (`batch`) has no fixed size; input `x`: axis 2 (`size`) has no fixed size; input `x`: axis 3 (`size`) has no fixed size; give them, for example --dimension batch=1 --dimension size=1
    input `x`: axis 2 (`size`) has no fixed size; input `x`: axis 3 (`size`) has no fixed size; give it one, for example --dimension size=1
    [2, 6, 6, 3]
    input `x`: axis 3 is 6 by `size` and 5 by `x.3`; give one of them
    [2, 6, 5, 3]
    the network has no open dimension `Batch`; it has `batch`, `size`
    the network has no open dimension `batch`; all sizes of its inputs are fixed
    ");
}

#[test]
fn tensors_beyond_the_memory_are_refused_with_what_they_would_need() {
    let sized = |sizes: [i64; 4]| {
        let mut graph = network(vec![node("Relu", &["c"], "y")]);
        graph.input[0] = value("x", sizes.map(dimension).to_vec());
        refusal(graph)
    };
    let messages = [
        sized([1, 3, 100_000, 100_000]),
        sized([1, 3, 1 << 20, 1 << 20]),
        sized([1 << 20, 3, 1 << 20, 1 << 20]),
        sized([i64::MAX, 3, 8, 8]),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    the network's tensors need 409.8 GiB in float32 (the largest, `y` of shape [1, 100000, 100000, 4], 149.0 GiB); at most 4.0 GiB are allowed: choose smaller dimensions, or fewer images at once
    the network's tensors need 44.0 TiB in float32 (the largest, `y` of shape [1, 1048576, 1048576, 4], 16.0 TiB); at most 4.0 GiB are allowed: choose smaller dimensions, or fewer images at once
    edge `x`: shape [1048576, 1048576, 1048576, 3] needs 12.0 EiB in float32; at most 4.0 GiB are allowed: choose smaller dimensions
    edge `x`: shape [9223372036854775807, 8, 8, 3] needs 6144.0 EiB in float32; at most 4.0 GiB are allowed: choose smaller dimensions
    ");
}

#[test]
fn a_normalisation_by_channel_is_that_of_the_second_axis() {
    let graph = GraphProto {
        node: vec![node("BatchNormalization", &["x", "gamma", "zero", "zero", "one"], "y")],
        name: "g".into(),
        initializer: vec![
            tensor("gamma", &[3], &[1.0, 2.0, 3.0]),
            tensor("zero", &[3], &[0.0; 3]),
            tensor("one", &[3], &[1.0; 3]),
        ],
        input: vec![value("x", [1, 3, 2].map(dimension).to_vec())],
        output: vec![value("y", Vec::new())],
    };
    let model = import(graph).expect("a network");
    let x = Array::new(&[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let values = evaluate(&model, &BTreeMap::from([("x", x)])).expect("values");
    let y = values[&model.graph.outputs[0]].data.iter().map(|v| v.round() as i32).collect::<Vec<_>>();
    assert_eq!(y, [1, 2, 6, 8, 15, 18]);
}

#[test]
fn constants_that_a_few_bytes_ask_for_have_a_budget() {
    let shape = |sizes: &[i64]| TensorProto {
        dims: vec![sizes.len() as i64],
        name: "shape".into(),
        data_type: 7,
        int64_data: sizes.to_vec(),
        ..TensorProto::default()
    };
    let mut one = network(vec![node("ConstantOfShape", &["shape"], "k"), node("Add", &["c", "k"], "y")]);
    one.initializer.push(shape(&[1 << 20, 1 << 20]));
    let mut many = network(vec![node("Add", &["c", "k0"], "y0")]);
    many.initializer.push(shape(&[1 << 27]));
    for i in 0..4 {
        many.node.push(node("ConstantOfShape", &["shape"], &format!("k{i}")));
        many.node.push(node("Add", &[&format!("y{i}"), &format!("k{}", i + 1)], &format!("y{}", i + 1)));
    }
    many.node.push(node("ConstantOfShape", &["shape"], "k4"));
    many.output[0].name = "y4".into();
    let mut stretched = network(vec![node("Expand", &["c", "shape"], "y")]);
    stretched.initializer.push(shape(&[1 << 30, 1, 1, 1]));
    let refusals = [refusal(one), refusal(many), refusal(stretched)].join("\n");
    insta::assert_snapshot!(refusals, @r"
    node `k` (ConstantOfShape): a constant of shape [1048576, 1048576]; export with a smaller shape
    the constants that its nodes compute have more than 536870912 elements beyond 8 times those of the file; export the model with constant folding
    node `y` (Expand): [1, 4, 8, 8] stretched by [1073741824, 1, 1, 1]; export the model again
    ");
}

#[test]
fn long_chains_are_no_deep_recursion() {
    let chain = |op_type: &str, operands: &dyn Fn(&str) -> Vec<String>| {
        let mut graph = network(Vec::new());
        let mut last = "c".to_owned();
        for i in 0..20_000 {
            let output = format!("n{i}");
            let operands = operands(&last);
            graph.node.push(node(op_type, &operands.iter().map(String::as_str).collect::<Vec<_>>(), &output));
            last = output;
        }
        graph.output[0].name = last;
        import(graph).map(|model| model.graph.nodes.len()).map_err(|error| error.to_string())
    };
    // Pairs of negations are nothing; of other functions some are one operation.
    assert_eq!(chain("Neg", &|x| vec![x.into()]), Ok(1));
    assert_eq!(chain("Tanh", &|x| vec![x.into()]), Ok(1 + 20_000_usize.div_ceil(64)));
    assert!(chain("Mul", &|x| vec![x.into(), x.into()]).is_ok_and(|nodes| nodes < 20_000 / 3));
    assert_eq!(chain("Relu", &|x| vec![x.into()]), Ok(20_001));
    assert_eq!(chain("Mul", &|x| vec![x.into(), "s".into()]), Ok(1));
}

/// A change of a valid file.
#[derive(Clone, Debug)]
enum Mutation {
    Kind(usize, usize),
    Operand(usize, usize, usize),
    Result(usize, usize),
    Ints(usize, Vec<i64>),
    Int(usize, i64),
    Dims(usize, Vec<i64>),
    Data(usize, usize, f32),
    Type(usize, i32),
    Input(usize, i64),
    Remove(usize),
    Repeat(usize),
}

/// Numbers at which arithmetic goes wrong.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -4i64..12,
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, i64::MAX - 1, 1 << 16, 1 << 20, 1 << 31, 1 << 32, -(1 << 33)]),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let some = || 0usize..64;
    prop_oneof![
        (some(), some()).prop_map(|(a, b)| Mutation::Kind(a, b)),
        (some(), 0usize..4, some()).prop_map(|(a, b, c)| Mutation::Operand(a, b, c)),
        (some(), some()).prop_map(|(a, b)| Mutation::Result(a, b)),
        (some(), prop::collection::vec(number(), 0..5)).prop_map(|(a, v)| Mutation::Ints(a, v)),
        (some(), number()).prop_map(|(a, v)| Mutation::Int(a, v)),
        (some(), prop::collection::vec(number(), 0..5)).prop_map(|(a, v)| Mutation::Dims(a, v)),
        (some(), some(), any::<f32>()).prop_map(|(a, b, v)| Mutation::Data(a, b, v)),
        (some(), 0i32..20).prop_map(|(a, v)| Mutation::Type(a, v)),
        (0usize..4, number()).prop_map(|(a, v)| Mutation::Input(a, v)),
        some().prop_map(Mutation::Remove),
        some().prop_map(Mutation::Repeat),
    ]
}

const KINDS: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "Relu",
    "Clip",
    "Concat",
    "Split",
    "Slice",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Gather",
    "GatherElements",
    "MatMul",
    "Gemm",
    "Conv",
    "BatchNormalization",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Softmax",
    "LayerNormalization",
    "Where",
    "Cast",
    "Shape",
    "ConstantOfShape",
    "Expand",
    "Range",
    "QuantizeLinear",
    "DequantizeLinear",
    "Sum",
    "Identity",
    "Sqrt",
    "Erf",
    "IsNaN",
    "Equal",
    "Constant",
    "Gelu",
    "Sigmoid",
    "HardSwish",
    "LeakyRelu",
    "Pad",
    "Resize",
    "Upsample",
    "ConvTranspose",
    "LRN",
    "ReduceSum",
    "ReduceMax",
    "ArgMax",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "GlobalMaxPool",
    "And",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "GatherND",
    "CumSum",
    "Trilu",
    "PRelu",
    "Mod",
    "Round",
];
const ATTRIBUTES: &[&str] = &[
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "transB",
    "keepdims",
    "starts",
    "ends",
    "split",
    "to",
    "allowzero",
    "ceil_mode",
    "count_include_pad",
    "blocksize",
    "size",
    "scales",
    "output_padding",
    "exclusive",
];

fn mutate(graph: &mut GraphProto, mutation: Mutation) {
    let names: Vec<String> = ["x", "w", "b", "s", "low", "six", "v", "shape", ""]
        .into_iter()
        .map(str::to_owned)
        .chain(graph.node.iter().flat_map(|node| node.output.clone()))
        .collect();
    let (nodes, tensors) = (graph.node.len(), graph.initializer.len());
    let attribute = |at: usize, i: i64, ints: Vec<i64>| AttributeProto {
        name: ATTRIBUTES[at % ATTRIBUTES.len()].into(),
        i,
        ints,
        ..AttributeProto::default()
    };
    match mutation {
        _ if nodes == 0 => {}
        Mutation::Kind(at, kind) => graph.node[at % nodes].op_type = KINDS[kind % KINDS.len()].into(),
        Mutation::Operand(at, index, name) => {
            let operands = &mut graph.node[at % nodes].input;
            operands.resize(operands.len().max(index + 1), String::new());
            operands[index] = names[name % names.len()].clone();
        }
        Mutation::Result(at, name) => graph.node[at % nodes].output = vec![names[name % names.len()].clone()],
        Mutation::Ints(at, ints) => {
            let node = &mut graph.node[at % nodes];
            node.attribute.insert(0, attribute(at, 0, ints));
        }
        Mutation::Int(at, i) => {
            let node = &mut graph.node[at % nodes];
            node.attribute.insert(0, attribute(at, i, Vec::new()));
        }
        Mutation::Dims(at, dims) => graph.initializer[at % tensors].dims = dims,
        Mutation::Data(at, element, v) => {
            let data = &mut graph.initializer[at % tensors].float_data;
            let count = data.len().max(1);
            data.resize(count, 0.0);
            data[element % count] = v;
        }
        Mutation::Type(at, kind) => graph.initializer[at % tensors].data_type = kind,
        Mutation::Input(axis, size) => {
            let tensor = graph.input[0].r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
            let shape = tensor.and_then(|t| t.shape.as_mut());
            shape.into_iter().for_each(|shape| shape.dim[axis] = dimension(size));
        }
        Mutation::Remove(at) => drop(graph.node.remove(at % nodes)),
        Mutation::Repeat(at) => {
            let mut node = graph.node[at % nodes].clone();
            node.output = vec!["repeated".into()];
            graph.node.push(node);
        }
    }
}

/// The same cases in every run.
fn same_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases(3000))]

    #[test]
    fn mutated_networks_never_panic(mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut graph = everything_complete();
        mutations.into_iter().for_each(|mutation| mutate(&mut graph, mutation));
        if let Ok(model) = import(graph) {
            model.graph.check().unwrap();
            quantise(&model);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..2000, value: u8) {
        let _ = GraphModel::from_onnx(&bytes, &ImportOptions::default());
        let mut changed = super::robustness::bytes(everything_complete());
        let at = at % changed.len();
        changed[at] = value;
        if let Ok(model) = GraphModel::from_onnx(&changed, &ImportOptions::default()) {
            quantise(&model);
        }
        changed.truncate(at);
        let _ = GraphModel::from_onnx(&changed, &ImportOptions::default());
    }
}
