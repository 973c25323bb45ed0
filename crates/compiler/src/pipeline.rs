//! From a model and a text to a result with the accelerator's cycles: what `pollux model` does.

use std::path::Path;

use pollux_isa::GemminiConfig;
use pollux_kernels::Mask;
use pollux_memory::Memory;
use pollux_model::bert::{BertConfig, BertModel};
use pollux_model::gpt2::Gpt2Config;
use pollux_model::layer::QuantisedLayer;
use pollux_model::quality::{Quality, cosine};
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{AttentionMask, FloatModel, LayerTrace, Matrix, ModelError, ModelFile, Tensor, layer_reference};
use serde::Serialize;

use crate::decoder::DecoderModel;
use crate::encoder::{CompiledEncoder, TokenCounts, compile_parameters};
use crate::error::CompileError;
use crate::execute::{CycleSetup, Position, mismatches, read_matrix, run_functional};
use crate::operation::Compiled;
use crate::parameters::EncoderLayerParams;
use crate::plan::Plan;
use crate::report::{Report, run_reported};
use crate::study::techniques::Techniques;
pub use crate::text_run::{LayerRun, NextToken, TextRun};

/// Sentences on which ranges are measured if the user gives none.
pub const CALIBRATION: &str = include_str!("../data/calibration.txt");
/// Ten sentences in five matched pairs, on which accuracy is measured.
pub const SENTENCES: &str = include_str!("../data/sentences.txt");

/// Outlier channels that get a read-out of their own in whole models (see `pollux_model`'s comparison).
pub const OUTLIER_CHANNELS: usize = 16;

/// A quantised model of either family, with what it is compared with.
pub enum AnyModel {
    /// BERT family.
    Encoder(Box<Model>),
    /// GPT-2 family.
    Decoder(DecoderModel),
}

/// How far a layer is from float32 on a sample text, its input being the float32 model's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LayerQuality {
    /// Number.
    pub layer: usize,
    /// Its result.
    #[serde(flatten)]
    pub quality: Quality,
    /// Rows and elements whose 32-bit arithmetic wrapped; 0 unless the calibration is not representative.
    pub wraps: usize,
}

impl AnyModel {
    /// Reads a model directory of either family and quantises it on calibration sentences.
    ///
    /// # Errors
    /// Files that are missing or damaged, tensors that are missing or of the wrong shape, or options out of range.
    pub fn load(directory: &Path, calibration: &str, options: &QuantiseOptions) -> Result<Self, CompileError> {
        Ok(match FloatModel::load(directory)? {
            FloatModel::Encoder(float) => Self::Encoder(Box::new(Model::quantise(*float, calibration, options)?)),
            FloatModel::Decoder(float) => Self::Decoder(DecoderModel::quantise(*float, calibration, options)?),
        })
    }

    /// Reads the file of a quantised model. Only with the directory of its float32 model there is something to compare
    /// results with.
    ///
    /// # Errors
    /// Files that are missing or damaged, or a float32 model of another family or shape.
    pub fn read(file: &Path, reference: Option<&Path>) -> Result<Self, CompileError> {
        let quantised = ModelFile::read(file)?;
        let reference = reference.map(FloatModel::load).transpose()?;
        let refuse = |reason: String| Err(ModelError::ModelFile { origin: file.display().to_string(), reason }.into());
        match (quantised, reference) {
            (ModelFile::Encoder(quantised), None) => {
                Ok(Self::Encoder(Box::new(Model { float: None, quantised: *quantised })))
            }
            (ModelFile::Decoder(quantised), None) => Ok(Self::Decoder(DecoderModel::new(*quantised, None))),
            (ModelFile::Encoder(quantised), Some(FloatModel::Encoder(float))) => {
                let shape = |c: &BertConfig| [c.hidden_size, c.num_hidden_layers, c.vocab_size];
                let [found, expected] = [shape(&float.config), shape(&quantised.model.config)];
                if found != expected {
                    return refuse(other_shape(expected, found));
                }
                Ok(Self::Encoder(Box::new(Model { float: Some(*float), quantised: *quantised })))
            }
            (ModelFile::Decoder(quantised), Some(FloatModel::Decoder(float))) => {
                let shape = |c: &Gpt2Config| [c.n_embd, c.n_layer, c.vocab_size];
                let [found, expected] = [shape(&float.config), shape(&quantised.model.config)];
                if found != expected {
                    return refuse(other_shape(expected, found));
                }
                Ok(Self::Decoder(DecoderModel::new(*quantised, Some(*float))))
            }
            (ModelFile::Encoder(_), Some(FloatModel::Decoder(_))) => {
                refuse("this is an encoder, but the reference is a GPT-2 model; give a BERT model".into())
            }
            (ModelFile::Decoder(_), Some(FloatModel::Encoder(_))) => {
                refuse("this is a decoder, but the reference is a BERT model; give a GPT-2 model".into())
            }
        }
    }

