//! The refined analytical model: fill and drain, passes, request sizes, bank conflicts, the latency of the memory, the host's commands,
//! and how loads, computes and stores of neighbouring tiles overlap.

use pollux_kernels::{Axis, Dataflow, Emission, Schedule, Tile};

use super::product::ProductCosts;
use super::tile::{Known, Progress, TileCost, repeat};
use crate::counts::LEAST_ROWS;
use crate::reuse;

/// Cycles from the host's first command to the first row request of a loop (`frontend`: command queues, unroller, station).
const START: f64 = 13.0;
/// Cycles from the last result to the last row in memory, beside latencies.
const END: f64 = 14.0;

impl ProductCosts {
    /// Cycles of a schedule.
    pub fn cycles(&self, schedule: &Schedule) -> f64 {
        let tiles = self.tiles(&schedule.tile);
        let loads = reuse::of_product(schedule, &tiles);
        let mut progress = Progress::new(5.0 * self.machine.interval + START);
        let count = |axis: Axis| match axis {
            Axis::I => tiles.i,
            Axis::J => tiles.j,
            Axis::K => tiles.k,
        };
        let position = |axis: Axis| schedule.order.iter().position(|other| *other == axis).unwrap_or(0);
        let [i, j, k] = [Axis::I, Axis::J, Axis::K].map(position);
        let order = schedule.order.map(count);
        // Tiles at like places are alike: at the end of a dimension or not, with loads or without.
        let mut known = Known::default();
        repeat(&mut progress, order[0], |progress, x| {
            repeat(progress, order[1], |progress, y| {
                repeat(progress, order[2], |progress, z| {
                    let at = [x, y, z];
                    let place = Place::new(self, schedule, &tiles, [at[i], at[j], at[k]], &loads);
                    let step = known.get_or_insert_with(place.kind(), || match schedule.emission {
                        Emission::Unroller => Step::Unrolled(self.unrolled(schedule, &place)),
                        Emission::Commands => Step::InLine(self.in_line(schedule, &place)),
                    });
                    match step {
                        Step::Unrolled(tile) => progress.unrolled(tile),
                        Step::InLine(tile) => progress.in_line(tile),
                    }
                });
            });
        });
        progress.end() + END + self.machine.array_latency as f64 + self.machine.least_latency as f64
    }

    /// What a tile of the unroller takes.
    fn unrolled(&self, schedule: &Schedule, place: &Place) -> TileCost {
        let (machine, size) = (&self.machine, &schedule.tile);
        let Place { ni, nj, nk, ragged, last, loads_a, loads_b, .. } = *place;
        let dim = machine.dim as f64;
        let least = LEAST_ROWS as f64;
        let mut cost = TileCost { host: 6.0 * machine.interval, ..TileCost::default() };
        let mut written = [0.0; 2];
        if loads_a {
            let a = self.a.tile(size.k, last[2]);
            cost.shares[0] += ni * a.shared;
            cost.load += (ni - 1.0) * a.full + if last[0] { a.last } else { a.full };
            written[0] = ((ni - 1.0) * dim + ragged) * a.writes;
            cost.first += machine.read_latency + a.first;
        }
        if loads_b {
            let b = self.b_of(schedule).tile(size.j, last[1]);
            cost.shares[0] += nk * b.shared;
            cost.load += (nk - 1.0) * b.full + if last[2] { b.last } else { b.full };
            written[1] = nk * dim * b.writes;
            cost.first += if loads_a { b.first } else { machine.read_latency + b.first };
        }
        if let (true, Some(d)) = (place.first_k, &self.d) {
            // One row for each block of rows, and from there to all rows.
            let d = d.tile(size.j, last[1]);
            cost.load += ni * d.full.max(d.commands as f64 * dim);
        }
        // What B's loads take from computes depends on the bank: that of A, that of the B which is read at the time, or neither.
        let half = machine.scratchpad_rows as f64 / 2.0;
        let bank = machine.scratchpad_bank as f64;
        let beside_a = ((nk * nj * dim - bank).max(0.0) / (nk * nj * dim)).min(1.0);
        if cost.load > 0.0 {
            cost.shares[0] = (cost.shares[0] / cost.load).min(1.0);
            let [a, b] = written.map(|rows| (rows / cost.load).min(1.0));
            let same = beside_a * beside_a + (1.0 - beside_a) * (1.0 - beside_a);
            let others = a + b * beside_a;
            cost.writes = [others, (a + b * same.max(beside_a) - others).max(0.0)];
        }
        // Computes. A stands at the beginning of its half, B at the end; where both are in one bank a row takes two cycles.
        let conflict = overlap(ni * nk * dim, nk * nj * dim, half, bank);
        cost.new_weights = nj * nk * dim * (1.0 + conflict);
        cost.others = match ni > 1.0 {
            true => nj * nk * ((ni - 2.0) * dim.max(least) + ragged.max(least)),
            false => 0.0,
        };
        cost.tail = if loads_b { nj.min(machine.group as f64) * ni * dim } else { nk.min(machine.group as f64) * dim };
        if last[2] {
            let c = self.c.tile(size.j, last[1]);
            cost.store = (ni - 1.0) * c.full + if last[0] { c.last } else { c.full };
            cost.store = cost.store.max(machine.writes_held(((ni - 1.0) * dim + ragged) * c.asked));
            cost.shares[1] = (ni * c.shared / cost.store).min(1.0);
            let commands = ni * c.commands as f64;
            cost.pending = (machine.station[2] as f64 / commands).min(1.0);
        }
        cost
    }

