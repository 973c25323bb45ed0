//! Average pooling over accumulating loads: the pixels of a window are added in the accumulator as they are loaded.

use std::ops::Range;

use pollux_asm::program::ElementType;
use pollux_isa::fields::ConfigLd;
use pollux_isa::values::DataflowMode;
use pollux_isa::{Command, LocalAddr};
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::allocator::LocalAllocator;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::view::View;

const CHANNEL: u8 = 0;

/// Scratchpad rows of the zeros that sums begin with.
const ZEROS: LocalAddr = LocalAddr::scratchpad(0);

/// The mean over each image: `out[b, c] = sat8(round(sum over pixels * 1/pixels))` (`tiled_global_average_auto`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalAverage {
    /// Images.
    pub batch: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// int8, (batch * pixels) x channels.
    pub input: View,
    /// int8, batch x channels.
    pub out: View,
}

impl GlobalAverage {
    /// Emits the operation. There is no fence.
    ///
    /// # Errors
    /// Views of the wrong shape or type.
    pub fn lower(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        self.lower_with(builder, 1.0 / self.pixels as f32, true)
    }

    /// The same with another factor of the sums than 1/pixels, for a result in other units than the input.
    ///
    /// # Errors
    /// Views of the wrong shape or type.
    pub fn lower_scaled(&self, builder: &mut ProgramBuilder, scale: f32) -> Result<(), KernelError> {
        self.lower_with(builder, scale, true)
    }

    /// Emits exactly what Gemmini's software does: the first pixel overwrites, the others accumulate. That is only right
    /// while the loads stay in order, which the hardware does not promise: see [`ProgramBuilder::clear`].
    ///
    /// # Errors
    /// Views of the wrong shape or type.
    pub fn lower_like_gemmini(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        self.lower_with(builder, 1.0 / self.pixels as f32, false)
    }

    fn lower_with(&self, builder: &mut ProgramBuilder, scale: f32, clear: bool) -> Result<(), KernelError> {
        let (dim, channels) = (builder.dim(), self.input.cols);
        expect_i8(builder, "the int8 input", &self.input, (self.batch * self.pixels, channels))?;
        expect_i8(builder, "the int8 result", &self.out, (self.batch, channels))?;
        // One row is loaded at a time, so the stride means nothing; neighbouring blocks go to neighbouring rows.
        builder.emit(accumulating_load(dim as u64, 1))?;
        // The software chooses OS, which means nothing to it, as it multiplies nothing.
        let dataflow = if clear { DataflowMode::Ws } else { DataflowMode::Os };
        builder.config_ex(dataflow, &Activation::None, false, false)?;
        builder.config_st_only(0, scale, &Activation::None)?;
        if clear {
            builder.load_zeros(ZEROS)?;
        }
        let tile = channels.min(builder.config().acc_rows() as usize * dim);
        for image in 0..self.batch {
            for first in (0..channels).step_by(tile.max(1)) {
                self.lower_channels(builder, image, first..(first + tile).min(channels), clear)?;
            }
        }
        Ok(())
    }

    fn lower_channels(
        &self,
        builder: &mut ProgramBuilder,
        image: usize,
        channels: Range<usize>,
        clear: bool,
    ) -> Result<(), KernelError> {
        let (dim, layout) = (builder.dim(), builder.config().layout());
        let mut accumulator = LocalAllocator::accumulator(builder.config(), builder.operation());
        let base = accumulator.allocate("sums", channels.len().div_ceil(dim))?;
        let group = dim * builder.config().max_block_len() as usize;
        let place = |channel: usize| base.add(layout, ((channel - channels.start) / dim) as u32);
        if clear {
            for row in (0..channels.len().div_ceil(dim)).step_by(dim) {
                let rows = dim.min(channels.len().div_ceil(dim) - row);
                builder.clear(ZEROS, base.add(layout, row as u32), rows)?;
            }
        }
        for channel in channels.clone().step_by(group) {
            let cols = group.min(channels.end - channel);
            for pixel in 0..self.pixels {
                let local = if pixel == 0 && !clear { place(channel) } else { place(channel).with_accumulate() };
                builder.mvin(CHANNEL, &self.input, [image * self.pixels + pixel, channel], [1, cols], local)?;
            }
        }
        for channel in channels.clone().step_by(dim) {
            let cols = dim.min(channels.end - channel);
            builder.mvout(&self.out, [image, channel], [1, cols], place(channel))?;
        }
        Ok(())
    }
}

