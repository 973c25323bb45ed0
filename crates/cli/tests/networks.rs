//! Convolutional networks on the command line, with the small networks of the model crate's tests.

mod common;

use common::{Workspace, root};

const RESNET: &str = "crates/model/tests/tiny-resnet --image 32";
const ONNX: &str = "crates/model/tests/onnx/convolutions.onnx";

#[test]
fn a_network_runs_clock_by_clock_and_every_tensor_equals_the_reference() {
    let run = Workspace::new().pollux(&format!("model run {ONNX} --random-input 3 --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    assert_eq!(report["match"], true);
    assert!(report["cosine"].as_f64().is_some_and(|cosine| cosine > 0.99), "{}", report["cosine"]);
    let layers = report["layers"].as_array().expect("layers");
    let cycles = |value: &serde_json::Value| value["cycles"].as_u64().expect("cycles");
    assert_eq!(layers.iter().map(cycles).sum::<u64>(), cycles(&report));
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([2, 5]));
}

#[test]
fn a_network_reads_its_input_from_a_file() {
    let workspace = Workspace::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 32, 32), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..3072u16).flat_map(|i| (f32::from(i % 17) / 8.0 - 1.0).to_le_bytes()));
    std::fs::write(workspace.path("image.npy"), bytes).expect("a file");
    let run = workspace.pollux(&format!("model run {RESNET} --input image.npy --functional"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("all 17 tensors equal the integer reference"), "{}", run.stdout);
    let run = workspace.pollux(&format!("model run {ONNX} --input image.npy"));
    assert_eq!(run.code, 3);
    assert!(
        run.stderr.contains("has shape [3, 32, 32], but the configuration implies [2, 18, 14, 3]"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_quantised_network_is_a_file_that_runs_alike() {
    let workspace = Workspace::new();
    let run =
        workspace.pollux(&format!("model quantize {RESNET} --channels-per-scale 4 -o network.safetensors --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let layers = run.json()["layers"].as_array().expect("layers").clone();
    assert!(layers.iter().all(|layer| layer["cosine"].as_f64().is_some_and(|cosine| cosine > 0.98)), "{layers:?}");
    let outputs = |command: &str| {
        let run = workspace.pollux(command);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.json()["outputs"][0]["values"].clone()
    };
    let file = outputs("model run network.safetensors --functional --json");
    assert_eq!(file, outputs(&format!("model run {RESNET} --channels-per-scale 4 --functional --json")));
    let run = workspace.pollux("model run network.safetensors --range mse");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("network.safetensors is quantised already"), "{}", run.stderr);
}

#[test]
fn a_lowered_network_is_a_program_with_its_expected_results() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("model lower {RESNET} --config small4 -o network.pbin --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = workspace.pollux("run network.pbin --expect --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &serde_json::Value::Bool(true)), "{}", run.stderr);
}

#[test]
fn a_report_counts_convolutions_as_products() {
    let run = Workspace::new().pollux("report --shape resnet50 --image 32 --limit 2000");
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stderr.contains("operation `conv1`"), "{}", run.stderr);
    let run = Workspace::new().pollux(&format!("report --model {RESNET} --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    let classes = report["classes"].as_array().expect("classes");
    let names: Vec<&str> = classes.iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["matmul", "data movement"]);
    assert!(classes[0]["macs"].as_u64().is_some_and(|macs| macs > 240_000), "{report}");
}

#[test]
fn what_a_network_cannot_have_is_explained() {
    let workspace = Workspace::new();
    let error = |command: &str| {
        let run = workspace.pollux(command);
        (run.code, run.stderr.replace(&format!("{}/", root().display()), ""))
    };
    let onnx = "crates/model/tests/onnx";
    let errors = [
        error(&format!("model run {onnx}/flat.onnx")),
        error(&format!("model run {onnx}/block.onnx --config default16 --require-accelerator")),
        error(&format!("model run {onnx}/bad-operator.onnx")),
        error(&format!("model run {onnx}/bad-asymmetric.onnx")),
        error(&format!("model run {ONNX} --config norm16 --require-accelerator")),
        error(&format!("model lower {onnx}/general.onnx --require-accelerator -o general.pbin")),
        error(&format!("model run {onnx}/vision.onnx --fix token=1")),
        error(&format!("model run {onnx}/vision.onnx --fix image=1 --fix image=2")),
        error(&format!("model run {ONNX} --prune-heads 1")),
        error("model run crates/model/tests/tiny-bert"),
    ];
    let lines: Vec<String> = errors.iter().map(|(code, message)| format!("{code} {}", message.trim_end())).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    3 error: crates/model/tests/onnx/flat.onnx: input `image`: axis 0 (`batch`) has no fixed size; give it one, for example --dimension batch=1
    3 error: left to the host, where only the accelerator is wanted: node `/MatMul_1.scores_softmax` (nonlinear): this build, or the plan, leaves normalizations to the host
    3 error: crates/model/tests/onnx/bad-operator.onnx: node `recurrent` (LSTM): this operator; the importer's documentation lists what is translated; split the model before this node
    3 error: crates/model/tests/onnx/bad-asymmetric.onnx: node `q` (QuantizeLinear): uint8 with a zero point of 128.0; the accelerator has int8 without zero points: quantise activations symmetrically to int8, or measure their ranges anew (--requantise)
    3 error: left to the host, where only the accelerator is wanted: node `/pool/MaxPool` (max_pool): this build has no pooling: it needs has_max_pool
    3 error: 16 nodes are left to the host, where only the accelerator is wanted:
      binary (2 nodes: `se`, `centred`): the accelerator has no such operation
      elementwise (3 nodes: `silu`, `gate`, `leaky`): the accelerator has no such operation
      local_response_norm (1 node: `lrn`): the accelerator has no such operation
      reduce (1 node: `spatial`): the accelerator has no such operation
      softmax (1 node: `y`): the accelerator has no such operation
      take (7 nodes: `near`, `near.1`, `up.cut`, `up.cut.1` and 3 more): it only moves elements
      transpose (1 node: `up.pixels`): it only moves elements
    3 error: crates/model/tests/onnx/vision.onnx: the network has no input `token`; it has `image`
    2 error: --fix gives `image` twice: give it once
    2 error: crates/model/tests/onnx/convolutions.onnx is a network in ONNX: --prune-heads has no effect on it, pruning is for Transformers with weights of their own: leave it out
    2 error: a Transformer needs a text: give --text
    ");
}

#[test]
fn networks_beyond_convolutions_run_with_the_hosts_part_marked() {
    let workspace = Workspace::new();
    let onnx = "crates/model/tests/onnx";
    for (name, options) in [
        ("general", ""),
        ("row", ""),
        ("vision", ""),
        ("block", ""),
        ("qlinear", ""),
        ("bad-asymmetric", "--requantise"),
    ] {
        let run = workspace.pollux(&format!("model run {onnx}/{name}.onnx {options} --json"));
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
        let report = run.json();
        assert_eq!(report["match"], true, "{name}");
        assert!(report["cosine"].as_f64().is_some_and(|cosine| cosine > 0.97), "{name}: {}", report["cosine"]);
        let hosts = report["layers"].as_array().expect("layers").iter().filter(|layer| layer["host"] == true).count();
        assert_eq!(report["host_share"].as_f64().is_some_and(|share| share > 0.0), hosts > 0, "{name}");
    }
    let run = workspace.pollux(&format!("model run {onnx}/general.onnx --functional"));
    assert!(run.stdout.contains("silu") && run.stdout.contains("elementwise (host)"), "{}", run.stdout);
    // The host's constants and formats are in the file, too.
    let run = workspace.pollux(&format!("model quantize {onnx}/vision.onnx -o vision.safetensors"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let outputs =
        |model: &str| workspace.pollux(&format!("model run {model} --functional --json")).json()["outputs"].clone();
    let (file, direct) = (outputs("vision.safetensors"), outputs(&format!("{onnx}/vision.onnx")));
    assert_eq!(file[0]["values"], direct[0]["values"]);
}

#[test]
fn a_list_of_operations_is_a_program_with_its_expected_results_and_has_a_report() {
    let workspace = Workspace::new();
    let run = workspace.pollux("lower list programs/parity/conv_with_pool.toml -o list.pbin --json");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = workspace.pollux("run list.pbin --expect --cycles --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &serde_json::Value::Bool(true)), "{}", run.stderr);
    let run = workspace.pollux("report --list programs/parity/global_average.toml --json");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    let operations = report["operations"].as_array().expect("operations");
    let names: Vec<&str> = operations.iter().filter_map(|o| o["name"].as_str()).collect();
    assert_eq!(names, ["global_average1.global_average", "global_average2.global_average"]);
    std::fs::write(
        workspace.path("wrong.toml"),
        "config = 'default16'\n[[conv]]\ninput = [4, 4, 1]\nout_channels = 1\nkernel = 0",
    )
    .expect("a file");
    let run = workspace.pollux("lower list wrong.toml");
    assert_eq!(
        (run.code, run.stderr.trim_end()),
        (3, "error: wrong.toml: list of operations: conv kernel = 0: it must be 1 to 16384")
    );
}
