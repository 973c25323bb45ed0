//! Time travel: a run that can be at any of its cycles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pollux::session::script::Line;
use pollux::session::{Life, Options, SessionError, Setup};
use pollux_asm::Disassembler;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Value, json};

use crate::errors::{self, Interrupt};
use crate::program::Program;
use crate::run::{buffer, memory_model};

/// A program at a cycle.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Session {
    program: Arc<pollux_asm::Program>,
    session: Mutex<pollux::session::Session>,
    interrupt: Arc<Interrupt>,
}

#[pymethods]
impl Session {
    /// At cycle 0; its snapshots take so many bytes, about.
    #[new]
    fn new(py: Python<'_>, program: &Program, memory: &str, interval: u64, snapshot_bytes: usize) -> PyResult<Self> {
        let setup = Setup { memory: memory_model(memory)?, interval, ..Setup::default() };
        let program = Arc::clone(&program.0);
        let options = Options { setup, snapshot_bytes };
        let session = py.detach(|| pollux::session::Session::new(Arc::clone(&program), options));
        let mut session = session.map_err(errors::input)?;
        let interrupt = Arc::new(Interrupt::default());
        let watched = Arc::clone(&interrupt);
        session.watch(move |_| watched.flow());
        Ok(Self { program, session: Mutex::new(session), interrupt })
    }

    /// Does what a line of a debugger's script says, and gives its result as JSON.
    fn execute(&self, py: Python<'_>, line: &str) -> PyResult<String> {
        let line = Line::parse(line).map_err(errors::input)?.ok_or_else(|| errors::input("the line is empty"))?;
        self.with(py, |session| session.execute(&line)).map(|value| value.to_string())
    }

    /// Cycle, whether the run is over there and why, and the last cycle if it is known, as JSON.
    fn place(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |session| {
            let error = session.end_error().filter(|_| session.ended()).map(ToString::to_string);
            let (bytes, (coarse, fine)) = session.snapshots();
            let place = json!({
                "cycle": session.cycle(), "ended": session.ended(), "error": error, "last_cycle": session.end(),
                "snapshots": coarse + fine, "snapshot_bytes": bytes,
            });
            Ok(place.to_string())
        })
    }

    /// The commands of the last cycles, as JSON.
    fn lives(&self, py: Python<'_>, cycles: u64) -> PyResult<String> {
        let disassembler = Disassembler::new(&self.program);
        let lives = self.with(py, |session| session.lives(cycles))?;
        let row = |life: &Life| {
            let (moves_from, moves_to) = life.moves.unzip();
            json!({
                "seq": life.seq, "command": disassembler.command(life.command),
                "queue": pollux_trace::event_csv::unit(life.unit), "entry": life.entry, "parent": life.parent,
                "allocated": life.allocated, "issued": life.issued, "moves_from": moves_from, "moves_to": moves_to,
                "completed": life.completed,
            })
        };
        Ok(json!(lives.iter().map(row).collect::<Vec<Value>>()).to_string())
    }

    /// Type, shape and bytes of a buffer at the present cycle.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<(&'static str, Vec<u64>, Bound<'py, PyBytes>)> {
        let buffer = buffer(&self.program, name)?;
        let bytes = self.with(py, |session| Ok(session.memory().read_vec(buffer.address, buffer.len() as usize)))?;
        Ok((buffer.element.name(), buffer.shape.clone(), PyBytes::new(py, &bytes)))
    }
}

impl Session {
    /// The interpreter's lock is free meanwhile; Ctrl-C ends moves and searches.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut pollux::session::Session) -> Result<T, SessionError> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut session: MutexGuard<'_, _> = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            act(&mut session)
        })
        .map_err(|error| self.interrupt.take().unwrap_or_else(|| errors::input(error)))
    }
}
