//! `pollux config`

use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};
use serde_json::{Map, Value, json};

use crate::arguments::{checked, configuration_file};
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
/// A TOML file has all fields, or `base = "NAME"` and those that differ. A configuration without a name gets one from its
/// file and its digest. What is valid here is valid for every command and both models.
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
    let file = configuration_file(&arguments.config)?;
    let config = checked(&arguments.config, file.clone())?;
    let warnings = warnings(&config);
    if arguments.check {
        out.json(&json!({ "name": config.name, "valid": true, "warnings": warnings }))?;
        out.text(&format!("{}: valid\n", config.name))?;
        warnings.iter().try_for_each(|warning| out.text(&format!("  warning: {warning}\n")))?;
        return Ok(Outcome::Agrees);
    }
    let toml = config.to_toml_string().map_err(Failure::input)?;
    if let Some(path) = &arguments.output {
        out.write(path, toml.as_bytes())?;
    } else {
        out.text(&toml)?;
        out.text(&remarks(&config, &warnings, file.as_ref()))?;
    }
    let mut document = config_json(&config)?;
    if let (Some(file), Some(fields)) = (&file, document.as_object_mut()) {
        fields.insert("read".into(), json!(file.fields_read()));
        fields.insert("assumed".into(), json!(file.fields_assumed()));
    }
    out.json(&document)?;
    Ok(Outcome::Agrees)
}

fn warnings(config: &ValidConfig) -> Vec<String> {
    config.warnings().iter().map(ToString::to_string).collect()
}

/// What follows from the fields, which of them the file gives, and what to know of the configuration, as remarks.
fn remarks(config: &GemminiConfig, warnings: &[String], file: Option<&ConfigFile>) -> String {
    let derived = derived(config).into_iter().map(|(name, value)| format!("# {name} = {value}\n"));
    let mut text = format!("\n# Derived:\n{}", derived.collect::<String>());
    if let Some(file) = file {
        text += &format!("\n# Read from the file: {}\n", list_or(file.fields_read(), "nothing"));
        text += &format!("# Assumed: {}\n", list_or(&file.fields_assumed(), "nothing"));
    }
    if !warnings.is_empty() {
        text += &format!("\n# Warnings:\n{}", warnings.iter().map(|w| format!("# {w}\n")).collect::<String>());
    }
    text
}

fn list_or(names: &[&str], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
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

fn config_json(config: &ValidConfig) -> Result<Value, Failure> {
    let derived: Map<String, Value> =
        derived(config).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let fields = serde_json::to_value(&**config).map_err(Failure::input)?;
    Ok(json!({ "name": config.name, "fields": fields, "derived": derived, "warnings": warnings(config) }))
}

fn list(out: &Output) -> Result<Outcome, Failure> {
    let named = GemminiConfig::NAMES.iter().map(|name| GemminiConfig::by_name(name).map_err(Failure::input));
    let named: Vec<ValidConfig> = named.collect::<Result<_, _>>()?;
    let documents = named.iter().map(config_json).collect::<Result<Vec<_>, _>>()?;
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
    out.text("\ndim4, dim8, ... dim64: default16 with another array size\n")?;
    Ok(Outcome::Agrees)
}
