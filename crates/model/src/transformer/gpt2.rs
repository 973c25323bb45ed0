//! GPT-2-family decoders: reading a model directory, and the float32 reference with its key and value cache.
//!
//! A model directory is what Hugging Face tools write: `config.json`, `model.safetensors`, and `tokenizer.json` (or
//! `vocab.json` with `merges.txt`). Dense weights are stored as `Conv1D`, inputs x outputs; query, key and value are
//! one matrix side by side; the output head is the word embedding.
//!
//! A block is pre-norm: LayerNorm stands before each branch. Seen along the data flow, the norm before a branch
//! follows the residual addition before it, so a block is held as the same [`LayerWeights`] as an encoder layer:
//! `attention_norm` is this block's `ln_2`, `output_norm` the next block's `ln_1` (of the last block: `ln_f`), and
//! block 0's `ln_1` is [`Gpt2Model::entry_norm`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::float::{AttentionMask, Dense, GeluForm, Norm, add, attention, dot, gelu, gelu_tanh, normalise};
use crate::matrix::Matrix;
use crate::random::Random;
use crate::rewrite::{Rewrites, reorder_columns, reorder_hidden, reorder_norm};
use crate::tensor::Tensor;
use crate::text::Text;
use crate::transformer::weights::{FloatTrace, LayerWeights, check_parameters};
use crate::weights::WeightFile;

/// The fields of `config.json` that shape a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    /// Family; `gpt2` is handled.
    pub model_type: String,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Attention heads a block; divides `n_embd`.
    pub n_head: usize,
    /// Inner width of the feed-forward network; four times `n_embd` if absent.
    #[serde(default)]
    pub n_inner: Option<usize>,
    /// Rows of the word embedding table.
    pub vocab_size: usize,
    /// Rows of the position embedding table: the longest context.
    pub n_positions: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_epsilon: f32,
    /// Activation of the feed-forward network: `gelu_new`, `gelu_pytorch_tanh` or `gelu`.
    #[serde(default = "gelu_new")]
    pub activation_function: String,
    /// Scores are divided by sqrt(head size); must be true.
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
    /// Scores are also divided by the block's number; must be false.
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
    /// The output head is the word embedding; otherwise `lm_head.weight` is read.
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn yes() -> bool {
    true
}

impl Gpt2Config {
    /// The smallest GPT-2: 12 blocks of 768, 12 heads, 1024 positions, 50257 words (124 M weights).
    pub fn small() -> Self {
        Self {
            model_type: "gpt2".into(),
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            vocab_size: 50257,
            n_positions: 1024,
            layer_norm_epsilon: 1e-5,
            activation_function: gelu_new(),
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            tie_word_embeddings: true,
        }
    }

    /// Inner width of the feed-forward network.
    pub fn ffn(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Form of the GELU.
    pub fn gelu_form(&self) -> GeluForm {
        if self.activation_function == "gelu" { GeluForm::Erf } else { GeluForm::Tanh }
    }

    fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
        let config: Self = serde_json::from_str(&text).map_err(|source| ModelError::Json {
            path: path.into(),
            what: "GPT-2 configuration",
            source,
        })?;
        config.check(path)?;
        Ok(config)
    }

    pub(crate) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let refuse = |what: String, remedy: &str| {
            Err(ModelError::Unsupported { path: path.into(), what, remedy: remedy.into() })
        };
        if self.model_type != "gpt2" {
            return refuse(format!("model_type `{}`", self.model_type), "give a model of type `gpt2`");
        }
        if !["gelu_new", "gelu_pytorch_tanh", "gelu"].contains(&self.activation_function.as_str()) {
            return refuse(
                format!("activation_function `{}`", self.activation_function),
                "the feed-forward activation must be `gelu_new`, `gelu_pytorch_tanh` or `gelu`",
            );
        }
        if !self.scale_attn_weights || self.scale_attn_by_inverse_layer_idx {
            return refuse(
                "this scaling of the attention scores".into(),
                "scale_attn_weights must be true and scale_attn_by_inverse_layer_idx false",
            );
        }
        let sizes = [
            ("n_embd", self.n_embd),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_inner", self.ffn()),
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return refuse(format!("{name} 0"), "every size must be at least 1");
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return refuse(
                format!("{} heads over a width of {}", self.n_head, self.n_embd),
                "n_head must divide n_embd",
            );
        }
        check_parameters(path, self.n_layer, [self.n_embd, self.ffn()], &[self.vocab_size, self.n_positions])
    }
}

