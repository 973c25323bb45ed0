//! The performance counters and the COUNTER command (`CounterFile.scala`).
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | COUNTER at the head of the unrolled queue | unless a response is pending |
//! | out (RoCC response) | out | the cycle after a COUNTER was accepted | at once: the bench's response port is always ready |
//! | events | in | the lines and values of all blocks in this cycle | always |

use pollux_isa::fields::Counter as Access;
use pollux_isa::{GemminiConfig, RoccCommand};

use crate::observation::event::{Event, EventBuffer};
use crate::parts::canonical::Canonical;

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
pub const EVENTS: usize = 45;
/// Number of external values.
pub const EXTERNALS: usize = 8;

/// Gemmini's names of the event lines, by code.
#[rustfmt::skip]
pub const EVENT_NAMES: [&str; EVENTS] = [
    "DISABLE", "MAIN_LD_CYCLES", "MAIN_ST_CYCLES", "MAIN_EX_CYCLES", "MAIN_LD_ST_CYCLES", "MAIN_LD_EX_CYCLES",
    "MAIN_ST_EX_CYCLES", "MAIN_LD_ST_EX_CYCLES", "LOAD_DMA_WAIT_CYCLE", "LOAD_ACTIVE_CYCLE",
    "LOAD_SCRATCHPAD_WAIT_CYCLE", "STORE_DMA_WAIT_CYCLE", "STORE_ACTIVE_CYCLE", "STORE_POOLING_CYCLE",
    "STORE_SCRATCHPAD_WAIT_CYCLE", "DMA_TLB_MISS_CYCLE", "DMA_TLB_HIT_REQ", "DMA_TLB_TOTAL_REQ", "RDMA_ACTIVE_CYCLE",
    "RDMA_TLB_WAIT_CYCLES", "RDMA_TL_WAIT_CYCLES", "WDMA_ACTIVE_CYCLE", "WDMA_TLB_WAIT_CYCLES", "WDMA_TL_WAIT_CYCLES",
    "EXE_ACTIVE_CYCLE", "EXE_FLUSH_CYCLE", "EXE_CONTROL_Q_BLOCK_CYCLE", "EXE_PRELOAD_HAZ_CYCLE",
    "EXE_OVERLAP_HAZ_CYCLE", "SCRATCHPAD_A_WAIT_CYCLE", "SCRATCHPAD_B_WAIT_CYCLE", "SCRATCHPAD_D_WAIT_CYCLE",
    "ACC_A_WAIT_CYCLE", "ACC_B_WAIT_CYCLE", "ACC_D_WAIT_CYCLE", "A_GARBAGE_CYCLES", "B_GARBAGE_CYCLES",
    "D_GARBAGE_CYCLES", "IM2COL_MEM_CYCLES", "IM2COL_ACTIVE_CYCLES", "IM2COL_TRANSPOSER_WAIT_CYCLE",
    "RESERVATION_STATION_FULL_CYCLES", "RESERVATION_STATION_ACTIVE_CYCLES", "LOOP_MATMUL_ACTIVE_CYCLES",
    "TRANSPOSE_PRELOAD_UNROLLER_ACTIVE_CYCLES",
];

/// Gemmini's names of the external values, by code.
#[rustfmt::skip]
pub const EXTERNAL_NAMES: [&str; EXTERNALS] = [
    "DISABLE", "RESERVATION_STATION_LD_COUNT", "RESERVATION_STATION_ST_COUNT", "RESERVATION_STATION_EX_COUNT",
    "RDMA_BYTES_REC", "WDMA_BYTES_SENT", "RDMA_TOTAL_LATENCY", "WDMA_TOTAL_LATENCY",
];

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
        code != 0 && usize::from(code) < EVENTS && self.lines >> code & 1 != 0
    }
}

#[derive(Clone, Copy, Debug, Default, Canonical)]
struct Counter {
    #[canon(skip = "a total, which only the host is told")]
    value: u64,
    #[canon(skip = "a total, which only the host is told")]
    snapshot: u64,
    config: u8,
    is_external: bool,
}

#[derive(Clone, Copy, Debug, Canonical)]
struct Response {
    register: u8,
    #[canon(skip = "a total, which only the host is told")]
    data: u64,
}

