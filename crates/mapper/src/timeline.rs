//! What a mapping does when: how much of the array and of the memory port is in use, window by window.

use pollux_isa::ValidConfig;
use pollux_sim::observer::{Cycle, Event, Observer, ReqKind};
use serde::Serialize;

use crate::emulate::{self, EmulationError, Surroundings};
use crate::mapping::Mapping;
use crate::problem::Problem;

/// A run in windows of equal length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// Cycles of a window; the last one may be shorter.
    pub window: Cycle,
    /// Cycles of the run.
    pub cycles: Cycle,
    /// Rows into the array in each window, of one a cycle.
    pub array: Vec<f64>,
    /// Beats of data read, of one a cycle.
    pub read: Vec<f64>,
    /// Beats of data written.
    pub written: Vec<f64>,
}

/// Runs a mapping that takes about so many cycles, in so many windows.
///
/// # Errors
/// As [`emulate::cycles`].
pub fn timeline(
    config: &ValidConfig,
    problem: &Problem,
    mapping: &Mapping,
    around: &Surroundings,
    (cycles, windows): (Cycle, usize),
) -> Result<Timeline, EmulationError> {
    let mut counter = Windows { window: cycles.div_ceil(windows.max(1) as Cycle).max(1), counts: Vec::new() };
    let cycles = emulate::observed(config, problem, mapping, around, &mut counter)?;
    let Windows { window, mut counts } = counter;
    counts.resize(cycles.div_ceil(window) as usize, [0; 3]);
    let part = |kind: usize| {
        let share = |(index, counts): (usize, &[u64; 3])| {
            let length = window.min(cycles - index as Cycle * window).max(1);
            counts[kind] as f64 / length as f64
        };
        counts.iter().enumerate().map(share).collect()
    };
    Ok(Timeline { window, cycles, array: part(0), read: part(1), written: part(2) })
}

/// Counts of each window: rows, beats read, beats written.
struct Windows {
    window: Cycle,
    counts: Vec<[u64; 3]>,
}

impl Observer for Windows {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        let kind = match event {
            Event::MeshA => 0,
            Event::Rsp { ack: false, .. } => 1,
            Event::Req { kind: ReqKind::PutFull | ReqKind::PutPartial, .. } => 2,
            _ => return,
        };
        let index = (cycle / self.window) as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, [0; 3]);
        }
        self.counts[index][kind] += 1;
    }
}
