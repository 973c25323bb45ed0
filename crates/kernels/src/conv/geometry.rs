//! Which part of input, weights and output belongs to a tile.

use super::schedule::ConvSchedule;
use super::shape::ConvShape;

/// Whether only every other input pixel is loaded.
pub(super) fn downsample(shape: &ConvShape) -> bool {
    shape.downsamples() && shape.input_dilation == 1 && !shape.options.input_chwn
}

/// First index and extent of a tile in each dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub b: Part,
    pub row: Part,
    pub col: Part,
    pub och: Part,
    pub krow: Part,
    pub kcol: Part,
    pub ich: Part,
}

impl Tile {
    /// The sums begin here.
    pub fn is_first(&self) -> bool {
        self.krow.start + self.kcol.start + self.ich.start == 0
    }

    /// The sums are complete after this.
    pub fn is_last(&self) -> bool {
        self.krow.last && self.kcol.last && self.ich.last
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub start: usize,
    pub len: usize,
    pub last: bool,
}

/// `0..extent` in parts of `size`.
pub(super) fn parts(extent: usize, size: usize) -> impl Iterator<Item = Part> + Clone {
    (0..extent).step_by(size).map(move |start| {
        let len = size.min(extent - start);
        Part { start, len, last: start + len == extent }
    })
}

/// The tiles in the schedule's order.
pub(super) fn tiles(shape: &ConvShape, s: &ConvSchedule) -> Vec<Tile> {
    let extents = ConvSchedule::extents(shape);
    let mut tiles = vec![[Part { start: 0, len: 0, last: false }; 7]];
    for axis in s.order {
        let parts = parts(extents[axis as usize], s.get(axis));
        let inner = |tile: [Part; 7]| {
            parts.clone().map(move |part| {
                let mut tile = tile;
                tile[axis as usize] = part;
                tile
            })
        };
        tiles = tiles.into_iter().flat_map(inner).collect();
    }
    tiles.into_iter().map(|[b, row, col, och, krow, kcol, ich]| Tile { b, row, col, och, krow, kcol, ich }).collect()
}

/// Where a tile's input lies along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Output pixels before pooling, those outside the image not counted.
    pub outputs: usize,
    /// Padding of the pooled image.
    pub pool_pads: [usize; 2],
    /// First input pixel, in dilated pixels; negative in the padding.
    pub input: isize,
    /// Dilated input pixels, those in the padding included.
    pub inputs: usize,
    /// Kernel elements.
    pub kernel: usize,
    /// Zeros before and after the input.
    pub pads: [usize; 2],
}

impl Window {
    /// The windows of a tile over rows and columns.
    pub fn of(shape: &ConvShape, tile: &Tile) -> [Self; 2] {
        let [out_rows, out_cols] = shape.out_pixels();
        [
            Self::along(shape, tile.row, tile.krow, out_rows, shape.in_rows),
            Self::along(shape, tile.col, tile.kcol, out_cols, shape.in_cols),
        ]
    }

    /// The part of one axis of the input that (pooled) output pixels `out` and kernel elements `kernel` need.
    fn along(shape: &ConvShape, out: Part, kernel: Part, out_extent: usize, in_extent: usize) -> Self {
        let pool = shape.pooling();
        let first = (out.start * pool.stride) as isize - pool.padding as isize;
        let pooled = out.len * pool.stride + pool.size - 1;
        let before = usize::try_from(-first).unwrap_or(0);
        let after = usize::try_from(first + pooled as isize - out_extent as isize).unwrap_or(0);
        let outputs = pooled - before - after;
        let dilated_kernel = kernel.len + (shape.kernel_dilation - 1) * (kernel.len - 1);
        let inputs = (outputs * shape.stride + dilated_kernel - 1) as isize;
        let input =
            first.max(0) * shape.stride as isize + (kernel.start * shape.kernel_dilation) as isize - shape.padding;
        let dilated = (in_extent + (shape.input_dilation - 1) * (in_extent - 1)) as isize;
        let mut pads = [-input, input + inputs - dilated].map(|pad| usize::try_from(pad).unwrap_or(0));
        if shape.input_dilation == 2 {
            // A part that begins or ends on a zero between two pixels has it as padding.
            pads[0] += usize::from(pads[0] == 0 && input.rem_euclid(2) == 1);
            pads[1] += usize::from(pads[1] == 0 && (input + inputs).rem_euclid(2) == 0);
        }
        Self { outputs, pool_pads: [before, after], input, inputs: inputs as usize, kernel: kernel.len, pads }
    }

    /// Whether anything is multiplied. Without it, the unroller's padding is larger than its input, or (all products of a
    /// dilated input skipped) its stores overtake the loads of the bias.
    pub fn has_products(&self, shape: &ConvShape) -> bool {
        if shape.input_dilation == 1 {
            return self.inputs >= self.pads[0] + self.pads[1];
        }
        let even = |input: usize| (input + self.pads[0]).is_multiple_of(2);
        (0..self.outputs).any(|o| (0..self.kernel).any(|k| even(o + k * shape.kernel_dilation)))
    }
}
