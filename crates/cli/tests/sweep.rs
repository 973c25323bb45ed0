//! `pollux sweep` as a user runs it: shards, interruptions, merging, messages.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::Workspace;

const SMALL: &str = "crates/sweep/tests/manifests/small.toml";

/// Forty points of some hundred thousand cycles each.
const LONG: &str = "\
configs = 'norm16'
memories = ['bench', 'bandwidth:bytes=8']
measure = ['causes']
shards = 20

[[work]]
operation = 'matmul'
m = [112, 128, 144, 160, 176]
n = [112, 128, 144, 160]
k = 256
";

#[test]
fn a_sweep_and_its_shards_one_by_one_give_the_same_table() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("sweep {SMALL} -o whole --form jsonl --jobs 2"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.starts_with("12 points in 2 shards: 2 run, 0 there already\n12 ok\ncontent sha256 "),
        "{}",
        run.stdout
    );
    let again = workspace.pollux(&format!("sweep {SMALL} -o whole --form jsonl"));
    assert_eq!(again.stdout, run.stdout.replace("2 run, 0 there", "0 run, 2 there"));
    for shard in 0..4 {
        let run = workspace.pollux(&format!("sweep {SMALL} -o parts --form jsonl --shard {shard}/4 --json"));
        assert_eq!((run.code, &run.json()["written"], &run.json()["missing"]), (0, &1.into(), &(3 - shard).into()));
    }
    for folder in ["whole", "parts"] {
        let merge = workspace.pollux(&format!("sweep merge {folder} -o {folder}.csv"));
        assert_eq!(merge.code, 0, "{}", merge.stderr);
        assert!(
            run.stdout.ends_with(merge.stdout.lines().last().unwrap_or("-"))
                || run.stdout.contains(merge.stdout.lines().last().unwrap_or("-"))
        );
    }
    assert_eq!(workspace.read("whole.csv"), workspace.read("parts.csv"));
    let text = String::from_utf8(workspace.read("whole.csv")).unwrap();
    assert!(text.starts_with("point,id,work,config,memory,mapping,m,n,k,random,seed,outcome,error,cycles,"), "{text}");
    assert_eq!(text.lines().count(), 13);
}

#[test]
fn a_dry_run_shows_the_points_and_writes_nothing() {
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("sweep {SMALL} --dry-run"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("matmul m=8 n=16 k=24") && run.stdout.ends_with("12 points in 2 shards\n"),
        "{}",
        run.stdout
    );
    let json = workspace.pollux(&format!("sweep {SMALL} --dry-run --json")).json();
    assert_eq!(json["list"].as_array().map(Vec::len), Some(12));
    assert_eq!(workspace.files(), [""; 0]);
}

/// Shards with the times at which they were written.
fn shards(folder: &Path) -> BTreeMap<String, SystemTime> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry));
    let shards = named.filter(|(name, _)| name.starts_with("shard-"));
    shards.map(|(name, entry)| (name, entry.metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn a_killed_sweep_goes_on_where_it_was_and_has_the_same_content() {
    let workspace = Workspace::new();
    workspace.write("long.toml", LONG);
    let folder = workspace.path("killed");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("pollux"))
        .current_dir(workspace.path("."))
        .args(["sweep", "long.toml", "-o", "killed", "--jobs", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The time is a bound for a machine that has stopped, not one that is slow.
    let begin = Instant::now();
    while shards(&folder).len() < 2 && begin.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = shards(&folder);
    assert!(before.len() >= 2 && before.len() < 20, "{} shards were there when it was killed", before.len());
    let refused = workspace.pollux("sweep merge killed");
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("finished shards are not repeated"), "{}", refused.stderr);
    let resumed = workspace.pollux("sweep long.toml -o killed --json");
    assert_eq!(resumed.json()["skipped"], before.len());
    let after = shards(&folder);
    assert!(
        before.iter().all(|(name, written)| after.get(name) == Some(written)),
        "a finished shard was written again"
    );
    let whole = workspace.pollux("sweep long.toml -o whole --json");
    assert_eq!(whole.json()["result"], resumed.json()["result"]);
    assert_eq!(whole.json()["result"]["outcomes"]["ok"], 40);
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let workspace = Workspace::new();
    workspace.write("wrong.toml", "configs = 'norm16'\n\n[[work]]\noperation = 'matmul'\nm = 8\nn = 'x'\nk = 8\n");
    workspace.write("ok.toml", "configs = 'norm16'\n[[work]]\noperation = 'matmul'\nm = 8\nn = 8\nk = 8\n");
    let mut transcript = String::new();
    for line in [
        "sweep",
        "sweep ok.toml",
        "sweep wrong.toml -o out",
        "sweep nothing.toml -o out",
        "sweep ok.toml -o out --shard 1/1",
        "sweep ok.toml -o out --shard 0/2",
        "sweep ok.toml -o out --shard 0/1 --jobs 2",
        "sweep ok.toml --dry-run --jobs 2",
        "sweep merge nothing",
        "sweep merge crates -o x.csv",
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.stdout, "", "{line}");
        transcript.push_str(&format!("$ pollux {line}\n{}[exit code {}]\n\n", run.stderr, run.code));
    }
    insta::assert_snapshot!(transcript);
    assert_eq!(workspace.files(), ["ok.toml", "wrong.toml"]);
    let ok = workspace.pollux("sweep ok.toml -o out --form jsonl");
    assert_eq!(ok.code, 0, "{}", ok.stderr);
    let form = workspace.pollux("sweep merge out -o x.xls");
    assert!(form.code == 2 && form.stderr.contains("*.parquet, *.jsonl or *.csv"), "{}", form.stderr);
}
