//! Development aid: verifies the case folders given.
use rayon::prelude::*;
fn main() {
    let dirs: Vec<_> = std::env::args().skip(1).collect();
    let mut cases = Vec::new();
    for d in &dirs { cases.extend(pollux_trace::GoldenCase::find(std::path::Path::new(d)).unwrap()); }
    let reports: Vec<_> = cases.par_iter().map(|c| (c, std::panic::catch_unwind(|| pollux_trace::verify::verify_folder(c)))).collect();
    let mut ok = 0;
    for (c, r) in &reports {
        match r { Ok(r) if r.exact => { ok += 1; }, Ok(r) => { println!("{}: {} events, {} vs {} :: {}", r.name, r.events, r.cycles, r.expected_cycles, r.problems.iter().map(|p| if dirs.len()==1 && cases.len()==1 {p.clone()} else {p.lines().next().unwrap().to_string()}).collect::<Vec<_>>().join(" | ")); }, Err(_) => println!("{}: PANIC", c.display()) }
    }
    println!("verify: {ok} of {} cases exact", cases.len());
}
