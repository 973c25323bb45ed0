//! LOOP_CONV_WS (`LoopConv.scala`).

use pollux_isa::config::CONCURRENT_LOOPS;
use pollux_isa::fields::{
    Compute, ConfigEx, ConfigLd, ConfigSt, LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4,
    LoopConvConfig5, LoopConvConfig6, LoopConvWs, MoveOperands, Preload,
};
use pollux_isa::values::{Activation, Bits, DataflowMode, Scale};
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr};

use super::block_walk::{cast_dram_offset, cast_to_acc_addr, cast_to_sp_addr, floor_add, low_bits};
use super::emitted::{Accepted, LoopUnit, Unrolled};
use super::matmul::garbage_addr;

/// What a loop needs of the configuration.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    layout: AddressLayout,
    dim: u16,
    input_bytes: u64,
    acc_bytes: u64,
    /// Elements that one move takes from a row of input elements, at most (`max_block_len * block_size`).
    max_cols: u16,
    /// The same for accumulator elements.
    max_cols_acc: u16,
    cols_mask: u16,
    rows_mask: u16,
    block_stride_mask: u16,
    a_stride_mask: u16,
    pixel_repeats_mask: u8,
}

impl Geometry {
    fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim();
        Self {
            layout: config.layout(),
            dim: dim as u16,
            input_bytes: config.input_type.bytes().into(),
            acc_bytes: config.acc_type.bytes().into(),
            max_cols: (config.max_block_len() * dim) as u16,
            max_cols_acc: (config.max_block_len_acc() * dim) as u16,
            cols_mask: low_bits(config.mvin_cols_bits()),
            rows_mask: low_bits(config.dim_count_bits()),
            block_stride_mask: low_bits(config.block_stride_bits()),
            a_stride_mask: low_bits(config.a_stride_bits()),
            pixel_repeats_mask: low_bits(config.pixel_repeats_bits()) as u8,
        }
    }

    fn blocks(&self, channels: u16) -> u64 {
        u64::from(channels / self.dim)
    }

    fn move_operands(&self, dram: u64, local: LocalAddr, rows: u64, cols: u64) -> MoveOperands {
        MoveOperands { dram, local, cols: cols as u16 & self.cols_mask, rows: rows as u16 & self.rows_mask }
    }

    /// CONFIG_LD as the loads emit it: no scaling, no shrinking.
    fn config_ld(&self, state_id: u8, block_stride: u16, stride: u64, pixel_repeats: u8) -> Command {
        Command::ConfigLd(ConfigLd {
            shrink: false,
            state_id,
            pixel_repeats: pixel_repeats & self.pixel_repeats_mask,
            block_stride: block_stride & self.block_stride_mask,
            scale: Scale::IDENTITY,
            stride,
        })
    }
}

/// Configuration values of one loop (`LoopConvState`), as wide as the hardware keeps them.
#[derive(Clone, Copy, Debug)]
struct Slot {
    config_1: LoopConvConfig1,
    config_2: LoopConvConfig2,
    config_3: LoopConvConfig3,
    config_4: LoopConvConfig4,
    config_5: LoopConvConfig5,
    config_6: LoopConvConfig6,
    /// Columns of an input image; CONFIG_3 writes it.
    in_col_dim: u16,
}

/// The unroller's registers.
#[derive(Clone, Debug)]
pub(super) struct LoopConv {
    config: GemminiConfig,
    geometry: Geometry,
    slots: [Slot; CONCURRENT_LOOPS as usize],
    head_loop_id: usize,
    ld_bias_addr_start: u32,
    ex_c_addr_start: u32,
    st_addr_start: u32,
}

impl LoopConv {
    pub(super) fn new(config: &GemminiConfig) -> Self {
        let slot = Slot {
            config_1: LoopConvConfig1::from_regs(config, 0, 0),
            config_2: LoopConvConfig2::from_regs(config, 0, 0),
            config_3: LoopConvConfig3::from_regs(config, 0, 0),
            config_4: LoopConvConfig4::from_regs(config, 0, 0),
            config_5: LoopConvConfig5::from_regs(config, 0, 0),
            config_6: LoopConvConfig6::from_regs(config, 0, 0),
            in_col_dim: 0,
        };
        Self {
            geometry: Geometry::new(config),
            config: config.clone(),
            slots: [slot; CONCURRENT_LOOPS as usize],
            head_loop_id: 0,
            ld_bias_addr_start: 0,
            ex_c_addr_start: 0,
            st_addr_start: 0,
        }
    }

