//! Convolutions through the unroller (`tiled_conv`, `tiled_conv_dw`): one LOOP_CONV_WS for each tile.

use pollux_isa::Command;
use pollux_isa::fields::{
    ConfigEx, LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvConfig5, LoopConvConfig6,
    LoopConvWs,
};
use pollux_isa::values::{self, DataflowMode, Scale};

use super::geometry::{Part, Tile, Window, downsample, tiles};
use super::schedule::ConvSchedule;
use super::shape::{Conv, ConvShape, WeightLayout};
use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::matmul::unroller::{Half, Halves};

/// Stands for the bias where there is none: not null, so that zeros are loaded. The software's value.
const NO_BIAS_ADDRESS: u64 = 1;

pub(super) fn lower(conv: &Conv, builder: &mut ProgramBuilder, schedule: &ConvSchedule) -> Result<(), KernelError> {
    let shape = &conv.shape;
    let activation = if conv.relu { Activation::Relu } else { Activation::None };
    let stride = if shape.options.output_hwnc { shape.batch * shape.out_channels } else { conv.output.stride };
    builder.config_st_only(stride as u64, conv.scale, &activation)?;
    builder.emit(Command::ConfigEx(ConfigEx {
        dataflow: DataflowMode::Ws,
        activation: values::Activation::None,
        set_only_strides: false,
        a_transpose: shape.options.input_chwn,
        b_transpose: shape.options.weights == WeightLayout::Hwoi,
        a_stride: shape.stride as u16 >> u8::from(downsample(shape)),
        acc_scale: Scale::from(0.0),
        in_shift: 0,
        relu6_shift: 0,
        c_stride: shape.input_dilation as u16,
    }))?;
    let kernel = Kernel::new(conv, builder);
    let [input, weights] = schedule.reuse(shape);
    let (mut inputs, mut weights) = (Halves::new(input), Halves::new(weights));
    tiles(shape, schedule).iter().try_for_each(|tile| {
        let sums = [tile.krow.start, tile.kcol.start, tile.ich.start];
        let input = inputs.of(([tile.b.start, tile.row.start, tile.col.start], sums));
        let weights = weights.of((tile.och.start, sums));
        kernel.emit(builder, &Placed { tile, input, weights })
    })
}

/// A tile with the halves of its operands.
struct Placed<'a> {
    tile: &'a Tile,
    input: Half,
    weights: Half,
}

struct Kernel<'a> {
    conv: &'a Conv,
    shape: &'a ConvShape,
    dim: usize,
    first_layer: bool,
}

impl<'a> Kernel<'a> {
    fn new(conv: &'a Conv, builder: &ProgramBuilder) -> Self {
        let first_layer = builder.config().has_first_layer_optimizations;
        Self { conv, shape: &conv.shape, dim: builder.dim(), first_layer }
    }