/// Average pooling by windows without padding: `out = sat8(round(sum over the window * scale))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AveragePoolShape {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub in_rows: usize,
    /// Columns of an input image.
    pub in_cols: usize,
    /// Channels.
    pub channels: usize,
    /// Edge of the window.
    pub size: usize,
    /// Steps of the window.
    pub stride: usize,
}

impl AveragePoolShape {
    /// Rows and columns of the output.
    pub fn out_pixels(&self) -> [usize; 2] {
        [self.in_rows, self.in_cols]
            .map(|extent| extent.checked_sub(self.size).map_or(0, |room| room / self.stride + 1))
    }

    /// Emits the pooling of `input` ((batch * rows * cols) x channels, int8) to `out`. There is no fence.
    ///
    /// # Errors
    /// Views of the wrong shape or type, or a window of no pixels.
    pub fn lower(&self, builder: &mut ProgramBuilder, input: &View, out: &View) -> Result<(), KernelError> {
        if self.size == 0 || self.stride == 0 {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: "the window and its stride must be at least 1".to_owned(),
            });
        }
        let [rows, cols] = self.out_pixels();
        expect_i8(builder, "the int8 input", input, (self.batch * self.in_rows * self.in_cols, self.channels))?;
        expect_i8(builder, "the int8 result", out, (self.batch * rows * cols, self.channels))?;
        let (dim, layout) = (builder.dim(), builder.config().layout());
        let scale = 1.0 / (self.size * self.size) as f32;
        builder.config_ex(DataflowMode::Ws, &Activation::None, false, false)?;
        builder.config_st_only(out.stride_bytes(), scale, &Activation::None)?;
        builder.emit(accumulating_load(input.stride_bytes() * self.stride as u64, dim as u16))?;
        builder.load_zeros(ZEROS)?;
        let group = dim * builder.config().max_block_len() as usize;
        let mut accumulator = LocalAllocator::accumulator(builder.config(), builder.operation());
        let places = [accumulator.allocate("sums", group)?, accumulator.allocate("sums", group)?];
        let mut tiles = 0;
        for out_row in 0..self.batch * rows {
            for col in (0..cols).step_by(dim) {
                for channel in (0..self.channels).step_by(group) {
                    let extent = [dim.min(cols - col), group.min(self.channels - channel)];
                    let image = out_row / rows.max(1) * self.in_rows;
                    let first = (image + out_row % rows.max(1) * self.stride) * self.in_cols + col * self.stride;
                    let place = places[tiles % 2];
                    for block in 0..extent[1].div_ceil(dim) {
                        builder.clear(ZEROS, place.add(layout, (block * dim) as u32), extent[0])?;
                    }
                    for window in 0..self.size * self.size {
                        let pixel = first + window / self.size * self.in_cols + window % self.size;
                        builder.mvin(CHANNEL, input, [pixel, channel], extent, place.with_accumulate())?;
                    }
                    builder.mvout(out, [out_row * cols + col, channel], extent, place)?;
                    tiles += 1;
                }
            }
        }
        Ok(())
    }
}

/// CONFIG_LD for int8 into the accumulator.
fn accumulating_load(stride: u64, block_stride: u16) -> Command {
    let scale = 1.0.into();
    Command::ConfigLd(ConfigLd { shrink: true, state_id: CHANNEL, pixel_repeats: 1, block_stride, scale, stride })
}

fn expect_i8(
    builder: &ProgramBuilder,
    operand: &'static str,
    view: &View,
    expected: (usize, usize),
) -> Result<(), KernelError> {
    let found = (view.rows, view.cols);
    if found == expected && view.element == ElementType::I8 {
        return Ok(());
    }
    Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected })
}
