//! A shared L2 cache in front of banked DRAM.
//!
//! A request first looks up the L2 (`hit_cycles`). A miss occupies a DRAM bank: a column access if its row is open, an
//! activation before it if no row is, a precharge before that if another row is. The data bus carries one burst at a
//! time. A dirty line that is evicted is written back after the fill. Writes allocate; a Put that covers a whole line
//! needs no fill. Every `t_refi` all banks are closed and unavailable for `t_rfc`. Requests overlap up to
//! `outstanding`, are scheduled in the order of their acceptance, and are answered in the order in which they are done.
//! Only Gemmini's own traffic is modelled: nobody else competes, and the host's writes do not change the cache.

use pollux_memory::Memory;

use super::{MemorySystem, ResponseQueue};
use crate::observation::event::{Cycle, ReqKind};
use crate::parts::values::{Full, Values};
use crate::port::tilelink::{ABeat, DBeat};

/// Bytes of a cache line and of a DRAM burst (8 transfers of 64 bits).
const LINE_BYTES: u64 = 64;

/// A time; as many as the clock can count cycles of a microsecond fit.
pub(super) type Picoseconds = u128;

/// The L2 cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheParameters {
    /// Capacity in units of 1024 bytes.
    pub kib: u64,
    /// Lines of a set, least recently used replaced first.
    pub ways: u64,
    /// Cycles from the acceptance of a request to its response on a hit.
    pub hit_cycles: u64,
}

/// A DRAM channel of 64 bits. Times in picoseconds, as a datasheet gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DramParameters {
    /// Banks.
    pub banks: u64,
    /// Bytes of a row over all devices of the channel.
    pub row_bytes: u64,
    /// Read command to first data (CL).
    pub t_cl: u64,
    /// Write command to first data (CWL).
    pub t_cwl: u64,
    /// Activation to column command.
    pub t_rcd: u64,
    /// Precharge to activation.
    pub t_rp: u64,
    /// Activation to precharge.
    pub t_ras: u64,
    /// End of write data to precharge.
    pub t_wr: u64,
    /// Read command to precharge.
    pub t_rtp: u64,
    /// One burst of 64 bytes on the data bus.
    pub t_burst: u64,
    /// Between refreshes.
    pub t_refi: u64,
    /// Duration of a refresh.
    pub t_rfc: u64,
    /// Path from the L2 to the controller and back.
    pub t_controller: u64,
}

impl DramParameters {
    /// A channel whose timings are given in its clock periods of `t_ck` picoseconds, in the order
    /// CL, CWL, tRCD, tRP, tRAS, tWR, tRTP, tCCD, tREFI, tRFC.
    const fn from_clocks(t_ck: u64, row_bytes: u64, t: [u64; 10]) -> Self {
        let [cl, cwl, rcd, rp, ras, wr, rtp, ccd, refi, rfc] = t;
        Self {
            banks: 8,
            row_bytes,
            t_cl: cl * t_ck,
            t_cwl: cwl * t_ck,
            t_rcd: rcd * t_ck,
            t_rp: rp * t_ck,
            t_ras: ras * t_ck,
            t_wr: wr * t_ck,
            t_rtp: rtp * t_ck,
            t_burst: ccd * t_ck,
            t_refi: refi * t_ck,
            t_rfc: rfc * t_ck,
            t_controller: 0,
        }
    }

    /// DDR3-1866 (CL 13), eight 8 Gb x8 devices: `configs/DDR3_8Gb_x8_1866.ini` of umd-memsys/DRAMsim3 at 0eb6360.
    pub const fn ddr3_1866() -> Self {
        Self::from_clocks(1070, 16384, [13, 9, 13, 13, 32, 15, 7, 4, 7290, 328])
    }

    /// DDR3 of FireSim's memory model at 1 GHz: the defaults of `DRAMProgrammableTimings` (firesim,
    /// `sim/midas/src/main/scala/midas/models/dram/DramCommon.scala`: sg093, x8, 2 Gb), eight devices with rows of 1 KiB.
    pub const fn fased() -> Self {
        Self::from_clocks(1000, 8192, [14, 10, 14, 14, 33, 15, 8, 4, 7800, 160])
    }

