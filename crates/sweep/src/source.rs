//! The manifest's text as sections of keys, each with its line, so that every error can name both.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::SweepError;
use crate::table::Value;

/// A table of the manifest.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name with the number, if there are several: `work 2`.
    pub name: String,
    /// First line.
    pub line: usize,
    entries: Vec<Entry>,
    /// Keys that were asked for.
    known: RefCell<Vec<String>>,
}

/// A key and its values: several make an axis.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Line.
    pub line: usize,
    /// Values, in the order of the manifest.
    pub values: Vec<Value>,
    /// Whether they stand in a list.
    pub is_list: bool,
    /// A table inside.
    table: Option<Section>,
}

/// The whole text.
#[derive(Debug)]
pub struct Source {
    /// What stands before the sections.
    pub top: Section,
    /// The tables of each array of tables, by name.
    sections: Vec<(String, Vec<Section>)>,
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at.min(text.len())].matches('\n').count()
}

impl Source {
    /// Reads TOML whose arrays of tables have these names.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, SweepError> {
        let document = DeTable::parse(text)?;
        let mut top = Section::new("manifest", 1);
        let mut sections: Vec<(String, Vec<Section>)> = Vec::new();
        for (key, value) in in_order(document.get_ref()) {
            let line = line_of(text, key.span().start);
            let name = key.get_ref().to_string();
            if !names.contains(&name.as_str()) {
                top.entries.push(Entry::read(text, &name, line, value)?);
                continue;
            }
            let error = || SweepError::Manifest {
                line,
                key: name.clone(),
                message: format!("it must be sections: write [[{name}]]"),
            };
            let tables = value.get_ref().as_array().ok_or_else(error)?;
            let tables: Vec<&Spanned<DeValue<'_>>> = tables.iter().collect();
            let mut read = Vec::new();
            for (index, table) in tables.iter().enumerate() {
                let inside = table.get_ref().as_table().ok_or_else(error)?;
                let label = if tables.len() == 1 { name.clone() } else { format!("{name} {}", index + 1) };
                read.push(Section::read(text, &label, line_of(text, table.span().start), inside)?);
            }
            sections.push((name, read));
        }
        Ok(Self { top, sections })
    }

    /// The sections of this name.
    pub fn sections(&self, name: &str) -> &[Section] {
        self.sections.iter().find(|(known, _)| known == name).map_or(&[], |(_, sections)| sections)
    }
}

/// The entries of a table as they stand in the text; the parser sorts them by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl Entry {
    fn read(text: &str, key: &str, line: usize, value: &Spanned<DeValue<'_>>) -> Result<Self, SweepError> {
        let error = |message: &str| SweepError::Manifest { line, key: key.to_owned(), message: message.to_owned() };
        let (mut values, mut table, mut is_list) = (Vec::new(), None, false);
        match value.get_ref() {
            DeValue::Array(items) => {
                is_list = true;
                for item in items {
                    values.push(scalar(item.get_ref()).map_err(|e| error(&e))?);
                }
                if values.is_empty() {
                    return Err(error("an empty list makes no points: give a value"));
                }
            }
            DeValue::Table(inside) => table = Some(Section::read(text, key, line, inside)?),
            other => values.push(scalar(other).map_err(|e| error(&e))?),
        }
        Ok(Self { key: key.to_owned(), line, values, is_list, table })
    }
}

fn scalar(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| format!("`{number}` is too large")),
        DeValue::Float(number) => {
            number.as_str().parse().map(Value::Float).map_err(|_| format!("`{}` is no number", number.as_str()))
        }
        other => {
            Err(format!("a {} has no place here: give numbers, texts or flags, or a list of them", other.type_str()))
        }
    }
}

impl Section {
    fn new(name: &str, line: usize) -> Self {
        Self { name: name.to_owned(), line, entries: Vec::new(), known: RefCell::default() }
    }

    fn read(text: &str, name: &str, line: usize, table: &DeTable<'_>) -> Result<Self, SweepError> {
        let mut section = Self::new(name, line);
        for (key, value) in in_order(table) {
            let entry = Entry::read(text, key.get_ref(), line_of(text, key.span().start), value);
            section.entries.push(entry.map_err(|error| section.inside(error))?);
        }
        Ok(section)
    }

    /// The error with the section's name before its key.
    fn inside(&self, error: SweepError) -> SweepError {
        match error {
            SweepError::Manifest { line, key, message } => {
                SweepError::Manifest { line, key: format!("{}.{key}", self.name), message }
            }
            other => other,
        }
    }

