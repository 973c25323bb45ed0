//! Turns MVOUT commands into one request per row and block of DIM columns (`StoreController.scala`).
//!
//! Command queue Q(`st_queue_length`) without `flow`. Configurations take one cycle. A store is
//! allocated in the command tracker and offers its first row in the same cycle; then one request per
//! accepted cycle, a single one occupying two cycles. The scratchpad answers each row with one
//! response, in the cycle in which the row is read, so a store completes before its data has left.
//!
//! | name | direction | valid when | back pressure |
//! |---|---|---|---|
//! | `cmd` | in | the reservation station issues | `cmd_ready` |
//! | `request()` | out | from registers | `request_fires` |
//! | `response` | in | a row has been read | none |
//! | `completed()` | out | all rows of a command are read | `completed_ready` (completion arbiter) |
//!
//! Three orders of rows: plain (row by row, block by block), 1-D (a window of an image, by output
//! pixel) and pooled (per output pixel, the window's pixels).

use pollux_isa::fields::{ConfigNorm, ConfigSt, MoveOperands};
use pollux_isa::values::{Bits, NormCmd};
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr, RoccCommand};

use crate::dma::dma_command_tracker::{DmaCommandTracker, tracker_mask};
use crate::dma::dma_parameters::core_address;
use crate::front_end::counter_file::{CounterEvent, CounterEvents};
use crate::observation::dma_activity::{DmaControllerActivity, DmaControllerStall};
use crate::observation::event::EventBuffer;
use crate::observation::view::MoveView;
use crate::observation::violation::Violation;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::queue::Queue;
use crate::parts::wires::{IssuedCmd, RobId, Seq};

/// Width of the row counter.
const ROW_COUNTER_MASK: u32 = 0xfff;

/// A request to store one row of one block (`ScratchpadMemWriteRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct ScratchpadWriteRequest {
    /// Virtual address of the row's first byte (not of the block), or scratchpad row with `to_spad`.
    #[canon(address)]
    pub vaddr: u64,
    /// Local row; garbage stands for zeros.
    pub laddr: LocalAddr,
    /// The destination is the scratchpad (only built with an external scratchpad on TileLink).
    pub to_spad: bool,
    /// Activation code, 3 bits.
    pub acc_act: u8,
    /// Bits of the accumulator scale.
    pub acc_scale: u32,
    /// Constant b of the integer polynomial.
    pub acc_igelu_qb: i32,
    /// Constant c of the integer polynomial.
    pub acc_igelu_qc: i32,
    /// Constant ln 2 of the integer exponential.
    pub acc_iexp_qln2: i32,
    /// Its inverse.
    pub acc_iexp_qln2_inv: i32,
    /// Statistics register of the normalizer.
    pub acc_norm_stats_id: u8,
    /// Elements of this block.
    pub len: u16,
    /// Position of this block within its row.
    pub block: u8,
    /// Command tracker entry.
    pub cmd_id: u8,
    /// Take the maximum with the row kept in the writer.
    pub pool_en: bool,
    /// Send the row to memory.
    pub store_en: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
enum State {
    WaitingForCommand,
    WaitingForDmaReqReady,
    SendingRows,
    Pooling,
}

/// Operands of a store, MVOUT or MVOUT_SPAD.
#[derive(Clone, Copy, Debug, Canonical)]
struct Store {
    #[canon(address)]
    vaddr: u64,
    local: LocalAddr,
    rows: u32,
    cols: u32,
    blocks: u32,
    /// Rows between stored rows in the scratchpad (MVOUT_SPAD).
    spad_stride: Option<u32>,
}

/// A command in the queue, its fields already taken apart.
#[derive(Clone, Copy, Debug, Canonical)]
enum Decoded {
    Config(ConfigSt),
    Norm(ConfigNorm),
    Store(Store),
}

