//! [`MachineView`]: everything that the machine holds in one cycle, as plain data for people, tests and programs.
//!
//! It shows registers and queues, and of queues their contents in order: never the slots of a ring, or what stale ones held, so that two
//! machines with the same future have the same view. Local and main memory are large and are looked at row by row
//! ([`crate::machine::Machine::spad_row`]); a view has their digests.

use serde::{Serialize, Serializer};

use crate::observation::counts::PortTraffic;
use crate::observation::event::{Cycle, Origin, Unit};

/// Version of the form of [`MachineView`]: a key that goes or changes its meaning makes a new one, a new key does not.
pub const VERSION: u32 = 1;

/// A number of up to 64 bits as text: many readers of JSON keep no more than 53.
fn hexadecimal<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#x}"))
}

/// The machine in one cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MachineView {
    /// [`VERSION`].
    pub version: u32,
    /// The cycle that comes next: registers are as they are at its start.
    pub cycle: Cycle,
    /// The busy output.
    pub busy: bool,
    /// Commands accepted at the port so far.
    pub accepted: u64,
    /// Queues and unrollers in front of the station.
    pub front_end: FrontEndView,
    /// The reservation station's tables, oldest command first.
    pub station: StationView,
    /// The load controller.
    pub load: MoveView,
    /// The execute controller and the wrapper of the array.
    pub execute: ExecuteView,
    /// The store controller.
    pub store: MoveView,
    /// Loaded rows between the reader and the banks.
    pub mvin: MvinView,
    /// Stored rows between the banks and the writer.
    pub mvout: MvoutView,
    /// The reading DMA engine.
    pub reader: EngineView,
    /// The writing DMA engine.
    pub writer: EngineView,
    /// Translation.
    pub tlb: TlbView,
    /// The buffers to the memory port, and requests under way.
    pub port: PortView,
    /// Banks of the scratchpad.
    pub scratchpad: Vec<BankView>,
    /// Banks of the accumulator.
    pub accumulator: Vec<BankView>,
    /// Digest of the contents of the scratchpad.
    #[serde(serialize_with = "hexadecimal")]
    pub scratchpad_digest: u64,
    /// Digest of the contents of the accumulator.
    #[serde(serialize_with = "hexadecimal")]
    pub accumulator_digest: u64,
    /// Traffic at the memory port so far.
    pub traffic: PortTraffic,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommandView {
    /// As assembly text, where somebody has the program's symbols; empty otherwise.
    pub text: String,
    /// Function number.
    pub funct: u8,
    /// First register.
    #[serde(serialize_with = "hexadecimal")]
    pub rs1: u64,
    /// Second register.
    #[serde(serialize_with = "hexadecimal")]
    pub rs2: u64,
    /// Number of the host's command that it is, or from whose loop it was unrolled; none where the hardware does not say.
    pub parent: Option<u64>,
    /// Who made it.
    pub origin: Option<Origin>,
    /// Sequence number in the station, if it is there.
    pub seq: Option<u64>,
}

/// What stands in front of the station.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrontEndView {
    /// Commands behind the port, oldest first.
    pub raw: Vec<CommandView>,
    /// The unroller of LOOP_CONV_WS, if the build has one.
    pub loop_conv: Option<UnrollerView>,
    /// The unroller of LOOP_WS.
    pub loop_matmul: UnrollerView,
    /// Commands in front of the dispatch, oldest first.
    pub unrolled: Vec<CommandView>,
}

/// A loop unroller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnrollerView {
    /// Commands at its input, oldest first.
    pub queue: Vec<CommandView>,
    /// The loops that are configured, the one that began first before the other.
    pub loops: Vec<LoopView>,
    /// Commands in flight by class: loads, executes, stores.
    pub in_flight: [u8; 3],
}

/// A loop under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoopView {
    /// Number of the host's command that started it.
    pub parent: u64,
    /// Its parts.
    pub parts: Vec<PartView>,
}

/// A part of a loop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartView {
    /// What it does.
    pub name: &'static str,
    /// It has accepted the loop.
    pub started: bool,
    /// It has made all its commands.
    pub completed: bool,
    /// Counters, by name, while it works on this loop.
    pub counters: Vec<(&'static str, i32)>,
}

/// The reservation station.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StationView {
    /// Loads.
    pub load: Vec<EntryView>,
    /// Executes.
    pub execute: Vec<EntryView>,
    /// Stores.
    pub store: Vec<EntryView>,
}

impl StationView {
    /// All entries: loads, executes, stores.
    pub fn iter(&self) -> impl Iterator<Item = &EntryView> {
        self.load.iter().chain(&self.execute).chain(&self.store)
    }

    /// The command with this sequence number.
    pub fn command(&self, seq: u64) -> Option<&EntryView> {
        self.iter().find(|entry| entry.command.seq == Some(seq))
    }
}

/// An entry of the station that holds a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// Its table.
    pub unit: Unit,
    /// Its number in the table.
    pub entry: u8,
    /// The command.
    pub command: CommandView,
    /// Its controller has it.
    pub issued: bool,
    /// It is offered to its controller.
    pub offered: bool,
    /// Sequence numbers of the commands that it waits for, ascending.
    pub waits_for: Vec<u64>,
}

/// The load or the store controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MoveView {
    /// State of its state machine, by the RTL's name.
    pub state: &'static str,
    /// Commands in its queue, oldest first: `load`, `store` or `config`, and the sequence numbers of those that are in the station.
    pub queue: Vec<(&'static str, Option<u64>)>,
    /// Row requests of the head that have been made.
    pub row: u32,
    /// Row requests that the head makes in all.
    pub rows: u32,
    /// Commands under way.
    pub tracker: Vec<TrackedView>,
}

