//! Sums of products with diagonal matrices: `C = read_out(sum of operand * diagonal + bias)`.
//!
//! A diagonal B operand multiplies each column of A by its own int8 factor. With two operands this is a residual
//! addition with per-channel factors; the read-out adds LayerNorm or GELU. Only the blocks on the diagonal are
//! stored, loaded and multiplied; all others are zero.

use std::ops::Range;

use pollux_asm::program::ElementType;
use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, LocalAddr};
use serde::{Deserialize, Serialize};

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

/// Which matrix a [`DiagonalTerm`] multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagonalOperand {
    /// The first operand.
    Branch,
    /// The second operand.
    Residual,
}

/// One operand times a diagonal matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagonalTerm {
    /// The operand.
    pub operand: DiagonalOperand,
    /// Main diagonal, one factor a column.
    pub diagonal: Vec<i8>,
}

/// Columns that are read out with one factor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnGroup {
    /// The columns.
    pub columns: Range<usize>,
    /// Factor of the read-out (LayerNorm: of the 1/deviation of the whole row).
    pub scale: f32,
}

/// A sum of diagonal products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagonalSum {
    /// Accumulated in this order; one operand may occur more than once.
    pub terms: Vec<DiagonalTerm>,
    /// One int32 a column.
    pub bias: Vec<i32>,
    /// Activation of the read-out.
    pub activation: Activation,
    /// Cover all columns, in order.
    pub groups: Vec<ColumnGroup>,
}

impl DiagonalSum {
    /// Puts the diagonals and the bias into main memory, as buffers `NAME.diagonals` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters of different lengths, groups that do not cover the columns, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedDiagonalSum, KernelError> {
        self.check(name)?;
        let blocks = blocks(&self.groups, builder.dim());
        let bias = builder.buffer_i32(&format!("{name}.bias"), 1, self.bias.len(), &self.bias)?;
        let (rows, cols) = (self.terms.len() * builder.dim(), blocks.len() * builder.dim());
        let data = self.diagonal_blocks(builder.dim(), &blocks);
        let diagonals = builder.buffer_i8(&format!("{name}.diagonals"), rows, cols, &data)?;
        let operands = self.terms.iter().map(|term| term.operand).collect();
        Ok(PlacedDiagonalSum {
            operands,
            diagonals,
            bias,
            activation: self.activation,
            scales: self.groups.iter().map(|group| group.scale).collect(),
            blocks,
        })
    }

    /// The DIM x DIM blocks of every term's diagonal: term t is block row t.
    fn diagonal_blocks(&self, dim: usize, blocks: &[Block]) -> Vec<i8> {
        let width = blocks.len() * dim;
        let mut data = vec![0; self.terms.len() * dim * width];
        for (t, term) in self.terms.iter().enumerate() {
            for (b, block) in blocks.iter().enumerate() {
                for (at, column) in block.columns.clone().enumerate() {
                    data[(t * dim + at) * width + b * dim + at] = term.diagonal[column];
                }
            }
        }
        data
    }

    fn check(&self, name: &str) -> Result<(), KernelError> {
        let columns = self.bias.len();
        for term in &self.terms {
            if term.diagonal.len() != columns {
                let what = format!("{name}.diagonals");
                return Err(KernelError::Length { what, found: term.diagonal.len(), expected: columns });
            }
        }
        let mut next = 0;
        let consecutive = self.groups.iter().all(|group| {
            let follows = group.columns.start == next && !group.columns.is_empty();
            next = group.columns.end;
            follows
        });
        if self.terms.is_empty() || !consecutive || next != columns {
            return Err(KernelError::Parameter {
                operation: name.to_owned(),
                what: format!(
                    "it needs at least one term, and column groups that cover the {columns} columns in order"
                ),
            });
        }
        Ok(())
    }
}

/// A block of columns: at most DIM, all of one group.
#[derive(Clone, Debug)]
struct Block {
    columns: Range<usize>,
    group: usize,
}

