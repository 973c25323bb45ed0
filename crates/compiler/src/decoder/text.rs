//! From a quantised decoder and a text to logits, with the accelerator's cycles: what `pollux model run` does.

use std::sync::Arc;

use pollux_isa::GemminiConfig;
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::decoder_reference::head_reference;
use pollux_model::gpt2::Gpt2Model;
use pollux_model::quality::{Quality, cosine};
use pollux_model::quantise::QuantiseOptions;
use pollux_model::{ModelError, Tensor};

use super::passes::{CompiledPrompt, Decoder, Pass, PassOptions, bytes, compile_prompt};
use crate::error::CompileError;
use crate::execute::{CycleSetup, Mismatch, Position, read_matrix};
use crate::plan::Plan;
use crate::text_run::{LayerRun, NextToken, TextRun};

/// An INT8 decoder, and the float32 model that it is compared with.
#[derive(Clone)]
pub struct DecoderModel {
    /// INT8.
    pub quantised: Arc<QuantisedDecoder>,
    /// float32, if the quantised model has left its float32 blocks behind.
    reference: Option<Arc<Gpt2Model>>,
}

impl DecoderModel {
    /// A quantised model; `reference` is needed only if it has no float32 blocks of its own, as one from a file.
    pub fn new(quantised: QuantisedDecoder, reference: Option<Gpt2Model>) -> Self {
        Self { quantised: Arc::new(quantised), reference: reference.map(Arc::new) }
    }

    /// Quantises a model on calibration sentences.
    ///
    /// # Errors
    /// Sentences that cannot be tokenised, or options out of range.
    pub fn quantise(float: Gpt2Model, calibration: &str, options: &QuantiseOptions) -> Result<Self, CompileError> {
        let ids = calibration.lines().map(|line| float.tokenize(line)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<Vec<u32>> = ids.into_iter().filter(|ids| !ids.is_empty()).collect();
        Ok(Self::new(QuantisedDecoder::build(float, &ids, options)?, None))
    }

    /// The float32 model, if there is one.
    pub fn float(&self) -> Option<&Gpt2Model> {
        let own = Some(&self.quantised.model).filter(|model| !model.blocks.is_empty());
        own.or(self.reference.as_deref())
    }

    /// Token ids of a prompt.
    ///
    /// # Errors
    /// A text without tokens, or one that cannot be tokenised.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, CompileError> {
        let ids = self.quantised.model.tokenize(text)?;
        match ids.is_empty() {
            true => Err(ModelError::TokenCount { tokens: 0, limit: self.quantised.model.config.n_positions }.into()),
            false => Ok(ids),
        }
    }

    /// Lowers a prompt to one program with the integer reference's tensors as expected contents; see [`compile_prompt`].
    ///
    /// # Errors
    /// A text that cannot be tokenised, or a plan that cannot be followed.
    pub fn lower(&self, text: &str, config: GemminiConfig, plan: &Plan) -> Result<CompiledPrompt, CompileError> {
        let (model, ids) = (&self.quantised, self.tokenize(text)?);
        let mut prompt = compile_prompt(config, plan, model, &ids)?;
        prompt.expect(&model.traces(&ids, &mut model.cache())?);
        Ok(prompt)
    }

    /// Runs a prompt and compares every tensor with the integer reference; with a setup cycle by cycle.
    ///
    /// # Errors
    /// A text that cannot be tokenised, a plan that cannot be followed, or a run that stops.
    pub fn run(
        &self,
        text: &str,
        config: GemminiConfig,
        plan: &Plan,
        setup: Option<&CycleSetup>,
        progress: &mut dyn FnMut(Position),
    ) -> Result<TextRun, CompileError> {
        let (ids, model) = (self.tokenize(text)?, &self.quantised);
        let mut decoder = Decoder::new(config, plan, model.clone(), setup.copied())?;
        let pass = decoder.pass(&ids, PassOptions::default(), progress)?;
        let traces = model.traces(&ids, &mut model.cache())?;
        let (tensors, mut mismatches) = decoder.compare(&pass, &traces);
        if let (Some(trace), [scores]) = (traces.last(), &pass.scores[..]) {
            let normalised = trace.get(Tensor::Output);
            let expected = head_reference(&model.head, normalised.row(normalised.rows - 1));
            let [actual, expected] = [scores, &expected].map(|scores| bytes(scores));
            mismatches.extend(Mismatch::between("logits".to_owned(), &actual, &expected));
        }
        let token = pass.token();
        let next = NextToken { token, text: model.model.detokenize(&[token])? };
        Ok(TextRun {
            text: text.to_owned(),
            tokens: ids.len(),
            tokens_left_out: model.model.tokens_left_out(text)?,
            cosine: self.logits_cosine(&ids, pass.logits.last().map_or(&[], Vec::as_slice))?,
            embedding: Vec::new(),
            next: Some(next),
            tensors: tensors + 1,
            mismatches,
            layers: self.layer_runs(&ids, &decoder, &pass)?,
            report: pass.report(),
        })
    }

    /// Cosine of the logits after these tokens and those of the float32 model, if there is one.
    ///
    /// # Errors
    /// Tokens that cannot be embedded.
    pub fn logits_cosine(&self, ids: &[u32], logits: &[f32]) -> Result<Option<f64>, CompileError> {
        let Some(float) = self.float() else { return Ok(None) };
        let normed = float.decode(ids, &mut float.cache())?;
        Ok(Some(cosine(logits, &float.logits(normed.row(normed.rows - 1)))))
    }

    /// Each block's cycles, and its normalised result against float32. A reference model of its own is not compared block
    /// by block: its channels may be in another order.
    fn layer_runs(&self, ids: &[u32], decoder: &Decoder, pass: &Pass) -> Result<Vec<LayerRun>, CompileError> {
        let model = &self.quantised.model;
        let mut residual = model.embed_tokens(ids, 0)?;
        let mut normed = model.entry(&residual);
        let (mut cache, report) = (model.cache(), pass.report());
        let mut runs = Vec::new();
        for (index, (buffers, block)) in pass.blocks.iter().zip(&self.quantised.blocks).enumerate() {
            let mut quality = None;
            if !model.blocks.is_empty() {
                let trace = model.forward_block(index, &residual, &normed, &mut cache)?;
                normed = trace.get(Tensor::Output).clone();
                residual = trace.ffn_sum;
                let output = read_matrix(decoder.memory(), &buffers.int8[&Tensor::Output]);
                let output = block.encoding(Tensor::Output).dequantise(&output);
                quality = Some(Quality::of(&output.data, &normed.data));
            }
            runs.push(LayerRun::new(index, ids.len(), quality, report.as_ref()));
        }
        Ok(runs)
    }
}
