//! The cycle-level emulator on the golden cases: every recorded event in its cycle, every command, every byte.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pollux_sim::violation::Violation;
use pollux_trace::GoldenCase;
use pollux_trace::verify::{CaseReport, verify_folder};

/// The reports on all cases of a group, verified by as many threads as there are processors.
fn verify(group: &str) -> Vec<CaseReport> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let folders: Vec<PathBuf> = GoldenCase::find(&dir).expect("the cases are part of the project");
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || folders.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(take).map(|folder| verify_folder(folder)).collect::<Vec<_>>()
    };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn assert_exact(group: &str, cases: usize) {
    let reports = verify(group);
    let wrong: Vec<String> = reports
        .iter()
        .filter(|report| !report.exact)
        .map(|report| format!("{}: {}", report.name, report.problems.join("\n")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(reports.len(), cases);
    assert!(reports.iter().all(|report| report.events > 0 && report.bytes > 0), "something was compared in each case");
    // The recorder would have stopped at an assertion; that on rows that overtake each other is commented out in the RTL.
    for report in &reports {
        let overtakes = report.name.starts_with("norm_ids_swap");
        let broken: Vec<Violation> = report.violations.iter().map(|violated| violated.violation).collect();
        assert_eq!(broken, if overtakes { vec![Violation::RowOvertaken] } else { vec![] }, "{}", report.name);
    }
}

#[test]
fn directed_cases_are_exact() {
    assert_exact("directed", 161);
}

#[test]
fn random_cases_are_exact() {
    assert_exact("random", 132);
}

#[test]
fn software_cases_are_exact() {
    assert_exact("software", 27);
}

#[test]
fn cases_from_the_rtl_are_exact() {
    assert_exact("rtl", 44);
}
