//! A finite number of scale units shared by the lanes of three row entries: the common part of
//! `VectorScalarMultiplier.scala` and `AccumulatorScale.scala` when they have fewer units than a row has lanes.
//!
//! Rows enter and leave in order through three entries (`regs`, one-hot head and tail). Lane k of entry j has the number
//! n = j * width + k. Each unit serves a fixed set of lane numbers through a round-robin arbiter, one register
//! (`arbOut`) and a pipe of `latency` registers; a lane is done when it leaves the pipe. A row alone, consumed in cycle
//! c, is granted its first lanes in c + 1 and is whole in c + lanes a unit + latency + 2.
//!
//! Only the timing is kept here. The value of a lane depends on its row alone, so the owner computes it once.
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `accept` | in | the owner has a row | an entry is free: [`ScaleUnits::is_valid`] of the tail |
//! | `take` | out | [`ScaleUnits::done`]: the head's lanes are all done | held until the owner takes it |

use std::collections::VecDeque;

use crate::parts::canonical::{Canon, Canonical};

/// Number of row entries (`nEntries`).
pub const ENTRIES: usize = 3;

/// A set of lanes of all entries: one mask an entry.
pub type LaneSet = [u64; ENTRIES];

/// Which lanes a unit may serve: those of entries assigned to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
enum Group {
    /// Entries in the mask given to [`ScaleUnits::tick`] (`current_policy`).
    Assigned,
    /// The others.
    Rest,
}

/// A round-robin arbiter (`RRArbiter`) in front of one unit. It grants the lowest valid lane above the last one granted, else the lowest.
#[derive(Clone, Debug)]
struct Unit {
    group: Group,
    serves: LaneSet,
    /// `lastGrant`: entry and lane. Not reset in the hardware; 0 (the unit's first lane) at the start of a simulation.
    last: (usize, u32),
}

impl Unit {
    /// A unit for the lane numbers with `n % modulus == index`.
    fn new(group: Group, index: usize, modulus: usize, width: usize) -> Self {
        let mut serves = [0; ENTRIES];
        for n in (index..ENTRIES * width).step_by(modulus) {
            serves[n / width] |= 1 << (n % width);
        }
        let first = (index / width, (index % width) as u32);
        Self { group, serves, last: first }
    }

    fn grant(&self, pending: &LaneSet) -> Option<(usize, u32)> {
        let valid = |entry: usize| pending[entry] & self.serves[entry];
        let (entry, lane) = self.last;
        let above = valid(entry) & (u64::MAX << lane << 1);
        if above != 0 {
            return Some((entry, above.trailing_zeros()));
        }
        let later = (entry + 1..ENTRIES).find(|&e| valid(e) != 0);
        let chosen = later.or_else(|| (0..ENTRIES).find(|&e| valid(e) != 0))?;
        Some((chosen, valid(chosen).trailing_zeros()))
    }
}

/// Entries, masks, arbiters and pipes.
#[derive(Clone, Debug)]
pub struct ScaleUnits {
    row: u64,
    /// It makes no difference in which of the entries a row is: constant.
    symmetric: bool,
    valid: [bool; ENTRIES],
    fired: LaneSet,
    completed: LaneSet,
    head: usize,
    tail: usize,
    units: Vec<Unit>,
    /// Lanes granted in each of the last `latency + 1` cycles, oldest first: `arbOut` and the pipes of all units.
    in_flight: VecDeque<LaneSet>,
    /// Cycles after which the pipes are empty if nothing is granted.
    draining: usize,
}

impl ScaleUnits {
    /// `units` units for any lane: unit i serves the numbers with n mod units = i.
    pub fn uniform(units: usize, width: usize, latency: usize) -> Self {
        Self::with_units((0..units).map(|i| Unit::new(Group::Rest, i, units, width)).collect(), width, latency)
    }

