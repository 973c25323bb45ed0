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

pub(crate) mod control_queue;
mod mesh_input;
pub(crate) mod operands;
pub mod report;
mod results;
mod row_issue;
#[cfg(test)]
mod tests;
pub(crate) mod wires;

use pollux_isa::GemminiConfig;
use pollux_isa::config::Dataflow;
use pollux_isa::fields::ConfigEx;
use pollux_isa::values::{Activation, DataflowMode};

use self::control_queue::{ControlSignals, PassRequests};
use self::operands::{Command, Configuration, Decoded, HEADS, Parameters, Pass};
use self::wires::{ControlWires, Decision, ExResults, RowCounters, RowIssueWires, State, next_row};
use crate::execute::mesh_with_delays::{MeshWithDelays, transposed};
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::execute::transpose_preload_unroller::{NO_COMMAND, TransposePreloadUnroller};
use crate::observation::event::{Event, EventBuffer};
use crate::observation::violation::Violation;
use crate::parts::canonical::Canonical;
use crate::parts::multi_headed_queue::MultiHeadedQueue;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{IssuedCmd, RobId};

/// Registers and queues of the controller.
#[derive(Clone, Debug, Canonical)]
pub struct ExecuteController<V: Values = Full> {
    #[canon(skip = "constant")]
    pub(crate) config: GemminiConfig,
    #[canon(skip = "constant")]
    pub(crate) parameters: Parameters,
    pub(crate) unroller: TransposePreloadUnroller,
    pub(crate) commands: MultiHeadedQueue<Command>,
    #[canon(skip = "made of the commands and the configuration")]
    pub(crate) decoded: Decoded,
    pub(crate) state: State,
    pub(crate) configuration: Configuration,
    /// OS: a flush must toggle the registers, as the last preload has a destination.
    pub(crate) in_prop_flush: bool,
    pub(crate) counters: RowCounters,
    pub(crate) control_queue: MultiHeadedQueue<ControlSignals>,
    pub(crate) requests: PassRequests,
    #[canon(skip = "constant")]
    pub(crate) control_queue_depth: usize,
    pub(crate) mesh: MeshWithDelays<V>,
    /// Result rows of the current tag.
    pub(crate) output_counter: u32,
    /// Commands that are complete and wait for their report.
    pub(crate) pending: [Option<RobId>; 2],
}

/// State and combinational outputs.
impl<V: Values> ExecuteController<V> {
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
            requests: PassRequests::new(control_queue_depth),
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

    pub(crate) fn matmul_in_progress(&self) -> bool {
        self.mesh.tags().outstanding()
    }
}

/// Clock edge.
impl<V: Values> ExecuteController<V> {
    /// The clock edge of a cycle with these wires. `cmd` was accepted from the reservation station. True if a register changed in a way
    /// that may matter.
    #[must_use]
    pub fn tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        results: &ExResults<V>,
        control: &ControlWires<'_, V>,
        issue: &RowIssueWires,
        events: &mut EventBuffer,
    ) -> bool {
        record(results, control, events);
        let mut progress = self.tick_results(results);
        progress |= self.tick_mesh(control);
        progress |= self.tick_control_queue(control, issue);
        progress |= self.count_rows(issue);
        // The FSM sets a pending report before a report is taken from it, as in the hardware.
        let reported = self.reported(results);
        let pop = self.tick_state(control, issue);
        if issue.decision == Some(Decision::Config) {
            let Configuration { dataflow, a_transpose, bd_transpose, .. } = self.configuration;
            let operands = transposed(dataflow, a_transpose, bd_transpose);
            events
                .require([A, B, D].into_iter().filter(|x| operands.has(*x)).count() <= 1, Violation::SharedTransposer);
        }
        if issue.decision == Some(Decision::Start(Pass::Compute)) {
            // Its weights come out of the transposer in the pass of the discarded compute, which the second preload must share.
            events.require(!self.commands.bits(0).discarded, Violation::WeightsLost);
        }
        if let Some(slot) = reported {
            self.pending[slot] = None;
        }
        progress |= reported.is_some() || pop.is_some();
        progress |= self.tick_commands(cmd, pop);
        progress
    }

    /// The pending report that goes out in this cycle.
    pub(crate) fn reported(&self, results: &ExResults<V>) -> Option<usize> {
        if results.completed.is_some() || self.pending == [None; 2] {
            return None;
        }
        self.pending.iter().position(Option::is_some)
    }

    pub(crate) fn tick_results(&mut self, results: &ExResults<V>) -> bool {
        if let Some(total_rows) = results.counted {
            self.output_counter = next_row(self.output_counter, total_rows.into()) & (self.parameters.dim - 1);
        }
        results.shown.is_some()
    }

    pub(crate) fn tick_mesh(&mut self, control: &ControlWires<'_, V>) -> bool {
        let request = control.request.as_ref().map(|(request, tag)| (request, tag));
        self.mesh.tick(&control.mesh, request, control.fire, &control.rows)
    }

    fn tick_control_queue(&mut self, control: &ControlWires<'_, V>, issue: &RowIssueWires) -> bool {
        let pop = control.dequeue.into();
        let entry = match issue.pass {
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
    fn count_rows(&mut self, issue: &RowIssueWires) -> bool {
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
        true
    }

    /// The state machine. Returns how many commands leave the queue, or none if nothing changed.
    #[inline]
    fn tick_state(&mut self, control: &ControlWires<'_, V>, issue: &RowIssueWires) -> Option<usize> {
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
    pub(crate) fn tick_commands(&mut self, cmd: Option<IssuedCmd>, popped: Option<usize>) -> bool {
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
            }
        }
        progress
    }
}

pub(crate) fn record<V: Values>(results: &ExResults<V>, control: &ControlWires<'_, V>, events: &mut EventBuffer) {
    if !events.listening() {
        return;
    }
    if let Some((request, _)) = control.request {
        events.push(Event::MeshReq { flush: request.flush });
    }
    record_rows(control.fire, results.shown, events);
}

/// The events of the rows at the array's input and output.
pub(crate) fn record_rows(fire: OperandSet, shown: Option<bool>, events: &mut EventBuffer) {
    if fire.has(A) {
        events.push(Event::MeshA);
    }
    if let Some(last) = shown {
        events.push(Event::MeshOut { last });
    }
}