    /// The model as a file.
    ///
    /// # Errors
    /// If the container cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        match self {
            Self::Encoder(model) => model.quantised.to_bytes(),
            Self::Decoder(model) => model.quantised.to_bytes(),
        }
    }

    /// Every layer against float32 on a sample text.
    ///
    /// # Errors
    /// A text that cannot be tokenised; a model without float32 layers.
    pub fn layer_quality(&self, text: &str) -> Result<Vec<LayerQuality>, CompileError> {
        let report = match self {
            Self::Encoder(model) => model.quantised.error_report(&[model.quantised.model.tokenize(text)?])?,
            Self::Decoder(model) => model.quantised.error_report(&[model.tokenize(text)?])?,
        };
        let layers = report.layers.iter().filter_map(|layer| {
            let tensor = report.get(layer.layer, Tensor::Output)?;
            Some(LayerQuality { layer: layer.layer, quality: tensor.alone, wraps: layer.wraps })
        });
        Ok(layers.collect())
    }

    /// Lowers all layers for a text to one program.
    ///
    /// # Errors
    /// Those of [`Model::lower`] and [`DecoderModel::lower`]; techniques that a decoder does not have.
    pub fn lower(
        &self,
        text: &str,
        config: GemminiConfig,
        plan: &Plan,
        techniques: &Techniques,
    ) -> Result<Compiled, CompileError> {
        match self {
            Self::Encoder(model) => Ok(model.lower(text, config, plan, techniques)?.encoder.compiled),
            Self::Decoder(model) => {
                check_decoder_techniques(techniques)?;
                Ok(model.lower(text, config, plan)?.compiled)
            }
        }
    }

    /// Tokens of a text.
    ///
    /// # Errors
    /// A text that cannot be tokenised.
    pub fn tokens(&self, text: &str) -> Result<usize, CompileError> {
        match self {
            Self::Encoder(model) => Ok(model.quantised.model.tokenize(text)?.len()),
            Self::Decoder(model) => Ok(model.tokenize(text)?.len()),
        }
    }

    /// Tokens of a text behind those that the model takes at most; they are left out.
    ///
    /// # Errors
    /// A text that cannot be tokenised.
    pub fn tokens_left_out(&self, text: &str) -> Result<usize, CompileError> {
        Ok(match self {
            Self::Encoder(model) => model.quantised.model.tokens_left_out(text)?,
            Self::Decoder(model) => model.quantised.model.tokens_left_out(text)?,
        })
    }

    /// Runs a text; with a setup cycle by cycle.
    ///
    /// # Errors
    /// Those of [`Model::run`] and [`DecoderModel::run`]; techniques that a decoder does not have.
    pub fn run(
        &self,
        text: &str,
        config: GemminiConfig,
        plan: &Plan,
        techniques: &Techniques,
        setup: Option<&CycleSetup>,
        progress: &mut dyn FnMut(Position),
    ) -> Result<TextRun, CompileError> {
        match self {
            Self::Encoder(model) => model.run(text, config, plan, techniques, setup, progress),
            Self::Decoder(model) => {
                check_decoder_techniques(techniques)?;
                model.run(text, config, plan, setup, progress)
            }
        }
    }
}

fn other_shape(expected: [usize; 3], found: [usize; 3]) -> String {
    let [e, f] =
        [expected, found].map(|[width, layers, words]| format!("width {width}, {layers} layers, {words} words"));
    format!("the reference has {f}, the file {e}: give the directory that the file was quantised from")
}

