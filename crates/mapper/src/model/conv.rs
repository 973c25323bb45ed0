//! Costs of convolutions.

use pollux_isa::ValidConfig;
use pollux_kernels::{ConvAxis, ConvSchedule, ConvShape, Emission};

use pollux_sim::counts::EventCounts;

use super::bound::Work;
use super::machine::Machine;
use super::tile::{Known, Progress, TileCost, repeat};
use crate::counts::{LEAST_ROWS, read_row, write_row};
use crate::problem::ConvProblem;
use crate::reuse;

/// Part of the input along one axis, of the tiles but the last (their mean) and of the last, each for the kernel's parts but the last and
/// for the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Span {
    /// Output pixels before pooling.
    outputs: f64,
    /// Input pixels from memory.
    inside: f64,
    /// Input pixels of padding.
    zeros: f64,
    /// Loads from memory along a row: of DIM pixels, and of fewer.
    from_memory: [f64; 2],
    /// Pixels of the latter.
    rest: f64,
    /// Loads of zeros.
    padding: f64,
    /// Kernel elements.
    kernel: f64,
}

/// Bytes of a row cut into the pieces of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Row {
    /// Commands for a block of rows.
    commands: f64,
    /// Of one row: requests, beats, writes of local rows.
    requests: f64,
    beats: f64,
    writes: f64,
    /// Requests and beats, wherever the row begins.
    least: [f64; 2],
    /// Blocks of DIM.
    blocks: f64,
    /// Channels.
    channels: f64,
}

/// Commands of a LOOP_CONV_WS.
const LOOP_COMMANDS: f64 = 7.0;
/// Cycles between two stores.
const STORE_OVERHEAD: f64 = 6.0;
/// Cycles from the host's first command to the first row request of a loop.
const START: f64 = 22.0;
const END: f64 = 14.0;

/// A convolution's costs.
#[derive(Clone, Debug)]
pub struct ConvCosts {
    machine: Machine,
    problem: ConvProblem,
    extents: [usize; 7],
    /// By size of the tile and size of the kernel's part, both less one.
    rows: Vec<Vec<[[Span; 2]; 2]>>,
    cols: Vec<Vec<[[Span; 2]; 2]>>,
    /// By blocks of channels, less one: the tiles but the last, and the last.
    input: Vec<[Row; 2]>,
    weights: Vec<[Row; 2]>,
    output: Vec<[Row; 2]>,
}

impl ConvCosts {
    /// Works out a problem's costs.
    pub fn new(config: &ValidConfig, machine: &Machine, problem: &ConvProblem) -> Self {
        let shape = problem.shape;
        let extents = ConvSchedule::extents(&shape);
        let pooled = shape.pooled_pixels();
        let span = |axis: usize| {
            let all = |size: usize| (1..=shape.kernel).map(|part| spans(machine, &shape, axis, size, part)).collect();
            (1..=pooled[axis]).map(all).collect()
        };
        let channels = if shape.depthwise { 1 } else { shape.in_channels };
        let rows = |extent: usize, stride: usize, group: usize, write: bool| {
            let dim = machine.dim;
            let of = |from: usize, to: usize| row(config, (from, to), stride, group, dim, write);
            let size = |blocks: usize| {
                let size = blocks * dim;
                let last = (extent - 1) / size * size;
                [of(0, size.min(extent)), of(last, extent)]
            };
            (1..=extent.div_ceil(dim)).map(size).collect()
        };
        let out = if shape.depthwise { 1 } else { shape.out_channels };
        Self {
            machine: *machine,
            problem: *problem,
            extents,
            rows: span(0),
            cols: span(1),
            input: rows(channels, shape.in_channels, machine.group, false),
            weights: rows(out, if shape.depthwise { 1 } else { shape.out_channels }, machine.group, false),
            output: rows(out, shape.out_channels, 1, true),
        }
    }

