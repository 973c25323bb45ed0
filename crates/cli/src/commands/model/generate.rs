//! `pollux model generate`

use std::sync::Arc;

use clap::Args;
use pollux_compiler::decoder::{self, BigLittle, Decoder, DecoderModel, EarlyExit, Generation};
use pollux_compiler::pipeline::AnyModel;
use pollux_compiler::report::Report;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::{CompileError, CycleSetup, Plan};
use pollux_energy::EnergyReport;
use pollux_model::decoder::QuantisedDecoder;
use pollux_sim::replay::ReplayTable;
use serde_json::{Value, json};

use super::llama::{self, FormatArguments};
use super::{QuantisationArguments, SimulationArguments, cycles_text, failure};
use crate::arguments::{ReplayArguments, configuration};
use crate::energy::{EnergyArguments, Pricing};
use crate::failure::{Failure, Outcome};
use crate::files::NamedPath;
use crate::options::{Given, Subject};
use crate::output::{Output, counted, grouped};
use crate::{progress, values};

/// Tokens that the little model proposes at a time.
const BIG_LITTLE_DRAFT: usize = 4;
/// Blocks between two looks at the logits.
const EXIT_EVERY: usize = 2;

const EXAMPLES: &str = "\
Examples:
  pollux model generate gpt2 --text \"The systolic array\" --tokens 8
  pollux model generate gpt2.st --text \"The systolic array\" --reference gpt2 --functional
  pollux model generate SmolLM2-135M-Instruct.Q4_1.gguf --text \"The systolic array\" --channels-per-scale 64
  pollux model generate --shape gpt2 --layers 2 --prompt 8 --tokens 4 --early-exit 0.9
  pollux model generate --shape gpt2 --prompt 8 --tokens 200 --no-values";

/// Generate tokens with a GPT-2-family model, a Llama-like decoder from a GGUF file, or a decoder of a published shape and
/// pseudo-random weights: prefill, then token by token.
///
/// The tokens are compared with those of the integer reference and, if there is one, of the float32 model. With --early-exit
/// or --little the same tokens are generated without it first, for comparison.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// Model directory, GGUF file, or the file that `pollux model quantize` writes; without one, a shape.
    #[arg(value_name = "MODEL", requires = "text")]
    model: Option<NamedPath>,
    /// Text that the model continues.
    #[arg(long, value_name = "TEXT", requires = "model")]
    text: Option<String>,
    #[command(flatten)]
    quantisation: QuantisationArguments,
    #[command(flatten)]
    formats: FormatArguments,
    /// Shape: gpt2, gpt2-medium, or one of the encoders' names.
    #[arg(long, value_name = "NAME", default_value = "gpt2", conflicts_with = "model")]
    shape: String,
    /// Blocks, 1 or more; by default those of the shape.
    #[arg(long, value_name = "N", conflicts_with = "model", value_parser = values::count::<usize>())]
    layers: Option<usize>,
    /// Tokens of the shape's vocabulary, 1 or more.
    #[arg(long, value_name = "N", default_value_t = 50257, conflicts_with = "model", value_parser = values::count::<usize>())]
    vocabulary: usize,
    /// Tokens of the shape's prompt, 1 or more.
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "model", value_parser = values::count::<usize>())]
    prompt: usize,
    /// Tokens to generate, 1 to 65536.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: u32,
    /// Look at the logits after every two blocks, and stop at this probability of the best token.
    #[arg(long, value_name = "PROBABILITY", conflicts_with = "little", value_parser = values::probability)]
    early_exit: Option<f32>,
    /// Blocks of a little model that proposes tokens: the first ones of the big model, 1 or more.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    little: Option<usize>,
    /// Probability below which the little model asks the big one.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, requires = "little", value_parser = values::probability)]
    confidence: f32,
    /// Seed of the shape's weights.
    #[arg(long, value_name = "SEED", default_value_t = 1, conflicts_with = "model")]
    seed: u64,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "norm16")]
    config: String,
    /// Use the functional model: no cycles.
    #[arg(long, conflicts_with_all = ["memory", "interval", "limit", "energy", "no_replay", "check_replay", "replay_table_size", "replay_tables"])]
    functional: bool,
    /// Only cycles: nothing is computed, and no tokens come out. Where the accelerator normalizes, cycles are those without a divisor
    /// that is zero.
    #[arg(long, conflicts_with_all = ["functional", "early_exit", "little", "reference"])]
    no_values: bool,
    #[command(flatten)]
    simulation: SimulationArguments,
    #[command(flatten)]
    energy: EnergyArguments,
    #[command(flatten)]
    replay: ReplayArguments,
}

