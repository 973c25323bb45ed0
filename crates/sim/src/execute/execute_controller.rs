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

mod operands;
mod report;
mod row_streak;
#[cfg(test)]
mod tests;

pub use operands::Kind;
use operands::{Command, Configuration, Decoded, HEADS, Operand, Parameters, Plan};
pub use report::{ExecuteActivity, ExecuteStall};
use row_streak::RowStreak;
pub use row_streak::RowStream;

use pollux_isa::GemminiConfig;
use pollux_isa::config::Dataflow;
use pollux_isa::fields::ConfigEx;
use pollux_isa::values::{Activation, DataflowMode};
use pollux_numerics::arithmetic::write_scratchpad_row;

use crate::execute::mesh_with_delays::{MeshRequest, MeshResponse, MeshWires, MeshWithDelays, OperandRows};
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::execute::tag_queue::Tag;
use crate::execute::transpose_preload_unroller::{NO_COMMAND, TransposePreloadUnroller};
use crate::observation::event::{Event, EventBuffer};
use crate::parts::multi_headed_queue::{MultiHeadedQueue, wrapping_add};
use crate::parts::row::{SpadRow, copy_row};
use crate::parts::wires::{BankRows, ExReads, ExTarget, ExWrite, IssuedCmd, RobId};

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

/// Row counters of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RowCounters {
    /// Next row of each operand (`x_fire_counter`).
    next: [u32; 3],
    /// Operands of which a row has been requested (`x_fire_started`).
    started: OperandSet,
    /// Local rows from the first row of A to the next one (`a_addr_offset`).
    a_offset: u32,
}

/// An entry of the control queue (`ComputeCntlSignals`): what the mesh needs to know about the rows of one cycle. What all
/// entries of a pass have in common beside, its request to the mesh, is kept once in [`PassRequests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))] // it moves as a whole
struct ControlSignals {
    pass: Option<Pass>,
    /// Operands that advanced with this entry.
    fire: OperandSet,
    /// Operands whose address is garbage or that take no part in this pass.
    off: OperandSet,
    /// Operands that bring a row from a memory: neither off nor padding.
    reads: OperandSet,
    /// Operands that are zeros because their address is garbage (`accumulate_zeros`, `preload_zeros`); never A.
    zeros: OperandSet,
    /// Operands in the accumulator.
    from_acc: OperandSet,
    /// First entry of its pass: it takes a request to the mesh along.
    first: bool,
    bank: [u8; 3],
    /// Lanes that are not padding; 0 for a padding row.
    cols: [u8; 3],
    /// Slot of the pass's request.
    request: u8,
}

impl ControlSignals {
    /// Contents of a slot after power-up.
    const RESET: Self = Self {
        pass: None,
        fire: OperandSet::EMPTY,
        off: OperandSet::EMPTY,
        reads: OperandSet::EMPTY,
        zeros: OperandSet::EMPTY,
        from_acc: OperandSet::EMPTY,
        first: false,
        bank: [0; 3],
        cols: [0; 3],
        request: 0,
    };
}

/// The requests to the mesh of the passes in the control queue, a ring. There is a slot more than the queue has entries, so that
/// even a stale entry, which stays in its slot of the queue until that is written again, finds its request.
#[derive(Clone, Debug)]
struct PassRequests {
    slots: Vec<(MeshRequest, Tag)>,
    newest: u8,
}

impl PassRequests {
    fn new(entries: usize) -> Self {
        let dataflow = DataflowMode::Os;
        let request = MeshRequest { dataflow, ..MeshRequest::default() };
        Self { slots: vec![(request, Tag::GARBAGE); entries + 1], newest: 0 }
    }

    /// The slot that the next request takes.
    fn next(&self) -> u8 {
        wrapping_add(self.newest.into(), 1, self.slots.len()) as u8
    }

    fn push(&mut self, request: MeshRequest, tag: Tag) {
        self.newest = self.next();
        self.slots[usize::from(self.newest)] = (request, tag);
    }
}

