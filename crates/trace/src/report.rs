//! Reports of cycle-level runs: the numbers of [`RunReport`] as text, JSON or CSV, and a log of every command.
//!
//! ```no_run
//! # fn run(config: &pollux_isa::ValidConfig, items: Vec<pollux_isa::StreamItem>) -> Result<(), Box<dyn std::error::Error>> {
//! use pollux_memory::Memory;
//! use pollux_sim::report::Profiler;
//! use pollux_sim::runner::Runner;
//! use pollux_trace::report::{CommandLog, Format, render};
//!
//! let log = CommandLog::csv(std::fs::File::create("commands.csv")?);
//! let mut observer = (Profiler::new(config, &items), log);
//! let outcome = Runner::new(config).limit(1_000_000).run(items, Memory::new(), &mut observer)?;
//! observer.1.finish()?;
//! print!("{}", render(&observer.0.finish(&outcome.summary), Format::Text));
//! # Ok(())
//! # }
//! ```

mod command_log;
mod csv;
mod page;
mod text;

pub use command_log::CommandLog;
pub use csv::{CSV_HEADER, operations_csv, report_csv};
pub use page::{Plots, report_html};
pub use text::{Section, report_text, section_text};

pub use pollux_sim::report::RunReport;

/// Name and version of the form of Pollux's JSON documents. A key that goes or changes its meaning or type makes a new
/// version; a new key does not.
pub const SCHEMA: &str = "pollux/1";

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables for people ([`report_text`]).
    Text,
    /// One document with every number ([`report_json`]).
    Json,
    /// One table with every number, a line each ([`report_csv`]).
    Csv,
}

/// The whole report in a form.
pub fn render(report: &RunReport, format: Format) -> String {
    match format {
        Format::Text => report_text(report),
        Format::Json => report_json(report),
        Format::Csv => report_csv(report),
    }
}

/// The report as a JSON document, fields as in [`RunReport`].
pub fn report_json(report: &RunReport) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
