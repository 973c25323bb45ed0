//! Every view is that of a fresh run stepped there one cycle at a time; searches find the same cycles in both directions; the array shown
//! is the one that was clocked from the start.
//!
//! `POLLUX_RANDOM_WALKS` sets the number of random walks (24 by default).

use std::collections::{BTreeMap, BTreeSet};

use pollux_asm::{Buffer, ElementType, Program};
use pollux_isa::config::Dataflow;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_sim::host::Processor;
use pollux_sim::machine::{PageTables, Translation};
use pollux_sim::mesh_pe::MeshPe;
use pollux_sim::observer::{Cycle, Event, Links, Origin, ReqKind, Unit};
use pollux_sim::simulation::Reached;
use pollux_testkit::{ARENA, ARENA_BYTES, Gene, Random};

use crate::array::ArrayView;
use crate::engine::{Engine, Everything, Setup, Watch, start};
use crate::overview::{BlockSpan, Bucket, Overview};
use crate::scan::Recent;
use crate::session::{Found, Options, Session};
use crate::view::{HISTORY, View};

/// A random legal program.
fn program(config: &ValidConfig, random: &mut Random, genes: usize) -> Program {
    let genes: Vec<Gene> = (0..genes).map(|_| std::array::from_fn(|_| random.bits() as u32)).collect();
    let made = pollux_testkit::program(config, random.below(2) == 0, &genes);
    let mut program = Program::new(config.clone());
    program.buffers.push(Buffer {
        name: "arena".into(),
        address: ARENA,
        element: ElementType::I8,
        shape: vec![ARENA_BYTES],
        data: Some(made.memory.read_vec(ARENA, ARENA_BYTES as usize)),
        expected: None,
    });
    program.items = made.items;
    program
}

fn setup(random: &mut Random) -> Setup {
    let memories = ["bench", "bench:latency=7,a_period=3,d_period=2", "bandwidth:latency=60,bytes=8", "dram", "l2"];
    let paged = Translation::Paged { tables: PageTables::Identity, walk_latency: 30 };
    Setup {
        memory: memories[random.below(memories.len())].parse().expect("a memory"),
        translation: if random.below(3) == 0 { paged } else { Translation::Bare },
        interval: 1 + random.below(4) as u64,
        processor: (random.below(3) == 0).then(Processor::default),
    }
}

/// Views of a fresh run that evaluates every block in every cycle, at the cycles that are asked for.
fn plain_views(program: &Program, setup: &Setup, wanted: &BTreeMap<Cycle, View>) -> Vec<View> {
    let mut engine = start(program, setup).expect("it starts");
    engine.skip_idle = false;
    engine.record(true);
    let mut recent = Recent::default();
    let mut views = Vec::new();
    let last = *wanted.keys().next_back().expect("a cycle");
    for cycle in 0..=last {
        let before = engine.clone();
        let reached = step(&mut engine, &mut recent, cycle);
        let ended = reached == Reached::End && wanted.contains_key(&(cycle + 1));
        if wanted.contains_key(&cycle) {
            views.push(View::new(&before, program, &recent, false));
        }
        if ended {
            views.push(View::new(&engine, program, &recent, true));
            return views;
        }
    }
    views
}

fn step(engine: &mut Engine, recent: &mut Recent, cycle: Cycle) -> Reached {
    recent.spans.retain(|(span, _)| span.first + HISTORY > cycle);
    recent.events.clear();
    engine.run_to(&mut Everything(recent), cycle + 1).expect("it runs")
}

const CONDITIONS: [&str; 8] = [
    "issued execute",
    "completed load or completed store",
    "request write",
    "stall load_controller for 3",
    "stall issue_executes after_load",
    "spad[0..64] written by dma",
    "matrix",
    "busy falls or accepted",
];