/// Wires at the mesh's output in this cycle.
#[derive(Clone, Debug, Default)]
pub struct ExResults {
    /// Row written.
    pub write: ExWrite,
    /// Command whose last row this is.
    completed: Option<RobId>,
    /// Rows of the matrix, if the row belongs to a command.
    counted: Option<u8>,
    /// A row is at the output; true inside if it is the last of its matrix.
    shown: Option<bool>,
}

/// What the destination of a result row depends on beside its tag.
#[derive(Clone, Copy, Debug)]
struct ResultWriter {
    parameters: Parameters,
    dataflow: DataflowMode,
    c_stride: u32,
    ex_write_to_acc: bool,
    ex_write_to_spad: bool,
}

impl ResultWriter {
    /// Where row `k` of the results of a tag goes. OS results leave the array bottom row first.
    #[inline]
    fn target(&self, response: &MeshResponse, tag: &Tag, k: u32) -> Option<ExTarget> {
        let Parameters { layout, dim, count_mask, .. } = self.parameters;
        let step = k * self.c_stride;
        let (offset, row) = match self.dataflow {
            DataflowMode::Ws => (step, k),
            DataflowMode::Os => {
                let last = u32::from(response.total_rows).wrapping_sub(1);
                (last.wrapping_sub(step), last.wrapping_sub(k) & count_mask)
            }
        };
        if tag.addr.is_garbage(layout) || row >= tag.rows.into() {
            return None;
        }
        let addr = tag.addr.add(layout, offset);
        let cols = usize::from(tag.cols).min(dim as usize);
        if addr.is_acc() {
            let (bank, row) = (addr.acc_bank(layout) as u8, addr.acc_row(layout));
            let write = ExTarget::Acc { bank, row, cols, accumulate: addr.accumulate() };
            self.ex_write_to_acc.then_some(write)
        } else {
            let (bank, row) = (addr.sp_bank(layout) as u8, addr.sp_row(layout));
            self.ex_write_to_spad.then_some(ExTarget::Spad { bank, row, cols })
        }
    }
}

/// Wires at the head of the control queue in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlWires<'a> {
    /// Scratchpad banks whose execute response is taken.
    pub pops: u32,
    mesh: MeshWires,
    /// The head leaves if there is one (`deq.ready`).
    head_ready: bool,
    /// The head leaves.
    dequeue: bool,
    /// The mesh takes this request, with the tag.
    request: Option<(MeshRequest, Tag)>,
    /// Operands of which the mesh takes a row.
    fire: OperandSet,
    rows: OperandRows<'a>,
}

/// Wires of the row issue and of the completion report in this cycle. One set is used for all cycles, so that in a streak of rows
/// only what changes from row to row need be driven.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowIssueWires {
    /// Read requests.
    pub reads: ExReads,
    /// Command reported complete.
    pub completed: Option<RobId>,
    decision: Option<Decision>,
    pass: Option<Pass>,
    control_ready: bool,
    /// Operands whose next row is not padding.
    real: OperandSet,
    /// Operands that advance by a row.
    fire: OperandSet,
    /// Bank of each operand's next row.
    bank: [u8; 3],
    /// `about_to_fire_all_rows`.
    done: bool,
    /// The row is one of a streak.
    in_streak: bool,
}

impl RowIssueWires {
    /// The row was one of a streak.
    #[inline]
    pub fn in_streak(&self) -> bool {
        self.in_streak
    }

    /// The wires of another row of the streak, but for the row numbers.
    #[inline]
    pub fn repeat(&mut self) {
        (self.completed, self.decision) = (None, None);
    }
}

