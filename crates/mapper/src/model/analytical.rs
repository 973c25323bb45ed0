//! The refined analytical model: fill and drain, passes, request sizes, bank conflicts, the latency of the memory, the host's commands,
//! and how loads, computes and stores of neighbouring tiles overlap.

use pollux_kernels::{Axis, Emission, Schedule, Tile};

use super::product::ProductCosts;
use super::tile::{Progress, TileCost, repeat};
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
        let order = schedule.order;
        repeat(&mut progress, count(order[0]), |progress, x| {
            repeat(progress, count(order[1]), |progress, y| {
                repeat(progress, count(order[2]), |progress, z| {
                    let at = |axis: Axis| [x, y, z][order.iter().position(|o| *o == axis).unwrap_or(0)];
                    let tile = self.tile_cost(schedule, &tiles, [at(Axis::I), at(Axis::J), at(Axis::K)], &loads);
                    match schedule.emission {
                        Emission::Unroller => progress.unrolled(&tile),
                        Emission::Commands => progress.unrolled(&tile),
                    }
                });
            });
        });
        progress.end() + END + self.machine.array_latency as f64 + self.machine.least_latency as f64
    }

    /// What the tile at this place takes.
    fn tile_cost(&self, schedule: &Schedule, tiles: &Tile, [i, j, k]: [usize; 3], loads: &[u64; 2]) -> TileCost {
        let (machine, size) = (&self.machine, &schedule.tile);
        let last = [i + 1 == tiles.i, j + 1 == tiles.j, k + 1 == tiles.k];
        let extent = |size: usize, blocks: usize, at: usize| size.min(blocks - at * size);
        let rows_of_blocks = extent(size.i, self.blocks.i, i);
        let (columns, depth) = (extent(size.j, self.blocks.j, j), extent(size.k, self.blocks.k, k));
        let (ni, nj, nk) = (rows_of_blocks as f64, columns as f64, depth as f64);
        let dim = machine.dim as f64;
        // Rows of the tile's last block.
        let ragged = match last[0] {
            true => self.shape.i as f64 - (self.blocks.i - 1) as f64 * dim,
            false => dim,
        };
        let least = LEAST_ROWS as f64;
        let mut cost = TileCost { host: 6.0 * machine.interval, ..TileCost::default() };
        // Loads.
        let loads_a = loads[0] > 1 || j == 0;
        let loads_b = loads[1] > 1 || i == 0;
        let mut written = [0.0; 2];
        if loads_a {
            let a = self.a.tile(size.k, last[2]);
            cost.load += (ni - 1.0) * a.full + if last[0] { a.last } else { a.full };
            written[0] = ((ni - 1.0) * dim + ragged) * a.writes;
            cost.first += machine.read_latency + a.first;
        }
        if loads_b {
            let b = self.b_of(schedule).tile(size.j, last[1]);
            let (full, end) = (b.full, b.last);
            cost.load += (nk - 1.0) * full + if last[2] { end } else { full };
            written[1] = nk * dim * b.writes;
            cost.first += if loads_a { b.first } else { machine.read_latency + b.first };
        }
        if cost.load > 0.0 {
            cost.writes = written.map(|rows| (rows / cost.load).min(1.0));
        }
        // Computes. A stands at the beginning of its half, B at the end; where both are in one bank a row takes two cycles.
        let half = machine.scratchpad_rows as f64 / 2.0;
        let conflict = overlap(ni * nk * dim, nk * nj * dim, half, machine.scratchpad_bank as f64);
        cost.new_weights = nj * nk * dim * (1.0 + conflict);
        cost.others = match rows_of_blocks {
            1 => 0.0,
            _ => nj * nk * ((ni - 2.0) * dim.max(least) + ragged.max(least)),
        };
        cost.tail = if loads_b { nj.min(machine.group as f64) * ni * dim } else { nk.min(machine.group as f64) * dim };
        if last[2] {
            let c = self.c.tile(size.j, last[1]);
            cost.store = (ni - 1.0) * c.full + if last[0] { c.last } else { c.full };
            let commands = ni * c.commands as f64;
            cost.pending = (machine.station[2] as f64 / commands).min(1.0);
        }
        cost
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
