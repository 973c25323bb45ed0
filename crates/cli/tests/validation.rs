//! What a run is compared with FireSim by: a processor that runs ahead, and the memory of its measurements.

mod common;

use common::Workspace;

/// A product of several loops.
const PRODUCT: &str = "lower matmul --m 96 --n 96 --k 512 --config default16 -o product.pbin";

fn cycles(workspace: &Workspace, options: &str) -> u64 {
    let run = workspace.pollux(&format!("run product.pbin --cycles --json {options}"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{options}: {}", run.stdout);
    let document = run.json();
    assert_eq!(document["match"], true, "{options}");
    document["cycles"].as_u64().expect("cycles")
}

#[test]
fn a_processor_that_runs_ahead_costs_time_only_where_it_is_the_slower_one() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux(PRODUCT).code, 0);
    let (host, rocket) = (cycles(&workspace, ""), cycles(&workspace, "--processor rocket"));
    // The first loop is made later, the others while the accelerator works.
    assert!((host..host + 400).contains(&rocket), "{host}, {rocket}");
    let slow = cycles(&workspace, "--processor rocket:loop_ws=100000");
    assert!(slow > 100_000 && slow < 100_000 * 20, "{slow}");
}

#[test]
fn caches_and_their_limits_cost_what_they_should() {
    let workspace = Workspace::new();
    assert_eq!(workspace.pollux(PRODUCT).code, 0);
    let of = |memory: &str| cycles(&workspace, &format!("--memory {memory}"));
    let firesim = of("firesim");
    assert!(of("firesim:l2_requests=1") > firesim);
    assert!(of("firesim:llc_misses=1") >= firesim);
    assert!(of("firesim:llc_port=90") > firesim);
    assert!(of("firesim:t_rcd=100000,t_cl=100000") > firesim);
    // Victims are random, and always the same.
    assert_eq!(of("firesim:l2_kib=16"), of("firesim:l2_kib=16"));
}
