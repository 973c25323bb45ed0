//! The operators: operands, shape rules, and the work that each one is.

use std::fmt;
use std::ops::Add;

use serde::{Deserialize, Serialize};

use super::expression::{BinaryFunction, Expression};
use super::rearrange;
pub use crate::float::GeluForm;

/// Where an operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the processor beside the accelerator.
    Host,
    /// On Gemmini.
    Accelerator,
    /// Nowhere: the same bytes under another shape.
    View,
}

/// Class of an operator in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorClass {
    /// Dense and convolutional products.
    Matmul,
    /// Softmax, normalisation, activations.
    Nonlinear,
    /// Additions, pooling, look-ups.
    DataMovement,
}

/// A sliding window over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Step along rows and columns.
    pub stride: [usize; 2],
    /// Rows above, columns left, rows below, columns right.
    pub padding: [usize; 4],
    /// Distance of neighbouring kernel elements; 1 is dense.
    pub dilation: [usize; 2],
}

/// Largest size in a [`Window`].
pub(crate) const MAX_WINDOW: usize = 1 << 16;

impl Window {
    /// A square window with one stride and one padding.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1; 2] }
    }

    /// Rows and columns of the result on an image of that size.
    fn output(&self, image: [usize; 2]) -> Result<[usize; 2], String> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let [k, s, d] = [self.kernel[axis], self.stride[axis], self.dilation[axis]];
            if k == 0 || s == 0 || d == 0 {
                return Err(format!("kernel {k}, stride {s}, dilation {d}: each must be at least 1"));
            }
            if [k, s, d, self.padding[axis], self.padding[axis + 2]].iter().any(|&v| v > MAX_WINDOW) {
                return Err(format!("kernel, stride, dilation and padding must be at most {MAX_WINDOW}"));
            }
            let padded = image[axis] + self.padding[axis] + self.padding[axis + 2];
            let span = d * (k - 1) + 1;
            if span > padded {
                return Err(format!("a window of {span} does not fit an image of {padded} (padding included)"));
            }
            out[axis] = (padded - span) / s + 1;
        }
        Ok(out)
    }
}

/// Kind of a convolution, which decides how it is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvKind {
    /// Every output channel reads every input channel.
    Dense,
    /// 1x1, unit stride, no padding: a matrix product over pixels.
    Pointwise,
    /// Each channel by itself.
    Depthwise,
    /// Groups of several channels.
    Grouped,
}

/// A two-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// The kernel and its steps.
    #[serde(flatten)]
    pub window: Window,
    /// Channel groups.
    pub groups: usize,
    /// Whether a third operand adds one value an output channel.
    pub bias: bool,
}

impl Conv2d {
    /// The kind, for `channels` input channels.
    pub fn kind(&self, channels: usize) -> ConvKind {
        let w = &self.window;
        match self.groups {
            1 if w.kernel == [1; 2] && w.stride == [1; 2] && w.padding == [0; 4] => ConvKind::Pointwise,
            1 => ConvKind::Dense,
            g if g == channels => ConvKind::Depthwise,
            _ => ConvKind::Grouped,
        }
    }
}

/// How token vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPooling {
    /// Mean over the tokens, scaled to length 1 (sentence-transformers).
    MeanNormalised,
    /// The first token's vector.
    First,
}

/// What becomes of the elements along some axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Their product.
    Product,
    /// The root of the sum of their squares.
    Norm,
    /// Index of the first of the largest; along one axis.
    ArgMax,
    /// Index of the first of the smallest; along one axis.
    ArgMin,
}

