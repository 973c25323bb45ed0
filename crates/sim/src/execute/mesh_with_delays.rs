//! The wrapper around the array: operand buffers, requests, transposer and tags (`MeshWithDelays.scala`).
//!
//! | port | dir | shape | valid when | back pressure |
//! |---|---|---|---|---|
//! | `a`, `b`, `d` | in | DIM x i8 | the controller says so | [`MeshWires::ready`]: buffer free, or emptied in this cycle, or a new matrix may begin |
//! | `req` | in | [`MeshRequest`] and [`Tag`] | with the first row of a matrix | [`MeshWires::req_ready`]: the current matrix ends in this cycle or has ended, and both tag queues have room |
//! | `resp` | out | [`MeshResponse`] | fixed latency after a row was presented | none |
//!
//! A row is *presented* to the array in the cycle after its last operand was written to its buffer; the result
//! is at `resp` [`Mesh::latency`] cycles later. A flush presents one matrix of whatever the buffers hold.
//!
//! The tag of a request belongs to the result of the next request (WS), or to that of the one after the next (OS): a matrix product's
//! number, counted modulo the number that may be in flight, is compared when the result comes out.

use pollux_isa::GemminiConfig;
use pollux_isa::values::DataflowMode;

use crate::execute::mesh::{Mesh, MeshControl, MeshRow};
use crate::execute::operand_set::{A, B, D, OperandSet};
use crate::execute::tag_queue::{Tag, TagEntry, TagQueue};
use crate::execute::transposer::Transposer;
use crate::observation::view::ExecuteView;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::multi_headed_queue::wrapping_add;
use crate::parts::queue::Queue;
use crate::parts::row::SpadLanes;
use crate::parts::values::{Full, Values};
use crate::parts::wires::Seq;

/// A matrix to be passed through the array (`MeshWithDelaysReq`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct MeshRequest {
    /// Toggle the roles of the registers c1 and c2.
    #[canon(skip = "values")]
    pub propagate: bool,
    /// What stays in the array.
    pub dataflow: DataflowMode,
    /// Right shift of output-stationary results.
    pub shift: u8,
    /// CONFIG_EX's transposition of A.
    pub a_transpose: bool,
    /// CONFIG_EX's transposition of B (OS) or D (WS).
    pub bd_transpose: bool,
    /// Rows to present.
    pub total_rows: u8,
    /// Matrices to present without waiting for operands; 0 for an ordinary request.
    pub flush: u8,
}

impl MeshRequest {
    /// Which of A, B and D go through the transposer.
    pub fn transposed(&self) -> OperandSet {
        transposed(self.dataflow, self.a_transpose, self.bd_transpose)
    }
}

/// Which of A, B and D go through the transposer. OS needs the columns of A.
pub fn transposed(dataflow: DataflowMode, a_transpose: bool, bd_transpose: bool) -> OperandSet {
    OperandSet::of(match dataflow {
        DataflowMode::Os => [!a_transpose, bd_transpose, false],
        DataflowMode::Ws => [a_transpose, false, bd_transpose],
    })
}

/// Outputs that depend on registers alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeshWires {
    /// A row enters the array (`input_next_row_into_spatial_array`).
    pub advance: bool,
    /// It is the last of its matrix (`last_fire`).
    pub last: bool,
    /// `req.ready`.
    pub req_ready: bool,
    /// `a.ready`, `b.ready`, `d.ready`.
    pub ready: OperandSet,
}

/// A valid row at the array's output, with the tag that claims it.
#[derive(Clone, Copy, Debug)]
pub struct MeshResponse<'a, V: Values = Full> {
    /// Result, DIM lanes.
    pub data: &'a [V::Of<i32>],
    /// Last row of its matrix.
    pub last: bool,
    /// Destination; none if no tag belongs to this matrix.
    pub tag: Option<&'a Tag>,
    /// Rows of the matrix.
    pub total_rows: u8,
    /// The head of the queue of row numbers belongs to this matrix.
    rows_match: bool,
}

