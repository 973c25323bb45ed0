//! The execute part (`LoopConvExecute` in `LoopConv.scala`).

use pollux_isa::fields::ConfigEx;
use pollux_isa::values::{Activation, DataflowMode, Scale};
use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, floor_add};
use crate::front_end::loop_conv::request::{KernelPosition, OutputPosition, Request, rest};
use crate::front_end::loop_conv::settings::{Derived, Settings, w};
use crate::parts::canonical::Canonical;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum ExecuteState {
    #[default]
    Idle,
    /// Set the strides for the transposed input layout.
    Config,
    Preload,
    Compute,
}

/// The execute part (`LoopConvExecute`).
#[derive(Clone, Debug, Canonical)]
pub(super) struct Execute {
    pub state: ExecuteState,
    pub req: Request,
    pub kernel: KernelPosition,
    pub b: u16,
    pub orow: u16,
    pub ocol: u16,
    /// The next PRELOAD brings weights that are not in the array yet.
    pub new_weights: bool,
}

impl Execute {
    /// With a dilated input, positions where the kernel meets only the zeros between the pixels are left out.
    pub(super) fn skips_iteration(&self) -> bool {
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

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        let (rows, cols, inner) = self.extents(geometry.dim);
        match self.state {
            ExecuteState::Preload => {
                let b = if self.new_weights { self.weights(geometry) } else { geometry.garbage() };
                let at = OutputPosition { b: self.b, orow: self.orow, ocol: self.ocol, och: self.kernel.och };
                let c = geometry.acc_addr(self.req.output_row(geometry.dim, at), true, false);
                Command::Preload(geometry.preload((inner, cols, b), (rows, cols, c))).to_rocc()
            }
            ExecuteState::Compute => {
                let command = if self.new_weights { Command::ComputePreloaded } else { Command::ComputeAccumulated };
                command(geometry.compute((rows, inner, self.input(geometry)), (rows, cols, geometry.garbage())))
                    .to_rocc()
            }
            ExecuteState::Config | ExecuteState::Idle => self.config(),
        }
    }

    fn config(&self) -> RoccCommand {
        let (Derived { irows, icols, .. }, c4) = (&self.req.derived, &self.req.settings.c4);
        let strides = ConfigEx {
            dataflow: DataflowMode::Os,
            activation: Activation::None,
            set_only_strides: true,
            a_transpose: false,
            b_transpose: false,
            a_stride: irows.wrapping_mul(*icols),
            acc_scale: Scale(0),
            in_shift: 0,
            relu6_shift: 0,
            c_stride: c4.orows.wrapping_mul(c4.ocols),
        };
        Command::ConfigEx(strides).to_rocc()
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

    pub(super) fn advance(&mut self, geometry: &Geometry, skipped: bool) {
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
