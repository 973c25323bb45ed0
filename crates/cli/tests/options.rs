//! Options that would have no effect are refused, with the option and the remedy in the message.

mod common;

use common::{Workspace, root};

const LIST: &str = "report --list programs/parity/global_average.toml";
const SHAPE: &str = "report --shape minilm-l6 --layers 1";
const TRANSFORMER: &str = "crates/model/tests/tiny-bert";
const RESNET: &str = "crates/model/tests/tiny-resnet";
const ONNX: &str = "crates/model/tests/onnx/convolutions.onnx";

/// Asserts that each option is refused as wrong usage, in a message that names it.
fn refused(workspace: &Workspace, command: &str, options: &[&str]) {
    for option in options {
        let line = format!("{command} {option}");
        let run = workspace.pollux(&line);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line}: {}", run.stderr);
        let name = option.split(' ').next().unwrap_or_default();
        assert!(run.stderr.contains(name), "{line}: {}", run.stderr);
    }
}

/// Options of Transformers, and those of networks, with values.
const PRUNING: [&str; 5] =
    ["--prune-heads 1", "--prune-ffn 1", "--prune-blocks 0.5", "--prune-weights 0.5", "--keep-tokens 0=0.5"];
const NETWORK: [&str; 7] = [
    "--input in.npy",
    "--random-input 3",
    "--calibration-input in.npy",
    "--channels-per-scale 2",
    "--read-out int32",
    "--image 32",
    "--dimension batch=1",
];
const QUANTISATION: [&str; 3] = ["--calibration words.txt", "--outlier-channels 0", "--weight-planes 2"];

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("in.npy", "");
    workspace.write("words.txt", "the cat\n");
    workspace.write("p.pasm", "config small4\nbuffer A: i8[2, 2]\n");
    workspace
}

#[test]
fn options_of_cycles_need_cycles() {
    let options =
        ["--memory bandwidth", "--interval 2", "--page-walk 20", "--limit 9", "--trace t.csv", "--commands c.csv"];
    let workspace = workspace();
    refused(&workspace, "run p.pasm", &options);
    refused(&workspace, "run p.pasm", &["--report text", "--no-values"]);
    refused(&workspace, "run p.pasm --cycles --no-values", &["--expect", "--dump A"]);
    refused(&workspace, "demo", &options);
    let functional = ["--memory dram", "--interval 2", "--limit 9"];
    refused(&workspace, &format!("model run {TRANSFORMER} --text a --functional"), &functional);
    refused(&workspace, "model generate --functional", &functional);
    refused(&workspace, "model generate --no-values", &["--functional", "--early-exit 0.5", "--little 1"]);
    assert_eq!(workspace.files(), ["in.npy", "p.pasm", "words.txt"]);
}

#[test]
fn options_of_replay_are_refused_where_nothing_is_replayed() {
    let options = ["--no-replay", "--check-replay 0.5", "--replay-table-size 9", "--replay-tables tables"];
    let workspace = workspace();
    for obstacle in ["", "--cycles", "--cycles --expect"] {
        refused(&workspace, &format!("run p.pasm {obstacle}"), &options);
    }
    for obstacle in ["--report html", "--trace t.csv", "--commands c.csv", "--page-walk 5", "--memory dram"] {
        refused(&workspace, &format!("run p.pasm --cycles --no-values {obstacle}"), &options);
    }
    refused(&workspace, &format!("{LIST} --memory dram"), &options);
    refused(&workspace, "model generate --memory dram", &options);
    refused(&workspace, "model generate --functional", &options);
    refused(&workspace, &format!("{LIST} --no-replay"), &options[1..]);
    refused(&workspace, LIST, &["--check-replay 1.5", "--check-replay NaN", "--replay-table-size 0"]);
    let run = workspace.pollux("run p.pasm --cycles --no-values --memory dram --no-replay --check-replay 1");
    assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
    let run = workspace.pollux(&format!("{LIST} --check-replay 1.5"));
    assert!(run.stderr.contains("it must be at least 0 and at most 1"), "{}", run.stderr);
    // The list's operations do not normalize.
    refused(&workspace, LIST, &["--no-values"]);
    assert_eq!(workspace.files(), ["in.npy", "p.pasm", "words.txt"]);
}

