//! What the host processor does between commands, and how long it takes.
//!
//! The host computes with the accelerator's own integer arithmetic (`pollux-numerics`), so that where a row is normalized
//! does not change the result. Its time is counted in instructions of the plain loops below, each with a fixed cost.

use pollux_asm::program::ElementType;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, ResidualNorm, ResidualNormViews, SoftmaxConstants, View};
use pollux_memory::Memory;
use pollux_numerics::{IexpConstants, IexpVariant, Readout, Statistics, read_row};
use serde::{Deserialize, Serialize};

/// A piece of work for the host, on matrices in main memory.
#[derive(Clone, Debug, PartialEq)]
pub enum HostStep {
    /// int8 probabilities of int32 scores, row by row.
    Softmax {
        /// Scores, rows x keys, int32.
        scores: View,
        /// Probabilities, rows x keys, int8.
        out: View,
        /// Constants of the exponential.
        constants: SoftmaxConstants,
        /// Factor of the read-out, on top of 127/sum, of each block of `rows / factors.len()` rows.
        factors: Vec<f32>,
    },
    /// A diagonal sum with its activation.
    DiagonalSum {
        /// Branch and residual, int8.
        operands: [View; 2],
        /// Factors, bias, activation.
        sum: Box<DiagonalSum>,
        /// Result, int8.
        out: View,
    },
    /// An int32 residual addition with its LayerNorm.
    ResidualNorm {
        /// Diagonals and read-out.
        norm: Box<ResidualNorm>,
        /// The matrices.
        views: ResidualNormViews,
    },
    /// A right shift of int32, rounding half up: the residual stream in a coarser unit.
    Shift {
        /// int32.
        input: View,
        /// int32.
        out: View,
        /// Bits, at most 31.
        bits: u32,
    },
    /// Keeps the rows (tokens) that receive most attention, in their order. The first row is always kept: encoders
    /// give it a meaning of its own.
    KeepTokens {
        /// Probabilities, (heads * tokens) x tokens, int8.
        probabilities: View,
        /// All tokens, int8.
        input: View,
        /// Those kept: as many as it has rows.
        out: View,
    },
}

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
    /// Does the work on memory.
    pub fn apply(&self, memory: &mut Memory) {
        match self {
            Self::Softmax { scores, out, constants, factors } => {
                let rows_each = scores.rows.div_ceil(factors.len().max(1)).max(1);
                for r in 0..scores.rows {
                    let probabilities = softmax_row(&read_i32(memory, scores, r), *constants, factors[r / rows_each]);
                    write_i8(memory, out, r, &probabilities);
                }
            }
            Self::DiagonalSum { operands, sum, out } => {
                for r in 0..out.rows {
                    let [branch, residual] = operands.map(|view| read_i8(memory, &view, r));
                    write_i8(memory, out, r, &diagonal_row(sum, &branch, &residual));
                }
            }
            Self::ResidualNorm { norm, views } => {
                let ResidualNormViews { stream, branch, sums, out } = *views;
                for r in 0..out.rows {
                    let mut row = read_i32(memory, &stream, r);
                    if let Some(branch) = &branch {
                        let branch = read_i8(memory, branch, r);
                        norm.terms.iter().for_each(|diagonal| add_term(&mut row, &branch, diagonal));
                    }
                    if let Some(sums) = &sums {
                        write_i32(memory, sums, r, &row);
                    }
                    write_i8(memory, &out, r, &read_out_groups(&row, &Activation::LayerNorm, &norm.groups));
                }
            }
            Self::Shift { input, out, bits } => {
                let half = (1i64 << bits) >> 1;
                for r in 0..out.rows {
                    let row = read_i32(memory, input, r);
                    let row: Vec<i32> = row.iter().map(|&x| ((i64::from(x) + half) >> bits) as i32).collect();
                    write_i32(memory, out, r, &row);
                }
            }
            Self::KeepTokens { probabilities, input, out } => {
                for (to, from) in kept_tokens(memory, probabilities, input.rows, out.rows).into_iter().enumerate() {
                    let row = read_i8(memory, input, from);
                    write_i8(memory, out, to, &row);
                }
            }
        }
    }

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

