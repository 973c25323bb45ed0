//! Points: one entry of each axis.

use std::sync::Arc;

use pollux::MemoryModel;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::configs::NamedConfig;
use crate::mappings::NamedMapping;
use crate::table::{Value, hex};
use crate::work::Work;

/// Digits of an id: 128 bits.
const ID_DIGITS: usize = 32;

/// A design point.
#[derive(Clone, Debug)]
pub struct Point {
    pub(crate) id: String,
    pub(crate) work: Arc<Work>,
    pub(crate) config: Arc<NamedConfig>,
    pub(crate) memory: MemoryModel,
    pub(crate) mapping: Arc<NamedMapping>,
}

impl Point {
    /// A point; `common` is what all points of the sweep share.
    pub(crate) fn new(
        work: &Arc<Work>,
        config: &Arc<NamedConfig>,
        memory: MemoryModel,
        mapping: &Arc<NamedMapping>,
        common: &Json,
    ) -> Self {
        let canonical = json!({
            "work": work.canonical(), "config": format!("{:#018x}", config.config.digest()), "memory": memory.to_string(),
            "mapping": mapping.canonical(), "common": common,
        });
        let id = hex(&Sha256::digest(canonical.to_string().as_bytes()));
        Self {
            id: id[..ID_DIGITS].to_owned(),
            work: Arc::clone(work),
            config: Arc::clone(config),
            memory,
            mapping: Arc::clone(mapping),
        }
    }

    /// Hash of what it is, whatever it is called and wherever it stands.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Names of its work, configuration, memory and mapping.
    pub fn names(&self) -> [String; 4] {
        let (work, config) = (self.work.name.clone(), self.config.config.name.clone());
        [work, config, self.memory.to_string(), self.mapping.name.clone()]
    }

    /// The parameters that the manifest gives it.
    pub fn parameters(&self) -> impl Iterator<Item = &(String, Value)> {
        self.work.fields.iter().chain(&self.config.fields).chain(&self.mapping.fields)
    }

    /// A name or a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        let names = ["work", "config", "memory", "mapping"].into_iter().zip(self.names());
        let named = names.into_iter().find(|(name, _)| *name == key).map(|(_, text)| Value::Text(text));
        named.or_else(|| self.parameters().find(|(name, _)| name == key).map(|(_, value)| value.clone()))
    }
}
