//! Logs in the forms of riscv-isa-sim.

use std::io::Write;
use std::path::{Path, PathBuf};

use pollux_riscv::{Retired, Symbols, log};

use crate::failure::Failure;
use crate::files::OutputFile;
use crate::output::Output;

/// What a log says of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its text (`spike -l`), and the functions that begin.
    pub text: bool,
    /// What it changed (`spike --log-commits`).
    pub commits: bool,
}

/// A log that is being written: to a file, or to the standard error.
pub struct SpikeLog {
    file: Option<(PathBuf, OutputFile)>,
    form: Form,
}

impl SpikeLog {
    /// A log in a file, or on the standard error.
    pub fn new(path: Option<&Path>, form: Form, out: &Output) -> Result<Self, Failure> {
        let file = path.map(|path| Ok::<_, Failure>((path.to_path_buf(), out.create(path)?))).transpose()?;
        Ok(Self { file, form })
    }

    /// Writes the lines of an instruction.
    pub fn add(&mut self, retired: &Retired, symbols: &Symbols) -> Result<(), Failure> {
        let mut lines = String::new();
        if self.form.text {
            if let Some((name, 0)) = symbols.function(retired.pc) {
                lines.push_str(&format!("core   0: >>>>  {name}\n"));
            }
            lines.push_str(&log::execution_line(0, retired));
            lines.push('\n');
        }
        if self.form.commits {
            lines.push_str(&log::commit_line(0, retired));
            lines.push('\n');
        }
        match &mut self.file {
            Some((path, file)) => file.write_all(lines.as_bytes()).map_err(Failure::writing(path)),
            None => {
                // There is nowhere to report that the standard error is closed.
                let _ = std::io::stderr().write_all(lines.as_bytes());
                Ok(())
            }
        }
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<(), Failure> {
        self.file.map_or(Ok(()), |(_, file)| file.finish())
    }
}
