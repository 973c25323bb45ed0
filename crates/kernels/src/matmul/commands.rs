//! Products as single commands: the loops of `sp_tiled_matmul_ws` and `sp_tiled_matmul_os` of Gemmini's software, for any
//! order of the tiles and with or without double buffering. Loads are spread over the loops, each just before its first use.

use std::ops::Range;

use pollux_isa::{AddressLayout, LocalAddr};

use super::product::{CHANNEL_A, CHANNEL_B, CHANNEL_D, Matmul};
use crate::allocator::LocalAllocator;
use crate::builder::{Operand, ProgramBuilder};
use crate::error::KernelError;
use crate::normalize::{NormalizedRows, store_normalized};
use crate::schedule::{Axis, Dataflow, MatmulShape, Schedule, Tile};
use crate::tiling::{Places, TileStep, block_len, load_blocks, steps};
use crate::view::View;

pub(super) fn lower(matmul: &Matmul, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
    let mut kernel = Kernel::new(matmul, builder, schedule)?;
    for step in steps(schedule, &kernel.blocks) {
        kernel.tile(builder, &step)?;
    }
    Ok(())
}

struct Kernel<'a> {
    matmul: &'a Matmul,
    shape: MatmulShape,
    schedule: &'a Schedule,
    layout: AddressLayout,
    dim: usize,
    blocks: Tile,
    /// Blocks that one load or store of int8 moves, and one load of the addend.
    group: usize,
    d_group: usize,
    a: Places<(usize, usize), LocalAddr>,
    b: Places<(usize, usize), LocalAddr>,
    c: Vec<LocalAddr>,
    /// Tiles of C begun so far, if K is innermost.
    c_begun: usize,
}

/// One tile with its places.
struct Placed<'a> {
    step: &'a TileStep,
    a: LocalAddr,
    b: LocalAddr,
    c: LocalAddr,
    load_a: bool,
    load_b: bool,
}

impl<'a> Kernel<'a> {
    fn new(matmul: &'a Matmul, builder: &mut ProgramBuilder, schedule: &'a Schedule) -> Result<Self, KernelError> {
        let (shape, dim) = (matmul.shape(), builder.dim());
        let blocks = shape.blocks(dim);
        let config = builder.config().clone();
        let copies = if schedule.double_buffer { 2 } else { 1 };
        let Tile { i, j, k } = schedule.tile;
        let mut scratchpad = LocalAllocator::scratchpad(&config, builder.operation());
        let mut accumulator = LocalAllocator::accumulator(&config, builder.operation());
        let mut places = |memory: &mut LocalAllocator, name: &str, rows: usize, copies: usize| {
            (0..copies)
                .map(|copy| {
                    let local = memory.allocate(name, rows)?;
                    builder.region(&format!("{name}{copy}"), local, rows);
                    Ok(local)
                })
                .collect::<Result<Vec<_>, KernelError>>()
        };
        let a = places(&mut scratchpad, "A", i * k * dim, copies)?;
        let b = places(&mut scratchpad, "B", k * j * dim, copies)?;
        let resident = schedule.resident_results(&blocks);
        let c_copies = if schedule.order[2] == Axis::K { copies } else { resident };
        let c = places(&mut accumulator, "C", i * j * dim, c_copies)?;
        let group = config.max_block_len() as usize;
        let d_group = if matmul.bias.is_low() { group } else { config.max_block_len_acc() as usize };
        let (a, b) = (Places::new(a, schedule.keep), Places::new(b, schedule.keep));
        Ok(Self { matmul, shape, schedule, layout: config.layout(), dim, blocks, group, d_group, a, b, c, c_begun: 0 })
    }

    fn tile(&mut self, builder: &mut ProgramBuilder, step: &TileStep) -> Result<(), KernelError> {
        let (a, load_a) = self.a.of((step.i.start, step.k.start));
        let (b, load_b) = self.b.of((step.k.start, step.j.start));
        let placed = Placed { step, a, b, c: self.c_place(step), load_a, load_b };
        if let Some(d) = self.matmul.bias.view().filter(|_| step.first_k) {
            self.load_d(builder, &placed, &d)?;
        }
        match self.schedule.dataflow {
            Dataflow::Ws => self.weight_stationary(builder, &placed)?,
            Dataflow::Os => self.output_stationary(builder, &placed)?,
        }
        if step.last_k && self.matmul.activation.normalizes() {
            self.store_normalized(builder, &placed)?;
        }
        Ok(())
    }

