//! Plain convolutions as single commands, weight-stationary. The places in the local memories are those of the unroller:
//! input by channel block, image, row and column; weights by output block, kernel row and column and input channel; output
//! by channel block, image, row and column. Each operand of a tile has two places that are used in turn, so that a tile is
//! loaded while the one before it is computed.

use pollux_isa::fields::{ConfigEx, ConfigLd, MoveOperands};
use pollux_isa::values::{self, DataflowMode, Scale};
use pollux_isa::{AddressLayout, Command, LocalAddr};

use super::geometry::{Tile, Window, downsample, parts, tiles};
use super::schedule::ConvSchedule;
use super::shape::{Conv, ConvShape};
use crate::activation::Activation;
use crate::allocator::LocalAllocator;
use crate::builder::{Operand, ProgramBuilder};
use crate::error::KernelError;
use crate::schedule::Keep;
use crate::tiling::Places;
use crate::view::View;

const CHANNEL_INPUT: u8 = 0;
const CHANNEL_WEIGHTS: u8 = 1;
const CHANNEL_BIAS: u8 = 2;

pub(super) fn lower(conv: &Conv, builder: &mut ProgramBuilder, schedule: &ConvSchedule) -> Result<(), KernelError> {
    let shape = &conv.shape;
    let activation = if conv.relu { Activation::Relu } else { Activation::None };
    builder.config_st_only(conv.output.stride_bytes(), conv.scale, &activation)?;
    let step = if downsample(shape) { 2 } else { 1 };
    builder.emit(Command::ConfigEx(ConfigEx {
        dataflow: DataflowMode::Ws,
        activation: values::Activation::None,
        set_only_strides: false,
        a_transpose: false,
        b_transpose: false,
        a_stride: (shape.stride / step) as u16,
        acc_scale: Scale::IDENTITY,
        in_shift: 0,
        relu6_shift: 0,
        c_stride: 1,
    }))?;
    builder.config_ld(CHANNEL_BIAS, 0, 1.0, false)?;
    let mut kernel = Kernel::new(conv, builder, schedule, step)?;
    tiles(shape, schedule).iter().try_for_each(|tile| kernel.tile(builder, tile))
}

struct Kernel<'a> {
    conv: &'a Conv,
    shape: &'a ConvShape,
    layout: AddressLayout,
    dim: usize,
    /// Distance of the input pixels that are loaded.
    step: usize,
    /// Blocks of channels that one load moves.
    group: usize,
    input: Places<[usize; 6], LocalAddr>,
    weights: Places<[usize; 4], LocalAddr>,
    output: Places<[usize; 4], LocalAddr>,
}

/// A tile with its places; addresses are relative to the operand's first row.
struct Placed<'a> {
    tile: &'a Tile,
    rows: Window,
    cols: Window,
    /// Input rows and columns in the scratchpad.
    inputs: [usize; 2],
    input: LocalAddr,
    weights: LocalAddr,
    output: LocalAddr,
}

impl Placed<'_> {
    fn input_row(&self, block: usize, image: usize, row: usize, col: usize) -> usize {
        ((block * self.tile.b.len + image) * self.inputs[0] + row) * self.inputs[1] + col
    }

    fn weight_row(&self, block: usize, krow: usize, kcol: usize, channel: usize) -> usize {
        let Tile { krow: krows, kcol: kcols, ich, .. } = self.tile;
        ((block * krows.len + krow) * kcols.len + kcol) * ich.len + channel
    }

    fn output_row(&self, block: usize, image: usize, row: usize, col: usize) -> usize {
        ((block * self.tile.b.len + image) * self.rows.outputs + row) * self.cols.outputs + col
    }
}

impl<'a> Kernel<'a> {
    fn new(
        conv: &'a Conv,
        builder: &ProgramBuilder,
        schedule: &ConvSchedule,
        step: usize,
    ) -> Result<Self, KernelError> {
        let config = builder.config();
        let rows = schedule.rows_needed(config, &conv.shape);
        let copies = if schedule.double_buffer { 2 } else { 1 };
        let places = |memory: &mut LocalAllocator, name: &str, rows: usize| {
            (0..copies).map(|_| memory.allocate(name, rows)).collect::<Result<Vec<_>, KernelError>>()
        };
        let mut scratchpad = LocalAllocator::scratchpad(config, builder.operation());
        let mut accumulator = LocalAllocator::accumulator(config, builder.operation());
        Ok(Self {
            conv,
            shape: &conv.shape,
            layout: config.layout(),
            dim: builder.dim(),
            step,
            group: config.max_block_len() as usize,
            input: Places::new(places(&mut scratchpad, "input", rows.input)?, schedule.keep),
            weights: Places::new(places(&mut scratchpad, "weights", rows.weights)?, schedule.keep),
            // The sums of a tile go on in the place in which they began.
            output: Places::new(places(&mut accumulator, "output", rows.accumulator)?, Keep::Gemmini),
        })
    }

