//! What a row says of its point: the columns of what is measured, and how the point ended.

use crate::table::{Kind, Row, Value};

/// The columns of what is measured, behind those of the parameters.
pub(crate) const RESULTS: [(&str, Kind); 19] = [
    ("outcome", Kind::Text),
    ("error", Kind::Text),
    ("cycles", Kind::Int),
    ("macs", Kind::Int),
    ("utilisation", Kind::Float),
    ("commands", Kind::Int),
    ("read_bytes", Kind::Int),
    ("written_bytes", Kind::Int),
    ("schedule", Kind::Text),
    ("assumes_no_zero_divisor", Kind::Bool),
    ("match", Kind::Bool),
    ("mesh_busy", Kind::Int),
    ("mesh_stalled", Kind::Int),
    ("mesh_draining", Kind::Int),
    ("mesh_idle", Kind::Int),
    ("cause", Kind::Text),
    ("causes", Kind::Text),
    ("energy_pj", Kind::Float),
    ("edp_js", Kind::Float),
];

/// How a point ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end.
    Ok,
    /// The hardware cannot do it.
    Refused,
    /// It did not come to its end: the limit, a deadlock, or a broken rule of the RTL.
    Stopped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Stopped];

    /// As in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

impl Row {
    /// How the point ended. The row is one of a sweep.
    pub fn outcome(&self) -> Outcome {
        // What is measured stands last, and this first of it.
        let cell = self.0.len().checked_sub(RESULTS.len()).and_then(|position| self.0.get(position));
        let is = |outcome: &Outcome| matches!(cell, Some(Value::Text(text)) if text == outcome.name());
        Outcome::ALL.into_iter().find(is).unwrap_or(Outcome::Stopped)
    }
}