    /// With K innermost the places of C are used in turn; otherwise each tile of the loops inside K has its own.
    fn c_place(&mut self, step: &TileStep) -> LocalAddr {
        let Schedule { order, tile, .. } = self.schedule;
        let index = if order[2] == Axis::K {
            self.c_begun += usize::from(step.first_k);
            self.c_begun - 1
        } else {
            order.iter().skip_while(|axis| **axis != Axis::K).skip(1).fold(0, |index, &axis| {
                let start = if axis == Axis::I { step.i.start } else { step.j.start };
                index * self.blocks.get(axis).div_ceil(tile.get(axis)) + start / tile.get(axis)
            })
        };
        self.c[index % self.c.len()]
    }

    fn block(&self, base: LocalAddr, index: usize) -> LocalAddr {
        base.add(self.layout, (index * self.dim) as u32)
    }

    fn load_d(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>, d: &View) -> Result<(), KernelError> {
        let TileStep { i, j, .. } = placed.step;
        for (row, block_row) in i.clone().enumerate() {
            let rows = block_len(self.shape.i, block_row, self.dim);
            for cols in groups(j, self.d_group) {
                let local = self.block(placed.c, row * j.len() + cols.start - j.start);
                let columns = (cols.end * self.dim).min(self.shape.j) - cols.start * self.dim;
                let first = if d.stride == 0 { 0 } else { block_row * self.dim };
                builder.mvin(CHANNEL_D, d, [first, cols.start * self.dim], [rows, columns], local)?;
            }
        }
        Ok(())
    }

    /// Loads what the product of these blocks needs and no earlier one did.
    fn load(
        &self,
        builder: &mut ProgramBuilder,
        placed: &Placed<'_>,
        [i, j, k]: [usize; 3],
    ) -> Result<(), KernelError> {
        let TileStep { i: is, j: js, k: ks, .. } = placed.step;
        let m = self.matmul;
        if placed.load_a && j == js.start {
            let (row, col, rows, cols) = if m.a_transpose { (k, i, ks, is) } else { (i, k, is, ks) };
            self.load_group(builder, (CHANNEL_A, &m.a, placed.a), [row, col], [rows, cols])?;
        }
        if placed.load_b && i == is.start {
            let (row, col, rows, cols) = if m.b_transpose { (j, k, js, ks) } else { (k, j, ks, js) };
            self.load_group(builder, (CHANNEL_B, &m.b, placed.b), [row, col], [rows, cols])?;
        }
        Ok(())
    }

    /// Loads the group of blocks that begins at (`row`, `col`), if one does.
    fn load_group(
        &self,
        builder: &mut ProgramBuilder,
        (channel, view, base): (u8, &View, LocalAddr),
        [row, col]: [usize; 2],
        [rows, cols]: [&Range<usize>; 2],
    ) -> Result<(), KernelError> {
        if !(col - cols.start).is_multiple_of(self.group) {
            return Ok(());
        }
        let local = self.block(base, (row - rows.start) * cols.len() + col - cols.start);
        load_blocks(builder, channel, view, row, col..(col + self.group).min(cols.end), local)
    }

    fn a_operand(&self, placed: &Placed<'_>, [i, k]: [usize; 2]) -> Operand {
        let TileStep { i: is, k: ks, .. } = placed.step;
        let (i_rel, k_rel) = (i - is.start, k - ks.start);
        let index = if self.matmul.a_transpose { k_rel * is.len() + i_rel } else { i_rel * ks.len() + k_rel };
        Operand { local: self.block(placed.a, index), rows: self.rows(i), cols: self.depth(k) }
    }

    fn b_operand(&self, placed: &Placed<'_>, [k, j]: [usize; 2]) -> Operand {
        let TileStep { j: js, k: ks, .. } = placed.step;
        let (k_rel, j_rel) = (k - ks.start, j - js.start);
        let index = if self.matmul.b_transpose { j_rel * ks.len() + k_rel } else { k_rel * js.len() + j_rel };
        Operand { local: self.block(placed.b, index), rows: self.depth(k), cols: self.columns(j) }
    }

