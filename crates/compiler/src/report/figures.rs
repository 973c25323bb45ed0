//! The figures of a run.

use std::fmt::{self, Write};

use pollux_sim::counts::EventCounts;
use serde::Serialize;

use crate::execute::CycleRun;
use crate::host::HostModel;
use crate::operation::{Compiled, OperationClass};

/// Figures of an operation, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Operation, layer or class.
    pub name: String,
    /// Cycles.
    pub cycles: u64,
    /// Those of them in which the host works and the accelerator is idle.
    pub host_cycles: u64,
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
        self.host_cycles += other.host_cycles;
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

    /// The name, marked if the host does all of it.
    pub(crate) fn marked_name(&self) -> String {
        let host = self.cycles > 0 && self.host_cycles == self.cycles;
        if host { format!("{} (host)", self.name) } else { self.name.clone() }
    }
}

/// What the host does in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostReport {
    /// Operations that it does.
    pub operations: usize,
    /// Its cycles.
    pub cycles: u64,
    /// What they were reckoned with.
    pub model: &'static str,
    /// Cycles of an instruction of each kind.
    pub parameters: HostModel,
}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = self.parameters.parameters().map(|(name, value)| format!("{name} {value}")).join(", ");
        let operations = if self.operations == 1 { "operation" } else { "operations" };
        writeln!(f, "host: {} {operations}, {} cycles; {}", self.operations, self.cycles, self.model)?;
        writeln!(f, "cycles of an instruction: {parameters}")
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
    /// How often each part of the accelerator was used, if it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<EventCounts>,
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
    /// Cycles that were really simulated; the others were skipped as nothing moved, or replayed.
    pub simulated_cycles: u64,
    /// Cycles that were taken from what was simulated before.
    pub replayed_cycles: u64,
    /// No divisor of the normalizer was taken to be zero, and nothing was computed.
    pub assumes_no_zero_divisor: bool,
    /// Everything together.
    pub total: Figures,
    /// The accelerator's operations; with a host that takes part, then the host's.
    pub units: Vec<Figures>,
    /// What the host does, if it takes part.
    pub host: Option<HostReport>,
    /// By class.
    pub classes: Vec<Figures>,
    /// By layer.
    pub layers: Vec<Figures>,
    /// By operation of a layer, summed over the layers.
    pub parts: Vec<Figures>,
    /// By operation.
    pub operations: Vec<OperationFigures>,
}

impl Report {
    /// What a report rests on if nothing was computed.
    pub const ASSUMPTION: &str = "values left out: no divisor of the normalizer is taken to be zero";

