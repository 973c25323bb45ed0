//! Gemmini's own test programs, made anew: each of `programs/parity/index.toml` runs on the functional model and leaves what
//! it must, the smaller ones run on the cycle-level emulator and leave the same, and where a run of Gemmini's program was
//! recorded, the streams of commands are compared.

#[path = "../../../crates/kernels/tests/common/mod.rs"]
mod common;
mod spec;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use flate2::read::GzDecoder;
use pollux_asm::{Program, assemble_file};
use pollux_compiler::list::OperationList;
use pollux_functional::FunctionalModel;
use pollux_isa::{GemminiConfig, RoccCommand, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::observer::Event;
use pollux_sim::runner::Runner;
use pollux_trace::GoldenCase;

use common::{assert_same_buffers, run_cycles};
use spec::{Entry, Index, Recorded};

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn index() -> Vec<Entry> {
    let text = fs::read_to_string(project("programs/parity/index.toml")).expect("the index is part of the project");
    toml::from_str::<Index>(&text).expect("a well-formed index").program
}

/// The programs of a file. Kernels make them for the file's configuration, or for another one.
fn programs(name: &str, config: Option<&ValidConfig>) -> Vec<Program> {
    let path = project("programs/parity").join(name);
    if name.ends_with(".pasm") {
        return vec![assemble_file(&path).unwrap_or_else(|errors| panic!("{name}: {errors:?}"))];
    }
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let list = OperationList::from_toml(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    list.programs(config).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn assert_as_expected(name: &str, program: &Program, memory: &Memory) {
    let mut checked = 0;
    for buffer in &program.buffers {
        let Some(expected) = &buffer.expected else { continue };
        let found = memory.read_vec(buffer.address, expected.len());
        let wrong = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
        assert_eq!(wrong, 0, "{name}: wrong bytes in buffer `{}`", buffer.name);
        checked += 1;
    }
    assert!(checked > 0, "{name} checks nothing");
}

/// The memory that the functional model leaves; undefined behaviour is an error.
fn functional(name: &str, program: &Program) -> Memory {
    let mut model = FunctionalModel::new(program.config.clone(), program.initial_memory());
    model.run(&program.items).unwrap_or_else(|error| panic!("{name}: {error}"));
    model.into_memory()
}

fn check(entry: &Entry) {
    for program in programs(&entry.ours, None) {
        let memory = functional(&entry.ours, &program);
        assert_as_expected(&entry.ours, &program, &memory);
        if entry.cycles {
            assert_same_buffers(&program, &memory, &run_cycles(&program).0);
        }
    }
}

#[test]
fn every_program_leaves_what_it_must_on_both_models() {
    let entries = index();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            check(entry);
        }
    };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
}

/// The commands, addresses of main memory replaced by whether there is one; without FLUSH, with which programs begin.
fn structure<'a>(commands: impl Iterator<Item = &'a RoccCommand>) -> Vec<RoccCommand> {
    let some = |address: u64| address.min(1);
    let without_addresses = |command: &RoccCommand| {
        let RoccCommand { funct, rs1, rs2 } = *command;
        match funct {
            1 | 2 | 3 | 14 => RoccCommand { rs1: some(rs1), ..*command },
            10 | 11 | 20 | 21 => RoccCommand { funct, rs1: some(rs1), rs2: some(rs2) },
            _ => *command,
        }
    };
    commands.filter(|command| command.funct != 7).map(without_addresses).collect()
}

#[test]
fn streams_are_those_of_gemminis_programs_or_differ_for_a_known_reason() {
    let mut compared = 0;
    for entry in index() {
        let Some(expectation) = &entry.recorded else { continue };
        let case = GoldenCase::read(&project("tests/golden/software").join(&entry.gemmini)).expect("a recorded run");
        let config = GemminiConfig::by_name(&case.summary.config).expect("a named configuration");
        let recorded = structure(case.items.iter().filter_map(|item| item.command()));
        let programs = programs(&entry.ours, Some(&config));
        let ours = structure(programs.first().expect("a program").commands());
        match expectation {
            Recorded::Equal => {
                for (number, (ours, recorded)) in ours.iter().zip(&recorded).enumerate() {
                    assert_eq!(ours, recorded, "command {number} of {}", entry.gemmini);
                }
                assert_eq!(ours.len(), recorded.len(), "{}", entry.gemmini);
            }
            Recorded::Differs(_) => assert!(ours != recorded, "{}: the streams are equal", entry.gemmini),
        }
        compared += 1;
    }
    let recorded = GoldenCase::find(&project("tests/golden/software")).expect("the recorded runs");
    assert_eq!(compared, recorded.len(), "every recorded run is compared");
}

