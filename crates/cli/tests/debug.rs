//! Looking inside: scripts of `pollux debug`, its terminal, and the files for other people's viewers, read by others' readers where they
//! are installed.

mod common;

use std::process::Command;

use common::{Workspace, root};
use pollux_sim::report::Cause;
use serde_json::Value;

const TILE: &str = "programs/matmul_ws_tile.pasm";

/// The results of a script, a line each.
fn script(workspace: &Workspace, lines: &str) -> Vec<Value> {
    workspace.write("script", lines);
    let run = workspace.pollux(&format!("debug {TILE} --script script"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_script_steps_forward_and_back_searches_and_explains() {
    let workspace = Workspace::new();
    let results = script(
        &workspace,
        "# a comment\ngoto 40\nback 2\nstep\nuntil completed load\nreverse-until issued load\nview station.load.0.command.text\n\
         until stall issue_executes after_load\nwhy issue_executes\nend\nview spad[0..2]\nview array.dim\n",
    );
    let cycle = |i: usize| results[i]["cycle"].as_u64().expect("a cycle");
    assert_eq!((cycle(0), cycle(1), cycle(2)), (40, 38, 39));
    assert_eq!(results[3]["hit"], results[3]["cycle"]);
    assert!(cycle(4) < cycle(3) && results[4]["hit"].is_u64());
    assert!(
        results[5]["view"].as_str().is_some_and(|text| text.starts_with("config_ld") || text.starts_with("mvin")),
        "{}",
        results[5]
    );
    let why = &results[7]["why"];
    assert_eq!(why["chain"][0]["cause"], "after_load");
    assert_eq!(why["chain"][0]["page"], "causes.md#after_load");
    let sentence = why["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("waits in the station for load"), "{sentence}");
    // It looked ahead: the command goes in the cycle that it names.
    let until = why["until"]["cycle"].as_u64().expect("a cycle");
    let again = script(&workspace, &format!("goto {}\nview blocks.5\ngoto {until}\nview blocks.5\n", until - 1));
    assert_eq!(again[1]["view"]["cause"], "after_load");
    assert_ne!(again[3]["view"]["cause"], "after_load");
    assert_eq!(results[8]["ended"], true);
    assert_eq!(results[9]["view"]["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(results[10]["view"], 4);
}

#[test]
fn faults_of_scripts_and_conditions_name_the_place_and_the_remedy() {
    let workspace = Workspace::new();
    for (text, code, expected) in [
        ("step 3\nfrobnicate\n", 3, "script:2: `frobnicate`, at `frobnicate`: this is no command: write one of goto"),
        ("goto\n", 3, "script:1: `goto`, at its end: a number is needed here: the cycle"),
        ("back far\n", 3, "script:1: `back far`, at `far`: a number is needed here: of cycles"),
        (
            "until stall mesh for 0\n",
            3,
            "`stall mesh for 0`, at `0`: a stall is counted from its first cycle: write 1 or more",
        ),
        ("goto 99999999\n", 3, "is behind the end of the run: it ends in cycle"),
        ("until\n", 3, "a condition is missing"),
        ("until spad[99999] written\n", 3, "rows 99999 are not in this memory: it has the rows 0.."),
        ("until mem[E] written\n", 3, "`E` is no address: write an address, a range"),
        ("until stall load_controller hunger\n", 3, "no cause has this name: write one of front_end_full"),
        ("until mark lunch\n", 3, "no operation has this name"),
        ("view station.loads\n", 3, "there is no such part: there are execute, load, store"),
        ("why command 999\n", 3, "no command 999 is in the station now"),
        ("# nothing\n", 3, "has no line that does something"),
    ] {
        workspace.write("script", text);
        let run = workspace.pollux(&format!("debug {TILE} --script script"));
        assert_eq!(run.code, code, "{text}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{text}: {}", run.stderr);
    }
    let run = workspace.pollux(&format!("debug {TILE}"));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("give the commands with --script"), "{}", run.stderr);
}

#[test]
fn files_for_viewers_are_written_whole_and_options_without_effect_are_refused() {
    let workspace = Workspace::new();
    let run =
        workspace.pollux(&format!("run {TILE} --cycles --perfetto a.pf --kanata a.kanata --fst a.fst --vcd a.vcd"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    for (file, begins) in
        [("a.pf", &b"\x0a"[..]), ("a.kanata", b"Kanata\t0004\n"), ("a.fst", b"\0"), ("a.vcd", b"$version")]
    {
        assert!(workspace.read(file).starts_with(begins), "{file}");
    }
    let window = workspace.pollux(&format!("run {TILE} --cycles --vcd w.vcd --from 10 --to 60"));
    assert_eq!((window.code, window.stderr.as_str()), (0, ""));
    let text = String::from_utf8(workspace.read("w.vcd")).expect("text");
    let times: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix('#')?.parse().ok()).collect();
    assert_eq!((times.first(), times.last()), (Some(&10), Some(&60)));
    for (options, expected) in [
        ("--cycles --from 10", "--from has no effect without a file"),
        ("--cycles --budget 3", "--budget has no effect without a file"),
        ("--cycles --vcd x.vcd --from 60 --to 10", "--to is not behind from"),
        ("--cycles --vcd x.vcd --from lunch", "--from lunch: neither a cycle nor the name of an operation"),
        ("--cycles --vcd x.vcd --from 99999999", "--from is behind the end of the run"),
        ("--vcd x.vcd", "--cycles"),
        ("--cycles --vcd x.vcd --from 1 --report text", "cannot be used with"),
    ] {
        let run = workspace.pollux(&format!("run {TILE} {options}"));
        assert_eq!(run.code, 2, "{options}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{options}: {}", run.stderr);
        assert!(!workspace.files().contains(&"x.vcd".to_owned()), "{options}");
    }
}

/// Says that something was not tested.
fn skip(what: &str) {
    eprintln!("skipped: {what} is not installed");
}

/// Python with Perfetto's classes: `POLLUX_PYTHON` names it, or `python3` has them.
fn python_with_perfetto() -> Option<String> {
    let python = std::env::var("POLLUX_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python).args(["-c", "import perfetto"]).output();
    has_it.is_ok_and(|output| output.status.success()).then_some(python)
}

const COUNT_SLICES: &str = "
import sys, collections
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
trace = Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
depth, commands, tracks, named = collections.Counter(), 0, {}, set()
for packet in trace.packet:
    if packet.HasField('track_descriptor'):
        tracks[packet.track_descriptor.uuid] = packet.track_descriptor.name
    for name in packet.interned_data.event_names:
        named.add(name.iid)
    event = packet.track_event
    if event.type == 1:
        assert event.name_iid in named
        commands += depth[event.track_uuid] == 0 and ' entry ' in tracks[event.track_uuid]
        depth[event.track_uuid] += 1
    if event.type == 2:
        depth[event.track_uuid] -= 1
        assert depth[event.track_uuid] >= 0
assert not any(depth.values())
print(commands)
";

#[test]
fn perfettos_own_classes_read_the_file_and_count_the_reports_commands() {
    let Some(python) = python_with_perfetto() else { return skip("PyPI's perfetto") };
    let workspace = Workspace::new();
    let run = workspace.pollux(&format!("run {TILE} --cycles --perfetto a.pf --report json"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let count = Command::new(python).arg("-c").arg(COUNT_SLICES).arg(workspace.path("a.pf")).output().expect("it runs");
    assert!(count.status.success(), "{}", String::from_utf8_lossy(&count.stderr));
    let commands: u64 = String::from_utf8_lossy(&count.stdout).trim().parse().expect("a number");
    assert_eq!(Some(commands), run.json()["report"]["totals"]["station_commands"].as_u64());
}

#[test]
fn gtkwaves_converter_reads_the_fst() {
    if Command::new("fst2vcd").arg("--help").output().is_err() {
        return skip("GTKWave's fst2vcd");
    }
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux(&format!("run {TILE} --cycles --fst a.fst --vcd a.vcd")).code, 0);
    let converted = Command::new("fst2vcd").arg(workspace.path("a.fst")).output().expect("it runs");
    let text = String::from_utf8_lossy(&converted.stdout).into_owned();
    let own = String::from_utf8(workspace.read("a.vcd")).expect("text");
    let count = |text: &str, kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!(count(&text, "$var"), count(&own, "$var"));
    assert!(count(&own, "#").abs_diff(count(&text, "#")) <= 1);
}

#[test]
fn the_terminal_shows_its_panes_in_tmux() {
    if Command::new("tmux").arg("-V").output().is_err() {
        return skip("tmux");
    }
    let workspace = Workspace::new();
    let socket = workspace.path("tmux");
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux").arg("-S").arg(&socket).args(arguments).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let pollux = assert_cmd::cargo::cargo_bin("pollux");
    let line = format!("{} debug {}", pollux.display(), root().join(TILE).display());
    tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "160", "-y", "50", &line]);
    // The machine may be slow: it is asked again until the text is there, which it must be in the end.
    let wait_for = |text: &str| {
        for _ in 0..600 {
            let screen = tmux(&["capture-pane", "-p"]);
            if screen.contains(text) {
                return screen;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("`{text}` never came:\n{}", tmux(&["capture-pane", "-p"]));
    };
    wait_for("2 Commands");
    tmux(&["send-keys", "g", "4", "0", "Enter"]);
    wait_for("cycle 40");
    tmux(&["send-keys", "h"]);
    wait_for("cycle 39");
    tmux(&["send-keys", "?"]);
    wait_for("who wrote the selected row");
    tmux(&["send-keys", "q"]);
    tmux(&["kill-server"]);
}

#[test]
fn every_cause_has_a_paragraph_in_the_book() {
    let page = std::fs::read_to_string(root().join("docs/src/causes.md")).expect("a chapter");
    for cause in Cause::ALL {
        let heading = format!("\n### {}\n\n", cause.name());
        let paragraph = page.split_once(&heading).and_then(|(_, rest)| rest.split("\n\n").next()).unwrap_or_default();
        assert!(paragraph.len() > 60, "{}: {paragraph}", cause.name());
    }
    let headings = page.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, Cause::ALL.len());
}