/// A random walk; the views of the cycles at which it stood.
fn walk(session: &mut Session, random: &mut Random, steps: usize) -> BTreeMap<Cycle, View> {
    let end = session.goto_end().expect("it ends");
    let mut views = BTreeMap::new();
    for _ in 0..steps {
        match random.below(7) {
            0 => session.goto(random.bits() % (end + 1)).expect("it is there"),
            1 => drop(session.step(1 + random.below(5) as u64)),
            2 => drop(session.step(random.below(2000) as u64)),
            3 => drop(session.back(1 + random.below(5) as u64)),
            4 => drop(session.back(random.below(2000) as u64)),
            direction => {
                let condition = session.condition(CONDITIONS[random.below(CONDITIONS.len())]).expect("a condition");
                let found =
                    if direction == 5 { session.run_until(&condition) } else { session.reverse_until(&condition) };
                assert_eq!(found.expect("nobody interrupts").cycle(), session.cycle());
            }
        }
        let view = session.view().expect("a view");
        views.insert(session.cycle(), view);
    }
    views
}

/// The lines that differ.
fn difference<T: serde::Serialize>(seen: &T, expected: &T) -> String {
    let [seen, expected] = [seen, expected].map(|view| serde_json::to_string_pretty(view).expect("plain data"));
    let lines = seen.lines().zip(expected.lines()).filter(|(seen, expected)| seen != expected);
    lines.take(20).map(|(seen, expected)| format!("\n{seen} but {expected}")).collect()
}

fn check_walk(seed: u64) {
    let mut random = Random::new(seed);
    let names = ["small4", "default16", "norm16"];
    let config = GemminiConfig::by_name(names[random.below(names.len())]).expect("a configuration");
    let program = program(&config, &mut random, 3);
    let setup = setup(&mut random);
    let options = Options { setup: setup.clone(), snapshot_bytes: 16 << 20 };
    let mut session = Session::new(program.clone(), options).expect("it starts");
    let views = walk(&mut session, &mut random, 12);
    for (seen, plain) in views.values().zip(plain_views(&program, &setup, &views)) {
        let place = format!("seed {seed}, {}, cycle {}", config.name, seen.machine.cycle);
        assert!(*seen == plain, "{place}: {}", difference(seen, &plain));
    }
}

#[test]
fn every_view_is_that_of_a_fresh_run_stepped_one_cycle_at_a_time() {
    let walks = std::env::var("POLLUX_RANDOM_WALKS").ok().and_then(|walks| walks.parse().ok()).unwrap_or(24);
    (0..walks).for_each(check_walk);
}

#[test]
fn every_hit_forward_is_found_backward_in_reverse_order() {
    let mut random = Random::new(7);
    let config = GemminiConfig::small4().validated().expect("valid");
    let program = program(&config, &mut random, 12);
    let mut all = 0;
    for text in CONDITIONS {
        let mut session = Session::new(program.clone(), Options::default()).expect("it starts");
        let condition = session.condition(text).expect("a condition");
        let mut hits = Vec::new();
        while let Found::Hit(cycle) = session.run_until(&condition).expect("nobody interrupts") {
            hits.push(cycle);
        }
        assert!(session.ended());
        let mut back = Vec::new();
        while let Found::Hit(cycle) = session.reverse_until(&condition).expect("nobody interrupts") {
            back.push(cycle);
        }
        back.reverse();
        // What happens in cycle 0 is no hit after it.
        assert_eq!(hits, back.into_iter().filter(|cycle| *cycle > 0).collect::<Vec<_>>(), "{text}");
        assert!(hits.is_sorted(), "{text}: {hits:?}");
        all += hits.len();
    }
    assert!(all > 50, "{all} hits");
}

/// What is named has rows in the array, and is named by the commands of a pass; a flush is no command's. What the unroller of
/// transpositions puts in has no name.
fn check_products(array: &ArrayView) {
    let named: BTreeSet<u8> = array.products.iter().map(|product| product.matrix).collect();
    assert!(named.is_subset(&array.matrices()), "cycle {}: {named:?}", array.cycle);
    for product in &array.products {
        let of_a_pass = |(_, text): &(u64, String)| text.starts_with("preload") || text.starts_with("compute");
        assert!(product.commands.iter().all(of_a_pass) && product.commands.is_sorted(), "{:?}", product.commands);
    }
}

