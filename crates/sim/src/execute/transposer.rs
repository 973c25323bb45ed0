//! The transposer between operand buffers and array (`AlwaysOutTransposer` of `Transposer.scala`).
//!
//! | port | dir | shape | back pressure |
//! |---|---|---|---|
//! | `in_row` | in | DIM x i8, any cycle | none: always ready |
//! | `out_col` | out | DIM x i8, always valid, from registers | none |
//!
//! In hardware DIM x DIM registers shift left for DIM pushed rows, then up for DIM rows, and so on; the column (row)
//! that leaves at the edge is the output. In an aligned group of DIM pushes the j-th output is column j of the
//! matrix pushed in the group before: the latency is one pass, without a bubble.
//!
//! Here nothing moves. The edge column after j shifts is column j of the matrix at the beginning of the group, and
//! the row that enters takes its place, so a step reads and replaces column (row) j.

use crate::parts::row::SpadLanes;
use crate::parts::values::{Full, Values};

/// Register array, direction and row counter.
#[derive(Clone, Debug)]
pub struct Transposer<V: Values = Full> {
    dim: usize,
    /// Row-major; the hardware's array rotated by `counter` in the direction of movement.
    cells: Vec<V::Of<i8>>,
    /// Direction UP; reset: LEFT.
    up: bool,
    /// Rows pushed in this direction.
    counter: usize,
}

impl<V: Values> Transposer<V> {
    /// A transposer of `dim` x `dim` zeros.
    pub fn new(dim: usize) -> Self {
        Self { dim, cells: vec![V::Of::default(); dim * dim], up: false, counter: 0 }
    }

    /// `out_col`: what leaves with the next push.
    pub fn output(&self) -> SpadLanes<V> {
        let mut out = SpadLanes::default();
        let (n, j) = (self.dim, self.counter);
        if self.up {
            out.0[..n].copy_from_slice(&self.cells[j * n..(j + 1) * n]);
        } else {
            for (o, row) in out.0.iter_mut().zip(self.cells.chunks_exact(n)) {
                *o = row[j];
            }
        }
        out
    }

    /// Clock edge with a row pushed: lanes `0..DIM` of `row` in the order given by `lanes`.
    pub fn push(&mut self, row: impl Iterator<Item = V::Of<i8>>) {
        let (n, j) = (self.dim, self.counter);
        if self.up {
            for (cell, x) in self.cells[j * n..(j + 1) * n].iter_mut().zip(row) {
                *cell = x;
            }
        } else {
            for (cells, x) in self.cells.chunks_exact_mut(n).zip(row) {
                cells[j] = x;
            }
        }
        self.counter = (j + 1) % n;
        self.up ^= self.counter == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registers exactly as wired in `Transposer.scala`.
    struct Shifting {
        dim: usize,
        cells: Vec<Vec<i8>>,
        up: bool,
        counter: usize,
    }

    impl Shifting {
        fn step(&mut self, row: &[i8]) -> Vec<i8> {
            let out = if self.up { self.cells[0].clone() } else { self.cells.iter().map(|r| r[0]).collect() };
            if self.up {
                self.cells.remove(0);
                self.cells.push(row.to_vec());
            } else {
                for (cells, &x) in self.cells.iter_mut().zip(row) {
                    cells.remove(0);
                    cells.push(x);
                }
            }
            self.counter = (self.counter + 1) % self.dim;
            self.up ^= self.counter == 0;
            out
        }
    }

    #[test]
    fn the_outputs_are_those_of_the_shifting_registers() {
        for dim in [2, 4, 8, 16] {
            let mut hardware = Shifting { dim, cells: vec![vec![0; dim]; dim], up: false, counter: 0 };
            let mut model: Transposer = Transposer::new(dim);
            for step in 0..5 * dim + 1 {
                let row: Vec<i8> = (0..dim).map(|lane| (step * 31 + lane * 7) as i8).collect();
                assert_eq!(model.output().0[..dim], hardware.step(&row), "DIM {dim}, step {step}");
                model.push(row.into_iter());
            }
        }
    }
}