    /// Its keys.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A key, if it is there.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.known.borrow_mut().push(key.to_owned());
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Something is wrong with a key, or with the section.
    pub fn error(&self, key: &str, message: impl Into<String>) -> SweepError {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let name = match self.name.as_str() {
            "manifest" => key.to_owned(),
            section if key.is_empty() => section.to_owned(),
            section => format!("{section}.{key}"),
        };
        SweepError::Manifest { line: entry.map_or(self.line, |entry| entry.line), key: name, message: message.into() }
    }

    /// A table inside the section.
    pub fn table(&self, key: &str) -> Result<Option<&Section>, SweepError> {
        match self.get(key) {
            None => Ok(None),
            Some(entry) => {
                entry.table.as_ref().map(Some).ok_or_else(|| self.error(key, "it must be a table: { key = value }"))
            }
        }
    }

    /// The texts of a key.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, SweepError> {
        let Some(entry) = self.get(key) else { return Ok(Vec::new()) };
        let text = |value: &Value| match value {
            Value::Text(text) => Ok(text.clone()),
            other => Err(self.error(key, format!("{other} is no text: write it in quotes"))),
        };
        entry.values.iter().map(text).collect()
    }

    /// The one text of a key.
    pub fn text(&self, key: &str) -> Result<Option<String>, SweepError> {
        match self.texts(key)?.as_slice() {
            [] => Ok(None),
            [one] if !self.get(key).is_some_and(|entry| entry.is_list) => Ok(Some(one.clone())),
            _ => Err(self.error(key, "a list has no place here: give one text")),
        }
    }

    /// The one number of a key, from `least` on.
    pub fn number(&self, key: &str, least: u64) -> Result<Option<u64>, SweepError> {
        let Some(entry) = self.get(key) else { return Ok(None) };
        match entry.values.as_slice() {
            [Value::Int(number)] if !entry.is_list && *number >= 0 && *number as u64 >= least => {
                Ok(Some(*number as u64))
            }
            _ => Err(self.error(key, format!("it must be one number of {least} or more"))),
        }
    }

    /// Refuses keys that nobody has asked for.
    pub fn finish(&self) -> Result<(), SweepError> {
        let known = self.known.borrow();
        match self.entries.iter().find(|entry| !known.contains(&entry.key)) {
            None => Ok(()),
            Some(entry) => {
                let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                Err(self.error(&entry.key, format!("no such key: there are {known}")))
            }
        }
    }

    /// Every combination of the values of these keys, the last one changing fastest; keys that are not there are left out.
    pub fn combinations(&self, keys: &[&str]) -> Vec<Fields<'_>> {
        let axes: Vec<&Entry> = self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())).collect();
        for key in keys {
            self.get(key);
        }
        let mut all = vec![Vec::new()];
        for axis in axes {
            let longer = |fields: Vec<(String, Value)>| {
                let with = move |value: &Value| {
                    let mut fields = fields.clone();
                    fields.push((axis.key.clone(), value.clone()));
                    fields
                };
                axis.values.iter().map(with).collect::<Vec<_>>()
            };
            all = all.into_iter().flat_map(longer).collect();
        }
        all.into_iter().map(|fields| Fields { section: self, fields }).collect()
    }
}

/// One value for each key of a section.
#[derive(Clone, Debug)]
pub struct Fields<'s> {
    /// Where they stand.
    pub section: &'s Section,
    /// Key and value, in the order of the manifest.
    pub fields: Vec<(String, Value)>,
}

/// Largest extent of a tensor.
const MAX_SIZE: i64 = 1 << 20;

impl Fields<'_> {
    /// A value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// An extent, or its default.
    pub fn size(&self, key: &str, default: Option<usize>) -> Result<usize, SweepError> {
        self.extent(key, default, 1)
    }

    /// An extent that may be 0.
    pub fn extent(&self, key: &str, default: Option<usize>, least: i64) -> Result<usize, SweepError> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.section.error("", format!("`{key}` is missing"))),
            (Some(Value::Int(size)), _) if (least..=MAX_SIZE).contains(size) => Ok(*size as usize),
            (Some(other), _) => {
                Err(self.section.error(key, format!("{other} is no size: it must be {least} to {MAX_SIZE}")))
            }
        }
    }

    /// A flag, false by default.
    pub fn flag(&self, key: &str) -> Result<bool, SweepError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.section.error(key, format!("{other} is no flag: write true or false"))),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, SweepError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.section.error(key, format!("{other} is no text: write it in quotes"))),
        }
    }

    /// What tells the combination from the others of its section: `m=64 bias=true`.
    pub fn label(&self, only_varying: bool) -> String {
        let varies = |key: &str| self.section.entries.iter().any(|entry| entry.key == key && entry.values.len() > 1);
        let shown = self.fields.iter().filter(|(key, _)| !only_varying || varies(key));
        shown.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}
