//! Random programs that come again: elsewhere in memory, and with waits and fences in between.

use std::fs;
use std::path::Path;

use pollux_isa::{GemminiConfig, RoccCommand, StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::counts::CountingObserver;
use pollux_sim::memory::{BandwidthParameters, BenchParameters, MemoryModel};
use pollux_sim::observer::{CountedOperation, NoObserver, Observer};
use pollux_sim::replay::{ReplayOptions, ReplayTable, ReplayTotals};
use pollux_sim::report::{Profiler, RunReport};
use pollux_sim::runner::{Outcome, Runner, Stopped};
use pollux_sim::values::Timing;
use pollux_testkit::{Random, program};

use super::end;

/// Cycles after which a run is taken for endless.
const LIMIT: u64 = 2_000_000;
/// A table that has room for a few states only.
const TINY: usize = 100_000;

/// What a program runs on.
#[derive(Clone, Debug)]
pub struct Setting {
    pub config: ValidConfig,
    pub memory: MemoryModel,
    pub interval: u64,
}

/// How a run ended.
pub type Ended = Result<Outcome<Timing>, Box<Stopped<Timing>>>;

impl Setting {
    /// A run without values, with a table or without replay.
    pub fn run(&self, items: &[StreamItem], replay: Option<(ReplayOptions, &mut ReplayTable)>) -> Ended {
        self.observed(items, replay, &mut NoObserver)
    }

    fn observed(
        &self,
        items: &[StreamItem],
        replay: Option<(ReplayOptions, &mut ReplayTable)>,
        observer: &mut impl Observer,
    ) -> Ended {
        let runner =
            Runner::new(&self.config).memory(self.memory).interval(self.interval).limit(LIMIT).without_values();
        let mut runner = match replay {
            Some((options, table)) => runner.replay(Some(options)).replay_table(table),
            None => runner.replay(None),
        };
        runner.run(items.to_vec(), Memory::new(), observer)
    }

    /// Runs by replay, in every way that there is; each must end as the simulation does. What replay did in the last one, which knows
    /// everything that there is to know; none if the program cannot be replayed.
    pub fn assert_replayed(&self, items: &[StreamItem], table: &mut ReplayTable) -> Option<ReplayTotals> {
        let plain = end(self.run(items, None));
        let default = ReplayOptions::default();
        let every = ReplayOptions { every_command: true, ..default };
        let tiny = ReplayOptions { table_bytes: TINY, ..every };
        let mut totals = None;
        let mut check = |options: ReplayOptions, table: &mut ReplayTable| {
            let result = self.run(items, Some((options, table)));
            let outcome = result.as_ref().unwrap_or_else(|stopped| &stopped.outcome);
            totals = outcome.replay;
            assert_eq!(outcome.summary.replayed, totals.map_or(0, |totals| totals.replayed));
            assert_eq!(end(result), plain, "{options:?}");
        };
        check(default, &mut ReplayTable::new());
        check(tiny, &mut ReplayTable::new());
        check(every, table);
        check(ReplayOptions { check: 1.0, ..every }, table);
        check(ReplayOptions { check: 0.3, ..every }, table);
        check(every, table);
        totals
    }
}

/// What cycles are spent on.
impl Setting {
    fn profile(&self, items: &[StreamItem], replay: Option<(ReplayOptions, &mut ReplayTable)>) -> RunReport {
        let mut profiler = Profiler::new(&self.config, items);
        let result = self.observed(items, replay, &mut profiler);
        let outcome = result.as_ref().unwrap_or_else(|stopped| &stopped.outcome);
        profiler.finish(&outcome.summary)
    }

    fn counts(&self, items: &[StreamItem], replay: Option<(ReplayOptions, &mut ReplayTable)>) -> Vec<CountedOperation> {
        let mut counting = CountingObserver::default();
        let _ = self.observed(items, replay, &mut counting);
        counting.operations().to_vec()
    }

    /// The profile and the counts of a replayed run are those of a simulated one.
    fn assert_profiled(&self, items: &[StreamItem]) {
        let (plain, counts) = (self.profile(items, None), self.counts(items, None));
        let counting = &mut ReplayTable::new();
        for _ in 0..3 {
            let every = ReplayOptions { every_command: true, ..ReplayOptions::default() };
            assert_eq!(self.counts(items, Some((every, counting))), counts);
        }
        let table = &mut ReplayTable::new();
        let default = ReplayOptions::default();
        let every = ReplayOptions { every_command: true, ..default };
        for options in [every, ReplayOptions { check: 1.0, ..every }, default, every] {
            assert_eq!(self.profile(items, Some((options, table))), plain, "{options:?}");
        }
        let tiny = ReplayOptions { table_bytes: TINY, ..every };
        assert_eq!(self.profile(items, Some((tiny, &mut ReplayTable::new()))), plain, "{tiny:?}");
    }
}

/// What one process leaves another.
impl Setting {
    /// A program, and others that share situations with it, are replayed from its file as they are simulated. Cycles of the others that
    /// were in the file.
    fn assert_kept_on_disk(&self, items: &[StreamItem], others: &[StreamItem], folder: &Path) -> u64 {
        let options = ReplayOptions { every_command: true, ..ReplayOptions::default() };
        let mut first = ReplayTable::in_folder(folder);
        let plain = end(self.run(items, Some((options, &mut first))));
        let Some((path, contents)) = first.file() else { return 0 };
        fs::write(path, contents).expect("a file");
        let mut known = 0;
        for (program, plain) in [(items, plain), (others, end(self.run(others, None)))] {
            let mut table = ReplayTable::in_folder(folder);
            let result = self.run(program, Some((options, &mut table)));
            let outcome = result.as_ref().unwrap_or_else(|stopped| &stopped.outcome);
            known = outcome.replay.map_or(0, |totals| totals.replayed);
            assert_eq!(outcome.summary.replayed, known);
            assert_eq!(end(result), plain);
            assert_eq!(table.trouble(), None);
        }
        known
    }
}

/// The item at other addresses.
pub fn moved(item: &StreamItem, by: u64) -> StreamItem {
    let StreamItem::Command(cmd) = item else { return item.clone() };
    let shift = |is_address: bool, value: u64| if is_address && value != 0 { value + by } else { value };
    let [first, second] = cmd.dram_registers();
    StreamItem::Command(RoccCommand { rs1: shift(first, cmd.rs1), rs2: shift(second, cmd.rs2), ..*cmd })
}

/// The items again and again.
pub fn repeated(items: &[StreamItem], random: &mut Random) -> Vec<StreamItem> {
    let mut all = Vec::new();
    // Without the fence at their end the next ones begin while these are under way.
    let items = if random.below(2) == 0 { items } else { &items[..items.len() - 1] };
    for _ in 0..2 + random.below(5) {
        let by = [0, 16 * random.below(64), 64 * random.below(64), 4096 * random.below(64)][random.below(4)];
        all.extend(items.iter().map(|item| moved(item, by as u64)));
        match random.below(4) {
            0 => all.push(StreamItem::Fence),
            1 => all.push(StreamItem::Wait(1 + random.below(300) as u64)),
            2 => all.extend([StreamItem::Fence, StreamItem::Wait(random.below(20) as u64)]),
            _ => {}
        }
    }
    all
}

/// Operations of a random program: few words each, so that some meet.
pub fn genes(random: &mut Random) -> Vec<pollux_testkit::Gene> {
    (0..1 + random.below(20)).map(|_| std::array::from_fn(|_| random.bits() as u32)).collect()
}

fn setting(random: &mut Random) -> Setting {
    let configs = ["default16", "small4", "norm16", "lean", "chip", "large_chip", "dim8", "dim64"];
    let config = GemminiConfig::by_name(configs[random.below(configs.len())]).expect("a configuration");
    let mut up_to = |n: usize| 1 + random.below(n) as u64;
    let memory = match up_to(3) {
        1 => MemoryModel::Bandwidth(BandwidthParameters {
            latency: up_to(100),
            bytes: 3 + up_to(29),
            cycles: up_to(2),
            outstanding: up_to(24),
        }),
        _ => MemoryModel::Bench(BenchParameters { latency: up_to(150), a_period: up_to(4), d_period: up_to(4) }),
    };
    let interval = if up_to(4) == 1 { up_to(12) } else { 1 };
    Setting { config, memory, interval }
}

#[test]
fn programs_that_come_again_are_replayed_as_they_were_simulated() {
    let number = |name, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (cases, seed) = (number("POLLUX_RANDOM_CASES", 400), number("POLLUX_RANDOM_SEED", 1));
    let first = number("POLLUX_RANDOM_FIRST", 0);
    let (mut total, mut from_disk) = (ReplayTotals::default(), ReplayTotals::default());
    let folder = tempfile::tempdir().expect("a folder");
    for case in first..first + cases {
        let random = &mut Random::new(seed << 32 | case);
        let setting = setting(random);
        let once = program(&setting.config, random.below(2) == 0, &genes(random)).items;
        let items = repeated(&once, random);
        println!("case {case} of seed {seed}: {setting:?}");
        let table = &mut ReplayTable::new();
        // The program knows itself when it comes again; and then everything is known.
        let first = ReplayOptions { every_command: true, ..ReplayOptions::default() };
        let again = setting.run(&items, Some((first, table))).ok().and_then(|outcome| outcome.replay);
        total.hops += again.map_or(0, |totals| totals.hops);
        total.recorded += again.map_or(0, |totals| totals.recorded);
        let known = setting.assert_replayed(&items, table);
        total.replayed += known.map_or(0, |totals| totals.replayed);
        if case % 4 == 2 {
            setting.assert_profiled(&items);
        }
        if case % 4 == 0 {
            let others = repeated(&once, random);
            from_disk.replayed += setting.assert_kept_on_disk(&items, &others, folder.path());
            from_disk.hops += 1;
        }
    }
    assert!(from_disk.replayed > 100 * from_disk.hops, "{from_disk:?}");
    println!("{cases} programs: {total:?}");
    assert!(total.hops > 10 * cases && total.recorded > 0, "{total:?}");
}
