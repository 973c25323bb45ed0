//! Where the cycles go: cycles, multiply-accumulates, utilisation, bytes and arithmetic intensity.

use std::fmt::Write;

use pollux_memory::Memory;
use serde::Serialize;

use crate::error::CompileError;
use crate::execute::{CycleRun, CycleSetup, Position, run_cycles, run_functional};
use crate::operation::{Compiled, OperationClass};

/// Figures of an operation, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Operation, layer or class.
    pub name: String,
    /// Cycles.
    pub cycles: u64,
    /// Share of the whole run's cycles, 0 to 1.
    pub share: f64,
    /// Multiply-accumulates of elements that take part.
    pub macs: u64,
    /// Multiply-accumulates over those that the array could have done in these cycles, 0 to 1.
    pub utilisation: f64,
    /// Bytes read from main memory.
    pub bytes_in: u64,
    /// Bytes written to main memory.
    pub bytes_out: u64,
    /// Multiply-accumulates per byte moved.
    pub intensity: f64,
    /// Commands at the port.
    pub commands: u64,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.cycles += other.cycles;
        self.macs += other.macs;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.commands += other.commands;
    }

    fn derive(&mut self, total_cycles: u64, macs_per_cycle: u64) {
        let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        self.share = ratio(self.cycles, total_cycles);
        self.utilisation = ratio(self.macs, self.cycles * macs_per_cycle);
        self.intensity = ratio(self.macs, self.bytes_in + self.bytes_out);
    }
}

/// Figures of one operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationFigures {
    /// Layer it belongs to.
    pub layer: Option<usize>,
    /// Class.
    pub class: OperationClass,
    /// Whether the host did it.
    pub host: bool,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The report on a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub title: String,
    /// Configuration.
    pub config: String,
    /// Multiply-accumulates that the array can do in a cycle.
    pub macs_per_cycle: u64,
    /// Bytes that the memory port can move in a cycle, each way.
    pub bytes_per_cycle: u64,
    /// Everything together.
    pub total: Figures,
    /// By class.
    pub classes: Vec<Figures>,
    /// By layer.
    pub layers: Vec<Figures>,
    /// By operation of a layer, summed over the layers.
    pub parts: Vec<Figures>,
    /// By operation.
    pub operations: Vec<OperationFigures>,
}

/// Runs a compiled model from the program's own memory: on the functional model, or with a setup cycle by cycle and with a
/// report. The memory after the run.
///
/// # Errors
/// Those of [`run_functional`] and [`run_cycles`].
pub fn run_reported(
    title: &str,
    compiled: &Compiled,
    setup: Option<&CycleSetup>,
    progress: &mut dyn FnMut(Position),
) -> Result<(Memory, Option<Report>), CompileError> {
    let memory = compiled.program.initial_memory();
    let Some(setup) = setup else { return Ok((run_functional(compiled, memory)?, None)) };
    let run = run_cycles(compiled, memory, setup, progress)?;
    let report = Report::new(title, compiled, &run);
    Ok((run.memory, Some(report)))
}

impl Report {
    /// The report on a run of a compiled model.
    pub fn new(title: &str, compiled: &Compiled, run: &CycleRun) -> Self {
        let config = &compiled.program.config;
        let macs_per_cycle = u64::from(config.dim()) * u64::from(config.dim());
        let figures = |mut figures: Figures| {
            figures.derive(run.cycles, macs_per_cycle);
            figures
        };
        let operations = compiled.operations.iter().zip(&run.operations).map(|(operation, cycles)| OperationFigures {
            layer: operation.layer,
            class: operation.class,
            host: operation.host.is_some(),
            figures: figures(Figures {
                name: operation.name.clone(),
                cycles: cycles.cycles,
                macs: operation.work.macs,
                bytes_in: operation.work.bytes_in,
                bytes_out: operation.work.bytes_out,
                commands: operation.work.commands,
                ..Figures::default()
            }),
        });
        let operations: Vec<OperationFigures> = operations.collect();
        let grouped = |name: &dyn Fn(&OperationFigures) -> Option<String>| {
            let mut groups: Vec<Figures> = Vec::new();
            for operation in &operations {
                let Some(name) = name(operation) else { continue };
                match groups.iter_mut().find(|group| group.name == name) {
                    Some(group) => group.add(&operation.figures),
                    None => groups.push(Figures { name, ..operation.figures.clone() }),
                }
            }
            groups.into_iter().map(figures).collect::<Vec<_>>()
        };
        let mut classes = grouped(&|operation| Some(operation.class.name().to_owned()));
        classes.sort_by_key(|f| OperationClass::ALL.iter().position(|class| class.name() == f.name));
        let layers = grouped(&|operation| operation.layer.map(|layer| format!("layer {layer}")));
        let parts = grouped(&|operation| Some(crate::plan::part(&operation.figures.name).to_owned()));
        let total = grouped(&|_| Some("total".to_owned())).pop().unwrap_or_default();
        Self {
            title: title.to_owned(),
            config: config.name.clone(),
            macs_per_cycle,
            bytes_per_cycle: u64::from(config.beat_bytes()),
            total,
            classes,
            layers,
            parts,
            operations,
        }
    }

    /// Tables for people: by operation summed over the layers, by layer, by class. With `every`, each operation of each
    /// layer as well.
    pub fn table(&self, every: bool) -> String {
        let mut out = format!("{} on {}\n", self.title, self.config);
        let mut section = |heading: &str, rows: &[&Figures]| {
            if rows.is_empty() {
                return;
            }
            let _ = writeln!(
                out,
                "\n{heading:26} {:>12} {:>6} {:>15} {:>6} {:>11} {:>11} {:>9}",
                "cycles", "share", "MACs", "util.", "bytes in", "bytes out", "MAC/byte"
            );
            for f in rows {
                let _ = writeln!(
                    out,
                    "{:26} {:>12} {:>5.1}% {:>15} {:>5.1}% {:>11} {:>11} {:>9.2}",
                    f.name,
                    f.cycles,
                    100.0 * f.share,
                    f.macs,
                    100.0 * f.utilisation,
                    f.bytes_in,
                    f.bytes_out,
                    f.intensity
                );
            }
        };
        if every {
            section("operation", &self.operations.iter().map(|o| &o.figures).collect::<Vec<_>>());
        }
        section("operation, all layers", &self.parts.iter().collect::<Vec<_>>());
        section("layer", &self.layers.iter().collect::<Vec<_>>());
        section("class", &self.classes.iter().chain([&self.total]).collect::<Vec<_>>());
        out
    }
}
