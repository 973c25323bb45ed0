//! A table that is kept between runs: of one configuration behind one memory. Its facts can be kept on disk.

use std::path::{Path, PathBuf};
use std::{fs, io};

use pollux_isa::ValidConfig;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::field_survey::FieldFindings;
use super::table::{Facts, Table};
use crate::memory::{BandwidthMemory, BenchMemory, MemoryModel};
use crate::parts::values::Timing;

/// Situations that were simulated, for the next run of the same configuration behind the same memory.
///
/// With a [folder](Self::in_folder) they are read from a file there, if an earlier run wrote one, and [`Self::file`] is what is to be
/// written for the next. A file holds what follows from each situation, but no machines: where a run leaves what is known, the way to
/// that place is simulated once.
#[derive(Debug, Default)]
pub struct ReplayTable {
    of: Option<RunsOf>,
    tables: Option<Tables>,
    folder: Option<PathBuf>,
    trouble: Option<String>,
}

/// What a file of a table is of. It is its name, too, as a hash.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct About {
    /// Version of Pollux, and a hash of what the emulator is built from: cycles are only known to be those of the same one.
    version: String,
    sources: String,
    /// Digest of the configuration.
    config: u64,
    memory: String,
    interval: u64,
    counted: bool,
    profiled: bool,
}

impl About {
    fn of(runs: &RunsOf) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            sources: env!("POLLUX_SIM_SOURCES").into(),
            config: runs.config.digest(),
            memory: runs.memory.to_string(),
            interval: runs.interval,
            counted: runs.counted,
            profiled: runs.profiled,
        }
    }

    fn file(&self, folder: &Path) -> PathBuf {
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        folder.join(format!("{:032x}.{EXTENSION}", xxh3_128(&bytes)))
    }
}

/// Of the files of tables.
const EXTENSION: &str = "replay";
/// First bytes of such a file. A hash of all that follows it stands next.
const MAGIC: [u8; 16] = *b"Pollux replay 1\n";

/// Runs that can share a table: of this configuration behind this memory, with this issue interval, and whether events are counted, or cycles profiled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunsOf {
    pub config: ValidConfig,
    pub memory: MemoryModel,
    pub interval: u64,
    pub counted: bool,
    pub profiled: bool,
}

/// The table, by the kind of memory.
#[derive(Debug)]
pub(crate) enum Tables {
    Bench(Table<BenchMemory<Timing>>),
    Bandwidth(Table<BandwidthMemory<Timing>>),
    /// Times of this memory depend on addresses: nothing is kept.
    None,
}

impl ReplayTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table that looks for what earlier runs left in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::default() }
    }

    /// Whether it is for later runs, too: it has a folder.
    pub fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Why a file of the folder could not be used, if there was one that should have been.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The file to be written to the folder, if a run has learnt something: its path and contents.
    pub fn file(&self) -> Option<(PathBuf, Vec<u8>)> {
        let (folder, runs) = (self.folder.as_ref()?, self.of.as_ref()?);
        let facts = match &self.tables {
            Some(Tables::Bench(table)) if table.learnt => table.facts(),
            Some(Tables::Bandwidth(table)) if table.learnt => table.facts(),
            _ => return None,
        };
        let about = About::of(runs);
        let path = about.file(folder);
        let contents = postcard::to_stdvec(&(about, facts)).ok()?;
        Some((path, [&MAGIC[..], &xxh3_128(&contents).to_le_bytes(), &contents].concat()))
    }

    /// What an earlier run of these left in the folder.
    fn facts(&mut self, runs: &RunsOf) -> Facts {
        let about = About::of(runs);
        let Some(path) = self.folder.as_deref().map(|folder| about.file(folder)) else { return Facts::default() };
        let read = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => None,
            _ => Some(error.to_string()),
        });
        match read.and_then(|bytes| facts_in(&bytes, &about).ok_or_else(|| Some("it is damaged".to_owned()))) {
            Ok(facts) => return facts,
            Err(None) => {}
            Err(Some(reason)) => self.trouble = Some(format!("{}: {reason}; it is not used", path.display())),
        }
        Facts::default()
    }

    /// States in the table.
    pub fn states(&self) -> usize {
        match &self.tables {
            Some(Tables::Bench(table)) => table.states(),
            Some(Tables::Bandwidth(table)) => table.states(),
            Some(Tables::None) | None => 0,
        }
    }

    /// What is known of the fields of the canonical form, if [they were surveyed](super::ReplayOptions::drop_field). For tests.
    pub fn fields(&self) -> FieldFindings {
        match &self.tables {
            Some(Tables::Bench(table)) => table.fields.findings(),
            Some(Tables::Bandwidth(table)) => table.fields.findings(),
            Some(Tables::None) | None => FieldFindings::new(),
        }
    }

    /// The table for these runs; emptied if it was one for others.
    pub(crate) fn of(&mut self, runs: &RunsOf, limit: usize) -> &mut Tables {
        if self.of.as_ref() != Some(runs) {
            self.of = Some(runs.clone());
            self.tables = None;
        }
        if self.tables.is_none() {
            let facts = self.facts(runs);
            self.tables = Some(match runs.memory {
                MemoryModel::Bench(_) => Tables::Bench(self.table(facts, limit)),
                MemoryModel::Bandwidth(_) => Tables::Bandwidth(self.table(facts, limit)),
                MemoryModel::Dram(_) | MemoryModel::FireSim(_) | MemoryModel::L2(_) => Tables::None,
            });
        }
        let tables = self.tables.get_or_insert(Tables::None);
        match tables {
            Tables::Bench(table) => table.set_limit(limit),
            Tables::Bandwidth(table) => table.set_limit(limit),
            Tables::None => {}
        }
        tables
    }

    fn table<M>(&mut self, facts: Facts, limit: usize) -> Table<M> {
        Table::of_facts(facts, limit).unwrap_or_else(|| {
            self.trouble = Some("a file of the folder contradicts itself; it is not used".into());
            Table::new(limit)
        })
    }
}

/// What a file says, if it is whole and of these runs.
fn facts_in(bytes: &[u8], about: &About) -> Option<Facts> {
    let (hash, contents) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
    if xxh3_128(contents).to_le_bytes() != *hash {
        return None;
    }
    let (found, facts): (About, Facts) = postcard::from_bytes(contents).ok()?;
    (found == *about).then_some(facts)
}
