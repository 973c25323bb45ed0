//! A run that can be stopped at any cycle, stepped forward and back, searched, looked into and explained.
//!
//! A [`Session`] is a program and a cycle. Runs are deterministic, so the machine of any cycle is reached by replay from a snapshot
//! before it ([`Session::goto`]); no log is kept, and memory is bounded. What is there is a [`View`], one plain structure; what is
//! looked for a [`Condition`]; why something waits, and until when, an [`Explanation`]. [`script`] is all of it as lines of text.
//!
//! ```
//! use pollux_session::{Options, Session};
//!
//! let program = pollux_asm::assemble("text", "config small4\nflush\nfence\n").map_err(|_| "text")?;
//! let mut session = Session::new(program, Options::default())?;
//! session.step(3)?;
//! session.back(1)?;
//! assert_eq!(session.view()?.machine.cycle, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod array;
mod condition;
mod engine;
mod error;
mod overview;
mod places;
mod scan;
pub mod script;
mod session;
mod snapshots;
mod view;
mod why;

#[cfg(test)]
mod tests;

pub use array::{ArrayView, Heat};
pub use condition::{Condition, Step, Wanted};
pub use engine::Setup;
pub use error::SessionError;
pub use overview::{BlockSpan, Bucket, CommandSpan, Overview, StageSpan};
pub use places::{Local, ParseError, Places};
pub use pollux_trace::timeline::Life;
pub use session::{Found, Options, Progress, Session};
pub use view::{BlockView, HISTORY, HostView, OperationView, View};
pub use why::{Explanation, Reason, Subject, Until};