    /// Cycles of a schedule.
    pub fn cycles(&self, schedule: &ConvSchedule) -> f64 {
        let sizes = ConvAxis::ALL.map(|axis| schedule.get(axis));
        let tiles: [usize; 7] = std::array::from_fn(|axis| self.extents[axis].div_ceil(sizes[axis]));
        let kept = reuse::kept_of_convolution(schedule, self.problem.shape.depthwise, &tiles);
        let mut progress = Progress::new(2.0 * self.machine.interval + START);
        let mut at = [0; 7];
        let mut known = Known::default();
        let nest = Nest::new(schedule, &tiles, &self.extents, kept);
        // Loops of one iteration change nothing.
        let mut several = [0; 7];
        let mut loops = 0;
        for axis in schedule.order.map(|axis| axis as usize) {
            several[loops] = axis;
            loops += usize::from(tiles[axis] > 1);
        }
        self.nest(&nest, &several[..loops], &mut at, &mut progress, &mut known);
        progress.end() + END + self.machine.array_latency as f64 + self.machine.least_latency as f64
    }

    /// What has to be done, for the bound: of what differs from tile to tile the least.
    pub fn work(&self, s: &ConvSchedule) -> Work {
        let sizes = ConvAxis::ALL.map(|axis| s.get(axis));
        let tiles: [usize; 7] = std::array::from_fn(|axis| self.extents[axis].div_ceil(sizes[axis]));
        let loads = reuse::of_convolution_tiles(s, self.problem.shape.depthwise, &tiles);
        let [_, _, _, out_tiles, row_parts, col_parts, in_tiles] = tiles.map(|tiles| tiles as f64);
        // Sums over the tiles and parts of an axis.
        let sum = |spans: &[[Span; 2]; 2], tiles: usize, parts: usize, of: fn(&Span) -> f64| {
            let weights = [[(tiles - 1) as f64, 1.0], [(parts - 1) as f64, 1.0]];
            (0..4).map(|i| weights[0][i / 2] * weights[1][i % 2] * of(&spans[i / 2][i % 2])).sum::<f64>()
        };
        let (rows, cols) = (&self.rows[s.rows - 1][s.kernel_rows - 1], &self.cols[s.cols - 1][s.kernel_cols - 1]);
        let along_rows = |of| sum(rows, tiles[ConvAxis::Rows as usize], tiles[ConvAxis::KernelRows as usize], of);
        let along_cols = |of| sum(cols, tiles[ConvAxis::Cols as usize], tiles[ConvAxis::KernelCols as usize], of);
        let blocks = |size: usize| size.div_ceil(self.machine.dim) - 1;
        let channels = |rows: &[[Row; 2]], size: usize, tiles: f64, of: fn(&Row) -> f64| {
            let [others, last] = &rows[blocks(size)];
            (tiles - 1.0) * of(others) + of(last)
        };
        let input = |of| channels(&self.input, s.in_channels, in_tiles, of);
        let weights = |of| channels(&self.weights, s.out_channels, out_tiles, of);
        let output = |of| channels(&self.output, s.out_channels, out_tiles, of);
        let batch = self.problem.shape.batch as f64;
        let images = tiles[ConvAxis::Batch as usize] as f64;
        // Input pixels, over all tiles.
        let pixels = batch
            * along_rows(|s| s.inside)
            * along_cols(|s| s.inside)
            * loads[0] as f64
            * if self.problem.shape.depthwise { out_tiles } else { 1.0 };
        // Rows of weights: a kernel element and an input channel each.
        let kernel = self.problem.shape.kernel as f64;
        let filters = kernel * kernel * input(|row| row.channels) * loads[1] as f64;
        let outputs = batch * along_rows(|s| s.outputs) / row_parts * along_cols(|s| s.outputs) / col_parts;
        let spatial = images * (tiles[1] * tiles[2]) as f64;
        // Matrices of weights that go through the array for all pixels of a tile: at least DIM rows, and one for each pixel. The last
        // tile of few channels may take more kernel elements at once than the others.
        let along_kernel = |row: &Row| {
            let packed = cols.iter().flatten().map(|span| self.pixels_per_row(s, row, span)).fold(1.0, f64::max);
            (kernel / packed).ceil().max(col_parts) * row.blocks
        };
        let [others, last] = &self.input[blocks(s.in_channels)];
        let along_input = (in_tiles - 1.0) * along_kernel(others) + along_kernel(last);
        let matrices = output(|row| row.blocks) * kernel * along_input;
        let mesh_rows = matrices * outputs.max(spatial * self.machine.dim as f64);
        let stored = batch * (self.extents[1] * self.extents[2]) as f64;
        let reads = pixels * input(|row| row.least[0]) + filters * weights(|row| row.least[0]);
        let beats = pixels * input(|row| row.least[1]) + filters * weights(|row| row.least[1]);
        Work {
            mesh_rows: mesh_rows as u64,
            reads: reads as u64,
            read_beats: beats as u64,
            read_bytes: (beats * self.machine.beat_bytes as f64) as u64,
            writes: (stored * output(|row| row.least[0])) as u64,
            write_beats: (stored * output(|row| row.least[1])) as u64,
            loads: 0,
            rows_out: (outputs * output(|row| row.blocks)) as u64,
            host_commands: match s.emission {
                Emission::Unroller => LOOP_COMMANDS as u64 * tiles.iter().product::<usize>() as u64,
                Emission::Commands => 2 * mesh_rows as u64 / self.machine.dim as u64,
            },
            station_commands: 2 * mesh_rows as u64 / self.machine.dim as u64,
            first_beats: 0,
            last_rows: 1,
        }
    }

