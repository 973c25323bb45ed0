//! Idle time is skipped, and rows that move as known beforehand are moved together: with and without that every golden case
//! gives the same events in the same cycles, and without an observer the same totals and the same memory.

use std::path::Path;

use pollux_sim::host::Processor;
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::{Cycle, Event, NoObserver, Observer};
use pollux_sim::runner::Outcome;
use pollux_sim::simulation::{RunError, RunSummary};
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

/// Runs longer than this are those of streams on which the hardware itself stops.
const LIMIT: Cycle = 1_000_000;

struct Run {
    outcome: Outcome,
    error: Option<RunError>,
}

fn run(case: &GoldenCase, plain: bool, observer: &mut impl Observer) -> Run {
    let config = config_of(case).expect("a named configuration");
    let mut runner = bench(case, &config).plain(plain).limit(LIMIT);
    match runner.run(case.items.clone(), initial_memory(case), observer) {
        Ok(outcome) => Run { outcome, error: None },
        Err(stopped) => Run { outcome: stopped.outcome, error: Some(stopped.error) },
    }
}

fn recorded(case: &GoldenCase, plain: bool) -> (Run, Vec<(Cycle, Event)>) {
    let mut events = Vec::new();
    let run = run(case, plain, &mut |cycle: Cycle, event: &Event| events.push((cycle, *event)));
    (run, events)
}

/// Totals without the number of cycles that were simulated, which skipping is to change.
fn totals(run: &Run) -> RunSummary {
    let mut summary = run.outcome.summary;
    summary.simulated = 0;
    summary
}

fn assert_equal(group: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let (mut simulated, mut cycles) = (0, 0);
    for folder in GoldenCase::find(&dir).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let ((skipping, events), (stepping, expected)) = (recorded(&case, false), recorded(&case, true));
        let name = &case.name;
        let differs = events.iter().zip(&expected).find(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: first event that differs");
        assert_eq!(events.len(), expected.len(), "{name}");
        simulated += skipping.outcome.summary.simulated;
        cycles += skipping.outcome.summary.cycles;
        for run in [&skipping, &run(&case, false, &mut NoObserver)] {
            assert_eq!(run.error, stepping.error, "{name}");
            assert_eq!(totals(run), totals(&stepping), "{name}");
            assert!(run.outcome.memory == stepping.outcome.memory, "{name}: memory");
        }
    }
    assert!(simulated < cycles, "nothing was skipped");
}

#[test]
fn skipping_changes_nothing_in_the_directed_cases() {
    assert_equal("directed");
}

#[test]
fn skipping_changes_nothing_in_the_random_cases() {
    assert_equal("random");
}

#[test]
fn skipping_changes_nothing_in_the_software_cases() {
    assert_equal("software");
}

/// The same behind caches and with a processor that runs ahead, neither of which the golden cases have.
#[test]
fn skipping_changes_nothing_behind_caches_and_with_a_processor_that_runs_ahead() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/software");
    let processor: Processor = "rocket:loop_ws=30,loop_conv=70".parse().expect("a processor");
    let memory: MemoryModel = "firesim:l2_kib=4,llc_kib=16,l2_requests=3,llc_misses=2".parse().expect("a memory");
    for folder in GoldenCase::find(&dir).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let config = config_of(&case).expect("a named configuration");
        let run = |plain| {
            let mut runner = bench(&case, &config).memory(memory).processor(Some(processor)).plain(plain).limit(LIMIT);
            let outcome = runner.run(case.items.clone(), initial_memory(&case), &mut NoObserver).expect("it ends");
            Run { outcome, error: None }
        };
        let (skipping, stepping) = (run(false), run(true));
        assert_eq!(totals(&skipping), totals(&stepping), "{}", case.name);
        assert!(skipping.outcome.memory == stepping.outcome.memory, "{}: memory", case.name);
        assert!(skipping.outcome.summary.simulated <= stepping.outcome.summary.simulated, "{}", case.name);
    }
}
