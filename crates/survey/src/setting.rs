//! How a study is run.

use std::sync::atomic::{AtomicUsize, Ordering};

use pollux_sim::memory::MemoryModel;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How much of a study is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Everything: minutes.
    #[default]
    Full,
    /// The same on small shapes or with few samples: seconds.
    Reduced,
}

impl Form {
    /// One of two values.
    pub fn choose<T>(self, full: T, reduced: T) -> T {
        match self {
            Self::Full => full,
            Self::Reduced => reduced,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        self.choose("full", "reduced")
    }
}

/// How a study is run. Its numbers depend on form and seed alone.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// How much.
    pub form: Form,
    /// Of all that is drawn.
    pub seed: u64,
    /// Threads.
    pub jobs: usize,
    /// Is told what is being done, and how far it is.
    pub watch: &'a (dyn Fn(&str, usize, usize) + Sync),
}

/// The seed, unless another one is given.
pub const SEED: u64 = 1;

/// Bytes a cycle of the memories that the studies put behind the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bandwidth {
    /// The golden bench's memory: as much as the port takes.
    B16,
    /// What Gemmini's own Timeloop model has.
    B8,
    /// Between the two that the paper's figures point at.
    B5,
    /// Half of that.
    B4,
}

impl Bandwidth {
    /// All of them, the widest first.
    pub const ALL: [Self; 4] = [Self::B16, Self::B8, Self::B5, Self::B4];

    /// As `--memory` takes it.
    pub fn text(self) -> &'static str {
        match self {
            Self::B16 => "bench",
            Self::B8 => "bandwidth:bytes=8,latency=100",
            Self::B5 => "bandwidth:bytes=16,cycles=3,latency=100",
            Self::B4 => "bandwidth:bytes=4,latency=100",
        }
    }

    /// Bytes a cycle.
    pub fn bytes(self) -> f64 {
        match self {
            Self::B16 => 16.0,
            Self::B8 => 8.0,
            Self::B5 => 16.0 / 3.0,
            Self::B4 => 4.0,
        }
    }

    /// The memory system.
    ///
    /// # Errors
    /// None: a test reads all of them.
    pub fn memory(self) -> Result<MemoryModel, StudyError> {
        self.text().parse().map_err(|error| StudyError::Setting(format!("{}: {error}", self.text())))
    }
}

/// Why a study has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StudyError {
    /// A program that cannot be made.
    #[error(transparent)]
    Kernel(#[from] pollux_kernels::KernelError),
    /// A run that did not come to its end.
    #[error("{0}")]
    Run(String),
    /// Something is wrong with the study's own data.
    #[error("{0}")]
    Setting(String),
    /// A table without a figure for a memory.
    #[error(transparent)]
    Energy(#[from] pollux_energy::EnergyError),
    /// A plot.
    #[error("plot: {0}")]
    Plot(String),
}

/// Works on all items, with so many threads; results in the order of the items. The first error ends it.
///
/// # Errors
/// That of an item.
pub fn in_parallel<T: Sync, R: Send>(
    setting: &Setting<'_>,
    what: &str,
    items: &[T],
    work: impl Fn(&T) -> Result<R, StudyError> + Sync,
) -> Result<Vec<R>, StudyError> {
    let done = AtomicUsize::new(0);
    pollux_shards::each(items, setting.jobs, |item| {
        let result = work(item)?;
        (setting.watch)(what, done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
        Ok(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_memory_can_be_read() {
        assert!(Bandwidth::ALL.iter().all(|bandwidth| bandwidth.memory().is_ok()));
    }
}
