//! Scaling and repetition of loaded rows (`VectorScalarMultiplier.scala`), with the two-entry queue in front of it, which an older
//! revision lacks.
//!
//! ```text
//! reader --> Q(2) --> in --> scaler --> resp
//! ```
//!
//! The input register emits its row `repeats` + 1 times, with row numbers `repeats` down to 0. How long a row is in the
//! scaler depends on the build:
//!
//! | scaler                           | output valid after consumption                 | rate, at best                   |
//! |----------------------------------|------------------------------------------------|---------------------------------|
//! | none (wide path)                 | same cycle                                     | 1 row a cycle                   |
//! | one unit a column, latency K     | K cycles                                       | 1 row a cycle                   |
//! | U units, latency K, identity     | 1 cycle                                        | 1 row a cycle                   |
//! | U units, latency K, other scales | lanes a unit + K + 2 cycles                    | see [`ScaleUnits`]              |
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `req` | in | the reader delivers a row | [`VectorScalarMultiplier::req_ready`]: room in Q(2) |
//! | `resp` | out | [`VectorScalarMultiplier::resp`] | the pixel repeater, or the banks |

use pollux_isa::config::{ScaleArgs, ScaleUnits as UnitCount};

use crate::memories::scale_units::{ENTRIES, ScaleUnits};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::pipeline::Pipeline;
use crate::parts::queue::Queue;
use crate::parts::row::ByteMask;

/// Depth of the queue in front (`vsm_in_q`).
const IN_QUEUE_DEPTH: usize = 2;

/// What travels with a loaded row: the fields of the reader's response that the memories need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct MvinTag {
    /// First row number in the scratchpad or the accumulator (data bits of a local address).
    pub addr: u32,
    /// First byte of the memory's row that the packet holds.
    pub mask_start: u16,
    /// Byte behind the last one; the row ends where this lies beyond it.
    pub mask_end: u16,
    /// The row goes to the accumulator.
    pub is_acc: bool,
    /// The row is added to the one in the accumulator.
    pub accumulate: bool,
    /// Columns of the load.
    pub len: u16,
    /// How often the pixel repeater writes the row (0 means 256).
    pub pixel_repeats: u8,
    /// Useful bytes of the packet.
    pub bytes_read: u16,
    /// Command tracker entry.
    pub cmd_id: u8,
}

impl MvinTag {
    /// Byte enables of the memory's row.
    pub fn mask(&self) -> ByteMask {
        ByteMask::range(self.mask_start.into(), self.mask_end.into())
    }

    /// The enables of a row of bytes.
    pub fn element_mask(&self) -> u64 {
        let below = |end: u16| if end < 64 { (1 << end) - 1 } else { u64::MAX };
        below(self.mask_end) & !below(self.mask_start)
    }
}

/// A row on its way in.
#[derive(Clone, Copy, Debug, Canonical)]
pub struct VectorScalarMultiplierReq<R> {
    /// Elements.
    #[canon(skip = "values")]
    pub row: R,
    /// Bit pattern of the scale factor.
    #[canon(load_scale)]
    pub scale: u32,
    /// Further copies of the row to emit.
    pub repeats: u16,
    /// Last row of its packet.
    pub last: bool,
    /// Destination.
    pub tag: MvinTag,
}

/// A row at the output.
#[derive(Clone, Copy, Debug, Canonical)]
pub struct VectorScalarMultiplierResp<R> {
    /// Scaled elements.
    #[canon(skip = "values")]
    pub row: R,
    /// Number of the copy: its offset from the tag's address.
    pub copy: u16,
    /// Last row of its packet: the packet is complete once this one is written.
    pub last: bool,
    /// Destination.
    pub tag: MvinTag,
}

/// Multiplies the first `dim` elements of a row.
pub type ScaleRow<R> = fn(row: &mut R, dim: usize, scale: u32);

#[derive(Clone, Debug)]
enum Scaler<R> {
    Wire,
    PerColumn(Pipeline<VectorScalarMultiplierResp<R>>),
    Shared { units: ScaleUnits, rows: [Option<VectorScalarMultiplierResp<R>>; ENTRIES], identity: u32 },
}

