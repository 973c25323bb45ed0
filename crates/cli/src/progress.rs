//! Progress of long work, on the standard error of a terminal.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::{Output, counted};

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(100);

const BAR: &str = "{percent:>3} % [{bar:40}] {human_pos}/{human_len} {msg}, {elapsed}, {eta} left";
/// Of cycles, whose number is not known before, by the operations, whose number is.
const CYCLES_BAR: &str = "{percent:>3} % [{bar:40}] {msg}, {rate}, {elapsed}, {eta} left";
const CYCLES: &str = "{spinner} {msg}, {rate}, {elapsed}";
const SPINNER: &str = "{spinner} {msg}, {elapsed}";

/// A bar of so many units of work, with its percentage and the time left. It is invisible with JSON output and if the
/// standard error is no terminal.
pub fn bar(out: &Output, length: u64, what: &'static str) -> ProgressBar {
    make(out, Some(length), BAR, what)
}

/// The same for work without measure.
pub fn spinner(out: &Output, what: &'static str) -> ProgressBar {
    make(out, None, SPINNER, what)
}

/// Does such work.
pub fn during<T>(out: &Output, what: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = spinner(out, what);
    let result = work();
    spinner.finish_and_clear();
    result
}

fn make(out: &Output, length: Option<u64>, template: &str, what: &'static str) -> ProgressBar {
    styled(out, length, ProgressStyle::with_template(template)).with_message(what)
}

fn styled<E>(out: &Output, length: Option<u64>, style: Result<ProgressStyle, E>) -> ProgressBar {
    let target = if out.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(length, target);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

/// A simulation: its cycles and their rate, and how far it is if the program has several operations.
pub struct Cycles {
    bar: ProgressBar,
    /// Simulated up to now.
    cycles: Arc<AtomicU64>,
}

impl Cycles {
    /// Before the first cycle of a program with so many operations.
    pub fn new(out: &Output, operations: usize) -> Self {
        let (length, template) = if operations > 1 { (Some(operations as u64), CYCLES_BAR) } else { (None, CYCLES) };
        let cycles = Arc::new(AtomicU64::new(0));
        let so_far = Arc::clone(&cycles);
        let style = ProgressStyle::with_template(template).map(|style| {
            style.with_key("rate", move |state: &ProgressState, out: &mut dyn Write| {
                let seconds = state.elapsed().as_secs_f64().max(TICK.as_secs_f64());
                // A line that cannot be drawn is missed by nobody.
                let _ = out.write_str(&rate(so_far.load(Ordering::Relaxed) as f64 / seconds, "cycles"));
            })
        });
        Self { bar: styled(out, length, style), cycles }
    }

    /// The run has come to this cycle, and to this operation, counted from 0.
    pub fn at(&self, cycle: u64, operation: Option<usize>) {
        self.cycles.store(cycle, Ordering::Relaxed);
        self.bar.set_position(operation.unwrap_or(0) as u64);
        self.bar.set_message(counted(cycle, "cycle"));
    }

    /// Takes the line away while something else is printed.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// The run is over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Things a second, with three digits at most and a prefix: `4.6 M cycles/s`.
fn rate(per_second: f64, what: &str) -> String {
    let prefixes = [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
    // What would be rounded to 1000 has the next prefix.
    let (unit, prefix) = prefixes.into_iter().find(|(unit, _)| per_second >= 0.9995 * unit).unwrap_or((1.0, ""));
    let digits = if per_second / unit < 99.95 { 1 } else { 0 };
    format!("{:.digits$}{prefix} {what}/s", per_second / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let rates = [0.0, 0.25, 12.0, 999.7, 1234.0, 99_960.0, 4_612_345.0, 999_600_000.0, 2.5e12];
        let shown = rates.map(|per_second| rate(per_second, "cycles"));
        let expected = ["0.0", "0.2", "12.0", "1.0 k", "1.2 k", "100 k", "4.6 M", "1.0 G", "2500 G"];
        assert_eq!(shown, expected.map(|number| format!("{number} cycles/s")));
    }

    #[test]
    fn templates_are_valid() {
        assert!(
            [BAR, CYCLES_BAR, CYCLES, SPINNER].iter().all(|template| ProgressStyle::with_template(template).is_ok())
        );
    }
}
