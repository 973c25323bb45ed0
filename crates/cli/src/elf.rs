//! Programs for the RISC-V core: ELF files.
//!
//! * [`arguments`]: options that only they have;
//! * [`run`]: running one, with its console and its files; [`cycles`]: the same on the whole system, with its cycles;
//! * [`profile`]: instructions and commands by function;
//! * [`spike_log`]: logs in the forms of riscv-isa-sim;
//! * [`listing`]: its code, or the commands of a run, as text;
//! * [`recording`]: its commands as a program for the accelerator alone.

pub mod arguments;
pub mod cycles;
pub mod listing;
pub mod profile;
pub mod recording;
pub mod run;
pub mod spike_log;

use std::path::Path;

use pollux_riscv::Elf;

use crate::failure::Failure;
use crate::program_file;

/// The program, if the file is an ELF file.
///
/// # Errors
/// It is one, but not for this core.
pub fn open(path: &Path) -> Result<Option<Elf>, Failure> {
    let Some(contents) = program_file::read_if(path, Elf::is_elf)? else { return Ok(None) };
    let elf = Elf::parse(&contents).map_err(|error| Failure::Input(format!("`{}`: {error}", path.display())))?;
    Ok(Some(elf))
}
