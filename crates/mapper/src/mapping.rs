//! How a problem is to be run: a schedule of the kernels, and the program that it makes.

use std::fmt;

use pollux_asm::{ElementType, Program};
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{
    Activation, Bias, Conv, ConvSchedule, ConvScheduleError, KernelError, Matmul, Norm, Normalization, ProgramBuilder,
    Schedule, ScheduleError,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::problem::{ConvProblem, MatmulProblem, Problem, ReadOut};

/// A schedule for a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// Of a product.
    #[serde(rename = "schedule")]
    Matmul(Schedule),
    /// Of a convolution.
    #[serde(rename = "convolution")]
    Conv(ConvSchedule),
}

/// Why a mapping is illegal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Illegal {
    /// Of a product.
    #[error(transparent)]
    Matmul(#[from] ScheduleError),
    /// Of a convolution.
    #[error(transparent)]
    Conv(#[from] ConvScheduleError),
    /// The one's schedule for the other.
    #[error("the schedule is for {schedule}, the operation is {problem}")]
    Kind {
        /// What the schedule is for.
        schedule: &'static str,
        /// What is to be run.
        problem: &'static str,
    },
    /// Something to normalize where nothing is.
    #[error("there is nothing to normalize: leave out the separate normalization")]
    NothingToNormalize,
}

/// What the buffers of a program hold at the start.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// A, or the input.
    pub a: &'a [i8],
    /// B, or the weights.
    pub b: &'a [i8],
    /// The bias; not used without one.
    pub bias: &'a [i32],
    /// Factor of the read-out.
    pub scale: f32,
}

impl Mapping {
    /// What Gemmini's own software does: its tile and its loop order, in the unroller if the build has one.
    pub fn gemmini(config: &ValidConfig, problem: &Problem) -> Self {
        match problem {
            Problem::Matmul(matmul) => {
                let (shape, dataflow) = (matmul.shape(), own_dataflow(config));
                let auto = Schedule::auto(config, &shape, dataflow);
                // Rows that do not fit are normalized by a pass of their own.
                Self::Matmul(auto.unwrap_or_else(|_| {
                    let product = MatmulProblem { read_out: ReadOut::Plain, ..*matmul }.shape();
                    let schedule = Schedule::auto(config, &product, dataflow)
                        .unwrap_or_else(|_| Schedule::gemmini_default(config, &product, dataflow));
                    Schedule { normalization: Normalization::Separate, ..schedule }
                }))
            }
            Problem::Conv(conv) => Self::Conv(ConvSchedule::gemmini_default(config, &conv.shape)),
        }
    }

    /// Whether the hardware can do it.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self, config: &GemminiConfig, problem: &Problem) -> Result<(), Illegal> {
        match (self, problem) {
            (Self::Matmul(schedule), Problem::Matmul(matmul)) => {
                let shape = matmul.shape();
                if schedule.normalization == Normalization::Separate {
                    if !shape.whole_rows {
                        return Err(Illegal::NothingToNormalize);
                    }
                    let product = pollux_kernels::MatmulShape { whole_rows: false, full_c: true, ..shape };
                    return Ok(schedule.check(config, &product)?);
                }
                Ok(schedule.check(config, &shape)?)
            }
            (Self::Conv(schedule), Problem::Conv(conv)) => Ok(schedule.check(config, &conv.shape)?),
            (Self::Matmul(_), Problem::Conv(_)) => {
                Err(Illegal::Kind { schedule: "a product", problem: "a convolution" })
            }
            (Self::Conv(_), Problem::Matmul(_)) => {
                Err(Illegal::Kind { schedule: "a convolution", problem: "a product" })
            }
        }
    }

    /// The program, its buffers without contents: what it takes does not depend on them.
    ///
    /// # Errors
    /// An illegal mapping, or a value that has no encoding.
    pub fn program(&self, config: &ValidConfig, problem: &Problem) -> Result<Program, KernelError> {
        self.lower(config, problem, None)
    }

    /// The program with contents: buffers `A`, `B` and `C` of a product, `input`, `weights` and `output` of a convolution.
    ///
    /// # Errors
    /// As [`Mapping::program`], or contents of the wrong size.
    pub fn program_with(
        &self,
        config: &ValidConfig,
        problem: &Problem,
        operands: &Operands<'_>,
    ) -> Result<Program, KernelError> {
        self.lower(config, problem, Some(operands))
    }

    fn lower(
        &self,
        config: &ValidConfig,
        problem: &Problem,
        operands: Option<&Operands<'_>>,
    ) -> Result<Program, KernelError> {
        let mut builder = ProgramBuilder::new(config.clone())?;
        match (self, problem) {
            (Self::Matmul(schedule), Problem::Matmul(matmul)) => product(&mut builder, matmul, schedule, operands)?,
            (Self::Conv(schedule), Problem::Conv(conv)) => convolution(&mut builder, conv, schedule, operands)?,
            _ => {
                let what = "the schedule is for another kind of operation".to_owned();
                return Err(KernelError::Parameter { operation: problem.to_string(), what });
            }
        }
        builder.fence();
        builder.finish()
    }
}

