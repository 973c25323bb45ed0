//! An L2 and a last-level cache in front of DRAM: the memory of FireSim's measurements of Gemmini.
//!
//! ```text
//! port --> L2 (64-byte lines) --> memory bus --> last-level cache (128-byte lines) --> DRAM
//! ```
//!
//! The L2 has a bounded number of requests under way, hits included, and a random victim (SiFive's inclusive cache). Lines pass the
//! memory bus one after the other. The last-level cache is that of `last_level_cache.rs`. Dirty victims are written back. A Put that covers a whole line
//! needs no fill, one of a part of a line does. Requests are scheduled in the order of their acceptance, and are answered in the
//! order in which they are done. Victims come from a generator with a fixed seed: a run can be repeated.
//! Only Gemmini's own traffic is modelled.

use pollux_memory::Memory;

use super::dram::{DramParameters, Picoseconds};
use super::last_level_cache::{LastLevelCache, LastLevelParameters, Lookup, RandomCache};
use super::{MemorySystem, ResponseQueue};
use crate::observation::event::{Cycle, ReqKind};
use crate::parts::values::{Full, Values};
use crate::port::tilelink::{ABeat, DBeat};

/// Bytes of a line of the L2.
const L2_LINE: u64 = 64;

/// Parameters of [`FireSimMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireSimParameters {
    /// Capacity of the L2 in units of 1024 bytes.
    pub l2_kib: u64,
    /// Lines of a set of the L2.
    pub l2_ways: u64,
    /// Cycles from the acceptance of a request to the first beat of its response on a hit.
    pub l2_hit: u64,
    /// Requests that the L2 has under way.
    pub l2_requests: u64,
    /// Bytes of the memory bus in a cycle.
    pub bus_bytes: u64,
    /// Capacity of the last-level cache in units of 1024 bytes.
    pub llc_kib: u64,
    /// Lines of a set of the last-level cache.
    pub llc_ways: u64,
    /// Bytes of a line of the last-level cache.
    pub llc_line: u64,
    /// Cycles for which a line of the L2 occupies the port of the last-level cache.
    pub llc_port: u64,
    /// Misses that the last-level cache has under way.
    pub llc_misses: u64,
    /// The channel behind it.
    pub dram: DramParameters,
    /// Clock of the accelerator, up to 1,000,000 MHz.
    pub clock_mhz: u64,
}

/// The system of `firesim-dosa` (eeb9fdb): L2 as in Chipyard's Gemmini configurations (`WithInclusiveCache`: 512 KiB, 8 ways; the
/// latency and the requests under way are those of `rocket-chip-inclusive-cache`), memory bus of 64 bits, FASED's DDR3 with a
/// last-level cache of 4 MiB (`TargetConfigs.scala`) and FASED's default timings (`DramCommon.scala`).
impl Default for FireSimParameters {
    fn default() -> Self {
        Self {
            l2_kib: 512,
            l2_ways: 8,
            l2_hit: 9,
            l2_requests: 10,
            bus_bytes: 8,
            llc_kib: 4096,
            llc_ways: 8,
            llc_line: 128,
            llc_port: 9,
            llc_misses: 8,
            dram: DramParameters::fased(),
            clock_mhz: 1000,
        }
    }
}

/// The model.
#[derive(Clone, Debug)]
pub struct FireSimMemory<V: Values = Full> {
    parameters: FireSimParameters,
    l2: RandomCache,
    llc: LastLevelCache,
    queue: ResponseQueue<V>,
    /// Picoseconds of an accelerator cycle.
    period: Picoseconds,
    /// When the memory bus is free towards the L2.
    bus: Picoseconds,
    outstanding: u64,
    in_burst: bool,
}

impl FireSimMemory {
    /// A port of `beat_bytes` wide beats onto `memory`. Counts that are zero count as 1.
    pub fn new(parameters: FireSimParameters, beat_bytes: usize, memory: Memory) -> Self {
        Self::with_values(parameters, beat_bytes, memory)
    }
}