    /// Events, at least: those of the work.
    pub(super) fn least_counts(&self, schedule: &ConvSchedule, macs: u64) -> EventCounts {
        let work = self.work(schedule);
        let mut counts = EventCounts::default();
        counts.memory.reads = work.reads;
        counts.memory.read_beats = work.read_beats;
        counts.memory.read_bytes = work.read_bytes;
        counts.memory.writes = work.writes;
        counts.memory.write_beats = work.write_beats;
        counts.memory.written_bytes = (self.problem.shape.views()[2].0 * self.problem.shape.views()[2].1) as u64;
        counts.mesh.rows = work.mesh_rows;
        counts.mesh.macs = macs;
        // A row from the scratchpad and one to the accumulator for each row of pixels.
        counts.scratchpad.ex_reads = work.mesh_rows;
        counts.scratchpad.dma_writes = work.read_beats / 2;
        counts.accumulator.ex_accumulates = work.mesh_rows / 2;
        counts.accumulator.dma_reads = work.rows_out;
        counts.commands.host = work.host_commands;
        counts
    }

    fn nest(
        &self,
        nest: &Nest<'_>,
        loops: &[usize],
        at: &mut [usize; 7],
        progress: &mut Progress,
        known: &mut Known<TileCost>,
    ) {
        let Some((&axis, inside)) = loops.split_first() else {
            // Tiles at like places are alike: at the beginning or the end of a dimension, or not.
            let of_kind = || self.tile_cost(nest.schedule, nest.tiles, at, nest.loads(at));
            let tile = known.get_or_insert_with(nest.kind(at), of_kind);
            let ahead = (self.machine.station[1] / 2 * self.machine.dim) as f64;
            progress.one_after_the_other(tile, nest.schedule.emission == Emission::Unroller, ahead);
            return;
        };
        repeat(progress, nest.tiles[axis], |progress, index| {
            at[axis] = index;
            self.nest(nest, inside, at, progress, known);
        });
    }

