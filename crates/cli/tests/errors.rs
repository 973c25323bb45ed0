//! Every way in which a user can be wrong: the message, the exit code, and that nothing is left half-written.

mod common;

use common::Workspace;

/// Runs the lines and shows them with exit codes and messages.
fn transcript(workspace: &Workspace, lines: &[&str]) -> String {
    let mut out = String::new();
    for line in lines {
        let run = workspace.pollux(line);
        assert_eq!(run.stdout, "", "nothing is printed beside the message: {line}");
        out.push_str(&format!("$ pollux {line}\n{}[exit code {}]\n\n", run.stderr, run.code));
    }
    out
}

#[test]
fn wrong_usage_exits_with_2() {
    let workspace = Workspace::new();
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "frobnicate",
            "run",
            "run x.pasm --limit 10",
            "run x.pasm --cycles --memory sram",
            "run x.pasm --cycles --interval 0",
            "run x.pasm --dump C=",
            "lower matmul --m 0 --n 1 --k 1",
            "verify",
            "verify tests/golden --jobs 0",
            "quantize model --calibration x --range mean",
            "asm -",
        ]
    ));
}

#[test]
fn files_that_cannot_be_read_exit_with_3() {
    let workspace = Workspace::new();
    workspace.write("noise.bin", [0xff, 0xfe, 0]);
    workspace.write("list.txt", "4 zz 0\n1\n200 0 0\n");
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "run nothing.pasm",
            "dis nothing.pbin",
            "asm noise.bin",
            "import list.txt",
            "import nothing",
            "import programs",
            "demo --layer noise.bin",
            "quantize nothing --calibration programs/minilm/calibration.txt",
            "quantize crates/model/tests/tiny-bert --calibration nothing.txt",
            "quantize crates/model/tests/tiny-bert --calibration programs/minilm/calibration.txt --layer 7 -o out.st",
            "verify nothing",
            "verify programs",
            "verify tests/golden --case nothing",
        ]
    ));
}

#[test]
fn damaged_binaries_exit_with_3() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux("asm programs/matmul_ws_tile.pasm -o good.pbin").code, 0);
    let good = workspace.read("good.pbin");
    workspace.write("truncated.pbin", &good[..good.len() - 7]);
    workspace.write("stub.pbin", &good[..5]);
    workspace.write("longer.pbin", [&good[..], b"x"].concat());
    let mut corrupted = good.clone();
    corrupted[good.len() / 2] ^= 1;
    workspace.write("corrupted.pbin", &corrupted);
    let mut version = good;
    version[8] = 9;
    workspace.write("version.pbin", &version);
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "run truncated.pbin",
            "run stub.pbin",
            "run longer.pbin",
            "run corrupted.pbin",
            "run version.pbin",
            "run good.pbin --config norm16",
        ]
    ));
}

#[test]
fn errors_in_assembly_text_are_shown_with_their_places() {
    let workspace = Workspace::new();
    workspace
        .write("wrong.pasm", "config small4\nmvni dram=0 local=spad(0)\nmvin dram=B local=spad(0) cols=4 rows=4\n");
    insta::assert_snapshot!(transcript(&workspace, &["asm wrong.pasm", "run wrong.pasm --cycles"]));
    let json = workspace.pollux("asm wrong.pasm --json");
    let report = json.json();
    assert_eq!((json.code, &report["exit_code"]), (3, &3.into()));
    let places: Vec<_> = report["errors"].as_array().expect("errors").iter().map(|e| e["line"].as_u64()).collect();
    assert_eq!(places, [Some(2), Some(3)]);
    assert_eq!(workspace.files(), ["wrong.pasm"]);
}

#[test]
fn impossible_configurations_exit_with_3() {
    let workspace = Workspace::new();
    workspace.write("five.toml", "base = \"default16\"\nname = \"five\"\nmesh_rows = 5\n");
    workspace.write("unknown.toml", "base = \"default16\"\nspeed = 3\n");
    workspace.write("syntax.toml", "base = \n");
    workspace.write("params.h", "#define DIM 16\n");
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "config nothing",
            "config nothing.toml",
            "config five.toml --check",
            "config unknown.toml",
            "config syntax.toml",
            "config params.h",
            "config dim3",
            "isa bogus",
            "demo --config default16",
            "lower matmul --m 4 --n 4 --k 4 --activation layernorm --config lean",
        ]
    ));
}

