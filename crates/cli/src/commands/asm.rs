//! `pollux asm`

use serde_json::json;

use crate::arguments::optional_configuration;
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath, STANDARD_STREAM, is_same};
use crate::output::{Output, counted};
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux asm programs/softmax.pasm         writes programs/softmax.pbin
  pollux asm matmul.pasm -o matmul.pbin
  pollux asm stream.pasm --config small4   a text without a `config` line";

/// Assemble a program.
///
/// The binary holds the configuration, the memory, the symbols and the command stream. All errors of the text are
/// shown at once, with their places.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Assembly text (`-`: standard input).
    input: InputPath,
    /// Binary to write (`-`: standard output); by default the input's name with `.pbin`. A name with `.pasm` gets the
    /// expanded text.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
    /// Configuration of a text that names none: a name or a file.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let output = match &arguments.output {
        Some(output) => output.to_path_buf(),
        None if arguments.input.as_os_str() == STANDARD_STREAM => {
            return Err(Failure::Usage("the standard input has no name: give the output with -o FILE".into()));
        }
        None => arguments.input.with_extension("pbin"),
    };
    if is_same(&output, &arguments.input) {
        let name = output.display();
        return Err(Failure::Usage(format!("`{name}` would replace the input: give the output with -o FILE")));
    }
    let config = optional_configuration(arguments.config.as_ref())?;
    let program = progress::during(out, "assembling", || program_file::load(&arguments.input, config.as_ref()))?;
    let bytes = program_file::save(&output, &program, out)?;
    let commands = program.commands().count() as u64;
    let buffers = program.buffers.len() as u64;
    out.json(&json!({
        "output": output, "config": program.config.name, "commands": commands, "buffers": buffers, "bytes": bytes,
    }))?;
    out.text(&format!(
        "{}: {} for {}, {}, {}\n",
        output.display(),
        counted(commands, "command"),
        program.config.name,
        counted(buffers, "buffer"),
        counted(bytes as u64, "byte"),
    ))?;
    Ok(Outcome::Agrees)
}
