//! Writes a row several times, each copy one pixel further up and one row lower (`PixelRepeater.scala`), for the first
//! layer of a convolution.
//!
//! One register holds a row and the number k of copies after the present one; the copy is shifted up by k pixels of `len`
//! elements and goes to the row k below the given one. Copies below the floor of their half of the scratchpad are dropped, one
//! a cycle. A build without `has_first_layer_optimizations` has wires instead: no register, one copy.
//!
//! | port | dir | valid when | latency | back pressure |
//! |---|---|---|---|---|
//! | `req` | in | a row comes from the scaler, or from the zero writer | - | [`PixelRepeater::req_ready`]: register free, or its last copy leaves |
//! | `resp` | out | a copy above the floor is held | 1; as a wire 0 | the banks' priorities |

use pollux_isa::config::log2_up;
use pollux_isa::{AddressLayout, LocalAddr};

use crate::parts::canonical::Canonical;
use crate::parts::row::SpadLanes;
use crate::parts::values::{Full, Values};

/// A row to write.
#[derive(Clone, Copy, Debug, Canonical)]
pub struct PixelRepeaterReq<T, V: Values = Full> {
    /// Elements.
    #[canon(skip = "values")]
    pub row: SpadLanes<V>,
    /// Enabled elements.
    pub mask: u64,
    /// Where the last copy goes.
    pub laddr: LocalAddr,
    /// Elements of a pixel; `log2Up(DIM + 1)` bits of it are used.
    pub len: u32,
    /// Copies to write (0 means 256).
    pub pixel_repeats: u8,
    /// Last row of its packet.
    pub last: bool,
    /// Passed through.
    pub tag: T,
}

/// A copy to write in this cycle, without its elements ([`PixelRepeater::row`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRepeaterHead<T> {
    /// Where it goes.
    pub laddr: LocalAddr,
    /// Last copy of the last row of its packet.
    pub last: bool,
    /// Passed through.
    pub tag: T,
}

/// The register, or the wires of a build without it.
#[derive(Clone, Debug, Canonical)]
pub struct PixelRepeater<T, V: Values = Full> {
    /// The row; its `pixel_repeats` is the number of copies after the present one.
    held: Option<PixelRepeaterReq<T, V>>,
    #[canon(skip = "constant")]
    passthrough: bool,
    #[canon(skip = "constant")]
    layout: AddressLayout,
    #[canon(skip = "constant")]
    len_mask: u32,
    #[canon(skip = "constant")]
    shift_mask: u32,
}

impl<T: Copy, V: Values> PixelRepeater<T, V> {
    /// An empty repeater for rows of `dim` elements; wires if `passthrough`.
    pub fn new(dim: u32, layout: AddressLayout, passthrough: bool) -> Self {
        let mask = |bits: u32| (1u32 << bits) - 1;
        Self {
            held: None,
            passthrough,
            layout,
            len_mask: mask(log2_up(u64::from(dim) + 1)),
            shift_mask: mask(log2_up(u64::from(dim) / 2 + 1)),
        }
    }

    /// True if this build has wires instead of the register.
    #[inline]
    pub fn is_passthrough(&self) -> bool {
        self.passthrough
    }

    /// True if no row is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// `req.ready`, given whether the output is taken.
    #[inline]
    pub fn req_ready(&self, resp_ready: bool) -> bool {
        if self.passthrough {
            return resp_ready;
        }
        self.held.as_ref().is_none_or(|held| resp_ready && held.pixel_repeats == 0)
    }

    /// The copy at the output. `req` is the request in this cycle, which only a build with wires shows.
    pub fn head(&self, req: Option<&PixelRepeaterReq<T, V>>) -> Option<PixelRepeaterHead<T>> {
        if self.passthrough {
            return req.map(|&PixelRepeaterReq { laddr, last, tag, .. }| PixelRepeaterHead { laddr, last, tag });
        }
        let held = self.held.as_ref()?;
        let (laddr, underflow) = self.destination(held);
        let last = held.last && held.pixel_repeats == 0;
        (!underflow).then_some(PixelRepeaterHead { laddr, last, tag: held.tag })
    }

