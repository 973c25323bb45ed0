//! Channel A of the clients: requests to the scheduler, data into the put buffer (`SinkA.scala`).

use super::list_buffer::ListBuffer;
use super::mshr::{Op, Request};
use super::parameters::Geometry;
use crate::uncore::tilelink::{BeatA, LINE_BYTES};

/// The sink and its put buffer, whose entries are the words that each beat changes.
#[derive(Clone, Debug)]
pub struct SinkA {
    geometry: Geometry,
    putbuffer: ListBuffer<u8>,
    lists: Vec<bool>,
    /// The list of the burst that is coming in.
    put: usize,
}

/// What becomes of the beat in front.
#[derive(Clone, Copy, Debug)]
pub struct SinkAWires {
    /// The request, if the beat is the first of one.
    pub request: Option<Request>,
    /// The put buffer stands in the way.
    pub blocked: bool,
    put: usize,
}

impl SinkA {
    /// An empty sink.
    pub fn new(geometry: Geometry) -> Self {
        let (lists, beats) = (geometry.put_lists(), geometry.put_beats());
        Self { geometry, putbuffer: ListBuffer::new(lists, beats), lists: vec![false; lists], put: 0 }
    }

    /// The words that the first beat in a list changes.
    pub fn put_beat(&self, list: usize) -> Option<u8> {
        self.putbuffer.front(list).copied()
    }

    /// Nothing is in the put buffer.
    pub fn is_empty(&self) -> bool {
        self.putbuffer.is_empty()
    }

    /// The beat in front (lines 65 to 80).
    pub fn wires(&self, beat: &BeatA) -> SinkAWires {
        let free = self.lists.iter().position(|used| !used);
        let put = if beat.first { free.unwrap_or(0) } else { self.put };
        let has_data = beat.op.has_data();
        let blocked = has_data && (!self.putbuffer.ready() || beat.first && free.is_none());
        let request = (beat.first && !blocked).then(|| {
            let (set, tag) = self.geometry.split(beat.address);
            let offset = (beat.address % LINE_BYTES) as u32;
            Request { op: Op::A(beat.op), source: beat.source, size: beat.size, offset, set, tag, put }
        });
        SinkAWires { request, blocked, put }
    }

    /// Clock edge: a beat that was taken, a beat of a list that `SourceD` has used up, the last of its list or not.
    pub fn tick(&mut self, taken: Option<(&BeatA, &SinkAWires)>, pop: Option<(usize, bool)>) {
        let mut push = None;
        if let Some((beat, wires)) = taken
            && beat.op.has_data()
        {
            push = Some((wires.put, beat.words));
            self.put = wires.put;
            self.lists[wires.put] = true;
        }
        if let Some((list, true)) = pop {
            self.lists[list] = false;
        }
        self.putbuffer.tick(pop.map(|(list, _)| list), push);
    }
}
