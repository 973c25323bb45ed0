//! Which command each event belongs to, for observers that ask ([`Observer::linked`](crate::observation::observer::Observer::linked)).
//!
//! Most of it stands in the machine's own tables while an event happens: the tags of the command trackers and of the results in the
//! array name the entry of the reservation station. Two ways lead beyond the completion of their command, and keep their order:
//!
//! | way | what is noted when it begins | read when |
//! |---|---|---|
//! | a pass of operand rows to the array | the oldest command of the pass | the array takes the request |
//! | a stored row to the memory port | the command, and the bytes of the row | Put beats leave, until their bytes are together |

use std::collections::VecDeque;

use crate::dma::store_controller::ScratchpadWriteRequest;
use crate::machine::Machine;
use crate::observation::event::{Event, Port, ReqKind};
use crate::observation::observer::Links;
use crate::parts::values::Values;
use crate::parts::wires::RobId;
use crate::port::tilelink::DmaClient;

/// A loaded row that is offered to a bank: whether the bank is one of the accumulator's, its number, and the command.
type LoadedRow = (bool, u32, Option<u64>);

/// What the registers say before the clock edge.
#[derive(Clone, Debug, Default)]
struct Before {
    loaded: [Option<LoadedRow>; 3],
    /// Command whose row the mvout path may read.
    stored: Option<u64>,
    /// Oldest command of the pass.
    pass: Option<u64>,
    /// Command of the result at the array's output.
    result: Option<u64>,
    /// The newest request to the mesh.
    newest: u8,
    /// The row request that the mvout path takes.
    row: Option<ScratchpadWriteRequest>,
}

/// What is on its way beyond the completion of its command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lineage {
    before: Before,
    /// Passes whose request the array has not taken.
    passes: VecDeque<Option<u64>>,
    /// The pass whose rows the array takes.
    entering: Option<u64>,
    /// Stored rows that have not left, and their bytes.
    rows: VecDeque<(Option<u64>, u32)>,
    /// Command of the transaction of each source.
    sources: Vec<Option<u64>>,
}

impl Lineage {
    /// Looks at the registers before a clock edge.
    pub fn before_edge<V: Values>(&mut self, machine: &Machine<V>) {
        let Machine { load, store, execute, scratchpad, .. } = machine;
        let layout = scratchpad.layout;
        let heads = scratchpad.mvin.heads();
        let of_load = |id: u8| machine.seq(load.command(id)?);
        let row = |is_acc: bool, laddr: pollux_isa::LocalAddr, id: u8| {
            (is_acc, if is_acc { laddr.acc_bank(layout) } else { laddr.sp_bank(layout) }, of_load(id))
        };
        let reads = scratchpad.mvout.dispatching().and_then(|request| machine.seq(store.command(request.cmd_id)?));
        let result = execute.mesh.response().and_then(|response| machine.seq(response.tag?.rob_id?));
        self.before = Before {
            loaded: [
                heads.narrow.map(|head| row(head.tag.is_acc, head.laddr, head.tag.cmd_id)),
                heads.wide.map(|head| row(true, head.laddr, head.tag.cmd_id)),
                heads.zero.map(|head| row(head.laddr.is_acc(), head.laddr, head.tag.cmd_id)),
            ],
            stored: reads,
            pass: execute.oldest_command().and_then(|id| machine.seq(id)),
            result,
            newest: execute.requests.newest,
            row: store.request().filter(|_| scratchpad.mvout.store_ready()),
        };
    }

    /// Looks at them after it.
    pub fn after_edge<V: Values>(&mut self, machine: &Machine<V>) {
        if machine.execute.requests.newest != self.before.newest {
            self.passes.push_back(self.before.pass);
        }
        let layout = machine.scratchpad.layout;
        // Rows that only the normalizer reads do not leave.
        let leaves = |row: &ScratchpadWriteRequest| {
            let read = row.laddr.is_acc() && !row.laddr.is_garbage(layout);
            row.store_en && !row.to_spad && (!read || row.laddr.norm_cmd().writes_to_main_memory())
        };
        if let Some(row) = self.before.row.take().filter(leaves) {
            let command = machine.store.command(row.cmd_id).and_then(|id| machine.seq(id));
            self.rows.push_back((command, machine.scratchpad.mvout.row_bytes(&row)));
        }
    }

    /// What an event of this cycle belongs to.
    pub fn links<V: Values>(&mut self, event: &Event, machine: &Machine<V>) -> Links {
        let command = match *event {
            Event::Accept { number, .. } => return Links { parent: Some(number), ..Links::default() },
            Event::Alloc { seq, unit, entry, .. } => {
                let (parent, dependencies) = machine.front.station().lineage(RobId { unit, index: entry });
                return Links { command: Some(seq), parent, dependencies };
            }
            Event::Issue { seq, .. } | Event::Complete { seq, .. } => Some(seq),
            Event::Req { kind: ReqKind::Get, source, .. } => {
                let command = self.reading(source, machine);
                self.note(source, command)
            }
            Event::Req { source, mask, .. } => {
                let command = self.leaving(mask.count_ones());
                self.note(source, command)
            }
            Event::Rsp { source, .. } => self.sources.get(usize::from(source)).copied().flatten(),
            Event::SpadRead { port: Port::Ex, .. } | Event::AccRead { port: Port::Ex, .. } => self.before.pass,
            Event::SpadRead { port: Port::Dma, .. } | Event::AccRead { port: Port::Dma, .. } => self.before.stored,
            Event::SpadWrite { port: Port::Ex, .. } | Event::AccWrite { port: Port::Ex, .. } => self.before.result,
            Event::SpadWrite { bank, port: Port::Dma, .. } => self.loading(false, bank),
            Event::AccWrite { bank, port: Port::Dma, .. } => self.loading(true, bank),
            Event::MeshReq { flush: 0 } => {
                self.entering = self.passes.pop_front().flatten();
                self.entering
            }
            Event::MeshReq { .. } => {
                self.entering = None;
                None
            }
            Event::MeshA => self.entering,
            Event::MeshOut { .. } => self.before.result,
            Event::Busy { .. } | Event::Resp { .. } => None,
        };
        Links { command, ..Links::default() }
    }

    /// The load that a Get belongs to.
    fn reading<V: Values>(&self, source: u16, machine: &Machine<V>) -> Option<u64> {
        let (client, xact) = machine.scratchpad.tilelink.local(source);
        debug_assert!(client == DmaClient::Reader);
        machine.seq(machine.load.command(machine.scratchpad.reader.command(xact))?)
    }

    /// The store that so many bytes of a Put belong to.
    fn leaving(&mut self, bytes: u32) -> Option<u64> {
        let (command, left) = self.rows.front_mut()?;
        let command = *command;
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            self.rows.pop_front();
        }
        command
    }

    fn note(&mut self, source: u16, command: Option<u64>) -> Option<u64> {
        let source = usize::from(source);
        if self.sources.len() <= source {
            self.sources.resize(source + 1, None);
        }
        self.sources[source] = command;
        command
    }

    /// The load whose row a bank takes.
    fn loading(&self, acc: bool, of: u8) -> Option<u64> {
        let mut rows = self.before.loaded.iter().flatten();
        rows.find(|(is_acc, bank, _)| (*is_acc, *bank) == (acc, of.into())).and_then(|(.., command)| *command)
    }
}
