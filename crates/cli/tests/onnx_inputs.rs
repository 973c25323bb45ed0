//! Networks that `pollux model run` reads from ONNX files: what runs equals the integer reference, and what cannot run is one
//! message with its place and a remedy.
//!
//! `tests/onnx` has small networks, each with one convolution and the operator or fault of its name.

mod common;

use common::{Run, Workspace, root};
use serde_json::Value;

fn run(name: &str, options: &str) -> Run {
    Workspace::new().pollux(&format!("model run crates/cli/tests/onnx/{name}.onnx --random-input 1 {options}"))
}

/// Names and kinds of the operations of a network that runs, all of whose tensors equal the integer reference.
fn operations(name: &str, options: &str) -> Vec<String> {
    let run = run(name, &format!("{options} --json"));
    assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
    let report = run.json();
    assert_eq!(report["match"], true, "{name}");
    assert!(report["tensors"].as_u64().is_some_and(|tensors| tensors > 0), "{name}");
    let cosine = report["cosine"].as_f64();
    assert!(cosine.is_some_and(|cosine| cosine > 0.999), "{name}: {cosine:?}");
    let layers = report["layers"].as_array().expect("layers").iter();
    let text = |layer: &Value, key: &str| layer[key].as_str().unwrap_or_default().to_owned();
    layers.map(|layer| format!("{} {}", text(layer, "name"), text(layer, "operation"))).collect()
}

#[test]
fn operators_run_and_every_tensor_equals_the_integer_reference() {
    let cases = ["add", "sum", "concat", "relu6", "scale", "softmax_end"];
    let lines: Vec<String> = cases.iter().map(|name| format!("{name}: {}", operations(name, "").join(", "))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    add: c conv2d, r relu, y add
    sum: c conv2d, r relu, y add
    concat: c conv2d, r relu, y concat
    relu6: c conv2d
    scale: y conv2d
    softmax_end: c conv2d, p global_average_pool, y softmax
    ");
}

#[test]
fn a_clipped_relu_never_gives_more_than_its_limit() {
    // Inputs a hundred times larger, so that the limit is reached.
    let workspace = Workspace::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 8, 8), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..192u16).flat_map(|i| (f32::from(i % 23) * 10.0 - 110.0).to_le_bytes()));
    workspace.write("image.npy", bytes);
    let run = workspace.pollux("model run crates/cli/tests/onnx/relu6.onnx --input image.npy --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &Value::Bool(true)), "{}", run.stderr);
    let report = run.json();
    let values = report["outputs"][0]["values"].as_array().expect("values").iter().filter_map(Value::as_f64);
    let values: Vec<f64> = values.collect();
    let largest = values.iter().fold(f64::MIN, |max, v| max.max(*v));
    assert!((5.99..=6.0001).contains(&largest), "{largest}");
    assert!(values.iter().all(|v| *v >= 0.0));
}

#[test]
fn a_size_that_the_file_leaves_open_is_given_by_place() {
    for option in ["--dimension x.0=1", "--dimension 0=1"] {
        assert_eq!(operations("minus_one", option), ["c conv2d"]);
    }
    let report = run("minus_one", "--dimension x.0=2 --json").json();
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([2, 8, 8, 4]));
}

#[test]
fn a_network_with_a_step_of_the_host_is_no_program() {
    let run = Workspace::new().pollux("model lower crates/cli/tests/onnx/softmax_end.onnx --random-input 1 -o m.pbin");
    assert_eq!(run.code, 3, "{}", run.stdout);
    assert!(run.stderr.contains("operation `y` is done by the host"), "{}", run.stderr);
}

