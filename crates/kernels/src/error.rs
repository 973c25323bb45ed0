//! Why something cannot be lowered.

use pollux_asm::program::ProgramError;
use pollux_isa::legality::LocalMemory;
use pollux_isa::{ConfigError, EncodeError};
use thiserror::Error;

use crate::schedule::ScheduleError;

/// Why an operation cannot be lowered to commands.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The configuration is inconsistent.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A finished program breaks a rule.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A command has no encoding in this configuration.
    #[error("operation `{operation}`: {source}")]
    Encode {
        /// Operation being lowered.
        operation: String,
        /// The illegal field.
        source: EncodeError,
    },
    /// The schedule is illegal for the operation.
    #[error("operation `{operation}`: {source}")]
    Schedule {
        /// Operation being lowered.
        operation: String,
        /// The broken rule.
        source: ScheduleError,
    },
    /// An operand has the wrong shape.
    #[error("operation `{operation}`: {operand} is {}x{}, expected {}x{}", found.0, found.1, expected.0, expected.1)]
    Shape {
        /// Operation.
        operation: String,
        /// Operand.
        operand: &'static str,
        /// Rows and columns given.
        found: (usize, usize),
        /// Rows and columns needed.
        expected: (usize, usize),
    },
    /// Data or parameters have the wrong number of elements.
    #[error("`{what}` has {found} elements, expected {expected}")]
    Length {
        /// Buffer or parameter.
        what: String,
        /// Elements given.
        found: usize,
        /// Elements needed.
        expected: usize,
    },
    /// A part of a matrix that it does not have.
    #[error("{axis} {start}..{end} of a matrix with {extent} {axis}: take a part inside it")]
    Slice {
        /// `rows` or `columns`.
        axis: &'static str,
        /// First.
        start: usize,
        /// One past the last.
        end: usize,
        /// Extent of the matrix.
        extent: usize,
    },
    /// Main memory is full.
    #[error(
        "buffer `{buffer}` needs {bytes} bytes of main memory, but {free} of {capacity} are free: enlarge it or split the program"
    )]
    DramFull {
        /// Buffer.
        buffer: String,
        /// Bytes needed, alignment included.
        bytes: u64,
        /// Bytes free.
        free: u64,
        /// Bytes of the memory.
        capacity: u64,
    },
    /// A buffer at a given address overlaps another one.
    #[error("buffer `{buffer}` at {address:#x} overlaps buffer `{other}`: choose another address")]
    DramOverlap {
        /// Buffer.
        buffer: String,
        /// Its address.
        address: u64,
        /// The earlier buffer.
        other: String,
    },
    /// Two buffers have one name.
    #[error("there already is a buffer `{0}`: choose another name")]
    DuplicateBuffer(String),
    /// A local memory is full.
    #[error(
        "operation `{operation}`: `{buffer}` needs {rows} {} rows, but {free} of {capacity} are free: use a smaller tile",
        memory.name()
    )]
    LocalFull {
        /// Operation.
        operation: String,
        /// Part of the operation's data.
        buffer: String,
        /// Memory.
        memory: LocalMemory,
        /// Rows needed.
        rows: u32,
        /// Rows free.
        free: u32,
        /// Rows of the memory.
        capacity: u32,
    },
    /// A parameter outside its legal values.
    #[error("operation `{operation}`: {what}")]
    Parameter {
        /// Operation.
        operation: String,
        /// What is wrong and what would be right.
        what: String,
    },
}
