//! Time travel: the first step back to a random place of a long run, and further ones from there; the mean, and the slowest.
//!
//! `POLLUX_BENCH_PRODUCTS` sets how often the product of 256 x 256 x 256 is repeated: 150 (10^7 cycles) by default, 1500 are 10^8.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pollux_asm::Program;
use pollux_session::{Options, Session};
use pollux_trace::GoldenCase;
use pollux_trace::verify::config_of;

/// A session at the end of a long run.
fn session() -> Session {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/directed/loop_ws_256");
    let case = GoldenCase::read(&folder).expect("a golden case");
    let products = std::env::var("POLLUX_BENCH_PRODUCTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut program = Program::new(config_of(&case).expect("a named configuration"));
    program.items = std::iter::repeat_n(&case.items, products).flatten().cloned().collect();
    let mut session = Session::new(program, Options::default()).expect("it starts");
    let end = session.goto_end().expect("it ends");
    let (bytes, (coarse, _)) = session.snapshots();
    println!("{end} cycles, {coarse} snapshots, {} MiB", bytes >> 20);
    session
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Criterion tells the mean alone: the slowest of 200 first steps back, and of 20 from each of these places.
fn print_slowest(session: &mut Session, mut place: impl FnMut() -> u64) {
    let [mut first, mut further] = [Duration::ZERO; 2];
    let mut all = Duration::ZERO;
    for _ in 0..200 {
        let cycle = place();
        // The snapshots near the place are those that a session has that was elsewhere before.
        session.goto_end().expect("it ends");
        let time = timed(|| session.goto(cycle).expect("it is there"));
        first = first.max(time);
        all += time;
        for cycles in 1..=20 {
            further = further.max(timed(|| {
                session.back(cycles).expect("it is there");
            }));
        }
    }
    let mean = all / 200;
    println!(
        "200 first steps back: {mean:.1?} on the mean, {first:.1?} the slowest; the slowest of 4000 further ones: {further:.2?}"
    );
}

fn steps_back(c: &mut Criterion) {
    let mut session = session();
    let end = session.end().expect("it is there");
    // A multiplicative generator (Park and Miller) picks the places.
    let mut state = 1u64;
    let mut place = move || {
        state = state * 48_271 % 0x7fff_ffff;
        state * end / 0x7fff_ffff
    };
    print_slowest(&mut session, &mut place);
    let mut group = c.benchmark_group("session");
    group.sample_size(20);
    group.bench_function("first step back to a random cycle", |b| {
        b.iter_batched(&mut place, |cycle| session.goto(cycle).expect("it is there"), BatchSize::SmallInput);
    });
    session.goto(end / 2).expect("it is there");
    group.bench_function("another step back", |b| b.iter(|| session.back(1).expect("it is there")));
    session.goto(end / 2).expect("it is there");
    group.bench_function("view", |b| b.iter(|| session.view().expect("a view")));
    group.bench_function("array", |b| b.iter(|| session.array().expect("an array")));
    group.finish();
}

criterion_group!(benches, steps_back);
criterion_main!(benches);
