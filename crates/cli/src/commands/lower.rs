//! `pollux lower`

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use pollux_asm::{ElementType, Program, disassemble};
use pollux_compiler::list::OperationList;
use pollux_compiler::plan::OperationPlan;
use pollux_compiler::random::Random;
use pollux_compiler::size;
use pollux_compiler::{CompileError, Compiled, Plan};
use pollux_isa::ValidConfig;
use pollux_isa::config::ExpVariant;
use pollux_kernels::{Activation, Bias, Dataflow, Emission, Matmul, ProgramBuilder, Schedule, Statistics, View};
use pollux_mapper::Mapping;
use pollux_model::layer::SoftmaxConstants;
use pollux_model::layer_reference::{layer_norm_row, scale_to_int8, softmax_row};
use serde_json::{Value, json};

use crate::arguments::{configuration, optional_configuration};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::layer;
use crate::output::{Output, counted, grouped};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux lower matmul --m 64 --n 64 --k 64   assembly text
  pollux lower matmul --m 100 --n 70 --k 33 --dataflow os --bias --activation relu -o mm.pbin
  pollux run mm.pbin --expect                its result is right
  pollux lower encoder-layer -o layer.pbin   the layer of `pollux demo`
  pollux lower list programs/parity/resnet50.toml -o resnet50.pbin";

const MATMUL_EXAMPLES: &str = "\
Examples:
  pollux lower matmul --m 64 --n 64 --k 64
  pollux lower matmul --m 100 --n 70 --k 33 --dataflow os --bias --activation relu -o mm.pbin
  pollux lower matmul --m 64 --n 64 --k 64 --scale 0.02 -o - | pollux run - --expect";

const ENCODER_LAYER_EXAMPLES: &str = "\
Examples:
  pollux lower encoder-layer -o layer.pbin                    the layer of `pollux demo`
  pollux lower encoder-layer --layer layer3.st -o layer.pasm  one made by `pollux quantize`";

const LIST_EXAMPLES: &str = "\
Examples:
  pollux lower list programs/parity/resnet50.toml -o resnet50.pbin
  pollux lower list my_operations.toml --config small4";

/// Lower an operation to a program.
///
/// The program comes with its data and, where the operation has an integer reference, with the expected result.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand)]
enum Operation {
    Matmul(MatmulArguments),
    EncoderLayer(EncoderLayerArguments),
    List(ListArguments),
}

/// Where the program goes.
#[derive(Args)]
struct Target {
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "norm16")]
    config: String,
    /// File to write: assembly text if it is called `*.pasm`, binary otherwise. By default text is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// C = activation(A B + D) * scale, A M x K, B K x N, with pseudo-random data.
#[derive(Args)]
#[command(after_help = MATMUL_EXAMPLES)]
struct MatmulArguments {
    /// Rows of A and C, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    m: u32,
    /// Columns of B and C, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    n: u32,
    /// Columns of A, rows of B, 1 to 1048576.
    #[arg(long, value_name = "SIZE", value_parser = values::size::<u32>())]
    k: u32,
    /// A schedule (TOML), as `pollux map matmul -o` writes it; by default what Gemmini's own software does.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataflow", "emission"])]
    schedule: Option<InputPath>,
    /// What stays in the array.
    #[arg(long, default_value = "ws")]
    dataflow: DataflowName,
    /// One LOOP_WS a tile, or single commands; by default what Gemmini's own software does.
    #[arg(long)]
    emission: Option<EmissionName>,
    /// Activation of the read-out.
    #[arg(long, default_value = "none")]
    activation: ActivationName,
    /// Add an int32 row to every row of the product.
    #[arg(long)]
    bias: bool,
    /// Factor of the read-out, 2^-32 (2.33e-10) to 256; by default one that suits the data.
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, value_parser = values::scale)]
    scale: Option<f32>,
    /// Memory holds A transposed.
    #[arg(long)]
    a_transpose: bool,
    /// Memory holds B transposed.
    #[arg(long)]
    b_transpose: bool,
    /// Seed of the data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    target: Target,
}

