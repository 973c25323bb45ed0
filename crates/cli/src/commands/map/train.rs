//! `pollux map train`: what the analytical model leaves over, learned from the emulator.

use std::path::Path;

use clap::Args;
use pollux_kernels::ConvShape;
use pollux_mapper::evaluate;
use pollux_mapper::model::residual::{Lesson, Residual};
use pollux_mapper::{Limits, Problem, Surroundings};
use pollux_sim::memory::MemoryModel;
use serde_json::json;

use super::evaluate::LONGEST_RUN;
use super::jobs;
use crate::arguments::configuration;
use crate::failure::{Failure, Outcome};
use crate::files::OutputPath;
use crate::output::{Output, counted};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux map train -o learned.json
  pollux map train --samples 200 --config survey_rebalanced --memory bandwidth:bytes=8 -o learned.json
  pollux map evaluate --learned learned.json";

/// Learn what the analytical model leaves over: boosted regression trees, trained on runs of the emulator.
///
/// The operations that are trained on are none of those that `pollux map evaluate` tries. The file names its training set.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Mappings of each operation, drawn uniformly.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = values::count::<u32>())]
    samples: u32,
    /// Configuration: a name or a file. May be given several times.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: Vec<String>,
    /// Memory behind the accelerator's port, as in `pollux run`. May be given several times.
    #[arg(long, value_name = "KIND", default_values = ["bench", "bandwidth:bytes=8"])]
    memory: Vec<MemoryModel>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of the emulator at the same time; by default one a core. The model does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
    /// File for the model (JSON).
    #[arg(short, long, value_name = "FILE")]
    output: OutputPath,
}

/// What the model learns from: none of the operations that it is tried on.
fn problems() -> Vec<Problem> {
    let conv = |batch, size, channels, out, kernel: usize, stride| {
        let shape = ConvShape::new(batch, [size, size, channels], out, kernel);
        Problem::conv(ConvShape { stride, padding: kernel as isize / 2, ..shape })
    };
    let products = [
        (128, 128, 128),
        (64, 256, 192),
        (176, 64, 240),
        (96, 96, 512),
        (224, 160, 64),
        (40, 400, 144),
        (112, 180, 300),
        (288, 80, 128),
        (30, 512, 256),
        (160, 224, 96),
    ];
    let convolutions = [
        conv(1, 14, 64, 64, 3, 1),
        conv(1, 18, 32, 96, 3, 1),
        conv(1, 28, 32, 48, 3, 2),
        conv(2, 12, 48, 64, 3, 1),
        conv(1, 20, 64, 96, 1, 1),
        conv(2, 14, 80, 48, 1, 1),
        conv(1, 32, 3, 32, 5, 2),
        conv(1, 36, 3, 16, 3, 1),
        conv(1, 22, 16, 64, 5, 1),
        conv(1, 12, 112, 80, 3, 1),
    ];
    products.map(|(m, n, k)| Problem::matmul(m, n, k)).into_iter().chain(convolutions).collect()
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let problems = problems();
    let configs = arguments.config.iter().map(|name| configuration(name)).collect::<Result<Vec<_>, _>>()?;
    let runs = problems.len() as u64 * u64::from(arguments.samples) * (configs.len() * arguments.memory.len()) as u64;
    let bar = progress::bar(out, runs, "runs");
    let how = (arguments.samples as usize, LONGEST_RUN, arguments.seed, jobs(arguments.jobs));
    let mut lessons = Vec::new();
    for config in &configs {
        for memory in &arguments.memory {
            let around = Surroundings { memory: *memory, interval: 1 };
            let samples = evaluate::samples(config, &problems, &around, &Limits::default(), how, &|runs| bar.inc(runs));
            let (samples, _) = samples.map_err(Failure::input)?;
            lessons.push(Lesson { config, around, problems: &problems, samples });
        }
    }
    bar.finish_and_clear();
    let model = progress::during(out, "training", || Residual::train(&lessons)).map_err(Failure::input)?;
    out.write(&arguments.output, model.text().as_bytes())?;
    let training = &model.training;
    out.json(&json!({ "training": training }))?;
    let [products, convolutions] = training.samples.map(|runs| counted(runs as u64, "run"));
    out.text(&format!(
        "{}: {products} of products and {convolutions} of convolutions, sha256 {}\n",
        arguments.output.display(),
        training.sha256
    ))?;
    Ok(Outcome::Agrees)
}

/// A learned model from a file, which must not have been trained on any of these operations.
pub fn read(path: &Path, tried: &[Problem]) -> Result<Residual, Failure> {
    let named = |what: String| Failure::Input(format!("{}: {what}", path.display()));
    let model = Residual::parse(&program_file::read_text(path)?).map_err(|error| named(error.to_string()))?;
    match model.training.problems.iter().find(|problem| tried.contains(problem)) {
        Some(problem) => {
            Err(named(format!("it was trained on {problem}, which it would be tried on: train on others")))
        }
        None => Ok(model),
    }
}
