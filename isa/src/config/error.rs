//! Why a configuration cannot be read or used.

use std::fmt;

use thiserror::Error;

use super::GemminiConfig;

/// Why a configuration could not be read or is not usable.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The fields contradict each other or the hardware's rules.
    #[error("configuration `{name}` is not valid:{}", list(.reasons))]
    Invalid {
        /// The configuration's name.
        name: String,
        /// Every rule that it breaks.
        reasons: Vec<Reason>,
    },
    /// No such named configuration.
    #[error("no configuration is called `{name}`: the named ones are {known} and dim4 to dim64", name = .0, known = GemminiConfig::NAMES.join(", "))]
    UnknownName(String),
    /// `base` is not a name.
    #[error("`base` is {0}: it must be the name of a configuration in quotes, such as base = \"default16\"")]
    Base(String),
    /// A field of a TOML text does not exist or has an unusable value.
    #[error("line {line}: `{field}`: {problem}")]
    Field {
        /// Line number from 1.
        line: usize,
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The text is not TOML of the expected form.
    #[error("cannot read the configuration: {0}")]
    Read(#[from] toml::de::Error),
    /// The configuration cannot be written as TOML.
    #[error("cannot write the configuration: {0}")]
    Write(#[from] toml::ser::Error),
    /// What lies here is not the header but what stands for it in a repository.
    #[error("this is {what}, not a configuration: {remedy}")]
    Placeholder {
        /// What it is.
        what: &'static str,
        /// How to get at the configuration.
        remedy: String,
    },
    /// A header lacks a macro or type that a configuration is read from.
    #[error("the header does not define `{0}`: is it a gemmini_params.h?")]
    HeaderMissing(&'static str),
    /// A header defines something with an unusable value.
    #[error("the header defines `{name}` as `{value}`, expected {expected}")]
    HeaderValue {
        /// Macro or type.
        name: String,
        /// Its definition.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// A preprocessor line of a header that makes no sense.
    #[error("line {line} of the header: {problem}")]
    HeaderLine {
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

fn list(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| format!("\n  - {reason}")).collect()
}

/// A rule that a configuration breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// Whose rule it is.
    pub source: Source,
    /// The field, its value and what would be right.
    pub message: String,
}

/// Whose rule it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The generator's: elaboration stops at this line of Gemmini at commit 8c3f992.
    Generator(&'static str),
    /// The hardware's: the generator builds it, but this line keeps every program from its end.
    Hardware(&'static str),
    /// The hardware's: the generator builds it, but at this line some programs lose data; the cycle emulator counts it.
    Lossy(&'static str),
    /// Pollux's: the generator builds it, but Pollux does not model it.
    Model,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Generator(line) => write!(f, "{} ({line})", self.message),
            Source::Hardware(line) => write!(f, "{} (built, but it never ends: {line})", self.message),
            Source::Lossy(line) => write!(f, "{} (built, but programs can lose data: {line})", self.message),
            Source::Model => write!(f, "{} (the generator builds this; Pollux does not model it)", self.message),
        }
    }
}
