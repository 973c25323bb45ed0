//! The store part (`LoopConvSt` in `LoopConv.scala`).

use std::num::Wrapping;

use pollux_isa::fields::ConfigSt;
use pollux_isa::values::Scale;
use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at, floor_add};
use crate::front_end::loop_conv::request::{OutputPosition, Request, rest};
use crate::front_end::loop_conv::settings::{Settings, w};
use crate::parts::canonical::Canonical;

/// An accumulator scale of all ones keeps the one before (`StoreController.scala`).
const ACC_SCALE_NO_CHANGE: Scale = Scale(u32::MAX);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum StoreState {
    #[default]
    Idle,
    Store,
    PrePoolConfig,
    Pool,
    PostPoolConfig,
}

/// The store part (`LoopConvSt`).
#[derive(Clone, Debug, Canonical)]
pub(super) struct Store {
    pub state: StoreState,
    pub req: Request,
    pub at: OutputPosition,
}

impl Store {
    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        match self.state {
            StoreState::PrePoolConfig => Command::ConfigSt(self.pooling(geometry)).to_rocc(),
            StoreState::PostPoolConfig => Command::ConfigSt(self.config(geometry)).to_rocc(),
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
        let dram = dram_at(self.req.dram_addr, (element * w(geometry.input_bytes)).0);
        Command::Mvout(geometry.moved(dram, rows, cols, local)).to_rocc()
    }

    /// Stores a pooled image. Its offset is not cut to 32 bits.
    fn pooled_mvout(&self, geometry: &Geometry) -> RoccCommand {
        let Settings { c1, c2, c4, .. } = &self.req.settings;
        let wide = |x: u16| Wrapping(u64::from(x));
        let OutputPosition { b, och, .. } = self.at;
        let image = wide(b) * wide(c2.pool_out_col_dim) * wide(c1.pool_out_row_dim);
        let offset = (image * wide(c4.out_stride) + wide(och)) * Wrapping(u64::from(geometry.input_bytes));
        let local = self.req.output_row(geometry.dim, OutputPosition { b, och, orow: 0, ocol: 0 });
        let dram = (Wrapping(self.req.dram_addr) + offset).0;
        let (cols, local) = (rest(c2.pochs, och, geometry.dim), geometry.acc_addr(local, false, false));
        Command::Mvout(geometry.moved(dram, 0, cols, local)).to_rocc()
    }

    /// CONFIG_ST without pooling; the accumulator scale stays.
    fn config(&self, geometry: &Geometry) -> ConfigSt {
        let Settings { c4, run, .. } = &self.req.settings;
        ConfigSt {
            activation: run.activation,
            pool_stride: 0,
            pool_size: 0,
            upad: 0,
            lpad: 0,
            pool_out_dim: 0,
            porows: 0,
            pocols: 0,
            orows: 0,
            ocols: 0,
            stride: u32::from(c4.out_stride) * geometry.input_bytes,
            acc_scale: ACC_SCALE_NO_CHANGE,
        }
    }

    /// CONFIG_ST with pooling. The encoding cuts each field to its width.
    fn pooling(&self, geometry: &Geometry) -> ConfigSt {
        let Settings { c2, c3, c4, .. } = &self.req.settings;
        ConfigSt {
            pool_stride: c2.pool_stride,
            pool_size: c2.pool_size as u8,
            upad: c4.pupad as u8,
            lpad: c3.plpad,
            pool_out_dim: c2.pool_out_col_dim as u8,
            porows: c2.porows as u8,
            pocols: c2.pocols as u8,
            orows: c4.orows as u8,
            ocols: c4.ocols as u8,
            ..self.config(geometry)
        }
    }

    pub(super) fn advance(&mut self, geometry: &Geometry) {
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
