//! What stands behind a clocked L2: it asks for lines, and writes them back.
//!
//! * a fixed latency and a bandwidth, in order ([`BandwidthMemory`]): the memory of the system's recordings;
//! * a DRAM channel, with published timings;
//! * FASED's last-level cache in front of one, as in FireSim's measurements.
//!
//! DRAM answers a read once the line's burst is through, a write likewise, in the order in which they are done.

use pollux_memory::Memory;

use super::dram::{Dram, DramParameters, Picoseconds};
use super::last_level_cache::{LastLevelCache, LastLevelParameters};
use super::{BandwidthMemory, BandwidthParameters, MemorySystem, ResponseQueue};
use crate::observation::event::{Cycle, ReqKind};
use crate::parts::values::{Full, Values};
use crate::port::tilelink::{ABeat, DBeat};

/// Bytes of a line.
const LINE: u64 = 64;

/// A DRAM channel in a system with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelParameters {
    /// The channel.
    pub dram: DramParameters,
    /// Clock of the system, up to 1,000,000 MHz.
    pub clock_mhz: u64,
}

/// The memory behind an L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterParameters {
    /// Fixed.
    Fixed {
        /// Cycles from a read's request to its first beat.
        latency: u64,
        /// Bytes a cycle; no more than a word passes the port.
        bytes: u64,
    },
    /// DRAM.
    Dram(ChannelParameters),
    /// A last-level cache in front of DRAM.
    LastLevel(LastLevelParameters, ChannelParameters),
}

/// A kind of memory behind an L2: its name in a memory system's text form, and its defaults.
pub type OuterType = (&'static str, fn() -> OuterParameters);

impl OuterParameters {
    /// The kinds.
    pub const TYPES: [OuterType; 4] = [
        ("fixed", || Self::Fixed { latency: 40, bytes: 8 }),
        ("ddr3", || Self::Dram(ChannelParameters { dram: DramParameters::ddr3_1866(), clock_mhz: 1000 })),
        ("lpddr3", || Self::Dram(ChannelParameters { dram: DramParameters::lpddr3_1600(), clock_mhz: 1000 })),
        ("firesim", || {
            let channel = ChannelParameters { dram: DramParameters::fased(), clock_mhz: 1000 };
            Self::LastLevel(LastLevelParameters::default(), channel)
        }),
    ];

    /// The name of the type that it is, changed or not.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Fixed { .. } => "fixed",
            Self::Dram(channel) if channel.dram == DramParameters::lpddr3_1600() => "lpddr3",
            Self::Dram(_) => "ddr3",
            Self::LastLevel(..) => "firesim",
        }
    }
}

/// 40 cycles and 8 bytes a cycle.
impl Default for OuterParameters {
    fn default() -> Self {
        Self::TYPES[0].1()
    }
}

/// The memory behind an L2, whose port is a word wide.
#[derive(Clone, Debug)]
pub enum OuterMemory<V: Values = Full> {
    /// A fixed one.
    Fixed(Box<BandwidthMemory<V>>),
    /// DRAM.
    Lines(Box<LineMemory<V>>),
}

impl<V: Values> OuterMemory<V> {
    /// A memory with these bytes, with beats of `beat_bytes`.
    pub fn new(parameters: OuterParameters, beat_bytes: usize, bytes: Memory) -> Self {
        match parameters {
            OuterParameters::Fixed { latency, bytes: bandwidth } => {
                let parameters = BandwidthParameters { latency, bytes: bandwidth, cycles: 1, outstanding: u64::MAX };
                Self::Fixed(Box::new(BandwidthMemory::with_values(parameters, beat_bytes, bytes)))
            }
            OuterParameters::Dram(channel) => {
                Self::lines(Levels::Dram(Dram::new(channel.dram)), channel, beat_bytes, bytes)
            }
            OuterParameters::LastLevel(cache, channel) => {
                let levels = LastLevelCache::new(cache, channel.dram, period(channel.clock_mhz), LINE);
                Self::lines(Levels::LastLevel(levels), channel, beat_bytes, bytes)
            }
        }
    }

    fn lines(levels: Levels, channel: ChannelParameters, beat_bytes: usize, bytes: Memory) -> Self {
        Self::Lines(Box::new(LineMemory::new(levels, channel, beat_bytes, bytes)))
    }
}

/// Picoseconds of a cycle.
fn period(clock_mhz: u64) -> Picoseconds {
    (1_000_000 / Picoseconds::from(clock_mhz.max(1))).max(1)
}

/// What a line is asked for.
#[derive(Clone, Debug)]
enum Levels {
    Dram(Dram),
    LastLevel(LastLevelCache),
}

/// DRAM, perhaps behind a last-level cache, that takes requests for lines.
#[derive(Clone, Debug)]
pub struct LineMemory<V: Values = Full> {
    levels: Levels,
    /// Path to the controller and back.
    path: Picoseconds,
    queue: ResponseQueue<V>,
    period: Picoseconds,
    under_way: u64,
}

impl<V: Values> LineMemory<V> {
    fn new(levels: Levels, channel: ChannelParameters, beat_bytes: usize, bytes: Memory) -> Self {
        let queue = ResponseQueue::new(bytes, beat_bytes, 1);
        let path = Picoseconds::from(channel.dram.t_controller);
        Self { levels, path, queue, period: period(channel.clock_mhz), under_way: 0 }
    }
}

