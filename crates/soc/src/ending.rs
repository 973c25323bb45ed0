//! [`Ending`]: why a run ended.

use pollux_riscv::{BoardError, Trap};

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The program has ended with this code.
    Exit(u64),
    /// The limit of cycles.
    Limit,
    /// An exception, and the program has no handler, or the handler itself raises it.
    Trap(Trap),
    /// An instruction jumps to itself, and nothing interrupts.
    Endless,
    /// The core waits for Gemmini, and in Gemmini nothing can move any more.
    Deadlock,
    /// A command that Gemmini does not define, or a request that the host does not know.
    Board(BoardError),
}
