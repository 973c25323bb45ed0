//! The commands of a run as a program for the accelerator alone.

use std::path::Path;

use pollux_asm::Program;
use pollux_isa::ValidConfig;
use pollux_riscv::{Elf, Machine, Setup, Stop};

use crate::arguments::configuration;
use crate::elf::arguments::DEFAULT_LIMIT;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress;

/// Runs the program and records its commands.
///
/// # Errors
/// It does not run to its end, or has no command.
pub fn record(elf: &Elf, path: &Path, config: Option<ValidConfig>, out: &Output) -> Result<Program, Failure> {
    let named = |what: String| format!("`{}`: {what}", path.display());
    let config = config.map_or_else(|| configuration("default16"), Ok)?;
    let machine = Machine::new(Setup::new(config), elf);
    let mut machine = machine.map_err(|error| Failure::Input(named(error.to_string())))?;
    machine.record();
    let stop = progress::during(out, "core", || machine.run(DEFAULT_LIMIT));
    let Stop::Exit(code) = stop else { return Err(Failure::Program(vec![named(machine.describe(&stop))])) };
    if code != 0 {
        out.note(&format!("warning: {}", named(format!("the program ended with exit code {code}"))));
    }
    let program = progress::during(out, "recording", || machine.take_recording());
    let program = program.filter(|program| program.commands().next().is_some());
    let program = program.ok_or_else(|| Failure::Input(named("the program sends no command to Gemmini".to_owned())))?;
    program.check().map_err(Failure::input)?;
    Ok(program)
}
