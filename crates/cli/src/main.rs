//! The `pollux` command: everything that Pollux does, from the command line.
//!
//! * [`commands`]: one file a subcommand, with its arguments, help text and report;
//! * [`arguments`]: argument values that several of them take;
//! * [`program_file`]: reading and writing programs and other files;
//! * [`execution`]: running a program on the functional model and on the cycle-level emulator;
//! * [`layer`]: quantised encoder layers as programs;
//! * [`output`], [`failure`], [`progress`]: what the user sees, and the exit codes.

mod arguments;
mod commands;
mod execution;
mod failure;
mod layer;
mod output;
mod program_file;
mod progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, Outcome};
use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0    done; everything that was checked agrees
  1    what was checked does not agree (verify, expected results, demo)
  2    wrong usage
  3    bad input: a file that cannot be read, or has errors
  4    the program is illegal, or the hardware would stop (deadlock, cycle limit)
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
    Isa(commands::isa::Arguments),
    Config(commands::config::Arguments),
    Import(commands::import::Arguments),
    Verify(commands::verify::Arguments),
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
        Command::Isa(arguments) => commands::isa::execute(arguments, out),
        Command::Config(arguments) => commands::config::execute(arguments, out),
        Command::Import(arguments) => commands::import::execute(arguments, out),
        Command::Verify(arguments) => commands::verify::execute(arguments, out),
    }
}

fn main() -> ExitCode {
    let Arguments { json, command } = Arguments::parse();
    let out = Output::new(json);
    let code = match execute(&command, &out) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => failure.report(&out),
    };
    ExitCode::from(code)
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
        for command in super::Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
        }
    }
}