    pub(super) fn accept(&mut self, command: &Command) -> Accepted<ConvCommands> {
        let slot = &mut self.slots[self.head_loop_id];
        match *command {
            Command::LoopConvConfig1(f) => slot.config_1 = f,
            Command::LoopConvConfig2(f) => slot.config_2 = f.gated(&self.config),
            Command::LoopConvConfig3(f) => (slot.config_3, slot.in_col_dim) = (f, f.in_col_dim),
            Command::LoopConvConfig4(f) => slot.config_4 = f,
            Command::LoopConvConfig5(f) => slot.config_5 = f,
            Command::LoopConvConfig6(f) => slot.config_6 = f,
            Command::LoopConvWs(f) => return self.start(f.gated(&self.config)),
            _ => return Accepted::PassedThrough,
        }
        Accepted::Configured
    }

    fn start(&mut self, run: LoopConvWs) -> Accepted<ConvCommands> {
        let id = self.head_loop_id;
        self.head_loop_id ^= 1;
        let slot = self.slots[id];
        let sp_half = self.geometry.layout.sp_rows / CONCURRENT_LOOPS;
        let acc_half = self.geometry.layout.acc_rows / CONCURRENT_LOOPS;
        let advance = slot.config_5.output != 0;
        let take = |start: &mut u32| {
            let now = *start;
            if advance {
                *start = if now == 0 { acc_half } else { 0 };
            }
            u64::from(now)
        };
        let half = |number: usize| number as u64 * u64::from(sp_half);
        let params = Params::new(self.geometry, &slot, run);
        let starts = Starts {
            a: if run.a_spad_id == 0 { half(id) } else { half(usize::from(run.a_spad_id) - 1) },
            b_end: if run.b_spad_id == 0 { half(id + 1) } else { half(run.b_spad_id.into()) },
            bias: take(&mut self.ld_bias_addr_start),
            c: take(&mut self.ex_c_addr_start),
            st: take(&mut self.st_addr_start),
        };
        Accepted::Loop(ConvCommands::new(params, starts))
    }
}

/// First local rows of the units, and one past the last one of the weights.
#[derive(Clone, Copy, Debug)]
struct Starts {
    a: u64,
    b_end: u64,
    bias: u64,
    c: u64,
    st: u64,
}

/// Bounds of a loop under the hardware's names, and `LoopConvDerivedParams`. All have 16 bits.
#[derive(Clone, Copy, Debug)]
struct Params {
    geometry: Geometry,
    run: LoopConvWs,
    slot: Slot,
    ochs: u16,
    kchs: u16,
    irows: u16,
    icols: u16,
    irows_unpadded: u16,
    icols_unpadded: u16,
    out_channels_per_bank: u16,
    in_channels_per_bank: u16,
    bias_spad_stride: u16,
    input_spad_stride: u16,
    weight_spad_stride: u16,
}

impl Params {
    fn new(geometry: Geometry, slot: &Slot, run: LoopConvWs) -> Self {
        let (c1, c2, c3, c4) = (&slot.config_1, &slot.config_2, &slot.config_3, &slot.config_4);
        let undilated = |x: i64| (x + i64::from(run.input_dilated)) >> u8::from(run.input_dilated);
        let dilated_kernel = |k: u16| {
            let gaps = u32::from(c4.kernel_dilation.wrapping_sub(1)).wrapping_mul(u32::from(k.wrapping_sub(1)));
            i64::from(u32::from(k).wrapping_add(gaps))
        };
        let extent = |o: u16, k: u16| i64::from(o) * i64::from(c1.stride) + dilated_kernel(k) - 1;
        let rows_raw = extent(c4.orows, c3.krows);
        let cols_raw = extent(c4.ocols, c3.kcols);
        // Cut to the 16 bits of the registers.
        let irows_unpadded = undilated(rows_raw - i64::from(c3.upad) - i64::from(c3.dpad)) as u16;
        let icols_unpadded = undilated(cols_raw - i64::from(c3.lpad) - i64::from(c3.rpad)) as u16;
        let padded = |raw: i64, unpadded: u16, before: u16, after: u16| match run.input_dilated {
            true => (i64::from(unpadded) + undilated(before.into()) + undilated(after.into())) as u16,
            false => raw as u16,
        };
        let irows = padded(rows_raw, irows_unpadded, c3.upad, c3.dpad.into());
        let icols = padded(cols_raw, icols_unpadded, c3.lpad, c3.rpad);
        let ds = u8::from(run.downsample);
        let product = |factors: [u16; 3]| factors.into_iter().fold(1u16, u16::wrapping_mul);
        let images = if run.trans_input_3120 { c3.kchs } else { c2.batches };
        let weights = if run.trans_weight_0132 { c2.pochs } else { c3.kchs };
        Self {
            geometry,
            run,
            slot: *slot,
            ochs: c2.pochs,
            kchs: c3.kchs,
            irows,
            icols,
            irows_unpadded,
            icols_unpadded,
            out_channels_per_bank: c2.pochs.div_ceil(geometry.dim),
            in_channels_per_bank: c3.kchs.div_ceil(geometry.dim),
            bias_spad_stride: product([c2.batches, c4.orows, c4.ocols]),
            input_spad_stride: product([images, irows >> ds, icols >> ds]),
            weight_spad_stride: product([c3.krows, c3.kcols, weights]),
        }
    }

