//! Graphs of the model families: from a configuration (shapes only), from a model in memory, from a directory.
//!
//! Edges inside a layer are named `layer.N.TENSOR` after [`Tensor`], so that a quantised model's encodings find them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::builder::GraphBuilder;
use super::error::GraphError;
use super::expression::{BinaryFunction, Expression};
use super::network::{EdgeId, Graph};
use super::operator::{Conv2d, GeluForm, Operator, TokenPooling, Window};
use crate::bert::BertConfig;
use crate::error::ModelError;
use crate::gpt2::{Gpt2Config, Positions};
use crate::tensor::Tensor;
use crate::transformer::llama::LlamaConfig;
use crate::weights::WeightFile;

/// The sizes of a layer, shared by encoder and decoder.
struct LayerShape {
    heads: usize,
    ffn: usize,
    epsilon: f32,
}

impl LayerShape {
    fn attention(&self, width: usize, causal: bool, cached: bool) -> Operator {
        let scale = 1.0 / ((width / self.heads) as f32).sqrt();
        Operator::Attention { heads: self.heads, scale, causal, cached }
    }
}

/// A BERT-family encoder on `tokens` tokens, to the sentence embedding: inputs `ids`, output `embedding`.
///
/// # Errors
/// If the configuration's sizes do not fit together or `tokens` exceeds its positions.
pub fn bert(config: &BertConfig, tokens: usize) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(format!("{}-{}x{}", config.model_type, config.num_hidden_layers, config.hidden_size));
    let h = config.hidden_size;
    let ids = b.input("ids", &[tokens])?;
    let word = b.constant("embeddings.word", &[config.vocab_size, h])?;
    let position = b.constant("embeddings.position", &[config.max_position_embeddings, h])?;
    let segment = b.constant("embeddings.segment", &[config.type_vocab_size, h])?;
    let lookup = Operator::Embedding { position: true, segment: true, first: 0 };
    let sum = b.node("embeddings", lookup, &[ids, word, position, segment])?;
    let mut x = b.layer_norm("embeddings.norm", sum, config.layer_norm_eps)?;
    let shape =
        LayerShape { heads: config.num_attention_heads, ffn: config.intermediate_size, epsilon: config.layer_norm_eps };
    for layer in 0..config.num_hidden_layers {
        b.layer(Some(layer));
        x = encoder_layer(&mut b, layer, x, &shape)?;
    }
    b.layer(None);
    let embedding = b.node("embedding", Operator::Pooling { kind: TokenPooling::MeanNormalised }, &[x])?;
    b.output(embedding);
    Ok(b.finish())
}

/// Post-norm: LayerNorm after each residual addition.
fn encoder_layer(b: &mut GraphBuilder, layer: usize, x: EdgeId, shape: &LayerShape) -> Result<EdgeId, GraphError> {
    let name = |t: Tensor| format!("layer.{layer}.{t}");
    let h = b.shape(x)[1];
    let query = b.dense(&name(Tensor::Query), x, h)?;
    let key = b.dense(&name(Tensor::Key), x, h)?;
    let value = b.dense(&name(Tensor::Value), x, h)?;
    let context = b.node(&name(Tensor::Context), shape.attention(h, false, false), &[query, key, value])?;
    let branch = b.dense(&name(Tensor::AttentionOutput), context, h)?;
    let sum = b.node(&format!("layer.{layer}.attention_residual"), Operator::Add, &[branch, x])?;
    let middle = b.layer_norm(&name(Tensor::AttentionNorm), sum, shape.epsilon)?;
    let branch = feed_forward(b, layer, middle, shape, GeluForm::Erf)?;
    let sum = b.node(&format!("layer.{layer}.ffn_residual"), Operator::Add, &[branch, middle])?;
    b.layer_norm(&name(Tensor::Output), sum, shape.epsilon)
}

fn feed_forward(
    b: &mut GraphBuilder,
    layer: usize,
    x: EdgeId,
    shape: &LayerShape,
    form: GeluForm,
) -> Result<EdgeId, GraphError> {
    let name = |t: Tensor| format!("layer.{layer}.{t}");
    let h = b.shape(x)[1];
    let inner = b.dense(&name(Tensor::Intermediate), x, shape.ffn)?;
    let active = b.node(&name(Tensor::Gelu), Operator::Gelu { form }, &[inner])?;
    b.dense(&name(Tensor::FfnOutput), active, h)
}

