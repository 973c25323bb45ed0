//! How long the host takes: instructions of plain loops, each with a fixed cost.

use pollux_kernels::Activation;
use pollux_model::graph::{Format, HostOperand, IntegerOperation, Numbers, Operator, Task};
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
            Self::Task { task, .. } => task_work(task),
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

impl HostWork {
    /// The same for each of `n` elements.
    fn times(self, n: u64) -> Self {
        let Self { integer, multiply, divide, float, float_divide, memory, bytes } = self;
        Self {
            integer: integer * n,
            multiply: multiply * n,
            divide: divide * n,
            float: float * n,
            float_divide: float_divide * n,
            memory: memory * n,
            bytes: bytes * n,
        }
    }
}

impl std::ops::Add for HostWork {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            integer: self.integer + other.integer,
            multiply: self.multiply + other.multiply,
            divide: self.divide + other.divide,
            float: self.float + other.float,
            float_divide: self.float_divide + other.float_divide,
            memory: self.memory + other.memory,
            bytes: self.bytes + other.bytes,
        }
    }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().product::<usize>() as u64
}

/// Reading an operand once, and its conversion to float32.
fn read(format: &Format) -> HostWork {
    let each = match format.numbers {
        // Conversion and product.
        Numbers::Int8 { .. } | Numbers::Rows => HostWork { float: 2, memory: 1, bytes: 1, ..HostWork::default() },
        // And an offset; both are loaded.
        Numbers::Channels { .. } => HostWork { float: 3, memory: 3, bytes: 1, ..HostWork::default() },
        // The same; each sum and its channel's scale are loaded.
        Numbers::Int32 { .. } => HostWork { float: 2, memory: 2, bytes: 4, ..HostWork::default() },
        Numbers::Float => HostWork { memory: 1, bytes: 4, ..HostWork::default() },
    };
    each.times(elements(&format.shape))
}

/// Writing a result once, and its conversion from float32.
fn write(format: &Format) -> HostWork {
    let n = elements(&format.shape);
    let rows = n / format.shape.last().map_or(1, |&width| width.max(1) as u64);
    // Product and conversion, clamped at both ends.
    let int8 = HostWork { float: 2, integer: 2, memory: 1, bytes: 1, ..HostWork::default() };
    match format.numbers {
        Numbers::Int8 { .. } => int8.times(n),
        Numbers::Channels { .. } => (int8 + HostWork { float: 1, memory: 2, ..HostWork::default() }).times(n),
        // The result is kept; its largest magnitude, a division for the scale, and the row once more.
        Numbers::Rows => {
            let largest = HostWork { float: 1, memory: 2, ..HostWork::default() };
            let scale = HostWork { float_divide: 2, memory: 1, bytes: 4, ..HostWork::default() };
            (int8 + largest).times(n) + scale.times(rows)
        }
        Numbers::Float | Numbers::Int32 { .. } => HostWork { memory: 1, bytes: 4, ..HostWork::default() }.times(n),
    }
}

/// Reading the operands of a step.
fn reading(task: &Task, operands: &[HostOperand]) -> HostWork {
    let mut tensors = task.inputs.iter();
    let (mut sums, mut work) = (0, HostWork::default());
    for operand in operands {
        work = work
            + match operand {
                HostOperand::Constant { shape, .. } => {
                    HostWork { memory: 1, bytes: 4, ..HostWork::default() }.times(elements(shape))
                }
                HostOperand::Tensor => tensors.next().map_or_else(HostWork::default, |format| {
                    sums = elements(&format.shape);
                    read(format)
                }),
                // One more factor for every sum.
                HostOperand::RowScales => {
                    tensors.next();
                    HostWork { float: 1, ..HostWork::default() }.times(sums)
                }
            };
    }
    work
}

/// float32 additions, multiplications and divisions of a function that takes an exponential or a root: its reduction (3), a
/// polynomial (5), and a division.
const HARD: HostWork = HostWork { integer: 1, multiply: 0, divide: 0, float: 8, float_divide: 1, memory: 0, bytes: 0 };

