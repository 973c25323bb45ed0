//! `pollux page`: one file, whole or not there, with the program, its files and how it runs in it.

mod common;

use common::Workspace;
use serde_json::{Value, json};

const TILE: &str = "programs/matmul_ws_tile.pasm";

/// What the command has put into a page.
fn data(workspace: &Workspace, name: &str) -> Value {
    let html = String::from_utf8(workspace.read(name)).expect("UTF-8");
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    let (_, rest) = html.split_once("id=\"pollux-page\">").expect("the element");
    let (data, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_page_has_the_program_and_says_which_pollux_it_carries() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("page {TILE} -o demo.html --cycle 60"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(
        run.stdout.starts_with("demo.html: matmul_ws_tile.pasm, 10 commands for small4, in a page of "),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains(&format!("(its emulator: Pollux {}, sources ", env!("CARGO_PKG_VERSION"))),
        "{}",
        run.stdout
    );
    let data = data(&workspace, "demo.html");
    let text = String::from_utf8(workspace.read(TILE)).expect("text");
    assert_eq!(
        (&data["name"], &data["cycle"], &data["config"]),
        (&json!("matmul_ws_tile.pasm"), &json!(60), &json!(""))
    );
    assert_eq!((data["text"].as_str(), &data["files"]), (Some(text.as_str()), &json!({})));
    let document = workspace.pollux(&format!("page {TILE} -o demo.html --json")).json();
    assert_eq!((&document["commands"], &document["page"]["version"]), (&json!(10), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(document["bytes"], workspace.read("demo.html").len());
    assert_eq!(workspace.files(), ["demo.html"]);
}

#[test]
fn a_page_brings_along_what_the_program_reads_and_how_it_runs() {
    let workspace = Workspace::new();
    let run = workspace
        .pollux("page programs/softmax.pasm -o a.html --memory dram --page-walk 30 --processor rocket --interval 2");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let softmax = data(&workspace, "a.html");
    let names: Vec<&String> = softmax["files"].as_object().expect("files").keys().collect();
    assert_eq!(names, ["data/softmax_probabilities.npy", "data/softmax_scores.npy"], "paths as the program has them");
    let setup = &softmax["setup"];
    assert!(setup["memory"].as_str().is_some_and(|memory| memory.starts_with("dram")), "{setup}");
    assert!(setup["processor"].as_str().is_some_and(|processor| processor.starts_with("rocket")), "{setup}");
    assert_eq!((&setup["interval"], &setup["page_walk"]), (&json!(2), &json!(30)));
    // A binary is a file itself; a configuration that was asked for is there as text.
    assert_eq!(workspace.pollux(&format!("asm {TILE} -o tile.pbin")).code, 0);
    assert_eq!(workspace.pollux("page tile.pbin -o b.html --config small4").code, 0);
    let binary = data(&workspace, "b.html");
    assert_eq!((&binary["text"], binary["files"].as_object().map(|files| files.len())), (&Value::Null, Some(1)));
    assert!(
        binary["config"].as_str().is_some_and(|config| config.contains("name = \"small4\"")),
        "{}",
        binary["config"]
    );
    let run = workspace.run(&["page", "-", "-o", "-"].map(str::to_owned), "config small4\nfence\n");
    assert!(run.code == 0 && run.stdout.starts_with("<!doctype html>"), "the page goes to the standard output");
    assert!(run.stderr.starts_with("-: stdin, 0 commands"), "{}", run.stderr);
}

#[test]
fn faults_name_place_and_remedy_and_leave_no_file() {
    let workspace = Workspace::new();
    workspace.write("wrong.pasm", "config small4\n\n  mvni x\n");
    workspace.write("illegal.pasm", "config small4\nraw funct=3 rs1=0 rs2=0\n");
    workspace.write("open.pasm", "fence\n");
    workspace.write("old.html", "mine");
    for (line, code, expected) in [
        ("page wrong.pasm -o old.html", 3, "wrong.pasm:3:3"),
        ("page illegal.pasm -o old.html", 4, "command 0"),
        ("page missing.pasm -o old.html", 3, "cannot read `missing.pasm`"),
        ("page open.pasm -o old.html", 3, "config"),
        (&format!("page {TILE} -o old.html --config default16"), 3, "small4"),
        (
            &format!("page {TILE} -o old.html --cycle 99999"),
            2,
            "--cycle: cycle 99999 is behind the end of the run: it ends in cycle",
        ),
        (&format!("page {TILE} -o old.html --memory sram"), 2, "--memory"),
        (&format!("page {TILE} -o nowhere/x.html"), 3, "nowhere/x.html"),
        ("page wrong.pasm -o wrong.pasm", 2, "would replace the input"),
        (&format!("page {TILE}"), 2, "--output <OUT.html>"),
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, code, "{line}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{line}: {}", run.stderr);
    }
    assert_eq!(workspace.read("old.html"), b"mine");
    assert_eq!(workspace.files(), ["illegal.pasm", "old.html", "open.pasm", "wrong.pasm"]);
}