/// The dataflow that Gemmini's software takes.
fn own_dataflow(config: &ValidConfig) -> pollux_kernels::Dataflow {
    match config.dataflow {
        pollux_isa::config::Dataflow::Os => pollux_kernels::Dataflow::Os,
        _ => pollux_kernels::Dataflow::Ws,
    }
}

fn place_i8(
    builder: &mut ProgramBuilder,
    name: &str,
    (rows, cols): (usize, usize),
    data: Option<&[i8]>,
) -> Result<pollux_kernels::View, KernelError> {
    match data {
        Some(data) => builder.buffer_i8(name, rows, cols, data),
        None => builder.buffer(name, rows, cols, ElementType::I8),
    }
}

fn place_bias(
    builder: &mut ProgramBuilder,
    len: usize,
    operands: Option<&Operands<'_>>,
) -> Result<pollux_kernels::View, KernelError> {
    match operands {
        Some(operands) => builder.buffer_i32("bias", 1, len, operands.bias),
        None => builder.buffer("bias", 1, len, ElementType::I32),
    }
}

fn product(
    builder: &mut ProgramBuilder,
    problem: &MatmulProblem,
    schedule: &Schedule,
    operands: Option<&Operands<'_>>,
) -> Result<(), KernelError> {
    let MatmulProblem { m, n, k, bias, read_out } = *problem;
    let a = place_i8(builder, "A", (m, k), operands.map(|o| o.a))?;
    let b = place_i8(builder, "B", (k, n), operands.map(|o| o.b))?;
    let bias = if bias { Bias::Row(place_bias(builder, n, operands)?) } else { Bias::None };
    let c = builder.buffer("C", m, n, ElementType::I8)?;
    let activation = match read_out {
        ReadOut::Plain => Activation::None,
        ReadOut::Relu => Activation::Relu,
        ReadOut::LayerNorm => Activation::LayerNorm,
    };
    let scale = operands.map_or(1.0, |o| o.scale);
    builder.begin("matmul");
    let matmul = Matmul { bias, scale, activation, ..Matmul::new(a, b, c) };
    if schedule.normalization == Normalization::Fused {
        return matmul.lower(builder, schedule);
    }
    let sums = builder.buffer("sums", m, n, ElementType::I32)?;
    let product = Matmul { c: sums, scale: 1.0, activation: Activation::None, ..matmul };
    product.lower(builder, &Schedule { normalization: Normalization::Fused, ..*schedule })?;
    builder.fence();
    Norm { input: sums, out: c, scale, activation }.lower(builder)
}

fn convolution(
    builder: &mut ProgramBuilder,
    problem: &ConvProblem,
    schedule: &ConvSchedule,
    operands: Option<&Operands<'_>>,
) -> Result<(), KernelError> {
    let [input, weights, output] = problem.shape.views();
    let input = place_i8(builder, "input", input, operands.map(|o| o.a))?;
    let weights = place_i8(builder, "weights", weights, operands.map(|o| o.b))?;
    let bias = if problem.bias { Some(place_bias(builder, problem.shape.out_channels, operands)?) } else { None };
    let output = builder.buffer("output", output.0, output.1, ElementType::I8)?;
    builder.begin("conv");
    let scale = operands.map_or(1.0, |o| o.scale);
    Conv { shape: problem.shape, input, weights, bias, output, scale, relu: false }.lower(builder, schedule)
}

/// One line.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matmul(s) => {
                let order: String = s.order.iter().map(|axis| format!("{axis:?}").to_lowercase()).collect();
                write!(
                    f,
                    "{:?} {:?} tile {}x{}x{} blocks (i x j x k), order {order}, {}-buffered, keep {:?}",
                    s.dataflow,
                    s.emission,
                    s.tile.i,
                    s.tile.j,
                    s.tile.k,
                    if s.double_buffer { "double" } else { "single" },
                    s.keep
                )
            }
            Self::Conv(s) => {
                let order: Vec<&str> = s.order.iter().map(|axis| axis.name()).collect();
                write!(
                    f,
                    "{:?} batch {} rows {} cols {} out {} kernel {}x{} in {}, order {}, {}-buffered, keep {:?}",
                    s.emission,
                    s.batch,
                    s.rows,
                    s.cols,
                    s.out_channels,
                    s.kernel_rows,
                    s.kernel_cols,
                    s.in_channels,
                    order.join(" "),
                    if s.double_buffer { "double" } else { "single" },
                    s.keep
                )
            }
        }
    }
}
