//! What can go wrong.

use std::io;
use std::path::PathBuf;

use pollux_asm::Diagnostics;
use pollux_asm::binary::BinaryError;
use pollux_isa::ConfigError;
use pollux_kernels::KernelError;
use pollux_sim::memory::ParseMemoryError;
use pollux_sim::runner::Stopped;
use pollux_sim::values::Timing;
use thiserror::Error;

/// Why something could not be done. The message names the place and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that does not exist, or cannot be built.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Assembly text with faults, each with its line.
    #[error("{}", text(.0))]
    Text(#[from] Diagnostics),
    /// A file that is no program.
    #[error("{name}: {source}")]
    Binary {
        /// Name of the file.
        name: String,
        /// What is wrong with it.
        source: BinaryError,
    },
    /// An operation that has no commands: operands that do not fit, or no room.
    #[error(transparent)]
    Operation(#[from] KernelError),
    /// A text that names no memory system.
    #[error(transparent)]
    Memory(#[from] ParseMemoryError),
    /// Commands or accesses that the hardware does not define, a line each.
    #[error("the program is illegal:\n  {}", .0.join("\n  "))]
    Illegal(Vec<String>),
    /// A cycle-level run that did not come to its end.
    #[error(transparent)]
    Stopped(#[from] Box<Stopped>),
    /// The same of a run without values.
    #[error(transparent)]
    StoppedWithoutValues(Box<Stopped<Timing>>),
    /// Whoever watches a functional run ended it.
    #[error("the run was ended before its end")]
    Ended,
    /// A run without values whose timing cannot be told without them.
    #[error("{0}: run it with its values")]
    NeedsValues(String),
    /// A buffer that the program does not have.
    #[error("the program has no buffer `{name}`: it has {}", list(.known))]
    NoBuffer {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Contents that do not fill a tensor.
    #[error("{name} has {values} elements, but its shape {shape:?} takes {expected}")]
    Shape {
        /// The tensor.
        name: &'static str,
        /// Its extents.
        shape: [usize; 2],
        /// Elements that it takes.
        expected: usize,
        /// Elements that there are.
        values: usize,
    },
}

/// The errors with their places.
fn text(diagnostics: &Diagnostics) -> String {
    format!("{diagnostics}\n{}", diagnostics.render())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
