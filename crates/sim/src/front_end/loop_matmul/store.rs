//! The store parts (`LoopMatmulStC`, `LoopMatmulStCSpad` in `LoopMatmul.scala`): plain stores block by block, or the passes of a
//! normalization over whole rows.

use pollux_isa::config::NORM_STAT_IDS;
use pollux_isa::fields::{ConfigNorm, MoveOperands, MoveSpad};
use pollux_isa::values::{Activation, NormCmd};
use pollux_isa::{Command, LocalAddr, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at, floor_add, mask};
use crate::front_end::loop_matmul::block::Block;
use crate::front_end::loop_matmul::loop_state::LoopState;
use crate::front_end::unroller::LoopId;
use crate::parts::canonical::Canonical;

/// Whether statistics of a whole row are needed before any of it can be stored.
fn needs_whole_rows(act: Activation) -> bool {
    matches!(act, Activation::Layernorm | Activation::Softmax)
}

/// `NormCmd` of the passes over a row, (blocks before the last, last block).
const LAYERNORM_PASSES: [[NormCmd; 2]; NORM_PASSES] =
    [[NormCmd::Sum, NormCmd::Mean], [NormCmd::Variance, NormCmd::InvStddev], [NormCmd::Reset, NormCmd::Reset]];
const SOFTMAX_PASSES: [[NormCmd; 2]; NORM_PASSES] =
    [[NormCmd::Max, NormCmd::Max], [NormCmd::SumExp, NormCmd::InvSumExp], [NormCmd::Reset, NormCmd::Reset]];
const NORM_PASSES: usize = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
enum StoreState {
    #[default]
    Idle,
    /// Plain stores.
    Store,
    /// Select the statistics register of a row.
    NormConfig,
    /// One pass over one row.
    NormStore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum StoreTarget {
    /// Main memory, by MVOUT (`LoopMatmulStC`).
    #[default]
    Dram,
    /// The scratchpad, by MVOUT_SPAD (`LoopMatmulStCSpad`).
    Scratchpad,
}

#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct StoreReq {
    pub max_i: u16,
    pub max_j: u16,
    pub max_k: u16,
    pub pad_i: u16,
    pub pad_j: u16,
    #[canon(address)]
    pub dram_addr: u64,
    pub dram_stride: u64,
    pub spad_addr: u32,
    pub full_c: bool,
    pub act: Activation,
    pub addr_start: u32,
    pub loop_id: LoopId,
    pub is_resadd: bool,
}

impl StoreReq {
    /// What a part is asked to do; `addr_start` is the first accumulator row that it stores.
    pub(super) fn new(
        slot: &LoopState,
        geometry: &Geometry,
        is_resadd: bool,
        addr_start: u32,
        loop_id: LoopId,
    ) -> Self {
        let pads = slot.pads(geometry);
        Self {
            max_i: slot.bounds.i,
            max_j: slot.bounds.j,
            max_k: if is_resadd { 1 } else { slot.bounds.k },
            pad_i: pads.i,
            pad_j: pads.j,
            dram_addr: slot.addrs_dc.c,
            dram_stride: slot.strides_dc.c_stride,
            spad_addr: slot.run.c_spad & mask(geometry.layout.sp_addr_bits) as u32,
            full_c: slot.run.full_c,
            act: slot.run.act,
            addr_start,
            loop_id,
            is_resadd,
        }
    }
}

/// What a store part knows of the part that produces its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    pub completed: bool,
    pub i: u16,
    pub j: u16,
    pub k: u16,
}

/// A store part.
#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct StoreUnit {
    pub target: StoreTarget,
    state: StoreState,
    #[canon(valid_if = works)]
    pub req: StoreReq,
    pub i: u16,
    pub j: u16,
    pub norm_row: u16,
    pub norm_pass: u16,
    pub norm_stat_id: u16,
}

impl StoreUnit {
    fn works(&self) -> bool {
        !self.idle()
    }

    pub(super) fn new(target: StoreTarget) -> Self {
        Self { target, ..Self::default() }
    }

    pub(super) fn idle(&self) -> bool {
        self.state == StoreState::Idle
    }

    fn suppressed(&self) -> bool {
        self.target == StoreTarget::Dram && self.req.dram_addr == 0
    }

    fn block(&self, geometry: &Geometry) -> Block {
        let req = &self.req;
        let max_block_len = if self.target == StoreTarget::Dram { geometry.max_block_len } else { 1 };
        let max_blocks = if req.full_c { 1 } else { req.max_j.min(max_block_len) };
        Block { row: self.i, col: self.j, max_row: req.max_i, max_col: req.max_j, max_blocks }
    }

    pub(super) fn valid(&self, geometry: &Geometry, producer: Producer) -> bool {
        !self.idle() && !self.suppressed() && self.producer_is_ahead(geometry, producer)
    }

