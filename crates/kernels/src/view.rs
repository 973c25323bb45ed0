//! Matrices in main memory.

use std::ops::Range;

use pollux_asm::program::ElementType;

use crate::error::KernelError;

/// A matrix, or a part of one, in main memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Address of the first element.
    pub address: u64,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Element type.
    pub element: ElementType,
}

impl View {
    /// Bytes from one row to the next.
    pub fn stride_bytes(&self) -> u64 {
        self.stride as u64 * self.element.size()
    }

    /// Address of an element; it may lie outside the matrix.
    pub fn at(&self, row: usize, col: usize) -> u64 {
        self.address + (row as u64 * self.stride as u64 + col as u64) * self.element.size()
    }

    /// Some of the columns.
    ///
    /// # Errors
    /// The matrix does not have them.
    pub fn columns(&self, range: Range<usize>) -> Result<Self, KernelError> {
        check("columns", &range, self.cols)?;
        Ok(Self { address: self.at(0, range.start), cols: range.len(), ..*self })
    }

    /// Some of the rows.
    ///
    /// # Errors
    /// The matrix does not have them.
    pub fn rows(&self, range: Range<usize>) -> Result<Self, KernelError> {
        check("rows", &range, self.rows)?;
        Ok(Self { address: self.at(range.start, 0), rows: range.len(), ..*self })
    }
}

fn check(axis: &'static str, range: &Range<usize>, extent: usize) -> Result<(), KernelError> {
    if range.start <= range.end && range.end <= extent {
        return Ok(());
    }
    Err(KernelError::Slice { axis, start: range.start, end: range.end, extent })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATRIX: View = View { address: 0x1000, rows: 4, cols: 6, stride: 8, element: ElementType::I32 };

    #[test]
    fn a_part_keeps_the_stride() {
        let part = MATRIX.rows(1..3).and_then(|v| v.columns(2..6)).unwrap();
        assert_eq!((part.address, part.rows, part.cols, part.stride), (0x1000 + 4 * (8 + 2), 2, 4, 8));
        assert_eq!(part.at(1, 1), 0x1000 + 4 * (16 + 3));
        assert_eq!(part.stride_bytes(), 32);
    }

    #[test]
    fn a_part_outside_the_matrix_is_refused() {
        let message = MATRIX.columns(4..7).unwrap_err().to_string();
        assert_eq!(message, "columns 4..7 of a matrix with 6 columns: take a part inside it");
    }
}
