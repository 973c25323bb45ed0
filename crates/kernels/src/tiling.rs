//! The loops over tiles, and moves of blocks.

use std::ops::Range;

use pollux_isa::{LocalAddr, StreamItem};

use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::schedule::{Axis, Keep, Schedule, Tile};
use crate::view::View;

/// One tile's part of a product, in blocks of DIM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TileStep {
    /// Rows of A and C.
    pub i: Range<usize>,
    /// Columns of B and C.
    pub j: Range<usize>,
    /// Columns of A, rows of B.
    pub k: Range<usize>,
    /// The sums begin here.
    pub first_k: bool,
    /// The sums are complete after this.
    pub last_k: bool,
}

/// The tiles in the schedule's order.
pub(crate) fn steps(schedule: &Schedule, blocks: &Tile) -> impl Iterator<Item = TileStep> + use<> {
    let (tile, order, blocks) = (schedule.tile, schedule.order, *blocks);
    let tiles = move |axis: Axis| (0..blocks.get(axis)).step_by(tile.get(axis).max(1));
    tiles(order[0]).flat_map(move |x| {
        tiles(order[1]).flat_map(move |y| {
            tiles(order[2]).map(move |z| {
                let range = |axis: Axis| {
                    let at = order.iter().position(|&o| o == axis).unwrap_or(0);
                    let start = [x, y, z][at];
                    start..(start + tile.get(axis)).min(blocks.get(axis))
                };
                let k = range(Axis::K);
                let (first_k, last_k) = (k.start == 0, k.end == blocks.k);
                TileStep { i: range(Axis::I), j: range(Axis::J), k, first_k, last_k }
            })
        })
    })
}

/// The places that one operand's tiles have in the scratchpad, and which tile each of them holds.
#[derive(Clone, Debug)]
pub(crate) struct Places<K, P> {
    places: Vec<(P, Option<K>)>,
    current: usize,
    keep: Keep,
}

impl<K: PartialEq, P: Copy> Places<K, P> {
    /// Empty places, used in turn.
    pub fn new(places: impl IntoIterator<Item = P>, keep: Keep) -> Self {
        let places: Vec<_> = places.into_iter().map(|place| (place, None)).collect();
        Self { current: places.len() - 1, places, keep }
    }

    /// The place of a tile, and whether it must be loaded there. A load never goes where the tile used last is, if there is
    /// more than one place: its computes may not even have been issued.
    pub fn of(&mut self, tile: K) -> (P, bool) {
        let next = (self.current + 1) % self.places.len();
        let holds = |place: &usize| self.places[*place].1.as_ref() == Some(&tile);
        let kept = match self.keep {
            Keep::Nothing => None,
            Keep::Gemmini => Some(self.current).filter(holds),
            Keep::Recent => [self.current, next].into_iter().find(holds),
        };
        self.current = kept.unwrap_or(next);
        self.places[self.current].1 = Some(tile);
        (self.places[self.current].0, kept.is_none())
    }
}

/// Elements of block `index` of an extent.
pub(crate) fn block_len(extent: usize, index: usize, dim: usize) -> usize {
    extent.saturating_sub(index * dim).min(dim)
}

/// Loads a row of blocks: block row `row` of `view`, columns of the blocks `cols`, one command.
pub(crate) fn load_blocks(
    builder: &mut ProgramBuilder,
    channel: u8,
    view: &View,
    row: usize,
    cols: Range<usize>,
    local: LocalAddr,
) -> Result<(), KernelError> {
    let dim = builder.dim();
    let rows = block_len(view.rows, row, dim);
    let columns = (cols.end * dim).min(view.cols) - cols.start * dim;
    builder.mvin(channel, view, [row * dim, cols.start * dim], [rows, columns], local)
}

/// Merges two streams evenly. The reservation station takes commands in order and has few entries of each class, so
/// work of different classes only overlaps if it is close together in the stream.
pub(crate) fn interleave(left: Vec<StreamItem>, right: Vec<StreamItem>) -> Vec<StreamItem> {
    let (left_len, right_len) = (left.len(), right.len());
    let mut merged = Vec::with_capacity(left_len + right_len);
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    for _ in 0..left_len + right_len {
        // The one of which a larger part is left.
        let left_first = left.len() * right_len >= right.len() * left_len && left.len() > 0 || right.len() == 0;
        merged.extend(if left_first { left.next() } else { right.next() });
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_that_are_kept_are_not_loaded_again() {
        let loads = |keep, places: usize, tiles: &[usize]| {
            let mut places = Places::new(0..places, keep);
            tiles.iter().map(|tile| places.of(*tile)).collect::<Vec<_>>()
        };
        let tiles = [7, 7, 8, 7, 9];
        assert_eq!(loads(Keep::Nothing, 2, &tiles), [(0, true), (1, true), (0, true), (1, true), (0, true)]);
        assert_eq!(loads(Keep::Gemmini, 2, &tiles), [(0, true), (0, false), (1, true), (0, true), (1, true)]);
        assert_eq!(loads(Keep::Recent, 2, &tiles), [(0, true), (0, false), (1, true), (0, false), (1, true)]);
        assert_eq!(loads(Keep::Recent, 1, &tiles), [(0, true), (0, false), (0, true), (0, true), (0, true)]);
    }

    #[test]
    fn streams_are_merged_evenly_and_each_keeps_its_order() {
        let items = |range: Range<u64>| range.map(StreamItem::Wait).collect::<Vec<_>>();
        let merged = |a, b| interleave(items(a), items(b));
        let waits = |numbers: &[u64]| numbers.iter().map(|&n| StreamItem::Wait(n)).collect::<Vec<_>>();
        assert_eq!(merged(0..4, 10..12), waits(&[0, 10, 1, 2, 11, 3]));
        assert_eq!(merged(0..0, 10..12), waits(&[10, 11]));
        assert_eq!(merged(0..2, 10..10), waits(&[0, 1]));
    }
}
