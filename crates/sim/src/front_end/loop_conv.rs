//! The convolution unroller (`LoopConv.scala`): turns one LOOP_CONV_WS into the moves, preloads, computes and stores of a
//! convolution, with its pooling if asked for.
//!
//! Two loops can be configured; the second is filled while the first runs. Each loop is worked on by five parts: the loads
//! of bias, input and weights, the execute part and the store part. The execute part starts when its loads have all been
//! emitted, the store part when the execute part's commands have been. Each part feeds a pipeline of two registers; one
//! command leaves in each cycle.
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | head of the raw queue | input queue of 2, registered both ways |
//! | out | out | from registers: an unrolled command while a loop is configured, else the head of the input queue if it is no loop command | when the matmul unroller's queue is not full |
//! | completed | in | departures of this unroller's commands from the reservation station | always |
//!
//! A loop command needs one cycle at the head of the input queue; its effect is visible in the next. A part accepts its
//! request when it is idle and its pipeline empty; its first item enters the pipeline one cycle later and is offered to the
//! arbiter two cycles after that.

use std::num::Wrapping;

use pollux_isa::fields::{
    LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvConfig5, LoopConvConfig6, LoopConvWs,
};
use pollux_isa::{GemminiConfig, RoccCommand};

use crate::front_end::geometry::{Geometry, config_kind, dram_at, floor_add, funct, mask};
use crate::front_end::reservation_station::PerUnit;
use crate::front_end::unroller::{InFlight, LOOPS, LoopFlags, LoopId, UnrollerActivity, UnrollerStall};
use crate::observation::event::{Origin, Unit};
use crate::parts::pipeline::Pipeline;
use crate::parts::queue::Queue;
use crate::parts::wires::GemminiCmd;

/// Registers between a part and the arbiter (`latency`).
const LATENCY: u32 = 2;

/// Address arithmetic, modulo 2^32: offsets are cut to 32 bits, and so are local addresses.
type W = Wrapping<u32>;

fn w(x: impl Into<u32>) -> W {
    Wrapping(x.into())
}

/// The five parts of a loop, as its flags count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bias,
    Input,
    Weights,
    Ex,
    St,
}

const PARTS: [Part; 5] = [Part::Bias, Part::Input, Part::Weights, Part::Ex, Part::St];
const LOADS: [Part; 3] = [Part::Bias, Part::Input, Part::Weights];

/// Parts in the order of the arbiter's priorities.
const PRIORITIES: [Part; 5] = [Part::St, Part::Ex, Part::Bias, Part::Weights, Part::Input];

impl Part {
    fn unit(self) -> Unit {
        match self {
            Part::Bias | Part::Input | Part::Weights => Unit::Ld,
            Part::Ex => Unit::Ex,
            Part::St => Unit::St,
        }
    }
}

/// Registers that the configuration commands wrote last.
#[derive(Clone, Copy, Debug)]
struct Settings {
    c1: LoopConvConfig1,
    c2: LoopConvConfig2,
    c3: LoopConvConfig3,
    c4: LoopConvConfig4,
    run: LoopConvWs,
}

/// What follows from the settings (`LoopConvDerivedParams`), each value cut to 16 bits.
#[derive(Clone, Copy, Debug)]
struct Derived {
    irows: u16,
    icols: u16,
    irows_unpadded: u16,
    icols_unpadded: u16,
    /// Blocks of output channels (`out_channels_per_bank`).
    och_blocks: u16,
    /// Blocks of input channels (`in_channels_per_bank`).
    kch_blocks: u16,
    bias_spad_stride: u16,
    input_spad_stride: u16,
    weight_spad_stride: u16,
}

impl Settings {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            c1: LoopConvConfig1::from_regs(config, 0, 0),
            c2: LoopConvConfig2::from_regs(config, 0, 0),
            c3: LoopConvConfig3::from_regs(config, 0, 0),
            c4: LoopConvConfig4::from_regs(config, 0, 0),
            run: LoopConvWs::from_regs(config, 0, 0),
        }
    }

    /// Size in a dilated input, where only every other pixel exists.
    fn undilated(&self, x: u32) -> u32 {
        let dilated = u32::from(self.run.input_dilated);
        (x + dilated) >> dilated
    }

    /// Rows and columns of the padded input, with and without padding, before input dilation is taken out.
    fn input_size(out: u16, stride: u8, kernel: u16, dilation: u16) -> i64 {
        let dilated_kernel = w(kernel) + w(dilation.wrapping_sub(1)) * w(kernel.wrapping_sub(1));
        i64::from(out) * i64::from(stride) + i64::from(dilated_kernel.0) - 1
    }

    /// `(padded, unpadded)` size of the input in one direction.
    fn input_sizes(&self, raw: i64, pads: [u16; 2]) -> (u16, u16) {
        let dilated = i64::from(self.run.input_dilated);
        let unpadded = (raw - i64::from(pads[0]) - i64::from(pads[1]) + dilated) >> dilated;
        let padded = if self.run.input_dilated {
            unpadded + pads.map(|pad| i64::from(self.undilated(pad.into()))).iter().sum::<i64>()
        } else {
            raw
        };
        (padded as u16, unpadded as u16)
    }

    fn derive(&self, dim: u32) -> Derived {
        let Self { c1, c2, c3, c4, run } = self;
        let raw_rows = Self::input_size(c4.orows, c1.stride, c3.krows, c4.kernel_dilation);
        let raw_cols = Self::input_size(c4.ocols, c1.stride, c3.kcols, c4.kernel_dilation);
        let (irows, irows_unpadded) = self.input_sizes(raw_rows, [c3.upad, c3.dpad.into()]);
        let (icols, icols_unpadded) = self.input_sizes(raw_cols, [c3.lpad, c3.rpad]);
        let image = w(irows >> u16::from(run.downsample)) * w(icols >> u16::from(run.downsample));
        let images = if run.trans_input_3120 { c3.kchs } else { c2.batches };
        let weight_rows = if run.trans_weight_0132 { c2.pochs } else { c3.kchs };
        Derived {
            irows,
            icols,
            irows_unpadded,
            icols_unpadded,
            och_blocks: u32::from(c2.pochs).div_ceil(dim) as u16,
            kch_blocks: u32::from(c3.kchs).div_ceil(dim) as u16,
            bias_spad_stride: (w(c2.batches) * w(c4.orows) * w(c4.ocols)).0 as u16,
            input_spad_stride: (w(images) * image).0 as u16,
            weight_spad_stride: (w(c3.krows) * w(c3.kcols) * w(weight_rows)).0 as u16,
        }
    }
}

/// A request to a part: the loop's settings as they were when the part accepted it.
#[derive(Clone, Copy, Debug)]
struct Request {
    settings: Settings,
    derived: Derived,
    dram_addr: u64,
    /// First accumulator row (bias, execute, store).
    acc_start: u32,
    /// First scratchpad row of the input.
    a_start: u32,
    /// Scratchpad row after the last of the weights.
    b_end: u32,
    loop_id: LoopId,
}

