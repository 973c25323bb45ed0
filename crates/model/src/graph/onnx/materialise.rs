//! How a folded value turns into nodes.

use super::channelwise::Channelwise;
use super::elementwise::MASKED;
use super::error::OnnxError;
use super::importer::Importer;
use super::layouts::full;
use super::op::Op;
use super::value::{Convolution, Layout, NormStage, Pending, Product, Scores, Value, View};
use crate::graph::expression::{BinaryFunction, Expression, Meaning, UnaryFunction};
use crate::graph::network::EdgeId;
use crate::graph::operator::{Conv2d, Operator, Reduction};

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
                    // Of an image it is a part of the number format, or of the convolution that reads it.
                    Some(Meaning::Affine(factor, offset)) if self.scales(x, [factor, offset]) => {
                        let scaled = self.channelwise(op, name, x, &Channelwise::uniform(factor, offset))?;
                        let Value::Pending(pending, _) = scaled else { unreachable!("a convolution is pending") };
                        return self.materialise(op, name, &pending, &shape);
                    }
                    Some(Meaning::Affine(factor, offset)) => {
                        Operator::Elementwise { expression: Expression::line(factor, offset) }
                    }
                    None => Operator::Elementwise { expression: expression.clone() },
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
            Pending::Norm(x, stage) => {
                let edge = self.norm_stage(op, name, x, stage)?;
                let edge = self.shaped(name, edge, &full(&shape))?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
            Pending::Scores(scores) => {
                let edge = self.separate_scores(name, scores, &shape)?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
            Pending::NotANumber => {
                let edge = self.weight(name, &full(&shape), vec![0.0; shape.iter().product()], None)?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
        }
    }

    /// Whether a line through an image's numbers becomes a convolution: its numbers are those of weights.
    fn scales(&self, x: &View, numbers: [f64; 2]) -> bool {
        x.layout == Layout::ChannelsFirst && x.shape.len() == 4 && numbers.iter().all(|&n| (n as f32).is_finite())
    }

    /// A part of a LayerNorm by itself.
    fn norm_stage(&mut self, op: Op<'_>, name: &str, x: &View, stage: &NormStage) -> Result<EdgeId, OnnxError> {
        match stage {
            NormStage::Mean => {
                let edge = self.in_order(name, x)?;
                let axes = vec![self.builder.shape(edge).len() - 1];
                self.node(name, Operator::Reduce { function: Reduction::Mean, axes, keep: true }, &[edge])
            }
            NormStage::Centred => {
                let (edge, mean) = (self.in_order(name, x)?, self.norm_stage(op, name, x, &NormStage::Mean)?);
                self.node(name, Operator::Binary { function: BinaryFunction::Sub }, &[edge, mean])
            }
            NormStage::Squared => {
                let centred = self.norm_stage(op, name, x, &NormStage::Centred)?;
                self.node(name, Operator::Binary { function: BinaryFunction::Mul }, &[centred, centred])
            }
            NormStage::Variance => {
                let squared = self.norm_stage(op, name, x, &NormStage::Squared)?;
                let axes = vec![self.builder.shape(squared).len() - 1];
                self.node(name, Operator::Reduce { function: Reduction::Mean, axes, keep: true }, &[squared])
            }
            NormStage::VarianceEpsilon(epsilon) => {
                let variance = self.norm_stage(op, name, x, &NormStage::Variance)?;
                let expression = Expression::line(1.0, f64::from(*epsilon));
                self.node(name, Operator::Elementwise { expression }, &[variance])
            }
            NormStage::Deviation(epsilon) => {
                let variance = self.norm_stage(op, name, x, &NormStage::VarianceEpsilon(*epsilon))?;
                let expression = Expression::Unary(UnaryFunction::Sqrt, Box::new(Expression::X));
                self.node(name, Operator::Elementwise { expression }, &[variance])
            }
            NormStage::Normalised(_) | NormStage::Scaled(..) => {
                Err(op.refuse(format!("its operand `{name}` is a part of a LayerNorm"), "export the model again"))
            }
        }
    }

    /// Scores or probabilities of attention by themselves: `[.., heads, tokens, keys]`.
    fn separate_scores(&mut self, name: &str, scores: &Scores, shape: &[usize]) -> Result<EdgeId, OnnxError> {
        let [batch @ .., heads, tokens, keys] = shape else { unreachable!("scores have three axes") };
        let mut operands = Vec::new();
        for (edge, rows) in [(scores.query, tokens), (scores.key, keys)] {
            let size = self.builder.shape(edge).last().copied().unwrap_or(1) / heads;
            let view = View {
                edge,
                shape: [batch, &[*heads, *rows, size]].concat(),
                layout: Layout::Heads { transposed: false },
            };
            operands.push(self.in_order(name, &view)?);
        }
        let mut edge = self.node(name, Operator::MatMul { transpose_b: true, bias: false }, &operands)?;
        if scores.scale != 1.0 {
            let expression = Expression::line(f64::from(scores.scale), 0.0);
            edge = self.node(name, Operator::Elementwise { expression }, &[edge])?;
        }
        if scores.causal {
            let past = keys - tokens;
            let addend = |i: usize| if i % keys <= past + i / keys { 0.0 } else { MASKED as f32 };
            let mask = (0..tokens * keys).map(addend).collect();
            let mask = self.weight(&format!("{name}.mask"), &[*tokens, *keys], mask, None)?;
            edge = self.node(name, Operator::Binary { function: BinaryFunction::Add }, &[edge, mask])?;
        }
        if scores.probabilities { self.node(name, Operator::Softmax, &[edge]) } else { Ok(edge) }
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
