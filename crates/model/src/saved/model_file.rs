//! Whole models: a float32 model directory of either family, and the quantised model as one file.
//!
//! The file is a safetensors container, as that of a layer (see [`crate::saved::layer_file`]): arrays are tensors
//! (`layer.3.query.weights` I8, `embeddings.word` F32, or I8 with `embeddings.word.scale` F32, `head.weights` I8, ...),
//! everything else is JSON in the metadata entry `pollux`, and the tokenizer is the U8 tensor
//! `tokenizer.json`. It holds all that a text needs to run; only the float32 layers stay behind in the model's directory.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::bert::{BertConfig, BertModel, Embeddings};
use crate::decoder::{Head, QuantisedBlock, QuantisedDecoder, ResidualNorm};
use crate::encoder::QuantisedModel;
use crate::error::ModelError;
use crate::files::container::{Array, Arrays, Stored, elements, open, serialise};
use crate::float::Norm;
use crate::gpt2::{Gpt2Config, Gpt2Model};
use crate::layer::QuantisedLayer;
use crate::matrix::Matrix;
use crate::quantise::QuantiseOptions;
use crate::saved::layer_file::{arrays, block_arrays};
use crate::text::Text;
use crate::word_table::WordTable;

/// Version of the file's layout.
pub const FORMAT_VERSION: u32 = 1;
const TOKENIZER: &str = "tokenizer.json";
const WORDS: &str = "embeddings.word";

/// A float32 model of any family that can be quantised.
#[derive(Clone)]
pub enum FloatModel {
    /// BERT family.
    Encoder(Box<BertModel>),
    /// GPT-2 family.
    Decoder(Box<Gpt2Model>),
}

impl FloatModel {
    /// Reads a model directory of the family that its `config.json` names.
    ///
    /// # Errors
    /// As [`BertModel::load`] and [`Gpt2Model::load`]; and if the family is another one.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Family {
            model_type: String,
        }
        let directory = directory.as_ref();
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
        let family: Family = serde_json::from_str(&text).map_err(|source| ModelError::Json {
            path: path.clone(),
            what: "model configuration",
            source,
        })?;
        match family.model_type.as_str() {
            "bert" => Ok(Self::Encoder(Box::new(BertModel::load(directory)?))),
            "gpt2" => Ok(Self::Decoder(Box::new(Gpt2Model::load(directory)?))),
            other => Err(ModelError::Unsupported {
                path,
                what: format!("model_type `{other}`"),
                remedy: "give a model of type `bert` or `gpt2`".into(),
            }),
        }
    }

    /// Token ids of `text`.
    ///
    /// # Errors
    /// If the model has no tokenizer or the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        match self {
            Self::Encoder(model) => model.tokenize(text),
            Self::Decoder(model) => model.tokenize(text),
        }
    }

    /// Calibrates on token sequences and quantises every layer.
    ///
    /// # Errors
    /// As [`QuantisedModel::build`] and [`QuantisedDecoder::build`].
    pub fn quantise(self, sequences: &[Vec<u32>], options: &QuantiseOptions) -> Result<ModelFile, ModelError> {
        Ok(match self {
            Self::Encoder(model) => ModelFile::Encoder(Box::new(QuantisedModel::build(*model, sequences, options)?)),
            Self::Decoder(model) => ModelFile::Decoder(Box::new(QuantisedDecoder::build(*model, sequences, options)?)),
        })
    }
}

/// A quantised model of either family.
#[derive(Clone)]
pub enum ModelFile {
    /// BERT family.
    Encoder(Box<QuantisedModel>),
    /// GPT-2 family.
    Decoder(Box<QuantisedDecoder>),
}

/// What is JSON in the file; arrays are empty in it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Header {
    Encoder {
        version: u32,
        config: BertConfig,
        max_tokens: usize,
        hidden_order: Vec<usize>,
        layers: Vec<QuantisedLayer>,
    },
    Decoder {
        version: u32,
        config: Gpt2Config,
        unit: f32,
        entry: ResidualNorm,
        blocks: Vec<QuantisedBlock>,
    },
}