/// Registers of CONFIG_ST and CONFIG_NORM, all reset to 0.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct Settings {
    stride: u64,
    activation: u8,
    acc_scale: u32,
    igelu_qb: i32,
    igelu_qc: i32,
    iexp_qln2: i32,
    iexp_qln2_inv: i32,
    norm_stats_id: u8,
    pool_stride: u32,
    pool_size: u32,
    out_dim: u32,
    porows: u32,
    pocols: u32,
    orows: u32,
    ocols: u32,
    upad: u32,
    lpad: u32,
}

/// Order in which a store's rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
enum Mode {
    Plain,
    OneD,
    Pooled,
}

/// Position within a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
struct Counters {
    row: u32,
    block: u32,
    porow: u32,
    pocol: u32,
    wrow: u32,
    wcol: u32,
}

/// The commands that wait. A configuration has left the station as it was issued, and its entry may have been given to another.
fn commands(queue: &Queue<(Decoded, Option<RobId>)>, canon: &mut Canon) {
    canon.byte(queue.iter().count() as u8);
    for (decoded, entry) in queue.iter() {
        decoded.canonical(canon);
        if matches!(decoded, Decoded::Store(_)) {
            entry.canonical(canon);
        }
    }
}

/// The controller.
#[derive(Clone, Debug, Canonical)]
pub struct StoreController {
    #[canon(skip = "constant")]
    config: GemminiConfig,
    #[canon(skip = "constant")]
    layout: AddressLayout,
    #[canon(skip = "constant")]
    dim: u32,
    #[canon(skip = "constant")]
    amount_mask: u32,
    #[canon(via = commands)]
    queue: Queue<(Decoded, Option<RobId>)>,
    settings: Settings,
    mode: Mode,
    state: State,
    counters: Counters,
    tracker: DmaCommandTracker,
    /// Tracker entry of the command under way (`RegEnableThru`).
    cmd_id: u8,
}

