//! What an ONNX value has become: a constant, an edge of the graph, or something that may still be folded.

use std::rc::Rc;

use super::constant::Constant;
use crate::graph::expression::Expression;
use crate::graph::network::EdgeId;
use crate::graph::operator::Conv2d;
use crate::matrix::Matrix;

/// How the elements of a value lie in its edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In the same order.
    Plain,
    /// `[n, c, ..]`, as an image `[n, c, h, w]`; the elements lie as `[n, .., c]`.
    ChannelsFirst,
    /// An image whose channels are several axes, `[n, c1, c2, h, w]`; the elements lie as `[n, h, w, c1, c2]`.
    SplitChannels,
    /// `[n, c * h * w]` of an image with that many pixels; the edge is `[n, h, w, c]`.
    FlatImage {
        /// Rows times columns.
        pixels: usize,
    },
    /// `[.., heads, tokens, size]`, or its last two axes swapped; the edge is `[.., tokens, heads * size]`.
    Heads {
        /// `[.., heads, size, tokens]`.
        transposed: bool,
    },
}

/// A value that is an edge of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) edge: EdgeId,
    pub(super) shape: Vec<usize>,
    pub(super) layout: Layout,
}

/// A value that may still be folded into what reads it.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// A dense product with constant weights.
    Product(Product),
    /// A convolution with constant weights.
    Convolution(Convolution),
    /// An element-wise expression of one value.
    Elementwise(View, Expression),
    /// Attention up to its scores or probabilities.
    Scores(Scores),
    /// Whether the probabilities are not numbers: never.
    NotANumber,
    /// A part of a LayerNorm of one value.
    Norm(View, NormStage),
}

#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) a: EdgeId,
    /// K x J.
    pub(super) weight: Matrix<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) scales: Option<Vec<f32>>,
}

#[derive(Clone, Debug)]
pub(super) struct Convolution {
    pub(super) x: EdgeId,
    pub(super) conv: Conv2d,
    /// Rows, columns, inputs a group, outputs.
    pub(super) weight: Vec<f32>,
    pub(super) weight_shape: [usize; 4],
    pub(super) bias: Option<Vec<f32>>,
    pub(super) scales: Option<Vec<f32>>,
    /// Shape of the edge of a plain tensor whose rows are pixels here; the result gets it back.
    pub(super) rows: Option<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub(super) struct Scores {
    pub(super) query: EdgeId,
    pub(super) key: EdgeId,
    pub(super) heads: usize,
    pub(super) scale: f32,
    pub(super) causal: bool,
    /// Softmax has been applied.
    pub(super) probabilities: bool,
}

/// How much of `(x - mean) / sqrt(variance + epsilon) * gamma` is there.
#[derive(Clone, Debug)]
pub(super) enum NormStage {
    Mean,
    Centred,
    Squared,
    Variance,
    VarianceEpsilon(f32),
    Deviation(f32),
    Normalised(f32),
    Scaled(f32, Vec<f32>),
}

/// What an ONNX value has become.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Constant(Rc<Constant>),
    View(View),
    /// With its shape.
    Pending(Rc<Pending>, Vec<usize>),
}

impl Value {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Constant(c) => &c.shape,
            Self::View(v) => &v.shape,
            Self::Pending(_, shape) => shape,
        }
    }

    pub(super) fn constant(c: Constant) -> Self {
        Self::Constant(Rc::new(c))
    }

    pub(super) fn pending(p: Pending, shape: Vec<usize>) -> Self {
        Self::Pending(Rc::new(p), shape)
    }
}
