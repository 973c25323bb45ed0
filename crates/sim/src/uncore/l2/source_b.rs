//! Probes of the clients (`SourceB.scala`).

use crate::uncore::tilelink::BeatB;

/// With one client that is probed, a probe waits here only if the way to the client is blocked.
#[derive(Clone, Debug, Default)]
pub struct SourceB {
    remain: Option<BeatB>,
}

impl SourceB {
    /// A probe is accepted.
    pub fn ready(&self) -> bool {
        self.remain.is_none()
    }

    /// The probe that it offers, with the one that the scheduler sends.
    pub fn front(&self, scheduled: Option<BeatB>) -> Option<BeatB> {
        self.remain.or(scheduled)
    }

    /// Clock edge.
    pub fn tick(&mut self, scheduled: Option<BeatB>, taken: bool) {
        self.remain = if taken { None } else { self.front(scheduled) };
    }
}
