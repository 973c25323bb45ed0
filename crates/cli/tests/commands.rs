//! What the subcommands do when all is well, end to end.

mod common;

use std::io::Read;
use std::path::Path;

use common::{Workspace, root};
use serde_json::Value;

#[test]
fn the_demo_matches_the_integer_reference_in_every_element() {
    let run = Workspace::new().pollux("demo --json");
    let report = run.json();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(report["match"], true);
    assert_eq!(report["mismatches"], 0);
    assert_eq!(report["elements"], 19 * 384);
    assert!(report["cosine"].as_f64().is_some_and(|cosine| cosine > 0.99), "{}", report["cosine"]);
    assert!(report["commands"].as_u64().is_some_and(|commands| commands > 0));
    // Four products of hidden x hidden, two of hidden x ffn, scores and context.
    assert_eq!(report["macs"], 19 * (4 * 384 * 384 + 2 * 384 * 1536) + 2 * 19 * 19 * 384);
}

#[test]
fn the_demo_runs_clock_by_clock_with_the_same_memory() {
    let run = Workspace::new().pollux("demo --cycles --json");
    let report = run.json();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((&report["match"], &report["models_agree"]), (&Value::Bool(true), &Value::Bool(true)));
    let operations = report["operations"].as_array().expect("a table of operations");
    let names: Vec<&str> = operations.iter().filter_map(|operation| operation["name"].as_str()).collect();
    assert_eq!(names.first(), Some(&"layer0.query"));
    assert_eq!(names.last(), Some(&"layer0.output_norm"));
    let macs = |operation: &Value| operation["macs"].as_u64().unwrap_or(0);
    assert_eq!(report["executed_macs"], operations.iter().map(macs).sum::<u64>(), "the operations cover the run");
}

#[test]
fn every_example_program_leaves_what_it_expects_on_both_models() {
    let workspace = Workspace::new();
    let mut programs = 0;
    for entry in std::fs::read_dir(root().join("programs")).expect("programs").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".pasm") {
            continue;
        }
        programs += 1;
        for mode in ["", "--cycles"] {
            let run = workspace.pollux(&format!("run programs/{name} --expect --json {mode}"));
            assert_eq!(run.code, 0, "{name} {mode}: {}{}", run.stdout, run.stderr);
            assert_eq!(run.json()["match"], true, "{name} {mode}");
        }
    }
    assert!(programs >= 5);
}

#[test]
fn a_binary_disassembles_to_text_that_assembles_to_the_same_binary() {
    let workspace = Workspace::new();
    for line in ["asm programs/softmax.pasm -o a.pbin", "dis a.pbin -o a.pasm", "asm a.pasm -o b.pbin"] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, 0, "{line}: {}", run.stderr);
    }
    assert_eq!(workspace.read("a.pbin"), workspace.read("b.pbin"));
    assert_eq!(workspace.files(), ["a.pasm", "a.pbin", "b.pbin"]);
    let printed = workspace.pollux("dis a.pbin").stdout;
    assert_eq!(printed.as_bytes(), workspace.read("a.pasm"));
}

#[test]
fn a_program_comes_from_the_standard_input_too() {
    let workspace = Workspace::new();
    let program = "config small4\nbuffer A: i8[2, 2] = [1, 2, 3, 4]\n";
    let arguments = ["run", "-", "--dump", "A"].map(str::to_owned);
    let run = workspace.run(&arguments, program);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, "0 commands, 0 MACs, 0 bytes in, 0 bytes out\nA: i8[2, 2]\n  1 2\n  3 4\n");
}

#[test]
fn buffers_are_dumped_as_text_json_npy_and_raw_bytes() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/matmul_ws_tile.pasm --dump C,A=a.npy --dump C=c.bin --json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let shown = run.json()["dumps"].clone();
    assert_eq!(shown["C"]["shape"], serde_json::json!([4, 4]));
    let elements = shown["C"]["elements"].as_array().expect("elements");
    let raw: Vec<i64> = workspace.read("c.bin").iter().map(|byte| i64::from(*byte as i8)).collect();
    assert_eq!(elements.iter().filter_map(Value::as_i64).collect::<Vec<_>>(), raw);
    assert!(workspace.read("a.npy").starts_with(b"\x93NUMPY"));
}

#[test]
fn lowered_products_leave_the_expected_result_on_both_models() {
    let workspace = Workspace::new();
    for options in [
        "--m 40 --n 23 --k 70 --bias --activation relu",
        "--m 17 --n 33 --k 20 --dataflow os --bias",
        "--m 20 --n 20 --k 20 --emission commands --a-transpose",
        "--m 9 --n 50 --k 31 --b-transpose --config default16",
        "--m 12 --n 40 --k 16 --activation layernorm",
        "--m 12 --n 40 --k 16 --activation softmax",
        "--m 5 --n 6 --k 7 --config small4 --seed 9",
    ] {
        let lowered = workspace.pollux(&format!("lower matmul {options} -o product.pbin"));
        assert_eq!(lowered.code, 0, "{options}: {}", lowered.stderr);
        for mode in ["", "--cycles"] {
            let run = workspace.pollux(&format!("run product.pbin --expect {mode}"));
            assert_eq!(run.code, 0, "{options} {mode}: {}{}", run.stdout, run.stderr);
            assert!(run.stdout.contains("C: as expected"), "{}", run.stdout);
        }
    }
}

