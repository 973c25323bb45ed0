//! The performance counters and the COUNTER command (`CounterFile.scala`).
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | COUNTER at the head of the unrolled queue | unless a response is pending |
//! | out (RoCC response) | out | the cycle after a COUNTER was accepted | at once: the bench's response port is always ready |
//! | events | in | the lines and values of all blocks in this cycle | always |

use pollux_isa::config::log2_ceil;
use pollux_isa::{GemminiConfig, RoccCommand};

use crate::event::{Event, EventBuffer};
use crate::geometry::{bit, field};

/// Event lines (`CounterEvent`): a counter configured with a code counts the cycles in which that line is high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // named in the hardware as here; docs/ describes when each is high
pub enum CounterEvent {
    Disable = 0,
    MainLdCycles = 1,
    MainStCycles = 2,
    MainExCycles = 3,
    MainLdStCycles = 4,
    MainLdExCycles = 5,
    MainStExCycles = 6,
    MainLdStExCycles = 7,
    LoadDmaWaitCycle = 8,
    LoadActiveCycle = 9,
    LoadScratchpadWaitCycle = 10,
    StoreDmaWaitCycle = 11,
    StoreActiveCycle = 12,
    StorePoolingCycle = 13,
    StoreScratchpadWaitCycle = 14,
    DmaTlbMissCycle = 15,
    DmaTlbHitReq = 16,
    DmaTlbTotalReq = 17,
    RdmaActiveCycle = 18,
    RdmaTlbWaitCycles = 19,
    RdmaTlWaitCycles = 20,
    WdmaActiveCycle = 21,
    WdmaTlbWaitCycles = 22,
    WdmaTlWaitCycles = 23,
    ExeActiveCycle = 24,
    ExeFlushCycle = 25,
    ExeControlQBlockCycle = 26,
    ExePreloadHazCycle = 27,
    ExeOverlapHazCycle = 28,
    ScratchpadAWaitCycle = 29,
    ScratchpadBWaitCycle = 30,
    ScratchpadDWaitCycle = 31,
    AccAWaitCycle = 32,
    AccBWaitCycle = 33,
    AccDWaitCycle = 34,
    AGarbageCycles = 35,
    BGarbageCycles = 36,
    DGarbageCycles = 37,
    Im2colMemCycles = 38,
    Im2colActiveCycles = 39,
    Im2colTransposerWaitCycle = 40,
    ReservationStationFullCycles = 41,
    ReservationStationActiveCycles = 42,
    LoopMatmulActiveCycles = 43,
    TransposePreloadUnrollerActiveCycles = 44,
}

/// Values kept outside the counter file (`CounterExternal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // named in the hardware as here
pub enum CounterExternal {
    Disable = 0,
    ReservationStationLdCount = 1,
    ReservationStationStCount = 2,
    ReservationStationExCount = 3,
    RdmaBytesRec = 4,
    WdmaBytesSent = 5,
    RdmaTotalLatency = 6,
    WdmaTotalLatency = 7,
}

/// Number of event lines.
const EVENTS: u32 = 45;
/// Number of external values.
const EXTERNALS: usize = 8;

/// All event lines and external values in one cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterEvents {
    /// Bit n: line of [`CounterEvent`] n.
    pub lines: u64,
    /// Value of [`CounterExternal`] n.
    pub external: [u32; EXTERNALS],
}

impl CounterEvents {
    /// Drives a line.
    #[inline]
    pub fn set(&mut self, event: CounterEvent, high: bool) {
        self.lines |= u64::from(high) << event as u8;
    }

    /// Drives an external value.
    #[inline]
    pub fn set_external(&mut self, external: CounterExternal, value: u32) {
        self.external[external as usize] = value;
    }

