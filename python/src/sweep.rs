//! Sweeps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pollux_sweep::{Folder, Format, Manifest, ShardState, SweepError, Table};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::errors;

/// Time between two looks at the interpreter's signals and the progress.
const TICK: Duration = Duration::from_millis(50);

fn error(error: SweepError) -> PyErr {
    errors::exception("SweepError", &error.to_string(), &Value::Null)
}

fn message(message: String) -> PyErr {
    errors::exception("SweepError", &message, &Value::Null)
}

/// A manifest and the folder for its shards.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Sweep {
    manifest: Manifest,
    shards: usize,
    folder: Option<Folder>,
}

#[pymethods]
impl Sweep {
    /// Reads a manifest (TOML), whose files are relative to `base`; with `out`, its shards go there.
    #[new]
    #[pyo3(signature = (text, base, out=None, shards=None, format=None))]
    fn new(text: &str, base: &str, out: Option<&str>, shards: Option<usize>, format: Option<&str>) -> PyResult<Self> {
        let manifest = Manifest::parse(text, Path::new(base)).map_err(error)?;
        let cut = manifest.shards(shards).map_err(message)?;
        let format = match format {
            None | Some("parquet") => Format::Parquet,
            Some("jsonl") => Format::Jsonl,
            Some(other) => return Err(message(format!("form `{other}`: choose parquet or jsonl"))),
        };
        let open = |out: &str| Folder::open(Path::new(out), &manifest, cut, format).map_err(error);
        let folder = out.map(open).transpose()?;
        Ok(Self { manifest, shards: cut.count(), folder })
    }

    /// Points, shards, and the configurations that were left out, as `pollux sweep --dry-run --json` has them.
    fn json(&self) -> String {
        json!({
            "points": self.manifest.points().len(), "shards": self.shards, "left_out": self.manifest.left_out(),
            "list": self.manifest.describe(),
        })
        .to_string()
    }

    /// Shards that are not there yet.
    fn missing(&self) -> PyResult<Vec<usize>> {
        Ok(self.folder()?.missing())
    }

    /// Runs shards, so many at a time; `progress`, if given, is called with the number of points done. How many were written, and
    /// how many were there.
    #[pyo3(signature = (shards, jobs, progress=None))]
    fn run(
        &self,
        py: Python<'_>,
        shards: Vec<usize>,
        jobs: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(usize, usize)> {
        let folder = self.folder()?;
        if let Some(shard) = shards.iter().find(|shard| **shard >= self.shards) {
            return Err(message(format!("shard {shard}: there are {}, counted from 0", self.shards)));
        }
        let (done, cancelled, over) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        // Workers know nothing of the interpreter; this thread asks it, and tells them.
        let watch = || -> PyResult<()> {
            let mut told = 0;
            while !over.load(Ordering::Acquire) {
                std::thread::park_timeout(TICK);
                let now = done.load(Ordering::Relaxed);
                Python::attach(|py| {
                    py.check_signals()?;
                    match &progress {
                        Some(progress) if now != told => progress.call1(py, (now,)).map(drop),
                        _ => Ok(()),
                    }
                })?;
                told = now;
            }
            Ok(())
        };
        let run = || {
            let watcher = std::thread::current();
            std::thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    let count = |points| {
                        done.fetch_add(points, Ordering::Relaxed);
                    };
                    let stop = || cancelled.load(Ordering::Relaxed);
                    let states = folder.run_all(&self.manifest, &shards, jobs, &count, &stop);
                    over.store(true, Ordering::Release);
                    watcher.unpark();
                    states
                });
                let watched = watch();
                cancelled.store(watched.is_err(), Ordering::Relaxed);
                let states = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                watched.map(|()| states)
            })
        };
        let states = py.detach(run)?.map_err(error)?;
        let written = states.iter().filter(|state| **state == ShardState::Written).count();
        Ok((written, states.len() - written))
    }
}

impl Sweep {
    fn folder(&self) -> PyResult<&Folder> {
        self.folder.as_ref().ok_or_else(|| message("the sweep has no folder: give out".to_owned()))
    }
}

/// The table of a folder: columns with their values, rows by column, and the hash of its contents, as JSON.
#[pyfunction]
pub fn merge(py: Python<'_>, out: &str) -> PyResult<String> {
    let merged = py.detach(|| Folder::existing(Path::new(out)).and_then(|folder| folder.merge())).map_err(error)?;
    Ok(json!({ "columns": columns(&merged.table), "content_sha256": merged.hash }).to_string())
}

/// The same, written to a file whose name says its form.
#[pyfunction]
pub fn merge_to(py: Python<'_>, out: &str, file: &str) -> PyResult<()> {
    let path = Path::new(file);
    let format = Format::of(path).map_err(message)?;
    let write = || {
        let merged = Folder::existing(Path::new(out)).and_then(|folder| folder.merge())?;
        pollux_sweep::write_file(path, &pollux_sweep::write(&merged.table, format)?)
    };
    py.detach(write).map_err(error)
}

fn columns(table: &Table) -> Vec<Value> {
    let column = |(index, column): (usize, &pollux_sweep::Column)| {
        let values: Vec<&pollux_sweep::Value> = table.rows.iter().map(|row| &row.0[index]).collect();
        json!({ "name": column.name, "kind": column.kind, "values": values })
    };
    table.schema.0.iter().enumerate().map(column).collect()
}