    fn tile_cost(&self, s: &ConvSchedule, tiles: &[usize; 7], at: &[usize; 7], loads: [bool; 2]) -> TileCost {
        let machine = &self.machine;
        let dim = machine.dim as f64;
        let last = |axis: ConvAxis| usize::from(at[axis as usize] + 1 == tiles[axis as usize]);
        let first = |axis: ConvAxis| at[axis as usize] == 0;
        let rows = &self.rows[s.rows - 1][s.kernel_rows - 1][last(ConvAxis::Rows)][last(ConvAxis::KernelRows)];
        let cols = &self.cols[s.cols - 1][s.kernel_cols - 1][last(ConvAxis::Cols)][last(ConvAxis::KernelCols)];
        let blocks = |size: usize| size.div_ceil(machine.dim) - 1;
        let input = &self.input[blocks(s.in_channels)][last(ConvAxis::InChannels)];
        let weights = &self.weights[blocks(s.out_channels)][last(ConvAxis::OutChannels)];
        let output = &self.output[blocks(s.out_channels)][last(ConvAxis::OutChannels)];
        let batch = (s.batch.min(self.extents[0] - at[0] * s.batch)) as f64;
        let is_first = first(ConvAxis::KernelRows) && first(ConvAxis::KernelCols) && first(ConvAxis::InChannels);
        let is_last = last(ConvAxis::KernelRows) + last(ConvAxis::KernelCols) + last(ConvAxis::InChannels) == 3;
        let mut cost = TileCost { host: LOOP_COMMANDS * machine.interval, ..Default::default() };
        let images = batch * rows.outputs;
        let chunks = (cols.outputs / dim).ceil();
        let in_chunk = cols.outputs / chunks;
        if is_first {
            // Zeros, or the bias, to every row of the output.
            let groups = (output.blocks / machine.wide_group as f64).ceil();
            let zeros = in_chunk.max(2.0);
            let bias = machine.load(1.0, 1.0, 4.0).max(in_chunk);
            cost.load += images * chunks * groups * if self.problem.bias { bias } else { zeros };
        }
        let pixels = self.pixels_per_row(s, input, cols);
        if loads[0] {
            // Loads of DIM pixels, and those of the rest of a row.
            let load = |along: f64| {
                let command = machine.load(along, input.requests / input.commands, input.beats / input.commands);
                command.max(along * input.writes / input.commands * pixels)
            };
            let [whole, rest] = cols.from_memory;
            let from_memory = whole * load(dim) + if rest > 0.0 { rest * load(cols.rest / rest) } else { 0.0 };
            let zeros = (cols.zeros / cols.padding.max(1.0) * pixels).max(2.0);
            let row = input.commands * (from_memory + cols.padding * zeros);
            let zero_row = input.commands * ((cols.inside + cols.zeros) * pixels).max(2.0);
            cost.load += batch * (rows.inside * row + rows.zeros * zero_row);
        }
        if loads[1] {
            let kernel = rows.kernel * cols.kernel;
            let depth = input.channels.min(dim);
            let command = machine.load(depth, weights.requests / weights.commands, weights.beats / weights.commands);
            cost.load += kernel * input.blocks * weights.commands * command;
        }
        // Computes: each block of weights stays for all pixels. A pass has the pixels of one output row, at most DIM.
        let matrices = output.blocks * rows.kernel * (cols.kernel / pixels).ceil() * input.blocks;
        let pass = self.pass(in_chunk);
        cost.new_weights = matrices * dim;
        cost.others = matrices * (images * chunks - 1.0) * pass;
        cost.first = machine.read_latency;
        if is_last {
            let stored = match self.problem.shape.pool {
                None => {
                    images * chunks * output.blocks * (in_chunk * machine.read_out.max(output.beats) + STORE_OVERHEAD)
                }
                Some(pool) => {
                    let reads =
                        images * cols.outputs * (pool.size * pool.size) as f64 / (pool.stride * pool.stride) as f64;
                    batch * output.blocks * (reads / batch * machine.read_out + 4.0 * STORE_OVERHEAD)
                }
            };
            cost.store = stored;
            let commands = images * chunks * output.blocks;
            cost.pending = (machine.station[2] as f64 / commands).min(1.0);
        }
        cost
    }

    /// Cycles of a pass: few rows wait for the queue of tags (`MeshWithDelays.scala`: six tags, of which each is free when the next
    /// pass has left the array).
    fn pass(&self, rows: f64) -> f64 {
        let tags = 5.0;
        rows.max(LEAST_ROWS as f64).max((rows + self.machine.array_latency as f64 + 1.0) / tags)
    }

