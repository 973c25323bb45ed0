//! [`EventCounts`]: how often each part of the accelerator was used, exactly.
//!
//! They are what energy is reckoned from, and what a schedule can be priced by beforehand. A run counts them as its events occur,
//! without recording the events: [`CountingObserver`] asks for them, for the whole run and by operation.
//!
//! | counts | counted where | as |
//! |---|---|---|
//! | [`EventCounts::memory`] | memory port | `req` and `rsp` events |
//! | [`EventCounts::scratchpad`], [`EventCounts::accumulator`] | the banks | bank events, a row each |
//! | [`EventCounts::mesh`] | the array's wrapper, execute commands at their issue | mesh events, `issue` events |
//! | [`EventCounts::commands`] | command port, reservation station | `accept` and `alloc` events |
//! | [`EventCounts::mvin`], [`EventCounts::normalizer`], [`EventCounts::readout`], [`EventCounts::tlb`] | inside the units | no events |

use std::ops::{Add, AddAssign, Sub};

use pollux_isa::values::{Activation, NormCmd};
use pollux_isa::{Command, GemminiConfig, RoccCommand, StreamItem};
use serde::{Deserialize, Serialize};

use crate::memory::PortTraffic;
use crate::observation::event::{Cycle, Event, Origin, Port, ReqKind, Unit};
use crate::observation::observer::Observer;
use crate::observation::report::MacCounter;

/// Sums and differences of counts, field by field.
macro_rules! additive {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field),* }
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, before: Self) -> Self {
                Self { $($field: self.$field - before.$field),* }
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
    };
}

/// A structure of plain counts with sums and differences.
macro_rules! counts {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }
        additive!($name { $($field),* });
    };
}

additive!(PortTraffic { reads, writes, read_bytes, written_bytes, read_beats, write_beats });

counts! {
    /// How often each part was used. Rows are rows of DIM elements.
    EventCounts {
        /// Requests, bytes and beats at the memory port.
        memory: PortTraffic,
        /// Rows of the scratchpad's banks.
        scratchpad: ScratchpadRows,
        /// Rows of the accumulator's banks.
        accumulator: AccumulatorRows,
        /// The array.
        mesh: MeshCounts,
        /// Commands.
        commands: CommandCounts,
        /// The scalers of loaded rows.
        mvin: MvinCounts,
        /// Rows that entered the normalization unit, by command; all rows read for a store do.
        normalizer: NormalizerCounts,
        /// Rows that entered the scale and activation unit, by function.
        readout: ReadoutCounts,
        /// The translation buffer.
        tlb: TlbCounts,
    }
}

counts! {
    /// Accesses of the scratchpad's banks, a row of DIM elements each.
    ScratchpadRows {
        /// Operands read by the execute controller.
        ex_reads: u64,
        /// Rows read for stores.
        dma_reads: u64,
        /// Results written by the execute controller.
        ex_writes: u64,
        /// Loaded rows, rows of zeros included. A row of which a part is written counts as one.
        dma_writes: u64,
    }
}

counts! {
    /// Accesses of the accumulator's banks, a row of DIM elements each. An accumulating write reads its row, adds and writes: it
    /// is counted once, apart from the plain reads and writes.
    AccumulatorRows {
        /// Reads by the execute controller.
        ex_reads: u64,
        /// Rows read for stores.
        dma_reads: u64,
        /// Results that overwrite.
        ex_writes: u64,
        /// Results that are added.
        ex_accumulates: u64,
        /// Loaded rows that overwrite, rows of zeros included.
        dma_writes: u64,
        /// Loaded rows that are added.
        dma_accumulates: u64,
    }
}

counts! {
    /// Uses of the array.
    MeshCounts {
        /// Requests of its wrapper: passes, and flushes.
        requests: u64,
        /// Rows of operands taken, rows of zeros and padding included.
        operand_rows: u64,
        /// Rows that went through, those of flushes included. Each moves every register of all DIM x DIM elements once.
        rows: u64,
        /// Multiply-accumulates of elements that take part: rows of A times columns of A times columns of the product, for each compute
        /// that was issued. The array does DIM x DIM of them a row, those of padding with zeros.
        macs: u64,
        /// PRELOADs of an operand that stays in the array (the weights, or output-stationary the bias), not of a garbage address.
        preloads: u64,
        /// Elements of these operands.
        preloaded: u64,
    }
}

counts! {
    /// Commands.
    CommandCounts {
        /// Accepted at the command port: those of the host.
        host: u64,
        /// Load commands that entered the reservation station.
        load: u64,
        /// Execute commands that entered the reservation station.
        execute: u64,
        /// Store commands that entered the reservation station.
        store: u64,
        /// Those of the three that an unroller made.
        unrolled: u64,
    }
}

