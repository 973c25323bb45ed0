//! The systolic array with its skew and de-skew registers, advanced by rows (`Mesh.scala`, `Tile.scala`, `PE.scala`,
//! and the shifters of `MeshWithDelays.scala`).
//!
//! | port | dir | shape | back pressure |
//! |---|---|---|---|
//! | row | in | one [`MeshRow`] a cycle, or a bubble | none: always taken |
//! | output | out | DIM x `spatialArrayOutputType`, with id and last, from registers | none |
//!
//! A row presented in cycle u is visible at the output in cycle u + [`Mesh::latency`]. Every processing element (PE) sees
//! the same sequence of valid rows, only later by its distance from the corner, and bubbles change nothing in it. So the
//! whole array takes a row at once, when it is presented, and the result row waits in a delay line. What this leaves
//! out: while rows of both dataflows are on their way, the hardware picks the output of all columns by the dataflow of
//! column 0. A CONFIG_EX waits for all results that are kept, so that only a flush can bring the other dataflow close behind a
//! result: it takes its dataflow from a stale entry of the control queue, which has a place more than `spad_read_delay`. At
//! the generator's delay of 4 the two passes since the CONFIG_EX have overwritten all entries; at 8 and DIM 4 they have not.
//!
//! [`crate::execute::mesh_pe::MeshPe`] is the same array register by register; its tests hold the two equal.

use pollux_isa::GemminiConfig;
use pollux_isa::values::DataflowMode;
use pollux_numerics::MeshWidth;
use pollux_numerics::mesh::propagate;

use crate::parts::canonical::{Canon, Canonical};
use crate::parts::row::{MAX_DIM, copy_row};
use crate::parts::values::{Full, Values};

/// A row of operands as it enters the skew registers, with its control signals. Slices have DIM lanes.
#[derive(Clone, Copy, Debug)]
pub struct MeshRow<'a, V: Values = Full> {
    /// Activations, one for each row of the array.
    pub a: &'a [V::Of<i8>],
    /// WS: what the partial sums start from. OS: the right-hand matrix.
    pub b: &'a [V::Of<i8>],
    /// What enters the propagated registers at the top.
    pub d: &'a [V::Of<i8>],
    /// Signals that travel with the row.
    pub control: MeshControl,
}

/// Control signals of a row (`PEControl`, and id and last).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshControl {
    /// What stays in the array.
    pub dataflow: DataflowMode,
    /// True: c1 propagates and c2 is computed with; false: the other way round.
    pub propagate: bool,
    /// Right shift of an output-stationary result in the row in which `propagate` toggles, 0..=31.
    pub shift: u8,
    /// Number of the matrix product, modulo the number that may be in flight.
    pub id: u8,
    /// Last row of its matrix.
    pub last: bool,
}

/// A valid row at the array's output.
#[derive(Clone, Copy, Debug)]
pub struct MeshOutput<'a, V: Values = Full> {
    /// Result, DIM lanes, each of the array's output width.
    pub data: &'a [V::Of<i32>],
    /// Number of the matrix product.
    pub id: u8,
    /// Last row of its matrix.
    pub last: bool,
}

/// Cycles from the presentation of a row to its result: skew, one register stage of `tile_latency + 1` cycles
/// in front of every tile on the way, and the output registers.
pub fn mesh_latency(config: &GemminiConfig) -> usize {
    let hops = config.mesh_rows + config.mesh_columns - 1;
    (hops * (config.tile_latency + 1) + config.mesh_output_delay) as usize
}

/// One of the two registers, c1 or c2, of all PEs.
///
/// The matrix moves down by moving `top` up. Elements are kept modulo 2^32 and cut to the array's width when
/// they are read, which is the same because every value the hardware stores has that width.
#[derive(Clone, Debug)]
struct Registers<V: Values> {
    /// Storage row of PE row 0; PE row r is storage row `(top + r) % dim`.
    top: usize,
    /// `[storage row][column]`.
    rows: Vec<V::Of<i32>>,
    /// Low eight bits of `rows` as floats. Sums of products of bytes are exact in them, and every vector unit can
    /// multiply them.
    weights: Vec<V::Of<f32>>,
    /// `weights` is up to date.
    weights_valid: bool,
}

