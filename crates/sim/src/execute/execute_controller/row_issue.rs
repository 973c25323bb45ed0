//! Step 4 of a cycle: what the commands at the heads ask for, the rows that are requested for them, and the report of a command
//! that is complete.

use pollux_isa::values::DataflowMode;

use super::ExecuteController;
use super::control_queue::ControlSignals;
use super::operands::{Operand, Pass, Plan};
use super::wires::{ControlWires, Decision, RowCounters, RowIssueWires, State, next_row};
use crate::execute::command_kind::Kind;
use crate::execute::mesh_with_delays::MeshRequest;
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::execute::tag_queue::Tag;
use crate::parts::banks::{BankId, BankSet};
use crate::parts::values::Values;
use crate::parts::wires::{BankRows, ExReads, RobId, banks_of};

impl<V: Values> ExecuteController<V> {
    /// Step 4: the rows requested in this cycle, given the banks that are ready, and the completion report.
    pub fn row_issue(&self, control: &ControlWires<'_, V>, spad_ready: BankSet, acc_ready: BankSet) -> RowIssueWires {
        let mut wires = RowIssueWires::default();
        self.drive_row_issue(self.control_ready(control), spad_ready, acc_ready, &mut wires);
        wires
    }

    /// [`Self::row_issue`], into wires that are driven in every cycle, given [`Self::control_ready`].
    pub(crate) fn drive_row_issue(
        &self,
        control_ready: bool,
        spad_ready: BankSet,
        acc_ready: BankSet,
        wires: &mut RowIssueWires,
    ) {
        wires.control_ready = control_ready;
        self.issue_row(spad_ready, acc_ready, wires);
        wires.completed = self.report(wires.decision);
    }

    /// `cntl_q.enq.ready`: the control queue takes an entry.
    #[inline]
    pub(crate) fn control_ready(&self, control: &ControlWires<'_, V>) -> bool {
        self.control_queue.len() < self.control_queue_depth || control.head_ready
    }

    /// The rows requested in this cycle, worked out in full.
    fn issue_row(&self, spad_ready: BankSet, acc_ready: BankSet, wires: &mut RowIssueWires) {
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
    pub(crate) fn report(&self, decision: Option<Decision>) -> Option<RobId> {
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
    pub(crate) fn hazard(&self, preload: usize) -> bool {
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

    /// Bank and row of the next row of each operand. D comes bottom row first.
    #[inline]
    pub(crate) fn next_rows(&self) -> BankRows {
        let RowCounters { next, a_offset, .. } = self.counters;
        let [a, b, d] = &self.decoded.places;
        let (a, b, d) = (a.bank_row(a_offset), b.bank_row(next[B]), d.bank_row(self.parameters.dim - 1 - next[D]));
        BankRows { operands: OperandSet::EMPTY, bank: [a.0, b.0, d.0], row: [a.1, b.1, d.1] }
    }

    /// Operands whose bank takes no request in this cycle.
    #[inline]
    fn busy_banks(&self, bank: &[BankId; 3], spad_ready: BankSet, acc_ready: BankSet) -> OperandSet {
        let from_acc = self.decoded.from_acc;
        let ready = |ready: BankSet| OperandSet::of([ready.has(bank[A]), ready.has(bank[B]), ready.has(bank[D])]);
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
    pub(crate) fn real_rows(&self) -> OperandSet {
        let [a, b, d] = self.counters.next;
        let [of_a, of_b, of_d] = &self.decoded.operands;
        OperandSet::of([a < of_a.rows, b < of_b.rows, self.parameters.dim - 1 - d < of_d.rows])
    }

    /// Operands that need not wait for another one: an operand waits while it is a row ahead, and gives way in a bank to an
    /// operand of higher priority that is level with it (`must_wait_for`).
    #[inline]
    pub(crate) fn may_advance(&self, plan: &Plan, bank: &[BankId; 3]) -> OperandSet {
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
    pub(crate) fn same_bank(&self, x: usize, y: usize, plan: &Plan, bank: &[BankId; 3]) -> bool {
        let is_acc = self.decoded.is_acc;
        plan.reads.has(x)
            && plan.reads.has(y)
            && is_acc.has(x) == is_acc.has(y)
            && (is_acc.has(x) || bank[x] == bank[y])
    }

    /// What a pass asks of the mesh.
    pub(crate) fn pass_request(&self, pass: Pass) -> (MeshRequest, Tag) {
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
    pub(crate) fn control_entry(&self, pass: Pass, wires: &RowIssueWires) -> ControlSignals {
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
