//! Timing does not depend on values: a machine without them gives the same events in the same cycles.
//!
//! The one exception, the normalizer's divisions with a zero operand, comes from the functional model.

use std::path::Path;

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::ValidConfig;
use pollux_memory::Memory;
use pollux_sim::observer::{Cycle, Event, NoObserver, Observer};
use pollux_sim::runner::{Outcome, Run, Runner, Stopped};
use pollux_sim::simulation::{RunError, RunSummary};
use pollux_sim::values::ZeroDivisors;
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

/// Runs longer than this are those of streams on which the hardware itself stops.
const LIMIT: Cycle = 1_000_000;

/// How a run ended.
#[derive(Debug, PartialEq)]
struct End {
    summary: RunSummary,
    error: Option<RunError>,
    traffic_at_the_port: bool,
}

fn end<V: Run>(result: Result<Outcome<V>, Box<Stopped<V>>>) -> (End, Memory) {
    let (outcome, error) = match result {
        Ok(outcome) => (outcome, None),
        Err(stopped) => (stopped.outcome, Some(stopped.error)),
    };
    let traffic_at_the_port = outcome.machine.in_flight() > 0;
    (End { summary: outcome.summary, error, traffic_at_the_port }, outcome.memory)
}

/// The functional model's list of the divisions with a zero operand.
fn zero_divisors(config: &ValidConfig, case: &GoldenCase) -> ZeroDivisors {
    let policy = Policy::all(Action::Ignore);
    let mut model = FunctionalModel::with_policy(config.clone(), initial_memory(case), policy);
    model.run(&case.items).expect("nothing is an error");
    model.divisions().zero().iter().copied().collect()
}

fn run<V: Run>(mut runner: Runner<'_, V>, case: &GoldenCase, observer: &mut impl Observer) -> (End, Memory) {
    end(runner.run(case.items.clone(), initial_memory(case), observer))
}

fn recorded<V: Run>(runner: Runner<'_, V>, case: &GoldenCase) -> ((End, Memory), Vec<(Cycle, Event)>) {
    let mut events = Vec::new();
    let end = run(runner, case, &mut |cycle: Cycle, event: &Event| events.push((cycle, *event)));
    (end, events)
}

/// Number of the cases that need the oracle.
fn assert_equal(group: &str) -> usize {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let mut asked = 0;
    for folder in GoldenCase::find(&dir).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let config = config_of(&case).expect("a named configuration");
        let (name, oracle) = (&case.name, zero_divisors(&config, &case));
        asked += usize::from(!oracle.is_empty());
        let runner = |plain| bench(&case, &config).plain(plain).limit(LIMIT);
        let without = |plain| runner(plain).without_values().zero_divisors(oracle.clone());
        for plain in [false, true] {
            let ((full, _), expected) = recorded(runner(plain), &case);
            let ((timing, memory), events) = recorded(without(plain), &case);
            let differs = events.iter().zip(&expected).find(|(a, b)| a != b);
            assert_eq!(differs, None, "{name}: first event that differs");
            assert_eq!(events.len(), expected.len(), "{name}");
            assert_eq!(timing, full, "{name}");
            assert!(memory == unchanged(&case), "{name}: memory");
            assert_eq!(run(without(plain), &case, &mut NoObserver).0, run(runner(plain), &case, &mut NoObserver).0);
        }
    }
    asked
}

/// Memory as it is if nothing but the host writes.
fn unchanged(case: &GoldenCase) -> Memory {
    let mut memory = initial_memory(case);
    for item in &case.items {
        if let pollux_isa::StreamItem::Write { address, bytes } = item {
            memory.write(*address, bytes);
        }
    }
    memory
}

#[test]
fn the_directed_cases_take_the_same_cycles_without_values() {
    println!("{}", assert_equal("directed"));
}

#[test]
fn the_random_cases_take_the_same_cycles_without_values() {
    println!("{}", assert_equal("random"));
}

#[test]
fn the_software_cases_take_the_same_cycles_without_values() {
    println!("{}", assert_equal("software"));
}
