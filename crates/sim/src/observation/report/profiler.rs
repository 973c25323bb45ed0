//! [`Profiler`]: a run's profile as a report.

use pollux_isa::{GemminiConfig, StreamItem};

use super::run::{
    BankReport, BlockReport, ConflictReport, CounterReport, DmaReport, Memory, MeshReport, OperationReport, RunReport,
    Totals,
};
use crate::front_end::counter_file::{EVENT_NAMES, EXTERNAL_NAMES};
use crate::observation::activity::{Activity, Block, Conflict, SPENT, Span};
use crate::observation::event::{Cycle, Event};
use crate::observation::observer::Observer;
use crate::observation::profile::{
    BankCycles, BankTally, BlockCycles, OperationSums, Profile, ProfileSums, READS, WRITES, add_spent,
};
use crate::simulation::RunSummary;

/// Observes a run and reports on it. Its size does not grow with the run's cycles, only with the number of operations.
#[derive(Clone, Debug)]
pub struct Profiler {
    config: GemminiConfig,
    /// Names of the marks, in order.
    marks: Vec<String>,
    profile: Profile,
}

fn ratio(part: u64, whole: impl Into<u128>) -> f64 {
    let whole = whole.into();
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Profiler {
    /// A profiler for a run of these items, from cycle 0 on. The simulation must record events.
    pub fn new(config: &GemminiConfig, items: &[StreamItem]) -> Self {
        let mark = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
        Self { marks: items.iter().filter_map(mark).collect(), profile: Profile::new(config), config: config.clone() }
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
    pub fn finish(self, summary: &RunSummary) -> RunReport {
        let sums = self.profile.clone().finish();
        let macs = sums.operations.iter().map(|operation| operation.macs).sum();
        let mut blocks = [[0; SPENT]; Block::ALL.len()];
        sums.operations.iter().for_each(|operation| add_spent(&mut blocks, &operation.spent));
        let blocks = block_reports(&blocks);
        let (spad, acc) = (Memory::Scratchpad, Memory::Accumulator);
        let cycles = summary.cycles;
        let banks = bank_reports(spad, &sums.spad, cycles).chain(bank_reports(acc, &sums.acc, cycles)).collect();
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
            mesh: self.mesh_report(&sums, macs, &blocks, summary.cycles),
            dma: self.dma_report(&sums, summary),
            blocks,
            banks,
            conflicts: conflicts(spad, &sums.spad).chain(conflicts(acc, &sums.acc)).collect(),
            counters,
            external_counters: external,
            operations: match &self.marks[..] {
                [] => Vec::new(),
                _ => sums.operations.iter().map(|operation| self.operation_report(operation)).collect(),
            },
        }
    }

    fn mesh_report(&self, sums: &ProfileSums, macs: u64, blocks: &[BlockReport], cycles: u64) -> MeshReport {
        let peak = self.peak_macs();
        let row_cycles = blocks[Block::Mesh as usize].busy;
        MeshReport {
            macs,
            peak_macs_per_cycle: peak,
            utilisation: ratio(macs, self.possible_macs(cycles)),
            utilisation_while_busy: ratio(macs, self.possible_macs(row_cycles)),
            row_cycles,
            requests: sums.mesh_requests,
        }
    }

    fn dma_report(&self, sums: &ProfileSums, summary: &RunSummary) -> DmaReport {
        let (traffic, cycles) = (summary.traffic, summary.cycles);
        DmaReport {
            traffic,
            beat_bytes: self.config.beat_bytes().into(),
            read_bytes_per_cycle: ratio(traffic.read_bytes, cycles),
            written_bytes_per_cycle: ratio(traffic.written_bytes, cycles),
            read_utilisation: ratio(traffic.read_beats, cycles),
            write_utilisation: ratio(traffic.write_beats, cycles),
            mean_read_latency: ratio(sums.latency[READS], traffic.reads),
            mean_write_latency: ratio(sums.latency[WRITES], traffic.writes),
        }
    }
}

fn block_reports(cycles: &BlockCycles) -> Vec<BlockReport> {
    Block::ALL.into_iter().zip(cycles).map(|(block, cycles)| BlockReport::new(block, cycles)).collect()
}

fn bank_reports(memory: Memory, tally: &BankTally, cycles: u64) -> impl Iterator<Item = BankReport> {
    tally.banks.iter().enumerate().map(move |(bank, &BankCycles { reads, writes, busy, stalled })| BankReport {
        memory,
        bank,
        reads,
        writes,
        busy,
        stalled,
        idle: cycles - busy - stalled,
    })
}

fn conflicts(memory: Memory, tally: &BankTally) -> impl Iterator<Item = ConflictReport> {
    let refused = Conflict::ALL.into_iter().zip(tally.refused);
    refused.filter(|(_, cycles)| *cycles > 0).map(move |(conflict, cycles)| ConflictReport { memory, conflict, cycles })
}

impl Observer for Profiler {
    const ACTIVITY: bool = true;

    fn wants_each(&self) -> bool {
        false
    }

    fn profiles(&self) -> usize {
        1
    }

    fn profile(&mut self) -> Option<&mut Profile> {
        Some(&mut self.profile)
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.profile.cycles(span, activity);
    }

    fn event(&mut self, _: Cycle, event: &Event) {
        self.profile.event(event);
    }
}