/// The rows that the mesh takes in a cycle, by operand: from a memory, or zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct OperandRows<'a, V: Values = Full> {
    /// Rows from a memory.
    pub row: [Option<&'a SpadLanes<V>>; 3],
    /// Lanes of them that are not padding; the others are taken as zeros.
    pub cols: [u8; 3],
}

/// A row that enters the array, with its control signals.
#[derive(Clone, Debug)]
pub struct PresentedRow<V: Values = Full> {
    a: SpadLanes<V>,
    b: SpadLanes<V>,
    d: SpadLanes<V>,
    control: MeshControl,
    dim: usize,
}

impl<V: Values> PresentedRow<V> {
    /// As the array takes it.
    pub fn row(&self) -> MeshRow<'_, V> {
        let Self { a, b, d, control, dim } = self;
        MeshRow { a: &a.0[..*dim], b: &b.0[..*dim], d: &d.0[..*dim], control: *control }
    }
}

/// A matrix's number and its rows.
#[derive(Clone, Copy, Debug, Canonical)]
struct RowsEntry {
    #[canon(via = Canon::matrix)]
    id: u8,
    total_rows: u8,
}

/// Registers of the wrapper, and the array.
#[derive(Clone, Debug)]
pub struct MeshWithDelays<V: Values = Full> {
    pub(crate) dim: usize,
    /// Matrix products in flight are counted modulo this.
    max_matmuls: u8,
    pub(crate) request: MeshRequest,
    /// Which operands of the request go through the transposer.
    transposed: OperandSet,
    pub(crate) request_valid: bool,
    matmul_id: u8,
    /// The propagate bit that the rows carry: toggled by requests.
    in_prop: bool,
    /// Rows of the current matrix that were presented.
    pub(crate) fire_counter: u8,
    pub(crate) buffers: [SpadLanes<V>; 3],
    pub(crate) written: OperandSet,
    /// Buffers that are known to hold zeros.
    pub(crate) zeros: OperandSet,
    /// `request.shift`, one cycle late.
    pub(crate) result_shift: u8,
    transposer: Transposer<V>,
    pub(crate) mesh: Mesh<V>,
    tags: TagQueue,
    total_rows: Queue<RowsEntry>,
}

/// Matrix products are named by their distance from the newest. The propagate bit, shifts and the transposer only matter to values.
impl<V: Values> Canonical for MeshWithDelays<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self {
            dim: _, max_matmuls, request, transposed, request_valid, matmul_id, in_prop: _, fire_counter, ..
        } = self;
        let Self { buffers: _, written, zeros: _, result_shift: _, transposer: _, mesh, tags, total_rows, .. } = self;
        canon.set_matrix(*matmul_id, *max_matmuls);
        request.canonical(canon);
        transposed.canonical(canon);
        request_valid.canonical(canon);
        fire_counter.canonical(canon);
        written.canonical(canon);
        mesh.canonical(canon);
        tags.canonical(canon);
        total_rows.canonical(canon);
    }
}

/// Matrix products that may be in flight (`max_simultaneous_matmuls`): 5 x latency of a PE, at least 5.
fn max_simultaneous_matmuls(config: &GemminiConfig) -> u32 {
    let narrow_side = config.tile_rows.min(config.tile_columns).max(1);
    (5 * (config.tile_latency + 1)).div_ceil(narrow_side).max(5)
}

