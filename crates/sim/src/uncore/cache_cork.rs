//! What stands between the L2 and memory: Acquires become reads, evicted lines become writes (rocket-chip
//! `tilelink/CacheCork.scala`; `ToAXI4.scala` adds no register).

use crate::memory::{ABeat, MemorySystem, ReqKind};
use crate::parts::values::Values;

use crate::uncore::l2::{LINE_WORDS, OuterA, OuterC, OuterD, OuterDOp, WORD_BYTES};
use crate::uncore::tilelink::{Buffer, LINE_BYTES};

/// The cork, in front of a memory with beats of one word. The bytes are where Gemmini and the core put them, in that memory, so
/// lines go to and fro without data.
#[derive(Clone, Debug, Default)]
pub struct CacheCork {
    /// Words of the line being written that are still to be sent: nothing else may come between.
    writing: Option<u32>,
    /// Lines given up without data, answered at once.
    releases: Buffer<usize>,
    /// Permissions without data, granted at once.
    grants: Buffer<usize>,
    /// A line from memory is being passed on.
    reading: bool,
}

/// Handshakes with the L2.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorkWires {
    /// The Acquire is taken.
    pub a_taken: bool,
    /// The beat of an evicted line is taken.
    pub c_taken: bool,
    /// The beat for the L2.
    pub d: Option<OuterD>,
    from: Option<Origin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Memory,
    Release,
    Grant,
}

impl CacheCork {
    /// Nothing is under way in it.
    pub fn idle(&self) -> bool {
        self.writing.is_none() && self.releases.is_empty() && self.grants.is_empty()
    }

    /// The handshakes of a cycle: evicted lines before Acquires, memory's answers before its own.
    pub fn wires<V: Values>(
        &self,
        cycle: u64,
        a: Option<&OuterA>,
        c: Option<&OuterC>,
        d_ready: bool,
        memory: &impl MemorySystem<V>,
    ) -> CorkWires {
        let mut wires = CorkWires::default();
        let port = memory.a_ready(cycle);
        let writes = c.is_some_and(|beat| beat.word.is_some());
        wires.c_taken = c.is_some() && if writes { port } else { self.releases.ready() };
        let blocked = writes || self.writing.is_some();
        wires.a_taken = a.is_some_and(|ask| if ask.block { port && !blocked } else { self.grants.ready() });
        if d_ready {
            wires.d = self.answer(cycle, memory, &mut wires.from);
        }
        wires
    }

    fn answer<V: Values>(
        &self,
        cycle: u64,
        memory: &impl MemorySystem<V>,
        from: &mut Option<Origin>,
    ) -> Option<OuterD> {
        if let Some(beat) = memory.d_front(cycle) {
            *from = Some(Origin::Memory);
            let op = if beat.ack { OuterDOp::ReleaseAck } else { OuterDOp::GrantData { beat: beat.beat } };
            return Some(OuterD { mshr: usize::from(beat.source >> 1), op });
        }
        if self.reading {
            return None;
        }
        if let Some(&mshr) = self.releases.front() {
            *from = Some(Origin::Release);
            return Some(OuterD { mshr, op: OuterDOp::ReleaseAck });
        }
        let &mshr = self.grants.front()?;
        *from = Some(Origin::Grant);
        Some(OuterD { mshr, op: OuterDOp::Grant })
    }

    /// Clock edge. `line` gives the address of an evicted line.
    pub fn tick<V: Values>(
        &mut self,
        cycle: u64,
        wires: &CorkWires,
        a: Option<&OuterA>,
        c: Option<(&OuterC, u64)>,
        memory: &mut impl MemorySystem<V>,
    ) {
        let c = c.filter(|_| wires.c_taken);
        let a = a.filter(|_| wires.a_taken);
        if let Some((beat, address)) = c
            && let Some(word) = beat.word
        {
            self.writing = (word + 1 != LINE_WORDS).then_some(word + 1);
            memory.accept(cycle, &message(ReqKind::PutFull, beat.mshr << 1, address, word));
        }
        if let Some(ask) = a.filter(|ask| ask.block) {
            memory.accept(cycle, &message(ReqKind::Get, ask.mshr << 1 | 1, ask.address, 0));
        }
        if wires.from == Some(Origin::Memory) {
            memory.take_d(cycle);
            self.reading = wires.d.is_some_and(|beat| !beat.last());
        }
        let released = c.filter(|(beat, _)| beat.word.is_none()).map(|(beat, _)| beat.mshr);
        self.releases.tick(wires.from == Some(Origin::Release), released);
        let granted = a.filter(|ask| !ask.block).map(|ask| ask.mshr);
        self.grants.tick(wires.from == Some(Origin::Grant), granted);
    }
}

/// A message about a line. Writes change no byte: see [`CacheCork`].
fn message<V: Values>(kind: ReqKind, source: usize, address: u64, beat: u32) -> ABeat<V> {
    ABeat {
        kind,
        source: source as u16,
        address,
        size: LINE_BYTES as u32,
        beat,
        last: kind == ReqKind::Get || u64::from(beat + 1) * WORD_BYTES == LINE_BYTES,
        mask: 0,
        ..ABeat::filler()
    }
}
