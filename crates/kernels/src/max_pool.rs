//! Max pooling of an int8 map in main memory. Gemmini compares pixels only in the pooled store (`pooling`,
//! `StoreController.scala`), so the map passes through the accumulator unchanged.
//!
//! The hardware counts pixels outside its image as 0, which would win over negative ones. Here the image that it sees has
//! no outside: the nearest pixel is loaded again in place of each one in the padding. It lies in the same window, so the
//! largest element stays the same.

use std::ops::Range;

use pollux_asm::program::ElementType;
use pollux_isa::fields::{ConfigLd, ConfigSt};
use pollux_isa::values::{self, DataflowMode};
use pollux_isa::{Command, GemminiConfig, LocalAddr};
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::view::View;

/// Load channel of runs of pixels, and of a pixel that is repeated.
const CHANNEL: u8 = 0;
const CHANNEL_REPEAT: u8 = 1;

/// Largest value of CONFIG_ST's fields for window and stride (2 bits) and for rows and columns (8 bits).
const MAX_WINDOW: usize = 3;
const MAX_EXTENT: usize = 255;

/// Max pooling: `out = largest element of each window`; pixels outside the image never win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MaxPoolShape {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub in_rows: usize,
    /// Columns of an input image.
    pub in_cols: usize,
    /// Channels.
    pub channels: usize,
    /// Edge of the window, at most 3.
    pub size: usize,
    /// Steps of the window, at most 3.
    pub stride: usize,
    /// Rows above, columns left, rows below, columns right; each less than the window.
    pub padding: [usize; 4],
}

/// Output pixels and channels that pass through the accumulator together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    rows: usize,
    cols: usize,
    /// Blocks of DIM channels.
    blocks: usize,
}

impl MaxPoolShape {
    /// Rows and columns of the output; 0 if the window does not fit.
    pub fn out_pixels(&self) -> [usize; 2] {
        let [above, left, below, right] = self.padding;
        [self.in_rows + above + below, self.in_cols + left + right]
            .map(|extent| extent.checked_sub(self.size).map_or(0, |room| room / self.stride.max(1) + 1))
    }

