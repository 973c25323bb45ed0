//! Programs as users give them: every kind of file, any size, and one verdict on a program whichever model runs it.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use common::{Run, Workspace, root};
use serde_json::Value;

/// Runs `pollux` with so many KiB of address space, most of which the program itself and its threads take.
fn within(workspace: &Workspace, kib: u64, line: &str) -> Run {
    let program = assert_cmd::cargo::cargo_bin("pollux");
    let script = format!("ulimit -v {kib}; exec '{}' {line}", program.display());
    let output = Command::new("sh").args(["-c", &script]).current_dir(workspace.path(".")).output().expect("a shell");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn what_is_no_text_gets_one_error() {
    let workspace = Workspace::new();
    let utf16: Vec<u8> = "\u{feff}config small4\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (contents, reason) in [
        (vec![0; 16_000], "byte 0 is 0x00, a control character"),
        (b"config small4\n\x7fELF\x02\x01\x01\0".repeat(1000), "byte 14 is 0x7f, a control character"),
        (b"config small4 # caf\xe9\n".to_vec(), "byte 19 is 0xe9, which is not UTF-8"),
        ((0..=255).cycle().skip(128).take(50_000).collect(), "byte 128 is 0x00, a control character"),
        (utf16, "it is UTF-16 text: save it as UTF-8"),
    ] {
        workspace.write("x", contents);
        for command in ["run x", "asm x", "dis x", "run x --cycles"] {
            let run = workspace.pollux(command);
            let message = run.stderr.lines().next().unwrap_or_default();
            assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{command}");
            assert_eq!(
                run.stderr.lines().filter(|line| line.contains("not assembly text")).count(),
                1,
                "{}",
                run.stderr
            );
            assert!(run.stderr.contains(reason), "{message}");
            assert!(run.stderr.len() < 1000, "{} bytes of message", run.stderr.len());
        }
    }
    // An endless device is no text either.
    assert_eq!(workspace.pollux("run /dev/zero").code, 3);
    assert_eq!(workspace.files(), ["x"]);
}

#[test]
fn byte_order_marks_and_line_ends_of_other_systems_do_not_matter() {
    let workspace = Workspace::new();
    let text = fs::read_to_string(root().join("programs/matmul_ws_tile.pasm")).expect("an example");
    workspace.write("dos.pasm", format!("\u{feff}{}", text.replace('\n', "\r\n")));
    let run = workspace.pollux("run dos.pasm --expect");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    workspace.write("included.pasm", "config small4\ninclude \"mark.pasm\"\n");
    workspace.write("mark.pasm", "\u{feff}fence\r\n");
    assert_eq!(workspace.pollux("run included.pasm").code, 0);
}

#[test]
fn a_program_for_another_configuration_is_refused_whatever_its_form() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux("asm programs/matmul_ws_tile.pasm -o tile.pbin").code, 0);
    let refused = "the program is for configuration `small4`, not `dim32`; they differ in";
    for command in [
        "run tile.pbin --config dim32",
        "run programs/matmul_ws_tile.pasm --config dim32",
        "run programs/matmul_ws_tile.pasm --config dim32 --cycles",
        "asm programs/matmul_ws_tile.pasm --config dim32 -o other.pbin",
    ] {
        let run = workspace.pollux(command);
        assert_eq!(run.code, 3, "{command}");
        assert!(run.stderr.contains(refused), "{command}: {}", run.stderr);
    }
    assert_eq!(workspace.files(), ["tile.pbin"]);
    assert_eq!(workspace.pollux("run programs/matmul_ws_tile.pasm --config small4 --expect").code, 0);
}

/// Bytes of address space in which a program of a few lines runs, in KiB: found by doubling, so that the limits below
/// are about the input and not about this build.
fn smallest(workspace: &Workspace) -> u64 {
    workspace.write("small.pasm", "config small4\nfence\n");
    let mut kib = 16 << 10;
    while within(workspace, kib, "asm small.pasm -o small.pbin").code != 0 {
        kib += 16 << 10;
        assert!(kib < 8 << 20, "a small program needs too much");
    }
    kib
}