/// Which tokens a pass of a decoder computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Tokens computed now.
    pub tokens: usize,
    /// Earlier tokens, whose keys and values are in the cache.
    pub past: usize,
}

impl Positions {
    /// A prompt of that many tokens, all at once.
    pub fn prefill(tokens: usize) -> Self {
        Self { tokens, past: 0 }
    }

    /// One token after `past` others.
    pub fn step(past: usize) -> Self {
        Self { tokens: 1, past }
    }
}

/// Keys and values of all tokens so far, block by block, tokens x width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KvCache<T> {
    /// Keys of each block.
    pub keys: Vec<Matrix<T>>,
    /// Values of each block.
    pub values: Vec<Matrix<T>>,
}

impl<T: Copy + Default> KvCache<T> {
    /// An empty cache for that many blocks.
    pub fn new(blocks: usize) -> Self {
        Self { keys: vec![Matrix::zeros(0, 0); blocks], values: vec![Matrix::zeros(0, 0); blocks] }
    }

    /// Tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.keys.first().map_or(0, |k| k.rows)
    }
}

/// A GPT-2-family decoder in float32 with its tokenizer.
#[derive(Clone)]
pub struct Gpt2Model {
    /// Shape of the model.
    pub config: Gpt2Config,
    /// Vocabulary x width.
    pub word: Matrix<f32>,
    /// Positions x width.
    pub position: Matrix<f32>,
    /// `ln_1` of block 0.
    pub entry_norm: Norm,
    /// The blocks; see the module's page for the meaning of their norms.
    pub blocks: Vec<LayerWeights>,
    /// The output head, vocabulary x width, if it is not the word embedding.
    pub head: Option<Matrix<f32>>,
    pub(crate) tokenizer: Option<Text>,
    pub(crate) directory: PathBuf,
}