    fn c_operand(&self, placed: &Placed<'_>, [i, j]: [usize; 2], accumulate: bool) -> Operand {
        let TileStep { i: is, j: js, .. } = placed.step;
        let local = self.block(placed.c, (i - is.start) * js.len() + j - js.start);
        let local = if accumulate { local.with_accumulate() } else { local };
        Operand { local, rows: self.rows(i), cols: self.columns(j) }
    }

    fn rows(&self, i: usize) -> usize {
        block_len(self.shape.i, i, self.dim)
    }

    fn columns(&self, j: usize) -> usize {
        block_len(self.shape.j, j, self.dim)
    }

    fn depth(&self, k: usize) -> usize {
        block_len(self.shape.k, k, self.dim)
    }

    /// Whether the tile adds to what the accumulator holds.
    fn continues(&self, step: &TileStep) -> bool {
        !step.first_k || self.matmul.bias.view().is_some()
    }

    fn weight_stationary(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let TileStep { i: is, j: js, k: ks, last_k, .. } = placed.step;
        let garbage = builder.garbage();
        for k in ks.clone() {
            for j in js.clone() {
                for i in is.clone() {
                    self.load(builder, placed, [i, j, k])?;
                    let b = self.b_operand(placed, [k, j]);
                    let new_weights = i == is.start;
                    let d = Operand { local: if new_weights { b.local } else { garbage.local }, ..b };
                    let c = self.c_operand(placed, [i, j], k > ks.start || self.continues(placed.step));
                    builder.preload(d, c)?;
                    builder.compute(new_weights, self.a_operand(placed, [i, k]), garbage, c.cols)?;
                    if *last_k && k + 1 == ks.end {
                        self.store(builder, placed, [i, j])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Unlike Gemmini's software, which leaves sums in the array over all of K, every product goes to the accumulator: the
    /// array's results are cut to `spatial_array_output_type` (20 bits) on their way out, and when a product has to wait
    /// behind one whose result stays, the controller's flush adds old operands to it (`in_prop_flush`,
    /// `ExecuteController.scala`). The number of passes through the array is the same.
    fn output_stationary(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        let TileStep { i: is, j: js, k: ks, last_k, .. } = placed.step;
        let garbage = builder.garbage();
        for i in is.clone() {
            for j in js.clone() {
                for k in ks.clone() {
                    self.load(builder, placed, [i, j, k])?;
                    let c = self.c_operand(placed, [i, j], k > ks.start || self.continues(placed.step));
                    builder.preload(garbage, c)?;
                    builder.compute(true, self.a_operand(placed, [i, k]), self.b_operand(placed, [k, j]), c.cols)?;
                }
                if *last_k {
                    self.store(builder, placed, [i, j])?;
                }
            }
        }
        Ok(())
    }

    /// Stores the group of finished blocks that ends with block (`i`, `j`), if one does.
    fn store(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>, [i, j]: [usize; 2]) -> Result<(), KernelError> {
        let js = &placed.step.j;
        let group = if self.matmul.is_full() { 1 } else { self.group };
        let ends = j + 1 == js.end || (j + 1 - js.start).is_multiple_of(group);
        if self.matmul.activation.normalizes() || !ends {
            return Ok(());
        }
        let first = js.start + (j - js.start) / group * group;
        let local = self.c_operand(placed, [i, first], false).local;
        let local = if self.matmul.is_full() { local.with_full() } else { local };
        let columns = ((j + 1) * self.dim).min(self.shape.j) - first * self.dim;
        builder.mvout(&self.matmul.c, [i * self.dim, first * self.dim], [self.rows(i), columns], local)
    }

    fn store_normalized(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) -> Result<(), KernelError> {
        for i in placed.step.i.clone() {
            store_normalized(
                builder,
                &NormalizedRows {
                    activation: self.matmul.activation,
                    out: self.matmul.c,
                    first_row: i * self.dim,
                    rows: self.rows(i),
                    pitch: self.dim,
                    local: self.c_operand(placed, [i, 0], false).local,
                },
            )?;
        }
        Ok(())
    }
}

/// A range in groups of at most `size`.
fn groups(range: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = range.end;
    range.clone().step_by(size).map(move |start| start..(start + size).min(end))
}
