//! Costs of convolutions.

use pollux_isa::ValidConfig;
use pollux_kernels::{ConvAxis, ConvSchedule, ConvShape, Emission};

use pollux_sim::counts::EventCounts;

use super::bound::Work;
use super::machine::{LoadCommand, Machine, RowOfCommand};
use crate::counts::{read_row, write_row};
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
    /// What follows from these: pixels of a load of fewer, and of a load of zeros.
    short: f64,
    pad: f64,
    /// Chunks of an output row, pixels of a chunk, cycles of a pass.
    chunks: f64,
    in_chunk: f64,
    pass: f64,
}

impl Span {
    /// With what follows from the rest.
    fn complete(self, machine: &Machine) -> Self {
        let chunks = (self.outputs / machine.dim as f64).ceil();
        let in_chunk = self.outputs / chunks.max(1.0);
        Self {
            short: self.rest / self.from_memory[1].max(1e-9),
            pad: self.zeros / self.padding.max(1.0),
            chunks,
            in_chunk,
            pass: machine.pass(in_chunk),
            ..self
        }
    }
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
    /// Requests and beats of a command's row, and beats of a request.
    own: RowOfCommand,
    /// Requests and beats, wherever the row begins.
    least: [f64; 2],
    /// Kernel elements that are beside each other in a row of the array, at most.
    beside: f64,
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
    ///
    /// Tiles at like places are alike. Their steady state is a rate, the slowest of what a tile takes in each unit, so that the whole is
    /// the sum of the rates of all kinds of tiles, and what the first one waits for and the last one leaves behind.
    pub fn cycles(&self, schedule: &ConvSchedule) -> f64 {
        let tiles: [usize; 7] = ConvAxis::ALL.map(|axis| tiles_of(self.extents[axis as usize], schedule.get(axis)));
        let kept = reuse::kept_of_convolution(schedule, self.problem.shape.depthwise, &tiles);
        let begin = (LOOP_COMMANDS + 2.0) * self.machine.interval + START;
        begin
            + self.sum(schedule, &tiles, kept)
            + END
            + self.machine.array_latency as f64
            + self.machine.least_latency as f64
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

    /// Cycles of all tiles.
    fn sum(&self, s: &ConvSchedule, tiles: &[usize; 7], kept: [u32; 2]) -> f64 {
        let places: [Places; 7] = std::array::from_fn(|axis| {
            let reduction = ConvAxis::ALL[axis].is_reduction();
            let firsts = reduction || (kept[0] | kept[1]) >> axis & 1 == 1;
            let whole = !reduction
                && matches!(ConvAxis::ALL[axis], ConvAxis::Batch | ConvAxis::OutChannels)
                && self.extents[axis].is_multiple_of(s.get(ConvAxis::ALL[axis]));
            Places::new(tiles[axis], firsts, !whole, [kept[0] >> axis & 1 == 1, kept[1] >> axis & 1 == 1])
        });
        let tables = Tables::new(self, s, &places);
        // The innermost loop whose tiles differ: neighbours are told apart.
        let varied = |axis: &&ConvAxis| places[**axis as usize].len > 1;
        let inner = s.order.iter().rev().find(varied).map_or(0, |axis| *axis as usize);
        let outer: [usize; 6] = std::array::from_fn(|n| n + usize::from(n >= inner));
        let mut at = [0; 7];
        let (mut sum, mut ends) = (0.0, Ends::default());
        loop {
            let times: f64 = outer.iter().map(|axis| places[*axis].kinds[at[*axis]].times).product();
            let mut row = Inner::default();
            for (n, place) in places[inner].iter().enumerate() {
                at[inner] = n;
                let place_of: [&Place; 7] = std::array::from_fn(|axis| &places[axis].kinds[at[axis]]);
                let tile = tables.tile(self, s, place_of);
                let rate = tile.rate(s.emission);
                row.add(&tile, rate, place.times);
                if place_of.iter().all(|place| place.first) {
                    ends.first = (tile, rate);
                }
                if place_of.iter().all(|place| place.last) {
                    ends.last = (tile, rate);
                }
            }
            sum += times * row.cycles(tiles[inner], s.emission);
            if !advance(&mut at, &outer, &places) {
                return sum + ends.cycles(s.emission);
            }
        }
    }

    /// Cycles of a load if loads of zeros stand between it and its neighbours: only those overlap whose requests are made while no data
    /// come.
    fn drained(&self, load: LoadCommand, requests: f64) -> f64 {
        let latency = self.machine.read_latency;
        let together = (1.0 + floor(latency / requests.max(1.0))).min(self.machine.trackers);
        latency / together + load.busy
    }

    fn along(&self, s: &ConvSchedule, input: &Row, cols: &Span, filters: [(LoadCommand, f64, f64); 2]) -> Along {
        let machine = &self.machine;
        let dim = machine.dim as f64;
        let pixels = self.pixels_per_row(s, input, cols);
        let writes_of_command = input.writes / input.commands * pixels;
        // Loads of DIM pixels, and those of the rest of a row.
        let load = |along: f64| {
            let LoadCommand { interval, busy } = machine.row_command(along, &input.own);
            let busy = busy.max(along * writes_of_command);
            let in_tracker = (machine.read_latency + busy + 2.0) * machine.a_tracker;
            LoadCommand { interval: interval.max(busy).max(in_tracker), busy }
        };
        let [whole, rest] = cols.from_memory;
        let full = if whole > 0.0 { load(dim) } else { LoadCommand::default() };
        let short = if rest > 0.0 { load(cols.short) } else { full };
        let mut from_memory = whole * full.interval + rest * short.interval;
        // Zeros are written when no rows from memory are: a load of zeros waits for the data of the loads that are under way.
        if cols.padding > 0.0 && input.commands * (whole + rest) <= machine.trackers {
            let drained = |load, pixels| self.drained(load, pixels * input.own.requests);
            let drained = whole * drained(full, dim) + rest * drained(short, cols.short);
            from_memory += cols.padding.min(1.0) * (drained - from_memory).max(0.0);
        }
        Along {
            row: input.commands * (from_memory + cols.padding * (cols.pad * pixels).max(2.0)),
            zero_row: input.commands * ((cols.inside + cols.zeros) * pixels).max(2.0),
            written: (cols.inside + cols.zeros) * input.writes * pixels,
            beats: (whole * dim + cols.rest) * input.beats,
            weight_beats: filters.map(|(.., beats)| cols.kernel * input.channels * beats),
            input: short,
            weight: filters.map(|(command, ..)| command),
            input_arrival: machine.arrival(short),
            weight_arrival: filters.map(|(command, ..)| machine.arrival(command)),
            weight_commands: filters.map(|(_, commands, _)| cols.kernel * input.blocks * commands),
            weights: filters.map(|(command, commands, _)| cols.kernel * input.blocks * commands * command.interval),
            matrices: if pixels > 1.0 { ceil(cols.kernel / pixels) } else { cols.kernel } * input.blocks,
            width: cols.inside + cols.zeros,
            chunks: cols.chunks,
            in_chunk: cols.in_chunk,
            pass: cols.pass,
        }
    }

    /// Cycles of a tile's stores, and the part of them that may wait in the station.
    fn stores(&self, batch: f64, band: &Band, along: &Along, output: &Row) -> (f64, f64) {
        let machine = &self.machine;
        let images = batch * band.outputs;
        let commands = images * along.chunks * output.blocks;
        let stored = match self.problem.shape.pool {
            None => {
                let stored = commands * (along.in_chunk * machine.read_out.max(output.own.beats) + STORE_OVERHEAD);
                stored.max(machine.writes_held(commands * along.in_chunk * output.own.requests))
            }
            Some(pool) => {
                let columns = along.in_chunk * along.chunks;
                let reads = images * columns * (pool.size * pool.size) as f64 / (pool.stride * pool.stride) as f64;
                batch * output.blocks * (reads / batch * machine.read_out + 4.0 * STORE_OVERHEAD)
            }
        };
        (stored, (machine.station[2] as f64 / commands).min(1.0))
    }

    /// Kernel elements beside each other in a row of the array, for a tile's input channels (`max_pixels_per_row` of `LOOP_CONV_WS`).
    fn pixels_per_row(&self, s: &ConvSchedule, input: &Row, cols: &Span) -> f64 {
        if s.emission == Emission::Commands || self.problem.shape.kernel_dilation != 1 {
            return 1.0;
        }
        input.beside.min(cols.kernel).max(1.0)
    }
}

/// Tiles along an axis: extents have 32 bits, and the division of fewer bits is faster.
fn tiles_of(extent: usize, size: usize) -> usize {
    (extent as u32).div_ceil(size as u32) as usize
}

/// The next combination of kinds along these axes.
fn advance(at: &mut [usize; 7], axes: &[usize; 6], places: &[Places; 7]) -> bool {
    for &axis in axes {
        at[axis] += 1;
        if at[axis] < places[axis].len {
            return true;
        }
        at[axis] = 0;
    }
    false
}

/// The tiles of the innermost loop.
#[derive(Default)]
struct Inner {
    /// Sum of their rates.
    rates: f64,
    /// From the beginning of a tile until the one after the next may begin: of the first, the last, and one between.
    through: [f64; 3],
    kinds: usize,
}

impl Inner {
    fn add(&mut self, tile: &ConvTile, rate: f64, times: f64) {
        self.rates += times * rate;
        if self.kinds == 0 {
            self.through = [tile.through(); 3];
        }
        self.through[1] = tile.through();
        if times > 1.0 || self.kinds == 1 {
            self.through[2] = tile.through();
        }
        self.kinds += 1;
    }

