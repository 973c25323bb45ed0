//! Exact replay: what is taken from the table is what would have been simulated.
//!
//! `POLLUX_RANDOM_CASES` sets the number of random programs (400 by default), `POLLUX_RANDOM_SEED` the seed.

mod mutations;
mod random;
mod relocation;

use std::collections::BTreeMap;
use std::path::Path;

use pollux_sim::counts::CountingObserver;
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_sim::report::Profiler;
use pollux_sim::runner::{Outcome, Stopped};
use pollux_sim::simulation::{RunError, RunSummary};
use pollux_sim::values::Timing;
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

const LIMIT: u64 = 1_000_000;

/// The totals and the error of a run, without what tells how it was run.
fn end(result: Result<Outcome<Timing>, Box<Stopped<Timing>>>) -> (RunSummary, Option<RunError>) {
    let (outcome, error) = match result {
        Ok(outcome) => (outcome, None),
        Err(stopped) => (stopped.outcome, Some(stopped.error)),
    };
    let mut summary = outcome.summary;
    (summary.simulated, summary.replayed) = (0, 0);
    (summary, error)
}

#[test]
fn golden_cases_in_one_table() {
    let every = ReplayOptions { every_command: true, check: 1.0, ..ReplayOptions::default() };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let [mut tables, mut counting, mut profiling]: [BTreeMap<String, ReplayTable>; 3] = Default::default();
    let (mut checked, mut cases, mut states) = (0, 0, 0);
    for folder in GoldenCase::find(&golden).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let config = config_of(&case).expect("a valid configuration");
        let runner = || bench(&case, &config).without_values().limit(LIMIT);
        let plain = end(runner().replay(None).run(case.items.clone(), initial_memory(&case), &mut NoObserver));
        let memory = (case.latency, case.a_period, case.d_period);
        let table = tables.entry(format!("{config:?} {memory:?}")).or_default();
        for options in [every, ReplayOptions::default()] {
            let mut runner = runner().replay(Some(options)).replay_table(table);
            let result = runner.run(case.items.clone(), initial_memory(&case), &mut NoObserver);
            let totals = result.as_ref().map_or_else(|stopped| stopped.outcome.replay, |outcome| outcome.replay);
            let totals = totals.unwrap_or_default();
            (checked, states) = (checked + totals.checked, states.max(totals.states));
            drop(runner);
            assert_eq!(end(result), plain, "{} {options:?}", folder.display());
        }
        let mut counted = [None, Some(every), Some(ReplayOptions { check: 0.0, ..every })].map(|options| {
            let table = counting.entry(format!("{config:?} {memory:?}")).or_default();
            let mut observer = CountingObserver::default();
            let mut runner = runner().replay(options).replay_table(table);
            let result = runner.run(case.items.clone(), initial_memory(&case), &mut observer);
            drop(runner);
            assert_eq!(end(result), plain, "{} {options:?}, counted", folder.display());
            observer.operations().to_vec()
        });
        let simulated = std::mem::take(&mut counted[0]);
        for replayed in &counted[1..] {
            assert_eq!(*replayed, simulated, "{}: counts by operation", folder.display());
        }
        let profiled = [None, Some(every), Some(ReplayOptions { check: 0.0, ..every })].map(|options| {
            let table = profiling.entry(format!("{config:?} {memory:?}")).or_default();
            let mut observer = (CountingObserver::default(), Profiler::new(&config, &case.items));
            let mut runner = runner().replay(options).replay_table(table);
            let result = runner.run(case.items.clone(), initial_memory(&case), &mut observer);
            drop(runner);
            let outcome = result.as_ref().unwrap_or_else(|stopped| &stopped.outcome);
            let report = observer.1.finish(&outcome.summary);
            assert_eq!(end(result), plain, "{} {options:?}, profiled", folder.display());
            (report, observer.0.operations().to_vec())
        });
        let [simulated, checked_ones, replayed] = profiled;
        assert_eq!(checked_ones, simulated, "{}: profile", folder.display());
        assert_eq!(replayed, simulated, "{}: profile", folder.display());
        cases += 1;
    }
    println!("{cases} cases, {checked} segments checked, {states} states in the largest table");
    assert!(checked > 100);
}