fn check_decoder_techniques(techniques: &Techniques) -> Result<(), CompileError> {
    if *techniques == Techniques::default() {
        return Ok(());
    }
    let what = "heads, columns, blocks, weights and tokens are left out of BERT models only; a decoder has early exit and \
                little models (`pollux model generate`)";
    Err(CompileError::Technique { technique: "pruning", what: what.to_owned() })
}

/// An INT8 encoder and its float32 original.
pub struct Model {
    /// float32; without it there is nothing to compare embeddings with.
    pub float: Option<BertModel>,
    /// INT8.
    pub quantised: QuantisedModel,
}

impl Model {
    /// Reads a model directory and quantises it on calibration sentences.
    ///
    /// # Errors
    /// Files that are missing or damaged, tensors that are missing or of the wrong shape, or options out of range.
    pub fn load(directory: &Path, calibration: &str, options: &QuantiseOptions) -> Result<Self, CompileError> {
        Self::quantise(BertModel::load(directory)?, calibration, options)
    }

    /// Quantises a model on calibration sentences.
    ///
    /// # Errors
    /// Sentences that cannot be tokenised, or options out of range.
    pub fn quantise(float: BertModel, calibration: &str, options: &QuantiseOptions) -> Result<Self, CompileError> {
        let sentences = calibration.lines().filter(|line| !line.trim().is_empty());
        let ids = sentences.map(|sentence| float.tokenize(sentence)).collect::<Result<Vec<_>, _>>()?;
        let quantised = QuantisedModel::build(float.clone(), &ids, options)?;
        Ok(Self { float: Some(float), quantised })
    }

    /// Lowers all layers for a text. The integer reference's tensors are the buffers' expected contents: all of them, or
    /// each layer's result if parts of the layers are left out, or none if tokens are.
    ///
    /// # Errors
    /// A text that cannot be tokenised, a technique that leaves nothing, or a plan that cannot be followed.
    pub fn lower(
        &self,
        text: &str,
        config: GemminiConfig,
        plan: &Plan,
        techniques: &Techniques,
    ) -> Result<Lowered, CompileError> {
        let ids = self.quantised.model.tokenize(text)?;
        let input = self.quantised.embed_tokens(&ids)?;
        let (zeroed, shrunk) = techniques.apply(&self.quantised.layers, config.dim() as usize)?;
        let sparse = techniques.blocks > 0.0 || techniques.weights > 0.0;
        let plan = Plan { skip_zero_tiles: plan.skip_zero_tiles || sparse, ..plan.clone() };
        let keep = token_counts(input.rows, &techniques.keep);
        techniques.check_layers(zeroed.len())?;
        let mut encoder = compile_parameters(config, &plan, &shrunk, &input, Mask::Full, &keep)?;
        if keep.is_empty() {
            let tensors: &[Tensor] = if techniques.shrinks() { &[Tensor::Output] } else { &Tensor::ALL[1..] };
            encoder.expect_tensors(&references(&zeroed, &input)?, tensors)?;
        }
        Ok(Lowered { tokens: ids.len(), encoder })
    }

    /// Runs a text; with a setup cycle by cycle.
    ///
    /// # Errors
    /// Those of [`Model::lower`], and of the run.
    pub fn run(
        &self,
        text: &str,
        config: GemminiConfig,
        plan: &Plan,
        techniques: &Techniques,
        setup: Option<&CycleSetup>,
        progress: &mut dyn FnMut(Position),
    ) -> Result<TextRun, CompileError> {
        let Lowered { tokens, encoder } = self.lower(text, config, plan, techniques)?;
        let (memory, report) = run_reported(&format!("{tokens} tokens"), &encoder.compiled, setup, progress)?;
        let (mismatches, tensors) = mismatches(&encoder.compiled.program, &memory);
        let layers = self.layer_runs(text, &encoder, &memory, report.as_ref())?;
        let embedding = encoder.output().map(|view| self.pool(&read_matrix(&memory, &view))).unwrap_or_default();
        let float = self.float.as_ref().map(|float| float.embed(text)).transpose()?;
        let cosine = float.map(|float| cosine(&embedding, &float));
        let tokens_left_out = self.quantised.model.tokens_left_out(text)?;
        let text = text.to_owned();
        Ok(TextRun {
            text,
            tokens,
            tokens_left_out,
            cosine,
            embedding,
            next: None,
            tensors,
            mismatches,
            layers,
            report,
        })
    }

