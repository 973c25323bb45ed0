//! Parquet: one row group, every column optional.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;

use crate::table::{Column, Kind, Row, Schema, Table, Value};

/// The bytes of a file.
pub fn write(table: &Table) -> Result<Vec<u8>, String> {
    try_write(table).map_err(|error| error.to_string())
}

fn try_write(table: &Table) -> Result<Vec<u8>, ParquetError> {
    let columns: String =
        table.schema.0.iter().map(|column| format!("  optional {};\n", declaration(column))).collect();
    let schema = Arc::new(parse_message_type(&format!("message sweep {{\n{columns}}}"))?);
    let metadata = table.metadata.iter().map(|(key, text)| KeyValue::new(key.clone(), text.clone())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(metadata)).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (index, column) in table.schema.0.iter().enumerate() {
        let Some(mut writer) = group.next_column()? else { break };
        let values = table.rows.iter().map(|row| &row.0[index]);
        match column.kind {
            Kind::Bool => write_column::<BoolType>(&mut writer, values, |value| match value {
                Value::Bool(flag) => Some(*flag),
                _ => None,
            })?,
            Kind::Int => write_column::<Int64Type>(&mut writer, values, |value| match value {
                Value::Int(number) => Some(*number),
                _ => None,
            })?,
            Kind::Float => write_column::<DoubleType>(&mut writer, values, |value| match value {
                Value::Float(number) => Some(*number),
                _ => None,
            })?,
            Kind::Text => write_column::<ByteArrayType>(&mut writer, values, |value| match value {
                Value::Text(text) => Some(ByteArray::from(text.as_str())),
                _ => None,
            })?,
        }
        writer.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(bytes)
}

fn declaration(column: &Column) -> String {
    match column.kind {
        Kind::Bool => format!("boolean {}", column.name),
        Kind::Int => format!("int64 {}", column.name),
        Kind::Float => format!("double {}", column.name),
        Kind::Text => format!("binary {} (STRING)", column.name),
    }
}

fn write_column<'v, T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = &'v Value>,
    some: impl Fn(&Value) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = values.map(some).collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.into_iter().flatten().collect();
    writer.typed::<T>().write_batch(&present, Some(&levels), None).map(drop)
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Table, String> {
    let file = File::open(path).map_err(|error| format!("cannot read it: {error}"))?;
    try_read(file).map_err(|error| error.to_string())
}

fn try_read(file: File) -> Result<Table, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let described = reader.metadata().file_metadata();
    let columns = described.schema_descr().columns().iter().map(|column| {
        let kind = match column.physical_type() {
            Physical::BOOLEAN => Kind::Bool,
            Physical::INT64 => Kind::Int,
            Physical::DOUBLE => Kind::Float,
            Physical::BYTE_ARRAY => Kind::Text,
            other => {
                return Err(ParquetError::General(format!("column {}: {other} is none of a sweep's", column.name())));
            }
        };
        Ok(Column { name: column.name().to_owned(), kind })
    });
    let schema = Schema(columns.collect::<Result<_, _>>()?);
    let metadata = described.key_value_metadata().cloned().unwrap_or_default();
    let metadata = metadata.into_iter().filter_map(|pair| Some((pair.key, pair.value?))).collect();
    let row = |row: Result<parquet::record::Row, ParquetError>| {
        let values = row?.into_columns().into_iter().map(|(name, field)| {
            Ok(match field {
                Field::Null => Value::Null,
                Field::Bool(flag) => Value::Bool(flag),
                Field::Long(number) => Value::Int(number),
                Field::Double(number) => Value::Float(number),
                Field::Str(text) => Value::Text(text),
                other => return Err(ParquetError::General(format!("column {name}: {other} is none of a sweep's"))),
            })
        });
        values.collect::<Result<Vec<Value>, _>>().map(Row)
    };
    let rows = reader.get_row_iter(None)?.map(row).collect::<Result<_, _>>()?;
    Ok(Table { schema, rows, metadata })
}
