//! Programs for the RISC-V core, from the command line: run, listed, recorded, with the simulator's words, and wrong ones.

mod common;

use common::{Workspace, root};
use serde_json::{Value, json};

const PROGRAMS: [&str; 3] = ["copy", "matmul", "loop_matmul"];

#[test]
fn programs_run_to_their_own_success() {
    let workspace = Workspace::new();
    for program in PROGRAMS {
        let run = workspace.pollux(&format!("run programs/riscv/{program}.elf"));
        assert_eq!(run.code, 0, "{program}: {}", run.stderr);
        assert!(run.stderr.starts_with("exit code 0, "), "{}", run.stderr);
        assert!(run.stdout.is_empty() || run.stdout.contains(": 0 wrong elements"), "{}", run.stdout);
    }
}

#[test]
fn the_document_of_a_run_has_exit_code_output_and_counts() {
    let workspace = Workspace::new();
    let document = workspace.pollux("run programs/riscv/matmul.elf --json --symbols").json();
    let text = document["stdout"].as_str().expect("text");
    assert!(text.starts_with("matmul: 0 wrong elements\ncycles: "), "{text}");
    assert_eq!(document["exit_code"], json!(0));
    assert_eq!(document["commands"], json!(8));
    assert_eq!(document["macs"], json!(4096));
    let instructions = document["instructions"].as_u64().expect("a number");
    let functions = document["symbols"].as_array().expect("functions");
    let total = |field: &str| functions.iter().filter_map(|f| f[field].as_u64()).sum::<u64>();
    assert_eq!((total("instructions"), total("commands")), (instructions, 8));
}

#[test]
fn a_listing_has_gemminis_instructions_by_name() {
    let workspace = Workspace::new();
    let run = workspace.pollux("dis programs/riscv/copy.elf");
    assert_eq!(run.code, 0);
    let gemmini: Vec<&str> =
        run.stdout.lines().filter_map(|line| line.split_once("gemmini.")).map(|(_, x)| x).collect();
    assert_eq!(gemmini, ["config rs1=a0 rs2=a1", "config rs1=a0 rs2=a1", "mvin rs1=a0 rs2=a1", "mvout rs1=a2 rs2=a1"]);
    let run = workspace.pollux("dis programs/riscv/copy.elf --executed");
    let commands: Vec<&str> =
        run.stdout.lines().filter_map(|line| line.split_once("> ")).map(|(_, x)| x.trim()).collect();
    assert_eq!(commands[..2], ["config_ld stride=16", "config_st stride=16"]);
    assert!(commands[2].starts_with("mvin dram=0x8000") && commands[2].ends_with("local=spad(0) cols=16 rows=16"));
    assert_eq!(commands[4], "fence");
}

#[test]
fn a_recorded_run_leaves_the_same_memory_on_both_models() {
    let workspace = Workspace::new();
    for program in PROGRAMS {
        let run = workspace.pollux(&format!("import programs/riscv/{program}.elf -o {program}.pbin"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        for options in ["--expect", "--expect --cycles"] {
            let run = workspace.pollux(&format!("run {program}.pbin {options} --json"));
            assert_eq!((run.code, &run.json()["match"]), (0, &json!(true)), "{program} {options}: {}", run.stdout);
        }
    }
    // As text the program is the same.
    let run = workspace.pollux("import programs/riscv/copy.elf -o copy.pasm");
    assert_eq!(run.code, 0);
    assert_eq!(workspace.pollux("run copy.pasm --expect").code, 0);
}

#[test]
fn logs_have_the_forms_of_the_simulator() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/riscv/copy.elf --spike-log commits.log");
    assert_eq!(run.code, 0);
    let log = String::from_utf8(workspace.read("commits.log")).expect("text");
    let first = log.lines().next().expect("a line");
    assert!(first.starts_with("core   0: 3 0x0000000080000000 (0x0000"), "{first}");
    assert!(first.contains(" x5  0x0000000080000"), "{first}");
    assert!(log.lines().any(|line| line.contains(" mem 0x0000000080001000 0x0000000000000001")), "tohost");
    let run = workspace.pollux("spike --extension=gemmini -m64 -l --log=text.log programs/riscv/copy.elf");
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
    let log = String::from_utf8(workspace.read("text.log")).expect("text");
    assert!(log.starts_with("core   0: >>>>  _start\ncore   0: 0x0000000080000000 ("), "{log}");
}

/// The ELF file of a program with one of its bytes changed.
fn changed(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(root().join("programs/riscv/copy.elf")).expect("a program");
    bytes[at] = byte;
    bytes
}

#[test]
fn what_is_no_program_for_the_core_is_said() {
    let workspace = Workspace::new();
    for (bytes, reason) in [
        (changed(4, 1), "for 32 bits"),
        (changed(5, 2), "big-endian"),
        (changed(18, 62), "another machine"),
        (changed(16, 3), "not an executable at fixed addresses"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "not a readable ELF file"),
        (changed(27, 1), "the entry point"),
    ] {
        workspace.write("bad.elf", bytes);
        for command in ["run bad.elf", "dis bad.elf", "import bad.elf", "spike bad.elf"] {
            let run = workspace.pollux(command);
            assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{command}: {reason}");
            assert!(run.stderr.contains(reason) && run.stderr.lines().count() == 1, "{}", run.stderr);
        }
    }
    let run = workspace.pollux("spike programs/softmax.pasm");
    assert!(run.code == 3 && run.stderr.contains("not an ELF file"), "{}", run.stderr);
}

#[test]
fn a_program_for_another_array_is_refused_or_explained() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/riscv/matmul.elf --config small4");
    assert_eq!(run.code, 3);
    assert!(
        run.stderr.contains("compiled for DIM = 16") && run.stderr.contains("`small4` has DIM = 4"),
        "{}",
        run.stderr
    );
    // The assembly program does not say its DIM; its first load does.
    let run = workspace.pollux("run programs/riscv/copy.elf --params small4");
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("pc main+0x") && run.stderr.contains("compiled for a larger array"), "{}", run.stderr);
    // On a larger array all it does is allowed.
    let run = workspace.pollux("run programs/riscv/copy.elf --config dim32");
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("warning: every config_ld says block_stride = 16"), "{}", run.stderr);
}

