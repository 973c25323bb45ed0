//! JSON documents: every command prints one object with the version of its form, whether it succeeds or not, and no number
//! that a reader with 53 bits would change.

mod common;

use common::Workspace;
use serde_json::Value;

const SCHEMA: &str = "pollux/1";
/// Numbers above this are not exact in JavaScript and in others that keep numbers as float64.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

const TINY: &str = "crates/model/tests/tiny-bert --outlier-channels 0";
const GGUF: &str = "crates/model/tests/gguf/tiny-llama.gguf";
const ONNX: &str = "crates/model/tests/onnx/convolutions.onnx";

/// The paths of all numbers that are not safe.
fn unsafe_numbers(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > MAX_SAFE_INTEGER) {
                found.push(format!("{path} = {number}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unsafe_numbers(&format!("{path}[]"), item, found)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| unsafe_numbers(&format!("{path}.{key}"), value, found));
        }
        _ => {}
    }
}

fn check(line: &str, document: &Value) {
    assert_eq!(document["schema"], SCHEMA, "{line}");
    let mut found = Vec::new();
    unsafe_numbers("", document, &mut found);
    assert_eq!(found, [""; 0], "{line}");
}

#[test]
fn every_command_prints_one_document_of_the_schema() {
    let workspace = Workspace::new();
    // The largest registers that a program can have.
    workspace.write("wide.pasm", "config small4\nraw funct=14 rs1=0xffffffffffffffff rs2=0xfffffffffffffffe\n");
    workspace.write("words.txt", "the array adds two and two and two");
    workspace.write("list.txt", "14 ffffffffffffffff fffffffffffffffe\n");
    workspace.write("steps", "step 10\nuntil completed load\nview\nwhy load_controller\nview array\nend\n");
    let lines = [
        "demo".to_owned(),
        "asm programs/softmax.pasm -o a.pbin".to_owned(),
        "dis a.pbin".to_owned(),
        "dis wide.pasm".to_owned(),
        "run a.pbin --dump scores".to_owned(),
        "run a.pbin --cycles --report json".to_owned(),
        "run wide.pasm --policy ignore".to_owned(),
        "lower matmul --m 4 --n 4 --k 4 --seed 18446744073709551615".to_owned(),
        "lower encoder-layer -o layer.pbin".to_owned(),
        "lower list programs/parity/global_average.toml -o list.pbin".to_owned(),
        "quantize crates/model/tests/tiny-bert --calibration programs/minilm/calibration.txt".to_owned(),
        format!("model quantize {TINY}"),
        format!("model lower {TINY} --text 'the cat' -o model.pbin"),
        format!("model run {TINY} --text 'the cat'"),
        format!("model run {ONNX} --functional"),
        "model generate --shape minilm-l6 --layers 1 --vocabulary 40 --prompt 2 --tokens 2 --functional".to_owned(),
        format!("model generate {GGUF} --text 'the array' --tokens 2 --functional"),
        format!("model embed {TINY} words.txt"),
        format!("model perplexity {GGUF} words.txt --window 8 --windows 1"),
        "report --list programs/parity/global_average.toml".to_owned(),
        "run a.pbin --cycles --energy aladdin45-ddr3".to_owned(),
        "report --list programs/parity/global_average.toml --energy dosa40".to_owned(),
        "energy tables".to_owned(),
        "energy show dosa40".to_owned(),
        "energy export dosa40 --ert e.yaml --art a.yaml".to_owned(),
        "energy import e.yaml --node 40nm -o i.toml".to_owned(),
        "map matmul --m 16 --n 16 --k 16 --emission unroller --budget 1".to_owned(),
        "map layer --hidden 16 --heads 1 --ffn 16 --tokens 4 --candidates 1".to_owned(),
        "survey workload --reduced".to_owned(),
        "sweep crates/sweep/tests/manifests/small.toml -o sweep --form jsonl".to_owned(),
        "sweep merge sweep -o sweep.csv".to_owned(),
        "spike --extension=gemmini programs/riscv/copy.elf".to_owned(),
        "isa".to_owned(),
        "isa mvin".to_owned(),
        "isa --markdown".to_owned(),
        "config".to_owned(),
        "config --list".to_owned(),
        "config small4 --check".to_owned(),
        "import list.txt --config small4".to_owned(),
        "import tests/golden/directed/mv_in_1row".to_owned(),
        "verify tests/golden --case mv_in_1row".to_owned(),
        "debug a.pbin --script steps".to_owned(),
        "page programs/softmax.pasm -o page.html".to_owned(),
        "lab list".to_owned(),
        "lab show 1 --starter one.pasm".to_owned(),
        "lab check 1 crates/labs/labs/1/reference.pasm".to_owned(),
        "lab show 3 --seed 9007199254740991 --starter three.pasm".to_owned(),
        "lab check 3 crates/labs/labs/3/reference.toml".to_owned(),
        "lab show 10".to_owned(),
        "lab check 10 crates/labs/labs/10/reference.toml --seed 1".to_owned(),
        "completions bash".to_owned(),
        "man run".to_owned(),
    ];
    for line in &lines {
        let run = workspace.pollux(&format!("{line} --json"));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}: {}", run.stdout);
        check(line, &run.json());
    }
    let subcommands = workspace.pollux("--help").stdout;
    let subcommands =
        subcommands.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    // A long description goes on in lines that stand further in.
    let names =
        subcommands.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        assert!(lines.iter().any(|line| line.split(' ').next() == Some(name)), "`{name}` is not among the lines");
    }
}