impl ModelFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is truncated, of another version, or inconsistent; the message names file and tensor.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(ModelError::io(path))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// Reads a file from memory; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`ModelFile::read`].
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, ModelError> {
        Self::parse(bytes, origin).map_err(|reason| ModelError::ModelFile { origin: origin.into(), reason })
    }

    fn parse(bytes: &[u8], origin: &str) -> Result<Self, String> {
        let (file, json) = open(bytes, "model")?;
        let value: serde_json::Value = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        if value.get("kind").is_none() && value.get("layer").is_some() {
            return Err("this is the file of a single layer; give the file of a whole model".into());
        }
        if value["version"] != FORMAT_VERSION {
            return Err(format!("format version {} cannot be read, only {FORMAT_VERSION}", value["version"]));
        }
        let tokenizer = read_tokenizer(&file)?;
        match serde_json::from_str(&json).map_err(|e| e.to_string())? {
            Header::Encoder { config, max_tokens, hidden_order, layers, .. } => {
                config.check(Path::new(origin)).map_err(|e| e.to_string())?;
                let model = BertModel {
                    embeddings: empty_embeddings(&config, &file),
                    layers: Vec::new(),
                    max_tokens,
                    hidden_order,
                    tokenizer,
                    directory: PathBuf::from(origin),
                    config,
                };
                let mut model = QuantisedModel { model, layers };
                fill(encoder_arrays(&mut model), &file)?;
                model.check()?;
                Ok(Self::Encoder(Box::new(model)))
            }
            Header::Decoder { config, unit, entry, blocks, .. } => {
                config.check(Path::new(origin)).map_err(|e| e.to_string())?;
                let model = Gpt2Model {
                    word: Matrix { rows: config.vocab_size, cols: config.n_embd, data: Vec::new() },
                    position: Matrix { rows: config.n_positions, cols: config.n_embd, data: Vec::new() },
                    entry_norm: Norm { gamma: Vec::new(), beta: Vec::new() },
                    blocks: Vec::new(),
                    head: None,
                    tokenizer,
                    directory: PathBuf::from(origin),
                    config,
                };
                let head =
                    Head { weights: Matrix::zeros(model.config.n_embd, model.config.vocab_size), ..Head::default() };
                let mut decoder = QuantisedDecoder { model, unit, entry, blocks, head };
                fill(decoder_arrays(&mut decoder), &file)?;
                decoder.check()?;
                Ok(Self::Decoder(Box::new(decoder)))
            }
        }
    }

    /// The file's bytes; the same model always gives the same bytes.
    ///
    /// # Errors
    /// If the container cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        match self {
            Self::Encoder(model) => model.to_bytes(),
            Self::Decoder(model) => model.to_bytes(),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_bytes()?).map_err(ModelError::io(path))
    }
}