    fn tile(&mut self, builder: &mut ProgramBuilder, tile: &Tile) -> Result<(), KernelError> {
        let [rows, cols] = Window::of(self.shape, tile);
        let Tile { b, row, col, och, krow, kcol, ich } = tile;
        let (input, load_input) = self.input.of([b.start, row.start, col.start, krow.start, kcol.start, ich.start]);
        let (weights, load_weights) = self.weights.of([och.start, krow.start, kcol.start, ich.start]);
        let (output, _) = self.output.of([b.start, row.start, col.start, och.start]);
        let inputs = [rows.inputs / self.step, cols.inputs / self.step];
        let placed = Placed { tile, rows, cols, inputs, input, weights, output };
        if tile.is_first() {
            self.load_bias(builder, &placed)?;
        }
        if load_input {
            self.load_input(builder, &placed)?;
        }
        if load_weights {
            self.load_weights(builder, &placed)?;
        }
        self.compute(builder, &placed)?;
        if tile.is_last() { self.store(builder, &placed) } else { Ok(()) }
    }

    fn at(&self, base: LocalAddr, row: usize) -> LocalAddr {
        base.add(self.layout, row as u32)
    }

    /// CONFIG_LD of an operand whose channel blocks are `block_stride` local rows apart.
    fn config_ld(
        &self,
        builder: &mut ProgramBuilder,
        channel: u8,
        stride: u64,
        block_stride: usize,
    ) -> Result<(), KernelError> {
        let block_stride = u16::try_from(block_stride).map_err(|_| KernelError::Parameter {
            operation: builder.operation().to_owned(),
            what: format!("{block_stride} rows between blocks do not fit config_ld's 16 bits: choose smaller tiles"),
        })?;
        let scale = 1.0.into();
        builder.emit(Command::ConfigLd(ConfigLd {
            shrink: false,
            state_id: channel,
            pixel_repeats: 1,
            block_stride,
            scale,
            stride,
        }))
    }

    /// The bias to every pixel of the output.
    fn load_bias(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let Some(bias) = self.conv.bias else { return Ok(()) };
        let row = View { stride: 0, ..bias };
        self.for_outputs(placed, |local, _, och, extent| {
            builder.mvin(CHANNEL_BIAS, &row, [0, och], extent, self.at(placed.output, local))
        })
    }

    fn store(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        self.for_outputs(placed, |local, pixel, och, extent| {
            builder.mvout(&self.conv.output, [pixel, och], extent, self.at(placed.output, local))
        })
    }

