//! [`Profiler`]: adds up activities and events.

use pollux_isa::{GemminiConfig, RoccCommand, StreamItem};

use super::macs::{Issued, MacCounter};
use super::run::{
    BankReport, BlockReport, ConflictReport, CounterReport, DmaReport, Memory, MeshReport, OperationReport, RunReport,
    Totals,
};
use crate::front_end::counter_file::{EVENT_NAMES, EVENTS, EXTERNAL_NAMES, EXTERNALS};
use crate::observation::activity::{Activity, BankUse, Block, Conflict, SPENT, Span};
use crate::observation::event::{Cycle, Event, ReqKind, Unit};
use crate::observation::observer::Observer;
use crate::port::tilelink::SourceRanges;
use crate::simulation::RunSummary;

/// Observes a run and reports on it. Its size does not grow with the run's cycles, only with the number of operations.
#[derive(Clone, Debug)]
pub struct Profiler {
    config: GemminiConfig,
    /// Names of the marks, in order.
    marks: Vec<String>,
    /// What the next events depend on.
    pending: Pending,
    macs: MacCounter,
    sums: ProfileSums,
    /// The current operation.
    operation: OperationTally,
}

/// What a profiler makes of the next events depends on the events before; a machine's state decides it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    /// Requests without their last response beat: reads, writes.
    in_flight: [u64; 2],
    /// Last beat of the response that each source waits for.
    last_beat: Vec<u32>,
    /// Execute commands that wait for their issue, by entry.
    execute: Vec<RoccCommand>,
    issued: Issued,
}

/// What adds up over the cycles of a run, or of a stretch of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProfileSums {
    spad: BankTally,
    acc: BankTally,
    /// Cycles of each event line.
    lines: Vec<u64>,
    /// External values in the last cycle, and behind it: from those at the start on (modulo 2^32).
    last: [u32; EXTERNALS],
    external: [u32; EXTERNALS],
    /// Cycles in flight, summed over the requests: reads, writes.
    latency: [u64; 2],
    mesh_requests: u64,
    station_commands: u64,
    /// Operations that are over, in order.
    operations: Vec<OperationSums>,
}

/// What belongs to an operation that is over, or to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct OperationSums {
    /// How many marks stand before it: all of the run, or of the stretch.
    marks: usize,
    /// First cycle, of the run or of the stretch.
    start: Cycle,
    cycles: u64,
    commands: u64,
    macs: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// By block and by what it is spent on (`SPENT`): cycles, where there are any.
    spent: Vec<(u16, u64)>,
}

type BlockCycles = [[u64; SPENT]; Block::ALL.len()];

/// The current operation: its sums, with a place for everything that cycles may be spent on.
#[derive(Clone, Debug)]
struct OperationTally {
    sums: OperationSums,
    blocks: BlockCycles,
}

impl OperationTally {
    fn new(marks: usize, start: Cycle) -> Self {
        Self {
            sums: OperationSums { marks, start, ..OperationSums::default() },
            blocks: [[0; SPENT]; Block::ALL.len()],
        }
    }

    /// The sums alone.
    fn ended(self) -> OperationSums {
        let all = self.blocks.iter().flatten().zip(0..);
        let spent = all.filter(|(cycles, _)| **cycles > 0).map(|(cycles, at)| (at, *cycles)).collect();
        OperationSums { spent, ..self.sums }
    }

    fn add(&mut self, part: &OperationSums) {
        let OperationSums { marks: _, start: _, cycles, commands, macs, read_bytes, written_bytes, spent } = part;
        self.sums.cycles += cycles;
        self.sums.commands += commands;
        self.sums.macs += macs;
        self.sums.read_bytes += read_bytes;
        self.sums.written_bytes += written_bytes;
        add_spent(&mut self.blocks, spent);
    }
}

fn add_spent(blocks: &mut BlockCycles, spent: &[(u16, u64)]) {
    for (at, cycles) in spent {
        blocks.as_flattened_mut()[usize::from(*at)] += cycles;
    }
}

