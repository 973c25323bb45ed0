//! How a command ends: the exit codes, and errors as text or JSON.

use std::fmt;
use std::io;
use std::path::Path;

use pollux_asm::Diagnostics;
use serde_json::{Map, Value, json};

use crate::output::Output;

/// How a command ended that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was checked agrees.
    Agrees,
    /// Something that was checked does not.
    Differs,
    /// A program ended with this code, which the command passes on.
    Code(u8),
}

impl Outcome {
    /// `Agrees` if true.
    pub fn of(agrees: bool) -> Self {
        if agrees { Self::Agrees } else { Self::Differs }
    }

    /// 0 or 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Agrees => 0,
            Self::Differs => 1,
            Self::Code(code) => code,
        }
    }
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The reader of the standard output, or of a pipe among the outputs, went away.
    Closed,
    /// Arguments that are wrong, or a wish for help.
    Arguments(clap::Error),
    /// Arguments that do not go together.
    Usage(String),
    /// A file that cannot be read or written, or contents that have errors.
    Input(String),
    /// Errors in assembly text, with their places.
    Assembly(Diagnostics),
    /// The program is illegal, or the hardware would stop.
    Program(Vec<String>),
    /// The same behind a run whose results so far are worth telling.
    Stopped {
        /// Why.
        message: String,
        /// Fields of the JSON document.
        so_far: Map<String, Value>,
    },
}

impl From<pollux::Error> for Failure {
    fn from(error: pollux::Error) -> Self {
        match error {
            pollux::Error::Text(diagnostics) => Self::Assembly(diagnostics),
            pollux::Error::Illegal(lines) => Self::Program(lines),
            pollux::Error::Stopped(stopped) => Self::Program(vec![stopped.to_string()]),
            pollux::Error::StoppedWithoutValues(stopped) => Self::Program(vec![stopped.to_string()]),
            pollux::Error::NeedsValues(reason) => Self::Usage(format!("{reason}: leave out --no-values")),
            other => Self::Input(other.to_string()),
        }
    }
}

impl Failure {
    /// Bad input.
    pub fn input(error: impl fmt::Display) -> Self {
        Self::Input(error.to_string())
    }

    /// A file that cannot be read.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Input(format!("cannot read `{}`: {error}", path.display()))
    }

    /// A file that cannot be written; a pipe whose reader went away is closed.
    pub fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Input(format!("cannot write `{}`: {error}", path.display())),
        }
    }

    /// 2 to 4, or 141 (128 + SIGPIPE); 0 for help.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(error) => u8::from(error.use_stderr()) * 2,
            Self::Usage(_) => 2,
            Self::Input(_) | Self::Assembly(_) => 3,
            Self::Program(_) | Self::Stopped { .. } => 4,
            Self::Closed => 141,
        }
    }

    /// Tells the user; the exit code.
    pub fn report(&self, out: &Output) -> u8 {
        let code = self.exit_code();
        if let Self::Arguments(error) = self
            && (code == 0 || !out.is_json())
        {
            // Nothing is left to be done if the output is closed.
            let _ = error.print();
        } else if out.is_json() {
            // Nothing is left to be done if the output is closed.
            let _ = out.json(&self.document(code));
        } else if !matches!(self, Self::Closed) {
            out.note(&format!("error: {}", self.to_string().trim_end()));
        }
        code
    }

    fn document(&self, code: u8) -> Map<String, Value> {
        let mut document = match self {
            Self::Stopped { so_far, .. } => so_far.clone(),
            _ => Map::new(),
        };
        let text = self.to_string();
        document.insert("error".to_owned(), json!(text.trim_end()));
        document.insert("exit_code".to_owned(), json!(code));
        document.insert("errors".to_owned(), json!(self.list()));
        document
    }

    /// The single errors, with their places if they have any.
    fn list(&self) -> Vec<Value> {
        match self {
            Self::Assembly(diagnostics) => diagnostics.0.iter().map(diagnostic_json).collect(),
            Self::Program(errors) => errors.iter().map(|message| json!({ "message": message })).collect(),
            other => vec![json!({ "message": other.to_string() })],
        }
    }
}

/// The message without its heading, usage and hint at the help, which are for a screen.
fn arguments_text(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\nUsage:").next().unwrap_or(text).trim_end().to_owned()
}

fn diagnostic_json(diagnostic: &pollux_asm::Diagnostic) -> Value {
    let (line, column) = diagnostic.position();
    json!({
        "message": diagnostic.message, "file": diagnostic.file.name, "line": line, "column": column, "help": diagnostic.help,
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(error) => f.write_str(&arguments_text(error)),
            Self::Closed => f.write_str("the reader of the output went away"),
            Self::Usage(message) | Self::Input(message) | Self::Stopped { message, .. } => f.write_str(message),
            Self::Assembly(diagnostics) => write!(f, "{diagnostics}\n{}", diagnostics.render()),
            Self::Program(errors) => f.write_str(&errors.join("\n")),
        }
    }
}
