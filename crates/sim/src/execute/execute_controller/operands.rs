//! The commands at the heads of the command queue as the controller sees them: wires that change only with the queue and
//! the configuration.

use pollux_isa::config::Dataflow;
use pollux_isa::fields::ExecOperand;
use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr, RoccCommand};

use crate::execute::command_kind::Kind;
use crate::execute::mesh_with_delays::transposed;
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::execute::tag_queue::Tag;
use crate::parts::banks::{BankId, BankRow};
use crate::parts::canonical::Canonical;
use crate::parts::multi_headed_queue::MultiHeadedQueue;
use crate::parts::wires::{IssuedCmd, RobId};

/// Heads of the command queue that the controller looks at (`cmd_q_heads`).
pub(crate) const HEADS: usize = 3;
/// Fewest rows of a pass: two writes of one accumulator row must be four cycles apart.
const MIN_ROWS: u32 = 4;

/// One trip of rows through the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub enum Pass {
    /// A preload alone (`perform_single_preload`).
    Preload,
    /// A compute alone (`perform_single_mul`).
    Compute,
    /// A compute, and the preload of the next (`perform_mul_pre`).
    Overlapped,
}

/// What the controller needs of the configuration record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    pub layout: AddressLayout,
    pub dim: u32,
    /// Mask of a row count (`log2Up(DIM + 1)` bits).
    pub count_mask: u32,
    /// An operand can be a result that is still in the array (not `raw_hazards_are_impossible`).
    pub hazards: bool,
    ex_read_from_acc: bool,
    /// Operands hard-wired to garbage (`hardcode_d_to_garbage_addr`).
    hardwired: OperandSet,
}

impl Parameters {
    pub fn new(config: &GemminiConfig) -> Self {
        let hardwired = |dataflow| config.hardcode_d_to_garbage_addr && config.dataflow == dataflow;
        Self {
            layout: config.layout(),
            dim: config.dim(),
            count_mask: (1 << config.dim_count_bits()) - 1,
            hazards: config.ex_read_from_acc || config.ex_write_to_spad,
            ex_read_from_acc: config.ex_read_from_acc,
            hardwired: OperandSet::of([false, hardwired(Dataflow::Ws), hardwired(Dataflow::Os)]),
        }
    }
}

/// Registers that CONFIG_EX sets.
#[derive(Clone, Copy, Debug, Canonical)]
pub(crate) struct Configuration {
    pub dataflow: DataflowMode,
    pub shift: u8,
    pub relu: bool,
    pub a_transpose: bool,
    pub bd_transpose: bool,
    pub a_stride: u32,
    pub c_stride: u32,
}

/// A register of PRELOAD or COMPUTE, as far as it does not depend on the row.
#[derive(Clone, Copy, Debug, Canonical)]
pub(crate) struct Operand {
    pub addr: LocalAddr,
    pub garbage: bool,
    pub rows: u32,
    pub cols: u8,
    /// The row is read from the accumulator.
    pub from_acc: bool,
}

/// Where the rows of an operand are: what turns a row counter into a bank and a row in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    first: u32,
    /// Mask of a row number that is counted through all banks.
    mask: u32,
    /// Bits of a row within its bank.
    row_bits: u32,
}

impl Place {
    fn new(layout: AddressLayout, operand: &Operand) -> Self {
        let (bits, row_bits) = if operand.from_acc {
            (layout.acc_addr_bits, layout.acc_bank_row_bits)
        } else {
            (layout.sp_addr_bits, layout.sp_bank_row_bits)
        };
        Self { first: operand.addr.0, mask: (1 << bits) - 1, row_bits }
    }

    /// Rows of a bank but the first: also the number of the last one.
    pub fn row_mask(&self) -> u32 {
        (1 << self.row_bits) - 1
    }

    /// Bank, and row in it, of the row that is so many rows behind the first one.
    #[inline]
    pub fn bank_row(&self, offset: u32) -> (BankId, BankRow) {
        let row = self.first.wrapping_add(offset) & self.mask;
        (BankId((row >> self.row_bits) as u8), BankRow(row & self.row_mask()))
    }
}

impl Operand {
    fn new(config: &GemminiConfig, parameters: &Parameters, register: u64) -> Self {
        let ExecOperand { local, cols, rows } = ExecOperand::from_reg(config, register);
        Self {
            addr: local,
            garbage: local.is_garbage(parameters.layout),
            rows: rows.into(),
            cols: cols as u8,
            from_acc: parameters.ex_read_from_acc && local.is_acc(),
        }
    }

    /// With rows and columns exchanged if `transposed`; garbage if `hardwired`.
    fn adapted(mut self, transposed: bool, hardwired: bool, parameters: &Parameters) -> Self {
        if transposed {
            (self.rows, self.cols) = (self.cols.into(), self.rows as u8);
        }
        if hardwired {
            (self.addr, self.garbage) = (LocalAddr::GARBAGE, true);
            self.from_acc = parameters.ex_read_from_acc;
        }
        self
    }
}

