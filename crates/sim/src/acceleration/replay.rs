//! Many clock edges of a block at once, while what it does repeats with the next row.
//!
//! If the control queue, too, holds nothing but rows like those of the streak, all of which arrive one a cycle, and the array is
//! in the middle of a matrix at its input and at its output, then the whole cycle of the execute controller repeats, and
//! what it does is known beforehand for some cycles. As long as nobody else touches its banks it need not even be done
//! in its cycle: [`ExecuteController::replay`] does it for many cycles at once.

use super::row_streak::{RowStreak, RowStream};
use crate::execute::execute_controller::control_queue::ControlSignals;
use crate::execute::execute_controller::wires::next_row;
use crate::execute::execute_controller::{ExecuteController, record_rows};
use crate::execute::mesh::{Mesh, Slot};
use crate::execute::mesh_with_delays::{MeshResponse, MeshWires, MeshWithDelays};
use crate::execute::operand_set::OperandSet;
use crate::memories::scratchpad_bank::ScratchpadBank;
use crate::observation::event::{EventBuffer, Port};
use crate::parts::banks::{BankId, BankRow, BankSet, acc_place};
use crate::parts::multi_headed_queue::MultiHeadedQueue;
use crate::parts::row::copy_row;
use crate::parts::values::Values;
use crate::parts::wires::ExTarget;

/// Rows on their way from the request to the head of the control queue: one at the output of its bank, one in the queue behind it.
const ROWS_ON_THE_WAY: usize = 2;

