//! The load of the weights (`LoopConvLdWeight` in `LoopConv.scala`).

use pollux_isa::fields::LoopConvWs;
use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at, floor_add};
use crate::front_end::loop_conv::load::{LoadState, config_ld};
use crate::front_end::loop_conv::request::{KernelPosition, Request, rest};
use crate::front_end::loop_conv::settings::{Settings, w};
use crate::parts::canonical::Canonical;

/// The load of the weights (`LoopConvLdWeight`).
#[derive(Clone, Debug, Canonical)]
pub(super) struct LoadWeights {
    pub state: LoadState,
    pub req: Request,
    pub at: KernelPosition,
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

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
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
        let dram = dram_at(self.req.dram_addr, self.dram_offset(geometry));
        Command::Mvin2(geometry.moved(dram, rows, cols, local)).to_rocc()
    }

    pub(super) fn advance(&mut self, geometry: &Geometry) {
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