/// An operation. Operands are listed in order; those that hold weights are marked c.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operator {
    /// Sum of table rows: ids `[.., tokens]`, words c `[vocabulary, width]`, then positions c and segments c if
    /// present; gives `[.., tokens, width]`. On the host.
    Embedding {
        /// A table of positions, `[positions, width]`, is the next operand.
        position: bool,
        /// A table of segments, `[segments, width]`, is the last operand; row 0 is used.
        segment: bool,
        /// Position of the first token (tokens already in a cache).
        first: usize,
    },
    /// `[.., I, K]` times `[K, J]` (or `[.., K, J]` with equal leading sizes), and a bias `[J]` if present.
    MatMul {
        /// The right operand is stored as `[J, K]`.
        transpose_b: bool,
        /// A third operand is added to each row.
        bias: bool,
    },
    /// Scores, softmax and context of all heads: query `[.., tokens, width]`, key and value alike; with a cache two
    /// more operands, the earlier keys and values `[.., past, width]`. Keys and values may be narrower by a whole factor: as
    /// many neighbouring heads of the query share one of theirs.
    Attention {
        /// Heads side by side in the width.
        heads: usize,
        /// Factor of the scores, usually 1 / sqrt(head size).
        scale: f32,
        /// Keys after the query's position are invisible.
        causal: bool,
        /// Earlier keys and values are given.
        cached: bool,
    },
    /// Softmax along the last dimension.
    Softmax,
    /// LayerNorm along the last dimension: x, gamma c, beta c.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Each row over the root of its mean square, times gamma: x, gamma c. On the host.
    RmsNorm {
        /// Added to the mean square.
        epsilon: f32,
    },
    /// Neighbouring pairs of columns rotated by an angle of their position: x `[tokens, width]`. Pair i of a head turns by
    /// `position / base^(2 i / size)`. On the host.
    Rotary {
        /// Columns of a head.
        size: usize,
        /// Base of the angles.
        base: f32,
        /// Position of the first row.
        first: usize,
    },
    /// GELU of each element.
    Gelu {
        /// Form in the float32 model.
        form: GeluForm,
    },
    /// max(x, 0) of each element.
    Relu,
    /// min(max(x, 0), limit) of each element (ReLU6 if the limit is 6).
    ClippedRelu {
        /// Largest result.
        limit: f32,
    },
    /// Sum of two tensors of one shape.
    Add,
    /// Tensors one behind the other along an axis; their other sizes agree.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// `[.., tokens, width]` to `[.., width]`. On the host.
    Pooling {
        /// The rule.
        kind: TokenPooling,
    },
    /// Image, weights c, bias c if present; see [`Conv2d`].
    Conv2d(Conv2d),
    /// Largest value in each window; padding never wins.
    MaxPool(Window),
    /// Mean of each window.
    AveragePool {
        /// The window.
        window: Window,
        /// Padding counts as zeros.
        count_padding: bool,
    },
    /// `[images, height, width, channels]` to `[images, channels]`.
    GlobalAveragePool,
    /// The same elements under another shape; costs nothing.
    Reshape {
        /// The new shape.
        shape: Vec<usize>,
    },
    /// A function of each element.
    Elementwise {
        /// The function.
        expression: Expression,
    },
    /// A function of two tensors; sizes of 1 and missing leading ones stretch.
    Binary {
        /// The function.
        function: BinaryFunction,
    },
    /// A condition, and the elements where it is not 0 and where it is; the three stretch as in `Binary`.
    Select,
    /// Axes in another order.
    Transpose {
        /// The operand's axis behind each axis of the result.
        order: Vec<usize>,
    },
    /// Some of the slices along an axis, in any order and any number of times: parts, repetitions, and resizing to the
    /// nearest.
    Take {
        /// The axis.
        axis: usize,
        /// Index of each slice.
        indices: Vec<usize>,
    },
    /// A number around the tensor.
    Pad {
        /// Elements before the first one, along each axis.
        before: Vec<usize>,
        /// Elements behind the last one.
        after: Vec<usize>,
        /// The number.
        value: f32,
    },
    /// Weighted sums of slices along an axis: resizing with interpolation.
    Resample {
        /// The axis.
        axis: usize,
        /// Indices and weights for each slice of the result.
        taps: Vec<Vec<(usize, f32)>>,
    },
    /// Slices of the first operand along an axis, by indices in the second; negative ones count from the end.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// One number for the elements along some axes.
    Reduce {
        /// Which number.
        function: Reduction,
        /// The axes, in ascending order.
        axes: Vec<usize>,
        /// They stay, with size 1.
        keep: bool,
    },
    /// `x / (bias + alpha / size * sum of the squares of `size` neighbouring channels) ^ beta`, of an image.
    LocalResponseNorm {
        /// Channels of the sum.
        size: usize,
        /// Factor of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Constant.
        bias: f32,
    },
}

