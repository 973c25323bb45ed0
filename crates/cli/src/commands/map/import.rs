//! `pollux map import`

use std::path::Path;

use clap::Args;
use pollux_mapper::formats::{self, dosa, map_text, schedule, timeloop};
use pollux_mapper::{Mapping, Surroundings, emulate};
use pollux_sim::memory::MemoryModel;
use serde_json::json;

use super::{extension, nest_text, write_mapping};
use crate::arguments::{configuration, optional_configuration};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::{Output, counted, grouped, table};
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux map import example.yaml                            architecture, problem and mapping of Timeloop
  pollux map import mapping.yaml --problem problem.yaml -o schedule.toml
  pollux map import map.txt --problem problem.yaml -o mapping.yaml
  pollux map import mapping.dosa --problem problem.yaml
  pollux map import topology.csv                            layers of SCALE-Sim, each by Gemmini's own mapping";

/// Mappings, problems and architectures of other tools: what they are on this Gemmini, and their cycles.
///
/// The form follows from the file: `*.toml` is a schedule, `*.yaml` Timeloop's, `*.txt` its map.txt, `*.dosa` a DOSA string, `*.csv` a
/// topology of SCALE-Sim.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The file.
    #[arg(value_name = "FILE")]
    file: InputPath,
    /// The problem that a mapping is for (Timeloop's YAML), if the file does not have it.
    #[arg(long, value_name = "FILE")]
    problem: Option<InputPath>,
    /// Configuration: a name or a file; by default the file's architecture, or default16.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Memory behind the accelerator's port, as in `pollux run`.
    #[arg(long, value_name = "KIND", default_value = "bench")]
    memory: MemoryModel,
    /// File for the mapping: `*.toml`, `*.yaml`, `*.txt` or `*.dosa`.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let path: &Path = &arguments.file;
    let named = |error: formats::FormatError| Failure::Input(format!("{}: {error}", path.display()));
    let text = program_file::read_text(path)?;
    if extension(path) == "csv" {
        return import_topology(arguments, &text, out);
    }
    let mut document = match extension(path).as_str() {
        "yaml" | "yml" => timeloop::parse(&text).map_err(named)?,
        _ => timeloop::Document::default(),
    };
    if let Some(file) = &arguments.problem {
        if document.problem.is_some() {
            return Err(Failure::Usage(format!("{} has a problem itself: leave out --problem", path.display())));
        }
        let problem_text = program_file::read_text(file)?;
        let other = timeloop::parse(&problem_text).map_err(|e| Failure::Input(format!("{}: {e}", file.display())))?;
        document.problem = other.problem;
        document.config = document.config.or(other.config);
    }
    let problem = document.problem.ok_or_else(|| {
        Failure::Input(format!("{}: no problem: give its sizes with --problem FILE (Timeloop's YAML)", path.display()))
    })?;
    let config = match optional_configuration(arguments.config.as_ref())? {
        Some(config) => config,
        None => document.config.map_or_else(|| configuration("default16"), Ok)?,
    };
    let (mapping, remarks) = match extension(path).as_str() {
        "toml" => (schedule::parse(&text).map_err(named)?, Vec::new()),
        "txt" => map_text::parse(&text).map_err(named)?.mapping(&config, &problem).map_err(named)?,
        "yaml" | "yml" => match &document.nest {
            Some(nest) => nest.mapping(&config, &problem).map_err(named)?,
            None => (Mapping::gemmini(&config, &problem), vec!["no mapping in the file: Gemmini's own".to_owned()]),
        },
        "dosa" => dosa::parse(&text).map_err(named)?.mapping(&config, &problem).map_err(named)?,
        other => {
            return Err(Failure::Input(format!(
                "{}: `{other}` is no form of a mapping: expected .toml, .yaml, .txt, .dosa or .csv",
                path.display()
            )));
        }
    };
    mapping.check(&config, &problem).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let run =
        |mapping: &Mapping| emulate::cycles(&config, &problem, mapping, &around, u64::MAX).map_err(Failure::input);
    let cycles = progress::during(out, "running", || run(&mapping))?;
    let own = Mapping::gemmini(&config, &problem);
    let default_cycles = match own.check(&config, &problem) {
        Ok(()) => Some(progress::during(out, "running", || run(&own))?),
        Err(_) => None,
    };
    if let Some(path) = &arguments.output {
        write_mapping(path, &config, &problem, &mapping, out)?;
    }
    remarks.iter().for_each(|remark| out.note(&format!("note: {remark}")));
    out.json(&json!({
        "problem": problem, "config": config.name, "memory": around.memory, "cycles": cycles, "default_cycles": default_cycles,
        "schedule": mapping, "remarks": remarks,
    }))?;
    let default = default_cycles.map_or("does not fit".to_owned(), |cycles| counted(cycles, "cycle"));
    out.text(&format!(
        "{problem} on {}, memory {}\n\n{}\n{}; Gemmini's own rule: {default}\n",
        config.name,
        around.memory,
        nest_text(&config, &problem, &mapping),
        counted(cycles, "cycle"),
    ))?;
    Ok(Outcome::Agrees)
}

/// Layers of a topology, each by Gemmini's own mapping.
fn import_topology(arguments: &Arguments, text: &str, out: &Output) -> Result<Outcome, Failure> {
    let path: &Path = &arguments.file;
    if arguments.output.is_some() || arguments.problem.is_some() {
        return Err(Failure::Usage(
            "a topology has problems and no mapping: leave out --problem and --output".to_owned(),
        ));
    }
    let layers = formats::scale_sim::parse(text).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
    let config = optional_configuration(arguments.config.as_ref())?.map_or_else(|| configuration("default16"), Ok)?;
    let around = Surroundings { memory: arguments.memory, interval: 1 };
    let bar = progress::bar(out, layers.len() as u64, "layers");
    let (mut rows, mut documents) =
        (vec![["layer", "operation", "ideal", "cycles"].map(str::to_owned).to_vec()], Vec::new());
    for (name, problem) in &layers {
        let at = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {name}: {error}", path.display()));
        let mapping = Mapping::gemmini(&config, problem);
        mapping.check(&config, problem).map_err(|error| at(&error))?;
        let cycles = emulate::cycles(&config, problem, &mapping, &around, u64::MAX).map_err(|error| at(&error))?;
        let ideal = problem.macs().div_ceil(u64::from(config.dim()).pow(2));
        rows.push(vec![name.clone(), problem.to_string(), grouped(ideal), grouped(cycles)]);
        documents.push(json!({ "name": name, "problem": problem, "cycles": cycles, "schedule": mapping }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.json(&json!({ "config": config.name, "memory": around.memory, "layers": documents }))?;
    out.text(&table(&rows))?;
    Ok(Outcome::Agrees)
}