impl<R: Canonical> Canonical for Scaler<R> {
    fn canonical(&self, canon: &mut Canon) {
        match self {
            Self::Wire => {}
            Self::PerColumn(pipeline) => pipeline.canonical(canon),
            // Whose turn it is, and how far rows are, is told behind everything else (`canonical_service`).
            Self::Shared { units, rows, identity: _ } => units.canonical_of_whole(rows, canon),
        }
    }
}

/// Queue, input register and scaler. `R` is the row type of the path.
#[derive(Clone, Debug, Canonical)]
pub struct VectorScalarMultiplier<R> {
    in_q: Queue<VectorScalarMultiplierReq<R>>,
    /// Without the queue rows go straight to the register.
    #[canon(skip = "constant")]
    has_queue: bool,
    /// The register `in`; its `repeats` counts down.
    input: Option<VectorScalarMultiplierReq<R>>,
    scaler: Scaler<R>,
    #[canon(skip = "constant")]
    scale_row: ScaleRow<R>,
    #[canon(skip = "constant")]
    dim: usize,
    /// Rows multiplied so far.
    #[canon(skip = "statistics")]
    multiplied: u64,
}

impl<R: Copy> VectorScalarMultiplier<R> {
    /// An empty path for rows of `dim` elements; without `args` it has no multipliers.
    pub fn new(args: Option<ScaleArgs>, dim: usize, scale_row: ScaleRow<R>) -> Self {
        let scaler = match args {
            None => Scaler::Wire,
            Some(ScaleArgs { units: UnitCount::PerColumn, latency, .. }) => Scaler::PerColumn(Pipeline::new(latency)),
            Some(ScaleArgs { units: UnitCount::Count(count), latency, identity, .. }) => Scaler::Shared {
                units: ScaleUnits::uniform(count as usize, dim, latency as usize),
                rows: [None; ENTRIES],
                identity: identity.to_bits(),
            },
        };
        let in_q = Queue::plain(IN_QUEUE_DEPTH);
        Self { in_q, has_queue: true, input: None, scaler, scale_row, dim, multiplied: 0 }
    }

    /// The same without the queue in front, as in an older revision.
    #[must_use]
    pub fn without_queue(self) -> Self {
        Self { has_queue: false, ..self }
    }

    /// Appends how far rows are at shared units and whose turn it is there; as part `part` it can be set aside while only whole rows come.
    /// To be called when all that holds loads has been written.
    pub fn canonical_service(&self, part: usize, canon: &mut Canon) {
        let Scaler::Shared { units, identity, .. } = &self.scaler else { return };
        if !(canon.scaled_loads() && canon.keeps("VectorScalarMultiplier.scaler")) {
            return;
        }
        let rests = units.rests();
        canon.set_aside(part, rests && canon.loads_have(*identity), |canon| {
            rests.canonical(canon);
            if rests { units.turns().canonical(canon) } else { units.canonical(canon) }
        });
    }

    /// Shared units, if there are any.
    pub fn units(&self) -> Option<&ScaleUnits> {
        if let Scaler::Shared { units, .. } = &self.scaler { Some(units) } else { None }
    }

    /// The same, to be changed.
    pub fn units_mut(&mut self) -> Option<&mut ScaleUnits> {
        if let Scaler::Shared { units, .. } = &mut self.scaler { Some(units) } else { None }
    }

    /// Rows multiplied so far.
    pub fn multiplied(&self) -> u64 {
        self.multiplied
    }

    /// `req.ready` of the queue in front, or else of the input register, where the output leaves iff `resp_taken`.
    #[inline]
    pub fn req_ready(&self, resp_taken: bool) -> bool {
        if self.has_queue {
            return self.in_q.enq_ready(false);
        }
        self.input.as_ref().is_none_or(|input| input.repeats == 0 && self.consumes(resp_taken))
    }

    /// The scaler takes a copy of the row in the input register (`in_fire`).
    fn consumes(&self, resp_taken: bool) -> bool {
        match &self.scaler {
            Scaler::Wire => resp_taken,
            Scaler::PerColumn(pipeline) => pipeline.in_ready(resp_taken),
            // The hardware looks at the entry's valid bit alone, even if the row in it leaves in this cycle.
            Scaler::Shared { units, .. } => !units.is_valid(units.tail()),
        }
    }

