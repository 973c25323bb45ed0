//! Computes: reads operand rows, feeds the array, writes result rows (`ExecuteController.scala`).
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `cmd` | in | issued by the reservation station | [`ExecuteController::cmd_ready`]: the unroller's two entries |
//! | `srams.read`, `acc.read_req` | out | [`ExReads`]: row issue | one ready bit a bank |
//! | `srams.read.resp` | in | head of the bank's response queue | popped as the row goes to the mesh ([`ControlWires::pops`]) |
//! | `srams.write`, `acc.write` | out | [`ExWrite`]: a result row at the mesh | none: always taken |
//! | `completed` | out | at most one a cycle | none |
//!
//! A command goes through [`TransposePreloadUnroller`] (2 entries) and the command queue (3 visible heads): accepted in c, it is
//! a head from c + 2 on. From there the path has two halves:
//!
//! * **Row issue.** A pass (a preload, a compute, or a compute overlapped with the next preload) requests one row of each operand
//!   a cycle, the first one in the cycle in which the command is recognised. What belongs to the row enters the control queue.
//! * **Mesh input.** When the rows that the head of the control queue asked for are in the response queues (two cycles after
//!   the request), they go to the operand buffers of [`MeshWithDelays`].
//!
//! Operands from the accumulator: the request is accepted and never answered, because the accumulator's read-out belongs to the
//! store side in this revision (`Scratchpad.scala`). The head of the control queue then waits forever.

mod report;
#[cfg(test)]
mod tests;

pub use report::{ExecuteActivity, ExecuteStall};

use pollux_isa::config::Dataflow;
use pollux_isa::fields::{ConfigEx, ExecOperand};
use pollux_isa::values::{Activation, DataflowMode};
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};
use pollux_numerics::arithmetic::write_scratchpad_row;

use crate::event::{Event, EventBuffer};
use crate::mesh_with_delays::{MeshRequest, MeshResponse, MeshWires, MeshWithDelays, transposed};
use crate::multi_headed_queue::MultiHeadedQueue;
use crate::row::{AccRow, SpadRow};
use crate::tag_queue::Tag;
use crate::transpose_preload_unroller::{NO_COMMAND, TransposePreloadUnroller};
use crate::wires::{ExReads, ExWrite, IssuedCmd, RobId};

/// Heads of the command queue that the controller looks at (`cmd_q_heads`).
const HEADS: usize = 3;
/// Fewest rows of a pass: two writes of one accumulator row must be four cycles apart.
const MIN_ROWS: u32 = 4;

/// Indices of the operands wherever there are three of something, in order of priority.
const A: usize = 0;
const B: usize = 1;
const D: usize = 2;

/// What a command of the execute queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CONFIG_EX.
    Config,
    /// PRELOAD.
    Preload,
    /// COMPUTE_PRELOADED: uses what was preloaded last.
    ComputeFlip,
    /// COMPUTE_ACCUMULATED: goes on with what was used before.
    ComputeStay,
    /// Nothing that the reservation station would send here.
    Other,
}

impl Kind {
    /// Function number of COMPUTE_ACCUMULATED.
    pub(crate) const COMPUTE_STAY: u8 = 5;

    /// The kind of a function number (`GemminiISA.scala`).
    pub fn of(funct: u8) -> Self {
        match funct {
            0 => Kind::Config,
            4 => Kind::ComputeFlip,
            Self::COMPUTE_STAY => Kind::ComputeStay,
            6 => Kind::Preload,
            _ => Kind::Other,
        }
    }

    fn is_compute(self) -> bool {
        matches!(self, Kind::ComputeFlip | Kind::ComputeStay)
    }
}

/// One trip of rows through the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A preload alone (`perform_single_preload`).
    Preload,
    /// A compute alone (`perform_single_mul`).
    Compute,
    /// A compute, and the preload of the next (`perform_mul_pre`).
    Overlapped,
}

/// State of the controller (`control_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `waiting_for_cmd`: also the first cycle of every pass.
    Waiting,
    /// `compute`: the other cycles of a pass.
    Compute(Pass),
    /// `flush`: asks the mesh to push its results out.
    Flush,
    /// `flushing`: until the mesh is ready again.
    Flushing,
}

/// What the controller decides in [`State::Waiting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Config,
    Start(Pass),
    Flush,
    Wait,
}

