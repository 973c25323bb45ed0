//! Operands that lie elsewhere, or share a page; and divisors that are zero.

use pollux_functional::{Action, Divisions, FunctionalModel, Policy};
use pollux_isa::{GemminiConfig, StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::memory::{BandwidthParameters, MemoryModel};
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_sim::runner::Runner;
use pollux_sim::values::ZeroDivisors;
use pollux_testkit::{Random, program};

use super::random::{Setting, genes, moved};

const PAGE: u64 = 4096;

fn setting(memory: MemoryModel) -> Setting {
    Setting { config: ValidConfig::default(), memory, interval: 1 }
}

fn memories() -> [MemoryModel; 2] {
    let bandwidth = BandwidthParameters { latency: 30, bytes: 8, cycles: 1, outstanding: 8 };
    [MemoryModel::default(), MemoryModel::Bandwidth(bandwidth)]
}

fn shifted(items: &[StreamItem], by: u64) -> Vec<StreamItem> {
    items.iter().map(|item| moved(item, by)).collect()
}

#[test]
fn a_program_some_pages_further_on_is_known() {
    let every = ReplayOptions { every_command: true, ..ReplayOptions::default() };
    for memory in memories() {
        let setting = setting(memory);
        for seed in 1..20 {
            let random = &mut Random::new(seed);
            let items = program(&setting.config, seed % 2 == 0, &genes(random)).items;
            let table = &mut ReplayTable::new();
            if setting.assert_replayed(&items, table).is_none() {
                continue;
            }
            for pages in [1, 7, 1 << 10] {
                let there = shifted(&items, pages * PAGE);
                let run = setting.run(&there, Some((every, table))).expect("a legal program");
                let totals = run.replay.expect("a run that can be replayed");
                // From the first boundary on nothing is new.
                assert_eq!(totals.recorded, 0, "seed {seed}, {pages} pages: {totals:?}");
                setting.assert_replayed(&there, table);
            }
        }
    }
}

#[test]
fn a_program_some_requests_further_on_takes_its_own_time() {
    for memory in memories() {
        let setting = setting(memory);
        for seed in 20..30 {
            let random = &mut Random::new(seed);
            let items = program(&setting.config, seed % 2 == 0, &genes(random)).items;
            let table = &mut ReplayTable::new();
            for step in 0..8 {
                setting.assert_replayed(&shifted(&items, 64 * step + 832 * (step % 2)), table);
            }
        }
    }
}

/// Loads and stores of rows side by side: two operands whose pages are asked for in one cycle.
fn copies(from: u64, to: u64) -> Vec<StreamItem> {
    let command = |funct, rs1, rs2| StreamItem::Command(pollux_isa::RoccCommand { funct, rs1, rs2 });
    let block = |row: u64| 16 << 48 | 16 << 32 | row;
    let mut items = vec![command(0, 0x3f80_0000_0010_0101, 64), command(0, 2, 0x3f80_0000_0000_0040)];
    for i in 0..6 {
        items.push(command(2, from + 1024 * i, block(64 * i)));
        items.push(command(3, to + 1024 * i, block(64 * i)));
        items.push(command(2, from + 1024 * i + 512, block(64 * i + 16)));
    }
    items.push(StreamItem::Fence);
    items
}

#[test]
fn operands_that_share_a_page_are_told_from_those_that_do_not() {
    const BASE: u64 = 0x8000_0000;
    for memory in memories() {
        let setting = setting(memory);
        let table = &mut ReplayTable::new();
        // The same places within a page, in every order: one page, the next one, one far away.
        for first in [0, 512, 3072] {
            for (from, to) in [(0, 0), (0, 1), (1, 0), (0, 2), (0, 40), (40, 0), (5, 5)] {
                let items = copies(BASE + PAGE * from + first, BASE + PAGE * to + 2048);
                setting.assert_replayed(&items, table);
            }
        }
        // Both at once: each pair after each other one, so that states at the end meet all.
        let pair = |n: u64| copies(BASE + PAGE * (n % 3), BASE + PAGE * (n % 4) + 2048);
        let items: Vec<StreamItem> = (0..24).flat_map(pair).collect();
        let known = setting.assert_replayed(&items, table).expect("a program that can be replayed");
        assert!(known.hops > 0);
    }
}

#[test]
fn a_divisor_that_is_zero_ends_replay_and_its_cycles_are_those_of_the_values() {
    let config = GemminiConfig::by_name("norm16").expect("a configuration");
    let (mut zero, mut others) = (0, 0);
    for seed in 0..200 {
        let random = &mut Random::new(seed);
        let once = program(&config, false, &genes(random));
        if !Divisions::possible(&config, &once.items) {
            continue;
        }
        let items = [once.items.clone(), once.items].concat();
        let mut model = FunctionalModel::with_policy(config.clone(), once.memory.clone(), Policy::all(Action::Ignore));
        model.run(&items).expect("nothing is an error");
        let oracle: ZeroDivisors = model.divisions().zero().iter().copied().collect();
        let full =
            Runner::new(&config).run(items.clone(), once.memory, &mut NoObserver).expect("a legal program").summary;
        let run = |replay| {
            let mut runner = Runner::new(&config).without_values().zero_divisors(oracle.clone()).replay(replay);
            runner.run(items.clone(), Memory::new(), &mut NoObserver).expect("a legal program")
        };
        let every = ReplayOptions { every_command: true, ..ReplayOptions::default() };
        let timing = run(Some(every));
        let totals = |mut summary: pollux_sim::simulation::RunSummary| {
            (summary.simulated, summary.replayed) = (0, 0);
            summary
        };
        assert_eq!(totals(timing.summary), totals(full), "seed {seed}");
        assert_eq!(timing.summary.divisions, model.divisions().count(), "seed {seed}");
        let is_zero = !model.divisions().zero().is_empty();
        assert!(timing.replay.is_none() || !is_zero, "seed {seed}");
        assert_eq!(run(None).summary, full, "seed {seed}");
        zero += usize::from(is_zero);
        others += usize::from(timing.replay.is_some());
    }
    println!("{zero} programs with a zero divisor, {others} without");
    assert!(zero > 0 && others > 0);
}