    fn emit(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let (shape, tile) = (self.shape, placed.tile);
        let [rows, cols] = Window::of(shape, tile);
        if !(rows.has_products(shape) && cols.has_products(shape)) {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: "a tile's input is all padding, or zeros between dilated pixels: choose larger tiles".to_owned(),
            });
        }
        self.configs(placed, &rows, &cols).into_iter().try_for_each(|command| builder.emit(command))?;
        self.count(builder, placed, &rows, &cols);
        Ok(())
    }

    fn configs(&self, placed: &Placed<'_>, rows: &Window, cols: &Window) -> [Command; 7] {
        let (shape, conv, tile) = (self.shape, self.conv, placed.tile);
        let ([out_rows, out_cols], [pooled_rows, pooled_cols]) = (shape.out_pixels(), shape.pooled_pixels());
        let pool = shape.pooling();
        // The layouts of training have no use for strides; the software gives the channels.
        let weight_stride = match shape.options.weights {
            _ if shape.depthwise => 1,
            WeightLayout::Hwio => conv.weights.stride,
            _ => shape.out_channels,
        };
        let in_stride = if shape.options.input_chwn { shape.in_channels } else { conv.input.stride };
        let [weights, output] = [self.weight_address(placed), self.output_address(tile)];
        let [bias, input] = [self.bias_address(tile), self.input_address(placed, rows, cols)];
        [
            Command::LoopConvConfig1(LoopConvConfig1 {
                batch_size: shape.batch as u16,
                in_row_dim: shape.in_rows as u16,
                in_channels: shape.in_channels as u16,
                out_channels: shape.out_channels as u16,
                out_row_dim: out_rows as u16,
                pool_out_row_dim: pooled_rows as u16,
                out_col_dim: out_cols as u16,
                stride: shape.stride as u8,
                padding: shape.padding as u8,
            }),
            Command::LoopConvConfig2(LoopConvConfig2 {
                pool_padding: pool.padding as u8,
                pool_stride: pool.stride as u8,
                pool_size: pool.size as u16,
                pool_out_col_dim: pooled_cols as u16,
                kernel_dim: shape.kernel as u16,
                pochs: tile.och.len as u16,
                pocols: tile.col.len as u16,
                porows: tile.row.len as u16,
                batches: tile.b.len as u16,
            }),
            Command::LoopConvConfig3(LoopConvConfig3 {
                lpad: cols.pads[0] as u16,
                kchs: tile.ich.len as u16,
                kcols: tile.kcol.len as u16,
                krows: tile.krow.len as u16,
                in_col_dim: shape.in_cols as u16,
                plpad: cols.pool_pads[0] as u8,
                dpad: rows.pads[1] as u8,
                upad: rows.pads[0] as u16,
                rpad: cols.pads[1] as u16,
            }),
            Command::LoopConvConfig4(LoopConvConfig4 {
                kernel_dilation: shape.kernel_dilation as u16,
                pdpad: rows.pool_pads[1] as u16,
                pupad: rows.pool_pads[0] as u16,
                prad: cols.pool_pads[1] as u16,
                orows: rows.outputs as u16,
                ocols: cols.outputs as u16,
                out_stride: conv.output.stride as u16,
                weight_stride: weight_stride as u16,
                in_stride: in_stride as u16,
            }),
            Command::LoopConvConfig5(LoopConvConfig5 { weights, output }),
            Command::LoopConvConfig6(LoopConvConfig6 { bias, input }),
            Command::LoopConvWs(self.run(placed, cols)),
        ]
    }

    fn run(&self, placed: &Placed<'_>, cols: &Window) -> LoopConvWs {
        let shape = self.shape;
        LoopConvWs {
            no_bias: self.conv.bias.is_none(),
            wrot180: shape.options.rotate_kernel,
            trans_output_1203: shape.options.output_hwnc,
            trans_weight_1203: shape.options.weights == WeightLayout::Ihwo,
            trans_weight_0132: shape.options.weights == WeightLayout::Hwoi,
            trans_input_3120: shape.options.input_chwn,
            dw: shape.depthwise,
            max_pixels_per_row: self.pixels_per_row(placed.tile, cols),
            b_spad_id: placed.weights.0,
            a_spad_id: placed.input.0,
            no_pool: shape.pool.is_none(),
            downsample: downsample(shape),
            input_dilated: shape.input_dilation == 2,
            activation: if self.conv.relu { values::Activation::Relu } else { values::Activation::None },
        }
    }

    /// Neighbouring pixels of few channels share a row of the array, if nothing is in the way.
    fn pixels_per_row(&self, tile: &Tile, cols: &Window) -> u8 {
        let shape = self.shape;
        let options = &shape.options;
        let transposed = options.output_hwnc || options.input_chwn || options.weights != WeightLayout::Hwio;
        let plain = !(transposed || options.rotate_kernel || downsample(shape))
            && shape.input_dilation == 1
            && shape.kernel_dilation == 1;
        if !(self.first_layer && plain && tile.ich.len <= self.dim) {
            return 1;
        }
        let pixels = (self.dim / tile.ich.len).min(tile.kcol.len);
        if self.is_guarded(cols, pixels) { pixels as u8 } else { 1 }
    }

    /// Whether the reservation station keeps every compute behind the last load of its pixels. It takes a load of n pixels to be
    /// p - 1 rows before where it is if p pixels share a row (`ReservationStation.scala`), so a compute that only reads the last
    /// p - 1 of its rows would not wait for it. Loads before the last come back earlier.
    fn is_guarded(&self, cols: &Window, pixels: usize) -> bool {
        let inside = cols.pads[0]..cols.inputs.saturating_sub(cols.pads[1]);
        let Some(last_load) = inside.clone().step_by(self.dim).next_back() else { return true };
        let guarded_to = (inside.end + 1).saturating_sub(pixels);
        (0..cols.outputs).step_by(self.dim).all(|output| {
            let outputs = self.dim.min(cols.outputs - output);
            (0..cols.kernel).step_by(pixels).all(|kernel| {
                let first = output * self.shape.stride + kernel;
                let last = first + (outputs - 1) * self.shape.stride + pixels.min(cols.kernel - kernel) - 1;
                first < guarded_to || first >= inside.end || last < last_load
            })
        })
    }

    /// 0 if the weights are in the scratchpad already.
    fn weight_address(&self, placed: &Placed<'_>) -> u64 {
        let (shape, view, tile) = (self.shape, &self.conv.weights, placed.tile);
        if !placed.weights.1 {
            return 0;
        }
        let turned =
            |part: Part| if shape.options.rotate_kernel { shape.kernel - part.start - part.len } else { part.start };
        let (krow, kcol) = (turned(tile.krow), turned(tile.kcol));
        let kernel = krow * shape.kernel + kcol;
        if shape.depthwise {
            return view.at(tile.och.start, kernel);
        }
        match shape.options.weights {
            WeightLayout::Hwio => view.at(kernel * shape.in_channels + tile.ich.start, tile.och.start),
            WeightLayout::Ihwo => view.at(tile.ich.start * shape.kernel * shape.kernel + kernel, tile.och.start),
            WeightLayout::Hwoi => view.at(kernel * shape.out_channels + tile.och.start, tile.ich.start),
        }
    }

    /// 0 while sums are not complete.
    fn output_address(&self, tile: &Tile) -> u64 {
        let shape = self.shape;
        if !tile.is_last() {
            return 0;
        }
        let [rows, cols] = shape.pooled_pixels();
        let (b, row, col) = (tile.b.start, tile.row.start, tile.col.start);
        let pixel = match shape.options.output_hwnc {
            true => (row * cols + col) * shape.batch + b,
            false => (b * rows + row) * cols + col,
        };
        self.conv.output.at(pixel, tile.och.start)
    }

    /// 0 where sums go on.
    fn bias_address(&self, tile: &Tile) -> u64 {
        if !tile.is_first() {
            return 0;
        }
        match &self.conv.bias {
            Some(bias) => bias.at(0, tile.och.start),
            None => NO_BIAS_ADDRESS,
        }
    }

    /// 0 if the input is in the scratchpad already.
    fn input_address(&self, placed: &Placed<'_>, rows: &Window, cols: &Window) -> u64 {
        let (shape, view, tile) = (self.shape, &self.conv.input, placed.tile);
        if !placed.input.1 {
            return 0;
        }
        // First pixel inside the image, in pixels of memory.
        let pixel = |window: &Window| {
            (window.input + window.pads[0] as isize) as usize >> usize::from(shape.input_dilation == 2)
        };
        let image = |plane: usize| (plane * shape.in_rows + pixel(rows)) * shape.in_cols + pixel(cols);
        match (shape.depthwise, shape.options.input_chwn) {
            (true, _) => view.at(image(tile.b.start), tile.och.start),
            (false, true) => view.at(image(tile.ich.start), tile.b.start),
            (false, false) => view.at(image(tile.b.start), tile.ich.start),
        }
    }

    /// Bytes of whole operands and multiply-accumulates of the tile, products with zeros of the padding included.
    fn count(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>, rows: &Window, cols: &Window) {
        let tile = placed.tile;
        let kernel = tile.krow.len * tile.kcol.len;
        let outputs = tile.b.len * rows.outputs * cols.outputs;
        builder.count(|s| {
            s.macs += (outputs * tile.och.len * kernel * tile.ich.len) as u64;
            if tile.is_last() {
                s.bytes_out += (tile.b.len * tile.row.len * tile.col.len * tile.och.len) as u64;
            }
            if placed.weights.1 {
                s.bytes_in += (kernel * tile.ich.len * tile.och.len) as u64;
            }
            if placed.input.1 {
                let pixels = self.pixels_loaded(rows) * self.pixels_loaded(cols);
                s.bytes_in += (pixels * tile.b.len * tile.ich.len) as u64;
            }
            if self.conv.bias.is_some() && tile.is_first() {
                s.bytes_in += (tile.och.len * 4) as u64;
            }
        });
    }

    /// Input pixels along one axis that come from memory.
    fn pixels_loaded(&self, window: &Window) -> usize {
        let inside = window.inputs.saturating_sub(window.pads[0] + window.pads[1]);
        inside.div_ceil(self.shape.input_dilation) >> usize::from(downsample(self.shape))
    }
}
