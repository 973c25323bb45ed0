//! What can go wrong.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a sweep cannot be made, run or merged. The message names the place and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SweepError {
    /// Text that is no TOML.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Something in the manifest that cannot be.
    #[error("line {line}: {key}: {message}")]
    Manifest {
        /// Line, from 1.
        line: usize,
        /// The key, with its section.
        key: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A file that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is no table.
    #[error("{name}: {message}")]
    Table {
        /// Name of the file.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A folder whose shards do not make the table.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// A point that shows a fault of Pollux.
    #[error("point {index}: {message}")]
    Point {
        /// Number of the point.
        index: usize,
        /// What went wrong.
        message: String,
    },
    /// Whoever watches did not want it to go on.
    #[error("the sweep was cancelled; finished shards stay, and are not run again")]
    Cancelled,
}
