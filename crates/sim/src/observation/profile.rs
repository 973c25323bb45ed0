//! What a run's cycles are spent on, added up: for the whole run, or for a stretch of it that is added where it comes again.

use pollux_isa::{GemminiConfig, RoccCommand};

use super::activity::{Activity, BankUse, Block, Conflict, SPENT, Span};
use super::event::{Cycle, Event, ReqKind, Unit};
use super::report::macs::{Issued, MacCounter};
use crate::front_end::counter_file::{EVENTS, EXTERNALS};
use crate::port::tilelink::SourceRanges;

/// Adds up what it is told of, from the beginning of a run, or of a stretch of it.
#[derive(Clone, Debug)]
pub struct Profile {
    config: GemminiConfig,
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
    pub(in crate::observation) spad: BankTally,
    pub(in crate::observation) acc: BankTally,
    /// Cycles of each event line.
    pub(in crate::observation) lines: Vec<u64>,
    /// External values in the last cycle, and behind it: from those at the start on (modulo 2^32).
    pub(in crate::observation) last: [u32; EXTERNALS],
    pub(in crate::observation) external: [u32; EXTERNALS],
    /// Cycles in flight, summed over the requests: reads, writes.
    pub(in crate::observation) latency: [u64; 2],
    pub(in crate::observation) mesh_requests: u64,
    pub(in crate::observation) station_commands: u64,
    /// Operations that are over, in order.
    pub(in crate::observation) operations: Vec<OperationSums>,
}

/// What belongs to an operation that is over, or to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::observation) struct OperationSums {
    /// How many marks stand before it: all of the run, or of the stretch.
    pub(in crate::observation) marks: usize,
    /// First cycle, of the run or of the stretch.
    pub(in crate::observation) start: Cycle,
    pub(in crate::observation) cycles: u64,
    pub(in crate::observation) commands: u64,
    pub(in crate::observation) macs: u64,
    pub(in crate::observation) read_bytes: u64,
    pub(in crate::observation) written_bytes: u64,
    /// By block and by what it is spent on (`SPENT`): cycles, where there are any.
    pub(in crate::observation) spent: Vec<(u16, u64)>,
}

pub(in crate::observation) type BlockCycles = [[u64; SPENT]; Block::ALL.len()];

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

pub(in crate::observation) fn add_spent(blocks: &mut BlockCycles, spent: &[(u16, u64)]) {
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
pub(in crate::observation) struct BankTally {
    pub(in crate::observation) banks: Vec<BankCycles>,
    pub(in crate::observation) refused: [u64; Conflict::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::observation) struct BankCycles {
    pub(in crate::observation) reads: u64,
    pub(in crate::observation) writes: u64,
    pub(in crate::observation) busy: u64,
    pub(in crate::observation) stalled: u64,
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
}

impl Profile {
    /// The profile of a run, from cycle 0 on.
    pub(in crate::observation) fn new(config: &GemminiConfig) -> Self {
        Self {
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

    /// The sums of a run that is over.
    pub(in crate::observation) fn finish(mut self) -> ProfileSums {
        self.begin(0, 0);
        self.sums
    }

    /// Ends the current operation and begins the one behind so many marks in cycle `start`.
    fn begin(&mut self, marks: usize, start: Cycle) {
        let ended = std::mem::replace(&mut self.operation, OperationTally::new(marks, start));
        // The stretch before the first mark is none if the program begins with a mark.
        if ended.sums.cycles > 0 {
            self.sums.operations.push(ended.ended());
        }
    }

    /// What these cycles were spent on.
    pub(crate) fn cycles(&mut self, span: Span, activity: &Activity) {
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

    /// An event.
    pub(crate) fn event(&mut self, event: &Event) {
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

/// In stretches.
impl Profile {
    /// One for the stretches of a run that this one is of.
    pub(crate) fn of_stretches(&self) -> Self {
        Self { sums: ProfileSums::new(&self.config), ..self.clone() }
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
pub(in crate::observation) const READS: usize = 0;
pub(in crate::observation) const WRITES: usize = 1;
