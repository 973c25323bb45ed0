//! A configuration as a file gives it: which fields it has, which are assumed, and what it is called.

use std::collections::BTreeMap;

use toml::{Spanned, Table, Value};

use super::{ConfigError, GemminiConfig, ValidConfig};

/// A configuration read from a file, before its rules are checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    pub(super) record: GemminiConfig,
    pub(super) read: Vec<&'static str>,
    /// Configuration that the other fields are taken from, if any are.
    pub(super) base: Option<GemminiConfig>,
    /// Beginning of the name where the file gives none.
    pub(super) stem: String,
}

/// Reading.
impl ConfigFile {
    /// Reads TOML or a `gemmini_params.h`, which the text tells.
    ///
    /// # Errors
    /// Those of [`GemminiConfig::from_toml_str`] or [`GemminiConfig::from_params_h`] but for broken rules, and files that
    /// only stand for one: git's links and large-file pointers, web pages.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(placeholder) = placeholder(text) {
            return Err(placeholder);
        }
        if is_header(text) { Self::from_params_h(text) } else { Self::from_toml_str(text) }
    }

    /// Reads TOML.
    pub(super) fn from_toml_str(text: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut fields: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(text)?;
        let stem = "config".to_owned();
        let read = |fields: &BTreeMap<Spanned<String>, Spanned<Value>>| {
            let names = GemminiConfig::default16().settings().into_iter().map(|(name, _)| name);
            names.filter(|name| fields.keys().any(|key| key.get_ref() == name)).collect()
        };
        let Some(base) = fields.remove("base") else {
            let read = read(&fields);
            return Ok(Self { record: toml::from_str(text)?, read, base: None, stem });
        };
        let base = match base.into_inner() {
            Value::String(name) => GemminiConfig::by_name(&name)?.into_inner(),
            other => return Err(ConfigError::Base(other.to_string())),
        };
        let (read, named) = (read(&fields), fields.contains_key("name"));
        let mut record = overridden(&base, fields, text)?;
        if !named {
            record.name.clear();
        }
        Ok(Self { record, read, stem: base.name.clone(), base: Some(base) })
    }
}

/// Using.
impl ConfigFile {
    /// Calls the configuration after its file, unless it has a name of its own or is the named one that it starts from.
    pub fn named_after(self, stem: &str) -> Self {
        Self { stem: stem.to_owned(), ..self }
    }

    /// Fields that the file gives.
    pub fn fields_read(&self) -> &[&'static str] {
        &self.read
    }

    /// Fields that the file does not give, and where their values come from.
    pub fn fields_assumed(&self) -> Vec<&'static str> {
        let names = self.record.settings().into_iter().map(|(name, _)| name);
        names.filter(|name| !self.read.contains(name)).collect()
    }

    /// The configuration, under a name of its own: the file's, or one made of the file's stem and the digest.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn config(self) -> Result<ValidConfig, ConfigError> {
        let mut record = self.record;
        if record.name.is_empty() {
            let digest = record.digest();
            record.name = match self.base {
                Some(base) if base.digest() == digest => base.name,
                _ => format!("{}-{:08x}", self.stem, digest >> 32),
            };
        }
        record.validated()
    }
}

/// The base with the fields of a text, one by one, so that an error has its line.
fn overridden(
    base: &GemminiConfig,
    fields: BTreeMap<Spanned<String>, Spanned<Value>>,
    text: &str,
) -> Result<GemminiConfig, ConfigError> {
    let known: Vec<&str> = base.settings().into_iter().map(|(name, _)| name).chain(["name"]).collect();
    let mut table = Table::try_from(base)?;
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in fields {
        let line = 1 + text[..key.span().start].matches('\n').count();
        let field = key.into_inner();
        let error = |problem| ConfigError::Field { line, field: field.clone(), problem };
        if !known.contains(&field.as_str()) {
            return Err(error("unknown field; `pollux config` lists all".to_owned()));
        }
        match value.into_inner() {
            Value::String(none) if none == "none" => table.remove(&field),
            value => table.insert(field.clone(), value),
        };
        let changed: Result<GemminiConfig, toml::de::Error> = table.clone().try_into();
        changed.map_err(|e| error(e.message().trim_end().to_owned()))?;
    }
    Ok(table.try_into()?)
}

/// What a file is that stands for another one.
fn placeholder(text: &str) -> Option<ConfigError> {
    let first = text.lines().next().unwrap_or_default().trim();
    let error = |what, remedy| Some(ConfigError::Placeholder { what, remedy });
    if first.starts_with("version https://git-lfs.") {
        return error("a pointer of Git LFS", "fetch the file itself with `git lfs pull`".to_owned());
    }
    if first.to_ascii_lowercase().starts_with("<!doctype") || first.to_ascii_lowercase().starts_with("<html") {
        return error("a web page", "download the file itself (\"raw\")".to_owned());
    }
    let one_word = text.split_whitespace().count() == 1 && !text.contains(['=', '#', '"']);
    if one_word && (first.contains('/') || first.ends_with(".h") || first.ends_with(".toml")) {
        return error("a symbolic link as git stores it", format!("give the file that it points to, `{first}`"));
    }
    None
}

/// Whether the text is C: some line is a directive or a type definition.
fn is_header(text: &str) -> bool {
    let directives = ["define", "ifndef", "ifdef", "if", "include", "pragma", "undef"];
    text.lines().map(str::trim).any(|line| match line.strip_prefix('#') {
        Some(rest) => {
            let word: String = rest.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
            // `# include the lean build` is a comment of TOML.
            let c_like = rest.trim_start()[word.len()..]
                .trim_start()
                .starts_with(|c: char| "<\"_(!".contains(c) || c.is_ascii_uppercase());
            directives.contains(&word.as_str()) && c_like
        }
        None => line.starts_with("typedef "),
    })
}