    /// Emits the pooling of `input` ((batch * rows * cols) x channels, int8) to `out`. There is no fence.
    ///
    /// # Errors
    /// Views of the wrong shape or type, a window that the hardware does not have, or a build without pooling.
    pub fn lower(&self, builder: &mut ProgramBuilder, input: &View, out: &View) -> Result<(), KernelError> {
        let [rows, cols] = self.out_pixels();
        self.check(builder)?;
        for (operand, view, pixels) in [
            ("the int8 input", input, self.batch * self.in_rows * self.in_cols),
            ("the int8 result", out, self.batch * rows * cols),
        ] {
            let (found, expected) = ((view.rows, view.cols), (pixels, self.channels));
            if found != expected || view.element != ElementType::I8 {
                return Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected });
            }
        }
        builder.config_ex(DataflowMode::Ws, &Activation::None, false, false)?;
        let mut kernel = Kernel { shape: self, input, out, out_cols: cols, configured: None };
        let (tile, dim) = (self.tile(builder), builder.dim());
        let places = [0, Self::bank_rows(builder.config()) as u32].map(LocalAddr::accumulator);
        let mut tiles = 0;
        for image in 0..self.batch {
            for rows in parts(rows, tile.rows) {
                for cols in parts(cols, tile.cols) {
                    for channels in parts(self.channels, tile.blocks * dim) {
                        kernel.tile(builder, image, [rows.clone(), cols.clone(), channels], places[tiles % 2])?;
                        tiles += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self, builder: &ProgramBuilder) -> Result<(), KernelError> {
        let Self { size, stride, padding, .. } = *self;
        let what = if !builder.config().has_max_pool {
            "this build has no pooling: it needs has_max_pool".to_owned()
        } else if ![size, stride].iter().all(|value| (1..=MAX_WINDOW).contains(value)) {
            format!("a window of {size} and a stride of {stride}: config_st's 2 bits hold 1 to {MAX_WINDOW}")
        } else if let Some(padding) = padding.iter().find(|padding| **padding >= size) {
            format!("a padding of {padding} needs a larger window than {size}")
        } else {
            return Ok(());
        };
        Err(KernelError::Parameter { operation: builder.operation().to_owned(), what })
    }

    /// Accumulator rows of a tile. The reservation station takes a pooled store to read up to the end of the bank it begins
    /// in, so a tile stays inside one; two banks (or the halves of the only one) are used in turn.
    fn bank_rows(config: &GemminiConfig) -> usize {
        config.acc_rows() as usize / (config.acc_banks as usize).max(2)
    }

    /// Input pixels along one axis that `outputs` need.
    fn inputs(&self, outputs: usize) -> usize {
        (outputs - 1) * self.stride + self.size
    }

    /// As many channel blocks as a load moves, then as many columns, then as many rows as fit.
    fn tile(&self, builder: &ProgramBuilder) -> Tile {
        let config = builder.config();
        let available = Self::bank_rows(config);
        let most = |limit: usize, fits: &dyn Fn(usize) -> bool| (1..=limit).rev().find(|&n| fits(n)).unwrap_or(1);
        let [rows, cols] = self.out_pixels();
        let blocks = self.channels.div_ceil(builder.dim()).min(config.max_block_len() as usize);
        let blocks = most(blocks, &|blocks| blocks * self.size * self.size <= available);
        let extents = |rows: usize, cols: usize| [self.inputs(rows), self.inputs(cols)];
        let fits = |rows: usize, cols: usize| {
            let [inputs, columns] = extents(rows, cols);
            blocks * inputs * columns <= available && inputs <= MAX_EXTENT && columns <= MAX_EXTENT
        };
        let columns = most(cols, &|n| fits(1, n));
        // The distance of the output's rows has 8 bits too; a single row does not need it.
        let limit = if cols > MAX_EXTENT { 1 } else { rows };
        Tile { rows: most(limit, &|n| fits(n, columns)), cols: columns, blocks }
    }
}

struct Kernel<'a> {
    shape: &'a MaxPoolShape,
    input: &'a View,
    out: &'a View,
    out_cols: usize,
    /// Extents of the tile that the controllers are configured for.
    configured: Option<[usize; 2]>,
}

impl Kernel<'_> {
    fn tile(
        &mut self,
        builder: &mut ProgramBuilder,
        image: usize,
        [rows, cols, channels]: [Range<usize>; 3],
        place: LocalAddr,
    ) -> Result<(), KernelError> {
        let (dim, layout) = (builder.dim(), builder.config().layout());
        let extents = [rows.len(), cols.len()];
        if self.configured != Some(extents) {
            self.configure(builder, extents)?;
            self.configured = Some(extents);
        }
        let inputs = extents.map(|outputs| self.shape.inputs(outputs));
        for row in 0..inputs[0] {
            let local = place.add(layout, (row * inputs[1]) as u32);
            // Rows in the padding are the nearest row of the image again.
            let row = nearest(rows.start * self.shape.stride + row, self.shape.padding[0], self.shape.in_rows);
            self.load_row(builder, image * self.shape.in_rows + row, &cols, &channels, local)?;
        }
        let pixel = (image * self.shape.out_pixels()[0] + rows.start) * self.out_cols + cols.start;
        for (block, part) in parts(channels.len(), dim).enumerate() {
            let local = place.add(layout, (block * inputs[0] * inputs[1]) as u32);
            let bytes = (extents[0] * extents[1] * part.len()) as u64;
            builder.mvout(self.out, [pixel, channels.start + part.start], [0, part.len()], local)?;
            builder.count(|s| s.bytes_out += bytes);
        }
        Ok(())
    }

    fn configure(&self, builder: &mut ProgramBuilder, outputs: [usize; 2]) -> Result<(), KernelError> {
        let shape = self.shape;
        let [orows, ocols] = outputs.map(|outputs| shape.inputs(outputs));
        let block_stride = u16::try_from(orows * ocols).map_err(|_| KernelError::Parameter {
            operation: builder.operation().to_owned(),
            what: format!("{} rows between blocks do not fit config_ld's 16 bits", orows * ocols),
        })?;
        for (state_id, stride) in [(CHANNEL, self.input.stride_bytes()), (CHANNEL_REPEAT, 0)] {
            let scale = 1.0.into();
            let load = ConfigLd { shrink: true, state_id, pixel_repeats: 1, block_stride, scale, stride };
            builder.emit(Command::ConfigLd(load))?;
        }
        let stride = u32::try_from(self.out.stride_bytes()).map_err(|_| KernelError::Parameter {
            operation: builder.operation().to_owned(),
            what: format!("{} bytes from one pixel to the next do not fit config_st's 32 bits", self.out.stride),
        })?;
        builder.emit(Command::ConfigSt(ConfigSt {
            activation: values::Activation::None,
            pool_stride: shape.stride as u8,
            pool_size: shape.size as u8,
            upad: 0,
            lpad: 0,
            pool_out_dim: if outputs[0] == 1 { 0 } else { self.out_cols as u8 },
            porows: outputs[0] as u8,
            pocols: outputs[1] as u8,
            orows: orows as u8,
            ocols: ocols as u8,
            stride,
            acc_scale: 1.0.into(),
        }))
    }

    /// The pixels of one image row that the output columns need: those before the image, inside, and behind it.
    fn load_row(
        &self,
        builder: &mut ProgramBuilder,
        row: usize,
        cols: &Range<usize>,
        channels: &Range<usize>,
        local: LocalAddr,
    ) -> Result<(), KernelError> {
        let (shape, layout, dim) = (self.shape, builder.config().layout(), builder.dim());
        let (left, first) = (shape.padding[1], cols.start * shape.stride);
        let end = first + shape.inputs(cols.len());
        let inside = first.max(left)..end.min(left + shape.in_cols);
        for columns in parts(inside.len(), dim) {
            let column = inside.start + columns.start;
            let local = local.add(layout, (column - first) as u32);
            let pixel = row * shape.in_cols + column - left;
            let extent = [columns.len(), channels.len()];
            builder.mvin(CHANNEL, self.input, [pixel, channels.start], extent, local)?;
        }
        for outside in [first..inside.start, inside.end..end] {
            for columns in parts(outside.len(), dim) {
                let column = outside.start + columns.start;
                let pixel = row * shape.in_cols + nearest(column, left, shape.in_cols);
                let view = View { stride: 0, ..self.input.rows(pixel..pixel + 1)? };
                let local = local.add(layout, (column - first) as u32);
                let extent = [columns.len(), channels.len()];
                builder.mvin(CHANNEL_REPEAT, &view, [0, channels.start], extent, local)?;
            }
        }
        Ok(())
    }
}

/// The index in `0..extent` nearest to a position that counts `padding` positions before it.
fn nearest(position: usize, padding: usize, extent: usize) -> usize {
    position.saturating_sub(padding).min(extent - 1)
}

/// `0..extent` in parts of `size`.
fn parts(extent: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..extent).step_by(size).map(move |start| start..(start + size).min(extent))
}
