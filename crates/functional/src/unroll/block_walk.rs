//! The walk that every load and store unit of `LoopMatmul.scala` makes: over the blocks of a matrix, several blocks
//! of a block row in one command.

use pollux_isa::{AddressLayout, LocalAddr};

/// `floorAdd` of `Util.scala`: `u + n`, or 0 when that exceeds `max - 1`. Iterators have 16 bits, so `max` 0 counts 65536.
pub(super) fn floor_add(u: u16, n: u16, max: u16, enable: bool) -> u16 {
    if !enable {
        u
    } else if u32::from(u) + u32::from(n) > u32::from(max.wrapping_sub(1)) {
        0
    } else {
        u.wrapping_add(n)
    }
}

/// The low bits of a field, for masking.
pub(super) fn low_bits(bits: u32) -> u16 {
    ((1u32 << bits) - 1) as u16
}

/// `castDramOffset`: offsets are computed wide, then cut to 32 bits before the base is added.
pub(super) fn cast_dram_offset(offset: u64) -> u64 {
    offset & u64::from(u32::MAX)
}

/// `cast_to_sp_addr`: a row number as a scratchpad address. The fillers are cleared; bits of a sum that overflowed
/// into the garbage bit or the normalization command stay, as in the hardware.
pub(super) fn cast_to_sp_addr(layout: AddressLayout, row: u64) -> LocalAddr {
    const NORM_CMD: u32 = 7 << 26;
    let data_and_garbage = (2 << layout.max_addr_bits) - 1;
    LocalAddr(row as u32 & (NORM_CMD | data_and_garbage))
}

/// `cast_to_acc_addr`: the same for the accumulator.
pub(super) fn cast_to_acc_addr(layout: AddressLayout, row: u64, accumulate: bool, read_full: bool) -> LocalAddr {
    let row = cast_to_sp_addr(layout, row);
    let addr = LocalAddr(LocalAddr::accumulator(0).0 | row.0);
    let addr = if accumulate { addr.with_accumulate() } else { addr };
    if read_full { addr.with_full() } else { addr }
}

/// Position of a unit in a matrix of `rows` x `cols` blocks of DIM x DIM elements, and how it moves on.
#[derive(Clone, Debug)]
pub(super) struct BlockWalk {
    /// Blocks in the matrix.
    pub rows: u16,
    /// Blocks in a block row.
    pub cols: u16,
    /// Elements missing in the last block row (zero if the unit always moves whole rows).
    pub row_pad: u16,
    /// Elements missing in the last block of a block row.
    pub col_pad: u16,
    /// Blocks in one command, at most.
    pub max_blocks: u16,
    /// Whether the block row is the inner loop.
    pub row_fastest: bool,
    /// Current block row.
    pub row: u16,
    /// Current block column.
    pub col: u16,
    /// Local row of block (0, 0); blocks follow each other row-major.
    pub start: u64,
    /// Elements in a block's edge.
    pub dim: u16,
    /// DRAM address of block (0, 0).
    pub dram: u64,
    /// Elements between rows in DRAM.
    pub stride: u64,
    /// Bytes of an element in DRAM.
    pub bytes: u64,
}

impl BlockWalk {
    /// Blocks in the current command.
    pub fn blocks(&self) -> u16 {
        if self.col.wrapping_add(self.max_blocks) <= self.cols {
            self.max_blocks
        } else {
            self.cols.wrapping_sub(self.col)
        }
    }

    /// Elements in a row of the current command.
    pub fn command_cols(&self) -> u64 {
        let last = u32::from(self.col) + u32::from(self.blocks()) >= u32::from(self.cols);
        let cols = u64::from(self.blocks()) * u64::from(self.dim);
        if last { cols.wrapping_sub(self.col_pad.into()) } else { cols }
    }

    /// Rows of the current command.
    pub fn command_rows(&self) -> u64 {
        let last = self.row == self.rows.wrapping_sub(1);
        u64::from(if last { self.dim.wrapping_sub(self.row_pad) } else { self.dim })
    }

    /// Local row of the current block.
    pub fn local_row(&self) -> u64 {
        let block = u64::from(self.row) * u64::from(self.cols) + u64::from(self.col);
        self.start.wrapping_add(block * u64::from(self.dim))
    }

    /// DRAM address of row `row` of the current block.
    pub fn dram_row(&self, row: u16) -> u64 {
        let blocks = u64::from(self.row).wrapping_mul(self.stride).wrapping_add(self.col.into());
        let elements = blocks.wrapping_mul(self.dim.into()).wrapping_add(self.stride.wrapping_mul(row.into()));
        self.dram.wrapping_add(cast_dram_offset(elements.wrapping_mul(self.bytes)))
    }

    /// Moves to the next command; false after the last one.
    pub fn advance(&mut self) -> bool {
        let (row, col) = if self.row_fastest {
            let row = floor_add(self.row, 1, self.rows, true);
            (row, floor_add(self.col, self.max_blocks, self.cols, row == 0))
        } else {
            let col = floor_add(self.col, self.max_blocks, self.cols, true);
            (floor_add(self.row, 1, self.rows, col == 0), col)
        };
        (self.row, self.col) = (row, col);
        (row, col) != (0, 0)
    }
}
