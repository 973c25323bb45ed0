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
//! column 0. Software cannot see it, because a CONFIG_EX waits for all results that are kept.
//!
//! [`crate::mesh_pe::MeshPe`] is the same array register by register; its tests hold the two equal.

use pollux_isa::GemminiConfig;
use pollux_isa::values::DataflowMode;
use pollux_numerics::MeshWidth;
use pollux_numerics::mesh::propagate;

/// A row of operands as it enters the skew registers, with its control signals. Slices have DIM lanes.
#[derive(Clone, Copy, Debug)]
pub struct MeshRow<'a> {
    /// Activations, one for each row of the array.
    pub a: &'a [i8],
    /// WS: what the partial sums start from. OS: the right-hand matrix.
    pub b: &'a [i8],
    /// What enters the propagated registers at the top.
    pub d: &'a [i8],
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshOutput<'a> {
    /// Result, DIM lanes, each of the array's output width.
    pub data: &'a [i32],
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
struct Registers {
    dim: usize,
    /// Storage row of PE row 0; PE row r is storage row `(top + r) % dim`.
    top: usize,
    /// `[storage row][column]`.
    rows: Vec<i32>,
    /// Low eight bits of `rows`, as `[storage row / 2][column][storage row % 2]`: the order of a
    /// multiply-add of pairs.
    weights: Vec<i16>,
    /// `weights` is up to date.
    weights_valid: bool,
}

impl Registers {
    fn new(dim: usize) -> Self {
        let cells = dim * dim;
        Self { dim, top: 0, rows: vec![0; cells], weights: vec![0; cells], weights_valid: true }
    }

    /// All rows move down, `row` enters at the top.
    fn push(&mut self, row: &[i8]) {
        self.top = if self.top == 0 { self.dim } else { self.top } - 1;
        let (pair, half) = (self.top / 2, self.top % 2);
        let cells = &mut self.rows[self.top * self.dim..][..self.dim];
        let weights = &mut self.weights[pair * 2 * self.dim..][..2 * self.dim];
        for ((cell, weight), &x) in cells.iter_mut().zip(weights.as_chunks_mut::<2>().0).zip(row) {
            *cell = x.into();
            weight[half] = x.into();
        }
    }

    /// Contents of PE row `row`, not yet cut to the array's width.
    fn row(&self, row: usize) -> &[i32] {
        &self.rows[(self.top + row) % self.dim * self.dim..][..self.dim]
    }

    /// Brings `weights` up to date.
    fn refresh_weights(&mut self) {
        for (i, row) in self.rows.chunks_exact(self.dim).enumerate() {
            for (j, &x) in row.iter().enumerate() {
                self.weights[(i / 2 * self.dim + j) * 2 + i % 2] = (x as i8).into();
            }
        }
        self.weights_valid = true;
    }

    /// `out[j] += sum of a[r] * low8(register[r][j])`.
    fn weight_stationary<const N: usize>(&self, a: &[i8], out: &mut [i32]) {
        let a = self.rotate::<N>(a);
        let Some(out) = out.first_chunk_mut::<N>() else { return };
        let mut sums = *out;
        let rows = self.weights.as_chunks::<2>().0.as_chunks::<N>().0;
        for (row, a) in rows.iter().zip(a.as_chunks::<2>().0) {
            for (sum, w) in sums.iter_mut().zip(row) {
                let products = i32::from(a[0]) * i32::from(w[0]) + i32::from(a[1]) * i32::from(w[1]);
                *sum = sum.wrapping_add(products);
            }
        }
        *out = sums;
    }

    /// `register[r][j] += a[r] * b[j]`.
    fn output_stationary<const N: usize>(&mut self, a: &[i8], b: &[i8]) {
        let a = self.rotate::<N>(a);
        let Some(b) = b.first_chunk::<N>() else { return };
        let b = b.map(i16::from);
        for (row, &a) in self.rows.as_chunks_mut::<N>().0.iter_mut().zip(&a) {
            for (cell, &b) in row.iter_mut().zip(&b) {
                // The product of two i8 fits 16 bits.
                *cell = cell.wrapping_add(i32::from(a * b));
            }
        }
        self.weights_valid = false;
    }

    /// The lanes of `a`, lane r for PE row r, in the order of the storage rows.
    fn rotate<const N: usize>(&self, a: &[i8]) -> [i16; N] {
        let mut rotated = [0; N];
        let Some(a) = a.first_chunk::<N>() else { return rotated };
        let wide = a.map(i16::from);
        if self.top == 0 {
            return wide;
        }
        rotated[self.top..].copy_from_slice(&wide[..N - self.top]);
        rotated[..self.top].copy_from_slice(&wide[N - self.top..]);
        rotated
    }
}

