//! One table of the station: the entries of a class, and which other entries each waits for.

use crate::front_end::reservation_station::operands::Operands;
use crate::observation::event::Unit;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::wires::{GemminiCmd, PerUnit, UNITS};

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub cmd: GemminiCmd,
    pub seq: u64,
    pub operands: Operands,
    pub complete_on_issue: bool,
}

/// Positions of the set bits, lowest first.
pub(super) fn ones(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let index = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (index < u64::BITS).then_some(index as u8)
    })
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// What each entry holds or held last.
    entries: Vec<Option<Entry>>,
    /// By table: the entries of it that each entry waits for, one bit each.
    deps: PerUnit<Vec<u64>>,
    /// Entries that hold a command, one bit each.
    pub valid: u64,
    /// Entries that hold a command not yet issued.
    pub unissued: u64,
    /// The entry offered to the controller.
    pub candidate: Option<u8>,
}

/// The commands by age, with what each waits for. What a free entry held last is never looked at.
impl Canonical for Table {
    fn canonical(&self, canon: &mut Canon) {
        let Self { entries: _, deps: _, valid, unissued, candidate } = self;
        let by_age = self.by_age();
        (by_age.len() as u8).canonical(canon);
        for &index in &by_age {
            let Some(Entry { cmd, seq: _, operands, complete_on_issue }) = self.entry(index) else { continue };
            cmd.canonical(canon);
            operands.canonical(canon);
            complete_on_issue.canonical(canon);
            (unissued >> index & 1 == 1).canonical(canon);
            (*candidate == Some(index)).canonical(canon);
            for (unit, deps) in UNITS.into_iter().zip(self.deps(index)) {
                canon.entries(unit, deps);
            }
        }
        debug_assert_eq!(by_age.len() as u32, valid.count_ones());
    }
}

impl Table {
    pub(super) fn new(entries: u32) -> Self {
        let entries = entries as usize;
        Self {
            entries: vec![None; entries],
            deps: std::array::from_fn(|_| vec![0; entries]),
            valid: 0,
            unissued: 0,
            candidate: None,
        }
    }

    pub(super) fn free_entry(&self) -> Option<u8> {
        let index = (!self.valid).trailing_zeros();
        ((index as usize) < self.entries.len()).then_some(index as u8)
    }

    /// The command in a valid entry.
    /// Moves the numbers of all commands.
    pub(super) fn renumber(&mut self, by: u64) {
        for entry in self.entries.iter_mut().flatten() {
            entry.seq = entry.seq.wrapping_add(by);
        }
    }

    pub(super) fn entry(&self, index: u8) -> Option<&Entry> {
        let valid = self.valid >> index & 1 == 1;
        self.entries.get(usize::from(index)).filter(|_| valid)?.as_ref()
    }

    pub(super) fn put(&mut self, index: u8, entry: Entry, deps: PerUnit<u64>) {
        self.entries[usize::from(index)] = Some(entry);
        for (table, deps) in self.deps.iter_mut().zip(deps) {
            table[usize::from(index)] = deps;
        }
        self.valid |= 1 << index;
        self.unissued |= 1 << index;
    }

    pub(super) fn free(&mut self, index: u8) {
        self.valid &= !(1 << index);
        self.unissued &= !(1 << index);
    }

    pub(super) fn is_ready(&self, index: u8) -> bool {
        let [ld, ex, st] = &self.deps;
        let index = usize::from(index);
        ld[index] | ex[index] | st[index] == 0
    }

    /// The entries that an entry waits for.
    pub(super) fn deps(&self, index: u8) -> PerUnit<u64> {
        self.deps.each_ref().map(|table| table[usize::from(index)])
    }

    /// Nothing in this table waits any longer for an entry of `unit`.
    pub(super) fn clear_deps(&mut self, unit: Unit, index: u8) {
        for deps in &mut self.deps[unit as usize] {
            *deps &= !(1 << index);
        }
    }

    /// The valid entries whose operands `select` names, one bit each.
    pub(super) fn matching(&self, select: impl Fn(&Operands) -> bool) -> u64 {
        let selected = |&index: &u8| self.entry(index).is_some_and(|entry| select(&entry.operands));
        ones(self.valid).filter(selected).fold(0, |set, index| set | 1 << index)
    }

    pub(super) fn find_candidate(&mut self) {
        // Entries are seldom many, and mostly in their order.
        let mut left = self.unissued;
        self.candidate = None;
        while left != 0 {
            let index = left.trailing_zeros() as u8;
            if self.is_ready(index) {
                self.candidate = Some(index);
                return;
            }
            left &= left - 1;
        }
    }

    /// The entries that hold a command, oldest first.
    pub(super) fn by_age(&self) -> Vec<u8> {
        let mut entries: Vec<(u64, u8)> =
            ones(self.valid).filter_map(|index| Some((self.entry(index)?.seq, index))).collect();
        entries.sort_unstable();
        entries.into_iter().map(|(_, index)| index).collect()
    }

    pub(super) fn oldest(&self, among: u64) -> Option<(u8, &Entry)> {
        ones(among).filter_map(|index| Some((index, self.entry(index)?))).min_by_key(|(_, entry)| entry.seq)
    }
}