    /// Cycles of them all. Every second tile waits for the other, so that the slower half counts.
    fn cycles(&self, tiles: usize, emission: Emission) -> f64 {
        let [first, last, between] = self.through;
        let half = (tiles / 2) as f64;
        let chain = match (emission, tiles) {
            (Emission::Commands, _) | (_, 0 | 1) => 0.0,
            (_, n) if n % 2 == 0 => (half - 1.0) * between + first.max(last),
            _ => (first + last) / 2.0 + (half - 0.5) * between,
        };
        self.rates.max(chain)
    }
}

/// The first and the last tile with their rates.
#[derive(Default)]
struct Ends {
    first: (ConvTile, f64),
    last: (ConvTile, f64),
}

impl Ends {
    /// What comes to the sum of the rates: nothing is computed during the first loads, nothing is loaded during the last computes.
    fn cycles(&self, emission: Emission) -> f64 {
        let ((first, first_rate), (last, last_rate)) = (&self.first, &self.last);
        match emission {
            Emission::Commands => last.through() - last_rate + last.store * last.pending,
            Emission::Unroller => {
                // A rate that loads dictate is that of the tile's own loads, one that computes dictate that until the next tile's computes.
                let counted = if first.load > first.compute { first_rate } else { last_rate };
                first.load + first.arrival - first.early + last.compute + last.store - counted
            }
        }
    }
}

/// Tiles along one axis that are alike.
#[derive(Clone, Copy, Default)]
struct Place {
    times: f64,
    /// Whether it has the first one, and the last one.
    first: bool,
    last: bool,
    /// Whether input and weights are not there already.
    loads: [bool; 2],
}

/// All tiles along an axis.
struct Places {
    kinds: [Place; 3],
    len: usize,
}

impl Places {
    fn new(tiles: usize, firsts: bool, lasts: bool, kept: [bool; 2]) -> Self {
        let of = |times: usize, first: bool, last: bool| Place {
            times: times as f64,
            first,
            last,
            loads: kept.map(|kept| first || !kept),
        };
        let mut places = Self { kinds: [Place::default(); 3], len: 0 };
        let mut push = |place: Place| {
            if place.times > 0.0 {
                places.kinds[places.len] = place;
                places.len += 1;
            }
        };
        match (tiles, firsts, lasts) {
            (1, ..) | (_, false, false) => push(of(tiles, true, true)),
            (_, true, false) => [of(1, true, false), of(tiles - 1, false, true)].into_iter().for_each(push),
            (_, false, true) => [of(tiles - 1, true, false), of(1, false, true)].into_iter().for_each(push),
            (_, true, true) => {
                [of(1, true, false), of(tiles - 2, false, false), of(1, false, true)].into_iter().for_each(push)
            }
        }
        places
    }