    /// True if no row is inside.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.in_q.is_empty()
            && self.input.is_none()
            && match &self.scaler {
                Scaler::Wire => true,
                Scaler::PerColumn(pipeline) => pipeline.is_empty(),
                Scaler::Shared { units, .. } => units.is_empty(),
            }
    }

    /// The row at the output.
    #[inline]
    pub fn resp(&self) -> Option<VectorScalarMultiplierResp<&R>> {
        match &self.scaler {
            Scaler::Wire => self.input.as_ref().map(shown),
            Scaler::PerColumn(pipeline) => pipeline.out().map(by_reference),
            Scaler::Shared { units, rows, .. } => rows[units.done()?].as_ref().map(by_reference),
        }
    }

    /// Clock edge: `req` was accepted, the output leaves iff `resp_taken`. Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, req: Option<VectorScalarMultiplierReq<R>>, resp_taken: bool) -> bool {
        if req.is_none() && self.is_empty() {
            return false;
        }
        let (consumed, scaler_moved) = self.tick_scaler(resp_taken);
        let refilled = self.tick_input(consumed);
        let accepted = req.is_some();
        match req {
            Some(req) if self.has_queue => self.in_q.push(req),
            Some(req) => self.input = Some(req),
            None => {}
        }
        accepted || refilled || consumed || scaler_moved
    }

    /// Moves a copy of the input register into the scaler (`in_fire`) and clocks it: (consumed, anything moved).
    fn tick_scaler(&mut self, resp_taken: bool) -> (bool, bool) {
        match &mut self.scaler {
            Scaler::Wire => (resp_taken, resp_taken),
            Scaler::PerColumn(pipeline) => {
                let ready = pipeline.in_ready(resp_taken);
                let moved = pipeline.moves(resp_taken);
                let row = self.input.as_ref().filter(|_| ready).map(|input| {
                    let mut copy = copy_of(input);
                    (self.scale_row)(&mut copy.row, self.dim, input.scale);
                    copy
                });
                let consumed = row.is_some();
                self.multiplied += u64::from(consumed);
                pipeline.tick(row, resp_taken);
                (consumed, moved)
            }
            Scaler::Shared { units, rows, identity } => {
                let tail = units.tail();
                // As in `consumes`.
                let row = self.input.as_ref().filter(|_| !units.is_valid(tail));
                let whole = row.map(|input| input.scale == *identity);
                if let (Some(input), Some(whole)) = (row, whole) {
                    let mut copy = copy_of(input);
                    if !whole {
                        (self.scale_row)(&mut copy.row, self.dim, input.scale);
                        self.multiplied += 1;
                    }
                    rows[tail] = Some(copy);
                }
                (whole.is_some(), units.tick(resp_taken, whole, 0))
            }
        }
    }

    /// Clocks the input register; true if it took a row from the queue.
    fn tick_input(&mut self, consumed: bool) -> bool {
        let repeats = self.input.as_ref().map(|input| input.repeats);
        let ready = repeats.is_none() || (repeats == Some(0) && consumed);
        if ready && !self.in_q.is_empty() {
            self.input = self.in_q.pop();
            return true;
        }
        if consumed {
            match &mut self.input {
                Some(input) if input.repeats > 0 => input.repeats -= 1,
                input => *input = None,
            }
        }
        false
    }
}

/// What the input register shows to the scaler.
fn shown<R>(input: &VectorScalarMultiplierReq<R>) -> VectorScalarMultiplierResp<&R> {
    VectorScalarMultiplierResp {
        row: &input.row,
        copy: input.repeats,
        last: input.repeats == 0 && input.last,
        tag: input.tag,
    }
}

fn by_reference<R>(resp: &VectorScalarMultiplierResp<R>) -> VectorScalarMultiplierResp<&R> {
    VectorScalarMultiplierResp { row: &resp.row, copy: resp.copy, last: resp.last, tag: resp.tag }
}

fn copy_of<R: Copy>(input: &VectorScalarMultiplierReq<R>) -> VectorScalarMultiplierResp<R> {
    let VectorScalarMultiplierResp { row, copy, last, tag } = shown(input);
    VectorScalarMultiplierResp { row: *row, copy, last, tag }
}

#[cfg(test)]
mod tests {
    use pollux_isa::config::{Multiplicand, ScaleArgs, ScaleUnits as UnitCount};
    use pollux_numerics::mvin_scale_row;