/// The array of the session against one that was clocked from the start. How many of the cycles that were looked at had a row of each
/// dataflow in the array: output-stationary, weight-stationary.
fn check_array(config: &GemminiConfig, seed: u64, stride: u64) -> [usize; 2] {
    // Output-stationary products are rare in programs that may choose.
    let dataflow = if seed.is_multiple_of(2) { Dataflow::Both } else { Dataflow::Os };
    let config = GemminiConfig { dataflow, ..config.clone() }.validated().expect("valid");
    let program = program(&config, &mut Random::new(seed), 12);
    let mut session = Session::new(program.clone(), Options::default()).expect("it starts");
    let end = session.goto_end().expect("it ends");
    let mut engine = start(&program, &Setup::default()).expect("it starts");
    let mut array = MeshPe::new(&config);
    let mut rows = [0; 2];
    let mut named = 0;
    for cycle in 0..end {
        if cycle.is_multiple_of(stride) {
            session.goto(cycle).expect("it is there");
            let mut seen = session.array().expect("an array");
            check_products(&seen);
            named += usize::from(seen.products.iter().any(|product| !product.commands.is_empty()));
            // The clocked array knows no commands.
            seen.products.clear();
            let lanes = seen.valid.iter().flatten().zip(seen.weight_stationary.iter().flatten());
            for (dataflow, rows) in rows.iter_mut().enumerate() {
                *rows += usize::from(lanes.clone().any(|(valid, ws)| *valid && usize::from(*ws) == dataflow));
            }
            let clocked = ArrayView::new(cycle, &array);
            let place = format!("DIM {}, seed {seed}, cycle {cycle}", config.dim());
            assert!(seen == clocked, "{place}: {}", difference(&seen, &clocked));
        }
        engine.run_beside_array(&mut array, cycle + 1).expect("it runs");
    }
    assert!(named * 4 > rows.iter().sum(), "products have names in {named} cycles, rows are there in {rows:?}");
    rows
}

fn check_arrays(dim: u32, seeds: u64, stride: u64) {
    let config = GemminiConfig::with_dim(dim).expect("a power of two").into_inner();
    let rows = (0..seeds).map(|seed| check_array(&config, seed, stride));
    let rows = rows.fold([0; 2], |[os, ws], [more_os, more_ws]| [os + more_os, ws + more_ws]);
    assert!(!rows.contains(&0), "DIM {dim}: {rows:?} cycles with rows of either dataflow");
}

#[test]
fn the_array_shown_is_the_one_that_was_clocked_from_the_start() {
    // No build with an array of 2 x 2 is possible.
    for (dim, stride) in [(4, 3), (8, 11), (16, 53), (32, 211)] {
        check_arrays(dim, 4, stride);
    }
}

#[test]
#[ignore = "every cycle of many programs takes minutes"]
fn the_array_shown_is_right_in_every_cycle() {
    [4, 8, 16, 32].into_iter().for_each(|dim| check_arrays(dim, 10, 1));
}

#[test]
fn snapshots_stay_within_their_budget() {
    let config = GemminiConfig::default16().validated().expect("valid");
    let items = (0..400).flat_map(|_| {
        let mvin = pollux_isa::RoccCommand { funct: 2, rs1: ARENA, rs2: 16 << 48 | 16 << 32 };
        [pollux_isa::StreamItem::Command(mvin), pollux_isa::StreamItem::Wait(5000), pollux_isa::StreamItem::Fence]
    });
    let mut program = Program::new(config);
    program.items = items.collect();
    let budget = 24 << 20;
    let options = Options { snapshot_bytes: budget, ..Options::default() };
    let mut session = Session::new(program, options).expect("it starts");
    let end = session.goto_end().expect("it ends");
    assert!(end > 2_000_000, "{end}");
    let (bytes, (coarse, _)) = session.snapshots();
    assert!(bytes <= budget && coarse > 4, "{bytes} bytes, {coarse} coarse ones");
}

/// Checks what events are said to belong to against what is known of commands from the events themselves.
#[derive(Default)]
struct LinksChecker {
    /// Function of each command of the host.
    accepted: Vec<(u8, u64, u64)>,
    /// Class, dependencies, and whether it was issued and completed, by sequence number.
    commands: Vec<(Unit, Vec<u64>, bool, bool)>,
    last_stored: u64,
    /// Events with a command, and without.
    known: usize,
    unknown: usize,
}

