//! What each layer of a space of small networks costs on the survey's accelerator: the table that `pollux-train search` looks up.
//!
//! ```text
//! cargo run --release -p pollux-survey --example layer_costs -- train/recipes/brown.toml > train/recipes/brown-costs.toml
//! ```

use std::process::ExitCode;

use pollux_survey::bench::{Bench, ENERGY_TABLES, millijoules, prices, sized};
use pollux_survey::layer::{Layer, Norms};
use pollux_survey::setting::StudyError;
use serde::Deserialize;

/// Columns of a head.
const HEAD: usize = 16;

/// What is needed of a recipe.
#[derive(Deserialize)]
struct Recipe {
    context: usize,
    space: Space,
    search: Search,
}

#[derive(Deserialize)]
struct Space {
    width: Vec<usize>,
    heads: Vec<usize>,
    ffn: Vec<usize>,
}

#[derive(Deserialize)]
struct Search {
    /// Bytes a cycle of the memory.
    bytes: u64,
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("error: which recipe (TOML)?");
        return ExitCode::from(2);
    };
    let table = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
        let recipe: Recipe = toml::from_str(&text).map_err(|error| error.to_string())?;
        costs(&recipe).map_err(|error| error.to_string())
    });
    match table {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One entry for each layer, the sum of its operations as in the study of the paper's networks.
fn costs(recipe: &Recipe) -> Result<String, StudyError> {
    let config = sized(64, 256)?;
    let memory = format!("bandwidth:latency=100,bytes={}", recipe.search.bytes);
    let memory_model = memory.parse().map_err(|error| StudyError::Setting(format!("{error}")))?;
    let prices = prices(&config)?;
    let mut bench = Bench::new(&config, memory_model);
    let mut table = format!(
        "# Cycles and mJ of a layer at {} tokens: {}, memory {memory}, {}.\n",
        recipe.context, config.name, ENERGY_TABLES[0]
    );
    for &hidden in &recipe.space.width {
        for &heads in recipe.space.heads.iter().filter(|heads| *heads * HEAD <= hidden) {
            for &ffn in &recipe.space.ffn {
                let layer = Layer { tokens: recipe.context, hidden, ffn, heads: vec![HEAD; heads] };
                let works: Vec<_> = layer.steps(Norms::Fused).iter().map(|step| (step.work, step.times)).collect();
                let sum = bench.sum(&works)?;
                let energy = millijoules(&prices[0], &sum);
                table += &format!(
                    "\n[[layers]]\nwidth = {hidden}\nheads = {heads}\nffn = {ffn}\ncycles = {}\nmillijoules = {energy:.6}\n",
                    sum.cycles
                );
            }
        }
    }
    Ok(table)
}