/// Registers that CONFIG_EX sets.
#[derive(Clone, Copy, Debug)]
struct Configuration {
    dataflow: DataflowMode,
    shift: u8,
    relu: bool,
    a_transpose: bool,
    bd_transpose: bool,
    a_stride: u32,
    c_stride: u32,
}

/// An operand of the commands at the heads, as far as it does not depend on the row.
#[derive(Clone, Copy, Debug)]
struct Operand {
    addr: LocalAddr,
    garbage: bool,
    rows: u32,
    cols: u8,
    /// The row is read from the accumulator.
    from_acc: bool,
}

/// What the heads of the command queue say under the current configuration: wires that change only with them.
#[derive(Clone, Copy, Debug)]
struct Decoded {
    kinds: [Kind; HEADS],
    /// Which operands go through the transposer (`x_should_be_fed_into_transposer`).
    transposed: [bool; 3],
    operands: [Operand; 3],
    /// Destination and report of the preload.
    tag: Tag,
    /// Overlapping needs a third command.
    third_needed: bool,
}

/// Row counters of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RowCounters {
    /// Next row of each operand (`x_fire_counter`).
    next: [u32; 3],
    /// A row of the operand has been requested (`x_fire_started`).
    started: [bool; 3],
    /// Local rows from the first row of A to the next one (`a_addr_offset`).
    a_offset: u32,
}

/// An operand's part of a control queue entry.
#[derive(Clone, Copy, Debug, Default)]
struct OperandControl {
    /// The operand advanced with this entry.
    fire: bool,
    /// Its address is garbage or it takes no part in this pass.
    off: bool,
    /// Its address is garbage (B and D only: `accumulate_zeros`, `preload_zeros`).
    zeros: bool,
    from_acc: bool,
    bank: u8,
    /// Lanes that are not padding; 0 for a padding row.
    cols: u8,
}

/// An entry of the control queue (`ComputeCntlSignals`): what the mesh needs to know about the rows of one cycle.
#[derive(Clone, Copy, Debug)]
struct ControlSignals {
    pass: Option<Pass>,
    operands: [OperandControl; 3],
    tag: Tag,
    request: MeshRequest,
    /// First entry of its pass: it takes a request to the mesh along.
    first: bool,
}

impl ControlSignals {
    /// Contents of a slot after power-up.
    const RESET: Self = {
        let off = OperandControl { fire: false, off: false, zeros: false, from_acc: false, bank: 0, cols: 0 };
        let request = MeshRequest {
            propagate: false,
            dataflow: DataflowMode::Os,
            shift: 0,
            a_transpose: false,
            bd_transpose: false,
            total_rows: 0,
            flush: 0,
        };
        Self { pass: None, operands: [off; 3], tag: Tag::GARBAGE, request, first: false }
    };
}

/// Wires at the mesh's output in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExResults {
    /// Row written.
    pub write: Option<ExWrite>,
    /// Command whose last row this is.
    completed: Option<RobId>,
    /// Rows of the matrix, if the row belongs to a command.
    counted: Option<u8>,
    /// A row is at the output; true inside if it is the last of its matrix.
    shown: Option<bool>,
}

/// Wires at the head of the control queue in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlWires {
    /// Scratchpad banks whose execute response is taken.
    pub pops: u32,
    mesh: MeshWires,
    /// The head leaves if there is one (`deq.ready`).
    head_ready: bool,
    /// The head leaves.
    dequeue: bool,
    /// The mesh takes this request, with the tag.
    request: Option<(MeshRequest, Tag)>,
    /// Operand rows that the mesh takes.
    fire: [bool; 3],
    rows: [SpadRow; 3],
}

/// Wires of the row issue and of the completion report in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowIssueWires {
    /// Read requests.
    pub reads: ExReads,
    /// Command reported complete.
    pub completed: Option<RobId>,
    decision: Option<Decision>,
    pass: Option<Pass>,
    control_ready: bool,
    /// Operand takes part in the pass (`start_inputting_x`).
    fed: [bool; 3],
    fire: [bool; 3],
    /// Bank of the operand's current row.
    bank: [u8; 3],
    total_rows: u32,
    /// `about_to_fire_all_rows`.
    done: bool,
}

