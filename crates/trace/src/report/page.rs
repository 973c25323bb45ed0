//! [`report_html`]: a run as one page with plots, which needs nothing else: timeline of the blocks, causes of stalls, roofline, use of the
//! banks, commands over time. [`Plots`] collects what a report does not have.

use std::fmt::Write;

use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span};
use pollux_sim::report::{Block, RunReport, Spent};

use super::text::report_text;
use crate::timeline::{Life, Lives};

/// Columns of the timeline at most: their cycles double when there are more.
const COLUMNS: usize = 512;
/// Commands of the Gantt chart at most: the first ones.
const COMMANDS: usize = 200;
/// Width of a plot in pixels, without its labels.
const WIDTH: f64 = 900.0;
/// Room for labels at the left.
const LABEL: f64 = 170.0;

/// Collects what the plots show of time. Its size does not grow with the run.
#[derive(Clone, Debug)]
pub struct Plots {
    /// Cycles of a column.
    width: u64,
    /// By column and block: busy and stalled cycles.
    columns: Vec<[[u64; 2]; Block::ALL.len()]>,
    lives: Lives,
    commands: Vec<Life>,
}

impl Default for Plots {
    fn default() -> Self {
        Self { width: 1, columns: Vec::new(), lives: Lives::default(), commands: Vec::new() }
    }
}

impl Plots {
    fn add(&mut self, block: usize, kind: usize, first: Cycle, cycles: u64) {
        let (mut at, end) = (first, first + cycles);
        while at < end {
            let column = (at / self.width) as usize;
            let to = ((column as u64 + 1) * self.width).min(end);
            self.columns[column][block][kind] += to - at;
            at = to;
        }
    }

    /// Makes columns up to and with a cycle.
    fn reach(&mut self, last: Cycle) {
        while (last / self.width) as usize >= COLUMNS {
            self.width = self.width.saturating_mul(2);
            let halved = self.columns.chunks(2).map(|pair| {
                let mut sum = pair[0];
                for (sum, more) in sum.iter_mut().flatten().zip(pair.iter().skip(1).flatten().flatten()) {
                    *sum += more;
                }
                sum
            });
            self.columns = halved.collect();
        }
        let needed = (last / self.width) as usize + 1;
        if self.columns.len() < needed {
            self.columns.resize(needed, [[0; 2]; Block::ALL.len()]);
        }
    }
}

impl Observer for Plots {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if self.commands.len() < COMMANDS {
            self.commands.extend(self.lives.event(cycle, event, links));
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        if span.cycles == 0 {
            return;
        }
        self.reach(span.first + (span.cycles - 1));
        for (block, spent) in activity.blocks.into_iter().enumerate() {
            match spent {
                Spent::Busy => self.add(block, 0, span.first, span.cycles),
                Spent::Stalled(_) => self.add(block, 1, span.first, span.cycles),
                Spent::Idle | Spent::Draining => {}
            }
        }
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--busy:#2c7a4b;--stall:#c0392b;--other:#8a8a8a;--grid:#ddd}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#161616;--busy:#4cc27e;--stall:#ff7b6b;--other:#8a8a8a;--grid:#333}}\
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1120px;margin:2em auto;padding:0 1em}\
svg{width:100%;height:auto}svg text{fill:var(--ink);font:11px system-ui,sans-serif}pre{overflow:auto}\
.busy{fill:var(--busy)}.stall{fill:var(--stall)}.other{fill:var(--other)}.grid{stroke:var(--grid);fill:none}\
.line{stroke:var(--ink);fill:none}";

/// The page. `describe` is the text of a command.
pub fn report_html(report: &RunReport, plots: &Plots, title: &str, describe: impl Fn(&Life) -> String) -> String {
    let mut out = String::new();
    let title = escape(title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1>\n<p>{} cycles on {}, DIM {}; the array does {:.1} % of what it could.</p>\n",
        report.totals.busy_falls,
        escape(&report.config),
        report.dim,
        100.0 * report.mesh.utilisation
    );
    let sections = [
        (
            "Blocks over time",
            "How much of each stretch of cycles a block was busy (green) and stalled (red).",
            blocks(plots),
        ),
        (
            "Causes of stalls",
            "Cycles in which a block had work that could not move, by cause: the two largest of each block.",
            causes(report),
        ),
        (
            "Roofline",
            "Multiply-accumulates a cycle over those for each byte moved. The roof is the array's and the port's peak.",
            roofline(report),
        ),
        (
            "Banks",
            "Share of the cycles in which a bank takes an access (green), or refuses one and takes none (red).",
            banks(report),
        ),
        (
            "Commands",
            "The first commands in the reservation station: waiting (grey), with their controller (green).",
            gantt(plots, describe),
        ),
    ];
    for (name, caption, svg) in sections {
        let _ = write!(out, "<h2>{name}</h2>\n<p>{caption}</p>\n{svg}\n");
    }
    let _ = write!(out, "<h2>All numbers</h2>\n<pre>{}</pre>\n</body></html>\n", escape(&report_text(report)));
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A drawing of so many rows of this height, with labels at the left.
struct Drawing {
    svg: String,
    height: f64,
}

impl Drawing {
    fn new(name: &str) -> Self {
        Self { svg: format!("<title>{name}</title>"), height: 0.0 }
    }

    fn label(&mut self, y: f64, text: &str) {
        let _ = write!(self.svg, "<text x=\"0\" y=\"{:.1}\">{}</text>", y, escape(text));
    }

    fn text(&mut self, x: f64, y: f64, text: &str) {
        let _ = write!(self.svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LABEL + x, y, escape(text));
    }

    /// A bar with a tooltip.
    fn bar(&mut self, class: &str, [x, y, width, height]: [f64; 4], tip: &str) {
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\">{tip}</rect>",
            LABEL + x
        );
    }

    fn finish(self) -> String {
        let (width, height) = (LABEL + WIDTH + 40.0, self.height + 20.0);
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\">{}</svg>", self.svg)
    }
}

