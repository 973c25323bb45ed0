//! The public test programs of the instruction set (riscv-tests) and of Gemmini (gemmini-rocc-tests) on the whole system, built outside
//! the project by `tests/riscv/build.sh`. With the folder of the results in `POLLUX_RISCV_PROGRAMS`:
//!
//! ```text
//! POLLUX_RISCV_PROGRAMS=... cargo test --release -p pollux-soc --test public_programs -- --ignored --nocapture
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use pollux_isa::config::{CommandLayout, Revision};
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_riscv::{DEFAULT_RAM, Elf, Machine, Setup, Stop};
use pollux_sim::memory::OuterMemory;
use pollux_sim::uncore::hierarchy::L2Parameters;
use pollux_soc::{Ending, Soc, SocSetup};

const EARLY_2023: &str = "gemmini-13e7e1f";

/// Instructions of a program beyond which its cycles are not simulated.
const MAX_INSTRUCTIONS: u64 = 50_000_000;

fn programs(folder: &str) -> Vec<PathBuf> {
    let root = std::env::var("POLLUX_RISCV_PROGRAMS").expect("POLLUX_RISCV_PROGRAMS names the programs' folder");
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("the folder can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn elf(path: &Path) -> Elf {
    Elf::parse(&fs::read(path).expect("readable")).expect("a program")
}

/// Gemmini as the programs of a folder know it.
fn config(folder: &str) -> ValidConfig {
    let mut config = GemminiConfig::default16();
    if folder == EARLY_2023 {
        (config.command_layout, config.revision) = (CommandLayout::March2023, Revision::March2023);
    }
    config.validated().expect("valid")
}

fn system(elf: &Elf, config: ValidConfig) -> Soc<OuterMemory> {
    let parameters = L2Parameters::default();
    let setup = SocSetup::new(config, DEFAULT_RAM, parameters.cache);
    Soc::new(setup, elf, 0, |bytes| parameters.memory(bytes)).expect("it fits")
}

#[test]
#[ignore = "needs the programs' files in POLLUX_RISCV_PROGRAMS"]
fn the_programs_of_riscv_tests_pass() {
    let mut failed = Vec::new();
    // One needs triggers of a debugger; the other executes misaligned accesses, at which Rocket traps, and does not handle it.
    let ends = |path: &PathBuf| !path.ends_with("rv64mi-p-breakpoint") && !path.ends_with("rv64ui-p-ma_data");
    let files: Vec<PathBuf> = programs("isa").into_iter().filter(ends).collect();
    for path in &files {
        let mut soc = system(&elf(path), ValidConfig::default());
        let ending = soc.run(3_000_000);
        if ending != Ending::Exit(0) {
            failed.push(format!("{}: {}", path.display(), soc.describe(&ending)));
        }
    }
    println!("{} programs, {} failures", files.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A line of the book's table for each program.
#[test]
#[ignore = "needs the programs' files in POLLUX_RISCV_PROGRAMS"]
fn the_programs_of_gemminis_tests_end_as_without_time() {
    for folder in [EARLY_2023, "gemmini-180c468"] {
        println!(
            "| {folder} | exit code | instructions | commands | cycles | Gemmini busy |\n|---|---:|---:|---:|---:|---:|"
        );
        for path in programs(folder) {
            let (name, elf) = (path.file_name().expect("a name").to_string_lossy().into_owned(), elf(&path));
            let mut machine = Machine::new(Setup::new(config(folder)), &elf).expect("it fits");
            let Stop::Exit(expected) = machine.run(10_000_000_000) else { panic!("{name} does not end") };
            let (instructions, commands) = (machine.instructions(), machine.board.gemmini().counts().host_commands);
            if instructions > MAX_INSTRUCTIONS {
                println!("| `{name}` | {expected} | {instructions} | {commands} | | |");
                continue;
            }
            let mut soc = system(&elf, config(folder));
            let ending = soc.run(1_000_000_000);
            let Ending::Exit(code) = ending else { panic!("{name}: {}", soc.describe(&ending)) };
            let (cycles, busy) = (soc.program_cycles(), soc.observations.busy_cycles);
            let (instructions, commands) = (soc.core().counters.instret, soc.core().counters.commands);
            println!("| `{name}` | {code} | {instructions} | {commands} | {cycles} | {busy} |");
            // What looks at Gemmini's counters of cycles sees time.
            assert!(code == expected || name == "gemmini_counter", "{name}: {code} with time, {expected} without");
        }
    }
}
