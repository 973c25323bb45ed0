//! Any sentence, time of the host, plans that are followed or refused, and sizes that no memory holds.

mod common;

use common::{Run, Workspace};
use serde_json::Value;

const TINY: &str = "crates/model/tests/tiny-bert";
const MINILM: &str = "programs/minilm/model.safetensors";
/// A product as in a feed-forward network, small.
const LIST: &str = "config = 'default16'\n[[matmul]]\ni = 64\nj = 256\nk = 128\nmagnitude = 5\nscale = [0.01]\n";

/// Other tiles than Gemmini's own rule chooses for [`LIST`].
fn plan(operation: &str) -> String {
    format!(
        "[operations.{operation}.schedule]\ndataflow = 'ws'\ntile = {{ i = 1, j = 2, k = 8 }}\n\
         order = ['i', 'j', 'k']\ndouble_buffer = true\nemission = 'unroller'\n"
    )
}

fn succeeds(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

#[test]
fn any_sentence_has_an_embedding() {
    let workspace = Workspace::new();
    for text in ["", "The sill, the lintel and the mullion.", "🤖 東京 Ünïcødé \u{7} ﷽"] {
        let line = ["model", "run", MINILM, "--functional", "--json", "--text", text].map(str::to_owned);
        let document = succeeds(workspace.run(&line, "")).json();
        assert_eq!((&document["match"], number(&document["tokens_left_out"])), (&Value::Bool(true), 0), "{text}");
        let embedding = document["embedding"].as_array().expect("an embedding");
        let square: f64 = embedding.iter().filter_map(Value::as_f64).map(|x| x * x).sum();
        assert!(embedding.len() == 384 && (square - 1.0).abs() < 1e-5, "{text}: length {square}");
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_with_a_note() {
    let workspace = Workspace::new();
    let text = "the cat and ".repeat(400);
    let run = format!("model run {TINY} --outlier-channels 0 --functional --text '{text}'");
    let document = succeeds(workspace.pollux(&format!("{run} --json"))).json();
    let (taken, left_out) = (number(&document["tokens"]), number(&document["tokens_left_out"]));
    assert!(taken > 2 && left_out > 1000, "{taken}, {left_out}");
    let note = succeeds(workspace.pollux(&run)).stderr;
    assert!(note.starts_with(&format!("note: the model takes {taken} tokens; the text's last 1 ")), "{note}");
}

#[test]
fn the_hosts_time_is_apart_in_text_json_and_html() {
    let workspace = Workspace::new();
    workspace.write("host.toml", "normalization = 'host'\n");
    let report = "report --shape minilm-l6 --layers 1 --tokens 5 --plan host.toml";
    let text = succeeds(workspace.pollux(&format!("{report} --every --html page.html"))).stdout;
    for line in ["host cycles", "scores_softmax (host)", "layer0.output_norm (host)", "\naccelerator ", "\nhost  "] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(text.contains(
        "in-order core, estimated from Rocket's parameters\ncycles of an instruction: integer 1, multiply 8,"
    ));
    let page = String::from_utf8(workspace.read("page.html")).expect("UTF-8");
    for part in ["<th>host cycles</th>", "<td>scores_softmax (host)</td>", "<td>accelerator</td>", "multiply 8"] {
        assert!(page.contains(part), "no `{part}` in the page");
    }

    let document = succeeds(workspace.pollux(&format!("{report} --json"))).json();
    let units = document["units"].as_array().expect("units");
    let [accelerator, host] = &units[..] else { panic!("{units:?}") };
    assert_eq!((&accelerator["name"], &host["name"]), (&"accelerator".into(), &"host".into()));
    assert_eq!(number(&accelerator["cycles"]) + number(&host["cycles"]), number(&document["total"]["cycles"]));
    assert_eq!(document["host"]["cycles"], host["cycles"]);
    assert_eq!((number(&document["host"]["operations"]), number(&document["host"]["parameters"]["divide"])), (3, 34));
    for operation in document["operations"].as_array().expect("operations") {
        let expected = if operation["host"] == true { operation["cycles"].clone() } else { 0.into() };
        assert_eq!(operation["host_cycles"], expected, "{operation}");
    }
}

#[test]
fn runs_of_models_show_the_hosts_part() {
    let workspace = Workspace::new();
    let run = format!("model run {TINY} --outlier-channels 0 --config default16 --text 'the cat'");
    let text = succeeds(workspace.pollux(&run)).stdout;
    assert!(
        text.contains("host cycles") && text.contains(" cycles: accelerator ") && text.contains("\nhost: "),
        "{text}"
    );
    let document = succeeds(workspace.pollux(&format!("{run} --json"))).json();
    let host = number(&document["units"]["host"]["cycles"]);
    assert_eq!(number(&document["cycles"]), number(&document["units"]["accelerator_cycles"]) + host);
    let layers = document["layers"].as_array().expect("layers");
    assert_eq!(layers.iter().map(|layer| number(&layer["host_cycles"])).sum::<u64>(), host);

    let generate = "model generate crates/model/tests/tiny-gpt2 --text 'the cat' --tokens 3 --config default16";
    let text = succeeds(workspace.pollux(generate)).stdout;
    assert_eq!(text.matches(" cycles: accelerator ").count(), 2, "{text}");

    let run = format!("model run {TINY} --outlier-channels 0 --text 'the cat'");
    let text = succeeds(workspace.pollux(&run)).stdout;
    assert!(!text.contains("host"), "the accelerator does it alone: {text}");
}

#[test]
fn a_program_that_needs_the_host_is_not_made_without_it() {
    let workspace = Workspace::new();
    let config = succeeds(workspace.pollux("config norm16")).stdout;
    assert!(config.contains("has_normalizations = true"), "{config}");
    workspace.write("plain.toml", config.replace("has_normalizations = true", "has_normalizations = false"));
    for line in ["demo", "lower encoder-layer -o layer.pbin"] {
        let run = workspace.pollux(&format!("{line} --config plain.toml"));
        let message = "operation `layer0.scores_softmax` is done by the host in configuration";
        assert!(run.code == 3 && run.stderr.contains(message), "{line}: {} {}", run.code, run.stderr);
    }
    assert!(!workspace.files().contains(&"layer.pbin".to_owned()));
}

#[test]
fn a_list_follows_the_plan() {
    let workspace = Workspace::new();
    workspace.write("list.toml", LIST);
    workspace.write("plan.toml", plan("matmul"));
    let total = |line: &str| {
        let document = succeeds(workspace.pollux(&format!("report --list list.toml --json{line}"))).json();
        (number(&document["total"]["bytes_in"]), number(&document["total"]["macs"]))
    };
    let ((own, macs), planned) = (total(""), total(" --plan plan.toml"));
    assert!(planned.0 > own && planned.1 == macs, "smaller tiles load more: {own}, {planned:?}");

    workspace.write("wrong.toml", plan("matmul7"));
    workspace.write("idle.toml", "[operations.matmul]\nnormalization = 'host'\n");
    workspace.write("model.toml", "normalization = 'host'\n");
    for (file, message) in [
        ("nothing.toml", "cannot read `nothing.toml`"),
        ("wrong.toml", "the plan names the operation `matmul7`, which the model does not have; it has matmul"),
        ("idle.toml", "operation `matmul`: the plan's `normalization` would be ignored"),
        ("model.toml", "a plan for a list gives schedules and tiles of operations only"),
    ] {
        let run = workspace.pollux(&format!("report --list list.toml --plan {file}"));
        assert!(run.code == 3 && run.stderr.contains(message), "{file}: {} {}", run.code, run.stderr);
    }
}

#[test]
fn options_of_a_report_that_have_no_effect_are_refused() {
    let workspace = Workspace::new();
    workspace.write("list.toml", LIST);
    for line in [
        "--list list.toml --tokens 8",
        "--list list.toml --layers 2",
        "--list list.toml --prune-heads 1",
        "--list list.toml --prune-ffn 1",
        "--list list.toml --prune-blocks 0.5",
        "--list list.toml --prune-weights 0.5",
        "--list list.toml --keep-tokens 0=0.5",
        "--list list.toml --image 32",
        "--list list.toml --text x",
        "--shape minilm-l6 --prune-heads 1",
        "--shape minilm-l6 --image 32",
        "--shape resnet50 --tokens 8",
        "--shape resnet50 --layers 1",
        "--model crates/model/tests/tiny-bert --text x --tokens 8",
        "--model crates/model/tests/tiny-bert --text x --random-input 1",
    ] {
        let run = workspace.pollux(&format!("report {line}"));
        let option = line.split(' ').rfind(|word| word.starts_with("--")).expect("an option");
        assert!(run.code == 2 && run.stderr.contains(option), "{line}: {} {}", run.code, run.stderr);
    }
}

#[test]
fn a_schedule_for_a_product_by_blocks_is_refused() {
    let workspace = Workspace::new();
    workspace.write("plan.toml", plan("query"));
    let run = workspace.pollux(&format!(
        "model run {TINY} --outlier-channels 0 --weight-planes 2 --functional --text 'the cat' --plan plan.toml"
    ));
    let message = "operation `layer0.query`: the plan gives it a schedule, but it is done block by block";
    assert!(run.code == 3 && run.stderr.contains(message), "{} {}", run.code, run.stderr);
}

#[test]
fn sizes_that_no_memory_holds_are_refused_with_what_they_would_need() {
    let workspace = Workspace::new();
    let list = |name: &str, text: &str| workspace.write(name, format!("config = 'default16'\n{text}\n"));
    list("matmul.toml", "[[matmul]]\ni = 16384\nj = 16384\nk = 16384\ndataflow = ['os']");
    list("conv.toml", "[[conv]]\nbatch = 16384\ninput = [16384, 16384, 16384]\nout_channels = 16384\nkernel = 3");
    list("padding.toml", "[[conv]]\ninput = [8, 8, 8]\nout_channels = 8\nkernel = 3\npadding = 1000000000000000000");
    for (line, message) in [
        ("lower matmul --m 1048576 --n 1048576 --k 1048576", "would need 8.0 TiB of memory, more than 4.0 GiB"),
        ("lower matmul --m 16384 --n 16384 --k 16384 --dataflow os", "would need"),
        ("lower list matmul.toml", "would need"),
        ("report --list conv.toml", "would need"),
        ("report --list padding.toml", "conv padding = 1000000000000000000: it must be at most 16384"),
        ("report --shape bert-large --layers 1000000", "of 1000000 layers with 128 tokens would need"),
        ("model generate --shape gpt2 --layers 1000 --prompt 4 --tokens 2", "gpt2 of 1000 layers with"),
    ] {
        let run = workspace.pollux(line);
        assert!(run.code == 3 && run.stderr.contains(message), "{line}: {} {}", run.code, run.stderr);
    }
}