    /// Kernel elements beside each other in a row of the array, for a tile's input channels (`max_pixels_per_row` of `LOOP_CONV_WS`).
    fn pixels_per_row(&self, s: &ConvSchedule, input: &Row, cols: &Span) -> f64 {
        let dim = self.machine.dim as f64;
        if s.emission == Emission::Commands || input.channels > dim || self.problem.shape.kernel_dilation != 1 {
            return 1.0;
        }
        (dim / input.channels).floor().min(cols.kernel).max(1.0)
    }
}

/// The loops over the tiles of a schedule.
struct Nest<'a> {
    schedule: &'a ConvSchedule,
    tiles: &'a [usize; 7],
    /// Axes, as bits, in whose tiles but the first the input, and the weights, are there already.
    kept: [u32; 2],
    /// Axes, as bits, whose last tile may be another than those before.
    ends: usize,
}

impl<'a> Nest<'a> {
    fn new(schedule: &'a ConvSchedule, tiles: &'a [usize; 7], extents: &[usize; 7], kept: [u32; 2]) -> Self {
        // Padding is at the ends of rows and columns, stores are at that of what is summed over.
        let whole = |axis: &ConvAxis| {
            let outer = matches!(axis, ConvAxis::Batch | ConvAxis::OutChannels);
            outer && extents[*axis as usize].is_multiple_of(schedule.get(*axis))
        };
        let ends = ConvAxis::ALL.iter().filter(|axis| !whole(axis)).fold(0, |bits, axis| bits | 1 << *axis as usize);
        Self { schedule, tiles, kept, ends }
    }

    /// Whether the input, and whether the weights, are loaded for the tile at this place.
    fn loads(&self, at: &[usize; 7]) -> [bool; 2] {
        self.kept.map(|kept| at.iter().enumerate().all(|(axis, index)| *index == 0 || kept >> axis & 1 == 0))
    }

    /// Places of one kind have tiles of one cost.
    fn kind(&self, at: &[usize; 7]) -> usize {
        use ConvAxis::{InChannels, KernelCols, KernelRows};
        let ends = |axis: usize| self.ends >> axis & 1 == 1 && at[axis] + 1 == self.tiles[axis];
        let last = (0..7).fold(0, |kind, axis| 2 * kind + usize::from(ends(axis)));
        let sums = [KernelRows, KernelCols, InChannels].iter().all(|axis| at[*axis as usize] == 0);
        let [input, weights] = self.loads(at);
        let firsts = [sums, input, weights];
        firsts.into_iter().fold(last, |kind, first| 2 * kind + usize::from(first))
    }
}

impl Progress {
    /// One more tile whose computes begin when its loads are in, and whose stores follow its computes. In the unroller the loads
    /// of the next tile overlap with both; single commands stand in line.
    fn one_after_the_other(&mut self, tile: &TileCost, overlapped: bool, ahead: f64) {
        let free = if overlapped { 0.0 } else { self.in_line_from(ahead) };
        self.host_gives(tile.host);
        let begin = self.loads_from().max(free);
        self.load_until(begin + tile.load);
        let start = self.computes_from().max(begin + tile.load + tile.first);
        self.compute_until(start + tile.new_weights + tile.others, tile);
    }
}

