//! `pollux completions`

use clap::{CommandFactory, ValueHint};
use clap_complete::Shell;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  pollux completions bash > ~/.local/share/bash-completion/completions/pollux
  pollux completions zsh > ~/.zfunc/_pollux                       with ~/.zfunc in $fpath
  pollux completions fish > ~/.config/fish/completions/pollux.fish";

/// Value names of arguments that are files or folders.
const FILES: [&str; 6] = ["FILE", "NAME|FILE", "NAME[=FILE]", "MODEL", "MODEL_DIR", "DIR"];

/// Print a shell's completions of the command line.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Shell.
    shell: Shell,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    let mut command = with_file_hints(crate::Arguments::command());
    clap_complete::generate(arguments.shell, &mut command, "pollux", &mut script);
    let script = String::from_utf8(script).map_err(Failure::input)?;
    out.json(&json!({ "shell": arguments.shell.to_string(), "script": script }))?;
    out.text(&script)?;
    Ok(Outcome::Agrees)
}

/// The command whose arguments that take files say so: the shell then completes their names.
fn with_file_hints(command: clap::Command) -> clap::Command {
    let is_file = |argument: &clap::Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        let is_positional =
            argument.is_positional() && names.iter().any(|name| ["INPUT", "PATH"].contains(&name.as_str()));
        is_positional || names.iter().any(|name| FILES.contains(&name.as_str()) || name.starts_with("OUT"))
    };
    let command = command.mut_args(|argument| match is_file(&argument) {
        true => argument.value_hint(ValueHint::AnyPath),
        false => argument,
    });
    command.mut_subcommands(with_file_hints)
}