#[test]
fn a_long_program_takes_little_more_memory_than_its_text_and_its_binary() {
    let workspace = Workspace::new();
    let mut text = "config default16\nbuffer A: i8[1024, 64]\nconfig_ld stride=64\n".to_owned();
    for index in 0..100_000 {
        let _ = writeln!(text, "mvin dram=A[{}, 0] local=spad({}) cols=64 rows=16", index % 1000, index * 64 % 16_000);
    }
    let bytes = text.len() as u64;
    workspace.write("flat.pasm", text);
    // The text, its copy with positions, items of 32 bytes, and a binary that doubles as it grows.
    let limit = smallest(&workspace) + 6 * bytes / 1024;
    let run = within(&workspace, limit, "asm flat.pasm -o flat.pbin");
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// Texts of about so many bytes that are hard to read, each of another kind.
fn hostile(bytes: usize) -> Vec<(&'static str, String)> {
    let many = |part: &str| part.repeat(bytes / part.len());
    let numbered = |line: fn(usize) -> String| (0..bytes / line(100_000).len()).map(line).collect::<String>();
    vec![
        ("parentheses", format!("config small4\nwait {}1{}\n", many("("), many(")"))),
        ("brackets", format!("config small4\nbuffer A: i8[1] = {}\n", many("["))),
        ("minus signs", format!("config small4\nwait {}1\n", many("-"))),
        ("choices", format!("config small4\nwait {}1\n", many("1 ? 2 : "))),
        ("a sum", format!("config small4\nwait 1{}\n", many(" + 1"))),
        ("blocks", format!("config small4\n{}", many("if 1\n"))),
        ("closed blocks", format!("config small4\n{}{}", many("repeat 1\n"), many("end\n"))),
        ("macros", format!("config small4\n{}", many("macro m\n"))),
        ("wrong lines", format!("config small4\n{}", many("mvni a=1\n"))),
        ("wrong characters on a line", format!("config small4\n{}", many("\u{a7}"))),
        ("a name", format!("config small4\n{}\n", many("m"))),
        ("a number", format!("config small4\nwait {}\n", many("1"))),
        ("a string", format!("config small4\nmark \"{}\n", many("x"))),
        ("open long strings", format!("config small4\n{}", many("mark \"\"\"\n"))),
        ("backslashes", format!("config small4\nmark \"{}\"\n", many("\\q"))),
        ("operands", format!("config small4\nmvin {}\n", numbered(|n| format!("x{n}=1 ")))),
        ("parameters", format!("config small4\nmacro m {}\nend\n", numbered(|n| format!("p{n} ")))),
        ("extents", format!("config small4\nbuffer A: i8[{}1]\n", many("1, "))),
        ("indices", format!("config small4\nbuffer A: i8[1]\nwait A[{}0]\n", many("0, "))),
        ("constants", format!("config small4\n{}", numbered(|n| format!("const c{n} = {n}\n")))),
        (
            "constants of a block",
            format!("config small4\nrepeat 1\n{}end\n", numbered(|n| format!("const c{n} = {n}\n"))),
        ),
        ("buffers", format!("config small4\n{}", numbered(|n| format!("buffer b{n}: i8[1]\n")))),
        (
            "buffers over each other",
            format!("config small4\n{}", numbered(|n| format!("buffer b{n}: i8[1 << 30] at {n} overlay\n"))),
        ),
        ("regions", format!("config small4\n{}", numbered(|n| format!("spad r{n}[1] at {}\n", n % 100)))),
        ("a list", format!("config small4\nbuffer A: i8[{}] = [{}]\n", bytes / 4, many("-1, "))),
        (
            "an unknown name in a loop",
            format!("config small4\n{}repeat 100000\nwait d\nend\n", numbered(|n| format!("const c{n} = {n}\n"))),
        ),
    ]
}

#[test]
fn hostile_texts_are_read_in_linear_memory_and_refused_in_a_few_lines() {
    let workspace = Workspace::new();
    let bytes = 300_000;
    let limit = smallest(&workspace) + 120 * bytes as u64 / 1024;
    for (name, text) in hostile(bytes) {
        workspace.write("hostile.pasm", text);
        let run = within(&workspace, limit, "dis hostile.pasm -o out.pasm");
        assert!([0, 3].contains(&run.code), "{name}: {} {}", run.code, &run.stderr[..run.stderr.len().min(500)]);
        assert!(run.stderr.len() < 300_000, "{name}: {} bytes of messages", run.stderr.len());
        assert_eq!(run.code == 3, run.stderr.contains("error"), "{name}");
    }
}

#[test]
fn numbers_and_sizes_beyond_all_bounds_are_refused_with_what_they_need() {
    let workspace = Workspace::new();
    for (line, message) in [
        ("wait 18446744073709551616", "`18446744073709551616` does not fit 64 bits"),
        ("wait 99999999999999999999999999999999999999999999", "does not fit 64 bits"),
        ("wait 1 << 64", "18446744073709551616 is not a number of cycles"),
        ("wait 0 - 1", "-1 is not a number of cycles"),
        ("wait 1 << 126 << 1", "has no representable result"),
        ("buffer A: i8[1 << 60] = fill 0", "need 1152921504606846976 bytes"),
        ("buffer A: i8[1 << 40, 1 << 40]", "reaches beyond the 64-bit address space"),
        ("buffer A: i8[1 << 62] at 1 << 63\nbuffer B: i8[1 << 62] at (1 << 63) + 1", "shares memory with `A`"),
        ("write 0: i8[1 << 50] = each i: i", "need 1125899906842624 bytes"),
        ("repeat 1 << 70\nend", "takes more than 67108864 steps"),
    ] {
        workspace.write("x.pasm", format!("config small4\n{line}\n"));
        let run = workspace.pollux("asm x.pasm");
        assert_eq!(run.code, 3, "{line}");
        assert!(run.stderr.contains(message), "{line}: {}", run.stderr);
    }
    // The largest wait, and a buffer that nothing fills, need no more than any other.
    workspace.write("x.pasm", "config small4\nbuffer A: i8[1 << 60]\nwait 18446744073709551615\nfence\n");
    assert_eq!(workspace.pollux("run x.pasm").code, 0);
    let run = workspace.pollux("run x.pasm --dump A");
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("1152921504606846976 bytes"), "{}", run.stderr);
}

