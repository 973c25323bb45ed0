//! The native part of the Python package `pollux`. Documents pass as JSON, with the names that the command line's have; the package
//! around it gives them types and documentation.

mod config;
mod errors;
mod model;
mod program;
mod run;
mod search;
mod session;
mod sweep;
mod trace;

use pyo3::prelude::*;

/// Version of the simulator.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
mod _pollux {
    #[pymodule_export]
    use super::config::{Config, configs, memory};
    #[pymodule_export]
    use super::model::{Model, shapes};
    #[pymodule_export]
    use super::program::Program;
    #[pymodule_export]
    use super::run::{Run, energy_tables, run};
    #[pymodule_export]
    use super::search::{cost, gemmini_mapping, sample, scale_sim, search};
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::sweep::{Sweep, merge, merge_to};
    #[pymodule_export]
    use super::trace::trace;
    #[pymodule_export]
    use super::version;
}
