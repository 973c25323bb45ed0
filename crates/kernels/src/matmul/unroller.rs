//! Weight-stationary products as LOOP_WS commands, exactly as `tiled_matmul_outer` of Gemmini's software emits them.

use std::ops::Range;

use pollux_isa::fields::{LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsStridesAb, LoopWsStridesDc};

use super::product::Matmul;
use crate::builder::{LoopMatmul, ProgramBuilder};
use crate::error::KernelError;
use crate::schedule::{Emission, Keep, MatmulShape, Schedule, Tile};
use crate::tiling::{Places, TileStep, steps};
use crate::view::View;

pub(super) fn lower(matmul: &Matmul, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
    let unroller = Unroller::new(matmul, builder);
    let [mut a, mut b] = schedule.reuse(&schedule.tiles(builder.config(), &unroller.shape)).map(Halves::new);
    for step in steps(schedule, &unroller.blocks) {
        let placed =
            Placed { a: a.of((step.i.start, step.k.start)), b: b.of((step.k.start, step.j.start)), step: &step };
        builder.loop_ws(&unroller.command(&placed))?;
        unroller.count(builder, &placed);
    }
    Ok(())
}

/// The same behind other products with the same A: tiles that are there are not loaded.
pub(super) fn lower_beside(
    matmul: &Matmul,
    builder: &mut ProgramBuilder,
    schedule: &Schedule,
    residents: &mut Residents,
) -> Result<(), KernelError> {
    if !residents.fit(&schedule.tile) {
        return Err(KernelError::Parameter {
            operation: builder.operation().to_owned(),
            what: "products with one A need tiles of the same i and k".to_owned(),
        });
    }
    let unroller = Unroller::new(matmul, builder);
    residents.products += 1;
    let product = residents.products;
    for step in steps(schedule, &unroller.blocks) {
        let a = residents.a.of((step.i.clone(), step.k.clone()));
        let b = residents.b.of((product, step.k.start, step.j.start));
        let placed = Placed { a, b, step: &step };
        builder.loop_ws(&unroller.command(&placed))?;
        unroller.count(builder, &placed);
    }
    Ok(())
}

/// What products with the same A have left in the scratchpad: the last tiles of A and of B, and the halves that they are in.
#[derive(Clone, Debug)]
pub struct Residents {
    a: Places<(Range<usize>, Range<usize>), u8>,
    b: Places<(usize, usize, usize), u8>,
    /// Products so far; each has a B of its own.
    products: usize,
    /// Blocks of a tile of A.
    tile: Option<[usize; 2]>,
}

impl Default for Residents {
    fn default() -> Self {
        Self { a: Places::new([1, 2], Keep::Recent), b: Places::new([1, 2], Keep::Recent), products: 0, tile: None }
    }
}

impl Residents {
    /// Whether a product with this schedule says itself in which halves its tiles are: where the hardware alternates by
    /// itself, a tile of the product before might still be in use.
    pub fn keep(schedule: &Schedule) -> bool {
        schedule.emission == Emission::Unroller && schedule.keep == Keep::Recent
    }

    /// Whether the product's tiles of A are as large as those before. If not, a tile of B might be loaded over one of A that is
    /// still in use: a half of the scratchpad has A at its beginning and B at its end.
    fn fit(&mut self, tile: &Tile) -> bool {
        let own = [tile.i, tile.k];
        *self.tile.get_or_insert(own) == own
    }
}

/// In which half of the scratchpad an operand is (0 lets the hardware alternate), and whether it is loaded.
pub(crate) type Half = (u8, bool);

/// The halves of one operand's tiles.
pub(crate) struct Halves<K>(Option<Places<K, u8>>);

impl<K: PartialEq> Halves<K> {
    /// Tiles that are kept, or loaded for each loop.
    pub fn new(kept: bool) -> Self {
        Self(kept.then(|| Places::new([1, 2], Keep::Recent)))
    }

    /// The half of a tile.
    pub fn of(&mut self, tile: K) -> Half {
        self.0.as_mut().map_or((0, true), |places| places.of(tile))
    }
}

/// One tile with the halves of its operands.
struct Placed<'a> {
    step: &'a TileStep,
    a: Half,
    b: Half,
}

struct Unroller<'a> {
    matmul: &'a Matmul,
    shape: MatmulShape,
    dim: usize,
    blocks: Tile,
}

impl<'a> Unroller<'a> {
    fn new(matmul: &'a Matmul, builder: &ProgramBuilder) -> Self {
        let (shape, dim) = (matmul.shape(), builder.dim());
        Self { matmul, shape, dim, blocks: shape.blocks(dim) }
    }

    fn command(&self, placed: &Placed<'_>) -> LoopMatmul {
        let (m, dim, step) = (self.matmul, self.dim, placed.step);
        let d = m.bias.view().filter(|_| step.first_k);
        let [i, j, k] = [step.i.start, step.j.start, step.k.start].map(|block| block * dim);
        let (a, b) = self.operands([i, j, k]);
        let pad = |blocks: &Range<usize>, extent: usize| (blocks.end * dim).saturating_sub(extent) as u16;
        LoopMatmul {
            bounds: LoopWsBounds {
                pad_i: pad(&step.i, self.shape.i),
                pad_j: pad(&step.j, self.shape.j),
                pad_k: pad(&step.k, self.shape.k),
                i: step.i.len() as u16,
                j: step.j.len() as u16,
                k: step.k.len() as u16,
            },
            ab: LoopWsAddrsAb { a: if placed.a.1 { a } else { 0 }, b: if placed.b.1 { b } else { 0 } },
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
                b_spad_id: placed.b.0,
                a_spad_id: placed.a.0,
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
    fn count(&self, builder: &mut ProgramBuilder, placed: &Placed<'_>) {
        let (m, step) = (self.matmul, placed.step);
        let extent =
            |blocks: &Range<usize>, extent: usize| (blocks.end * self.dim).min(extent) - blocks.start * self.dim;
        let (i, j, k) = (extent(&step.i, self.shape.i), extent(&step.j, self.shape.j), extent(&step.k, self.shape.k));
        let (b_rows, b_cols) = if m.b_transpose { (step.j.len(), k) } else { (step.k.len(), j) };
        let b_rows = b_rows * self.dim;
        let d = m.bias.view().filter(|_| step.first_k);
        builder.count(|s| {
            s.macs += (i * j * k) as u64;
            s.bytes_in += if placed.a.1 { (i * k) as u64 } else { 0 };
            s.bytes_in += if placed.b.1 { (b_rows * b_cols) as u64 } else { 0 };
            s.bytes_in += d.map_or(0, |view| {
                // One row is fetched for each block of rows when it repeats.
                let rows = if view.stride == 0 { step.i.len() } else { i };
                (rows * j) as u64 * view.element.size()
            });
            s.bytes_out += if step.last_k { (i * j) as u64 * m.c.element.size() } else { 0 };
        });
        if placed.b.1 {
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
