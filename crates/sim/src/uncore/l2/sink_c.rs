//! Channel C of the clients: answers to probes go to the MSHRs and into the store, Releases to the scheduler (`SinkC.scala`).

use super::list_buffer::ListBuffer;
use super::mshr::{Op, Request};
use super::parameters::{Geometry, REL_LISTS};
use crate::uncore::tilelink::{BeatC, COp, Cap};

/// A client's answer to a probe (`SinkCResponse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeResponse {
    /// Set.
    pub set: u64,
    /// Tag.
    pub tag: u64,
    /// What the client keeps.
    pub keeps: Cap,
    /// With the line.
    pub data: bool,
    /// Last beat.
    pub last: bool,
}

/// The sink.
#[derive(Clone, Debug)]
pub struct SinkC {
    geometry: Geometry,
    putbuffer: ListBuffer<()>,
    lists: [bool; REL_LISTS],
    put: usize,
    /// Banks that the line of a probe's answer is written to in this cycle (the queue of line 97).
    store: u32,
    /// Set and next beat of a probe's answer that has begun; its bank stays reserved if a beat is late.
    open: Option<(u64, u32)>,
}

/// What becomes of the beat in front.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinkCWires {
    /// An answer to a probe.
    pub response: Option<ProbeResponse>,
    /// A Release.
    pub request: Option<Request>,
    /// The beat is an answer to a probe.
    pub probe: bool,
    /// The put buffer stands in the way.
    pub blocked: bool,
    put: usize,
}

impl SinkC {
    /// An empty sink.
    pub fn new(geometry: Geometry) -> Self {
        let beats = REL_LISTS * geometry.line_beats() as usize;
        let putbuffer = ListBuffer::new(REL_LISTS, beats);
        Self { geometry, putbuffer, lists: [false; REL_LISTS], put: 0, store: 0, open: None }
    }

    /// Banks that it writes in this cycle.
    pub fn store(&self) -> u32 {
        self.store
    }

    /// A beat of the list is there.
    pub fn has_beat(&self, list: usize) -> bool {
        self.putbuffer.front(list).is_some()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.store == 0 && self.open.is_none() && self.putbuffer.is_empty()
    }

    /// The beat in front (lines 78 to 152).
    pub fn wires(&self, beat: &BeatC) -> SinkCWires {
        let (set, tag) = self.geometry.split(beat.address);
        let first = beat.beat == 0;
        if beat.op == COp::ProbeAck {
            let told = first || beat.last;
            let response = ProbeResponse { set, tag, keeps: beat.keeps, data: beat.data, last: beat.last };
            return SinkCWires { response: told.then_some(response), probe: true, ..SinkCWires::default() };
        }
        let free = self.lists.iter().position(|used| !used);
        let put = if first { free.unwrap_or(0) } else { self.put };
        let blocked = beat.data && (!self.putbuffer.ready() || first && free.is_none());
        let op = Op::Release { data: beat.data, keeps: beat.keeps };
        let size = crate::uncore::tilelink::LINE_BYTES as u32;
        let request = Request { op, source: beat.source, size, offset: 0, set, tag, put };
        SinkCWires { request: (first && !blocked).then_some(request), blocked, put, ..SinkCWires::default() }
    }

    /// Clock edge: a beat that was taken, a beat that `SourceD` has used up.
    pub fn tick(&mut self, taken: Option<(&BeatC, &SinkCWires)>, pop: Option<(usize, bool)>) {
        let mut push = None;
        self.store = 0;
        match taken {
            Some((beat, wires)) if wires.probe && beat.data => {
                let set = self.geometry.split(beat.address).0;
                self.store = self.banks(set, beat.beat);
                self.open = (!beat.last).then_some((set, beat.beat + 1));
            }
            Some((beat, wires)) if !wires.probe && beat.data => {
                push = Some((wires.put, ()));
                self.put = wires.put;
                self.lists[wires.put] = true;
            }
            None => self.store = self.open.map_or(0, |(set, beat)| self.banks(set, beat)),
            _ => {}
        }
        if let Some((list, true)) = pop {
            self.lists[list] = false;
        }
        self.putbuffer.tick(pop.map(|(list, _)| list), push);
    }

    fn banks(&self, set: u64, beat: u32) -> u32 {
        let words = self.geometry.words();
        self.geometry.bank_mask(set, beat, words, ((1u16 << words) - 1) as u8)
    }
}