impl<V: Values> Registers<V> {
    fn new(dim: usize) -> Self {
        let cells = dim * dim;
        let (rows, weights) = (vec![V::Of::default(); cells], vec![V::Of::default(); cells]);
        Self { top: 0, rows, weights, weights_valid: true }
    }

    /// All rows move down, `row` enters at the top.
    #[inline]
    fn push<const N: usize>(&mut self, row: &[V::Of<i8>]) {
        self.top = if self.top == 0 { N } else { self.top } - 1;
        let lanes = self.top * N..(self.top + 1) * N;
        V::update(&mut self.rows[lanes.clone()], |lanes, sight| set(lanes, &widen(operand::<V, N>(row, sight))));
        V::update(&mut self.weights[lanes], |lanes, sight| set(lanes, &widen(operand::<V, N>(row, sight))));
    }

    /// Brings `weights` up to date.
    fn refresh_weights(&mut self) {
        V::update(&mut self.weights, |weights, sight| {
            for (weight, &x) in weights.iter_mut().zip(V::see(&self.rows, sight)) {
                *weight = (x as i8).into();
            }
        });
        self.weights_valid = true;
    }

    /// `b[j] + sum of a[r] * low8(register[r][j])`.
    #[inline]
    fn weight_stationary<const N: usize>(&self, a: &[i8; N], b: &[i8; N], sight: V::Sight) -> [i32; N] {
        let mut sums = widen::<f32, N>(b);
        for sum in &mut sums {
            *sum += BIAS;
        }
        // An array of rows, whose number is known when this is compiled.
        let rows = V::see(&self.weights, sight).as_chunks::<N>().0;
        let Some(rows) = rows.first_chunk::<N>() else { return widen(b) };
        multiply_accumulate(rows, &widen(&rotate(a, self.top)), &mut sums);
        let mut out = [0; N];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum.to_bits() as i32).wrapping_sub(BIAS.to_bits() as i32);
        }
        out
    }

    /// `register[r][j] += a[r] * b[j]`.
    #[inline]
    fn output_stationary<const N: usize>(&mut self, a: &[V::Of<i8>], b: &[V::Of<i8>]) {
        let top = self.top;
        V::update(&mut self.rows, |rows, sight| {
            let (a, b) = (operand::<V, N>(a, sight), operand::<V, N>(b, sight));
            if *a == [0; N] {
                return;
            }
            let (a, b) = (widen::<i16, N>(&rotate(a, top)), widen::<i16, N>(b));
            for (row, &a) in rows.as_chunks_mut::<N>().0.iter_mut().zip(&a) {
                for (cell, &b) in row.iter_mut().zip(&b) {
                    // The product of two i8 fits 16 bits.
                    *cell = cell.wrapping_add(i32::from(a * b));
                }
            }
        });
        self.weights_valid = false;
    }

    /// Shifts all elements, as they do on their way down in the row in which the propagate bit toggles.
    fn shift(&mut self, shift: u8, width: MeshWidth) {
        V::update(&mut self.rows, |rows, _| {
            for x in rows {
                *x = propagate(width.wrap(*x), shift.into(), width);
            }
        });
        self.weights_valid = false;
    }
}

/// The N lanes of an operand.
#[inline(always)] // its length is known
fn operand<V: Values, const N: usize>(row: &[V::Of<i8>], sight: V::Sight) -> &[i8; N] {
    V::see(row, sight).first_chunk().unwrap_or(&[0; N])
}

/// Replaces the N lanes of a row.
#[inline(always)] // its length is known
fn set<T: Copy, const N: usize>(lanes: &mut [T], row: &[T; N]) {
    if let Some(lanes) = lanes.first_chunk_mut() {
        *lanes = *row;
    }
}