    /// What a tile of single commands takes. They stand in line: a load is in the station when the computes before it are but for
    /// as many as the station holds.
    fn in_line(&self, schedule: &Schedule, place: &Place) -> InLine {
        let (machine, size) = (&self.machine, &schedule.tile);
        let Place { ni, nj, nk, ragged, last, loads_a, loads_b, .. } = *place;
        let dim = machine.dim as f64;
        let ahead = (machine.station[1] / 2) as f64 * dim;
        let group = machine.group as f64;
        let a = self.a.tile(size.k, last[2]);
        let b = self.b_of(schedule).tile(size.j, last[1]);
        let groups = |n: f64| (n / group).ceil();
        let [ga, gb] = [groups(nk), groups(nj)];
        let load_a = if loads_a { a.full / ga } else { 0.0 };
        let load_b = if loads_b { b.full / gb } else { 0.0 };
        let conflict = self.one_bank(schedule);
        let mean_rows = ((ni - 1.0) * dim + ragged.max(LEAST_ROWS as f64)) / ni;
        // Rows that a load writes take the bank from computes that read it. What is loaded next stands beside what is read: A is read all
        // the time, B with new weights, and what is read of A may be in the bank of B.
        let reads_b = match schedule.dataflow {
            Dataflow::Os => 1.0,
            Dataflow::Ws => dim * (1.0 + conflict) / (mean_rows * (ni - 1.0) + dim * (1.0 + conflict)),
        };
        let stolen_a = if loads_a { dim * a.writes / ga } else { 0.0 };
        let stolen_b = if loads_b { dim * b.writes / gb * reads_b.max(conflict) } else { 0.0 };
        let latency = machine.read_latency;
        // A run of computes behind loads that each of them, or only the first, waits for.
        let run = |computes: f64, loads: f64| match loads > 0.0 {
            true => computes.max(latency + loads - ahead),
            false => computes,
        };
        let mut time = 0.0;
        let stores = |columns: f64| {
            let c = self.c.tile(size.j, last[1]);
            let store = c.full / c.commands.max(1) as f64;
            (store, (columns - machine.station[2] as f64).max(0.0))
        };
        match schedule.dataflow {
            Dataflow::Ws => {
                let column = mean_rows * (ni - 1.0) + dim * (1.0 + conflict);
                let wide = nj / gb;
                // In the first column of each group of k every compute waits for its block of A.
                let both = load_b + ni * load_a;
                time += ga * run(column * wide + stolen_b + ni * stolen_a, both).max(both);
                time += (nk * gb - ga) * run(column * wide + stolen_b, load_b).max(load_b);
                if last[2] {
                    // They follow the computes of a group of columns, and leave one after the other.
                    let (store, waiting) = stores(ni);
                    time += gb * (ni * store - column * wide).max(waiting * (store - dim)).max(0.0);
                }
            }
            Dataflow::Os => {
                let compute = dim * (1.0 + conflict);
                let wide = nj / gb;
                // In the first row of blocks every compute at the beginning of a group of columns waits for its block of B.
                let row = nk * compute;
                let both = nk * load_b + ga * load_a;
                time += (gb * run(row + nk * stolen_b + ga * stolen_a, both) + (nj - gb) * row).max(gb * both);
                let again = run(row + ga * stolen_a, ga * load_a) + (nj - 1.0) * row;
                time += (ni - 1.0) * again.max(ga * load_a);
                if last[2] {
                    let (store, _) = stores(1.0);
                    time += ni * gb * (store - wide * nk * compute).max(0.0);
                }
            }
        }
        let first = if loads_a { a.first } else { 0.0 } + if loads_b { b.first } else { 0.0 };
        // Without a second place the first load waits for the computes that still read what it overwrites.
        let waits = match first > 0.0 && !schedule.double_buffer && nk <= group {
            true => ahead.min(latency + first),
            false => 0.0,
        };
        let store = if last[2] { stores(ni).0 * (ni * gb).min(machine.station[2] as f64) } else { 0.0 };
        let mut shared = 0.0;
        if machine.byte > 0.0 {
            shared += if loads_a { ni * a.shared } else { 0.0 } + if loads_b { nk * b.shared } else { 0.0 };
            shared += if last[2] { ni * self.c.tile(size.j, last[1]).shared } else { 0.0 };
        }
        InLine { time: (time + waits).max(shared), store }
    }