impl LinksChecker {
    fn allocated(&mut self, event: &Event, links: &Links) {
        let Event::Alloc { seq, unit, funct, rs1, rs2, origin, .. } = *event else { return };
        assert_eq!(seq as usize, self.commands.len());
        let parent = links.parent.expect("every command comes from one of the host's") as usize;
        match origin {
            Origin::Host => assert_eq!(self.accepted[parent], (funct, rs1, rs2)),
            Origin::Matmul => assert_eq!(self.accepted[parent].0, pollux_isa::funct::LOOP_WS),
            Origin::Conv => assert_eq!(self.accepted[parent].0, pollux_isa::funct::LOOP_CONV_WS),
        }
        assert!(links.dependencies.iter().all(|on| *on < seq && !self.commands[*on as usize].3));
        self.commands.push((unit, links.dependencies.clone(), false, false));
    }

    fn belongs(&mut self, cycle: Cycle, event: &Event, links: &Links, class: Unit) {
        match links.command {
            Some(seq) => {
                let (unit, _, issued, _) = self.commands[seq as usize];
                assert!(unit == class && issued, "cycle {cycle}: {event:?} belongs to {seq}");
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }
}

impl Watch for LinksChecker {
    fn event(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        use pollux_sim::observer::Port::{Dma, Ex};
        match *event {
            Event::Accept { funct, rs1, rs2, .. } => self.accepted.push((funct, rs1, rs2)),
            Event::Alloc { .. } => self.allocated(event, links),
            Event::Issue { seq, unit, .. } => {
                for &on in &self.commands[seq as usize].1.clone() {
                    let (of, _, issued, completed) = self.commands[on as usize];
                    // Loads and executes go one behind the other; all else waits for the end.
                    let free = if of == unit && unit != Unit::St { issued } else { completed };
                    assert!(free, "cycle {cycle}: {seq} goes before {on}, on which it depends");
                }
                self.commands[seq as usize].2 = true;
            }
            Event::Complete { seq, .. } => self.commands[seq as usize].3 = true,
            Event::Req { kind: ReqKind::Get, .. } | Event::Rsp { ack: false, .. } => {
                self.belongs(cycle, event, links, Unit::Ld);
            }
            Event::Req { .. } => {
                self.belongs(cycle, event, links, Unit::St);
                let stored = links.command.unwrap_or(self.last_stored);
                assert!(stored >= self.last_stored, "stores leave in order");
                self.last_stored = stored;
            }
            Event::Rsp { .. } => self.belongs(cycle, event, links, Unit::St),
            Event::SpadWrite { port: Dma, .. } | Event::AccWrite { port: Dma, .. } => {
                self.belongs(cycle, event, links, Unit::Ld);
            }
            Event::SpadRead { port: Dma, .. } | Event::AccRead { port: Dma, .. } => {
                self.belongs(cycle, event, links, Unit::St);
            }
            Event::SpadRead { port: Ex, .. } | Event::SpadWrite { port: Ex, .. } | Event::AccWrite { port: Ex, .. } => {
                self.belongs(cycle, event, links, Unit::Ex);
            }
            _ => {}
        }
    }
}

#[test]
fn events_belong_to_commands_that_can_have_made_them() {
    let (mut known, mut unknown) = (0, 0);
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let config = GemminiConfig::by_name(["small4", "norm16"][random.below(2)]).expect("a configuration");
        let program = program(&config, &mut random, 10);
        let mut engine = start(&program, &setup(&mut random)).expect("it starts");
        engine.record(true);
        let mut checker = LinksChecker::default();
        engine.run_to(&mut Everything(&mut checker), Cycle::MAX).expect("it ends");
        known += checker.known;
        unknown += checker.unknown;
    }
    // Rows that the transpose unroller's own commands move belong to nobody.
    assert!(known > 5_000 && unknown * 10 < known, "{known} known, {unknown} unknown");
}

#[test]
fn a_search_from_the_last_cycles_of_a_run_does_not_move_its_end() {
    let config = GemminiConfig::small4().validated().expect("valid");
    let program = program(&config, &mut Random::new(3), 2);
    for text in ["matrix", "stall load_controller for 3", "cycle 99999999"] {
        let mut session = Session::new(program.clone(), Options::default()).expect("it starts");
        let end = session.goto_end().expect("it ends");
        let condition = session.condition(text).expect("a condition");
        for before in 0..4 {
            session.goto(end - before).expect("it is there");
            assert_eq!(session.run_until(&condition).expect("nobody interrupts"), Found::Nothing(end), "{text}");
            assert_eq!((session.end(), session.ended()), (Some(end), true));
        }
        session.goto(end - 1).expect("it is there");
        let last = session.condition(&format!("cycle {end}")).expect("a condition");
        assert_eq!(session.run_until(&last).expect("nobody interrupts"), Found::Hit(end));
    }
}

#[test]
fn an_overview_has_what_single_views_have() {
    let config = GemminiConfig::small4().validated().expect("valid");
    let program = program(&config, &mut Random::new(5), 12);
    let mut session = Session::new(program, Options::default()).expect("it starts");
    let end = session.goto_end().expect("it ends");
    let (from, to) = (end / 3, end / 3 + 101);
    assert!(to < end, "{end}");
    // Every cycle by itself, and eight uneven pieces.
    let single = session.overview(from..to, 101, usize::MAX).expect("cycles");
    let pieces = session.overview(from..to, 8, 3).expect("cycles");
    assert_eq!((single.commands.len(), pieces.commands.len()), (3 + pieces.left_out, 3));
    for cycle in from..to {
        session.goto(cycle).expect("it is there");
        for (view, of) in session.view().expect("a view").blocks.iter().zip(&single.blocks) {
            let Bucket { idle, busy, draining, stalled } = of.buckets[(cycle - from) as usize];
            let counted = [("idle", idle), ("busy", busy), ("draining", draining), ("stalled", stalled)];
            let expected = counted.map(|(name, _)| (name, u64::from(name == view.state)));
            assert_eq!(counted, expected, "{:?} in cycle {cycle}", view.block);
        }
    }
    let all = |overview: &Overview| -> Vec<[u64; 4]> {
        let sum =
            |of: &BlockSpan| of.buckets.iter().fold([0; 4], |sum, b| add(sum, [b.idle, b.busy, b.draining, b.stalled]));
        overview.blocks.iter().map(sum).collect()
    };
    assert_eq!(all(&single), all(&pieces));
    assert!(pieces.blocks.iter().all(|block| block.buckets.len() == 8));
    // Stages follow each other without a gap.
    for command in &single.commands {
        assert!(command.stages.windows(2).all(|two| two[0].end == two[1].start), "{command:?}");
    }
    let whole = session.overview(0..Cycle::MAX, 10, usize::MAX).expect("cycles");
    assert_eq!(
        (whole.to, whole.commands.iter().filter(|of| of.completed.is_some()).count()),
        (end, whole.commands.len())
    );
    assert!(session.overview(end..end + 5, 5, 5).is_err());
}

fn add(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    std::array::from_fn(|i| a[i] + b[i])
}

#[test]
fn heat_is_the_sum_of_the_arrays_of_its_cycles() {
    let products: u64 = (0..4).map(check_heat).sum();
    assert!(products > 0, "no product was counted");
}

/// The heat of a run's last cycles against their arrays; its products.
fn check_heat(seed: u64) -> u64 {
    let config = GemminiConfig::small4().validated().expect("valid");
    let program = program(&config, &mut Random::new(seed), 12);
    let mut session = Session::new(program, Options::default()).expect("it starts");
    let end = session.goto_end().expect("it ends");
    let cycles = end.min(2000);
    let heat = session.heat(cycles).expect("heat");
    let mut expected = crate::Heat::new(end - cycles, 4);
    for cycle in end - cycles..end {
        session.goto(cycle).expect("it is there");
        let array = session.array().expect("an array");
        for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
            let stationary = if array.computes_with[row][column] == 2 { &array.c2 } else { &array.c1 };
            let factor = if array.weight_stationary[row][column] { stationary } else { &array.b };
            expected.rows[row][column] += u64::from(array.valid[row][column]);
            expected.products[row][column] +=
                u64::from(array.valid[row][column] && array.a[row][column] != 0 && factor[row][column] != 0);
        }
        expected.to += 1;
    }
    assert_eq!(heat, expected);
    heat.products.iter().flatten().sum()
}
