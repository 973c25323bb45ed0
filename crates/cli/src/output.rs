//! What a command prints: text for people or one JSON document.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;
use crate::files::{OutputFile, Temporaries};

/// Name and version of the form of all JSON documents. The book's chapter on the command line says what changes it.
pub const SCHEMA: &str = pollux_trace::report::SCHEMA;

/// What the user gets: the standard output, and files.
#[derive(Clone, Debug, Default)]
pub struct Output {
    json: bool,
    stdout_is_a_file: bool,
    temporaries: Temporaries,
}

/// A JSON document with the version of its form.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    document: &'a T,
}

impl Output {
    /// With `json`, text is not printed; without it, JSON is not.
    pub fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// The same with JSON, if `json`, whatever was asked for before.
    pub fn or_json(&self, json: bool) -> Self {
        Self { json: self.json || json, ..self.clone() }
    }

    /// The same for a run one of whose files is the standard output: text goes to the standard error.
    pub fn with_file_on_stdout(self, stdout_is_a_file: bool) -> Self {
        Self { stdout_is_a_file, ..self }
    }

    /// The files that an interruption removes.
    pub fn temporaries(&self) -> &Temporaries {
        &self.temporaries
    }

    /// Begins a file.
    pub fn create(&self, path: &Path) -> Result<OutputFile, Failure> {
        OutputFile::create(path, &self.temporaries)
    }

    /// Writes a file; a regular one whole or not at all.
    pub fn write(&self, path: &Path, contents: &[u8]) -> Result<(), Failure> {
        let mut file = self.create(path)?;
        file.write_all(contents).map_err(Failure::writing(path))?;
        file.finish()
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints text as it is, unless JSON was asked for.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        if self.stdout_is_a_file {
            // There is nowhere to report that the standard error is closed.
            let _ = io::stderr().write_all(text.as_bytes());
            return Ok(());
        }
        raw(text.as_bytes())
    }

    /// Prints what a program has written, byte for byte, unless JSON was asked for.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        match self.json {
            true => Ok(()),
            false => raw(bytes),
        }
    }

    /// Prints the document, which is a JSON object, with the version of its form, if JSON was asked for.
    pub fn json(&self, document: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(&Document { schema: SCHEMA, document }).map_err(Failure::input)?;
        text.push('\n');
        raw(text.as_bytes())
    }

    /// Prints a line on the standard error, unless JSON was asked for.
    pub fn note(&self, line: &str) {
        if !self.json {
            // There is nowhere to report that the standard error is closed.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

fn raw(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Input(format!("cannot write to the standard output: {error}")),
    })
}

/// A number with its digits in groups of three: `1 234 567`.
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

/// `1 element`, `2 elements`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Rows as a table: the first column left-aligned, the others right-aligned, two blanks between them.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            match column {
                0 => line.extend([cell.as_str(), &fill]),
                _ => line.extend(["  ", &fill, cell]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(counted(1, "command"), "1 command");
        assert_eq!(counted(0, "command"), "0 commands");
    }

    #[test]
    fn numbers_are_aligned_at_the_right() {
        let rows = [["name", "n"], ["a", "10"], ["long name", "5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "name        n\na          10\nlong name   5\n");
    }
}
