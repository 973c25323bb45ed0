//! Tables: rows of values under named columns.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A value in a manifest or a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Not known, or not asked for.
    #[default]
    Null,
    /// A flag.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

/// Without quotes; `-` for nothing.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_char('-'),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        // Above 2^63 - 1 no run comes to its end.
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Flags.
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Texts.
    Text,
}

impl Kind {
    /// The kind that holds all of these values.
    pub fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Self {
        let join = |kind: Option<Self>, value: &Value| match (kind, value) {
            (kind, Value::Null) => kind,
            (None | Some(Self::Bool), Value::Bool(_)) => Some(Self::Bool),
            (None | Some(Self::Int), Value::Int(_)) => Some(Self::Int),
            (None | Some(Self::Int | Self::Float), Value::Int(_) | Value::Float(_)) => Some(Self::Float),
            _ => Some(Self::Text),
        };
        values.into_iter().fold(None, join).unwrap_or(Self::Text)
    }

    /// A value as this kind.
    pub fn cast(self, value: &Value) -> Value {
        match (self, value) {
            (_, Value::Null) => Value::Null,
            (Self::Float, Value::Int(number)) => Value::Float(*number as f64),
            (Self::Text, value) => Value::Text(value.to_string()),
            (_, value) => value.clone(),
        }
    }

    /// Whether a value may stand in such a column.
    pub fn holds(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::Bool, Value::Bool(_))
                | (Self::Int, Value::Int(_))
                | (Self::Float, Value::Float(_))
                | (Self::Text, Value::Text(_))
        )
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// The columns of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(pub Vec<Column>);

impl Schema {
    /// Place of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }
}

/// A row: a value for each column.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Value>);

/// Columns, rows, and what is known of the table as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Columns.
    pub schema: Schema,
    /// Rows.
    pub rows: Vec<Row>,
    /// Key and text.
    pub metadata: Vec<(String, String)>,
}

impl Table {
    /// What is known under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, text)| text.as_str())
    }

    /// The values of a column.
    pub fn column(&self, name: &str) -> Option<impl Iterator<Item = &Value>> {
        let position = self.schema.position(name)?;
        Some(self.rows.iter().map(move |row| &row.0[position]))
    }

    /// SHA-256 of names and values, whatever file they stand in.
    pub fn content_hash(&self) -> String {
        let names: Vec<&str> = self.schema.0.iter().map(|column| column.name.as_str()).collect();
        let mut hash = Sha256::new();
        hash.update(format!("{names:?}\n"));
        for row in &self.rows {
            hash.update(format!("{:?}\n", row.0));
        }
        hex(&hash.finalize())
    }
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes anything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_what_all_of_its_values_are() {
        let [int, float, text, flag] =
            [Value::Int(1), Value::Float(0.5), Value::from("a".to_owned()), Value::Bool(true)];
        assert_eq!(Kind::of([&int, &Value::Null]), Kind::Int);
        assert_eq!(Kind::of([&int, &float]), Kind::Float);
        assert_eq!(Kind::of([&float, &text]), Kind::Text);
        assert_eq!(Kind::of([&flag]), Kind::Bool);
        assert_eq!(Kind::of([&flag, &int]), Kind::Text);
        assert_eq!(Kind::of([]), Kind::Text);
        assert_eq!(Kind::Float.cast(&int), Value::Float(1.0));
        assert_eq!(Kind::Text.cast(&flag), Value::Text("true".to_owned()));
    }

    #[test]
    fn the_hash_sees_every_value() {
        let schema = Schema(vec![Column { name: "a".to_owned(), kind: Kind::Int }]);
        let table = |value| Table { schema: schema.clone(), rows: vec![Row(vec![value])], metadata: Vec::new() };
        assert_eq!(table(Value::Int(1)).content_hash(), table(Value::Int(1)).content_hash());
        assert_ne!(table(Value::Int(1)).content_hash(), table(Value::Int(2)).content_hash());
        assert_ne!(table(Value::Null).content_hash(), table(Value::Int(0)).content_hash());
    }
}
