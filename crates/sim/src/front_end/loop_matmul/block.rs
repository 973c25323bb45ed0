//! Blocks of DIM x DIM elements: where they lie in the local memories and in main memory.

use crate::front_end::geometry::Geometry;

/// Blocks of a matrix that one command moves: `blocks()` of them side by side, from block (row, col) on.
pub(super) struct Block {
    pub row: u16,
    pub col: u16,
    pub max_row: u16,
    pub max_col: u16,
    pub max_blocks: u16,
}

impl Block {
    pub(super) fn blocks(&self) -> u16 {
        if self.col.wrapping_add(self.max_blocks) <= self.max_col {
            self.max_blocks
        } else {
            self.max_col.wrapping_sub(self.col)
        }
    }

    pub(super) fn rows(&self, geometry: &Geometry, pad: u16) -> u32 {
        last_block(geometry, self.row, self.max_row, pad)
    }

    pub(super) fn cols(&self, geometry: &Geometry, pad: u16) -> u32 {
        let is_last = self.col.wrapping_add(self.blocks()) >= self.max_col;
        let pad = if is_last { u32::from(pad) } else { 0 };
        // A matrix without columns makes this negative; the operand word keeps the low bits.
        (u32::from(self.blocks()) * geometry.dim).wrapping_sub(pad)
    }

    /// Local rows before the block; the matrix is stored block by block, row-major.
    pub(super) fn local_offset(&self, geometry: &Geometry) -> u32 {
        block_rows(geometry, self.row, self.max_col, self.col)
    }

    /// Bytes before the block, modulo 2^32.
    pub(super) fn dram_offset(&self, geometry: &Geometry, stride: u64, element_bytes: u32) -> u32 {
        u32::from(self.row)
            .wrapping_mul(stride as u32)
            .wrapping_add(self.col.into())
            .wrapping_mul(geometry.dim)
            .wrapping_mul(element_bytes)
    }
}

/// Local rows before block (row, col) of a matrix with `max_col` block columns.
pub(super) fn block_rows(geometry: &Geometry, row: u16, max_col: u16, col: u16) -> u32 {
    (u32::from(row) * u32::from(max_col)).wrapping_add(col.into()).wrapping_mul(geometry.dim)
}

/// Rows (or columns) of block `index`: the last one of a matrix lacks the padding.
pub(super) fn last_block(geometry: &Geometry, index: u16, max: u16, pad: u16) -> u32 {
    geometry.dim - if index == max.wrapping_sub(1) { u32::from(pad) } else { 0 }
}

/// B's first scratchpad row, from the row after its last.
pub(super) fn b_start(geometry: &Geometry, end: u32, max_k: u16, max_j: u16) -> u32 {
    end.wrapping_sub((u32::from(max_k) * u32::from(max_j)).wrapping_mul(geometry.dim))
}
