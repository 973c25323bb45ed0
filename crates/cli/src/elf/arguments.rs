//! Options of programs for the core.

use std::ops::Range;

use clap::Args;
use pollux_riscv::DEFAULT_RAM;

use crate::files::OutputPath;
use crate::values;

/// Instructions after which a run is stopped unless told otherwise.
pub const DEFAULT_LIMIT: u64 = 10_000_000_000;

/// Options that only ELF programs have.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of ELF programs")]
pub struct ElfArguments {
    /// Stop after so many instructions of the core (default: 10 billion).
    #[arg(long, value_name = "COUNT", value_parser = values::cycles())]
    pub instructions: Option<u64>,
    /// Count instructions and Gemmini's commands by function.
    #[arg(long)]
    pub symbols: bool,
    /// Write what each instruction changed, in the form of `spike --log-commits`.
    #[arg(long, value_name = "OUT.log")]
    pub spike_log: Option<OutputPath>,
    /// Memory in MiB, from 0x80000000 on (default: 2048).
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MAX_RAM_MIB))]
    pub ram: Option<u64>,
    /// Execute misaligned loads and stores, at which Rocket traps.
    #[arg(long)]
    pub misaligned: bool,
    /// Arguments of the program, behind `--`; a program asks its host for them.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// The addresses that Gemmini's core has.
const MAX_RAM_MIB: u64 = 1 << (pollux_isa::config::CORE_MAX_ADDR_BITS - 20 - 1);

/// Identifiers of the options, to refuse them where they mean nothing.
pub const IDS: &[&str] = &["instructions", "symbols", "spike_log", "ram", "misaligned", "arguments"];

/// Memory of so many MiB.
pub fn ram(mib: u64) -> Range<u64> {
    DEFAULT_RAM.start..DEFAULT_RAM.start + (mib << 20)
}