#[test]
fn a_program_that_does_not_end_is_stopped_with_its_place() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/riscv/loop_matmul.elf --instructions 20000");
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("stopped at the limit after 20000 instructions, at pc main+0x"), "{}", run.stderr);
    assert!(run.stderr.contains("Gemmini has had no command"), "{}", run.stderr);
    let document: Value = workspace.pollux("run programs/riscv/loop_matmul.elf --instructions 20000 --json").json();
    assert_eq!((&document["exit_code"], &document["instructions"]), (&json!(4), &json!(20000)));
    assert!(document["error"].as_str().is_some_and(|text| text.contains("limit")));
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let workspace = Workspace::new();
    for (line, reason) in [
        ("run programs/riscv/copy.elf --expect", "no buffers"),
        ("run programs/riscv/copy.elf --dump x", "no buffers"),
        ("run programs/softmax.pasm --symbols", "only an ELF file"),
        ("run programs/softmax.pasm --ram 16", "only an ELF file"),
        ("run programs/softmax.pasm --spike-log x.log", "only an ELF file"),
        ("run programs/softmax.pasm --instructions 5", "only an ELF file"),
        ("run programs/softmax.pasm --misaligned", "only an ELF file"),
        ("run programs/softmax.pasm -- x", "only an ELF file"),
        ("dis programs/softmax.pasm --executed", "only an ELF file"),
        ("dis programs/softmax.pasm --config small4", "only an ELF file"),
        ("spike -d programs/riscv/copy.elf", "`-d` is not an option"),
        ("spike", "required"),
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, 2, "{line}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{line}: {}", run.stderr);
    }
}

#[test]
fn the_committed_header_is_the_one_of_the_table() {
    let path = root().join("programs/riscv/include/gemmini.h");
    let header = Workspace::new().pollux("isa --header").stdout;
    if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &header).expect("a writable project");
    }
    assert_eq!(std::fs::read_to_string(path).expect("a header"), header);
}

