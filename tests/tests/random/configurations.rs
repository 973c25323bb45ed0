//! Random valid configurations, each with a random legal program: the emulator gives the same totals and memories whether it skips
//! and moves rows together or evaluates every cycle by itself, a copy made at half time comes to the same end, and the
//! functional model ends with the same memories.
//!
//! `POLLUX_RANDOM_CASES` sets the number of cases (400 by default), `POLLUX_RANDOM_SEED` the seed; a failure is shrunk, and its
//! configuration and program are printed.

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::config::{Capacity, Source};
use pollux_isa::legality::check_program;
use pollux_isa::testkit::valid_config;
use pollux_isa::{Command, GemminiConfig, StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::host::StreamHost;
use pollux_sim::machine::{AccRow, PageTables, SpadRow, Translation};
use pollux_sim::memory::{
    BandwidthMemory, BandwidthParameters, BenchMemory, BenchParameters, CacheParameters, DramL2Memory,
    DramL2Parameters, MemoryModel, MemorySystem,
};
use pollux_sim::observer::NoObserver;
use pollux_sim::simulation::{RunError, RunSummary, Simulation};
use pollux_sim::violation::Violation;
use pollux_testkit::{Gene, RandomProgram, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};

/// Cycles after which a run is taken for endless.
const LIMIT: u64 = 400_000;

/// Cycles without an outcome after which it is taken for a livelock.
const WATCHDOG: u64 = 20_000;

/// What [`valid_config`] leaves out, since in such a configuration the hardware itself can lose data or never end. A run in
/// which it does is known by the rule of the RTL that it breaks, but for the shared TLB.
#[derive(Clone, Copy, Debug)]
enum Weakness {
    /// Three or four entries in the execute queue: products lose transposed weights.
    ShortExecuteQueue(u32),
    /// A single-ported accumulator of one sub-bank: results overflow its write queue.
    OneSubBank,
    /// A row of the accumulator is written so late that the next result for it is not taken.
    SlowAccumulator(u32),
    /// A shared TLB without page registers may serve the two engines in turns that never let one of them go on.
    SharedTlbWithoutFilters,
}

impl Weakness {
    fn apply(self, config: ValidConfig) -> ValidConfig {
        let mut config = config.into_inner();
        match self {
            Self::ShortExecuteQueue(entries) => config.ex_queue_length = entries,
            Self::OneSubBank => (config.acc_singleported, config.acc_sub_banks) = (true, Some(1)),
            Self::SlowAccumulator(latency) => config.acc_latency = latency,
            Self::SharedTlbWithoutFilters => (config.use_shared_tlb, config.use_tlb_register_filter) = (true, false),
        }
        config.validated().expect("no rule forbids it")
    }
}

/// The local memories get the matrices that every random program has room in.
fn with_room(config: ValidConfig) -> ValidConfig {
    let mut config = config.into_inner();
    config.sp_capacity = Capacity::Matrices((config.sp_rows() / config.dim()).max(64));
    config.acc_capacity = Capacity::Matrices((config.acc_rows() / config.dim()).max(16));
    config.validated().expect("larger memories")
}

/// Any valid configuration, strong or weak. Nothing is left out that can be built and is modelled, but for sizes: memories of
/// fewer or many more matrices, longer queues and latencies, odd numbers of requests above 8.
fn configuration() -> impl Strategy<Value = ValidConfig> {
    let weakness = prop_oneof![
        4 => Just(None),
        1 => (3u32..5).prop_map(|entries| Some(Weakness::ShortExecuteQueue(entries))),
        1 => Just(Some(Weakness::OneSubBank)),
        1 => (4u32..7).prop_map(|latency| Some(Weakness::SlowAccumulator(latency))),
        1 => Just(Some(Weakness::SharedTlbWithoutFilters)),
    ];
    (valid_config().prop_map(with_room), weakness)
        .prop_map(|(config, weakness)| weakness.map_or(config.clone(), |weakness| weakness.apply(config)))
}

/// What surrounds a program.
#[derive(Clone, Debug)]
struct Setting {
    config: ValidConfig,
    memory: MemoryModel,
    /// Cycles of a page-table walk; none without translation.
    walk_latency: Option<u32>,
    interval: u64,
    dense: bool,
}

/// What is wrong with a program in a configuration, if anything.
fn difference(program: &RandomProgram, setting: &Setting) -> Option<String> {
    let config = &setting.config;
    if let Some((number, illegality)) = check_program(config, &program.items).first() {
        return Some(format!("command {number} is illegal: {illegality}"));
    }
    let mut functional =
        FunctionalModel::with_policy(config.clone(), program.memory.clone(), Policy::all(Action::Ignore));
    functional.run(&program.items).unwrap();
    let beat_bytes = config.beat_bytes() as usize;
    let memory = program.memory.clone();
    let run = Run { config, program, setting, functional };
    match setting.memory {
        MemoryModel::Bench(p) => run.compare(BenchMemory::new(p, beat_bytes, memory)),
        MemoryModel::Bandwidth(p) => run.compare(BandwidthMemory::new(p, beat_bytes, memory)),
        MemoryModel::Dram(p) => run.compare(DramL2Memory::new(p, beat_bytes, memory)),
        other => Some(format!("the test knows nothing of {other}")),
    }
}

/// One case.
struct Run<'a> {
    config: &'a ValidConfig,
    program: &'a RandomProgram,
    setting: &'a Setting,
    /// The functional model after the program.
    functional: FunctionalModel,
}

