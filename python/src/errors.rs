//! Errors as exceptions of `pollux.errors`, with what the assembler says of each place.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use pollux_sim::simulation::RunError;
use pyo3::prelude::*;
use serde_json::{Value, json};

/// An exception of this class, with details as JSON.
pub fn exception(class: &str, message: &str, details: &Value) -> PyErr {
    let make = |py: Python<'_>| -> PyResult<PyErr> {
        let class = py.import("pollux.errors")?.getattr(class)?;
        Ok(PyErr::from_value(class.call1((message, details.to_string()))?))
    };
    Python::attach(|py| make(py).unwrap_or_else(|error| error))
}

/// Bad input.
pub fn input(error: impl std::fmt::Display) -> PyErr {
    exception("PolluxError", &error.to_string(), &Value::Null)
}

/// A configuration that does not exist or cannot be built.
pub fn config(error: impl std::fmt::Display) -> PyErr {
    exception("ConfigError", &error.to_string(), &Value::Null)
}

/// An error of the library; a run that was cancelled ends with what the interpreter raised.
pub fn library(error: pollux::Error, interrupt: Option<&Interrupt>) -> PyErr {
    let message = error.to_string();
    match error {
        pollux::Error::Text(diagnostics) => {
            let place = |diagnostic: &pollux_asm::Diagnostic| {
                let (line, column) = diagnostic.position();
                json!({
                    "message": diagnostic.message, "file": diagnostic.file.name, "line": line, "column": column,
                    "help": diagnostic.help,
                })
            };
            let places: Vec<Value> = diagnostics.0.iter().map(place).collect();
            exception("AssemblyError", message.trim_end(), &json!(places))
        }
        pollux::Error::Illegal(lines) => exception("IllegalProgramError", &message, &json!(lines)),
        pollux::Error::Stopped(stopped) => run(&stopped.error, interrupt),
        pollux::Error::StoppedWithoutValues(stopped) => run(&stopped.error, interrupt),
        pollux::Error::Ended => interrupt.and_then(Interrupt::take).unwrap_or_else(|| input(message)),
        pollux::Error::Config(_) => config(message),
        _ => input(message),
    }
}

/// A run that did not come to its end.
pub fn run(error: &RunError, interrupt: Option<&Interrupt>) -> PyErr {
    let raised = interrupt.and_then(Interrupt::take);
    raised.unwrap_or_else(|| exception("SimulationError", &error.to_string(), &Value::Null))
}

/// Asks the interpreter now and then whether the user wants a run to end, and keeps what it raises.
#[derive(Default)]
pub struct Interrupt(Mutex<Option<PyErr>>);

impl Interrupt {
    /// Whether to end.
    pub fn is_raised(&self) -> bool {
        let signals = Python::attach(|py| py.check_signals());
        match signals {
            Ok(()) => false,
            Err(error) => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                true
            }
        }
    }

    /// The same for who watches a run.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Ends what calls this, up to [`interruptible`], if the user wants it to end.
    fn tick(&self) {
        if self.is_raised() {
            // No panic: nothing is wrong, and nobody is told.
            resume_unwind(Box::new(Interrupted));
        }
    }

    /// What was raised.
    pub fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What ends a computation that only tells how far it is.
struct Interrupted;

/// Runs what tells how far it is by calling its argument now and then, with the interpreter's lock free; Ctrl-C ends it there.
///
/// # Errors
/// What the interpreter raised.
pub fn interruptible<T: Send>(py: Python<'_>, run: impl FnOnce(&dyn Fn()) -> T + Send) -> PyResult<T> {
    py.detach(|| {
        let interrupt = Interrupt::default();
        // What was computed so far is given up as a whole.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&|| interrupt.tick())));
        match outcome {
            Ok(value) => interrupt.take().map_or(Ok(value), Err),
            Err(payload) => match interrupt.take() {
                Some(error) if payload.is::<Interrupted>() => Err(error),
                _ => resume_unwind(payload),
            },
        }
    })
}
