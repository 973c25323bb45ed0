//! `pollux survey`

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use pollux_survey::paper::Paper;
use pollux_survey::report::StudyReport;
use pollux_survey::setting::{Form, SEED, Setting};
use pollux_survey::study::Study;
use pollux_survey::{html, verdict};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::files::InputPath;
use crate::output::{Output, table};
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux survey workload --reduced
  pollux survey fusion --html fusion
  pollux survey all --html report                      resumed if it is interrupted
  pollux survey baseline --paper mine.toml --json";

/// The page's file in its folder.
const PAGE: &str = "index.html";

/// Repeat the case studies of the survey of Transformer inference on exact cycles.
///
/// Each study measures on the emulator what "Full Stack Optimization of Transformer Inference" (arXiv 2302.14017) reports, and says of every
/// number whether it is reproduced, reproduced in its sign, refuted, or not testable. The verdicts are computed from the paper's numbers.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which study, or all of them.
    #[arg(value_name = "STUDY")]
    study: StudyName,
    /// On small shapes and with few samples: seconds instead of minutes. What needs the paper's sizes is then not testable.
    #[arg(long)]
    reduced: bool,
    /// Write a page with plots, and each study's numbers, into this folder. A study whose numbers are there is not run again.
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// The paper's numbers, in the form of Pollux's own `paper.toml`.
    #[arg(long, value_name = "FILE")]
    paper: Option<InputPath>,
    /// Seed of all that is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs of the emulator at the same time; by default one a core. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    jobs: Option<usize>,
}

/// A study by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StudyName {
    One(Study),
    All,
}

/// Clap wants all of them as a list.
const NAMES: [StudyName; Study::ALL.len() + 1] = {
    let mut names = [StudyName::All; Study::ALL.len() + 1];
    let mut at = 0;
    while at < Study::ALL.len() {
        names[at] = StudyName::One(Study::ALL[at]);
        at += 1;
    }
    names
};