    /// `assigned` units for the entries assigned to them and `rest` units for the others. `policy` gives the entries to assign for each
    /// set of entries that ask for it.
    pub fn grouped(assigned: usize, rest: usize, width: usize, latency: usize, policy: &[u8; 1 << ENTRIES]) -> Self {
        let group = |group, units| (0..units).map(move |i| Unit::new(group, i, units, width));
        let units = group(Group::Assigned, assigned).chain(group(Group::Rest, rest)).collect();
        let mut units = Self::with_units(units, width, latency);
        let next = |set: u8| set << 1 & ((1 << ENTRIES) - 1) | set >> (ENTRIES - 1);
        units.symmetric &= (0..policy.len()).all(|set| policy[usize::from(next(set as u8))] == next(policy[set]));
        units
    }

    fn with_units(units: Vec<Unit>, width: usize, latency: usize) -> Self {
        Self {
            row: u64::MAX >> (64 - width),
            symmetric: units.iter().all(|unit| unit.serves == [unit.serves[0]; ENTRIES]),
            valid: [false; ENTRIES],
            fired: [0; ENTRIES],
            completed: [0; ENTRIES],
            head: 0,
            tail: 0,
            units,
            in_flight: VecDeque::from(vec![[0; ENTRIES]; latency + 1]),
            draining: 0,
        }
    }

    /// True if entry `entry` holds a row.
    #[inline]
    pub fn is_valid(&self, entry: usize) -> bool {
        self.valid[entry]
    }

    /// True if no entry holds a row (and so no lane is in a pipe).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.valid == [false; ENTRIES]
    }

    /// The oldest entry, if its row is whole (`out.valid`).
    #[inline]
    pub fn done(&self) -> Option<usize> {
        (self.valid[self.head] && self.completed[self.head] == self.row).then_some(self.head)
    }

    /// The entry that the next row takes.
    #[inline]
    pub fn tail(&self) -> usize {
        self.tail
    }

    /// True if that entry is also the oldest one.
    #[inline]
    pub fn tail_is_head(&self) -> bool {
        self.tail == self.head
    }

    /// Clock edge: `take` removes the oldest row; `accept` enters a new one at the tail, `Some(true)` as already whole.
    /// `assigned` is the mask of entries served by the assigned group. Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, take: bool, accept: Option<bool>, assigned: u8) -> bool {
        if self.is_empty() && accept.is_none() {
            return false;
        }
        let pending: LaneSet = std::array::from_fn(|e| if self.valid[e] { self.row & !self.fired[e] } else { 0 });
        let moved = self.draining > 0 || pending != [0; ENTRIES];
        if moved {
            self.tick_lanes(&pending, assigned);
        }
        if take {
            self.valid[self.head] = false;
            self.head = (self.head + 1) % ENTRIES;
        }
        if let Some(whole) = accept {
            let lanes = if whole { self.row } else { 0 };
            self.valid[self.tail] = true;
            self.fired[self.tail] = lanes;
            self.completed[self.tail] = lanes;
            self.tail = (self.tail + 1) % ENTRIES;
        }
        moved || take || accept.is_some()
    }

    /// Clocks arbiters and pipes.
    fn tick_lanes(&mut self, pending: &LaneSet, assigned: u8) {
        let granted = self.arbitrate(pending, assigned);
        let leaving = self.in_flight.pop_front().unwrap_or_default();
        self.in_flight.push_back(granted);
        self.draining = if granted == [0; ENTRIES] { self.draining.saturating_sub(1) } else { self.in_flight.len() };
        for entry in 0..ENTRIES {
            self.fired[entry] |= granted[entry];
            self.completed[entry] |= leaving[entry];
        }
    }

    /// Grants one pending lane to each unit.
    fn arbitrate(&mut self, pending: &LaneSet, assigned: u8) -> LaneSet {
        let mut granted = [0; ENTRIES];
        let of_group = |group| {
            let serves = |e: usize| (assigned >> e & 1 == 1) == (group == Group::Assigned);
            std::array::from_fn(|e| if serves(e) { pending[e] } else { 0 })
        };
        let (to_assigned, to_rest): (LaneSet, LaneSet) = (of_group(Group::Assigned), of_group(Group::Rest));
        for unit in &mut self.units {
            let pending = if unit.group == Group::Assigned { &to_assigned } else { &to_rest };
            if let Some((entry, lane)) = unit.grant(pending) {
                unit.last = (entry, lane);
                granted[entry] |= 1 << lane;
            }
        }
        granted
    }
}