/// The same verdict with and without `--cycles`: exit code, messages, and the contents of a buffer.
fn both(workspace: &Workspace, options: &str) -> Run {
    let [functional, cycles] = ["", "--cycles"].map(|mode| workspace.pollux(&format!("run x.pasm {options} {mode}")));
    assert_eq!((functional.code, &functional.stderr), (cycles.code, &cycles.stderr), "{options}");
    functional
}

const MOVES: &str = "config default16
buffer A: i8[16, 16] = fill 3
buffer C: i8[16, 16]
config_ld stride=16
config_st stride=16
";

#[test]
fn both_models_refuse_the_same_accesses_to_main_memory() {
    let workspace = Workspace::new();
    let load = "mvin dram=A local=spad(0) cols=16 rows=16";
    for (line, message) in [
        (
            "mvout dram=0x12345678 local=spad(0) cols=16 rows=16",
            "command 3 (`mvout dram=0x12345678 local=spad(0) cols=16 rows=16`): writes 16 bytes at 0x12345678",
        ),
        (
            "mvout dram=C[1, 0] local=spad(0) cols=16 rows=16",
            "writes 16 bytes at 0x80000200, but 0x80000200 is in no declared",
        ),
        (
            "mvin dram=A[15, 8] + 256 local=spad(0) cols=16 rows=1",
            "reads 16 bytes at 0x800001f8, but 0x80000200 is in no declared",
        ),
        ("config_ld stride=4096\nmvin dram=A local=spad(0) cols=16 rows=16", "reads 16 bytes at 0x80001000"),
    ] {
        workspace.write("x.pasm", format!("{MOVES}{load}\n{line}\nfence\n"));
        let refused = both(&workspace, "");
        assert_eq!(refused.code, 4, "{line}");
        assert!(refused.stderr.contains(message), "{line}: {}", refused.stderr);
        let warned = both(&workspace, "--policy warn");
        assert_eq!(warned.code, 0, "{line}");
        assert!(warned.stderr.starts_with("warning: command ") && warned.stderr.contains("no declared memory range"));
        assert_eq!(both(&workspace, "--policy ignore").stderr, "");
    }
}

#[test]
fn accesses_of_loops_are_checked_command_by_command() {
    let workspace = Workspace::new();
    let text = "config default16
        buffer A: i8[32, 32]\nbuffer B: i8[32, 32]\nbuffer C: i8[32, 32]
        config_ex dataflow=ws\nconfig_st stride=32\nconfig_ld stride=32\nconfig_ld state_id=1 stride=32
        loop_ws_config_bounds i=2 j=2 k=2\nloop_ws_config_addrs_ab a=A b=B
        loop_ws_config_addrs_dc d=0 c=C[1, 0]\nloop_ws_config_strides_ab a_stride=32 b_stride=32
        loop_ws_config_strides_dc d_stride=0 c_stride=32\nloop_ws\nfence\n";
    workspace.write("x.pasm", text);
    let refused = both(&workspace, "");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("of the loop (mvout): writes 32 bytes at 0x80000c00"), "{}", refused.stderr);
    workspace.write("x.pasm", text.replace("C[1, 0]", "C"));
    assert_eq!(both(&workspace, "").code, 0);
}

