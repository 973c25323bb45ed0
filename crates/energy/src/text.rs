//! Reports and prices as tables for people.

use std::fmt::Write;

use crate::prices::{Component, Prices};
use crate::report::{EnergyFigures, EnergyReport, Unpriced};

/// Energy in a unit in which it is easy to read.
fn energy(pj: f64) -> String {
    let units = [("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3), ("pJ", 1.0)];
    let (unit, scale) = units.into_iter().find(|(_, scale)| pj >= *scale).unwrap_or(("pJ", 1.0));
    format!("{} {unit}", significant(pj / scale))
}

/// Four significant digits.
fn significant(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let magnitude = number.abs().log10().floor() as i32;
    if !(-4..=6).contains(&magnitude) {
        return format!("{number:.3e}");
    }
    format!("{number:.*}", (3 - magnitude).max(0) as usize)
}

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

/// The first column aligned to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells =
            cells.map(|(i, (cell, &width))| if i == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A clock: `1 GHz`, `500 MHz`.
fn clock(hz: f64) -> String {
    if hz >= 1e9 { format!("{} GHz", hz / 1e9) } else { format!("{} MHz", hz / 1e6) }
}

impl EnergyReport {
    /// Table, node, clock and configuration: the heading of everything that is printed.
    pub fn heading(&self) -> String {
        format!("energy table {}, node {}, {} ({})", self.table, self.node, clock(self.clock_hz), self.title)
    }

    /// The whole report for people.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.heading());
        if let Some(why) = &self.mixed_nodes {
            let _ = writeln!(out, "mixed nodes: {why}");
        }
        out.push('\n');
        out.push_str(&self.components());
        if self.operations.len() > 1 {
            out.push('\n');
            out.push_str(&self.operation_table());
        }
        let _ = write!(out, "\n{}{}", self.summary(), self.exclusions());
        out
    }

    /// Energy by component and action.
    fn components(&self) -> String {
        let mut rows = vec![row(["component", "events", "pJ each", "energy", "share"])];
        for component in &self.total.components {
            let share = |pj: f64| if self.total.energy_pj > 0.0 { 100.0 * pj / self.total.energy_pj } else { 0.0 };
            let percent = |pj| format!("{:.1} %", share(pj));
            rows.push(row([
                component.component.name(),
                "",
                "",
                &energy(component.energy_pj),
                &percent(component.energy_pj),
            ]));
            for action in &component.actions {
                let events = format!("{} {}", grouped(action.count), plural(action.unit, action.count));
                let name = format!("  {}", action.action);
                rows.push(row([
                    &name,
                    &events,
                    &significant(action.pj),
                    &energy(action.energy_pj),
                    &percent(action.energy_pj),
                ]));
            }
        }
        rows.push(row(["total", "", "", &energy(self.total.energy_pj), "100.0 %"]));
        table(&rows)
    }

    fn operation_table(&self) -> String {
        let shown: Vec<Component> = Component::ALL.into_iter().filter(|c| self.total.of(*c) > 0.0).collect();
        let mut heading = row(["operation", "cycles", "energy", "share", "pJ/MAC", "EDP J s"]);
        heading.extend(shown.iter().map(|component| component.name().to_owned()));
        let mut rows = vec![heading];
        for figures in self.operations.iter().chain([&self.total]) {
            rows.push(self.operation_row(figures, &shown));
        }
        table(&rows)
    }

    fn operation_row(&self, figures: &EnergyFigures, shown: &[Component]) -> Vec<String> {
        let share = if self.total.energy_pj > 0.0 { 100.0 * figures.energy_pj / self.total.energy_pj } else { 0.0 };
        let name = if figures.name.is_empty() { "(before the first mark)" } else { &figures.name };
        let mut cells = vec![
            name.to_owned(),
            grouped(figures.cycles),
            energy(figures.energy_pj),
            format!("{share:.1} %"),
            per_mac(figures),
            format!("{:.3e}", figures.edp_js),
        ];
        let part = |component: &Component| {
            let part = if figures.energy_pj > 0.0 { figures.of(*component) / figures.energy_pj } else { 0.0 };
            format!("{:.1} %", 100.0 * part)
        };
        cells.extend(shown.iter().map(part));
        cells
    }

    /// pJ a multiply-accumulate and the energy-delay product.
    fn summary(&self) -> String {
        let total = &self.total;
        format!(
            "{} in {} cycles ({:.3e} s at {}), {} pJ/MAC\nEDP {:.4e} J s, {:.4e} mJ cycles\n",
            energy(total.energy_pj),
            grouped(total.cycles),
            total.seconds,
            clock(self.clock_hz),
            per_mac(total),
            total.edp_js,
            total.edp_mj_cycles
        )
    }

    fn exclusions(&self) -> String {
        let unpriced = |u: &Unpriced| {
            format!("{} {} ({} {})", u.component.name(), u.action, grouped(u.count), plural(u.unit, u.count))
        };
        let mut parts: Vec<String> = self.not_included.iter().map(unpriced).collect();
        if self.leakage_mw == 0.0 {
            parts.push("leakage".to_owned());
        }
        let unpriced = if parts.is_empty() { String::new() } else { format!("no figure for: {}\n", parts.join(", ")) };
        format!("{unpriced}not included: {}\n", self.never_included)
    }
}

fn per_mac(figures: &EnergyFigures) -> String {
    figures.energy_per_mac_pj.map_or_else(|| "-".to_owned(), significant)
}

fn plural(unit: &str, count: u64) -> String {
    if count == 1 { unit.to_owned() } else { format!("{unit}s") }
}

impl Prices {
    /// What each action costs, and the areas, for people.
    pub fn text(&self) -> String {
        let mut out = format!("energy table {}, node {} ({}) on {}\n", self.table, self.node, self.title, self.config);
        if let Some(why) = &self.mixed_nodes {
            let _ = writeln!(out, "mixed nodes: {why}");
        }
        let mut rows = vec![row(["component", "action", "of", "pJ each"])];
        for price in &self.prices {
            let pj = price.pj.map_or_else(|| "-".to_owned(), significant);
            rows.push(row([price.action.component.name(), price.action.name, price.action.unit, &pj]));
        }
        let _ = write!(out, "\n{}", table(&rows));
        let mut rows = vec![row(["area", "of", "mm2"])];
        for area in &self.areas {
            let mm2 = area.um2.map_or_else(|| "-".to_owned(), |um2| significant(um2 / 1e6));
            rows.push(row([area.component.name(), area.what, &mm2]));
        }
        let _ = write!(out, "\n{}", table(&rows));
        let leakage: Vec<String> = self
            .leakage_mw
            .iter()
            .map(|(component, mw)| format!("{} {} mW", component.name(), significant(*mw)))
            .collect();
        let leakage = if leakage.is_empty() { "no figure".to_owned() } else { leakage.join(", ") };
        let _ = writeln!(out, "\nleakage: {leakage}");
        out
    }
}