impl Request {
    fn new(config: &GemminiConfig, dim: u32) -> Self {
        let settings = Settings::new(config);
        let derived = settings.derive(dim);
        Self { settings, derived, dram_addr: 0, acc_start: 0, a_start: 0, b_end: 0, loop_id: 0 }
    }

    /// Accumulator row of an output pixel.
    fn output_row(&self, dim: u32, at: OutputPosition) -> u32 {
        let Settings { c2, c4, .. } = &self.settings;
        let (orows, ocols) = (w(c4.orows), w(c4.ocols));
        let OutputPosition { b, orow, ocol, och } = at;
        (w(self.acc_start)
            + w(u32::from(och) / dim) * w(c2.batches) * orows * ocols
            + w(b) * orows * ocols
            + w(orow) * ocols
            + w(ocol))
        .0
    }

    /// Scratchpad rows of an input image.
    fn image_rows(&self) -> W {
        let downsample = u16::from(self.settings.run.downsample);
        w(self.derived.irows >> downsample) * w(self.derived.icols >> downsample)
    }

    /// Scratchpad row of an input pixel, given by its position in the padded image.
    fn input_row(&self, dim: u32, b: u16, irow: u32, icol: u32, ich: u16) -> u32 {
        let run = &self.settings.run;
        let downsample = u32::from(run.downsample);
        let (blocked, plain) = if run.trans_input_3120 { (b, ich) } else { (ich, b) };
        (w(self.a_start)
            + w(u32::from(blocked) / dim) * w(self.derived.input_spad_stride)
            + w(plain) * self.image_rows()
            + w(irow >> downsample) * w(self.derived.icols >> downsample as u16)
            + w(icol >> downsample))
        .0
    }

    /// Scratchpad row of a block of weights.
    fn weight_row(&self, dim: u32, at: KernelPosition) -> u32 {
        let Settings { c2, c3, run, .. } = &self.settings;
        let KernelPosition { krow, kcol, kch, och } = at;
        let kernel = w(c3.krows) * w(c3.kcols);
        let (blocked, plain, rows, blocks) = if run.trans_weight_0132 {
            (kch, och, w(c2.pochs), self.derived.kch_blocks)
        } else {
            (och, kch, w(c3.kchs), self.derived.och_blocks)
        };
        let start = w(self.b_end) - w(blocks) * kernel * rows;
        (start + w(u32::from(blocked) / dim) * kernel * rows + w(krow) * w(c3.kcols) * rows + w(kcol) * rows + w(plain))
            .0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct OutputPosition {
    b: u16,
    orow: u16,
    ocol: u16,
    och: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct KernelPosition {
    krow: u16,
    kcol: u16,
    kch: u16,
    och: u16,
}

/// What is left of `max` from `at` on, at most `limit`.
fn rest(max: u16, at: u16, limit: u32) -> u32 {
    u32::from(max.wrapping_sub(at)).min(limit)
}

/// CONFIG_LD of a channel, with the identity scale.
fn config_ld(geometry: &Geometry, channel: u64, block_stride: u16, pixel_repeats: u8, stride: u64) -> RoccCommand {
    /// `MVIN_SCALE_IDENTITY`: 1.0 as float32.
    const SCALE_IDENTITY: u64 = 0x3f80_0000;
    let rs1 = SCALE_IDENTITY << 32
        | (u64::from(block_stride) & mask(geometry.block_stride_bits)) << 16
        | (u64::from(pixel_repeats) & mask(geometry.pixel_repeats_bits)) << 8
        | channel << 3
        | config_kind::LD;
    RoccCommand { funct: funct::CONFIG, rs1, rs2: stride }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LoadState {
    #[default]
    Idle,
    Config,
    Load,
}

/// The load of the bias, or of zeros in its place (`LoopConvLdBias`).
#[derive(Clone, Debug)]
struct LoadBias {
    state: LoadState,
    req: Request,
    at: OutputPosition,
}

impl LoadBias {
    fn max_ochs(&self, geometry: &Geometry) -> u32 {
        u32::from(self.req.settings.c2.pochs).min(u32::from(geometry.max_block_len_acc) * geometry.dim)
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c2, c4, run, .. } = &self.req.settings;
        if self.state == LoadState::Config {
            return config_ld(geometry, 2, self.req.derived.bias_spad_stride, 1, 0);
        }
        let offset = w(self.at.och) * w(geometry.acc_bytes);
        let rows = rest(c4.ocols, self.at.ocol, geometry.dim);
        let cols = rest(c2.pochs, self.at.och, self.max_ochs(geometry));
        let local = geometry.acc_addr(self.req.output_row(geometry.dim, self.at), false, false);
        RoccCommand {
            funct: funct::MVIN3,
            rs1: if run.no_bias { 0 } else { dram_at(self.req.dram_addr, offset.0) },
            rs2: geometry.operand(rows, cols, local),
        }
    }

    fn advance(&mut self, geometry: &Geometry) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
        } else if self.at.advance(&self.req.settings, self.max_ochs(geometry) as u16, geometry.dim as u16) {
            self.state = LoadState::Idle;
        }
    }
}

impl OutputPosition {
    /// Next block of output pixels: channels fastest, then columns, rows, images. True after the last one.
    fn advance(&mut self, settings: &Settings, ochs: u16, ocols: u16) -> bool {
        let Settings { c2, c4, .. } = settings;
        self.och = floor_add(self.och, ochs, c2.pochs, true);
        let wrapped = self.och == 0;
        self.ocol = floor_add(self.ocol, ocols, c4.ocols, wrapped);
        let wrapped = wrapped && self.ocol == 0;
        self.orow = floor_add(self.orow, 1, c4.orows, wrapped);
        let wrapped = wrapped && self.orow == 0;
        self.b = floor_add(self.b, 1, c2.batches, wrapped);
        wrapped && self.b == 0
    }
}

/// The load of the input (`LoopConvLdInput`). Rows and columns start in the padding, at negative positions.
#[derive(Clone, Debug)]
struct LoadInput {
    state: LoadState,
    req: Request,
    b: i16,
    irow: i16,
    icol: i16,
    ich: i16,
}

/// `s + n`, or `min` if that exceeds `max_plus_one - 1`; `s` if not `enabled` (`Util.sFloorAdd` on 16 bits).
fn signed_floor_add(s: i16, n: i32, max_plus_one: i32, min: i32, enabled: bool) -> i16 {
    let sum = i32::from(s) + n;
    if !enabled {
        s
    } else if sum > max_plus_one - 1 {
        min as i16
    } else {
        sum as i16
    }
}

impl LoadInput {
    /// Left and upper padding, right and lower padding.
    fn pads(&self) -> (i32, i32, i32, i32) {
        let c3 = &self.req.settings.c3;
        let undilated = |pad: u32| self.req.settings.undilated(pad) as i32;
        (undilated(c3.lpad.into()), undilated(c3.upad.into()), undilated(c3.rpad.into()), undilated(c3.dpad.into()))
    }

