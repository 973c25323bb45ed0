//! Comma-separated values, as RFC 4180 has them.

use crate::table::{Table, Value};

/// A line for the names, and one for each row.
pub fn write(table: &Table) -> Vec<u8> {
    let names = table.schema.0.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(",");
    let mut out = format!("{names}\n");
    for row in &table.rows {
        let cells: Vec<String> = row.0.iter().map(cell).collect();
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    out.into_bytes()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        other => quoted(&other.to_string()),
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
