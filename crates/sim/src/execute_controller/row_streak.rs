//! The middle rows of a pass: operands that are level, ask no bank in common and stay in their banks repeat the same
//! handshakes with the next row numbers.
//!
//! Nothing is decided anew for such a row. Everything that [`ExecuteController::row_issue`] works out but the row numbers is a
//! function of registers that do not change within the streak: the commands at the heads, the configuration, which operands
//! are padding, and the banks of their rows. What can change is whether the control queue has room and whether the banks are
//! ready; if one of them is not, the row is worked out in full and the streak is over.
//!
//! While nothing else in the accelerator moves, not even these can change. If the control queue, too, holds nothing but rows like
//! those of the streak, all of which arrive one a cycle, and the array is in the middle of a matrix at its input and at
//! its output, then the whole cycle repeats: it is [replayed](ExecuteController::replay).

use super::operands::Place;
use super::{ControlSignals, ControlWires, ExResults, ExecuteController, Pass, RowCounters, RowIssueWires, record};
use crate::event::EventBuffer;
use crate::mesh_with_delays::MeshWithDelays;
use crate::operand_set::{A, B, D, OperandSet};
use crate::row::SpadRow;
use crate::wires::BankRows;

/// Rows on their way from the request to the head of the control queue: one at the output of its bank, one in the queue behind it.
const ROWS_ON_THE_WAY: usize = 2;

/// The rows of the running pass that are known to repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowStreak {
    /// Rows that are left.
    pub rows: u32,
    /// Scratchpad banks that each of them reads.
    pub banks: u32,
    /// Row within its bank of each operand's next row.
    pub next: [u32; 3],
    /// What is added to it from row to row.
    step: [u32; 3],
    /// The entry of each of them in the control queue.
    pub entry: ControlSignals,
}

impl RowStreak {
    /// No row is known to repeat.
    pub const NONE: Self =
        Self { rows: 0, banks: 0, next: [0; 3], step: [0; 3], entry: ControlSignals::RESET };

    /// A row has been issued.
    #[inline]
    pub fn advance(&mut self) {
        self.rows -= 1;
        for (row, step) in self.next.iter_mut().zip(self.step) {
            *row = row.wrapping_add(step);
        }
    }
}

impl Place {
    /// Rows from `row` on, `step` apart, that lie in the same bank.
    fn rows_upwards(&self, row: u32, step: u32) -> u32 {
        (self.row_mask() - row).checked_div(step).map_or(u32::MAX, |rows| rows + 1)
    }
}

impl ExecuteController {
    /// The streak that begins with the next row, after a row with these wires: of all operands, level, and not the last.
    pub(super) fn streak(&self, pass: Pass, issue: &RowIssueWires) -> RowStreak {
        let RowCounters { next, started, .. } = self.counters;
        let plan = &self.decoded.plans[pass as usize];
        let rows = self.next_rows();
        let level = next[A] == next[B] && next[B] == next[D] && started == OperandSet::ALL;
        let repeats = level
            && rows.bank == issue.bank
            && self.real_rows() == issue.real
            && self.may_advance(plan, &rows.bank) == OperandSet::ALL
            && issue.reads.acc_valid == 0
            && self.config.ex_read_from_spad;
        if !repeats {
            return RowStreak::NONE;
        }
        // The last row of a pass ends it, which is not the same handshake.
        let ends = plan.total_rows.wrapping_sub(1).saturating_sub(next[A]);
        let stride = self.configuration.a_stride;
        let [a, b, _] = &self.decoded.places;
        let in_bank = a.rows_upwards(rows.row[A], stride).min(b.rows_upwards(rows.row[B], 1)).min(rows.row[D] + 1);
        RowStreak {
            rows: ends.min(in_bank).min(self.rows_until_padding(next[A])),
            banks: issue.reads.spad_valid,
            next: rows.row,
            step: [stride, 1, 1u32.wrapping_neg()],
            entry: ControlSignals { first: false, ..self.control_entry(pass, issue) },
        }
    }

    /// Rows from `row` on of which each operand is padding or is not, like at `row`. D comes bottom row first.
    fn rows_until_padding(&self, row: u32) -> u32 {
        let [a, b, d] = &self.decoded.operands;
        let upwards = |rows: u32| if row < rows { rows - row } else { u32::MAX };
        let first_of_d = self.parameters.dim.saturating_sub(d.rows);
        let downwards = if row < first_of_d { first_of_d - row } else { u32::MAX };
        upwards(a.rows).min(upwards(b.rows)).min(downwards)
    }
}

/// Replay.
impl ExecuteController {
    /// Cycles for which this block does nothing but move rows, one of each operand a cycle, if it gets no command and if the
    /// banks named by [`Self::streak_banks`] deliver and accept a row in each of them.
    pub fn repeating_cycles(&self) -> u32 {
        let RowStreak { rows, entry, .. } = &self.streak;
        if *rows == 0 || self.pending != [None; 2] || self.control_queue.len() != ROWS_ON_THE_WAY {
            return 0;
        }
        let entries_repeat = (0..ROWS_ON_THE_WAY).all(|i| self.control_queue.bits(i) == entry);
        let command_moves = self.commands.enq_ready() && self.unroller.holds_command();
        if !entries_repeat || command_moves { 0 } else { self.mesh.middle_rows(*rows) }
    }

    /// Scratchpad banks that are read in the cycles of a streak.
    #[inline]
    pub fn streak_banks(&self) -> u32 {
        self.streak.banks
    }

    /// One of the [repeating cycles](Self::repeating_cycles), with the results of this cycle and the heads of the banks' queues.
    /// Gives the rows that are read in it.
    pub fn replay<'a>(
        &mut self,
        results: &ExResults,
        response: impl Fn(u8) -> Option<&'a SpadRow>,
        events: &mut EventBuffer,
    ) -> BankRows {
        let RowStreak { entry, next, .. } = self.streak;
        let (rows, _) = self.head_rows(&entry, response);
        let control = ControlWires { fire: entry.fire, ..ControlWires::default() };
        record(results, &control, events);
        self.tick_results(results);
        self.mesh.tick(&MeshWithDelays::MIDDLE_ROW, None, entry.fire, &rows);
        self.control_queue.tick(1, Some(&entry));
        self.count_streak_row();
        BankRows { operands: entry.reads, bank: entry.bank, row: next }
    }
}