/// Registers and queues of the controller.
#[derive(Clone, Debug)]
pub struct ExecuteController {
    config: GemminiConfig,
    parameters: Parameters,
    unroller: TransposePreloadUnroller,
    commands: MultiHeadedQueue<Command>,
    decoded: Decoded,
    state: State,
    configuration: Configuration,
    /// OS: a flush must toggle the registers, as the last preload has a destination.
    in_prop_flush: bool,
    counters: RowCounters,
    /// The next rows, if they are known to repeat the last one: a function of the other registers.
    streak: RowStreak,
    control_queue: MultiHeadedQueue<ControlSignals>,
    requests: PassRequests,
    control_queue_depth: usize,
    mesh: MeshWithDelays,
    /// Result rows of the current tag.
    output_counter: u32,
    /// Nothing is inside, and the last clock edge changed nothing: the wires stay what they are until a command comes.
    quiet: bool,
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
        let parameters = Parameters::new(config);
        let commands =
            MultiHeadedQueue::new(config.ex_queue_length as usize, Command::new(config, &parameters, &NO_COMMAND));
        let control_queue_depth = config.spad_read_delay as usize + 1;
        Self {
            config: config.clone(),
            unroller: TransposePreloadUnroller::new(config),
            decoded: Decoded::new(&parameters, &configuration, &commands),
            parameters,
            commands,
            state: State::Waiting,
            configuration,
            in_prop_flush: false,
            counters: RowCounters::default(),
            streak: RowStreak::NONE,
            requests: PassRequests::new(control_queue_depth),
            control_queue: MultiHeadedQueue::new(control_queue_depth, ControlSignals::RESET),
            control_queue_depth,
            mesh: MeshWithDelays::new(config),
            output_counter: 0,
            quiet: false,
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

    /// All wires are those of the cycle before, whatever the banks do, and a clock edge without a command changes nothing.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.quiet
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
    pub fn results(&self, results: &mut ExResults) {
        (results.write.target, results.completed, results.counted, results.shown) = (None, None, None, None);
        if let Some(response) = self.mesh.response() {
            self.fill_results(&response, results);
        }
    }

    #[inline]
    fn fill_results(&self, response: &MeshResponse, results: &mut ExResults) {
        results.shown = Some(response.last);
        let Some(tag) = response.tag else { return };
        let Some(rob_id) = tag.rob_id else { return };
        results.completed = response.last.then_some(rob_id);
        results.counted = Some(response.total_rows);
        results.write.target = self.result_writer().target(response, tag, self.output_counter);
        self.fill_write(response.data, &mut results.write);
    }

    #[inline]
    fn result_writer(&self) -> ResultWriter {
        let Configuration { dataflow, c_stride, .. } = self.configuration;
        let GemminiConfig { ex_write_to_acc, ex_write_to_spad, .. } = self.config;
        ResultWriter { parameters: self.parameters, dataflow, c_stride, ex_write_to_acc, ex_write_to_spad }
    }

    /// The result row as it is written: all bits to the accumulator, clipped and activated to the scratchpad.
    #[inline]
    fn fill_write(&self, row: &[i32], write: &mut ExWrite) {
        match write.target {
            Some(ExTarget::Acc { .. }) => copy_row(&mut write.acc_row.0[..row.len()], row),
            Some(ExTarget::Spad { .. }) => {
                write_scratchpad_row(row, self.configuration.relu, &mut write.spad_row.0[..row.len()]);
            }
            None => {}
        }
    }

    /// Step 2: the head of the control queue, given the output of each bank's execute response queue, and whether it is valid.
    #[inline]
    pub fn control<'a>(&self, response: impl Fn(u8) -> (bool, &'a SpadRow)) -> ControlWires<'a> {
        let mesh = self.mesh.wires();
        let valid = self.control_queue.valid(0);
        if !valid && self.state != State::Flush {
            return ControlWires { mesh, ..ControlWires::default() };
        }
        let head = self.control_queue.bits(0);
        let (rows, have) = self.head_rows(head, response);
        let fire = (head.fire & have & mesh.ready).only_if(valid);
        let head_ready = (head.fire & !fire & mesh.ready).is_empty() && (!head.first || mesh.req_ready);
        let dequeue = valid && head_ready;
        let taken = (fire & head.reads & !head.from_acc).only_if(dequeue);
        let request = if mesh.req_ready { self.mesh_request(head, dequeue) } else { None };
        ControlWires { pops: banks_of(taken, &head.bank), mesh, head_ready, dequeue, request, fire, rows }
    }

    /// The rows that the mesh gets if it takes this entry's, and the operands that have arrived or need not. An operand that takes
    /// no part is no zero: the mesh gets what its bank's queue shows, valid or not.
    #[inline]
    fn head_rows<'a>(
        &self,
        head: &ControlSignals,
        response: impl Fn(u8) -> (bool, &'a SpadRow),
    ) -> (OperandRows<'a>, OperandSet) {
        let mut rows = OperandRows { row: [None; 3], cols: head.cols };
        let mut have = !head.reads;
        if self.config.ex_read_from_spad {
            let fed = self.fed(head.pass);
            (head.fire & !head.zeros & !head.from_acc).each(|x| {
                let (valid, row) = response(head.bank[x]);
                if valid {
                    have.insert(x);
                }
                rows.row[x] = if fed.has(x) && head.cols[x] > 0 { Some(row) } else { None };
            });
        }
        (rows, have)
    }

    /// Operands whose lanes reach the mesh: a preload alone carries only what the transposer needs of A and B, a compute
    /// alone what it does not.
    #[inline]
    fn fed(&self, pass: Option<Pass>) -> OperandSet {
        let d = OperandSet::of([false, false, true]);
        match pass {
            Some(Pass::Preload) => self.decoded.transposed | d,
            Some(Pass::Compute) => !self.decoded.transposed | d,
            _ => OperandSet::ALL,
        }
    }

    /// The request that is valid in this cycle. A flush is asked for only while the control queue is empty;
    /// it takes dataflow and shift from the stale head. In state `flush` the propagate bit is that of the flush, even for an
    /// ordinary request.
    fn mesh_request(&self, head: &ControlSignals, dequeue: bool) -> Option<(MeshRequest, Tag)> {
        let flush = self.state == State::Flush;
        let (mut request, tag) = self.requests.slots[usize::from(head.request)];
        if flush {
            request.propagate = self.in_prop_flush;
        }
        if self.control_queue.valid(0) {
            return (dequeue && !head.fire.is_empty()).then_some((request, tag));
        }
        (request.total_rows, request.flush) = (self.parameters.dim as u8, 1);
        flush.then_some((request, Tag::GARBAGE))
    }

    /// Step 4: the rows requested in this cycle, given the banks that are ready, and the completion report. `wires` are those of the
    /// cycle before.
    #[inline]
    pub fn row_issue(&self, control: &ControlWires<'_>, spad_ready: u32, acc_ready: u32, wires: &mut RowIssueWires) {
        wires.control_ready = self.control_queue.len() < self.control_queue_depth || control.head_ready;
        let RowStreak { rows, banks, next, .. } = &self.streak;
        wires.in_streak = *rows > 0 && wires.control_ready && !spad_ready & banks == 0;
        if wires.in_streak {
            (wires.decision, wires.reads.spad_row.row) = (None, *next);
        } else {
            self.issue_row(spad_ready, acc_ready, wires);
        }
        wires.completed = self.report(wires.decision);
    }

    /// The rows requested in this cycle, worked out in full.
    fn issue_row(&self, spad_ready: u32, acc_ready: u32, wires: &mut RowIssueWires) {
        (wires.decision, wires.pass) = match self.state {
            State::Waiting => {
                let decision = self.decide();
                (Some(decision), if let Decision::Start(pass) = decision { Some(pass) } else { None })
            }
            State::Compute(pass) => (None, Some(pass)),
            State::Flush | State::Flushing => (None, None),
        };
        let Some(pass) = wires.pass else {
            let RowIssueWires { decision, control_ready, .. } = *wires;
            *wires = RowIssueWires { decision, control_ready, ..RowIssueWires::default() };
            return;
        };
        let plan = &self.decoded.plans[pass as usize];
        let rows = self.next_rows();
        let may_advance = self.may_advance(plan, &rows.bank);
        wires.real = self.real_rows();
        let asks = may_advance & plan.reads & wires.real;
        wires.fire = may_advance & !(asks & self.busy_banks(&rows.bank, spad_ready, acc_ready));
        wires.bank = rows.bank;
        wires.reads = self.reads(asks, &rows, wires.control_ready);
        wires.done = wires.control_ready && self.all_rows_fire(plan, wires.fire);
    }

    /// The report of this cycle: a result's last row, else a command that waits for its report, else CONFIG_EX.
    #[inline]
    fn report(&self, decision: Option<Decision>) -> Option<RobId> {
        let config = || match decision {
            Some(Decision::Config) => self.commands.bits(0).rob_id,
            _ => None,
        };
        self.finished_result().or(self.pending[0]).or(self.pending[1]).or_else(config)
    }

    /// The command whose last result row is at the mesh's output.
    #[inline]
    fn finished_result(&self) -> Option<RobId> {
        if !self.mesh.ends_matrix() {
            return None;
        }
        self.mesh.response()?.tag?.rob_id
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
        if !self.parameters.hazards {
            return false;
        }
        let (first, second) = (self.commands.bits(preload), self.commands.bits(preload + 1));
        let sources = [first.rs1.addr, second.rs1.addr, second.rs2.addr];
        self.mesh.tags().all().any(|tag| {
            !tag.addr.is_garbage(self.parameters.layout)
                && sources.iter().any(|s| tag.addr.same_address(self.parameters.layout, *s))
        })
    }
}

