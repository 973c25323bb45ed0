//! Energy from the command line: reports that add up, tables of one's own, Accelergy's tables, and every way to be wrong.

mod common;

use common::Workspace;
use serde_json::Value;

const TINY: &str = "crates/model/tests/tiny-bert --outlier-channels 0 --text 'the cat'";

/// The energy of a line that ends well.
fn energy(workspace: &Workspace, line: &str) -> Value {
    let run = workspace.pollux(&format!("{line} --json"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}: {}", run.stdout);
    let document = run.json();
    assert!(document["energy"].is_object(), "{line}");
    document
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// The operations add up to the whole: energies, cycles and every count.
fn assert_adds_up(line: &str, energy: &Value) {
    let operations = energy["operations"].as_array().expect("operations");
    assert!(!operations.is_empty(), "{line}");
    let sum = |key: &str| operations.iter().map(|operation| number(&operation[key])).sum::<f64>();
    for key in ["energy_pj", "cycles", "macs", "seconds"] {
        assert!(close(sum(key), number(&energy["total"][key])), "{line}: {key}");
    }
    for (part, counts) in energy["total"]["counts"].as_object().expect("counts") {
        for (name, count) in counts.as_object().expect("counts") {
            let sum: u64 = operations.iter().filter_map(|operation| operation["counts"][part][name].as_u64()).sum();
            assert_eq!(Some(sum), count.as_u64(), "{line}: {part}.{name}");
        }
    }
    let components = energy["total"]["components"].as_array().expect("components");
    let components: f64 = components.iter().map(|component| number(&component["energy_pj"])).sum();
    assert!(close(components, number(&energy["total"]["energy_pj"])), "{line}");
}

#[test]
fn the_energy_of_a_run_is_that_of_its_operations_and_of_what_its_report_counts() {
    let workspace = Workspace::new();
    let line = "run programs/softmax.pasm --cycles --energy horowitz45-lpddr4";
    let document = energy(&workspace, &format!("{line} --report json"));
    let energy = &document["energy"];
    assert_adds_up(line, energy);
    assert_eq!((&energy["table"], &energy["node"]), (&"horowitz45-lpddr4".into(), &"45nm".into()));
    assert_eq!(energy["clock_hz"], 1e9);
    assert_eq!(energy["total"]["cycles"], document["cycles"]);
    let total = &energy["total"];
    let pj = number(&total["energy_pj"]);
    let cycles = number(&document["cycles"]);
    assert!(close(number(&total["edp_js"]), pj * 1e-12 * cycles * 1e-9));
    assert!(close(number(&total["edp_mj_cycles"]), pj * 1e-9 * cycles));
    // The report counts for itself.
    let counts = &total["counts"];
    let banks = document["report"]["banks"].as_array().expect("banks");
    let of = |memory: &str, key: &str| -> u64 {
        banks.iter().filter(|bank| bank["memory"] == memory).filter_map(|bank| bank[key].as_u64()).sum()
    };
    let sum =
        |part: &str, names: &[&str]| -> u64 { names.iter().filter_map(|name| counts[part][*name].as_u64()).sum() };
    assert_eq!(of("scratchpad", "writes"), sum("scratchpad", &["ex_writes", "dma_writes"]));
    assert_eq!(of("accumulator", "reads"), sum("accumulator", &["ex_reads", "dma_reads"]));
    let writes = ["ex_writes", "ex_accumulates", "dma_writes", "dma_accumulates"];
    assert_eq!(of("accumulator", "writes"), sum("accumulator", &writes));
    assert_eq!(document["bytes_in"], counts["memory"]["read_bytes"]);
    assert_eq!(document["commands"], counts["commands"]["host"]);
    let marked = document["report"]["operations"].as_array().expect("operations").len();
    assert_eq!(energy["operations"].as_array().map(Vec::len), Some(marked));
}

#[test]
fn whole_models_have_their_energy_by_operation() {
    let workspace = Workspace::new();
    let lines = [
        format!("model run {TINY} --energy aladdin45-ddr3 --clock 500MHz"),
        "report --list programs/parity/global_average.toml --energy dosa40".to_owned(),
        "model run crates/model/tests/onnx/convolutions.onnx --energy cacti22-lpddr4".to_owned(),
    ];
    for line in lines {
        let document = energy(&workspace, &line);
        assert_adds_up(&line, &document["energy"]);
        let operations = document["operations"].as_array().expect("operations");
        assert_eq!(document["energy"]["operations"].as_array().map(Vec::len), Some(operations.len()), "{line}");
        for (operation, priced) in
            operations.iter().zip(document["energy"]["operations"].as_array().expect("operations"))
        {
            assert_eq!((&operation["name"], &operation["cycles"]), (&priced["name"], &priced["cycles"]), "{line}");
        }
    }
    let report = "report --list programs/parity/global_average.toml";
    let without = workspace.pollux(&format!("{report} --json")).json();
    assert!(without["energy"].is_null() && without["operations"][0]["counts"].is_null());
    let run = workspace.pollux(&format!("{report} --energy dosa40 --html page.html"));
    assert!(run.stdout.contains("energy table dosa40, node 40nm, 1 GHz"), "{}", run.stdout);
    let page = String::from_utf8(workspace.read("page.html")).expect("UTF-8");
    assert!(page.contains("<h2>Energy</h2>") && page.contains("energy table dosa40, node 40nm, 1 GHz"));
}

#[test]
fn a_table_of_ones_own_changes_what_it_says() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux("energy show dosa40 -o mine.toml").code, 0);
    let text = String::from_utf8(workspace.read("mine.toml")).expect("UTF-8");
    workspace.write("mine.toml", text.replace("value = 100", "value = 200").replace("\"dosa40\"", "\"mine\""));
    let run = |table: &str| energy(&workspace, &format!("run programs/softmax.pasm --cycles --energy {table}"));
    let dram = |document: &Value| {
        let components = document["energy"]["total"]["components"].as_array().expect("components");
        let dram = components.iter().find(|component| component["component"] == "dram").expect("main memory");
        number(&dram["energy_pj"])
    };
    let (before, after) = (run("dosa40"), run("mine.toml"));
    assert_eq!(after["energy"]["table"], "mine");
    assert!(close(dram(&after), 2.0 * dram(&before)));
    let rest = |document: &Value| number(&document["energy"]["total"]["energy_pj"]) - dram(document);
    assert!(close(rest(&after), rest(&before)));
}