    use super::*;
    use crate::parts::row::SpadLanes;

    const HALF: u32 = 0x3f00_0000;
    const ONE: u32 = 0x3f80_0000;

    fn scale(row: &mut SpadLanes, dim: usize, scale: u32) {
        mvin_scale_row(&mut row.0[..dim], scale);
    }

    fn args(units: UnitCount) -> Option<ScaleArgs> {
        Some(ScaleArgs { multiplicand: Multiplicand::Float32, latency: 4, units, identity: 1.0 })
    }

    fn request(value: i8, scale: u32, repeats: u16) -> VectorScalarMultiplierReq<SpadLanes> {
        VectorScalarMultiplierReq { row: SpadLanes([value; 64]), scale, repeats, last: true, tag: MvinTag::default() }
    }

    /// Feeds the requests as soon as they are accepted and takes every output: (cycle, copy, last, first lane).
    fn run(
        vsm: &mut VectorScalarMultiplier<SpadLanes>,
        requests: &[VectorScalarMultiplierReq<SpadLanes>],
    ) -> Vec<(u32, u16, bool, i8)> {
        let mut waiting = requests.iter();
        let mut out = Vec::new();
        for cycle in 0..400 {
            let resp = vsm.resp().map(|r| (cycle, r.copy, r.last, r.row.0[0]));
            out.extend(resp);
            let req = vsm.req_ready(resp.is_some()).then(|| waiting.next().copied()).flatten();
            let _ = vsm.tick(req, resp.is_some());
        }
        assert!(vsm.is_empty());
        out
    }

    #[test]
    fn an_unscaled_row_is_out_three_cycles_after_the_queue_took_it() {
        let mut vsm = VectorScalarMultiplier::new(args(UnitCount::Count(4)), 16, scale);
        // Queue, input register, entry: one register each.
        assert_eq!(run(&mut vsm, &[request(8, ONE, 0)]), [(3, 0, true, 8)]);
    }

    #[test]
    fn without_the_queue_a_row_is_out_a_cycle_sooner_and_rows_follow_each_other_all_the_same() {
        for arguments in [args(UnitCount::Count(4)), args(UnitCount::PerColumn), None] {
            let rows: Vec<_> = (0..6).map(|value| request(value, ONE, u16::from(value == 3))).collect();
            let times = |mut vsm: VectorScalarMultiplier<SpadLanes>| run(&mut vsm, &rows);
            let new = || VectorScalarMultiplier::new(arguments, 16, scale);
            let sooner = times(new()).into_iter().map(|(cycle, copy, last, lane)| (cycle - 1, copy, last, lane));
            assert_eq!(times(new().without_queue()), sooner.collect::<Vec<_>>(), "{arguments:?}");
        }
    }

    #[test]
    fn a_scaled_row_is_out_ten_cycles_after_its_consumption() {
        let mut vsm = VectorScalarMultiplier::new(args(UnitCount::Count(4)), 16, scale);
        assert_eq!(run(&mut vsm, &[request(8, HALF, 0)]), [(12, 0, true, 4)]);
    }

    #[test]
    fn repeated_rows_come_out_from_last_to_first_and_only_the_first_ends_the_packet() {
        let mut vsm = VectorScalarMultiplier::new(args(UnitCount::Count(4)), 16, scale);
        let out = run(&mut vsm, &[request(8, ONE, 2), request(9, ONE, 0)]);
        assert_eq!(out, [(3, 2, false, 8), (4, 1, false, 8), (5, 0, true, 8), (6, 0, true, 9)]);
    }

    #[test]
    fn one_unit_a_column_takes_its_latency_for_any_scale() {
        let mut vsm = VectorScalarMultiplier::new(args(UnitCount::PerColumn), 16, scale);
        let out = run(&mut vsm, &[request(8, ONE, 0), request(8, HALF, 0)]);
        assert_eq!(out, [(6, 0, true, 8), (7, 0, true, 4)]);
    }

    #[test]
    fn without_multipliers_the_input_register_is_the_output() {
        let mut vsm = VectorScalarMultiplier::new(None, 16, scale);
        assert_eq!(run(&mut vsm, &[request(8, HALF, 1)]), [(2, 1, false, 8), (3, 0, true, 8)]);
    }
}
