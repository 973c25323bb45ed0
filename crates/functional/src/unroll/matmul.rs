//! LOOP_WS (`LoopMatmul.scala`, `WeightedArbiter.scala`).

use pollux_isa::config::CONCURRENT_LOOPS;
use pollux_isa::fields::{Compute, ConfigNorm, LoopWs, MoveOperands, MoveSpad, Preload};
use pollux_isa::values::{Activation, NormCmd};
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr};

use super::block_walk::{BlockWalk, cast_to_acc_addr, cast_to_sp_addr, floor_add, low_bits};
use super::emitted::{Accepted, LoopUnit, Unrolled};

/// Statistics registers that the normalizing store uses in turn (`NORM_STAT_IDS`).
const NORM_STAT_IDS: u16 = 2;

/// Passes over a row that the normalizing store makes (`ln_norm_cmds`, `sm_norm_cmds`).
const NORM_PASSES: u16 = 3;

/// What a loop needs of the configuration.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    layout: AddressLayout,
    dim: u16,
    input_bytes: u64,
    acc_bytes: u64,
    max_block_len: u16,
    max_block_len_acc: u16,
    cols_mask: u16,
    rows_mask: u16,
}

impl Geometry {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            layout: config.layout(),
            dim: config.dim() as u16,
            input_bytes: config.input_type.bytes().into(),
            acc_bytes: config.acc_type.bytes().into(),
            max_block_len: config.max_block_len() as u16,
            max_block_len_acc: config.max_block_len_acc() as u16,
            cols_mask: low_bits(config.mvin_cols_bits()),
            rows_mask: low_bits(config.dim_count_bits()),
        }
    }

    /// Operands of a move of the walk's current blocks.
    fn move_operands(&self, walk: &BlockWalk, local: LocalAddr) -> MoveOperands {
        MoveOperands {
            dram: walk.dram_row(0),
            local,
            cols: walk.command_cols() as u16 & self.cols_mask,
            rows: walk.command_rows() as u16 & self.rows_mask,
        }
    }

    /// Half of the scratchpad's rows.
    fn sp_half(&self) -> u32 {
        self.layout.sp_rows / CONCURRENT_LOOPS
    }

    /// Half of the accumulator's rows.
    fn acc_half(&self) -> u32 {
        self.layout.acc_rows / CONCURRENT_LOOPS
    }
}

/// Configuration values of one loop (`LoopMatmulState`). They persist until written again.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    max_i: u16,
    max_j: u16,
    max_k: u16,
    pad_i: u16,
    pad_j: u16,
    pad_k: u16,
    a_dram_addr: u64,
    b_dram_addr: u64,
    d_dram_addr: u64,
    c_dram_addr: u64,
    a_dram_stride: u64,
    b_dram_stride: u64,
    d_dram_stride: u64,
    c_dram_stride: u64,
    a_addr_start: u32,
    b_addr_end: u32,
    resadd_addr_start: u32,
}

/// The unroller's registers.
#[derive(Clone, Debug)]
pub(super) struct LoopMatmul {
    geometry: Geometry,
    slots: [Slot; CONCURRENT_LOOPS as usize],
    /// Slot that is configured and run next. It has no reset value in hardware; the golden bench starts it at 0.
    head_loop_id: usize,
    ld_d_addr_start: u32,
    ex_c_addr_start: u32,
    st_c_addr_start: u32,
}

impl LoopMatmul {
    pub(super) fn new(config: &GemminiConfig) -> Self {
        let geometry = Geometry::new(config);
        let slot = |i: u32| Slot {
            a_addr_start: i * geometry.sp_half(),
            b_addr_end: (i + 1) * geometry.sp_half(),
            resadd_addr_start: i * geometry.acc_half(),
            ..Slot::default()
        };
        Self {
            geometry,
            slots: std::array::from_fn(|i| slot(i as u32)),
            head_loop_id: 0,
            ld_d_addr_start: 0,
            ex_c_addr_start: 0,
            st_c_addr_start: 0,
        }
    }

