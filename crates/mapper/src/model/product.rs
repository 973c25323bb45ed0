//! Costs of products: everything that does not depend on the whole mapping is worked out once for a problem, so that a mapping is
//! priced by table look-ups.

use pollux_isa::ValidConfig;
use pollux_kernels::{Dataflow, Emission, MatmulShape, Schedule, Tile};
use pollux_sim::counts::{CommandCounts, EventCounts};

use super::bound::Work;
use super::machine::Machine;
use crate::counts::{LEAST_ROWS, Predicted, RowTraffic, flush_passes, read_row, write_row};
use crate::problem::{MatmulProblem, ReadOut};
use crate::reuse;

/// Traffic of a matrix's rows cut into the pieces of a tile width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pieces {
    /// Load or store commands for each block of rows.
    pub commands: u64,
    /// Of all rows together.
    pub requests: u64,
    /// Beats.
    pub beats: u64,
    /// Bytes.
    pub bytes: u64,
    /// Writes of local rows.
    pub local_writes: u64,
    /// Cycles of a block of rows, and of the last one, which may be ragged, if loads follow each other; the mean over the pieces.
    pub full: f64,
    /// Of the last block of rows.
    pub last: f64,
    /// Local writes for each row.
    pub writes: f64,
    /// Requests of each row.
    pub asked: f64,
    /// Cycles of the first command's data.
    pub first: f64,
    /// Beats of the smallest command.
    pub least: u64,
    /// Cycles of a full block of rows on a memory that reads and writes share; 0 where they do not.
    pub shared: f64,
}

/// The pieces of every tile along one axis: `[size - 1][index]`, and their sums `[size - 1]`.
#[derive(Clone, Debug)]
pub struct Cut {
    tiles: Vec<[Pieces; 2]>,
    sums: Vec<Pieces>,
    /// Beats of the smallest command `[size - 1]`.
    least: Vec<u64>,
}

/// A matrix in main memory: its rows, bytes from one to the next, bytes of an element and of a local row.
struct Matrix {
    rows: usize,
    cols: usize,
    element: usize,
    row_bytes: u64,
    /// Blocks that a command moves.
    group: usize,
    /// Rows of the last block that are moved.
    last_rows: usize,
    write: bool,
}