    /// Channels (or images, if those are innermost) in one command.
    fn max_chs(&self, geometry: &Geometry) -> i32 {
        let Settings { c2, c3, run, .. } = &self.req.settings;
        let innermost = if run.trans_input_3120 { c2.batches } else { c3.kchs };
        i32::from(innermost).min(i32::from(geometry.max_block_len) * geometry.dim as i32)
    }

    /// Input columns that one command covers: it does not cross the border of the padding.
    fn columns(&self, dim: i32) -> i32 {
        let icols = i32::from(self.req.derived.icols_unpadded);
        let icol = i32::from(self.icol);
        if icol < 0 {
            (-icol).min(dim)
        } else if icol >= icols {
            (icols + self.pads().2 - icol).min(dim)
        } else {
            (icols - icol).min(dim << u32::from(self.req.settings.run.downsample))
        }
    }

    fn is_zeros(&self) -> bool {
        let inside = |at: i16, size: u16| at >= 0 && i32::from(at) < i32::from(size);
        !inside(self.irow, self.req.derived.irows_unpadded) || !inside(self.icol, self.req.derived.icols_unpadded)
    }

    fn dram_offset(&self, geometry: &Geometry) -> u32 {
        let Settings { c1, c2, c3, c4, run } = &self.req.settings;
        let signed = |x: i16| Wrapping(i32::from(x) as u32);
        let (b, irow, icol, ich) = (signed(self.b), signed(self.irow), signed(self.icol), signed(self.ich));
        let (in_rows, in_cols) = (w(c1.in_row_dim), w(c3.in_col_dim));
        let element = if run.trans_input_3120 {
            (ich * in_cols * in_rows + irow * in_cols + icol) * w(c2.batches) + b
        } else {
            (b * in_rows * in_cols + irow * in_cols + icol) * w(c4.in_stride) + ich
        };
        (element * w(geometry.input_bytes)).0
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c1, c2, c3, c4, run } = &self.req.settings;
        if self.state == LoadState::Config {
            let pixels = if run.trans_input_3120 { c1.batch_size } else { c4.in_stride };
            let stride = (u64::from(pixels) * u64::from(geometry.input_bytes)) << u32::from(run.downsample);
            return config_ld(geometry, 0, self.req.derived.input_spad_stride, run.max_pixels_per_row, stride);
        }
        let (lpad, upad, ..) = self.pads();
        let (irow, icol) = ((i32::from(self.irow) + upad) as u32, (i32::from(self.icol) + lpad) as u32);
        let local = self.req.input_row(geometry.dim, self.b as u16, irow, icol, self.ich as u16);
        let rows = self.columns(geometry.dim as i32) >> u32::from(run.downsample);
        let left = if run.trans_input_3120 {
            i32::from(c2.batches) - i32::from(self.b)
        } else {
            i32::from(c3.kchs) - i32::from(self.ich)
        };
        let cols = left.min(self.max_chs(geometry));
        RoccCommand {
            funct: funct::MVIN,
            rs1: if self.is_zeros() { 0 } else { dram_at(self.req.dram_addr, self.dram_offset(geometry)) },
            rs2: geometry.operand(rows as u32, cols as u32, geometry.spad_addr(local)),
        }
    }

    fn advance(&mut self, geometry: &Geometry) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
            return;
        }
        let Settings { c2, c3, run, .. } = self.req.settings;
        let (lpad, upad, rpad, dpad) = self.pads();
        let columns = self.columns(geometry.dim as i32);
        let (b_step, ich_step) =
            if run.trans_input_3120 { (self.max_chs(geometry), 1) } else { (1, self.max_chs(geometry)) };
        let rows_end = i32::from(self.req.derived.irows_unpadded) + dpad;
        let cols_end = i32::from(self.req.derived.icols_unpadded) + rpad;

        self.ich = signed_floor_add(self.ich, ich_step, c3.kchs.into(), 0, true);
        let wrapped = self.ich == 0;
        self.icol = signed_floor_add(self.icol, columns, cols_end, -lpad, wrapped);
        let wrapped = wrapped && i32::from(self.icol) == -lpad;
        self.irow = signed_floor_add(self.irow, 1 << u32::from(run.downsample), rows_end, -upad, wrapped);
        let wrapped = wrapped && i32::from(self.irow) == -upad;
        self.b = signed_floor_add(self.b, b_step, c2.batches.into(), 0, wrapped);
        if wrapped && self.b == 0 {
            self.state = LoadState::Idle;
        }
    }
}

/// The load of the weights (`LoopConvLdWeight`).
#[derive(Clone, Debug)]
struct LoadWeights {
    state: LoadState,
    req: Request,
    at: KernelPosition,
}

impl LoadWeights {
    /// Channels in one command: output channels, or input channels in the layout where those are innermost.
    fn max_chs(&self, geometry: &Geometry) -> u32 {
        let Settings { c2, c3, run, .. } = &self.req.settings;
        let innermost = if run.trans_weight_0132 { c3.kchs } else { c2.pochs };
        u32::from(innermost).min(u32::from(geometry.max_block_len) * geometry.dim)
    }

    /// Elements from one weight row in memory to the next.
    fn dram_stride(&self) -> u64 {
        let Settings { c1, c2, c4, run, .. } = &self.req.settings;
        let kernel_dim = u64::from(c2.kernel_dim);
        match run {
            LoopConvWs { dw: true, .. } => 1,
            LoopConvWs { trans_weight_1203: true, .. } => kernel_dim * kernel_dim * u64::from(c1.out_channels),
            LoopConvWs { trans_weight_0132: true, .. } => c1.in_channels.into(),
            _ => c4.weight_stride.into(),
        }
    }

