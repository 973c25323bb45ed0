//! Sums of products with diagonal matrices: `C = read_out(sum of operand * diagonal + bias)`.
//!
//! A diagonal B operand multiplies each column of A by its own int8 factor. With two operands this is a residual
//! addition with per-channel factors; the read-out adds LayerNorm or GELU. Only the blocks on the diagonal are
//! stored, loaded and multiplied; all others are zero.

mod blocks;
mod kernel;

use pollux_asm::program::ElementType;
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::view::View;
use blocks::Diagonals;
pub use blocks::{ColumnGroup, DiagonalOperand};
use kernel::{Kernel, Stream};

/// One operand times a diagonal matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagonalTerm {
    /// The operand.
    pub operand: DiagonalOperand,
    /// Main diagonal, one factor a column.
    pub diagonal: Vec<i8>,
}

/// A sum of diagonal products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagonalSum {
    /// Accumulated in this order; one operand may occur more than once.
    pub terms: Vec<DiagonalTerm>,
    /// One int32 a column.
    pub bias: Vec<i32>,
    /// Activation of the read-out.
    pub activation: Activation,
    /// Cover all columns, in order.
    pub groups: Vec<ColumnGroup>,
}

impl DiagonalSum {
    /// Puts the diagonals and the bias into main memory, as buffers `NAME.diagonals` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters of different lengths, groups that do not cover the columns, no term, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedDiagonalSum, KernelError> {
        let columns = self.bias.len();
        if self.terms.is_empty() {
            let what = "it needs at least one term".to_owned();
            return Err(KernelError::Parameter { operation: name.to_owned(), what });
        }
        let terms: Vec<(DiagonalOperand, &[i8])> =
            self.terms.iter().map(|term| (term.operand, term.diagonal.as_slice())).collect();
        let diagonals = Diagonals::place(builder, name, columns, &terms, self.activation, &self.groups)?;
        let bias = builder.buffer_i32(&format!("{name}.bias"), 1, columns, &self.bias)?;
        Ok(PlacedDiagonalSum { diagonals, bias })
    }
}

fn check_shape(
    builder: &ProgramBuilder,
    operand: &'static str,
    view: &View,
    expected: (usize, usize),
    element: ElementType,
) -> Result<(), KernelError> {
    let found = (view.rows, view.cols);
    if found == expected && view.element == element {
        return Ok(());
    }
    Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected })
}

/// A [`DiagonalSum`] whose parameters are in main memory.
#[derive(Clone, Debug)]
pub struct PlacedDiagonalSum {
    diagonals: Diagonals,
    bias: View,
}

impl PlacedDiagonalSum {
    /// Emits the sum over all rows. `residual` may be the branch itself if no term has it.
    ///
    /// # Errors
    /// Operands of the wrong shape, rows that do not fit the accumulator, or a value that has no encoding.
    pub fn lower(
        &self,
        builder: &mut ProgramBuilder,
        branch: &View,
        residual: &View,
        out: &View,
    ) -> Result<(), KernelError> {
        let expected = (out.rows, self.bias.cols);
        for (operand, view) in [("the branch", branch), ("the residual", residual), ("the result", out)] {
            check_shape(builder, operand, view, expected, ElementType::I8)?;
        }
        let stream = Stream { start: View { rows: out.rows, stride: 0, ..self.bias }, sums: None };
        Kernel::new(&self.diagonals, builder, [branch, residual], stream, out)?.lower(builder)
    }
}

/// A residual addition whose stream stays int32, and its LayerNorm: `sums = stream + branch * diagonals`,
/// `out = LayerNorm(sums)` as int8.
///
/// A decoder's residual stream is never normalised in place, so as int8 it would be rounded at every addition. The
/// accumulator takes it as the start of the sums, gives the sums back in full width, and then sends the same rows through
/// the normalizer. Needs a build with `acc_read_full_width` and `has_normalizations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResidualNorm {
    /// Columns.
    pub columns: usize,
    /// Diagonals on the branch, accumulated in this order. Without any, the stream is only normalised.
    pub terms: Vec<Vec<i8>>,
    /// Cover all columns, in order; each scale goes through all passes of the normalizer.
    pub groups: Vec<ColumnGroup>,
}

impl ResidualNorm {
    /// Puts the diagonals into main memory, as the buffer `NAME.diagonals`.
    ///
    /// # Errors
    /// Diagonals of another length, groups that do not cover the columns, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedResidualNorm, KernelError> {
        let terms: Vec<(DiagonalOperand, &[i8])> =
            self.terms.iter().map(|term| (DiagonalOperand::Branch, term.as_slice())).collect();
        let diagonals = Diagonals::place(builder, name, self.columns, &terms, Activation::LayerNorm, &self.groups)?;
        Ok(PlacedResidualNorm { diagonals, columns: self.columns })
    }
}

/// A [`ResidualNorm`] whose parameters are in main memory.
#[derive(Clone, Debug)]
pub struct PlacedResidualNorm {
    diagonals: Diagonals,
    columns: usize,
}

/// The matrices of a [`ResidualNorm`], all of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualNormViews {
    /// int32.
    pub stream: View,
    /// int8; needed only if there are diagonals.
    pub branch: Option<View>,
    /// int32; may be the stream itself, and is left out if nobody needs it.
    pub sums: Option<View>,
    /// int8.
    pub out: View,
}

impl PlacedResidualNorm {
    /// Emits the operation over all rows.
    ///
    /// # Errors
    /// Matrices of the wrong shape or type, a build without full-width stores, rows that do not fit the accumulator, or a
    /// value that has no encoding.
    pub fn lower(&self, builder: &mut ProgramBuilder, views: &ResidualNormViews) -> Result<(), KernelError> {
        let ResidualNormViews { stream, branch, sums, out } = *views;
        let expected = (out.rows, self.columns);
        check_shape(builder, "the result", &out, expected, ElementType::I8)?;
        check_shape(builder, "the stream", &stream, expected, ElementType::I32)?;
        let branch = match branch {
            Some(branch) => branch,
            // Nothing reads it without diagonals.
            None if self.diagonals.operands.is_empty() => out,
            None => return Err(self.refuse(builder, "it has diagonals, so it needs a branch")),
        };
        check_shape(builder, "the branch", &branch, expected, ElementType::I8)?;
        if let Some(sums) = &sums {
            check_shape(builder, "the sums", sums, expected, ElementType::I32)?;
            if !builder.config().acc_read_full_width {
                return Err(self.refuse(builder, "int32 sums need a build with `acc_read_full_width`"));
            }
        }
        Kernel::new(&self.diagonals, builder, [&branch; 2], Stream { start: stream, sums }, &out)?.lower(builder)
    }

    fn refuse(&self, builder: &ProgramBuilder, what: &str) -> KernelError {
        KernelError::Parameter { operation: builder.operation().to_owned(), what: what.to_owned() }
    }
}