type Ended<M> = Simulation<StreamHost, M>;

impl Run<'_> {
    fn compare(&self, mut memory: impl MemorySystem + Clone) -> Option<String> {
        let host = StreamHost::new(self.program.items.clone().into(), self.setting.interval, memory.memory_mut());
        let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
        let translation = self.setting.walk_latency.map_or(Translation::Bare, paged);
        let mut start = Simulation::new(self.config, translation, host, memory, false);
        start.watchdog = WATCHDOG;
        let (mut fast, mut plain) = (start.clone(), start.clone());
        plain.skip_idle = false;
        let (ended, expected) = (finish(&mut fast), finish(&mut plain));
        let totals = match ended {
            Ok(totals) => totals,
            Err(error) if self.may_not_end(&fast) => {
                let agrees = match error {
                    RunError::Deadlock { .. } => expected.as_ref() == Err(&error),
                    _ => matches!(expected, Err(RunError::Livelock { .. } | RunError::Limit { .. })),
                };
                return (!agrees).then(|| format!("{error}\nbut every cycle by itself: {expected:?}"));
            }
            Err(error) => return Some(error.to_string()),
        };
        if expected.as_ref() != Ok(&totals) {
            return Some(format!("{totals:?}, but every cycle by itself: {expected:?}"));
        }
        let mut original = start;
        let half = original.run(&mut NoObserver, totals.cycles / 2);
        let mut copy = original.clone();
        let ends = [finish(&mut original), finish(&mut copy)];
        if ends.iter().any(|end| end.as_ref() != Ok(&totals)) {
            return Some(format!("{totals:?}, but stopped at half time ({half:?}): {ends:?}"));
        }
        let lost = [Violation::WeightsLost, Violation::ExecuteWriteSkipped, Violation::WriteQueueOverflow];
        let lost = totals.violations.iter().find(|violated| lost.contains(&violated.violation));
        if let Some(lost) = lost.filter(|_| !self.warned()) {
            return Some(format!("nobody is warned that this configuration can lose data, but {lost}"));
        }
        if !keeps_the_rules(&fast) {
            // The hardware does something else than the program asks for.
            return None;
        }
        [
            ("at once", fast),
            ("every cycle by itself", plain),
            ("from half time on", original),
            ("a copy from half time", copy),
        ]
        .iter()
        .find_map(|(how, ended)| Some(format!("{how}: {}", self.memories_differ(ended)?)))
    }

    /// Whoever uses the configuration is warned that the hardware can lose data in it.
    fn warned(&self) -> bool {
        self.config.warnings().iter().any(|warning| matches!(warning.source, Source::Lossy(_)))
    }

    /// The hardware itself need not come to an end.
    fn may_not_end<M: MemorySystem>(&self, ended: &Ended<M>) -> bool {
        self.config.use_shared_tlb && !self.config.use_tlb_register_filter || !keeps_the_rules(ended)
    }

    /// The first row or byte in which an ended simulation and the functional model differ.
    fn memories_differ<M: MemorySystem>(&self, ended: &Ended<M>) -> Option<String> {
        let (layout, functional) = (self.config.layout(), &self.functional);
        let machine = &ended.machine;
        for row in 0..layout.sp_rows {
            let (cycle, expected) = (machine.spad_row(SpadRow(row)), functional.scratchpad().row(row as usize));
            if cycle != Some(expected) {
                return Some(format!("scratchpad row {row}: cycle model {cycle:?}, functional model {expected:?}"));
            }
        }
        for row in 0..layout.acc_rows {
            let (cycle, expected) = (machine.acc_row(AccRow(row)), functional.accumulator().row(row as usize));
            if cycle != Some(expected) {
                return Some(format!("accumulator row {row}: cycle model {cycle:?}, functional model {expected:?}"));
            }
        }
        let address = ended.memory.memory().first_difference_anywhere(functional.memory())?;
        let read = |memory: &Memory| memory.read_vec(address, 16);
        let (cycle, expected) = (read(ended.memory.memory()), read(functional.memory()));
        Some(format!("main memory from {address:#x} on: cycle model {cycle:?}, functional model {expected:?}"))
    }
}

