//! Arithmetic with one number a channel: part of the product or convolution before it, or a depthwise 1x1 convolution.

use super::constant::Constant;
use super::error::OnnxError;
use super::importer::Importer;
use super::op::Op;
use super::value::{Convolution, Layout, Pending, Product, Value, View};
use crate::graph::operator::{Conv2d, Operator, Window};
use crate::matrix::Matrix;

/// `factor * x + offset`, each with one number or one a channel.
#[derive(Clone, Debug)]
pub(super) struct Channelwise {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

impl Channelwise {
    /// The same for all channels.
    pub(super) fn uniform(factor: f64, offset: f64) -> Self {
        Self { factor: vec![factor], offset: vec![offset] }
    }

    /// The arithmetic of a binary operator with a constant, for an operand of the given shape with its channels in axis
    /// `axis`; `reversed` if the constant is the left operand.
    pub(super) fn of(kind: &str, c: &Constant, reversed: bool, shape: &[usize], axis: usize) -> Option<Self> {
        // Counted from the end, as broadcasting does.
        let behind = shape.len() - axis - 1;
        let alone = |(i, &size): (usize, &usize)| size == 1 || c.shape.len() - 1 - i == behind;
        if c.data.len() > 1 && (c.data.len() != shape[axis] || !c.shape.iter().enumerate().all(alone)) {
            return None;
        }
        // A constant of higher rank would give the result its rank.
        if c.data.is_empty() || c.shape.len() > shape.len() {
            return None;
        }
        let (ones, zeros) = (vec![1.0], vec![0.0]);
        let each = |f: fn(f64) -> f64| c.data.iter().map(|&v| f(v)).collect();
        let (factor, offset) = match (kind, reversed) {
            ("Add", _) => (ones, c.data.clone()),
            ("Sub", false) => (ones, each(|v| -v)),
            ("Sub", true) => (vec![-1.0], c.data.clone()),
            ("Mul", _) => (c.data.clone(), zeros),
            ("Div", false) => (each(f64::recip), zeros),
            _ => return None,
        };
        Some(Self { factor, offset })
    }

    /// Batch normalisation with running statistics.
    pub(super) fn normalisation(gamma: &[f64], beta: &[f64], mean: &[f64], variance: &[f64], epsilon: f64) -> Self {
        let factor: Vec<f64> = gamma.iter().zip(variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
        let offset = beta.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        Self { factor, offset }
    }

    fn factor(&self, channel: usize) -> f64 {
        self.factor[if self.factor.len() == 1 { 0 } else { channel }]
    }

    fn offset(&self, channel: usize) -> f64 {
        self.offset[if self.offset.len() == 1 { 0 } else { channel }]
    }

    fn is_product(&self) -> bool {
        self.offset.iter().all(|&o| o == 0.0)
    }

    fn bias(&self, old: Option<&Vec<f32>>, channels: usize) -> Option<Vec<f32>> {
        let new = |c: usize| self.offset(c) + self.factor(c) * old.map_or(0.0, |old| f64::from(old[c]));
        (old.is_some() || !self.is_product()).then(|| (0..channels).map(|c| new(c) as f32).collect())
    }

    /// The convolution with this behind it.
    pub(super) fn behind_convolution(&self, conv: &Convolution) -> Convolution {
        let outputs = conv.weight_shape[3];
        let scaled = |(i, w): (usize, &f32)| (f64::from(*w) * self.factor(i % outputs)) as f32;
        let unscaled = self.factor.iter().all(|&f| f == 1.0);
        Convolution {
            weight: conv.weight.iter().enumerate().map(scaled).collect(),
            bias: self.bias(conv.bias.as_ref(), outputs),
            scales: if unscaled { conv.scales.clone() } else { None },
            ..conv.clone()
        }
    }

    /// The dense product with this behind it.
    pub(super) fn behind_product(&self, product: &Product) -> Product {
        let weight = &product.weight;
        let unscaled = self.factor.iter().all(|&f| f == 1.0);
        Product {
            weight: Matrix::from_fn(weight.rows, weight.cols, |r, c| {
                (f64::from(weight.at(r, c)) * self.factor(c)) as f32
            }),
            bias: self.bias(product.bias.as_ref(), weight.cols),
            scales: if unscaled { product.scales.clone() } else { None },
            ..product.clone()
        }
    }
}

impl Importer<'_> {
    /// The arithmetic as a part of operand `index`, if that is a product or convolution that nothing else reads.
    pub(super) fn fold_channelwise(&self, op: Op<'_>, index: usize, value: &Value, own: &Channelwise) -> Option<Value> {
        let Value::Pending(pending, shape) = value else { return None };
        if !self.read_once(op, index) {
            return None;
        }
        let folded = match &**pending {
            Pending::Convolution(conv) => Pending::Convolution(own.behind_convolution(conv)),
            Pending::Product(product) => Pending::Product(own.behind_product(product)),
            _ => return None,
        };
        Some(Value::pending(folded, shape.clone()))
    }

    /// The arithmetic as a depthwise 1x1 convolution of an image, or of the rows of a plain tensor.
    pub(super) fn channelwise(
        &mut self,
        op: Op<'_>,
        name: &str,
        x: &View,
        own: &Channelwise,
    ) -> Result<Value, OnnxError> {
        let (edge, channels, rows) = match (x.layout, &x.shape[..]) {
            (Layout::ChannelsFirst, &[_, channels, _, _]) => (self.channels_last(name, x)?, channels, None),
            (Layout::ChannelsFirst, &[images, channels, pixels]) => {
                (self.shaped(name, x.edge, &[images, 1, pixels, channels])?, channels, None)
            }
            _ => {
                let view = self.reshaped(op, x.clone())?;
                let shape = self.builder.shape(view.edge).to_vec();
                let channels = shape.last().copied().unwrap_or(1);
                let pixels = shape.iter().product::<usize>() / channels.max(1);
                let image = Operator::Reshape { shape: vec![pixels, 1, 1, channels] };
                (self.node(&format!("{name}.pixels"), image, &[view.edge])?, channels, Some(shape))
            }
        };
        let convolution = Convolution {
            x: edge,
            conv: Conv2d { window: Window::square(1, 1, 0), groups: channels, bias: false },
            weight: vec![1.0; channels],
            weight_shape: [1, 1, 1, channels],
            bias: None,
            scales: None,
            rows,
        };
        let convolution = own.behind_convolution(&convolution);
        Ok(Value::pending(Pending::Convolution(convolution), x.shape.clone()))
    }
}