    fn is_high(&self, code: u8) -> bool {
        code != 0 && u32::from(code) < EVENTS && bit(self.lines, code.into())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    value: u64,
    snapshot: u64,
    config: u8,
    is_external: bool,
}

#[derive(Clone, Copy, Debug)]
struct Response {
    register: u8,
    data: u64,
}

/// The counters; see the module.
#[derive(Clone, Debug)]
pub struct CounterFile {
    counters: Vec<Counter>,
    index_bits: u32,
    snapshot_enable: bool,
    response: Option<Response>,
    /// A counter is configured with an event.
    counting: bool,
}

impl CounterFile {
    /// All counters disabled and zero.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            counters: vec![Counter::default(); config.num_counter as usize],
            index_bits: log2_ceil(config.num_counter.into()),
            snapshot_enable: false,
            response: None,
            counting: false,
        }
    }

    /// `in.ready`. Without counters a COUNTER command is never taken.
    pub fn ready(&self) -> bool {
        self.response.is_none() && !self.counters.is_empty()
    }

    /// True if the event lines matter: while this is false, a caller need not work them out unless a COUNTER is at the head.
    pub fn counting(&self) -> bool {
        self.counting
    }

    /// Whether a COUNTER, when it is accepted, also clears the external counters (`external_reset`).
    pub fn resets(cmd: &RoccCommand) -> bool {
        bit(cmd.rs1, 0)
    }

    /// Values of the counters as software would read them outside snapshot mode: `(event code, external, value)`.
    pub fn values(&self) -> impl Iterator<Item = (u8, bool, u64)> {
        self.counters.iter().map(|counter| (counter.config, counter.is_external, counter.value))
    }

    /// Clock edge. `access` is a COUNTER command that was accepted, with its destination register.
    pub fn tick(
        &mut self,
        access: Option<(RoccCommand, u8)>,
        events: &CounterEvents,
        buffer: &mut EventBuffer,
    ) -> bool {
        let response = self.response.take();
        if let Some(Response { register, data }) = response {
            buffer.push(Event::Resp { register, data });
        }
        match access {
            Some((cmd, register)) => self.access(&cmd, register, events),
            None => self.skip(1, events),
        }
        response.is_some() || access.is_some()
    }

    /// `cycles` clock edges without COUNTER commands, all with the same lines.
    pub fn skip(&mut self, cycles: u64, events: &CounterEvents) {
        if self.counting {
            for counter in self.counters.iter_mut().filter(|counter| events.is_high(counter.config)) {
                counter.value = counter.value.wrapping_add(cycles);
            }
        }
    }

    fn access(&mut self, cmd: &RoccCommand, register: u8, events: &CounterEvents) {
        const RESET: u32 = 0;
        const SNAPSHOT_RESET: u32 = 1;
        const SNAPSHOT: u32 = 2;
        const CONFIG: u32 = 3;
        let index = field(cmd.rs1, 4, self.index_bits) as usize;
        let addressed = self.counters.get(index).copied().unwrap_or_default();
        // Which kind of value is copied or read depends on the addressed counter alone, also in a snapshot of all.
        let value_of = |counter: &Counter| {
            if addressed.is_external {
                u64::from(events.external[usize::from(counter.config) % EXTERNALS])
            } else {
                counter.value
            }
        };
        let data = if self.snapshot_enable { addressed.snapshot } else { value_of(&addressed) };
        self.response = Some(Response { register, data });

        let takes_snapshot = bit(cmd.rs1, SNAPSHOT) && !bit(cmd.rs1, SNAPSHOT_RESET);
        if takes_snapshot {
            self.counters.iter_mut().for_each(|counter| counter.snapshot = value_of(counter));
        }
        self.snapshot_enable = takes_snapshot || (self.snapshot_enable && !bit(cmd.rs1, SNAPSHOT_RESET));
        self.skip(1, events);
        if bit(cmd.rs1, CONFIG) {
            if let Some(counter) = self.counters.get_mut(index) {
                counter.config = field(cmd.rs1, 12, 6) as u8;
                counter.is_external = bit(cmd.rs1, 31);
                counter.value = 0;
            }
            self.counting = self.counters.iter().any(|counter| counter.config != 0);
        }
        if bit(cmd.rs1, RESET) {
            for counter in &mut self.counters {
                (counter.value, counter.snapshot) = (0, 0);
            }
            self.snapshot_enable = false;
        }
    }
}