impl Gpt2Model {
    /// Reads a model directory.
    ///
    /// # Errors
    /// Missing or damaged files, tensors that are missing or have the wrong shape or type, and kinds of model
    /// that are not handled; every error names the file and what is wrong in it.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self, ModelError> {
        let directory = directory.as_ref();
        let config = Gpt2Config::read(&directory.join("config.json"))?;
        let weights = WeightFile::open(directory, "transformer.")?;
        let (h, count) = (config.n_embd, config.n_layer);
        let norm = |name: &str| read_norm(&weights, name, h);
        let blocks = (0..count).map(|i| {
            let next = if i + 1 < count { format!("h.{}.ln_1", i + 1) } else { "ln_f".into() };
            read_block(&weights, &config, i, norm(&next)?)
        });
        let blocks = blocks.collect::<Result<_, _>>()?;
        let head = if config.tie_word_embeddings {
            None
        } else {
            Some(weights.matrix("lm_head.weight", config.vocab_size, h)?)
        };
        Ok(Self {
            word: weights.matrix("wte.weight", config.vocab_size, h)?,
            position: weights.matrix("wpe.weight", config.n_positions, h)?,
            entry_norm: norm("h.0.ln_1")?,
            blocks,
            head,
            tokenizer: Text::byte_pairs(directory, config.n_positions)?,
            directory: directory.into(),
            config,
        })
    }

    /// A model of the given shape with pseudo-random weights. It has no tokenizer: give token ids.
    ///
    /// # Errors
    /// If the configuration is not one that [`Gpt2Model::load`] would accept.
    pub fn synthetic(config: Gpt2Config, seed: u64) -> Result<Self, ModelError> {
        config.check(Path::new("synthetic"))?;
        let mut random = Random::new(seed);
        let (h, f) = (config.n_embd, config.ffn());
        let blocks = (0..config.n_layer)
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
            word: random.matrix(config.vocab_size, h, 1.0),
            position: random.matrix(config.n_positions, h, 0.3),
            entry_norm: random.norm(h),
            blocks,
            head: (!config.tie_word_embeddings).then(|| random.matrix(config.vocab_size, h, 1.0)),
            tokenizer: None,
            directory: "synthetic".into(),
            config,
        })
    }

    /// Applies exact rewrites; the network computes the same function.
    pub fn rewrite(&mut self, rewrites: &Rewrites) {
        if let Some(order) = &rewrites.hidden_order {
            [&mut self.word, &mut self.position].into_iter().for_each(|table| reorder_columns(table, order));
            self.head.iter_mut().for_each(|head| reorder_columns(head, order));
            reorder_norm(&mut self.entry_norm, order);
            self.blocks.iter_mut().for_each(|block| reorder_hidden(block, order));
        }
        rewrites.apply_to_layers(&mut self.blocks);
    }

    /// Token ids of `text`, cut at the longest context.
    ///
    /// # Errors
    /// If the model has no tokenizer or the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer()?.encode(text).map_err(|reason| self.tokenizer_error(reason))
    }

    /// Tokens of `text` behind those of the context, which [`Gpt2Model::tokenize`] leaves out.
    ///
    /// # Errors
    /// As [`Gpt2Model::tokenize`].
    pub fn tokens_left_out(&self, text: &str) -> Result<usize, ModelError> {
        let all = self.tokenizer()?.length(text).map_err(|reason| self.tokenizer_error(reason))?;
        Ok(all.saturating_sub(self.config.n_positions))
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// If the model has no tokenizer or the tokenizer fails.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.tokenizer()?.decode(ids).map_err(|reason| self.tokenizer_error(reason))
    }

    /// Whether there is a tokenizer; a synthetic model has none.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    fn tokenizer(&self) -> Result<&Text, ModelError> {
        self.tokenizer.as_ref().ok_or_else(|| self.tokenizer_error("the model has none; give token ids".into()))
    }

    fn tokenizer_error(&self, reason: String) -> ModelError {
        ModelError::Tokenizer { path: self.directory.clone(), reason }
    }

    /// An empty float32 cache for this model.
    pub fn cache(&self) -> KvCache<f32> {
        KvCache::new(self.config.n_layer)
    }

    /// The residual stream's start for tokens after `past` others, tokens x width.
    ///
    /// # Errors
    /// If there are no tokens, too many, or an id is outside the vocabulary.
    pub fn embed_tokens(&self, ids: &[u32], past: usize) -> Result<Matrix<f32>, ModelError> {
        let limit = self.config.n_positions;
        if ids.is_empty() || past + ids.len() > limit {
            return Err(ModelError::TokenCount { tokens: past + ids.len(), limit });
        }
        let vocabulary = self.word.rows;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::TokenOutOfRange { id, vocabulary });
        }
        Ok(Matrix::from_fn(ids.len(), self.config.n_embd, |t, c| {
            self.word.at(ids[t] as usize, c) + self.position.at(past + t, c)
        }))
    }

    /// Runs block `index` on the residual stream and its normalised form (tokens x width), after the tokens of the
    /// cache, to which keys and values are appended. In the trace, [`Tensor::Input`], [`Tensor::AttentionNorm`] and
    /// [`Tensor::Output`] are normalised, and `ffn_sum` is the residual stream after the block.
    ///
    /// # Errors
    /// If the block does not exist.
    pub fn forward_block(
        &self,
        index: usize,
        residual: &Matrix<f32>,
        normed: &Matrix<f32>,
        cache: &mut KvCache<f32>,
    ) -> Result<FloatTrace, ModelError> {
        if self.blocks.is_empty() {
            return Err(ModelError::NoFloatLayers);
        }
        let w = self.blocks.get(index).ok_or(ModelError::NoSuchLayer { index, count: self.blocks.len() })?;
        let epsilon = self.config.layer_norm_epsilon;
        let [query, key, value] = [&w.query, &w.key, &w.value].map(|d| d.apply(normed));
        cache.keys[index].append(&key);
        cache.values[index].append(&value);
        let (keys, values) = (&cache.keys[index], &cache.values[index]);
        let (probabilities, context) = attention(self.config.n_head, &query, keys, values, AttentionMask::Causal);
        let attention_output = w.attention_output.apply(&context);
        let attention_sum = add(&attention_output, residual);
        let attention_norm = w.attention_norm.affine(&normalise(&attention_sum, epsilon));
        let intermediate = w.intermediate.apply(&attention_norm);
        let activation = if self.config.gelu_form() == GeluForm::Erf { gelu } else { gelu_tanh };
        let mut activated = intermediate.clone();
        activated.data.iter_mut().for_each(|v| *v = activation(*v));
        let ffn_output = w.output.apply(&activated);
        let ffn_sum = add(&ffn_output, &attention_sum);
        let output = w.output_norm.affine(&normalise(&ffn_sum, epsilon));
        let tensors = BTreeMap::from([
            (Tensor::Input, normed.clone()),
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
        Ok(FloatTrace { tensors, attention_sum, ffn_sum })
    }

    /// Runs all blocks on tokens that follow those of the cache (which grows): normalised results, tokens x width.
    /// A prompt at once and the same tokens one by one give equal results to the last bit.
    ///
    /// # Errors
    /// As [`Gpt2Model::embed_tokens`].
    pub fn decode(&self, ids: &[u32], cache: &mut KvCache<f32>) -> Result<Matrix<f32>, ModelError> {
        let mut residual = self.embed_tokens(ids, cache.tokens())?;
        let mut normed = self.entry(&residual);
        for index in 0..self.config.n_layer {
            let mut trace = self.forward_block(index, &residual, &normed, cache)?;
            residual = trace.ffn_sum;
            normed = trace.tensors.remove(&Tensor::Output).expect("always there");
        }
        Ok(normed)
    }

    /// `ln_1` of block 0.
    pub fn entry(&self, residual: &Matrix<f32>) -> Matrix<f32> {
        self.entry_norm.affine(&normalise(residual, self.config.layer_norm_epsilon))
    }

    /// The LayerNorm whose output is the input of block `index`.
    pub fn input_norm(&self, index: usize) -> &Norm {
        match index {
            0 => &self.entry_norm,
            i => &self.blocks[i - 1].output_norm,
        }
    }

    /// The output head's table, vocabulary x width.
    pub fn head(&self) -> &Matrix<f32> {
        self.head.as_ref().unwrap_or(&self.word)
    }

    /// Scores of all words after the token whose normalised result is `row`.
    pub fn logits(&self, row: &[f32]) -> Vec<f32> {
        let head = self.head();
        (0..head.rows).map(|v| dot(row, head.row(v))).collect()
    }

    /// Continues `ids` by `count` tokens, always the likeliest one.
    ///
    /// # Errors
    /// As [`Gpt2Model::embed_tokens`].
    pub fn generate(&self, ids: &[u32], count: usize) -> Result<Vec<u32>, ModelError> {
        let mut cache = self.cache();
        let mut out = Vec::with_capacity(count);
        let mut next = ids.to_vec();
        for _ in 0..count {
            let rows = self.decode(&next, &mut cache)?;
            next = vec![likeliest(&self.logits(rows.row(rows.rows - 1)))];
            out.extend(&next);
        }
        Ok(out)
    }
}

/// Index of the largest score; the first of equal ones.
pub fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |b, (i, &v)| if v > b.1 { (i, v) } else { b });
    best.0 as u32
}