impl QuantisedModel {
    /// The model as a file; see [`crate::model_file`].
    ///
    /// # Errors
    /// If the container cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut copy = Self { model: without_layers(&self.model), layers: self.layers.clone() };
        let mut tensors: Vec<Stored> = encoder_arrays(&mut copy).into_iter().map(|(name, a)| a.take(name)).collect();
        let header = Header::Encoder {
            version: FORMAT_VERSION,
            config: copy.model.config,
            max_tokens: copy.model.max_tokens,
            hidden_order: copy.model.hidden_order,
            layers: copy.layers,
        };
        finish(&mut tensors, &header, self.model.tokenizer.as_ref(), &self.model.directory)
    }

    /// Writes the model as a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_bytes()?).map_err(ModelError::io(path))
    }

    /// Reads the file of an encoder. Its [`QuantisedModel::model`] has embeddings and tokenizer, but no float32
    /// layers.
    ///
    /// # Errors
    /// As [`ModelFile::read`], and if it is a decoder's.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        match ModelFile::read(&path)? {
            ModelFile::Encoder(model) => Ok(*model),
            ModelFile::Decoder(_) => Err(wrong_family(path.as_ref(), "a decoder, not an encoder")),
        }
    }

    /// Checks that all parts fit together.
    ///
    /// # Errors
    /// A sentence that names the part and what it should be.
    pub fn check(&self) -> Result<(), String> {
        let c = &self.model.config;
        if self.layers.len() != c.num_hidden_layers {
            return Err(format!("{} layers, expected {}", self.layers.len(), c.num_hidden_layers));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if (layer.hidden, layer.ffn) != (c.hidden_size, c.intermediate_size) {
                return Err(format!(
                    "layer {index} is {} wide with {} inside, expected {}, {}",
                    layer.hidden, layer.ffn, c.hidden_size, c.intermediate_size
                ));
            }
            layer.check().map_err(|e| format!("layer {index}: {e}"))?;
        }
        let mut order = self.model.hidden_order.clone();
        order.sort_unstable();
        let Embeddings { word, norm, .. } = &self.model.embeddings;
        if !order.into_iter().eq(0..c.hidden_size) {
            return Err("hidden_order is not a permutation of the hidden channels".into());
        }
        if [norm.gamma.len(), norm.beta.len()] != [c.hidden_size; 2] {
            return Err(format!("embeddings.norm has {} channels, expected {}", norm.gamma.len(), c.hidden_size));
        }
        if let WordTable::Int8 { elements, scales } = word {
            if scales.len() != elements.rows {
                return Err(format!("embeddings.word.scale has {} scales for {} rows", scales.len(), elements.rows));
            }
            if let Some(row) = scales.iter().position(|scale| !scale.is_finite()) {
                return Err(format!("embeddings.word.scale: row {row} has the scale {}", scales[row]));
            }
        }
        Ok(())
    }
}

impl QuantisedDecoder {
    /// The model as a file; see [`crate::model_file`].
    ///
    /// # Errors
    /// If the container cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let m = &self.model;
        let model = Gpt2Model {
            config: m.config.clone(),
            word: m.word.clone(),
            position: m.position.clone(),
            entry_norm: m.entry_norm.clone(),
            blocks: Vec::new(),
            head: None,
            tokenizer: None,
            directory: PathBuf::new(),
        };
        let mut copy = Self {
            model,
            unit: self.unit,
            entry: self.entry.clone(),
            blocks: self.blocks.clone(),
            head: self.head.clone(),
        };
        let mut tensors: Vec<Stored> = decoder_arrays(&mut copy).into_iter().map(|(name, a)| a.take(name)).collect();
        let header = Header::Decoder {
            version: FORMAT_VERSION,
            config: copy.model.config,
            unit: copy.unit,
            entry: copy.entry,
            blocks: copy.blocks,
        };
        finish(&mut tensors, &header, m.tokenizer.as_ref(), &m.directory)
    }

    /// Writes the model as a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_bytes()?).map_err(ModelError::io(path))
    }

    /// Reads the file of a decoder. Its [`QuantisedDecoder::model`] has embeddings and tokenizer, but no float32
    /// blocks.
    ///
    /// # Errors
    /// As [`ModelFile::read`], and if it is an encoder's.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        match ModelFile::read(&path)? {
            ModelFile::Decoder(model) => Ok(*model),
            ModelFile::Encoder(_) => Err(wrong_family(path.as_ref(), "an encoder, not a decoder")),
        }
    }
}

fn wrong_family(path: &Path, what: &str) -> ModelError {
    ModelError::ModelFile { origin: path.display().to_string(), reason: format!("this is {what}") }
}

fn without_layers(model: &BertModel) -> BertModel {
    BertModel {
        config: model.config.clone(),
        embeddings: model.embeddings.clone(),
        layers: Vec::new(),
        max_tokens: model.max_tokens,
        hidden_order: model.hidden_order.clone(),
        tokenizer: None,
        directory: PathBuf::new(),
    }
}

