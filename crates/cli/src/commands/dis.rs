//! `pollux dis`

use pollux_asm::disassemble;
use serde_json::json;

use crate::arguments::optional_configuration;
use crate::elf;
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::options::Given;
use crate::output::Output;
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux dis matmul.pbin
  pollux dis matmul.pbin -o matmul.pasm
  pollux dis programs/softmax.pasm | less        loops and macros expanded
  pollux dis programs/riscv/matmul.elf                    all code, Gemmini's instructions by their names
  pollux dis programs/riscv/matmul.elf --executed         the commands of a run, with their operands";

/// Disassemble a program.
///
/// The text assembles to the same program. Of an ELF file it is a listing of its code, in which Gemmini's instructions
/// have their own names; their operands are in registers, so their values are known only in a run (--executed).
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// ELF file, binary or assembly text (`-`: standard input, without ELF).
    input: InputPath,
    /// Run an ELF file, and show the commands that it sends to Gemmini with their addresses and operands instead.
    #[arg(long)]
    executed: bool,
    /// Configuration of an ELF file: a name, or a file (TOML, or a gemmini_params.h). By default default16.
    #[arg(long, value_name = "NAME|FILE", visible_alias = "params")]
    config: Option<String>,
    /// File to write; by default the text is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    if let Some(program) = elf::open(&arguments.input)? {
        let config = optional_configuration(arguments.config.as_ref())?;
        let listing = elf::listing::Listing { program: &program, path: &arguments.input, config };
        return listing.write(arguments.executed, arguments.output.as_deref(), out);
    }
    arguments
        .given
        .refuse(&["executed", "config"], "only an ELF file is listed with it; other programs have all of it")?;
    let program = progress::during(out, "reading", || program_file::load(&arguments.input, None))?;
    let text = progress::during(out, "disassembling", || disassemble(&program));
    match &arguments.output {
        Some(path) => out.write(path, text.as_bytes())?,
        None => out.text(&text)?,
    }
    out.json(&json!({
        "config": program.config.name,
        "commands": program.commands().count(),
        "output": arguments.output,
        "text": arguments.output.is_none().then_some(&text),
    }))?;
    Ok(Outcome::Agrees)
}
