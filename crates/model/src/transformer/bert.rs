//! BERT-family encoders: reading a model directory, and the float32 reference.
//!
//! A model directory is what Hugging Face tools write: `config.json`, `model.safetensors`, and
//! `tokenizer.json` (or `vocab.txt`). An optional `sentence_bert_config.json` limits the tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::float::{AttentionMask, Dense, Norm, add, attention, dot, gelu, normalise};
use crate::matrix::Matrix;
use crate::random::Random;
use crate::rewrite::{Rewrites, reorder_columns, reorder_hidden, reorder_norm};
use crate::tensor::Tensor;
use crate::text::Text;
use crate::transformer::weights::check_parameters;
pub use crate::transformer::weights::{FloatTrace, LayerWeights};
use crate::weights::WeightFile;
use crate::word_table::WordTable;

/// The fields of `config.json` that shape an encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// Family; `bert` is handled.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Inner width of the feed-forward network.
    pub intermediate_size: usize,
    /// Rows of the word embedding table.
    pub vocab_size: usize,
    /// Rows of the position embedding table.
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding table.
    pub type_vocab_size: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f32,
    /// Activation of the feed-forward network; `gelu` is handled.
    pub hidden_act: String,
    /// Kind of position embedding; `absolute` is handled.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

impl BertConfig {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
        let config: Self = serde_json::from_str(&text).map_err(|source| ModelError::Json {
            path: path.into(),
            what: "BERT configuration",
            source,
        })?;
        config.check(path)?;
        Ok(config)
    }

    pub(crate) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let refuse = |what: String, remedy: &str| {
            Err(ModelError::Unsupported { path: path.into(), what, remedy: remedy.into() })
        };
        if self.model_type != "bert" {
            return refuse(format!("model_type `{}`", self.model_type), "give a model of type `bert`");
        }
        if self.hidden_act != "gelu" {
            return refuse(format!("hidden_act `{}`", self.hidden_act), "the feed-forward activation must be `gelu`");
        }
        if self.position_embedding_type != "absolute" {
            return refuse(
                format!("position_embedding_type `{}`", self.position_embedding_type),
                "positions must be `absolute`",
            );
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return refuse(format!("{name} 0"), "every size must be at least 1");
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refuse(
                format!("{} heads over a hidden size of {}", self.num_attention_heads, self.hidden_size),
                "num_attention_heads must divide hidden_size",
            );
        }
        let [hidden, ffn] = [self.hidden_size, self.intermediate_size];
        let rows = [self.vocab_size, self.max_position_embeddings, self.type_vocab_size];
        check_parameters(path, self.num_hidden_layers, [hidden, ffn], &rows)
    }
}

/// The embedding tables; they stay on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Vocabulary x hidden.
    pub word: WordTable,
    /// Positions x hidden.
    pub position: Matrix<f32>,
    /// Segments x hidden.
    pub segment: Matrix<f32>,
    /// LayerNorm after the sum.
    pub norm: Norm,
}

/// A BERT-family encoder in float32 with its tokenizer.
#[derive(Clone)]
pub struct BertModel {
    /// Shape of the model.
    pub config: BertConfig,
    /// Embedding tables.
    pub embeddings: Embeddings,
    /// Encoder layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Most tokens a text may have; longer ones are cut.
    pub max_tokens: usize,
    /// Original number of each hidden channel; see [`BertModel::reorder_hidden`].
    pub hidden_order: Vec<usize>,
    pub(crate) tokenizer: Option<Text>,
    pub(crate) directory: PathBuf,
}