    fn dram_offset(&self, geometry: &Geometry) -> u32 {
        let Settings { c1, c2, c4, run, .. } = &self.req.settings;
        let KernelPosition { krow, kcol, kch, och } = self.at;
        let (krow, kcol, kch, och) = (w(krow), w(kcol), w(kch), w(och));
        let (kernel_dim, in_channels, out_channels) = (w(c2.kernel_dim), w(c1.in_channels), w(c1.out_channels));
        let tap = krow * kernel_dim + kcol;
        let element = match run {
            LoopConvWs { dw: true, .. } => tap,
            LoopConvWs { trans_weight_1203: true, .. } => (kch * kernel_dim * kernel_dim + tap) * out_channels + och,
            LoopConvWs { trans_weight_0132: true, .. } => (tap * out_channels + och) * in_channels + kch,
            _ => (tap * in_channels + kch) * w(c4.weight_stride) + och,
        };
        (element * w(geometry.input_bytes)).0
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c2, c3, run, .. } = &self.req.settings;
        if self.state == LoadState::Config {
            let stride = self.dram_stride() * u64::from(geometry.input_bytes);
            return config_ld(geometry, 1, self.req.derived.weight_spad_stride, 1, stride);
        }
        let ((col_max, col), (row_max, row)) = if run.trans_weight_0132 {
            ((c3.kchs, self.at.kch), (c2.pochs, self.at.och))
        } else {
            ((c2.pochs, self.at.och), (c3.kchs, self.at.kch))
        };
        let (rows, cols) = (rest(row_max, row, geometry.dim), rest(col_max, col, self.max_chs(geometry)));
        let local = geometry.spad_addr(self.req.weight_row(geometry.dim, self.at));
        RoccCommand {
            funct: funct::MVIN2,
            rs1: dram_at(self.req.dram_addr, self.dram_offset(geometry)),
            rs2: geometry.operand(rows, cols, local),
        }
    }

    fn advance(&mut self, geometry: &Geometry) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
            return;
        }
        let Settings { c2, c3, run, .. } = &self.req.settings;
        let (dim, max_chs) = (geometry.dim as u16, self.max_chs(geometry) as u16);
        let (och_step, kch_step) = if run.trans_weight_0132 { (dim, max_chs) } else { (max_chs, dim) };
        let at = &mut self.at;
        at.kch = floor_add(at.kch, kch_step, c3.kchs, true);
        let wrapped = at.kch == 0;
        at.kcol = floor_add(at.kcol, 1, c3.kcols, wrapped);
        let wrapped = wrapped && at.kcol == 0;
        at.krow = floor_add(at.krow, 1, c3.krows, wrapped);
        let wrapped = wrapped && at.krow == 0;
        at.och = floor_add(at.och, och_step, c2.pochs, wrapped);
        if wrapped && at.och == 0 {
            self.state = LoadState::Idle;
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ExecuteState {
    #[default]
    Idle,
    /// Set the strides for the transposed input layout.
    Config,
    Preload,
    Compute,
}

/// The execute part (`LoopConvExecute`).
#[derive(Clone, Debug)]
struct Execute {
    state: ExecuteState,
    req: Request,
    kernel: KernelPosition,
    b: u16,
    orow: u16,
    ocol: u16,
    /// The next PRELOAD brings weights that are not in the array yet.
    new_weights: bool,
}

impl Execute {
    /// With a dilated input, positions where the kernel meets only the zeros between the pixels are left out.
    fn skips_iteration(&self) -> bool {
        let Settings { c3, c4, run, .. } = &self.req.settings;
        let between_pixels = |k: u16, o: u16, pad: u16| (w(k) * w(c4.kernel_dilation) + w(o) - w(pad)).0 & 1 == 1;
        run.input_dilated
            && matches!(self.state, ExecuteState::Preload | ExecuteState::Compute)
            && (between_pixels(self.kernel.krow, self.orow, c3.upad)
                || between_pixels(self.kernel.kcol, self.ocol, c3.lpad))
    }

    /// Rows of A and C; columns of B and C; columns of A and rows of B.
    fn extents(&self, dim: u32) -> (u32, u32, u32) {
        let Settings { c2, c3, c4, run, .. } = &self.req.settings;
        let rows = if run.trans_input_3120 {
            rest(c2.batches, self.b, dim)
        } else {
            self.req.settings.undilated(rest(c4.ocols, self.ocol, dim << u32::from(run.input_dilated)))
        };
        let pixels = rest(c3.kcols, self.kernel.kcol, run.max_pixels_per_row.into());
        let inner = pixels * rest(c3.kchs, self.kernel.kch, dim);
        (rows, rest(c2.pochs, self.kernel.och, dim), inner)
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        let (rows, cols, inner) = self.extents(geometry.dim);
        match self.state {
            ExecuteState::Preload => {
                let b = if self.new_weights { self.weights(geometry) } else { geometry.garbage() };
                let at = OutputPosition { b: self.b, orow: self.orow, ocol: self.ocol, och: self.kernel.och };
                let c = geometry.acc_addr(self.req.output_row(geometry.dim, at), true, false);
                RoccCommand {
                    funct: funct::PRELOAD,
                    rs1: geometry.operand(inner, cols, b),
                    rs2: geometry.operand(rows, cols, c),
                }
            }
            ExecuteState::Compute => RoccCommand {
                funct: if self.new_weights { funct::COMPUTE_AND_FLIP } else { funct::COMPUTE_AND_STAY },
                rs1: geometry.operand(rows, inner, self.input(geometry)),
                rs2: geometry.operand(rows, cols, geometry.garbage()),
            },
            ExecuteState::Config | ExecuteState::Idle => self.config(),
        }
    }

    fn config(&self) -> RoccCommand {
        const SET_ONLY_STRIDES: u64 = 1 << 7;
        let (Derived { irows, icols, .. }, c4) = (&self.req.derived, &self.req.settings.c4);
        let (a_stride, c_stride) = (irows.wrapping_mul(*icols), c4.orows.wrapping_mul(c4.ocols));
        RoccCommand {
            funct: funct::CONFIG,
            rs1: u64::from(a_stride) << 16 | SET_ONLY_STRIDES | config_kind::EX,
            rs2: u64::from(c_stride) << 48,
        }
    }

    /// Local address of A.
    fn input(&self, geometry: &Geometry) -> u32 {
        let Settings { c1, c4, .. } = &self.req.settings;
        let KernelPosition { krow, kcol, kch, .. } = self.kernel;
        let pixel = |o: u16, k: u16| {
            let dilated = w(o) * w(c1.stride) + w(k) * w(c4.kernel_dilation);
            self.req.settings.undilated(dilated.0)
        };
        let (irow, icol) = (pixel(self.orow, krow), pixel(self.ocol, kcol));
        geometry.spad_addr(self.req.input_row(geometry.dim, self.b, irow, icol, kch))
    }

    /// Local address of B.
    fn weights(&self, geometry: &Geometry) -> u32 {
        let Settings { c3, run, .. } = &self.req.settings;
        let mut at = self.kernel;
        if run.wrot180 {
            at.krow = c3.krows.wrapping_sub(at.krow).wrapping_sub(1);
            at.kcol = c3.kcols.wrapping_sub(at.kcol).wrapping_sub(1);
        }
        geometry.spad_addr(self.req.weight_row(geometry.dim, at))
    }

    fn advance(&mut self, geometry: &Geometry, skipped: bool) {
        match self.state {
            ExecuteState::Idle => {}
            ExecuteState::Config => self.state = ExecuteState::Preload,
            ExecuteState::Preload => self.state = ExecuteState::Compute,
            ExecuteState::Compute => self.next_block(geometry.dim as u16, skipped),
        }
    }

    /// Next block: output columns fastest, then output rows, images, input channels, kernel columns, kernel rows, output
    /// channels.
    fn next_block(&mut self, dim: u16, skipped: bool) {
        let Settings { c2, c3, c4, run, .. } = &self.req.settings;
        let b_step = if run.trans_input_3120 { dim } else { 1 };
        let ocol_step = if skipped || run.trans_input_3120 { 1 } else { dim << u16::from(run.input_dilated) };
        self.ocol = floor_add(self.ocol, ocol_step, c4.ocols, true);
        let wrapped = self.ocol == 0;
        self.orow = floor_add(self.orow, 1, c4.orows, wrapped);
        let wrapped = wrapped && self.orow == 0;
        self.b = floor_add(self.b, b_step, c2.batches, wrapped);
        let output_done = wrapped && self.b == 0;
        let at = &mut self.kernel;
        at.kch = floor_add(at.kch, dim, c3.kchs, output_done);
        let wrapped = output_done && at.kch == 0;
        at.kcol = floor_add(at.kcol, run.max_pixels_per_row.into(), c3.kcols, wrapped);
        let wrapped = wrapped && at.kcol == 0;
        at.krow = floor_add(at.krow, 1, c3.krows, wrapped);
        let wrapped = wrapped && at.krow == 0;
        at.och = floor_add(at.och, dim, c2.pochs, wrapped);
        self.new_weights = output_done || (self.new_weights && skipped);
        self.state = if wrapped && at.och == 0 { ExecuteState::Idle } else { ExecuteState::Preload };
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StoreState {
    #[default]
    Idle,
    Store,
    PrePoolConfig,
    Pool,
    PostPoolConfig,
}

/// The store part (`LoopConvSt`).
#[derive(Clone, Debug)]
struct Store {
    state: StoreState,
    req: Request,
    at: OutputPosition,
}

impl Store {
    fn command(&self, geometry: &Geometry) -> RoccCommand {
        match self.state {
            StoreState::PrePoolConfig => self.config(geometry, self.pooling()),
            StoreState::PostPoolConfig => self.config(geometry, 0),
            StoreState::Pool => self.pooled_mvout(geometry),
            StoreState::Store | StoreState::Idle => self.mvout(geometry),
        }
    }

    fn mvout(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c1, c2, c4, run, .. } = &self.req.settings;
        let OutputPosition { b, orow, ocol, och } = self.at;
        let (b, orow, ocol) = (w(b), w(orow), w(ocol));
        let (out_rows, out_cols) = (w(c1.out_row_dim), w(c1.out_col_dim));
        let element = if run.trans_output_1203 {
            let images = w(c1.batch_size);
            (orow * out_cols * images + ocol * images + b) * w(c1.out_channels) + w(och)
        } else {
            (b * out_rows * out_cols + orow * out_cols + ocol) * w(c4.out_stride) + w(och)
        };
        let rows = rest(c4.ocols, self.at.ocol, geometry.dim);
        let cols = rest(c2.pochs, och, geometry.dim);
        let local = geometry.acc_addr(self.req.output_row(geometry.dim, self.at), false, false);
        RoccCommand {
            funct: funct::MVOUT,
            rs1: dram_at(self.req.dram_addr, (element * w(geometry.input_bytes)).0),
            rs2: geometry.operand(rows, cols, local),
        }
    }

    /// Stores a pooled image. Its offset is not cut to 32 bits.
    fn pooled_mvout(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c1, c2, c4, .. } = &self.req.settings;
        let wide = |x: u16| Wrapping(u64::from(x));
        let OutputPosition { b, och, .. } = self.at;
        let image = wide(b) * wide(c2.pool_out_col_dim) * wide(c1.pool_out_row_dim);
        let offset = (image * wide(c4.out_stride) + wide(och)) * Wrapping(u64::from(geometry.input_bytes));
        let local = self.req.output_row(geometry.dim, OutputPosition { b, och, orow: 0, ocol: 0 });
        RoccCommand {
            funct: funct::MVOUT,
            rs1: (Wrapping(self.req.dram_addr) + offset).0,
            rs2: geometry.operand(0, rest(c2.pochs, och, geometry.dim), geometry.acc_addr(local, false, false)),
        }
    }

    /// The pooling fields of CONFIG_ST, each cut to its width.
    fn pooling(&self) -> u64 {
        let Settings { c2, c3, c4, .. } = &self.req.settings;
        let byte = |x: u16, low: u32| (u64::from(x) & mask(8)) << low;
        let pair = |x: u16, low: u32| (u64::from(x) & mask(2)) << low;
        pair(c2.pool_stride.into(), 4)
            | pair(c2.pool_size, 6)
            | pair(c4.pupad, 8)
            | pair(c3.plpad.into(), 10)
            | byte(c2.pool_out_col_dim, 24)
            | byte(c2.porows, 32)
            | byte(c2.pocols, 40)
            | byte(c4.orows, 48)
            | byte(c4.ocols, 56)
    }

    fn config(&self, geometry: &Geometry, pooling: u64) -> RoccCommand {
        const ACC_SCALE_NO_CHANGE: u64 = 0xffff_ffff << 32;
        let Settings { c4, run, .. } = &self.req.settings;
        let stride = u64::from(c4.out_stride) * u64::from(geometry.input_bytes);
        RoccCommand {
            funct: funct::CONFIG,
            rs1: pooling | (run.activation as u64) << 2 | config_kind::ST,
            rs2: ACC_SCALE_NO_CHANGE | stride,
        }
    }

    fn advance(&mut self, geometry: &Geometry) {
        let dim = geometry.dim as u16;
        match self.state {
            StoreState::Idle => {}
            StoreState::Store => {
                if self.at.advance(&self.req.settings, dim, dim) {
                    self.state = StoreState::Idle;
                }
            }
            StoreState::PrePoolConfig => self.state = StoreState::Pool,
            StoreState::Pool => {
                let c2 = &self.req.settings.c2;
                self.at.och = floor_add(self.at.och, dim, c2.pochs, true);
                self.at.b = floor_add(self.at.b, 1, c2.batches, self.at.och == 0);
                if self.at.och == 0 && self.at.b == 0 {
                    self.state = StoreState::PostPoolConfig;
                }
            }
            StoreState::PostPoolConfig => self.state = StoreState::Idle,
        }
    }
}

/// Configuration and progress of a loop (`LoopConvState`).
#[derive(Clone, Debug)]
struct LoopState {
    settings: Settings,
    c5: LoopConvConfig5,
    c6: LoopConvConfig6,
    flags: LoopFlags,
    a_addr_start: u32,
    b_addr_end: u32,
}

impl LoopState {
    fn new(id: LoopId, config: &GemminiConfig, geometry: &Geometry) -> Self {
        Self {
            settings: Settings::new(config),
            c5: LoopConvConfig5::from_regs(config, 0, 0),
            c6: LoopConvConfig6::from_regs(config, 0, 0),
            flags: LoopFlags::default(),
            a_addr_start: geometry.spad_half(id as u32),
            b_addr_end: geometry.spad_half(id as u32 + 1),
        }
    }

    fn configure(&mut self, cmd: &RoccCommand, config: &GemminiConfig) {
        let RoccCommand { funct, rs1, rs2 } = *cmd;
        let settings = &mut self.settings;
        match funct {
            funct::LOOP_CONV_WS_CONFIG_1 => settings.c1 = LoopConvConfig1::from_regs(config, rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_2 => settings.c2 = LoopConvConfig2::from_regs(config, rs1, rs2).gated(config),
            funct::LOOP_CONV_WS_CONFIG_3 => settings.c3 = LoopConvConfig3::from_regs(config, rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_4 => settings.c4 = LoopConvConfig4::from_regs(config, rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_5 => self.c5 = LoopConvConfig5::from_regs(config, rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_6 => self.c6 = LoopConvConfig6::from_regs(config, rs1, rs2),
            funct::LOOP_CONV_WS => {
                settings.run = LoopConvWs::from_regs(config, rs1, rs2).gated(config);
                self.flags.configured = true;
            }
            _ => {}
        }
    }

    fn dram_addr(&self, part: Part) -> u64 {
        match part {
            Part::Bias => self.c6.bias,
            Part::Input => self.c6.input,
            Part::Weights => self.c5.weights,
            Part::Ex => 0,
            Part::St => self.c5.output,
        }
    }
}

/// What moves through the unroller in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopConvTransfer {
    /// The command handed to the matmul unroller.
    pub out: Option<GemminiCmd>,
    /// The head of the input queue leaves (to the output, or into a loop's configuration).
    pop: bool,
    /// The part whose pipeline output leaves.
    granted: Option<Part>,
    /// The parts whose pipeline output would be taken if it were valid (`out.ready` of each pipeline).
    ready: [bool; 5],
}

/// The unroller; see the module.
#[derive(Clone, Debug)]
pub struct LoopConv {
    config: GemminiConfig,
    geometry: Geometry,
    input: Queue<GemminiCmd>,
    loops: [LoopState; LOOPS],
    head: LoopId,
    ld_bias: LoadBias,
    ld_input: LoadInput,
    ld_weights: LoadWeights,
    ex: Execute,
    st: Store,
    pipelines: [Pipeline<RoccCommand>; 5],
    in_flight: InFlight,
    /// Accumulator half that the next bias, execute and store part uses.
    acc_starts: [u32; 5],
}

fn is_loop_cmd(funct: u8) -> bool {
    (funct::LOOP_CONV_WS..=funct::LOOP_CONV_WS_CONFIG_6).contains(&funct)
}

impl LoopConv {
    /// The unroller after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let geometry = Geometry::new(config);
        let req = Request::new(config, geometry.dim);
        let (state, at) = (LoadState::Idle, OutputPosition::default());
        let kernel = KernelPosition::default();
        Self {
            loops: std::array::from_fn(|id| LoopState::new(id, config, &geometry)),
            input: Queue::plain(2),
            head: 0,
            ld_bias: LoadBias { state, req, at },
            ld_input: LoadInput { state, req, b: 0, irow: 0, icol: 0, ich: 0 },
            ld_weights: LoadWeights { state, req, at: kernel },
            ex: Execute { state: ExecuteState::Idle, req, kernel, b: 0, orow: 0, ocol: 0, new_weights: false },
            st: Store { state: StoreState::Idle, req, at },
            pipelines: std::array::from_fn(|_| Pipeline::new(LATENCY)),
            in_flight: InFlight::new(config),
            acc_starts: [0; 5],
            config: config.clone(),
            geometry,
        }
    }

    /// `in.ready`.
    pub fn in_ready(&self) -> bool {
        self.input.enq_ready(false)
    }

    /// `io.busy`: a command in the input queue, or a loop configured.
    pub fn busy(&self) -> bool {
        !self.input.is_empty() || self.loop_configured()
    }

    fn loop_configured(&self) -> bool {
        self.loops.iter().any(|l| l.flags.configured)
    }

    fn tail(&self) -> LoopId {
        1 - self.head
    }

    /// The slot that configuration commands write.
    fn being_configured(&self) -> LoopId {
        if self.loops[self.head].flags.configured { self.tail() } else { self.head }
    }

    fn state_idle(&self, part: Part) -> bool {
        match part {
            Part::Bias => self.ld_bias.state == LoadState::Idle,
            Part::Input => self.ld_input.state == LoadState::Idle,
            Part::Weights => self.ld_weights.state == LoadState::Idle,
            Part::Ex => self.ex.state == ExecuteState::Idle,
            Part::St => self.st.state == StoreState::Idle,
        }
    }

    /// `io.idle` of a part.
    fn idle(&self, part: Part) -> bool {
        self.state_idle(part) && self.pipelines[part as usize].is_empty()
    }

    fn req(&self, part: Part) -> &Request {
        match part {
            Part::Bias => &self.ld_bias.req,
            Part::Input => &self.ld_input.req,
            Part::Weights => &self.ld_weights.req,
            Part::Ex => &self.ex.req,
            Part::St => &self.st.req,
        }
    }

    fn loop_id(&self, part: Part) -> LoopId {
        self.req(part).loop_id
    }

    /// What moves in this cycle, given `out.ready`.
    pub(crate) fn transfer(&self, out_ready: bool) -> LoopConvTransfer {
        let head = self.input.front();
        let loop_cmd = head.is_some_and(|cmd| is_loop_cmd(cmd.cmd.funct));
        let mut transfer = LoopConvTransfer {
            pop: loop_cmd && !self.loops[self.being_configured()].flags.configured,
            ..LoopConvTransfer::default()
        };
        if self.loop_configured() {
            self.arbitrate(out_ready, &mut transfer);
            let cmd = transfer.granted.and_then(|part| self.pipelines[part as usize].out());
            transfer.out = cmd.map(|&cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Conv });
        } else if out_ready && !loop_cmd {
            transfer.out = head.copied();
            transfer.pop = head.is_some();
        }
        transfer
    }

    fn arbitrate(&self, out_ready: bool, transfer: &mut LoopConvTransfer) {
        let mut free = out_ready;
        for part in PRIORITIES {
            let has_room = self.in_flight.has_room(part.unit());
            transfer.ready[part as usize] = free && has_room;
            if free && has_room && self.pipelines[part as usize].out().is_some() {
                transfer.granted = Some(part);
                free = false;
            }
        }
    }

    /// The execute part has accepted a loop whose loads are not all emitted: loads of the other loop wait.
    fn ex_is_waiting_for_loads(&self) -> bool {
        let slot = &self.loops[self.loop_id(Part::Ex)].flags;
        let loads_completed = LOADS.iter().all(|&part| slot.completed.has(part as usize));
        slot.started.has(Part::Ex as usize) && !slot.completed.has(Part::Ex as usize) && !loads_completed
    }

    /// A zero address leaves the part out: it falls back to idle.
    fn suppressed(&self, part: Part) -> bool {
        part != Part::Ex && self.req(part).dram_addr == 0
    }

    /// Whether the part offers an item to its pipeline (`command_p.in.valid`).
    fn offers(&self, part: Part) -> bool {
        let done = |other: Part| self.loop_id(other) != self.loop_id(part) || self.idle(other);
        let may_start = match part {
            Part::Bias | Part::Input | Part::Weights => {
                self.loop_id(part) == self.loop_id(Part::Ex) || !self.ex_is_waiting_for_loads()
            }
            Part::Ex => !self.ex.skips_iteration() && LOADS.into_iter().all(done),
            Part::St => done(Part::Ex),
        };
        !self.state_idle(part) && !self.suppressed(part) && may_start
    }

    /// The loop whose request the part accepts in this cycle.
    fn accepts(&self, part: Part) -> Option<LoopId> {
        let id = if self.loops[self.head].flags.started.has(part as usize) { self.tail() } else { self.head };
        let slot = &self.loops[id].flags;
        let started = |part: &Part| slot.started.has(*part as usize);
        let in_turn = match part {
            Part::Bias | Part::Input | Part::Weights => true,
            Part::Ex => LOADS.iter().all(started),
            Part::St => started(&Part::Ex),
        };
        (slot.configured && !started(&part) && in_turn && self.idle(part)).then_some(id)
    }

    fn request(&self, part: Part, loop_id: LoopId) -> Request {
        let slot = &self.loops[loop_id];
        let row_bits = self.geometry.layout.sp_addr_bits;
        let run = &slot.settings.run;
        Request {
            settings: slot.settings,
            derived: slot.settings.derive(self.geometry.dim),
            dram_addr: slot.dram_addr(part),
            acc_start: self.acc_starts[part as usize],
            a_start: match run.a_spad_id {
                0 => slot.a_addr_start,
                id => self.geometry.spad_half(u32::from(id) - 1) & mask(row_bits) as u32,
            },
            b_end: match run.b_spad_id {
                0 => slot.b_addr_end,
                id => self.geometry.spad_half(id.into()) & mask(row_bits + 1) as u32,
            },
            loop_id,
        }
    }

    /// Clock edge. `input` is a command accepted at the input, `transfer` what [`Self::transfer`] gave for this cycle,
    /// `departed` the departures of this unroller's commands from the station.
    pub(crate) fn tick(
        &mut self,
        input: Option<GemminiCmd>,
        transfer: &LoopConvTransfer,
        departed: PerUnit<u8>,
    ) -> bool {
        let mut progress = transfer.pop || input.is_some() || departed != [0; 3];
        let slot = self.being_configured();
        if self.loop_configured() {
            progress |= self.tick_loops(transfer);
        }
        if transfer.pop {
            self.take_command(slot);
        }
        if let Some(cmd) = input {
            self.input.push(cmd);
        }
        self.in_flight.tick(transfer.granted.map(Part::unit), departed);
        progress
    }

    fn take_command(&mut self, slot: LoopId) {
        if let Some(GemminiCmd { cmd, .. }) = self.input.pop()
            && is_loop_cmd(cmd.funct)
        {
            self.loops[slot].configure(&cmd, &self.config);
        }
    }

    fn tick_loops(&mut self, transfer: &LoopConvTransfer) -> bool {
        // Worked out from the registers as they are at the start of the cycle.
        let accepting = PARTS.map(|part| self.accepts(part));
        let finished = PARTS.map(|part| self.idle(part));
        let items = PARTS.map(|part| self.item(part, transfer.ready[part as usize]));
        let skips_iteration = self.ex.skips_iteration();
        let release = self.loops[self.head].flags.all_completed();

        let mut progress = transfer.granted.is_some() || skips_iteration || release;
        for part in PARTS {
            let (item, ready) = (items[part as usize], transfer.ready[part as usize]);
            let pipeline = &mut self.pipelines[part as usize];
            progress |= item.is_some() || pipeline.moves(ready);
            pipeline.tick(item, ready);
            progress |= self.advance(part, item.is_some(), skips_iteration);
        }
        for part in PARTS {
            if finished[part as usize] {
                let id = self.loop_id(part);
                progress |= self.loops[id].flags.finish(part as usize);
            }
        }
        for (part, id) in PARTS.into_iter().zip(accepting) {
            if let Some(id) = id {
                progress = true;
                self.accept(part, self.request(part, id));
            }
        }
        if release {
            self.loops[self.head].flags = LoopFlags::default();
            self.head = self.tail();
        }
        progress
    }

    /// The command that enters the part's pipeline in this cycle.
    fn item(&self, part: Part, out_ready: bool) -> Option<RoccCommand> {
        if !self.offers(part) || !self.pipelines[part as usize].in_ready(out_ready) {
            return None;
        }
        Some(match part {
            Part::Bias => self.ld_bias.command(&self.geometry),
            Part::Input => self.ld_input.command(&self.geometry),
            Part::Weights => self.ld_weights.command(&self.geometry),
            Part::Ex => self.ex.command(&self.geometry),
            Part::St => self.st.command(&self.geometry),
        })
    }

    /// Clocks a part's state; true if a suppressed part falls back to idle.
    fn advance(&mut self, part: Part, fire: bool, skips_iteration: bool) -> bool {
        let geometry = &self.geometry;
        let falls_idle = self.suppressed(part) && !self.state_idle(part);
        match part {
            Part::Bias if falls_idle => self.ld_bias.state = LoadState::Idle,
            Part::Input if falls_idle => self.ld_input.state = LoadState::Idle,
            Part::Weights if falls_idle => self.ld_weights.state = LoadState::Idle,
            Part::St if falls_idle => self.st.state = StoreState::Idle,
            Part::Bias if fire => self.ld_bias.advance(geometry),
            Part::Input if fire => self.ld_input.advance(geometry),
            Part::Weights if fire => self.ld_weights.advance(geometry),
            Part::Ex if fire || skips_iteration => self.ex.advance(geometry, skips_iteration),
            Part::St if fire => self.st.advance(geometry),
            _ => {}
        }
        falls_idle
    }

    fn accept(&mut self, part: Part, req: Request) {
        let slot = &mut self.loops[req.loop_id];
        slot.flags.start(part as usize);
        // Bias, execute and store part move from one accumulator half to the other, each for itself.
        if slot.c5.output != 0 {
            let start = &mut self.acc_starts[part as usize];
            *start = self.geometry.toggle_acc_half(*start);
        }
        let (state, at) = (LoadState::Config, OutputPosition::default());
        let run = req.settings.run;
        match part {
            Part::Bias => self.ld_bias = LoadBias { state, req, at },
            Part::Input => {
                let start = |pad: u16| (req.settings.undilated(pad.into()) as i32).wrapping_neg() as i16;
                let (irow, icol) = (start(req.settings.c3.upad), start(req.settings.c3.lpad));
                self.ld_input = LoadInput { state, req, b: 0, irow, icol, ich: 0 };
            }
            Part::Weights => self.ld_weights = LoadWeights { state, req, at: KernelPosition::default() },
            Part::Ex => {
                let state = if run.trans_input_3120 { ExecuteState::Config } else { ExecuteState::Preload };
                let kernel = KernelPosition::default();
                self.ex = Execute { state, req, kernel, b: 0, orow: 0, ocol: 0, new_weights: true };
            }
            Part::St => {
                let state = if run.no_pool { StoreState::Store } else { StoreState::PrePoolConfig };
                self.st = Store { state, req, at };
            }
        }
    }

    /// What the unroller waits for, if it is not idle.
    pub fn waiting_for(&self) -> Option<String> {
        if !self.busy() {
            return None;
        }
        if !self.loop_configured() {
            return Some("room in the matmul unroller's queue".to_owned());
        }
        let slot = &self.loops[self.head];
        let missing = |part: &Part| !slot.flags.completed.has(*part as usize);
        let parts: Vec<_> = PARTS.iter().filter(|part| missing(part)).map(|part| format!("{part:?}")).collect();
        Some(format!("the loop's parts {} to be emitted; {}", parts.join(", "), self.in_flight.describe()))
    }

    /// What this cycle is spent on, given `out.ready`.
    pub fn activity(&self, out_ready: bool) -> UnrollerActivity {
        use UnrollerActivity::{Busy, Idle, Stalled};
        let transfer = self.transfer(out_ready);
        if !self.busy() {
            Idle
        } else if transfer.pop || transfer.out.is_some() {
            Busy
        } else if !self.loop_configured() || self.transfer(true).out.is_some() {
            Stalled(UnrollerStall::Output)
        } else {
            Stalled(self.stall())
        }
    }

    fn stall(&self) -> UnrollerStall {
        let mut active = PRIORITIES.into_iter().filter(|&part| !self.idle(part)).peekable();
        if active.peek().is_none() {
            return UnrollerStall::Turnover;
        }
        match active.find(|part| !self.in_flight.has_room(part.unit())) {
            Some(part) => UnrollerStall::InFlight(part.unit()),
            None => UnrollerStall::OtherPart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: u64 = 0x1_0000;
    const OUTPUT: u64 = 0x2_0000;
    const BIAS: u64 = 0x3_0000;
    const INPUT: u64 = 0x4_0000;

    /// A 1x1 convolution of one image of 2 x 3 pixels, 16 channels in and out.
    fn loop_conv(run_rs2: u64) -> Vec<RoccCommand> {
        let cmd = |funct, rs1, rs2| RoccCommand { funct, rs1, rs2 };
        let halves = |x: [u64; 4]| x[3] << 48 | x[2] << 32 | x[1] << 16 | x[0];
        vec![
            cmd(funct::LOOP_CONV_WS_CONFIG_1, halves([1, 2, 16, 16]), halves([2, 1, 3, 1])),
            cmd(funct::LOOP_CONV_WS_CONFIG_2, halves([2 << 8, 2, 1, 1]), halves([16, 1, 1, 1])),
            cmd(funct::LOOP_CONV_WS_CONFIG_3, halves([0, 16, 1, 1]), halves([3, 0, 0, 0])),
            cmd(funct::LOOP_CONV_WS_CONFIG_4, 2 << 48 | 1, halves([3, 16, 16, 16])),
            cmd(funct::LOOP_CONV_WS_CONFIG_5, WEIGHTS, OUTPUT),
            cmd(funct::LOOP_CONV_WS_CONFIG_6, BIAS, INPUT),
            cmd(funct::LOOP_CONV_WS, 1 << 8, run_rs2),
        ]
    }

    const NO_POOL: u64 = 1;

    /// Emissions with the output always ready and commands that complete in the cycle after they are emitted, as
    /// `cycle: funct rs1 rs2`; cycle 0 is the first in which the slot is configured. Also the cycle in which it is free.
    fn listing(program: &[RoccCommand]) -> (Vec<String>, Option<i64>) {
        let mut unroller = LoopConv::new(&GemminiConfig::default16());
        let mut program = program.iter();
        let (mut first, mut lines, mut freed) = (None, Vec::new(), None);
        let mut departed = [0; 3];
        for cycle in 0..120 {
            if unroller.loop_configured() {
                first.get_or_insert(cycle);
            }
            let transfer = unroller.transfer(true);
            let accepted = if unroller.in_ready() { program.next() } else { None };
            let input = accepted.map(|&cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host });
            let head = unroller.head;
            unroller.tick(input, &transfer, departed);
            departed = [0; 3];
            let zero = first.unwrap_or(cycle);
            if unroller.head != head {
                freed = Some(cycle + 1 - zero);
            }
            if let (Some(out), Some(part)) = (transfer.out, transfer.granted) {
                assert_eq!(out.origin, Origin::Conv);
                departed[part.unit() as usize] = 1;
                lines.push(format!("{}: {} {:x} {:x}", cycle - zero, out.cmd.funct, out.cmd.rs1, out.cmd.rs2));
            }
        }
        assert!(!unroller.busy());
        (lines, freed)
    }

    #[test]
    fn a_pointwise_convolution_loads_everything_then_computes_then_stores() {
        let (lines, freed) = listing(&loop_conv(NO_POOL));
        let expected = [
            // Bias: configuration, then a row of pixels at a time.
            "3: 0 3f80000000060111 0",
            "4: 14 30000 3001080000000",
            "5: 14 30000 3001080000003",
            // Weights, then input.
            "6: 0 3f80000000100109 10",
            "7: 1 10000 10001000001ff0",
            "8: 0 3f80000000060101 10",
            "9: 2 40000 3001000000000",
            "10: 2 40030 3001000000003",
            // The last load leaves in cycle 10; the part is idle in 11, its preload is offered two cycles later.
            "13: 6 10001000001ff0 30010c0000000",
            "14: 4 3001000000000 30010e0007fff",
            "15: 6 100010e0007fff 30010c0000003",
            "16: 5 3001000000003 30010e0007fff",
            "19: 3 20000 3001080000000",
            "20: 3 20030 3001080000003",
        ];
        assert_eq!(lines, expected);
        assert_eq!(freed, Some(23));
    }

    #[test]
    fn a_pooled_store_is_framed_by_configurations() {
        let (lines, _) = listing(&loop_conv(0));
        let stores: Vec<_> = lines.iter().rev().take(3).rev().map(String::as_str).collect();
        let expected = ["19: 0 3020101010000a2 ffffffff00000010", "20: 3 20000 1080000000", "21: 0 2 ffffffff00000010"];
        assert_eq!(stores, expected);
    }

    #[test]
    fn parts_with_a_zero_address_are_left_out() {
        let mut program = loop_conv(NO_POOL);
        program[5].rs1 = 0;
        let (lines, freed) = listing(&program);
        assert_eq!(lines[0], "3: 0 3f80000000100109 10");
        assert_eq!(lines.len(), 11);
        assert!(freed.is_some());
    }

    #[test]
    fn a_dilated_input_is_half_as_large() {
        let settings = |dilated: bool| {
            let mut unroller = LoopConv::new(&GemminiConfig::default16());
            let program = loop_conv(if dilated { NO_POOL | 4 } else { NO_POOL });
            for cmd in &program {
                unroller.loops[0].configure(cmd, &unroller.config);
            }
            unroller.loops[0].settings.derive(16)
        };
        assert_eq!((settings(false).irows, settings(false).icols), (2, 3));
        assert_eq!((settings(true).irows, settings(true).icols), (1, 2));
    }

    #[test]
    fn signed_floor_add_returns_to_the_padding() {
        assert_eq!(signed_floor_add(-1, 1, 4, -1, true), 0);
        assert_eq!(signed_floor_add(3, 1, 4, -1, true), -1);
        assert_eq!(signed_floor_add(3, 1, 4, -1, false), 3);
    }
}
