//! [`SessionError`].

use pollux_sim::observer::Cycle;
use thiserror::Error;

use crate::places::ParseError;

/// What a session cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The memory system cannot stand behind the program's configuration.
    #[error("{0}")]
    Memory(String),
    /// The run is over before that cycle.
    #[error("cycle {cycle} is behind the end of the run: it ends in cycle {end}{why}; go to {end} or before")]
    PastEnd {
        /// The cycle that was asked for.
        cycle: Cycle,
        /// The last one that there is.
        end: Cycle,
        /// Why it ends there, unless the program is used up.
        why: String,
    },
    /// Whoever watches a search ended it. The session is where it was.
    #[error("interrupted in cycle {0}; the session is where it was")]
    Interrupted(Cycle),
    /// A text means nothing.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// There is nothing of that kind now.
    #[error("{what}; {remedy}")]
    Nothing {
        /// What there is not.
        what: String,
        /// What to do.
        remedy: String,
    },
}
