//! The report as one self-contained HTML page: tables and, with the feature `plots`, plots (SVG); no scripts, nothing fetched.

use std::fmt::Write;

use super::figures::{Figures, Report};
use crate::error::CompileError;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;margin:1rem 0 2rem;font-size:13px}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}\
th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}";

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn html(&self) -> Result<String, CompileError> {
        self.html_with(None)
    }

    /// The page with a section more: a heading, and text that is shown as it is.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn html_with(&self, section: Option<(&str, &str)>) -> Result<String, CompileError> {
        let mut page = String::new();
        let title = escape(&format!("{} on {}", self.title, self.config));
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style>\n\
             <h1>{title}</h1>\n<p>{} cycles, {} multiply-accumulates, utilisation {:.1} %.</p>\n",
            self.total.cycles,
            self.total.macs,
            100.0 * self.total.utilisation
        );
        if let Some(host) = &self.host {
            let accelerator = self.total.cycles - host.cycles;
            let text = host.to_string().trim_end().replace('\n', "; ");
            let _ = writeln!(page, "<p>accelerator: {accelerator} cycles; {}.</p>", escape(&text));
        }
        if self.assumes_no_zero_divisor {
            let _ = writeln!(page, "<p>{}.</p>", Self::ASSUMPTION);
        }
        #[cfg(feature = "plots")]
        page.push_str(&self.plots()?);
        let operations: Vec<&Figures> = self.operations.iter().map(|o| &o.figures).collect();
        let units = self.units.iter().filter(|_| self.host.is_some()).collect();
        let sections = [
            ("Unit", units),
            ("Class", self.classes.iter().chain([&self.total]).collect::<Vec<_>>()),
            ("Operation, all layers", self.parts.iter().collect()),
            ("Layer", self.layers.iter().collect()),
            ("Operation", operations),
        ];
        for (heading, rows) in sections.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            page.push_str(&table(heading, &rows, self.host.is_some()));
        }
        if let Some((heading, text)) = section {
            let _ = writeln!(page, "<h2>{}</h2>\n<pre>{}</pre>", escape(heading), escape(text));
        }
        page.push_str("</html>\n");
        Ok(page)
    }
}

fn table(heading: &str, rows: &[&Figures], host: bool) -> String {
    let mut out = format!(
        "<table><tr><th>{heading}</th><th>cycles</th>{}<th>share</th><th>MACs</th><th>utilisation</th><th>bytes in</th>\
         <th>bytes out</th><th>MACs per byte</th></tr>\n",
        if host { "<th>host cycles</th>" } else { "" }
    );
    for f in rows {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td>{}<td>{:.1} %</td><td>{}</td><td>{:.1} %</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
            escape(&if heading == "Unit" { f.name.clone() } else { f.marked_name() }),
            f.cycles,
            if host { format!("<td>{}</td>", f.host_cycles) } else { String::new() },
            100.0 * f.share,
            f.macs,
            100.0 * f.utilisation,
            f.bytes_in,
            f.bytes_out,
            f.intensity
        );
    }
    out.push_str("</table>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