#[test]
fn illegal_programs_exit_with_4_and_one_message_on_both_models() {
    let workspace = Workspace::new();
    let programs = [
        ("unconfigured", "compute_preloaded a=spad(0) a_cols=4 a_rows=4 bd=garbage bd_cols=4 bd_rows=4"),
        ("rows", "config_ld stride=4\nmvin dram=0x80000000 local=spad(16382) cols=4 rows=4"),
        ("unknown", "raw funct=99 rs1=0 rs2=0"),
    ];
    let mut out = String::new();
    for (name, text) in programs {
        workspace.write(&format!("{name}.pasm"), format!("config small4\n{text}\n"));
        let functional = transcript(&workspace, &[&format!("run {name}.pasm")]);
        let cycles = transcript(&workspace, &[&format!("run {name}.pasm --cycles")]);
        assert_eq!(functional.lines().skip(1).collect::<Vec<_>>(), cycles.lines().skip(1).collect::<Vec<_>>());
        out.push_str(&functional);
    }
    insta::assert_snapshot!(out);
}

#[test]
fn illegal_programs_run_with_a_warning_or_without_if_asked() {
    let workspace = Workspace::new();
    workspace.write(
        "rows.pasm",
        "config small4\nconfig_ld stride=4\nmvin dram=0x80000000 local=spad(16382) cols=4 rows=4\n",
    );
    for mode in ["", "--cycles"] {
        let warned = workspace.pollux(&format!("run rows.pasm --policy warn {mode}"));
        assert_eq!(warned.code, 0);
        assert!(warned.stderr.starts_with("warning: command 1 (`mvin "), "{}", warned.stderr);
        let ignored = workspace.pollux(&format!("run rows.pasm --policy ignore {mode}"));
        assert_eq!((ignored.code, ignored.stderr.as_str()), (0, ""));
    }
}

#[test]
fn undefined_accesses_to_memory_exit_with_4() {
    let workspace = Workspace::new();
    let text = "config small4\nbuffer A: i8[4, 4]\nconfig_ld stride=4\nmvin dram=0x100 local=spad(0) cols=4 rows=4\n";
    workspace.write("unmapped.pasm", text);
    insta::assert_snapshot!(transcript(&workspace, &["run unmapped.pasm"]));
}

#[test]
fn a_program_at_which_the_hardware_stops_exits_with_4_and_says_what_waits() {
    let workspace = Workspace::new();
    let text = "config small4\nconfig_ex dataflow=ws\n\
                preload d=acc(0) d_cols=4 d_rows=4 c=acc(8) c_cols=4 c_rows=4\n\
                compute_preloaded a=spad(0) a_cols=4 a_rows=4 bd=garbage bd_cols=4 bd_rows=4\n";
    workspace.write("stop.pasm", text);
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "run stop.pasm --cycles",
            "run stop.pasm --cycles --policy ignore",
            "run programs/softmax.pasm --cycles --limit 100",
        ]
    ));
}

#[test]
fn a_result_that_is_not_expected_exits_with_1() {
    let workspace = Workspace::new();
    workspace.write("off.pasm", "config small4\nbuffer A: i8[2, 3] = fill 1\nexpect A = [1, 1, 1, 1, 7, 1]\n");
    let run = workspace.pollux("run off.pasm");
    assert_eq!(run.code, 1);
    assert!(run.stdout.ends_with("A: DIFFERS in 1 of 6 elements; the first at [1, 1]: expected 7, actual 1\n"));
    let report = workspace.pollux("run off.pasm --json").json();
    assert_eq!((&report["match"], &report["expected"][0]["mismatches"]), (&false.into(), &1.into()));
}

#[test]
fn buffers_that_do_not_exist_or_expect_nothing_are_named() {
    let workspace = Workspace::new();
    workspace.write("plain.pasm", "config small4\nbuffer A: i8[2, 3]\nbuffer big: i8[1 << 40] at 0 overlay\n");
    insta::assert_snapshot!(transcript(
        &workspace,
        &["run plain.pasm --dump B", "run plain.pasm --dump big", "run plain.pasm --expect"]
    ));
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let workspace = Workspace::new();
    insta::assert_snapshot!(transcript(
        &workspace,
        &[
            "asm programs/softmax.pasm -o missing/out.pbin",
            "run programs/softmax.pasm --dump scores=missing/out.npy",
            "run programs/softmax.pasm --cycles --trace missing/out.csv",
            "run programs/softmax.pasm --cycles --trace out.csv --limit 100",
        ]
    ));
    assert_eq!(workspace.files(), [""; 0]);
}

#[test]
fn errors_are_json_if_asked_for() {
    let run = Workspace::new().pollux("run nothing.pasm --json");
    assert_eq!((run.code, run.stderr.as_str()), (3, ""));
    insta::assert_snapshot!(run.stdout);
}
