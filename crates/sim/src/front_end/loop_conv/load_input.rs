//! The load of the input (`LoopConvLdInput` in `LoopConv.scala`).

use std::num::Wrapping;

use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at};
use crate::front_end::loop_conv::load::{LoadState, config_ld};
use crate::front_end::loop_conv::request::Request;
use crate::front_end::loop_conv::settings::{Settings, w};
use crate::parts::canonical::Canonical;

/// The load of the input (`LoopConvLdInput`). Rows and columns start in the padding, at negative positions.
#[derive(Clone, Debug, Canonical)]
pub(super) struct LoadInput {
    pub state: LoadState,
    pub req: Request,
    pub b: i16,
    pub irow: i16,
    pub icol: i16,
    pub ich: i16,
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

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
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
        let dram = if self.is_zeros() { 0 } else { dram_at(self.req.dram_addr, self.dram_offset(geometry)) };
        Command::Mvin(geometry.moved(dram, rows as u32, cols as u32, geometry.spad_addr(local))).to_rocc()
    }

    pub(super) fn advance(&mut self, geometry: &Geometry) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_floor_add_returns_to_the_padding() {
        assert_eq!(signed_floor_add(-1, 1, 4, -1, true), 0);
        assert_eq!(signed_floor_add(3, 1, 4, -1, true), -1);
        assert_eq!(signed_floor_add(3, 1, 4, -1, false), 3);
    }
}
