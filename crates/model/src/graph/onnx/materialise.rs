//! How a folded value turns into nodes.

use super::channelwise::Channelwise;
use super::error::OnnxError;
use super::expression::Meaning;
use super::importer::Importer;
use super::op::Op;
use super::value::{Convolution, Layout, NormStage, Pending, Product, Value, View};
use crate::graph::network::EdgeId;
use crate::graph::operator::{Conv2d, Operator};

impl Importer<'_> {
    /// Turns a folded value into nodes.
    pub(super) fn materialise(
        &mut self,
        op: Op<'_>,
        name: &str,
        pending: &Pending,
        shape: &[usize],
    ) -> Result<View, OnnxError> {
        let shape = shape.to_vec();
        match pending {
            Pending::Product(p) => {
                let edge = self.product(name, p)?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
            Pending::Convolution(c) => {
                let edge = self.convolution(name, c)?;
                match &c.rows {
                    None => Ok(View { edge, shape, layout: Layout::ChannelsFirst }),
                    Some(rows) => {
                        let rows = Operator::Reshape { shape: rows.clone() };
                        let edge = self.node(&format!("{name}.rows"), rows, &[edge])?;
                        Ok(View { edge, shape, layout: Layout::Plain })
                    }
                }
            }
            Pending::Elementwise(x, expression) => {
                let operator = match expression.meaning() {
                    Some(Meaning::Affine(1.0, 0.0)) => return Ok(View { shape, ..x.clone() }),
                    Some(Meaning::Relu) => Operator::Relu,
                    Some(Meaning::ClippedRelu(limit)) => Operator::ClippedRelu { limit: limit as f32 },
                    Some(Meaning::Gelu(form)) => Operator::Gelu { form },
                    Some(Meaning::Affine(factor, offset)) => {
                        let scaled = self.channelwise(op, name, x, &Channelwise::uniform(factor, offset))?;
                        let Value::Pending(pending, _) = scaled else { unreachable!("a convolution is pending") };
                        return self.materialise(op, name, &pending, &shape);
                    }
                    None => {
                        return Err(op.refuse(
                            format!("the element-wise expression that ends in `{name}` is none of ReLU, ReLU6, GELU and a line"),
                            "use one of these activations",
                        ));
                    }
                };
                let edge = self.node(name, operator, &[x.edge])?;
                Ok(View { edge, shape, layout: x.layout })
            }
            Pending::Norm(x, NormStage::Scaled(epsilon, gamma)) => {
                let beta = vec![0.0; gamma.len()];
                self.layer_norm(op, name, x, *epsilon, gamma.clone(), beta)
            }
            Pending::Norm(x, NormStage::Normalised(epsilon)) => {
                let width = x.shape.last().copied().unwrap_or(1);
                self.layer_norm(op, name, x, *epsilon, vec![1.0; width], vec![0.0; width])
            }
            Pending::Norm(..) => Err(op.refuse(
                format!("its operand `{name}` is a mean or variance by itself"),
                "only means and variances of a LayerNorm, and means over an image, are translated",
            )),
            Pending::Scores(_) | Pending::NotANumber => Err(op.refuse(
                format!("its operand `{name}` is an attention's scores or probabilities"),
                "only the usual chain scores, mask, softmax, context is translated",
            )),
        }
    }

    fn product(&mut self, name: &str, p: &Product) -> Result<EdgeId, OnnxError> {
        let (k, j) = (p.weight.rows, p.weight.cols);
        let weight = self.weight(&format!("{name}.weight"), &[k, j], p.weight.data.clone(), p.scales.clone())?;
        let mut operands = vec![p.a, weight];
        if let Some(bias) = &p.bias {
            operands.push(self.weight(&format!("{name}.bias"), &[j], bias.clone(), None)?);
        }
        self.node(name, Operator::MatMul { transpose_b: false, bias: p.bias.is_some() }, &operands)
    }

    fn convolution(&mut self, name: &str, c: &Convolution) -> Result<EdgeId, OnnxError> {
        let weight = self.weight(&format!("{name}.weight"), &c.weight_shape, c.weight.clone(), c.scales.clone())?;
        let mut operands = vec![c.x, weight];
        if let Some(bias) = &c.bias {
            operands.push(self.weight(&format!("{name}.bias"), &[bias.len()], bias.clone(), None)?);
        }
        self.node(name, Operator::Conv2d(Conv2d { bias: c.bias.is_some(), ..c.conv }), &operands)
    }

    /// A LayerNorm over the last axis of a plain view.
    pub(super) fn layer_norm(
        &mut self,
        op: Op<'_>,
        name: &str,
        x: &View,
        epsilon: f32,
        gamma: Vec<f32>,
        beta: Vec<f32>,
    ) -> Result<View, OnnxError> {
        let x = self.reshaped(op, x.clone())?;
        let width = gamma.len();
        let gamma = self.weight(&format!("{name}.gamma"), &[width], gamma, None)?;
        let beta = self.weight(&format!("{name}.beta"), &[width], beta, None)?;
        let edge = self.node(name, Operator::LayerNorm { epsilon }, &[x.edge, gamma, beta])?;
        Ok(View { edge, shape: x.shape, layout: Layout::Plain })
    }
}
