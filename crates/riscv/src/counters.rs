//! Gemmini's performance counters in a model without time (`CounterFile.scala`).
//!
//! COUNTER commands configure, read, snapshot and reset as in the hardware. What counts cycles stays 0; the two values that
//! count bytes (`RDMA_BYTES_REC`, `WDMA_BYTES_SENT`) are those of the functional model, and the three that count commands
//! in the reservation station are 0, since a command is done before the next.

use pollux_functional::Counts;
use pollux_isa::GemminiConfig;
use pollux_isa::fields::Counter as Access;

/// Codes of external values (`CounterExternal`).
const RDMA_BYTES_REC: u8 = 4;
const WDMA_BYTES_SENT: u8 = 5;

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    event: u8,
    is_external: bool,
    snapshot: u64,
}

/// The counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    counters: Vec<Counter>,
    in_snapshot: bool,
    /// Bytes at the last reset, in and out.
    base: (u64, u64),
}

impl Counters {
    pub fn new(config: &GemminiConfig) -> Self {
        Self { counters: vec![Counter::default(); config.num_counter as usize], ..Self::default() }
    }

    /// Executes a COUNTER command; its result.
    pub fn access(&mut self, access: Access, counts: &Counts) -> u64 {
        let index = usize::from(access.index);
        let addressed = self.counters.get(index).copied().unwrap_or_default();
        let base = self.base;
        // Which kind of value is read depends on the addressed counter alone, also in a snapshot of all.
        let value_of = |counter: &Counter| match counter.event {
            _ if !addressed.is_external => 0,
            RDMA_BYTES_REC => u64::from((counts.bytes_in - base.0) as u32),
            WDMA_BYTES_SENT => u64::from((counts.bytes_out - base.1) as u32),
            _ => 0,
        };
        let result = if self.in_snapshot { addressed.snapshot } else { value_of(&addressed) };
        let takes_snapshot = access.snapshot && !access.snapshot_reset;
        if takes_snapshot {
            self.counters.iter_mut().for_each(|counter| counter.snapshot = value_of(counter));
        }
        self.in_snapshot = takes_snapshot || self.in_snapshot && !access.snapshot_reset;
        if access.configure
            && let Some(counter) = self.counters.get_mut(index)
        {
            (counter.event, counter.is_external) = (access.event, access.external);
        }
        if access.reset {
            self.base = (counts.bytes_in, counts.bytes_out);
            self.counters.iter_mut().for_each(|counter| counter.snapshot = 0);
            self.in_snapshot = false;
        }
        result
    }
}
