//! Llama-like decoders from GGUF files: RMSNorm, rotary positions, grouped queries, a gated feed-forward network.
//!
//! The weights of queries and keys lie as ggml's converter writes them: the two numbers that are rotated together are
//! neighbours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files::gguf::{Gguf, Metadata, damaged};
use crate::graph::error::{GraphError, MAX_BYTES};
use crate::text::Text;

/// Largest number of blocks: hundreds are known.
const MAX_LAYERS: usize = 1024;
/// Base of the rotations if the file gives none (`llama.rope.freq_base`).
const ROTATION_BASE: f32 = 10000.0;

/// The shape of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Name of the model.
    pub name: String,
    /// Words.
    pub vocabulary: usize,
    /// Longest context.
    pub context: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; several heads of queries share one.
    pub key_heads: usize,
    /// Columns of a head.
    pub head_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub epsilon: f32,
    /// Base of the rotations.
    pub rotation_base: f32,
    /// The output head is the word embedding.
    pub tied: bool,
}

impl LlamaConfig {
    fn read(file: &Gguf) -> Result<Self, ModelError> {
        let refuse = |what: String, remedy: &str| {
            Err(ModelError::Unsupported { path: file.path().into(), what, remedy: remedy.into() })
        };
        match file.get("general.architecture") {
            Some(Metadata::Text(kind)) if kind == "llama" => {}
            other => {
                return refuse(
                    format!("the architecture {}", shown(other)),
                    "give a model of the architecture `llama`",
                );
            }
        }
        let key = |name: &str| format!("llama.{name}");
        for absent in ["expert_count", "attention.sliding_window"] {
            if file.size(&key(absent))?.is_some_and(|count| count > 0) {
                return refuse(key(absent), "give a dense model whose attention sees all earlier tokens");
            }
        }
        match file.get(&key("rope.scaling.type")) {
            None => {}
            Some(Metadata::Text(kind)) if kind == "none" => {}
            other => {
                return refuse(
                    format!("{} {}", key("rope.scaling.type"), shown(other)),
                    "rotations must not be scaled",
                );
            }
        }
        if file.has("rope_freqs.weight") {
            return refuse("tensor `rope_freqs.weight`".into(), "rotations must not be scaled");
        }
        let size = |name: &str| -> Result<usize, ModelError> {
            let size = file.size(&key(name))?.filter(|&size| size > 0);
            size.ok_or_else(|| damaged(file.path(), format!("{} is missing, or 0", key(name))))
        };
        let (width, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let number = |name: &str| match file.get(&key(name)) {
            Some(Metadata::Number(number)) => Some(*number as f32),
            _ => None,
        };
        let words = file.shape("token_embd.weight")?.first().copied().unwrap_or(0);
        let config = Self {
            name: match file.get("general.name") {
                Some(Metadata::Text(name)) => name.clone(),
                _ => "llama".into(),
            },
            vocabulary: words,
            context: size("context_length")?,
            width,
            ffn: size("feed_forward_length")?,
            layers: size("block_count")?,
            heads,
            key_heads: file.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
            head_size: file.size(&key("attention.key_length"))?.unwrap_or(width / heads),
            epsilon: number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
            rotation_base: number("rope.freq_base").unwrap_or(ROTATION_BASE),
            tied: !file.has("output.weight"),
        };
        config.check(file)?;
        Ok(config)
    }

    fn check(&self, file: &Gguf) -> Result<(), ModelError> {
        let fail = |reason: String| Err(damaged(file.path(), reason));
        let Self { heads, key_heads, head_size, layers, .. } = *self;
        if key_heads == 0 || heads % key_heads != 0 || head_size == 0 || head_size % 2 != 0 {
            return fail(format!("{heads} heads, {key_heads} of keys, of {head_size} columns do not fit together"));
        }
        for name in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            if let Some(other) = file.size(name)?.filter(|&other| other != head_size) {
                return fail(format!("{name} is {other}, but a head has {head_size} columns"));
            }
        }
        if layers > MAX_LAYERS {
            return fail(format!("llama.block_count is {layers}; at most {MAX_LAYERS} are allowed"));
        }
        let numbers = [("epsilon", self.epsilon), ("rope.freq_base", self.rotation_base)];
        if let Some((name, number)) = numbers.iter().find(|(_, number)| !(number.is_finite() && *number > 0.0)) {
            return fail(format!("{name} is {number}, no number above 0"));
        }
        if let Some(words) = file.size("llama.vocab_size")?.filter(|&words| words != self.vocabulary) {
            return fail(format!("llama.vocab_size is {words}, but the embedding has {} rows", self.vocabulary));
        }
        Ok(())
    }

    /// Name and shape of every tensor.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (width, ffn) = (self.width, self.ffn);
        let [queries, keys] = [self.heads, self.key_heads].map(|heads| heads * self.head_size);
        let mut tensors = vec![("token_embd.weight".into(), vec![self.vocabulary, width])];
        for layer in 0..self.layers {
            let parts = [
                ("attn_norm", vec![width]),
                ("attn_q", vec![queries, width]),
                ("attn_k", vec![keys, width]),
                ("attn_v", vec![keys, width]),
                ("attn_output", vec![width, queries]),
                ("ffn_norm", vec![width]),
                ("ffn_gate", vec![ffn, width]),
                ("ffn_up", vec![ffn, width]),
                ("ffn_down", vec![width, ffn]),
            ];
            tensors.extend(parts.map(|(part, shape)| (format!("blk.{layer}.{part}.weight"), shape)));
        }
        tensors.push(("output_norm.weight".into(), vec![width]));
        if !self.tied {
            tensors.push(("output.weight".into(), vec![self.vocabulary, width]));
        }
        tensors
    }
}

