//! Helpers of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pollux_asm::{Assembler, Program};
use pollux_isa::Command;
use proptest::test_runner::{Config, RngSeed};

/// A folder or file of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The example programs, in order of their names.
pub fn example_programs() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository("programs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "pasm")).collect();
    paths.sort();
    paths
}

/// Assembles a text for `small4`, with these files beside it.
pub fn try_assemble(text: &str, files: &[(&str, &[u8])]) -> Result<Program, pollux_asm::Diagnostics> {
    let files: BTreeMap<PathBuf, Vec<u8>> = files.iter().map(|(name, c)| (PathBuf::from(name), c.to_vec())).collect();
    Assembler::default().with_files(&files).with_default_config(small4()).assemble("main.pasm", text)
}

/// Assembles a right text for `small4`.
pub fn assemble(text: &str) -> Program {
    try_assemble(text, &[]).unwrap_or_else(|errors| panic!("{}", errors.render()))
}

/// The errors of a wrong text as its user sees them.
pub fn drawn(text: &str) -> String {
    try_assemble(text, &[]).expect_err("the text is wrong").render()
}

/// The errors of a wrong text, each as `line:column: message` and a line of help.
pub fn brief(text: &str, files: &[(&str, &[u8])]) -> String {
    let errors = try_assemble(text, files).expect_err(text);
    let mut out = String::new();
    for error in errors.0 {
        let (line, column) = error.position();
        out.push_str(&format!("{}:{line}:{column}: {}\n", error.file.name, error.message));
        for help in error.help.iter().flat_map(|help| help.lines()) {
            out.push_str(&format!("    {help}\n"));
        }
    }
    out
}

/// The configuration of most tests: DIM is 4.
pub fn small4() -> pollux_isa::ValidConfig {
    pollux_isa::GemminiConfig::by_name("small4").expect("a known name")
}

/// The commands of a program for `small4`, decoded.
pub fn decoded(text: &str) -> Vec<Command> {
    let program = assemble(text);
    program.commands().map(|command| Command::decode_exact(&program.config, *command).unwrap()).collect()
}

/// A property test with the same cases in every run.
pub fn seeded(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Config::default() }
}
