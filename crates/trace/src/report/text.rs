//! Reports as tables for people.

use pollux_sim::report::{Block, BlockReport, RunReport};

/// A part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Totals, array and memory traffic.
    Totals,
    /// A line for each operation; nothing if there are no marks.
    Operations,
    /// What the blocks' cycles were spent on.
    Blocks,
    /// Accesses of the banks, and conflicts.
    Banks,
    /// Gemmini's own counters, those that are not 0.
    Counters,
}

impl Section {
    /// All parts in order.
    pub const ALL: [Self; 5] = [Self::Totals, Self::Operations, Self::Blocks, Self::Banks, Self::Counters];
}

/// Causes that are named in a block's line.
const SHOWN_CAUSES: usize = 3;

/// The whole report.
pub fn report_text(report: &RunReport) -> String {
    let sections = Section::ALL.map(|section| section_text(report, section));
    sections.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// One part of the report; lines end with a line feed.
pub fn section_text(report: &RunReport, section: Section) -> String {
    match section {
        Section::Totals => totals(report),
        Section::Operations => operations(report),
        Section::Blocks => blocks(report),
        Section::Banks => banks(report),
        Section::Counters => counters(report),
    }
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn share(part: u64, whole: u64) -> String {
    percent(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
}

/// A table: the first column and the last `left` columns are aligned to the left, the others to the right.
fn table(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            match column {
                0 => line.extend([cell.as_str(), &fill]),
                _ if column + left >= columns => line.extend(["  ", cell, &fill]),
                _ => line.extend(["  ", &fill, cell]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn header<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

fn totals(report: &RunReport) -> String {
    let (totals, mesh, dma) = (&report.totals, &report.mesh, &report.dma);
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let dim = report.dim;
    let mut rows = vec![
        row("configuration", format!("{}, {dim} x {dim}", report.config)),
        row("cycles", format!("{} ({} busy)", grouped(totals.busy_falls), grouped(totals.busy_cycles))),
        row(
            "commands",
            format!(
                "{} accepted, {} in the reservation station",
                grouped(totals.commands),
                grouped(totals.station_commands)
            ),
        ),
        row(
            "mesh",
            format!(
                "{} MACs, {} of peak, {} while rows enter",
                grouped(mesh.macs),
                percent(mesh.utilisation),
                percent(mesh.utilisation_while_busy)
            ),
        ),
        row(
            "reads",
            format!(
                "{} bytes in {} requests, {:.2} bytes a cycle, {} of the port, {:.1} cycles each",
                grouped(dma.traffic.read_bytes),
                grouped(dma.traffic.reads),
                dma.read_bytes_per_cycle,
                percent(dma.read_utilisation),
                dma.mean_read_latency
            ),
        ),
        row(
            "writes",
            format!(
                "{} bytes in {} requests, {:.2} bytes a cycle, {} of the port, {:.1} cycles each",
                grouped(dma.traffic.written_bytes),
                grouped(dma.traffic.writes),
                dma.written_bytes_per_cycle,
                percent(dma.write_utilisation),
                dma.mean_write_latency
            ),
        ),
    ];
    if totals.page_faults > 0 {
        rows.push(row("page faults", grouped(totals.page_faults)));
    }
    table(&rows, 1)
}

fn operations(report: &RunReport) -> String {
    if report.operations.is_empty() {
        return String::new();
    }
    let mut rows = vec![header([
        "operation",
        "cycles",
        "share",
        "commands",
        "MACs",
        "of peak",
        "read",
        "written",
        "mesh busy",
        "mesh waits for",
    ])];
    let cells =
        |name: &str, cycles: u64, commands: u64, macs: u64, utilisation: f64, bytes: [u64; 2], mesh: &BlockReport| {
            vec![
                name.to_owned(),
                grouped(cycles),
                share(cycles, report.totals.cycles),
                grouped(commands),
                grouped(macs),
                percent(utilisation),
                grouped(bytes[0]),
                grouped(bytes[1]),
                share(mesh.busy, cycles),
                causes(mesh, 1),
            ]
        };
    for operation in &report.operations {
        let name = if operation.name.is_empty() { "(before the first mark)" } else { &operation.name };
        let bytes = [operation.read_bytes, operation.written_bytes];
        let mesh = &operation.blocks[Block::Mesh as usize];
        rows.push(cells(
            name,
            operation.cycles,
            operation.commands,
            operation.macs,
            operation.utilisation,
            bytes,
            mesh,
        ));
    }
    let (totals, traffic) = (&report.totals, &report.dma.traffic);
    let bytes = [traffic.read_bytes, traffic.written_bytes];
    let mesh = &report.blocks[Block::Mesh as usize];
    rows.push(cells("all", totals.cycles, totals.commands, report.mesh.macs, report.mesh.utilisation, bytes, mesh));
    table(&rows, 1)
}

/// The longest causes of a block's stalls, with their part of the block's cycles.
fn causes(block: &BlockReport, shown: usize) -> String {
    let longest = block.causes.iter().take(shown);
    let named: Vec<String> =
        longest.map(|cause| format!("{} {}", cause.cause.name(), share(cause.cycles, block.cycles()))).collect();
    let more = block.causes.len().saturating_sub(shown);
    if more == 0 || shown == 1 { named.join(", ") } else { format!("{}, {more} more", named.join(", ")) }
}

fn blocks(report: &RunReport) -> String {
    let mut rows = vec![header(["block", "busy", "stalled", "draining", "idle", "causes of stalls"])];
    for block in &report.blocks {
        let parts = [block.busy, block.stalled, block.draining, block.idle];
        let mut row = vec![block.block.name().to_owned()];
        row.extend(parts.map(|cycles| share(cycles, block.cycles())));
        row.push(causes(block, SHOWN_CAUSES));
        rows.push(row);
    }
    table(&rows, 1)
}

fn banks(report: &RunReport) -> String {
    let mut rows = vec![header(["bank", "reads", "writes", "busy", "stalled", "idle"])];
    for bank in &report.banks {
        let name = format!("{} {}", bank.memory.name(), bank.bank);
        let mut row = vec![name, grouped(bank.reads), grouped(bank.writes)];
        row.extend([bank.busy, bank.stalled, bank.idle].map(|cycles| share(cycles, report.totals.cycles)));
        rows.push(row);
    }
    let mut out = table(&rows, 0);
    if !report.conflicts.is_empty() {
        let mut rows = vec![header(["conflict", "cycles", "what was refused, and why"])];
        for conflict in &report.conflicts {
            let description = conflict.conflict.description().to_owned();
            rows.push(vec![conflict.memory.name().to_owned(), grouped(conflict.cycles), description]);
        }
        out.push('\n');
        out.push_str(&table(&rows, 1));
    }
    out
}

fn counters(report: &RunReport) -> String {
    let mut rows = vec![header(["counter", "code", "value"])];
    for (counters, kind) in [(&report.counters, ""), (&report.external_counters, "external ")] {
        for counter in counters.iter().filter(|counter| counter.value > 0) {
            rows.push(vec![counter.name.to_owned(), format!("{kind}{}", counter.code), grouped(counter.value)]);
        }
    }
    table(&rows, 0)
}
