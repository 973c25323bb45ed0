//! [`Profiler`]: adds up activities and events.

use pollux_isa::{GemminiConfig, RoccCommand, StreamItem};

use super::macs::MacCounter;
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
    blocks: BlockCycles,
    spad: BankTally,
    acc: BankTally,
    lines: [u64; EVENTS],
    external: [u32; EXTERNALS],
    reads: Requests,
    writes: Requests,
    /// Last beat of the response that each source waits for.
    last_beat: Vec<u32>,
    mesh_requests: u64,
    station_commands: u64,
    /// Execute commands that wait for their issue, by entry.
    execute: Vec<RoccCommand>,
    macs: MacCounter,
    operation: OperationTally,
    finished: Vec<OperationReport>,
}

type BlockCycles = [[u64; SPENT]; Block::ALL.len()];

/// What belongs to the current operation.
#[derive(Clone, Debug)]
struct OperationTally {
    mark: Option<usize>,
    start: Cycle,
    cycles: u64,
    commands: u64,
    macs: u64,
    read_bytes: u64,
    written_bytes: u64,
    blocks: BlockCycles,
}

impl OperationTally {
    fn new(mark: Option<usize>, start: Cycle) -> Self {
        Self {
            mark,
            start,
            cycles: 0,
            commands: 0,
            macs: 0,
            read_bytes: 0,
            written_bytes: 0,
            blocks: [[0; SPENT]; Block::ALL.len()],
        }
    }
}

/// What belongs to the banks of a memory.
#[derive(Clone, Debug)]
struct BankTally {
    memory: Memory,
    banks: Vec<BankCycles>,
    refused: [u64; Conflict::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
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
    fn new(memory: Memory, banks: u32) -> Self {
        Self { memory, banks: vec![BankCycles::default(); banks as usize], refused: Default::default() }
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

    fn reports(&self, cycles: u64) -> impl Iterator<Item = BankReport> {
        self.banks.iter().enumerate().map(move |(bank, &BankCycles { reads, writes, busy, stalled })| BankReport {
            memory: self.memory,
            bank,
            reads,
            writes,
            busy,
            stalled,
            idle: cycles - busy - stalled,
        })
    }

    fn conflicts(&self) -> impl Iterator<Item = ConflictReport> {
        let refused = Conflict::ALL.into_iter().zip(self.refused);
        refused.filter(|(_, cycles)| *cycles > 0).map(|(conflict, cycles)| ConflictReport {
            memory: self.memory,
            conflict,
            cycles,
        })
    }
}

/// Requests at the memory port, of one direction.
#[derive(Clone, Debug, Default)]
struct Requests {
    /// Without their last response beat.
    in_flight: u64,
    /// Cycles in flight, summed over the requests.
    latency: u64,
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
            blocks: [[0; SPENT]; Block::ALL.len()],
            spad: BankTally::new(Memory::Scratchpad, config.sp_banks),
            acc: BankTally::new(Memory::Accumulator, config.acc_banks),
            lines: [0; EVENTS],
            external: [0; EXTERNALS],
            reads: Requests::default(),
            writes: Requests::default(),
            last_beat: vec![0; SourceRanges::new(config.max_in_flight_mem_reqs as usize).len()],
            mesh_requests: 0,
            station_commands: 0,
            execute: vec![RoccCommand::default(); config.reservation_station_entries_ex as usize],
            macs: MacCounter::new(config),
            operation: OperationTally::new(None, 0),
            finished: Vec::new(),
            config: config.clone(),
        }
    }

    /// Ends the current operation and begins the one of `mark` in cycle `start`.
    fn begin(&mut self, mark: Option<usize>, start: Cycle) {
        let ended = std::mem::replace(&mut self.operation, OperationTally::new(mark, start));
        for (total, cycles) in self.blocks.iter_mut().flatten().zip(ended.blocks.iter().flatten()) {
            *total += cycles;
        }
        // The stretch before the first mark is none if the program begins with a mark.
        if ended.cycles > 0 {
            self.finished.push(self.operation_report(&ended));
        }
    }