#[test]
fn a_table_goes_to_accelergys_form_and_back_with_the_same_energies() {
    let workspace = Workspace::new();
    for line in [
        "energy export horowitz45-lpddr4 --config norm16 --ert ert.yaml --art art.yaml",
        "energy import ert.yaml --art art.yaml --node 45nm --name again -o again.toml",
    ] {
        let run = workspace.pollux(line);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}");
    }
    let run = |table: &str| {
        let line = format!("model run {TINY} --energy {table}");
        number(&energy(&workspace, &line)["energy"]["total"]["energy_pj"])
    };
    assert!(close(run("horowitz45-lpddr4"), run("again.toml")));
    let ert = workspace.pollux("energy export dosa40 --ert -");
    assert!(
        ert.stdout.starts_with("ERT:\n  version: \"0.4\"\n  tables:\n  - name: system.DRAM[1..1]\n"),
        "{}",
        ert.stdout
    );
}

#[test]
fn wrong_tables_and_options_are_refused_with_place_and_remedy() {
    let workspace = Workspace::new();
    let text = std::fs::read_to_string(common::root().join("crates/energy/tables/dosa40.toml")).expect("a table");
    workspace.write("negative.toml", text.replace("value = 0.5608", "value = -0.5608"));
    workspace.write("nan.toml", text.replace("value = 0.5608", "value = nan"));
    workspace.write("unit.toml", text.replace("value = 0.5608\nunit = \"pJ\"", "value = 0.5608"));
    workspace.write("node.toml", text.replace("unit = \"pJ\"\nnode = \"40nm\"", "unit = \"pJ\"\nnode = \"45nm\""));
    workspace.write("key.toml", text.replace("[array.mac]", "[array.mack]"));
    workspace.write(
        "ert.yaml",
        "ERT:\n  version: '0.4'\n  tables:\n  - name: a.DRAM[1..1]\n    actions:\n    - {name: read, energy: 1}\n",
    );
    workspace.write("bad.yaml", "ERT: [\n");
    let mut out = String::new();
    for line in [
        "run programs/softmax.pasm --energy dosa40",
        "run programs/softmax.pasm --cycles --clock 2GHz",
        "run programs/softmax.pasm --cycles --energy dosa40 --clock 2",
        "run programs/softmax.pasm --cycles --energy dosa40 --report csv",
        "run programs/softmax.pasm --cycles --energy dosa",
        "run programs/softmax.pasm --cycles --energy ert.yaml",
        "run programs/softmax.pasm --cycles --energy missing.toml",
        "run programs/softmax.pasm --cycles --energy negative.toml",
        "run programs/softmax.pasm --cycles --energy nan.toml",
        "report --list programs/parity/global_average.toml --energy unit.toml",
        "model run crates/model/tests/onnx/convolutions.onnx --energy node.toml",
        "model run crates/model/tests/onnx/convolutions.onnx --functional --energy dosa40",
        "energy show key.toml",
        "energy import ert.yaml --node 40nm -o x.toml",
        "energy import ert.yaml --node 40nm --width DRAM=64 -o x.toml",
        "energy import ert.yaml --node 40nm --width DRAM=64 --width DRAM=32 -o x.toml",
        "energy import ert.yaml --node 40nm --width Cache=64 -o x.toml",
        "energy import ert.yaml --node off-chip -o x.toml",
        "energy import bad.yaml --node 40nm -o x.toml",
        "energy export dosa40",
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.stdout, "", "nothing is printed beside the message: {line}");
        out.push_str(&format!("$ pollux {line}\n{}[exit code {}]\n\n", run.stderr, run.code));
    }
    assert!(!workspace.files().contains(&"x.toml".to_owned()), "nothing is left half-written");
    insta::assert_snapshot!(out);
}