    /// The report on a run of a compiled model.
    pub fn new(title: &str, compiled: &Compiled, run: &CycleRun) -> Self {
        let config = &compiled.program.config;
        let macs_per_cycle = u64::from(config.dim()) * u64::from(config.dim());
        let figures = |mut figures: Figures| {
            figures.derive(run.cycles, macs_per_cycle);
            figures
        };
        let counts = |index| run.counts.as_ref().and_then(|counts| counts.get(index).copied());
        let operations = compiled.operations.iter().zip(&run.operations).enumerate();
        let operations = operations.map(|(index, (operation, cycles))| OperationFigures {
            counts: counts(index),
            layer: operation.layer,
            class: operation.class,
            host: operation.host.is_some(),
            figures: figures(Figures {
                name: operation.name.clone(),
                cycles: cycles.cycles,
                host_cycles: if operation.host.is_some() { cycles.cycles } else { 0 },
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
        // The same part may be the host's in one layer and the accelerator's in another.
        let mut parts = Vec::new();
        for host in [false, true] {
            let part = |operation: &OperationFigures| crate::plan::part(&operation.figures.name).to_owned();
            parts.extend(grouped(&|operation| (operation.host == host).then(|| part(operation))));
        }
        let first = |figures: &Figures| {
            let host = figures.host_cycles > 0;
            operations.iter().position(|o| o.host == host && crate::plan::part(&o.figures.name) == figures.name)
        };
        parts.sort_by_key(first);
        let units = grouped(&|operation| Some(if operation.host { "host" } else { "accelerator" }.to_owned()));
        let total = grouped(&|_| Some("total".to_owned())).pop().unwrap_or_default();
        let host = HostReport {
            operations: operations.iter().filter(|operation| operation.host).count(),
            cycles: total.host_cycles,
            model: HostModel::NAME,
            parameters: run.host,
        };
        Self {
            title: title.to_owned(),
            config: config.name.clone(),
            macs_per_cycle,
            bytes_per_cycle: u64::from(config.beat_bytes()),
            simulated_cycles: run.summary.simulated,
            replayed_cycles: run.summary.replayed,
            assumes_no_zero_divisor: run.assumes_no_zero_divisor,
            total,
            units,
            host: Some(host).filter(|host| host.operations > 0),
            classes,
            layers,
            parts,
            operations,
        }
    }

    /// Name, cycles and counts of each operation, if they were counted.
    pub fn counted_operations(&self) -> Vec<(String, u64, EventCounts)> {
        let counted = |operation: &OperationFigures| {
            Some((operation.figures.name.clone(), operation.figures.cycles, operation.counts?))
        };
        self.operations.iter().filter_map(counted).collect()
    }

    /// The same by operation of a layer, summed over the layers.
    pub fn counted_parts(&self) -> Vec<(String, u64, EventCounts)> {
        let operations = self.counted_operations().into_iter();
        let of_part =
            |(name, cycles, counts): (String, u64, EventCounts)| (crate::plan::part(&name).to_owned(), cycles, counts);
        let mut parts = Vec::new();
        add_parts(&mut parts, operations.map(of_part).collect());
        parts
    }

    /// Tables for people: by operation summed over the layers, by layer, by class. With `every`, each operation of each
    /// layer as well. If the host takes part, its cycles have a column, its operations a mark, and there is a subtotal of
    /// each side.
    pub fn table(&self, every: bool) -> String {
        let mut out = format!("{} on {}\n", self.title, self.config);
        if every {
            self.section(&mut out, "operation", self.operations.iter().map(|o| &o.figures));
        }
        self.section(&mut out, "operation, all layers", self.parts.iter());
        self.section(&mut out, "layer", self.layers.iter());
        self.section(&mut out, "class", self.classes.iter().chain([&self.total]));
        if let Some(host) = &self.host {
            self.section(&mut out, "unit", self.units.iter().chain([&self.total]));
            let _ = write!(out, "\n{host}");
        }
        if self.assumes_no_zero_divisor {
            let _ = writeln!(out, "\n{}", Self::ASSUMPTION);
        }
        out
    }

    fn section<'a>(&self, out: &mut String, heading: &str, rows: impl Iterator<Item = &'a Figures>) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        let host = |cell: &str| if self.host.is_some() { format!(" {cell:>12}") } else { String::new() };
        let _ = writeln!(
            out,
            "\n{heading:26} {:>12}{} {:>6} {:>15} {:>6} {:>11} {:>11} {:>9}",
            "cycles",
            host("host cycles"),
            "share",
            "MACs",
            "util.",
            "bytes in",
            "bytes out",
            "MAC/byte"
        );
        for f in rows {
            let name = if heading == "unit" { f.name.clone() } else { f.marked_name() };
            let _ = writeln!(
                out,
                "{name:26} {:>12}{} {:>5.1}% {:>15} {:>5.1}% {:>11} {:>11} {:>9.2}",
                f.cycles,
                host(&f.host_cycles.to_string()),
                100.0 * f.share,
                f.macs,
                100.0 * f.utilisation,
                f.bytes_in,
                f.bytes_out,
                f.intensity
            );
        }
    }
}

/// Adds cycles and counts to those of the same name.
pub(crate) fn add_parts(parts: &mut Vec<(String, u64, EventCounts)>, more: Vec<(String, u64, EventCounts)>) {
    for (name, cycles, counts) in more {
        match parts.iter_mut().find(|part| part.0 == name) {
            Some(part) => {
                part.1 += cycles;
                part.2 += counts;
            }
            None => parts.push((name, cycles, counts)),
        }
    }
}
