//! Runs as files for other people's viewers: Perfetto, Konata, and the viewers of waves.
//!
//! All are observers that write as the run goes on. None grows beyond its budget of bytes: what would not fit is left out, the file
//! stays well formed, says so itself, and [`LeftOut`] says it to the caller. [`files`] writes all that are asked for in one run.
//!
//! | | viewer | shows |
//! |---|---|---|
//! | [`perfetto`] | <https://ui.perfetto.dev> | operations, commands by station entry with their dependencies, blocks, counters |
//! | [`kanata`] | Konata | every command as a line, with its stages |
//! | [`waves`] | GTKWave, Surfer | signals cycle by cycle, by the RTL's names where it has them |

mod budget;
pub mod files;
pub mod kanata;
mod lives;
pub mod perfetto;
pub mod scratch;
pub mod waves;

pub use budget::LeftOut;
pub use lives::{Life, Lives};

/// Bytes of a file unless the user says otherwise: what every viewer opens without trouble.
pub const DEFAULT_BUDGET: u64 = 64 << 20;

/// The text of a command.
pub type Describe<'p> = Box<dyn Fn(pollux_isa::RoccCommand) -> String + 'p>;
