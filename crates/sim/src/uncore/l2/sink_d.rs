//! What memory answers: lines into the store, the news to the MSHR (`SinkD.scala`).

use super::parameters::{Geometry, LINE_WORDS};

/// A beat from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterD {
    /// The MSHR that asked.
    pub mshr: usize,
    /// What it is.
    pub op: OuterDOp,
}

/// What memory's beat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterDOp {
    /// A word of a line.
    GrantData {
        /// Its number.
        beat: u32,
    },
    /// Permission for a line that will be overwritten.
    Grant,
    /// A line has been written, or given up.
    ReleaseAck,
}

/// What an MSHR learns (`SinkDResponse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantResponse {
    /// The line comes.
    Grant {
        /// It is there.
        last: bool,
    },
    /// The victim is gone.
    ReleaseAck,
}

impl OuterD {
    /// First beat of its message.
    pub fn first(&self) -> bool {
        !matches!(self.op, OuterDOp::GrantData { beat } if beat != 0)
    }

    /// Last beat of its message.
    pub fn last(&self) -> bool {
        !matches!(self.op, OuterDOp::GrantData { beat } if beat + 1 != LINE_WORDS)
    }

    /// What the MSHR is told: the first and the last beat (line 62).
    pub fn response(&self) -> Option<GrantResponse> {
        match self.op {
            OuterDOp::ReleaseAck => Some(GrantResponse::ReleaseAck),
            _ => (self.first() || self.last()).then_some(GrantResponse::Grant { last: self.last() }),
        }
    }

    /// Banks that the beat asks for; messages without data too, to keep the order (line 61).
    pub fn banks(&self, geometry: &Geometry, set: u64) -> u32 {
        let beat = if let OuterDOp::GrantData { beat } = self.op { beat } else { 0 };
        geometry.bank_mask(set, beat, 1, 1)
    }
}