/// Registers and queues of the controller.
#[derive(Clone, Debug)]
pub struct ExecuteController {
    config: GemminiConfig,
    layout: AddressLayout,
    dim: u32,
    unroller: TransposePreloadUnroller,
    commands: MultiHeadedQueue<IssuedCmd>,
    decoded: Decoded,
    state: State,
    configuration: Configuration,
    /// OS: a flush must toggle the registers, as the last preload has a destination.
    in_prop_flush: bool,
    counters: RowCounters,
    control_queue: MultiHeadedQueue<ControlSignals>,
    control_queue_depth: usize,
    mesh: MeshWithDelays,
    /// Result rows of the current tag.
    output_counter: u32,
    /// Commands that are complete and wait for their report.
    pending: [Option<RobId>; 2],
}

/// State and combinational outputs.
impl ExecuteController {
    /// The controller after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let dataflow = if config.dataflow == Dataflow::Ws { DataflowMode::Ws } else { DataflowMode::Os };
        let configuration = Configuration {
            dataflow,
            shift: 0,
            relu: false,
            a_transpose: false,
            bd_transpose: false,
            a_stride: 0,
            c_stride: 0,
        };
        let commands = MultiHeadedQueue::new(config.ex_queue_length as usize, NO_COMMAND);
        let control_queue_depth = config.spad_read_delay as usize + 1;
        Self {
            config: config.clone(),
            layout: config.layout(),
            dim: config.dim(),
            unroller: TransposePreloadUnroller::new(config),
            decoded: Decoded::new(config, &configuration, &commands),
            commands,
            state: State::Waiting,
            configuration,
            in_prop_flush: false,
            counters: RowCounters::default(),
            control_queue: MultiHeadedQueue::new(control_queue_depth, ControlSignals::RESET),
            control_queue_depth,
            mesh: MeshWithDelays::new(config),
            output_counter: 0,
            pending: [None; 2],
        }
    }

    /// `cmd.ready`.
    #[inline]
    pub fn cmd_ready(&self) -> bool {
        self.unroller.in_ready()
    }

    /// `busy`: a command is at the head, or a result that somebody waits for is on its way. Commands that are still in the
    /// unroller do not count.
    #[inline]
    pub fn busy(&self) -> bool {
        self.commands.valid(0) || self.matmul_in_progress()
    }

    /// State register.
    pub fn state(&self) -> State {
        self.state
    }

    /// The array and its wrapper.
    pub fn mesh(&self) -> &MeshWithDelays {
        &self.mesh
    }

    fn matmul_in_progress(&self) -> bool {
        self.mesh.tags().outstanding()
    }

    /// Step 1 of a cycle: the row at the mesh's output.
    #[inline]
    pub fn results(&self) -> ExResults {
        let Some(response) = self.mesh.response() else { return ExResults::default() };
        let shown = Some(response.last);
        let Some((tag, rob_id)) = response.tag.and_then(|tag| Some((tag, tag.rob_id?))) else {
            return ExResults { shown, ..ExResults::default() };
        };
        ExResults {
            write: self.result_write(&response, tag),
            completed: response.last.then_some(rob_id),
            counted: Some(response.total_rows),
            shown,
        }
    }

    /// Where the result row goes. OS results leave the array bottom row first.
    fn result_write(&self, response: &MeshResponse, tag: &Tag) -> Option<ExWrite> {
        let (k, total_rows) = (self.output_counter, u32::from(response.total_rows));
        let step = k * self.configuration.c_stride;
        let (offset, row) = match self.configuration.dataflow {
            DataflowMode::Ws => (step, k),
            DataflowMode::Os => {
                let last = total_rows.wrapping_sub(1);
                (last.wrapping_sub(step), last.wrapping_sub(k) & self.count_mask())
            }
        };
        if tag.addr.is_garbage(self.layout) || row >= tag.rows.into() {
            return None;
        }
        let addr = tag.addr.add(self.layout, offset);
        let (dim, cols) = (self.dim as usize, usize::from(tag.cols).min(self.dim as usize));
        if addr.is_acc() {
            let mut data = AccRow::default();
            data.0[..dim].copy_from_slice(response.data);
            let (bank, row) = (addr.acc_bank(self.layout) as u8, addr.acc_row(self.layout));
            let write = ExWrite::Acc { bank, row, data, cols, accumulate: addr.accumulate() };
            self.config.ex_write_to_acc.then_some(write)
        } else {
            let mut data = SpadRow::default();
            write_scratchpad_row(response.data, self.configuration.relu, &mut data.0[..dim]);
            let (bank, row) = (addr.sp_bank(self.layout) as u8, addr.sp_row(self.layout));
            self.config.ex_write_to_spad.then_some(ExWrite::Spad { bank, row, data, cols })
        }
    }

    /// Mask of a row count (`log2Up(DIM + 1)` bits).
    fn count_mask(&self) -> u32 {
        (1 << self.config.dim_count_bits()) - 1
    }

    /// Step 2: the head of the control queue, given the head of each bank's execute response queue.
    #[inline]
    pub fn control<'a>(&self, response: impl Fn(u8) -> Option<&'a SpadRow>) -> ControlWires {
        let mut wires = ControlWires { mesh: self.mesh.wires(), ..ControlWires::default() };
        let head = self.control_queue.bits(0);
        let valid = self.control_queue.valid(0);
        let req_ready = wires.mesh.req_ready;
        wires.head_ready = !head.first || req_ready;
        let mut read = [None; 3];
        for x in [A, B, D] {
            let operand = &head.operands[x];
            if !operand.zeros && !operand.from_acc && self.config.ex_read_from_spad {
                read[x] = response(operand.bank);
            }
            let have = operand.off || operand.cols == 0 || read[x].is_some();
            wires.fire[x] = valid && operand.fire && have && wires.mesh.ready[x];
            wires.head_ready &= !operand.fire || wires.fire[x] || !wires.mesh.ready[x];
        }
        wires.dequeue = valid && wires.head_ready;
        wires.request = self.mesh_request(head, wires.dequeue).filter(|_| req_ready);
        for x in [A, B, D] {
            let operand = &head.operands[x];
            if wires.fire[x] && self.feeds(head.pass, x) {
                if let Some(row) = read[x] {
                    fill_row(&mut wires.rows[x], row, operand.cols, self.dim);
                }
            }
            if wires.dequeue && wires.fire[x] && !operand.off && operand.cols > 0 {
                wires.pops |= u32::from(!operand.from_acc) << operand.bank;
            }
        }
        wires
    }

    /// The lanes of operand `x` reach the mesh: a preload alone carries only what the transposer needs of A and B, a compute
    /// alone what it does not.
    fn feeds(&self, pass: Option<Pass>, x: usize) -> bool {
        match pass {
            Some(Pass::Preload) if x != D => self.decoded.transposed[x],
            Some(Pass::Compute) if x != D => !self.decoded.transposed[x],
            _ => true,
        }
    }

    /// The request that is valid in this cycle. A flush is asked for only while the control queue is empty;
    /// it takes dataflow and shift from the stale head. In state `flush` the propagate bit is that of the flush, even for an
    /// ordinary request.
    fn mesh_request(&self, head: &ControlSignals, dequeue: bool) -> Option<(MeshRequest, Tag)> {
        let flush = self.state == State::Flush;
        let mut request = head.request;
        if flush {
            request.propagate = self.in_prop_flush;
        }
        if self.control_queue.valid(0) {
            let fires = head.operands.iter().any(|operand| operand.fire);
            return (dequeue && fires).then_some((request, head.tag));
        }
        (request.total_rows, request.flush) = (self.dim as u8, 1);
        flush.then_some((request, Tag::GARBAGE))
    }

    /// Step 4: the rows requested in this cycle, given the banks that are ready, and the completion report.
    #[inline]
    pub fn row_issue(&self, control: &ControlWires, spad_ready: u32, acc_ready: u32) -> RowIssueWires {
        let mut wires = RowIssueWires {
            control_ready: self.control_queue.len() < self.control_queue_depth || control.head_ready,
            ..RowIssueWires::default()
        };
        match self.state {
            State::Waiting => {
                let decision = self.decide();
                wires.decision = Some(decision);
                if let Decision::Start(pass) = decision {
                    wires.pass = Some(pass);
                }
            }
            State::Compute(pass) => wires.pass = Some(pass),
            State::Flush | State::Flushing => {}
        }
        if let Some(pass) = wires.pass {
            self.issue_rows(pass, &mut wires, spad_ready, acc_ready);
        }
        wires.completed = self.report(wires.decision);
        wires
    }

    /// The report of this cycle: a result's last row, else a command that waits for its report, else CONFIG_EX.
    fn report(&self, decision: Option<Decision>) -> Option<RobId> {
        let config = (decision == Some(Decision::Config)).then(|| self.commands.bits(0).rob_id).flatten();
        self.finished_result().or(self.pending[0]).or(self.pending[1]).or(config)
    }

    /// The command whose last result row is at the mesh's output.
    fn finished_result(&self) -> Option<RobId> {
        let response = self.mesh.response()?;
        response.tag?.rob_id.filter(|_| response.last)
    }

    /// What to do with the commands at the heads.
    fn decide(&self) -> Decision {
        let ws = self.configuration.dataflow == DataflowMode::Ws;
        let in_progress = self.matmul_in_progress();
        if !self.commands.valid(0) {
            return if in_progress && !ws { Decision::Flush } else { Decision::Wait };
        }
        let [head, next, _] = self.decoded.kinds;
        let is_config = head == Kind::Config;
        if is_config && !in_progress && self.pending == [None; 2] {
            Decision::Config
        } else if head == Kind::Preload && self.commands.valid(1) && !self.hazard(0) {
            Decision::Start(Pass::Preload)
        } else if head.is_compute() && self.commands.valid(1) && next == Kind::Preload && self.may_overlap() {
            Decision::Start(Pass::Overlapped)
        } else if head.is_compute() {
            Decision::Start(Pass::Compute)
        } else if in_progress && (!ws || is_config) {
            Decision::Flush
        } else {
            Decision::Wait
        }
    }

    fn may_overlap(&self) -> bool {
        !self.decoded.third_needed || (self.commands.valid(2) && !self.hazard(1))
    }

    /// An operand of the preload at head `preload`, or of the command behind it, starts where a result on its way starts
    /// (`raw_hazard_pre`, `raw_hazard_mulpre`). Nothing but the first rows is compared.
    fn hazard(&self, preload: usize) -> bool {
        if !self.config.ex_read_from_acc && !self.config.ex_write_to_spad {
            return false;
        }
        let (first, second) = (self.commands.bits(preload).cmd, self.commands.bits(preload + 1).cmd);
        let sources = [first.rs1, second.rs1, second.rs2].map(|register| LocalAddr(register as u32));
        self.mesh.tags().all().any(|tag| {
            !tag.addr.is_garbage(self.layout) && sources.iter().any(|s| tag.addr.same_address(self.layout, *s))
        })
    }
}