/// The programs are built anew and do the same, where the compiler is installed.
#[test]
fn the_examples_build_with_the_compiler() {
    let compiler = "riscv64-unknown-elf-gcc";
    if std::process::Command::new(compiler).arg("--version").output().is_err() {
        eprintln!("skipped: {compiler} is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = root().join("programs/riscv");
    let copy = std::process::Command::new("cp").arg("-r").arg(&source).arg(folder.path()).status();
    assert!(copy.is_ok_and(|status| status.success()));
    let folder = folder.path().join("riscv");
    let make = |target: &str, flags: &str| {
        let pollux = format!("POLLUX={}", assert_cmd::cargo::cargo_bin("pollux").display());
        let flags = format!("FLAGS={flags}");
        let output = std::process::Command::new("make").arg("-C").arg(&folder).args([target, &pollux, &flags]).output();
        let output = output.expect("make");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    make("clean", "");
    assert_eq!(make("run", "").matches(": 0 wrong elements").count(), 2);
    assert!(make("matmul.elf.run", "--cycles").contains(": 0 wrong elements"));
}

const PLAIN: &str = "";

/// A run of a committed program on the whole system.
fn with_cycles(workspace: &Workspace, program: &str, options: &str) -> Value {
    let run = workspace.pollux(&format!("run programs/riscv/{program}.elf --cycles --json {options}"));
    assert_eq!(run.code, 0, "{program} {options}: {}", run.stderr);
    run.json()
}

#[test]
fn programs_do_on_the_whole_system_what_they_do_without_time() {
    let workspace = Workspace::new();
    let without_digits = |text: &Value| text.as_str().expect("text").replace(|c: char| c.is_ascii_digit(), "");
    for program in ["copy", "matmul"] {
        let values = workspace.pollux(&format!("run programs/riscv/{program}.elf --json")).json();
        let cycles = with_cycles(&workspace, program, PLAIN);
        for field in ["exit_code", "commands", "config"] {
            assert_eq!(cycles[field], values[field], "{program}: {field}");
        }
        assert_eq!(without_digits(&cycles["stdout"]), without_digits(&values["stdout"]), "{program}");
        let number = |field: &str| cycles[field].as_u64().expect("a number");
        assert!(number("cycles") > number("instructions") && number("instructions") > 1000, "{cycles}");
        assert!((1..number("cycles")).contains(&number("gemmini_busy_cycles")), "{cycles}");
        assert_eq!(cycles["model"], "cycles");
    }
    // The console goes to the standard output as the program writes it, what Pollux says to the standard error.
    let run = workspace.pollux("run programs/riscv/matmul.elf --cycles");
    assert_eq!(run.code, 0);
    assert!(run.stdout.starts_with("matmul: 0 wrong elements\ncycles: "), "{}", run.stdout);
    assert!(run.stderr.starts_with("exit code 0, ") && run.stderr.contains("Gemmini busy in "), "{}", run.stderr);
}

#[test]
fn the_memory_behind_the_l2_can_be_chosen() {
    let workspace = Workspace::new();
    let cycles = |options: &str| with_cycles(&workspace, "copy", options)["cycles"].as_u64().expect("a number");
    let default = cycles(PLAIN);
    assert_eq!(cycles("--memory l2:latency=40,bytes=8"), default);
    assert!(cycles("--memory l2:warm=1") < default && default < cycles("--memory l2:latency=100"));
    let [ddr3, lpddr3, firesim] = ["ddr3", "lpddr3", "firesim"].map(|kind| cycles(&format!("--memory l2:type={kind}")));
    assert!(ddr3 < lpddr3 && ddr3 != default && firesim != default, "{ddr3} {lpddr3} {firesim}");
    let document = with_cycles(&workspace, "copy", "--memory l2:type=firesim,llc_kib=1024");
    assert_eq!(document["memory"], "l2:type=firesim,llc_kib=1024");
}

#[test]
fn cycles_are_counted_by_function() {
    let workspace = Workspace::new();
    let document = with_cycles(&workspace, "matmul", "--symbols");
    let functions = document["symbols"].as_array().expect("functions");
    let total = |field: &str| functions.iter().filter_map(|f| f[field].as_u64()).sum::<u64>();
    let number = |field: &str| document[field].as_u64().expect("a number");
    assert_eq!((total("instructions"), total("commands")), (number("instructions"), 8));
    assert_eq!(total("cycles"), number("cycles"));
    assert_eq!(functions[0]["function"], "wrong", "the busiest comes first");
}

#[test]
fn a_run_with_cycles_is_stopped_at_its_limit_with_what_everybody_waits_for() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/riscv/copy.elf --cycles --limit 2500");
    assert_eq!(run.code, 4);
    for part in ["after 2500 cycles, at pc main+0x", "\n  core: ", "\n  Gemmini: ", "raise the limit"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    let document = workspace.pollux("run programs/riscv/copy.elf --cycles --limit 2500 --json").json();
    assert_eq!((&document["exit_code"], &document["simulated_cycles"]), (&json!(4), &json!(2500)));
}

#[test]
fn what_is_wrong_with_a_program_is_said_with_cycles_too() {
    let workspace = Workspace::new();
    let run = workspace.pollux("run programs/riscv/matmul.elf --cycles --config small4");
    assert!(run.code == 3 && run.stderr.contains("compiled for DIM = 16"), "{}", run.stderr);
    let run = workspace.pollux("run programs/riscv/copy.elf --cycles --params small4");
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("pc main+0x") && run.stderr.contains("compiled for a larger array"), "{}", run.stderr);
    let run = workspace.pollux("run programs/riscv/copy.elf --cycles --config dim32");
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("warning: every config_ld says block_stride = 16"), "{}", run.stderr);
    // A request to memory has more bytes than a line of the L2.
    workspace.write("wide.toml", "base = \"default16\"\ndma_maxbytes = 128\ndma_buswidth = 128\n");
    let run = workspace.pollux("run programs/riscv/copy.elf --cycles --config wide.toml");
    assert!(run.code == 3 && run.stderr.contains("dma_maxbytes"), "{}", run.stderr);
}

#[test]
fn options_that_mean_nothing_on_the_whole_system_are_refused() {
    let workspace = Workspace::new();
    for (options, reason) in [
        ("--memory bench", "choose `l2`"),
        ("--memory l2:latency=1,type=ddr3", "`latency` is no parameter"),
        ("--no-values", "needs them"),
        ("--interval 2", "sends each command"),
        ("--processor rocket", "sends each command"),
        ("--page-walk 9", "physical addresses"),
        ("--trace x.csv", "pollux import"),
        ("--commands x.csv", "pollux import"),
        ("--report text", "pollux import"),
        ("--energy horowitz45-lpddr4", "pollux import"),
        ("--no-replay", "nothing is replayed"),
        ("--instructions 5", "--limit counts cycles"),
        ("--spike-log x.log", "without --cycles"),
        ("--misaligned", "traps"),
        ("--expect", "no buffers"),
    ] {
        let run = workspace.pollux(&format!("run programs/riscv/copy.elf --cycles {options}"));
        assert_eq!(run.code, 2, "{options}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{options}: {}", run.stderr);
    }
}
