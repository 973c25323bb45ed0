//! Waits cost nothing, whatever their length, and a run stops exactly where it is told to.

use pollux_isa::{GemminiConfig, RoccCommand};

use super::*;
use crate::observation::activity::Activity;
use crate::observation::observer::Span;
use crate::observation::observer::{Event, NoObserver};
use crate::observation::report::Profiler;

/// `CONFIG_LD` with a stride of 16 bytes.
const CONFIG_LD: StreamItem = StreamItem::Command(RoccCommand { funct: 0, rs1: 0x3f80_0000_0010_0101, rs2: 16 });

/// A load of 16 rows of 16 bytes.
fn mvin() -> StreamItem {
    StreamItem::Command(RoccCommand { funct: 2, rs1: 0x8000_0000, rs2: 16 << 48 | 16 << 32 })
}

fn loads_around(wait: u64) -> Vec<StreamItem> {
    vec![CONFIG_LD, mvin(), StreamItem::Wait(wait), mvin(), StreamItem::Fence]
}

/// A run that may be simulated in so few steps only.
fn summary(runner: Runner<'_>, items: Vec<StreamItem>) -> RunSummary {
    let mut runner = runner;
    let outcome = runner.run(items, Memory::new(), &mut NoObserver).expect("the program ends");
    assert!(outcome.summary.simulated < 1000, "{:?}", outcome.summary);
    outcome.summary
}

#[test]
fn a_wait_of_any_length_takes_its_cycles_and_no_time() {
    let config = ValidConfig::default();
    let runner = || Runner::new(&config);
    let short = summary(runner(), loads_around(1000));
    for wait in [100_000_000, 10_000_000_000_000_000_000] {
        let long = summary(runner(), loads_around(wait));
        assert_eq!(long.cycles - short.cycles, wait - 1000);
        assert_eq!(long.busy_falls - short.busy_falls, wait - 1000);
        assert_eq!((long.busy_cycles, long.traffic), (short.busy_cycles, short.traffic));
    }
}

#[test]
fn an_issue_interval_of_any_length_takes_its_cycles_and_no_time() {
    let config = ValidConfig::default();
    let runner = |interval| Runner::new(&config).interval(interval);
    let items = || vec![CONFIG_LD, mvin(), mvin(), StreamItem::Fence];
    let short = summary(runner(1000), items());
    let long = summary(runner(5_000_000_000_000_000_000), items());
    assert_eq!(long.cycles - short.cycles, 2 * (5_000_000_000_000_000_000 - 1000));
}

#[test]
fn a_slow_memory_takes_no_time_even_if_its_port_is_throttled() {
    let config = ValidConfig::default();
    let memory = "bench:latency=1000000000,a_period=3,d_period=7".parse().unwrap();
    let items = vec![CONFIG_LD, mvin(), StreamItem::Fence, mvin(), StreamItem::Fence];
    let totals = summary(Runner::new(&config).memory(memory), items);
    assert!(totals.cycles > 2_000_000_000, "{totals:?}");
}

#[test]
fn more_cycles_than_can_be_counted_are_refused_at_once_with_the_place() {
    let config = ValidConfig::default();
    for (items, interval) in [(loads_around(u64::MAX), 1), (loads_around(1), u64::MAX)] {
        let stopped = Runner::new(&config).interval(interval).run(items, Memory::new(), &mut NoObserver).unwrap_err();
        assert_eq!(stopped.outcome.summary.cycles, Cycle::MAX);
        assert!(stopped.outcome.summary.simulated < 1000);
        let text = stopped.to_string();
        assert!(text.starts_with("the run takes more than 2^64 - 1 cycles"), "{text}");
        assert!(text.contains("\n  host: item "), "{text}");
    }
}

#[test]
fn a_run_stops_exactly_at_its_limit_on_both_paths() {
    let config = ValidConfig::default();
    for limit in (0..200).chain([1_000_000, Cycle::MAX - 1]) {
        let [fast, plain] = [false, true].map(|plain| {
            let runner = Runner::new(&config).limit(limit);
            let wait = if limit < 1000 { 300 } else { Cycle::MAX - 10 };
            // Without skipping, long waits are for nobody.
            runner.plain(plain && limit < 1000).run(loads_around(wait), Memory::new(), &mut NoObserver).unwrap_err()
        });
        assert_eq!(fast.outcome.summary.cycles, limit);
        assert_eq!(fast.error, plain.error);
        assert_eq!(fast.outcome.summary.busy_cycles, plain.outcome.summary.busy_cycles);
        assert!(matches!(fast.error, RunError::Limit { limit: stated, .. } if stated == limit));
    }
}