#[test]
fn a_list_has_neither_tokens_nor_layers_nor_a_model_to_prune() {
    let workspace = workspace();
    refused(&workspace, LIST, &["--tokens 5", "--layers 1", "--text a"]);
    refused(&workspace, LIST, &PRUNING);
    refused(&workspace, LIST, &NETWORK);
    refused(&workspace, LIST, &["--shape bert-base", "--model x"]);
    let run = workspace.pollux(&format!("{LIST} --image 5 --prune-heads 1"));
    assert!(run.stderr.contains("--image") && run.stderr.contains("--prune-heads"), "all at once: {}", run.stderr);
}

#[test]
fn a_shape_has_what_its_kind_of_model_has() {
    let workspace = workspace();
    refused(&workspace, SHAPE, &PRUNING);
    refused(&workspace, SHAPE, &NETWORK);
    refused(&workspace, SHAPE, &["--text a"]);
    refused(&workspace, "report --shape resnet50", &PRUNING);
    refused(&workspace, "report --shape resnet50", &["--tokens 5", "--layers 2", "--text a", "--dimension batch=1"]);
}

#[test]
fn a_model_has_what_its_kind_has() {
    let workspace = workspace();
    let transformer = format!("{TRANSFORMER} --text a");
    for command in ["model run", "report --model"] {
        refused(&workspace, &format!("{command} {transformer}"), &NETWORK);
        for network in [RESNET, ONNX] {
            refused(&workspace, &format!("{command} {network}"), &PRUNING);
            refused(&workspace, &format!("{command} {network}"), &["--text a"]);
        }
        refused(&workspace, &format!("{command} {RESNET}"), &["--dimension batch=1"]);
        refused(&workspace, &format!("{command} {ONNX}"), &["--image 32"]);
    }
    refused(&workspace, &format!("report --model {transformer}"), &["--tokens 5", "--layers 1"]);
    refused(&workspace, &format!("report --model {ONNX}"), &["--tokens 5", "--layers 1"]);
    for command in ["model run", "model quantize", "model lower -o out.pbin"] {
        refused(&workspace, &format!("{command} {ONNX}"), &QUANTISATION);
        refused(
            &workspace,
            &format!("{command} {RESNET}"),
            &["--reference x", "--text a"].map(|o| o.replace('x', RESNET)).each_ref().map(String::as_str),
        );
    }
    refused(&workspace, &format!("model run {transformer}"), &[&format!("--reference {TRANSFORMER}")]);
    refused(&workspace, &format!("model lower -o out.pbin {transformer}"), &NETWORK);
    refused(&workspace, &format!("model quantize {transformer}"), &NETWORK);
    assert_eq!(workspace.files(), ["in.npy", "p.pasm", "words.txt"]);
}

