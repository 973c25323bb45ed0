//! A last-level cache in front of DRAM, as FASED has it in FireSim's memory model (`LastLevelCache.scala`).
//!
//! It has one port, which each line of the L2 occupies, a bounded number of misses under way, and a random victim. Dirty victims are
//! written back. Victims come from a generator with a fixed seed: a run can be repeated.

use super::dram::{Dram, DramParameters, Picoseconds};

/// Bytes of a DRAM burst (8 transfers of 64 bits).
const BURST: u64 = 64;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    valid: bool,
    dirty: bool,
    tag: u64,
    /// When the line's fill is over, in picoseconds.
    pub filled: Picoseconds,
}

/// A line that was looked up.
pub(super) struct Lookup {
    pub index: usize,
    pub hit: bool,
    /// Address of the dirty line that had to go.
    pub evicted: Option<u64>,
}

/// A cache with random victims; what its accesses cost is its owner's business.
#[derive(Clone, Debug)]
pub(super) struct RandomCache {
    pub lines: Vec<Line>,
    sets: u64,
    ways: u64,
    line_bytes: u64,
    /// State of the generator of victims (xorshift64).
    random: u64,
    pub accesses: u64,
    pub misses: u64,
}

impl RandomCache {
    pub fn new(kib: u64, ways: u64, line_bytes: u64) -> Self {
        let ways = ways.max(1);
        let sets = (kib * 1024 / line_bytes / ways).max(1);
        let lines = vec![Line::default(); (sets * ways) as usize];
        Self { lines, sets, ways, line_bytes, random: 0x9e37_79b9_7f4a_7c15, accesses: 0, misses: 0 }
    }

    /// Looks a line up; a miss takes the place of a victim.
    pub fn look_up(&mut self, address: u64, write: bool) -> Lookup {
        self.accesses += 1;
        let number = address / self.line_bytes;
        let first = (number % self.sets * self.ways) as usize;
        let set = &mut self.lines[first..first + self.ways as usize];
        if let Some(way) = set.iter().position(|line| line.valid && line.tag == number) {
            set[way].dirty |= write;
            return Lookup { index: first + way, hit: true, evicted: None };
        }
        self.misses += 1;
        let way = set.iter().position(|line| !line.valid).unwrap_or_else(|| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random % self.ways) as usize
        });
        let victim = std::mem::replace(&mut set[way], Line { valid: true, dirty: write, tag: number, filled: 0 });
        let evicted = (victim.valid && victim.dirty).then_some(victim.tag * self.line_bytes);
        Lookup { index: first + way, hit: false, evicted }
    }
}

/// Parameters of the last-level cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastLevelParameters {
    /// Capacity in units of 1024 bytes.
    pub kib: u64,
    /// Lines of a set.
    pub ways: u64,
    /// Bytes of a line.
    pub line: u64,
    /// Cycles for which a line of the L2 occupies the port.
    pub port: u64,
    /// Misses under way.
    pub misses: u64,
}

/// The one of FireSim's DDR3 configurations for Gemmini (`TargetConfigs.scala`): 4 MiB.
impl Default for LastLevelParameters {
    fn default() -> Self {
        Self { kib: 4096, ways: 8, line: 128, port: 9, misses: 8 }
    }
}

/// The cache with its DRAM; times in picoseconds.
#[derive(Clone, Debug)]
pub(super) struct LastLevelCache {
    parameters: LastLevelParameters,
    pub cache: RandomCache,
    pub dram: Dram,
    /// For how long a line of the L2 occupies the port.
    transfer: Picoseconds,
    /// When the port is free.
    port: Picoseconds,
    /// When each of the misses is over.
    misses: Vec<Picoseconds>,
}

impl LastLevelCache {
    /// An empty cache in a system whose cycle has so many picoseconds; its lines have at least `least_line` bytes.
    pub fn new(parameters: LastLevelParameters, dram: DramParameters, period: Picoseconds, least_line: u64) -> Self {
        let parameters = LastLevelParameters { line: parameters.line.max(least_line), ..parameters };
        Self {
            cache: RandomCache::new(parameters.kib, parameters.ways, parameters.line),
            dram: Dram::new(dram),
            transfer: Picoseconds::from(parameters.port) * period,
            port: 0,
            misses: vec![0; parameters.misses.max(1) as usize],
            parameters,
        }
    }

    /// A line of the L2, asked for at a time; returns when its data is there.
    pub fn access(&mut self, address: u64, write: bool, asked: Picoseconds) -> Picoseconds {
        let start = asked.max(self.port);
        self.port = start + self.transfer;
        let through = self.port;
        let Lookup { index, hit, evicted } = self.cache.look_up(address, write);
        if hit {
            return through.max(self.cache.lines[index].filled);
        }
        let slot = (0..self.misses.len()).min_by_key(|slot| self.misses[*slot]).unwrap_or(0);
        let begin = start.max(self.misses[slot]);
        let line = address / self.parameters.line * self.parameters.line;
        let filled = self.bursts(line, false, begin);
        self.misses[slot] = filled;
        self.cache.lines[index].filled = filled;
        if let Some(victim) = evicted {
            self.bursts(victim, true, begin);
        }
        through.max(filled)
    }

    /// A line at the DRAM.
    fn bursts(&mut self, line: u64, write: bool, now: Picoseconds) -> Picoseconds {
        let bursts = (line..line + self.parameters.line).step_by(BURST as usize);
        bursts.map(|address| self.dram.access(address, write, now)).max().unwrap_or(now)
    }
}
