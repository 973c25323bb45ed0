//! Reports on every golden case: attributions are complete, and agree with what other sources say about the same run.

use std::path::{Path, PathBuf};

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::ValidConfig;
use pollux_sim::observer::{Cycle, Event, Observer};
use pollux_sim::report::{BlockReport, Profiler, RunReport};
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

/// Counts bank events.
#[derive(Default)]
struct BankEvents {
    reads: u64,
    writes: u64,
}

impl Observer for BankEvents {
    fn event(&mut self, _: Cycle, event: &Event) {
        match event {
            Event::SpadRead { .. } | Event::AccRead { .. } => self.reads += 1,
            Event::SpadWrite { .. } | Event::AccWrite { .. } => self.writes += 1,
            _ => {}
        }
    }
}

fn cases(group: &str) -> Vec<(GoldenCase, ValidConfig)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let dirs: Vec<PathBuf> = GoldenCase::find(&dir).expect("the cases are part of the project");
    let read = |dir: &PathBuf| GoldenCase::read(dir).expect("a golden case is readable");
    let with_config = |case: GoldenCase| {
        let config = config_of(&case).expect("a named configuration");
        (case, config)
    };
    dirs.iter().map(read).map(with_config).collect()
}

fn all_cases() -> impl Iterator<Item = (GoldenCase, ValidConfig)> {
    ["directed", "random", "software"].into_iter().flat_map(cases)
}

fn run(case: &GoldenCase, config: &ValidConfig, skip_idle: bool) -> (RunReport, BankEvents) {
    let mut runner = bench(case, config).plain(!skip_idle);
    let mut observer = (Profiler::new(config, &case.items), BankEvents::default());
    let outcome = runner.run(case.items.clone(), initial_memory(case), &mut observer).expect("a golden case ends");
    (observer.0.finish(&outcome.summary), observer.1)
}

fn assert_complete(name: &str, blocks: &[BlockReport], cycles: u64) {
    for block in blocks {
        assert_eq!(block.cycles(), cycles, "{name}: {:?}", block.block);
        let causes: u64 = block.causes.iter().map(|cause| cause.cycles).sum();
        assert_eq!(causes, block.stalled, "{name}: {:?}", block.block);
    }
}

#[test]
fn every_cycle_of_every_block_and_bank_is_attributed() {
    for (case, config) in all_cases() {
        let (report, events) = run(&case, &config, true);
        assert_complete(&case.name, &report.blocks, report.totals.cycles);
        for bank in &report.banks {
            assert_eq!(bank.busy + bank.stalled + bank.idle, report.totals.cycles, "{}: {bank:?}", case.name);
        }
        let (reads, writes) = report.banks.iter().fold((0, 0), |(r, w), bank| (r + bank.reads, w + bank.writes));
        assert_eq!((reads, writes), (events.reads, events.writes), "{}: bank accesses", case.name);
    }
}

#[test]
fn reports_are_the_same_with_and_without_skipping() {
    for (case, config) in all_cases() {
        let (skipped, simulated) = (run(&case, &config, true).0, run(&case, &config, false).0);
        assert_eq!(skipped, simulated, "{}", case.name);
    }
}

#[test]
fn totals_are_the_recorded_ones_and_products_those_of_the_functional_model() {
    for (case, config) in all_cases() {
        let (report, _) = run(&case, &config, true);
        let recorded = &case.summary;
        let (totals, traffic) = (&report.totals, &report.dma.traffic);
        assert_eq!(
            (totals.busy_falls, totals.busy_cycles),
            (recorded.busy_falls, recorded.busy_cycles),
            "{}",
            case.name
        );
        assert_eq!((totals.commands, totals.station_commands), (recorded.commands, recorded.station_commands));
        assert_eq!((traffic.reads, traffic.read_bytes), (recorded.reads, recorded.read_bytes), "{}", case.name);
        assert_eq!((traffic.writes, traffic.written_bytes), (recorded.writes, recorded.written_bytes), "{}", case.name);

        let mut model = FunctionalModel::with_policy(config, initial_memory(&case), Policy::all(Action::Ignore));
        model.run(&case.items).expect("nothing is an error");
        assert_eq!(report.mesh.macs, model.counts().macs, "{}", case.name);
    }
}
