//! Random valid configurations, each with a random legal program: the emulator gives the same totals and memories whether it skips
//! and moves rows together or evaluates every cycle by itself, a copy made at half time comes to the same end, and the
//! functional model ends with the same memories.
//!
//! `POLLUX_RANDOM_CASES` sets the number of cases (400 by default), `POLLUX_RANDOM_SEED` the seed; a failure is shrunk, and its
//! configuration and program are printed.

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::config::{Capacity, Dataflow, ExpVariant, ScaleArgs, ScaleUnits};
use pollux_isa::legality::check_program;
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
use pollux_testkit::{Gene, RandomProgram, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};

/// Cycles after which a run is taken for endless.
const LIMIT: u64 = 400_000;

/// Cycles without an outcome after which it is taken for a livelock.
const WATCHDOG: u64 = 20_000;

/// Random words of a configuration; more than it has fields.
const CONFIG_WORDS: usize = 64;

/// Picks the fields of a configuration; the word 0 always picks the first choice, and words that are used up count as 0.
struct Words<'a>(std::slice::Iter<'a, u32>);

impl Words<'_> {
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.next().copied().unwrap_or(0) as usize % choices.len()]
    }

    fn flag(&mut self) -> bool {
        self.pick(&[true, false])
    }

    /// A scaler of loads or reads, if built; `counts` are the possible numbers of shared multipliers.
    fn scaler(&mut self, base: Option<ScaleArgs>, counts: &[u32]) -> Option<ScaleArgs> {
        let (latency, built, shared) =
            (self.pick(&[4, 1, 2, 3, 8]), self.pick(&[true, true, true, false]), self.flag());
        let count = self.pick(counts);
        let units = if shared { ScaleUnits::PerColumn } else { ScaleUnits::Count(count) };
        base.filter(|_| built).map(|args| ScaleArgs { latency, units, ..args })
    }
}

/// The configuration that words stand for: small memories, so that operations meet.
fn config(words: &[u32]) -> GemminiConfig {
    let mut words = Words(words.iter());
    let base = GemminiConfig::default16();
    let float = base.mvin_scale_args;
    let dim = words.pick(&[4, 8, 16, 4, 32]);
    let split = |words: &mut Words<'_>| words.pick(&[1, 1, 2, 4, dim]).min(dim);
    let (tile_rows, tile_columns) = (split(&mut words), split(&mut words));
    let (sp_banks, acc_banks) = (words.pick(&[4, 1, 2, 8]), words.pick(&[2, 1, 4]));
    let (sp_matrices, acc_matrices) = (words.pick(&[64, 128, 256]), words.pick(&[32, 16, 64]));
    let single_ported = words.pick(&[false, false, true]);
    let buswidth = words.pick(&[128, 64, 256, 32]);
    let (narrow, wide) = (words.flag(), words.pick(&[true, true, false]));
    let has_normalizations = words.flag();
    let unit_counts: &[u32] = if dim < 8 { &[4] } else { &[4, 8, 6, 5] };
    let acc_scale = words.scaler(float, unit_counts);
    GemminiConfig {
        name: "random".to_owned(),
        dataflow: words.pick(&[Dataflow::Both, Dataflow::Ws, Dataflow::Os]),
        tile_rows,
        tile_columns,
        mesh_rows: dim / tile_rows,
        mesh_columns: dim / tile_columns,
        ld_queue_length: words.pick(&[8, 1, 2, 3]),
        st_queue_length: words.pick(&[2, 1, 4]),
        // With three or four entries the emulator and the functional model disagree (the book's chapter on validation).
        ex_queue_length: words.pick(&[8, 5, 6, 12]),
        reservation_station_entries_ld: words.pick(&[8, 2, 4, 16]),
        reservation_station_entries_st: words.pick(&[4, 8]),
        reservation_station_entries_ex: words.pick(&[16, 2, 4, 8]),
        sp_banks,
        sp_singleported: words.flag(),
        sp_capacity: Capacity::Matrices(sp_matrices),
        // A delay above DIM is not modelled exactly (the book's chapter on validation).
        spad_read_delay: words.pick(&[4, 1, 2, 3]),
        acc_banks,
        acc_singleported: single_ported,
        acc_sub_banks: single_ported.then(|| words.pick(&[2, 4])),
        acc_capacity: Capacity::Matrices(acc_matrices),
        acc_latency: words.pick(&[2, 3, 4, 6]),
        dma_maxbytes: words.pick(&[64, 128, 256]).max(buswidth / 8),
        dma_buswidth: buswidth,
        mvin_scale_args: words.scaler(float, &[4, 2, 1]),
        mvin_scale_acc_args: words.scaler(float, &[4, 2, 1]),
        // The normalizer multiplies by factors of this type.
        acc_scale_args: acc_scale.or(base.acc_scale_args.filter(|_| has_normalizations)).map(|args| match args.units {
            // The generator gives no unit without norm functions its lanes.
            ScaleUnits::Count(_) if !has_normalizations => ScaleArgs { units: ScaleUnits::PerColumn, ..args },
            _ => args,
        }),
        acc_read_full_width: wide,
        acc_read_small_width: narrow || !wide,
        tlb_size: words.pick(&[4, 8, 32]),
        use_tlb_register_filter: words.flag(),
        use_shared_tlb: words.flag(),
        max_in_flight_mem_reqs: words.pick(&[16, 2, 3, 5, 8, 64]),
        ex_write_to_spad: words.flag(),
        tile_latency: words.pick(&[0, 1, 2]),
        mesh_output_delay: words.pick(&[1, 2, 3]),
        num_counter: words.pick(&[8, 0, 1]),
        has_training_convs: words.flag(),
        has_max_pool: words.flag(),
        has_nonlinear_activations: words.pick(&[true, true, false]),
        has_dw_convs: words.flag(),
        has_normalizations,
        has_first_layer_optimizations: words.flag(),
        has_loop_conv: words.flag(),
        softmax_exp: words.pick(&[ExpVariant::Polynomial8c3f992, ExpVariant::Released]),
        ..base
    }
}

