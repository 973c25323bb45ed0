//! Answers to the clients: a pipeline that reads the store, takes the data of Puts and Releases, answers and writes back
//! (`SourceD.scala`).
//!
//! It goes on after the MSHR has finished, so that hits occupy an MSHR for few cycles.

use super::mshr::{Op, Request};
use super::parameters::Geometry;
use crate::uncore::tilelink::{AOp, BeatD, DOp, Grow};

/// A request that is to be answered (`SourceDRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DRequest {
    /// The request.
    pub request: Request,
    /// What an Acquire is granted.
    pub grant: Option<Grow>,
    /// Way of the line.
    pub way: usize,
    /// The MSHR.
    pub sink: u8,
}

impl DRequest {
    /// Answered without the bytes of the line (`s1_grant` or a Release without data).
    fn single(&self) -> bool {
        self.grant == Some(Grow::BtoT) || matches!(self.request.op, Op::Release { data: false, .. })
    }

    /// It brings data.
    fn has_data(&self) -> bool {
        match self.request.op {
            Op::A(op) => op.has_data(),
            Op::Release { data, .. } => data,
        }
    }

    fn at(&self, set: u64, way: usize) -> bool {
        self.request.set == set && self.way == way
    }
}

/// A beat in one of the stages.
#[derive(Clone, Copy, Debug)]
struct Stage {
    req: DRequest,
    beat: u32,
    last: bool,
    need_pb: bool,
    need_d: bool,
    retires: bool,
    /// Words that its Put changes.
    words: u8,
}

/// Stage 1 in this cycle.
#[derive(Clone, Copy, Debug)]
pub struct SourceDWires {
    req: Option<DRequest>,
    beat: u32,
    first: bool,
    last: bool,
    /// Words that come from stages ahead instead of the store.
    bypass: u8,
    /// Banks that it wants to read.
    pub read: u32,
    /// Banks that stage 4 wants to write.
    pub write: u32,
}

/// Handshakes of a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceDInputs {
    /// Stage 1 reads its banks.
    pub read_granted: bool,
    /// Stage 4 writes its banks.
    pub write_granted: bool,
    /// Words of the beat that waits in the put buffer, if one does.
    pub put_beat: Option<u8>,
    /// The client's side takes a beat.
    pub d_ready: bool,
}

/// The pipeline.
#[derive(Clone, Debug)]
pub struct SourceD {
    geometry: Geometry,
    busy: Option<DRequest>,
    block_r: bool,
    counter: u32,
    latch_bypass: bool,
    held_bypass: u8,
    s2: Option<Stage>,
    s2_valid_pb: bool,
    s3: Option<Stage>,
    s3_valid_d: bool,
    s4: Option<Stage>,
}