counts! {
    /// Rows that were multiplied on their way in. A row that is repeated counts as often; one that passes a build's scaler
    /// unscaled, as its factor is 1, does not count.
    MvinCounts {
        /// Rows of scratchpad elements.
        narrow: u64,
        /// Rows of accumulator elements.
        wide: u64,
    }
}

counts! {
    /// Rows that entered the normalization unit.
    NormalizerCounts {
        /// RESET: the row passes.
        reset: u64,
        /// SUM.
        sum: u64,
        /// MEAN.
        mean: u64,
        /// VARIANCE.
        variance: u64,
        /// INV_STDDEV.
        inv_stddev: u64,
        /// MAX.
        max: u64,
        /// SUM_EXP.
        sum_exp: u64,
        /// INV_SUM_EXP.
        inv_sum_exp: u64,
    }
}

impl NormalizerCounts {
    /// Counts a row.
    pub fn add_row(&mut self, command: NormCmd) {
        *match command {
            NormCmd::Reset => &mut self.reset,
            NormCmd::Sum => &mut self.sum,
            NormCmd::Mean => &mut self.mean,
            NormCmd::Variance => &mut self.variance,
            NormCmd::InvStddev => &mut self.inv_stddev,
            NormCmd::Max => &mut self.max,
            NormCmd::SumExp => &mut self.sum_exp,
            NormCmd::InvSumExp => &mut self.inv_sum_exp,
        } += 1;
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        let Self { reset, sum, mean, variance, inv_stddev, max, sum_exp, inv_sum_exp } = *self;
        reset + sum + mean + variance + inv_stddev + max + sum_exp + inv_sum_exp
    }
}

counts! {
    /// Rows that entered the scale and activation unit, whichever width they left in.
    ReadoutCounts {
        /// Scaled only.
        none: u64,
        /// ReLU.
        relu: u64,
        /// The last step of LayerNorm.
        layernorm: u64,
        /// GELU.
        igelu: u64,
        /// The last step of softmax.
        softmax: u64,
    }
}

impl ReadoutCounts {
    /// Counts a row.
    pub fn add_row(&mut self, activation: Activation) {
        *match activation {
            Activation::None => &mut self.none,
            Activation::Relu => &mut self.relu,
            Activation::Layernorm => &mut self.layernorm,
            Activation::Igelu => &mut self.igelu,
            Activation::Softmax => &mut self.softmax,
        } += 1;
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        let Self { none, relu, layernorm, igelu, softmax } = *self;
        none + relu + layernorm + igelu + softmax
    }
}

counts! {
    /// Uses of translation. How many there are depends on the time: a request that misses is made again.
    TlbCounts {
        /// Requests at the translation buffer proper, behind the page registers.
        lookups: u64,
        /// Page-table walks.
        walks: u64,
    }
}

impl ScratchpadRows {
    /// Rows read.
    pub fn reads(&self) -> u64 {
        self.ex_reads + self.dma_reads
    }

    /// Rows written.
    pub fn writes(&self) -> u64 {
        self.ex_writes + self.dma_writes
    }
}

impl AccumulatorRows {
    /// Rows read, but for those of accumulating writes.
    pub fn reads(&self) -> u64 {
        self.ex_reads + self.dma_reads
    }

    /// Rows overwritten.
    pub fn writes(&self) -> u64 {
        self.ex_writes + self.dma_writes
    }

    /// Rows read, added to and written.
    pub fn accumulates(&self) -> u64 {
        self.ex_accumulates + self.dma_accumulates
    }
}

/// Counts events as they occur. What has no events is left 0.
#[derive(Clone, Debug)]
pub(crate) struct EventCounter {
    counts: EventCounts,
    config: GemminiConfig,
    macs: MacCounter,
    /// Execute commands that wait for their issue, by entry.
    execute: Vec<RoccCommand>,
}

impl EventCounter {
    pub(crate) fn new(config: &GemminiConfig) -> Self {
        Self {
            counts: EventCounts::default(),
            macs: MacCounter::new(config),
            execute: vec![RoccCommand::default(); config.reservation_station_entries_ex as usize],
            config: config.clone(),
        }
    }

