//! Configurations.

use pollux_isa::config::ConfigFile;
use pollux_isa::{GemminiConfig, ValidConfig};
use pyo3::prelude::*;
use serde_json::json;

use crate::errors;

/// A valid configuration.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Config(pub ValidConfig);

#[pymethods]
impl Config {
    /// The configuration of this name.
    #[staticmethod]
    fn by_name(name: &str) -> PyResult<Self> {
        GemminiConfig::by_name(name).map(Self).map_err(errors::config)
    }

    /// The configuration of a TOML text or a header; without a name of its own it is called after `stem`.
    #[staticmethod]
    fn from_text(text: &str, stem: &str) -> PyResult<Self> {
        let file = ConfigFile::parse(text).map_err(errors::config)?;
        file.named_after(stem).config().map(Self).map_err(errors::config)
    }

    /// The same with other values of fields, a JSON list of pairs, under another name.
    fn replace(&self, fields: &str, name: &str) -> PyResult<Self> {
        let fields: Vec<(String, pollux_sweep::Value)> = serde_json::from_str(fields).map_err(errors::config)?;
        let base = GemminiConfig { name: name.to_owned(), ..self.0.clone().into_inner() };
        pollux_sweep::configuration(&base, &fields).map(Self).map_err(|(field, reason)| match field.is_empty() {
            true => errors::config(reason),
            false => errors::config(format!("{field}: {reason}")),
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn dim(&self) -> u32 {
        self.0.dim()
    }

    #[getter]
    fn digest(&self) -> String {
        format!("{:#018x}", self.0.digest())
    }

    /// The document of `pollux config --json`.
    fn json(&self) -> PyResult<String> {
        let config = &self.0;
        let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
        let derived = json!({
            "DIM": config.dim(), "scratchpad_rows": config.sp_rows(), "scratchpad_row_bytes": config.sp_row_bytes(),
            "accumulator_rows": config.acc_rows(), "accumulator_row_bytes": config.acc_row_bytes(),
            "max_block_len": config.max_block_len(), "max_block_len_acc": config.max_block_len_acc(),
            "station_entries": config.reservation_station_entries(), "digest": self.digest(),
        });
        let fields = serde_json::to_value(&**config).map_err(errors::config)?;
        Ok(json!({ "name": config.name, "fields": fields, "derived": derived, "warnings": warnings }).to_string())
    }

    fn toml(&self) -> PyResult<String> {
        self.0.to_toml_string().map_err(errors::config)
    }
}

/// Names of the named configurations.
#[pyfunction]
pub fn configs() -> Vec<&'static str> {
    GemminiConfig::NAMES.to_vec()
}

/// The text of a memory system with defaults left out.
#[pyfunction]
pub fn memory(text: &str) -> PyResult<String> {
    Ok(crate::run::memory_model(text)?.to_string())
}
