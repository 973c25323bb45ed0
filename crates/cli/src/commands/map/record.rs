//! `--resume`: the file of a search's runs.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pollux_isa::ValidConfig;
use pollux_mapper::search::Record;
use pollux_mapper::{Problem, Surroundings};

use crate::failure::Failure;

/// A record that is being written. A line is written as a whole as soon as there is one, so that an interrupted search leaves what it has.
pub struct File {
    path: PathBuf,
    text: String,
    out: RefCell<fs::File>,
    /// The first error; nothing is written after it.
    error: RefCell<Option<io::Error>>,
}

impl File {
    /// Opens a record to take it up, or begins one.
    pub fn open(path: &Path, config: &ValidConfig, problem: &Problem, around: &Surroundings) -> Result<Self, Failure> {
        let mut text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::Input(format!("{}: {error}", path.display()))),
        };
        let (_, whole) = Record::read(&text, config, problem, around, |_| {})
            .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
        // A line that an interrupted search has not finished goes.
        text.truncate(whole);
        let mut out =
            OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(Failure::writing(path))?;
        let mut begin = || {
            out.set_len(whole as u64)?;
            io::Seek::seek(&mut out, io::SeekFrom::End(0))?;
            if text.is_empty() {
                text = Record::heading(config, problem, around);
                out.write_all(text.as_bytes())?;
            }
            Ok(())
        };
        begin().map_err(Failure::writing(path))?;
        Ok(Self { path: path.to_path_buf(), text, out: RefCell::new(out), error: RefCell::new(None) })
    }

    /// What is known, and what comes to be known is written.
    pub fn record(
        &self,
        config: &ValidConfig,
        problem: &Problem,
        around: &Surroundings,
    ) -> Result<Record<'_>, Failure> {
        let write = |line: &str| {
            let mut error = self.error.borrow_mut();
            if error.is_none() {
                *error = self.out.borrow_mut().write_all(line.as_bytes()).err();
            }
        };
        let record = Record::read(&self.text, config, problem, around, write);
        Ok(record.map_err(|error| Failure::Input(format!("{}: {error}", self.path.display())))?.0)
    }

    /// Tells of a line that could not be written.
    pub fn finish(self) -> Result<(), Failure> {
        self.error.into_inner().map_or(Ok(()), |error| Err(Failure::writing(&self.path)(error)))
    }
}
