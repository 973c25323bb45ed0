//! `pollux isa`

use pollux_isa::table::{self, FieldKind, FieldSpec, INSTRUCTIONS, InstructionSpec, Requirement};
use pollux_isa::{GemminiConfig, c_header, manual};
use serde_json::{Value, json};

use crate::arguments::configuration;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, table};

const EXAMPLES: &str = "\
Examples:
  pollux isa                          all instructions
  pollux isa mvin                     operands, bits and limits of one
  pollux isa compute_preloaded --config small4
  pollux isa --markdown               the book's chapter
  pollux isa --header > gemmini.h     the instructions as C functions";

const DEFAULT_CONFIG: &str = "default16";

/// Explain the instruction set.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Instruction; by default all are listed.
    mnemonic: Option<String>,
    /// Configuration whose widths and limits are shown: a name or a file; default16 by default.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Print the book's chapter on the instruction set.
    #[arg(long, conflicts_with = "mnemonic")]
    markdown: bool,
    /// Print a C header with a typed function for every instruction.
    #[arg(long, conflicts_with_all = ["mnemonic", "markdown", "config"])]
    header: bool,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    if arguments.header {
        let header = c_header::header();
        out.json(&json!({ "header": header }))?;
        out.text(&header)?;
        return Ok(Outcome::Agrees);
    }
    if arguments.config.is_some() && arguments.mnemonic.is_none() && !arguments.markdown && !out.is_json() {
        return Err(Failure::Usage(
            "the list of instructions is the same for every configuration: give --config with a mnemonic, --markdown or \
             --json"
                .to_owned(),
        ));
    }
    let config = configuration(arguments.config.as_deref().unwrap_or(DEFAULT_CONFIG))?;
    if arguments.markdown {
        let chapter = manual::chapter(&config);
        out.json(&json!({ "config": config.name, "markdown": chapter }))?;
        out.text(&chapter)?;
        return Ok(Outcome::Agrees);
    }
    match &arguments.mnemonic {
        None => {
            let instructions: Vec<Value> = INSTRUCTIONS.iter().map(|spec| instruction_json(&config, spec)).collect();
            out.json(&json!({ "config": config.name, "instructions": instructions }))?;
            out.text(&list())?;
        }
        Some(mnemonic) => {
            let spec = table::by_mnemonic(mnemonic).ok_or_else(|| unknown(mnemonic))?;
            out.json(&instruction_json(&config, spec))?;
            out.text(&describe(&config, spec))?;
        }
    }
    Ok(Outcome::Agrees)
}

fn unknown(mnemonic: &str) -> Failure {
    let known: Vec<&str> = INSTRUCTIONS.iter().map(|spec| spec.mnemonic).collect();
    Failure::Input(format!("no instruction is called `{mnemonic}`; there are {}", known.join(", ")))
}

fn list() -> String {
    let width = INSTRUCTIONS.iter().map(|spec| spec.mnemonic.len()).max().unwrap_or(0);
    INSTRUCTIONS
        .iter()
        .map(|spec| format!("{:width$}  {:>6}  {}\n", spec.mnemonic, funct(spec), spec.meaning))
        .collect()
}

/// The function number, and the low bits of rs1 where they choose the instruction.
fn funct(spec: &InstructionSpec) -> String {
    spec.subtype.map_or_else(|| spec.funct.to_string(), |subtype| format!("{}.{subtype}", spec.funct))
}

fn describe(config: &GemminiConfig, spec: &InstructionSpec) -> String {
    let mut out = format!("{}: {}\n", spec.mnemonic, spec.meaning);
    out.push_str(&format!(
        "funct {}, Gemmini's {}, executed by: {} ({})\n",
        spec.funct,
        spec.gemmini_name,
        spec.class.name(),
        spec.source
    ));
    if let Some(subtype) = spec.subtype {
        out.push_str(&format!("rs1[1:0] = {subtype}\n"));
    }
    if spec.requires != Requirement::None {
        out.push_str(&format!("needs {}\n", spec.requires.condition()));
    }
    if spec.fields.is_empty() {
        out.push_str("no operands\n");
        return out;
    }
    let heading = ["operand", "bits", "values", "default"].map(str::to_owned).to_vec();
    let rows = spec
        .fields
        .iter()
        .map(|field| vec![field.name.to_owned(), bits(field), values(config, field), default(config, field)]);
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    out.push_str(&format!("\n{}\n", table(&rows)));
    let width = spec.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for field in spec.fields {
        out.push_str(&format!("{:width$}  {}\n", field.name, field.meaning));
    }
    out
}

fn bits(field: &FieldSpec) -> String {
    match field.width {
        1 => format!("{}[{}]", field.register.name(), field.lsb),
        _ => format!("{}[{}:{}]", field.register.name(), field.msb(), field.lsb),
    }
}

fn values(config: &GemminiConfig, field: &FieldSpec) -> String {
    match field.kind {
        FieldKind::Flag => "flag".to_owned(),
        FieldKind::Float32 => "float32".to_owned(),
        FieldKind::LocalAddress => "local address".to_owned(),
        FieldKind::DramAddress => "byte address".to_owned(),
        FieldKind::Signed => "int32".to_owned(),
        FieldKind::Named(names) => names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        FieldKind::Unsigned => field.allowed(config).to_string(),
    }
}

fn default(config: &GemminiConfig, field: &FieldSpec) -> String {
    match (field.default_value(config), field.kind) {
        (None, _) => "required".to_owned(),
        (Some(bits), FieldKind::Float32) => format!("{:?}", f32::from_bits(bits as u32)),
        (Some(_), FieldKind::LocalAddress) => "garbage".to_owned(),
        (Some(bits), _) => field.name_of(bits).map_or_else(|| bits.to_string(), str::to_owned),
    }
}

fn instruction_json(config: &GemminiConfig, spec: &InstructionSpec) -> Value {
    let operands: Vec<Value> = spec
        .fields
        .iter()
        .map(|field| {
            json!({
                "name": field.name, "register": field.register.name(), "msb": field.msb(), "lsb": field.lsb,
                "kept_bits": field.kept_bits(config), "values": values(config, field),
                "default": default(config, field), "meaning": field.meaning,
            })
        })
        .collect();
    json!({
        "mnemonic": spec.mnemonic, "funct": spec.funct, "subtype": spec.subtype, "gemmini_name": spec.gemmini_name,
        "executed_by": spec.class.name(), "needs": spec.requires.condition(), "meaning": spec.meaning,
        "source": spec.source, "operands": operands,
    })
}