#[test]
fn errors_are_documents_too_those_in_the_arguments_as_well() {
    let workspace = Workspace::new();
    workspace.write("wrong.pasm", "config small4\nmvni\n");
    for (line, code) in [
        ("--json", 2),
        ("--json frobnicate", 2),
        ("run --json", 2),
        ("run x.pasm --limit 10 --json", 2),
        ("run x.pasm --cycles --memory sram --json", 2),
        ("lower matmul --m 0 --n 1 --k 1 --json", 2),
        ("lower matmul --json --m 4 --n 4 --k 4 --scale -1", 2),
        ("report --list programs/parity/global_average.toml --tokens 5 --json", 2),
        ("completions --json tcsh", 2),
        ("run x.pasm --json", 3),
        ("asm wrong.pasm --json", 3),
        ("config --json nothing", 3),
        ("run programs/softmax.pasm --cycles --limit 10 --json", 4),
    ] {
        let run = workspace.pollux(line);
        assert_eq!((run.code, run.stderr.as_str()), (code, ""), "{line}: {}", run.stdout);
        let document = run.json();
        check(line, &document);
        assert_eq!(document["exit_code"], code, "{line}");
        let error = document["error"].as_str().expect("a message");
        assert!(!error.is_empty() && !error.starts_with("error") && !error.contains("Usage:"), "{line}: {error}");
        assert!(document["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{line}");
    }
}

#[test]
fn help_and_version_stay_text() {
    let workspace = Workspace::new();
    for line in ["--help --json", "run --json --help", "--json --version"] {
        let run = workspace.pollux(line);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}");
        assert!(run.stdout.starts_with("The software twin") || run.stdout.contains("pollux"), "{line}: {}", run.stdout);
    }
}

#[test]
fn registers_in_the_log_of_commands_are_hexadecimal_strings() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/softmax.pasm --cycles --commands log.jsonl");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = String::from_utf8(workspace.read("log.jsonl")).expect("UTF-8");
    let mut lines = 0;
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).expect("a JSON object");
        check(line, &record);
        for register in ["rs1", "rs2"] {
            let digits = record[register].as_str().and_then(|text| text.strip_prefix("0x")).expect("0x and digits");
            assert!(u64::from_str_radix(digits, 16).is_ok(), "{line}");
        }
        lines += 1;
    }
    assert_eq!(lines, 30, "a line a command");
    let csv = workspace.pollux("run programs/softmax.pasm --cycles --commands -").stdout;
    assert_eq!(csv.lines().count(), 1 + lines);
}
