//! Tables of README and book, made from stored reports.

use std::fmt::Write;

use crate::html::{OUTCOMES, numbers};
use crate::report::{StudyReport, Table};
use crate::setting::Form;

/// How many statements of each study have which verdict.
pub fn summary(reports: &[StudyReport], link: impl Fn(&str) -> String) -> String {
    let mut out = String::from("| study |");
    OUTCOMES.iter().for_each(|outcome| out.push_str(&format!(" {} |", outcome.name())));
    out.push_str("\n|---|");
    OUTCOMES.iter().for_each(|_| out.push_str("---:|"));
    out.push('\n');
    let mut sums = [0; OUTCOMES.len()];
    for report in reports {
        let counts = report.outcomes();
        let _ = write!(out, "| [{}]({}) |", report.title, link(&report.study));
        for (sum, outcome) in sums.iter_mut().zip(OUTCOMES) {
            let count = counts.get(&outcome).copied().unwrap_or(0);
            *sum += count;
            let _ = write!(out, " {count} |");
        }
        out.push('\n');
    }
    let sums: Vec<String> = sums.iter().map(usize::to_string).collect();
    let _ = writeln!(out, "| all | {} |", sums.join(" | "));
    out
}

/// A study's verdicts.
pub fn verdicts(report: &StudyReport) -> String {
    let mut out = String::from("| section | the paper says | numbers | measured | verdict |\n|---|---|---|---|---|\n");
    for verdict in &report.verdicts {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | **{}**: {} |",
            verdict.section,
            cell(&verdict.says),
            numbers(&verdict.paper, &verdict.unit),
            numbers(&verdict.measured, &verdict.unit),
            verdict.outcome.name(),
            cell(&verdict.why)
        );
    }
    out
}

/// A table of a study.
pub fn table(table: &Table) -> String {
    let mut out = format!("**{}**\n\n", table.title);
    for (index, row) in table.rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
        if index == 0 {
            let rule: Vec<&str> = (0..row.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
            let _ = writeln!(out, "|{}|", rule.join("|"));
        }
    }
    if !table.note.is_empty() {
        let _ = writeln!(out, "\n{}", table.note);
    }
    out
}

/// What a study was measured on.
pub fn conditions(report: &StudyReport) -> String {
    let conditions = &report.conditions;
    let mut out = format!("`{}`, seed {}.", report.command, report.seed);
    if report.form == Form::Reduced {
        out.push_str(" **The reduced form**: small shapes and few samples; the full form has not been stored yet.");
    }
    let lists = [
        ("configurations (digest)", &conditions.configurations),
        ("memories", &conditions.memories),
        ("energy tables", &conditions.energy_tables),
        ("assumptions", &conditions.assumptions),
    ];
    for (name, lines) in lists.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = write!(out, "\n\n*{name}*: {}.", lines.join("; "));
    }
    out.push('\n');
    out
}

/// Bars would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
