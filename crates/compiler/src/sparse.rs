//! Products that leave out blocks of weights that are all zero: neither loaded nor multiplied.
//!
//! Weight-stationary, single commands. A strip of block columns at a time: the bias goes into the accumulator, every
//! block that is not zero is loaded and multiplied with its block column of A, which stays in the scratchpad.

use std::ops::Range;

use pollux_isa::{AddressLayout, LocalAddr};
use pollux_kernels::allocator::LocalAllocator;
use pollux_kernels::builder::Operand;
use pollux_kernels::{Bias, KernelError, Matmul, ProgramBuilder, View};

/// Load channels, as the other kernels use them.
const CHANNEL_A: u8 = 0;
const CHANNEL_B: u8 = 1;
const CHANNEL_D: u8 = 2;

/// Which DIM x DIM blocks of a weight matrix have an element that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileMap {
    /// Block rows (K).
    pub rows: usize,
    /// Block columns (J).
    pub cols: usize,
    used: Vec<bool>,
}

impl TileMap {
    /// The map of a row-major matrix of `rows` x `cols` elements.
    pub fn new(weights: &[i8], rows: usize, cols: usize, dim: usize) -> Self {
        let (block_rows, block_cols) = (rows.div_ceil(dim), cols.div_ceil(dim));
        let mut used = vec![false; block_rows * block_cols];
        for (row, line) in weights.chunks_exact(cols.max(1)).enumerate() {
            for (block, elements) in line.chunks(dim).enumerate() {
                used[row / dim * block_cols + block] |= elements.iter().any(|&w| w != 0);
            }
        }
        Self { rows: block_rows, cols: block_cols, used }
    }

    /// Whether a block has an element that is not zero.
    pub fn is_used(&self, row: usize, col: usize) -> bool {
        self.used[row * self.cols + col]
    }

    /// Blocks that are all zero.
    pub fn zero_tiles(&self) -> usize {
        self.used.iter().filter(|used| !**used).count()
    }

    /// All blocks.
    pub fn tiles(&self) -> usize {
        self.used.len()
    }

    /// The parts of `cols` in a block row that are used, as ranges.
    fn runs(&self, row: usize, cols: &Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for col in cols.clone().filter(|&col| self.is_used(row, col)) {
            match runs.last_mut() {
                Some(run) if run.end == col => run.end += 1,
                _ => runs.push(col..col + 1),
            }
        }
        runs
    }
}

/// Emits `C = read_out(A * B + bias row)`.
///
/// # Errors
/// A product that is not plain (transposed, normalized, or without a bias row), or local memories that are too small.
pub fn lower(builder: &mut ProgramBuilder, matmul: &Matmul, map: &TileMap) -> Result<(), KernelError> {
    let Bias::Row(bias) = matmul.bias else {
        return Err(not_plain(builder));
    };
    if matmul.a_transpose || matmul.b_transpose || matmul.activation.normalizes() {
        return Err(not_plain(builder));
    }
    let kernel = Kernel::new(builder, matmul, map, bias)?;
    kernel.configure(builder)?;
    let mut slot = 0;
    for (index, rows) in kernel.row_groups().enumerate() {
        kernel.load_a(builder, &rows)?;
        for (strip, cols) in kernel.strips().enumerate() {
            let c = kernel.c[(index + strip) % kernel.c.len()];
            kernel.strip(builder, &rows, &cols, c, &mut slot)?;
        }
    }
    Ok(())
}

fn not_plain(builder: &ProgramBuilder) -> KernelError {
    KernelError::Parameter {
        operation: builder.operation().to_owned(),
        what: "zero blocks can only be left out of a product with a bias row, without transposition and normalization"
            .to_owned(),
    }
}

struct Kernel<'a> {
    matmul: &'a Matmul,
    map: &'a TileMap,
    bias: View,
    dim: usize,
    layout: AddressLayout,
    /// Blocks that one load or store moves, and one load of the bias.
    group: usize,
    d_group: usize,
    /// Block rows that stay in the scratchpad together.
    tile_rows: usize,
    a: LocalAddr,
    /// Places for runs of B, used in turn.
    b: Vec<LocalAddr>,
    /// Two halves of the accumulator.
    c: Vec<LocalAddr>,
}

impl<'a> Kernel<'a> {
    fn new(builder: &ProgramBuilder, matmul: &'a Matmul, map: &'a TileMap, bias: View) -> Result<Self, KernelError> {
        let config = builder.config();
        let (dim, group) = (builder.dim(), (config.max_block_len() as usize).min(map.cols));
        let block_rows = matmul.a.rows.div_ceil(dim).max(1);
        let fits_a = config.sp_rows() as usize / 2 / (map.rows * dim).max(1);
        let fits_c = config.acc_rows() as usize / 2 / (group * dim);
        let tile_rows = fits_a.min(fits_c).clamp(1, block_rows);
        let mut scratchpad = LocalAllocator::scratchpad(config, builder.operation());
        let a = scratchpad.allocate("A", tile_rows * map.rows * dim)?;
        let places = (scratchpad.free() as usize / (group * dim)).clamp(1, map.rows.max(1) * 2);
        let b = (0..places).map(|_| scratchpad.allocate("B", group * dim)).collect::<Result<_, _>>()?;
        let mut accumulator = LocalAllocator::accumulator(config, builder.operation());
        let c = (0..2).map(|_| accumulator.allocate("C", tile_rows * group * dim)).collect::<Result<_, _>>()?;
        let d_group = config.max_block_len_acc() as usize;
        Ok(Self { matmul, map, bias, dim, layout: config.layout(), group, d_group, tile_rows, a, b, c })
    }