    pub(crate) fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// So many events like this one.
    pub(crate) fn count(&mut self, event: &Event, times: u64) {
        let EventCounts { memory, scratchpad, accumulator, mesh, commands, .. } = &mut self.counts;
        *match *event {
            Event::Accept { .. } => &mut commands.host,
            Event::Alloc { unit, entry, funct, rs1, rs2, origin, .. } => {
                commands.unrolled += u64::from(origin != Origin::Host);
                match unit {
                    Unit::Ld => &mut commands.load,
                    Unit::Ex => {
                        self.execute[usize::from(entry)] = RoccCommand { funct, rs1, rs2 };
                        &mut commands.execute
                    }
                    Unit::St => &mut commands.store,
                }
            }
            Event::Issue { unit: Unit::Ex, entry, .. } => return self.issue(self.execute[usize::from(entry)]),
            Event::Req { kind: ReqKind::Get, size, .. } => {
                memory.read_bytes += u64::from(size);
                &mut memory.reads
            }
            Event::Req { beat, mask, .. } => {
                memory.writes += u64::from(beat == 0);
                memory.written_bytes += u64::from(mask.count_ones());
                &mut memory.write_beats
            }
            Event::Rsp { ack: false, .. } => &mut memory.read_beats,
            Event::SpadRead { port: Port::Ex, .. } => &mut scratchpad.ex_reads,
            Event::SpadRead { port: Port::Dma, .. } => &mut scratchpad.dma_reads,
            Event::SpadWrite { port: Port::Ex, .. } => &mut scratchpad.ex_writes,
            Event::SpadWrite { port: Port::Dma, .. } => &mut scratchpad.dma_writes,
            Event::AccRead { port: Port::Ex, .. } => &mut accumulator.ex_reads,
            Event::AccRead { port: Port::Dma, .. } => &mut accumulator.dma_reads,
            Event::AccWrite { port: Port::Ex, accumulate: false, .. } => &mut accumulator.ex_writes,
            Event::AccWrite { port: Port::Ex, accumulate: true, .. } => &mut accumulator.ex_accumulates,
            Event::AccWrite { port: Port::Dma, accumulate: false, .. } => &mut accumulator.dma_writes,
            Event::AccWrite { port: Port::Dma, accumulate: true, .. } => &mut accumulator.dma_accumulates,
            Event::MeshReq { .. } => &mut mesh.requests,
            Event::MeshA => &mut mesh.operand_rows,
            Event::MeshOut { .. } => &mut mesh.rows,
            Event::Busy { .. }
            | Event::Issue { .. }
            | Event::Complete { .. }
            | Event::Rsp { ack: true, .. }
            | Event::Resp { .. } => return,
        } += times;
    }

    /// The next execute command, in program order.
    fn issue(&mut self, command: RoccCommand) {
        let mesh = &mut self.counts.mesh;
        mesh.macs += self.macs.issue(command);
        if let Some(Command::Preload(preload)) = Command::from_rocc(&self.config, command)
            && !preload.d.is_garbage(self.config.layout())
        {
            mesh.preloads += 1;
            mesh.preloaded += u64::from(preload.d_rows) * u64::from(preload.d_cols);
        }
    }
}

/// The counts of an operation: of what stands between two marks of the host.
///
/// What happens in a cycle belongs to the operation at which the host is then, as in
/// [`OperationReport`](crate::report::OperationReport).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedOperation {
    /// Number of its mark, from 0; none before the first.
    pub mark: Option<usize>,
    /// First cycle.
    pub start: Cycle,
    /// Cycles.
    pub cycles: u64,
    /// Counts.
    pub counts: EventCounts,
}

/// Collects the counts of a run, by operation.
#[derive(Clone, Debug, Default)]
pub struct CountingObserver {
    operations: Vec<CountedOperation>,
}

impl CountingObserver {
    /// Counts of the whole run.
    pub fn total(&self) -> EventCounts {
        self.operations.iter().fold(EventCounts::default(), |sum, operation| sum + operation.counts)
    }

    /// Counts of the operations, in their order.
    pub fn operations(&self) -> &[CountedOperation] {
        &self.operations
    }
}

impl Observer for CountingObserver {
    fn wants_events(&self) -> bool {
        false
    }

    fn wants_counts(&self) -> bool {
        true
    }

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn counted(&mut self, operation: &CountedOperation) {
        match self.operations.last_mut() {
            // A run that was stopped and goes on tells of an operation in parts.
            Some(last) if last.mark == operation.mark => {
                last.cycles += operation.cycles;
                last.counts += operation.counts;
            }
            _ => self.operations.push(*operation),
        }
    }
}

/// Names of a program's marks, in order: those that [`CountedOperation::mark`] counts.
pub fn mark_names(items: &[StreamItem]) -> Vec<String> {
    let mark = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
    items.iter().filter_map(mark).collect()
}

#[cfg(test)]
mod tests;
