//! Plans for whole layers: never slower than the default, and what they promise.

use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleSetup, time_cycles};
use pollux_compiler::list::OperationList;
use pollux_compiler::plan::Plan;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::{CompileError, Compiled};
use pollux_energy::{EnergyTable, Prices};
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::Mask;
use pollux_mapper::network::{Choice, Planned, Settings, Subject, plan};
use pollux_mapper::search::Objective;

fn prices(config: &ValidConfig) -> Prices {
    EnergyTable::by_name("horowitz45-lpddr4").unwrap().prices(config).unwrap()
}

fn settings(prices: &Prices) -> Settings<'_> {
    Settings {
        objective: Objective::Cycles,
        setup: CycleSetup::default(),
        candidates: 4,
        emulated_cycles: u64::MAX,
        evaluations: 200,
        seed: 1,
        threads: 2,
        prices,
        clock_hz: 1e9,
    }
}

/// Two layers of an encoder, small.
fn encoder(plan: &Plan) -> Result<Compiled, CompileError> {
    let shape = Shape::new("small", 96, 2, 3, 160);
    let layers = synthetic::encoder(&shape, 40, 1)?;
    let input = synthetic::input(&shape, 40, 2);
    let config = GemminiConfig::norm16();
    Ok(compile_parameters(config, plan, &layers, &input, Mask::Full, &TokenCounts::new())?.compiled)
}

fn planned(settings: &Settings<'_>) -> Planned {
    plan(&Subject { compile: &encoder, base: Plan::default() }, settings, &|_| {}).unwrap()
}

#[test]
fn a_layers_plan_is_faster_and_takes_what_it_says() {
    let config = GemminiConfig::norm16().validated().unwrap();
    let prices = prices(&config);
    let settings = settings(&prices);
    let found = planned(&settings);
    assert!(found.cost.cycles < found.default.cycles, "{:?}", found.cost);
    // As a file, on another way.
    let read = Plan::from_toml(&found.plan.to_toml()).unwrap();
    assert_eq!(read, found.plan);
    let compiled = encoder(&read).unwrap();
    let run = time_cycles(&compiled, compiled.program.initial_memory(), &settings.setup, &mut |_| {}).unwrap();
    assert_eq!(run.cycles, found.cost.cycles);
    // Both layers are alike, so that the plan names parts.
    assert!(read.operations.keys().all(|name| !name.contains('.')), "{:?}", read.operations.keys());
    assert_eq!(found.operations.iter().map(|o| o.cost.cycles).sum::<u64>(), found.cost.cycles);
    assert_eq!((found.not_run, found.operations.len()), (0, 22));
    assert!(found.operations.iter().all(|o| o.choice.is_none() || o.tried > 0));
    assert_eq!(planned(&Settings { threads: 1, ..settings }), found);
}

#[test]
fn every_objective_gets_no_worse_behind_every_memory() {
    let config = GemminiConfig::norm16().validated().unwrap();
    let prices = prices(&config);
    for objective in [Objective::Cycles, Objective::Energy, Objective::Edp, Objective::Bytes] {
        for memory in ["bandwidth:bytes=8", "dram"] {
            let setup = CycleSetup { memory: memory.parse().unwrap(), ..CycleSetup::default() };
            let found = planned(&Settings { objective, setup, candidates: 2, ..settings(&prices) });
            assert!(found.cost.value(objective) <= found.default.value(objective), "{objective}, {memory}");
        }
    }
}

#[test]
fn a_budget_of_nothing_still_runs_once() {
    let config = GemminiConfig::norm16().validated().unwrap();
    let prices = prices(&config);
    let found = planned(&Settings { emulated_cycles: 0, ..settings(&prices) });
    assert!(found.not_run > 0 && found.runs <= 4 && found.cost.cycles <= found.default.cycles);
}

#[test]
fn lists_with_convolutions_have_plans_too() {
    let config = GemminiConfig::norm16().validated().unwrap();
    let prices = prices(&config);
    let list = "config = 'default16'\n[[conv]]\ninput = [9, 9, 20]\nout_channels = 40\nkernel = 3\nmagnitude = 5\n\
                [[matmul]]\ni = 50\nj = 70\nk = 90\nmagnitude = 5\n";
    let list =
        &format!("{list}[[matmul]]\ni = 64\nj = 64\nk = 32\nmagnitude = 5\nactivation = ['softmax']\nunit = 0.01\n");
    let list = OperationList::from_toml(list).unwrap();
    let compile = |plan: &Plan| list.lower(Some(&config), plan);
    let subject = Subject { compile: &compile, base: Plan::default() };
    let found = plan(&subject, &settings(&prices), &|_| {}).unwrap();
    assert!(found.cost.cycles <= found.default.cycles);
    // A list has no pass over sums of its own, which is no reason to leave out other choices.
    assert!(found.operations.iter().all(|o| o.tried > 0), "{:?}", found.operations);
    assert!(found.operations.iter().any(|o| matches!(o.choice, Some(Choice::Convolution(_) | Choice::Schedule(_)))));
}
