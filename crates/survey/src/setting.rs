//! How a study is run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..items.len()).map(|_| None).collect());
    let worker = || -> Result<(), StudyError> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(()) };
            let result = work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
            results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
            (setting.watch)(what, done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..setting.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_memory_can_be_read() {
        assert!(Bandwidth::ALL.iter().all(|bandwidth| bandwidth.memory().is_ok()));
    }

    #[test]
    fn results_keep_their_order_and_an_error_ends_the_work() {
        let setting = Setting { form: Form::Reduced, seed: 1, jobs: 3, watch: &|_, _, _| {} };
        let items: Vec<usize> = (0..50).collect();
        assert_eq!(in_parallel(&setting, "x", &items, |x| Ok(2 * x)).unwrap()[49], 98);
        let failing = in_parallel(&setting, "x", &items, |x| match x {
            7 => Err(StudyError::Setting("seven".into())),
            x => Ok(*x),
        });
        assert_eq!(failing.unwrap_err().to_string(), "seven");
    }
}
