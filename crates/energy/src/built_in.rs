//! The tables that come with Pollux.

use crate::error::EnergyError;
use crate::table::EnergyTable;

const HOROWITZ45_LPDDR4: &str = include_str!("../tables/horowitz45-lpddr4.toml");
const ALADDIN45_DDR3: &str = include_str!("../tables/aladdin45-ddr3.toml");
const DOSA40: &str = include_str!("../tables/dosa40.toml");
const CACTI22_LPDDR4: &str = include_str!("../tables/cacti22-lpddr4.toml");

/// Names and contents of the built-in tables, the default first.
const BUILT_IN: [(&str, &str); 4] = [
    ("horowitz45-lpddr4", HOROWITZ45_LPDDR4),
    ("aladdin45-ddr3", ALADDIN45_DDR3),
    ("dosa40", DOSA40),
    ("cacti22-lpddr4", CACTI22_LPDDR4),
];

impl EnergyTable {
    /// Names of the built-in tables, the default first.
    pub const NAMES: [&'static str; BUILT_IN.len()] = [BUILT_IN[0].0, BUILT_IN[1].0, BUILT_IN[2].0, BUILT_IN[3].0];

    /// A built-in table.
    ///
    /// # Errors
    /// [`EnergyError::UnknownTable`] lists the names.
    pub fn by_name(name: &str) -> Result<Self, EnergyError> {
        let text = Self::text_of(name)?;
        Self::parse(&format!("{name}.toml"), text)
    }

    /// The file of a built-in table: what a table of one's own can begin with.
    ///
    /// # Errors
    /// [`EnergyError::UnknownTable`] lists the names.
    pub fn text_of(name: &str) -> Result<&'static str, EnergyError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, text)| *text)
            .ok_or_else(|| EnergyError::UnknownTable { name: name.to_owned(), known: Self::NAMES.join(", ") })
    }
}
