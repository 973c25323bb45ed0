//! The execute part (`LoopMatmulExecute` in `LoopMatmul.scala`).

use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, floor_add};
use crate::front_end::loop_matmul::block::{b_start, block_rows, last_block};
use crate::front_end::loop_matmul::loop_state::LoopState;
use crate::front_end::unroller::LoopId;
use crate::parts::canonical::Canonical;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum ExecuteState {
    #[default]
    Idle,
    Preload,
    Compute,
}

#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct ExecuteReq {
    pub max_i: u16,
    pub max_j: u16,
    pub max_k: u16,
    pub pad_i: u16,
    pub pad_j: u16,
    pub pad_k: u16,
    pub a_transpose: bool,
    pub b_transpose: bool,
    pub accumulate: bool,
    pub a_addr_start: u32,
    pub b_addr_end: u32,
    pub c_addr_start: u32,
    pub loop_id: LoopId,
    pub skip: bool,
}

impl ExecuteReq {
    /// What the part is asked to do; `c_addr_start` is the first row of its accumulator half.
    pub(super) fn new(
        slot: &LoopState,
        geometry: &Geometry,
        is_resadd: bool,
        c_addr_start: u32,
        loop_id: LoopId,
    ) -> Self {
        let pads = slot.pads(geometry);
        let row_bits = geometry.layout.sp_addr_bits;
        let (a_addr_start, b_addr_end) = if slot.spad_only {
            (slot.spad_ab.a_start, slot.spad_ab.b_end)
        } else {
            (slot.a_start(geometry, row_bits), slot.b_end(geometry, row_bits + 1))
        };
        Self {
            max_i: slot.bounds.i,
            max_j: slot.bounds.j,
            max_k: slot.bounds.k,
            pad_i: pads.i,
            pad_j: pads.j,
            pad_k: pads.k,
            a_transpose: slot.run.a_transpose,
            b_transpose: slot.run.b_transpose,
            accumulate: slot.run.ex_accumulate,
            a_addr_start,
            b_addr_end,
            c_addr_start,
            loop_id,
            skip: is_resadd,
        }
    }
}

/// The execute part (`LoopMatmulExecute`): for k, for j, for i (fastest) a PRELOAD and a COMPUTE.
#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct ExecuteUnit {
    pub state: ExecuteState,
    #[canon(valid_if = works)]
    pub req: ExecuteReq,
    pub i: u16,
    pub j: u16,
    pub k: u16,
}

impl ExecuteUnit {
    fn works(&self) -> bool {
        !self.idle()
    }

    pub(super) fn idle(&self) -> bool {
        self.state == ExecuteState::Idle
    }

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        if self.state == ExecuteState::Preload { self.preload(geometry) } else { self.compute(geometry) }
    }

    fn preload(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let i_rows = last_block(geometry, self.i, req.max_i, req.pad_i);
        let j_cols = last_block(geometry, self.j, req.max_j, req.pad_j);
        let k_rows = last_block(geometry, self.k, req.max_k, req.pad_k);
        let b = if self.i == 0 { geometry.spad_addr(self.b_addr(geometry)) } else { geometry.garbage() };
        let c = req.c_addr_start.wrapping_add(block_rows(geometry, self.i, req.max_j, self.j));
        let c = geometry.acc_addr(c, req.accumulate || self.k != 0, false);
        Command::Preload(geometry.preload((k_rows, j_cols, b), (i_rows, j_cols, c))).to_rocc()
    }

    fn compute(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let i_rows = last_block(geometry, self.i, req.max_i, req.pad_i);
        let k_cols = last_block(geometry, self.k, req.max_k, req.pad_k);
        let a = geometry.spad_addr(self.a_addr(geometry));
        let compute = geometry.compute((i_rows, k_cols, a), (geometry.dim, geometry.dim, geometry.garbage()));
        let command = if self.i == 0 { Command::ComputePreloaded } else { Command::ComputeAccumulated };
        command(compute).to_rocc()
    }

    fn a_addr(&self, geometry: &Geometry) -> u32 {
        let req = &self.req;
        let blocks_before = if req.a_transpose {
            block_rows(geometry, self.k, req.max_i, self.i)
        } else {
            block_rows(geometry, self.i, req.max_k, self.k)
        };
        req.a_addr_start.wrapping_add(blocks_before)
    }

    fn b_addr(&self, geometry: &Geometry) -> u32 {
        let req = &self.req;
        let blocks_before = if req.b_transpose {
            block_rows(geometry, self.j, req.max_k, self.k)
        } else {
            block_rows(geometry, self.k, req.max_j, self.j)
        };
        b_start(geometry, req.b_addr_end, req.max_k, req.max_j).wrapping_add(blocks_before)
    }

    #[inline]
    pub(super) fn edge(&mut self, fire: bool) {
        if self.req.skip {
            self.state = ExecuteState::Idle;
        } else if fire {
            self.advance();
        }
    }

    pub(super) fn accept(&mut self, req: ExecuteReq) {
        *self = Self { state: ExecuteState::Preload, req, i: 0, j: 0, k: 0 };
    }

    fn advance(&mut self) {
        if self.state == ExecuteState::Preload {
            self.state = ExecuteState::Compute;
            return;
        }
        self.i = floor_add(self.i, 1, self.req.max_i, true);
        self.j = floor_add(self.j, 1, self.req.max_j, self.i == 0);
        self.k = floor_add(self.k, 1, self.req.max_k, self.i == 0 && self.j == 0);
        let all_done = self.i == 0 && self.j == 0 && self.k == 0;
        self.state = if all_done { ExecuteState::Idle } else { ExecuteState::Preload };
    }
}