/// Adds up the spans.
#[derive(Default)]
struct Spans {
    count: u64,
    next: Cycle,
}

impl Observer for Spans {
    const ACTIVITY: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn cycles(&mut self, span: Span, _: &Activity) {
        assert_eq!(span.first, self.next, "without gaps");
        self.next += span.cycles;
        self.count += 1;
    }
}

#[test]
fn an_observer_gets_a_wait_as_one_span_and_the_report_counts_it_as_idle() {
    let config = ValidConfig::default();
    let wait = 10_000_000_000_000_000_000;
    let items = loads_around(wait);
    let mut observer = (Profiler::new(&config, &items), Spans::default());
    let outcome = Runner::new(&config).run(items, Memory::new(), &mut observer).expect("the program ends");
    let (profiler, spans) = observer;
    assert_eq!(spans.next, outcome.summary.cycles);
    assert_eq!(spans.count, outcome.summary.simulated);
    let report = profiler.finish(&outcome.summary);
    for block in &report.blocks {
        assert_eq!(block.cycles(), outcome.summary.cycles, "{:?}", block.block);
        assert!(block.idle > wait - 1000, "{block:?}");
    }
}

#[test]
fn who_watches_ends_the_run() {
    let config = ValidConfig::default();
    let items: Vec<_> = (0..100_000).flat_map(|_| [mvin(), StreamItem::Fence]).collect();
    let mut calls = 0;
    let mut runner = Runner::new(&config).watch(|position| {
        calls += 1;
        assert!(position.cycle > 0);
        if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = runner.run(items, Memory::new(), &mut NoObserver).unwrap_err();
    drop(runner);
    assert_eq!(calls, 2);
    assert!(matches!(stopped.error, RunError::Cancelled { cycle, .. } if cycle == stopped.outcome.summary.cycles));
}

/// Notes when marks become current.
#[derive(Default)]
struct Marks(Vec<(Cycle, usize)>);

impl Observer for Marks {
    fn wants_events(&self) -> bool {
        false
    }

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.0.push((cycle, mark));
    }
}

#[test]
fn an_observer_is_told_of_every_mark() {
    let config = ValidConfig::default();
    let mark = |name: &str| StreamItem::Mark(name.into());
    let items = vec![mark("a"), CONFIG_LD, mark("b"), StreamItem::Wait(10), mark("c"), mark("d"), CONFIG_LD];
    let mut marks = Marks::default();
    Runner::new(&config).run(items, Memory::new(), &mut marks).expect("the program ends");
    assert_eq!(marks.0, [(0, 0), (1, 1), (11, 3)]);
}

#[test]
fn the_l2_takes_its_cycles_without_values_too_and_fewer_once_it_is_warm() {
    let config = ValidConfig::default();
    let run = |memory: &str| {
        let mut bytes = Memory::new();
        bytes.write(0x8000_0000, &[1; 256]);
        let runner = || Runner::new(&config).memory(memory.parse().unwrap());
        let full = runner().run(loads_around(10), bytes.clone(), &mut NoObserver).unwrap().summary;
        let timing = runner().without_values().run(loads_around(10), bytes, &mut NoObserver).unwrap().summary;
        assert_eq!((full.cycles, full.traffic), (timing.cycles, timing.traffic));
        full.cycles
    };
    assert!(run("l2:warm=1") + 40 < run("l2"));
}

#[test]
fn the_l2_refuses_requests_beyond_its_lines() {
    let wide = GemminiConfig { dma_buswidth: 512, dma_maxbytes: 128, ..GemminiConfig::default16() };
    let config = wide.validated().unwrap();
    let mut runner = Runner::new(&config).memory("l2".parse().unwrap());
    let stopped = runner.run(loads_around(10), Memory::new(), &mut NoObserver).unwrap_err();
    assert!(stopped.to_string().contains("dma_maxbytes = 64"), "{stopped}");
}