    pub(super) fn accept(&mut self, command: &Command) -> Accepted<MatmulCommands> {
        let pad_mask = self.geometry.dim - 1;
        let slot = &mut self.slots[self.head_loop_id];
        match *command {
            Command::LoopWsBounds(f) => {
                (slot.max_i, slot.max_j, slot.max_k) = (f.i, f.j, f.k);
                (slot.pad_i, slot.pad_j, slot.pad_k) = (f.pad_i & pad_mask, f.pad_j & pad_mask, f.pad_k & pad_mask);
            }
            Command::LoopWsAddrsAb(f) => (slot.a_dram_addr, slot.b_dram_addr) = (f.a, f.b),
            Command::LoopWsAddrsDc(f) => (slot.d_dram_addr, slot.c_dram_addr) = (f.d, f.c),
            Command::LoopWsStridesAb(f) => (slot.a_dram_stride, slot.b_dram_stride) = (f.a_stride, f.b_stride),
            Command::LoopWsStridesDc(f) => (slot.d_dram_stride, slot.c_dram_stride) = (f.d_stride, f.c_stride),
            Command::LoopWsSpadAb(f) => (slot.a_addr_start, slot.b_addr_end) = (f.a_start, f.b_end),
            Command::LoopWsSpadC(_) => {}
            Command::LoopWs(f) => return self.start(f),
            _ => return Accepted::PassedThrough,
        }
        Accepted::Configured
    }

    fn start(&mut self, run: LoopWs) -> Accepted<MatmulCommands> {
        if run.skip_lda && run.skip_ldb && run.skip_ldd && run.skip_ex && run.skip_stc {
            return Accepted::NeverCompletes;
        }
        let slot = self.slots[self.head_loop_id];
        self.head_loop_id ^= 1;
        let acc_half = self.geometry.acc_half();
        let take = |start: &mut u32, used: bool, advance: bool| {
            let now = *start;
            if used && advance {
                *start = if now == 0 { acc_half } else { 0 };
            }
            now
        };
        let advance = if run.spad_only { run.inc_acc_addr } else { slot.c_dram_addr != 0 };
        let starts = AccStarts {
            d: take(&mut self.ld_d_addr_start, !run.skip_ldd, slot.c_dram_addr != 0),
            ex: take(&mut self.ex_c_addr_start, !run.skip_ex, advance),
            st: take(&mut self.st_c_addr_start, !run.skip_stc, advance),
        };
        Accepted::Loop(MatmulCommands::new(self.geometry, &slot, run, starts))
    }
}

/// First accumulator rows of the three units that use it.
#[derive(Clone, Copy, Debug)]
struct AccStarts {
    d: u32,
    ex: u32,
    st: u32,
}

/// The commands of one LOOP_WS, in emission order.
///
/// A unit is `None` when it is idle: skipped, without a DRAM address, or done.
#[derive(Clone, Debug)]
pub struct MatmulCommands {
    geometry: Geometry,
    is_resadd: bool,
    low_priority_store: Option<SpadStore>,
    ld_a: Option<BlockWalk>,
    ld_b: Option<BlockWalk>,
    ld_d: Option<BlockWalk>,
    ex: Option<ExecuteUnit>,
    st_c: Option<StoreUnit>,
    a_transpose: bool,
    b_transpose: bool,
}

impl MatmulCommands {
    fn new(geometry: Geometry, slot: &Slot, run: LoopWs, starts: AccStarts) -> Self {
        let units = Units { geometry, slot, run, starts };
        Self {
            geometry,
            is_resadd: run.is_resadd,
            ld_a: units.ld_a(),
            ld_b: units.ld_b(),
            ld_d: units.ld_d(),
            ex: units.execute(),
            st_c: units.st_c(),
            low_priority_store: units.st_c_spad(),
            a_transpose: run.a_transpose,
            b_transpose: run.b_transpose,
        }
    }

