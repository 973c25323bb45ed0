//! What can be wrong with a table.

use thiserror::Error;

/// Why a table cannot be used. The message names the file, the line and the key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnergyError {
    /// Something in a file.
    #[error("{file}:{line}: {message}")]
    File {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The key and what is wrong with it.
        message: String,
    },
    /// No built-in table is called so.
    #[error("no energy table is called `{name}`: there are {known}; a file's name ends in .toml")]
    UnknownTable {
        /// The name.
        name: String,
        /// Names of the built-in tables.
        known: String,
    },
    /// The table has no figure for a memory of this configuration.
    #[error(
        "energy table {table} has no figure for the {memory} of configuration `{config}` (banks of {kib} KiB, {width} bits an access): {reason}; give \
         it as a point of `sram.points`, or as `{memory}.access`, in a table of your own"
    )]
    Memory {
        /// The table.
        table: String,
        /// `scratchpad` or `accumulator`.
        memory: &'static str,
        /// The configuration.
        config: String,
        /// KiB of a bank.
        kib: String,
        /// Bits of an access.
        width: u32,
        /// What it has.
        reason: String,
    },
    /// A reference table that is not complete.
    #[error("{0}")]
    Reference(String),
}
