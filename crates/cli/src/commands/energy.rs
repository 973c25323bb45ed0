//! `pollux energy`

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use clap::{Args, Subcommand};
use pollux_energy::accelergy::{self, Import, Reference};
use pollux_energy::{EnergyTable, Node};
use serde_json::{Value, json};

use crate::arguments::configuration;
use crate::energy::{table, table_with_text};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::{Output, table as rows_as_text};
use crate::program_file;

const EXAMPLES: &str = "\
Examples:
  pollux energy tables
  pollux energy show aladdin45-ddr3 --config norm16
  pollux energy export horowitz45-lpddr4 --ert ert.yaml --art art.yaml
  pollux run programs/softmax.pasm --cycles --energy horowitz45-lpddr4";

const TABLES_EXAMPLES: &str = "\
Examples:
  pollux energy tables
  pollux energy tables --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  pollux energy show horowitz45-lpddr4
  pollux energy show horowitz45-lpddr4 -o mine.toml    a table to change
  pollux energy show mine.toml --config norm16         is it right, and what does it cost?";

const EXPORT_EXAMPLES: &str = "\
Examples:
  pollux energy export cacti22-lpddr4 --ert ert.yaml --art art.yaml
  pollux energy export mine.toml --config norm16 --ert -";

const IMPORT_EXAMPLES: &str = "\
Examples:
  pollux energy import ert.yaml --art art.yaml --node 45nm -o mine.toml
  pollux energy import timeloop-mapper.ERT.yaml --node 40nm --width DRAM=64 --width Scratchpad=128 --width Accumulator=32 -o mine.toml";

/// Energy tables: list, show, to and from Accelergy's reference tables.
///
/// A table has figures of energy and area, each with its unit, its technology node and its source. `pollux run --cycles`,
/// `pollux report` and `pollux model run` take one with --energy.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Tables(TablesArguments),
    Show(ShowArguments),
    Export(ExportArguments),
    Import(ImportArguments),
}

/// List the built-in tables.
#[derive(Args)]
#[command(after_help = TABLES_EXAMPLES)]
struct TablesArguments {}

/// Check a table, and show what each event costs on a configuration.
#[derive(Args)]
#[command(after_help = SHOW_EXAMPLES)]
struct ShowArguments {
    /// A built-in table or a file (`-`: standard input).
    #[arg(value_name = "NAME|FILE")]
    table: String,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// Write the table's file as well: a table of one's own begins with it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Write a table for a configuration as Accelergy's energy and area reference tables (YAML).
#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
struct ExportArguments {
    /// A built-in table or a file (`-`: standard input).
    #[arg(value_name = "NAME|FILE")]
    table: String,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default16")]
    config: String,
    /// File for the energies.
    #[arg(long, value_name = "FILE", required_unless_present = "art")]
    ert: Option<OutputPath>,
    /// File for the areas.
    #[arg(long, value_name = "FILE")]
    art: Option<OutputPath>,
}

/// Make a table of Accelergy's reference tables (YAML).
///
/// Components are known by the last part of their names: DRAM, Scratchpad, Accumulator, MACC (or mac), Registers, RowRegisters,
/// AccumulatorAdder, FloatMultiplier, MvinScaler, Normalizer, Readout, Control. DRAM, Scratchpad, Accumulator and MACC must be there.
#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct ImportArguments {
    /// Energy reference table (`-`: standard input).
    #[arg(value_name = "ERT")]
    ert: InputPath,
    /// Area reference table.
    #[arg(long, value_name = "ART")]
    art: Option<InputPath>,
    /// Technology node of its figures, such as 45nm: the file does not say it.
    #[arg(long, value_name = "NODE", value_parser = node)]
    node: Node,
    /// Name of the table; by default that of the file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Bits of an access of a memory, where the file does not say them.
    #[arg(long, value_name = "COMPONENT=BITS")]
    width: Vec<Width>,
    /// Component to leave out, by the last part of its name.
    #[arg(long, value_name = "COMPONENT")]
    ignore: Vec<String>,
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: OutputPath,
}

/// `COMPONENT=BITS`.
#[derive(Clone, Debug)]
struct Width(String, u32);

impl FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, bits)| Some(Self(name.to_owned(), bits.parse().ok()?)));
        let known =
            |Self(name, bits): &Self| *bits > 0 && ["DRAM", "Scratchpad", "Accumulator"].contains(&name.as_str());
        parts
            .filter(known)
            .ok_or_else(|| "it must be DRAM, Scratchpad or Accumulator = bits, such as DRAM=64".to_owned())
    }
}

