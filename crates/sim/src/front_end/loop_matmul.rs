//! The matrix-multiply unroller (`LoopMatmul.scala`, `WeightedArbiter.scala`): turns one LOOP_WS into the moves, preloads,
//! computes and stores of a tiled `C = A B + D`.
//!
//! Two loops can be configured; the second is filled while the first runs. Each loop is worked on by five parts: the loads
//! of A, B and D, the execute part and the store part. A part runs ahead of the others as far as the blocks it needs have
//! been emitted; one command leaves in each cycle.
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | head of the conv unroller's output | input queue of 2, registered both ways |
//! | out | out | from registers: an unrolled command while a loop is configured, else the head of the input queue if it is no loop command | when the unrolled queue is not full |
//! | completed | in | departures of this unroller's commands from the reservation station | always |
//!
//! A loop command needs one cycle at the head of the input queue; its effect is visible in the next. A part accepts its
//! request in the cycle after it became idle, emits from the cycle after that, and its loop's `completed` flag follows its
//! idle state by one cycle.

use pollux_isa::config::NORM_STAT_IDS;
use pollux_isa::fields::{
    LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsSpadAb, LoopWsStridesAb, LoopWsStridesDc,
};
use pollux_isa::values::{Activation, NormCmd};
use pollux_isa::{GemminiConfig, LocalAddr, RoccCommand};

use crate::front_end::geometry::{Geometry, config_kind, dram_at, floor_add, funct, mask};
use crate::front_end::reservation_station::PerUnit;
use crate::front_end::unroller::{InFlight, LOOPS, LoopFlags, LoopId, PartSet, UnrollerActivity, UnrollerStall};
use crate::observation::event::{Origin, Unit};
use crate::parts::queue::Queue;
use crate::parts::wires::GemminiCmd;

/// The five parts of a loop, as its flags count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    A,
    B,
    D,
    Ex,
    St,
}

const PARTS: [Part; 5] = [Part::A, Part::B, Part::D, Part::Ex, Part::St];

/// Configuration and progress of a loop (`LoopMatmulState`): what each configuration command wrote last, and flags.
#[derive(Clone, Debug)]
struct LoopState {
    bounds: LoopWsBounds,
    addrs_ab: LoopWsAddrsAb,
    addrs_dc: LoopWsAddrsDc,
    strides_ab: LoopWsStridesAb,
    strides_dc: LoopWsStridesDc,
    spad_ab: LoopWsSpadAb,
    run: LoopWs,
    /// Set by LOOP_WS, cleared by new addresses and with the slot.
    spad_only: bool,
    flags: LoopFlags,
    /// First accumulator row of a residual addition.
    resadd_addr_start: u32,
}

impl LoopState {
    fn new(id: LoopId, config: &GemminiConfig, geometry: &Geometry) -> Self {
        let id = id as u32;
        Self {
            bounds: LoopWsBounds::from_regs(config, 0, 0),
            addrs_ab: LoopWsAddrsAb::from_regs(config, 0, 0),
            addrs_dc: LoopWsAddrsDc::from_regs(config, 0, 0),
            strides_ab: LoopWsStridesAb::from_regs(config, 0, 0),
            strides_dc: LoopWsStridesDc::from_regs(config, 0, 0),
            spad_ab: LoopWsSpadAb { a_start: geometry.spad_half(id), b_end: geometry.spad_half(id + 1) },
            run: LoopWs::from_regs(config, 0, 0),
            spad_only: false,
            flags: LoopFlags::default(),
            resadd_addr_start: geometry.acc_half(id),
        }
    }

    /// Frees the slot; what the configuration commands wrote stays.
    fn reset(&mut self) {
        self.flags = LoopFlags::default();
        self.spad_only = false;
    }

    fn configure(&mut self, cmd: &RoccCommand, config: &GemminiConfig) {
        let RoccCommand { funct, rs1, rs2 } = *cmd;
        match funct {
            funct::LOOP_WS_CONFIG_BOUNDS => self.bounds = LoopWsBounds::from_regs(config, rs1, rs2),
            funct::LOOP_WS_CONFIG_ADDRS_AB => {
                self.spad_only = false;
                self.addrs_ab = LoopWsAddrsAb::from_regs(config, rs1, rs2);
            }
            funct::LOOP_WS_CONFIG_ADDRS_DC => {
                self.spad_only = false;
                self.addrs_dc = LoopWsAddrsDc::from_regs(config, rs1, rs2);
            }
            funct::LOOP_WS_CONFIG_STRIDES_AB => self.strides_ab = LoopWsStridesAb::from_regs(config, rs1, rs2),
            funct::LOOP_WS_CONFIG_STRIDES_DC => self.strides_dc = LoopWsStridesDc::from_regs(config, rs1, rs2),
            funct::LOOP_WS_CONFIG_SPAD_AB => self.spad_ab = LoopWsSpadAb::from_regs(config, rs1, rs2),
            funct::LOOP_WS => self.launch(LoopWs::from_regs(config, rs1, rs2)),
            _ => {}
        }
    }

    fn launch(&mut self, run: LoopWs) {
        self.run = run;
        self.spad_only = run.spad_only;
        // A part that is skipped counts as started and completed.
        let skipped = PartSet::from([run.skip_lda, run.skip_ldb, run.skip_ldd, run.skip_ex, run.skip_stc]);
        self.flags = LoopFlags { configured: true, running: self.flags.running, started: skipped, completed: skipped };
    }

    /// First scratchpad row of A, in a register of `bits` bits.
    fn a_start(&self, geometry: &Geometry, bits: u32) -> u32 {
        match self.run.a_spad_id {
            0 => self.spad_ab.a_start,
            id => geometry.spad_half(u32::from(id) - 1) & mask(bits) as u32,
        }
    }

    /// Scratchpad row after the last of B, in a register of `bits` bits.
    fn b_end(&self, geometry: &Geometry, bits: u32) -> u32 {
        match self.run.b_spad_id {
            0 => self.spad_ab.b_end,
            id => geometry.spad_half(id.into()) & mask(bits) as u32,
        }
    }

    /// Whether the part that uses the accumulator half moves on to the other half (`ex`, `st`).
    fn advances_acc(&self) -> bool {
        if self.spad_only { self.run.inc_acc_addr } else { self.addrs_dc.c != 0 }
    }
}