    /// Each layer's result within the whole encoder against float32. With fewer tokens, or without float32 layers, there is
    /// nothing to compare.
    fn layer_runs(
        &self,
        text: &str,
        encoder: &CompiledEncoder,
        memory: &Memory,
        report: Option<&Report>,
    ) -> Result<Vec<LayerRun>, CompileError> {
        let model = &self.quantised.model;
        let mut x = model.embed_tokens(&model.tokenize(text)?)?;
        let mut runs = Vec::new();
        for (index, (buffers, layer)) in encoder.layers.iter().zip(&self.quantised.layers).enumerate() {
            let mut quality = None;
            if !model.layers.is_empty() && buffers.output.rows == x.rows {
                x = model.forward_layer(index, &x, AttentionMask::Full)?.get(Tensor::Output).clone();
                let output = layer.encoding(Tensor::Output).dequantise(&read_matrix(memory, &buffers.output));
                quality = Some(Quality::of(&output.data, &x.data));
            }
            runs.push(LayerRun::new(index, buffers.output.rows, quality, report));
        }
        Ok(runs)
    }

    /// The sentence embedding of the last layer's result.
    pub fn pool(&self, output: &Matrix<i8>) -> Vec<f32> {
        let last = self.quantised.layers.last();
        last.map_or_else(Vec::new, |l| self.quantised.model.pool(&l.encoding(Tensor::Output).dequantise(output)))
    }

    /// Accuracy of changed layers (pruned ones) on sentences in matched pairs, by the integer reference.
    ///
    /// # Errors
    /// A sentence that cannot be tokenised.
    pub fn accuracy(&self, layers: &[QuantisedLayer], sentences: &str) -> Result<Accuracy, CompileError> {
        self.accuracy_with(sentences, |input| {
            let traces = references(layers, input)?;
            Ok(traces.last().map(|trace| trace.output().clone()).unwrap_or_default())
        })
    }

    /// Accuracy of anything that turns the first layer's input into the last one's output.
    ///
    /// # Errors
    /// A sentence that cannot be tokenised, and those of `run`.
    pub fn accuracy_with(
        &self,
        sentences: &str,
        mut run: impl FnMut(&Matrix<i8>) -> Result<Matrix<i8>, CompileError>,
    ) -> Result<Accuracy, CompileError> {
        let float = self.float.as_ref().ok_or(ModelError::NoFloatLayers)?;
        let mut pairs = Vec::new();
        for text in sentences.lines().filter(|line| !line.trim().is_empty()) {
            let input = self.quantised.embed_tokens(&self.quantised.model.tokenize(text)?)?;
            pairs.push([float.embed(text)?, self.pool(&run(&input)?)]);
        }
        Ok(Accuracy::of(&pairs))
    }

    /// Accuracy of the techniques on sentences in matched pairs: by the integer reference, or on the functional model if
    /// tokens are left out.
    ///
    /// # Errors
    /// Those of [`Model::lower`], and of the functional run.
    pub fn technique_accuracy(&self, techniques: &Techniques, sentences: &str) -> Result<Accuracy, CompileError> {
        let changed = self.changed(techniques)?;
        self.accuracy_with(sentences, |input| changed.output(input))
    }

    /// The layers with what a technique leaves out.
    ///
    /// # Errors
    /// Those of [`Techniques::apply`] and [`Techniques::check_layers`].
    pub fn changed(&self, techniques: &Techniques) -> Result<ChangedLayers, CompileError> {
        techniques.check_layers(self.quantised.layers.len())?;
        let config = GemminiConfig::norm16();
        let (zeroed, shrunk) = techniques.apply(&self.quantised.layers, config.dim() as usize)?;
        Ok(ChangedLayers { config, zeroed, shrunk, keep: techniques.keep.clone() })
    }