/// Row issue.
impl ExecuteController {
    fn issue_rows(&self, pass: Pass, wires: &mut RowIssueWires, spad_ready: u32, acc_ready: u32) {
        let [a_transposed, b_transposed, _] = self.decoded.transposed;
        wires.fed = match pass {
            Pass::Preload => [a_transposed, b_transposed, true],
            Pass::Compute => [!a_transposed, !b_transposed, false],
            Pass::Overlapped => [true; 3],
        };
        wires.total_rows = self.total_rows(wires.fed);
        let rows = self.row_addresses();
        let layout = self.layout;
        for x in [A, B, D] {
            let valid = self.may_advance(x, &rows, wires.fed, wires.total_rows);
            let operand = &self.decoded.operands[x];
            let (bank, row, ready) = if operand.from_acc {
                (rows[x].acc_bank(layout), rows[x].acc_row(layout), acc_ready)
            } else {
                (rows[x].sp_bank(layout), rows[x].sp_row(layout), spad_ready)
            };
            wires.bank[x] = bank as u8;
            let reads = valid && wires.fed[x] && !operand.garbage && self.is_real(x);
            wires.fire[x] = valid && (!reads || ready >> bank & 1 == 1);
            if !reads {
                continue;
            }
            // B's row wins over D's, D's over A's; no two of them read one bank in one cycle.
            let (valid, row_of) = if operand.from_acc {
                (&mut wires.reads.acc_valid, &mut wires.reads.acc_row)
            } else if wires.control_ready && self.config.ex_read_from_spad {
                (&mut wires.reads.spad_valid, &mut wires.reads.spad_row)
            } else {
                continue;
            };
            *valid |= 1 << bank;
            row_of[bank as usize] = row;
        }
        let last = wires.total_rows.wrapping_sub(1);
        wires.done = wires.control_ready
            && self.counters.started.contains(&true)
            && self.counters.next.iter().zip(wires.fire).all(|(&next, fire)| next == 0 || (next == last && fire));
    }