#[test]
fn both_models_warn_of_writes_of_the_processor_that_race() {
    let workspace = Workspace::new();
    let program = |line: &str, between: &str| {
        format!("{MOVES}mvin dram=A local=spad(0) cols=16 rows=16\n{line}\n{between}\nwrite A[3, 4]: i8[2] = fill 9\n")
    };
    workspace.write("x.pasm", program("", ""));
    let warned = both(&workspace, "");
    assert_eq!(warned.code, 0);
    assert_eq!(
        warned.stderr,
        "warning: command 2 (`mvin dram=A local=spad(0) cols=16 rows=16`): reads bytes at 0x80000034 that the processor \
         writes behind command 2 without a fence in between: the transfer may come before that write or after it; put a \
         fence before the write\n"
    );
    assert_eq!(both(&workspace, "--policy ignore").stderr, "");
    workspace.write("x.pasm", program("mvout dram=A[3, 0] local=spad(0) cols=16 rows=1", "wait 3"));
    assert!(both(&workspace, "").stderr.contains("that the processor writes behind command 3"));
    workspace.write("x.pasm", program("mvout dram=A[3, 0] local=spad(0) cols=16 rows=1", "fence"));
    assert_eq!(both(&workspace, "").stderr, "");
    // Bytes between the rows are nobody's.
    workspace.write(
        "x.pasm",
        format!("{MOVES}mvin dram=A local=spad(0) cols=4 rows=16\nwrite A[3, 4]: i8[2] = fill 9\nfence\n"),
    );
    assert_eq!(both(&workspace, "").stderr, "");
}

/// Streams that published programs have and the RTL defines, whatever assertions its simulation makes.
const DEFINED: [(&str, &str); 9] = [
    (
        "one block needs no block stride",
        "config_ld stride=16 block_stride=4\nmvin dram=A local=spad(0) cols=16 rows=16
      mvout dram=C local=spad(0) cols=16 rows=16",
    ),
    (
        "bd is garbage without extents",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      raw funct=4 rs1=0x0010001000000000 rs2=0x00000000ffffffff\nmvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "and the command behind it has a preload",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      raw funct=4 rs1=0x0010001000000000 rs2=0x00000000ffffffff\npreload d=spad(0) c=accumulate(acc(0))
      raw funct=5 rs1=0x0010001000000000 rs2=0xffffffffffffffff\nmvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "d of no rows is zeros",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) d_rows=0 c=acc(0)
      compute_preloaded a=spad(0) bd=spad(0)\nmvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "a of no rows is zeros",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      compute_preloaded a=spad(0) a_rows=0 a_cols=0 bd=spad(0)\nmvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "garbage a of no columns is zeros",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      compute_preloaded a=garbage a_cols=0 bd=spad(0)\nmvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "a result of no columns is not written",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      compute_preloaded a=spad(0)\npreload d=spad(0) c=acc(0) c_cols=0\ncompute_preloaded a=spad(0) bd=spad(0)
      preload d=spad(0) c=acc(0) c_rows=0\ncompute_preloaded a=spad(0) bd=spad(0)
      mvout dram=C local=acc(0) cols=16 rows=16",
    ),
    (
        "a garbage row is stored as zeros",
        "mvin dram=A local=spad(0) cols=16 rows=16
      mvout dram=C local=spad(0) cols=16 rows=16\nmvout dram=C[5, 0] local=garbage cols=16 rows=1",
    ),
    (
        "a loop that only stores has no k",
        "mvin dram=A local=spad(0) cols=16 rows=16\npreload d=spad(0) c=acc(0)
      compute_preloaded a=spad(0)\nfence\nloop_ws_config_bounds i=1 j=1 k=0\nloop_ws_config_addrs_ab a=0 b=0
      loop_ws_config_addrs_dc d=0 c=C\nloop_ws_config_strides_ab a_stride=16 b_stride=16
      loop_ws_config_strides_dc d_stride=0 c_stride=16\nloop_ws skip_lda skip_ldb skip_ldd skip_ex",
    ),
];