    fn undilated(&self, x: i64) -> i64 {
        (x + i64::from(self.run.input_dilated)) >> u8::from(self.run.input_dilated)
    }

    /// Accumulator row of output pixel (`b`, `orow`, `ocol`), channel block of `och`.
    fn output_row(&self, start: u64, b: u16, orow: u16, ocol: u16, och: u16) -> u64 {
        let (batches, orows, ocols) = self.output_shape();
        let image = orows * ocols;
        start
            .wrapping_add((self.geometry.blocks(och) * batches).wrapping_mul(image))
            .wrapping_add(u64::from(b).wrapping_mul(image))
            .wrapping_add(u64::from(orow) * ocols)
            .wrapping_add(ocol.into())
    }

    fn output_shape(&self) -> (u64, u64, u64) {
        (self.slot.config_2.batches.into(), self.slot.config_4.orows.into(), self.slot.config_4.ocols.into())
    }

    /// Scratchpad row of an input pixel: channel block of `plane`, image (or channel) `image`, pixel (`row`, `col`).
    fn input_row(&self, start: u64, plane: u64, image: u64, row: i64, col: i64) -> u64 {
        let ds = u8::from(self.run.downsample);
        let (rows, cols) = (u64::from(self.irows >> ds), u64::from(self.icols >> ds));
        start
            .wrapping_add(plane / u64::from(self.geometry.dim) * u64::from(self.input_spad_stride))
            .wrapping_add(image.wrapping_mul(rows * cols))
            .wrapping_add(((row >> ds) as u64).wrapping_mul(cols))
            .wrapping_add((col >> ds) as u64)
    }

    /// Scratchpad row of weight (`krow`, `kcol`) of channels `kch` and `och`; the matrix ends at `end`.
    fn weight_row(&self, end: u64, krow: u16, kcol: u16, kch: u16, och: u16) -> u64 {
        let (krows, kcols) = (u64::from(self.slot.config_3.krows), u64::from(self.slot.config_3.kcols));
        let (banks, plane, inner, inner_size) = match self.run.trans_weight_0132 {
            true => (self.in_channels_per_bank, kch, och, self.ochs),
            false => (self.out_channels_per_bank, och, kch, self.kchs),
        };
        let inner_size = u64::from(inner_size);
        let kernel = krows * kcols;
        end.wrapping_sub((u64::from(banks) * kernel).wrapping_mul(inner_size))
            .wrapping_add((self.geometry.blocks(plane) * kernel).wrapping_mul(inner_size))
            .wrapping_add(u64::from(krow) * kcols * inner_size)
            .wrapping_add(u64::from(kcol) * inner_size)
            .wrapping_add(inner.into())
    }
}

/// The commands of one LOOP_CONV_WS, in emission order: bias, weights, input, products, stores.
///
/// The three loads come in the arbiter's priority. Products wait for all loads of their loop, and stores for all its products.
#[derive(Clone, Debug)]
pub struct ConvCommands {
    params: Params,
    ld_bias: Option<LdBias>,
    ld_weights: Option<LdWeight>,
    ld_input: Option<LdInput>,
    ex: Option<Execute>,
    st: Option<Store>,
}

impl ConvCommands {
    fn new(params: Params, starts: Starts) -> Self {
        let slot = &params.slot;
        let (upad, lpad) = (slot.config_3.upad.into(), slot.config_3.lpad.into());
        let (first_row, first_col) = (-params.undilated(upad), -params.undilated(lpad));
        Self {
            ld_bias: (slot.config_6.bias != 0).then(|| LdBias::new(starts.bias)),
            ld_weights: (slot.config_5.weights != 0).then(|| LdWeight::new(starts.b_end)),
            ld_input: (slot.config_6.input != 0).then(|| LdInput::new(starts.a, first_row, first_col)),
            ex: Some(Execute::new(&params, starts)),
            st: (slot.config_5.output != 0).then(|| Store::new(&params, starts.st)),
            params,
        }
    }
}

impl Iterator for ConvCommands {
    type Item = Unrolled;

    fn next(&mut self) -> Option<Unrolled> {
        let p = &self.params;
        emit(&mut self.ld_bias, LoopUnit::LoadD, p, LdBias::next)
            .or_else(|| emit(&mut self.ld_weights, LoopUnit::LoadB, p, LdWeight::next))
            .or_else(|| emit(&mut self.ld_input, LoopUnit::LoadA, p, LdInput::next))
            .or_else(|| emit(&mut self.ex, LoopUnit::Execute, p, Execute::next))
            .or_else(|| emit(&mut self.st, LoopUnit::Store, p, Store::next))
    }
}

