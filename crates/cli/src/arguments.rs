//! Argument values that several commands take.

use std::path::Path;

use clap::{Args, ValueEnum};
use pollux::Action;
use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_sim::memory::MemoryModel;

use crate::failure::Failure;
use crate::files::OutputPath;
use crate::{program_file, values};

/// The configuration of this name, or of this file (TOML, or a `gemmini_params.h`).
pub fn configuration(name: &str) -> Result<ValidConfig, Failure> {
    checked(name, configuration_file(name)?)
}

/// The configuration of a file, or of this name if there is no file.
pub fn checked(name: &str, file: Option<ConfigFile>) -> Result<ValidConfig, Failure> {
    match file {
        None => GemminiConfig::by_name(name).map_err(Failure::input),
        Some(file) => file.config().map_err(|error| Failure::Input(format!("{name}: {error}"))),
    }
}

/// The file that a configuration is read from, unless it is a name. A configuration without a name of its own is called
/// after the file and its digest.
pub fn configuration_file(name: &str) -> Result<Option<ConfigFile>, Failure> {
    let path = Path::new(name);
    let is_file = path.is_file() || name == "-" || name.contains('/') || path.extension().is_some();
    if !is_file {
        return Ok(None);
    }
    let text = program_file::read_text(path)?;
    let file = ConfigFile::parse(&text).map_err(|error| Failure::Input(format!("{name}: {error}")))?;
    let stem = path.file_stem().filter(|_| name != "-").map_or("stdin".into(), |stem| stem.to_string_lossy());
    Ok(Some(file.named_after(&stem)))
}

/// `--config`, if given.
pub fn optional_configuration(name: Option<&String>) -> Result<Option<ValidConfig>, Failure> {
    name.map(|name| configuration(name)).transpose()
}

/// What to do about programs that the hardware does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Stop at what is illegal; warn of reads of rows that were never written.
    Error,
    /// Warn, and go on as the hardware does.
    Warn,
    /// Go on silently.
    Ignore,
}

impl PolicyName {
    /// The action for illegal commands.
    pub fn action(self) -> Action {
        match self {
            Self::Error => Action::Error,
            Self::Warn => Action::Warn,
            Self::Ignore => Action::Ignore,
        }
    }
}

/// How the cycle-level emulator is set up.
#[derive(Args, Clone, Debug)]
pub struct CycleArguments {
    /// Memory behind the accelerator's port: `bench[:latency=,a_period=,d_period=]`,
    /// `bandwidth[:latency=,bytes=,cycles=,outstanding=]`,
    /// `dram[:type=ddr3|lpddr3,clock_mhz=,outstanding=,l2_kib=,l2_ways=,l2_hit=]` or
    /// `l2[:l2_kib=,l2_ways=,latency=,bytes=,warm=]`.
    #[arg(long, value_name = "KIND", default_value = "bench", requires = "cycles")]
    pub memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles(), requires = "cycles")]
    pub interval: u64,
    /// Translate addresses through the TLB, by 4 KiB pages that are mapped to themselves; the walk behind a miss takes so
    /// many cycles. Without this, addresses are physical and no walk ever happens.
    #[arg(long, value_name = "CYCLES", value_parser = clap::value_parser!(u32).range(1..), requires = "cycles")]
    pub page_walk: Option<u32>,
    /// Stop after so many cycles; an illegal program that runs all the same is stopped after 10 million unless this says
    /// otherwise.
    #[arg(long, value_name = "CYCLES", value_parser = values::cycles(), requires = "cycles")]
    pub limit: Option<u64>,
    /// Write all events to a CSV file, in the format of the golden traces.
    #[arg(long, value_name = "OUT.csv", requires = "cycles")]
    pub trace: Option<OutputPath>,
    /// Write when each command was accepted, allocated, issued and completed: JSON lines to files called `*.jsonl`,
    /// CSV to others.
    #[arg(long, value_name = "OUT", requires = "cycles")]
    pub commands: Option<OutputPath>,
}