#[test]
fn what_the_rtl_defines_is_legal_and_both_models_agree_on_it() {
    let workspace = Workspace::new();
    for dataflow in ["ws", "os"] {
        for (name, lines) in DEFINED {
            if dataflow == "os" && (name.contains("loop") || lines.contains("funct=5")) {
                continue;
            }
            let text = MOVES.replace("fill 3", "each i, j: (i * 7 + j * 5) % 23 - 11");
            workspace.write("x.pasm", format!("{text}config_ex dataflow={dataflow}\n{lines}\nfence\n"));
            let [functional, cycles] = ["", "--cycles"].map(|mode| {
                let run = workspace.pollux(&format!("run x.pasm --dump C --json {mode}"));
                assert_eq!(run.code, 0, "{name}, {dataflow} {mode}: {}", run.stdout);
                run.json()
            });
            assert_eq!(functional["dumps"], cycles["dumps"], "{name}, {dataflow}");
            assert_ne!(functional["dumps"], Value::Null);
            // A simulation of the RTL would stop at its own assertion; the hardware has none.
            let warnings = cycles["warnings"].as_array().expect("a list");
            let told =
                |warning: &Value| warning.as_str().is_some_and(|text| text.starts_with("the RTL asserts otherwise"));
            assert!(warnings.iter().all(told), "{name}, {dataflow}: {warnings:?}");
        }
    }
}

/// The same block through the scratchpad again and again.
const COPIES: &str = "config small4
buffer x: i8[4, 4] = fill 3
buffer y: i8[4, 4]
spad rows[4]
config_ld stride=x.stride
config_st stride=y.stride
repeat i in 0..200
    mvin dram=x local=rows cols=4 rows=4
    mvout dram=y local=rows cols=4 rows=4
    fence
end
";