/// The lanes of `a`, lane r for PE row r, in the order of the storage rows from `top` on.
#[inline]
fn rotate<const N: usize>(a: &[i8; N], top: usize) -> [i8; N] {
    let twice = [*a, *a];
    let (twice, start) = (twice.as_flattened(), (N - top) % N);
    twice[start..].first_chunk().copied().unwrap_or(*a)
}

/// `sums[j] += sum of a[r] * weights[r][j]`, four rows at a time.
#[inline]
fn multiply_accumulate<const N: usize>(weights: &[[f32; N]; N], a: &[f32; N], sums: &mut [f32; N]) {
    let ((fours, rest), (fours_of_a, rest_of_a)) = (weights.as_chunks::<4>(), a.as_chunks::<4>());
    for ([w0, w1, w2, w3], [a0, a1, a2, a3]) in fours.iter().zip(fours_of_a) {
        for j in 0..N {
            sums[j] += (a0 * w0[j] + a1 * w1[j]) + (a2 * w2[j] + a3 * w3[j]);
        }
    }
    for (row, a) in rest.iter().zip(rest_of_a) {
        for (sum, w) in sums.iter_mut().zip(row) {
            *sum += a * w;
        }
    }
}

/// 1.5 x 2^23. Around it floats are 1 apart, so that the bits of bias + n are those of the bias, plus n: sums need no
/// conversion, and are exact below 2^22, which is more than the largest array can reach.
const BIAS: f32 = 12_582_912.0;
const _: () = assert!(MAX_DIM << 14 < 1 << 22);

/// The elements of `row`, converted.
#[inline]
fn widen<T: From<i8> + Copy + Default, const N: usize>(row: &[i8; N]) -> [T; N] {
    let mut wide = [T::default(); N];
    for (wide, &x) in wide.iter_mut().zip(row) {
        *wide = x.into();
    }
    wide
}

/// A slot of the delay line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) valid: bool,
    pub(crate) last: bool,
    id: u8,
}

/// The array: registers c1 and c2 of all PEs, and the rows on their way out.
#[derive(Clone, Debug)]
pub struct Mesh<V: Values = Full> {
    dim: usize,
    width: MeshWidth,
    /// `[0]` = c2, `[1]` = c1: indexed by the propagate bit, the registers that move.
    registers: [Registers<V>; 2],
    /// The propagate bit of the last valid row (`last_s`).
    last_propagate: bool,
    /// Delay line of `latency` slots; `position` is read in this cycle and written at its end.
    pub(crate) slots: Vec<Slot>,
    data: Vec<V::Of<i32>>,
    pub(crate) position: usize,
    /// Valid slots.
    in_flight: usize,
}

/// The rows on their way, by how far they are. Propagate bits and shifts only matter to values.
impl<V: Values> Canonical for Mesh<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { dim: _, width: _, registers: _, last_propagate: _, slots, data: _, position, in_flight } = self;
        in_flight.canonical(canon);
        if *in_flight == 0 {
            return;
        }
        for i in 0..slots.len() {
            let Slot { valid, last, id } = &slots[(position + i) % slots.len()];
            valid.canonical(canon);
            if *valid {
                last.canonical(canon);
                Canon::matrix(id, canon);
            }
        }
    }
}

