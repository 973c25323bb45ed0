//! `pollux model generate` with a GGUF file.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use pollux_compiler::Plan;
use pollux_compiler::execute::CycleSetup;
use pollux_compiler::graph::llama::{self, LlamaDecoder, LlamaGeneration, LlamaPass};
use pollux_compiler::report::Report;
use pollux_isa::GemminiConfig;
use pollux_model::calibrate::RangeMethod;
use pollux_model::gpt2::likeliest;
use pollux_model::graph::{GraphOptions, ReadOut};
use pollux_model::llama::LlamaModel;
use pollux_model::quality::Quality;
use pollux_model::quantise::llama::{FloatLlama, QuantisedLlama};
use serde_json::{Value, json};

use super::{QuantisationArguments, cycles_text, energy_json, energy_text, failure, name, verdict};
use crate::energy::Pricing;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted, grouped};
use crate::{progress, values};

/// Least tokens of a sample on which ranges are measured.
const SAMPLE: usize = 64;

/// The number formats of a decoder's graph.
#[derive(Args, Default)]
pub struct FormatArguments {
    /// Range of activations: min-max, mse, or percentile=P with P in percent; min-max by default.
    #[arg(long, value_name = "METHOD", requires = "model")]
    range: Option<RangeMethod>,
    /// Output channels of a GGUF file's weights that share a scale, 1 or more; by default all of them.
    #[arg(long, value_name = "N", requires = "model", value_parser = values::count::<usize>())]
    channels_per_scale: Option<usize>,
    /// How a GGUF file's products that only the host reads are read out: int8, int32, or int32-rows, with a scale for each token of
    /// what the host makes for them; int32-rows by default.
    #[arg(long, value_name = "FORMAT", requires = "model")]
    read_out: Option<ReadOut>,
    /// Move ranges of a GGUF file's activations into the weights that read them, 0 to 1 of the way (SmoothQuant); float32 stays the
    /// same. By default not at all.
    #[arg(long, value_name = "STRENGTH", requires = "model", value_parser = values::share)]
    smooth: Option<f64>,
}

impl FormatArguments {
    /// Range of activations, if it is given.
    pub fn range(&self) -> Option<RangeMethod> {
        self.range
    }

    fn options(&self) -> GraphOptions {
        GraphOptions {
            range: self.range.unwrap_or_default(),
            channels_per_scale: self.channels_per_scale.unwrap_or(0),
            read_out: self.read_out.unwrap_or(ReadOut::Int32Rows),
            outlier_channels: None,
        }
    }
}

/// The float32 decoder of a file.
pub fn read(path: &Path, out: &Output) -> Result<FloatLlama, Failure> {
    let model = progress::during(out, "reading the model", || LlamaModel::load(path).and_then(FloatLlama::new));
    model.map_err(Failure::input)
}

/// The same in INT8, for contexts of so many tokens.
pub fn quantise(
    float: &mut FloatLlama,
    quantisation: &QuantisationArguments,
    formats: &FormatArguments,
    context: usize,
    out: &Output,
) -> Result<Arc<QuantisedLlama>, Failure> {
    let (sentences, options) = (quantisation.sentences()?, formats.options());
    let smooth = formats.smooth.map(|strength| strength as f32);
    let context = context.max(SAMPLE).min(float.config.context);
    let message = "measuring ranges and quantising the model";
    progress::during(out, message, || llama::quantise(float, &sentences, context, smooth, &options)).map_err(failure)
}

/// A text to be continued.
pub struct Task<'a> {
    /// The GGUF file.
    pub path: &'a Path,
    /// The text.
    pub text: &'a str,
    /// New tokens, at most.
    pub count: usize,
    /// Configuration.
    pub config: GemminiConfig,
    /// How cycles are simulated, if they are.
    pub setup: Option<CycleSetup>,
}

/// The float32 model on the text that INT8 wrote.
struct Comparison {
    /// New tokens that float32 would have chosen behind the same ones.
    agree: usize,
    /// Cosine of the scores after the prompt.
    cosine: f64,
}