impl<V: Values> FireSimMemory<V> {
    /// The same with values or without.
    pub fn with_values(parameters: FireSimParameters, beat_bytes: usize, memory: Memory) -> Self {
        let parameters = FireSimParameters {
            l2_requests: parameters.l2_requests.max(1),
            bus_bytes: parameters.bus_bytes.max(1),
            ..parameters
        };
        let period = (1_000_000 / Picoseconds::from(parameters.clock_mhz.max(1))).max(1);
        let llc = LastLevelParameters {
            kib: parameters.llc_kib,
            ways: parameters.llc_ways,
            line: parameters.llc_line,
            port: parameters.llc_port,
            misses: parameters.llc_misses,
        };
        Self {
            l2: RandomCache::new(parameters.l2_kib, parameters.l2_ways, L2_LINE),
            llc: LastLevelCache::new(llc, parameters.dram, period, L2_LINE),
            queue: ResponseQueue::new(memory, beat_bytes, 1),
            period,
            bus: 0,
            outstanding: 0,
            in_burst: false,
            parameters,
        }
    }

    fn cycles(&self, cycles: u64) -> Picoseconds {
        Picoseconds::from(cycles) * self.period
    }

    /// A line at the L2; `fetch` says whether a miss has to read it. Returns when it is there.
    fn line(&mut self, address: u64, write: bool, fetch: bool, now: Picoseconds) -> Picoseconds {
        let found = now + self.cycles(self.parameters.l2_hit);
        let Lookup { index, hit, evicted } = self.l2.look_up(address, write);
        if hit {
            return found.max(self.l2.lines[index].filled);
        }
        let transfer = self.cycles(L2_LINE.div_ceil(self.parameters.bus_bytes));
        let mut filled = found;
        if fetch {
            let there = self.llc.access(address, false, found);
            self.bus = there.max(self.bus) + transfer;
            filled = self.bus;
        }
        self.l2.lines[index].filled = filled;
        if let Some(victim) = evicted {
            // The other direction of the bus, which only write-backs use.
            self.llc.access(victim, true, found + transfer);
        }
        filled
    }
}

impl<V: Values> MemorySystem<V> for FireSimMemory<V> {
    fn a_ready(&self, _: Cycle) -> bool {
        self.in_burst || self.outstanding < self.parameters.l2_requests
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        self.outstanding += u64::from(beat.beat == 0);
        self.in_burst = !beat.last;
        let Some(mut response) = self.queue.perform(beat) else {
            return;
        };
        let (now, write) = (Picoseconds::from(cycle) * self.period, beat.kind != ReqKind::Get);
        let mut done = now;
        for offset in (0..u64::from(beat.size)).step_by(L2_LINE as usize) {
            let whole = beat.kind == ReqKind::PutFull && u64::from(beat.size) - offset >= L2_LINE;
            done = done.max(self.line(beat.address + offset, write, !whole, now));
        }
        response.ready = Cycle::try_from(done.div_ceil(self.period)).unwrap_or(Cycle::MAX);
        self.queue.insert(response);
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        self.queue.front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        self.outstanding -= u64::from(self.queue.take(cycle));
    }

    fn next_event(&self, cycle: Cycle, _: bool) -> Option<Cycle> {
        self.queue.next_event(cycle)
    }

    fn busy(&self) -> bool {
        self.outstanding != 0
    }

