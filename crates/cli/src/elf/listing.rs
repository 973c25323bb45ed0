//! A program for the core as text.

use std::fmt::Write as _;
use std::path::Path;

use pollux_asm::{Disassembler, Program};
use pollux_isa::ValidConfig;
use pollux_isa::config::Opcode;
use pollux_riscv::{Elf, Machine, Retired, Setup, Stop, listing};
use serde_json::json;

use crate::arguments::configuration;
use crate::elf::arguments::DEFAULT_LIMIT;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress;

/// A program to be listed.
pub struct Listing<'a> {
    /// The program.
    pub program: &'a Elf,
    /// Its file.
    pub path: &'a Path,
    /// Gemmini's configuration; otherwise the default one.
    pub config: Option<ValidConfig>,
}

impl Listing<'_> {
    /// Writes the listing of the code, or of the commands that a run executes.
    ///
    /// # Errors
    /// The program does not run to its end, or the file cannot be written.
    pub fn write(&self, executed: bool, output: Option<&Path>, out: &Output) -> Result<Outcome, Failure> {
        let config = self.config.clone().map_or_else(|| configuration("default16"), Ok)?;
        let name = config.name.clone();
        let text = if executed {
            progress::during(out, "core", || self.commands(config))?
        } else {
            progress::during(out, "disassembling", || listing::disassemble(self.program, config.opcodes))
        };
        match output {
            Some(path) => out.write(path, text.as_bytes())?,
            None => out.text(&text)?,
        }
        out.json(&json!({ "config": name, "output": output, "text": output.is_none().then_some(&text) }))?;
        Ok(Outcome::Agrees)
    }

    /// The commands of a run, a line each: address, function of the program, command.
    fn commands(&self, config: ValidConfig) -> Result<String, Failure> {
        let name = |error| Failure::Input(format!("`{}`: {error}", self.path.display()));
        let plain = Program::new(config.clone());
        let disassembler = Disassembler::new(&plain);
        let mut machine = Machine::new(Setup::new(config), self.program).map_err(name)?;
        let mut out = String::new();
        let mut is_open = false;
        for _ in 0..DEFAULT_LIMIT {
            let (retired, stop) = machine.step();
            let text = retired.and_then(|retired| text(&retired, &disassembler, plain.config.opcodes, &mut is_open));
            if let (Some(Retired { pc, .. }), Some(text)) = (retired, text) {
                let _ = writeln!(out, "{pc:>8x} {:<28} {text}", place(&machine, pc));
            }
            match stop {
                None => {}
                Some(Stop::Exit(_)) => return Ok(out),
                Some(stop) => {
                    let message = format!("`{}`: {}", self.path.display(), machine.describe(&stop));
                    return Err(Failure::Program(vec![message]));
                }
            }
        }
        Err(Failure::Program(vec![format!("`{}`: {}", self.path.display(), machine.describe(&Stop::Limit))]))
    }
}

/// An instruction, if it is one for Gemmini, or a fence that waits for one.
fn text(retired: &Retired, disassembler: &Disassembler<'_>, opcode: Opcode, is_open: &mut bool) -> Option<String> {
    let command = retired.rocc.filter(|rocc| rocc.instruction.opcode == opcode).map(|rocc| rocc.command);
    if let Some(command) = command {
        *is_open = true;
        return Some(disassembler.command(command));
    }
    let is_fence = retired.instruction.op == pollux_riscv::Op::Fence;
    (is_fence && std::mem::take(is_open)).then(|| "fence".to_owned())
}

/// An address within its function.
fn place(machine: &Machine, pc: u64) -> String {
    let function = machine.symbols().function(pc);
    function.map(|(name, offset)| format!("<{name}+{offset:#x}>")).unwrap_or_default()
}