    /// LPDDR3-1600 (RL 12), two 8 Gb x32 devices: `configs/LPDDR3_8Gb_x32_1600.ini` of umd-memsys/DRAMsim3 at 0eb6360.
    pub const fn lpddr3_1600() -> Self {
        Self::from_clocks(1250, 8192, [12, 9, 15, 15, 34, 12, 6, 4, 3120, 168])
    }
}

/// Parameters of [`DramL2Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DramL2Parameters {
    /// The L2.
    pub cache: CacheParameters,
    /// The channel behind it.
    pub dram: DramParameters,
    /// Clock of the accelerator, up to 1,000,000 MHz.
    pub clock_mhz: u64,
    /// Requests that the L2 accepts before the first of them is answered.
    pub outstanding: u64,
}

/// 512 KiB in front of DDR3, in a system with a 1 GHz clock.
impl Default for DramL2Parameters {
    fn default() -> Self {
        Self {
            cache: CacheParameters { kib: 512, ways: 8, hit_cycles: 20 },
            dram: DramParameters::ddr3_1866(),
            clock_mhz: 1000,
            outstanding: 16,
        }
    }
}

/// One DRAM bank.
#[derive(Clone, Copy, Debug, Default)]
struct Bank {
    open_row: Option<u64>,
    /// When the open row was activated.
    activated: Picoseconds,
    /// Earliest column command.
    column: Picoseconds,
    /// Earliest precharge.
    precharge: Picoseconds,
}

/// The DRAM channel; times in picoseconds since cycle 0.
#[derive(Clone, Debug)]
pub(super) struct Dram {
    parameters: DramParameters,
    banks: Vec<Bank>,
    /// When the data bus is free.
    bus: Picoseconds,
    hits: u64,
    accesses: u64,
}

impl Dram {
    /// A channel with all banks closed.
    pub(super) fn new(parameters: DramParameters) -> Self {
        let banks = vec![Bank::default(); parameters.banks.max(1) as usize];
        let parameters = DramParameters { banks: parameters.banks.max(1), ..parameters };
        Self { parameters, banks, bus: 0, hits: 0, accesses: 0 }
    }

    /// Bursts, and those of them that found their row open.
    pub(super) fn statistics(&self) -> (u64, u64) {
        (self.accesses, self.hits)
    }

    /// Performs one burst, asked for at `now`; returns when its data is through.
    pub(super) fn access(&mut self, address: u64, write: bool, now: Picoseconds) -> Picoseconds {
        let (p, ps) = (self.parameters, Picoseconds::from);
        // Consecutive rows go to consecutive banks.
        let (bank, row) = (address / p.row_bytes % p.banks, address / p.row_bytes / p.banks);
        let refresh = now / ps(p.t_refi) * ps(p.t_refi);
        let start = if refresh != 0 { now.max(refresh + ps(p.t_rfc)) } else { now };
        let bank = &mut self.banks[bank as usize];
        if bank.activated < refresh {
            *bank = Bank { open_row: None, activated: bank.activated, column: 0, precharge: 0 };
        }
        self.accesses += 1;
        let column = if bank.open_row == Some(row) {
            self.hits += 1;
            start.max(bank.column)
        } else {
            let closed = if bank.open_row.is_some() { start.max(bank.precharge) + ps(p.t_rp) } else { start };
            bank.open_row = Some(row);
            bank.activated = closed;
            bank.precharge = closed + ps(p.t_ras);
            closed + ps(p.t_rcd)
        };
        let latency = if write { ps(p.t_cwl) } else { ps(p.t_cl) };
        let data = (column + latency).max(self.bus);
        let command = data - latency;
        self.bus = data + ps(p.t_burst);
        bank.column = command + ps(p.t_burst);
        let recovered = if write { self.bus + ps(p.t_wr) } else { command + ps(p.t_rtp) };
        bank.precharge = bank.precharge.max(recovered);
        self.bus
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    valid: bool,
    dirty: bool,
    tag: u64,
    used: u64,
    /// When the line's fill is over, in picoseconds.
    filled: Picoseconds,
}

/// The model.
#[derive(Clone, Debug)]
pub struct DramL2Memory<V: Values = Full> {
    cache: CacheParameters,
    lines: Vec<Line>,
    sets: u64,
    dram: Dram,
    queue: ResponseQueue<V>,
    /// Picoseconds of an accelerator cycle.
    period: Picoseconds,
    outstanding: u64,
    max_outstanding: u64,
    in_burst: bool,
    accesses: u64,
    misses: u64,
}

impl DramL2Memory {
    /// A port of `beat_bytes` wide beats onto `memory`. Counts that are zero count as 1.
    pub fn new(parameters: DramL2Parameters, beat_bytes: usize, memory: Memory) -> Self {
        Self::with_values(parameters, beat_bytes, memory)
    }
}

impl<V: Values> DramL2Memory<V> {
    /// [`DramL2Memory::new`], for a machine with these values.
    pub fn with_values(parameters: DramL2Parameters, beat_bytes: usize, memory: Memory) -> Self {
        let DramL2Parameters { cache, dram: timings, clock_mhz, outstanding } = parameters;
        let ways = cache.ways.max(1);
        let sets = (cache.kib * 1024 / LINE_BYTES / ways).max(1);
        Self {
            cache: CacheParameters { ways, ..cache },
            lines: vec![Line::default(); (sets * ways) as usize],
            sets,
            dram: Dram::new(timings),
            queue: ResponseQueue::new(memory, beat_bytes, 1),
            period: (1_000_000 / Picoseconds::from(clock_mhz.max(1))).max(1),
            outstanding: 0,
            max_outstanding: outstanding.max(1),
            in_burst: false,
            accesses: 0,
            misses: 0,
        }
    }