/// Row issue.
impl ExecuteController {
    /// Bank and row of the next row of each operand. D comes bottom row first.
    #[inline]
    fn next_rows(&self) -> BankRows {
        let RowCounters { next, a_offset, .. } = self.counters;
        let [a, b, d] = &self.decoded.places;
        let (a, b, d) = (a.bank_row(a_offset), b.bank_row(next[B]), d.bank_row(self.parameters.dim - 1 - next[D]));
        BankRows { operands: OperandSet::EMPTY, bank: [a.0, b.0, d.0], row: [a.1, b.1, d.1] }
    }

    /// Operands whose bank takes no request in this cycle.
    #[inline]
    fn busy_banks(&self, bank: &[u8; 3], spad_ready: u32, acc_ready: u32) -> OperandSet {
        let from_acc = self.decoded.from_acc;
        let ready = |ready: u32| {
            OperandSet::of([ready >> bank[A] & 1 == 1, ready >> bank[B] & 1 == 1, ready >> bank[D] & 1 == 1])
        };
        if from_acc.is_empty() {
            return !ready(spad_ready);
        }
        !((ready(acc_ready) & from_acc) | (ready(spad_ready) & !from_acc))
    }

    /// The requests of the operands that ask. Those to the accumulator do not wait for room in the control queue.
    #[inline]
    fn reads(&self, asks: OperandSet, rows: &BankRows, control_ready: bool) -> ExReads {
        let acc = asks & self.decoded.from_acc;
        let spad = (asks & !acc).only_if(control_ready && self.config.ex_read_from_spad);
        ExReads {
            spad_valid: banks_of(spad, &rows.bank),
            spad_row: BankRows { operands: spad, ..*rows },
            acc_valid: banks_of(acc, &rows.bank),
            acc_row: BankRows { operands: acc, ..*rows },
        }
    }

