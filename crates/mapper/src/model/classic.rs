//! The two models that the refined one is compared with.

use pollux_kernels::{Axis, ConvAxis, ConvSchedule};

use super::machine::Machine;
use crate::mapping::Mapping;
use crate::problem::Problem;
use crate::reuse::loads;
use crate::space::tile_of;

/// Bytes a cycle of the memory.
fn bandwidth(machine: &Machine) -> f64 {
    let port = machine.beat_bytes as f64 / machine.d_beat as f64;
    if machine.byte > 0.0 { port.min(1.0 / machine.byte) } else { port }
}

/// The roofline: all multiply-accumulates at the array's peak, or all bytes of the mapping at the memory's.
pub fn roofline(machine: &Machine, problem: &Problem, bytes: u64) -> f64 {
    let peak = (machine.dim * machine.dim) as f64;
    (problem.macs() as f64 / peak).max(bytes as f64 / bandwidth(machine))
}

/// A model of accesses as Timeloop and DOSA have it (`dse/latency_model.py` of `ucb-bar/dosa`): the largest of multiply-accumulates at the
/// array's peak and accesses of each level at its bandwidth. Everything overlaps, nothing begins or ends; a tile that the loops inside
/// do not change is fetched once; padding of blocks is worked on.
pub fn timeloop(machine: &Machine, problem: &Problem, mapping: &Mapping) -> f64 {
    let dim = machine.dim as f64;
    let tile = tile_of(mapping);
    let padded = |extent: usize| (extent.div_ceil(machine.dim) * machine.dim) as f64;
    let (macs, outputs, rows, words) = match (problem, mapping) {
        (Problem::Matmul(p), Mapping::Matmul(s)) => {
            let blocks = [p.m, p.n, p.k].map(|extent| extent.div_ceil(machine.dim));
            let counts: Vec<usize> = blocks.iter().zip(&tile).map(|(blocks, size)| blocks.div_ceil(*size)).collect();
            let reloads = |without: Axis| {
                let nest = s.order.map(|axis| (counts[axis as usize], axis != without));
                loads(&nest, 1) as f64
            };
            let (a, b) = ((p.m * p.k) as f64 * reloads(Axis::J), (p.k * p.n) as f64 * reloads(Axis::I));
            let macs = p.m as f64 * padded(p.n) * padded(p.k);
            (macs, (p.m * p.n) as f64, (tile[0] * machine.dim).min(p.m) as f64, a + b + (p.m * p.n) as f64)
        }
        (Problem::Conv(p), Mapping::Conv(s)) => {
            let (shape, tiles) = (p.shape, s.tiles(&p.shape));
            let extents = ConvSchedule::extents(&shape).map(|extent| extent as f64);
            let reloads = |own: &dyn Fn(ConvAxis) -> bool| {
                let nest = s.order.map(|axis| (tiles[axis as usize], own(axis)));
                loads(&nest, 1) as f64
            };
            let whole = |axes: &[ConvAxis]| axes.iter().map(|axis| tiles[*axis as usize] as f64).product::<f64>();
            use ConvAxis::{Batch, Cols, InChannels, KernelCols, KernelRows, OutChannels, Rows};
            let window = |outputs: usize, kernel: usize| (outputs * shape.stride + kernel - 1) as f64;
            let input =
                (s.batch * s.in_channels) as f64 * window(s.rows, s.kernel_rows) * window(s.cols, s.kernel_cols);
            let input = input
                * whole(&[Batch, Rows, Cols, KernelRows, KernelCols, InChannels])
                * reloads(&|axis| axis != OutChannels);
            let kernel = (shape.kernel * shape.kernel) as f64;
            let weights = kernel * extents[InChannels as usize] * extents[OutChannels as usize];
            let weights = weights * reloads(&|axis| axis == OutChannels || axis.is_reduction());
            let pixels = extents[Batch as usize] * extents[Rows as usize] * extents[Cols as usize];
            let macs = pixels * kernel * padded(shape.in_channels) * padded(shape.out_channels);
            let outputs = pixels * extents[OutChannels as usize];
            (macs, outputs, (s.batch * s.rows * s.cols) as f64, input + weights + outputs)
        }
        _ => return f64::INFINITY,
    };
    let compute = macs / (dim * dim);
    // Sums go to the accumulator after each block of what is summed over, and come back.
    let accumulator = (2.0 * macs / dim - outputs) / (2.0 * dim);
    // A row of inputs for each block of columns; weights once for the rows of a tile.
    let scratchpad = (macs / dim + macs / rows) / (2.0 * dim);
    compute.max(accumulator).max(scratchpad).max(words / bandwidth(machine))
}
