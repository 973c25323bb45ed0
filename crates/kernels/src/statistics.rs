//! How much work the emitted commands do.

use serde::Serialize;

/// Work of one operation, its loops unrolled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationStatistics {
    /// Name given to [`crate::ProgramBuilder::begin`].
    pub name: String,
    /// Commands at the accelerator's port; a loop counts as the commands that configure and start it.
    pub commands: u64,
    /// Multiply-accumulates of elements that take part; padding counts nothing.
    pub macs: u64,
    /// Bytes read from main memory.
    pub bytes_in: u64,
    /// Bytes written to main memory.
    pub bytes_out: u64,
}

impl OperationStatistics {
    /// Multiply-accumulates per byte moved; 0 if none is moved.
    pub fn intensity(&self) -> f64 {
        match self.bytes_in + self.bytes_out {
            0 => 0.0,
            bytes => self.macs as f64 / bytes as f64,
        }
    }
}

/// Work of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// By operation, in program order.
    pub operations: Vec<OperationStatistics>,
}

impl Statistics {
    /// The sum over all operations.
    pub fn total(&self) -> OperationStatistics {
        self.operations.iter().fold(
            OperationStatistics { name: "total".to_owned(), ..Default::default() },
            |mut total, operation| {
                total.commands += operation.commands;
                total.macs += operation.macs;
                total.bytes_in += operation.bytes_in;
                total.bytes_out += operation.bytes_out;
                total
            },
        )
    }
}