    /// After this cycle all rows of the pass are requested.
    #[inline]
    fn all_rows_fire(&self, plan: &Plan, fire: OperandSet) -> bool {
        let RowCounters { next: [a, b, d], started, .. } = self.counters;
        let last = plan.total_rows.wrapping_sub(1);
        let ends = |x: usize, next: u32| next == 0 || (next == last && fire.has(x));
        !started.is_empty() && ends(A, a) && ends(B, b) && ends(D, d)
    }

    /// Operands whose next row is part of the matrix; of the others it is padding and reads as zeros.
    #[inline]
    fn real_rows(&self) -> OperandSet {
        let [a, b, d] = self.counters.next;
        let [of_a, of_b, of_d] = &self.decoded.operands;
        OperandSet::of([a < of_a.rows, b < of_b.rows, self.parameters.dim - 1 - d < of_d.rows])
    }

    /// Operands that need not wait for another one: an operand waits while it is a row ahead, and gives way in a bank to an
    /// operand of higher priority that is level with it (`must_wait_for`).
    #[inline]
    fn may_advance(&self, plan: &Plan, bank: &[u8; 3]) -> OperandSet {
        let RowCounters { next: [a, b, d], started, .. } = self.counters;
        let level = a == b && b == d && (started.is_empty() || started == OperandSet::ALL);
        if level && plan.reads.is_single() {
            return OperandSet::ALL;
        }
        let same_bank = |x, y| self.same_bank(x, y, plan, bank);
        if level {
            return OperandSet::of([true, !same_bank(A, B), !(same_bank(A, D) || same_bank(B, D))]);
        }
        let RowCounters { next, .. } = self.counters;
        let level = |x: usize, y: usize| started.has(x) == started.has(y) && next[x] == next[y];
        let ahead = |x: usize, y: usize| started.has(x) && next[x] == next_row(next[y], plan.total_rows);
        let loses = |x: usize, y: usize| ahead(x, y) || (level(x, y) && same_bank(x, y));
        let waits = [ahead(A, B) || ahead(A, D), loses(B, A) || ahead(B, D), loses(D, A) || loses(D, B)];
        !OperandSet::of(waits)
    }

