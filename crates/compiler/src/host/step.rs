//! What the host processor does between commands.
//!
//! The host computes with the accelerator's own integer arithmetic (`pollux-numerics`), so that where a row is normalized
//! does not change the result.

use std::sync::Arc;

use pollux_asm::program::ElementType;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, ResidualNorm, ResidualNormViews, SoftmaxConstants, View};
use pollux_memory::Memory;
use pollux_model::graph::{Format, Numbers, Task, Values};
use pollux_numerics::{IexpConstants, IexpVariant, Readout, Statistics, read_row};

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
    /// A step of a network: the operator's float32, or the accelerator's integers where a build lacks something.
    Task {
        /// What is done.
        task: Arc<Task>,
        /// Operands: int8, int32, or float32 as its bits.
        inputs: Vec<View>,
        /// Result.
        out: View,
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
            Self::Task { task, inputs, out } => {
                let operands = inputs.iter().zip(&task.inputs);
                let values: Vec<Values> = operands.map(|(view, format)| read_values(memory, view, format)).collect();
                // An index outside its table stops the reference, which runs before.
                if let Ok(result) = task.run(&values.iter().collect::<Vec<_>>()) {
                    memory.write(out.address, &result.to_bytes());
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

/// Values of a tensor in memory.
pub(crate) fn read_values(memory: &Memory, view: &View, format: &Format) -> Values {
    let words = || (0..view.rows).flat_map(|row| read_i32(memory, view, row));
    let bytes = || (0..view.rows).flat_map(|row| read_i8(memory, view, row)).collect();
    match format.numbers {
        Numbers::Int8 { .. } | Numbers::Channels { .. } => Values::Int8(bytes()),
        Numbers::Float => Values::Float(words().map(|bits| f32::from_bits(bits as u32)).collect()),
        Numbers::Int32 { .. } => Values::Int32(words().collect()),
        Numbers::Rows => {
            let behind = memory.read_vec(view.at(view.rows, 0), size_of::<f32>() * view.rows);
            let scales = behind.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            Values::Rows { values: bytes(), scales }
        }
    }
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
    fn the_first_token_is_kept_and_then_those_with_most_attention() {
        let mut memory = Memory::new();
        let view = View { address: 0, rows: 2, cols: 4, stride: 4, element: ElementType::I8 };
        memory.write(0, &[0, 10, 60, 20, 0, 40, 9, 30]);
        // Sums: 0, 50, 69, 50.
        assert_eq!(kept_tokens(&memory, &view, 4, 3), [0, 1, 2]);
        assert_eq!(kept_tokens(&memory, &view, 4, 1), [0]);
    }
}
