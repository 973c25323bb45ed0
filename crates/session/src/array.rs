//! [`ArrayView`]: the systolic array register by register; [`Heat`]: how much its processing elements had to do.

use pollux_isa::values::DataflowMode;
use pollux_sim::mesh_pe::MeshPe;
use pollux_sim::observer::Cycle;
use serde::Serialize;

/// All processing elements (PEs) in one cycle. Every matrix has DIM rows of DIM values, by row and column of the PE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArrayView {
    /// The cycle.
    pub cycle: Cycle,
    /// Rows and columns.
    pub dim: usize,
    /// Register c1.
    pub c1: Vec<Vec<i32>>,
    /// Register c2.
    pub c2: Vec<Vec<i32>>,
    /// The register that the PE computes with, 1 or 2, in the row above it, or in the last one: the other moves down.
    pub computes_with: Vec<Vec<u8>>,
    /// A row stands above the PE, and is taken in this cycle; where there is none it is a bubble, and the values below mean nothing.
    pub valid: Vec<Vec<bool>>,
    /// A from the left.
    pub a: Vec<Vec<i8>>,
    /// B from above: the partial sum (weight-stationary) or the operand (output-stationary).
    pub b: Vec<Vec<i32>>,
    /// D from above: what moves into the register, or a result on its way out.
    pub d: Vec<Vec<i32>>,
    /// Number of the matrix product of the row, modulo the number that may be in flight.
    pub matrix: Vec<Vec<u8>>,
    /// The row is the last of its matrix.
    pub last: Vec<Vec<bool>>,
    /// The row's dataflow is weight-stationary.
    pub weight_stationary: Vec<Vec<bool>>,
}

impl ArrayView {
    pub(crate) fn new(cycle: Cycle, array: &MeshPe) -> Self {
        fn of<T>(dim: usize, value: impl Fn(usize, usize) -> T) -> Vec<Vec<T>> {
            (0..dim).map(|row| (0..dim).map(|column| value(row, column)).collect()).collect()
        }
        let dim = array.dim();
        let lanes = of(dim, |row, column| array.above(row, column));
        let valid = |row: usize, column: usize| lanes[row][column].valid;
        Self {
            cycle,
            dim,
            c1: of(dim, |row, column| array.pe(row, column).c1),
            c2: of(dim, |row, column| array.pe(row, column).c2),
            computes_with: of(dim, |row, column| {
                let lane = &lanes[row][column];
                let c1_moves = if lane.valid { lane.control.propagate } else { array.pe(row, column).last_propagate };
                if c1_moves { 2 } else { 1 }
            }),
            valid: of(dim, valid),
            // What stands in a bubble's registers is left over from another row.
            a: of(dim, |row, column| if valid(row, column) { array.a(row, column) } else { 0 }),
            b: of(dim, |row, column| if valid(row, column) { lanes[row][column].b } else { 0 }),
            d: of(dim, |row, column| if valid(row, column) { lanes[row][column].d } else { 0 }),
            matrix: of(dim, |row, column| if valid(row, column) { lanes[row][column].control.id } else { 0 }),
            last: of(dim, |row, column| valid(row, column) && lanes[row][column].control.last),
            weight_stationary: of(dim, |row, column| {
                valid(row, column) && lanes[row][column].control.dataflow == DataflowMode::Ws
            }),
        }
    }
}

/// What the processing elements did in some cycles. Every matrix has DIM rows of DIM counts, by row and column of the PE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heat {
    /// The first cycle that is counted.
    pub from: Cycle,
    /// The cycle after the last one.
    pub to: Cycle,
    /// Cycles in which a row passed the PE: the others were bubbles.
    pub rows: Vec<Vec<u64>>,
    /// Those of them in which both factors were other than 0.
    pub products: Vec<Vec<u64>>,
}

impl Heat {
    pub(crate) fn new(from: Cycle, dim: usize) -> Self {
        let none = vec![vec![0; dim]; dim];
        Self { from, to: from, rows: none.clone(), products: none }
    }

    /// Counts a cycle, the registers being as they are at its start.
    pub(crate) fn count(&mut self, array: &MeshPe) {
        for (row, (rows, products)) in self.rows.iter_mut().zip(&mut self.products).enumerate() {
            for (column, (rows, products)) in rows.iter_mut().zip(products).enumerate() {
                let lane = array.above(row, column);
                let pe = array.pe(row, column);
                let stationary = if lane.control.propagate { pe.c2 } else { pe.c1 };
                let factor = if lane.control.dataflow == DataflowMode::Ws { stationary } else { lane.b };
                *rows += u64::from(lane.valid);
                *products += u64::from(lane.valid && array.a(row, column) != 0 && factor != 0);
            }
        }
        self.to += 1;
    }
}
