//! Places that texts name: cycles, rows of local memories, bytes of main memory, by numbers or by the program's own names.

use std::ops::Range;

use pollux_asm::Program;
use thiserror::Error;

/// A text that means nothing, with the place in it and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {problem}", self.at())]
pub struct ParseError {
    /// The whole text.
    pub text: String,
    /// The word at which it fails; empty if one is missing at the end.
    pub place: String,
    /// What is wrong, and what could stand there.
    pub problem: String,
}

impl ParseError {
    fn at(&self) -> String {
        match (self.text.trim(), self.place.as_str()) {
            ("", _) => "at the end of the line".to_owned(),
            (text, "") => format!("`{text}`, at its end"),
            (text, place) => format!("`{text}`, at `{place}`"),
        }
    }
}

/// A local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The scratchpad.
    Scratchpad,
    /// The accumulator.
    Accumulator,
}

/// Rows of a local memory, or bytes of main memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// Rows, counted through all banks.
    Rows(Local, Range<u32>),
    /// Bytes.
    Bytes(Range<u64>),
}

/// A number, decimal or hexadecimal.
pub(crate) fn number(word: &str) -> Option<u64> {
    let digits = word.replace('_', "");
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

impl Places {
    /// Reads `spad[ROWS]`, `acc[ROWS]` or `mem[BYTES]`. Rows and bytes are a number, a range `A..B` without its end, or a name: of a
    /// local region, or of a buffer. None if the word is of another form.
    ///
    /// # Errors
    /// What stands between the brackets is nothing of the program.
    pub fn parse(word: &str, program: &Program) -> Option<Result<Self, String>> {
        let (kind, rest) = word.split_once('[')?;
        let inside = rest.strip_suffix(']');
        let of_rows = |local, inside: &str| rows(local, inside, program).map(|rows| Self::Rows(local, rows));
        let parsed = match (kind, inside) {
            ("spad" | "acc" | "mem", None) => Err(format!("`]` is missing behind `{word}`")),
            ("spad", Some(inside)) => of_rows(Local::Scratchpad, inside),
            ("acc", Some(inside)) => of_rows(Local::Accumulator, inside),
            ("mem", Some(inside)) => bytes(inside, program).map(Self::Bytes),
            _ => return None,
        };
        Some(parsed)
    }
}

fn range(inside: &str) -> Option<Range<u64>> {
    let Some((first, end)) = inside.split_once("..") else {
        let first = number(inside.trim())?;
        return Some(first..first.checked_add(1)?);
    };
    Some(number(first.trim())?..number(end.trim())?)
}

fn rows(local: Local, inside: &str, program: &Program) -> Result<Range<u32>, String> {
    let accumulator = local == Local::Accumulator;
    if let Some(region) = program.regions.iter().find(|of| of.name == inside && of.accumulator == accumulator) {
        return Ok(region.row..region.row + region.rows);
    }
    let all = u64::from(if accumulator { program.config.acc_rows() } else { program.config.sp_rows() });
    match range(inside) {
        Some(rows) if rows.start < rows.end && rows.end <= all => Ok(rows.start as u32..rows.end as u32),
        Some(_) => Err(format!("rows {inside} are not in this memory: it has the rows 0..{all}")),
        None => {
            let names = names(program.regions.iter().filter(|of| of.accumulator == accumulator).map(|of| &of.name));
            Err(format!("`{inside}` is no row: write a row, a range such as 0x10..0x20{names}"))
        }
    }
}

fn bytes(inside: &str, program: &Program) -> Result<Range<u64>, String> {
    if let Some(buffer) = program.buffer(inside) {
        return Ok(buffer.range());
    }
    match range(inside) {
        Some(bytes) if bytes.start < bytes.end => Ok(bytes),
        Some(_) => Err(format!("{inside} has no byte: the end must be behind the start")),
        None => {
            let names = names(program.buffers.iter().map(|buffer| &buffer.name));
            Err(format!("`{inside}` is no address: write an address, a range such as 0x80000000..0x80000040{names}"))
        }
    }
}

/// The first few names that could have been meant.
fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.take(6).map(String::as_str).collect();
    if names.is_empty() { String::new() } else { format!(", or one of the names {}", names.join(", ")) }
}

/// The words of a text, with errors that name the place.
#[derive(Clone, Debug)]
pub(crate) struct Words<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Words<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, rest: text.trim() }
    }

    /// The next word; a quoted one may have spaces.
    pub fn peek(&self) -> &'t str {
        let rest = self.rest;
        if let Some(quoted) = rest.strip_prefix('"') {
            return quoted.split('"').next().unwrap_or(quoted);
        }
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        // A range in brackets may have spaces.
        match (rest[..end].contains('['), rest[..end].contains(']'), rest.find(']')) {
            (true, false, Some(close)) => &rest[..=close],
            _ => &rest[..end],
        }
    }

    pub fn next(&mut self) -> &'t str {
        let word = self.peek();
        let quotes = if self.rest.starts_with('"') { word.len() + 2 } else { word.len() };
        self.rest = self.rest.get(quotes..).unwrap_or("").trim_start();
        word
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.next();
        }
        is_next
    }

    /// What has not been read.
    pub fn rest(&self) -> &'t str {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word as a number.
    pub fn number(&mut self, what: &str) -> Result<u64, ParseError> {
        let word = self.peek();
        match number(word) {
            Some(number) => {
                self.next();
                Ok(number)
            }
            None => Err(self.error(format!("a number is needed here: {what}"))),
        }
    }

    /// The next word as a number, or what is meant if nothing follows.
    pub fn number_or(&mut self, otherwise: u64, what: &str) -> Result<u64, ParseError> {
        if self.is_empty() { Ok(otherwise) } else { self.number(what) }
    }

    /// The next word as a number, if it is one.
    pub fn optional_number(&mut self) -> Option<u64> {
        let number = number(self.peek())?;
        self.next();
        Some(number)
    }

    /// A fault at the next word.
    pub fn error(&self, problem: impl Into<String>) -> ParseError {
        ParseError { text: self.text.to_owned(), place: self.peek().to_owned(), problem: problem.into() }
    }

    /// Nothing may follow.
    pub fn end(&self, what: &str) -> Result<(), ParseError> {
        if self.is_empty() { Ok(()) } else { Err(self.error(format!("nothing stands behind {what}: leave it out"))) }
    }
}
