//! Argument values that several commands take.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use pollux_compiler::execute::MemoryModel;
use pollux_functional::{Action, Policy};
use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_sim::memory::{BandwidthParameters, BenchParameters, CacheParameters, DramParameters};

use crate::failure::Failure;
use crate::program_file;

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

    /// The functional model's policy. Legality has been checked before, by [`crate::execution::check`].
    pub fn functional(self) -> Policy {
        let policy = match self {
            Self::Error => Policy::default(),
            Self::Warn | Self::Ignore => Policy::all(self.action()),
        };
        Policy { illegal: Action::Ignore, out_of_range: Action::Ignore, ..policy }
    }
}

/// The memory system behind the accelerator's port, as `KIND[:KEY=VALUE,...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryArgument(pub MemoryModel);

const BANDWIDTH: BandwidthParameters = BandwidthParameters { latency: 40, bytes: 16, cycles: 1, outstanding: 16 };

/// The second-level cache and DDR3 of a system with a 1 GHz clock.
const DRAM: MemoryModel = MemoryModel::Dram {
    cache: CacheParameters { bytes: 512 << 10, ways: 8, hit_cycles: 20 },
    dram: DramParameters::ddr3_1866(),
    clock_mhz: 1000,
    outstanding: 16,
};

impl FromStr for MemoryArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        let mut memory = match kind {
            "bench" => MemoryModel::Bench(BenchParameters::default()),
            "bandwidth" => MemoryModel::Bandwidth(BANDWIDTH),
            "dram" => DRAM,
            other => return Err(format!("`{other}` is no memory system: choose bench, bandwidth or dram")),
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').ok_or_else(|| format!("`{option}` is not KEY=VALUE"))?;
            set(&mut memory, key, value)?;
        }
        Ok(Self(memory))
    }
}

/// Sets one parameter of a memory system.
fn set(memory: &mut MemoryModel, key: &str, value: &str) -> Result<(), String> {
    let number = || match value.parse() {
        Ok(0) if key != "latency" => Err(format!("{key} must be at least 1")),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{key}: `{value}` is not a number")),
    };
    let size = || number().and_then(|n| usize::try_from(n).map_err(|_| format!("{key}: `{value}` is too large")));
    match (memory, key) {
        (MemoryModel::Bench(p), "latency") => p.latency = number()?,
        (MemoryModel::Bench(p), "a_period") => p.a_period = number()?,
        (MemoryModel::Bench(p), "d_period") => p.d_period = number()?,
        (MemoryModel::Bandwidth(p), "latency") => p.latency = number()?,
        (MemoryModel::Bandwidth(p), "bytes") => p.bytes = number()?,
        (MemoryModel::Bandwidth(p), "cycles") => p.cycles = number()?,
        (MemoryModel::Bandwidth(p), "outstanding") => p.outstanding = size()?,
        (MemoryModel::Dram { dram, .. }, "type") => *dram = dram_type(value)?,
        (MemoryModel::Dram { clock_mhz, .. }, "clock_mhz") => *clock_mhz = number()?,
        (MemoryModel::Dram { outstanding, .. }, "outstanding") => *outstanding = size()?,
        (MemoryModel::Dram { cache, .. }, "l2_kib") => cache.bytes = number()?.saturating_mul(1024),
        (MemoryModel::Dram { cache, .. }, "l2_ways") => cache.ways = size()?,
        (MemoryModel::Dram { cache, .. }, "l2_hit") => cache.hit_cycles = number()?,
        (memory, _) => return Err(format!("`{key}` is no parameter: {}", keys(memory))),
    }
    Ok(())
}

fn keys(memory: &MemoryModel) -> &'static str {
    match memory {
        MemoryModel::Bench(_) => "bench has latency, a_period and d_period",
        MemoryModel::Bandwidth(_) => "bandwidth has latency, bytes, cycles and outstanding",
        MemoryModel::Dram { .. } => "dram has type, clock_mhz, outstanding, l2_kib, l2_ways and l2_hit",
    }
}

fn dram_type(name: &str) -> Result<DramParameters, String> {
    match name {
        "ddr3" => Ok(DramParameters::ddr3_1866()),
        "lpddr3" => Ok(DramParameters::lpddr3_1600()),
        other => Err(format!("`{other}` is no type of DRAM: choose ddr3 or lpddr3")),
    }
}

/// How the cycle-level emulator is set up.
#[derive(Args, Clone, Debug)]
pub struct CycleArguments {
    /// Memory behind the accelerator's port: `bench[:latency=,a_period=,d_period=]`,
    /// `bandwidth[:latency=,bytes=,cycles=,outstanding=]` or
    /// `dram[:type=ddr3|lpddr3,clock_mhz=,outstanding=,l2_kib=,l2_ways=,l2_hit=]`.
    #[arg(long, value_name = "KIND", default_value = "bench", requires = "cycles")]
    pub memory: MemoryArgument,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), requires = "cycles")]
    pub interval: u64,
    /// Translate addresses through the TLB, by 4 KiB pages that are mapped to themselves; the walk behind a miss takes so
    /// many cycles. Without this, addresses are physical and no walk ever happens.
    #[arg(long, value_name = "CYCLES", value_parser = clap::value_parser!(u32).range(1..), requires = "cycles")]
    pub page_walk: Option<u32>,
    /// Stop after so many cycles; an illegal program that runs all the same is stopped after 10 million unless this says
    /// otherwise.
    #[arg(long, value_name = "CYCLES", requires = "cycles")]
    pub limit: Option<u64>,
    /// Write all events to a CSV file, in the format of the golden traces.
    #[arg(long, value_name = "OUT.csv", requires = "cycles")]
    pub trace: Option<PathBuf>,
    /// Write when each command was accepted, allocated, issued and completed: JSON lines to files called `*.jsonl`,
    /// CSV to others.
    #[arg(long, value_name = "OUT", requires = "cycles")]
    pub commands: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_systems_are_read_with_their_parameters() {
        let bench = BenchParameters { latency: 100, d_period: 3, ..BenchParameters::default() };
        assert_eq!("bench:latency=100,d_period=3".parse(), Ok(MemoryArgument(MemoryModel::Bench(bench))));
        assert_eq!("bandwidth".parse(), Ok(MemoryArgument(MemoryModel::Bandwidth(BANDWIDTH))));
        let MemoryArgument(memory) = "dram:type=lpddr3,clock_mhz=500".parse().unwrap();
        let expected = (DramParameters::lpddr3_1600(), 500);
        assert!(matches!(memory, MemoryModel::Dram { dram, clock_mhz, .. } if (dram, clock_mhz) == expected));
    }

    #[test]
    fn wrong_memory_systems_are_refused_with_what_is_possible() {
        let error = |text: &str| text.parse::<MemoryArgument>().unwrap_err();
        assert_eq!(error("sram"), "`sram` is no memory system: choose bench, bandwidth or dram");
        assert_eq!(error("bench:speed=1"), "`speed` is no parameter: bench has latency, a_period and d_period");
        assert_eq!(error("bench:latency=x"), "latency: `x` is not a number");
        assert_eq!(error("bandwidth:bytes=0"), "bytes must be at least 1");
        assert_eq!(error("dram:type=hbm"), "`hbm` is no type of DRAM: choose ddr3 or lpddr3");
        assert_eq!(error("dram:fast"), "`fast` is not KEY=VALUE");
    }
}