/// What is continued, and by which model.
struct Task {
    name: String,
    model: DecoderModel,
    prompt: Vec<u32>,
}

impl Arguments {
    fn count(&self) -> usize {
        self.tokens as usize
    }

    fn task(&self, out: &Output) -> Result<Task, Failure> {
        match (&self.model, &self.text) {
            (Some(path), Some(text)) => {
                let name = super::name(path);
                super::graph::subject(path).check(&path.display().to_string(), &self.given)?;
                let AnyModel::Decoder(model) = self.quantisation.load(path, self.formats.range(), out)? else {
                    return Err(Failure::Input(format!(
                        "{name} is an encoder, which generates nothing: give a GPT-2 model"
                    )));
                };
                let prompt = model.tokenize(text).map_err(failure)?;
                let left_out = model.quantised.model.tokens_left_out(text).map_err(Failure::input)?;
                self.check_length(prompt.len() + left_out, model.quantised.model.config.n_positions)?;
                Ok(Task { name, model, prompt })
            }
            _ => {
                let spinner = progress::spinner(out, "making and quantising the model");
                let task = self.synthetic();
                spinner.finish_and_clear();
                task
            }
        }
    }

    fn synthetic(&self) -> Result<Task, Failure> {
        let mut shape = Shape::by_name(&self.shape).map_err(failure)?;
        shape.layers = self.layers.unwrap_or(shape.layers);
        let positions = self.prompt + self.count();
        let model = synthetic::decoder(&shape, self.vocabulary, positions, self.seed).map_err(failure)?;
        let prompt = (0..self.prompt).map(|t| (t * 37 % self.vocabulary.max(1)) as u32).collect();
        Ok(Task { name: shape.name, model: DecoderModel::new(model, None), prompt })
    }

