//! The way of a loaded row from the load controller to the banks: the part of `Scratchpad.scala` between the
//! `dma.read` port and the banks' write ports.
//!
//! ```text
//! load controller --> read_issue Q(5, pipe) --> reader ==> narrow: VSM --> pixel repeater --\
//!                 |                                   \==> wide:   VSM ----------------------> banks
//!                 \--> zero writer --> pixel repeater --------------------------------------/
//! ```
//!
//! Narrow rows have elements of the scratchpad's width, wide ones of the accumulator's. Each of the three ends shows at most one
//! row a cycle; the banks' priorities decide which are written ([`crate::memories::scratchpad`]).
//!
//! | port | dir | valid when | back pressure |
//! |---|---|---|---|
//! | `dma.read.req` | in | a row request of the load controller | [`MvinPath::load_ready`]: room in `read_issue`, or in the zero writer |
//! | reader `resp` | in | a row has arrived | [`MvinPath::resp_ready`]: room in front of its scaler |
//! | bank writes | out | [`MvinPath::heads`] | [`MvinTaken`]: the banks' priorities |
//! | `dma.read.resp` | out | [`MvinPath::response`]: the last row of a packet is written | none: one a cycle |

use pollux_isa::config::{Revision, ScaleArgs};
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};
use pollux_numerics::{acc_scale, mvin_scale_row};

use crate::dma::load_controller::{ScratchpadReadRequest, ScratchpadReadResponse};
use crate::dma::pixel_repeater::{PixelRepeater, PixelRepeaterHead, PixelRepeaterReq};
use crate::dma::stream_reader::{StreamReadRequest, StreamReadResponse, StreamReader};
use crate::dma::zero_writer::{ZeroWriter, ZeroWriterReq};
use crate::memories::scale_units::ScaleUnits;
use crate::memories::vector_scalar_multiplier::{
    MvinTag, ScaleRow, VectorScalarMultiplier, VectorScalarMultiplierReq, VectorScalarMultiplierResp,
};
use crate::observation::counts::MvinCounts;
use crate::observation::view::{MvinView, RowView};
use crate::parts::canonical::{Canon, Canonical, NARROW, WIDE};
use crate::parts::queue::Queue;
use crate::parts::row::{AccLanes, SpadLanes};
use crate::parts::values::{Full, Values};

/// A wide row at the output of its scaler; its data is [`MvinPath::wide_row`].
#[derive(Clone, Copy, Debug)]
pub struct WideHead {
    /// Row of the accumulator.
    pub laddr: LocalAddr,
    /// Last row of its packet.
    pub last: bool,
    /// Destination.
    pub tag: MvinTag,
}

/// The rows offered to the banks in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct MvinHeads {
    /// Behind the narrow path's pixel repeater (`mvin_scale_pixel_repeater.io.resp`).
    pub narrow: Option<PixelRepeaterHead<MvinTag>>,
    /// Behind the wide path's scaler (`mvin_scale_acc_out`).
    pub wide: Option<WideHead>,
    /// Behind the zero writer's pixel repeater (`zero_writer_pixel_repeater.io.resp`).
    pub zero: Option<PixelRepeaterHead<ZeroWriterReq>>,
}

impl MvinHeads {
    /// One of the rows is for the accumulator, or may be.
    #[inline]
    pub fn has_acc_row(&self) -> bool {
        self.wide.is_some()
            || self.narrow.as_ref().is_some_and(|row| row.tag.is_acc)
            || self.zero.as_ref().is_some_and(|row| row.laddr.is_acc())
    }
}

/// Which of them are written in this cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MvinTaken {
    /// The narrow one.
    pub narrow: bool,
    /// The wide one.
    pub wide: bool,
    /// The zeros.
    pub zero: bool,
}

/// What the path did in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MvinActivity {
    /// No row.
    Idle,
    /// A row was written into a bank or entered a scaler.
    Busy,
    /// A row waits.
    Stalled(MvinStall),
}

/// Why a row on its way in waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MvinStall {
    /// Its bank is written by the execute controller, or refuses it, or the response to the load controller is taken.
    Bank,
    /// It is in the scale units or the registers around them.
    Scaler,
    /// The reader has not accepted its request.
    Reader,
}

/// Queue, scalers, repeaters and zero writer.
#[derive(Clone, Debug, Canonical)]
pub struct MvinPath<V: Values = Full> {
    #[canon(skip = "constant")]
    layout: AddressLayout,
    #[canon(skip = "constant")]
    input_bytes: u32,
    #[canon(skip = "constant")]
    acc_bytes: u32,
    read_issue: Queue<ScratchpadReadRequest>,
    narrow: VectorScalarMultiplier<SpadLanes<V>>,
    wide: VectorScalarMultiplier<AccLanes<V>>,
    repeater: PixelRepeater<MvinTag, V>,
    zero_writer: ZeroWriter,
    zero_repeater: PixelRepeater<ZeroWriterReq, V>,
    /// No request and no row is inside.
    #[canon(skip = "told by the other registers")]
    empty: bool,
}

