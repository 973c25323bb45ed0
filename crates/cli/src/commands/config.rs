//! `pollux config`

use pollux_isa::{GemminiConfig, ValidConfig};
use serde_json::{Map, Value, json};

use crate::arguments::configuration;
use crate::failure::{Failure, Outcome};
use crate::files::OutputPath;
use crate::output::{Output, grouped, table};

const EXAMPLES: &str = "\
Examples:
  pollux config                             the default configuration, as TOML
  pollux config --list                      the named ones
  pollux config gemmini_params.h -o my.toml from a header of gemmini-rocc-tests
  pollux config my.toml --check             is it possible hardware?";

/// Show and check configurations.
///
/// A TOML file has all fields, or `base = \"NAME\"` and those that differ.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A named configuration, a TOML file or a gemmini_params.h (`-`: standard input).
    #[arg(value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// Only say whether it is valid; the reasons if not.
    #[arg(long, conflicts_with = "output")]
    check: bool,
    /// List the named configurations.
    #[arg(long, conflicts_with_all = ["config", "check", "output"])]
    list: bool,
    /// Write the configuration as TOML to a file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.list {
        return list(out);
    }
    let config = configuration(&arguments.config)?;
    if arguments.check {
        out.json(&json!({ "name": config.name, "valid": true }))?;
        out.text(&format!("{}: valid\n", config.name))?;
        return Ok(Outcome::Agrees);
    }
    let toml = config.to_toml_string().map_err(Failure::input)?;
    if let Some(path) = &arguments.output {
        out.write(path, toml.as_bytes())?;
    } else {
        let remarks = derived(&config).into_iter().map(|(name, value)| format!("# {name} = {value}\n"));
        out.text(&format!("{toml}\n# Derived:\n{}", remarks.collect::<String>()))?;
    }
    out.json(&config_json(&config)?)?;
    Ok(Outcome::Agrees)
}

/// The most used numbers that follow from a configuration.
fn derived(config: &GemminiConfig) -> Vec<(&'static str, Value)> {
    vec![
        ("DIM", config.dim().into()),
        ("scratchpad_rows", config.sp_rows().into()),
        ("scratchpad_row_bytes", config.sp_row_bytes().into()),
        ("accumulator_rows", config.acc_rows().into()),
        ("accumulator_row_bytes", config.acc_row_bytes().into()),
        ("max_block_len", config.max_block_len().into()),
        ("max_block_len_acc", config.max_block_len_acc().into()),
        ("station_entries", config.reservation_station_entries().into()),
        ("digest", format!("{:#018x}", config.digest()).into()),
    ]
}

fn config_json(config: &GemminiConfig) -> Result<Value, Failure> {
    let derived: Map<String, Value> =
        derived(config).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let fields = serde_json::to_value(config).map_err(Failure::input)?;
    Ok(json!({ "name": config.name, "fields": fields, "derived": derived }))
}

fn list(out: &Output) -> Result<Outcome, Failure> {
    let named = GemminiConfig::NAMES.iter().map(|name| GemminiConfig::by_name(name).map_err(Failure::input));
    let named: Vec<ValidConfig> = named.collect::<Result<_, _>>()?;
    let documents = named.iter().map(|config| config_json(config)).collect::<Result<Vec<_>, _>>()?;
    out.json(&json!({ "configurations": documents }))?;
    let mut rows =
        vec![["name", "DIM", "scratchpad KiB", "accumulator KiB", "normalizations"].map(str::to_owned).to_vec()];
    for config in &named {
        let kib = |rows: u32, bytes: u32| grouped(u64::from(rows) * u64::from(bytes) / 1024);
        rows.push(vec![
            config.name.clone(),
            config.dim().to_string(),
            kib(config.sp_rows(), config.sp_row_bytes()),
            kib(config.acc_rows(), config.acc_row_bytes()),
            if config.has_normalizations { "yes" } else { "no" }.to_owned(),
        ]);
    }
    out.text(&table(&rows))?;
    out.text("\ndim2, dim4, ... dim64: default16 with another array size\n")?;
    Ok(Outcome::Agrees)
}
