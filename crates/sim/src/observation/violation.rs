//! What the RTL's assertions forbid, and what a run did of it.
//!
//! The RTL checks itself with assertions, which end its simulation and do not exist in silicon. Those that a command stream can
//! violate are counted here, each where the RTL has it; a run without a violation is one that the RTL would have simulated to its end.
//! Two faults of the hardware that lose data without an assertion are counted with them: [`Violation::RowOvertaken`] and
//! [`Violation::WeightsLost`].
//! All other assertions of the Scala sources were found to hold whatever the commands: they follow from the handshakes beside them. Two
//! are bounds of the bench and not of the hardware, 10 000 cycles without an issue (`ReservationStation.scala`) and 10 000 000 without a
//! command (`Controller.scala`); the simulation's watchdog stands for them.

use std::fmt;

use serde::Serialize;
use serde::ser::SerializeSeq;

/// A rule of the RTL that a run can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Violation {
    /// A write finds the write queue of its sub-bank full.
    WriteQueueOverflow,
    /// A result of the execute controller is refused by its bank.
    ExecuteWriteSkipped,
    /// A row is read in the cycle in which it is written.
    ReadOfWrittenRow,
    /// A stored row overtakes one that was read before.
    RowOvertaken,
    /// A row comes back for a command that has completed.
    RowWithoutCommand,
    /// More comes back than a command asked for.
    TooManyRows,
    /// Two operands need the one transposer.
    SharedTransposer,
    /// Transposed weights leave the transposer before the preload that would take them.
    WeightsLost,
    /// The blocks of a load are closer to each other than they have rows.
    BlockStrideBelowRows,
    /// A load of nothing.
    EmptyLoad,
    /// Pixels are to be repeated in a build that cannot.
    NoPixelRepeater,
    /// Zeros are to be repeated in the accumulator.
    RepeatedZeros,
    /// A full-width store of more than one block.
    FullWidthBlocks,
    /// A pooled or 1-D store of more than one block.
    PooledBlocks,
    /// A function that no controller has.
    UnknownFunction,
    /// A pooled move within the scratchpad.
    PooledMove,
    /// A move within the local memories to the accumulator.
    MoveToAccumulator,
}

/// Number of kinds.
const KINDS: usize = Violation::ALL.len();

impl Violation {
    /// All kinds, in the order in which they are reported.
    pub const ALL: [Self; 17] = [
        Self::WriteQueueOverflow,
        Self::ExecuteWriteSkipped,
        Self::ReadOfWrittenRow,
        Self::RowOvertaken,
        Self::RowWithoutCommand,
        Self::TooManyRows,
        Self::SharedTransposer,
        Self::WeightsLost,
        Self::BlockStrideBelowRows,
        Self::EmptyLoad,
        Self::NoPixelRepeater,
        Self::RepeatedZeros,
        Self::FullWidthBlocks,
        Self::PooledBlocks,
        Self::UnknownFunction,
        Self::PooledMove,
        Self::MoveToAccumulator,
    ];