#[test]
fn what_was_simulated_before_is_replayed_unless_that_is_turned_off() {
    let workspace = Workspace::new();
    workspace.write("copies.pasm", COPIES);
    let run = |options: &str| {
        let run = workspace.pollux(&format!("run copies.pasm --cycles --no-values {options}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        run
    };
    let (replayed, simulated) = (run(""), run("--no-replay"));
    assert_eq!(replayed.stdout, simulated.stdout);
    assert!(
        replayed.stderr.starts_with("note: ") && replayed.stderr.contains(" cycles simulated, "),
        "{}",
        replayed.stderr
    );
    assert_eq!(simulated.stderr, "");
    let number = |options: &str, key: &str| run(&format!("{options} --json")).json()[key].as_u64().expect("a number");
    let cycles = number("", "cycles");
    assert!(number("", "replayed_cycles") > cycles / 2);
    assert!(number("", "simulated_cycles") < cycles / 2);
    for options in ["--no-replay", "--check-replay 1", "--check-replay 0.5", "--replay-table-size 1"] {
        assert_eq!(number(options, "cycles"), cycles, "{options}");
    }
    assert_eq!(number("--check-replay 1", "replayed_cycles"), 0);
    let priced = |options: &str| {
        let json = run(&format!("{options} --energy horowitz45-lpddr4 --json")).json();
        (json["energy"].clone(), json["replayed_cycles"].as_u64().expect("a number"))
    };
    let (energy, replayed) = priced("");
    assert!(replayed > cycles / 2);
    assert_eq!((energy, 0), priced("--no-replay"));
    let profiled = |options: &str| {
        let json = run(&format!("{options} --report json")).json();
        (json["report"].clone(), json["replayed_cycles"].as_u64().expect("a number"))
    };
    let (report, replayed) = profiled("");
    assert!(report["blocks"].is_array() && replayed > cycles / 2, "{replayed} of {cycles}");
    assert_eq!((report, 0), profiled("--no-replay"));
    assert!(number("--check-replay 0.5", "replayed_cycles") < number("", "replayed_cycles"));
}

#[test]
fn a_later_run_replays_what_an_earlier_one_left_on_disk() {
    let workspace = Workspace::new();
    workspace.write("copies.pasm", COPIES);
    let run = |options: &str| {
        let run =
            workspace.pollux(&format!("run copies.pasm --cycles --no-values --json --replay-tables tables {options}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let number = |key: &str| run.json()[key].as_u64().expect("a number");
        (number("cycles"), number("simulated_cycles"), number("replayed_cycles"))
    };
    let files = || -> Vec<_> {
        let entries = fs::read_dir(workspace.path("tables")).expect("a folder");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let first = run("");
    let [file] = &files()[..] else { panic!("one file: {:?}", files()) };
    let written = fs::read(file).expect("a table");
    let second = run("");
    assert!(second.0 == first.0 && second.1 < first.1 / 2, "{first:?}, then {second:?}");
    assert_eq!(fs::read(file).expect("a table"), written, "nothing was learnt");
    assert_eq!(run("--check-replay 0.5").0, first.0);
    // Another memory has a table of its own.
    run("--memory bench:latency=7");
    assert_eq!(files().len(), 2);

    let mut damaged = written.clone();
    damaged[written.len() / 2] ^= 1;
    for damage in [&damaged[..], &written[..20], b""] {
        fs::write(file, damage).expect("a file");
        let said = workspace.pollux("run copies.pasm --cycles --no-values --replay-tables tables").stderr;
        assert!(said.contains("warning: ") && said.contains("damaged; it is not used"), "{said}");
        assert_eq!(fs::read(file).expect("a table"), written);
        fs::write(file, damage).expect("a file");
        assert_eq!(run(""), first);
    }
}

/// LayerNorm of a constant row, whose variance is zero, and of another one.
const NORMS: &str = "config norm16
buffer x: i32[2, 16] = fill 3
buffer y: i8[2, 16]
expect y = fill 1
write x[1, 0]: i32[1] = fill 40
acc rows[2]
config_ld stride=x.stride
config_st stride=y.stride acc_scale=1.0 activation=layernorm
mvin dram=x local=rows cols=16 rows=2
repeat row in 0..2
    mvout dram=y[row] local=norm(rows[row], mean) cols=16 rows=1
    mvout dram=y[row] local=norm(rows[row], inv_stddev) cols=16 rows=1
    mvout dram=y[row] local=rows[row] cols=16 rows=1
end
fence
";

#[test]
fn cycles_without_values_are_the_same_and_say_what_is_left_out() {
    let workspace = Workspace::new();
    workspace.write("norms.pasm", NORMS);
    for (program, left_out) in [
        ("programs/matmul_ws_tile.pasm", "values left out: no results\n"),
        (
            "norms.pasm",
            "values left out: no results; the functional model listed the normalizer's divisions with a zero operand, 1 of 4\n",
        ),
    ] {
        let line = format!("run {program} --cycles --report csv --interval 3 --policy warn");
        let (full, timing) = (workspace.pollux(&line), workspace.pollux(&format!("{line} --no-values")));
        assert_eq!((timing.code, timing.stdout.as_str()), (0, full.stdout.as_str()), "{}", timing.stderr);
        let timing = workspace.pollux(&format!("run {program} --cycles --no-values"));
        assert!(timing.code == 0 && timing.stdout.ends_with(left_out), "{}{}", timing.stdout, timing.stderr);

        let json = |options: &str| -> Value {
            let run = workspace.pollux(&format!("run {program} --cycles --json {options}"));
            serde_json::from_str(&run.stdout).expect("a document")
        };
        let (full, timing) = (json(""), json("--no-values"));
        assert_eq!((&full["values"], &full["divisions"]), (&Value::Bool(true), &Value::Null));
        assert_eq!((&timing["values"], &timing["match"]), (&Value::Bool(false), &Value::Null));
        let simulated = json("--no-values --no-replay");
        for key in ["cycles", "busy_cycles", "reads", "writes", "bytes_in", "bytes_out"] {
            assert_eq!(full[key], timing[key], "{key}");
            assert_eq!(full[key], simulated[key], "{key}");
        }
        assert_eq!(full["simulated_cycles"], simulated["simulated_cycles"]);
        assert_eq!((&full["replayed_cycles"], &simulated["replayed_cycles"]), (&Value::from(0), &Value::from(0)));
    }
    let timing = workspace.pollux("run norms.pasm --cycles --no-values --json");
    let document: Value = serde_json::from_str(&timing.stdout).expect("a document");
    assert_eq!((&document["divisions"], &document["zero_divisions"]), (&Value::from(4), &Value::from(1)));
    let stopped = workspace.pollux("run norms.pasm --cycles --no-values --limit 20");
    assert!(stopped.code == 4 && stopped.stderr.contains("its limit of 20 cycles"), "{}", stopped.stderr);
    let refused = workspace.pollux("run norms.pasm --cycles --no-values --expect");
    assert!(
        refused.code == 2 && refused.stderr.contains("'--no-values' cannot be used with '--expect'"),
        "{}",
        refused.stderr
    );
}