impl BertModel {
    /// Reads a model directory.
    ///
    /// # Errors
    /// Missing or damaged files, tensors that are missing or have the wrong shape or type, and kinds of model
    /// that are not handled; every error names the file and what is wrong in it.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self, ModelError> {
        let directory = directory.as_ref();
        let config = BertConfig::read(&directory.join("config.json"))?;
        let weights = WeightFile::open(directory, "bert.")?;
        let max_tokens = sentence_limit(directory)?.unwrap_or(usize::MAX).min(config.max_position_embeddings);
        let model = Self {
            embeddings: read_embeddings(&weights, &config)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| read_layer(&weights, &config, i))
                .collect::<Result<_, _>>()?,
            tokenizer: Text::word_pieces(directory, max_tokens)?,
            max_tokens,
            hidden_order: (0..config.hidden_size).collect(),
            directory: directory.into(),
            config,
        };
        Ok(model)
    }

    /// A model of the given shape with pseudo-random weights, for tests and for measuring shapes without weights.
    /// It has no tokenizer: give token ids.
    ///
    /// # Errors
    /// If the configuration is not one that [`BertModel::load`] would accept.
    pub fn synthetic(config: BertConfig, seed: u64) -> Result<Self, ModelError> {
        config.check(Path::new("synthetic"))?;
        let mut random = Random::new(seed);
        let (h, f) = (config.hidden_size, config.intermediate_size);
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerWeights {
                query: random.dense(h, h, 2.0),
                key: random.dense(h, h, 2.0),
                value: random.dense(h, h, 1.0),
                attention_output: random.dense(h, h, 0.5),
                attention_norm: random.norm(h),
                intermediate: random.dense(f, h, 1.0),
                output: random.dense(h, f, 1.0),
                output_norm: random.norm(h),
            })
            .collect();
        Ok(Self {
            embeddings: Embeddings {
                word: WordTable::Float(random.matrix(config.vocab_size, h, 1.0)),
                position: random.matrix(config.max_position_embeddings, h, 0.3),
                segment: random.matrix(config.type_vocab_size, h, 0.3),
                norm: random.norm(h),
            },
            layers,
            max_tokens: config.max_position_embeddings,
            hidden_order: (0..h).collect(),
            tokenizer: None,
            directory: "synthetic".into(),
            config,
        })
    }

    /// Token ids of `text`, with the model's special tokens, cut at `max_tokens`.
    ///
    /// # Errors
    /// If the model has no tokenizer or the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer()?.encode(text).map_err(|reason| self.no_tokens(reason))
    }

    /// Tokens of `text` behind the first `max_tokens`, which [`BertModel::tokenize`] leaves out.
    ///
    /// # Errors
    /// As [`BertModel::tokenize`].
    pub fn tokens_left_out(&self, text: &str) -> Result<usize, ModelError> {
        let all = self.tokenizer()?.length(text).map_err(|reason| self.no_tokens(reason))?;
        Ok(all.saturating_sub(self.max_tokens))
    }

    fn tokenizer(&self) -> Result<&Text, ModelError> {
        self.tokenizer.as_ref().ok_or_else(|| self.no_tokens("the model has none; give token ids".into()))
    }

    fn no_tokens(&self, reason: String) -> ModelError {
        ModelError::Tokenizer { path: self.directory.clone(), reason }
    }

    /// The embedding of token ids, summed and normalised: the input of layer 0, tokens x hidden.
    ///
    /// # Errors
    /// If there are no tokens, too many, or an id is outside the vocabulary.
    pub fn embed_tokens(&self, ids: &[u32]) -> Result<Matrix<f32>, ModelError> {
        if ids.is_empty() || ids.len() > self.max_tokens {
            return Err(ModelError::TokenCount { tokens: ids.len(), limit: self.max_tokens });
        }
        let e = &self.embeddings;
        let vocabulary = self.config.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::TokenOutOfRange { id, vocabulary });
        }
        let sum = Matrix::from_fn(ids.len(), self.config.hidden_size, |t, c| {
            e.word.at(ids[t] as usize, c) + e.position.at(t, c) + e.segment.at(0, c)
        });
        Ok(e.norm.affine(&normalise(&sum, self.config.layer_norm_eps)))
    }

    /// The LayerNorm whose output is the input of layer `index` (the embeddings' for layer 0).
    pub fn input_norm(&self, index: usize) -> &Norm {
        match index {
            0 => &self.embeddings.norm,
            i => &self.layers[i - 1].output_norm,
        }
    }

    /// Runs layer `index` on `x` (tokens x hidden) and returns every tensor.
    ///
    /// # Errors
    /// If the layer does not exist or `x` has the wrong width.
    pub fn forward_layer(&self, index: usize, x: &Matrix<f32>, mask: AttentionMask) -> Result<FloatTrace, ModelError> {
        if self.layers.is_empty() {
            return Err(ModelError::NoFloatLayers);
        }
        let layer = self.layers.get(index).ok_or(ModelError::NoSuchLayer { index, count: self.layers.len() })?;
        if x.cols != self.config.hidden_size {
            return Err(ModelError::Width { what: "layer input", found: x.cols, expected: self.config.hidden_size });
        }
        Ok(forward(layer, &self.config, x, mask))
    }

    /// The whole encoder on token ids: tokens x hidden.
    ///
    /// # Errors
    /// As [`BertModel::embed_tokens`].
    pub fn encode(&self, ids: &[u32]) -> Result<Matrix<f32>, ModelError> {
        let mut x = self.embed_tokens(ids)?;
        for index in 0..self.config.num_hidden_layers {
            x = self
                .forward_layer(index, &x, AttentionMask::Full)?
                .tensors
                .remove(&Tensor::Output)
                .expect("always there");
        }
        Ok(x)
    }

    /// The sentence embedding of `text`: mean over its tokens, scaled to length 1, channels in the original order.
    ///
    /// # Errors
    /// As [`BertModel::tokenize`] and [`BertModel::embed_tokens`].
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        Ok(self.pool(&self.encode(&self.tokenize(text)?)?))
    }

    /// Mean over the rows of the last layer's output, scaled to length 1, channels in the original order.
    pub fn pool(&self, x: &Matrix<f32>) -> Vec<f32> {
        let mut mean = vec![0.0f32; x.cols];
        for r in 0..x.rows {
            for (c, &v) in x.row(r).iter().enumerate() {
                mean[self.hidden_order[c]] += v / x.rows as f32;
            }
        }
        let norm = dot(&mean, &mean).sqrt().max(f32::MIN_POSITIVE);
        mean.into_iter().map(|v| v / norm).collect()
    }

    /// Renumbers the hidden channels: new channel `i` is the present channel `order[i]`. The network computes the
    /// same function; quantisation uses it to bring outlier channels together.
    ///
    /// # Panics
    /// If `order` is not a permutation of the hidden channels.
    pub fn reorder_hidden(&mut self, order: &[usize]) {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        assert!(
            sorted.into_iter().eq(0..self.config.hidden_size),
            "order must be a permutation of the hidden channels"
        );
        let e = &mut self.embeddings;
        e.word.reorder_columns(order);
        [&mut e.position, &mut e.segment].into_iter().for_each(|table| reorder_columns(table, order));
        reorder_norm(&mut e.norm, order);
        self.layers.iter_mut().for_each(|layer| reorder_hidden(layer, order));
        self.hidden_order = order.iter().map(|&i| self.hidden_order[i]).collect();
    }

    /// Applies exact rewrites; the network computes the same function.
    pub fn rewrite(&mut self, rewrites: &Rewrites) {
        if let Some(order) = &rewrites.hidden_order {
            self.reorder_hidden(order);
        }
        rewrites.apply_to_layers(&mut self.layers);
    }
}