impl<V: Values> Mesh<V> {
    /// An array of zeros.
    pub fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let latency = mesh_latency(config);
        Self {
            dim,
            width: mesh_width(config),
            registers: [Registers::new(dim), Registers::new(dim)],
            last_propagate: false,
            slots: vec![Slot::default(); latency],
            data: vec![V::Of::default(); latency * dim],
            position: 0,
            in_flight: 0,
        }
    }

    /// Cycles from the presentation of a row to its result.
    pub fn latency(&self) -> usize {
        self.slots.len()
    }

    /// Number of rows between presentation and output.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The row at the output in this cycle.
    #[inline]
    pub fn output(&self) -> Option<MeshOutput<'_, V>> {
        let Slot { valid, last, id } = self.slots[self.position];
        valid.then(|| MeshOutput { data: &self.data[self.position * self.dim..][..self.dim], id, last })
    }

    /// The row at the output is the last of its matrix.
    #[inline]
    pub fn ends_matrix(&self) -> bool {
        let Slot { valid, last, .. } = self.slots[self.position];
        valid && last
    }

    /// Clock edge: takes the row presented in this cycle, if any. False if nothing moved.
    #[must_use]
    pub fn tick(&mut self, row: Option<&MeshRow<V>>) -> bool {
        if row.is_none() && self.in_flight == 0 {
            return false;
        }
        let position = self.position;
        self.in_flight -= usize::from(self.slots[position].valid);
        self.slots[position].valid = false;
        if let Some(row) = row {
            let MeshControl { id, last, .. } = row.control;
            self.slots[position] = Slot { valid: true, last, id };
            self.in_flight += 1;
            match self.dim {
                2 => self.present::<2>(row),
                4 => self.present::<4>(row),
                8 => self.present::<8>(row),
                16 => self.present::<16>(row),
                32 => self.present::<32>(row),
                _ => self.present::<MAX_DIM>(row),
            }
            self.last_propagate = row.control.propagate;
        }
        self.position = if position + 1 == self.slots.len() { 0 } else { position + 1 };
        true
    }

    /// All PEs take the row; its result goes into the delay line. `N` is DIM.
    fn present<const N: usize>(&mut self, row: &MeshRow<V>) {
        let MeshControl { dataflow, propagate, shift, .. } = row.control;
        let [c2, c1] = &mut self.registers;
        let (moving, other) = if propagate { (c1, c2) } else { (c2, c1) };
        let out = &mut self.data[self.position * N..(self.position + 1) * N];
        match dataflow {
            DataflowMode::Ws => weight_stationary::<V, N>(other, row, out),
            DataflowMode::Os => {
                if propagate != self.last_propagate && shift != 0 {
                    moving.shift(shift, self.width);
                }
                other.output_stationary::<N>(row.a, row.b);
                let bottom = (moving.top + N - 1) % N;
                copy_row(out, &moving.rows[bottom * N..(bottom + 1) * N]);
            }
        }
        moving.push::<N>(row.d);
        if !self.width.never_wraps(N) || dataflow == DataflowMode::Os {
            V::update(out, |out, _| self.width.wrap_row(out));
        }
    }
}

impl Mesh {
    /// The propagate bit of the last valid row.
    pub fn last_propagate(&self) -> bool {
        self.last_propagate
    }

    /// Register c1 of the PE in `row` and `column`.
    pub fn c1(&self, row: usize, column: usize) -> i32 {
        self.register(1, row, column)
    }

    /// Register c2 of the PE in `row` and `column`.
    pub fn c2(&self, row: usize, column: usize) -> i32 {
        self.register(0, row, column)
    }

    /// An element, cut to the array's width.
    fn register(&self, index: usize, row: usize, column: usize) -> i32 {
        let Registers { top, rows, .. } = &self.registers[index];
        self.width.wrap(rows[(top + row) % self.dim * self.dim + column])
    }
}

/// The result of a row in WS: `weights` multiply.
#[inline]
fn weight_stationary<V: Values, const N: usize>(weights: &mut Registers<V>, row: &MeshRow<V>, out: &mut [V::Of<i32>]) {
    if !weights.weights_valid {
        weights.refresh_weights();
    }
    V::update(out, |out, sight| {
        let (a, b) = (operand::<V, N>(row.a, sight), operand::<V, N>(row.b, sight));
        // Preload passes and padding rows carry zeros.
        set(out, &if *a == [0; N] { widen(b) } else { weights.weight_stationary(a, b, sight) });
    });
}

/// The width of `spatialArrayOutputType`.
pub(crate) fn mesh_width(config: &GemminiConfig) -> MeshWidth {
    MeshWidth::new(config.spatial_array_output_type.bits).unwrap_or(MeshWidth::DEFAULT)
}