fn read_norm(weights: &WeightFile, name: &str, width: usize) -> Result<Norm, ModelError> {
    Ok(Norm {
        gamma: weights.vector(&format!("{name}.weight"), width)?,
        beta: weights.vector(&format!("{name}.bias"), width)?,
    })
}

fn read_block(weights: &WeightFile, config: &Gpt2Config, index: usize, next: Norm) -> Result<LayerWeights, ModelError> {
    let (h, f) = (config.n_embd, config.ffn());
    let conv1d = |name: &str, inputs, outputs| -> Result<Dense, ModelError> {
        let name = format!("h.{index}.{name}");
        Ok(Dense {
            weight: weights.matrix(&format!("{name}.weight"), inputs, outputs)?.transposed(),
            bias: weights.vector(&format!("{name}.bias"), outputs)?,
        })
    };
    let all = conv1d("attn.c_attn", h, 3 * h)?;
    let third = |i: usize| Dense {
        weight: Matrix::from_vec(h, h, all.weight.data[i * h * h..(i + 1) * h * h].to_vec()),
        bias: all.bias[i * h..(i + 1) * h].to_vec(),
    };
    Ok(LayerWeights {
        query: third(0),
        key: third(1),
        value: third(2),
        attention_output: conv1d("attn.c_proj", h, h)?,
        attention_norm: read_norm(weights, &format!("h.{index}.ln_2"), h)?,
        intermediate: conv1d("mlp.c_fc", h, f)?,
        output: conv1d("mlp.c_proj", f, h)?,
        output_norm: next,
    })
}
