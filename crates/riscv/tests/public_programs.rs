//! The public test programs of the instruction set (riscv-tests: rv64ui, um, ua, uf, ud, uc, mi) and of Gemmini
//! (gemmini-rocc-tests), built outside the project by `tests/riscv/build.sh`; the variable `POLLUX_RISCV_PROGRAMS` names the
//! folder with the results. Without it these tests say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use pollux_isa::config::CommandLayout;
use pollux_isa::table::{FieldKind, Register as SourceRegister};
use pollux_isa::{GemminiConfig, RoccCommand, ValidConfig};
use pollux_riscv::{Elf, Machine, Misaligned, Setup, Stop};

/// Files of a folder of the built programs, if there is one.
fn programs(folder: &str) -> Option<Vec<PathBuf>> {
    let Ok(root) = std::env::var("POLLUX_RISCV_PROGRAMS") else {
        eprintln!("skipped: POLLUX_RISCV_PROGRAMS does not name a folder made by tests/riscv/build.sh");
        return None;
    };
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("the folder can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    Some(files)
}

/// Instructions that no test of the instruction set needs.
const LIMIT: u64 = 1_000_000;

fn result(path: &Path, stepwise: bool) -> Stop {
    let elf = Elf::parse(&fs::read(path).expect("readable")).expect("a program");
    let mut setup = Setup::new(ValidConfig::default());
    if path.ends_with("rv64ui-p-ma_data") {
        setup.misaligned = Misaligned::Allow;
    }
    let mut machine = Machine::new(setup, &elf).expect("it fits");
    if !stepwise {
        return machine.run(LIMIT);
    }
    (0..LIMIT).find_map(|_| machine.step().1).unwrap_or(Stop::Limit)
}

#[test]
fn the_programs_of_riscv_tests_pass() {
    let Some(files) = programs("isa") else { return };
    assert!(!files.is_empty());
    // There are no triggers of a debugger.
    let files: Vec<PathBuf> = files.into_iter().filter(|path| !path.ends_with("rv64mi-p-breakpoint")).collect();
    let failed: Vec<String> = files
        .iter()
        .flat_map(|path| [(path, false), (path, true)])
        .filter_map(|(path, stepwise)| {
            let stop = result(path, stepwise);
            (stop != Stop::Exit(0)).then(|| format!("{}: {stop:?}", path.display()))
        })
        .collect();
    println!("{} programs, {} failures", files.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A machine for a program of Gemmini's tests; those of March 2023 have the layout of that time.
fn gemmini_machine(folder: &str, path: &Path) -> Machine {
    let mut config = GemminiConfig::default16();
    if folder == EARLY_2023 {
        config.command_layout = CommandLayout::March2023;
    }
    let elf = Elf::parse(&fs::read(path).expect("readable")).expect("a program");
    Machine::new(Setup::new(config.validated().expect("valid")), &elf).expect("it fits")
}

const EARLY_2023: &str = "gemmini-13e7e1f";

/// Programs that end with 1 here: one looks at counters of cycles, which stand still without time; the other needs
/// normalization units, which its header does not have either.
const FAILURES: [&str; 2] = ["gemmini_counter", "transformer"];

#[test]
fn the_programs_of_gemminis_tests_run_to_their_own_success() {
    for folder in [EARLY_2023, "gemmini-180c468"] {
        let Some(files) = programs(folder) else { return };
        let names = files.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
        let failed: Vec<String> = names
            .zip(&files)
            .filter(|(_, path)| gemmini_machine(folder, path).run(10_000_000_000) != Stop::Exit(0))
            .map(|(name, _)| name)
            .collect();
        println!("{folder}: {} programs, failed: {failed:?}", files.len());
        assert_eq!(failed, FAILURES);
    }
}

/// A command with its addresses in main memory apart from the rest, since those depend on the build.
fn without_addresses(command: RoccCommand) -> (RoccCommand, Vec<u64>) {
    let Some(spec) = pollux_isa::table::lookup(command) else { return (command, Vec::new()) };
    let addresses = spec.fields.iter().filter(|field| field.kind == FieldKind::DramAddress);
    let values = addresses.clone().map(|field| field.encoded(command.rs1, command.rs2)).collect();
    let (mut rs1, mut rs2) = (command.rs1, command.rs2);
    for field in addresses {
        match field.register {
            SourceRegister::Rs1 => rs1 = 0,
            SourceRegister::Rs2 => rs2 = 0,
        }
    }
    (RoccCommand { rs1, rs2, ..command }, values)
}

/// Commands that a recording of the system's RTL has at Gemmini's port (`roccstream.csv`: cycle, funct, rs1, rs2, ...).
fn recorded(csv: &str) -> Vec<RoccCommand> {
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    csv.lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            RoccCommand { funct: cells[1].parse().expect("a number"), rs1: hex(cells[2]), rs2: hex(cells[3]) }
        })
        .collect()
}

/// Commands and console of a run. Commands are as the program sends them, before their layout is translated.
fn commands_of(machine: &mut Machine) -> (Vec<RoccCommand>, String) {
    let mut commands = Vec::new();
    loop {
        let (retired, stop) = machine.step();
        commands.extend(retired.and_then(|retired| retired.rocc).map(|rocc| rocc.command));
        if stop.is_some() {
            return (commands, String::from_utf8_lossy(&machine.board.htif.take_console()).into_owned());
        }
    }
}

/// Text without its numbers, many of which depend on time.
fn words_of(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// `POLLUX_GOLDEN_SOC` names the folder of the recordings: a folder a program with `roccstream.csv` and `stdout.txt`.
#[test]
fn programs_send_the_commands_that_the_systems_rtl_saw() {
    let (Ok(golden), Some(files)) = (std::env::var("POLLUX_GOLDEN_SOC"), programs(EARLY_2023)) else {
        eprintln!("skipped: POLLUX_GOLDEN_SOC does not name the folder of the recordings");
        return;
    };
    let (mut compared, mut identical) = (0, 0);
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let Ok(csv) = fs::read_to_string(Path::new(&golden).join(&name).join("roccstream.csv")) else { continue };
        let (commands, console) = commands_of(&mut gemmini_machine(EARLY_2023, &path));
        if FAILURES.contains(&name.as_str()) {
            continue;
        }
        let expected = recorded(&csv);
        let text = fs::read_to_string(Path::new(&golden).join(&name).join("stdout.txt")).expect("a console");
        assert_eq!(words_of(&console), words_of(&text), "{name}");
        assert_eq!(commands.len(), expected.len(), "{name}");
        for (index, (ours, theirs)) in commands.iter().zip(&expected).enumerate() {
            let ((ours, at), (theirs, there)) = (without_addresses(*ours), without_addresses(*theirs));
            assert_eq!(ours, theirs, "{name}, command {index}");
            // Another build of the same sources moves the data a little.
            let near = |(a, b): (&u64, &u64)| a.abs_diff(*b) < 512 && (*a == 0) == (*b == 0);
            assert!(at.iter().zip(&there).all(near), "{name}, command {index}: {at:x?} {there:x?}");
        }
        compared += 1;
        identical += usize::from(commands == expected);
    }
    println!("{compared} command streams agree, {identical} of them to the last address");
    assert!(compared > 0);
}
