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
use crate::event::{Cycle, ReqKind};
use crate::tilelink::{ABeat, DBeat};

/// Bytes of a cache line and of a DRAM burst (8 transfers of 64 bits).
const LINE_BYTES: u64 = 64;

/// The L2 cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheParameters {
    /// Capacity in bytes.
    pub bytes: u64,
    /// Lines of a set, least recently used replaced first.
    pub ways: usize,
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

    /// LPDDR3-1600 (RL 12), two 8 Gb x32 devices: `configs/LPDDR3_8Gb_x32_1600.ini` of umd-memsys/DRAMsim3 at 0eb6360.
    pub const fn lpddr3_1600() -> Self {
        Self::from_clocks(1250, 8192, [12, 9, 15, 15, 34, 12, 6, 4, 3120, 168])
    }
}

/// One DRAM bank.
#[derive(Clone, Copy, Debug, Default)]
struct Bank {
    open_row: Option<u64>,
    /// When the open row was activated.
    activated: u64,
    /// Earliest column command.
    column: u64,
    /// Earliest precharge.
    precharge: u64,
}

/// The DRAM channel; times in picoseconds since cycle 0.
#[derive(Clone, Debug)]
struct Dram {
    parameters: DramParameters,
    banks: Vec<Bank>,
    /// When the data bus is free.
    bus: u64,
    hits: u64,
    accesses: u64,
}

impl Dram {
    /// Performs one burst, asked for at `now`; returns when its data is through.
    fn access(&mut self, address: u64, write: bool, now: u64) -> u64 {
        let p = self.parameters;
        // Consecutive rows go to consecutive banks.
        let (bank, row) = (address / p.row_bytes % p.banks, address / p.row_bytes / p.banks);
        let refresh = now / p.t_refi * p.t_refi;
        let start = if refresh != 0 { now.max(refresh + p.t_rfc) } else { now };
        let bank = &mut self.banks[bank as usize];
        if bank.activated < refresh {
            *bank = Bank { open_row: None, activated: bank.activated, column: 0, precharge: 0 };
        }
        self.accesses += 1;
        let column = if bank.open_row == Some(row) {
            self.hits += 1;
            start.max(bank.column)
        } else {
            let closed = if bank.open_row.is_some() { start.max(bank.precharge) + p.t_rp } else { start };
            bank.open_row = Some(row);
            bank.activated = closed;
            bank.precharge = closed + p.t_ras;
            closed + p.t_rcd
        };
        let latency = if write { p.t_cwl } else { p.t_cl };
        let data = (column + latency).max(self.bus);
        let command = data - latency;
        self.bus = data + p.t_burst;
        bank.column = command + p.t_burst;
        let recovered = if write { self.bus + p.t_wr } else { command + p.t_rtp };
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
    filled: u64,
}

/// The model.
#[derive(Clone, Debug)]
pub struct DramL2Memory {
    cache: CacheParameters,
    lines: Vec<Line>,
    sets: u64,
    dram: Dram,
    queue: ResponseQueue,
    /// Picoseconds of an accelerator cycle.
    period: u64,
    outstanding: usize,
    max_outstanding: usize,
    in_burst: bool,
    accesses: u64,
    misses: u64,
}

impl DramL2Memory {
    /// A port of `beat_bytes` wide beats onto `memory`. `clock_mhz` is the accelerator's clock and `outstanding` the
    /// requests that the L2 accepts before the first of them is answered.
    pub fn new(
        cache: CacheParameters,
        dram: DramParameters,
        clock_mhz: u64,
        outstanding: usize,
        beat_bytes: usize,
        memory: Memory,
    ) -> Self {
        let ways = cache.ways.max(1);
        let sets = (cache.bytes / LINE_BYTES / ways as u64).max(1);
        let dram =
            Dram { parameters: dram, banks: vec![Bank::default(); dram.banks as usize], bus: 0, hits: 0, accesses: 0 };
        Self {
            cache: CacheParameters { ways, ..cache },
            lines: vec![Line::default(); sets as usize * ways],
            sets,
            dram,
            queue: ResponseQueue::new(memory, beat_bytes, 1),
            period: 1_000_000 / clock_mhz.max(1),
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
        (self.dram.accesses, self.dram.hits)
    }

    /// Looks up one line; `fetch` says whether a miss has to read DRAM. Returns when it is there, in picoseconds.
    fn access_line(&mut self, address: u64, write: bool, fetch: bool, now: u64) -> u64 {
        self.accesses += 1;
        let (number, ways) = (address / LINE_BYTES, self.cache.ways);
        let set = (number % self.sets) as usize * ways;
        let found = now + self.cache.hit_cycles * self.period;
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
        let asked = found + self.dram.parameters.t_controller;
        let filled = if fetch { self.dram.access(address, false, asked) } else { found };
        *victim = Line { valid: true, dirty: write, tag: number, used: self.accesses, filled };
        if evicted.valid && evicted.dirty {
            self.dram.access(evicted.tag * LINE_BYTES, true, asked);
        }
        filled
    }
}

impl MemorySystem for DramL2Memory {
    fn a_ready(&self, _: Cycle) -> bool {
        self.in_burst || self.outstanding < self.max_outstanding
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat) {
        self.outstanding += usize::from(beat.beat == 0);
        self.in_burst = !beat.last;
        let Some(mut response) = self.queue.perform(beat) else {
            return;
        };
        let now = cycle * self.period;
        let write = beat.kind != ReqKind::Get;
        let mut done = now;
        for offset in (0..u64::from(beat.size)).step_by(LINE_BYTES as usize) {
            let whole = beat.kind == ReqKind::PutFull && u64::from(beat.size) - offset >= LINE_BYTES;
            done = done.max(self.access_line(beat.address + offset, write, !whole, now));
        }
        // A write is answered once the L2 has taken it, without waiting for the fill.
        let answered = if write { now + self.cache.hit_cycles * self.period } else { done };
        response.ready = answered.div_ceil(self.period);
        self.queue.insert(response);
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat> {
        self.queue.front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        self.outstanding -= usize::from(self.queue.take(cycle));
    }

    fn next_event(&self, cycle: Cycle) -> Option<Cycle> {
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
