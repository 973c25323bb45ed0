//! `pollux model embed`

use clap::Args;
use pollux_compiler::CompileError;
use pollux_compiler::pipeline::AnyModel;
use pollux_model::calibrate::RangeMethod;
use pollux_model::quality::cosine;
use serde_json::{Value, json};

use super::{QuantisationArguments, TechniqueArguments, failure, graph, name};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, NamedPath};
use crate::options::{Given, Subject};
use crate::output::{Output, counted};
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux model embed all-MiniLM-L6-v2 sentences.txt --json
  pollux model embed all-MiniLM-L6-v2 sentences.txt --range percentile=99.9 --outlier-channels 0
  pollux model embed minilm.safetensors sentences.txt --reference all-MiniLM-L6-v2";

/// Embeddings of many texts in INT8 and in float32, for measures of accuracy.
///
/// INT8 is the integer reference, which the functional model and the cycle emulator equal.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// Model directory of the BERT family, or the file that `pollux model quantize` writes.
    #[arg(value_name = "MODEL")]
    model: NamedPath,
    /// The texts, one a line (`-`: standard input).
    #[arg(value_name = "TEXTS")]
    texts: InputPath,
    #[command(flatten)]
    quantisation: QuantisationArguments,
    /// Range of activations: min-max, mse, or percentile=P with P in percent; min-max by default.
    #[arg(long, value_name = "METHOD")]
    range: Option<RangeMethod>,
    #[command(flatten)]
    techniques: TechniqueArguments,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let path = &arguments.model;
    let subject = graph::subject(path);
    subject.check(&path.display().to_string(), &arguments.given)?;
    let encoders = || Failure::Usage(format!("{}: embeddings are those of models of the BERT family", path.display()));
    if !matches!(subject, Subject::TransformerDirectory | Subject::TransformerFile) {
        return Err(encoders());
    }
    let texts = program_file::read_text(&arguments.texts)?;
    let texts: Vec<&str> = texts.lines().filter(|line| !line.trim().is_empty()).collect();
    if texts.is_empty() {
        return Err(Failure::Input(format!("{}: it has no texts: give one a line", arguments.texts.display())));
    }
    let AnyModel::Encoder(model) = arguments.quantisation.load(path, arguments.range, out)? else {
        return Err(encoders());
    };
    let bar = progress::bar(out, texts.len() as u64, "texts");
    let changed = model.changed(&arguments.techniques.value()).map_err(failure)?;
    let embed = |text: &&str| -> Result<(Vec<f32>, Option<Vec<f32>>), CompileError> {
        let (int8, float) = (model.embed_changed(&changed, text)?, model.float.as_ref());
        let float = float.map(|float| float.embed(text)).transpose()?;
        bar.inc(1);
        Ok((int8, float))
    };
    let embeddings = texts.iter().map(embed).collect::<Result<Vec<_>, CompileError>>().map_err(failure)?;
    bar.finish_and_clear();
    let cosine = |(int8, float): &(Vec<f32>, Option<Vec<f32>>)| float.as_ref().map(|float| cosine(int8, float));
    let cosines: Vec<f64> = embeddings.iter().filter_map(cosine).collect();
    let list = texts.iter().zip(&embeddings);
    let list: Vec<Value> =
        list.map(|(text, (int8, float))| json!({ "text": text, "int8": int8, "float32": float })).collect();
    let mean = (!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64);
    let least = cosines.iter().copied().reduce(f64::min);
    out.json(&json!({ "model": name(path), "cosine": { "mean": mean, "least": least }, "texts": list }))?;
    let compared = match mean.zip(least) {
        Some((mean, least)) => format!("cosine with float32: mean {mean:.5}, least {least:.5}"),
        None => "there is no float32 model to compare them with: give --reference".to_owned(),
    };
    out.text(&format!("{}; {compared}\n", counted(texts.len() as u64, "text")))?;
    Ok(Outcome::Agrees)
}