    /// Rows of the pass: DIM, but in WS no more than A and B have if there are no weights to load.
    fn total_rows(&self, fed: [bool; 3]) -> u32 {
        let [a, b, d] = [A, B, D].map(|x| self.decoded.operands[x].garbage || !fed[x]);
        if self.configuration.dataflow == DataflowMode::Os || !d || self.decoded.transposed.contains(&true) {
            return self.dim;
        }
        let rows = |off, x: usize| if off { 1 } else { self.decoded.operands[x].rows };
        rows(a, A).max(rows(b, B)).max(MIN_ROWS) & self.count_mask()
    }

    /// Addresses of the next row of each operand. D comes bottom row first.
    fn row_addresses(&self) -> [LocalAddr; 3] {
        let [_, b, d] = self.counters.next;
        let offsets = [self.counters.a_offset, b, self.dim - 1 - d];
        [A, B, D].map(|x| self.decoded.operands[x].addr.add(self.layout, offsets[x]))
    }

    /// The next row is part of the matrix; otherwise it is padding and reads as zeros.
    fn is_real(&self, x: usize) -> bool {
        let row = if x == D { self.dim - 1 - self.counters.next[D] } else { self.counters.next[x] };
        row < self.decoded.operands[x].rows
    }

    /// Operand `x` need not wait for another one: it is not a row ahead, and does not lose the bank to an operand that is level
    /// with it (`must_wait_for`).
    fn may_advance(&self, x: usize, rows: &[LocalAddr; 3], fed: [bool; 3], total_rows: u32) -> bool {
        let RowCounters { next, started, .. } = &self.counters;
        [A, B, D].into_iter().filter(|&y| y != x).all(|y| {
            let level = started[x] == started[y] && next[x] == next[y];
            let ahead = started[x] && next[x] == next_row(next[y], total_rows);
            !(ahead || (y < x && level && self.same_bank(x, y, rows, fed)))
        })
    }

