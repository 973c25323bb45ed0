//! The three load parts (`LoopMatmulLdA`, `LoopMatmulLdB`, `LoopMatmulLdD` in `LoopMatmul.scala`): the loads of A, B and D
//! of a loop, block by block.

use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, dram_at, floor_add};
use crate::front_end::loop_matmul::block::{Block, b_start};
use crate::front_end::loop_matmul::loop_state::LoopState;
use crate::front_end::unroller::LoopId;
use crate::parts::canonical::Canonical;

/// Where a loaded block goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum Destination {
    #[default]
    Scratchpad,
    Accumulator {
        accumulate: bool,
    },
}

impl Destination {
    /// A and B are operands in the scratchpad; in a residual addition both go to the accumulator, B on top of A.
    fn of_operand(is_resadd: bool, accumulate: bool) -> Self {
        if is_resadd { Self::Accumulator { accumulate } } else { Self::Scratchpad }
    }
}

/// A matrix to load, block by block.
///
/// The matrix is walked by two iterators, one fast and one slow; one of them counts block rows of the matrix as it lies in
/// memory, the other block columns. Several columns go into one command.
#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct LoadReq {
    pub fast_max: u16,
    pub slow_max: u16,
    /// The fast iterator counts columns.
    pub fast_is_column: bool,
    pub row_pad: u16,
    pub col_pad: u16,
    #[canon(address)]
    pub dram_addr: u64,
    pub dram_stride: u64,
    pub element_bytes: u32,
    pub max_block_len: u16,
    pub local_start: u32,
    pub destination: Destination,
    pub loop_id: LoopId,
}

impl LoadReq {
    /// What the part for A is asked to do.
    pub(super) fn a(slot: &LoopState, geometry: &Geometry, is_resadd: bool, loop_id: LoopId) -> Self {
        let pads = slot.pads(geometry);
        let (max_k, pad_k) = if is_resadd { (slot.bounds.j, pads.j) } else { (slot.bounds.k, pads.k) };
        let (row_pad, col_pad) = if slot.run.a_transpose { (pad_k, pads.i) } else { (pads.i, pad_k) };
        Self {
            fast_max: slot.bounds.i,
            slow_max: max_k,
            fast_is_column: slot.run.a_transpose,
            row_pad,
            col_pad,
            dram_addr: slot.addrs_ab.a,
            dram_stride: slot.strides_ab.a_stride,
            element_bytes: geometry.input_bytes,
            max_block_len: geometry.max_block_len,
            local_start: if is_resadd {
                slot.resadd_addr_start
            } else {
                slot.a_start(geometry, geometry.layout.max_addr_bits)
            },
            destination: Destination::of_operand(is_resadd, false),
            loop_id,
        }
    }

    /// What the part for B is asked to do.
    pub(super) fn b(slot: &LoopState, geometry: &Geometry, is_resadd: bool, loop_id: LoopId) -> Self {
        let pads = slot.pads(geometry);
        let (max_k, pad_k) = if is_resadd { (slot.bounds.i, pads.i) } else { (slot.bounds.k, pads.k) };
        Self {
            fast_max: slot.bounds.j,
            slow_max: max_k,
            fast_is_column: !slot.run.b_transpose,
            // The hardware tests the number of block rows, not the block row, for being the last: never true.
            row_pad: 0,
            col_pad: if slot.run.b_transpose { pad_k } else { pads.j },
            dram_addr: slot.addrs_ab.b,
            dram_stride: slot.strides_ab.b_stride,
            element_bytes: geometry.input_bytes,
            max_block_len: geometry.max_block_len,
            local_start: if is_resadd {
                slot.resadd_addr_start
            } else {
                let end = slot.b_end(geometry, geometry.layout.max_addr_bits + 1);
                b_start(geometry, end, max_k, slot.bounds.j)
            },
            destination: Destination::of_operand(is_resadd, true),
            loop_id,
        }
    }

