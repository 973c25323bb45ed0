//! Energy of runs: the options, and the way from counts to a report.

use std::path::Path;

use clap::Args;
use pollux_asm::Program;
use pollux_compiler::report::Report;
use pollux_energy::{Counted, EnergyReport, EnergyTable, Prices};
use pollux_isa::GemminiConfig;
use pollux_sim::counts::{CountingObserver, EventCounts, mark_names};
use pollux_sim::simulation::RunSummary;

use crate::failure::Failure;
use crate::{program_file, values};

/// Clock if none is given: that of FireSim's measurements of Gemmini.
pub const CLOCK: &str = "1GHz";

/// Energy of the run of a whole model.
#[derive(Args)]
pub struct EnergyArguments {
    /// Energy by component and operation, from the exact counts of what happened: a built-in table (`pollux energy tables`)
    /// or a file (`*.toml`).
    #[arg(long, value_name = "TABLE")]
    energy: Option<String>,
    /// Clock, for seconds, leakage and the energy-delay product.
    #[arg(long, value_name = "CLOCK", default_value = CLOCK, value_parser = values::clock, requires = "energy")]
    clock: f64,
}

impl EnergyArguments {
    /// Whether it is asked for.
    pub fn is_given(&self) -> bool {
        self.energy.is_some()
    }

    /// The prices on a configuration, if they are asked for.
    pub fn pricing(&self, config: &GemminiConfig) -> Result<Option<Pricing>, Failure> {
        Pricing::load(self.energy.as_ref(), self.clock, config)
    }
}

/// Prices at a clock.
pub struct Pricing {
    prices: Prices,
    clock: f64,
}

/// The table of this name, or of this file.
pub fn table(name: &str) -> Result<EnergyTable, Failure> {
    Ok(table_with_text(name)?.0)
}

/// The same with the text of its file.
pub fn table_with_text(name: &str) -> Result<(EnergyTable, String), Failure> {
    match table_file(name)? {
        Some(text) => Ok((EnergyTable::parse(name, &text).map_err(Failure::input)?, text)),
        None => {
            let text = EnergyTable::text_of(name).map_err(Failure::input)?.to_owned();
            Ok((EnergyTable::by_name(name).map_err(Failure::input)?, text))
        }
    }
}

/// The text of the file that a table is read from, unless it is a name.
fn table_file(name: &str) -> Result<Option<String>, Failure> {
    let path = Path::new(name);
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    if matches!(extension.as_deref(), Some("yaml" | "yml")) {
        return Err(Failure::Input(format!(
            "{name}: a reference table of Accelergy has neither node nor widths: convert it with `pollux energy import {name}`"
        )));
    }
    let is_file = path.is_file() || name == "-" || name.contains('/') || extension.is_some();
    is_file.then(|| program_file::read_text(path)).transpose()
}

impl Pricing {
    /// The prices of a table on a configuration, if there is a table.
    pub fn load(name: Option<&String>, clock: f64, config: &GemminiConfig) -> Result<Option<Self>, Failure> {
        let load = |name: &String| {
            let prices = table(name)?.prices(config).map_err(Failure::input)?;
            Ok(Self { prices, clock })
        };
        name.map(load).transpose()
    }

    /// The energy of a program's run, up to the cycle in which the accelerator has become idle.
    pub fn of_program(&self, program: &Program, counted: &CountingObserver, summary: &RunSummary) -> EnergyReport {
        let names = mark_names(&program.items);
        let operations = counted.operations().iter().map(|operation| Counted {
            name: operation.mark.and_then(|mark| names.get(mark).cloned()).unwrap_or_default(),
            cycles: (operation.start + operation.cycles).min(summary.busy_falls).saturating_sub(operation.start),
            counts: operation.counts,
        });
        EnergyReport::new(&self.prices, self.clock, &operations.collect::<Vec<_>>())
    }

    /// The energy of a model's run, by operation.
    pub fn of_model(&self, report: &Report) -> EnergyReport {
        self.of(report.counted_operations())
    }

    /// The same by operation of a layer, summed over the layers: for people.
    pub fn of_parts(&self, report: &Report) -> EnergyReport {
        self.of(report.counted_parts())
    }

    /// The energy of operations with their cycles and counts.
    pub fn of(&self, operations: Vec<(String, u64, EventCounts)>) -> EnergyReport {
        let operations = operations.into_iter().map(|(name, cycles, counts)| Counted { name, cycles, counts });
        EnergyReport::new(&self.prices, self.clock, &operations.collect::<Vec<_>>())
    }
}