fn blocks(plots: &Plots) -> String {
    const ROW: f64 = 18.0;
    let mut drawing = Drawing::new("Blocks over time");
    let column_width = WIDTH / plots.columns.len().max(1) as f64;
    for (i, block) in Block::ALL.into_iter().enumerate() {
        let top = i as f64 * ROW;
        drawing.label(top + 13.0, block.name());
        for (column, of) in plots.columns.iter().enumerate() {
            let [busy, stalled] = of[i].map(|cycles| cycles as f64 / plots.width as f64 * (ROW - 3.0));
            let x = column as f64 * column_width;
            if busy > 0.0 {
                drawing.bar("busy", [x, top + ROW - 2.0 - busy, column_width, busy], "");
            }
            if stalled > 0.0 {
                drawing.bar("stall", [x, top + ROW - 2.0 - busy - stalled, column_width, stalled], "");
            }
        }
    }
    drawing.height = Block::ALL.len() as f64 * ROW;
    let end = plots.columns.len() as u64 * plots.width;
    drawing.text(0.0, drawing.height + 14.0, "cycle 0");
    drawing.text(WIDTH - 90.0, drawing.height + 14.0, &format!("cycle {end}"));
    drawing.finish()
}

fn causes(report: &RunReport) -> String {
    const ROW: f64 = 18.0;
    let mut drawing = Drawing::new("Causes of stalls");
    let all = report.totals.cycles.max(1) as f64;
    let mut y = 0.0;
    for block in report.blocks.iter().filter(|block| block.stalled > 0) {
        for cause in block.causes.iter().take(2) {
            let share = cause.cycles as f64 / all;
            drawing.label(y + 13.0, block.block.name());
            let tip = format!("{}: {} cycles", cause.cause.description(), cause.cycles);
            drawing.bar("stall", [0.0, y + 2.0, share * WIDTH * 0.6, ROW - 4.0], &tip);
            let text = format!("{} {:.1} %", cause.cause.name(), 100.0 * share);
            drawing.text(share * WIDTH * 0.6 + 6.0, y + 13.0, &text);
            y += ROW;
        }
    }
    drawing.height = y;
    drawing.finish()
}

