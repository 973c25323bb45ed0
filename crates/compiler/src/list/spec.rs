//! What a list of operations says, as TOML.

use pollux_kernels::{ConvShape, Dataflow, Pool, TrainingOptions, WeightLayout};
use serde::Deserialize;

/// Operations that kernels make programs of, one for each combination of the listed values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// Name of the configuration.
    pub config: String,
    /// Products.
    #[serde(default)]
    pub matmul: Vec<Matmul>,
    /// Multilayer perceptrons.
    #[serde(default)]
    pub mlp: Vec<Mlp>,
    /// Convolutions.
    #[serde(default)]
    pub conv: Vec<Conv>,
    /// Residual additions.
    #[serde(default)]
    pub resadd: Vec<ResidualAdd>,
    /// Averages over images.
    #[serde(default)]
    pub global_average: Vec<GlobalAverage>,
    /// Activations alone.
    #[serde(default)]
    pub norm: Vec<Norm>,
    /// Encoder layers.
    #[serde(default)]
    pub transformer: Vec<Transformer>,
}

/// Activation of the read-out.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Only scaled.
    None,
    /// max(x, 0).
    Relu,
    /// Integer GELU.
    Gelu,
    /// LayerNorm of each row.
    Layernorm,
    /// Integer softmax of each row.
    Softmax,
}

/// What is added to a product.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None.
    None,
    /// An int32 matrix of the result's size.
    Matrix,
    /// An int32 row.
    Row,
    /// An int8 matrix of the result's size.
    LowMatrix,
}

/// Operand that is stored transposed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Transpose {
    /// Neither.
    None,
    /// A is stored as `k` x `i`.
    A,
    /// B is stored as `j` x `k`.
    B,
}

/// Products: A is `i` x `k`, B `k` x `j`, of elements up to `magnitude`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matmul {
    /// Rows of A and the result.
    pub i: usize,
    /// Columns of B and the result.
    pub j: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Largest element.
    #[serde(default = "any_i8")]
    pub magnitude: i32,
    /// What stays in the array.
    #[serde(default = "weight_stationary")]
    pub dataflow: Vec<Dataflow>,
    /// Activations of the read-out.
    #[serde(default = "no_activation")]
    pub activation: Vec<Activation>,
    /// Units of GELU's or softmax's int32 input.
    #[serde(default = "unit")]
    pub unit: f64,
    /// Factors of the read-out; none: one that suits the data.
    #[serde(default)]
    pub scale: Vec<f32>,
    /// What is added.
    #[serde(default = "no_bias")]
    pub bias: Vec<Bias>,
    /// Operands that are stored transposed.
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Rows of all matrices.
    pub rows: usize,
    /// Columns of the input and of each layer's result.
    pub widths: Vec<usize>,
}

/// A convolution.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Images.
    #[serde(default = "one")]
    pub batch: usize,
    /// Rows, columns, channels.
    pub input: [usize; 3],
    /// Output channels.
    pub out_channels: usize,
    /// Edge of the kernel.
    pub kernel: usize,
    /// Steps of the kernel.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the input; negative cuts pixels off.
    #[serde(default)]
    pub padding: isize,
    /// Pixels from one kernel element to the next.
    #[serde(default = "one")]
    pub kernel_dilation: usize,
    /// 2 puts a zero between neighbouring pixels.
    #[serde(default = "one")]
    pub input_dilation: usize,
    /// Size, stride, padding.
    pub pool: Option<[usize; 3]>,
    /// Each output channel has one input channel, the same.
    #[serde(default)]
    pub depthwise: bool,
    /// The kernel is turned by 180 degrees.
    #[serde(default)]
    pub rotate_kernel: bool,
    /// Output as row, column, image, channel.
    #[serde(default)]
    pub output_hwnc: bool,
    /// Input as channel, row, column, image.
    #[serde(default)]
    pub input_chwn: bool,
    /// Layout of the weights.
    #[serde(default)]
    pub weights: WeightLayout,
    /// Elements behind each row of input, weights and output.
    #[serde(default)]
    pub gaps: [usize; 3],
    /// Largest element.
    #[serde(default = "any_i8")]
    pub magnitude: i32,
    /// Factor of the read-out; none: one that suits the data.
    pub scale: Option<f32>,
    /// Whether negative results become 0.
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
    /// The kernel's shape.
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

/// A residual addition of int8 matrices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualAdd {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements behind each row.
    #[serde(default)]
    pub gap: usize,
    /// Factor of A's elements.
    #[serde(default = "unscaled")]
    pub a_scale: f32,
    /// Whether negative results become 0.
    #[serde(default)]
    pub relu: bool,
}

/// The mean over each image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAverage {
    /// Images.
    pub batch: usize,
    /// Rows and columns of an image.
    pub edge: usize,
    /// Channels.
    pub channels: usize,
}

/// Activations of an int32 and of an int8 matrix.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Activations, each as an operation.
    pub activation: Vec<Activation>,
    /// Units of GELU's or softmax's int32 input.
    pub unit: f64,
}