    fn iter(&self) -> std::slice::Iter<'_, Place> {
        self.kinds[..self.len].iter()
    }

    /// Of the tiles but the last and of the last, those that are there.
    fn ends(&self) -> std::ops::RangeInclusive<usize> {
        usize::from(!self.has(false))..=1
    }

    fn has(&self, last: bool) -> bool {
        self.iter().any(|place| place.last == last)
    }
}

/// What depends on columns, kernel columns and input channels of a tile.
#[derive(Clone, Copy, Default)]
struct Along {
    /// Cycles of the loads of an input row, and of a row of padding.
    row: f64,
    zero_row: f64,
    /// Local rows that an input row writes, its beats, and those of the weights of a kernel row as `weights`.
    written: f64,
    beats: f64,
    weight_beats: [f64; 2],
    /// A load of the input, one of the weights, and how many of these a kernel row has.
    input: LoadCommand,
    weight: [LoadCommand; 2],
    weight_commands: [f64; 2],
    /// Cycles from the last of these until its rows are there.
    input_arrival: f64,
    weight_arrival: [f64; 2],
    /// Cycles of the weights of a kernel row, for the tiles of output channels but the last and for the last.
    weights: [f64; 2],
    /// Matrices of a kernel row for each block of output channels.
    matrices: f64,
    /// Columns of the input.
    width: f64,
    /// Chunks of an output row, pixels of a chunk, cycles of a pass.
    chunks: f64,
    in_chunk: f64,
    pass: f64,
}