impl Task<'_> {
    /// Continues the text.
    pub fn generate(
        &self,
        quantisation: &QuantisationArguments,
        formats: &FormatArguments,
        pricing: Option<&Pricing>,
        out: &Output,
    ) -> Result<Outcome, Failure> {
        let mut float = read(self.path, out)?;
        let prompt = float.vocabulary.tokenize(self.text).map_err(Failure::input)?;
        let limit = float.config.context;
        if prompt.is_empty() || prompt.len() + self.count - 1 > limit {
            return Err(Failure::Input(format!(
                "the prompt of {} and {} do not fit the model's context of {limit}: give a text of 1 token or more, and \
                 fewer --tokens",
                counted(prompt.len() as u64, "token"),
                counted(self.count as u64, "new token"),
            )));
        }
        let int8 = quantise(&mut float, quantisation, formats, prompt.len() + self.count, out)?;
        let bar = progress::bar(out, self.count as u64, "tokens");
        let mut decoder = LlamaDecoder::new(int8, self.config.clone(), Plan::default(), self.setup);
        let end = float.vocabulary.end;
        let generation = llama::generate(&mut decoder, &prompt, self.count, end, &mut |token, _| {
            bar.set_position(token as u64);
        });
        bar.finish_and_clear();
        let generation = generation.map_err(failure)?;
        let comparison = progress::during(out, "comparing with float32", || compare(&mut float, &prompt, &generation))?;
        let text = float.vocabulary.detokenize(&generation.tokens).map_err(Failure::input)?;
        out.json(&self.document(&text, prompt.len(), &generation, &comparison, pricing))?;
        out.text(&summary(&text, prompt.len(), &generation, &comparison))?;
        let last = generation.further.last().unwrap_or(&generation.prompt);
        out.text(&energy_text(pricing, last.report.as_ref()))?;
        Ok(Outcome::of(generation.passes().all(|pass| pass.mismatches.is_empty())))
    }

    fn document(
        &self,
        text: &str,
        prompt: usize,
        generation: &LlamaGeneration,
        comparison: &Comparison,
        pricing: Option<&Pricing>,
    ) -> Value {
        let pass = |pass: &LlamaPass| {
            let report = pass.report.as_ref();
            json!({
                "cycles": report.map(|report| report.total.cycles), "host_cycles": report.map(|report| report.total.host_cycles),
                "utilisation": report.map(|report| report.total.utilisation), "tensors": pass.tensors, "mismatches": pass.mismatches,
                "parts": report.map(|report| &report.parts), "energy": energy_json(pricing, report),
            })
        };
        json!({
            "model": name(self.path), "config": self.config.name, "prompt": self.text, "prompt_tokens": prompt, "text": text,
            "tokens": generation.tokens, "match": generation.passes().all(|pass| pass.mismatches.is_empty()),
            "prefill": pass(&generation.prompt), "further": generation.further.iter().map(pass).collect::<Vec<_>>(),
            "host": generation.prompt.report.as_ref().map(|report| &report.host),
            "agree": comparison.agree, "cosine": comparison.cosine,
        })
    }
}

fn compare(float: &mut FloatLlama, prompt: &[u32], generation: &LlamaGeneration) -> Result<Comparison, Failure> {
    let all = [prompt, &generation.tokens[..generation.tokens.len() - 1]].concat();
    let logits = float.logits(&all).map_err(Failure::input)?;
    let after = &logits[prompt.len() - 1..];
    let agree = after.iter().zip(&generation.tokens).filter(|(row, token)| likeliest(row) == **token).count();
    let cosine = generation.prompt.logits.last().map_or(0.0, |row| Quality::of(row, &after[0]).cosine);
    Ok(Comparison { agree, cosine })
}

/// Cycles of passes, and the host's among them.
fn cycles<'a>(reports: impl Iterator<Item = &'a Report>) -> [u64; 2] {
    reports.fold([0; 2], |[all, host], report| [all + report.total.cycles, host + report.total.host_cycles])
}

fn summary(text: &str, prompt: usize, generation: &LlamaGeneration, comparison: &Comparison) -> String {
    let mut lines = format!("{text:?}\n");
    if let Some(report) = &generation.prompt.report {
        let [all, host] = cycles(std::iter::once(report));
        lines.push_str(&format!("prefill of {}: {}\n", counted(prompt as u64, "token"), cycles_text(all, host)));
        let further = generation.further.len() as u64;
        let [all, host] = cycles(generation.further.iter().filter_map(|pass| pass.report.as_ref()));
        lines.push_str(&format!(
            "{}: {}, {} a token\n",
            counted(further, "further token"),
            cycles_text(all, host),
            grouped(all / further.max(1))
        ));
        lines.push_str(&report.host.as_ref().map(ToString::to_string).unwrap_or_default());
    }
    let Comparison { agree, cosine } = comparison;
    lines.push_str(&format!(
        "cosine with the float32 logits after the prompt: {cosine:.5}; {agree} of {} tokens are float32's\n",
        generation.tokens.len()
    ));
    let tensors = generation.passes().map(|pass| pass.tensors).sum();
    let mismatches: Vec<_> = generation.passes().flat_map(|pass| pass.mismatches.clone()).collect();
    lines + &verdict(tensors, &mismatches)
}
