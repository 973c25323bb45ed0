//! Activations of a matrix in main memory as an operation of its own: it is loaded into the accumulator and read out
//! (`tiled_norm_auto` of Gemmini's software; there for LayerNorm and softmax only).

use pollux_asm::program::ElementType;
use pollux_isa::values::DataflowMode;

use crate::activation::Activation;
use crate::allocator::LocalAllocator;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::normalize::{NormalizedRows, blocks_per_store, pieces, store_pieces};
use crate::view::View;

/// Load channel of the input.
const CHANNEL: u8 = 0;

/// `out = sat8(round(activation(input) * scale))`, row by row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// int32, or int8 that is widened.
    pub input: View,
    /// int8.
    pub out: View,
    /// Factor of the read-out.
    pub scale: f32,
    /// Activation.
    pub activation: Activation,
}

/// Where the parts of a row tile lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Columns loaded at a time; all of them if the activation needs whole rows.
    columns: usize,
    /// Rows of a block: DIM, or fewer if the accumulator cannot hold DIM whole rows.
    pitch: usize,
    /// Block rows in a tile.
    tile: usize,
}

impl Norm {
    /// Emits the operation.
    ///
    /// # Errors
    /// Views of different shapes or wrong types, or rows of more blocks than the accumulator has rows.
    pub fn lower(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let (found, expected) = ((self.out.rows, self.out.cols), (self.input.rows, self.input.cols));
        if found != expected || self.out.element != ElementType::I8 {
            let operation = builder.operation().to_owned();
            return Err(KernelError::Shape { operation, operand: "the int8 result", found, expected });
        }
        let layout = self.layout(builder)?;
        builder.config_st(self.out.stride_bytes(), self.scale, &self.activation)?;
        builder.config_ex(DataflowMode::Ws, &Activation::None, false, false)?;
        builder.config_ld(CHANNEL, self.input.stride_bytes(), 1.0, self.input.element == ElementType::I8)?;
        for first in (0..self.input.cols).step_by(layout.columns.max(1)) {
            let columns = first..(first + layout.columns).min(self.input.cols);
            let part = Self { input: self.input.columns(columns.clone())?, out: self.out.columns(columns)?, ..*self };
            part.lower_columns(builder, &layout)?;
        }
        Ok(())
    }

    fn layout(&self, builder: &ProgramBuilder) -> Result<Layout, KernelError> {
        let (dim, acc_rows) = (builder.dim(), builder.config().acc_rows() as usize);
        let mut columns = self.input.cols;
        if !self.activation.normalizes() {
            columns = columns.min((acc_rows / 2 / dim).max(1) * dim);
        }
        let blocks = columns.div_ceil(dim).max(1);
        let pitch = dim.min(acc_rows / blocks);
        if pitch == 0 {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: format!(
                    "{} needs whole rows in the accumulator, but {columns} columns take {blocks} of its rows and it \
                     has {acc_rows}: use a configuration with a larger accumulator",
                    self.activation.name()
                ),
            });
        }
        Ok(Layout { columns, pitch, tile: (acc_rows / (blocks * pitch)).min(self.input.rows.div_ceil(pitch).max(1)) })
    }

    fn lower_columns(&self, builder: &mut ProgramBuilder, layout: &Layout) -> Result<(), KernelError> {
        let Layout { pitch, tile, .. } = *layout;
        let (dim, rows) = (builder.dim(), self.input.rows);
        let blocks = self.input.cols.div_ceil(dim);
        let mut accumulator = LocalAllocator::accumulator(builder.config(), builder.operation());
        let base = accumulator.allocate("rows", tile * blocks * pitch)?;
        for (block_row, first_row) in (0..rows).step_by(pitch).enumerate() {
            let at = block_row % tile * blocks * pitch;
            let normalized = NormalizedRows {
                activation: self.activation,
                out: self.out,
                first_row,
                rows: pitch.min(rows - first_row),
                pitch,
                local: base.add(builder.config().layout(), at as u32),
            };
            self.load(builder, &normalized)?;
            self.store(builder, &normalized)?;
        }
        Ok(())
    }

    fn load(&self, builder: &mut ProgramBuilder, rows: &NormalizedRows) -> Result<(), KernelError> {
        let (dim, layout) = (builder.dim(), builder.config().layout());
        let group = match self.input.element {
            ElementType::I8 => builder.config().max_block_len(),
            ElementType::I32 => builder.config().max_block_len_acc(),
        };
        let group = if rows.pitch == dim { group as usize } else { 1 };
        for piece in pieces(self.input.cols, dim, group) {
            let local = rows.local.add(layout, (piece.block * rows.pitch) as u32);
            let extent = [rows.rows, piece.columns.len()];
            builder.mvin(CHANNEL, &self.input, [rows.first_row, piece.columns.start], extent, local)?;
        }
        Ok(())
    }

    fn store(&self, builder: &mut ProgramBuilder, rows: &NormalizedRows) -> Result<(), KernelError> {
        let pieces = pieces(self.out.cols, builder.dim(), blocks_per_store(builder, rows.pitch));
        if self.activation.normalizes() {
            return store_pieces(builder, rows, &pieces, &pieces);
        }
        let layout = builder.config().layout();
        for piece in pieces {
            let local = rows.local.add(layout, (piece.block * rows.pitch) as u32);
            let extent = [rows.rows, piece.columns.len()];
            builder.mvout(&self.out, [rows.first_row, piece.columns.start], extent, local)?;
        }
        Ok(())
    }
}