/// Where a loaded block goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Destination {
    #[default]
    Scratchpad,
    Accumulator {
        accumulate: bool,
    },
}

/// A matrix to load, block by block.
///
/// The matrix is walked by two iterators, one fast and one slow; one of them counts block rows of the matrix as it lies in
/// memory, the other block columns. Several columns go into one command.
#[derive(Clone, Debug, Default)]
struct LoadReq {
    fast_max: u16,
    slow_max: u16,
    /// The fast iterator counts columns.
    fast_is_column: bool,
    row_pad: u16,
    col_pad: u16,
    dram_addr: u64,
    dram_stride: u64,
    element_bytes: u32,
    max_block_len: u16,
    local_start: u32,
    destination: Destination,
    loop_id: LoopId,
}

/// A load part (`LoopMatmulLdA`, `LoopMatmulLdB`, `LoopMatmulLdD`): i is the fast iterator of A and D, j of B; k is the slow
/// one of A and B, j of D.
#[derive(Clone, Debug, Default)]
struct LoadUnit {
    funct: u8,
    loading: bool,
    req: LoadReq,
    fast: u16,
    slow: u16,
}

impl LoadUnit {
    fn new(funct: u8) -> Self {
        Self { funct, ..Self::default() }
    }

    fn idle(&self) -> bool {
        !self.loading
    }

    fn valid(&self) -> bool {
        self.loading && self.req.dram_addr != 0
    }

    /// Row, column, number of rows, number of columns.
    fn position(&self) -> (u16, u16, u16, u16) {
        let req = &self.req;
        if req.fast_is_column {
            (self.slow, self.fast, req.slow_max, req.fast_max)
        } else {
            (self.fast, self.slow, req.fast_max, req.slow_max)
        }
    }

    fn max_blocks(&self) -> u16 {
        self.position().3.min(self.req.max_block_len)
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let (row, col, max_row, max_col) = self.position();
        let block = Block { row, col, max_row, max_col, max_blocks: self.max_blocks() };
        let offset = block.dram_offset(geometry, req.dram_stride, req.element_bytes);
        let address = req.local_start.wrapping_add(block.local_offset(geometry));
        let local = match req.destination {
            Destination::Scratchpad => geometry.spad_addr(address),
            Destination::Accumulator { accumulate } => geometry.acc_addr(address, accumulate, false),
        };
        let (rows, cols) = (block.rows(geometry, req.row_pad), block.cols(geometry, req.col_pad));
        RoccCommand { funct: self.funct, rs1: dram_at(req.dram_addr, offset), rs2: geometry.operand(rows, cols, local) }
    }

    #[inline]
    fn edge(&mut self, fire: bool) {
        if self.req.dram_addr == 0 {
            self.loading = false;
        } else if fire {
            let (fast_step, slow_step) =
                if self.req.fast_is_column { (self.max_blocks(), 1) } else { (1, self.max_blocks()) };
            self.fast = floor_add(self.fast, fast_step, self.req.fast_max, true);
            self.slow = floor_add(self.slow, slow_step, self.req.slow_max, self.fast == 0);
            self.loading = self.fast != 0 || self.slow != 0;
        }
    }

    fn accept(&mut self, req: LoadReq) {
        *self = Self { funct: self.funct, loading: true, req, fast: 0, slow: 0 };
    }
}

/// Blocks of a matrix that one command moves: `blocks()` of them side by side, from block (row, col) on.
struct Block {
    row: u16,
    col: u16,
    max_row: u16,
    max_col: u16,
    max_blocks: u16,
}

impl Block {
    fn blocks(&self) -> u16 {
        if self.col.wrapping_add(self.max_blocks) <= self.max_col {
            self.max_blocks
        } else {
            self.max_col.wrapping_sub(self.col)
        }
    }

    fn rows(&self, geometry: &Geometry, pad: u16) -> u32 {
        last_block(geometry, self.row, self.max_row, pad)
    }

    fn cols(&self, geometry: &Geometry, pad: u16) -> u32 {
        let is_last = self.col.wrapping_add(self.blocks()) >= self.max_col;
        let pad = if is_last { u32::from(pad) } else { 0 };
        // A matrix without columns makes this negative; the operand word keeps the low bits.
        (u32::from(self.blocks()) * geometry.dim).wrapping_sub(pad)
    }

    /// Local rows before the block; the matrix is stored block by block, row-major.
    fn local_offset(&self, geometry: &Geometry) -> u32 {
        block_rows(geometry, self.row, self.max_col, self.col)
    }

    /// Bytes before the block, modulo 2^32.
    fn dram_offset(&self, geometry: &Geometry, stride: u64, element_bytes: u32) -> u32 {
        u32::from(self.row)
            .wrapping_mul(stride as u32)
            .wrapping_add(self.col.into())
            .wrapping_mul(geometry.dim)
            .wrapping_mul(element_bytes)
    }
}

/// Local rows before block (row, col) of a matrix with `max_col` block columns.
fn block_rows(geometry: &Geometry, row: u16, max_col: u16, col: u16) -> u32 {
    (u32::from(row) * u32::from(max_col)).wrapping_add(col.into()).wrapping_mul(geometry.dim)
}