    /// `ex_ahead` of the stores: everything that the current blocks depend on has been emitted.
    fn store_may_go(&self, walk: &BlockWalk, normalizes: bool) -> bool {
        let behind_blocks = u32::from(walk.col) + u32::from(walk.blocks());
        if self.is_resadd {
            return match (&self.ld_a, &self.ld_b) {
                (None, None) => true,
                (_, Some(b)) => b.row > walk.row || (b.row == walk.row && u32::from(b.col) >= behind_blocks),
                // B's counters are back at zero.
                (Some(_), None) => false,
            };
        }
        let Some(ex) = &self.ex else { return true };
        let j_done = u32::from(ex.j) >= behind_blocks || (u32::from(ex.j) + 1 == behind_blocks && ex.i > walk.row);
        !normalizes && ex.k == ex.max_k.wrapping_sub(1) && j_done
    }

    fn store(&mut self) -> Option<Unrolled> {
        let st = self.st_c.as_ref()?;
        if !self.store_may_go(&st.walk, st.norm.is_some()) {
            return None;
        }
        let mut st = self.st_c.take()?;
        let command = st.emit(&self.geometry);
        self.st_c = st.advance().then_some(st);
        Some(Unrolled { unit: LoopUnit::Store, command })
    }

    fn store_spad(&mut self) -> Option<Unrolled> {
        let st = self.low_priority_store.as_ref()?;
        if !self.store_may_go(&st.walk, st.normalizes) {
            return None;
        }
        let mut st = self.low_priority_store.take()?;
        let command = st.emit(&self.geometry);
        self.low_priority_store = st.walk.advance().then_some(st);
        Some(Unrolled { unit: LoopUnit::StoreSpad, command })
    }

    /// `ld_ahead`: the blocks that the next product needs have been emitted. The test of B looks at A's `k`.
    fn execute_may_go(&self, ex: &ExecuteUnit) -> bool {
        let (a_i, a_k) = self.ld_a.as_ref().map_or((0, 0), |a| counters(a, self.a_transpose));
        let a_ahead = self.ld_a.is_none() || a_k > ex.k || (a_k == ex.k && a_i > ex.i);
        let b_ahead = self.ld_b.as_ref().is_none_or(|b| {
            let (b_k, b_j) = counters(b, self.b_transpose);
            b_k > ex.k || (a_k == ex.k && b_j > ex.j)
        });
        a_ahead && b_ahead && self.ld_d.is_none()
    }

    fn execute(&mut self) -> Option<Unrolled> {
        if !self.execute_may_go(self.ex.as_ref()?) {
            return None;
        }
        let mut ex = self.ex.take()?;
        let command = ex.emit(&self.geometry);
        self.ex = ex.advance().then_some(ex);
        Some(Unrolled { unit: LoopUnit::Execute, command })
    }

    fn load_d(&mut self) -> Option<Unrolled> {
        let mut walk = self.ld_d.take()?;
        let layout = self.geometry.layout;
        let local = cast_to_acc_addr(layout, walk.local_row(), false, false);
        let command = Command::Mvin3(self.geometry.move_operands(&walk, local));
        self.ld_d = walk.advance().then_some(walk);
        Some(Unrolled { unit: LoopUnit::LoadD, command })
    }

    /// `WeightedArbiter` with a static weight: looks at the counters of A and B.
    fn load_a_or_b(&mut self) -> Option<Unrolled> {
        let b_goes = match (&self.ld_a, &self.ld_b) {
            (None, None) => return None,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(_), Some(_)) if self.is_resadd => false,
            (Some(a), Some(b)) => {
                let (_, a_k) = counters(a, self.a_transpose);
                let (b_k, b_j) = counters(b, self.b_transpose);
                a_k > b_k || (b_k == 0 && b_j == 0)
            }
        };
        if b_goes { self.load_b() } else { self.load_a() }
    }

    fn load_a(&mut self) -> Option<Unrolled> {
        let mut walk = self.ld_a.take()?;
        let local = self.load_address(&walk, false);
        let command = Command::Mvin(self.geometry.move_operands(&walk, local));
        self.ld_a = walk.advance().then_some(walk);
        Some(Unrolled { unit: LoopUnit::LoadA, command })
    }

    fn load_b(&mut self) -> Option<Unrolled> {
        let mut walk = self.ld_b.take()?;
        let local = self.load_address(&walk, true);
        let command = Command::Mvin2(self.geometry.move_operands(&walk, local));
        self.ld_b = walk.advance().then_some(walk);
        Some(Unrolled { unit: LoopUnit::LoadB, command })
    }

    /// A residual addition loads into the accumulator: A overwrites, B accumulates.
    fn load_address(&self, walk: &BlockWalk, accumulate: bool) -> LocalAddr {
        let layout = self.geometry.layout;
        if self.is_resadd {
            cast_to_acc_addr(layout, walk.local_row(), accumulate, false)
        } else {
            cast_to_sp_addr(layout, walk.local_row())
        }
    }
}

