//! The passes that normalize accumulator rows on their way to memory (LayerNorm and softmax).
//!
//! A row is sent through the normalizer three times. The first two passes only collect statistics (`NormCmd`), the third
//! stores. Two rows go in turn, each with its own statistics register, so that one row's reduction hides the other's.

use std::ops::Range;

use pollux_isa::LocalAddr;
use pollux_isa::config::NORM_STAT_IDS;
use pollux_isa::values::NormCmd;

use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::view::View;

/// Rows of one block row in the accumulator: the row's block j lies `pitch` rows behind its block j-1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormalizedRows {
    /// LayerNorm or softmax.
    pub activation: Activation,
    /// Result; its columns are the whole row.
    pub out: View,
    /// First row of the result.
    pub first_row: usize,
    /// Rows, at most `pitch`.
    pub rows: usize,
    /// Accumulator rows from one block to the next; only if it is DIM can a store move several blocks.
    pub pitch: usize,
    /// First row of block 0.
    pub local: LocalAddr,
}

/// A piece of a row that one store can move: consecutive blocks, all but the last DIM wide.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Columns.
    pub columns: Range<usize>,
    /// First block in the accumulator.
    pub block: usize,
}

/// Pieces of a row of `columns`.
pub(crate) fn pieces(columns: usize, dim: usize, max_blocks: usize) -> Vec<Piece> {
    let width = dim * max_blocks;
    let piece = |start| Piece { columns: start..(start + width).min(columns), block: start / dim };
    (0..columns).step_by(width).map(piece).collect()
}

/// Blocks that one store can move when they lie `pitch` rows apart.
pub(crate) fn blocks_per_store(builder: &ProgramBuilder, pitch: usize) -> usize {
    if pitch == builder.dim() { builder.config().max_block_len() as usize } else { 1 }
}

/// The command on the blocks of a pass that are not the row's last, and on those that are.
pub(crate) fn passes(activation: &Activation) -> [(NormCmd, NormCmd); 3] {
    match activation {
        Activation::Softmax(_) => {
            [(NormCmd::Max, NormCmd::Max), (NormCmd::SumExp, NormCmd::InvSumExp), (NormCmd::Reset, NormCmd::Reset)]
        }
        _ => [(NormCmd::Sum, NormCmd::Mean), (NormCmd::Variance, NormCmd::InvStddev), (NormCmd::Reset, NormCmd::Reset)],
    }
}

/// Emits the passes over the rows; everything is stored.
pub(crate) fn store_normalized(builder: &mut ProgramBuilder, rows: &NormalizedRows) -> Result<(), KernelError> {
    let pieces = pieces(rows.out.cols, builder.dim(), blocks_per_store(builder, rows.pitch));
    store_pieces(builder, rows, &pieces, &pieces)
}

/// Emits the passes over rows made of these pieces; the last pass only stores the pieces `stored`.
pub(crate) fn store_pieces(
    builder: &mut ProgramBuilder,
    rows: &NormalizedRows,
    pieces: &[Piece],
    stored: &[Piece],
) -> Result<(), KernelError> {
    let layout = builder.config().layout();
    let stat_ids = NORM_STAT_IDS as usize;
    for first in (0..rows.rows).step_by(stat_ids) {
        for (mid, last) in passes(&rows.activation) {
            let pieces = if last == NormCmd::Reset { stored } else { pieces };
            for id in 0..stat_ids.min(rows.rows - first) {
                builder.select_statistics(id as u8)?;
                let row = first + id;
                for (index, piece) in pieces.iter().enumerate() {
                    let command = if index + 1 == pieces.len() { last } else { mid };
                    let local = rows.local.add(layout, (piece.block * rows.pitch + row) as u32).with_norm_cmd(command);
                    let at = [rows.first_row + row, piece.columns.start];
                    builder.mvout(&rows.out, at, [1, piece.columns.len()], local)?;
                }
            }
        }
    }
    Ok(())
}