/// An encoder layer of Gemmini's `transformer.c`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformer {
    /// Rows of the input.
    pub tokens: usize,
    /// Columns of the input.
    pub hidden: usize,
    /// Heads side by side.
    pub heads: usize,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
}

impl Operations {
    /// Checks sizes, so that every one can be computed with.
    ///
    /// # Errors
    /// A sentence with the first size that is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut sizes: Vec<(&str, usize)> = Vec::new();
        for m in &self.matmul {
            sizes.extend([("matmul i", m.i), ("matmul j", m.j), ("matmul k", m.k)]);
        }
        for mlp in &self.mlp {
            sizes.extend([("mlp rows", mlp.rows), ("number of mlp widths - 1", mlp.widths.len().saturating_sub(1))]);
            sizes.extend(mlp.widths.iter().map(|&width| ("mlp width", width)));
        }
        for c in &self.conv {
            sizes.extend(c.input.map(|size| ("conv input", size)));
            sizes.extend([("conv batch", c.batch), ("conv out_channels", c.out_channels), ("conv kernel", c.kernel)]);
            sizes.extend([("conv stride", c.stride), ("conv kernel_dilation", c.kernel_dilation)]);
            sizes.push(("conv input_dilation", c.input_dilation));
            sizes.extend(c.pool.iter().flat_map(|pool| [("pool size", pool[0]), ("pool stride", pool[1])]));
        }
        sizes.extend(self.resadd.iter().flat_map(|r| [("resadd rows", r.rows), ("resadd cols", r.cols)]));
        for g in &self.global_average {
            sizes.extend([("global_average batch", g.batch), ("edge", g.edge), ("channels", g.channels)]);
        }
        sizes.extend(self.norm.iter().flat_map(|n| [("norm rows", n.rows), ("norm cols", n.cols)]));
        for t in &self.transformer {
            sizes.extend([("tokens", t.tokens), ("hidden", t.hidden), ("heads", t.heads), ("ffn", t.ffn)]);
        }
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
            return Err(format!("{name} = {size}: it must be 1 to {MAX_SIZE}"));
        }
        let mut gaps: Vec<(&str, usize)> = self.resadd.iter().map(|r| ("resadd gap", r.gap)).collect();
        for c in &self.conv {
            gaps.push(("conv padding", c.padding.unsigned_abs()));
            gaps.extend(c.gaps.map(|gap| ("conv gap", gap)));
            gaps.extend(c.pool.map(|pool| ("pool padding", pool[2])));
        }
        if let Some((name, gap)) = gaps.into_iter().find(|&(_, gap)| gap > MAX_SIZE) {
            return Err(format!("{name} = {gap}: it must be at most {MAX_SIZE}"));
        }
        if let Some(t) = self.transformer.iter().find(|t| t.hidden % t.heads != 0) {
            return Err(format!("{} heads do not divide a hidden size of {}", t.heads, t.hidden));
        }
        let magnitudes = self.matmul.iter().map(|m| m.magnitude).chain(self.conv.iter().map(|c| c.magnitude));
        match magnitudes.into_iter().find(|magnitude| !(1..=127).contains(magnitude)) {
            Some(magnitude) => Err(format!("magnitude = {magnitude}: it must be 1 to 127")),
            None => Ok(()),
        }
    }
}

impl Conv {
    /// Bytes of operands, result and what it must be.
    pub(super) fn bytes(&self) -> u128 {
        let [input, weights, output] = self.shape().views();
        let bytes = |(rows, cols): (usize, usize), gap: usize| rows as u128 * (cols + gap) as u128;
        // The reference keeps the output before pooling, in int32.
        let [rows, cols] = self.shape().out_pixels();
        let sums = 4 * (self.batch * rows * cols) as u128 * self.out_channels as u128;
        bytes(input, self.gaps[0]) + bytes(weights, self.gaps[1]) + 2 * bytes(output, self.gaps[2]) + sums
    }
}

impl Mlp {
    /// Bytes of operands, results and what they must be.
    pub(super) fn bytes(&self) -> u128 {
        let weights = self.widths.windows(2).map(|pair| pair[0] as u128 * pair[1] as u128);
        let results = self.widths.iter().map(|&width| 6 * self.rows as u128 * width as u128);
        weights.chain(results).sum()
    }
}

impl Transformer {
    /// Bytes of weights, tensors and what they must be.
    pub(super) fn bytes(&self) -> u128 {
        let [tokens, hidden, heads, ffn] = [self.tokens, self.hidden, self.heads, self.ffn].map(|size| size as u128);
        let weights = 4 * hidden * hidden + 2 * hidden * ffn;
        let tensors = tokens * (12 * hidden + 2 * ffn) + heads * tokens * tokens;
        weights + 6 * tensors
    }
}

/// Largest size of anything.
const MAX_SIZE: usize = 1 << 14;

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

fn weight_stationary() -> Vec<Dataflow> {
    vec![Dataflow::Ws]
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
