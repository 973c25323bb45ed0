//! The `pollux` command: everything that Pollux does, from the command line.
//!
//! * [`commands`]: one file a subcommand, with its arguments, help text and report;
//! * [`arguments`]: argument values that several of them take;
//! * [`values`]: numbers with their ranges, and other values of options;
//! * [`options`]: options that have no effect, and files that several options name;
//! * [`files`], [`interruption`]: files that are complete or not there, whatever happens;
//! * [`program_file`]: reading and writing programs;
//! * [`energy`]: energy of runs;
//! * [`elf`]: programs for the RISC-V core;
//! * [`execution`]: running a program on the functional model and on the cycle-level emulator;
//! * [`layer`]: quantised encoder layers as programs;
//! * [`timeline`]: files of runs for other people's viewers;
//! * [`terminal`]: the panes of `pollux debug`;
//! * [`output`], [`failure`], [`progress`]: what the user sees, and the exit codes.

mod arguments;
mod commands;
mod commit_log;
mod elf;
mod energy;
mod execution;
mod failure;
mod files;
mod interruption;
mod layer;
mod options;
mod output;
mod program_file;
mod progress;
mod terminal;
mod timeline;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::{Failure, Outcome};
use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0    done; everything that was checked agrees
  1    what was checked does not agree (verify, expected results, demo)
  2    wrong usage
  3    bad input: a file that cannot be read, or has errors
  4    the program is illegal, or the hardware would stop (deadlock, cycle limit)
  129, 130, 143  interrupted by HUP, INT (Ctrl-C) or TERM; unfinished files are removed
  141  the reader of the standard output went away";

/// The software twin of UC Berkeley's Gemmini accelerator.
#[derive(Parser)]
#[command(name = "pollux", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Arguments),
    Asm(commands::asm::Arguments),
    Dis(commands::dis::Arguments),
    Run(commands::run::Arguments),
    Lower(commands::lower::Arguments),
    Quantize(commands::quantize::Arguments),
    Model(commands::model::Arguments),
    Report(commands::report::Arguments),
    Map(commands::map::Arguments),
    Survey(commands::survey::Arguments),
    Sweep(commands::sweep::Arguments),
    Energy(commands::energy::Arguments),
    Isa(commands::isa::Arguments),
    Config(commands::config::Arguments),
    Import(commands::import::Arguments),
    Verify(commands::verify::Arguments),
    Debug(commands::debug::Arguments),
    Page(commands::page::Arguments),
    Lab(commands::lab::Arguments),
    Completions(commands::completions::Arguments),
    Man(commands::man::Arguments),
    Spike(commands::spike::Arguments),
}

fn execute(command: &Command, out: &Output) -> Result<Outcome, Failure> {
    match command {
        Command::Demo(arguments) => commands::demo::execute(arguments, out),
        Command::Asm(arguments) => commands::asm::execute(arguments, out),
        Command::Dis(arguments) => commands::dis::execute(arguments, out),
        Command::Run(arguments) => commands::run::execute(arguments, out),
        Command::Lower(arguments) => commands::lower::execute(arguments, out),
        Command::Quantize(arguments) => commands::quantize::execute(arguments, out),
        Command::Model(arguments) => commands::model::execute(arguments, out),
        Command::Report(arguments) => commands::report::execute(arguments, out),
        Command::Map(arguments) => commands::map::execute(arguments, out),
        Command::Survey(arguments) => commands::survey::execute(arguments, out),
        Command::Sweep(arguments) => commands::sweep::execute(arguments, out),
        Command::Energy(arguments) => commands::energy::execute(arguments, out),
        Command::Isa(arguments) => commands::isa::execute(arguments, out),
        Command::Config(arguments) => commands::config::execute(arguments, out),
        Command::Import(arguments) => commands::import::execute(arguments, out),
        Command::Verify(arguments) => commands::verify::execute(arguments, out),
        Command::Debug(arguments) => commands::debug::execute(arguments, out),
        Command::Page(arguments) => commands::page::execute(arguments, out),
        Command::Lab(arguments) => commands::lab::execute(arguments, out),
        Command::Completions(arguments) => commands::completions::execute(arguments, out),
        Command::Man(arguments) => commands::man::execute(arguments, out),
        Command::Spike(arguments) => commands::spike::execute(arguments, out),
    }
}

/// The command with its arguments, its output, and all files checked.
fn prepare(words: &[OsString], out: &mut Output) -> Result<Command, Failure> {
    let mut definition = Arguments::command();
    let parsed = definition.try_get_matches_from_mut(words);
    let parsed = parsed.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (arguments, matches) = parsed.map_err(Failure::Arguments)?;
    interruption::watch(out.temporaries().clone());
    let file_on_stdout = options::check_files(&definition, &matches, arguments.json, out.temporaries())?;
    *out = out.clone().with_file_on_stdout(file_on_stdout);
    Ok(arguments.command)
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Errors in the arguments are JSON as well.
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let mut out = Output::new(json);
    let result = prepare(&words, &mut out).and_then(|command| execute(&command, &out));
    ExitCode::from(match result {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => failure.report(&out),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_examples() {
        let root = super::Arguments::command();
        let mut commands: Vec<_> = root.get_subcommands().collect();
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
            commands.extend(command.get_subcommands());
        }
    }
}
