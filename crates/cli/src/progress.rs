//! Progress of long work, on the standard error of a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// A bar of so many units of work. It is invisible with JSON output and if the standard error is no terminal.
pub fn bar(out: &Output, length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len} {elapsed}");
    make(out, Some(length), style, what)
}

/// The same for work of unknown length.
pub fn counter(out: &Output, what: &'static str) -> ProgressBar {
    make(out, None, ProgressStyle::with_template("{spinner} {human_pos} {msg} ({per_sec}) {elapsed}"), what)
}

/// The same for work without measure.
pub fn spinner(out: &Output, what: &'static str) -> ProgressBar {
    make(out, None, ProgressStyle::with_template("{spinner} {msg} {elapsed}"), what)
}

fn make<E>(out: &Output, length: Option<u64>, style: Result<ProgressStyle, E>, what: &'static str) -> ProgressBar {
    let target = if out.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(length, target).with_message(what);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
