//! How long the host takes: instructions of plain loops, each with a fixed cost.

use pollux_kernels::Activation;
use serde::{Deserialize, Serialize};

use super::step::HostStep;

/// Instructions by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostWork {
    /// Integer additions, shifts, comparisons, branches, and moves between register files.
    pub integer: u64,
    /// Integer multiplications.
    pub multiply: u64,
    /// Integer divisions and square roots.
    pub divide: u64,
    /// Float32 additions, multiplications and conversions.
    pub float: u64,
    /// Float32 divisions.
    pub float_divide: u64,
    /// Loads and stores.
    pub memory: u64,
    /// Bytes that come from or go to memory at least once.
    pub bytes: u64,
}

impl HostWork {
    /// This work on sums, and LayerNorm of their `n` elements in `rows` rows.
    fn with_layer_norm(self, rows: u64, n: u64) -> Self {
        Self {
            // Sum; difference and sum of squares; difference.
            integer: self.integer + n * 4,
            multiply: self.multiply + n,
            // Mean, variance, square root.
            divide: rows * 3,
            float: self.float + rows * 2,
            float_divide: rows,
            // The sum is kept and read three times.
            memory: self.memory + n * 4,
            ..self
        }
    }
}

/// Cycles of a host instruction of each kind.
///
/// The default is Rocket's big core as Gemmini's SoCs have it (rocket-chip `Configs.scala`, `WithNHugeCores`): one
/// instruction a cycle in order; `mulUnroll = 8` gives 64 / 8 steps for a multiplication (fewer with early out), one
/// quotient bit a step for a 32-bit division; `sfmaLatency = 3` with each result used by the next instruction; and the
/// divide unit's 24 significand bits. A cache line from the L2 takes as long as the accelerator's own default latency.
/// These are estimates from the parameters of the hardware, not measurements of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostModel {
    /// Simple integer instruction.
    pub integer: u64,
    /// Integer multiplication.
    pub multiply: u64,
    /// Integer division or square root.
    pub divide: u64,
    /// Float32 addition, multiplication or conversion.
    pub float: u64,
    /// Float32 division.
    pub float_divide: u64,
    /// Load or store that hits the L1.
    pub memory: u64,
    /// Bytes of a cache line.
    pub line_bytes: u64,
    /// Cycles to fetch one.
    pub line_cycles: u64,
}

impl Default for HostModel {
    fn default() -> Self {
        Self {
            integer: 1,
            multiply: 8,
            divide: 34,
            float: 4,
            float_divide: 27,
            memory: 2,
            line_bytes: 64,
            line_cycles: 40,
        }
    }
}

impl HostModel {
    /// What the default describes, for reports.
    pub const NAME: &str = "in-order core, estimated from Rocket's parameters";

    /// The parameters with their names, for reports.
    pub fn parameters(&self) -> [(&'static str, u64); 8] {
        [
            ("integer", self.integer),
            ("multiply", self.multiply),
            ("divide", self.divide),
            ("float", self.float),
            ("float divide", self.float_divide),
            ("load or store", self.memory),
            ("cache line", self.line_cycles),
            ("bytes of a line", self.line_bytes),
        ]
    }

    /// Cycles of some work.
    pub fn cycles(&self, work: &HostWork) -> u64 {
        work.integer * self.integer
            + work.multiply * self.multiply
            + work.divide * self.divide
            + work.float * self.float
            + work.float_divide * self.float_divide
            + work.memory * self.memory
            + work.bytes.div_ceil(self.line_bytes.max(1)) * self.line_cycles
    }
}

impl HostStep {
    /// The instructions of the work: loops as a compiler would leave them, without loop overhead on the inner
    /// statements (unrolled).
    pub fn work(&self) -> HostWork {
        match self {
            Self::Softmax { scores, .. } => {
                let (rows, n) = (scores.rows as u64, (scores.rows * scores.cols) as u64);
                HostWork {
                    // Maximum: compare. Exponential: negate, two shifts, five additions, range check. Read-out: clamp twice.
                    integer: n * (1 + 9 + 2),
                    // q * qln2_inv, z * qln2, p * p.
                    multiply: n * 3,
                    divide: 0,
                    // Conversion, product, conversion; once a row 127/sum and its scale.
                    float: n * 3 + rows * 2,
                    float_divide: rows,
                    // The maximum and the exponential each load; the exponential is stored, loaded and stored as int8.
                    memory: n * 5,
                    bytes: n * (4 + 4 + 1),
                }
            }
            Self::RowSoftmax { input, .. } => {
                let (rows, n) = (input.rows as u64, (input.rows * input.cols) as u64);
                HostWork {
                    // Maximum: compare; difference; exponent's insertion.
                    integer: n * 3,
                    // Two conversions, the scale, the sum, the factor; the exponential's reduction (3) and polynomial (5).
                    float: n * (2 + 3 + 8),
                    float_divide: rows,
                    // The maximum and the exponential each load; the exponential is stored and loaded; the result.
                    memory: n * 5,
                    bytes: n * 2,
                    ..HostWork::default()
                }
            }
            Self::DiagonalSum { sum, out, .. } => {
                let (rows, n) = (out.rows as u64, (out.rows * out.cols) as u64);
                let terms = sum.terms.len() as u64;
                let linear = HostWork {
                    // Additions and the clamp.
                    integer: n * (terms + 2),
                    multiply: n * terms,
                    divide: 0,
                    float: n * 3,
                    float_divide: 0,
                    // Operand and factor of each term, bias, result.
                    memory: n * (2 * terms + 2),
                    bytes: n * (terms + 1),
                };
                match sum.activation {
                    Activation::LayerNorm => linear.with_layer_norm(rows, n),
                    // Sign, minimum, four additions; two products.
                    Activation::Gelu(_) => {
                        HostWork { integer: linear.integer + n * 7, multiply: linear.multiply + n * 2, ..linear }
                    }
                    _ => linear,
                }
            }
            Self::ResidualNorm { norm, views } => {
                let (rows, n) = (views.out.rows as u64, (views.out.rows * views.out.cols) as u64);
                let (terms, stored) = (norm.terms.len() as u64, u64::from(views.sums.is_some()));
                let linear = HostWork {
                    // Additions and the clamp.
                    integer: n * (terms + 2),
                    multiply: n * terms,
                    float: n * 3,
                    // Branch and factor of each term, stream, sum, result.
                    memory: n * (2 * terms + 2 + stored),
                    bytes: n * (4 + 4 * stored + terms.min(1) + 1),
                    ..HostWork::default()
                };
                linear.with_layer_norm(rows, n)
            }
            Self::Shift { out, .. } => {
                let n = (out.rows * out.cols) as u64;
                // Addition and shift; load and store.
                HostWork { integer: n * 2, memory: n * 2, bytes: n * 8, ..HostWork::default() }
            }
            Self::KeepTokens { probabilities, input, out } => {
                let n = (probabilities.rows * probabilities.cols) as u64;
                let copied = (out.rows * out.cols) as u64;
                let compares = (input.rows * out.rows) as u64;
                HostWork {
                    // One addition a probability; selection by repeated maximum.
                    integer: n + compares,
                    // A probability at a time, words of eight bytes when copying.
                    memory: n + copied.div_ceil(8) * 2,
                    bytes: n + 2 * copied,
                    ..HostWork::default()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_the_sum_over_instructions_and_lines() {
        let model = HostModel::default();
        let work = HostWork { integer: 3, divide: 1, bytes: 65, ..HostWork::default() };
        assert_eq!(model.cycles(&work), 3 + 34 + 2 * 40);
    }
}