impl StoreController {
    /// A controller after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            layout: config.layout(),
            dim: config.dim(),
            amount_mask: tracker_mask(largest_amount(config)),
            queue: Queue::plain(config.st_queue_length as usize),
            settings: Settings::default(),
            mode: Mode::Plain,
            state: State::WaitingForCommand,
            counters: Counters::default(),
            tracker: DmaCommandTracker::new(config.n_cmds() as usize),
            cmd_id: 0,
            config: config.clone(),
        }
    }

    /// True if the command queue accepts.
    #[inline]
    pub fn cmd_ready(&self) -> bool {
        self.queue.enq_ready(false)
    }

    /// True while a command is queued or under way.
    #[inline]
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || self.tracker.busy()
    }

    /// The finished command offered to the completion arbiter.
    #[inline]
    pub fn completed(&self) -> Option<RobId> {
        self.tracker.completed().flatten()
    }

    /// The command of an entry of the tracker.
    pub(crate) fn command(&self, id: u8) -> Option<RobId> {
        self.tracker.command(id)
    }

    /// State, as a number of the RTL's enumeration, and row counter.
    pub(crate) fn control(&self) -> (u32, u32) {
        (self.state as u32, self.counters.row)
    }

    /// Queue, row and tracker.
    pub(crate) fn view(&self, seq: Seq<'_>) -> MoveView {
        let queued = |(decoded, id): &(Decoded, Option<RobId>)| match decoded {
            Decoded::Config(_) | Decoded::Norm(_) => ("config", None),
            Decoded::Store(_) => ("store", id.and_then(seq)),
        };
        MoveView {
            state: match self.state {
                State::WaitingForCommand => "waiting_for_command",
                State::WaitingForDmaReqReady => "waiting_for_dma_req_ready",
                State::SendingRows => "sending_rows",
                State::Pooling => "pooling",
            },
            queue: self.queue.iter().map(queued).collect(),
            row: self.counters.row,
            rows: self.head_store().map_or(0, |store| store.rows),
            tracker: self.tracker.view(seq),
        }
    }

    fn head_store(&self) -> Option<&Store> {
        match self.queue.front() {
            Some((Decoded::Store(store), _)) => Some(store),
            _ => None,
        }
    }

    /// The row request offered in this cycle.
    #[inline]
    pub fn request(&self) -> Option<ScratchpadWriteRequest> {
        if self.queue.is_empty() { None } else { self.head_request() }
    }

    fn head_request(&self) -> Option<ScratchpadWriteRequest> {
        let store = self.head_store()?;
        let c = &self.counters;
        let offered = match self.state {
            State::WaitingForCommand => self.tracker.alloc_ready(),
            State::WaitingForDmaReqReady => true,
            State::SendingRows => c.block != 0 || c.row != 0,
            State::Pooling => c.wcol != 0 || c.wrow != 0 || c.pocol != 0 || c.porow != 0,
        };
        offered.then(|| self.make_request(store))
    }

    fn make_request(&self, store: &Store) -> ScratchpadWriteRequest {
        let (s, c) = (&self.settings, &self.counters);
        let pooled = self.mode == Mode::Pooled;
        let last_block = c.block + 1 == store.blocks;
        let window_ends = c.wrow + 1 == s.pool_size && c.wcol + 1 == s.pool_size;
        let tail = store.cols.wrapping_sub(1) % self.dim + 1;
        ScratchpadWriteRequest {
            vaddr: self.vaddr(store),
            laddr: self.laddr(store, last_block),
            to_spad: store.spad_stride.is_some(),
            acc_act: s.activation,
            acc_scale: s.acc_scale,
            acc_igelu_qb: s.igelu_qb,
            acc_igelu_qc: s.igelu_qc,
            acc_iexp_qln2: s.iexp_qln2,
            acc_iexp_qln2_inv: s.iexp_qln2_inv,
            acc_norm_stats_id: s.norm_stats_id,
            len: if last_block { tail } else { self.dim } as u16,
            block: c.block as u8,
            cmd_id: if self.state == State::WaitingForCommand { self.tracker.alloc_id() } else { self.cmd_id },
            pool_en: pooled && (c.wrow != 0 || c.wcol != 0),
            store_en: if pooled { window_ends } else { last_block },
        }
    }

    fn vaddr(&self, store: &Store) -> u64 {
        let (s, c) = (&self.settings, &self.counters);
        if let Some(spad_stride) = store.spad_stride {
            return store.vaddr.wrapping_add(u64::from(c.row) * u64::from(spad_stride));
        }
        let index = match self.mode {
            Mode::Plain => c.row,
            Mode::OneD | Mode::Pooled => (c.porow * s.out_dim + c.pocol) & 0xffff,
        };
        core_address(store.vaddr.wrapping_add(u64::from(index).wrapping_mul(s.stride)))
    }

    fn laddr(&self, store: &Store, last_block: bool) -> LocalAddr {
        let (s, c) = (&self.settings, &self.counters);
        let norm_cmd = match (self.config.has_normalizations, last_block) {
            (false, _) => NormCmd::Reset,
            (true, true) => store.local.norm_cmd(),
            (true, false) => store.local.norm_cmd().non_reset_version(),
        };
        let row = match self.mode {
            Mode::Plain | Mode::OneD => store.local.add(self.layout, c.block * self.dim + c.row),
            Mode::Pooled => match (self.image_row(), self.image_col()) {
                (Some(row), Some(col)) => store.local.add(self.layout, row * s.ocols + col),
                _ => LocalAddr::GARBAGE,
            },
        };
        row.with_norm_cmd(norm_cmd)
    }

    /// Row of the image that the window is at; none in the padding.
    fn image_row(&self) -> Option<u32> {
        let (s, c) = (&self.settings, &self.counters);
        (c.porow * s.pool_stride + c.wrow).checked_sub(s.upad).filter(|row| *row < s.orows)
    }

    /// Column of the image that the window is at; none in the padding.
    fn image_col(&self) -> Option<u32> {
        let (s, c) = (&self.settings, &self.counters);
        (c.pocol * s.pool_stride + c.wcol).checked_sub(s.lpad).filter(|col| *col < s.ocols)
    }

    /// Rows that the tracker waits for.
    fn amount(&self, store: &Store) -> u32 {
        let s = &self.settings;
        let rows = match self.mode {
            Mode::Plain => store.rows * store.blocks,
            Mode::OneD => s.orows * s.ocols,
            Mode::Pooled => s.porows * s.pocols * s.pool_size * s.pool_size,
        };
        rows & self.amount_mask
    }

    /// Clock edge: the command accepted at the queue, whether the offered request is accepted, the
    /// tracker entry whose row was read, and whether the offered completion is accepted. Returns
    /// true if a register changed.
    #[inline]
    #[must_use]
    pub fn tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        request_fires: bool,
        response: Option<u8>,
        completed_ready: bool,
        events: &mut EventBuffer,
    ) -> bool {
        if cmd.is_none() && !self.busy() {
            return false;
        }
        self.busy_tick(cmd, request_fires, response, completed_ready, events)
    }

    fn busy_tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        request_fires: bool,
        response: Option<u8>,
        completed_ready: bool,
        events: &mut EventBuffer,
    ) -> bool {
        let mut changed = false;
        let mut alloc = None;
        if let Some(&(head, rob_id)) = self.queue.front() {
            match head {
                Decoded::Store(store) => (alloc, changed) = self.tick_store(&store, rob_id, request_fires, events),
                Decoded::Config(config) => {
                    self.configure(&config);
                    self.queue.pop();
                    changed = true;
                }
                Decoded::Norm(config) => {
                    self.configure_norm(&config);
                    self.queue.pop();
                    changed = true;
                }
            }
        }
        let completes = completed_ready && self.tracker.completed().is_some();
        changed |= self.tracker.tick(alloc, response.map(|id| (id, 1)), completes, events);
        if let Some(cmd) = cmd {
            self.queue.push((self.decode(&cmd), cmd.rob_id));
            changed = true;
        }
        changed
    }

    /// Clock edge of the state machine with a store at the head; returns the allocation.
    fn tick_store(
        &mut self,
        store: &Store,
        rob_id: Option<RobId>,
        request_fires: bool,
        events: &mut EventBuffer,
    ) -> (Option<(Option<RobId>, u32)>, bool) {
        let allocates = self.state == State::WaitingForCommand && self.tracker.alloc_ready();
        let alloc = allocates.then(|| (rob_id, self.amount(store)));
        if allocates {
            self.cmd_id = self.tracker.alloc_id();
        }
        let sending = if self.mode == Mode::Pooled { State::Pooling } else { State::SendingRows };
        let before = self.state;
        match self.state {
            State::WaitingForCommand if allocates => {
                self.state = if request_fires { sending } else { State::WaitingForDmaReqReady };
            }
            State::WaitingForDmaReqReady if request_fires => self.state = sending,
            State::SendingRows | State::Pooling if self.ends(store, request_fires) => {
                self.state = State::WaitingForCommand;
                self.queue.pop();
            }
            _ => {}
        }
        if request_fires {
            events.require(store.blocks <= 1 || !store.local.read_full(), Violation::FullWidthBlocks);
            events.require(store.blocks <= 1 || self.mode == Mode::Plain, Violation::PooledBlocks);
            self.counters = self.next_counters(store);
        }
        (alloc, allocates || request_fires || self.state != before)
    }

    /// True if the store leaves the controller in this cycle: its only request has gone, or its last one goes.
    fn ends(&self, store: &Store, request_fires: bool) -> bool {
        let (s, c) = (&self.settings, &self.counters);
        if self.state == State::Pooling {
            let only = c.porow == 0 && c.pocol == 0 && c.wrow == 0 && c.wcol == 0;
            let last = c.porow + 1 == s.porows
                && c.pocol + 1 == s.pocols
                && c.wrow + 1 == s.pool_size
                && c.wcol + 1 == s.pool_size;
            return only || (last && request_fires);
        }
        let rows = if self.mode == Mode::OneD { s.orows * s.ocols } else { store.rows };
        let last = c.block + 1 == store.blocks && c.row + 1 == rows;
        (c.block == 0 && c.row == 0) || (last && request_fires)
    }

    fn next_counters(&self, store: &Store) -> Counters {
        let (s, mut c) = (&self.settings, self.counters);
        match self.mode {
            Mode::Pooled => {
                let (row_ends, pixel_ends) = (c.wcol + 1 == s.pool_size, c.wrow + 1 == s.pool_size);
                let line_ends = c.pocol + 1 == s.pocols;
                c.wcol = wrapping_add(c.wcol, s.pool_size);
                c.wrow = if row_ends { wrapping_add(c.wrow, s.pool_size) } else { c.wrow };
                c.pocol = if row_ends && pixel_ends { wrapping_add(c.pocol, s.pocols) } else { c.pocol };
                c.porow = if row_ends && pixel_ends && line_ends { wrapping_add(c.porow, s.porows) } else { c.porow };
            }
            Mode::OneD => {
                c.porow = if c.pocol + 1 == s.ocols { wrapping_add(c.porow, s.orows) } else { c.porow };
                c.pocol = wrapping_add(c.pocol, s.ocols);
                c.row = wrapping_add(c.row, s.orows * s.ocols) & ROW_COUNTER_MASK;
                c.block = wrapping_add(c.block, store.blocks);
            }
            Mode::Plain => {
                let row_ends = c.block + 1 == store.blocks;
                c.row = if row_ends { wrapping_add(c.row, store.rows) & ROW_COUNTER_MASK } else { c.row };
                c.block = wrapping_add(c.block, store.blocks);
            }
        }
        c
    }

    fn configure(&mut self, config: &ConfigSt) {
        let s = &mut self.settings;
        s.stride = config.stride.into();
        // The field has two bits, so this clears the third, which only CONFIG_NORM sets.
        s.activation = config.activation.to_bits() as u8;
        let all_ones = (u64::MAX >> (64 - self.config.acc_scale_bits())) as u32;
        if config.acc_scale.0 != all_ones {
            s.acc_scale = config.acc_scale.0;
        }
        s.pool_size = config.pool_size.into();
        s.pool_stride = config.pool_stride.into();
        if config.pool_stride != 0 || config.pool_size != 0 {
            s.out_dim = config.pool_out_dim.into();
            s.orows = config.orows.into();
            s.ocols = config.ocols.into();
        }
        if config.pool_stride != 0 {
            s.porows = config.porows.into();
            s.pocols = config.pocols.into();
            s.upad = config.upad.into();
            s.lpad = config.lpad.into();
        }
        self.mode = match (self.config.has_max_pool && s.pool_stride != 0, s.pool_size != 0) {
            (true, _) => Mode::Pooled,
            (false, true) => Mode::OneD,
            (false, false) => Mode::Plain,
        };
    }

    fn configure_norm(&mut self, config: &ConfigNorm) {
        let s = &mut self.settings;
        s.norm_stats_id = config.norm_stats_id;
        if config.set_stats_id_only {
            return;
        }
        s.igelu_qb = config.qb;
        s.igelu_qc = config.qc;
        if config.q_const_type {
            s.iexp_qln2_inv = config.q_const;
        } else {
            s.iexp_qln2 = config.q_const;
        }
        s.activation = u8::from(config.act_msb) << 2 | s.activation & 3;
    }

    fn decode(&self, cmd: &IssuedCmd) -> Decoded {
        let RoccCommand { rs1, rs2, .. } = cmd.cmd;
        let to_spad = match Command::from_rocc(&self.config, cmd.cmd) {
            Some(Command::ConfigSt(fields)) => return Decoded::Config(fields),
            Some(Command::ConfigNorm(fields)) if self.config.has_normalizations => return Decoded::Norm(fields),
            Some(Command::MvoutSpad(fields)) => Some(fields),
            // Whatever else arrives is taken for an MVOUT.
            _ => None,
        };
        let operands = MoveOperands::from_regs(&self.config, rs1, rs2);
        Decoded::Store(Store {
            vaddr: to_spad.map_or(rs1, |spad| spad.dst.0.into()),
            local: operands.local,
            rows: operands.rows.into(),
            cols: operands.cols.into(),
            blocks: operands.blocks(&self.config),
            spad_stride: to_spad.map(|spad| spad.dst_stride),
        })
    }

    /// Drives the controller's counter lines, given whether a request was offered and whether it was accepted.
    pub fn counter_events(&self, request_valid: bool, request_fires: bool, events: &mut CounterEvents) {
        let active = matches!(self.state, State::SendingRows | State::Pooling);
        events.set(CounterEvent::StoreDmaWaitCycle, self.state == State::WaitingForDmaReqReady);
        events.set(CounterEvent::StoreActiveCycle, active);
        events.set(CounterEvent::StorePoolingCycle, self.mode == Mode::Pooled);
        events.set(CounterEvent::StoreScratchpadWaitCycle, request_valid && !request_fires);
    }

    /// What this cycle is spent on, given whether a request was offered and whether it was accepted.
    pub fn activity(&self, request_valid: bool, request_fires: bool) -> DmaControllerActivity {
        use DmaControllerActivity::{Busy, Draining, Idle, Stalled};
        match (self.queue.is_empty(), self.tracker.busy()) {
            (true, false) => Idle,
            (true, true) => Draining,
            _ if request_valid && !request_fires => Stalled(DmaControllerStall::Scratchpad),
            _ if self.state == State::WaitingForCommand
                && self.head_store().is_some()
                && !self.tracker.alloc_ready() =>
            {
                Stalled(DmaControllerStall::CommandTracker)
            }
            _ => Busy,
        }
    }

    /// What the controller waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        if let Some(rows) = self.tracker.waiting_for().filter(|r| *r > 0) {
            return Some(format!("StoreController: {rows} rows of a store have not been read"));
        }
        (!self.queue.is_empty()).then(|| "StoreController: a row request is not accepted".to_owned())
    }
}