impl SourceD {
    /// An empty pipeline.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            busy: None,
            block_r: false,
            counter: 0,
            latch_bypass: true,
            held_bypass: 0,
            s2: None,
            s2_valid_pb: false,
            s3: None,
            s3_valid_d: false,
            s4: None,
        }
    }

    /// A request is accepted.
    #[inline]
    pub fn ready(&self) -> bool {
        self.busy.is_none()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.busy.is_none() && self.s2.is_none() && self.s3.is_none() && self.s4.is_none()
    }

    /// None of the stages is at the line: it may be evicted, or overwritten from memory (lines 375 to 386).
    pub fn safe(&self, set: u64, way: usize) -> bool {
        let at = |stage: &Option<Stage>| stage.as_ref().is_some_and(|stage| stage.req.at(set, way));
        !(self.busy.is_some_and(|req| req.at(set, way)) || at(&self.s2) || at(&self.s3) || at(&self.s4))
    }

    /// The list of the put buffer that stage 2 takes a beat from; of channel C's if the flag is set.
    pub fn pops(&self) -> Option<(usize, bool)> {
        let stage = self.s2.as_ref().filter(|_| self.s2_valid_pb)?;
        Some((stage.req.request.put, stage.req.request.is_release()))
    }

    /// The beat that stage 3 offers.
    pub fn d(&self) -> Option<BeatD> {
        let stage = self.s3.as_ref().filter(|_| self.s3_valid_d)?;
        let op = match stage.req.request.op {
            Op::Release { .. } => DOp::ReleaseAck,
            Op::A(AOp::Get) => DOp::AccessAckData,
            Op::A(AOp::PutFull | AOp::PutPartial) => DOp::AccessAck,
            Op::A(AOp::AcquireBlock(_)) => {
                DOp::Grant { data: stage.req.grant != Some(Grow::BtoT), writable: stage.req.grant != Some(Grow::NtoB) }
            }
        };
        // Puts and Releases are answered once, with their first beat.
        let last = stage.last || stage.need_pb;
        let first_beat = stage.req.request.offset / self.geometry.beat_bytes;
        let beat = stage.beat.wrapping_sub(first_beat);
        Some(BeatD { op, source: stage.req.request.source, beat, last, sink: stage.req.sink })
    }

    /// Stage 1 with the request that the scheduler sends (lines 84 to 141), and what stage 4 writes.
    pub fn wires(&self, scheduled: Option<DRequest>) -> SourceDWires {
        let words = self.geometry.words();
        let write = self
            .s4
            .as_ref()
            .filter(|stage| stage.need_pb)
            .map_or(0, |stage| self.geometry.bank_mask(stage.req.request.set, stage.beat, words, stage.words));
        let req = self.busy.or(scheduled);
        let Some(current) = req else {
            return SourceDWires { req, beat: 0, first: true, last: true, bypass: 0, read: 0, write };
        };
        let request = &current.request;
        let beats = if current.single() { 1 } else { (request.size / self.geometry.beat_bytes).max(1) };
        let beat = (request.offset / self.geometry.beat_bytes) | self.counter;
        let bypass = if self.latch_bypass { self.bypass(&current, beat) } else { self.held_bypass };
        let mask = self.geometry.touched(request.offset, request.size) & !bypass;
        let reads = match request.op {
            Op::Release { .. } => false,
            Op::A(AOp::PutFull) => request.size < 8,
            Op::A(_) => !current.single(),
        };
        let read = if reads && !self.block_r { self.geometry.bank_mask(request.set, beat, words, mask) } else { 0 };
        let (first, last) = (self.counter == 0, self.counter + 1 == beats);
        SourceDWires { req, beat, first, last, bypass, read, write }
    }

    /// Words of the beat that stages ahead have (lines 344 to 360).
    fn bypass(&self, req: &DRequest, beat: u32) -> u8 {
        let words = |stage: &Option<Stage>| match stage {
            Some(stage) if stage.retires && stage.beat == beat && stage.req.at(req.request.set, req.way) => {
                self.geometry.touched(stage.req.request.offset, stage.req.request.size)
            }
            _ => 0,
        };
        words(&self.s2) | words(&self.s3) | words(&self.s4)
    }

    /// Clock edge. Returns the list of the put buffer that a beat was taken from, and whether it was the last.
    pub fn tick(&mut self, wires: &SourceDWires, inputs: &SourceDInputs) -> Option<(usize, bool)> {
        let s4_done = self.s4.as_ref().is_none_or(|stage| inputs.write_granted || !stage.need_pb);
        let d_done = !self.s3_valid_d || inputs.d_ready;
        let s4_ready = s4_done || self.s3.as_ref().is_some_and(|stage| !stage.retires);
        let s3_leaves = self.s3.is_some() && d_done && s4_ready;
        let s3_ready = self.s3.is_none() || s3_leaves;
        let pb_done = !self.s2_valid_pb || inputs.put_beat.is_some();
        let s2_leaves = self.s2.is_some() && pb_done && s3_ready;
        let s2_ready = self.s2.is_none() || s2_leaves;
        let s1_leaves = wires.req.is_some() && (wires.read == 0 || inputs.read_granted) && s2_ready;

        if s4_done {
            self.s4 = None;
        }
        if s3_leaves {
            let stage = self.s3.take();
            if let Some(stage) = stage.filter(|stage| stage.retires) {
                self.s4 = Some(stage);
            }
        }
        if inputs.d_ready {
            self.s3_valid_d = false;
        }
        let pop = self.take_put(inputs.put_beat);
        if s2_leaves {
            self.s3 = self.s2.take();
            self.s3_valid_d = self.s3.as_ref().is_some_and(|stage| stage.need_d);
        }
        self.latch_bypass = wires.req.is_none() || s2_ready;
        self.held_bypass = wires.bypass;
        if let Some(req) = wires.req {
            self.tick_s1(req, wires, inputs.read_granted, s1_leaves);
        }
        pop
    }

    /// Stage 2 takes its beat out of the put buffer.
    fn take_put(&mut self, put_beat: Option<u8>) -> Option<(usize, bool)> {
        let stage = self.s2.as_mut().filter(|_| self.s2_valid_pb)?;
        stage.words = put_beat?;
        self.s2_valid_pb = false;
        Some((stage.req.request.put, stage.last))
    }

    fn tick_s1(&mut self, req: DRequest, wires: &SourceDWires, read_granted: bool, leaves: bool) {
        self.busy = Some(req);
        self.block_r |= wires.read != 0 && read_granted;
        if !leaves {
            return;
        }
        let need_pb = req.has_data();
        self.s2 = Some(Stage {
            req,
            beat: wires.beat,
            last: wires.last,
            need_pb,
            need_d: !need_pb || wires.first,
            retires: !req.single(),
            words: 0,
        });
        self.s2_valid_pb = need_pb;
        self.block_r = false;
        self.counter += 1;
        if wires.last {
            self.counter = 0;
            self.busy = None;
        }
    }
}