/// No rule of the RTL was broken that its silicon depends on.
fn keeps_the_rules<M: MemorySystem>(ended: &Ended<M>) -> bool {
    ended.summary().violations.iter().all(|violated| violated.violation.is_harmless())
}

/// Runs to the end; totals without the number of cycles that were really simulated.
fn finish<M: MemorySystem>(simulation: &mut Ended<M>) -> Result<RunSummary, RunError> {
    simulation.run(&mut NoObserver, LIMIT).map(|mut summary| {
        summary.simulated = 0;
        summary
    })
}

fn setting() -> impl Strategy<Value = Setting> {
    let bench = (1u64..=150, 1u64..=4, 1u64..=4)
        .prop_map(|(latency, a_period, d_period)| MemoryModel::Bench(BenchParameters { latency, a_period, d_period }));
    let bandwidth = (1u64..=100, 4u64..=32, 1u64..=24).prop_map(|(latency, bytes, outstanding)| {
        MemoryModel::Bandwidth(BandwidthParameters { latency, bytes, cycles: 1, outstanding })
    });
    let dram = (200u64..=2000, 1u64..=24).prop_map(|(clock_mhz, outstanding)| {
        let cache = CacheParameters { kib: 16, ways: 2, hit_cycles: 20 };
        MemoryModel::Dram(DramL2Parameters { cache, clock_mhz, outstanding, ..DramL2Parameters::default() })
    });
    let memory = prop_oneof![3 => bench, 1 => bandwidth, 1 => dram];
    let walk_latency = prop_oneof![2 => Just(None), 1 => (1u32..100).prop_map(Some)];
    let interval = prop_oneof![3 => Just(1u64), 1 => 1u64..=12];
    (configuration(), memory, walk_latency, interval, any::<bool>()).prop_map(
        |(config, memory, walk_latency, interval, dense)| Setting { config, memory, walk_latency, interval, dense },
    )
}

fn genes() -> impl Strategy<Value = Vec<Gene>> {
    prop::collection::vec(any::<Gene>(), 1..12)
}

/// The fields that differ from the default configuration, and the program.
fn listing(setting: &Setting, program: &RandomProgram) -> String {
    let config = &setting.config;
    let default = GemminiConfig::default16().settings();
    let changed = config.settings().into_iter().zip(default).filter(|(mine, default)| mine != default);
    let fields: Vec<String> = changed.map(|((field, value), _)| format!("{field} = {value}")).collect();
    let text = |item: &StreamItem| match item.command() {
        Some(cmd) => format!("{:x?}", Command::from_rocc(config, *cmd)),
        None => format!("{item:?}"),
    };
    let items: Vec<String> = program.items.iter().map(text).collect();
    let surroundings = (setting.memory, setting.walk_latency, setting.interval);
    format!("{surroundings:?}\n{}\n{}", fields.join("\n"), items.join("\n"))
}

#[test]
fn all_ways_to_run_a_program_come_to_the_same_end_in_any_configuration() {
    let cases = std::env::var("POLLUX_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let seed = std::env::var("POLLUX_RANDOM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let runner = Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 20_000,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let result = TestRunner::new(runner).run(&(setting(), genes()), |(setting, genes)| {
        let program = program(&setting.config, setting.dense, &genes);
        match difference(&program, &setting) {
            None => Ok(()),
            Some(difference) => Err(TestCaseError::fail(format!("{difference}\n{}", listing(&setting, &program)))),
        }
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
