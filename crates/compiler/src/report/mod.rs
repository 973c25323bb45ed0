//! Where the cycles go: cycles, multiply-accumulates, utilisation, bytes and arithmetic intensity. What the host does is
//! reckoned, not simulated, so its cycles stand apart from the accelerator's.

mod figures;
mod html;
#[cfg(feature = "plots")]
mod plots;

use pollux_memory::Memory;

use crate::error::CompileError;
use crate::execute::{CycleSetup, Position, run_cycles, run_functional};
use crate::operation::Compiled;
pub(crate) use figures::add_parts;
pub use figures::{Figures, HostReport, OperationFigures, Report};

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
