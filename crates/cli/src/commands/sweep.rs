//! `pollux sweep`

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use pollux_sweep::{Folder, Format, Manifest, Merged, Outcome as PointOutcome, ShardState, SweepError, Value};
use serde_json::{Value as Json, json};

use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath, STANDARD_STREAM};
use crate::output::{Output, counted, table};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux sweep sweep.toml --dry-run             its points
  pollux sweep sweep.toml -o out                all shards, on all cores; again after an interruption: those that are missing
  pollux sweep sweep.toml -o out --shard 3/100  one of them, as a job of a cluster
  pollux sweep merge out -o results.csv";

const MERGE_EXAMPLES: &str = "\
Examples:
  pollux sweep merge out                        writes out/sweep.parquet
  pollux sweep merge out -o results.csv";

/// Run every combination of programs or operations, configurations, memories and mappings.
///
/// The manifest (TOML) lists the axes, what is left out and what is measured; the book's chapter on sweeps describes it. Points are cut
/// into shards, a file each, which appears when it is complete and is never made again: an interrupted sweep goes on where it was, and
/// the table is the same whoever ran which shard.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArguments>,
}

#[derive(Subcommand)]
enum Command {
    Merge(MergeArguments),
}

/// Run shards.
#[derive(Args)]
struct RunArguments {
    /// The manifest (TOML).
    #[arg(value_name = "MANIFEST")]
    manifest: InputPath,
    /// Folder for the shards; it is made if it is not there.
    #[arg(short, long, value_name = "DIR", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Only show the points and their shards.
    #[arg(long, conflicts_with_all = ["output", "jobs", "form"])]
    dry_run: bool,
    /// Shards that run at the same time; by default one a core. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
    /// Only one of so many shards, counted from 0.
    #[arg(long, value_name = "I/N", conflicts_with = "jobs")]
    shard: Option<Shard>,
    /// Form of the shards; by default Parquet, if it was built in.
    #[arg(long, value_name = "FORM")]
    form: Option<FormName>,
}

/// Make one table of all shards.
///
/// Refused are gaps, points that are there twice, and shards of another manifest or version. Rows stand in the manifest's order.
#[derive(Args)]
#[command(after_help = MERGE_EXAMPLES)]
struct MergeArguments {
    /// The folder with the shards.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// File for the table: `*.parquet`, `*.jsonl` or `*.csv`; by default `sweep` in the folder, in the form of its shards.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormName {
    /// Columns with types.
    Parquet,
    /// A JSON object a line.
    Jsonl,
}

/// One of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    number: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if number < count => Ok(Self { number, count }),
            Some((_, 0)) => Err("there is at least one shard: 0/1".to_owned()),
            Some((_, count)) => Err(format!("shards are counted from 0: 0/{count} to {}/{count}", count - 1)),
            None => Err("it is not I/N, for example 3/100".to_owned()),
        }
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    match (&arguments.command, &arguments.run) {
        (Some(Command::Merge(arguments)), _) => merge(arguments, out),
        (None, Some(arguments)) => run(arguments, out),
        (None, None) => Err(Failure::Usage("give a manifest, or `merge` and a folder".to_owned())),
    }
}