#[test]
fn what_is_quantised_already_is_not_quantised_again() {
    let workspace = workspace();
    let run = workspace.pollux(&format!("model quantize {TRANSFORMER} --outlier-channels 0 -o bert.st"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    refused(&workspace, "model run bert.st --text a", &QUANTISATION);
    refused(&workspace, "model run bert.st --text a", &NETWORK);
    let run = workspace.pollux(&format!("model quantize {RESNET} --image 32 -o network.st"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    refused(&workspace, "model run network.st", &NETWORK[2..]);
    refused(&workspace, "model run network.st", &PRUNING);
    refused(&workspace, "model run network.st", &QUANTISATION);
}

#[test]
fn generation_from_a_shape_has_no_model_to_quantise_or_compare() {
    let workspace = workspace();
    refused(&workspace, "model generate", &QUANTISATION.map(|o| o));
    refused(&workspace, "model generate", &["--reference crates", "--text a"]);
    let model = format!("model generate {} --text a", "crates/model/tests/tiny-gpt2");
    refused(&workspace, &model, &["--shape gpt2", "--layers 2", "--vocabulary 9", "--prompt 2", "--seed 4"]);
    refused(&workspace, "model generate", &["--confidence 0.5"]);
    refused(&workspace, "model generate --little 1", &["--early-exit 0.5"]);
}

#[test]
fn single_commands_refuse_what_they_would_ignore() {
    let workspace = workspace();
    refused(&workspace, "config small4", &["--list"]);
    refused(&workspace, "config --list", &["--check", "-o x.toml"]);
    refused(&workspace, "config small4 --check", &["--output x.toml"]);
    refused(&workspace, "isa", &["--config small4"]);
    refused(&workspace, "isa mvin", &["--markdown"]);
    refused(&workspace, "run p.pasm --cycles --report csv", &["--dump A"]);
    let quantize = format!("quantize {TRANSFORMER} --calibration words.txt");
    refused(&workspace, &quantize, &["--layer 1", "--license MIT"]);
    for line in ["run p.pasm --cycles --report csv --json", &format!("{SHAPE} --tokens 4 --every --json")] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, 2, "{line}: {}", run.stdout);
    }
    assert_eq!(workspace.files(), ["in.npy", "p.pasm", "words.txt"]);
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let workspace = workspace();
    let matmul = "lower matmul --m 4 --n 4 --k 4";
    for (line, message) in [
        (format!("{matmul} --scale -1"), "2^-32 (2.33e-10) to 256"),
        (format!("{matmul} --scale NaN"), "2^-32 (2.33e-10) to 256"),
        (format!("{matmul} --scale inf"), "2^-32 (2.33e-10) to 256"),
        (format!("{matmul} --scale 1e30"), "2^-32 (2.33e-10) to 256"),
        ("lower matmul --m -4 --n 4 --k 4".to_owned(), "--m"),
        ("lower matmul --m 4_0 --n 4 --k 4".to_owned(), "'4_0' for '--m <SIZE>'"),
        ("lower matmul --m 2000000 --n 4 --k 4".to_owned(), "1..=1048576"),
        ("run p.pasm --cycles --limit 0".to_owned(), "--limit"),
        (format!("model run {TRANSFORMER} --text a --prune-blocks 1.5"), "at least 0 and below 1"),
        (format!("model run {TRANSFORMER} --text a --keep-tokens 0=NaN"), "above 0 and at most 1"),
        (format!("model run {TRANSFORMER} --text a --weight-planes 0"), "1..=8"),
        (format!("model run {RESNET} --image 0"), "1..=1048576"),
        (format!("model run {ONNX} --dimension batch=0"), "at least 1"),
        (format!("model run {ONNX} --range percentile=0.9"), "from 50 to 100"),
        (format!("quantize {TRANSFORMER} --calibration words.txt --range percentile=NaN"), "from 50 to 100"),
        ("model generate --prompt 0".to_owned(), "for '--prompt <N>'"),
        ("model generate --early-exit NaN".to_owned(), "at least 0"),
    ] {
        let run = workspace.pollux(&line);
        assert_eq!(run.code, 2, "{line}: {}", run.stdout);
        let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(message), "{line}: {text}");
    }
}

#[test]
fn completions_and_manual_pages_cover_every_subcommand() {
    let workspace = Workspace::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = workspace.pollux(&format!("completions {shell}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        for word in ["verify", "generate", "prune-heads"] {
            assert!(run.stdout.contains(word), "{shell}: {word}");
        }
    }
    let page = workspace.pollux("man");
    assert!(page.code == 0 && page.stdout.contains(".TH pollux 1"), "{}", page.stdout);
    let page = workspace.pollux("man model generate");
    assert!(page.stdout.contains(".TH pollux-model-generate 1") && page.stdout.contains("early"), "{}", page.stdout);
    let wrong = workspace.pollux("man modle");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("choose demo, asm"), "{}", wrong.stderr);
}

#[test]
fn the_readme_says_how_to_install_before_it_uses_the_command() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let place = |text: &str| readme.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(place("cargo install --path crates/cli") < place("\n$ pollux "));
}

#[test]
fn seeds_and_cases_belong_to_the_labs_that_have_them() {
    let workspace = workspace();
    refused(&workspace, "lab show 1", &["--seed 7"]);
    refused(&workspace, "lab show 10", &["--seed 7"]);
    refused(&workspace, "lab check 3 words.txt", &["--cases 2"]);
    refused(&workspace, "lab check 10 words.txt", &["--cases 2"]);
}