/// The unit's next command; it becomes idle after its last one.
fn emit<U>(
    unit: &mut Option<U>,
    name: LoopUnit,
    params: &Params,
    next: fn(&mut U, &Params) -> (Option<Command>, bool),
) -> Option<Unrolled> {
    let (command, more) = next(unit.as_mut()?, params);
    if !more {
        *unit = None;
    }
    command.map(|command| Unrolled { unit: name, command })
}

/// Which kind of command a load emits next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadState {
    Config,
    Load,
}

/// `LoopConvLdBias`: MVIN3 into the accumulator.
#[derive(Clone, Debug)]
struct LdBias {
    start: u64,
    state: LoadState,
    b: u16,
    orow: u16,
    ocol: u16,
    och: u16,
}

impl LdBias {
    fn new(start: u64) -> Self {
        Self { start, state: LoadState::Config, b: 0, orow: 0, ocol: 0, och: 0 }
    }

    fn next(&mut self, p: &Params) -> (Option<Command>, bool) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
            return (Some(p.geometry.config_ld(2, p.bias_spad_stride, 0, 1)), true);
        }
        let max_ochs = p.ochs.min(p.geometry.max_cols_acc);
        let ocols = p.slot.config_4.ocols;
        let rows = ocols.wrapping_sub(self.ocol).min(p.geometry.dim);
        let cols = p.ochs.wrapping_sub(self.och).min(max_ochs);
        let bias = p.slot.config_6.bias.wrapping_add(cast_dram_offset(u64::from(self.och) * p.geometry.acc_bytes));
        let dram = if p.run.no_bias { 0 } else { bias };
        let row = p.output_row(self.start, self.b, self.orow, self.ocol, self.och);
        let local = cast_to_acc_addr(p.geometry.layout, row, false, false);
        let command = Command::Mvin3(p.geometry.move_operands(dram, local, rows.into(), cols.into()));
        (Some(command), self.advance(p, max_ochs))
    }

    fn advance(&mut self, p: &Params, max_ochs: u16) -> bool {
        let (c2, c4) = (&p.slot.config_2, &p.slot.config_4);
        self.och = floor_add(self.och, max_ochs, p.ochs, true);
        let mut carry = self.och == 0;
        self.ocol = floor_add(self.ocol, p.geometry.dim, c4.ocols, carry);
        carry &= self.ocol == 0;
        self.orow = floor_add(self.orow, 1, c4.orows, carry);
        carry &= self.orow == 0;
        self.b = floor_add(self.b, 1, c2.batches, carry);
        !(carry && self.b == 0)
    }
}

/// `LoopConvLdWeight`: MVIN2 into the scratchpad.
#[derive(Clone, Debug)]
struct LdWeight {
    end: u64,
    state: LoadState,
    och: u16,
    krow: u16,
    kcol: u16,
    kch: u16,
}

impl LdWeight {
    fn new(end: u64) -> Self {
        Self { end, state: LoadState::Config, och: 0, krow: 0, kcol: 0, kch: 0 }
    }

    fn next(&mut self, p: &Params) -> (Option<Command>, bool) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
            let stride = self.dram_stride(p) * p.geometry.input_bytes;
            return (Some(p.geometry.config_ld(1, p.weight_spad_stride, stride, 1)), true);
        }
        let (kchs_left, ochs_left) = (p.kchs.wrapping_sub(self.kch), p.ochs.wrapping_sub(self.och));
        let (rows_left, cols_left, all_cols) =
            if p.run.trans_weight_0132 { (ochs_left, kchs_left, p.kchs) } else { (kchs_left, ochs_left, p.ochs) };
        let max_cols = all_cols.min(p.geometry.max_cols);
        let offset = self.dram_offset(p).wrapping_mul(p.geometry.input_bytes);
        let dram = p.slot.config_5.weights.wrapping_add(cast_dram_offset(offset));
        let row = p.weight_row(self.end, self.krow, self.kcol, self.kch, self.och);
        let local = cast_to_sp_addr(p.geometry.layout, row);
        let (rows, cols) = (rows_left.min(p.geometry.dim), cols_left.min(max_cols));
        let command = Command::Mvin2(p.geometry.move_operands(dram, local, rows.into(), cols.into()));
        (Some(command), self.advance(p, max_cols))
    }

    /// Elements from one row of weights in memory to the next.
    fn dram_stride(&self, p: &Params) -> u64 {
        let (c1, c2) = (&p.slot.config_1, &p.slot.config_2);
        if p.run.dw {
            1
        } else if p.run.trans_weight_1203 {
            u64::from(c2.kernel_dim) * u64::from(c2.kernel_dim) * u64::from(c1.out_channels)
        } else if p.run.trans_weight_0132 {
            c1.in_channels.into()
        } else {
            p.slot.config_4.weight_stride.into()
        }
    }

    /// Elements from the first weight to the current one.
    fn dram_offset(&self, p: &Params) -> u64 {
        let kernel_dim = u64::from(p.slot.config_2.kernel_dim);
        let (in_channels, out_channels) =
            (u64::from(p.slot.config_1.in_channels), u64::from(p.slot.config_1.out_channels));
        let (krow, kcol) = (u64::from(self.krow), u64::from(self.kcol));
        let (kch, och) = (u64::from(self.kch), u64::from(self.och));
        let tap = (krow * kernel_dim).wrapping_add(kcol);
        if p.run.dw {
            tap
        } else if p.run.trans_weight_1203 {
            (kch * kernel_dim).wrapping_mul(kernel_dim).wrapping_add(tap).wrapping_mul(out_channels).wrapping_add(och)
        } else if p.run.trans_weight_0132 {
            tap.wrapping_mul(out_channels).wrapping_add(och).wrapping_mul(in_channels).wrapping_add(kch)
        } else {
            let row = tap.wrapping_mul(in_channels).wrapping_add(kch);
            row.wrapping_mul(p.slot.config_4.weight_stride.into()).wrapping_add(och)
        }
    }

    fn advance(&mut self, p: &Params, max_cols: u16) -> bool {
        let dim = p.geometry.dim;
        let (och_step, kch_step) = if p.run.trans_weight_0132 { (dim, max_cols) } else { (max_cols, dim) };
        self.kch = floor_add(self.kch, kch_step, p.kchs, true);
        let mut carry = self.kch == 0;
        self.kcol = floor_add(self.kcol, 1, p.slot.config_3.kcols, carry);
        carry &= self.kcol == 0;
        self.krow = floor_add(self.krow, 1, p.slot.config_3.krows, carry);
        carry &= self.krow == 0;
        self.och = floor_add(self.och, och_step, p.ochs, carry);
        !(carry && self.och == 0)
    }
}