/// The tokens to keep, in their order: the first, then those with the largest sums of probabilities; of equals the
/// earlier one.
pub fn kept_tokens(memory: &Memory, probabilities: &View, tokens: usize, keep: usize) -> Vec<usize> {
    let mut received = vec![0i64; tokens];
    for r in 0..probabilities.rows {
        for (sum, p) in received.iter_mut().zip(read_i8(memory, probabilities, r)) {
            *sum += i64::from(p);
        }
    }
    let mut order: Vec<usize> = (0..tokens).collect();
    order.sort_by_key(|&token| (token != 0, std::cmp::Reverse(received[token]), token));
    order.truncate(keep);
    order.sort_unstable();
    order
}

fn softmax_row(row: &[i32], constants: SoftmaxConstants, scale: f32) -> Vec<i8> {
    let SoftmaxConstants { qln2, qln2_inv, qb, qc } = constants;
    let (constants, variant) = (IexpConstants { qln2, qln2_inv, qb, qc }, IexpVariant::Exponential);
    let mut statistics = Statistics::default();
    statistics.add_max(row);
    statistics.finish_inv_sum_exp(row, &constants, variant, scale.to_bits());
    let Statistics { max, inv_sum_exp, .. } = statistics;
    read_out(row, &Readout::Softmax { max, inv_sum_exp, constants, variant })
}

/// One row of a diagonal sum.
fn diagonal_row(sum: &DiagonalSum, branch: &[i8], residual: &[i8]) -> Vec<i8> {
    let mut row = sum.bias.clone();
    for term in &sum.terms {
        let operand = match term.operand {
            DiagonalOperand::Branch => branch,
            DiagonalOperand::Residual => residual,
        };
        add_term(&mut row, operand, &term.diagonal);
    }
    read_out_groups(&row, &sum.activation, &sum.groups)
}

fn add_term(row: &mut [i32], operand: &[i8], diagonal: &[i8]) {
    for (sum, (&x, &d)) in row.iter_mut().zip(operand.iter().zip(diagonal)) {
        *sum = sum.wrapping_add(i32::from(x) * i32::from(d));
    }
}

fn read_out_groups(row: &[i32], activation: &Activation, groups: &[ColumnGroup]) -> Vec<i8> {
    let mut out = Vec::with_capacity(row.len());
    for group in groups {
        let readout = readout(activation, row, group.scale.to_bits());
        out.extend(read_out(&row[group.columns.clone()], &readout));
    }
    out
}

/// The read-out of a row whose elements share a scale.
fn readout(activation: &Activation, row: &[i32], scale: u32) -> Readout {
    match *activation {
        Activation::LayerNorm => {
            let mut statistics = Statistics::default();
            statistics.finish_mean(row);
            statistics.finish_inv_stddev(row, scale);
            Readout::LayerNorm { mean: statistics.mean, inv_stddev: statistics.inv_stddev }
        }
        Activation::Gelu(constants) => Readout::Igelu { scale, qb: constants.qb, qc: constants.qc },
        Activation::Relu => Readout::Relu { scale },
        // A diagonal sum has no softmax: its rows are features, not keys.
        Activation::None | Activation::Softmax(_) => Readout::None { scale },
    }
}

fn read_out(row: &[i32], readout: &Readout) -> Vec<i8> {
    let mut out = vec![0; row.len()];
    read_row(row, readout, &mut out);
    out
}

pub(crate) fn read_i8(memory: &Memory, view: &View, row: usize) -> Vec<i8> {
    debug_assert_eq!(view.element, ElementType::I8);
    memory.read_vec(view.at(row, 0), view.cols).into_iter().map(|byte| byte as i8).collect()
}

pub(crate) fn read_i32(memory: &Memory, view: &View, row: usize) -> Vec<i32> {
    debug_assert_eq!(view.element, ElementType::I32);
    let bytes = memory.read_vec(view.at(row, 0), view.cols * 4);
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn write_i32(memory: &mut Memory, view: &View, row: usize, data: &[i32]) {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    memory.write(view.at(row, 0), &bytes);
}

fn write_i8(memory: &mut Memory, view: &View, row: usize, data: &[i8]) {
    let bytes: Vec<u8> = data.iter().map(|&x| x as u8).collect();
    memory.write(view.at(row, 0), &bytes);
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

    #[test]
    fn the_first_token_is_kept_and_then_those_with_most_attention() {
        let mut memory = Memory::new();
        let view = View { address: 0, rows: 2, cols: 4, stride: 4, element: ElementType::I8 };
        memory.write(0, &[0, 10, 60, 20, 0, 40, 9, 30]);
        // Sums: 0, 50, 69, 50.
        assert_eq!(kept_tokens(&memory, &view, 4, 3), [0, 1, 2]);
        assert_eq!(kept_tokens(&memory, &view, 4, 1), [0]);
    }
}