#[test]
fn an_encoder_layer_is_lowered_to_text_that_runs() {
    let workspace = Workspace::new();
    let lowered = workspace.pollux("lower encoder-layer -o layer.pasm --json");
    assert_eq!(lowered.code, 0, "{}", lowered.stderr);
    let run = workspace.pollux("run layer.pasm --expect --json").json();
    assert_eq!(run["match"], true);
    assert_eq!(run["commands"], lowered.json()["commands"]);
    // Stores are the same on paper and in execution; loads too.
    assert_eq!((&run["bytes_out"], &run["bytes_in"]), (&lowered.json()["bytes_out"], &lowered.json()["bytes_in"]));
}

#[test]
fn a_model_directory_is_quantised_and_its_layer_runs() {
    let workspace = Workspace::new();
    let line = "quantize crates/model/tests/tiny-bert --calibration programs/minilm/calibration.txt --layer 1 \
                --text 'A short sentence.' -o layer.safetensors --json";
    let quantised = workspace.pollux(line);
    assert_eq!(quantised.code, 0, "{}", quantised.stderr);
    let layers = quantised.json()["layers"].clone();
    assert_eq!(layers.as_array().map(Vec::len), Some(2));
    let demo = workspace.pollux("demo --layer layer.safetensors --json").json();
    assert_eq!((&demo["match"], &demo["layer"]), (&Value::Bool(true), &serde_json::json!(1)));
    assert_eq!(demo["cosine"], layers[1]["cosine"]);
}

#[test]
fn an_imported_golden_case_ends_with_the_recorded_memory() {
    let workspace = Workspace::new();
    for (case, group) in [("loop_ws_50x33x70_bias", "directed"), ("conv_with_pool", "software"), ("x043_rnd", "random")]
    {
        let import = workspace.pollux(&format!("import tests/golden/{group}/{case} -o case.pasm --json"));
        assert_eq!(import.code, 0, "{}", import.stderr);
        let memory = import.json()["memory"].as_str().expect("a memory system").to_owned();
        for mode in [String::new(), format!("--cycles --memory {memory} --trace trace.csv")] {
            let run = workspace.pollux(&format!("run case.pasm --expect --json {mode}"));
            assert_eq!(run.code, 0, "{case} {mode}: {}{}", run.stdout, run.stderr);
        }
        let trace = String::from_utf8(workspace.read("trace.csv")).expect("UTF-8");
        assert!(trace.starts_with("cycle,event,a,b,c,d,e,f,g\n0,accept,0,"), "{}", &trace[..80]);
    }
    assert_eq!(workspace.files(), ["case.pasm", "trace.csv"]);
}

#[test]
fn a_list_of_commands_is_imported() {
    let workspace = Workspace::new();
    workspace.write("list.txt", "# flush\n7 0 0\nfence\nwait 3\n");
    let run = workspace.pollux("import list.txt --config small4");
    assert_eq!((run.code, run.stdout.as_str()), (0, "config small4\nflush\nfence\nwait 3\n"));
}

#[test]
fn verify_says_so_when_every_case_is_exact() {
    let workspace = Workspace::new();
    let run = workspace.pollux("verify tests/golden/software --jobs 1");
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.starts_with("exact    aligned (default16): 231 cycles, 139 events"), "{}", run.stdout);
    assert!(run.stdout.ends_with("\nverify: 27 of 27 cases exact\n"), "{}", run.stdout);
}

#[test]
fn verify_runs_the_cases_asked_for() {
    let run = Workspace::new().pollux("verify tests/golden --case mv_in_1row --case transpose --json");
    let report = run.json();
    assert_eq!((run.code, &report["exact"], &report["total"]), (0, &2.into(), &2.into()));
    assert_eq!(report["cases"][0]["name"], "mv_in_1row");
    assert_eq!(report["cases"][0]["cycles"], report["cases"][0]["expected_cycles"]);
}

fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("a file");
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("compressed text");
    text
}

/// A copy of a small case, with its trace changed.
fn changed_case(workspace: &Workspace, change: impl Fn(String) -> String) {
    let case = root().join("tests/golden/directed/mv_in_1row");
    std::fs::create_dir_all(workspace.path("cases/wrong")).expect("a folder");
    for entry in std::fs::read_dir(case).expect("the case").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (name, contents) = match name.strip_suffix(".gz") {
            Some(plain) => (plain.to_owned(), unpacked(&entry.path())),
            None => (name, std::fs::read_to_string(entry.path()).expect("text")),
        };
        let contents = if name == "trace.csv" { change(contents) } else { contents };
        workspace.write(&format!("cases/wrong/{name}"), contents);
    }
}