/// A command in the queue, taken apart when it enters.
#[derive(Clone, Copy, Debug, Canonical)]
pub(crate) struct Command {
    pub cmd: RoccCommand,
    pub rob_id: Option<RobId>,
    pub kind: Kind,
    /// The first compute of a split pair (`TransposePreloadUnroller.scala`).
    pub discarded: bool,
    pub rs1: Operand,
    pub rs2: Operand,
}

impl Command {
    pub fn new(config: &GemminiConfig, parameters: &Parameters, issued: &IssuedCmd) -> Self {
        let IssuedCmd { cmd, rob_id } = *issued;
        let [rs1, rs2] = [cmd.rs1, cmd.rs2].map(|register| Operand::new(config, parameters, register));
        let kind = Kind::of(cmd.funct);
        // Only the unroller makes computes that nobody waits for.
        Self { cmd, rob_id, kind, discarded: rob_id.is_none() && kind.is_compute(), rs1, rs2 }
    }
}

/// The commands at the heads under the current configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub kinds: [Kind; HEADS],
    /// Which operands go through the transposer (`x_should_be_fed_into_transposer`).
    pub transposed: OperandSet,
    pub operands: [Operand; 3],
    /// Where the rows of each operand are.
    pub places: [Place; 3],
    /// Address is garbage.
    pub garbage: OperandSet,
    /// Address is in the accumulator.
    pub is_acc: OperandSet,
    /// Rows are read from the accumulator.
    pub from_acc: OperandSet,
    /// Destination and report of the preload.
    pub tag: Tag,
    /// Overlapping needs a third command.
    pub third_needed: bool,
    /// One for each [`Pass`].
    pub plans: [Plan; 3],
}

impl Decoded {
    pub fn new(parameters: &Parameters, configuration: &Configuration, commands: &MultiHeadedQueue<Command>) -> Self {
        let &Configuration { dataflow, a_transpose, bd_transpose, .. } = configuration;
        let transposed = transposed(dataflow, a_transpose, bd_transpose);
        let heads: [&Command; HEADS] = std::array::from_fn(|head| commands.bits(head));
        let preload = usize::from(heads[0].kind != Kind::Preload);
        // What goes through the transposer is needed a pass early.
        let place = |transposed| match (preload, transposed) {
            (0, _) => 1,
            (_, true) => 2,
            (_, false) => 0,
        };
        let (a_place, b_place) = (place(transposed.has(A)), place(transposed.has(B)));
        let adapt = |operand: Operand, swap, x: usize| operand.adapted(swap, parameters.hardwired.has(x), parameters);
        let operands = [
            // A's fields are exchanged by CONFIG_EX's bit, not by the use of the transposer.
            adapt(heads[a_place].rs1, a_transpose, A),
            adapt(heads[b_place].rs2, transposed.has(B), B),
            adapt(heads[preload].rs1, transposed.has(D), D),
        ];
        let Operand { addr, garbage, rows, cols, .. } = heads[preload].rs2;
        let tag = Tag { rob_id: heads[preload].rob_id.filter(|_| !garbage), addr, rows: rows as u8, cols };
        let set = |member: fn(&Operand) -> bool| OperandSet::of(operands.each_ref().map(member));
        let garbage_operands = set(|operand| operand.garbage);
        Self {
            kinds: heads.map(|head| head.kind),
            transposed,
            places: operands.each_ref().map(|operand| Place::new(parameters.layout, operand)),
            operands,
            garbage: garbage_operands,
            is_acc: set(|operand| operand.addr.is_acc()),
            from_acc: set(|operand| operand.from_acc),
            tag,
            third_needed: a_place > 1 || b_place > 1 || parameters.hazards,
            plans: [Pass::Preload, Pass::Compute, Pass::Overlapped]
                .map(|pass| Plan::new(parameters, dataflow, pass, transposed, garbage_operands, &operands)),
        }
    }
}

/// What a pass over the commands at the heads does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// Operands that take part (`start_inputting_x`) and whose address is not garbage.
    pub reads: OperandSet,
    /// Rows of the pass.
    pub total_rows: u32,
}

impl Plan {
    fn new(
        parameters: &Parameters,
        dataflow: DataflowMode,
        pass: Pass,
        transposed: OperandSet,
        garbage: OperandSet,
        operands: &[Operand; 3],
    ) -> Self {
        let a_and_b = OperandSet::of([true, true, false]);
        let fed = match pass {
            Pass::Preload => transposed | !a_and_b,
            Pass::Compute => !transposed & a_and_b,
            Pass::Overlapped => OperandSet::ALL,
        };
        let reads = fed & !garbage;
        // In WS a pass without weights to load has no more rows than A and B have.
        let whole = dataflow == DataflowMode::Os || reads.has(D) || !transposed.is_empty();
        let rows = |x: usize| if reads.has(x) { operands[x].rows } else { 1 };
        let counted = rows(A).max(rows(B)).max(MIN_ROWS) & parameters.count_mask;
        let total_rows = if whole { parameters.dim } else { counted };
        Self { reads, total_rows }
    }
}