/// Shared units that scale rows.
impl<V: Values> MvinPath<V> {
    /// Whose turn it is at the units; to be written when all that holds loads has been.
    pub(crate) fn canonical_service(&self, canon: &mut Canon) {
        self.narrow.canonical_service(NARROW, canon);
        self.wide.canonical_service(WIDE, canon);
    }

    /// The units of a part that can be set aside, if there are any.
    pub(crate) fn units(&self, part: usize) -> Option<&ScaleUnits> {
        match part {
            NARROW => self.narrow.units(),
            WIDE => self.wide.units(),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn units_mut(&mut self, part: usize) -> Option<&mut ScaleUnits> {
        match part {
            NARROW => self.narrow.units_mut(),
            WIDE => self.wide.units_mut(),
            _ => None,
        }
    }
}

fn scale_spad_row<V: Values>(row: &mut SpadLanes<V>, dim: usize, scale: u32) {
    V::update(&mut row.0[..dim], |row, _| mvin_scale_row(row, scale));
}

fn scale_acc_row<V: Values>(row: &mut AccLanes<V>, dim: usize, scale: u32) {
    V::update(&mut row.0[..dim], |row, _| row.iter_mut().for_each(|element| *element = acc_scale(*element, scale)));
}

fn scaler<R: Copy>(
    config: &GemminiConfig,
    args: Option<ScaleArgs>,
    scale_row: ScaleRow<R>,
) -> VectorScalarMultiplier<R> {
    let scaler = VectorScalarMultiplier::new(args, config.dim() as usize, scale_row);
    if config.revision == Revision::March2023 { scaler.without_queue() } else { scaler }
}

impl<V: Values> MvinPath<V> {
    /// The path of a configuration, empty.
    pub fn new(config: &GemminiConfig) -> Self {
        let (dim, layout) = (config.dim(), config.layout());
        let passthrough = !config.has_first_layer_optimizations;
        let max_cols = (config.dma_maxbytes / config.input_type.bytes()).max(dim);
        Self {
            layout,
            input_bytes: config.input_type.bytes(),
            acc_bytes: config.acc_type.bytes(),
            read_issue: Queue::pipe(config.spad_read_delay as usize + 1),
            narrow: scaler(config, config.mvin_scale_args, scale_spad_row),
            wide: scaler(config, config.mvin_scale_acc_args, scale_acc_row),
            repeater: PixelRepeater::new(dim, layout, passthrough),
            zero_writer: ZeroWriter::new(dim, max_cols, layout),
            zero_repeater: PixelRepeater::new(dim, layout, passthrough),
            empty: true,
        }
    }

    /// Rows multiplied so far.
    pub fn counts(&self) -> MvinCounts {
        MvinCounts { narrow: self.narrow.multiplied(), wide: self.wide.multiplied() }
    }

    /// True if no request and no row is inside.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    fn parts_are_empty(&self) -> bool {
        self.read_issue.is_empty()
            && self.repeater.is_empty()
            && self.zero_repeater.is_empty()
            && self.zero_writer.is_empty()
            && self.narrow.is_empty()
            && self.wide.is_empty()
    }

    /// The rows offered to the banks.
    pub fn heads(&self) -> MvinHeads {
        let request = if self.repeater.is_passthrough() { self.narrow_request() } else { None };
        let zeros = if self.zero_repeater.is_passthrough() { self.zero_request() } else { None };
        MvinHeads {
            narrow: self.repeater.head(request.as_ref()),
            wide: self.wide.resp().map(|resp| WideHead {
                laddr: LocalAddr::scratchpad(resp.tag.addr).add(self.layout, resp.copy.into()),
                last: resp.last,
                tag: resp.tag,
            }),
            zero: self.zero_repeater.head(zeros.as_ref()),
        }
    }

    /// Data of the wide row offered to the banks.
    pub fn wide_row(&self) -> Option<&AccLanes<V>> {
        self.wide.resp().map(|resp| resp.row)
    }

    /// Data and enabled elements of the narrow row offered to the banks.
    pub fn narrow_row(&self) -> Option<(SpadLanes<V>, u64)> {
        let request = if self.repeater.is_passthrough() { self.narrow_request() } else { None };
        self.repeater.row(request.as_ref())
    }

    /// Enabled elements of the row of zeros offered to the banks.
    pub fn zero_mask(&self) -> Option<u64> {
        let zeros = if self.zero_repeater.is_passthrough() { self.zero_request() } else { None };
        self.zero_repeater.row(zeros.as_ref()).map(|(_, mask)| mask)
    }

    /// Row at the output of the narrow scaler, as the repeater's request.
    fn narrow_request(&self) -> Option<PixelRepeaterReq<MvinTag, V>> {
        self.narrow.resp().map(|VectorScalarMultiplierResp { row, copy, last, tag }| PixelRepeaterReq {
            row: *row,
            mask: tag.element_mask(),
            // The tag has the row number only, so that a row for the accumulator is taken for one of the scratchpad here.
            laddr: LocalAddr::scratchpad(tag.addr).add(self.layout, copy.into()),
            len: tag.len.into(),
            pixel_repeats: tag.pixel_repeats,
            last,
            tag,
        })
    }

    /// Block at the output of the zero writer, as the repeater's request.
    fn zero_request(&self) -> Option<PixelRepeaterReq<ZeroWriterReq, V>> {
        self.zero_writer.resp().map(|block| PixelRepeaterReq {
            row: SpadLanes::default(),
            mask: block.mask,
            laddr: block.laddr,
            len: block.tag.cols.into(),
            pixel_repeats: block.tag.pixel_repeats,
            last: block.last,
            tag: block.tag,
        })
    }

    /// Whether the reader's row is taken (`reader.io.resp.ready`); `wide` says which way it goes, `taken` which rows leave.
    #[inline]
    pub fn resp_ready(&self, wide: bool, taken: MvinTaken) -> bool {
        if wide {
            self.wide.req_ready(taken.wide)
        } else {
            self.narrow.req_ready(self.repeater.req_ready(taken.narrow) && self.narrow.resp().is_some())
        }
    }

    /// The row request at the reader.
    pub fn reader_request(&self) -> Option<StreamReadRequest> {
        self.read_issue.front().map(|req| StreamReadRequest {
            vaddr: req.vaddr,
            row: if req.laddr.is_acc() {
                req.laddr.full_acc_addr(self.layout)
            } else {
                req.laddr.full_sp_addr(self.layout)
            },
            is_acc: req.laddr.is_acc(),
            accumulate: req.laddr.accumulate(),
            has_acc_bitwidth: req.has_acc_bitwidth,
            scale: req.scale,
            len: req.cols,
            repeats: req.repeats,
            pixel_repeats: req.pixel_repeats,
            block_stride: req.block_stride,
            cmd_id: req.cmd_id,
        })
    }

    /// Whether the load controller's request is accepted, given the reader's `req.ready` and whether the zeros are written.
    pub fn load_ready(&self, request: &ScratchpadReadRequest, reader_ready: bool, zero_taken: bool) -> bool {
        if request.all_zeros {
            self.zero_writer.req_ready(self.zero_block_leaves(zero_taken))
        } else {
            self.read_issue.enq_ready(reader_ready)
        }
    }

    fn zero_block_leaves(&self, zero_taken: bool) -> bool {
        !self.zero_writer.is_empty() && self.zero_repeater.req_ready(zero_taken)
    }

    /// The response to the load controller: bytes of the packet, or of the row of zeros, whose last row is written.
    pub fn response(&self, heads: &MvinHeads, taken: MvinTaken) -> Option<ScratchpadReadResponse> {
        let of_packet =
            |tag: &MvinTag| ScratchpadReadResponse { bytes_read: tag.bytes_read.into(), cmd_id: tag.cmd_id };
        if let Some(row) = heads.narrow.as_ref().filter(|row| taken.narrow && row.last) {
            return Some(of_packet(&row.tag));
        }
        if let Some(row) = heads.wide.as_ref().filter(|row| taken.wide && row.last) {
            return Some(of_packet(&row.tag));
        }
        let row = heads.zero.as_ref().filter(|row| taken.zero && row.last)?;
        let element = if row.laddr.is_acc() { self.acc_bytes } else { self.input_bytes };
        Some(ScratchpadReadResponse { bytes_read: u32::from(row.tag.cols) * element, cmd_id: row.tag.cmd_id })
    }

    /// Clock edge, before that of the reader. `load` is the accepted request of the load controller; `reader_takes` says that
    /// the request at the reader is accepted, `resp` is the reader's row if it is taken. Returns true if anything changed.
    #[must_use]
    pub fn tick(
        &mut self,
        taken: MvinTaken,
        load: Option<&ScratchpadReadRequest>,
        reader_takes: bool,
        resp: Option<&StreamReadResponse>,
        reader: &StreamReader<V>,
    ) -> bool {
        if self.empty && load.is_none() && resp.is_none() {
            return false;
        }
        let changed = self.tick_parts(taken, load, reader_takes, resp, reader);
        self.empty = self.parts_are_empty();
        changed
    }

    fn tick_parts(
        &mut self,
        taken: MvinTaken,
        load: Option<&ScratchpadReadRequest>,
        reader_takes: bool,
        resp: Option<&StreamReadResponse>,
        reader: &StreamReader<V>,
    ) -> bool {
        let mut changed = self.tick_zeros(taken.zero, load.filter(|load| load.all_zeros));
        if reader_takes && !self.read_issue.is_empty() {
            self.read_issue.pop();
            changed = true;
        }
        if let Some(load) = load.filter(|load| !load.all_zeros) {
            self.read_issue.push(*load);
            changed = true;
        }
        let (narrow, wide) = (resp.filter(|resp| !is_wide(resp)), resp.filter(|resp| is_wide(resp)));
        let wide = wide.map(|resp| self.scale_request(resp, reader.resp_acc_row()));
        changed |= self.wide.tick(wide, taken.wide);
        let row = if self.repeater.req_ready(taken.narrow) { self.narrow_request() } else { None };
        let moves = row.is_some();
        changed |= self.repeater.tick(row, taken.narrow);
        let narrow = narrow.map(|resp| self.scale_request(resp, reader.resp_spad_row()));
        changed | self.narrow.tick(narrow, moves)
    }

    fn tick_zeros(&mut self, zero_taken: bool, load: Option<&ScratchpadReadRequest>) -> bool {
        if load.is_none() && self.zero_writer.is_empty() && self.zero_repeater.is_empty() {
            return false;
        }
        let leaves = self.zero_block_leaves(zero_taken);
        let block = if leaves { self.zero_request() } else { None };
        let repeated = self.zero_repeater.tick(block, zero_taken);
        let request = load.map(|load| ZeroWriterReq {
            laddr: load.laddr,
            cols: load.cols,
            block_stride: load.block_stride,
            pixel_repeats: load.pixel_repeats,
            cmd_id: load.cmd_id,
        });
        self.zero_writer.tick(request, leaves) || repeated
    }

    fn scale_request<R>(&self, resp: &StreamReadResponse, row: R) -> VectorScalarMultiplierReq<R> {
        VectorScalarMultiplierReq {
            row,
            scale: resp.scale,
            repeats: resp.repeats,
            last: resp.last,
            tag: MvinTag {
                addr: resp.row,
                mask_start: resp.mask_start as u16,
                mask_end: resp.mask_end as u16,
                is_acc: resp.is_acc,
                accumulate: resp.accumulate,
                len: resp.len,
                pixel_repeats: resp.pixel_repeats,
                bytes_read: resp.bytes_read as u16,
                cmd_id: resp.cmd_id,
            },
        }
    }

    /// What this cycle is spent on; `resp_taken` says that a row of the reader enters a scaler.
    pub fn activity(&self, heads: &MvinHeads, taken: MvinTaken, resp_taken: bool) -> MvinActivity {
        use MvinActivity::{Busy, Idle, Stalled};
        if taken != MvinTaken::default() || resp_taken {
            Busy
        } else if heads.narrow.is_some() || heads.wide.is_some() || heads.zero.is_some() {
            Stalled(MvinStall::Bank)
        } else if !self.narrow.is_empty() || !self.wide.is_empty() || !self.zero_writer.is_empty() {
            Stalled(MvinStall::Scaler)
        } else if !self.read_issue.is_empty() {
            Stalled(MvinStall::Reader)
        } else {
            Idle
        }
    }

    /// Requests, and rows at the banks.
    pub(crate) fn view(&self) -> MvinView {
        let request = |request: &ScratchpadReadRequest| RowView {
            address: request.vaddr,
            local: request.laddr.0,
            elements: request.cols,
        };
        let MvinHeads { narrow, wide, zero } = self.heads();
        MvinView {
            requests: self.read_issue.iter().map(request).collect(),
            offered: [narrow.map(|head| head.laddr.0), wide.map(|head| head.laddr.0), zero.map(|head| head.laddr.0)],
        }
    }

    /// What the path waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        let heads = self.heads();
        if heads.narrow.is_some() || heads.wide.is_some() {
            return Some("Scratchpad: a loaded row waits for its bank".to_owned());
        }
        if heads.zero.is_some() {
            return Some("Scratchpad: a row of zeros waits for its bank".to_owned());
        }
        (!self.read_issue.is_empty()).then(|| "Scratchpad: a row request waits for the StreamReader".to_owned())
    }
}

/// The row goes the wide way.
#[inline]
fn is_wide(resp: &StreamReadResponse) -> bool {
    resp.is_acc && resp.has_acc_bitwidth
}
