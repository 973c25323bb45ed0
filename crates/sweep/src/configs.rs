//! The axis of configurations: names, files, and grids over fields.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};

use crate::error::SweepError;
use crate::source::{Fields, Section, Source};
use crate::table::Value;

/// Rows and columns of the array in one: not a field, as the generator counts tiles.
const DIM: &str = "dim";

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct NamedConfig {
    /// Under its name in the table.
    pub config: ValidConfig,
    /// Fields that a grid changed.
    pub fields: Vec<(String, Value)>,
}

/// A configuration with other values of some fields. `dim` stands for the rows and columns of the array; `none` removes an optional
/// field. The name stays.
///
/// # Errors
/// The field, and what is wrong with its value; or an empty name and the rules that the whole breaks.
pub fn configuration(base: &GemminiConfig, fields: &[(String, Value)]) -> Result<ValidConfig, (String, String)> {
    let whole = |error: &dyn std::fmt::Display| (String::new(), error.to_string());
    let mut table = toml::Table::try_from(base).map_err(|error| whole(&error))?;
    let mut known: Vec<&str> = base.settings().into_iter().map(|(name, _)| name).collect();
    known.push(DIM);
    for (field, value) in fields {
        let wrong = |message: String| (field.clone(), message);
        if !known.contains(&field.as_str()) {
            return Err(wrong(
                "unknown field; `pollux config` lists all, and `dim` stands for the array's size".to_owned(),
            ));
        }
        if field == DIM {
            set_dim(&mut table, base, value).map_err(wrong)?;
            continue;
        }
        match value {
            Value::Text(none) if none == "none" => drop(table.remove(field)),
            Value::Text(text) => drop(table.insert(field.clone(), text.clone().into())),
            Value::Int(number) => drop(table.insert(field.clone(), (*number).into())),
            Value::Float(number) => drop(table.insert(field.clone(), (*number).into())),
            Value::Bool(flag) => drop(table.insert(field.clone(), (*flag).into())),
            Value::Null => {}
        }
        // One by one, so that the message is about this field.
        let changed: Result<GemminiConfig, toml::de::Error> = table.clone().try_into();
        changed.map_err(|error| wrong(error.message().trim_end().to_owned()))?;
    }
    let changed: GemminiConfig = table.try_into().map_err(|error: toml::de::Error| whole(&error))?;
    changed.validated().map_err(|error| whole(&error))
}

fn set_dim(table: &mut toml::Table, base: &GemminiConfig, value: &Value) -> Result<(), String> {
    let tiles = [("mesh_rows", base.tile_rows), ("mesh_columns", base.tile_columns)];
    let Value::Int(dim) = value else { return Err(format!("{value} is no size of an array")) };
    for (field, tile) in tiles {
        let tile = i64::from(tile.max(1));
        if dim % tile != 0 {
            return Err(format!("{dim} is no multiple of the {tile} rows or columns of a tile"));
        }
        table.insert(field.to_owned(), (dim / tile).into());
    }
    Ok(())
}

/// The configuration of a name, or of a file beside the manifest.
fn named(name: &str, folder: &Path) -> Result<ValidConfig, String> {
    let path = folder.join(name);
    let is_file = path.is_file() || name.contains('/') || Path::new(name).extension().is_some();
    if !is_file {
        return GemminiConfig::by_name(name).map_err(|error| error.to_string());
    }
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let file = ConfigFile::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    file.named_after(&stem).config().map_err(|error| format!("{name}: {error}"))
}

/// All configurations of a manifest, and the names and reasons of those that were left out since they cannot be built.
pub fn read(source: &Source, folder: &Path) -> Result<(Vec<Arc<NamedConfig>>, Vec<String>), SweepError> {
    let skip = match source.top.text("invalid_configs")?.as_deref() {
        None | Some("refuse") => false,
        Some("skip") => true,
        Some(other) => {
            return Err(source.top.error("invalid_configs", format!("`{other}`: choose \"refuse\" or \"skip\"")));
        }
    };
    let (mut configs, mut left_out): (Vec<Arc<NamedConfig>>, Vec<String>) = (Vec::new(), Vec::new());
    for name in source.top.texts("configs")? {
        let config = named(&name, folder).map_err(|error| source.top.error("configs", error))?;
        configs.push(Arc::new(NamedConfig { config, fields: Vec::new() }));
    }
    for section in source.sections("config") {
        let keys: Vec<&str> = section.entries().iter().map(|entry| entry.key.as_str()).collect();
        for fields in section.combinations(&keys) {
            match of_grid(section, &fields, folder)? {
                Ok(config) => configs.push(Arc::new(config)),
                Err(reason) if skip => left_out.push(reason),
                Err(reason) => {
                    let remedy = "leave it out of the grid, or write invalid_configs = \"skip\"";
                    return Err(section.error("", format!("{reason}\n{remedy}")));
                }
            }
        }
    }
    if configs.is_empty() {
        let message = match left_out.first() {
            None => "there is none: write configs = [\"norm16\"], or [[config]] sections".to_owned(),
            Some(reason) => format!("none of them can be built; the first: {reason}"),
        };
        return Err(source.top.error("configs", message));
    }
    Ok((configs, left_out))
}

/// A point of a grid; the inner error is that it cannot be built.
fn of_grid(section: &Section, fields: &Fields<'_>, folder: &Path) -> Result<Result<NamedConfig, String>, SweepError> {
    let base = fields.text("base")?.unwrap_or("default16");
    let base = named(base, folder).map_err(|error| section.error("base", error))?;
    let own: Vec<(String, Value)> = fields.fields.iter().filter(|(key, _)| key != "base").cloned().collect();
    let shown: Vec<String> = own.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let name = match shown.is_empty() {
        true => base.name.clone(),
        false => format!("{} {}", base.name, shown.join(" ")),
    };
    let base = GemminiConfig { name, ..base.into_inner() };
    match configuration(&base, &own) {
        Ok(config) => Ok(Ok(NamedConfig { config, fields: own })),
        Err((field, reason)) if field.is_empty() => Ok(Err(reason)),
        Err((field, reason)) => Err(section.error(&field, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(field: &str, value: i64) -> (String, Value) {
        (field.to_owned(), Value::Int(value))
    }

    #[test]
    fn fields_are_replaced_and_checked_one_by_one() {
        let base = GemminiConfig::default16();
        let config =
            configuration(&base, &[int("dim", 32), ("sp_capacity".to_owned(), Value::Text("512 KiB".to_owned()))]);
        let config = config.unwrap();
        assert_eq!((config.dim(), config.sp_capacity.to_string().as_str()), (32, "512 KiB"));
        let (field, reason) = configuration(&base, &[int("sp_bank", 4)]).unwrap_err();
        assert_eq!(field, "sp_bank");
        assert!(reason.contains("unknown field"), "{reason}");
        let (field, _) = configuration(&base, &[("sp_banks".to_owned(), Value::Text("x".to_owned()))]).unwrap_err();
        assert_eq!(field, "sp_banks");
        let (field, reason) = configuration(&base, &[int("mesh_rows", 8)]).unwrap_err();
        assert!(field.is_empty() && reason.contains("not valid"), "{reason}");
    }
}