impl<V: Values> ExecuteController<V> {
    /// Cycles for which this block does nothing but move rows, one of each operand a cycle, if it gets no command and if the
    /// banks of [`RowStreak::streams`] deliver and accept a row in each of them. `waits` tells whether a scratchpad bank has a row for this
    /// block.
    pub(super) fn repeating_cycles(&self, streak: &RowStreak, waits: impl Fn(BankId) -> bool) -> u32 {
        let RowStreak { rows, entry, banks, .. } = streak;
        if *rows == 0 || self.pending != [None; 2] || self.control_queue.len() != ROWS_ON_THE_WAY {
            return 0;
        }
        let entries_repeat = (0..ROWS_ON_THE_WAY).all(|i| self.control_queue.bits(i) == entry);
        let command_moves = self.commands.enq_ready() && self.unroller.holds_command();
        // What is taken from a bank that nobody reads must not change.
        let strays = (self.taken(entry) & !entry.reads).iter().any(|x| {
            let bank = entry.bank[x];
            !banks.has(bank) && waits(bank)
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
    pub(super) fn result_banks(&self) -> BankSet {
        let (layout, c_stride) = (self.parameters.layout, self.configuration.c_stride);
        let Some(entry) = self.mesh.tags().front() else { return BankSet::EMPTY };
        let bank = |row: u32| acc_place(entry.tag.addr.add(layout, row * c_stride), layout).0;
        let (first, last) = (bank(0), bank(self.parameters.dim - 1));
        if first == last { BankSet::of(first) } else { BankSet::ALL }
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

    /// So many of the [repeating cycles](Self::repeating_cycles). `row` gives row i of a bank, counted from the head of its execute
    /// response queue, `shown` what the empty queue of a bank that nobody reads shows; `write` takes the results, for the accumulator or for nobody, of each cycle.
    pub(super) fn replay<'a>(
        &mut self,
        streak: &mut RowStreak,
        cycles: u32,
        row: impl Fn(&RowStream, u32) -> &'a [V::Of<i8>],
        shown: impl Fn(BankId) -> &'a [V::Of<i8>],
        mut write: impl FnMut(Option<ExTarget>, &[V::Of<i32>], &mut EventBuffer),
        events: &mut EventBuffer,
    ) {
        let entry = streak.entry;
        let taken = self.taken(&entry);
        let stream = |x: usize| streak.streams().find(|stream| taken.has(x) && stream.bank == entry.bank[x]);
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
        streak.advance(cycles);
        self.counters.a_offset += cycles * self.configuration.a_stride;
        self.counters.next = self.counters.next.map(|row| row + cycles);
    }
}

impl<V: Values> MeshWithDelays<V> {
    /// Rows that can enter the array one a cycle, beginning with this one, before the wires are others than [`Self::MIDDLE_ROW`] or the
    /// last row of a matrix comes out.
    fn middle_rows(&self, rows: u32) -> u32 {
        if !self.request_valid || self.request.flush > 0 || self.written != OperandSet::ALL {
            return 0;
        }
        let until_last = self.request.total_rows.wrapping_sub(1).saturating_sub(self.fire_counter);
        let rows = rows.min(until_last.into());
        self.mesh.rows_before_last(rows as usize) as u32
    }

    /// The handshakes while rows of one matrix, other than the last, enter the array one a cycle.
    const MIDDLE_ROW: MeshWires = MeshWires { advance: true, last: false, req_ready: false, ready: OperandSet::ALL };

    /// So many cycles with the wires [`Self::MIDDLE_ROW`]. `row` gives what an operand's buffer takes in a cycle, counted from 0: a row
    /// from a memory, or nothing for zeros; `cols` are the lanes that are not padding. `result` gets what is at the output in each
    /// cycle.
    fn replay<'a>(
        &mut self,
        cycles: u32,
        cols: [u8; 3],
        row: impl Fn(usize, u32) -> Option<&'a [V::Of<i8>]>,
        mut result: impl FnMut(Option<MeshResponse<'_, V>>),
    ) {
        for cycle in 0..cycles {
            result(self.response());
            self.tick_array(&Self::MIDDLE_ROW);
            self.result_shift = self.request.shift;
            for (x, &cols) in cols.iter().enumerate() {
                match row(x, cycle) {
                    Some(row) => {
                        let buffer = &mut self.buffers[x].0[..self.dim];
                        copy_row(buffer, row);
                        if usize::from(cols) < self.dim {
                            buffer[cols.into()..].fill(V::Of::default());
                        }
                        self.zeros = self.zeros & !OperandSet::single(x);
                    }
                    None if self.zeros.has(x) => {}
                    None => self.clear_buffer(x),
                }
            }
        }
        self.fire_counter = (u32::from(self.fire_counter) + cycles) as u8 & (self.dim as u8 - 1);
    }
}

impl<V: Values> Mesh<V> {
    /// Of the next `rows` rows at the output, how many come before the last one of a matrix.
    fn rows_before_last(&self, rows: usize) -> usize {
        let (first, later) = (&self.slots[self.position..], &self.slots[..self.position]);
        let (ends, rows) = (|slot: &Slot| slot.valid && slot.last, rows.min(self.slots.len()));
        let last = first.iter().position(ends).or_else(|| Some(first.len() + later.iter().position(ends)?));
        last.map_or(rows, |last| rows.min(last))
    }
}

impl<T: Clone> MultiHeadedQueue<T> {
    /// So many clock edges at each of which an element leaves and `item` enters.
    fn replace(&mut self, edges: usize, item: &T) {
        for _ in 0..edges.min(self.registers.len()) {
            self.tick(1, Some(item));
        }
        // From here on all registers hold the same, and where the pointers stand cannot be seen.
    }
}

impl<V: Values> ScratchpadBank<V> {
    /// The lanes that the queue of rows for the execute controller shows.
    #[inline]
    pub(super) fn shown_lanes(&self) -> &[V::Of<i8>] {
        &self.shown_to(Port::Ex).1.0[..self.dim]
    }

    /// True if one row for the execute controller is at the output and one in its queue: they can follow each other one a cycle.
    #[inline]
    pub(super) fn streams(&self) -> bool {
        self.out == Some(Port::Ex) && self.queues[Port::Ex as usize].len == 1
    }

    /// Row `i` of a bank that [`Self::streams`], counted from the head of its queue, if the reads go on at `next` in steps of `step`.
    #[inline]
    pub(super) fn streamed(&self, i: u32, next: BankRow, step: u32) -> &[V::Of<i8>] {
        if i < 2 {
            let queue = &self.queues[Port::Ex as usize];
            return &queue.slots[(queue.head + i as usize) & queue.mask].0[..self.dim];
        }
        self.row(BankRow(next.0.wrapping_add(step.wrapping_mul(i - 2))))
    }

    /// So many clock edges of a bank that [`Self::streams`]: at each a row leaves, each other moves on, and the next one is read.
    pub(super) fn stream(&mut self, cycles: u32, next: BankRow, step: u32) {
        let queue = &mut self.queues[Port::Ex as usize];
        // The last two rows that were read are in the queue and at the output now, those before in the slots that they left.
        let first = cycles.saturating_sub(self.depth.max(2) as u32);
        for i in first..cycles {
            let row = next.0.wrapping_add(step.wrapping_mul(i)) as usize * self.dim;
            let slot = &mut queue.slots[(queue.head + 2 + i as usize) & queue.mask];
            copy_row(&mut slot.0[..self.dim], &self.memory[row..row + self.dim]);
        }
        queue.head = (queue.head + cycles as usize) & queue.mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memories::scratchpad_bank::BankWrite;
    use crate::parts::row::{MAX_DIM, SpadLanes};

    fn row_of(value: i8) -> SpadLanes {
        SpadLanes([value; MAX_DIM])
    }

    #[test]
    fn elements_replaced_at_once_leave_what_those_replaced_one_by_one_leave() {
        for edges in 0..6 {
            let mut one_by_one = MultiHeadedQueue::new(3, 0);
            one_by_one.tick(0, Some(&1));
            one_by_one.tick(0, Some(&2));
            let mut at_once = one_by_one.clone();
            at_once.replace(edges, &7);
            (0..edges).for_each(|_| one_by_one.tick(1, Some(&7)));
            let registers = |q: &MultiHeadedQueue<i32>| (0..3).map(|i| *q.bits(i)).collect::<Vec<_>>();
            assert_eq!((at_once.len(), registers(&at_once)), (2, registers(&one_by_one)), "{edges} edges");
        }
    }

    #[test]
    fn rows_streamed_at_once_are_those_streamed_one_by_one() {
        let mut bank = ScratchpadBank::new(32, 4, 4);
        for row in 0..32 {
            bank.write(&BankWrite { row: BankRow(row), data: &row_of(row as i8), mask: u64::MAX });
        }
        bank.read(BankRow(20), Port::Ex);
        bank.leave();
        bank.read(BankRow(18), Port::Ex);
        let step = 2u32.wrapping_neg();
        for cycles in 1..6 {
            let (mut at_once, mut one_by_one) = (bank.clone(), bank.clone());
            for i in 0..cycles {
                let expected = bank.streamed(i, BankRow(16), step);
                assert_eq!(one_by_one.row_for(Port::Ex).map(|row| &row.0[..4]), Some(expected));
                one_by_one.pop(Port::Ex);
                one_by_one.leave();
                one_by_one.read(BankRow(16 - 2 * i), Port::Ex);
            }
            at_once.stream(cycles, BankRow(16), step);
            for _ in 0..2 {
                assert!(at_once.row_for(Port::Ex).is_some());
                assert_eq!(at_once.row_for(Port::Ex), one_by_one.row_for(Port::Ex), "after {cycles} cycles");
                for bank in [&mut at_once, &mut one_by_one] {
                    bank.pop(Port::Ex);
                    bank.leave();
                }
            }
        }
    }
}