    /// Where the rule stands in the RTL (Gemmini 8c3f992).
    pub fn source(self) -> &'static str {
        match self {
            Self::WriteQueueOverflow => "AccumulatorMem.scala:297",
            Self::ExecuteWriteSkipped => "ExecuteController.scala:962",
            Self::ReadOfWrittenRow => "AccumulatorMem.scala:395",
            Self::RowOvertaken => "Normalizer.scala:773",
            Self::RowWithoutCommand => "DMACommandTracker.scala:88",
            Self::TooManyRows => "DMACommandTracker.scala:89",
            Self::SharedTransposer => "ExecuteController.scala:131",
            Self::WeightsLost => "ExecuteController.scala:613",
            Self::BlockStrideBelowRows => "LoadController.scala:136",
            Self::EmptyLoad => "LoadController.scala:189",
            Self::NoPixelRepeater => "LoadController.scala:190",
            Self::RepeatedZeros => "PixelRepeater.scala:58",
            Self::FullWidthBlocks => "StoreController.scala:225",
            Self::PooledBlocks => "StoreController.scala:226",
            Self::UnknownFunction => "ReservationStation.scala:324",
            Self::PooledMove => "ReservationStation.scala:283",
            Self::MoveToAccumulator => "ReservationStation.scala:284",
        }
    }

    /// What happens in silicon, where nothing asserts.
    pub fn effect(self) -> &'static str {
        match self {
            Self::WriteQueueOverflow => {
                "a write to the single-ported accumulator found its sub-bank's write queue full; the oldest one in it is lost"
            }
            Self::ExecuteWriteSkipped => {
                "a result for an accumulator row whose last write was still under way was not written; it is lost"
            }
            Self::ReadOfWrittenRow => {
                "an accumulator row was read in the cycle in which it was written; the reader got the old row"
            }
            Self::RowOvertaken => {
                "a row stored under statistics id 0 overtook one under id 1, and the two stores swapped their rows; \
                 a fence between such stores keeps them apart (the RTL's assertion on it is commented out)"
            }
            Self::RowWithoutCommand => "a row came back for a command that had completed already",
            Self::TooManyRows => "more came back than a command had asked for, so that it never completes",
            Self::SharedTransposer => "two operands were to pass the one transposer; one of them got the other's rows",
            Self::WeightsLost => {
                "transposed weights left the transposer in a pass of their own, before the preload that takes them had reached the \
                 head of the execute queue; the compute multiplied by what came out after them (nothing in the RTL \
                 asserts this; an `ex_queue_length` of 5 or more keeps the two together)"
            }
            Self::BlockStrideBelowRows => {
                "the block stride of a load was smaller than its number of rows; its blocks overlap if it has several"
            }
            Self::EmptyLoad => {
                "a load had no rows or no columns; it completed at once, and a row came back for it later"
            }
            Self::NoPixelRepeater => {
                "pixels were to be repeated in a build without `has_first_layer_optimizations`; they were not"
            }
            Self::RepeatedZeros => {
                "zeros were to be repeated in the accumulator; they were written to one row again and again"
            }
            Self::FullWidthBlocks => "a full-width store had more than one block; the writer has a register for one",
            Self::PooledBlocks => "a pooled or 1-D store had more than one block; the writer compares the first only",
            Self::UnknownFunction => "a command had a function that no controller has; it was taken for an mvin",
            Self::PooledMove => "an mvout_spad ran while pooling was configured",
            Self::MoveToAccumulator => "an mvout_spad had a destination in the accumulator",
        }
    }

    /// Only an assertion of the simulated RTL: in silicon the program gets what it asks for, or what an access that races gets.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::ReadOfWrittenRow | Self::BlockStrideBelowRows)
    }
}

/// How often a rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violated {
    /// The rule.
    pub violation: Violation,
    /// How often.
    pub count: u64,
    /// First cycle.
    pub first: u64,
}

/// One line.
impl fmt::Display for Violated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violation, count, first } = self;
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times, first") };
        write!(f, "{}: {times} in cycle {first}: {}", violation.source(), violation.effect())
    }
}

/// An object with the kind, its place in the RTL, count, first cycle and effect.
impl Serialize for Violated {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            kind: Violation,
            source: &'static str,
            count: u64,
            first_cycle: u64,
            effect: &'static str,
        }
        let &Self { violation: kind, count, first: first_cycle } = self;
        Fields { kind, source: kind.source(), count, first_cycle, effect: kind.effect() }.serialize(serializer)
    }
}

/// The rules that a run has broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// Count and first cycle by kind.
    kinds: [(u64, u64); KINDS],
}

impl Violations {
    #[cold]
    pub(crate) fn note(&mut self, violation: Violation, cycle: u64) {
        let (count, first) = &mut self.kinds[violation as usize];
        *first = if *count == 0 { cycle } else { *first };
        *count += 1;
    }

    /// Those that were broken.
    pub fn iter(&self) -> impl Iterator<Item = Violated> {
        let all = Violation::ALL.into_iter().zip(self.kinds);
        all.filter(|(_, (count, _))| *count > 0).map(|(violation, (count, first))| Violated { violation, count, first })
    }

    /// True if none was.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// A list of those that were broken.
impl Serialize for Violations {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.iter().try_for_each(|violated| list.serialize_element(&violated))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_first_cycles_are_kept_by_kind() {
        let mut violations = Violations::default();
        assert!(violations.is_empty());
        for cycle in [7, 9] {
            violations.note(Violation::WriteQueueOverflow, cycle);
        }
        violations.note(Violation::EmptyLoad, 8);
        let text: Vec<String> = violations.iter().map(|violated| violated.to_string()).collect();
        assert!(text[0].starts_with("AccumulatorMem.scala:297: 2 times, first in cycle 7: a write"), "{}", text[0]);
        assert!(text[1].starts_with("LoadController.scala:189: once in cycle 8: a load"), "{}", text[1]);
        assert_eq!(text.len(), 2);
    }

    #[test]
    fn each_kind_has_its_own_place_in_the_table() {
        assert!(Violation::ALL.into_iter().enumerate().all(|(index, violation)| violation as usize == index));
    }
}