/// Work of a node with int8 operands and results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Multiply-accumulates of the products.
    pub macs: u64,
    /// Elements that pass through a nonlinear function, an addition, a pooling or a look-up.
    pub elements: u64,
    /// Constant elements read.
    pub weights: u64,
    /// Elements read that are not constant.
    pub reads: u64,
    /// Elements written.
    pub writes: u64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, o: Self) -> Self {
        Self {
            macs: self.macs + o.macs,
            elements: self.elements + o.elements,
            weights: self.weights + o.weights,
            reads: self.reads + o.reads,
            writes: self.writes + o.writes,
        }
    }
}

impl Operator {
    /// Short name, as in reports and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedding { .. } => "embedding",
            Self::MatMul { .. } => "matmul",
            Self::Attention { .. } => "attention",
            Self::Softmax => "softmax",
            Self::LayerNorm { .. } => "layer_norm",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Rotary { .. } => "rotary",
            Self::Gelu { .. } => "gelu",
            Self::Relu => "relu",
            Self::ClippedRelu { .. } => "clipped_relu",
            Self::Add => "add",
            Self::Concat { .. } => "concat",
            Self::Pooling { .. } => "pooling",
            Self::Conv2d(_) => "conv2d",
            Self::MaxPool(_) => "max_pool",
            Self::AveragePool { .. } => "average_pool",
            Self::GlobalAveragePool => "global_average_pool",
            Self::Reshape { .. } => "reshape",
            Self::Elementwise { .. } => "elementwise",
            Self::Binary { .. } => "binary",
            Self::Select => "select",
            Self::Transpose { .. } => "transpose",
            Self::Take { .. } => "take",
            Self::Pad { .. } => "pad",
            Self::Resample { .. } => "resample",
            Self::Gather { .. } => "gather",
            Self::Reduce { .. } => "reduce",
            Self::LocalResponseNorm { .. } => "local_response_norm",
        }
    }

    /// Where it runs.
    pub fn placement(&self) -> Placement {
        match self {
            Self::Embedding { .. }
            | Self::Pooling { .. }
            | Self::Elementwise { .. }
            | Self::Binary { .. }
            | Self::Select
            | Self::Transpose { .. }
            | Self::Take { .. }
            | Self::Pad { .. }
            | Self::Resample { .. }
            | Self::Gather { .. }
            | Self::Reduce { .. }
            | Self::RmsNorm { .. }
            | Self::Rotary { .. }
            | Self::LocalResponseNorm { .. } => Placement::Host,
            Self::Reshape { .. } => Placement::View,
            _ => Placement::Accelerator,
        }
    }

    /// Its class in reports.
    pub fn class(&self) -> OperatorClass {
        match self {
            Self::MatMul { .. } | Self::Attention { .. } | Self::Conv2d(_) => OperatorClass::Matmul,
            Self::Softmax
            | Self::LayerNorm { .. }
            | Self::Gelu { .. }
            | Self::Relu
            | Self::ClippedRelu { .. }
            | Self::Elementwise { .. }
            | Self::RmsNorm { .. }
            | Self::Rotary { .. }
            | Self::LocalResponseNorm { .. } => OperatorClass::Nonlinear,
            _ => OperatorClass::DataMovement,
        }
    }

    /// How many operands it takes; nothing if any number from one.
    fn operands(&self) -> Option<usize> {
        Some(match self {
            Self::Concat { .. } => return None,
            Self::Embedding { position, segment, .. } => 2 + usize::from(*position) + usize::from(*segment),
            Self::MatMul { bias, .. } => 2 + usize::from(*bias),
            Self::Attention { cached, .. } => 3 + 2 * usize::from(*cached),
            Self::LayerNorm { .. } => 3,
            Self::Add | Self::Binary { .. } | Self::Gather { .. } | Self::RmsNorm { .. } => 2,
            Self::Select => 3,
            Self::Conv2d(c) => 2 + usize::from(c.bias),
            _ => 1,
        })
    }

    /// The result's shape for operands of the given shapes.
    ///
    /// # Errors
    /// A sentence with the rule that is broken and the shapes.
    pub fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let needed = self.operands().unwrap_or(inputs.len().max(1));
        if inputs.len() != needed {
            return Err(format!("{} operands given, {needed} needed", inputs.len()));
        }
        if let Some(shape) = inputs.iter().find(|s| s.contains(&0)) {
            return Err(format!("an operand of shape {shape:?} is empty"));
        }
        if let Some(shape) = inputs.iter().find(|s| elements(s).is_none()) {
            return Err(format!("an operand of shape {shape:?} is too large"));
        }
        match self {
            Self::Embedding { position, first, .. } => embedding_shape(inputs, *position, *first),
            Self::MatMul { transpose_b, .. } => matmul_shape(inputs, *transpose_b),
            Self::Attention { heads, .. } => attention_shape(inputs, *heads),
            Self::LayerNorm { .. } | Self::RmsNorm { .. } => layer_norm_shape(inputs),
            Self::Rotary { size, base, .. } => rotary_shape(inputs[0], *size, *base),
            Self::ClippedRelu { limit } if !(limit.is_finite() && *limit > 0.0) => {
                Err(format!("the limit must be a number above 0, found {limit}"))
            }
            Self::Elementwise { expression } => expression.check().map(|()| inputs[0].to_vec()),
            Self::Softmax | Self::Gelu { .. } | Self::Relu | Self::ClippedRelu { .. } => Ok(inputs[0].to_vec()),
            Self::Binary { .. } | Self::Select => rearrange::broadcast_shape(inputs),
            Self::Transpose { .. }
            | Self::Take { .. }
            | Self::Pad { .. }
            | Self::Resample { .. }
            | Self::Gather { .. }
            | Self::Reduce { .. } => rearrange::shape(self, inputs),
            Self::LocalResponseNorm { size, .. } => match *size {
                1..=MAX_WINDOW => image(inputs[0]).map(|shape| shape.to_vec()),
                size => Err(format!("{size} channels in a sum; give 1 to {MAX_WINDOW}")),
            },
            Self::Concat { axis } => concat_shape(inputs, *axis),
            Self::Add if inputs[0] == inputs[1] => Ok(inputs[0].to_vec()),
            Self::Add => Err(format!("both operands must have one shape, found {:?} and {:?}", inputs[0], inputs[1])),
            Self::Pooling { .. } => match inputs[0] {
                [batch @ .., _, width] => Ok([batch, &[*width]].concat()),
                other => Err(format!("needs [.., tokens, width], found {other:?}")),
            },
            Self::Conv2d(conv) => conv_shape(inputs, conv),
            Self::MaxPool(window) | Self::AveragePool { window, .. } => {
                let [n, h, w, c] = image(inputs[0])?;
                let [h, w] = window.output([h, w])?;
                Ok(vec![n, h, w, c])
            }
            Self::GlobalAveragePool => image(inputs[0]).map(|[n, _, _, c]| vec![n, c]),
            Self::Reshape { shape } => {
                if elements(shape) == elements(inputs[0]) {
                    Ok(shape.clone())
                } else {
                    Err(format!("{:?} and {shape:?} have different numbers of elements", inputs[0]))
                }
            }
        }
    }

    /// The work on operands of the given (valid) shapes, `weights` of whose elements are constant.
    pub fn work(&self, inputs: &[&[usize]], output: &[usize], weights: u64) -> Work {
        let count = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let out = count(output);
        let last = |shape: &[usize]| shape.last().copied().unwrap_or(1) as u64;
        let rows = |shape: &[usize]| shape[shape.len() - 2] as u64;
        let (macs, elements) = match self {
            Self::MatMul { .. } => (out * last(inputs[0]), 0),
            Self::Attention { heads, cached, .. } => {
                let past = if *cached { rows(inputs[3]) } else { 0 };
                let keys = rows(inputs[1]) + past;
                (2 * out * keys, out / last(inputs[0]) * *heads as u64 * keys)
            }
            Self::Conv2d(_) => (out * count(&inputs[1][..3]), 0),
            Self::MaxPool(window) | Self::AveragePool { window, .. } => {
                (0, out * (window.kernel[0] * window.kernel[1]) as u64)
            }
            Self::GlobalAveragePool | Self::Pooling { .. } | Self::Reduce { .. } => (0, count(inputs[0])),
            Self::LocalResponseNorm { size, .. } => (0, out * *size as u64),
            Self::Reshape { .. } => return Work::default(),
            _ => (0, out),
        };
        let all: u64 = match self {
            Self::Embedding { .. } => return Work { elements, weights, reads: count(inputs[0]), writes: out, macs },
            // Weights that are read are those that are taken.
            Self::Gather { .. } => {
                return Work { elements, weights: 0, reads: out + count(inputs[1]), writes: out, macs };
            }
            _ => inputs.iter().map(|s| count(s)).sum(),
        };
        Work { macs, elements, weights, reads: all - weights, writes: out }
    }
}

