//! Whole models on the command line, with the small BERT of the model crate's tests.

mod common;

use common::{Workspace, root};

const TINY: &str = "crates/model/tests/tiny-bert";

fn first_text() -> String {
    let vocabulary = std::fs::read_to_string(root().join(TINY).join("vocab.txt")).expect("a vocabulary");
    let words: Vec<&str> = vocabulary.lines().filter(|w| w.chars().all(char::is_alphabetic)).take(3).collect();
    words.join("_")
}

#[test]
fn a_model_runs_clock_by_clock_and_every_tensor_equals_the_reference() {
    let run = Workspace::new().pollux(&format!("model run {TINY} --text {} --outlier-channels 0 --json", first_text()));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    assert_eq!(report["match"], true);
    assert!(report["cosine"].as_f64().is_some_and(|cosine| cosine > 0.9), "{}", report["cosine"]);
    let layers = report["layers"].as_array().expect("layers");
    let cycles = |value: &serde_json::Value| value["cycles"].as_u64().expect("cycles");
    assert_eq!(layers.iter().map(cycles).sum::<u64>(), cycles(&report));
    assert_eq!(report["tensors"], 11 * layers.len());
}

#[test]
fn a_lowered_model_is_a_program_with_its_expected_results() {
    let workspace = Workspace::new();
    let text = first_text();
    let run = workspace.pollux(&format!("model lower {TINY} --text {text} --outlier-channels 0 -o model.pbin --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = workspace.pollux("run model.pbin --expect --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &serde_json::Value::Bool(true)), "{}", run.stderr);
}

#[test]
fn a_quantised_model_is_written_with_the_quality_of_each_layer() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("model quantize {TINY} --outlier-channels 0 -o model.safetensors --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let layers = run.json()["layers"].as_array().expect("layers").clone();
    assert!(layers.iter().all(|layer| layer["cosine"].as_f64().is_some_and(|cosine| cosine > 0.9)), "{layers:?}");
    pollux_model::encoder::QuantisedModel::load(workspace.path("model.safetensors")).expect("a whole model");
}

#[test]
fn a_report_has_classes_and_a_page() {
    let workspace = Workspace::new();
    let run = workspace.pollux("report --shape minilm-l6 --layers 1 --tokens 8 --html page.html --json");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    let names: Vec<&str> =
        report["classes"].as_array().expect("classes").iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["matmul", "nonlinear"]);
    assert!(report["total"]["utilisation"].as_f64().is_some_and(|u| u > 0.0 && u < 1.0));
}

#[test]
fn errors_name_what_is_wrong() {
    let workspace = Workspace::new();
    let run = workspace.pollux("model run no-such-model --text hello");
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("no-such-model"), "{}", run.stderr);
    let run = workspace.pollux("report --shape bert-huge");
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("no shape is called `bert-huge`: choose minilm-l6, bert-base"), "{}", run.stderr);
    let run = workspace.pollux(&format!("model run {TINY} --text a --keep-tokens half"));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("LAYER=FRACTION"), "{}", run.stderr);
}
