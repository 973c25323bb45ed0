//! Files that never exceed their size.

use std::fmt;
use std::io::{self, Write};

use pollux_sim::observer::Cycle;

/// What did not fit into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The first cycle of which something is missing.
    pub from: Cycle,
    /// How many things: commands, slices, or changes of signals.
    pub count: u64,
    /// Bytes that the file may have.
    pub budget: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, count, budget } = self;
        write!(f, "{count} entries from cycle {from} on are left out, as the file may have {budget} bytes")
    }
}

/// A writer that counts, and knows what may still be written.
#[derive(Debug)]
pub(super) struct Budget<W> {
    out: W,
    limit: u64,
    written: u64,
    /// Bytes that are kept for what must still be written to end the file.
    pub reserved: u64,
    error: Option<io::Error>,
    left_out: Option<LeftOut>,
}

impl<W: Write> Budget<W> {
    pub fn new(out: W, limit: u64, reserved: u64) -> Self {
        Self { out, limit, written: 0, reserved, error: None, left_out: None }
    }

    /// So many bytes can be written, and `more` reserved beside what is.
    pub fn has_room(&self, bytes: usize, more: u64) -> bool {
        self.written + bytes as u64 + self.reserved + more <= self.limit
    }

    /// Writes bytes for which there is room. The first error is kept, and nothing is written after it.
    pub fn write(&mut self, bytes: &[u8]) {
        debug_assert!(self.written + bytes.len() as u64 <= self.limit, "the budget was not asked");
        self.written += bytes.len() as u64;
        if self.error.is_none() {
            self.error = self.out.write_all(bytes).err();
        }
    }

    /// Something that begins in this cycle did not fit.
    pub fn leave_out(&mut self, from: Cycle) {
        let budget = self.limit;
        let left_out = self.left_out.get_or_insert(LeftOut { from, count: 0, budget });
        left_out.from = left_out.from.min(from);
        left_out.count += 1;
    }

    pub fn left_out(&self) -> Option<LeftOut> {
        self.left_out
    }

    /// The writer, when all is written.
    pub fn finish(mut self) -> io::Result<(W, Option<LeftOut>)> {
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| (self.out, self.left_out)),
        }
    }
}