/// Largest number of elements of a tensor, far above any network's, so that sizes and work stay inside 64 bits.
const MAX_ELEMENTS: usize = 1 << 44;

/// Number of elements, or nothing if there are more than [`MAX_ELEMENTS`]. A size of 0 does not excuse the others: partial
/// products stay inside 64 bits, too.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let bound = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n <= MAX_ELEMENTS)?;
    Some(if shape.contains(&0) { 0 } else { bound })
}

fn concat_shape(inputs: &[&[usize]], axis: usize) -> Result<Vec<usize>, String> {
    let first = inputs[0];
    if axis >= first.len() {
        return Err(format!("axis {axis} of {first:?}, which has {} axes", first.len()));
    }
    let fits = |s: &[usize]| s.len() == first.len() && (0..s.len()).all(|a| a == axis || s[a] == first[a]);
    if let Some(other) = inputs.iter().find(|s| !fits(s)) {
        return Err(format!("all sizes but those of axis {axis} must agree, found {first:?} and {other:?}"));
    }
    let mut shape = first.to_vec();
    // Each size is at most `MAX_ELEMENTS`.
    shape[axis] = inputs.iter().map(|s| s[axis]).sum();
    Ok(shape)
}

fn embedding_shape(inputs: &[&[usize]], position: bool, first: usize) -> Result<Vec<usize>, String> {
    let (ids, tables) = (inputs[0], &inputs[1..]);
    let [_, width] = tables[0] else { return Err(format!("a table is [rows, width], found {:?}", tables[0])) };
    if let Some(other) = tables.iter().find(|t| t.len() != 2 || t[1] != *width) {
        return Err(format!("every table is [rows, {width}], found {other:?}"));
    }
    let tokens = ids.last().copied().unwrap_or(1);
    if position && first.saturating_add(tokens) > tables[1][0] {
        return Err(format!("{} positions needed, the table has {}", first.saturating_add(tokens), tables[1][0]));
    }
    Ok([ids, &[*width]].concat())
}