    /// Both operands read, and from the same scratchpad bank, or both from the accumulator.
    #[inline]
    fn same_bank(&self, x: usize, y: usize, plan: &Plan, bank: &[u8; 3]) -> bool {
        let is_acc = self.decoded.is_acc;
        plan.reads.has(x)
            && plan.reads.has(y)
            && is_acc.has(x) == is_acc.has(y)
            && (is_acc.has(x) || bank[x] == bank[y])
    }

    /// What a pass asks of the mesh.
    fn pass_request(&self, pass: Pass) -> (MeshRequest, Tag) {
        let request = MeshRequest {
            propagate: match pass {
                Pass::Preload => self.in_prop_flush,
                Pass::Compute | Pass::Overlapped => self.decoded.kinds[0] == Kind::ComputeFlip,
            },
            dataflow: self.configuration.dataflow,
            shift: self.configuration.shift,
            a_transpose: self.configuration.a_transpose,
            bd_transpose: self.configuration.bd_transpose,
            total_rows: self.decoded.plans[pass as usize].total_rows as u8,
            flush: 0,
        };
        (request, if pass == Pass::Compute { Tag::GARBAGE } else { self.decoded.tag })
    }

    /// The entry that goes into the control queue, but for [`ControlSignals::first`].
    fn control_entry(&self, pass: Pass, wires: &RowIssueWires) -> ControlSignals {
        let plan = &self.decoded.plans[pass as usize];
        let [a, b, d] = &self.decoded.operands;
        let cols = |x: usize, operand: &Operand| if wires.real.has(x) { operand.cols } else { 0 };
        let cols = [cols(A, a), cols(B, b), cols(D, d)];
        ControlSignals {
            pass: Some(pass),
            fire: wires.fire,
            off: !plan.reads,
            reads: plan.reads & OperandSet::of([cols[A] > 0, cols[B] > 0, cols[D] > 0]),
            zeros: self.decoded.garbage & !OperandSet::single(A),
            from_acc: self.decoded.from_acc,
            first: false,
            bank: wires.bank,
            cols,
            request: self.requests.newest,
        }
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
        control: &ControlWires<'_>,
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
        progress |= self.tick_commands(cmd, pop);
        let empty = self.state == State::Waiting && !self.control_queue.valid(0) && issue.pass.is_none();
        self.quiet = !progress && empty && self.mesh.rows_in_flight() == 0;
        progress
    }

    /// The pending report that goes out in this cycle.
    fn reported(&self, results: &ExResults) -> Option<usize> {
        if results.completed.is_some() || self.pending == [None; 2] {
            return None;
        }
        self.pending.iter().position(Option::is_some)
    }

    fn tick_results(&mut self, results: &ExResults) -> bool {
        if let Some(total_rows) = results.counted {
            self.output_counter = next_row(self.output_counter, total_rows.into()) & (self.parameters.dim - 1);
        }
        results.shown.is_some()
    }

    fn tick_mesh(&mut self, control: &ControlWires<'_>) -> bool {
        let request = control.request.as_ref().map(|(request, tag)| (request, tag));
        self.mesh.tick(&control.mesh, request, control.fire, &control.rows)
    }

    fn tick_control_queue(&mut self, control: &ControlWires<'_>, issue: &RowIssueWires) -> bool {
        let pop = control.dequeue.into();
        let entry = match issue.pass {
            _ if issue.in_streak => {
                self.control_queue.tick(pop, Some(&self.streak.entry));
                return true;
            }
            Some(pass) if issue.control_ready => {
                let first = self.counters.started.is_empty();
                if first {
                    let (request, tag) = self.pass_request(pass);
                    self.requests.push(request, tag);
                }
                Some(ControlSignals { first, ..self.control_entry(pass, issue) })
            }
            _ if control.dequeue => None,
            _ => return false,
        };
        self.control_queue.tick(pop, entry.as_ref());
        true
    }