    /// Elements and enables of the copy at the output; `req` as for [`Self::head`].
    pub fn row(&self, req: Option<&PixelRepeaterReq<T, V>>) -> Option<(SpadLanes<V>, u64)> {
        if self.passthrough {
            return req.map(|req| (req.row, req.mask));
        }
        let held = self.held.as_ref()?;
        let shift = (u32::from(held.pixel_repeats) * (held.len & self.len_mask)) & self.shift_mask;
        if shift == 0 {
            return Some((held.row, held.mask));
        }
        let mut row = SpadLanes::default();
        row.0[shift as usize..].copy_from_slice(&held.row.0[..held.row.0.len() - shift as usize]);
        Some((row, held.mask << shift))
    }

    /// Row of the present copy, and whether it lies below the floor of its half of the scratchpad.
    fn destination(&self, held: &PixelRepeaterReq<T, V>) -> (LocalAddr, bool) {
        if held.laddr.is_acc() {
            return (held.laddr, false);
        }
        let half = self.layout.sp_rows / 2;
        let floor = if held.laddr.full_sp_addr(self.layout) < half { 0 } else { half };
        held.laddr.floor_sub(self.layout, held.pixel_repeats.into(), floor)
    }

    /// Clock edge: `req` was accepted, the output leaves iff `resp_taken`. Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, req: Option<PixelRepeaterReq<T, V>>, resp_taken: bool) -> bool {
        if self.passthrough {
            return req.is_some();
        }
        let dropped = self.held.as_ref().is_some_and(|held| self.destination(held).1);
        if resp_taken || dropped {
            match &mut self.held {
                Some(held) if held.pixel_repeats > 0 => held.pixel_repeats -= 1,
                held => *held = None,
            }
        }
        let accepted = req.is_some();
        if let Some(req) = req {
            self.held = Some(PixelRepeaterReq { pixel_repeats: req.pixel_repeats.wrapping_sub(1), ..req });
        }
        resp_taken || dropped || accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: AddressLayout = AddressLayout::new(4, 64, 2, 64);

    fn request(row: u32, len: u32, pixel_repeats: u8) -> PixelRepeaterReq<()> {
        let mut data = SpadLanes::default();
        data.0[..3].copy_from_slice(&[1, 2, 3]);
        PixelRepeaterReq {
            row: data,
            mask: 0b111,
            laddr: LocalAddr::scratchpad(row),
            len,
            pixel_repeats,
            last: true,
            tag: (),
        }
    }

    #[test]
    fn copies_are_shifted_by_a_pixel_each_and_go_to_lower_rows_first() {
        let mut repeater = PixelRepeater::new(16, LAYOUT, false);
        let _ = repeater.tick(Some(request(10, 3, 3)), false);
        let mut copies = Vec::new();
        while let (Some(copy), Some((row, mask))) = (repeater.head(None), repeater.row(None)) {
            assert_eq!(repeater.req_ready(true), copy.last);
            copies.push((copy.laddr.0, mask, row.0.iter().position(|&e| e == 1), copy.last));
            let _ = repeater.tick(None, true);
        }
        let expected = [(8, 0b111 << 6, Some(6), false), (9, 0b111 << 3, Some(3), false), (10, 0b111, Some(0), true)];
        assert_eq!(copies, expected);
    }

    #[test]
    fn copies_below_the_floor_of_their_half_are_dropped_one_a_cycle() {
        for floor in [0, 128] {
            let mut repeater = PixelRepeater::new(16, LAYOUT, false);
            let _ = repeater.tick(Some(request(floor + 1, 1, 4)), false);
            let mut rows = Vec::new();
            for _ in 0..4 {
                let copy = repeater.head(None);
                rows.push(copy.map(|copy| copy.laddr.0));
                let _ = repeater.tick(None, copy.is_some());
            }
            assert_eq!(rows, [None, None, Some(floor), Some(floor + 1)]);
            assert!(repeater.is_empty());
        }
    }

    #[test]
    fn without_the_register_the_request_is_the_output() {
        let repeater = PixelRepeater::new(16, LAYOUT, true);
        let request = request(5, 3, 1);
        assert_eq!(repeater.head(Some(&request)).map(|copy| (copy.laddr.0, copy.last)), Some((5, true)));
        assert!(!repeater.req_ready(false));
    }
}