/// Calls a kernel that is generic over the size of the array.
macro_rules! by_dim {
    ($dim:expr, $registers:expr, $kernel:ident ( $($argument:expr),* )) => {
        match $dim {
            2 => $registers.$kernel::<2>($($argument),*),
            4 => $registers.$kernel::<4>($($argument),*),
            8 => $registers.$kernel::<8>($($argument),*),
            16 => $registers.$kernel::<16>($($argument),*),
            32 => $registers.$kernel::<32>($($argument),*),
            _ => $registers.$kernel::<64>($($argument),*),
        }
    };
}

/// A slot of the delay line.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    valid: bool,
    last: bool,
    id: u8,
}

/// The array: registers c1 and c2 of all PEs, and the rows on their way out.
#[derive(Clone, Debug)]
pub struct Mesh {
    dim: usize,
    width: MeshWidth,
    /// `[0]` = c2, `[1]` = c1: indexed by the propagate bit, the registers that move.
    registers: [Registers; 2],
    /// The propagate bit of the last valid row (`last_s`).
    last_propagate: bool,
    /// Delay line of `latency` slots; `position` is read in this cycle and written at its end.
    slots: Vec<Slot>,
    data: Vec<i32>,
    position: usize,
    /// Valid slots.
    in_flight: usize,
}

impl Mesh {
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
            data: vec![0; latency * dim],
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
    pub fn output(&self) -> Option<MeshOutput<'_>> {
        let Slot { valid, last, id } = self.slots[self.position];
        valid.then(|| MeshOutput { data: &self.data[self.position * self.dim..][..self.dim], id, last })
    }

    /// Register c1 of the PE in `row` and `column`.
    pub fn c1(&self, row: usize, column: usize) -> i32 {
        self.width.wrap(self.registers[1].row(row)[column])
    }

    /// Register c2 of the PE in `row` and `column`.
    pub fn c2(&self, row: usize, column: usize) -> i32 {
        self.width.wrap(self.registers[0].row(row)[column])
    }

    /// Clock edge: takes the row presented in this cycle, if any. False if nothing moved.
    pub fn tick(&mut self, row: Option<&MeshRow>) -> bool {
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
            match row.control.dataflow {
                DataflowMode::Ws => self.weight_stationary(row),
                DataflowMode::Os => self.output_stationary(row),
            }
            self.last_propagate = row.control.propagate;
        }
        self.position = if position + 1 == self.slots.len() { 0 } else { position + 1 };
        true
    }

    /// The registers that move and those computed with, and the row's place in the delay line.
    fn split(&mut self, propagate: bool) -> (&mut Registers, &mut Registers, &mut [i32]) {
        let out = &mut self.data[self.position * self.dim..][..self.dim];
        let [c2, c1] = &mut self.registers;
        if propagate { (c1, c2, out) } else { (c2, c1, out) }
    }

    /// The propagated registers take D at the top, the others multiply.
    fn weight_stationary(&mut self, row: &MeshRow) {
        let (dim, width) = (self.dim, self.width);
        let (moving, weights, out) = self.split(row.control.propagate);
        if !weights.weights_valid {
            weights.refresh_weights();
        }
        for (sum, &b) in out.iter_mut().zip(row.b) {
            *sum = b.into();
        }
        // Preload passes and padding rows carry zeros.
        if row.a.iter().any(|&x| x != 0) {
            by_dim!(dim, weights, weight_stationary(row.a, out));
            if !width.never_wraps(dim) {
                width.wrap_row(out);
            }
        }
        moving.push(row.d);
    }

    /// The propagated registers hand their results down, shifted if they have just been computed with; the others
    /// accumulate.
    fn output_stationary(&mut self, row: &MeshRow) {
        let (dim, width) = (self.dim, self.width);
        let toggles = row.control.propagate != self.last_propagate;
        let (moving, sums, out) = self.split(row.control.propagate);
        if toggles && row.control.shift != 0 {
            for x in &mut moving.rows {
                *x = propagate(width.wrap(*x), row.control.shift.into(), width);
            }
            moving.weights_valid = false;
        }
        out.copy_from_slice(moving.row(dim - 1));
        width.wrap_row(out);
        moving.push(row.d);
        if row.a.iter().any(|&x| x != 0) {
            by_dim!(dim, sums, output_stationary(row.a, row.b));
        }
    }
}

/// The width of `spatialArrayOutputType`.
pub(crate) fn mesh_width(config: &GemminiConfig) -> MeshWidth {
    MeshWidth::new(config.spatial_array_output_type.bits).unwrap_or(MeshWidth::DEFAULT)
}