    /// Applies something to each part of the output that one command can move: local row, pixel, channel and extent.
    fn for_outputs(
        &self,
        placed: &Placed<'_>,
        mut apply: impl FnMut(usize, usize, usize, [usize; 2]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let Tile { b, row, col, och, .. } = placed.tile;
        let [out_rows, out_cols] = self.shape.out_pixels();
        for (block, channels) in parts(och.len, self.dim).enumerate() {
            for image in 0..b.len {
                for r in 0..row.len {
                    for pixels in parts(col.len, self.dim) {
                        let local = placed.output_row(block, image, r, pixels.start);
                        let pixel =
                            ((b.start + image) * out_rows + row.start + r) * out_cols + col.start + pixels.start;
                        apply(local, pixel, och.start + channels.start, [pixels.len, channels.len])?;
                    }
                }
            }
        }
        Ok(())
    }

    fn load_input(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let Tile { b, ich, .. } = placed.tile;
        let block_stride = b.len * placed.inputs[0] * placed.inputs[1];
        self.config_ld(builder, CHANNEL_INPUT, self.conv.input.stride_bytes() * self.step as u64, block_stride)?;
        for channels in parts(ich.len, self.group * self.dim) {
            for image in 0..b.len {
                for row in 0..placed.inputs[0] {
                    let local = placed.input_row(channels.start / self.dim, image, row, 0);
                    let extent = [ich.start + channels.start, channels.len];
                    self.load_input_row(builder, placed, [b.start + image, row], extent, local)?;
                }
            }
        }
        Ok(())
    }

    /// One row of one image: zeros, pixels, zeros.
    fn load_input_row(
        &self,
        builder: &mut ProgramBuilder,
        placed: &Placed<'_>,
        [image, row]: [usize; 2],
        [first_channel, channels]: [usize; 2],
        local: usize,
    ) -> Result<(), KernelError> {
        let (shape, columns) = (self.shape, placed.inputs[1]);
        let image_row = placed.rows.input + (row * self.step) as isize;
        let image_row = usize::try_from(image_row).ok().filter(|row| *row < shape.in_rows);
        let inside = match image_row {
            None => columns..columns,
            Some(_) => {
                let start = placed.cols.pads[0].min(columns);
                start..columns.saturating_sub(placed.cols.pads[1]).max(start)
            }
        };
        for zeros in [0..inside.start, inside.end..columns] {
            for part in parts(zeros.len(), self.dim) {
                let local = self.at(placed.input, local + zeros.start + part.start);
                let (rows, cols) = (part.len as u16, channels as u16);
                builder.emit(Command::Mvin(MoveOperands { dram: 0, local, cols, rows }))?;
            }
        }
        let Some(image_row) = image_row else { return Ok(()) };
        for part in parts(inside.len(), self.dim) {
            let column = inside.start + part.start;
            let image_column = (placed.cols.input + (column * self.step) as isize) as usize;
            let pixel = (image * shape.in_rows + image_row) * shape.in_cols + image_column;
            let local = self.at(placed.input, local + column);
            builder.mvin(CHANNEL_INPUT, &self.conv.input, [pixel, first_channel], [part.len, channels], local)?;
        }
        Ok(())
    }

    fn load_weights(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let (shape, view) = (self.shape, &self.conv.weights);
        let Tile { och, krow: krows, kcol: kcols, ich, .. } = placed.tile;
        self.config_ld(builder, CHANNEL_WEIGHTS, view.stride_bytes(), krows.len * kcols.len * ich.len)?;
        for outputs in parts(och.len, self.group * self.dim) {
            for krow in 0..krows.len {
                for kcol in 0..kcols.len {
                    let kernel = (krows.start + krow) * shape.kernel + kcols.start + kcol;
                    for inputs in parts(ich.len, self.dim) {
                        let local = placed.weight_row(outputs.start / self.dim, krow, kcol, inputs.start);
                        let at = [kernel * shape.in_channels + ich.start + inputs.start, och.start + outputs.start];
                        let extent = [inputs.len, outputs.len];
                        builder.mvin(CHANNEL_WEIGHTS, view, at, extent, self.at(placed.weights, local))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Each block of weights stays in the array while all the pixels of the tile pass.
    fn compute(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let Tile { och, krow: krows, kcol: kcols, ich, .. } = placed.tile;
        for (out_block, outputs) in parts(och.len, self.dim).enumerate() {
            for krow in 0..krows.len {
                for kcol in 0..kcols.len {
                    for (in_block, inputs) in parts(ich.len, self.dim).enumerate() {
                        let weights = placed.weight_row(out_block, krow, kcol, inputs.start);
                        let weights =
                            Operand { local: self.at(placed.weights, weights), rows: inputs.len, cols: outputs.len };
                        let continues =
                            !placed.tile.is_first() || self.conv.bias.is_some() || krow + kcol + in_block > 0;
                        let blocks = Blocks { output: out_block, krow, kcol, input: in_block, continues };
                        self.compute_pixels(builder, placed, &blocks, weights)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn compute_pixels(
        &self,
        builder: &mut ProgramBuilder,
        placed: &Placed<'_>,
        blocks: &Blocks,
        weights: Operand,
    ) -> Result<(), KernelError> {
        let (shape, garbage) = (self.shape, builder.garbage());
        // Where kernel element `k` of output `o` lies in the loaded input.
        let input = |o: usize, k: usize| (o * shape.stride + k * shape.kernel_dilation) / self.step;
        let mut new_weights = true;
        for image in 0..placed.tile.b.len {
            for row in 0..placed.rows.outputs {
                for pixels in parts(placed.cols.outputs, self.dim) {
                    let from = [input(row, blocks.krow), input(pixels.start, blocks.kcol)];
                    let from = placed.input_row(blocks.input, image, from[0], from[1]);
                    let to = self.at(placed.output, placed.output_row(blocks.output, image, row, pixels.start));
                    let to = if blocks.continues { to.with_accumulate() } else { to };
                    let d = Operand { local: if new_weights { weights.local } else { garbage.local }, ..weights };
                    builder.preload(d, Operand { local: to, rows: pixels.len, cols: weights.cols })?;
                    let a = Operand { local: self.at(placed.input, from), rows: pixels.len, cols: weights.rows };
                    builder.compute(new_weights, a, garbage, weights.cols)?;
                    new_weights = false;
                }
            }
        }
        Ok(())
    }
}

/// One block of weights.
struct Blocks {
    output: usize,
    krow: usize,
    kcol: usize,
    input: usize,
    /// Whether its products are added to what the accumulator holds.
    continues: bool,
}
