//! A table that is kept between runs: of one configuration behind one memory.

use pollux_isa::ValidConfig;

use super::table::Table;
use crate::memory::{BandwidthMemory, BenchMemory, MemoryModel};
use crate::parts::values::Timing;

/// Situations that were simulated, for the next run of the same configuration behind the same memory.
#[derive(Debug, Default)]
pub struct ReplayTable {
    of: Option<RunsOf>,
    tables: Option<Tables>,
}

/// Runs that can share a table: of this configuration behind this memory, with this issue interval, and whether events are counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunsOf {
    pub config: ValidConfig,
    pub memory: MemoryModel,
    pub interval: u64,
    pub counted: bool,
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

    /// States in the table.
    pub fn states(&self) -> usize {
        match &self.tables {
            Some(Tables::Bench(table)) => table.states(),
            Some(Tables::Bandwidth(table)) => table.states(),
            Some(Tables::None) | None => 0,
        }
    }

    /// The fields of the canonical form that were met, if [they were listed](super::ReplayOptions::drop_field). For tests.
    pub fn fields(&self) -> Vec<&'static str> {
        match &self.tables {
            Some(Tables::Bench(table)) => table.fields.iter().copied().collect(),
            Some(Tables::Bandwidth(table)) => table.fields.iter().copied().collect(),
            Some(Tables::None) | None => Vec::new(),
        }
    }

    /// The table for these runs; emptied if it was one for others.
    pub(crate) fn of(&mut self, runs: &RunsOf, limit: usize) -> &mut Tables {
        if self.of.as_ref() != Some(runs) {
            self.of = Some(runs.clone());
            self.tables = None;
        }
        let tables = self.tables.get_or_insert_with(|| match runs.memory {
            MemoryModel::Bench(_) => Tables::Bench(Table::new(limit)),
            MemoryModel::Bandwidth(_) => Tables::Bandwidth(Table::new(limit)),
            MemoryModel::Dram(_) | MemoryModel::FireSim(_) | MemoryModel::L2(_) => Tables::None,
        });
        match tables {
            Tables::Bench(table) => table.set_limit(limit),
            Tables::Bandwidth(table) => table.set_limit(limit),
            Tables::None => {}
        }
        tables
    }
}