    fn operation_report(&self, tally: &OperationTally) -> OperationReport {
        let &OperationTally { start, cycles, commands, macs, read_bytes, written_bytes, ref blocks, .. } = tally;
        let name = tally.mark.and_then(|mark| self.marks.get(mark)).cloned().unwrap_or_default();
        let utilisation = ratio(macs, self.possible_macs(cycles));
        let blocks = block_reports(blocks);
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
        self.begin(None, summary.cycles);
        let macs = self.finished.iter().map(|operation| operation.macs).sum();
        let blocks = block_reports(&self.blocks);
        let banks = self.spad.reports(summary.cycles).chain(self.acc.reports(summary.cycles)).collect();
        let names = (0..).zip(EVENT_NAMES).zip(self.lines).skip(1);
        let counters = names.map(|((code, name), value)| CounterReport { code, name, value }).collect();
        let external = (0..).zip(EXTERNAL_NAMES).zip(self.external).skip(1);
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
                station_commands: self.station_commands,
                page_faults: summary.page_faults,
            },
            mesh: self.mesh_report(macs, &blocks, summary.cycles),
            dma: self.dma_report(summary),
            blocks,
            banks,
            conflicts: self.spad.conflicts().chain(self.acc.conflicts()).collect(),
            counters,
            external_counters: external,
            operations: if self.marks.is_empty() { Vec::new() } else { self.finished },
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
            requests: self.mesh_requests,
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
            mean_read_latency: ratio(self.reads.latency, traffic.reads),
            mean_write_latency: ratio(self.writes.latency, traffic.writes),
        }
    }
}

fn block_reports(cycles: &BlockCycles) -> Vec<BlockReport> {
    Block::ALL.into_iter().zip(cycles).map(|(block, cycles)| BlockReport::new(block, cycles)).collect()
}

impl Observer for Profiler {
    const ACTIVITY: bool = true;

    fn cycles(&mut self, span: Span, activity: &Activity) {
        if span.mark != self.operation.mark {
            self.begin(span.mark, span.first);
        }
        self.operation.cycles += span.cycles;
        for (cycles, spent) in self.operation.blocks.iter_mut().zip(activity.blocks) {
            cycles[spent.index()] += span.cycles;
        }
        for requests in [&mut self.reads, &mut self.writes] {
            requests.latency = requests.latency.saturating_add(requests.in_flight.saturating_mul(span.cycles));
        }
        self.spad.add(&activity.spad, span.cycles);
        self.acc.add(&activity.acc, span.cycles);
        bits(activity.counters.lines).for_each(|line| self.lines[line] += span.cycles);
        self.external = activity.counters.external;
    }

    fn event(&mut self, _: Cycle, event: &Event) {
        match *event {
            Event::Accept { .. } => self.operation.commands += 1,
            Event::Alloc { unit, entry, funct, rs1, rs2, .. } => {
                self.station_commands += 1;
                if unit == Unit::Ex {
                    self.execute[usize::from(entry)] = RoccCommand { funct, rs1, rs2 };
                }
            }
            Event::Issue { unit: Unit::Ex, entry, .. } => {
                self.operation.macs += self.macs.issue(self.execute[usize::from(entry)]);
            }
            Event::Req { kind: ReqKind::Get, size, source, .. } => {
                self.last_beat[usize::from(source)] = (size / self.config.beat_bytes()).max(1) - 1;
                self.operation.read_bytes += u64::from(size);
                self.reads.in_flight += 1;
            }
            Event::Req { beat, mask, .. } => {
                self.operation.written_bytes += u64::from(mask.count_ones());
                self.writes.in_flight += u64::from(beat == 0);
            }
            Event::Rsp { ack: true, .. } => self.writes.in_flight -= 1,
            Event::Rsp { source, beat, .. } if beat == self.last_beat[usize::from(source)] => self.reads.in_flight -= 1,
            Event::MeshReq { .. } => self.mesh_requests += 1,
            _ => {}
        }
    }
}