/// The unit's counters as `LoopMatmulLdA` and `LoopMatmulLdB` name them: (i, k) of A, (k, j) of B.
fn counters(walk: &BlockWalk, transpose: bool) -> (u16, u16) {
    if transpose { (walk.col, walk.row) } else { (walk.row, walk.col) }
}

impl Iterator for MatmulCommands {
    type Item = Unrolled;

    /// The global arbiter: a fixed priority among the units that have a command.
    fn next(&mut self) -> Option<Unrolled> {
        self.store()
            .or_else(|| self.execute())
            .or_else(|| self.load_d())
            .or_else(|| self.load_a_or_b())
            .or_else(|| self.store_spad())
    }
}

/// The requests to the five units.
struct Units<'a> {
    geometry: Geometry,
    slot: &'a Slot,
    run: LoopWs,
    starts: AccStarts,
}

impl Units<'_> {
    /// A walk over a matrix of `rows` x `cols` blocks, or nothing without a DRAM address.
    fn walk(&self, dram: u64, stride: u64, [rows, cols]: [u16; 2], [row_pad, col_pad]: [u16; 2]) -> Option<BlockWalk> {
        (dram != 0).then_some(BlockWalk {
            rows,
            cols,
            row_pad,
            col_pad,
            max_blocks: cols.min(self.geometry.max_block_len),
            row_fastest: true,
            row: 0,
            col: 0,
            start: 0,
            dim: self.geometry.dim,
            dram,
            stride,
            bytes: self.geometry.input_bytes,
        })
    }

    fn a_start(&self, spad_only: bool) -> u32 {
        match self.run.a_spad_id {
            0 => self.slot.a_addr_start,
            _ if spad_only => self.slot.a_addr_start,
            id => (u32::from(id) - 1) * self.geometry.sp_half(),
        }
    }

    fn b_end(&self, spad_only: bool) -> u32 {
        match self.run.b_spad_id {
            0 => self.slot.b_addr_end,
            _ if spad_only => self.slot.b_addr_end,
            id => u32::from(id) * self.geometry.sp_half(),
        }
    }

    fn ld_a(&self) -> Option<BlockWalk> {
        let (s, run) = (self.slot, &self.run);
        if run.skip_lda {
            return None;
        }
        let (max_k, pad_k) = if run.is_resadd { (s.max_j, s.pad_j) } else { (s.max_k, s.pad_k) };
        let (shape, pads) = transposed_if(run.a_transpose, [s.max_i, max_k], [s.pad_i, pad_k]);
        let walk = self.walk(s.a_dram_addr, s.a_dram_stride, shape, pads)?;
        let start = if run.is_resadd { s.resadd_addr_start } else { self.a_start(false) };
        Some(BlockWalk { row_fastest: !run.a_transpose, start: start.into(), ..walk })
    }

    fn ld_b(&self) -> Option<BlockWalk> {
        let (s, run) = (self.slot, &self.run);
        if run.skip_ldb {
            return None;
        }
        let (max_k, pad_k) = if run.is_resadd { (s.max_i, s.pad_i) } else { (s.max_k, s.pad_k) };
        let (shape, pads) = transposed_if(run.b_transpose, [max_k, s.max_j], [pad_k, s.pad_j]);
        let walk = self.walk(s.b_dram_addr, s.b_dram_stride, shape, pads)?;
        let start = match run.is_resadd {
            true => s.resadd_addr_start.into(),
            false => b_start(self.b_end(false), max_k, s.max_j, self.geometry.dim),
        };
        // `rows` compares the number of block rows with itself minus one, so B always loads whole blocks.
        Some(BlockWalk { row_fastest: run.b_transpose, row_pad: 0, start, ..walk })
    }

    fn ld_d(&self) -> Option<BlockWalk> {
        let (s, run, g) = (self.slot, &self.run, &self.geometry);
        if run.skip_ldd {
            return None;
        }
        let walk = self.walk(s.d_dram_addr, s.d_dram_stride, [s.max_i, s.max_j], [s.pad_i, s.pad_j])?;
        let (bytes, blocks) =
            if run.low_d { (g.input_bytes, g.max_block_len) } else { (g.acc_bytes, g.max_block_len_acc) };
        Some(BlockWalk { bytes, max_blocks: s.max_j.min(blocks), start: self.starts.d.into(), ..walk })
    }

    fn execute(&self) -> Option<ExecuteUnit> {
        let (s, run) = (self.slot, self.run);
        (!run.skip_ex && !run.is_resadd).then(|| ExecuteUnit {
            max_i: s.max_i,
            max_j: s.max_j,
            max_k: s.max_k,
            pad_i: s.pad_i,
            pad_j: s.pad_j,
            pad_k: s.pad_k,
            a_transpose: run.a_transpose,
            b_transpose: run.b_transpose,
            accumulate: run.ex_accumulate,
            a_start: self.a_start(run.spad_only).into(),
            b_start: b_start(self.b_end(run.spad_only), s.max_k, s.max_j, self.geometry.dim),
            c_start: self.starts.ex.into(),
            i: 0,
            j: 0,
            k: 0,
            comp: false,
        })
    }

    fn st_c(&self) -> Option<StoreUnit> {
        let (s, run, g) = (self.slot, &self.run, &self.geometry);
        // A residual addition requests this unit whatever spad_only says.
        if run.skip_stc || (run.spad_only && !run.is_resadd) {
            return None;
        }
        let walk = self.walk(s.c_dram_addr, s.c_dram_stride, [s.max_i, s.max_j], [s.pad_i, s.pad_j])?;
        let start = if run.is_resadd { s.resadd_addr_start } else { self.starts.st };
        let walk = BlockWalk { start: start.into(), ..walk };
        let norm = NormWalk::of(run.act);
        Some(match run.full_c {
            true => StoreUnit { walk: BlockWalk { bytes: g.acc_bytes, max_blocks: 1, ..walk }, full_c: true, norm },
            false => StoreUnit { walk, full_c: false, norm },
        })
    }

    fn st_c_spad(&self) -> Option<SpadStore> {
        let (s, run) = (self.slot, &self.run);
        if run.skip_stc || !run.spad_only {
            return None;
        }
        // No DRAM address is involved; the walk gets one that is not zero.
        let walk = self.walk(1, 0, [s.max_i, s.max_j], [s.pad_i, s.pad_j])?;
        Some(SpadStore {
            walk: BlockWalk { start: self.starts.st.into(), max_blocks: 1, ..walk },
            dst: run.c_spad.into(),
            full_c: run.full_c,
            normalizes: NormWalk::of(run.act).is_some(),
        })
    }
}

