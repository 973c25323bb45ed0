//! Tables as files.

mod csv;
mod json_lines;
#[cfg(feature = "parquet")]
mod parquet;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::SweepError;
use crate::table::Table;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Columns with types: for pandas, polars, DuckDB, Spark.
    Parquet,
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated values. Only written.
    Csv,
}

impl Format {
    /// What shards are written as.
    pub const DEFAULT: Self = if cfg!(feature = "parquet") { Self::Parquet } else { Self::Jsonl };

    /// The ending of such a file.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// The form of the file of this name.
    ///
    /// # Errors
    /// An ending that is none of the three, or a form that this build does not have.
    pub fn of(path: &Path) -> Result<Self, String> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let all = [Self::Parquet, Self::Jsonl, Self::Csv];
        let found = all.into_iter().find(|format| Some(format.extension()) == extension.as_deref());
        let found = found.ok_or_else(|| format!("{}: call it *.parquet, *.jsonl or *.csv", path.display()))?;
        found.check()
    }

    /// Whether this build has it.
    ///
    /// # Errors
    /// It does not.
    pub fn check(self) -> Result<Self, String> {
        match self {
            Self::Parquet if !cfg!(feature = "parquet") => {
                Err("this build has no Parquet: build it with the feature `parquet`, or choose *.jsonl or *.csv"
                    .to_owned())
            }
            format => Ok(format),
        }
    }
}

/// The contents of a file.
///
/// # Errors
/// A form that this build does not have, or a value that has no place in it.
pub fn write(table: &Table, format: Format) -> Result<Vec<u8>, SweepError> {
    let error = |message: String| SweepError::Table { name: format.extension().to_owned(), message };
    match format {
        Format::Jsonl => json_lines::write(table).map_err(error),
        Format::Csv => Ok(csv::write(table)),
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet::write(table).map_err(error),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(format.check().err().map_or_else(|| error(String::new()), error)),
    }
}

/// The table in a file.
///
/// # Errors
/// A file that cannot be read, or is no such table.
pub fn read(path: &Path) -> Result<Table, SweepError> {
    let error = |message: String| SweepError::Table { name: path.display().to_string(), message };
    match Format::of(path).map_err(error)? {
        Format::Jsonl => {
            let text =
                std::fs::read_to_string(path).map_err(|source| SweepError::Read { path: path.to_owned(), source })?;
            json_lines::read(&text).map_err(error)
        }
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet::read(path).map_err(error),
        _ => Err(error("it is only written, not read".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::{Column, Kind, Row, Schema, Value};

    fn value(kind: Kind) -> BoxedStrategy<Value> {
        let some = match kind {
            Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
            Kind::Int => any::<i64>().prop_map(Value::Int).boxed(),
            Kind::Float => (-1e300..1e300).prop_map(Value::Float).boxed(),
            Kind::Text => "[ -~\u{e4}\n\"]{0,12}".prop_map(Value::Text).boxed(),
        };
        prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
    }

    fn any_table() -> impl Strategy<Value = Table> {
        let kinds = vec![Kind::Bool, Kind::Int, Kind::Float, Kind::Text];
        let kinds = prop::collection::vec(prop::sample::select(kinds), 1..5);
        kinds.prop_flat_map(|kinds| {
            let columns = kinds.iter().enumerate().map(|(i, kind)| Column { name: format!("c{i}"), kind: *kind });
            let schema = Schema(columns.collect());
            let row: Vec<BoxedStrategy<Value>> = kinds.iter().map(|kind| value(*kind)).collect();
            prop::collection::vec(row, 0..6).prop_map(move |rows| Table {
                schema: schema.clone(),
                rows: rows.into_iter().map(Row).collect(),
                metadata: vec![("shard".to_owned(), "3".to_owned())],
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tables_are_read_as_they_were_written(table in any_table()) {
            let folder = tempfile::tempdir().unwrap();
            for format in [Format::Jsonl, Format::Parquet].into_iter().filter(|format| format.check().is_ok()) {
                let path = folder.path().join("table").with_extension(format.extension());
                std::fs::write(&path, write(&table, format).unwrap()).unwrap();
                prop_assert_eq!(&read(&path).unwrap(), &table);
                prop_assert_eq!(write(&table, format).unwrap(), write(&table.clone(), format).unwrap());
            }
        }
    }

    #[test]
    fn damaged_files_are_refused_with_their_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.parquet", "t.jsonl"].map(|name| folder.path().join(name)) {
            std::fs::write(&name, "PAR1 nothing").unwrap();
            let message = read(&name).unwrap_err().to_string();
            assert!(message.contains(&name.display().to_string()), "{message}");
        }
        assert!(read(&folder.path().join("missing.jsonl")).unwrap_err().to_string().contains("cannot read"));
        assert!(Format::of(Path::new("t.xls")).unwrap_err().contains("*.parquet, *.jsonl or *.csv"));
    }
}