/// `LoopConvLdInput`: MVIN into the scratchpad, padding included (as loads of zeros).
#[derive(Clone, Debug)]
struct LdInput {
    start: u64,
    state: LoadState,
    first_row: i64,
    first_col: i64,
    b: i64,
    irow: i64,
    icol: i64,
    ich: i64,
}

/// `sFloorAdd` of `Util.scala`.
fn s_floor_add(s: i64, n: i64, max: i64, min: i64, enable: bool) -> i64 {
    match enable {
        true if s + n > max - 1 => min,
        true => s + n,
        false => s,
    }
}

impl LdInput {
    fn new(start: u64, first_row: i64, first_col: i64) -> Self {
        Self { start, state: LoadState::Config, first_row, first_col, b: 0, irow: first_row, icol: first_col, ich: 0 }
    }

    fn next(&mut self, p: &Params) -> (Option<Command>, bool) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
            let stride = if p.run.trans_input_3120 { p.slot.config_1.batch_size } else { p.slot.config_4.in_stride };
            let bytes = (u64::from(stride) * p.geometry.input_bytes) << u8::from(p.run.downsample);
            let config = p.geometry.config_ld(0, p.input_spad_stride, bytes, p.run.max_pixels_per_row);
            return (Some(config), true);
        }
        let pixels = self.pixels(p);
        let rows = pixels >> u8::from(p.run.downsample);
        let (left, max_cols) = self.channels(p);
        let (plane, image) = if p.run.trans_input_3120 { (self.b, self.ich) } else { (self.ich, self.b) };
        let (row, col) = (self.irow - self.first_row, self.icol - self.first_col);
        let row = p.input_row(self.start, plane as u64, image as u64, row, col);
        let local = cast_to_sp_addr(p.geometry.layout, row);
        let dram = self.dram(p);
        let command = Command::Mvin(p.geometry.move_operands(dram, local, rows as u64, left.min(max_cols) as u64));
        (Some(command), self.advance(p, pixels, max_cols))
    }

    /// Input pixels that the command covers (the hardware's `I`).
    fn pixels(&self, p: &Params) -> i64 {
        let dim = i64::from(p.geometry.dim);
        let unpadded = i64::from(p.icols_unpadded);
        if self.icol < 0 {
            (-self.icol).min(dim)
        } else if self.icol >= unpadded {
            (unpadded + p.undilated(p.slot.config_3.rpad.into()) - self.icol).min(dim)
        } else {
            (unpadded - self.icol).min(dim << u8::from(p.run.downsample))
        }
    }

    /// Elements of a row that are left, and the most that one command takes.
    fn channels(&self, p: &Params) -> (i64, i64) {
        let (all, at) = match p.run.trans_input_3120 {
            true => (p.slot.config_2.batches, self.b),
            false => (p.kchs, self.ich),
        };
        (i64::from(all) - at, all.min(p.geometry.max_cols).into())
    }

    fn dram(&self, p: &Params) -> u64 {
        let inside = (0..i64::from(p.irows_unpadded)).contains(&self.irow)
            && (0..i64::from(p.icols_unpadded)).contains(&self.icol);
        if !inside {
            return 0;
        }
        let (rows, cols) = (i64::from(p.slot.config_1.in_row_dim), i64::from(p.slot.in_col_dim));
        let pixel =
            |image: i64| (image * cols).wrapping_mul(rows).wrapping_add(self.irow * cols).wrapping_add(self.icol);
        let elements = match p.run.trans_input_3120 {
            true => pixel(self.ich).wrapping_mul(p.slot.config_2.batches.into()).wrapping_add(self.b),
            false => pixel(self.b).wrapping_mul(p.slot.config_4.in_stride.into()).wrapping_add(self.ich),
        };
        let offset = (elements as u64).wrapping_mul(p.geometry.input_bytes);
        p.slot.config_6.input.wrapping_add(cast_dram_offset(offset))
    }

    fn advance(&mut self, p: &Params, pixels: i64, max_cols: i64) -> bool {
        let c3 = &p.slot.config_3;
        let (b_step, ich_step) = if p.run.trans_input_3120 { (max_cols, 1) } else { (1, max_cols) };
        let col_end = i64::from(p.icols_unpadded) + p.undilated(c3.rpad.into());
        let row_end = i64::from(p.irows_unpadded) + p.undilated(c3.dpad.into());
        self.ich = s_floor_add(self.ich, ich_step, p.kchs.into(), 0, true);
        let mut carry = self.ich == 0;
        self.icol = s_floor_add(self.icol, pixels, col_end, self.first_col, carry);
        carry &= self.icol == self.first_col;
        self.irow = s_floor_add(self.irow, 1 << u8::from(p.run.downsample), row_end, self.first_row, carry);
        carry &= self.irow == self.first_row;
        self.b = s_floor_add(self.b, b_step, p.slot.config_2.batches.into(), 0, carry);
        !(carry && self.b == 0)
    }
}