/// Tables of the sizes that the configuration gives; the word table has the element type that the file has.
fn empty_embeddings(config: &BertConfig, file: &SafeTensors<'_>) -> Embeddings {
    // Elements are read, not allocated: a damaged configuration may give any size.
    fn sized<T>(rows: usize, cols: usize) -> Matrix<T> {
        Matrix { rows, cols, data: Vec::new() }
    }
    let hidden = config.hidden_size;
    let word = match file.tensor(WORDS).map(|tensor| tensor.dtype()) {
        Ok(Dtype::I8) => WordTable::Int8 { elements: sized(config.vocab_size, hidden), scales: Vec::new() },
        _ => WordTable::Float(sized(config.vocab_size, hidden)),
    };
    Embeddings {
        word,
        position: sized(config.max_position_embeddings, hidden),
        segment: sized(config.type_vocab_size, hidden),
        norm: Norm { gamma: Vec::new(), beta: Vec::new() },
    }
}

fn encoder_arrays(model: &mut QuantisedModel) -> Arrays<'_> {
    let e = &mut model.model.embeddings;
    let mut list: Arrays<'_> = match &mut e.word {
        WordTable::Float(table) => vec![(WORDS.into(), Array::Table(table))],
        WordTable::Int8 { elements, scales } => {
            vec![(WORDS.into(), Array::Weights(elements)), (format!("{WORDS}.scale"), Array::F32(scales))]
        }
    };
    list.extend([
        ("embeddings.position".into(), Array::Table(&mut e.position)),
        ("embeddings.segment".into(), Array::Table(&mut e.segment)),
        ("embeddings.norm.gamma".into(), Array::F32(&mut e.norm.gamma)),
        ("embeddings.norm.beta".into(), Array::F32(&mut e.norm.beta)),
    ]);
    for (index, layer) in model.layers.iter_mut().enumerate() {
        list.extend(arrays(layer).into_iter().map(|(name, a)| (format!("layer.{index}.{name}"), a)));
    }
    list
}

fn decoder_arrays(model: &mut QuantisedDecoder) -> Arrays<'_> {
    let mut list: Arrays<'_> = vec![
        (WORDS.into(), Array::Table(&mut model.model.word)),
        ("embeddings.position".into(), Array::Table(&mut model.model.position)),
        ("entry_norm.gamma".into(), Array::F32(&mut model.model.entry_norm.gamma)),
        ("entry_norm.beta".into(), Array::F32(&mut model.model.entry_norm.beta)),
        ("head.weights".into(), Array::Weights(&mut model.head.weights)),
        ("head.bias".into(), Array::I32(&mut model.head.bias)),
        ("head.scale".into(), Array::F32(&mut model.head.scale)),
    ];
    for (index, block) in model.blocks.iter_mut().enumerate() {
        list.extend(block_arrays(block).into_iter().map(|(name, a)| (format!("layer.{index}.{name}"), a)));
    }
    list
}

fn fill(arrays: Arrays<'_>, file: &SafeTensors<'_>) -> Result<(), String> {
    arrays.into_iter().try_for_each(|(name, array)| array.fill(&name, file))
}

fn finish(
    tensors: &mut Vec<Stored>,
    header: &Header,
    tokenizer: Option<&Text>,
    origin: &Path,
) -> Result<Vec<u8>, ModelError> {
    let fail = |reason: String| ModelError::ModelFile { origin: origin.display().to_string(), reason };
    if let Some(tokenizer) = tokenizer {
        let text = tokenizer.to_json().map_err(fail)?;
        tensors.push((TOKENIZER.into(), Dtype::U8, vec![text.len()], text));
    }
    serialise(tensors, serde_json::to_string(header).map_err(|e| fail(e.to_string()))?).map_err(fail)
}

fn read_tokenizer(file: &SafeTensors<'_>) -> Result<Option<Text>, String> {
    if file.tensor(TOKENIZER).is_err() {
        return Ok(None);
    }
    let (_, text) = elements(file, TOKENIZER, Dtype::U8, |b: [u8; 1]| b[0])?;
    Text::from_json(text).map(Some).map_err(|e| format!("tensor `{TOKENIZER}`: {e}"))
}