/// A line of a file of `tests/golden/functions`: function number and, in hexadecimal, registers.
fn command(line: &str) -> RoccCommand {
    let [funct, rs1, rs2] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("not a command: {line}") };
    let register = |text| u64::from_str_radix(text, 16).expect("a hexadecimal number");
    RoccCommand { funct: funct.parse().expect("a number"), rs1: register(rs1), rs2: register(rs2) }
}

/// What Gemmini's functions emit for the programs of a file; `None` where ours is not meant to be the same.
fn functions(name: &str) -> Option<Vec<Option<Vec<RoccCommand>>>> {
    let stem = name.strip_suffix(".toml")?;
    let file = fs::File::open(project("tests/golden/functions").join(format!("{stem}.txt.gz"))).ok()?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("compressed text");
    let program = |text: &str| match text.trim() {
        "skip" => None,
        commands => Some(commands.lines().map(command).collect()),
    };
    Some(text.split("program\n").skip(1).map(program).collect())
}

#[test]
fn streams_are_those_of_gemminis_functions() {
    let config = GemminiConfig::by_name("default16").unwrap();
    let (mut files, mut compared) = (0, 0);
    for entry in index() {
        let Some(theirs) = functions(&entry.ours) else { continue };
        let ours = programs(&entry.ours, Some(&config));
        assert_eq!(ours.len(), theirs.len(), "{}", entry.ours);
        for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let Some(theirs) = theirs else { continue };
            let ours = structure(ours.commands());
            let equal = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
            let [next, expected] = [ours.get(equal), theirs.get(equal)];
            assert!(ours == *theirs, "{}, program {number}, command {equal}: {next:?}, not {expected:?}", entry.ours);
            compared += 1;
        }
        files += 1;
    }
    assert!(files > 30 && compared > files, "{files} files, {compared} programs");
}

#[test]
fn the_counters_count_freeze_and_reset() {
    let program = programs("gemmini_counter.pasm", None).remove(0);
    let mut responses = Vec::new();
    let mut observer = |_, event: &Event| {
        if let Event::Resp { data, .. } = event {
            responses.push(*data);
        }
    };
    let mut runner = Runner::new(&program.config).limit(1_000_000);
    runner.run(program.items.clone(), program.initial_memory(), &mut observer).expect("no deadlock");
    let [_, start, running, _, snapshot, frozen, _, released, _, reset, _, loads, loads_again] = responses[..] else {
        panic!("a response for each of the 13 counter commands: {responses:?}");
    };
    assert_eq!((start, reset), (0, 0));
    assert!(running > 0 && snapshot >= running, "{responses:?}");
    assert_eq!(frozen, snapshot);
    assert!(released >= snapshot + 10, "{responses:?}");
    assert!(loads >= 2 && loads_again == loads, "{responses:?}");
}

#[test]
fn the_table_in_the_book_is_that_of_the_index() {
    let mut table =
        String::from("| Gemmini's program | ours | what is checked | emulator | recorded stream | functions |\n");
    table.push_str("|---|---|---|---|---|---|\n");
    for Entry { gemmini, ours, checks, recorded, cycles } in index() {
        let recorded = match recorded {
            None => String::new(),
            Some(Recorded::Equal) => "equal".to_owned(),
            Some(Recorded::Differs(why)) => format!("differs: {why}"),
        };
        let cycles = if cycles { "yes" } else { "" };
        let functions = if functions(&ours).is_some() { "equal" } else { "" };
        writeln!(table, "| `{gemmini}` | `{ours}` | {checks} | {cycles} | {recorded} | {functions} |")
            .expect("strings take text");
    }
    let book = fs::read_to_string(project("docs/src/parity.md")).expect("the page is part of the project");
    let found = book.split("<!-- table -->\n").nth(1).and_then(|rest| rest.split("<!-- end -->").next());
    assert!(found == Some(table.as_str()), "docs/src/parity.md needs this table:\n{table}");
}

#[test]
fn every_file_is_in_the_index() {
    let entries = index();
    for file in fs::read_dir(project("programs/parity")).expect("the programs are part of the project") {
        let name = file.expect("a file").file_name().into_string().expect("a readable name");
        assert!(name == "index.toml" || entries.iter().any(|entry| entry.ours == name), "{name}");
    }
}