impl ValueEnum for StudyName {
    fn value_variants<'a>() -> &'a [Self] {
        &NAMES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(match self {
            Self::One(study) => clap::builder::PossibleValue::new(study.name()).help(study.title()),
            Self::All => clap::builder::PossibleValue::new("all").help("All of them"),
        })
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let paper = paper(arguments)?;
    let studies = match arguments.study {
        StudyName::One(study) => vec![study],
        StudyName::All => Study::ALL.to_vec(),
    };
    if arguments.seed.is_some() && !studies.iter().any(|study| study.draws()) {
        return Err(Failure::Usage(format!("{} draws nothing: leave out --seed", studies[0].name())));
    }
    if let Some(folder) = &arguments.html {
        std::fs::create_dir_all(folder).map_err(Failure::writing(folder))?;
        check_page(&folder.join(PAGE))?;
    }
    let mut reports = Vec::new();
    for study in studies {
        reports.push(report(arguments, study, &paper, out)?);
        // As far as it is: an interruption loses one study at most.
        if let Some(folder) = &arguments.html {
            let page = html::page(&paper.title, &reports).map_err(Failure::input)?;
            out.write(&folder.join(PAGE), page.as_bytes())?;
        }
    }
    match (arguments.study, &reports[..]) {
        (StudyName::One(_), [report]) => {
            out.json(report)?;
            out.text(&text(report))?;
        }
        _ => {
            out.json(&json!({ "studies": reports }))?;
            out.text(&summary(&reports))?;
        }
    }
    Ok(Outcome::Agrees)
}

/// Refuses to overwrite a page of another origin.
fn check_page(page: &Path) -> Result<(), Failure> {
    if page.exists() && !program_file::read_text(page)?.contains(html::GENERATOR) {
        return Err(Failure::Input(format!(
            "{}: not a page of `pollux survey`: choose another folder, or remove the file",
            page.display()
        )));
    }
    Ok(())
}

fn paper(arguments: &Arguments) -> Result<Paper, Failure> {
    let Some(path) = &arguments.paper else { return Paper::built_in().map_err(Failure::input) };
    let path: &Path = path;
    let text = program_file::read_text(path)?;
    Paper::parse(&text).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

/// A study's report: run now, or from the folder.
fn report(arguments: &Arguments, study: Study, paper: &Paper, out: &Output) -> Result<StudyReport, Failure> {
    let form = if arguments.reduced { Form::Reduced } else { Form::Full };
    let seed = arguments.seed.unwrap_or(SEED);
    let file = arguments.html.as_ref().map(|folder| folder.join(format!("{}.json", study.name())));
    if let Some(file) = &file
        && let Some(known) = known(file, study)?
    {
        if (known.form, known.seed, known.version.as_str()) == (form, seed, env!("CARGO_PKG_VERSION")) {
            out.note(&format!("{}: from {}", study.name(), file.display()));
            return Ok(known.judged_by(paper));
        }
        out.note(&format!("{}: another form, seed or version, run again", file.display()));
    }
    let spinner = progress::spinner(out, study.name());
    let last = Mutex::new(String::new());
    let watch = |what: &str, done: usize, of: usize| {
        let line = format!("{what}: {done} of {of}");
        spinner.set_message(line.clone());
        if let Ok(mut last) = last.lock() {
            *last = line;
        }
    };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let setting = Setting { form, seed, jobs, watch: &watch };
    let report = study.run(paper, &setting);
    spinner.finish_and_clear();
    let report = report.map_err(|error| {
        let at = last.lock().map(|last| last.clone()).unwrap_or_default();
        let at = if at.is_empty() { String::new() } else { format!(" (after {at})") };
        Failure::Input(format!("{}{at}: {error}", study.name()))
    })?;
    if let Some(file) = &file {
        let mut text = serde_json::to_string_pretty(&report).map_err(Failure::input)?;
        text.push('\n');
        out.write(file, text.as_bytes())?;
    }
    Ok(report)
}

/// The report that is in the folder, if there is one.
fn known(file: &Path, study: Study) -> Result<Option<StudyReport>, Failure> {
    if !file.exists() {
        return Ok(None);
    }
    let text = program_file::read_text(file)?;
    let known: Result<StudyReport, _> = serde_json::from_str(&text);
    match known {
        Ok(known) if known.study == study.name() => Ok(Some(known)),
        _ => Err(Failure::Input(format!(
            "{}: not a report of the study `{}`: choose another folder, or remove the file",
            file.display(),
            study.name()
        ))),
    }
}

fn text(report: &StudyReport) -> String {
    let mut out =
        format!("{}\n{}, {} form, seed {}\n\n", report.title, report.command, report.form.name(), report.seed);
    let mut rows = vec![["section", "measured", "the paper", "verdict", "what"].map(str::to_owned).to_vec()];
    for verdict in &report.verdicts {
        rows.push(vec![
            verdict.section.clone(),
            html::numbers(&verdict.measured, ""),
            html::numbers(&verdict.paper, &verdict.unit),
            verdict.outcome.name().to_owned(),
            format!("{}: {}", verdict.says, verdict.why),
        ]);
    }
    out.push_str(&left_aligned(&rows));
    for one in &report.tables {
        let _ = write!(out, "\n{}\n\n{}", one.title, table(&one.rows));
        if !one.note.is_empty() {
            let _ = writeln!(out, "{}", one.note);
        }
    }
    let conditions = &report.conditions;
    for (name, lines) in [
        ("configurations", &conditions.configurations),
        ("memories", &conditions.memories),
        ("energy tables", &conditions.energy_tables),
        ("assumptions", &conditions.assumptions),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{name}:");
            lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
        }
    }
    for (name, value) in &report.times {
        let _ = writeln!(out, "{name}: {}", verdict::short(*value));
    }
    out
}

/// Words, not numbers.
fn left_aligned(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let Some((last, cells)) = row.split_last() else { continue };
        if index == 0 {
            let _ = writeln!(out, "{}", row.join(" | "));
        } else {
            let _ = writeln!(out, "{}\n    {last}", cells.join(" | "));
        }
    }
    out
}

fn summary(reports: &[StudyReport]) -> String {
    let mut heading = vec!["study".to_owned()];
    heading.extend(html::OUTCOMES.map(|outcome| outcome.name().to_owned()));
    let mut rows = vec![heading];
    for report in reports {
        let counts = report.outcomes();
        let mut row = vec![report.study.clone()];
        row.extend(html::OUTCOMES.map(|outcome| counts.get(&outcome).copied().unwrap_or(0).to_string()));
        rows.push(row);
    }
    table(&rows)
}