/// For each unit the lane that it served last: which entry from the oldest on, and which lane of it.
#[derive(Clone, Debug, PartialEq, Eq, Canonical)]
pub struct Turns(Vec<(u8, u32)>);

impl Turns {
    /// The same `steps` entries later.
    #[must_use]
    pub fn later(&self, steps: u8) -> Self {
        let later = |place: u8| (place + steps) % ENTRIES as u8;
        Self(self.0.iter().map(|&(place, lane)| (later(place), lane)).collect())
    }

    /// Those that are the same but for the entry, by their first, and how many entries later these are.
    pub fn apart(&self) -> (Self, u8) {
        let count = ENTRIES as u8;
        let first = (0..count).map(|back| (self.later(count - back), back)).min_by(|(a, _), (b, _)| a.0.cmp(&b.0));
        first.unwrap_or_else(|| (self.clone(), 0))
    }
}

/// The canonical form: the entries from the head on, if it makes no difference which one the head is. What an empty entry still holds
/// is not seen.
impl ScaleUnits {
    fn order_from(first: usize) -> [usize; ENTRIES] {
        std::array::from_fn(|i| (first + i) % ENTRIES)
    }

    /// True if each row inside is whole: until one comes that is not, no lane is served.
    pub(super) fn rests(&self) -> bool {
        let is_whole = |e: usize| !self.valid[e] || self.fired[e] == self.row && self.completed[e] == self.row;
        self.symmetric && self.draining == 0 && (0..ENTRIES).all(is_whole)
    }

    /// The number of the oldest entry, or of the next one if there is none.
    pub fn head(&self) -> usize {
        self.head
    }

    /// Whose turn it is.
    pub fn turns(&self) -> Turns {
        let place = |entry: usize| (entry + ENTRIES - self.head) % ENTRIES;
        Turns(self.units.iter().map(|Unit { last: (entry, lane), .. }| (place(*entry) as u8, *lane)).collect())
    }

    /// Lets it be the turn of these.
    pub fn set_turns(&mut self, turns: &Turns) {
        for (unit, &(place, lane)) in self.units.iter_mut().zip(&turns.0) {
            unit.last = ((usize::from(place) + self.head) % ENTRIES, lane);
        }
    }

    /// Appends the form, with what the owner has for each entry.
    pub(super) fn canonical_with<T: Canonical>(&self, rows: &[Option<T>; ENTRIES], canon: &mut Canon) {
        self.canonical(canon);
        self.canonical_rows(Self::order_from(if self.symmetric { self.head } else { 0 }), rows, canon);
    }

    /// The same if all rows come whole: no lane has ever been served, nor will be.
    pub(super) fn canonical_of_whole<T: Canonical>(&self, rows: &[Option<T>; ENTRIES], canon: &mut Canon) {
        let order = Self::order_from(self.head);
        order.map(|entry| self.valid[entry]).canonical(canon);
        self.canonical_rows(order, rows, canon);
    }

    fn canonical_rows<T: Canonical>(&self, order: [usize; ENTRIES], rows: &[Option<T>; ENTRIES], canon: &mut Canon) {
        let held = order.into_iter().filter(|&entry| self.valid[entry]);
        held.for_each(|entry| rows[entry].canonical(canon));
    }
}

