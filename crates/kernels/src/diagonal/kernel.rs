//! The commands of a sum of diagonal products: tiles of rows, chunks of columns, loads ahead and stores behind.

use std::ops::Range;

use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, LocalAddr};

use super::blocks::{Block, Diagonals};
use crate::activation::Activation;
use crate::allocator::LocalAllocator;
use crate::builder::{Operand, ProgramBuilder};
use crate::error::KernelError;
use crate::matmul::{CHANNEL_A, CHANNEL_B, CHANNEL_D};
use crate::normalize::{NormalizedRows, Piece, blocks_per_store, store_pieces};
use crate::tiling::{block_len, interleave};
use crate::view::View;

/// Block rows that one pass over the columns covers at most.
const MAX_ROW_BLOCKS: usize = 8;

/// What is summed in the accumulator before it is stored: whole rows if they are normalized, otherwise one chunk.
#[derive(Clone, Debug)]
struct Tile {
    chunks: Range<usize>,
    /// Block rows.
    rows: Range<usize>,
    /// First accumulator row.
    sums: LocalAddr,
}

/// One chunk of a tile, and where its operands lie in the scratchpad.
#[derive(Clone, Debug)]
struct Step {
    chunk: usize,
    diagonals: LocalAddr,
    operands: LocalAddr,
}

/// What a sum starts from, and where it goes besides the read-out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// int32, loaded into the accumulator; of stride 0 if all rows start from the same one.
    pub start: View,
    /// int32, stored in full width in front of the read-out.
    pub sums: Option<View>,
}

/// The commands of a sum over all rows.
pub(super) struct Kernel<'a> {
    sum: &'a Diagonals,
    stream: Stream,
    /// Branch and residual.
    sources: [&'a View; 2],
    /// Those of them that some term uses.
    used: Vec<usize>,
    out: &'a View,
    layout: AddressLayout,
    dim: usize,
    /// Rows of a block row.
    pitch: usize,
    d_group: usize,
    /// Ranges of blocks that one command can move.
    chunks: Vec<Range<usize>>,
    row_blocks: usize,
    /// Block rows in a row tile.
    tile_rows: usize,
    operand_stages: [LocalAddr; 2],
    diagonal_places: Vec<LocalAddr>,
    /// Chunk that each place holds.
    diagonals_held: Vec<Option<usize>>,
    accumulators: Vec<LocalAddr>,
    /// Stride that the operands' load channel has.
    operand_stride: Option<u64>,
    /// Factor that the stores have.
    scale: Option<f32>,
    /// Place of the diagonals loaded last, and number of steps loaded.
    diagonal_place: usize,
    steps: usize,
}

impl<'a> Kernel<'a> {
    /// Plans the sum; `sources` are branch and residual.
    ///
    /// # Errors
    /// Rows that do not fit the local memories.
    pub fn new(
        sum: &'a Diagonals,
        builder: &mut ProgramBuilder,
        sources: [&'a View; 2],
        stream: Stream,
        out: &'a View,
    ) -> Result<Self, KernelError> {
        let config = builder.config().clone();
        let dim = builder.dim();
        let normalizes = sum.activation.normalizes();
        // A block row is lower than DIM where the accumulator cannot hold DIM whole rows; then each store moves one block.
        let pitch = if normalizes { dim.min(config.acc_rows() as usize / sum.blocks.len()).max(1) } else { dim };
        let row_blocks = out.rows.div_ceil(pitch);
        let chunks = chunks(&sum.blocks, blocks_per_store(builder, pitch), dim);
        let widest = chunks.iter().map(Range::len).max().unwrap_or(1);
        let held = if normalizes { sum.blocks.len() } else { widest };
        let needs = |source| sum.operands.iter().any(|&operand| operand as usize == source);
        let used: Vec<usize> = (0..sources.len()).filter(|&source| needs(source)).collect();

        let half = config.acc_rows() as usize / 2;
        let tile_rows = (half / (held * pitch)).clamp(1, MAX_ROW_BLOCKS).min(row_blocks.max(1));
        let acc_rows = tile_rows * held * pitch;
        let mut accumulator = LocalAllocator::accumulator(&config, builder.operation());
        let copies = if acc_rows <= half { 2 } else { 1 };
        let accumulators = (0..copies).map(|_| accumulator.allocate("C", acc_rows)).collect::<Result<Vec<_>, _>>()?;

        let mut scratchpad = LocalAllocator::scratchpad(&config, builder.operation());
        let stage_rows = used.len() * tile_rows * widest * dim;
        let operand_stages =
            [scratchpad.allocate("operands", stage_rows)?, scratchpad.allocate("operands", stage_rows)?];
        let chunk_rows = sum.operands.len() * widest * dim;
        let all_fit = chunks.len() * chunk_rows <= scratchpad.free() as usize;
        let places = if all_fit { chunks.len() } else { 2.min(chunks.len()) };
        let diagonal_places =
            (0..places).map(|_| scratchpad.allocate("diagonals", chunk_rows)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            sum,
            stream,
            sources,
            used,
            out,
            layout: config.layout(),
            dim,
            pitch,
            d_group: config.max_block_len_acc() as usize,
            chunks,
            row_blocks,
            tile_rows,
            operand_stages,
            diagonals_held: vec![None; places],
            diagonal_places,
            accumulators,
            operand_stride: None,
            scale: None,
            diagonal_place: 0,
            steps: 0,
        })
    }

