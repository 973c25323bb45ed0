//! How often a tile of an operand is loaded: what the places of the scratchpad make of the order of the loops.

use pollux_kernels::{Axis, ConvAxis, ConvSchedule, ConvShape, Emission, Keep, Schedule, Tile};

/// A loop over tiles: its iterations, and whether it goes over the operand.
pub type Loop = (usize, bool);

/// Loads of each of an operand's tiles; it is the same number for all. `loops` are those over tiles, outermost first;
/// `places` tiles are kept, those used last.
///
/// A loop that does not go over the operand visits the tiles of the loops inside it once more in each iteration, always in the same
/// order. If they are all kept none is loaded again; if not, the one needed next is always the one that has gone.
pub fn loads(loops: &[Loop], places: usize) -> u64 {
    let kept = kept(loops, places);
    let reloads = loops.iter().enumerate().filter(|(at, (_, over_operand))| !over_operand && kept >> at & 1 == 0);
    reloads.map(|(_, (iterations, _))| *iterations as u64).product()
}

/// The loops, as bits, in whose iterations but the first a tile is not loaded because it is there.
fn kept(loops: &[Loop], places: usize) -> u32 {
    let (mut inside, mut kept) = (1, 0);
    for (at, &(iterations, over_operand)) in loops.iter().enumerate().rev() {
        match over_operand {
            true => inside *= iterations,
            false => kept |= u32::from(inside <= places) << at,
        }
    }
    kept
}

/// Tiles that are kept of an operand with so many.
fn places(emission: Emission, keep: Keep, double_buffer: bool, tiles: usize) -> usize {
    let copies = if double_buffer { 2 } else { 1 };
    match (keep, emission) {
        (Keep::Nothing, _) => 0,
        (Keep::Gemmini, Emission::Commands) => 1,
        (Keep::Gemmini, Emission::Unroller) if tiles > copies => 0,
        _ => copies,
    }
}

/// Loads of each tile of A and of B.
pub fn of_product(schedule: &Schedule, tiles: &Tile) -> [u64; 2] {
    let iterations = |axis: Axis| match axis {
        Axis::I => tiles.i,
        Axis::J => tiles.j,
        Axis::K => tiles.k,
    };
    [Axis::J, Axis::I].map(|without| {
        let loops = schedule.order.map(|axis| (iterations(axis), axis != without));
        let own = loops.iter().filter(|(_, own)| *own).map(|(n, _)| n).product();
        loads(&loops, places(schedule.emission, schedule.keep, schedule.double_buffer, own))
    })
}

/// Loads of each tile of the input and of the weights.
pub fn of_convolution(schedule: &ConvSchedule, shape: &ConvShape) -> [u64; 2] {
    of_convolution_tiles(schedule, shape.depthwise, &schedule.tiles(shape))
}

pub(crate) fn of_convolution_tiles(schedule: &ConvSchedule, depthwise: bool, tiles: &[usize; 7]) -> [u64; 2] {
    convolution_loops(schedule, depthwise, tiles).map(|(loops, places)| loads(&loops, places))
}

/// The axes, as bits in the order of [`ConvAxis::ALL`], in whose tiles but the first the input, and the weights, are there already.
pub(crate) fn kept_of_convolution(schedule: &ConvSchedule, depthwise: bool, tiles: &[usize; 7]) -> [u32; 2] {
    convolution_loops(schedule, depthwise, tiles).map(|(loops, places)| {
        let kept = kept(&loops, places);
        let axes = schedule.order.iter().enumerate().filter(|(at, _)| kept >> at & 1 == 1);
        axes.fold(0, |bits, (_, axis)| bits | 1 << *axis as u32)
    })
}

/// The loops of input and weights, and their places.
fn convolution_loops(schedule: &ConvSchedule, depthwise: bool, tiles: &[usize; 7]) -> [([Loop; 7], usize); 2] {
    let input = |axis: ConvAxis| axis != ConvAxis::OutChannels || depthwise;
    let weights = |axis: ConvAxis| axis == ConvAxis::OutChannels || axis.is_reduction();
    let of = |over: &dyn Fn(ConvAxis) -> bool| {
        let loops = schedule.order.map(|axis| (tiles[axis as usize], over(axis)));
        let own = loops.iter().filter(|(_, own)| *own).map(|(n, _)| n).product();
        let kept = places(schedule.emission, schedule.keep, schedule.double_buffer, own);
        (loops, if depthwise { 0 } else { kept })
    };
    [of(&input), of(&weights)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by visiting all tiles.
    fn counted(loops: &[Loop], places: usize) -> u64 {
        let (mut kept, mut loads): (Vec<Vec<usize>>, u64) = (Vec::new(), 0);
        let total: usize = loops.iter().map(|(n, _)| n).product();
        for mut step in 0..total {
            let mut tile = Vec::new();
            for &(n, own) in loops.iter().rev() {
                tile.extend(own.then_some(step % n));
                step /= n;
            }
            let held = kept.iter().position(|kept| *kept == tile);
            loads += u64::from(held.is_none());
            held.map(|at| kept.remove(at));
            kept.push(tile);
            if kept.len() > places {
                kept.remove(0);
            }
        }
        let tiles: usize = loops.iter().filter(|(_, own)| *own).map(|(n, _)| n).product();
        assert!(loads.is_multiple_of(tiles as u64));
        loads / tiles as u64
    }

    #[test]
    fn loads_are_those_of_a_cache_of_the_tiles_used_last() {
        for code in 0..4u32.pow(4) * 16 {
            let loops: Vec<Loop> =
                (0..4).map(|i| (code as usize / 4usize.pow(i) % 4 + 1, (code >> (8 + i)) & 1 == 1)).collect();
            for places in 0..3 {
                assert_eq!(loads(&loops, places), counted(&loops, places), "{loops:?}, {places}");
            }
        }
    }
}
