//! The folder of a sweep: what it is of, its shards, and their table.
//!
//! A shard appears under its name when it is complete. So whatever happens to whoever runs it, the folder holds whole shards and
//! nothing else but hidden temporary files, and a shard that is there is not run again.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pollux_shards::Shards;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::SweepError;
use crate::evaluate::evaluate;
use crate::format::{self, Format};
use crate::manifest::Manifest;
use crate::table::{Row, Schema, Table, Value, hex};

/// Version of the simulator, whose figures must not be mixed with those of others.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The file that says what a folder is of.
const IDENTITY: &str = "sweep.json";
const FORM: &str = "pollux-sweep/1";
/// Beginning of the names of temporary files.
const TEMPORARY: &str = ".shard-";

/// What a folder is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name and version of this form.
    pub form: String,
    /// Version of the simulator.
    pub version: String,
    /// Digest of the points and columns.
    pub digest: String,
    /// Points.
    pub points: usize,
    /// Shards.
    pub shards: usize,
    /// Form of the shards.
    pub format: Format,
    /// Columns of the table.
    pub columns: Schema,
}

/// What became of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// It was there.
    Skipped,
    /// It was run and written.
    Written,
}

/// A folder with shards.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    identity: Identity,
}

/// All shards as one table.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The table, in the order of the points.
    pub table: Table,
    /// SHA-256 of its contents.
    pub hash: String,
}

impl Identity {
    fn new(manifest: &Manifest, shards: Shards, format: Format) -> Self {
        Self {
            form: FORM.to_owned(),
            version: VERSION.to_owned(),
            digest: manifest.digest(),
            points: manifest.points().len(),
            shards: shards.count(),
            format,
            columns: manifest.schema().clone(),
        }
    }

    /// Why shards of the other do not belong to this one.
    fn difference(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, here: &dyn std::fmt::Display, there: &dyn std::fmt::Display| {
            Some(format!("it has {what} {there}, not {here}"))
        };
        match other {
            _ if other.form != self.form => differs("the form", &self.form, &other.form),
            _ if other.version != self.version => differs("results of version", &self.version, &other.version),
            _ if other.digest != self.digest => Some("it has the results of another manifest".to_owned()),
            _ if other.shards != self.shards => differs("the number of shards", &self.shards, &other.shards),
            _ if other.format != self.format => {
                differs("shards of the form", &self.format.extension(), &other.format.extension())
            }
            _ if other != self => Some("it says something else of the same manifest".to_owned()),
            _ => None,
        }
    }
}

impl Folder {
    /// The folder for a manifest's shards; it is made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made or read, or one of another sweep.
    pub fn open(path: &Path, manifest: &Manifest, shards: Shards, format: Format) -> Result<Self, SweepError> {
        let identity = Identity::new(manifest, shards, format);
        let folder = Self { path: path.to_owned(), identity };
        if path.join(IDENTITY).exists() {
            let there = Self::existing(path)?.identity;
            return match folder.identity.difference(&there) {
                None => Ok(folder),
                Some(difference) => {
                    Err(folder.error(format!("{difference}: choose another folder, or remove this one")))
                }
            };
        }
        let error = |source: io::Error| SweepError::Write { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(error)?;
        let begun = fs::read_dir(path)
            .map_err(error)?
            .flatten()
            .find(|entry| number_of(&entry.file_name().to_string_lossy()).is_some());
        if let Some(shard) = begun {
            let name = shard.file_name().to_string_lossy().into_owned();
            return Err(
                folder.error(format!("it has {name}, but no {IDENTITY} that says what that is: choose another folder"))
            );
        }
        let text = serde_json::to_string_pretty(&folder.identity).unwrap_or_default();
        folder.write(IDENTITY, format!("{text}\n").as_bytes())?;
        Ok(folder)
    }

    /// A folder that is there.
    ///
    /// # Errors
    /// It is none of a sweep.
    pub fn existing(path: &Path) -> Result<Self, SweepError> {
        let file = path.join(IDENTITY);
        let text = fs::read_to_string(&file).map_err(|source| SweepError::Read { path: file.clone(), source })?;
        let identity: Identity = serde_json::from_str(&text)
            .map_err(|error| SweepError::Table { name: file.display().to_string(), message: error.to_string() })?;
        let folder = Self { path: path.to_owned(), identity };
        match folder.identity.form == FORM {
            true => Ok(folder),
            false => Err(folder.error(format!("its form is {}, not {FORM}", folder.identity.form))),
        }
    }

    /// What it is of.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn error(&self, message: String) -> SweepError {
        SweepError::Folder { path: self.path.clone(), message }
    }