/// The manifest, whose files are relative to its folder.
fn manifest(path: &Path) -> Result<Manifest, Failure> {
    let folder = if path.as_os_str() == STANDARD_STREAM { Path::new(".") } else { crate::files::folder(path) };
    let text = program_file::read_text(path)?;
    Manifest::parse(&text, folder).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

fn failure(error: SweepError) -> Failure {
    Failure::input(error)
}

fn run(arguments: &RunArguments, out: &Output) -> Result<Outcome, Failure> {
    let manifest = progress::during(out, "reading", || manifest(&arguments.manifest))?;
    if !manifest.left_out().is_empty() {
        let count = manifest.left_out().len() as u64;
        out.note(&format!("note: {} of the grids cannot be built, and left out", counted(count, "configuration")));
    }
    let shards = manifest.shards(arguments.shard.map(|shard| shard.count)).map_err(Failure::Usage)?;
    let Some(path) = &arguments.output else { return show(&manifest, shards.count(), out) };
    let format = match arguments.form {
        None => Format::DEFAULT,
        Some(FormName::Parquet) => Format::Parquet.check().map_err(Failure::Usage)?,
        Some(FormName::Jsonl) => Format::Jsonl,
    };
    let folder = Folder::open(path, &manifest, shards, format).map_err(failure)?;
    let wanted: Vec<usize> = match arguments.shard {
        Some(shard) => vec![shard.number],
        None => (0..shards.count()).collect(),
    };
    let points: usize = wanted.iter().map(|shard| shards.range(*shard).len()).sum();
    let bar = progress::bar(out, points as u64, "points");
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let states = folder.run_all(&manifest, &wanted, jobs, &|points| bar.inc(points as u64), &|| false);
    bar.finish_and_clear();
    let states = states.map_err(failure)?;
    let written = states.iter().filter(|state| **state == ShardState::Written).count();
    // A job of many leaves the table to the last one.
    let merged = arguments.shard.is_none().then(|| folder.merge()).transpose().map_err(failure)?;
    let figures = merged.as_ref().map(Figures::of);
    out.json(&json!({
        "output": path, "points": manifest.points().len(), "shards": shards.count(), "written": written,
        "skipped": states.len() - written, "missing": folder.missing().len(), "left_out": manifest.left_out(),
        "result": figures.as_ref().map(Figures::json),
    }))?;
    out.text(&format!(
        "{} in {}: {} run, {} there already\n{}",
        counted(manifest.points().len() as u64, "point"),
        counted(shards.count() as u64, "shard"),
        written,
        states.len() - written,
        figures.as_ref().map(Figures::text).unwrap_or_default(),
    ))?;
    Ok(Outcome::of(figures.is_none_or(|figures| figures.wrong == 0)))
}

fn show(manifest: &Manifest, shards: usize, out: &Output) -> Result<Outcome, Failure> {
    let mut rows = vec![["id", "work", "config", "memory", "mapping"].map(str::to_owned).to_vec()];
    rows.extend(manifest.points().iter().map(|point| [vec![point.id().to_owned()], point.names().to_vec()].concat()));
    out.json(&json!({
        "points": manifest.points().len(), "shards": shards, "left_out": manifest.left_out(), "list": manifest.describe(),
    }))?;
    out.text(&format!(
        "{}\n{} in {}\n",
        table(&rows),
        counted(manifest.points().len() as u64, "point"),
        counted(shards as u64, "shard"),
    ))?;
    Ok(Outcome::Agrees)
}

fn merge(arguments: &MergeArguments, out: &Output) -> Result<Outcome, Failure> {
    let folder = Folder::existing(&arguments.folder).map_err(failure)?;
    let own = || OutputPath(arguments.folder.join(format!("sweep.{}", folder.identity().format.extension())));
    let output = arguments.output.clone().unwrap_or_else(own);
    let format = Format::of(&output).map_err(Failure::Usage)?;
    let merged = progress::during(out, "merging", || folder.merge()).map_err(failure)?;
    out.write(&output, &pollux_sweep::write(&merged.table, format).map_err(failure)?)?;
    let figures = Figures::of(&merged);
    out.json(&json!({ "output": output, "points": merged.table.rows.len(), "result": figures.json() }))?;
    out.text(&format!(
        "{}: {}\n{}",
        output.display(),
        counted(merged.table.rows.len() as u64, "point"),
        figures.text()
    ))?;
    Ok(Outcome::of(figures.wrong == 0))
}

/// What a whole table comes to.
struct Figures {
    outcomes: Vec<(PointOutcome, u64)>,
    /// Points whose results are not what they must be.
    wrong: u64,
    hash: String,
}

impl Figures {
    fn of(merged: &Merged) -> Self {
        let rows = &merged.table.rows;
        let count = |outcome| rows.iter().filter(|row| row.outcome() == outcome).count() as u64;
        let wrong = merged.table.column("match").into_iter().flatten().filter(|value| **value == Value::Bool(false));
        Self {
            outcomes: PointOutcome::ALL.map(|outcome| (outcome, count(outcome))).to_vec(),
            wrong: wrong.count() as u64,
            hash: merged.hash.clone(),
        }
    }

    fn json(&self) -> Json {
        let outcomes: serde_json::Map<String, Json> =
            self.outcomes.iter().map(|(outcome, count)| (outcome.name().to_owned(), json!(count))).collect();
        json!({ "outcomes": outcomes, "mismatches": self.wrong, "content_sha256": self.hash })
    }

    fn text(&self) -> String {
        let some = self.outcomes.iter().filter(|(_, count)| *count > 0);
        let outcomes =
            some.map(|(outcome, count)| format!("{count} {}", outcome.name())).collect::<Vec<_>>().join(", ");
        let wrong = match self.wrong {
            0 => String::new(),
            wrong => format!("; {} WRONG", counted(wrong, "result")),
        };
        format!("{outcomes}{wrong}\ncontent sha256 {}\n", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_0() {
        assert_eq!("3/4".parse(), Ok(Shard { number: 3, count: 4 }));
        assert!("4/4".parse::<Shard>().unwrap_err().contains("0/4 to 3/4"));
        assert!("0/0".parse::<Shard>().unwrap_err().contains("at least one"));
        assert!(["", "3", "-1/4", "a/b"].iter().all(|text| text.parse::<Shard>().unwrap_err().contains("3/100")));
    }
}
