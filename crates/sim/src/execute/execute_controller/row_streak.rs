//! The middle rows of a pass: operands that are level, ask no bank in common and stay in their banks repeat the same
//! handshakes with the next row numbers.
//!
//! Nothing is decided anew for such a row. Everything that [`ExecuteController::row_issue`] works out but the row numbers is a
//! function of registers that do not change within the streak: the commands at the heads, the configuration, which operands
//! are padding, and the banks of their rows. What can change is whether the control queue has room and whether the banks are
//! ready; if one of them is not, the row is worked out in full and the streak is over.
//!
//! If the control queue, too, holds nothing but rows like those of the streak, all of which arrive one a cycle, and the array is
//! in the middle of a matrix at its input and at its output, then the whole cycle of this block repeats, and
//! what it does is known beforehand for some cycles. As long as nobody else touches its banks it need not even be done
//! in its cycle: [`ExecuteController::replay`] does it for many cycles at once.

use super::operands::Place;
use super::{ControlSignals, ExecuteController, Pass, RowCounters, RowIssueWires, next_row, record_rows};
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::observation::event::EventBuffer;
use crate::parts::wires::ExTarget;

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
    pub const NONE: Self = Self { rows: 0, banks: 0, next: [0; 3], step: [0; 3], entry: ControlSignals::RESET };

    /// Rows have been issued.
    #[inline]
    pub fn advance(&mut self, rows: u32) {
        self.rows -= rows;
        for (row, step) in self.next.iter_mut().zip(self.step) {
            *row = row.wrapping_add(step.wrapping_mul(rows));
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
        // The last row of a pass ends it, which is not the same handshake. In a pass of more than DIM rows, which only an illegal
        // command makes, the counters wrap around before.
        let last = plan.total_rows.wrapping_sub(1).min(self.parameters.dim - 1);
        let ends = last.saturating_sub(next[A]);
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

/// The rows of a scratchpad bank that follow each other in a streak.
#[derive(Clone, Copy, Debug)]
pub struct RowStream {
    /// Bank.
    pub bank: u8,
    /// Row within it that is requested next.
    pub next: u32,
    /// What is added to its number from cycle to cycle.
    pub step: u32,
}

/// Replay.
impl ExecuteController {
    /// Cycles for which this block does nothing but move rows, one of each operand a cycle, if it gets no command and if the
    /// banks of [`Self::streams`] deliver and accept a row in each of them. `waits` tells whether a scratchpad bank has a row for this
    /// block.
    pub fn repeating_cycles(&self, waits: impl Fn(u8) -> bool) -> u32 {
        let RowStreak { rows, entry, banks, .. } = &self.streak;
        if *rows == 0 || self.pending != [None; 2] || self.control_queue.len() != ROWS_ON_THE_WAY {
            return 0;
        }
        let entries_repeat = (0..ROWS_ON_THE_WAY).all(|i| self.control_queue.bits(i) == entry);
        let command_moves = self.commands.enq_ready() && self.unroller.holds_command();
        // What is taken from a bank that nobody reads must not change.
        let strays = (self.taken(entry) & !entry.reads).iter().any(|x| {
            let bank = entry.bank[x];
            banks >> bank & 1 == 0 && waits(bank)
        });
        if !entries_repeat || command_moves || strays || self.results_for_scratchpad() {
            return 0;
        }
        self.mesh.middle_rows(*rows)
    }

    /// The result that the array delivers next goes to the scratchpad.
    fn results_for_scratchpad(&self) -> bool {
        let layout = self.parameters.layout;
        self.mesh.tags().front().is_some_and(|entry| !entry.tag.addr.is_acc() && !entry.tag.addr.is_garbage(layout))
    }

    /// Accumulator banks that the results of the matrix at the array's output may go to.
    pub fn result_banks(&self) -> u32 {
        let (layout, c_stride) = (self.parameters.layout, self.configuration.c_stride);
        let Some(entry) = self.mesh.tags().front() else { return 0 };
        let bank = |row: u32| entry.tag.addr.add(layout, row * c_stride).acc_bank(layout);
        let (first, last) = (bank(0), bank(self.parameters.dim - 1));
        if first == last { 1 << first } else { u32::MAX }
    }

    /// Operands for which a row at the head of a bank's queue goes to the array.
    fn taken(&self, entry: &ControlSignals) -> OperandSet {
        let real = OperandSet::of(entry.cols.map(|cols| cols > 0));
        if self.config.ex_read_from_spad {
            entry.fire & !entry.zeros & !entry.from_acc & self.fed(entry.pass) & real
        } else {
            OperandSet::EMPTY
        }
    }

    /// Scratchpad banks that are read in the cycles of a streak.
    #[inline]
    pub fn streak_banks(&self) -> u32 {
        self.streak.banks
    }

    /// Their rows.
    pub fn streams(&self) -> impl Iterator<Item = RowStream> {
        let RowStreak { entry, next, step, .. } = self.streak;
        entry.reads.iter().map(move |x| RowStream { bank: entry.bank[x], next: next[x], step: step[x] })
    }

    /// So many of the [repeating cycles](Self::repeating_cycles). `row` gives row i of a bank, counted from the head of its execute
    /// response queue, `shown` what the empty queue of a bank that nobody reads shows; `write` takes the results, for the accumulator or for nobody, of each cycle.
    pub fn replay<'a>(
        &mut self,
        cycles: u32,
        row: impl Fn(&RowStream, u32) -> &'a [i8],
        shown: impl Fn(u8) -> &'a [i8],
        mut write: impl FnMut(Option<ExTarget>, &[i32], &mut EventBuffer),
        events: &mut EventBuffer,
    ) {
        let entry = self.streak.entry;
        let taken = self.taken(&entry);
        let stream = |x: usize| self.streams().find(|stream| taken.has(x) && stream.bank == entry.bank[x]);
        let streams: [Option<RowStream>; 3] = std::array::from_fn(stream);
        let (writer, last_row) = (self.result_writer(), self.parameters.dim - 1);
        let counter = &mut self.output_counter;
        self.mesh.replay(
            cycles,
            entry.cols,
            |x, cycle| match &streams[x] {
                Some(stream) => Some(row(stream, cycle)),
                None => taken.has(x).then(|| shown(entry.bank[x])),
            },
            |response| {
                record_rows(entry.fire, response.map(|response| response.last), events);
                let Some(response) = response else { return write(None, &[], events) };
                let Some(tag) = response.tag.filter(|tag| tag.rob_id.is_some()) else {
                    return write(None, &[], events);
                };
                write(writer.target(&response, tag, *counter), response.data, events);
                *counter = next_row(*counter, response.total_rows.into()) & last_row;
            },
        );
        self.control_queue.replace(cycles as usize, &entry);
        self.streak.advance(cycles);
        self.counters.a_offset += cycles * self.configuration.a_stride;
        self.counters.next = self.counters.next.map(|row| row + cycles);
    }
}
