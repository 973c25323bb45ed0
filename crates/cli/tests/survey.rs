//! The survey's studies from the command line. The studies' own numbers are compared in `crates/survey/tests`.

mod common;

use common::{Run, Workspace};
use serde_json::Value;

const WORKLOAD: &str = "survey workload --reduced";

fn outcome(run: &Run, id: &str) -> String {
    let document = run.json();
    let verdicts = document["verdicts"].as_array().expect("verdicts");
    let verdict = verdicts.iter().find(|verdict| verdict["id"] == id).expect("a verdict");
    verdict["outcome"].as_str().expect("an outcome").to_owned()
}

#[test]
fn a_study_tells_each_verdict_with_its_reason_and_how_to_repeat_it() {
    let run = Workspace::new().pollux(WORKLOAD);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for words in [
        "pollux survey workload --reduced, reduced form, seed 1",
        "Tab 3 | 7.25, 0.6, 14.5, 0.078",
        "reproduced\n    GFLOPs of BERT-Base at 128, 512, 4096",
        "refuted\n    GFLOPs of BERT-Large at 128 to 4096",
        "the reduced form has other sizes than the paper",
        "survey 256/128 KiB (",
        "memories:\n  bench\n",
    ] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
}

#[test]
fn another_number_in_the_papers_file_is_another_verdict() {
    let workspace = Workspace::new();
    let paper = String::from_utf8(workspace.read("crates/survey/data/paper.toml")).expect("UTF-8");
    let id = "workload.gpt2_gflops";
    assert_eq!(outcome(&workspace.pollux(&format!("{WORKLOAD} --json")), id), "reproduced");
    workspace.write(
        "paper.toml",
        paper.replace("values = [22, 45, 92, 194, 428, 1012]", "values = [33, 45, 92, 194, 428, 1012]"),
    );
    assert_eq!(outcome(&workspace.pollux(&format!("{WORKLOAD} --paper paper.toml --json")), id), "refuted");
}

#[test]
fn a_page_is_static_and_what_is_there_is_not_run_again() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("{WORKLOAD} --html out"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let page = String::from_utf8(workspace.read("out/index.html")).expect("UTF-8");
    assert!(page.contains("<svg") && page.contains("pollux survey workload --reduced") && !page.contains("<script"));
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());
    // A number that nothing measures shows that the file is taken.
    let text = String::from_utf8(workspace.read("out/workload.json")).expect("UTF-8");
    let mut stored: Value = serde_json::from_str(&text).expect("JSON");
    stored["measured"]["workload.base_act_mops"] = serde_json::json!([0.006]);
    workspace.write("out/workload.json", stored.to_string());
    let run = workspace.pollux(&format!("{WORKLOAD} --html out"));
    assert_eq!(run.stderr, "workload: from out/workload.json\n");
    assert!(run.stdout.contains("Tab 3 | 0.006 | 0.006 GMOPs | reproduced"), "{}", run.stdout);
}

#[test]
fn files_that_are_no_reports_and_pages_of_others_are_left_alone() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("mine")).expect("a folder");
    workspace.write("mine/index.html", "<html>mine</html>");
    let run = workspace.pollux(&format!("{WORKLOAD} --html mine"));
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("mine/index.html: not a page of `pollux survey`"), "{}", run.stderr);
    std::fs::create_dir(workspace.path("other")).expect("a folder");
    workspace.write("other/workload.json", "{}");
    let run = workspace.pollux(&format!("{WORKLOAD} --html other"));
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("other/workload.json: not a report of the study `workload`"), "{}", run.stderr);
    assert_eq!(workspace.read("mine/index.html"), b"<html>mine</html>");
}

#[test]
fn what_does_nothing_and_what_is_wrong_is_refused() {
    let workspace = Workspace::new();
    workspace
        .write("paper.toml", "title = 'x'\n[[claims]]\nid = 'workload.x'\nsection = '1'\nsays = 's'\nvalues = []\n");
    for (line, code, words) in [
        ("survey workload --reduced --seed 2", 2, "workload draws nothing: leave out --seed"),
        ("survey everything", 2, "invalid value 'everything'"),
        ("survey workload --paper paper.toml", 3, "paper.toml: claim `workload.x`: `values` is empty"),
        ("survey workload --paper none.toml", 3, "none.toml"),
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, code, "{line}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{line}: {}", run.stderr);
    }
}