/// A command under way in a DMA controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrackedView {
    /// Entry of the command tracker.
    pub id: u8,
    /// The command.
    pub seq: Option<u64>,
    /// Bytes (loads) or rows (stores) that it still waits for.
    pub left: u32,
}

/// The execute controller, and what stands around the array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExecuteView {
    /// State of its state machine, by the RTL's name, with the kind of pass.
    pub state: String,
    /// Dataflow: `ws` or `os`.
    pub dataflow: &'static str,
    /// Commands in the transpose unroller and in the queue, oldest first.
    pub queue: Vec<CommandView>,
    /// Next row of the operands A, B and D.
    pub next_row: [u32; 3],
    /// Rows that have been requested and have not entered the array: for each the operands that it brings.
    pub control_queue: Vec<ControlView>,
    /// Operand buffers in front of the array that are filled: A, B and D.
    pub buffers: [bool; 3],
    /// Rows of the current matrix that have entered.
    pub entered: u8,
    /// Rows of the current matrix, if there is one.
    pub total_rows: Option<u8>,
    /// Rows between the array's input and output.
    pub in_array: usize,
    /// Results that the array has yet to deliver, oldest first.
    pub tags: Vec<TagView>,
    /// Commands that are complete and wait for their report.
    pub pending: Vec<u64>,
}

/// A row that has been requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlView {
    /// It is the first of its pass.
    pub first: bool,
    /// Banks that the operands A, B and D come from; none if they bring no row.
    pub banks: [Option<u8>; 3],
}

/// A result that is to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TagView {
    /// The command that is complete with it.
    pub seq: Option<u64>,
    /// Local address of its first row; none if it is thrown away.
    pub address: Option<u32>,
    /// Its rows.
    pub rows: u8,
    /// Its columns.
    pub cols: u8,
}

/// Loaded rows on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MvinView {
    /// Row requests that wait for the reader, oldest first.
    pub requests: Vec<RowView>,
    /// Rows that are offered to the banks: narrow, wide, zeros.
    pub offered: [Option<u32>; 3],
}

/// Stored rows on their way: four queues, each oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MvoutView {
    /// Rows to be read.
    pub dispatch: Vec<RowView>,
    /// Rows on their way to the normalizer.
    pub norm: Vec<RowView>,
    /// Rows in the normalizer.
    pub scale: Vec<RowView>,
    /// Rows in the scale unit, or on their way to the writer.
    pub issue: Vec<RowView>,
}

/// A row request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowView {
    /// Virtual address.
    #[serde(serialize_with = "hexadecimal")]
    pub address: u64,
    /// Local address.
    pub local: u32,
    /// Elements.
    pub elements: u16,
}

/// A DMA engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineView {
    /// It is splitting a row into requests.
    pub active: bool,
    /// Bytes of the row that have been requested or sent.
    pub bytes_done: u32,
    /// Addresses on their way through translation: in the first register, in the second.
    pub translating: Vec<u64>,
    /// Transactions under way.
    pub transactions: Vec<TransactionView>,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransactionView {
    /// Number within its engine.
    pub id: u16,
    /// Load that it belongs to; stores do not wait for theirs.
    pub seq: Option<u64>,
    /// Row that it goes to, counted through all banks.
    pub row: Option<u32>,
    /// The row is in the accumulator.
    pub accumulator: bool,
    /// Useful bytes.
    pub bytes: u32,
}

/// Translation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlbView {
    /// Pages in the writer's and in the reader's page register.
    pub page_registers: [Option<u64>; 2],
    /// Pages that the TLB translates, ascending.
    pub pages: Vec<u64>,
    /// Page of the walk under way, and the cycles that it still takes.
    pub walks: Vec<(u64, u32)>,
    /// The interrupt line.
    pub interrupt: bool,
}

/// Buffers and requests at the memory port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortView {
    /// Beats in the reader's and in the writer's buffer on channel A.
    pub client_a: [usize; 2],
    /// Beats in the reader's and in the writer's buffer on channel D.
    pub client_d: [usize; 2],
    /// Beats in the port's buffer on channel A.
    pub port_a: usize,
    /// Beats in the port's buffer on channel D.
    pub port_d: usize,
    /// Requests without their full response.
    pub in_flight: u32,
}

/// A bank of a local memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BankView {
    /// A row stands at its output: for the execute controller or for the DMA.
    pub output: Option<&'static str>,
    /// Rows in its queue for the execute controller (scratchpad only).
    pub for_execute: usize,
    /// Rows in its queue for the DMA (scratchpad only).
    pub for_dma: usize,
    /// Rows that are being written (accumulator only), the next to be finished first.
    pub writing: Vec<u32>,
}

impl MachineView {
    /// All commands, to give them their text.
    pub fn commands_mut(&mut self) -> impl Iterator<Item = &mut CommandView> {
        let Self { front_end, station, execute, .. } = self;
        let FrontEndView { raw, loop_conv, loop_matmul, unrolled } = front_end;
        let queues = raw.iter_mut().chain(&mut loop_matmul.queue).chain(unrolled);
        let StationView { load, execute: executes, store } = station;
        let entries = load.iter_mut().chain(executes).chain(store).map(|entry| &mut entry.command);
        let conv = loop_conv.iter_mut().flat_map(|conv| &mut conv.queue);
        queues.chain(conv).chain(entries).chain(&mut execute.queue)
    }
}
