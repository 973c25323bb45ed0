//! `pollux run --commit-log`: both models write the same for the same program.

mod common;

use common::{Workspace, root};

/// Programs of every kind: single commands of both dataflows, loops, convolutions, norms, additions.
const PROGRAMS: [&str; 9] = [
    "the demo's layer",
    "matmul_ws_tile.pasm",
    "matmul_os_tile.pasm",
    "matmul_ws_blocked.pasm",
    "loop_ws_matmul.pasm",
    "residual_add.pasm",
    "softmax.pasm",
    "parity/aligned.pasm",
    "parity/conv_with_pool.toml",
];

#[test]
fn both_models_write_the_same_log() {
    let workspace = Workspace::new();
    for program in PROGRAMS {
        let path = root().join("programs").join(program);
        let mut path = path.display().to_string();
        if program == "the demo's layer" {
            assert_eq!(workspace.pollux("demo -o layer.pbin").code, 0);
            path = "layer.pbin".into();
        }
        if program.ends_with(".toml") {
            assert_eq!(workspace.pollux(&format!("lower list {path} -o list.pbin")).code, 0, "{program}");
            path = "list.pbin".into();
        }
        let run = |options: &str, file: &str| {
            let run = workspace.pollux(&format!("run {path} {options} --commit-log {file}"));
            assert_eq!(run.code, 0, "{program}: {}", run.stderr);
            String::from_utf8(workspace.read(file)).expect("text")
        };
        let functional = run("", "functional.log");
        for options in ["--cycles", "--cycles --memory bandwidth:bytes=8,latency=90", "--cycles --memory dram"] {
            let cycles = run(options, "cycles.log");
            let first = functional.lines().zip(cycles.lines()).position(|(a, b)| a != b);
            let around = |text: &str| {
                let start = first.unwrap_or(0).saturating_sub(6);
                text.lines().skip(start).take(12).collect::<Vec<_>>().join("\n")
            };
            assert!(
                functional == cycles,
                "{program} {options}: line {first:?}\n{}\n---\n{}",
                around(&functional),
                around(&cycles)
            );
        }
        let effects = functional.lines().filter(|line| line.starts_with("  mem ")).count();
        assert!(functional.starts_with("cmd 0 ") && effects > 0, "{program}: {functional}");
    }
}

#[test]
fn a_log_says_what_a_command_has_written() {
    let workspace = Workspace::new();
    workspace.write(
        "copy.pasm",
        "config small4
buffer x: i8[4, 4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
buffer y: i8[4, 4]
spad rows[4]
config_ld stride=x.stride
config_st stride=y.stride
mvin dram=x local=rows cols=4 rows=4
mvout dram=y local=rows cols=4 rows=3
fence
",
    );
    let run = workspace.pollux("run copy.pasm --cycles --commit-log log");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = String::from_utf8(workspace.read("log")).expect("text");
    // CRC-32 of the bytes 1 to 16, and of 1 to 12, by zlib.
    let effects: Vec<&str> = log.lines().filter(|line| !line.starts_with("cmd ")).collect();
    assert_eq!(log.lines().filter(|line| line.starts_with("cmd ")).count(), 4);
    assert_eq!(effects[0], "  spad 0x0000 <- 4 rows crc32=094c80f1", "{log}");
    assert!(effects[1].starts_with("  mem 0x") && effects[1].ends_with("<- 12 bytes crc32=925fc655"), "{log}");
    assert_eq!(effects.len(), 2, "{log}");
}

#[test]
fn a_log_changes_nothing_else_that_is_asked_for() {
    let workspace = Workspace::new();
    let program = root().join("programs/softmax.pasm").display().to_string();
    let document = |options: &str| {
        let run =
            workspace.pollux(&format!("run {program} --cycles --energy horowitz45-lpddr4 --report json {options}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let mut document = run.json();
        document.as_object_mut().expect("an object").remove("simulated_cycles");
        document
    };
    assert_eq!(document(""), document("--commit-log log"));
}

#[test]
fn what_hinders_a_log_is_refused() {
    let workspace = Workspace::new();
    let program = root().join("programs/softmax.pasm").display().to_string();
    for (options, reason) in [
        ("--cycles --no-values --commit-log log", "cannot be used with"),
        ("--cycles --from 10 --perfetto p --commit-log log", "cannot be used with"),
        ("--cycles --processor rocket --commit-log log", "cannot be used with"),
        ("--cycles --memory l2 --commit-log log", "give another --memory"),
    ] {
        let run = workspace.pollux(&format!("run {program} {options}"));
        assert!(run.code != 0 && run.stderr.contains(reason), "{options}: {}", run.stderr);
    }
    assert_eq!(workspace.files(), [""; 0]);
}
