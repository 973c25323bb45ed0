//! The searches against the whole truth: spaces so small that the emulator runs every mapping.

use std::cell::RefCell;
use std::ops::ControlFlow;

use pollux_energy::{EnergyTable, Prices};
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{ConvShape, Dataflow, Emission};
use pollux_mapper::search::{Found, Measured, Method, Objective, Record, Settings, pareto, search, search_with};
use pollux_mapper::whole::whole_space;
use pollux_mapper::{Factors, Limits, Mapping, Mapspace, Problem, Surroundings, emulate};

fn prices(config: &ValidConfig) -> Prices {
    EnergyTable::by_name("horowitz45-lpddr4").unwrap().prices(config).unwrap()
}

fn settings(prices: &Prices) -> Settings<'_> {
    Settings {
        objective: Objective::Cycles,
        method: Method::Exhaustive,
        limits: Limits { emission: Some(Emission::Unroller), ..Limits::default() },
        emulated_cycles: u64::MAX,
        evaluations: 1000,
        seed: 1,
        threads: 2,
        prices,
        clock_hz: 1e9,
    }
}

fn found(config: &ValidConfig, problem: &Problem, settings: &Settings<'_>) -> Found {
    search(config, problem, &Surroundings::default(), settings, &mut |_| {}).unwrap()
}

/// The least cycles of all mappings of a space, each run on the emulator.
fn truth(config: &ValidConfig, problem: &Problem, limits: &Limits) -> (u64, usize) {
    let space = Mapspace::new(config, problem, limits);
    let (mut least, mut mappings) = (u64::MAX, 0);
    let _ = space.for_each(|mapping| {
        let around = Surroundings::default();
        // Some tiles of convolutions are refused only when they are emitted.
        if let Ok(cycles) = emulate::cycles(config, problem, &mapping, &around, u64::MAX) {
            (least, mappings) = (least.min(cycles), mappings + 1);
        }
        ControlFlow::Continue(())
    });
    (least, mappings)
}

#[test]
fn the_exhaustive_search_finds_the_best_mapping_and_says_so() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let conv = |shape| Problem::conv(shape);
    for (problem, factors) in [
        (Problem::matmul(48, 64, 48), Factors::Ragged),
        (Problem::matmul(50, 70, 40), Factors::Ragged),
        (Problem::matmul(16, 200, 90), Factors::Ragged),
        (Problem::matmul(100, 30, 64), Factors::Ragged),
        (Problem::matmul(64, 64, 128), Factors::Divisors),
        (conv(ConvShape::new(1, [4, 4, 20], 24, 1)), Factors::Divisors),
    ] {
        let limits = Limits { factors, emission: Some(Emission::Unroller), dataflow: Some(Dataflow::Ws) };
        let (least, mappings) = truth(&config, &problem, &limits);
        let found = found(&config, &problem, &Settings { limits, ..settings(&prices) });
        // Gemmini's own mapping need not be in the space of divisors.
        let best = found.best.result.unwrap().cycles;
        let own = found.gemmini.result.unwrap().cycles;
        assert_eq!(best, least.min(own), "{problem}: {}", found.best.mapping);
        assert!(found.proved_optimal, "{problem}");
        assert!(found.lower_bound <= least);
        assert!(found.simulated as usize <= mappings + 1, "{problem}: {} of {mappings}", found.simulated);
    }
}

#[test]
fn a_space_that_ran_whole_says_how_far_models_and_searches_are() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let settings = settings(&prices);
    let (problem, around) = (Problem::matmul(50, 40, 48), Surroundings::default());
    let space = whole_space(&config, &problem, &around, (&settings, 1000, 5000)).unwrap().unwrap();
    let (least, mappings) = truth(&config, &problem, &settings.limits);
    assert_eq!((space.cycles[0], space.mappings), (least, mappings));
    assert!(space.models.iter().all(|(_, regret)| *regret >= 0.0), "{space:?}");
    assert!(space.searches.iter().all(|(_, regret, simulated)| *regret >= 0.0 && *simulated > 0), "{space:?}");
    assert!(
        space.searches.iter().any(|(method, regret, _)| (*method, *regret) == (Method::Exhaustive, 0.0)),
        "{space:?}"
    );
    assert_eq!(whole_space(&config, &problem, &around, (&settings, 1, mappings as u128)).unwrap(), None);
}

