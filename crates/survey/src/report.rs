//! What a study yields.

use std::collections::BTreeMap;

use pollux_isa::ValidConfig;
use pollux_sim::memory::MemoryModel;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::paper::Paper;
use crate::setting::{Form, Setting};
use crate::verdict::{Measurements, Outcome, Verdict, judge};

/// A study's result: everything that text, page and book are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyReport {
    /// Name, as on the command line.
    pub study: String,
    /// What it is about.
    pub title: String,
    /// How much of it was run.
    pub form: Form,
    /// Of all that was drawn.
    pub seed: u64,
    /// The command that repeats it.
    pub command: String,
    /// Version of Pollux.
    pub version: String,
    /// What the numbers were measured on.
    pub conditions: Conditions,
    /// Verdicts on the paper's statements.
    pub verdicts: Vec<Verdict>,
    /// Numbers by the names of the statements.
    pub measured: Measurements,
    /// Tables.
    pub tables: Vec<Table>,
    /// Figures; the first is the main one.
    pub figures: Vec<Figure>,
    /// What it took, in whatever unit the names say: not the same in each run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<String, f64>,
}

/// What numbers were measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Configurations with their digests.
    pub configurations: Vec<String>,
    /// Memories behind the port.
    pub memories: Vec<String>,
    /// Energy tables, the first of which the figures show.
    pub energy_tables: Vec<String>,
    /// Whatever else the numbers rest on.
    pub assumptions: Vec<String>,
}

impl Conditions {
    /// Adds a configuration, once.
    pub fn configuration(&mut self, config: &ValidConfig) {
        let line = format!("{} ({:016x})", config.name, config.digest());
        if !self.configurations.contains(&line) {
            self.configurations.push(line);
        }
    }

    /// Adds a memory, once.
    pub fn memory(&mut self, memory: MemoryModel) {
        let line = memory.to_string();
        if !self.memories.contains(&line) {
            self.memories.push(line);
        }
    }

    /// Adds an assumption.
    pub fn assume(&mut self, what: &str) {
        self.assumptions.push(what.to_owned());
    }
}

/// A table: texts, the first row is the heading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Rows of cells.
    pub rows: Vec<Vec<String>>,
    /// What one has to know to read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Table {
    /// A table without rows.
    pub fn new<const N: usize>(title: &str, heading: [&str; N]) -> Self {
        Self { title: title.to_owned(), rows: vec![heading.map(str::to_owned).to_vec()], note: String::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The same with a remark.
    #[must_use]
    pub fn noted(self, note: &str) -> Self {
        Self { note: note.to_owned(), ..self }
    }
}

/// What a study has found, before it is compared with the paper.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Conditions.
    pub conditions: Conditions,
    /// Numbers by the names of the statements.
    pub measured: Measurements,
    /// Tables.
    pub tables: Vec<Table>,
    /// Figures, the main one first.
    pub figures: Vec<Figure>,
    /// What is not the same in each run.
    pub times: BTreeMap<String, f64>,
}

impl Findings {
    /// A measured number, or several.
    pub fn measure(&mut self, id: &str, values: impl Into<Vec<f64>>) {
        self.measured.insert(id.to_owned(), values.into());
    }

    /// The report: what was found, with the verdicts.
    pub fn report(self, study: &str, title: &str, paper: &Paper, setting: &Setting<'_>) -> StudyReport {
        let reduced = setting.form.choose("", " --reduced");
        let seed =
            if setting.seed == crate::setting::SEED { String::new() } else { format!(" --seed {}", setting.seed) };
        let Self { conditions, measured, tables, figures, times } = self;
        StudyReport {
            study: study.to_owned(),
            title: title.to_owned(),
            form: setting.form,
            seed: setting.seed,
            command: format!("pollux survey {study}{reduced}{seed}"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            conditions,
            verdicts: paper.of(study).map(|claim| judge(claim, &measured, setting.form)).collect(),
            measured,
            tables,
            figures,
            times,
        }
    }
}

impl StudyReport {
    /// The same measurements, judged by another paper's numbers.
    #[must_use]
    pub fn judged_by(&self, paper: &Paper) -> Self {
        let verdicts = paper.of(&self.study).map(|claim| judge(claim, &self.measured, self.form)).collect();
        Self { verdicts, ..self.clone() }
    }

    /// How many verdicts have each outcome, from best to worst.
    pub fn outcomes(&self) -> BTreeMap<Outcome, usize> {
        let mut outcomes = BTreeMap::new();
        self.verdicts.iter().for_each(|verdict| *outcomes.entry(verdict.outcome).or_insert(0) += 1);
        outcomes
    }

    /// The same without what differs from run to run.
    #[must_use]
    pub fn repeatable(&self) -> Self {
        Self { times: BTreeMap::new(), ..self.clone() }
    }
}

/// `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `-36.1 %`.
pub fn percent(ratio: f64) -> String {
    format!("{:+.1} %", 100.0 * (ratio - 1.0))
}
