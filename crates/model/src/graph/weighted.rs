//! Graphs of model families with their float32 weights, and with pseudo-random ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::GraphError;
use super::families::{EXPANSION, ResNetConfig, bert, gpt2, llama, resnet};
use super::network::{Graph, GraphModel, Source};
use super::operator::{Operator, channels_last};
use crate::bert::BertModel;
use crate::error::ModelError;
use crate::float::{Dense, Norm};
use crate::gpt2::{Gpt2Model, Positions};
use crate::random::Random;
use crate::tensor::Tensor;
use crate::transformer::llama::LlamaConfig;
use crate::transformer::weights::LayerWeights;
use crate::weights::WeightFile;

/// Constants of a graph by edge name.
struct Filler {
    model: GraphModel,
}

impl Filler {
    fn new(graph: Graph) -> Self {
        Self { model: GraphModel { graph, constants: Default::default() } }
    }

    fn put(&mut self, name: &str, values: Vec<f32>) -> Result<(), GraphError> {
        let id = self.model.graph.find_edge(name).ok_or_else(|| GraphError::NoSuchEdge { edge: name.into() })?;
        let edge = self.model.graph.edge(id);
        if edge.elements() != values.len() {
            let (shape, expected, found) = (edge.shape.clone(), edge.elements(), values.len());
            return Err(GraphError::Values { edge: name.into(), shape, expected, found });
        }
        self.model.constants.insert(id, values);
        Ok(())
    }

    fn dense(&mut self, name: &str, dense: &Dense) -> Result<(), GraphError> {
        self.put(&format!("{name}.weight"), dense.weight.transposed().data)?;
        self.put(&format!("{name}.bias"), dense.bias.clone())
    }

    fn norm(&mut self, name: &str, norm: &Norm) -> Result<(), GraphError> {
        self.put(&format!("{name}.gamma"), norm.gamma.clone())?;
        self.put(&format!("{name}.beta"), norm.beta.clone())
    }

    fn layer(&mut self, index: usize, w: &LayerWeights) -> Result<(), GraphError> {
        let name = |t: Tensor| format!("layer.{index}.{t}");
        self.dense(&name(Tensor::Query), &w.query)?;
        self.dense(&name(Tensor::Key), &w.key)?;
        self.dense(&name(Tensor::Value), &w.value)?;
        self.dense(&name(Tensor::AttentionOutput), &w.attention_output)?;
        self.dense(&name(Tensor::Intermediate), &w.intermediate)?;
        self.dense(&name(Tensor::FfnOutput), &w.output)?;
        self.norm(&name(Tensor::AttentionNorm), &w.attention_norm)?;
        self.norm(&name(Tensor::Output), &w.output_norm)
    }
}

impl GraphModel {
    /// A Llama-like decoder on `tokens` tokens, with its tensors by name.
    ///
    /// # Errors
    /// As [`llama`]; and tensors that are missing or of another size.
    pub fn from_llama(
        config: &LlamaConfig,
        tensors: BTreeMap<String, Vec<f32>>,
        tokens: usize,
    ) -> Result<Self, GraphError> {
        let mut filler = Filler::new(llama(config, tokens)?);
        tensors.into_iter().try_for_each(|(name, values)| filler.put(&name, values))?;
        Ok(filler.model)
    }

    /// The graph of a BERT-family model with its float32 weights.
    ///
    /// # Errors
    /// As [`bert`].
    pub fn from_bert(model: &BertModel, tokens: usize) -> Result<Self, GraphError> {
        let mut f = Filler::new(bert(&model.config, tokens)?);
        let e = &model.embeddings;
        f.put("embeddings.word", e.word.to_floats())?;
        for (name, table) in [("position", &e.position), ("segment", &e.segment)] {
            f.put(&format!("embeddings.{name}"), table.data.clone())?;
        }
        f.norm("embeddings.norm", &e.norm)?;
        for (index, w) in model.layers.iter().enumerate() {
            f.layer(index, w)?;
        }
        Ok(f.model)
    }

