//! The refined analytical model: fill and drain, passes, request sizes, bank conflicts, the latency of the memory, the host's commands,
//! and how loads, computes and stores of neighbouring tiles overlap.

use pollux_kernels::{Axis, Dataflow, Emission, Schedule, Tile};

use super::machine::Machine;
use super::product::{ProductCosts, STORE_OVERHEAD};
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
        // Without a second place the first load waits for the computes that still read what it overwrites.
        let first = load_a + load_b;
        let begin = match schedule.double_buffer {
            true => ahead,
            false => ahead.min(self.free_before_end(schedule, place, conflict) - RESTART),
        };
        // Part of the tile's first loads that is beside computes.
        let beside = (begin / (latency + first)).clamp(0.0, 1.0);
        let first_run = |computes: f64, stolen: f64, loads: f64| match schedule.double_buffer || loads == 0.0 {
            true => run(computes + stolen, loads),
            false => {
                let waits = (latency + first - begin).max(0.0);
                (computes + beside * stolen + waits).max(latency + loads - begin)
            }
        };
        let c = self.c.tile(size.j, last[1]);
        // Cycles of a store, of tiles that end sums.
        let store = match last[2] {
            true => {
                let commands = c.commands.max(1) as f64;
                let held = dim * c.asked / commands * machine.write_interval + STORE_OVERHEAD;
                (c.full / commands).max(held)
            }
            false => 0.0,
        };
        let mut time = 0.0;
        match schedule.dataflow {
            Dataflow::Ws => {
                let column = mean_rows * (ni - 1.0) + dim * (1.0 + conflict);
                let wide = nj / gb;
                // In the first column of each group of k every compute waits for its block of A.
                let both = load_b + ni * load_a;
                let stolen = stolen_b + ni * stolen_a;
                // The first loads of a tile are beside the last computes of the one before.
                let rest = (nk * gb - ga) * column * wide / ga;
                let hidden = both - begin.clamp(0.0, rest);
                time += first_run(column * wide, stolen, both).max(hidden);
                time += (ga - 1.0) * run(column * wide + stolen, both).max(hidden);
                time += (nk * gb - ga) * run(column * wide + stolen_b, load_b).max(load_b);
                if last[2] {
                    let loads = if loads_b { load_b } else { load_a };
                    let stores = Stores {
                        rows: ni,
                        cycles: store,
                        column,
                        group: group.min(nj),
                        columns: nj,
                        before: column * (nk - 1.0) * nj,
                        load: if loads > 0.0 { latency + loads } else { 0.0 },
                        starved: self.one_accumulator_bank(schedule),
                        first: if place.first_k { 1.0 / nk } else { 0.0 },
                    };
                    time += stores.delay(machine, begin);
                }
            }
            Dataflow::Os => {
                let compute = dim * (1.0 + conflict);
                let wide = nj / gb;
                // In the first row of blocks every compute at the beginning of a group of columns waits for its block of B.
                let row = nk * compute;
                let both = nk * load_b + ga * load_a;
                let stolen = nk * stolen_b + ga * stolen_a;
                let runs = first_run(row, stolen, both) + (gb - 1.0) * run(row + stolen, both) + (nj - gb) * row;
                time += runs.max(gb * both);
                let again = run(row + ga * stolen_a, ga * load_a) + (nj - 1.0) * row;
                time += (ni - 1.0) * again.max(ga * load_a);
                if last[2] {
                    time += ni * gb * (store - wide * nk * compute).max(0.0);
                }
            }
        }
        let mut shared = 0.0;
        if machine.byte > 0.0 {
            shared += if loads_a { ni * a.shared } else { 0.0 } + if loads_b { nk * b.shared } else { 0.0 };
            shared += if last[2] { ni * c.shared } else { 0.0 };
        }
        InLine { time: time.max(shared), store: store * (ni * gb).min(machine.station[2] as f64) }
    }

    /// Cycles from the last compute that reads what a tile's first loads overwrite to the end of the tile.
    fn free_before_end(&self, schedule: &Schedule, place: &Place, conflict: f64) -> f64 {
        let Place { ni, nj, nk, loads_a, loads_b, .. } = *place;
        let (dim, group) = (self.machine.dim as f64, self.machine.group as f64);
        let new_weights = dim * (1.0 + conflict);
        let (a, b) = match schedule.dataflow {
            // By k, j, i: a block of A is read in every column of its group of k, one of B in one column.
            Dataflow::Ws => {
                let column = (ni - 1.0) * dim + new_weights;
                let a = (nk - nk.min(group)) * nj * column + column - new_weights;
                (a, (nk * nj - nj.min(group)) * column)
            }
            // By i, j, k: a block of A is read in one row of blocks, one of B in all.
            Dataflow::Os => {
                let row = nj * nk * new_weights;
                let a = (ni - 1.0) * row + (nk - nk.min(group)) * new_weights;
                (a, row - ((nj.min(group) - 1.0) * nk + 1.0) * new_weights)
            }
        };
        let of = |loads: bool, free: f64| if loads { free } else { f64::INFINITY };
        of(loads_a, a).min(of(loads_b, b))
    }

    /// Part of the pairs of rows of sums that are in one bank of the accumulator.
    fn one_accumulator_bank(&self, schedule: &Schedule) -> f64 {
        let bank = self.machine.accumulator_bank as f64;
        let rows = (self.sums(schedule) * self.machine.dim) as f64;
        let full = (rows / bank).floor();
        let rest = rows - full * bank;
        (full * bank * bank + rest * rest) / (rows * rows)
    }

    /// Blocks of sums that are kept at a time.
    fn sums(&self, schedule: &Schedule) -> usize {
        let Tile { i, j, .. } = schedule.tile;
        let tiles = self.tiles(&schedule.tile);
        let inside = schedule.order.iter().rev().take_while(|axis| **axis != Axis::K);
        inside.fold(i * j, |blocks, axis| match axis {
            Axis::I => blocks * tiles.i,
            _ => blocks * tiles.j,
        })
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

/// The stores of a tile, which stand between the computes of the last column of each group of columns.
struct Stores {
    /// Stores of a group.
    rows: f64,
    /// Cycles of a store.
    cycles: f64,
    /// Cycles of a column's computes; columns of a group, and of the tile.
    column: f64,
    group: f64,
    columns: f64,
    /// Cycles of computes before the first of the columns that end sums.
    before: f64,
    /// Cycles from the next load to the compute that waits for it; 0 if nothing is loaded.
    load: f64,
    /// Part of the computes that are in the bank that is stored: as far as they add to sums, they keep stores from it.
    starved: f64,
    /// Part of the computes that begin sums.
    first: f64,
}

impl Stores {
    /// Cycles by which computes are later than without stores. The host waits until all stores but those that the station has
    /// room for are done; only then can it give the next load, and the computes before it are over.
    fn delay(&self, machine: &Machine, ahead: f64) -> f64 {
        let entries = machine.station[2] as f64;
        let through = machine.dim as f64 + machine.array_latency as f64 + PASS_PATH;
        let free = 1.0 - self.starved * (1.0 - self.first);
        let groups = (self.columns / self.group).ceil();
        // Stores of the tile before that are left.
        let mut left = (self.rows * groups).min(entries) - (self.load + free * self.before) / self.cycles;
        let (mut columns, mut delay) = (self.columns, 0.0);
        while columns > 0.0 {
            let wide = columns.min(self.group);
            columns -= wide;
            left = (left - free * (wide - 1.0) * self.column / self.cycles).max(0.0) + self.rows;
            let waiting = left - entries;
            if waiting > 0.0 {
                let late = (through - self.column + waiting * self.cycles).max(-ahead);
                delay += (late + self.load).max(0.0) - (self.load - ahead).max(0.0);
                left = entries - self.load / self.cycles;
            }
        }
        delay
    }
}

/// Cycles from a compute's last row to its completion, and from the end of the load that waited for it to the first row of the next
/// compute (`ReservationStation.scala`, `ExecuteController.scala`; measured).
const RESTART: f64 = 18.0;
/// Cycles of a compute's path beside the array: from the station to the first row, and from the last row to its completion
/// (`ExecuteController.scala`).
const PASS_PATH: f64 = 8.0;

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