    /// Both operands read, and from the same scratchpad bank, or both from the accumulator.
    fn same_bank(&self, x: usize, y: usize, rows: &[LocalAddr; 3], fed: [bool; 3]) -> bool {
        let reads = |x: usize| fed[x] && !self.decoded.operands[x].garbage;
        if !reads(x) || !reads(y) || rows[x].is_acc() != rows[y].is_acc() {
            return false;
        }
        rows[x].is_acc() || rows[x].sp_bank(self.layout) == rows[y].sp_bank(self.layout)
    }

    /// The entry that goes into the control queue.
    fn control_entry(&self, pass: Pass, wires: &RowIssueWires) -> ControlSignals {
        let operands = [A, B, D].map(|x| {
            let operand = &self.decoded.operands[x];
            OperandControl {
                fire: wires.fire[x],
                off: operand.garbage || !wires.fed[x],
                zeros: operand.garbage && x != A,
                from_acc: operand.from_acc,
                bank: wires.bank[x],
                cols: if self.is_real(x) { operand.cols } else { 0 },
            }
        });
        let request = MeshRequest {
            propagate: match pass {
                Pass::Preload => self.in_prop_flush,
                Pass::Compute | Pass::Overlapped => self.decoded.kinds[0] == Kind::ComputeFlip,
            },
            dataflow: self.configuration.dataflow,
            shift: self.configuration.shift,
            a_transpose: self.configuration.a_transpose,
            bd_transpose: self.configuration.bd_transpose,
            total_rows: wires.total_rows as u8,
            flush: 0,
        };
        let tag = if pass == Pass::Compute { Tag::GARBAGE } else { self.decoded.tag };
        ControlSignals { pass: Some(pass), operands, tag, request, first: self.counters.started == [false; 3] }
    }
}

