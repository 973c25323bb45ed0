//! `pollux dis`

use pollux_asm::disassemble;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::Output;
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux dis matmul.pbin
  pollux dis matmul.pbin -o matmul.pasm
  pollux dis programs/softmax.pasm | less        loops and macros expanded";

/// Disassemble a program.
///
/// The text assembles to the same program.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Binary or assembly text (`-`: standard input).
    input: InputPath,
    /// File to write; by default the text is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
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