    /// The sentence embedding of a text by changed layers.
    ///
    /// # Errors
    /// A text that cannot be tokenised, and those of the functional run.
    pub fn embed_changed(&self, changed: &ChangedLayers, text: &str) -> Result<Vec<f32>, CompileError> {
        let input = self.quantised.embed_tokens(&self.quantised.model.tokenize(text)?)?;
        Ok(self.pool(&changed.output(&input)?))
    }
}

/// Layers with what a technique leaves out.
pub struct ChangedLayers {
    config: GemminiConfig,
    /// With zeros for it.
    zeroed: Vec<QuantisedLayer>,
    /// Without it.
    shrunk: Vec<EncoderLayerParams>,
    /// Fractions of the tokens that go on after a layer.
    keep: Vec<(usize, f64)>,
}

impl ChangedLayers {
    /// The last layer's output: by the integer reference, or on the functional model if tokens are left out.
    fn output(&self, input: &Matrix<i8>) -> Result<Matrix<i8>, CompileError> {
        if self.keep.is_empty() {
            let traces = references(&self.zeroed, input)?;
            return Ok(traces.last().map(|trace| trace.output().clone()).unwrap_or_default());
        }
        let keep = token_counts(input.rows, &self.keep);
        let (plan, config) = (Plan::default(), self.config.clone());
        let encoder = compile_parameters(config, &plan, &self.shrunk, input, Mask::Full, &keep)?;
        let memory = run_functional(&encoder.compiled, encoder.compiled.program.initial_memory())?;
        Ok(encoder.output().map(|view| read_matrix(&memory, &view)).unwrap_or_default())
    }
}

/// Tokens kept by layer: fractions of what each layer has, rounded up.
pub fn token_counts(tokens: usize, keep: &[(usize, f64)]) -> TokenCounts {
    let mut left = tokens;
    keep.iter()
        .map(|&(layer, fraction)| {
            left = ((left as f64 * fraction).ceil() as usize).clamp(1, left);
            (layer, left)
        })
        .collect()
}

/// The integer reference of all layers.
///
/// # Errors
/// Layers that do not fit together.
pub fn references(layers: &[QuantisedLayer], input: &Matrix<i8>) -> Result<Vec<LayerTrace>, ModelError> {
    let mut x = input.clone();
    let mut traces = Vec::with_capacity(layers.len());
    for layer in layers {
        let trace = layer_reference(layer, &x, AttentionMask::Full)?;
        x = trace.output().clone();
        traces.push(trace);
    }
    Ok(traces)
}

/// A text as commands.
pub struct Lowered {
    /// Tokens of the text.
    pub tokens: usize,
    /// The encoder with expected contents.
    pub encoder: CompiledEncoder,
}

/// How well embeddings agree with float32 on sentences in matched pairs (1 with 2, 3 with 4, ...).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Cosine of each sentence's two embeddings.
    pub cosines: Vec<f64>,
    /// Whether the matched pairs, ordered by similarity, come in the order of float32.
    pub ranking_kept: bool,
}

impl Accuracy {
    fn of(embeddings: &[[Vec<f32>; 2]]) -> Self {
        let similarity = |pair: &[[Vec<f32>; 2]], which: usize| cosine(&pair[0][which], &pair[1][which]);
        let mut pairs: Vec<[f64; 2]> =
            embeddings.chunks_exact(2).map(|pair| [similarity(pair, 0), similarity(pair, 1)]).collect();
        pairs.sort_by(|a, b| b[0].total_cmp(&a[0]));
        Self {
            cosines: embeddings.iter().map(|[float, int]| cosine(float, int)).collect(),
            ranking_kept: pairs.is_sorted_by(|a, b| a[1] >= b[1]),
        }
    }

    /// Mean of the cosines.
    pub fn mean(&self) -> f64 {
        self.cosines.iter().sum::<f64>() / self.cosines.len().max(1) as f64
    }

    /// Smallest of the cosines.
    pub fn min(&self) -> f64 {
        self.cosines.iter().copied().fold(f64::INFINITY, f64::min)
    }
}