/// What surrounds a program.
#[derive(Clone, Debug)]
struct Setting {
    config: Vec<u32>,
    memory: MemoryModel,
    /// Cycles of a page-table walk; none without translation.
    walk_latency: Option<u32>,
    interval: u64,
    dense: bool,
}

/// What is wrong with a program in a configuration, if anything.
fn difference(config: &ValidConfig, program: &RandomProgram, setting: &Setting) -> Option<String> {
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
            Err(RunError::Livelock { .. } | RunError::Limit { .. }) if self.may_livelock() => {
                let agrees = matches!(expected, Err(RunError::Livelock { .. } | RunError::Limit { .. }));
                return (!agrees).then(|| format!("a livelock, but every cycle by itself: {expected:?}"));
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
        if totals.violations.iter().any(|violated| !violated.violation.is_harmless()) {
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

    /// A shared TLB without page registers may serve the two engines in turns that never let one of them go on.
    fn may_livelock(&self) -> bool {
        self.config.use_shared_tlb && !self.config.use_tlb_register_filter
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
    let config = prop::collection::vec(any::<u32>(), CONFIG_WORDS)
        .prop_filter("a configuration that is modelled", |words| config(words).validate().is_ok());
    (config, memory, walk_latency, interval, any::<bool>()).prop_map(
        |(config, memory, walk_latency, interval, dense)| Setting { config, memory, walk_latency, interval, dense },
    )
}

fn genes() -> impl Strategy<Value = Vec<Gene>> {
    prop::collection::vec(any::<Gene>(), 1..12)
}

/// The fields that differ from the default configuration, and the program.
fn listing(config: &GemminiConfig, setting: &Setting, program: &RandomProgram) -> String {
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
        let config = config(&setting.config).validated().expect("a valid configuration");
        let program = program(&config, setting.dense, &genes);
        match difference(&config, &program, &setting) {
            None => Ok(()),
            Some(difference) => {
                Err(TestCaseError::fail(format!("{difference}\n{}", listing(&config, &setting, &program))))
            }
        }
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