    /// Row counters: in a pass they count, otherwise they are cleared.
    #[inline]
    fn tick_rows(&mut self, issue: &RowIssueWires) -> bool {
        if !issue.in_streak {
            return self.count_rows(issue);
        }
        self.streak.advance(1);
        self.counters.a_offset += self.configuration.a_stride;
        self.counters.next = self.counters.next.map(|row| row + 1);
        true
    }

    fn count_rows(&mut self, issue: &RowIssueWires) -> bool {
        self.streak.rows = 0;
        let counters = &mut self.counters;
        let Some(pass) = issue.pass else {
            let cleared = RowCounters { started: counters.started, ..RowCounters::default() };
            return std::mem::replace(counters, cleared) != cleared;
        };
        if !issue.control_ready {
            return false;
        }
        let total_rows = self.decoded.plans[pass as usize].total_rows;
        if issue.fire.has(A) {
            let last = counters.next[A] == total_rows.wrapping_sub(1);
            counters.a_offset = if last { 0 } else { counters.a_offset + self.configuration.a_stride };
        }
        let mask = self.parameters.dim - 1;
        issue.fire.each(|x| counters.next[x] = next_row(counters.next[x], total_rows) & mask);
        counters.started = if issue.done { OperandSet::EMPTY } else { counters.started | issue.fire };
        if issue.fire == OperandSet::ALL && !issue.done {
            self.streak = self.streak(pass, issue);
        }
        true
    }

    /// The state machine. Returns how many commands leave the queue, or none if nothing changed.
    #[inline]
    fn tick_state(&mut self, control: &ControlWires<'_>, issue: &RowIssueWires) -> Option<usize> {
        if self.configuration.dataflow == DataflowMode::Ws {
            self.in_prop_flush = false;
        }
        if issue.in_streak {
            return None;
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
        let garbage = self.decoded.tag.addr.is_garbage(self.parameters.layout);
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
        let moves = self.commands.enq_ready() && self.unroller.holds_command();
        if cmd.is_none() && popped.is_none() && !moves {
            return false;
        }
        let unrolled = if moves { self.unroller.output() } else { None };
        let progress = self.unroller.tick(unrolled.is_some(), cmd);
        let pop = popped.unwrap_or(0);
        if pop > 0 || unrolled.is_some() {
            let heads_change = pop > 0 || self.commands.len() < HEADS;
            let command = unrolled.map(|issued| Command::new(&self.config, &self.parameters, &issued));
            self.commands.tick(pop, command.as_ref());
            if heads_change {
                self.decoded = Decoded::new(&self.parameters, &self.configuration, &self.commands);
                // The preload behind a compute that runs alone is also where D's bank and columns come from.
                self.streak.rows = 0;
            }
        }
        progress
    }
}

/// `row + 1`, back to 0 after `total_rows`.
#[inline]
fn next_row(row: u32, total_rows: u32) -> u32 {
    let last = total_rows.wrapping_sub(1);
    if row >= last { row.wrapping_sub(last) } else { row + 1 }
}

/// The banks of some operands, one bit a bank.
#[inline]
fn banks_of(operands: OperandSet, bank: &[u8; 3]) -> u32 {
    let mut banks = 0;
    operands.each(|x| banks |= 1 << bank[x]);
    banks
}

fn record(results: &ExResults, control: &ControlWires<'_>, events: &mut EventBuffer) {
    if !events.enabled() {
        return;
    }
    if let Some((request, _)) = control.request {
        events.push(Event::MeshReq { flush: request.flush });
    }
    record_rows(control.fire, results.shown, events);
}

/// The events of the rows at the array's input and output.
fn record_rows(fire: OperandSet, shown: Option<bool>, events: &mut EventBuffer) {
    if fire.has(A) {
        events.push(Event::MeshA);
    }
    if let Some(last) = shown {
        events.push(Event::MeshOut { last });
    }
}
