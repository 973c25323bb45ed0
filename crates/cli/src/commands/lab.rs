//! `pollux lab`

use std::hash::{BuildHasher, Hasher, RandomState};

use clap::{Args, Subcommand};
use pollux_labs::{Grade, Lab, Verdict};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::Output;
use crate::{program_file, values};

const EXAMPLES: &str = "\
Examples:
  pollux lab list
  pollux lab show 1
  pollux lab show 4 --starter lab4.pasm
  pollux lab check 4 lab4.pasm
  pollux lab check 4 lab4.pasm --seed 7 --json";

const LIST_EXAMPLES: &str = "\
Examples:
  pollux lab list
  pollux lab list --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  pollux lab show 1
  pollux lab show 4 --starter lab4.pasm";

const CHECK_EXAMPLES: &str = "\
Examples:
  pollux lab check 1 mine.pasm
  pollux lab check 1 mine.pasm --seed 7 --json";

/// Cases of a solution with each memory.
const CASES: usize = 5;

/// Labs: tasks about the accelerator, graded by hidden cases.
///
/// Data is made from seeds as a solution is graded, and what is expected is computed by the integer reference. The exit code of
/// `check` is 0 if the solution is accepted and 1 if not; its score is its cycles.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the labs.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show a lab's task.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Grade a solution.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
}

#[derive(Args)]
struct Show {
    /// Number of the lab.
    number: u32,
    /// Write what one begins with to a file.
    #[arg(long, value_name = "OUT.pasm")]
    starter: Option<OutputPath>,
}

#[derive(Args)]
struct Check {
    /// Number of the lab.
    number: u32,
    /// Assembly text (`-`: standard input).
    file: InputPath,
    /// Make the cases from this seed instead of new ones, to see the same again.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Cases.
    #[arg(long, value_name = "N", default_value_t = CASES as u32, value_parser = values::count::<u32>())]
    cases: u32,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::List => list(out),
        Command::Show(arguments) => show(arguments, out),
        Command::Check(arguments) => check(arguments, out),
    }
}

fn find(number: u32) -> Result<Lab, Failure> {
    pollux_labs::lab(number).ok_or_else(|| {
        let numbers: Vec<String> = pollux_labs::all().iter().map(|lab| lab.number.to_string()).collect();
        Failure::Usage(format!("there is no lab {number}: there are {}", numbers.join(", ")))
    })
}

fn list(out: &Output) -> Result<Outcome, Failure> {
    let labs = pollux_labs::all();
    let listed: Vec<Value> =
        labs.iter().map(|lab| json!({ "number": lab.number, "title": lab.title, "goal": lab.goal })).collect();
    out.json(&json!({ "labs": listed }))?;
    labs.iter().try_for_each(|lab| out.text(&format!("{:>2}  {}\n    {}\n", lab.number, lab.title, lab.goal)))?;
    Ok(Outcome::Agrees)
}

fn show(arguments: &Show, out: &Output) -> Result<Outcome, Failure> {
    let lab = find(arguments.number)?;
    if let Some(path) = &arguments.starter {
        out.write(path, lab.starter.as_bytes())?;
    }
    let limits = lab.rules();
    out.json(&json!({
        "number": lab.number, "title": lab.title, "goal": lab.goal, "task": lab.task, "config": lab.config,
        "limits": limits, "starter": lab.starter,
    }))?;
    let rules: String = limits.iter().map(|limit| format!("  {limit}\n")).collect();
    out.text(&format!("Lab {}: {}\n\n{}\n\n{}\n{rules}", lab.number, lab.title, lab.goal, lab.task))?;
    if arguments.starter.is_none() {
        out.text(&format!("\n{}", lab.starter))?;
    }
    Ok(Outcome::Agrees)
}

fn check(arguments: &Check, out: &Output) -> Result<Outcome, Failure> {
    let lab = find(arguments.number)?;
    let text = program_file::read(&arguments.file)?;
    // New for every grading, so that a solution cannot know them.
    let first = arguments.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 11);
    let seeds: Vec<u64> = (0..u64::from(arguments.cases)).map(|case| first.wrapping_add(case)).collect();
    let grade = pollux_labs::check(&lab, &arguments.file.display().to_string(), &text, &seeds);
    let Grade { lab: number, verdict, message, score, cases } = &grade;
    out.json(&json!({
        "lab": number, "verdict": verdict, "message": message, "score": score, "cases": cases, "seed": first,
        "match": *verdict == Verdict::Accepted,
    }))?;
    match verdict {
        Verdict::Accepted => out.text(&format!("lab {number}: {message} ({cases} cases)\n"))?,
        _ => out.text(&format!(
            "lab {number}: {}: {message}\nthe same cases again: --seed {first}\n",
            verdict.name().replace('_', " ")
        ))?,
    }
    Ok(Outcome::of(*verdict == Verdict::Accepted))
}