/// A GPT-2-family decoder on `positions` (see [`Positions`]): inputs `ids` and, with earlier tokens,
/// `layer.N.key_cache` and `layer.N.value_cache`; output `logits`.
///
/// # Errors
/// If the configuration's sizes do not fit together or the positions exceed its context.
pub fn gpt2(config: &Gpt2Config, positions: Positions) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(format!("gpt2-{}x{}", config.n_layer, config.n_embd));
    let h = config.n_embd;
    let ids = b.input("ids", &[positions.tokens])?;
    let word = b.constant("embeddings.word", &[config.vocab_size, h])?;
    let position = b.constant("embeddings.position", &[config.n_positions, h])?;
    let lookup = Operator::Embedding { position: true, segment: false, first: positions.past };
    let residual = b.node("embeddings", lookup, &[ids, word, position])?;
    let normed = b.layer_norm("entry_norm", residual, config.layer_norm_epsilon)?;
    let shape = LayerShape { heads: config.n_head, ffn: config.ffn(), epsilon: config.layer_norm_epsilon };
    let mut stream = Stream { residual, normed };
    for layer in 0..config.n_layer {
        b.layer(Some(layer));
        stream = decoder_block(&mut b, layer, &stream, &shape, positions.past, config.gelu_form())?;
    }
    b.layer(None);
    let head = if config.tie_word_embeddings { word } else { b.constant("head.weight", &[config.vocab_size, h])? };
    let logits = b.node("logits", Operator::MatMul { transpose_b: true, bias: false }, &[stream.normed, head])?;
    b.output(logits);
    Ok(b.finish())
}

/// The residual stream of a decoder and its normalised form.
struct Stream {
    residual: EdgeId,
    normed: EdgeId,
}

/// Pre-norm: each branch reads the normalised stream, the stream itself is never normalised. The norm at the end of
/// the block is the next block's first one (see [`crate::gpt2`]).
fn decoder_block(
    b: &mut GraphBuilder,
    layer: usize,
    stream: &Stream,
    shape: &LayerShape,
    past: usize,
    form: GeluForm,
) -> Result<Stream, GraphError> {
    let name = |t: Tensor| format!("layer.{layer}.{t}");
    let h = b.shape(stream.residual)[1];
    let mut operands = Vec::new();
    for tensor in [Tensor::Query, Tensor::Key, Tensor::Value] {
        operands.push(b.dense(&name(tensor), stream.normed, h)?);
    }
    if past > 0 {
        for cache in ["key_cache", "value_cache"] {
            operands.push(b.input(&format!("layer.{layer}.{cache}"), &[past, h])?);
        }
    }
    let context = b.node(&name(Tensor::Context), shape.attention(h, true, past > 0), &operands)?;
    let branch = b.dense(&name(Tensor::AttentionOutput), context, h)?;
    let sum = b.node(&format!("layer.{layer}.attention_residual"), Operator::Add, &[branch, stream.residual])?;
    let normed = b.layer_norm(&name(Tensor::AttentionNorm), sum, shape.epsilon)?;
    let branch = feed_forward(b, layer, normed, shape, form)?;
    let residual = b.node(&format!("layer.{layer}.ffn_residual"), Operator::Add, &[branch, sum])?;
    let normed = b.layer_norm(&name(Tensor::Output), residual, shape.epsilon)?;
    Ok(Stream { residual, normed })
}

/// A Llama-like decoder on `tokens` tokens from the first position on: input `ids`, output `logits`. Weights have the names of
/// the GGUF file. The residual stream is not the accelerator's: the host adds to it and normalises it in float32.
///
/// # Errors
/// If the configuration's sizes do not fit together.
pub fn llama(config: &LlamaConfig, tokens: usize) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(config.name.clone());
    let ids = b.input("ids", &[tokens])?;
    let word = b.constant("token_embd.weight", &[config.vocabulary, config.width])?;
    let lookup = Operator::Embedding { position: false, segment: false, first: 0 };
    let mut x = b.node("embeddings", lookup, &[ids, word])?;
    for layer in 0..config.layers {
        b.layer(Some(layer));
        x = llama_block(&mut b, config, layer, x)?;
    }
    b.layer(None);
    let normed = rms_norm(&mut b, "output_norm", x, "output_norm.weight", config.epsilon)?;
    let head = if config.tied { word } else { b.constant("output.weight", &[config.vocabulary, config.width])? };
    let logits = b.node("logits", Operator::MatMul { transpose_b: true, bias: false }, &[normed, head])?;
    b.output(logits);
    Ok(b.finish())
}

