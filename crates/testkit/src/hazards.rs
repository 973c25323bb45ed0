//! What the hardware keeps in program order, and what it does not.
//!
//! | earlier | later | in order |
//! |---|---|---|
//! | load of a row | execute reads or writes it, store reads it | yes: the reservation station compares ranges |
//! | execute reads or writes a row | load overwrites it | yes |
//! | execute writes a row | store reads it | yes |
//! | store reads a row | load or execute overwrites it | yes |
//! | load of a row | load of the same row | no: rows of zeros, scaled rows and full-width rows take ways of different lengths, and memory may answer out of order |
//! | product to a row | product that reads it | only if both start at the same row |
//! | product to a row | product to the same row | only if both start at the same row with the same stride; else an accumulating write may be refused |
//! | store to main memory | load from there, and the other way round | no |
//!
//! Ranges are those that the reservation station works out, which are not always the rows used: with a transposed B the
//! row count is that of the transposed matrix, and with repeated pixels the range is too low. Rows outside the range are not
//! kept in order at all.
//!
//! Two further limits are the accumulator's: its banks share an adder, so accumulating loads and accumulating products
//! must not run at the same time, and a row of zeros takes the address of another load that waits.

use std::ops::Range;

use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};

/// Rows of a local memory that a command uses.
#[derive(Clone, Debug)]
pub struct Rows {
    /// First row's address.
    pub start: LocalAddr,
    /// Number of rows.
    pub count: u32,
    /// Rows from one to the next.
    pub stride: u32,
    /// Rows from `start` on that the reservation station sees.
    pub tracked: u32,
}

impl Rows {
    /// Consecutive rows, all of them seen.
    pub fn consecutive(start: LocalAddr, count: u32) -> Self {
        Self { start, count, stride: 1, tracked: count }
    }
}

/// How a command uses rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load writes them.
    Load,
    /// A preload or compute reads them.
    Operand,
    /// A product writes them.
    Result,
    /// A store reads them.
    Store,
}

/// What may be under way for a row.
#[derive(Clone, Copy, Debug, Default)]
struct RowState {
    /// Fence before which this was noted; anything older is done.
    epoch: u32,
    /// A load, and since then nothing that waits for it.
    loaded: bool,
    /// A product with this first row and stride.
    result: Option<(u32, u32)>,
    /// An access that the reservation station does not see.
    unseen: bool,
    /// Any access.
    used: bool,
}

/// Accesses since the last fence.
#[derive(Clone, Debug)]
pub struct Hazards {
    layout: AddressLayout,
    epoch: u32,
    scratchpad: Vec<RowState>,
    accumulator: Vec<RowState>,
    memory_reads: Vec<Range<u64>>,
    memory_writes: Vec<Range<u64>>,
    accumulator_use: AccumulatorUse,
}

/// Uses of the accumulator that must not meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccumulatorUse {
    /// A load of data.
    pub load: bool,
    /// A load of zeros.
    pub zeros: bool,
    /// A load that accumulates.
    pub accumulating_load: bool,
    /// A product that accumulates.
    pub accumulating_product: bool,
}

impl AccumulatorUse {
    fn meets(self, other: Self) -> bool {
        let pair = |a: fn(&Self) -> bool, b: fn(&Self) -> bool| (a(&self) && b(&other)) || (b(&self) && a(&other));
        pair(|u| u.accumulating_load, |u| u.accumulating_product) || pair(|u| u.load, |u| u.zeros)
    }

    fn merge(&mut self, other: Self) {
        self.load |= other.load;
        self.zeros |= other.zeros;
        self.accumulating_load |= other.accumulating_load;
        self.accumulating_product |= other.accumulating_product;
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Hazards {
    /// Nothing under way.
    pub fn new(config: &GemminiConfig) -> Self {
        let layout = config.layout();
        Self {
            layout,
            epoch: 0,
            scratchpad: vec![RowState::default(); layout.sp_rows as usize],
            accumulator: vec![RowState::default(); layout.acc_rows as usize],
            memory_reads: Vec::new(),
            memory_writes: Vec::new(),
            accumulator_use: AccumulatorUse::default(),
        }
    }

    /// A fence: nothing is under way.
    pub fn clear(&mut self) {
        self.epoch += 1;
        self.memory_reads.clear();
        self.memory_writes.clear();
        self.accumulator_use = AccumulatorUse::default();
    }

    /// Row number within its memory, and the memory.
    fn first(&self, address: LocalAddr) -> (bool, u32) {
        (address.is_acc(), address.memory_row(self.layout))
    }

    fn row(&mut self, is_acc: bool, row: u32) -> &mut RowState {
        let rows = if is_acc { &mut self.accumulator } else { &mut self.scratchpad };
        let index = row as usize % rows.len();
        let state = &mut rows[index];
        if state.epoch != self.epoch {
            *state = RowState { epoch: self.epoch, ..RowState::default() };
        }
        state
    }

    /// Whether the hardware would not keep this access in order with those before it.
    pub fn conflicts(&mut self, access: Access, rows: &Rows) -> bool {
        let (is_acc, start) = self.first(rows.start);
        (0..rows.count).map(|i| i * rows.stride).any(|offset| {
            let state = *self.row(is_acc, start + offset);
            let same_place = state.result.is_none_or(|result| result == (start, rows.stride));
            let same_start = state.result.is_none_or(|result| result.0 == start);
            let seen = offset < rows.tracked;
            let in_order = match access {
                Access::Load => !state.loaded,
                Access::Operand => same_start,
                Access::Result => same_place,
                Access::Store => true,
            };
            !in_order || state.unseen || (!seen && state.used)
        })
    }

    /// Notes an access that has been issued.
    pub fn note(&mut self, access: Access, rows: &Rows) {
        let (is_acc, start) = self.first(rows.start);
        for offset in (0..rows.count).map(|i| i * rows.stride) {
            let state = self.row(is_acc, start + offset);
            state.used = true;
            state.unseen |= offset >= rows.tracked;
            match access {
                Access::Load => (state.loaded, state.result) = (true, None),
                Access::Operand | Access::Store => state.loaded = false,
                Access::Result => (state.loaded, state.result) = (false, Some((start, rows.stride))),
            }
        }
    }

    /// Whether a use of the accumulator must not meet one before it.
    pub fn accumulator_conflicts(&self, used: AccumulatorUse) -> bool {
        self.accumulator_use.meets(used)
    }

    /// Notes a use of the accumulator.
    pub fn note_accumulator(&mut self, used: AccumulatorUse) {
        self.accumulator_use.merge(used);
    }

    /// Whether a load of these bytes may overtake a store, or be overtaken by one.
    pub fn memory_conflicts(&self, bytes: &Range<u64>, write: bool) -> bool {
        let others = if write { &self.memory_reads } else { &self.memory_writes };
        others.iter().any(|other| overlap(other, bytes))
    }

    /// Notes an access of main memory.
    pub fn note_memory(&mut self, bytes: Range<u64>, write: bool) {
        if write { self.memory_writes.push(bytes) } else { self.memory_reads.push(bytes) }
    }
}