/// A step of a network on the host.
fn task_work(task: &Task) -> HostWork {
    let (first, out) = (&task.inputs[0], &task.output);
    let n = elements(&out.shape);
    let float = |float: u64| HostWork { float, ..HostWork::default() };
    let IntegerOperation::Host { operator, operands, .. } = &task.operation else {
        return integer_work(task);
    };
    let own = match operator {
        // Bytes or words that are copied, and their addresses.
        Operator::Transpose { .. } | Operator::Take { .. } | Operator::Pad { .. } if first.numbers == out.numbers => {
            return HostWork { integer: 1, memory: 2, bytes: 2 * out.numbers.bytes(), ..HostWork::default() }.times(n);
        }
        Operator::Elementwise { .. } if first.numbers.scale().is_some() => {
            // A table of 256 results; its computation is left out.
            return HostWork { memory: 3, bytes: 1 + out.numbers.bytes(), ..HostWork::default() }.times(n);
        }
        Operator::Elementwise { expression } => {
            let [hard, simple] = expression.costs();
            (HARD.times(hard) + float(simple)).times(n)
        }
        Operator::Gelu { .. } => (HARD + float(4)).times(n),
        // One row of each table.
        Operator::Embedding { position, segment, .. } => {
            let tables = 1 + u64::from(*position) + u64::from(*segment);
            return HostWork { float: tables - 1, memory: tables, bytes: 4 * tables, ..HostWork::default() }.times(n)
                + write(out);
        }
        Operator::Gather { .. } => {
            return HostWork { memory: 1, bytes: 4, ..HostWork::default() }.times(n) + write(out);
        }
        // Maximum, difference, exponential, sum, factor.
        Operator::Softmax => (HARD + float(4)).times(n),
        // Square and sum; factor and gamma; a root and a division a row.
        Operator::RmsNorm { .. } => {
            let rows = n / first.shape.last().map_or(1, |&width| width.max(1) as u64);
            float(4).times(n) + HARD.times(rows)
        }
        // Two products and a sum, with sine and cosine from a table, whose computation is left out.
        Operator::Rotary { .. } => (float(3) + HostWork { memory: 1, bytes: 4, ..HostWork::default() }).times(n),
        // Mean; difference and square; difference, factor, gamma and beta.
        Operator::LayerNorm { .. } => float(7).times(n),
        Operator::MatMul { .. } | Operator::Attention { .. } | Operator::Conv2d(_) => products(task, operator),
        Operator::Reduce { .. } | Operator::Pooling { .. } => float(1).times(elements(&first.shape)),
        Operator::Resample { taps, .. } => float(2 * taps.iter().map(Vec::len).max().unwrap_or(1) as u64).times(n),
        Operator::LocalResponseNorm { size, .. } => (HARD + float(2 * *size as u64 + 2)).times(n),
        Operator::MaxPool(window) | Operator::AveragePool { window, .. } => {
            float((window.kernel[0] * window.kernel[1]) as u64).times(n)
        }
        _ => float(1).times(n),
    };
    reading(task, operands) + own + write(out)
}

/// float32 products: a multiplication and an addition each, and their operands' loads.
fn products(task: &Task, operator: &Operator) -> HostWork {
    let mut tensors = task.inputs.iter().map(|format| &format.shape[..]);
    let IntegerOperation::Host { operands, .. } = &task.operation else { return HostWork::default() };
    let shapes: Vec<&[usize]> = operands
        .iter()
        .filter_map(|operand| match operand {
            HostOperand::Tensor => tensors.next(),
            HostOperand::RowScales => tensors.next().and(None),
            HostOperand::Constant { shape, .. } => Some(&shape[..]),
        })
        .collect();
    let macs = operator.work(&shapes, &task.output.shape, 0).macs;
    HostWork { float: 2, memory: 2, ..HostWork::default() }.times(macs)
}

/// The accelerator's integers on the host.
fn integer_work(task: &Task) -> HostWork {
    let n = elements(&task.output.shape);
    let read: u64 = task.inputs.iter().map(|format| elements(&format.shape)).sum();
    let moved = HostWork { memory: 1, bytes: 1, ..HostWork::default() }.times(read + n);
    // Conversion, factor, conversion, and the clamp.
    let read_out = HostWork { integer: 2, float: 3, ..HostWork::default() }.times(n);
    let own = match &task.operation {
        IntegerOperation::MatMul(weights) | IntegerOperation::Conv2d { weights, .. } => {
            let macs = n * weights.values.rows as u64;
            HostWork { integer: 1, multiply: 1, memory: 2, ..HostWork::default() }.times(macs)
        }
        IntegerOperation::Product { .. } => {
            let terms = task.inputs[0].shape.last().copied().unwrap_or(1) as u64;
            HostWork { integer: 1, multiply: 1, memory: 2, ..HostWork::default() }.times(n * terms)
        }
        IntegerOperation::MaxPool(window) | IntegerOperation::AveragePool { window, .. } => {
            let taps = (window.kernel[0] * window.kernel[1]) as u64;
            HostWork { integer: 1, memory: 1, ..HostWork::default() }.times(n * taps)
        }
        _ => HostWork { integer: 1, float: 2, ..HostWork::default() }.times(read),
    };
    moved + own + read_out
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