fn forward(layer: &LayerWeights, config: &BertConfig, x: &Matrix<f32>, mask: AttentionMask) -> FloatTrace {
    let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|d| d.apply(x));
    let (probabilities, context) = attention(config.num_attention_heads, &query, &key, &value, mask);
    let attention_output = layer.attention_output.apply(&context);
    let attention_sum = add(&attention_output, x);
    let attention_norm = layer.attention_norm.affine(&normalise(&attention_sum, config.layer_norm_eps));
    let intermediate = layer.intermediate.apply(&attention_norm);
    let mut activated = intermediate.clone();
    activated.data.iter_mut().for_each(|v| *v = gelu(*v));
    let ffn_output = layer.output.apply(&activated);
    let ffn_sum = add(&ffn_output, &attention_norm);
    let output = layer.output_norm.affine(&normalise(&ffn_sum, config.layer_norm_eps));
    let tensors = BTreeMap::from([
        (Tensor::Input, x.clone()),
        (Tensor::Query, query),
        (Tensor::Key, key),
        (Tensor::Value, value),
        (Tensor::Probabilities, probabilities),
        (Tensor::Context, context),
        (Tensor::AttentionOutput, attention_output),
        (Tensor::AttentionNorm, attention_norm),
        (Tensor::Intermediate, intermediate),
        (Tensor::Gelu, activated),
        (Tensor::FfnOutput, ffn_output),
        (Tensor::Output, output),
    ]);
    FloatTrace { tensors, attention_sum, ffn_sum }
}

fn read_embeddings(weights: &WeightFile, config: &BertConfig) -> Result<Embeddings, ModelError> {
    let h = config.hidden_size;
    Ok(Embeddings {
        word: WordTable::Float(weights.matrix("embeddings.word_embeddings.weight", config.vocab_size, h)?),
        position: weights.matrix("embeddings.position_embeddings.weight", config.max_position_embeddings, h)?,
        segment: weights.matrix("embeddings.token_type_embeddings.weight", config.type_vocab_size, h)?,
        norm: read_norm(weights, "embeddings.LayerNorm", h)?,
    })
}

fn read_layer(weights: &WeightFile, config: &BertConfig, index: usize) -> Result<LayerWeights, ModelError> {
    let (h, f) = (config.hidden_size, config.intermediate_size);
    let dense = |name: &str, outputs, inputs| -> Result<Dense, ModelError> {
        let name = format!("encoder.layer.{index}.{name}");
        Ok(Dense {
            weight: weights.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: weights.vector(&format!("{name}.bias"), outputs)?,
        })
    };
    let norm = |name: &str| read_norm(weights, &format!("encoder.layer.{index}.{name}"), h);
    Ok(LayerWeights {
        query: dense("attention.self.query", h, h)?,
        key: dense("attention.self.key", h, h)?,
        value: dense("attention.self.value", h, h)?,
        attention_output: dense("attention.output.dense", h, h)?,
        attention_norm: norm("attention.output.LayerNorm")?,
        intermediate: dense("intermediate.dense", f, h)?,
        output: dense("output.dense", h, f)?,
        output_norm: norm("output.LayerNorm")?,
    })
}

fn read_norm(weights: &WeightFile, name: &str, width: usize) -> Result<Norm, ModelError> {
    Ok(Norm {
        gamma: weights.vector(&format!("{name}.weight"), width)?,
        beta: weights.vector(&format!("{name}.bias"), width)?,
    })
}

/// `max_seq_length` of `sentence_bert_config.json`, if that file exists.
fn sentence_limit(directory: &Path) -> Result<Option<usize>, ModelError> {
    #[derive(Deserialize)]
    struct SentenceConfig {
        max_seq_length: usize,
    }
    let path = directory.join("sentence_bert_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
    let config: SentenceConfig = serde_json::from_str(&text).map_err(|source| ModelError::Json {
        path,
        what: "sentence-transformers configuration",
        source,
    })?;
    Ok(Some(config.max_seq_length))
}