#[test]
fn what_cannot_run_is_one_message_with_its_place_and_a_remedy() {
    let workspace = Workspace::new();
    let whole = std::fs::read(root().join("crates/cli/tests/onnx/add.onnx")).expect("a network");
    workspace.write("truncated.onnx", &whole[..whole.len() / 2]);
    workspace.write("empty.onnx", "");
    let cases = [
        "crates/cli/tests/onnx/alloc_abort.onnx",
        "crates/cli/tests/onnx/minus_one.onnx",
        "crates/cli/tests/onnx/nan_weights.onnx",
        "crates/cli/tests/onnx/minus_one.onnx --dimension batch=1",
        "crates/cli/tests/onnx/minus_one.onnx --dimension x.0=1 --dimension 0=2",
        "crates/cli/tests/onnx/minus_one.onnx --dimension x.0=1 --dimension x.0=2",
        "crates/cli/tests/onnx/minus_one.onnx --dimension x.0=0",
        "crates/cli/tests/onnx/add.onnx --dimension 0=1",
        "crates/cli/tests/onnx/add.onnx --range percentile:0.999",
        "crates/cli/tests/onnx/add.onnx --range percentile=0.999",
        "truncated.onnx",
        "empty.onnx",
    ];
    let message = |line: &&str| {
        let run = workspace.pollux(&format!("model run {line} --random-input 1"));
        format!("{} {}", run.code, run.stderr.lines().next().unwrap_or_default())
    };
    let messages: Vec<String> = cases.iter().map(message).collect();
    insta::assert_snapshot!(messages.join("\n"), @r"
    3 error: crates/cli/tests/onnx/alloc_abort.onnx: the network's tensors need 260.8 GiB in float32 (the largest, `y` of shape [1, 100000, 100000, 4], 149.0 GiB); at most 4.0 GiB are allowed: choose smaller dimensions, or fewer images at once
    3 error: crates/cli/tests/onnx/minus_one.onnx: input `x`: axis 0 has no fixed size; give it one, for example --dimension x.0=1
    3 error: crates/cli/tests/onnx/nan_weights.onnx: tensor `w` has the value NaN at element [0, 0, 0, 0]; all of a network's constants must be finite numbers: train or export it again
    3 error: crates/cli/tests/onnx/minus_one.onnx: the network has no open dimension `batch`; it has `x.0`
    3 error: crates/cli/tests/onnx/minus_one.onnx: input `x`: axis 0 is 1 by `x.0` and 2 by `0`; give one of them
    2 error: --dimension gives `x.0` twice: give it once
    2 error: invalid value 'x.0=0' for '--dimension <NAME=SIZE>': `x.0=0` is not NAME=SIZE with a size of at least 1, for example batch=1
    3 error: crates/cli/tests/onnx/add.onnx: the network has no open dimension `0`; all sizes of its inputs are fixed
    2 error: invalid value 'percentile:0.999' for '--range <METHOD>': choose min-max, mse or percentile=P with a percentage P, for example percentile=99.9
    2 error: invalid value 'percentile=0.999' for '--range <METHOD>': a percentile is a percentage from 50 to 100, for example percentile=99.9
    3 error: truncated.onnx: not a valid ONNX model: failed to decode Protobuf message: ModelProto.graph: buffer underflow; it may be truncated, export it again
    3 error: empty.onnx: not a valid ONNX model: it has no graph; it may be truncated, export it again
    ");
}

#[test]
fn networks_beyond_the_memory_are_refused_with_what_they_would_need() {
    let onnx = "crates/cli/tests/onnx/minus_one.onnx --dimension x.0";
    let resnet = "crates/model/tests/tiny-resnet --image";
    let lines = [(onnx, "=100000000"), (onnx, "=99999999999999999"), (resnet, " 100000"), (resnet, " 1000000")];
    for (line, size) in lines {
        let run = Workspace::new().pollux(&format!("model run {line}{size} --random-input 1"));
        assert_eq!(run.code, 3, "{line}{size}: {}", run.stderr);
        let named = ["in float32", "at most 4.0 GiB are allowed"].iter().all(|part| run.stderr.contains(part));
        assert!(named || run.stderr.contains("too large"), "{line}{size}: {}", run.stderr);
    }
}