fn transposed_if(transpose: bool, [rows, cols]: [u16; 2], [row_pad, col_pad]: [u16; 2]) -> ([u16; 2], [u16; 2]) {
    if transpose { ([cols, rows], [col_pad, row_pad]) } else { ([rows, cols], [row_pad, col_pad]) }
}

/// First row of B, which ends at `end`. A matrix that is too large wraps, as the hardware's subtraction does.
fn b_start(end: u32, max_k: u16, max_j: u16, dim: u16) -> u64 {
    u64::from(end).wrapping_sub(u64::from(max_k) * u64::from(max_j) * u64::from(dim))
}

/// `LoopMatmulExecute`.
#[derive(Clone, Debug)]
struct ExecuteUnit {
    max_i: u16,
    max_j: u16,
    max_k: u16,
    pad_i: u16,
    pad_j: u16,
    pad_k: u16,
    a_transpose: bool,
    b_transpose: bool,
    accumulate: bool,
    a_start: u64,
    b_start: u64,
    c_start: u64,
    i: u16,
    j: u16,
    k: u16,
    /// The PRELOAD of the current product is out; its COMPUTE is next.
    comp: bool,
}

impl ExecuteUnit {
    fn emit(&self, g: &Geometry) -> Command {
        if self.comp { self.compute(g) } else { Command::Preload(self.preload(g)) }
    }