#[test]
fn verify_shows_the_first_divergent_cycle_with_events_and_block_states() {
    let workspace = Workspace::new();
    changed_case(&workspace, |trace| trace.replacen("\n4,alloc,0,ld", "\n3,alloc,0,ld", 1));
    let run = workspace.pollux("verify cases");
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn verify_fails_when_the_memory_differs() {
    let workspace = Workspace::new();
    changed_case(&workspace, |trace| trace);
    let memory = String::from_utf8(workspace.read("cases/wrong/memory_out.txt")).expect("UTF-8");
    let (address, bytes) = memory.split_once(' ').expect("a line of memory");
    let flipped = if bytes.starts_with("00") { "ff" } else { "00" };
    workspace.write("cases/wrong/memory_out.txt", format!("{address} {flipped}{}", &bytes[2..]));
    let run = workspace.pollux("verify cases");
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("bytes of memory differ; the first at"), "{}", run.stdout);
    assert!(run.stdout.ends_with("verify: 0 of 1 cases exact\n"), "{}", run.stdout);
}

#[test]
fn the_instruction_set_is_explained() {
    let workspace = Workspace::new();
    insta::assert_snapshot!("isa_mvin", workspace.pollux("isa mvin").stdout);
    let list = workspace.pollux("isa --json").json();
    assert_eq!(list["instructions"].as_array().map(Vec::len), Some(workspace.pollux("isa").stdout.lines().count()));
    let chapter = workspace.pollux("isa --markdown").stdout;
    let book = std::fs::read_to_string(root().join("docs/src/isa.md")).expect("the chapter");
    assert_eq!(chapter, book);
}

#[test]
fn configurations_are_shown_checked_and_written() {
    let workspace = Workspace::new();
    insta::assert_snapshot!("config_list", workspace.pollux("config --list").stdout);
    assert_eq!(workspace.pollux("config chip -o chip.toml").code, 0);
    assert!(workspace.pollux("config chip.toml --check").stdout.starts_with("chip: valid\n"));
    let [named, read] = ["config chip --json", "config chip.toml --json"].map(|line| workspace.pollux(line).json());
    assert_eq!((&named["name"], &named["fields"]), (&read["name"], &read["fields"]));
    workspace.write("mine.toml", "base = \"norm16\"\nname = \"mine\"\nsp_capacity = \"64 KiB\"\n");
    let mine = workspace.pollux("config mine.toml --json").json();
    assert_eq!((&mine["name"], &mine["derived"]["scratchpad_rows"]), (&"mine".into(), &4096.into()));
}

#[test]
fn a_header_of_the_test_programs_is_a_configuration() {
    let workspace = Workspace::new();
    workspace.write("gemmini_params.h", include_str!("gemmini_params.h"));
    let config = workspace.pollux("config gemmini_params.h --json").json();
    assert_eq!(config["derived"]["DIM"], 16);
    let verdict = workspace.pollux("config gemmini_params.h --check").stdout;
    assert!(verdict.starts_with("gemmini_params-") && verdict.ends_with(": valid\n"), "{verdict}");
}

#[test]
fn memory_systems_and_the_host_change_the_cycles_but_not_the_result() {
    let workspace = Workspace::new();
    let mut cycles = Vec::new();
    for setup in [
        "--memory bench:latency=1",
        "--memory bench:latency=200",
        "--memory bandwidth:bytes=2",
        "--memory dram:type=lpddr3",
        "--interval 100",
    ] {
        let run = workspace.pollux(&format!("run programs/loop_ws_matmul.pasm --cycles --expect --json {setup}"));
        assert_eq!(run.code, 0, "{setup}: {}", run.stderr);
        cycles.push(run.json()["cycles"].as_u64().expect("cycles"));
    }
    assert!(cycles.iter().skip(1).all(|later| *later > cycles[0]), "{cycles:?}");
}

#[test]
fn cycles_are_reported_as_text_csv_and_json() {
    let workspace = Workspace::new();
    let line = |form: &str| format!("run programs/softmax.pasm --cycles --report {form} --commands log.csv");
    let text = workspace.pollux(&line("text")).stdout;
    assert!(
        text.contains("causes of stalls") && text.ends_with("probabilities: as expected, 128 elements\n"),
        "{text}"
    );
    let csv = workspace.pollux(&line("csv")).stdout;
    assert!(csv.starts_with("section,name,quantity,cause,value\ntotal,"), "{csv}");
    let json = workspace.pollux(&line("json")).json();
    assert_eq!(json, workspace.pollux(&format!("{} --json", line("text"))).json());
    let cycles = json["report"]["totals"]["cycles"].as_u64().expect("cycles");
    for block in json["report"]["blocks"].as_array().expect("blocks") {
        let parts = ["busy", "stalled", "draining", "idle"].map(|part| block[part].as_u64().unwrap_or(0));
        assert_eq!(parts.iter().sum::<u64>(), cycles, "{}", block["block"]);
    }
    let log = String::from_utf8(workspace.read("log.csv")).expect("UTF-8");
    assert_eq!(log.lines().count(), 1 + 30, "a line a command");
}

#[test]
fn a_closed_output_ends_the_program_quietly() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("pollux"))
        .args(["lower", "encoder-layer"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}
