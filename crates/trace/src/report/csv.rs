//! Reports as comma-separated values.

use std::fmt::Write;

use pollux_sim::report::{BlockReport, RunReport};

/// First line of [`report_csv`].
pub const CSV_HEADER: &str = "section,name,quantity,cause,value";

/// Lines of the one big table.
struct Lines(String);

impl Lines {
    fn push(&mut self, section: &str, name: &str, quantity: &str, cause: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{section},{},{quantity},{cause},{value}", quoted(name));
    }

    fn blocks(&mut self, section: &str, prefix: &str, blocks: &[BlockReport]) {
        for report in blocks {
            let name = format!("{prefix}{}", report.block.name());
            let parts = [("busy", report.busy), ("draining", report.draining), ("idle", report.idle)];
            for (quantity, value) in parts {
                self.push(section, &name, quantity, "", value);
            }
            for cause in &report.causes {
                self.push(section, &name, "stalled", cause.cause.name(), cause.cycles);
            }
        }
    }
}

/// A field that may hold commas or quotes.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Every number of a report, a line each: `section,name,quantity,cause,value`.
///
/// Sections: `total`, `mesh`, `dma`, `block`, `bank` (name `scratchpad 0`), `conflict` (name of the memory), `counter`,
/// `external`, `operation`, and `operation_block` (name `operation/block`). For a block the values of `busy`, `draining`,
/// `idle` and of all causes of `stalled` add up to the cycles.
pub fn report_csv(report: &RunReport) -> String {
    let mut lines = Lines(format!("{CSV_HEADER}\n"));
    totals(report, &mut lines);
    lines.blocks("block", "", &report.blocks);
    for bank in &report.banks {
        let name = format!("{} {}", bank.memory.name(), bank.bank);
        let parts = [("reads", bank.reads), ("writes", bank.writes)];
        for (quantity, value) in
            parts.into_iter().chain([("busy", bank.busy), ("stalled", bank.stalled), ("idle", bank.idle)])
        {
            lines.push("bank", &name, quantity, "", value);
        }
    }
    for conflict in &report.conflicts {
        lines.push("conflict", conflict.memory.name(), "refused", conflict.conflict.name(), conflict.cycles);
    }
    for counter in &report.counters {
        lines.push("counter", counter.name, "cycles", "", counter.value);
    }
    for counter in &report.external_counters {
        lines.push("external", counter.name, "value", "", counter.value);
    }
    for operation in &report.operations {
        let numbers = [
            ("start", operation.start),
            ("cycles", operation.cycles),
            ("commands", operation.commands),
            ("macs", operation.macs),
            ("read_bytes", operation.read_bytes),
            ("written_bytes", operation.written_bytes),
        ];
        for (quantity, value) in numbers {
            lines.push("operation", &operation.name, quantity, "", value);
        }
        lines.push("operation", &operation.name, "utilisation", "", operation.utilisation);
    }
    for operation in &report.operations {
        lines.blocks("operation_block", &format!("{}/", operation.name), &operation.blocks);
    }
    lines.0
}

fn totals(report: &RunReport, lines: &mut Lines) {
    let (totals, mesh, dma) = (&report.totals, &report.mesh, &report.dma);
    let sections: [(&str, &[(&str, u64)]); 3] = [
        (
            "total",
            &[
                ("cycles", totals.cycles),
                ("busy_falls", totals.busy_falls),
                ("busy_cycles", totals.busy_cycles),
                ("commands", totals.commands),
                ("station_commands", totals.station_commands),
                ("page_faults", totals.page_faults),
            ],
        ),
        (
            "mesh",
            &[
                ("macs", mesh.macs),
                ("peak_macs_per_cycle", mesh.peak_macs_per_cycle),
                ("row_cycles", mesh.row_cycles),
                ("requests", mesh.requests),
            ],
        ),
        (
            "dma",
            &[
                ("reads", dma.traffic.reads),
                ("writes", dma.traffic.writes),
                ("read_bytes", dma.traffic.read_bytes),
                ("written_bytes", dma.traffic.written_bytes),
                ("read_beats", dma.traffic.read_beats),
                ("write_beats", dma.traffic.write_beats),
                ("beat_bytes", dma.beat_bytes),
            ],
        ),
    ];
    for (section, numbers) in sections {
        numbers.iter().for_each(|(quantity, value)| lines.push(section, "", quantity, "", value));
    }
    let rates = [
        ("mesh", "utilisation", mesh.utilisation),
        ("mesh", "utilisation_while_busy", mesh.utilisation_while_busy),
        ("dma", "read_bytes_per_cycle", dma.read_bytes_per_cycle),
        ("dma", "written_bytes_per_cycle", dma.written_bytes_per_cycle),
        ("dma", "read_utilisation", dma.read_utilisation),
        ("dma", "write_utilisation", dma.write_utilisation),
        ("dma", "mean_read_latency", dma.mean_read_latency),
        ("dma", "mean_write_latency", dma.mean_write_latency),
    ];
    rates.into_iter().for_each(|(section, quantity, value)| lines.push(section, "", quantity, "", value));
}

/// The operations alone, a line each:
/// `operation,start,cycles,commands,macs,utilisation,read_bytes,written_bytes,mesh_busy,mesh_stalled,main_stall`.
pub fn operations_csv(report: &RunReport) -> String {
    let mut out = String::from(
        "operation,start,cycles,commands,macs,utilisation,read_bytes,written_bytes,mesh_busy,mesh_stalled,main_stall\n",
    );
    for operation in &report.operations {
        let name = quoted(&operation.name);
        let mesh = operation.blocks.iter().find(|report| report.block == pollux_sim::report::Block::Mesh);
        let (busy, stalled) = mesh.map_or((0, 0), |mesh| (mesh.busy, mesh.stalled));
        let main = mesh.and_then(|mesh| mesh.causes.first()).map_or("", |cause| cause.cause.name());
        let (start, cycles, commands, macs) = (operation.start, operation.cycles, operation.commands, operation.macs);
        let (utilisation, read, written) = (operation.utilisation, operation.read_bytes, operation.written_bytes);
        let _ = writeln!(
            out,
            "{name},{start},{cycles},{commands},{macs},{utilisation},{read},{written},{busy},{stalled},{main}"
        );
    }
    out
}
