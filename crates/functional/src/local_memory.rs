//! The local memories: rows of DIM elements (`Scratchpad.scala`, `AccumulatorMem.scala`). Banks matter for timing only.

/// The scratchpad (`i8`) or the accumulator (`i32`), all banks in a row, and which rows were ever written.
///
/// Rows start as zeros, as on the golden bench.
#[derive(Clone, Debug)]
pub struct LocalMemory<T> {
    width: usize,
    elements: Vec<T>,
    written: Vec<bool>,
    /// Rows that were written since they were asked for last, if anybody asks.
    noted: Option<Vec<u32>>,
}

impl<T: Copy + Default> LocalMemory<T> {
    /// A memory of `rows` rows of `width` elements.
    pub fn new(rows: usize, width: usize) -> Self {
        Self { width, elements: vec![T::default(); rows * width], written: vec![false; rows], noted: None }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.written.len()
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row(&self, row: usize) -> &[T] {
        &self.elements[row * self.width..][..self.width]
    }

    /// A row, to be written; counts as written from now on.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        self.written[row] = true;
        if let Some(noted) = &mut self.noted {
            noted.push(row as u32);
        }
        &mut self.elements[row * self.width..][..self.width]
    }

    /// `count` rows in a row, all of which were written before; nothing if one was not, or does not exist.
    #[inline]
    pub(crate) fn written_rows(&self, first: usize, count: usize) -> Option<&[T]> {
        let written = self.written.get(first..first.checked_add(count)?)?;
        written.iter().all(|&written| written).then(|| &self.elements[first * self.width..][..count * self.width])
    }

    /// `count` rows in a row, to be written; nothing if one does not exist, or if somebody wants to know the order of the writes.
    #[inline]
    pub(crate) fn rows_mut(&mut self, first: usize, count: usize) -> Option<&mut [T]> {
        if self.noted.is_some() {
            return None;
        }
        self.written.get_mut(first..first.checked_add(count)?)?.fill(true);
        Some(&mut self.elements[first * self.width..][..count * self.width])
    }

    /// Notes from now on which rows are written.
    pub(crate) fn note_writes(&mut self) {
        self.noted = Some(Vec::new());
    }

    /// The rows that were noted since this was asked last.
    pub(crate) fn take_noted(&mut self) -> Vec<u32> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether any element of the row was ever written.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn is_written(&self, row: usize) -> bool {
        self.written[row]
    }
}