    /// Lines looked up and lines missed in the L2.
    pub fn cache_statistics(&self) -> (u64, u64) {
        (self.accesses, self.misses)
    }

    /// DRAM bursts, and those of them that found their row open.
    pub fn dram_statistics(&self) -> (u64, u64) {
        self.dram.statistics()
    }

    /// Looks up one line; `fetch` says whether a miss has to read DRAM. Returns when it is there, in picoseconds.
    fn access_line(&mut self, address: u64, write: bool, fetch: bool, now: Picoseconds) -> Picoseconds {
        self.accesses += 1;
        let (number, ways) = (address / LINE_BYTES, self.cache.ways as usize);
        let set = (number % self.sets) as usize * ways;
        let found = now + Picoseconds::from(self.cache.hit_cycles) * self.period;
        let lines = &mut self.lines[set..set + ways];
        if let Some(line) = lines.iter_mut().find(|l| l.valid && l.tag == number) {
            line.used = self.accesses;
            line.dirty |= write;
            return found.max(line.filled);
        }
        self.misses += 1;
        let Some(victim) = lines.iter_mut().min_by_key(|l| (l.valid, l.used)) else {
            return found;
        };
        let evicted = *victim;
        let asked = found + Picoseconds::from(self.dram.parameters.t_controller);
        let filled = if fetch { self.dram.access(address, false, asked) } else { found };
        *victim = Line { valid: true, dirty: write, tag: number, used: self.accesses, filled };
        if evicted.valid && evicted.dirty {
            self.dram.access(evicted.tag * LINE_BYTES, true, asked);
        }
        filled
    }
}

impl<V: Values> MemorySystem<V> for DramL2Memory<V> {
    fn a_ready(&self, _: Cycle) -> bool {
        self.in_burst || self.outstanding < self.max_outstanding
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        self.outstanding += u64::from(beat.beat == 0);
        self.in_burst = !beat.last;
        let Some(mut response) = self.queue.perform(beat) else {
            return;
        };
        let now = Picoseconds::from(cycle) * self.period;
        let write = beat.kind != ReqKind::Get;
        let mut done = now;
        for offset in (0..u64::from(beat.size)).step_by(LINE_BYTES as usize) {
            let whole = beat.kind == ReqKind::PutFull && u64::from(beat.size) - offset >= LINE_BYTES;
            done = done.max(self.access_line(beat.address + offset, write, !whole, now));
        }
        // A write is answered once the L2 has taken it, without waiting for the fill.
        let answered = if write { now + Picoseconds::from(self.cache.hit_cycles) * self.period } else { done };
        response.ready = Cycle::try_from(answered.div_ceil(self.period)).unwrap_or(Cycle::MAX);
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

    const CACHE: CacheParameters = CacheParameters { kib: 64, ways: 8, hit_cycles: 20 };

    fn memory(cache: CacheParameters) -> DramL2Memory {
        DramL2Memory::new(DramL2Parameters { cache, ..DramL2Parameters::default() }, 16, Memory::new())
    }

    fn beat(kind: ReqKind, address: u64) -> ABeat {
        let data = [0; MAX_BEAT_BYTES];
        ABeat { kind, source: 0, address, size: 64, beat: 0, last: true, mask: 0xffff, data }
    }

    /// Cycles from a read's acceptance at `cycle` to its last beat.
    fn read(memory: &mut DramL2Memory, cycle: Cycle, address: u64) -> u64 {
        memory.accept(cycle, &beat(ReqKind::Get, address));
        for now in cycle + 1..cycle + 10_000 {
            if let Some(d) = memory.d_front(now) {
                memory.take_d(now);
                if d.last {
                    return now - cycle;
                }
            }
        }
        panic!("no answer");
    }

    /// The sum of picosecond timings in cycles of 1 ns, behind the L2's 20 and before the three beats after the first.
    fn cycles(timings: &[u64]) -> u64 {
        20 + timings.iter().sum::<u64>().div_ceil(1000) + 3
    }

    #[test]
    fn a_read_costs_what_the_timings_of_its_row_state_add_up_to() {
        let p = DramParameters::ddr3_1866();
        let mut m = memory(CACHE);
        let other_row = p.row_bytes * p.banks;
        assert_eq!(read(&mut m, 100, 0), cycles(&[p.t_rcd, p.t_cl, p.t_burst]), "closed bank");
        assert_eq!(read(&mut m, 200, 64), cycles(&[p.t_cl, p.t_burst]), "open row");
        assert_eq!(read(&mut m, 300, other_row), cycles(&[p.t_rp, p.t_rcd, p.t_cl, p.t_burst]), "other row open");
        assert_eq!(read(&mut m, 400, p.row_bytes), cycles(&[p.t_rcd, p.t_cl, p.t_burst]), "another bank");
        assert_eq!(read(&mut m, 500, 64), 20 + 3, "in the L2");
        assert_eq!((m.cache_statistics(), m.dram_statistics()), ((5, 4), (4, 1)));
    }

    #[test]
    fn a_refresh_closes_the_rows_and_holds_accesses_up() {
        let p = DramParameters::ddr3_1866();
        let mut m = memory(CACHE);
        read(&mut m, 100, 0);
        let refresh = p.t_refi.div_ceil(1000);
        assert_eq!(read(&mut m, refresh + p.t_rfc / 1000, 64), cycles(&[p.t_rcd, p.t_cl, p.t_burst]));
        let held_up = read(&mut m, 2 * refresh, 128);
        assert!(held_up > cycles(&[p.t_rfc, p.t_cl]) - 20, "{held_up}");
    }

    #[test]
    fn an_evicted_dirty_line_is_written_back_and_a_clean_one_is_not() {
        let cache = CacheParameters { kib: 1, ways: 1, hit_cycles: 1 };
        let mut m = memory(cache);
        read(&mut m, 0, 0);
        read(&mut m, 200, 1024);
        assert_eq!(m.dram_statistics().0, 2);
        m.accept(400, &beat(ReqKind::PutFull, 2048));
        assert_eq!(m.dram_statistics().0, 2, "a whole line needs no fill");
        m.take_d(500);
        read(&mut m, 600, 3072);
        assert_eq!(m.dram_statistics().0, 4, "fill and write-back");
    }

    #[test]
    fn a_hit_overtakes_an_earlier_miss() {
        let mut m = memory(CACHE);
        read(&mut m, 0, 0);
        m.accept(300, &ABeat { source: 1, ..beat(ReqKind::Get, 4096) });
        m.accept(301, &ABeat { source: 2, ..beat(ReqKind::Get, 0) });
        assert_eq!(m.d_front(330).map(|d| d.source), Some(2));
    }
}