impl Cut {
    fn new(config: &ValidConfig, machine: &Machine, matrix: &Matrix) -> Self {
        let dim = machine.dim;
        let blocks = matrix.cols.div_ceil(dim);
        let line = config.dma_maxbytes as usize;
        // Where rows begin relative to the largest request, and how many do.
        let stride = matrix.cols * matrix.element;
        let mut starts: Vec<(usize, u64)> = Vec::new();
        for row in 0..matrix.rows.min(line) {
            let times = (matrix.rows - row).div_ceil(line) as u64;
            match starts.iter_mut().find(|(start, _)| *start == row * stride % line) {
                Some((_, rows)) => *rows += times,
                None => starts.push((row * stride % line, times)),
            }
        }
        let piece = |first: usize, last: usize| {
            let at = first * dim * matrix.element;
            let bytes = ((last * dim).min(matrix.cols) * matrix.element - at) as u64;
            let mut sum = RowTraffic::default();
            for &(start, rows) in &starts {
                let address = ((start + at) % line) as u64;
                let row = match matrix.write {
                    true => write_row(config, address, bytes),
                    false => read_row(config, address, bytes, matrix.row_bytes),
                };
                sum.requests += row.requests * rows;
                sum.beats += row.beats * rows;
                sum.bytes += row.bytes * rows;
                sum.local_writes += row.local_writes * rows;
            }
            sum
        };
        let of_tile = |from: usize, to: usize| {
            let mut pieces = Pieces::default();
            for first in (from..to).step_by(matrix.group) {
                let last = (first + matrix.group).min(to);
                let sum = piece(first, last);
                let rows = matrix.rows as f64;
                let (requests, beats) = (sum.requests as f64 / rows, sum.beats as f64 / rows);
                pieces.commands += 1;
                pieces.requests += sum.requests;
                pieces.beats += sum.beats;
                pieces.bytes += sum.bytes;
                pieces.local_writes += sum.local_writes;
                let cycles = |rows: usize| match matrix.write {
                    false => machine.load(rows as f64, requests, beats),
                    // A row leaves the accumulator block by block, and then the engine beat by beat.
                    true => {
                        let row = ((last - first) as f64 * machine.read_out).max(beats * machine.a_beat as f64);
                        rows as f64 * row.max(machine.byte * beats * machine.beat_bytes as f64) + STORE_OVERHEAD
                    }
                };
                pieces.full += cycles(dim);
                pieces.last += cycles(matrix.last_rows);
                pieces.shared += dim as f64 * machine.byte * beats * machine.beat_bytes as f64;
                // The last block of rows may be the one, and rows may differ: a beat a row at least.
                let own = matrix.last_rows.min(dim) as u64 * (sum.beats / matrix.rows as u64).max(1);
                pieces.least = if pieces.least == 0 { own } else { pieces.least.min(own) };
                if pieces.first == 0.0 {
                    pieces.first = dim.min(matrix.rows) as f64 * beats * (machine.d_beat as f64);
                }
            }
            pieces.writes = pieces.local_writes as f64 / matrix.rows as f64;
            pieces.asked = pieces.requests as f64 / matrix.rows as f64;
            pieces
        };
        let (mut tiles, mut sums, mut least) = (Vec::new(), Vec::new(), Vec::new());
        for size in 1..=blocks {
            let all: Vec<Pieces> =
                (0..blocks).step_by(size).map(|from| of_tile(from, (from + size).min(blocks))).collect();
            least.push(all.iter().map(|pieces| pieces.least).min().unwrap_or(0));
            let mut sum = Pieces::default();
            for pieces in &all {
                sum.commands += pieces.commands;
                sum.requests += pieces.requests;
                sum.beats += pieces.beats;
                sum.bytes += pieces.bytes;
                sum.local_writes += pieces.local_writes;
            }
            // Tiles but the last are alike but for where in a request they begin: their mean.
            let last = all.last().copied().unwrap_or_default();
            let others = &all[..all.len() - 1];
            let mean = |of: fn(&Pieces) -> f64| others.iter().map(of).sum::<f64>() / others.len().max(1) as f64;
            let mean = Pieces {
                full: mean(|p| p.full),
                last: mean(|p| p.last),
                writes: mean(|p| p.writes),
                asked: mean(|p| p.asked),
                shared: mean(|p| p.shared),
                first: mean(|p| p.first),
                commands: others.first().map_or(0, |p| p.commands),
                ..Pieces::default()
            };
            tiles.push([mean, last]);
            sums.push(sum);
        }
        Self { tiles, sums, least }
    }

    fn sum(&self, size: usize) -> &Pieces {
        &self.sums[size - 1]
    }

    /// Beats of the smallest command.
    fn least_beats(&self, size: usize) -> u64 {
        self.least[size - 1]
    }

    pub(super) fn tile(&self, size: usize, last: bool) -> &Pieces {
        &self.tiles[size - 1][usize::from(last)]
    }
}

/// Cycles between two stores: each waits until the one before it has read its rows (`ReservationStation.scala`).
pub(super) const STORE_OVERHEAD: f64 = 5.0;
/// Commands of a LOOP_WS, and of the configuration before the first.
const LOOP_COMMANDS: u64 = 6;
const CONFIG_COMMANDS: u64 = 5;

/// A product's costs.
#[derive(Clone, Debug)]
pub struct ProductCosts {
    pub(super) machine: Machine,
    problem: MatmulProblem,
    pub(super) shape: MatmulShape,
    pub(super) blocks: Tile,
    pub(super) a: Cut,
    /// B with the rows beyond its end that the unroller loads, and without.
    pub(super) b: [Cut; 2],
    pub(super) c: Cut,
    pub(super) d: Option<Cut>,
}

