//! The load of the bias (`LoopConvLdBias` in `LoopConv.scala`).

use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at};
use crate::front_end::loop_conv::load::{LoadState, config_ld};
use crate::front_end::loop_conv::request::{OutputPosition, Request, rest};
use crate::front_end::loop_conv::settings::{Settings, w};
use crate::parts::canonical::Canonical;

/// The load of the bias, or of zeros in its place (`LoopConvLdBias`).
#[derive(Clone, Debug, Canonical)]
pub(super) struct LoadBias {
    pub state: LoadState,
    pub req: Request,
    pub at: OutputPosition,
}

impl LoadBias {
    fn max_ochs(&self, geometry: &Geometry) -> u32 {
        u32::from(self.req.settings.c2.pochs).min(u32::from(geometry.max_block_len_acc) * geometry.dim)
    }

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c2, c4, run, .. } = &self.req.settings;
        if self.state == LoadState::Config {
            return config_ld(geometry, 2, self.req.derived.bias_spad_stride, 1, 0);
        }
        let offset = w(self.at.och) * w(geometry.acc_bytes);
        let rows = rest(c4.ocols, self.at.ocol, geometry.dim);
        let cols = rest(c2.pochs, self.at.och, self.max_ochs(geometry));
        let local = geometry.acc_addr(self.req.output_row(geometry.dim, self.at), false, false);
        let dram = if run.no_bias { 0 } else { dram_at(self.req.dram_addr, offset.0) };
        Command::Mvin3(geometry.moved(dram, rows, cols, local)).to_rocc()
    }

    pub(super) fn advance(&mut self, geometry: &Geometry) {
        if self.state == LoadState::Config {
            self.state = LoadState::Load;
        } else if self.at.advance(&self.req.settings, self.max_ochs(geometry) as u16, geometry.dim as u16) {
            self.state = LoadState::Idle;
        }
    }
}