impl Canonical for ScaleUnits {
    fn canonical(&self, canon: &mut Canon) {
        let Self { row: _, symmetric, valid, fired, completed, head, tail, units, in_flight, draining } = self;
        let order = Self::order_from(if *symmetric { *head } else { 0 });
        let place = |entry: usize| (entry + ENTRIES - order[0]) % ENTRIES;
        for entry in order {
            (valid[entry], valid[entry].then_some((fired[entry], completed[entry]))).canonical(canon);
        }
        (place(*head), place(*tail)).canonical(canon);
        for Unit { group, serves: _, last: (entry, lane) } in units {
            (*group, (place(*entry), *lane)).canonical(canon);
        }
        in_flight.iter().for_each(|lanes| order.map(|entry| lanes[entry]).canonical(canon));
        draining.canonical(canon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(units: &ScaleUnits) -> Vec<u8> {
        let mut canon = Canon::default();
        units.canonical(&mut canon);
        canon.bytes().to_vec()
    }

    /// A row is put through from each entry on: the forms are the same at every step, or, if lanes are not served alike, are not.
    #[test]
    fn which_entry_the_head_is_matters_only_if_lanes_are_served_otherwise() {
        for (units, alike) in [(4, true), (3, false)] {
            let mut units = ScaleUnits::uniform(units, 16, 4);
            let mut runs = Vec::new();
            for _ in 0..=ENTRIES {
                let mut forms = Vec::new();
                let mut accept = Some(false);
                loop {
                    let take = units.done().is_some();
                    let _ = units.tick(take, accept.take(), 0);
                    forms.push(form(&units));
                    if take {
                        break;
                    }
                }
                runs.push(forms);
            }
            // The first row finds the arbiters as they are after reset, the second as the first one leaves them.
            assert_eq!(runs[2] == runs[3], alike);
        }
    }

    #[test]
    fn turns_are_a_first_and_entries_later() {
        let turns = Turns(vec![(1, 3), (0, 5)]);
        for steps in 0..3 {
            let (first, later) = turns.later(steps).apart();
            assert_eq!(first, turns.apart().0);
            assert_eq!(first.later(later), turns.later(steps));
        }
    }

    /// Whole rows pass between two scaled ones: whose turn it is, seen from the head, moves back by one entry a row, and units that are told
    /// so go on as these.
    #[test]
    fn whole_rows_move_the_head_and_no_turn() {
        let mut units = ScaleUnits::uniform(4, 16, 4);
        let pass = |units: &mut ScaleUnits, whole: bool| {
            let mut accept = Some(whole);
            for cycle in 0.. {
                let take = units.done().is_some();
                let _ = units.tick(take, accept.take(), 0);
                if take {
                    return cycle;
                }
            }
            0
        };
        pass(&mut units, false);
        while !units.rests() {
            let _ = units.tick(false, None, 0);
        }
        for rows in 0..5u8 {
            let before = units.turns();
            let mut other = ScaleUnits::uniform(4, 16, 4);
            (0..rows).for_each(|_| _ = pass(&mut units, true));
            assert!(units.rests());
            assert_eq!(units.turns(), before.later(rows * 2 % 3));
            other.set_turns(&units.turns());
            assert_eq!(pass(&mut units, false), pass(&mut other, false), "{rows} rows");
            while !units.rests() {
                let _ = units.tick(false, None, 0);
            }
        }
    }

    /// Cycles in which rows leave when one is always waiting and the output is always taken.
    fn leaving_cycles(units: &mut ScaleUnits, cycles: usize) -> Vec<usize> {
        let mut left = Vec::new();
        for cycle in 0..cycles {
            let take = units.done().is_some();
            let accept = (!units.is_valid(units.tail())).then_some(false);
            if take {
                left.push(cycle);
            }
            let _ = units.tick(take, accept, 0);
        }
        left
    }

    #[test]
    fn a_row_alone_is_whole_after_its_lanes_a_unit_the_pipe_and_two_registers() {
        let mut units = ScaleUnits::uniform(4, 16, 4);
        let _ = units.tick(false, Some(false), 0);
        for cycle in 1..10 {
            assert_eq!(units.done(), None, "cycle {cycle}");
            let _ = units.tick(false, None, 0);
        }
        assert_eq!(units.done(), Some(0));
    }

    #[test]
    fn a_pointer_on_a_rows_first_lane_costs_three_rows_nineteen_cycles() {
        let left = leaving_cycles(&mut ScaleUnits::uniform(4, 16, 4), 400);
        let steady: Vec<_> = left.windows(4).skip(6).map(|w| w[3] - w[0]).collect();
        assert!(steady.iter().all(|&three_rows| three_rows == 19), "{steady:?}");
    }

    #[test]
    fn a_whole_row_is_done_in_the_next_cycle() {
        let mut units = ScaleUnits::uniform(4, 16, 4);
        let _ = units.tick(false, Some(true), 0);
        assert_eq!(units.done(), Some(0));
        let _ = units.tick(true, None, 0);
        assert!(units.is_empty());
    }
}