    fn configure(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        builder.config_ex(DataflowMode::Ws, &self.sum.activation, false, false)?;
        if let Some(diagonals) = &self.sum.diagonals {
            builder.config_ld(CHANNEL_B, diagonals.stride_bytes(), 1.0, false)?;
        }
        builder.config_ld(CHANNEL_D, self.stream.start.stride_bytes(), 1.0, false)
    }

    /// Emits the sum. Loads run one step ahead of the products, and stores one tile behind them.
    ///
    /// # Errors
    /// A value that has no encoding.
    pub fn lower(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        self.configure(builder)?;
        let tiles = self.tiles();
        let steps: Vec<(usize, Range<usize>)> =
            tiles.iter().flat_map(|tile| tile.chunks.clone().map(|chunk| (chunk, tile.rows.clone()))).collect();
        let mut ahead = steps.into_iter();
        let mut next = ahead.next().map(|(chunk, rows)| self.load(builder, chunk, rows)).transpose()?;
        let mut stores = Vec::new();
        for tile in &tiles {
            let mut products = Vec::new();
            while let Some(step) = next.take() {
                let ((), sums) = builder.record(|builder| self.accumulate(builder, tile, &step))?;
                let (loaded, loads) = builder
                    .record(|builder| ahead.next().map(|(chunk, rows)| self.load(builder, chunk, rows)).transpose())?;
                products.extend(interleave(sums, loads));
                next = loaded;
                if step.chunk + 1 == tile.chunks.end {
                    break;
                }
            }
            let ((), last) = builder.record(|builder| self.store(builder, tile))?;
            let earlier = std::mem::replace(&mut stores, last);
            if self.accumulators.len() > 1 {
                builder.append(interleave(earlier, products));
            } else {
                builder.append(earlier);
                builder.append(products);
            }
        }
        builder.append(stores);
        Ok(())
    }

    /// Rows outermost if whole rows are needed; otherwise chunks, so that each one's diagonals are loaded once.
    fn tiles(&self) -> Vec<Tile> {
        let rows = || {
            (0..self.row_blocks)
                .step_by(self.tile_rows)
                .map(|start| start..(start + self.tile_rows).min(self.row_blocks))
        };
        let all: Vec<(Range<usize>, Range<usize>)> = match self.sum.activation.normalizes() {
            true => rows().map(|rows| (0..self.chunks.len(), rows)).collect(),
            false => {
                (0..self.chunks.len()).flat_map(|chunk| rows().map(move |rows| (chunk..chunk + 1, rows))).collect()
            }
        };
        let accumulator = |index: usize| self.accumulators[index % self.accumulators.len()];
        let tile = |(index, (chunks, rows))| Tile { chunks, rows, sums: accumulator(index) };
        all.into_iter().enumerate().map(tile).collect()
    }

    fn store(&mut self, builder: &mut ProgramBuilder, tile: &Tile) -> Result<(), KernelError> {
        match self.sum.activation.normalizes() {
            true => {
                if let Some(sums) = &self.stream.sums {
                    self.store_sums(builder, sums, tile)?;
                }
                self.store_rows(builder, &tile.rows, tile.sums)
            }
            false => self.store_chunk(builder, tile),
        }
    }

    /// The sums themselves, a block at a time: a full-width store moves DIM columns.
    fn store_sums(&self, builder: &mut ProgramBuilder, sums: &View, tile: &Tile) -> Result<(), KernelError> {
        builder.config_st(sums.stride_bytes(), 1.0, &Activation::None)?;
        for (i, block_row) in tile.rows.clone().enumerate() {
            for (block, Block { columns, .. }) in self.sum.blocks.iter().enumerate() {
                let local = self.sums(tile.sums, self.sum_index(tile, i, block)).with_full();
                let at = [block_row * self.pitch, columns.start];
                builder.mvout(sums, at, [self.rows(block_row), columns.len()], local)?;
            }
        }
        Ok(())
    }

