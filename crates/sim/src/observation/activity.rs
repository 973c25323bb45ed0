//! What the blocks spend a cycle on: the vocabulary of the reports.
//!
//! While an observer asks for it ([`Observer::ACTIVITY`](crate::observation::observer::Observer::ACTIVITY)), the machine tells for
//! every cycle what each [`Block`] does ([`Spent`]), which bank accesses are taken or refused ([`BankUse`]), and which of Gemmini's
//! event lines are high. In skipped cycles nothing moves, so the wires are those of the cycle before: they count as that one
//! did, and a report is the same with and without skipping.

use serde::Serialize;

use crate::front_end::counter_file::CounterEvents;
use crate::observation::event::Cycle;

/// Defines an enumeration with, for each variant, a name for machines and a description for people.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $id:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum $name {
            $(#[doc = $text] #[serde(rename = $id)] $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Name in JSON and CSV.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What it stands for, for people.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// The blocks whose cycles are accounted for, in the order of the data flow.
    Block {
        CommandPort = "command_port", "The RoCC command port: busy when it takes a command.";
        LoopConv = "loop_conv", "The unroller of LOOP_CONV_WS.";
        LoopMatmul = "loop_matmul", "The unroller of LOOP_WS.";
        Dispatch = "dispatch", "Entry into the reservation station.";
        IssueLoads = "issue_loads", "The reservation station's issue of load commands.";
        IssueExecutes = "issue_executes", "The reservation station's issue of execute commands.";
        IssueStores = "issue_stores", "The reservation station's issue of store commands.";
        LoadController = "load_controller", "LoadController: a row request a cycle.";
        ExecuteController = "execute_controller", "ExecuteController: a row of all operands a cycle.";
        StoreController = "store_controller", "StoreController: a row request a cycle.";
        Mesh = "mesh", "The systolic array: busy when a row enters.";
        MvinPath = "mvin_path", "Loaded rows between the reader and the banks: scaling, repeated pixels, zeros.";
        MvoutPath = "mvout_path", "Stored rows between the banks and the writer.";
        Normalizer = "normalizer", "The normalization unit: busy while a row is inside.";
        AccumulatorScale = "accumulator_scale", "The scale and activation unit: busy while a row is inside.";
        StreamReader = "stream_reader", "The reading DMA engine.";
        StreamWriter = "stream_writer", "The writing DMA engine.";
        Tlb = "frontend_tlb", "The translation buffer: busy when an engine asks it.";
        RequestPort = "memory_requests", "TileLink channel A at the memory: busy when a beat is accepted.";
        ResponsePort = "memory_responses", "TileLink channel D at the memory: busy when a beat is taken.";
    }
}

named! {
    /// Why a block that has work does not move.
    Cause {
        FrontEndFull = "front_end_full", "the queue behind the command port is full";
        OutputFull = "output_full", "the queue behind the unroller is full";
        LoadsInFlight = "loads_in_flight", "as many load commands in flight as the station has entries";
        ExecutesInFlight = "executes_in_flight", "as many execute commands in flight as the station has entries";
        StoresInFlight = "stores_in_flight", "as many store commands in flight as the station has entries";
        OtherPart = "other_part", "a part of the loop waits for another";
        Turnover = "turnover", "a loop begins or ends";
        StationFullOfLoads = "station_full_of_loads", "all load entries of the station are taken";
        StationFullOfExecutes = "station_full_of_executes", "all execute entries of the station are taken";
        StationFullOfStores = "station_full_of_stores", "all store entries of the station are taken";
        CounterResponse = "counter_response", "a COUNTER waits for the response of the one before";
        ControllerFull = "controller_full", "the controller's command queue is full";
        AfterLoad = "after_load", "the oldest command depends on a load";
        AfterExecute = "after_execute", "the oldest command depends on an execute command";
        AfterStore = "after_store", "the oldest command depends on a store";
        CommandTracker = "command_tracker", "all entries of the command tracker are taken";
        RowRequest = "row_request", "the scratchpad does not take the row request";
        NextCommand = "next_command", "a preload waits for the command behind it";
        Hazard = "hazard", "an operand is a result that is still in the array";
        Flush = "flush", "results must leave the array first";
        Report = "report", "CONFIG_EX waits for the commands before it";
        BankConflict = "bank_conflict", "two operands are in one bank";
        BankBusy = "bank_busy", "an operand's bank is written, or has a row waiting at its output";
        OperandRow = "operand_row", "an operand row is on its way from the scratchpad";
        AccumulatorOperand = "accumulator_operand", "an operand is in the accumulator, from where it never comes";
        MeshFull = "mesh_full", "the array takes no request";
        MvinBank = "mvin_bank", "the bank of a loaded row, or the response port, is taken";
        MvinScaler = "mvin_scaler", "the loaded row is being scaled";
        ReaderRequest = "reader_request", "the reader does not take the row request";
        Writer = "writer", "the writer is still sending the row before";
        ScaleUnit = "scale_unit", "the row is in the scale unit";
        NormalizerBusy = "normalizer", "the normalizer, or the scale unit behind it, holds the row up";
        BankRead = "bank_read", "the bank's read port is taken, or the row is being written";
        BankOutput = "bank_output", "the row has been read and is on its way to its queue";
        Translation = "translation", "the address is not translated yet";
        PageWalk = "page_walk", "a page-table walk is under way";
        MemoryPort = "memory_port", "the buffers to the memory port are full";
        Transactions = "transactions", "all transactions are under way";
        Memory = "memory", "the memory has not answered";
        ScratchpadSide = "scratchpad_side", "the scratchpad side does not take the data";
        MemoryBusy = "memory_busy", "the memory does not accept the beat";
        EngineBusy = "engine_busy", "the engine does not take the beat";
    }
}

