//! Word embedding tables: float32, or int8 rows with a scale each, a quarter of the size.

use crate::matrix::Matrix;

/// One row for each token of the vocabulary, as wide as the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub enum WordTable {
    /// float32.
    Float(Matrix<f32>),
    /// Element (r, c) stands for `elements(r, c) * scales[r]`.
    Int8 {
        /// -127 to 127.
        elements: Matrix<i8>,
        /// One for each row.
        scales: Vec<f32>,
    },
}

impl WordTable {
    /// Rows: tokens of the vocabulary.
    pub fn rows(&self) -> usize {
        match self {
            Self::Float(table) => table.rows,
            Self::Int8 { elements, .. } => elements.rows,
        }
    }

    /// Element (r, c).
    pub fn at(&self, r: usize, c: usize) -> f32 {
        match self {
            Self::Float(table) => table.at(r, c),
            Self::Int8 { elements, scales } => f32::from(elements.at(r, c)) * scales[r],
        }
    }

    /// All elements, row by row.
    pub fn to_floats(&self) -> Vec<f32> {
        match self {
            Self::Float(table) => table.data.clone(),
            Self::Int8 { elements, scales } => {
                let row = |r: usize| elements.row(r).iter().map(move |&q| f32::from(q) * scales[r]);
                (0..elements.rows).flat_map(row).collect()
            }
        }
    }

    /// The table in int8: each row's largest element becomes 127.
    #[must_use]
    pub fn to_int8(&self) -> Self {
        let Self::Float(table) = self else { return self.clone() };
        let largest = |r: usize| table.row(r).iter().fold(0f32, |max, x| max.max(x.abs()));
        // A row of zeros keeps them at any scale.
        let scales: Vec<f32> = (0..table.rows).map(|r| (largest(r) / 127.0).max(f32::MIN_POSITIVE)).collect();
        let quantised = |r: usize, c: usize| (table.at(r, c) / scales[r]).round().clamp(-127.0, 127.0) as i8;
        Self::Int8 { elements: Matrix::from_fn(table.rows, table.cols, quantised), scales }
    }

    /// Renumbers the columns: new column `i` is the present column `order[i]`.
    pub(crate) fn reorder_columns(&mut self, order: &[usize]) {
        match self {
            Self::Float(table) => *table = reordered(table, order),
            Self::Int8 { elements, .. } => *elements = reordered(elements, order),
        }
    }
}

fn reordered<T: Copy + Default>(table: &Matrix<T>, order: &[usize]) -> Matrix<T> {
    Matrix::from_fn(table.rows, table.cols, |r, c| table.at(r, order[c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_rounded_by_half_a_step_of_its_own_scale_at_most() {
        let float = Matrix::from_vec(3, 3, vec![0.5, -0.25, 0.1, -1e-3, 1e-4, 7e-4, 0.0, 0.0, 0.0]);
        let table = WordTable::Float(float.clone()).to_int8();
        let WordTable::Int8 { elements, scales } = &table else { panic!("int8") };
        assert_eq!(elements.data, [127, -64, 25, -127, 13, 89, 0, 0, 0]);
        for (i, value) in table.to_floats().into_iter().enumerate() {
            let (r, c) = (i / 3, i % 3);
            assert!((value - float.at(r, c)).abs() <= scales[r] / 2.0, "({r}, {c})");
            assert_eq!(value, table.at(r, c));
        }
        assert_eq!(table.to_int8(), table);
    }
}