/// Clock edge.
impl ExecuteController {
    /// The clock edge of a cycle with these wires. `cmd` was accepted from the reservation station. True if a register changed in a way
    /// that may matter.
    pub fn tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        results: &ExResults,
        control: &ControlWires,
        issue: &RowIssueWires,
        events: &mut EventBuffer,
    ) -> bool {
        record(results, control, events);
        let mut progress = self.tick_results(results);
        progress |= self.tick_mesh(control);
        progress |= self.tick_control_queue(control, issue);
        progress |= self.tick_rows(issue);
        // The FSM sets a pending report before a report is taken from it, as in the hardware.
        let reported = self.reported(results);
        let pop = self.tick_state(control, issue);
        if let Some(slot) = reported {
            self.pending[slot] = None;
        }
        progress |= reported.is_some() || pop.is_some();
        progress | self.tick_commands(cmd, pop)
    }

    /// The pending report that goes out in this cycle.
    fn reported(&self, results: &ExResults) -> Option<usize> {
        if results.completed.is_some() { None } else { self.pending.iter().position(Option::is_some) }
    }

    fn tick_results(&mut self, results: &ExResults) -> bool {
        if let Some(total_rows) = results.counted {
            self.output_counter = next_row(self.output_counter, total_rows.into()) & (self.dim - 1);
        }
        results.shown.is_some()
    }

    fn tick_mesh(&mut self, control: &ControlWires) -> bool {
        let request = control.request.as_ref().map(|(request, tag)| (request, tag));
        let operands = [A, B, D].map(|x| control.fire[x].then_some(&control.rows[x]));
        self.mesh.tick(&control.mesh, request, operands)
    }

    fn tick_control_queue(&mut self, control: &ControlWires, issue: &RowIssueWires) -> bool {
        let entry = match issue.pass {
            Some(pass) if issue.control_ready => Some(self.control_entry(pass, issue)),
            _ => None,
        };
        if !control.dequeue && entry.is_none() {
            return false;
        }
        self.control_queue.tick(control.dequeue.into(), entry);
        true
    }

    /// Row counters: in a pass they count, otherwise they are cleared.
    fn tick_rows(&mut self, issue: &RowIssueWires) -> bool {
        let counters = &mut self.counters;
        let before = *counters;
        if !issue.fed.contains(&true) {
            (counters.next, counters.a_offset) = ([0; 3], 0);
        } else if issue.control_ready {
            let last = issue.total_rows.wrapping_sub(1);
            if issue.fire[A] {
                let offset = counters.a_offset + self.configuration.a_stride;
                counters.a_offset = if counters.next[A] == last { 0 } else { offset };
            }
            for x in [A, B, D] {
                if issue.fire[x] {
                    counters.next[x] = next_row(counters.next[x], issue.total_rows) & (self.dim - 1);
                    counters.started[x] = true;
                }
            }
        }
        if issue.done {
            counters.started = [false; 3];
        }
        before != *counters
    }

    /// The state machine. Returns how many commands leave the queue, or none if nothing changed.
    fn tick_state(&mut self, control: &ControlWires, issue: &RowIssueWires) -> Option<usize> {
        if self.configuration.dataflow == DataflowMode::Ws {
            self.in_prop_flush = false;
        }
        match (self.state, issue.decision) {
            (State::Waiting, Some(Decision::Config)) => {
                self.configure();
                return Some(1);
            }
            (State::Waiting, Some(Decision::Start(pass))) => self.state = State::Compute(pass),
            (State::Waiting, Some(Decision::Flush)) => self.state = State::Flush,
            (State::Compute(pass), _) if issue.done => {
                self.state = State::Waiting;
                return Some(self.finish(pass));
            }
            (State::Flush, _) if control.request.is_some() => self.state = State::Flushing,
            (State::Flushing, _) if control.mesh.req_ready => self.state = State::Waiting,
            _ => return None,
        }
        Some(0)
    }

    /// All rows of the pass are requested: its commands leave. Returns how many.
    fn finish(&mut self, pass: Pass) -> usize {
        let garbage = self.decoded.tag.addr.is_garbage(self.layout);
        if pass != Pass::Compute && self.configuration.dataflow == DataflowMode::Os {
            self.in_prop_flush = !garbage;
        }
        let [first, second] = [0, 1].map(|head| self.commands.bits(head).rob_id);
        match pass {
            Pass::Preload => self.pending[0] = first.filter(|_| garbage),
            Pass::Compute => self.pending[0] = first,
            Pass::Overlapped => self.pending = [first, second.filter(|_| garbage)],
        }
        if pass == Pass::Overlapped { 2 } else { 1 }
    }

    fn configure(&mut self) {
        let cmd = self.commands.bits(0).cmd;
        let fields = ConfigEx::from_regs(&self.config, cmd.rs1, cmd.rs2);
        let configuration = &mut self.configuration;
        configuration.a_stride = fields.a_stride.into();
        configuration.c_stride = fields.c_stride.into();
        if fields.set_only_strides {
            return;
        }
        if self.config.dataflow == Dataflow::Both {
            configuration.dataflow = fields.dataflow;
        }
        configuration.relu = self.config.has_nonlinear_activations && fields.activation == Activation::Relu;
        configuration.shift = fields.in_shift as u8;
        configuration.a_transpose = fields.a_transpose;
        configuration.bd_transpose = fields.b_transpose;
    }

    /// Command queue and unroller. `popped` commands leave; none if the heads stay what they are.
    fn tick_commands(&mut self, cmd: Option<IssuedCmd>, popped: Option<usize>) -> bool {
        let unrolled = if self.commands.enq_ready() { self.unroller.output() } else { None };
        let progress = self.unroller.tick(unrolled.is_some(), cmd);
        let pop = popped.unwrap_or(0);
        if pop > 0 || unrolled.is_some() {
            self.commands.tick(pop, unrolled);
            self.decoded = Decoded::new(&self.config, &self.configuration, &self.commands);
        }
        progress
    }
}

