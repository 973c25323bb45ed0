//! A dense row-major matrix with its shape.

use serde::{Deserialize, Serialize};

/// A dense matrix, row-major; element (r, c) is `data[r * cols + c]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix<T> {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` elements.
    pub data: Vec<T>,
}

impl<T: Copy + Default> Matrix<T> {
    /// A matrix of default (zero) elements.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![T::default(); rows * cols] }
    }

    /// A matrix with `rows` rows over `data`; the column count follows.
    ///
    /// # Panics
    /// If the length of `data` is no multiple of `rows`: callers check external sizes first.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<T>) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows}x{cols} matrix needs {} elements", rows * cols);
        Self { rows, cols, data }
    }

    /// A matrix whose element (r, c) is `f(r, c)`.
    pub fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> T) -> Self {
        let data = (0..rows * cols).map(|i| f(i / cols, i % cols)).collect();
        Self { rows, cols, data }
    }

    /// Row `r`.
    pub fn row(&self, r: usize) -> &[T] {
        &self.data[r * self.cols..(r + 1) * self.cols]
    }

    /// Row `r`, writable.
    pub fn row_mut(&mut self, r: usize) -> &mut [T] {
        &mut self.data[r * self.cols..(r + 1) * self.cols]
    }

    /// Element (r, c).
    pub fn at(&self, r: usize, c: usize) -> T {
        self.data[r * self.cols + c]
    }

    /// Column `c`, copied.
    pub fn column(&self, c: usize) -> Vec<T> {
        (0..self.rows).map(|r| self.at(r, c)).collect()
    }

    /// The rectangle of all rows and the given columns, copied.
    pub fn columns(&self, range: std::ops::Range<usize>) -> Self {
        Self::from_fn(self.rows, range.len(), |r, c| self.at(r, range.start + c))
    }

    /// Appends the rows of a matrix of the same width (of any width if this one is empty).
    ///
    /// # Panics
    /// If the widths differ.
    pub fn append(&mut self, rows: &Self) {
        if self.rows == 0 {
            self.cols = rows.cols;
        }
        assert_eq!(self.cols, rows.cols, "rows of one width");
        self.rows += rows.rows;
        self.data.extend_from_slice(&rows.data);
    }

    /// The transposed matrix.
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |r, c| self.at(c, r))
    }
}