    fn check_length(&self, prompt: usize, positions: usize) -> Result<(), Failure> {
        // The last token generated is not run.
        if prompt + self.count() - 1 <= positions {
            return Ok(());
        }
        Err(Failure::Input(format!(
            "the prompt of {} and {} do not fit the model's context of {positions}: give a shorter text or --tokens {}",
            counted(prompt as u64, "token"),
            counted(self.count() as u64, "new token"),
            (positions + 1).saturating_sub(prompt)
        )))
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    let replay = arguments.replay.options(arguments.simulation.memory(), None)?;
    let pricing = arguments.energy.pricing(&config)?;
    let setup =
        (!arguments.functional).then(|| CycleSetup { replay, ..arguments.simulation.setup_for(&arguments.energy) });
    if let (Some(path), Some(text)) = (&arguments.model, &arguments.text)
        && super::graph::subject(path) == Subject::GgufFile
    {
        Subject::GgufFile.check(&path.display().to_string(), &arguments.given)?;
        arguments
            .given
            .refuse(&["replay_tables"], "the situations of a GGUF file's passes are kept for this run only")?;
        arguments.given.refuse(&["no_values"], "the passes of a GGUF file are run with their values")?;
        let model = llama::Task { path, text, count: arguments.count(), config: config.into_inner(), setup };
        return model.generate(&arguments.quantisation, &arguments.formats, pricing.as_ref(), out);
    }
    let Task { name, model, prompt } = arguments.task(out)?;
    let with_table = |model: Arc<QuantisedDecoder>, table: ReplayTable| {
        let decoder = Decoder::new(config.clone().into_inner(), &Plan::default(), model, setup)?;
        let decoder = if replay.is_some() { decoder.replayed(table) } else { decoder };
        Ok::<_, CompileError>(if arguments.no_values { decoder.without_values() } else { decoder })
    };
    let new = |model| with_table(model, ReplayTable::new());
    let big = || new(model.quantised.clone());
    let count = arguments.count();
    let bar = progress::bar(out, count as u64, "tokens");
    let mut moved = |token: usize, _| bar.set_position(token as u64);
    let mut decoder = with_table(model.quantised.clone(), arguments.replay.table()?).map_err(failure)?;
    let greedy = decoder::generate(&mut decoder, &prompt, count, None, &mut moved).map_err(failure)?;
    if let Some(table) = decoder.situations() {
        arguments.replay.keep(table, out)?;
    }
    let technique = match (arguments.early_exit, arguments.little) {
        (Some(confidence), _) => Some(big().and_then(|mut decoder| {
            let exit = EarlyExit { every: EXIT_EVERY, confidence };
            decoder::generate(&mut decoder, &prompt, count, Some(exit), &mut moved)
        })),
        (None, Some(blocks)) => Some(model.quantised.first_blocks(blocks).map_err(Into::into).and_then(|little| {
            let policy = BigLittle { draft: BIG_LITTLE_DRAFT, confidence: arguments.confidence };
            decoder::generate_big_little(&mut big()?, &mut new(Arc::new(little))?, &prompt, count, policy)
        })),
        (None, None) => None,
    };
    bar.finish_and_clear();
    let technique = technique.transpose().map_err(failure)?;
    let result = if arguments.no_values { Comparison::NONE } else { Comparison::new(&model, &prompt, &greedy)? };
    let mut json = document(arguments, &name, &model, &greedy, technique.as_ref(), &result)?;
    json["energy"] = pricing.as_ref().map_or(Value::Null, |pricing| energy_json(pricing, &greedy, technique.as_ref()));
    out.json(&json)?;
    out.text(&text(&model, (prompt.len(), count), &greedy, technique.as_ref(), &result)?)?;
    out.text(&pricing.as_ref().map(|pricing| energy_text(pricing, &greedy, technique.as_ref())).unwrap_or_default())?;
    Ok(Outcome::of(result.exact != Some(false)))
}

/// What prompt and further tokens take of energy, with the technique if there is one.
fn energies<'a>(
    pricing: &'a Pricing,
    greedy: &'a Generation,
    technique: Option<&'a Generation>,
) -> impl Iterator<Item = (&'static str, EnergyReport)> + 'a {
    let [prefill, decode] = &greedy.counted;
    let other = technique.map(|other| ("technique", &other.counted[1]));
    let parts = [("prefill", prefill), ("decode", decode)].into_iter().chain(other);
    parts.filter(|(_, parts)| !parts.is_empty()).map(|(name, parts)| (name, pricing.of(parts.clone())))
}

fn energy_json(pricing: &Pricing, greedy: &Generation, technique: Option<&Generation>) -> Value {
    energies(pricing, greedy, technique).map(|(name, report)| (name.to_owned(), json!(report))).collect()
}

fn energy_text(pricing: &Pricing, greedy: &Generation, technique: Option<&Generation>) -> String {
    energies(pricing, greedy, technique).map(|(name, report)| format!("\n{name}\n{}\n", report.text())).collect()
}

/// Greedy tokens against the integer reference and against float32.
struct Comparison {
    /// The tokens are those of the integer reference; nothing is known without values.
    exact: Option<bool>,
    /// Tokens of the float32 model, if there is one.
    float: Option<Vec<u32>>,
    /// Of the logits after the prompt.
    cosine: Option<f64>,
}

impl Comparison {
    /// Without values.
    const NONE: Self = Self { exact: None, float: None, cosine: None };

    fn new(model: &DecoderModel, prompt: &[u32], greedy: &Generation) -> Result<Self, Failure> {
        let count = greedy.tokens.len();
        let exact = model.quantised.generate(prompt, count).map_err(Failure::input)? == greedy.tokens;
        let float = model.float().map(|float| float.generate(prompt, count)).transpose().map_err(Failure::input)?;
        Ok(Self { exact: Some(exact), float, cosine: model.logits_cosine(prompt, &greedy.logits).map_err(failure)? })
    }
}

fn agreeing(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

/// The text of tokens; none for pseudo-random weights, which have no words.
fn words(model: &DecoderModel, tokens: &[u32]) -> Result<Option<String>, Failure> {
    let model = &model.quantised.model;
    model.has_tokenizer().then(|| model.detokenize(tokens)).transpose().map_err(Failure::input)
}

fn document(
    arguments: &Arguments,
    name: &str,
    model: &DecoderModel,
    greedy: &Generation,
    technique: Option<&Generation>,
    comparison: &Comparison,
) -> Result<Value, Failure> {
    let generation = |generation: &Generation| -> Result<Value, Failure> {
        Ok(json!({
            "tokens": generation.tokens, "text": words(model, &generation.tokens)?,
            "prefill_cycles": generation.prefill_cycles, "decode_cycles": generation.decode_cycles,
            "prefill_host_cycles": generation.host_cycles[0], "decode_host_cycles": generation.host_cycles[1],
            "layers": generation.layers, "accepted": generation.accepted,
        }))
    };
    let layers: Vec<Value> = match (&greedy.prefill, &greedy.last) {
        (Some(prefill), last) => (prefill.layers.iter().enumerate())
            .map(|(layer, figures)| {
                let token = last.as_ref().and_then(|last| last.layers.get(layer)).map(|figures| figures.cycles);
                json!({ "layer": layer, "prefill_cycles": figures.cycles, "token_cycles": token })
            })
            .collect(),
        (None, _) => Vec::new(),
    };
    let float = comparison.float.as_ref();
    let float = float.map(|tokens| -> Result<Value, Failure> {
        Ok(json!({
            "tokens": tokens, "text": words(model, tokens)?, "agree": agreeing(tokens, &greedy.tokens),
        }))
    });
    let other = technique.unwrap_or(greedy);
    Ok(json!({
        "model": name, "config": arguments.config, "prompt": arguments.text, "match": comparison.exact,
        "text": comparison.exact.map_or(Ok(None), |_| words(model, &greedy.tokens))?, "cosine": comparison.cosine,
        "assumes_no_zero_divisor": greedy.prefill.as_ref().map(|report| report.assumes_no_zero_divisor),
        "cycles": greedy.prefill.as_ref().map(|_| greedy.prefill_cycles + greedy.decode_cycles),
        "host": greedy.prefill.as_ref().map(|report| &report.host), "layers": layers, "greedy": generation(greedy)?, "float": float.transpose()?,
        "technique": technique.map(generation).transpose()?,
        "agreement": comparison.exact.map(|_| agreeing(&other.tokens, &greedy.tokens) as f64 / greedy.tokens.len().max(1) as f64),
    }))
}

fn text(
    model: &DecoderModel,
    (prompt, count): (usize, usize),
    greedy: &Generation,
    technique: Option<&Generation>,
    comparison: &Comparison,
) -> Result<String, Failure> {
    let mut text = match (comparison.exact, words(model, &greedy.tokens)?) {
        (None, _) => String::new(),
        (_, Some(words)) => format!("{words:?}\n"),
        (_, None) => format!("tokens {:?}\n", greedy.tokens),
    };
    let prompt = counted(prompt as u64, "token");
    if greedy.prefill.is_some() {
        let further = (count as u64).saturating_sub(1);
        text.push_str(&format!(
            "prefill of {prompt}: {}\n{}: {}, {} a token\n",
            cycles_text(greedy.prefill_cycles, greedy.host_cycles[0]),
            counted(further, "further token"),
            cycles_text(greedy.decode_cycles, greedy.host_cycles[1]),
            grouped(greedy.decode_cycles / further.max(1))
        ));
    }
    if let Some(other) = technique {
        text.push_str(&format!(
            "with the technique: {}, {:.2} blocks a token, {} accepted, {} of {count} tokens agree\n",
            cycles_text(other.decode_cycles, other.host_cycles[1]),
            other.layers,
            other.accepted,
            agreeing(&other.tokens, &greedy.tokens)
        ));
    }
    if let (Some(float), Some(cosine)) = (&comparison.float, comparison.cosine) {
        let agree = agreeing(float, &greedy.tokens);
        text.push_str(&format!(
            "cosine with the float32 logits after the prompt: {cosine:.5}; {agree} of {count} tokens are float32's\n"
        ));
    }
    text.push_str(match comparison.exact {
        Some(true) => "the tokens equal those of the integer reference\n",
        Some(false) => "the tokens differ from those of the integer reference\n",
        None => "nothing was computed\n",
    });
    if greedy.prefill.as_ref().is_some_and(|report| report.assumes_no_zero_divisor) {
        text.push_str(&format!("{}\n", Report::ASSUMPTION));
    }
    Ok(text)
}
