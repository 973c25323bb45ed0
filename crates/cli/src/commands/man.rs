//! `pollux man`

use clap::CommandFactory;
use clap_mangen::Man;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  pollux man | man -l -                                    read the page
  pollux man > ~/.local/share/man/man1/pollux.1
  pollux man run > ~/.local/share/man/man1/pollux-run.1
  pollux man model generate | man -l -";

/// Print the manual page of the command or of a subcommand.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Subcommand, such as `run` or `model generate`; by default the whole command.
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let mut root = crate::Arguments::command();
    root.build();
    let mut command = &root;
    for name in &arguments.path {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known = command.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>();
            let of = command.get_bin_name().unwrap_or("pollux");
            Failure::Usage(match known.is_empty() {
                true => format!("`{of}` has no subcommands"),
                false => format!("`{of}` has no subcommand `{name}`: choose {}", known.join(", ")),
            })
        })?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(Failure::input)?;
    let page = String::from_utf8(page).map_err(Failure::input)?;
    out.json(&json!({ "page": page }))?;
    out.text(&page)?;
    Ok(Outcome::Agrees)
}
