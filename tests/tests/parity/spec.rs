//! The files of `programs/parity`.

use pollux_kernels::{ConvShape, Pool, TrainingOptions, WeightLayout};
use serde::Deserialize;

/// `index.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    pub program: Vec<Entry>,
}

/// One of Gemmini's test programs and ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub gemmini: String,
    pub ours: String,
    pub checks: String,
    pub recorded: Option<Recorded>,
    #[serde(default = "yes")]
    pub cycles: bool,
}

/// How our command stream compares with the recorded one.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    Equal,
    Differs(String),
}

/// Operations that kernels make programs of, one for each combination of the listed values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    pub config: String,
    #[serde(default)]
    pub matmul: Vec<Matmul>,
    #[serde(default)]
    pub mlp: Vec<Mlp>,
    #[serde(default)]
    pub conv: Vec<Conv>,
    #[serde(default)]
    pub resadd: Vec<ResidualAdd>,
    #[serde(default)]
    pub global_average: Vec<GlobalAverage>,
    #[serde(default)]
    pub norm: Vec<Norm>,
    #[serde(default)]
    pub transformer: Vec<Transformer>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    None,
    Relu,
    Gelu,
    Layernorm,
    Softmax,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    None,
    Matrix,
    Row,
    LowMatrix,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Transpose {
    None,
    A,
    B,
}

/// Products: A is `i` x `k`, B `k` x `j`, of elements up to `magnitude`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matmul {
    pub i: usize,
    pub j: usize,
    pub k: usize,
    #[serde(default = "any_i8")]
    pub magnitude: i32,
    #[serde(default = "weight_stationary")]
    pub dataflow: Vec<pollux_kernels::Dataflow>,
    #[serde(default = "no_activation")]
    pub activation: Vec<Activation>,
    /// Units of GELU's or softmax's int32 input.
    #[serde(default = "unit")]
    pub unit: f64,
    /// Factors of the read-out; none: one that suits the data.
    #[serde(default)]
    pub scale: Vec<f32>,
    #[serde(default = "no_bias")]
    pub bias: Vec<Bias>,
    #[serde(default = "no_transpose")]
    pub transpose: Vec<Transpose>,
    /// int32 result.
    #[serde(default)]
    pub full: bool,
    /// The activation is an operation of its own.
    #[serde(default)]
    pub separate: bool,
}

/// Products with ReLU, each on the result of the one before. `widths[n]` x `widths[n + 1]` weights.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    pub rows: usize,
    pub widths: Vec<usize>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    #[serde(default = "one")]
    pub batch: usize,
    /// Rows, columns, channels.
    pub input: [usize; 3],
    pub out_channels: usize,
    pub kernel: usize,
    #[serde(default = "one")]
    pub stride: usize,
    #[serde(default)]
    pub padding: isize,
    #[serde(default = "one")]
    pub kernel_dilation: usize,
    #[serde(default = "one")]
    pub input_dilation: usize,
    /// Size, stride, padding.
    pub pool: Option<[usize; 3]>,
    #[serde(default)]
    pub depthwise: bool,
    #[serde(default)]
    pub rotate_kernel: bool,
    #[serde(default)]
    pub output_hwnc: bool,
    #[serde(default)]
    pub input_chwn: bool,
    #[serde(default)]
    pub weights: WeightLayout,
    /// Elements behind each row of input, weights and output.
    #[serde(default)]
    pub gaps: [usize; 3],
    #[serde(default = "any_i8")]
    pub magnitude: i32,
    pub scale: Option<f32>,
    #[serde(default)]
    pub relu: bool,
    /// As one product (1x1, stride 1).
    #[serde(default)]
    pub pointwise: bool,
    /// As a product for each row of the output (1x1, stride 2).
    #[serde(default)]
    pub downsample: bool,
    /// By single commands instead of the unroller.
    #[serde(default)]
    pub commands: bool,
}

impl Conv {
    pub fn shape(&self) -> ConvShape {
        ConvShape {
            batch: self.batch,
            in_rows: self.input[0],
            in_cols: self.input[1],
            in_channels: self.input[2],
            out_channels: self.out_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            kernel_dilation: self.kernel_dilation,
            input_dilation: self.input_dilation,
            pool: self.pool.map(|[size, stride, padding]| Pool { size, stride, padding }),
            depthwise: self.depthwise,
            options: TrainingOptions {
                rotate_kernel: self.rotate_kernel,
                output_hwnc: self.output_hwnc,
                input_chwn: self.input_chwn,
                weights: self.weights,
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualAdd {
    pub rows: usize,
    pub cols: usize,
    /// Elements behind each row.
    #[serde(default)]
    pub gap: usize,
    #[serde(default = "unscaled")]
    pub a_scale: f32,
    #[serde(default)]
    pub relu: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAverage {
    pub batch: usize,
    /// Rows and columns of an image.
    pub edge: usize,
    pub channels: usize,
}

/// Activations of an int32 and of an int8 matrix.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    pub rows: usize,
    pub cols: usize,
    pub activation: Vec<Activation>,
    pub unit: f64,
}

/// An encoder layer of Gemmini's `transformer.c`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformer {
    pub tokens: usize,
    pub hidden: usize,
    pub heads: usize,
    pub ffn: usize,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn unscaled() -> f32 {
    1.0
}

fn unit() -> f64 {
    1.0
}

fn any_i8() -> i32 {
    127
}

fn weight_stationary() -> Vec<pollux_kernels::Dataflow> {
    vec![pollux_kernels::Dataflow::Ws]
}

fn no_activation() -> Vec<Activation> {
    vec![Activation::None]
}

fn no_bias() -> Vec<Bias> {
    vec![Bias::None]
}

fn no_transpose() -> Vec<Transpose> {
    vec![Transpose::None]
}
