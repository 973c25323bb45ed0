//! The middle rows of a pass: operands that are level, ask no bank in common and stay in their banks repeat the same
//! handshakes with the next row numbers.
//!
//! Nothing is decided anew for such a row. Everything that [`ExecuteController::row_issue`] works out but the row numbers is a
//! function of registers that do not change within the streak: the commands at the heads, the configuration, which operands
//! are padding, and the banks of their rows. What can change is whether the control queue has room and whether the banks are
//! ready; if one of them is not, the row is worked out in full and the streak is over.

use crate::execute::execute_controller::control_queue::ControlSignals;
use crate::execute::execute_controller::operands::{HEADS, Pass, Place};
use crate::execute::execute_controller::wires::{ControlWires, ExResults, RowCounters, RowIssueWires, State};
use crate::execute::execute_controller::{ExecuteController, record};
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::observation::event::EventBuffer;
use crate::parts::banks::{BankId, BankRow, BankSet};
use crate::parts::values::Values;
use crate::parts::wires::IssuedCmd;

/// The rows of the running pass that are known to repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowStreak {
    /// Rows that are left.
    pub rows: u32,
    /// Scratchpad banks that each of them reads.
    pub banks: BankSet,
    /// Row within its bank of each operand's next row.
    pub next: [BankRow; 3],
    /// What is added to it from row to row.
    pub step: [u32; 3],
    /// The entry of each of them in the control queue.
    pub entry: ControlSignals,
}

impl Default for RowStreak {
    fn default() -> Self {
        Self::NONE
    }
}

impl RowStreak {
    /// No row is known to repeat.
    pub const NONE: Self =
        Self { rows: 0, banks: BankSet::EMPTY, next: [BankRow(0); 3], step: [0; 3], entry: ControlSignals::RESET };

    /// The next row repeats the one before, given that the control queue has room, and the scratchpad banks that are ready.
    #[inline]
    pub fn goes_on(&self, control_ready: bool, spad_ready: BankSet) -> bool {
        self.rows > 0 && control_ready && spad_ready.has_all(self.banks)
    }

    /// Rows have been issued.
    #[inline]
    pub fn advance(&mut self, rows: u32) {
        self.rows -= rows;
        for (row, step) in self.next.iter_mut().zip(self.step) {
            row.0 = row.0.wrapping_add(step.wrapping_mul(rows));
        }
    }

    /// The rows of the banks that are read.
    pub fn streams(&self) -> impl Iterator<Item = RowStream> {
        let Self { entry, next, step, .. } = *self;
        entry.reads.iter().map(move |x| RowStream { bank: entry.bank[x], next: next[x], step: step[x] })
    }
}

/// The execute controller's row issue and clock edge, with the rows of streaks issued as such.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowStreaks {
    /// The rows that are known to repeat from here on.
    pub(super) streak: RowStreak,
    /// The row of this cycle is one of them.
    pub(super) in_streak: bool,
}

impl RowStreaks {
    /// [`ExecuteController::row_issue`], into the wires of the cycle before.
    #[inline]
    pub fn row_issue<V: Values>(
        &mut self,
        execute: &ExecuteController<V>,
        control: &ControlWires<'_, V>,
        spad_ready: BankSet,
        acc_ready: BankSet,
        wires: &mut RowIssueWires,
    ) {
        let control_ready = execute.control_ready(control);
        self.in_streak = self.streak.goes_on(control_ready, spad_ready);
        match self.in_streak {
            true => execute.drive_streak(&self.streak, wires),
            false => execute.drive_row_issue(control_ready, spad_ready, acc_ready, wires),
        }
    }

    /// [`ExecuteController::tick`].
    #[inline]
    #[must_use]
    pub fn tick<V: Values>(
        &mut self,
        execute: &mut ExecuteController<V>,
        cmd: Option<IssuedCmd>,
        results: &ExResults<V>,
        control: &ControlWires<'_, V>,
        issue: &RowIssueWires,
        events: &mut EventBuffer,
    ) -> bool {
        let heads = execute.heads();
        let progress = match self.in_streak {
            true => execute.tick_streak(&self.streak, cmd, results, control, events),
            false => execute.tick(cmd, results, control, issue, events),
        };
        // The commands at the heads decide on every row: the preload behind a compute that runs alone is also where D's bank and
        // columns come from.
        if execute.heads() != heads {
            self.streak.rows = 0;
        } else if self.in_streak {
            self.streak.advance(1);
        } else {
            self.begin(execute, issue);
        }
        progress
    }