/// `LoopConvExecute`.
#[derive(Clone, Debug)]
struct Execute {
    a_start: u64,
    b_end: u64,
    c_start: u64,
    state: ExecuteState,
    new_weights: bool,
    och: u16,
    krow: u16,
    kcol: u16,
    kch: u16,
    b: u16,
    orow: u16,
    ocol: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExecuteState {
    Config,
    Preload,
    Compute,
}

impl Execute {
    fn new(p: &Params, starts: Starts) -> Self {
        Self {
            a_start: starts.a,
            b_end: starts.b_end,
            c_start: starts.c,
            state: if p.run.trans_input_3120 { ExecuteState::Config } else { ExecuteState::Preload },
            new_weights: true,
            och: 0,
            krow: 0,
            kcol: 0,
            kch: 0,
            b: 0,
            orow: 0,
            ocol: 0,
        }
    }

    fn next(&mut self, p: &Params) -> (Option<Command>, bool) {
        if self.state == ExecuteState::Config {
            self.state = ExecuteState::Preload;
            return (Some(Self::config_ex(p)), true);
        }
        while self.skip_iteration(p) {
            if !self.advance(p, 1) {
                return (None, false);
            }
        }
        if self.state == ExecuteState::Preload {
            self.state = ExecuteState::Compute;
            return (Some(self.preload(p)), true);
        }
        let command = self.compute(p);
        self.state = ExecuteState::Preload;
        self.new_weights = false;
        let step = if p.run.trans_input_3120 { 1 } else { p.geometry.dim << u8::from(p.run.input_dilated) };
        (Some(command), self.advance(p, step))
    }

    /// With a dilated input, products of which every input is one of the zeros between the pixels.
    fn skip_iteration(&self, p: &Params) -> bool {
        let (c3, dilation) = (&p.slot.config_3, p.slot.config_4.kernel_dilation);
        let odd = |k: u16, o: u16, pad: u16| k.wrapping_mul(dilation).wrapping_add(o).wrapping_sub(pad) & 1 != 0;
        p.run.input_dilated && (odd(self.krow, self.orow, c3.upad) || odd(self.kcol, self.ocol, c3.lpad))
    }

    /// Strides that walk the images: neighbouring rows of A and C are neighbouring images.
    fn config_ex(p: &Params) -> Command {
        let c4 = &p.slot.config_4;
        Command::ConfigEx(ConfigEx {
            dataflow: DataflowMode::Os,
            activation: Activation::None,
            set_only_strides: true,
            a_transpose: false,
            b_transpose: false,
            a_stride: p.irows.wrapping_mul(p.icols) & p.geometry.a_stride_mask,
            acc_scale: Scale(0),
            in_shift: 0,
            relu6_shift: 0,
            c_stride: c4.orows.wrapping_mul(c4.ocols) & p.geometry.a_stride_mask,
        })
    }

