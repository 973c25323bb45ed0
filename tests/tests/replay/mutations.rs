//! Fields of the canonical form matter: if one is left out, situations are taken for each other that are not alike.
//!
//! Two tests. The first notes all states of many programs and what follows from each, and leaves out every field in turn afterwards: which
//! states would then be one, and would they go on alike? Fields of which that is known to fail are listed in `fields_that_matter.txt`
//! (`POLLUX_UPDATE_FIELDS=1` writes it anew), so that none of them is lost. The second leaves out two of them in earnest: a check of the
//! replayed segments finds out.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{env, fs};

use pollux_isa::{GemminiConfig, StreamItem};
use pollux_sim::memory::{BandwidthParameters, BenchParameters, MemoryModel};
use pollux_sim::replay::{FieldFinding, FieldFindings, ReplayOptions, ReplayTable};
use pollux_testkit::{Random, program};

use super::end;
use super::random::{Setting, genes, repeated};

/// So many random programs for each of some settings.
fn programs(number: u64) -> Vec<(Setting, Vec<Vec<StreamItem>>)> {
    let bench = |latency, period| MemoryModel::Bench(BenchParameters { latency, a_period: period, d_period: period });
    let bandwidth = MemoryModel::Bandwidth(BandwidthParameters { latency: 30, bytes: 8, cycles: 1, outstanding: 8 });
    let settings = [("norm16", bench(40, 1), 1), ("default16", bandwidth, 1), ("small4", bench(7, 2), 3)];
    let programs = |(i, (name, memory, interval)): (usize, (&str, MemoryModel, u64))| {
        let config = GemminiConfig::by_name(name).expect("a configuration");
        let setting = Setting { config, memory, interval };
        let programs = (0..number).map(|seed| {
            let random = &mut Random::new(1000 * i as u64 + seed);
            let once = program(&setting.config, seed % 2 == 0, &genes(random)).items;
            repeated(&once, random)
        });
        let programs = programs.collect();
        (setting, programs)
    };
    settings.into_iter().enumerate().map(programs).collect()
}

/// What is known of each field from all programs, one table a setting.
fn survey(number: u64) -> FieldFindings {
    let options = ReplayOptions { every_command: true, drop_field: Some(""), ..ReplayOptions::default() };
    let mut findings = FieldFindings::new();
    for (setting, programs) in programs(number) {
        let table = &mut ReplayTable::new();
        for items in &programs {
            assert_eq!(end(setting.run(items, Some((options, &mut *table)))), end(setting.run(items, None)));
        }
        for (field, finding) in table.fields() {
            let known = findings.entry(field).or_insert(finding);
            *known = finding.min(*known);
        }
    }
    findings
}

#[test]
fn fields_that_are_known_to_matter_do() {
    let number = env::var("POLLUX_FIELD_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let findings = survey(number);
    let of = |finding| -> BTreeSet<&str> {
        findings.iter().filter(|(_, found)| **found == finding).map(|(field, _)| *field).collect()
    };
    let matters = of(FieldFinding::Matters);
    let (tells_apart, redundant) = (of(FieldFinding::TellsApart), of(FieldFinding::Redundant));
    println!("{} fields matter; {} only tell states apart: {tells_apart:#?}", matters.len(), tells_apart.len());
    println!("{} are never alone: {redundant:#?}", redundant.len());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/fields_that_matter.txt");
    if env::var_os("POLLUX_UPDATE_FIELDS").is_some() {
        let lines: String = matters.iter().map(|field| format!("{field}\n")).collect();
        fs::write(&path, lines).expect("the list");
    }
    let listed = fs::read_to_string(&path).expect("the list");
    let lost: Vec<&str> = listed.lines().filter(|field| !matters.contains(field)).collect();
    assert!(lost.is_empty(), "nothing goes wrong without {lost:?}");
    assert!(listed.lines().count() > 10, "the list is too short to mean anything");
}

/// Whether a check finds out that a field is left out.
fn is_missed(field: &'static str) -> bool {
    let options =
        ReplayOptions { every_command: true, check: 1.0, drop_field: Some(field), ..ReplayOptions::default() };
    programs(6).iter().any(|(setting, programs)| {
        let table = &mut ReplayTable::new();
        programs.iter().any(|items| {
            let plain = end(setting.run(items, None));
            // In a state that no machine is ever in, arithmetic may fail.
            let run = catch_unwind(AssertUnwindSafe(|| setting.run(items, Some((options, &mut *table)))));
            run.map_or(true, |result| end(result) != plain)
        })
    })
}

#[test]
fn a_field_that_is_left_out_is_missed() {
    assert!(!is_missed("no.field"), "with all fields nothing is wrong");
    // States differ in these that differ in little else.
    for field in ["GemminiCmd.cmd", "Queue.items"] {
        assert!(is_missed(field), "{field} is not missed");
    }
}
