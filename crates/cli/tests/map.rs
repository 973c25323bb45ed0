//! `pollux map`: searches, imports, evaluations, and schedules that the other commands take.

mod common;

use common::{Run, Workspace};
use serde_json::Value;

fn succeeds(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

const PRODUCT: &str = "--m 48 --n 64 --k 80";
const SMALL: &str = "--emission unroller --budget 1";

#[test]
fn the_mapping_found_runs_with_the_cycles_that_were_promised() {
    let workspace = Workspace::new();
    let document = succeeds(workspace.pollux(&format!("map matmul {PRODUCT} {SMALL} -o s.toml --json"))).json();
    let cycles = number(&document["cycles"]);
    assert!(cycles <= number(&document["default_cycles"]));
    assert!(number(&document["lower_bound_cycles"]) <= cycles);
    assert!(document["energy_pj"].as_f64().unwrap() > 0.0 && document["edp"].as_f64().unwrap() > 0.0);
    assert!(number(&document["evaluated"]) >= number(&document["simulated"]));
    assert!(document["schedule"]["schedule"]["tile"]["i"].is_u64() && document["proved_optimal"].is_boolean());
    // The same product with data, through `lower` and `run`.
    succeeds(workspace.pollux(&format!("lower matmul {PRODUCT} --config default16 --schedule s.toml -o mm.pbin")));
    let run = succeeds(workspace.pollux("run mm.pbin --cycles --expect --json")).json();
    assert_eq!(number(&run["cycles"]), cycles);
    // The same twice, and with other numbers of threads.
    let again = succeeds(workspace.pollux(&format!("map matmul {PRODUCT} {SMALL} --jobs 3 --json"))).json();
    assert_eq!(again, document);
}

#[test]
fn a_second_run_is_reported_where_a_cache_keeps_something() {
    let workspace = Workspace::new();
    let document =
        succeeds(workspace.pollux(&format!("map matmul {PRODUCT} {SMALL} --memory dram --warm --json"))).json();
    let warm = &document["warm"];
    assert!(number(&warm["cycles"]) < number(&document["cycles"]), "{warm}");
    assert!(number(&warm["default_cycles"]) < number(&document["default_cycles"]), "{warm}");
    let refused = workspace.pollux(&format!("map matmul {PRODUCT} {SMALL} --warm"));
    assert!(refused.code == 2 && refused.stderr.contains("no cache"), "{}{}", refused.code, refused.stderr);
}

#[test]
fn lists_take_schedules_too() {
    let workspace = Workspace::new();
    workspace.write(
        "s.toml",
        "[schedule]\ndataflow = 'ws'\ntile = { i = 1, j = 2, k = 3 }\norder = ['j', 'i', 'k']\n\
        double_buffer = true\nemission = 'unroller'\nkeep = 'recent'\n",
    );
    let list = "config = 'default16'\n[[matmul]]\ni = 64\nj = 96\nk = 80\nmagnitude = 5\nscale = [0.01]\n";
    workspace.write("list.toml", list);
    let cycles = |line: &str| number(&succeeds(workspace.pollux(line)).json()["total"]["cycles"]);
    let (own, given) =
        (cycles("report --list list.toml --json"), cycles("report --list list.toml --schedule s.toml --json"));
    assert_ne!(own, given);
    succeeds(workspace.pollux("lower list list.toml --schedule s.toml -o list.pbin"));
    succeeds(workspace.pollux("run list.pbin --cycles --expect"));
    // A convolution's schedule, and a plan that says something else.
    workspace.write(
        "conv.toml",
        "[convolution]\nbatch = 1\nrows = 1\ncols = 1\nout_channels = 1\nkernel_rows = 1\n\
        kernel_cols = 1\nin_channels = 1\nemission = 'unroller'\n",
    );
    let wrong = workspace.pollux(&format!("lower matmul {PRODUCT} --schedule conv.toml"));
    assert_eq!(wrong.code, 3);
    assert!(wrong.stderr.contains("a product has a [schedule]"), "{}", wrong.stderr);
    workspace.write("bad.toml", "[schedule]\ndataflow = 'ws'\ntiles = 1\n");
    let wrong = workspace.pollux(&format!("lower matmul {PRODUCT} --schedule bad.toml"));
    assert!(
        wrong.stderr.contains("unknown field `tiles`") && wrong.stderr.contains("bad.toml: line 3"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn mappings_of_other_tools_come_in_and_go_out() {
    let workspace = Workspace::new();
    let example = "crates/mapper/tests/data/example.yaml";
    let document = succeeds(workspace.pollux(&format!("map import {example} -o out.yaml --json"))).json();
    assert!(number(&document["cycles"]) > 8192);
    // Out and in again: the same schedule, in each form.
    workspace.write("problem.yaml", "problem:\n  instance: {P: 256, K: 128, C: 64}\n");
    for name in ["out.yaml", "again.yaml", "map.txt", "string.dosa", "schedule.toml"] {
        let from = if name == "out.yaml" { example.to_owned() } else { "out.yaml --problem problem.yaml".to_owned() };
        succeeds(workspace.pollux(&format!("map import {from} -o {name}")));
        let again = succeeds(workspace.pollux(&format!("map import {name} --problem problem.yaml --json"))).json();
        assert_eq!(again["schedule"], document["schedule"], "{name}");
        assert_eq!(again["cycles"], document["cycles"], "{name}");
    }
    assert_eq!(workspace.read("out.yaml"), workspace.read("again.yaml"));
    workspace.write("net.csv", "Layer, M, N, K,\nfc1, 32, 48, 64,\nfc2, 16, 16, 48,\n");
    let layers = succeeds(workspace.pollux("map import net.csv --json")).json();
    assert_eq!(layers["layers"].as_array().map(Vec::len), Some(2));
    workspace.write("broken.yaml", "mapping:\n- {target: DRAM, type: temporal, factors: P=two}\n");
    let wrong = workspace.pollux("map import broken.yaml");
    assert_eq!(wrong.code, 3);
    assert!(wrong.stderr.contains("broken.yaml: line 2: DRAM (temporal), factors: `P=two`"), "{}", wrong.stderr);
    workspace.write("alone.dosa", "L3[WIO] K8 - L2[WI] N1 K16X - L1[O] K2 C4 P8 C16X - L0[W] P16\n");
    let wrong = workspace.pollux("map import alone.dosa");
    assert!(wrong.stderr.contains("give its sizes with --problem FILE"), "{}", wrong.stderr);
}

#[test]
fn models_are_compared_with_the_emulator() {
    let workspace = Workspace::new();
    let line = "map evaluate --samples 2 --operation matmul --emission unroller --json";
    let document = succeeds(workspace.pollux(line)).json();
    let models = document["models"].as_array().expect("models");
    let mape = |index: usize| models[index]["mape"].as_f64().expect("a number");
    // Roofline, Timeloop-like, refined.
    assert!(mape(2) < mape(1) && mape(2) < mape(0) && mape(2) < 15.0, "{models:#?}");
    assert!(document["bound_of_cycles"].as_f64().is_some_and(|part| part > 0.3 && part <= 1.0));
}

#[test]
fn bad_requests_are_refused_with_a_remedy() {
    let workspace = Workspace::new();
    let refused = |line: &str, code: i32, what: &str| {
        let run = workspace.pollux(line);
        assert_eq!(run.code, code, "{line}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(what), "{line}: {}", run.stderr);
    };
    refused(
        "map conv --rows 2 --cols 2 --channels 4 --out-channels 4 --kernel 5",
        3,
        "choose a larger image or padding",
    );
    refused("map matmul --m 1048576 --n 1048576 --k 16", 3, "bytes of operands");
    refused("map matmul --m 16 --n 16 --k 16 --energy-table nothing", 3, "nothing");
    refused(
        "map matmul --m 16 --n 16 --k 16 --dataflow os --emission unroller",
        3,
        "choose another emission, dataflow",
    );
    refused("map conv --rows 8 --cols 8 --channels 4 --out-channels 4 --kernel 3 --depthwise", 2, "--out-channels");
}

const NETWORK: &str = "config = 'default16'\n[[conv]]\ninput = [9, 9, 20]\nout_channels = 40\nkernel = 3\nmagnitude = 5\n\
                       [[matmul]]\ni = 50\nj = 70\nk = 90\nmagnitude = 5\nscale = [0.01]\n";

#[test]
fn a_networks_plan_is_taken_by_reports_and_gives_the_same_results() {
    let workspace = Workspace::new();
    workspace.write("list.toml", NETWORK);
    let document =
        succeeds(workspace.pollux("map network list.toml --candidates 3 --evaluations 100 -o plan.toml --json")).json();
    let cycles = number(&document["cycles"]);
    assert!(
        cycles <= number(&document["default_cycles"]) && document["operations"].as_array().map(Vec::len) == Some(2)
    );
    let report = succeeds(workspace.pollux("report --list list.toml --plan plan.toml --json")).json();
    assert_eq!(number(&report["total"]["cycles"]), cycles);
    // A Transformer: query, key and value may be done together, and everything equals the integer reference.
    let tiny = "crates/model/tests/tiny-bert";
    let map = format!("map network {tiny} --text 'the cat and the dog' --candidates 3 -o tiny.toml --json");
    let document = succeeds(workspace.pollux(&map)).json();
    let run = format!("model run {tiny} --text 'the cat and the dog' --plan tiny.toml --json");
    let run = succeeds(workspace.pollux(&run)).json();
    assert_eq!((&run["match"], number(&run["cycles"])), (&Value::Bool(true), number(&document["cycles"])));
    let layer = "map layer --hidden 48 --heads 3 --ffn 80 --tokens 20 --candidates 2 --objective edp";
    let text = succeeds(workspace.pollux(layer)).stdout;
    assert!(text.contains("layer0.scores_softmax") && text.contains("times as fast") && text.contains("uJ"), "{text}");
    let wrong = workspace.pollux("map network list.toml --tokens 5");
    assert!(wrong.code == 2, "{}", wrong.stderr);
    let wrong = workspace.pollux(&format!("map network {tiny}"));
    assert!(wrong.code == 2 && wrong.stderr.contains("give --text SENTENCE"), "{}", wrong.stderr);
}

#[test]
fn a_search_leaves_a_page_and_a_record_that_is_taken_up() {
    let workspace = Workspace::new();
    let line = format!("map matmul {PRODUCT} {SMALL} --json");
    let whole = succeeds(workspace.pollux(&line)).json();
    let first = succeeds(workspace.pollux(&format!("{line} --resume runs.jsonl --html page.html"))).json();
    assert_eq!(first, whole);
    let page = String::from_utf8(workspace.read("page.html")).expect("UTF-8");
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("The best one over time") && !page.contains("<script"));
    // Interrupted in the middle of a line.
    let record = String::from_utf8(workspace.read("runs.jsonl")).expect("UTF-8");
    workspace.write("runs.jsonl", &record[..record.len() / 2]);
    let again = succeeds(workspace.pollux(&format!("{line} --resume runs.jsonl"))).json();
    assert_eq!(again, whole);
    assert_eq!(String::from_utf8(workspace.read("runs.jsonl")).expect("UTF-8"), record);
    let text = succeeds(workspace.pollux(&format!("map matmul {PRODUCT} {SMALL} --resume runs.jsonl")));
    assert!(text.stderr.contains("of an earlier search taken up"), "{}", text.stderr);
    let other = workspace.pollux("map matmul --m 48 --n 64 --k 81 --resume runs.jsonl");
    assert!(other.code == 3 && other.stderr.contains("runs of another operation"), "{}", other.stderr);
    workspace.write("mine.txt", "my notes\n");
    let mine = workspace.pollux(&format!("map matmul {PRODUCT} --resume mine.txt"));
    assert!(mine.code == 3 && mine.stderr.contains("mine.txt: line 1"), "{}", mine.stderr);
    assert_eq!(workspace.read("mine.txt"), b"my notes\n");
}

#[test]
fn what_is_learned_makes_the_model_better_on_operations_that_it_has_not_seen() {
    let workspace = Workspace::new();
    let train = "map train --samples 12 --memory bench -o learned.json --json";
    let document = succeeds(workspace.pollux(train)).json();
    assert_eq!(document["training"]["sha256"].as_str().map(str::len), Some(66));
    assert_eq!(number(&document["training"]["samples"][0]), 120);
    let line =
        "map evaluate --samples 6 --operation matmul --learned learned.json --searches 2 --emission unroller --json";
    let document = succeeds(workspace.pollux(line)).json();
    let models = document["models"].as_array().expect("models");
    assert_eq!(models[3]["model"], "learned");
    assert!(models[3]["mape"].as_f64().is_some_and(|mape| mape < 12.0), "{models:#?}");
    let searches = document["searches"].as_array().expect("searches");
    assert_eq!((searches.len(), &searches[0]["method"]), (5, &Value::from("exhaustive")));
    assert!(searches.iter().all(|search| search["gain"].as_f64() >= Some(1.0)), "{searches:#?}");
    workspace.write("broken.json", "{\"version\": 9}");
    let wrong = workspace.pollux("map evaluate --learned broken.json");
    assert!(wrong.code == 3 && wrong.stderr.contains("version 9"), "{}", wrong.stderr);
}