    fn memory(&self) -> &Memory {
        &self.queue.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.queue.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::tilelink::MAX_BEAT_BYTES;

    fn memory(parameters: FireSimParameters) -> FireSimMemory {
        FireSimMemory::new(parameters, 16, Memory::new())
    }

    fn beat(kind: ReqKind, address: u64, size: u32) -> ABeat {
        let data = [0; MAX_BEAT_BYTES];
        ABeat { kind, source: 0, address, size, beat: 0, last: true, mask: 0xffff, data }
    }

    /// Cycles from the acceptance of a request at `cycle` to the first beat of its response.
    fn latency(memory: &mut FireSimMemory, cycle: Cycle, request: &ABeat) -> u64 {
        memory.accept(cycle, request);
        let first = (cycle + 1..cycle + 10_000).find(|now| memory.d_front(*now).is_some()).expect("an answer");
        for now in first.. {
            let last = memory.d_front(now).is_some_and(|beat| beat.last);
            if memory.d_front(now).is_some() {
                memory.take_d(now);
            }
            if last {
                break;
            }
        }
        first - cycle
    }

    fn read(memory: &mut FireSimMemory, cycle: Cycle, address: u64) -> u64 {
        latency(memory, cycle, &beat(ReqKind::Get, address, 64))
    }

    #[test]
    fn a_read_costs_what_the_levels_that_it_reaches_add_up_to() {
        let mut m = memory(FireSimParameters::default());
        // L2, activation, column access, the second of two bursts of four cycles, the bus.
        assert_eq!(read(&mut m, 100, 0), 9 + 14 + 14 + 8 + 8, "DRAM, closed bank");
        assert_eq!(read(&mut m, 200, 0), 9, "in the L2");
        // The other half of the line of the last-level cache: its port, and the bus.
        assert_eq!(read(&mut m, 300, 64), 9 + 9 + 8, "in the last-level cache");
        assert_eq!((m.l2.accesses, m.l2.misses, m.llc.cache.accesses, m.llc.cache.misses), (3, 2, 2, 1));
    }

    #[test]
    fn a_part_of_a_line_is_fetched_and_a_whole_one_is_not() {
        let mut m = memory(FireSimParameters::default());
        assert_eq!(latency(&mut m, 100, &beat(ReqKind::PutFull, 0, 64)), 9);
        assert_eq!(m.llc.cache.accesses, 0);
        assert_eq!(latency(&mut m, 200, &beat(ReqKind::PutFull, 4096, 16)), 9 + 14 + 14 + 8 + 8);
        assert_eq!(m.llc.cache.accesses, 1);
    }

    #[test]
    fn the_port_of_the_last_level_cache_takes_one_line_after_the_other() {
        let mut m = memory(FireSimParameters::default());
        for line in 0..8 {
            read(&mut m, 1000 * (line + 1), line * 128);
        }
        // The other halves of eight lines, at once: nine cycles of the port each.
        let mut finished = Vec::new();
        for line in 0..8 {
            m.accept(20_000, &ABeat { source: line as u16, ..beat(ReqKind::Get, line * 128 + 64, 64) });
        }
        for now in 20_001..21_000 {
            if let Some(beat) = m.d_front(now) {
                m.take_d(now);
                finished.extend((beat.beat == 0).then_some(now - 20_000));
            }
        }
        assert_eq!(finished, (0..8).map(|line| 9 + 9 + 8 + 9 * line).collect::<Vec<u64>>());
    }

    #[test]
    fn so_many_requests_are_under_way_and_no_more() {
        let mut m = memory(FireSimParameters { l2_requests: 2, ..FireSimParameters::default() });
        m.accept(0, &beat(ReqKind::Get, 0, 64));
        assert!(m.a_ready(1));
        m.accept(1, &ABeat { source: 1, ..beat(ReqKind::Get, 64, 64) });
        assert!(!m.a_ready(2));
    }

    #[test]
    fn misses_of_the_last_level_cache_wait_for_a_free_one() {
        let one = FireSimParameters { llc_misses: 1, ..FireSimParameters::default() };
        let time = |parameters| {
            let mut m = memory(parameters);
            // Two banks.
            m.accept(100, &beat(ReqKind::Get, 0, 64));
            m.accept(100, &ABeat { source: 1, ..beat(ReqKind::Get, parameters.dram.row_bytes, 64) });
            (101..1000).filter(|now| m.d_front(*now).map(|_| m.take_d(*now)).is_some()).last()
        };
        assert!(time(one) > time(FireSimParameters::default()));
    }

    #[test]
    fn dirty_lines_are_written_back_through_both_caches() {
        let tiny = FireSimParameters { l2_kib: 1, l2_ways: 1, llc_kib: 2, llc_ways: 1, ..FireSimParameters::default() };
        let mut m = memory(tiny);
        latency(&mut m, 0, &beat(ReqKind::PutFull, 0, 64));
        read(&mut m, 1000, 1024);
        assert_eq!(
            (m.llc.cache.accesses, m.llc.dram.statistics().0),
            (2, 4),
            "the fill and the write-back, two lines of two bursts"
        );
        read(&mut m, 2000, 2048);
        assert_eq!(m.llc.dram.statistics().0, 8, "a fill, and the dirty line that it replaces");
    }
}