fn blocks(groups: &[ColumnGroup], dim: usize) -> Vec<Block> {
    let of_group = |(group, g): (usize, &ColumnGroup)| {
        let end = g.columns.end;
        let block = move |start| Block { columns: start..(start + dim).min(end), group };
        g.columns.clone().step_by(dim).map(block).collect::<Vec<_>>()
    };
    groups.iter().enumerate().flat_map(of_group).collect()
}

/// A [`DiagonalSum`] whose parameters are in main memory.
#[derive(Clone, Debug)]
pub struct PlacedDiagonalSum {
    operands: Vec<DiagonalOperand>,
    diagonals: View,
    bias: View,
    activation: Activation,
    scales: Vec<f32>,
    blocks: Vec<Block>,
}

impl PlacedDiagonalSum {
    /// Emits the sum over all rows. `residual` may be the branch itself if no term has it.
    ///
    /// # Errors
    /// Operands of the wrong shape, rows that do not fit the accumulator, or a value that has no encoding.
    pub fn lower(
        &self,
        builder: &mut ProgramBuilder,
        branch: &View,
        residual: &View,
        out: &View,
    ) -> Result<(), KernelError> {
        let expected = (out.rows, self.bias.cols);
        for (operand, view) in [("the branch", branch), ("the residual", residual), ("the result", out)] {
            let found = (view.rows, view.cols);
            if found != expected || view.element != ElementType::I8 {
                let operation = builder.operation().to_owned();
                return Err(KernelError::Shape { operation, operand, found, expected });
            }
        }
        let mut kernel = Kernel::new(self, builder, [branch, residual], out)?;
        kernel.configure(builder)?;
        kernel.lower(builder)
    }
}

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

struct Kernel<'a> {
    sum: &'a PlacedDiagonalSum,
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
    fn new(
        sum: &'a PlacedDiagonalSum,
        builder: &mut ProgramBuilder,
        sources: [&'a View; 2],
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
        builder.config_ld(CHANNEL_B, self.sum.diagonals.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_D, 0, 1.0, false)
    }

    /// Loads run one step ahead of the products, and stores one tile behind them.
    fn lower(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
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
            true => self.store_rows(builder, &tile.rows, tile.sums),
            false => self.store_chunk(builder, tile),
        }
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

    /// Bias plus all terms of one step. The bias is loaded one group of blocks ahead of the products.
    fn accumulate(&self, builder: &mut ProgramBuilder, tile: &Tile, step: &Step) -> Result<(), KernelError> {
        let blocks = self.chunks[step.chunk].clone();
        let groups: Vec<Range<usize>> =
            blocks.clone().step_by(self.d_group).map(|first| first..(first + self.d_group).min(blocks.end)).collect();
        for (index, group) in groups.iter().enumerate() {
            if index == 0 {
                self.load_bias(builder, tile, group)?;
            }
            if let Some(next) = groups.get(index + 1) {
                self.load_bias(builder, tile, next)?;
            }
            group.clone().try_for_each(|block| self.sum_block(builder, tile, step, block))?;
        }
        Ok(())
    }

    fn load_bias(&self, builder: &mut ProgramBuilder, tile: &Tile, blocks: &Range<usize>) -> Result<(), KernelError> {
        let columns = self.columns(blocks);
        let bias = View { stride: 0, ..self.sum.bias };
        for (i, block_row) in tile.rows.clone().enumerate() {
            let local = self.sums(tile.sums, self.sum_index(tile, i, blocks.start));
            builder.mvin(CHANNEL_D, &bias, [0, columns.start], [self.rows(block_row), columns.len()], local)?;
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
        for term in 0..self.sum.operands.len() {
            let local = self.block(place, term * blocks.len());
            let at = [term * self.dim, blocks.start * self.dim];
            builder.mvin(CHANNEL_B, &self.sum.diagonals, at, [self.dim, blocks.len() * self.dim], local)?;
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
