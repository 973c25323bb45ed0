//! Outputs: nothing that the user has is lost, replaced or half-written, whatever the output is and whenever a run ends.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Workspace;

const LOWER: &str = "lower matmul --m 8 --n 8 --k 8";

fn fifo(workspace: &Workspace, name: &str) {
    let made = Command::new("mkfifo").arg(workspace.path(name)).status().expect("mkfifo");
    assert!(made.success());
}

fn child(workspace: &Workspace, line: &str) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("pollux"))
        .current_dir(workspace.path("."))
        .args(common::words(line))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// All names in the folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_fifo_gets_the_bytes_and_stays_a_fifo() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux(&format!("{LOWER} -o regular.pbin")).code, 0);
    for line in [format!("{LOWER} -o fifo"), "asm programs/softmax.pasm -o fifo".to_owned()] {
        fifo(&workspace, "fifo");
        let path = workspace.path("fifo");
        let reader = std::thread::spawn(move || fs::read(path).expect("the bytes"));
        let run = workspace.pollux(&line);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let bytes = reader.join().expect("a reader");
        assert!(bytes.starts_with(&workspace.read("regular.pbin")[..8]), "{line}: {} bytes", bytes.len());
        assert!(fs::metadata(workspace.path("fifo")).expect("it exists").file_type().is_fifo());
        fs::remove_file(workspace.path("fifo")).expect("removed");
    }
}

#[test]
fn a_fifo_whose_reader_goes_away_ends_the_run_quietly() {
    let workspace = Workspace::new();
    fifo(&workspace, "fifo");
    let path = workspace.path("fifo");
    let reader = std::thread::spawn(move || fs::File::open(path).map(drop));
    let run = workspace.pollux("lower encoder-layer -o fifo");
    reader.join().expect("a reader").expect("opened");
    assert_eq!((run.code, run.stderr.as_str()), (141, ""));
}

#[test]
fn devices_are_written_to_and_stay() {
    let workspace = Workspace::new();
    // Links in a folder of our own: were they replaced, the system's devices would be safe all the same.
    symlink("/dev/null", workspace.path("null")).expect("a link");
    symlink("/dev/full", workspace.path("full")).expect("a link");
    let run = workspace.pollux(&format!("{LOWER} -o null"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = workspace.pollux("run programs/softmax.pasm --cycles --trace null --commands null");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = workspace.pollux(&format!("{LOWER} -o full"));
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("cannot write `full`"), "{}", run.stderr);
    for name in ["null", "full"] {
        assert!(fs::symlink_metadata(workspace.path(name)).expect("it exists").is_symlink());
    }
}

#[test]
fn a_symbolic_link_stays_and_its_file_is_written() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("below")).expect("a folder");
    workspace.write("below/real.pbin", "old");
    symlink("below/real.pbin", workspace.path("one")).expect("a link");
    symlink("one", workspace.path("two")).expect("a link");
    symlink("below/new.pbin", workspace.path("dangling")).expect("a link");
    symlink("circle", workspace.path("circle")).expect("a link");
    assert_eq!(workspace.pollux(&format!("{LOWER} -o plain.pbin")).code, 0);
    for name in ["two", "dangling"] {
        let run = workspace.pollux(&format!("{LOWER} -o {name}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(fs::symlink_metadata(workspace.path(name)).expect("it exists").is_symlink());
    }
    assert_eq!(workspace.read("below/real.pbin"), workspace.read("plain.pbin"));
    assert_eq!(workspace.read("below/new.pbin"), workspace.read("plain.pbin"));
    assert_eq!(names(&workspace.path("below")), ["new.pbin", "real.pbin"]);
    let run = workspace.pollux(&format!("{LOWER} -o circle"));
    assert_eq!(run.code, 3, "{}", run.stderr);
}

#[test]
fn permissions_of_an_old_file_stay_and_a_new_one_has_the_usual_ones() {
    let workspace = Workspace::new();
    let mode = |name: &str| fs::metadata(workspace.path(name)).expect("it exists").permissions().mode() & 0o777;
    workspace.write("plain", "");
    for (name, old) in [("private.pbin", 0o600), ("shared.pbin", 0o664), ("tool.pbin", 0o755)] {
        workspace.write(name, "old");
        fs::set_permissions(workspace.path(name), fs::Permissions::from_mode(old)).expect("set");
        assert_eq!(workspace.pollux(&format!("{LOWER} -o {name}")).code, 0);
        assert_eq!(mode(name), old, "{name}");
    }
    for line in [format!("{LOWER} -o new.pbin"), "run programs/softmax.pasm --cycles --trace new.csv".to_owned()] {
        assert_eq!(workspace.pollux(&line).code, 0);
    }
    assert_eq!([mode("new.pbin"), mode("new.csv")], [mode("plain"); 2]);
}

#[test]
fn a_dash_is_the_standard_output_and_text_gives_way() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux("run programs/softmax.pasm --cycles --trace trace.csv").code, 0);
    let trace = String::from_utf8(workspace.read("trace.csv")).expect("UTF-8");
    for name in ["-", "/dev/stdout"] {
        let run = workspace.pollux(&format!("run programs/softmax.pasm --cycles --trace {name}"));
        assert_eq!((run.code, &run.stdout), (0, &trace), "{name}");
        assert!(run.stderr.contains("cycles ("), "the totals are on the standard error: {}", run.stderr);
    }
    let run = workspace.pollux("config small4 -o -");
    assert!(run.stdout.starts_with("name = \"small4\""), "{}", run.stdout);
    assert_eq!(
        workspace.pollux("dis programs/softmax.pasm -o -").stdout,
        workspace.pollux("dis programs/softmax.pasm").stdout
    );
    let run = workspace.pollux("run programs/softmax.pasm --cycles --trace - --json");
    assert_eq!(run.code, 2);
    assert_eq!(run.json()["exit_code"], 2);
}

