//! A request to a part, and the local rows of pixels and weights (`LoopConv.scala`).

use pollux_isa::GemminiConfig;

use crate::front_end::geometry::floor_add;
use crate::front_end::loop_conv::settings::{Derived, Settings, W, w};
use crate::front_end::unroller::LoopId;
use crate::parts::canonical::Canonical;

/// A request to a part: the loop's settings as they were when the part accepted it.
#[derive(Clone, Copy, Debug, Canonical)]
pub(super) struct Request {
    pub settings: Settings,
    pub derived: Derived,
    #[canon(address)]
    pub dram_addr: u64,
    /// First accumulator row (bias, execute, store).
    pub acc_start: u32,
    /// First scratchpad row of the input.
    pub a_start: u32,
    /// Scratchpad row after the last of the weights.
    pub b_end: u32,
    pub loop_id: LoopId,
}

impl Request {
    pub(super) fn new(config: &GemminiConfig, dim: u32) -> Self {
        let settings = Settings::new(config);
        let derived = settings.derive(dim);
        Self { settings, derived, dram_addr: 0, acc_start: 0, a_start: 0, b_end: 0, loop_id: 0 }
    }

    /// Accumulator row of an output pixel.
    pub(super) fn output_row(&self, dim: u32, at: OutputPosition) -> u32 {
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
    pub(super) fn input_row(&self, dim: u32, b: u16, irow: u32, icol: u32, ich: u16) -> u32 {
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
    pub(super) fn weight_row(&self, dim: u32, at: KernelPosition) -> u32 {
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

#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(super) struct OutputPosition {
    pub b: u16,
    pub orow: u16,
    pub ocol: u16,
    pub och: u16,
}

#[derive(Clone, Copy, Debug, Default, Canonical)]
pub(super) struct KernelPosition {
    pub krow: u16,
    pub kcol: u16,
    pub kch: u16,
    pub och: u16,
}

impl OutputPosition {
    /// Next block of output pixels: channels fastest, then columns, rows, images. True after the last one.
    pub(super) fn advance(&mut self, settings: &Settings, ochs: u16, ocols: u16) -> bool {
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

/// What is left of `max` from `at` on, at most `limit`.
pub(super) fn rest(max: u16, at: u16, limit: u32) -> u32 {
    u32::from(max.wrapping_sub(at)).min(limit)
}
