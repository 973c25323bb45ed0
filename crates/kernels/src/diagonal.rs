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
use crate::tiling::block_len;
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
        match self.activation.normalizes() {
            true => kernel.by_rows(builder),
            false => kernel.by_columns(builder),
        }
    }
}

/// Where a chunk's operands lie in the scratchpad.
#[derive(Clone, Copy)]
struct Stage {
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
        let chunks = chunks(&sum.blocks, blocks_per_store(builder, pitch));
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
            steps: 0,
        })
    }

    fn configure(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        builder.config_ex(DataflowMode::Ws, &self.sum.activation, false, false)?;
        builder.config_ld(CHANNEL_B, self.sum.diagonals.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_D, 0, 1.0, false)
    }

    /// Whole rows first: every chunk of a row tile is summed, then its rows are normalized.
    fn by_rows(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let pieces: Vec<Piece> =
            self.chunks.iter().map(|chunk| Piece { columns: self.columns(chunk), block: chunk.start }).collect();
        let width = self.sum.blocks.len();
        for (index, start) in (0..self.row_blocks).step_by(self.tile_rows).enumerate() {
            let rows = start..(start + self.tile_rows).min(self.row_blocks);
            let base = self.accumulators[index % self.accumulators.len()];
            for chunk in 0..self.chunks.len() {
                self.accumulate(builder, chunk, &rows, |i, block| (base, i * width + block))?;
            }
            self.store_rows(builder, &rows, base, &pieces)?;
        }
        Ok(())
    }

    /// Groups with different scales each go through all passes: the scale takes part in the second one.
    fn store_rows(
        &self,
        builder: &mut ProgramBuilder,
        rows: &Range<usize>,
        base: LocalAddr,
        pieces: &[Piece],
    ) -> Result<(), KernelError> {
        let mut scales: Vec<f32> = Vec::new();
        for &scale in &self.sum.scales {
            if !scales.contains(&scale) {
                scales.push(scale);
            }
        }
        for scale in scales {
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
                store_pieces(builder, &normalized, pieces, |piece| self.scale_of(piece.block) == scale)?;
            }
        }
        Ok(())
    }

    /// Chunks first: each is summed and stored for all rows while its diagonals are in the scratchpad.
    fn by_columns(&mut self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        builder.config_st(self.out.stride_bytes(), self.scale_of(0), &self.sum.activation)?;
        let mut scale = self.scale_of(0);
        for chunk in 0..self.chunks.len() {
            let blocks = self.chunks[chunk].clone();
            if self.scale_of(blocks.start) != scale {
                scale = self.scale_of(blocks.start);
                builder.config_st_only(self.out.stride_bytes(), scale, &self.sum.activation)?;
            }
            for start in (0..self.row_blocks).step_by(self.tile_rows) {
                let rows = start..(start + self.tile_rows).min(self.row_blocks);
                let base = self.accumulators[self.steps % self.accumulators.len()];
                let place = |i, block| (base, i * blocks.len() + block - blocks.start);
                self.accumulate(builder, chunk, &rows, place)?;
                let columns = self.columns(&blocks);
                for (i, block_row) in rows.enumerate() {
                    let local = self.sums(base, i * blocks.len());
                    let at = [block_row * self.pitch, columns.start];
                    builder.mvout(self.out, at, [self.rows(block_row), columns.len()], local)?;
                }
            }
        }
        Ok(())
    }

    /// Bias plus all terms of one chunk and row tile. `place` gives base and index of an accumulator block.
    fn accumulate(
        &mut self,
        builder: &mut ProgramBuilder,
        chunk: usize,
        rows: &Range<usize>,
        place: impl Fn(usize, usize) -> (LocalAddr, usize),
    ) -> Result<(), KernelError> {
        let blocks = self.chunks[chunk].clone();
        let stage = self.load(builder, chunk, rows)?;
        for (i, block_row) in rows.clone().enumerate() {
            for first in blocks.clone().step_by(self.d_group) {
                let group = first..(first + self.d_group).min(blocks.end);
                let columns = self.columns(&group);
                let (base, index) = place(i, first);
                let extent = [self.rows(block_row), columns.len()];
                let bias = View { stride: 0, ..self.sum.bias };
                builder.mvin(CHANNEL_D, &bias, [0, columns.start], extent, self.sums(base, index))?;
            }
        }
        for block in blocks.clone() {
            for (term, &operand) in self.sum.operands.iter().enumerate() {
                let diagonal = self.block(stage.diagonals, term * blocks.len() + block - blocks.start);
                for (i, block_row) in rows.clone().enumerate() {
                    let (base, index) = place(i, block);
                    let a = self.operand_index(operand, i, rows.len(), &blocks) + block - blocks.start;
                    self.multiply(
                        builder,
                        block,
                        [self.rows(block_row), i],
                        [diagonal, self.block(stage.operands, a), self.sums(base, index).with_accumulate()],
                    )?;
                }
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
    fn load(&mut self, builder: &mut ProgramBuilder, chunk: usize, rows: &Range<usize>) -> Result<Stage, KernelError> {
        let blocks = self.chunks[chunk].clone();
        let place = chunk % self.diagonal_places.len();
        let diagonals = self.diagonal_places[place];
        if self.diagonals_held[place] != Some(chunk) {
            self.diagonals_held[place] = Some(chunk);
            for term in 0..self.sum.operands.len() {
                let local = self.block(diagonals, term * blocks.len());
                let at = [term * self.dim, blocks.start * self.dim];
                builder.mvin(CHANNEL_B, &self.sum.diagonals, at, [self.dim, blocks.len() * self.dim], local)?;
            }
        }
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
                let index = self.source_index(source, i, rows.len(), &blocks);
                let at = [block_row * self.pitch, columns.start];
                let local = self.block(operands, index);
                builder.mvin(CHANNEL_A, view, at, [self.rows(block_row), columns.len()], local)?;
            }
        }
        Ok(Stage { diagonals, operands })
    }

    /// Index of the first block of an operand's block row in the stage.
    fn operand_index(&self, operand: DiagonalOperand, i: usize, rows: usize, blocks: &Range<usize>) -> usize {
        self.source_index(operand as usize, i, rows, blocks)
    }

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

/// Runs of at most `size` blocks of one group.
fn chunks(blocks: &[Block], size: usize) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        match chunks.last_mut() {
            Some(last) if last.len() < size && blocks[last.start].group == block.group => last.end = index + 1,
            _ => chunks.push(index..index + 1),
        }
    }
    chunks
}
