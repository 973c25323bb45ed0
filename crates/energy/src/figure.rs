//! A figure with its unit, technology node and source, and which figures there are.

use std::fmt;

use serde::Serialize;

/// Technology node of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// So many nanometres.
    Nanometres(u32),
    /// Outside the chip: the node of the logic does not matter.
    OffChip,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nanometres(nm) => write!(f, "{nm}nm"),
            Self::OffChip => f.write_str("off-chip"),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Node {
    /// `45nm` or `off-chip`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "off-chip" {
            return Some(Self::OffChip);
        }
        let nm = text.strip_suffix("nm")?.trim_end().parse().ok()?;
        (1..=1000).contains(&nm).then_some(Self::Nanometres(nm))
    }
}

/// What a figure measures, with the unit in which it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// pJ a use.
    Energy,
    /// pJ a bit.
    EnergyPerBit,
    /// um2 an instance.
    Area,
    /// um2 a bit.
    AreaPerBit,
    /// mW an instance.
    Power,
}

impl Quantity {
    /// Units that a file may give it in, each with its value in the unit in which it is kept.
    pub(crate) const fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Energy => &[("pJ", 1.0), ("fJ", 1e-3), ("nJ", 1e3)],
            Self::EnergyPerBit => &[("pJ/bit", 1.0), ("fJ/bit", 1e-3), ("pJ/byte", 1.0 / 8.0), ("nJ/byte", 1e3 / 8.0)],
            Self::Area => &[("um2", 1.0), ("mm2", 1e6)],
            Self::AreaPerBit => &[("um2/bit", 1.0)],
            Self::Power => &[("mW", 1.0), ("uW", 1e-3), ("nW", 1e-6)],
        }
    }
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Value, in the unit of its [`Quantity`].
    pub value: f64,
    /// Technology node.
    pub node: Node,
    /// Key of its source.
    pub source: String,
    /// How it follows from the source, if it does not stand there as it is.
    pub derivation: Option<String>,
}

/// The figures that a table may have.
pub(crate) const FIGURES: &[(&str, Quantity)] = &[
    ("dram.read", Quantity::EnergyPerBit),
    ("dram.write", Quantity::EnergyPerBit),
    ("array.mac", Quantity::Energy),
    ("array.zero_mac", Quantity::Energy),
    ("array.register", Quantity::EnergyPerBit),
    ("array.register_row", Quantity::Energy),
    ("array.weight_read", Quantity::Energy),
    ("array.weight_write", Quantity::Energy),
    ("operations.add32", Quantity::Energy),
    ("operations.multiply32", Quantity::Energy),
    ("operations.compare32", Quantity::Energy),
    ("operations.multiply_float32", Quantity::Energy),
    ("units.accumulator_add", Quantity::Energy),
    ("units.mvin_scale", Quantity::Energy),
    ("units.normalizer_sum", Quantity::Energy),
    ("units.normalizer_variance", Quantity::Energy),
    ("units.normalizer_max", Quantity::Energy),
    ("units.normalizer_exp", Quantity::Energy),
    ("units.readout_none", Quantity::Energy),
    ("units.readout_relu", Quantity::Energy),
    ("units.readout_layernorm", Quantity::Energy),
    ("units.readout_igelu", Quantity::Energy),
    ("units.readout_softmax", Quantity::Energy),
    ("control.command", Quantity::Energy),
    ("control.host_command", Quantity::Energy),
    ("control.tlb_lookup", Quantity::Energy),
    ("control.tlb_walk", Quantity::Energy),
    ("area.mac", Quantity::Area),
    ("area.register", Quantity::AreaPerBit),
    ("area.registers", Quantity::Area),
    ("area.add32", Quantity::Area),
    ("area.multiply_float32", Quantity::Area),
    ("leakage.mac", Quantity::Power),
];
