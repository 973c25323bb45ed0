//! Idle time is skipped, and rows that move as known beforehand are moved together: with and without that every golden case
//! gives the same events in the same cycles, and without an observer the same totals and the same memory.

use std::path::Path;

use pollux_memory::Memory;
use pollux_sim::event::{Cycle, Event, NoObserver};
use pollux_sim::host::StreamHost;
use pollux_sim::memory::{BenchMemory, MemorySystem};
use pollux_sim::simulation::{RunError, RunSummary, Simulation};
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench_simulation, config_of};

/// Runs longer than this are those of streams on which the hardware itself stops.
const LIMIT: Cycle = 1_000_000;

struct Run {
    events: Vec<(Cycle, Event)>,
    summary: RunSummary,
    outcome: Result<RunSummary, RunError>,
    memory: Memory,
}

fn run(case: &GoldenCase, skip_idle: bool) -> Run {
    let config = config_of(case).expect("a named configuration");
    let mut simulation = bench_simulation(case, &config, true);
    simulation.skip_idle = skip_idle;
    let mut events = Vec::new();
    let outcome = simulation.run(&mut |cycle: Cycle, event: &Event| events.push((cycle, *event)), LIMIT);
    Run { events, summary: simulation.summary(), outcome, memory: simulation.memory.memory().clone() }
}

/// A run that records no events, as fast as it can be.
fn unobserved(case: &GoldenCase) -> Simulation<StreamHost, BenchMemory> {
    let config = config_of(case).expect("a named configuration");
    let mut simulation = bench_simulation(case, &config, false);
    // Whether the run comes to its end is seen from the observed ones.
    let _ = simulation.run(&mut NoObserver, LIMIT);
    simulation
}

fn assert_equal(group: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let (mut simulated, mut cycles) = (0, 0);
    for folder in GoldenCase::find(&dir).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let (skipping, stepping) = (run(&case, true), run(&case, false));
        let name = &case.name;
        let differs = skipping.events.iter().zip(&stepping.events).find(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: first event that differs");
        assert_eq!(skipping.events.len(), stepping.events.len(), "{name}");
        assert_eq!(skipping.outcome.is_ok(), stepping.outcome.is_ok(), "{name}");
        simulated += skipping.summary.simulated;
        cycles += skipping.summary.cycles;
        let [a, b] = [&skipping, &stepping].map(|run| RunSummary { simulated: 0, ..run.summary });
        assert_eq!(a, b, "{name}");

        let unobserved = unobserved(&case);
        assert_eq!(RunSummary { simulated: 0, ..unobserved.summary() }, b, "{name}");
        assert!(unobserved.memory.memory() == &stepping.memory, "{name}: memory of the unobserved run");
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