    /// The graph of a GPT-2-family model with its float32 weights.
    ///
    /// # Errors
    /// As [`gpt2`].
    pub fn from_gpt2(model: &Gpt2Model, positions: Positions) -> Result<Self, GraphError> {
        let mut f = Filler::new(gpt2(&model.config, positions)?);
        f.put("embeddings.word", model.word.data.clone())?;
        f.put("embeddings.position", model.position.data.clone())?;
        f.norm("entry_norm", &model.entry_norm)?;
        for (index, block) in model.blocks.iter().enumerate() {
            f.layer(index, block)?;
        }
        if let Some(head) = &model.head {
            f.put("head.weight", head.data.clone())?;
        }
        Ok(f.model)
    }

    /// A graph with pseudo-random weights: products keep the variance of their operand, halved by a ReLU, about as it is.
    ///
    /// # Errors
    /// If a weight has no elements, or the tensors need too much memory.
    pub fn synthetic(graph: Graph, seed: u64) -> Result<Self, GraphError> {
        graph.check_memory()?;
        let mut random = Random::new(seed);
        let mut f = Filler::new(graph);
        for node in f.model.graph.nodes.clone() {
            for (index, &edge) in node.inputs.iter().enumerate() {
                let edge = f.model.graph.edge(edge).clone();
                let terms = edge.shape.iter().rev().skip(1).product::<usize>().max(1);
                let deviation = if index == 1 { (2.0 / terms as f32).sqrt() } else { 0.05 };
                if edge.source == Source::Constant {
                    f.put(&edge.name, random.matrix(1, edge.elements(), deviation).data)?;
                }
            }
        }
        Ok(f.model)
    }

    /// A residual network from a directory with `model.safetensors` in torchvision's names (`layer1.0.conv2.weight`,
    /// `layer1.0.bn2.running_mean`, ...); batch normalisation is folded into weights and biases.
    ///
    /// # Errors
    /// As [`resnet`], and if a tensor is missing or has the wrong shape or type.
    pub fn load_resnet(directory: impl AsRef<Path>, config: &ResNetConfig) -> Result<Self, ModelError> {
        let weights = WeightFile::open(directory.as_ref(), "")?;
        let graph = resnet(config)?;
        graph.check_memory()?;
        let mut f = Filler::new(graph);
        for node in f.model.graph.nodes.clone() {
            if let Operator::Conv2d(_) = node.operator {
                let shape = f.model.graph.edge(node.inputs[1]).shape.clone();
                let (kernel, bias) = folded_convolution(&weights, &node.name, &shape)?;
                f.put(&format!("{}.weight", node.name), kernel)?;
                f.put(&format!("{}.bias", node.name), bias)?;
            }
        }
        let width = config.widths.last().copied().unwrap_or(config.stem) * EXPANSION;
        let weight = weights.matrix("fc.weight", config.classes, width)?;
        f.dense("fc", &Dense { weight, bias: weights.vector("fc.bias", config.classes)? })?;
        Ok(f.model)
    }
}

/// Added to the variance in batch normalisation (PyTorch's default, which torchvision's models use).
const BATCH_NORM_EPSILON: f32 = 1e-5;

/// Weights (rows, columns, inputs, outputs) and bias of a convolution with its batch normalisation.
fn folded_convolution(weights: &WeightFile, name: &str, shape: &[usize]) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    let [rows, cols, inputs, outputs] = *shape else { unreachable!("the graph's convolutions have four sizes") };
    // `layer1.0.conv2` is followed by `layer1.0.bn2`, `layer1.0.downsample` is a sequence of the two.
    let (conv, norm) = match name.strip_suffix(".downsample") {
        Some(_) => (format!("{name}.0"), format!("{name}.1")),
        None => (name.to_owned(), name.replace("conv", "bn")),
    };
    let kernel = weights.floats(&format!("{conv}.weight"), &[outputs, inputs, rows, cols])?;
    let part = |p: &str| weights.vector(&format!("{norm}.{p}"), outputs);
    let (gamma, beta, mean, variance) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    let factor: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + BATCH_NORM_EPSILON).sqrt()).collect();
    let bias = (0..outputs).map(|o| beta[o] - mean[o] * factor[o]).collect();
    Ok((channels_last(&kernel, shape, |o| factor[o]), bias))
}