fn node(text: &str) -> Result<Node, String> {
    let node = Node::parse(text).filter(|node| *node != Node::OffChip);
    node.ok_or_else(|| "it must be nanometres, such as 45nm".to_owned())
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Tables(TablesArguments {}) => tables(out),
        Command::Show(arguments) => show(arguments, out),
        Command::Export(arguments) => export(arguments, out),
        Command::Import(arguments) => import(arguments, out),
    }
}

fn tables(out: &Output) -> Result<Outcome, Failure> {
    let tables = EnergyTable::NAMES.map(|name| EnergyTable::by_name(name).map_err(Failure::input));
    let tables = tables.into_iter().collect::<Result<Vec<_>, _>>()?;
    out.json(&json!({ "tables": tables.iter().map(description).collect::<Vec<_>>() }))?;
    let mut rows = vec![["name", "node", "what"].map(str::to_owned).to_vec()];
    rows.extend(tables.iter().map(|table| vec![table.name.clone(), table.node.to_string(), table.title.clone()]));
    out.text(&rows_as_text(&rows))?;
    Ok(Outcome::Agrees)
}

fn description(table: &EnergyTable) -> Value {
    json!({
        "name": table.name, "title": table.title, "node": table.node, "mixed_nodes": table.mixed_nodes, "sources": table.sources,
    })
}

fn show(arguments: &ShowArguments, out: &Output) -> Result<Outcome, Failure> {
    let ((table, text), config) = (table_with_text(&arguments.table)?, configuration(&arguments.config)?);
    let prices = table.prices(&config).map_err(Failure::input)?;
    if let Some(path) = &arguments.output {
        out.write(path, text.as_bytes())?;
    }
    let mut document = description(&table);
    document["config"] = json!(config.name);
    document["actions"] = prices
        .prices
        .iter()
        .map(|price| {
            let action = price.action;
            json!({ "component": action.component, "action": action.name, "unit": action.unit, "pj": price.pj })
        })
        .collect();
    document["areas"] = json!(prices.areas);
    document["leakage_mw"] =
        prices.leakage_mw.iter().map(|(component, mw)| (component.name().to_owned(), json!(mw))).collect();
    out.json(&document)?;
    out.text(&prices.text())?;
    let sources = table.sources.iter().map(|(key, source)| format!("  {key}: {source}\n")).collect::<String>();
    out.text(&format!("\nsources:\n{sources}"))?;
    Ok(Outcome::Agrees)
}

fn export(arguments: &ExportArguments, out: &Output) -> Result<Outcome, Failure> {
    let (table, config) = (table(&arguments.table)?, configuration(&arguments.config)?);
    if let Some(path) = &arguments.ert {
        out.write(path, table.ert(&config).map_err(Failure::input)?.as_bytes())?;
    }
    if let Some(path) = &arguments.art {
        out.write(path, table.art(&config).map_err(Failure::input)?.as_bytes())?;
    }
    out.json(&json!({ "table": table.name, "node": table.node, "config": config.name, "ert": arguments.ert, "art": arguments.art }))?;
    Ok(Outcome::Agrees)
}

fn import(arguments: &ImportArguments, out: &Output) -> Result<Outcome, Failure> {
    let text = program_file::read_text(&arguments.ert)?;
    let read = |path: &InputPath| Ok::<_, Failure>((shown(path), program_file::read_text(path)?));
    let art = arguments.art.as_ref().map(read).transpose()?;
    let file = shown(&arguments.ert);
    let stem = arguments.ert.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let options = Import {
        name: arguments.name.clone().unwrap_or(stem),
        node: arguments.node,
        widths: widths(&arguments.width)?,
        ignore: arguments.ignore.clone(),
    };
    let art = art.as_ref().map(|(file, text)| Reference { file, text });
    let toml = accelergy::import(Reference { file: &file, text: &text }, art, &options).map_err(Failure::input)?;
    out.write(&arguments.output, toml.as_bytes())?;
    out.json(&json!({ "name": options.name, "node": options.node, "output": arguments.output }))?;
    out.text(&format!("{}: table {}, node {}\n", arguments.output.display(), options.name, options.node))?;
    Ok(Outcome::Agrees)
}

fn widths(given: &[Width]) -> Result<BTreeMap<String, u32>, Failure> {
    let mut widths = BTreeMap::new();
    for Width(name, bits) in given {
        if widths.insert(name.clone(), *bits).is_some() {
            return Err(Failure::Usage(format!("--width gives {name} twice: give it once")));
        }
    }
    Ok(widths)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
