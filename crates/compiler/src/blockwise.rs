//! Products block by block: blocks of weights that are all zero are left out, and columns of the input may occur again.
//!
//! Weight-stationary, single commands. A strip of block columns at a time: the bias goes into the accumulator, every
//! block of weights that is not zero is loaded and multiplied with its block column of A, which stays in the
//! scratchpad. Loads run a few blocks ahead of the products.

use std::ops::Range;

use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, LocalAddr};
use pollux_kernels::allocator::LocalAllocator;
use pollux_kernels::builder::Operand;
use pollux_kernels::{Bias, KernelError, Linear, Matmul, ProgramBuilder, View};

/// Load channels, as the other kernels use them.
const CHANNEL_A: u8 = 0;
const CHANNEL_B: u8 = 1;
const CHANNEL_D: u8 = 2;

/// Steps by which loads run ahead.
const AHEAD: usize = 4;

/// At most DIM columns of A with their rows of B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthBlock {
    /// First column of the input.
    pub column: usize,
    /// First row of the weights.
    pub row: usize,
    /// Columns.
    pub len: usize,
}

/// How a weight matrix falls into blocks, and which of them have an element that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileMap {
    depth: Vec<DepthBlock>,
    cols: usize,
    used: Vec<bool>,
}

impl TileMap {
    /// The map of weights whose rows belong to the input's columns in order, and then to the columns `repeats` once more.
    pub fn new(linear: &Linear, repeats: &[Range<usize>], dim: usize) -> Self {
        let repeated: usize = repeats.iter().map(Range::len).sum();
        let plain = 0..linear.inputs.saturating_sub(repeated);
        let mut depth = Vec::new();
        let mut row = 0;
        for columns in std::iter::once(&plain).chain(repeats) {
            for column in columns.clone().step_by(dim) {
                let len = dim.min(columns.end - column);
                depth.push(DepthBlock { column, row, len });
                row += len;
            }
        }
        let cols = linear.outputs.div_ceil(dim);
        let mut used = Vec::with_capacity(depth.len() * cols);
        for block in &depth {
            let lines = &linear.weights[block.row * linear.outputs..(block.row + block.len) * linear.outputs];
            let has = |col: usize| {
                let columns = col * dim..((col + 1) * dim).min(linear.outputs);
                lines.chunks_exact(linear.outputs).any(|line| line[columns.clone()].iter().any(|&w| w != 0))
            };
            used.extend((0..cols).map(has));
        }
        Self { depth, cols, used }
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

    /// Treats every block as used.
    pub fn with_zeros(self) -> Self {
        Self { used: vec![true; self.used.len()], ..self }
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

/// Emits `C = read_out(A * B + bias row)`; `matmul.a` is the input, without repeated columns.
///
/// # Errors
/// A product that is not plain (transposed, normalized, or without a bias row), shapes that do not fit together, or local
/// memories that are too small.
pub fn lower(builder: &mut ProgramBuilder, matmul: &Matmul, map: &TileMap) -> Result<(), KernelError> {
    let parameter = |what: &str| KernelError::Parameter {
        operation: builder.operation().to_owned(),
        what: format!("a product by blocks needs {what}"),
    };
    let plain = !matmul.a_transpose && !matmul.b_transpose && !matmul.activation.normalizes();
    let Bias::Row(bias) = matmul.bias else { return Err(parameter("a bias row")) };
    if !plain {
        return Err(parameter("operands that are not transposed, and an activation that does not normalize"));
    }
    let columns = map.depth.iter().map(|block| block.column + block.len).max().unwrap_or(0);
    for (operand, found, expected) in [
        ("A", (matmul.a.rows, matmul.a.cols), (matmul.c.rows, columns)),
        ("C", (matmul.c.rows, matmul.c.cols), (matmul.a.rows, matmul.b.cols)),
        ("the bias row", (bias.rows, bias.cols), (1, matmul.b.cols)),
    ] {
        if found != expected {
            let operation = builder.operation().to_owned();
            return Err(KernelError::Shape { operation, operand, found, expected });
        }
    }
    let kernel = Kernel::new(builder, matmul, map, bias)?;
    kernel.configure(builder)?;
    kernel.row_groups().try_for_each(|rows| kernel.row_group(builder, &rows))
}

/// One step of a row group.
#[derive(Clone, Debug)]
struct Step {
    /// Number of the strip.
    strip: usize,
    /// Its block columns.
    cols: Range<usize>,
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    /// The bias begins the sums.
    Begin,
    /// Some blocks of a block row of B, loaded to this place.
    Multiply { depth: usize, run: Range<usize>, place: LocalAddr },
    /// The sums are complete.
    Store,
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
    c: [LocalAddr; 2],
}

impl<'a> Kernel<'a> {
    fn new(builder: &ProgramBuilder, matmul: &'a Matmul, map: &'a TileMap, bias: View) -> Result<Self, KernelError> {
        let config = builder.config();
        let (dim, group) = (builder.dim(), (config.max_block_len() as usize).min(map.cols.max(1)));
        let depth = map.depth.len().max(1);
        let fits_a = config.sp_rows() as usize / 2 / (depth * dim);
        let fits_c = config.acc_rows() as usize / 2 / (group * dim);
        let tile_rows = fits_a.min(fits_c).clamp(1, matmul.a.rows.div_ceil(dim).max(1));
        let mut scratchpad = LocalAllocator::scratchpad(config, builder.operation());
        let a = scratchpad.allocate("A", tile_rows * depth * dim)?;
        let places = (scratchpad.free() as usize / (group * dim)).clamp(1, 2 * AHEAD);
        let b = (0..places).map(|_| scratchpad.allocate("B", group * dim)).collect::<Result<_, _>>()?;
        let mut accumulator = LocalAllocator::accumulator(config, builder.operation());
        let rows = tile_rows * group * dim;
        let c = [accumulator.allocate("C", rows)?, accumulator.allocate("C", rows)?];
        let d_group = config.max_block_len_acc() as usize;
        Ok(Self { matmul, map, bias, dim, layout: config.layout(), group, d_group, tile_rows, a, b, c })
    }

    fn configure(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let m = self.matmul;
        builder.config_ex(DataflowMode::Ws, &m.activation, false, false)?;
        builder.config_st(m.c.stride_bytes(), m.scale, &m.activation)?;
        builder.config_ld(CHANNEL_A, m.a.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_B, m.b.stride_bytes(), 1.0, false)?;
        builder.config_ld(CHANNEL_D, 0, 1.0, false)
    }

    fn row_groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        groups(self.matmul.a.rows.div_ceil(self.dim), self.tile_rows)
    }

    fn steps(&self) -> Vec<Step> {
        let mut places = self.b.iter().cycle();
        let mut steps = Vec::new();
        for (strip, cols) in groups(self.map.cols, self.group).enumerate() {
            let step = |work| Step { strip, cols: cols.clone(), work };
            steps.push(step(Work::Begin));
            for depth in 0..self.map.depth.len() {
                for (run, &place) in self.map.runs(depth, &cols).into_iter().zip(places.by_ref()) {
                    steps.push(step(Work::Multiply { depth, run, place }));
                }
            }
            steps.push(step(Work::Store));
        }
        steps
    }

    /// All strips of some block rows. The loads of a step are emitted a few steps before its products, but never into a
    /// place that is still needed: fewer steps than places ahead, and not beyond the next strip.
    fn row_group(&self, builder: &mut ProgramBuilder, rows: &Range<usize>) -> Result<(), KernelError> {
        self.load_a(builder, rows)?;
        let steps = self.steps();
        let ahead = AHEAD.min(self.b.len() - 1);
        let mut loaded = 0;
        for (index, step) in steps.iter().enumerate() {
            while let Some(next) =
                steps.get(loaded).filter(|next| loaded <= index + ahead && next.strip <= step.strip + 1)
            {
                self.load(builder, rows, next)?;
                loaded += 1;
            }
            match &step.work {
                Work::Begin => {}
                Work::Multiply { depth, run, place } => {
                    for col in run.clone() {
                        let weights = self.block(*place, col - run.start);
                        self.multiply(builder, rows, step, [*depth, col], weights)?;
                    }
                }
                Work::Store => self.store(builder, rows, step)?,
            }
        }
        Ok(())
    }

    fn load_a(&self, builder: &mut ProgramBuilder, rows: &Range<usize>) -> Result<(), KernelError> {
        for row in rows.clone() {
            for (index, run) in self.adjacent() {
                let (first, last) = (self.map.depth[run.start], self.map.depth[run.end - 1]);
                let columns = last.column + last.len - first.column;
                let local = self.block(self.a, (row - rows.start) * self.map.depth.len() + index);
                let at = [row * self.dim, first.column];
                builder.mvin(CHANNEL_A, &self.matmul.a, at, [self.rows(row), columns], local)?;
            }
        }
        Ok(())
    }

    /// Depth blocks that one load can fetch: adjacent columns, all but the last whole. With the index of the first.
    fn adjacent(&self) -> Vec<(usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for (index, block) in self.map.depth.iter().enumerate() {
            let follows = |run: &Range<usize>| {
                let last = self.map.depth[run.end - 1];
                last.len == self.dim && last.column + last.len == block.column && run.len() < self.group
            };
            match runs.last_mut() {
                Some((_, run)) if follows(run) => run.end += 1,
                _ => runs.push((index, index..index + 1)),
            }
        }
        runs
    }

    fn load(&self, builder: &mut ProgramBuilder, rows: &Range<usize>, step: &Step) -> Result<(), KernelError> {
        match &step.work {
            Work::Begin => {
                for row in rows.clone() {
                    for part in groups(step.cols.len(), self.d_group) {
                        let cols = step.cols.start + part.start..step.cols.start + part.end;
                        let extent = [self.rows(row), self.columns(&cols)];
                        let bias = View { stride: 0, ..self.bias };
                        let local = self.sums(rows, step, [row, cols.start]);
                        builder.mvin(CHANNEL_D, &bias, [0, cols.start * self.dim], extent, local)?;
                    }
                }
                Ok(())
            }
            Work::Multiply { depth, run, place } => {
                let DepthBlock { row, len, .. } = self.map.depth[*depth];
                let at = [row, run.start * self.dim];
                builder.mvin(CHANNEL_B, &self.matmul.b, at, [len, self.columns(run)], *place)
            }
            Work::Store => Ok(()),
        }
    }

    /// One block of B with all its blocks of A.
    fn multiply(
        &self,
        builder: &mut ProgramBuilder,
        rows: &Range<usize>,
        step: &Step,
        [depth, col]: [usize; 2],
        weights: LocalAddr,
    ) -> Result<(), KernelError> {
        let len = self.map.depth[depth].len;
        let columns = self.columns(&(col..col + 1));
        let garbage = builder.garbage();
        for row in rows.clone() {
            let new = row == rows.start;
            let local = if new { weights } else { garbage.local };
            let a = self.block(self.a, (row - rows.start) * self.map.depth.len() + depth);
            let c = self.sums(rows, step, [row, col]).with_accumulate();
            let height = self.rows(row);
            let result = Operand { local: c, rows: height, cols: columns };
            builder.preload(Operand { local, rows: len, cols: columns }, result)?;
            builder.compute(new, Operand { local: a, rows: height, cols: len }, garbage, columns)?;
        }
        Ok(())
    }

    fn store(&self, builder: &mut ProgramBuilder, rows: &Range<usize>, step: &Step) -> Result<(), KernelError> {
        for row in rows.clone() {
            let extent = [self.rows(row), self.columns(&step.cols)];
            let at = [row * self.dim, step.cols.start * self.dim];
            builder.mvout(&self.matmul.c, at, extent, self.sums(rows, step, [row, step.cols.start]))?;
        }
        Ok(())
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

    /// Accumulator block of a block row and column.
    fn sums(&self, rows: &Range<usize>, step: &Step, [row, col]: [usize; 2]) -> LocalAddr {
        let base = self.c[step.strip % self.c.len()];
        self.block(base, (row - rows.start) * step.cols.len() + col - step.cols.start)
    }
}

/// `0..end` in groups of at most `size`.
fn groups(end: usize, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    (0..end).step_by(size.max(1)).map(move |start| start..(start + size).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(inputs: usize, outputs: usize, weights: Vec<i8>) -> Linear {
        Linear { inputs, outputs, weights, bias: vec![0; outputs], scale: 1.0 }
    }

    #[test]
    fn a_block_with_one_weight_is_used() {
        let mut weights = vec![0i8; 5 * 7];
        weights[4 * 7 + 6] = -1;
        let map = TileMap::new(&linear(5, 7, weights), &[], 4);
        assert_eq!((map.tiles(), map.zero_tiles()), (4, 3));
        assert!(map.is_used(1, 1));
        assert_eq!(map.with_zeros().zero_tiles(), 0);
    }

    #[test]
    fn repeated_columns_are_blocks_of_their_own() {
        let map = TileMap::new(&linear(9, 1, vec![1; 9]), &[1..3, 2..3], 4);
        let blocks = map.depth.iter().map(|b| (b.column, b.row, b.len));
        assert_eq!(blocks.collect::<Vec<_>>(), [(0, 0, 4), (4, 4, 2), (1, 6, 2), (2, 8, 1)]);
    }

    #[test]
    fn runs_are_the_used_parts_of_a_row() {
        let map = TileMap::new(&linear(1, 4, vec![1, 0, 2, 3]), &[], 1);
        assert_eq!(map.runs(0, &(0..4)), [0..1, 2..4]);
        assert_eq!(map.runs(0, &(0..1)).first(), Some(&(0..1)));
    }
}