impl ProductCosts {
    /// Works out a problem's costs.
    pub fn new(config: &ValidConfig, machine: &Machine, problem: &MatmulProblem) -> Self {
        let MatmulProblem { m, n, k, bias, .. } = *problem;
        let (dim, group) = (machine.dim, machine.group);
        let row_bytes = u64::from(config.sp_row_bytes());
        let last = |extent: usize| extent - (extent - 1) / dim * dim;
        let shape = MatmulShape { whole_rows: false, ..problem.shape() };
        let blocks = Tile { i: m.div_ceil(dim), j: n.div_ceil(dim), k: k.div_ceil(dim) };
        let int8 = |rows, cols, last_rows, write| Matrix { rows, cols, element: 1, row_bytes, group, last_rows, write };
        let cut = |matrix: &Matrix| Cut::new(config, machine, matrix);
        let bias = bias.then(|| {
            let row_bytes = u64::from(config.acc_row_bytes());
            cut(&Matrix {
                rows: 1,
                cols: n,
                element: 4,
                row_bytes,
                group: machine.wide_group,
                last_rows: 1,
                write: false,
            })
        });
        Self {
            machine: *machine,
            problem: *problem,
            shape,
            blocks,
            a: cut(&int8(m, k, last(m), false)),
            b: [cut(&int8(blocks.k * dim, n, dim, false)), cut(&int8(k, n, last(k), false))],
            c: cut(&int8(m, n, last(m), true)),
            d: bias,
        }
    }

    /// Tiles in each dimension.
    pub(super) fn tiles(&self, tile: &Tile) -> Tile {
        let Tile { i, j, k } = self.blocks;
        Tile { i: i.div_ceil(tile.i), j: j.div_ceil(tile.j), k: k.div_ceil(tile.k) }
    }

    /// B as this form loads it.
    pub(super) fn b_of(&self, schedule: &Schedule) -> &Cut {
        &self.b[usize::from(schedule.emission == Emission::Commands)]
    }

    /// What a schedule makes the hardware do; equal to the count of its program's commands. `None` for a product that
    /// normalizes.
    pub fn counts(&self, schedule: &Schedule) -> Option<Predicted> {
        (self.problem.read_out != ReadOut::LayerNorm).then(|| self.plain_counts(schedule))
    }

    /// The same as if it did not normalize.
    pub(super) fn plain_counts(&self, schedule: &Schedule) -> Predicted {
        let tiles = self.tiles(&schedule.tile);
        let [loads_a, loads_b] = reuse::of_product(schedule, &tiles);
        let mut counts = EventCounts::default();
        let mut load = |pieces: &Pieces, row_blocks: usize, times: u64| {
            counts.memory.reads += pieces.requests * times;
            counts.memory.read_beats += pieces.beats * times;
            counts.memory.read_bytes += pieces.bytes * times;
            counts.commands.load += pieces.commands * row_blocks as u64 * times;
            pieces.local_writes * times
        };
        let Tile { i, j, k } = self.blocks;
        let (a, b) = (self.a.sum(schedule.tile.k), self.b_of(schedule).sum(schedule.tile.j));
        let scratchpad = load(a, i, loads_a) + load(b, k, loads_b);
        // The bias once for each block of rows, and from there to all its rows.
        let accumulator = self.d.as_ref().map_or(0, |d| {
            let d = d.sum(schedule.tile.j);
            load(d, 1, i as u64);
            self.rows() * j as u64
        });
        counts.scratchpad.dma_writes = scratchpad;
        counts.accumulator.dma_writes = accumulator;
        self.count_stores(&mut counts, schedule);
        self.count_executes(&mut counts, schedule, &tiles);
        let (requests, rows) = self.most_passes(&mut counts, schedule, &tiles);
        self.count_commands(&mut counts.commands, schedule, &tiles);
        Predicted::new(counts, requests, rows)
    }

    /// What has to be done, for the bound.
    pub fn work(&self, schedule: &Schedule) -> Work {
        // A product that normalizes does at least what a plain one does.
        let counts = self.plain_counts(schedule).least;
        let size = &schedule.tile;
        let dim = self.machine.dim as u64;
        let beats = |cut: &Cut, size: usize| cut.least_beats(size);
        Work {
            mesh_rows: counts.mesh.rows,
            reads: counts.memory.reads,
            read_beats: counts.memory.read_beats,
            read_bytes: counts.memory.read_bytes,
            writes: counts.memory.writes,
            write_beats: counts.memory.write_beats,
            loads: counts.commands.load - 3,
            rows_out: counts.accumulator.dma_reads,
            host_commands: counts.commands.host,
            station_commands: counts.commands.load + counts.commands.execute + counts.commands.store,
            first_beats: beats(&self.a, size.k) + beats(self.b_of(schedule), size.j),
            last_rows: self.rows() - (self.blocks.i as u64 - 1) * dim,
        }
    }

