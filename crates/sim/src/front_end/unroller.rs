//! What the two loop unrollers have in common: the flags of a loop's slot, the count of commands in flight, and what an
//! unroller's cycle is spent on.
//!
//! | port of [`InFlight`] | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `emitted` | in | a command of this class leaves the unroller | [`InFlight::has_room`] |
//! | `departed` | in | commands of each class leave the station | none |

use pollux_isa::GemminiConfig;
use pollux_isa::config::CONCURRENT_LOOPS;

use crate::observation::event::Unit;
use crate::observation::view::PartView;
use crate::parts::canonical::Canonical;
use crate::parts::wires::PerUnit;

/// Slots for loops.
pub(crate) const LOOPS: usize = CONCURRENT_LOOPS as usize;

/// Parts of a loop: three loads, execute, store.
pub(crate) const PARTS: usize = 5;

/// Which loop: index of a slot.
pub(crate) type LoopId = usize;

/// Some of the parts of a loop, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(crate) struct PartSet(u8);

impl PartSet {
    /// All parts.
    pub const ALL: Self = Self((1 << PARTS) - 1);

    /// True if a part is in the set.
    #[inline]
    pub const fn has(self, part: usize) -> bool {
        self.0 >> part & 1 == 1
    }

    /// Puts a part in.
    #[inline]
    pub fn insert(&mut self, part: usize) {
        self.0 |= 1 << part;
    }
}

impl From<[bool; PARTS]> for PartSet {
    fn from(parts: [bool; PARTS]) -> Self {
        Self(parts.into_iter().enumerate().map(|(part, member)| u8::from(member) << part).sum())
    }
}

/// How far a loop is.
#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(crate) struct LoopFlags {
    /// The run command was taken; the slot takes no further command.
    pub configured: bool,
    /// A part has accepted its request.
    pub running: bool,
    /// Parts that have accepted their request.
    pub started: PartSet,
    /// Parts that have emitted all their commands.
    pub completed: PartSet,
    /// Number of the host's command that started the loop.
    #[canon(skip = "numbers for events")]
    pub number: u64,
}

impl LoopFlags {
    /// The loop's slot is freed at the next edge, if it is the head.
    pub fn all_completed(&self) -> bool {
        self.running && self.completed == PartSet::ALL
    }

    /// A part that is idle has emitted all, if it was started. True if that is new.
    pub fn finish(&mut self, part: usize) -> bool {
        let finishes = self.running && self.started.has(part) && !self.completed.has(part);
        if finishes {
            self.completed.insert(part);
        }
        finishes
    }

    /// How far a part is; `counters` are its own, while it works on this loop.
    pub fn part(&self, part: usize, name: &'static str, counters: Vec<(&'static str, i32)>) -> PartView {
        PartView { name, started: self.started.has(part), completed: self.completed.has(part), counters }
    }

    /// A part accepts its request.
    pub fn start(&mut self, part: usize) {
        self.running = true;
        self.started.insert(part);
    }
}

/// Commands of an unroller that are in the reservation station or on the way to it (`ld_utilization` and so on). An
/// unroller emits nothing of a class that has as many in flight as its table has entries.
#[derive(Clone, Debug, Canonical)]
pub(crate) struct InFlight {
    counts: PerUnit<u8>,
    #[canon(skip = "constant")]
    limits: PerUnit<u8>,
}

impl InFlight {
    pub fn new(config: &GemminiConfig) -> Self {
        let limits = [
            config.reservation_station_entries_ld,
            config.reservation_station_entries_ex,
            config.reservation_station_entries_st,
        ];
        Self { counts: [0; 3], limits: limits.map(|entries| entries as u8) }
    }

    /// `!rob_overloaded` of the class.
    pub fn has_room(&self, unit: Unit) -> bool {
        self.counts[unit as usize] < self.limits[unit as usize]
    }

    /// Clock edge: a command of class `emitted` left the unroller, `departed` left the station.
    pub fn tick(&mut self, emitted: Option<Unit>, departed: PerUnit<u8>) {
        if let Some(unit) = emitted {
            self.counts[unit as usize] += 1;
        }
        for (count, departed) in self.counts.iter_mut().zip(departed) {
            debug_assert!(*count >= departed, "more commands left the station than the unroller made");
            *count = count.saturating_sub(departed);
        }
    }

    /// By class.
    pub fn counts(&self) -> PerUnit<u8> {
        self.counts
    }

    /// For the explanation of a deadlock.
    pub fn describe(&self) -> String {
        let [ld, ex, st] = self.counts;
        format!("{ld} load, {ex} execute and {st} store commands in flight")
    }
}

/// What an unroller's cycle is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnrollerActivity {
    /// No command and no loop.
    Idle,
    /// A command passes, configures a loop, or is emitted.
    Busy,
    /// Nothing moves although there is work.
    Stalled(UnrollerStall),
}

/// Why an unroller emits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnrollerStall {
    /// The queue behind it is full.
    Output,
    /// As many commands of this class are in flight as the station has entries for.
    InFlight(Unit),
    /// A part of the loop waits for the commands of another.
    OtherPart,
    /// A loop begins or ends: parts accept their requests, flags settle.
    Turnover,
}