/// Rows (or columns) of block `index`: the last one of a matrix lacks the padding.
fn last_block(geometry: &Geometry, index: u16, max: u16, pad: u16) -> u32 {
    geometry.dim - if index == max.wrapping_sub(1) { u32::from(pad) } else { 0 }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ExecuteState {
    #[default]
    Idle,
    Preload,
    Compute,
}

#[derive(Clone, Debug, Default)]
struct ExecuteReq {
    max_i: u16,
    max_j: u16,
    max_k: u16,
    pad_i: u16,
    pad_j: u16,
    pad_k: u16,
    a_transpose: bool,
    b_transpose: bool,
    accumulate: bool,
    a_addr_start: u32,
    b_addr_end: u32,
    c_addr_start: u32,
    loop_id: LoopId,
    skip: bool,
}

/// The execute part (`LoopMatmulExecute`): for k, for j, for i (fastest) a PRELOAD and a COMPUTE.
#[derive(Clone, Debug, Default)]
struct ExecuteUnit {
    state: ExecuteState,
    req: ExecuteReq,
    i: u16,
    j: u16,
    k: u16,
}

impl ExecuteUnit {
    fn idle(&self) -> bool {
        self.state == ExecuteState::Idle
    }

    fn command(&self, geometry: &Geometry) -> RoccCommand {
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
        RoccCommand {
            funct: funct::PRELOAD,
            rs1: geometry.operand(k_rows, j_cols, b),
            rs2: geometry.operand(i_rows, j_cols, c),
        }
    }

    fn compute(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let i_rows = last_block(geometry, self.i, req.max_i, req.pad_i);
        let k_cols = last_block(geometry, self.k, req.max_k, req.pad_k);
        let a = geometry.spad_addr(self.a_addr(geometry));
        RoccCommand {
            funct: if self.i == 0 { funct::COMPUTE_AND_FLIP } else { funct::COMPUTE_AND_STAY },
            rs1: geometry.operand(i_rows, k_cols, a),
            rs2: geometry.operand(geometry.dim, geometry.dim, geometry.garbage()),
        }
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
    fn edge(&mut self, fire: bool) {
        if self.req.skip {
            self.state = ExecuteState::Idle;
        } else if fire {
            self.advance();
        }
    }

    fn accept(&mut self, req: ExecuteReq) {
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

/// B's first scratchpad row, from the row after its last.
fn b_start(geometry: &Geometry, end: u32, max_k: u16, max_j: u16) -> u32 {
    end.wrapping_sub((u32::from(max_k) * u32::from(max_j)).wrapping_mul(geometry.dim))
}

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StoreTarget {
    /// Main memory, by MVOUT (`LoopMatmulStC`).
    #[default]
    Dram,
    /// The scratchpad, by MVOUT_SPAD (`LoopMatmulStCSpad`).
    Scratchpad,
}

#[derive(Clone, Debug, Default)]
struct StoreReq {
    max_i: u16,
    max_j: u16,
    max_k: u16,
    pad_i: u16,
    pad_j: u16,
    dram_addr: u64,
    dram_stride: u64,
    spad_addr: u32,
    full_c: bool,
    act: Activation,
    addr_start: u32,
    loop_id: LoopId,
    is_resadd: bool,
}

/// What a store part knows of the part that produces its blocks.
#[derive(Clone, Copy, Debug)]
struct Producer {
    completed: bool,
    i: u16,
    j: u16,
    k: u16,
}

/// A store part.
#[derive(Clone, Debug, Default)]
struct StoreUnit {
    target: StoreTarget,
    state: StoreState,
    req: StoreReq,
    i: u16,
    j: u16,
    norm_row: u16,
    norm_pass: u16,
    norm_stat_id: u16,
}

impl StoreUnit {
    fn new(target: StoreTarget) -> Self {
        Self { target, ..Self::default() }
    }

    fn idle(&self) -> bool {
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

    fn valid(&self, geometry: &Geometry, producer: Producer) -> bool {
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

    fn command(&self, geometry: &Geometry) -> RoccCommand {
        match (self.target, self.state) {
            (StoreTarget::Scratchpad, _) => self.mvout_spad(geometry),
            (StoreTarget::Dram, StoreState::NormConfig) => self.norm_config(),
            (StoreTarget::Dram, StoreState::NormStore) => self.norm_mvout(geometry),
            (StoreTarget::Dram, _) => self.mvout(geometry),
        }
    }

    /// Operand word of the stored blocks.
    fn source(&self, geometry: &Geometry) -> u64 {
        let (req, block) = (&self.req, self.block(geometry));
        let address = req.addr_start.wrapping_add(block.local_offset(geometry));
        let local = geometry.acc_addr(address, false, req.full_c);
        geometry.operand(block.rows(geometry, req.pad_i), block.cols(geometry, req.pad_j), local)
    }

    fn mvout(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let element_bytes = if req.full_c { geometry.acc_bytes } else { geometry.input_bytes };
        let offset = self.block(geometry).dram_offset(geometry, req.dram_stride, element_bytes);
        RoccCommand { funct: funct::MVOUT, rs1: dram_at(req.dram_addr, offset), rs2: self.source(geometry) }
    }

    fn mvout_spad(&self, geometry: &Geometry) -> RoccCommand {
        const STRIDE_ONE: u64 = 1 << 32;
        let address = self.req.spad_addr.wrapping_add(self.block(geometry).local_offset(geometry));
        let rs1 = STRIDE_ONE | u64::from(geometry.spad_addr(address));
        RoccCommand { funct: funct::MVOUT_SPAD, rs1, rs2: self.source(geometry) }
    }

    fn norm_config(&self) -> RoccCommand {
        const SET_STATS_ID_ONLY: u64 = 1 << 17;
        let stats_id = u64::from(self.norm_stat_id as u8) << 8;
        RoccCommand { funct: funct::CONFIG, rs1: SET_STATS_ID_ONLY | stats_id | config_kind::NORM, rs2: 0 }
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
        RoccCommand {
            funct: funct::MVOUT,
            rs1: dram_at(req.dram_addr, offset),
            rs2: geometry.operand(1, block.cols(geometry, req.pad_j), local),
        }
    }

    fn norm_cmd(&self, block: &Block) -> NormCmd {
        let is_last = u32::from(self.j) + u32::from(block.max_blocks) >= u32::from(block.max_col);
        let passes = if self.req.act == Activation::Layernorm { &LAYERNORM_PASSES } else { &SOFTMAX_PASSES };
        passes[usize::from(self.norm_pass)][usize::from(is_last)]
    }

    #[inline]
    fn edge(&mut self, fire: bool, geometry: &Geometry) {
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

    fn accept(&mut self, req: StoreReq) {
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

/// A sub-unit whose command leaves in this cycle, in the order of the arbiter's priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Store,
    Execute,
    LoadD,
    LoadA,
    LoadB,
    StoreSpad,
}

impl Source {
    fn unit(self) -> Unit {
        match self {
            Source::Store | Source::StoreSpad => Unit::St,
            Source::Execute => Unit::Ex,
            Source::LoadA | Source::LoadB | Source::LoadD => Unit::Ld,
        }
    }
}

/// What moves through the unroller's output in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopMatmulTransfer {
    /// The command handed to the unrolled queue.
    pub out: Option<GemminiCmd>,
    /// The head of the input queue leaves (to the output, or into a loop's configuration).
    pop: bool,
    source: Option<Source>,
}

/// The unroller; see the module.
#[derive(Clone, Debug)]
pub struct LoopMatmul {
    config: GemminiConfig,
    geometry: Geometry,
    input: Queue<GemminiCmd>,
    loops: [LoopState; LOOPS],
    head: LoopId,
    is_resadd: bool,
    ld_a: LoadUnit,
    ld_b: LoadUnit,
    ld_d: LoadUnit,
    ex: ExecuteUnit,
    st: StoreUnit,
    st_spad: StoreUnit,
    in_flight: InFlight,
    ld_d_addr_start: u32,
    ex_c_addr_start: u32,
    st_c_addr_start: u32,
    /// The last cycle changed nothing, so neither does the next unless something comes in or goes out.
    settled: bool,
}

fn is_loop_cmd(funct: u8) -> bool {
    (funct::LOOP_WS..=funct::LOOP_WS_CONFIG_STRIDES_DC).contains(&funct)
        || (funct::LOOP_WS_CONFIG_SPAD_AB..=funct::LOOP_WS_CONFIG_SPAD_C).contains(&funct)
}

impl LoopMatmul {
    /// The unroller after reset.
    ///
    /// `head_loop_id` has no reset value in the hardware; like every such register it starts at 0 here.
    pub fn new(config: &GemminiConfig) -> Self {
        let geometry = Geometry::new(config);
        Self {
            loops: std::array::from_fn(|id| LoopState::new(id, config, &geometry)),
            input: Queue::plain(2),
            head: 0,
            is_resadd: false,
            ld_a: LoadUnit::new(funct::MVIN),
            ld_b: LoadUnit::new(funct::MVIN2),
            ld_d: LoadUnit::new(funct::MVIN3),
            ex: ExecuteUnit::default(),
            st: StoreUnit::new(StoreTarget::Dram),
            st_spad: StoreUnit::new(StoreTarget::Scratchpad),
            in_flight: InFlight::new(config),
            ld_d_addr_start: 0,
            ex_c_addr_start: 0,
            st_c_addr_start: 0,
            settled: false,
            config: config.clone(),
            geometry,
        }
    }

    /// `in.ready`.
    pub fn in_ready(&self) -> bool {
        self.input.enq_ready(false)
    }

    /// `io.busy`: a command in the input queue, or a loop configured.
    pub fn busy(&self) -> bool {
        !self.input.is_empty() || self.loop_configured()
    }

    fn loop_configured(&self) -> bool {
        self.loops.iter().any(|l| l.flags.configured)
    }

    fn tail(&self) -> LoopId {
        1 - self.head
    }

    /// The slot that configuration commands write.
    fn being_configured(&self) -> LoopId {
        if self.loops[self.head].flags.configured { self.tail() } else { self.head }
    }

    /// What moves in this cycle, given `out.ready`.
    pub(crate) fn transfer(&self, out_ready: bool) -> LoopMatmulTransfer {
        let head = self.input.front();
        let loop_cmd = head.is_some_and(|cmd| is_loop_cmd(cmd.cmd.funct));
        let mut transfer = LoopMatmulTransfer {
            pop: loop_cmd && !self.loops[self.being_configured()].flags.configured,
            source: if out_ready { self.grant() } else { None },
            out: None,
        };
        if self.loop_configured() {
            let cmd = transfer.source.map(|source| self.command(source));
            transfer.out = cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Matmul });
        } else if out_ready && !loop_cmd {
            transfer.out = head.copied();
            transfer.pop = head.is_some();
        }
        transfer
    }

    /// The sub-unit that the arbiters choose.
    fn grant(&self) -> Option<Source> {
        let may_store = self.in_flight.has_room(Unit::St);
        let may_load = self.in_flight.has_room(Unit::Ld);
        if may_store && self.st.valid(&self.geometry, self.store_producer()) {
            Some(Source::Store)
        } else if self.in_flight.has_room(Unit::Ex) && self.execute_valid() {
            Some(Source::Execute)
        } else if may_load && self.ld_d.valid() {
            Some(Source::LoadD)
        } else if may_load && self.a_is_picked() && self.ld_a.valid() {
            Some(Source::LoadA)
        } else if may_load && !self.a_is_picked() && self.ld_b.valid() {
            Some(Source::LoadB)
        } else if may_store && self.st_spad.valid(&self.geometry, self.execute_as_producer(self.st_spad.req.loop_id)) {
            Some(Source::StoreSpad)
        } else {
            None
        }
    }

    /// `WeightedArbiter` with its static weight: which of A and B may load. It does not ask whether the chosen one is ready.
    fn a_is_picked(&self) -> bool {
        let (a, b) = (&self.ld_a, &self.ld_b);
        let same_loop = a.req.loop_id == b.req.loop_id;
        let a_on_head = !same_loop && a.req.loop_id == self.head;
        let b_on_head = !same_loop && b.req.loop_id == self.head;
        let (force_a, force_b) =
            if self.is_resadd { (same_loop && !a.idle(), b_on_head || a.idle()) } else { (a_on_head, b_on_head) };
        let (a_k, b_k, b_j) = (a.slow, b.slow, b.fast);
        if force_a {
            true
        } else if force_b || a.idle() {
            false
        } else {
            b.idle() || !(a_k > b_k || (b_k == 0 && b_j == 0))
        }
    }

    fn execute_valid(&self) -> bool {
        let ex = &self.ex;
        if ex.idle() || ex.req.skip {
            return false;
        }
        let done = |load: &LoadUnit| load.req.loop_id != ex.req.loop_id || load.idle();
        let (a_k, a_i, b_k, b_j) = (self.ld_a.slow, self.ld_a.fast, self.ld_b.slow, self.ld_b.fast);
        let a_ahead = done(&self.ld_a) || a_k > ex.k || (a_k == ex.k && a_i > ex.i);
        // The hardware compares with the k of A here, too.
        let b_ahead = done(&self.ld_b) || b_k > ex.k || (a_k == ex.k && b_j > ex.j);
        a_ahead && b_ahead && done(&self.ld_d)
    }

    fn execute_as_producer(&self, loop_id: LoopId) -> Producer {
        let ex = &self.ex;
        Producer { completed: ex.req.loop_id != loop_id || ex.idle(), i: ex.i, j: ex.j, k: ex.k }
    }

    /// In a residual addition the stores follow the loads of B instead of the execute part.
    fn store_producer(&self) -> Producer {
        let loop_id = self.st.req.loop_id;
        if !self.is_resadd {
            return self.execute_as_producer(loop_id);
        }
        let done = |load: &LoadUnit| load.req.loop_id != loop_id || load.idle();
        let completed = done(&self.ld_a) && done(&self.ld_b);
        Producer { completed, i: self.ld_b.slow, j: self.ld_b.fast, k: 0 }
    }

    fn command(&self, source: Source) -> RoccCommand {
        match source {
            Source::Store => self.st.command(&self.geometry),
            Source::Execute => self.ex.command(&self.geometry),
            Source::LoadD => self.ld_d.command(&self.geometry),
            Source::LoadA => self.ld_a.command(&self.geometry),
            Source::LoadB => self.ld_b.command(&self.geometry),
            Source::StoreSpad => self.st_spad.command(&self.geometry),
        }
    }

    /// Clock edge. `input` is a command accepted at the input, `transfer` what [`Self::transfer`] gave for this cycle,
    /// `departed` the departures of this unroller's commands from the station.
    pub(crate) fn tick(
        &mut self,
        input: Option<GemminiCmd>,
        transfer: &LoopMatmulTransfer,
        departed: PerUnit<u8>,
    ) -> bool {
        let moves = transfer.pop || transfer.source.is_some() || input.is_some();
        let driven = moves || departed != [0; 3];
        if self.settled && !moves {
            if driven {
                self.in_flight.tick(None, departed);
            }
            return driven;
        }
        // Worked out from the registers as they are at the start of the cycle.
        let slot = self.being_configured();
        let accepting = self.accepting();
        let release = self.loops[self.head].flags.all_completed();

        let mut progress = driven || release;
        progress |= self.mark_finished();
        progress |= self.tick_units(transfer.source, &accepting);
        if transfer.pop {
            self.take_command(slot);
        }
        if let Some(cmd) = input {
            self.input.push(cmd);
        }
        if release {
            self.loops[self.head].reset();
            self.head = self.tail();
        }
        self.in_flight.tick(transfer.source.map(Source::unit), departed);
        self.settled = !progress;
        progress
    }

    fn take_command(&mut self, slot: LoopId) {
        let Some(GemminiCmd { cmd, .. }) = self.input.pop() else { return };
        if is_loop_cmd(cmd.funct) {
            self.loops[slot].configure(&cmd, &self.config);
        }
        if cmd.funct == funct::LOOP_WS {
            // One register for both slots: it changes a loop that is already running, too.
            self.is_resadd = self.loops[slot].run.is_resadd;
        }
    }

    /// Flags the parts that are idle as completed in the loop that each worked on. True if a flag is new.
    fn mark_finished(&mut self) -> bool {
        let unfinished = |slot: &LoopState| slot.flags.running && slot.flags.started != slot.flags.completed;
        if !self.loops.iter().any(unfinished) {
            return false;
        }
        let spad_only = |unit: &StoreUnit| self.loops[unit.req.loop_id].spad_only;
        let idle = [
            (Part::A, self.ld_a.idle(), self.ld_a.req.loop_id),
            (Part::B, self.ld_b.idle(), self.ld_b.req.loop_id),
            (Part::D, self.ld_d.idle(), self.ld_d.req.loop_id),
            (Part::Ex, self.ex.idle(), self.ex.req.loop_id),
            (Part::St, self.st.idle() && !spad_only(&self.st), self.st.req.loop_id),
            (Part::St, self.st_spad.idle() && spad_only(&self.st_spad), self.st_spad.req.loop_id),
        ];
        let mut any = false;
        for (part, is_idle, id) in idle {
            any |= is_idle && self.loops[id].flags.finish(part as usize);
        }
        any
    }

    /// The loops whose requests idle parts accept in this cycle.
    fn accepting(&self) -> Accepting {
        let all_started = |slot: &LoopState| !slot.flags.configured || slot.flags.started == PartSet::ALL;
        if self.loops.iter().all(all_started) {
            return Accepting::default();
        }
        let candidate = |part: Part, idle: bool| {
            let id = if self.loops[self.head].flags.started.has(part as usize) { self.tail() } else { self.head };
            let flags = &self.loops[id].flags;
            (idle && flags.configured && !flags.started.has(part as usize)).then_some(id)
        };
        let started = |id: LoopId, part: Part| self.loops[id].flags.started.has(part as usize);
        let spad_only = |id: LoopId| self.loops[id].spad_only;
        let loads_started = |&id: &LoopId| [Part::A, Part::B, Part::D].iter().all(|&part| started(id, part));
        Accepting {
            a: candidate(Part::A, self.ld_a.idle()),
            b: candidate(Part::B, self.ld_b.idle()),
            d: candidate(Part::D, self.ld_d.idle()),
            ex: candidate(Part::Ex, self.ex.idle()).filter(loads_started),
            st: candidate(Part::St, self.st.idle())
                .filter(|&id| self.is_resadd || (started(id, Part::Ex) && !spad_only(id))),
            st_spad: candidate(Part::St, self.st_spad.idle()).filter(|&id| started(id, Part::Ex) && spad_only(id)),
        }
    }

    fn load_a_req(&self, loop_id: LoopId) -> LoadReq {
        let slot = &self.loops[loop_id];
        let pads = self.pads(slot);
        let (max_k, pad_k) = if self.is_resadd { (slot.bounds.j, pads.j) } else { (slot.bounds.k, pads.k) };
        let (row_pad, col_pad) = if slot.run.a_transpose { (pad_k, pads.i) } else { (pads.i, pad_k) };
        LoadReq {
            fast_max: slot.bounds.i,
            slow_max: max_k,
            fast_is_column: slot.run.a_transpose,
            row_pad,
            col_pad,
            dram_addr: slot.addrs_ab.a,
            dram_stride: slot.strides_ab.a_stride,
            element_bytes: self.geometry.input_bytes,
            max_block_len: self.geometry.max_block_len,
            local_start: if self.is_resadd {
                slot.resadd_addr_start
            } else {
                slot.a_start(&self.geometry, self.geometry.layout.max_addr_bits)
            },
            destination: self.operand_destination(false),
            loop_id,
        }
    }

    fn load_b_req(&self, loop_id: LoopId) -> LoadReq {
        let slot = &self.loops[loop_id];
        let pads = self.pads(slot);
        let (max_k, pad_k) = if self.is_resadd { (slot.bounds.i, pads.i) } else { (slot.bounds.k, pads.k) };
        LoadReq {
            fast_max: slot.bounds.j,
            slow_max: max_k,
            fast_is_column: !slot.run.b_transpose,
            // The hardware tests the number of block rows, not the block row, for being the last: never true.
            row_pad: 0,
            col_pad: if slot.run.b_transpose { pad_k } else { pads.j },
            dram_addr: slot.addrs_ab.b,
            dram_stride: slot.strides_ab.b_stride,
            element_bytes: self.geometry.input_bytes,
            max_block_len: self.geometry.max_block_len,
            local_start: if self.is_resadd {
                slot.resadd_addr_start
            } else {
                let end = slot.b_end(&self.geometry, self.geometry.layout.max_addr_bits + 1);
                b_start(&self.geometry, end, max_k, slot.bounds.j)
            },
            destination: self.operand_destination(true),
            loop_id,
        }
    }

    /// The paddings, as wide as a block's row index.
    fn pads(&self, slot: &LoopState) -> Pads {
        let cut = |pad: u16| pad & (self.geometry.dim as u16 - 1);
        Pads { i: cut(slot.bounds.pad_i), j: cut(slot.bounds.pad_j), k: cut(slot.bounds.pad_k) }
    }

    /// A and B are operands in the scratchpad; in a residual addition both go to the accumulator, B on top of A.
    fn operand_destination(&self, accumulate: bool) -> Destination {
        if self.is_resadd { Destination::Accumulator { accumulate } } else { Destination::Scratchpad }
    }

    fn load_d_req(&self, loop_id: LoopId) -> LoadReq {
        let (geometry, slot) = (&self.geometry, &self.loops[loop_id]);
        let pads = self.pads(slot);
        let (element_bytes, max_block_len) = if slot.run.low_d {
            (geometry.input_bytes, geometry.max_block_len)
        } else {
            (geometry.acc_bytes, geometry.max_block_len_acc)
        };
        LoadReq {
            fast_max: slot.bounds.i,
            slow_max: slot.bounds.j,
            fast_is_column: false,
            row_pad: pads.i,
            col_pad: pads.j,
            dram_addr: slot.addrs_dc.d,
            dram_stride: slot.strides_dc.d_stride,
            element_bytes,
            max_block_len,
            local_start: self.ld_d_addr_start,
            destination: Destination::Accumulator { accumulate: false },
            loop_id,
        }
    }

    fn execute_req(&self, loop_id: LoopId) -> ExecuteReq {
        let slot = &self.loops[loop_id];
        let pads = self.pads(slot);
        let row_bits = self.geometry.layout.sp_addr_bits;
        let (a_addr_start, b_addr_end) = if slot.spad_only {
            (slot.spad_ab.a_start, slot.spad_ab.b_end)
        } else {
            (slot.a_start(&self.geometry, row_bits), slot.b_end(&self.geometry, row_bits + 1))
        };
        ExecuteReq {
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
            c_addr_start: self.ex_c_addr_start,
            loop_id,
            skip: self.is_resadd,
        }
    }

    fn store_req(&self, loop_id: LoopId, from_resadd_rows: bool) -> StoreReq {
        let slot = &self.loops[loop_id];
        let pads = self.pads(slot);
        StoreReq {
            max_i: slot.bounds.i,
            max_j: slot.bounds.j,
            max_k: if self.is_resadd { 1 } else { slot.bounds.k },
            pad_i: pads.i,
            pad_j: pads.j,
            dram_addr: slot.addrs_dc.c,
            dram_stride: slot.strides_dc.c_stride,
            spad_addr: slot.run.c_spad & mask(self.geometry.layout.sp_addr_bits) as u32,
            full_c: slot.run.full_c,
            act: slot.run.act,
            addr_start: if from_resadd_rows { slot.resadd_addr_start } else { self.st_c_addr_start },
            loop_id,
            is_resadd: self.is_resadd,
        }
    }

    /// Clocks the parts; true if one of them starts or gets idle.
    fn tick_units(&mut self, source: Option<Source>, accepting: &Accepting) -> bool {
        let idle_before = self.units_idle_bits();
        self.ld_a.edge(source == Some(Source::LoadA));
        self.ld_b.edge(source == Some(Source::LoadB));
        self.ld_d.edge(source == Some(Source::LoadD));
        self.ex.edge(source == Some(Source::Execute));
        self.st.edge(source == Some(Source::Store), &self.geometry);
        self.st_spad.edge(source == Some(Source::StoreSpad), &self.geometry);
        if !accepting.is_empty() {
            self.accept(accepting);
        }
        self.units_idle_bits() != idle_before
    }

    /// Idle parts accept their requests. These depend on no other part.
    fn accept(&mut self, accepting: &Accepting) {
        if let Some(id) = accepting.a {
            self.ld_a.accept(self.load_a_req(id));
        }
        if let Some(id) = accepting.b {
            self.ld_b.accept(self.load_b_req(id));
        }
        if let Some(id) = accepting.d {
            self.ld_d.accept(self.load_d_req(id));
        }
        if let Some(id) = accepting.ex {
            self.ex.accept(self.execute_req(id));
        }
        if let Some(id) = accepting.st {
            self.st.accept(self.store_req(id, self.is_resadd));
        }
        if let Some(id) = accepting.st_spad {
            self.st_spad.accept(self.store_req(id, false));
        }
        self.mark_started(accepting);
    }

    /// Flags the parts that accept a request, and moves their accumulator halves on.
    fn mark_started(&mut self, accepting: &Accepting) {
        let (loops, geometry) = (&mut self.loops, &self.geometry);
        let toggle = |start: &mut u32| *start = geometry.toggle_acc_half(*start);
        if accepting.d.is_some_and(|id| loops[id].addrs_dc.c != 0) {
            toggle(&mut self.ld_d_addr_start);
        }
        if accepting.ex.is_some_and(|id| loops[id].advances_acc()) {
            toggle(&mut self.ex_c_addr_start);
        }
        let st = accepting.st.or(accepting.st_spad);
        if st.is_some_and(|id| loops[id].advances_acc()) {
            toggle(&mut self.st_c_addr_start);
        }
        for (part, id) in PARTS.into_iter().zip([accepting.a, accepting.b, accepting.d, accepting.ex, st]) {
            if let Some(id) = id {
                loops[id].flags.start(part as usize);
            }
        }
    }

    /// The parts that are idle, one bit each.
    fn units_idle_bits(&self) -> u32 {
        let loads = [self.ld_a.idle(), self.ld_b.idle(), self.ld_d.idle()];
        let others = [self.ex.idle(), self.st.idle(), self.st_spad.idle()];
        loads.into_iter().chain(others).fold(0, |bits, idle| bits << 1 | u32::from(idle))
    }

    /// What this cycle is spent on, given `out.ready`.
    pub fn activity(&self, out_ready: bool) -> UnrollerActivity {
        use UnrollerActivity::{Busy, Idle, Stalled};
        let transfer = self.transfer(out_ready);
        if !self.busy() {
            Idle
        } else if transfer.pop || transfer.out.is_some() {
            Busy
        } else if !self.loop_configured() || self.grant().is_some() {
            Stalled(UnrollerStall::Output)
        } else {
            Stalled(self.stall())
        }
    }

    fn stall(&self) -> UnrollerStall {
        let active = [
            (Unit::St, self.st.idle() && self.st_spad.idle()),
            (Unit::Ex, self.ex.idle()),
            (Unit::Ld, self.ld_a.idle() && self.ld_b.idle() && self.ld_d.idle()),
        ];
        let mut active = active.into_iter().filter(|(_, idle)| !idle).map(|(unit, _)| unit).peekable();
        if active.peek().is_none() {
            return UnrollerStall::Turnover;
        }
        match active.find(|&unit| !self.in_flight.has_room(unit)) {
            Some(unit) => UnrollerStall::InFlight(unit),
            None => UnrollerStall::OtherPart,
        }
    }

    /// What the unroller waits for, if it is not idle.
    pub fn waiting_for(&self) -> Option<String> {
        if !self.busy() {
            return None;
        }
        if !self.loop_configured() {
            return Some("room in the unrolled command queue".to_owned());
        }
        let slot = &self.loops[self.head];
        if !slot.flags.running {
            return Some("a part of the loop that is not skipped: all five skip bits are set".to_owned());
        }
        let missing = |part: &Part| !slot.flags.completed.has(*part as usize);
        let parts: Vec<_> = PARTS.iter().filter(|part| missing(part)).map(|part| format!("{part:?}")).collect();
        Some(format!("the loop's parts {} to be emitted; {}", parts.join(", "), self.in_flight.describe()))
    }
}

/// The loops whose requests the parts accept in one cycle.
#[derive(Clone, Copy, Debug, Default)]
struct Accepting {
    a: Option<LoopId>,
    b: Option<LoopId>,
    d: Option<LoopId>,
    ex: Option<LoopId>,
    st: Option<LoopId>,
    st_spad: Option<LoopId>,
}

impl Accepting {
    /// No part accepts one.
    #[inline]
    fn is_empty(&self) -> bool {
        let Self { a, b, d, ex, st, st_spad } = self;
        [a, b, d, ex, st, st_spad].iter().all(|id| id.is_none())
    }
}

/// Elements missing in the last block of each dimension.
struct Pads {
    i: u16,
    j: u16,
    k: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = 0x1_0000;
    const B: u64 = 0x2_0000;
    const C: u64 = 0x3_0000;
    const D: u64 = 0x4_0000;

    fn loop_ws(i: u64, j: u64, k: u64, d: u64) -> Vec<RoccCommand> {
        let cmd = |funct, rs1, rs2| RoccCommand { funct, rs1, rs2 };
        vec![
            cmd(funct::LOOP_WS_CONFIG_BOUNDS, 0, k << 32 | j << 16 | i),
            cmd(funct::LOOP_WS_CONFIG_ADDRS_AB, A, B),
            cmd(funct::LOOP_WS_CONFIG_ADDRS_DC, d, C),
            cmd(funct::LOOP_WS_CONFIG_STRIDES_AB, 16 * k, 16 * j),
            cmd(funct::LOOP_WS_CONFIG_STRIDES_DC, 16 * j, 16 * j),
            cmd(funct::LOOP_WS, 0, 0),
        ]
    }

    /// A block as `name+index`, counted in DIM rows from the start of its operand in the slot.
    fn block(name: &str, local: u64, start: u32) -> String {
        let local = LocalAddr(local as u32);
        if local.is_garbage(GemminiConfig::default16().layout()) {
            return "garbage".to_owned();
        }
        let row = (local.0 & 0x3fff) - start;
        format!("{name}{}{}", row / 16, if local.is_acc() && local.accumulate() { " acc" } else { "" })
    }

    /// The command in short, with the blocks' rows relative to the scratchpad half's A start and B start and to the
    /// accumulator half `acc`.
    fn short(cmd: &RoccCommand, b_rows: u32, half: u32) -> String {
        let (a, b, c) = (8192 * half, 8192 * (half + 1) - b_rows, 512 * half);
        let blocks = (cmd.rs2 >> 32 & 0xffff) / 16;
        match cmd.funct {
            funct::MVIN => format!("load {} x{blocks}", block("A", cmd.rs2, a)),
            funct::MVIN2 => format!("load {} x{blocks}", block("B", cmd.rs2, b)),
            funct::MVIN3 => format!("load {} x{blocks}", block("D", cmd.rs2, c)),
            funct::PRELOAD => format!("preload {} -> {}", block("B", cmd.rs1, b), block("C", cmd.rs2, c)),
            funct::COMPUTE_AND_FLIP => format!("flip {}", block("A", cmd.rs1, a)),
            funct::COMPUTE_AND_STAY => format!("stay {}", block("A", cmd.rs1, a)),
            funct::MVOUT => format!("store {} x{blocks}", block("C", cmd.rs2, c)),
            other => format!("funct {other}"),
        }
    }

    /// Emissions with the output always ready and commands that complete in the cycle after they are emitted, as
    /// `(cycle, command)`; cycle 0 is the first in which the first loop's slot is configured. Also the cycles in which
    /// slots are free again.
    fn emissions(program: &[RoccCommand]) -> (Vec<(i64, RoccCommand)>, Vec<i64>) {
        let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
        let mut program = program.iter();
        let (mut first, mut emitted, mut freed) = (None, Vec::new(), Vec::new());
        let mut departed = [0; 3];
        for cycle in 0..200 {
            if unroller.loop_configured() {
                first.get_or_insert(cycle);
            }
            let transfer = unroller.transfer(true);
            let accepted = if unroller.in_ready() { program.next() } else { None };
            let input = accepted.map(|&cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host });
            let head = unroller.head;
            unroller.tick(input, &transfer, departed);
            departed = [0; 3];
            let zero = first.unwrap_or(cycle);
            if unroller.head != head {
                freed.push(cycle + 1 - zero);
            }
            if let Some(GemminiCmd { cmd, origin, .. }) = transfer.out {
                assert_eq!(origin, Origin::Matmul);
                departed[transfer.source.map_or(0, |source| source.unit() as usize)] = 1;
                emitted.push((cycle - zero, cmd));
            }
        }
        assert!(!unroller.busy());
        (emitted, freed)
    }

    fn listing(program: &[RoccCommand], b_rows: u32) -> (Vec<String>, Vec<i64>) {
        let (emitted, freed) = emissions(program);
        (emitted.iter().map(|(cycle, cmd)| format!("{cycle}: {}", short(cmd, b_rows, 0))).collect(), freed)
    }

    #[test]
    fn a_loop_of_one_block_loads_b_before_a_and_frees_its_slot_three_cycles_after_the_store() {
        let (lines, freed) = listing(&loop_ws(1, 1, 1, 0), 16);
        assert_eq!(lines, ["1: load B0 x1", "2: load A0 x1", "3: preload B0 -> C0", "4: flip A0", "5: store C0 x1"]);
        assert_eq!(freed, [8]);
    }

    #[test]
    fn parts_overtake_each_other_block_by_block() {
        let (lines, freed) = listing(&loop_ws(2, 2, 2, 0), 64);
        let expected = "\
            1: load B0 x2|2: load A0 x2|3: preload B0 -> C0|4: flip A0|5: load A2 x2|6: preload garbage -> C2|\
            7: stay A2|8: preload B1 -> C1|9: flip A0|10: preload garbage -> C3|11: stay A2|12: load B2 x2|\
            13: preload B2 -> C0 acc|14: flip A1|15: preload garbage -> C2 acc|16: stay A3|17: preload B3 -> C1 acc|\
            18: flip A1|19: store C0 x2|20: preload garbage -> C3 acc|21: stay A3|22: store C2 x2";
        assert_eq!(lines, expected.split('|').collect::<Vec<_>>());
        assert_eq!(freed, [25]);
    }

    #[test]
    fn the_execute_part_waits_for_the_whole_bias() {
        let (lines, freed) = listing(&loop_ws(2, 1, 1, D), 16);
        let expected = "\
            1: load D0 x1|2: load D1 x1|3: load B0 x1|4: load A0 x1|5: preload B0 -> C0|6: flip A0|7: store C0 x1|\
            8: load A1 x1|9: preload garbage -> C1|10: stay A1|11: store C1 x1";
        assert_eq!(lines, expected.split('|').collect::<Vec<_>>());
        assert_eq!(freed, [14]);
    }

    #[test]
    fn the_second_loop_uses_the_other_halves_and_starts_as_the_parts_get_free() {
        let (emitted, freed) = emissions(&[loop_ws(1, 1, 1, 0), loop_ws(1, 1, 1, 0)].concat());
        let second: Vec<_> =
            emitted[5..].iter().map(|(cycle, cmd)| format!("{cycle}: {}", short(cmd, 16, 1))).collect();
        let expected = ["7: load B0 x1", "8: load A0 x1", "9: preload B0 -> C0", "10: flip A0", "11: store C0 x1"];
        assert_eq!(second, expected);
        assert_eq!(freed, [8, 14]);
    }

    #[test]
    fn a_third_loop_waits_at_the_input_until_the_first_is_released() {
        let one = loop_ws(1, 1, 1, 0);
        let (emitted, freed) = emissions(&[one.clone(), one.clone(), one].concat());
        assert_eq!(emitted.len(), 15);
        // Its six commands leave the queue in the cycles 8 to 13; from 14 on it takes its eight cycles.
        assert_eq!(freed, [8, 14, 22]);
    }

    #[test]
    fn an_ordinary_command_waits_for_the_loops_before_it() {
        let mut program = loop_ws(1, 1, 1, 0);
        program.push(RoccCommand { funct: funct::FLUSH, rs1: 0, rs2: 0 });
        let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
        let mut program = program.into_iter();
        let mut order = Vec::new();
        for _ in 0..60 {
            let transfer = unroller.transfer(true);
            let cmd = if unroller.in_ready() { program.next() } else { None };
            let departed = transfer.source.map_or([0; 3], |source| UNIT_COUNTS[source.unit() as usize]);
            order.extend(transfer.out.map(|out| (out.cmd.funct, out.origin)));
            unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host }), &transfer, departed);
        }
        assert_eq!(order.last(), Some(&(funct::FLUSH, Origin::Host)));
        assert_eq!(order.len(), 6);
    }

    const UNIT_COUNTS: [PerUnit<u8>; 3] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

    #[test]
    fn as_many_commands_are_in_flight_as_the_station_has_entries() {
        let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
        let mut program = loop_ws(20, 1, 1, 0).into_iter();
        let mut emitted = [0; 3];
        for _ in 0..100 {
            let transfer = unroller.transfer(true);
            let cmd = if unroller.in_ready() { program.next() } else { None };
            if let Some(source) = transfer.source {
                emitted[source.unit() as usize] += 1;
            }
            unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host }), &transfer, [0; 3]);
        }
        assert_eq!(emitted, [8, 14, 4], "one load of B and seven of A, with which seven blocks can be computed");
        assert_eq!(unroller.activity(true), UnrollerActivity::Stalled(UnrollerStall::InFlight(Unit::St)));
    }

    #[test]
    fn a_loop_that_skips_all_its_parts_never_ends() {
        let mut program = loop_ws(1, 1, 1, 0);
        program[5].rs2 = 0b1111_1000;
        let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
        for cmd in program.into_iter().map(Some).chain(std::iter::repeat_n(None, 50)) {
            let transfer = unroller.transfer(true);
            unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host }), &transfer, [0; 3]);
        }
        assert!(unroller.busy());
        assert!(unroller.waiting_for().is_some_and(|reason| reason.contains("all five skip bits")));
    }
}
