//! Exact replay: every situation is simulated once.
//!
//! What Gemmini does in a cycle depends on its control state and its commands, not on the numbers it computes ([`Timing`] has the
//! compiler check that). Programs repeat: the next tile, the next head, the next layer. So at chosen moments, the *boundaries*, the
//! control state is brought into a canonical form (`parts/canonical.rs`). If this form was seen before and the same commands follow,
//! the cycles, the traffic and the state at the end follow too, and are taken from a table.
//!
//! ```text
//!  program --> driver ---- known ----> totals, marks += segment;  state := its end     (no machine involved)
//!                 | not known
//!                 v
//!        Machine<Timing>  -- a segment is recorded --> table
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | `script` | what the host will do, and the commands as they matter to time |
//! | `names` | commands in the form in which they matter to time |
//! | `symbolic` | a host whose commands name operands instead of main memory |
//! | `table` | states, and segments from state to state |
//! | `aside` | parts that are no part of a state until a command comes that looks at them |
//! | `kept` | a table that outlives a run |
//! | `form` | the canonical form of a run's state |
//! | `field_survey` | which fields of the canonical form matter, for tests |
//! | `recorder` | what an observer is told, noted for the next time |
//! | `driver` | runs a program: hops over known segments, simulates and records the others |
//!
//! A segment is a fact about the accelerator: from this state, with these commands, if these operands share these pages or do not, so
//! many cycles pass until that state. Nothing in it is a guess, and `--check-replay` simulates a sample of the hops to prove it.
//!
//! [`Timing`]: crate::values::Timing

mod aside;
mod driver;
mod field_survey;
mod form;
mod kept;
mod names;
mod recorder;
mod script;
mod symbolic;
mod table;

pub(crate) use driver::{Replayer, script_of};
pub use field_survey::{FieldFinding, FieldFindings};
pub use kept::ReplayTable;
pub(crate) use kept::{RunsOf, Tables};
pub(crate) use script::{has_counters, pays};
pub(crate) use table::Table;
pub use table::{ReplayOptions, ReplayTotals};
