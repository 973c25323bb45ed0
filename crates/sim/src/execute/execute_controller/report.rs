//! What the execute controller is doing and why it is not: counter lines, stall causes, and the explanation of a deadlock.

use pollux_isa::RoccCommand;
use pollux_isa::values::DataflowMode;

use super::ExecuteController;
use super::operands::Pass;
use super::wires::{ControlWires, Decision, RowIssueWires, State, next_row};
use crate::execute::command_kind::Kind;
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::front_end::counter_file::{CounterEvent, CounterEvents};
use crate::observation::activity::{Cause, Spent};
use crate::observation::view::{CommandView, ControlView, ExecuteView};
use crate::parts::values::Values;
use crate::parts::wires::{RobId, Seq};

/// What the controller did in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExecuteActivity {
    /// No command, and nothing in the array that belongs to one.
    Idle,
    /// No command; results are on their way through the array.
    Draining,
    /// A row of all operands was requested, or a CONFIG_EX was executed.
    Busy,
    /// A command waits.
    Stalled(ExecuteStall),
}

/// Why a command waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExecuteStall {
    /// A preload waits for the command behind it.
    NextCommand,
    /// An operand starts at the row of a result that is still in the array.
    Hazard,
    /// A result must leave the array before the next command: the state is `flush` or `flushing`, or is about to be.
    Flush,
    /// CONFIG_EX waits for the reports of the commands before it.
    Report,
    /// Two operands are in one bank.
    BankConflict,
    /// A bank is being written, or has a row waiting at its output.
    BankBusy,
    /// The control queue is full behind a row that has not arrived from the scratchpad.
    ScratchpadRow,
    /// The control queue is full behind an operand in the accumulator, which never arrives.
    AccumulatorOperand,
    /// The control queue is full because the mesh takes no request: too many results are outstanding, or it is still
    /// taking rows of the last one.
    Mesh,
}

/// What tells how far the controller is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlRegisters {
    /// Number of its state in the RTL's enumeration.
    pub state: u32,
    /// Next row of A, B and D.
    pub next_row: [u32; 3],
    /// Rows of the matrix that have entered.
    pub entered: u32,
    /// Rows in the array.
    pub in_array: u32,
    /// Rows that have been asked for and have not entered.
    pub asked_for: u32,
}

impl<V: Values> ExecuteController<V> {
    /// What this cycle is spent on, by the wires of the cycle.
    pub fn activity(&self, control: &ControlWires<'_, V>, issue: &RowIssueWires) -> ExecuteActivity {
        use ExecuteActivity::{Busy, Draining, Idle, Stalled};
        if let Some(pass) = issue.pass {
            return match self.row_stall(pass, control, issue) {
                Some(stall) => Stalled(stall),
                None => Busy,
            };
        }
        match issue.decision {
            Some(Decision::Config) => Busy,
            Some(Decision::Wait) if !self.commands.valid(0) => {
                if self.mesh.rows_in_flight() > 0 || self.control_queue.valid(0) { Draining } else { Idle }
            }
            Some(Decision::Wait) if self.decoded.kinds[0] == Kind::Config => Stalled(ExecuteStall::Report),
            Some(Decision::Wait) if self.commands.valid(1) => Stalled(ExecuteStall::Hazard),
            Some(Decision::Wait) => Stalled(ExecuteStall::NextCommand),
            _ => Stalled(ExecuteStall::Flush),
        }
    }

    /// What the array spends this cycle on: a row enters, or why none does.
    pub fn mesh_activity(&self, control: &ControlWires<'_, V>, issue: &RowIssueWires) -> Spent {
        if control.mesh.advance {
            return Spent::Busy;
        }
        if self.control_queue.valid(0) {
            // The head's rows are on their way, or have just come and enter the array in the next cycle.
            let stall = if control.dequeue { ExecuteStall::ScratchpadRow } else { self.head_stall(control) };
            return ExecuteActivity::Stalled(stall).into();
        }
        match self.activity(control, issue) {
            ExecuteActivity::Busy => Spent::Stalled(Cause::OperandRow),
            ExecuteActivity::Idle => Spent::Idle,
            activity => activity.into(),
        }
    }

