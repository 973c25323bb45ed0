//! Fields of the canonical form matter: if one is left out, situations are taken for each other that are not alike, and a check finds
//! out.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pollux_isa::{GemminiConfig, StreamItem};
use pollux_sim::memory::{BandwidthParameters, BenchParameters, MemoryModel};
use pollux_sim::replay::{ReplayOptions, ReplayTable};
use pollux_testkit::{Random, program};

use super::end;
use super::random::{Setting, genes, repeated};

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

/// What a check says with a field left out; `None` if it finds nothing.
fn is_missed(field: &'static str, fields: &mut BTreeSet<&'static str>) -> bool {
    let options =
        ReplayOptions { every_command: true, check: 1.0, drop_field: Some(field), ..ReplayOptions::default() };
    programs().iter().any(|(setting, programs)| {
        let table = &mut ReplayTable::new();
        let differs = programs.iter().any(|items| {
            let plain = end(setting.run(items, None));
            // In a state that no machine is ever in, arithmetic may fail.
            let run = catch_unwind(AssertUnwindSafe(|| setting.run(items, Some((options, &mut *table)))));
            run.map_or(true, |result| end(result) != plain)
        });
        fields.extend(table.fields());
        differs
    })
}

/// Fields in which states differ that differ in little else.
const SAMPLE: [&str; 2] = ["GemminiCmd.cmd", "Queue.items"];

#[test]
fn a_field_that_is_left_out_is_missed() {
    let mut fields = BTreeSet::new();
    assert!(!is_missed("", &mut fields), "with all fields nothing is wrong");
    for field in SAMPLE {
        assert!(fields.contains(field), "{field} is no field: {fields:?}");
        assert!(is_missed(field, &mut BTreeSet::new()), "{field} is not missed");
    }
}