/// What depends on rows and kernel rows.
#[derive(Clone, Copy, Default)]
struct Band {
    outputs: f64,
    inside: f64,
    zeros: f64,
    kernel: f64,
}

struct Tables<'a> {
    along: [[[Along; 2]; 2]; 2],
    bands: [[Band; 2]; 2],
    outputs: &'a [Row; 2],
    /// Groups of blocks that zeros or the bias are loaded for at once.
    groups: [f64; 2],
    /// Images of the tiles but the last and of the last.
    batch: [f64; 2],
    zeros: bool,
    /// Part of the rows of new weights that are in the bank of the input that is read beside them.
    conflict: f64,
}

impl<'a> Tables<'a> {
    fn new(costs: &'a ConvCosts, s: &ConvSchedule, places: &[Places; 7]) -> Self {
        let machine = &costs.machine;
        let blocks = |size: usize| size.div_ceil(machine.dim) - 1;
        let (input, weights) = (&costs.input[blocks(s.in_channels)], &costs.weights[blocks(s.out_channels)]);
        let outputs = &costs.output[blocks(s.out_channels)];
        let (rows, cols) = (&costs.rows[s.rows - 1][s.kernel_rows - 1], &costs.cols[s.cols - 1][s.kernel_cols - 1]);
        let mut tables = Self {
            along: Default::default(),
            bands: Default::default(),
            outputs,
            groups: outputs.map(|row| ceil(row.blocks / machine.wide_group as f64)),
            batch: [s.batch as f64, (costs.extents[0] - (costs.extents[0] - 1) / s.batch * s.batch) as f64],
            zeros: s.emission == Emission::Unroller || costs.problem.bias,
            conflict: 0.0,
        };
        let [_, row, col, out, kernel_row, kernel_col, channel] = places;
        let both = Places::ends;
        for last in both(row) {
            for part in both(kernel_row) {
                let Span { outputs, inside, zeros, kernel, .. } = rows[last][part];
                tables.bands[last][part] = Band { outputs, inside, zeros, kernel };
            }
        }
        for i in both(channel) {
            let input = &input[i];
            let depth = input.channels.min(machine.dim as f64);
            let mut filters = [(LoadCommand::default(), 0.0, 0.0); 2];
            for o in both(out) {
                let w = &weights[o];
                let command = machine.row_command(depth, &w.own);
                filters[o] = (command, w.commands, w.beats);
            }
            for c in both(col) {
                for part in both(kernel_col) {
                    let span = &cols[c][part];
                    tables.along[c][part][i] = costs.along(s, input, span, filters);
                }
            }
        }
        tables.conflict = tables.conflict(costs, s, places);
        tables
    }

    fn conflict(&self, costs: &ConvCosts, s: &ConvSchedule, places: &[Places; 7]) -> f64 {
        let machine = &costs.machine;
        let at = |axis: ConvAxis| usize::from(!places[axis as usize].has(false));
        let band = &self.bands[at(ConvAxis::Rows)][at(ConvAxis::KernelRows)];
        let along = &self.along[at(ConvAxis::Cols)][at(ConvAxis::KernelCols)][at(ConvAxis::InChannels)];
        let blocks = |size: usize| size.div_ceil(machine.dim) as f64;
        let input = blocks(s.in_channels) * s.batch as f64 * (band.inside + band.zeros) * along.width;
        let weights = blocks(s.out_channels) * (s.kernel_rows * s.kernel_cols * s.in_channels) as f64;
        let (rows, bank) = (machine.scratchpad_rows as f64, machine.scratchpad_bank as f64);
        match s.emission {
            // The input at the beginning of a half, the weights at its end.
            Emission::Unroller => together([0.0, input], [rows / 2.0 - weights, rows / 2.0], bank),
            // All places of the input, then those of the weights.
            Emission::Commands => {
                let copies = if s.double_buffer { 2.0 } else { 1.0 };
                together([0.0, copies * input], [copies * input, copies * (input + weights)], bank)
            }
        }
    }

