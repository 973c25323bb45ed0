//! The host processor: what it does between commands, and how long that takes.

mod cost;
mod step;

pub use cost::{HostModel, HostWork};
pub use step::{HostStep, kept_tokens};
pub(crate) use step::{read_i8, read_i32, read_values};
