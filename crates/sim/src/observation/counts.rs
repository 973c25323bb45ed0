//! [`EventCounts`]: how often each part of the accelerator was used, exactly.
//!
//! They are what energy is reckoned from, and what a schedule can be priced by beforehand. A run counts them as its events occur,
//! without recording the events: [`CountingObserver`](crate::counts::CountingObserver) asks for them, for the whole run and by operation.
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
use serde::{Deserialize, Serialize};

/// A structure of plain counts, with sums and differences field by field.
macro_rules! counts {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

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

counts! {
    /// Traffic at the port since the start.
    PortTraffic {
        /// Read requests.
        reads: u64,
        /// Write requests.
        writes: u64,
        /// Bytes of the read requests.
        read_bytes: u64,
        /// Enabled bytes of the write beats.
        written_bytes: u64,
        /// Beats of data taken on channel D.
        read_beats: u64,
        /// Beats of writes accepted on channel A.
        write_beats: u64,
    }
}

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
