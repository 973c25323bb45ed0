//! A JSON object a line. Before the rows of a shard stands a line with what is known of all of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::table::{Row, Schema, Table, Value};

/// Key of the first line, if it is none of the rows.
const HEAD: &str = "table";

/// The table as text.
pub fn write(table: &Table) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut line = |json: &Json| {
        out.extend_from_slice(json.to_string().as_bytes());
        out.push(b'\n');
    };
    if !table.metadata.is_empty() {
        let metadata: BTreeMap<&String, &String> = table.metadata.iter().map(|(key, text)| (key, text)).collect();
        line(&json!({ HEAD: { "columns": table.schema, "metadata": metadata } }));
    }
    for row in &table.rows {
        let cells = table.schema.0.iter().zip(&row.0).map(|(column, value)| (column.name.clone(), json!(value)));
        line(&Json::Object(cells.collect()));
    }
    Ok(out)
}

/// Reads what [`write`] wrote with metadata.
pub fn read(text: &str) -> Result<Table, String> {
    let mut lines = text.lines();
    let head: Map<String, Json> =
        serde_json::from_str(lines.next().unwrap_or_default()).map_err(|error| format!("line 1: {error}"))?;
    let head = head.get(HEAD).ok_or("line 1: it says nothing of the columns: this is no shard")?;
    let schema: Schema =
        serde_json::from_value(head["columns"].clone()).map_err(|error| format!("line 1: columns: {error}"))?;
    let metadata: BTreeMap<String, String> =
        serde_json::from_value(head["metadata"].clone()).map_err(|error| format!("line 1: metadata: {error}"))?;
    let row = |(index, line): (usize, &str)| {
        let cells: BTreeMap<String, Value> =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 2))?;
        let value = |column: &crate::table::Column| {
            let value = column.kind.cast(cells.get(&column.name).unwrap_or(&Value::Null));
            match column.kind.holds(&value) {
                true => Ok(value),
                false => Err(format!("line {}: {}: `{value}` is none of the column's values", index + 2, column.name)),
            }
        };
        schema.0.iter().map(value).collect::<Result<Vec<Value>, String>>().map(Row)
    };
    let rows = lines.enumerate().map(row).collect::<Result<Vec<Row>, String>>()?;
    Ok(Table { schema, rows, metadata: metadata.into_iter().collect() })
}