#[test]
fn what_is_proved_holds_for_every_objective() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let around = Surroundings::default();
    for problem in [Problem::matmul(50, 40, 70), Problem::conv(ConvShape::new(1, [5, 4, 20], 24, 2))] {
        let limits = Limits { factors: Factors::Divisors, emission: Some(Emission::Unroller), dataflow: None };
        let space = Mapspace::new(&config, &problem, &limits);
        let mut ran = Vec::new();
        let _ = space.for_each(|mapping| {
            if let Ok((cycles, counts)) = emulate::counted(&config, &problem, &mapping, &around, u64::MAX) {
                ran.push(Measured { cycles, energy_pj: prices.energy_pj(&counts, cycles, 1e9), counts });
            }
            ControlFlow::Continue(())
        });
        for objective in [Objective::Cycles, Objective::Energy, Objective::Edp, Objective::Bytes] {
            let found = found(&config, &problem, &Settings { limits, objective, ..settings(&prices) });
            let value = found.best.result.unwrap().value(objective);
            let own = found.gemmini.result.unwrap().value(objective);
            let least = ran.iter().map(|result| result.value(objective)).fold(own, f64::min);
            assert!(
                value >= least && (!found.proved_optimal || value == least),
                "{problem}, {objective}: {value}, {least}"
            );
            assert!(found.proved_optimal || matches!(problem, Problem::Conv(_)), "{problem}, {objective}");
        }
    }
}

#[test]
fn a_search_that_was_interrupted_is_taken_up_with_the_same_result() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let (problem, around) = (Problem::matmul(50, 70, 40), Surroundings::default());
    let settings = Settings { method: Method::Guided, evaluations: 300, emulated_cycles: 200_000, ..settings(&prices) };
    let whole = found(&config, &problem, &settings);
    let lines = RefCell::new(Record::heading(&config, &problem, &around));
    let with = |text: &str| {
        let write = |line: &str| lines.borrow_mut().push_str(line);
        let (mut record, _) = Record::read(text, &config, &problem, &around, write).unwrap();
        search_with(&config, &problem, &around, &settings, &mut record, &mut |_| {}).unwrap()
    };
    let heading = lines.borrow().clone();
    assert_eq!(with(&heading).candidates, whole.candidates);
    // Half of it, with a line that was not finished.
    let record = lines.borrow().clone();
    let cut = &record[..record.len() / 2];
    lines.borrow_mut().clear();
    assert_eq!(with(cut).candidates, whole.candidates);
    let known = cut.lines().count() - 2;
    assert_eq!(lines.borrow().lines().count() + known, record.lines().count() - 1, "what is known does not run again");
    let other = Problem::matmul(50, 70, 41);
    let refused = Record::read(&record, &config, &other, &around, |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "line 1: these are runs of another operation: give another file, or the same operation"
    );
}

#[test]
fn no_search_is_worse_than_gemminis_own_mapping_and_threads_do_not_matter() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let conv = ConvShape { padding: 1, ..ConvShape::new(1, [8, 8, 20], 24, 3) };
    for problem in [Problem::matmul(50, 70, 40), Problem::conv(conv)] {
        for method in [Method::Auto, Method::Random, Method::Evolutionary, Method::Guided, Method::Integer] {
            for objective in [Objective::Cycles, Objective::Edp] {
                let limits = Limits { factors: Factors::Divisors, ..Limits::default() };
                let settings = Settings {
                    method,
                    objective,
                    limits,
                    emulated_cycles: 300_000,
                    evaluations: 400,
                    ..settings(&prices)
                };
                let one = found(&config, &problem, &Settings { threads: 1, ..settings });
                let three = found(&config, &problem, &Settings { threads: 3, ..settings });
                let value = |found: &Found| found.best.result.unwrap().value(objective);
                assert!(value(&one) <= one.gemmini.result.unwrap().value(objective), "{problem} {method} {objective}");
                assert_eq!(one.candidates, three.candidates, "{problem} {method} {objective}");
                assert_eq!((one.best, one.evaluated), (three.best, three.evaluated));
                assert!(one.candidates.iter().all(|c| c.result.is_none_or(|r| c.bound <= r.cycles)));
            }
        }
    }
}

#[test]
fn nothing_on_the_pareto_front_is_worse_than_anything_that_ran() {
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = prices(&config);
    let settings = Settings { method: Method::Random, objective: Objective::Edp, ..settings(&prices) };
    let found = found(&config, &Problem::matmul(64, 96, 80), &Settings { evaluations: 60, ..settings });
    let front = pareto(&found.candidates);
    let results: Vec<_> = found.candidates.iter().filter_map(|c| c.result).collect();
    assert!(!front.is_empty());
    for (_, on) in &front {
        assert!(!results.iter().any(|r| r.cycles < on.cycles && r.energy_pj < on.energy_pj));
    }
}

#[test]
fn a_problem_that_fits_nowhere_is_an_error_that_says_why() {
    let mut config = GemminiConfig::default16();
    config.has_loop_conv = false;
    config.has_dw_convs = false;
    let config = config.validated().unwrap();
    let prices = prices(&config);
    let shape = ConvShape { depthwise: true, ..ConvShape::new(1, [8, 8, 16], 16, 3) };
    let error = search(&config, &Problem::conv(shape), &Surroundings::default(), &settings(&prices), &mut |_| {});
    let message = error.unwrap_err().to_string();
    assert!(message.contains("has_loop_conv") || message.contains("has_dw_convs"), "{message}");
    let mapping = Mapping::gemmini(&config, &Problem::matmul(8, 8, 8));
    assert!(matches!(mapping, Mapping::Matmul(_)));
}
