//! `pollux lab`

use std::hash::{BuildHasher, Hasher, RandomState};

use clap::{Args, Subcommand};
use pollux_labs::{Grade, Lab, Seed, Verdict, Work};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::{Output, counted};
use crate::{program_file, values};

const EXAMPLES: &str = "\
Examples:
  pollux lab list
  pollux lab show 1
  pollux lab show 4 --starter lab4.pasm
  pollux lab check 4 lab4.pasm
  pollux lab check 4 lab4.pasm --seed 7 --json
  pollux lab show 3 --seed 7 --starter lab3.pasm
  pollux lab check 3 answer.toml --seed 7";

const LIST_EXAMPLES: &str = "\
Examples:
  pollux lab list
  pollux lab list --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  pollux lab show 1
  pollux lab show 4 --starter lab4.pasm
  pollux lab show 3 --seed 7 --starter lab3.pasm";

const CHECK_EXAMPLES: &str = "\
Examples:
  pollux lab check 1 mine.pasm
  pollux lab check 1 mine.pasm --seed 7 --json
  pollux lab check 10 design.toml";

/// Cases of a program with each memory, unless said otherwise.
const CASES: u32 = 5;

/// Labs: tasks about the accelerator, graded by hidden cases.
///
/// Cases are made from seeds as a solution is graded, and what is expected is computed by the integer reference or the emulator. The exit
/// code of `check` is 0 if the solution is accepted and 1 if not; its score is its cycles.
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
    #[arg(long, value_name = "OUT")]
    starter: Option<OutputPath>,
    /// Seed of a program that is made from one, as in lab 3; a new one otherwise.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

#[derive(Args)]
struct Check {
    /// Number of the lab.
    number: u32,
    /// Assembly text, or an answer in TOML (`-`: standard input).
    file: InputPath,
    /// Make the cases from this seed, to see the same again (lab 3: the program's).
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Cases of a program, 5 if left out.
    #[arg(long, value_name = "N", value_parser = values::count::<u32>())]
    cases: Option<u32>,
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

/// New for every call, so that a solution cannot know it; exact in JSON.
fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}

fn show(arguments: &Show, out: &Output) -> Result<Outcome, Failure> {
    let lab = find(arguments.number)?;
    if arguments.seed.is_some() && !lab.starter_has_seed() {
        return Err(Failure::Usage(format!(
            "--seed has no effect: lab {} begins with the same text for all",
            lab.number
        )));
    }
    let seed = lab.starter_has_seed().then(|| arguments.seed.unwrap_or_else(new_seed));
    let starter = lab.starter(seed.unwrap_or_default());
    if let Some(path) = &arguments.starter {
        out.write(path, starter.as_bytes())?;
    }
    let rules = lab.rules();
    out.json(&json!({
        "number": lab.number, "title": lab.title, "goal": lab.goal, "task": lab.task, "kind": lab.work.kind(),
        "config": lab.config(), "limits": rules, "starter": starter, "seed": seed,
    }))?;
    let rules: String = rules.iter().map(|rule| format!("  {rule}\n")).collect();
    out.text(&format!("Lab {}: {}\n\n{}\n\n{}\n{rules}", lab.number, lab.title, lab.goal, lab.task))?;
    if arguments.starter.is_none() {
        out.text(&format!("\n{starter}"))?;
    }
    Ok(Outcome::Agrees)
}

fn check(arguments: &Check, out: &Output) -> Result<Outcome, Failure> {
    let lab = find(arguments.number)?;
    if arguments.cases.is_some() && !matches!(lab.work, Work::Program(_)) {
        return Err(Failure::Usage(format!("--cases has no effect: a solution of lab {} has one case", lab.number)));
    }
    let text = program_file::read(&arguments.file)?;
    let seed = arguments.seed.map_or_else(|| Seed::New(new_seed()), Seed::Given);
    let cases = arguments.cases.unwrap_or(CASES) as usize;
    let grade = pollux_labs::check(&lab, &arguments.file.display().to_string(), &text, seed, cases);
    let Grade { lab: number, verdict, message, score, cases, seed } = &grade;
    out.json(&json!({
        "lab": number, "verdict": verdict, "message": message, "score": score, "cases": cases, "seed": seed,
        "match": *verdict == Verdict::Accepted,
    }))?;
    match verdict {
        Verdict::Accepted => out.text(&format!("lab {number}: {message} ({})\n", counted(*cases as u64, "case")))?,
        _ => out.text(&format!(
            "lab {number}: {}: {message}\nthe same cases again: --seed {seed}\n",
            verdict.name().replace('_', " ")
        ))?,
    }
    Ok(Outcome::of(*verdict == Verdict::Accepted))
}