fn matmul_shape(inputs: &[&[usize]], transpose_b: bool) -> Result<Vec<usize>, String> {
    let (a, b) = (inputs[0], inputs[1]);
    let mismatch = |rule: &str| Err(format!("{rule}, found {a:?} and {b:?}"));
    let [batch @ .., i, k] = a else { return mismatch("the left operand is [.., I, K]") };
    let [b_batch @ .., b_rows, b_cols] = b else { return mismatch("the right operand is [.., K, J]") };
    let (b_k, j) = if transpose_b { (b_cols, b_rows) } else { (b_rows, b_cols) };
    if k != b_k {
        return mismatch(&format!("the inner sizes must agree ({k} and {b_k})"));
    }
    if !b_batch.is_empty() && b_batch != batch {
        return mismatch("the leading sizes must agree");
    }
    match inputs.get(2) {
        Some(bias) if **bias != [*j] => Err(format!("the bias must be [{j}], found {bias:?}")),
        _ => Ok([batch, &[*i, *j]].concat()),
    }
}

fn attention_shape(inputs: &[&[usize]], heads: usize) -> Result<Vec<usize>, String> {
    let [batch @ .., _, width] = inputs[0] else {
        return Err(format!("query, key and value are [.., tokens, width], found {:?}", inputs[0]));
    };
    if heads == 0 || width % heads != 0 {
        return Err(format!("{heads} heads do not divide a width of {width}"));
    }
    let key_width = inputs[1].last().copied().unwrap_or(0);
    let key_heads = key_width / (width / heads);
    if key_width % (width / heads) != 0 || key_heads == 0 || !heads.is_multiple_of(key_heads) {
        return Err(format!("keys of {key_width} columns are no heads that {heads} of {width} columns share"));
    }
    for pair in inputs[1..].chunks(2) {
        let [key, value] = pair else { unreachable!("the number of operands is checked") };
        let fits = |s: &[usize]| s.len() == batch.len() + 2 && s.starts_with(batch) && s.last() == Some(&key_width);
        if key != value || !fits(key) {
            return Err(format!("key {key:?} and value {value:?} do not fit the query {:?}", inputs[0]));
        }
    }
    Ok(inputs[0].to_vec())
}