impl<V: Values> MeshWithDelays<V> {
    /// The wrapper after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let max_matmuls = max_simultaneous_matmuls(config) as u8;
        let tag_queue_length = usize::from(max_matmuls) + 1;
        let dim = config.dim() as usize;
        Self {
            dim,
            max_matmuls,
            request: MeshRequest::default(),
            transposed: MeshRequest::default().transposed(),
            request_valid: false,
            matmul_id: 0,
            in_prop: false,
            fire_counter: 0,
            buffers: Default::default(),
            written: OperandSet::EMPTY,
            zeros: OperandSet::ALL,
            result_shift: 0,
            transposer: Transposer::new(dim),
            mesh: Mesh::new(config),
            tags: TagQueue::new(tag_queue_length),
            total_rows: Queue::plain(tag_queue_length),
        }
    }

    /// Handshakes of this cycle.
    #[inline]
    pub fn wires(&self) -> MeshWires {
        let all_written = self.written == OperandSet::ALL;
        let advance = self.request_valid && (all_written || self.request.flush > 0);
        let last = advance && self.fire_counter == self.request.total_rows.wrapping_sub(1);
        let room = self.tags.enq_ready() && self.total_rows.enq_ready(false);
        let req_ready = (!self.request_valid || last) && room;
        let ready = !self.written | OperandSet::ALL.only_if(advance || req_ready);
        MeshWires { advance, last, req_ready, ready }
    }

    /// `resp`.
    #[inline(always)] // most callers need one of its parts
    pub fn response(&self) -> Option<MeshResponse<'_, V>> {
        let out = self.mesh.output()?;
        let tag = self.tags.front().filter(|entry| entry.id == out.id).map(|entry| &entry.tag);
        let rows = self.total_rows.front().filter(|entry| entry.id == out.id);
        let total_rows = rows.map_or(self.dim as u8, |entry| entry.total_rows);
        Some(MeshResponse { data: out.data, last: out.last, tag, total_rows, rows_match: rows.is_some() })
    }

    /// The row at the output is the last of its matrix.
    #[inline]
    pub fn ends_matrix(&self) -> bool {
        self.mesh.ends_matrix()
    }

    pub(crate) fn clear_buffer(&mut self, x: usize) {
        self.buffers[x] = SpadLanes::default();
        self.zeros.insert(x);
    }

    /// `tags_in_progress`.
    #[inline]
    pub fn tags(&self) -> &TagQueue {
        &self.tags
    }

    /// The array.
    pub fn mesh(&self) -> &Mesh<V> {
        &self.mesh
    }

    /// Number of the matrix product that was requested last, and modulo what products are counted.
    pub fn newest(&self) -> (u8, u8) {
        (self.matmul_id, self.max_matmuls)
    }

    /// Rows that were presented and are not yet at the output.
    #[inline]
    pub fn rows_in_flight(&self) -> usize {
        self.mesh.in_flight()
    }

    /// Clock edge. `request` is taken in this cycle, and of `rows` those in `fire`. True if a register changed.
    #[must_use]
    pub fn tick(
        &mut self,
        wires: &MeshWires,
        request: Option<(&MeshRequest, &Tag)>,
        fire: OperandSet,
        rows: &OperandRows<'_, V>,
    ) -> bool {
        let mut progress = self.tick_queues(request);
        progress |= self.tick_array(wires);
        progress |= self.result_shift != self.request.shift;
        self.result_shift = self.request.shift;
        if let Some((request, _)) = request {
            self.in_prop ^= request.propagate;
            self.matmul_id = self.matmul_number(1);
            self.request = *request;
            self.transposed = request.transposed();
            self.request_valid = true;
            progress = true;
        } else if wires.last {
            self.request_valid = self.request.flush > 1;
            self.request.flush = self.request.flush.wrapping_sub(1) & 3;
        }
        if wires.advance {
            self.written = OperandSet::EMPTY;
            let next = (self.fire_counter + 1) & (self.dim as u8 - 1);
            self.fire_counter = if wires.last { 0 } else { next };
        }
        fire.each(|x| {
            progress |= !self.written.has(x);
            match rows.row[x] {
                Some(row) => self.fill_buffer(x, row, rows.cols[x].into()),
                None if self.zeros.has(x) => {}
                None => {
                    self.clear_buffer(x);
                    progress = true;
                }
            }
        });
        self.written = self.written | fire;
        progress
    }

    /// Puts a row with its padding into a buffer. A row that is put there again, as another operand has not come, is the same row
    /// unless its bank's queue moves.
    #[inline]
    fn fill_buffer(&mut self, x: usize, row: &SpadLanes<V>, cols: usize) {
        let buffer = &mut self.buffers[x];
        *buffer = *row;
        if cols < self.dim {
            buffer.0[cols..self.dim].fill(V::Of::default());
        }
        self.zeros = self.zeros & !OperandSet::single(x);
    }

    /// Tags and row numbers: the last row of a matrix removes its own, an ordinary request adds one.
    fn tick_queues(&mut self, request: Option<(&MeshRequest, &Tag)>) -> bool {
        let response = if self.ends_matrix() { self.response() } else { None };
        if response.is_none() && request.is_none() {
            return false;
        }
        let pop_tag = response.is_some_and(|response| response.tag.is_some());
        let pop_rows = response.is_some_and(|response| response.rows_match);
        if pop_rows {
            self.total_rows.pop();
        }
        let request = request.filter(|(request, _)| request.flush == 0);
        let tag = request.map(|(request, &tag)| {
            let distance = if request.dataflow == DataflowMode::Os { 3 } else { 2 };
            TagEntry { tag, id: self.matmul_number(distance) }
        });
        if let Some((request, _)) = request {
            self.total_rows.push(RowsEntry { id: self.matmul_number(1), total_rows: request.total_rows });
        }
        self.tags.tick(pop_tag, tag);
        pop_tag || pop_rows
    }

    /// The array and the transposer: a row enters, from the buffers or through the transposer.
    pub(crate) fn tick_array(&mut self, wires: &MeshWires) -> bool {
        if !wires.advance {
            return self.mesh.tick(None);
        }
        let control = self.control(wires);
        let [a, b, d] = &self.buffers;
        let (mut a, mut b, mut d) = (&a.0[..self.dim], &b.0[..self.dim], &d.0[..self.dim]);
        let transposed = self.transposed;
        let (columns, reversed);
        if !transposed.is_empty() {
            columns = self.transposer.output();
            if transposed.has(B) {
                self.transposer.push(b.iter().copied());
            } else if transposed.has(D) {
                // D comes bottom row first, and so must its transpose.
                self.transposer.push(d.iter().rev().copied());
            } else {
                self.transposer.push(a.iter().copied());
            }
            let columns = &columns.0[..self.dim];
            if transposed.has(A) {
                a = columns;
            }
            if transposed.has(B) {
                b = columns;
            }
            if transposed.has(D) {
                reversed = reverse::<V>(columns);
                d = &reversed.0[..self.dim];
            }
        }
        self.mesh.tick(Some(&MeshRow { a, b, d, control }))
    }

    /// Adds what the wrapper holds to a view.
    pub(crate) fn view(&self, view: ExecuteView, seq: Seq<'_>) -> ExecuteView {
        ExecuteView {
            buffers: [A, B, D].map(|x| self.written.has(x)),
            entered: self.fire_counter,
            total_rows: self.request_valid.then_some(self.request.total_rows),
            in_array: self.mesh.in_flight(),
            tags: self.tags.outstanding_tags().map(|tag| tag.view(seq)).collect(),
            ..view
        }
    }

    /// The row that enters the array in this cycle, if one does: what [`Self::tick`] will present.
    pub fn presented(&self) -> Option<PresentedRow<V>> {
        let wires = self.wires();
        if !wires.advance {
            return None;
        }
        let [mut a, mut b, mut d] = self.buffers;
        if !self.transposed.is_empty() {
            let columns = self.transposer.output();
            if self.transposed.has(A) {
                a = columns;
            }
            if self.transposed.has(B) {
                b = columns;
            }
            if self.transposed.has(D) {
                d = reverse::<V>(&columns.0[..self.dim]);
            }
        }
        Some(PresentedRow { a, b, d, control: self.control(&wires), dim: self.dim })
    }

    /// The control signals of the row that enters.
    fn control(&self, wires: &MeshWires) -> MeshControl {
        MeshControl {
            dataflow: self.request.dataflow,
            propagate: self.in_prop,
            shift: self.result_shift,
            id: self.matmul_id,
            last: wires.last,
        }
    }

    /// The number of the n-th next request.
    fn matmul_number(&self, n: u8) -> u8 {
        wrapping_add(self.matmul_id.into(), n.into(), self.max_matmuls.into()) as u8
    }
}

/// The lanes of `row` in reverse order.
fn reverse<V: Values>(row: &[V::Of<i8>]) -> SpadLanes<V> {
    let mut reversed = SpadLanes::default();
    for (lane, &x) in reversed.0.iter_mut().zip(row.iter().rev()) {
        *lane = x;
    }
    reversed
}