    /// Groups with different scales each go through all passes: the scale takes part in the second one.
    fn store_rows(
        &self,
        builder: &mut ProgramBuilder,
        rows: &Range<usize>,
        base: LocalAddr,
    ) -> Result<(), KernelError> {
        let pieces: Vec<Piece> = self.chunks.iter().map(|chunk| self.piece(chunk)).collect();
        let mut scales: Vec<f32> = Vec::new();
        for &scale in &self.sum.scales {
            if !scales.contains(&scale) {
                scales.push(scale);
            }
        }
        for scale in scales {
            let of_scale = |run: &Range<usize>| self.scale_of(run.start) == scale;
            let stored: Vec<Piece> = self
                .chunks
                .iter()
                .flat_map(|chunk| self.runs(chunk))
                .filter(of_scale)
                .map(|run| self.piece(&run))
                .collect();
            builder.config_st(self.out.stride_bytes(), scale, &self.sum.activation)?;
            for (i, block_row) in rows.clone().enumerate() {
                let normalized = NormalizedRows {
                    activation: self.sum.activation,
                    out: *self.out,
                    first_row: block_row * self.pitch,
                    rows: self.rows(block_row),
                    pitch: self.pitch,
                    local: self.sums(base, i * self.sum.blocks.len()),
                };
                store_pieces(builder, &normalized, &pieces, &stored)?;
            }
        }
        Ok(())
    }

    fn store_chunk(&mut self, builder: &mut ProgramBuilder, tile: &Tile) -> Result<(), KernelError> {
        let blocks = self.chunks[tile.chunks.start].clone();
        for run in self.runs(&blocks) {
            let scale = self.scale_of(run.start);
            match self.scale {
                None => builder.config_st(self.out.stride_bytes(), scale, &self.sum.activation)?,
                Some(old) if old != scale => {
                    builder.config_st_only(self.out.stride_bytes(), scale, &self.sum.activation)?;
                }
                Some(_) => {}
            }
            self.scale = Some(scale);
            let columns = self.columns(&run);
            for (i, block_row) in tile.rows.clone().enumerate() {
                let at = [block_row * self.pitch, columns.start];
                let extent = [self.rows(block_row), columns.len()];
                let local = self.sums(tile.sums, self.sum_index(tile, i, run.start));
                builder.mvout(self.out, at, extent, local)?;
            }
        }
        Ok(())
    }

    /// Position of an accumulator block in its tile.
    fn sum_index(&self, tile: &Tile, i: usize, block: usize) -> usize {
        let first = self.chunks[tile.chunks.start].start;
        let width = self.chunks[tile.chunks.end - 1].end - first;
        i * width + block - first
    }