fn rotary_shape(x: &[usize], size: usize, base: f32) -> Result<Vec<usize>, String> {
    let width = x.last().copied().unwrap_or(0);
    match x {
        [_, _] if size > 0 && size.is_multiple_of(2) && width % size == 0 && base.is_finite() && base > 0.0 => {
            Ok(x.to_vec())
        }
        _ => Err(format!("heads of {size} columns and a base of {base} do not fit {x:?}")),
    }
}

fn layer_norm_shape(inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let width = inputs[0].last().copied().unwrap_or(1);
    match inputs[1..].iter().find(|s| ***s != [width]) {
        Some(other) => Err(format!("gamma and beta must be [{width}], found {other:?}")),
        None => Ok(inputs[0].to_vec()),
    }
}

fn image(shape: &[usize]) -> Result<[usize; 4], String> {
    shape.try_into().map_err(|_| format!("an image is [images, height, width, channels], found {shape:?}"))
}

fn conv_shape(inputs: &[&[usize]], conv: &Conv2d) -> Result<Vec<usize>, String> {
    let [n, h, w, channels] = image(inputs[0])?;
    let [kh, kw, per_group, outputs] = *inputs[1] else {
        return Err(format!("weights are [rows, columns, inputs / groups, outputs], found {:?}", inputs[1]));
    };
    if [kh, kw] != conv.window.kernel {
        return Err(format!("the kernel is {:?}, the weights are {:?}", conv.window.kernel, inputs[1]));
    }
    if conv.groups == 0 || per_group.checked_mul(conv.groups) != Some(channels) || !outputs.is_multiple_of(conv.groups)
    {
        return Err(format!(
            "{} groups of {per_group} channels and {outputs} outputs do not fit {channels} input channels",
            conv.groups
        ));
    }
    if let Some(bias) = inputs.get(2).filter(|b| ***b != [outputs]) {
        return Err(format!("the bias must be [{outputs}], found {bias:?}"));
    }
    let [h, w] = conv.window.output([h, w])?;
    Ok(vec![n, h, w, outputs])
}

/// Reorders weights from (outputs, inputs, rows, columns) to (rows, columns, inputs, outputs), times a factor an output.
pub(crate) fn channels_last(kernel: &[f32], shape: &[usize], factor: impl Fn(usize) -> f32) -> Vec<f32> {
    let [rows, cols, inputs, outputs] = *shape else { unreachable!("a convolution's weights have four sizes") };
    let mut out = Vec::with_capacity(kernel.len());
    for pixel in 0..rows * cols {
        for i in 0..inputs {
            out.extend((0..outputs).map(|o| kernel[(o * inputs + i) * rows * cols + pixel] * factor(o)));
        }
    }
    out
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.kernel[0], self.kernel[1])?;
        if self.stride != [1; 2] {
            write!(f, " /{}", self.stride[0])?;
        }
        if self.dilation != [1; 2] {
            write!(f, " dilated {}", self.dilation[0])?;
        }
        Ok(())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Attention { heads, causal, .. } => {
                write!(f, " {heads} heads{}", if *causal { ", causal" } else { "" })
            }
            Self::Conv2d(c) if c.groups > 1 => write!(f, " {}, {} groups", c.window, c.groups),
            Self::Conv2d(Conv2d { window, .. }) | Self::MaxPool(window) | Self::AveragePool { window, .. } => {
                write!(f, " {window}")
            }
            _ => Ok(()),
        }
    }
}