impl ProfileSums {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            spad: BankTally::new(config.sp_banks),
            acc: BankTally::new(config.acc_banks),
            lines: vec![0; EVENTS],
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        let Self { spad, acc, lines, last, external, latency, mesh_requests, station_commands, operations: _ } = other;
        self.spad.add_all(spad);
        self.acc.add_all(acc);
        self.lines.iter_mut().zip(lines).for_each(|(sum, cycles)| *sum += cycles);
        self.last = std::array::from_fn(|at| self.external[at].wrapping_add(last[at]));
        self.external = std::array::from_fn(|at| self.external[at].wrapping_add(external[at]));
        self.latency.iter_mut().zip(latency).for_each(|(sum, cycles)| *sum = sum.saturating_add(*cycles));
        self.mesh_requests += mesh_requests;
        self.station_commands += station_commands;
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let Self { spad, acc, lines, operations, .. } = self;
        let spent: usize = operations.iter().map(|operation| size_of_val(&*operation.spent)).sum();
        let banks = size_of_val(&*spad.banks) + size_of_val(&*acc.banks);
        size_of::<Self>() + banks + size_of_val(&**lines) + size_of_val(&**operations) + spent
    }
}

/// What belongs to the banks of a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct BankTally {
    banks: Vec<BankCycles>,
    refused: [u64; Conflict::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct BankCycles {
    reads: u64,
    writes: u64,
    busy: u64,
    stalled: u64,
}

fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        bit
    })
}

impl BankTally {
    fn new(banks: u32) -> Self {
        Self { banks: vec![BankCycles::default(); banks as usize], refused: Default::default() }
    }

    fn add(&mut self, used: &BankUse, cycles: u64) {
        if *used == BankUse::default() {
            return;
        }
        bits(used.read.into()).for_each(|bank| self.banks[bank].reads += cycles);
        bits(used.written.into()).for_each(|bank| self.banks[bank].writes += cycles);
        bits(used.busy().into()).for_each(|bank| self.banks[bank].busy += cycles);
        bits(used.stalled().into()).for_each(|bank| self.banks[bank].stalled += cycles);
        for (total, banks) in self.refused.iter_mut().zip(used.refused) {
            *total = total.saturating_add(u64::from(banks.count_ones()).saturating_mul(cycles));
        }
    }

    fn add_all(&mut self, other: &Self) {
        for (sum, bank) in self.banks.iter_mut().zip(&other.banks) {
            sum.reads += bank.reads;
            sum.writes += bank.writes;
            sum.busy += bank.busy;
            sum.stalled += bank.stalled;
        }
        for (total, cycles) in self.refused.iter_mut().zip(other.refused) {
            *total = total.saturating_add(cycles);
        }
    }

    fn reports(&self, memory: Memory, cycles: u64) -> impl Iterator<Item = BankReport> {
        self.banks.iter().enumerate().map(move |(bank, &BankCycles { reads, writes, busy, stalled })| BankReport {
            memory,
            bank,
            reads,
            writes,
            busy,
            stalled,
            idle: cycles - busy - stalled,
        })
    }

    fn conflicts(&self, memory: Memory) -> impl Iterator<Item = ConflictReport> {
        let refused = Conflict::ALL.into_iter().zip(self.refused);
        refused.filter(|(_, cycles)| *cycles > 0).map(move |(conflict, cycles)| ConflictReport {
            memory,
            conflict,
            cycles,
        })
    }
}