/// `Util.wrappingAdd(u, 1, n)`: the next number below `n`.
fn wrapping_add(u: u32, n: u32) -> u32 {
    if u.wrapping_add(1) >= n && n != 0 { 0 } else { u + 1 }
}

/// Largest number of rows that the tracker's counter is built for (`cmd_tracker_max_rows`).
fn largest_amount(config: &GemminiConfig) -> u32 {
    const MAX_IMAGE_ROWS: u32 = 0xff;
    const MAX_PADDING: u32 = 0x3;
    let image = MAX_IMAGE_ROWS * MAX_IMAGE_ROWS + 4 * MAX_PADDING;
    let blocks = (config.dma_maxbytes / config.sp_row_bytes()).max(1);
    (config.dim() * blocks).max(image).min(config.sp_rows().max(config.acc_rows()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_isa::RoccCommand;

    fn issued(funct: u8, rs1: u64, rs2: u64) -> Option<IssuedCmd> {
        Some(IssuedCmd { cmd: RoccCommand { funct, rs1, rs2 }, rob_id: None })
    }

    fn mvout(address: u64, rows: u64, cols: u64) -> Option<IssuedCmd> {
        issued(3, address, rows << 48 | cols << 32 | 0x40)
    }

    /// Issues the commands one a cycle; returns the cycles and requests that a ready sink takes.
    fn requests(config: &GemminiConfig, cmds: &[Option<IssuedCmd>]) -> Vec<(u64, ScratchpadWriteRequest)> {
        let mut controller = StoreController::new(config);
        let mut taken = Vec::new();
        for cycle in 0..100 {
            let request = controller.request();
            taken.extend(request.map(|request| (cycle, request)));
            let _ = controller.tick(
                cmds.get(cycle as usize).copied().flatten(),
                request.is_some(),
                None,
                true,
                &mut EventBuffer::default(),
            );
        }
        taken
    }

    #[test]
    fn a_plain_store_sends_row_by_row_and_block_by_block_and_stores_with_the_last_block() {
        let taken = requests(&GemminiConfig::default16(), &[issued(0, 2, 100), mvout(0x1000, 2, 20)]);
        let seen: Vec<_> = taken.iter().map(|(t, r)| (*t, r.vaddr, r.laddr.0, r.block, r.len, r.store_en)).collect();
        let expected = [
            (2, 0x1000, 0x40, 0, 16, false),
            (3, 0x1000, 0x50, 1, 4, true),
            (4, 0x1064, 0x41, 0, 16, false),
            (5, 0x1064, 0x51, 1, 4, true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_pooled_store_sends_each_window_and_reads_padding_as_garbage() {
        // Window 2, stride 1, one row and column of padding, 2x2 image, 2x2 outputs, 5 pixels a line.
        let rs1 = 2 | 1 << 4 | 2 << 6 | 1 << 8 | 1 << 10 | 5 << 24 | 2 << 32 | 2 << 40 | 2 << 48 | 2 << 56;
        let config = GemminiConfig::default16();
        let taken = requests(&config, &[issued(0, rs1, 16), mvout(0x1000, 1, 16)]);
        let garbage = |r: &ScratchpadWriteRequest| r.laddr.is_garbage(config.layout());
        let rows: Vec<_> = taken.iter().map(|(_, r)| if garbage(r) { None } else { Some(r.laddr.0 - 0x40) }).collect();
        let first_two = [None, None, None, Some(0), None, None, Some(0), Some(1)];
        assert_eq!(rows[..8], first_two);
        assert_eq!(rows.len(), 16);
        let vaddrs: Vec<_> = taken.iter().step_by(4).map(|(_, r)| r.vaddr - 0x1000).collect();
        assert_eq!(vaddrs, [0, 16, 5 * 16, 6 * 16]);
        let flags: Vec<_> = taken[..4].iter().map(|(_, r)| (r.pool_en, r.store_en)).collect();
        assert_eq!(flags, [(false, false), (true, false), (true, false), (true, true)]);
    }

    #[test]
    fn a_1d_store_walks_the_output_pixels() {
        // Size 1 without stride selects 1-D: 2 rows of 3 pixels out of lines of 7.
        let rs1 = 2 | 1 << 6 | 7 << 24 | 2 << 48 | 3 << 56;
        let taken = requests(&GemminiConfig::default16(), &[issued(0, rs1, 16), mvout(0x1000, 1, 16)]);
        let seen: Vec<_> = taken.iter().map(|(_, r)| ((r.vaddr - 0x1000) / 16, r.laddr.0 - 0x40)).collect();
        assert_eq!(seen, [(0, 0), (1, 1), (2, 2), (7, 3), (8, 4), (9, 5)]);
    }

    #[test]
    fn config_st_clears_the_activation_bit_that_config_norm_sets_and_all_ones_keeps_the_scale() {
        let config_st = |scale: u64| issued(0, 2, scale << 32 | 16);
        let softmax = issued(0, 3 | 1 << 16, 0);
        let cmds = [config_st(7), softmax, mvout(0x1000, 1, 16), config_st(0xffff_ffff), mvout(0x1000, 1, 16)];
        let taken = requests(&GemminiConfig::default16(), &cmds);
        assert_eq!(taken.iter().map(|(_, r)| (r.acc_act, r.acc_scale)).collect::<Vec<_>>(), [(4, 7), (0, 7)]);
    }

    #[test]
    fn earlier_blocks_of_a_row_carry_the_accumulating_form_of_a_norm_command() {
        let mean = 1 << 31 | (NormCmd::Mean as u64) << 26;
        let store = issued(3, 0x1000, 1 << 48 | 32 << 32 | mean);
        let taken = requests(&GemminiConfig::default16(), &[issued(0, 2, 32), store]);
        let cmds: Vec<_> = taken.iter().map(|(_, r)| r.laddr.norm_cmd()).collect();
        assert_eq!(cmds, [NormCmd::Sum, NormCmd::Mean]);
    }
}
