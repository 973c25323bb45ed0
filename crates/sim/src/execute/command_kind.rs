//! The kinds of commands in the execute queue, by function number (`GemminiISA.scala`).

use pollux_isa::funct;

use crate::parts::canonical::Canonical;

/// What a command of the execute queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub enum Kind {
    /// CONFIG_EX.
    Config,
    /// PRELOAD.
    Preload,
    /// COMPUTE_PRELOADED: uses what was preloaded last.
    ComputeFlip,
    /// COMPUTE_ACCUMULATED: goes on with what was used before.
    ComputeStay,
    /// Nothing that the reservation station would send here.
    Other,
}

impl Kind {
    /// The kind of a function number (`GemminiISA.scala`).
    pub fn of(funct: u8) -> Self {
        match funct {
            funct::CONFIG_CMD => Kind::Config,
            funct::COMPUTE_AND_FLIP_CMD => Kind::ComputeFlip,
            funct::COMPUTE_AND_STAY_CMD => Kind::ComputeStay,
            funct::PRELOAD_CMD => Kind::Preload,
            _ => Kind::Other,
        }
    }

    pub(crate) fn is_compute(self) -> bool {
        matches!(self, Kind::ComputeFlip | Kind::ComputeStay)
    }
}