fn rms_norm(b: &mut GraphBuilder, name: &str, x: EdgeId, gamma: &str, epsilon: f32) -> Result<EdgeId, GraphError> {
    let width = b.shape(x).last().copied().unwrap_or(1);
    let gamma = b.constant(gamma, &[width])?;
    b.node(name, Operator::RmsNorm { epsilon }, &[x, gamma])
}

fn llama_block(b: &mut GraphBuilder, config: &LlamaConfig, layer: usize, x: EdgeId) -> Result<EdgeId, GraphError> {
    let name = |part: &str| format!("layer.{layer}.{part}");
    let weight = |part: &str| format!("blk.{layer}.{part}.weight");
    let product = |b: &mut GraphBuilder, part: &str, x: EdgeId, weights: &str, outputs: usize| {
        let inputs = b.shape(x).last().copied().unwrap_or(1);
        let weights = b.constant(&weight(weights), &[outputs, inputs])?;
        b.node(&name(part), Operator::MatMul { transpose_b: true, bias: false }, &[x, weights])
    };
    let (size, width) = (config.head_size, config.width);
    let rotary = Operator::Rotary { size, base: config.rotation_base, first: 0 };
    let normed = rms_norm(b, &name("attention_norm"), x, &weight("attn_norm"), config.epsilon)?;
    let query = product(b, "query", normed, "attn_q", config.heads * size)?;
    let key = product(b, "key", normed, "attn_k", config.key_heads * size)?;
    let value = product(b, "value", normed, "attn_v", config.key_heads * size)?;
    let query = b.node(&name("rotated_query"), rotary.clone(), &[query])?;
    let key = b.node(&name("rotated_key"), rotary, &[key])?;
    let scale = 1.0 / (size as f32).sqrt();
    let attention = Operator::Attention { heads: config.heads, scale, causal: true, cached: false };
    let context = b.node(&name("context"), attention, &[query, key, value])?;
    let branch = product(b, "attention_output", context, "attn_output", width)?;
    let sum = Operator::Binary { function: BinaryFunction::Add };
    let x = b.node(&name("attention_residual"), sum.clone(), &[branch, x])?;
    let normed = rms_norm(b, &name("ffn_norm"), x, &weight("ffn_norm"), config.epsilon)?;
    let gate = product(b, "gate", normed, "ffn_gate", config.ffn)?;
    let up = product(b, "up", normed, "ffn_up", config.ffn)?;
    let active = b.node(&name("silu"), Operator::Elementwise { expression: Expression::silu() }, &[gate])?;
    let gated = b.node(&name("gated"), Operator::Binary { function: BinaryFunction::Mul }, &[active, up])?;
    let branch = product(b, "ffn_output", gated, "ffn_down", width)?;
    b.node(&name("ffn_residual"), sum, &[branch, x])
}

/// Shape of a residual network of bottleneck blocks; batch normalisation is folded into the convolutions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Images at once.
    pub images: usize,
    /// Rows and columns of an image.
    pub image: usize,
    /// Channels after the first convolution.
    pub stem: usize,
    /// Inner width of each stage's blocks; their output is four times as wide.
    pub widths: Vec<usize>,
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
    /// Classes of the last layer.
    pub classes: usize,
    /// Whether the 3x3 convolution has a stage's stride (version 1.5, as in torchvision) or the first 1x1 has it
    /// (the paper's).
    pub stride_in_3x3: bool,
}

/// Output channels of a bottleneck block over its inner width.
pub(super) const EXPANSION: usize = 4;

impl ResNetConfig {
    /// ResNet-50, version 1.5, on one 224 x 224 image.
    pub fn resnet50() -> Self {
        Self {
            images: 1,
            image: 224,
            stem: 64,
            widths: vec![64, 128, 256, 512],
            blocks: vec![3, 4, 6, 3],
            classes: 1000,
            stride_in_3x3: true,
        }
    }

