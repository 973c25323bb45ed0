//! What the configuration commands set, and what follows from it (`LoopConvOuterBounds`, `LoopConvInnerBounds`,
//! `LoopConvDerivedParams` in `LoopConv.scala`).

use std::num::Wrapping;

use pollux_isa::GemminiConfig;
use pollux_isa::fields::{LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvWs};

use crate::parts::canonical::Canonical;

/// Address arithmetic, modulo 2^32: offsets are cut to 32 bits, and so are local addresses.
pub(super) type W = Wrapping<u32>;

pub(super) fn w(x: impl Into<u32>) -> W {
    Wrapping(x.into())
}

/// Registers that the configuration commands wrote last.
#[derive(Clone, Copy, Debug, Canonical)]
pub(super) struct Settings {
    pub c1: LoopConvConfig1,
    pub c2: LoopConvConfig2,
    pub c3: LoopConvConfig3,
    pub c4: LoopConvConfig4,
    pub run: LoopConvWs,
}

/// What follows from the settings (`LoopConvDerivedParams`), each value cut to 16 bits.
#[derive(Clone, Copy, Debug, Canonical)]
pub(super) struct Derived {
    pub irows: u16,
    pub icols: u16,
    pub irows_unpadded: u16,
    pub icols_unpadded: u16,
    /// Blocks of output channels (`out_channels_per_bank`).
    pub och_blocks: u16,
    /// Blocks of input channels (`in_channels_per_bank`).
    pub kch_blocks: u16,
    pub bias_spad_stride: u16,
    pub input_spad_stride: u16,
    pub weight_spad_stride: u16,
}

impl Settings {
    pub(super) fn new(config: &GemminiConfig) -> Self {
        Self {
            c1: LoopConvConfig1::from_regs(config, 0, 0),
            c2: LoopConvConfig2::from_regs(config, 0, 0),
            c3: LoopConvConfig3::from_regs(config, 0, 0),
            c4: LoopConvConfig4::from_regs(config, 0, 0),
            run: LoopConvWs::from_regs(config, 0, 0),
        }
    }

    /// Size in a dilated input, where only every other pixel exists.
    pub(super) fn undilated(&self, x: u32) -> u32 {
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

    pub(super) fn derive(&self, dim: u32) -> Derived {
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