fn roofline(report: &RunReport) -> String {
    const HEIGHT: f64 = 260.0;
    let mut drawing = Drawing::new("Roofline");
    let peak = report.mesh.peak_macs_per_cycle as f64;
    // Both channels move a beat a cycle.
    let bytes_per_cycle = report.dma.beat_bytes as f64;
    let ridge = (peak / bytes_per_cycle).log2();
    let (first, last) = ((ridge - 6.0).floor(), (ridge + 6.0).ceil());
    let top = peak.log2() + 1.0;
    let bottom = top - 10.0;
    let place = |intensity: f64, macs: f64| {
        let x = (intensity.log2() - first) / (last - first) * WIDTH;
        let y = (top - macs.log2()) / (top - bottom) * HEIGHT;
        (x.clamp(0.0, WIDTH), y.clamp(0.0, HEIGHT))
    };
    let roof: Vec<String> = [first, ridge, last]
        .into_iter()
        .map(|at| {
            let intensity = at.exp2();
            let (x, y) = place(intensity, (intensity * bytes_per_cycle).min(peak));
            format!("{:.1},{y:.1}", LABEL + x)
        })
        .collect();
    let _ = write!(drawing.svg, "<polyline class=\"line\" points=\"{}\"/>", roof.join(" "));
    drawing.label(20.0, &format!("{peak} MACs a cycle"));
    drawing.label(HEIGHT, &format!("{} bytes a cycle", report.dma.beat_bytes));
    let mut point = |name: &str, macs: u64, bytes: u64, cycles: u64| {
        if macs == 0 || bytes == 0 || cycles == 0 {
            return;
        }
        let (intensity, rate) = (macs as f64 / bytes as f64, macs as f64 / cycles as f64);
        let (x, y) = place(intensity, rate);
        let tip = format!("{name}: {rate:.1} MACs a cycle, {intensity:.2} for a byte");
        drawing.bar("busy", [x - 3.0, y - 3.0, 6.0, 6.0], &tip);
    };
    for operation in &report.operations {
        point(&operation.name, operation.macs, operation.read_bytes + operation.written_bytes, operation.cycles);
    }
    let traffic = &report.dma.traffic;
    point("the whole run", report.mesh.macs, traffic.read_bytes + traffic.written_bytes, report.totals.cycles);
    for exponent in (first as i32..=last as i32).step_by(2) {
        let (x, _) = place(f64::from(exponent).exp2(), peak);
        drawing.text(x, HEIGHT + 14.0, &format!("2^{exponent}"));
    }
    drawing.height = HEIGHT;
    drawing.finish()
}

fn banks(report: &RunReport) -> String {
    const ROW: f64 = 18.0;
    let mut drawing = Drawing::new("Banks");
    let all = report.totals.cycles.max(1) as f64;
    for (i, bank) in report.banks.iter().enumerate() {
        let y = i as f64 * ROW;
        drawing.label(y + 13.0, &format!("{} {}", bank.memory.name(), bank.bank));
        let [busy, stalled] = [bank.busy, bank.stalled].map(|cycles| cycles as f64 / all * WIDTH);
        let tip = format!("{} reads, {} writes", bank.reads, bank.writes);
        drawing.bar("busy", [0.0, y + 2.0, busy, ROW - 4.0], &tip);
        drawing.bar("stall", [busy, y + 2.0, stalled, ROW - 4.0], &format!("{} cycles stalled", bank.stalled));
    }
    drawing.height = report.banks.len() as f64 * ROW;
    drawing.finish()
}

fn gantt(plots: &Plots, describe: impl Fn(&Life) -> String) -> String {
    const ROW: f64 = 7.0;
    let mut drawing = Drawing::new("Commands");
    let mut commands: Vec<&Life> = plots.commands.iter().collect();
    commands.sort_by_key(|life| life.seq);
    let start = commands.iter().map(|life| life.allocated).min().unwrap_or(0);
    let end = commands.iter().filter_map(|life| life.completed).max().unwrap_or(start) + 1;
    let scale = WIDTH / (end - start).max(1) as f64;
    for (i, life) in commands.iter().enumerate() {
        let y = i as f64 * ROW;
        let (issued, completed) = (life.issued.unwrap_or(end), life.completed.unwrap_or(end) + 1);
        let text = format!("{}: {}, cycles {} to {}", life.seq, describe(life), life.allocated, completed - 1);
        let x = |cycle: Cycle| (cycle - start) as f64 * scale;
        drawing.bar("other", [x(life.allocated), y, x(issued) - x(life.allocated), ROW - 1.0], &text);
        drawing.bar("busy", [x(issued), y, (x(completed) - x(issued)).max(0.5), ROW - 1.0], &text);
        if i % 4 == 0 {
            drawing.label(y + 7.0, &describe(life).chars().take(24).collect::<String>());
        }
    }
    drawing.height = commands.len() as f64 * ROW;
    drawing.text(0.0, drawing.height + 14.0, &format!("cycle {start}"));
    drawing.text(WIDTH - 90.0, drawing.height + 14.0, &format!("cycle {end}"));
    drawing.finish()
}