    /// Rows of A and C (`I`), columns of B and C (`J`), inner dimension (`K`).
    fn extents(&self, p: &Params) -> [u16; 3] {
        let (dim, dil) = (p.geometry.dim, u8::from(p.run.input_dilated));
        let i = match p.run.trans_input_3120 {
            true => p.slot.config_2.batches.wrapping_sub(self.b).min(dim),
            false => {
                let ocols = p.slot.config_4.ocols.wrapping_sub(self.ocol).min(dim << dil);
                p.undilated(ocols.into()) as u16
            }
        };
        let j = p.ochs.wrapping_sub(self.och).min(dim);
        let pixels = p.slot.config_3.kcols.wrapping_sub(self.kcol).min(p.run.max_pixels_per_row.into());
        let k = pixels.wrapping_mul(p.kchs.wrapping_sub(self.kch).min(dim));
        [i, j, k].map(|extent| extent & p.geometry.rows_mask)
    }

    fn preload(&self, p: &Params) -> Command {
        let [i, j, k] = self.extents(p);
        let layout = p.geometry.layout;
        let c3 = &p.slot.config_3;
        let rotated = |at: u16, count: u16| match p.run.wrot180 {
            true => count.wrapping_sub(at).wrapping_sub(1),
            false => at,
        };
        let (krow, kcol) = (rotated(self.krow, c3.krows), rotated(self.kcol, c3.kcols));
        let weights = p.weight_row(self.b_end, krow, kcol, self.kch, self.och);
        let c = p.output_row(self.c_start, self.b, self.orow, self.ocol, self.och);
        Command::Preload(Preload {
            d: if self.new_weights { cast_to_sp_addr(layout, weights) } else { garbage_addr(layout) },
            d_cols: j,
            d_rows: k,
            c: cast_to_acc_addr(layout, c, true, false),
            c_cols: j,
            c_rows: i,
        })
    }

    fn compute(&self, p: &Params) -> Command {
        let [i, j, k] = self.extents(p);
        let (stride, dilation) = (i64::from(p.slot.config_1.stride), i64::from(p.slot.config_4.kernel_dilation));
        let pixel = |o: u16, kernel: u16| p.undilated(i64::from(o) * stride + i64::from(kernel) * dilation);
        let (plane, image) = if p.run.trans_input_3120 { (self.b, self.kch) } else { (self.kch, self.b) };
        let (irow, icol) = (pixel(self.orow, self.krow), pixel(self.ocol, self.kcol));
        let a = p.input_row(self.a_start, plane.into(), image.into(), irow, icol);
        let operands = Compute {
            a: cast_to_sp_addr(p.geometry.layout, a),
            a_cols: k,
            a_rows: i,
            bd: garbage_addr(p.geometry.layout),
            bd_cols: j,
            bd_rows: i,
        };
        if self.new_weights { Command::ComputePreloaded(operands) } else { Command::ComputeAccumulated(operands) }
    }

    fn advance(&mut self, p: &Params, ocol_step: u16) -> bool {
        let dim = p.geometry.dim;
        let (c2, c3, c4) = (&p.slot.config_2, &p.slot.config_3, &p.slot.config_4);
        let b_step = if p.run.trans_input_3120 { dim } else { 1 };
        self.ocol = floor_add(self.ocol, ocol_step, c4.ocols, true);
        let mut carry = self.ocol == 0;
        self.orow = floor_add(self.orow, 1, c4.orows, carry);
        carry &= self.orow == 0;
        self.b = floor_add(self.b, b_step, c2.batches, carry);
        carry &= self.b == 0;
        self.new_weights |= carry;
        self.kch = floor_add(self.kch, dim, p.kchs, carry);
        carry &= self.kch == 0;
        self.kcol = floor_add(self.kcol, p.run.max_pixels_per_row.into(), c3.kcols, carry);
        carry &= self.kcol == 0;
        self.krow = floor_add(self.krow, 1, c3.krows, carry);
        carry &= self.krow == 0;
        self.och = floor_add(self.och, dim, p.ochs, carry);
        !(carry && self.och == 0)
    }
}

/// `LoopConvSt`.
#[derive(Clone, Debug)]
struct Store {
    start: u64,
    state: StoreState,
    b: u16,
    orow: u16,
    ocol: u16,
    och: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreState {
    Store,
    PrePoolConfig,
    Pool,
    PostPoolConfig,
}

impl Store {
    fn new(p: &Params, start: u64) -> Self {
        let state = if p.run.no_pool { StoreState::Store } else { StoreState::PrePoolConfig };
        Self { start, state, b: 0, orow: 0, ocol: 0, och: 0 }
    }

    fn next(&mut self, p: &Params) -> (Option<Command>, bool) {
        let (command, more) = match self.state {
            StoreState::Store => (self.mvout(p), self.advance_pixels(p)),
            StoreState::PrePoolConfig => {
                self.state = StoreState::Pool;
                (Command::ConfigSt(Self::config_st(p, true)), true)
            }
            StoreState::Pool => {
                let command = self.pool_mvout(p);
                if !self.advance_images(p) {
                    self.state = StoreState::PostPoolConfig;
                }
                (command, true)
            }
            StoreState::PostPoolConfig => (Command::ConfigSt(Self::config_st(p, false)), false),
        };
        (Some(command), more)
    }

