//! Argument values that several commands take.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pollux::Action;
use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_session::Setup;
use pollux_sim::host::Processor;
use pollux_sim::machine::{PageTables, Translation};
use pollux_sim::memory::MemoryModel;
use pollux_sim::replay::{ReplayOptions, ReplayTable};

use crate::failure::Failure;
use crate::files::OutputPath;
use crate::output::Output;
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
    /// `dram[:type=ddr3|lpddr3,clock_mhz=,outstanding=,l2_kib=,l2_ways=,l2_hit=]`,
    /// `firesim[:l2_kib=,l2_ways=,l2_hit=,l2_requests=,bus_bytes=,llc_kib=,llc_ways=,llc_port=,llc_misses=]` or
    /// `l2[:l2_kib=,l2_ways=,type=fixed|ddr3|lpddr3|firesim,latency=,bytes=,warm=]`.
    #[arg(long, value_name = "KIND", default_value = "bench", requires = "cycles")]
    pub memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles(), requires = "cycles")]
    pub interval: u64,
    /// A processor that runs ahead of the accelerator while its commands wait at the port:
    /// `rocket[:ahead=,loop_ws=,loop_conv=]`. Without this, the host waits with each command until it is accepted.
    #[arg(long, value_name = "KIND", requires = "cycles")]
    pub processor: Option<Processor>,
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

/// How a session runs.
#[derive(Args, Clone, Debug)]
pub struct SetupArguments {
    /// Memory behind the accelerator's port, as for `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    pub memory: MemoryModel,
    /// Cycles from one command of the host to the next, at least.
    #[arg(long, value_name = "CYCLES", default_value_t = 1, value_parser = values::cycles())]
    pub interval: u64,
    /// A processor that runs ahead of the accelerator, as for `pollux run`.
    #[arg(long, value_name = "KIND")]
    pub processor: Option<Processor>,
    /// Translate addresses through the TLB; the walk behind a miss takes so many cycles.
    #[arg(long, value_name = "CYCLES", value_parser = clap::value_parser!(u32).range(1..))]
    pub page_walk: Option<u32>,
}

impl SetupArguments {
    /// The same for a session.
    pub fn setup(&self) -> Setup {
        let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
        Setup {
            memory: self.memory,
            translation: self.page_walk.map_or(Translation::Bare, paged),
            interval: self.interval,
            processor: self.processor,
        }
    }
}

/// Whether what was simulated before is replayed.
#[derive(Args, Clone, Debug, Default)]
pub struct ReplayArguments {
    /// Simulate everything, even what was simulated before in the same situation. The result is the same.
    #[arg(long)]
    no_replay: bool,
    /// Simulate this share of what is replayed, 0 to 1, again, and stop if anything differs.
    #[arg(long, value_name = "FRACTION", conflicts_with = "no_replay", value_parser = values::share)]
    check_replay: Option<f64>,
    /// Memory for situations that were simulated, in MiB; 200 by default. When it is full, they are forgotten.
    #[arg(long, value_name = "MIB", conflicts_with = "no_replay", value_parser = clap::value_parser!(u32).range(1..))]
    replay_table_size: Option<u32>,
    /// Keep situations in this folder for later runs: one file for each configuration, memory and version of Pollux.
    #[arg(long, value_name = "DIR", conflicts_with = "no_replay")]
    replay_tables: Option<PathBuf>,
}

impl ReplayArguments {
    /// How a run behind this memory is replayed. If it is not, `obstacle` says why, unless the memory is what hinders it.
    ///
    /// # Errors
    /// An option without an effect.
    pub fn options(&self, memory: MemoryModel, obstacle: Option<&str>) -> Result<Option<ReplayOptions>, Failure> {
        let memory = match memory {
            MemoryModel::Bench(_) | MemoryModel::Bandwidth(_) => None,
            _ => Some("the times of this --memory depend on addresses"),
        };
        if let Some(obstacle) = obstacle.or(memory) {
            return self.refuse(obstacle).map(|()| None);
        }
        let Self { no_replay, check_replay, replay_table_size, replay_tables: _ } = self;
        let default = ReplayOptions::default();
        let options = ReplayOptions {
            check: check_replay.unwrap_or(default.check),
            table_bytes: replay_table_size.map_or(default.table_bytes, |mib| (mib as usize) << 20),
            ..default
        };
        Ok((!no_replay).then_some(options))
    }

    /// The situations that earlier runs have left, or none.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn table(&self) -> Result<ReplayTable, Failure> {
        let Some(folder) = &self.replay_tables else { return Ok(ReplayTable::new()) };
        fs::create_dir_all(folder).map_err(Failure::writing(folder))?;
        Ok(ReplayTable::in_folder(folder))
    }

    /// Leaves the situations of a run to later ones, if they are to be kept.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&self, table: &ReplayTable, out: &Output) -> Result<(), Failure> {
        if let Some(trouble) = table.trouble() {
            out.note(&format!("warning: {trouble}"));
        }
        table.file().map_or(Ok(()), |(path, contents)| out.write(&path, &contents))
    }

    fn refuse(&self, obstacle: &str) -> Result<(), Failure> {
        let given = [
            ("--no-replay", self.no_replay),
            ("--check-replay", self.check_replay.is_some()),
            ("--replay-table-size", self.replay_table_size.is_some()),
            ("--replay-tables", self.replay_tables.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter_map(|(flag, is_given)| is_given.then_some(flag)).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(format!("{} has no effect, nothing is replayed: {obstacle}", given.join(", "))))
    }
}
