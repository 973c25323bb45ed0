//! MVIN, MVIN2, MVIN3 and CONFIG_LD: `LoadController.scala` and the way of the data into the local memories
//! (`DMA.scala`, `ZeroWriter.scala`, `VectorScalarMultiplier.scala`, `PixelRepeater.scala`).

use pollux_isa::config::{LOAD_STATES, ScaleUnits};
use pollux_isa::fields::{ConfigLd, MoveOperands};
use pollux_isa::values::Scale;
use pollux_isa::{GemminiConfig, LocalAddr};
use pollux_numerics::{acc_scale, mvin_scale_row};

use crate::machine::{DRAM_MASK, Machine};
use crate::policy::ExecError;

/// The registers of one channel. They have no reset value in hardware; the golden bench starts them at 0.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    stride: u64,
    scale: Scale,
    shrink: bool,
    block_stride: u32,
    pixel_repeat: u32,
}

/// The load controller's state.
#[derive(Clone, Debug)]
pub(crate) struct LoadController {
    channels: [Channel; LOAD_STATES],
    dim: usize,
    input_bytes: usize,
    acc_bytes: usize,
    has_mvin_scale: bool,
    mvin_scale_acc: Option<ScaleUnits>,
    has_pixel_repeater: bool,
    /// Up to DIM rows from memory: bytes.
    bytes: Vec<u8>,
    /// The same rows as scratchpad elements, scaled.
    elements: Vec<i8>,
}

/// How a row of main memory becomes local rows.
#[derive(Clone, Copy)]
struct Destination {
    /// First local row of this row of memory.
    local: LocalAddr,
    block_stride: u32,
    cols: usize,
    pixel_repeats: u32,
}

impl LoadController {
    pub(crate) fn new(config: &GemminiConfig) -> Self {
        Self {
            channels: [Channel::default(); LOAD_STATES],
            dim: config.dim() as usize,
            input_bytes: config.input_type.bytes() as usize,
            acc_bytes: config.acc_type.bytes() as usize,
            has_mvin_scale: config.mvin_scale_args.is_some(),
            mvin_scale_acc: config.mvin_scale_acc_args.map(|args| args.units),
            has_pixel_repeater: config.has_first_layer_optimizations,
            bytes: Vec::new(),
            elements: Vec::new(),
        }
    }

    pub(crate) fn config(&mut self, f: &ConfigLd) {
        // State 3 has no registers.
        if let Some(channel) = self.channels.get_mut(usize::from(f.state_id)) {
            *channel = Channel {
                stride: f.stride,
                scale: f.scale,
                shrink: f.shrink,
                block_stride: f.block_stride.into(),
                pixel_repeat: f.repeats().into(),
            };
        }
    }

    pub(crate) fn mvin(&mut self, m: &mut Machine, channel: usize, f: &MoveOperands) -> Result<(), ExecError> {
        let state = self.channels[channel];
        let (rows, cols) = (u32::from(f.rows), usize::from(f.cols));
        if rows == 0 || cols == 0 {
            return Ok(());
        }
        let acc_width = f.local.is_acc() && !state.shrink;
        let row_bytes = cols * if acc_width { self.acc_bytes } else { self.input_bytes };
        // With stride 0 one row is fetched and repeated, as nothing is fetched for zeros.
        let repeats = f.dram == 0 || state.stride == 0;
        for first in (0..rows).step_by(self.dim) {
            let count = (rows - first).min(self.dim as u32);
            if first == 0 || !repeats {
                self.fetch(m, state.stride, f.dram, first, if repeats { 1 } else { count }, row_bytes);
                if !acc_width {
                    self.scale_rows(state.scale);
                }
            }
            let local = f.local.add(m.layout, first);
            if !repeats && !f.local.is_acc() && self.write_blocks(m, &state, local, count, cols) {
                continue;
            }
            for row in 0..count {
                let destination = Destination {
                    local: local.add(m.layout, row),
                    block_stride: state.block_stride,
                    cols,
                    pixel_repeats: self.pixel_repeats(&state),
                };
                let row = if repeats { 0 } else { row as usize };
                match (f.local.is_acc(), acc_width) {
                    (true, true) => {
                        self.write_wide(m, destination, state.scale, &self.bytes[row * row_bytes..][..row_bytes])
                    }
                    (true, false) => self.write_shrunk(m, destination, &self.elements[row * cols..][..cols]),
                    (false, _) => self.write_scratchpad(m, destination, &self.elements[row * cols..][..cols]),
                }
            }
        }
        Ok(())
    }

    fn pixel_repeats(&self, state: &Channel) -> u32 {
        if self.has_pixel_repeater { state.pixel_repeat.max(1) } else { 1 }
    }

    /// Rows of main memory, one after the other before any is looked at: they lie far apart, and the processor fetches some at once.
    fn fetch(&mut self, m: &mut Machine, stride: u64, dram: u64, first: u32, count: u32, row_bytes: usize) {
        self.bytes.clear();
        self.bytes.resize(count as usize * row_bytes, 0);
        if dram == 0 {
            return;
        }
        for (row, bytes) in (u64::from(first)..).zip(self.bytes.chunks_exact_mut(row_bytes)) {
            m.read_dram(dram.wrapping_add(stride.wrapping_mul(row)) & DRAM_MASK, bytes);
        }
        m.counts.bytes_in += self.bytes.len() as u64;
    }

