//! What happens when the user or the system interrupts a run.

use crate::files::Temporaries;

/// From now on INT, TERM and HUP end the process without its temporary files, with the exit code that a shell gives: 128
/// and the signal. A signal that is ignored, as HUP under `nohup`, stays ignored.
///
/// If the system gives no thread or no handler, signals end the process as they do by default.
#[cfg(unix)]
pub fn watch(temporaries: Temporaries) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let ignored = ignored_signals();
    let signals = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0);
    let (ready, watching) = std::sync::mpsc::channel();
    let wait = move || {
        let signals = Signals::new(signals);
        drop(ready);
        if let Some(signal) = signals.ok().and_then(|mut signals| signals.forever().next()) {
            let _kept_until_the_end = temporaries.remove_for_good();
            std::process::exit(128 + signal);
        }
    };
    if std::thread::Builder::new().name("signals".to_owned()).spawn(wait).is_ok() {
        // Nothing is ever sent: the thread has come to its wait when the channel closes.
        let _: Result<(), _> = watching.recv();
    }
}

#[cfg(not(unix))]
pub fn watch(_: Temporaries) {}

/// A bit for each signal that the process was started to ignore; none where the system does not tell.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
