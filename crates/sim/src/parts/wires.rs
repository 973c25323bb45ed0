//! The wires between the three parts of the machine (front end, execute, memory), one struct each.
//!
//! Everything here lives for one cycle.

use std::ops::Index;

use pollux_isa::RoccCommand;

use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::observation::event::{Origin, Unit};
use crate::observation::view::CommandView;
use crate::parts::banks::{BankId, BankRow, BankSet};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::row::{AccLanes, SpadLanes};
use crate::parts::values::{Full, Values};

/// One value for each class of commands, indexed by [`Unit`].
pub type PerUnit<T> = [T; 3];

/// The classes, in the order of [`PerUnit`].
pub const UNITS: PerUnit<Unit> = [Unit::Ld, Unit::Ex, Unit::St];

/// Number of an entry in the reservation station: which table, and the position in it (`rob_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RobId {
    /// Table.
    pub unit: Unit,
    /// Entry of the table.
    pub index: u8,
}

/// The sequence number of the command in an entry of the station, for the views of blocks that name entries.
pub(crate) type Seq<'a> = &'a dyn Fn(RobId) -> Option<u64>;

impl Canonical for RobId {
    fn canonical(&self, canon: &mut Canon) {
        canon.entry(self.unit, self.index);
    }
}

/// A command on its way from the command port to the reservation station (`GemminiCmd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct GemminiCmd {
    /// The RoCC command.
    pub cmd: RoccCommand,
    /// Destination register of the instruction word (used by COUNTER only).
    pub rd: u8,
    /// Who made it.
    pub origin: Origin,
    /// Number of the host's command that it is, or from whose loop it was unrolled.
    #[canon(skip = "numbers for events")]
    pub number: u64,
}

impl GemminiCmd {
    /// As data.
    pub(crate) fn view(&self) -> CommandView {
        let Self { cmd: RoccCommand { funct, rs1, rs2 }, rd: _, origin, number } = *self;
        CommandView { funct, rs1, rs2, parent: Some(number), origin: Some(origin), ..CommandView::default() }
    }
}

/// A command issued by the reservation station to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct IssuedCmd {
    /// The RoCC command.
    pub cmd: RoccCommand,
    /// Entry to report when done; none for the copies that the transpose unroller makes.
    pub rob_id: Option<RobId>,
}

/// A result row that the execute controller writes in this cycle (at most one). The rows are written in place, cycle by
/// cycle, and only where `target` needs them.
#[derive(Clone, Debug, Default)]
pub struct ExWrite<V: Values = Full> {
    /// Where the row goes; none if nothing is written.
    pub target: Option<ExTarget>,
    /// Data for the scratchpad, one byte a lane.
    pub spad_row: SpadLanes<V>,
    /// Data for the accumulator, one word a lane.
    pub acc_row: AccLanes<V>,
}

/// Where a result row goes: lanes `0..cols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExTarget {
    /// Into a scratchpad bank.
    Spad {
        /// Bank.
        bank: BankId,
        /// Row within the bank.
        row: BankRow,
        /// Number of lanes written.
        cols: usize,
    },
    /// Into an accumulator bank.
    Acc {
        /// Bank.
        bank: BankId,
        /// Row within the bank.
        row: BankRow,
        /// Number of lanes written.
        cols: usize,
        /// Add to the row instead of overwriting it.
        accumulate: bool,
    },
}

/// Read requests of the execute controller in this cycle: valid bits and rows, whatever the banks answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExReads {
    /// Scratchpad banks with a valid request.
    pub spad_valid: BankSet,
    /// Row asked of each scratchpad bank.
    pub spad_row: BankRows,
    /// Accumulator banks with a valid request (accepted, but never answered in this revision).
    pub acc_valid: BankSet,
    /// Row asked of each accumulator bank.
    pub acc_row: BankRows,
}

/// Rows by bank, for the few banks that matter: at most one for each of the operands A, B and D.
#[derive(Clone, Copy, Debug, Default)]
pub struct BankRows {
    /// Operands that ask for a row.
    pub operands: OperandSet,
    /// The bank each of them asks.
    pub bank: [BankId; 3],
    /// Row within the bank.
    pub row: [BankRow; 3],
}

impl Index<BankId> for BankRows {
    type Output = BankRow;

    /// The row for a bank, of the last operand if there are several; 0 for a bank that is not asked.
    #[inline]
    fn index(&self, bank: BankId) -> &BankRow {
        let asks = |x: &usize| self.operands.has(*x) && self.bank[*x] == bank;
        [D, B, A].into_iter().find(asks).map_or(&BankRow(0), |x| &self.row[x])
    }
}

/// The banks of some operands.
#[inline]
pub fn banks_of(operands: OperandSet, bank: &[BankId; 3]) -> BankSet {
    let mut banks = BankSet::EMPTY;
    operands.each(|x| banks.insert(bank[x]));
    banks
}
