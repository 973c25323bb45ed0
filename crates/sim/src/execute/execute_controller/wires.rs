//! The controller's state register, row counters and wires, named as in `ExecuteController.scala`.

use super::operands::Pass;
use crate::execute::mesh_with_delays::{MeshRequest, MeshWires, OperandRows};
use crate::execute::operand_set::OperandSet;
use crate::execute::tag_queue::Tag;
use crate::parts::banks::{BankId, BankSet};
use crate::parts::canonical::Canonical;
use crate::parts::values::{Full, Values};
use crate::parts::wires::{ExReads, ExWrite, RobId};

/// State of the controller (`control_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
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
pub(crate) enum Decision {
    Config,
    Start(Pass),
    Flush,
    Wait,
}

/// Row counters of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(crate) struct RowCounters {
    /// Next row of each operand (`x_fire_counter`).
    pub(crate) next: [u32; 3],
    /// Operands of which a row has been requested (`x_fire_started`).
    pub(crate) started: OperandSet,
    /// Local rows from the first row of A to the next one (`a_addr_offset`).
    pub(crate) a_offset: u32,
}

/// Wires at the mesh's output in this cycle.
#[derive(Clone, Debug, Default)]
pub struct ExResults<V: Values = Full> {
    /// Row written.
    pub write: ExWrite<V>,
    /// Command whose last row this is.
    pub(crate) completed: Option<RobId>,
    /// Rows of the matrix, if the row belongs to a command.
    pub(crate) counted: Option<u8>,
    /// A row is at the output; true inside if it is the last of its matrix.
    pub(crate) shown: Option<bool>,
}

/// Wires at the head of the control queue in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlWires<'a, V: Values = Full> {
    /// Scratchpad banks whose execute response is taken.
    pub pops: BankSet,
    pub(crate) mesh: MeshWires,
    /// The head leaves if there is one (`deq.ready`).
    pub(crate) head_ready: bool,
    /// The head leaves.
    pub(crate) dequeue: bool,
    /// The mesh takes this request, with the tag.
    pub(crate) request: Option<(MeshRequest, Tag)>,
    /// Operands of which the mesh takes a row.
    pub(crate) fire: OperandSet,
    pub(crate) rows: OperandRows<'a, V>,
}

/// Wires of the row issue and of the completion report in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowIssueWires {
    /// Read requests.
    pub reads: ExReads,
    /// Command reported complete.
    pub completed: Option<RobId>,
    pub(crate) decision: Option<Decision>,
    pub(crate) pass: Option<Pass>,
    pub(crate) control_ready: bool,
    /// Operands whose next row is not padding.
    pub(crate) real: OperandSet,
    /// Operands that advance by a row.
    pub(crate) fire: OperandSet,
    /// Bank of each operand's next row.
    pub(crate) bank: [BankId; 3],
    /// `about_to_fire_all_rows`.
    pub(crate) done: bool,
}

/// `row + 1`, back to 0 after `total_rows`.
#[inline]
pub(crate) fn next_row(row: u32, total_rows: u32) -> u32 {
    let last = total_rows.wrapping_sub(1);
    if row >= last { row.wrapping_sub(last) } else { row + 1 }
}