    fn producer_is_ahead(&self, geometry: &Geometry, producer: Producer) -> bool {
        let req = &self.req;
        let end = self.j.wrapping_add(self.block(geometry).blocks());
        let ahead = if req.is_resadd {
            producer.i > self.i || (producer.i == self.i && producer.j >= end)
        } else {
            !needs_whole_rows(req.act)
                && producer.k == req.max_k.wrapping_sub(1)
                && (producer.j >= end || (producer.j == end.wrapping_sub(1) && producer.i > self.i))
        };
        producer.completed || ahead
    }

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        match (self.target, self.state) {
            (StoreTarget::Scratchpad, _) => self.mvout_spad(geometry),
            (StoreTarget::Dram, StoreState::NormConfig) => self.norm_config(),
            (StoreTarget::Dram, StoreState::NormStore) => self.norm_mvout(geometry),
            (StoreTarget::Dram, _) => self.mvout(geometry),
        }
    }

    /// The move of the stored blocks to a main memory address.
    fn stored(&self, geometry: &Geometry, dram: u64) -> MoveOperands {
        let (req, block) = (&self.req, self.block(geometry));
        let address = req.addr_start.wrapping_add(block.local_offset(geometry));
        let local = geometry.acc_addr(address, false, req.full_c);
        geometry.moved(dram, block.rows(geometry, req.pad_i), block.cols(geometry, req.pad_j), local)
    }

    fn mvout(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let element_bytes = if req.full_c { geometry.acc_bytes } else { geometry.input_bytes };
        let offset = self.block(geometry).dram_offset(geometry, req.dram_stride, element_bytes);
        Command::Mvout(self.stored(geometry, dram_at(req.dram_addr, offset))).to_rocc()
    }

    fn mvout_spad(&self, geometry: &Geometry) -> RoccCommand {
        let address = self.req.spad_addr.wrapping_add(self.block(geometry).local_offset(geometry));
        let MoveOperands { local, cols, rows, .. } = self.stored(geometry, 0);
        let dst = LocalAddr(geometry.spad_addr(address));
        Command::MvoutSpad(MoveSpad { dst, dst_stride: 1, local, cols, rows }).to_rocc()
    }

    fn norm_config(&self) -> RoccCommand {
        let select = ConfigNorm {
            norm_stats_id: self.norm_stat_id as u8,
            act_msb: false,
            set_stats_id_only: true,
            q_const_type: false,
            q_const: 0,
            qb: 0,
            qc: 0,
        };
        Command::ConfigNorm(select).to_rocc()
    }

    fn norm_mvout(&self, geometry: &Geometry) -> RoccCommand {
        let (req, block) = (&self.req, self.block(geometry));
        let row = u32::from(self.norm_row) + u32::from(self.norm_stat_id);
        let address = req.addr_start.wrapping_add(block.local_offset(geometry)).wrapping_add(row);
        let local = LocalAddr(geometry.acc_addr(address, false, req.full_c)).with_norm_cmd(self.norm_cmd(&block)).0;
        let offset = u32::from(self.i)
            .wrapping_mul(req.dram_stride as u32)
            .wrapping_add(self.j.into())
            .wrapping_mul(geometry.dim)
            .wrapping_add(row.wrapping_mul(req.dram_stride as u32))
            .wrapping_mul(geometry.input_bytes);
        let dram = dram_at(req.dram_addr, offset);
        Command::Mvout(geometry.moved(dram, 1, block.cols(geometry, req.pad_j), local)).to_rocc()
    }

    fn norm_cmd(&self, block: &Block) -> NormCmd {
        let is_last = u32::from(self.j) + u32::from(block.max_blocks) >= u32::from(block.max_col);
        let passes = if self.req.act == Activation::Layernorm { &LAYERNORM_PASSES } else { &SOFTMAX_PASSES };
        passes[usize::from(self.norm_pass)][usize::from(is_last)]
    }

    #[inline]
    pub(super) fn edge(&mut self, fire: bool, geometry: &Geometry) {
        if self.suppressed() {
            self.state = StoreState::Idle;
        } else if fire {
            match self.state {
                StoreState::Idle => {}
                StoreState::Store => self.advance(geometry),
                StoreState::NormConfig => self.state = StoreState::NormStore,
                StoreState::NormStore => self.advance_norm(geometry),
            }
        }
    }

    pub(super) fn accept(&mut self, req: StoreReq) {
        let state = if needs_whole_rows(req.act) && self.target == StoreTarget::Dram {
            StoreState::NormConfig
        } else {
            StoreState::Store
        };
        *self = Self { target: self.target, state, req, ..Self::default() };
    }

    fn advance(&mut self, geometry: &Geometry) {
        let max_blocks = self.block(geometry).max_blocks;
        self.i = floor_add(self.i, 1, self.req.max_i, true);
        self.j = floor_add(self.j, max_blocks, self.req.max_j, self.i == 0);
        if self.i == 0 && self.j == 0 {
            self.state = StoreState::Idle;
        }
    }

    fn advance_norm(&mut self, geometry: &Geometry) {
        let block = self.block(geometry);
        let rows = block.rows(geometry, self.req.pad_i) as u16;
        let stat_ids = rows.wrapping_sub(self.norm_row).min(NORM_STAT_IDS as u16);
        self.j = floor_add(self.j, block.max_blocks, self.req.max_j, true);
        let row_done = self.j == 0;
        self.norm_stat_id = floor_add(self.norm_stat_id, 1, stat_ids, row_done);
        let rows_done = row_done && self.norm_stat_id == 0;
        self.norm_pass = floor_add(self.norm_pass, 1, NORM_PASSES as u16, rows_done);
        let passes_done = rows_done && self.norm_pass == 0;
        self.norm_row = floor_add(self.norm_row, NORM_STAT_IDS as u16, rows, passes_done);
        let block_done = passes_done && self.norm_row == 0;
        self.i = floor_add(self.i, 1, self.req.max_i, block_done);
        if block_done && self.i == 0 {
            self.state = StoreState::Idle;
        } else if row_done {
            self.state = StoreState::NormConfig;
        }
    }
}
