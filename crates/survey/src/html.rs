//! Reports as one static page: no scripts, nothing fetched.

use std::fmt::Write;

use crate::report::{StudyReport, Table};
use crate::setting::StudyError;
use crate::verdict::{Outcome, Verdict, short};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;margin:1rem 0 2rem;font-size:13px}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd;vertical-align:top}\
th:first-child,td:first-child{text-align:left}.verdicts td{text-align:left}\
svg{max-width:100%;height:auto}code{background:#f4f4f4;padding:.1rem .3rem}\
.reproduced{color:#007f5f}.sign_reproduced{color:#0072b2}.refuted{color:#c1440e}.not_testable{color:#777}";

/// By this a page of Pollux is known, so that no other one is overwritten.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"pollux survey\">";

/// The page with these studies.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn page(paper: &str, reports: &[StudyReport]) -> Result<String, StudyError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">{GENERATOR}<title>The survey's studies on exact cycles</title>\n\
         <style>{STYLE}</style>\n<h1>The survey's studies on exact cycles</h1>\n<p>{}</p>\n",
        escape(paper)
    );
    let _ = writeln!(page, "<h2>Verdicts</h2>\n<table><tr><th>study</th>");
    for outcome in OUTCOMES {
        let _ = write!(page, "<th>{}</th>", outcome.name());
    }
    page.push_str("</tr>\n");
    for report in reports {
        let counts = report.outcomes();
        let _ = write!(page, "<tr><td><a href=\"#{0}\">{0}</a></td>", escape(&report.study));
        for outcome in OUTCOMES {
            let _ = write!(page, "<td>{}</td>", counts.get(&outcome).copied().unwrap_or(0));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
    for report in reports {
        study(&mut page, report)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

/// All outcomes, from best to worst.
pub const OUTCOMES: [Outcome; 4] =
    [Outcome::Reproduced, Outcome::SignReproduced, Outcome::Refuted, Outcome::NotTestable];

fn study(page: &mut String, report: &StudyReport) -> Result<(), StudyError> {
    let _ = writeln!(page, "<h2 id=\"{}\">{}</h2>", escape(&report.study), escape(&report.title));
    let _ = writeln!(
        page,
        "<p><code>{}</code> ({} form, seed {})</p>",
        escape(&report.command),
        report.form.name(),
        report.seed
    );
    if !report.verdicts.is_empty() {
        verdicts(page, &report.verdicts);
    }
    for figure in &report.figures {
        let _ = writeln!(page, "<figure id=\"{}\">\n{}\n</figure>", escape(&figure.id), figure.svg()?);
    }
    report.tables.iter().for_each(|one| table(page, one));
    let conditions = &report.conditions;
    let lists = [
        ("Configurations", &conditions.configurations),
        ("Memories", &conditions.memories),
        ("Energy tables", &conditions.energy_tables),
        ("Assumptions", &conditions.assumptions),
    ];
    for (name, lines) in lists.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(page, "<p><b>{name}</b>: {}.</p>", escape(&lines.join("; ")));
    }
    Ok(())
}

fn verdicts(page: &mut String, verdicts: &[Verdict]) {
    page.push_str(
        "<table class=\"verdicts\"><tr><th>section</th><th>the paper</th><th>its numbers</th><th>measured</th>\
         <th>verdict</th><th>why</th></tr>\n",
    );
    for verdict in verdicts {
        let class = format!("{:?}", verdict.outcome);
        let class = match class.as_str() {
            "Reproduced" => "reproduced",
            "SignReproduced" => "sign_reproduced",
            "Refuted" => "refuted",
            _ => "not_testable",
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td><td>{}</td></tr>",
            escape(&verdict.section),
            escape(&verdict.says),
            escape(&numbers(&verdict.paper, &verdict.unit)),
            escape(&numbers(&verdict.measured, &verdict.unit)),
            verdict.outcome.name(),
            escape(&verdict.why),
        );
    }
    page.push_str("</table>\n");
}

/// Numbers with their unit.
pub fn numbers(values: &[f64], unit: &str) -> String {
    let values: Vec<String> = values.iter().map(|value| short(*value)).collect();
    format!("{} {}", values.join(", "), if values.is_empty() { "" } else { unit }).trim().to_owned()
}

fn table(page: &mut String, table: &Table) {
    let _ = writeln!(page, "<h3>{}</h3>\n<table>", escape(&table.title));
    for (index, row) in table.rows.iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
    if !table.note.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", escape(&table.note));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