    fn config_st(p: &Params, pool: bool) -> ConfigSt {
        let (c2, c3, c4) = (&p.slot.config_2, &p.slot.config_3, &p.slot.config_4);
        let off = ConfigSt {
            activation: Activation::from_bits(p.run.activation.to_bits() & 3),
            pool_stride: 0,
            pool_size: 0,
            upad: 0,
            lpad: 0,
            pool_out_dim: 0,
            porows: 0,
            pocols: 0,
            orows: 0,
            ocols: 0,
            stride: u32::from(c4.out_stride) * p.geometry.input_bytes as u32,
            acc_scale: Scale::KEEP,
        };
        if !pool {
            return off;
        }
        // The bundle's fields are narrower than the loop's registers: two bits for pads, size and stride, eight for the rest.
        ConfigSt {
            pool_stride: c2.pool_stride & 3,
            pool_size: c2.pool_size as u8 & 3,
            upad: c4.pupad as u8 & 3,
            lpad: c3.plpad & 3,
            pool_out_dim: c2.pool_out_col_dim as u8,
            porows: c2.porows as u8,
            pocols: c2.pocols as u8,
            orows: c4.orows as u8,
            ocols: c4.ocols as u8,
            ..off
        }
    }

    fn mvout(&self, p: &Params) -> Command {
        let (c1, c4) = (&p.slot.config_1, &p.slot.config_4);
        let rows = c4.ocols.wrapping_sub(self.ocol).min(p.geometry.dim);
        let cols = p.ochs.wrapping_sub(self.och).min(p.geometry.dim);
        let (b, orow, ocol) = (u64::from(self.b), u64::from(self.orow), u64::from(self.ocol));
        let (out_rows, out_cols) = (u64::from(c1.out_row_dim), u64::from(c1.out_col_dim));
        let elements = match p.run.trans_output_1203 {
            true => {
                let batch_size = u64::from(c1.batch_size);
                let pixel = (orow * out_cols).wrapping_mul(batch_size).wrapping_add(ocol * batch_size).wrapping_add(b);
                pixel.wrapping_mul(c1.out_channels.into())
            }
            false => {
                let pixel = (b * out_rows).wrapping_mul(out_cols).wrapping_add(orow * out_cols).wrapping_add(ocol);
                pixel.wrapping_mul(c4.out_stride.into())
            }
        };
        let offset = elements.wrapping_add(self.och.into()).wrapping_mul(p.geometry.input_bytes);
        let dram = p.slot.config_5.output.wrapping_add(cast_dram_offset(offset));
        let row = p.output_row(self.start, self.b, self.orow, self.ocol, self.och);
        let local = cast_to_acc_addr(p.geometry.layout, row, false, false);
        Command::Mvout(p.geometry.move_operands(dram, local, rows.into(), cols.into()))
    }

    /// One image of a block of channels, pooled by the store controller.
    fn pool_mvout(&self, p: &Params) -> Command {
        let (c1, c2) = (&p.slot.config_1, &p.slot.config_2);
        let cols = p.ochs.wrapping_sub(self.och).min(p.geometry.dim);
        let image = u64::from(c2.pool_out_col_dim) * u64::from(c1.pool_out_row_dim);
        let pixels = u64::from(self.b).wrapping_mul(image).wrapping_mul(p.slot.config_4.out_stride.into());
        let offset = pixels.wrapping_add(self.och.into()).wrapping_mul(p.geometry.input_bytes);
        // Not cut to 32 bits, unlike every other offset.
        let dram = p.slot.config_5.output.wrapping_add(offset);
        let row = p.output_row(self.start, self.b, 0, 0, self.och);
        let local = cast_to_acc_addr(p.geometry.layout, row, false, false);
        Command::Mvout(p.geometry.move_operands(dram, local, 0, cols.into()))
    }

    fn advance_pixels(&mut self, p: &Params) -> bool {
        let (c2, c4) = (&p.slot.config_2, &p.slot.config_4);
        self.och = floor_add(self.och, p.geometry.dim, p.ochs, true);
        let mut carry = self.och == 0;
        self.ocol = floor_add(self.ocol, p.geometry.dim, c4.ocols, carry);
        carry &= self.ocol == 0;
        self.orow = floor_add(self.orow, 1, c4.orows, carry);
        carry &= self.orow == 0;
        self.b = floor_add(self.b, 1, c2.batches, carry);
        !(carry && self.b == 0)
    }

    fn advance_images(&mut self, p: &Params) -> bool {
        self.och = floor_add(self.och, p.geometry.dim, p.ochs, true);
        self.b = floor_add(self.b, 1, p.slot.config_2.batches, self.och == 0);
        (self.och, self.b) != (0, 0)
    }
}