    /// Why the operands of the running pass do not all stand at the same row after this cycle.
    fn row_stall(&self, pass: Pass, control: &ControlWires<'_, V>, issue: &RowIssueWires) -> Option<ExecuteStall> {
        if !issue.control_ready {
            return Some(self.head_stall(control));
        }
        let plan = &self.decoded.plans[pass as usize];
        let next = |x: usize| match issue.fire.has(x) {
            true => next_row(self.counters.next[x], plan.total_rows),
            false => self.counters.next[x],
        };
        if next(A) == next(B) && next(B) == next(D) {
            return None;
        }
        let conflict = [(A, B), (A, D), (B, D)].into_iter().any(|(x, y)| self.same_bank(x, y, plan, &issue.bank));
        Some(if conflict { ExecuteStall::BankConflict } else { ExecuteStall::BankBusy })
    }

    /// Why the head of the control queue does not leave.
    fn head_stall(&self, control: &ControlWires<'_, V>) -> ExecuteStall {
        let head = self.control_queue.bits(0);
        if head.first && !control.mesh.req_ready {
            return ExecuteStall::Mesh;
        }
        let missing = head.fire & !control.fire;
        match (missing & head.from_acc).is_empty() {
            true => ExecuteStall::ScratchpadRow,
            false => ExecuteStall::AccumulatorOperand,
        }
    }

    /// The command at the head of the queue, if the station knows it.
    pub(crate) fn oldest_command(&self) -> Option<RobId> {
        if self.commands.valid(0) { self.commands.bits(0).rob_id } else { None }
    }

    /// What tells how far it is.
    pub(crate) fn control_registers(&self) -> ControlRegisters {
        ControlRegisters {
            state: match self.state {
                State::Waiting => 0,
                State::Compute(_) => 1,
                State::Flush => 2,
                State::Flushing => 3,
            },
            next_row: self.counters.next,
            entered: self.mesh.fire_counter.into(),
            in_array: self.mesh.rows_in_flight() as u32,
            asked_for: self.control_queue.len() as u32,
        }
    }

    /// State, queues and what stands around the array.
    pub(crate) fn view(&self, seq: Seq<'_>) -> ExecuteView {
        let queued = (0..self.commands.len()).map(|i| {
            let command = self.commands.bits(i);
            (command.cmd, command.rob_id)
        });
        let unrolling = self.unroller.commands().map(|issued| (issued.cmd, issued.rob_id));
        let command = |(RoccCommand { funct, rs1, rs2 }, id): (RoccCommand, Option<RobId>)| CommandView {
            funct,
            rs1,
            rs2,
            seq: id.and_then(seq),
            ..CommandView::default()
        };
        let requested = (0..self.control_queue.len()).map(|i| {
            let row = self.control_queue.bits(i);
            let bank = |x: usize| row.reads.has(x).then_some(row.bank[x].0);
            ControlView { first: row.first, banks: [bank(A), bank(B), bank(D)] }
        });
        let view = ExecuteView {
            state: match self.state {
                State::Waiting => "waiting_for_cmd".to_owned(),
                State::Compute(pass) => format!("compute {}", format!("{pass:?}").to_lowercase()),
                State::Flush => "flush".to_owned(),
                State::Flushing => "flushing".to_owned(),
            },
            dataflow: if self.configuration.dataflow == DataflowMode::Ws { "ws" } else { "os" },
            queue: queued.chain(unrolling).map(command).collect(),
            next_row: self.counters.next,
            control_queue: requested.collect(),
            pending: self.pending.iter().flatten().filter_map(|id| seq(*id)).collect(),
            ..ExecuteView::default()
        };
        self.mesh.view(view, seq)
    }