    fn tile(&self, costs: &ConvCosts, s: &ConvSchedule, place: [&Place; 7]) -> ConvTile {
        let [b, r, c, o, kr, kc, i] = place;
        let machine = &costs.machine;
        let part = Part {
            along: &self.along[usize::from(c.last)][usize::from(kc.last)][usize::from(i.last)],
            band: &self.bands[usize::from(r.last)][usize::from(kr.last)],
            batch: self.batch[usize::from(b.last)],
            outs: usize::from(o.last),
        };
        let Part { along, band, batch, outs } = part;
        let output = &self.outputs[outs];
        let passes = batch * band.outputs * along.chunks;
        let mut tile = ConvTile {
            start: if s.emission == Emission::Unroller { START } else { 0.0 },
            host: LOOP_COMMANDS * machine.interval,
            ..ConvTile::default()
        };
        let loads = [0, 1].map(|operand: usize| place.iter().all(|place| place.loads[operand]));
        let (mut beats, written) = part.load(&mut tile, loads);
        if self.zeros && kr.first && kc.first && i.first {
            let zeros = along.in_chunk.max(2.0);
            let bias = if costs.problem.bias { machine.load(1.0, 1.0, 4.0).max(along.in_chunk) } else { zeros };
            tile.load += passes * self.groups[outs] * bias;
        }
        let matrix = machine.dim as f64 * (1.0 + self.conflict) + (passes - 1.0) * along.pass;
        tile.compute = output.blocks * band.kernel * along.matrices * matrix;
        (tile.arrival, tile.early) =
            part.arrival(machine, s.emission, loads, [tile.compute, matrix - machine.dim as f64]);
        if s.emission == Emission::Commands {
            (tile.behind, tile.ahead) = part.ahead(machine, s.double_buffer, loads[0], (passes, matrix, output.blocks));
            // Rows that loads write take the bank from computes: single commands have all operands in the first banks.
            let free = if tile.load > 0.0 { 1.0 - (written / tile.load).min(1.0) } else { 0.0 };
            tile.early *= free;
            tile.ahead = tile.ahead.min(tile.compute) * free;
        }
        if kr.last && kc.last && i.last {
            (tile.store, tile.pending) = costs.stores(batch, band, along, output);
            // Stores that wait for the last computes keep the next loads out of the station.
            if tile.pending < 1.0 {
                tile.behind = 0.0;
                if output.blocks < 2.0 {
                    tile.ahead = 0.0;
                }
            }
            let stored = costs.problem.shape.pool.is_none();
            beats += if stored { passes * along.in_chunk * output.blocks * output.own.beats } else { 0.0 };
        }
        tile.shared = beats * machine.byte * machine.beat_bytes as f64;
        tile
    }
}

/// Where a tile is, as far as its cost depends on it.
#[derive(Clone, Copy)]
struct Part<'a> {
    along: &'a Along,
    band: &'a Band,
    /// Images.
    batch: f64,
    /// Whether it has the last output channels, as an index.
    outs: usize,
}

