//! Energy and area, from exact event counts and tables of figures with their sources.
//!
//! | step | type |
//! |---|---|
//! | how often each part was used | [`EventCounts`](pollux_sim::counts::EventCounts), from a run or predicted from a schedule |
//! | figures with unit, source and technology node | [`EnergyTable`]: built in, or a file of the user's |
//! | what an event costs on a configuration | [`Prices`] |
//! | energy by component and by operation, pJ a multiply-accumulate, energy-delay product | [`EnergyReport`] |
//! | Accelergy's reference tables, in and out | [`accelergy`] |
//!
//! Energy is the sum of counts times prices, so that the energies of a run's operations add up to that of the run.
//!
//! ```
//! use pollux_energy::{Counted, EnergyReport, EnergyTable};
//! use pollux_isa::GemminiConfig;
//! use pollux_sim::counts::EventCounts;
//!
//! let config = GemminiConfig::by_name("default16")?;
//! let table = EnergyTable::by_name("horowitz45-lpddr4")?;
//! let prices = table.prices(&config)?;
//! let mut counts = EventCounts::default();
//! (counts.mesh.macs, counts.memory.read_bytes) = (1000, 10);
//! let report = EnergyReport::new(&prices, 1e9, &[Counted { name: "product".into(), cycles: 40, counts }]);
//! // 0.3 pJ a multiply-accumulate, 8 pJ a bit of LPDDR4; memories that are not used leak a little.
//! assert!((report.total.energy_pj - (300.0 + 640.0)).abs() < 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod accelergy;
mod built_in;
mod error;
mod figure;
mod file;
mod memory;
mod prices;
mod report;
mod table;
mod text;

pub use error::EnergyError;
pub use figure::{Figure, Node, Quantity};
pub use memory::{Capacity, Memory, MemoryLaw, Point};
pub use prices::{Area, Component, Price, Prices};
pub use report::{ActionEnergy, ComponentEnergy, Counted, EnergyFigures, EnergyReport, Unpriced};
pub use table::EnergyTable;
