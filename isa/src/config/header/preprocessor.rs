//! As much of the C preprocessor as headers of parameters need: macros without arguments, conditions, comments.

use std::collections::HashMap;

use super::expression::evaluate;
use crate::config::ConfigError;

/// What a header defines.
#[derive(Debug, Default)]
pub struct Header {
    macros: HashMap<String, String>,
    /// Type names and what they stand for.
    pub types: HashMap<String, String>,
    /// Files that it includes in quotes.
    pub includes: Vec<String>,
}

/// One `#if` with its branches.
struct Condition {
    line: usize,
    /// The branch that is read now counts.
    active: bool,
    /// A branch has counted already.
    taken: bool,
}

impl Header {
    /// Reads a text with lines of any ending.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut header = Self::default();
        let mut conditions: Vec<Condition> = Vec::new();
        for (line, content) in logical_lines(&without_comments(text)) {
            let content = content.trim();
            let active = conditions.iter().all(|condition| condition.active);
            let error = |problem: String| ConfigError::HeaderLine { line, problem };
            match content.strip_prefix('#').map(str::trim_start).map(directive) {
                Some((word, rest)) => {
                    let is_condition = header.condition(line, word, rest, &mut conditions).map_err(error)?;
                    if active && !is_condition {
                        header.define(word, rest);
                    }
                }
                None if active => header.type_definition(content),
                None => {}
            }
        }
        match conditions.last() {
            None => Ok(header),
            Some(Condition { line, .. }) => {
                Err(ConfigError::HeaderLine { line: *line, problem: "this condition has no #endif".to_owned() })
            }
        }
    }

    /// The text of a macro, if it is defined.
    pub fn definition(&self, name: &str) -> Option<&str> {
        self.macros.get(name).map(String::as_str)
    }

    /// The value of a macro, if it is defined.
    pub fn number(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.definition(name) else { return Ok(None) };
        let number = evaluate(value, &|name| self.definition(name));
        let number = number.and_then(|n| u32::try_from(n).map_err(|_| format!("{n} is out of range")));
        number.map(Some).map_err(|problem| ConfigError::HeaderValue {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: format!("a number: {problem}"),
        })
    }

    /// Whether the directive is one of conditions, and if so, what it does to them.
    fn condition(&self, line: usize, word: &str, rest: &str, conditions: &mut Vec<Condition>) -> Result<bool, String> {
        let outer = conditions.iter().all(|condition| condition.active);
        let holds = |holds: bool| Condition { line, active: outer && holds, taken: !outer || holds };
        match word {
            "if" => conditions.push(holds(outer && self.truth(rest)?)),
            "ifdef" => conditions.push(holds(self.definition(rest).is_some())),
            "ifndef" => conditions.push(holds(self.definition(rest).is_none())),
            "elif" | "else" => {
                let condition = conditions.last_mut().ok_or_else(|| format!("#{word} without #if"))?;
                let holds = !condition.taken && (word == "else" || self.truth(rest)?);
                (condition.active, condition.taken) = (holds, condition.taken || holds);
            }
            "endif" => {
                conditions.pop().ok_or("#endif without #if")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn truth(&self, expression: &str) -> Result<bool, String> {
        let defined = |name: &str| if self.macros.contains_key(name) { "1" } else { "0" };
        let mut text = String::new();
        let mut rest = expression;
        while let Some((before, after)) = rest.split_once("defined") {
            let name = after.trim_start_matches([' ', '\t', '(']);
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            text.push_str(before);
            text.push_str(defined(&name[..end]));
            let parenthesis = after.trim_start().starts_with('(');
            rest = &name[end..];
            if parenthesis {
                rest = rest.trim_start().strip_prefix(')').ok_or("`defined(` without `)`")?;
            }
        }
        text.push_str(rest);
        // A name that is not defined counts as 0 in a condition.
        evaluate(&text, &|name| Some(self.definition(name).unwrap_or("0"))).map(|value| value != 0)
    }

    fn define(&mut self, word: &str, rest: &str) {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, value) = rest.split_at(end);
        match word {
            // A macro with arguments says nothing about the hardware.
            "define" if !value.starts_with('(') => {
                self.macros.insert(name.to_owned(), value.trim().to_owned());
            }
            "undef" => drop(self.macros.remove(name)),
            "include" => {
                let quoted = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                self.includes.extend(quoted.map(str::to_owned));
            }
            _ => {}
        }
    }

    fn type_definition(&mut self, content: &str) {
        if let Some(definition) = content.strip_prefix("typedef ")
            && let Some((ty, name)) = definition.trim_end_matches([';', ' ']).rsplit_once(char::is_whitespace)
        {
            let words: Vec<&str> = ty.split_whitespace().collect();
            self.types.insert(name.to_owned(), words.join(" "));
        }
    }
}

/// The word of a directive and what follows it.
fn directive(content: &str) -> (&str, &str) {
    let end = content.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(content.len());
    (&content[..end], content[end..].trim())
}

/// The text with spaces in place of comments; lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        out.push_str(&rest[..start]);
        out.push(' ');
        let comment = &rest[start..];
        let len = if comment.starts_with("//") {
            comment.find('\n').unwrap_or(comment.len())
        } else {
            comment[2..].find("*/").map_or(comment.len(), |end| end + 4)
        };
        out.extend(comment[..len].matches('\n'));
        rest = &comment[len..];
    }
    out.push_str(rest);
    out
}

/// Lines with their numbers; a line that ends in a backslash goes on in the next one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_end();
        let content = trimmed.strip_suffix('\\').unwrap_or(trimmed);
        match lines.last_mut() {
            Some((_, last)) if continues => last.push_str(content),
            _ => lines.push((index + 1, content.to_owned())),
        }
        continues = content.len() < trimmed.len();
    }
    lines
}