impl Part<'_> {
    /// Adds the loads of input and weights to a tile; their beats, and the rows that they write.
    fn load(&self, tile: &mut ConvTile, [input, weights]: [bool; 2]) -> (f64, f64) {
        let Self { along, band, batch, outs } = *self;
        let (mut beats, mut written) = (0.0, 0.0);
        if input {
            tile.load += batch * (band.inside * along.row + band.zeros * along.zero_row);
            beats += batch * band.inside * along.beats;
            written += batch * (band.inside + band.zeros) * along.written;
        }
        if weights {
            tile.load += band.kernel * along.weights[outs];
            beats += band.kernel * along.weight_beats[outs];
            written += band.kernel * along.weight_beats[outs];
        }
        (beats, written)
    }

    /// What stands in the station in front of the next loads if commands stand in line: whole tiles, and cycles of computes beside
    /// them. Of the tile: passes and cycles of a matrix of weights, blocks of output channels.
    fn ahead(
        &self,
        machine: &Machine,
        double_buffer: bool,
        input: bool,
        (passes, matrix, blocks): (f64, f64, f64),
    ) -> (f64, f64) {
        let Self { along, band, .. } = *self;
        let own = band.kernel * along.matrices * passes;
        let all = blocks * own;
        let station = station_computes(machine);
        let computes = match double_buffer {
            true => station,
            // A load that overwrites waits for the computes that still read: the first row of the input is needed for the first kernel
            // row of the last output channels, the first weights for the first matrix.
            false if input => station.min(own - (along.matrices - 1.0) * passes - 1.0),
            false => station.min(all - passes),
        };
        let tiles = if computes < all { 0.0 } else { floor(computes / all) };
        let rest = computes - tiles * all;
        let matrices = if rest < passes { 0.0 } else { floor(rest / passes) };
        (tiles, matrices * matrix + (rest - matrices * passes) * along.pass)
    }

    /// Cycles from the last load until its rows are there, and how much earlier computes begin: what is loaded last is still under way,
    /// as much of it as the station holds. Computes are those of the tile, and of a matrix of weights but for its first pass.
    fn arrival(
        &self,
        machine: &Machine,
        emission: Emission,
        [input, weights]: [bool; 2],
        [compute, matrix]: [f64; 2],
    ) -> (f64, f64) {
        let station = machine.station[0] as f64;
        let Self { along, band, outs, .. } = *self;
        if weights && (emission == Emission::Commands || !input) {
            let (command, commands) = (along.weight[outs], band.kernel * along.weight_commands[outs]);
            let early = (station.min(commands - 1.0) * command.interval).min(compute * (commands - 1.0) / commands);
            return (along.weight_arrival[outs], early);
        }
        match input {
            true => (along.input_arrival, (station * along.input.interval).min(matrix)),
            false => (0.0, 0.0),
        }
    }
}

/// The whole part of a number that is not negative: a conversion, where `f64::floor` is a call on processors of the oldest kind.
fn floor(number: f64) -> f64 {
    number as u32 as f64
}

/// The least whole number that is not less, of one that is not negative.
fn ceil(number: f64) -> f64 {
    let whole = floor(number);
    if whole < number { whole + 1.0 } else { whole }
}

/// Part of the pairs of rows of two ranges that are in one bank.
fn together(a: [f64; 2], b: [f64; 2], bank: f64) -> f64 {
    let begin = floor(b[0] / bank);
    if a[1] <= begin * bank {
        return 0.0;
    }
    let part = |range: [f64; 2], n: f64| {
        ((range[1].min((n + 1.0) * bank) - range[0].max(n * bank)).max(0.0)) / (range[1] - range[0]).max(1.0)
    };
    let (mut n, mut sum) = (begin, 0.0);
    while n * bank < a[1] {
        sum += part(a, n) * part(b, n);
        n += 1.0;
    }
    sum
}

/// Computes that the reservation station holds: a preload and a compute each.
fn station_computes(machine: &Machine) -> f64 {
    (machine.station[1] / 2) as f64
}

/// What a tile takes of each unit.
#[derive(Clone, Copy, Debug, Default)]
struct ConvTile {
    load: f64,
    /// From the last load command until its rows are there, and how much earlier computes begin.
    arrival: f64,
    early: f64,
    compute: f64,
    store: f64,
    /// Part of the stores that may wait in the station when the next tile begins.
    pending: f64,
    host: f64,
    /// From a free place in the unroller to the first load: a loop is configured only when there is one.
    start: f64,
    /// What stands in the station in front of its loads: whole tiles, and computes beside them.
    behind: f64,
    ahead: f64,
    /// Cycles of a memory that loads and stores share.
    shared: f64,
}

impl ConvTile {
    /// Cycles from the place in the unroller, or in the station, that it waits for until all its commands are given.
    fn through(&self) -> f64 {
        self.start + self.load + self.arrival - self.early + self.compute + self.store * (1.0 - self.pending)
    }

    /// Cycles from a tile to the next one like it.
    fn rate(&self, emission: Emission) -> f64 {
        let through = self.through();
        match emission {
            // Two loops at most are under way: a tile begins when the one before the last has given all its commands.
            Emission::Unroller => {
                self.load.max(self.compute).max(self.store).max(self.host).max(self.shared).max(through / 2.0)
            }
            // Commands stand in line: loads wait for the computes in front of them, but for those that the station holds.
            Emission::Commands => {
                let line = (through - self.ahead) / (self.behind + 1.0);
                line.max(self.load).max(self.compute).max(self.shared)
            }
        }
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
            ..Span::default()
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
            ..Span::default()
        }
        .complete(machine)
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
    sum.own = RowOfCommand::new(sum.requests / sum.commands, sum.beats / sum.commands);
    sum.beside = (dim as f64 / sum.channels).floor();
    sum
}