named! {
    /// Why a valid access of a bank had to wait.
    Conflict {
        ExReadBehindWrite = "ex_read_behind_write", "operand read: the single-ported bank, or the accumulator row, is being written";
        ExReadBehindRow = "ex_read_behind_row", "operand read: a row waits at the bank's output";
        MvoutReadBehindEx = "mvout_read_behind_ex", "mvout read: the execute controller asks for the port";
        MvoutReadRefused = "mvout_read_refused", "mvout read: the bank is being written, or a row waits at its output";
        MvinWrite = "mvin_write", "loaded row: the execute controller writes the bank, or the bank or the response port refuses it";
        ZeroWrite = "zero_write", "row of zeros: a write of higher priority, or the bank or the response port refuses it";
        ExWriteLost = "ex_write_lost", "result row: the accumulator bank refuses it, and it is lost";
    }
}

/// What a block spends a cycle on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spent {
    /// It has no work.
    #[default]
    Idle,
    /// It does its work: something moves.
    Busy,
    /// It has passed all its work on, and waits for its completion.
    Draining,
    /// It has work that cannot move.
    Stalled(Cause),
}

/// Number of different [`Spent`]s.
pub(crate) const SPENT: usize = 3 + Cause::ALL.len();

impl Spent {
    /// Position in a table of [`SPENT`] entries.
    #[inline]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Busy => 1,
            Self::Draining => 2,
            Self::Stalled(cause) => 3 + cause as usize,
        }
    }
}

/// A register that tells how far a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Instances and name in the RTL, below the top; those below `pollux` are no registers there.
    pub path: &'static str,
    /// Bits.
    pub bits: u32,
}

/// The registers of [`Activity::registers`], in order: `Controller.scala` and the files of its blocks. States count as in the RTL's
/// enumerations.
pub const REGISTERS: [Register; 16] = {
    const fn register(path: &'static str, bits: u32) -> Register {
        Register { path, bits }
    }
    [
        register("load_controller.control_state", 2),
        register("load_controller.row_counter", 6),
        register("store_controller.control_state", 2),
        register("store_controller.row_counter", 12),
        register("ex_controller.control_state", 2),
        register("ex_controller.a_fire_counter", 6),
        register("ex_controller.b_fire_counter", 6),
        register("ex_controller.d_fire_counter", 6),
        register("ex_controller.mesh.fire_counter", 6),
        register("reservation_station.utilization_ld_q", 7),
        register("reservation_station.utilization_ex_q", 7),
        register("reservation_station.utilization_st_q", 7),
        register("io_busy", 1),
        register("pollux.rows_in_array", 8),
        register("pollux.rows_asked_for", 4),
        register("pollux.requests_in_flight", 8),
    ]
};

/// What one cycle is spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// What each [`Block`] does.
    pub blocks: [Spent; Block::ALL.len()],
    /// Accesses of the scratchpad's banks.
    pub spad: BankUse,
    /// Accesses of the accumulator's banks.
    pub acc: BankUse,
    /// Gemmini's own event lines and external values.
    pub counters: CounterEvents,
    /// Registers at the start of the cycle, by [`REGISTERS`].
    pub registers: [u32; REGISTERS.len()],
}

impl Activity {
    /// Sets what a block does.
    #[inline]
    pub(crate) fn set(&mut self, block: Block, spent: impl Into<Spent>) {
        self.blocks[block as usize] = spent.into();
    }

    /// What a block does.
    pub fn of(&self, block: Block) -> Spent {
        self.blocks[block as usize]
    }
}

/// Accesses of a memory's banks in one cycle, one bit a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BankUse {
    /// Banks that take a read.
    pub read: u32,
    /// Banks that take a write.
    pub written: u32,
    /// Banks that refuse an access, by [`Conflict`].
    pub refused: [u32; Conflict::ALL.len()],
}

impl BankUse {
    pub(crate) fn refuse(&mut self, conflict: Conflict, banks: u32) {
        self.refused[conflict as usize] |= banks;
    }

    /// Banks that take an access.
    pub fn busy(&self) -> u32 {
        self.read | self.written
    }

    /// Banks that refuse an access and take none.
    pub fn stalled(&self) -> u32 {
        self.refused.iter().fold(0, |all, banks| all | banks) & !self.busy()
    }
}

/// Equal cycles, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: Cycle,
    /// How many.
    pub cycles: u64,
    /// The host's current operation: the number of the last mark it has passed, from 0.
    pub mark: Option<usize>,
}