    /// Writes the fetched rows block by block, each to rows of the scratchpad that follow each other. Returns whether that is what row
    /// by row would give: if blocks overlap, the later row wins.
    fn write_blocks(&self, m: &mut Machine, state: &Channel, local: LocalAddr, count: u32, cols: usize) -> bool {
        let blocks = cols.div_ceil(self.dim) as u32;
        if self.pixel_repeats(state) != 1 || blocks > 1 && state.block_stride < count {
            return false;
        }
        // Behind the last row the first one follows: not here.
        let first = local.full_sp_addr(m.layout);
        let end = u64::from(first) + u64::from(blocks - 1) * u64::from(state.block_stride) + u64::from(count);
        if end > u64::from(m.layout.sp_rows) {
            return false;
        }
        for block in 0..blocks {
            let at = block as usize * self.dim;
            let Some(to) = m.scratchpad.rows_mut((first + block * state.block_stride) as usize, count as usize) else {
                return false;
            };
            copy_block(self.dim, &self.elements[at..], cols, self.dim.min(cols - at), to);
        }
        true
    }

    /// The narrow path's scaling, to the scratchpad's element type.
    fn scale_rows(&mut self, scale: Scale) {
        self.elements.clear();
        self.elements.extend(self.bytes.iter().map(|&byte| byte as i8));
        if self.has_mvin_scale && scale != Scale::IDENTITY {
            mvin_scale_row(&mut self.elements, scale.0);
        }
    }

    fn write_scratchpad(&self, m: &mut Machine, to: Destination, elements: &[i8]) {
        for (block, elements) in elements.chunks(self.dim).enumerate() {
            let local = to.local.add(m.layout, to.block_stride.wrapping_mul(block as u32));
            if to.pixel_repeats == 1 {
                let row = local.full_sp_addr(m.layout) as usize;
                m.scratchpad.row_mut(row)[..elements.len()].copy_from_slice(elements);
            } else {
                self.repeat_pixel(m, local, elements, to);
            }
        }
    }

    /// `PixelRepeater.scala`: copy `k` sits `k` rows lower and `k * cols` elements further right. Copies below row 0, or below the
    /// second half of the scratchpad when the row is in it, are dropped.
    fn repeat_pixel(&self, m: &mut Machine, local: LocalAddr, elements: &[i8], to: Destination) {
        let half = m.layout.sp_rows / 2;
        let floor = if local.full_sp_addr(m.layout) < half { 0 } else { half };
        for k in (0..to.pixel_repeats).rev() {
            let (row, underflow) = local.floor_sub(m.layout, k, floor);
            if underflow {
                continue;
            }
            // The shift has only as many bits as it takes to count DIM / 2.
            let shift = k as usize * to.cols % self.dim;
            let row = m.scratchpad.row_mut(row.full_sp_addr(m.layout) as usize);
            for (to, from) in row[shift..].iter_mut().zip(elements) {
                *to = *from;
            }
        }
    }

    fn write_shrunk(&self, m: &mut Machine, to: Destination, elements: &[i8]) {
        for (block, elements) in elements.chunks(self.dim).enumerate() {
            let local = to.local.add(m.layout, to.block_stride.wrapping_mul(block as u32));
            m.write_accumulator(local, elements.iter().map(|&x| i32::from(x)));
        }
    }

    fn write_wide(&self, m: &mut Machine, to: Destination, scale: Scale, bytes: &[u8]) {
        // Shared multipliers let rows with the identity pass (`VectorScalarMultiplier.scala`); one a column multiplies them,
        // too, which rounds large elements to a float.
        let scaled = |x: i32| match self.mvin_scale_acc {
            Some(ScaleUnits::PerColumn) => acc_scale(x, scale.0),
            Some(ScaleUnits::Count(_)) if scale != Scale::IDENTITY => acc_scale(x, scale.0),
            _ => x,
        };
        for (block, bytes) in bytes.chunks(self.dim * self.acc_bytes).enumerate() {
            let local = to.local.add(m.layout, to.block_stride.wrapping_mul(block as u32));
            let (elements, _) = bytes.as_chunks::<4>();
            m.write_accumulator(local, elements.iter().map(|&x| scaled(i32::from_le_bytes(x))));
        }
    }
}

/// Copies `cols` elements from rows of `pitch` elements to rows of `dim`.
fn copy_block(dim: usize, from: &[i8], pitch: usize, cols: usize, to: &mut [i8]) {
    // With the width known a whole row is one move.
    match dim {
        8 if cols == dim => copy_rows::<8>(from, pitch, to),
        16 if cols == dim => copy_rows::<16>(from, pitch, to),
        32 if cols == dim => copy_rows::<32>(from, pitch, to),
        _ => {
            for (to, from) in to.chunks_exact_mut(dim).zip(from.chunks(pitch)) {
                to[..cols].copy_from_slice(&from[..cols]);
            }
        }
    }
}

/// [`copy_block`] for whole rows of `N` elements.
fn copy_rows<const N: usize>(from: &[i8], pitch: usize, to: &mut [i8]) {
    for (to, from) in to.as_chunks_mut::<N>().0.iter_mut().zip(from.chunks(pitch)) {
        to.copy_from_slice(&from[..N]);
    }
}