    /// The file of a shard.
    pub fn shard(&self, shard: usize) -> PathBuf {
        let Identity { shards, format, .. } = &self.identity;
        let width = shards.saturating_sub(1).to_string().len();
        self.path.join(format!("shard-{shard:0width$}-of-{shards}.{}", format.extension()))
    }

    /// Shards that are not there yet.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.identity.shards).filter(|shard| !self.shard(*shard).exists()).collect()
    }

    /// Runs a shard, unless it is there. `progress` and `cancelled` as in [`evaluate`].
    ///
    /// # Errors
    /// As [`evaluate`], or a file that cannot be written.
    pub fn run(
        &self,
        manifest: &Manifest,
        shard: usize,
        progress: &dyn Fn(usize),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<ShardState, SweepError> {
        let path = self.shard(shard);
        if path.exists() {
            return Ok(ShardState::Skipped);
        }
        let range = Shards::new(self.identity.points, self.identity.shards).range(shard);
        let rows = evaluate(manifest, range, progress, cancelled)?;
        let metadata = [
            ("form", FORM.to_owned()),
            ("version", VERSION.to_owned()),
            ("digest", self.identity.digest.clone()),
            ("shard", format!("{shard}/{}", self.identity.shards)),
        ];
        let mut metadata: Vec<(String, String)> =
            metadata.into_iter().map(|(key, text)| (format!("pollux.{key}"), text)).collect();
        metadata.sort();
        let table = Table { schema: self.identity.columns.clone(), rows, metadata };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.write(&name, &format::write(&table, self.identity.format)?)?;
        Ok(ShardState::Written)
    }

    /// Runs shards, so many at a time. `progress` is told of points that are done, or were there; `cancelled` is asked by every thread.
    ///
    /// # Errors
    /// The first error ends all of them.
    pub fn run_all(
        &self,
        manifest: &Manifest,
        shards: &[usize],
        jobs: usize,
        progress: &(dyn Fn(usize) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<ShardState>, SweepError> {
        let failed = AtomicBool::new(false);
        let cut = Shards::new(self.identity.points, self.identity.shards);
        let one = |shard: usize| {
            let stop = || failed.load(Ordering::Relaxed) || cancelled();
            let state = self.run(manifest, shard, &|_| progress(1), &stop);
            match state {
                Ok(ShardState::Skipped) => progress(cut.range(shard).len()),
                Ok(ShardState::Written) => {}
                Err(_) => failed.store(true, Ordering::Relaxed),
            }
            state
        };
        let states = pollux_shards::each(shards, jobs, |shard| Ok::<_, Infallible>((*shard, one(*shard))));
        let mut states = states.unwrap_or_else(|never| match never {});
        // What went wrong goes before what was cancelled because of it.
        states.sort_by_key(|(shard, state)| (matches!(state, Ok(_) | Err(SweepError::Cancelled)), *shard));
        states.into_iter().map(|(_, state)| state).collect()
    }

    /// Writes a file of the folder whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SweepError> {
        write_file(&self.path.join(name), bytes)
    }

    /// All shards as one table, in the order of the points. What interrupted runs have left behind is removed.
    ///
    /// # Errors
    /// Shards that are missing, of another sweep or of another version; points that are there twice, or not at all.
    pub fn merge(&self) -> Result<Merged, SweepError> {
        let missing = self.missing();
        if let [first, ..] = missing[..] {
            return Err(self.error(format!(
                "{} of {} shards are missing, the first is {first}: run the sweep again, finished shards are not repeated",
                missing.len(),
                self.identity.shards
            )));
        }
        self.refuse_strangers()?;
        let mut rows = Vec::with_capacity(self.identity.points);
        for shard in 0..self.identity.shards {
            rows.extend(self.rows(shard)?);
        }
        self.check_points(&mut rows)?;
        let table = Table { schema: self.identity.columns.clone(), rows, metadata: Vec::new() };
        let hash = table.content_hash();
        let facts = [("digest", &self.identity.digest), ("hash", &hash), ("version", &self.identity.version)];
        let metadata = facts.map(|(key, text)| (format!("pollux.{key}"), text.clone())).to_vec();
        self.remove_temporaries();
        Ok(Merged { table: Table { metadata, ..table }, hash })
    }

    /// Refuses shards of another cut of the sweep.
    fn refuse_strangers(&self) -> Result<(), SweepError> {
        let own: BTreeSet<PathBuf> = (0..self.identity.shards).map(|shard| self.shard(shard)).collect();
        let error = |source: io::Error| SweepError::Read { path: self.path.clone(), source };
        for entry in fs::read_dir(&self.path).map_err(error)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if number_of(&name).is_some() && !own.contains(&entry.path()) {
                return Err(self.error(format!("{name} is none of its {} shards: remove it", self.identity.shards)));
            }
        }
        Ok(())
    }

    /// The rows of a shard.
    fn rows(&self, shard: usize) -> Result<Vec<Row>, SweepError> {
        let path = self.shard(shard);
        let table = format::read(&path)?;
        let wrong = |message: String| SweepError::Table { name: path.display().to_string(), message };
        let Identity { version, digest, shards, columns, .. } = &self.identity;
        let own = format!("{shard}/{shards}");
        let remedy = "remove it, and run the sweep again";
        for (key, expected) in [("form", FORM), ("version", version), ("digest", digest), ("shard", &own)] {
            let found = table.metadata(&format!("pollux.{key}")).unwrap_or("none");
            if found != expected {
                return Err(wrong(format!("its {key} is {found}, that of the sweep {expected}: {remedy}")));
            }
        }
        if table.schema != *columns {
            return Err(wrong(format!("its columns are not those of the sweep: {remedy}")));
        }
        Ok(table.rows)
    }

    /// Sorts the rows, and checks that each point has one, and is the manifest's.
    fn check_points(&self, rows: &mut [Row]) -> Result<(), SweepError> {
        let point = |row: &Row| match row.0.first() {
            Some(Value::Int(point)) => *point,
            _ => -1,
        };
        rows.sort_by_key(point);
        for (expected, row) in rows.iter().enumerate() {
            let found = point(row);
            if found < expected as i64 {
                return Err(self.error(format!("point {found} is there twice")));
            }
            if found > expected as i64 {
                return Err(self.error(format!("point {expected} is missing, though every shard is there")));
            }
        }
        if rows.len() != self.identity.points {
            return Err(self.error(format!("{} points instead of {}", rows.len(), self.identity.points)));
        }
        let text = |row: &Row, column: &str| match self.identity.columns.position(column).map(|at| &row.0[at]) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let line = |row: &Row| {
            let names = ["work", "config", "memory", "mapping"].map(|column| text(row, column));
            format!("{} {names:?}\n", text(row, "id"))
        };
        let ids: String = rows.iter().map(line).collect();
        let columns = serde_json::to_string(&self.identity.columns).unwrap_or_default();
        match hex(&Sha256::digest(format!("{columns}\n{ids}").as_bytes())) == self.identity.digest {
            true => Ok(()),
            false => {
                Err(self
                    .error("its points are not those of its manifest: remove it, and run the sweep again".to_owned()))
            }
        }
    }

    /// Every shard is there: temporary files belong to nobody any more.
    fn remove_temporaries(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                // One that cannot be removed harms nobody.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Writes a file whole or not at all: under another name in its folder first.
///
/// # Errors
/// Those of writing.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SweepError> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).suffix(".tmp").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        permit(file.path())?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|source| SweepError::Write { path: path.to_owned(), source })
}

/// Number of the shard that a file's name says it is.
fn number_of(name: &str) -> Option<usize> {
    let (number, _) = name.strip_prefix("shard-")?.split_once("-of-")?;
    number.parse().ok()
}

/// Others may read it: a sweep's workers need not be one user.
#[cfg(unix)]
fn permit(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn permit(_: &Path) -> io::Result<()> {
    Ok(())
}