    /// What the part for D is asked to do; `local_start` is the first row of its accumulator half.
    pub(super) fn d(slot: &LoopState, geometry: &Geometry, local_start: u32, loop_id: LoopId) -> Self {
        let pads = slot.pads(geometry);
        let (element_bytes, max_block_len) = if slot.run.low_d {
            (geometry.input_bytes, geometry.max_block_len)
        } else {
            (geometry.acc_bytes, geometry.max_block_len_acc)
        };
        Self {
            fast_max: slot.bounds.i,
            slow_max: slot.bounds.j,
            fast_is_column: false,
            row_pad: pads.i,
            col_pad: pads.j,
            dram_addr: slot.addrs_dc.d,
            dram_stride: slot.strides_dc.d_stride,
            element_bytes,
            max_block_len,
            local_start,
            destination: Destination::Accumulator { accumulate: false },
            loop_id,
        }
    }
}

/// Which matrix a part loads, with which of the three load instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum Channel {
    /// A, by MVIN.
    #[default]
    A,
    /// B, by MVIN2.
    B,
    /// D, by MVIN3.
    D,
}

/// A load part (`LoopMatmulLdA`, `LoopMatmulLdB`, `LoopMatmulLdD`): i is the fast iterator of A and D, j of B; k is the slow
/// one of A and B, j of D.
#[derive(Clone, Debug, Default, Canonical)]
pub(super) struct LoadUnit {
    pub channel: Channel,
    pub loading: bool,
    #[canon(valid_if = works)]
    pub req: LoadReq,
    pub fast: u16,
    pub slow: u16,
}

impl LoadUnit {
    fn works(&self) -> bool {
        !self.idle()
    }

    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, ..Self::default() }
    }

    pub(super) fn idle(&self) -> bool {
        !self.loading
    }

    pub(super) fn valid(&self) -> bool {
        self.loading && self.req.dram_addr != 0
    }

    /// Row, column, number of rows, number of columns.
    fn position(&self) -> (u16, u16, u16, u16) {
        let req = &self.req;
        if req.fast_is_column {
            (self.slow, self.fast, req.slow_max, req.fast_max)
        } else {
            (self.fast, self.slow, req.fast_max, req.slow_max)
        }
    }

    fn max_blocks(&self) -> u16 {
        self.position().3.min(self.req.max_block_len)
    }

    pub(super) fn command(&self, geometry: &Geometry) -> RoccCommand {
        let req = &self.req;
        let (row, col, max_row, max_col) = self.position();
        let block = Block { row, col, max_row, max_col, max_blocks: self.max_blocks() };
        let offset = block.dram_offset(geometry, req.dram_stride, req.element_bytes);
        let address = req.local_start.wrapping_add(block.local_offset(geometry));
        let local = match req.destination {
            Destination::Scratchpad => geometry.spad_addr(address),
            Destination::Accumulator { accumulate } => geometry.acc_addr(address, accumulate, false),
        };
        let (rows, cols) = (block.rows(geometry, req.row_pad), block.cols(geometry, req.col_pad));
        let operands = geometry.moved(dram_at(req.dram_addr, offset), rows, cols, local);
        let command = match self.channel {
            Channel::A => Command::Mvin(operands),
            Channel::B => Command::Mvin2(operands),
            Channel::D => Command::Mvin3(operands),
        };
        command.to_rocc()
    }

    #[inline]
    pub(super) fn edge(&mut self, fire: bool) {
        if self.req.dram_addr == 0 {
            self.loading = false;
        } else if fire {
            let (fast_step, slow_step) =
                if self.req.fast_is_column { (self.max_blocks(), 1) } else { (1, self.max_blocks()) };
            self.fast = floor_add(self.fast, fast_step, self.req.fast_max, true);
            self.slow = floor_add(self.slow, slow_step, self.req.slow_max, self.fast == 0);
            self.loading = self.fast != 0 || self.slow != 0;
        }
    }

    pub(super) fn accept(&mut self, req: LoadReq) {
        *self = Self { channel: self.channel, loading: true, req, fast: 0, slow: 0 };
    }
}
