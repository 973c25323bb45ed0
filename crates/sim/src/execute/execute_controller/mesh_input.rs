//! Step 2 of a cycle: the head of the control queue, whose rows go to the mesh when they have arrived from the banks.

use super::ExecuteController;
use super::control_queue::ControlSignals;
use super::operands::Pass;
use super::wires::{ControlWires, State};
use crate::execute::mesh_with_delays::{MeshRequest, OperandRows};
use crate::execute::operand_set::OperandSet;
use crate::execute::tag_queue::Tag;
use crate::parts::banks::BankId;
use crate::parts::row::SpadLanes;
use crate::parts::values::Values;
use crate::parts::wires::banks_of;

impl<V: Values> ExecuteController<V> {
    /// Step 2: the head of the control queue, given the output of each bank's execute response queue, and whether it is valid.
    #[inline]
    pub fn control<'a>(&self, response: impl Fn(BankId) -> (bool, &'a SpadLanes<V>)) -> ControlWires<'a, V> {
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
        response: impl Fn(BankId) -> (bool, &'a SpadLanes<V>),
    ) -> (OperandRows<'a, V>, OperandSet) {
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
    pub(crate) fn fed(&self, pass: Option<Pass>) -> OperandSet {
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
}
