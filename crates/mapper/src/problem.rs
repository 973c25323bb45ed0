//! What is to be mapped: a product or a convolution.

use std::fmt;

use pollux_kernels::{ConvShape, MatmulShape};
use serde::{Deserialize, Serialize};

/// What follows a product's sums on their way out of the accumulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOut {
    /// Scaled to int8.
    #[default]
    Plain,
    /// The same, negative results become 0.
    Relu,
    /// LayerNorm of whole rows: in the product itself, or as a pass of its own over int32 sums in main memory.
    LayerNorm,
}

/// C (m x n) = read-out (A (m x k) B (k x n) + bias), row-major and without gaps in main memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatmulProblem {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Whether an int32 row is added to each row of the product.
    pub bias: bool,
    /// What follows.
    pub read_out: ReadOut,
}

impl MatmulProblem {
    /// A plain product.
    pub fn new(m: usize, n: usize, k: usize) -> Self {
        Self { m, n, k, bias: false, read_out: ReadOut::Plain }
    }

    /// The sizes as schedules see them; the two operands are not transposed.
    pub fn shape(&self) -> MatmulShape {
        MatmulShape { whole_rows: self.read_out == ReadOut::LayerNorm, ..MatmulShape::new(self.m, self.n, self.k) }
    }
}

/// A convolution and what is done with its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvProblem {
    /// Its shape.
    pub shape: ConvShape,
    /// Whether an int32 for each output channel is added.
    pub bias: bool,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A product.
    Matmul(MatmulProblem),
    /// A convolution.
    Conv(ConvProblem),
}

impl Problem {
    /// A plain product.
    pub fn matmul(m: usize, n: usize, k: usize) -> Self {
        Self::Matmul(MatmulProblem::new(m, n, k))
    }

    /// A convolution without a bias.
    pub fn conv(shape: ConvShape) -> Self {
        Self::Conv(ConvProblem { shape, bias: false })
    }

    /// Multiply-accumulates, those with a convolution's padding included.
    pub fn macs(&self) -> u64 {
        match self {
            Self::Matmul(MatmulProblem { m, n, k, .. }) => *m as u64 * *n as u64 * *k as u64,
            Self::Conv(conv) => conv.shape.macs(),
        }
    }

    /// Bytes that have to cross the memory port at least once: each operand in, the result out.
    pub fn compulsory_bytes(&self) -> u64 {
        match self {
            Self::Matmul(MatmulProblem { m, n, k, bias, .. }) => {
                (m * k + k * n + m * n) as u64 + if *bias { *n as u64 * 4 } else { 0 }
            }
            Self::Conv(ConvProblem { shape, bias }) => {
                let elements: usize = shape.views().iter().map(|(rows, cols)| rows * cols).sum();
                elements as u64 + if *bias { shape.out_channels as u64 * 4 } else { 0 }
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matmul(MatmulProblem { m, n, k, .. }) => write!(f, "matmul {m}x{k}x{n} (m x k x n)"),
            Self::Conv(ConvProblem { shape: s, .. }) => {
                let [rows, cols] = s.pooled_pixels();
                write!(
                    f,
                    "conv {}x{}, {}x{}x{} to {rows}x{cols}x{}, stride {}, batch {}",
                    s.kernel, s.kernel, s.in_rows, s.in_cols, s.in_channels, s.out_channels, s.stride, s.batch
                )
            }
        }
    }
}
