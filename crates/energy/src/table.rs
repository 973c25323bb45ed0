//! [`EnergyTable`]: figures of one technology.

use std::collections::BTreeMap;

use crate::figure::{Figure, Node};
use crate::memory::Memory;

/// Energy and area figures of one technology.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyTable {
    /// Name.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// Technology node of the logic.
    pub node: Node,
    /// Why figures of another node stand in it, if some do.
    pub mixed_nodes: Option<String>,
    /// The sources by the keys that the figures name.
    pub sources: BTreeMap<String, String>,
    /// The figures by key, such as `array.mac`.
    pub figures: BTreeMap<&'static str, Figure>,
    /// The scratchpad.
    pub scratchpad: Memory,
    /// The accumulator.
    pub accumulator: Memory,
}

impl EnergyTable {
    /// A figure's value, if the table has it.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.figures.get(key).map(|figure| figure.value)
    }
}