/// A quantised encoder layer with its sample.
#[derive(Args)]
#[command(after_help = ENCODER_LAYER_EXAMPLES)]
struct EncoderLayerArguments {
    /// A file made by `pollux quantize`; by default the embedded layer of all-MiniLM-L6-v2.
    #[arg(long, value_name = "FILE")]
    layer: Option<InputPath>,
    #[command(flatten)]
    target: Target,
}

/// Single operations with pseudo-random operands: the lists of `programs/parity`, or one's own.
#[derive(Args)]
#[command(after_help = LIST_EXAMPLES)]
struct ListArguments {
    /// The list (TOML): products, convolutions, residual additions, averages, norms, encoder layers.
    #[arg(value_name = "FILE")]
    file: InputPath,
    /// A schedule (TOML), as `pollux map -o` writes it, for all products or all convolutions of the list.
    #[arg(long, value_name = "FILE")]
    schedule: Option<InputPath>,
    /// Configuration: a name or a file; by default the list's.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// File to write: assembly text if it is called `*.pasm`, binary otherwise. By default text is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DataflowName {
    /// Weight-stationary.
    Ws,
    /// Output-stationary.
    Os,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmissionName {
    /// LOOP_WS.
    Unroller,
    /// Single commands.
    Commands,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ActivationName {
    None,
    Relu,
    Layernorm,
    Softmax,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match &arguments.operation {
        Operation::Matmul(arguments) => {
            let product = Product::new(arguments, configuration(&arguments.target.config)?)?;
            let (program, statistics, schedule) = progress::during(out, "lowering", || product.lower(arguments))?;
            deliver(arguments.target.output.as_deref(), &program, &statistics, &schedule, out)
        }
        Operation::EncoderLayer(arguments) => {
            let file = layer::load(arguments.layer.as_deref())?;
            let config = configuration(&arguments.target.config)?;
            let lowered = progress::during(out, "lowering", || layer::lower(&file, config))?;
            deliver(arguments.target.output.as_deref(), &lowered.program, &lowered.statistics, "", out)
        }
        Operation::List(arguments) => {
            let plan = plan_with_schedule(Plan::default(), arguments.schedule.as_ref())?;
            let compiled = list(&arguments.file, arguments.config.as_ref(), &plan)?;
            deliver(arguments.output.as_deref(), &compiled.program, &compiled.statistics(), "", out)
        }
    }
}

/// A list of operations as one program, for its own configuration or another one, by a plan's schedules.
pub fn list(file: &Path, config: Option<&String>, plan: &Plan) -> Result<Compiled, Failure> {
    let named = |error: CompileError| Failure::Input(format!("{}: {error}", file.display()));
    let list = OperationList::from_toml(&program_file::read_text(file)?).map_err(named)?;
    list.lower(optional_configuration(config)?.as_ref(), plan).map_err(named)
}

/// Writes or prints the program; `schedule` is a loop nest for people, possibly empty.
fn deliver(
    output: Option<&Path>,
    program: &Program,
    statistics: &Statistics,
    schedule: &str,
    out: &Output,
) -> Result<Outcome, Failure> {
    let total = statistics.total();
    let text = match output {
        Some(path) => {
            program_file::save(path, program, out)?;
            out.text(schedule)?;
            out.text(&format!(
                "{}: {}, {} MACs, {} in, {} out\n",
                path.display(),
                counted(total.commands, "command"),
                grouped(total.macs),
                counted(total.bytes_in, "byte"),
                counted(total.bytes_out, "byte"),
            ))?;
            Value::Null
        }
        None => {
            let remarks: String = schedule.lines().map(|line| format!("# {line}\n")).collect();
            let text = disassemble(program);
            out.text(&remarks)?;
            out.text(&text)?;
            text.into()
        }
    };
    out.json(&json!({
        "output": output, "config": program.config.name, "commands": total.commands, "macs": total.macs,
        "bytes_in": total.bytes_in, "bytes_out": total.bytes_out, "operations": statistics.operations, "text": text,
    }))?;
    Ok(Outcome::Agrees)
}

/// A product's schedule from a file.
fn product_schedule(file: &Path) -> Result<Schedule, Failure> {
    match super::map::read_schedule(file)? {
        Mapping::Matmul(schedule) => Ok(schedule),
        Mapping::Conv(_) => Err(Failure::Input(format!(
            "{}: the schedule of a convolution: a product has a [schedule]",
            file.display()
        ))),
    }
}

/// A plan with a schedule from a file for every product, or for every convolution.
pub fn plan_with_schedule(plan: Plan, file: Option<&InputPath>) -> Result<Plan, Failure> {
    let Some(file) = file else { return Ok(plan) };
    let mut plan = plan;
    let (operation, part) = match super::map::read_schedule(file)? {
        Mapping::Matmul(schedule) => (OperationPlan { schedule: Some(schedule), ..OperationPlan::default() }, "matmul"),
        Mapping::Conv(schedule) => (OperationPlan { convolution: Some(schedule), ..OperationPlan::default() }, "conv"),
    };
    if plan.operations.insert(part.to_owned(), operation).is_some() {
        return Err(Failure::Usage(format!("the plan has choices for `{part}`, and so has --schedule: leave out one")));
    }
    Ok(plan)
}

/// A product with its data.
struct Product {
    config: ValidConfig,
    m: usize,
    n: usize,
    k: usize,
    /// M x K.
    a: Vec<i8>,
    /// K x N.
    b: Vec<i8>,
    /// N.
    bias: Option<Vec<i32>>,
    activation: Activation,
    softmax: Option<SoftmaxConstants>,
    scale: f32,
}

/// Normalizing activations square their inputs in int32, so these have to be small.
const SMALL_OPERAND: u32 = 8;
const LARGE_OPERAND: u32 = 127;
/// Read-out factor that brings the product of large operands to about 40 units (rms), times sqrt(K).
const PLAIN_SCALE: f32 = 0.0078125;
/// Read-out factor of LayerNorm: units of one standard deviation.
const LAYER_NORM_SCALE: f32 = 32.0;

impl Product {
    fn new(arguments: &MatmulArguments, config: ValidConfig) -> Result<Self, Failure> {
        let [m, n, k] = [arguments.m, arguments.n, arguments.k].map(|extent| extent as usize);
        let by_commands = matches!(arguments.dataflow, DataflowName::Os)
            || matches!(arguments.emission, Some(EmissionName::Commands))
            || arguments.schedule.is_some();
        let bytes = size::product_bytes([m, n, k], by_commands, config.dim() as usize);
        size::check(&format!("a product of {m} x {k} by {k} x {n}"), bytes).map_err(Failure::input)?;
        let normalizes = matches!(arguments.activation, ActivationName::Layernorm | ActivationName::Softmax);
        let limit = if normalizes { SMALL_OPERAND } else { LARGE_OPERAND };
        let mut random = Random::new(arguments.seed);
        let mut operand = |elements: usize| (0..elements).map(|_| random.within(limit) as i8).collect::<Vec<i8>>();
        let (a, b) = (operand(m * k), operand(k * n));
        // The products' standard deviation for uniform operands: limit^2 / 3 * sqrt(K).
        let deviation = f64::from(limit * limit) / 3.0 * (k as f64).sqrt();
        let bias = arguments.bias.then(|| (0..n).map(|_| random.within(deviation as u32) as i32).collect());
        let softmax = match arguments.activation {
            ActivationName::Softmax => {
                let constants = SoftmaxConstants::for_scale(2.0 / deviation).filter(|constants| constants.fits(n));
                Some(constants.ok_or_else(|| {
                    Failure::Input(format!(
                        "softmax over {n} columns of products over {k} does not fit int32: choose less"
                    ))
                })?)
            }
            _ => None,
        };
        let (activation, scale) = match arguments.activation {
            ActivationName::None => (Activation::None, PLAIN_SCALE / (k as f32).sqrt()),
            ActivationName::Relu => (Activation::Relu, PLAIN_SCALE / (k as f32).sqrt()),
            ActivationName::Layernorm => (Activation::LayerNorm, LAYER_NORM_SCALE),
            ActivationName::Softmax => {
                (softmax.map_or(Activation::None, |s| Activation::Softmax(kernel_constants(s))), 1.0)
            }
        };
        let scale = arguments.scale.unwrap_or(scale);
        Ok(Self { config, m, n, k, a, b, bias, activation, softmax, scale })
    }

    /// The program, its work, and the loop nest of its schedule.
    fn lower(&self, arguments: &MatmulArguments) -> Result<(Program, Statistics, String), Failure> {
        let Self { m, n, k, .. } = *self;
        let mut builder = ProgramBuilder::new(self.config.clone()).map_err(Failure::input)?;
        let a = place(&mut builder, "A", (m, k), &self.a, arguments.a_transpose)?;
        let b = place(&mut builder, "B", (k, n), &self.b, arguments.b_transpose)?;
        let bias = match &self.bias {
            Some(row) => Bias::Row(builder.buffer_i32("D", 1, n, row).map_err(Failure::input)?),
            None => Bias::None,
        };
        let c = builder.buffer("C", m, n, ElementType::I8).map_err(Failure::input)?;
        let matmul = Matmul {
            bias,
            a_transpose: arguments.a_transpose,
            b_transpose: arguments.b_transpose,
            scale: self.scale,
            activation: self.activation,
            ..Matmul::new(a, b, c)
        };
        let dataflow = match arguments.dataflow {
            DataflowName::Ws => Dataflow::Ws,
            DataflowName::Os => Dataflow::Os,
        };
        let shape = matmul.shape();
        let mut schedule = match &arguments.schedule {
            Some(file) => product_schedule(file)?,
            None => Schedule::auto(&self.config, &shape, dataflow).map_err(Failure::input)?,
        };
        if let Some(emission) = arguments.emission {
            schedule.emission = match emission {
                EmissionName::Unroller => Emission::Unroller,
                EmissionName::Commands => Emission::Commands,
            };
        }
        builder.begin("matmul");
        matmul.lower(&mut builder, &schedule).map_err(Failure::input)?;
        builder.fence();
        if let Some(expected) = self.expected() {
            builder.expect("C", expected).map_err(Failure::input)?;
        }
        let nest = format!("{}\n", schedule.loop_nest(&self.config, &shape)).trim_start().to_owned();
        let statistics = builder.statistics().clone();
        Ok((builder.finish().map_err(Failure::input)?, statistics, nest))
    }

    /// C, from the definition of the operation. There is none for the softmax of builds with the GELU polynomial in
    /// the place of the exponential.
    fn expected(&self) -> Option<Vec<u8>> {
        if self.softmax.is_some() && self.config.softmax_exp == ExpVariant::Polynomial8c3f992 {
            return None;
        }
        let mut out = Vec::with_capacity(self.m * self.n);
        for row in self.a.chunks(self.k) {
            let sums = self.row_of_sums(row);
            let values: Vec<i8> = match (self.activation, self.softmax) {
                (Activation::LayerNorm, _) => layer_norm_row(&sums, |_| self.scale),
                (_, Some(constants)) => softmax_row(&sums, constants, self.scale),
                (Activation::Relu, _) => sums.iter().map(|sum| scale_to_int8((*sum).max(0), self.scale)).collect(),
                _ => sums.iter().map(|sum| scale_to_int8(*sum, self.scale)).collect(),
            };
            out.extend(values.into_iter().map(|value| value as u8));
        }
        Some(out)
    }

    fn row_of_sums(&self, row: &[i8]) -> Vec<i32> {
        let mut sums = self.bias.clone().unwrap_or_else(|| vec![0; self.n]);
        for (a, b) in row.iter().zip(self.b.chunks(self.n)) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = sum.wrapping_add(i32::from(*a) * i32::from(*b));
            }
        }
        sums
    }
}

/// An operand in memory, transposed if asked for.
fn place(
    builder: &mut ProgramBuilder,
    name: &str,
    (rows, cols): (usize, usize),
    data: &[i8],
    transpose: bool,
) -> Result<View, Failure> {
    let placed = if transpose {
        let transposed: Vec<i8> = (0..cols * rows).map(|i| data[i % rows * cols + i / rows]).collect();
        builder.buffer_i8(name, cols, rows, &transposed)
    } else {
        builder.buffer_i8(name, rows, cols, data)
    };
    placed.map_err(Failure::input)
}

fn kernel_constants(constants: SoftmaxConstants) -> pollux_kernels::SoftmaxConstants {
    let SoftmaxConstants { qln2, qln2_inv, qb, qc } = constants;
    pollux_kernels::SoftmaxConstants { qln2, qln2_inv, qb, qc }
}