    /// Drives the controller's event lines of this cycle.
    pub fn counter_events(&self, control: &ControlWires<'_, V>, issue: &RowIssueWires, events: &mut CounterEvents) {
        let [head, next, _] = self.decoded.kinds;
        let preload_hazard = self.commands.valid(1) && head == Kind::Preload && self.hazard(0);
        let overlap_hazard = self.commands.valid(2) && head.is_compute() && next == Kind::Preload && self.hazard(1);
        let flushing = matches!(self.state, State::Flush | State::Flushing);
        events.set(CounterEvent::ExeActiveCycle, matches!(self.state, State::Compute(_)));
        events.set(CounterEvent::ExeFlushCycle, flushing);
        events.set(CounterEvent::ExeControlQBlockCycle, issue.pass.is_some() && !issue.control_ready);
        events.set(CounterEvent::ExePreloadHazCycle, preload_hazard);
        events.set(CounterEvent::ExeOverlapHazCycle, overlap_hazard);
        // Not gated by the control queue's valid bit: its stale head counts.
        let head = self.control_queue.bits(0);
        let waits = head.fire & !control.fire & control.mesh.ready;
        let mut set = |[a, b, d]: [CounterEvent; 3], operands: OperandSet| {
            events.set(a, operands.has(A));
            events.set(b, operands.has(B));
            events.set(d, operands.has(D));
        };
        use CounterEvent::{
            AGarbageCycles, AccAWaitCycle, AccBWaitCycle, AccDWaitCycle, BGarbageCycles, DGarbageCycles,
        };
        use CounterEvent::{ScratchpadAWaitCycle, ScratchpadBWaitCycle, ScratchpadDWaitCycle};
        set([ScratchpadAWaitCycle, ScratchpadBWaitCycle, ScratchpadDWaitCycle], waits & !head.from_acc);
        set([AccAWaitCycle, AccBWaitCycle, AccDWaitCycle], waits & head.from_acc);
        set([AGarbageCycles, BGarbageCycles, DGarbageCycles], head.off);
        // TransposePreloadUnrollerActiveCycles never happens: ExecuteController initialises its counter port after it has collected
        // the unroller's event.
    }

    /// What it waits for, when nothing can move any more.
    pub fn waiting_for(&self) -> Option<String> {
        if self.control_queue.valid(0) {
            return self.head_waits_for();
        }
        if !self.commands.valid(0) && self.matmul_in_progress() && self.mesh.rows_in_flight() == 0 {
            return Some(
                "a result that has left the array under another tag: an output-stationary result with the garbage \
                 destination was inside when CONFIG_EX changed the dataflow, and left its tag behind"
                    .to_owned(),
            );
        }
        if !self.commands.valid(0) {
            return self.unroller.holds_command().then(|| {
                "a second command: with transposed weights a PRELOAD leaves only together with its COMPUTE".to_owned()
            });
        }
        match self.decoded.kinds[0] {
            Kind::Preload if !self.commands.valid(1) => Some("a command behind the PRELOAD at its head".to_owned()),
            Kind::Preload => Some("a result in the array that starts at the row of an operand".to_owned()),
            Kind::Config => Some("the results in the array that are still claimed by a tag".to_owned()),
            kind => Some(format!("row issue of {kind:?}")),
        }
    }

    fn head_waits_for(&self) -> Option<String> {
        let head = self.control_queue.bits(0);
        let names = ["A", "B", "D"];
        let waiting = head.fire & head.reads;
        if let Some(x) = (waiting & head.from_acc).iter().next() {
            return Some(format!(
                "operand {} from accumulator bank {}: the hardware accepts this read and never answers it; copy the \
                 operand to the scratchpad first",
                names[x], head.bank[x].0
            ));
        }
        Some(match waiting.iter().next() {
            Some(x) => format!("operand {} from scratchpad bank {}", names[x], head.bank[x].0),
            None => "room for another request in the mesh".to_owned(),
        })
    }
}