/// An entry for a message.
fn shown(value: Option<&Metadata>) -> String {
    match value {
        Some(Metadata::Text(text)) => format!("`{text}`"),
        Some(other) => format!("{other:?}"),
        None => "that the file does not give".into(),
    }
}

/// A decoder in float32 with its tokenizer.
#[derive(Clone)]
pub struct LlamaModel {
    /// Shape of the model.
    pub config: LlamaConfig,
    /// Values of its tensors by the file's names ([`LlamaConfig::tensors`]), row-major.
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// From text to tokens and back.
    pub vocabulary: Vocabulary,
}

/// A decoder's tokenizer.
#[derive(Clone)]
pub struct Vocabulary {
    text: Option<Text>,
    /// The token before every text, if there is one.
    first: Option<u32>,
    /// The token that ends a text.
    pub end: Option<u32>,
    path: PathBuf,
}

impl LlamaModel {
    /// Reads a GGUF file.
    ///
    /// # Errors
    /// A file that is missing, damaged, contradicts itself or is of a kind that is not handled; every error names the file and
    /// what is wrong in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::read(Gguf::open(path.as_ref())?)
    }

    /// Reads a GGUF file from memory.
    ///
    /// # Errors
    /// As [`LlamaModel::load`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::read(Gguf::from_bytes(Path::new("memory"), bytes)?)
    }

    fn read(mut file: Gguf) -> Result<Self, ModelError> {
        let config = LlamaConfig::read(&file)?;
        let wanted = config.tensors();
        // Before anything is allocated.
        let bytes = |shape: &[usize]| shape.iter().fold(4u64, |bytes, &size| bytes.saturating_mul(size as u64));
        let needed = wanted.iter().fold(0u64, |sum, (_, shape)| sum.saturating_add(bytes(shape)));
        if let Some((name, shape)) = wanted.iter().max_by_key(|(_, shape)| bytes(shape)).filter(|_| needed > MAX_BYTES)
        {
            let (edge, shape, largest) = (name.clone(), shape.clone(), bytes(shape));
            return Err(GraphError::Memory { edge, shape, largest, needed }.into());
        }
        wanted.iter().try_for_each(|(name, shape)| file.expect(name, shape))?;
        let vocabulary = Vocabulary::read(&file, config.vocabulary)?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in wanted {
            let values = file.floats(&name, &shape)?;
            tensors.insert(name, values);
        }
        Ok(Self { config, tensors, vocabulary })
    }
}

impl Vocabulary {
    fn read(file: &Gguf, words: usize) -> Result<Self, ModelError> {
        let path = file.path().to_path_buf();
        let token = |key: &str| -> Result<Option<u32>, ModelError> {
            let id = file.size(&format!("tokenizer.ggml.{key}_token_id"))?;
            match id.filter(|&id| id >= words) {
                Some(id) => Err(damaged(file.path(), format!("{key}_token_id is {id} of {words} words"))),
                None => Ok(id.map(|id| id as u32)),
            }
        };
        let adds = file.get("tokenizer.ggml.add_bos_token") == Some(&Metadata::Number(1.0));
        let (first, end) = (token("bos")?.filter(|_| adds), token("eos")?);
        let text = match file.get("tokenizer.ggml.model") {
            None => None,
            Some(Metadata::Text(kind)) if kind == "gpt2" => Some(Self::byte_pairs(file, words)?),
            other => {
                let what = format!("the tokenizer {}", shown(other));
                return Err(ModelError::Unsupported {
                    path,
                    what,
                    remedy: "give a model with byte-level BPE (`gpt2`)".into(),
                });
            }
        };
        Ok(Self { text, first, end, path })
    }

    fn byte_pairs(file: &Gguf, words: usize) -> Result<Text, ModelError> {
        let fail = |reason: String| damaged(file.path(), reason);
        let texts = |key: &str| match file.get(&format!("tokenizer.ggml.{key}")) {
            Some(Metadata::Texts(texts)) => Ok(texts),
            other => Err(fail(format!("tokenizer.ggml.{key} is {}, not texts", shown(other)))),
        };
        let (tokens, merges) = (texts("tokens")?, texts("merges")?);
        if tokens.len() != words {
            return Err(fail(format!("{} tokens for an embedding of {words} rows", tokens.len())));
        }
        let kinds = match file.get("tokenizer.ggml.token_type") {
            Some(Metadata::Numbers(kinds)) if kinds.len() == words => &kinds[..],
            None => &[],
            _ => return Err(fail(format!("tokenizer.ggml.token_type does not have {words} numbers"))),
        };
        // Control (3) and user-defined (4) tokens are never made of bytes.
        let special = |(token, kind): (&String, &f64)| [3.0, 4.0].contains(kind).then(|| token.clone());
        let special: Vec<String> = tokens.iter().zip(kinds).filter_map(special).collect();
        let pre = match file.get("tokenizer.ggml.pre") {
            Some(Metadata::Text(pre)) => pre,
            _ => "default",
        };
        let text = Text::from_byte_pairs(tokens, merges, &special, pre);
        text.map_err(|reason| ModelError::Tokenizer { path: file.path().into(), reason })
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// If the model has no tokenizer, or it fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.text()?.encode(text).map_err(|reason| self.error(reason))?;
        Ok(self.first.into_iter().chain(ids).collect())
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// If the model has no tokenizer, or it fails.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.text()?.decode(ids).map_err(|reason| self.error(reason))
    }

    fn text(&self) -> Result<&Text, ModelError> {
        self.text.as_ref().ok_or_else(|| self.error("the file has none".into()))
    }

    fn error(&self, reason: String) -> ModelError {
        ModelError::Tokenizer { path: self.path.clone(), reason }
    }
}