impl<V: Values> MemorySystem<V> for LineMemory<V> {
    fn a_ready(&self, _: Cycle) -> bool {
        true
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        self.under_way += u64::from(beat.beat == 0);
        let Some(mut response) = self.queue.perform(beat) else { return };
        let (asked, write) = (Picoseconds::from(cycle) * self.period + self.path, beat.kind != ReqKind::Get);
        let done = match &mut self.levels {
            Levels::Dram(dram) => dram.access(beat.address, write, asked),
            Levels::LastLevel(cache) => cache.access(beat.address, write, asked),
        };
        response.ready = Cycle::try_from(done.div_ceil(self.period)).unwrap_or(Cycle::MAX);
        self.queue.insert(response);
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        self.queue.front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        self.under_way -= u64::from(self.queue.take(cycle));
    }

    fn next_event(&self, cycle: Cycle, _: bool) -> Option<Cycle> {
        self.queue.next_event(cycle)
    }

    fn busy(&self) -> bool {
        self.under_way != 0
    }

    fn memory(&self) -> &Memory {
        &self.queue.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.queue.memory
    }

    fn into_memory(self) -> Memory {
        self.queue.memory
    }
}

/// Gives a call to the memory that it is.
macro_rules! either {
    ($self:ident, $memory:ident => $call:expr) => {
        match $self {
            Self::Fixed($memory) => $call,
            Self::Lines($memory) => $call,
        }
    };
}

impl<V: Values> MemorySystem<V> for OuterMemory<V> {
    #[inline]
    fn a_ready(&self, cycle: Cycle) -> bool {
        either!(self, memory => memory.a_ready(cycle))
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        either!(self, memory => memory.accept(cycle, beat));
    }

    #[inline]
    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        either!(self, memory => memory.d_front(cycle))
    }

    fn take_d(&mut self, cycle: Cycle) {
        either!(self, memory => memory.take_d(cycle));
    }

    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle> {
        either!(self, memory => memory.next_event(cycle, a_valid))
    }

    #[inline]
    fn busy(&self) -> bool {
        either!(self, memory => memory.busy())
    }

    #[inline]
    fn memory(&self) -> &Memory {
        either!(self, memory => memory.memory())
    }

    #[inline]
    fn memory_mut(&mut self) -> &mut Memory {
        either!(self, memory => memory.memory_mut())
    }

    fn into_memory(self) -> Memory {
        either!(self, memory => memory.into_memory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(name: &str) -> OuterMemory {
        let (_, parameters) = OuterParameters::TYPES.into_iter().find(|(known, _)| *known == name).expect("a type");
        assert_eq!(parameters().type_name(), name);
        OuterMemory::new(parameters(), 8, Memory::new())
    }

    fn beat(kind: ReqKind, address: u64) -> ABeat {
        ABeat { kind, address, size: 64, last: true, ..ABeat::filler() }
    }

    /// Cycles from a request to the first beat of its response.
    fn latency(memory: &mut OuterMemory, cycle: Cycle, request: &ABeat) -> u64 {
        assert!(memory.a_ready(cycle));
        memory.accept(cycle, request);
        let first = (cycle + 1..cycle + 10_000).find(|now| memory.d_front(*now).is_some()).expect("an answer");
        let mut now = first;
        while memory.busy() {
            if memory.d_front(now).is_some() {
                memory.take_d(now);
            }
            now += 1;
        }
        first - cycle
    }

    #[test]
    fn a_read_takes_what_its_memory_says() {
        let read = |name: &str| latency(&mut memory(name), 1000, &beat(ReqKind::Get, 0x8000_0000));
        assert_eq!(read("fixed"), 40);
        let cycles = |p: DramParameters| (p.t_rcd + p.t_cl + p.t_burst).div_ceil(1000);
        assert_eq!(read("ddr3"), cycles(DramParameters::ddr3_1866()));
        assert_eq!(read("lpddr3"), cycles(DramParameters::lpddr3_1600()));
        // The line of the last-level cache has two bursts.
        let fased = DramParameters::fased();
        assert_eq!(read("firesim"), cycles(fased) + fased.t_burst / 1000);
    }

    #[test]
    fn the_other_half_of_a_line_of_the_last_level_cache_is_there() {
        let mut m = memory("firesim");
        latency(&mut m, 1000, &beat(ReqKind::Get, 0x8000_0000));
        assert_eq!(latency(&mut m, 2000, &beat(ReqKind::Get, 0x8000_0040)), LastLevelParameters::default().port);
        assert_eq!(latency(&mut m, 3000, &beat(ReqKind::PutFull, 0x8000_0000)), LastLevelParameters::default().port);
    }

    #[test]
    fn an_open_row_is_faster_than_another_one() {
        let mut m = memory("ddr3");
        let mut read = |cycle, address| latency(&mut m, cycle, &beat(ReqKind::Get, address));
        let p = DramParameters::ddr3_1866();
        let (first, open, other) = (read(1000, 0), read(2000, 64), read(3000, p.row_bytes * p.banks));
        assert!(open < first && first < other, "{open} {first} {other}");
    }
}
