//! Weight-stationary products as LOOP_WS commands, exactly as `tiled_matmul_outer` of Gemmini's software emits them.

use pollux_isa::fields::{LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsStridesAb, LoopWsStridesDc};

use super::product::Matmul;
use crate::builder::{LoopMatmul, ProgramBuilder};
use crate::error::KernelError;
use crate::schedule::{MatmulShape, Schedule, Tile};
use crate::tiling::{TileStep, steps};
use crate::view::View;

pub(super) fn lower(matmul: &Matmul, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
    let unroller = Unroller::new(matmul, builder, schedule);
    for step in steps(schedule, &unroller.blocks) {
        builder.loop_ws(&unroller.command(&step))?;
        unroller.count(builder, &step);
    }
    Ok(())
}

struct Unroller<'a> {
    matmul: &'a Matmul,
    shape: MatmulShape,
    dim: usize,
    blocks: Tile,
    a_reuse: bool,
    b_reuse: bool,
}

impl<'a> Unroller<'a> {
    fn new(matmul: &'a Matmul, builder: &ProgramBuilder, schedule: &Schedule) -> Self {
        let (shape, dim) = (matmul.shape(), builder.dim());
        let (a_reuse, b_reuse) = schedule.reuse(&schedule.tiles(builder.config(), &shape));
        Self { matmul, shape, dim, blocks: shape.blocks(dim), a_reuse, b_reuse }
    }

    /// Which half of the scratchpad: 0 lets the hardware alternate.
    fn spad_id(reuse: bool, first: bool) -> u8 {
        match (reuse, first) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => 2,
        }
    }

    fn loads_a(&self, step: &TileStep) -> bool {
        !(self.a_reuse && step.j.start > 0)
    }

    fn loads_b(&self, step: &TileStep) -> bool {
        !(self.b_reuse && step.i.start > 0)
    }

    fn command(&self, step: &TileStep) -> LoopMatmul {
        let (m, dim) = (self.matmul, self.dim);
        let d = m.bias.view().filter(|_| step.first_k);
        let [i, j, k] = [step.i.start, step.j.start, step.k.start].map(|block| block * dim);
        let (a, b) = self.operands([i, j, k]);
        let pad = |blocks: &std::ops::Range<usize>, extent: usize| (blocks.end * dim).saturating_sub(extent) as u16;
        LoopMatmul {
            bounds: LoopWsBounds {
                pad_i: pad(&step.i, self.shape.i),
                pad_j: pad(&step.j, self.shape.j),
                pad_k: pad(&step.k, self.shape.k),
                i: step.i.len() as u16,
                j: step.j.len() as u16,
                k: step.k.len() as u16,
            },
            ab: LoopWsAddrsAb { a: if self.loads_a(step) { a } else { 0 }, b: if self.loads_b(step) { b } else { 0 } },
            dc: LoopWsAddrsDc {
                d: d.map_or(0, |view| view.at(if view.stride == 0 { 0 } else { i }, j)),
                c: if step.last_k { m.c.at(i, j) } else { 0 },
            },
            strides_ab: LoopWsStridesAb { a_stride: m.a.stride as u64, b_stride: m.b.stride as u64 },
            strides_dc: LoopWsStridesDc { d_stride: m.bias_stride(), c_stride: m.c.stride as u64 },
            run: LoopWs {
                ex_accumulate: d.is_some() || !step.first_k,
                full_c: m.is_full(),
                low_d: m.bias.is_low(),
                act: m.activation.code(),
                b_spad_id: Self::spad_id(self.b_reuse, step.j.start + step.k.start == 0),
                a_spad_id: Self::spad_id(self.a_reuse, step.i.start + step.k.start == 0),
                a_transpose: m.a_transpose,
                b_transpose: m.b_transpose,
                is_resadd: false,
                skip_lda: false,
                skip_ldb: false,
                skip_ldd: false,
                skip_ex: false,
                skip_stc: false,
                inc_acc_addr: false,
                spad_only: false,
                c_spad: 0,
            },
        }
    }

    /// Addresses of A's and B's parts that begin at these elements.
    fn operands(&self, [i, j, k]: [usize; 3]) -> (u64, u64) {
        let at = |view: &View, transpose, row, col| if transpose { view.at(col, row) } else { view.at(row, col) };
        (at(&self.matmul.a, self.matmul.a_transpose, i, k), at(&self.matmul.b, self.matmul.b_transpose, k, j))
    }

    /// The loop's work. B is fetched in whole blocks of rows, past the end of the matrix in the last block.
    fn count(&self, builder: &mut ProgramBuilder, step: &TileStep) {
        let m = self.matmul;
        let extent = |blocks: &std::ops::Range<usize>, extent: usize| {
            (blocks.end * self.dim).min(extent) - blocks.start * self.dim
        };
        let (i, j, k) = (extent(&step.i, self.shape.i), extent(&step.j, self.shape.j), extent(&step.k, self.shape.k));
        let (b_rows, b_cols) = if m.b_transpose { (step.j.len(), k) } else { (step.k.len(), j) };
        let b_rows = b_rows * self.dim;
        let d = m.bias.view().filter(|_| step.first_k);
        builder.count(|s| {
            s.macs += (i * j * k) as u64;
            s.bytes_in += if self.loads_a(step) { (i * k) as u64 } else { 0 };
            s.bytes_in += if self.loads_b(step) { (b_rows * b_cols) as u64 } else { 0 };
            s.bytes_in += d.map_or(0, |view| {
                // One row is fetched for each block of rows when it repeats.
                let rows = if view.stride == 0 { step.i.len() } else { i };
                (rows * j) as u64 * view.element.size()
            });
            s.bytes_out += if step.last_k { (i * j) as u64 * m.c.element.size() } else { 0 };
        });
        if self.loads_b(step) {
            let (first_row, first_col) = if m.b_transpose {
                (step.j.start * self.dim, step.k.start * self.dim)
            } else {
                (step.k.start * self.dim, step.j.start * self.dim)
            };
            // One range a row: what lies between the rows of a part is not read.
            for row in m.b.rows.max(first_row)..first_row + b_rows {
                builder.overread(m.b.at(row, first_col)..m.b.at(row, first_col + b_cols));
            }
        }
    }
}
