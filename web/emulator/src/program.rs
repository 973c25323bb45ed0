//! Programs: assembling with diagnostics, and how they run.

use pollux::{Config, Program};
use pollux_asm::{Assembler, Diagnostic, Diagnostics, binary};
use pollux_isa::GemminiConfig;
use pollux_isa::config::ConfigFile;
use pollux_session::Setup;
use pollux_sim::machine::{PageTables, Translation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files::PageFiles;

/// How a program runs, as the options of the command line say it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetupText {
    /// `--memory`; empty for the default.
    pub memory: String,
    /// `--interval`; 0 for the default.
    pub interval: u64,
    /// `--processor`; empty for none.
    pub processor: String,
    /// `--page-walk`; 0 for none.
    pub page_walk: u32,
}

impl SetupText {
    pub(crate) fn setup(&self) -> Result<Setup, Fault> {
        let default = Setup::default();
        let memory = match self.memory.as_str() {
            "" => default.memory,
            text => text.parse().map_err(Fault::of)?,
        };
        let processor = match self.processor.as_str() {
            "" => None,
            text => Some(text.parse().map_err(Fault::of)?),
        };
        let paged = |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency };
        let translation = if self.page_walk == 0 { Translation::Bare } else { paged(self.page_walk) };
        Ok(Setup { memory, translation, interval: self.interval.max(1), processor })
    }
}

/// What is wrong, for people; in a text with the places.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// In words.
    pub message: String,
    /// Each error of a text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Value>,
}

impl Fault {
    pub(crate) fn of(error: impl ToString) -> Self {
        Self { message: error.to_string(), diagnostics: Vec::new() }
    }

    fn text(diagnostics: &Diagnostics) -> Self {
        Self { message: diagnostics.to_string(), diagnostics: diagnostics.0.iter().map(diagnostic).collect() }
    }
}

/// An error with its place: bytes are turned into lines and columns, both from 1.
fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let (line, column) = diagnostic.position();
    let span = diagnostic.labels.first().map_or(0..0, |label| label.span.clone());
    let marked = diagnostic.file.text.get(span).and_then(|text| text.lines().next()).unwrap_or("");
    json!({
        "message": diagnostic.message, "file": diagnostic.file.name, "line": line, "column": column,
        "length": marked.chars().count().max(1), "help": diagnostic.help,
        "remarks": diagnostic.labels.iter().map(|label| &label.text).filter(|text| !text.is_empty()).collect::<Vec<_>>(),
    })
}

/// The configuration of a name, or of a text in TOML or as a `gemmini_params.h`; none of an empty one.
pub(crate) fn configuration(text: &str) -> Result<Option<Config>, Fault> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let config =
        if is_name { GemminiConfig::by_name(text) } else { ConfigFile::parse(text).and_then(ConfigFile::config) };
    config.map(Some).map_err(Fault::of)
}

/// The program of some contents, which are text or a binary.
pub(crate) fn assemble(
    name: &str,
    contents: Vec<u8>,
    config: Option<&Config>,
    files: &PageFiles,
) -> Result<Program, Fault> {
    let program = if Program::is_binary(&contents) {
        binary::read(&contents).map_err(Fault::of)?
    } else {
        let assembler = Assembler::default().with_files(files);
        let assembler = match config {
            Some(config) => assembler.with_default_config(config.clone()),
            None => assembler,
        };
        assembler.assemble_contents(name, contents).map_err(|diagnostics| Fault::text(&diagnostics))?
    };
    if let Some(config) = config {
        binary::check_configuration(&program, config).map_err(Fault::of)?;
    }
    Ok(program.into())
}