    /// Part of the pairs of rows of A and B that are in one bank: their places follow each other from the first row on.
    fn one_bank(&self, schedule: &Schedule) -> f64 {
        let machine = &self.machine;
        let (dim, bank) = (machine.dim as f64, machine.scratchpad_bank as f64);
        let Tile { i, j, k } = schedule.tile;
        let copies = if schedule.double_buffer { 2.0 } else { 1.0 };
        let (a, b) = (copies * (i * k) as f64 * dim, copies * (k * j) as f64 * dim);
        let part =
            |start: f64, end: f64, n: f64| (end.min((n + 1.0) * bank) - start.max(n * bank)).max(0.0) / (end - start);
        let banks = machine.scratchpad_rows / machine.scratchpad_bank;
        (0..banks).map(|n| part(0.0, a, n as f64) * part(a, a + b, n as f64)).sum()
    }
}

/// Cycles of a tile of single commands.
pub(super) struct InLine {
    /// From the end of the one before.
    pub time: f64,
    /// Of the stores that are left behind.
    pub store: f64,
}

/// A tile's cost.
enum Step {
    Unrolled(TileCost),
    InLine(InLine),
}

/// A tile and where it is.
struct Place {
    /// Blocks.
    ni: f64,
    nj: f64,
    nk: f64,
    /// Rows of the last block of rows.
    ragged: f64,
    /// Whether it is the last one in each dimension.
    last: [bool; 3],
    /// Whether it loads its operands.
    loads_a: bool,
    loads_b: bool,
    /// Whether sums begin.
    first_k: bool,
}

impl Place {
    fn new(costs: &ProductCosts, schedule: &Schedule, tiles: &Tile, [i, j, k]: [usize; 3], loads: &[u64; 2]) -> Self {
        let (size, blocks) = (&schedule.tile, &costs.blocks);
        let last = [i + 1 == tiles.i, j + 1 == tiles.j, k + 1 == tiles.k];
        let extent = |size: usize, blocks: usize, at: usize| size.min(blocks - at * size) as f64;
        let dim = costs.machine.dim;
        let ragged = if last[0] { costs.shape.i - (blocks.i - 1) * dim } else { dim };
        Self {
            ni: extent(size.i, blocks.i, i),
            nj: extent(size.j, blocks.j, j),
            nk: extent(size.k, blocks.k, k),
            ragged: ragged as f64,
            last,
            loads_a: loads[0] > 1 || j == 0,
            loads_b: loads[1] > 1 || i == 0,
            first_k: k == 0,
        }
    }

    /// Places of one kind have tiles of one cost.
    fn kind(&self) -> usize {
        let flags = [self.last[0], self.last[1], self.last[2], self.loads_a, self.loads_b, self.first_k];
        flags.into_iter().fold(0, |kind, flag| 2 * kind + usize::from(flag))
    }
}

/// Part of the pairs of a row of A and a row of B that are in the same bank: A at the beginning of a half of the scratchpad, B at its
/// end.
fn overlap(a: f64, b: f64, half: f64, bank: f64) -> f64 {
    if a <= bank && b <= bank && a + b <= half && half >= 2.0 * bank {
        return 0.0;
    }
    let part = |start: f64, end: f64, bank_start: f64| {
        ((end.min(bank_start + bank) - start.max(bank_start)).max(0.0)) / (end - start)
    };
    let banks = (half / bank).ceil().max(1.0) as usize;
    (0..banks).map(|n| part(0.0, a, n as f64 * bank) * part(half - b, half, n as f64 * bank)).sum()
}