fn ratio(part: u64, whole: impl Into<u128>) -> f64 {
    let whole = whole.into();
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Profiler {
    /// A profiler for a run of these items, from cycle 0 on. The simulation must record events.
    pub fn new(config: &GemminiConfig, items: &[StreamItem]) -> Self {
        let mark = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
        Self {
            marks: items.iter().filter_map(mark).collect(),
            pending: Pending {
                in_flight: [0; 2],
                last_beat: vec![0; SourceRanges::new(config.max_in_flight_mem_reqs as usize).len()],
                execute: vec![RoccCommand::default(); config.reservation_station_entries_ex as usize],
                issued: MacCounter::new(config).issued(),
            },
            macs: MacCounter::new(config),
            sums: ProfileSums::new(config),
            operation: OperationTally::new(0, 0),
            config: config.clone(),
        }
    }

    /// Ends the current operation and begins the one behind so many marks in cycle `start`.
    fn begin(&mut self, marks: usize, start: Cycle) {
        let ended = std::mem::replace(&mut self.operation, OperationTally::new(marks, start));
        // The stretch before the first mark is none if the program begins with a mark.
        if ended.sums.cycles > 0 {
            self.sums.operations.push(ended.ended());
        }
    }

    fn operation_report(&self, sums: &OperationSums) -> OperationReport {
        let &OperationSums { marks, start, cycles, commands, macs, read_bytes, written_bytes, ref spent } = sums;
        let name = marks.checked_sub(1).and_then(|mark| self.marks.get(mark)).cloned().unwrap_or_default();
        let utilisation = ratio(macs, self.possible_macs(cycles));
        let mut blocks = [[0; SPENT]; Block::ALL.len()];
        add_spent(&mut blocks, spent);
        let blocks = block_reports(&blocks);
        OperationReport { name, start, cycles, commands, macs, utilisation, read_bytes, written_bytes, blocks }
    }

    fn peak_macs(&self) -> u64 {
        u64::from(self.config.dim()).pow(2)
    }

    /// What the array could do in so many cycles.
    fn possible_macs(&self, cycles: u64) -> u128 {
        u128::from(cycles) * u128::from(self.peak_macs())
    }

    /// The report, given the totals of the run that was observed.
    pub fn finish(mut self, summary: &RunSummary) -> RunReport {
        self.begin(0, summary.cycles);
        let Self { sums, .. } = &self;
        let macs = sums.operations.iter().map(|operation| operation.macs).sum();
        let mut blocks = [[0; SPENT]; Block::ALL.len()];
        sums.operations.iter().for_each(|operation| add_spent(&mut blocks, &operation.spent));
        let blocks = block_reports(&blocks);
        let (spad, acc) = (Memory::Scratchpad, Memory::Accumulator);
        let cycles = summary.cycles;
        let banks = sums.spad.reports(spad, cycles).chain(sums.acc.reports(acc, cycles)).collect();
        let names = (0..).zip(EVENT_NAMES).zip(sums.lines.iter().copied()).skip(1);
        let counters = names.map(|((code, name), value)| CounterReport { code, name, value }).collect();
        let external = (0..).zip(EXTERNAL_NAMES).zip(sums.last.iter().copied()).skip(1);
        let external =
            external.map(|((code, name), value)| CounterReport { code, name, value: value.into() }).collect();
        RunReport {
            config: self.config.name.clone(),
            dim: self.config.dim(),
            totals: Totals {
                cycles: summary.cycles,
                busy_falls: summary.busy_falls,
                busy_cycles: summary.busy_cycles,
                commands: summary.commands,
                station_commands: sums.station_commands,
                page_faults: summary.page_faults,
            },
            mesh: self.mesh_report(macs, &blocks, summary.cycles),
            dma: self.dma_report(summary),
            blocks,
            banks,
            conflicts: sums.spad.conflicts(spad).chain(sums.acc.conflicts(acc)).collect(),
            counters,
            external_counters: external,
            operations: match &self.marks[..] {
                [] => Vec::new(),
                _ => sums.operations.iter().map(|operation| self.operation_report(operation)).collect(),
            },
        }
    }

    fn mesh_report(&self, macs: u64, blocks: &[BlockReport], cycles: u64) -> MeshReport {
        let peak = self.peak_macs();
        let row_cycles = blocks[Block::Mesh as usize].busy;
        MeshReport {
            macs,
            peak_macs_per_cycle: peak,
            utilisation: ratio(macs, self.possible_macs(cycles)),
            utilisation_while_busy: ratio(macs, self.possible_macs(row_cycles)),
            row_cycles,
            requests: self.sums.mesh_requests,
        }
    }

    fn dma_report(&self, summary: &RunSummary) -> DmaReport {
        let (traffic, cycles) = (summary.traffic, summary.cycles);
        DmaReport {
            traffic,
            beat_bytes: self.config.beat_bytes().into(),
            read_bytes_per_cycle: ratio(traffic.read_bytes, cycles),
            written_bytes_per_cycle: ratio(traffic.written_bytes, cycles),
            read_utilisation: ratio(traffic.read_beats, cycles),
            write_utilisation: ratio(traffic.write_beats, cycles),
            mean_read_latency: ratio(self.sums.latency[READS], traffic.reads),
            mean_write_latency: ratio(self.sums.latency[WRITES], traffic.writes),
        }
    }
}

fn block_reports(cycles: &BlockCycles) -> Vec<BlockReport> {
    Block::ALL.into_iter().zip(cycles).map(|(block, cycles)| BlockReport::new(block, cycles)).collect()
}

/// In stretches.
impl Profiler {
    /// One for the stretches of a run that this one reports on.
    pub(crate) fn of_stretches(&self) -> Self {
        Self { sums: ProfileSums::new(&self.config), marks: Vec::new(), ..self.clone() }
    }

    /// A stretch begins in this cycle, behind so many marks and with these external values.
    pub(crate) fn begin_stretch(&mut self, marks: usize, start: Cycle, external: [u32; EXTERNALS]) {
        self.sums = ProfileSums { external, last: external, ..ProfileSums::new(&self.config) };
        self.operation = OperationTally::new(marks, start);
    }

    /// What adds up in the stretch that began behind these marks in this cycle, relative to them. `external` are the values now.
    pub(crate) fn end_stretch(&mut self, marks: usize, start: Cycle, external: [u32; EXTERNALS]) -> ProfileSums {
        self.begin(0, 0);
        let mut sums = std::mem::take(&mut self.sums);
        let before = sums.external;
        let since = |now: [u32; EXTERNALS]| std::array::from_fn(|at| now[at].wrapping_sub(before[at]));
        (sums.last, sums.external) = (since(sums.last), since(external));
        for operation in &mut sums.operations {
            operation.marks -= marks;
            operation.start -= start;
        }
        sums
    }

    /// Adds a stretch that begins behind so many marks in this cycle.
    pub(crate) fn add_stretch(&mut self, stretch: &ProfileSums, marks: usize, start: Cycle) {
        for part in &stretch.operations {
            if self.operation.sums.marks != marks + part.marks {
                self.begin(marks + part.marks, start + part.start);
            }
            self.operation.add(part);
        }
        self.sums.add(stretch);
    }

    /// What the next events depend on.
    pub(crate) fn pending(&self) -> Pending {
        Pending { issued: self.macs.issued(), ..self.pending.clone() }
    }

    /// Goes on behind other events.
    pub(crate) fn resume(&mut self, pending: &Pending) {
        self.pending = pending.clone();
        self.macs.resume(pending.issued);
    }
}

impl Pending {
    /// What the execute commands issued so far mean for the next one.
    pub(crate) fn issued(&self) -> Issued {
        self.issued
    }
}

/// Of the requests in flight.
const READS: usize = 0;
const WRITES: usize = 1;

impl Observer for Profiler {
    const ACTIVITY: bool = true;

    fn wants_each(&self) -> bool {
        false
    }

    fn profilers(&self) -> usize {
        1
    }

    fn profiler(&mut self) -> Option<&mut Profiler> {
        Some(self)
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        let marks = span.mark.map_or(0, |mark| mark + 1);
        if marks != self.operation.sums.marks {
            self.begin(marks, span.first);
        }
        self.operation.sums.cycles += span.cycles;
        for (cycles, spent) in self.operation.blocks.iter_mut().zip(activity.blocks) {
            cycles[spent.index()] += span.cycles;
        }
        let Self { sums, pending, .. } = self;
        for (latency, in_flight) in sums.latency.iter_mut().zip(pending.in_flight) {
            *latency = latency.saturating_add(in_flight.saturating_mul(span.cycles));
        }
        sums.spad.add(&activity.spad, span.cycles);
        sums.acc.add(&activity.acc, span.cycles);
        bits(activity.counters.lines).for_each(|line| sums.lines[line] += span.cycles);
        sums.last = activity.counters.external;
    }

    fn event(&mut self, _: Cycle, event: &Event) {
        let Self { pending, sums, operation, .. } = self;
        match *event {
            Event::Accept { .. } => operation.sums.commands += 1,
            Event::Alloc { unit, entry, funct, rs1, rs2, .. } => {
                sums.station_commands += 1;
                if unit == Unit::Ex {
                    pending.execute[usize::from(entry)] = RoccCommand { funct, rs1, rs2 };
                }
            }
            Event::Issue { unit: Unit::Ex, entry, .. } => {
                operation.sums.macs += self.macs.issue(pending.execute[usize::from(entry)]);
            }
            Event::Req { kind: ReqKind::Get, size, source, .. } => {
                pending.last_beat[usize::from(source)] = (size / self.config.beat_bytes()).max(1) - 1;
                operation.sums.read_bytes += u64::from(size);
                pending.in_flight[READS] += 1;
            }
            Event::Req { beat, mask, .. } => {
                operation.sums.written_bytes += u64::from(mask.count_ones());
                pending.in_flight[WRITES] += u64::from(beat == 0);
            }
            Event::Rsp { ack: true, .. } => pending.in_flight[WRITES] -= 1,
            Event::Rsp { source, beat, .. } if beat == pending.last_beat[usize::from(source)] => {
                pending.in_flight[READS] -= 1;
            }
            Event::MeshReq { .. } => sums.mesh_requests += 1,
            _ => {}
        }
    }
}