    /// Row of block (`row`, `col`) of a matrix whose block rows have `cols` blocks.
    fn block(g: &Geometry, start: u64, row: u16, col: u16, cols: u16) -> u64 {
        start.wrapping_add((u64::from(row) * u64::from(cols) + u64::from(col)) * u64::from(g.dim))
    }

    /// Rows or columns of a block: DIM, less the padding in the last one.
    fn extent(g: &Geometry, at: u16, max: u16, pad: u16) -> u16 {
        let extent = if at == max.wrapping_sub(1) { g.dim.wrapping_sub(pad) } else { g.dim };
        extent & g.rows_mask
    }

    fn preload(&self, g: &Geometry) -> Preload {
        let (row, col, cols) =
            if self.b_transpose { (self.j, self.k, self.max_k) } else { (self.k, self.j, self.max_j) };
        let b = Self::block(g, self.b_start, row, col, cols);
        let c = Self::block(g, self.c_start, self.i, self.j, self.max_j);
        let j_extent = Self::extent(g, self.j, self.max_j, self.pad_j);
        Preload {
            d: if self.i == 0 { cast_to_sp_addr(g.layout, b) } else { garbage(g) },
            d_cols: j_extent,
            d_rows: Self::extent(g, self.k, self.max_k, self.pad_k),
            c: cast_to_acc_addr(g.layout, c, self.accumulate || self.k != 0, false),
            c_cols: j_extent,
            c_rows: Self::extent(g, self.i, self.max_i, self.pad_i),
        }
    }

    fn compute(&self, g: &Geometry) -> Command {
        let (row, col, cols) =
            if self.a_transpose { (self.k, self.i, self.max_i) } else { (self.i, self.k, self.max_k) };
        let operands = Compute {
            a: cast_to_sp_addr(g.layout, Self::block(g, self.a_start, row, col, cols)),
            a_cols: Self::extent(g, self.k, self.max_k, self.pad_k),
            a_rows: Self::extent(g, self.i, self.max_i, self.pad_i),
            bd: garbage(g),
            bd_cols: g.dim,
            bd_rows: g.dim,
        };
        if self.i == 0 { Command::ComputePreloaded(operands) } else { Command::ComputeAccumulated(operands) }
    }

    /// i fastest, then j, then k; false after the last product.
    fn advance(&mut self) -> bool {
        self.comp = !self.comp;
        if self.comp {
            return true;
        }
        self.i = floor_add(self.i, 1, self.max_i, true);
        self.j = floor_add(self.j, 1, self.max_j, self.i == 0);
        self.k = floor_add(self.k, 1, self.max_k, self.i == 0 && self.j == 0);
        (self.i, self.j, self.k) != (0, 0, 0)
    }
}

/// `garbage_addr`: the bits that make an address garbage, the others 0.
pub(super) fn garbage_addr(layout: AddressLayout) -> LocalAddr {
    let data_and_garbage = (2 << layout.max_addr_bits) - 1;
    LocalAddr::accumulator(data_and_garbage).with_accumulate().with_full()
}

fn garbage(g: &Geometry) -> LocalAddr {
    garbage_addr(g.layout)
}

/// `LoopMatmulStC`.
#[derive(Clone, Debug)]
struct StoreUnit {
    walk: BlockWalk,
    full_c: bool,
    norm: Option<NormWalk>,
}

impl StoreUnit {
    fn emit(&self, g: &Geometry) -> Command {
        match &self.norm {
            None => {
                let local = cast_to_acc_addr(g.layout, self.walk.local_row(), false, self.full_c);
                Command::Mvout(g.move_operands(&self.walk, local))
            }
            Some(norm) if norm.config => Command::ConfigNorm(norm.config_norm()),
            Some(norm) => Command::Mvout(norm.mvout(g, &self.walk, self.full_c)),
        }
    }

    fn advance(&mut self) -> bool {
        match &mut self.norm {
            None => self.walk.advance(),
            Some(norm) => norm.advance(&mut self.walk),
        }
    }
}

