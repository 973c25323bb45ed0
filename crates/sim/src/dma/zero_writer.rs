//! Turns a load from address 0 into rows of zeros (`ZeroWriter.scala`): one row of a block of DIM columns a cycle.
//!
//! One request register; it accepts the next request in the cycle in which its last block is taken.
//!
//! | port | dir | valid when | latency | back pressure |
//! |---|---|---|---|---|
//! | `req` | in | a load from address 0 | - | [`ZeroWriter::req_ready`] |
//! | `resp` | out | a request is held | 1 | the pixel repeater behind it |

use pollux_isa::config::log2_ceil;
use pollux_isa::{AddressLayout, LocalAddr};

use crate::parts::canonical::Canonical;

/// A row of a load of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct ZeroWriterReq {
    /// First block's row.
    pub laddr: LocalAddr,
    /// Columns.
    pub cols: u16,
    /// Rows from one block to the next.
    pub block_stride: u16,
    /// For the pixel repeater behind.
    pub pixel_repeats: u8,
    /// Command tracker entry.
    pub cmd_id: u8,
}

/// A block at the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroWriterResp {
    /// Its row.
    pub laddr: LocalAddr,
    /// Columns to clear.
    pub mask: u64,
    /// Last block of the row.
    pub last: bool,
    /// The request.
    pub tag: ZeroWriterReq,
}

/// Request register and column counter.
#[derive(Clone, Debug, Canonical)]
pub struct ZeroWriter {
    req: Option<ZeroWriterReq>,
    col_counter: u32,
    #[canon(skip = "constant")]
    dim: u32,
    /// Bits of the column counter: `log2Up` of the most columns a load can have.
    #[canon(skip = "constant")]
    counter_bits: u32,
    #[canon(skip = "constant")]
    layout: AddressLayout,
}

impl ZeroWriter {
    /// An idle writer for rows of `dim` columns and loads of at most `max_cols` columns.
    pub fn new(dim: u32, max_cols: u32, layout: AddressLayout) -> Self {
        Self { req: None, col_counter: 0, dim, counter_bits: log2_ceil(max_cols.into()).max(1), layout }
    }

    /// `req.ready`, given whether the output is taken.
    #[inline]
    pub fn req_ready(&self, resp_taken: bool) -> bool {
        self.req.as_ref().is_none_or(|req| resp_taken && self.next_column(req) == 0)
    }

    /// True if there is no request.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.req.is_none()
    }

    /// The block at the output.
    #[inline]
    pub fn resp(&self) -> Option<ZeroWriterResp> {
        let req = self.req.as_ref()?;
        let left = u32::from(req.cols).saturating_sub(self.col_counter);
        let mask = if left >= self.dim { u64::MAX >> (64 - self.dim) } else { (1 << left) - 1 };
        Some(ZeroWriterResp {
            laddr: req.laddr.add(self.layout, u32::from(req.block_stride) * self.block()),
            mask,
            last: self.col_counter + self.dim >= req.cols.into(),
            tag: *req,
        })
    }

    /// Number of the present block; 0 if the counter cannot hold DIM.
    fn block(&self) -> u32 {
        if self.counter_bits >= log2_ceil(u64::from(self.dim) + 1) { self.col_counter / self.dim } else { 0 }
    }

    fn next_column(&self, req: &ZeroWriterReq) -> u32 {
        let next = self.col_counter + self.dim;
        if next >= req.cols.into() { 0 } else { next }
    }

    /// Clock edge: `req` was accepted, the output leaves iff `resp_taken`. Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, req: Option<ZeroWriterReq>, resp_taken: bool) -> bool {
        if let (true, Some(current)) = (resp_taken, &self.req) {
            self.col_counter = self.next_column(current);
            if self.col_counter == 0 {
                self.req = None;
            }
        }
        let accepted = req.is_some();
        if accepted {
            self.req = req;
            self.col_counter = 0;
        }
        accepted || resp_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_load_clears_one_block_a_cycle_and_overlaps_with_the_next() {
        let layout = AddressLayout::new(4, 64, 2, 64);
        let mut writer = ZeroWriter::new(16, 64, layout);
        let request =
            ZeroWriterReq { laddr: LocalAddr::scratchpad(3), cols: 35, block_stride: 16, pixel_repeats: 1, cmd_id: 0 };
        let _ = writer.tick(Some(request), false);
        let mut blocks = Vec::new();
        while let Some(block) = writer.resp() {
            blocks.push((block.laddr.0, block.mask.count_ones(), block.last, writer.req_ready(true)));
            let _ = writer.tick(None, true);
        }
        assert_eq!(blocks, [(3, 16, false, false), (19, 16, false, false), (35, 3, true, true)]);
        assert!(writer.is_empty());
    }
}
