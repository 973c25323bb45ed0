//! `pollux model perplexity`

use clap::Args;
use pollux_compiler::graph::llama;
use serde_json::json;

use super::llama::{FormatArguments, quantise, read};
use super::{QuantisationArguments, failure, graph, name};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath};
use crate::options::{Given, Subject};
use crate::output::{Output, grouped};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux model perplexity SmolLM2-135M-Instruct.Q4_1.gguf article.txt
  pollux model perplexity SmolLM2-135M-Instruct.Q4_1.gguf article.txt --window 256 --windows 4 --channels-per-scale 1";

/// How well a decoder predicts a text in INT8, beside float32.
///
/// The text is cut into windows; each token is predicted from those before it in its window. INT8 is the integer reference,
/// which the functional model and the cycle emulator equal.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// Decoder as a GGUF file.
    #[arg(value_name = "MODEL")]
    model: NamedPath,
    /// The text, UTF-8.
    #[arg(value_name = "TEXT")]
    text: InputPath,
    #[command(flatten)]
    quantisation: QuantisationArguments,
    #[command(flatten)]
    formats: FormatArguments,
    /// Tokens of a window, 2 or more.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=65536))]
    window: u32,
    /// Windows, from the beginning of the text, 1 or more.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = values::count::<usize>())]
    windows: usize,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let path = &arguments.model;
    let subject = graph::subject(path);
    subject.check(&path.display().to_string(), &arguments.given)?;
    if subject != Subject::GgufFile {
        return Err(Failure::Usage(format!("{}: perplexity is measured of GGUF files", path.display())));
    }
    let mut float = read(path, out)?;
    let window = arguments.window as usize;
    if window > float.config.context {
        let limit = float.config.context;
        return Err(Failure::Usage(format!("--window {window}: the model's context is {limit}: give at most that")));
    }
    let text = program_file::read_text(&arguments.text)?;
    let ids = float.vocabulary.tokenize(&text).map_err(Failure::input)?;
    let pieces: Vec<Vec<u32>> = ids.chunks_exact(window).take(arguments.windows).map(<[u32]>::to_vec).collect();
    if pieces.is_empty() {
        let tokens = ids.len();
        return Err(Failure::Input(format!(
            "the text has {tokens} tokens, less than a window: give a smaller --window"
        )));
    }
    let int8 = quantise(&mut float, &arguments.quantisation, &arguments.formats, window, out)?;
    let bar = progress::bar(out, pieces.len() as u64, "windows");
    let result = llama::perplexity(&mut float, &int8, &pieces, &mut |window| bar.set_position(window as u64));
    bar.finish_and_clear();
    let result = result.map_err(failure)?;
    out.json(&json!({ "model": name(path), "window": window, "windows": pieces.len(), "perplexity": result }))?;
    out.text(&format!(
        "perplexity of {} tokens: float32 {:.3}, INT8 {:.3}\nthe likeliest word is the same at {:.1} % of them; mean cosine of the \
         logits {:.5}\n",
        grouped(result.tokens as u64),
        result.float,
        result.int8,
        100.0 * result.agreement,
        result.cosine
    ))?;
    Ok(Outcome::Agrees)
}
