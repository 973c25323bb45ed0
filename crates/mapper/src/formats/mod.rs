//! Problems, architectures and mappings in the forms that other tools have for them, and schedules as TOML.
//!
//! | form | in | out |
//! |---|---|---|
//! | schedule (TOML) | [`schedule::parse`] | [`schedule::text`] |
//! | Timeloop problem, architecture, mapping (YAML, keys of versions 0.3 and 0.4) | [`timeloop::parse`] | [`timeloop::text`] |
//! | Timeloop `map.txt` | [`map_text::parse`] | [`map_text::text`] |
//! | DOSA mapping string | [`dosa::parse`] | [`dosa::text`] |
//! | SCALE-Sim topology (CSV) | [`scale_sim::parse`] | – |
//!
//! All mappings go through a [`Nest`]: four levels of seven loops, as the reference notes of these tools have them.

pub mod dosa;
pub mod map_text;
mod nest;
pub mod scale_sim;
pub mod schedule;
pub mod timeloop;

pub use nest::{Dim, Factor, Level, LevelName, Nest, SpatialAxis};

use thiserror::Error;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", .line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct FormatError {
    /// Line, from 1, if it is known.
    pub line: Option<usize>,
    /// What, with the key.
    pub message: String,
}

impl FormatError {
    /// Wrong in a line.
    pub fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: (line > 0).then_some(line), message: message.into() }
    }

    /// Wrong as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }
}