/// The store's walk when LayerNorm or softmax need several passes over each row: two rows at a time, each with its statistics register.
#[derive(Clone, Debug)]
struct NormWalk {
    act: Activation,
    ln_row: u16,
    ln_cmd: u16,
    ln_stat_id: u16,
    /// CONFIG_NORM is next; the MVOUTs of the row follow.
    config: bool,
}

impl NormWalk {
    fn of(act: Activation) -> Option<Self> {
        let normalizes = matches!(act, Activation::Layernorm | Activation::Softmax);
        normalizes.then_some(Self { act, ln_row: 0, ln_cmd: 0, ln_stat_id: 0, config: true })
    }

    fn config_norm(&self) -> ConfigNorm {
        ConfigNorm {
            norm_stats_id: self.ln_stat_id as u8,
            act_msb: false,
            set_stats_id_only: true,
            q_const_type: false,
            q_const: 0,
            qb: 0,
            qc: 0,
        }
    }

    fn norm_cmd(&self, last_block: bool) -> NormCmd {
        let last_block_cmd = match (self.act, self.ln_cmd) {
            (Activation::Layernorm, 0) => NormCmd::Mean,
            (Activation::Layernorm, 1) => NormCmd::InvStddev,
            (_, 0) => NormCmd::Max,
            (_, 1) => NormCmd::InvSumExp,
            _ => NormCmd::Reset,
        };
        if last_block { last_block_cmd } else { last_block_cmd.non_reset_version() }
    }

    fn mvout(&self, g: &Geometry, walk: &BlockWalk, full_c: bool) -> MoveOperands {
        let row = self.ln_row.wrapping_add(self.ln_stat_id);
        let last_block = u32::from(walk.col) + u32::from(walk.max_blocks) >= u32::from(walk.cols);
        let local = cast_to_acc_addr(g.layout, walk.local_row().wrapping_add(row.into()), false, full_c);
        // Rows are stored as input elements, whatever full_C says (a TODO in the source).
        let dram = BlockWalk { bytes: g.input_bytes, ..walk.clone() }.dram_row(row);
        MoveOperands {
            dram,
            local: local.with_norm_cmd(self.norm_cmd(last_block)),
            rows: 1,
            ..g.move_operands(walk, local)
        }
    }

    /// Blocks of the row, then the statistics register, the pass, the pair of rows, and the block row.
    fn advance(&mut self, walk: &mut BlockWalk) -> bool {
        if self.config {
            self.config = false;
            return true;
        }
        let rows = walk.command_rows() as u16;
        walk.col = floor_add(walk.col, walk.max_blocks, walk.cols, true);
        let row_done = walk.col == 0;
        let stat_ids = rows.wrapping_sub(self.ln_row).min(NORM_STAT_IDS);
        self.ln_stat_id = floor_add(self.ln_stat_id, 1, stat_ids, row_done);
        let ids_done = row_done && self.ln_stat_id == 0;
        self.ln_cmd = floor_add(self.ln_cmd, 1, NORM_PASSES, ids_done);
        let passes_done = ids_done && self.ln_cmd == 0;
        self.ln_row = floor_add(self.ln_row, NORM_STAT_IDS, rows, passes_done);
        let rows_done = passes_done && self.ln_row == 0;
        walk.row = floor_add(walk.row, 1, walk.rows, rows_done);
        self.config = row_done;
        !(rows_done && walk.row == 0)
    }
}

/// `LoopMatmulStCSpad`: one block per command.
#[derive(Clone, Debug)]
struct SpadStore {
    walk: BlockWalk,
    dst: u64,
    full_c: bool,
    normalizes: bool,
}

impl SpadStore {
    fn emit(&self, g: &Geometry) -> Command {
        let offset = self.walk.local_row().wrapping_sub(self.walk.start);
        let operands = g.move_operands(&self.walk, LocalAddr::default());
        Command::MvoutSpad(MoveSpad {
            dst: cast_to_sp_addr(g.layout, self.dst.wrapping_add(offset)),
            dst_stride: 1,
            local: cast_to_acc_addr(g.layout, self.walk.local_row(), false, self.full_c),
            cols: operands.cols,
            rows: operands.rows,
        })
    }
}
