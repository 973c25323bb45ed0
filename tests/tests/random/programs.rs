//! Random legal programs: the cycle-level emulator and the functional model end with the same memories, and the emulator with
//! the same totals whether it skips and moves rows together or evaluates every cycle by itself, and with its values or without.
//!
//! `POLLUX_RANDOM_CASES` sets the number of programs (500 by default); a failure is shrunk, and its genes are printed.

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::legality::check_program;
use pollux_isa::{Command, GemminiConfig, StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::machine::{AccRow, SpadRow};
use pollux_sim::machine::{PageTables, Translation};
use pollux_sim::memory::{BandwidthParameters, BenchParameters, CacheParameters, DramL2Parameters, MemoryModel};
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::ReplayOptions;
use pollux_sim::runner::Runner;
use pollux_sim::simulation::RunSummary;
use pollux_sim::values::ZeroDivisors;
use pollux_testkit::{Gene, RandomProgram, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

/// Cycles after which a run is taken for endless.
const LIMIT: u64 = 10_000_000;

/// What surrounds a program.
#[derive(Clone, Debug)]
struct Setting {
    config: &'static str,
    memory: MemoryModel,
    /// Cycles of a page-table walk; none without translation.
    walk_latency: Option<u32>,
    interval: u64,
    dense: bool,
}

/// Main memory and local memories after a run, as far as the models differ.
fn difference(config: &ValidConfig, program: &RandomProgram, setting: &Setting) -> Option<String> {
    if let Some((number, illegality)) = check_program(config, &program.items).first() {
        return Some(format!("command {number} is illegal: {illegality}"));
    }
    let mut functional =
        FunctionalModel::with_policy(config.clone(), program.memory.clone(), Policy::all(Action::Ignore));
    functional.run(&program.items).unwrap();
    let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
    let runner = || {
        Runner::new(config)
            .memory(setting.memory)
            .translation(setting.walk_latency.map_or(Translation::Bare, paged))
            .interval(setting.interval)
            .limit(LIMIT)
    };
    let run = |plain: bool| runner().plain(plain).run(program.items.clone(), program.memory.clone(), &mut NoObserver);
    let outcome = match run(false) {
        Ok(outcome) => outcome,
        Err(stopped) => return Some(stopped.to_string()),
    };
    let plain_summary = match run(true) {
        Ok(outcome) => outcome.summary,
        Err(stopped) => return Some(format!("every cycle by itself: {stopped}")),
    };
    let totals = |summary: RunSummary| {
        let mut summary = summary;
        (summary.simulated, summary.replayed) = (0, 0);
        summary
    };
    if totals(plain_summary) != totals(outcome.summary) {
        return Some(format!("{:?}, but every cycle by itself: {plain_summary:?}", outcome.summary));
    }
    let zero_divisors = ZeroDivisors::from_iter(functional.divisions().zero().iter().copied());
    for (plain, expected) in [(false, outcome.summary), (true, plain_summary)] {
        let timing = |replay| {
            let runner = runner().plain(plain).without_values().zero_divisors(zero_divisors.clone()).replay(replay);
            let timing = { runner }.run(program.items.clone(), program.memory.clone(), &mut NoObserver);
            timing.map(|timing| timing.summary).map_err(|stopped| stopped.to_string())
        };
        let simulated = timing(None);
        if simulated.as_ref() != Ok(&expected) {
            return Some(format!("{expected:?}, but without values: {simulated:?}"));
        }
        let replayed = timing(Some(ReplayOptions::default()));
        if replayed.clone().map(totals) != Ok(totals(expected)) {
            return Some(format!("{expected:?}, but replayed: {replayed:?}"));
        }
    }
    let layout = config.layout();
    let (machine, dim) = (&outcome.machine, config.dim() as usize);
    for row in 0..layout.sp_rows {
        let (cycle, expected) = (machine.spad_row(SpadRow(row)), functional.scratchpad().row(row as usize));
        if cycle.map(|cycle| &cycle[..dim]) != Some(expected) {
            return Some(format!("scratchpad row {row}: cycle model {cycle:?}, functional model {expected:?}"));
        }
    }
    for row in 0..layout.acc_rows {
        let (cycle, expected) = (machine.acc_row(AccRow(row)), functional.accumulator().row(row as usize));
        if cycle.map(|cycle| &cycle[..dim]) != Some(expected) {
            return Some(format!("accumulator row {row}: cycle model {cycle:?}, functional model {expected:?}"));
        }
    }
    let difference = outcome.memory.first_difference_anywhere(functional.memory());
    let read = |memory: &Memory, address| memory.read_vec(address, 16);
    difference.map(|address| {
        let (cycle, expected) = (read(&outcome.memory, address), read(functional.memory(), address));
        format!("main memory from {address:#x} on: cycle model {cycle:?}, functional model {expected:?}")
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
    let walk_latency = prop_oneof![3 => Just(None), 1 => (1u32..100).prop_map(Some)];
    let configs: &[&str] = &["default16", "small4", "norm16", "lean", "chip", "large_chip", "dim8", "dim64"];
    let interval = prop_oneof![3 => Just(1u64), 1 => 1u64..=12];
    (prop::sample::select(configs), memory, walk_latency, interval, any::<bool>()).prop_map(
        |(config, memory, walk_latency, interval, dense)| Setting { config, memory, walk_latency, interval, dense },
    )
}

fn genes() -> impl Strategy<Value = Vec<Gene>> {
    prop::collection::vec(any::<Gene>(), 1..40)
}

#[test]
fn both_models_end_with_the_same_memories() {
    let cases = std::env::var("POLLUX_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let seed = std::env::var("POLLUX_RANDOM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(setting(), genes()), |(setting, genes)| {
        let config = GemminiConfig::by_name(setting.config).unwrap();
        let program = program(&config, setting.dense, &genes);
        match difference(&config, &program, &setting) {
            None => Ok(()),
            Some(difference) => {
                let text = |item: &StreamItem| match item.command() {
                    Some(cmd) => format!("{:x?}", Command::from_rocc(&config, *cmd)),
                    None => format!("{item:?}"),
                };
                let listing: Vec<String> = program.items.iter().map(text).collect();
                Err(TestCaseError::fail(format!("{difference}\n{}", listing.join("\n"))))
            }
        }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
