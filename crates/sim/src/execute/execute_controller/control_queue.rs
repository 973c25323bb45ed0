//! What waits between row issue and mesh input: the entries of the control queue (`ComputeCntlSignals`), and the request to the
//! mesh of each pass in it.

use pollux_isa::values::DataflowMode;

use super::operands::Pass;
use crate::execute::mesh_with_delays::MeshRequest;
use crate::execute::operand_set::OperandSet;
use crate::execute::tag_queue::Tag;
use crate::parts::banks::BankId;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::multi_headed_queue::wrapping_add;

/// An entry of the control queue (`ComputeCntlSignals`): what the mesh needs to know about the rows of one cycle. What all
/// entries of a pass have in common beside, its request to the mesh, is kept once in [`PassRequests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
#[repr(align(16))] // it moves as a whole
pub(crate) struct ControlSignals {
    pub(crate) pass: Option<Pass>,
    /// Operands that advanced with this entry.
    pub(crate) fire: OperandSet,
    /// Operands whose address is garbage or that take no part in this pass.
    pub(crate) off: OperandSet,
    /// Operands that bring a row from a memory: neither off nor padding.
    pub(crate) reads: OperandSet,
    /// Operands that are zeros because their address is garbage (`accumulate_zeros`, `preload_zeros`); never A.
    pub(crate) zeros: OperandSet,
    /// Operands in the accumulator.
    pub(crate) from_acc: OperandSet,
    /// First entry of its pass: it takes a request to the mesh along.
    pub(crate) first: bool,
    pub(crate) bank: [BankId; 3],
    /// Lanes that are not padding; 0 for a padding row.
    pub(crate) cols: [u8; 3],
    /// Slot of the pass's request.
    #[canon(via = Canon::request)]
    pub(crate) request: u8,
}

impl ControlSignals {
    /// Contents of a slot after power-up.
    pub(crate) const RESET: Self = Self {
        pass: None,
        fire: OperandSet::EMPTY,
        off: OperandSet::EMPTY,
        reads: OperandSet::EMPTY,
        zeros: OperandSet::EMPTY,
        from_acc: OperandSet::EMPTY,
        first: false,
        bank: [BankId(0); 3],
        cols: [0; 3],
        request: 0,
    };
}

/// The requests to the mesh of the passes in the control queue, a ring. There is a slot more than the queue has entries, so that
/// even a stale entry, which stays in its slot of the queue until that is written again, finds its request.
#[derive(Clone, Debug)]
pub(crate) struct PassRequests {
    pub(crate) slots: Vec<(MeshRequest, Tag)>,
    pub(crate) newest: u8,
}

/// By age, after the entries of the control queue that name them. The requests of valid entries are still to be made.
impl Canonical for PassRequests {
    fn canonical(&self, canon: &mut Canon) {
        let Self { slots, newest } = self;
        let (newest, count) = (usize::from(*newest), slots.len());
        let named = canon.take_requests();
        for (slot, _) in &named {
            canon.byte(((newest + count - usize::from(*slot)) % count) as u8);
        }
        for age in 0..count {
            let slot = (newest + count - age) % count;
            let (request, tag) = &slots[slot];
            canon.set_over(!named.contains(&(slot as u8, true)));
            request.canonical(canon);
            tag.canonical(canon);
        }
        canon.set_over(false);
    }
}

impl PassRequests {
    pub(crate) fn new(entries: usize) -> Self {
        let dataflow = DataflowMode::Os;
        let request = MeshRequest { dataflow, ..MeshRequest::default() };
        Self { slots: vec![(request, Tag::GARBAGE); entries + 1], newest: 0 }
    }

    /// The slot that the next request takes.
    fn next(&self) -> u8 {
        wrapping_add(self.newest.into(), 1, self.slots.len()) as u8
    }

    pub(crate) fn push(&mut self, request: MeshRequest, tag: Tag) {
        self.newest = self.next();
        self.slots[usize::from(self.newest)] = (request, tag);
    }
}
