//! The public test programs of the instruction set (riscv-tests: rv64ui, um, ua, uf, ud, uc), built outside the project by
//! `tests/riscv/build.sh`; the variable `POLLUX_RISCV_PROGRAMS` names the folder with the results. Without it these tests
//! say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use pollux_isa::ValidConfig;
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
    // rv64ui-p-ma_data asks for misaligned accesses that do not trap.
    setup.misaligned = Misaligned::Allow;
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