    fn configure(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let m = self.matmul;
        builder.config_ex(pollux_isa::values::DataflowMode::Ws, &m.activation, false, false)?;
        builder.config_st(m.c.stride_bytes(), m.scale, &m.activation)?;
        builder.config_ld(CHANNEL_A, m.a.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_B, m.b.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_D, 0, 1.0, false)
    }

    fn row_groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        groups(self.matmul.a.rows.div_ceil(self.dim), self.tile_rows)
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        groups(self.map.cols, self.group)
    }

    fn load_a(&self, builder: &mut ProgramBuilder, rows: &Range<usize>) -> Result<(), KernelError> {
        for row in rows.clone() {
            for cols in groups(self.map.rows, self.group) {
                let local = self.block(self.a, (row - rows.start) * self.map.rows + cols.start);
                self.load(builder, CHANNEL_A, &self.matmul.a, row, &cols, local)?;
            }
        }
        Ok(())
    }

    fn strip(
        &self,
        builder: &mut ProgramBuilder,
        rows: &Range<usize>,
        cols: &Range<usize>,
        c: LocalAddr,
        slot: &mut usize,
    ) -> Result<(), KernelError> {
        let c_block = |row: usize, col: usize| self.block(c, (row - rows.start) * cols.len() + col - cols.start);
        for row in rows.clone() {
            for part in groups(cols.len(), self.d_group) {
                let first = cols.start + part.start;
                let extent = [self.rows(row), self.columns(&(first..cols.start + part.end))];
                let bias = View { stride: 0, ..self.bias };
                builder.mvin(CHANNEL_D, &bias, [0, first * self.dim], extent, c_block(row, first))?;
            }
        }
        for k in 0..self.map.rows {
            for run in self.map.runs(k, cols) {
                let b = self.b[*slot % self.b.len()];
                *slot += 1;
                self.load(builder, CHANNEL_B, &self.matmul.b, k, &run, b)?;
                for col in run.clone() {
                    let weights = self.block(b, col - run.start);
                    self.multiply(builder, rows, [k, col], weights, |row| c_block(row, col))?;
                }
            }
        }
        for row in rows.clone() {
            let extent = [self.rows(row), self.columns(cols)];
            let at = [row * self.dim, cols.start * self.dim];
            builder.mvout(&self.matmul.c, at, extent, c_block(row, cols.start))?;
        }
        Ok(())
    }

    /// One block of B with all its blocks of A.
    fn multiply(
        &self,
        builder: &mut ProgramBuilder,
        rows: &Range<usize>,
        [k, col]: [usize; 2],
        weights: LocalAddr,
        c: impl Fn(usize) -> LocalAddr,
    ) -> Result<(), KernelError> {
        let depth = self.matmul.b.rows.saturating_sub(k * self.dim).min(self.dim);
        let columns = self.columns(&(col..col + 1));
        let garbage = builder.garbage();
        for row in rows.clone() {
            let new = row == rows.start;
            let local = if new { weights } else { garbage.local };
            let height = self.rows(row);
            let a = self.block(self.a, (row - rows.start) * self.map.rows + k);
            let result = Operand { local: c(row).with_accumulate(), rows: height, cols: columns };
            builder.preload(Operand { local, rows: depth, cols: columns }, result)?;
            builder.compute(new, Operand { local: a, rows: height, cols: depth }, garbage, columns)?;
        }
        Ok(())
    }

    fn load(
        &self,
        builder: &mut ProgramBuilder,
        channel: u8,
        view: &View,
        row: usize,
        cols: &Range<usize>,
        local: LocalAddr,
    ) -> Result<(), KernelError> {
        let rows = view.rows.saturating_sub(row * self.dim).min(self.dim);
        let columns = (cols.end * self.dim).min(view.cols) - cols.start * self.dim;
        builder.mvin(channel, view, [row * self.dim, cols.start * self.dim], [rows, columns], local)
    }

    fn rows(&self, row: usize) -> usize {
        self.matmul.a.rows.saturating_sub(row * self.dim).min(self.dim)
    }

    fn columns(&self, cols: &Range<usize>) -> usize {
        (cols.end * self.dim).min(self.matmul.c.cols) - cols.start * self.dim
    }

    fn block(&self, base: LocalAddr, index: usize) -> LocalAddr {
        base.add(self.layout, (index * self.dim) as u32)
    }
}

/// `0..end` in groups of at most `size`.
fn groups(end: usize, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    (0..end).step_by(size.max(1)).map(move |start| start..(start + size).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_one_weight_is_used() {
        let mut weights = vec![0i8; 5 * 7];
        weights[4 * 7 + 6] = -1;
        let map = TileMap::new(&weights, 5, 7, 4);
        assert_eq!((map.rows, map.cols, map.zero_tiles()), (2, 2, 3));
        assert!(map.is_used(1, 1));
    }

    #[test]
    fn runs_are_the_used_parts_of_a_row() {
        let map = TileMap::new(&[1, 0, 2, 3], 1, 4, 1);
        assert_eq!(map.runs(0, &(0..4)), [0..1, 2..4]);
        assert_eq!(map.runs(0, &(1..3)), [2..3]);
    }
}