#[test]
fn a_dash_is_the_standard_input_of_every_file_option() {
    let workspace = Workspace::new();
    let run = |line: &str, stdin: &str| workspace.run(&common::words(line), stdin);
    let toml = workspace.pollux("config small4 -o small.toml");
    assert_eq!(toml.code, 0);
    let toml = String::from_utf8(workspace.read("small.toml")).expect("UTF-8");
    assert_eq!(run("config - --check", &toml).code, 0);
    assert_eq!(run("lower matmul --m 4 --n 4 --k 4 --config -", &toml).code, 0);
    let list = fs::read_to_string(common::root().join("programs/parity/global_average.toml")).expect("a list");
    assert_eq!(run("lower list - -o list.pbin", &list).code, 0);
    let both = run("run - --config -", "");
    assert_eq!(both.code, 2);
    assert!(both.stderr.contains("can be read only once"), "{}", both.stderr);
    let named = run("model run - --text a", "");
    assert_eq!(named.code, 2, "{}", named.stderr);
}

#[test]
fn two_outputs_and_inputs_are_never_the_same_file() {
    let workspace = Workspace::new();
    workspace.write("a.pasm", "config small4\nbuffer A: i8[2, 2] = [1, 2, 3, 4]\nbuffer B: i8[2, 2]\n");
    symlink("a.pasm", workspace.path("link.pasm")).expect("a link");
    assert_eq!(workspace.pollux("asm a.pasm").code, 0);
    let before = (workspace.read("a.pasm"), workspace.read("a.pbin"));
    for line in [
        "run a.pasm --cycles --trace out --commands ./out",
        "run a.pasm --cycles --trace - --commands /dev/stdout",
        "run a.pasm --dump A=out,B=out",
        "asm a.pasm -o a.pasm",
        "asm a.pasm -o ./a.pasm",
        "asm a.pasm -o link.pasm",
        "asm a.pbin",
        "dis a.pbin -o a.pbin",
        "run a.pasm --dump A=a.pasm",
        "run a.pasm --cycles --trace a.pasm",
    ] {
        let run = workspace.pollux(line);
        assert_eq!(run.code, 2, "{line}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("the same file") || run.stderr.contains("would replace"), "{line}: {}", run.stderr);
    }
    assert_eq!((workspace.read("a.pasm"), workspace.read("a.pbin")), before);
    assert_eq!(workspace.files(), ["a.pasm", "a.pbin"]);
}

#[test]
fn an_output_that_cannot_be_written_is_known_before_the_work() {
    let workspace = Workspace::new();
    workspace.write("endless.pasm", "config small4\nwait 1000000000000\n");
    for (line, message) in [
        (
            "run endless.pasm --cycles --trace missing/out.csv",
            "--trace: cannot write `missing/out.csv`: the folder `missing` does not exist",
        ),
        ("report --shape bert-large --html missing/a.html", "--html: cannot write `missing/a.html`"),
        ("report --shape bert-large --html .", "--html: cannot write `.`"),
        ("report --shape bert-large --plan missing.toml", "--plan: cannot read `missing.toml`: No such file"),
        ("model run crates/model/tests/tiny-bert --text a --calibration no.txt", "--calibration: cannot read `no.txt`"),
    ] {
        let begin = Instant::now();
        let run = workspace.pollux(line);
        assert_eq!(run.code, 3, "{line}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{line}: {}", run.stderr);
        assert!(begin.elapsed() < Duration::from_secs(60), "{line}");
    }
    assert_eq!(workspace.files(), ["endless.pasm"]);
}

/// Interrupts a run that writes a trace, when its file has begun.
fn interrupt(signal: &str) -> (Option<i32>, Vec<String>) {
    let workspace = Workspace::new();
    // Two loads that are far apart make an event now and then, and a run without an end.
    workspace.write("long.pasm", "config small4\nbuffer A: i8[4, 4]\nconfig_ld stride=4\nrepeat 400000\n    mvin dram=A local=spad(0) cols=4 rows=4\nend\n");
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("out.csv");
    fs::write(&trace, "old").expect("written");
    let mut child = child(&workspace, &format!("run long.pasm --cycles --interval 1000 --trace {}", trace.display()));
    while names(folder.path()).len() < 2 {
        if let Some(status) = child.try_wait().expect("a child") {
            let mut text = String::new();
            child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
            panic!("{status}: {text}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let code = child.wait().expect("an end").code();
    assert!(fs::read_to_string(&trace).expect("the old file") == "old", "{signal}: the old file was replaced");
    (code, names(folder.path()))
}

/// Whether the tests were started so that a signal is ignored, as a shell does with SIGINT behind `&`; a child would ignore it, too.
fn is_ignored(signal: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for (signal, number, code) in [("INT", 2, 130), ("TERM", 15, 143), ("HUP", 1, 129)] {
        if is_ignored(number) {
            println!("SIG{signal} is ignored here: left out");
            continue;
        }
        assert_eq!(interrupt(signal), (Some(code), vec!["out.csv".to_owned()]), "{signal}");
    }
}

#[test]
fn an_interruption_ends_a_run_that_waits_for_a_reader() {
    let workspace = Workspace::new();
    fifo(&workspace, "fifo");
    let mut child = child(&workspace, &format!("{LOWER} -o fifo"));
    // Before it catches signals they end it as well.
    std::thread::sleep(Duration::from_millis(300));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill").success());
    let status = child.wait().expect("an end");
    assert!(!status.success());
    assert_eq!(workspace.files(), [""; 0]);
}
