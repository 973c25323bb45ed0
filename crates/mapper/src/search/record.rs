//! What the emulator has said so far, as lines of text: a search that was interrupted takes it up again.
//!
//! A search is determined by its settings, so that with the same answers it takes the same way; those that are known are not asked for
//! again. The answers depend on build, operation, memory and host, and on nothing else: a record serves other searches of the same
//! operation as well.

use std::collections::HashMap;

use pollux_isa::ValidConfig;
use pollux_sim::counts::EventCounts;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::emulate::Surroundings;
use crate::mapping::Mapping;
use crate::problem::Problem;

/// The first line: what the answers are for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    /// Version of the form.
    pollux_runs: u32,
    config: serde_json::Value,
    problem: Problem,
    memory: String,
    interval: u64,
}

/// Version of the form.
const VERSION: u32 = 1;

/// What the emulator said of a mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Cycles and counts.
    Measured { cycles: u64, counts: Box<EventCounts> },
    /// Stopped at a limit of so many cycles.
    Stopped { cycles: u64 },
    /// It cannot be emitted.
    Refused { why: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    mapping: Mapping,
    answer: Answer,
}

/// Why a record cannot be taken up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A line that is none of a record.
    #[error("line {line}: {what}")]
    Line {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Runs of something else.
    #[error("line 1: these are runs of another {what}: give another file, or the same {what}")]
    Other {
        /// What differs.
        what: &'static str,
    },
}

/// Known answers, and a place for new ones.
pub struct Record<'w> {
    answers: HashMap<Mapping, Answer>,
    write: Box<dyn FnMut(&str) + 'w>,
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self { answers: HashMap::new(), write: Box::new(|_| {}) }
    }
}

impl<'w> Record<'w> {
    /// The first line of a new record, with its end.
    pub fn heading(config: &ValidConfig, problem: &Problem, around: &Surroundings) -> String {
        line(&Heading {
            pollux_runs: VERSION,
            config: serde_json::to_value(&**config).unwrap_or_default(),
            problem: *problem,
            memory: around.memory.to_string(),
            interval: around.interval,
        })
    }

    /// Takes up a record; new answers go to `write`, a line each. The second result is the length of the text up to which it is whole: a
    /// last line that was not finished is left out.
    ///
    /// # Errors
    /// Text that is no record, or one of another operation, build, memory or host.
    pub fn read(
        text: &str,
        config: &ValidConfig,
        problem: &Problem,
        around: &Surroundings,
        write: impl FnMut(&str) + 'w,
    ) -> Result<(Self, usize), RecordError> {
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines().enumerate().map(|(index, text)| (index + 1, text));
        let wrong = |line: usize, error: serde_json::Error| RecordError::Line { line, what: error.to_string() };
        let mut answers = HashMap::new();
        if let Some((number, first)) = lines.next() {
            let found: Heading = serde_json::from_str(first).map_err(|error| wrong(number, error))?;
            let own: Heading =
                serde_json::from_str(&Self::heading(config, problem, around)).map_err(|error| wrong(number, error))?;
            let differences = [
                (found.pollux_runs != own.pollux_runs, "version of Pollux"),
                (found.config != own.config, "configuration"),
                (found.problem != own.problem, "operation"),
                (found.memory != own.memory, "memory"),
                (found.interval != own.interval, "interval"),
            ];
            if let Some((_, what)) = differences.into_iter().find(|(differs, _)| *differs) {
                return Err(RecordError::Other { what });
            }
        }
        for (number, text) in lines {
            let Line { mapping, answer } = serde_json::from_str(text).map_err(|error| wrong(number, error))?;
            answers.insert(mapping, answer);
        }
        Ok((Self { answers, write: Box::new(write) }, whole))
    }

    /// Answers that are known.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The answer for a mapping under a limit of cycles, if it is known.
    pub(crate) fn answer(&self, mapping: &Mapping, limit: u64) -> Option<Answer> {
        match self.answers.get(mapping)? {
            Answer::Measured { cycles, .. } if *cycles > limit => Some(Answer::Stopped { cycles: limit }),
            Answer::Stopped { cycles } => (limit <= *cycles).then_some(Answer::Stopped { cycles: limit }),
            answer => Some(answer.clone()),
        }
    }

    /// A new answer.
    pub(crate) fn note(&mut self, mapping: &Mapping, answer: &Answer) {
        (self.write)(&line(&Line { mapping: *mapping, answer: answer.clone() }));
        self.answers.insert(*mapping, answer.clone());
    }
}

/// An object as a line.
fn line(value: &impl Serialize) -> String {
    // Numbers, texts and names only: nothing that JSON has not.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}