/// Spans of an axis for a size of the tile and of the kernel's part: `[last tile][last part]`.
fn spans(machine: &Machine, shape: &ConvShape, axis: usize, size: usize, part: usize) -> [[Span; 2]; 2] {
    let pool = shape.pool.unwrap_or(pollux_kernels::Pool { size: 1, stride: 1, padding: 0 });
    let extent = [shape.in_rows, shape.in_cols][axis];
    let (pooled, outputs) = (shape.pooled_pixels()[axis], shape.out_pixels()[axis]);
    let step = if shape.stride == 2 && shape.kernel == 1 && shape.padding == 0 { 2.0 } else { 1.0 };
    let one = |at: usize, kernel: usize| {
        let (length, kernel_length) = (size.min(pooled - at), part.min(shape.kernel - kernel));
        let first = (at * pool.stride) as isize - pool.padding as isize;
        let raw = (length * pool.stride + pool.size - 1) as isize;
        let real = raw - (-first).max(0) - (first + raw - outputs as isize).max(0);
        let dilated = (kernel_length + (shape.kernel_dilation - 1) * (kernel_length - 1)) as isize;
        let inputs = real * shape.stride as isize + dilated - 1;
        let start = first.max(0) * shape.stride as isize + (kernel * shape.kernel_dilation) as isize - shape.padding;
        let inside = (start + inputs).min(extent as isize) - start.max(0);
        let (before, after) = ((-start).max(0), (start + inputs - extent as isize).max(0));
        let dim = machine.dim as f64;
        let own = inside.max(0) as f64 / step;
        let rest = own - (own / dim).floor() * dim;
        let padding = |pixels: isize| (pixels as f64 / dim).ceil();
        Span {
            outputs: real as f64,
            inside: own,
            zeros: (before + after) as f64,
            from_memory: [(own / dim).floor(), if rest > 0.0 { 1.0 } else { 0.0 }],
            rest,
            padding: padding(before) + padding(after),
            kernel: kernel_length as f64,
        }
    };
    let starts = |extent: usize, size: usize| (0..extent).step_by(size).collect::<Vec<_>>();
    let (tiles, parts) = (starts(pooled, size), starts(shape.kernel, part));
    let mean = |tiles: &[usize], parts: &[usize]| {
        let mut sum = Span::default();
        for &at in tiles {
            for &kernel in parts {
                let span = one(at, kernel);
                sum.outputs += span.outputs;
                sum.inside += span.inside;
                sum.zeros += span.zeros;
                sum.from_memory = std::array::from_fn(|i| sum.from_memory[i] + span.from_memory[i]);
                sum.rest += span.rest;
                sum.padding += span.padding;
                sum.kernel += span.kernel;
            }
        }
        let n = (tiles.len() * parts.len()).max(1) as f64;
        Span {
            outputs: sum.outputs / n,
            inside: sum.inside / n,
            zeros: sum.zeros / n,
            from_memory: sum.from_memory.map(|loads| loads / n),
            rest: sum.rest / n,
            padding: sum.padding / n,
            kernel: sum.kernel / n,
        }
    };
    let split = |all: &[usize]| [all[..all.len() - 1].to_vec(), all[all.len() - 1..].to_vec()];
    let (tiles, parts) = (split(&tiles), split(&parts));
    std::array::from_fn(|tile| std::array::from_fn(|part| mean(&tiles[tile], &parts[part])))
}

/// A row of channels `from..to`, in commands of `group` blocks; the mean over where rows begin.
fn row(config: &ValidConfig, (from, to): (usize, usize), stride: usize, group: usize, dim: usize, write: bool) -> Row {
    let line = u64::from(config.dma_maxbytes);
    let mut sum = Row { channels: (to - from) as f64, blocks: (to - from).div_ceil(dim) as f64, ..Row::default() };
    let starts: Vec<u64> = (0..line).map(|row| row * stride as u64 % line).collect();
    for first in (from..to).step_by(group * dim) {
        let bytes = ((first + group * dim).min(to) - first) as u64;
        sum.commands += 1.0;
        sum.least[0] += bytes.div_ceil(line) as f64;
        sum.least[1] += bytes.div_ceil(u64::from(config.beat_bytes())) as f64;
        for start in &starts {
            let address = (start + first as u64) % line;
            let traffic = match write {
                true => write_row(config, address, bytes),
                false => read_row(config, address, bytes, u64::from(config.sp_row_bytes())),
            };
            sum.requests += traffic.requests as f64 / starts.len() as f64;
            sum.beats += traffic.beats as f64 / starts.len() as f64;
            sum.writes += traffic.local_writes as f64 / starts.len() as f64;
        }
    }
    if write {
        sum.beats /= sum.commands;
    }
    sum
}
