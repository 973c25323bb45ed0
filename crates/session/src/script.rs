//! The commands of a debugger as lines of text, and their results as JSON: for tests, graders and the terminal's command line.

use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::error::SessionError;
use crate::places::{Local, ParseError, Places, Words};
use crate::session::{Found, Session};
use crate::why::Subject;

/// Rows or bytes that one line shows at most.
const MOST_ROWS: u64 = 4096;

const COMMANDS: &str = "write one of goto, step, back, end, until, reverse-until, view, why";

/// A line that does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `goto CYCLE`
    Goto(u64),
    /// `step [N]`
    Step(u64),
    /// `back [N]`
    Back(u64),
    /// `end`
    End,
    /// `until CONDITION`
    Until(String),
    /// `reverse-until CONDITION`
    ReverseUntil(String),
    /// `view [PATH]`
    View(String),
    /// `why SUBJECT`
    Why(Subject),
}

impl Line {
    /// Reads a line; none if it is empty or a comment (`#`).
    ///
    /// # Errors
    /// The word that means nothing, and what could stand there.
    pub fn parse(text: &str) -> Result<Option<Self>, ParseError> {
        let mut words = Words::new(text);
        if words.is_empty() || words.rest().starts_with('#') {
            return Ok(None);
        }
        let at_command = words.clone();
        let condition = |words: &Words<'_>| match words.rest() {
            "" => Err(words.error("a condition is missing: such as `mark NAME` or `spad[0x10] written`")),
            rest => Ok(rest.to_owned()),
        };
        let line = match words.next() {
            "goto" => Self::Goto(words.number("the cycle")?),
            "step" => Self::Step(words.number_or(1, "of cycles")?),
            "back" => Self::Back(words.number_or(1, "of cycles")?),
            "end" => Self::End,
            "until" => return Ok(Some(Self::Until(condition(&words)?))),
            "reverse-until" => return Ok(Some(Self::ReverseUntil(condition(&words)?))),
            "view" => return Ok(Some(Self::View(words.rest().to_owned()))),
            "why" => return Ok(Some(Self::Why(Subject::parse(words.rest())?))),
            _ => return Err(at_command.error(format!("this is no command: {COMMANDS}"))),
        };
        words.end("it")?;
        Ok(Some(line))
    }
}

impl Session {
    /// Does what a line says. The result is an object with the cycle afterwards, and what was asked for.
    ///
    /// # Errors
    /// What the line asks for is not there; the session is where it was.
    pub fn execute(&mut self, line: &Line) -> Result<Value, SessionError> {
        let mut result = Map::new();
        match line {
            Line::Goto(cycle) => self.goto(*cycle)?,
            Line::Step(cycles) => drop(self.step(*cycles)?),
            Line::Back(cycles) => drop(self.back(*cycles)?),
            Line::End => drop(self.goto_end()?),
            Line::Until(text) => {
                let condition = self.condition(text)?;
                result.insert("hit".into(), hit(self.run_until(&condition)?));
            }
            Line::ReverseUntil(text) => {
                let condition = self.condition(text)?;
                result.insert("hit".into(), hit(self.reverse_until(&condition)?));
            }
            Line::View(path) => drop(result.insert("view".into(), self.view_of(path)?)),
            Line::Why(subject) => {
                let explanation = self.why(*subject)?;
                result.insert("why".into(), plain(&explanation));
            }
        }
        result.insert("cycle".into(), self.cycle().into());
        result.insert("ended".into(), self.ended().into());
        if let Some(error) = self.end_error().filter(|_| self.ended()) {
            result.insert("end".into(), error.to_string().into());
        }
        Ok(Value::Object(result))
    }

    /// What stands at a path of the view: all of it, a part (`station.load`, `blocks.3`), `array` or a part of it, rows of a local memory
    /// (`spad[0..16]`), or bytes of main memory (`mem[C]`).
    ///
    /// # Errors
    /// There is nothing of that name.
    pub fn view_of(&mut self, path: &str) -> Result<Value, SessionError> {
        let path = path.trim();
        if let Some(places) = Places::parse(path, self.program()) {
            let words = Words::new(path);
            return self.contents(places.map_err(|problem| words.error(problem))?, &words);
        }
        let mut parts = path.split('.').filter(|part| !part.is_empty()).peekable();
        let mut value = if parts.next_if_eq(&"array").is_some() { plain(&self.array()?) } else { plain(&self.view()?) };
        for part in parts {
            value = match value {
                Value::Object(mut fields) => match fields.remove(part) {
                    Some(value) => value,
                    None => return Err(missing(path, part, fields.keys().map(String::as_str)).into()),
                },
                Value::Array(mut items) => match part.parse::<usize>().ok().filter(|i| *i < items.len()) {
                    Some(i) => items.swap_remove(i),
                    None => {
                        let problem = format!("there are {} here, counted from 0", items.len());
                        return Err(ParseError { text: path.to_owned(), place: part.to_owned(), problem }.into());
                    }
                },
                _ => return Err(missing(path, part, std::iter::empty()).into()),
            };
        }
        Ok(value)
    }

    fn contents(&self, places: Places, words: &Words<'_>) -> Result<Value, SessionError> {
        let most = |count: u64| match count {
            0..=MOST_ROWS => Ok(()),
            _ => Err(words.error(format!("{count} are too many to show: ask for {MOST_ROWS} at most"))),
        };
        Ok(match places {
            Places::Bytes(bytes) => {
                most(bytes.end - bytes.start)?;
                let data = self.memory().read_vec(bytes.start, (bytes.end - bytes.start) as usize);
                json!({ "address": format!("{:#x}", bytes.start), "bytes": data })
            }
            Places::Rows(local, rows) => {
                most(u64::from(rows.end - rows.start))?;
                json!({ "first": rows.start, "rows": self.rows(local, rows) })
            }
        })
    }

    /// Elements of some rows of a local memory.
    pub fn rows(&self, local: Local, rows: Range<u32>) -> Vec<Vec<i32>> {
        let row = |row| match local {
            Local::Scratchpad => self.scratchpad_row(row).map(|row| row.iter().map(|x| i32::from(*x)).collect()),
            Local::Accumulator => self.accumulator_row(row).map(<[i32]>::to_vec),
        };
        rows.filter_map(row).collect()
    }
}

fn missing<'a>(path: &str, part: &str, names: impl Iterator<Item = &'a str>) -> ParseError {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let problem = match names.is_empty() {
        true => "nothing stands below this value".to_owned(),
        false => format!(
            "there is no such part: there are {}, and above all array, spad[..], acc[..], mem[..]",
            names.join(", ")
        ),
    };
    ParseError { text: path.to_owned(), place: part.to_owned(), problem }
}

fn hit(found: Found) -> Value {
    match found {
        Found::Hit(cycle) => cycle.into(),
        Found::Nothing(_) => Value::Null,
    }
}

/// As JSON. Views are plain data.
fn plain(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
