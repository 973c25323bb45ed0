//! Small ONNX networks of every family on both models: every tensor equals the integer reference, and what is left to the host is
//! named.

use std::path::Path;

use pollux_compiler::Plan;
use pollux_compiler::execute::CycleSetup;
use pollux_compiler::graph::pipeline::{GraphPair, random_inputs};
use pollux_isa::GemminiConfig;
use pollux_model::GraphModel;
use pollux_model::graph::GraphOptions;
use pollux_model::onnx::ImportOptions;

fn network(name: &str) -> GraphModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/onnx").join(format!("{name}.onnx"));
    GraphModel::load_onnx(path, &ImportOptions::default()).unwrap()
}

/// The host's operations of a network that runs on both models; the cosine of its result with float32 is at least `least`.
fn host(name: &str, config: &GemminiConfig, least: f64) -> String {
    let model = network(name);
    let inputs = random_inputs(&model.graph, 1);
    let pair = GraphPair::quantise(model, std::slice::from_ref(&inputs), &GraphOptions::default()).unwrap();
    let plan = Plan::default();
    let lowered = pair.lower(&inputs, config.clone(), &plan).unwrap();
    let host = lowered.graph.host.clone();
    assert_eq!(lowered.graph.require_accelerator().is_ok(), host.is_empty());
    let setup = CycleSetup::default();
    for setup in [None, Some(&setup)] {
        let run = pair.run(&inputs, config.clone(), &plan, setup, &mut |_| {}).unwrap();
        assert!(run.mismatches.is_empty() && run.tensors > 0, "{name}: {:?}", run.mismatches);
        let cosine = run.cosine().unwrap();
        assert!(cosine > least, "{name}: {cosine}");
        assert_eq!(run.host_share().is_some_and(|share| share > 0.0), setup.is_some() && !host.is_empty(), "{name}");
    }
    let lines = host.into_iter().map(|node| format!("{name}: {} {}: {}", node.operator, node.node, node.reason));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_network_of_many_operators_runs_and_names_what_the_host_does() {
    insta::assert_snapshot!(host("general", &GemminiConfig::default16(), 0.99), @r"
    general: elementwise silu: the accelerator has no such operation
    general: elementwise gate: the accelerator has no such operation
    general: binary se: the accelerator has no such operation
    general: take near: it only moves elements
    general: local_response_norm lrn: the accelerator has no such operation
    general: take near.1: it only moves elements
    general: transpose up.pixels: it only moves elements
    general: take up.cut: it only moves elements
    general: take up.cut.1: it only moves elements
    general: take padded: it only moves elements
    general: take padded.1: it only moves elements
    general: take part: it only moves elements
    general: reduce spatial: the accelerator has no such operation
    general: binary centred: the accelerator has no such operation
    general: elementwise leaky: the accelerator has no such operation
    general: softmax y: the accelerator has no such operation
    ");
    insta::assert_snapshot!(host("row", &GemminiConfig::default16(), 0.99), @"row: transpose c.ordered: it only moves elements");
}

#[test]
fn a_vision_transformer_has_its_attention_and_norms_on_the_accelerator_if_the_build_can() {
    insta::assert_snapshot!(host("vision", &GemminiConfig::norm16(), 0.98), @r"
    vision: concat x0: an operand is constant
    vision: add x1: an operand is constant
    vision: take token: it only moves elements
    ");
    insta::assert_snapshot!(host("vision", &GemminiConfig::default16(), 0.98), @r"
    vision: concat x0: an operand is constant
    vision: add x1: an operand is constant
    vision: take token: it only moves elements
    vision: nonlinear b0.c0.scores_softmax: this build, or the plan, leaves normalizations to the host
    vision: nonlinear b1.c0.scores_softmax: this build, or the plan, leaves normalizations to the host
    ");
}

#[test]
fn networks_that_are_quantised_keep_their_integers() {
    insta::assert_snapshot!(host("qlinear", &GemminiConfig::default16(), 0.999), @r"");
    insta::assert_snapshot!(host("dynamic", &GemminiConfig::default16(), 0.999), @r"
    dynamic: elementwise r: the accelerator has no such operation
    dynamic: binary y: the accelerator has no such operation
    ");
    // The file's own weights and biases, and its scales in the read-out.
    let model = network("qlinear");
    let inputs = random_inputs(&model.graph, 1);
    let pair = GraphPair::quantise(model, std::slice::from_ref(&inputs), &GraphOptions::default()).unwrap();
    let weights = pair.quantised.steps[0].weights().unwrap();
    let (scale, expected) = (weights.groups[0].scale, (1.0f32 / 127.0) * 0.004 / 0.02);
    assert!((scale / expected - 1.0).abs() < 1e-6, "{scale} {expected}");
    assert!(weights.bias.iter().any(|bias| bias.abs() > 1000) && weights.bias.iter().all(|bias| bias.abs() <= 3000));
}