    fn rows(&self) -> u64 {
        self.shape.i as u64
    }

    fn count_stores(&self, counts: &mut EventCounts, schedule: &Schedule) {
        let c = self.c.sum(schedule.tile.j);
        counts.memory.writes = c.requests;
        counts.memory.write_beats = c.beats;
        counts.memory.written_bytes = c.bytes;
        counts.commands.store = c.commands * self.blocks.i as u64;
        let rows = self.rows() * self.blocks.j as u64;
        counts.accumulator.dma_reads = rows;
        counts.normalizer.reset = rows;
        match self.problem.read_out {
            ReadOut::Relu => counts.readout.relu = rows,
            _ => counts.readout.none = rows,
        }
    }

    fn count_executes(&self, counts: &mut EventCounts, schedule: &Schedule, tiles: &Tile) {
        let MatmulShape { i: m, j: n, k: depth, .. } = self.shape;
        let Tile { i, j, k } = self.blocks;
        let (columns, steps) = (j as u64, k as u64);
        counts.mesh.macs = (m * n * depth) as u64;
        counts.commands.execute = 2 * (i * j * k) as u64;
        let a_reads = m as u64 * columns * steps;
        let b_rows = depth as u64 * columns;
        let loaded = match schedule.dataflow {
            Dataflow::Ws => {
                counts.mesh.preloads = steps * columns * tiles.i as u64;
                counts.mesh.preloaded = (depth * n * tiles.i) as u64;
                tiles.i
            }
            Dataflow::Os => i,
        };
        counts.scratchpad.ex_reads = a_reads + b_rows * loaded as u64;
        let first = if self.problem.bias { 0 } else { m as u64 * columns };
        counts.accumulator.ex_writes = first;
        counts.accumulator.ex_accumulates = m as u64 * columns * steps - first;
    }

    /// Sets passes and their rows at least; returns those at most.
    fn most_passes(&self, counts: &mut EventCounts, schedule: &Schedule, tiles: &Tile) -> (u64, u64) {
        let Tile { i, j, k } = self.blocks;
        let (computes, dim) = ((i * j * k) as u64, self.machine.dim as u64);
        counts.mesh.requests = computes + 1;
        let flush = flush_passes(dim, self.machine.array_latency);
        if schedule.dataflow == Dataflow::Os {
            counts.mesh.rows = dim * (computes + 1);
            let passes = 2 * computes + flush * (computes + 1);
            return (passes, passes * dim);
        }
        let (weights, last) = ((j * k * tiles.i) as u64, self.rows() - (i as u64 - 1) * dim);
        let (full, ragged) = (dim.max(LEAST_ROWS), last.max(LEAST_ROWS));
        // Rows of all computes, each pass of its own.
        let alone = (j * k) as u64 * ((i as u64 - 1) * full + ragged);
        // A compute that takes new weights along has as many rows as these.
        let ends = (j * k) as u64;
        let before_new = ends * ragged + ends * (tiles.i as u64 - 1) * full;
        // Every order ends with the last tile of each dimension, and a tile with its last block of rows.
        counts.mesh.rows = alone - before_new + weights * dim + ragged;
        let most = alone + weights * dim + (computes - weights) * LEAST_ROWS;
        (2 * computes + flush, most + flush * dim)
    }

    fn count_commands(&self, commands: &mut CommandCounts, schedule: &Schedule, tiles: &Tile) {
        let primitive = commands.load + commands.store + commands.execute;
        // CONFIG_EX, CONFIG_ST and three CONFIG_LD.
        commands.load += 3;
        commands.store += 1;
        commands.execute += 1;
        match schedule.emission {
            Emission::Unroller => {
                commands.host = CONFIG_COMMANDS + LOOP_COMMANDS * (tiles.i * tiles.j * tiles.k) as u64;
                commands.unrolled = primitive;
            }
            Emission::Commands => commands.host = CONFIG_COMMANDS + primitive,
        }
    }
}