    /// Looks whether a streak begins after a row with these wires.
    #[inline]
    fn begin<V: Values>(&mut self, execute: &ExecuteController<V>, issue: &RowIssueWires) {
        self.streak.rows = 0;
        if let Some(pass) = issue.pass
            && issue.control_ready
            && issue.fire == OperandSet::ALL
            && !issue.done
        {
            self.streak = execute.streak(pass, issue);
        }
    }
}

/// The rows of a scratchpad bank that follow each other in a streak.
#[derive(Clone, Copy, Debug)]
pub struct RowStream {
    /// Bank.
    pub bank: BankId,
    /// Row within it that is requested next.
    pub next: BankRow,
    /// What is added to its number from cycle to cycle.
    pub step: u32,
}

impl Place {
    /// Rows from `row` on, `step` apart, that lie in the same bank.
    fn rows_upwards(&self, row: BankRow, step: u32) -> u32 {
        (self.row_mask() - row.0).checked_div(step).map_or(u32::MAX, |rows| rows + 1)
    }
}

impl<V: Values> ExecuteController<V> {
    /// What decides on the rows of a pass beside its counters: how many of the visible heads hold a command. Within a pass no command
    /// leaves.
    #[inline]
    fn heads(&self) -> usize {
        self.commands.len().min(HEADS)
    }

    /// No row is on its way to the mesh or through it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Waiting && !self.control_queue.valid(0) && self.mesh.rows_in_flight() == 0
    }

    /// [`Self::row_issue`] of a row of a streak, into the wires of the row before.
    #[inline]
    fn drive_streak(&self, streak: &RowStreak, wires: &mut RowIssueWires) {
        (wires.control_ready, wires.decision) = (true, None);
        wires.reads.spad_row.row = streak.next;
        wires.completed = self.report(None);
    }

    /// [`Self::tick`] of a row of a streak.
    #[inline]
    fn tick_streak(
        &mut self,
        streak: &RowStreak,
        cmd: Option<IssuedCmd>,
        results: &ExResults<V>,
        control: &ControlWires<'_, V>,
        events: &mut EventBuffer,
    ) -> bool {
        record(results, control, events);
        self.tick_results(results);
        self.tick_mesh(control);
        self.control_queue.tick(control.dequeue.into(), Some(&streak.entry));
        self.counters.a_offset += self.configuration.a_stride;
        self.counters.next = self.counters.next.map(|row| row + 1);
        if let Some(slot) = self.reported(results) {
            self.pending[slot] = None;
        }
        self.tick_commands(cmd, None);
        true
    }

    /// The streak that begins with the next row, after a row with these wires: of all operands, level, and not the last.
    fn streak(&self, pass: Pass, issue: &RowIssueWires) -> RowStreak {
        let RowCounters { next, started, .. } = self.counters;
        let plan = &self.decoded.plans[pass as usize];
        let rows = self.next_rows();
        let level = next[A] == next[B] && next[B] == next[D] && started == OperandSet::ALL;
        let repeats = level
            && rows.bank == issue.bank
            && self.real_rows() == issue.real
            && self.may_advance(plan, &rows.bank) == OperandSet::ALL
            && issue.reads.acc_valid.is_empty()
            && self.config.ex_read_from_spad;
        if !repeats {
            return RowStreak::NONE;
        }
        // The last row of a pass ends it, which is not the same handshake. In a pass of more than DIM rows, which only an illegal
        // command makes, the counters wrap around before.
        let last = plan.total_rows.wrapping_sub(1).min(self.parameters.dim - 1);
        let ends = last.saturating_sub(next[A]);
        let stride = self.configuration.a_stride;
        let [a, b, _] = &self.decoded.places;
        let in_bank = a.rows_upwards(rows.row[A], stride).min(b.rows_upwards(rows.row[B], 1)).min(rows.row[D].0 + 1);
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
