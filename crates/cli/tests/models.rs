//! Whole models on the command line, with the small BERT and GPT-2 of the model crate's tests.

mod common;

use common::{Workspace, root};
use pollux_model::bert::BertModel;
use pollux_model::container::Origin;
use pollux_model::encoder::QuantisedModel;
use pollux_model::quantise::QuantiseOptions;
use pollux_model::{AttentionMask, LayerFile, Tensor};

const TINY: &str = "crates/model/tests/tiny-bert";
const GPT2: &str = "crates/model/tests/tiny-gpt2";
/// Words of the small GPT-2.
const CALIBRATION: &str = "the cat and the dog sat in the rain\n";
const PROMPT: &str = "'the cat and the dog'";

/// A folder with the small GPT-2 as a quantised file.
fn quantised_gpt2() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("words.txt", CALIBRATION);
    let run =
        workspace.pollux(&format!("model quantize {GPT2} --calibration words.txt --text {PROMPT} -o gpt2.st --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let layers = run.json()["layers"].as_array().expect("layers").clone();
    assert!(layers.iter().all(|layer| layer["cosine"].as_f64().is_some_and(|cosine| cosine > 0.99)), "{layers:?}");
    workspace
}

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
fn texts_are_embedded_in_int8_and_in_float32() {
    let workspace = Workspace::new();
    workspace.write("texts.txt", format!("{}\n\n{0} {0}\n", first_text()));
    workspace.write("none.txt", "\n");
    let embed = |options: &str| {
        let run = workspace.pollux(&format!("model embed {TINY} texts.txt --outlier-channels 0 {options} --json"));
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.json()
    };
    let plain = embed("");
    assert_eq!(plain["texts"].as_array().map(Vec::len), Some(2));
    assert!(plain["cosine"]["least"].as_f64().is_some_and(|cosine| cosine > 0.9), "{}", plain["cosine"]);
    let cut = embed("--range percentile=60");
    assert_ne!(plain["texts"][0]["int8"], cut["texts"][0]["int8"]);
    assert_eq!(plain["texts"][0]["float32"], cut["texts"][0]["float32"]);
    for technique in ["--prune-heads 1", "--prune-weights 0.5", "--keep-tokens 0=0.5"] {
        let changed = embed(technique);
        assert_ne!(plain["texts"][0]["int8"], changed["texts"][0]["int8"], "{technique}");
        assert_eq!(plain["texts"][0]["float32"], changed["texts"][0]["float32"], "{technique}");
    }
    assert_eq!(plain["texts"], embed("--keep-tokens 0=1")["texts"]);
    let refused = [
        (format!("model embed {TINY} none.txt"), 3, "it has no texts"),
        (format!("model embed {TINY} texts.txt --outlier-channels 0 --keep-tokens 99=0.5"), 3, "after layer 99"),
        (
            "model embed crates/model/tests/tiny-gpt2 texts.txt".into(),
            2,
            "embeddings are those of models of the BERT family",
        ),
        (
            "model embed crates/model/tests/tiny-resnet texts.txt".into(),
            2,
            "embeddings are those of models of the BERT family",
        ),
    ];
    for (line, code, message) in refused {
        let run = workspace.pollux(&line);
        assert_eq!(run.code, code, "{line}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(message), "{line}: {}", run.stderr);
    }
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
    QuantisedModel::load(workspace.path("model.safetensors")).expect("a whole model");
}

#[test]
fn a_layer_with_weights_of_two_planes_is_exact_in_the_demo() {
    let float = BertModel::load(root().join(TINY)).expect("a model");
    let tokens = float.tokenize(&first_text()).expect("tokens");
    let options = QuantiseOptions { weight_planes: 2, ..QuantiseOptions::default() };
    let QuantisedModel { model, layers } =
        QuantisedModel::build(float, std::slice::from_ref(&tokens), &options).expect("a quantised model");
    let layer = layers[0].clone();
    assert!(layer.linears().iter().any(|(_, linear)| !linear.repeats.is_empty()));
    let float_input = model.embed_tokens(&tokens).expect("an input");
    let float_output = model.forward_layer(0, &float_input, AttentionMask::Full).expect("a layer");
    let file = LayerFile {
        origin: Origin { model: "tiny".into(), layer: 0, license: "unknown".into(), text: first_text(), tokens },
        input: layer.encoding(Tensor::Input).quantise(&float_input),
        layer,
        float_input,
        float_output: float_output.get(Tensor::Output).clone(),
    };
    let workspace = Workspace::new();
    workspace.write("layer.safetensors", file.to_bytes().expect("a file"));
    let run = workspace.pollux("demo --layer layer.safetensors --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &serde_json::Value::Bool(true)), "{}{}", run.stdout, run.stderr);
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

#[test]
fn a_quantised_encoder_file_runs_without_and_with_its_reference() {
    let workspace = Workspace::new();
    let text = first_text();
    let run = workspace.pollux(&format!("model quantize {TINY} --outlier-channels 0 -o bert.st"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let directory = workspace.pollux(&format!("model run {TINY} --text {text} --outlier-channels 0 --json")).json();
    let file = workspace.pollux(&format!("model run bert.st --text {text} --json"));
    let compared = workspace.pollux(&format!("model run bert.st --reference {TINY} --text {text} --json"));
    for (run, cosine) in [(file, &serde_json::Value::Null), (compared, &directory["cosine"])] {
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let report = run.json();
        assert_eq!((&report["match"], &report["cosine"]), (&serde_json::Value::Bool(true), cosine));
        assert_eq!((&report["embedding"], &report["cycles"]), (&directory["embedding"], &directory["cycles"]));
    }
    let lowered = workspace.pollux(&format!("model lower bert.st --text {text} -o bert.pbin"));
    assert_eq!(lowered.code, 0, "{}", lowered.stderr);
    assert_eq!(workspace.pollux("run bert.pbin --expect").code, 0);
}

#[test]
fn a_gpt2_runs_clock_by_clock_from_its_directory_and_from_its_file() {
    let workspace = quantised_gpt2();
    let directory = workspace.pollux(&format!("model run {GPT2} --calibration words.txt --text {PROMPT} --json"));
    assert_eq!(directory.code, 0, "{}{}", directory.stdout, directory.stderr);
    let directory = directory.json();
    assert_eq!((&directory["match"], &directory["tensors"]), (&true.into(), &27.into()));
    assert!(directory["cosine"].as_f64().is_some_and(|cosine| cosine > 0.99), "{}", directory["cosine"]);
    assert!(directory["layers"].as_array().is_some_and(|layers| layers.iter().all(|l| l["cycles"].as_u64() > Some(0))));
    let file = workspace.pollux(&format!("model run gpt2.st --text {PROMPT} --reference {GPT2} --json")).json();
    for key in ["match", "cycles", "next", "operations"] {
        assert_eq!(file[key], directory[key], "{key}");
    }
    // The reference's channels are in another order, and so are its float32 sums.
    let [file, directory] = [file, directory].map(|run| run["cosine"].as_f64().expect("a cosine"));
    assert!((file - directory).abs() < 1e-5, "{file} {directory}");
}

#[test]
fn a_report_of_a_gpt2_file_has_its_blocks_and_its_head() {
    let workspace = quantised_gpt2();
    let run = workspace.pollux(&format!("report --model gpt2.st --text {PROMPT} --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    assert_eq!(report["layers"].as_array().map(Vec::len), Some(2));
    assert!(report["parts"].as_array().is_some_and(|parts| parts.iter().any(|part| part["name"] == "head")));
}

#[test]
fn a_lowered_gpt2_prompt_is_a_program_with_its_expected_results() {
    let workspace = quantised_gpt2();
    let run = workspace.pollux(&format!("model lower gpt2.st --text {PROMPT} -o prompt.pbin"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = workspace.pollux("run prompt.pbin --expect --cycles --json");
    assert_eq!((run.code, &run.json()["match"]), (0, &serde_json::Value::Bool(true)), "{}", run.stderr);
}

#[test]
fn generated_tokens_are_those_of_the_reference_with_every_technique() {
    let workspace = quantised_gpt2();
    let generate = |more: &str| {
        let run = workspace.pollux(&format!("model generate gpt2.st --text {PROMPT} --tokens 6 --json {more}"));
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.json()
    };
    let plain = generate(&format!("--reference {GPT2}"));
    assert_eq!((&plain["match"], plain["greedy"]["tokens"].as_array().map(Vec::len)), (&true.into(), Some(6)));
    assert!(plain["text"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(plain["float"]["text"].is_string() && plain["cosine"].as_f64() > Some(0.99), "{plain}");
    let cycles = |part: &str| plain["greedy"][part].as_u64().expect("cycles");
    assert_eq!(plain["cycles"].as_u64(), Some(cycles("prefill_cycles") + cycles("decode_cycles")));
    assert_eq!(plain["layers"].as_array().map(Vec::len), Some(2));
    let functional = generate("--functional");
    assert_eq!((&functional["text"], &functional["cycles"]), (&plain["text"], &serde_json::Value::Null));
    assert_eq!(generate("--little 1")["agreement"], 1.0);
    assert_eq!(generate("--early-exit 1.1")["agreement"], 1.0);
    let shape =
        workspace.pollux("model generate --shape minilm-l6 --layers 1 --vocabulary 40 --prompt 2 --tokens 2 --json");
    assert_eq!((shape.code, &shape.json()["match"]), (0, &true.into()), "{}", shape.stderr);
}

#[test]
fn cycles_of_generated_tokens_are_the_same_without_values() {
    let workspace = Workspace::new();
    let shape = "model generate --shape minilm-l6 --layers 2 --vocabulary 40 --prompt 2 --tokens 4";
    let [computed, timed, simulated] = ["", "--no-values", "--no-values --no-replay"].map(|more| {
        let run = workspace.pollux(&format!("{shape} {more} --json"));
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.json()
    });
    for other in [&timed, &simulated] {
        for figure in ["cycles", "layers", "host"] {
            assert_eq!(other[figure], computed[figure], "{figure}");
        }
        assert_eq!((&other["match"], &other["greedy"]["tokens"]), (&serde_json::Value::Null, &serde_json::json!([])));
        assert_eq!(other["assumes_no_zero_divisor"], true);
    }
    let text = workspace.pollux(&format!("{shape} --no-values")).stdout;
    assert!(text.contains("3 further tokens:") && text.contains("nothing was computed"), "{text}");
}

#[test]
fn errors_about_decoders_and_files_say_what_to_do() {
    let workspace = quantised_gpt2();
    let wrong = |line: String| {
        let run = workspace.pollux(&line);
        assert_ne!(run.code, 0, "{line}");
        run.stderr
    };
    for (line, message) in [
        (format!("model generate gpt2.st --text {PROMPT} --tokens 40"), "give a shorter text or --tokens 28"),
        (format!("model generate {TINY} --text a --outlier-channels 0"), "is an encoder, which generates nothing"),
        (format!("model run gpt2.st --text {PROMPT} --prune-heads 1"), "a decoder has early exit and little models"),
        (format!("model run gpt2.st --text {PROMPT} --calibration words.txt"), "is quantised already"),
        (format!("model run {GPT2} --text {PROMPT} --reference {GPT2}"), "a model directory is its own reference"),
        (format!("model run gpt2.st --text {PROMPT} --reference {TINY}"), "the reference is a BERT model"),
        (format!("model quantize gpt2.st --text {PROMPT}"), "load the model's directory to compare with them"),
        ("model run words.txt --text a".to_owned(), "words.txt"),
        ("model generate gpt2.st --tokens 2".to_owned(), "--text"),
        ("model generate --shape gpt3".to_owned(), "no shape is called `gpt3`"),
        (format!("model generate gpt2.st --text {PROMPT} --little 3"), "layer 3"),
    ] {
        let stderr = wrong(line.clone());
        assert!(stderr.split_whitespace().collect::<Vec<_>>().join(" ").contains(message), "{line}: {stderr}");
    }
}