    /// The parts of a range of blocks that are read out with one scale.
    fn runs(&self, blocks: &Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for block in blocks.clone() {
            match runs.last_mut() {
                Some(run) if self.scale_of(run.start) == self.scale_of(block) => run.end = block + 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs
    }

    fn piece(&self, blocks: &Range<usize>) -> Piece {
        Piece { columns: self.columns(blocks), block: blocks.start }
    }

    /// Start plus all terms of one step. The start is loaded one group of blocks ahead of the products.
    fn accumulate(&self, builder: &mut ProgramBuilder, tile: &Tile, step: &Step) -> Result<(), KernelError> {
        let blocks = self.chunks[step.chunk].clone();
        let groups: Vec<Range<usize>> =
            blocks.clone().step_by(self.d_group).map(|first| first..(first + self.d_group).min(blocks.end)).collect();
        for (index, group) in groups.iter().enumerate() {
            if index == 0 {
                self.load_start(builder, tile, group)?;
            }
            if let Some(next) = groups.get(index + 1) {
                self.load_start(builder, tile, next)?;
            }
            group.clone().try_for_each(|block| self.sum_block(builder, tile, step, block))?;
        }
        Ok(())
    }

    fn load_start(&self, builder: &mut ProgramBuilder, tile: &Tile, blocks: &Range<usize>) -> Result<(), KernelError> {
        let columns = self.columns(blocks);
        for (i, block_row) in tile.rows.clone().enumerate() {
            let local = self.sums(tile.sums, self.sum_index(tile, i, blocks.start));
            let (at, extent) = ([block_row * self.pitch, columns.start], [self.rows(block_row), columns.len()]);
            builder.mvin(CHANNEL_D, &self.stream.start, at, extent, local)?;
        }
        Ok(())
    }

    /// All terms of one block of columns.
    fn sum_block(
        &self,
        builder: &mut ProgramBuilder,
        tile: &Tile,
        step: &Step,
        block: usize,
    ) -> Result<(), KernelError> {
        let blocks = self.chunks[step.chunk].clone();
        for (term, &operand) in self.sum.operands.iter().enumerate() {
            let diagonal = self.block(step.diagonals, term * blocks.len() + block - blocks.start);
            for (i, block_row) in tile.rows.clone().enumerate() {
                let a = self.source_index(operand as usize, i, tile.rows.len(), &blocks) + block - blocks.start;
                let c = self.sums(tile.sums, self.sum_index(tile, i, block)).with_accumulate();
                let rows = self.rows(block_row);
                self.multiply(builder, block, [rows, i], [diagonal, self.block(step.operands, a), c])?;
            }
        }
        Ok(())
    }

    fn multiply(
        &self,
        builder: &mut ProgramBuilder,
        block: usize,
        [rows, i]: [usize; 2],
        [diagonal, a, c]: [LocalAddr; 3],
    ) -> Result<(), KernelError> {
        let width = self.sum.blocks[block].columns.len();
        let garbage = builder.garbage();
        let weights = Operand { local: if i == 0 { diagonal } else { garbage.local }, rows: width, cols: width };
        builder.preload(weights, Operand { local: c, rows, cols: width })?;
        builder.compute(i == 0, Operand { local: a, rows, cols: width }, garbage, width)
    }

    /// Loads the chunk's diagonals, unless they are still there, and its part of the operands.
    fn load(&mut self, builder: &mut ProgramBuilder, chunk: usize, rows: Range<usize>) -> Result<Step, KernelError> {
        let blocks = self.chunks[chunk].clone();
        let diagonals = self.load_diagonals(builder, chunk)?;
        let operands = self.operand_stages[self.steps % self.operand_stages.len()];
        self.steps += 1;
        let columns = self.columns(&blocks);
        for &source in &self.used {
            let view = self.sources[source];
            if self.operand_stride != Some(view.stride_bytes()) {
                self.operand_stride = Some(view.stride_bytes());
                builder.config_ld(CHANNEL_A, view.stride_bytes(), 1.0, false)?;
            }
            for (i, block_row) in rows.clone().enumerate() {
                let local = self.block(operands, self.source_index(source, i, rows.len(), &blocks));
                let at = [block_row * self.pitch, columns.start];
                builder.mvin(CHANNEL_A, view, at, [self.rows(block_row), columns.len()], local)?;
            }
        }
        Ok(Step { chunk, diagonals, operands })
    }

    /// The place of a chunk's diagonals: where they are, or behind the place loaded last, which is still in use.
    fn load_diagonals(&mut self, builder: &mut ProgramBuilder, chunk: usize) -> Result<LocalAddr, KernelError> {
        if let Some(place) = self.diagonals_held.iter().position(|held| *held == Some(chunk)) {
            self.diagonal_place = place;
            return Ok(self.diagonal_places[place]);
        }
        self.diagonal_place = (self.diagonal_place + 1) % self.diagonal_places.len();
        self.diagonals_held[self.diagonal_place] = Some(chunk);
        let place = self.diagonal_places[self.diagonal_place];
        let blocks = self.chunks[chunk].clone();
        let Some(diagonals) = &self.sum.diagonals else { return Ok(place) };
        for term in 0..self.sum.operands.len() {
            let local = self.block(place, term * blocks.len());
            let at = [term * self.dim, blocks.start * self.dim];
            builder.mvin(CHANNEL_B, diagonals, at, [self.dim, blocks.len() * self.dim], local)?;
        }
        Ok(place)
    }

    /// Index in the stage of the first block of an operand's block row.
    fn source_index(&self, source: usize, i: usize, rows: usize, blocks: &Range<usize>) -> usize {
        let slot = self.used.iter().position(|&used| used == source).unwrap_or(0);
        (slot * rows + i) * blocks.len()
    }

    fn block(&self, base: LocalAddr, index: usize) -> LocalAddr {
        base.add(self.layout, (index * self.dim) as u32)
    }

    /// Block `index` of the accumulator.
    fn sums(&self, base: LocalAddr, index: usize) -> LocalAddr {
        base.add(self.layout, (index * self.pitch) as u32)
    }

    fn rows(&self, block_row: usize) -> usize {
        block_len(self.out.rows, block_row, self.pitch)
    }

    fn columns(&self, blocks: &Range<usize>) -> Range<usize> {
        self.sum.blocks[blocks.start].columns.start..self.sum.blocks[blocks.end - 1].columns.end
    }

    fn scale_of(&self, block: usize) -> f32 {
        self.sum.scales[self.sum.blocks[block].group]
    }
}

/// Runs of at most `size` blocks that one command can move: all but the last are `dim` wide.
fn chunks(blocks: &[Block], size: usize, dim: usize) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    for index in 0..blocks.len() {
        match chunks.last_mut() {
            Some(last) if last.len() < size && blocks[index - 1].columns.len() == dim => last.end = index + 1,
            _ => chunks.push(index..index + 1),
        }
    }
    chunks
}
