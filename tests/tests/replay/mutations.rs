//! Every field of the canonical form matters: if one is left out, situations are taken for each other that are not alike, and a check
//! finds out. Those of which no program here shows it are listed, with the reason.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pollux_isa::{GemminiConfig, StreamItem};
use pollux_sim::memory::{BandwidthParameters, BenchParameters, MemoryModel};
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_testkit::{Random, program};

use super::end;
use super::random::{Setting, genes, repeated};

/// Fields that no program of this test shows to matter, and why.
const SURVIVORS: &[(&str, &str)] = &[];

/// Programs with their settings.
fn programs() -> Vec<(Setting, Vec<Vec<StreamItem>>)> {
    let bench = |latency, period| MemoryModel::Bench(BenchParameters { latency, a_period: period, d_period: period });
    let bandwidth = MemoryModel::Bandwidth(BandwidthParameters { latency: 30, bytes: 8, cycles: 1, outstanding: 8 });
    let settings = [("norm16", bench(40, 1), 1), ("default16", bandwidth, 1), ("small4", bench(7, 2), 3)];
    let programs = |(i, (name, memory, interval)): (usize, (&str, MemoryModel, u64))| {
        let config = GemminiConfig::by_name(name).expect("a configuration");
        let setting = Setting { config, memory, interval };
        let programs = (0..6).map(|seed| {
            let random = &mut Random::new(1000 * i as u64 + seed);
            let once = program(&setting.config, seed % 2 == 0, &genes(random)).items;
            repeated(&once, random)
        });
        let programs = programs.collect();
        (setting, programs)
    };
    settings.into_iter().enumerate().map(programs).collect()
}

#[test]
fn a_field_that_is_left_out_is_missed() {
    let programs = programs();
    let options =
        |field| ReplayOptions { every_command: true, check: 1.0, drop_field: Some(field), ..ReplayOptions::default() };
    let mut fields = BTreeSet::new();
    let plain: Vec<Vec<_>> = programs
        .iter()
        .map(|(setting, programs)| programs.iter().map(|items| end(setting.run(items, None))).collect())
        .collect();
    // With all fields nothing is wrong, and the table has their names.
    let is_missed = |field: &'static str, fields: &mut BTreeSet<&'static str>| {
        programs.iter().zip(&plain).any(|((setting, programs), plain)| {
            let table = &mut ReplayTable::new();
            let mut differs = |items: &[StreamItem], plain: &_| {
                // In a state that no machine is ever in, arithmetic may fail.
                let run = catch_unwind(AssertUnwindSafe(|| setting.run(items, Some((options(field), &mut *table)))));
                run.map_or(true, |result| end(result) != *plain)
            };
            let differs = programs.iter().zip(plain).any(|(items, plain)| differs(items, plain));
            fields.extend(table.fields());
            differs
        })
    };
    assert!(!is_missed("", &mut fields));
    let names: Vec<&'static str> = fields.iter().copied().collect();
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(field) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !is_missed(field, &mut BTreeSet::new()) {
                        survivors.lock().expect("no thread panics").insert(*field);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().expect("no thread panics");
    println!("{} fields, {} of them not missed:", names.len(), survivors.len());
    survivors.iter().for_each(|field| println!("{field}"));
    let explained: BTreeSet<&str> = SURVIVORS.iter().map(|(field, _)| *field).collect();
    let unexplained: Vec<_> = survivors.difference(&explained).collect();
    assert!(unexplained.is_empty(), "not missed, and nobody says why: {unexplained:#?}");
}