    /// The network whose weights a directory holds (torchvision's names, version 1.5), on `images` images of `image` rows
    /// and columns at once: the shapes of its tensors tell the rest.
    ///
    /// # Errors
    /// If there is no `model.safetensors`, or it holds no residual network with bottleneck blocks.
    pub fn from_directory(directory: impl AsRef<Path>, images: usize, image: usize) -> Result<Self, ModelError> {
        let weights = WeightFile::open(directory.as_ref(), "")?;
        let outputs = |name: &str| weights.shape(name).and_then(|shape| shape.first().copied());
        let block = |stage: usize, block: usize| outputs(&format!("layer{}.{block}.conv3.weight", stage + 1));
        let stages = (0..).take_while(|&stage| block(stage, 0).is_some()).count();
        let (Some(stem), Some(classes), 1..) = (outputs("conv1.weight"), outputs("fc.weight"), stages) else {
            return Err(ModelError::Unsupported {
                path: directory.as_ref().join("model.safetensors"),
                what: "a network without conv1, layer1.0.conv3 and fc".into(),
                remedy: "give a ResNet with bottleneck blocks in torchvision's names (ResNet-50, -101, -152), or an \
                         ONNX file"
                    .into(),
            });
        };
        let widths = (0..stages).filter_map(|stage| block(stage, 0)).map(|outputs| outputs / EXPANSION).collect();
        let count = |stage: usize| (0..).take_while(|&b| block(stage, b).is_some()).count();
        let blocks = (0..stages).map(count).collect();
        Ok(Self { images, image, stem, widths, blocks, classes, stride_in_3x3: true })
    }
}

/// A residual network: input `image`, output `fc`. Node names are torchvision's.
///
/// # Errors
/// If the image is too small for the stages, or a size is 0.
pub fn resnet(config: &ResNetConfig) -> Result<Graph, GraphError> {
    let layers = 2 + config.blocks.iter().sum::<usize>() * 3;
    let mut b = GraphBuilder::new(format!("resnet-{layers}"));
    let image = b.input("image", &[config.images, config.image, config.image, 3])?;
    let x = convolution(&mut b, "conv1", image, config.stem, Window::square(7, 2, 3))?;
    let x = b.node("relu", Operator::Relu, &[x])?;
    let mut x = b.node("maxpool", Operator::MaxPool(Window::square(3, 2, 1)), &[x])?;
    for (stage, (&width, &blocks)) in config.widths.iter().zip(&config.blocks).enumerate() {
        b.layer(Some(stage));
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let strides = if config.stride_in_3x3 { [1, stride] } else { [stride, 1] };
            x = bottleneck(&mut b, &format!("layer{}.{block}", stage + 1), x, width, strides)?;
        }
    }
    b.layer(None);
    let x = b.node("avgpool", Operator::GlobalAveragePool, &[x])?;
    let fc = b.dense("fc", x, config.classes)?;
    b.output(fc);
    Ok(b.finish())
}

fn convolution(
    b: &mut GraphBuilder,
    name: &str,
    x: EdgeId,
    outputs: usize,
    window: Window,
) -> Result<EdgeId, GraphError> {
    let inputs = b.shape(x).last().copied().unwrap_or(1);
    let [rows, cols] = window.kernel;
    let weight = b.constant(&format!("{name}.weight"), &[rows, cols, inputs, outputs])?;
    let bias = b.constant(&format!("{name}.bias"), &[outputs])?;
    b.node(name, Operator::Conv2d(Conv2d { window, groups: 1, bias: true }), &[x, weight, bias])
}

/// 1x1, 3x3, 1x1 with ReLU between and after the addition; a projection where the shape changes.
fn bottleneck(
    b: &mut GraphBuilder,
    name: &str,
    x: EdgeId,
    width: usize,
    strides: [usize; 2],
) -> Result<EdgeId, GraphError> {
    let part = |p: &str| format!("{name}.{p}");
    let y = convolution(b, &part("conv1"), x, width, Window::square(1, strides[0], 0))?;
    let y = b.node(&part("relu1"), Operator::Relu, &[y])?;
    let y = convolution(b, &part("conv2"), y, width, Window::square(3, strides[1], 1))?;
    let y = b.node(&part("relu2"), Operator::Relu, &[y])?;
    let y = convolution(b, &part("conv3"), y, width * EXPANSION, Window::square(1, 1, 0))?;
    let shortcut = if b.shape(y) == b.shape(x) {
        x
    } else {
        convolution(b, &part("downsample"), x, width * EXPANSION, Window::square(1, strides[0] * strides[1], 0))?
    };
    let sum = b.node(&part("add"), Operator::Add, &[y, shortcut])?;
    b.node(&part("relu3"), Operator::Relu, &[sum])
}
