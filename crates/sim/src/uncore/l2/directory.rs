//! The directory: tags, states and clients of every line, read in one cycle, answered in the next (`Directory.scala`).

use super::parameters::Geometry;

/// What the L2 holds of a line (`MetaData`, `Parameters.scala` line 259).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    #[default]
    Invalid,
    /// It may be read.
    Branch,
    /// A client may write it.
    Trunk,
    /// The L2 may write it; clients may read it.
    Tip,
}

/// A line's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// It differs from memory.
    pub dirty: bool,
    /// Permission.
    pub state: State,
    /// Clients that may hold a copy, a bit each.
    pub clients: u8,
    /// Tag.
    pub tag: u64,
}

/// Answer of the directory: the line, or its victim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Record of the line, or of the victim.
    pub entry: Entry,
    /// The line is there.
    pub hit: bool,
    /// Its way, or the victim's.
    pub way: usize,
}

/// A change of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryWrite {
    /// Set.
    pub set: u64,
    /// Way.
    pub way: usize,
    /// New record.
    pub entry: Entry,
}

/// One port: a write waits in a queue of one entry until no read is in its way.
#[derive(Clone, Debug)]
pub struct Directory {
    ways: usize,
    entries: Vec<Entry>,
    write: Option<DirectoryWrite>,
    /// Set and tag read in the cycle before.
    read: Option<(u64, u64)>,
    /// Source of victims; moves with every read (line 115).
    lfsr: u16,
}

impl Directory {
    /// An empty directory.
    pub fn new(geometry: &Geometry) -> Self {
        let entries = vec![Entry::default(); geometry.sets as usize * geometry.ways];
        Self { ways: geometry.ways, entries, write: None, read: None, lfsr: 1 }
    }

    /// A write is accepted.
    #[inline]
    pub fn write_ready(&self) -> bool {
        self.write.is_none()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.write.is_none() && self.read.is_none()
    }

    /// Answer to the read of the cycle before.
    pub fn result(&self) -> Option<Lookup> {
        let (set, tag) = self.read?;
        let bypass = self.write.filter(|write| write.set == set);
        let ways = self.set(set);
        let holds = |(way, entry): (usize, &Entry)| {
            (entry.tag == tag && entry.state != State::Invalid && bypass.is_none_or(|write| write.way != way))
                .then_some(way)
        };
        if let Some(way) = ways.iter().enumerate().find_map(holds) {
            return Some(Lookup { entry: ways[way], hit: true, way });
        }
        let victim = self.victim();
        Some(match bypass {
            Some(write) if write.entry.tag == tag => {
                Lookup { entry: write.entry, hit: write.entry.state != State::Invalid, way: write.way }
            }
            Some(write) if write.way == victim => Lookup { entry: write.entry, hit: false, way: victim },
            _ => Lookup { entry: ways[victim], hit: false, way: victim },
        })
    }

    fn set(&self, set: u64) -> &[Entry] {
        &self.entries[set as usize * self.ways..][..self.ways]
    }

    /// The record of a line, if the L2 holds it.
    pub fn peek(&self, set: u64, tag: u64) -> Option<&Entry> {
        self.set(set).iter().find(|entry| entry.tag == tag && entry.state != State::Invalid)
    }

    /// Puts a line in as if it had been read before the first cycle.
    pub fn warm(&mut self, set: u64, tag: u64) {
        if self.peek(set, tag).is_some() {
            return;
        }
        self.step_lfsr();
        let way = self.victim();
        let entry = Entry { dirty: false, state: State::Tip, clients: 0, tag };
        self.entries[set as usize * self.ways + way] = entry;
    }

    /// Ten bits of the register choose among the ways (lines 116 to 120), whether a way is empty or not.
    fn victim(&self) -> usize {
        usize::from(self.lfsr & 0x3ff) * self.ways / 0x400
    }

    /// `FibonacciLFSR` of maximal period: x^16 + x^14 + x^13 + x^11 + 1.
    fn step_lfsr(&mut self) {
        let bit = |n: u16| self.lfsr >> (n - 1) & 1;
        self.lfsr = self.lfsr << 1 | (bit(16) ^ bit(14) ^ bit(13) ^ bit(11));
    }

    /// Clock edge: a read, and a write that was accepted.
    pub fn tick(&mut self, read: Option<(u64, u64)>, write: Option<DirectoryWrite>) {
        if read.is_none()
            && let Some(write) = self.write.take()
        {
            self.entries[write.set as usize * self.ways + write.way] = write.entry;
        }
        self.write = self.write.or(write);
        if read.is_some() {
            self.step_lfsr();
        }
        self.read = read;
    }
}