impl Decoded {
    fn new(config: &GemminiConfig, configuration: &Configuration, commands: &MultiHeadedQueue<IssuedCmd>) -> Self {
        let transposed = transposed(configuration.dataflow, configuration.a_transpose, configuration.bd_transpose);
        let kinds = [0, 1, 2].map(|head| Kind::of(commands.bits(head).cmd.funct));
        let preload = usize::from(kinds[0] != Kind::Preload);
        // What goes through the transposer is needed a pass early.
        let place = |transposed| match (preload, transposed) {
            (0, _) => 1,
            (_, true) => 2,
            (_, false) => 0,
        };
        let (a_place, b_place) = (place(transposed[A]), place(transposed[B]));
        let operand = |register, transposed| Operand::new(config, register, transposed);
        let mut b = operand(commands.bits(b_place).cmd.rs2, transposed[B]);
        let mut d = operand(commands.bits(preload).cmd.rs1, transposed[D]);
        if config.hardcode_d_to_garbage_addr {
            match config.dataflow {
                Dataflow::Ws => b.make_garbage(config),
                Dataflow::Os => d.make_garbage(config),
                Dataflow::Both => {}
            }
        }
        // A's fields are swapped by CONFIG_EX's bit, not by the use of the transposer.
        let a = operand(commands.bits(a_place).cmd.rs1, configuration.a_transpose);
        let destination = ExecOperand::from_reg(config, commands.bits(preload).cmd.rs2);
        let discard = destination.local.is_garbage(config.layout());
        let tag = Tag {
            rob_id: commands.bits(preload).rob_id.filter(|_| !discard),
            addr: destination.local,
            rows: destination.rows as u8,
            cols: destination.cols as u8,
        };
        let hazards = config.ex_read_from_acc || config.ex_write_to_spad;
        let third_needed = a_place > 1 || b_place > 1 || hazards;
        Self { kinds, transposed, operands: [a, b, d], tag, third_needed }
    }
}

impl Operand {
    fn new(config: &GemminiConfig, register: u64, transposed: bool) -> Self {
        let ExecOperand { local, cols, rows } = ExecOperand::from_reg(config, register);
        let (rows, cols) = if transposed { (cols, rows) } else { (rows, cols) };
        Self {
            addr: local,
            garbage: local.is_garbage(config.layout()),
            rows: rows.into(),
            cols: cols as u8,
            from_acc: config.ex_read_from_acc && local.is_acc(),
        }
    }

    fn make_garbage(&mut self, config: &GemminiConfig) {
        self.addr = LocalAddr::GARBAGE;
        self.garbage = true;
        self.from_acc = config.ex_read_from_acc;
    }
}

/// `row + 1`, back to 0 after `total_rows`.
#[inline]
fn next_row(row: u32, total_rows: u32) -> u32 {
    let last = total_rows.wrapping_sub(1);
    if row >= last { row.wrapping_sub(last) } else { row + 1 }
}

/// Lanes `0..cols` of `from`; the rest of `row`, which is zeros, stays.
fn fill_row(row: &mut SpadRow, from: &SpadRow, cols: u8, dim: u32) {
    if u32::from(cols) >= dim {
        *row = *from;
    } else {
        let cols = usize::from(cols);
        row.0[..cols].copy_from_slice(&from.0[..cols]);
    }
}

fn record(results: &ExResults, control: &ControlWires, events: &mut EventBuffer) {
    if !events.enabled() {
        return;
    }
    if let Some((request, _)) = control.request {
        events.push(Event::MeshReq { flush: request.flush });
    }
    if control.fire[A] {
        events.push(Event::MeshA);
    }
    if let Some(last) = results.shown {
        events.push(Event::MeshOut { last });
    }
}