/// The counters; see the module.
#[derive(Clone, Debug, Canonical)]
pub struct CounterFile {
    counters: Vec<Counter>,
    #[canon(skip = "constant")]
    config: GemminiConfig,
    snapshot_enable: bool,
    response: Option<Response>,
    /// A counter is configured with an event.
    #[canon(skip = "told by the counters' configurations")]
    counting: bool,
}

impl CounterFile {
    /// All counters disabled and zero.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            counters: vec![Counter::default(); config.num_counter as usize],
            config: config.clone(),
            snapshot_enable: false,
            response: None,
            counting: false,
        }
    }

    /// The RoCC response of this cycle.
    pub fn response(&self) -> Option<u64> {
        self.response.as_ref().map(|response| response.data)
    }

    /// `in.ready`. Without counters a COUNTER command is never taken.
    pub fn ready(&self) -> bool {
        self.response.is_none() && !self.counters.is_empty()
    }

    /// Whether the build has counters.
    pub fn exist(&self) -> bool {
        !self.counters.is_empty()
    }

    /// True if the event lines matter: while this is false, a caller need not work them out unless a COUNTER is at the head.
    pub fn counting(&self) -> bool {
        self.counting
    }

    /// Whether a COUNTER, when it is accepted, also clears the external counters (`external_reset`).
    pub fn resets(&self, cmd: &RoccCommand) -> bool {
        Access::from_regs(&self.config, cmd.rs1, cmd.rs2).reset
    }

    /// Clock edge. `access` is a COUNTER command that was accepted, with its destination register.
    #[must_use]
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
        let access = Access::from_regs(&self.config, cmd.rs1, cmd.rs2);
        let index = usize::from(access.index);
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

        let takes_snapshot = access.snapshot && !access.snapshot_reset;
        if takes_snapshot {
            self.counters.iter_mut().for_each(|counter| counter.snapshot = value_of(counter));
        }
        self.snapshot_enable = takes_snapshot || (self.snapshot_enable && !access.snapshot_reset);
        self.skip(1, events);
        if access.configure {
            if let Some(counter) = self.counters.get_mut(index) {
                counter.config = access.event;
                counter.is_external = access.external;
                counter.value = 0;
            }
            self.counting = self.counters.iter().any(|counter| counter.config != 0);
        }
        if access.reset {
            for counter in &mut self.counters {
                (counter.value, counter.snapshot) = (0, 0);
            }
            self.snapshot_enable = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: u64 = 1 << 0;
    const SNAPSHOT_RESET: u64 = 1 << 1;
    const SNAPSHOT: u64 = 1 << 2;

    /// A counter file with the lines of a cycle held at `events`.
    struct Bench {
        file: CounterFile,
        events: CounterEvents,
        buffer: EventBuffer,
    }

    impl Bench {
        fn new() -> Self {
            let file = CounterFile::new(&GemminiConfig::default16());
            Self { file, events: CounterEvents::default(), buffer: EventBuffer::new(true) }
        }

        /// Issues a COUNTER command and gives the data of its response, which leaves one cycle later.
        fn access(&mut self, rs1: u64) -> u64 {
            let cmd = RoccCommand { funct: pollux_isa::funct::COUNTER_OP, rs1, rs2: 0 };
            assert!(self.file.ready());
            let _ = self.file.tick(Some((cmd, 11)), &self.events, &mut self.buffer);
            assert!(!self.file.ready(), "a response is pending");
            let _ = self.file.tick(None, &self.events, &mut self.buffer);
            let mut response = None;
            self.buffer.drain_sorted(|event| response = Some(*event));
            match response {
                Some(Event::Resp { register: 11, data }) => data,
                other => panic!("expected a response, got {other:?}"),
            }
        }

        fn read(&mut self, index: u64) -> u64 {
            self.access(index << 4)
        }

        fn configure(&mut self, index: u64, code: u8, external: bool) {
            self.access(u64::from(external) << 31 | u64::from(code) << 12 | index << 4 | 1 << 3);
        }
    }

    #[test]
    fn a_counter_counts_the_cycles_in_which_its_line_is_high() {
        let mut bench = Bench::new();
        bench.configure(2, CounterEvent::MainLdCycles as u8, false);
        bench.events.set(CounterEvent::MainLdCycles, true);
        bench.file.skip(100, &bench.events);
        assert_eq!(bench.read(2), 100);
        assert_eq!(bench.read(3), 0);
        // The read returned the value before its own cycle; both cycles of both reads counted.
        assert_eq!(bench.read(2), 104);
    }

    #[test]
    fn configuring_a_counter_clears_it_and_does_not_count_that_cycle() {
        let mut bench = Bench::new();
        bench.events.set(CounterEvent::MainExCycles, true);
        bench.configure(0, CounterEvent::MainExCycles as u8, false);
        assert_eq!(bench.read(0), 1);
        bench.configure(0, CounterEvent::MainExCycles as u8, false);
        assert_eq!(bench.read(0), 1);
    }

    #[test]
    fn a_snapshot_holds_while_the_counters_run_on() {
        let mut bench = Bench::new();
        bench.configure(1, CounterEvent::RdmaActiveCycle as u8, false);
        bench.events.set(CounterEvent::RdmaActiveCycle, true);
        bench.file.skip(7, &bench.events);
        assert_eq!(bench.access(SNAPSHOT | 1 << 4), 7);
        assert_eq!(bench.read(1), 7);
        assert_eq!(bench.read(1), 7);
        assert_eq!(bench.access(SNAPSHOT_RESET | 1 << 4), 7);
        assert_eq!(bench.read(1), 15);
    }

    #[test]
    fn a_snapshot_takes_the_kind_of_value_that_its_own_counter_has() {
        let mut bench = Bench::new();
        bench.configure(0, CounterExternal::RdmaBytesRec as u8, true);
        bench.configure(1, CounterExternal::WdmaBytesSent as u8, true);
        bench.configure(2, CounterEvent::MainStCycles as u8, false);
        bench.events.set_external(CounterExternal::RdmaBytesRec, 64);
        bench.events.set_external(CounterExternal::WdmaBytesSent, 32);
        assert_eq!(bench.read(0), 64);
        bench.access(SNAPSHOT | 2 << 4);
        assert_eq!(bench.read(0), 0, "the addressed counter counts an event: internal values were copied");
        bench.access(SNAPSHOT_RESET);
        bench.access(SNAPSHOT | 1 << 4);
        assert_eq!(bench.read(0), 64, "the addressed counter is external: external values were copied");
    }

    #[test]
    fn a_reset_clears_the_counts_and_keeps_the_events() {
        let mut bench = Bench::new();
        bench.configure(5, CounterEvent::MainLdCycles as u8, false);
        bench.events.set(CounterEvent::MainLdCycles, true);
        bench.file.skip(9, &bench.events);
        assert_eq!(bench.access(RESET | 5 << 4), 9);
        assert_eq!(bench.read(5), 1);
    }

    #[test]
    fn a_code_without_an_event_counts_nothing() {
        let mut bench = Bench::new();
        bench.events.lines = u64::MAX;
        bench.configure(0, 63, false);
        bench.configure(1, CounterEvent::Disable as u8, false);
        bench.file.skip(10, &bench.events);
        assert_eq!((bench.read(0), bench.read(1)), (0, 0));
    }

    #[test]
    fn the_names_stand_at_their_codes() {
        let last = CounterEvent::TransposePreloadUnrollerActiveCycles;
        assert_eq!(EVENT_NAMES[last as usize], "TRANSPOSE_PRELOAD_UNROLLER_ACTIVE_CYCLES");
        assert_eq!(EVENT_NAMES[CounterEvent::WdmaTlWaitCycles as usize], "WDMA_TL_WAIT_CYCLES");
        assert_eq!(EXTERNAL_NAMES[CounterExternal::WdmaTotalLatency as usize], "WDMA_TOTAL_LATENCY");
    }

    #[test]
    fn a_build_without_counters_never_takes_the_command() {
        let config = GemminiConfig { num_counter: 0, ..GemminiConfig::default16() };
        assert!(!CounterFile::new(&config).ready());
    }
}
